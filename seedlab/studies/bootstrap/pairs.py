"""A setting in both worlds: errors of the runs that both have, and when each has converged."""

import functools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import xarray

from seedlab import findings
from seedlab.config import parse
from seedlab.errors import UserError
from seedlab.stats import curves
from seedlab.studies.bootstrap import settings
from seedlab.studies.bootstrap.claims import CONVERGED

_ROUNDING = 1e-6  # 1 less an accuracy of exactly 99 % may come out above 1 %


class Pair(NamedTuple):
  """A setting in both worlds: error curves of the runs that both have."""

  name: str
  size: int
  runs: np.ndarray  # int64[R]
  steps: np.ndarray  # int64[E]
  real: Mapping[str, np.ndarray]  # metric -> float[R, E], test error
  ideal: Mapping[str, np.ndarray]
  train: np.ndarray  # float[R, E], hard train error in the real world
  converged: np.ndarray  # float[R], t*, or nan

  def gap(self, metric: str) -> np.ndarray:
    """float[R, E]: the bootstrap error."""
    return self.real[metric] - self.ideal[metric]

  def before(self, metric: str) -> np.ndarray:
    """float[R, E]: the bootstrap error up to t*, nan after it."""
    end = np.where(np.isnan(self.converged), np.inf, self.converged)
    return np.where(self.steps[None, :] <= end[:, None], self.gap(metric), np.nan)

  def stopped(self) -> np.ndarray:
    """int64[R]: the evaluation at t*, or the last one where it is not reached."""
    at = np.searchsorted(self.steps, np.where(np.isnan(self.converged), np.inf, self.converged))
    return np.minimum(at, len(self.steps) - 1)

  def only(self, runs: np.ndarray) -> "Pair":
    rows = np.isin(self.runs, runs)
    return self._replace(
      runs=self.runs[rows],
      real={metric: error[rows] for metric, error in self.real.items()},
      ideal={metric: error[rows] for metric, error in self.ideal.items()},
      train=self.train[rows],
      converged=self.converged[rows],
    )

  @property
  def reached(self) -> float:
    return float(np.isfinite(self.converged).mean())


def pair(real: xarray.Dataset, ideal: xarray.Dataset, name: str, size: int) -> Pair:
  """Two stores as a pair; raises UserError if more than their world differs.

  A diverged run counts as chance level from the evaluation after its divergence on.
  """
  settings.check_pair(parse(real.attrs["config"]), parse(ideal.attrs["config"]))
  digests = {print_["data"] for one in (real, ideal) for print_ in one.attrs["fingerprints"]}
  if len(digests) > 1:
    raise UserError(
      f"data.name={parse(real.attrs['config']).data.name!r} of {name} was not the same data in the"
      " real and in the ideal world; train both anew from one --data_dir"
    )
  runs = np.intersect1d(*(_completed(one) for one in (real, ideal)))
  steps = real["evaluation"].values
  worlds = []
  for dataset in (real, ideal):
    rows = np.searchsorted(dataset["run"].values, runs)
    chance = 1 - 1 / findings.class_count(dataset)
    bad = dataset["diverged"].values[rows]
    gone = (bad[:, None] >= 0) & (steps[None, :] > bad[:, None])
    soft = dataset["test_soft_error"].values[rows].astype(np.float64)
    hard = 1 - dataset["test_accuracy"].values[rows].astype(np.float64)
    train = 1 - dataset["train_accuracy"].values[rows].astype(np.float64)
    worlds.append([np.where(gone, chance, error) for error in (soft, hard, train)])
  (soft, hard, train), (ideal_soft, ideal_hard, _) = worlds
  return Pair(
    name,
    size,
    runs,
    steps,
    {"soft": soft, "hard": hard},
    {"soft": ideal_soft, "hard": ideal_hard},
    train,
    curves.first_at_most(train, steps, CONVERGED + _ROUNDING),
  )


def _completed(dataset: xarray.Dataset) -> np.ndarray:
  return dataset["run"].values[dataset["completed"].values.astype(bool)]


def at_stop(one: Pair, metric: str) -> tuple[np.ndarray, np.ndarray]:
  """float[R] twice: the error of each run at its t* (or the end), real and ideal."""
  rows, at = np.arange(len(one.runs)), one.stopped()
  return one.real[metric][rows, at], one.ideal[metric][rows, at]


def stops_of(one: Pair) -> tuple[np.ndarray, np.ndarray]:
  """float[R] twice: t* lies above the one and not above the other; inf if it is not reached."""
  reached = np.isfinite(one.converged)
  at = one.stopped()
  before = np.concatenate([[0], one.steps[:-1]])[at]
  return (
    np.where(reached, before, one.steps[-1]).astype(np.float64),
    np.where(reached, one.converged, np.inf),
  )


def alike(pairs: Mapping[str, Pair]) -> dict[str, Pair]:
  """The same pairs with the runs that all of them have."""
  shared = functools.reduce(np.intersect1d, [one.runs for one in pairs.values()])
  return {name: one.only(shared) for name, one in pairs.items()}
