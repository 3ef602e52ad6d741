"""DenseNet-121, DenseNet-40 and their like for small pictures."""

from collections.abc import Callable
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from seedlab.models.layers import Conv, Norm, average_pool, kaiming_fan_out, linear, normalise

_BOTTLENECK = 4  # features of a layer's first convolution, in units of its growth


class DenseNet(nn.Module):
  """The densely connected network of Geiping et al. 2022 (arXiv 2109.14119), width 64.

    3x3 w - blocks of dense layers, between them norm - activation - 1x1 to half
    the features - 2x2 average - norm - activation - mean over pixels - linear

  Huang et al.'s (arXiv 1608.06993) DenseNet-BC of growth w / 2 with a stem for
  small pictures: one convolution without norm, stride or pooling. At width 64
  with batch norm and 10 classes, DenseNet-121 has 6,956,298 parameters.

  Without `compact` it is Huang et al.'s first, plain DenseNet: layers are one 3x3
  convolution and transitions keep the number of features. With three blocks of 12
  layers that is the DenseNet-40 of Nakkiran et al. 2021 (arXiv 2010.08127):
  1,059,298 parameters at width 24 (growth 12), 7,426,378 at width 64 (growth 32).

  Convolutions are Kaiming-normal by fan-in (He et al. 2015, arXiv 1502.01852, eq.
  10), plain ones by fan-out, each as its study has them. Without a norm they have
  biases, zero at first.
  """

  classes: int
  width: int
  norm: Norm
  activation: Callable[[jax.Array], jax.Array]
  lowering: Literal["auto", "native", "patches"] = "auto"
  platform: str = "cpu"
  blocks: tuple[int, ...] = (6, 12, 24, 16)  # layers of each block
  remat: bool = False
  compact: bool = True  # Huang et al.'s "BC"

  @nn.compact
  def __call__(
    self, images_BxHxWxC: jax.Array, train: bool, mask: jax.Array | None = None
  ) -> jax.Array:
    convolution = (self.norm, self.lowering, self.platform, self.compact)
    layer = nn.remat(DenseLayer) if self.remat else DenseLayer

    def activated(x):
      return self.activation(normalise(x, self.norm, train, mask))

    x = _conv(self.width, 3, *convolution)(images_BxHxWxC)
    for block, layers in enumerate(self.blocks):
      if block > 0:
        features = x.shape[-1] // 2 if self.compact else x.shape[-1]
        x = average_pool(_conv(features, 1, *convolution)(activated(x)))
      for number in range(layers):
        new = layer(
          self.width // 2, self.activation, *convolution, train, name=f"block{block}_layer{number}"
        )(x, mask)
        x = jnp.concatenate([x, new], -1)
    return linear(self.classes, activated(x).astype(jnp.float32).mean((1, 2)))


class DenseLayer(nn.Module):
  """The features a layer adds: norm - activation - 1x1 4g - norm - activation - 3x3 g.

  Without `compact` norm - activation - 3x3 g alone.
  """

  growth: int
  activation: Callable[[jax.Array], jax.Array]
  norm: Norm
  lowering: Literal["auto", "native", "patches"]
  platform: str
  compact: bool
  train: bool

  @nn.compact
  def __call__(self, x: jax.Array, mask: jax.Array | None) -> jax.Array:
    convolutions = ((_BOTTLENECK * self.growth, 1), (self.growth, 3))
    for features, size in convolutions if self.compact else convolutions[1:]:
      x = self.activation(normalise(x, self.norm, self.train, mask))
      x = _conv(features, size, self.norm, self.lowering, self.platform, self.compact)(x)
    return x


def _conv(features, size, norm, lowering, platform, compact):
  pad = size // 2
  fan_in = nn.initializers.variance_scaling(2, "fan_in", "normal")
  return Conv(
    features,
    size,
    padding=((pad, pad), (pad, pad)),
    bias=norm == "none",
    kernel_init=fan_in if compact else kaiming_fan_out(size, features),
    lowering=lowering,
    platform=platform,
  )
