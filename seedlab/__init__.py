"""seedlab: how much of a result is the seed?

  import seedlab
  dataset = seedlab.sweep(config, runs=range(1000), out="out/digits")
  seedlab.replay("out/digits", run=417).exact
  seedlab.open("out/digits")  # an xarray.Dataset
  seedlab.compare(["out/a", "out/b"])

Importing seedlab starts no JAX backend; the names below load on first use.
"""

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = [
  "Config",
  "Metric",
  "Recipe",
  "Trainer",
  "UserError",
  "audit",
  "compare",
  "from_train_step",
  "function",
  "grid",
  "judge",
  "merge",
  "open",
  "plan",
  "replay",
  "supervised",
  "sweep",
  "verify",
]

if TYPE_CHECKING:
  from seedlab.audits import audit
  from seedlab.comparisons import compare
  from seedlab.config import Config
  from seedlab.errors import UserError
  from seedlab.grids import grid
  from seedlab.merging import merge
  from seedlab.planning import plan
  from seedlab.recipe import Recipe, from_train_step, function, supervised
  from seedlab.records import open
  from seedlab.referee import judge
  from seedlab.replaying import replay
  from seedlab.sweeps import sweep
  from seedlab.trainer import Metric, Trainer
  from seedlab.verifying import verify
else:
  _HOME = {
    "Config": "config",
    "Metric": "trainer",
    "Recipe": "recipe",
    "Trainer": "trainer",
    "UserError": "errors",
    "audit": "audits",
    "compare": "comparisons",
    "from_train_step": "recipe",
    "function": "recipe",
    "grid": "grids",
    "judge": "referee",
    "merge": "merging",
    "open": "records",
    "plan": "planning",
    "replay": "replaying",
    "supervised": "recipe",
    "sweep": "sweeps",
    "verify": "verifying",
  }

  def __getattr__(name):
    import importlib

    if name not in _HOME:
      raise AttributeError(f"module 'seedlab' has no attribute {name!r}")
    return getattr(importlib.import_module(f"seedlab.{_HOME[name]}"), name)


def __dir__() -> list[str]:
  return [*__all__, "__version__"]
