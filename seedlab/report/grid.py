"""What the cells of a grid say: their stores, a table for the terminal, and a page."""

import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from seedlab import comparisons, console, findings, records
from seedlab.meanings import Direction
from seedlab.report import charts, latex, markdown, words
from seedlab.report.comparison_page import range_words
from seedlab.report.markup import figures, label_of, page, plain_table, section

_LACKING = (
  "Where there are fewer runs than planned, the others diverged or are not finished, and the"
  " numbers are about those that are there."
)


def grid_page(
  cells: Sequence[tuple[Mapping[str, Any], str | os.PathLike]],
  metric: str | None = None,
  title: str | None = None,
  better: Direction | None = None,
) -> str:
  """The page about a grid: (the cell's field values, its store) in order."""
  found = []
  for values, directory in cells:
    name = ", ".join(f"{field}={value}" for field, value in values.items()) or str(directory)
    with records.readable(directory):
      dataset = records.open(directory, verify=True)
      found.append(findings.examine(dataset, metric, name).turned(better))
    metric = metric or found[0].metric
  of = found[0]
  label = label_of(of)
  rows = []
  for one in found:
    s = one.columns[0].summary
    limits = (s.low, s.high) if one.independent else (math.nan, math.nan)
    rows.append((s.mean, *limits, s.min, s.max))
  drawn = {
    "cells": (
      charts.intervals([one.name for one in found], rows, label),
      f"{label} in each cell: " + "; ".join(range_words(one) for one in found) + ".",
      "Mean with its 95 % interval (thick) and the range of the runs (thin).",
    )
  }
  ordered = sorted(found, key=lambda one: one.columns[0].summary.mean * (one.better or 1))
  low, high = ordered[0], ordered[-1]
  means = [
    words.number(one, one.columns[0].summary.mean, one.columns[0].summary.sd) for one in (low, high)
  ]
  unit = " %" if of.percent else ""
  ends = words.WORDS[bool(of.better)]
  head = ("cell", "runs", "mean", "95 % interval of the mean", "sd", "min", "max")
  table = []
  for one in found:
    s = one.columns[0].summary
    show = [words.number(one, value, s.sd) for value in (s.mean, s.low, s.high, s.sd, s.min, s.max)]
    limits = f"{show[1]} to {show[2]}" if one.independent and s.sem > 0 else "-"
    table.append((one.name, _runs(one), show[0], limits, *show[3:]))
  return page(
    title or "A grid of sweeps",
    f"{of.label} by cell: the {ends[0]} mean is {means[0]}{unit} ({low.name}), the {ends[1]} is"
    f" {means[1]}{unit} ({high.name}).",
    [
      "The best of many cells is partly the luckiest; seedlab compare judges chosen pairs and"
      " corrects for their number.",
      *[_LACKING] * any(one.columns[0].summary.n < one.planned for one in found),
    ],
    [section("", figures(drawn), "figures"), section("Cells", plain_table(head, table))],
    drawn,
    {},
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
    rows.append([*map(str, values.values()), _runs(found), *numbers, os.fspath(directory)])
    lacking |= of.n < found.planned
  said = [f"{found.label}{', %' * found.percent}", *[_LACKING] * lacking]
  if form:
    return {"latex": latex.document, "markdown": markdown.document}[form](said, rows)
  return "\n".join([said[0], console.aligned(rows), *said[1:]])


def _runs(found: findings.Findings) -> str:
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
