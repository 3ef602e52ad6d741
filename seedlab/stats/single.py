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
import scipy.stats
from numpy.typing import ArrayLike


@dataclasses.dataclass(frozen=True)
class Summary:
  """One metric over n runs, in the unit of the values. Undefined for one run: nan."""

  n: int
  mean: float
  sd: float  # ddof = 1; nan for one run
  sem: float  # sd / sqrt(n); nan for one run
  low: float  # 95 % interval of the mean; nan for one run
  high: float
  min: float
  q25: float
  median: float
  q75: float
  max: float
  gap: float  # max - min: describes this list, and grows with n


def summary(values_R: ArrayLike) -> Summary:
  """Location and spread of finite values, float[R].

  The interval is Student's: mean ± t(0.975, R-1) sd / sqrt(R). It covers the
  mean over all seeds with 95 % for independent runs, exactly if they are
  normal, approximately by the central limit theorem. Quartiles interpolate
  linearly between order statistics (type 7 of Hyndman & Fan 1996).

  One run has no sd, standard error or interval (nan); equal values have sd 0
  and an interval of width 0. A value that is not finite raises ValueError:
  what a diverged run counts for is for the caller to say.
  """
  values_R = finite_values(values_R)
  n = len(values_R)
  # Differences from one of the values: equal values give exactly 0, not rounding.
  differences_R = values_R - values_R[0]
  mean = values_R[0] + differences_R.mean()
  sd = differences_R.std(ddof=1) if n > 1 else math.nan
  sem = sd / math.sqrt(n)
  half = scipy.stats.t.ppf(0.975, n - 1) * sem if n > 1 else math.nan
  low, q25, median, q75, high = np.quantile(values_R, [0, 0.25, 0.5, 0.75, 1])
  numbers = [mean, sd, sem, mean - half, mean + half, low, q25, median, q75, high, high - low]
  return Summary(n, *map(float, numbers))


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


def finite_values(values_R: ArrayLike) -> np.ndarray:
  """float64[R] of at least one value, all finite; ValueError says what is not."""
  values_R = np.asarray(values_R, np.float64)
  if values_R.ndim != 1 or not len(values_R):
    raise ValueError(f"values must have the shape [R] with R > 0, not {values_R.shape}")
  if not np.isfinite(values_R).all():
    bad = np.flatnonzero(~np.isfinite(values_R))
    raise ValueError(f"{len(bad)} of {len(values_R)} values are not finite, first at {bad[0]}")
  return values_R
