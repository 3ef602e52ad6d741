"""ResNet-18, -50, -152 and their like for small pictures, as in Geiping et al.'s study."""

from collections.abc import Callable
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from seedlab.models.layers import Conv, Norm, average_pool, kaiming_fan_out, linear, normalise

_EXPANSION = 4  # of a bottleneck's last convolution


class ResNet(nn.Module):
  """The residual networks of Geiping et al. 2022 (arXiv 2109.14119), published at width 64.

    3x3 w - stages of blocks of w, 2w, 4w, 8w features, the first block of the
    last three with stride 2 - mean over pixels - linear

  He et al.'s (arXiv 1512.03385) with a stem for small pictures: neither stride
  nor pooling. At width 64 with batch norm and 10 classes, ResNet-18 has
  11,173,962 parameters, ResNet-50 23,520,842, ResNet-152 58,156,618.

  Convolutions are Kaiming-normal by fan-out; no branch starts at zero (the
  study's configs ask for it under a name its code does not read). Without a norm
  convolutions have biases, zero at first.

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
  shortcut: Literal["pool", "plain"] = "pool"
  remat: bool = False

  @nn.compact
  def __call__(
    self, images_BxHxWxC: jax.Array, train: bool, mask: jax.Array | None = None
  ) -> jax.Array:
    shared = (self.norm, self.activation, self.lowering, self.platform, train)
    cls = nn.remat(Block) if self.remat else Block

    def block(stage, stride, name):
      features = 2**stage * self.width
      return cls(features, stride, self.bottleneck, self.shortcut, *shared, name=name)

    x = Conv(
      self.width,
      size=3,
      padding=((1, 1), (1, 1)),
      bias=self.norm == "none",
      kernel_init=kaiming_fan_out(3, self.width),
      lowering=self.lowering,
      platform=self.platform,
    )(images_BxHxWxC)
    x = self.activation(normalise(x, self.norm, train, mask))
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
    return linear(self.classes, x.astype(jnp.float32).mean((1, 2)))


class Block(nn.Module):
  """activation(shortcut + branch), where every convolution is followed by its norm.

    basic        3x3 f - activation - 3x3 f
    bottleneck   1x1 f - activation - 3x3 f - activation - 1x1 4f

  with the stride on the first 3x3. The shortcut is the input itself, or where
  size or width change a 1x1 convolution with norm: after an average over squares
  ("pool") or with the stride ("plain").
  """

  features: int
  stride: int
  bottleneck: bool
  shortcut: Literal["pool", "plain"]
  norm: Norm
  activation: Callable[[jax.Array], jax.Array]
  lowering: Literal["auto", "native", "patches"]
  platform: str
  train: bool

  @nn.compact
  def __call__(self, x: jax.Array, mask: jax.Array | None) -> jax.Array:
    def unit(x, features, size, stride=1):
      pad = size // 2
      x = Conv(
        features,
        size,
        stride,
        padding=((pad, pad), (pad, pad)),
        bias=self.norm == "none",
        kernel_init=kaiming_fan_out(size, features),
        lowering=self.lowering,
        platform=self.platform,
      )(x)
      return normalise(x, self.norm, self.train, mask)

    f, act = self.features, self.activation
    if self.bottleneck:
      y = act(unit(x, f, 1))
      y = act(unit(y, f, 3, self.stride))
      y = unit(y, _EXPANSION * f, 1)
    else:
      y = act(unit(x, f, 3, self.stride))
      y = unit(y, f, 3)
    if y.shape != x.shape:
      if self.shortcut == "pool":
        x = unit(average_pool(x, self.stride), y.shape[-1], 1)
      else:
        x = unit(x, y.shape[-1], 1, self.stride)
    return act(x + y)
