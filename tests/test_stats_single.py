"""Statistics against hand-worked values, second routes and simulated worlds with known answers."""

import itertools
import math

import numpy as np
import pytest
import scipy
import scipy.stats

from seedlab import stats
from seedlab.stats import single


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
  assert (equal.mean, equal.sd, equal.gap) == (0.1, 0, 0)
  assert math.isnan(equal.low) and math.isnan(equal.high)  # how fine they are is not known
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


def test_histogram_bins_have_the_width_of_freedman_and_diaconis():
  """Of 0 to 1 in thousandths: 2 (3/4 - 1/4) 1001^(-1/3) = 0.09997, and so eleven bins."""
  np.testing.assert_allclose(stats.histogram_edges(np.arange(1001) / 1000), np.arange(12) / 11)
  assert len(stats.histogram_edges([*range(1000), 1e6])) == 61  # at most 60 bins


def test_histogram_of_equal_values_is_one_bin_around_them():
  for values, grid in (([0.5, 0.5], 0.01), ([0.5, 0.5], 0.0), ([0.0], 0.0), ([-3.0], 0.0)):
    low, high = stats.histogram_edges(values, grid)
    assert low < values[0] < high


def coverage(interval, truth, samples) -> float:
  found = [interval(sample) for sample in samples]
  return float(np.mean([i.low <= truth <= i.high for i in found]))


def within(rate: float, nominal: float, repetitions: int) -> bool:
  """Within four standard errors of a simulation."""
  return abs(rate - nominal) < 4 * math.sqrt(nominal * (1 - nominal) / repetitions)


def test_quantile_interval_by_hand():
  six = single.quantile_interval([4, 1, 10, 2, 3, 7], 0.5)
  assert (six.estimate, six.low, six.high) == (3.5, 1, 10)  # left out: 2/64 in all
  assert single.quantile_interval(range(5), 0.5).low == -math.inf  # 1/32 on a side is too much
  assert single.quantile_interval(range(5), 0.5).high == math.inf
  # Bin(20, 1/2): P(<= 5) = 0.0207, P(<= 6) = 0.058; so the 6th and the 15th value.
  twenty = single.quantile_interval(np.arange(1, 21), 0.5)
  assert (twenty.low, twenty.high) == (6, 15)
  assert single.quantile_interval([2, 2, 2, 2, 2, 2], 0.5).high == 2
  upper = single.quantile_interval(np.arange(12), 0.75), single.quantile_interval(range(13), 0.75)
  assert (upper[0].high, upper[1].high) == (math.inf, 12)  # 0.75^12 = 0.032, 0.75^13 = 0.024


def test_quantile_interval_covers_at_exactly_its_binomial_rate():
  samples = np.random.default_rng(10).exponential(size=(800, 20))
  found = [single.quantile_interval(sample, 0.5) for sample in samples]
  rate = np.mean([i.low <= math.log(2) <= i.high for i in found])
  exact = scipy.stats.binom.cdf(14, 20, 0.5) - scipy.stats.binom.cdf(5, 20, 0.5)
  assert exact > 0.95 and within(rate, exact, 800)


def test_interquartile_mean():
  values = np.random.default_rng(11).gamma(2, size=24)
  found = single.interquartile_mean(values)
  assert found.estimate == pytest.approx(scipy.stats.trim_mean(values, 0.25))
  # The older routine agrees where 4 divides the number of runs: elsewhere it divides by
  # 1/2, not by the share that was kept.
  limits = scipy.stats.mstats.trimmed_mean_ci(values, (0.25, 0.25), alpha=0.05)
  assert (found.low, found.high) == pytest.approx(tuple(limits))
  assert single.interquartile_mean([1, 2, 3]).estimate == 2  # nothing to cut
  assert single.interquartile_mean([0, 5, 5, 90]).estimate == 5
  assert math.isnan(single.interquartile_mean([0, 5, 5, 90]).low)
  assert math.isnan(single.interquartile_mean([7]).high)


def test_interquartile_mean_where_four_does_not_divide_the_runs():
  """Of seven one is cut from each end: 2 2 3 4 5 6 6 have a variance of 8/3, and 5/7 is kept."""
  found = single.interquartile_mean([7, 1, 6, 2, 5, 3, 4], 0.9)
  half = scipy.stats.t.ppf(0.95, 4) * math.sqrt(18 / 6) / (5 / 7 * math.sqrt(7))
  assert (found.estimate, found.low, found.high) == pytest.approx((4, 4 - half, 4 + half))
  assert single.interquartile_mean([0, 1, 2, 3, 4, 5, 60]).estimate == 3


def test_interval_of_the_interquartile_mean_covers():
  samples = np.random.default_rng(12).standard_t(5, (4000, 16))
  assert abs(coverage(single.interquartile_mean, 0, samples) - 0.95) < 0.02


def test_jackknife_of_a_mean_is_the_t_interval():
  values = np.random.default_rng(13).normal(size=9)
  left_out = (values.sum() - values) / 8
  s = stats.summary(values)
  assert single.jackknife_interval(values.mean(), left_out) == pytest.approx((s.low, s.high))


def test_jackknife_takes_the_bias_away():
  """Of the variance with ddof = 0 it is known exactly: the centre is the one with ddof = 1."""
  values = np.random.default_rng(26).gamma(2, size=7)
  low, high = single.jackknife_interval(
    values.var(), [np.delete(values, m).var() for m in range(7)]
  )
  assert (low + high) / 2 == pytest.approx(values.var(ddof=1))


def test_log_variances_are_those_without_each_run():
  values = 0.9 + 1e-3 * np.random.default_rng(14).normal(size=11)
  theta, theta_R = single.log_variances(values)
  assert theta == pytest.approx(math.log(values.var(ddof=1)))
  for m in range(11):
    assert theta_R[m] == pytest.approx(math.log(np.delete(values, m).var(ddof=1)))


@pytest.mark.parametrize(("n", "least"), [(8, 0.93), (32, 0.935)])
def test_sd_interval_covers(n, least):
  samples = np.random.default_rng(15).normal(5, 2, (4000, n))
  assert least < coverage(single.sd_interval, 2, samples) < 0.965


def test_sd_interval_is_longer_for_heavy_tails():
  heavy = np.random.default_rng(16).standard_t(5, 400)
  found = single.sd_interval(heavy)
  limits = heavy.std(ddof=1) * np.sqrt(399 / scipy.stats.chi2.ppf([0.975, 0.025], 399))
  assert found.high - found.low > 1.2 * (limits[1] - limits[0])


@pytest.mark.parametrize(
  ("values", "sd"),
  [
    ([3], math.nan),
    ([3, 5], math.sqrt(2)),
    ([0.1] * 7, 0),
    ([1, 1, 1, 2], 0.5),
    ([0.1] * 7 + [0.2], 0.1 / math.sqrt(8)),
    ([0, 1] * 3, None),
  ],
)
def test_sd_without_an_interval(values, sd):
  found = single.sd_interval(values)
  assert sd is None or found.estimate == pytest.approx(sd, nan_ok=True)
  assert math.isnan(found.low) and math.isnan(found.high)


def subsets(values, k, function):
  return np.mean([function(subset) for subset in itertools.combinations(values, k)])


@pytest.mark.parametrize("k", [2, 3])
def test_expected_best_and_range_are_means_over_subsets(k):
  values = np.random.default_rng(17).normal(0.9, 0.01, 15)
  for found, function in (
    (single.expected_best(values, k), max),
    (single.expected_range(values, k), np.ptp),
  ):
    assert found.estimate == pytest.approx(subsets(values, k, function))
    left_out = [subsets(np.delete(values, m), k, function) for m in range(15)]
    limits = single.jackknife_interval(found.estimate, left_out)
    if function is np.ptp:
      limits = np.exp(single.jackknife_interval(np.log(found.estimate), np.log(left_out)))
    assert (found.low, found.high) == pytest.approx(tuple(limits))
    assert "jackknife" in found.method


def test_expected_best_of_one_is_the_mean():
  values = np.random.default_rng(18).normal(size=12)
  found, s = single.expected_best(values, 1), stats.summary(values)
  assert (found.estimate, found.low, found.high) == pytest.approx((s.mean, s.low, s.high))


def test_beyond_a_fifth_of_the_runs_the_model_is_named():
  values = np.random.default_rng(19).normal(size=20)
  for function in (single.expected_best, single.expected_range):
    assert "jackknife" in function(values, 4).method
    assert function(values, 5).method == "normal model"


def test_expected_maximum_of_normals():
  # Tables of normal order statistics (Harter 1961): 10, 100, 1000.
  for k, expected in ((2, 1 / math.sqrt(math.pi)), (10, 1.53875), (100, 2.50759), (1000, 3.24144)):
    assert single.normal_best(k) == pytest.approx(expected, abs=1e-5)


def test_intervals_of_expected_extremes_cover():
  rng = np.random.default_rng(20)
  best = single.normal_best(5)
  samples = rng.normal(size=(1200, 50))
  assert 0.925 < coverage(lambda x: single.expected_best(x, 5), best, samples) < 0.965
  assert 0.925 < coverage(lambda x: single.expected_range(x, 5), 2 * best, samples) < 0.965
  # The model's limits are exact for normal values.
  best, few = single.normal_best(100), rng.normal(size=(1000, 6))
  assert within(coverage(lambda x: single.expected_best(x, 100), best, few), 0.95, 1000)
  assert within(coverage(lambda x: single.expected_range(x, 100), 2 * best, few), 0.95, 1000)


def test_a_range_by_the_normal_model_has_the_chi_square_limits_of_the_sd():
  """Deviations -3 -2 1 4: 30 in squares, which is chi-square with 3 degrees of freedom."""
  found = single.expected_range([0, 1, 4, 7], 10, 0.9)
  limits = 2 * 1.53875 * np.sqrt(30 / scipy.stats.chi2.ppf([0.95, 0.05], 3))
  assert (found.low, found.high) == pytest.approx(tuple(limits), rel=1e-5)


def test_extremes_of_equal_values_and_of_one_run():
  for values in ([0.3], [0.3] * 4, [0.3] * 40):
    best, gap = single.expected_best(values, 3), single.expected_range(values, 3)
    assert math.isnan(best.low) and math.isnan(gap.high)
  assert single.expected_best([0.3] * 40, 3).estimate == pytest.approx(0.3)
  assert single.expected_range([0.3] * 40, 3).estimate == pytest.approx(0)
  with pytest.raises(ValueError, match="k must be a whole number of at least 2, not 1"):
    single.expected_range([1, 2, 3], 1)


def test_tails_of_normals_on_a_grid_are_rarely_called_heavy():
  """Three grid steps a sd: what rounding alone does to the kurtosis must not count."""
  rng = np.random.default_rng(21)
  samples = np.round(rng.normal(0.95, 0.003, (400, 40)) / 0.001) * 0.001
  p = [single.heavier_tails(sample, 0.001, rng, 199).p_value for sample in samples]
  assert within(np.mean(np.array(p) <= 0.05), 0.05, 400)
  assert within(np.mean(np.array(p) <= 0.5), 0.5, 400)


def test_tails_on_a_grid_wider_than_the_sd():
  """Without rounding the draws, a quarter of these would be called heavy."""
  rng = np.random.default_rng(29)
  samples = np.round(rng.normal(rng.random((300, 1)), 0.4, (300, 40)))
  p = [single.heavier_tails(sample, 1, rng, 199).p_value for sample in samples]
  assert np.mean(np.array(p) <= 0.05) < 0.08


def test_the_tails_are_held_against_the_spread_before_rounding():
  """By listing: of -1, 0 and 1 the kurtosis follows from two counts, and these are multinomial.

  The variance 8/39 holds 1/12 of rounding. p is 0.77; of the whole variance it would be 0.15.
  """
  values = np.repeat([-1.0, 0.0, 1.0], [4, 32, 4])
  sd = math.sqrt(8 / 39 - 1 / 12)
  edges = scipy.stats.norm.cdf([-0.5, 0.5], scale=sd)
  chances = [edges[0], edges[1] - edges[0], 1 - edges[1]]
  assert scipy.stats.norm.sf(1.5, scale=sd) < 1e-5  # 2 and -2 do not matter
  counts = np.array([(a, 40 - a - b, b) for a in range(41) for b in range(41 - a)])
  counts = counts[counts.max(1) < 40]
  samples = np.array([np.repeat([-1.0, 0.0, 1.0], count) for count in counts])
  heavy = scipy.stats.kurtosis(samples, axis=1) >= 2 - 1e-9
  exact = scipy.stats.multinomial.pmf(counts[heavy], 40, chances).sum()
  exact += scipy.stats.multinomial.pmf([0, 40, 0], 40, chances)  # equal draws count as heavy
  found = single.heavier_tails(values, 1, np.random.default_rng(30))
  assert found.excess_kurtosis == pytest.approx(2)  # 1 / 0.2 - 3
  assert within(found.p_value, exact, 4999) and exact == pytest.approx(0.767, abs=0.001)


def test_heavy_tails_and_an_outlier_are_seen():
  rng = np.random.default_rng(22)
  heavy = rng.standard_t(4, 500)
  assert single.heavier_tails(heavy, 0, rng).p_value < 0.01
  assert single.heavier_tails(np.append(rng.normal(size=60), -7), 0, rng).p_value < 0.01
  assert single.heavier_tails(rng.uniform(size=500), 0, rng).p_value > 0.99
  found = single.heavier_tails(heavy, 0, rng, 99)
  assert found.excess_kurtosis == pytest.approx(scipy.stats.kurtosis(heavy))
  assert found.p_value >= 1 / 100 and found.draws == 99


def test_tails_are_those_of_the_generator():
  values = np.random.default_rng(23).standard_t(8, 50)
  p = [single.heavier_tails(values, 0.01, np.random.default_rng(s), 999).p_value for s in (1, 1, 2)]
  assert p[0] == p[1] != p[2]


def test_tails_of_too_few_or_equal_values_are_undefined():
  rng = np.random.default_rng(24)
  for values in ([0.1, 0.2, 0.9], [0.1] * 9):
    assert math.isnan(single.heavier_tails(values, 0, rng).p_value)
  # Two neighbouring grid values: nothing breaks where most draws are of this kind.
  assert 0 < single.heavier_tails([0.1, 0.1, 0.2, 0.1, 0.2], 0.1, rng, 99).p_value <= 1


def test_distribution_wise_interval_leaves_out_one_run_at_a_time():
  rng = np.random.default_rng(25)
  for errors in (rng.random((7, 9)) < 0.4, rng.random((7, 9))):
    found = single.distribution_wise_interval(errors)

    def route(e):
      return stats.distribution_wise_variance(e.sum(1), e.sum(0), (e.astype(float) ** 2).sum(0))

    assert found.estimate == pytest.approx(route(errors))
    left_out = [route(np.delete(errors, m, 0)) for m in range(7)]
    constant = np.trace(np.cov(errors, rowvar=False)) / (9 * 8)
    logs = np.log(np.array([found.estimate, *left_out]) + constant)
    limits = np.exp(single.jackknife_interval(logs[0], logs[1:])) - constant
    assert (found.low, found.high) == pytest.approx(tuple(limits))
  assert math.isnan(single.distribution_wise_interval(errors[:2]).low)
  alike = single.distribution_wise_interval(np.tile([True, False, True], (5, 1)))
  assert alike.estimate == 0 and math.isnan(alike.low)


def distribution_wise_limits(rng, draw, repetitions: int) -> np.ndarray:
  """float[repetitions, 2]: intervals from errors with the probabilities of draw(), [R, E]."""
  found = [
    single.distribution_wise_interval(rng.random((30, 80)) < draw()) for _ in range(repetitions)
  ]
  return np.array([[f.low, f.high] for f in found])


def test_distribution_wise_interval_covers():
  rng = np.random.default_rng(27)
  truth = 4 * 16 / (20**2 * 21)  # each network has its own error probability
  low, high = distribution_wise_limits(rng, lambda: rng.beta(4, 16, (30, 1)), 1500).T
  assert 0.92 < np.mean((low <= truth) & (truth <= high)) < 0.96
  assert np.mean(low > 0) > 0.9


def test_networks_that_differ_by_chance_alone_seldom_show_a_spread():
  rng = np.random.default_rng(28)
  difficulty = rng.uniform(0, 0.5, 80)
  low, _ = distribution_wise_limits(rng, lambda: difficulty, 1500).T
  assert np.mean(low > 0) < 0.035


@pytest.mark.parametrize(
  "function",
  [
    single.mean_interval,
    lambda x, level: single.quantile_interval(x, 0.4, level),
    single.interquartile_mean,
    single.sd_interval,
    *(
      lambda x, level, f=f, k=k: f(x, k, level)  # from subsets, and by the normal model
      for f in (single.expected_best, single.expected_range)
      for k in (3, 30)
    ),
    lambda x, level: single.distribution_wise_interval(x[:, None] > [-1, 0, 0.1, 1], level),
  ],
)
def test_a_higher_level_gives_a_wider_interval(function):
  values = np.random.default_rng(31).normal(size=90)
  levels = (0.5, 0.9, 0.95, 0.99)
  found = [function(values, level) for level in levels]
  assert tuple(one.level for one in found) == levels
  assert all(x.low > y.low and x.high < y.high for x, y in itertools.pairwise(found))


def test_levels_must_be_shares():
  for function in (single.sd_interval, single.interquartile_mean):
    with pytest.raises(ValueError, match=r"level must lie between 0 and 1, such as 0.95, not 95"):
      function([1, 2, 3, 5], level=95)


NAMED = {
  "normal": (lambda rng, shape: rng.normal(size=shape), 1),
  "t, 6 df": (lambda rng, shape: rng.standard_t(6, shape), math.sqrt(1.5)),
  "exponential": (lambda rng, shape: rng.exponential(size=shape), 1),
}


@pytest.mark.slow
def test_table_of_coverages(capsys):
  """Prints the table of docs/statistics; what is asserted is that nothing got worse."""
  lines = [f"numpy {np.__version__}, scipy {scipy.__version__}; seed 100; 4,000 samples a cell"]
  rng = np.random.default_rng(100)
  for name, (draw, sd) in NAMED.items():
    rates = [coverage(single.sd_interval, sd, draw(rng, (4000, n))) for n in (8, 16, 32, 100)]
    lines.append(f"sd, {name}, 8/16/32/100 runs: " + " ".join(f"{100 * r:.1f}" for r in rates))
    assert min(rates) > (0.93 if name == "normal" else 0.82)
    for k, sizes in ((4, (20, 40, 100)), (10, (50, 100, 200))):
      tops = draw(rng, (400_000, k))
      for label, function, truth in (
        ("best", single.expected_best, tops.max(1).mean()),
        ("range", single.expected_range, np.ptp(tops, axis=1).mean()),
      ):
        rates = [
          coverage(lambda x, f=function, k=k: f(x, k), truth, draw(rng, (4000, n))) for n in sizes
        ]
        shown = " ".join(f"{100 * r:.1f}" for r in rates)
        lines.append(f"{label} of {k}, {name}, {'/'.join(map(str, sizes))} runs: {shown}")
        assert min(rates) > (0.88 if name == "normal" else 0.83)
  with capsys.disabled():
    print("", *lines, sep="\n")


@pytest.mark.slow
def test_table_of_distribution_wise_intervals(capsys):
  lines = [f"numpy {np.__version__}, scipy {scipy.__version__}; seed 102; 4,000 samples a cell"]
  rng = np.random.default_rng(102)
  difficulty = rng.uniform(0, 0.5, 80)
  for label, truth, draw in (
    ("own error rate, sd 0.04", 0.2 * 0.8 / 101, lambda n: rng.beta(20, 80, (n, 1))),
    ("own error rate, sd 0.09", 0.2 * 0.8 / 21, lambda n: rng.beta(4, 16, (n, 1))),
    ("differing by chance alone", 0.0, lambda n: difficulty),
  ):
    cells = []
    for n in (10, 30, 100):
      errors = (rng.random((n, 80)) < draw(n) for _ in range(4000))
      found = [single.distribution_wise_interval(e) for e in errors]
      held = np.mean([f.low <= truth <= f.high for f in found])
      above = np.mean([f.low > 0 for f in found])
      cells.append(f"{100 * held:.1f} ({100 * above:.1f})")
      assert truth or above < 0.025
    lines.append(f"coverage (lower limit above 0), {label}, 10/30/100 runs: {' '.join(cells)}")
  with capsys.disabled():
    print("", *lines, sep="\n")


@pytest.mark.slow
def test_table_of_tails(capsys):
  lines = [f"numpy {np.__version__}, scipy {scipy.__version__}; seed 101; 1,000 samples a cell"]
  rng = np.random.default_rng(101)
  for name, (draw, _) in NAMED.items():
    for steps in (0, 1, 5):
      rates = []
      for n in (20, 100, 1000):
        grid = 1 / steps if steps else 0.0
        samples = draw(rng, (1000, n))
        samples = np.round(samples / grid) * grid if grid else samples
        p = [single.heavier_tails(sample, grid, rng, 199).p_value for sample in samples]
        rates.append(np.mean(np.array(p) <= 0.05))
      shown = " ".join(f"{100 * r:.1f}" for r in rates)
      lines.append(f"p <= 0.05, {name}, {steps or 'no'} grid steps a sd, 20/100/1000 runs: {shown}")
      if name == "normal":
        assert all(within(r, 0.05, 1000) for r in rates)
  with capsys.disabled():
    print("", *lines, sep="\n")
