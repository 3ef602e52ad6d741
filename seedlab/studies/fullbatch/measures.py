"""What is measured on the runs of a row."""

import numpy as np
import xarray

from seedlab import findings
from seedlab.config import Config
from seedlab.stats import comparison
from seedlab.stats.single import Interval


def difference(a: xarray.Dataset, b: xarray.Dataset, level: float, metric="test_accuracy"):
  """Mean a - mean b over shared seeds, as an Interval in display units."""
  columns = [findings.examine(dataset, metric).columns[0] for dataset in (a, b)]
  one, other = columns
  two = comparison.align(one.values, one.runs, other.values, other.runs, paired=True)
  found = comparison.difference(two, level)
  return Interval(found.estimate, found.low, found.high, level, found.method)


def accuracy(dataset: xarray.Dataset) -> np.ndarray:
  return findings.examine(dataset, "test_accuracy").columns[0].values


def passes(config: Config) -> float:
  """Gradient evaluations of a run in passes over the training images."""
  gradient = config.gradient
  cost = 1.0
  if gradient.penalty:
    cost = {"forward": 2.0, "central": 3.0, "exact": 2.5}[gradient.penalty_form]
  copies = (config.data.copies or 1) if config.training.full_batch else 1
  return cost * copies * config.training.epochs
