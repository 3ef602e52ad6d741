"""Ranks of many sweeps, several tasks."""

import math

import numpy as np
import pytest
import scipy
import scipy.stats

from seedlab.stats import many, resolution


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


def test_rounding_ranks_nothing():
  rng = np.random.default_rng(13)
  found = many.ranks([[0.1 + 0.2] * 4, [0.3] * 4, [0.1, 0.2, 0.6, 0.3], [0.6, 0.3, 0.2, 0.1]], rng)
  np.testing.assert_array_equal(found.rank_S, 1)
  np.testing.assert_array_equal(found.low_S, 1)
  np.testing.assert_array_equal(found.high_S, 4)


# Two matrices of runs x tasks, as rliable takes them; here a list of tasks, so their transposes.
A = np.array(
  [
    [0.24, 0.25, 0.74, 0.97, 0.61, 2.09],
    [0.48, 0.16, 0.41, 1.17, 2.19, 1.47],
    [0.09, 0.34, 1.44, 1.05, 0.4, 0.64],
    [0.05, 0.51, 0.52, 1.69, 1.31, 4.76],
    [0.31, 0.27, 0.52, 0.59, 1.83, 2.74],
  ]
)
B = np.array(
  [
    [0.14, 0.41, 0.62, 0.18, 0.25, 0.58],
    [0.33, 0.6, 0.41, 0.83, 1.01, 2.52],
    [0.15, 0.5, 0.93, 0.24, 1.01, 1.47],
    [0.19, 0.46, 0.36, 1.37, 1.22, 2.89],
    [0.13, 0.21, 0.39, 0.41, 3.14, 6.23],
    [0.27, 0.05, 1.0, 0.47, 0.18, 0.99],
    [0.24, 0.43, 0.2, 0.38, 0.08, 2.73],
  ]
)
THRESHOLDS = np.linspace(0, 3, 7)
UNEQUAL = [[0.9], [0.1, 0.5, 0.6], [0.3, 0.7]]


def resampled(scores, draws=200):
  """The resamples that rliable 1.2.0 draws after np.random.seed(1), as lists of tasks."""
  legacy = np.random.RandomState(1)
  for _ in range(draws):
    drawn = [x[legacy.choice(len(x), x.shape), np.arange(x.shape[1])].T for x in scores]
    yield drawn if len(drawn) > 1 else drawn[0]


def percentiles(values):
  return np.quantile(np.array(list(values)), [0.025, 0.975], axis=0)


def test_aggregates_are_rliables():
  """The calls of rliable's README; rliable 1.2.0 with arch 7.2.0 and numpy 2.4.6, 200 draws."""
  for scores, expected, low, high in (
    (
      A,
      [0.91, 0.73125, 0.99466667, 0.36333333],
      [0.6389, 0.56603125, 0.75565, 0.3043],
      [1.089275, 0.9284375, 1.31219167, 0.43068333],
    ),
    (
      B,
      [0.55642857, 0.50454545, 0.86190476, 0.46166667],
      [0.37567857, 0.36805682, 0.61165476, 0.37708333],
      [0.71439286, 0.67688636, 1.17426786, 0.54716667],
    ),
  ):

    def values(tasks):
      found = many.estimates(tasks)
      return [found[name] for name in ("median", "IQM", "mean", "optimality gap")]

    np.testing.assert_allclose(values(scores.T), expected, atol=1e-8)
    limits = percentiles(values(tasks) for tasks in resampled([scores]))
    np.testing.assert_allclose(limits, [low, high], atol=1e-8)


def test_intervals_are_rliables_up_to_chance():
  """rliable 1.2.0, 50,000 draws (probability of improvement: 20,000)."""
  rng = np.random.default_rng(14)
  found = many.aggregates(A.T, rng, draws=10_000)
  for name, low, high in (
    ("median", 0.648, 1.113),
    ("IQM", 0.561875, 0.954375),
    ("mean", 0.767, 1.245),
    ("optimality gap", 0.30066667, 0.42833333),
  ):
    assert found[name].percentile.low == pytest.approx(low, abs=0.012)
    assert found[name].percentile.high == pytest.approx(high, abs=0.012)
    assert found[name].interval.low < found[name].percentile.low
    assert found[name].interval.high > found[name].percentile.high
  better = many.improvement(A.T, B.T, rng, draws=10_000)
  assert better.percentile.low == pytest.approx(0.46190476, abs=0.012)
  assert better.percentile.high == pytest.approx(0.72857143, abs=0.012)


def test_probability_of_improvement_is_rliables():
  assert many.improved_share(A.T, B.T) == pytest.approx(0.5976190476190476)
  limits = percentiles(many.improved_share(*pair) for pair in resampled([A, B]))
  np.testing.assert_allclose(limits, [0.47827381, 0.74047619], atol=1e-8)
  # metrics_test.py of rliable.
  x, y = [[1, 2, 1, 2], [2, 2, 1, 1]], [[1, 2, 3], [1, 2, 3]]
  assert many.improved_share(x, y) == pytest.approx(1 / 3)
  for scores, value in ((x, 1.5), (y, 2)):
    found = many.estimates(scores)
    assert [found[name] for name in ("median", "mean", "IQM")] == [value] * 3
  # library_test.py: two algorithms with the same scores, turned upside down.
  x = np.arange(80).reshape(5, 16)
  assert many.improved_share(x.T, x[::-1].T) == 0.5
  found = many.estimates(x.T)
  assert list(found.values()) == pytest.approx([39.5, 39.5, 39.5, 1 / 80])


def test_performance_profiles_are_rliables():
  """create_performance_profile of rliable 1.2.0, 200 draws: run scores, average scores."""
  for average, share, low, high in (
    (
      False,
      [1, 0.63333333, 0.36666667, 0.2, 0.13333333, 0.06666667, 0.03333333],
      [1, 0.53333333, 0.26583333, 0.1, 0.03333333, 0, 0],
      [1, 0.73333333, 0.5, 0.33333333, 0.23333333, 0.13333333, 0.1],
    ),
    (
      True,
      [1, 0.66666667, 0.5, 0.16666667, 0.16666667, 0, 0],
      [1, 0.5, 0.16666667, 0, 0, 0, 0],
      [1, 0.66666667, 0.66666667, 0.33333333, 0.16666667, 0.16666667, 0.16666667],
    ),
  ):

    def shares(tasks, average=average):
      rng = np.random.default_rng(0)
      return many.performance_profile(tasks, THRESHOLDS, rng, average, draws=2).share_L

    np.testing.assert_allclose(shares(A.T), share, atol=1e-8)
    limits = percentiles(shares(tasks) for tasks in resampled([A]))
    np.testing.assert_allclose(limits, [low, high], atol=1e-8)
    found = many.performance_profile(A.T, THRESHOLDS, np.random.default_rng(15), average)
    np.testing.assert_allclose(found.percentile_2xL, [low, high], atol=0.12)


def test_sample_efficiency_curve_is_rliables():
  """The README's curve: an aggregate at every evaluation; rliable 1.2.0, 200 draws."""
  factors = [0.25, 0.5, 1.0]
  found = [many.estimates(f * A.T)["IQM"] for f in factors]
  assert found == pytest.approx([0.1828125, 0.365625, 0.73125])


def test_iqm_is_scipys_trimmed_mean():
  rng = np.random.default_rng(16)
  for runs, tasks in ((1, 1), (2, 1), (3, 5), (7, 3), (5, 16), (10, 7)):
    scores = np.round(rng.normal(size=(tasks, runs)), 1)
    expected = scipy.stats.trim_mean(scores, 0.25, axis=None)
    assert many.estimates(scores)["IQM"] == pytest.approx(expected, abs=1e-12)


def test_unequal_runs_by_hand():
  """Every task weighs a third. Sorted: .1 (1/9), .3 (1/6), .5 (1/9), .6 (1/9), .7 (1/6), .9 (1/3).

  From below .1 is cut whole (1/9 <= 1/4), .3 is not (5/18 > 1/4); from above nothing is.
  """
  found = many.estimates(UNEQUAL, gamma=0.5)
  assert found["mean"] == pytest.approx((0.9 + 0.4 + 0.5) / 3)
  assert found["median"] == pytest.approx(0.5)
  weights = np.array([1 / 6, 1 / 9, 1 / 9, 1 / 6, 1 / 3])
  assert found["IQM"] == pytest.approx(weights @ [0.3, 0.5, 0.6, 0.7, 0.9] / weights.sum())
  clipped = (0.5 + (0.1 + 0.5 + 0.5) / 3 + (0.3 + 0.5) / 2) / 3
  assert found["optimality gap"] == pytest.approx(0.5 - clipped)
  profile = many.performance_profile(UNEQUAL, [0.5, 0.6], np.random.default_rng(0))
  np.testing.assert_allclose(profile.share_L, [(1 + 1 / 3 + 1 / 2) / 3, (1 + 0 + 1 / 2) / 3])
  # Against two tasks of one run and one of two: 1; 1 of 3 won and 1 tied; all 4 pairs but one.
  share = many.improved_share(UNEQUAL, [[0.2], [0.5], [0.1, 0.6]])
  assert share == pytest.approx((1 + (1 + 0.5) / 3 + 3 / 4) / 3)


def test_every_task_weighs_the_same():
  """Repeating the runs of one task changes nothing; pooling all runs would."""
  often = [[1.0, 2, 3, 4] * 5, [10, 20, 30, 40], [5, 6, 7, 8]]
  once = [[1.0, 2, 3, 4], *often[1:]]
  for name, value in many.estimates(once).items():
    assert many.estimates(often)[name] == pytest.approx(value)
  for x in (often, once):
    assert many.improved_share(x, often[::-1]) == pytest.approx((0 + 0.5 + 1) / 3)


def test_bootstrap_stays_within_tasks():
  """Tasks far apart, runs equal: a bootstrap over all values would vary."""
  far = [[v] * 6 for v in (0.0, 100.0, 1000.0)]
  for found in many.aggregates(far, np.random.default_rng(7)).values():
    assert found.percentile.low == pytest.approx(found.percentile.estimate)
    assert found.percentile.high == pytest.approx(found.percentile.estimate)


def test_intervals_of_a_mean_have_the_width_of_theory():
  """t with the unbiased standard error; rliable's is (n - 1) / n short in the variance."""
  rng = np.random.default_rng(9)
  scores = [rng.normal(size=n) for n in (4, 9, 5, 7)]
  found = many.aggregates(scores, rng, draws=20_000)["mean"]
  parts = np.array([x.var(ddof=1) / len(x) for x in scores])
  df = parts.sum() ** 2 / sum(p**2 / (len(x) - 1) for p, x in zip(parts, scores, strict=True))
  half = scipy.stats.t.ppf(0.975, df) * math.sqrt(parts.sum()) / 4
  assert (found.interval.high - found.interval.low) / 2 == pytest.approx(half, rel=0.02)
  short = math.sqrt(sum(x.var() / len(x) for x in scores)) / 4
  assert (found.percentile.high - found.percentile.low) / 2 == pytest.approx(1.96 * short, rel=0.03)


def test_counts_stand_for_resamples():
  """How often each run is drawn gives what the drawn runs, written out, give."""
  rng = np.random.default_rng(23)
  x, y = ([np.round(rng.normal(size=n), 1) for n in sizes] for sizes in ((3, 5, 4), (6, 2, 4)))
  pools = many._tasks(x), many._tasks(y)
  for less in (0, 1):
    drawn = [many._drawn(tasks, less, 5, rng) for tasks in pools]
    aggregates = many._aggregates(pools[0], 1.0)(drawn[0])
    shares = many._improvement(*pools)(*drawn)
    profiles = many._profile(pools[0], np.array([-0.5, 0.5]), False)(drawn[0])
    for d in range(5):
      written = []
      for tasks, one in zip(pools, drawn, strict=True):
        repeated = np.repeat(tasks.score_N, one.count_DxN[d].astype(int))
        written.append(np.split(repeated, np.cumsum(one.runs_T)[:-1]))
      np.testing.assert_allclose(aggregates[d], list(many.estimates(written[0]).values()))
      assert shares[d, 0] == pytest.approx(many.improved_share(*written))
      share_L = [np.mean([np.mean(z > at) for z in written[0]]) for at in (-0.5, 0.5)]
      np.testing.assert_allclose(profiles[d], share_L)


def test_with_many_runs_both_intervals_are_the_same():
  """Then one set of resamples serves both."""
  rng = np.random.default_rng(22)
  scores = rng.normal(size=(3, 150))
  found = many.aggregates(scores, rng, draws=4000)["mean"]
  half = 1.96 * math.sqrt(sum(x.var(ddof=1) / 150 for x in scores)) / 3
  for interval in (found.interval, found.percentile):
    assert (interval.high - interval.low) / 2 == pytest.approx(half, rel=0.06)
  better = many.improvement(scores, scores + 0.1, rng)
  assert better.interval.low == pytest.approx(better.percentile.low, abs=0.005)


def test_scores_on_a_grid_widen_the_interval():
  """Each task on the grid 0.01: variance h^2 / 12 beside the runs' own, and alone without it."""
  rng = np.random.default_rng(17)
  scores = [[0.91, 0.91, 0.92], [0.85, 0.85, 0.86]]
  assert resolution.step(scores[0]) == pytest.approx(0.01)
  parts = [(np.var(x, ddof=1) + 0.01**2 / 12) / 3 for x in scores]
  half = scipy.stats.t.ppf(0.975, 4) * math.sqrt(sum(parts)) / 2
  found = many.aggregates(scores, rng, draws=20_000)["mean"].interval
  assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.02)
  equal = many.aggregates([[0.91] * 3, [0.85] * 3], rng)
  half = scipy.stats.t.ppf(0.975, 4) * 0.01 / math.sqrt(12) / math.sqrt(3 * 2)
  for name in ("mean", "median", "IQM", "optimality gap"):
    assert (equal[name].interval.high - equal[name].interval.low) / 2 == pytest.approx(half)


def test_nothing_varies_and_no_grid_is_seen():
  rng = np.random.default_rng(18)
  found = many.aggregates([[math.pi] * 3, [math.e] * 4], rng)
  assert math.isnan(found["mean"].interval.low) and math.isnan(found["IQM"].interval.high)
  above = many.aggregates([[math.pi, math.e, math.tau], [1.123456789, 1.2, 1.3]], rng)
  assert math.isfinite(above["mean"].interval.low)
  assert math.isnan(above["optimality gap"].interval.low)  # every run is above gamma


def test_always_better_is_no_interval_of_width_zero():
  """4 tasks of 3 against 5 runs, all won: as if 12 pairs had been won."""
  x, y = [[2.0, 3, 4]] * 4, [[0.0, 1, 1.5, 1.6, 1.7]] * 4
  rng = np.random.default_rng(19)
  found = many.improvement(x, y, rng)
  assert found.percentile.low == found.percentile.high == 1  # rliable's
  assert (found.interval.low, found.interval.high) == pytest.approx((0.025 ** (1 / 12), 1))
  assert many.improvement(y, x, rng).interval.high == pytest.approx(1 - 0.025 ** (1 / 12))
  profile = many.performance_profile(x, [0, 9], rng)
  np.testing.assert_allclose(profile.low_L, [0.025 ** (1 / 12), 0])
  np.testing.assert_allclose(profile.high_L, [1, 1 - 0.025 ** (1 / 12)])
  np.testing.assert_allclose(profile.percentile_2xL, [[1, 0], [1, 0]])


def test_rounding_improves_nothing():
  """rliable 1.2.0 gives 1.0 for each of these."""
  near, third = [[0.1 + 0.2] * 3] * 2, [[0.3] * 3] * 2
  rng = np.random.default_rng(20)
  assert many.improved_share(near, third) == 0.5
  assert many.performance_profile(near, [0.3], rng).share_L == 0
  assert np.mean([0.1] * 3) > 0.1
  assert many.performance_profile([[0.1] * 3], [0.1], rng, average=True).share_L == 0


def test_lost_runs_lose():
  """-inf: below everything, above no threshold; no mean of it."""
  rng = np.random.default_rng(21)
  lost = [[1.0, 2.0, -math.inf], [3.0, 4.0]]
  assert many.improved_share(lost, [[0.0], [0.0]]) == pytest.approx((2 / 3 + 1) / 2)
  profile = many.performance_profile(lost, [-1e9, 1.5], rng)
  np.testing.assert_allclose(profile.share_L, [5 / 6, (1 / 3 + 1) / 2])
  for bad in (
    lambda: many.estimates(lost),
    lambda: many.performance_profile(lost, [0], rng, average=True),
    lambda: many.improved_share([[math.inf], [1]], [[0], [0]]),
    lambda: many.estimates([[1, math.nan], [1]]),
  ):
    with pytest.raises(ValueError, match=r"scores must be finite; run \d of task 0"):
      bad()


def test_one_run_and_other_shapes():
  rng = np.random.default_rng(12)
  one = many.aggregates(UNEQUAL, rng)["mean"]
  assert one.interval.estimate == pytest.approx(0.6)
  assert math.isnan(one.interval.low) and math.isnan(one.percentile.high)
  assert math.isnan(many.improvement(UNEQUAL, UNEQUAL, rng).interval.low)
  assert np.isnan(many.performance_profile(UNEQUAL, [0.5], rng).low_L).all()
  for scores, message in (
    ([], "at least one task"),
    ([[1, 2], []], "task 1 must be a list of runs"),
    ([1, 2], r"task 0 must be a list of runs, not of shape \(\)"),
  ):
    with pytest.raises(ValueError, match=message):
      many.estimates(scores)
  with pytest.raises(ValueError, match="the same tasks, not 3 and 2"):
    many.improved_share(UNEQUAL, UNEQUAL[:2])


def test_few_runs_are_covered():
  """Three runs on each of six tasks: rliable's interval covers a mean 85 % of the time."""
  rng = np.random.default_rng(10)
  means, sds = np.linspace(0, 1, 6), np.geomspace(0.1, 0.4, 6)
  hit = []
  for _ in range(300):
    values = means[:, None] + sds[:, None] * rng.normal(size=(6, 3))
    found = many.aggregates(values, rng, draws=200)["mean"]
    hit.append([i.low <= means.mean() <= i.high for i in (found.interval, found.percentile)])
  wide, percentile = np.mean(hit, 0)
  assert within(wide, 0.95, 300) and percentile < 0.9


def test_profile_covers_pointwise():
  rng = np.random.default_rng(11)
  truth = scipy.stats.norm.sf([-1, 0, 1])
  covered = []
  for _ in range(200):
    found = many.performance_profile(rng.normal(size=(4, 10)), [-1, 0, 1], rng, draws=200)
    covered.append((found.low_L <= truth) & (truth <= found.high_L))
  assert np.all(abs(np.mean(covered, 0) - 0.95) < 0.05)


@pytest.mark.parametrize(
  "function",
  [
    lambda rng: many.aggregates(A.T, rng, draws=99)["IQM"].interval.low,
    lambda rng: many.improvement(A.T, B.T, rng, draws=99).interval.low,
    lambda rng: many.performance_profile(A.T, [0.5], rng, draws=30).low_L[0],
    lambda rng: tuple(many.ranks([[0, 1, 2, 4], [2, 3, 5, 4], [4, 5, 7, 9]], rng, draws=3).low_S),
  ],
)
def test_randomness_is_the_generators(function):
  first, again = (function(np.random.default_rng(1)) for _ in range(2))
  assert first == again
  assert len({function(np.random.default_rng(seed)) for seed in range(20)}) > 1


@pytest.mark.slow
def test_table_of_ranks(capsys):
  """Prints the table of ranks of docs/statistics."""
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
  with capsys.disabled():
    print("", *lines, sep="\n")


def drawing(rng, name, tasks):
  """A function of n that draws n runs of every task; its second result is the true aggregates."""
  centres, sds = np.linspace(0, 1, tasks), np.full(tasks, 0.3)
  if name == "uneven":
    sds = np.geomspace(0.05, 0.6, tasks)
  noise = rng.normal if name != "exponential" else lambda size: rng.exponential(size=size) - 1

  def draw(n):
    sizes = n if isinstance(n, list) else [n] * tasks
    return [c + s * noise(size=k) for c, s, k in zip(centres, sds, sizes, strict=True)]

  return draw, many.estimates(draw(200_000))


@pytest.mark.slow
def test_table_of_aggregates(capsys):
  """Prints the tables of several tasks of docs/statistics."""
  rng, repetitions = np.random.default_rng(121), 1000
  lines = [f"numpy {np.__version__}, scipy {scipy.__version__}; seed 121; 1,000 samples a cell"]
  for name in ("even", "uneven", "exponential"):
    for tasks in (2, 8):
      draw, truth = drawing(rng, name, tasks)
      sizes = [3, 5, 10, *([[3, 10] * (tasks // 2)] if tasks > 2 else [])]
      rates = []
      for n in sizes:
        hit = []
        for _ in range(repetitions):
          found = many.aggregates(draw(n), rng, draws=400)
          better = many.improvement(draw(n), draw(n), rng, draws=400)
          pairs = [*((found[a], truth[a]) for a in many.AGGREGATES), (better, 0.5)]
          hit.append(
            [[i.low <= t <= i.high for i in (e.interval, e.percentile)] for e, t in pairs]
          )
        rates.append(100 * np.mean(hit, 0))
      for k, label in enumerate((*many.AGGREGATES, "improvement")):
        cells = ["/".join(f"{rate[k, way]:.1f}" for rate in rates) for way in (0, 1)]
        lines.append(f"| {name} | {tasks} | {label} | {cells[0]} | {cells[1]} |")
      if tasks == 8:
        assert np.min([rate[:, 0] for rate in rates]) > 90
  with capsys.disabled():
    print("", *lines, sep="\n")
