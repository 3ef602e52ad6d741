"""What a sweep of few runs, on a grid, with collapsed, diverged or missing runs, still says."""

import math
import re

import numpy as np
import pytest
import scipy.stats
import xarray

from seedlab import findings, report, stats
from seedlab.config import STREAMS
from seedlab.report import words
from seedlab.stats import planning, resolution, sequential, single


def sweep(values, metric="test_loss", *, diverged=(), missing=(), planned_n=None) -> xarray.Dataset:
  """A store of runs 0, 1, ... with one metric and no predictions."""
  values = np.array(values, np.float64)
  runs, step = len(values), np.full(len(values), -1)
  step[list(diverged)] = 3
  values[list(diverged)] = np.nan
  completed = np.full(runs, True)
  completed[list(missing)] = False
  seeds = {f"seed_{stream}": ("run", np.arange(runs, dtype=np.uint32)) for stream in STREAMS}
  return xarray.Dataset(
    {
      metric: ("run", values),
      "diverged": ("run", step),
      "completed": ("run", completed),
      "fingerprint": ("run", np.zeros(runs, np.int32)),
    },
    coords={"run": np.arange(runs), **seeds},
    attrs={"metrics": [metric], "vary": list(STREAMS), "planned_n": planned_n},
  )


def said(dataset: xarray.Dataset, **options) -> str:
  return " ".join(report.text(dataset, **options).split())


def table(dataset: xarray.Dataset, **options) -> dict[str, str]:
  text = report.text(dataset, **options)
  return dict(re.findall(r"^(\S.*?)  +(\S.*)$", text, re.MULTILINE))


def normal(n: int, seed: int = 0) -> np.ndarray:
  return 0.5 + 0.01 * np.random.default_rng(seed).normal(size=n)


def test_sentences_say_which_runs_they_stand_on():
  """Clopper-Pearson of 3 in 100: 0.62 to 8.52 %."""
  dataset = sweep(normal(105), diverged=(1, 2, 3), missing=(100, 101, 102, 103, 104))
  text, cells = said(dataset), table(dataset)
  assert "worst of the 97 seeds of 105 that are finished and did not diverge (mean 0.5" in text
  assert "5 of 105 runs are missing, of which nothing is known" in text
  assert "3 of 100 runs (3 %, 95 % interval 0.6 to 8.5 %) diverged and are lost" in text
  assert cells["diverged"] == "3 of 100 (3 %, 95 % interval 0.6 to 8.5 %)"
  assert cells["missing"] == "5 of 105: not known"
  assert cells["runs"] == "97"
  assert "the 97 seeds of 105 that are finished and did not diverge" in report.sweep_page(dataset)
  whole = said(sweep(normal(10)))
  assert "and the worst of 10 seeds (mean" in whole and "finished" not in whole


@pytest.mark.parametrize(
  ("dataset", "sentence"),
  [
    (sweep([0.5]), "One run: test loss 0.5."),
    (sweep([0.5, 1, 1], diverged=(1, 2)), "The 1 seed of 3 that did not diverge: test loss 0.5."),
    (sweep([0.5, 1], missing=(1,)), "The 1 seed of 2 that is finished: test loss 0.5."),
    (sweep([0.5, 0.7]), "between the best and the worst of 2 seeds (mean 0.60, sd 0.14)."),
  ],
)
def test_one_and_two_runs(dataset, sentence):
  text = said(dataset)
  assert sentence in text and " 1 runs" not in text and " 1 seeds" not in text
  assert "cannot be seen in fewer than 5 runs" in text
  assert "<h1>" in report.sweep_page(dataset)


def test_the_plan_is_shown():
  assert table(sweep(normal(8), planned_n=5))["planned before training"] == "5 runs"
  assert "planned before training" not in table(sweep(normal(8)))


def test_a_mean_on_a_grid_by_hand():
  """0.9, 0.9, 0.9 to one decimal: sqrt(0.01 / 12 / 3) = 0.0167, times t = 4.303."""
  s = stats.summary([0.9, 0.9, 0.9], 0.1)
  assert (s.sd, s.sem) == (0, pytest.approx(0.1 / 6))
  assert (s.low, s.high) == pytest.approx((0.9 - 0.071711, 0.9 + 0.071711), abs=1e-6)
  s = stats.summary([1.0, 2.0], 1.0)  # s^2 = 1/2, t = 12.706
  assert s.sem == pytest.approx(math.sqrt((1 / 2 + 1 / 12) / 2))
  assert s.high - s.mean == pytest.approx(12.7062 * s.sem, rel=1e-5)
  of = single.mean_interval([1.0, 2.0], 0.9, 1.0)
  assert of.high - of.estimate == pytest.approx(6.313752 * s.sem, rel=1e-5)
  # The middle half of 1, 1, 1, 2: 1 and 1; winsorised 1, 1, 1, 1, so that the grid alone is left.
  middle = single.interquartile_mean([1, 1, 1, 2], h=1.0)
  assert middle.high - 1 == pytest.approx(12.7062 * math.sqrt(1 / 12) * 2 / 2, rel=1e-5)


def test_equal_values_have_an_interval_on_a_known_grid_alone():
  cells, text = table(sweep([95.0] * 3)), said(sweep([95.0] * 3))
  half = 4.302653 / 6
  assert cells["95 % interval of the mean"] == f"{95 - half:.2f} to {95 + half:.2f}"
  assert "What is smaller than the step of the values, 1, stays hidden" in text
  assert "twelfth" in text
  unknown = sweep([0.123456789] * 3)
  assert table(unknown)["95 % interval of the mean"] == "-"
  assert "how finely this metric was measured is not known" in said(unknown)
  assert "Student" not in said(unknown)
  rounding = sweep([0.3, 0.30000000000000004])  # equal, but for the arithmetic
  assert "did not show" in said(rounding)
  assert "twelfth" not in said(sweep(normal(10)))


def test_accuracies_of_a_store_lie_on_the_grid_of_its_test_set():
  from test_report import store

  found = findings.examine(store(np.zeros((3, 40), bool)))
  assert found.grid == pytest.approx(2.5)
  s = found.columns[0].summary
  assert s.high - s.mean == pytest.approx(4.302653 * 2.5 / math.sqrt(36), rel=1e-5)
  # 100 % is not exceeded in words.
  assert table(store(np.zeros((3, 40), bool)))["95 % interval of the mean"].endswith("to 100.00")
  assert findings.examine(sweep(np.float32([0.31, 0.35, 0.36, 0.42]))).grid == pytest.approx(
    0.01, rel=1e-4
  )


def test_no_interval_has_zero_width():
  found = findings.examine(sweep(normal(5)))
  of = single.Interval(0.5, 0.5, 0.5, 0.95, "")
  assert words.interval(found, of, 0.1) == "0.50 (no interval: too many runs are equal)"
  many = [0.512345678] * 30 + list(normal(9))
  text = report.text(sweep(many), details=True)
  assert not re.search(r"\((\S+) to \1\)", text)


def collapsed(n: int = 100, count: int = 2) -> np.ndarray:
  values = normal(n)
  values[[7, 50][:count]] = 4.0, 4.2  # of a loss
  return values


def test_collapse_is_said_and_robust_summaries_stand_beside():
  values = collapsed()
  text, cells = said(sweep(values)), table(sweep(values))
  # Clopper-Pearson of 2 in 100: 0.243 to 7.04 %.
  assert "2 of 100 runs (2 %, 95 % interval 0.2 to 7 %) collapsed, far above all the others" in text
  assert cells["collapsed"] == "2 of 100 (2 %, 95 % interval 0.2 to 7 %)"
  assert cells["median"] == f"{np.median(values):.4f}"
  median = single.quantile_interval(values, 0.5)
  shown = [float(x) for x in re.findall(r"[\d.]+", cells["median, whatever the distribution"])]
  assert shown == pytest.approx([median.estimate, median.low, median.high], abs=1e-4)
  for name in ("mean, interval that forgives looking again", "sd with its 95 % interval"):
    assert cells[name].startswith("not given: runs that lie apart")
  assert "seeds a sweep to find" not in text and "Quote the median" in text
  assert "expected gap" not in text
  best = collapsed()
  best[[7, 50]] = 0.01, 0.02  # better than all: apart, not collapsed
  assert "2 of 100 runs (2 %, 95 % interval 0.2 to 7 %) lie apart, far below all" in said(
    sweep(best)
  )


def test_how_much_collapse_may_be_unseen_is_said_always():
  assert table(sweep(normal(10)))["collapsed"] == "0 of 10 (0 %, 95 % interval 0 to 31 %)"
  assert table(sweep(normal(5)))["collapsed"] == "0 of 5 (0 %, 95 % interval 0 to 52 %)"
  assert "fewer than 5" in table(sweep(normal(4)))["collapsed"]


def test_diverged_runs_at_chance_void_what_collapsed_ones_void():
  from test_report import errors, store

  cells = table(store(errors(), diverged=(3,)))
  assert cells["mean, interval that forgives looking again"].startswith("not given: diverged runs")
  assert cells["collapsed"].startswith("0 of 59")


def test_the_interval_that_forgives_looking_again_follows_the_first_look():
  values = normal(40)
  s = stats.summary(values)
  early = sequential.anytime_t(s.mean, s.sem, 39, 200)
  late = sequential.asymptotic_sequence(values)
  name = "mean, interval that forgives looking again"
  ruled = sweep(values)
  ruled.attrs["stop"] = "ci_width(test_loss)<0.01"
  first_looks = [
    (sweep(values, planned_n=10), early.low, early.high),
    (sweep(values), early.low, early.high),  # who knows what was looked at
    (sweep(values, planned_n=30), late.low_R[-1], late.high_R[-1]),
    (ruled, late.low_R[-1], late.high_R[-1]),
  ]
  for dataset, low, high in first_looks:
    shown = [float(x) for x in re.findall(r"[\d.]+", table(dataset)[name])]
    assert shown == pytest.approx([s.mean, low, high], abs=6e-5)
  assert early.high > late.high_R[-1]
  assert "no interval from so few runs" in table(sweep(normal(3)))[name]
  assert re.fullmatch(r"\S+ \(\S+ to \S+\)", table(sweep(normal(4)))[name])


def test_the_share_of_the_networks_by_hand():
  """theta = 0.03, c = 0.02, E = 4: 0.03 / (0.0225 + 0.02)."""
  own = single.Interval(0.03, -0.01, 0.06, 0.95, "")
  part = single.distribution_wise_share(own, 0.02, 4)
  expected = (0.03 / 0.0425, 0.0, 0.06 / 0.065)
  assert (part.estimate, part.low, part.high) == pytest.approx(expected)


def test_no_share_of_the_networks_where_its_interval_says_nothing():
  from test_report import errors, store

  # The spread of 10 runs is nearly all the networks' own, and a narrow interval would say so.
  skilled = np.random.default_rng(1).random((10, 2_000)) < np.linspace(0.02, 0.3, 10)[:, None]
  for wrong in (errors(runs=5), skilled):
    few = said(store(wrong))
    assert f"cannot be told from {len(wrong)} seeds" in few and "An estimated" not in few
    assert "of which about" not in few
  vague = said(store(np.random.default_rng(3).random((30, 60)) < 0.2))
  assert "cannot be told from 30 seeds" in vague
  assert "An estimated" in said(store(errors(runs=60)))


def test_the_forecast_is_of_the_test_that_will_judge():
  values = normal(100)
  of = single.sd_interval(values)
  sd = values.std(ddof=1)
  each, low, high = (
    planning.runs_for_difference(sd / 2, x, alpha=0.04) for x in (sd, of.low, of.high)
  )
  (forecast,) = (v for k, v in table(sweep(values)).items() if k.startswith("seeds a sweep"))
  said_of_it = "4 times in 5 by Welch's test at its first look (4 %)"
  assert forecast == f"{each} ({low} to {high}), {said_of_it}"
  assert each == 69  # 64 at 5 %
  assert "seeds a sweep" not in said(sweep(normal(29)))


def test_a_grid_says_where_runs_lack(tmp_path):
  for name, lost in (("a", (0,)), ("b", ())):
    dataset = sweep(normal(6), diverged=lost)
    dataset.attrs |= {"seedlab_store": 1, "layout": 2, "chunk": 6, "outcome": []}
    dataset.attrs |= {"config": {"model": {"name": name}}, "fingerprints": [{}], "coordinates": ""}
    dataset["digest"] = "run", np.full(dataset.sizes["run"], b"0" * 64)
    dataset.attrs["by_run"] = [one for one, its in dataset.variables.items() if "run" in its.dims]
    dataset.to_zarr(tmp_path / name, zarr_format=2, consolidated=True, write_empty_chunks=True)
  cells = report.grid_cells(tmp_path)
  text = report.grid_text(cells)
  assert "5 of 6" in text and "the others diverged or are not finished" in text
  page = report.grid_page(cells)
  assert "5 of 6" in page and "the others diverged or are not finished" in page
  assert "the others diverged" not in report.grid_text(cells[1:])


# Rounded to whole numbers; the mean is that before rounding (what printed numbers hide) or that
# of the values themselves (accuracies are multiples of 1/E).
def coverage(n: int, sd: float, h: float, rounded: bool, samples: int, rng) -> float:
  """Of the t interval of a mean with the step h taken as known, in %."""
  mean_S = rng.uniform(0, 1, samples)
  values = np.round(rng.normal(mean_S[:, None], sd, (samples, n)))
  if rounded:
    steps = np.arange(-6, 8)
    edges = scipy.stats.norm.cdf((steps[:, None] + 0.5 - mean_S) / sd)
    mean_S = steps[1:] @ np.diff(edges, axis=0)
  half = scipy.stats.t.ppf(0.975, n - 1) * np.sqrt((values.var(1, ddof=1) + h**2 / 12) / n)
  for number in range(3):  # the code does what is simulated
    of = single.mean_interval(values[number], h=h)
    if half[number] > 0:
      assert of.high - of.estimate == pytest.approx(half[number])
  return 100 * float((abs(values.mean(1) - mean_S) <= half).mean())


def test_the_interval_of_a_mean_on_a_coarse_grid_covers():
  rng = np.random.default_rng(140)
  for n in (2, 3, 5, 10):
    for sd in (0.3, 0.5, 1.0):
      assert coverage(n, sd, 1.0, False, 2_000, rng) >= 94
      assert coverage(n, sd, 1.0, True, 2_000, rng) >= 94


def flagged(draw, n: int, samples: int, h: float = 0.0) -> float:
  """How often a run is called collapsed, in %."""
  found = [resolution.collapse(draw(n), h).collapsed_R.any() for _ in range(samples)]
  return 100 * float(np.mean(found))


def test_normal_values_are_seldom_called_collapsed():
  rng = np.random.default_rng(141)
  for n in (5, 10, 100):
    assert flagged(lambda n: rng.normal(size=n), n, 500) <= 5
    one = flagged(lambda n: np.append(rng.normal(size=n - 1), -25.0), n, 200)
    assert one >= (80 if n == 5 else 95)


@pytest.mark.slow
def test_table_of_means_on_coarse_grids():
  rng = np.random.default_rng(142)
  for rounded in (True, False):
    print("\nmean of the values" if rounded else "\nmean before rounding")
    for sd in (0.1, 0.2, 0.3, 0.5, 1.0, 2.0):
      cells = [
        [coverage(n, sd, h, rounded, 20_000, rng) for h in (0.0, 1.0)] for n in (2, 3, 5, 10, 30)
      ]
      print(f"| {sd} | " + " | ".join(f"{plain:.0f} / {ours:.1f}" for plain, ours in cells) + " |")
      if sd >= 0.5 or rounded:
        assert min(ours for _, ours in cells) >= 94


@pytest.mark.slow
def test_table_of_collapse_flags():
  rng = np.random.default_rng(143)
  kinds = {
    "normal": (lambda n: rng.normal(size=n), 0.0),
    "normal, sd 0.3 steps": (lambda n: np.round(rng.normal(0.3, 0.3, n)), 1.0),
    "Student's t, 4 degrees of freedom": (lambda n: rng.standard_t(4, size=n), 0.0),
    "exponential": (lambda n: rng.exponential(size=n), 0.0),
    "normal, one 10 sd away": (lambda n: np.append(rng.normal(size=n - 1), -10.0), 0.0),
    "normal, one 25 sd away": (lambda n: np.append(rng.normal(size=n - 1), -25.0), 0.0),
  }
  for name, (draw, h) in kinds.items():
    rates = [flagged(draw, n, 4_000, h) for n in (5, 7, 9, 10, 20, 50, 100)]
    print(f"| {name} | " + " | ".join(f"{rate:.1f}" for rate in rates) + " |")
    assert max(rates) <= 4 or name not in ("normal", "normal, sd 0.3 steps")


@pytest.mark.slow
def test_table_of_shares():
  rng, examples, samples = np.random.default_rng(144), 300, 500
  chance = 0.2 * 0.8 / examples
  for true in (0.1, 0.5, 0.9):
    cells = []
    for runs in (5, 10, 30, 100):
      own = true / (1 - true) * chance
      own /= 1 + true / (1 - true) / examples  # p(1-p) is smaller where p varies
      hits, told, right = 0, 0, 0
      for _ in range(samples):
        rate_R = np.clip(rng.normal(0.2, math.sqrt(own), (runs, 1)), 0, 1)
        wrong = rng.random((runs, examples)) < rate_R
        found = single.distribution_wise_interval(wrong)
        independent = stats.independent_errors_variance(wrong.sum(0), runs)
        part = single.distribution_wise_share(found, independent, examples)
        hit, narrow = part.low <= true <= part.high, part.high - part.low <= 0.5
        hits, told, right = hits + hit, told + narrow, right + (hit and narrow)
      shown = f"{100 * right / told:.0f}" if told > 20 else "-"
      cells.append(f"{100 * hits / samples:.1f} ({100 * told / samples:.0f}: {shown})")
    print(f"| {true} | " + " | ".join(cells) + " |")


@pytest.mark.slow
def test_table_of_forecasts():
  rng, samples = np.random.default_rng(145), 400
  for name, draw in (("normal", rng.normal), ("exponential", rng.exponential)):
    cells = []
    for n in (30, 50, 100, 200):
      told = hits = 0
      for _ in range(samples):
        forecast = words._forecast(findings.examine(sweep(draw(size=n))))
        if not forecast:
          continue
        ((said_of, value),) = forecast
        difference = float(said_of.split()[-1])
        fewest, most = map(int, re.search(r"\((\d+) to (\d+)\)", value.replace(",", "")).groups())
        needed = planning.runs_for_difference(difference, 1.0, alpha=0.04)
        told, hits = told + 1, hits + (fewest - 1 <= needed <= most + 1)
      cells.append(f"{100 * told / samples:.0f} ({100 * hits / told:.0f})" if told else "0")
    print(f"| {name} | " + " | ".join(cells) + " |")


def missing_ever(draw, samples: int, most: int) -> list[float]:
  """How often an interval of the mean (0) misses it at any look, in %: which, as printed below."""
  n = np.arange(1, most + 1)
  early = np.array([sequential.anytime_t(0.0, 1.0, k - 1, 5 * k).high for k in n[3:]])
  margin = sequential.mixture_margin(n, 0.05, sequential.TARGET) * np.sqrt(n)
  late = scipy.stats.t.isf(scipy.stats.norm.sf(margin[29:]), n[29:] - 1)
  misses = np.zeros(3)
  for _ in range(samples):
    values = draw(most)
    mean = np.cumsum(values) / n
    squares = np.maximum(np.cumsum(values**2) - n * mean**2, 1e-30)
    t = abs(mean) / np.sqrt(squares / np.maximum(n - 1, 1) / n)
    t_early, t_late = t[3:] > early, t[29:] > late
    misses += t_early.any(), t_late.any(), t_early[:26].any() or t_late.any()
  return (100 * misses / samples).tolist()


@pytest.mark.slow
def test_table_of_looking_again_from_few_runs():
  rng = np.random.default_rng(146)
  kinds = {
    "normal": rng.standard_normal,
    "Student's t, 4 degrees of freedom": lambda n: rng.standard_t(4, n),
    "gamma(2), skewness 1.4": lambda n: rng.gamma(2, size=n) - 2,
    "exponential, skewness 2": lambda n: rng.exponential(size=n) - 1,
    "1 % collapsed, 25 sd away": lambda n: (
      rng.normal(size=n) - 25 * (rng.random(n) < 0.01) + 0.25
    ),
  }
  for name, draw in kinds.items():
    rates = missing_ever(draw, 4_000, 1_000)
    print(f"| {name} | " + " | ".join(f"{rate:.1f}" for rate in rates) + " |")
    assert max(rates) <= 6 or name != "normal"
