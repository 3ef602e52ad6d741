"""The sweeps of the diffusion study: one classifier, then networks that generate."""

import math
from collections.abc import Sequence
from typing import Any

from seedlab.studies.diffusion import settings
from seedlab.studies.study import Sweep

_RUNS = {
  "smoke": {"main": 4, "guided": 4, "relu": 4, "time": 4},
  "laptop": {
    "main": 40, "guided": 32, "relu": 32, "smelu": 20, "time": 20, "width64": 20, "width128": 20,
    "samples1000": 8, "samples2500": 8,
  },
  "paper": {
    "main": 256, "guided": 128, "relu": 128, "smelu": 64, "time": 64, "width16": 64, "width64": 46,
    "samples2500": 16, "samples5000": 16,
  },
}  # fmt: skip


def make(scale: str, data_dir: str | None) -> list[Sweep]:
  """The sweeps of a scale; data that are not at hand are fetched where that is possible."""
  del data_dir
  smoke = scale == "smoke"
  few = {} if smoke else {"draws": 2}
  changes: dict[str, dict[str, Any]] = {
    "main": {},
    "guided": {"guidance": settings.GUIDANCE},
    "relu": {"activation": "relu"},
    "smelu": {"activation": "smelu", "draws": 1},
    "time": {**settings.longer(scale), **few},
    **{name: {"width": int(name.removeprefix("width")), **few} for name in widths(scale)},
    **{f"samples{count}": {"samples": count} for count in counts(scale)},
  }
  made = [Sweep("classifier", settings.classifier(scale), range(2))]
  for name, runs in _RUNS[scale].items():
    seeds = {"vary": list(settings.VARIED)}
    made.append(_sweep(name, settings.arguments(scale, **changes[name]), range(runs), seeds))
  levels = settings.LEVELS[scale]
  seeds = {"vary": list(settings.FACTORS), "design": "crossed", "levels": list(levels)}
  crossed = settings.arguments(scale, **few)
  return [*made, _sweep("crossed", crossed, range(math.prod(levels)), seeds)]


def widths(scale: str) -> Sequence[str]:
  """The sweeps of other widths, the smallest first."""
  return [name for name in _RUNS[scale] if name.startswith("width")]


def counts(scale: str) -> Sequence[int]:
  """Smaller numbers of samples, for the bias of the distance."""
  return [int(name.removeprefix("samples")) for name in _RUNS[scale] if name.startswith("samples")]


def _sweep(name: str, arguments: dict[str, Any], runs: range, seeds: dict[str, Any]) -> Sweep:
  return Sweep(
    name, None, runs, lanes="loop", trainer=(settings.RECIPE, arguments), seeds=seeds,
    files={"features": "classifier"},
  )  # fmt: skip
