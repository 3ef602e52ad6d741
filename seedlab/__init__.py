"""seedlab: how much of a result is the seed?

  import seedlab
  dataset = seedlab.sweep(config, runs=range(1000), out="out/digits")
  seedlab.replay("out/digits", run=417).exact
  seedlab.open("out/digits")  # an xarray.Dataset
  seedlab.compare(["out/a", "out/b"])

Importing seedlab starts no JAX backend; the names below load on first use.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOME = {
  "Config": "config",
  "Metric": "trainer",
  "Trainer": "trainer",
  "UserError": "errors",
  "compare": "comparisons",
  "open": "records",
  "plan": "sweeps",
  "replay": "replaying",
  "sweep": "sweeps",
}
__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
  if name not in _HOME:
    raise AttributeError(f"module 'seedlab' has no attribute {name!r}")
  return getattr(importlib.import_module(f"seedlab.{_HOME[name]}"), name)
