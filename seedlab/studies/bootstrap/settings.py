"""Settings of the Deep Bootstrap study: Nakkiran, Neyshabur & Sedghi (2021, arXiv 2010.08127).

A setting is a scale, a network and words that change it:

  place         glyphs, cifar10, cifar5m: what the images are; dogbird with its own recipe
  world         real, ideal
  n500 ... all  examples of the real world; in an ideal one nothing depends on their number
  aug0 ... aug3 none; flips; crops and flips; crops filled by reflection, and flips
  shifts        crops alone, for images that mean something else when flipped
  optimiser     momentum (Nesterov's), adam, rmsprop, adagrad; without one, the network's own
  noise20       a fifth of the training labels is another class

Scale `paper` is the released sweep (inftrain/sample_sweep.json and the defaults of
inftrain/train.py): CIFAR-5m, 39,000 steps of 128, SGD at 0.1 without momentum or weight
decay, a cosine that changes every 390 steps, pixels in [-1, 1], evaluation every 64 steps
and more often at first. `laptop` is an eighth of the images' area and 1,536 steps of 32;
the rates of its networks were chosen on runs 1,000,000 and up (docs/bootstrap.md).
Train metrics are those of the unaugmented images, which the stopping rule reads; the
published code measures augmented ones: --config.evaluation.train_augmented=True.

`dogbird` (ImageNet's hunting dogs and birds) has the numbers of inftrain/train_imgnet.py: 10,000
examples, momentum 0.9, 9,375 steps. Its pool of 155,000 lasts for 1,200 of them, so the published
ideal world went over it eight times: here that is `real,all`, with images small enough for the
pool to fit on the device (--config.data.image_size=64).
"""

from collections.abc import Mapping
from typing import Any

from seedlab.changes import changed
from seedlab.config import Config, differences, flatten, parse, to_dict
from seedlab.errors import UserError, choice_error
from seedlab.studies.sources import PLAIN_GLYPHS

# What a real and an ideal world may differ in.
_WORLDLY = ("data.world", "data.train_examples")

_PAPER_NETWORKS: dict[str, dict[str, Any]] = {
  "mlp128": {"name": "mlp_pytorch", "width": 128, "depth": 3, "norm": "batch"},
  "mlp2048": {"name": "mlp_pytorch", "width": 2048, "depth": 3, "norm": "batch"},
  "preresnet18": {"name": "preresnet18", "width": 64, "norm": "batch"},
  "resnet18": {
    "name": "resnet18", "width": 64, "norm": "batch", "shortcut": "plain",
    "first_weights": "pytorch",
  },
  "vgg11": {"name": "vgg11", "width": 64, "norm": "batch"},
  "mcnn": {"name": "mcnn", "width": 64, "norm": "batch"},
  "alexnet": {"name": "alexnet", "width": 64, "norm": "none"},
  "densenet40_12": {"name": "densenet40", "width": 24, "norm": "batch"},
  "densenet40_32": {"name": "densenet40", "width": 64, "norm": "batch"},
  "wrn28_4": {"name": "wrn28", "width": 64, "norm": "batch"},
  "wrn28_10": {"name": "wrn28", "width": 160, "norm": "batch"},
  "resnext29": {"name": "resnext29", "width": 64, "norm": "batch"},
  "resnet9": {"name": "resnet9", "width": 64, "norm": "batch"},
  "dconv": {"name": "dconv", "width": 32, "norm": "batch", "dropout": 0.5},
  "dconv_fc": {"name": "dconv_fc", "width": 4, "norm": "batch", "dropout": 0.5},
  "vit4": {
    "name": "vit", "width": 768, "depth": 12, "heads": 12, "patch": 4, "activation.name": "gelu",
  },
  "vit8": {
    "name": "vit", "width": 768, "depth": 12, "heads": 12, "patch": 8, "activation.name": "gelu",
  },
  **{
    f"cells{seed}": {"name": "cells", "width": 16, "norm": "batch", "cell_seed": seed}
    for seed in range(5)
  },
}  # fmt: skip

_LAPTOP_NETWORKS: dict[str, dict[str, Any]] = {
  "mlp": {"name": "mlp", "width": 128, "depth": 3, "norm": "batch"},
  "resnet": {"name": "resnet9", "width": 8, "norm": "batch"},
  "vit": {
    "name": "vit", "width": 64, "depth": 2, "heads": 4, "patch": 8, "activation.name": "gelu",
  },
}  # fmt: skip

MODIFIERS: dict[str, dict[str, Any]] = {
  "glyphs": {"data.name": "glyphs"},
  "cifar10": {"data.name": "cifar10"},
  "cifar5m": {"data.name": "cifar5m"},
  "real": {"data.world": "real"},
  "ideal": {"data.world": "ideal"},
  "dogbird": {
    "data.name": "imagenet_dogbird", "data.image_size": 224,
    "data.train_examples": 10_000, "data.normalisation": "unit", "optimizer.momentum": 0.9,
    "schedule.hold_steps": 1,
    "training.steps": 9375, "evaluation.every_steps": 32, "evaluation.log_dense": False,
  },
  "all": {"data.train_examples": None},
  **{f"n{n}": {"data.train_examples": n} for n in (64, 500, 1000, 2000, 5000, 10000, 25000, 50000)},
  "aug0": {"augment": []},
  "aug1": {"augment": [{"name": "flip"}]},
  "aug2": {"augment": [{"name": "crop", "padding": 4, "fill": "black"}, {"name": "flip"}]},
  "aug3": {"augment": [{"name": "crop", "padding": 4, "fill": "reflect"}, {"name": "flip"}]},
  "shifts": {"augment": [{"name": "crop", "padding": 1, "fill": "reflect"}]},
  "momentum": {
    "optimizer.name": "sgd", "optimizer.learning_rate": 0.1, "optimizer.momentum": 0.9,
    "optimizer.nesterov": True, "schedule.name": "cosine",
  },
  "adam": {
    "optimizer.name": "adam", "optimizer.learning_rate": 1e-3, "schedule.name": "constant",
    "schedule.hold_steps": 1,
  },
  "rmsprop": {
    "optimizer.name": "rmsprop", "optimizer.learning_rate": 1e-3, "schedule.name": "cosine",
  },
  "adagrad": {
    "optimizer.name": "adagrad", "optimizer.learning_rate": 1e-2, "schedule.name": "cosine",
  },
  "noise20": {"data.label_noise": 0.2},
}  # fmt: skip


_PAPER = parse(
  {
    "data": {"name": "cifar5m", "train_examples": 50_000, "normalisation": "half"},
    "schedule": {"name": "cosine", "hold_steps": 390},
    "training": {"batch_size": 128, "steps": 39_000},
    "evaluation": {"every_steps": 64, "log_dense": True, "train": True},
  }
)
_LAPTOP = parse(
  {
    "data": {
      "name": "glyphs",
      "image_size": 16,
      "train_examples": 1000,
      "test_examples": 2000,
      "normalisation": "half",
    },
    "schedule": {"name": "cosine"},
    "training": {"batch_size": 32, "steps": 1536},
    "evaluation": {"every_steps": 64, "train": True},
  }
)
_SMOKE = changed(
  _LAPTOP,
  {
    "data.image_size": 8, "data.train_examples": 64, "data.test_examples": 100,
    "training.batch_size": 16, "training.steps": 24,
    "evaluation.every_steps": 6, "evaluation.train_examples": 64,
  },
)  # fmt: skip
_SMOKE_NETWORKS: dict[str, dict[str, Any]] = {
  "mlp": {"name": "mlp", "width": 8, "depth": 1, "norm": "batch"},
  "cnn": {"name": "cnn", "width": 2, "norm": "batch"},
}

_SCALES = {
  "smoke": (_SMOKE, _SMOKE_NETWORKS),
  "laptop": (_LAPTOP, _LAPTOP_NETWORKS),
  "paper": (_PAPER, _PAPER_NETWORKS),
}
# What the laptop's networks are trained by, where it is not the scale's own.
_LAPTOP_OPTIMIZERS: dict[str, dict[str, Any]] = {"vit": MODIFIERS["adam"]}


def networks(scale: str) -> tuple[str, ...]:
  """The names of the networks of a scale."""
  return tuple(_of_scale(scale)[1])


def config(scale: str = "laptop", network: str = "", *modifiers: str) -> Config:
  """The experiment of one setting: a network, changed by MODIFIERS in turn.

  Without a network, or with a modifier in its place, the scale's first one.

  Raises:
    UserError: a scale, network or modifier that is not known.
  """
  base, table = _of_scale(scale)
  if network in MODIFIERS:
    network, modifiers = "", (network, *modifiers)
  network = network or next(iter(table))
  if network not in table:
    raise choice_error("network", network, table)
  changes = {
    field if "." in field else f"model.{field}": value for field, value in table[network].items()
  }
  if scale == "laptop":
    changes |= _LAPTOP_OPTIMIZERS.get(network, {})
  for modifier in modifiers:
    if modifier not in MODIFIERS:
      raise choice_error("modifier", modifier, MODIFIERS)
    changes |= MODIFIERS[modifier]
  return changed(base, _usual(scale, base, changes) | changes)


def _usual(scale: str, base: Config, changes: Mapping[str, Any]) -> dict[str, Any]:
  """What belongs to parts that `changes` may have replaced: SGD's momentum, the plain glyphs."""
  found: dict[str, Any] = {}
  if changes.get("optimizer.name", "sgd") == "sgd":
    found["optimizer.momentum"] = 0.0
  if scale != "paper" and changes.get("data.name", base.data.name) == "glyphs":
    found |= {f"data.{option}": value for option, value in PLAIN_GLYPHS.items()}
  return found


def pair(base: Config) -> tuple[Config, Config]:
  """The same experiment in the real and in the ideal world."""
  return tuple(changed(base, {"data.world": world}) for world in ("real", "ideal"))


def check_pair(real: Config, ideal: Config) -> None:
  """Refuses two experiments between which more differs than the world.

  They may differ in the number of examples too, of which an ideal world has no end, as
  long as nothing else is counted in epochs of it.

  Raises:
    UserError: naming every field that differs.
  """
  if (real.data.world, ideal.data.world) != ("real", "ideal"):
    raise UserError(
      f"data.world={real.data.world!r} and {ideal.data.world!r}: a pair has a 'real' and an"
      " 'ideal' world, in this order"
    )
  differing = [
    f"{field}={a!r} beside {b!r}"
    for field, a, b in differences(to_dict(real), to_dict(ideal))
    if field not in _WORLDLY
  ]
  if differing:
    raise UserError(
      f"a real and an ideal world must differ in nothing else, but {', '.join(differing)}"
    )
  if real.data.train_examples != ideal.data.train_examples:
    counted = {
      "training.steps": real.training.steps is None,
      "evaluation.every_steps": real.evaluation.every_steps is None,
      "schedule.per_epoch": real.schedule.per_epoch,
    }
    for field, by_epochs in counted.items():
      if by_epochs:
        raise UserError(
          f"{field}={dict(flatten(to_dict(real)))[field]!r} counts in epochs, which are not equal"
          f" for data.train_examples={real.data.train_examples} and"
          f" {ideal.data.train_examples}: count in steps"
        )


def _of_scale(scale: str) -> tuple[Config, Mapping[str, Mapping[str, Any]]]:
  if scale not in _SCALES:
    raise choice_error("scale", scale, _SCALES)
  return _SCALES[scale]
