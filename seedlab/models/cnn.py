"""A small convolutional network, the demo's: one convolution at full size, then halvings."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from seedlab.models.layers import Style, convolutional

__all__ = ("cnn",)

_SMALLEST_SIDE = 4


class CNN(nn.Module):
  """3x3 convolutions: `width` channels, then double them at half the size down to 4x4; linear.

  8x8 images meet two convolutions, 32x32 ones four. Halving is by stride 2,
  which costs a fourth of a convolution followed by pooling. Convolutions are
  He-normal (He et al. 2015, arXiv 1502.01852, eq. 10), the output LeCun-normal,
  biases zero. A norm takes over its layer's bias.
  """

  classes: int
  width: int
  style: Style

  @nn.compact
  def __call__(
    self, images_BxHxWxC: jax.Array, train: bool, mask: jax.Array | None = None
  ) -> jax.Array:
    def unit(x, features, stride):
      return self.style.finish(self.style.conv(x, features, 3, stride), train, mask)

    features = self.width
    x = unit(images_BxHxWxC, features, stride=1)
    while max(x.shape[1:3]) > _SMALLEST_SIDE:
      features *= 2
      x = unit(x, features, stride=2)
    x = x.reshape(x.shape[0], -1)
    return nn.Dense(self.classes)(x.astype(jnp.float32))


cnn = convolutional("cnn", CNN)
