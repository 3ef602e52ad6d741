"""What is said of several tasks: for the terminal, for a paper, for machines."""

import math
import textwrap
from typing import Any

from seedlab import console
from seedlab.aggregates import Aggregate, Standing
from seedlab.errors import counted
from seedlab.report import latex as tex
from seedlab.report import markdown as md
from seedlab.report import words
from seedlab.stats.many import Estimate
from seedlab.stats.single import Interval


def text(found: Aggregate, details: bool = False) -> str:
  """A table of the variants, the probabilities of improvement, and what they do not say.

  Args:
    details: also the percentile intervals, as rliable gives them.
  """
  parts = [_fill(scope(found))]
  if found.standings:
    parts.append(console.aligned(rows(found)))
    if found.improvements:
      parts.append(console.aligned(_improvement_rows(found)))
    if details:
      parts.append(console.aligned(_percentile_rows(found)))
  notes = "\n".join(_fill(note, "- ") for note in sentences(found)[1:])
  return "\n\n".join(part for part in [*parts, notes] if part)


def markdown(found: Aggregate) -> str:
  """Sentences and a table with the probability of improvement as its last column, for a paper."""
  if not found.standings:
    return "\n\n".join(map(md.paragraph, sentences(found)))
  return md.document(sentences(found), paper_rows(found))


def latex(found: Aggregate) -> str:
  """The same for LaTeX with booktabs."""
  if not found.standings:
    return "\n\n".join(map(tex.escaped, sentences(found)))
  return tex.document(sentences(found), paper_rows(found))


def rows(found: Aggregate) -> list[tuple[str, ...]]:
  """Header and a row for each variant: runs a task, and the aggregates with their intervals."""
  gap = any(one.gap for one in found.standings)
  unit = ", %" * found.percent
  head = ["variant", "runs a task", f"IQM{unit}", f"mean{unit}", f"median{unit}"]
  if gap:
    head.append(f"optimality gap to {found.gamma:g}")
  table = [tuple(head)]
  for one in found.standings:
    estimates = [one.iqm, one.mean, one.median, *([one.gap] if gap else [])]
    cells = [_cell(found, e.interval) if e else "-" for e in estimates]
    table.append((one.name, _runs(one), *cells))
  return table


def json_values(found: Aggregate) -> dict[str, Any]:
  """Everything as JSON values, in display units; nan is null."""
  return {
    "metric": found.metric,
    "unit": "%" if found.percent else found.unit.strip() or None,
    "better": {1: "higher", -1: "lower", 0: None}[found.better],
    "tasks": list(found.tasks),
    "gamma": found.gamma,
    "variants": [
      {
        "name": one.name,
        "runs": list(one.runs),
        "lost": one.lost,
        "missing": one.missing,
        "mean": _estimate(one.mean),
        "median": _estimate(one.median),
        "iqm": _estimate(one.iqm),
        "optimality_gap": _estimate(one.gap) if one.gap else None,
        "profile": {
          "thresholds": one.profile.thresholds_L.tolist(),
          "share_better": one.profile.share_L.tolist(),
          "low": [_number(value) for value in one.profile.low_L],
          "high": [_number(value) for value in one.profile.high_L],
        },
      }
      for one in found.standings
    ],
    "improvements": [
      {"variant": one.variant, "baseline": one.baseline, **_estimate(one.probability)}
      for one in found.improvements
    ],
    "left_out": {name: list(lacking) for name, lacking in found.left_out},
    "notes": list(found.notes),
  }


def scope(found: Aggregate) -> str:
  """What the numbers speak of, in a sentence or two."""
  tasks = ", ".join(found.tasks[:4]) + (", ..." if found.tasks[4:] else "")
  return (
    f"Over {counted(len(found.tasks), 'task')} ({tasks}), each weighing the same. It speaks of new"
    " seeds on these tasks, not of other tasks, and is no verdict; 95 % intervals."
  )


def sentences(found: Aggregate) -> list[str]:
  """The scope, and then whatever a reader of the table has to know."""
  return [scope(found), *found.notes, *_about_gap(found)]


def paper_rows(found: Aggregate) -> list[tuple[str, ...]]:
  """`rows` with P(better than the baseline) as the last column, where there is one."""
  if not found.improvements:
    return rows(found)
  head, *body = rows(found)
  better = {one.variant: _share(one.probability.interval) for one in found.improvements}
  kind = "better" if found.better else "higher"
  title = f"P({kind} than {found.improvements[0].baseline})"
  return [(*head, title), *((*row, better.get(row[0], "-")) for row in body)]


def _about_gap(found: Aggregate) -> list[str]:
  if not any(one.gap for one in found.standings):
    return []
  return [
    f"The optimality gap is how far scores fall short of {found.gamma:g}, scores above it counting"
    f" as {found.gamma:g}: it says something where they are normalised so that this is the aim."
  ]


def _runs(one: Standing) -> str:
  low, high = min(one.runs), max(one.runs)
  return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _improvement_rows(found: Aggregate) -> list[tuple[str, ...]]:
  kind = "better" if found.better else "higher"
  return [
    (f"P({one.variant} {kind} than {one.baseline})", _share(one.probability.interval))
    for one in found.improvements
  ]


def _percentile_rows(found: Aggregate) -> list[tuple[str, ...]]:
  table = []
  for one in found.standings:
    for label, estimate in (("IQM", one.iqm), ("mean", one.mean), ("median", one.median)):
      shown = _cell(found, estimate.percentile)
      table.append((f"{label} of {one.name}, percentile bootstrap", shown))
  for better in found.improvements:
    shown = _share(better.probability.percentile)
    table.append((f"improvement of {better.variant}, percentile bootstrap", shown))
  return table


def _share(interval: Interval) -> str:
  if math.isnan(interval.low):
    return f"{interval.estimate:.2f} (no interval)"
  return f"{interval.estimate:.2f} ({interval.low:.2f} to {interval.high:.2f})"


def _cell(found: Aggregate, interval: Interval) -> str:
  scale = (interval.high - interval.low) / 4
  shown = [words.number(found, x, scale) for x in (interval.estimate, interval.low, interval.high)]
  if math.isnan(interval.low):
    return f"{shown[0]} (no interval)"
  return f"{shown[0]} ({shown[1]} to {shown[2]})"


def _estimate(estimate: Estimate) -> dict[str, Any]:
  both = {
    key: {
      "low": _number(interval.low),
      "high": _number(interval.high),
      "level": interval.level,
      "method": interval.method,
    }
    for key, interval in (("interval", estimate.interval), ("percentile", estimate.percentile))
  }
  return {"estimate": _number(estimate.interval.estimate), **both}


def _number(value: float) -> float | None:
  return float(value) if math.isfinite(value) else None


def _fill(sentence: str, start: str = "") -> str:
  return textwrap.fill(sentence, 96, initial_indent=start, subsequent_indent=" " * len(start))
