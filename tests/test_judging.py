"""How a verdict comes about: who is paired, what is lost or missing, looks, families, forecasts."""

import dataclasses
import json
import math
import re

import numpy as np
import pytest
import scipy.stats
from test_comparisons import limits, noisy, only, sweep, table, with_p, words

from seedlab import comparisons, judging, report
from seedlab.comparisons import compare
from seedlab.errors import UserError
from seedlab.stats import comparison, route, sequential
from seedlab.stats import forecast as forecasts


def everything(found) -> list[str]:
  """What is said in each form."""
  forms = (report.comparison_text(found, details=True), report.comparison_markdown(found),
           report.comparison_page(found), json.dumps(report.comparison_json(found)))  # fmt: skip
  return [" ".join(form.split()) for form in forms]


# Survivors: what diverged lost, what is missing is not known.


def equal_methods(runs: int = 100) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Two equal methods, and which 40 of 100 runs of the second are its worst."""
  a, b = np.random.default_rng(0).normal(0.8, 0.05, (2, runs))
  return a, b, np.argsort(b)[: 4 * runs // 10]


def test_survivors_of_a_table_do_not_win():
  a, b, worst = equal_methods()
  left = b.copy()
  left[worst] = math.nan
  assert only(table(A=a, B=b)).settled == "open"
  survivors = scipy.stats.ttest_ind(np.delete(b, worst), a, equal_var=False)
  assert survivors.pvalue < 1e-4 and survivors.statistic > 0  # as they used to be judged
  found = compare(table(A=a, B=left))
  (pair,) = found.pairs
  assert pair.by_ranks and pair.settled != "better"
  assert "B is better" not in words(found).replace("whether B is better", "")
  assert "no partner" not in words(found)  # each has one, lost or missing
  for said in everything(found):
    assert "60 of 100 runs of B have a number (40" in said
    assert "means are not judged" in said


@pytest.mark.parametrize("gone", ["diverged", "missing"])
def test_survivors_of_a_store_judged_by_a_loss_do_not_win(gone):
  a, b, worst = equal_methods()
  kept = sweep(-b, planned_n=100, **{gone: tuple(worst)})
  found = compare([sweep(-a, planned_n=100), kept])
  (pair,) = found.pairs
  assert pair.by_ranks and pair.settled != "better"
  said = words(found)
  assert f"60 of 100 runs of B have a number (40 {gone})" in said
  assert ("Fisher" in said) == (gone == "diverged")
  assert ("Train the missing runs" in said) == (gone == "missing")


def test_a_diverged_run_is_lost_and_ranks_last():
  """B wins 18 of 20 pairs and diverges in two: exact binomial of 18 in 20."""
  a = noisy(0, 20)
  b = a - 1 + 0.1 * noisy(1, 20)  # a loss, so that lower is better
  pair = only(sweep(a, planned_n=20), sweep(b, planned_n=20, diverged=(3, 7)))
  test = scipy.stats.binomtest(18, 20)
  assert pair.by_ranks and pair.settled == "better" and pair.judged.estimate == 0.9
  assert pair.p_value == pytest.approx(test.pvalue / 0.8)
  assert limits(pair.judged) == pytest.approx(tuple(test.proportion_ci(0.96)))
  both = only(*(sweep(x, planned_n=20, diverged=(3, 7)) for x in (a, b)))
  assert both.judged.estimate == pytest.approx(19 / 20)  # two ties of lost runs
  rates = scipy.stats.fisher_exact([[0, 20], [2, 18]]).pvalue
  assert pair.diverged_p == pytest.approx(rates) and math.isnan(only(sweep(a), sweep(b)).diverged_p)


def test_a_missing_run_speaks_against_the_verdict_whichever_it_is():
  """8 of 10 pairs won by a lot, 2 missing: 8 of 10 at worst, p = 0.11; 18 of 20: p = 0.0004."""
  for runs, outcome in ((10, "open"), (20, "better")):
    a = noisy(0, runs)
    b = a - 1 + 0.1 * noisy(1, runs)
    pair = only(sweep(a, planned_n=runs), sweep(b, planned_n=runs, missing=(0, 4)))
    worst = scipy.stats.binomtest(runs - 2, runs)
    assert pair.settled == outcome and pair.judged.estimate == (runs - 2) / runs  # at worst
    assert pair.p_value == pytest.approx(worst.pvalue / 0.8)
    assert pair.judged.low == pytest.approx(worst.proportion_ci(0.96).low)
    mirrored = only(sweep(-a, planned_n=runs), sweep(-b, planned_n=runs, missing=(0, 4)))
    assert mirrored.settled == outcome.replace("better", "worse")
    assert mirrored.p_value == pytest.approx(pair.p_value)


def test_of_two_independent_sweeps_with_lost_runs_the_rank_sum_test_judges():
  a, b = noisy(0, 12), noisy(1, 12) - 1.5
  pair = only(sweep(a, planned_n=12), sweep(b, planned_n=12, first=100, diverged=(2,)))
  filled = b.copy()
  filled[2] = math.inf
  exact = scipy.stats.mannwhitneyu(a, filled, method="exact").pvalue
  assert pair.p_value == pytest.approx(exact / 0.8)
  a, b = noisy(0, 50), noisy(1, 50) - 0.5  # too many to count all arrangements
  pair = only(sweep(a, planned_n=50), sweep(b, planned_n=50, first=100, diverged=(2,)))
  filled = np.where(np.arange(50) == 2, math.inf, b)
  near = scipy.stats.mannwhitneyu(a, filled, method="asymptotic").pvalue
  assert pair.p_value == pytest.approx(near / 0.8)


def test_runs_that_are_planned_and_not_even_in_the_table_are_missing():
  a, b = noisy(0, 20), noisy(1, 20, 5)
  frame = table(A=a, B=b[:18])
  found = compare(frame, planned_n=20)
  assert found.pairs[0].by_ranks and "18 of 20 runs of B have a number (2 missing)" in words(found)
  assert "whatever the missing runs would have shown" in words(found)
  for better in (None, "higher"):  # the order and length of the design are no trap
    renamed = frame.rename(columns={"reward": "score"})
    for paired in (None, True):
      report.comparison_text(compare(renamed, planned_n=20, better=better, paired=paired))


# Pairs by design.


def test_dropping_diverged_runs_keeps_the_pairs():
  a = noisy(0)
  pair = only(sweep(a, diverged=(1, 2)), sweep(a + 0.1 * noisy(1), diverged=(5,)))
  assert pair.two.paired and len(pair.two.a_R) == 37


def test_two_seeds_in_common_waste_no_runs():
  a, b = noisy(0), noisy(1, 40, 1)
  frames = [table(A=a), table(B=b).assign(seed=np.arange(38, 78))]
  pair = only(*frames)
  assert not pair.two.paired and (len(pair.two.a_R), len(pair.two.b_S)) == (40, 40)
  assert pair.p_value == pytest.approx(scipy.stats.ttest_ind(b, a, equal_var=False).pvalue)
  forced = only(*frames, paired=True)
  assert forced.two.paired and len(forced.two.a_R) == 2 and forced.two.left_out == 76
  assert "76 runs have no partner" in words(compare(frames, paired=True))


def test_a_large_baseline_is_used_whole():
  a, b = noisy(0, 1261), noisy(1, 81, 0.35)
  pair = only(table(A=a, B=b))
  test = scipy.stats.ttest_ind(b, a, equal_var=False)
  assert not pair.two.paired and len(pair.two.a_R) + len(pair.two.b_S) == 1342
  assert pair.p_value == pytest.approx(test.pvalue) and pair.settled == "better"
  assert limits(pair.judged) == pytest.approx(tuple(test.confidence_interval()))


def test_rows_without_seeds_are_never_pairs():
  found = [*compare(table(A=noisy(0), B=noisy(1))).sweeps]
  assert judging.is_paired(*found, None) and not judging.is_paired(*found, False)
  unseeded = dataclasses.replace(found[1], seeded=False)
  assert not judging.is_paired(found[0], unseeded, None)
  with pytest.raises(UserError, match="paired=True: B has no seeds"):
    judging.is_paired(found[0], unseeded, True)


def test_stores_that_grew_stay_paired_and_are_looked_at_as_far_as_both_went():
  a, b = noisy(0, 20), noisy(1, 20, 0.5)
  both = only(sweep(a, planned_n=10), sweep(b, planned_n=10))
  assert [(len(look.two.a_R), look.two.paired) for look in both.looks] == [(10, True), (20, True)]
  one = only(sweep(a[:10], planned_n=10), sweep(b, planned_n=10))
  assert one.two.paired and [len(look.two.a_R) for look in one.looks] == [10]
  assert one.two.left_out == 10  # said, though no look uses them
  apart = only(sweep(a[:10], planned_n=10), sweep(b, planned_n=10), paired=False)
  sizes = [(len(look.two.a_R), len(look.two.b_S), look.weight) for look in apart.looks]
  assert [size[:2] for size in sizes] == [(10, 10), (20, 10)]
  assert [size[2] for size in sizes] == pytest.approx([0.8, 0.1])


# One budget for all looks.


def test_weights_sum_to_one_and_levels_are_of_the_budget():
  assert [route.weight(k) for k in range(4)] == pytest.approx([0.8, 0.1, 0.05, 0.025])
  assert sum(route.weight(k) for k in range(60)) == pytest.approx(1)
  a, b = noisy(0), noisy(1)
  for runs, level in ((10, 0.96), (20, 0.995), (40, 0.9975)):
    pair = only(table(A=a[:runs], B=b[:runs]), planned_n=10)
    assert pair.settled == "open" and pair.judged.level == pytest.approx(level)
    test = scipy.stats.ttest_rel(b[:runs], a[:runs]).confidence_interval(level)
    assert limits(pair.judged) == pytest.approx(tuple(test))


def test_p_of_the_route_is_the_smallest_over_its_weight():
  a, b = noisy(0), noisy(1, 40, 0.5)
  pair = only(table(A=a, B=b), planned_n=10)
  p = [scipy.stats.ttest_rel(b[:n], a[:n]).pvalue for n in (10, 20, 40)]
  assert [look.p_value for look in pair.looks] == pytest.approx(
    [min(1, x / w) for x, w in zip(p, (0.8, 0.1, 0.05), strict=True)]
  )
  assert pair.p_value == min(look.p_value for look in pair.looks)


def test_between_doublings_the_last_verdict_stands():
  first = with_p(1, 0.03, 10)  # below 4 %: better at the plan
  for more in (0, 5, 9, 10, 30):
    later = np.concatenate([first, noisy(3, more)])
    pair = only(table(A=np.zeros(10 + more), B=later), planned_n=10)
    assert pair.settled == "better" and pair.verdict.evidence is pair.looks[0]
    assert pair.judged.level == pytest.approx(0.96) and len(pair.looks) == (
      1 if more < 10 else 2 if more < 30 else 3
    )
  almost = with_p(1, 0.045, 10)
  assert only(table(A=np.zeros(10), B=almost), planned_n=10).settled == "open"
  assert only(table(A=np.zeros(10), B=almost)).settled == "better"  # finished: the full 5 %
  later = np.concatenate([almost, noisy(3, 9, 5)])  # however clear meanwhile
  open_still = compare(table(A=np.zeros(19), B=later), planned_n=10)
  assert open_still.pairs[0].settled == "open"
  assert "9 further pairs are looked at when the number has doubled" in words(open_still)


def test_no_part_of_the_budget_is_used_twice_when_both_sweeps_grow():
  looks = route.looks(10, 20, 10, 20)
  assert [tuple(look) for look in looks] == [(10, 10, 0.8), (20, 20, route.weight(2))]
  assert route.looks(10, 9, 10, 99) == []
  assert [look.runs_a for look in route.looks(3, 30, 10, 10)] == [3, 6, 12, 24]
  # Of any order in which both grow, each step takes a part of its own.
  a = b = 1
  weights = []
  for grows_a in (True, False, False, True, True, False):
    a, b = (2 * a, b) if grows_a else (a, 2 * b)
    weights.append(route.looks(1, a, 1, b)[-1].weight)
  assert len(set(weights)) == len(weights) and sum(weights) < 0.2
  pair = only(table(A=noisy(0, 20), B=noisy(1, 20)), planned_n=10, paired=False)
  assert [look.weight for look in pair.looks] == pytest.approx([0.8, 0.05])


def test_looked_takes_the_anytime_t_and_stopped_stores_do_too():
  frame = table(A=np.zeros(10), B=with_p(1, 0.01, 10))
  assert only(frame).settled == "better" and only(frame, looked=True).settled == "open"
  pair = only(table(A=np.zeros(10), B=with_p(1, 0.001, 10)), looked=True)
  assert (pair.settled, pair.judged_by) == ("better", "looked")
  stopped = only(sweep(noisy(0)), sweep(noisy(1)))  # stores without a recorded plan
  assert stopped.judged_by == "looked" and stopped.looks[-1].weight == 1
  with pytest.raises(UserError, match="planned_n=10 and looked exclude each other"):
    compare(frame, planned_n=10, looked=True)


# Families.


def same_within(p: float, margin: float = 1.0, runs: int = 40, seed: int = 5) -> np.ndarray:
  """Differences of mean 0 whose equivalence test at the margin gives exactly p."""
  d = noisy(seed, runs)
  d = (d - d.mean()) / d.std(ddof=1)
  return d * margin * math.sqrt(runs) / scipy.stats.t.isf(p, runs - 1)


@pytest.mark.parametrize(
  ("p_equal", "outcomes"),
  [
    ([0.04], ["equal"]),
    ([0.06], ["open"]),
    ([0.04, 0.04], ["open", "open"]),
    ([0.02, 0.04], ["equal", "open"]),  # "no difference" of the first is not rejected
    ([0.016, 0.02, 0.3], ["equal", "open", "open"]),
    ([0.016, 0.016, 0.016], ["equal", "equal", "equal"]),
  ],
)
def test_equal_is_corrected_for_the_family(p_equal, outcomes):
  variants = {f"V{i}": same_within(p, seed=5 + i) for i, p in enumerate(p_equal)}
  pairs = compare(table(A=np.zeros(40), **variants), margin=1.0).pairs
  assert [pair.p_equal for pair in pairs] == pytest.approx(p_equal)
  assert [pair.settled for pair in pairs] == outcomes
  assert [pair.level for pair in pairs] == pytest.approx([1 - 0.05 / len(pairs)] * len(pairs))
  for pair in pairs:
    inside = -1 < pair.judged.low and pair.judged.high < 1
    assert inside or pair.settled == "open"


@pytest.mark.parametrize(
  ("shift", "freed"), [(0.5, True), (3.0, False)]  # 3: better, but not within the margin
)
def test_a_variant_is_settled_when_both_its_nulls_are_rejected(shift, freed):
  clear = shift + 0.1 * same_within(0.001)
  b, c = compare(table(A=np.zeros(40), B=clear, C=same_within(0.04, seed=6)), margin=1.0).pairs
  assert b.settled == "better" and b.level == pytest.approx(0.975)
  assert c.settled == ("equal" if freed else "open")
  assert c.level == pytest.approx(0.95 if freed else 0.975)


# Spread known or learnt; few runs; equal values.


def test_a_known_sd_and_a_floor_make_three_runs_worth_something():
  a, b = np.array([0.123456789, 0.2712345, 0.41]), np.array([1.31234567, 1.0123456, 1.2123987])
  frame = table(A=a, B=b)
  pair = only(frame, sigma=0.5)
  z = (b.mean() - a.mean()) / (0.5 * math.sqrt(2 / 3))
  assert pair.p_value == pytest.approx(2 * scipy.stats.norm.sf(z))
  assert "if the sd of a run is 0.5" in words(compare(frame, sigma=0.5))
  floor = table(F=noisy(7, 21))
  learnt = only(frame, floor=floor)
  squares = 2 * a.var(ddof=1) + 2 * b.var(ddof=1) + 20 * noisy(7, 21).var(ddof=1)
  t = (b.mean() - a.mean()) / math.sqrt(squares / 24 * 2 / 3)
  assert learnt.p_value == pytest.approx(2 * scipy.stats.t.sf(t, 24))
  assert "spread of the floor" in words(compare(frame, floor=floor))
  assert "from 21 runs" in words(compare(frame, floor=floor))
  odd = compare(table(A=noisy(0, 20), B=noisy(1, 20)), floor=table(F=0.1 * noisy(7, 21)))
  assert "times the floor's, which chance does not explain" in words(odd)
  with pytest.raises(UserError, match="two noise floors"):
    compare(frame, sigma=1, floor=floor)
  with pytest.raises(UserError, match=r"floor=\(a table or store\) has 2 runs .*at least 3"):
    compare(frame, floor=table(F=[1.0, 2.0]))


@pytest.mark.parametrize("sigma", [0, -1, math.inf, math.nan])
def test_an_sd_that_is_none_is_refused(sigma):
  with pytest.raises(UserError, match=r"sigma=.* must be a positive number"):
    compare(table(A=noisy(0), B=noisy(1)), sigma=sigma)


def test_three_equal_values_have_no_interval():
  found = compare(table(A=[95.0, 95.0, 95.0], B=[95.0, 95.0, 95.0]))
  assert found.pairs[0].settled == "open" and math.isnan(found.pairs[0].judged.low)
  assert "every run has the same value in both" in words(found) and "95 to 95" not in words(found)
  assert "<- judges" not in words(found) and "p = 1" not in words(found)


def test_values_on_a_coarse_grid_carry_its_variance():
  a, b = np.array([90.0, 91.0, 90.0, 91.0, 90.0]), np.array([91.0, 91.0, 92.0, 91.0, 92.0])
  pair = only(table(A=a, B=b))
  d = b - a
  error = math.sqrt((d.var(ddof=1) + 1 / 12) / 5)
  assert pair.rules.step == 1 and pair.p_value == pytest.approx(
    2 * scipy.stats.t.sf(d.mean() / error, 4)
  )


def test_rounding_does_not_win():
  frame = table(A=[0.3] * 10, B=[0.1 + 0.2] * 10)
  found = compare(frame)
  (pair,) = found.pairs
  assert pair.better.estimate == 0.5 and pair.settled == "open"
  assert "B is better" not in words(found).replace("whether B is better", "")


def test_collapsed_runs_are_noted_with_their_rate():
  b = noisy(1, 40)
  b[7] = -60
  found = compare(table(A=noisy(0), B=b))
  low, high = (100 * end for end in scipy.stats.binomtest(1, 40).proportion_ci())
  assert f"(2.5 %, 95 % interval {low:.2g} to {high:.2g} %)" in words(found)
  clean = words(compare(table(A=noisy(0), B=noisy(1))))
  assert "% interval 0.063" not in clean
  assert "runs far from all others 0 of 40 of B (up to 8.8 %), 0 of 40 of A (up to 8.8 %)" in clean


# Directions, forecasts, words.


def test_an_unknown_direction_judges_nothing_where_runs_are_lost_or_missing():
  a, b = noisy(0, 20), noisy(1, 20, 9)
  for gone in ({"diverged": (1,)}, {"missing": (1,)}, {}):
    for plan in (20, 10, None):
      known = {"metric": "score", "planned_n": plan}
      found = compare([sweep(a, **known), sweep(b, **known, **gone)])
      (pair,) = found.pairs
      assert pair.settled == "unknown direction"
      for said in everything(found):
        assert not re.search(r"B is (better|worse|equal)|Open whether|<- judges", said)
      assert report.comparison_json(found)["comparisons"][0]["probability_better"] is None


def test_the_forecast_is_calibrated():
  """Further runs as the posterior of the first ten expects them, judged by `compare`."""
  rng = np.random.default_rng(0)
  first = with_p(2, 0.12, 10)
  forecast = only(table(A=np.zeros(10), B=first), planned_n=10).forecast
  assert forecast.next_runs == 20
  settled = []
  for _ in range(60):
    sd = first.std(ddof=1) * math.sqrt(9 / rng.chisquare(9))
    later = rng.normal(rng.normal(first.mean(), sd / math.sqrt(10)), sd, 10)
    pair = only(table(A=np.zeros(20), B=np.append(first, later)), planned_n=10)
    settled.append(pair.settled != "open")
  chance = forecast.probability[0]
  assert 0.1 < chance < 0.9
  assert abs(np.mean(settled) - chance) < 3 * math.sqrt(chance * (1 - chance) / 60)


def test_the_forecast_of_lopsided_sweeps_judges_by_cochran_and_cox():
  rng = np.random.default_rng(1)
  few, many = rng.normal(size=(50, 5)), rng.normal(1.6, 1, (50, 10))
  settled = forecasts._settles(
    [many.mean(1), few.mean(1)],
    [many.var(axis=1, ddof=1), few.var(axis=1, ddof=1)],
    [10, 5],
    0.01,
    None,
    0.0,
    None,
  )
  p = [
    comparison.difference(comparison.TwoSweeps(a, b, False, 0)).p_value
    for a, b in zip(many, few, strict=True)
  ]
  assert (settled == (np.array(p) < 0.01)).all() and 5 < settled.sum() < 45


@pytest.mark.parametrize("runs", [1, 2, 5, 10, 40])
@pytest.mark.parametrize("options", [{}, {"paired": False}, {"sigma": 1.0}, {"margin": 0.5}])
def test_what_is_proposed_is_not_refused(runs, options):
  if runs == 1 and options == {}:
    options = {"sigma": 2.0}
  a, b = noisy(0, 2 * runs), noisy(1, 2 * runs, 0.1)
  found = compare(table(A=a[:runs], B=b[:runs]), **options)
  said = words(found)
  assert not re.search(r"(?<![\d,])1 (runs|pairs|seeds)\b", said)
  for plan in re.findall(r"--planned_n=(\d+)", said):
    assert int(plan) == runs
    again = compare(table(A=a, B=b), planned_n=int(plan), **options).pairs[0]
    assert again.judged_by == "route" and len(again.looks) == 2
  stores = compare([sweep(a[:runs], planned_n=runs), sweep(b[:runs], planned_n=runs)], **options)
  assert "--planned_n" not in words(stores)


def test_numbers_of_one_are_singular():
  found = compare([sweep(noisy(0, 3), planned_n=3, missing=(0,)), sweep(noisy(1, 3), planned_n=3)])
  one = compare(table(A=[1.5], B=noisy(0, 2)))
  for each in (found, one, compare(table(A=[1.5], B=[2.25]))):
    assert not re.search(r"(?<![\d,.])1 (runs|pairs|seeds)\b", words(each))


# What earlier tests did not notice when the code was broken on purpose.


def test_a_missing_run_of_the_baseline_speaks_against_the_verdict_too():
  a = noisy(0, 20)
  b = a - 1 + 0.1 * noisy(1, 20)
  pair = only(sweep(a, planned_n=20, missing=(0, 4)), sweep(b, planned_n=20))
  assert pair.p_value == pytest.approx(scipy.stats.binomtest(18, 20).pvalue / 0.8)


def test_pairs_of_two_plans_are_looked_at_from_the_smaller():
  pair = only(sweep(noisy(0, 5), planned_n=5), sweep(noisy(1, 10), planned_n=10), paired=True)
  assert [len(look.two.a_R) for look in pair.looks] == [5] and not pair.by_ranks


def test_a_finished_baseline_does_not_take_part_in_the_doublings():
  pair = only(table(A=noisy(0, 80), B=noisy(1, 20)), planned_n=10, paired=False)
  assert [(len(look.two.a_R), len(look.two.b_S)) for look in pair.looks] == [(10, 80), (20, 80)]
  assert [look.weight for look in pair.looks] == pytest.approx([0.8, 0.1])


def test_forecasts_count_the_looks_that_were_made():
  pair = only(table(A=np.zeros(20), B=with_p(2, 0.02, 20)), planned_n=10)
  alphas = [0.05 * route.weight(2 + k) for k in range(12)]
  assert len(pair.looks) == 2 and pair.settled == "open"
  assert pair.forecast == forecasts.forecast(*pair.arms, alphas, None, pair.rules.step)


def test_the_forecast_of_a_known_spread_by_hand():
  """Of 20 runs, ten there with mean 0.5: mean 0.5, variance (1/10 + 1/10) / 4 of theirs."""
  known = comparison.Spread(1.0, math.inf)
  found = forecasts.forecast(forecasts.Arm(10, 0.5, 1.0), None, [0.005], spread=known)
  needed = scipy.stats.norm.isf(0.0025) / math.sqrt(20)
  assert found.probability[0] == pytest.approx(
    scipy.stats.norm.sf((needed - 0.5) / math.sqrt(0.05)), abs=0.04
  )
  arm = forecasts.Arm(10, 0.5, 0.01)
  _, variance = forecasts._truths(arm, 6.0, None, np.random.default_rng(0))
  expected = 3.01 * 9 / scipy.stats.chi2.median(9)  # 6^2 / 12 more than the runs show
  assert np.median(variance) == pytest.approx(expected, rel=0.25)


def test_forecasts_of_the_anytime_t_are_as_strict_as_it_is():
  alphas = comparisons._anytime_alphas(forecasts.Arm(10, 0.0, 1.0), None, 0.05)
  half = sequential.anytime_t(0.0, 1.0, 19, 5 * 20, 0.95).high
  assert alphas[0] == pytest.approx(2 * scipy.stats.t.sf(half, 19))


def test_four_pairs_with_a_known_spread_are_two_sweeps_of_too_few():
  two = comparison.TwoSweeps(noisy(0, 4) + 9, noisy(1, 4), True, 0)
  known = comparison.Spread(1.0, math.inf)
  assert math.isinf(comparison.anytime_difference(two, spread=known).low)
  assert math.isfinite(comparison.anytime_difference(two).low)


def test_a_stated_spread_that_the_runs_refute_judges_nothing():
  """Noise of sd 1 said to be 0.01: without the refusal any difference would be significant."""
  found = compare(table(A=noisy(0, 6), B=noisy(1, 6)), sigma=0.01)
  (pair,) = found.pairs
  ratio, p = comparison.spread_misfit(pair.two, comparison.Spread(0.01, math.inf))
  squares = sum(((x - x.mean()) ** 2).sum() for x in (pair.two.a_R, pair.two.b_S))
  assert ratio == pytest.approx(math.sqrt(squares / 10) / 0.01)
  assert p == pytest.approx(2 * scipy.stats.chi2.sf(squares / 0.01**2, 10))
  assert pair.settled == "open" and pair.p_value == 1 and pair.forecast is None
  assert "times as much as was stated" in words(found)
  assert only(table(A=noisy(0, 6), B=noisy(1, 6, 9)), sigma=1.0).settled == "better"
