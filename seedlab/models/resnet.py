"""Residual networks: ResNet for small and for large images, pre-activation, wide, ResNeXt."""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from seedlab.models.layers import (
  Activation,
  Head,
  Lowering,
  Norm,
  Style,
  average_pool,
  called,
  check_multiple,
  check_sizes,
  first_head,
  kaiming_fan_in,
  kaiming_fan_out,
  linear,
  neighbourhood_max,
  pytorch_uniform,
  recomputing,
)

__all__ = (
  "imagenet_resnet50",
  "preresnet18",
  "resnet14",
  "resnet18",
  "resnet50",
  "resnet152",
  "resnext29",
  "wrn28",
)

_EXPANSION = 4  # of a bottleneck's last convolution
_RESNET50 = (3, 4, 6, 3)
_HALVINGS = 8  # of a ResNet-18, -50 and -152, all together


class ResNet(nn.Module):
  """Residual networks, most with a stem for small images, which neither strides nor pools.

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
  width 64; the paper says 34.4 M. Its linear layer is `kaiming` too.

  Post-activation ResNet-18: `pytorch`, where the study before draws by fan-out.

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
  style: Style
  blocks: tuple[int, ...]  # of each stage
  bottleneck: bool = False
  shortcut: Literal["pool", "plain", "pad"] = "plain"
  remat: bool = False
  groups: int = 1  # of a bottleneck's 3x3 convolution, each as wide as it would be alone
  preactivation: bool = False
  final_norm: bool = False  # norm and activation behind the last block
  stem: int | None = None  # features of the first convolution; None: width
  pytorch: bool = False
  kaiming: bool = False  # the linear layer's weights Kaiming-normal by fan-in; else uniform
  zero_bias: bool = False  # its bias at first; else uniform
  zero_scale: bool = False  # of the last norm of each branch at first, without `preactivation`
  large: bool = False  # images: the stem strides and pools
  head: Head = "usual"

  @nn.compact
  def __call__(
    self, images_BxHxWxC: jax.Array, train: bool, mask: jax.Array | None = None
  ) -> jax.Array:
    kind = (self.groups, self.preactivation, self.pytorch, self.zero_scale)
    cls = nn.remat(Block) if self.remat else Block

    def block(stage, stride, name):
      features = 2**stage * self.width
      place = (features, stride, self.bottleneck, self.shortcut)
      return cls(*place, self.style, train, *kind, name=name)

    x, stem = images_BxHxWxC, self.stem or self.width
    size, stride = (7, 2) if self.large else (3, 1)
    draw = _first_weights(size, x.shape[-1], stem, self.pytorch)
    x = self.style.conv(x, stem, size, stride, kernel_init=draw)
    if not self.preactivation:
      x = self.style.finish(x, train, mask)
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
      x = self.style.finish(x, train, mask)
    pooled = x.astype(jnp.float32).mean((1, 2))
    head = {"kernel_init": kaiming_fan_in} if self.kaiming else first_head(self.head)
    return linear(self.classes, pooled, zero_bias=self.zero_bias, **head)


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
  style: Style
  train: bool
  groups: int = 1
  preactivation: bool = False
  pytorch: bool = False
  zero_scale: bool = False

  @nn.compact
  def __call__(self, x: jax.Array, mask: jax.Array | None) -> jax.Array:
    def conv(x, features, size, stride=1, groups=1, bias=None):
      draw = _first_weights(size, x.shape[-1] // groups, features, self.pytorch)
      kind = {"bias": bias, "kernel_init": draw, "groups": groups}
      return self.style.conv(x, features, size, stride, **kind)

    def norm(x, zero_scale=False):
      return self.style.normalise(x, self.train, mask, zero_scale)

    f, act = self.features, self.style.activation
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


def _network(name: str, blocks: tuple[int, ...], bottleneck: bool = False):
  def network(
    *,
    classes: int,
    shape: tuple[int, ...],
    activation: Activation,
    platform: str,
    width: int = 16,
    norm: Norm = "none",
    shortcut: Literal["pool", "plain"] = "pool",
    first_weights: Literal["kaiming", "pytorch"] = "kaiming",
    remat: bool = False,
    convolution: Lowering = "auto",
  ) -> nn.Module:
    check_sizes(name, shape, width, _HALVINGS)
    # An average over 2x2 squares drops an odd row, a convolution of stride 2 does not.
    if shortcut == "pool":
      check_multiple("model.shortcut='pool'", shape, _HALVINGS, " or take 'plain'")
    style = Style(norm, activation, convolution, platform)
    pytorch = first_weights == "pytorch"
    return ResNet(classes, width, style, blocks, bottleneck, shortcut, remat, pytorch=pytorch)

  return called(name, ResNet, network)


resnet18 = _network("resnet18", (2, 2, 2, 2))
resnet50 = _network("resnet50", _RESNET50, bottleneck=True)
resnet152 = _network("resnet152", (3, 8, 36, 3), bottleneck=True)
resnet14 = recomputing("resnet14", ResNet, shortcut="pad", blocks=(2, 2, 2), zero_scale=True)
preresnet18 = recomputing(
  "preresnet18", ResNet, blocks=(2, 2, 2, 2), preactivation=True, pytorch=True
)
wrn28 = recomputing(
  "wrn28",
  ResNet,
  blocks=(4, 4, 4),
  preactivation=True,
  final_norm=True,
  stem=16,
  zero_bias=True,
)
resnext29 = recomputing(
  "resnext29",
  ResNet,
  blocks=(3, 3, 3),
  bottleneck=True,
  groups=8,
  kaiming=True,
  zero_bias=True,
)


def imagenet_resnet50(
  *,
  classes: int,
  shape: tuple[int, ...],
  activation: Activation,
  platform: str,
  width: int = 16,
  norm: Norm = "none",
  head: Head = "usual",
  remat: bool = False,
  convolution: Lowering = "auto",
) -> nn.Module:
  """torchvision's ResNet-50 with width 64 and batch norm: see `ResNet`.

  `head` says how the last layer starts (`layers.first_head`); `remat` computes blocks anew in
  the gradient, which takes less memory.
  """
  check_sizes("imagenet_resnet50", shape, width)
  style = Style(norm, activation, convolution, platform)
  kind = {"bottleneck": True, "large": True, "remat": remat, "head": head}
  return ResNet(classes, width, style, _RESNET50, **kind)
