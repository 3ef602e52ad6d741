"""The network of Picard's scan of 10,000 seeds."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from seedlab.models.layers import (
  Style,
  convolutional,
  global_max_pool,
  linear,
  max_pool,
  pytorch_uniform,
)

__all__ = ("picard",)

_LOGIT_SCALE = 0.1


class Picard(nn.Module):
  """The network of Picard 2021 (arXiv 2109.08203): 2,440,256 parameters at width 64, batch norm.

    w - max-pool 2 - 2w - max-pool 2 - residual(2w, 2w) - 4w - max-pool 2 - 4w - max-pool 2
    - residual(4w, 4w) - global max-pool - linear without bias - times 0.1

  where all convolutions are 3x3 and keep the size, each is followed by norm and
  activation, inside the residual branches too, and nothing follows the additions.
  Published with CELU of alpha 0.1.

  Weights start as in PyTorch, uniform within ±1/sqrt(fan-in). Without a norm
  convolutions are He-normal and have biases, zero at first, as ResNet-9's here.

  On images of float16 the logits are float16 too, as published; else float32.
  """

  classes: int
  width: int
  style: Style

  @nn.compact
  def __call__(
    self, images_BxHxWxC: jax.Array, train: bool, mask: jax.Array | None = None
  ) -> jax.Array:
    bare = self.style.norm == "none"

    def unit(x, features):
      draw = nn.initializers.he_normal() if bare else pytorch_uniform(9 * x.shape[-1])
      return self.style.finish(self.style.conv(x, features, 3, kernel_init=draw), train, mask)

    w = self.width
    x = max_pool(unit(images_BxHxWxC, w))
    x = max_pool(unit(x, 2 * w))
    x += unit(unit(x, 2 * w), 2 * w)
    x = max_pool(unit(x, 4 * w))
    x = max_pool(unit(x, 4 * w))
    x += unit(unit(x, 4 * w), 4 * w)
    x = global_max_pool(x)
    if x.dtype != jnp.float16:
      x = x.astype(jnp.float32)
    return _LOGIT_SCALE * linear(self.classes, x, bias=False)


picard = convolutional("picard", Picard, smallest=16)
