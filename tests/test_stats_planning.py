"""Power and sample sizes: reference numbers, and the tests they plan for."""

import math

import numpy as np
import pytest
import scipy.stats

from seedlab.stats import comparison, planning


def within(rate: float, nominal: float, repetitions: int) -> bool:
  """Within four standard errors of a simulation."""
  return abs(rate - nominal) < 4 * math.sqrt(nominal * (1 - nominal) / repetitions)


def test_power_against_statsmodels():
  """TTestPower and TTestIndPower of statsmodels 0.15.0."""
  assert planning.power(20, 0.5, 1, paired=True) == pytest.approx(0.5645044184390)
  assert planning.power(64, 1.0, 2) == pytest.approx(0.8014595579223)
  assert planning.runs_for_difference(0.5, 1, paired=True) == 34  # 33.37
  assert planning.runs_for_difference(-0.5, 1) == 64  # 63.77
  shift = planning.detectable_shift(38, target=0.9)  # 20 in each of two sweeps
  assert shift == pytest.approx(1.0519930448794 * math.sqrt(20 / 2))


@pytest.mark.parametrize("paired", [True, False])
def test_runs_difference_and_power_belong_together(paired):
  for difference in (0.05, 0.3, 1, 5):
    n = planning.runs_for_difference(difference, 1, paired, target=0.9)
    assert planning.power(n, difference, 1, paired) >= 0.9
    assert n == 2 or planning.power(n - 1, difference, 1, paired) < 0.9
    df, error = (n - 1, math.sqrt(1 / n)) if paired else (2 * n - 2, math.sqrt(2 / n))
    smallest = error * planning.detectable_shift(df, target=0.9)
    assert planning.power(n, smallest, 1, paired) == pytest.approx(0.9)
    assert smallest <= difference * (1 + 1e-9)


def test_power_at_the_ends():
  assert planning.power(10, 0, 1) == pytest.approx(0.05)  # no difference: the level
  assert planning.power(2, 1e6, 1) == 1
  assert planning.power(10**6, 1, 1) == 1
  for runs, paired in ((2, True), (2, False), (5, True), (100, False)):  # nothing lost on the way
    differences = np.geomspace(1e-3, 1e9, 300)
    powers = np.array([planning.power(runs, d, 1, paired, alpha=1e-4) for d in differences])
    assert np.all(np.diff(powers) >= -1e-6) and powers[-1] == pytest.approx(1)
    assert powers[0] == pytest.approx(1e-4, rel=1e-2)
  assert planning.runs_for_difference(1e-3, 1) == pytest.approx(2 * 2.801585**2 * 1e6, rel=1e-4)


def test_the_planned_t_test_has_the_planned_power():
  rng = np.random.default_rng(0)
  n = planning.runs_for_difference(0.9, 1)
  exact = planning.power(n, 0.9, 1)
  p = [
    comparison.difference(
      comparison.align(rng.normal(0.9, 1, n), range(n), rng.normal(size=n), range(n), False)
    ).p_value
    for _ in range(2000)
  ]
  assert within(np.mean(np.array(p) < 0.05), exact, 2000)


def test_other_levels_and_a_known_spread():
  """Of a known spread both tails of a normal; the smallest difference has the power asked for."""
  norm = scipy.stats.norm
  for shift in (0.0, 0.3, 2.5):
    exact = norm.cdf(shift - norm.ppf(0.95)) + norm.cdf(-shift - norm.ppf(0.95))
    assert planning.t_power(shift, math.inf, alpha=0.1) == pytest.approx(exact)
  found = planning.detectable_shift(11, alpha=0.01, target=0.7)
  assert planning.t_power(found, 11, alpha=0.01) == pytest.approx(0.7)
  n = planning.runs_for_difference(0.5, 1, alpha=0.01)
  assert planning.power(n, 0.5, 1, alpha=0.01) >= 0.8 > planning.power(n - 1, 0.5, 1, alpha=0.01)


def test_hours():
  assert planning.hours(10_000, 30) == pytest.approx(83.3333333)  # Picard's 83 hours
  assert planning.hours(0, 30) == 0
  with pytest.raises(ValueError, match="must not be negative"):
    planning.hours(10, -1)


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: planning.power(1, 1, 1), "runs must be at least 2, not 1"),
    (lambda: planning.power(5, 1, 0), "sd must be positive, not 0"),
    (lambda: planning.power(5, 1, math.nan), "sd must be positive, not nan"),
    (lambda: planning.runs_for_difference(0, 1), "difference must be positive, not 0"),
    (lambda: planning.runs_for_difference(1e-9, 1), "more than 1,000,000,000 runs"),
    (lambda: planning.runs_for_difference(1, 1, target=0.05), "alpha 0.05, target 0.05"),
    (lambda: planning.detectable_shift(9, target=0.05), "alpha 0.05, target 0.05"),
  ],
)
def test_what_cannot_be_planned(call, message):
  with pytest.raises(ValueError, match=message):
    call()
