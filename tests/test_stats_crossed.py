"""Crossed designs: worked numbers, second routes over pairs of cells, and simulated coverage."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats

from seedlab.stats import crossed

# Rows 1 and 7, columns 2 and 6, mean 4, interaction ±1: MS 36, 16 and 4.
SQUARE = [[0.0, 2.0], [4.0, 10.0]]


def estimates(result):
  return {key: interval.estimate for key, interval in result.items()}


def test_components_by_hand():
  variances = estimates(crossed.components(SQUARE, ("init", "order")))
  assert variances == pytest.approx(
    {("init",): (36 - 4) / 2, ("order",): (16 - 4) / 2, ("init", "order"): 4}
  )
  effects = crossed.effects(SQUARE, ("init", "order"))
  assert effects["init"].first.estimate == pytest.approx(16 / 26)
  assert effects["init"].total.estimate == pytest.approx(20 / 26)
  assert effects["order"].first.estimate == pytest.approx(6 / 26)
  assert effects["order"].total.estimate == pytest.approx(10 / 26)
  assert math.isnan(effects["init"].first.low)  # two levels: nothing can be left out


def test_mean_by_hand():
  """V = (36 + 16 - 4) / 4 = 12; degrees of freedom 12² / (9² + 4²)."""
  interval = crossed.mean(SQUARE)
  half = scipy.stats.t.ppf(0.975, 144 / 97) * math.sqrt(12)
  assert (interval.estimate, interval.low, interval.high) == pytest.approx((4, 4 - half, 4 + half))


def test_the_variance_of_the_mean_is_at_least_that_of_one_factor():
  """Rows ±1, columns ±2, interaction ±3: MS 4, 16 and 36, and 4 + 16 - 36 < 0."""
  interval = crossed.mean([[0.0, -2.0], [-4.0, 6.0]])
  half = scipy.stats.t.ppf(0.975, 4**2 / (1**2 + 4**2)) * math.sqrt(16 / 4)
  assert (interval.estimate, interval.low, interval.high) == pytest.approx((0, -half, half))


def test_components_from_pairs_of_cells():
  """σ² = half the mean squared difference of cells that share no level; less what shared ones
  leave: the total effect of f from cells that differ in f alone."""
  values = np.random.default_rng(0).gamma(2, size=(3, 4, 5))

  def half_square(same):
    """Over pairs of cells with equal levels exactly on the axes `same`."""
    cells = list(np.ndindex(values.shape))
    squares = [
      (values[a] - values[b]) ** 2 / 2
      for a, b in itertools.combinations(cells, 2)
      if {f for f in range(3) if a[f] == b[f]} == same
    ]
    return np.mean(squares)

  variances = estimates(crossed.components(values, "abc"))
  whole = half_square(set())
  assert sum(variances.values()) == pytest.approx(whole)
  for f, name in enumerate("abc"):
    effect = crossed.effects(values, "abc")[name]
    assert effect.total.estimate == pytest.approx(half_square({0, 1, 2} - {f}) / whole)
    assert effect.first.estimate == pytest.approx(1 - half_square({f}) / whole)


def test_the_other_half_gives_covariances():
  rng = np.random.default_rng(1)
  a, b = rng.normal(size=(2, 4, 5))
  names = ("init", "order")
  both, same = (estimates(crossed.components(a, names, x)) for x in (b, a))
  assert same == pytest.approx(estimates(crossed.components(a, names)))
  polar = {
    key: (plus - minus) / 4
    for (key, plus), minus in zip(
      estimates(crossed.components(a + b, names)).items(),
      estimates(crossed.components(a - b, names)).values(),
      strict=True,
    )
  }
  assert both == pytest.approx(polar)


def test_intervals_leave_out_each_level_of_each_factor():
  values = np.random.default_rng(2).normal(size=(5, 4))
  interval = crossed.effects(values, "ab")["a"].total
  parts = []
  for axis, size in enumerate(values.shape):
    left = [
      crossed.effects(np.delete(values, i, axis), "ab")["a"].total.estimate for i in range(size)
    ]
    parts.append((size - 1) / size * np.sum((np.array(left) - np.mean(left)) ** 2))
  df = sum(parts) ** 2 / (parts[0] ** 2 / 4 + parts[1] ** 2 / 3)
  half = scipy.stats.t.ppf(0.975, df) * math.sqrt(sum(parts))
  assert interval.high - interval.estimate == pytest.approx(half)
  assert interval.estimate - interval.low == pytest.approx(half)


def draw(rng, shape, variances):
  """Normal effects: variances of factor 1, factor 2 and the rest."""
  a, b, ab = np.sqrt(variances)
  rows, columns = shape
  return (
    rng.normal(0, a, (rows, 1))
    + rng.normal(0, b, (1, columns))
    + rng.normal(0, ab, (rows, columns))
  )


def test_components_are_unbiased_and_sometimes_negative():
  rng = np.random.default_rng(3)
  truth = {("a",): 0.3, ("b",): 0.05, ("a", "b"): 0.65}
  samples = [
    estimates(crossed.components(draw(rng, (4, 6), tuple(truth.values())), "ab"))
    for _ in range(600)
  ]
  for key, expected in truth.items():
    values = np.array([sample[key] for sample in samples])
    assert abs(values.mean() - expected) < 4 * values.std() / math.sqrt(600)
  assert min(sample["b",] for sample in samples) < 0


def test_halves_see_only_what_new_examples_would_show():
  """Error probabilities differ by init alone; a test set of 40 adds chance: only halves lose it."""
  rng = np.random.default_rng(4)
  whole, between = [], []
  for _ in range(500):
    probabilities = np.clip(0.3 + rng.normal(0, 0.05, (6, 1)), 0, 1)
    errors = rng.random((6, 6, 40)) < probabilities[..., None]
    whole.append(estimates(crossed.components(errors.mean(-1), "ab")))
    between.append(estimates(crossed.components(*_split(errors, rng))))
  for key, expected in ((("a",), 0.05**2), (("a", "b"), 0)):
    values = np.array([sample[key] for sample in between])
    assert abs(values.mean() - expected) < 4 * values.std() / math.sqrt(500)
  assert np.mean([sample["a", "b"] for sample in whole]) > 0.004  # 0.21 / 40


def _split(errors, rng):
  first, second = crossed.halves(errors, rng)
  return first, "ab", second


def test_halves_are_disjoint_equal_and_repeatable():
  errors = np.zeros((2, 3, 7))
  errors[...] = 2.0 ** np.arange(7)
  first, second = crossed.halves(errors, np.random.default_rng(5))
  used = int(first[0, 0] * 3), int(second[0, 0] * 3)
  assert used[0] & used[1] == 0 and [bin(u).count("1") for u in used] == [3, 3]
  again, _ = crossed.halves(errors, np.random.default_rng(5))
  np.testing.assert_array_equal(first, again)
  assert any(
    crossed.halves(errors, np.random.default_rng(s))[0][0, 0] != first[0, 0] for s in (6, 7)
  )


def hit(interval, truth):
  return interval.low <= truth <= interval.high


def effect_coverage(rng, size, variances, samples):
  """Coverage of S_a, T_a, S_b, T_b."""
  a, b, ab = np.array(variances) / sum(variances)
  hits = []
  for _ in range(samples):
    effects = crossed.effects(draw(rng, (size, size), variances), "ab")
    hits.append(
      [
        hit(effects["a"].first, a),
        hit(effects["a"].total, a + ab),
        hit(effects["b"].first, b),
        hit(effects["b"].total, b + ab),
      ]
    )
  return np.mean(hits, axis=0)


def mean_coverage(rng, shape, variances, samples):
  """Coverage of the crossed interval, and of Student's as if the runs were independent."""
  hits = []
  for _ in range(samples):
    values = draw(rng, shape, variances)
    naive = scipy.stats.ttest_1samp(values.ravel(), 0).confidence_interval()
    hits.append([hit(crossed.mean(values), 0), naive.low <= 0 <= naive.high])
  return np.mean(hits, axis=0)


def test_coverage_of_the_effects():
  """0.37 first-order and 1.04 total were measured for init on digits: mostly interaction."""
  coverage = effect_coverage(np.random.default_rng(6), 16, (0.35, 0.1, 0.55), 400)
  assert (coverage > 0.91).all()


@pytest.mark.parametrize(
  "variances", [(0.35, 0.1, 0.55), (0.5, 0.5, 0.001), (0, 0, 1), (1, 0, 0.1)]
)
def test_coverage_of_the_mean(variances):
  coverage, naive = mean_coverage(np.random.default_rng(7), (10, 12), variances, 800)
  assert 0.92 < coverage < 0.995
  assert naive < 0.75 or variances == (0, 0, 1)


def test_a_higher_level_gives_a_wider_interval():
  values = np.random.default_rng(8).normal(size=(5, 6)) + np.arange(6)
  levels = (0.5, 0.9, 0.95, 0.99)
  found = []
  for level in levels:
    effects = crossed.effects(values, "ab", level=level)
    found.append([
      crossed.mean(values, level),
      *crossed.components(values, "ab", level=level).values(),
      *(one for f in "ab" for one in (effects[f].first, effects[f].total)),
    ])  # fmt: skip
  for one in zip(*found, strict=True):
    assert tuple(x.level for x in one) == levels
    assert all(x.low > y.low and x.high < y.high for x, y in itertools.pairwise(one))


def test_equal_values_have_no_interval():
  values = np.full((4, 4), 0.1)
  interval = crossed.mean(values)
  assert interval.estimate == 0.1 and math.isnan(interval.low)
  effect = crossed.effects(values, "ab")["a"]
  assert math.isnan(effect.first.estimate) and math.isnan(effect.total.high)
  assert set(estimates(crossed.components(values, "ab")).values()) == {0}


@pytest.mark.parametrize("size", [2, 3])
def test_intervals_of_components_and_effects_need_three_levels(size):
  values = np.random.default_rng(9).normal(size=(size, 4))
  effects = crossed.effects(values, "ab")
  for one in (*crossed.components(values, "ab").values(), effects["a"].first, effects["b"].total):
    assert math.isfinite(one.estimate) and math.isfinite(one.low) == (size == 3)


def test_design_sorts_runs_into_their_cells():
  seeds = {"init": [7, 3, 7, 3, 7, 3], "sample": [0] * 6, "order": [2, 1, 1, 0, 0, 2]}
  array, levels = crossed.design([10.0, 2, 30, 4, 5, 6], seeds)
  assert {stream: list(seeds) for stream, seeds in levels.items()} == {
    "init": [3, 7],
    "order": [0, 1, 2],
  }
  np.testing.assert_array_equal(array, [[4, 2, 6], [5, 30, 10]])


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (
      lambda: crossed.design([1.0, 2, 3], {"init": [0, 0, 1], "order": [0, 1, 0]}),
      "0 runs with init=1, order=1 instead of 1",
    ),
    (
      lambda: crossed.design(range(5), {"init": [0, 0, 1, 1, 1], "order": [0, 1, 0, 1, 1]}),
      "2 runs with init=1, order=1",
    ),
    (  # a joint design: run r seeds every stream with r
      lambda: crossed.design([1.0, 2, 3], {"init": [0, 1, 2], "order": [0, 1, 2]}),
      r"6 of 9 combinations",
    ),
    (lambda: crossed.design([1.0, 2], {"init": [0, 1], "order": [0, 0]}), r"not \['init'\]"),
    (lambda: crossed.design([1.0, 2], {"init": [0, 1, 2]}), "init needs a seed for each of 2"),
    (lambda: crossed.mean([1.0, 2, 3]), r"two levels or more, not \(3,\)"),
    (lambda: crossed.effects([[1.0, 2]], "ab"), r"two levels or more, not \(1, 2\)"),
    (lambda: crossed.mean([[1.0, 2], [math.nan, 3]]), r"1 of 4 values .* first at \(1, 0\)"),
    (lambda: crossed.effects(SQUARE, "abc"), "must name the 2 axes"),
    (lambda: crossed.effects(SQUARE, "aa"), "each once"),
    (lambda: crossed.effects(SQUARE, "ab", [[1.0, 2, 3], [4, 5, 6]]), "of the same design"),
    (lambda: crossed.halves(np.zeros((2, 2, 1)), np.random.default_rng(0)), "two test examples"),
  ],
)
def test_refuses(call, message):
  with pytest.raises(ValueError, match=message):
    call()


def draw_three(rng, size, variances):
  """Normal effects of every non-empty set of three factors, {"a": σ²_a, ..., "abc": σ²_abc}."""
  return sum(
    rng.normal(0, math.sqrt(variance), [size if factor in names else 1 for factor in "abc"])
    for names, variance in variances.items()
  )


EVEN = dict.fromkeys(("a", "b", "c", "ab", "ac", "bc", "abc"), 1 / 7)
UNEVEN = {"a": 0.3, "b": 0.1, "c": 0.2, "ab": 0.05, "ac": 0.1, "bc": 0.05, "abc": 0.2}


def component_coverage(rng, variances, samples):
  """Coverage of each component's interval, and its half width over 1.96 sds of the estimate."""
  drawn = [crossed.components(draw_three(rng, 16, variances), "abc") for _ in range(samples)]
  found = {}
  for names, variance in variances.items():
    intervals = [one[tuple(names)] for one in drawn]
    half = np.mean([(one.high - one.low) / 2 for one in intervals])
    wide = half / 1.96 / np.std([one.estimate for one in intervals])
    found[names] = (np.mean([hit(one, variance) for one in intervals]), wide)
  return found


def test_planted_components_are_recovered():
  found = component_coverage(np.random.default_rng(13), UNEVEN, 150)
  for names, (coverage, wide) in found.items():
    assert 0.88 < coverage < 1, names
    assert 0.85 < wide < 1.4, names


@pytest.mark.slow
@pytest.mark.parametrize("variances", [EVEN, UNEVEN])
def test_coverage_of_planted_components(variances):
  """Prints the table of docs/statistics.md."""
  found = component_coverage(np.random.default_rng(1), variances, 1000)
  print("\n|", " | ".join(f"{names} {coverage:.3f}" for names, (coverage, _) in found.items()), "|")
  assert all(0.92 < coverage < 0.97 for coverage, _ in found.values())


def test_intervals_of_components_by_hand():
  """Cube roots of mean squares, without each level; an interaction takes its factors' mean."""
  values = np.random.default_rng(14).normal(size=(5, 4)) + np.arange(5)[:, None]
  found = crossed.components(values, "ab")

  def squares(x):  # mean squares of rows and of the rest, and their numbers of runs a level
    rows, columns = x.shape
    fitted = x.mean(1, keepdims=True) + x.mean(0) - x.mean()
    rest = ((x - fitted) ** 2).sum() / (rows - 1) / (columns - 1)
    return x.mean(1).var(ddof=1), rest

  first, rest = squares(values)
  shift = rest / 4  # MS_a / 4 = σ²_a + MS_ab / 4
  left = [
    [squares(np.delete(values, i, axis)) for i in range(size)]
    for axis, size in enumerate(values.shape)
  ]
  of_a = [
    (len(x) - 1) ** 2 / len(x) * np.var([
      np.cbrt(f - r / ((4, 3)[axis]) + shift) for f, r in x
    ], ddof=1)
    for axis, x in enumerate(left)
  ]  # fmt: skip
  df = sum(of_a) ** 2 / (of_a[0] ** 2 / 4 + of_a[1] ** 2 / 3)
  half = scipy.stats.t.ppf(0.975, df) * math.sqrt(sum(of_a))
  limits = [(np.cbrt(first) + sign * half) ** 3 - shift for sign in (-1, 1)]
  assert (found["a",].low, found["a",].high) == pytest.approx(limits)
  of_ab = [(len(x) - 1) ** 2 / len(x) * np.var([np.cbrt(r) for _, r in x], ddof=1) for x in left]
  half = scipy.stats.t.ppf(0.975, 7) * math.sqrt(np.mean(of_ab))
  limits = [(np.cbrt(rest) + sign * half) ** 3 for sign in (-1, 1)]
  assert (found["a", "b"].low, found["a", "b"].high) == pytest.approx(limits)


def test_intervals_of_components_of_two_halves_by_hand():
  """The cube root is of the mean square within a half, the mean over both: not their product."""
  rng = np.random.default_rng(15)
  both = rng.normal(size=(5, 4)) + np.arange(5)[:, None]
  halves = both + 2 * rng.normal(size=(2, 5, 4)) * [[[1.0]], [[3.0]]]

  def products(x, y):
    """Mean products of rows, and of the rest."""
    rows, columns = x.shape
    x, y = (z - z.mean(0) for z in (x, y))
    rest = [z - z.mean(1, keepdims=True) for z in (x, y)]
    between = x.mean(1) @ y.mean(1) / (rows - 1)
    return columns * between, (rest[0] * rest[1]).sum() / (rows - 1) / (columns - 1)

  def component(x, y):
    rows, rest = products(x, y)
    return np.array([(rows - rest) / x.shape[1], rest])

  estimate = component(*halves)
  rows, rest = np.mean([products(x, x) for x in halves], axis=0)
  shift = np.array([rows / 4, rest]) - estimate
  parts = np.array([
    (size - 1) ** 2 / size * np.var([
      np.cbrt(component(*np.delete(halves, i, 1 + axis)) + shift) for i in range(size)
    ], axis=0, ddof=1)
    for axis, size in enumerate((5, 4))
  ])  # fmt: skip
  of_a, of_ab = parts.T
  df = sum(of_a) ** 2 / (of_a[0] ** 2 / 4 + of_a[1] ** 2 / 3)
  t = scipy.stats.t.ppf(0.95, [df, 7])
  wide = t * np.sqrt([sum(of_a), np.mean(of_ab)])
  found = crossed.components(halves[0], "ab", halves[1], level=0.9)
  for one, *numbers in zip(
    (found["a",], found["a", "b"]),
    estimate,
    *((np.cbrt(estimate + shift) + sign * wide) ** 3 - shift for sign in (-1, 1)),
    strict=True,
  ):
    assert (one.estimate, one.low, one.high) == pytest.approx(tuple(numbers))


@pytest.mark.slow
def test_coverage_tables():
  """Prints the tables of docs/statistics.md."""
  print("\n| levels | σ²_a | σ²_b | σ²_ab | S_a | T_a | S_b | T_b |\n" + "| --- " * 8 + "|")
  worlds = [(0.35, 0.1, 0.55), (0.05, 0.05, 0.9), (0.3, 0.3, 0.4), (0.8, 0.1, 0.1)]
  for size, variances in itertools.product((8, 16, 32), worlds):
    rng = np.random.default_rng([size, worlds.index(variances)])
    coverage = effect_coverage(rng, size, variances, 2000)
    print("|", " | ".join(map(str, (size, *variances, *np.round(coverage, 3)))), "|", flush=True)
    assert (coverage > 0.88).all()
  print("\n| shape | σ²_a | σ²_b | σ²_ab | crossed | as if independent |\n" + "| --- " * 6 + "|")
  shapes = [(4, 4), (8, 8), (16, 16), (16, 4)]
  worlds = [(0.35, 0.1, 0.55), (0.5, 0.5, 0.001), (0, 0, 1), (1, 0, 0.1)]
  for shape, variances in itertools.product(shapes, worlds):
    rng = np.random.default_rng([*shape, worlds.index(variances)])
    coverage, naive = mean_coverage(rng, shape, variances, 10_000)
    print("|", " | ".join(map(str, (shape, *variances, round(coverage, 3), round(naive, 3)))), "|")
    assert coverage > 0.92


@pytest.mark.slow
def test_coverage_table_of_the_test_halves():
  """Prints the third: chance errors of each half on top, as a share of one half's variance."""
  print("\n| levels | chance | σ²_a | T_a | T_a undefined |\n" + "| --- " * 5 + "|")
  for size, chance in itertools.product((8, 16), (0.5, 0.8)):
    rng = np.random.default_rng([size, int(10 * chance)])
    hits = []
    for _ in range(1000):
      values = draw(rng, (size, size), (0.35, 0.1, 0.55))
      noise = math.sqrt(chance / (1 - chance)) * rng.normal(size=(2, size, size))
      component = crossed.components(values + noise[0], "ab", values + noise[1])["a",]
      effect = crossed.effects(values + noise[0], "ab", values + noise[1])["a"].total
      hits.append([hit(component, 0.35), hit(effect, 0.9), math.isnan(effect.low)])
    component, effect, undefined = np.mean(hits, axis=0)
    print(f"| {size} | {chance} | {component:.3f} | {effect:.3f} | {undefined:.3f} |", flush=True)
    assert component > 0.85 and effect + undefined > 0.9
