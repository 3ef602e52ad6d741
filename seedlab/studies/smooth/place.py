"""The settings of a place, measured, and statistics of them that leave out an order each."""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import xarray

from seedlab import metrics
from seedlab.errors import UserError
from seedlab.stats import crossed_pairs, pairs
from seedlab.stats.single import Interval, jackknife_interval

ENSEMBLE = 3


class Place(NamedTuple):
  """The settings of one place, measured; every array has initialisations and orders in front."""

  name: str
  settings: Mapping[str, "Measured"]  # in the order in which they are shown


class Measured(NamedTuple):
  """A setting of a crossed design of I initialisations and J orders, at T evaluations."""

  steps: np.ndarray  # int64[T]
  loss: np.ndarray  # float64[I, J, T]
  score: np.ndarray  # float64[I, J, T]: AUC of clicks, accuracy of images
  tables: crossed_pairs.PairTables  # of PD at the end
  order_T: Sequence[np.ndarray]  # rows of order-only PD at each evaluation, float64[I, J]
  judged_T: Sequence[np.ndarray]  # within the second half of the orders, float64[I, J - J // 2]
  first_half: np.ndarray  # at the end, within the first half of the orders, float64[I, J // 2]
  churn: np.ndarray  # rows of changed labels at the end, float64[I, J]
  overlap: np.ndarray | None  # of lists at the end, within the second half of the orders
  ensembles: np.ndarray  # of means over the first ENSEMBLE initialisations, float64[1, J]
  end: np.ndarray | None  # probabilities at the end, float32[R, E, ...] in the order of the store


def measure(dataset: xarray.Dataset, name: str, keep_end: bool = False) -> Measured:
  """What the runs of a store say, whose predictions are read here and nowhere else.

  Args:
    name: of the setting, for the error.
    keep_end: keep the probabilities at the end too, for whoever compares them run by run.

  Raises UserError where a run of the design is missing or diverged.
  """
  sound = dataset["completed"].values.astype(bool) & (dataset["diverged"].values < 0)
  if not sound.all():
    raise UserError(
      f"{name}: {int((~sound).sum())} of {len(sound)} runs diverged or are missing, and a crossed"
      " design needs all of them; lower optimizer.learning_rate"
    )
  init_R, order_R = (dataset[f"seed_{stream}"].values for stream in ("init", "order"))
  orders = np.unique(order_R)
  late_R = np.isin(order_R, orders[len(orders) // 2 :])
  probability = probabilities(dataset)
  end = probability[:, -1]

  def crossed(values_R, chosen_R=slice(None)) -> np.ndarray:
    at = np.lexsort((order_R[chosen_R], init_R[chosen_R]))
    inits = len(np.unique(init_R))
    return np.asarray(values_R, np.float64)[at].reshape(inits, -1, *np.shape(values_R)[1:])

  def rows(predictions, chosen_R=slice(None), of=pairs.l1_rows) -> np.ndarray:
    return crossed(of(predictions[chosen_R], groups=init_R[chosen_R]), chosen_R)

  together_R = np.isin(init_R, np.unique(init_R)[:ENSEMBLE])
  ensembles = np.stack([end[together_R & (order_R == order)].mean(0) for order in orders])
  overlap = None
  if "best_films" in dataset:
    lists = dataset["best_films"].transpose("run", ...).values
    overlap = rows(lists, late_R, metrics.list_overlap_rows)
  score = "test_auc" if "test_auc" in dataset else "test_accuracy"
  return Measured(
    steps=dataset["evaluation"].values,
    loss=crossed(dataset["test_loss"].transpose("run", "evaluation").values),
    score=crossed(dataset[score].transpose("run", "evaluation").values),
    tables=crossed_pairs.pair_tables(functools.partial(pairs.l1_rows, end), init_R, order_R),
    order_T=[rows(probability[:, t]) for t in range(probability.shape[1])],
    judged_T=[rows(probability[:, t], late_R) for t in range(probability.shape[1])],
    first_half=rows(end, ~late_R),
    churn=rows(dataset["predicted_label"].transpose("run", "example").values, of=pairs.churn_rows),
    overlap=overlap,
    ensembles=pairs.l1_rows(ensembles)[None],
    end=end.copy() if keep_end else None,  # a view would keep every evaluation
  )


def pd_without(rows_IxJ: np.ndarray) -> np.ndarray:
  mean, (left_J,) = crossed_pairs.without_levels(rows_IxJ, (1,))
  return np.concatenate([[mean], left_J])


def mean_without(values_IxJ: np.ndarray) -> np.ndarray:
  J = values_IxJ.shape[1]
  columns_J = values_IxJ.mean(0)
  return np.concatenate([[columns_J.mean()], (columns_J.sum() - columns_J) / (J - 1)])


def interval_of(left: np.ndarray, level: float, log: bool = False) -> Interval:
  """Of a statistic in that form, on the log scale where it is a ratio."""
  values = np.log(left) if log else left
  if not np.isfinite(values).all():
    return Interval(float(left[0]), math.nan, math.nan, level, "jackknife over orders")
  low, high = jackknife_interval(float(values[0]), values[1:], level)
  if log:
    low, high = math.exp(low), math.exp(high)
  return Interval(float(left[0]), low, high, level, "jackknife over orders, these initialisations")


def pd_ratio(rows_IxJ: np.ndarray, other_IxJ: np.ndarray, level: float = 0.95) -> Interval:
  """PD of the one over that of the other, paired by orders."""
  return interval_of(pd_without(rows_IxJ) / pd_without(other_IxJ), level, log=True)


def probabilities(dataset: xarray.Dataset) -> np.ndarray:
  """float32[R, T, E, ...]."""
  return dataset["probability"].transpose("run", "evaluation", ...).values


def second_half(values: np.ndarray) -> np.ndarray:
  return values[:, values.shape[1] // 2 :]


def end_rows(dataset: xarray.Dataset) -> np.ndarray:
  """rows_R of PD at the end, of the runs that did not diverge."""
  sound = dataset["completed"].values.astype(bool) & (dataset["diverged"].values < 0)
  return pairs.l1_rows(probabilities(dataset)[sound, -1])
