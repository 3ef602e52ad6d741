"""The one seam everything plugs into: how ONE run is trained, and what its outcomes mean."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import numpy as np

from seedlab.errors import UserError

EVALUATION = "evaluation"
Better = Literal["higher", "lower"]

State = Any  # any tree of arrays; typed keys and static fields are no obstacle
Data = Any  # a tree of host arrays


@dataclasses.dataclass(frozen=True)
class Metric:
  """One outcome of a run: how it is stored, and what it means.

  Attributes:
    dims: the dimensions it is stored under, after `run`. A metric whose first dimension is
      "evaluation" is kept at every evaluation, any other one at the end alone.
    better: "higher" or "lower", the direction of improvement; None where it has none, and then no
      report says which of two values is better.
    unit: e.g. "nats"; None for shares and counts.
  """

  dims: tuple[str, ...] = (EVALUATION,)
  better: Better | None = None
  unit: str | None = None

  def __post_init__(self):
    if self.better not in (None, *get_args(Better)):
      raise UserError(f"Metric.better={self.better!r} must be 'higher', 'lower' or None")
    if isinstance(self.dims, str):
      raise UserError(f"Metric.dims={self.dims!r} must be a tuple of names: ({self.dims!r},)")


@dataclasses.dataclass(frozen=True)
class Trainer:
  """Functions that train one run; the engine maps them over runs and never looks inside.

  Everything but `load` and `feed` is pure and traced. A random number may depend
  on keys, step and data alone, never on history: a run then does not depend on
  how its steps are cut into segments.

  Attributes:
    plan: the steps after which a run is evaluated, ascending; the last one ends it.
    load: () -> data, a tree of host arrays shared by all runs.
    init: (keys, data) -> state; `keys` is a `streams.Keys`. A state is any tree of arrays. Of its
      leaves those below a field or an entry `params` are what `replay` saves, else all of them.
    advance: (state, keys, data, fed, first, steps) -> (state, log): the steps
      first, ..., first + steps - 1. Both are int32 scalars, traced and equal in
      all lanes, so loop with `lax.fori_loop(first, first + steps, ...)`.
      log["diverged"] is int32: the first of these steps that left a loss or a
      parameter non-finite, or -1.
    evaluate: (state, keys, data) -> {name: array}. What a trained model samples is drawn by
      `keys.generate`, draw number k by fold_in(generate, k).
    metrics: {name: Metric} for every outcome of `evaluate`. The first one that is one number
      per run is the headline of reports.
    feed: (seeds, first, steps) -> tree of host arrays, for data too large for the
      device: what `advance` gets as `fed`. A function of its arguments alone
      (seeds: uint32, one per stream); called ahead of time from another thread.
    period: segments never cross a multiple of it (an epoch), so what belongs to an
      epoch can be drawn once at the head of `advance`.
    coords: {name: (dimension, array)}: labels of the stored dimensions.
    evaluated_on: () -> a tree of host arrays, the frozen examples of `evaluate`. Sweeps are
      compared only where its digest, kept in their manifests, is the same. None: the leaves of
      the data that `evaluate` reads, be they of the test set or beside it.
  """

  plan: tuple[int, ...]
  load: Callable[[], Data]
  init: Callable[..., State]
  advance: Callable[..., tuple[State, dict[str, Any]]]
  evaluate: Callable[..., dict[str, Any]]
  metrics: Mapping[str, Metric]
  feed: Callable[..., Any] | None = None
  period: int | None = None
  coords: Mapping[str, tuple[str, np.ndarray]] = dataclasses.field(default_factory=dict)
  evaluated_on: Callable[[], Any] | None = None

  def __post_init__(self):
    for name, metric in self.metrics.items():
      if not isinstance(metric, Metric):
        raise UserError(
          f"Trainer.metrics[{name!r}] is a {type(metric).__name__}; it must be a seedlab.Metric"
        )
    if not self.plan or list(self.plan) != sorted(set(self.plan)) or self.plan[0] < 0:
      raise UserError(f"Trainer.plan={self.plan!r} must be ascending steps, at least one")
    if self.period is not None and self.period < 1:
      raise UserError(f"Trainer.period={self.period!r} must be at least 1 or None")


def check_same_tree(before: Any, after: Any, what: str) -> None:
  """Raises UserError naming the first leaf in which `after` is another tree than `before`.

  Args:
    before: the tree that was given; leaves have `shape` and `dtype`.
    after: the tree that came back.
    what: who returned it, e.g. "Trainer.advance".
  """
  given, returned = (_leaves(tree) for tree in (before, after))
  for path in [*given, *returned]:
    if given.get(path) != returned.get(path):
      was, now = (found.get(path, "missing") for found in (given, returned))
      raise UserError(
        f"{what} returned another tree than it was given: {path or 'the state'} was {was} and is"
        f" {now}; return the same structure, shapes and dtypes"
      )


def _leaves(tree: Any) -> dict[str, str]:
  """{path: dtype[shape]} of a tree."""
  import jax  # late: the parent process of a sweep imports this module, and never starts JAX
  import jax.numpy as jnp

  found = {}
  for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
    dtype = getattr(leaf, "dtype", None) or jnp.result_type(leaf)
    shape = ", ".join(map(str, jnp.shape(leaf)))
    found[jax.tree_util.keystr(path)] = f"{dtype}[{shape}]"
  return found
