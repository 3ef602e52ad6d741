"""The sweeps of the study of language."""

import math
from collections.abc import Sequence
from typing import Any

from seedlab.data import text
from seedlab.recipes import language as recipe
from seedlab.studies.language import settings
from seedlab.studies.study import Sweep

_MAKE = "seedlab.recipes.language:make"
_CLASSIFY = "seedlab.recipes.language:classify"
RUNS = {  # joint sweeps by name
  "smoke": {"main": 4, "course": 3, "poke": 3, "babble": 3, "activation": 3, "pythia": 0},
  "laptop": {"main": 40, "course": 16, "poke": 12, "babble": 12, "activation": 20, "pythia": 0},
  "paper": {"main": 600, "course": 32, "poke": 32, "babble": 32, "activation": 64, "pythia": 100},
}
# Networks of this size gain nothing from lanes on a CPU (docs/language.md).
_LANES = {"smoke": "loop", "laptop": "loop", "paper": "auto"}
# Initialisations and orders, of training and of fine-tuning.
LEVELS = {"smoke": (2, 2), "laptop": (6, 6), "paper": (10, 10)}
TUNED = {"smoke": (2, 2), "laptop": (10, 10), "paper": (25, 25)}


def make(scale: str, data_dir: str | None) -> list[Sweep]:
  """All sweeps, on the Bible where it is at hand and on `babble` where it is not."""
  there = scale != "smoke" and text.at_hand(settings.FILE, data_dir)
  return of_file(scale, settings.FILE if there else recipe.BABBLE)


def of_file(scale: str, file: str) -> list[Sweep]:
  count, course = RUNS[scale], settings.COURSE[scale]
  quiet = {"draws": 0}
  made = [
    _joint("text/main", settings.text(scale, file), count["main"]),
    _joint("text/course", settings.text(scale, file, **course), count["course"]),
    _crossed("text/crossed", _MAKE, settings.text(scale, file, **quiet), LEVELS[scale]),
  ]
  for name, activation in settings.activations(scale).items():
    given = settings.text(scale, file, activation=activation)
    made.append(_joint(f"text/{name}", given, count["activation"]))
  poked = settings.text(scale, file, **course, poke_step=0)
  made.append(_joint("text/poke", poked, count["poke"], vary=("poke",)))
  if scale != "smoke":
    kinked = settings.text(scale, file, activation="relu", poke_step=0)
    made.append(_joint("text/poke_relu", kinked, count["poke"], vary=("poke",)))
  tuned = settings.finetuned(scale, file)
  pretrained = {"initial": "text/main"}
  made.append(_crossed("text/finetuned", _CLASSIFY, tuned, TUNED[scale], files=pretrained))
  if count["pythia"]:
    given = settings.text(scale, file, **settings.PYTHIA)
    made.append(_joint("text/pythia", given, count["pythia"]))
  for world in ("ideal", "real"):
    made.append(_joint(f"babble/{world}", settings.babble(scale, world), count["babble"]))
  return [one._replace(lanes=_LANES[scale]) for one in made]


def _joint(name: str, arguments: dict[str, Any], runs: int, vary: Sequence[str] = ()) -> Sweep:
  seeds = {"vary": list(vary)} if vary else None
  return Sweep(name, None, range(runs), trainer=(_MAKE, arguments), seeds=seeds)


def _crossed(name: str, function: str, arguments: dict[str, Any], levels, **further) -> Sweep:
  seeds = {"vary": ["init", "order"], "design": "crossed", "levels": list(levels)}
  runs = range(math.prod(levels))
  return Sweep(name, None, runs, trainer=(function, arguments), seeds=seeds, **further)
