"""What the diffusion study measures on its sweeps, with intervals at any level.

R trainings with K draws each. Draws of one training differ in the seed of the sampler alone.
"""

import itertools
import math
from collections.abc import Mapping

import numpy as np
import scipy.spatial.distance
import scipy.stats
import xarray

from seedlab.errors import UserError
from seedlab.stats import crossed, pairs, single
from seedlab.stats.repeats import components
from seedlab.stats.single import Interval, jackknife_interval, several_jackknives

DISTANCE = "frechet_features"
_LUCKIEST = 0.1


def draws(dataset: xarray.Dataset, evaluation: int = -1, metric: str = DISTANCE) -> np.ndarray:
  """float64[R, K]: a metric of the runs' draws at one evaluation.

  Raises:
    UserError: a run that diverged or is missing; the study has no rule for these.
  """
  sound = dataset["completed"].values.astype(bool) & (dataset["diverged"].values < 0)
  if not sound.all():
    raise UserError(
      f"{int((~sound).sum())} of {len(sound)} runs diverged or are missing; lower learning_rate"
    )
  values = dataset[metric].transpose("run", "evaluation", "draw").values
  return values[:, evaluation].astype(np.float64)


def images(dataset: xarray.Dataset, evaluation: int = -1) -> np.ndarray:
  """float32[R, E, K] from 0 to 1: what E frozen noises become, K pixels each."""
  values = dataset["image"].transpose("run", "evaluation", "noise", "pixel").values
  return values[:, evaluation].astype(np.float32) / 255


def spreads(values_RxK: np.ndarray, level: float = 0.95) -> tuple[Interval, Interval]:
  """Standard deviations between draws of a training, and between trainings without that share."""
  return components(values_RxK.ravel(), np.repeat(np.arange(len(values_RxK)), values_RxK.shape[1]),
                    level)  # fmt: skip


def retraining_ratio(values_RxK: np.ndarray, level: float = 0.95) -> Interval:
  """sd between trainings over sd between draws: sqrt((F - 1) / K), F the ratio of mean squares.

  Exact for normal values: F over the ratio of the expected mean squares, 1 + K times the squared
  estimand, has the F distribution with R - 1 and R (K - 1) degrees of freedom (Searle, Casella &
  McCulloch, Variance Components, 1992, section 3.6).
  """
  R, K = values_RxK.shape
  between = K * values_RxK.mean(1).var(ddof=1)
  within = values_RxK.var(axis=1, ddof=1).mean()
  tail = single.upper_tail(level)
  quantiles = scipy.stats.f.ppf([tail, 1 - tail], R - 1, R * (K - 1))
  ratios = between / within / np.concatenate([[1.0], quantiles])
  return Interval(*np.sqrt(np.maximum(ratios - 1, 0) / K).tolist(), level, "F")


def variation(values_RxK: np.ndarray, level: float = 0.95) -> Interval:
  """Coefficient of variation between trainings, without the draws' share."""
  _, between = spreads(values_RxK, level)
  mean = values_RxK.mean()
  numbers = (between.estimate / mean, between.low / mean, between.high / mean)
  return Interval(*numbers, level, between.method)


def variation_trend(first_R: np.ndarray, last_R: np.ndarray, level: float = 0.95) -> Interval:
  """Coefficient of variation of the last means over the draws, over that of the first ones.

  Both with what the draws still move a mean; jackknife-t over runs on the log.
  """

  def logs(values_R):
    theta, theta_R = single.log_variances(values_R)
    mean, total = values_R.mean(), values_R.sum()
    left_R = (total - values_R) / (len(values_R) - 1)
    return theta / 2 - math.log(mean), theta_R / 2 - np.log(left_R)

  (a, a_R), (b, b_R) = logs(last_R), logs(first_R)
  return _exponential(a - b, a_R - b_R, level)


def _exponential(log: float, log_R: np.ndarray, level: float) -> Interval:
  low, high = jackknife_interval(log, log_R, level)
  return Interval(math.exp(log), math.exp(low), math.exp(high), level, "run jackknife of the log")


def best_of_three(values_RxK: np.ndarray) -> np.ndarray:
  """float64[R, S]: the least of each three of the K draws."""
  subsets = list(itertools.combinations(range(values_RxK.shape[1]), 3))
  return np.stack([values_RxK[:, list(subset)].min(1) for subset in subsets], axis=1)


def flattery(values_RxK: np.ndarray, level: float = 0.95) -> Interval:
  """Mean of the draws less the best of three, as a share of the mean distance; t over runs."""
  gained_R = values_RxK.mean(1) - best_of_three(values_RxK).mean(1)
  return single.mean_interval(gained_R / values_RxK.mean(), level)


def overturned(better_RxK: np.ndarray, other_SxK: np.ndarray, level: float = 0.95) -> Interval:
  """How often the other model wins when it quotes the best of three draws, less how often else.

  Over all pairs of a training each, the first model quoted by one draw; jackknife over the runs of
  each model.
  """

  def wins(quoted_SxD):  # [R, S]
    return (quoted_SxD[None, :, None, :] < better_RxK[:, None, :, None]).mean((2, 3))

  gained_RxS = wins(best_of_three(other_SxK)) - wins(other_SxK)
  estimate = float(gained_RxS.mean())
  left = []
  for axis in (1, 0):
    means = gained_RxS.mean(axis)
    left.append((means.sum() - means) / (len(means) - 1))
  low, high = several_jackknives(estimate, left, level)
  return Interval(estimate, low, high, level, "jackknife over the runs of both")


def spread_ratio(a_R: np.ndarray, b_R: np.ndarray, level: float = 0.95) -> Interval:
  """sd of a over sd of b, of runs with the same seeds; jackknife-t over runs on the log."""
  (a, left_a), (b, left_b) = single.log_variances(a_R), single.log_variances(b_R)
  return _exponential((a - b) / 2, (left_a - left_b) / 2, level)


def correlation(a_R: np.ndarray, b_R: np.ndarray, level: float = 0.95) -> Interval:
  """Pearson's, with Fisher's interval: tanh(artanh r ± z / sqrt(R - 3)); nan below 4 runs."""
  r = float(np.corrcoef(a_R, b_R)[0, 1])
  if len(a_R) < 4:
    return Interval(r, math.nan, math.nan, level, "Fisher")
  half = scipy.stats.norm.ppf(single.upper_tail(level)) / math.sqrt(len(a_R) - 3)
  low, high = np.tanh(np.arctanh(r) + half * np.array([-1, 1]))
  return Interval(r, float(low), float(high), level, "Fisher")


def luck(values_RxTxK: np.ndarray, step_T: np.ndarray, level: float = 0.95) -> Interval:
  """Steps at which the mean distance is that of the luckiest tenth at half time, over half time.

  The luckiest tenth begins 1.28 standard deviations below the mean at half time. Their square is
  the covariance over the trainings of two draws of one training, so that luck with the samples is
  no luck of the training. The mean distance is interpolated between evaluations, and prolonged
  behind the last one, on the scale of logs. Jackknife-t over runs on the log.
  """
  half = int(np.flatnonzero(2 * step_T >= step_T[-1])[0])
  quantile = -scipy.stats.norm.ppf(_LUCKIEST)

  def log_factor(values):
    R, K = len(values), values.shape[2]
    apart = values[:, half] - values[:, half].mean(0)
    shared = (apart.sum(1) ** 2 - (apart**2).sum(1)).sum() / (K * (K - 1) * (R - 1))
    mean_T = values.mean((0, 2))
    wanted = math.log(max(mean_T[half] - quantile * math.sqrt(max(shared, 0)), 1e-12))
    x, y = np.log(step_T[half:]), np.log(mean_T[half:])
    below = np.flatnonzero(y <= wanted)
    at = min(int(below[0]), len(y) - 1) if len(below) else len(y) - 1
    if at == 0:
      return 0.0
    slope = (x[at] - x[at - 1]) / (y[at] - y[at - 1])
    return float(x[at - 1] + slope * (wanted - y[at - 1]) - x[0])

  if len(step_T) - half < 2:
    return Interval(math.nan, math.nan, math.nan, level, "no evaluation after half time")
  runs = range(len(values_RxTxK))
  left_R = np.array([log_factor(np.delete(values_RxTxK, run, axis=0)) for run in runs])
  return _exponential(log_factor(values_RxTxK), left_R, level)


def _logs_of_sameness(images_RxExK: np.ndarray, classes: int) -> tuple[float, np.ndarray]:
  """log of `sameness`, and without each run."""
  rows_R = pairs.l1_rows(images_RxExK)
  R = len(rows_R)
  same, total = rows_R.sum() / (R * (R - 1)), rows_R.sum()
  own_R = np.array([
    np.mean([
      scipy.spatial.distance.pdist(images_ExK[c::classes], "cityblock").mean()
      for c in range(classes)
    ])
    for images_ExK in images_RxExK
  ])  # fmt: skip
  if R < 3:
    return math.log(same / own_R.mean()), np.full(R, math.nan)
  same_R = (total - 2 * rows_R) / ((R - 1) * (R - 2))
  left_R = (own_R.sum() - own_R) / (R - 1)
  return math.log(same / own_R.mean()), np.log(same_R / left_R)


def sameness(images_RxExK: np.ndarray, classes: int, level: float = 0.95) -> Interval:
  """Distance of two trainings' images from one noise, over that of images from two noises.

    mean over pairs of runs, noises of sum_k |x_k - x'_k|
    / mean over runs, pairs of noises of one class of the same

  0: the training seed does not matter; 1: the noise does not. Jackknife-t over runs on the log.

  Args:
    images_RxExK: noise number e has the class e modulo `classes`.
    classes: at most half of the noises, or there are no pairs.
  """
  log, log_R = _logs_of_sameness(images_RxExK, classes)
  return _exponential(log, log_R, level)


def sameness_trend(
  first_RxExK: np.ndarray, last_RxExK: np.ndarray, classes: int, level: float = 0.95
) -> Interval:
  (a, a_R), (b, b_R) = (_logs_of_sameness(one, classes) for one in (last_RxExK, first_RxExK))
  return _exponential(a - b, a_R - b_R, level)


def effects(dataset: xarray.Dataset, factors, level: float = 0.95) -> Mapping[str, crossed.Effect]:
  """Effects of the crossed streams on the mean distance over the draws."""
  values_R = draws(dataset).mean(1)
  seeds = {factor: dataset[f"seed_{factor}"].values for factor in factors}
  values, _ = crossed.design(values_R, seeds)
  return crossed.effects(values, factors, level=level)


def apart_by(dataset: xarray.Dataset, factors) -> dict[tuple[str, ...], float]:
  """Streams that differ between two runs -> mean distance of their images from one noise."""
  found: dict[tuple[str, ...], list[float]] = {}
  shown = images(dataset)
  flat = shown.reshape(len(shown), -1)
  apart = scipy.spatial.distance.squareform(scipy.spatial.distance.pdist(flat, "cityblock"))
  seeds = {factor: dataset[f"seed_{factor}"].values for factor in factors}
  for a, b in itertools.combinations(range(len(flat)), 2):
    differ = tuple(factor for factor in factors if seeds[factor][a] != seeds[factor][b])
    found.setdefault(differ, []).append(apart[a, b] / shown.shape[1])
  return {differ: float(np.mean(values)) for differ, values in sorted(found.items())}


def farthest(images_RxExK: np.ndarray) -> tuple[int, int]:
  """The two runs whose images from the same noises are farthest apart."""
  flat = images_RxExK.reshape(len(images_RxExK), -1)
  apart = scipy.spatial.distance.squareform(scipy.spatial.distance.pdist(flat, "cityblock"))
  a, b = np.unravel_index(int(apart.argmax()), apart.shape)
  return int(a), int(b)
