"""Vision Transformer for small pictures, as in Nakkiran et al.'s study."""

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from seedlab.models.layers import linear

_EXPANSION = 4  # of the hidden layers, in units of the width


class ViT(nn.Module):
  """The Vision Transformer (Dosovitskiy et al., arXiv 2010.11929) of Nakkiran et al. 2021.

    patches - linear - class token in front - position embeddings added - blocks -
    class token alone - layer norm - linear 4w - activation - linear

  Published (arXiv 2010.08127) with width 768, depth 12, 12 heads, activation "gelu"
  and patches of 4 or 8 pixels: 87,509,770 or 87,583,498 parameters for 32x32x3
  pictures and 10 classes.

  Class token and position embeddings start as N(0, 1); linear layers as PyTorch's,
  uniform within ±1/sqrt(inputs).

  The blocks are equal. They run as one loop over parameters with a leading axis.
  """

  classes: int
  width: int
  activation: Callable[[jax.Array], jax.Array]
  depth: int
  heads: int  # divides width
  patch: int  # pixels a side; divides the picture's sides

  @nn.compact
  def __call__(
    self, images_BxHxWxC: jax.Array, train: bool, mask: jax.Array | None = None
  ) -> jax.Array:
    del train, mask  # no layer sees more than one example
    normal = nn.initializers.normal(1)
    x = linear(self.width, patches(images_BxHxWxC, self.patch))
    token = self.param("token", normal, (1, 1, self.width)).astype(x.dtype)
    token = jnp.broadcast_to(token, (x.shape[0], 1, self.width))
    x = jnp.concatenate([token, x], 1)
    position = self.param("position", normal, (1, *x.shape[1:]))
    x += position.astype(x.dtype)
    if self.depth:
      repeat = nn.scan(
        lambda block, x, _: (block(x), None),
        variable_axes={"params": 0},
        split_rngs={"params": True},
        length=self.depth,
      )
      x, _ = repeat(Block(self.heads, self.activation, name="blocks"), x, None)
    x = layer_norm(x[:, 0])
    x = self.activation(linear(_EXPANSION * self.width, x))
    return linear(self.classes, x.astype(jnp.float32))


class Block(nn.Module):
  """x + attention(layer norm x), then x + linear(activation(linear 4w(layer norm x)))."""

  heads: int
  activation: Callable[[jax.Array], jax.Array]

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    batch, tokens, width = x.shape
    queries, keys, values = jnp.split(linear(3 * width, layer_norm(x), bias=False), 3, -1)
    split = (batch, tokens, self.heads, width // self.heads)
    mixed = attention(*(part.reshape(split) for part in (queries, keys, values)))
    x += linear(width, mixed.reshape(x.shape))
    y = self.activation(linear(_EXPANSION * width, layer_norm(x)))
    return x + linear(width, y)


def attention(queries: jax.Array, keys: jax.Array, values: jax.Array) -> jax.Array:
  """Softmax attention of every token to all; weights are float32 until they are normalised.

  Scores are divided by the square root of the whole width, heads times features,
  as in the published code, not of a head's features.

  Args:
    queries, keys, values: float[B, tokens, heads, features].

  Returns:
    float[B, tokens, heads, features].
  """
  scale = math.prod(queries.shape[2:]) ** -0.5
  scores = jnp.einsum("bihd,bjhd->bhij", queries, keys) * scale
  weights = jax.nn.softmax(scores.astype(jnp.float32)).astype(values.dtype)
  return jnp.einsum("bhij,bjhd->bihd", weights, values)


def patches(images: jax.Array, side: int) -> jax.Array:
  """Disjoint squares, row by row: float[B, H, W, C] to float[B, H W / side^2, side^2 C]."""
  batch, height, width, channels = images.shape
  x = images.reshape(batch, height // side, side, width // side, side, channels)
  return x.swapaxes(2, 3).reshape(batch, -1, side**2 * channels)


def layer_norm(x: jax.Array) -> jax.Array:
  """Each token normalised over its features, with scale and shift, as PyTorch's (epsilon 1e-5).

  To be called inside a compact module, which will own the parameters.
  """
  return nn.LayerNorm(epsilon=1e-5, dtype=x.dtype)(x)
