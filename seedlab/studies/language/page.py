"""The tables and figures of the study of language, with published numbers beside ours."""

import math
from collections.abc import Mapping

import numpy as np
import xarray

from seedlab import findings, report
from seedlab.data import text as texts
from seedlab.report import charts
from seedlab.stats import crossed_pairs, pairs, single
from seedlab.stats.single import Interval
from seedlab.studies.language import measures, settings

_SHOWN = 4  # prompts
# (what, runs, mean, sd, sd in % of the mean, how we know it)
PUBLISHED = (
  ("GPT-2 124M, 3.28 of FineWeb (modded-nanogpt)", 1261, "3.27939", "0.00185", "0.056", "R"),
  ("the same, median of 45 record sets", 8, "about 3.28", "0.00134", "0.041", "R"),
  ("nanoGPT's character model on Shakespeare", 1, "1.4697", "-", "-", "R"),
)


def spread_table(found: Mapping[str, xarray.Dataset]) -> report.Table:
  rows = []
  main = found["text/main"]
  shown = {
    "test_loss": "test loss",
    "tempered_loss": "test loss at temperature 0.8",
    "book_loss": "loss on the held-out book",
  }
  for name, words in shown.items():
    values = measures.losses(main, name)
    rows.append((f"ours: {words}", str(len(values)), f"{values.mean():.4f}", *_spread(values)))
  if "text/pythia" in found:
    values = measures.losses(found["text/pythia"])
    rows.append(
      (
        "ours: in PolyPythias-14M's shape",
        str(len(values)),
        f"{values.mean():.4f}",
        *_spread(values),
      )
    )
  rows += [
    (f"{what} [{mark}]", str(n), mean, sd, share) for what, n, mean, sd, share, mark in PUBLISHED
  ]
  head = ("what", "runs", "mean, nats", "sd (95 % interval)", "sd, % of the mean")
  note = (
    "[R] read at its source or in its data, [S] in a summary alone. Published losses are of other"
    " tokens and texts: only the last column can be compared. PolyPythias [S]: two of its ten"
    " largest models are outliers."
  )
  return report.Table("The spread of the loss between seeds", head, rows, note)


def _spread(values_R: np.ndarray) -> tuple[str, str]:
  sd, share = single.sd_interval(values_R), measures.relative_spread(values_R, 0.95)
  return report.interval_text(sd, ".4f"), report.interval_text(share, ".3f", 100)


def sources_table(crossed: xarray.Dataset) -> report.Table:
  loss = measures.losses(crossed)
  total = measures.totals(crossed, loss, 0.95)
  tables = measures.tables(crossed)
  alone = [
    crossed_pairs.crossed_mean(table, varied, True)
    for table, varied in ((tables.first, (0,)), (tables.second, (1,)))
  ]
  share = measures.share_of_both(tables, 0.95)
  rows = [
    (
      source,
      report.interval_text(total[n]),
      report.interval_text(alone[n], ".4f"),
      report.interval_text(share[n]),
    )
    for n, source in enumerate(("initialisation", "order of the examples"))
  ]
  both = crossed_pairs.crossed_mean(tables.both, (0, 1))
  rows.append(("both", "1", report.interval_text(both, ".4f"), "1"))
  shape = measures.of_design(crossed, loss).shape
  head = ("what differs", "total share of the loss's variance", "PD", "PD over that of both")
  note = (
    f"{shape[0]} initialisations, each in {shape[1]} orders, 95 % intervals. Total shares contain"
    " what belongs to both sources together, so they may add up to more than 1."
  )
  return report.Table("Initialisation or order", head, rows, note)


def activations_table(found: Mapping[str, xarray.Dataset]) -> report.Table:
  rows = []
  runs = measures.by_activation(found)
  p = {name: measures.chances(one) for name, one in runs.items()}
  distances = {name: pairs.l1_rows(one) for name, one in p.items()}
  relu = measures.losses(runs["relu"])
  for name, one in runs.items():
    loss = measures.losses(one)
    ratio = pairs.pair_ratio(distances[name], distances["relu"], True)
    change = measures.mean_difference(loss, relu, 0.95)
    rows.append(
      (
        name,
        f"{loss.mean():.4f}",
        f"{loss.std(ddof=1):.4f}",
        "-" if name == "relu" else report.interval_text(change, "+.4f"),
        f"{pairs.pair_mean(distances[name]).estimate:.4f}",
        "1" if name == "relu" else report.interval_text(ratio),
      )
    )
  head = ("activation", "test loss", "sd", "less ReLU's", "PD of two seeds", "over ReLU's")
  note = f"The same {len(relu)} seeds with each, 95 % intervals, paired by seeds."
  return report.Table("Activations", head, rows, note)


def ulp_table(found: Mapping[str, xarray.Dataset]) -> report.Table:
  """PD of runs that differ by one ulp alone, beside that of other seeds."""
  rows = []
  for name, poked, seeds in (
    ("gelu", "text/poke", "text/course"),
    ("relu", "text/poke_relu", "text/relu"),
  ):
    if poked not in found:
      continue
    a, b = (pairs.l1_rows(measures.chances(found[one])) for one in (poked, seeds))
    rows.append(
      (
        name,
        f"{pairs.pair_mean(a).estimate:.2g}",
        f"{pairs.pair_mean(b).estimate:.4f}",
        report.interval_text(pairs.pair_ratio(a, b, False), ".2g"),
      )
    )
  head = ("activation", "PD, one ulp apart", "PD, other seeds", "ratio")
  note = (
    "One parameter is moved to the next float before the first step, and everything else is the"
    " same. At the end of training, 95 % intervals."
  )
  return report.Table("One ulp", head, rows, note)


def finetuned_table(tuned: xarray.Dataset) -> report.Table:
  rows = []
  for name, words, scale in (("test_loss", "test loss", 1), ("test_accuracy", "accuracy, %", 100)):
    values = measures.losses(tuned, name)
    init, order = measures.totals(tuned, values, 0.95)
    best = values.min() if scale == 1 else values.max()
    rows.append(
      (
        words,
        f"{scale * values.mean():.4f}" if scale == 1 else f"{scale * values.mean():.2f}",
        f"{scale * values.std(ddof=1):.4f}" if scale == 1 else f"{scale * values.std(ddof=1):.2f}",
        f"{scale * best:.4f}" if scale == 1 else f"{scale * best:.2f}",
        report.interval_text(init),
        report.interval_text(order),
      )
    )
  head = (
    "outcome",
    "mean",
    "sd",
    "best of all",
    "total share, new layer's initialisation",
    "order",
  )
  note = (
    "One pretrained network, a new last layer: every initialisation of that layer in every order."
    " Dodge et al. [S]: 2,100 fine-tunings of BERT; both contribute comparably, and the best of"
    " many seeds is far above the mean."
  )
  return report.Table("Fine-tuning one pretrained network", head, rows, note)


def texts_table(main: xarray.Dataset, of_text: bool) -> report.Table:
  words = {
    "known_words": "share of the words that the training text has",
    "novelty": "share of runs of six characters that it does not have",
    "allowed": "share of the tokens that the grammar allows",
    "distinct": "different runs over all runs",
  }
  rows = []
  for name, said in words.items():
    if name not in main:
      continue
    values = measures.draws(main, name)
    share = measures.share_within(values, 0.95)
    rows.append(
      (
        said,
        f"{values.mean():.4f}",
        f"{values.mean(1).std(ddof=1):.4f}",
        f"{math.sqrt(values.var(axis=1, ddof=1).mean()):.4f}",
        report.interval_text(share),
      )
    )
  count, length = main["samples"].sizes["sample"], main["samples"].sizes["position"]
  head = (
    "of the sampled texts", "mean", "sd of runs' means", "sd between draws of a run",
    "share of the variance of one draw that decoding makes",
  )  # fmt: skip
  note = (
    f"A draw is {count} texts of {length} tokens, the prompt included, at temperature 0.8; with"
    " more texts in a draw its own share gets smaller. 95 % intervals."
  )
  return report.Table("Decoding seeds and training seeds", head, rows, note)


def samples_table(main: xarray.Dataset) -> report.Table:
  """What the two runs whose predictions differ most write after the same prompts."""
  p = measures.chances(main)
  apart = np.array([np.abs(p - one).sum(-1).mean(-1) for one in p])
  a, b = np.unravel_index(apart.argmax(), apart.shape)
  code_points = main["code_point"].transpose("run", "token").values[0]
  kept = main["samples"].transpose("run", "draw", "sample", "position").values
  runs = main["run"].values[[a, b]]
  rows = []
  for sample in range(min(_SHOWN, kept.shape[2])):
    cells = (_words(kept[run, 0, sample], code_points) for run in (a, b))
    rows.append((str(sample), *cells))
  head = ("prompt", f"run {runs[0]}", f"run {runs[1]}")
  note = (
    f"Of all pairs of runs these two differ most (PD {apart[a, b]:.3f}, mean of all"
    f" {pairs.pair_mean(pairs.l1_rows(p)).estimate:.3f}). Each text begins with the same prompt; a"
    " line break is shown as a bar."
  )
  return report.Table("The same prompts under the two seeds that differ most", head, rows, note)


def _words(tokens, code_points) -> str:
  """Tokens as text in one line, in quotes that keep its first space."""
  words = tuple(chr(code) if code else "" for code in code_points.tolist())
  return f'"{texts.shown(tokens, words)}"'.replace("\n", " | ")


def worlds_table(found: Mapping[str, xarray.Dataset], scale: str) -> report.Table:
  ideal, real = found["babble/ideal"], found["babble/real"]
  excess = [measures.losses_T(one, "excess_loss") for one in (ideal, real)]
  rows = []
  for at, step in enumerate(real["evaluation"].values):
    gap = measures.mean_difference(excess[1][:, at], excess[0][:, at], 0.95)
    rows.append(
      (
        f"{step:,}",
        f"{settings.repeats(scale, step):.3g}",
        f"{excess[0][:, at].mean():.4f}",
        f"{excess[1][:, at].mean():.4f}",
        report.interval_text(gap, "+.4f"),
      )
    )
  head = ("step", "times that each window was seen", "ideal world", "real world", "gap")
  note = (
    "Nats per token above the true model on the same test windows. In the ideal world no window is"
    " seen twice, so its test loss is also the loss on what it is trained on next. 95 % intervals,"
    " paired by seeds."
  )
  return report.Table("Excess loss on `babble`", head, rows, note)


def spread_figure(main: xarray.Dataset):
  examined = findings.examine(main, "test_loss", "the text")
  s = examined.columns[0].summary
  return (
    charts.distribution(examined, charts.runs(examined, {}), "test loss, nats"),
    f"Mean {s.mean:.4f}, sd {s.sd:.4f}.",
    "Histogram of the test loss with density, below it every seed.",
  )


def divergence_figure(found: Mapping[str, xarray.Dataset]):
  lines, ends = [], []
  course, poke = found["text/course"], found["text/poke"]
  chosen = measures.frequent(course)
  everything = np.ones_like(chosen)
  shown = (
    ("all contexts", course, everything),
    ("frequent", course, chosen),
    ("rare", course, ~chosen),
    ("one ulp", poke, everything),
  )
  for role, (name, one, contexts) in enumerate(shown):
    intervals = []
    for at in range(one.sizes["evaluation"]):
      rows = measures.divergence_rows(measures.chances(one, at)[:, contexts])
      intervals.append(_positive(pairs.pair_mean(rows)))
    steps = one["evaluation"].values
    lines.append(charts.line(name, role, "solid" if role != 3 else "dashed", steps, intervals))
    middle = lines[-1].middle
    ends.append(
      f"{name}: {middle[0]:.4f} first, {middle.max():.4f} at most, {middle[-1]:.4f} at the end"
    )
  model = charts.lines(lines, "training step", "divergence of two runs, nats", x_axis="linear")
  caption = (
    "How far the next-token chances of two runs are from each other in the same frozen contexts,"
    " over training, with 95 % intervals: in all of them, in those with a frequent next token and"
    " in the others; and of runs that differ by one ulp of one parameter before the first step."
  )
  return model, "; ".join(ends) + ".", caption


def _positive(interval: Interval) -> Interval:
  """Limits where there are none: the estimate itself."""
  if math.isnan(interval.low):
    e = interval.estimate
    return Interval(e, e, e, interval.level, interval.method)
  return interval


def worlds_figure(found: Mapping[str, xarray.Dataset], scale: str):
  lines = []
  for role, name in enumerate(("ideal", "real")):
    one = found[f"babble/{name}"]
    excess = measures.losses_T(one, "excess_loss")
    intervals = [single.mean_interval(column) for column in excess.T]
    lines.append(charts.line(f"{name} world", role, "solid", one["evaluation"].values, intervals))
  model = charts.lines(lines, "training step", "nats above the true model", x_axis="linear")
  ends = "; ".join(f"{line.name} {line.middle[-1]:.4f}" for line in lines)
  caption = (
    "Excess loss on `babble` where no window is seen twice, and where the same"
    f" windows come again ({settings.repeats(scale, 1) ** -1:.0f} steps go once through them)."
  )
  return model, f"At the end: {ends}.", caption
