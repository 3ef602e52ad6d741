"""Power and sample sizes: reference numbers, a published table, and the tests they plan for."""

import math

import numpy as np
import pytest
import scipy
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
  assert planning.detectable_difference(20, 2, target=0.9) == pytest.approx(2 * 1.0519930448794)


def test_noether_gives_bouthilliers_table():
  gammas = (0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.9)
  found = [planning.runs_for_probability(g, target=0.95, sides=1) for g in gammas]
  assert found == [722, 181, 81, 46, 29, 21, 12]
  assert planning.runs_for_probability(0.25, target=0.95, sides=1) == 29  # B against A
  # (1.959964 + 0.841621)^2 / (4 0.2^2) = 49.06
  assert planning.runs_for_probability(0.7, paired=True) == 50


@pytest.mark.parametrize("paired", [True, False])
def test_runs_difference_and_power_belong_together(paired):
  for difference in (0.05, 0.3, 1, 5):
    n = planning.runs_for_difference(difference, 1, paired, target=0.9)
    assert planning.power(n, difference, 1, paired) >= 0.9
    assert n == 2 or planning.power(n - 1, difference, 1, paired) < 0.9
    smallest = planning.detectable_difference(n, 1, paired, target=0.9)
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
      comparison.align(rng.normal(0.9, 1, n), range(n), rng.normal(size=n), range(n, 2 * n))
    ).p_value
    for _ in range(2000)
  ]
  assert within(np.mean(np.array(p) < 0.05), exact, 2000)


def better_power(paired: bool, probability: float, n: int, rng, repetitions: int) -> float:
  """Share of simulated comparisons of normal sweeps that call P(A > B) different from 1/2."""
  shift = scipy.stats.norm.ppf(probability) * math.sqrt(2)
  runs = range(n), range(n) if paired else range(n, 2 * n)
  found = [
    comparison.probability_better(
      comparison.align(rng.normal(shift, 1, n), runs[0], rng.normal(size=n), runs[1])
    ).p_value
    for _ in range(repetitions)
  ]
  return float(np.mean(np.array(found) < 0.05))


@pytest.mark.parametrize("paired", [True, False])
def test_noethers_runs_give_about_the_planned_power(paired):
  """Approximate: the binomial is discrete, and the rank test's variance is not the null's."""
  rng = np.random.default_rng(1)
  n = planning.runs_for_probability(0.7, paired)
  assert abs(better_power(paired, 0.7, n, rng, 1000) - 0.8) < 0.08


def test_runs_for_width():
  for width in (0.1, 0.5, 3):
    n = planning.runs_for_width(width, 1)

    def expected(n):
      return 2 * scipy.stats.t.ppf(0.975, n - 1) / math.sqrt(n)

    assert expected(n) <= width < expected(n - 1)
  assert planning.runs_for_width(0.001, 0.002) == 64
  assert planning.runs_for_width(100, 1) == 2


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
    (lambda: planning.detectable_difference(1, 1), "runs must be at least 2"),
    (lambda: planning.runs_for_probability(0.5), "differ from 0.5"),
    (lambda: planning.runs_for_probability(1.5), "between 0 and 1"),
    (lambda: planning.runs_for_probability(0.7, sides=3), "sides must be 1 or 2, not 3"),
    (lambda: planning.runs_for_width(0, 1), "width must be positive, not 0"),
  ],
)
def test_what_cannot_be_planned(call, message):
  with pytest.raises(ValueError, match=message):
    call()


@pytest.mark.slow
def test_table_of_power(capsys):
  """Prints the table of docs/statistics: power reached by the runs planned for 80 %."""
  rng = np.random.default_rng(130)
  lines = [f"numpy {np.__version__}, scipy {scipy.__version__}; seed 130; 4,000 samples a cell"]
  for paired in (True, False):
    cells = []
    for probability in (0.6, 0.7, 0.8, 0.9):
      n = planning.runs_for_probability(probability, paired)
      cells.append(f"{n}: {100 * better_power(paired, probability, n, rng, 4000):.1f}")
    design = "paired" if paired else "unpaired"
    lines.append(f"Noether, {design}, P = 0.6/0.7/0.8/0.9, runs: power: " + ", ".join(cells))
  with capsys.disabled():
    print("", *lines, sep="\n")
