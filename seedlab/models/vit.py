"""Vision Transformers: for small images as in Nakkiran et al.'s study, and the usual one."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from seedlab.errors import UserError
from seedlab.models.layers import (
  Activation,
  Head,
  check_at_least,
  check_multiple,
  check_sizes,
  first_head,
  linear,
)

__all__ = ("vit", "vit_s16")

_EXPANSION = 4  # of the hidden layers, in units of the width
_DEVIATION = 0.02  # of the usual Transformer's first weights
# Of vit_s16: a wrong number of heads would take pretrained weights and say nothing.
_HEAD_FEATURES = 64
_PATCH = 16


def vit(
  *,
  classes: int,
  shape: tuple[int, ...],
  activation: Activation,
  width: int = 16,
  depth: int = 2,
  heads: int = 4,
  patch: int = 4,
) -> nn.Module:
  """A Vision Transformer of `depth` blocks; squares of `patch` pixels are its tokens: see `ViT`."""
  check_sizes("vit", shape, width)
  check_at_least(0, depth=depth)
  check_at_least(1, heads=heads, patch=patch)
  check_multiple(f"model.patch={patch}", shape, patch, " or another model.patch")
  if width % heads:
    fewer = max(n for n in range(1, heads) if width % n == 0)
    raise UserError(
      f"model.heads={heads} must divide model.width={width}; take {fewer} heads or"
      f" model.width={-(-width // heads) * heads}"
    )
  return ViT(classes, width, activation, depth, heads, patch)


def vit_s16(
  *,
  classes: int,
  shape: tuple[int, ...],
  activation: Activation,
  width: int = 384,
  depth: int = 12,
  head: Head = "usual",
) -> nn.Module:
  """ViT-S/16 of DINO and timm, or a narrower or shallower one with heads of 64 features: see `ViT`.

  `head` says how the last layer starts (`layers.first_head`).
  """
  check_sizes("vit_s16", shape, width)
  check_at_least(0, depth=depth)
  check_multiple("model.name='vit_s16'", shape, _PATCH)
  if width % _HEAD_FEATURES:
    raise UserError(
      f"model.width={width} must be a multiple of {_HEAD_FEATURES} for 'vit_s16', whose heads have"
      f" {_HEAD_FEATURES} features each; take 384, as published"
    )
  size = (depth, width // _HEAD_FEATURES, _PATCH)
  return ViT(classes, width, activation, *size, usual=True, head=head)


class ViT(nn.Module):
  """The Vision Transformer (Dosovitskiy et al., arXiv 2010.11929) of Nakkiran et al. 2021.

    patches - linear - class token in front - position embeddings added - blocks -
    class token alone - layer norm - linear 4w - activation - linear

  Published (arXiv 2010.08127) with width 768, depth 12, 12 heads, activation "gelu"
  and patches of 4 or 8 pixels: 87,509,770 or 87,583,498 parameters for 32x32x3
  images and 10 classes.

  Class token and position embeddings start as N(0, 1); linear layers as PyTorch's,
  uniform within ±1/sqrt(inputs).

  With `usual` it is the Transformer of DINO (Caron et al., arXiv 2104.14294) and timm:
  queries, keys and values have biases, scores are divided by the square root of a head's
  features, layer norms have epsilon 1e-6, and one linear layer follows the last of them.
  Width 384, depth 12, 6 heads and patches of 16 pixels are ViT-S/16: 21,665,664 parameters
  for 224x224x3 images, and those of that layer. Token, positions and weights start
  normal with deviation 0.02 (the patches' linear layer as PyTorch's), biases at zero.

  The blocks are equal. They run as one loop over parameters with a leading axis.
  """

  classes: int
  width: int
  activation: Activation
  depth: int
  heads: int  # divides width
  patch: int  # pixels a side; divides the image's sides
  usual: bool = False
  head: Head = "usual"  # of `usual` alone

  @nn.compact
  def __call__(
    self, images_BxHxWxC: jax.Array, train: bool, mask: jax.Array | None = None
  ) -> jax.Array:
    del train, mask  # no layer sees more than one example
    normal = nn.initializers.normal(_DEVIATION if self.usual else 1)
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
      x, _ = repeat(Block(self.heads, self.activation, self.usual, name="blocks"), x, None)
    x = layer_norm(x[:, 0], _epsilon(self.usual))
    if self.usual:
      first = _first_weights(True) if self.head == "usual" else first_head(self.head)
      return linear(self.classes, x.astype(jnp.float32), **first)
    x = self.activation(linear(_EXPANSION * self.width, x))
    return linear(self.classes, x.astype(jnp.float32))


class Block(nn.Module):
  """x + attention(layer norm x), then x + linear(activation(linear 4w(layer norm x)))."""

  heads: int
  activation: Activation
  usual: bool = False

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    batch, tokens, width = x.shape
    first, epsilon = _first_weights(self.usual), _epsilon(self.usual)
    mixing = linear(3 * width, layer_norm(x, epsilon), bias=self.usual, **first)
    split = (batch, tokens, self.heads, width // self.heads)
    parts = (part.reshape(split) for part in jnp.split(mixing, 3, -1))
    mixed = attention(*parts, width // self.heads if self.usual else width)
    x += linear(width, mixed.reshape(x.shape), **first)
    y = self.activation(linear(_EXPANSION * width, layer_norm(x, epsilon), **first))
    return x + linear(width, y, **first)


def attention(queries: jax.Array, keys: jax.Array, values: jax.Array, scale: int) -> jax.Array:
  """Softmax attention of every token to all; weights are float32 until they are normalised.

  Args:
    queries, keys, values: float[B, tokens, heads, features].
    scale: scores are divided by its square root. Usually the features of a head; in the
      code published with Nakkiran et al. the whole width, heads times features.

  Returns:
    float[B, tokens, heads, features].
  """
  scores = jnp.einsum("bihd,bjhd->bhij", queries, keys) * scale**-0.5
  weights = jax.nn.softmax(scores.astype(jnp.float32)).astype(values.dtype)
  return jnp.einsum("bhij,bjhd->bihd", weights, values)


def patches(images: jax.Array, side: int) -> jax.Array:
  """Disjoint squares, row by row: float[B, H, W, C] to float[B, H W / side^2, side^2 C]."""
  batch, height, width, channels = images.shape
  x = images.reshape(batch, height // side, side, width // side, side, channels)
  return x.swapaxes(2, 3).reshape(batch, -1, side**2 * channels)


def layer_norm(x: jax.Array, epsilon: float = 1e-5) -> jax.Array:
  """Each token normalised over its features, with scale and shift, as PyTorch's.

  To be called inside a compact module, which will own the parameters.
  """
  return nn.LayerNorm(epsilon=epsilon, dtype=x.dtype)(x)


def _epsilon(usual):
  return 1e-6 if usual else 1e-5


def _first_weights(usual):
  normal = nn.initializers.normal(_DEVIATION)
  return {"kernel_init": normal, "bias_init": nn.initializers.zeros} if usual else {}
