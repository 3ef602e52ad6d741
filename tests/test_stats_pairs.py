"""Pair means: exact leave-one-out values by second routes, coverage, and sizes that matter."""

import itertools
import math
import tracemalloc

import numpy as np
import pytest
import scipy.stats

from seedlab.stats import pairs


def brute_rows(predictions, distance):
  runs = range(len(predictions))
  return np.array([sum(distance(predictions[m], predictions[j]) for j in runs) for m in runs])


def brute_mean(predictions, distance):
  chosen = itertools.combinations(range(len(predictions)), 2)
  return np.mean([distance(predictions[m], predictions[j]) for m, j in chosen])


def l1(p, q):
  return np.abs(p - q).reshape(len(p), -1).sum(1).mean()


def churn(y, z):
  return np.mean(y != z)


def test_churn_by_hand():
  """Labels 0 1 | 0 2 | 1 2: runs 0 and 1 differ in one of two, 0 and 2 in both, 1 and 2 in one."""
  rows = pairs.churn_rows([[0, 1], [0, 2], [1, 2]])
  np.testing.assert_array_equal(rows, [1.5, 1.0, 1.5])
  assert pairs.pair_mean(rows).estimate == pytest.approx(2 / 3)


@pytest.mark.parametrize("block", [1, 7, 2**22])
def test_rows_are_sums_over_pairs(block, monkeypatch):
  monkeypatch.setattr(pairs, "_BLOCK", block)
  rng = np.random.default_rng(0)
  labels = rng.integers(0, 4, (9, 13), np.uint8)
  probabilities = rng.dirichlet([1, 1, 1], (9, 13))
  tied = np.round(probabilities, 1)
  np.testing.assert_allclose(pairs.churn_rows(labels), brute_rows(labels, churn))
  np.testing.assert_allclose(pairs.l1_rows(probabilities), brute_rows(probabilities, l1))
  np.testing.assert_allclose(pairs.l1_rows(tied), brute_rows(tied, l1), atol=1e-12)
  one = probabilities[..., 0].astype(np.float32)
  np.testing.assert_allclose(pairs.l1_rows(one), brute_rows(one.astype(float), l1))


def test_two_classes_differ_twice_as_much_as_one_of_them():
  one = np.random.default_rng(1).random((5, 8))
  both = np.stack([one, 1 - one], axis=-1)
  np.testing.assert_allclose(pairs.l1_rows(both), 2 * pairs.l1_rows(one))


def test_interval_from_leaving_each_run_out_for_real():
  labels = np.random.default_rng(2).integers(0, 3, (7, 20))
  interval = pairs.pair_mean(pairs.churn_rows(labels))
  full = brute_mean(labels, churn)
  without = [brute_mean(np.delete(labels, m, axis=0), churn) for m in range(7)]
  assert np.mean(without) == pytest.approx(full)  # a U-statistic has no bias to take away
  pseudo = 7 * math.log(full) - 6 * np.log(without)
  low, high = scipy.stats.ttest_1samp(pseudo, 0).confidence_interval()
  assert (interval.estimate, interval.low, interval.high) == pytest.approx(
    (full, math.exp(low), math.exp(high))
  )


def test_paired_ratio_leaves_run_m_out_of_both():
  rng = np.random.default_rng(3)
  a, b = rng.random((8, 30)), rng.random((8, 30)) / 2
  ratio = pairs.pair_ratio(pairs.l1_rows(a), pairs.l1_rows(b), paired=True)
  logs = [
    math.log(brute_mean(np.delete(a, m, 0), l1) / brute_mean(np.delete(b, m, 0), l1))
    for m in range(8)
  ]
  full = math.log(brute_mean(a, l1) / brute_mean(b, l1))
  pseudo = 8 * full - 7 * np.array(logs)
  low, high = scipy.stats.ttest_1samp(pseudo, 0).confidence_interval()
  assert (ratio.estimate, ratio.low, ratio.high) == pytest.approx(
    (math.exp(full), math.exp(low), math.exp(high))
  )


def test_separate_ratio_is_welch_on_the_pseudovalues():
  rng = np.random.default_rng(4)
  a, b = rng.random((8, 30)), rng.random((12, 30)) / 2

  def pseudo(x):
    full = math.log(brute_mean(x, l1))
    without = [math.log(brute_mean(np.delete(x, m, 0), l1)) for m in range(len(x))]
    return len(x) * full - (len(x) - 1) * np.array(without)

  ratio = pairs.pair_ratio(pairs.l1_rows(a), pairs.l1_rows(b), paired=False)
  welch = scipy.stats.ttest_ind(pseudo(a), pseudo(b), equal_var=False).confidence_interval()
  assert (ratio.low, ratio.high) == pytest.approx((math.exp(welch.low), math.exp(welch.high)))


def test_pairing_shortens_the_ratio_of_sweeps_that_move_together():
  a, b = twin_samples(np.random.default_rng(5), 1, 12, 40)
  rows = pairs.l1_rows(a[0]), pairs.l1_rows(b[0])
  paired, separate = (pairs.pair_ratio(*rows, paired=flag) for flag in (True, False))
  assert paired.estimate == pytest.approx(separate.estimate)
  assert paired.high - paired.low < (separate.high - separate.low) / 2


@pytest.mark.parametrize(
  "function",
  [
    lambda a, b, level: pairs.pair_mean(pairs.l1_rows(a), level),
    lambda a, b, level: pairs.pair_ratio(pairs.l1_rows(a), pairs.l1_rows(b), True, level),
    lambda a, b, level: pairs.pair_ratio(pairs.l1_rows(a), pairs.l1_rows(b), False, level),
    lambda a, b, level: pairs.new_examples_mean(
      pairs.l1_rows(a), pairs.example_differences(a), level=level
    ),
  ],
)
def test_a_higher_level_gives_a_wider_interval(function):
  a, b = np.random.default_rng(11).random((2, 8, 30))
  levels = (0.5, 0.9, 0.95, 0.99)
  found = [function(a, b, level) for level in levels]
  assert tuple(one.level for one in found) == levels
  assert all(x.low > y.low and x.high < y.high for x, y in itertools.pairwise(found))


def test_a_network_does_not_differ_from_itself():
  predictions = np.tile(np.random.default_rng(6).random(50), (6, 1))
  for rows in (pairs.l1_rows(predictions), pairs.churn_rows(np.full((6, 50), 3))):
    np.testing.assert_array_equal(rows, 0)
    interval = pairs.pair_mean(rows)
    assert interval.estimate == 0 and math.isnan(interval.low) and math.isnan(interval.high)
  other = pairs.l1_rows(np.random.default_rng(7).random((6, 50)))
  ratio = pairs.pair_ratio(np.zeros(6), other, paired=True)
  assert ratio.estimate == 0 and math.isnan(ratio.low) and math.isnan(ratio.high)
  assert math.isnan(pairs.pair_ratio(np.zeros(6), np.zeros(6), paired=False).estimate)


def test_few_runs():
  two = pairs.pair_mean(pairs.churn_rows([[0, 1], [1, 1]]))
  assert two.estimate == 0.5 and math.isnan(two.low)
  with pytest.raises(ValueError, match="one run has no pairs"):
    pairs.pair_mean(pairs.churn_rows([[0, 1]]))
  # The two others agree, so without the last run nothing differs: no ratio can be judged.
  ratio = pairs.pair_ratio(pairs.l1_rows([[0.1], [0.1], [0.4]]), [1.0, 2.0, 3.0], paired=True)
  assert math.isnan(ratio.low)


def test_disjoint_distances():
  values = np.array([[1.0, 1], [2, 3], [0, 0], [5, 5], [9, 9]])
  found = pairs.disjoint_distances(values, lambda p, q: np.abs(p - q).sum(-1))
  np.testing.assert_array_equal(found, [1.5, 5])


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: pairs.churn_rows([[0.5, 1.0]]), "integers from 0, not float64"),
    (lambda: pairs.churn_rows([[-1, 1]]), "integers from 0"),
    (lambda: pairs.churn_rows([1, 2]), r"\[R, E\], not \(2,\)"),
    (lambda: pairs.l1_rows([[0.1, 0.2], [0.1, math.nan]]), "run 1 on example 1 is not finite"),
    (lambda: pairs.pair_ratio([1.0, 2, 3], [1.0, 2], paired=True), "not 3 and 2"),
  ],
)
def test_refuses(call, message):
  with pytest.raises(ValueError, match=message):
    call()


# A world with a known answer: run m has its own restlessness s_m (log s_m is normal with sd
# `uneven`) and predicts s_m z_me on example e. E |s z - s' z'| = sqrt(2/π) E sqrt(s² + s'²).


def restless(rng, samples, runs, examples, uneven):
  scales = np.exp(rng.normal(0, uneven, (samples, runs, 1)))
  return scales * rng.normal(0, 1, (samples, runs, examples))


def restless_truth(uneven):
  nodes, weights = np.polynomial.hermite_e.hermegauss(80)
  squares = np.exp(2 * uneven * nodes)
  means = np.sqrt(squares[:, None] + squares) * weights[:, None] * weights / weights.sum() ** 2
  return math.sqrt(2 / math.pi) * means.sum()


def twin_samples(rng, samples, runs, examples):
  """Two sweeps on the same seeds; B differs 0.8 times as much."""
  scales = np.exp(rng.normal(0, 0.5, (samples, runs, 1)))
  noise = rng.normal(0, 1, (2, samples, runs, examples))
  own = np.exp(rng.normal(0, 0.1, (2, samples, runs, 1)))
  return scales * own[0] * noise[0], 0.8 * scales * own[1] * noise[1]


def covered(intervals, truth):
  return np.mean([interval.low <= truth <= interval.high for interval in intervals])


def pairs_as_if_independent(predictions):
  values = [l1(p, q) for p, q in itertools.combinations(predictions, 2)]
  return scipy.stats.ttest_1samp(values, 0).confidence_interval()


@pytest.mark.parametrize("runs", [8, 16])
def test_coverage_of_the_pair_mean(runs):
  samples, truth = restless(np.random.default_rng(8), 1500, runs, 20, 0.25), restless_truth(0.25)
  coverage = covered([pairs.pair_mean(pairs.l1_rows(p)) for p in samples], truth)
  assert abs(coverage - 0.95) < 3.5 * math.sqrt(0.95 * 0.05 / 1500)
  naive = covered([pairs_as_if_independent(p) for p in samples[:200]], truth)
  assert naive < 0.75


@pytest.mark.parametrize("paired", [True, False])
def test_coverage_of_the_pair_ratio(paired):
  rng = np.random.default_rng(9)
  a, b = twin_samples(rng, 1500, 12, 20)
  if not paired:
    b = twin_samples(rng, 1500, 16, 20)[1]
  rows = zip(map(pairs.l1_rows, a), map(pairs.l1_rows, b), strict=True)
  coverage = covered([pairs.pair_ratio(*both, paired=paired) for both in rows], 1 / 0.8)
  assert 0.92 < coverage < 0.97


def test_thousands_of_runs_take_little_memory():
  rng = np.random.default_rng(10)
  labels = rng.integers(0, 10, (2000, 3000), np.uint8)
  tracemalloc.start()
  rows = pairs.churn_rows(labels)
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert rows.mean() / 1999 == pytest.approx(0.9, abs=1e-3)
  assert peak < 150e6


@pytest.mark.slow
def test_coverage_table():
  """Prints the tables of docs/statistics.md."""
  print("\n| unevenness | runs | jackknife | pairs as if independent |\n| --- | --- | --- | --- |")
  for uneven, runs in itertools.product((0.1, 0.25, 0.5), (8, 16, 32)):
    truth = restless_truth(uneven)
    samples = restless(np.random.default_rng(runs), 10_000, runs, 20, uneven)
    coverage = covered([pairs.pair_mean(pairs.l1_rows(p)) for p in samples], truth)
    naive = covered([pairs_as_if_independent(p) for p in samples[:1000]], truth)
    print(f"| {uneven} | {runs} | {coverage:.3f} | {naive:.3f} |")
    assert 0.91 < coverage < 0.97
  print("\n| runs | ratio, paired | ratio, separate |\n| --- | --- | --- |")
  for runs in (8, 16, 32):
    rng = np.random.default_rng(100 + runs)
    a, b = twin_samples(rng, 10_000, runs, 20)
    c = twin_samples(rng, 10_000, runs, 20)[1]
    rows_a, rows_b, rows_c = ([pairs.l1_rows(p) for p in x] for x in (a, b, c))
    row = [
      covered([pairs.pair_ratio(*r, paired=flag) for r in zip(rows_a, other, strict=True)], 1.25)
      for other, flag in ((rows_b, True), (rows_c, False))
    ]
    print(f"| {runs} | {row[0]:.3f} | {row[1]:.3f} |")
    assert all(0.92 < coverage < 0.97 for coverage in row)
