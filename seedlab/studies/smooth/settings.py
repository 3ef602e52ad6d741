"""Settings of the study of smooth activations: Shamir & Lin (2022, arXiv 2202.06499).

A setting is a scale, a place and words:

  place     movielens, clicks, digits, cifar10, criteo: what is learnt, with its network
  relu ...  an activation by its name; NAME=NUMBER sets the parameter of its width, which is `beta`
            (smelu, swish, gelu, softplus), `b` (squareplus) or another's first one
  source    crossed (initialisation x order), init, order, sample, dropout, poke: what differs
            between runs; all without one
  window10, window100, window1000   examples among which the order is shuffled
  time      of movielens: tested on the latest ratings
  remedy    average, towers3, codistill: besides a smooth activation
  slices    the loss along its gradient is kept

The papers' own settings are not public: which data besides production traffic, which
optimiser, epochs, widths and grids of beta (papers are cited from their abstracts). `paper`
takes the Criteo network of Ovadia et al. (2019, arXiv 1906.02530), which they are said to
use. Settings of scale `laptop` were chosen on runs 1,000,000 and up (docs/smooth.md).
"""

import inspect
from typing import Any

from seedlab import activations
from seedlab.changes import changed
from seedlab.config import Config, parse
from seedlab.errors import UserError, choice_error

ACTIVATIONS = (
  "linear", "relu", "smelu", "swish", "gelu", "softplus", "mish", "tanhexp", "squareplus", "elu",
  "celu", "leaky_relu",
)  # fmt: skip

LEVELS = {"smoke": (2, 4), "laptop": (4, 16), "paper": (8, 32)}  # initialisations, orders

MODIFIERS: dict[str, dict[str, Any]] = {
  "init": {"seeds.vary": ("init",)},
  "order": {"seeds.vary": ("order",)},
  "sample": {"seeds.vary": ("sample",)},
  "dropout": {"seeds.vary": ("noise",), "model.dropout": 0.1},
  "poke": {"seeds.vary": ("poke",), "training.poke_step": 0},
  **{
    f"window{n}": {"data.order": "window", "data.window": n, "seeds.vary": ("order",)}
    for n in (10, 100, 1000)
  },
  "time": {"data.test_by": "time"},
  "average": {"training.average": 0.99},
  "towers3": {"model.towers": 3},
  "codistill": {"training.codistillation": 1.0},
  "slices": {"evaluation.slices": 65, "seeds.vary": ("init",)},
}  # fmt: skip

_ADAM = {"name": "adam", "learning_rate": 2e-3}
_CONSTANT = {"name": "constant"}  # learning rate
_SGD = {"name": "sgd", "learning_rate": 0.05}
KEPT = {"trajectory": True, "batch_size": 10_000}  # of every evaluation
_MLP = {"name": "mlp", "width": 64, "depth": 2}
_CTR = {"name": "ctr", "width": 64, "depth": 2, "embedding": 16}

_LAPTOP = {
  "movielens": parse(
    {
      "data": {"name": "movielens/100k-ratings", "test_examples": 10_000},
      "model": _CTR,
      "optimizer": _ADAM,
      "schedule": _CONSTANT,
      "training": {"batch_size": 512, "epochs": 6},
      "evaluation": {**KEPT, "lists": 50},
    }
  ),
  "clicks": parse(
    {
      "data": {"name": "clicks", "train_examples": 200_000},
      "model": _CTR,
      "optimizer": _ADAM,
      "schedule": _CONSTANT,
      "training": {"batch_size": 256, "epochs": 1},
      "evaluation": {**KEPT, "every_epochs": 0.25},
    }
  ),
  "digits": parse(
    {
      "data": {"name": "digits"},
      "model": _MLP,
      "optimizer": _SGD,
      "training": {"batch_size": 32, "epochs": 20},
      "evaluation": {**KEPT, "every_epochs": 4},
    }
  ),
  "cifar10": parse(
    {
      "data": {"name": "cifar10", "image_size": 16, "train_examples": 5000, "test_examples": 2000},
      "model": {**_MLP, "width": 128},
      "optimizer": {**_SGD, "learning_rate": 0.02},
      "training": {"batch_size": 32, "epochs": 4},
      "evaluation": KEPT,
    }
  ),
}
_OVADIA = parse(
  {
    "data": {"name": "criteo", "world": "ideal"},
    "model": {"name": "ctr_ovadia", "width": 2572, "dropout": 0.039751},
    "optimizer": {**_ADAM, "learning_rate": 2.8763e-4},
    "schedule": _CONSTANT,
    "training": {"batch_size": 869, "steps": 42_000},
    "evaluation": {**KEPT, "every_steps": 6000},
  }
)
_SMOKE_CHANGES = {
  "movielens": {"data.train_examples": 2000, "training.epochs": 2, "evaluation.lists": 5},
  "digits": {"training.epochs": 2, "evaluation.every_epochs": 1.0},
}
_SMALL_NETWORK = {"model.width": 8, "data.test_examples": 200}
# Wider, and the whole of the data.
_PAPER_CHANGES = {
  "movielens": {"data.test_examples": None, "model.width": 256, "model.embedding": 64},
  "clicks": {"data.train_examples": 5_000_000, "model.width": 256, "training.batch_size": 1024},
  "digits": {"model.width": 256},
  "cifar10": {
    "data.image_size": None, "data.train_examples": None, "data.test_examples": None,
    "model.width": 512,
  },
}  # fmt: skip
# Of the training examples, where a place takes all and `sample` must leave some out.
_SAMPLED = {"movielens": 60_000, "digits": 400, "cifar10": 40_000}


def places(scale: str) -> tuple[str, ...]:
  """The names of the places of a scale."""
  return tuple(_of_scale(scale))


def config(scale: str = "laptop", place: str = "movielens", *words: str) -> Config:
  """The experiment of one setting.

  Raises:
    UserError: a scale, place or word that is not known, or a number after a word that takes none.
  """
  table = _of_scale(scale)
  having = [one for one in LEVELS if place in _of_scale(one)]
  if having and place not in table:
    raise UserError(f"scale={scale!r} has no settings of {place}; take {' or '.join(having)}")
  if place not in table:
    raise choice_error("place", place, table)
  changes: dict[str, Any] = {}
  for word in words:
    name, _, number = word.partition("=")
    if name in ACTIVATIONS:
      changes |= {"activation.name": name, **_width(name, number)}
    elif word == "crossed":
      changes |= {
        "seeds.vary": ("init", "order"),
        "seeds.design": "crossed",
        "seeds.levels": LEVELS[scale],
      }
    elif word in MODIFIERS:
      changes |= MODIFIERS[word]
    else:
      raise choice_error("word", word, (*ACTIVATIONS, "crossed", *MODIFIERS))
  if "sample" in words and table[place].data.train_examples is None:
    if place not in _SAMPLED:
      raise UserError(f"word=sample leaves out some of a set's examples, and {place} has no end")
    changes["data.train_examples"] = _SAMPLED[place]
  return changed(table[place], changes)


def _width(name: str, number: str) -> dict[str, float]:
  """The parameter of an activation that NAME=NUMBER sets."""
  if not number:
    return {}
  parameters = list(inspect.signature(getattr(activations, name)).parameters)[1:]
  if not parameters:
    raise UserError(f"word={name}={number}: {name} has no parameter; write {name}")
  try:
    return {f"activation.{'beta' if 'beta' in parameters else parameters[0]}": float(number)}
  except ValueError:
    raise UserError(f"word={name}={number}: {number!r} is no number; write {name}=0.5") from None


def _of_scale(scale: str) -> dict[str, Config]:
  if scale not in LEVELS:
    raise choice_error("scale", scale, LEVELS)
  if scale == "laptop":
    return _LAPTOP
  changes = _SMOKE_CHANGES if scale == "smoke" else _PAPER_CHANGES
  small = _SMALL_NETWORK if scale == "smoke" else {}
  made = {name: changed(_LAPTOP[name], small | changes[name]) for name in changes}
  return made | ({"criteo": _OVADIA} if scale == "paper" else {})
