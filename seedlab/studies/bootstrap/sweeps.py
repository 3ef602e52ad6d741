"""The sweeps of the Deep Bootstrap study: every setting in a real and in an ideal world."""

from collections.abc import Sequence
from typing import NamedTuple

from seedlab.config import Config
from seedlab.studies.bootstrap import settings
from seedlab.studies.sources import at_hand
from seedlab.studies.study import Sweep

SEEDS = {"smoke": 3, "laptop": 10, "paper": 10}


class Place(NamedTuple):
  """A data set with its settings. The last size is the one that further settings use."""

  name: str
  networks: Sequence[str]
  sizes: Sequence[int]  # N, ascending
  # Settings "network,modifier,..." of the last size alone.
  further: Sequence[str] = ()
  augmented: str = ""  # the modifier of B4; empty: none


def places_of(scale: str) -> list[Place]:
  """The first one carries B3 and B4."""
  if scale == "smoke":
    return [Place("glyphs", ("mlp", "cnn"), (64,), ("mlp,shifts",), "shifts")]
  if scale == "laptop":
    networks = ("mlp", "resnet", "vit")
    shifted = tuple(f"{network},shifts" for network in networks)
    rules = tuple(f"mlp,{rule}" for rule in ("momentum", "adam", "rmsprop", "adagrad"))
    further = (*shifted, *rules, "resnet,momentum")
    return [
      Place("glyphs", networks, (500, 1000), further, "shifts"),
      Place("cifar10", networks, (500, 1000)),
    ]
  main = ("mlp2048", "preresnet18", "vgg11")
  others = ("mlp128", "mcnn", "alexnet", "densenet40_12", "densenet40_32", "cells0", "cells1")
  augmented = tuple(f"{network},aug2" for network in main)
  optimisers = ("mlp2048,adam", "preresnet18,adam", "preresnet18,momentum", "preresnet18,noise20")
  sizes = (5000, 10_000, 25_000, 50_000)
  return [Place("cifar5m", main, sizes, (*augmented, *others, *optimisers), "aug2")]


def make(scale: str, data_dir: str | None) -> list[Sweep]:
  """Every setting in both worlds, on the data that are at hand (at scale paper all)."""
  runs = range(SEEDS[scale])
  made = []
  for place in places_of(scale):
    if scale != "paper" and not at_hand(place.name, data_dir):
      continue
    for setting, sizes in settings_of(place):
      for size in sizes:
        made.append(
          Sweep(name_of(place, setting, size), config_of(scale, place, setting, size), runs)
        )
      ideal = config_of(scale, place, setting, sizes[-1], "ideal")
      made.append(Sweep(name_of(place, setting), ideal, runs))
  return made


def settings_of(place: Place) -> list[tuple[str, Sequence[int]]]:
  plain = [(network, place.sizes) for network in place.networks]
  return plain + [(setting, place.sizes[-1:]) for setting in place.further]


def name_of(place: Place, setting: str, size: int | None = None) -> str:
  return f"{place.name}/{setting},{f'n{size}' if size else 'ideal'}"


def config_of(scale: str, place: Place, setting: str, size: int, world: str = "real") -> Config:
  network, *modifiers = setting.split(",")
  return settings.config(scale, network, place.name, *modifiers, f"n{size}", world)
