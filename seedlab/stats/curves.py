"""Statistics of curves: values of R runs at T moments of training."""

import itertools
import math
from typing import NamedTuple

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike

from seedlab.stats.single import Interval

_EXACT = 12  # runs up to which all patterns of signs are listed
_DRAWS = 4096  # of them, above
_TAIL = 10  # of the draws that must lie beyond a quantile


class Band(NamedTuple):
  """A mean curve with limits that hold at all moments together."""

  mean: np.ndarray  # float[T]; nan where too few runs have a value
  low: np.ndarray
  high: np.ndarray
  level: float
  method: str


def simultaneous_band(
  values_RxT: ArrayLike, level: float = 0.95, rng: np.random.Generator | None = None
) -> Band:
  """The mean over runs at every moment, mean ± c sd / sqrt(n), with one c for all of them.

  c is the `level` quantile of max_t |t statistic| of the curves about their mean when each
  run's whole curve changes sign at random (a wild bootstrap-t; Hall & Wilson 1991 for
  studentising each draw), which keeps the dependence between moments; it never exceeds
  Bonferroni's. All 2^(R-1) patterns are listed up to 12 runs, 4,096 drawn above. Where
  the patterns are too few for the level, Bonferroni's stands. docs/statistics.md has its
  coverage for 5 to 40 runs.

  Args:
    values_RxT: nan where a run does not count. A moment counts if at least half of
      the runs do, and three.
    level: of the whole band.
    rng: draws the signs of more than 12 runs.

  Raises:
    ValueError: fewer than three runs, a moment of infinite values, or no moment that counts.
  """
  values = np.asarray(values_RxT, np.float64)
  if values.ndim != 2 or len(values) < 3:
    raise ValueError(f"values must be runs x moments with at least 3 runs, not {values.shape}")
  if np.isinf(values).any():
    raise ValueError("values must be finite, or nan where a run does not count")
  runs = len(values)
  there = ~np.isnan(values)
  counts_T = there.sum(0)
  kept = counts_T >= max(3, math.ceil(runs / 2))
  if not kept.any():
    raise ValueError("no moment has a value of half of the runs")
  x, w, n = np.where(there, values, 0)[:, kept], there[:, kept], counts_T[kept]
  mean = x.sum(0) / n
  residual = np.where(w, x - mean, 0)
  error = np.sqrt((residual**2).sum(0) / (n - 1) / n)
  moments = int(kept.sum())
  # With t quantiles of different degrees of freedom the smallest number of runs decides.
  bonferroni = scipy.stats.t.ppf(1 - (1 - level) / (2 * moments), n.min() - 1)
  signs = _signs(runs, rng)
  wild = _largest(signs, residual, n)
  c, method = bonferroni, "Bonferroni's t"
  if (1 - level) * len(wild) >= _TAIL and np.quantile(wild, level, method="higher") < c:
    c, method = np.quantile(wild, level, method="higher"), "wild bootstrap-t of the maximum"

  def spread(part):
    full = np.full(len(counts_T), np.nan)
    full[kept] = part
    return full

  return Band(spread(mean), spread(mean - c * error), spread(mean + c * error), level, method)


def _signs(runs: int, rng: np.random.Generator | None) -> np.ndarray:
  """float[D, R] of ±1; a pattern and its opposite give the same maximum, so one of each."""
  if runs <= _EXACT:
    return np.array([(1.0, *rest) for rest in itertools.product((1.0, -1.0), repeat=runs - 1)])
  if rng is None:
    raise ValueError(f"more than {_EXACT} runs need a generator for the signs")
  return rng.choice(np.array([-1.0, 1.0]), (_DRAWS, runs))


def _largest(signs_DxR: np.ndarray, residual_RxT: np.ndarray, n_T: np.ndarray) -> np.ndarray:
  """float[D]: the largest |t| over the moments of each pattern."""
  total = signs_DxR @ residual_RxT
  squares = (residual_RxT**2).sum(0)
  variance = (squares - total**2 / n_T) / (n_T - 1)
  # Where all runs agree there is nothing to exceed.
  with np.errstate(invalid="ignore", divide="ignore"):
    t = np.abs(total) / np.sqrt(np.maximum(variance, 0) * n_T)
  return np.where(squares > 0, t, 0.0).max(1)


def largest_deviation(band: Band) -> Interval:
  """The largest |mean| over all moments, from a band: the unit of the curves.

  low: some moment is that far from zero; high: none is further. Both hold together at the
  level of the band.
  """
  low = np.nanmax(np.maximum(np.maximum(band.low, -band.high), 0))
  high = np.nanmax(np.maximum(np.abs(band.low), np.abs(band.high)))
  estimate = np.nanmax(np.abs(band.mean))
  return Interval(float(estimate), float(low), float(high), band.level, band.method)


def first_at_most(values_RxT: ArrayLike, steps_T: ArrayLike, limit: float) -> np.ndarray:
  """float[R]: the step of the first evaluation at which a run is at or below `limit`, or nan.

  What happens between two evaluations is not seen; nan values are above any limit.
  """
  values = np.asarray(values_RxT, np.float64)
  reached = np.where(np.isnan(values), np.inf, values) <= limit
  first = np.asarray(steps_T, np.float64)[reached.argmax(1)]
  return np.where(reached.any(1), first, np.nan)


def kendall_tau(x_S: ArrayLike, y_S: ArrayLike, level: float = 0.95) -> Interval:
  """Kendall's rank correlation (tau-b) of S settings, with an interval for further settings.

  arctanh tau ± z sqrt(0.437 / (S - 4)) (Fieller, Hartley & Pearson 1957). A tau of ±1
  counts as if the least of the pairs were tied, which would leave it finite.

  Raises:
    ValueError: fewer than 5 settings, or x or y all equal.
  """
  x, y = np.asarray(x_S, np.float64), np.asarray(y_S, np.float64)
  if x.shape != y.shape or x.ndim != 1 or len(x) < 5:
    raise ValueError(f"tau needs two lists of at least 5 settings, not {x.shape} and {y.shape}")
  tau = float(scipy.stats.kendalltau(x, y).statistic)
  if math.isnan(tau):
    raise ValueError("tau of equal values is not defined")
  most = 1 - 1 / (len(x) * (len(x) - 1) / 2)
  center = math.atanh(min(max(tau, -most), most))
  half = scipy.stats.norm.ppf((1 + level) / 2) * math.sqrt(0.437 / (len(x) - 4))
  return Interval(
    tau,
    math.tanh(center - half),
    math.tanh(center + half),
    level,
    "Fieller's normal interval of arctanh tau",
  )
