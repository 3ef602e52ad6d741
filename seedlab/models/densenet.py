"""DenseNet-121, DenseNet-40 and their like for small images."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from seedlab.errors import UserError
from seedlab.models.layers import (
  Style,
  average_pool,
  kaiming_fan_in,
  kaiming_fan_out,
  linear,
  recomputing,
)

__all__ = ("densenet40", "densenet121")

_BOTTLENECK = 4  # features of a layer's first convolution, in units of its growth


class DenseNet(nn.Module):
  """The densely connected network of Geiping et al. 2022 (arXiv 2109.14119), width 64.

    3x3 w - blocks of dense layers, between them norm - activation - 1x1 to half
    the features - 2x2 average - norm - activation - mean over pixels - linear

  Huang et al.'s (arXiv 1608.06993) DenseNet-BC of growth w / 2 with a stem for
  small images: one convolution without norm, stride or pooling. At width 64
  with batch norm and 10 classes, DenseNet-121 has 6,956,298 parameters.

  Without `compact` it is Huang et al.'s first, plain DenseNet: layers are one 3x3
  convolution and transitions keep the number of features. With three blocks of 12
  layers that is the DenseNet-40 of Nakkiran et al. 2021 (arXiv 2010.08127):
  1,059,298 parameters at width 24 (growth 12), 7,426,378 at width 64 (growth 32).

  Convolutions are Kaiming-normal by fan-in (He et al. 2015, arXiv 1502.01852, eq.
  10), plain ones by fan-out, each as its study has them. Without a norm they have
  biases, zero at first; so has the linear layer of a `compact` network, and that of
  a plain one has PyTorch's.
  """

  classes: int
  width: int
  style: Style
  blocks: tuple[int, ...]  # layers of each block
  remat: bool = False
  compact: bool = True  # Huang et al.'s "BC"

  def __post_init__(self):
    if self.width % 2:
      raise UserError(
        f"model.width={self.width} must be even for a DenseNet, whose layers add width / 2 features"
        f" each; take {self.width + 1}"
      )
    super().__post_init__()

  @nn.compact
  def __call__(
    self, images_BxHxWxC: jax.Array, train: bool, mask: jax.Array | None = None
  ) -> jax.Array:
    layer = nn.remat(DenseLayer) if self.remat else DenseLayer

    def activated(x):
      return self.style.finish(x, train, mask)

    x = _conv(self.style, images_BxHxWxC, self.width, 3, self.compact)
    for block, layers in enumerate(self.blocks):
      if block > 0:
        features = x.shape[-1] // 2 if self.compact else x.shape[-1]
        x = average_pool(_conv(self.style, activated(x), features, 1, self.compact))
      for number in range(layers):
        name = f"block{block}_layer{number}"
        new = layer(self.width // 2, self.style, self.compact, train, name=name)(x, mask)
        x = jnp.concatenate([x, new], -1)
    pooled = activated(x).astype(jnp.float32).mean((1, 2))
    return linear(self.classes, pooled, zero_bias=self.compact)


class DenseLayer(nn.Module):
  """The features a layer adds: norm - activation - 1x1 4g - norm - activation - 3x3 g.

  Without `compact` norm - activation - 3x3 g alone.
  """

  growth: int
  style: Style
  compact: bool
  train: bool

  @nn.compact
  def __call__(self, x: jax.Array, mask: jax.Array | None) -> jax.Array:
    convolutions = ((_BOTTLENECK * self.growth, 1), (self.growth, 3))
    for features, size in convolutions if self.compact else convolutions[1:]:
      x = self.style.finish(x, self.train, mask)
      x = _conv(self.style, x, features, size, self.compact)
    return x


def _conv(style, x, features, size, compact):
  draw = kaiming_fan_in if compact else kaiming_fan_out(size, features)
  return style.conv(x, features, size, kernel_init=draw)


densenet40 = recomputing("densenet40", DenseNet, 4, blocks=(12, 12, 12), compact=False)
densenet121 = recomputing("densenet121", DenseNet, 8, blocks=(6, 12, 24, 16))
