"""Prints what a sweep shows and writes a page about it that needs no network.

DIR is a store, a directory of stores (a grid), or a table of results: a file (CSV, TSV, JSON, JSON
lines, Parquet, a log) or a folder of runs; what a table was taken for is said on stderr. The page
is DIR/report.html, or FILE.report.html beside FILE.csv.
"""

import os
import pathlib
import time
from typing import TYPE_CHECKING, Any

from absl import flags

from seedlab import console
from seedlab.errors import UserError

if TYPE_CHECKING:
  import xarray

_METRIC = flags.DEFINE_string("metric", None, "the metric to judge by; else the first")
_VARIANT = flags.DEFINE_string("variant", None, "of a table: the column of the variants")
_SEED = flags.DEFINE_string("seed", None, "of a table: the column of the seeds")
_TASK = flags.DEFINE_string("task", None, "of a table: the column of data sets or environments")
_AT = flags.DEFINE_string("at", None, "of a log over steps: last, best:METRIC or step:N")
_BETTER: Any = flags.DEFINE_enum(
  "better", None, ("higher", "lower"), "which way the metric is better"
)
_DETAILS = flags.DEFINE_bool("details", False, "other intervals beside")
_PAGE = flags.DEFINE_string("page", None, "write the page to this file instead")
_DATA = flags.DEFINE_string("data_dir", None, "tensorflow-datasets directory; else SEEDLAB_DATA")
_LIVE = flags.DEFINE_bool("live", False, "write the page again as runs land, until all are there")
_FIGURES = flags.DEFINE_string(
  "figures", None, "also write the figures to this directory, as PDF and SVG"
)
_MARKDOWN = flags.DEFINE_bool("markdown", False, "print sentences and a table for a paper")
_LATEX = flags.DEFINE_bool("latex", False, "the same in LaTeX, the table with booktabs")
_SECONDS = 2.0  # between two looks at a growing store

POSITIONAL = ("DIR",)


def main(argv: list[str]) -> None:
  if _LATEX.value and _MARKDOWN.value:
    raise UserError("--markdown and --latex are 2 forms of one answer; give one")
  if _PAGE.value is not None and not _PAGE.value.endswith(".html"):
    raise UserError(f"--page={_PAGE.value!r} must end in .html")
  # After the flags: a mistake answers at once.
  from seedlab import findings, records, report, tables

  place = pathlib.Path(argv[1])
  if not (place / ".zmetadata").exists() and list(place.glob("*/.zmetadata")):
    cells = report.grid_cells(place)
    console.write(report.grid_text(cells, _METRIC.value, _form()))
    page = report.grid_page(cells, _METRIC.value, better=_BETTER.value)
    _write(page, place / "report.html")
  elif tables.is_table(place):
    _table(place)
  else:
    while _LIVE.value and not _sweep(place, _opened(place), live=True):
      time.sleep(_SECONDS)
    with records.readable(place):
      dataset = _opened(place)
      console.write(_said([findings.examine(dataset, _METRIC.value)]))
      _sweep(place, dataset, live=False)
      if _FIGURES.value:
        for path in report.save_figures(dataset, _FIGURES.value, _METRIC.value):
          _place(f"figure: {path}")


def _form() -> Any:
  """How to write for a paper; None for a terminal."""
  return "latex" if _LATEX.value else "markdown" if _MARKDOWN.value else None


def _said(found: list) -> str:
  from seedlab import report

  if _form():
    return report.paper_tables(found, _form())
  titles = [" on ".join(filter(None, (one.name, one.task))) for one in found]
  names = [f"{title}\n" * bool(title) for title in titles]
  texts = [report.table_text(one, _DETAILS.value) for one in found]
  return "\n\n".join(map("".join, zip(names, texts, strict=True)))


def _place(line: str) -> None:
  """Where a file is, beside what a paper is to take from the standard output."""
  console.write(line, error=bool(_form()))


def _opened(place: pathlib.Path) -> "xarray.Dataset":
  """The store, its predictions read once for all that is said, with the direction of --better."""
  from seedlab import findings, records

  dataset = findings.held(records.open(place, verify=True))
  return findings.stated(dataset, _METRIC.value, _BETTER.value)


def _sweep(place: pathlib.Path, dataset: "xarray.Dataset", live: bool) -> bool:
  """Writes the page; whether all runs are there."""
  from seedlab import findings, report

  done = dataset["completed"].values.sum() + len(findings.failures(dataset)) == dataset.sizes["run"]
  if not live or (dataset["completed"].any() and not done):
    page = report.sweep_page(
      dataset, _METRIC.value, directory=os.fspath(place), data_dir=_DATA.value, live=live
    )
    _write(page, place / "report.html", quiet=live)
  return done


def _table(place: pathlib.Path) -> None:
  from seedlab import comparisons, findings, report, tables

  table = tables.read(
    place,
    variant=_VARIANT.value,
    seed=_SEED.value,
    metric=_METRIC.value,
    task=_TASK.value,
    at=_AT.value,
  )
  console.write("\n".join(table.said), error=True)
  sweeps = [found.turned(_BETTER.value) for found in findings.examine_table(table)]
  console.write(_said(sweeps) + "\n")
  if len(sweeps) == 1:
    page = report.table_page(sweeps[0], place.name)
  elif len({sweep.name for sweep in sweeps}) == 1:
    return  # one variant on several tasks: no page compares them
  else:
    page = report.comparison_page(comparisons.compare(table, better=_BETTER.value), place.name)
  _write(page, place / "report.html" if place.is_dir() else place.with_suffix(".report.html"))


def _write(page: str, path: pathlib.Path, quiet: bool = False) -> None:
  from seedlab import report

  path = report.write(page, _PAGE.value or path)
  if not quiet:
    _place(f"page: {path}")
