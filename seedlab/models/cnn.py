"""A small convolutional network, the demo's: one convolution at full size, then halvings."""

from collections.abc import Callable
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from seedlab.models.layers import Conv, Norm, normalise

_SMALLEST_SIDE = 4


class CNN(nn.Module):
  """3x3 convolutions: `width` channels, then double them at half the size down to 4x4; linear.

  8x8 pictures meet two convolutions, 32x32 ones four. Halving is by stride 2,
  which costs a fourth of a convolution followed by pooling. Convolutions are
  He-normal (He et al. 2015, arXiv 1502.01852, eq. 10), the output LeCun-normal,
  biases zero. A norm takes over its layer's bias.
  """

  classes: int
  width: int
  norm: Norm
  activation: Callable[[jax.Array], jax.Array]
  lowering: Literal["auto", "native", "patches"] = "auto"
  platform: str = "cpu"

  @nn.compact
  def __call__(
    self, images_BxHxWxC: jax.Array, train: bool, mask: jax.Array | None = None
  ) -> jax.Array:
    def unit(x, features, stride):
      x = Conv(
        features,
        size=3,
        stride=stride,
        padding=((1, 1), (1, 1)),
        bias=self.norm == "none",
        lowering=self.lowering,
        platform=self.platform,
      )(x)
      return self.activation(normalise(x, self.norm, train, mask))

    features = self.width
    x = unit(images_BxHxWxC, features, stride=1)
    while max(x.shape[1:3]) > _SMALLEST_SIDE:
      features *= 2
      x = unit(x, features, stride=2)
    x = x.reshape(x.shape[0], -1)
    return nn.Dense(self.classes)(x.astype(jnp.float32))
