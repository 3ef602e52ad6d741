"""Pairs of runs in crossed designs, and on new examples: by leaving out for real, and coverage."""

import functools
import itertools
import math

import numpy as np
import pytest
import scipy.stats
from test_stats_pairs import covered, restless_truth

from seedlab import metrics
from seedlab.errors import UserError
from seedlab.stats import crossed_pairs, pairs

FIRST, SECOND = (x.ravel() for x in np.meshgrid([5, 8, 9, 11], [0, 2, 4, 7, 6], indexing="ij"))
PREDICTIONS = np.random.default_rng(0).dirichlet([1, 1, 1], (20, 13))
KINDS = {"second": (1,), "first": (0,), "both": (0, 1)}


def mean_over(predictions, first, second, kind):
  """Pair by pair: equal levels exactly on the axes that are not varied."""
  found = [
    np.abs(predictions[m] - predictions[j]).sum(-1).mean()
    for m, j in itertools.combinations(range(len(first)), 2)
    if (first[m] != first[j], second[m] != second[j]) == (0 in KINDS[kind], 1 in KINDS[kind])
  ]
  return np.mean(found)


def tables(predictions, first=FIRST, second=SECOND):
  rows = functools.partial(pairs.l1_rows, predictions)
  return crossed_pairs.pair_tables(rows, first, second)


def left_out(predictions, kind, axis):
  levels = (FIRST, SECOND)[axis]
  found = []
  for level in np.unique(levels):
    keep = levels != level
    found.append(mean_over(predictions[keep], FIRST[keep], SECOND[keep], kind))
  return np.array(found)


def combined(estimate, *parts):
  """(low, high) of several jackknives, from pseudovalues."""
  pseudo = [len(x) * estimate - (len(x) - 1) * x for x in parts]
  centre = estimate + sum(x.mean() - estimate for x in pseudo)
  squares = np.array([x.var(ddof=1) / len(x) for x in pseudo])
  df = squares.sum() ** 2 / sum(v**2 / (len(x) - 1) for v, x in zip(squares, pseudo, strict=True))
  half = scipy.stats.t.ppf(0.975, df) * math.sqrt(squares.sum())
  return centre - half, centre + half


def test_by_hand():
  """Distances within two groups of three levels: sums 2, 3, 3 and 6, 4, 8; mean 26 / 12."""
  rows = np.array([[[0, 1, 1], [1, 0, 2], [1, 2, 0]], [[0, 1, 5], [1, 0, 3], [5, 3, 0]]]).sum(2)
  assert crossed_pairs.crossed_mean(rows).estimate == pytest.approx(26 / 12)
  low, high = np.log([crossed_pairs.crossed_mean(rows).low, crossed_pairs.crossed_mean(rows).high])
  # Without level 0: 2 and 3; without 1: 1 and 5; without 2: 1 and 1.
  expected = combined(math.log(26 / 12), np.log([5 / 2, 6 / 2, 2 / 2]))
  assert (low, high) == pytest.approx(expected)
  again = crossed_pairs.crossed_mean(rows, new_groups=True)
  expected = combined(math.log(26 / 12), np.log([18 / 6, 8 / 6]), np.log([5 / 2, 3, 1]))
  assert np.log([again.low, again.high]) == pytest.approx(expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("new_groups", [False, True])
def test_interval_from_leaving_each_level_out_for_real(kind, new_groups):
  order = np.random.default_rng(1).permutation(20)  # runs in any sequence
  table = getattr(tables(PREDICTIONS[order], FIRST[order], SECOND[order]), kind)
  found = crossed_pairs.crossed_mean(table, KINDS[kind], new_groups)
  full = mean_over(PREDICTIONS, FIRST, SECOND, kind)
  axes = (0, 1) if new_groups else KINDS[kind]
  parts = [np.log(left_out(PREDICTIONS, kind, axis)) for axis in axes]
  low, high = np.exp(combined(math.log(full), *parts))
  assert (found.estimate, found.low, found.high) == pytest.approx((full, low, high))


@pytest.mark.parametrize("kind", KINDS)
def test_a_difference_leaves_the_level_out_of_both(kind):
  other = np.random.default_rng(2).dirichlet([3, 1, 1], (20, 13))
  a, b = (getattr(tables(x), kind) for x in (PREDICTIONS, other))
  full = [mean_over(x, FIRST, SECOND, kind) for x in (PREDICTIONS, other)]
  parts = [[left_out(x, kind, axis) for axis in (0, 1)] for x in (PREDICTIONS, other)]
  apart = crossed_pairs.crossed_difference(a, b, KINDS[kind], new_groups=True)
  low, high = combined(full[0] - full[1], *(x - y for x, y in zip(*parts, strict=True)))
  assert (apart.estimate, apart.low, apart.high) == pytest.approx((full[0] - full[1], low, high))


def test_one_group_is_the_run_jackknife():
  rows = pairs.l1_rows(PREDICTIONS)
  one, all_runs = crossed_pairs.crossed_mean(rows[None]), pairs.pair_mean(rows)
  assert (one.estimate, one.low, one.high) == pytest.approx(
    (all_runs.estimate, all_runs.low, all_runs.high)
  )


@pytest.mark.parametrize("kind", KINDS)
def test_intervals_of_higher_level_contain_those_of_lower(kind):
  """As Holm's correction needs."""
  a, b = getattr(tables(PREDICTIONS), kind), getattr(tables(PREDICTIONS**2), kind)
  for new_groups in (False, True):
    for function in (
      functools.partial(crossed_pairs.crossed_mean, a),
      functools.partial(crossed_pairs.crossed_difference, a, b),
    ):
      found = [function(KINDS[kind], new_groups, level) for level in (0.5, 0.9, 0.95, 0.99, 0.999)]
      assert all(x.low > y.low and x.high < y.high for x, y in itertools.pairwise(found))


def test_what_does_not_differ_has_no_interval():
  table = tables(PREDICTIONS).second
  same = crossed_pairs.crossed_difference(table, table)
  assert same.estimate == 0 and math.isnan(same.low)  # nothing varies: nothing to judge by
  by_first = PREDICTIONS[np.searchsorted([5, 8, 9, 11], FIRST)]  # the second factor does nothing
  found = tables(by_first)
  assert crossed_pairs.crossed_mean(found.second).estimate == 0
  assert math.isnan(crossed_pairs.crossed_mean(found.second).low)
  assert crossed_pairs.crossed_mean(found.both, (0, 1)).estimate == pytest.approx(
    crossed_pairs.crossed_mean(found.first, (0,)).estimate
  )
  alike = tables(np.repeat(PREDICTIONS[:1], 20, axis=0))
  assert all(
    crossed_pairs.crossed_mean(getattr(alike, k), v).estimate == 0 for k, v in KINDS.items()
  )


def test_what_runs_that_share_neither_have_in_common_is_not_rounding():
  """Lists of ten with an item of the first level and two of the second: 0.6 - 0.2 - 0.4."""
  first, second = (x.ravel() for x in np.mgrid[:3, :3])
  own = 1000 + np.arange(9 * 7).reshape(9, 7)
  lists = np.column_stack([first, 100 + second, 200 + second, own])[:, None]
  rows = functools.partial(metrics.list_overlap_rows, lists)
  found = crossed_pairs.pair_tables(rows, first, second)
  np.testing.assert_allclose(found.second, 0.2)
  np.testing.assert_allclose(found.first, 0.4)
  np.testing.assert_array_equal(found.both, 0)


def test_few_levels():
  rows = np.array([[1.0, 1.0], [2.0, 2.0]])
  assert math.isnan(crossed_pairs.crossed_mean(rows).low)
  assert math.isnan(crossed_pairs.crossed_mean(np.ones((1, 4)), new_groups=True).low)
  with pytest.raises(UserError, match="one level has no pairs; train at least two"):
    crossed_pairs.crossed_mean([[1.0], [2.0]])


def test_other_distances_and_churn():
  """Tables of any rows within groups: here against all pairs of the distance matrix."""
  apart = [metrics.hellinger(p, PREDICTIONS).mean(-1) for p in PREDICTIONS]
  matrix = np.reshape(apart, (4, 5, 4, 5))
  rows = functools.partial(pairs.distance_rows, PREDICTIONS, metrics.hellinger)
  first, second = (np.searchsorted(np.unique(x), x) for x in (FIRST, SECOND))
  found = crossed_pairs.pair_tables(rows, first, second)
  by_level = np.empty((4, 5, 4, 5))
  by_level[np.ix_(range(4), second[:5], range(4), second[:5])] = matrix
  np.testing.assert_allclose(found.second, np.einsum("iaib->ia", by_level))
  np.testing.assert_allclose(found.first, np.einsum("iaja->ia", by_level))
  apart = by_level.sum((2, 3)) - found.second - found.first
  np.testing.assert_allclose(found.both, apart)


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: crossed_pairs.crossed_mean(np.ones(4)), r"\[G, L\], not \(4,\)"),
    (lambda: crossed_pairs.crossed_mean([[1, 2, math.nan]]), r"cell \[0 2\] are not finite"),
    (lambda: crossed_pairs.crossed_mean(np.ones((3, 3)), varied=()), "must name axis 0, 1"),
    (lambda: crossed_pairs.crossed_mean(np.ones((3, 3)), varied=(2,)), r"varied=\(2,\)"),
    (
      lambda: crossed_pairs.crossed_difference(np.ones((3, 3)), np.ones((3, 4))),
      "the same levels",
    ),
    (lambda: tables(PREDICTIONS[1:], FIRST[1:], SECOND[1:]), "not a full crossed design"),
  ],
)
def test_refuses(call, message):
  with pytest.raises(ValueError, match=message):
    call()


# New examples.


def test_new_examples_by_leaving_out():
  rng = np.random.default_rng(3)
  a = rng.random((6, 30))
  users = rng.integers(0, 7, 30) * 100

  def mean(x):
    return np.mean(
      [np.abs(x[m] - x[j]).mean() for m, j in itertools.combinations(range(len(x)), 2)]
    )

  def logs(x, clusters):
    runs = [math.log(mean(np.delete(x, m, 0))) for m in range(6)]
    return np.array(runs), np.array(
      [math.log(mean(x[:, clusters != c])) for c in np.unique(clusters)]
    )

  for clusters in (users, None):
    chosen = np.arange(30) if clusters is None else clusters
    found = pairs.new_examples_mean(pairs.l1_rows(a), pairs.example_differences(a), clusters)
    low, high = np.exp(combined(math.log(mean(a)), *logs(a, chosen)))
    assert (found.estimate, found.low, found.high) == pytest.approx((mean(a), low, high))


def test_new_examples_refuses():
  x = np.random.default_rng(4).random((5, 9))
  rows, examples = pairs.l1_rows(x), pairs.example_differences(x)
  with pytest.raises(ValueError, match="not of the same pairs"):
    pairs.new_examples_mean(rows, 2 * examples)
  with pytest.raises(ValueError, match=r"one an example, not \(4,\)"):
    pairs.new_examples_mean(rows, examples, np.arange(4))
  assert math.isnan(pairs.new_examples_mean(rows, examples, np.zeros(9)).low)


# A world with a known answer: the run with initialisation i and order j predicts
# s_i r_j q_ij (a b_je + sqrt(1-a²) c_ije) on example e, with log-normal scales and normal b and c.
# Two orders of one initialisation differ by s_i T, with T as in `restless_truth`.

SPREADS = {"init": 0.3, "order": 0.3, "both": 0.2}


def world(rng, inits, orders, examples=20, shared=0.7):
  s = np.exp(rng.normal(0, SPREADS["init"], (inits, 1, 1)))
  r = np.exp(rng.normal(0, SPREADS["order"], (1, orders, 1)))

  def predictions(scale):
    q = np.exp(rng.normal(0, SPREADS["both"], (inits, orders, 1)))
    b, c = rng.normal(size=(1, orders, examples)), rng.normal(size=(inits, orders, examples))
    return scale * s * r * q * (shared * b + math.sqrt(1 - shared**2) * c)

  return s, predictions(1.0), predictions(0.8)


def rows_of(predictions, kind):
  p = predictions if kind != "first" else predictions.swapaxes(0, 1)
  if kind == "both":
    flat = p.reshape(-1, p.shape[-1])
    apart = np.abs(flat[:, None] - flat).mean(-1).reshape(*p.shape[:2], *p.shape[:2])
    i, j = np.arange(p.shape[0]), np.arange(p.shape[1])
    apart[i, :, i, :] = 0
    apart[:, j, :, j] = 0
    return apart.sum((2, 3))
  rows = np.abs(p[:, :, None] - p[:, None]).mean(-1).sum(2)
  return rows if kind == "second" else rows.T


def coverages(seed, inits, orders, samples):
  """Of each interval: its own truth; and of the narrow one, what it does not promise."""
  rng = np.random.default_rng(seed)
  truth = restless_truth(math.hypot(SPREADS["order"], SPREADS["both"]))
  anew = truth * math.exp(SPREADS["init"] ** 2 / 2)
  differing = restless_truth(math.sqrt(sum(x**2 for x in SPREADS.values())))
  found = {name: [] for name in ("these", "new", "new by these", "difference", "both")}
  for _ in range(samples):
    s, a, b = world(rng, inits, orders)
    rows, other = rows_of(a, "second"), rows_of(b, "second")
    these = crossed_pairs.crossed_mean(rows)
    found["these"].append(covered([these], s.mean() * truth))
    found["new by these"].append(covered([these], anew))
    found["new"].append(covered([crossed_pairs.crossed_mean(rows, new_groups=True)], anew))
    apart = crossed_pairs.crossed_difference(rows, other)
    found["difference"].append(covered([apart], 0.2 * s.mean() * truth))
    both = crossed_pairs.crossed_mean(rows_of(a, "both"), (0, 1))
    found["both"].append(covered([both], differing))
  return {name: float(np.mean(values)) for name, values in found.items()}


def test_coverage():
  found = coverages(5, 4, 8, 500)
  assert 0.92 < found["these"] < 0.98 and 0.91 < found["difference"] < 0.98
  assert found["new"] > 0.9 and found["both"] > 0.9
  assert found["new by these"] < found["new"] - 0.05


def users_world(rng, runs, users, spread=0.4):
  """Clicks of users who differ in how unsettled they are, 1 to 9 each."""
  sizes = rng.integers(1, 10, users)
  t = np.repeat(np.exp(rng.normal(0, spread, users)), sizes)
  s = np.exp(rng.normal(0, 0.2, (runs, 1)))
  return s * t * rng.normal(size=(runs, len(t))), np.repeat(np.arange(users), sizes)


def users_coverages(seed, runs, users, samples):
  rng, found = np.random.default_rng(seed), {"runs": [], "examples": [], "users": []}
  truth = restless_truth(0.2) * math.exp(0.4**2 / 2)
  for _ in range(samples):
    p, of_user = users_world(rng, runs, users)
    rows, examples = pairs.l1_rows(p), pairs.example_differences(p)
    found["runs"].append(covered([pairs.pair_mean(rows)], truth))
    found["examples"].append(covered([pairs.new_examples_mean(rows, examples)], truth))
    found["users"].append(covered([pairs.new_examples_mean(rows, examples, of_user)], truth))
  return {name: float(np.mean(values)) for name, values in found.items()}


def test_coverage_for_new_users():
  found = users_coverages(6, 8, 40, 500)
  assert 0.92 < found["users"] < 0.98
  assert found["runs"] < found["examples"] < found["users"] - 0.02


@pytest.mark.slow
def test_coverage_table():
  """Prints the tables of docs/statistics.md."""
  print("\n| groups x levels | these groups | new groups | difference | both | narrow |")
  for inits, orders in ((4, 4), (4, 8), (4, 16), (8, 8), (16, 16)):
    found = coverages(100 + inits + orders, inits, orders, 2000)
    names = ("these", "new", "difference", "both", "new by these")
    print(f"| {inits} x {orders} |", " | ".join(f"{100 * found[name]:.1f}" for name in names), "|")
    assert 0.92 < found["these"] < 0.98 and 0.91 < found["difference"] < 0.98
    assert found["new"] > 0.88 and found["both"] > 0.88
  print("\n| runs, users | users | examples | runs alone |")
  for runs, users in ((8, 20), (8, 100), (32, 100)):
    found = users_coverages(200 + runs + users, runs, users, 2000)
    cells = (found[name] for name in ("users", "examples", "runs"))
    print(f"| {runs}, {users} |", " | ".join(f"{100 * cell:.1f}" for cell in cells), "|")
    assert 0.91 < found["users"] < 0.98
