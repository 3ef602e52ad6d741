"""Chains of convolutions: the 5-layer CNN, AlexNet and D-CONV of Nakkiran et al.'s study."""

from typing import Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from seedlab.models.layers import (
  Activation,
  LocalConv,
  Lowering,
  Norm,
  Style,
  called,
  check_dropout,
  check_sizes,
  convolutional,
  dropout,
  global_max_pool,
  linear,
  max_pool,
  pytorch_uniform,
)

__all__ = ("alexnet", "dconv", "dconv_fc", "dconv_l", "mcnn")


class Layer(NamedTuple):
  """A convolution that keeps the size but for its stride: padding is half the kernel."""

  features: int  # in units of `width`
  size: int = 3
  stride: int = 1
  pool: bool = False  # a 2x2 max-pool behind


_HIDDEN = 64  # units of D-CONV's hidden layer, in units of `width`
MCNN = (Layer(1), Layer(2, pool=True), Layer(4, pool=True), Layer(8))
ALEXNET = (
  Layer(1, size=11, stride=4, pool=True),
  Layer(3, size=5, pool=True),
  Layer(6),
  Layer(4),
  Layer(4, pool=True),
)
DCONV = tuple(
  Layer(features, stride=1 + number % 2)
  for number, features in enumerate((1, 2, 2, 4, 4, 8, 8, 16))
)


class Chain(nn.Module):
  """Convolutions one after the other, each with norm and activation, then linear.

  As in Nakkiran et al. 2021 (arXiv 2010.08127), parameters for 32x32x3 images and
  10 classes:

  mCNN ("5-layer CNN"): `layers` MCNN, `biases`, `global_max`. With batch norm and
  width 64 1,558,026.

  AlexNet: `layers` ALEXNET. Without norm and at width 64 2,472,266.

  D-CONV (Neyshabur 2020, arXiv 2007.13657): `layers` DCONV, `hidden` 64, published
  with dropout 0.5. With batch norm and width 32 6,563,498. Its `connection` may be
  "full", a linear layer between the flattened images (1,170,419,722 at width 32,
  92,064,778 at 8, 29,320,714 at 4), or "local", a kernel for every output pixel.
  Both can compute what the convolutions do; their norm sees every pixel of a
  feature as a feature of its own.

  All weights and biases start as in PyTorch, uniform within ±1/sqrt(fan-in).
  """

  classes: int
  width: int
  style: Style
  layers: tuple[Layer, ...]
  connection: Literal["shared", "local", "full"] = "shared"
  biases: bool = False  # under a norm too
  global_max: bool = False  # else the pixels are flattened
  hidden: int = 0  # units of a hidden linear layer, in units of `width`
  dropout: float = 0.0  # behind that layer

  @nn.compact
  def __call__(
    self, images_BxHxWxC: jax.Array, train: bool, mask: jax.Array | None = None
  ) -> jax.Array:
    bias = self.biases or self.style.norm == "none"

    def finish(x):
      return self.style.finish(x, train, mask)

    x = images_BxHxWxC
    for layer in self.layers:
      features, pad = layer.features * self.width, layer.size // 2
      geometry = (features, layer.size, layer.stride)
      if self.connection == "shared":
        draw = pytorch_uniform(layer.size**2 * x.shape[-1])
        x = finish(self.style.conv(x, *geometry, bias=bias, kernel_init=draw, bias_init=draw))
      else:
        flat = x.reshape(x.shape[0], -1)
        h, w = (-(-n // layer.stride) for n in x.shape[1:3])
        if self.connection == "local":
          y = LocalConv(*geometry, ((pad, pad), (pad, pad)), bias)(x).reshape(x.shape[0], -1)
        else:
          y = linear(h * w * features, flat, bias)
        x = finish(y).reshape(-1, h, w, features)
      if layer.pool:
        x = max_pool(x)
    x = global_max_pool(x) if self.global_max else x.reshape(x.shape[0], -1)
    if self.hidden:
      x = dropout(finish(linear(self.hidden * self.width, x, bias)), self.dropout, train)
    return linear(self.classes, x.astype(jnp.float32))


mcnn = convolutional("mcnn", Chain, 4, layers=MCNN, biases=True, global_max=True)
# The first convolution leaves a fourth of the sides, rounded up.
alexnet = convolutional("alexnet", Chain, 29, layers=ALEXNET, biases=True)


def dconv(
  *,
  classes: int,
  shape: tuple[int, ...],
  activation: Activation,
  platform: str,
  width: int = 16,
  norm: Norm = "none",
  dropout: float = 0.0,
  convolution: Lowering = "auto",
) -> nn.Module:
  """D-CONV, published with width 32 and dropout 0.5: see `Chain`."""
  check_sizes("dconv", shape, width)
  check_dropout(dropout)
  style = Style(norm, activation, convolution, platform)
  return Chain(classes, width, style, DCONV, hidden=_HIDDEN, dropout=dropout)


def _without_sharing(name: str, connection: Literal["local", "full"]):
  def network(
    *,
    classes: int,
    shape: tuple[int, ...],
    activation: Activation,
    width: int = 16,
    norm: Norm = "none",
    dropout: float = 0.0,
  ) -> nn.Module:
    check_sizes(name, shape, width)
    check_dropout(dropout)
    style = Style(norm, activation)
    return Chain(classes, width, style, DCONV, connection, hidden=_HIDDEN, dropout=dropout)

  return called(name, Chain, network)


dconv_fc = _without_sharing("dconv_fc", "full")
dconv_l = _without_sharing("dconv_l", "local")
