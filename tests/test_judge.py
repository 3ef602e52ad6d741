"""The referee: what it says, with which exit status, and what a session of proposals refuses."""

import itertools
import json
import math
import pathlib
import subprocess
import sys

import forked
import numpy as np
import pandas as pd
import pytest
import test_outputs

import seedlab
from seedlab import comparisons, findings, ledger, referee, session
from seedlab.errors import NotComparable, UserError
from tests.test_readme import blocks

BASE = np.random.default_rng(0).normal(3.28, 0.01, 24)


def table(path, values, first=0, metric="val_loss"):
  """A file with one row a seed; None is an empty cell."""
  rows = [f"{first + i},{'' if v is None else v}" for i, v in enumerate(values)]
  pathlib.Path(path).write_text("\n".join([f"seed,{metric}", *rows]) + "\n")
  return path


@pytest.fixture
def base(tmp_path):
  return table(tmp_path / "base.csv", BASE)


def candidate(tmp_path, name, gain, count, sd=0.01, seed=1, first=0):
  values = np.random.default_rng(seed).normal(3.28 - gain, sd, count)
  return table(tmp_path / f"{name}.csv", values, first)


@pytest.fixture
def book(tmp_path):
  return tmp_path / "session.jsonl"


def command(*words, cwd=None):
  return forked.command("judge", *words, cwd=cwd)


def only(found):
  (judgement,) = found.judgements
  return judgement


# Two sides.


@pytest.mark.parametrize(
  ("gain", "margin", "outcome", "status"),
  [(0.03, None, "better", 0), (-0.03, None, "worse", 10), (0.0, 0.02, "equal", 11),
   (0.003, None, "open", 12)],
)  # fmt: skip
def test_outcome_and_status(tmp_path, base, gain, margin, outcome, status):
  found = referee.judge(base, candidate(tmp_path, "c", gain, 12), margin=margin)
  assert (only(found).outcome, found.status) == (outcome, status)
  pair = comparisons.compare([base, tmp_path / "c.csv"], margin=margin).pairs[0]
  assert pair.settled == outcome and only(found).numbers["p_value"] == pair.p_value
  assert (only(found).name, found.baseline) == ("c", "base") and " c " in f" {only(found).sentence}"
  named = referee.judge(base, tmp_path / "c.csv", margin=margin, names=["old", "new"])
  assert (only(named).name, only(named).numbers["baseline"]) == ("new", "old")


def test_the_status_is_that_of_the_best(tmp_path, base):
  worse = candidate(tmp_path, "worse", -0.03, 12)
  better = candidate(tmp_path, "better", 0.03, 12)
  unclear = candidate(tmp_path, "unclear", 0.0, 12)
  assert referee.judge(base, [worse]).status == 10
  assert referee.judge(base, [worse, unclear]).status == 12
  assert referee.judge(base, [worse, unclear, better]).status == 0
  assert sorted(set(referee.STATUS.values())) == sorted(referee.BEST_FIRST)


def test_not_comparable_is_an_outcome_and_the_others_are_judged(tmp_path, base):
  accuracy = table(tmp_path / "base2.csv", [0.9, 0.91, 0.92, 0.93], metric="accuracy")
  points = table(tmp_path / "points.csv", [90.0, 91.0, 92.0, 93.0], metric="accuracy")
  good = table(tmp_path / "good.csv", [0.97, 0.98, 0.975, 0.972], metric="accuracy")
  found = referee.judge(accuracy, [points, good])
  assert [j.outcome for j in found.judgements] == ["not comparable", "better"]
  assert found.status == 0 and "one unit" in found.judgements[0].sentence
  assert referee.judge(accuracy, points).status == 13
  with pytest.raises(NotComparable):
    comparisons.compare([accuracy, points])


def test_wrong_input_is_no_outcome(tmp_path, base):
  good = candidate(tmp_path, "good", 0.03, 12)
  for call, message in [
    (lambda: referee.judge(base, good, metric="loss"), "metric='loss' is not known"),
    (lambda: referee.judge(base, good, proposals=5), "proposals=5 has no meaning without a ledger"),
    (lambda: referee.judge(base, good, target=3.0, margin=1.0), "margin=1.0 has no meaning"),
    (lambda: referee.judge(base, good, sigma=1.0, floor=base), "sigma"),
    (lambda: referee.judge(base, good, floor="own"), "floor='own' is for a ledger"),
    (lambda: referee.judge(base, good, sigma=-1.0), "must be a positive number"),
    (lambda: referee.judge(base, tmp_path / "none.csv"), "none.csv.: no such file"),
    (lambda: referee.judge(base, good, names=["a"]), "are 1 for 2 sources"),
  ]:
    with pytest.raises(UserError, match=message):
      call()
  unknown = [table(tmp_path / f"{n}.csv", [1.0, 2.0, 3.0], metric="thing") for n in "ab"]
  with pytest.raises(UserError, match="better=higher or better=lower"):
    referee.judge(*unknown)
  assert referee.judge(*unknown, better="lower").status == 12


def test_a_single_source_is_told_what_it_could_be_judged_by(base):
  one = pd.DataFrame({"variant": ["a"] * 3, "seed": range(3), "loss": [1.0, 2.0, 3.0]})
  for source, name in [(base, "base"), (one, "a"), (one[["seed", "loss"]], "the table")]:
    message = rf"^{name} is all .*candidates.*\(--target\).*\(--ledger\)$"
    with pytest.raises(UserError, match=message):
      referee.judge(source)
  done = command(base)
  assert done.returncode == 2 and "--target" in done.stderr and not done.stdout


def test_frames_and_the_name_at_the_top():
  losses = [1, 2, 4, 3, 2, 8, 7, 9, 9, 6]
  frame = pd.DataFrame({"variant": [*"aaaaabbbbb"], "seed": [*range(5)] * 2, "loss": losses})
  found = seedlab.judge(frame)
  assert (only(found).name, only(found).outcome) == ("b", "worse")


def mixed(**variants):
  """A table of variants with one row a seed."""
  rows = [(v, n, loss) for v, some in variants.items() for n, loss in enumerate(some)]
  return pd.DataFrame(rows, columns=["variant", "seed", "val_loss"])


LOST, EMPTY = [math.inf] * 5, [None] * 5


def test_a_variant_that_diverged_or_is_missing_entirely_leaves_the_others(tmp_path):
  frame = mixed(base=BASE[:5], bad=LOST, good=BASE[5:10] - 0.1, late=[*EMPTY, math.inf])
  found = referee.judge(frame)
  assert [j.name for j in found.judgements] == ["bad", "good", "late"]
  assert [j.outcome for j in found.judgements] == ["worse", "better", "open"]
  bad, good, late = found.judgements
  p_value = 1 / math.comb(10, 5) * 2  # all five of the one and none of the other, two-sided
  assert bad.numbers["p_value"] == pytest.approx(p_value) and "p = 0.0079" in bad.sentence
  assert bad.numbers["level"] == 1 - 0.05 / 2  # two were tested
  assert late.sentence.endswith("5 runs of late are missing, and 1 diverged: none has a value.")
  alone = referee.judge(frame[~frame["variant"].isin(["bad", "late"])])
  assert only(alone).numbers == good.numbers and found.status == 0
  few = only(referee.judge(mixed(base=BASE[:3], bad=LOST[:3])))
  assert few.outcome == "open" and "p = 0.1 by Fisher's exact test; 0.05 is needed" in few.sentence
  assert only(referee.judge(mixed(base=BASE[:5], bad=LOST), looked=True)).outcome == "open"
  part = mixed(base=[*BASE[:3], math.inf, None], bad=LOST)  # what is missing may have diverged
  assert only(referee.judge(part)).numbers["p_value"] == pytest.approx(2 * 10 / 120)


def test_a_variant_that_diverged_on_one_task_is_judged_there(tmp_path):
  """By the baseline's runs on that task, in the order given."""
  rng = np.random.default_rng(1)
  one = mixed(base=rng.normal(3, 0.01, 5), x=rng.normal(3.1, 0.01, 5), y=rng.normal(3, 0.01, 5))
  two = mixed(base=[*rng.normal(3, 0.01, 9), math.inf], x=LOST, y=rng.normal(3, 0.01, 5))
  found = referee.judge(pd.concat([one.assign(task="p"), two.assign(task="q")]))
  assert [j.name for j in found.judgements] == ["x", "y", "x", "y"]
  assert [j.outcome for j in found.judgements] == ["worse", "open", "worse", "open"]
  said = found.judgements[2].sentence
  assert "all 5 runs of x on q diverged, against 1 of the 10 runs of base" in said


def test_files_that_diverged_entirely_leave_the_others(tmp_path, base):
  bad = table(tmp_path / "bad.csv", LOST)
  good = candidate(tmp_path, "good", 0.03, 12)
  found = referee.judge(base, [bad, good])
  assert [(j.name, j.outcome) for j in found.judgements] == [("bad", "worse"), ("good", "better")]
  named = referee.judge(base, [bad, good], names=["x", "y", "z"])
  assert [j.name for j in named.judgements] == ["y", "z"] and named.baseline == "x"
  assert only(named.__class__("", "", named.judgements[1:])).numbers["variant"] == "z"
  for lost in (LOST, EMPTY):
    with pytest.raises(UserError, match=r"diverged|missing"):
      referee.judge(table(tmp_path / "lost.csv", lost), good, metric="val_loss")


def test_lost_variants_with_a_target_and_in_a_session(tmp_path, book):
  frame = mixed(bad=LOST, good=BASE[:5] - 0.05, late=EMPTY)
  found = referee.judge(frame, target=3.28)
  assert [(j.name, j.outcome) for j in found.judgements] == [
    ("bad", "open"), ("good", "met"), ("late", "open"),
  ]  # fmt: skip
  with pytest.raises(UserError, match="every completed run"):
    referee.judge(mixed(bad=LOST), target=3.28, metric="val_loss")
  frame = mixed(base=BASE, bad=LOST, late=EMPTY, good=BASE[:12] - 0.06)
  found = referee.judge(frame, ledger=book)
  assert [(j.name, j.outcome) for j in found.judgements] == [
    ("bad", "dropped"), ("late", "open"), ("good", "kept"),
  ]  # fmt: skip
  assert [e["name"] for e in entries(book)[1:]] == ["base", "bad", "good"]


# A target.


def test_target(tmp_path):
  low = table(tmp_path / "low.csv", [3.279, 3.2775, 3.2785, 3.2768])
  found = referee.judge(low, target=3.28)
  assert only(found).outcome == "open" and found.status == 12  # p = 0.0126
  assert "4 runs" in only(found).sentence and "fresh runs would show it" in only(found).advice
  assert "2.9 sd with 4 runs" in found.beforehand
  five = table(tmp_path / "five.csv", [3.279, 3.2775, 3.2785, 3.2768, 3.2772])
  assert only(referee.judge(five, target=3.28)).outcome == "met"
  assert referee.judge(five, target=3.27).status == 10
  assert referee.judge(low, five, target=3.28).status == 0  # all are judged, the best counts
  known = only(referee.judge(low, target=3.28, sigma=0.001))
  assert known.outcome == "met" and "taken as known" in known.sentence
  wide = only(referee.judge(five, target=3.28, floor=table(tmp_path / "f.csv", BASE)))
  assert wide.outcome == "open" and "learnt from f" in wide.sentence


def test_target_of_an_accuracy_is_in_percent(tmp_path):
  runs = table(tmp_path / "a.csv", [0.941, 0.9415, 0.9408, 0.9412], metric="accuracy")
  assert only(referee.judge(runs, target=94)).outcome == "met"
  assert only(referee.judge(runs, target=94.2)).outcome == "missed"


def sweeps_of(*values, metric="accuracy"):
  frames = [pd.DataFrame({"seed": range(len(some)), metric: some}) for some in values]
  return [comparisons.read(frame)[0] for frame in frames]


HIGH = [0.88, 0.90, 0.91, 0.895]  # sd 1.25 points


@pytest.mark.parametrize("scale", [1, 100])  # fractions, and a column that is in percent already
def test_a_fraction_given_where_percent_is_meant_is_refused(scale):
  runs = sweeps_of([scale * value for value in HIGH])
  for field, value, message in [
    ("target", 0.9, "target=0.9: accuracy is in percent, .* at 89.6 %; write target=90 for 90 %"),
    ("target", 1, "target=100 for 100 %"),
    ("target", 940, "goes from 0 to 100"),
    ("target", -1, "goes from 0 to 100"),
    ("sigma", 0.005, "sigma=0.005: .* spread by 1.2 points; .* 0.5 is half a point: sigma=0.5 if"),
    ("margin", 0.005, "margin=0.005: .* 0.5 is half a point: margin=0.5 if 0.005 was meant"),
  ]:
    with pytest.raises(UserError, match=message):
      findings.in_points(field, value, runs)
  for field, value in [("target", 90), ("target", 9), ("sigma", 0.5), ("margin", 0.5),
                       ("sigma", None), ("target", 0)]:  # fmt: skip
    findings.in_points(field, value, runs)


def test_small_numbers_that_the_runs_are_of_the_order_of_pass():
  error = sweeps_of([0.0035, 0.0041, 0.0038], metric="test_error_rate")
  findings.in_points("target", 0.3, error)
  findings.in_points("target", 0.9, sweeps_of([0.12, 0.13], [0.01, 0.02], metric="error_rate"))
  with pytest.raises(UserError, match="target=90 for 90 %"):
    findings.in_points("target", 0.9, sweeps_of([0.12, 0.13], metric="error_rate"))
  near = sweeps_of([0.94 + 1e-5 * n for n in range(9)])
  findings.in_points("sigma", 0.01, near)
  findings.in_points("margin", 0.01, near)
  many = sweeps_of(np.random.default_rng(0).normal(0.94, 0.0014, 10_000))
  findings.in_points("margin", 0.01, many)  # these runs can show it
  with pytest.raises(UserError, match="margin=1 if"):
    findings.in_points("margin", 0.01, sweeps_of(HIGH))
  with pytest.raises(UserError, match="single runs show no spread that is so small"):
    findings.in_points("sigma", 0.005, sweeps_of([0.9], [0.91]))
  findings.in_points("margin", 0.005, sweeps_of([0.9], [0.91]))
  loss = sweeps_of(BASE, metric="val_loss")
  for field in ("target", "margin", "sigma"):
    findings.in_points(field, 0.001, loss)


def test_judge_refuses_fractions_for_target_and_sigma(tmp_path, book):
  runs = table(tmp_path / "a.csv", HIGH * 6, metric="accuracy")
  with pytest.raises(UserError, match="write target=90 for 90 %"):
    referee.judge(runs, target=0.9)
  with pytest.raises(UserError, match=r"sigma=0\.5 if 0\.005 was meant"):
    referee.judge(runs, target=90, sigma=0.005)
  with pytest.raises(UserError, match=r"sigma=0\.5 if 0\.005 was meant"):
    referee.judge(runs, ledger=book, sigma=0.005)
  assert not book.exists()


def test_target_with_runs_that_are_lost(tmp_path):
  """Of a loss the verdict is withheld; of an accuracy they count as nothing right."""
  loss = table(tmp_path / "l.csv", [3.20, 3.21, 3.20, 3.21, 3.2, None])
  found = only(referee.judge(loss, target=3.28))
  assert found.outcome == "open" and found.sentence.startswith("Withheld")
  high = [0.95, 0.951, 0.949, 0.95, 0.952]
  whole = table(tmp_path / "w.csv", high, metric="accuracy")
  lost = table(tmp_path / "a.csv", [*high, None], metric="accuracy")
  assert only(referee.judge(whole, target=94)).outcome == "met"
  assert only(referee.judge(lost, target=94)).outcome == "open"


def test_target_of_one_run(tmp_path):
  one = table(tmp_path / "one.csv", [3.2])
  found = referee.judge(one, target=3.28)
  assert only(found).outcome == "open" and only(found).numbers["runs"] == 1
  assert "one run (3.2) has no spread to judge by" in only(found).sentence
  assert only(found).advice == "Give sigma or floor, or two runs and more."
  assert found.beforehand == (
    "One run shows nothing by itself: give sigma or floor, or two runs and more."
  )
  both = referee.judge(one, table(tmp_path / "four.csv", [3.1, 3.2, 3.3, 3.2]), target=3.28)
  assert "by 2.9 sd with 4 runs. One run shows nothing" in both.beforehand
  assert only(referee.judge(one, target=3.28, sigma=0.01)).outcome == "met"
  alike = only(referee.judge(table(tmp_path / "alike.csv", [math.pi] * 3), target=3.28))
  assert "all 3 runs have the value 3.14159" in alike.sentence and "more digits" in alike.advice
  for said in (found.beforehand, only(found).sentence, alike.sentence):
    assert "nan" not in said and "no distance" not in said


def test_advice_on_an_open_target_is_final_nowhere(tmp_path):
  """Open is where the target lies within the limits of the mean; so nothing is settled."""
  wrong = only(referee.judge(table(tmp_path / "w.csv", [3.26, 3.27, 3.29, 3.31]), target=3.28))
  assert wrong.outcome == "open"
  # Mean 3.2825; variance 0.001475 / 3 and 0.01^2 / 12 for the grid: 0.0005, so 0.01118 the standard
  # error, of which 0.0025 is 0.2; t(0.99, 3) = 4.5407, so 0.05077 either way.
  assert "0.2 standard errors on the wrong side" in wrong.advice
  assert "from 3.2317 to 3.3333, each limit at 99 %" in wrong.advice
  near = only(referee.judge(table(tmp_path / "n.csv", [3.26, 3.27, 3.285, 3.304]), target=3.28))
  assert near.outcome == "open" and "If mean and sd are what they seem, not even 200" in near.advice
  assert "these 4 runs leave it open on which side the mean is" in near.advice
  for one in (wrong, near):
    assert "stop" not in one.advice and "no remedy" not in one.advice
  high = table(tmp_path / "h.csv", [0.932, 0.938, 0.941, 0.943], metric="accuracy")
  found = only(referee.judge(high, target=94))
  low, up = (float(word.strip(",")) for word in found.advice.split() if word.startswith("9")
             and "." in word)  # fmt: skip
  assert low < 94 < up and found.numbers["bound"] == pytest.approx(low, abs=1e-3)


def test_advice_on_lost_runs_is_of_those_there_are(tmp_path):
  loss = [3.20, 3.21, 3.20, 3.21]
  for values, there, absent in [
    ([*loss, None], "Train the missing run.", "diverged"),
    ([*loss, math.inf], "mend what diverges", "missing"),
    ([*loss, None, None, math.inf], "Train the missing runs. A run that diverged", "0 "),
  ]:
    found = only(referee.judge(table(tmp_path / "l.csv", values), target=3.28))
    assert found.outcome == "open" and there in found.advice
    assert absent not in found.advice and absent not in found.sentence
  high = [0.95, 0.951, 0.949, 0.95, 0.952]
  lost = table(tmp_path / "a.csv", [*high, math.inf], metric="accuracy")
  found = only(referee.judge(lost, target=94))
  assert found.outcome == "open" and "1 run diverged: counted as 0 %" in found.sentence
  assert found.advice == (
    "Without what diverged the mean is 95.04 %, beyond the target: what decides is how often runs"
    " diverge."
  )
  below = only(referee.judge(lost, target=95.5))
  assert "95.04 %, not beyond the target either" in below.advice


def test_runs_that_are_missing_are_no_evidence_against_a_target(tmp_path):
  """They count as nothing right for "met", and as all right for "missed"."""
  high = [0.95, 0.951, 0.949]
  values = [*high, *[None] * 9]
  found = only(referee.judge(table(tmp_path / "a.csv", values, metric="accuracy"), target=94))
  assert found.outcome == "open" and found.advice == "Train the missing runs."
  values = [*high, *[math.inf] * 9]
  found = only(referee.judge(table(tmp_path / "a.csv", values, metric="accuracy"), target=94))
  assert found.outcome == "missed"


def test_runs_that_share_seeds_are_refused_by_target_and_session(book):
  crossed = test_outputs.crossed(0)
  for options in ({"target": 50}, {"ledger": book}):
    with pytest.raises(UserError, match="'crossed' has runs that share seeds"):
      referee.judge(crossed, names=["crossed"], **options)
  assert not book.exists()


# A session.


def entries(book):
  return ledger.read(book)[0]


def test_a_session_from_baseline_to_fresh_baseline(tmp_path, base, book):
  found = referee.judge(base, ledger=book)
  assert found.status == 0 and not found.judgements
  assert "24 runs" in found.beforehand and "79 %" in found.beforehand
  assert "25 baseline runs would make it 80 %" in found.beforehand
  dropped = only(referee.judge(base, candidate(tmp_path, "null", -0.01, 3), ledger=book))
  assert dropped.outcome == "dropped" and "no further seeds" in dropped.advice
  good = candidate(tmp_path, "good", 0.04, 12).read_text().splitlines()
  first = tmp_path / "good.csv"
  first.write_text("\n".join(good[:4]) + "\n")
  promising = only(referee.judge(base, first, ledger=book))
  assert promising.outcome == "open" and "9 further seeds" in promising.advice
  first.write_text("\n".join(good) + "\n")
  found = referee.judge(base, first, ledger=book)
  assert only(found).outcome == "kept" and found.ledger["needs_fresh_baseline"]
  assert only(found).numbers["j"] == 2 and only(found).numbers["level"] == pytest.approx(4e-5)
  rank = only(found).numbers["p_rank"]
  assert rank == pytest.approx(1 / math.comb(36, 12), rel=1e-3) or rank < 4e-5
  assert [e.get("decision") for e in entries(book)] == [None, None, "dropped", "promising", "kept"]

  other = candidate(tmp_path, "other", 0.0, 3)
  with pytest.raises(UserError, match=r"fresh seeds \(30 are recommended; none of 0, 1"):
    referee.judge(base, other, ledger=book)
  with pytest.raises(UserError, match="baseline seed=0: 12 seeds of this baseline won"):
    referee.judge(first, other, ledger=book)
  fresh = candidate(tmp_path, "fresh", 0.04, 30, first=100)
  found = referee.judge(fresh, other, ledger=book)
  assert only(found).outcome == "dropped" and found.ledger["made"] == 3
  assert found.ledger["baseline_runs"] == 30 and entries(book)[5]["of"] == 2


def test_a_repeated_question_gets_the_same_answer(tmp_path, base, book):
  """A proposer that was killed after the ledger was written asks again."""
  good = candidate(tmp_path, "good", 0.04, 12)
  first = referee.judge(base, good, ledger=book)
  before = book.read_bytes()
  again = referee.judge(base, good, ledger=book)
  assert only(again) == only(first) and again.ledger == first.ledger
  assert book.read_bytes() == before


@pytest.mark.parametrize("second", ["3.31", "", "inf"])
def test_repeats_of_a_seed_are_refused_with_it(tmp_path, base, book, second):
  good = candidate(tmp_path, "good", 0.04, 3)
  again = tmp_path / "again.csv"
  again.write_text(good.read_text() + f"1,{second}\n")
  with pytest.raises(UserError, match="'again' seed=1 was trained more than once"):
    referee.judge(base, again, ledger=book)
  assert not book.exists()
  twice = tmp_path / "twice.csv"
  twice.write_text(base.read_text() + f"23,{second}\n")
  with pytest.raises(UserError, match="'twice' seed=23 was trained more than once"):
    referee.judge(twice, ledger=book)


def test_a_renamed_proposal_and_another_digest_are_new(tmp_path, base, book):
  null = candidate(tmp_path, "null", -0.01, 3)
  for j, options in enumerate(
    [{}, {"names": ["base", "renamed"]}, {"digest": "a"}, {"digest": "b"}], 1
  ):
    found = referee.judge(base, null, ledger=book, **options)
    assert only(found).numbers["j"] == j and found.ledger["made"] == j


def test_values_that_were_judged_stay(tmp_path, base, book):
  values = [3.24, 3.245, 3.24]
  path = table(tmp_path / "good.csv", values)
  assert only(referee.judge(base, path, ledger=book)).outcome == "open"
  for changed, message in [
    ([3.24, 3.2, 3.24, 3.2], r"seed=1 is 3.2, and 3.245 in the ledger"),
    ([3.24, 3.245, None, 3.2], r"seed=2 is .*, and 3.24 in the ledger"),
    ([3.24, 3.245], r"seed=2 of the ledger \(3.24\) is not given"),
  ]:
    with pytest.raises(UserError, match=message):
      referee.judge(base, table(path, changed), ledger=book)
  table(path, values + [3.28] * 9)
  assert only(referee.judge(base, path, ledger=book)).outcome == "dropped"
  with pytest.raises(UserError, match="judged as proposal 1 and dropped; each is decided once"):
    referee.judge(base, table(path, values + [3.2] * 9), ledger=book)


def test_the_baseline_stays_once_it_was_used(tmp_path, base, book):
  referee.judge(table(tmp_path / "b.csv", BASE[:10]), ledger=book)
  referee.judge(base, ledger=book)  # it may grow before the first proposal
  with pytest.raises(UserError, match=r"baseline seed=3 is 3\.0, and 3\.2"):
    referee.judge(table(tmp_path / "b.csv", [*BASE[:3], 3.0, *BASE[4:]]), ledger=book)
  null = candidate(tmp_path, "null", -0.01, 3)
  referee.judge(base, null, ledger=book)
  with pytest.raises(UserError, match=r"against which 1 judgement was made; it\s+stays"):
    referee.judge(table(tmp_path / "b.csv", [*BASE, 3.3]), ledger=book)


@pytest.mark.parametrize(
  ("count", "message"),
  [(2, "has 2 seeds: a proposal is looked at with 3 first"), (13, "at most 12")],
)
def test_numbers_of_seeds(tmp_path, base, book, count, message):
  with pytest.raises(UserError, match=message):
    referee.judge(base, candidate(tmp_path, "c", 0, count), ledger=book)
  assert [e["kind"] for e in entries(book)] == ["session", "baseline"]


def test_a_baseline_that_can_keep_nothing(tmp_path, book):
  small = table(tmp_path / "small.csv", BASE[:6])
  with pytest.raises(UserError, match=r"not even 12 seeds .* train at least 7"):
    referee.judge(small, ledger=book)
  assert not book.read_bytes()  # nothing was declared yet
  assert "known" not in referee.judge(small, ledger=book, sigma=0.01).beforehand


def test_missing_runs_count_against_the_claim(tmp_path, base, book):
  referee.judge(base, ledger=book)
  state = session.so_far(entries(book)[:1])
  with pytest.raises(UserError, match="baseline seed=7 is missing; it might have been better"):
    session.baseline(state, session.Runs("b", [5, 6, 7], [3.2, 3.3, None]))
  lost = session.turned([3.2, None, "diverged"], -1)
  assert lost.tolist() == [-3.2, -math.inf, -math.inf]


def test_what_a_session_declared_stays(tmp_path, base, book):
  null = candidate(tmp_path, "null", -0.01, 3)
  referee.judge(base, null, ledger=book, proposals=100)
  assert entries(book)[2]["level"] == pytest.approx(4e-4)
  for options, message in [
    ({"proposals": 1000}, "proposals=1000: this ledger was opened with 100"),
    ({"mode": "fdr"}, "mode=fdr: this ledger was opened with strict"),
    ({"sigma": 0.01}, "floor=sd 0.01 from sigma: this ledger was opened with None"),
    ({"better": "higher"}, "better=higher: this ledger was opened with lower"),
  ]:
    with pytest.raises(UserError, match=message):
      referee.judge(base, null, ledger=book, **options)


def test_more_proposals_than_declared(tmp_path, base, book):
  null = candidate(tmp_path, "null", -0.01, 3)
  levels = [
    only(referee.judge(base, null, ledger=book, proposals=2, digest=str(j))).numbers["level"]
    for j in range(5)
  ]
  assert levels == pytest.approx([0.02, 0.02, 0.004, 0.004, 0.0008])
  other = tmp_path / "fdr.jsonl"
  for j in range(2):
    referee.judge(base, null, ledger=other, proposals=2, mode="fdr", digest=str(j))
  with pytest.raises(UserError, match="proposals=2 were declared and made"):
    referee.judge(base, null, ledger=other, digest="2")


def test_a_promising_proposal_keeps_its_level_and_number(tmp_path, base, book):
  good = candidate(tmp_path, "good", 0.05, 12)
  lines = good.read_text().splitlines()
  good.write_text("\n".join(lines[:4]) + "\n")
  assert only(referee.judge(base, good, ledger=book, proposals=1)).outcome == "open"
  null = only(referee.judge(base, candidate(tmp_path, "null", -0.01, 3), ledger=book))
  assert (null.numbers["j"], null.numbers["level"]) == (2, pytest.approx(0.008))
  good.write_text("\n".join(lines) + "\n")
  found = only(referee.judge(base, good, ledger=book))
  assert (found.numbers["j"], found.numbers["level"]) == (1, pytest.approx(0.04))


def test_seeds_that_won_are_no_part_of_a_baseline_that_grows(tmp_path, base, book):
  good = candidate(tmp_path, "good", 0.06, 12)
  referee.judge(base, good, ledger=book)
  fresh = table(tmp_path / "fresh.csv", BASE - 0.06, 100)
  referee.judge(fresh, ledger=book)
  grown = tmp_path / "grown.csv"
  grown.write_text(fresh.read_text() + "5,3.2\n")
  with pytest.raises(UserError, match="baseline seed=5: 1 seed of this baseline won"):
    referee.judge(grown, ledger=book)
  grown.write_text(fresh.read_text() + "300,3.2\n")
  assert referee.judge(grown, ledger=book).ledger["baseline_runs"] == 25


def test_a_keep_raises_the_levels_of_mode_fdr(tmp_path, base, book):
  good = candidate(tmp_path, "good", 0.06, 12)
  found = referee.judge(base, good, ledger=book, mode="fdr", proposals=10)
  assert only(found).outcome == "kept" and found.ledger["next_level"] == pytest.approx(0.01)


def test_lost_seeds_count_as_the_worst(tmp_path, base, book):
  values = [3.2] * 11
  diverged = table(tmp_path / "d.csv", [*values, math.inf])
  found = only(referee.judge(base, diverged, ledger=book))
  assert found.numbers["values"][-1] == "diverged" and "1 seed of it diverged" in found.sentence
  assert found.outcome == "kept"  # 11 seeds that win every comparison carry one that lost
  rank = found.numbers["p_rank"]
  book.unlink()
  whole = only(referee.judge(base, table(tmp_path / "d.csv", [*values, 3.2]), ledger=book))
  assert whole.numbers["p_rank"] < rank
  book.unlink()
  table(tmp_path / "d.csv", [*values, math.inf])
  found = only(referee.judge(base, diverged, ledger=book, sigma=0.01))
  assert found.outcome == "dropped" and found.numbers["p_mean"] == 1
  book.unlink()
  nothing = table(tmp_path / "n.csv", [math.inf] * 3)
  found = only(referee.judge(base, nothing, ledger=book))
  assert found.outcome == "dropped" and "diverged" in found.sentence


def test_an_edited_ledger_is_refused_with_its_line(tmp_path, base, book):
  referee.judge(base, candidate(tmp_path, "null", -0.01, 3), ledger=book)
  book.write_text(book.read_text().replace('"decision":"dropped"', '"decision":"kept"'))
  with pytest.raises(UserError, match="line 3 does not follow from line 2"):
    referee.judge(base, tmp_path / "null.csv", ledger=book)


def test_a_ledger_of_a_later_release_is_refused(tmp_path, base, book):
  with ledger.opened(book) as later:
    later.append({"_ledger": "seedlab session 2", "seedlab": "9.0"})
  with pytest.raises(UserError, match=r"written by seedlab 9\.0"):
    referee.judge(base, ledger=book)


def test_after_a_keep_the_others_of_the_call_wait(tmp_path, base, book):
  good = candidate(tmp_path, "good", 0.06, 12)
  null = candidate(tmp_path, "null", -0.01, 3)
  found = referee.judge(base, [good, null], ledger=book)
  assert [j.outcome for j in found.judgements] == ["kept", "open"] and found.status == 0
  assert "was not judged" in found.judgements[1].sentence and len(entries(book)) == 3


def test_floors_of_a_session(tmp_path, base, book):
  floor = table(tmp_path / "floor.csv", np.random.default_rng(5).normal(3.3, 0.01, 20), 500)
  small = table(tmp_path / "small.csv", BASE[:18])
  found = referee.judge(small, ledger=book, floor=floor)
  assert found.ledger["found_2_sd"] > 0.8
  good = candidate(tmp_path, "good", 0.03, 12)
  found = only(referee.judge(small, good, ledger=book))
  assert found.outcome == "kept" and "learnt from floor" in found.sentence
  assert found.numbers["p_rank"] is None
  own = only(referee.judge(base, good, ledger=tmp_path / "own", floor="own"))
  assert own.outcome == "kept" and "spreading alike" in own.sentence


def test_the_command(tmp_path, base, book):
  null = candidate(tmp_path, "null", -0.01, 3)
  done = command(base, null, f"--ledger={book}", "--json")
  answer = json.loads(done.stdout)
  assert done.returncode == answer["status"] == 14
  assert done.stderr.startswith("base.csv: CSV, 24 rows\n")  # what was read
  assert answer["judgements"][0]["outcome"] == "dropped"
  assert answer["ledger"]["head"] == ledger.read(book)[1]
  done = command(base, null, f"--ledger={book}")
  assert done.returncode == 14 and ledger.read(book)[1] in done.stdout
  assert "is dropped: after 3 seeds" in done.stdout and "24 runs" in done.stdout


def test_the_loop_of_the_page_runs(tmp_path):
  """docs/referee.md: it finds gains, keeps nothing that is none, and its ledger is whole."""
  (code,) = blocks("docs/referee.md")
  (tmp_path / "loop.py").write_text(code)
  done = subprocess.run([sys.executable, "loop.py"], cwd=tmp_path, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  said = done.stdout.splitlines()
  assert said[0].startswith("With a baseline of 24 runs") and len(said) == 32
  written, head = ledger.read(tmp_path / "session.jsonl")
  kept = [int(e["name"].split()[-1]) for e in written if e.get("decision") == "kept"]
  assert kept and all(a < b <= 300 for a, b in itertools.pairwise([32, *kept]))
  assert said[-1] == f"best {kept[-1]} ledger {head}"


def test_two_processes_that_judge_at_once(tmp_path, base, book):
  """Every proposal gets a number of its own."""
  null = candidate(tmp_path, "null", -0.01, 3)
  referee.judge(base, ledger=book)
  code = (
    "import sys; from seedlab import referee\n"
    "for j in range(15):\n"
    "  referee.judge(*sys.argv[1:3], ledger=sys.argv[3], digest=f'{sys.argv[4]}{j}')\n"
  )
  words = [sys.executable, "-c", code, base, null, book]
  processes = [subprocess.Popen([*map(str, words), name]) for name in "ab"]
  assert [process.wait() for process in processes] == [0, 0]
  assert [e["j"] for e in entries(book)[2:]] == [*range(1, 31)]
