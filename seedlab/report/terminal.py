"""What a sweep says, and what one will cost, as text for a terminal."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from seedlab import console, findings
from seedlab.findings import Findings
from seedlab.report import words

if TYPE_CHECKING:  # tables need it not
  import xarray


def text(dataset: "xarray.Dataset", metric: str | None = None, details: bool = False) -> str:
  """Headline, table and notes for a terminal.

  Args:
    dataset: a store as `records.open` gives it.
    metric: a variable by run and perhaps evaluation; by default the first metric.
    details: further intervals (`words.on_request`).

  Raises UserError for an unknown metric and for a store with nothing to summarise.
  """
  return table_text(findings.examine(dataset, metric), details)


def headline(dataset: "xarray.Dataset", metric: str | None = None) -> str:
  """What the sweep says in a sentence or two; the same errors as `text`."""
  return _filled(" ".join(words.headline(findings.examine(dataset, metric))))


def _filled(text: str, first: str = "", rest: str = "") -> str:
  """In lines of 90 columns; a percent sign stays with its number."""
  kept = text.replace(" %", "\u00a0%")
  return textwrap.fill(kept, 90, initial_indent=first, subsequent_indent=rest).replace(
    "\u00a0%", " %"
  )


def table_text(found: Findings, details: bool = False) -> str:
  """The same of one variant of a table (`findings.examine_table`)."""
  rows, facts = words.rows(found), words.facts(found)
  facts += words.on_request(found) if details else []
  if any(column.name for column in found.columns):
    rows.insert(0, ("", *(column.name for column in found.columns)))
  rows = [tuple(map(console.cell, row)) for row in rows]
  first, *others = (max(map(len, cells)) for cells in zip(*rows, strict=True))
  first = max(first, *(len(name) for name, _ in facts))
  table = [
    "  ".join([name.ljust(first), *map(str.rjust, cells, others)]).rstrip() for name, *cells in rows
  ]
  notes = [_filled(note, "- ", "  ") for note in words.notes(found)]
  effects = [("share of the variance", "alone", "with interactions"), *words.effects(found)]
  effects = [f"{name.ljust(first)}  {own.ljust(22)}  {total}" for name, own, total in effects]
  parts = [
    [_filled(" ".join(words.headline(found)))],
    [words.caption(found), *table],
    [f"{name.ljust(first)}  {value}" for name, value in facts],
    effects[1:] and effects,
    notes,
  ]
  return "\n\n".join("\n".join(part) for part in parts if part)


def plan_text(plan: Mapping[str, Any]) -> str:
  """What a sweep will cost, line by line, from `planning.plan`."""
  if "device" in plan:
    return _ahead_text(plan)
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
  return _named(rows)


def _ahead_text(plan: Mapping[str, Any]) -> str:
  """The same for a device elsewhere: a table of the programs that were compiled for it."""
  header = [
    "lanes", "convolutions", "memory", "moved a run and step", "operations a run and step",
    "kernels a step", "time a run and step", "limited by",
  ]  # fmt: skip
  table = [header]
  for place, one in enumerate(plan["candidates"]):
    lanes = one["width"]
    operations = sum(one["operations"].values()) / lanes
    table.append(
      [
        f"{one['mode']} x {lanes}" + " *" * (place == plan["chosen"]),
        one["lowering"] or "",
        _bytes(one["memory"]) + " (too much)" * (not one["fits"]),
        _bytes(one["bytes"] / lanes),
        f"{operations / 1e9:,.3g} G",
        f"{one['kernels']:,.0f}",
        f">= {1e3 * one['seconds'] / lanes:.3g} ms",
        one["limit"],
      ]
    )
  chosen = plan["candidates"][plan["chosen"]]
  memory = [f"{lanes:,}: {_bytes(size)}" for lanes, size in plan["memory"].items()]
  most = f"{plan['most_lanes']:,}" + " or more" * (plan["most_lanes"] == max(plan["memory"]))
  rows = [
    ("device", f"{plan['device']} x {plan['workers']}, {_bytes(plan['device_memory'])} of memory"),
    ("runs", f"{plan['runs']:,}"),
    ("steps of a run", f"{plan['steps_per_run']:,}"),
    ("evaluations of a run", f"{plan['evaluations_per_run']:,}"),
    ("memory by lanes", ", ".join(memory)),
    ("most lanes that fit", f"{most} into four fifths of it"),
    ("lanes=auto takes", f"{chosen['mode']} x {chosen['width']} (marked *)"),
    ("time", f"at least {plan['hours']:.3g} hours ({60 * plan['hours']:.3g} minutes)"),
  ]
  if plan["price"] is not None:
    rows.append(("price", f"at least {plan['price']:.2f}"))
  note = (
    "These are bounds, not measurements: the programs were compiled for the device and never run."
    " A step takes no less time than its bytes at the memory's full bandwidth, its products at"
    " the full rate, and the starts of its kernels. What the host does, and compilation, come on"
    " top."
  )
  return "\n\n".join([console.aligned(table), _named(rows), _filled(note)])


def _named(rows: Sequence[tuple[str, str]]) -> str:
  width = max(len(name) for name, _ in rows)
  return "\n".join(f"{name.ljust(width)}  {value}" for name, value in rows)


def _bytes(count: float) -> str:
  unit = "B"
  for larger in ("KiB", "MiB", "GiB"):
    if count < 1000:
      break
    count, unit = count / 1024, larger
  return f"{count:.3g} {unit}" if count < 1000 else f"{count:,.0f} {unit}"
