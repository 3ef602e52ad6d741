"""Two sweeps on one metric: is A better than B, by how much, and how often?

Higher values are better throughout; of a loss, exchange A and B. `align` decides
from the run numbers alone whether the sweeps are paired, and every other function
takes what it returns. `difference`, `probability_better`, `equivalence` and `sd_ratio`
may carry a verdict; the rest is shown on request.

Intervals speak of new seeds, for independent runs (paired: independent pairs) on
this test set; only `multibootstrap` speaks of new examples as well.
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
_ROUNDING = 1e-12  # of the largest value: values nearer to each other are equal


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
      new = ~(np.diff(levels) <= _ROUNDING * np.where(np.isfinite(size), size, 0))
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
  return float(x.var(ddof=1)) if np.ptp(x) > _ROUNDING * scale else 0.0


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


@dataclasses.dataclass(frozen=True)
class Bouthillier:
  """The rule's numbers and its conclusion; a description, not the library's verdict."""

  probability: float
  low: float
  high: float
  conclusion: str  # "not significant", "not meaningful" or "A is better"
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
  is "not meaningful"; else "A is better". The paper leaves ties open. Unpaired sweeps
  are paired in the order given, as far as the shorter one goes.

  A bootstrap of equal outcomes is degenerate: ten wins in ten give 1 to 1 here,
  while `probability_better` gives 0.69 to 1.
  """
  n = min(len(two.a_R), len(two.b_S))
  wins = _wins(two.a_R[:n], two.b_S[:n])
  counts = [np.count_nonzero(wins == outcome) / n for outcome in (1, 0.5, 0)]
  drawn = rng.multinomial(n, counts, draws) @ [1, 0.5, 0] / n
  upper = upper_tail(level)
  low, high = np.quantile(drawn, [1 - upper, upper])
  conclusion = "A is better" if high > gamma else "not meaningful"
  conclusion = conclusion if low > 0.5 else "not significant"
  return Bouthillier(float(wins.mean()), float(low), float(high), conclusion, n)


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


# On request: shown beside, without a verdict.


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
    (two.a_R, two.b_S),
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
  found = mean_difference(two)
  estimate, error = found.estimate, found.error
  method = f"BCa bootstrap, {'pairs' if two.paired else 'each sweep'}"
  upper_tail(level)
  if math.isnan(error):
    return Interval(float(estimate), math.nan, math.nan, level, method)
  data = (two.a_R - two.b_S,) if two.paired else (two.a_R, two.b_S)
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
  share of draws on either side of 0, (1 + count) / (1 + draws), at most 1.

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
    return _contrast(estimate, math.nan, math.nan, math.nan, level, method)
  examples_ExD = _resample(a.shape[1], draws, rng)
  runs_RxD = _resample(len(a), draws, rng)
  runs_SxD = runs_RxD if paired else _resample(len(b), draws, rng)
  drawn_D = _weighted(a, runs_RxD, examples_ExD) - _weighted(b, runs_SxD, examples_ExD)
  if not np.isfinite(drawn_D).all():
    raise ValueError("values of runs and examples must be finite")
  upper = upper_tail(level)
  low, high = np.quantile(drawn_D, [1 - upper, upper])
  sides = min(np.count_nonzero(drawn_D <= 0), np.count_nonzero(drawn_D >= 0))
  return _contrast(estimate, low, high, min(1, 2 * (1 + sides) / (1 + draws)), level, method)


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
  share, _, _ = _brunner_munzel(finite_values(a_R), finite_values(b_S))
  return float(2 * share - 1)


@dataclasses.dataclass(frozen=True)
class StochasticOrder:
  """Almost stochastic order of A over B; nan if A and B have the same values."""

  violation: float  # 0: A dominates; 1: B dominates; 1/2: neither
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

  Forgets pairing. σ is 0 for samples far apart and unstable for few runs: from a
  handful of seeds ε_min errs (see the table of false positives).
  """
  a, b = two.a_R, two.b_S
  upper_tail(level)
  violation = float(_violation(a[None], b[None])[0])
  block = _batch(len(a) + len(b)) // 4 + 1
  sizes = [min(block, draws - done) for done in range(0, draws, block)]
  drawn_D = np.concatenate([_drawn_violation(a, b, size, rng) for size in sizes])
  drawn_D = drawn_D[np.isfinite(drawn_D)]  # two equal resamples have none
  if math.isnan(violation):
    return StochasticOrder(math.nan, math.nan, level)
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
