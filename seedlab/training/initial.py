"""Saved parameters: to start from instead of drawn ones, or of a teacher."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seedlab import streams
from seedlab.config import STREAMS, Model
from seedlab.errors import UserError
from seedlab.models import pretrained
from seedlab.models.pretrained import is_fresh, some
from seedlab.trainer import Trainer


def start_from(
  trainer: Trainer,
  model: Model,
  module: Callable[[], Any] | None = None,
  image_shape: tuple[int, ...] = (),
) -> Trainer:
  """`trainer`, whose runs begin with the parameters in the file `model.initial`.

  The file is of our own parameters, or of a public network (`models/pretrained.py`). They
  travel with the data: shared by all lanes, and part of the data's digest. Those that
  `model.fresh` names are drawn from the `init` stream as ever, e.g. the last layer for other
  classes. Batch norm's running statistics are those of a public network; our own files
  have none, and they start afresh, as the optimizer always does.

  Args:
    trainer: of the same training without the file.
    model: the section, whose `initial` and `fresh` are read.
    module: () -> the network; None if it is none whose public names are known.
    image_shape: (H, W, C).

  Raises:
    UserError: no such file, or parameters in it that do not fit, by name.
  """
  read = pretrained.load("model.initial", model.initial)
  shapes = _shapes(trainer)
  wanted = {name for name in shapes if not is_fresh(name, model.fresh)}
  for prefix in model.fresh:
    if not any(is_fresh(name, (prefix,)) for name in shapes):
      raise UserError(
        f"model.fresh={prefix!r} begins the name of no parameter; there are {some(shapes)}"
      )
  statistics = {}
  if module and not set(read) & set(shapes):
    layout = pretrained.layout_of(model.initial, read)
    said = {"file": model.initial, "name": model.name, "fresh": model.fresh}
    read, statistics = pretrained.convert(layout, read, module(), image_shape, **said)
  problems = [f"{name} is missing" for name in wanted if name not in read]
  problems += [f"{name} is not of this network" for name in read if name not in shapes]
  problems += [
    f"{name} is {list(read[name].shape)} and not {list(shapes[name].shape)}"
    for name in wanted
    if name in read and read[name].shape != shapes[name].shape
  ]
  if problems:
    network = f"model.name={model.name!r}" if module else "the network"
    raise UserError(
      f"model.initial={model.initial!r} does not fit {network}: {some(sorted(problems))}; name the"
      " layers to be drawn anew in model.fresh, or take the network that the file is of"
    )
  given = {name: read[name].astype(shapes[name].dtype) for name in sorted(wanted)}

  def init(keys, data):
    state = trainer.init(keys, data["data"])
    params = _replaced(state.params, data["initial"])
    batch_stats = _replaced(state.batch_stats, data["statistics"])
    average = params if jax.tree.leaves(state.average) else state.average
    return state._replace(params=params, batch_stats=batch_stats, average=average)

  def advance(state, keys, data, fed, first, steps):
    return trainer.advance(state, keys, data["data"], fed, first, steps)

  return dataclasses.replace(
    trainer,
    load=lambda: {"data": trainer.load(), "initial": given, "statistics": statistics},
    init=init,
    advance=advance,
    evaluate=lambda state, keys, data: trainer.evaluate(state, keys, data["data"]),
  )


def of_fresh(updates: Any, fresh: tuple[str, ...], probing: jax.Array) -> Any:
  """`updates`, zero but for the parameters that `fresh` names while `probing`."""

  def kept(path, update):
    return update if is_fresh(_name(path), fresh) else jnp.where(probing, 0, update)

  return jax.tree_util.tree_map_with_path(kept, updates)


def teacher(file: str, drawn: Callable[[jax.Array], tuple[Any, Any]]) -> Any:
  """The parameters in the file `training.teacher`, as a tree like those that are trained.

  Args:
    file: the field's value.
    drawn: key -> (parameters, running statistics) of the network, which the teacher shares.

  Raises:
    UserError: no such file, parameters of another network, or a network with running
      statistics, which no file of parameters holds.
  """
  read = pretrained.load("training.teacher", file)
  params, batch_stats = jax.eval_shape(
    drawn, jax.eval_shape(lambda: jax.random.key(0, impl=streams.IMPLEMENTATION))
  )
  if jax.tree.leaves(batch_stats):
    raise UserError(
      f"training.teacher={file!r} holds no running statistics, which model.norm='batch' needs to"
      " predict; take a network without"
    )
  leaves, structure = jax.tree_util.tree_flatten_with_path(params)
  wanted = {_name(path): leaf for path, leaf in leaves}
  problems = [
    name
    for name in {**wanted, **read}
    if name not in wanted or name not in read or read[name].shape != wanted[name].shape
  ]
  if problems:
    raise UserError(
      f"training.teacher={file!r} is of another network: {some(sorted(problems))}; take a file of"
      " the same model"
    )
  arrays = [np.asarray(read[name], leaf.dtype) for name, leaf in wanted.items()]
  return jax.tree.unflatten(structure, arrays)


def _replaced(drawn: Any, given: dict[str, jax.Array]) -> Any:
  return jax.tree_util.tree_map_with_path(lambda path, x: given.get(_name(path), x), drawn)


def _shapes(trainer: Trainer) -> dict[str, jax.ShapeDtypeStruct]:
  seeds = jax.ShapeDtypeStruct((len(STREAMS),), np.uint32)
  state = jax.eval_shape(
    lambda seeds, data: trainer.init(streams.derive(seeds), data), seeds, trainer.load()
  )
  leaves = jax.tree_util.tree_flatten_with_path(state.params)[0]
  return {_name(path): leaf for path, leaf in leaves}


def _name(path) -> str:
  return jax.tree_util.keystr(path, simple=True, separator="/")
