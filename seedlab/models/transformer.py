"""A decoder-only Transformer over tokens, from a few thousand parameters to GPT-2's 124 million."""

import math
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from seedlab.errors import UserError, choice_error
from seedlab.models.layers import Activation

# No function of this file is a part that a config names: a config's networks read images and rows.
__all__ = ()

Positions = Literal["learned", "rotary"]
Norm = Literal["layer", "rms"]

_EXPANSION = 4  # of the hidden layers, in units of the width
_DEVIATION = 0.02  # of GPT-2's first weights
_BASE = 10_000.0  # of the wavelengths of rotary positions
_EPSILON = 1e-5

# Of a block: keys and values so far, float[B, context, heads, features] each.
Cache = tuple[tuple[jax.Array, jax.Array], ...]


class Transformer(nn.Module):
  """GPT-2's network (Radford et al. 2019), which reads tokens and predicts those that follow.

    token embedding + position embedding - blocks - norm - head
    block: x + attention(norm x), then x + linear(activation(linear 4w(norm x)))

  Weights and embeddings start as N(0, 0.02^2), the last layer of each branch of a block as
  N(0, 0.02^2 / (2 depth)), biases at zero. With 50,257 tokens, context 1024, width 768, depth 12,
  12 heads, learned positions and a tied head there are 124,439,808 parameters, GPT-2's. Rotary
  positions (Su et al., arXiv 2104.09864) turn queries and keys instead of adding an embedding.

  Attributes:
    vocabulary: number of tokens.
    context: the most tokens that are read at once.
    width, depth, heads: `heads` divides `width`; with rotary positions width / heads is even.
    activation: of the blocks' hidden layers.
    positions: "learned" or "rotary".
    norm: "layer", or "rms" (Zhang & Sennrich, arXiv 1910.07467), which has no shift.
    tied: whether the head is the token embedding again, or a layer of its own named `head`.
    classes: 0 predicts the next token at each position. Another number puts a new layer `head` for
      so many classes on the last position: for fine-tuning.
  """

  vocabulary: int
  context: int
  width: int
  depth: int
  heads: int
  activation: Activation
  positions: Positions = "learned"
  norm: Norm = "layer"
  tied: bool = True
  classes: int = 0

  @nn.compact
  def __call__(self, tokens_BxT: jax.Array, cache: Cache | None = None, first: jax.Array | int = 0):
    """Logits of the next token at each position, float32[B, T, V]; of classes float32[B, classes].

    Args:
      tokens_BxT: whole numbers of any dtype.
      cache: what `empty_cache` made, or a call before returned: keys and values of the positions
        before `first`. Then the result is (logits, cache with these positions added).
      first: the position of the first of these tokens.
    """
    normal = nn.initializers.normal(_DEVIATION)
    embedding = self.param("embedding", normal, (self.vocabulary, self.width))
    # A product with one-hot rows, not a lookup: the gradient of a lookup adds into rows in an
    # order that a GPU does not fix, and that of a product is a product.
    one_hot = jax.nn.one_hot(tokens_BxT, self.vocabulary, dtype=embedding.dtype)
    x = one_hot @ embedding
    here = first + jnp.arange(tokens_BxT.shape[1])
    if self.positions == "learned":
      position = self.param("position", normal, (self.context, self.width))
      x += jax.lax.dynamic_slice_in_dim(position, first, tokens_BxT.shape[1])[None]
    kept = []
    for number in range(self.depth):
      block = Block(
        self.depth, self.heads, self.activation, self.positions, self.norm, name=f"block_{number}"
      )
      x, one = block(x, here, None if cache is None else cache[number])
      kept.append(one)
    x = _norm(self.norm, "norm")(x)
    if self.classes:
      return nn.Dense(self.classes, kernel_init=normal, name="head")(x[:, -1])
    if self.tied:
      logits = x @ embedding.T
    else:
      logits = nn.Dense(self.vocabulary, use_bias=False, kernel_init=normal, name="head")(x)
    logits = logits.astype(jnp.float32)
    return logits if cache is None else (logits, tuple(kept))


class Block(nn.Module):
  """One of the blocks of a `Transformer`, whose attributes have the same names."""

  depth: int
  heads: int
  activation: Activation
  positions: Positions
  norm: Norm

  @nn.compact
  def __call__(self, x: jax.Array, here_T: jax.Array, cache):
    batch, tokens, width = x.shape
    normal = nn.initializers.normal(_DEVIATION)
    small = nn.initializers.normal(_DEVIATION / math.sqrt(2 * self.depth))
    mixing = nn.Dense(3 * width, kernel_init=normal, name="mixing")(_norm(self.norm, "norm_1")(x))
    split = (batch, tokens, self.heads, width // self.heads)
    queries, keys, values = (part.reshape(split) for part in jnp.split(mixing, 3, -1))
    if self.positions == "rotary":
      queries, keys = rotated(queries, here_T), rotated(keys, here_T)
    there = here_T
    if cache is not None:
      keys, values = (
        jax.lax.dynamic_update_slice_in_dim(old, new, here_T[0], 1)
        for old, new in zip(cache, (keys, values), strict=True)
      )
      there = jnp.arange(keys.shape[1])
    mixed = attention(queries, keys, values, there[None] <= here_T[:, None])
    x += nn.Dense(width, kernel_init=small, name="mixed")(mixed.reshape(x.shape))
    y = nn.Dense(_EXPANSION * width, kernel_init=normal, name="up")(_norm(self.norm, "norm_2")(x))
    x += nn.Dense(width, kernel_init=small, name="down")(self.activation(y))
    return x, (keys, values)


def transformer(
  *,
  vocabulary: int,
  context: int,
  activation: Activation,
  width: int = 64,
  depth: int = 2,
  heads: int = 4,
  positions: Positions = "learned",
  norm: Norm = "layer",
  tied: bool = True,
  classes: int = 0,
) -> Transformer:
  """A `Transformer` of these sizes; UserError for those that are none."""
  sizes = {"context": context, "width": width, "heads": heads, "depth": depth}
  for name, value in sizes.items():
    least = 0 if name == "depth" else 1
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
      raise UserError(f"{name}={value!r} must be a whole number, {least} or more")
  for name, value, known in (
    ("positions", positions, ("learned", "rotary")), ("norm", norm, ("layer", "rms"))
  ):  # fmt: skip
    if value not in known:
      raise choice_error(name, value, known)
  if width % heads or (positions == "rotary" and width // heads % 2):
    even = ", and the quotient must be even for positions='rotary'" * (positions == "rotary")
    near = 2 * heads * max(1, width // (2 * heads))
    raise UserError(f"heads={heads} must divide width={width}{even}; take width={near}")
  return Transformer(
    vocabulary, context, width, depth, heads, activation, positions, norm, tied, classes
  )


def attention(
  queries: jax.Array, keys: jax.Array, values: jax.Array, seen_TxS: jax.Array
) -> jax.Array:
  """Softmax attention of each token to those it may see; float32 until weights are normalised.

  Scores are divided by the square root of a head's features. Written out, as in `vit`: in lanes of
  a vmapped program `jax.nn.dot_product_attention` gives a lane the same bits whatever the others
  are, as this does, and it was no faster on a CPU; but how it is computed is left to jax's version.

  Args:
    queries: float[B, T, heads, features].
    keys, values: float[B, S, heads, features].
    seen_TxS: bool, whether a token may see another one.

  Returns:
    float[B, T, heads, features].
  """
  scores = jnp.einsum("bihd,bjhd->bhij", queries, keys) * queries.shape[-1] ** -0.5
  scores = jnp.where(seen_TxS[None, None], scores.astype(jnp.float32), -jnp.inf)
  weights = jax.nn.softmax(scores).astype(values.dtype)
  return jnp.einsum("bhij,bjhd->bihd", weights, values)


def rotated(x: jax.Array, here_T: jax.Array) -> jax.Array:
  """Queries or keys turned by their positions (Su et al., arXiv 2104.09864).

  Features i and i + features / 2 are a pair, turned by the position over 10000^(2 i / features).

  Args:
    x: float[B, T, heads, features].
    here_T: int[T], the positions.
  """
  half = x.shape[-1] // 2
  speed = _BASE ** (-jnp.arange(half, dtype=jnp.float32) / half)
  angle = here_T[:, None].astype(jnp.float32) * speed[None]
  cos, sin = (f(angle)[None, :, None].astype(x.dtype) for f in (jnp.cos, jnp.sin))
  a, b = x[..., :half], x[..., half:]
  return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1)


def empty_cache(sizes: Transformer, batch: int, tokens: int) -> Cache:
  """A cache for the first `tokens` positions of a batch."""
  shape = (batch, tokens, sizes.heads, sizes.width // sizes.heads)
  return tuple((jnp.zeros(shape), jnp.zeros(shape)) for _ in range(sizes.depth))


def _norm(kind: Norm, name: str) -> nn.Module:
  made = nn.LayerNorm if kind == "layer" else nn.RMSNorm
  return made(epsilon=_EPSILON, name=name)
