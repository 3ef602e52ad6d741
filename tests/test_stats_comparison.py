"""Two sweeps: reference implementations, hand-worked cases, simulated worlds, degenerate input."""

import itertools
import math

import numpy as np
import pytest
import scipy
import scipy.stats

from seedlab.stats import beside, comparison, sequential, single

A = np.array([3.1, 2.7, 4.0, 3.6, 2.9, 3.3, 3.8])
B = np.array([2.8, 2.9, 3.5, 3.0, 2.6, 3.4, 3.1])


def paired(a, b):
  return comparison.align(a, range(len(a)), b, range(len(b)), True)


def unpaired(a, b):
  return comparison.align(a, range(len(a)), b, range(10**6, 10**6 + len(b)), False)


def within(rate: float, nominal: float, repetitions: int) -> bool:
  """Within four standard errors of a simulation."""
  return abs(rate - nominal) < 4 * math.sqrt(nominal * (1 - nominal) / repetitions)


def covered(found, truth) -> float:
  return float(np.mean([i.low <= truth <= i.high for i in found]))


def test_shared_runs_are_paired_and_the_rest_left_out():
  two = comparison.align([10, 11, 12, 13], [7, 3, 5, 1], [20, 21, 22], [5, 8, 7], True)
  assert two.paired and two.left_out == 3
  np.testing.assert_array_equal(two.a_R, [12, 10])  # runs 5 and 7
  np.testing.assert_array_equal(two.b_S, [20, 22])


def test_unpaired_sweeps_are_used_whole_whatever_their_numbers():
  two = comparison.align([1, 2, 3], [0, 1, 2], [4, 5], [2, 3], False)
  assert not two.paired and (len(two.a_R), len(two.b_S), two.left_out) == (3, 2, 0)
  with pytest.raises(TypeError, match="paired"):
    comparison.align([1, 2], [0, 1], [4, 5], [0, 1])


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (([1, 2], [0, 0], [1], [0], True), "run 0 occurs more than once in sweep A"),
    (([1, 2], [0, 1], [1], [0, 1], True), r"sweep B has 1 values but run numbers \(2,\)"),
    (([1, math.nan], [0, 1], [1], [0], True), "1 of 2 values are not finite, first at 1"),
    (([1, 2], [0, 1], [1], [5], True), "paired sweeps share no run number"),
  ],
)
def test_align_refuses(arguments, message):
  with pytest.raises(ValueError, match=message):
    comparison.align(*arguments)


def test_rounding_is_a_tie():
  """0.1 + 0.2 is not 0.3 in binary: before, it won."""
  near = [0.1 + 0.2] * 6
  assert near[0] > 0.3
  for two in (paired(near, [0.3] * 6), unpaired(near, [0.3] * 5)):
    assert comparison.probability_better(two).estimate == 0.5
    assert comparison.difference(two).estimate == 0


def test_snapped():
  a, b = comparison.snapped([0.1 + 0.2, 5, 1 + 1e-11], [0.3, 1.0])
  assert a.tolist() == [0.3, 5, 1 + 1e-11] and b.tolist() == [0.3, 1]
  # Of the larger of the two, not of the largest of all: small values beside a large one differ.
  values = [1e15, 1.0, 1.0005, -1, -1 - 3e-16, 0, math.inf, -math.inf, math.inf]
  small, _ = comparison.snapped(values, [])
  assert small.tolist() == [*values[:3], values[4], *values[4:]]
  chain = 1 + np.array([3, 1, 2]) * 2.0**-52
  assert comparison.snapped(chain, [2])[0].tolist() == [1 + 2.0**-52] * 3


def test_difference_is_scipys_t_test():
  for two, test in (
    (paired(A, B), scipy.stats.ttest_rel(A, B)),
    (unpaired(A, B[:5]), scipy.stats.ttest_ind(A, B[:5], equal_var=False)),
  ):
    found, limits = comparison.difference(two, 0.9), test.confidence_interval(0.9)
    assert found.estimate == pytest.approx(two.a_R.mean() - two.b_S.mean())
    assert (found.low, found.high, found.p_value) == pytest.approx((*limits, test.pvalue))


def test_against_statsmodels():
  """Printed by statsmodels 0.15.0: ttost_paired, ttost_ind (unequal), CompareMeans.ttest_ind,
  rank_compare_2indep (use_t), proportion_confint (beta)."""
  assert comparison.equivalence(paired(A, B), 0.5).p_value == pytest.approx(0.0861541483652)
  assert comparison.equivalence(unpaired(A, B), 0.5).p_value == pytest.approx(0.18967555746597)
  better = comparison.probability_better(unpaired(A, B + 0.05))
  assert (better.estimate, better.p_value) == pytest.approx((0.673469387755, 0.296134386486))
  assert (better.low, better.high) == pytest.approx((0.322305185509, 1))  # theirs: 1.0246
  seven, ten = np.array([1] * 7 + [-1] * 3), np.ones(10)
  zero = np.zeros(10)
  found = comparison.probability_better(paired(seven, zero))
  assert (found.low, found.high) == pytest.approx((0.347547149940, 0.933260488822))
  assert comparison.probability_better(paired(ten, zero)).low == pytest.approx(0.691502892181)


def test_brunner_munzel_is_scipys():
  rng = np.random.default_rng(0)
  for n, m in ((8, 13), (30, 5)):
    a, b = np.round(rng.normal(size=n), 1), np.round(rng.normal(0.5, 2, m), 1)
    p = comparison.probability_better(unpaired(a, b)).p_value
    assert p == pytest.approx(scipy.stats.brunnermunzel(a, b).pvalue)


def test_the_grid_adds_its_variance_by_hand():
  """s^2 of the differences 1, 2, 1, 2 is 1/3; a grid of step 1 adds 1/12: 5/12 over 4 pairs."""
  two = paired([2, 4, 4, 6], [1, 2, 3, 4])
  found = comparison.mean_difference(two, step=1.0)
  assert (found.estimate, found.df) == (1.5, 3)
  assert found.error == pytest.approx(math.sqrt(5 / 12 / 4))
  apart = comparison.mean_difference(unpaired([2, 4, 4, 6], [1, 2, 3, 4]), step=1.0)
  parts = np.array([8 / 3 + 1 / 12, 5 / 3 + 1 / 12]) / 4
  assert apart.error == pytest.approx(math.sqrt(parts.sum()))
  assert apart.df == pytest.approx(parts.sum() ** 2 / (parts**2 / 3).sum())
  assert comparison.difference(two, step=1.0).p_value == pytest.approx(
    2 * scipy.stats.t.sf(1.5 / math.sqrt(5 / 48), 3)
  )


def test_lopsided_sweeps_have_cochran_and_coxs_critical_value():
  """s^2 = 1 of 3 runs and 4 of 6: v = 1/3 and 2/3, t = (t(2) / 3 + 2 t(5) / 3)."""
  few = np.array([-1.0, 0.0, 1.0]) + 5.0
  many = np.array([-2.0, -2.0, 0.0, 0.0, 2.0, 2.0]) * math.sqrt(5 / 16) * 2 / math.sqrt(5 / 4)
  many = many / many.std(ddof=1) * 2
  found = comparison.mean_difference(unpaired(few, many))
  assert found.error == pytest.approx(1) and found.estimate == pytest.approx(5)
  critical = 4.302652729911275 / 3 + 2 * 2.5705818366147395 / 3  # of 2.5 % on one side
  assert found.critical(0.025) == pytest.approx(critical)
  for tail in (0.4, 0.1, 0.01, 1e-6, 1e-12):
    assert found.tail(found.critical(tail)) == pytest.approx(tail)
  assert found.tail(-found.critical(0.1)) == pytest.approx(0.9)
  interval = comparison.difference(unpaired(few, many))
  assert interval.high - 5 == pytest.approx(critical) and "Cochran" in interval.method
  ten = np.random.default_rng(0).normal(size=30)  # neither lopsided, nor fewer than ten
  for n, m in ((3, 5), (10, 30), (9, 17)):
    assert not comparison.mean_difference(unpaired(ten[:n], ten[:m] + 1)).parts
  for n, m in ((3, 6), (9, 18), (30, 2)):
    assert comparison.mean_difference(unpaired(ten[:n], ten[:m] + 1)).parts


def test_a_known_spread_and_a_floor_by_hand():
  """Known: z of sd sqrt(1/2 + 1/4). Floor of 4 df, sd 3; own squares 2 and 20: variance 58/8."""
  two = unpaired([1.0, 3.0], [10.0, 12.0, 14.0, 16.0])
  known = comparison.mean_difference(two, 0.5, comparison.Spread(3.0, math.inf))
  assert (known.estimate, known.df) == (-11, math.inf)
  assert known.error == pytest.approx(3 * math.sqrt(0.75))
  assert known.critical(0.025) == pytest.approx(1.959964, rel=1e-6)
  floor = comparison.mean_difference(two, 0.5, comparison.Spread(3.0, 4))
  assert floor.df == 8
  variance = (4 * 9 + 2 + 20) / 8 + 0.25 / 12
  assert floor.error == pytest.approx(math.sqrt(0.75 * variance))
  one = comparison.difference(unpaired([1.0], [4.0]), spread=comparison.Spread(1.0, math.inf))
  assert one.p_value == pytest.approx(2 * scipy.stats.norm.sf(3 / math.sqrt(2)))


def test_values_equal_up_to_rounding_are_equal_and_a_huge_one_moves_no_other():
  a, b = comparison.snapped([0.1 + 0.2, 1.0, math.inf], [0.3, 1.1, -math.inf])
  assert a[0] == b[0] and a[1] < b[1] and a[2] == math.inf and b[2] == -math.inf
  a, b = comparison.snapped([0.1, 0.2], [0.3, 1e30])
  assert a.tolist() == [0.1, 0.2] and b.tolist() == [0.3, 1e30]
  near = comparison.snapped([0.1 + 0.2 - 0.3, 1.0], [0.0, 2.0])  # the rounding of what it was
  assert near[0][0] == near[1][0]
  two = paired([0.1 + 0.2] * 4, [0.3] * 4)
  assert comparison.probability_better(two).estimate == 0.5


@pytest.mark.parametrize(
  ("runs", "halves"), [(3, math.inf), (4, 6.9), (5, 5.3), (10, 4.0), (30, 3.6)]
)
def test_anytime_intervals_of_pairs_in_standard_errors(runs, halves):
  values = np.random.default_rng(runs).normal(size=runs)
  found = comparison.anytime_difference(paired(values, np.zeros(runs)))
  error = values.std(ddof=1) / math.sqrt(runs)
  assert (found.high - found.estimate) / error == pytest.approx(halves, abs=0.05)
  assert (found.p_value < 0.05) == (not found.low <= 0 <= found.high)


def test_anytime_intervals_of_two_sweeps_need_five_runs_each():
  a, b = np.random.default_rng(3).normal(size=(2, 30))
  assert math.isinf(comparison.anytime_difference(unpaired(a[:4], b + 50)).low)
  five = comparison.anytime_difference(unpaired(a[:5], b[:5]))
  m = comparison.mean_difference(unpaired(a[:5], b[:5]))
  by_hand = sequential.anytime_t(m.estimate, m.error, m.df, 10 * 25 / 10)
  assert (five.low, five.high) == (by_hand.low, by_hand.high)


def test_margins_and_intervals_agree_with_p():
  """p < alpha exactly where the interval says so."""
  rng = np.random.default_rng(1)
  decisions = set()
  for _ in range(200):
    two = rng.choice([paired, unpaired])(rng.normal(0.2, 1, 12), rng.normal(size=12))
    equal = comparison.equivalence(two, 0.7)
    assert (equal.p_value < 0.05) == (-0.7 < equal.low and equal.high < 0.7)
    t, better = comparison.difference(two), comparison.probability_better(two)
    assert (t.p_value < 0.05) == (not t.low <= 0 <= t.high)
    assert (better.p_value < 0.05) == (not better.low <= 0.5 <= better.high)
    decisions |= {equal.p_value < 0.05, 2 + (t.p_value < 0.05)}
  assert len(decisions) == 4  # both decisions of each occurred


def test_nothing_is_equal_without_a_margin():
  with pytest.raises(TypeError, match="margin"):
    comparison.equivalence(paired(A, B))
  for margin in (0, -1, math.nan, math.inf):
    with pytest.raises(ValueError, match="margin must be a positive number"):
      comparison.equivalence(paired(A, B), margin)


@pytest.mark.parametrize("design", [paired, unpaired])
def test_intervals_of_differences_cover(design):
  rng = np.random.default_rng(2)
  shared = rng.normal(size=(2500, 10, 1))
  values = shared * (design is paired) + rng.normal(size=(2500, 10, 2)) * [1, 3] + [0.5, 0]
  found = [comparison.difference(design(*v.T)) for v in values]
  assert within(covered(found, 0.5), 0.95, 2500)


def test_pairing_uses_what_is_shared():
  rng = np.random.default_rng(3)
  shared = rng.normal(0, 5, 30)
  a, b = shared + rng.normal(size=30), shared + rng.normal(size=30)
  close, wide = comparison.difference(paired(a, b)), comparison.difference(unpaired(a, b))
  assert close.high - close.low < (wide.high - wide.low) / 3


def test_equivalence_errs_in_5_of_100_at_the_margin():
  rng = np.random.default_rng(4)
  values = rng.normal(size=(2000, 40, 2)) + np.array([1, 0])  # exactly the margin apart
  p = [comparison.equivalence(unpaired(*v.T), 1.0).p_value for v in values]
  assert within(np.mean(np.array(p) < 0.05), 0.05, 2000)


def test_binomial_interval_never_covers_too_rarely():
  """Every possible outcome of 12 pairs, weighted by its probability: no simulation needed."""
  outcomes = []
  for wins, ties in itertools.product(range(13), range(13)):
    if wins + ties <= 12:
      a = np.repeat([1.0, 0.0, -1.0], [wins, ties, 12 - wins - ties])
      outcomes.append((wins, ties, comparison.probability_better(paired(a, np.zeros(12)))))
  for win, tie in ((0.5, 0), (0.8, 0), (0.95, 0), (0.3, 0.4), (0.6, 0.3), (0.05, 0.9)):
    chances = np.array([win, tie, 1 - win - tie])
    truth = win + tie / 2
    coverage = sum(
      scipy.stats.multinomial.pmf([w, t, 12 - w - t], 12, chances)
      for w, t, found in outcomes
      if found.low <= truth <= found.high
    )
    assert coverage >= 0.95
    if not tie:
      assert coverage < 0.995


def test_brunner_munzel_covers():
  rng = np.random.default_rng(5)
  truth = scipy.stats.norm.cdf(1 / math.sqrt(10))
  found = [
    comparison.probability_better(unpaired(rng.normal(1, 1, 15), rng.normal(0, 3, 20)))
    for _ in range(2000)
  ]
  assert abs(covered(found, truth) - 0.95) < 0.02


def test_ten_wins_in_ten():
  ten = paired(np.arange(10) + 1.0, np.arange(10))
  found = comparison.probability_better(ten)
  assert found.estimate == found.high == 1
  assert found.low == pytest.approx(0.025**0.1) and found.p_value == pytest.approx(2 / 2**10)
  # Unpaired and nothing overlaps: as if ten disjoint pairs had been compared.
  apart = comparison.probability_better(unpaired(np.arange(10) + 100, np.arange(14)))
  assert (apart.low, apart.high) == pytest.approx((0.025**0.1, 1))
  assert "disjoint" in apart.method


def test_ties_count_half():
  found = comparison.probability_better(paired([1, 1, 1, 1], [1, 1, 0, 2]))
  assert found.estimate == 0.5 and found.p_value == 1
  assert comparison.probability_better(paired([1, 1, 2], [1, 1, 0])).estimate == 2 / 3
  equal = comparison.probability_better(unpaired([1, 1, 1], [1, 1]))
  assert equal.estimate == 0.5 and equal.p_value == 1 and equal.low < 0.05 < 0.95 < equal.high


def test_nothing_can_be_said_of_a_difference_without_spread():
  cases = (
    unpaired([1, 1, 1], [2, 2]),
    paired([0.1, 0.2, 0.3], [0.2, 0.3, 0.4]),  # equal differences but for rounding
    unpaired([1], [1, 2, 3]),
  )
  for two in cases:
    for found in (comparison.difference(two), comparison.equivalence(two, 9)):
      assert math.isnan(found.low) and math.isnan(found.high) and math.isnan(found.p_value)
      assert found.estimate == pytest.approx(two.a_R.mean() - two.b_S.mean())


def test_sd_ratio_leaves_a_run_out_of_both():
  rng = np.random.default_rng(9)
  a, b = rng.normal(0, 3, 12), rng.normal(size=12)
  found = comparison.sd_ratio(paired(a, b))
  assert found.estimate == pytest.approx(a.std() / b.std())

  def log_ratio(x, y):
    return 2 * math.log(x.std(ddof=1) / y.std(ddof=1))

  left_out = [log_ratio(np.delete(a, m), np.delete(b, m)) for m in range(12)]
  limits = np.array(single.jackknife_interval(log_ratio(a, b), left_out))
  assert (found.low, found.high) == pytest.approx(tuple(np.exp(limits / 2)))


@pytest.mark.parametrize("design", [paired, unpaired])
def test_sd_ratio_covers(design):
  rng = np.random.default_rng(10)
  values = rng.normal(size=(2000, 16, 1)) + rng.normal(size=(2000, 16, 2)) * [2, 1]
  found = [comparison.sd_ratio(design(*v.T)) for v in values]
  assert abs(covered(found, math.sqrt(5 / 2)) - 0.95) < 0.015


def test_sd_ratio_of_equal_values_has_no_interval():
  for design in (paired, unpaired):
    for a, b in (([1, 1, 1], [1, 2, 3]), ([1, 2, 3], [5, 5, 5]), ([1, 1, 1], [1, 1, 1])):
      found = comparison.sd_ratio(design(a, b))
      assert math.isnan(found.low) and math.isnan(found.high)
  assert comparison.sd_ratio(unpaired([1, 1, 1], [1, 2, 3])).estimate == 0


@pytest.mark.slow
def test_table_of_comparisons(capsys):
  """Prints the table of coverages of docs/statistics."""
  rng, reps = np.random.default_rng(110), 2000
  lines = [f"numpy {np.__version__}, scipy {scipy.__version__}; seed 110; {reps:,} samples a cell"]

  def line(label, rates):
    lines.append(f"{label}: " + " ".join(f"{100 * r:.1f}" for r in rates))

  sizes = (5, 10, 20, 50)
  draws = {
    "normal, sd 1 and 3": (lambda n: rng.normal(size=(reps, n, 2)) * [1, 3], 0.0, 0.5),
    "exponential": (lambda n: rng.exponential(size=(reps, n, 2)), 0.0, 0.5),
  }
  for name, (draw, mean, better) in draws.items():
    for design in (paired, unpaired):
      samples = {n: [design(*v.T) for v in draw(n)] for n in sizes}
      found = {n: [comparison.difference(two) for two in samples[n]] for n in sizes}
      t = [covered(found[n], mean) for n in sizes]
      found = {n: [comparison.probability_better(two) for two in samples[n]] for n in sizes}
      p = [covered(found[n], better) for n in sizes]
      found = {n: [comparison.sd_ratio(two) for two in samples[n]] for n in sizes}
      ratio = [covered(found[n], 3 ** -(len(name) > 12)) for n in sizes]
      found = {
        n: [beside.bootstrap_difference(two, rng, draws=499) for two in samples[n][:1000]]
        for n in sizes
      }
      bca = [covered(found[n], mean) for n in sizes]
      for label, rates in (("t", t), ("P(A > B)", p), ("ratio of sds", ratio), ("BCa", bca)):
        line(f"coverage, {name}, {design.__name__}, {label}, 5/10/20/50 runs", rates)
      assert design is unpaired or min(p) >= 0.94
      assert name == "exponential" or all(within(r, 0.95, reps) for r in t[1:])
  with capsys.disabled():
    print("", *lines, sep="\n")
