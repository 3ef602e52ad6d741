"""VGG-11, -13, -16 and -19 for small pictures, as in Geiping et al.'s study."""

from collections.abc import Callable
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from seedlab.models.layers import Conv, Norm, kaiming_fan_out, max_pool, normalise

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
  norm: Norm
  activation: Callable[[jax.Array], jax.Array]
  lowering: Literal["auto", "native", "patches"] = "auto"
  platform: str = "cpu"
  convolutions: tuple[int, ...] = (2, 2, 3, 3, 3)  # of each stage, five at most
  remat: bool = False

  @nn.compact
  def __call__(
    self, images_BxHxWxC: jax.Array, train: bool, mask: jax.Array | None = None
  ) -> jax.Array:
    shared = (self.norm, self.activation, self.lowering, self.platform, train)
    cls = nn.remat(Stage) if self.remat else Stage
    x = images_BxHxWxC
    for stage, count in enumerate(self.convolutions):
      features = _WIDTHS[stage] * self.width
      x = max_pool(cls(count, features, *shared, name=f"stage{stage}")(x, mask))
    x = x.reshape(x.shape[0], -1).astype(jnp.float32)
    return nn.Dense(self.classes, kernel_init=nn.initializers.normal(0.01))(x)


class Stage(nn.Module):
  """`count` times 3x3 convolution, norm and activation."""

  count: int
  features: int
  norm: Norm
  activation: Callable[[jax.Array], jax.Array]
  lowering: Literal["auto", "native", "patches"]
  platform: str
  train: bool

  @nn.compact
  def __call__(self, x: jax.Array, mask: jax.Array | None) -> jax.Array:
    for _ in range(self.count):
      x = Conv(
        self.features,
        size=3,
        padding=((1, 1), (1, 1)),
        kernel_init=kaiming_fan_out(3, self.features),
        lowering=self.lowering,
        platform=self.platform,
      )(x)
      x = self.activation(normalise(x, self.norm, self.train, mask))
    return x
