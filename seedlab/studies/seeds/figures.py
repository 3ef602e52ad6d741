"""The figures of the seed study."""

import numpy as np

from seedlab import findings
from seedlab.report import charts
from seedlab.stats import crossed, crossed_pairs, pairs, single
from seedlab.studies.seeds import settings
from seedlab.studies.seeds.measures import churn_rows, crossed_design, disagreements, spread
from seedlab.studies.seeds.sweeps import poke_words
from seedlab.studies.seeds.words import PLACE_NAMES


def seeds_figures(datasets):
  """The runs as a histogram, and in order."""
  found = findings.examine(datasets["digits/all"], "test_accuracy", "digits")
  label = "test accuracy on digits, %"
  s = found.columns[0].summary
  return {
    "distribution": (
      charts.distribution(found, charts.runs(found, {}), label),
      f"Mean {s.mean:.2f}, sd {s.sd:.2f}.",
      "Histogram with density, below it every seed. Lower bar: sd; upper: distribution-wise sd.",
    ),
    "sorted": (
      charts.ranked(found, charts.runs(found, {}), label),
      f"From {s.min:.2f} to {s.max:.2f}.",
      "Sorted accuracies, with the middle 95 % of what a normal sample of that size would give.",
    ),
  }


def convergence_figure(datasets):
  found = findings.examine(datasets["digits/long"], "test_accuracy", "digits")
  model = charts.curves(found, "test accuracy, %")
  middle = 100 * np.median(spread(datasets["digits/long"]).accuracy, 0)
  text = ", ".join(f"{step}: {m:.2f}" for step, m in zip(found.steps, middle, strict=True))
  caption = (
    "The published schedule on digits: median and the middle 50 and 90 % of the runs, below it"
    " their sd."
  )
  return model, f"Median by step: {text}.", caption


def time_figure(datasets):
  lines, texts = [], []
  for role, (name, words) in enumerate({"all": "20 epochs", "long": "45 epochs"}.items()):
    one = spread(datasets[f"digits/{name}"])
    level = 1 - 0.05 / len(one.steps)  # Bonferroni
    found = [single.sd_interval(one.accuracy[:, t], level) for t in range(len(one.steps))]
    lines.append(charts.line(words, role, ("solid", "dashed")[role], one.steps, found, 100))
    middle = lines[-1].middle
    values = ", ".join(f"{step}: {sd:.2f}" for step, sd in zip(one.steps, middle, strict=True))
    texts.append(f"{words}, sd by step: {values}")
  model = charts.lines(lines, "training step", "sd of accuracy, points", x_axis="linear")
  caption = (
    "The spread over training on digits: the rate falls to zero within 20 epochs, or after the"
    " published schedule is constant from epoch 22 of 45 on. The limits hold at all steps of a line"
    " together (95 %)."
  )
  return model, f"{'; '.join(texts)}.", caption


def sources_figure(datasets):
  values, *_ = crossed_design(datasets["digits/crossed"])
  found = crossed.effects(values, settings.FACTORS)
  names, rows = [], []
  for stream, effect in found.items():
    for kind, interval in (("first-order", effect.first), ("total", effect.total)):
      names.append(f"{stream}, {kind}")
      limits = (interval.low, interval.high)
      rows.append((interval.estimate, *limits, *limits))
  model = charts.intervals(names, rows, "share of the variance")
  text = "; ".join(f"{n} {row[0]:.2f}" for n, row in zip(names, rows, strict=True))
  return model, f"{text}.", "First-order and total effects of each source, digits, 95 % intervals."


def poke_figure(datasets, scale: str, place: str):
  steps = [int(words[4:]) for words in poke_words(scale, place) if words[4:].isdigit()]
  found = [
    crossed_pairs.crossed_mean(disagreements(datasets[f"{place}/poke{step}"]), (1,), True)
    for step in steps
  ]
  whole = pairs.pair_mean(churn_rows(datasets[f"{place}/all"]))
  lines = [
    charts.line("one ulp of one weight", 0, "solid", steps, found, 100),
    charts.line("other seeds", 1, "dashed", steps, [whole] * len(steps), 100),
  ]
  model = charts.lines(lines, "poked before step", "disagreement, %", x_axis="linear")
  text = "; ".join(f"{s}: {c:.2f}" for s, c in zip(steps, lines[0].middle, strict=True))
  caption = (
    f"Test examples of {PLACE_NAMES[place]} that two runs label differently, by the step from"
    " which on they differ."
  )
  return model, f"{text}; other seeds {100 * whole.estimate:.2f}.", caption
