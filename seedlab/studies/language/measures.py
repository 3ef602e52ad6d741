"""What is measured on the runs of the study of language."""

import functools
import math
from collections.abc import Mapping

import numpy as np
import scipy.stats
import xarray

from seedlab.stats import crossed, crossed_pairs, pairs, single
from seedlab.stats.crossed_pairs import PairTables
from seedlab.stats.single import Interval

_FLOOR = 1e-9  # chances below it count as this in a divergence


def losses(dataset: xarray.Dataset, name: str = "test_loss") -> np.ndarray:
  """float64[R] at the end, or float64[R, T] of `losses_T`."""
  return losses_T(dataset, name)[:, -1]


def losses_T(dataset: xarray.Dataset, name: str = "test_loss") -> np.ndarray:
  return dataset[name].transpose("run", "evaluation").values.astype(np.float64)


def chances(dataset: xarray.Dataset, evaluation: int = -1) -> np.ndarray:
  """float64[R, C, V]: of the next token in each frozen context."""
  kept = dataset["next_token"].transpose("run", "evaluation", "context", "token")
  return np.exp(kept.values[:, evaluation].astype(np.float64))


def divergence(p: np.ndarray, q: np.ndarray) -> np.ndarray:
  """(KL(p, q) + KL(q, p)) / 2 over the last axis, nats."""
  p, q = np.maximum(p, _FLOOR), np.maximum(q, _FLOOR)
  return ((p - q) * (np.log(p) - np.log(q))).sum(-1) / 2


def divergence_rows(p_RxCxV: np.ndarray) -> np.ndarray:
  """rows_R of the divergence, for `pairs.pair_mean` and `pairs.pair_ratio`."""
  return pairs.distance_rows(p_RxCxV, divergence)


def correlation(x_R: np.ndarray, y_R: np.ndarray, level: float) -> Interval:
  """Of two outcomes over the seeds, with Fisher's z interval (normal outcomes)."""
  if len(x_R) < 4 or not np.ptp(x_R) or not np.ptp(y_R):
    return Interval(math.nan, math.nan, math.nan, level, "Fisher z")
  found = float(np.corrcoef(x_R, y_R)[0, 1])
  half = scipy.stats.norm.isf((1 - level) / 2) / math.sqrt(len(x_R) - 3)
  z = math.atanh(min(max(found, -1 + 1e-12), 1 - 1e-12))
  return Interval(found, math.tanh(z - half), math.tanh(z + half), level, "Fisher z")


def relative_spread(values_R: np.ndarray, level: float) -> Interval:
  """Standard deviation over the mean."""
  sd, mean = single.sd_interval(values_R, level), values_R.mean()
  return Interval(sd.estimate / mean, sd.low / mean, sd.high / mean, level, sd.method)


def halves(dataset: xarray.Dataset) -> tuple[np.ndarray, np.ndarray]:
  """Loss of each run on every second window of the held-out book, and on those between."""
  values = dataset["window_loss"].transpose("run", "window").values.astype(np.float64)
  return values[:, ::2].mean(1), values[:, 1::2].mean(1)


def share_within(values_RxD: np.ndarray, level: float) -> Interval:
  """Share of the variance of one draw of a new run that is between the draws of one run.

  One less the intraclass correlation of a one-way layout of random effects, with its interval by F
  (Searle 1971): exact for normal effects.
  """
  runs, draws = values_RxD.shape
  between = draws * values_RxD.mean(1).var(ddof=1)
  within = values_RxD.var(axis=1, ddof=1).mean()
  if not within > 0:
    return Interval(math.nan, math.nan, math.nan, level, "intraclass correlation")
  ratio = between / within
  upper = scipy.stats.f.isf((1 - level) / 2, runs - 1, runs * (draws - 1))
  lower = scipy.stats.f.isf(1 - (1 - level) / 2, runs - 1, runs * (draws - 1))

  def share(f: float) -> float:
    return min(1.0, draws / (draws - 1 + f)) if f > 1 else 1.0

  return Interval(share(ratio), share(ratio / lower), share(ratio / upper), level, "one-way F")


def of_design(dataset: xarray.Dataset, values_R: np.ndarray) -> np.ndarray:
  """float64[I, J] of a crossed sweep: initialisations and orders."""
  seeds = {stream: dataset[f"seed_{stream}"].values for stream in ("init", "order")}
  return crossed.design(values_R, seeds)[0]


def totals(dataset: xarray.Dataset, values_R: np.ndarray, level: float) -> list[Interval]:
  """Total effects of the initialisation and of the order, as shares of the variance."""
  found = crossed.effects(of_design(dataset, values_R), ("init", "order"), level=level)
  return [found["init"].total, found["order"].total]


def tables(dataset: xarray.Dataset) -> PairTables:
  """Prediction difference by what two runs share."""
  p = chances(dataset)

  def rows(groups=None):
    return pairs.l1_rows(p, groups=groups)

  return crossed_pairs.pair_tables(rows, dataset["seed_init"].values, dataset["seed_order"].values)


def share_of_both(found: PairTables, level: float) -> list[Interval]:
  """Prediction difference with one source alone, over that with both: initialisation, then order.

  Levels of both factors are left out, one after the other.
  """
  whole, parts = crossed_pairs.without_levels(found.both, (0, 1))
  result = []
  for table, axis in ((found.first, 0), (found.second, 1)):
    mean, left = crossed_pairs.without_levels(table, (axis,), new_groups=True)
    logs = [np.log(x) - np.log(y) for x, y in zip(left, parts, strict=True)]
    if min(map(len, logs)) < 3:
      low = high = math.nan
    else:
      low, high = map(math.exp, single.several_jackknives(math.log(mean / whole), logs, level))
    result.append(Interval(mean / whole, low, high, level, "jackknife over both factors"))
  return result


def frequent(dataset: xarray.Dataset) -> np.ndarray:
  """bool[C]: contexts whose true next token is among the most frequent, which make half of all."""
  token_C = dataset["context_token"].values[0]
  values, counts = np.unique(token_C, return_counts=True)
  order = np.argsort(-counts, kind="stable")
  before = np.cumsum(counts[order]) - counts[order]
  return np.isin(token_C, values[order][before < len(token_C) / 2])


def mean_difference(a_R: np.ndarray, b_R: np.ndarray, level: float) -> Interval:
  """Mean a less mean b of two sweeps over the same seeds, by Student's t of the differences."""
  return single.mean_interval(a_R - b_R, level)


def draws(dataset: xarray.Dataset, name: str) -> np.ndarray:
  """float64[R, D]: a measure of the texts of each draw, at the end."""
  kept = dataset[name].transpose("run", "evaluation", "draw")
  return kept.values[:, -1].astype(np.float64)


def by_activation(found: Mapping[str, xarray.Dataset]) -> dict[str, xarray.Dataset]:
  """The runs with each activation, over the seeds that all of them have."""
  kept = [name for name in ("smelu", "relu", "squared_relu") if f"text/{name}" in found]
  names = {"gelu": "text/main", **{name: f"text/{name}" for name in kept}}
  shared = functools.reduce(np.intersect1d, [found[name]["run"].values for name in names.values()])
  return {
    activation: found[name].isel(run=np.isin(found[name]["run"].values, shared))
    for activation, name in names.items()
  }


def sound(dataset: xarray.Dataset) -> xarray.Dataset:
  """The runs that were completed and did not diverge."""
  kept = dataset["completed"].values.astype(bool) & (dataset["diverged"].values < 0)
  return dataset.isel(run=np.flatnonzero(kept))
