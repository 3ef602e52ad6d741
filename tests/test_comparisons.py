"""Is B better than A: verdicts by hand and against scipy, degenerate input, tables, words."""

import json
import math
import pathlib
import re
import subprocess

import forked
import numpy as np
import pandas as pd
import pytest
import scipy.stats
import xarray
from test_report import CLASSES, errors, store

from seedlab import findings, records, report
from seedlab.comparisons import compare
from seedlab.config import STREAMS
from seedlab.errors import UserError
from seedlab.report.caveats import notes
from seedlab.stats import comparison, crossed, sequential

BASE = [1.0, 2.0, 3.0, 4.0]
RAISED = [2.0, 4.0, 4.0, 6.0]  # by 1, 2, 1, 2


def table(**variants) -> pd.DataFrame:
  """Variants of a reward, their runs numbered from 0."""
  frames = [
    pd.DataFrame({"variant": name, "seed": np.arange(len(values)), "reward": values})
    for name, values in variants.items()
  ]
  return pd.concat(frames, ignore_index=True)


def sweep(values, metric="test_loss", *, first=0, planned_n=None, **options) -> xarray.Dataset:
  """A store with these values of one metric, its runs numbered from `first`."""
  dataset = store(np.zeros((len(values), CLASSES), bool), **options)
  dataset[metric] = ("run", np.asarray(values, float))
  dataset.attrs |= {"metrics": [metric], "planned_n": planned_n, "evaluation_digest": "one"}
  return dataset.assign_coords(run=first + np.arange(len(values)))


def noisy(seed: int, runs: int = 40, shift: float = 0.0) -> np.ndarray:
  return np.random.default_rng(seed).normal(shift, 1, runs)


def only(*sources, **options):
  return compare(sources[0] if len(sources) == 1 else sources, **options).pairs[0]


def words(found) -> str:
  return " ".join(report.comparison_text(found).split())


def limits(interval) -> tuple[float, float]:
  return interval.low, interval.high


def test_paired_by_hand():
  """Differences 1, 2, 1, 2: variance 1/3, and 1/12 of the grid of step 1, over 4."""
  pair = only(table(A=BASE, B=RAISED))
  half = 3.182446 * math.sqrt(1 / 3 + 1 / 12) / 2  # t of 3 degrees of freedom
  assert (pair.baseline.name, pair.variant.name, pair.two.paired) == ("A", "B", True)
  assert pair.judged.estimate == 1.5 and pair.settled == "better"
  assert limits(pair.judged) == pytest.approx((1.5 - half, 1.5 + half), rel=1e-6)
  assert limits(pair.fixed) == limits(pair.judged) and pair.fixed.p_value == pair.p_value
  a, b = noisy(0, 4), noisy(1, 4, 2)  # on no grid
  off, test = only(table(A=a, B=b)), scipy.stats.ttest_rel(b, a)
  assert limits(off.judged) == pytest.approx(tuple(test.confidence_interval()))
  assert off.p_value == pytest.approx(test.pvalue)
  exact = scipy.stats.binomtest(4, 4).proportion_ci()
  assert pair.better.estimate == 1 and limits(pair.better) == pytest.approx(tuple(exact))


def test_without_shared_seeds_welch_and_brunner_munzel():
  a, b = noisy(0, 45), 3 * noisy(1, 31, 0.5)
  other = table(B=b).assign(seed=np.arange(500, 531))
  pair = only(table(A=a), other)
  test = scipy.stats.ttest_ind(b, a, equal_var=False)
  assert not pair.two.paired and pair.fixed.method == "Welch t"
  assert not notes(pair) and pair.judged_by == "fixed"
  assert limits(pair.fixed) == pytest.approx(tuple(test.confidence_interval()))
  assert pair.fixed.estimate == pytest.approx(b.mean() - a.mean())
  assert pair.better.p_value == pytest.approx(scipy.stats.brunnermunzel(b, a).pvalue)
  assert "from 31 and 45 independent runs" in words(compare([table(A=a), other]))


def test_partly_shared_seeds_are_pairs_only_where_it_is_said():
  a, b = noisy(0, 50), noisy(1, 50)
  moved = table(B=b).assign(seed=np.arange(10, 60))
  pair = only(table(A=a), moved)
  assert not pair.two.paired and not notes(pair) and len(pair.two.a_R) == 50
  pair = only(table(A=a), moved, paired=True)
  assert pair.two.paired and len(pair.two.a_R) == 40
  test = scipy.stats.ttest_rel(b[:40], a[10:])
  assert limits(pair.fixed) == pytest.approx(tuple(test.confidence_interval()))
  assert any("20 runs have no partner" in note for note in notes(pair))
  assert "20 runs have no partner" in words(compare([table(A=a), moved], paired=True))


def test_the_order_of_rows_says_nothing():
  frame = table(A=noisy(0), B=noisy(1, 40, 1))
  shuffled = frame.groupby("variant", sort=False).sample(frac=1, random_state=0)
  assert not shuffled.seed.is_monotonic_increasing
  assert report.comparison_text(compare(frame)) == report.comparison_text(compare(shuffled))
  mixed = frame.sample(frac=1, random_state=1)
  first = mixed.variant.iloc[0]
  assert [s.name for s in compare(mixed).sweeps] == [first, {"A": "B", "B": "A"}[first]]


def test_the_first_is_the_baseline_and_differences_are_variant_less_baseline():
  forth, back = only(table(A=BASE, B=RAISED)), only(table(B=RAISED, A=BASE))
  assert (back.baseline.name, back.variant.name) == ("B", "A")
  assert (forth.fixed.estimate, back.fixed.estimate) == (1.5, -1.5)
  assert (back.fixed.low, back.fixed.high) == (-forth.fixed.high, -forth.fixed.low)
  assert (forth.better.estimate, back.better.estimate) == (1, 0)


@pytest.mark.parametrize(
  ("metric", "shift", "outcome", "share", "said"),
  [
    ("test_loss", -2, "better", 1, "B is better than A"),
    ("test_loss", 2, "worse", 0, "B is worse than A"),
    ("hard_error", -0.2, "better", 1, "B is better than A"),
    ("test_accuracy", 0.2, "better", 1, "B is better than A"),
    ("test_accuracy", -0.2, "worse", 0, "B is worse than A"),
    ("neg_log_loss", 2, "better", 1, "B is better than A"),
    ("neg_log_loss", -2, "worse", 0, "B is worse than A"),
    ("score", 2, "unknown direction", 1, "B less that of A is +2"),
    ("score", -2, "unknown direction", 0, "B less that of A is -2"),
  ],
)
def test_better_is_lower_for_a_loss_and_higher_for_an_accuracy(metric, shift, outcome, share, said):
  scale = abs(shift) / 10
  a, b = (0.5 + scale * np.random.default_rng(seed).uniform(-1, 1, 40) for seed in (0, 1))
  found = compare([sweep(a, metric), sweep(b - b.mean() + a.mean() + shift, metric)])
  (pair,) = found.pairs
  assert pair.settled == outcome and pair.better.estimate == share
  assert math.copysign(1, pair.judged.estimate) == math.copysign(1, shift)
  assert said in words(found)
  assert ("points" in words(found)) == (found.unit == " points") == (abs(shift) < 1)


def test_stores_without_a_plan_are_judged_by_the_anytime_t():
  a, b = noisy(0), noisy(1, 40, 0.2)
  found = compare([sweep(a), sweep(b)])
  (pair,) = found.pairs
  d = b - a
  expected = sequential.anytime_t(d.mean(), d.std(ddof=1) / math.sqrt(40), 39, 200)
  assert pair.judged_by == "looked"
  assert limits(pair.judged) == pytest.approx((expected.low, expected.high))
  assert limits(pair.judged) == limits(pair.anytime) and not notes(pair)
  text = report.comparison_text(found)
  assert re.search(r"anytime t looked at often 95 % .*<- judges", text)
  assert text.count("<- judges") == 1
  assert "however often seeds were added and looked at" in words(found)


def test_unpaired_runs_are_all_judged():
  a, b = noisy(0, 50), noisy(1, 40)
  pair = only(sweep(a), sweep(b, first=1000))
  m = comparison.mean_difference(comparison.TwoSweeps(b, a, False, 0))
  expected = sequential.anytime_t(m.estimate, m.error, m.df, 10 * 50 * 40 / 90)
  assert not pair.two.paired and limits(pair.judged) == pytest.approx(limits(expected))
  backwards = sweep(a).isel(run=slice(None, None, -1))
  assert limits(only(backwards, sweep(b, first=1000)).judged) == pytest.approx(limits(pair.judged))


@pytest.mark.parametrize("first", [0, 1000])
def test_the_look_at_the_plan_is_judged_at_96_percent(first):
  a, b = noisy(0), noisy(1, 40, 0.2)
  found = compare([sweep(a, planned_n=40), sweep(b, planned_n=40, first=first)])
  (pair,) = found.pairs
  test = scipy.stats.ttest_ind(b, a, equal_var=False) if first else scipy.stats.ttest_rel(b, a)
  assert pair.judged_by == "route" and not notes(pair)
  assert limits(pair.judged) == pytest.approx(tuple(test.confidence_interval(0.96)))
  assert limits(pair.fixed) == pytest.approx(tuple(test.confidence_interval()))
  assert re.search(r"at this look 96 % .*<- judges", report.comparison_text(found))
  assert "looked at as planned, with 40 seeds (at an error rate of 4 %, so that all" in words(found)


@pytest.mark.parametrize("first", [0, 1000])
def test_a_plan_without_its_runs_is_judged_by_ranks_and_runs_beyond_it_wait(first):
  short = only(sweep(noisy(0), planned_n=40), sweep(noisy(1), planned_n=50, first=first))
  assert short.judged_by == "route" and short.by_ranks == (first > 0)  # pairs: 40 of both
  longer = only(sweep(noisy(0), planned_n=30), sweep(noisy(1), planned_n=30, first=first))
  assert [len(look.two.a_R) for look in longer.looks] == [30] and not longer.by_ranks
  assert any("when the number has doubled" in note for note in notes(longer))
  gone = only(sweep(noisy(0), planned_n=40), sweep(noisy(1), planned_n=40, missing=(7,)))
  assert gone.by_ranks
  later = only(sweep(noisy(0), planned_n=30), sweep(noisy(1), planned_n=30, missing=(33,)))
  assert not later.by_ranks  # run 33 is of no look yet


def test_a_table_is_finished_unless_its_plan_is_said():
  frame = table(A=noisy(0), B=noisy(1))
  assert only(frame).judged_by == "fixed" and only(frame, looked=True).judged_by == "looked"
  assert "with the 40 seeds fixed beforehand" in words(compare(frame))
  planned = only(frame, planned_n=40)
  assert planned.judged_by == "route" and planned.looks[0].weight == 0.8
  assert [len(look.two.a_R) for look in only(frame, planned_n=20).looks] == [20, 40]
  with pytest.raises(UserError, match="planned_n=40 is for tables; 'A' is a store"):
    compare([sweep(noisy(0)), sweep(noisy(1))], planned_n=40)


def test_three_runs_of_a_finished_table_are_judged_and_two_looked_at_are_not():
  found = compare(table(A=noisy(0, 3), B=noisy(1, 3, 50)))
  assert found.pairs[0].settled == "better"
  found = compare(table(A=noisy(0, 3), B=noisy(1, 3, 50)), looked=True)
  assert found.pairs[0].settled == "open" and found.pairs[0].anytime is None
  assert "3 runs are too few for an interval that forgives looking again" in words(found)
  assert "at least 4 pairs" in words(found)


def test_ten_wins_in_ten():
  rng = np.random.default_rng(0)
  a = rng.normal(size=10)
  found = compare(table(A=a, B=a + rng.uniform(0.1, 1, 10)), planned_n=10)
  (pair,) = found.pairs
  assert pair.better.estimate == pair.better.high == 1
  assert pair.better.low == pytest.approx(0.025**0.1)
  assert "1.00 (0.69 to 1.00), exact binomial" in words(found)


DEGENERATE = {
  "all equal": (table(A=np.ones(40), B=np.ones(40)), {}),
  "all equal, planned": (table(A=np.ones(4), B=np.ones(4)), {"planned_n": 4, "margin": 1.0}),
  "equal within, apart": (table(A=np.ones(40), B=np.full(40, 3.0)), {"margin": 1.0}),
  "one run each": (table(A=[1.0], B=[2.0]), {}),
  "one run against many": (table(A=[1.0], B=noisy(0)), {}),
  "two runs": (table(A=[1.0, 2.0], B=[2.0, 4.0]), {}),
  "one sound run": (table(A=[1.0, math.nan], B=[math.nan, 2.0]), {}),
  "one run in a store": ([store(errors(1)), store(errors(1, seed=1))], {}),
  "no error at all": ([store(np.zeros((40, 8), bool))] * 2, {}),
  "all diverged": ([store(errors(), diverged=tuple(range(60))), store(errors(seed=1))], {}),
  "diverged in both": ([store(errors(3), diverged=(0, 1)), store(errors(3), diverged=(2,))], {}),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_input_has_an_answer_in_every_form(name):
  sources, options = DEGENERATE[name]
  found = compare(sources, **options)
  (pair,) = found.pairs
  values = report.comparison_json(found)
  assert json.loads(json.dumps(values, allow_nan=False)) == values
  (one,) = values["comparisons"]
  assert one["outcome"] == pair.settled and "inf" not in json.dumps(values)
  assert "is better" in words(found) or "Open whether B is" in words(found)
  assert report.comparison_text(found, details=True).startswith(report.comparison_text(found)[:40])
  assert report.comparison_markdown(found).count("\n| ") == 4


@pytest.mark.parametrize("name", ["all equal", "all equal, planned", "equal within, apart"])
def test_nothing_is_concluded_without_spread(name):
  sources, options = DEGENERATE[name]
  found = compare(sources, **options)
  assert found.pairs[0].settled == "open" and found.pairs[0].forecast is None
  said = words(found)
  assert "every run has the same value in both" in said or "in every run alike" in said
  assert report.comparison_json(found)["comparisons"][0]["judged"]["low"] is None


def test_one_run_each_is_open():
  found = compare(table(A=[1.0], B=[2.0]))
  assert found.pairs[0].settled == "open" and found.pairs[0].fixed.estimate == 1
  assert math.isnan(found.pairs[0].fixed.low) and "Open whether B is better" in words(found)
  assert "one run has no spread" in words(found)


def test_diverged_runs_count_as_chance_with_the_difference_without_them_beside():
  wrong, other = errors(), errors(seed=1)
  found = compare([store(wrong, diverged=(3, 5)), store(other)])
  (pair,) = found.pairs
  accuracy, better = (100 - 100 * matrix.mean(axis=1) for matrix in (wrong, other))
  accuracy[[3, 5]] = 100 / CLASSES
  assert pair.fixed.estimate == pytest.approx((better - accuracy).mean(), abs=1e-4)
  sound = np.delete(better - accuracy, [3, 5])
  test = scipy.stats.ttest_1samp(sound, 0).confidence_interval()
  assert limits(pair.without_diverged) == pytest.approx(tuple(test), abs=1e-4)
  assert "difference without diverged runs" in words(found) and "60 (2 diverged)" in words(found)
  (one,) = report.comparison_json(found)["comparisons"]
  assert one["without_diverged"]["estimate"] == pytest.approx(sound.mean(), abs=1e-4)
  assert compare([store(wrong), store(other)]).pairs[0].without_diverged is None


def test_diverged_runs_are_left_out_of_a_loss_with_their_partners():
  wrong, other = errors(), errors(seed=1)
  found = compare([store(wrong, diverged=(3, 5)), store(other)], "test_loss")
  (pair,) = found.pairs
  expected = np.delete(other.mean(axis=1) - wrong.mean(axis=1), [3, 5])
  assert len(pair.two.a_R) == 58 and pair.without_diverged is None
  assert pair.fixed.estimate == pytest.approx(expected.mean(), abs=1e-6)
  assert "58 (2 diverged)" in words(found)
  assert "Only 58 of 60 runs of A have a number (2 diverged)" in words(found)


def test_different_test_sets_are_refused():
  first = store(errors())
  message = "A and B were evaluated on different test sets"
  with pytest.raises(UserError, match=rf"{message} \(200 and 160 examples\)"):
    compare([first, store(errors(examples=160))])
  moved = first.assign_coords(label=("example", np.roll(first.label.values, 1)))
  moved["predicted_label"] = (first.predicted_label + moved.label - first.label) % CLASSES
  with pytest.raises(UserError, match=message):
    compare([first, moved])
  unlabelled = store(errors(examples=160)).drop_vars(["label", "predicted_label"])
  assert compare([first, unlabelled]).pairs


@pytest.mark.parametrize(
  ("sources", "options", "message"),
  [
    ([sweep(BASE)], {}, "1 sweep to compare; give two stores, or a table of two variants"),
    (table(A=BASE), {}, "1 sweep to compare"),
    ([], {}, "0 sweep"),
    ([sweep(BASE), sweep(RAISED)], {"metric": "loss"}, r"metric='loss' is not known.*test_loss"),
    ([sweep(BASE), sweep(BASE, "score")], {}, "metric='test_loss' is not known.*score"),
    (table(A=BASE, B=RAISED), {"margin": 0.0}, "margin=0.0 must be a positive number"),
    (table(A=BASE, B=RAISED), {"margin": -1.0}, "margin=-1.0 must be"),
    (table(A=BASE, B=RAISED), {"margin": math.inf}, "margin=inf must be"),
    (table(A=BASE, B=RAISED), {"margin": math.nan}, "margin=nan must be"),
    ([sweep(BASE), sweep(BASE, first=50)], {"paired": True}, "paired=True: .* share 0"),
    ([sweep(BASE), sweep(BASE)], {"names": ["x"]}, "names=x are 1 for 2 sources"),
    ([sweep(BASE), sweep(BASE, missing=(0, 1, 2, 3))], {}, "completed=0 of 4 runs"),
    (
      [sweep([0.5, 0.6], "test_accuracy"), sweep([50, 60], "test_accuracy")],
      {},
      "metric='test_accuracy': A has fractions and B other numbers",
    ),
  ],
)
def test_what_cannot_be_compared_is_refused(sources, options, message):
  with pytest.raises(UserError, match=message):
    compare(sources, **options)


GRID = {"init": np.arange(60) // 6, "order": np.arange(60) % 6}
CROSSED = {"vary": ("init", "order"), "seeds": GRID}


def test_crossed_sweeps_are_judged_by_the_jackknife_over_levels():
  rng = np.random.default_rng(0)
  levels = rng.normal(size=10)[:, None] + rng.normal(size=6) + 0.1 * rng.normal(size=(10, 6))
  a = rng.normal(size=60)
  found = compare([sweep(a, "reward", **CROSSED), sweep(a + levels.ravel(), "reward", **CROSSED)])
  (pair,) = found.pairs
  expected = crossed.mean(levels)
  assert pair.judged_by == "crossed" and pair.settled == "open"
  assert limits(pair.judged) == pytest.approx(limits(expected))
  assert pair.judged.estimate == pytest.approx(expected.estimate)
  forgetful = comparison.difference(pair.two)
  assert pair.judged.high - pair.judged.low > 2 * (forgetful.high - forgetful.low)
  assert pair.anytime is None and pair.better is None and pair.forecast is None
  assert "difference, over new levels" in words(found) and "jackknife over the" in words(found)
  assert "60 pairs of runs" in words(found) and "fixed n" not in words(found)
  assert report.comparison_json(found)["comparisons"][0]["anytime"] is None
  shifted = sweep(a + 10 + levels.ravel(), "reward", **CROSSED)
  assert only(sweep(a, "reward", **CROSSED), shifted).settled == "better"


def test_crossed_sweeps_over_other_levels_or_none_are_refused():
  first = sweep(noisy(0, 60), **CROSSED)
  other = CROSSED | {"seeds": GRID | {"init": GRID["init"] + 1}}
  with pytest.raises(UserError, match="A and B are crossed designs over other levels"):
    compare([first, sweep(noisy(1, 60), **other)])
  joint = sweep(noisy(1, 60), vary=("init", "order"))
  for pair, names in (([first, joint], "AB"), ([joint, first], "BA")):
    message = f"^{names[0]} is a crossed design and {names[1]} has independent runs"
    with pytest.raises(UserError, match=message):
      compare(pair)
  unfinished = sweep(noisy(1, 60), **CROSSED, missing=(8,))
  with pytest.raises(UserError, match=r"B has runs.*0 runs with init=1, order=2.*finish the sweep"):
    compare([first, unfinished])


def test_sweeps_that_varied_other_streams_are_compared_with_a_note():
  found = compare([sweep(noisy(0)), sweep(noisy(1), vary=("init", "order"))])
  (note,) = notes(found.pairs[0])
  assert note.startswith(f"A varied {', '.join(STREAMS)}, B init, order:")
  assert note in words(found)


def test_equal_needs_a_margin_and_an_interval_inside_it():
  a = noisy(0)
  b = a + 0.1 * noisy(1)
  assert only(table(A=a, B=b)).settled == "open"
  found = compare(table(A=a, B=b), margin=0.2)
  (pair,) = found.pairs
  assert pair.settled == "equal" and -0.2 < pair.judged.low < pair.judged.high < 0.2
  test = scipy.stats.ttest_rel(b, a).confidence_interval(0.9)  # of two one-sided tests at 5 %
  assert limits(pair.judged) == pytest.approx(tuple(test)) and pair.level == 0.95
  assert "B and A are equal within 0.2: they differ by" in words(found)
  p = comparison.equivalence(pair.two, 0.2).p_value
  assert pair.p_equal == pytest.approx(p)
  assert p < 1e-15 and "equal within 0.2 (two one-sided tests) p < 1e-15" in words(found)
  assert "one-sided" not in words(compare(table(A=a, B=b)))
  assert only(table(A=a, B=b), margin=0.005).settled == "open"
  assert only(table(A=a, B=b + 0.15), margin=0.3).settled == "better"  # and within the margin


def test_not_worse_without_being_equal_or_better():
  d = with_p(0, 0.2)
  d *= 0.3 / scipy.stats.ttest_1samp(d, 0).confidence_interval().high  # its limits: beyond 0.3
  d *= 1.2
  found = compare(table(A=np.zeros(40), B=d), margin=0.3)
  (pair,) = found.pairs
  assert -0.3 < pair.judged.low < 0 and pair.judged.high > 0.3 and pair.settled == "open"
  assert "Open whether" in words(found) and "It is not worse by 0.3 or more." in words(found)
  lower, raised = ([sweep(np.zeros(40)), sweep(sign * d)] for sign in (-1, 1))
  for stores in (lower, raised):
    for one in stores:
      one.attrs["planned_n"] = 40
  assert "It is not worse by 0.31 or more." in words(compare(lower, margin=0.31))
  assert "It is not worse" not in words(compare(raised, margin=0.31))


def with_p(seed: int, p: float, runs: int = 40) -> np.ndarray:
  """Differences whose two-sided t test gives exactly p."""
  d = noisy(seed, runs)
  wanted = scipy.stats.t.isf(p / 2, runs - 1) * d.std(ddof=1) / math.sqrt(runs)
  return d - d.mean() + wanted


def test_several_variants_are_corrected_together():
  zero = np.zeros(40)
  alone = compare(table(A=zero, B=with_p(1, 0.03))).pairs
  assert (alone[0].settled, alone[0].judged.level) == ("better", 0.95)
  null = with_p(2, 0.5)
  for number in (2, 3):
    names = {"B": with_p(1, 0.03)} | {f"C{n}": null for n in range(number - 1)}
    pairs = compare(table(A=zero, **names)).pairs
    assert [pair.settled for pair in pairs] == ["open"] * number
    for pair, name in zip(pairs, names, strict=True):
      assert pair.judged.level == pytest.approx(1 - 0.05 / number)
      test = scipy.stats.ttest_1samp(names[name], 0).confidence_interval(1 - 0.05 / number)
      assert limits(pair.judged) == pytest.approx(tuple(test))
      assert pair.fixed.level == 0.95
  assert "(97.5 % interval" in words(compare(table(A=zero, B=null, C=null)))


def test_what_one_variant_settles_frees_the_level_of_the_others():
  values = table(A=np.zeros(40), B=with_p(1, 0.03), C=with_p(2, 0.02), D=with_p(3, 0.4))
  assert [p.settled for p in compare(values).pairs] == ["open"] * 3
  values = table(A=np.zeros(40), B=with_p(1, 0.03), C=with_p(2, 0.001))
  b, c = compare(values).pairs
  assert (b.settled, c.settled) == ("better", "better")
  assert (b.judged.level, c.judged.level) == pytest.approx((0.95, 0.975))


@pytest.mark.parametrize("planned_n", [None, 40])
def test_equal_methods_are_told_apart_in_five_of_a_hundred_at_most(planned_n):
  rng = np.random.default_rng(7)
  frame = table(A=np.zeros(40), B=np.zeros(40))
  judged = []
  for _ in range(100):
    shared = rng.normal(size=40)
    frame["reward"] = np.concatenate([shared + rng.normal(size=40), shared + rng.normal(size=40)])
    judged.append(only(frame, planned_n=planned_n))
  assert {pair.judged_by for pair in judged} == {"route" if planned_n else "fixed"}
  false = np.mean([pair.settled != "open" for pair in judged])
  nominal = 0.04 if planned_n else 0.05  # exact, so neither too often nor too rarely
  assert abs(false - nominal) < 3 * math.sqrt(nominal * (1 - nominal) / 100)


@pytest.mark.parametrize(("difference", "margin"), [(0.3, None), (0.0, 0.2)])
def test_as_many_runs_as_forecast_settle_it_about_four_times_in_five(difference, margin):
  rng = np.random.default_rng(8)
  pilot = noisy(9)
  pilot = (pilot - pilot.mean()) / pilot.std(ddof=1) + difference
  middle, low, high = only(table(A=np.zeros(40), B=pilot), margin=margin).forecast.enough
  assert 40 < low <= middle <= high and {low, middle, high} <= {40 << k for k in range(1, 9)}
  settled = []
  for _ in range(30):
    later = np.concatenate([pilot, rng.normal(difference, 1, middle - 40)])
    found = only(table(A=np.zeros(middle), B=later), margin=margin, planned_n=40)
    settled.append(found.settled)
  assert set(settled) <= ({"equal", "open"} if margin else {"better", "open"})
  assert np.mean(np.array(settled) != "open") >= 0.7


def test_the_forecast_is_said_with_its_cost_and_only_of_what_is_open():
  a, b = sweep(np.zeros(40), planned_n=40), sweep(with_p(1, 0.06), planned_n=40)
  for dataset in (a, b):
    dataset["seconds"] = ("run", np.full(40, 36.0, np.float32))
  found = compare([a, b])
  forecast = found.pairs[0].forecast
  assert forecast.next_runs == 80
  said = words(found)
  assert "The next look is at 80 pairs and settles it with a chance of" in said
  middle = forecast.enough[0]
  cost = 2 * (middle - 40) * 36 / 3600
  assert f"About {middle} pairs" in said and f", {cost:.2g} hours more on one worker." in said
  settled = compare([a, sweep(5 + noisy(1), planned_n=40)])
  assert settled.pairs[0].forecast is None and "next look" not in words(settled)


def test_config_fields_that_differ_are_listed():
  config = {"data": {"name": "digits"}, "model": {"name": "mlp", "width": 8}}
  found = compare([sweep(BASE), sweep(RAISED, config=config)], names=["cnn", "mlp"])
  assert found.differences == [("model.name", ["cnn", "mlp"]), ("model.width", [None, 8])]
  text = report.comparison_text(found)
  assert re.search(r"^what differs +model.name +cnn \| mlp$", text, re.MULTILINE)
  assert re.search(r"^ +model.width +none \| 8$", text, re.MULTILINE)
  differences = report.comparison_json(found)["config_differences"]
  assert differences == {"model.name": ["cnn", "mlp"], "model.width": [None, 8]}
  assert not compare([sweep(BASE), sweep(RAISED)]).differences


def test_names_tell_sweeps_apart():
  sources = [sweep(BASE)] * 3
  assert [s.name for s in compare(sources).sweeps] == ["A", "B", "C"]
  names = compare(sources, names=["x", "x", "x"]).sweeps
  assert [s.name for s in names] == ["x", "x (2)", "x (3)"]
  frames = [table(base=BASE), table(base=BASE, B=RAISED)]
  assert [s.name for s in compare(frames).sweeps] == ["base", "base (2)", "B"]


def stored(path: pathlib.Path, accuracy_R, **attributes) -> pathlib.Path:
  """A finished store on disk with one metric."""
  runs = np.arange(len(accuracy_R))
  path.mkdir()
  records.create(
    path,
    runs=runs,
    seeds=runs.astype(np.uint32)[:, None].repeat(len(STREAMS), axis=1),
    plan=[10],
    outcome={"test_accuracy": (("evaluation",), (1,), "f4")},
    coords={},
    chunk=len(runs),
    attributes={
      "seedlab_version": "0",
      "metrics": ["test_accuracy"],
      "vary": list(STREAMS),
      "config": {"model": {"name": path.name}},
      "fingerprints": [{}],
      **attributes,
    },
  )
  records.Writer(path).write(
    runs,
    {
      "test_accuracy": np.asarray(accuracy_R, np.float32)[:, None],
      "digest": np.full(len(runs), b"0" * 64),
      "diverged": np.full(len(runs), -1),
      "seconds": np.ones(len(runs), np.float32),
      "fingerprint": np.zeros(len(runs), np.int32),
    },
  )
  return path


@pytest.fixture(scope="module")
def places(tmp_path_factory):
  """Two stores, planned for 40 runs, and a table, of accuracies."""
  folder = tmp_path_factory.mktemp("places")
  a, b, c = (0.5 + 0.01 * noisy(seed, 40, shift) for seed, shift in ((0, 0), (1, 5), (2, -5)))
  table(mine=c).rename(columns={"reward": "test_accuracy"}).to_csv(folder / "mine.csv", index=False)
  return (
    stored(folder / "relu", a, planned_n=40),
    stored(folder / "smelu", b, planned_n=40),
    folder / "mine.csv",
  )


def test_directories_and_tables_may_be_mixed(places):
  found = compare(places)
  assert [sweep.name for sweep in found.sweeps] == ["relu", "smelu", "mine"]
  assert [pair.settled for pair in found.pairs] == ["better", "worse"]
  assert [pair.judged_by for pair in found.pairs] == ["route", "route"]
  assert ("model.name", ["relu", "smelu", None]) in found.differences
  first = compare([places[2], records.open(places[0])])
  assert [sweep.name for sweep in first.sweeps] == ["mine", "B"]
  with pytest.raises(UserError, match="gone': no such file or directory"):
    compare([places[0], places[0].parent / "gone"])


# What is said.


def test_text_holds_verdict_interval_assumptions_and_what_stands_beside():
  found = compare(table(A=noisy(0), B=noisy(1, 40, 3)))
  text, (pair,) = words(found), found.pairs
  j = pair.judged
  assert "B is better than A" in text
  assert re.search(rf"{j.estimate:.2f} .*95 % interval.* {j.low:.2f} to {j.high:.2f}\b", text)
  assert (
    "It speaks of new seeds under the same evaluation; from 40 pairs with the same seed; with the"
    " 40 seeds fixed beforehand, as is assumed (--looked if they were not)."
  ) in text
  f, b = pair.fixed, pair.better
  limits_text = f"{f.low:.2f} to {f.high:.2f}"
  line = f"paired t as fixed beforehand 95 % +{f.estimate:.2f} ({limits_text}), p < 1e-15"
  assert line in text
  assert f"P(B better) {b.estimate:.2f} ({b.low:.2f} to {b.high:.2f}), exact binomial" in text
  assert "Bouthillier's rule, no verdict" in text and "permutation p" not in text
  details = report.comparison_text(found, details=True)
  for name in ("permutation p", "BCa bootstrap", "Cliff's delta", "almost stochastic", "of sds"):
    assert name in details
  assert "on this test set" not in text
  assert "on this test set" in words(compare([store(errors()), store(errors(seed=1))]))


@pytest.mark.parametrize(
  "sources",
  [
    table(A=noisy(0), B=noisy(1), C=noisy(2, 40, 9)),
    [store(errors()), store(errors(seed=1), diverged=(3,))],
  ],
)
def test_markdown_is_a_sentence_a_variant_and_a_table_with_a_row_a_sweep(sources):
  found = compare(sources)
  *sentences, last = report.comparison_markdown(found).split("\n\n")
  assert len(sentences) == len(found.pairs)
  for sentence, pair in zip(sentences, found.pairs, strict=True):
    assert f"{pair.variant.name} is " in sentence and "% interval" in sentence
    assert "It speaks of new seeds" in sentence and "\n" not in sentence
  head, rule, *rows = last.splitlines()
  width = head.count("|")
  assert re.fullmatch(r"\|( --- \|)+", rule) and len(rows) == len(found.sweeps)
  assert all(line[0] == line[-1] == "|" and line.count("|") == width for line in (rule, *rows))
  assert [row.split("|")[1].strip() for row in rows] == [sweep.name for sweep in found.sweeps]
  cells = [row.split("|")[-2].strip() for row in rows]
  assert cells[0] == "-"
  for cell, pair in zip(cells[1:], found.pairs, strict=True):
    sign = "+" * (pair.judged.estimate > 0)
    assert cell.startswith(f"{sign}{pair.judged.estimate:.2f}")


def test_json_holds_the_numbers_of_the_comparison():
  found = compare(table(A=noisy(0), B=noisy(1), C=noisy(2, 40, 9)), margin=0.5)
  values = json.loads(json.dumps(report.comparison_json(found), allow_nan=False))
  assert (values["metric"], values["margin"], values["better"]) == ("reward", 0.5, "higher")
  for one, of in zip(values["sweeps"], found.sweeps, strict=True):
    s = of.columns[0].summary
    assert (one["name"], one["runs"], one["mean"], one["sd"]) == (of.name, s.n, s.mean, s.sd)
    assert one["distribution_wise_sd"] is None and one["planned_n"] is None
  for one, pair in zip(values["comparisons"], found.pairs, strict=True):
    assert (one["baseline"], one["variant"]) == ("A", pair.variant.name)
    assert (one["outcome"], one["judged_by"]) == (pair.settled, "fixed")
    assert one["paired"] and (one["runs"], one["baseline_runs"]) == (40, 40)
    for key, interval in (
      ("judged", pair.judged),
      ("fixed_n", pair.fixed),
      ("anytime", pair.anytime),
      ("probability_better", pair.better),
    ):
      assert (one[key]["low"], one[key]["high"]) == limits(interval), key
      assert (one[key]["estimate"], one[key]["level"]) == (interval.estimate, interval.level)
    assert one["fixed_n"]["p_value"] == pair.fixed.p_value
    assert (one["p_value"], one["p_equal"]) == (pair.p_value, pair.p_equal)
    assert one["looks"] == [{"runs": 40, "baseline_runs": 40, "weight": 1.0}]
    assert one["notes"] == [] and (one["forecast"] is None) == (pair.forecast is None)
  accuracy = report.comparison_json(compare([store(errors()), store(errors(seed=1))]))
  assert (accuracy["unit"], accuracy["better"]) == ("%", "higher")
  assert accuracy["sweeps"][0]["distribution_wise_sd"] > 0


def test_an_unknown_direction_judges_nothing_in_any_form():
  frame = table(A=noisy(0), B=noisy(1, 40, 9), C=noisy(2, 40, 9)).rename(
    columns={"reward": "score"}
  )
  for options in ({}, {"margin": 2}, {"paired": False}):
    found = compare(frame, **options)
    text, markdown = words(found), report.comparison_markdown(found)
    page = report.comparison_page(found)
    values = report.comparison_json(found)
    for said in (text, markdown, page, report.comparison_text(found, details=True)):
      assert "is not known; --better=higher or --better=lower says it" in " ".join(said.split())
      assert not re.search(r"B is (better|worse|higher|lower|equal)|Open whether", said)
      assert not re.search("stochastic order|Bouthillier|rank .95 %", said)
    assert values["better"] is None and values["ranks"] is None
    for one in values["comparisons"]:
      assert one["outcome"] == "unknown direction"
      assert one["probability_better"] is one["forecast"] is None
      assert one["judged"]["low"] > 7 and one["fixed_n"]["level"] == 0.95


def test_a_direction_that_is_said_is_the_one_that_judges():
  frame = table(A=noisy(0), B=noisy(1, 40, 9))
  assert only(frame).settled == "better" and only(frame, better="lower").settled == "worse"
  score = frame.rename(columns={"reward": "score"})
  assert only(score, better="higher").settled == "better"
  assert report.comparison_json(compare(score, better="lower"))["better"] == "lower"
  with pytest.raises(UserError, match="better='up' must be higher or lower"):
    compare(score, better="up")


def meant(values, metric="score", better="lower", unit=None) -> xarray.Dataset:
  dataset = sweep(values, metric)
  dataset.attrs["meanings"] = {metric: {"better": better, "unit": unit}}
  return dataset


def test_a_store_says_what_its_metric_means():
  a, b = meant(noisy(0), unit="nats"), meant(noisy(1, 40, 9), unit="nats")
  found = compare([a, b])
  assert found.pairs[0].settled == "worse" and found.unit == " nats"
  assert report.comparison_json(found)["unit"] == "nats"
  assert re.search(r"B is worse than A by [\d.]+ nats", words(found))
  # Said of the metric, not read off its name; a sweep that does not know follows.
  assert (
    only(*(meant(x, "accuracy", "lower") for x in (noisy(0), noisy(1, 40, 9)))).settled == "worse"
  )
  assert only(a, sweep(noisy(1, 40, 9), "score")).settled == "worse"
  with pytest.raises(UserError, match=r"'score': A and B say opposite things.*say it with better="):
    compare([a, meant(noisy(1), better="higher")])
  assert only(a, meant(noisy(1, 40, 9), better="higher"), better="higher").settled == "better"


@pytest.mark.parametrize(
  ("metric", "unit", "percent"),
  [
    ("val_acc", None, True),
    ("top1", None, True),
    ("inaccuracy", None, True),
    ("neg_accuracy_std", None, False),
    ("f1", None, False),
    ("f1", "fraction", True),
    ("accuracy", "nats", False),
  ],
)
def test_points_are_of_accuracies_and_of_what_a_store_calls_a_fraction(metric, unit, percent):
  inside = [findings.examine(meant(0.5 + 0.1 * np.arange(4) / 4, metric, None, unit))]
  beyond = findings.examine(meant(90 + np.arange(4), metric, None, unit))
  assert inside[0].percent is percent and not beyond.percent
  assert inside[0].unit == (" points" if percent else f" {unit}" if unit else "")


def test_what_a_diverged_run_counts_as_needs_a_metric_that_guessing_has():
  values = np.array([math.nan, 0.9, 0.8, 0.7])
  counts = {
    (metric, better): findings.examine(meant(values, metric, better, "fraction")).chance
    for metric, better in (("accuracy", None), ("top5", None), ("f1", None), ("accuracy", "lower"))
  }
  top5 = 100 * min(5 / CLASSES, 1)
  assert list(counts.values()) == [pytest.approx(100 / CLASSES), pytest.approx(top5), None, None]


def test_a_store_that_does_not_say_its_test_set_is_named():
  a, b = sweep(BASE), sweep(RAISED)
  assert not any("not known whether" in note for note in notes(only(a, b)))
  b.attrs["evaluation_digest"] = None
  (note,) = (note for note in notes(only(a, b)) if "not known whether" in note)
  assert "B did not record which" in note and note in words(compare([a, b]))
  b.attrs["evaluation_digest"] = "another"
  with pytest.raises(UserError, match="different test sets"):
    compare([a, b])
  both = compare([table(A=BASE), table(B=RAISED)])  # a table has no test set to record
  assert not any("not known whether" in note for note in notes(both.pairs[0]))


def test_the_same_runs_give_the_same_words():
  frame = table(A=noisy(0), B=noisy(1, 40, 0.5))
  texts = {report.comparison_text(compare(frame, margin=1), details=True) for _ in range(2)}
  assert len(texts) == 1


def test_a_page_of_a_comparison_holds_its_verdict():
  page = report.comparison_page(compare(table(A=noisy(0), B=noisy(1, 40, 9))))
  assert "<h1>" in page and "B is better than A" in page


# Through the command line.


def run(name: str, *arguments, status: int = 0) -> subprocess.CompletedProcess:
  done = forked.command(name, *arguments)
  assert done.returncode == status, done.stderr
  if status == 2:
    assert len(done.stderr.strip().splitlines()) == 1 and "Traceback" not in done.stderr
  return done


def test_the_command_prints_json_of_stores_and_a_table(places):
  values = json.loads(run("compare", *places, "--json", "--margin=1").stdout)
  assert [one["outcome"] for one in values["comparisons"]] == ["better", "worse"]
  expected = report.comparison_json(compare(places, margin=1))
  assert values == json.loads(json.dumps(expected))


def test_better_and_details_on_the_command_line(tmp_path, places):
  file, page = tmp_path / "scores.csv", tmp_path / "page.html"
  table(A=noisy(0), B=noisy(1, 40, 9)).rename(columns={"reward": "score"}).to_csv(file, index=False)
  said = json.loads(run("compare", file, "--json", "--better=lower").stdout)
  assert said["comparisons"][0]["outcome"] == "worse"
  shown = run("report", file, "--better=lower", "--details", f"--page={page}").stdout
  assert "best run" in shown and "median, whatever" in shown
  assert "B is worse than A" in page.read_text()
  run("report", places[0].parent, "--better=lower", f"--page={page}")
  best = page.read_text().split("the best is")[1]
  assert re.match(r"\s+\S+ % \(model.name=relu\)", best)  # the lower of the two accuracies


def test_mistakes_at_the_command_line_are_one_line(places):
  done = run("compare", places[0], places[0].parent / "gone", status=2)
  assert "gone" in done.stderr and not done.stdout
  done = run("compare", *places, "--json", "--markdown", status=2)
  assert "--json and --markdown" in done.stderr and not done.stdout


def test_crossed_against_joint_over_many_streams_is_refused_without_a_giant_array():
  with pytest.raises(UserError):
    compare([sweep(noisy(0, 60), **CROSSED), sweep(noisy(1, 60))])


def test_the_order_in_which_crossed_streams_are_named_says_nothing():
  a, b = noisy(0, 60), noisy(1, 60)
  swapped = sweep(b, vary=("order", "init"), seeds=GRID)
  same = only(sweep(a, **CROSSED), sweep(b, **CROSSED))
  assert limits(only(sweep(a, **CROSSED), swapped).judged) == pytest.approx(limits(same.judged))


def test_square_crossed_designs_are_aligned_by_stream():
  a, b = noisy(0, 36), noisy(1, 36)
  grid = {"init": np.arange(36) // 6, "order": np.arange(36) % 6}
  first = sweep(a, vary=("init", "order"), seeds=grid)
  pairs = [
    only(first, sweep(b, vary=v, seeds=grid)) for v in (("init", "order"), ("order", "init"))
  ]
  assert limits(pairs[0].judged) == pytest.approx(limits(pairs[1].judged))


def test_crossed_sweeps_with_other_run_numbers_do_not_end_in_a_traceback():
  only(sweep(noisy(0, 60), **CROSSED), sweep(noisy(1, 60), **CROSSED, first=500))


def test_different_test_sets_are_refused_for_the_loss_too():
  with pytest.raises(UserError, match="different test sets"):
    compare([store(errors()), store(errors(examples=160))], "test_loss")


def test_bouthilliers_conclusion_names_the_variant():
  text = words(compare(table(A=noisy(0), B=noisy(1, 40, 3))))
  assert "A is better" not in text.replace("B is better", "")


@pytest.mark.parametrize("planned_n", [0, -3, 1])
def test_a_plan_below_two_is_refused(planned_n):
  with pytest.raises(UserError, match=f"planned_n={planned_n}"):
    compare(table(A=BASE, B=RAISED), planned_n=planned_n)


def test_differences_equal_but_for_rounding_settle_nothing():
  a = noisy(0)
  pair = only(table(A=a, B=a + 0.1))
  assert math.isnan(pair.fixed.low) and pair.settled == "open"


def test_a_pipe_in_a_name_does_not_break_the_markdown_table():
  rows = report.comparison_markdown(compare(table(**{"A": BASE, "B|x": RAISED}))).splitlines()
  assert len({row.replace("\\|", "").count("|") for row in rows if row.startswith("|")}) == 1


def test_sweeps_all_diverged_have_no_difference_without_diverged_runs():
  everything = store(errors(), diverged=tuple(range(60)))
  assert only(everything, store(errors(seed=1), diverged=(1,))).without_diverged is None


def test_without_an_interval_the_estimate_shown_is_of_all_runs():
  pair = only(table(A=[1.0], B=noisy(0)))
  assert pair.judged.estimate == pytest.approx(pair.fixed.estimate)


def test_a_verdict_with_a_margin_says_whether_it_is_more_than_that():
  a = noisy(0)
  far, near = (
    only(table(A=a, B=noisy(1, 40, 9)), margin=1.0),
    compare(table(A=a, B=a + 0.5 + 0.1 * noisy(2)), margin=1.0),
  )
  assert far.settled == "better"
  assert "That is more than 1." in words(compare(table(A=a, B=noisy(1, 40, 9)), margin=1.0))
  assert "Not shown to be by more than 1." in words(near)


def test_intervals_of_several_variants_say_their_level():
  frame = table(A=noisy(0), B=noisy(1), C=noisy(2))
  found = compare(frame)
  rows = report.comparison_markdown(found).splitlines()
  judged = found.pairs[0].judged
  assert f"({100 * judged.level:.4g} %: " in next(row for row in rows if row.startswith("| B"))
  text = words(found)
  assert "difference, paired t as fixed beforehand 97.5 %" in text
  assert "several are compared (Holm)" in text


def test_values_whose_squares_overflow_are_refused():
  with pytest.raises(UserError, match=r"in row 1 is above 1e\+100: its square overflows"):
    compare(table(A=1e300 * noisy(0), B=1e300 * noisy(1)))
