"""Ranks of many sweeps, many data sets."""

import math

import numpy as np
import pytest
import scipy
import scipy.stats

from seedlab.stats import many


def within(rate: float, nominal: float, repetitions: int) -> bool:
  """Within four standard errors of a simulation."""
  return abs(rate - nominal) < 4 * math.sqrt(nominal * (1 - nominal) / repetitions)


def test_ranks_by_hand():
  rng = np.random.default_rng(1)
  noise = rng.normal(0, 1e-3, (4, 12))
  found = many.ranks(noise + np.array([[1], [3], [2], [3]]), rng)
  np.testing.assert_array_equal(found.low_S, [4, 1, 3, 1])
  np.testing.assert_array_equal(found.high_S, [4, 2, 3, 2])
  np.testing.assert_allclose(found.mean_S, [1, 3, 2, 3], atol=2e-3)
  assert sorted(found.rank_S) == [1, 2, 3, 4] and found.rank_S[0] == 4 and found.rank_S[2] == 3


@pytest.mark.parametrize("paired", [True, False])
def test_equal_sweeps_are_seldom_ranked(paired):
  """Jointly: any claim of an order among five equal sweeps is an error."""
  rng = np.random.default_rng(2)
  wrong = []
  for _ in range(300):
    values = rng.normal(size=(5, 20)) + 3 * paired * rng.normal(size=20)
    found = many.ranks(values, rng, paired, draws=300)
    wrong.append((found.low_S > 1).any() or (found.high_S < 5).any())
  assert 0.005 < np.mean(wrong) < 0.1


def test_pairing_settles_ranks():
  rng = np.random.default_rng(3)
  shared = 10 * rng.normal(size=15)
  values = np.stack([shared + m + 0.1 * rng.normal(size=15) for m in (0, 1, 2)])
  np.testing.assert_array_equal(many.ranks(values, rng, paired=True).low_S, [3, 2, 1])
  np.testing.assert_array_equal(many.ranks(values, rng).low_S, [1, 1, 1])


def test_ranks_without_spread_and_with_too_few_runs():
  rng = np.random.default_rng(4)
  found = many.ranks([[1, 1, 1], [2, 2]], rng)
  np.testing.assert_array_equal(found.rank_S, [2, 1])
  np.testing.assert_array_equal([found.low_S, found.high_S], [[1, 1], [2, 2]])
  tied = many.ranks([[1, 2, 3], [3, 1, 2]], rng)
  np.testing.assert_array_equal(tied.rank_S, [1, 1])
  for values, paired in (([[1, 2], [3]], False), ([[1, 2]], False), ([[1, 2], [1, 2, 3]], True)):
    with pytest.raises(ValueError, match="ranks need two sweeps of two runs"):
      many.ranks(values, rng, paired)


SCORES = np.array(
  [[0.1, 0.9, 0.35], [0.4, 0.7, 0.2], [0.8, 0.55, 0.6], [0.15, 1.2, 0.5], [0.3, 0.65, 0.45]]
)


def test_aggregate_and_profile_against_rliable():
  """rliable 1.2.0: aggregate_iqm, create_performance_profile (score distribution)."""
  assert many.aggregate_iqm(SCORES) == pytest.approx(0.5)
  found = many.performance_profile(SCORES, [0, 0.3, 0.5, 0.65, 1], np.random.default_rng(5))
  expected = [1, 0.73333333, 0.46666667, 0.26666667, 0.06666667]  # strictly above
  np.testing.assert_allclose(found.share_L, expected)


def test_the_aggregate_keeps_leading_axes():
  stacked = np.random.default_rng(6).normal(size=(3, 2, 5, 4))
  each = [[many.aggregate_iqm(block) for block in row] for row in stacked]
  np.testing.assert_allclose(many.aggregate_iqm(stacked), each)


def mean_of(values_RxT):
  """Over runs and data sets."""
  return np.mean(values_RxT, axis=(-2, -1))


def test_bootstrap_stays_within_data_sets():
  """Data sets far apart, runs equal: a bootstrap over all values would vary."""
  far = np.tile([0.0, 100.0, 1000.0], (6, 1))
  found = many.stratified_bootstrap(far, mean_of, np.random.default_rng(7))
  assert found.low == found.high == found.estimate == pytest.approx(1100 / 3)


def test_bootstrap_of_a_mean_has_the_sd_of_theory():
  values = np.random.default_rng(8).normal(size=(9, 4))
  found = many.stratified_bootstrap(values, mean_of, np.random.default_rng(9))
  error = math.sqrt((values.var(0) / 9).sum()) / 4
  assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.08)


def test_bootstrap_covers_with_many_runs():
  rng = np.random.default_rng(10)
  means = np.array([0.2, 0.5, 0.9])
  covered = []
  for _ in range(400):
    values = means + 0.1 * rng.normal(size=(40, 3))
    found = many.stratified_bootstrap(values, mean_of, rng, draws=300)
    covered.append(found.low <= means.mean() <= found.high)
  assert within(np.mean(covered), 0.94, 400)


def test_profile_covers_pointwise():
  rng = np.random.default_rng(11)
  truth = scipy.stats.norm.sf([-1, 0, 1])
  covered = []
  for _ in range(300):
    found = many.performance_profile(rng.normal(size=(30, 4)), [-1, 0, 1], rng, draws=300)
    covered.append((found.low_L <= truth) & (truth <= found.high_L))
  assert np.all(abs(np.mean(covered, 0) - 0.94) < 0.055)


def test_one_run_and_holes():
  rng = np.random.default_rng(12)
  one = many.stratified_bootstrap(SCORES[:1], many.aggregate_iqm, rng)
  assert math.isnan(one.low) and one.estimate == pytest.approx(many.aggregate_iqm(SCORES[:1]))
  assert np.isnan(many.performance_profile(SCORES[:1], [0.5], rng).low_L).all()
  for values, message in (
    ([1, 2], r"\[runs, data sets\], not \(2,\)"),
    ([[1, 2], [3, math.nan]], "run 1 of data set 1 is not"),
  ):
    with pytest.raises(ValueError, match=message):
      many.stratified_bootstrap(values, many.aggregate_iqm, rng)


@pytest.mark.parametrize(
  "function",
  [
    lambda rng: many.stratified_bootstrap(SCORES, many.aggregate_iqm, rng, draws=99).low,
    lambda rng: many.performance_profile(SCORES, [0.5], rng, draws=30).low_L[0],
    lambda rng: tuple(many.ranks([[0, 1, 2, 4], [2, 3, 5, 4], [4, 5, 7, 9]], rng, draws=3).low_S),
  ],
)
def test_randomness_is_the_generators(function):
  first, again = (function(np.random.default_rng(1)) for _ in range(2))
  assert first == again
  assert len({function(np.random.default_rng(seed)) for seed in range(20)}) > 1


@pytest.mark.slow
def test_table_of_many(capsys):
  """Prints the table of docs/statistics."""
  rng = np.random.default_rng(120)
  lines = [f"numpy {np.__version__}, scipy {scipy.__version__}; seed 120; 1,000 samples a cell"]
  worlds = {
    "five equal": np.zeros(5),
    "two pairs of equals, one apart": np.array([0, 0, 0.7, 0.7, 3]),
    "near-ties": np.array([0, 0.05, 0.1, 0.15, 0.2]),
  }
  for name, means in worlds.items():
    low = 1 + (means > means[:, None]).sum(1)
    high = len(means) - (means < means[:, None]).sum(1)
    rates = []
    for n in (5, 10, 20, 50):
      held = []
      for _ in range(1000):
        found = many.ranks(means[:, None] + rng.normal(size=(5, n)), rng, draws=500)
        # Equal sweeps may take any of the ranks they share: all must be in the set.
        held.append((found.low_S <= low).all() and (found.high_S >= high).all())
      rates.append(np.mean(held))
    shown = " ".join(f"{100 * r:.1f}" for r in rates)
    lines.append(f"joint coverage of ranks, {name}, 5/10/20/50 runs: {shown}")
    assert min(rates) > 0.92
  for label, aggregate in (("mean", mean_of), ("IQM", many.aggregate_iqm)):
    centres = np.linspace(0, 1, 8)
    truth = aggregate(centres + 0.3 * rng.normal(size=(400_000, 8)))
    rates = []
    for n in (3, 5, 10, 50):
      found = [
        many.stratified_bootstrap(
          centres + 0.3 * rng.normal(size=(n, 8)), aggregate, rng, draws=500
        )
        for _ in range(1000)
      ]
      rates.append(np.mean([f.low <= truth <= f.high for f in found]))
    shown = " ".join(f"{100 * r:.1f}" for r in rates)
    lines.append(
      f"coverage, stratified bootstrap of the {label}, 8 data sets, 3/5/10/50 runs: {shown}"
    )
  with capsys.disabled():
    print("", *lines, sep="\n")
