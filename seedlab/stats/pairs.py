"""Means over pairs of runs: how much two trainings of one network differ in their predictions.

The estimand is E d(f, f') for two new seeds; its estimate is the mean over all
pairs of runs (a U-statistic of order 2), which does not drift with the number of
runs as a mean deviation from the average prediction does. Pairs that share a run
are not independent: the interval leaves out runs, not pairs.

Everything follows from one number a run, its distances to all the others,

    rows_R[m] = sum_j d(m, j),

and for distances that decompose over examples these need no pairs at all: memory
and time grow with runs times examples. Distances are symmetric and d(m, m) = 0.
They speak of the given examples; new examples would have to be resampled as well.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike

from seedlab.stats.single import Interval, finite_values, jackknife_interval, upper_tail

_BLOCK = 2**22  # numbers held at once


def matrix_rows(distances_RxR: ArrayLike) -> np.ndarray:
  """rows_R of a matrix of pair values, symmetric and finite off its diagonal, which is not read."""
  distances_RxR = np.array(distances_RxR, np.float64)
  if distances_RxR.ndim != 2 or distances_RxR.shape[0] != distances_RxR.shape[1]:
    raise ValueError(f"distances must have the shape [R, R], not {distances_RxR.shape}")
  np.fill_diagonal(distances_RxR, 0)
  if not np.isfinite(distances_RxR).all():
    first, second = np.argwhere(~np.isfinite(distances_RxR))[0]
    raise ValueError(f"the distance of runs {first} and {second} is not finite")
  if not np.allclose(distances_RxR, distances_RxR.T, rtol=1e-9, atol=0):
    raise ValueError("distances must be symmetric")
  return distances_RxR.sum(1)


def votes(labels_RxE: ArrayLike) -> np.ndarray:
  """int64[E, K]: how many of the runs say each class on each example.

  Args:
    labels_RxE: integers from 0, such as predicted classes; read in blocks of runs.
  """
  labels_RxE = _labels(labels_RxE)
  examples, classes = labels_RxE.shape[1], int(labels_RxE.max()) + 1
  offsets_E = np.arange(examples) * classes
  counts = np.zeros(examples * classes, np.int64)
  for block in _blocks_of_runs(labels_RxE):
    counts += np.bincount((offsets_E + labels_RxE[block]).ravel(), minlength=len(counts))
  return counts.reshape(examples, classes)


def churn_rows(labels_RxE: ArrayLike, votes_ExK: np.ndarray | None = None) -> np.ndarray:
  """rows_R of the disagreement d(m, j) = fraction of the E examples with another label.

    rows_R[m] = (1/E) sum_e (R - n_e(y_me)),   n_e(y) = number of runs that say y on example e

  Exact, from counts. (Churn: Milani Fard et al., "Launch and iterate", 2016.)

  Args:
    labels_RxE: as for `votes`.
    votes_ExK: `votes(labels_RxE)`, if at hand.
  """
  labels_RxE = _labels(labels_RxE)
  counts_ExK = votes(labels_RxE) if votes_ExK is None else votes_ExK
  runs, examples = labels_RxE.shape
  offsets_E = np.arange(examples) * counts_ExK.shape[1]
  rows_R = np.empty(runs)
  for block in _blocks_of_runs(labels_RxE):
    agreeing = counts_ExK.ravel()[offsets_E + labels_RxE[block]].sum(1)
    rows_R[block] = runs - agreeing / examples
  return rows_R


def _labels(labels_RxE: ArrayLike) -> np.ndarray:
  labels_RxE = _runs_by_examples(labels_RxE)
  if labels_RxE.dtype.kind not in "bui" or labels_RxE.min() < 0:
    raise ValueError(f"labels must be integers from 0, not {labels_RxE.dtype}")
  return labels_RxE


def _blocks_of_runs(labels_RxE: np.ndarray) -> Iterator[slice]:
  step = max(1, _BLOCK // labels_RxE.shape[1])
  return (slice(first, first + step) for first in range(0, len(labels_RxE), step))


def l1_rows(predictions_RxE: ArrayLike) -> np.ndarray:
  """rows_R of d(m, j) = (1/E) sum_e |p_me - p_je|, for class probabilities summed over classes.

  With p_(0) <= ... <= p_(R-1) the sorted predictions of one example,

    sum_j |p_(k) - p_(j)| = (2k - R) p_(k) + sum_j p_(j) - 2 sum_{j<k} p_(j)

  Args:
    predictions_RxE: finite floats [R, E], or probabilities [R, E, C]: then 2 is the
      largest distance, and that of two classes twice the distance of one of them.
  """
  predictions = np.asarray(predictions_RxE)
  if predictions.ndim == 3:
    examples = predictions.shape[1]
    return l1_rows(predictions.reshape(len(predictions), -1)) * predictions.shape[2]
  predictions_RxE = _runs_by_examples(predictions)
  runs, examples = predictions_RxE.shape
  ranks_R = np.arange(runs)
  rows_R = np.zeros(runs)
  step = max(1, _BLOCK // runs)
  for first in range(0, examples, step):
    block_BxR = predictions_RxE[:, first : first + step].T.astype(np.float64)
    if not np.isfinite(block_BxR).all():
      example, run = np.argwhere(~np.isfinite(block_BxR))[0]
      raise ValueError(f"the prediction of run {run} on example {first + example} is not finite")
    order_BxR = np.argsort(block_BxR, axis=1)
    sorted_BxR = np.take_along_axis(block_BxR, order_BxR, axis=1)
    sorted_BxR -= sorted_BxR[:, :1].copy()  # equal predictions give exactly 0
    before_BxR = np.cumsum(sorted_BxR, axis=1)
    total_Bx1 = before_BxR[:, -1:].copy()
    before_BxR -= sorted_BxR
    parts_BxR = (2 * ranks_R - runs) * sorted_BxR + total_Bx1 - 2 * before_BxR
    rows_R += np.bincount(order_BxR.ravel(), weights=parts_BxR.ravel(), minlength=runs)
  return rows_R / examples


def disjoint_distances(
  predictions_RxE: ArrayLike, distance: Callable[[np.ndarray, np.ndarray], float]
) -> np.ndarray:
  """Distances of runs 0 and 1, 2 and 3, ...: float[R // 2], independent of each other.

  For a distance that does not decompose over examples, where all pairs are too many:
  `single.summary` of these values is a valid interval of the same estimand.
  """
  predictions = np.asarray(predictions_RxE)
  pairs = range(0, len(predictions) - 1, 2)
  return np.array([distance(predictions[m], predictions[m + 1]) for m in pairs], np.float64)


def pair_mean(rows_R: ArrayLike, level: float = 0.95) -> Interval:
  """Mean over the pairs of runs, with the run jackknife-t interval of its log.

    U = sum_j rows_R[j] / (R (R-1)),   U_(-m) = (sum_j rows_R[j] - 2 rows_R[m]) / ((R-1)(R-2))

  (Hoeffding 1948; interval: Arvesen 1969, `single.jackknife_interval` of log U_(-m).)
  U is unbiased for independent runs. On the log the limits stay positive, and runs of
  uneven restlessness, which skew U, cost less coverage. One run has no pair
  (ValueError); there is no interval (nan) for two runs, for values without spread, and
  where U is 0 or becomes it without one run.
  """
  mean, _ = _leave_one_out(rows_R)
  log, without_R = _log_leave_one_out(rows_R)
  low, high = jackknife_interval(log, without_R, level) if math.isfinite(log) else (math.nan,) * 2
  return Interval(mean, math.exp(low), math.exp(high), level, "run jackknife of log pair mean")


def pair_ratio(
  rows_a_R: ArrayLike, rows_b_S: ArrayLike, paired: bool, level: float = 0.95
) -> Interval:
  """Ratio A / B of two sweeps' means over pairs, with a jackknife-t interval on its log.

  Paired (run m of both sweeps has the same seeds): run m is left out of both at once.
  Otherwise the squared standard errors of the two logs add, with Satterthwaite's
  degrees of freedom. nan where a mean is 0 or becomes it without one run, and below
  three runs; paired sweeps of different length raise ValueError.
  """
  if paired and len(rows_a_R) != len(rows_b_S):
    raise ValueError(
      f"paired sweeps must hold the same runs, not {len(rows_a_R)} and {len(rows_b_S)}"
    )
  (a, a_R), (b, b_S) = _log_leave_one_out(rows_a_R), _log_leave_one_out(rows_b_S)
  if not all(np.isfinite(x).all() for x in (a, b, a_R, b_S)):
    low, high = math.nan, math.nan
  elif paired:
    low, high = jackknife_interval(a - b, a_R - b_S, level)
  else:
    low, high = _separate_limits((a, b), (a_R, b_S), level)
  method = f"{'paired' if paired else 'separate'} run jackknife of log ratio"
  with np.errstate(invalid="ignore"):
    estimate = float(np.exp(a - b))
  return Interval(estimate, math.exp(low), math.exp(high), level, method)


def _leave_one_out(rows_R: ArrayLike) -> tuple[float, np.ndarray]:
  """The mean over pairs, and without each run (nan for two runs)."""
  rows_R = finite_values(rows_R)
  runs, total = len(rows_R), rows_R.sum()
  if runs < 2:
    raise ValueError("one run has no pairs; at least two runs are needed, three for an interval")
  mean = float(total / (runs * (runs - 1)))
  if runs == 2:
    return mean, np.full(2, math.nan)
  return mean, (total - 2 * rows_R) / ((runs - 1) * (runs - 2))


def _log_leave_one_out(rows_R: ArrayLike) -> tuple[float, np.ndarray]:
  mean, without_R = _leave_one_out(rows_R)
  without_R[without_R < 1e-12 * mean] = 0  # rounding: only one run differs from the others
  with np.errstate(divide="ignore"):
    return float(np.log(mean)), np.log(without_R)


def _separate_limits(logs, without, level: float) -> tuple[float, float]:
  """Of the difference of two independent jackknifed estimates."""
  centres = [len(x) * log - (len(x) - 1) * x.mean() for log, x in zip(logs, without, strict=True)]
  variances = np.array([(len(x) - 1) ** 2 / len(x) * x.var(ddof=1) for x in without])
  freedom = np.array([len(x) - 1 for x in without])
  if variances.sum() <= 1e-24:
    return math.nan, math.nan
  df = variances.sum() ** 2 / (variances**2 / freedom).sum()
  half = scipy.stats.t.ppf(upper_tail(level), df) * math.sqrt(variances.sum())
  return centres[0] - centres[1] - half, centres[0] - centres[1] + half


def _runs_by_examples(values_RxE: ArrayLike) -> np.ndarray:
  values_RxE = np.asarray(values_RxE)
  if values_RxE.ndim != 2 or not values_RxE.size:
    raise ValueError(f"runs and examples must have the shape [R, E], not {values_RxE.shape}")
  return values_RxE
