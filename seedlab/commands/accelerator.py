"""Measures a GPU or TPU in minutes: exactness, a published protocol, speed, precision.

Parts, most important first. Each has a process of its own and a limit, and every figure is kept in
OUT at once; the same command goes on where it was stopped. docs/accelerators.md says more.

  environment      device, driver, memory, versions; always measured
  exactness        a run alone, in company, in segments, in a second process; another width
  picard           as many runs of Picard's protocol `short` on CIFAR-10 as fit
  replay           one of them again in another process
  widths           steps by network, lowering, precision, mode and width
  precision        what a float32 product is; ceilings of products and of memory
  loops            what a loop of traced length costs
  determinism, determinism_off, determinism_while
                   steps under the repeatable XLA flags, without them, with command buffers too
  profile          where a step's time goes, by kernel

Exit status 0: all parts ended well or their time was up; 1: one failed, or found other bits.
"""

from absl import flags

from seedlab.errors import UserError, choice_error

_OUT = flags.DEFINE_string("out", None, "directory for what is found", required=True)
_SMALL = flags.DEFINE_bool("small", False, "tiny sizes, to see on any machine that it runs")
_MINUTES = flags.DEFINE_float("minutes", 9.0, "for all parts together", lower_bound=0.1)
_PARTS = flags.DEFINE_list("parts", None, "these alone, in the order above")
_AGAIN = flags.DEFINE_bool("again", False, "forget what OUT holds of the parts, and start anew")
_DATA = flags.DEFINE_string("data_dir", None, "tensorflow-datasets directory; else SEEDLAB_DATA")

POSITIONAL = ()

_NAMES = (
  "environment", "exactness", "picard", "replay", "widths", "precision", "loops", "determinism",
  "determinism_off", "determinism_while", "profile",
)  # fmt: skip


def main(argv: list[str]) -> int:
  del argv
  asked = _PARTS.value
  if asked is not None:
    for name in asked:
      if name not in _NAMES:
        raise choice_error("--parts", name, _NAMES)
    if not asked:
      raise UserError(f"--parts is empty; name some of {', '.join(_NAMES)}, or leave it out")
  from seedlab.commands import accelerator_suite  # after the flags: a mistake answers at once

  return accelerator_suite.measure(
    _OUT.value,
    [name for name in _NAMES if asked is None or name in asked],
    named=asked is not None,
    small=_SMALL.value,
    minutes=_MINUTES.value,
    again=_AGAIN.value,
    data_dir=_DATA.value,
  )
