"""What `seedlab accelerator` found, as tables for a terminal and for docs/performance.md."""

from collections.abc import Mapping, Sequence
from typing import Any

from seedlab import console
from seedlab.report import markdown as marked

_LAST = ("note", "wrong", "verdict")  # the long ones
_FLAGS = {
  "determinism": "repeatable flags, ms/step",
  "determinism_off": "without them, ms/step",
  "determinism_while": "with command buffers, ms/step",
}
_SMALL = "Tiny sizes: they show that everything runs, and say nothing about the machine."


def text(summary: Mapping[str, Any]) -> str:
  """For a terminal."""
  blocks = [_SMALL] * _is_small(summary)
  for title, how, rows in _tables(summary):
    blocks.append("\n".join(["", f"{title} ({how})", *([console.aligned(rows)] if rows else [])]))
  return "\n".join(blocks)


def markdown(summary: Mapping[str, Any]) -> str:
  """Headings, a sentence on where and when, and tables."""
  figures = summary["parts"].get("environment", {}).get("figures", {})
  versions = [f"{name} {figures[name]}" for name in ("jax", "Python", "seedlab") if name in figures]
  said = "; ".join([str(figures.get("device", "an unknown device")), *versions])
  sentence = f"Measured by seedlab accelerator, {summary['date'][:10]}: {said}."
  blocks = [marked.paragraph(sentence), *[_SMALL] * _is_small(summary)]
  for title, how, rows in _tables(summary):
    blocks.append(f"### {marked.escaped(title)}")
    said = f"{how[:1].upper()}{how[1:]}."
    blocks.append(marked.document([said], rows) if rows else marked.paragraph(said))
  return "\n\n".join(blocks) + "\n"


def _is_small(summary: Mapping[str, Any]) -> bool:
  figures = summary["parts"].get("environment", {}).get("figures", {})
  machine = figures.get("machine")
  return isinstance(machine, dict) and bool(machine["fields"]["small"])


def _tables(summary: Mapping[str, Any]) -> list[tuple[str, str, list[list[str]]]]:
  """(title, how it ended, rows with their head) of every part."""
  found = []
  for name, kept in summary["parts"].items():
    how = f"{name}: {kept.get('state', 'not known')}"
    how += f" after {kept['seconds']:.0f} s" if "seconds" in kept else ""
    how += f": {kept['reason']}" if kept.get("reason") else ""
    found.append((kept.get("title", name), how, _rows(kept.get("figures", {}))))
  flags = [name for name in _FLAGS if name in summary["parts"]]
  if len(flags) > 1:
    rows = _side_by_side([summary["parts"][name]["figures"] for name in flags], flags)
    found.append(("What determinism costs", "the tables above, side by side", rows))
  return found


def _rows(figures: Mapping[str, Any]) -> list[list[str]]:
  """A row a figure, a column a name; lists and dicts within are for summary.json."""
  shown = {}
  for name, value in figures.items():
    cells = value if isinstance(value, dict) else {"value": value}
    cells = {key: item for key, item in cells.items() if not isinstance(item, list | dict)}
    if cells:
      shown[name] = cells
  if not shown:
    return []
  columns = list(dict.fromkeys(key for cells in shown.values() for key in cells))
  columns.sort(key=lambda key: key in _LAST)
  rows = [[name, *(_cell(cells.get(key)) for key in columns)] for name, cells in shown.items()]
  return [["", *columns], *rows]


def _side_by_side(figures: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[list[str]]:
  """Milliseconds a step of the same cases under other flags."""
  rows = [["", *(_FLAGS[name] for name in names), "first / second"]]
  for case in figures[0]:
    times = [found.get(case) for found in figures]
    steps = [time.get("ms/step") if isinstance(time, dict) else None for time in times]
    ratio = steps[0] / steps[1] if steps[0] and steps[1] else None
    if any(steps):
      rows.append([case, *map(_cell, steps), _cell(ratio)])
  return rows


def _cell(value: Any) -> str:
  if value is None:
    return ""
  if isinstance(value, float):
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
  return str(value)
