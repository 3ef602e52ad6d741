"""How one sweep is judged against another: pairs by design, looks, p-values, verdicts of a family.

What judges is chosen by design, before values are read:

  fixed     a finished table: one test at its own number of runs
  route     a sweep with a recorded plan: a look at the plan, then at doublings (stats.route)
  looked    runs were added until it looked good, or by a stopping rule: the anytime t
  crossed   runs that share seeds: the jackknife over the levels of the design

Means are compared where every run of the look has a value. A run that diverged lost, and of one
that is missing nothing is known: where such runs have no number, a verdict speaks of
P(variant better), diverged runs rank last, and missing ones where they hurt the verdict most.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import scipy.optimize
import scipy.stats

from seedlab.errors import UserError
from seedlab.findings import Findings, counted
from seedlab.stats import comparison, crossed, proposals, route
from seedlab.stats.comparison import Contrast, Spread, TwoSweeps
from seedlab.stats.single import Interval

ALPHA = 0.05  # of all verdicts of a comparison together
_REFUTED = 0.001  # p of the runs' own spread at which a stated one no longer judges
_EXACT = 60  # runs of both up to which the rank sum test counts all arrangements
Kind = Literal["fixed", "route", "looked", "crossed"]
Outcome = Literal["better", "worse", "equal", "open", "unknown direction"]


@dataclasses.dataclass(frozen=True)
class Rules:
  """What was said beforehand, in display units."""

  margin: float | None = None
  paired: bool | None = None  # None: as the design says
  looked: bool = False
  spread: Spread | None = None
  step: float = 0.0  # of the grid that the values lie on


@dataclasses.dataclass(frozen=True)
class Evidence:
  """One look at a pair."""

  kind: Kind
  by_ranks: bool  # P(better) is judged, since runs diverged without a number or are missing
  two: TwoSweeps  # the runs that have a number; the variant is A
  paired: bool
  runs: tuple[int, int]  # of the design at this look, variant and baseline: there, lost or missing
  weight: float  # share of the error budget
  p_value: float  # of no difference, over the weight; 1 where nothing can be said
  p_equal: float  # of a difference of the margin or more, likewise; 1 without a margin
  interval: Callable[[float], Interval]  # level of the whole procedure -> interval at this look


@dataclasses.dataclass(frozen=True)
class Verdict:
  outcome: Outcome
  evidence: Evidence  # the look that settled it, else the latest
  level: float  # 1 less the share of the error rate that this variant was judged at
  judged: Interval  # at that level (equal: 1 - 2 alpha), or P(better) where ranks were judged


def is_paired(baseline: Findings, variant: Findings, paired: bool | None) -> bool:
  """Whether runs with one number are pairs: both designs plan the same numbers, or it was said."""
  of_both = [_planned(sweep) for sweep in (baseline, variant)]
  if not paired:
    seeded = baseline.seeded and variant.seeded
    return paired is None and seeded and set(of_both[0]) == set(of_both[1])
  unseeded = next((sweep for sweep in (baseline, variant) if not sweep.seeded), None)
  if unseeded:
    raise UserError(
      f"paired=True: {unseeded.name} has no seeds, so no run of it belongs to one of the other;"
      " leave it out, or name the column with seed"
    )
  shared = len(np.intersect1d(baseline.design_R, variant.design_R))
  if shared < 2:
    raise UserError(
      f"paired=True: {baseline.name} and {variant.name} share {counted(shared, 'seed')}; pairs need"
      " two or more"
    )
  return True


def _planned(sweep: Findings) -> list[int]:
  """The runs that the design names: of a store its plan, of a table all its seeds."""
  return sweep.design_R[: sweep.planned_n if sweep.dataset is not None else None].tolist()


def outcomes(sweep: Findings) -> np.ndarray:
  """float[planned] in the order of the design: a diverged run without a number is the worst
  infinity (the negative one if the direction is unknown), one of which nothing is known nan."""
  column = sweep.columns[0]
  found = dict(zip(column.runs.tolist(), column.values.tolist(), strict=True))
  lost = -math.inf * (sweep.better or 1)
  found = dict.fromkeys(sweep.run_R.tolist(), lost) | found
  values = [found.get(run, math.nan) for run in sweep.design_R.tolist()]
  unknown = max((sweep.planned_n or 0) - len(values), 0)  # planned, and not even in the table
  return np.array(values + [math.nan] * unknown)


def all_numbers(baseline: Findings, variant: Findings, paired: bool | None) -> TwoSweeps:
  """Every run of both that has a number, those that no look has reached included."""
  two = with_numbers(*_design(baseline, variant, paired))
  if not two.paired:
    return two
  there = sum(int(np.isfinite(outcomes(sweep)).sum()) for sweep in (baseline, variant))
  return dataclasses.replace(two, left_out=there - 2 * len(two.a_R))


def paired_runs(baseline: Findings, variant: Findings) -> np.ndarray:
  """The run numbers of the pairs of `all_numbers`, in its order."""
  numbers = [
    set(sweep.design_R[np.isfinite(outcomes(sweep)[: sweep.planned])].tolist())
    for sweep in (baseline, variant)
  ]
  return np.array([run for run in variant.design_R.tolist() if run in numbers[0] & numbers[1]])


def _design(
  baseline: Findings, variant: Findings, paired: bool | None
) -> tuple[np.ndarray, np.ndarray, bool]:
  """`outcomes` of the variant and of the baseline, matched if they are paired."""
  paired = is_paired(baseline, variant, paired)
  a, b = outcomes(variant), outcomes(baseline)
  return (*_matched(a, variant, b, baseline), True) if paired else (a, b, False)


def evidence(baseline: Findings, variant: Findings, rules: Rules) -> list[Evidence]:
  """Every look that was reached, the latest last."""
  a, b, paired = _design(baseline, variant, rules.paired)
  better = baseline.better
  if rules.looked or any(_stopped(sweep) for sweep in (baseline, variant)):
    return [_look("looked", a, b, paired, 1.0, rules, better)]
  plans = [sweep.planned_n for sweep in (variant, baseline)]
  if not any(plans):
    return [_look("fixed", a, b, paired, 1.0, rules, better)]
  planned_a, planned_b = (plan or len(x) for plan, x in zip(plans, (a, b), strict=True))
  if baseline.dataset is None and len(a) != len(b):
    planned_b = len(b)  # a table's baseline that did not grow with the variant is finished
  if paired:
    planned_a = planned_b = min(planned_a, planned_b, len(a))
  planned_a, planned_b = (_first(plan, rules.spread) for plan in (planned_a, planned_b))
  there_a, there_b = max(_prefix(a), planned_a), max(_prefix(b), planned_b)
  if paired:
    both = min(there_a, there_b)
    reached = route.looks(planned_a, both, both, both)
    reached = [look._replace(runs_b=look.runs_a) for look in reached]
  else:
    reached = route.looks(planned_a, there_a, planned_b, there_b)
  return [
    _look("route", a[: look.runs_a], b[: look.runs_b], paired, look.weight, rules, better)
    for look in reached
  ]


def _first(planned: int, spread: Spread | None) -> int:
  """The number of runs at the first look: one run alone has no spread to judge by."""
  return planned if spread else max(planned, 2)


def _stopped(sweep: Findings) -> bool:
  """Whether the number of runs was decided by looking, or is not known to have been planned."""
  return sweep.dataset is not None and sweep.planned_n is None


def _prefix(values_D: np.ndarray) -> int:
  """Runs of the design before the first that has not been trained."""
  absent = np.isnan(values_D)
  return int(np.argmax(absent)) if absent.any() else len(values_D)


def _matched(a, variant: Findings, b, baseline: Findings) -> tuple[np.ndarray, np.ndarray]:
  """The values of both in the order of the variant's design, of the runs that both designs have."""
  at = {run: row for row, run in enumerate(baseline.design_R.tolist())}
  rows = [(i, at[run]) for i, run in enumerate(variant.design_R.tolist()) if run in at]
  own, other = (np.array(column, int) for column in zip(*rows, strict=True))
  padding = np.full(max(len(a) - len(variant.design_R), 0), math.nan)
  return np.append(a[own], padding), np.append(b[other], padding)


def _look(kind: Kind, a, b, paired: bool, weight: float, rules: Rules, better: int) -> Evidence:
  two = with_numbers(a, b, paired)
  if not (np.isfinite(a).all() and np.isfinite(b).all()):
    return _by_ranks(kind, a, b, two, paired, weight, better)
  runs = len(a), len(b)
  if rules.spread and too_small(two, rules.spread):  # then nothing that rests on it may be said
    estimate = comparison.mean_difference(two).estimate
    silent = Interval(estimate, -math.inf, math.inf, 1 - ALPHA, "refuted spread")
    return Evidence(kind, False, two, paired, runs, weight, 1.0, 1.0, lambda level: silent)
  test = comparison.anytime_difference if kind == "looked" else comparison.difference

  def interval(level: float) -> Interval:
    return plain(test(two, 1 - (1 - level) * weight, rules.step, rules.spread))

  p_value, p_equal = test(two, 1 - ALPHA, rules.step, rules.spread).p_value, 1.0
  if rules.margin and kind == "looked":
    p_equal = _p_inside(interval, rules.margin)
  elif rules.margin:
    equal = comparison.equivalence(two, rules.margin, ALPHA, rules.step, rules.spread)
    p_equal = equal.p_value
  p_value, p_equal = _spent(p_value, weight), _spent(p_equal, weight)
  return Evidence(kind, False, two, paired, runs, weight, p_value, p_equal, interval)


def too_small(two: TwoSweeps, spread: Spread) -> bool:
  """Whether the runs spread more than a stated or learnt sd allows (F test at 1 in 1,000)."""
  ratio, p = comparison.spread_misfit(two, spread)
  return ratio > 1 and p < _REFUTED


def _spent(p_value: float, weight: float) -> float:
  return 1.0 if math.isnan(p_value) else min(p_value / weight, 1.0)


def plain(contrast: Contrast) -> Interval:
  """Without its p-value."""
  return Interval(
    contrast.estimate, contrast.low, contrast.high, contrast.level, contrast.method
  )


def with_numbers(a: np.ndarray, b: np.ndarray, paired: bool) -> TwoSweeps:
  """The runs that have a number; pairs of which both have one, if there are any."""
  there_a, there_b = np.isfinite(a), np.isfinite(b)
  both = there_a & there_b if paired else np.zeros(0, bool)
  if both.any():
    left_out = int(there_a.sum() + there_b.sum() - 2 * both.sum())
    return TwoSweeps(*comparison.snapped(a[both], b[both]), True, left_out)
  return TwoSweeps(*comparison.snapped(a[there_a], b[there_b]), False, 0)


def _by_ranks(kind: Kind, a, b, two, paired: bool, weight: float, better: int) -> Evidence:
  runs = len(a), len(b)
  if kind == "looked" or not better:  # no rank test here forgives looking again
    silent = Interval(math.nan, -math.inf, math.inf, 1 - ALPHA, "ranks")
    return Evidence(kind, True, two, paired, runs, weight, 1.0, 1.0, lambda level: silent)
  a, b = better * a, better * b  # higher is better, and a lost run -inf

  def interval(level: float) -> Interval:
    low, high = (better_by_ranks(a, b, paired, side, 1 - (1 - level) * weight) for side in (-1, 1))
    there_a, there_b = ~np.isnan(a), ~np.isnan(b)
    if paired:
      there_a = there_b = there_a & there_b
    share = better_by_ranks(a[there_a], b[there_b], paired, 1, level).estimate
    if low.estimate > 0.5 or high.estimate < 0.5:  # what is claimed holds in the worst case
      share = low.estimate if low.estimate > 0.5 else high.estimate
    return Interval(share, low.low, high.high, low.level, low.method)

  against, favouring = (better_by_ranks(a, b, paired, side, 1 - ALPHA) for side in (-1, 1))
  p_better = against.p_value if against.estimate > 0.5 else 1.0
  p_worse = favouring.p_value if favouring.estimate < 0.5 else 1.0
  p_value = _spent(min(p_better, p_worse), weight)
  return Evidence(kind, True, two, paired, runs, weight, p_value, 1.0, interval)


def better_by_ranks(a, b, paired: bool, missing: int, level: float) -> Contrast:
  """P(A better), where missing runs speak for A (`missing` 1) or against it (-1).

  Higher is better, -inf a run that diverged. Of two independent sweeps p is that of the rank sum
  test, whose null hypothesis is one distribution for both; the limits of P(A better) are Brunner
  & Munzel's, wider for few runs.
  """
  if not min(len(a), len(b)):
    return Contrast(math.nan, 0.0, 1.0, math.nan, level, "ranks")
  a = np.where(np.isnan(a), missing * math.inf, a)
  b = np.where(np.isnan(b), -missing * math.inf, b)
  two = TwoSweeps(*comparison.snapped(a, b), paired, 0)
  found = comparison.probability_better(two, level)
  if paired or not len(np.unique(np.concatenate([a, b]))) > 1:
    return found
  if len(a) + len(b) <= _EXACT:
    one_sided = (proposals.rank_test(two.a_R, two.b_S), proposals.rank_test(two.b_S, two.a_R))
    p_value = min(1.0, 2 * min(one_sided))
  else:
    p_value = float(scipy.stats.mannwhitneyu(two.a_R, two.b_S, method="asymptotic").pvalue)
  return dataclasses.replace(found, p_value=p_value)


def crossed_evidence(a: np.ndarray, b: np.ndarray, margin: float | None) -> Evidence:
  """Of two crossed designs over the same levels: arrays of the variant's and baseline's values."""

  def interval(level: float) -> Interval:
    return crossed.mean(a - b, level)

  p_value = _p_outside(interval)
  p_equal = _p_inside(interval, margin) if margin else 1.0
  two = TwoSweeps(a.ravel(), b.ravel(), True, 0)
  return Evidence("crossed", False, two, True, (a.size, b.size), 1.0, p_value, p_equal, interval)


def _p_outside(interval: Callable[[float], Interval]) -> float:
  """The smallest alpha at which the interval leaves out 0."""
  return _smallest(lambda alpha: max(interval(1 - alpha).low, -interval(1 - alpha).high))


def _p_inside(interval: Callable[[float], Interval], margin: float) -> float:
  """The smallest alpha at which the interval of level 1 - 2 alpha lies inside ±margin."""

  def slack(alpha: float) -> float:
    found = interval(1 - 2 * alpha)
    return margin - max(abs(found.low), abs(found.high))

  return _smallest(slack, most=0.499)


def _smallest(positive: Callable[[float], float], most: float = 0.999) -> float:
  """Where a rising function of alpha turns positive; 1 where it does not, or is undefined."""
  if not positive(most) > 0:
    return 1.0
  low = 1e-12
  if positive(low) > 0:
    return low
  finite = [low, most]
  while finite[1] / finite[0] > 1 + 1e-9:
    middle = math.sqrt(finite[0] * finite[1])
    finite[positive(middle) > 0] = middle
  return finite[1]


def verdicts(
  looks: Sequence[Sequence[Evidence]], better: int, margin: float | None
) -> list[Verdict]:
  """Of each variant, its looks given: all verdicts of the family err with at most `ALPHA`.

  The p-values of "no difference" and of "a difference of the margin or more" are judged at
  ALPHA / (number of variants not settled yet), Holm's step-down; a variant is settled when all
  its null hypotheses are rejected, and only then do the others gain.
  """
  p_values = [(min(e.p_value for e in found), min(e.p_equal for e in found)) for found in looks]
  levels = _thresholds([max(pair) if margin else pair[0] for pair in p_values])
  judged = []
  for found, (p, p_equal), alpha in zip(looks, p_values, levels, strict=True):
    outcome: Outcome = "open"
    shown, level = found[-1], 1 - alpha
    if not better:
      outcome = "unknown direction"
    elif p <= alpha:
      shown = min(found, key=lambda e: e.p_value)
      outcome = "better" if _sign(shown, better) > 0 else "worse"
    elif p_equal <= alpha:
      shown, outcome = min(found, key=lambda e: e.p_equal), "equal"
      level = 1 - 2 * alpha  # of the interval that two one-sided tests find inside the margin
    judged.append(Verdict(outcome, shown, 1 - alpha, shown.interval(level)))
  return judged


def _sign(one: Evidence, better: int) -> float:
  """Positive if the variant is better by this look."""
  at = one.interval(1 - ALPHA)
  return at.low + at.high - 1 if one.by_ranks else better * at.estimate


def _thresholds(needed: Sequence[float]) -> list[float]:
  """The level each variant is judged at, `needed` the largest p that it must show to be settled."""
  left = list(range(len(needed)))
  levels = [0.0] * len(needed)
  while left:
    alpha = ALPHA / len(left)
    for one in left:
      levels[one] = alpha
    still = [one for one in left if needed[one] > alpha]
    if len(still) == len(left):
      break
    left = still
  return levels
