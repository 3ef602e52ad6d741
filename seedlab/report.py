"""What a sweep says: a table for the terminal and one self-contained HTML page.

`_examine` turns a store into numbers in display units; `_headline`, `_rows`,
`_facts` and `_notes` turn those into words; `text` and `html` only lay them out.

Summarised is one metric at the last evaluation, over the completed runs. A
diverged run (or one whose value is not finite) counts as chance level where
that is known (accuracy or error on a labelled test set), with the same numbers
without such runs beside it; for any other metric it is left out. Runs that
share seeds (a crossed design) get no standard error and no interval.
"""

import dataclasses
import html as markup
import io
import json
import math
import os
import pathlib
import re
import shlex
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import xarray
from matplotlib.figure import Figure

from seedlab import figures, records, stats
from seedlab.config import STREAMS, UserError, choice_error

# Fractions, shown in percentage points and with a chance level when the classes are known.
_FRACTIONS = ("accuracy", "soft_error", "hard_error")
_BLOCK = 2**23  # predicted labels held at once
_LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)  # of the bands in `figures.curves`


def text(dataset: xarray.Dataset, metric: str | None = None) -> str:
  """Headline, table and notes for a terminal.

  Args:
    dataset: a store as `records.open` gives it.
    metric: a variable by run and perhaps evaluation; by default the first metric.

  Raises UserError for an unknown metric and for a store with nothing to summarise.
  """
  found = _examine(dataset, metric)
  rows, facts = _rows(found), _facts(found)
  if any(column.name for column in found.columns):
    rows.insert(0, ("", *(column.name for column in found.columns)))
  first, *others = (max(map(len, cells)) for cells in zip(*rows, strict=True))
  first = max(first, *(len(name) for name, _ in facts))
  table = [
    "  ".join([name.ljust(first), *map(str.rjust, cells, others)]).rstrip() for name, *cells in rows
  ]
  notes = [
    textwrap.fill(note, 90, initial_indent="- ", subsequent_indent="  ") for note in _notes(found)
  ]
  parts = [
    [textwrap.fill(" ".join(_headline(found)), 90)],
    [_caption(found), *table],
    [f"{name.ljust(first)}  {value}" for name, value in facts],
    notes,
  ]
  return "\n\n".join("\n".join(part) for part in parts if part)


def headline(dataset: xarray.Dataset, metric: str | None = None) -> str:
  """What the sweep says in a sentence or two; the same errors as `text`."""
  return textwrap.fill(" ".join(_headline(_examine(dataset, metric))), 90)


def grid_text(cells: Sequence[tuple[Mapping[str, Any], str | os.PathLike]]) -> str:
  """One table over the cells of a grid: (the cell's field values, its store) in order."""
  rows = [[*cells[0][0], "runs", "mean", "sd", "min", "max", "store"]]
  for values, directory in cells:
    found = _examine(records.open(directory), None)
    of = found.columns[0].summary
    numbers = [
      f"{number:.2f}" if found.percent else f"{number:.4g}"
      for number in (of.mean, of.sd, of.min, of.max)
    ]
    rows.append([*map(str, values.values()), str(of.n), *numbers, os.fspath(directory)])
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
  return "\n".join([f"{found.label}{', %' * found.percent}", *lines])


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


def html(
  dataset: xarray.Dataset,
  metric: str | None = None,
  title: str | None = None,
  directory: str = "DIR",
) -> str:
  """A page that needs nothing but itself: headline, pictures, table, replay command, provenance.

  Args:
    dataset, metric: as in `text`, with the same errors.
    title: of the page; by default what was trained on what.
    directory: of the store, for the replay command.
  """
  found = _examine(dataset, metric)
  first, *others = _headline(found)
  word, run = _WORDS[bool(found.better)][0], _ends(found, found.columns[0])[0][0]
  return _PAGE.format(
    style=_STYLE,
    title=_escape(title or _title(dataset.attrs)),
    headline=_escape(first),
    lead="".join(f"<p class=lead>{_escape(sentence)}</p>" for sentence in others),
    figures="".join(_figures(found)),
    table=_table(found),
    facts="".join(f"<dt>{_escape(name)}<dd>{_escape(value)}" for name, value in _facts(found)),
    notes="".join(f"<li>{_escape(note)}" for note in _notes(found)),
    replayed=_escape(f"the {word} run, {run},"),
    command=_escape(f"python scripts/replay.py {shlex.quote(directory)} --run={run}"),
    provenance=_provenance(dataset.attrs),
  )


def write(directory: str | os.PathLike, metric: str | None = None) -> pathlib.Path:
  """Writes DIRECTORY/report.html about the store in DIRECTORY, replaced in one piece."""
  path = pathlib.Path(directory) / "report.html"
  page = html(records.open(directory), metric, directory=os.fspath(directory))
  part = path.with_name(f".report.{os.getpid()}.part")
  try:
    part.write_text(page, encoding="utf-8")
    part.replace(path)
  except OSError as error:
    part.unlink(missing_ok=True)
    raise UserError(
      f"{str(path)!r} cannot be written ({error.strerror}); make room or copy the store elsewhere"
    ) from None
  return path


@dataclasses.dataclass(frozen=True)
class _Column:
  """A set of runs and its statistics, in display units (percent for fractions)."""

  name: str
  runs: np.ndarray  # int64[R]
  values: np.ndarray  # float64[R]
  summary: stats.Summary
  variance: float  # distribution-wise; nan where no labels were predicted
  independent: float  # variance if the errors were independent; likewise

  @property
  def sd(self) -> float:
    """The distribution-wise sd; 0 where its variance is estimated below zero."""
    return math.nan if math.isnan(self.variance) else math.sqrt(max(self.variance, 0))


@dataclasses.dataclass(frozen=True)
class _Findings:
  label: str  # the metric in words
  percent: bool
  better: int  # 1: higher is better, -1: lower, 0: not known
  columns: list[_Column]  # one; with diverged runs at chance level two, the second without them
  chance: float | None  # what a diverged run counts as; None leaves it out
  diverged: int
  completed: int
  planned: int
  vary: list[str]
  fixed: dict[str, int]  # seeds of the other streams
  independent: bool  # no two runs share the seed of a varied stream
  steps: np.ndarray  # int64[E]; empty for a metric without evaluations
  curves: np.ndarray  # float64[R, E], the runs that did not diverge
  examples: int  # test examples behind the distribution-wise variance; 0 without
  fingerprints: int  # how many there are among the runs


def _examine(dataset: xarray.Dataset, metric: str | None) -> _Findings:
  completed = dataset["completed"].values.astype(bool)
  if not completed.any():
    raise UserError(f"completed=0 of {len(completed)} runs: resume the sweep, then report on it")
  name = _metric(dataset, metric)
  curves = dataset[name].transpose("run", ...).values[completed].astype(np.float64)
  steps = dataset["evaluation"].values if curves.ndim == 2 else np.zeros(0, np.int64)
  curves = curves.reshape(len(curves), -1)
  values = curves[:, -1]
  failed = (dataset["diverged"].values[completed] >= 0) | ~np.isfinite(values)
  sound = values[~failed]
  percent = name.endswith(_FRACTIONS) and bool(((sound >= 0) & (sound <= 1)).all())
  scale = 100.0 if percent else 1.0
  classes = dataset.sizes.get("class") or len(np.unique(dataset.get("label", [])))
  wrong = 1 - 1 / classes if classes else math.nan  # error of a diverged run on each example
  chance = None
  if percent and classes:
    chance = scale * (1 - wrong if name.endswith("accuracy") else wrong)
  if chance is None and not len(sound):
    raise UserError(f"metric={name!r}: every completed run diverged; the store is whole")

  completed_sound = completed.copy()
  completed_sound[completed] = ~failed
  errors_R, errors_E = _count_errors(dataset, completed_sound)
  error = errors_R / max(len(errors_E), 1)
  if not any(np.allclose(error, hard, rtol=0, atol=1e-5) for hard in (sound, 1 - sound)):
    errors_E = errors_E[:0]  # the predicted labels are not what this metric measures

  def column(title: str, chosen: np.ndarray) -> _Column:
    numbers = np.where(failed, chance, scale * values)[chosen].astype(np.float64)
    added = int(failed[chosen].sum())
    variance = independent = math.nan
    if len(errors_E):
      totals_R = np.concatenate([errors_R, np.full(added, wrong * len(errors_E))])
      totals_E, squares_E = errors_E + added * wrong, errors_E + added * wrong**2
      variance = stats.distribution_wise_variance(totals_R, totals_E, squares_E)
      independent = stats.independent_errors_variance(totals_E, len(totals_R), squares_E)
    runs = dataset["run"].values[completed][chosen]
    summary = stats.summary(numbers)
    return _Column(title, runs, numbers, summary, variance * scale**2, independent * scale**2)

  columns = []
  if failed.any() and chance is not None:
    columns.append(column("diverged at chance", np.full(len(failed), True)))
  if len(sound):
    columns.append(column("without diverged" if failed.any() else "", ~failed))

  vary = list(dataset.attrs.get("vary", STREAMS))
  seeds = {stream: dataset[f"seed_{stream}"].values[completed] for stream in STREAMS}
  levels = [len(np.unique(seeds[stream])) for stream in vary]
  n = len(values)
  return _Findings(
    label=name.replace("_", " "),
    percent=percent,
    better=1 if name.endswith("accuracy") else -1 if name.endswith(("loss", "error")) else 0,
    columns=columns,
    chance=chance,
    diverged=int(failed.sum()),
    completed=n,
    planned=len(completed),
    vary=vary,
    fixed={stream: int(seeds[stream][0]) for stream in STREAMS if stream not in vary},
    independent=n in levels and set(levels) <= {1, n},
    steps=steps,
    curves=scale * curves[~failed],
    examples=len(errors_E),
    fingerprints=len(np.unique(dataset["fingerprint"].values[completed])),
  )


def _metric(dataset: xarray.Dataset, metric: str | None) -> str:
  """The name of the metric asked for, or of the first."""
  names = [
    name
    for name in dataset.attrs["metrics"]
    if set(dataset[name].dims) in ({"run"}, {"run", "evaluation"})
  ]
  if not names:
    raise UserError("metrics=[]: the store has no number per run; let `evaluate` return one")
  if metric is not None and metric not in names:
    raise choice_error("metric", metric, names)
  return metric or names[0]


def _count_errors(dataset: xarray.Dataset, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Wrong predictions of each chosen run and on each example; no examples without labels.

  Whole chunks of storage are read one group after another: the matrix of
  predictions may be larger than the memory.
  """
  if "predicted_label" not in dataset or "label" not in dataset:
    return np.zeros(chosen.sum(), np.int64), np.zeros(0, np.int64)
  labels_E = dataset["label"].values
  predicted = dataset["predicted_label"].transpose("run", "example")
  chunk = predicted.encoding.get("chunks", (1,))[0]
  rows = chunk * max(1, _BLOCK // (chunk * max(1, len(labels_E))))
  errors_R, errors_E = np.zeros(len(chosen), np.int64), np.zeros(len(labels_E), np.int64)
  for first in range(0, len(chosen), rows):
    block = slice(first, first + rows)
    wrong = (predicted[block].values != labels_E) & chosen[block, None]
    errors_R[block] = np.count_nonzero(wrong, axis=1)
    errors_E += np.count_nonzero(wrong, axis=0)
  return errors_R[chosen], errors_E


def _headline(found: _Findings) -> list[str]:
  """Sentences, the first of which stands alone."""
  column = found.columns[0]
  s = column.summary
  unit, points = (" %", " points") if found.percent else ("", "")
  noun = "seeds" if found.independent else "runs"
  all_varied = set(found.vary) == set(STREAMS)
  streams = "every source of randomness" if all_varied else _listed(found.vary)
  low, high = _WORDS[found.better != 0]
  mean, sd, gap = (_number(found, value, s.sd) for value in (s.mean, s.sd, s.gap))
  if s.n == 1:
    first = f"One run: {found.label} {mean}{unit}. How far luck moves it shows from two runs on."
  elif s.gap == 0:
    first = f"Luck ({streams} varied) moved nothing: {found.label} {mean}{unit} in {s.n:,} {noun}."
  else:
    first = (
      f"Luck alone ({streams} varied) moved {found.label} by {gap}{points} between the {high} and"
      f" the {low} of {s.n:,} {noun} (mean {mean}{unit}, sd {sd}{points})."
    )
  missing = found.planned - found.completed
  unfinished = [f"Not finished: {missing:,} of {found.planned:,} runs are missing."]
  return [first, *unfinished * bool(missing), *_split(found), *_without_diverged(found)]


def _split(found: _Findings) -> list[str]:
  """How much of the variance the networks would show on new examples."""
  column = found.columns[0]
  s = column.summary
  if not found.examples or not s.gap:
    return []
  examples = f"{found.examples:,} test examples"
  share = column.variance / s.sd**2
  if share <= 0:
    return [
      f"Nothing of that spread can be told from the luck of which {examples} were drawn: the"
      " distribution-wise variance is not estimated above zero."
    ]
  part = "Nearly all" if share > 0.99 else f"An estimated {100 * share:.0f} %"
  return [
    f"{part} of that variance is the networks' own and would show on new examples too"
    f" (distribution-wise sd {_number(found, column.sd, s.sd)} points); the rest is how they"
    f" happen to do on these {examples}."
  ]


def _without_diverged(found: _Findings) -> list[str]:
  if not found.diverged:
    return []
  if found.chance is None:
    return [f"{found.diverged:,} more diverged and are left out."]
  counted = f"diverged and count as chance ({_number(found, found.chance, 0)} %)"
  if len(found.columns) == 1:
    return [f"All of these runs {counted}."]
  s = found.columns[1].summary
  return [
    f"{found.diverged:,} of these runs {counted}; without them the gap is"
    f" {_number(found, s.gap, s.sd)} points and the sd {_number(found, s.sd, s.sd)}."
  ]


def _rows(found: _Findings) -> list[tuple[str, ...]]:
  """The table: a name, then a cell for each column."""
  cells = [_cells(found, column) for column in found.columns]
  return [(name, *(column[name] for column in cells)) for name in cells[0]]


def _cells(found: _Findings, column: _Column) -> dict[str, str]:
  s = column.summary

  def show(value: float, scale: float = s.sd) -> str:
    return _number(found, value, scale)

  cells = {"runs": f"{s.n:,}"}
  if s.n > 1 and found.independent:
    cells |= {
      "mean": show(s.mean, s.sem),
      "95 % interval of the mean": f"{show(s.low, s.sem)} to {show(s.high, s.sem)}",
      "sem": show(s.sem, s.sem),
    }
  else:
    cells["mean"] = show(s.mean)
  if s.n > 1:
    cells["sd"] = show(s.sd)
    if found.examples:
      cells["distribution-wise sd"] = show(column.sd)
      cells["sd if errors were independent"] = show(math.sqrt(column.independent))
  worst, best = (_some(runs) for runs in _ends(found, column))
  low, high = _WORDS[found.better != 0]
  return cells | {
    "min": show(s.min),
    "lower quartile": show(s.q25),
    "median": show(s.median),
    "upper quartile": show(s.q75),
    "max": show(s.max),
    "gap (max - min)": show(s.gap),
    f"{high} run": best,
    f"{low} run": worst,
  }


def _facts(found: _Findings) -> list[tuple[str, str]]:
  facts = [
    ("diverged", f"{found.diverged:,} of {found.completed:,}"),
    ("missing", f"{found.planned - found.completed:,} of {found.planned:,}"),
    ("streams that varied", ", ".join(found.vary)),
  ]
  if found.fixed:
    fixed = ", ".join(f"{stream} at {seed}" for stream, seed in found.fixed.items())
    facts.append(("streams held fixed", fixed))
  return facts


def _notes(found: _Findings) -> list[str]:
  notes = []
  n = found.columns[0].summary.n
  if found.diverged and found.chance is None:
    notes.append(
      "Diverged runs are left out: the chance level of this metric is not known. Their share is"
      " part of the result."
    )
  elif found.diverged:
    notes.append(
      f"A diverged run counts as chance level, {_number(found, found.chance, 0)} % (right or wrong"
      " at random on every test example); the second column leaves such runs out."
    )
  if found.completed < found.planned:
    notes.append("The sweep is unfinished: these numbers are about the completed runs alone.")
  if n > 1 and not found.independent:
    notes.append(
      "Runs share seeds (a crossed design), so they are not independent draws: no standard error"
      " or interval of the mean is given, and every sd describes these runs alone."
    )
  elif n > 1:
    held = ", the fixed streams as they are" if found.fixed else ""
    scope = "this test set" if found.examples else "the same evaluation"
    notes.append(
      f"The interval is Student's t: it speaks of the mean over all seeds ({scope}{held})."
      " Minimum, maximum and gap are facts about these runs; the gap grows with their number."
    )
  if n > 1 and found.examples:
    notes.append(
      "The distribution-wise sd is what new test examples would show of the spread (unbiased"
      " variance, Jordan, ICLR 2024, theorem 2; an estimate below zero is given as 0)."
    )
  if 1 < n < 30:
    notes.append(
      f"Few runs: an sd from {n} is itself uncertain by about"
      f" {100 / math.sqrt(2 * (n - 1)):.0f} % (one standard error, for normal values)."
    )
  if found.fingerprints > 1:
    notes.append(
      f"The runs come from {found.fingerprints} fingerprints (device, versions or program): exact"
      " replay holds within each."
    )
  return notes


def _ends(found: _Findings, column: _Column) -> tuple[np.ndarray, np.ndarray]:
  """The runs at the worst (or lowest) and at the best (or highest) value, ties included."""
  lowest, highest = (
    column.runs[column.values == end] for end in (column.values.min(), column.values.max())
  )
  return (highest, lowest) if found.better < 0 else (lowest, highest)


def _number(found: _Findings, value: float, scale: float) -> str:
  """`value` to the second significant digit of `scale`, a spread; percentages to two decimals."""
  if math.isnan(value):
    return "-"
  if not scale > 0:  # no spread to set the digits
    return f"{value:.2f}" if found.percent else f"{value:,.6g}"
  decimals = max(2 if found.percent else 0, 1 - math.floor(math.log10(scale)))
  return f"{value:,.{decimals}f}" if decimals < 9 else f"{value:.4g}"


def _some(runs: np.ndarray) -> str:
  return f"{runs[0]}" + (f" (and {len(runs) - 1:,} more)" if len(runs) > 1 else "")


def _listed(words: list[str]) -> str:
  return " and ".join([*([", ".join(words[:-1])] if words[:-1] else []), words[-1]])


def _caption(found: _Findings) -> str:
  where = f" at step {found.steps[-1]:,}" if len(found.steps) else ""
  return f"{found.label}{' in %' if found.percent else ''}{where}"


def _figures(found: _Findings) -> list[str]:
  """<figure> elements of the runs that did not diverge; none for a single run."""
  column = found.columns[-1]
  s = column.summary
  if s.n < 2 or len(found.curves) < 2:
    return []
  label = f"{found.label}, %" if found.percent else found.label
  mean, sd = _number(found, s.mean, s.sd), _number(found, s.sd, s.sd)
  spans = [(f"sd {sd}", s.sd)]
  below = "The bar below spans one standard deviation to either side of the mean."
  if found.examples:
    spans.append((f"distribution-wise sd {_number(found, column.sd, s.sd)}", column.sd))
    below = (
      "The bars below span one standard deviation to either side of the mean: as measured on this"
      " test set, and as new examples would show it."
    )
  outside = " Diverged runs are not drawn." if found.diverged else ""
  edges = stats.histogram_edges(column.values, 100 / found.examples if found.examples else 0.0)
  histogram = _figure(
    figures.histogram(column.values, edges, label=label, mean=s.mean, spans=spans),
    f"Histogram of {label} over {s.n:,} runs, from {_number(found, s.min, s.sd)} to"
    f" {_number(found, s.max, s.sd)}, half of them between {_number(found, s.q25, s.sd)} and"
    f" {_number(found, s.q75, s.sd)}; mean {mean}, sd {sd}.",
    f"How often each value occurs among {s.n:,} runs. {below}{outside}",
  )
  whole = np.isfinite(found.curves).all(axis=1)
  if len(found.steps) < 2 or whole.sum() < 2:
    return [histogram]
  bands, sd_E = stats.bands(found.curves[whole], _LEVELS)
  words = _WORDS[found.better != 0]
  last = {
    word: found.curves[column.runs == ends[0]][0]
    for word, ends in zip(words[::-1], _ends(found, column)[::-1], strict=True)
  }
  curves = _figure(
    figures.curves(
      found.steps, bands, sd_E, last, label=label, unit="points" if found.percent else ""
    ),
    f"{label} over training: the median goes from {_number(found, bands[2][0], s.sd)} at step"
    f" {found.steps[0]:,} to {_number(found, bands[2][-1], s.sd)} at step {found.steps[-1]:,}, the"
    " standard deviation over runs from"
    f" {_number(found, sd_E[0], sd_E[0])} to {_number(found, sd_E[-1], sd_E[-1])}.",
    f"{whole.sum():,} runs over training: the median, the bands that hold the middle half and nine"
    f" tenths of the runs, and the runs that ended {words[1]} and {words[0]}; the first steps may"
    " lie outside the frame. Below, the sd between runs at each evaluation.",
  )
  return [histogram, curves]


def _figure(figure: Figure, alt: str, caption: str) -> str:
  """Inline SVG whose colours are variables of the page and whose text is text."""
  buffer = io.StringIO()
  # The salt makes ids differ between the pictures of a page and stay the same between reports.
  with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": alt}):
    figure.savefig(buffer, format="svg", transparent=True, metadata=_NO_METADATA)
  svg = buffer.getvalue()
  svg = f'<svg role="img" aria-label="{_escape(alt)}"' + svg[svg.index("<svg") + 4 :]
  svg = re.sub(r'<g id="[^"]*">', "<g>", svg)  # names that both pictures would use
  for name, color in figures.COLORS.items():
    svg = svg.replace(color, f"var(--{name})")
  return f"<figure>{svg}<figcaption>{_escape(caption)}</figcaption></figure>\n"


def _table(found: _Findings) -> str:
  head = ""
  if len(found.columns) > 1:
    names = "".join(f"<th scope=col>{_escape(column.name)}" for column in found.columns)
    head = f"<thead><tr><td>{names}</thead>"
  rows = "\n".join(
    f"<tr><th scope=row>{_escape(name)}" + "".join(f"<td>{_escape(cell)}" for cell in cells)
    for name, *cells in _rows(found)
  )
  return f"<table><caption>{_escape(_caption(found))}</caption>{head}<tbody>\n{rows}</table>"


def _provenance(attributes: dict[str, Any]) -> str:
  """The whole manifest: short values as they are, nested ones folded away."""
  short, long = "", ""
  for name, value in attributes.items():
    nested = not isinstance(value, str)
    shown = json.dumps(value, indent=1, default=str, ensure_ascii=False) if nested else value
    if nested and len(shown) > 80:
      long += f"<details><summary>{_escape(name)}</summary><pre>{_escape(shown)}</pre></details>\n"
    else:
      short += f"<dt>{_escape(name)}<dd>{_escape(shown)}"
  return f"<dl>{short}</dl>\n{long}"


def _title(attributes: dict[str, Any]) -> str:
  config, trainer = attributes.get("config"), attributes.get("trainer")
  if config:
    return f"{config['model']['name']} on {config['data']['name']}"
  return trainer["function"] if trainer else "A sweep"


def _escape(value: Any) -> str:
  return markup.escape(str(value))


_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
_WORDS = {True: ("worst", "best"), False: ("lowest", "highest")}

_STYLE = """
:root { color-scheme: light dark; --page: #fbfbfa; --card: #ffffff; --ink: #1d2125; --soft: #57606a;
  --faint: #c5cad0; --main: #2f6fd0; --best: #17866b; --worst: #b94f08; }
@media (prefers-color-scheme: dark) { :root { --page: #14171a; --card: #1c2024; --ink: #e6e8ea;
  --soft: #a3abb3; --faint: #4a525a; --main: #7fb0ff; --best: #4fc9a6; --worst: #ff9d5c; } }
@media print { :root { color-scheme: light; --page: #fff; --card: #fff; --ink: #000; --soft: #444;
  --faint: #bbb; --main: #2f6fd0; --best: #17866b; --worst: #b94f08; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
.kind { margin: 0; color: var(--soft); font-size: .9rem; }
h1 { margin: .3rem 0 .8rem; font-size: clamp(1.25rem, 1rem + 1.6vw, 1.8rem); line-height: 1.25;
  font-weight: 650; text-wrap: pretty; }
h2 { margin: 2rem 0 .6rem; font-size: 1.1rem; }
.lead { margin: .4rem 0; max-width: 46rem; }
.figures, .numbers { display: grid; gap: 1rem; margin-top: 1.25rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); align-items: start; }
figure, .card { margin: 0; padding: .9rem; background: var(--card); border: 1px solid var(--faint);
  border-radius: .6rem; min-width: 0; overflow-x: auto; break-inside: avoid; }
figure svg { display: block; width: 100%; height: auto; }
figure svg text { font-family: inherit !important; }
figcaption, ul, dd, dt { font-size: .9rem; }
figcaption { color: var(--soft); margin-top: .5rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 650; padding-bottom: .4rem; }
th { text-align: left; font-weight: 400; color: var(--soft); padding-right: .8rem; }
td, thead th { text-align: right; padding: 0 0 0 .8rem; }
td { white-space: nowrap; }
tbody tr > * { border-top: 1px solid var(--faint); padding-top: .28rem; padding-bottom: .28rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1rem; margin: .3rem 0; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
ul { padding-left: 1.1rem; color: var(--soft); }
pre { overflow-x: auto; margin: .3rem 0; padding: .7rem .8rem; background: var(--card);
  border: 1px solid var(--faint); border-radius: .5rem; font-size: .85rem; }
.copy { user-select: all; -webkit-user-select: all; white-space: pre-wrap;
  overflow-wrap: anywhere; }
@media (max-width: 30rem) { main { padding: 1rem .7rem 2rem; } figure, .card { padding: .6rem; }
  table { font-size: .9rem; } td { white-space: normal; } }
details { margin: .5rem 0; }
details details { margin-left: .2rem; }
summary { cursor: pointer; }
"""

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title} - seedlab</title>
<style>{style}</style>
<main>
<p class="kind">{title}</p>
<h1>{headline}</h1>
{lead}
<div class="figures">
{figures}</div>
<h2>Numbers</h2>
<div class="numbers">
<div class="card">{table}</div>
<div class="card"><dl>{facts}</dl><ul>{notes}</ul></div>
</div>
<h2>Replay</h2>
<p>Trains {replayed} again and compares every bit; any other run likewise.</p>
<pre class="copy">{command}</pre>
<h2>Provenance</h2>
<details><summary>Where these runs come from</summary>
{provenance}</details>
</main>
</html>
"""
