"""Many sweeps: their ranks. Many data sets: aggregates and profiles over all of them.

The second half is read by notebooks: no command takes several data sets (docs/statistics.md).
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike

from seedlab.stats.single import Interval, finite_values, upper_tail


@dataclasses.dataclass(frozen=True)
class Ranks:
  """Of S sweeps: rank 1 has the highest mean. The sets low..high hold jointly at `level`."""

  mean_S: np.ndarray
  rank_S: np.ndarray  # 1 + number of sweeps with a higher mean
  low_S: np.ndarray  # 1 + number of sweeps shown to be better
  high_S: np.ndarray  # S - number of sweeps shown to be worse
  level: float


def ranks(
  values: Sequence[ArrayLike],
  rng: np.random.Generator,
  paired: bool = False,
  level: float = 0.95,
  draws: int = 2000,
) -> Ranks:
  """Ranks of S sweeps by their mean, with simultaneous bootstrap intervals of the ranks.

  All S (S-1)/2 differences of means are studentised, |m_j - m_k| / se_jk; the bootstrap
  gives the quantile c of the largest |(m*_j - m*_k) - (m_j - m_k)| / se*_jk; a pair is
  settled where |m_j - m_k| > c se_jk, and a sweep's rank lies between 1 + those shown
  better and S - those shown worse (Mogstad, Romano, Shaikh & Wilhelm, Review of Economic
  Studies 2024). Percentiles of resampled ranks are not used: for sweeps that are equal they
  claim an order too often.

  Args:
    values: for each sweep its values, float[R_s] of at least two runs; higher is better.
    paired: values[s][i] are the same run number in every sweep, and are resampled
      together; equal lengths then.

  Pairs without any spread are not settled. Few runs: resamples without spread make c
  infinite, and every set 1..S.
  """
  samples = [finite_values(v) for v in values]
  lengths = [len(v) for v in samples]
  if len(samples) < 2 or min(lengths) < 2 or (paired and len(set(lengths)) > 1):
    raise ValueError(f"ranks need two sweeps of two runs, of equal length if paired: {lengths}")
  draw = _paired_moments if paired else _separate_moments
  ones = [np.full((1, n), 1 / n) for n in (lengths[:1] if paired else lengths)]
  (mean_S,), (variance_SxS,) = draw(samples, ones)
  weights = [rng.multinomial(n.shape[1], n[0], draws) / n.shape[1] for n in ones]
  mean_DxS, variance_DxSxS = draw(samples, weights)
  gap_SxS = mean_S[:, None] - mean_S
  error_DxSxS = mean_DxS[:, :, None] - mean_DxS[:, None] - gap_SxS
  largest_D = _ratio(abs(error_DxSxS), np.sqrt(variance_DxSxS)).max((1, 2))
  critical = np.quantile(largest_D, level, method="higher")
  better_SxS = _settled(gap_SxS, critical, np.sqrt(variance_SxS))
  return Ranks(
    mean_S,
    1 + (gap_SxS < 0).sum(1),
    1 + better_SxS.sum(0),
    len(samples) - better_SxS.sum(1),
    level,
  )


def _settled(gap_SxS, critical: float, error_SxS) -> np.ndarray:
  with np.errstate(invalid="ignore"):
    return (gap_SxS > critical * error_SxS) & (error_SxS > 0)


def _ratio(x, error):
  """x / error; 0 / 0 is 0, as for a sweep against itself."""
  with np.errstate(divide="ignore", invalid="ignore"):
    return np.where(x <= 1e-12, 0.0, x / error)


def _separate_moments(samples, weights) -> tuple[np.ndarray, np.ndarray]:
  """Weighted means [D, S] and variances of differences of means [D, S, S], ddof = 1."""
  pairs = [_mean_and_variance(x, w) for x, w in zip(samples, weights, strict=True)]
  mean_DxS = np.stack([mean for mean, _ in pairs], 1)
  variance_DxS = np.stack([variance for _, variance in pairs], 1)
  return mean_DxS, variance_DxS[:, :, None] + variance_DxS[:, None]


def _mean_and_variance(x_R, weights_DxR) -> tuple[np.ndarray, np.ndarray]:
  n, centred = len(x_R), x_R - x_R.mean()
  mean = weights_DxR @ centred
  square = np.maximum(weights_DxR @ centred**2 - mean**2, 0)
  square[square < 1e-12 * (centred**2).mean()] = 0
  return mean + x_R.mean(), square / (n - 1)


def _paired_moments(samples, weights) -> tuple[np.ndarray, np.ndarray]:
  x_RxS, weights_DxR = np.stack(samples, 1), weights[0]
  differences_RxSS = (x_RxS[:, :, None] - x_RxS[:, None]).reshape(len(x_RxS), -1)
  variances = [_mean_and_variance(d, weights_DxR)[1] for d in differences_RxSS.T]
  size = len(samples)
  return weights_DxR @ x_RxS, np.stack(variances, 1).reshape(-1, size, size)


def aggregate_iqm(values_RxT: ArrayLike) -> np.ndarray:
  """Interquartile mean over all R T values, floor(RT/4) cut at each end; leading axes are kept.

  The aggregate that Agarwal et al. (NeurIPS 2021) recommend: it needs fewer runs than
  the median and one outlying data set does not move it.
  """
  values = np.asarray(values_RxT, np.float64)
  return scipy.stats.trim_mean(values.reshape(*values.shape[:-2], -1), 0.25, axis=-1)


def stratified_bootstrap(
  values_RxT: ArrayLike,
  statistic: Callable[[np.ndarray], np.ndarray],
  rng: np.random.Generator,
  level: float = 0.95,
  draws: int = 2000,
) -> Interval:
  """Percentile bootstrap over runs within each data set (Agarwal et al. 2021, section 4).

  Each draw takes R of the R runs with replacement, on every data set afresh: it speaks of
  new seeds on *these* data sets. Runs of different data sets are taken as independent.

  Args:
    values_RxT: R runs on each of T data sets, on a common scale (normalised scores).
    statistic: from float[..., R, T] to float[...]; such as `aggregate_iqm`.

  One run gives no interval (nan). Percentiles are too short for few runs and few
  data sets (see the table of coverages).
  """
  values_RxT = _runs_by_sets(values_RxT)
  estimate = float(statistic(values_RxT))
  method = "stratified percentile bootstrap"
  if len(values_RxT) < 2:
    return Interval(estimate, math.nan, math.nan, level, method)
  blocks = [statistic(x) for x in _resampled(values_RxT, rng, draws)]
  upper = upper_tail(level)
  low, high = np.quantile(np.concatenate(blocks), [1 - upper, upper])
  return Interval(estimate, float(low), float(high), level, method)


def _resampled(values_RxT, rng: np.random.Generator, draws: int):
  """Blocks [D, R, T] of stratified resamples, `draws` in all."""
  runs, sets = values_RxT.shape
  block = max(1, 2_000_000 // values_RxT.size)
  for done in range(0, draws, block):
    index = rng.integers(runs, size=(min(block, draws - done), runs, sets))
    yield values_RxT[index, np.arange(sets)]


@dataclasses.dataclass(frozen=True)
class Profile:
  """Share of runs above each threshold, with pointwise limits (nan for one run)."""

  thresholds_L: np.ndarray
  share_L: np.ndarray
  low_L: np.ndarray
  high_L: np.ndarray
  level: float


def performance_profile(
  values_RxT: ArrayLike,
  thresholds_L: ArrayLike,
  rng: np.random.Generator,
  level: float = 0.95,
  draws: int = 2000,
) -> Profile:
  """Run-score distribution (Agarwal et al. 2021, equation 3): mean over t and r of [x_rt > τ].

  Limits are pointwise percentiles of the bootstrap of `stratified_bootstrap`, not a
  simultaneous band; where every run of every data set agrees they have width 0.
  """
  values_RxT = _runs_by_sets(values_RxT)
  thresholds_L = np.asarray(thresholds_L, np.float64)
  share_L = _shares(values_RxT[None], thresholds_L)[0]
  nothing = np.full(len(thresholds_L), math.nan)
  if len(values_RxT) < 2:
    return Profile(thresholds_L, share_L, nothing, nothing, level)
  drawn = [_shares(x, thresholds_L) for x in _resampled(values_RxT, rng, draws)]
  upper = upper_tail(level)
  low_L, high_L = np.quantile(np.concatenate(drawn), [1 - upper, upper], axis=0)
  return Profile(thresholds_L, share_L, low_L, high_L, level)


def _shares(values_DxRxT, thresholds_L) -> np.ndarray:
  """float[D, L]: of each block the share of values above each threshold."""
  rows = np.sort(values_DxRxT.reshape(len(values_DxRxT), -1))
  at_most = np.array([np.searchsorted(row, thresholds_L, side="right") for row in rows])
  return 1 - at_most / rows.shape[1]


def _runs_by_sets(values_RxT: ArrayLike) -> np.ndarray:
  values_RxT = np.asarray(values_RxT, np.float64)
  if values_RxT.ndim != 2 or not values_RxT.size:
    raise ValueError(f"values must have the shape [runs, data sets], not {values_RxT.shape}")
  if not np.isfinite(values_RxT).all():
    run, dataset = np.argwhere(~np.isfinite(values_RxT))[0]
    raise ValueError(f"values must be finite; run {run} of data set {dataset} is not")
  return values_RxT
