"""Tables of which source of randomness is to blame."""

import numpy as np

from seedlab import report
from seedlab.stats import comparison, crossed, crossed_pairs, pairs, single
from seedlab.studies.seeds import settings
from seedlab.studies.seeds.measures import (
  churn_rows,
  crossed_design,
  disagreements,
  distribution_wise,
  narrowing,
  poked,
  sd_of,
  spread,
  tuned_networks,
)
from seedlab.studies.seeds.sweeps import poke_words, twin_steps
from seedlab.studies.seeds.words import PLACE_NAMES, own_sd, points


def alone_table(datasets) -> report.Table:
  whole = spread(datasets["digits/all"])
  rows = []
  for word in (*settings.FACTORS, "all"):
    one = spread(datasets[f"digits/{word}"])
    ratio = comparison.sd_ratio(
      comparison.align(one.last, one.runs, whole.last, whole.runs, paired=False)
    )
    rows.append(
      (
        "all streams" if word == "all" else word,
        f"{len(one.last):,}",
        f"{100 * one.last.mean():.2f}",
        points(single.sd_interval(one.last)),
        own_sd(distribution_wise(one)),
        "1" if word == "all" else points(ratio, 1),
      )
    )
  head = ("what varies", "seeds", "mean", "sd", "distribution-wise sd", "sd over that of all")
  note = (
    "On digits, the other streams held at seed 0. What a stream does can depend on where the others"
    " stand: the crossed design below averages over that, and its total effects compare with the"
    " squares of the last column. 95 % intervals."
  )
  return report.Table("One stream at a time", head, rows, note)


def sources_table(datasets) -> report.Table:
  values, first, second = crossed_design(datasets["digits/crossed"])
  raw = crossed.effects(values, settings.FACTORS)
  whole = sum(one.estimate for one in crossed.components(values, settings.FACTORS).values())
  own = crossed.effects(first, settings.FACTORS, second)
  rows = [
    (
      stream,
      points(raw[stream].first, 1),
      points(raw[stream].total, 1),
      points(own[stream].first, 1),
      points(own[stream].total, 1),
      f"{100 * sd_of(whole * raw[stream].total.estimate):.2f}",
    )
    for stream in settings.FACTORS
  ]
  head = (
    "source", "first-order", "total", "first-order, new examples", "total, new examples",
    "sd if it alone varies",
  )  # fmt: skip
  note = (
    "Initialisation x order x augmentation on digits, every combination of levels. Shares of the"
    " variance with 95 % intervals over new levels: first-order, what a source does whatever the"
    " others are; total, what it shows when it varies and the others are fixed, interactions"
    " included, on average over where they are fixed (Sobol effects)."
  )
  return report.Table("Which source is to blame", head, rows, note)


def components_table(datasets) -> report.Table:
  values, first, second = crossed_design(datasets["digits/crossed"])
  raw = crossed.components(values, settings.FACTORS)
  own = crossed.components(first, settings.FACTORS, second)
  total = sum(one.estimate for one in raw.values())
  rows = [
    (
      " x ".join(names),
      points(raw[names], 1e4),
      points(own[names], 1e4),
      f"{100 * raw[names].estimate / total:.0f} %" if total else "-",
    )
    for names in raw
  ]
  head = ("component", "variance, squared points", "on new examples", "share")
  note = (
    "The same runs: what each source adds by itself and what only their combinations do; the last"
    " row contains whatever nothing else explains. Estimates are unbiased and can be negative."
  )
  return report.Table("Variance components", head, rows, note)


def poke_table(datasets, scale: str, place: str) -> report.Table:
  rows = []
  for words in poke_words(scale, place):
    step, _, factor = words.removeprefix("poke").partition(",")
    name = f"{place}/{words}"
    churn = crossed_pairs.crossed_mean(disagreements(datasets[name]), (1,), True)
    what = "times 1.001" if factor else "one ulp"
    rows.append(
      (f"{what} before step {step}", points(churn), points(poked(datasets, name, 0.95), 1))
    )
  whole = pairs.pair_mean(churn_rows(datasets[f"{place}/all"]))
  rows.append(("other seeds", points(whole), "1"))
  head = ("what differs between two runs", "disagreement, %", "over that of other seeds")
  note = (
    "Disagreement: test examples labelled differently. A poke moves one weight of the network,"
    " drawn by its stream: to the next float32, or by a thousandth of itself; everything else is"
    " shared. Other seeds: runs of which every stream differs. 95 % intervals over new pokes and"
    " initialisations; none where no two runs differ."
  )
  return report.Table(f"The poke, {PLACE_NAMES[place]}", head, rows, note)


def twins_table(datasets, scale: str) -> report.Table:
  rows, gone = [], 0
  for step in twin_steps(scale):
    dataset = datasets[f"digits/twins{step}"]
    sound = dataset["diverged"].values < 0
    gone += int((~sound).sum())
    cells = []
    for name, unit in (("barrier", 100), ("disagreement", 100), ("relative_distance", 1)):
      last_R = dataset[name].transpose("run", "evaluation").values[sound, -1]
      cells.append(points(single.mean_interval(last_R), unit) if len(last_R) else "-")
    rows.append((f"{step}", *cells))
  head = (
    "part at step",
    "barrier, points",
    "disagreement, %",
    "distance between them over that from the start",
  )
  note = (
    "Two trainings that share everything before a step and from it on have another order and"
    " augmentation; from step 0 on they share the initialisation alone. Barrier: highest test"
    " error on the straight line between them, less the mean of both ends (Frankle et al. 2020,"
    " arXiv 1912.05671, call below 2 points stable)."
    + f" {gone} pairs of which one diverged are left out."
    * bool(gone)
  )
  return report.Table("Pairs: is there a hill between two seeds?", head, rows, note)


def pretraining_table(datasets) -> report.Table:
  rows = []
  for kind, words in (
    ("pretrained", "pretrained on glyphs"),
    ("scratch", "from scratch, backbone's initialisation fixed"),
  ):
    found = tuned_networks(datasets, kind)
    rows.append(
      (
        words,
        f"{len(found)} x {len(found[0].last)}",
        f"{100 * np.mean([one.last.mean() for one in found]):.2f}",
        f"{100 * sd_of(np.mean([one.last.var(ddof=1) for one in found])):.2f}",
        f"{100 * sd_of(np.mean([distribution_wise(one).estimate for one in found])):.2f}",
        f"{100 * np.mean([np.ptp(one.last) for one in found]):.2f}",
      )
    )
  rows.append(("ratio", "", "", "", points(narrowing(datasets, 0.95), 1), ""))
  head = (
    "network tuned to few images", "seeds", "mean", "sd", "distribution-wise sd", "best -"
    " worst",
  )  # fmt: skip
  examples = datasets["tuned/scratch0"].attrs["config"]["data"]["train_examples"]
  note = (
    f"{examples:,} images of CIFAR-10. Varied: the last layer's initialisation, order and"
    " augmentation, with one backbone at a time; variances are means over the backbones. The"
    " control has the same fixed backbone without pretraining, so that what narrows is the"
    " pretraining and not the fixed initialisation."
  )
  return report.Table("Pretraining, on CIFAR-10", head, rows, note)
