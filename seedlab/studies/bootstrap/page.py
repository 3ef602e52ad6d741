"""The tables and figures of the Deep Bootstrap study."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import scipy.stats
import xarray

from seedlab import report
from seedlab.report import charts
from seedlab.stats import curves
from seedlab.stats.single import Interval
from seedlab.studies.bootstrap.claims import METRICS, SMALL
from seedlab.studies.bootstrap.measures import band_of, delay_of, mean_gap, t_interval
from seedlab.studies.bootstrap.pairs import Pair, at_stop
from seedlab.studies.bootstrap.sweeps import Place, name_of


def _points(interval: Interval) -> str:
  return report.interval_text(interval, "+.2f", 100)


def gaps_table(place: Place, pairs: Mapping[tuple[str, int], Pair], metric: str) -> report.Table:
  head = (
    "setting", "N", "seeds", "t*", "reached, %", "largest |gap| to t*", "gap at t*",
    "gap at the end", "ideal world, end, %",
  )  # fmt: skip
  rows = []
  for (setting, size), one in pairs.items():
    largest = curves.largest_deviation(band_of(one.before(metric), 0.95))
    rows.append(
      (
        setting,
        f"{size:,}",
        str(len(one.runs)),
        median_stop(one),
        f"{100 * one.reached:.0f}",
        report.interval_text(largest, scale=100),
        _points(t_interval(*at_stop(one, metric), 0.95)),
        _points(mean_gap(one.gap(metric)[:, -1], 0.95)),
        f"{100 * one.ideal[metric][:, -1].mean():.2f}",
      )
    )
  note = (
    "Bootstrap errors, real less ideal, in points with 95 % intervals (simultaneous over the"
    " evaluations where it says largest). t*: the median of the runs that reach it, in steps; the"
    " gaps at t* take the last evaluation of a run that does not."
  )
  return report.Table(f"Bootstrap {metric}-error on {place.name}", head, rows, note)


def median_stop(one: Pair) -> str:
  """The median t* of the runs that reach it."""
  reached = one.converged[np.isfinite(one.converged)]
  return f"{np.median(reached):,.0f}" if len(reached) else "-"


def augmentation_table(last: Mapping[str, Pair], place: Place) -> report.Table:
  rows = []
  for network in place.networks:
    if f"{network},{place.augmented}" not in last:
      continue
    plain, augmented = last[network], last[f"{network},{place.augmented}"]
    ends = [one.ideal["hard"][:, -1] for one in (augmented, plain)]
    tests = [one.real["hard"][:, -1] for one in (augmented, plain)]
    later = "-"
    if plain.reached == 1:
      delay = delay_of(augmented, plain, 0.95)
      low, high = np.exp([delay.low, delay.high])
      least = "" if augmented.reached == 1 else "at least "
      later = f"{least}{math.exp(delay.estimate):.2f} ({low:.2f} to {high:.2f})"
    rows.append(
      (
        network,
        f"{100 * augmented.reached:.0f}",
        later,
        _points(t_interval(*ends, 0.95)),
        _points(t_interval(*tests, 0.95)),
      )
    )
  head = (
    "network", "reached t*, %", "t* with over t* without", "ideal hard error, change",
    "real hard error, change",
  )  # fmt: skip
  note = (
    f"Augmentation: {place.augmented}, N = {place.sizes[-1]:,}. A run that does not reach t* counts"
    " with the last step, and its limit above is no number; limits allow for the evaluations' grid."
    " Changes of the error at the end, in points."
  )
  return report.Table("Augmentation", head, rows, note)


def online_table(datasets: Mapping[str, xarray.Dataset], places: Sequence[Place]) -> report.Table:
  """Whether, where nothing is reused, errors on what is trained on next are test errors."""
  rows = []
  for place in places:
    for network in place.networks:
      dataset = datasets[name_of(place, network)]
      sound = (dataset["diverged"].values < 0) & dataset["completed"].values.astype(bool)
      if sound.sum() < 2:
        rows.append((f"{place.name}, {network}", "-", "-", "fewer than two runs did not diverge"))
        continue
      losses, errors = (
        (dataset[f"train_{name}"] - dataset[f"test_{name}"]).values[sound].mean(1)
        for name in ("loss", "accuracy")
      )
      error = 1 - float(dataset["test_accuracy"].values[sound].mean())
      spread = scipy.stats.norm.ppf(0.975) * math.sqrt(
        error * (1 - error) / len(dataset["label"]) + errors.var(ddof=1) / len(errors)
      )
      gap = mean_gap(losses, 0.95)
      rows.append(
        (
          f"{place.name}, {network}",
          report.interval_text(gap, "+.4f"),
          f"{-100 * errors.mean():+.2f} ± {100 * spread:.2f}",
          "yes" if abs(errors.mean()) <= spread else "NO",
        )
      )
  head = ("ideal world of", "online less test loss", "online less test error, points", "equal")
  note = (
    "Check: in an ideal world the loss on examples about to be trained on is a test loss, whatever"
    " the step. Means over all evaluations; the interval of the loss speaks of these test examples,"
    " that of the error of new ones too, which makes it the one to judge by."
  )
  return report.Table("Online loss is test loss", head, rows, note)


def curves_figure(place: Place, pairs: Mapping[tuple[str, int], Pair]):
  lines = []
  size = place.sizes[-1]
  for role, network in enumerate(place.networks):
    one = pairs[network, size]
    for label, values, dash in (
      (f"{network}, real", one.real["soft"], "solid"),
      (f"{network}, ideal", one.ideal["soft"], "dashed"),
      (f"{network}, train", one.train, "dotted"),
    ):
      band = band_of(values, 0.95)
      lines.append(charts.Line(label, role, dash, one.steps, band.mean, band.low, band.high))
  label = f"error on {place.name}"
  model = charts.lines(lines, "training step", label)
  ends = "; ".join(f"{line.name} {line.middle[-1]:.3f}" for line in lines)
  caption = (
    f"Soft test error in the real world (N = {size:,}, solid) and in the ideal one (dashed), and"
    " the real world's hard train error (dotted), with simultaneous 95 % bands over seeds."
  )
  return model, f"{label} at the end of training: {ends}.", caption


def gaps_figure(place: Place, pairs: Mapping[tuple[str, int], Pair]):
  lines = []
  size = place.sizes[-1]
  for role, network in enumerate(place.networks):
    one = pairs[network, size]
    for metric, dash in zip(METRICS, ("solid", "dashed"), strict=True):
      band = band_of(one.gap(metric), 0.95)
      label = f"{network}, {metric}"
      lines.append(charts.Line(label, role, dash, one.steps, band.mean, band.low, band.high))
  model = charts.lines(lines, "training step", "bootstrap error", guides=(-SMALL, SMALL))
  ends = "; ".join(f"{line.name} {line.middle[-1]:+.3f}" for line in lines)
  stops = ", ".join(f"{n} {median_stop(pairs[n, size])}" for n in place.networks)
  caption = (
    f"Bootstrap error on {place.name}, N = {size:,}: real less ideal test error, soft (solid) and"
    f" hard (dashed), with simultaneous 95 % bands; B1 asks that it stay within ±{SMALL:g} until"
    f" t* (median: {stops})."
  )
  return model, f"Bootstrap error on {place.name} at the end of training: {ends}.", caption


def scatter_figure(place: Place, pairs: Mapping[tuple[str, int], Pair]):
  last = place.sizes[-1]
  names = [setting if size == last else f"{setting}, N = {size:,}" for setting, size in pairs]
  both = [[values.mean() for values in at_stop(one, "soft")] for one in pairs.values()]
  real, ideal = ([values[world] for values in both] for world in (0, 1))
  model = charts.against(names, ideal, real, "ideal world", "real world")
  alt = "; ".join(f"{name} {x:.3f}, {y:.3f}" for name, x, y in zip(names, ideal, real, strict=True))
  caption = (
    f"Soft test error at t* (or the end) of every setting on {place.name}, N = {last:,} where it"
    " says nothing else: on the line both worlds agree."
  )
  return model, f"Ideal and real soft-error: {alt}.", caption
