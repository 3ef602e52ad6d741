"""The report of synthetic stores: its numbers, its words, and a page that is safe and alone."""

import collections
import html.parser
import math
import pathlib
import re

import made_up
import numpy as np
import pandas as pd
import pytest
import xarray

from seedlab import claims, findings, report, stats, tables
from seedlab.config import STREAMS
from seedlab.errors import UserError
from seedlab.report import charts, figure_files, series
from seedlab.stats import pairs, sequential, single
from seedlab.stats.single import Interval

CLASSES = 4


def store(
  errors: np.ndarray,
  *,
  diverged: tuple[int, ...] = (),
  missing: tuple[int, ...] = (),
  vary: tuple[str, ...] = STREAMS,
  seeds: dict[str, np.ndarray] | None = None,
  config: dict | None = None,
) -> xarray.Dataset:
  """A sweep whose run h is wrong on example i where errors[h, i]."""
  runs, examples = errors.shape
  run = 100 + np.arange(runs)
  label = np.arange(examples) % CLASSES
  accuracy = 1 - errors.mean(axis=1)
  curve = np.stack([accuracy / 2, accuracy * 0.9, accuracy], axis=1)
  step = np.full(runs, -1)
  step[list(diverged)] = 7
  curve[list(diverged)] = np.nan
  completed = np.full(runs, True)
  completed[list(missing)] = False
  values = {stream: run if stream in vary else np.zeros(runs) for stream in STREAMS}
  values |= seeds or {}
  return xarray.Dataset(
    {
      "test_accuracy": (("run", "evaluation"), curve.astype(np.float32)),
      "test_loss": (("run", "evaluation"), (3 - curve).astype(np.float32)),
      "score": (("run",), (1000 + 10 * accuracy).astype(np.float32)),
      "predicted_label": (("run", "example"), (label + errors) % CLASSES),
      "diverged": ("run", step),
      "completed": ("run", completed),
      "fingerprint": ("run", np.zeros(runs, np.int32)),
    },
    coords={
      "run": run,
      "evaluation": [10, 20, 30],
      "label": ("example", label),
      **{f"seed_{stream}": ("run", value.astype(np.uint32)) for stream, value in values.items()},
    },
    attrs={
      "metrics": ["test_accuracy", "test_loss", "score"],
      "vary": list(vary),
      "config": config or {"data": {"name": "digits"}, "model": {"name": "cnn"}},
      "lock": [f"package{number}==1.0" for number in range(50)],
    },
  )


def errors(runs: int = 60, examples: int = 200, seed: int = 0) -> np.ndarray:
  """Networks of unlike skill: the distribution-wise variance is above zero."""
  rng = np.random.default_rng(seed)
  return rng.random((runs, examples)) < rng.uniform(0.02, 0.3, (runs, 1))


def cells(page: str) -> dict[str, str]:
  """The rows of the text table, name -> the rest."""
  return dict(re.findall(r"^(\S.*?)  +(\S.*)$", page, re.MULTILINE))


def unwrapped(page: str) -> str:
  return " ".join(page.split())


def test_table_by_hand():
  wrong = np.zeros((4, 10), bool)
  wrong[0, :4] = wrong[1, :2] = wrong[2, 5:7] = True  # accuracies 60, 80, 80, 100 %
  page = report.text(store(wrong))
  table = cells(page)
  sd = np.sqrt(800 / 3)
  assert table["runs"] == "4"
  assert table["mean"] == "80.00"
  assert table["sd"] == f"{sd:.2f}"
  sem = np.sqrt((800 / 3 + 10**2 / 12) / 4)  # the values lie in steps of 10 points
  assert table["sem"] == f"{sem:.2f}"
  half = 3.182446 * sem
  assert table["95 % interval of the mean"] == f"{80 - half:.2f} to 100.00"
  covariance = np.cov(wrong, rowvar=False)[~np.eye(10, dtype=bool)].mean()
  assert table["distribution-wise sd"] == f"{100 * np.sqrt(covariance):.2f}"
  quartiles = (table["min"], table["lower quartile"], table["median"], table["upper quartile"])
  assert quartiles == ("60.00", "75.00", "80.00", "85.00")
  assert (table["max"], table["gap (max - min)"]) == ("100.00", "40.00")
  assert (table["best run"], table["worst run"]) == ("103", "100")
  assert table["diverged"] == "0 of 4 (0 %, 95 % interval 0 to 60 %)"  # 1 - 0.025^(1/4)
  assert table["missing"] == "0 of 4"
  assert "\ntest accuracy in % at step 30\n" in page
  assert table["streams that varied"] == ", ".join(STREAMS)


def test_headline_names_the_gap_the_streams_and_what_is_the_networks_own():
  wrong = errors()
  sentences = unwrapped(report.text(store(wrong, vary=("init", "order"))))
  accuracy = 100 - 100 * wrong.mean(axis=1)
  variance = 1e4 * stats.distribution_wise_variance(wrong.sum(1), wrong.sum(0))
  share = variance / accuracy.var(ddof=1)
  assert (
    f"Luck alone (init and order varied) moved test accuracy by {np.ptp(accuracy):.2f} points"
    f" between the best and the worst of 60 seeds (mean {accuracy.mean():.2f} %, sd"
    f" {accuracy.std(ddof=1):.2f} points)."
  ) in sentences
  own = single.distribution_wise_interval(wrong)
  independent = stats.independent_errors_variance(wrong.sum(0), 60)
  low, high = (
    x / (199 / 200 * x + independent) for x in (own.low, own.high)  # of the raw variance
  )
  assert 0 < low < share < high < 1
  assert (
    f"An estimated {100 * share:.0f} % (95 % interval {100 * low:.0f} to {100 * high:.0f} %) of"
    " that variance is the networks' own and would show on new examples too (distribution-wise sd"
    f" {np.sqrt(variance):.2f} points)"
  ) in sentences
  assert "streams held fixed" in sentences and "sample at 0" in sentences


def test_a_variance_estimated_below_zero_is_no_spread():
  """Each of 60 errs once, on an example of its own: a covariance of -1/(60·59) of any two."""
  (column,) = findings.examine(store(np.eye(60, 200, dtype=int))).columns
  pairs_of_60 = 60 * 59 / (200 * 199)  # of examples on which somebody errs
  assert column.variance == pytest.approx(-1e4 * pairs_of_60 / (60 * 59))
  assert column.sd == 0


def test_the_best_run_is_quoted_with_a_warning():
  """Its lead by hand, and the share of it that is not the test set's."""
  rng = np.random.default_rng(8)
  wrong = rng.uniform(size=(50, 400)) < rng.uniform(0.2, 0.4, (50, 1))
  dataset = store(errors=wrong)
  text = " ".join(report.text(dataset).split())
  right = 1 - wrong.mean(1)
  lead = 100 * (right.max() - right.mean())
  kept = lead * stats.distribution_wise_variance(
    wrong.sum(1), wrong.sum(0), wrong.sum(0)
  ) / right.var(ddof=1)  # fmt: skip
  said = re.search(
    r"out of 50 by its luck, it leads the mean by (\S+) points, of which about (\S+) \(\S+ to \S+\)"
    r" would show on new test examples\. Quote the mean",
    text,
  )
  assert [float(x) for x in said.groups()] == pytest.approx([lead, kept], abs=0.011)
  assert "Quote the mean" not in report.text(store(np.zeros((3, 20), bool)))


def test_a_spread_of_chance_alone_is_called_so():
  wrong = np.random.default_rng(0).random((200, 300)) < 0.2
  page = report.text(store(wrong))
  said = re.search(r"An estimated (\d+) % \(95 % interval (\d+) to (\d+) %\) of", unwrapped(page))
  assert int(said[1]) < 15 and int(said[2]) == 0 and int(said[3]) < 35


def test_diverged_runs_count_as_chance_with_the_rest_beside():
  wrong = errors()
  page = report.text(store(wrong, diverged=(3, 5)))
  table = cells(page)
  sound = np.delete(wrong, [3, 5], axis=0)
  everything = wrong.astype(float)
  everything[[3, 5]] = 1 - 1 / CLASSES
  expected = []
  for matrix in (everything, sound.astype(float)):
    accuracy = 100 - 100 * matrix.mean(axis=1)
    pairs = np.cov(matrix, rowvar=False)[~np.eye(matrix.shape[1], dtype=bool)]
    expected.append((accuracy.std(ddof=1), 100 * np.sqrt(pairs.mean())))
  assert table["runs"].split() == ["60", "58"]
  assert table["sd"].split() == [f"{sd:.2f}" for sd, _ in expected]
  assert table["distribution-wise sd"].split() == [f"{sd:.2f}" for _, sd in expected]
  assert table["min"].split()[0] == "25.00"
  assert table["worst run"].startswith("103 (and 1 more)")
  assert table["diverged"] == "2 of 60 (3.3 %, 95 % interval 0.4 to 12 %)"
  assert "counts as chance level, 25.00 %" in page
  said = "2 of 60 runs (3.3 %, 95 % interval 0.4 to 12 %) diverged and count as chance (25.00 %)"
  assert said in unwrapped(page)


def test_a_run_that_diverged_at_the_first_step_did_though_its_numbers_are_finite():
  wrong = errors()
  dataset, without = store(wrong), store(np.delete(wrong, 3, axis=0))
  dataset["diverged"].values[3] = 0
  found = findings.examine(dataset)
  assert np.flatnonzero(found.failed_R).tolist() == [3]
  assert found.columns[0].values[3] == 25 and found.columns[1].summary.n == len(found.curves) == 59
  np.testing.assert_allclose(found.curves[:, -1], found.columns[1].values)  # both in percent
  assert not found.correct()[3].any() and found.correct()[4].any()
  alike = findings.examine(without)
  assert found.own == alike.own
  np.testing.assert_array_equal(found.curves, alike.curves)
  seen, expected = findings.disagreement(dataset), findings.disagreement(without)
  np.testing.assert_array_equal(seen.votes_ExK, expected.votes_ExK)
  assert seen.churn == expected.churn
  assert findings.on_new_examples(dataset) == findings.on_new_examples(without)


def test_diverged_runs_are_left_out_where_chance_is_unknown():
  wrong = errors()
  page = report.text(store(wrong, diverged=(3,)), "test_loss")
  loss = 3 - (1 - np.delete(wrong, 3, axis=0).mean(axis=1))
  assert cells(page)["runs"] == "59"
  assert cells(page)["gap (max - min)"] == f"{np.ptp(loss):.3f}"
  assert "the best and the worst of the 59 seeds of 60 that did not diverge" in unwrapped(page)
  assert "1 of 60 runs (1.7 %, 95 % interval 0 to 8.9 %) diverged and is lost" in unwrapped(page)
  unlabelled = store(wrong, diverged=(3,)).drop_vars(["label", "predicted_label"])
  assert cells(report.text(unlabelled))["runs"] == "59"
  with pytest.raises(UserError, match="every completed run diverged"):
    report.text(store(wrong, diverged=tuple(range(60))), "test_loss")
  page = report.text(store(wrong, diverged=tuple(range(60))))
  assert "All of these runs diverged and count as chance (25.00 %)" in unwrapped(page)
  assert "All 60 seeds diverged: there is no test accuracy to speak of." in unwrapped(page)
  assert "second column" not in page
  assert "second column leaves such runs out" in unwrapped(report.text(store(wrong, diverged=(3,))))


def test_unfinished_runs_are_ignored_and_counted():
  wrong = errors()
  wrong[[0, 59]] = True  # would be the worst
  page = report.text(store(wrong, missing=(0, 59)))
  table = cells(page)
  accuracy = 100 - 100 * wrong[1:59].mean(axis=1)
  assert (table["runs"], table["missing"]) == ("58", "2 of 60: not known")
  assert "and the worst of the 58 seeds of 60 that are finished" in unwrapped(page)
  assert "2 of 60 runs are missing, of which nothing is known" in unwrapped(page)
  assert table["min"] == f"{accuracy.min():.2f}"
  assert table["best run"].split()[0] == f"{101 + accuracy.argmax()}"
  assert "Runs are missing: these numbers are about the completed runs alone" in unwrapped(page)
  with pytest.raises(UserError, match="completed=0 of 60 runs"):
    report.text(store(wrong, missing=tuple(range(60))))


def test_seconds_are_those_of_finished_runs():
  dataset = store(errors(4, 20), missing=(1,))
  dataset["seconds"] = ("run", np.array([1, 0, 2, 6], np.float32))
  assert findings.examine(dataset).seconds == 3


def test_runs_that_share_seeds_get_no_standard_error():
  grid = {"init": np.arange(60) // 10, "order": np.arange(60) % 10}
  page = report.text(store(errors(), vary=("init", "order"), seeds=grid))
  assert "crossed design" in page and "of 60 runs" in unwrapped(page)
  assert not {"sem", "95 % interval of the mean"} & set(cells(page))
  one_order = grid | {"init": np.arange(60), "order": np.zeros(60)}
  page = report.text(store(errors(), vary=("init", "order"), seeds=one_order))
  assert "sem" in cells(page)


@pytest.mark.parametrize(
  ("init", "order", "independent"),
  [
    (range(6), range(6), True),
    (range(6), [0] * 6, True),  # the order held still, though it was to vary
    ([0] * 6, [0] * 6, False),  # one run six times
    (range(6), [0, 0, 1, 1, 2, 2], False),
    ([0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 2], False),
  ],
)
def test_runs_are_independent_where_no_two_share_a_varied_seed(init, order, independent):
  seeds = {"init": np.array(init), "order": np.array(order)}
  found = findings.examine(store(errors(6, 20), vary=("init", "order"), seeds=seeds))
  assert found.independent == independent


def test_details_stand_beside_on_request():
  wrong = errors()
  dataset = store(wrong)
  plain, detailed = report.text(dataset), report.text(dataset, details=True)

  def cell(text: str, name: str) -> str:
    (line,) = (line for line in text.splitlines() if line.startswith(name))
    return line[len(name) :].strip()

  accuracy = 100 - 100 * wrong.mean(axis=1)
  median = single.quantile_interval(accuracy, 0.5)
  name = "median, whatever the distribution"
  assert name not in plain
  low, high = median.low - 0.25, median.high + 0.25  # half a step of 1 in 200
  assert cell(detailed, name) == f"{median.estimate:.2f} ({low:.2f} to {high:.2f})"
  low, high = sequential.betting_sequence(accuracy / 100)
  bet = cell(detailed, "mean, whatever the distribution and however often one looks")
  assert bet == f"{accuracy.mean():.2f} ({100 * low[-1]:.2f} to {100 * high[-1]:.2f})"
  own = single.distribution_wise_interval(wrong)
  sds = [100 * math.sqrt(max(x, 0)) for x in (own.estimate, own.low, own.high)]
  shown = cell(plain, "distribution-wise sd with its 95 % interval")
  assert shown == f"{sds[0]:.2f} ({sds[1]:.2f} to {sds[2]:.2f})"
  labels = dataset["predicted_label"].transpose("run", "example").values
  churn = pairs.pair_mean(pairs.churn_rows(labels))
  on_new = cell(detailed, "new examples on which two seeds differ, %")
  estimate, low, high = map(float, re.findall(r"[\d.]+", on_new))
  assert estimate == pytest.approx(100 * churn.estimate, abs=0.006)
  assert low < 100 * churn.low and high > 100 * churn.high  # new examples add their own luck
  assert "difference of two seeds' probabilities" not in detailed
  probability = np.random.default_rng(0).dirichlet([1, 1], labels.shape)
  dataset["probability"] = (("run", "example", "class"), probability)
  l1 = pairs.pair_mean(pairs.l1_rows(probability)).estimate
  assert f"(L1), %  {100 * l1:.2f} (" in report.text(dataset, details=True)
  frame = pd.DataFrame({"seed": range(9), "score": np.arange(9.0)})
  table = findings.examine_table(tables.read(frame))
  assert "median, whatever" in report.table_text(table[0], details=True)
  assert "however often" not in report.table_text(table[0], details=True)  # not within [0, 1]


def test_lower_is_better_for_a_loss_and_unknown_for_a_score():
  wrong = errors()
  ends = [100 + wrong.mean(axis=1).argmin(), 100 + wrong.mean(axis=1).argmax()]
  loss = cells(report.text(store(wrong), "test_loss"))
  assert [int(loss[name].split()[0]) for name in ("best run", "worst run")] == ends
  assert "distribution-wise sd" not in loss
  page = report.text(store(wrong), "score")
  assert [int(cells(page)[f"{word} run"].split()[0]) for word in ("highest", "lowest")] == ends
  assert "between the highest and the lowest" in unwrapped(page) and "points" not in page
  assert "a higher or a lower score is better is not known" in unwrapped(page)
  said = report.text(findings.stated(store(wrong), "score", "lower"), "score")
  assert [int(cells(said)[f"{word} run"].split()[0]) for word in ("worst", "best")] == ends
  assert "is not known" not in said


def test_predictions_that_do_not_give_the_metric_are_not_used():
  dataset = store(errors())
  dataset["train_accuracy"] = dataset["test_accuracy"] * 0.9
  dataset.attrs["metrics"].append("train_accuracy")
  assert "distribution-wise sd" in cells(report.text(dataset))
  assert "distribution-wise sd" not in cells(report.text(dataset, "train_accuracy"))


def test_one_run_that_did_not_diverge():
  """Its column has fewer lines than that of all."""
  table = cells(report.text(store(errors(4, 50), diverged=(0, 1, 3))))
  assert table["sem"].split()[-1] == "-" and "mean" in table


def test_one_run_and_equal_runs():
  page = report.text(store(errors(runs=1)))
  assert page.startswith("One run: test accuracy") and "sd" not in cells(page)
  page = report.text(store(np.zeros((3, 5), bool)))
  assert page.startswith("Luck (every source of randomness varied) did not show")
  assert cells(page)["sd"] == "0.00"
  for dataset in (store(errors(runs=1)), store(np.zeros((3, 5), bool)), store(errors(runs=2))):
    assert "<h1>" in report.sweep_page(dataset)


def test_wrong_metric_names_the_choices():
  with pytest.raises(UserError, match=r"metric='test_acuracy'.*'test_accuracy'.*score"):
    report.text(store(errors()), "test_acuracy")
  dataset = store(errors())
  dataset.attrs["metrics"] = ["predicted_label"]
  with pytest.raises(UserError, match="no number per run"):
    report.text(dataset)


def test_errors_are_counted_in_blocks_of_whole_chunks(monkeypatch, tmp_path):
  wrong = errors()
  chosen = np.random.default_rng(1).random(60) < 0.7
  store(wrong)[["predicted_label"]].to_zarr(
    tmp_path / "store", encoding={"predicted_label": {"chunks": (7, 200)}}, zarr_format=2
  )
  dataset = xarray.open_zarr(tmp_path / "store", chunks=None)
  sizes = []
  count = np.count_nonzero
  monkeypatch.setattr(findings, "_BLOCK", 20 * 200)
  monkeypatch.setattr(
    np, "count_nonzero", lambda array, axis: sizes.append(len(array)) or count(array, axis=axis)
  )
  by_run, by_example = findings._count_errors(dataset, chosen)
  assert set(sizes) == {14, 4}  # two chunks of 7 fit into 20 rows
  np.testing.assert_array_equal(by_run, wrong[chosen].sum(axis=1))
  np.testing.assert_array_equal(by_example, wrong[chosen].sum(axis=0))


class Page(html.parser.HTMLParser):
  """Collects what a browser would fetch or run, the ids, and the text of an element."""

  def __init__(self, page: str):
    super().__init__()
    self.outside, self.ids, self.labels, self.tags = [], [], [], []
    self.feed(page)

  def handle_starttag(self, tag, attrs):
    self.tags.append(tag)
    for name, value in attrs:
      if name in ("src", "href", "xlink:href") and not value.startswith("#"):
        self.outside.append(value)
      if name == "id":
        self.ids.append(value)
      if name == "aria-label":
        self.labels.append(value)


def test_page_is_alone_and_described():
  page = report.sweep_page(store(errors(), diverged=(3,)), directory="out/digits")
  parsed = Page(page)
  assert not parsed.outside and "url(http" not in page.split("<script", 1)[0]
  assert "default-src 'none'" in page
  assert len(parsed.ids) == len(set(parsed.ids))
  assert len(parsed.labels) == 3  # distribution, ranked, curves
  over = "the 59 seeds of 60 that did not diverge"
  assert parsed.labels[0].startswith(f"Histogram of test accuracy, % over {over}, from ")
  assert "seedlab replay out/digits --run=103" in page
  assert "package49==1.0" in page
  assert 'http-equiv="refresh"' not in page
  assert 'http-equiv="refresh"' in report.sweep_page(store(errors()), live=True)


def test_everything_on_the_page_is_escaped():
  dataset = store(errors(), config={"data": {"name": "<b>&"}, "model": {"name": "<script>"}})
  dataset = dataset.rename({"test_accuracy": "<i>$x$_accuracy"})
  dataset.attrs |= {"metrics": ["<i>$x$_accuracy"], "<u>": "<s>", "nested": {"<em>": ["<q>" * 30]}}
  page = report.sweep_page(dataset, directory="a b/<tt>$(c)</script>")
  parsed = Page(page)
  assert not {"i", "u", "s", "em", "q", "tt"} & set(parsed.tags)
  assert parsed.tags.count("script") == 3  # data, library, the page's own
  assert "seedlab replay &#x27;a b/&lt;tt&gt;$(c)&lt;/script&gt;&#x27; --run=" in page
  assert "<u>" not in page.split("<script", 1)[0]
  title = report.sweep_page(dataset, title="<tt>").split("<script", 1)[0]
  assert "tt" not in Page(title).tags and "&lt;tt&gt;" in title


def test_page_of_fifty_thousand_runs_is_small():
  dataset = store(errors(50_000, 20))
  dataset["digest"] = ("run", np.array([f"{run:064x}" for run in range(50_000)], "S64"))
  page = report.sweep_page(dataset)
  assert len(page.encode()) < 5_000_000
  best, worst = (int(dataset.run[dataset.score.values.argmax()]), 0)
  assert "20,000 of the runs are drawn, with all extremes" in page and best > worst


def test_a_page_reads_the_predictions_once_if_they_fit(monkeypatch):
  reads = collections.Counter()
  dataset = store(errors(), diverged=(3,))
  page = report.sweep_page(made_up.in_files(dataset, "s", reads))
  assert reads == {"s: predicted_label": 1} and "Examples that flip" in page
  monkeypatch.setattr(findings, "_MOST_HELD", 0)  # then for each question, to the same page
  again = report.sweep_page(made_up.in_files(dataset, "s", reads))
  assert reads["s: predicted_label"] > 3
  named = re.compile(r'"p\d+"')  # Bokeh counts its models
  assert named.sub("", again) == named.sub("", page)


def test_write_replaces_the_page_in_one_piece(monkeypatch, tmp_path):
  path = tmp_path / "report.html"
  assert report.write("page", path) == path
  path.write_text("older")

  def full(self, *args, **kwargs):
    self.open("w").close()
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(pathlib.Path, "write_text", full)
  with pytest.raises(UserError, match=r"report.html' cannot be written \(No space"):
    report.write("newer", path)
  assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
  assert path.read_text() == "older"


def test_figures_are_saved_as_pdf_and_svg(tmp_path):
  paths = report.save_figures(store(errors(), diverged=(3,)), tmp_path / "new")
  assert [path.name for path in paths] == [
    "histogram.pdf", "histogram.svg", "curves.pdf", "curves.svg",
  ]  # fmt: skip
  assert paths[0].read_bytes().startswith(b"%PDF") and b"<svg" in paths[1].read_bytes()
  assert report.save_figures(store(errors(runs=1)), tmp_path) == []
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match=r"figures=.*file/below"):
    report.save_figures(store(errors()), tmp_path / "file/below")


def test_both_libraries_draw_the_same_histogram_and_frame():
  found = findings.examine(store(errors()))
  drawn = figure_files.figures_of(found)
  top = drawn["histogram"].axes[0]
  page = charts.distribution(found, charts.runs(found, {}), "accuracy").children[0]
  quads = next(r for r in page.renderers if hasattr(r.glyph, "top")).data_source.data
  assert [bar.get_height() for bar in top.patches] == list(quads["top"])
  assert sum(quads["top"]) == 60 and quads["right"][-1] >= found.columns[-1].summary.max
  # Three quarters of three evaluations are all; by hand, 8 % of the range to either side.
  low, high = series.frame(np.array([[1.0, 2.0, 3.0], [0.0, 5.0, 4.0]]))
  assert (low, high) == pytest.approx((-0.4, 5.4))
  assert series.frame(np.ones((2, 8))) == (0.5, 1.5)


@pytest.mark.parametrize(
  "numbers, form, text",
  [
    ((1.5, 1.25, 2.0), {}, "1.50 (1.25 to 2.00)"),
    ((0.015, -0.005, 0.02), {"shown": "+.2f", "scale": 100}, "+1.50 (-0.50 to 2.00)"),
    ((1.5, np.nan, np.nan), {"shown": ".4f"}, "1.5000"),
    ((np.nan, np.nan, np.nan), {}, "-"),
  ],
)
def test_an_interval_in_a_cell(numbers, form, text):
  assert report.interval_text(Interval(*numbers, 0.95, "t"), **form) == text


def study() -> tuple[list[claims.Verdict], list[report.Table]]:
  made = [
    claims.Claim("T1", "A <beats> B", (claims.Part("A - B, points", "lo > x", (0.5,)),)),
    claims.Claim(
      "T2",
      "equal",
      (claims.Part("ratio", "within [a, b]", (0.8, 1.25)),),
      history=(claims.Earlier("2026-11-25", "below 1", "contradicted (2)", "it was too narrow"),),
    ),
    claims.Claim("T3", "tails", (claims.Part("kurtosis", "p < alpha"),), precondition="converged"),
  ]
  shown = Interval(1.0, 0.75, 1.25, 0.975, "t")
  verdicts = [
    claims.Verdict(made[0], "shown", 0.975, (shown,)),
    claims.Verdict(made[1], "open", 0.95, (Interval(1.0, np.nan, np.nan, 0.95, "t"),)),
    claims.Verdict(made[2], "not testable here", np.nan, (), "precondition failed: converged"),
  ]
  return verdicts, [report.Table("Rows", ("row", "ours"), [("sgd", "95.7")], "unconfirmed")]


def test_a_study_shows_rule_numbers_and_outcome_of_each_claim():
  verdicts, tables = study()
  changed = {"T2": "changed since training: parts"}
  text = report.study_text(verdicts, changed, tables)
  shown = "A - B, points: the whole interval must lie above 0.5; found 1 (97.5 %: 0.75 to 1.25)"
  assert f"T1  shown: A <beats> B\n    {shown}" in text
  between = "ratio: the whole interval must lie between 0.8 and 1.25"
  assert f"T2  open: equal\n    {between}; found 1 (no interval)" in text
  assert "T3  not testable here (precondition failed: converged)" in text
  assert "kurtosis: the p-value must lie below one less the level; found nothing" in text
  assert (
    "    changed since training: parts" in text
    and "Rows\nrow  ours\nsgd  95.7\nunconfirmed" in text
  )
  page = report.study_page("study", "headline", ["lead"], verdicts, changed, tables, {})
  assert "A &lt;beats&gt; B" in page and 'class="outcome shown">shown</span>' in page
  rule = "A - B, points: the whole interval must lie above 0.5"
  assert f"{rule}<br><b>1 (97.5 %: 0.75 to 1.25)</b>" in page
  for said in (text, page):
    assert "changed on 2026-11-25" in said and "Outcome under that rule: contradicted (2)" in said
  assert "changed since training: parts" in page
  assert Page(page).tags.count("tr") == 6


def test_claims_fixed_before_training_are_on_the_page_of_the_sweep():
  dataset = store(errors())
  dataset.attrs["claims"] = claims.record([verdict.claim for verdict in study()[0]])
  page = report.sweep_page(dataset)
  assert "Claims recorded before training" in page
  assert "ratio: the whole interval must lie between 0.8 and 1.25" in page


def test_a_crossed_sweep_shows_who_is_to_blame_and_no_interval_as_if_independent():
  init, order = np.arange(64) // 8, np.arange(64) % 8
  skill = np.random.default_rng(3).uniform(0.05, 0.4, 8)[init][:, None]
  wrong = np.random.default_rng(4).random((64, 400)) < skill
  dataset = store(wrong, vary=("init", "order"), seeds={"init": init, "order": order})
  table = cells(report.text(dataset))
  first, total = (float(share.split()[0]) for share in re.split(r"  +", table["init"]))
  assert first > 0.7 and total >= first - 0.05 and "mean over new levels of every stream" in table
  assert float(table["order"].split()[0]) < 0.2
  assert not {"sem", "expected gap of 10 new seeds", "interquartile mean"} & set(table)
  page = report.sweep_page(dataset)
  assert "Variance by source" in page and "init 3, order 5" in page
  churn = re.search(r"Two seeds disagree on [^;]*", page)[0]
  assert "interval" not in churn
  joint = re.search(r"Two seeds disagree on [^;]*", report.sweep_page(store(wrong)))[0]
  assert "95 % interval" in joint


def test_churn_and_votes_by_hand():
  wrong = np.zeros((3, 4), int)
  wrong[0, 0] = wrong[1, 0] = wrong[2, 3] = (
    1  # example 0: two say 1, one says 0; example 3: 3, 3, 0
  )
  found = findings.disagreement(store(wrong))
  np.testing.assert_array_equal(found.votes_ExK[0], [1, 2, 0, 0])
  np.testing.assert_allclose(found.instability_E, [2 / 3, 0, 0, 2 / 3])
  assert found.churn.estimate == pytest.approx(1 / 3)
  expected = np.zeros((4, 4))
  expected[0, 1] = expected[1, 0] = 2 / (6 * 4)
  expected[3, 0] = expected[0, 3] = 2 / (6 * 4)
  np.testing.assert_allclose(found.confusion_KxK, expected)
  assert findings.disagreement(store(wrong[:1])) is None
  assert findings.disagreement(store(wrong).drop_vars("label")) is None


def test_predictions_differ_by_their_probabilities_at_the_last_evaluation():
  """Of runs that did not diverge, for these examples and for new ones."""
  dataset = store(errors(8, 20), diverged=(3,))
  probability = np.random.default_rng(0).dirichlet([1] * CLASSES, (3, 20, 8))
  dims = ("evaluation", "example", "run", "class")
  dataset["probability"] = (dims, probability)
  last = np.delete(probability[-1].swapaxes(0, 1), 3, axis=0)
  rows, apart = pairs.l1_rows(last), pairs.example_differences(last)
  assert findings.disagreement(dataset).difference == pairs.pair_mean(rows)
  found = findings.on_new_examples(dataset)["difference"]
  assert found == pairs.new_examples_mean(rows, apart)


def test_images_of_the_test_set_are_shown_where_it_is_at_hand():
  from seedlab import config, data

  label = data.build("digits").dataset.test_label
  dataset = store(errors(runs=12, examples=len(label)), config=config.to_dict(config.parse({})))
  predicted = np.where(dataset.predicted_label != dataset.label, (label + 1) % 10, label)
  dataset = dataset.assign_coords(label=("example", label))
  dataset["predicted_label"] = ("run", "example"), predicted
  page = report.sweep_page(dataset, "test_accuracy")
  assert page.count('<img src="data:image/png;base64,') == 24
  assert "Test example" in page and "the runs say" in page
  dataset.attrs["config"]["data"]["name"] = "mnist"  # not on this disk: no download, no images
  assert "<img" not in report.sweep_page(dataset, "test_accuracy", data_dir="/nowhere")


def test_a_grid_is_read_from_its_stores(tmp_path):
  for name, seed in (("a", 0), ("b", 1)):
    dataset = store(errors(seed=seed), config={"data": {"name": "x"}, "model": {"name": name}})
    dataset.attrs |= {"seedlab_store": 1, "layout": 2, "chunk": 60, "outcome": []}
    dataset.attrs |= {"metrics": ["test_accuracy"], "fingerprints": [{}], "coordinates": ""}
    dataset["digest"] = "run", np.full(dataset.sizes["run"], b"0" * 64)
    dataset.attrs["by_run"] = [one for one, its in dataset.variables.items() if "run" in its.dims]
    dataset.to_zarr(tmp_path / name, zarr_format=2, consolidated=True, write_empty_chunks=True)
  cells_of = report.grid_cells(tmp_path)
  assert [values for values, _ in cells_of] == [{"model.name": "a"}, {"model.name": "b"}]
  text = report.grid_text(cells_of)
  assert text.splitlines()[1].split()[:5] == ["model.name", "runs", "mean", "sd", "min"]
  page = report.grid_page(cells_of)
  assert "model.name=a" in page and "<h2>Cells</h2>" in page
