"""Statistics against hand-worked values, second routes and simulated worlds with known answers."""

import math

import numpy as np
import pytest
import scipy.stats

from seedlab import stats


def test_summary_by_hand():
  s = stats.summary([4, 1, 10, 2, 3])
  assert (s.n, s.mean, s.min, s.q25, s.median, s.q75, s.max, s.gap) == (5, 4, 1, 2, 3, 4, 10, 9)
  assert s.sd == pytest.approx(math.sqrt((9 + 4 + 1 + 0 + 36) / 4))
  assert s.sem == pytest.approx(s.sd / math.sqrt(5))
  half = 2.776445 * s.sem
  assert (s.low, s.high) == pytest.approx((4 - half, 4 + half), rel=1e-6)


def test_interval_is_that_of_the_t_test():
  values = np.random.default_rng(0).gamma(2, size=37)
  interval = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
  s = stats.summary(values)
  assert (s.low, s.high) == pytest.approx((interval.low, interval.high))


def test_interval_covers_the_mean_in_95_of_100_samples():
  samples = np.random.default_rng(1).normal(3, 2, (4000, 4))
  covered = np.mean([s.low <= 3 <= s.high for s in map(stats.summary, samples)])
  assert abs(covered - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 4000)  # with a normal's 1.96: 0.86


def test_summary_of_one_run_and_of_equal_runs():
  one = stats.summary([0.3])
  assert (one.mean, one.min, one.median, one.max, one.gap) == (0.3, 0.3, 0.3, 0.3, 0)
  assert all(math.isnan(value) for value in (one.sd, one.sem, one.low, one.high))
  equal = stats.summary([0.1] * 7)  # whose plain mean is not 0.1
  assert (equal.mean, equal.low, equal.high) == (0.1, 0.1, 0.1)
  assert equal.sd == equal.sem == equal.gap == 0


@pytest.mark.parametrize(
  ("values", "message"),
  [
    ([1, math.nan, math.inf], "2 of 3 values are not finite, first at 1"),
    ([], r"not \(0,\)"),
    ([[1, 2]], r"not \(1, 2\)"),
  ],
)
def test_summary_refuses(values, message):
  with pytest.raises(ValueError, match=message):
    stats.summary(values)


def test_distribution_wise_variance_by_hand():
  agree, differ = np.array([[1, 1], [0, 0]]), np.array([[1, 0], [0, 1]])
  # Var of the error 1/2, of each example 1/2: 2 (1/2 - 1/4); and with Var of the error 0.
  assert stats.distribution_wise_variance(agree.sum(1), agree.sum(0)) == 0.5
  assert stats.distribution_wise_variance(differ.sum(1), differ.sum(0)) == -0.5
  assert stats.independent_errors_variance(agree.sum(0), 2) == 0.25


def test_distribution_wise_variance_is_the_mean_covariance_of_pairs():
  rng = np.random.default_rng(2)
  for errors in (rng.random((9, 14)) < rng.random(14), rng.random((9, 14))):
    covariance = np.cov(errors, rowvar=False)
    pairs = covariance[~np.eye(14, dtype=bool)]
    sums = errors.sum(1), errors.sum(0), (errors.astype(float) ** 2).sum(0)
    assert stats.distribution_wise_variance(*sums) == pytest.approx(pairs.mean())
    independent = stats.independent_errors_variance(sums[1], 9, sums[2])
    assert independent == pytest.approx(np.trace(covariance) / 14**2)


def test_distribution_wise_variance_is_unbiased():
  """Each network has its own error probability, Beta(3, 7): its variance is known."""
  rng = np.random.default_rng(3)
  truth = 3 * 7 / (10**2 * 11)
  probabilities = rng.beta(3, 7, (20_000, 4, 1))
  errors = rng.random((20_000, 4, 6)) < probabilities
  estimates = [stats.distribution_wise_variance(e.sum(1), e.sum(0)) for e in errors]
  error = np.std(estimates) / math.sqrt(len(estimates))
  assert abs(np.mean(estimates) - truth) < 4 * error
  assert 4 * error < truth / 10  # sharp enough to see a ddof of 0, which would lose a quarter
  assert min(estimates) < 0  # the price of being unbiased


def test_networks_that_differ_by_chance_alone_have_no_distribution_wise_variance():
  """Examples of unlike difficulty, independent errors: the raw variance is the yardstick."""
  rng = np.random.default_rng(4)
  difficulty = rng.uniform(0, 0.6, 8)
  truth = np.sum(difficulty * (1 - difficulty)) / 8**2
  samples = rng.random((10_000, 5, 8)) < difficulty
  for estimates, expected in (
    ([stats.distribution_wise_variance(e.sum(1), e.sum(0)) for e in samples], 0),
    ([stats.independent_errors_variance(e.sum(0), 5) for e in samples], truth),
  ):
    assert abs(np.mean(estimates) - expected) < 4 * np.std(estimates) / math.sqrt(10_000)


def test_variances_of_one_run_or_one_example_are_undefined():
  assert math.isnan(stats.distribution_wise_variance([1], [1, 0]))
  assert math.isnan(stats.distribution_wise_variance([1, 0], [1]))
  assert math.isnan(stats.independent_errors_variance([1, 0], 1))


def test_bands():
  quantiles, sd = stats.bands([[0, 5], [1, 5], [2, 5], [3, 5], [9, 5]], (0.25, 0.5, 1))
  np.testing.assert_array_equal(quantiles, [[1, 5], [2, 5], [9, 5]])
  np.testing.assert_allclose(sd, [math.sqrt((9 + 4 + 1 + 0 + 36) / 4), 0])


@pytest.mark.parametrize("grid", [0.0, 1 / 250])
def test_histogram_covers_every_value_with_equal_bins(grid):
  values = np.random.default_rng(5).binomial(250, 0.9, 700) / 250
  edges = stats.histogram_edges(values, grid)
  assert edges[0] <= values.min() and values.max() <= edges[-1]
  np.testing.assert_allclose(np.diff(edges), edges[1] - edges[0])
  assert 5 < len(edges) - 1 <= 60


def test_histogram_bins_hold_equally_many_grid_values():
  """Equally many runs at each possible accuracy must look flat, float32 rounding included."""
  values = np.repeat(np.arange(900, 1000), 5).astype(np.float32) / np.float32(1297)
  counts, _ = np.histogram(values, stats.histogram_edges(values, 1 / 1297))
  assert len(counts) > 5
  assert set(counts[:-1]) == {counts[0]} and counts[-1] <= counts[0]


def test_histogram_of_equal_values_is_one_bin_around_them():
  for values, grid in (([0.5, 0.5], 0.01), ([0.5, 0.5], 0.0), ([0.0], 0.0), ([-3.0], 0.0)):
    low, high = stats.histogram_edges(values, grid)
    assert low < values[0] < high
