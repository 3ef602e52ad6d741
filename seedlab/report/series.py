"""What is drawn of a sweep, whichever library draws it: numbers and labels, no figure."""

import math
from typing import NamedTuple

import numpy as np

from seedlab import stats
from seedlab.findings import Findings
from seedlab.report import words

_LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)


class Histogram(NamedTuple):
  """Runs by value, of those that did not diverge."""

  edges: np.ndarray  # float64[B + 1], in the unit shown
  counts: np.ndarray  # int64[B]
  mean: float
  spans: list[tuple[str, float]]  # (words, half its length) of each bar around the mean


class Bands(NamedTuple):
  """How the runs that are finite throughout go over training."""

  steps: np.ndarray  # int64[E]
  quantiles: np.ndarray  # float64[5, E]: 5, 25, 50, 75 and 95 %
  sd: np.ndarray  # float64[E], between runs


def histogram(found: Findings) -> Histogram:
  """The histogram; its bars are one sd and, if enough is known, one distribution-wise sd long."""
  column = found.columns[-1]
  s = column.summary
  edges = stats.histogram_edges(column.values, 100 / found.examples if found.examples else 0.0)
  spans = [
    (f"{name} {words.number(found, half, s.sd)}", half)
    for name, half in (("sd", s.sd), ("distribution-wise sd", column.sd))
    if math.isfinite(half) and (name == "sd" or words.own_share(found))
  ]
  return Histogram(edges, np.histogram(column.values, edges)[0], s.mean, spans)


def bands(found: Findings) -> Bands | None:
  """The bands; None for fewer than two evaluations or two such runs."""
  whole = np.isfinite(found.curves).all(axis=1)
  if len(found.steps) < 2 or whole.sum() < 2:
    return None
  return Bands(found.steps, *stats.bands(found.curves[whole], _LEVELS))


def frame(curves_KxE: np.ndarray) -> tuple[float, float]:
  """Limits that hold the last three quarters of training; the first steps would flatten them."""
  framed = curves_KxE[:, curves_KxE.shape[1] // 4 :]
  margin = 0.08 * np.ptp(framed) or 0.5
  return framed.min() - margin, framed.max() + margin
