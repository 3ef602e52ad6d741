"""How irreproducible predictions are: distances between runs on ONE frozen evaluation set.

Primary is the prediction difference of two new seeds, `prediction_difference`: the mean
over all pairs of runs, which is the same number for 10 runs and for 1,000. The papers' own
forms (`mean_deviation`, `relative_deviation`) measure against the average of the runs and
grow with their number; they are for a side by side with published numbers at the
same number of runs.

Distances per example take arrays p and q [..., K] over classes (K = 1: the
probability of the positive class alone) and return [...]; `pairs.distance_rows`,
`pairs.disjoint_distances` and `mean_distance` average them over examples and pairs. A distance
of a prediction to itself is 0.

Predictions are floats [R, E] (positive class) or [R, E, K] (classes), as arrays, memory maps or
zarr arrays, read in blocks (see `stats.pairs`); labels are integers [R, E], the truth [E].
"""

import functools
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import scipy.special
import scipy.stats
from numpy.typing import ArrayLike

from seedlab.errors import UserError
from seedlab.stats import pairs
from seedlab.stats.single import Interval, mean_interval

_FLOOR = 1e-7  # probabilities nearer to 0 count as this, where a logarithm is taken
_RUNS_READ = 2**24  # numbers of whole runs held at once


def lp_distance(p: np.ndarray, q: np.ndarray, order: float = 1.0) -> np.ndarray:
  """(sum_c |p_c - q_c|^order)^(1/order), for an order of at least 1.

  For probabilities of all classes in [0, 2^(1/order)]; of the positive class alone in [0, 1] at any
  order, 2^(-1/order) times that of the two classes.
  """
  _check_order(order)
  apart = np.abs(p - q)
  return apart.sum(-1) if order == 1 else (apart**order).sum(-1) ** (1 / order)


def _check_order(order: float) -> None:
  if not 1 <= order < math.inf:
    raise UserError(f"order={order} is no norm's; take a number from 1 on, such as 1 or 2")


def symmetric_relative(p: np.ndarray, q: np.ndarray) -> np.ndarray:
  """sum_c 2 |p_c - q_c| / |p_c + q_c|, in [0, 2] a class; 0 where both terms are below 1e-7.

  The symmetric prediction difference of TensorFlow Model Analysis, there of the positive
  probability alone. For two runs it is exactly twice `relative_deviation`. It saturates at 2 on
  tiny probabilities: over many classes it measures the tail of the softmax.
  """
  apart, both = 2 * np.abs(p - q), np.abs(p + q)
  tiny = (apart < 1e-7) & (both < 1e-7)
  return np.where(tiny, 0.0, apart / np.where(tiny, 1.0, both)).sum(-1)


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> np.ndarray:
  """sqrt((KL(p, m) + KL(q, m)) / 2) with m = (p + q) / 2, logarithms of base 2: in [0, 1].

  A metric (Endres & Schindelin 2003). Its square lies between `hellinger`² and half of L1. The
  natural logarithm, as of scipy's `jensenshannon`, gives sqrt(ln 2) = 0.8326 times this.
  """
  p, q = _both_classes(p), _both_classes(q)
  middle = (p + q) / 2
  divergence = (scipy.special.rel_entr(p, middle) + scipy.special.rel_entr(q, middle)).sum(-1)
  return np.sqrt(np.maximum(divergence, 0) / (2 * math.log(2)))  # rounding may fall below 0


def hellinger(p: np.ndarray, q: np.ndarray) -> np.ndarray:
  """sqrt((1/2) sum_c (sqrt(p_c) - sqrt(q_c))²), in [0, 1].

  With L1 the sum over both classes or all: H² <= L1 / 2 <= sqrt(2) H.
  """
  p, q = _both_classes(p), _both_classes(q)
  return np.sqrt(((np.sqrt(p) - np.sqrt(q)) ** 2).sum(-1) / 2)


def _both_classes(p: np.ndarray) -> np.ndarray:
  return p if p.shape[-1] > 1 else np.concatenate([1 - p, p], -1)


def prediction_difference(
  predictions: ArrayLike, order: float = 1.0, level: float = 0.95
) -> Interval:
  """The primary PD: mean of `lp_distance` over all pairs of runs, with the run jackknife.

    2 / (R (R-1)) sum_{m<j} (1/E) sum_e |p_me - p_je|_order

  Unbiased for the PD of two new seeds at any number of runs R. For two runs it is twice
  `mean_deviation`. Order 1, and the positive class at any order, take R log R E K steps; other
  orders do not decompose and take R² E K. Two sweeps are compared by `pairs.pair_ratio` of
  their `pairs.l1_rows`.
  """
  _check_order(order)
  if order == 1 or len(np.shape(predictions)) == 2:
    return pairs.pair_mean(pairs.l1_rows(predictions), level)
  distance = functools.partial(lp_distance, order=order)
  return mean_distance(predictions, distance, all_pairs=True, level=level)


def mean_distance(
  predictions: ArrayLike, distance: pairs.Distance, all_pairs: bool = False, level: float = 0.95
) -> Interval:
  """Mean distance of two new seeds, for distances that do not decompose over examples.

  From disjoint pairs of runs (0 and 1, 2 and 3, ...) with Student's t; from all pairs, in R² steps,
  with the run jackknife, which is shorter. Which pairs are disjoint depends on the sequence of
  the runs; both estimate the same.

  Args:
    distance: such as `hellinger`, `jensen_shannon`, `symmetric_relative`.
  """
  if all_pairs:
    return pairs.pair_mean(pairs.distance_rows(predictions, distance), level)
  return mean_interval(pairs.disjoint_distances(predictions, distance), level)


def mean_deviation(predictions: ArrayLike, order: float = 1.0) -> float:
  """The papers' PD: Δ = (1/E) sum_e (1/R) sum_m |p_me - mean of the runs|_order.

  Never compare it across numbers of runs: it is half of `prediction_difference` for two runs
  and grows with them, for normal predictions to sqrt((R-1) / (2 R)) of it. At order 1 it lies
  in [0, 2 (R-1)/R] for the probabilities of all classes, in [0, 1/2] for the positive class.
  """
  total, runs = 0.0, pairs.runs_to_pair(predictions)
  for _, block in pairs.blocks(predictions):
    block = block.astype(np.float64)
    total += lp_distance(block, _average(block), order).sum()
  return float(total / runs / np.shape(predictions)[1])


def relative_deviation(predictions: ArrayLike, truth_E: ArrayLike | None = None) -> float:
  """The papers' relative PD: (1/E) sum_e (1/R) sum_m sum_c |p_mec - q_ec| / q_ec.

  q is the average of the runs; where it is 0, all of them are, and so is the term. With `truth`
  the label-only form: the class of the truth alone (of [R, E]: p or 1 - p). In [0, 2 (R-1)/R]
  a class; for two runs `symmetric_relative` is exactly twice as much. Like `mean_deviation` it
  grows with the number of runs: never compare it across numbers of runs.
  """
  if truth_E is not None:
    return relative_deviation(of_truth(predictions, truth_E))
  total, runs = 0.0, pairs.runs_to_pair(predictions)
  for _, block in pairs.blocks(predictions):
    block = block.astype(np.float64)
    average = _average(block)
    total += (np.abs(block - average) / np.where(average == 0, 1.0, average)).sum()
  return float(total / runs / np.shape(predictions)[1])


def _average(block: np.ndarray) -> np.ndarray:
  """Over runs; equal predictions give themselves, without rounding."""
  return block[0] + (block - block[0]).mean(0)


def of_truth(predictions: ArrayLike, truth_E: ArrayLike) -> np.ndarray:
  """The probability of the true class, [R, E] in the precision of the predictions."""
  truth_E = _truth(predictions, truth_E)
  found = np.empty(np.shape(predictions)[:2], _precision(predictions))
  for first, block in pairs.blocks(predictions):
    chosen = slice(first, first + block.shape[1])
    found[:, chosen] = _of_truth(block, truth_E[chosen])
  return found


def _of_truth(block: np.ndarray, truth_B: np.ndarray) -> np.ndarray:
  """[R, B] from [R, B, K]."""
  if block.shape[-1] == 1:
    return np.where(truth_B == 1, block[..., 0], 1 - block[..., 0])
  return np.take_along_axis(block, truth_B[None, :, None], -1)[..., 0]


def _precision(predictions) -> np.dtype:
  dtype = pairs.readable(predictions).dtype
  return dtype if dtype.kind == "f" else np.dtype(np.float64)


def _truth(predictions, truth_E: ArrayLike) -> np.ndarray:
  truth_E, (_, examples, *classes) = np.asarray(truth_E), np.shape(predictions)
  most = (classes[0] if classes else 2) - 1
  if truth_E.shape != (examples,) or truth_E.dtype.kind not in "bui":
    raise UserError(
      f"truth must be integers of the shape [{examples}], one an example, not"
      f" {truth_E.dtype} {list(truth_E.shape)}"
    )
  if truth_E.min() < 0 or truth_E.max() > most:
    raise UserError(
      f"truth must lie from 0 to {most}, not from {truth_E.min()} to {truth_E.max()};"
      " are these the predictions of another data set?"
    )
  return truth_E.astype(np.int64)


# Churn: labels instead of probabilities.


def predicted_labels(predictions: ArrayLike) -> np.ndarray:
  """The most probable class, unsigned [R, E]; the first of equals (of [R, E]: 1 above a half)."""
  shape = np.shape(predictions)
  classes = shape[2] if len(shape) == 3 else 2
  labels_RxE = np.empty(shape[:2], np.min_scalar_type(classes - 1))
  for first, block in pairs.blocks(predictions):
    labels = block[..., 0] > 0.5 if block.shape[-1] == 1 else block.argmax(-1)
    labels_RxE[:, first : first + block.shape[1]] = labels
  return labels_RxE


def correlation_rows(predictions: ArrayLike, groups: ArrayLike | None = None) -> np.ndarray:
  """rows_R of 1 - correlation of two runs' logits over the examples, each in [0, 2].

  Of the positive class the logit, log(p / (1-p)); of K classes the log-probabilities less their
  mean over the classes, all E K of them (their mean is then 0: no constant is taken away).
  With z the standardised logits of a run, |z| = 1, and z' their average over the R runs (of a
  group),

    1 - corr(m, j) = |z_m - z_j|² / 2,   rows_R[m] = (R |z_m - z'|² + sum_j |z_j - z'|²) / 2,

  so all pairs take two passes and no pair. Probabilities nearer to 0 or 1 than 1e-7 count as
  that. A run with equal logits has no correlation (UserError).
  """
  runs = pairs.runs_to_pair(predictions)
  sums_R, squares_R = np.zeros(runs), np.zeros(runs)
  for _, block in pairs.blocks(predictions):
    logits = _logits(block)
    sums_R += logits.sum(1)
    squares_R += (logits**2).sum(1)
  count = math.prod(np.shape(predictions)[1:])
  means_R = sums_R / count
  variances_R = squares_R / count - means_R**2
  if (variances_R <= 1e-12 * squares_R / count).any():
    run = int(np.argmin(variances_R))
    raise UserError(f"run {run} predicts the same on every example: no correlation; leave it out")
  scales_R = np.sqrt(variances_R * count)
  members, apart_R = pairs.members(groups, runs), np.zeros(runs)
  for _, block in pairs.blocks(predictions):
    z = (_logits(block) - means_R[:, None]) / scales_R[:, None]
    for runs_M in members:
      apart_R[runs_M] += ((z[runs_M] - _average(z[runs_M])) ** 2).sum(1)
  rows_R = np.empty(runs)
  for runs_M in members:
    rows_R[runs_M] = (len(runs_M) * apart_R[runs_M] + apart_R[runs_M].sum()) / 2
  return rows_R


def logit_correlation(predictions: ArrayLike, level: float = 0.95) -> Interval:
  """Mean over pairs of runs of the correlation of their logits, in [-1, 1]; see `correlation_rows`.

  One less the `pairs.pair_mean` of one less the correlation, limits included.
  """
  apart = pairs.pair_mean(correlation_rows(predictions), level)
  low, high = 1 - apart.high, 1 - apart.low
  return Interval(1 - apart.estimate, low, high, level, "run jackknife of log (1 - correlation)")


def _logits(block: np.ndarray) -> np.ndarray:
  """float64[R, B K] from probabilities [R, B, K]."""
  p = np.clip(block.astype(np.float64), _FLOOR, 1 - _FLOOR)
  if p.shape[-1] == 1:
    return (np.log(p) - np.log1p(-p))[..., 0]
  logs = np.log(p)
  return (logs - logs.mean(-1, keepdims=True)).reshape(len(p), -1)


def list_overlap_rows(lists_RxUxK: ArrayLike, groups: ArrayLike | None = None) -> np.ndarray:
  """rows_R of |A ∩ B| / K of two runs' lists for a user, averaged over the users; in [0, 1] a pair.

    rows_R[m] = 1/(U K) sum_u sum_{i in list of m for u} (n_u(i) - 1),   n_u(i) = runs that list i

  Of top-k recommendations, whatever their order within the list. From counts, without pairs;
  `pairs.pair_mean` is the mean over users and pairs. A run's overlap with itself, 1, is not in it;
  1 - overlap has the rows R - 1 - rows_R.

  Args:
    lists_RxUxK: integer ids, each at most once in a list (else UserError).
  """
  lists = pairs.readable(lists_RxUxK)
  if len(lists.shape) != 3 or 0 in lists.shape or lists.dtype.kind not in "ui":
    raise UserError(f"lists must be integers [R, U, K], not {lists.dtype} {list(lists.shape)}")
  runs, users, items = lists.shape
  members, shared_R = pairs.members(groups, runs), np.zeros(runs, np.int64)
  for first, block in pairs.read(lists):
    block = block.astype(np.int64)
    ordered = np.sort(block, -1)
    twice = np.argwhere(ordered[..., 1:] == ordered[..., :-1])
    if len(twice):
      run, user, _ = twice[0]
      raise UserError(f"run {run} lists an item twice for user {first + user}; ids must differ")
    block -= block.min()
    keys = block + (block.max() + 1) * np.arange(block.shape[1])[:, None]  # user and item
    for runs_M in members:
      _, place, counts = np.unique(keys[runs_M], return_inverse=True, return_counts=True)
      shared_R[runs_M] += (counts[place.reshape(keys[runs_M].shape)] - 1).sum((1, 2))
  return shared_R / (users * items)


# Quality, run by run: what less irreproducibility may have cost.


def log_losses(predictions: ArrayLike, truth_E: ArrayLike) -> np.ndarray:
  """float64[R]: mean of -log p(truth) over the examples, in nats; p below 1e-7 counts as that."""
  truth_E = _truth(predictions, truth_E)
  return np.concatenate([
    -np.log(np.maximum(_of_truth(block, truth_E), _FLOOR)).mean(1)
    for block in _run_blocks(predictions)
  ])  # fmt: skip


def calibration_errors(predictions: ArrayLike, truth_E: ArrayLike, bins: int = 15) -> np.ndarray:
  """float64[R]: expected calibration error with bins of equal mass, in [0, 1].

    sum_b (n_b / E) |mean confidence in b - share that is right in b|

  Examples are ranked by confidence and cut into bins whose sizes differ by at most one; equal
  confidences stay in the order of the examples. Of [R, E] the confidence is p and "right" the
  positive class; of [R, E, K] it is that of the most probable class, right if it is the true one
  (top-label calibration). A plug-in: it is above 0 for a calibrated network too, by about
  sqrt(2 bins p (1-p) / (π E)); compare it at the same E and bins.
  """
  truth_E = _truth(predictions, truth_E)
  if not 1 <= bins <= len(truth_E):
    raise UserError(f"bins={bins} must lie from 1 to the {len(truth_E)} examples")
  starts = np.array([len(truth_E) * b // bins for b in range(bins)])
  errors = []
  for block in _run_blocks(predictions):
    if block.shape[-1] == 1:
      confidence, right = block[..., 0], np.broadcast_to(truth_E, block.shape[:2])
    else:
      confidence, right = block.max(-1), block.argmax(-1) == truth_E
    order = np.argsort(confidence, axis=1, kind="stable")
    gaps = np.take_along_axis(confidence - right, order, axis=1)
    errors.append(np.abs(np.add.reduceat(gaps, starts, axis=1)).sum(1) / len(truth_E))
  return np.concatenate(errors)


def _run_blocks(predictions: ArrayLike) -> Iterator[np.ndarray]:
  """float64 [M, E, K] of whole runs, finite."""
  predictions = pairs.readable(predictions)
  step = max(1, _RUNS_READ // math.prod(predictions.shape[1:]))
  for first in range(0, predictions.shape[0], step):
    block = np.asarray(predictions[first : first + step]).astype(np.float64)
    if not np.isfinite(block).all():
      run, example = np.argwhere(~np.isfinite(block))[0, :2]
      raise UserError(
        f"the prediction of run {first + run} on example {example} is not finite;"
        " leave out runs that diverged"
      )
    yield block.reshape(*block.shape[:2], -1)


# Ensembles.


def ensembles(predictions: ArrayLike, size: int) -> np.ndarray:
  """Averages of disjoint groups of `size` runs (0 to size-1, ...): [R // size, E] or with [, K].

  Probabilities are averaged, not logits. In the predictions' precision; the result is held.
  """
  runs = np.shape(predictions)[0]
  if not 1 <= size <= runs:
    raise UserError(f"size={size} must lie from 1 to {runs}, the number of runs")
  groups = runs // size
  found = np.empty((groups, *np.shape(predictions)[1:]), _precision(predictions))
  for first, block in pairs.blocks(predictions):
    members = block[: groups * size].astype(np.float64).reshape(groups, size, *block.shape[1:])
    part = found[:, first : first + block.shape[1]]
    part[...] = members.mean(1).reshape(part.shape)
  return found


class EnsembleGain(NamedTuple):
  """What averaging `size` networks does; intervals leave out a whole ensemble and its members."""

  difference_ratio: Interval  # L1 PD of two ensembles over that of two of their members
  log_loss_change: Interval  # log-loss of an ensemble less the mean of its members', in nats


def ensemble_gain(
  predictions: ArrayLike, truth_E: ArrayLike, size: int, level: float = 0.95
) -> EnsembleGain:
  """`EnsembleGain` of disjoint ensembles of `size` runs beside single runs.

  Single runs are paired with the runs in the same place of the other ensembles, so that an
  ensemble can be left out of both. Independent errors would make the ratio 1/sqrt(size).
  """
  predictions = pairs.readable(predictions)
  together = ensembles(predictions, size)
  runs = len(together) * size
  places = [predictions[place:runs:size] for place in range(size)]
  alone_G = np.mean([pairs.l1_rows(x) for x in places], axis=0)
  ratio = pairs.pair_ratio(pairs.l1_rows(together), alone_G, paired=True, level=level)
  losses_G = np.mean([log_losses(x, truth_E) for x in places], axis=0)
  return EnsembleGain(ratio, mean_interval(log_losses(together, truth_E) - losses_G, level))
