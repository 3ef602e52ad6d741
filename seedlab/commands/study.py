"""Runs a study: trains its sweeps, judges its claims and writes a page about it.

Prints the tables and writes OUT/report.html. The same command again resumes what was interrupted.
Exit status 0 whatever the verdicts; with --strict 1 if a claim is contradicted.
"""

from absl import flags

from seedlab import console, studies

_STUDY = flags.DEFINE_enum("study", None, studies.names(), "which study", required=True)
_SCALE = flags.DEFINE_enum("scale", "laptop", ["smoke", "laptop", "paper"], "how large")
_OUT = flags.DEFINE_string("out", None, "directory of the study", required=True)
_DATA = flags.DEFINE_string("data_dir", None, "tensorflow-datasets directory; else SEEDLAB_DATA")
_WORKERS = flags.DEFINE_integer("workers", None, "worker processes; else one a core or accelerator")
_STRICT = flags.DEFINE_bool("strict", False, "exit with 1 if a claim is contradicted")

POSITIONAL = ()


def main(argv: list[str]) -> int:
  from seedlab.studies import runner  # after the flags: a mistake answers at once

  del argv
  chosen = studies.load(_STUDY.value)
  place, workers = _DATA.value, _WORKERS.value
  result = runner.run(chosen, _SCALE.value, _OUT.value, data_dir=place, workers=workers)
  console.write(result.text)
  console.write(f"page: {result.page}")
  contradicted = any(verdict.outcome == "contradicted" for verdict in result.verdicts)
  return 1 if _STRICT.value and contradicted else 0
