"""Which bold entries of a paper's table lead by more than luck? Reads means and spreads.

A row for each benchmark and method (columns benchmark, method, mean, sd or sem or ci95, n), or a
column a benchmark with cells such as "93.1 ± 0.2". Exit status 0 whatever is found.
"""

import json
from typing import Any

from absl import flags

from seedlab import console
from seedlab.errors import UserError

_BETTER: Any = flags.DEFINE_enum(
  "better", None, ("higher", "lower"), "which way the metric is better"
)
_METRIC = flags.DEFINE_string("metric", None, "name of the metric; its words tell what is better")
_SPREAD: Any = flags.DEFINE_enum(
  "spread", None, ("sd", "sem", "ci95"),
  "what the number after ± is: sd over seeds, standard error, half-width of a 95 % interval",
)  # fmt: skip
_N = flags.DEFINE_integer("n", None, "seeds behind every mean, where no column says it")
_TEST_SIZE = flags.DEFINE_integer("test_size", None, "examples in the test set, likewise")
_SIGMA = flags.DEFINE_float("sigma", None, "assumed sd over seeds of entries that show none")
_JSON = flags.DEFINE_bool("json", False, "print JSON")
_MARKDOWN = flags.DEFINE_bool("markdown", False, "print a table and sentences in Markdown")

POSITIONAL = ("TABLE",)


def main(argv: list[str]) -> None:
  from seedlab import audits  # after the flags: a mistake answers at once

  if _JSON.value and _MARKDOWN.value:
    raise UserError("--json and --markdown are two forms of one answer; give one")
  found = audits.audit(
    argv[1],
    better=_BETTER.value,
    metric=_METRIC.value,
    spread=_SPREAD.value,
    n=_N.value,
    test_size=_TEST_SIZE.value,
    sigma=_SIGMA.value,
  )
  from seedlab import report  # after the table, likewise

  if _JSON.value:
    console.write(json.dumps(report.audit_json(found), indent=1))
  elif _MARKDOWN.value:
    console.write(report.audit_markdown(found))
  else:
    console.write(report.audit_text(found))
