"""Multilayer perceptron on the flattened pixels."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from seedlab.models.layers import Norm, normalise


class MLP(nn.Module):
  """`depth` hidden layers of `width` units: linear, norm, activation; then a linear output.

  Hidden weights are He-normal (He et al. 2015, arXiv 1502.01852, eq. 10), the
  output's LeCun-normal, biases zero. A norm takes over its layer's bias.
  """

  classes: int
  width: int
  norm: Norm
  activation: Callable[[jax.Array], jax.Array]
  depth: int

  @nn.compact
  def __call__(
    self, images_BxHxWxC: jax.Array, train: bool, mask: jax.Array | None = None
  ) -> jax.Array:
    x = images_BxHxWxC.reshape(images_BxHxWxC.shape[0], -1)
    for _ in range(self.depth):
      x = nn.Dense(
        self.width,
        use_bias=self.norm == "none",
        kernel_init=nn.initializers.he_normal(),
        dtype=x.dtype,
      )(x)
      x = self.activation(normalise(x, self.norm, train, mask))
    return nn.Dense(self.classes)(x.astype(jnp.float32))
