"""Networks of any library as two plain functions (`objectives.Network`).

  linen module         its collections but the parameters are the state; dropout by rngs
  NNX factory          rngs -> module: its parameters, then all other variables but random state
  Equinox factory      key -> module, or (module, state): inexact arrays, then all other arrays
  (init, apply) pair   init(key, inputs) -> parameters, or (parameters, state)

NNX and Equinox are asked for only if they are loaded already: who has a module of theirs has them.
"""

import inspect
import sys
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from seedlab.errors import UserError
from seedlab.training.objectives import Inputs, Network

# Parameters of a call that say whether the network is trained, and what they are then.
_TRAIN = {
  "train": lambda train: train,
  "training": lambda train: train,
  "is_training": lambda train: train,
  "deterministic": lambda train: not train,
  "use_running_average": lambda train: not train,
  "inference": lambda train: not train,
}


def as_network(made: Any, example: Any, what: str = "network") -> Network:
  """A Network from whatever a library calls one.

  Args:
    made: see above.
    example: a batch of inputs, arrays or ShapeDtypeStructs, of which only shapes are read.
    what: what to call it in errors.

  Raises:
    UserError: no network, one that has its weights already, or one that cannot read the example.
  """
  if isinstance(made, nn.Module):
    return of_linen(made, example, what)
  if isinstance(made, tuple) and len(made) == 2 and all(map(callable, made)):
    return of_pair(*made)
  _refuse_instances(made, what)
  if not callable(made):
    raise UserError(
      f"{what} must be a linen module, an (init, apply) pair, or a function rngs -> NNX module or"
      f" key -> Equinox module, not a {type(made).__name__}"
    )
  if inspect.isclass(made) and issubclass(made, nn.Module):
    raise UserError(f"{what} is the class {made.__name__}: make one of it, {made.__name__}(...)")
  # A class of NNX hides what its __init__ takes.
  if "rngs" in inspect.signature(made.__init__ if inspect.isclass(made) else made).parameters:
    return of_nnx(made)
  return of_equinox(made, what)


def of_linen(module: nn.Module, example: Any, what: str) -> Network:
  """The Network of a linen module.

  Its call may have a parameter `train`, `training`, `deterministic` or `use_running_average`, and
  `mask` (bool[B], False for examples that are padding). Its state is {collection: tree}, or the
  tree alone where that collection is `batch_stats`.
  """
  asked = inspect.signature(type(module).__call__).parameters
  switches = [name for name in _TRAIN if name in asked]

  def said(train: bool, mask: jax.Array | None = None) -> dict[str, Any]:
    words = {name: _TRAIN[name](train) for name in switches}
    return words | ({"mask": mask} if "mask" in asked else {})

  def init(key, inputs):
    variables = module.init(key, *Inputs.of(inputs), **said(False))
    rest = {name: tree for name, tree in variables.items() if name != "params"}
    return variables.get("params", {}), rest.get("batch_stats", {}) if plain else rest

  key = jax.eval_shape(lambda: jax.random.key(0))
  try:
    shapes = jax.eval_shape(
      lambda key, x: module.init(key, *Inputs.of(x), **said(False)), key, example
    )
  except UserError:
    raise
  except Exception as error:
    raise cannot_read(what, example, error) from error
  collections = sorted(set(shapes) - {"params"})
  plain = set(collections) <= {"batch_stats"}

  def apply(params, state, inputs, train, mask, key):
    variables = {"params": params, **({"batch_stats": state} if plain else state)}
    if not train:
      return module.apply(variables, *Inputs.of(inputs), **said(False)), state
    outputs, changed = module.apply(
      variables,
      *Inputs.of(inputs),
      **said(True, mask),
      mutable=collections or ["batch_stats"],
      rngs=None if key is None else {"dropout": key},
    )
    if plain:
      return outputs, changed.get("batch_stats", {})
    return outputs, {**state, **changed}

  return Network(init, apply)


def of_pair(init: Callable[..., Any], apply: Callable[..., Any]) -> Network:
  """The Network of two plain functions.

  init(key, inputs) -> parameters, or (parameters, state). apply(parameters, [state,] inputs) ->
  outputs, or (outputs, state) where there is a state; of `train`, `key` and `mask` it gets, by
  name, those that it has.
  """
  named = inspect.signature(apply).parameters
  with_state = "state" in named

  def begin(key, inputs):
    made = init(key, *Inputs.of(inputs))
    return made if with_state else (made, {})

  def call(params, state, inputs, train, mask, key):
    words = {name: _TRAIN[name](train) for name in _TRAIN if name in named}
    words |= {name: value for name, value in (("key", key), ("mask", mask)) if name in named}
    if not with_state:
      return apply(params, *Inputs.of(inputs), **words), state
    outputs, changed = apply(params, *Inputs.of(inputs), state=state, **words)
    return outputs, changed if train else state

  return Network(begin, call)


def of_nnx(factory: Callable[..., Any]) -> Network:
  """The Network of rngs -> NNX module.

  Random state (of dropout) is no part of what is carried: it is set from the key of each step.
  """
  from flax import nnx

  abstract = nnx.eval_shape(lambda: factory(nnx.Rngs(0)))
  graph, *_ = nnx.split(abstract, nnx.Param, nnx.RngState, ...)
  asked = inspect.signature(type(abstract).__call__).parameters

  def init(key, inputs):
    del inputs
    module = factory(nnx.Rngs(params=key, dropout=jax.random.fold_in(key, 1)))
    _, params, _, rest = nnx.split(module, nnx.Param, nnx.RngState, ...)
    return nnx.to_pure_dict(params), nnx.to_pure_dict(rest)

  _, like_params, like_random, like_rest = nnx.split(abstract, nnx.Param, nnx.RngState, ...)

  def apply(params, state, inputs, train, mask, key):
    filled = []
    for like, pure in ((like_params, params), (like_rest, state)):
      like = jax.tree.map(lambda leaf: leaf, like)
      nnx.replace_by_pure_dict(like, pure)
      filled.append(like)
    random = _random_state(like_random, key)
    module = nnx.merge(graph, filled[0], random, filled[1])
    module.train() if train else module.eval()
    words = {name: _TRAIN[name](train) for name in _TRAIN if name in asked}
    if "rngs" in asked and key is not None:
      words["rngs"] = nnx.Rngs(default=key, dropout=key)
    if "mask" in asked:
      words["mask"] = mask
    outputs = module(*Inputs.of(inputs), **words)
    if not train:
      return outputs, state
    _, _, _, rest = nnx.split(module, nnx.Param, nnx.RngState, ...)
    return outputs, nnx.to_pure_dict(rest)

  return Network(init, apply)


def _random_state(like: Any, key: jax.Array | None) -> Any:
  """NNX's random state with keys from `key` and counts of zero."""
  key = jax.random.key(0) if key is None else key
  number = 0

  def fill(leaf):
    nonlocal number
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      number += 1
      return jax.random.fold_in(key, number)
    return jnp.zeros(leaf.shape, leaf.dtype)

  return jax.tree.map(fill, like)


def of_equinox(factory: Callable[..., Any], what: str) -> Network:
  """The Network of key -> Equinox module, or key -> (module, state) as `make_with_state` gives.

  The module reads one example; a batch is vmapped over, under the axis name "batch". Its call may
  have a parameter `key`.
  """
  key = jax.eval_shape(lambda: jax.random.key(0))
  try:
    import equinox as eqx
  except ImportError:
    eqx = None
  try:
    abstract = eqx.filter_eval_shape(factory, key) if eqx else jax.eval_shape(factory, key)
  except Exception as error:
    raise UserError(
      f"{what}: {getattr(factory, '__name__', factory)!r} was called with a key and failed"
      f" ({type(error).__name__}: {_first_line(error)}); it must be a function rngs -> NNX module"
      " or key -> Equinox module"
    ) from error
  stateful = isinstance(abstract, tuple) and len(abstract) == 2
  module = abstract[0] if stateful else abstract
  if eqx is None or not isinstance(module, eqx.Module):
    raise UserError(
      f"{what}: a function of a key must return an Equinox module, not a {type(module).__name__}"
    )
  draws = "key" in inspect.signature(type(module).__call__).parameters
  kept_like = abstract[1] if stateful else None
  _, fixed_module = eqx.partition(module, _is_struct)
  _, fixed_kept = eqx.partition(kept_like, _is_struct)

  def init(key, inputs):
    del inputs
    made, kept = factory(key) if stateful else (factory(key), None)
    arrays, _ = eqx.partition(made, eqx.is_array)
    params, buffers = eqx.partition(arrays, eqx.is_inexact_array)
    return params, (buffers, eqx.partition(kept, eqx.is_array)[0])

  def apply(params, state, inputs, train, mask, key):
    del mask
    buffers, kept = state
    module = eqx.combine(params, buffers, fixed_module)
    module = eqx.nn.inference_mode(module, not train)
    kept = eqx.combine(kept, fixed_kept)
    keys = None
    if draws and key is not None:
      keys = jax.random.split(key, jax.tree.leaves(inputs)[0].shape[0])

    def one(x, key):
      words = {"key": key} if draws else {}
      x = Inputs.of(x)
      return module(*x, kept, **words) if stateful else (module(*x, **words), None)

    axes = (0, None if keys is None else 0)
    mapped = jax.vmap(one, in_axes=axes, out_axes=(0, None), axis_name="batch")
    outputs, changed = mapped(inputs, keys)
    if not (train and stateful):
      return outputs, state
    return outputs, (buffers, eqx.partition(changed, eqx.is_array)[0])

  return Network(init, apply)


def cannot_read(what: str, example: Any, error: Exception) -> UserError:
  """The error for a network that fails on the shapes of its inputs."""
  shapes = ", ".join(f"{leaf.dtype}{list(leaf.shape)}" for leaf in jax.tree.leaves(example))
  return UserError(
    f"{what} cannot read a batch of {shapes} ({type(error).__name__}: {_first_line(error)})"
  )


def _refuse_instances(made: Any, what: str) -> None:
  """An NNX or Equinox module has its weights already, so that seeds could not vary them."""
  for library, module in (("flax.nnx", "flax.nnx"), ("equinox", "equinox")):
    loaded = sys.modules.get(module)
    if loaded and isinstance(made, loaded.Module):
      argument = "rngs" if library == "flax.nnx" else "key"
      raise UserError(
        f"{what} is a {type(made).__name__} that has its weights already, and every run draws its"
        f" own: pass a function of {argument} that makes one, lambda {argument}:"
        f" {type(made).__name__}(..., {argument}={argument})"
      )


def _is_struct(leaf: Any) -> bool:
  return isinstance(leaf, jax.ShapeDtypeStruct)


def _first_line(error: Exception) -> str:
  return (str(error).strip().splitlines() or [""])[0][:160]
