"""Two sweeps by other methods: shown on request beside what carries a verdict, and carrying none.

Higher values are better throughout. Values nearer to each other than 1e-12 of the larger one
are equal (`comparison.snapped`): rounding wins nothing. Intervals speak of new seeds on this test
set; only `multibootstrap` speaks of new examples as well.
"""

import dataclasses
import math

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike

from seedlab.stats.comparison import ROUNDING, Contrast, TwoSweeps, snapped
from seedlab.stats.single import Interval, finite_values, upper_tail

FEW = 5  # runs or pairs below which bootstraps of an order conclude nothing


@dataclasses.dataclass(frozen=True)
class Bouthillier:
  """The rule's numbers and its conclusion; a description, not the library's verdict."""

  probability: float
  low: float
  high: float
  conclusion: str  # "too few pairs", "not significant", "not meaningful" or "A is better"
  pairs: int


def bouthillier(
  two: TwoSweeps,
  rng: np.random.Generator,
  gamma: float = 0.75,
  level: float = 0.95,
  draws: int = 10_000,
) -> Bouthillier:
  """The rule of Bouthillier et al., MLSys 2021 (arXiv 2103.03098), for P(A > B), ties half.

  Percentile bootstrap over pairs: low <= 1/2 is "not significant"; else high <= gamma
  is "not meaningful"; else "A is better": both limits must lie strictly above what they are
  held against. The paper leaves ties open. Unpaired sweeps are paired in the order given,
  as far as the shorter one goes.

  A bootstrap of equal outcomes is degenerate: ten wins in ten give 1 to 1 here,
  while `probability_better` gives 0.69 to 1. Below 5 pairs all are won by chance too often
  (one in eight times of 3), and nothing is concluded: nan limits, "too few pairs".
  """
  n = min(len(two.a_R), len(two.b_S))
  a, b = snapped(two.a_R[:n], two.b_S[:n])
  wins = (1 + np.sign(a - b)) / 2
  if n < FEW:
    return Bouthillier(float(wins.mean()), math.nan, math.nan, "too few pairs", n)
  counts = [np.count_nonzero(wins == outcome) / n for outcome in (1, 0.5, 0)]
  drawn = rng.multinomial(n, counts, draws) @ [1, 0.5, 0] / n
  upper = upper_tail(level)
  low, high = np.quantile(drawn, [1 - upper, upper])
  conclusion = "A is better" if high > gamma else "not meaningful"
  conclusion = conclusion if low > 0.5 else "not significant"
  return Bouthillier(float(wins.mean()), float(low), float(high), conclusion, n)


def permutation_p(two: TwoSweeps, rng: np.random.Generator, draws: int = 9999) -> float:
  """Two-sided permutation p-value of mean A - mean B (Fisher 1935; scipy's `permutation_test`).

  Null: A and B have the same distribution (unpaired: labels are exchangeable; paired:
  the two values of a pair are), which is more than equal means. Exact where there are
  no more than `draws` rearrangements, else (1 + #{as extreme}) / (1 + draws), two-sided
  by doubling. Equal values give 1; a sweep of one run, nan.
  """
  if min(len(two.a_R), len(two.b_S)) < 2:
    return math.nan
  kind = "samples" if two.paired else "independent"
  test = scipy.stats.permutation_test(
    snapped(two.a_R, two.b_S),
    lambda a, b, axis: a.mean(axis) - b.mean(axis),
    permutation_type=kind,
    vectorized=True,
    n_resamples=draws,
    batch=_batch(len(two.a_R) + len(two.b_S)),
    rng=rng,
  )
  return float(test.pvalue)


def bootstrap_difference(
  two: TwoSweeps, rng: np.random.Generator, level: float = 0.95, draws: int = 9999
) -> Interval:
  """mean A - mean B with the BCa bootstrap interval (Efron 1987; scipy's `bootstrap`).

  Resamples pairs, or each sweep alone. Too short for few runs (see the table of
  coverages): `difference` is the interval to quote. nan below 2 runs and without spread.
  """
  a, b = snapped(two.a_R, two.b_S)
  estimate = a.mean() - b.mean()
  method = f"BCa bootstrap, {'pairs' if two.paired else 'each sweep'}"
  upper_tail(level)
  data = (a - b,) if two.paired else (a, b)
  spread = max(np.ptp(values) for values in data)
  if min(len(a), len(b)) < 2 or spread <= ROUNDING * max(abs(a).max(), abs(b).max()):
    return Interval(float(estimate), math.nan, math.nan, level, method)
  result = scipy.stats.bootstrap(
    data,
    _mean if two.paired else lambda a, b, axis: a.mean(axis) - b.mean(axis),
    vectorized=True,
    n_resamples=draws,
    batch=_batch(len(two.a_R) + len(two.b_S)),
    confidence_level=level,
    rng=rng,
  )
  low, high = map(float, result.confidence_interval)
  return Interval(float(estimate), low, high, level, method)


def _mean(values, axis):
  return values.mean(axis)


def _batch(n: int) -> int:
  return max(1, 4_000_000 // n)


def multibootstrap(
  values_RxE: ArrayLike,
  values_SxE: ArrayLike,
  paired: bool,
  rng: np.random.Generator,
  level: float = 0.95,
  draws: int = 1000,
) -> Contrast:
  """mean A - mean B for new seeds *and* new examples (Sellam et al., ICLR 2022, section 3).

  Each draw resamples the runs (the same ones in both sweeps if paired, so R = S and row
  i of both is the same run) and, once for both sweeps, the examples, and takes the
  difference of the means. Limits are quantiles of the draws; p is twice the smaller
  share of draws on either side of 0 (those of 0 up to rounding on both), (1 + count) /
  (1 + draws), at most 1.

  Args:
    values_RxE, values_SxE: for each run and example of one test set, its score,
      such as 1 for right and 0 for wrong.

  Costs two products of (R + S) x E with E x draws. A percentile bootstrap: too short
  for few runs. nan limits if there is one run or one example.
  """
  a, b = np.asarray(values_RxE), np.asarray(values_SxE)
  if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or (paired and len(a) != len(b)):
    raise ValueError(f"values must share examples, and runs if paired: {a.shape}, {b.shape}")
  estimate, method = a.mean() - b.mean(), f"multibootstrap, seeds {'' if paired else 'un'}paired"
  if min(len(a), len(b), a.shape[1]) < 2:
    return Contrast(float(estimate), math.nan, math.nan, math.nan, level, method)
  examples_ExD = _resample(a.shape[1], draws, rng)
  runs_RxD = _resample(len(a), draws, rng)
  runs_SxD = runs_RxD if paired else _resample(len(b), draws, rng)
  drawn_D = _weighted(a, runs_RxD, examples_ExD) - _weighted(b, runs_SxD, examples_ExD)
  if not np.isfinite(drawn_D).all():
    raise ValueError("values of runs and examples must be finite")
  upper = upper_tail(level)
  low, high = np.quantile(drawn_D, [1 - upper, upper])
  zero = ROUNDING * max(abs(a).max(), abs(b).max())
  sides = min(np.count_nonzero(drawn_D <= zero), np.count_nonzero(drawn_D >= -zero))
  p = min(1.0, 2 * (1 + sides) / (1 + draws))
  return Contrast(float(estimate), float(low), float(high), p, level, method)


def _weighted(values_RxE, runs_RxD, examples_ExD) -> np.ndarray:
  """sum_re runs[r, d] values[r, e] examples[e, d], a few rows at a time to bound the memory."""
  rows = _batch(values_RxE.shape[1])
  return sum(
    (runs_RxD[i : i + rows] * (values_RxE[i : i + rows] @ examples_ExD)).sum(0)
    for i in range(0, len(values_RxE), rows)
  )


def _resample(n: int, draws: int, rng: np.random.Generator) -> np.ndarray:
  """float[n, draws]: the share each of n gets in a resample of n with replacement."""
  return rng.multinomial(n, np.full(n, 1 / n), draws).T / n


def cliffs_delta(a_R: ArrayLike, b_S: ArrayLike) -> float:
  """P(A > B) - P(A < B) over all R S cross pairs (Cliff 1993): -1 to 1, ties count 0.

  An effect size that forgets pairing; for a test see `probability_better`.
  """
  a, b = snapped(finite_values(a_R), finite_values(b_S))
  n, m = len(a), len(b)
  beaten = scipy.stats.rankdata(np.concatenate([a, b]))[:n].sum() - n * (n + 1) / 2
  return float(2 * beaten / (n * m) - 1)


@dataclasses.dataclass(frozen=True)
class StochasticOrder:
  """Almost stochastic order of A over B; nan where it says nothing."""

  violation: float  # 0: A dominates; 1: B dominates; 1/2: neither; nan: all values are the same
  upper: float  # upper limit of the violation at `level`; A is better if below the threshold
  level: float


def almost_stochastic_order(
  two: TwoSweeps, rng: np.random.Generator, level: float = 0.95, draws: int = 1000
) -> StochasticOrder:
  """Share of A's quantile function that lies below B's (del Barrio et al. 2018; Dror et al. 2019).

    ε = ∫_{F⁻¹ < G⁻¹} (F⁻¹ - G⁻¹)² dt / ∫ (F⁻¹ - G⁻¹)² dt      F of A, G of B, t in (0, 1)

  exactly for the step functions of the samples. The upper limit is the paper's
  ε_min = ε - sqrt((R+S)/RS) σ Φ⁻¹(1 - level), with σ the bootstrap sd of
  sqrt(RS/(R+S)) (ε* - ε), resampling each sweep alone; ε_min < 1/2 is their criterion.

  Forgets pairing. There is no upper limit (nan) with fewer than 5 runs of either sweep, where
  equal sweeps come out as ordered by luck alone in up to every second comparison (see the table
  of false positives), nor where σ is 0: samples that do not overlap have the same ε in every
  resample, which measures no uncertainty.
  """
  a, b = snapped(two.a_R, two.b_S)
  upper_tail(level)
  violation = float(_violation(a[None], b[None])[0])
  block = _batch(len(a) + len(b)) // 4 + 1
  sizes = [min(block, draws - done) for done in range(0, draws, block)]
  drawn_D = np.concatenate([_drawn_violation(a, b, size, rng) for size in sizes])
  drawn_D = drawn_D[np.isfinite(drawn_D)]  # two equal resamples have none
  few = min(len(a), len(b)) < FEW
  if few or math.isnan(violation) or not np.ptp(drawn_D) > ROUNDING:
    return StochasticOrder(violation, math.nan, level)
  # σ times the root in front of it is the sd of the draws.
  upper = violation + scipy.stats.norm.ppf(level) * drawn_D.std()
  return StochasticOrder(violation, float(min(upper, 1)), level)


def _drawn_violation(a, b, draws: int, rng: np.random.Generator) -> np.ndarray:
  drawn_a, drawn_b = (x[rng.integers(len(x), size=(draws, len(x)))] for x in (a, b))
  return _violation(drawn_a, drawn_b)


def _violation(a_DxR: np.ndarray, b_DxS: np.ndarray) -> np.ndarray:
  """ε of each row: quantile functions are constant between the levels i/R and j/S."""
  n, m = a_DxR.shape[1], b_DxS.shape[1]
  ends = np.unique(np.concatenate([np.arange(1, n + 1) * m, np.arange(1, m + 1) * n]))
  widths, starts = np.diff(ends, prepend=0), np.concatenate([[0], ends[:-1]])
  gaps = np.sort(a_DxR)[:, starts // m] - np.sort(b_DxS)[:, starts // n]
  with np.errstate(invalid="ignore"):
    return (np.minimum(gaps, 0) ** 2 @ widths) / (gaps**2 @ widths)


@dataclasses.dataclass(frozen=True)
class McNemar:
  """Two single runs on the same examples."""

  only_a: int  # examples only A gets right
  only_b: int
  p_value: float


def mcnemar(correct_a_E: ArrayLike, correct_b_E: ArrayLike) -> McNemar:
  """Exact two-sided McNemar test (1947) of two runs' bool[E] on one test set.

  Binomial(only_a + only_b, 1/2). It speaks of new examples for *these two runs*, and
  says nothing of other seeds: two seeds of one config differ significantly as soon as
  the test set is large. No discordant example: p = 1.
  """
  a, b = np.asarray(correct_a_E, bool), np.asarray(correct_b_E, bool)
  if a.shape != b.shape or a.ndim != 1:
    raise ValueError(f"both runs need one value an example: {a.shape}, {b.shape}")
  only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
  p = scipy.stats.binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
  return McNemar(only_a, only_b, float(p))
