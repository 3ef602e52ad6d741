"""What the cells of a grid say: their stores, and a table for the terminal or a paper."""

import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from seedlab import comparisons, console, findings, records
from seedlab.report import latex, markdown

LACKING = (
  "Where there are fewer runs than planned, the others diverged or are not finished, and the"
  " numbers are about those that are there."
)


def grid_text(
  cells: Sequence[tuple[Mapping[str, Any], str | os.PathLike]],
  metric: str | None = None,
  form: Literal["latex", "markdown"] | None = None,
) -> str:
  """One table over the cells of a grid, (the cell's field values, its store) in order.

  For a terminal, or in one of the forms for a paper.
  """
  lacking = False
  rows = [[*cells[0][0], "runs", "mean", "sd", "min", "max", "store"]]
  for values, directory in cells:
    found = findings.examine(records.open(directory, verify=True), metric)
    of = found.columns[0].summary
    numbers = [
      "-" if math.isnan(number) else f"{number:.2f}" if found.percent else f"{number:.4g}"
      for number in (of.mean, of.sd, of.min, of.max)
    ]
    rows.append([*map(str, values.values()), runs_text(found), *numbers, os.fspath(directory)])
    lacking |= of.n < found.planned
  said = [f"{found.label}{', %' * found.percent}", *[LACKING] * lacking]
  if form:
    return {"latex": latex.document, "markdown": markdown.document}[form](said, rows)
  return "\n".join([said[0], console.aligned(rows), *said[1:]])


def runs_text(found: findings.Findings) -> str:
  """How many runs, and of how many where some are missing."""
  n = found.columns[0].summary.n
  return f"{n:,}" + f" of {found.planned:,}" * (n < found.planned)


def grid_cells(directory: str | os.PathLike) -> list[tuple[dict[str, Any], pathlib.Path]]:
  """The stores in a directory, each with the config fields in which they differ."""
  places = sorted(file.parent for file in pathlib.Path(directory).glob("*/.zmetadata"))
  fields = comparisons.differing([records.manifest(place) for place in places])
  cells = [{field: values[number] for field, values in fields} for number in range(len(places))]
  if len({str(cell) for cell in cells}) < len(cells) or not fields:  # some differ in nothing
    cells = [{**cell, "store": place.name} for cell, place in zip(cells, places, strict=True)]
  return list(zip(cells, places, strict=True))
