"""Residual networks: ResNet for small and for large pictures, pre-activation, wide, ResNeXt."""

from collections.abc import Callable
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from seedlab.models.layers import (
  Conv,
  Head,
  Norm,
  average_pool,
  first_head,
  kaiming_fan_out,
  linear,
  neighbourhood_max,
  normalise,
  pytorch_uniform,
)

_EXPANSION = 4  # of a bottleneck's last convolution


class ResNet(nn.Module):
  """Residual networks, most with a stem for small pictures, which neither strides nor pools.

    3x3 w - stages of blocks of w, 2w, 4w, 8w features, the first block of all
    stages but the first with stride 2 - mean over pixels - linear

  With `large` the stem is that of ImageNet: 7x7 w with stride 2, and behind norm and
  activation the largest of 3x3 pixels around every second one. With it, "plain"
  shortcuts and batch norm, ResNet-50 is torchvision's (v1.5, whose bottlenecks
  stride in the 3x3): 25,557,032 parameters at width 64 for 1,000 classes.

  ResNet: He et al.'s (arXiv 1512.03385) as in Geiping et al. 2022 (arXiv
  2109.14119). At width 64 with batch norm and 10 classes, ResNet-18 has
  11,173,962 parameters, ResNet-50 23,520,842, ResNet-152 58,156,618. No branch
  starts at zero (that study's configs ask for it under a name its code does not
  read).

  As in Nakkiran et al. 2021 (arXiv 2010.08127), all with `shortcut` "plain":

  Pre-activation ResNet-18 (He et al., arXiv 1603.05027): `preactivation`, first
  weights `pytorch`; no norm or activation between the last block and the mean.
  11,171,146 parameters at width 64.

  Wide ResNet-28 (Zagoruyko & Komodakis, arXiv 1605.07146): `preactivation`, three
  stages of four blocks, a stem of 16 features, `final_norm`. WRN-28-k is width
  16 k: 5,849,050 parameters at 64, 36,479,194 at 160.

  ResNeXt-29 (Xie et al., arXiv 1611.05431, section 5.3, 8x64d): three stages of
  three bottlenecks with 8 `groups` of w, 2w, 4w features. 34,426,698 parameters at
  width 64; the paper says 34.4 M.

  ResNet-14 of Summers & Dinneen (2021, arXiv 2103.04514): three stages of two
  blocks, `shortcut` "pad", `zero_scale`. 172,602 parameters at width 16.

  Convolutions are Kaiming-normal by fan-out, or with `pytorch` uniform within
  ±1/sqrt(fan-in). Without a norm they have biases, zero at first.

  The blocks of a stage after its first are equal. They run as one loop over
  parameters with a leading axis, so that a deep network compiles as fast as a
  shallow one.
  """

  classes: int
  width: int
  norm: Norm
  activation: Callable[[jax.Array], jax.Array]
  lowering: Literal["auto", "native", "patches"] = "auto"
  platform: str = "cpu"
  blocks: tuple[int, ...] = (2, 2, 2, 2)  # of each stage
  bottleneck: bool = False
  shortcut: Literal["pool", "plain", "pad"] = "pool"
  remat: bool = False
  groups: int = 1  # of a bottleneck's 3x3 convolution, each as wide as it would be alone
  preactivation: bool = False
  final_norm: bool = False  # norm and activation behind the last block
  stem: int | None = None  # features of the first convolution; None: width
  pytorch: bool = False
  zero_bias: bool = False  # the linear layer's bias at first; else uniform
  zero_scale: bool = False  # of the last norm of each branch at first, without `preactivation`
  large: bool = False  # pictures: the stem strides and pools
  head: Head = "usual"

  @nn.compact
  def __call__(
    self, images_BxHxWxC: jax.Array, train: bool, mask: jax.Array | None = None
  ) -> jax.Array:
    shared = (self.norm, self.activation, self.lowering, self.platform, train)
    kind = (self.groups, self.preactivation, self.pytorch, self.zero_scale)
    cls = nn.remat(Block) if self.remat else Block

    def block(stage, stride, name):
      features = 2**stage * self.width
      return cls(features, stride, self.bottleneck, self.shortcut, *shared, *kind, name=name)

    stem = self.stem or self.width
    size, stride, pad = (7, 2, 3) if self.large else (3, 1, 1)
    x = Conv(
      stem,
      size,
      stride,
      padding=((pad, pad), (pad, pad)),
      bias=self.norm == "none",
      kernel_init=_first_weights(size, images_BxHxWxC.shape[-1], stem, self.pytorch),
      lowering=self.lowering,
      platform=self.platform,
    )(images_BxHxWxC)
    if not self.preactivation:
      x = self.activation(normalise(x, self.norm, train, mask))
    if self.large:
      x = neighbourhood_max(x, stride=2)
    for stage, count in enumerate(self.blocks):
      x = block(stage, 2 if stage > 0 else 1, f"stage{stage}_first")(x, mask)
      if count > 1:
        repeat = nn.scan(
          lambda block, x, mask: (block(x, mask), None),
          variable_axes={"params": 0, "batch_stats": 0},
          split_rngs={"params": True},
          in_axes=nn.broadcast,
          length=count - 1,
        )
        x, _ = repeat(block(stage, 1, f"stage{stage}_rest"), x, mask)
    if self.final_norm:
      x = self.activation(normalise(x, self.norm, train, mask))
    pooled = x.astype(jnp.float32).mean((1, 2))
    return linear(self.classes, pooled, zero_bias=self.zero_bias, **first_head(self.head))


class Block(nn.Module):
  """activation(shortcut + branch), where every convolution is followed by its norm.

    basic        3x3 f - activation - 3x3 f
    bottleneck   1x1 gf - activation - 3x3 gf in g groups - activation - 1x1 4f

  with the stride on the first 3x3. The shortcut is the input itself, or where
  size or width change a 1x1 convolution with norm: after an average over squares
  ("pool") or with the stride ("plain"). "pad" takes every stride-th row and column,
  a norm, and features of zero behind those there are.

  With `preactivation` it is shortcut + branch, where norm and activation come
  before every convolution; a 1x1 convolution of the shortcut, bare and with the
  stride, then starts behind the first norm and activation.
  """

  features: int
  stride: int
  bottleneck: bool
  shortcut: Literal["pool", "plain", "pad"]
  norm: Norm
  activation: Callable[[jax.Array], jax.Array]
  lowering: Literal["auto", "native", "patches"]
  platform: str
  train: bool
  groups: int = 1
  preactivation: bool = False
  pytorch: bool = False
  zero_scale: bool = False

  @nn.compact
  def __call__(self, x: jax.Array, mask: jax.Array | None) -> jax.Array:
    def conv(x, features, size, stride=1, groups=1, bias=self.norm == "none"):
      pad = size // 2
      return Conv(
        features,
        size,
        stride,
        padding=((pad, pad), (pad, pad)),
        bias=bias,
        kernel_init=_first_weights(size, x.shape[-1] // groups, features, self.pytorch),
        lowering=self.lowering,
        platform=self.platform,
        groups=groups,
      )(x)

    def norm(x, zero_scale=False):
      return normalise(x, self.norm, self.train, mask, zero_scale)

    f, act = self.features, self.activation
    if self.bottleneck:
      inner = self.groups * f
      branch = [(inner, 1), (inner, 3, self.stride, self.groups), (_EXPANSION * f, 1)]
    else:
      branch = [(f, 3, self.stride), (f, 3)]

    if self.preactivation:
      first = y = act(norm(x))
      for number, convolution in enumerate(branch):
        y = conv(act(norm(y)) if number else y, *convolution)
      if y.shape != x.shape:
        x = conv(first, y.shape[-1], 1, self.stride, bias=False)
      return x + y

    y = x
    for number, convolution in enumerate(branch):
      last = number == len(branch) - 1
      y = norm(conv(act(y) if number else y, *convolution), self.zero_scale and last)
    if y.shape != x.shape:
      if self.shortcut == "pad":
        x = norm(x[:, :: self.stride, :: self.stride])
        x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, y.shape[-1] - x.shape[-1])))
      elif self.shortcut == "pool":
        x = norm(conv(average_pool(x, self.stride), y.shape[-1], 1))
      else:
        x = norm(conv(x, y.shape[-1], 1, self.stride))
    return act(x + y)


def _first_weights(size, inputs, features, pytorch):
  return pytorch_uniform(size**2 * inputs) if pytorch else kaiming_fan_out(size, features)
