"""Means over pairs of runs: how much two trainings of one network differ in their predictions.

The estimand is E d(f, f') for two new seeds; its estimate is the mean over all
pairs of runs (a U-statistic of order 2), which does not drift with the number of
runs as a mean deviation from the average prediction does. Pairs that share a run
are not independent: the interval leaves out runs, not pairs.

Everything follows from one number a run, its distances to all the others,

    rows_R[m] = sum_j d(m, j),

and for distances that decompose over examples these need no pairs at all: memory
and time grow with runs times examples. Distances are symmetric and d(m, m) = 0.
They speak of the given examples; for new ones see `new_examples_mean`.

Predictions are floats [R, E] (one probability, score or logit an example) or
[R, E, K] (K classes); labels are integers [R, E]. Both may be anything with `shape`,
`dtype` and slices x[:, a:b], such as a memory map or a zarr array: blocks of examples are
read, of 256 MiB at most, and never the whole. `groups`, int[R], restricts the pairs
to those of runs with the same group.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import ArrayLike

from seedlab.errors import UserError
from seedlab.stats.single import (
  Interval,
  finite_values,
  jackknife_interval,
  several_jackknives,
)

_READ = 2**28  # bytes read at once: a compressed store unpacks its chunks again for each read
_BLOCK = 2**14  # numbers sorted at once: they stay in the cache, and malloc keeps their memory

_ONE_RUN = "one run has no pairs; train at least two, three for an interval"

# Per example: arrays [..., B, K] and [..., B, K] (K = 1 for one number an example) -> [..., B].
Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]


def blocks(predictions: ArrayLike, size: int = 1) -> Iterator[tuple[int, np.ndarray]]:
  """First example, and predictions [R, B, K] in their own precision, for block after block.

  K is 1 for predictions [R, E]. Where the blocks end depends on the shape and `size` alone.
  """
  predictions = readable(predictions)
  if len(predictions.shape) not in (2, 3) or 0 in predictions.shape:
    raise ValueError(
      f"predictions must have the shape [R, E] or [R, E, K], not {tuple(predictions.shape)}"
    )
  for first, block in read(predictions, size):
    block = block.reshape(*block.shape[:2], -1)
    if not np.isfinite(block).all():
      run, example = np.argwhere(~np.isfinite(block))[0, :2]
      raise UserError(
        f"the prediction of run {run} on example {first + example} is not finite;"
        " leave out runs that diverged"
      )
    yield first, block


def read(values, size: int = 1) -> Iterator[tuple[int, np.ndarray]]:
  """First example, and the values [R, B, ...] as they are, in blocks `size` times the usual."""
  runs, examples = values.shape[:2]
  numbers = runs * math.prod(values.shape[2:])
  step = max(1, size * _BLOCK // numbers)
  stride = max(1, _READ // (numbers * values.dtype.itemsize * step)) * step
  for start in range(0, examples, stride):
    held = np.asarray(values[:, start : start + stride])
    for first in range(0, held.shape[1], step):
      yield start + first, held[:, first : first + step].copy()  # no view keeps `held` alive
    del held  # before the next is read


def readable(values):
  """As it is if it can be read in blocks; lists become arrays."""
  return values if hasattr(values, "shape") and hasattr(values, "dtype") else np.asarray(values)


def members(groups: ArrayLike | None, runs: int) -> list[np.ndarray]:
  """The runs of each group; all of them without groups."""
  groups_R = np.zeros(runs) if groups is None else np.asarray(groups)
  if groups_R.shape != (runs,):
    raise ValueError(f"groups must have the shape [{runs}], one a run, not {groups_R.shape}")
  return [np.flatnonzero(groups_R == group) for group in np.unique(groups_R)]


def votes(labels_RxE: ArrayLike) -> np.ndarray:
  """int64[E, K]: how many of the runs say each class on each example.

  Args:
    labels_RxE: integers from 0, such as predicted classes.
  """
  found = [_votes(block_RxB) for _, block_RxB in _label_blocks(labels_RxE)]
  classes = max(counts.shape[1] for counts in found)
  return np.concatenate([np.pad(x, ((0, 0), (0, classes - x.shape[1]))) for x in found])


def _votes(labels_RxB: np.ndarray) -> np.ndarray:
  examples, classes = labels_RxB.shape[1], int(labels_RxB.max()) + 1
  cells_RxB = np.arange(examples) * classes + labels_RxB
  return np.bincount(cells_RxB.ravel(), minlength=examples * classes).reshape(examples, classes)


def churn_rows(
  labels_RxE: ArrayLike, votes_ExK: np.ndarray | None = None, groups: ArrayLike | None = None
) -> np.ndarray:
  """rows_R of the disagreement d(m, j) = fraction of the E examples with another label, in [0, 1].

    rows_R[m] = (1/E) sum_e (R - n_e(y_me)),   n_e(y) = number of runs that say y on example e

  Exact, from counts. (Churn: Milani Fard et al., "Launch and iterate", 2016.)

  Args:
    labels_RxE: as for `votes`.
    votes_ExK: `votes(labels_RxE)`, if at hand; not with groups.
    groups: int[R]; R and n_e then count the runs of a run's group.
  """
  if votes_ExK is not None and groups is not None:
    raise ValueError("votes of all runs do not serve groups of them")
  labels_RxE = _labels(labels_RxE)
  runs, examples = labels_RxE.shape
  of_groups = members(groups, runs)
  apart_R = np.zeros(runs, np.int64)
  for first, block_RxB in _label_blocks(labels_RxE):
    for runs_M in of_groups:
      labels_MxB = block_RxB[runs_M]
      counts_BxK = (
        _votes(labels_MxB) if votes_ExK is None else votes_ExK[first : first + block_RxB.shape[1]]
      )
      offsets_B = np.arange(len(counts_BxK)) * counts_BxK.shape[1]
      agreeing_MxB = counts_BxK.ravel()[offsets_B + labels_MxB]
      apart_R[runs_M] += labels_MxB.size - agreeing_MxB.sum(1)
  return apart_R / examples


def example_churn(votes_ExK: ArrayLike) -> np.ndarray:
  """float64[E]: share of the pairs of runs that say different labels, from `votes`.

  Its mean over the examples is `pair_mean` of `churn_rows`.
  """
  votes_ExK = np.asarray(votes_ExK)
  runs = votes_ExK[0].sum()
  if runs < 2:
    raise UserError(_ONE_RUN)
  return (votes_ExK * (runs - votes_ExK)).sum(1) / (runs * (runs - 1))


def _labels(labels_RxE: ArrayLike):
  labels_RxE = readable(labels_RxE)
  if len(labels_RxE.shape) != 2 or 0 in labels_RxE.shape:
    raise ValueError(f"labels must have the shape [R, E], not {tuple(labels_RxE.shape)}")
  if labels_RxE.dtype.kind not in "bui":
    raise ValueError(f"labels must be integers from 0, not {labels_RxE.dtype}")
  return labels_RxE


def _label_blocks(labels_RxE: ArrayLike) -> Iterator[tuple[int, np.ndarray]]:
  for first, block_RxB in read(_labels(labels_RxE), 64):
    if block_RxB.min() < 0:
      raise ValueError(f"labels must be integers from 0, not {block_RxB.min()}")
    yield first, block_RxB


def l1_rows(predictions: ArrayLike, groups: ArrayLike | None = None) -> np.ndarray:
  """rows_R of d(m, j) = (1/E) sum_e |p_me - p_je|, for class probabilities summed over classes.

  With p_(0) <= ... <= p_(R-1) the sorted predictions of one example and class,
  S_k = sum_j |p_(k) - p_(j)| follows from the gaps between neighbours,

    S_0 = sum_k (R - k) (p_(k) - p_(k-1)),   S_k = S_(k-1) + (2k - R) (p_(k) - p_(k-1)),

  so that equal predictions give exactly 0.

  Args:
    predictions: floats [R, E], or probabilities [R, E, K]: then 2 is the largest
      distance, and that of two classes twice the distance of one of them.
    groups: int[R]: distances to the runs of the same group alone.
  """
  predictions = readable(predictions)
  rows_R = np.zeros(predictions.shape[0])
  of_groups = members(groups, len(rows_R))
  for _, block in blocks(predictions):
    for runs_M in of_groups:
      rows_R[runs_M] += _l1_sums(block[runs_M].reshape(len(runs_M), -1))
  return rows_R / predictions.shape[1]


def _l1_sums(values_RxN: np.ndarray) -> np.ndarray:
  """float64[R]: sum over the columns of the distances to all other rows."""
  runs = len(values_RxN)
  sorted_NxR, run_NxR = _sorted(values_RxN)
  gaps_NxK = np.diff(sorted_NxR, axis=1)
  ranks_K = np.arange(1, runs, dtype=np.float64)
  sums_NxR = np.empty_like(sorted_NxR)
  sums_NxR[:, 0] = gaps_NxK @ (runs - ranks_K)
  np.multiply(gaps_NxK, 2 * ranks_K - runs, out=sums_NxR[:, 1:])
  np.cumsum(sums_NxR, axis=1, out=sums_NxR)
  return np.bincount(run_NxR.ravel(), weights=sums_NxR.ravel(), minlength=runs)


def _sorted(values_RxN: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Each column in ascending order, float64[N, R], and the row that each value came from."""
  values_NxR = np.ascontiguousarray(values_RxN.T)
  if values_NxR.dtype == np.float16:
    values_NxR = values_NxR.astype(np.float32)
  if values_NxR.dtype != np.float32:
    values_NxR = values_NxR.astype(np.float64)
    order_NxR = np.argsort(values_NxR, axis=1)
    return np.take_along_axis(values_NxR, order_NxR, axis=1), order_NxR
  # Value and run side by side in one integer sort many times faster than an argsort. A float's
  # bits ascend as a signed integer if those below the sign of a negative one are turned over.
  packed_NxR = np.empty(values_NxR.shape, [("run", "<i4"), ("bits", "<i4")])
  packed_NxR["run"] = np.arange(values_NxR.shape[1])
  bits_NxR = values_NxR.view(np.int32)
  packed_NxR["bits"] = bits_NxR ^ ((bits_NxR >> 31) & 0x7FFFFFFF)
  packed_NxR.view("<i8").sort(axis=1)
  bits_NxR = packed_NxR["bits"].astype(np.int32)
  bits_NxR ^= (bits_NxR >> 31) & 0x7FFFFFFF
  return bits_NxR.view(np.float32).astype(np.float64), packed_NxR["run"]


def example_differences(predictions: ArrayLike) -> np.ndarray:
  """float64[E]: mean over pairs of runs of |p_me - p_je|, summed over classes.

    (2 / (R (R-1))) sum_k k (R - k) (p_(k) - p_(k-1))

  How unstable each example is; its mean over the examples is `pair_mean` of `l1_rows`.
  """
  runs, found = runs_to_pair(predictions), []
  ranks_K = np.arange(1, runs, dtype=np.float64)
  weights_K = 2 * ranks_K * (runs - ranks_K) / (runs * (runs - 1))
  for _, block in blocks(predictions):
    sorted_BxKxR = np.sort(np.moveaxis(block, 0, -1), axis=-1).astype(np.float64)
    found.append((np.diff(sorted_BxKxR, axis=-1) @ weights_K).sum(1))
  return np.concatenate(found)


def runs_to_pair(values) -> int:
  """The number of runs, at least two."""
  runs = readable(values).shape[0]
  if runs < 2:
    raise UserError(_ONE_RUN)
  return runs


def distance_rows(
  predictions: ArrayLike, distance: Distance, groups: ArrayLike | None = None
) -> np.ndarray:
  """rows_R of any distance per example, averaged over examples: all pairs, R² E K steps.

  Args:
    distance: gets float64 [B, K] and [M, B, K], returns [M, B] (K = 1 for predictions [R, E]).
    groups: int[R]: distances to the runs of the same group alone.
  """
  rows_R = np.zeros(runs_to_pair(predictions))
  for runs_M in members(groups, len(rows_R)):
    for m, later in _later(predictions, distance, runs_M):
      rows_R[runs_M[m]] += later.sum()
      rows_R[runs_M[m + 1 :]] += later
  return rows_R


def _later(predictions, distance: Distance, runs_M) -> Iterator[tuple[int, np.ndarray]]:
  """m and the distances of member m to the members behind it, one part of their mean a block."""
  examples = readable(predictions).shape[1]
  for _, block in blocks(predictions, 4):
    block_MxBxK = block[runs_M].astype(np.float64)
    for m in range(len(runs_M) - 1):
      found = _checked(distance, block_MxBxK[m], block_MxBxK[m + 1 :])
      yield m, found.sum(1) / examples


def disjoint_distances(predictions: ArrayLike, distance: Distance) -> np.ndarray:
  """Distances of runs 0 and 1, 2 and 3, ...: float64[R // 2], independent of each other.

  For a distance that does not decompose over examples, where all pairs are too many:
  `single.mean_interval` of these values is a valid interval of the same estimand.

  Args:
    distance: per example, as for `distance_rows`; gets [R // 2, B, K] twice.
  """
  pairs = runs_to_pair(predictions) // 2
  sums_P, examples = np.zeros(pairs), readable(predictions).shape[1]
  for _, block in blocks(predictions):
    block = block.astype(np.float64)
    sums_P += _checked(distance, block[0 : 2 * pairs : 2], block[1 : 2 * pairs : 2]).sum(1)
  return sums_P / examples


def _checked(distance: Distance, p: np.ndarray, q: np.ndarray) -> np.ndarray:
  found = distance(p, q)
  if found.shape != q.shape[:2]:
    raise ValueError(f"a distance of {q.shape} must give {q.shape[:2]}, not {found.shape}")
  if not np.isfinite(found).all():
    raise UserError("a distance is not finite; it needs probabilities, from 0 to 1")
  return found


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
    low, high = several_jackknives(a - b, [a_R - b, a - b_S], level)
  method = f"{'paired' if paired else 'separate'} run jackknife of log ratio"
  with np.errstate(invalid="ignore"):
    estimate = float(np.exp(a - b))
  return Interval(estimate, math.exp(low), math.exp(high), level, method)


def new_examples_mean(
  rows_R: ArrayLike,
  examples_E: ArrayLike,
  clusters_E: ArrayLike | None = None,
  level: float = 0.95,
) -> Interval:
  """`pair_mean` for new runs on new examples: leaves out runs, and examples or clusters of them.

    V = V_runs + V_clusters,   each (n-1)/n sum_i (log U_(-i) - mean)²

  with Student's t and Satterthwaite's degrees of freedom. What belongs to one run on one
  example is in both parts, so the interval errs on the long side. Without cluster c of n_c
  examples, U is the mean over the E - n_c others: clusters may differ in size, and a user's or
  a day's examples are as good as one draw.

  Args:
    rows_R: `l1_rows` or `churn_rows` of the predictions.
    examples_E: mean over pairs of each example: `example_differences`, `example_churn`.
    clusters_E: int[E], the cluster (such as the user) of each example; examples
      are independent without it.
  """
  log, parts = _two_ways(rows_R, examples_E, clusters_E)
  low, high = several_jackknives(log, parts, level)
  return Interval(math.exp(log), math.exp(low), math.exp(high), level, "runs x examples jackknife")


def _two_ways(rows_R, examples_E, clusters_E) -> tuple[float, list[np.ndarray]]:
  log, without_R = _log_leave_one_out(rows_R)
  values_E = finite_values(examples_E)
  if not np.isclose(values_E.mean(), np.exp(log), rtol=1e-5, atol=1e-12):
    raise ValueError(
      f"rows and examples are not of the same pairs: means {np.exp(log):.6g} and"
      f" {values_E.mean():.6g}"
    )
  clusters_E = np.arange(len(values_E)) if clusters_E is None else np.asarray(clusters_E)
  if clusters_E.shape != values_E.shape:
    raise ValueError(f"clusters must be one an example, not {clusters_E.shape}")
  _, place_E, sizes_C = np.unique(clusters_E, return_inverse=True, return_counts=True)
  sums_C = np.bincount(place_E, weights=values_E)
  if len(sizes_C) < 2:
    return log, [without_R, np.full(1, math.nan)]
  without_C = (values_E.sum() - sums_C) / (len(values_E) - sizes_C)
  without_C[without_C < 1e-12 * values_E.mean()] = 0  # rounding: all the others are stable
  with np.errstate(divide="ignore"):
    return log, [without_R, np.log(without_C)]


def _leave_one_out(rows_R: ArrayLike) -> tuple[float, np.ndarray]:
  """The mean over pairs, and without each run (nan for two runs)."""
  rows_R = finite_values(rows_R)
  runs, total = len(rows_R), rows_R.sum()
  if runs < 2:
    raise UserError(_ONE_RUN)
  mean = float(total / (runs * (runs - 1)))
  if runs == 2:
    return mean, np.full(2, math.nan)
  return mean, (total - 2 * rows_R) / ((runs - 1) * (runs - 2))


def _log_leave_one_out(rows_R: ArrayLike) -> tuple[float, np.ndarray]:
  mean, without_R = _leave_one_out(rows_R)
  without_R[without_R < 1e-12 * mean] = 0  # rounding: only one run differs from the others
  with np.errstate(divide="ignore"):
    return float(np.log(mean)), np.log(without_R)
