"""The page about a grid."""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from seedlab import findings, records
from seedlab.meanings import Direction
from seedlab.report import charts, words
from seedlab.report.comparison_html import range_words
from seedlab.report.grid import LACKING, runs_text
from seedlab.report.markup import figures, label_of, page, plain_table, section


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
    table.append((one.name, runs_text(one), show[0], limits, *show[3:]))
  return page(
    title or "A grid of sweeps",
    f"{of.label} by cell: the {ends[0]} mean is {means[0]}{unit} ({low.name}), the {ends[1]} is"
    f" {means[1]}{unit} ({high.name}).",
    [
      "The best of many cells is partly the luckiest; seedlab compare judges chosen pairs and"
      " corrects for their number.",
      *[LACKING] * any(one.columns[0].summary.n < one.planned for one in found),
    ],
    [section("", figures(drawn), "figures"), section("Cells", plain_table(head, table))],
    drawn,
    {},
  )
