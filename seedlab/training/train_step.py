"""A train step, or a whole training function, that somebody brings, as a Trainer."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from seedlab import streams, training
from seedlab.config import Config
from seedlab.data import Dataset
from seedlab.errors import UserError
from seedlab.trainer import EVALUATION, Metric, Trainer, check_same_tree
from seedlab.training import checks, poke
from seedlab.training import cut as cuts
from seedlab.training import examples as sources
from seedlab.training.supervised import classes_of

_STEP = {2: "(state, batch)", 3: "(state, batch, key)"}
_EVALUATE = {2: "(state, test)", 3: "(state, test, key)"}


class Given(NamedTuple):
  """What `recipe.from_train_step` was called with."""

  init: Callable[..., Any]
  train_step: Callable[..., Any]
  evaluate: Callable[..., Any]
  dataset: Dataset  # test_image is the whole of what `evaluate` gets
  pair: bool  # whether a batch is a pair (x, y)
  meanings: Mapping[str, Metric]
  params: Callable[[Any], Any] | None
  config: Config


class State(NamedTuple):
  """What one run carries from step to step."""

  state: Any  # as `init` makes it
  examples: sources.Held


class Functions(NamedTuple):
  """The user's functions on a state of arrays alone."""

  init: Callable[..., Any]  # key -> state
  step: Callable[..., Any]  # (state, batch, key) -> (state, loss or None)
  evaluate: Callable[..., Any]  # (state, test, key) -> outcome
  params: Callable[[Any], Any]  # state -> its parameters


def make(given: Given) -> Trainer:
  """The Trainer; raises UserError for what cannot be trained."""
  config, dataset = given.config, given.dataset
  layout = training.laid_out(config, dataset, classes_of(config, dataset.train_label))
  functions = _functions(given)
  metrics = _checked(given, functions, layout.cut.batch_size)
  moved = _poked(config, functions)

  def init(keys, data):
    return State(functions.init(keys.init), layout.source.init(keys, data))

  def advance(state, keys, data, fed, first, steps):
    order = None
    if not layout.cut.listed:
      order = cuts.in_order(config.data, keys, first // layout.cut.epoch_steps, layout.cut.examples)

    def body(number, carry):
      state, diverged = carry
      epoch = number // layout.cut.epoch_steps
      places, _ = cuts.of_step(layout.cut, config.data, keys, number, epoch, order)
      drawn = layout.source.draw(state.examples, keys, data, fed, number, first, places)
      batch = (drawn.image, drawn.label) if given.pair else drawn.image
      inner = moved(state.state, keys.poke, number)
      inner, loss = functions.step(inner, batch, streams.at_step(keys.noise, number))
      finite = _finite((functions.params(inner), loss))
      state = state._replace(state=inner)
      return state, jnp.where((diverged < 0) & ~finite, number, diverged)

    state, diverged = lax.fori_loop(first, first + steps, body, (state, jnp.int32(-1)))
    held = layout.source.settle(state.examples, keys, data, fed, first + steps)
    return state._replace(examples=held), {"diverged": diverged}

  def evaluate(state, keys, data):
    return functions.evaluate(state.state, data.test_image, keys.generate)

  return Trainer(
    plan=layout.plan,
    load=functools.cache(lambda: sources.on_device(dataset)),
    init=init,
    advance=advance,
    evaluate=evaluate,
    metrics=metrics,
    coords=_labels(dataset.test_image),
    feed=layout.source.feed,
    period=training.period(config, layout),
    evaluated_on=lambda: dataset.test_image,
  )


def _labels(test: Any) -> dict[str, Any]:
  """The labels of the test examples, where `test` is a pair whose second part is such."""
  label = test[1] if isinstance(test, tuple) and len(test) == 2 else None
  whole = isinstance(label, np.ndarray) and label.ndim == 1 and label.dtype.kind in "iu"
  return {"label": ("example", label)} if whole else {}


def of_function(train: Callable[..., Any], meanings: Mapping[str, Metric]) -> Trainer:
  """The Trainer of a function (keys) or (key) -> {metric: value}: one step that does everything."""
  checks.positional("train", train, {1: "(key) or (keys)"})
  named = list(checks.parameters(train))[:1] == ["keys"]

  def outcome_of(keys):
    return train(keys if named else keys.init)

  keys = streams.Keys(*[checks.key_like()] * len(streams.Keys._fields))
  outcome, _ = checks.traced("train", outcome_of, keys)
  if not isinstance(outcome, Mapping) or not outcome:
    raise UserError(f"train returned a {type(outcome).__name__}; it must return {{metric: value}}")
  metrics = _meant(outcome, meanings, None, (EVALUATION,))

  def init(keys, data):
    del keys, data
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), dict(outcome))

  def advance(state, keys, data, fed, first, steps):
    del state, data, fed, first, steps
    trained = dict(outcome_of(keys))
    return trained, {"diverged": jnp.where(_finite(trained), -1, 0)}

  return Trainer(
    plan=(1,),
    load=dict,
    init=init,
    advance=advance,
    evaluate=lambda state, keys, data: state,
    metrics=metrics,
  )


def _functions(given: Given) -> Functions:
  """The user's functions; NNX objects by split and merge."""
  steps = checks.positional("train_step", given.train_step, _STEP)
  evaluates = checks.positional("evaluate", given.evaluate, _EVALUATE)
  checks.positional("init", given.init, {1: "(key)"})
  named = given.params or _params

  def take(state, batch, key):
    return given.train_step(*(state, batch, key)[:steps])

  def measure(state, test, key):
    return given.evaluate(*(state, test, key)[:evaluates])

  with checks.watched("init"), checks.answered("init"):
    objects = _nnx_objects(given.init)
  if objects is None:
    return Functions(given.init, lambda *seen: _parted(seen[0], take(*seen)), measure, named)
  from flax import nnx

  graph, _ = nnx.split(objects)

  def init(key):
    return nnx.split(given.init(key))[1]

  def step(state, batch, key):
    merged = nnx.merge(graph, state)
    returned = take(merged, batch, key)
    ours, logs = returned if isinstance(returned, tuple) and len(returned) == 2 else (returned, {})
    if not _has_nnx(ours):  # they were changed in place, and these are logs
      ours, logs = merged, returned
    return nnx.split(ours)[1], _loss(logs)

  def evaluate(state, test, key):
    return measure(nnx.merge(graph, state), test, key)

  def params(state):
    if given.params is None:
      return nnx.filter_state(state, nnx.Param)
    return nnx.state(given.params(nnx.merge(graph, state)), nnx.Param)

  return Functions(init, step, evaluate, params)


def _nnx_objects(init: Callable[..., Any]) -> Any:
  """What `init` makes, as shapes, if there are NNX objects in it; else None."""
  import sys

  if "flax.nnx" not in sys.modules:  # who makes one has loaded it
    return None
  from flax import nnx

  made = nnx.eval_shape(lambda: init(jax.random.key(0)))
  return made if _has_nnx(made) else None


def _has_nnx(tree: Any) -> bool:
  from flax import nnx

  found = jax.tree.leaves(tree, is_leaf=lambda leaf: isinstance(leaf, nnx.Module | nnx.Optimizer))
  return any(isinstance(leaf, nnx.Module | nnx.Optimizer) for leaf in found)


def _parted(before: Any, returned: Any) -> tuple[Any, Any]:
  """(state, loss or None) of what a train step returned."""
  if jax.tree.structure(returned) == jax.tree.structure(before):
    return returned, None
  if type(returned) is tuple and len(returned) == 2:
    return returned[0], _loss(returned[1])
  return returned, None


def _loss(logs: Any) -> Any:
  if isinstance(logs, Mapping):
    return logs.get("loss")
  scalar = logs is not None and hasattr(logs, "dtype") and not jnp.shape(logs)
  return logs if scalar else None


def _params(state: Any) -> Any:
  """The field or entry `params`; the whole state where there is none."""
  if isinstance(state, Mapping):
    return state.get("params", state)
  return getattr(state, "params", state)


def _finite(tree: Any) -> jax.Array:
  """Whether all floats of a tree are."""
  finite = [
    jnp.isfinite(leaf.sum(dtype=jnp.float32))
    for leaf in map(jnp.asarray, jax.tree.leaves(tree))
    if jnp.issubdtype(leaf.dtype, jnp.floating)
  ]
  return jnp.stack(finite).all() if finite else jnp.bool_(True)


def _checked(given: Given, functions: Functions, batch_size: int) -> dict[str, Metric]:
  """Traces everything once; returns the outcomes and what they mean."""
  key = checks.key_like()
  state, _ = checks.traced("init", functions.init, key)
  dataset = given.dataset
  image, label = jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct((batch_size, *leaf.shape[1:]), leaf.dtype),
    (dataset.train_image, dataset.train_label),
  )
  batch = (image, label) if given.pair else image
  (after, _), _ = checks.traced("train_step", functions.step, state, batch, key)
  check_same_tree(state, after, "train_step")
  test = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), dataset.test_image)
  outcome, _ = checks.traced("evaluate", functions.evaluate, state, test, key)
  if not isinstance(outcome, Mapping) or not outcome:
    raise UserError(f"evaluate returned a {type(outcome).__name__}; it must return {{name: value}}")
  examples = jax.tree.leaves(dataset.test_image)[0].shape[:1]
  return _meant(outcome, given.meanings, examples, (EVALUATION,))


def _meant(outcome, meanings: Mapping[str, Metric], examples: Any, every) -> dict[str, Metric]:
  """{name: Metric}: those whose meaning was said first."""
  for name in meanings:
    if name not in outcome:
      raise UserError(f"metrics names {name!r}, and the outcomes are {', '.join(outcome)}")
  found = {}
  for name in [*meanings, *(name for name in outcome if name not in meanings)]:
    metric = meanings.get(name, Metric(every))
    shape = outcome[name].shape
    if shape and metric.dims == every:
      dims = ("example",) if shape == examples else tuple(f"{name}_{n}" for n in range(len(shape)))
      metric = Metric(dims, metric.better, metric.unit)
    found[name] = metric
  return found


def _poked(config: Config, functions: Functions) -> Callable[..., Any]:
  """(state, key, step) -> the state, in which one weight is moved if it is `poke_step`."""
  if config.training.poke_step is None:
    return lambda state, key, number: state

  def moved(state, key, number):
    leaves, structure = jax.tree.flatten(state)
    # The getter, asked of a tree of numbers, says which leaves are parameters.
    numbers = jax.tree.leaves(functions.params(jax.tree.unflatten(structure, range(len(leaves)))))
    if len(numbers) == len(leaves):
      raise UserError(
        f"poke_step={config.training.poke_step} moves a parameter, and the state has no field or"
        " entry `params`: say where they are, params=lambda state: ..."
      )
    chosen = poke.move(config.training, [leaves[n] for n in numbers], key, number)
    for n, leaf in zip(numbers, chosen, strict=True):
      leaves[n] = leaf
    return jax.tree.unflatten(structure, leaves)

  return moved
