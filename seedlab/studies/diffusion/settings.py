"""What is trained at each scale: arguments of `recipes.diffusion.make`, and the classifier.

Scale `laptop` has the digits and a small network; its settings were chosen on runs 1,000,000 and
up (docs/diffusion.md). `paper` has CIFAR-10 and a U-Net; nobody has published that protocol.
"""

from collections.abc import Mapping
from typing import Any

from seedlab.config import Config, parse
from seedlab.errors import choice_error

RECIPE = "seedlab.recipes.diffusion:make"
VARIED = ("init", "order", "noise", "generate")
FACTORS = ("init", "order", "noise")  # of the crossed design
GUIDANCE = 1.25

_DIGITS_CLASSIFIER = {"model": {"name": "mlp", "width": 64, "depth": 1}}
_CIFAR_CLASSIFIER = {"model": {"name": "resnet9", "width": 64, "norm": "group"}}

_LAPTOP: dict[str, Any] = {
  "data": "digits",
  "network": "mlp",
  "width": 256,
  "depth": 3,
  "batch_size": 128,
  "steps": 2000,
  "learning_rate": 4e-3,
  "average": 0.995,
  "sampler_steps": 16,
  "samples": 5000,
  "draws": 4,
  "points": 1000,
  "frozen": 100,
  "classifier": _DIGITS_CLASSIFIER,
}
_SMOKE = {
  **_LAPTOP, "width": 16, "depth": 1, "steps": 40, "warmup_steps": 5, "sampler_steps": 2,
  "samples": 100, "sample_batch": 100, "draws": 4, "points": 50, "frozen": 20,
  "evaluate_every_steps": 20,
}  # fmt: skip
_PAPER = {
  **_LAPTOP, "data": "cifar10", "network": "unet", "width": 32, "steps": 10_000,
  "learning_rate": 5e-4, "warmup_steps": 500, "average": 0.999, "sampler_steps": 32,
  "samples": 10_000, "sample_batch": 2500, "points": 5000, "classifier": _CIFAR_CLASSIFIER,
  "precision": "tf32",
}  # fmt: skip
_ARGUMENTS = {"smoke": _SMOKE, "laptop": _LAPTOP, "paper": _PAPER}

# Levels of the crossed design, and steps of the longer trainings with their evaluations.
LEVELS = {"smoke": (2, 2, 2), "laptop": (4, 4, 4), "paper": (6, 6, 6)}
_LONGER = {"smoke": {}, "laptop": {"steps": 4000, "evaluate_every_steps": 500},
           "paper": {"steps": 20_000, "evaluate_every_steps": 2500}}  # fmt: skip


def arguments(scale: str, **changes: Any) -> dict[str, Any]:
  """The arguments of the recipe at a scale.

  Raises:
    UserError: an unknown scale.
  """
  if scale not in _ARGUMENTS:
    raise choice_error("scale", scale, _ARGUMENTS)
  return {**_ARGUMENTS[scale], **changes}


def longer(scale: str) -> Mapping[str, Any]:
  """What the trainings that are watched over time change, at least twice as long as the others."""
  return _LONGER[scale]


def classifier(scale: str) -> Config:
  """The classifier in whose features samples are compared with the data."""
  if scale == "paper":
    return parse(
      {
        "data": {"name": "cifar10"},
        **_CIFAR_CLASSIFIER,
        "optimizer": {"name": "sgd", "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 5e-4},
        "schedule": {"name": "linear"},
        "augment": [{"name": "crop", "padding": 4}, {"name": "flip"}],
        "training": {"batch_size": 128, "epochs": 20},
      }
    )
  return parse(
    {
      "data": {"name": "digits"},
      **_DIGITS_CLASSIFIER,
      "optimizer": {"name": "sgd", "learning_rate": 0.1, "momentum": 0.9},
      "schedule": {"name": "linear"},
      "training": {"batch_size": 32, "epochs": 20},
    }
  )
