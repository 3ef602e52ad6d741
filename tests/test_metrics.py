"""Metrics of irreproducibility against double loops over pairs, worked numbers and libraries."""

import functools
import itertools
import math

import numpy as np
import pytest
import scipy.spatial.distance
import scipy.stats
import sklearn.metrics
import zarr

from seedlab import metrics
from seedlab.errors import UserError
from seedlab.stats import pairs

RNG = np.random.default_rng(0)
BINARY = RNG.random((7, 23))
CLASSES = RNG.dirichlet([1, 1, 1, 1], (7, 23))
TRUTH = RNG.integers(0, 2, 23)
CLASS = RNG.integers(0, 4, 23)
LABELS = RNG.integers(0, 4, (7, 23))
DISTANCES = {
  "l1": metrics.lp_distance,
  "l2": functools.partial(metrics.lp_distance, order=2),
  "l3": functools.partial(metrics.lp_distance, order=3),
  "symmetric": metrics.symmetric_relative,
  "jensen_shannon": metrics.jensen_shannon,
  "hellinger": metrics.hellinger,
}


def columns(predictions):
  """[R, E, K], with K = 1 for the positive class alone."""
  return predictions.reshape(*predictions.shape[:2], -1)


def brute_matrix(predictions, distance):
  """Example by example, pair by pair."""
  cells = columns(np.asarray(predictions, float))
  return np.array(
    [[np.mean([distance(p, q) for p, q in zip(a, b, strict=True)]) for b in cells] for a in cells]
  )


def brute_mean(matrix):
  return np.mean([matrix[m, j] for m, j in itertools.combinations(range(len(matrix)), 2)])


@pytest.fixture(params=[1, 100, 2**14])
def block(request, monkeypatch):
  """Blocks of one example, of a few and of all; and as few bytes read at once."""
  monkeypatch.setattr(pairs, "_BLOCK", request.param)
  monkeypatch.setattr(pairs, "_READ", 8 * request.param)
  monkeypatch.setattr(metrics, "_RUNS_READ", request.param)


# Distances of one example.


def test_symmetric_relative_by_the_reference_vector():
  """x = (0, 1, 1) and y = (0.8, 0.3, 0.9): (2 + 14/13 + 2/19) / 3."""
  x, y = np.array([[0.0], [1], [1]]), np.array([[0.8], [0.3], [0.9]])
  assert metrics.symmetric_relative(x, y).mean() == pytest.approx(1.06072874494, abs=1e-11)
  np.testing.assert_array_equal(metrics.symmetric_relative(y, y), 0)


def test_symmetric_relative_of_next_to_nothing():
  """0 below 1e-7 in both terms; above it a tiny probability counts in full."""
  p, q = np.array([[0.0], [2e-8], [0.0]]), np.array([[0.0], [0.0], [2e-7]])
  np.testing.assert_array_equal(metrics.symmetric_relative(p, q), [0, 0, 2])


def test_distances_by_hand_and_by_scipy():
  p, q = np.array([0.5, 0.3, 0.2]), np.array([0.1, 0.7, 0.2])
  assert metrics.lp_distance(p, q) == pytest.approx(0.8)
  assert metrics.lp_distance(p, q, order=2) == pytest.approx(math.sqrt(0.32))
  for order in (1.0, 1.5, 3.0):
    scipys = scipy.spatial.distance.minkowski(p, q, order)
    assert metrics.lp_distance(p, q, order) == pytest.approx(scipys)
  scipys = scipy.spatial.distance.jensenshannon(p, q, base=2)
  assert metrics.jensen_shannon(p, q) == pytest.approx(scipys)
  assert metrics.hellinger(p, q) == pytest.approx(np.linalg.norm(p**0.5 - q**0.5) / 2**0.5)
  assert metrics.jensen_shannon(p, q) * math.sqrt(math.log(2)) == pytest.approx(
    scipy.spatial.distance.jensenshannon(p, q)
  )


def test_ranges():
  """Certain of different classes: the largest value that the docstrings name."""
  p, q = np.array([1.0, 0, 0]), np.array([0.0, 1, 0])
  one, other = np.array([1.0]), np.array([0.0])
  assert metrics.lp_distance(p, q) == 2 and metrics.lp_distance(one, other) == 1
  assert metrics.lp_distance(p, q, order=2) == pytest.approx(2**0.5)
  assert metrics.symmetric_relative(one, other) == 2
  for distance in (metrics.jensen_shannon, metrics.hellinger):
    assert distance(p, q) == pytest.approx(1) and distance(one, other) == pytest.approx(1)


@pytest.mark.parametrize("order", [1, 2, 3.5])
def test_two_classes_are_a_fixed_factor_of_one(order):
  p, q = RNG.random((2, 50, 1))
  both = metrics.lp_distance(np.hstack([p, 1 - p]), np.hstack([q, 1 - q]), order)
  np.testing.assert_allclose(both, 2 ** (1 / order) * metrics.lp_distance(p, q, order))


def test_one_class_stands_for_two():
  p, q = RNG.random((2, 50, 1))
  for distance in (metrics.jensen_shannon, metrics.hellinger):
    both = distance(np.hstack([p, 1 - p]), np.hstack([q, 1 - q]))
    np.testing.assert_allclose(distance(p, q), both)


def test_inequalities_between_distances():
  p, q = RNG.dirichlet([0.3] * 5, (2, 2000))
  half_l1, h = metrics.lp_distance(p, q) / 2, metrics.hellinger(p, q)
  js = metrics.jensen_shannon(p, q)
  assert (h**2 <= half_l1 + 1e-12).all() and (half_l1 <= 2**0.5 * h + 1e-12).all()
  assert (h**2 <= js**2 + 1e-12).all() and (js**2 <= half_l1 + 1e-12).all()


@pytest.mark.parametrize("name", DISTANCES)
def test_a_prediction_does_not_differ_from_itself(name):
  for predictions in (BINARY, CLASSES, CLASSES.astype(np.float32)):
    same = np.repeat(predictions[:1], 5, axis=0)
    np.testing.assert_array_equal(pairs.distance_rows(same, DISTANCES[name]), 0)
    np.testing.assert_array_equal(pairs.disjoint_distances(same, DISTANCES[name]), 0)


def test_what_does_not_differ_is_exactly_0():
  same = np.repeat(CLASSES[:1].astype(np.float32), 7, axis=0)
  assert metrics.prediction_difference(same).estimate == 0
  assert metrics.mean_deviation(same) == 0 and metrics.relative_deviation(same) == 0
  assert metrics.mean_deviation(np.repeat(BINARY[:1], 7, axis=0)) == 0  # no average rounds
  assert metrics.logit_correlation(same).estimate == 1
  np.testing.assert_array_equal(pairs.example_differences(same), 0)


# Over pairs of runs and blocks of examples.


@pytest.mark.parametrize("name", DISTANCES)
@pytest.mark.parametrize("predictions", [BINARY, CLASSES], ids=["binary", "classes"])
def test_pairs_of_any_distance(name, predictions, block):
  matrix = brute_matrix(predictions, DISTANCES[name])
  np.testing.assert_allclose(pairs.distance_rows(predictions, DISTANCES[name]), matrix.sum(1))
  disjoint = pairs.disjoint_distances(predictions, DISTANCES[name])
  np.testing.assert_allclose(disjoint, [matrix[0, 1], matrix[2, 3], matrix[4, 5]])
  mean = metrics.mean_distance(predictions, DISTANCES[name])
  low, high = scipy.stats.ttest_1samp(disjoint, 0).confidence_interval(0.95)
  assert (mean.estimate, mean.low, mean.high) == pytest.approx((disjoint.mean(), low, high))
  mean = metrics.mean_distance(predictions, DISTANCES[name], all_pairs=True)
  assert mean.estimate == pytest.approx(brute_mean(matrix))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("predictions", [BINARY, CLASSES], ids=["binary", "classes"])
def test_prediction_difference(dtype, predictions, block):
  predictions = predictions.astype(dtype)
  matrix = brute_matrix(predictions, metrics.lp_distance)
  np.testing.assert_allclose(pairs.l1_rows(predictions), matrix.sum(1), rtol=1e-12)
  found = metrics.prediction_difference(predictions)
  assert found.low == pytest.approx(pairs.pair_mean(matrix.sum(1)).low)
  assert found.estimate == pytest.approx(brute_mean(matrix))
  second = metrics.prediction_difference(predictions, order=2)
  distance = metrics.lp_distance if predictions.ndim == 2 else DISTANCES["l2"]
  assert second.estimate == pytest.approx(brute_mean(brute_matrix(predictions, distance)))


def test_sorting_singles_keeps_the_order_of_negative_numbers():
  logits = np.array([[-0.0, 3e-39], [0.0, -1e-39], [-2.5, 7], [-1.5, -7], [2.5, -7.5]])
  single = logits.astype(np.float32)
  np.testing.assert_allclose(pairs.l1_rows(single), pairs.l1_rows(single.astype(float)))


def test_groups_pair_within_themselves(block):
  groups = [2, 0, 2, 0, 0, 2, 9]
  same = np.equal.outer(groups, groups)
  rows = {
    "l1": (functools.partial(pairs.l1_rows, CLASSES), brute_matrix(CLASSES, metrics.lp_distance)),
    "hellinger": (
      functools.partial(pairs.distance_rows, CLASSES, metrics.hellinger),
      brute_matrix(CLASSES, metrics.hellinger),
    ),
    "churn": (
      functools.partial(pairs.churn_rows, LABELS),
      brute_matrix(LABELS, lambda y, z: float(y[0] != z[0])),
    ),
    "correlation": (
      functools.partial(metrics.correlation_rows, BINARY),
      1 - np.corrcoef(scipy.special.logit(BINARY)),
    ),
  }
  for function, matrix in rows.values():
    np.testing.assert_allclose(function(groups=groups), (matrix * same).sum(1), atol=1e-12)
    np.testing.assert_allclose(function(), matrix.sum(1), atol=1e-12)


@pytest.mark.parametrize("predictions", [BINARY, CLASSES], ids=["binary", "classes"])
def test_deviations_from_the_mean(predictions, block):
  cells = columns(predictions)
  average = cells.mean(0)
  for order in (1, 2, 3):
    norms = [[np.linalg.norm(p - q, order) for p, q in zip(m, average, strict=True)] for m in cells]
    assert metrics.mean_deviation(predictions, order) == pytest.approx(np.mean(norms))
  relative = [[sum(abs(p - q) / q) for p, q in zip(m, average, strict=True)] for m in cells]
  assert metrics.relative_deviation(predictions) == pytest.approx(np.mean(relative))


def test_relative_deviation_of_the_true_class_alone(block):
  chosen = np.array([[run[e, CLASS[e]] for e in range(23)] for run in CLASSES])
  average = chosen.mean(0)
  expected = np.mean(np.abs(chosen - average) / average)
  assert metrics.relative_deviation(CLASSES, CLASS) == pytest.approx(expected)
  both = np.stack([1 - BINARY, BINARY], -1)
  assert metrics.relative_deviation(BINARY, TRUTH) == pytest.approx(
    metrics.relative_deviation(both, TRUTH)
  )
  assert metrics.of_truth(CLASSES.astype(np.float32), CLASS).dtype == np.float32


def test_a_class_that_nobody_expects_does_not_differ():
  predictions = np.array([[[0.0, 1.0]], [[0.0, 1.0]], [[0.0, 1.0]]])
  assert metrics.relative_deviation(predictions) == 0


def test_factors_between_the_forms():
  """Two runs: pairwise forms are exactly twice the mean deviations. 0.3 and 0.1: 1 and 0.5."""
  for predictions in (BINARY[:2], CLASSES[:2]):
    pairwise = metrics.prediction_difference(predictions).estimate
    assert pairwise == pytest.approx(2 * metrics.mean_deviation(predictions), rel=1e-14)
    symmetric = metrics.mean_distance(predictions, metrics.symmetric_relative).estimate
    assert symmetric == pytest.approx(2 * metrics.relative_deviation(predictions), rel=1e-14)
  two = np.array([[0.3], [0.1]])
  assert metrics.mean_distance(two, metrics.symmetric_relative).estimate == pytest.approx(1)
  assert metrics.relative_deviation(two) == pytest.approx(0.5)


@pytest.mark.parametrize(
  "function",
  [
    metrics.prediction_difference,
    functools.partial(metrics.prediction_difference, order=2),
    functools.partial(metrics.mean_distance, distance=metrics.hellinger),
    functools.partial(metrics.mean_distance, distance=metrics.hellinger, all_pairs=True),
    metrics.logit_correlation,
    lambda x, level: metrics.ensemble_gain(x, CLASS, 2, level).difference_ratio,
    lambda x, level: metrics.ensemble_gain(x, CLASS, 2, level).log_loss_change,
  ],
)
def test_a_higher_level_gives_a_wider_interval(function):
  levels = (0.5, 0.9, 0.95, 0.99)
  found = [function(CLASSES, level=level) for level in levels]
  assert tuple(one.level for one in found) == levels
  assert all(x.low > y.low and x.high < y.high for x, y in itertools.pairwise(found))


def test_the_mean_deviation_drifts_with_the_number_of_runs():
  """As sqrt((R-1) / (2 R)) of the pairwise difference, for normal predictions."""
  normal = np.random.default_rng(1).normal(size=(64, 4000))
  for runs in (2, 4, 64):
    share = metrics.mean_deviation(normal[:runs]) / (
      metrics.prediction_difference(normal[:runs]).estimate
    )
    assert share == pytest.approx(math.sqrt((runs - 1) / (2 * runs)), rel=0.01)


def test_the_sequence_of_runs_does_not_matter():
  order = np.random.default_rng(2).permutation(7)
  for function in (
    pairs.l1_rows,
    metrics.correlation_rows,
    functools.partial(pairs.distance_rows, distance=metrics.hellinger),
  ):
    np.testing.assert_allclose(function(CLASSES[order]), function(CLASSES)[order])
  rows, moved = pairs.churn_rows(LABELS), pairs.churn_rows(LABELS[order])
  np.testing.assert_array_equal(moved, rows[order])
  shuffled = pairs.example_differences(CLASSES[order])
  np.testing.assert_allclose(shuffled, pairs.example_differences(CLASSES))
  assert metrics.mean_deviation(CLASSES[order]) == pytest.approx(metrics.mean_deviation(CLASSES))


def test_reading_from_disk(tmp_path, monkeypatch):
  monkeypatch.setattr(pairs, "_READ", 500)
  single = CLASSES.astype(np.float32)
  mapped = np.lib.format.open_memmap(tmp_path / "p.npy", "w+", np.float32, single.shape)
  mapped[:] = single
  stored = zarr.open_array(
    tmp_path / "z", mode="w", shape=single.shape, dtype="f4", chunks=(2, 9, 4)
  )
  stored[:] = single
  labels = zarr.open_array(tmp_path / "y", mode="w", shape=LABELS.shape, dtype="i8", chunks=(3, 5))
  labels[:] = LABELS
  np.testing.assert_array_equal(pairs.churn_rows(labels), pairs.churn_rows(LABELS))
  for there in (mapped, stored):
    for function in (
      pairs.l1_rows,
      pairs.example_differences,
      metrics.correlation_rows,
      metrics.mean_deviation,
      metrics.predicted_labels,
      functools.partial(metrics.ensembles, size=2),
      functools.partial(metrics.log_losses, truth_E=CLASS),
      functools.partial(metrics.calibration_errors, truth_E=CLASS),
    ):
      np.testing.assert_array_equal(function(there), function(single))
    assert metrics.ensemble_gain(there, CLASS, 2) == metrics.ensemble_gain(single, CLASS, 2)


def test_only_blocks_are_read(monkeypatch):
  class Counting:
    """Refuses to be read as a whole."""

    shape, dtype, most = (50, 4000, 3), np.dtype(np.float32), 0

    def __getitem__(self, key):
      runs, examples = key
      assert runs == slice(None)
      count = len(range(*examples.indices(self.shape[1])))
      self.most = max(self.most, count)
      return np.random.default_rng(examples.start).random((50, count, 3), np.float32)

  monkeypatch.setattr(pairs, "_READ", 10**5)
  predictions = Counting()
  pairs.l1_rows(predictions)
  metrics.mean_deviation(predictions)
  metrics.correlation_rows(predictions)
  assert 1 < predictions.most <= 10**5 // (50 * 3 * 4)


# Labels.


def test_predicted_labels(block):
  np.testing.assert_array_equal(metrics.predicted_labels(CLASSES), CLASSES.argmax(-1))
  np.testing.assert_array_equal(metrics.predicted_labels([[0.4, 0.5, 0.6]]), [[0, 0, 1]])
  assert metrics.predicted_labels(CLASSES).dtype == np.uint8


def test_instability_of_each_example(block):
  for predictions in (BINARY, CLASSES):
    cells = columns(predictions)
    expected = np.mean(
      [np.abs(cells[m] - cells[j]).sum(-1) for m, j in itertools.combinations(range(7), 2)], axis=0
    )
    found = pairs.example_differences(predictions)
    np.testing.assert_allclose(found, expected)
    assert found.mean() == pytest.approx(metrics.prediction_difference(predictions).estimate)
  differ = [np.mean([LABELS[m] != LABELS[j] for m, j in itertools.combinations(range(7), 2)], 0)]
  np.testing.assert_allclose(pairs.example_churn(pairs.votes(LABELS)), differ[0])


# Logits and lists.


def test_correlation_of_logits(block):
  logs = np.log(CLASSES)
  centred = (logs - logs.mean(-1, keepdims=True)).reshape(7, -1)
  for predictions, logits in ((BINARY, scipy.special.logit(BINARY)), (CLASSES, centred)):
    expected = np.corrcoef(logits)
    rows = metrics.correlation_rows(predictions)
    np.testing.assert_allclose(rows, (1 - expected).sum(1))
    found = metrics.logit_correlation(predictions)
    assert found.estimate == pytest.approx(brute_mean(expected))
    assert found.low < found.estimate < found.high
  assert metrics.logit_correlation([[0.1, 0.9], [0.9, 0.1]]).estimate == pytest.approx(-1)


def test_certain_predictions_have_finite_logits():
  assert math.isfinite(metrics.logit_correlation([[0.0, 1, 0.5], [1.0, 0, 0.4]]).estimate)


def test_overlap_of_lists(block):
  rng = np.random.default_rng(4)
  lists = np.array([[rng.permutation(9)[:4] for _ in range(11)] for _ in range(6)])
  matrix = np.array(
    [[np.mean([len(set(x) & set(y)) / 4 for x, y in zip(a, b, strict=True)]) for b in lists]
     for a in lists]
  )  # fmt: skip
  np.testing.assert_allclose(metrics.list_overlap_rows(lists), matrix.sum(1) - 1)
  assert pairs.pair_mean(metrics.list_overlap_rows(lists)).estimate == pytest.approx(
    brute_mean(matrix)
  )
  same = np.equal.outer([0, 1, 0, 1, 1, 0], [0, 1, 0, 1, 1, 0])
  within = metrics.list_overlap_rows(lists.astype(np.uint16), groups=[0, 1, 0, 1, 1, 0])
  np.testing.assert_allclose(within, (matrix * same).sum(1) - 1)


# Quality of each run.


def test_quality_agrees_with_scikit_learn(block):
  for run, loss in enumerate(metrics.log_losses(BINARY, TRUTH)):
    assert loss == pytest.approx(sklearn.metrics.log_loss(TRUTH, BINARY[run]))
  for run, loss in enumerate(metrics.log_losses(CLASSES, CLASS)):
    assert loss == pytest.approx(sklearn.metrics.log_loss(CLASS, CLASSES[run], labels=range(4)))


def test_certain_and_wrong_is_a_finite_loss():
  assert metrics.log_losses([[0.0, 1.0]], [1, 1]) == pytest.approx([-math.log(1e-7) / 2])


def test_calibration_error_by_hand():
  """Bins of 2 and 2: |0.1 + 0.3 - 1| / 4 and |0.6 + 0.8 - 1| / 4."""
  found = metrics.calibration_errors([[0.6, 0.1, 0.8, 0.3]], [0, 0, 1, 1], bins=2)
  assert found == pytest.approx([0.6 / 4 + 0.4 / 4])


def test_calibration_error_by_loops(block):
  for predictions, truth in ((BINARY, TRUTH), (CLASSES, CLASS)):
    expected = []
    for run in predictions:
      if run.ndim == 1:
        cells = [(p, y) for p, y in zip(run, truth, strict=True)]
      else:
        cells = [(max(p), np.argmax(p) == y) for p, y in zip(run, truth, strict=True)]
      cells.sort()
      bins = [cells[23 * b // 5 : 23 * (b + 1) // 5] for b in range(5)]
      assert {len(x) for x in bins} == {4, 5}
      expected.append(sum(abs(sum(p - y for p, y in x)) for x in bins) / 23)
    np.testing.assert_allclose(metrics.calibration_errors(predictions, truth, bins=5), expected)


def test_a_calibrated_network_has_the_stated_error():
  rng = np.random.default_rng(5)
  p = np.full((400, 2000), 0.3) + rng.normal(0, 1e-6, (400, 2000))
  truth = (rng.random(2000) < 0.3).astype(int)
  shuffled = [metrics.calibration_errors(run[None], rng.permutation(truth), 10)[0] for run in p]
  # The sampled truth has a share of its own, about which the bins scatter.
  assert np.mean(shuffled) == pytest.approx(math.sqrt(2 * 10 * 0.21 / (math.pi * 2000)), rel=0.15)


# Ensembles.


def test_ensembles_are_averages_of_disjoint_groups(block):
  for predictions in (BINARY, CLASSES):
    found = metrics.ensembles(predictions, 3)
    np.testing.assert_allclose(found, [predictions[:3].mean(0), predictions[3:6].mean(0)])
  assert metrics.ensembles(CLASSES.astype(np.float32), 2).dtype == np.float32
  np.testing.assert_array_equal(metrics.ensembles(BINARY, 1), BINARY)


def test_ensembles_of_independent_errors():
  """Normal errors: PD falls as 1/sqrt(size), and the log-loss by what their variance cost."""
  rng = np.random.default_rng(6)
  predictions = 0.5 + rng.normal(0, 0.05, (40, 3000))
  truth = rng.integers(0, 2, 3000)
  gain = metrics.ensemble_gain(predictions, truth, 4)
  assert gain.difference_ratio.low < 0.5 < gain.difference_ratio.high
  assert gain.difference_ratio.high - gain.difference_ratio.low < 0.02
  # E -log(p) of p = 1/2 + e falls by var(e) (1 - 1/4) / (2 (1/2)²).
  cost = 0.05**2 * 0.75 * 2
  assert gain.log_loss_change.estimate == pytest.approx(-cost, rel=0.1)
  singles = [metrics.ensembles(predictions, 4) * 0 + predictions[place::4] for place in range(4)]
  alone = np.mean([metrics.prediction_difference(x).estimate for x in singles])
  together = metrics.prediction_difference(metrics.ensembles(predictions, 4)).estimate
  assert gain.difference_ratio.estimate == pytest.approx(together / alone)


def test_an_ensemble_is_left_out_with_its_members():
  x, truth = np.random.default_rng(7).random((12, 23)), TRUTH
  ensembles = x.reshape(6, 2, 23).mean(1)

  def ratio(kept):
    alone = [brute_mean(brute_matrix(x[place::2][kept], metrics.lp_distance)) for place in (0, 1)]
    return brute_mean(brute_matrix(ensembles[kept], metrics.lp_distance)) / np.mean(alone)

  full = math.log(ratio(np.arange(6)))
  without = [math.log(ratio(np.delete(np.arange(6), g))) for g in range(6)]
  interval = scipy.stats.ttest_1samp(6 * full - 5 * np.array(without), 0).confidence_interval()
  found = metrics.ensemble_gain(x, truth, 2)
  low, high = np.exp([interval.low, interval.high])
  one = found.difference_ratio
  assert (one.estimate, one.low, one.high) == pytest.approx((math.exp(full), low, high))
  losses = [-np.log(np.where(truth == 1, p, 1 - p)).mean(1) for p in (ensembles, x)]
  change = losses[0] - losses[1].reshape(6, 2).mean(1)
  interval = scipy.stats.ttest_1samp(change, 0).confidence_interval()
  gain = found.log_loss_change
  assert (gain.estimate, gain.low, gain.high) == pytest.approx((
    change.mean(), interval.low, interval.high
  ))  # fmt: skip


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: metrics.prediction_difference(BINARY[:1]), "one run has no pairs; train at least two"),
    (lambda: metrics.mean_deviation(BINARY[:1]), "one run has no pairs"),
    (lambda: metrics.correlation_rows(BINARY[:1]), "one run has no pairs"),
    (lambda: pairs.distance_rows(BINARY[:1], metrics.hellinger), "one run has no pairs"),
    (lambda: pairs.example_differences(BINARY[:1]), "one run has no pairs"),
    (lambda: pairs.example_churn([[1, 0]]), "one run has no pairs"),
    (lambda: metrics.prediction_difference(BINARY, order=0.5), "order=0.5 is no norm's"),
    (lambda: metrics.mean_deviation(BINARY, order=math.inf), "order=inf"),
    (lambda: metrics.log_losses(BINARY, CLASS), "from 0 to 1, not from 0 to 3"),
    (lambda: metrics.log_losses(CLASSES, CLASS[:5]), r"shape \[23\].*int64 \[5\]"),
    (lambda: metrics.log_losses(CLASSES, CLASS * 1.0), "float64"),
    (lambda: metrics.calibration_errors(BINARY, TRUTH, bins=24), "bins=24 .* 23 examples"),
    (lambda: metrics.ensembles(BINARY, 8), "size=8 must lie from 1 to 7, the number of runs"),
    (lambda: metrics.list_overlap_rows([[[1, 2]], [[3, 3]]]), "run 1 lists an item twice"),
    (lambda: metrics.list_overlap_rows([[1, 2]]), r"\[R, U, K\]"),
    (lambda: metrics.correlation_rows([[0.2, 0.2], [0.1, 0.3]]), "run 0 predicts the same"),
    (lambda: pairs.distance_rows(-CLASSES, metrics.hellinger), "needs probabilities"),
  ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:invalid value encountered in sqrt")
def test_refuses(call, message):
  with pytest.raises(UserError, match=message):
    call()


@pytest.mark.parametrize(
  "function",
  [
    pairs.l1_rows,
    pairs.example_differences,
    metrics.mean_deviation,
    metrics.relative_deviation,
    metrics.predicted_labels,
    metrics.correlation_rows,
    functools.partial(metrics.ensembles, size=2),
    functools.partial(metrics.log_losses, truth_E=CLASS),
    functools.partial(metrics.calibration_errors, truth_E=CLASS),
    functools.partial(pairs.distance_rows, distance=metrics.hellinger),
    functools.partial(pairs.disjoint_distances, distance=metrics.hellinger),
  ],
)
def test_a_run_that_diverged_is_named(function, block):
  broken = CLASSES.copy()
  broken[5, 17, 2] = math.nan
  with pytest.raises(UserError, match="run 5 on example 17 is not finite; leave out"):
    function(broken)


def test_refuses_shapes():
  with pytest.raises(ValueError, match=r"\[R, E\] or \[R, E, K\], not \(3,\)"):
    pairs.l1_rows([0.1, 0.2, 0.3])
  with pytest.raises(ValueError, match=r"groups must have the shape \[7\]"):
    pairs.l1_rows(BINARY, groups=[0, 1])
  with pytest.raises(ValueError, match=r"must give \(6, \d+\), not"):
    pairs.distance_rows(CLASSES, lambda p, q: np.abs(p - q))
  with pytest.raises(ValueError, match="votes of all runs"):
    pairs.churn_rows(LABELS, pairs.votes(LABELS), groups=np.arange(7))
