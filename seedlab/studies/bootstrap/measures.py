"""Intervals of bootstrap errors, of ranks and of what augmentation does."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from seedlab.stats import comparison, curves
from seedlab.stats.curves import Band
from seedlab.stats.single import Interval, jackknife_interval
from seedlab.studies.bootstrap.pairs import Pair, at_stop, stops_of
from seedlab.studies.bootstrap.sweeps import Place


def band_of(values: np.ndarray, level: float) -> Band:
  return curves.simultaneous_band(values, level, np.random.default_rng(0))


def largest_gaps(at, place: Place, metric: str, level: float) -> list[Interval]:
  return [
    curves.largest_deviation(band_of(at[network, size].before(metric), level))
    for network in place.networks
    for size in place.sizes
  ]


def late_gaps(at, place: Place, metric: str, level: float) -> list[Interval]:
  return [mean_gap(at[n, place.sizes[0]].gap(metric)[:, -1], level) for n in place.networks]


def mean_gap(values: np.ndarray, level: float) -> Interval:
  """The mean of paired differences with its t interval."""
  return t_interval(values, np.zeros(len(values)), level)


def t_interval(a: np.ndarray, b: np.ndarray, level: float) -> Interval:
  runs = np.arange(len(a))
  found = comparison.difference(comparison.align(a, runs, b, runs, paired=True), level)
  return Interval(found.estimate, found.low, found.high, level, found.method)


def ranks(settings: Sequence[Pair], level: float) -> list[Interval]:
  """Kendall's tau between the worlds, and mean |gap| over the ideal sd between settings."""
  real, ideal = (
    np.array(errors) for errors in zip(*(at_stop(one, "soft") for one in settings), strict=True)
  )

  def ratio(real_SxR, ideal_SxR):
    real_S, ideal_S = real_SxR.mean(1), ideal_SxR.mean(1)
    return math.log(np.abs(real_S - ideal_S).mean() / ideal_S.std(ddof=1))

  whole = ratio(real, ideal)
  left_out = [
    ratio(np.delete(real, run, 1), np.delete(ideal, run, 1)) for run in range(real.shape[1])
  ]
  limits = np.exp([whole, *jackknife_interval(whole, left_out, level)]).tolist()
  return [
    curves.kendall_tau(real.mean(1), ideal.mean(1), level),
    Interval(*limits, level, "run jackknife of the log"),
  ]


def augmentation_effects(last: Mapping[str, Pair], place: Place, level: float) -> list[Interval]:
  delays, harms = [], []
  for network in place.networks:
    plain, augmented = last[network], last[f"{network},{place.augmented}"]
    delays.append(delay_of(augmented, plain, level))
    harms.append(t_interval(augmented.ideal["hard"][:, -1], plain.ideal["hard"][:, -1], level))
  return delays + harms


def delay_of(augmented: Pair, plain: Pair, level: float) -> Interval:
  """log t* of `augmented` less log t* of `plain`, which every run has to reach.

  A t* is known to the interval between two evaluations, and one that is not reached only
  to lie beyond the last. So low is the t interval's limit for the smallest ratios that these
  allow, high for the largest, which is no number where a run does not reach its t*. Where
  all runs have the same ratio there is no spread, and it is the limit itself.
  """
  first, last = stops_of(augmented)
  plain_first, plain_last = stops_of(plain)
  least, most = np.log(first / plain_last), np.log(last / np.maximum(plain_first, 1))
  low = mean_gap(least, level).low
  if math.isnan(low):
    low = float(least.min())
  high = math.inf
  if np.isfinite(most).all():
    high = mean_gap(most, level).high
    if math.isnan(high):
      high = float(most.max())
  seen = np.minimum(last, augmented.steps[-1])
  estimate = float(np.log(seen / plain_last).mean())
  return Interval(estimate, low, high, level, "t interval of censored ratios")
