"""Aggregates over tasks: which variants are in them, diverged and missing runs, words, JSON."""

import dataclasses
import json
import math

import numpy as np
import pandas as pd
import pytest

from seedlab import aggregates, findings, report, tables
from seedlab.comparisons import compare
from seedlab.errors import UserError
from seedlab.report import aggregate as said
from seedlab.report import comparison_html
from seedlab.stats import many

TASKS = ("ant", "bird", "cat")
BASE = [[0.2, 0.4, 0.3], [0.5, 0.7], [0.1, 0.2, 0.3, 0.9]]
MORE = [[0.6, 0.5], [0.8, 0.7, 0.9], [0.2, 0.4, 0.8]]


def sweeps(tasks=TASKS, metric="score", better="higher", **variants):
  """Findings of every variant and task; None is a task that a variant does not hold."""
  found = []
  for name, scores in variants.items():
    for task, values in zip(tasks, scores, strict=True):
      if values is None:
        continue
      frame = pd.DataFrame({"variant": name, "seed": range(len(values)), metric: values})
      (one,) = findings.examine_table(tables.read(frame, metric=metric))
      found.append(dataclasses.replace(one.turned(better), task=task))
  return found


def flat(text: str) -> str:
  return " ".join(text.split())


def test_it_is_what_the_statistics_say():
  found = aggregates.aggregate(sweeps(base=BASE, more=MORE))
  assert found.tasks == TASKS and found.better == 1 and not found.left_out
  base, more = found.standings
  assert (base.name, base.runs, more.runs) == ("base", (3, 2, 4), (2, 3, 3))
  for one, scores in ((base, BASE), (more, MORE)):
    expected = many.estimates(scores)
    estimates = {"mean": one.mean, "median": one.median, "IQM": one.iqm, "optimality gap": one.gap}
    for name, estimate in estimates.items():
      assert estimate.interval.estimate == pytest.approx(expected[name])
      assert estimate.interval.low < estimate.interval.estimate < estimate.interval.high
  (improvement,) = found.improvements
  assert (improvement.variant, improvement.baseline) == ("more", "base")
  # 6 of 6 pairs; 5 and a tie of 6; .2 wins 1 and ties 1, .4 and .8 win 3 of 4.
  by_hand = (1 + (5 + 0.5) / 6 + (1 + 0.5 + 3 + 3) / 12) / 3
  assert improvement.probability.interval.estimate == pytest.approx(by_hand)
  at = base.profile.thresholds_L
  assert at[0] == 0.1 and at[-1] == 0.9 and len(at) == 61
  above = np.mean([[np.mean(np.array(x) > t) for x in BASE] for t in at[::20]], axis=1)
  np.testing.assert_allclose(base.profile.share_L[::20], above)


def test_one_task_has_no_aggregate():
  assert aggregates.aggregate(sweeps(("ant",), base=BASE[:1], more=MORE[:1])) is None
  assert aggregates.aggregate(sweeps(("",), base=BASE[:1])) is None


def test_a_variant_that_lacks_a_task_is_named_and_left_out():
  """Even where it is the best on what it holds."""
  found = aggregates.aggregate(
    sweeps(base=BASE, some=[[9.0, 9.1], None, [9.0, 9.2]], more=MORE, few=[None, None, [1.0, 2.0]])
  )
  assert [one.name for one in found.standings] == ["base", "more"]
  assert [one.variant for one in found.improvements] == ["more"]
  assert found.left_out == (("some", ("bird",)), ("few", ("ant", "bird")))
  text = flat(said.text(found))
  assert "some has no runs on task bird and is left out of the aggregates" in text
  assert "few has no runs on tasks ant, bird and is left out" in text
  assert json.loads(json.dumps(said.json_values(found)))["left_out"]["some"] == ["bird"]


def test_without_a_whole_baseline_nothing_is_an_improvement():
  found = aggregates.aggregate(sweeps(base=[BASE[0], None, BASE[2]], more=MORE))
  assert [one.name for one in found.standings] == ["more"] and not found.improvements
  assert "Without the baseline there is no probability of improvement" in flat(said.text(found))
  none = aggregates.aggregate(sweeps(base=[BASE[0], None, BASE[2]], more=[None, *MORE[1:]]))
  assert not none.standings
  assert "base has no runs on task bird" in flat(said.text(none))
  assert "base has no runs" in said.markdown(none) and "base has no runs" in said.latex(none)
  assert said.json_values(none)["variants"] == []


def test_lower_is_better():
  losses = {"base": BASE, "more": MORE}
  higher = aggregates.aggregate(sweeps(**losses))
  lower = aggregates.aggregate(sweeps(better="lower", **losses))
  share = [f.improvements[0].probability.interval.estimate for f in (higher, lower)]
  assert sum(share) == pytest.approx(1)
  assert lower.standings[0].mean.interval.estimate == higher.standings[0].mean.interval.estimate
  assert lower.standings[0].gap is None and "gap" not in said.text(lower)
  profile = lower.standings[0].profile
  at = profile.thresholds_L[30]
  below = np.mean([np.mean(np.array(x) < at) for x in BASE])
  assert profile.share_L[30] == pytest.approx(below)


def test_an_unknown_direction_is_said():
  found = aggregates.aggregate(sweeps(better=None, base=BASE, more=MORE))
  assert found.better == 0 and found.standings[0].gap is None
  assert "P(more higher than base)" in said.text(found)
  assert said.json_values(found)["better"] is None


@pytest.mark.parametrize("better", ["higher", "lower"])
def test_a_diverged_run_lost(better):
  """Not in the means, and said; behind every other run in improvement and profile."""
  bad = math.inf if better == "lower" else -math.inf
  whole = aggregates.aggregate(sweeps(better=better, base=BASE, more=MORE))
  lost = [[*MORE[0], bad, bad], *MORE[1:]]
  found = aggregates.aggregate(sweeps(better=better, base=BASE, more=lost))
  assert found.standings[1].lost == 2 and found.standings[1].runs == (2, 3, 3)
  shares = [f.improvements[0].probability.interval.estimate for f in (whole, found)]
  first = 1 if better == "higher" else 0
  assert shares[0] - shares[1] == pytest.approx((first - first / 2) / 3)
  assert found.standings[1].profile.share_L.max() <= 1 - 1 / 6
  text = flat(said.text(found))
  assert "more: 2 of 10 runs diverged. They count as lost" in text and "flatters it" in text


def test_missing_runs_are_said():
  found = sweeps(base=BASE, more=MORE)
  found[0] = dataclasses.replace(found[0], design_R=np.arange(5))
  text = flat(said.text(aggregates.aggregate(found)))
  assert "base: 2 runs are missing. Nothing is known of them" in text
  found[0] = dataclasses.replace(found[0], design_R=np.arange(4))
  assert "base: 1 run is missing. Nothing is known of it," in flat(
    said.text(aggregates.aggregate(found))
  )


def test_few_and_single_runs_are_said():
  text = flat(said.text(aggregates.aggregate(sweeps(base=BASE, more=MORE))))
  assert "With 2 runs of a task the usual percentile intervals (rliable's) are too short" in text
  many_runs = [list(np.linspace(0.1, 0.8, 10))] * 3
  text = said.text(aggregates.aggregate(sweeps(base=many_runs, more=many_runs)))
  assert "too short" not in text
  single = aggregates.aggregate(sweeps(base=BASE, more=[[0.5], *MORE[1:]]))
  text = flat(said.text(single, details=True))
  assert "more has 1 run on task ant: no interval can be given." in text
  assert "(no interval)" in text and "nan" not in text
  assert "NaN" not in json.dumps(said.json_values(single))


def test_percent_and_the_aim_of_the_gap():
  accuracies = {"base": BASE, "more": MORE}
  found = aggregates.aggregate(sweeps(metric="test_accuracy", **accuracies))
  assert found.percent and found.gamma == 100
  expected = many.estimates(BASE)
  assert found.standings[0].gap.interval.estimate == pytest.approx(100 * expected["optimality gap"])
  text = said.text(found)
  assert "mean, %" in text and "optimality gap to 100" in text
  half = aggregates.aggregate(sweeps(**accuracies), gamma=0.5)
  assert half.standings[0].gap.interval.estimate == pytest.approx(
    many.estimates(BASE, 0.5)["optimality gap"]
  )
  far = {name: [[9 + x for x in task] for task in of] for name, of in accuracies.items()}
  assert aggregates.aggregate(sweeps(**far)).standings[0].gap is None  # all above: says nothing


def test_tasks_of_different_units_and_directions_are_refused():
  found = sweeps(metric="test_accuracy", base=[*BASE[:2], [55.0, 60.0]])
  with pytest.raises(UserError, match="base on task 'ant' has fractions and base on task 'cat'"):
    aggregates.aggregate(found)
  found = sweeps(base=BASE)
  found[2] = dataclasses.replace(found[2], better=-1)
  with pytest.raises(UserError, match="tasks 'ant' and 'cat' say different things"):
    aggregates.aggregate(found)
  with pytest.raises(ValueError, match="variant 'base' occurs twice on task 'ant'"):
    aggregates.aggregate([*sweeps(base=BASE), sweeps(base=BASE)[0]])


def test_a_large_table_is_resampled_less_often(monkeypatch):
  asked = []
  original = many.aggregates
  monkeypatch.setattr(
    many, "aggregates", lambda *a, draws: asked.append(draws) or original(*a, draws=10)
  )
  small, large = [[0.1, 0.2]] * 2, [list(np.arange(10_000) / 1e4)] * 2
  for scores in (small, large):
    aggregates.aggregate(sweeps(TASKS[:2], base=scores))
  assert asked == [2000, 500]


def test_words_for_a_terminal_and_a_paper():
  found = aggregates.aggregate(sweeps(**{"a|b_c": BASE, "more": MORE}))
  text = said.text(found)
  assert max(map(len, text.splitlines())) <= 120
  row = next(line for line in text.splitlines() if line.startswith("a|b_c"))
  assert "2 to 4" in row and f"{many.estimates(BASE)['IQM']:.3f} (" in row
  assert "not of other tasks, and is no verdict" in flat(text)
  assert "percentile" not in row and "IQM of more, percentile bootstrap" in said.text(found, True)
  table = [line for line in said.markdown(found).splitlines() if line.startswith("|")]
  assert table[0].startswith("| variant | runs a task | IQM | mean |")
  assert table[0].endswith("| P(better than a\\|b\\_c) |")
  assert table[2].startswith("| a\\|b\\_c | 2 to 4 | ") and table[2].endswith(" | - |")
  assert table[3].startswith("| more |") and "0.85 (" in table[3].split(" | ")[-1]
  latex = said.latex(found)
  assert r"\begin{tabular}" in latex and r"b\_c" in latex and r"\bottomrule" in latex


def test_a_page_shows_profiles_and_table():
  found = aggregates.aggregate(sweeps(better="lower", **{"a<b": BASE, "more": MORE}))
  section = comparison_html.tasks_section(found)
  assert "<h2>Over 3 tasks</h2>" in section and "a&lt;b" in section and "a<b" not in section
  plot, instead, caption = comparison_html.tasks_profiles(found)
  assert "share of runs below each score, mean over 3 tasks, of a<b, more" in instead
  assert "95 % limits" in caption
  drawn = next(r.data_source.data for r in plot.renderers if "low" in r.data_source.data)
  np.testing.assert_array_equal(drawn["middle"], found.standings[0].profile.share_L)
  np.testing.assert_array_equal(drawn["high"], found.standings[0].profile.high_L)
  none = aggregates.aggregate(sweeps(base=[BASE[0], None, BASE[2]], more=[None, *MORE[1:]]))
  assert comparison_html.tasks_profiles(none) is None
  assert "table" not in comparison_html.tasks_section(none)


def test_the_same_seed_gives_the_same_and_json_is_whole():
  made = sweeps(base=BASE, more=MORE)
  first, again, other = (
    json.dumps(said.json_values(aggregates.aggregate(made, seed))) for seed in (0, 0, 1)
  )
  assert first == again != other
  values = json.loads(first)
  assert values["tasks"] == list(TASKS) and values["better"] == "higher"
  better = values["improvements"][0]
  assert better["interval"]["low"] < better["estimate"] < better["interval"]["high"]
  profile = values["variants"][0]["profile"]
  assert len(profile["thresholds"]) == len(profile["low"]) == 61


def test_the_command_shows_what_deep_significance_publishes():
  """Scenario 1 of its README: eps_min 0.225; the verdict here is open (Welch's p = 0.16)."""
  legacy = np.random.RandomState(1234)
  scores = {"mine": legacy.normal(0.9, 0.8, 5), "baseline": legacy.normal(0, 1, 5)}
  frames = [
    pd.DataFrame({"variant": name, "seed": range(5), "score": scores[name]})
    for name in ("baseline", "mine")
  ]
  found = compare(pd.concat(frames, ignore_index=True), better="higher", paired=False)
  text = flat(report.comparison_text(found, details=True))
  assert "almost stochastic order, eps_min 0.22 (violation 0.00)" in text
  assert "Open whether mine is better than baseline" in text


def test_a_table_with_a_column_of_tasks():
  """Read whole: variants, seeds and tasks with unequal numbers of runs."""
  rows = [
    {"task": task, "variant": name, "seed": seed, "score": value}
    for name, scores in (("base", BASE), ("more", MORE))
    for task, values in zip(TASKS, scores, strict=True)
    for seed, value in enumerate(values)
  ]
  read = findings.examine_table(tables.read(pd.DataFrame(rows), task="task", metric="score"))
  found = aggregates.aggregate(read)
  expected = aggregates.aggregate(sweeps(better=None, base=BASE, more=MORE))
  assert said.json_values(found) == said.json_values(expected)
