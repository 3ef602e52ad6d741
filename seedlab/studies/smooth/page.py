"""The tables and figures of the study of smooth activations."""

import math
from collections.abc import Mapping

import numpy as np
import xarray

from seedlab import findings, metrics, report
from seedlab.report import charts
from seedlab.stats import crossed_pairs, pairs
from seedlab.stats.single import Interval, mean_interval
from seedlab.studies.smooth.place import (
  ENSEMBLE,
  Place,
  end_rows,
  interval_of,
  mean_without,
  measure,
  pd_ratio,
  pd_without,
  probabilities,
)
from seedlab.studies.smooth.sweeps import BESIDE, REMEDIES, SOURCES, UNIT_SETTINGS, of_family


def _ratio(interval: Interval) -> str:
  if interval.high < 0.005:
    return "below 0.005"
  return report.interval_text(interval)


def _change(interval: Interval) -> str:
  if math.isnan(interval.low):
    return f"{interval.estimate:+.4f}"
  return f"{interval.estimate:+.4f} ± {(interval.high - interval.low) / 2:.4f}"


def settings_table(place: Place, chosen: Mapping[str, str]) -> report.Table:
  relu = place.settings["relu"]
  rows = []
  for name, one in place.settings.items():
    ratio = pd_ratio(one.order_T[-1], relu.order_T[-1])
    change = interval_of(mean_without(one.loss[..., -1]) - mean_without(relu.loss[..., -1]), 0.95)
    init = crossed_pairs.crossed_mean(one.tables.first, (0,)).estimate
    both = crossed_pairs.crossed_mean(one.tables.both, (0, 1)).estimate
    churn = pd_without(one.churn)[0]
    cells = [
      name + " *" * (name in chosen.values()),
      f"{one.loss[..., -1].mean():.4f}",
      "-" if one is relu else _change(change),
      f"{100 * one.score[..., -1].mean():.2f}",
      f"{pd_without(one.order_T[-1])[0]:.4f}",
      "1" if one is relu else _ratio(ratio),
      f"{init:.4f}",
      f"{both:.4f}",
      f"{100 * churn:.2f}",
    ]
    if relu.overlap is not None:
      cells.append(f"{crossed_pairs.crossed_mean(one.overlap).estimate:.3f}")
    rows.append(tuple(cells))
  score = "AUC" if place.name in ("movielens", "clicks", "criteo") else "accuracy"
  head = [
    "setting", "log-loss", "less ReLU's", f"{score}, %", "PD, order", "over ReLU's", "PD, init",
    "PD, both", "churn, %",
  ]  # fmt: skip
  if relu.overlap is not None:
    head.append("overlap")
  note = (
    "95 % intervals, paired by seeds. * the width chosen on the first half of the orders (M1, M2"
    " and M5 judge it on the second). PD, init: the order shared; both: neither shared. Churn, and"
    " the overlap of a user's ten best films: between two orders."
  )
  return report.Table(f"Activations on {place.name}", head, rows, note)


def sources_table(
  datasets: Mapping[str, xarray.Dataset], place: Place, rows_of: Mapping[str, np.ndarray]
) -> report.Table:
  """How much each source alone makes runs differ.

  Args:
    rows_of: sweep -> `end_rows` of it.
  """
  rows = []
  relu, beside = (place.settings[name] for name in ("relu", BESIDE))
  ratio = pd_ratio(beside.order_T[-1], relu.order_T[-1])
  rows.append(
    (
      "another order, all shuffled",
      *(f"{pd_without(one.order_T[-1])[0]:.4f}" for one in (relu, beside)),
      _ratio(ratio),
    )
  )
  for source, words in SOURCES.items():
    if f"{place.name}/{source}/relu" not in datasets:
      continue
    stores = [datasets[f"{place.name}/{source}/{name}"] for name in ("relu", BESIDE)]
    findings.check_evaluation_sets(dict(zip(("relu", BESIDE), stores, strict=True)))
    a, b = (rows_of[f"{place.name}/{source}/{name}"] for name in ("relu", BESIDE))
    estimates = [pairs.pair_mean(one).estimate for one in (a, b)]
    paired = len(a) == len(b)
    cell = _ratio(pairs.pair_ratio(b, a, paired=paired)) if min(estimates) > 0 else "-"
    rows.append((words, *map(_small, estimates), cell))
  cells = []
  for name in ("relu", BESIDE):
    main, again = datasets[f"{place.name}/{name}"], datasets[f"{place.name}/numerics/{name}"]
    ends = place.settings[name].end, probabilities(again)[:, -1]
    cells.append(_between((main["run"].values, ends[0]), (again["run"].values, ends[1])))
  rows.append(("the same seeds in four lanes: other roundings", *map(_small, cells), "-"))
  head = ("what differs between two runs", "PD, ReLU", f"PD, {BESIDE}", "ratio")
  note = (
    "Everything else is shared. Ratios with 95 % run-jackknife intervals, paired by seeds."
    " Roundings stand in for other hardware: the same runs one by one and in lanes of a vmapped"
    " program."
  )
  return report.Table(f"Sources of irreproducibility on {place.name}", head, rows, note)


def measures_table(datasets: Mapping[str, xarray.Dataset], place: Place) -> report.Table:
  """Order-only differences of the first initialisation, by every measure there is."""
  columns = []
  for name in ("relu", BESIDE):
    dataset = datasets[f"{place.name}/{name}"]
    init_R = dataset["seed_init"].values
    p_RxE = place.settings[name].end[init_R == init_R.min()]
    truth_E = dataset["label"].values
    labels_RxE = metrics.predicted_labels(p_RxE)
    difference = metrics.prediction_difference(p_RxE)
    gain = metrics.ensemble_gain(p_RxE, truth_E, 2)
    columns.append(
      [
        _small(difference.estimate),
        _small(metrics.mean_deviation(p_RxE)),
        _small(metrics.relative_deviation(p_RxE)),
        _small(metrics.relative_deviation(p_RxE, truth_E)),
        *(
          _small(metrics.mean_distance(p_RxE, distance, all_pairs=True).estimate)
          for distance in (metrics.symmetric_relative, metrics.jensen_shannon, metrics.hellinger)
        ),
        _small(pairs.pair_mean(pairs.churn_rows(labels_RxE)).estimate),
        f"{metrics.logit_correlation(p_RxE).estimate:.4f}",
        f"{gain.difference_ratio.estimate:.3f}",
        f"{gain.log_loss_change.estimate:+.4f}",
        _small(metrics.calibration_errors(p_RxE, truth_E).mean()),
      ]
    )
  names = (
    "PD: mean |p - p'| over pairs of runs", "mean deviation from the average prediction",
    "relative PD", "relative PD of the label alone", "symmetric relative PD, pairwise",
    "Jensen-Shannon distance", "Hellinger distance", "churn", "correlation of logits",
    "PD of two averaged runs over that of one", "their log-loss less that of one",
    "calibration error, 15 bins",
  )  # fmt: skip
  note = (
    f"The first initialisation in {len(p_RxE)} orders. Formulas, ranges and the"
    " factors between them: seedlab/metrics.py."
  )
  rows = list(zip(names, *columns, strict=True))
  return report.Table(f"Other measures on {place.name}", ("measure", "ReLU", BESIDE), rows, note)


def _small(value: float) -> str:
  """Four decimals, or two digits where they would say nothing."""
  return f"{value:.4f}" if value >= 5e-4 or value == 0 else f"{value:.1e}"


def _between(*stores: tuple[np.ndarray, np.ndarray]) -> float:
  """Mean |p - p'| of the runs with equal seeds in two stores: (run numbers, p at the end)."""
  runs = np.intersect1d(*(run_R for run_R, _ in stores))
  a, b = (end[np.searchsorted(run_R, runs)] for run_R, end in stores)
  return float(np.abs(a.astype(np.float64) - b).mean())


def remedies_table(datasets: Mapping[str, xarray.Dataset], place: Place) -> report.Table:
  relu = place.settings["relu"]
  half = relu.first_half.shape[1]
  base = mean_without(relu.loss[:, :half, -1])

  def row(words, table_IxJ, loss_IxJ, use, train):
    ratio = pd_ratio(table_IxJ, relu.first_half)
    change = interval_of(mean_without(loss_IxJ) - base, 0.95)
    return words, f"{pd_without(table_IxJ)[0]:.4f}", _ratio(ratio), _change(change), use, train

  rows = []
  beside = place.settings[BESIDE]
  rows.append(row(BESIDE, beside.first_half, beside.loss[:, :half, -1], "1", "1"))
  plain = [(remedy, "relu", "ReLU") for remedy in REMEDIES]
  for remedy, setting, name in [*plain, ("average", BESIDE, BESIDE)]:
    store = datasets.get(f"{place.name}/{remedy}/{setting}")
    if store is not None:  # at scale smoke there are fewer
      one, (words, use, train) = measure(store, remedy), REMEDIES[remedy]
      rows.append(row(f"{name}, {words}", one.order_T[-1], one.loss[..., -1], use, train))
  for name, one in (("ReLU", relu), (BESIDE, beside)):
    ratio = pd_ratio(one.ensembles, relu.order_T[-1])
    cells = (f"{pd_without(one.ensembles)[0]:.4f}", _ratio(ratio), "-", "3", "3")
    rows.append((f"{name}, ensemble of {ENSEMBLE} initialisations", *cells))
  head = (
    "remedy", "PD, order", "over ReLU's", "log-loss less ReLU's", "cost of use", "of training",
  )  # fmt: skip
  note = (
    "Order-only PD, 95 % intervals over orders, paired by seeds; costs in forward passes and in"
    " trainings of the plain network. A shared initialisation (warm start) is what order-only"
    " means: without it PD is that of both in the table above."
  )
  return report.Table(f"Remedies on {place.name}", head, rows, note)


def slices_table(datasets: Mapping[str, xarray.Dataset], place: str) -> report.Table:
  rows = []
  for name in sliced(datasets, place):
    dataset = datasets[f"{place}/slices/{name}"]
    jump, loss = dataset["slice_jump"].values[:, 1:], dataset["slice_loss"].values
    middle = np.median(jump, axis=1)
    rows.append(
      (
        name,
        f"{np.median(jump.max(1)):.3f}",
        f"{np.median(middle):.3f}",
        f"{np.median(jump.max(1) / middle):.1f}",
        f"{np.median(loss[:, 0] - loss.min(1)):.4f}",
      )
    )
  head = (
    "setting", "largest jump of the gradient", "median jump", "largest over median",
    "largest fall of the loss",
  )  # fmt: skip
  points = datasets[f"{place}/slices/relu"].sizes["point"]
  note = (
    f"Along the negative gradient of the loss of 32 training examples at the end, {points}"
    " points up to 2 % of the norm of the parameters; jumps between neighbouring points over the"
    " norm of the gradient at the start; medians over runs."
  )
  return report.Table(f"Slices of the loss on {place}", head, rows, note)


def sliced(datasets: Mapping[str, xarray.Dataset], place: str) -> list[str]:
  return [n for n in ("relu", BESIDE, "linear") if f"{place}/slices/{n}" in datasets]


def unit_table(datasets: Mapping[str, xarray.Dataset]) -> report.Table:
  rows = []
  for name in UNIT_SETTINGS:
    if f"unit/{name}" not in datasets:
      continue
    dataset = datasets[f"unit/{name}"]
    difference = pairs.pair_mean(end_rows(dataset))
    loss = mean_interval(dataset["test_loss"].values[:, -1])
    rows.append(
      (
        name,
        report.interval_text(difference, ".4f"),
        f"{loss.estimate:.4f}",
        f"{100 * dataset['test_accuracy'].values[:, -1].std(ddof=1):.2f}",
      )
    )
  head = ("activation", "PD, init", "log-loss", "sd of accuracy, points")
  note = (
    "The smallest example: a single hidden unit between 64 pixels and two Gaussian classes, the"
    " order shared. One kink is enough (Snapp & Shamir 2021, arXiv 2102.10696, whose own example we"
    " have not seen)."
  )
  return report.Table("One unit", head, rows, note)


def tradeoff_figure(place: Place, scale: str):
  families = of_family(place.name, scale)
  curves = []
  for family, names in families.items():
    points = [place.settings[name] for name in ("relu", *names)]
    curves.append(
      charts.Path(
        family,
        ["relu", *names],
        [one.loss[..., -1].mean() for one in points],
        [pd_without(one.order_T[-1])[0] for one in points],
      )
    )
  model = charts.paths(curves, "log-loss", "PD between two orders")
  ends = "; ".join(f"{c.labels[-1]} {c.x[-1]:.4f}, {c.y[-1]:.4f}" for c in curves)
  caption = (
    f"Log-loss and order-only prediction difference on {place.name}: a curve a family, from ReLU"
    " (its limit) to the widest. Further down agrees more, further left predicts better."
  )
  return model, f"Log-loss and PD of the widest of each family: {ends}.", caption


def time_figure(place: Place, scale: str):
  lines = []
  shown = [n for n in ("relu", BESIDE, "swish=1", "linear") if n in place.settings]
  for role, name in enumerate(shown):
    one = place.settings[name]
    found = [interval_of(pd_without(table), 0.95, log=True) for table in one.order_T]
    lines.append(charts.line(name, role, "solid", one.steps, found))
  model = charts.lines(lines, "training step", "PD between two orders")
  ends = "; ".join(f"{line.name} {line.middle[-1]:.4f}" for line in lines)
  caption = (
    f"How order-only prediction difference grows with training on {place.name}, 95 % intervals."
  )
  return model, f"PD at the end: {ends}.", caption


def slices_figure(datasets: Mapping[str, xarray.Dataset], place: str):
  lines = []
  for role, name in enumerate(sliced(datasets, place)):
    jump = datasets[f"{place}/slices/{name}"]["slice_jump"].values[:, 1:]
    at = 2.0 * np.arange(1, jump.shape[1] + 1) / jump.shape[1]
    lines.append(charts.Line(name, role, "solid", at, np.median(jump, 0), jump.min(0), jump.max(0)))
  model = charts.lines(lines, "distance, % of the norm of the parameters", "jump of the gradient")
  tops = "; ".join(f"{line.name} {line.high.max():.3f}" for line in lines)
  caption = (
    f"How much the gradient changes from point to point along its own direction on {place}: median"
    " and range of four runs."
  )
  return model, f"Largest jump: {tops}.", caption
