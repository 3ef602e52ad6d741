"""What is measured on the runs of the seed study's sweeps."""

import math
from typing import NamedTuple

import numpy as np
import xarray

from seedlab import findings
from seedlab.stats import comparison, crossed, crossed_pairs, curves, pairs, single
from seedlab.stats.single import Interval, several_jackknives
from seedlab.studies.seeds import settings
from seedlab.studies.seeds.claims import SCANNED
from seedlab.studies.seeds.sweeps import PRETRAINED

_PLATEAU = 25 / 45  # of the long schedule: from its epoch 25 on the paper calls it converged (S2)


class Spread(NamedTuple):
  """Independent runs of one setting; diverged ones are right at chance level, on every example."""

  runs: np.ndarray  # int64[R]
  steps: np.ndarray  # int64[T]
  accuracy: np.ndarray  # float64[R, T]
  errors: np.ndarray  # bool[R, E], at the end; float32 where runs diverged
  diverged: np.ndarray  # bool[R]

  @property
  def last(self) -> np.ndarray:
    return self.accuracy[:, -1]


def spread(dataset: xarray.Dataset) -> Spread:
  """The completed runs of a store."""
  done = dataset["completed"].values.astype(bool)
  label_E = dataset["label"].values
  accuracy = dataset["test_accuracy"].transpose("run", "evaluation").values[done].astype(np.float64)
  errors = dataset["predicted_label"].transpose("run", "example").values[done] != label_E
  steps, diverged = dataset["evaluation"].values, dataset["diverged"].values[done]
  gone = (diverged[:, None] >= 0) & (steps[None, :] > diverged[:, None])
  accuracy[gone] = chance = 1 / findings.class_count(dataset)
  if (diverged >= 0).any():
    errors = errors.astype(np.float32)
    errors[diverged >= 0] = 1 - chance
  return Spread(dataset["run"].values[done], steps, accuracy, errors, diverged >= 0)


def without_diverged(one: Spread) -> Spread:
  """Without the runs that diverged."""
  kept = ~one.diverged
  return Spread(one.runs[kept], one.steps, one.accuracy[kept], one.errors[kept], one.diverged[kept])


def distribution_wise(one: Spread, level: float = 0.95) -> Interval:
  """Variance of the error on new examples, as a squared fraction."""
  return single.distribution_wise_interval(one.errors, level)


def squared_points(variance: Interval) -> Interval:
  limits = (1e4 * x for x in (variance.estimate, variance.low, variance.high))
  return Interval(*limits, variance.level, variance.method)


def sd_of(variance: float) -> float:
  return math.sqrt(max(variance, 0.0))


def plateau_of(one: Spread) -> int:
  """The evaluation from which on a training counts as converged."""
  return int(np.flatnonzero(one.steps >= _PLATEAU * one.steps[-1])[0])


def spread_kept(one: Spread, level: float) -> Interval:
  two = comparison.align(one.last, one.runs, one.accuracy[:, plateau_of(one)], one.runs, True)
  return comparison.sd_ratio(two, level)


def effects_of_design(datasets, level: float) -> dict[str, Interval]:
  """Change of the mean accuracy by each design choice, paired by seed."""
  base = spread(datasets["digits/all"])
  found = {}
  for choice in settings.DESIGN:
    other = spread(datasets[f"digits/{choice}"])
    contrast = comparison.difference(
      comparison.align(other.last, other.runs, base.last, base.runs, True), level
    )
    found[choice] = Interval(contrast.estimate, contrast.low, contrast.high, level, contrast.method)
  return found


def seeds_against_design(datasets, level: float) -> Interval:
  """Expected gap among SCANNED seeds over the median |effect|.

  Its limits are those of the gap over the other limits of the median, each at the level at
  which both hold together (Bonferroni); the median of the effects' limits bounds the median.
  """
  each = 1 - (1 - level) / 2
  one = spread(datasets["digits/all"])
  gap = single.expected_range(one.last, min(SCANNED, len(one.last)), each)
  effects = effects_of_design(datasets, 1 - (1 - each) / len(settings.DESIGN)).values()
  middle = np.median([abs(effect.estimate) for effect in effects])
  most = np.median([max(abs(effect.low), abs(effect.high)) for effect in effects])
  least = np.median(
    [
      0.0 if effect.low <= 0 <= effect.high else min(abs(effect.low), abs(effect.high))
      for effect in effects
    ]
  )
  high = gap.high / least if least else math.inf
  return Interval(gap.estimate / middle, gap.low / most, high, level, "gap and median together")


def tuned_networks(datasets, kind: str) -> list[Spread]:
  names = (f"tuned/{kind}{run}" for run in range(PRETRAINED))
  return [spread(datasets[name]) for name in names if name in datasets]


def narrowing(datasets, level: float) -> Interval:
  """Ratio of distribution-wise sds, by leaving out a pretraining or an initialisation."""
  variances = [
    np.array([distribution_wise(one).estimate for one in tuned_networks(datasets, kind)])
    for kind in ("pretrained", "scratch")
  ]
  means = [values.mean() for values in variances]
  left = [(len(v) * v.mean() - v) / (len(v) - 1) for v in variances]
  with np.errstate(invalid="ignore", divide="ignore"):  # the log of a variance below zero is nan
    above, below = np.log(means) / 2
    parts = [np.log(left[0]) / 2 - below, above - np.log(left[1]) / 2]
  log = float(above - below)
  low, high = several_jackknives(log, parts, level)
  limits = (math.exp(x) for x in (log, low, high))
  return Interval(*limits, level, "jackknife over what the networks start from")


def remaining(datasets, level: float) -> Interval:
  """Mean distribution-wise variance of tuned networks, over pretraining seeds."""
  values = [distribution_wise(one).estimate for one in tuned_networks(datasets, "pretrained")]
  return single.mean_interval(values, level)


def carried_over(a: Spread, b: Spread, level: float) -> Interval:
  """Kendall's tau of the seeds that both have; nan where there are too few or none differ."""
  _, at_a, at_b = np.intersect1d(a.runs, b.runs, return_indices=True)
  if len(at_a) < 5 or not np.ptp(a.last[at_a]) or not np.ptp(b.last[at_b]):
    return Interval(math.nan, math.nan, math.nan, level, "too few seeds that differ")
  return curves.kendall_tau(a.last[at_a], b.last[at_b], level)


def crossed_design(dataset: xarray.Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Accuracy of each combination, and the errors on two halves of the test set."""
  one = spread(dataset)
  streams = {s: dataset[f"seed_{s}"].values for s in settings.FACTORS}
  halves = crossed.halves(one.errors, np.random.default_rng(0))
  return tuple(crossed.design(values, streams)[0] for values in (one.last, *halves))


def disagreements(dataset: xarray.Dataset) -> np.ndarray:
  """Rows of churn between runs that share the initialisation, float64[I, J]."""
  labels = _labels(dataset)
  init_R, poke_R = (dataset[f"seed_{stream}"].values for stream in ("init", "poke"))
  rows_R = pairs.churn_rows(labels, groups=init_R)
  return crossed.design(rows_R, {"init": init_R, "poke": poke_R})[0]


def churn_rows(dataset: xarray.Dataset) -> np.ndarray:
  return pairs.churn_rows(_labels(dataset))


def _labels(dataset: xarray.Dataset) -> np.ndarray:
  """Predicted labels, int[R, E]; runs that diverged guess, and agree with others by chance."""
  labels = dataset["predicted_label"].transpose("run", "example").values
  gone = dataset["diverged"].values >= 0
  if gone.any():
    labels, rng = labels.copy(), np.random.default_rng(0)
    labels[gone] = rng.integers(findings.class_count(dataset), size=labels[gone].shape)
  return labels


def poked(datasets, name: str, level: float) -> Interval:
  """Disagreement of runs that differ in a poke over that of runs that differ in every seed."""
  poke, parts = crossed_pairs.without_levels(disagreements(datasets[name]), (1,), True)
  rows_R = churn_rows(datasets[f"{name.split('/')[0]}/all"])
  R, total = len(rows_R), rows_R.sum()
  other, left_R = total / (R * (R - 1)), (total - 2 * rows_R) / ((R - 1) * (R - 2))
  with np.errstate(divide="ignore"):
    log = float(np.log(poke) - np.log(other))
    parts = [*(np.log(part) - np.log(other) for part in parts), np.log(poke) - np.log(left_R)]
  low, high = several_jackknives(log, parts, level)
  limits = (math.exp(x) for x in (log, low, high))
  return Interval(*limits, level, "jackknife over pokes, initialisations and seeds")


def share_interval(one: Spread) -> Interval:
  """`share_of_variance` within [0, 1], with the interval of the distribution-wise variance."""
  own, examples = distribution_wise(one), one.errors.shape[1]
  independent = one.last.var(ddof=1) - own.estimate * (examples - 1) / examples
  return single.distribution_wise_share(own, independent, examples)


def share_of_variance(one: Spread) -> float:
  """The part of the variance of accuracies that is distribution-wise; 0 where they are equal."""
  own = max(distribution_wise(one).estimate, 0)
  return own / one.last.var(ddof=1) if np.ptp(one.last) else 0.0
