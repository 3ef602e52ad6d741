"""The tables and figures of the diffusion study, with published numbers beside ours."""

from collections.abc import Mapping

import numpy as np
import xarray

from seedlab import report
from seedlab.report import charts
from seedlab.stats import pairs, single
from seedlab.stats.single import Interval
from seedlab.studies.diffusion import measures, settings
from seedlab.studies.diffusion.sweeps import counts

_SHOWN_RUNS = 20
_SHOWN_NOISES = 10
_WORDS = {
  "main": "main: SiLU", "guided": f"guidance {settings.GUIDANCE:g}", "relu": "ReLU",
  "smelu": "SmeLU", "time": "trained longer", "crossed": "crossed seeds",
}  # fmt: skip
_MARKS = (
  "[R] read at its source, [S] read only in a summary or an excerpt. Theirs are FIDs of Inception"
  " features on large images, ours distances in the features of a small classifier: shares and"
  " ratios can be set side by side, the distances themselves cannot."
)


def settings_table(generated: Mapping[str, xarray.Dataset]) -> report.Table:
  rows = []
  for name, one in generated.items():
    values = measures.draws(one)
    several = values.shape[1] > 1
    within, between = measures.spreads(values) if several else (None, None)
    pixels, precision, recall = (
      measures.draws(one, metric=metric).mean()
      for metric in ("frechet_pixels", "precision", "recall")
    )
    loss = one["test_loss"].transpose("run", "evaluation").values[:, -1].mean()
    rows.append(
      (
        _WORDS.get(name, name),
        f"{values.shape[0]} x {values.shape[1]}",
        f"{values.mean():.3f}",
        report.interval_text(between, ".3f") if between else f"{values.std(ddof=1):.3f} *",
        report.interval_text(within, ".3f") if within else "-",
        f"{100 * between.estimate / values.mean():.1f}" if between else "-",
        f"{pixels:.3f}",
        f"{100 * precision:.0f}",
        f"{100 * recall:.0f}",
        f"{loss:.4f}",
      )
    )
  head = (
    "setting", "trainings x draws", "Frechet distance", "sd between trainings", "sd between draws",
    "between, % of it", "distance in pixels", "precision, %", "recall, %", "test loss",
  )  # fmt: skip
  note = (
    "At the end, 95 % intervals. Between trainings: without the draws' share. * with it. In the"
    " crossed design runs share seeds, so that its spread is not that of independent trainings."
  )
  return report.Table("Settings", head, rows, note)


def published_table(main: np.ndarray, value: Mapping[str, np.ndarray]) -> report.Table:
  ratio, cv = measures.retraining_ratio(main), measures.variation(main)
  flattered = measures.flattery(main)
  count = min(len(value["guided"]), len(main))
  guided = measures.spread_ratio(value["guided"].mean(1)[:count], main.mean(1)[:count])
  within, between = measures.spreads(main)
  chance = 1.96 * 2**0.5 * np.hypot(within.estimate, between.estimate) / main.mean()
  rows = [
    ("retraining over resampling, sd", report.interval_text(ratio), "3.2 [S]", "FID Lottery"),
    (
      "coefficient of variation between trainings, %",
      report.interval_text(cv, ".1f", 100),
      "1 to 2 at any size and compute [S]",
      "FID Lottery",
    ),
    (
      "what two trainings with one draw each differ by one time in twenty, % and more",
      f"{100 * chance:.1f}",
      "differences below 1.3 settle nothing [S]",
      "FID Lottery",
    ),
    (
      "spread with guidance over without",
      report.interval_text(guided),
      "about a half [S]",
      "FID Lottery",
    ),
    (
      "best of three draws below the mean, %",
      report.interval_text(flattered, ".1f", 100),
      "1.97 quoted as the best of three; 2.04 and 2.08 retrained [S]",
      "EDM on CIFAR-10",
    ),
  ]
  head = ("", "here", "published", "by")
  return report.Table("Beside published numbers", head, rows, _MARKS)


def time_table(
  step_T: np.ndarray, over_time: np.ndarray, time: xarray.Dataset, classes: int
) -> report.Table:
  rows = []
  for t, step in enumerate(step_T):
    values = over_time[:, t]
    _, between = measures.spreads(values)
    same = measures.sameness(measures.images(time, t), classes)
    rows.append(
      (
        f"{step:g}",
        f"{values.mean():.3f}",
        report.interval_text(between, ".3f"),
        report.interval_text(measures.variation(values), ".1f", 100),
        report.interval_text(same),
      )
    )
  head = (
    "steps", "Frechet distance", "sd between trainings", "coefficient of variation, %",
    "one noise, two trainings",
  )  # fmt: skip
  note = (
    "The last column: distance of two trainings' images from one noise, over that of one training's"
    " images of one class from two noises."
  )
  return report.Table("Over training", head, rows, note)


def sources_table(crossed: xarray.Dataset) -> report.Table:
  apart = measures.apart_by(crossed, settings.FACTORS)
  whole = apart.get(settings.FACTORS, float("nan"))
  effect = measures.effects(crossed, settings.FACTORS)
  rows = []
  for differ, distance in sorted(apart.items(), key=lambda item: (len(item[0]), item[0])):
    alone = effect[differ[0]] if len(differ) == 1 else None
    rows.append(
      (
        " and ".join(differ),
        report.interval_text(alone.first) if alone else "",
        report.interval_text(alone.total) if alone else "",
        f"{distance:.3f}",
        f"{distance / whole:.2f}",
      )
    )
  head = (
    "what differs", "share of the distance's variance, alone", "with its interactions",
    "images from one noise apart by", "over all three",
  )  # fmt: skip
  note = (
    "Shares are first-order and total effects over new seeds, with 95 % intervals from leaving out"
    " levels, which are rough with so few of them. Images: mean sum of absolute differences of"
    " pixels from 0 to 1."
  )
  return report.Table("Initialisation, order, noise", head, rows, note)


def images_table(
  generated: Mapping[str, xarray.Dataset], seen: Mapping[str, np.ndarray], classes: int
) -> report.Table:
  rows = []
  for name in ("main", "relu", "smelu", "guided"):
    if name not in generated:
      continue
    same = report.interval_text(measures.sameness(seen[name], classes), ".3f")
    over = "1"
    if name != "relu":
      over = report.interval_text(image_ratio(generated, seen, name, "relu"), ".3f")
    rows.append((_WORDS[name], same, over))
  head = ("setting", "one noise, two trainings", "distance over ReLU's")
  note = (
    "The first number is 0 where the training seed does not matter to an image, and 1 where its"
    " noise does not. The second compares the same trainings' seeds."
  )
  return report.Table("The same noise under two training seeds", head, rows, note)


def shared_runs(
  generated: Mapping[str, xarray.Dataset], a: str, b: str
) -> tuple[np.ndarray, np.ndarray]:
  """Where in two sweeps the runs are that both have, which then have the same seeds."""
  runs = [generated[name]["run"].values for name in (a, b)]
  _, at_a, at_b = np.intersect1d(*runs, return_indices=True)
  return at_a, at_b


def image_ratio(
  generated: Mapping[str, xarray.Dataset],
  seen: Mapping[str, np.ndarray],
  a: str,
  b: str,
  level: float = 0.95,
) -> Interval:
  """Mean distance between trainings of images from one noise, a's over b's, of shared seeds."""
  at_a, at_b = shared_runs(generated, a, b)
  rows = [pairs.l1_rows(seen[name][at]) for name, at in ((a, at_a), (b, at_b))]
  return pairs.pair_ratio(*rows, paired=True, level=level)


def bias_table(generated: Mapping[str, xarray.Dataset], scale: str) -> report.Table:
  """The same trainings, compared by fewer samples."""
  names = [f"samples{count}" for count in counts(scale)]
  rows = []
  if names:
    runs = generated[names[0]]["run"].values
    usual = settings.arguments(scale)["samples"]
    for name, count in [*zip(names, counts(scale), strict=True), ("main", usual)]:
      one = generated[name]
      values = measures.draws(one)[np.isin(one["run"].values, runs)]
      within, _ = measures.spreads(values)
      mean = single.mean_interval(values.mean(1))
      rows.append(
        (f"{count:,}", report.interval_text(mean, ".3f"), report.interval_text(within, ".3f"))
      )
  head = ("samples", "Frechet distance", "sd between draws")
  note = "The same trainings each time. The bias falls as one over the number of samples."
  return report.Table("The bias of the distance", head, rows, note)


def spread_figure(main: np.ndarray):
  order = main.mean(1).argsort()
  chosen = order[np.linspace(0, len(order) - 1, min(_SHOWN_RUNS, len(order))).astype(int)]
  rows = [(main[r].mean(), main[r].min(), main[r].max(), main[r].min(), main[r].max())
          for r in chosen]  # fmt: skip
  model = charts.intervals([f"training {r}" for r in chosen], rows, "Frechet distance")
  alt = "; ".join(f"training {r}: {main[r].mean():.3f}" for r in chosen)
  caption = (
    "Trainings that differ in their seeds alone, from the luckiest to the unluckiest: the mean of"
    " their draws, and the range of these."
  )
  return model, f"Frechet distance: {alt}.", caption


def time_figure(step_T: np.ndarray, over_time: np.ndarray):
  means = over_time.mean(2)
  low, high = np.quantile(means, [0.1, 0.9], axis=0)
  middle = means.mean(0)
  drawn = [charts.Line("mean and middle 80 % of the trainings", 0, "solid", step_T, middle, low,
                       high)]  # fmt: skip
  model = charts.lines(drawn, "training step", "Frechet distance", x_axis="linear")
  alt = "; ".join(f"step {s:g}: {m:.3f}" for s, m in zip(step_T, middle, strict=True))
  return model, f"Mean distance: {alt}.", "The Frechet distance over training, and its spread."


def same_figure(step_T: np.ndarray, time: xarray.Dataset, classes: int):
  found = [measures.sameness(measures.images(time, t), classes) for t in range(len(step_T))]
  drawn = [charts.line("one noise, two trainings", 0, "solid", step_T, found)]
  model = charts.lines(drawn, "training step", "share of the distance of two noises",
                       x_axis="linear")  # fmt: skip
  alt = "; ".join(f"step {s:g}: {one.estimate:.3f}" for s, one in zip(step_T, found, strict=True))
  caption = (
    "How far two trainings' images from one noise are apart, over how far one training's images of"
    " one class from two noises are. Below 1 the noise decides more than the training seed."
  )
  return model, f"Share: {alt}.", caption


def sources_figure(crossed: xarray.Dataset):
  names, rows = [], []
  for stream, effect in measures.effects(crossed, settings.FACTORS).items():
    for kind, interval in (("alone", effect.first), ("with interactions", effect.total)):
      names.append(f"{stream}, {kind}")
      limits = (interval.low, interval.high)
      rows.append((interval.estimate, *limits, *limits))
  model = charts.intervals(names, rows, "share of the variance of the Frechet distance")
  text = "; ".join(f"{n} {row[0]:.2f}" for n, row in zip(names, rows, strict=True))
  return model, f"{text}.", "First-order and total effects of each source, 95 % intervals."


def images_figure(generated: Mapping[str, xarray.Dataset], seen: Mapping[str, np.ndarray]):
  main = seen["main"]
  a, b = measures.farthest(main)
  run = generated["main"]["run"].values
  names = [f"seed {run[a]}", f"seed {run[b]}"]
  rows = [main[a][:_SHOWN_NOISES], main[b][:_SHOWN_NOISES]]
  for name in ("relu", "guided"):
    at = np.flatnonzero(generated[name]["run"].values == run[a])
    if len(at):
      names.append(f"seed {run[a]}, {_WORDS[name]}")
      rows.append(seen[name][at[0]][:_SHOWN_NOISES])
  model = charts.images(names, np.stack(rows))
  alt = f"Two rows of images from the same noises, of training seeds {run[a]} and {run[b]}."
  caption = (
    "Images from the same noises, a noise a column, under the two training seeds that differ most."
  )
  return model, alt, caption
