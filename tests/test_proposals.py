"""Sessions of proposals: exact tests against other routes, the budget, and what a session errs."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats

from seedlab.stats import proposals, target
from seedlab.stats.comparison import Spread

LEVEL = proposals.level(1, 1000)


# The tests.


@pytest.mark.parametrize(("n", "m"), [(3, 10), (12, 24), (12, 5), (1, 4), (7, 7)])
def test_rank_test_without_ties_is_that_of_scipy(n, m):
  rng = np.random.default_rng(n)
  for shift in (-0.5, 0, 1, 3):
    a, b = rng.normal(shift, 1, n), rng.normal(size=m)
    exact = scipy.stats.mannwhitneyu(a, b, alternative="greater", method="exact").pvalue
    assert proposals.rank_test(a, b) == pytest.approx(exact, rel=1e-12)
    won = int((a[:, None] > b).sum())
    assert proposals.rank_tails(n, m)[won] == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize(("n", "m"), [(5, 6), (6, 5), (3, 9)])
def test_rank_test_with_ties_is_the_permutation_test_of_mid_ranks(n, m):
  rng = np.random.default_rng(m)
  for _ in range(5):
    a, b = rng.integers(0, 4, n) + 1.0, rng.integers(0, 4, m) + 0.0
    ranks = scipy.stats.rankdata(np.concatenate([a, b]))
    exact = scipy.stats.permutation_test(
      (ranks[:n], ranks[n:]),
      lambda x, y, axis: x.sum(axis),
      vectorized=True,
      n_resamples=10**5,
      alternative="greater",
    ).pvalue
    assert proposals.rank_test(a, b) == pytest.approx(exact, rel=1e-12)


def test_rank_test_by_hand():
  """Candidate {3, 2}, baseline {2, 1}: ranks 4, 2.5 | 2.5, 1; of the six pairs two reach 6.5."""
  assert proposals.rank_test([3, 2], [2, 1]) == pytest.approx(2 / 6)
  assert proposals.rank_test([3, 2.5], [2, 1]) == pytest.approx(1 / 6) == proposals.smallest_p(2, 2)
  assert proposals.rank_test([1, 1], [1, 1, 1]) == 1


def test_lost_seeds_have_the_worst_rank():
  lost = [-math.inf, 5, 6]
  assert proposals.rank_test(lost, [1, 2, 3, 4]) == proposals.rank_test([-9, 5, 6], [1, 2, 3, 4])
  assert proposals.rank_test(lost, [-math.inf, 1, 2]) == proposals.rank_test([0, 5, 6], [0, 1, 2])


def test_rounding_is_no_win():
  assert proposals.rank_test([0.1 + 0.2], [0.3]) == 1


def test_rank_test_holds_its_level_given_the_ties():
  """Over all ways to deal out the values, p <= x in at most a share x: to the last one."""
  rng = np.random.default_rng(0)
  values = rng.integers(0, 3, 9).astype(float)
  p = []
  for chosen in itertools.combinations(range(9), 4):
    others = [i for i in range(9) if i not in chosen]
    p.append(proposals.rank_test(values[list(chosen)], values[others]))
  p = np.array(p)
  for x in np.unique(p):
    assert np.mean(p <= x * (1 + 1e-9)) == pytest.approx(x, rel=1e-9)


def test_welch_and_floor_are_those_of_scipy():
  rng = np.random.default_rng(3)
  a, b = rng.normal(1, 2, 12), rng.normal(size=30)
  exact = scipy.stats.ttest_ind(a, b, equal_var=False, alternative="greater").pvalue
  assert proposals.welch_test(a, b) == pytest.approx(exact, rel=1e-10)
  exact = scipy.stats.ttest_ind(a, b, alternative="greater").pvalue
  assert proposals.floor_test(a, b, Spread(0, 0)) == pytest.approx(exact, rel=1e-10)
  z = (a.mean() - b.mean()) / (0.7 * math.sqrt(1 / 12 + 1 / 30))
  assert proposals.floor_test(a, b, Spread(0.7, math.inf)) == pytest.approx(scipy.stats.norm.sf(z))
  # A floor is as if the sums of squares of its runs were there too.
  more = rng.normal(size=20)
  squares = 11 * a.var(ddof=1) + 29 * b.var(ddof=1) + 19 * more.var(ddof=1)
  error = math.sqrt(squares / 59 * (1 / 12 + 1 / 30))
  p = proposals.floor_test(a, b, Spread(more.std(ddof=1), 19))
  assert p == pytest.approx(scipy.stats.t.sf((a.mean() - b.mean()) / error, 59))


def test_equal_values_are_judged_by_the_resolution_alone():
  assert proposals.welch_test([95.0, 95, 95], [94.0, 94, 94]) == 1
  h = 1.0
  t = 1 / math.sqrt(2 * h**2 / 12 / 3)
  assert proposals.welch_test([95.0, 95, 95], [94.0, 94, 94], h) == pytest.approx(
    scipy.stats.t.sf(t, 4)
  )


def test_evidence_of_lost_seeds():
  baseline = np.arange(20.0)
  candidate = np.arange(40.0, 52.0)
  one_lost = np.where(np.arange(12) == 3, -math.inf, candidate)
  assert proposals.evidence(candidate, baseline).kept(LEVEL)
  found = proposals.evidence(one_lost, baseline)
  assert found.rank > proposals.evidence(candidate, baseline).rank
  assert proposals.evidence(one_lost, baseline, Spread(1, math.inf)).mean == 1
  assert proposals.evidence([-math.inf] * 12, baseline).mean == 1
  assert not proposals.Evidence(LEVEL, 5.1 * LEVEL).kept(LEVEL)
  assert proposals.Evidence(LEVEL, 5 * LEVEL).kept(LEVEL)
  assert not proposals.Evidence(1.1 * LEVEL, 0).kept(LEVEL)


# The budget.


def test_levels_sum_to_the_budget():
  assert LEVEL == pytest.approx(4e-5)
  assert proposals.level(1000, 1000) == LEVEL
  assert proposals.level(1001, 1000) == pytest.approx(8e-6)
  assert sum(proposals.level(j, 7) for j in range(1, 400)) == pytest.approx(0.05)
  assert proposals.level(3, 100, "fdr", keeps=4) == pytest.approx(0.0025)
  assert proposals.level(101, 100, "fdr", keeps=4) == 0
  with pytest.raises(ValueError, match="at least 1"):
    proposals.level(0, 10)


# What a session errs, and finds.


NOISE = {
  "normal": lambda rng, shape: rng.normal(size=shape),
  "exponential": lambda rng, shape: rng.exponential(size=shape) - 1,
  "1 % collapse": lambda rng, shape: rng.normal(size=shape) - 20 * (rng.random(shape) < 0.01),
}


def session(rng, baseline, gains, df=None, mode="strict", spread=1.0, noise="normal"):
  """kept[P] and seeds used[P] of one session; gains in sds over the baseline at that time."""
  n, made, keeps, runs = len(gains), 0, 0, baseline
  kept, seeds = np.zeros(n, bool), np.full(n, proposals.SCREEN)
  base, floor, draw = None, None, NOISE[noise]
  while made < n:
    if base is None:
      base = np.sort(draw(rng, runs))
      floor = df if df is None else Spread(learnt(rng, df, draw), df)
    level = proposals.level(1, n, mode, keeps)  # that of the first block
    at = np.arange(made, min(made + (1000 if not gains.any() else 40), n))
    values = gains[at, None] + spread * draw(rng, (len(at), proposals.MOST))
    passed = proposals.passes(values[:, : proposals.SCREEN], base, floor)
    found = passed.copy()
    if floor:
      found[passed] = proposals.floor_test(values[passed], base, floor) <= level
    else:
      won = np.searchsorted(base, values).sum(1)
      found &= proposals.rank_tails(proposals.MOST, runs)[won] <= level
      found[found] = proposals.welch_test(values[found], base) <= proposals.GUARD * level
    last = int(np.argmax(found)) if found.any() else len(at) - 1
    seeds[at[: last + 1]] += 9 * passed[: last + 1]
    made += last + 1
    if found[last]:
      kept[at[last]], keeps, runs, base = True, keeps + 1, 30, None  # fresh seeds of the winner
  return kept, seeds


def learnt(rng, df, draw):
  """The sd that df + 1 other runs show."""
  return draw(rng, df + 1).std(ddof=1) if 0 < df < math.inf else 1.0


def false_keeps(baseline, sessions, n=1000, df=None, seed=0, spread=1.0, noise="normal"):
  rng = np.random.default_rng(seed)
  any_kept, seeds = 0, 0.0
  for _ in range(sessions):
    kept, used = session(rng, baseline, np.zeros(n), df, spread=spread, noise=noise)
    any_kept += kept.any()
    seeds += used.mean()
  return any_kept / sessions, seeds / sessions


def fdr(baseline, sessions, share, gain=2.0, n=1000, seed=0):
  """Mean share of false keeps, and the share of the real gains that were found."""
  rng = np.random.default_rng(seed)
  false, found = [], []
  for _ in range(sessions):
    gains = np.where(rng.random(n) < share, gain, 0.0)
    kept, _ = session(rng, baseline, gains, mode="fdr")
    false.append((kept & (gains == 0)).sum() / max(kept.sum(), 1))
    found.append((kept & (gains > 0)).sum() / max((gains > 0).sum(), 1))
  return np.mean(false), np.mean(found)


def test_sessions_of_null_proposals_keep_their_promise():
  rate, seeds = false_keeps(10, 60)
  assert rate <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 60) and 4 < seeds < 6
  # "Keep it if it looks better" keeps what does nothing in nearly every session.
  rng = np.random.default_rng(1)
  naive = rng.normal(size=(1000, 3)).mean(1) - rng.normal(size=10).mean() > 1
  assert naive.any()


def test_the_promise_at_a_level_that_can_be_seen():
  """20 proposals at 0.002 each on one shared baseline: any false keep in at most 4 %."""
  rate, _ = false_keeps(10, 3000, n=20)
  assert 0.01 < rate < 0.04 + 3 * math.sqrt(0.04 * 0.96 / 3000)


def test_power_is_that_of_the_noncentral_t():
  """With one spread, and hardly anything stopped by the screen."""
  n, m, gain = 12, 24, 2.0
  shift = gain / math.sqrt(1 / n + 1 / m)
  exact = scipy.stats.nct.sf(scipy.stats.t.isf(LEVEL, n + m - 2), n + m - 2, shift)
  screened = scipy.stats.norm.sf((0.5 - gain) / math.sqrt(1 / 3 + 1 / m))
  found = proposals.power(m, gain, LEVEL, 0)
  assert exact - (1 - screened) - 0.02 < found < exact + 0.02
  known = scipy.stats.norm.sf(scipy.stats.norm.isf(LEVEL) - shift)
  assert proposals.power(m, gain, LEVEL, math.inf) == pytest.approx(known, abs=0.02)


def test_a_gain_of_two_sds_is_found():
  """With 12 seeds, in a session of 1,000 proposals (docs/referee.md)."""
  assert proposals.power(24, 2.0, LEVEL) > 0.78
  assert proposals.fewest_baseline(2.0, LEVEL) <= 26
  assert 19 <= proposals.fewest_baseline(2.0, LEVEL, 0) <= 24
  assert proposals.fewest_baseline(2.0, LEVEL, 19) <= 18
  assert proposals.fewest_baseline(2.0, LEVEL, math.inf) <= 12
  assert proposals.fewest_baseline(0.5, LEVEL) is None
  powers = [proposals.power(m, 2.0, LEVEL) for m in (7, 12, 24, 60)]
  assert powers == sorted(powers)


# Targets.


def test_target_is_the_one_sample_t_test():
  values = [3.279, 3.277, 3.2785, 3.276]
  exact = scipy.stats.ttest_1samp(values, 3.28, alternative="less").pvalue
  found = target.beyond(-np.array(values), -3.28)
  assert found.p_value == pytest.approx(exact) and found.p_below == pytest.approx(1 - exact)
  low = scipy.stats.ttest_1samp(values, 3.28, alternative="less").confidence_interval(0.99).high
  assert -found.bound == pytest.approx(low)


def test_target_with_a_floor_and_resolution():
  """By hand: sds 1 (2 degrees of freedom) and 2 (20) pool to (2 + 80) / 22."""
  found = target.beyond([1.0, 2.0, 3.0], 0.0, Spread(2.0, 20))
  assert found.sd == pytest.approx(math.sqrt(82 / 22)) and found.df == 22
  t = 2 / math.sqrt(82 / 22 / 3)
  assert found.p_value == pytest.approx(scipy.stats.t.sf(t, 22))
  known = target.beyond([1.0], 0.0, Spread(0.5, math.inf))
  assert known.p_value == pytest.approx(scipy.stats.norm.sf(2))
  assert target.beyond([95.0, 95.0, 95.0], 94.0, h=1.0).sd == pytest.approx(math.sqrt(1 / 12))
  assert math.isnan(target.beyond([1.0], 0.0).p_value)
  assert math.isnan(target.beyond([1.0, 1.0], 0.0).p_value)


def test_the_gap_that_a_target_needs():
  """5.2 sd with three runs, 2.0 with a floor of 20 runs; and by simulation."""
  assert target.gap(3) == pytest.approx(5.17, abs=0.01)
  assert target.gap(3, 19) == pytest.approx(1.96, abs=0.01)
  assert target.gap(1) == math.inf
  assert target.gap(4, math.inf) == pytest.approx((2.3263 + 0.8416) / 2, abs=1e-3)
  rng = np.random.default_rng(0)
  values = rng.normal(target.gap(5), 1, (20000, 5))
  p = scipy.stats.ttest_1samp(values, 0, axis=1, alternative="greater").pvalue
  assert np.mean(p < 0.01) == pytest.approx(0.8, abs=0.012)
  assert target.fewest_runs(target.gap(5)) == 5
  assert target.fewest_runs(0.01) is None and target.fewest_runs(-1) is None


# The tables of docs/statistics.md.


@pytest.mark.slow
def test_the_tables():
  print("\n| baseline | any false keep, % | seeds a null proposal |\n| --- | --- | --- |")
  for baseline in (10, 24, 30):
    rate, seeds = false_keeps(baseline, 1000, seed=baseline)
    print(f"| {baseline} | {100 * rate:.1f} | {seeds:.1f} |")
    assert rate <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 1000)
  print("\n| mode fdr: share of real gains | baseline | FDR, % | found, % |")
  print("| --- | --- | --- | --- |")
  for share in (0, 0.01, 0.1):
    for baseline in (10, 30):
      rate, found = fdr(baseline, 1000, share, seed=7)
      print(f"| {share:g} | {baseline} | {100 * rate:.1f} | {100 * found:.0f} |")
      assert rate <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 1000)


@pytest.mark.slow
def test_the_table_of_what_is_found():
  kinds = (None, 0, 19, math.inf)
  print("\n| gain, sd | baseline | rank and Welch | own, pooled | floor of 20 | known |")
  print("| --- | --- | --- | --- | --- | --- |")
  for gain in (1.0, 1.5, 2.0, 3.0):
    for m in (10, 18, 24, 30, 60):
      cells = [f"{100 * proposals.power(m, gain, LEVEL, df):.0f}" for df in kinds]
      print(f"| {gain:g} | {m} | {' | '.join(cells)} |")
    enough = [proposals.fewest_baseline(gain, LEVEL, df) or "none" for df in kinds]
    print(f"| {gain:g} | for 80 % | {' | '.join(map(str, enough))} |")


@pytest.mark.slow
def test_the_table_of_guards():
  """Rank test at the level, Welch's p at most c levels: power, and errors where spreads differ."""
  print("\n| Welch's p at most | found at 24 / 30 / 60 | doubled spread, 10 / 24 / 30 |")
  print("| --- | --- | --- |")
  cells = {c: ([], []) for c in (1, 2, 5, 10, math.inf)}
  for m in (24, 30, 60):
    rank, mean = both_p(m, 2.0, 1.0, 20_000)
    for c, (found, _) in cells.items():
      found.append(f"{100 * np.mean((rank <= LEVEL) & (mean <= c * LEVEL)):.0f}")
  for m in (10, 24, 30):
    rank, mean = both_p(m, 0.0, 2.0, 2_000_000)
    for c, (_, errors) in cells.items():
      errors.append(f"{np.mean((rank <= LEVEL) & (mean <= c * LEVEL)) / LEVEL:.1f}")
  for c, (found, errors) in cells.items():
    print(f"| {c:g} levels | {' / '.join(found)} % | {' / '.join(errors)} levels |")


def both_p(m, gain, spread, count, block=50_000):
  """p of both tests; 1 where the screen or a rank p far above the level settles it."""
  rng = np.random.default_rng(m)
  rank, mean = np.ones(count), np.ones(count)
  for start in range(0, count, block):
    size = min(block, count - start)
    a, b = rng.normal(gain, spread, (size, 12)), rng.normal(size=(size, m))
    at = np.flatnonzero(proposals.passes(a[:, :3], b, None))
    won = sum((a[at, i : i + 1] > b[at]).sum(1) for i in range(12))
    p = proposals.rank_tails(12, m)[won]
    at, p = at[p <= LEVEL], p[p <= LEVEL]
    rank[start + at], mean[start + at] = p, proposals.welch_test(a[at], b[at])
  return rank, mean


@pytest.mark.slow
def test_the_table_of_what_breaks():
  """Rates of sessions with any false keep where the assumptions fail; 300 sessions a row."""
  print("\n| what fails | rank and Welch | own | floor of 20 | known |")
  print("| --- | --- | --- | --- | --- |")
  for spread in (1.0, 1.25, 1.5, 2.0):
    cells = [
      f"{100 * false_keeps(30, 300, df=df, spread=spread)[0]:.0f}" for df in (None, 0, 19, math.inf)
    ]
    print(f"| candidates' sd {spread:g} times the baseline's | {' | '.join(cells)} |")
  for noise in ("exponential", "1 % collapse"):
    cells = [
      f"{100 * false_keeps(30, 300, df=df, noise=noise)[0]:.0f}" for df in (None, 0, 19, math.inf)
    ]
    print(f"| {noise}, in both | {' | '.join(cells)} |")
