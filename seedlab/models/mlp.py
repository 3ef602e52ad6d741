"""Multilayer perceptron on the flattened pixels."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from seedlab.models.layers import (
  Activation,
  Gain,
  Norm,
  check_at_least,
  check_dropout,
  dropout,
  gain_of,
  linear,
  normalise,
)

__all__ = ("mlp", "mlp_pytorch")


def mlp(
  *,
  classes: int,
  activation: Activation,
  width: int = 16,
  depth: int = 2,
  norm: Norm = "none",
  dropout: float = 0.0,
  gain: Gain = "he",
) -> nn.Module:
  """A multilayer perceptron whose first weights follow `gain` (`layers.gain_of`): see `MLP`."""
  _check(width, depth, dropout)
  gain = gain_of(gain, activation)
  return MLP(classes, width, norm, activation, depth, dropout=dropout, gain=gain)


def mlp_pytorch(
  *,
  classes: int,
  activation: Activation,
  width: int = 16,
  depth: int = 2,
  norm: Norm = "none",
  dropout: float = 0.0,
) -> nn.Module:
  """A multilayer perceptron that starts as PyTorch's: see `MLP`."""
  _check(width, depth, dropout)
  return MLP(classes, width, norm, activation, depth, pytorch=True, dropout=dropout)


def _check(width, depth, dropout):
  check_at_least(1, width=width)
  check_at_least(0, depth=depth)
  check_dropout(dropout)


class MLP(nn.Module):
  """`depth` hidden layers of `width` units: linear, norm, activation, dropout; linear output.

  Hidden weights are normal, cut at two standard deviations, with variance `gain` / inputs; 2 is
  He et al.'s (2015, arXiv 1502.01852, eq. 10). The output's are LeCun-normal, biases zero. A
  norm takes over its layer's bias.

  `pytorch` is the network as PyTorch makes it, and so as Nakkiran et al. 2021
  (arXiv 2010.08127) trained it: weights and biases uniform within
  ±1/sqrt(inputs), and biases under the norm too, where batch norm cancels them.
  Of depth 3 with batch norm, 32x32x3 images and 10 classes, it has 428,426
  parameters at width 128 and 14,718,986 at 2048.
  """

  classes: int
  width: int
  norm: Norm
  activation: Activation
  depth: int
  pytorch: bool = False
  dropout: float = 0.0
  gain: float = 2.0  # not read with `pytorch`

  @nn.compact
  def __call__(
    self, images_BxHxWxC: jax.Array, train: bool, mask: jax.Array | None = None
  ) -> jax.Array:
    x = images_BxHxWxC.reshape(images_BxHxWxC.shape[0], -1)
    for _ in range(self.depth):
      if self.pytorch:
        x = linear(self.width, x)
      else:
        x = nn.Dense(
          self.width,
          use_bias=self.norm == "none",
          kernel_init=nn.initializers.variance_scaling(self.gain, "fan_in", "truncated_normal"),
          dtype=x.dtype,
        )(x)
      x = dropout(self.activation(normalise(x, self.norm, train, mask)), self.dropout, train)
    x = x.astype(jnp.float32)
    return linear(self.classes, x) if self.pytorch else nn.Dense(self.classes)(x)
