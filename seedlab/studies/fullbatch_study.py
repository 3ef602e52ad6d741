"""The study "Stochastic training is not necessary for generalization" (Geiping et al. 2022).

Do networks generalise without the noise of minibatches? Rows of `studies.fullbatch`,
each from many seeds, on several data sets; claims F1 to F7. Numbers reported by the
paper stand beside ours with their source: not one of them comes with a number of
repetitions that is confirmed, so none is judged.

Settings of scale `laptop` were chosen on runs 1,000,000 and up (docs/fullbatch.md has
the grid); verdicts use runs 0, 1, 2, ...
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import xarray

from seedlab import data, findings, report
from seedlab.claims import Claim, Part
from seedlab.config import Config, Data, changed, parse
from seedlab.errors import UserError
from seedlab.report import charts
from seedlab.stats import comparison, single
from seedlab.stats.single import Interval
from seedlab.studies import bootstrap, fullbatch
from seedlab.studies.study import Analysis, Study, Sweep

_ROWS = (
  "sgd", "sgd_replacement", "sgd_tuned", "full_batch", "longer", "noise_additive",
  "noise_multiplicative", "clipped", "regularized", "strong", "in_practice",
)  # fmt: skip
_FIXED = (  # data without fresh augmentation
  "sgd,no_augmentation", "sgd_tuned,no_augmentation", "regularized,no_augmentation",
  "sgd_tuned,copies", "regularized,copies",
)  # fmt: skip
_CARRIED = ("sgd", "sgd_tuned", "full_batch", "longer", "clipped", "regularized")
_NETWORKS = ("resnet50", "resnet152", "densenet121", "vgg16")  # at scale paper
_STILL = ("full_batch", "longer", "clipped", "regularized")  # claim to be without randomness
_RATES = (0.5, 2.0)  # times the row's peak, for the sensitivity
_BEST_NOISE = "noise_multiplicative"  # of the two noise rows, on the tuning runs
_LOSS_SLACK = 0.01  # nats of train loss that count as "not above"
_MARGIN = {"smoke": 1.0, "laptop": 1.0, "paper": 0.5}  # points, of F3, F4 and F7


class Reported(NamedTuple):
  """A number of the paper, test accuracy in %, and how sure it is."""

  text: str
  status: str


_CONFIRMED = "two published summaries (first version)"
_UNCONFIRMED = "unconfirmed: from secondary sources of the final version"
REPORTED = {
  "sgd": Reported("95.70 ± 0.05", _CONFIRMED),
  "sgd_replacement": Reported("the same as sgd", _CONFIRMED),
  "full_batch": Reported("75.42 ± 0.13", _CONFIRMED),
  "longer": Reported("87.36 ± 1.23", _CONFIRMED),
  "clipped": Reported("93.75 ± 0.13", _CONFIRMED + "; 93.85 ± 0.10 in the final one"),
  "regularized": Reported("95.36 ± 0.07", _UNCONFIRMED),
  "strong": Reported("95.67 ± 0.08", _UNCONFIRMED),
  "in_practice": Reported("95.91 ± 0.14", _UNCONFIRMED),
  "sgd,no_augmentation": Reported("84.32 ± 1.12", _CONFIRMED),
  "sgd_tuned,no_augmentation": Reported("90.07 ± 0.48", _CONFIRMED),
  "regularized,no_augmentation": Reported("89.17", _CONFIRMED),
  "regularized,copies": Reported("95.11 (10 x), 95.47 (40 x)", _UNCONFIRMED),
  "sgd_tuned,copies": Reported("90.07 (10 x), 94.11 (40 x)", _UNCONFIRMED),
}


class _Place(NamedTuple):
  """A data set with its network, the rows trained on it and how many seeds of each."""

  name: str
  changes: Mapping[str, object]  # of the rows' configs
  rows: Sequence[str]
  seeds: int = 20  # a row at scale laptop


def claims(scale: str) -> list[Claim]:
  """F1 to F7, fixed before training."""
  margin = _MARGIN[scale]
  others = [place.name for place in _places(scale)[1:]]

  def part(estimand: str, rule: str, *limits: float) -> Part:
    return Part(f"test accuracy, {estimand}, points", rule, limits)

  def fitted(*rows: str) -> str:
    return (
      f"train loss of {', '.join(rows)} not above that of SGD (by more than {_LOSS_SLACK} nats,"
      " not augmented, in evaluation mode)"
    )

  made = [
    Claim(
      "F1",
      "plain full-batch descent generalises worse than SGD",
      (part("full_batch - sgd", "hi < x", -1.0),),
      fitted("full_batch"),
    ),
    Claim(
      "F2",
      "training longer recovers a part of that, and not all",
      (part("longer - full_batch", "lo > x", 0.0), part("longer - sgd", "hi < x", 0.0)),
      fitted("longer"),
    ),
    Claim(
      "F3",
      "clipping and a gradient penalty suffice to match tuned SGD",
      (part("regularized - sgd_tuned", "lo > x", -margin),),
      fitted("regularized"),
    ),
    Claim(
      "F4",
      "no randomness is needed: the same without augmentation and on fixed copies",
      (
        part("regularized - sgd_tuned, no augmentation", "lo > x", -margin),
        part("regularized - sgd_tuned, fixed copies", "lo > x", -margin),
      ),
      "train loss of both not above that of sgd_tuned on the same data; no bit of the rows without"
      " augmentation moved by `order` and `augment`",
    ),
    Claim(
      "F5",
      "gradient noise is not what helps: the best tuned noise stays below SGD",
      (part("best of the noise rows - sgd", "hi < x", -1.0),),
      fitted("the noise row"),
    ),
    Claim(
      "F6",
      "sampling with replacement is as good as without",
      (part("sgd_replacement - sgd", "within [a, b]", -0.5, 0.5),),
      fitted("sgd_replacement"),
    ),
    Claim(
      "F7",
      f"F3 carries over to {' and '.join(others) or 'further data sets'}",
      tuple(
        part(f"regularized - sgd_tuned on {place.name}", "lo > x", -margin)
        for place in _places(scale)[1:] or _places(scale)
      ),
      "every further data set at hand, train loss as for F3",
    ),
  ]
  return [dataclasses.replace(claim, family="fullbatch") for claim in made]


def _places(scale: str) -> list[_Place]:
  """The first one carries F1 to F6."""
  small = {"data.image_size": 16, "data.train_examples": 1024, "data.crop": 2, "data.flip": True}
  network = {"model.name": "mlp", "model.width": 64, "model.depth": 2}
  if scale == "paper":
    return [
      _Place("cifar10", {}, (*_ROWS, *_FIXED, *(f"{r},{n}" for n in _NETWORKS for r in _CARRIED))),
      _Place("cifar100", {"data.name": "cifar100"}, _CARRIED),
      _Place("svhn_cropped", {"data.name": "svhn_cropped", "data.flip": False}, _CARRIED),
    ]
  digits = _Place("digits", {}, (*_ROWS, *_FIXED))
  if scale == "smoke":
    return [digits]
  glyphs = {
    "data.name": "glyphs",
    "data.world_kwargs": dict(bootstrap.PLAIN_GLYPHS),
    "data.test_examples": 5000,
    "data.flip": False,  # mirrored they would be other glyphs
  }
  return [
    digits,
    _Place("glyphs", {**small, **glyphs, **network}, _CARRIED, seeds=32),
    _Place("cifar10", {"data.name": "cifar10", **small, **network}, _CARRIED, seeds=32),
  ]


def sweeps(scale: str, data_dir: str | None) -> list[Sweep]:
  """The rows on every data set that is at hand (at scale paper all: missing ones are fetched)."""
  sensitivity = {"smoke": 2, "laptop": 8, "paper": 3}[scale]
  made = []
  for place in _places(scale):
    if scale != "paper" and not _at_hand(place, data_dir):
      continue
    runs = {"smoke": 2, "laptop": place.seeds, "paper": 5}[scale]
    for row in place.rows:
      more = 2 if row in ("sgd", "sgd_replacement") else 1  # F6 asks for a narrow interval
      made.append(Sweep(f"{place.name}/{row}", _config(scale, row, place), range(more * runs)))
  first = _places(scale)[0]
  for row in ("sgd", "regularized"):
    for factor in _RATES:
      usual = _config(scale, row, first)
      peak = {"optimizer.learning_rate": factor * usual.optimizer.learning_rate}
      name = f"{first.name}/{row},rate_x{factor:g}"
      made.append(Sweep(name, changed(usual, peak), range(sensitivity)))
  for row in _STILL:
    only = {"seeds.vary": ["order", "augment"], "seeds.fixed": 0}
    still = changed(_config(scale, f"{row},no_augmentation", first), only)
    made.append(Sweep(f"{first.name}/{row},no_augmentation,still", still, range(3)))
  return made


def _at_hand(place: _Place, data_dir: str | None) -> bool:
  try:
    data.class_names(Data(name=str(place.changes.get("data.name", "digits"))), data_dir, False)
  except UserError:
    return False
  return True


def _config(scale: str, row: str, place: _Place) -> Config:
  name, *modifiers = row.split(",")
  if "copies" in modifiers:  # at paper scale 10 copies; at the laptop's 4, for half as many steps
    modifiers[modifiers.index("copies")] = "copies10" if scale == "paper" else "copies4"
  made = changed(fullbatch.config(scale, name, *modifiers), place.changes)
  if "copies4" in modifiers and made.training.full_batch:
    half = {"training.epochs": made.training.epochs // 2}
    half |= {"optimizer.warmup_steps": made.optimizer.warmup_steps // 2}
    half |= {"optimizer.period": made.optimizer.period // 2}
    made = changed(made, half)
  if "no_augmentation" in modifiers:
    made = changed(made, {"data.crop": 0, "data.flip": False})
  return made


def analyse(datasets: Mapping[str, xarray.Dataset], scale: str) -> Analysis:
  """Claims, tables and pictures from the finished sweeps."""
  places = [place for place in _places(scale) if f"{place.name}/sgd" in datasets]
  first, others = places[0].name, [place.name for place in places[1:]]

  def differ(row: str, rival: str, place: str = first):
    return lambda level: _difference(
      datasets[f"{place}/{row}"], datasets[f"{place}/{rival}"], level
    )

  def fits(row: str, place: str = first, rival: str = "sgd") -> bool:
    both = [datasets[f"{place}/{name}"] for name in (row, rival)]
    if not all(np.isfinite(one["train_loss"].values[:, -1]).any() for one in both):
      return False
    above = _difference(*both, 0.95, "train_loss")
    return math.isnan(above.low) or above.low <= _LOSS_SLACK

  noise = _BEST_NOISE
  still = {row: _unmoved(datasets[f"{first}/{row},no_augmentation,still"]) for row in _STILL}
  bare, copied = "regularized,no_augmentation", "regularized,copies"
  evidence = {
    "F1": lambda level: [differ("full_batch", "sgd")(level)],
    "F2": lambda level: [differ("longer", "full_batch")(level), differ("longer", "sgd")(level)],
    "F3": lambda level: [differ("regularized", "sgd_tuned")(level)],
    "F4": lambda level: [
      differ(bare, "sgd_tuned,no_augmentation")(level),
      differ(copied, "sgd_tuned,copies")(level),
    ],
    "F5": lambda level: [differ(noise, "sgd")(level)],
    "F6": lambda level: [differ("sgd_replacement", "sgd")(level)],
    "F7": lambda level: [
      differ("regularized", "sgd_tuned", place.name)(level) for place in places[1:]
    ],
  }
  expected = [place.name for place in _places(scale)[1:]]
  preconditions = {
    "F1": fits("full_batch"),
    "F2": fits("longer"),
    "F3": fits("regularized"),
    "F4": fits(bare, rival="sgd_tuned,no_augmentation")
    and fits(copied, rival="sgd_tuned,copies")
    and all(still.values()),
    "F5": fits(noise),
    "F6": fits("sgd_replacement"),
    "F7": bool(expected)
    and others == expected
    and all(fits("regularized", place) for place in others),
  }
  tables = [_rows_table(datasets, place, scale) for place in places]
  tables += [_rates_table(datasets, first, scale), _still_table(still, first)]
  sgd, best = (_accuracy(datasets[f"{first}/{row}"]) for row in ("sgd_tuned", "regularized"))
  gap = _difference(datasets[f"{first}/regularized"], datasets[f"{first}/sgd_tuned"], 0.95)
  headline = (
    f"Without minibatches, with clipping and a gradient penalty: {best.mean():.2f} % on {first};"
    f" tuned SGD {sgd.mean():.2f} %. The difference is {gap.estimate:+.2f} points (95 % interval"
    f" {gap.low:.2f} to {gap.high:.2f})."
  )
  lead = [
    f"{len(best)} seeds a row where the table says nothing else. Differences are between runs with"
    " the same seeds, on this test set; a row's train loss counts as not above SGD's within"
    f" {_LOSS_SLACK} nats.",
  ]
  if others != expected:
    missing = ", ".join(name for name in expected if name not in others)
    lead.append(f"Not at hand, so left out: {missing} (name its directory with --data_dir).")
  pictures = {}
  if scale != "smoke":
    pictures = {f"rows-{place.name}": _rows_picture(datasets, place) for place in places}
    pictures["cost"] = _cost_picture(datasets, places[0])
  return Analysis(headline, lead, evidence, preconditions, tables, pictures)


def _difference(a: xarray.Dataset, b: xarray.Dataset, level: float, metric="test_accuracy"):
  """Mean a - mean b over shared seeds, as an Interval in display units."""
  columns = [findings.examine(dataset, metric).columns[0] for dataset in (a, b)]
  two = comparison.align(columns[0].values, columns[0].runs, columns[1].values, columns[1].runs)
  found = comparison.difference(two, level)
  return Interval(found.estimate, found.low, found.high, level, found.method)


def _accuracy(dataset: xarray.Dataset) -> np.ndarray:
  return findings.examine(dataset, "test_accuracy").columns[0].values


def _unmoved(dataset: xarray.Dataset) -> bool:
  """Whether all runs end in the same bits though their `order` and `augment` seeds differ."""
  return len(set(dataset["digest"].values.tolist())) == 1


def _passes(config: Config) -> float:
  """Gradient evaluations of a run in passes over the training pictures."""
  gradient = config.gradient
  cost = 1.0
  if gradient.penalty:
    cost = {"forward": 2.0, "central": 3.0, "exact": 2.5}[gradient.penalty_form]
  copies = (config.data.copies or 1) if config.training.full_batch else 1
  return cost * copies * config.training.epochs


def _rows_table(datasets, place: _Place, scale: str) -> report.Table:
  head = (
    "row", "seeds", "test accuracy, %", "sd", "reported, %", "difference to SGD, points",
    "train loss", "block ||g||²", "passes",
  )  # fmt: skip
  rows = []
  for row in place.rows:
    dataset = datasets[f"{place.name}/{row}"]
    values = _accuracy(dataset)
    gap = _difference(dataset, datasets[f"{place.name}/sgd"], 0.95)
    reported = REPORTED.get(row) if place.name == "cifar10" or scale != "paper" else None
    loss = float(dataset["train_loss"].values[:, -1].mean())
    norm = float(dataset["block_gradient_norm"].values[:, -1].mean())
    rows.append(
      (
        row,
        str(len(values)),
        f"{values.mean():.2f}",
        f"{values.std(ddof=1):.2f}" if len(values) > 1 else "-",
        f"{reported.text} [{_mark(reported)}]" if reported else "",
        "" if row == "sgd" else _points(gap),
        f"{loss:.4f}",
        f"{norm:.3g}",
        f"{_passes(parse(dataset.attrs['config'])):g}",
      )
    )
  note = (
    "Reported: CIFAR-10, ResNet-18, by the paper; [c] confirmed by two published summaries, [u]"
    " not confirmed; the number of repetitions behind ± is not known, so nothing is judged by it."
    " Passes: gradient evaluations over the training pictures of one run."
  )
  return report.Table(f"Rows on {place.name}", head, rows, note)


def _mark(reported: Reported) -> str:
  return "u" if reported.status is _UNCONFIRMED else "c"


def _points(gap: Interval) -> str:
  if math.isnan(gap.low):
    return f"{gap.estimate:+.2f}"
  return f"{gap.estimate:+.2f} ({gap.low:.2f} to {gap.high:.2f})"


def _rates_table(datasets, place: str, scale: str) -> report.Table:
  rows = []
  for row in ("sgd", "regularized"):
    peak = parse(datasets[f"{place}/{row}"].attrs["config"]).optimizer.learning_rate
    for factor in sorted((*_RATES, 1.0)):
      name = f"{place}/{row}" + f",rate_x{factor:g}" * (factor != 1)
      values = _accuracy(datasets[name])
      spread = f"{values.std(ddof=1):.2f}" if len(values) > 1 else "-"
      rows.append((row, f"{factor * peak:g}", str(len(values)), f"{values.mean():.2f}", spread))
  head = ("row", "peak learning rate", "seeds", "test accuracy, %", "sd")
  return report.Table("Sensitivity to the learning rate", head, rows)


def _still_table(still: Mapping[str, bool], place: str) -> report.Table:
  rows = [(row, "the same bits" if same else "DIFFERENT bits") for row, same in still.items()]
  note = "Three runs of each, which differ in their `order` and `augment` seeds alone."
  return report.Table(
    f"Without augmentation and shuffling on {place}", ("row", "final states"), rows, note
  )


def _rows_picture(datasets, place: _Place):
  rows = []
  for row in place.rows:
    s = single.summary(_accuracy(datasets[f"{place.name}/{row}"]))
    rows.append((s.mean, s.low, s.high, s.min, s.max))
  label = f"test accuracy on {place.name}, %"
  alt = "; ".join(f"{row} {mean:.2f}" for row, (mean, *_) in zip(place.rows, rows, strict=True))
  model = charts.intervals(place.rows, rows, label)
  return (
    model,
    f"{label}: {alt}.",
    "Mean with its 95 % interval (thick), range of the seeds (thin).",
  )


def _cost_picture(datasets, place: _Place):
  names, passes, means = [], [], []
  for row in place.rows:
    dataset = datasets[f"{place.name}/{row}"]
    names.append(row)
    passes.append(_passes(parse(dataset.attrs["config"])))
    means.append(float(_accuracy(dataset).mean()))
  model = charts.labelled(names, passes, means, "passes over the training pictures", "accuracy, %")
  rows = zip(names, passes, means, strict=True)
  alt = "; ".join(f"{name}: {cost:g} passes, {mean:.2f} %" for name, cost, mean in rows)
  caption = f"What a row costs and gives on {place.name}: accuracy against gradient evaluations."
  return model, f"Accuracy against cost on {place.name}: {alt}.", caption


STUDY = Study("Is stochastic training necessary?", claims, sweeps, analyse)
