"""Is B better than A? Compares sweeps, or the variants of a table of results.

Each is a store, a file (CSV, TSV, JSON, JSON lines, Parquet, a log) or a folder of runs; what a
table was taken for is said on stderr.

The first is the baseline. Exit status 0 whatever the verdict.
"""

import json
from typing import Any

from absl import flags

from seedlab import console
from seedlab.errors import UserError

_METRIC = flags.DEFINE_string("metric", None, "the metric to judge by; else the first of A")
_VARIANT = flags.DEFINE_string("variant", None, "of a table: the column of the variants")
_SEED = flags.DEFINE_string("seed", None, "of a table: the column of the seeds")
_TASK = flags.DEFINE_string("task", None, "of a table: the column of data sets or environments")
_AT = flags.DEFINE_string("at", None, "of a log over steps: last, best:METRIC or step:N")
_BETTER: Any = flags.DEFINE_enum(
  "better", None, ("higher", "lower"), "which way the metric is better"
)
_MARGIN = flags.DEFINE_float("margin", None, "a difference worth having, in the unit shown")
_PAIRED = flags.DEFINE_bool("paired", None, "equal run numbers are pairs; else decided by design")
_PLANNED = flags.DEFINE_integer("planned_n", None, "of tables that grew: runs at the first look")
_LOOKED = flags.DEFINE_bool("looked", False, "seeds were added until it looked good")
_SIGMA = flags.DEFINE_float("sigma", None, "the sd of a run where it is known, in the unit shown")
_FLOOR = flags.DEFINE_string("floor", None, "a sweep or table of one method to learn that sd from")
_DETAILS = flags.DEFINE_bool("details", False, "other methods beside, without a verdict")
_JSON = flags.DEFINE_bool("json", False, "print JSON")
_MARKDOWN = flags.DEFINE_bool("markdown", False, "print sentences and a table for a paper")
_LATEX = flags.DEFINE_bool("latex", False, "the same in LaTeX, the table with booktabs")
_PAGE = flags.DEFINE_string("page", None, "write the comparison as a page to FILE.html")

POSITIONAL = ("A", "...")


def main(argv: list[str]) -> None:
  forms = [f"--{flag.name}" for flag in (_JSON, _MARKDOWN, _LATEX) if flag.value]
  if len(forms) > 1:
    raise UserError(f"{' and '.join(forms)} are {len(forms)} forms of one answer; give one")
  from seedlab import comparisons, findings, report  # after the flags: a mistake answers at once

  sources = findings.opened(
    argv[1:],
    _METRIC.value,
    lambda lines: console.write(lines, error=True),
    variant=_VARIANT.value,
    seed=_SEED.value,
    task=_TASK.value,
    at=_AT.value,
  )
  found = comparisons.compare(
    sources,
    _METRIC.value,
    better=_BETTER.value,
    margin=_MARGIN.value,
    paired=_PAIRED.value,
    planned_n=_PLANNED.value,
    looked=_LOOKED.value,
    sigma=_SIGMA.value,
    floor=_FLOOR.value,
  )
  if _JSON.value:
    console.write(json.dumps(report.comparison_json(found), indent=1))
  elif _MARKDOWN.value:
    console.write(report.comparison_markdown(found))
  elif _LATEX.value:
    console.write(report.comparison_latex(found))
  else:
    console.write(report.comparison_text(found, _DETAILS.value))
  if _PAGE.value:
    path = report.write(report.comparison_page(found), _PAGE.value)
    console.write(f"page: {path}", error=True)
