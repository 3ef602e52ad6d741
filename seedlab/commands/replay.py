"""Trains one recorded run again, alone, and compares bit for bit all that is stored.

Exit status 0: exact, or nothing to compare with because the fingerprint changed; 1: it differs,
or the store is damaged.
"""

from absl import flags

from seedlab import console
from seedlab.errors import Damaged, UserError

_RUN = flags.DEFINE_integer("run", None, "the run's number")
_PARAMS = flags.DEFINE_string("params", None, "write the trained parameters to FILE.safetensors")
_DATA = flags.DEFINE_string("data_dir", None, "tensorflow-datasets directory; else SEEDLAB_DATA")
_TRUST = flags.DEFINE_bool("trust_code", False, "import the module of others that the store names")
_LOCK = flags.DEFINE_bool("lock", False, "only print the recorded environment, for pip install -r")

POSITIONAL = ("DIR",)


def main(argv: list[str]) -> int:
  from seedlab import records, replaying  # after the flags: a mistake answers at once

  directory = argv[1]
  if _LOCK.value:
    console.write("\n".join(records.manifest(directory)["lock"]))
    return 0
  if _RUN.value is None:
    raise UserError("--run is missing: the number of the run, as in --run=417")
  if _PARAMS.value:
    records.params_path(_PARAMS.value)
  try:
    result = replaying.replay(directory, _RUN.value, data_dir=_DATA.value, trust_code=_TRUST.value)
  except Damaged as error:
    console.write(error)
    return 1
  console.write(f"run       {result.run}")
  console.write(f"recorded  {result.recorded}")
  console.write(f"computed  {result.computed}")
  console.write(result.verdict(directory))
  if _PARAMS.value:
    records.save_params(_PARAMS.value, result.params)
    console.write(f"parameters of run {result.run} are in {_PARAMS.value}")
  return 0 if result.passed else 1
