"""VGG-11, -13, -16 and -19 for small images, as in Geiping et al.'s study."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from seedlab.models.layers import Style, kaiming_fan_out, max_pool, recomputing

__all__ = ("vgg11", "vgg13", "vgg16", "vgg19")

_SMALLEST_SIDE = 32  # that leaves a pixel behind five max-pools
_WIDTHS = (1, 2, 4, 8, 8)  # of the stages, in units of `width`


class VGG(nn.Module):
  """Simonyan & Zisserman's (arXiv 1409.1556) convolutions with one linear layer behind, width 64.

    five stages of 3x3 convolutions of w, 2w, 4w, 8w, 8w features, each with
    norm and activation, each stage followed by a 2x2 max-pool - linear

  as in Geiping et al. 2022 (arXiv 2109.14119). The published convolutions have
  biases (zero at first) under their norm too. At width 64 with batch norm and 10
  classes VGG-16 has 14,728,266 parameters.

  Convolutions are Kaiming-normal by fan-out, the linear layer's weights
  N(0, 0.01), 0.01 being the standard deviation, its bias zero.
  """

  classes: int
  width: int
  style: Style
  convolutions: tuple[int, ...]  # of each stage, five at most
  remat: bool = False

  @nn.compact
  def __call__(
    self, images_BxHxWxC: jax.Array, train: bool, mask: jax.Array | None = None
  ) -> jax.Array:
    cls = nn.remat(Stage) if self.remat else Stage
    x = images_BxHxWxC
    for stage, count in enumerate(self.convolutions):
      features = _WIDTHS[stage] * self.width
      x = max_pool(cls(count, features, self.style, train, name=f"stage{stage}")(x, mask))
    x = x.reshape(x.shape[0], -1).astype(jnp.float32)
    return nn.Dense(self.classes, kernel_init=nn.initializers.normal(0.01))(x)


class Stage(nn.Module):
  """`count` times 3x3 convolution, norm and activation."""

  count: int
  features: int
  style: Style
  train: bool

  @nn.compact
  def __call__(self, x: jax.Array, mask: jax.Array | None) -> jax.Array:
    for _ in range(self.count):
      draw = kaiming_fan_out(3, self.features)
      x = self.style.conv(x, self.features, 3, bias=True, kernel_init=draw)
      x = self.style.finish(x, self.train, mask)
    return x


vgg11 = recomputing("vgg11", VGG, _SMALLEST_SIDE, convolutions=(1, 1, 2, 2, 2))
vgg13 = recomputing("vgg13", VGG, _SMALLEST_SIDE, convolutions=(2, 2, 2, 2, 2))
vgg16 = recomputing("vgg16", VGG, _SMALLEST_SIDE, convolutions=(2, 2, 3, 3, 3))
vgg19 = recomputing("vgg19", VGG, _SMALLEST_SIDE, convolutions=(2, 2, 4, 4, 4))
