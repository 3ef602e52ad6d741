"""Two sweeps on one metric: is A better than B, by how much, and how often?

Higher values are better throughout; of a loss, exchange A and B. `align` decides
from the run numbers alone whether the sweeps are paired, and every other function
takes what it returns. Other methods, without a verdict, are in `beside`.

Intervals speak of new seeds, for independent runs (paired: independent pairs) on
this test set.
"""

import dataclasses
import math

import numpy as np
import scipy.optimize
import scipy.special
import scipy.stats
from numpy.typing import ArrayLike

from seedlab.stats import sequential
from seedlab.stats.single import (
  Interval,
  finite_values,
  jackknife_interval,
  log_variances,
  several_jackknives,
  upper_tail,
)

ANYTIME_FROM = 5  # runs of each of two independent sweeps before the anytime t speaks
ROUNDING = 1e-12  # of the larger one: values nearer to each other are equal


@dataclasses.dataclass(frozen=True)
class TwoSweeps:
  """Values to compare. Paired: a_R[i] and b_S[i] are the same run number."""

  a_R: np.ndarray
  b_S: np.ndarray
  paired: bool
  left_out: int  # runs of either sweep without a partner, not used because paired


@dataclasses.dataclass(frozen=True)
class Contrast:
  """An estimate of A against B with interval and p-value; nan where undefined."""

  estimate: float
  low: float
  high: float
  p_value: float
  level: float  # nominal coverage of low..high
  method: str


@dataclasses.dataclass(frozen=True)
class Spread:
  """What is known of the sd of a single run from elsewhere, in the unit of the values."""

  sd: float
  df: float  # infinite where it is stated as known; of a floor learnt from n runs n - 1


def align(
  values_R: ArrayLike,
  runs_R: ArrayLike,
  values_S: ArrayLike,
  runs_S: ArrayLike,
  paired: bool,
) -> TwoSweeps:
  """Sweep A, float[R] with run numbers int[R], beside sweep B, float[S] and int[S].

  Paired: the runs that both have, in ascending order. Whether runs with one number are pairs is
  decided by the design, before values are read: by the caller. Values that differ by rounding
  alone become equal (`snapped`). Values that are not finite and run numbers that repeat raise
  ValueError, as do pairs of which there are none.
  """
  a_R, runs_a = _numbered(values_R, runs_R, "A")
  b_S, runs_b = _numbered(values_S, runs_S, "B")
  a_R, b_S = snapped(a_R, b_S)
  if not paired:
    return TwoSweeps(a_R, b_S, False, 0)
  shared, at_a, at_b = np.intersect1d(runs_a, runs_b, assume_unique=True, return_indices=True)
  if not len(shared):
    raise ValueError("paired sweeps share no run number")
  return TwoSweeps(a_R[at_a], b_S[at_b], True, len(a_R) + len(b_S) - 2 * len(shared))


def snapped(a_R: ArrayLike, b_S: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
  """The same values, those equal that differ from their neighbour by rounding alone.

  That is by 1e-12 of it, or of the median size if that is larger (differences near 0 carry the
  rounding of what they were taken of). 0.1 + 0.2 and 0.3 are one number, and neither wins against
  the other; a single huge value leaves the others apart. Infinite values stay.
  """
  a_R, b_S = np.asarray(a_R, np.float64), np.asarray(b_S, np.float64)
  levels, which = np.unique(np.concatenate([a_R, b_S]), return_inverse=True)
  finite = levels[np.isfinite(levels)]
  if len(finite) > 1:
    with np.errstate(invalid="ignore"):  # inf - inf
      size = np.maximum(np.maximum(abs(levels[1:]), abs(levels[:-1])), np.median(abs(finite)))
      new = ~(np.diff(levels) <= ROUNDING * np.where(np.isfinite(size), size, 0))
    groups = np.concatenate([[0], np.cumsum(new)])
    levels = levels[np.searchsorted(groups, groups)]  # the lowest of each group
  values = levels[which]
  return values[: len(a_R)], values[len(a_R) :]


def _numbered(values_R, runs_R, name: str) -> tuple[np.ndarray, np.ndarray]:
  values_R, runs_R = finite_values(values_R), np.asarray(runs_R)
  if runs_R.shape != values_R.shape:
    raise ValueError(f"sweep {name} has {len(values_R)} values but run numbers {runs_R.shape}")
  numbers, counts = np.unique(runs_R, return_counts=True)
  if len(numbers) < len(runs_R):
    raise ValueError(f"run {numbers[counts > 1][0]} occurs more than once in sweep {name}")
  return values_R, runs_R


@dataclasses.dataclass(frozen=True)
class MeanDifference:
  """mean A - mean B with all that a t test of it needs; `error` is nan without spread."""

  estimate: float
  error: float
  df: float
  method: str
  parts: tuple[tuple[float, int], ...] = ()  # Cochran-Cox: (share of error^2, df) of each sweep

  def critical(self, tail: float) -> float:
    """t that is exceeded with probability `tail` on one side."""
    if not self.parts:
      return float(scipy.stats.t.isf(tail, self.df))
    return float(sum(share * scipy.stats.t.isf(tail, df) for share, df in self.parts))

  def tail(self, t: float) -> float:
    """Probability of exceeding t on one side; inverts `critical`."""
    if not self.parts or math.isnan(t):
      return float(scipy.stats.t.sf(t, self.df))
    if t < 0:
      return 1 - self.tail(-t)
    ends = [float(scipy.stats.t.sf(t, df)) for _, df in self.parts]
    low, high = min(ends), max(ends)
    if high - low <= 1e-12 * high or low <= 0:
      return high
    root = scipy.optimize.brentq(
      lambda log_tail: self.critical(math.exp(log_tail)) - t,
      math.log(low) - 1e-6,
      math.log(high) + 1e-6,
    )
    return math.exp(root)


def mean_difference(
  two: TwoSweeps, step: float = 0.0, spread: Spread | None = None
) -> MeanDifference:
  """mean A - mean B, its standard error and degrees of freedom.

  Paired: sd of the differences over sqrt(n), n - 1 degrees of freedom (Student). Otherwise
  sqrt(v_A + v_B), v = s^2 / n, with Satterthwaite's (Welch 1947). Where the smaller sweep has fewer
  than 10 runs and the other at least twice as many, Welch's test errs in up to 8 %; then the
  critical value is Cochran & Cox's (1950), (v_A t_A + v_B t_B) / (v_A + v_B). With a `spread`
  known from elsewhere runs are not paired: s^2 is the mean of its variance and of both sweeps',
  weighted by degrees of freedom, one sd for both (its own alone where it is stated as known).

  Every s^2 has step^2 / 12 added, the variance of rounding to the grid that values lie on.
  Where a sweep has one run and no spread is known, or where nothing varies at all, the error is
  nan: without spread a difference cannot be judged, however large.
  """
  a, b = two.a_R, two.b_S
  scale = max(abs(a).max(), abs(b).max())
  estimate = float(a.mean() - b.mean())
  if spread:
    return _with_spread(two, estimate, scale, step, spread)
  if two.paired:
    own = _variance(a - b, scale)
    error = math.sqrt((own + step**2 / 12) / len(a)) if own else math.nan
    return MeanDifference(estimate, error, max(len(a) - 1, 1), "paired t")
  own = np.array([_variance(x, scale) for x in (a, b)])
  if not own.sum() > 0:  # nan or 0
    return MeanDifference(estimate, math.nan, 1, "Welch t")
  parts = (own + step**2 / 12) / [len(a), len(b)]
  total = parts.sum()
  below = [len(a) - 1, len(b) - 1]
  if lopsided(len(a), len(b)):
    shares = tuple((float(part / total), df) for part, df in zip(parts, below, strict=True))
    return MeanDifference(estimate, math.sqrt(total), min(below), "Cochran-Cox t", shares)
  df = float(total**2 / (parts**2 / below).sum())
  return MeanDifference(estimate, math.sqrt(total), df, "Welch t")


def lopsided(*sizes: int) -> bool:
  """Whether Welch's test errs too often with two sweeps of these numbers of runs."""
  return len(sizes) == 2 and min(sizes) < 10 and 2 * min(sizes) <= max(sizes)


def _with_spread(two, estimate, scale, step, spread: Spread) -> MeanDifference:
  sizes = np.array([len(two.a_R), len(two.b_S)])
  if math.isinf(spread.df):
    variance, df, method = spread.sd**2, math.inf, f"known sd {spread.sd:g}"
  else:
    variances = [_variance(x, scale) if len(x) > 1 else 0.0 for x in (two.a_R, two.b_S)]
    df = float(spread.df + sizes.sum() - 2)
    pooled = (spread.df * spread.sd**2 + (sizes - 1) @ variances) / df
    variance, method = pooled + step**2 / 12, "t with the floor's spread"
  error = math.sqrt(variance * (1 / sizes).sum())
  return MeanDifference(estimate, error or math.nan, df, method)


def spread_misfit(two: TwoSweeps, spread: Spread) -> tuple[float, float]:
  """The sd that the runs show themselves over that of `spread`, and the p of its F test.

  Two-sided, pooled over both sweeps, for normal values; (nan, 1) where they show none.
  """
  df = len(two.a_R) + len(two.b_S) - 2
  squares = sum(float(((x - x.mean()) ** 2).sum()) for x in (two.a_R, two.b_S))
  if df < 1 or not squares > 0:
    return math.nan, 1.0
  ratio = squares / df / spread.sd**2
  known = math.isinf(spread.df)
  law = scipy.stats.chi2(df, scale=1 / df) if known else scipy.stats.f(df, spread.df)
  return math.sqrt(ratio), 2 * min(float(law.sf(ratio)), float(law.cdf(ratio)))


def difference(
  two: TwoSweeps, level: float = 0.95, step: float = 0.0, spread: Spread | None = None
) -> Contrast:
  """mean A - mean B, two-sided, in the unit of the values; see `mean_difference`.

  Exact for normal differences (paired, or a known spread), else approximate. nan limits and p
  where there is no spread to judge by.
  """
  m = mean_difference(two, step, spread)
  half = m.critical(1 - upper_tail(level)) * m.error
  p = min(1.0, 2 * m.tail(abs(m.estimate / m.error))) if m.error > 0 else math.nan
  return _contrast(m.estimate, m.estimate - half, m.estimate + half, p, level, m.method)


def equivalence(
  two: TwoSweeps,
  margin: float,
  alpha: float = 0.05,
  step: float = 0.0,
  spread: Spread | None = None,
) -> Contrast:
  """Two one-sided t tests (Schuirmann 1987): is |mean A - mean B| below the margin?

  p is the larger of the one-sided p-values of "difference <= -margin" and "difference
  >= margin"; p < alpha exactly if the interval of level 1 - 2 alpha lies inside
  ±margin. The margin, in the unit of the values, is the caller's to state: without
  one, nothing is equal. Errors, assumptions and nan as in `difference`.
  """
  _check_margin(margin)
  m = mean_difference(two, step, spread)
  half = m.critical(_check_alpha(alpha)) * m.error
  p = m.tail((margin - abs(m.estimate)) / m.error) if m.error > 0 else math.nan
  method = f"two one-sided tests, margin {margin:g}, {m.method}"
  return _contrast(m.estimate, m.estimate - half, m.estimate + half, p, 1 - 2 * alpha, method)


def anytime_difference(
  two: TwoSweeps, level: float = 0.95, step: float = 0.0, spread: Spread | None = None
) -> Contrast:
  """mean A - mean B with an interval and p that hold however often one looked (`anytime_t`).

  Two independent sweeps need five runs each, pairs four; below, the limits are infinite. For normal
  values: skewed candidates beside a large baseline err in up to 14 %.
  """
  m = mean_difference(two, step, spread)
  pairs = two.paired and spread is None
  information = (
    5 * len(two.a_R) if pairs else 10 / (1 / len(two.a_R) + 1 / len(two.b_S))
  )
  few = not pairs and min(len(two.a_R), len(two.b_S)) < ANYTIME_FROM
  method = "anytime t" + f", {m.method}" * (m.method not in ("paired t", "Welch t"))
  if math.isnan(m.error) or few:
    return _contrast(m.estimate, -math.inf, math.inf, 1.0, level, method)
  limits = sequential.anytime_t(m.estimate, m.error, m.df, information, level)
  p = sequential.anytime_p(m.estimate / m.error, m.df, information)
  return _contrast(m.estimate, limits.low, limits.high, p, level, method)


def _variance(x: np.ndarray, scale: float) -> float:
  """s^2 (ddof = 1); nan for one value, 0 where values differ by rounding alone."""
  if len(x) < 2:
    return math.nan
  return float(x.var(ddof=1)) if np.ptp(x) > ROUNDING * scale else 0.0


def _contrast(estimate, low, high, p_value, level, method) -> Contrast:
  return Contrast(float(estimate), float(low), float(high), float(p_value), level, method)


def _check_margin(margin: float) -> None:
  if not 0 < margin < math.inf:
    raise ValueError(f"margin must be a positive number in the unit of the values, not {margin}")


def _check_alpha(alpha: float) -> float:
  if not 0 < alpha < 0.5:
    raise ValueError(f"alpha must lie between 0 and 0.5, such as 0.05, not {alpha}")
  return alpha


def probability_better(two: TwoSweeps, level: float = 0.95) -> Contrast:
  """P(A > B) + P(A = B) / 2 for a new seed, against 1/2.

  Paired: w of n pairs won, ties half; Clopper & Pearson's interval (1934), quantiles of
  Beta(w, n - w + 1) and Beta(w + 1, n - w), and the two-sided binomial p that belongs to it.
  With whole w it is exact, so never short; ties only make it longer than needed. Ten
  wins in ten: 0.69 to 1.

  Otherwise Brunner & Munzel (2000): the share of the R S cross pairs that A wins, with
  their variance from ranks and t limits, cut at 0 and 1. Where hardly anything overlaps (or all
  values are equal) that variance is 0 or far too small: so if the share is less than one of
  min(R, S) disjoint pairs away from 0 or 1, and these are fewer than 10, the limits of such pairs
  with the same share stand in. One run against one gives 0.025 to 1 at best.
  """
  if two.paired:
    wins = _wins(two.a_R, two.b_S)
    return _binomial(wins.sum(), len(wins), level, "exact binomial, ties half")
  share, error, df = _brunner_munzel(two.a_R, two.b_S)
  pairs = min(len(two.a_R), len(two.b_S))
  exact = _binomial(share * pairs, pairs, level, "exact binomial on disjoint pairs")
  apart = pairs < 10 and min(share, 1 - share) * pairs < 1
  if not error > 0 or apart:
    return exact
  half = scipy.stats.t.ppf(upper_tail(level), df) * error
  p = 2 * scipy.stats.t.sf(abs(share - 0.5) / error, df)
  low, high = max(share - half, 0), min(share + half, 1)
  return _contrast(share, low, high, p, level, "Brunner-Munzel")


def _wins(a, b) -> np.ndarray:
  return (a > b) + 0.5 * (a == b)


def _binomial(wins: float, n: int, level: float, method: str) -> Contrast:
  upper = upper_tail(level)
  low = scipy.stats.beta.ppf(1 - upper, wins, n - wins + 1) if wins > 0 else 0.0
  high = scipy.stats.beta.ppf(upper, wins + 1, n - wins) if wins < n else 1.0
  # P(Bin(n, 1/2) >= w) and P(Bin(n, 1/2) <= w), continued to half wins.
  above = scipy.special.betainc(wins, n - wins + 1, 0.5) if wins > 0 else 1.0
  below = scipy.special.betaincc(wins + 1, n - wins, 0.5) if wins < n else 1.0
  return _contrast(wins / n, low, high, min(1.0, 2 * min(above, below)), level, method)


def _brunner_munzel(a, b) -> tuple[float, float, float]:
  """Share of cross pairs a wins, its standard error, degrees of freedom."""
  n, m = len(a), len(b)
  ranks = scipy.stats.rankdata(np.concatenate([a, b]))
  beaten_R = (ranks[:n] - scipy.stats.rankdata(a)) / m  # share of b each a beats
  beating_S = (ranks[n:] - scipy.stats.rankdata(b)) / n
  share = beaten_R.mean()
  if min(n, m) < 2:
    return share, 0.0, 1.0
  parts = np.array([beaten_R.var(ddof=1) / n, beating_S.var(ddof=1) / m])
  if parts.sum() < 1e-24:
    return share, 0.0, 1.0
  df = parts.sum() ** 2 / (parts**2 / np.array([n - 1, m - 1])).sum()
  return share, math.sqrt(parts.sum()), df


def sd_ratio(two: TwoSweeps, level: float = 0.95) -> Interval:
  """sd A / sd B by run jackknife on the log of the ratio of variances.

  Paired (two metrics of one sweep are, too: give both the same run numbers): leaves
  run m out of both at once. Otherwise each sweep's jackknife gives its own bias and
  standard error; the squares add, with Satterthwaite's degrees of freedom.

  Assumes independent runs (pairs) with four moments, not normal ones. nan limits
  below 3 runs, and where all values, or all but one, of a sweep are equal.
  """
  (a, a_R), (b, b_S) = log_variances(two.a_R), log_variances(two.b_S)
  with np.errstate(invalid="ignore"):
    theta = a - b  # nan if no sweep varies
    separate = [a_R - b, a - b_S]
  if two.paired:
    finite = np.isfinite(a_R).all() and np.isfinite(b_S).all()
    limits = jackknife_interval(theta, a_R - b_S, level) if finite else (math.nan, math.nan)
    method = "paired jackknife of log variance ratio"
  else:
    limits = several_jackknives(theta, separate, level)
    method = "two jackknives of log variance"
  low, high = np.exp(np.array(limits) / 2)
  return Interval(float(np.exp(theta / 2)), float(low), float(high), level, method)
