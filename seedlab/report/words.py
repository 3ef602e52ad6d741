"""What a sweep says, in words: sentences, rows of a table, facts and notes from its findings.

Runs that share seeds (a crossed design) get no standard error and no interval as if
they were independent draws.
"""

import math

import numpy as np

from seedlab import findings
from seedlab.config import STREAMS
from seedlab.findings import Column, Findings, counted
from seedlab.stats import crossed, planning, sequential, single
from seedlab.stats.single import Interval

WORDS = {True: ("worst", "best"), False: ("lowest", "highest")}
_SUBSETS = (100, 10, 5)  # k of "k new seeds": the largest of which there are five times as many
_LOOKS = 100  # at most, of a betting sequence
_DRAWS = 20_000_000  # normal values drawn to judge the tails


def headline(found: Findings) -> list[str]:
  """Sentences, the first of which stands alone."""
  column = found.columns[0]
  s = column.summary
  unit, points = (" %", " points") if found.percent else ("", "")
  noun = "seeds" if found.independent else "runs"
  streams, varied = _varied(found), " varied" * bool(found.vary)
  low, high = WORDS[found.better != 0]
  mean, sd, gap = (number(found, value, s.sd) for value in (s.mean, s.sd, s.gap))
  if found.failed_R.all():
    all_of_them = "The only run" if found.completed == 1 else f"All {found.completed:,} {noun}"
    first = f"{all_of_them} diverged: there is no {found.label} to speak of."
  elif s.n == 1:
    first = f"One run: {found.label} {mean}{unit}. How far luck moves it shows from two runs on."
  elif s.gap == 0:
    first = (
      f"Luck ({streams}{varied}) did not show: {found.label} {mean}{unit} in all of {s.n:,} {noun}."
    )
  else:
    first = (
      f"Luck alone ({streams}{varied}) moved {found.label} by {gap}{points} between the {high} and"
      f" the {low} of {s.n:,} {noun} (mean {mean}{unit}, sd {sd}{points})."
    )
  missing = found.planned - found.completed
  are = "is" if missing == 1 else "are"
  unfinished = [f"Not finished: {missing:,} of {counted(found.planned, 'run')} {are} missing."]
  return [first, *unfinished * bool(missing), *_split(found), *_without_diverged(found)]


def _varied(found: Findings) -> str:
  if not found.vary:
    return "whatever the seed set"
  return "every source of randomness" if set(found.vary) == set(STREAMS) else _listed(found.vary)


def _split(found: Findings) -> list[str]:
  """How much of the variance the networks would show on new examples."""
  column = found.columns[0]
  s = column.summary
  if not found.examples or not s.gap or s.n < 3:
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
    f" (distribution-wise sd {number(found, column.sd, s.sd)} points); the rest is how they"
    f" happen to do on these {examples}."
  ]


def _without_diverged(found: Findings) -> list[str]:
  if not found.diverged:
    return []
  if found.chance is None:
    are = "is" if found.diverged == 1 else "are"
    return [f"{found.diverged:,} more diverged and {are} left out."]
  diverged = f"diverged and count{'s' * (found.diverged == 1)} as chance"
  diverged += f" ({number(found, found.chance, 0)} %)"
  if len(found.columns) == 1:
    alone = "This run" if found.diverged == 1 else "All of these runs"
    return [f"{alone} {diverged}."]
  s = found.columns[1].summary
  return [
    f"{found.diverged:,} of these runs {diverged}; without them the gap is"
    f" {number(found, s.gap, s.sd)} points and the sd {number(found, s.sd, s.sd)}."
  ]


def rows(found: Findings) -> list[tuple[str, ...]]:
  """The table: a name, then a cell for each column."""
  cells = [_cells(found, column) for column in found.columns]
  # Of few runs a column has fewer lines.
  return [(name, *(column.get(name, "-") for column in cells)) for name in cells[0]]


def _cells(found: Findings, column: Column) -> dict[str, str]:
  s = column.summary

  def show(value: float, scale: float = s.sd) -> str:
    return number(found, value, scale)

  cells = {"runs": f"{s.n:,}"}
  if s.n > 1 and found.independent:
    low, high = (s.low, s.high) if not found.percent else np.clip((s.low, s.high), 0, 100)
    cells |= {
      "mean": show(s.mean, s.sem),
      "95 % interval of the mean": f"{show(low, s.sem)} to {show(high, s.sem)}",
      "sem": show(s.sem, s.sem),
    }
  else:
    cells["mean"] = show(s.mean)
  if s.n > 1:
    cells["sd"] = show(s.sd)
    if found.examples:
      cells["distribution-wise sd"] = show(column.sd)
      cells["sd if errors were independent"] = show(math.sqrt(column.independent))
  worst, best = (_some(runs) for runs in ends(found, column))
  low, high = WORDS[found.better != 0]
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


def facts(found: Findings) -> list[tuple[str, str]]:
  """What stands beside the table: name and value, of the first column's runs."""
  listed = [
    ("diverged", f"{found.diverged:,} of {found.completed:,}"),
    ("missing", f"{found.planned - found.completed:,} of {found.planned:,}"),
  ]
  if found.vary:
    listed.append(("streams that varied", ", ".join(found.vary)))
  if found.fixed:
    fixed = ", ".join(f"{stream} at {seed}" for stream, seed in found.fixed.items())
    listed.append(("streams held fixed", fixed))
  listed += _repeats(found)
  return listed + (_inference(found) if found.independent else _crossed(found))


def _inference(found: Findings) -> list[tuple[str, str]]:
  """About a new seed, from independent runs."""
  column = found.columns[0]
  s, values_R = column.summary, column.values
  if s.n < 3 or not s.gap:
    return []
  order = np.argsort(column.runs)
  low, high = sequential.asymptotic_sequence(values_R[order])
  again = Interval(s.mean, float(low[-1]), float(high[-1]), 0.95, "")
  listed = [
    ("mean, interval that forgives looking again", interval(found, again, s.sem)),
    ("interquartile mean", interval(found, single.interquartile_mean(values_R), s.sem)),
    (
      "sd with its 95 % interval",
      interval(found, single.sd_interval(values_R), s.sd / math.sqrt(s.n)),
    ),
  ]
  k = next((k for k in _SUBSETS if 5 * k <= s.n), None)
  if k:
    gap = single.expected_range(values_R, k)
    listed.append((f"expected gap of {k} new seeds", interval(found, gap, s.sd)))
  if k and found.better:
    best = single.expected_best(found.better * values_R, k)
    limits = sorted([found.better * best.low, found.better * best.high])
    best = Interval(found.better * best.estimate, *limits, best.level, best.method)
    listed.append((f"expected best of {k} new seeds", interval(found, best, s.sd)))
  half = number(found, s.sd / 2, s.sd) + found.unit
  each = planning.runs_for_difference(s.sd / 2, s.sd)
  listed.append((f"seeds a sweep to find a difference of {half}", f"{each} (4 times in 5, t test)"))
  return [*listed, ("tails", _tails(found, values_R))]


def on_request(found: Findings) -> list[tuple[str, str]]:
  """Other intervals about a new seed, for who wants them (`--details`), from independent runs."""
  column = found.columns[0]
  s, values_R = column.summary, column.values
  if s.n < 3 or not s.gap or not found.independent:
    return []
  median = single.quantile_interval(values_R, 0.5)
  listed = [("median, whatever the distribution", interval(found, median, s.sem))]
  if found.percent:
    ordered_R = values_R[np.argsort(column.runs)] / 100
    every = max(sequential.EVERY, s.n // _LOOKS)
    low, high = (100 * x[-1] for x in sequential.betting_sequence(ordered_R, every=every))
    bet = Interval(s.mean, float(low), float(high), 0.95, "betting")
    name = "mean, whatever the distribution and however often one looks"
    listed.append((name, interval(found, bet, s.sem)))
  if found.examples and not found.diverged and s.n * found.examples <= findings.MOST_LABELS:
    own = single.distribution_wise_interval(~found.correct())
    sds = [100 * math.sqrt(max(x, 0)) for x in (own.estimate, own.low, own.high)]
    own = Interval(*sds, own.level, own.method)
    listed.append(("distribution-wise sd with its 95 % interval", interval(found, own, s.sd)))
  apart = {} if found.dataset is None else findings.on_new_examples(found.dataset)
  names = {
    "churn": "new examples on which two seeds differ, %",
    "difference": "new examples, difference of two seeds' probabilities (L1), %",
  }
  for kind, of in apart.items():
    limits = "" if math.isnan(of.low) else f" ({100 * of.low:.2f} to {100 * of.high:.2f})"
    listed.append((names[kind], f"{100 * of.estimate:.2f}{limits}"))
  return listed


def _tails(found: Findings, values_R: np.ndarray) -> str:
  grid = 100 / found.examples if found.examples else 0.0
  draws = min(max(_DRAWS // len(values_R), 199), 4999)
  tails = single.heavier_tails(values_R, grid, np.random.default_rng(0), draws)
  if math.isnan(tails.p_value):
    return "too few runs to say"
  verdict = "heavier than a normal's" if tails.p_value < 0.05 else "not seen to exceed a normal's"
  return f"{verdict} (excess kurtosis {tails.excess_kurtosis:.2f}, p = {tails.p_value:.2g})"


def _crossed(found: Findings) -> list[tuple[str, str]]:
  array = crossed_array(found)
  if array is None:
    return []
  mean = crossed.mean(array[0])
  return [
    ("mean over new levels of every stream", interval(found, mean, abs(mean.high - mean.low) / 4))
  ]


def crossed_array(found: Findings) -> tuple[np.ndarray, list[str]] | None:
  """Values over a full crossed design, one axis a stream, and the streams; None if it is none."""
  column = found.columns[0]
  chosen = np.isin(found.run_R, column.runs)
  seeds = {stream: found.seeds[stream][chosen] for stream in found.vary}
  try:
    array, levels = crossed.design(column.values, seeds)
  except ValueError:
    return None
  return array, list(levels)


def effects(found: Findings) -> list[tuple[str, str, str]]:
  """Rows (stream, first-order effect, total effect) of a full crossed design, as shares."""
  design = None if found.independent else crossed_array(found)
  if design is None:
    return []
  shown = []
  for stream, effect in crossed.effects(*design).items():
    cells = [
      "-" if math.isnan(i.estimate) else f"{i.estimate:.2f}{_limits(i.low, i.high, '.2f')}"
      for i in (effect.first, effect.total)
    ]
    shown.append((stream, *cells))
  return shown


def _limits(low: float, high: float, form: str) -> str:
  return "" if math.isnan(low) or math.isnan(high) else f" ({low:{form}} to {high:{form}})"


def interval(found: Findings, of: Interval, scale: float) -> str:
  """`estimate (low to high)`, to the digits that `scale` deserves."""
  estimate = number(found, of.estimate, scale)
  if not (math.isfinite(of.low) and math.isfinite(of.high)):
    return f"{estimate} (no interval from so few runs)"
  return f"{estimate} ({number(found, of.low, scale)} to {number(found, of.high, scale)})"


def notes(found: Findings) -> list[str]:
  column = found.columns[0]
  notes, n = [], column.summary.n
  if n > 1 and found.better and column.summary.gap:
    notes.append(_warning(found, column))
  if not found.better:
    notes.append(
      f"Whether a higher or a lower {found.label} is better is not known, so no run is called the"
      " best: --better=higher or --better=lower says it."
    )
  if found.diverged and found.chance is None:
    notes.append(
      "Diverged runs are left out: the chance level of this metric is not known. Their share is"
      " part of the result."
    )
  elif found.diverged:
    notes.append(
      f"A diverged run counts as chance level, {number(found, found.chance, 0)} % (right or wrong"
      " at random on every test example)"
      + ("; the second column leaves such runs out." if len(found.columns) > 1 else ".")
    )
  if found.completed < found.planned:
    notes.append("The sweep is unfinished: these numbers are about the completed runs alone.")
  if n > 1 and not found.independent:
    notes.append(
      "Runs share seeds (a crossed design), so they are not independent draws: no standard error"
      " of the mean as if they were is given, and every sd describes these runs alone."
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


def _warning(found: Findings, column: Column) -> str:
  """What the best run is not."""
  s = column.summary
  best = s.max if found.better > 0 else s.min
  lead, points = number(found, abs(best - s.mean), s.sd), " points" if found.percent else ""
  said = (
    f"The best run is not the result: picked out of {s.n:,} by its luck, it leads the mean by"
    f" {lead}{points}"
  )
  if found.examples and found.independent:
    kept = number(found, abs(best - s.mean) * max(column.variance, 0) / s.sd**2, s.sd)
    said += f", of which about {kept} would show on new test examples"
  return f"{said}. Quote the mean, with its interval and sd."


def ends(found: Findings, column: Column) -> tuple[np.ndarray, np.ndarray]:
  """The runs at the worst (or lowest) and at the best (or highest) value, ties included."""
  lowest, highest = (
    column.runs[column.values == end] for end in (column.values.min(), column.values.max())
  )
  return (highest, lowest) if found.better < 0 else (lowest, highest)


def number(found: Findings, value: float, scale: float) -> str:
  """`value` to the second significant digit of `scale`, a spread; percentages to two decimals."""
  if math.isnan(value):
    return "-"
  if not math.isfinite(scale):
    return f"{value:.4g}"
  if not scale > 0:  # no spread to set the digits
    return f"{value:.2f}" if found.percent else f"{value:,.6g}"
  decimals = max(2 if found.percent else 0, 1 - math.floor(math.log10(scale)))
  return f"{value:,.{decimals}f}" if decimals < 9 else f"{value:.4g}"


def _some(runs: np.ndarray) -> str:
  return f"{runs[0]}" + (f" (and {len(runs) - 1:,} more)" if len(runs) > 1 else "")


def _listed(words: list[str]) -> str:
  return " and ".join([*([", ".join(words[:-1])] if words[:-1] else []), words[-1]])


def caption(found: Findings) -> str:
  where = f" at step {found.steps[-1]:,}" if len(found.steps) else ""
  return f"{found.label}{' in %' if found.percent else ''}{where}"


def _repeats(found: Findings) -> list[tuple[str, str]]:
  """Seeds that were trained again: what moves a result although the seed is the same."""
  if found.repeats is None:
    return []
  within, between = found.repeats.within, found.repeats.between
  return [
    (
      f"sd of up to {found.repeats.most} repeats of one seed (not luck of the seed)",
      interval(found, within, within.estimate),
    ),
    (
      "sd between seeds, the repeats' share taken off",
      interval(found, between, within.estimate),
    ),
  ]
