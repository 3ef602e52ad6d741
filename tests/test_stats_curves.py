"""Statistics of curves: bands by hand and by simulation, stopping steps, rank correlation."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats

from seedlab.stats import curves


def walk(rng, runs, moments, skewed=False):
  """Correlated curves of mean zero."""
  noise = rng.exponential(size=(runs, moments)) - 1 if skewed else rng.normal(size=(runs, moments))
  values = np.empty((runs, moments))
  values[:, 0] = noise[:, 0]
  for t in range(1, moments):
    values[:, t] = 0.9 * values[:, t - 1] + math.sqrt(0.19) * noise[:, t]
  return values


def test_one_moment_is_no_wider_than_the_t_interval():
  """With few patterns of signs the quantile is Bonferroni's, of one moment: Student's."""
  x = np.array([[1.0], [2.0], [4.0], [7.0]])
  band = curves.simultaneous_band(x)
  half = scipy.stats.t.ppf(0.975, 3) * x.std(ddof=1) / 2
  assert band.method == "Bonferroni's t"
  assert (band.low[0], band.mean[0], band.high[0]) == pytest.approx((3.5 - half, 3.5, 3.5 + half))


def test_the_wild_quantile_by_listing_every_pattern():
  x = walk(np.random.default_rng(3), 8, 5)
  band = curves.simultaneous_band(x, 0.9)
  centred = x - x.mean(0)
  largest = []
  for pattern in range(2**8):
    flipped = np.where((pattern >> np.arange(8) & 1)[:, None], centred, -centred)
    largest.append(np.abs(flipped.mean(0) / (flipped.std(0, ddof=1) / math.sqrt(8))).max())
  c = np.quantile(largest, 0.9, method="higher")
  assert band.method.startswith("wild")
  np.testing.assert_allclose(band.high - band.mean, c * x.std(0, ddof=1) / math.sqrt(8))


def test_the_wild_quantile_needs_ten_patterns_beyond_it():
  """At 95 % there are 6 of 128 with eight runs and 12 of 256 with nine."""
  same = np.repeat(np.random.default_rng(8).normal(size=(9, 1)), 40, axis=1)
  assert curves.simultaneous_band(same[:8]).method == "Bonferroni's t"
  assert curves.simultaneous_band(same).method.startswith("wild")
  assert curves.simultaneous_band(same, 0.97).method == "Bonferroni's t"


def test_a_band_narrows_with_dependence_and_widens_with_the_level():
  rng = np.random.default_rng(0)
  same = np.repeat(rng.normal(size=(12, 1)), 40, axis=1)
  apart = rng.normal(size=(12, 40))
  widths = [
    float((band.high - band.low).mean() / values.std())
    for values in (same, apart)
    for band in [curves.simultaneous_band(values)]
  ]
  assert widths[0] < 0.75 * widths[1]
  levels = [0.8, 0.9, 0.95, 0.99, 0.999]
  highs = [curves.simultaneous_band(apart, level).high for level in levels]
  assert all((b >= a).all() for a, b in itertools.pairwise(highs))


@pytest.mark.parametrize("runs, skewed, least", [(10, False, 0.93), (10, True, 0.86)])
def test_coverage_over_all_moments(runs, skewed, least):
  """400 sets of curves; docs/statistics.md has more of this table."""
  rng = np.random.default_rng(1)
  held = 0
  for _ in range(400):
    band = curves.simultaneous_band(walk(rng, runs, 24, skewed))
    held += bool(((band.low <= 0) & (band.high >= 0)).all())
  assert held / 400 >= least
  # Pointwise intervals would not do: that is what the band is for.
  pointwise = 0
  for _ in range(200):
    x = walk(rng, runs, 24, skewed)
    half = scipy.stats.t.ppf(0.975, runs - 1) * x.std(0, ddof=1) / math.sqrt(runs)
    pointwise += bool((np.abs(x.mean(0)) <= half).all())
  assert pointwise / 200 < least - 0.05


@pytest.mark.slow
def test_table_of_coverage():
  """The table in docs/statistics.md."""
  rng = np.random.default_rng(0)
  for skewed in (False, True):
    for runs in (5, 10, 20, 40):
      for level in (0.95, 0.99):
        samples = 800 if runs <= 12 else 400
        held = 0
        for _ in range(samples):
          x = walk(rng, runs, 32, skewed) * np.linspace(2, 0.5, 32)
          band = curves.simultaneous_band(x, level, np.random.default_rng(1))
          held += bool(((band.low <= 0) & (band.high >= 0)).all())
        share = held / samples
        print(f"{'exponential' if skewed else 'normal'}, {level}, {runs} runs: {100 * share:.1f}")
        assert share > level - (0.07 if skewed else 0.02)


def test_runs_that_do_not_count_leave_the_others():
  x = walk(np.random.default_rng(2), 6, 4)
  x[0, 2:] = x[1, 2:] = x[2, 2:] = np.nan  # three are left: half
  x[3, 3] = np.nan  # two are left: too few
  band = curves.simultaneous_band(x)
  np.testing.assert_allclose(band.mean[:2], x[:, :2].mean(0))
  assert band.mean[2] == pytest.approx(x[3:, 2].mean())
  assert np.isnan([band.mean[3], band.low[3], band.high[3]]).all()


def test_the_moment_of_fewest_runs_decides_the_degrees_of_freedom():
  """Three of six runs have the second moment: t of 2 degrees of freedom, at both moments."""
  x = walk(np.random.default_rng(6), 6, 2)
  x[:3, 1] = np.nan
  band = curves.simultaneous_band(x)
  assert band.method == "Bonferroni's t"
  error = np.array([x[:, 0].std(ddof=1) / math.sqrt(6), x[3:, 1].std(ddof=1) / math.sqrt(3)])
  np.testing.assert_allclose(band.high - band.mean, scipy.stats.t.ppf(1 - 0.05 / 4, 2) * error)


def test_half_of_an_odd_number_of_runs_is_the_larger_half():
  x = walk(np.random.default_rng(7), 7, 2)
  x[:4, 1] = np.nan  # three of seven are left: less than half
  assert np.isnan(curves.simultaneous_band(x).mean[1])
  x[3, 1] = 0.0  # four are
  assert np.isfinite(curves.simultaneous_band(x).mean[1])


def test_equal_runs_have_a_band_of_no_width():
  band = curves.simultaneous_band(np.tile([1.0, 2.0], (5, 1)))
  assert band.low.tolist() == band.high.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
  "values, words",
  [
    (np.zeros((2, 4)), "at least 3 runs"),
    (np.zeros(4), "at least 3 runs"),
    (np.full((4, 2), np.inf), "finite"),
    (np.full((4, 2), np.nan), "no moment"),
    (np.zeros((13, 2)), "generator"),
  ],
)
def test_wrong_values_are_refused(values, words):
  with pytest.raises(ValueError, match=words):
    curves.simultaneous_band(values)


def test_the_same_generator_gives_the_same_band():
  x = walk(np.random.default_rng(4), 20, 6)
  one, two = (curves.simultaneous_band(x, rng=np.random.default_rng(7)) for _ in range(2))
  np.testing.assert_array_equal(one.high, two.high)


def test_the_largest_deviation_by_hand():
  band = curves.Band(
    np.array([0.01, -0.05, np.nan]),
    np.array([-0.01, -0.07, np.nan]),
    np.array([0.03, -0.03, np.nan]),
    0.95,
    "by hand",
  )
  found = curves.largest_deviation(band)
  assert (found.estimate, found.low, found.high) == (0.05, 0.03, 0.07)
  nothing = curves.Band(np.zeros(2), np.full(2, -0.1), np.full(2, 0.2), 0.95, "")
  assert curves.largest_deviation(nothing).low == 0


def test_the_stopping_step_on_hand_made_curves():
  steps = np.array([10, 20, 30, 40])
  error = np.array(
    [
      [0.5, 0.2, 0.1, 0.02],  # never
      [0.0, 0.5, 0.5, 0.5],  # at once
      [0.5, 0.3, 0.01, 0.2],  # between 20 and 30, seen at 30; what follows does not matter
      [0.5, np.nan, 0.3, 0.009],
      [np.nan] * 4,
    ]
  )
  found = curves.first_at_most(error, steps, 0.01)
  np.testing.assert_array_equal(found, [np.nan, 10, 30, 40, np.nan])


def test_kendalls_tau_by_hand():
  """One swap of neighbours among eight: 1 - 2 / 28."""
  x, y = np.arange(8), np.array([0, 1, 2, 4, 3, 5, 6, 7])
  found = curves.kendall_tau(x, y)
  assert found.estimate == pytest.approx(1 - 2 * 1 / 28)
  center, half = math.atanh(found.estimate), 1.959964 * math.sqrt(0.437 / 4)
  assert found.low == pytest.approx(math.tanh(center - half))
  assert found.high == pytest.approx(math.tanh(center + half))
  whole = curves.kendall_tau(x, x)
  assert whole.estimate == pytest.approx(1) and 0.5 < whole.low < whole.high < 1
  assert curves.kendall_tau(x, -x).high == pytest.approx(-whole.low)
  with pytest.raises(ValueError, match="at least 5"):
    curves.kendall_tau(x[:4], y[:4])
  with pytest.raises(ValueError, match="equal values"):
    curves.kendall_tau(x, np.zeros(8))


def test_a_whole_tau_is_taken_for_one_with_a_tied_pair():
  """Of eight settings 1 - 1/28; at 90 % with 1.645."""
  whole = curves.kendall_tau(np.arange(8), np.arange(8), 0.9)
  center, half = math.atanh(27 / 28), 1.644854 * math.sqrt(0.437 / 4)
  assert (whole.low, whole.high) == pytest.approx((
    math.tanh(center - half), math.tanh(center + half)
  ))  # fmt: skip
  assert whole.level == 0.9


@pytest.mark.parametrize("rho", [0.0, 0.8])
def test_coverage_of_kendalls_tau(rho):
  rng = np.random.default_rng(5)
  truth, held = 2 / math.pi * math.asin(rho), 0
  for _ in range(600):
    x = rng.normal(size=9)
    y = rho * x + math.sqrt(1 - rho**2) * rng.normal(size=9)
    found = curves.kendall_tau(x, y)
    held += found.low <= truth <= found.high
  assert held / 600 > 0.92
