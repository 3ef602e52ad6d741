"""What runs say, for people: text for a terminal, and pages that need no network.

words    sentences and table cells about one sweep     versus   the same about a comparison
charts   interactive pictures                          page     what holds them together
"""

import itertools
import math
import os
import pathlib
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray
from matplotlib.figure import Figure

from seedlab import comparisons, figures, findings, records, stats
from seedlab.claims import Verdict
from seedlab.errors import UserError
from seedlab.findings import Findings
from seedlab.report import versus, words
from seedlab.report.page import (
  Table,
  comparison_page,
  evidence_text,
  grid_page,
  rule_text,
  study_page,
  sweep_page,
  table_page,
  write,
)

__all__ = [
  "Table",
  "comparison_json",
  "comparison_markdown",
  "comparison_page",
  "comparison_text",
  "grid_cells",
  "grid_page",
  "grid_text",
  "headline",
  "plan_text",
  "save_figures",
  "study_page",
  "study_text",
  "sweep_page",
  "table_page",
  "table_text",
  "text",
  "write",
]

comparison_text = versus.text
comparison_markdown = versus.markdown
comparison_json = versus.json_values


def text(dataset: xarray.Dataset, metric: str | None = None, details: bool = False) -> str:
  """Headline, table and notes for a terminal.

  Args:
    dataset: a store as `records.open` gives it.
    metric: a variable by run and perhaps evaluation; by default the first metric.
    details: further intervals (`words.on_request`).

  Raises UserError for an unknown metric and for a store with nothing to summarise.
  """
  return table_text(findings.examine(dataset, metric), details)


def headline(dataset: xarray.Dataset, metric: str | None = None) -> str:
  """What the sweep says in a sentence or two; the same errors as `text`."""
  return textwrap.fill(" ".join(words.headline(findings.examine(dataset, metric))), 90)


def table_text(found: Findings, details: bool = False) -> str:
  """The same of one variant of a table (`findings.examine_table`)."""
  rows, facts = words.rows(found), words.facts(found)
  facts += words.on_request(found) if details else []
  if any(column.name for column in found.columns):
    rows.insert(0, ("", *(column.name for column in found.columns)))
  first, *others = (max(map(len, cells)) for cells in zip(*rows, strict=True))
  first = max(first, *(len(name) for name, _ in facts))
  table = [
    "  ".join([name.ljust(first), *map(str.rjust, cells, others)]).rstrip() for name, *cells in rows
  ]
  notes = [
    textwrap.fill(note, 90, initial_indent="- ", subsequent_indent="  ")
    for note in words.notes(found)
  ]
  effects = [("share of the variance", "alone", "with interactions"), *words.effects(found)]
  effects = [f"{name.ljust(first)}  {own.ljust(22)}  {total}" for name, own, total in effects]
  parts = [
    [textwrap.fill(" ".join(words.headline(found)), 90)],
    [words.caption(found), *table],
    [f"{name.ljust(first)}  {value}" for name, value in facts],
    effects[1:] and effects,
    notes,
  ]
  return "\n\n".join("\n".join(part) for part in parts if part)


def study_text(
  verdicts: Sequence[Verdict], changed: Mapping[str, str], tables: Sequence[Table]
) -> str:
  """The tables of a study and the outcome of each claim, for a terminal."""
  parts = []
  for table in tables:
    if not table.rows:
      continue
    rows = [tuple(table.head), *map(tuple, table.rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    parts.append(
      "\n".join([table.title, *lines, *[textwrap.fill(table.note, 90)] * bool(table.note)])
    )
  lines = []
  for verdict in verdicts:
    claim = verdict.claim
    reason = f" ({verdict.reason})" * bool(verdict.reason)
    lines.append(f"{claim.id}  {verdict.outcome}{reason}: {claim.sentence}")
    for part, item in itertools.zip_longest(claim.parts, verdict.evidence):
      found = "nothing" if item is None else evidence_text(item)
      lines.append(f"    {part.estimand}: {rule_text(part.rule, part.margin)}; found {found}")
    if claim.id in changed:
      lines.append(f"    {changed[claim.id]}")
  return "\n\n".join([*parts, "\n".join(lines)])


def grid_text(
  cells: Sequence[tuple[Mapping[str, Any], str | os.PathLike]], metric: str | None = None
) -> str:
  """One table over the cells of a grid: (the cell's field values, its store) in order."""
  rows = [[*cells[0][0], "runs", "mean", "sd", "min", "max", "store"]]
  for values, directory in cells:
    found = findings.examine(records.open(directory), metric)
    of = found.columns[0].summary
    numbers = [
      "-" if math.isnan(number) else f"{number:.2f}" if found.percent else f"{number:.4g}"
      for number in (of.mean, of.sd, of.min, of.max)
    ]
    rows.append([*map(str, values.values()), str(of.n), *numbers, os.fspath(directory)])
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
  return "\n".join([f"{found.label}{', %' * found.percent}", *lines])


def grid_cells(
  directory: str | os.PathLike,
) -> list[tuple[dict[str, Any], pathlib.Path]]:
  """The stores in a directory, each with the config fields in which they differ."""
  places = sorted(file.parent for file in pathlib.Path(directory).glob("*/.zmetadata"))
  fields = comparisons.differing([records.manifest(place) for place in places])
  cells = [{field: values[number] for field, values in fields} for number in range(len(places))]
  if len({str(cell) for cell in cells}) < len(cells) or not fields:  # some differ in nothing
    cells = [{**cell, "store": place.name} for cell, place in zip(cells, places, strict=True)]
  return list(zip(cells, places, strict=True))


def save_figures(
  dataset: xarray.Dataset, directory: str | os.PathLike, metric: str | None = None
) -> list[pathlib.Path]:
  """Writes the histogram and, where there are evaluations, the curves as PDF and SVG."""
  folder = pathlib.Path(directory)
  written = []
  try:
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in _figures(findings.examine(dataset, metric)).items():
      for kind in ("pdf", "svg"):
        written.append(folder / f"{name}.{kind}")
        figure.savefig(written[-1], metadata={"CreationDate" if kind == "pdf" else "Date": None})
  except OSError as error:
    raise UserError(f"figures={str(folder)!r} cannot be written ({error.strerror})") from None
  return written


def _figures(found: Findings) -> dict[str, Figure]:
  column = found.columns[-1]
  s = column.summary
  if s.n < 2:
    return {}
  label = f"{found.label}, %" if found.percent else found.label
  spans = [(f"sd {words.number(found, s.sd, s.sd)}", s.sd)]
  if found.examples:
    own = words.number(found, column.sd, s.sd)
    spans.append((f"distribution-wise sd {own}", column.sd))
  edges = stats.histogram_edges(column.values, 100 / found.examples if found.examples else 0.0)
  drawn = {
    "histogram": figures.histogram(column.values, edges, label=label, mean=s.mean, spans=spans)
  }
  whole = np.isfinite(found.curves).all(axis=1)
  if len(found.steps) > 1 and whole.sum() > 1:
    bands, sd_E = stats.bands(found.curves[whole], (0.05, 0.25, 0.5, 0.75, 0.95))
    low, high = words.WORDS[found.better != 0]
    worst, best = (found.curves[column.runs == runs[0]][0] for runs in words.ends(found, column))
    unit = "points" if found.percent else ""
    drawn["curves"] = figures.curves(
      found.steps, bands, sd_E, {high: best, low: worst}, label=label, unit=unit
    )
  return drawn


def plan_text(plan: Mapping[str, Any]) -> str:
  """What a sweep will cost, line by line, from `sweeps.plan`."""
  lanes = f"lanes={plan['mode']}" + f" x {plan['width']}" * (plan["mode"] == "vmap")
  rows = [
    ("runs", f"{plan['runs']:,}"),
    ("steps of a run", f"{plan['steps_per_run']:,}"),
    ("evaluations of a run", f"{plan['evaluations_per_run']:,}"),
    ("operations", f"{plan['flops_per_step']:.3g} a step, {plan['flops_per_run']:.3g} a run"),
    (
      "memory",
      f"{_bytes(plan['bytes_per_lane'])} a lane, and"
      f" {_bytes(plan['bytes_shared_per_worker'])} of data a worker",
    ),
    ("workers", f"{plan['workers']}, {lanes}"),
    ("speed", f"{plan['seconds_per_run_and_worker']:.3g} s a run and worker, measured just now"),
    ("time", f"{plan['hours']:.3g} hours ({60 * plan['hours']:.3g} minutes), compilation aside"),
  ]
  width = max(len(name) for name, _ in rows)
  return "\n".join(f"{name.ljust(width)}  {value}" for name, value in rows)


def _bytes(count: float) -> str:
  for unit in ("B", "KiB", "MiB"):
    if count < 1024:
      return f"{count:.3g} {unit}"
    count /= 1024
  return f"{count:.3g} GiB"
