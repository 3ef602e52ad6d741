"""Is B better than A? Two or more sweeps (or variants of a table) judged on one metric.

The first is the baseline; every other one is compared with it. What carries the
verdict is chosen by design, never by outcome:

  difference   paired t on shared run numbers, else Welch's t, if the number of runs was
               recorded before training (planned_n) and is what the sweep holds;
               otherwise the anytime-valid interval, which forgives looking again
  crossed      both sweeps over the same levels: the jackknife over levels

Everything else (the other interval, P(better), sensitivity to diverged runs,
`details`) stands beside it and carries none. Where nobody knows whether a higher or a
lower value is better, nothing is judged.
"""

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
import scipy.stats
import xarray

from seedlab import claims, config, findings, records
from seedlab.claims import Claim, Part, Verdict
from seedlab.config import STREAMS
from seedlab.errors import NotComparable, UserError
from seedlab.findings import Findings, counted
from seedlab.meanings import Direction
from seedlab.stats import comparison, crossed, many, planning, sequential
from seedlab.stats.comparison import Contrast, TwoSweeps
from seedlab.stats.single import Interval

LEVEL = 0.95
_POWER = 0.8
_PILOT = 5  # runs below which no forecast is made
Source: TypeAlias = str | os.PathLike | xarray.Dataset | pd.DataFrame


@dataclasses.dataclass(frozen=True)
class Pair:
  """A variant beside the baseline; differences are variant - baseline, in display units."""

  baseline: Findings
  variant: Findings
  two: TwoSweeps  # the variant is its A
  judged_by: Literal["anytime", "fixed", "crossed"]
  verdicts: list[Verdict]  # of "better", then with a margin "equal" and "not worse"; or none
  judged: Interval  # what carries them, at the level they were judged at
  fixed: Contrast | Interval  # t (or the crossed design's) at 95 %
  anytime: Interval | None  # at 95 %; None before the first look, or for a crossed design
  better: Contrast | None  # P(variant better than baseline); higher, if the direction is unknown
  without_diverged: Contrast | None
  more: int | None  # further runs a sweep that would settle it, if nothing else changes
  notes: tuple[str, ...]

  @property
  def sign(self) -> int:
    return -1 if self.baseline.better < 0 else 1

  @property
  def settled(self) -> str:
    """better, worse, equal or open; "unknown direction" where nothing can be judged."""
    if not self.verdicts:
      return "unknown direction"
    first = self.verdicts[0].outcome
    if first != "open":
      return "better" if first == "shown" else "worse"
    return "equal" if any(v.outcome == "shown" for v in self.verdicts[1:2]) else "open"


@dataclasses.dataclass(frozen=True)
class Comparison:
  metric: str
  unit: str
  margin: float | None
  sweeps: list[Findings]
  pairs: list[Pair]
  differences: list[tuple[str, list[Any]]]  # config field -> its value in each sweep
  ranks: many.Ranks | None  # of three or more sweeps of independent runs, if a direction is known


def compare(
  sources: Sequence[Source] | pd.DataFrame,
  metric: str | None = None,
  *,
  better: Direction | None = None,
  margin: float | None = None,
  paired: bool | None = None,
  planned_n: int | None = None,
  names: Sequence[str] | None = None,
) -> Comparison:
  """Compares the second and every further sweep with the first.

  Args:
    sources: stores (directories or Datasets), CSV files, or DataFrames with the columns
      variant, seed and a metric; a table may hold several variants.
    metric: to judge by; by default the first of the first source.
    better: which way the metric is better, "higher" or "lower"; by default as the stores say,
      or, where they do not, as the words of its name tell (docs/statistics.md).
    margin: what counts as a difference worth having, in the unit shown (points for
      fractions); allows the verdicts "equal" and "not worse".
    paired: overrides the rule that shared run numbers are pairs.
    planned_n: of a table: the number of seeds decided before the first was trained.
    names: of the sources, by default the last parts of their paths.

  Raises UserError for what cannot be compared: fewer than two sweeps, another test set,
  designs that do not fit.
  """
  if better not in (None, "higher", "lower"):
    raise UserError(f"better={better!r} must be higher or lower")
  if margin is not None and not 0 < margin < math.inf:
    raise UserError(f"margin={margin} must be a positive number in the unit of the metric")
  sources = [sources] if isinstance(sources, pd.DataFrame) else list(sources)
  if names and len(names) != len(sources):
    raise UserError(f"names={','.join(names)} are {len(names)} for {len(sources)} sources")
  sweeps: list[Findings] = []
  for number, source in enumerate(sources):
    given = metric or (sweeps[0].metric if sweeps else None)
    sweeps += _read(source, given, names[number] if names else "")
  sweeps = _one_direction(_distinct(sweeps), better)
  if len(sweeps) < 2:
    raise UserError(
      f"{counted(len(sweeps), 'sweep')} to compare; give two stores, or a table of two variants"
    )
  if planned_n is not None:
    if planned_n < 2:
      raise UserError(f"planned_n={planned_n} must be at least 2")
    recorded = [sweep.name for sweep in sweeps if sweep.record]
    if recorded:
      raise UserError(
        f"planned_n={planned_n} is for tables; {recorded[0]!r} is a store, which records its own"
        " before training (seedlab sweep --planned_n)"
      )
    sweeps = [dataclasses.replace(sweep, planned_n=planned_n) for sweep in sweeps]
  _same_test_set(sweeps)
  judged = [_judgement(sweeps[0], variant, margin, paired) for variant in sweeps[1:]]
  outcomes = _verdicts(judged, margin)
  return Comparison(
    metric=sweeps[0].metric,
    unit=sweeps[0].unit,
    margin=margin,
    sweeps=sweeps,
    pairs=[_pair(one, verdicts, margin) for one, verdicts in zip(judged, outcomes, strict=True)],
    differences=differing([sweep.record for sweep in sweeps]),
    ranks=_ranks(sweeps),
  )


def _ranks(sweeps: Sequence[Findings]) -> many.Ranks | None:
  """Of the means; resampled together where all sweeps hold the same run numbers."""
  used = [_used(sweep) for sweep in sweeps]
  few = min(len(values_R) for values_R, _ in used) < 2
  known = sweeps[0].better and all(sweep.independent for sweep in sweeps)
  if len(sweeps) < 3 or few or not known:
    return None
  paired = all(np.array_equal(run_R, used[0][1]) for _, run_R in used[1:])
  draws = 2000 if max(len(values_R) for values_R, _ in used) <= 2000 else 400
  values = [sweeps[0].better * values_R for values_R, _ in used]
  return many.ranks(values, np.random.default_rng(0), paired, LEVEL, draws)


def _read(source: Source, metric: str | None, name: str) -> list[Findings]:
  if isinstance(source, xarray.Dataset):
    return [findings.examine(source, metric, name)]
  if isinstance(source, pd.DataFrame):
    return findings.examine_table(source, metric)
  if os.path.isfile(source) or os.fspath(source).endswith(".csv"):
    return findings.examine_table(findings.read_table(source), metric)
  with records.readable(source):
    return [findings.examine(records.open(source), metric, name or findings.named(source))]


def _distinct(sweeps: list[Findings]) -> list[Findings]:
  """Names that tell the sweeps apart: A, B, ... where they have none, numbered where equal."""
  found: list[Findings] = []
  for number, sweep in enumerate(sweeps):
    name = sweep.name or chr(ord("A") + number % 26)
    taken = {other.name for other in found}
    if name in taken:
      name = next(
        f"{name} ({n})" for n in range(2, len(sweeps) + 2) if f"{name} ({n})" not in taken
      )
    found.append(dataclasses.replace(sweep, name=name))
  return found


def _one_direction(sweeps: list[Findings], better: Direction | None) -> list[Findings]:
  """The sweeps with one direction, as said or as those know that do."""
  sweeps = [sweep.turned(better) for sweep in sweeps]
  known = [sweep for sweep in sweeps if sweep.better]
  other = next((sweep for sweep in known if sweep.better != known[0].better), None)
  if other:
    raise UserError(
      f"metric={other.metric!r}: {known[0].name} and {other.name} say opposite things of which way"
      " it is better; say it with better=higher or better=lower"
    )
  direction = known[0].better if known else 0
  return [dataclasses.replace(sweep, better=direction) for sweep in sweeps]


def _same_test_set(sweeps: list[Findings]) -> None:
  first = sweeps[0]
  for sweep in sweeps[1:]:
    if sweep.percent != first.percent:
      raise NotComparable(
        f"metric={first.metric!r}: {first.name} has fractions and {sweep.name} other numbers; bring"
        " them to one unit"
      )
    sets = (first.test_label_E, sweep.test_label_E)
    differ = min(map(len, sets)) and not np.array_equal(*sets)
    # Labels may agree by chance, as those of one test set at two sizes of its images do.
    if differ or not records.same_evaluation_set(first.dataset, sweep.dataset):
      sizes = " and ".join(f"{len(labels):,}" for labels in sets)
      sizes = f" ({sizes} examples)" if min(map(len, sets)) else ""
      raise NotComparable(
        f"{first.name} and {sweep.name} were evaluated on different test sets{sizes}: a"
        " difference between them would not be one of the methods; evaluate both on one set"
      )


@dataclasses.dataclass(frozen=True)
class _Judgement:
  """How a pair will be judged: an interval of variant - baseline for each level."""

  baseline: Findings
  variant: Findings
  two: TwoSweeps
  by: Literal["anytime", "fixed", "crossed"]
  grids: tuple[np.ndarray, ...]  # the difference over a crossed design
  notes: tuple[str, ...]

  def interval(self, level: float) -> Interval:
    if self.by == "crossed":
      return crossed.mean(self.grids[0], level)
    if self.by == "fixed":
      return _interval(comparison.difference(self.two, level))
    return _anytime(self.two, level)


def _judgement(
  baseline: Findings, variant: Findings, margin: float | None, paired: bool | None
) -> _Judgement:
  if not (baseline.independent and variant.independent):
    if paired is False:
      raise UserError("paired=False: crossed sweeps are compared level by level; leave it out")
    a, b = _crossed_values(baseline, variant)
    two = TwoSweeps(a.ravel(), b.ravel(), True, 0)
    return _Judgement(baseline, variant, two, "crossed", (a - b,), ())
  runs = [_used(sweep) for sweep in (variant, baseline)]
  notes = _unknown_examples(baseline, variant)
  if variant.vary != baseline.vary:
    notes.append(
      f"{baseline.name} varied {_streams(baseline)}, {variant.name} {_streams(variant)}: their"
      " spreads do not measure the same luck."
    )
  try:
    two = comparison.align(*runs[0], *runs[1], paired)
  except ValueError as error:
    raise UserError(f"paired={paired}: {error}") from None
  planned = [sweep.planned_n for sweep in (baseline, variant)]
  complete = all(_as_planned(sweep) for sweep in (baseline, variant))
  as_planned = complete and (not two.paired or len(two.a_R) == planned[0] == planned[1])
  if two.left_out:
    have, are = ("has", "is") if two.left_out == 1 else ("have", "are")
    notes.append(
      f"{counted(two.left_out, 'run')} {have} no partner with the same number and {are} not used."
    )
  if not as_planned and any(planned):
    plans = ", ".join(
      f"{sweep.name} planned {sweep.planned_n or 'nothing'} and holds {sweep.completed:,}"
      for sweep in (baseline, variant)
    )
    used = f"; used: {counted(len(two.a_R), 'pair')}" if two.paired else ""
    notes.append(f"Not judged at the planned number of runs: {plans}{used}.")
  shorter = min(len(two.a_R), len(two.b_S))
  if not (two.paired or as_planned) and len(two.a_R) != len(two.b_S):
    notes.append(
      f"The anytime-valid interval rests on the first {counted(shorter, 'run')} of each."
    )
  if (baseline.diverged or variant.diverged) and baseline.chance != variant.chance:
    notes.append("Diverged runs count as chance level in one sweep and are left out of the other.")
  return _Judgement(baseline, variant, two, "fixed" if as_planned else "anytime", (), tuple(notes))


def _unknown_examples(baseline: Findings, variant: Findings) -> list[str]:
  """A note if a store does not say on which examples it was evaluated."""
  unknown = [
    sweep.name
    for sweep in (baseline, variant)
    if sweep.dataset is not None and sweep.dataset.attrs.get("evaluation_digest") is None
  ]
  if not unknown:
    return []
  return [
    f"It is not known whether {baseline.name} and {variant.name} were evaluated on the same"
    f" examples: {' and '.join(unknown)} did not record which (Trainer.evaluated_on)."
  ]


def _as_planned(sweep: Findings) -> bool:
  return sweep.planned_n is not None and sweep.completed == sweep.planned == sweep.planned_n


def _used(sweep: Findings) -> tuple[np.ndarray, np.ndarray]:
  """Values and run numbers, ascending; the first column is the one with diverged at chance."""
  column = sweep.columns[0]
  order = np.argsort(column.runs)
  return column.values[order], column.runs[order]


def _crossed_values(baseline: Findings, variant: Findings) -> tuple[np.ndarray, np.ndarray]:
  """Of the variant and of the baseline, over the same levels of the same streams."""
  if baseline.independent or variant.independent:
    joint, design = (baseline, variant) if baseline.independent else (variant, baseline)
    raise NotComparable(
      f"{design.name} is a crossed design and {joint.name} has independent runs: their means carry"
      " other luck; compare two of one kind"
    )
  arrays, levels = [], []
  for sweep in (variant, baseline):
    values_R, run_R = _used(sweep)
    order = np.argsort(sweep.run_R)
    rows = order[np.searchsorted(sweep.run_R, run_R, sorter=order)]
    seeds = {stream: sweep.seeds[stream][rows] for stream in STREAMS if stream in sweep.vary}
    try:
      array, found = crossed.design(values_R, seeds)
    except ValueError as error:
      raise UserError(
        f"{sweep.name} has runs that share seeds, and those that are judged are no full crossed"
        f" design ({error}); finish the sweep, judge by a metric that diverged runs have too, or"
        " compare sweeps of independent runs"
      ) from None
    arrays.append(array)
    levels.append({stream: values.tolist() for stream, values in found.items()})
  if levels[0] != levels[1]:
    raise NotComparable(
      f"{baseline.name} and {variant.name} are crossed designs over other levels; a crossed sweep"
      " is compared only with one over the same streams and levels"
    )
  return arrays[0], arrays[1]


def _anytime(two: TwoSweeps, level: float) -> Interval:
  """The last interval of the confidence sequence of the differences; infinite before the first.

  Of unpaired sweeps the n-th runs are subtracted, as many as the shorter one has.
  """
  values = sequential.differences(two)
  scale = max(abs(two.a_R).max(), abs(two.b_S).max())
  if len(values) < sequential.BURN_IN or np.ptp(values) <= 1e-12 * scale:
    # Nothing to judge by: then the estimate is that of all runs.
    estimate = two.a_R.mean() - two.b_S.mean()
    return Interval(float(estimate), -math.inf, math.inf, level, "anytime-valid")
  low, high = sequential.asymptotic_sequence(values, level)
  return Interval(float(values.mean()), float(low[-1]), float(high[-1]), level, "anytime-valid")


def _interval(contrast: Contrast) -> Interval:
  return Interval(contrast.estimate, contrast.low, contrast.high, contrast.level, contrast.method)


def _claims(pair: _Judgement, margin: float | None) -> list[Claim]:
  """What may be concluded, in terms of an interval of "better by"."""
  name, base = pair.variant.name, pair.baseline.name
  what = f"mean {pair.baseline.label}, {name} against {base}, better by{pair.baseline.unit}"
  made = [Claim("better", f"{name} is better than {base}", (Part(what, "lo > x", (0.0,)),))]
  if margin:
    within = Part(what, "within [a, b]", (-margin, margin))
    not_worse = Part(what, "lo > x", (-margin,))
    made += [
      Claim("equal", f"{name} equals {base} within {margin:g}", (within,)),
      Claim("not worse", f"{name} is not worse than {base} by {margin:g}", (not_worse,)),
    ]
  return [dataclasses.replace(claim, family="comparison") for claim in made]


def _verdicts(judged: list[_Judgement], margin: float | None) -> list[list[Verdict]]:
  """Of each pair; the claims "better" of several variants are corrected together (Holm).

  What one pair's interval says besides (equal, not worse) follows from the same interval
  and needs no further correction.
  """
  if not judged[0].baseline.better:
    return [[] for _ in judged]
  first = [
    dataclasses.replace(_claims(one, margin)[0], id=str(number))
    for number, one in enumerate(judged)
  ]
  evidence = {str(number): _evidence(one) for number, one in enumerate(judged)}
  main = claims.judge_family(first, evidence, {}, "laptop")
  found = []
  for one, verdict in zip(judged, main, strict=True):
    made = _claims(one, margin)
    others = [
      Verdict(
        c, claims.judge(verdict.evidence, c, True, verdict.level), verdict.level, verdict.evidence
      )
      for c in made[1:]
    ]
    found.append([dataclasses.replace(verdict, claim=made[0]), *others])
  return found


def _evidence(one: _Judgement):
  """Level -> the interval of "better by"."""
  return lambda level: [_oriented(one.interval(level), one.baseline)]


def _oriented(interval: Interval, of: Findings) -> Interval:
  """Turned so that positive is better."""
  if of.better >= 0:
    return interval
  return dataclasses.replace(
    interval, estimate=-interval.estimate, low=-interval.high, high=-interval.low
  )


def _pair(one: _Judgement, verdicts: list[Verdict], margin: float | None) -> Pair:
  level = verdicts[0].level if verdicts else LEVEL
  crossed_design = one.by == "crossed"
  two = one.two
  fixed = one.interval(LEVEL) if crossed_design else comparison.difference(two, LEVEL)
  anytime = None if crossed_design else _anytime(two, LEVEL)
  if anytime and not math.isfinite(anytime.low):
    anytime = None
  better = None if crossed_design else comparison.probability_better(_turned(one), LEVEL)
  settled = not verdicts or any(verdict.outcome != "open" for verdict in verdicts[:2])
  return Pair(
    baseline=one.baseline,
    variant=one.variant,
    two=two,
    judged_by=one.by,
    verdicts=verdicts,
    judged=one.interval(level),
    fixed=fixed,
    anytime=anytime,
    better=better,
    without_diverged=None if crossed_design else _without_diverged(one),
    more=None if settled or crossed_design else _more(one, margin, level),
    notes=one.notes,
  )


def _turned(one: _Judgement) -> TwoSweeps:
  """Higher is better, as `stats.comparison` takes it."""
  if one.baseline.better >= 0:
    return one.two
  return dataclasses.replace(one.two, a_R=-one.two.a_R, b_S=-one.two.b_S)


def _without_diverged(one: _Judgement) -> Contrast | None:
  sweeps = (one.variant, one.baseline)
  if not any(len(sweep.columns) > 1 for sweep in sweeps):
    return None
  if any(sweep.failed_R.all() for sweep in sweeps):
    return None
  columns = [sweep.columns[-1] for sweep in sweeps]
  values = [(column.values, column.runs) for column in columns]
  if any(len(column.values) < 2 for column in columns):
    return None
  try:
    two = comparison.align(*values[0], *values[1], one.two.paired)
  except ValueError:  # no pair is left
    return None
  return comparison.difference(two, LEVEL)


def _more(one: _Judgement, margin: float | None, level: float) -> int | None:
  """Further runs a sweep after which the interval settles it four times in five.

  If the difference and the sds are those seen so far, by the anytime-valid interval: runs
  beyond a planned number are judged by it. With a margin: settles it or shows the two
  equal, whichever takes fewer. None where more than planning.MOST_RUNS are needed.
  """
  two = one.two
  n = min(len(two.a_R), len(two.b_S))
  if n < _PILOT:
    return None
  difference = abs(comparison.difference(two).estimate)
  if two.paired:
    sd = (two.a_R - two.b_S).std(ddof=1)
  else:
    sd = math.sqrt(two.a_R.var(ddof=1) + two.b_S.var(ddof=1))
  goals = [difference] + ([margin - difference] if margin and margin > difference else [])
  needed = [_runs_to_settle(goal, float(sd), level) for goal in goals]
  found = [runs for runs in needed if runs is not None]
  return max(min(found) - n, 1) if found else None


def _runs_to_settle(distance: float, sd: float, level: float) -> int | None:
  """Runs (pairs) until the limit nearer to the edge, `distance` away, is clear of it."""
  if not distance > 0 or not sd > 0:
    return None
  slack = float(scipy.stats.norm.ppf(_POWER))
  n = sequential.BURN_IN
  while n < planning.MOST_RUNS:
    margin = sequential.mixture_margin(n, 1 - level, sequential.TARGET)
    if (float(margin) + slack / math.sqrt(n)) * sd <= distance:
      return n
    n = math.ceil(n * 1.05)
  return None


def differing(recorded: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[Any]]]:
  """Fields that are not the same in all configs (or trainers), in the order of the first."""
  flat = [dict(config.flatten(_values(record))) for record in recorded]
  fields = dict.fromkeys(field for one in flat for field in one)
  return [
    (field, [one.get(field) for one in flat])
    for field in fields
    if any(one.get(field) != flat[0].get(field) for one in flat[1:])
  ]


def _values(record: Mapping[str, Any]) -> dict[str, Any]:
  values = record.get("config") or record.get("trainer") or {}
  return {name: value for name, value in values.items() if name != "seeds"}


def _streams(sweep: Findings) -> str:
  return ", ".join(sweep.vary) if sweep.vary else "something unknown"
