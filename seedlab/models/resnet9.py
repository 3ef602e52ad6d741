"""ResNet-9 for 32x32 images, as in D. Page's and the FFCV recipes."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from seedlab.models.layers import Style, convolutional, global_max_pool, max_pool

__all__ = ("resnet9",)

_LOGIT_SCALE = 0.2


class ResNet9(nn.Module):
  """The network of Jordan 2024 (arXiv 2304.01910): 2,274,880 parameters at width 64, batch norm.

    3x3 w - 5x5 2w /2 - residual(2w, 2w) - 3x3 4w - max-pool 2 - residual(4w, 4w)
    - 3x3 2w unpadded - global max-pool - linear without bias - times 0.2

  where each convolution is followed by norm and activation, inside the
  residual branches too, and nothing follows the additions.

  With a norm the weights start as in PyTorch, and so in the published runs:
  uniform of variance 1 / (3 fan-in). Without it that would shrink the signal
  sixfold a layer in variance, so convolutions are He-normal then (He et al.
  2015, arXiv 1502.01852, eq. 10) and have biases, zero at first.
  """

  classes: int
  width: int
  style: Style

  @nn.compact
  def __call__(
    self, images_BxHxWxC: jax.Array, train: bool, mask: jax.Array | None = None
  ) -> jax.Array:
    pytorch = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
    draw = nn.initializers.he_normal() if self.style.norm == "none" else pytorch

    def unit(x, features, size=3, stride=1, padding=None):
      x = self.style.conv(x, features, size, stride, padding=padding, kernel_init=draw)
      return self.style.finish(x, train, mask)

    w = self.width
    x = unit(images_BxHxWxC, w)
    x = unit(x, 2 * w, size=5, stride=2)
    x += unit(unit(x, 2 * w), 2 * w)
    x = max_pool(unit(x, 4 * w))
    x += unit(unit(x, 4 * w), 4 * w)
    x = global_max_pool(unit(x, 2 * w, padding=0))
    output = nn.Dense(self.classes, use_bias=False, kernel_init=pytorch)
    return _LOGIT_SCALE * output(x.astype(jnp.float32))


# The last convolution, unpadded, then still finds its 3x3 window.
resnet9 = convolutional("resnet9", ResNet9, smallest=11)
