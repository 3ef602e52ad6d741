"""Settings of the seed study: Picard (2021, arXiv 2109.08203), and what came after it.

  place     digits; cifar10 at 16x16; picard: the published protocol on CIFAR-10
  all       every stream varied, as the paper has it: all but `sample` where few images are used
  crossed   initialisation x order x augmentation, every combination of levels
  init, order, augment   one stream alone
  poke0, poke15, ...     one weight moved by one ulp before that step; factor: times 1.001 instead
  narrow, slow, large_batch, smelu, decay   design choices of digits listed before training,
                         to stand beside the seed
  tuned     cifar10: few images, for a network that starts from a file
  short, long            the published schedule: of 22 epochs, or of 45, the last 23 of them at a
                         constant rate; `short` is of picard alone, where it changes nothing
  per_image              each image is changed by itself, not 500 neighbours alike
  float16, bfloat16      all of float16 but batch norm, as published; or computed in bfloat16

What the published protocol is, and where ours departs from it: configs/seeds/picard.py. Settings
of scale `laptop` come from prototypes (docs/seeds.md).
"""

import itertools
import re
from typing import Any

from seedlab.changes import changed
from seedlab.config import Config, parse
from seedlab.errors import UserError, choice_error

LEVELS = {"smoke": 3, "laptop": 16, "paper": 32}  # of each stream of the crossed design
FACTORS = ("init", "order", "augment")
HEAD = "Dense_0"  # the last layer of `cnn`

DESIGN: dict[str, dict[str, Any]] = {
  "narrow": {"model.width": 32},
  "slow": {"optimizer.learning_rate": 0.05},
  "large_batch": {"training.batch_size": 64},
  "smelu": {"activation.name": "smelu"},
  "decay": {"optimizer.weight_decay": 1e-3},
}

_SGD = {"name": "sgd", "learning_rate": 0.05, "momentum": 0.9}
_CNN = {"name": "cnn", "width": 8, "norm": "batch"}
# Every run has the same training set: which images it has is no part of the paper's seed.
_SAME_SET = ("init", "order", "augment", "noise", "poke")

_DIGITS = parse(
  {
    "data": {"name": "digits"},
    "augment": [{"name": "crop", "padding": 1}],
    "model": {"name": "mlp", "width": 64, "depth": 1},
    "optimizer": {**_SGD, "learning_rate": 0.1},
    "training": {"batch_size": 32, "epochs": 20},
    "evaluation": {"every_epochs": 2},
  }
)
_CIFAR10 = parse(
  {
    "data": {
      "name": "cifar10", "image_size": 16, "train_examples": 5000, "test_examples": 2000,
    },
    "augment": [{"name": "crop", "padding": 2}, {"name": "flip"}],
    "model": _CNN,
    "optimizer": _SGD,
    "training": {"batch_size": 50, "epochs": 8},
    "evaluation": {"every_epochs": 2},
    "seeds": {"vary": _SAME_SET},
  }
)  # fmt: skip
# What a network is pretrained on, and how, before it is tuned to few images of CIFAR-10.
_GLYPHS = parse(
  {
    "data": {
      "name": "glyphs", "image_size": 16, "world": "ideal", "train_examples": 5000,
      "test_examples": 500,
    },
    "model": _CNN,
    "optimizer": _SGD,
    "training": {"batch_size": 50, "steps": 800},
    "evaluation": {"every_steps": 800},
  }
)  # fmt: skip
# As published, and a sixteenth as wide on few small images.
_PICARD = parse(
  {
    "data": {"name": "cifar10", "chunk": 500},
    "augment": [
      {"name": "crop", "padding": 4}, {"name": "flip"}, {"name": "cutout", "size": 8},
    ],
    "model": {"name": "picard", "width": 64, "norm": "batch"},
    "activation": {"name": "celu", "alpha": 0.1},
    "loss": {"name": "cross_entropy", "smoothing": 0.4 / 3},
    "optimizer": {
      "name": "sgd", "learning_rate": 0.2, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-3,
    },
    "schedule": {"name": "picard", "per_epoch": True},
    "training": {"batch_size": 500, "epochs": 22, "loss_factor": 3.0},
    "evaluation": {"epochs": (0, 1, 6, 11, 16, 21)},
  }
)  # fmt: skip
_NARROW_PICARD = changed(
  _PICARD,
  {"data.image_size": 16, "data.train_examples": 5000, "augment[0].padding": 2,
   "augment[2].size": 4,
   "model.width": 4, "optimizer.learning_rate": 0.02, "training.batch_size": 50,
   "seeds.vary": _SAME_SET},
)  # fmt: skip
_PLACES = {"digits": _DIGITS, "cifar10": _CIFAR10, "glyphs": _GLYPHS, "picard": _NARROW_PICARD}
_SMOKE = {
  "digits": {"training.epochs": 2, "data.train_examples": 320},
  "cifar10": {"model.width": 2, "data.image_size": 8, "data.train_examples": 200,
              "data.test_examples": 100, "training.epochs": 2},
  "glyphs": {"model.width": 2, "data.image_size": 8, "data.test_examples": 50,
             "training.steps": 5},
  "picard": {"model.width": 2, "data.train_examples": 500, "training.epochs": 2,
             "evaluation.epochs": (0, 1)},
}  # fmt: skip
_LONG = {
  "schedule.name": "picard",
  "schedule.per_epoch": True,
  "optimizer.learning_rate": 0.2,
  "training.epochs": 45,
  "evaluation.epochs": (0, 1, 6, 11, 16, 21, 26, 31, 36, 41),
}


# The words of each place; those in one row exclude each other.
_ORDERED = ("all", *FACTORS, "crossed")
_PRECISIONS = ("float16", "bfloat16")
_WORDS: dict[str, tuple[tuple[str, ...], ...]] = {
  "digits": ((*_ORDERED, "poke0"), tuple(DESIGN), ("long",), ("factor",), _PRECISIONS),
  "cifar10": ((*_ORDERED, "poke0"), ("tuned",), ("factor",), _PRECISIONS),
  "glyphs": (("all",),),
  "picard": (_ORDERED, ("short", "long"), ("per_image",), _PRECISIONS),
}


def config(scale: str = "laptop", place: str = "digits", *words: str) -> Config:
  """The experiment of one setting.

  Raises:
    UserError: a scale, place or word that is not known, or two words that exclude each other.
  """
  if scale not in LEVELS:
    raise choice_error("scale", scale, LEVELS)
  if place not in _PLACES:
    raise choice_error("place", place, _PLACES)
  kinds = ["poke0" if re.fullmatch(r"poke\d+", word) else word for word in words]
  for row in _WORDS[place]:
    found = dict.fromkeys(w for w, kind in zip(words, kinds, strict=True) if kind in row)
    if len(found) > 1:
      raise UserError(f"{' and '.join(map(repr, found))} exclude each other; take one of them")
  published = place == "picard" and scale == "paper"
  changes: dict[str, Any] = dict(_SMOKE[place]) if scale == "smoke" else {}
  known = list(itertools.chain(*_WORDS[place]))
  for word, kind in zip(words, kinds, strict=True):
    if kind not in known:
      raise choice_error("word", word, known)
    if word in DESIGN:
      changes |= DESIGN[word]
    elif word == "long":
      changes |= _long(scale, place)
    elif word == "per_image":
      changes["data.chunk"] = None
    elif word in ("float16", "bfloat16"):
      changes["model.precision"] = word
    elif word in FACTORS:
      changes["seeds.vary"] = (word,)
    elif word == "crossed":
      changes |= {
        "seeds.vary": FACTORS,
        "seeds.design": "crossed",
        "seeds.levels": (LEVELS[scale],) * len(FACTORS),
      }
    elif kind == "poke0":
      # Every initialisation with several pokes: those that share it differ in nothing else.
      changes |= {
        "training.poke_step": int(word[4:]),
        "seeds.vary": ("init", "poke"),
        "seeds.design": "crossed",
        "seeds.levels": (2, 3) if scale == "smoke" else (8, 8 if place == "digits" else 4),
      }
    elif word == "factor":
      changes["training.poke"] = "factor"
    elif word == "tuned":
      changes |= {
        "data.train_examples": 100 if scale == "smoke" else 1000,
        "data.test_examples": 100 if scale == "smoke" else None,
        "evaluation.every_epochs": 8.0,  # at the end
      }
  return changed(_PICARD if published else _PLACES[place], changes)


def _long(scale: str, place: str) -> dict[str, Any]:
  changes = dict(_LONG)
  if place == "picard":
    del changes["optimizer.learning_rate"]
  if scale == "smoke":
    changes |= {"training.epochs": 3, "evaluation.epochs": (0, 1)}
  return changes


def untrained(base: Config) -> Config:
  """The same for one step at a learning rate of zero: what it starts from."""
  only = {"optimizer.learning_rate": 0.0, "training.steps": 1, "seeds.vary": ("init",)}
  return changed(base, only)
