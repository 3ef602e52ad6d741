"""A verdict for machines: is a candidate better than the baseline, or beyond a target?

With --ledger one of a session of proposals, whose false keeps stay below 5 % however many there
are (docs/referee.md). One BASELINE may be a table that holds the candidates as further variants;
with --ledger and no candidate it becomes the baseline of the session.

Exit status: 0 better, kept, or target met; 10 worse, or target missed; 11 equal; 12 open; 13 not
comparable; 14 dropped (with --ledger); of several candidates that of the best, in the order 0, 11,
12, 14, 10, 13. 2 the input is wrong, 70 a bug. JSON alone goes to stdout with --json.
"""

import json
from typing import Any

from absl import flags

from seedlab import console

_METRIC = flags.DEFINE_string("metric", None, "the metric to judge by; else the first")
_BETTER: Any = flags.DEFINE_enum(
  "better", None, ("higher", "lower"), "which way the metric is better"
)
_TARGET = flags.DEFINE_float("target", None, "judge all against this number, at p < 0.01")
_MARGIN = flags.DEFINE_float("margin", None, "a difference worth having, in the unit shown")
_SIGMA = flags.DEFINE_float("sigma", None, "the sd of one run where it is known, in that unit")
_FLOOR = flags.DEFINE_string(
  "floor", None, "a sweep or table to learn it from; with --ledger also own: one sd for both sides"
)
_LEDGER = flags.DEFINE_string("ledger", None, "the file of a session of proposals; made if absent")
_PROPOSALS = flags.DEFINE_integer(
  "proposals", None, "with a new ledger: how many may come (1000 unless said)"
)
_MODE: Any = flags.DEFINE_enum(
  "mode", None, ("strict", "fdr"), "with a new ledger: no false keep (strict unless said), or few"
)
_NAMES = flags.DEFINE_list("names", None, "names of BASELINE and the candidates; else their files'")
_DIGEST = flags.DEFINE_string("digest", None, "with --ledger: of the candidate's code")
_VARIANT = flags.DEFINE_string("variant", None, "of tables: the column of the methods")
_SEED = flags.DEFINE_string("seed", None, "of tables: the column of the seeds")
_TASK = flags.DEFINE_string("task", None, "of tables: the column of data sets or environments")
_AT = flags.DEFINE_string("at", None, "of logs: last, best:METRIC or step:N")
_PAIRED = flags.DEFINE_bool("paired", None, "equal run numbers are pairs; else decided by design")
_PLANNED = flags.DEFINE_integer("planned_n", None, "of tables that grew: runs at the first look")
_LOOKED = flags.DEFINE_bool("looked", False, "seeds were added until it looked good")
_JSON = flags.DEFINE_bool("json", False, "print JSON")

POSITIONAL = ("BASELINE", "...")


def main(argv: list[str]) -> int:
  from seedlab import findings, referee  # after the flags: a mistake answers at once

  columns = {
    "variant": _VARIANT.value, "seed": _SEED.value, "task": _TASK.value, "at": _AT.value
  }  # fmt: skip
  baseline, *candidates = findings.opened(
    argv[1:],
    _METRIC.value,
    lambda lines: console.write(lines, error=True),
    session=bool(_LEDGER.value),
    **columns,
  )
  found = referee.judge(
    baseline,
    candidates,
    metric=_METRIC.value,
    better=_BETTER.value,
    target=_TARGET.value,
    margin=_MARGIN.value,
    sigma=_SIGMA.value,
    floor=_FLOOR.value,
    ledger=_LEDGER.value,
    proposals=_PROPOSALS.value,
    mode=_MODE.value,
    looked=_LOOKED.value,
    paired=_PAIRED.value,
    planned_n=_PLANNED.value,
    digest=_DIGEST.value,
    names=_NAMES.value,
    **columns,
  )
  values = referee.as_json(found)
  console.write(json.dumps(values, indent=1, allow_nan=False) if _JSON.value else _text(found))
  return found.status


def _text(found: Any) -> str:
  lines = []
  for one in found.judgements:
    lines += [one.sentence, one.advice]
  lines.append(found.beforehand)
  if found.ledger:
    lines.append(
      f"Ledger {found.ledger['path']}: {found.ledger['made']:,} of"
      f" {found.ledger['proposals']:,} proposals, {found.ledger['keeps']:,} kept; head"
      f" {found.ledger['head']}"
    )
  return "\n".join(line for line in lines if line)
