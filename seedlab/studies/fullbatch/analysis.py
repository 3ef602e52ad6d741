"""What the sweeps of the full-batch study say about its claims."""

import math
from collections.abc import Mapping

import numpy as np
import xarray

from seedlab import findings
from seedlab.studies.fullbatch import page
from seedlab.studies.fullbatch.claims import LOSS_SLACK
from seedlab.studies.fullbatch.measures import accuracy, difference
from seedlab.studies.fullbatch.sweeps import STILL, places_of
from seedlab.studies.sources import left_out
from seedlab.studies.study import Analysis

_BEST_NOISE = "noise_multiplicative"  # of the two noise rows, on the tuning runs


def analyse(datasets: Mapping[str, xarray.Dataset], scale: str) -> Analysis:
  """Claims, tables and figures from the finished sweeps."""
  datasets = {name: findings.held(one) for name, one in datasets.items()}
  places = [place for place in places_of(scale) if f"{place.name}/sgd" in datasets]
  first, others = places[0].name, [place.name for place in places[1:]]

  def differ(row: str, rival: str, place: str = first):
    return lambda level: difference(datasets[f"{place}/{row}"], datasets[f"{place}/{rival}"], level)

  def fits(row: str, place: str = first, rival: str = "sgd") -> bool:
    both = [datasets[f"{place}/{name}"] for name in (row, rival)]
    if not all(np.isfinite(one["train_loss"].values[:, -1]).any() for one in both):
      return False
    above = difference(*both, 0.95, "train_loss")
    return math.isnan(above.low) or above.low <= LOSS_SLACK

  noise = _BEST_NOISE
  still = {row: _unmoved(datasets[f"{first}/{row},no_augmentation,still"]) for row in STILL}
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
  expected = [place.name for place in places_of(scale)[1:]]
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
  tables = [page.rows_table(datasets, place, scale) for place in places]
  tables += [page.rates_table(datasets, first, scale), page.still_table(still, first)]
  sgd, best = (accuracy(datasets[f"{first}/{row}"]) for row in ("sgd_tuned", "regularized"))
  gap = difference(datasets[f"{first}/regularized"], datasets[f"{first}/sgd_tuned"], 0.95)
  headline = (
    f"Without minibatches, with clipping and a gradient penalty: {best.mean():.2f} % on {first};"
    f" tuned SGD {sgd.mean():.2f} %. The difference is {gap.estimate:+.2f} points (95 % interval"
    f" {gap.low:.2f} to {gap.high:.2f})."
  )
  lead = [
    f"{len(best)} seeds a row where the table says nothing else. Differences are between runs with"
    " the same seeds, on this test set; a row's train loss counts as not above SGD's within"
    f" {LOSS_SLACK} nats."
  ]
  lead += left_out([name for name in expected if name not in others])
  figures = {}
  if scale != "smoke":
    figures = {f"rows-{place.name}": page.rows_figure(datasets, place) for place in places}
    figures["cost"] = page.cost_figure(datasets, places[0])
  return Analysis(headline, lead, evidence, preconditions, tables, figures)


def _unmoved(dataset: xarray.Dataset) -> bool:
  """Whether all runs end in the same bits though their `order` and `augment` seeds differ."""
  return len(set(dataset["digest"].values.tolist())) == 1
