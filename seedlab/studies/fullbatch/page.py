"""The tables and figures of the full-batch study, with the paper's numbers beside ours."""

from collections.abc import Mapping
from typing import NamedTuple

from seedlab import report
from seedlab.config import parse
from seedlab.report import charts
from seedlab.stats import single
from seedlab.studies.fullbatch.measures import accuracy, difference, passes
from seedlab.studies.fullbatch.sweeps import RATES, Place


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
  "sgd_tuned,copies": Reported("94.11 (40 x)", _UNCONFIRMED),
}


def rows_table(datasets, place: Place, scale: str) -> report.Table:
  head = (
    "row", "seeds", "test accuracy, %", "sd", "reported, %", "difference to SGD, points",
    "train loss", "block ||g||²", "passes",
  )  # fmt: skip
  rows = []
  for row in place.rows:
    dataset = datasets[f"{place.name}/{row}"]
    values = accuracy(dataset)
    gap = difference(dataset, datasets[f"{place.name}/sgd"], 0.95)
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
        "" if row == "sgd" else report.interval_text(gap, "+.2f"),
        f"{loss:.4f}",
        f"{norm:.3g}",
        f"{passes(parse(dataset.attrs['config'])):g}",
      )
    )
  note = (
    "Reported: CIFAR-10, ResNet-18, by the paper; [c] confirmed by two published summaries, [u]"
    " not confirmed; the number of repetitions behind ± is not known, so nothing is judged by it."
    " Passes: gradient evaluations over the training images of one run."
  )
  return report.Table(f"Rows on {place.name}", head, rows, note)


def _mark(reported: Reported) -> str:
  return "u" if reported.status is _UNCONFIRMED else "c"


def rates_table(datasets, place: str, scale: str) -> report.Table:
  rows = []
  for row in ("sgd", "regularized"):
    peak = parse(datasets[f"{place}/{row}"].attrs["config"]).optimizer.learning_rate
    for factor in sorted((*RATES, 1.0)):
      name = f"{place}/{row}" + f",rate_x{factor:g}" * (factor != 1)
      values = accuracy(datasets[name])
      spread = f"{values.std(ddof=1):.2f}" if len(values) > 1 else "-"
      rows.append((row, f"{factor * peak:g}", str(len(values)), f"{values.mean():.2f}", spread))
  head = ("row", "peak learning rate", "seeds", "test accuracy, %", "sd")
  return report.Table("Sensitivity to the learning rate", head, rows)


def still_table(still: Mapping[str, bool], place: str) -> report.Table:
  rows = [(row, "the same bits" if same else "DIFFERENT bits") for row, same in still.items()]
  note = "Three runs of each, which differ in their `order` and `augment` seeds alone."
  return report.Table(
    f"Without augmentation and shuffling on {place}", ("row", "final states"), rows, note
  )


def rows_figure(datasets, place: Place):
  rows = []
  for row in place.rows:
    s = single.summary(accuracy(datasets[f"{place.name}/{row}"]))
    rows.append((s.mean, s.low, s.high, s.min, s.max))
  label = f"test accuracy on {place.name}, %"
  alt = "; ".join(f"{row} {mean:.2f}" for row, (mean, *_) in zip(place.rows, rows, strict=True))
  model = charts.intervals(place.rows, rows, label)
  return (
    model,
    f"{label}: {alt}.",
    "Mean with its 95 % interval (thick), range of the seeds (thin).",
  )


def cost_figure(datasets, place: Place):
  names, costs, means = [], [], []
  for row in place.rows:
    dataset = datasets[f"{place.name}/{row}"]
    names.append(row)
    costs.append(passes(parse(dataset.attrs["config"])))
    means.append(float(accuracy(dataset).mean()))
  model = charts.labelled(names, costs, means, "passes over the training images", "accuracy, %")
  rows = zip(names, costs, means, strict=True)
  alt = "; ".join(f"{name}: {cost:g} passes, {mean:.2f} %" for name, cost, mean in rows)
  caption = f"What a row costs and gives on {place.name}: accuracy against gradient evaluations."
  return model, f"Accuracy against cost on {place.name}: {alt}.", caption
