"""The networks a config can name."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from seedlab import activations
from seedlab.config import Model
from seedlab.data.fields import Field, columns
from seedlab.errors import UserError, choice_error
from seedlab.models import chain
from seedlab.models.cells import Cells
from seedlab.models.chain import Chain
from seedlab.models.cnn import CNN
from seedlab.models.ctr import CTR, Ovadia
from seedlab.models.densenet import DenseNet
from seedlab.models.mlp import MLP
from seedlab.models.picard import Picard
from seedlab.models.resnet import ResNet
from seedlab.models.resnet9 import ResNet9
from seedlab.models.vgg import VGG
from seedlab.models.vit import ViT

# Those that average or stride in their shortcut, as `model.shortcut` says.
_RESNETS = {
  "resnet18": {"blocks": (2, 2, 2, 2)},
  "resnet50": {"blocks": (3, 4, 6, 3), "bottleneck": True},
  "resnet152": {"blocks": (3, 8, 36, 3), "bottleneck": True},
}
_STRIDED_RESNETS = {
  "preresnet18": {"blocks": (2, 2, 2, 2), "preactivation": True, "pytorch": True},
  "wrn28": {
    "blocks": (4, 4, 4),
    "preactivation": True,
    "final_norm": True,
    "stem": 16,
    "zero_bias": True,
  },
  "resnext29": {"blocks": (3, 3, 3), "bottleneck": True, "groups": 8, "zero_bias": True},
  "imagenet_resnet50": {"blocks": (3, 4, 6, 3), "bottleneck": True, "large": True},
}
# Whose shortcut subsamples and adds features of zero.
_PADDED_RESNETS = {"resnet14": {"blocks": (2, 2, 2), "zero_scale": True}}
_DENSENETS = {
  "densenet40": {"blocks": (12, 12, 12), "compact": False},
  "densenet121": {"blocks": (6, 12, 24, 16)},
}
# Convolutions of each stage.
_VGGS = {
  "vgg11": (1, 1, 2, 2, 2),
  "vgg13": (2, 2, 2, 2, 2),
  "vgg16": (2, 2, 3, 3, 3),
  "vgg19": (2, 2, 4, 4, 4),
}
_CHAINS = {
  "mcnn": {"layers": chain.MCNN, "biases": True, "global_max": True},
  "alexnet": {"layers": chain.ALEXNET, "biases": True},
  "dconv": {"layers": chain.DCONV, "hidden": 64},
  "dconv_fc": {"layers": chain.DCONV, "hidden": 64, "connection": "full"},
  "dconv_l": {"layers": chain.DCONV, "hidden": 64, "connection": "local"},
}
_ON_ROWS = ("ctr", "ctr_ovadia")
_WITH_DROPOUT = ("mlp", "mlp_pytorch", "dconv", "dconv_fc", "dconv_l", *_ON_ROWS)
_WITH_GAIN = ("mlp", "ctr")
_WITH_HEAD = ("imagenet_resnet50", "vit_s16")
# Of vit_s16: a wrong number of heads would take pretrained weights and say nothing.
_HEAD_FEATURES = 64
_PATCH = 16
# Pixels a side that leave at least one pixel behind every halving, for all names there are.
_SMALLEST_SIDE = {
  "mlp": 1,
  "mlp_pytorch": 1,
  "cnn": 1,
  "resnet9": 11,  # its last convolution, unpadded, then still finds its 3x3 window
  "picard": 16,
  **dict.fromkeys(_RESNETS, 8),
  **dict.fromkeys((*_STRIDED_RESNETS, *_PADDED_RESNETS), 1),
  "densenet40": 4,
  "densenet121": 8,
  **dict.fromkeys(_VGGS, 32),
  **dict.fromkeys(_CHAINS, 1),
  "mcnn": 4,
  "alexnet": 29,  # the first convolution leaves a fourth of it, rounded up
  "vit": 1,
  "vit_s16": 1,
  "cells": 1,
}


def build(
  model: Model,
  classes: int,
  image_shape: tuple[int, ...],
  platform: str = "cpu",
  fields: Sequence[Field] = (),
) -> nn.Module:
  """The network of a config, to be called as

    module.apply(variables, images, train, mask) -> logits

  with images float[B, H, W, C] (computed in their dtype), `train` a Python bool
  (batch norm uses the batch's statistics, and records them in the collection
  `batch_stats` when that is mutable), `mask` bool[B] or None (False for the
  padding of an incomplete batch; batch norm skips it), logits float32[B, classes]
  (of `picard` float16 if the images are).
  On rows int32[B, F] takes the place of the images, and it computes in
  model.precision. With model.dropout above 0, training needs rngs={"dropout": key} too.

  Args:
    model: names, sizes and the activation.
    classes: width of the output.
    image_shape: (H, W, C) of one picture, or (F,) of a row.
    platform: where it will run, as jax.default_backend() names it; with
      model.convolution="auto" it decides the lowering (`layers.lowering_for`).
    fields: what the columns of a row are; none for pictures.

  Raises:
    UserError: an unknown name or parameter, a size the network cannot have,
      pictures too small for it, or rows instead of pictures or the other way round.
  """
  if model.name not in (*_SMALLEST_SIDE, *_ON_ROWS):
    raise choice_error("model.name", model.name, (*_SMALLEST_SIDE, *_ON_ROWS))
  _check_kind(model, fields)
  if not fields:
    _check_sizes(model, *image_shape[:2])
  _check_dropout(model)
  _check_gain(model)
  _check_head(model)
  activation = activations.by_name(model.activation, dict(model.activation_kwargs))
  if fields:
    assert image_shape == (columns(fields),) and classes == 2
    return _on_rows(model, activation, tuple(fields))
  if model.name in ("mlp", "mlp_pytorch"):
    pytorch = model.name == "mlp_pytorch"
    hidden = (model.width, model.norm, activation, model.depth)
    return MLP(
      classes, *hidden, pytorch=pytorch, dropout=model.dropout, gain=_gain(model, activation)
    )
  if model.name == "vit":
    return ViT(classes, model.width, activation, model.depth, model.heads, model.patch)
  if model.name == "vit_s16":
    size = (model.depth, model.width // _HEAD_FEATURES, _PATCH)
    return ViT(classes, model.width, activation, *size, usual=True, head=model.head)
  shared = (classes, model.width, model.norm, activation, model.convolution, platform)
  if model.name == "cnn":
    return CNN(*shared)
  if model.name == "resnet9":
    return ResNet9(*shared)
  if model.name == "picard":
    return Picard(*shared)
  if model.name == "cells":
    return Cells(*shared, cell_seed=model.cell_seed)
  if model.name in _CHAINS:
    return Chain(*shared, **_CHAINS[model.name], dropout=model.dropout)
  if model.name in _DENSENETS:
    return DenseNet(*shared, **_DENSENETS[model.name], remat=model.remat)
  if model.name in _VGGS:
    return VGG(*shared, convolutions=_VGGS[model.name], remat=model.remat)
  if model.name in _STRIDED_RESNETS:
    kind = {**_STRIDED_RESNETS[model.name], "shortcut": "plain", "head": model.head}
    return ResNet(*shared, **kind, remat=model.remat)
  if model.name in _PADDED_RESNETS:
    return ResNet(*shared, **_PADDED_RESNETS[model.name], shortcut="pad", remat=model.remat)
  return ResNet(*shared, **_RESNETS[model.name], shortcut=model.shortcut, remat=model.remat)


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


def _on_rows(model: Model, activation: Callable, fields: tuple[Field, ...]) -> nn.Module:
  dtype = jnp.dtype(model.precision)
  if model.name == "ctr_ovadia":
    return Ovadia(fields, model.width, activation, model.dropout, dtype)
  hidden = (model.width, model.norm, activation, model.depth)
  return CTR(
    fields,
    *hidden,
    model.embedding,
    model.towers,
    model.dropout,
    _gain(model, activation),
    dtype,
  )


def _check_kind(model: Model, fields: Sequence[Field]) -> None:
  if model.name in _ON_ROWS and not fields:
    raise UserError(
      f"model.name={model.name!r} is for rows of clicks, and the data are pictures; take 'mlp' or"
      " 'cnn', or set data.name to 'clicks', 'movielens/100k-ratings' or 'criteo'"
    )
  if fields and model.name not in _ON_ROWS:
    raise UserError(
      f"model.name={model.name!r} is for pictures, and the data are rows of clicks; take 'ctr'"
    )
  unsized = [field.name for field in fields if field.buckets and field.embedding is None]
  if model.name == "ctr_ovadia" and unsized:
    raise UserError(
      f"model.name='ctr_ovadia' needs embedding sizes that were published, and {unsized[0]!r} has"
      " none; take data.name='criteo', or model.name='ctr' with model.embedding"
    )


def _check_sizes(model: Model, height: int, width: int) -> None:
  smallest = _SMALLEST_SIDE[model.name]
  if min(height, width) < smallest:
    raise UserError(
      f"model.name={model.name!r} needs pictures of at least {smallest}x{smallest} pixels,"
      f" not {height}x{width}; set data.image_size={smallest} or more, or take 'cnn'"
    )
  # An average over 2x2 squares drops an odd row, a convolution of stride 2 does not.
  if model.name in _RESNETS and model.shortcut == "pool" and (height % 8 or width % 8):
    raise UserError(
      f"model.shortcut='pool' needs pictures whose sides are multiples of 8 pixels, not"
      f" {height}x{width}; set data.image_size={-(-max(height, width) // 8) * 8} or take 'plain'"
    )
  if model.name in _DENSENETS and model.width % 2:
    raise UserError(
      f"model.width={model.width} must be even for {model.name!r}, whose layers add width / 2"
      f" features each; take {model.width + 1}"
    )
  if model.name == "vit":
    _check_vit(model, height, width)
  if model.name == "vit_s16":
    _check_vit_s16(model, height, width)


def _check_vit_s16(model: Model, height: int, width: int) -> None:
  if height % _PATCH or width % _PATCH:
    larger = -(-max(height, width) // _PATCH) * _PATCH
    raise UserError(
      f"model.name='vit_s16' needs pictures whose sides are multiples of {_PATCH} pixels, not"
      f" {height}x{width}; set data.image_size={larger}"
    )
  if model.width % _HEAD_FEATURES:
    raise UserError(
      f"model.width={model.width} must be a multiple of {_HEAD_FEATURES} for 'vit_s16', whose heads"
      f" have {_HEAD_FEATURES} features each; take 384, as published"
    )


def _check_vit(model: Model, height: int, width: int) -> None:
  if height % model.patch or width % model.patch:
    larger = -(-max(height, width) // model.patch) * model.patch
    raise UserError(
      f"model.patch={model.patch} must divide both sides of the pictures, {height}x{width} pixels;"
      f" set data.image_size={larger} or another model.patch"
    )
  if model.width % model.heads:
    fewer = max(n for n in range(1, model.heads) if model.width % n == 0)
    raise UserError(
      f"model.heads={model.heads} must divide model.width={model.width}; take {fewer} heads or"
      f" model.width={-(-model.width // model.heads) * model.heads}"
    )


def _check_dropout(model: Model) -> None:
  if model.dropout >= 1:
    raise UserError(f"model.dropout={model.dropout!r} must be below 1")
  if model.dropout and model.name not in _WITH_DROPOUT:
    raise UserError(
      f"model.dropout={model.dropout!r} is not read by model.name={model.name!r}, only by"
      f" {', '.join(_WITH_DROPOUT)}; set it to 0"
    )


def _check_gain(model: Model) -> None:
  if model.gain != "he" and model.name not in _WITH_GAIN:
    raise UserError(
      f"model.gain={model.gain!r} is not read by model.name={model.name!r}, only by"
      f" {', '.join(_WITH_GAIN)}; set it to 'he'"
    )


def _check_head(model: Model) -> None:
  if model.head != "usual" and model.name not in _WITH_HEAD:
    raise UserError(
      f"model.head={model.head!r} is not read by model.name={model.name!r}, only by"
      f" {', '.join(_WITH_HEAD)}; set it to 'usual'"
    )


def _gain(model: Model, activation: Callable[[jax.Array], jax.Array]) -> float:
  """Variance of the hidden weights times their inputs, as `model.gain` says."""
  if model.gain == "he":
    return 2.0
  moment = activations.second_moment(activation)
  if not 0 < moment < math.inf:
    raise UserError(
      f"model.gain='moment' divides by the second moment of model.activation={model.activation!r},"
      f" which is {moment!r}; take other model.activation_kwargs"
    )
  return 1 / moment
