"""Other methods for two sweeps: references, hand-worked cases, simulated worlds, too few runs."""

import itertools
import math

import numpy as np
import pytest
import scipy
import scipy.stats

from seedlab.stats import beside, comparison, planning

A = np.array([3.1, 2.7, 4.0, 3.6, 2.9, 3.3, 3.8])
B = np.array([2.8, 2.9, 3.5, 3.0, 2.6, 3.4, 3.1])


def paired(a, b):
  return comparison.align(a, range(len(a)), b, range(len(b)), True)


def unpaired(a, b):
  return comparison.align(a, range(len(a)), b, range(len(b)), False)


def covered(found, truth) -> float:
  return float(np.mean([i.low <= truth <= i.high for i in found]))


def test_bouthilliers_rule():
  rng = np.random.default_rng(8)
  zero = np.zeros(100)

  def rule(wins):
    return beside.bouthillier(paired(np.repeat([1, -1], [wins, 100 - wins]), zero), rng)

  assert rule(52).conclusion == "not significant"
  assert rule(63).conclusion == "not meaningful"  # above 1/2, but not up to 3/4
  assert rule(80).conclusion == "A is better"
  # The percentile interval of a share is a binomial's.
  limits = scipy.stats.binom.ppf([0.025, 0.975], 100, 0.63) / 100
  assert (rule(63).low, rule(63).high) == pytest.approx(tuple(limits), abs=0.011)
  assert beside.bouthillier(unpaired(np.ones(7), np.zeros(5)), rng).pairs == 5


def test_bouthilliers_rule_of_ten_wins_in_ten_is_degenerate():
  ten = paired(np.arange(10) + 1.0, np.arange(10))
  rule = beside.bouthillier(ten, np.random.default_rng(6))
  assert (rule.low, rule.high, rule.conclusion) == (1, 1, "A is better")


def test_permutation_p_by_hand():
  rng = np.random.default_rng(11)
  # 6!/(3! 3!) = 20 splits, of which the observed one is the most extreme: 2/20.
  assert beside.permutation_p(unpaired([4, 5, 6], [1, 2, 3]), rng) == pytest.approx(0.1)
  # 2^4 signs: 2/16.
  assert beside.permutation_p(paired([5, 6, 7, 8], [1, 2, 3, 5]), rng) == pytest.approx(0.125)
  assert beside.permutation_p(unpaired([1, 1], [1, 1, 1]), rng) == 1
  assert math.isnan(beside.permutation_p(unpaired([1], [1, 2]), rng))


def test_bootstrap_covers_with_many_runs():
  rng = np.random.default_rng(12)
  values = rng.exponential(size=(300, 60, 2)) + np.array([0.5, 0])
  for design in (paired, unpaired):
    found = [beside.bootstrap_difference(design(*v.T), rng, draws=499) for v in values]
    assert abs(covered(found, 0.5) - 0.95) < 0.045


def scores(rng, runs, examples, run_sd, example_sd):
  """Two sweeps' scores: effects of shared examples, of runs, and noise; the difference is 0."""
  difficulty = rng.normal(0, example_sd, (2, 1, examples)) + rng.normal(size=(1, 1, examples))
  return difficulty + rng.normal(0, run_sd, (2, runs, 1)) + rng.normal(size=(2, runs, examples))


def test_multibootstrap_covers_new_seeds_and_new_examples():
  """The t interval of the runs' means forgets the examples and covers far too rarely."""
  rng = np.random.default_rng(13)
  found, forgetful = [], []
  for _ in range(400):
    a, b = scores(rng, 20, 40, 0.1, 0.5)
    found.append(beside.multibootstrap(a, b, False, rng, draws=300))
    forgetful.append(comparison.difference(unpaired(a.mean(1), b.mean(1))))
  assert 0.91 < covered(found, 0) < 0.985
  assert covered(forgetful, 0) < 0.85
  p = np.array([f.p_value for f in found])
  assert 0.01 < np.mean(p <= 0.05) < 0.1


def test_multibootstrap_resamples_paired_runs_together():
  rng = np.random.default_rng(14)
  a = rng.normal(size=(8, 1)) * 5 + rng.normal(size=(8, 30))
  b = a + 0.01 * rng.normal(size=(8, 30))
  close, wide = (beside.multibootstrap(a, b, p, rng) for p in (True, False))
  assert close.high - close.low < 0.05 < 1 < wide.high - wide.low
  assert close.estimate == wide.estimate == pytest.approx(a.mean() - b.mean())


def test_multibootstrap_by_blocks_of_rows_is_the_same(monkeypatch):
  rng = np.random.default_rng(15)
  a, b = rng.random((2, 9, 13)) < 0.8
  whole = beside.multibootstrap(a, b, False, np.random.default_rng(1))
  monkeypatch.setattr(beside, "_batch", lambda n: 2)
  blocks = beside.multibootstrap(a, b, False, np.random.default_rng(1))
  assert (whole.low, whole.high) == pytest.approx((blocks.low, blocks.high))


def test_multibootstrap_refuses_different_test_sets():
  rng = np.random.default_rng(16)
  with pytest.raises(ValueError, match=r"share examples.*\(3, 4\), \(3, 5\)"):
    beside.multibootstrap(np.ones((3, 4)), np.ones((3, 5)), True, rng)
  with pytest.raises(ValueError, match="finite"):
    beside.multibootstrap(np.full((3, 4), math.nan), np.ones((3, 4)), True, rng)
  assert math.isnan(beside.multibootstrap(np.ones((1, 4)), np.ones((3, 4)), False, rng).low)


def test_cliffs_delta_by_hand():
  # Pairs won 4, lost 1, tied 1 of 6.
  assert beside.cliffs_delta([2, 3, 5], [1, 3]) == pytest.approx((4 - 1) / 6)
  assert beside.cliffs_delta([2], [1]) == 1 and beside.cliffs_delta([1, 1], [1]) == 0


def test_violation_of_stochastic_order_by_hand():
  rng = np.random.default_rng(17)

  def violation(a, b):
    return beside.almost_stochastic_order(unpaired(a, b), rng, draws=50).violation

  assert violation([2, 3, 4], [1, 2, 3]) == 0 and violation([1, 2, 3], [2, 3, 4]) == 1
  assert violation([0, 4], [1, 2]) == pytest.approx(1 / (1 + 4))
  # Unequal sizes: levels 1/3, 1/2, 2/3, gaps -1, 2, 1, 5 on widths 1/3, 1/6, 1/6, 1/3.
  assert violation([0, 3, 6], [1, 1 + 1e-12]) == pytest.approx(
    (1 / 3) / (1 / 3 + 4 / 6 + 4 / 6 + 25 / 3)
  )


def test_violation_of_two_normals_has_a_closed_form():
  """Quantiles differ by δ + (σ_A - σ_B) z: a normal's second moment below and above 0."""
  rng = np.random.default_rng(18)
  delta, spread = 0.4, 1.0
  z = scipy.stats.norm.ppf((np.arange(10**6) + 0.5) / 10**6)
  gaps = delta + spread * z
  expected = (np.minimum(gaps, 0) ** 2).sum() / (gaps**2).sum()
  a, b = rng.normal(delta, 2, 20_000), rng.normal(0, 1, 20_000)
  found = beside.almost_stochastic_order(unpaired(a, b), rng, draws=20)
  assert found.violation == pytest.approx(expected, abs=0.02)
  assert found.violation < found.upper < found.violation + 0.05


def test_upper_limit_of_the_violation_covers_with_many_runs():
  rng = np.random.default_rng(19)
  gaps = 0.8 + scipy.stats.norm.ppf((np.arange(10**5) + 0.5) / 10**5)
  truth = (np.minimum(gaps, 0) ** 2).sum() / (gaps**2).sum()
  uppers = [
    beside.almost_stochastic_order(
      unpaired(rng.normal(0.8, 2, 200), rng.normal(size=200)), rng, draws=100
    ).upper
    for _ in range(300)
  ]
  assert 0.90 < np.mean(np.array(uppers) >= truth) < 0.995


def test_stochastic_order_of_equal_samples_is_undefined():
  found = beside.almost_stochastic_order(unpaired([1, 2], [1, 2]), np.random.default_rng(20))
  assert math.isnan(found.violation) and math.isnan(found.upper)


def test_mcnemar_without_discordant_examples_and_with_other_test_sets():
  assert beside.mcnemar([1, 0], [1, 0]).p_value == 1
  with pytest.raises(ValueError, match="one value an example"):
    beside.mcnemar([1, 0], [1, 0, 1])


@pytest.mark.parametrize(
  "function",
  [
    lambda rng: beside.bootstrap_difference(unpaired(A, B), rng).low,
    lambda rng: beside.permutation_p(unpaired(np.tile(A, 3), np.tile(B, 3)), rng, 999),
    lambda rng: beside.almost_stochastic_order(unpaired(A, B), rng).upper,
    lambda rng: beside.multibootstrap(A[:, None] * B, B[:, None] * B, False, rng).high,
    lambda rng: beside.bouthillier(paired(np.tile(A, 90), np.tile(B, 90)), rng, draws=101).low,
  ],
)
def test_randomness_is_the_generators(function):
  same = [function(np.random.default_rng(1)) for _ in range(2)]
  others = [function(np.random.default_rng(s)) for s in (2, 3, 4)]
  assert same[0] == same[1] and any(other != same[0] for other in others)


def test_bouthilliers_boundaries_are_strict(monkeypatch):
  """A limit exactly on 1/2 is not significant, one exactly on gamma not meaningful."""
  six = paired(np.arange(6) + 1.0, np.arange(6))

  def conclusion(low, high, gamma=0.75):
    monkeypatch.setattr(np, "quantile", lambda drawn, levels: (low, high))
    return beside.bouthillier(six, np.random.default_rng(0), gamma).conclusion

  assert conclusion(0.5, 1) == "not significant"
  assert conclusion(np.nextafter(0.5, 1), 1) == "A is better"
  assert conclusion(0.6, 0.75) == "not meaningful"
  assert conclusion(0.6, np.nextafter(0.75, 1)) == "A is better"
  assert conclusion(0.6, 0.9, gamma=0.9) == "not meaningful"
  assert conclusion(0.5, 0.6) == "not significant"


def test_bouthilliers_boundaries_are_met_by_real_values():
  """Five wins among five pairs with gamma 1: the upper limit is 1, and not above it."""
  rng = np.random.default_rng(21)
  five = paired(np.ones(5), np.zeros(5))
  assert beside.bouthillier(five, rng, gamma=1.0).conclusion == "not meaningful"
  assert beside.bouthillier(five, rng, gamma=0.999).conclusion == "A is better"
  ties = paired(np.zeros(6), np.zeros(6))  # both limits are 1/2
  assert beside.bouthillier(ties, rng, gamma=0.4).conclusion == "not significant"


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_a_few_runs_that_all_win_prove_nothing(n):
  rng = np.random.default_rng(22)
  high = np.arange(n) + 10.0
  for two in (paired(high, np.arange(n)), unpaired(high, np.arange(9))):
    rule = beside.bouthillier(two, rng)
    assert rule.conclusion == "too few pairs" and math.isnan(rule.low) and rule.probability == 1
    order = beside.almost_stochastic_order(two, rng)
    assert math.isnan(order.upper) and order.violation == 0


def test_the_limit_of_the_violation_begins_at_five_runs():
  rng = np.random.default_rng(25)
  odd, even = np.arange(6) * 2.0 + 1, np.arange(6) * 2.0
  for a, b in ((odd[:4], even), (odd, even[:4])):
    assert math.isnan(beside.almost_stochastic_order(unpaired(a, b), rng).upper)
  assert 0 < beside.almost_stochastic_order(unpaired(odd[:5], even[:5]), rng).upper < 1


def test_samples_far_apart_have_no_upper_limit_of_the_violation():
  rng = np.random.default_rng(23)
  order = beside.almost_stochastic_order(unpaired(np.arange(9.0) + 50, np.arange(7.0)), rng)
  assert order.violation == 0 and math.isnan(order.upper)


def test_rounding_wins_nothing():
  """Values that differ by rounding alone, given as they are, without `align`."""
  near, third = np.full(7, 0.1 + 0.2), np.full(7, 0.3)
  rng = np.random.default_rng(24)
  for two in (comparison.TwoSweeps(near, third, pair, 0) for pair in (True, False)):
    assert beside.bouthillier(two, rng).probability == 0.5
    assert beside.bouthillier(two, rng).conclusion == "not significant"
    assert math.isnan(beside.almost_stochastic_order(two, rng).violation)
    assert math.isnan(beside.bootstrap_difference(two, rng).low)
    assert beside.permutation_p(two, rng) == 1
  assert beside.cliffs_delta(near, third) == 0
  scores = np.tile(near[:, None], 5)
  for pair in (True, False):
    assert beside.multibootstrap(scores, scores * 0 + 0.3, pair, rng, draws=99).p_value == 1


def test_no_interval_of_a_difference_without_spread():
  rng = np.random.default_rng(7)
  for two in (
    unpaired([1, 1, 1], [2, 2]),
    paired([0.1, 0.2, 0.3], [0.2, 0.3, 0.4]),  # equal differences but for rounding
    unpaired([1], [1, 2, 3]),
  ):
    found = beside.bootstrap_difference(two, rng)
    assert math.isnan(found.low) and math.isnan(found.high)
    assert found.estimate == pytest.approx(two.a_R.mean() - two.b_S.mean())


def test_mcnemar_is_statsmodels():
  """Printed by statsmodels 0.15.0: mcnemar (exact)."""
  right_a = np.repeat([True, True, False, False], [101, 121, 59, 33])
  right_b = np.repeat([True, False, True, False], [101, 121, 59, 33])
  found = beside.mcnemar(right_a, right_b)
  assert (found.only_a, found.only_b) == (121, 59)
  assert found.p_value == pytest.approx(4.4344492637551645e-06)


# deep-significance 1.2.8: the examples of its README and notebook. The README's own numbers are
# those of an earlier version in scenario 2; these were printed with numpy 2.4.6, scipy 1.17.1.

SCENARIOS = {  # number of values, models a and b, comparisons, violation ratios, eps_min
  1: (5, [(0.9, 0.8)], [(0, 1)], 1, [0.0], [0.22488112073395775]),
  2: (
    5,
    [(0.3, 0.8)] * 3,
    [(0, 1)] * 3,
    3,
    [0.13175869617965277, 0.7792626095356229, 0.0],
    [0.8067086477167651, 1.0, 0.6313624908474597],
  ),
  3: (
    40,
    [(0.3, 0.8)] * 3,
    [(0, 1)] * 3,
    9,
    [
      *(0.06924357141786494, 0.0, 0.4220438818903462, 0.0962831867311346, 0.002682101974305077),
      *(0.7913773020568421, 0.1982721411577215, 0.03325065290241556, 0.7848923114399753),
    ],
    [
      *(0.3831678636198528, 0.07194780234194881, 0.9152792807128325, 0.5273463008857844),
      *(0.14946944524461184, 1.0, 0.6099543280369378, 0.22387448804041898, 1.0),
    ],
  ),
}
MODELS = np.random.RandomState(1234).normal([[0.1], [0.15], [0.2]], 0.8, (3, 5))
EPISODES_10 = [
  *(244, 175, 343, 244, 371, 230, 251, 284, 268, 267, 231, 60, 173, 303, 310, 224, 500, 465),
  *(249, 308),
]
EPISODES_20 = [
  *(194, 250, 213, 162, 203, 337, 76, 170, 208, 207, 290, 212, 232, 217, 175, 207, 179, 209),
  *(212, 189),
]


def published():
  """(a, b, comparisons, their violation ratio, their eps_min) of every example."""
  for number, (n, models_a, models_b, comparisons, violations, limits) in SCENARIOS.items():
    legacy = np.random.RandomState(1234)
    a, b = ([legacy.normal(*m, n) for m in models] for models in (models_a, models_b))
    pairs = list(itertools.product(a, b)) if number == 3 else list(zip(a, b, strict=True))
    for (x, y), violation, limit in zip(pairs, violations, limits, strict=True):
      yield x, y, comparisons, violation, limit
  yield EPISODES_10, EPISODES_20, 1, 0.0017112096112939827, 0.14962125198566753
  for i, j, violation, limit in (  # scenario 4, multi_aso of three models
    (0, 1, 0.23831019225385042, 0.92621655),
    (0, 2, 0.8335914915284122, 1.0),
    (1, 2, 0.9985128859467497, 1.0),
    (2, 1, 0.0, 0.73048716),
    (2, 0, 0.16244159929629826, 0.82081635),
  ):
    yield MODELS[i], MODELS[j], 3, violation, limit


def on_their_grid(a, b, dt):
  """Their integral: over t = dt, 2 dt, ... < 1, the first point no violation whatever it is."""
  t = np.arange(dt, 1, dt)
  gaps = [np.sort(x)[np.ceil(len(x) * t).astype(int) - 1] for x in (a, b)]
  gap = gaps[1] - gaps[0]
  return (np.maximum(gap, 0)[1:] ** 2).sum() / (gap**2).sum()


def test_published_examples_of_deep_significance():
  """Ours is exact; theirs is the same integral on a grid of 0.005, which forgets the extremes.

  Their level for m comparisons is 0.95 + 0.05 / m (0.967 for three; Bonferroni's would be 0.983).
  """
  for a, b, comparisons, violation, limit in published():
    level = 0.95 + 0.05 / comparisons * (comparisons > 1)
    found = beside.almost_stochastic_order(unpaired(a, b), np.random.default_rng(0), level)
    assert on_their_grid(a, b, 0.005) == pytest.approx(violation)
    assert found.violation == pytest.approx(on_their_grid(a, b, 1e-5), abs=1e-4)
    assert found.violation == pytest.approx(violation, abs=0.035)
    assert found.upper == pytest.approx(limit, abs=0.055)
    assert (found.upper < 0.5) == (limit < 0.5) or abs(limit - 0.5) < 0.06


def test_one_run_against_one_is_dominance_for_deep_significance():
  """deepsig 1.2.8: aso([1.0], [0.0]) is 0.0, "A is better"."""
  found = beside.almost_stochastic_order(unpaired([1], [0]), np.random.default_rng(0))
  assert math.isnan(found.upper)


def test_power_of_the_rewards_of_deep_significance():
  """Theirs: 0.5884 and 0.5024, one-sided and by a paired test of independent resamples."""
  rewards = ([152.92, 107.4, 135.69, 138.38, 170.26], [151.41, 129.96, 146.2, 96.06, 159.39])
  found = [planning.power(5, 0.25 * np.mean(x), np.std(x, ddof=1)) for x in rewards]
  assert found == pytest.approx([0.5577, 0.4733], abs=1e-4)


def test_permutation_test_of_deep_significance():
  """Its example with seed 1234 and 20,000 draws gives 0.0940 on one side; all signs are exact."""
  legacy = np.random.RandomState(1234)
  a, b = legacy.normal(0.8, size=10), legacy.normal(size=10)
  p = beside.permutation_p(paired(a, b), np.random.default_rng(0))
  assert p == pytest.approx(2 * 97 / 1024)
  assert p / 2 == pytest.approx(0.09399530023498825, abs=0.004)


@pytest.mark.slow
def test_table_of_what_is_shown_beside(capsys):
  """Prints the tables of docs/statistics: false positives, coverage of the multibootstrap."""
  rng = np.random.default_rng(111)
  lines = [f"numpy {np.__version__}, scipy {scipy.__version__}; seed 111"]

  def line(label, rates):
    lines.append(f"{label}: " + " / ".join(f"{100 * r:.1f}" for r in rates))

  sizes = (5, 10, 20, 50)
  rule, orders = [], {0.5: [], 0.2: []}
  for n in sizes:
    samples = [unpaired(*v.T) for v in rng.normal(size=(1000, n, 2))]
    found = [beside.bouthillier(two, rng, draws=1000) for two in samples]
    rule.append(np.mean([f.conclusion == "A is better" for f in found]))
    uppers = [beside.almost_stochastic_order(two, rng, draws=300).upper for two in samples]
    for threshold, rates in orders.items():
      rates.append(np.mean(np.array(uppers) < threshold))
  line("equal normals, Bouthillier's rule says A is better, 5/10/20/50 runs", rule)
  for threshold, rates in orders.items():
    line(f"equal normals, almost stochastic order below {threshold}, 5/10/20/50 runs", rates)
  multi = []
  for n in (5, 10, 20):
    found = []
    for _ in range(500):
      a, b = scores(rng, n, 100, 0.3, 0.3)
      found.append(beside.multibootstrap(a, b, False, rng, draws=500))
    multi.append(covered(found, 0))
  line("coverage, multibootstrap, runs and 100 examples, 5/10/20 runs", multi)
  raw = {0.5: [], 0.2: []}
  few = (1, 2, 3, 4, 5, 6, 8)
  for n in few:
    uppers = []
    for a, b in rng.normal(size=(2000, 2, n)):
      drawn = beside._drawn_violation(a, b, 300, rng)
      violation = beside._violation(a[None], b[None])[0]
      uppers.append(violation + scipy.stats.norm.ppf(0.95) * np.nanstd(drawn))
    for threshold, rates in raw.items():
      rates.append(np.mean(np.array(uppers) < threshold))
  for threshold, rates in raw.items():
    line(f"without the rule for few runs, below {threshold}, {'/'.join(map(str, few))} runs", rates)
  assert min(raw[0.2][:4]) > 0.05
  with capsys.disabled():
    print("", *lines, sep="\n")
