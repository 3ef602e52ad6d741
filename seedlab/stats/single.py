"""Statistics over runs, on plain NumPy arrays whose axes are R runs and E examples or evaluations.

Every number has a scope. Minimum, maximum and gap are facts about the list of
values; the standard deviation and the interval of the mean speak of a new run,
and only where the runs are independent draws. The variance over runs of an
accuracy belongs to one test set; its distribution-wise part would be seen on
any other sample of examples too.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import scipy.integrate
import scipy.special
import scipy.stats
from numpy.typing import ArrayLike

ROUNDING = 1e-12  # of the largest value: values nearer to each other are equal


@dataclasses.dataclass(frozen=True)
class Summary:
  """One metric over n runs, in the unit of the values. Undefined for one run: nan."""

  n: int
  mean: float
  sd: float  # ddof = 1; nan for one run
  sem: float  # with what a grid hides, sqrt((sd^2 + h^2 / 12) / n); nan for one run
  low: float  # 95 % interval of the mean; nan for one run, and for equal values on no known grid
  high: float
  min: float
  q25: float
  median: float
  q75: float
  max: float
  gap: float  # max - min: describes this list, and grows with n


@dataclasses.dataclass(frozen=True)
class Interval:
  """An estimate with its interval, in the unit of the values; nan where it is undefined."""

  estimate: float
  low: float
  high: float
  level: float  # nominal coverage
  method: str  # how low and high were found, in words


def variance(values_R: ArrayLike, h: float = 0.0) -> float:
  """s² + h² / 12 (ddof = 1): the variance with that of rounding to a grid of step h added.

  Rounding hides spread where it is small beside h; the added term is the variance of a uniform
  error over one step (Sheppard 1898, with the sign that keeps intervals honest). nan for one
  value; 0 where values on no grid are equal up to rounding.
  """
  values_R = finite_values(values_R)
  if len(values_R) < 2:
    return math.nan
  spread = np.ptp(values_R) > ROUNDING * abs(values_R).max()
  return (float(values_R.var(ddof=1)) if spread else 0.0) + h**2 / 12


def summary(values_R: ArrayLike, h: float = 0.0) -> Summary:
  """Location and spread of finite values, float[R], on a grid of step h (0: on none).

  The interval is Student's with `variance`: mean ± t(0.975, R-1) sqrt((sd² + h²/12) / R). It
  covers the mean over all seeds with 95 % for independent runs, exactly if they are normal on no
  grid, approximately by the central limit theorem, and with more on a coarse grid. Quartiles
  interpolate linearly between order statistics (type 7 of Hyndman & Fan 1996).

  One run has no sd, standard error or interval (nan). Equal values (up to rounding) have sd 0;
  on a grid their interval is that of what it hides, on none they have no interval (nan).
  A value that is not finite raises ValueError: what a diverged run counts for is for the
  caller to say.
  """
  values_R = finite_values(values_R)
  n = len(values_R)
  # Differences from one of the values: equal values give exactly 0, not rounding.
  differences_R = values_R - values_R[0]
  mean = values_R[0] + differences_R.mean()
  sd = math.sqrt(variance(values_R)) if n > 1 else math.nan
  sem = math.sqrt(variance(values_R, h) / n) if n > 1 else math.nan
  half = scipy.stats.t.ppf(0.975, n - 1) * sem if sem > 0 else math.nan
  low, q25, median, q75, high = np.quantile(values_R, [0, 0.25, 0.5, 0.75, 1])
  gap = high - low if sd > 0 else 0.0
  numbers = [mean, sd, sem, mean - half, mean + half, low, q25, median, q75, high, gap]
  return Summary(n, *map(float, numbers))


def mean_interval(values_R: ArrayLike, level: float = 0.95, h: float = 0.0) -> Interval:
  """Mean of finite values with the t interval of `summary`, at any level."""
  s = summary(values_R, h)
  half = scipy.stats.t.ppf(upper_tail(level), s.n - 1) * s.sem if s.sem > 0 else math.nan
  return Interval(s.mean, s.mean - half, s.mean + half, level, "t")


def independent_errors_variance(
  errors_E: ArrayLike, runs: int, squares_E: ArrayLike | None = None
) -> float:
  """Variance over runs of the error on E examples if the examples' errors were independent.

    (1/E^2) sum_i Var_h[e_hi]

  with e_hi the error (0 or 1) of run h on example i. The Var of each example
  has ddof = 1, R/(R-1) ε_i (1 - ε_i) at error rate ε_i, and so is unbiased for
  independent runs. The yardstick of Jordan, ICLR 2024 (arXiv 2304.01910), section 3.

  Args:
    errors_E: sum over runs of e_hi, that is the number of runs wrong on example i.
    runs: R.
    squares_E: sum over runs of e_hi^2, needed only when errors are fractions.

  Returns: the variance as a squared fraction; nan for one run.
  """
  errors_E = np.asarray(errors_E, np.float64)
  squares_E = errors_E if squares_E is None else np.asarray(squares_E, np.float64)
  if runs < 2:
    return math.nan
  variances_E = (squares_E - errors_E**2 / runs) / (runs - 1)
  return float(variances_E.sum() / len(errors_E) ** 2)


def distribution_wise_variance(
  errors_R: ArrayLike, errors_E: ArrayLike, squares_E: ArrayLike | None = None
) -> float:
  """Unbiased estimate of the variance over runs of the error on new examples.

    E/(E-1) (Var_h[err(h)] - (1/E^2) sum_i Var_h[e_hi]),   err(h) = (1/E) sum_i e_hi

  (Jordan, ICLR 2024, arXiv 2304.01910, theorem 2.) Both Var have ddof = 1, and
  then this is the mean over pairs of examples i != j of the sample covariance
  (ddof = 1) of their errors. Each is unbiased for independent runs, and over
  two independent examples a covariance averages to the variance of the error
  probability; a ddof of 0 would shrink it by (R-1)/R. It can come out negative
  where the networks hardly differ: then their sd is reported as 0.

  Only sums enter, so a matrix of errors is never held; for one that is,
  `distribution_wise_variance(errors.sum(1), errors.sum(0))`.

  Args:
    errors_R: sum over examples of e_hi, that is the number of errors of run h.
    errors_E: sum over runs of e_hi, that is the number of runs wrong on example i.
    squares_E: sum over runs of e_hi^2, needed only when errors are fractions.

  Returns: the variance as a squared fraction; nan for one run or one example.
  """
  errors_R = np.asarray(errors_R, np.float64)
  runs, examples = len(errors_R), np.size(errors_E)
  if runs < 2 or examples < 2:
    return math.nan
  raw = np.var(errors_R / examples, ddof=1)
  independent = independent_errors_variance(errors_E, runs, squares_E)
  return float(examples / (examples - 1) * (raw - independent))


def distribution_wise_interval(errors_RxE: ArrayLike, level: float = 0.95) -> Interval:
  """`distribution_wise_variance` with a jackknife-t interval over runs, as a squared fraction.

  The jackknife runs on log(θ + c) with c the variance that independent errors give, E/(E-1)
  times `independent_errors_variance`, so on the log of the raw variance over runs, whose
  skewness makes an interval of θ itself too short above. Back on its own scale a limit
  below 0 stays visible. It speaks of new seeds; that the examples are a sample too is
  in the estimand, the mean covariance of two examples of this test set, not in the width.

  Args:
    errors_RxE: error (0 or 1) of run h on example i; at least 3 runs and 2 examples,
      otherwise nan, as where all runs err alike.
  """
  errors_RxE = np.asarray(errors_RxE)
  runs, examples = errors_RxE.shape
  rows = max(1, 4_000_000 // examples)

  def blocks():  # of rows: the matrix is never held as floats
    return (errors_RxE[i : i + rows].astype(np.float64) for i in range(0, runs, rows))

  errors_E, squares_E = sum(x.sum(0) for x in blocks()), sum((x**2).sum(0) for x in blocks())
  errors_R = np.concatenate([x.sum(1) for x in blocks()])
  estimate = distribution_wise_variance(errors_R, errors_E, squares_E)
  method = "jackknife of log raw variance"
  if runs < 3 or examples < 2:
    return Interval(estimate, math.nan, math.nan, level, method)
  squares_R = np.concatenate([(x**2).sum(1) for x in blocks()])
  aligned_R = np.concatenate([x @ errors_E for x in blocks()])
  # Sums over examples of the variances, and the variance of the error, without each run.
  sums_R = (errors_E**2).sum() - 2 * aligned_R + squares_R
  apart_R = (squares_E.sum() - squares_R - sums_R / (runs - 1)) / (runs - 2)
  centred_R = (errors_R - errors_R.mean()) ** 2
  raw_R = (centred_R.sum() - runs / (runs - 1) * centred_R) / (runs - 2)
  left_out_R = (raw_R - apart_R) / (examples * (examples - 1))
  constant = examples / (examples - 1) * independent_errors_variance(errors_E, runs, squares_E)
  with np.errstate(divide="ignore", invalid="ignore"):
    theta, theta_R = np.log(estimate + constant), np.log(left_out_R + constant)
  low, high = np.exp(jackknife_interval(theta, theta_R, level)) - constant
  return Interval(estimate, float(low), float(high), level, method)


def distribution_wise_share(own: Interval, independent: float, examples: int) -> Interval:
  """Share of the variance over runs that new examples would show too, within [0, 1].

    θ / (θ (E-1)/E + c)

  with θ the distribution-wise variance and c the variance if errors were independent, whose sum
  below the line is the raw variance over runs: the estimate and the limits of θ put through it.
  c, a mean over all examples, is taken as known, as in the interval of θ.

  Args:
    own: θ, as `distribution_wise_interval` gives it.
    independent: c, from `independent_errors_variance`, in the same unit.
    examples: E.
  """
  theta = np.array([own.estimate, own.low, own.high])
  part = np.clip(theta / (theta * (examples - 1) / examples + independent), 0, 1)
  return Interval(*part.tolist(), own.level, own.method)


def bands(values_RxE: ArrayLike, levels: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
  """Over runs at each evaluation: quantiles float[len(levels), E] and sd float[E] (ddof = 1).

  Of at least two runs, all finite; interpolated as the quartiles of `summary`.
  """
  values_RxE = np.asarray(values_RxE, np.float64)
  return np.quantile(values_RxE, levels, axis=0), values_RxE.std(axis=0, ddof=1)


def histogram_edges(values_R: ArrayLike, grid: float = 0.0) -> np.ndarray:
  """Edges of equal bins that cover finite values, float[bins + 1].

  The width is that of Freedman & Diaconis (1981), 2 IQR R^(-1/3), with at most
  60 bins. Values that lie on a grid (accuracies on E examples are multiples of
  1/E) get bins of a whole number of grid steps, centred on them; any other
  width would draw a comb that is not in the data.
  """
  values_R = finite_values(values_R)
  low, q25, q75, high = np.quantile(values_R, [0, 0.25, 0.75, 1])
  if low == high:
    half = grid / 2 or abs(low) / 100 or 0.5
    return np.array([low - half, low + half])
  width = max(2 * (q75 - q25) / len(values_R) ** (1 / 3), (high - low) / 60)
  if grid:
    width = grid * math.ceil(width / grid - 1e-3)
  low, high = low - grid / 2, high + grid / 2
  bins = max(1, math.ceil((high - low) / width - 1e-3))
  return low + width * np.arange(bins + 1) if grid else np.linspace(low, high, bins + 1)


def quantile_interval(values_R: ArrayLike, quantile: float, level: float = 0.95) -> Interval:
  """A population quantile between two order statistics of finite values, float[R].

  The number of values below the quantile ξ of order q is Bin(R, q), whatever the
  distribution, so P(X_(l) <= ξ <= X_(u)) >= P(l <= Bin(R, q) < u). Each end leaves
  out at most (1 - level)/2, so the coverage is at least `level`, ties included
  (David & Nagaraja, Order Statistics, 2003, section 7.1; scipy's `quantile_test`).

  Assumes independent runs and nothing else. An end that no order statistic can
  bound is infinite: a median needs 6 runs, a quartile 13 for its outer end.
  The estimate interpolates as in `summary`.
  """
  values_R = finite_values(values_R)
  upper_tail(level)
  if not 0 < quantile < 1:
    raise ValueError(f"quantile must lie between 0 and 1, not {quantile}")
  test = scipy.stats.quantile_test(values_R, p=quantile)
  low, high = np.asarray(test.confidence_interval(level), np.float64)
  low = -math.inf if math.isnan(low) else float(low)
  high = math.inf if math.isnan(high) else float(high)
  return Interval(float(np.quantile(values_R, quantile)), low, high, level, "order statistics")


def interquartile_mean(values_R: ArrayLike, level: float = 0.95, h: float = 0.0) -> Interval:
  """Mean of the middle half of finite values, float[R], on a grid of step h (0: on none).

  floor(R/4) values are cut from each end, as scipy's `trim_mean` does. The interval
  is Tukey & McLaughlin's (1963): ± t(R - 2 floor(R/4) - 1) s_w / ((1 - 2 c) sqrt(R)), with
  s_w the sd (ddof = 1; on a grid the root of `variance`) after the cut values are pulled in to
  the nearest kept one and c = floor(R/4)/R, the share that was cut.

  Assumes independent runs; for skewed ones this mean is not the mean over seeds.
  One run, or a middle half of equal values on no grid, has no interval (nan).
  """
  values_R = np.sort(finite_values(values_R))
  n = len(values_R)
  cut = n // 4
  middle = values_R[cut : n - cut]
  winsorised_R = np.clip(values_R, middle[0], middle[-1])
  estimate = float(middle[0] + (middle - middle[0]).mean())
  half, spread = math.nan, math.sqrt(variance(winsorised_R, h)) if n > 1 else 0.0
  if spread > 0:
    t = scipy.stats.t.ppf(upper_tail(level), len(middle) - 1)
    half = float(t * spread * math.sqrt(n) / len(middle))
  return Interval(estimate, estimate - half, estimate + half, level, "Tukey-McLaughlin t")


def jackknife_interval(
  estimate: float, left_out_R: ArrayLike, level: float = 0.95
) -> tuple[float, float]:
  """Jackknife-t interval (low, high) of a smooth symmetric function θ of R independent runs.

    R θ - (R-1) θ' ± t(R-1) sqrt((R-1)/R sum_m (θ_(-m) - θ')^2),   θ' = mean of θ_(-m)

  Tukey 1958; Miller 1968; Arvesen 1969 for U-statistics, where the centre is θ itself:
  elsewhere it is θ less the jackknife's estimate of its bias.

  Args:
    estimate: θ from all runs.
    left_out_R: θ_(-m), the same without run m.

  nan where a left-out value is not finite, or there is no spread to judge by: a
  single one, or all equal.
  """
  left_out_R = np.asarray(left_out_R, np.float64)
  n = len(left_out_R)
  if n < 2 or not np.isfinite(left_out_R).all():
    return math.nan, math.nan
  if np.ptp(left_out_R) <= 1e-12 * abs(left_out_R).max():
    return math.nan, math.nan
  centre = n * estimate - (n - 1) * left_out_R.mean()
  error = math.sqrt((n - 1) ** 2 / n * left_out_R.var(ddof=1))
  half = scipy.stats.t.ppf(upper_tail(level), n - 1) * error
  return float(centre - half), float(centre + half)


def several_jackknives(
  estimate: float, left_out: Sequence[ArrayLike], level: float = 0.95
) -> tuple[float, float]:
  """Jackknife-t interval (low, high) of a θ of several independent samples.

    θ + sum_f (n_f - 1) (θ - θ'_f) ± t(ν) sqrt(sum_f V_f)
    V_f = (n_f-1)/n_f sum_i (θ_(-i) - θ'_f)²

  the sums over the samples f, θ'_f the mean of θ_(-i) over the n_f members of f, and
  ν = (sum V_f)² / sum (V_f² / (n_f - 1)) (Satterthwaite). With one sample it is
  `jackknife_interval`; of the difference of two samples' means it is Welch's.

  Args:
    estimate: θ of all.
    left_out: of each sample f, θ without each of its members, float[n_f].

  nan where one of these is not finite, or nothing varies.
  """
  left_out = [np.asarray(x, np.float64) for x in left_out]
  if any(len(x) < 2 or not np.isfinite(x).all() for x in left_out) or not math.isfinite(estimate):
    return math.nan, math.nan
  sizes = np.array([len(x) for x in left_out])
  variances = np.array([(len(x) - 1) ** 2 / len(x) * x.var(ddof=1) for x in left_out])
  if variances.sum() <= 1e-24:
    return math.nan, math.nan
  centre = estimate + sum((len(x) - 1) * (estimate - x.mean()) for x in left_out)
  df = variances.sum() ** 2 / (variances**2 / (sizes - 1)).sum()
  half = scipy.stats.t.ppf(upper_tail(level), df) * math.sqrt(variances.sum())
  return float(centre - half), float(centre + half)


def log_variances(values_R: ArrayLike) -> tuple[float, np.ndarray]:
  """log of the variance (ddof = 1), and float[R] of the same without each run.

  s^2_(-m) = ((R-1) s^2 - R/(R-1) (x_m - mean)^2) / (R-2). -inf where the values are
  equal, nan where there are too few.
  """
  values_R = finite_values(values_R)
  n = len(values_R)
  if n < 3:
    variance = values_R.var(ddof=1) if n == 2 else math.nan
    return _log(variance), np.full(n, math.nan)
  centred_R = values_R - values_R[0]  # equal values give exactly 0
  squares_R = (centred_R - centred_R.mean()) ** 2
  total = squares_R.sum()
  left_R = np.maximum(total - n / (n - 1) * squares_R, 0)
  left_R[left_R < 1e-13 * total] = 0  # rounding: without run m all values are equal
  return _log(total / (n - 1)), _log(left_R / (n - 2))


def _log(x):
  with np.errstate(divide="ignore"):
    return np.log(x)


def sd_interval(values_R: ArrayLike, level: float = 0.95) -> Interval:
  """Standard deviation over seeds (ddof = 1) of finite values, float[R], in their unit.

  Jackknife-t on log s^2, leaving one run out at a time, then halved and
  exponentiated (Miller 1968). Unlike the chi-square interval it does not take the
  fourth moment from the normal distribution: with heavy tails it gets longer.

  Assumes independent runs with four moments. Below 3 runs, and where all values,
  or all but one, are equal, there is no interval (nan).
  """
  theta, theta_R = log_variances(values_R)
  low, high = np.exp(np.array(jackknife_interval(theta, theta_R, level)) / 2)
  return Interval(math.exp(theta / 2), float(low), float(high), level, "jackknife of log variance")


def expected_best(values_R: ArrayLike, k: int, level: float = 0.95) -> Interval:
  """Expected maximum of k new seeds, from finite values, float[R] (of a loss: negate it).

  For k <= R/5 the mean of the maximum over all subsets of k runs, a U-statistic:

    sum_i x_(i) C(i-1, k-1) / C(R, k)

  with a jackknife-t interval over runs. For larger k the subsets share too many runs
  and the method says "normal model": mean + e_k sd, e_k the expected maximum of k
  standard normals, with the limits of the noncentral t distribution, which are exact
  for normal values and worth as much as the normal tail elsewhere.

  Assumes independent runs. Equal values have no interval, and one run not even a sd
  for the model (nan).
  """
  values_R, k = np.sort(finite_values(values_R)), _subset(k, 1)
  if 5 * k > len(values_R):
    return _normal_best(values_R, k, level)
  estimate, left_out_R = _over_subsets(values_R, _best_weights, k)
  low, high = jackknife_interval(estimate, left_out_R, level)
  return Interval(estimate, low, high, level, f"subsets of {k}, jackknife")


def expected_range(values_R: ArrayLike, k: int, level: float = 0.95) -> Interval:
  """Expected gap, maximum - minimum, among k new seeds, from finite values, float[R].

  As `expected_best`: for k <= R/5 the mean gap over all subsets of k runs, the
  jackknife-t on its log, since it is skewed and positive; beyond, "normal model": 2 e_k sd
  with the chi-square interval of the sd. The gap of the list itself (`summary`) grows with
  R and estimates neither; it has no valid bootstrap, since a resample holds fewer extremes.
  """
  values_R, k = np.sort(finite_values(values_R)), _subset(k, 2)
  if 5 * k > len(values_R):
    return _normal_range(values_R, k, level)
  # A range does not move with the values; less their minimum, equal ones give exactly 0.
  estimate, left_out_R = _over_subsets(values_R - values_R[0], _range_weights, k)
  with np.errstate(divide="ignore"):
    logs = np.log(estimate), np.log(left_out_R)
  low, high = np.exp(jackknife_interval(*logs, level))
  method = f"subsets of {k}, jackknife of log"
  return Interval(estimate, float(low), float(high), level, method)


def normal_best(k: int) -> float:
  """Expected maximum of k independent standard normals: ∫ (1 - Φ(x)^k - Φ(-x)^k) dx, x > 0."""

  def integrand(x):
    return 1 - np.exp(k * scipy.special.log_ndtr(x)) - np.exp(k * scipy.special.log_ndtr(-x))

  points = np.linspace(0, 12, 4801)  # from 12 on the integrand is below k 1e-33
  return float(scipy.integrate.simpson(integrand(points), x=points))


def _subset(k: int, least: int) -> int:
  if int(k) != k or k < least:
    raise ValueError(f"k must be a whole number of at least {least}, not {k}")
  return int(k)


def _best_weights(n: int, k: int) -> np.ndarray:
  """float[n]: the share of subsets of k in which the i-th smallest of n is the largest."""
  i = np.arange(1, n + 1)
  log = scipy.special.gammaln
  with np.errstate(invalid="ignore"):
    below = log(i) - log(k) - log(i - k + 1)
  weights = np.where(i < k, 0.0, np.exp(below - below[-1]))
  return weights / weights.sum()


def _range_weights(n: int, k: int) -> np.ndarray:
  best = _best_weights(n, k)
  return best - best[::-1]


def _over_subsets(sorted_R, weights, k: int) -> tuple[float, np.ndarray]:
  """Weighted sum of the order statistics, and float[R] of the same without each run."""
  # Without run m the runs below keep their rank and those above lose one.
  less = weights(len(sorted_R) - 1, k)
  below = np.cumsum(np.append(0.0, less * sorted_R[:-1]))
  above = np.append(np.cumsum((less * sorted_R[1:])[::-1])[::-1], 0.0)
  return float(weights(len(sorted_R), k) @ sorted_R), below + above


def _normal_best(values_R, k: int, level: float) -> Interval:
  s, e, method = summary(values_R), normal_best(k), "normal model"
  if not s.sd > 0:
    return Interval(s.mean + e * s.sd, math.nan, math.nan, level, method)
  upper, root = upper_tail(level), math.sqrt(s.n)
  low, high = scipy.stats.nct.ppf([1 - upper, upper], s.n - 1, e * root) * s.sd / root + s.mean
  return Interval(s.mean + e * s.sd, float(low), float(high), level, method)


def _normal_range(values_R, k: int, level: float) -> Interval:
  s, width, method = summary(values_R), 2 * normal_best(k), "normal model"
  if not s.sd > 0:
    return Interval(width * s.sd, math.nan, math.nan, level, method)
  upper = upper_tail(level)
  low, high = width * s.sd * np.sqrt((s.n - 1) / scipy.stats.chi2.ppf([upper, 1 - upper], s.n - 1))
  return Interval(width * s.sd, float(low), float(high), level, method)


@dataclasses.dataclass(frozen=True)
class Tails:
  """Are the tails heavier than a normal's? nan below 4 runs and for equal values."""

  excess_kurtosis: float  # of the values; near 0 for a normal
  p_value: float  # one-sided: how often normal values on the same grid have as much
  draws: int


def heavier_tails(
  values_R: ArrayLike, grid: float, rng: np.random.Generator, draws: int = 4999
) -> Tails:
  """Parametric bootstrap with refit of the excess kurtosis of finite values, float[R].

  Statistic: m_4 / m_2^2 - 3 with the sample's own central moments. Null: a normal with
  the sample's mean, rounded to multiples of `grid` (1/n for accuracies on n
  examples, 0 for none); its sd is the sample's less what rounding adds,
  s^2 - grid^2 / 12 (Sheppard). Each draw of R values is standardised by its own
  moments, as the sample was: the refit, without which p would be too large.
  p = (1 + #{draws with at least as much}) / (1 + draws), so it is never 0.

  One-sided against heavy tails on either side, outliers included; skewness alone
  raises it too. Assumes independent runs and, for accuracies, a mean several sd
  away from 0 and 1: the null is not cut off there. With a grid wider than the sd the
  test is conservative; a null that is not rounded would call a quarter of those heavy.
  """
  values_R = finite_values(values_R)
  n, s = len(values_R), summary(values_R)
  observed = float(_excess_kurtosis(values_R[None])[0])
  if n < 4 or math.isnan(observed):
    return Tails(math.nan, math.nan, draws)
  sd = math.sqrt(max(s.sd**2 - grid**2 / 12, 0)) or s.sd
  as_heavy, left = 0, draws
  while left:
    block = min(left, max(1, 2_000_000 // n))
    drawn = rng.normal(s.mean, sd, (block, n))
    drawn = np.round(drawn / grid) * grid if grid else drawn
    # Equal draws (nan) count as heavy; 1e-9: on a grid, ties differ by rounding alone.
    as_heavy += np.count_nonzero(~(_excess_kurtosis(drawn) < observed - 1e-9))
    left -= block
  return Tails(observed, (1 + as_heavy) / (1 + draws), draws)


def _excess_kurtosis(values_DxR: np.ndarray) -> np.ndarray:
  """Of each row: m_4 / m_2^2 - 3; nan for a row of equal values."""
  centred = values_DxR - values_DxR[:, :1]
  centred -= centred.mean(1, keepdims=True)
  squares = centred**2
  second, fourth = squares.mean(1), (squares**2).mean(1)
  with np.errstate(invalid="ignore"):
    return fourth / second**2 - 3


def upper_tail(level: float) -> float:
  """(1 + level) / 2, the order of the upper limit of a two-sided interval."""
  if not 0 < level < 1:
    raise ValueError(f"level must lie between 0 and 1, such as 0.95, not {level}")
  return (1 + level) / 2


def finite_values(values_R: ArrayLike) -> np.ndarray:
  """float64[R] of at least one value, all finite; ValueError says what is not."""
  values_R = np.asarray(values_R, np.float64)
  if values_R.ndim != 1 or not len(values_R):
    raise ValueError(f"values must have the shape [R] with R > 0, not {values_R.shape}")
  if not np.isfinite(values_R).all():
    bad = np.flatnonzero(~np.isfinite(values_R))
    raise ValueError(f"{len(bad)} of {len(values_R)} values are not finite, first at {bad[0]}")
  return values_R
