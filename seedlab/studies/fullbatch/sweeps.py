"""The sweeps of the full-batch study: every row on every data set."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from seedlab.changes import changed
from seedlab.config import Config
from seedlab.studies.fullbatch import settings
from seedlab.studies.sources import PLAIN_GLYPHS, at_hand
from seedlab.studies.study import Sweep

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
STILL = ("full_batch", "longer", "clipped", "regularized")  # claim to be without randomness
RATES = (0.5, 2.0)  # times the row's peak, for the sensitivity


_CROPS = [{"name": "crop", "padding": 4}]  # without flips: mirrored digits are none


class Place(NamedTuple):
  """A data set with its network, the rows trained on it and how many seeds of each."""

  name: str
  changes: Mapping[str, object]  # of the rows' configs
  rows: Sequence[str]
  seeds: int = 20  # a row at scale laptop


def places_of(scale: str) -> list[Place]:
  """The first one carries F1 to F6."""
  crop, flip = {"name": "crop", "padding": 2}, {"name": "flip"}
  small = {"data.image_size": 16, "data.train_examples": 1024, "augment": [crop, flip]}
  network = {"model.name": "mlp", "model.width": 64, "model.depth": 2}
  if scale == "paper":
    return [
      Place("cifar10", {}, (*_ROWS, *_FIXED, *(f"{r},{n}" for n in _NETWORKS for r in _CARRIED))),
      Place("cifar100", {"data.name": "cifar100"}, _CARRIED),
      Place("svhn_cropped", {"data.name": "svhn_cropped", "augment": _CROPS}, _CARRIED),
    ]
  digits = Place("digits", {}, (*_ROWS, *_FIXED))
  if scale == "smoke":
    return [digits]
  glyphs = {
    "data.name": "glyphs",
    **{f"data.{option}": value for option, value in PLAIN_GLYPHS.items()},
    "data.test_examples": 5000,
    "augment": [crop],  # mirrored they would be other glyphs
  }
  return [
    digits,
    Place("glyphs", {**small, **glyphs, **network}, _CARRIED, seeds=32),
    Place("cifar10", {"data.name": "cifar10", **small, **network}, _CARRIED, seeds=32),
  ]


def make(scale: str, data_dir: str | None) -> list[Sweep]:
  """The rows on every data set that is at hand (at scale paper all: missing ones are fetched)."""
  sensitivity = {"smoke": 2, "laptop": 8, "paper": 3}[scale]
  made = []
  for place in places_of(scale):
    if scale != "paper" and not at_hand(place.name, data_dir):
      continue
    runs = {"smoke": 2, "laptop": place.seeds, "paper": 5}[scale]
    for row in place.rows:
      more = 2 if row in ("sgd", "sgd_replacement") else 1  # F6 asks for a narrow interval
      made.append(Sweep(f"{place.name}/{row}", _config(scale, row, place), range(more * runs)))
  first = places_of(scale)[0]
  for row in ("sgd", "regularized"):
    for factor in RATES:
      usual = _config(scale, row, first)
      peak = {"optimizer.learning_rate": factor * usual.optimizer.learning_rate}
      name = f"{first.name}/{row},rate_x{factor:g}"
      made.append(Sweep(name, changed(usual, peak), range(sensitivity)))
  for row in STILL:
    only = {"seeds.vary": ["order", "augment"], "seeds.fixed": 0}
    still = changed(_config(scale, f"{row},no_augmentation", first), only)
    made.append(Sweep(f"{first.name}/{row},no_augmentation,still", still, range(3)))
  return made


def _config(scale: str, row: str, place: Place) -> Config:
  name, *modifiers = row.split(",")
  if "copies" in modifiers:  # at paper scale 10 copies; at the laptop's 4, for half as many steps
    modifiers[modifiers.index("copies")] = "copies10" if scale == "paper" else "copies4"
  made = changed(settings.config(scale, name, *modifiers), place.changes)
  if "copies4" in modifiers and made.training.full_batch:
    half = {"training.epochs": made.training.epochs // 2}
    half |= {"schedule.warmup_steps": made.schedule.get("warmup_steps") // 2}
    half |= {"schedule.period": made.schedule.get("period") // 2}
    made = changed(made, half)
  if "no_augmentation" in modifiers:
    made = changed(made, {"augment": []})
  return made
