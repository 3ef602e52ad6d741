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
import scipy.special
import scipy.stats
from numpy.typing import ArrayLike

from seedlab.stats.single import (
  Interval,
  finite_values,
  jackknife_interval,
  log_variances,
  several_jackknives,
  upper_tail,
)

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


def align(
  values_R: ArrayLike,
  runs_R: ArrayLike,
  values_S: ArrayLike,
  runs_S: ArrayLike,
  paired: bool | None = None,
) -> TwoSweeps:
  """Pairs sweep A, float[R] with run numbers int[R], with sweep B, float[S] and int[S].

  By design, never by outcome: with two or more shared run numbers the comparison is
  paired and rests on the intersection, in ascending order; otherwise both sweeps are
  used whole. `paired` overrides this, for sweeps whose equal numbers mean nothing, or
  where the few shared ones would waste the others: decide it before looking.

  Values that are not finite and run numbers that repeat raise ValueError.
  """
  a_R, runs_a = _numbered(values_R, runs_R, "A")
  b_S, runs_b = _numbered(values_S, runs_S, "B")
  a_R, b_S = snapped(a_R, b_S)
  shared, at_a, at_b = np.intersect1d(runs_a, runs_b, assume_unique=True, return_indices=True)
  if paired and len(shared) < 2:
    raise ValueError(f"paired needs two shared run numbers; these sweeps share {len(shared)}")
  if paired is False or len(shared) < 2:
    return TwoSweeps(a_R, b_S, False, 0)
  return TwoSweeps(a_R[at_a], b_S[at_b], True, len(a_R) + len(b_S) - 2 * len(shared))


def _numbered(values_R, runs_R, name: str) -> tuple[np.ndarray, np.ndarray]:
  values_R, runs_R = finite_values(values_R), np.asarray(runs_R)
  if runs_R.shape != values_R.shape:
    raise ValueError(f"sweep {name} has {len(values_R)} values but run numbers {runs_R.shape}")
  numbers, counts = np.unique(runs_R, return_counts=True)
  if len(numbers) < len(runs_R):
    raise ValueError(f"run {numbers[counts > 1][0]} occurs more than once in sweep {name}")
  return values_R, runs_R


def snapped(*samples: ArrayLike) -> tuple[np.ndarray, ...]:
  """The samples with one value where some differ by rounding alone, so that these are ties.

  Neighbours in the order of all values count as equal if they are no further apart than 1e-12
  of the larger magnitude; 0.1 + 0.2 is 0.3. The smallest of them stands for all. Infinite
  values are left as they are.
  """
  arrays = [np.asarray(sample, np.float64) for sample in samples]
  distinct, inverse = np.unique(np.concatenate([x.ravel() for x in arrays]), return_inverse=True)
  if len(distinct) < 2:
    return tuple(arrays)
  low, high = distinct[:-1], distinct[1:]
  with np.errstate(invalid="ignore"):
    near = high - low <= ROUNDING * np.maximum(abs(low), abs(high))
  near &= np.isfinite(low) & np.isfinite(high)
  first = np.maximum.accumulate(np.where(np.r_[False, near], 0, np.arange(len(distinct))))
  values = distinct[first][inverse]
  parts = np.split(values, np.cumsum([x.size for x in arrays])[:-1])
  return tuple(part.reshape(x.shape) for part, x in zip(parts, arrays, strict=True))


def difference(two: TwoSweeps, level: float = 0.95) -> Contrast:
  """mean A - mean B, two-sided, in the unit of the values.

  Paired: Student's t on the differences d_i = a_i - b_i, sd(d) / sqrt(n), n - 1 degrees of
  freedom. Otherwise Welch's t (1947), sqrt(s_A^2/R + s_B^2/S) with Satterthwaite's degrees
  of freedom. Exact for normal differences (paired), else approximate.

  Where a sweep has one run, or nothing varies, there is no interval and no p (nan):
  without spread a difference cannot be judged, however large.
  """
  estimate, error, df, method = _t_parts(two)
  half = scipy.stats.t.ppf(upper_tail(level), df) * error
  p = 2 * scipy.stats.t.sf(abs(estimate / error), df)
  return _contrast(estimate, estimate - half, estimate + half, p, level, method)


def equivalence(two: TwoSweeps, margin: float, alpha: float = 0.05) -> Contrast:
  """Two one-sided t tests (Schuirmann 1987): is |mean A - mean B| below the margin?

  p is the larger of the one-sided p-values of "difference <= -margin" and "difference
  >= margin"; p < alpha exactly if the interval of level 1 - 2 alpha lies inside
  ±margin. The margin, in the unit of the values, is the caller's to state: without
  one, nothing is equal. Errors, assumptions and nan as in `difference`.
  """
  _check_margin(margin)
  estimate, error, df, method = _t_parts(two)
  half = scipy.stats.t.isf(_check_alpha(alpha), df) * error
  p = scipy.stats.t.sf((margin - abs(estimate)) / error, df)
  method = f"two one-sided tests, margin {margin:g}, {method}"
  return _contrast(estimate, estimate - half, estimate + half, p, 1 - 2 * alpha, method)


def _t_parts(two: TwoSweeps) -> tuple[float, float, float, str]:
  """Difference of means, its standard error (nan without spread), degrees of freedom, method."""
  a, b = two.a_R, two.b_S
  if two.paired:
    d = a - b
    error = _sd(d, max(abs(a).max(), abs(b).max())) / math.sqrt(len(d))
    return d.mean(), error or math.nan, len(d) - 1, "paired t"
  scale = max(abs(a).max(), abs(b).max())
  parts = np.array([_sd(x, scale) ** 2 / len(x) for x in (a, b)])
  error = math.sqrt(parts.sum()) or math.nan
  below = np.maximum([len(a) - 1, len(b) - 1], 1)  # a single run is nan already
  return a.mean() - b.mean(), error, error**4 / (parts**2 / below).sum() if error else 1, "Welch t"


def _sd(x: np.ndarray, scale: float) -> float:
  """sd (ddof = 1); nan for one value, 0 where the values differ by rounding alone."""
  if len(x) < 2:
    return math.nan
  return float(x.std(ddof=1)) if np.ptp(x) > 1e-12 * scale else 0.0


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
  their variance from ranks and t limits, cut at 0 and 1. If nothing overlaps (or all
  values are equal) that variance is 0; then the limits of min(R, S) disjoint pairs
  with the same share stand in. One run against one gives 0.025 to 1 at best.
  """
  if two.paired:
    wins = _wins(two.a_R, two.b_S)
    return _binomial(wins.sum(), len(wins), level, "exact binomial, ties half")
  share, error, df = _brunner_munzel(two.a_R, two.b_S)
  if not error > 0:
    pairs = min(len(two.a_R), len(two.b_S))
    return _binomial(share * pairs, pairs, level, "exact binomial on disjoint pairs")
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
