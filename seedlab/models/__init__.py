"""The networks a config can name: the functions that the files here list in `__all__`.

Each takes facts of the run (keyword arguments without a default: classes, shape, fields, dtype,
platform, activation) and options (with one), and returns a flax module, to be called as

  module.apply(variables, images, train, mask) -> logits

with images float[B, H, W, C] (computed in their dtype), `train` a Python bool (batch norm uses the
batch's statistics, and records them in the collection `batch_stats` when that is mutable), `mask`
bool[B] or None (False for the padding of an incomplete batch; batch norm skips it), logits
float32[B, classes] (of `picard` float16 if the images are). Of `ctr` and `ctr_ovadia` rows
int32[B, F] take the place of the images. With dropout above 0, training needs
rngs={"dropout": key} too.

Where several read it, `width` is the hidden units of multilayer perceptrons (`ctr` halves them
layer by layer), the features of a Transformer, and the channels of the first layer of all others;
`depth` the number of hidden layers or of Transformer blocks; `norm` what normalises behind each
layer (`layers.normalise`); `convolution` how convolutions are computed (`layers.conv`).
"""

import importlib
import inspect
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from seedlab import activations
from seedlab.config import Model
from seedlab.data.fields import Field
from seedlab.errors import UserError, choice_error

_FILES = "cells chain cnn ctr densenet mlp picard resnet resnet9 vgg vit"


def build(
  model: Model,
  classes: int,
  image_shape: tuple[int, ...],
  platform: str = "cpu",
  fields: Sequence[Field] = (),
) -> nn.Module:
  """The network of a config: its function, with those facts and fields that it has."""
  files = [importlib.import_module(f"seedlab.models.{file}") for file in _FILES.split()]
  known = {name: getattr(file, name) for file in files for name in file.__all__}
  if model.name not in known:
    raise choice_error("model.name", model.name, known)
  wanted = inspect.signature(known[model.name]).parameters
  if fields and "fields" not in wanted:
    raise UserError(
      f"model.name={model.name!r} is for images, and the data are rows of clicks; take 'ctr'"
    )
  for field, unset in (("dropout", 0.0), ("gain", "he"), ("head", "usual")):
    if field not in wanted and getattr(model, field) != unset:
      readers = [name for name in known if field in inspect.signature(known[name]).parameters]
      raise UserError(
        f"model.{field}={getattr(model, field)!r} is not read by model.name={model.name!r}, only by"
        f" {', '.join(readers)}; set it to {unset!r}"
      )
  given = vars(model) | {
    "classes": classes,
    "shape": image_shape,
    "fields": tuple(fields),
    "dtype": jnp.dtype(model.precision),
    "platform": platform,
    "activation": activations.by_name(model.activation, dict(model.activation_kwargs)),
  }
  return known[model.name](**{name: given[name] for name in wanted})


def held_in(precision: str, params: Any) -> Any:
  """`params` in the dtypes in which they are trained: float32, or float16 but for those of norms.

  Args:
    precision: `model.precision`; of "bfloat16" the parameters are float32.
    params: a tree of float32 arrays, norms in modules whose names say so, as flax's do.
  """
  if precision != "float16":
    return params

  def cast(path, leaf):
    return leaf if "Norm" in jax.tree_util.keystr(path) else leaf.astype(jnp.float16)

  return jax.tree_util.tree_map_with_path(cast, params)
