"""Networks that predict clicks from rows: embedded categories and numbers, then hidden layers."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from seedlab.data.fields import Field
from seedlab.errors import UserError
from seedlab.models.layers import (
  Activation,
  Gain,
  Norm,
  check_at_least,
  check_dropout,
  dropout,
  gain_of,
  normalise,
)

__all__ = ("ctr", "ctr_ovadia")

# Ovadia et al.'s hidden layers.
OVADIA = (2572, 1454, 1596)


def ctr(
  *,
  classes: int,
  fields: tuple[Field, ...],
  activation: Activation,
  dtype: jax.typing.DTypeLike,
  width: int = 16,
  depth: int = 2,
  norm: Norm = "none",
  embedding: int = 16,
  towers: int = 1,
  dropout: float = 0.0,
  gain: Gain = "he",
) -> nn.Module:
  """Embeddings of `embedding` numbers a category, and `towers` stacks of hidden layers: see `CTR`.

  `gain` says how hidden weights start (`layers.gain_of`).
  """
  _check("ctr", classes, fields, width, dropout)
  check_at_least(0, depth=depth)
  check_at_least(1, embedding=embedding, towers=towers)
  gain = gain_of(gain, activation)
  return CTR(fields, width, norm, activation, depth, embedding, towers, dropout, gain, dtype)


def ctr_ovadia(
  *,
  classes: int,
  fields: tuple[Field, ...],
  activation: Activation,
  dtype: jax.typing.DTypeLike,
  width: int = 16,
  dropout: float = 0.0,
) -> nn.Module:
  """The Criteo network of Ovadia et al., published with width 2572: see `Ovadia`."""
  _check("ctr_ovadia", classes, fields, width, dropout)
  unsized = [field.name for field in fields if field.buckets and field.embedding is None]
  if unsized:
    raise UserError(
      f"model.name='ctr_ovadia' needs embedding sizes that were published, and {unsized[0]!r} has"
      " none; take data.name='criteo', or model.name='ctr' with model.embedding"
    )
  return Ovadia(fields, width, activation, dropout, dtype)


def _check(name, classes, fields, width, dropout):
  if not fields:
    raise UserError(
      f"model.name={name!r} is for rows of clicks, which the data are not; take 'mlp' or 'cnn', or"
      " set data.name to 'clicks', 'movielens/100k-ratings' or 'criteo'"
    )
  if classes != 2:
    raise UserError(
      f"model.name={name!r} tells a click from none, and the data have {classes} classes; take"
      " data with two"
    )
  check_at_least(1, width=width)
  check_dropout(dropout)


class CTR(nn.Module):
  """Embeddings, then `depth` hidden layers of width, width / 2, ... units, then one logit.

  A category is a row of its field's table, a bag the mean over those of its
  entries that are not -1, zero without any; a number x enters as
  sign(x) log(1 + |x|). A hidden layer is linear, norm, activation, dropout; a norm
  takes over its bias. Several `towers` are stacks of hidden layers with
  parameters of their own on the same embeddings, whose logits are averaged: an
  ensemble that is trained as one network.

  Embeddings start normal with standard deviation 0.05 (of the size of Keras's,
  uniform within ±0.05): so small that a category seen once or never adds little.
  Hidden weights are normal with variance `gain` / inputs, cut off at two
  standard deviations (2.0: He et al. 2015, arXiv 1502.01852, eq. 10), the
  output's LeCun-normal, biases zero.

  Called with rows int32[B, F] it returns logits float32[B, 2], (0, z), whose
  cross-entropy is the log-loss of sigmoid(z). A category beyond its table gives
  NaN.
  """

  fields: tuple[Field, ...]
  width: int
  norm: Norm
  activation: Activation
  depth: int
  embedding: int = 16
  towers: int = 1
  dropout: float = 0.0
  gain: float = 2.0
  dtype: jax.typing.DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, rows_BxF: jax.Array, train: bool, mask: jax.Array | None = None) -> jax.Array:
    inputs = []
    for field, column in columns(self.fields, rows_BxF):
      if field.buckets:
        draw = nn.initializers.normal(0.05)
        inputs.append(embedded(field, column, self.embedding, draw).astype(self.dtype))
      else:
        number = column.astype(jnp.float32)
        inputs.append((jnp.sign(number) * jnp.log1p(jnp.abs(number))).astype(self.dtype))
    x = jnp.concatenate(inputs, 1)
    z_B = sum(self._tower(f"tower_{t}", x, train, mask) for t in range(self.towers)) / self.towers
    return _two(z_B)

  def _tower(self, name: str, x: jax.Array, train: bool, mask: jax.Array | None) -> jax.Array:
    return _Tower(
      [max(self.width >> i, 1) for i in range(self.depth)],
      self.norm,
      self.activation,
      self.dropout,
      self.gain,
      name=name,
    )(x, train, mask)


class _Tower(nn.Module):
  """Hidden layers and a logit float32[B]; computes in the dtype of its input."""

  widths: Sequence[int]
  norm: Norm
  activation: Activation
  dropout: float
  gain: float

  @nn.compact
  def __call__(self, x: jax.Array, train: bool, mask: jax.Array | None) -> jax.Array:
    draw = nn.initializers.variance_scaling(self.gain, "fan_in", "truncated_normal")
    for width in self.widths:
      x = nn.Dense(width, use_bias=self.norm == "none", kernel_init=draw, dtype=x.dtype)(x)
      x = dropout(self.activation(normalise(x, self.norm, train, mask)), self.dropout, train)
    return nn.Dense(1)(x.astype(jnp.float32))[:, 0]


class Ovadia(nn.Module):
  """The Criteo network of Ovadia et al. 2019 (arXiv 1906.02530), "vanilla" and "dropout".

  Categories by their fields' published embeddings, or one-hot where that is 0,
  and raw numbers, 1,042 inputs of the Criteo set; batch norm; hidden layers of 2572,
  1454 and 1596 units, or as many times `width` / 2572; one logit, with dropout
  before each layer and before the logit. Initialised as TensorFlow does: embeddings normal
  with deviation 1 / sqrt(size) and cut off at two of those, weights Glorot-uniform;
  batch norm as in Keras (epsilon 1e-3, averages 0.99 old + 0.01 new). It has 10,335,998
  trained parameters at width 2572: embeddings, scales and shifts, weights and biases.

  Returns logits as `CTR` does.
  """

  fields: tuple[Field, ...]
  width: int
  activation: Activation
  dropout: float = 0.0
  dtype: jax.typing.DTypeLike = jnp.float32

  @nn.compact
  def __call__(self, rows_BxF: jax.Array, train: bool, mask: jax.Array | None = None) -> jax.Array:
    inputs = []
    for field, column in columns(self.fields, rows_BxF):
      if not field.buckets:
        inputs.append(column.astype(jnp.float32))
      elif field.embedding == 0:
        inputs.append(jax.nn.one_hot(column, field.buckets).mean(1))
      else:
        # `variance_scaling` widens the normal that it cuts off; TensorFlow's embeddings are not.
        draw = nn.initializers.truncated_normal(field.embedding**-0.5)
        inputs.append(embedded(field, column, field.embedding, draw))
    norm = nn.BatchNorm(
      use_running_average=not train,
      momentum=0.99,
      epsilon=1e-3,
      use_fast_variance=False,  # a raw number may be large beside its spread
    )
    x = norm(jnp.concatenate(inputs, 1), mask=None if mask is None else mask[:, None])
    x = x.astype(self.dtype)
    glorot = nn.initializers.glorot_uniform()
    for size in OVADIA:
      units = max(round(size * self.width / OVADIA[0]), 1)
      x = dropout(x, self.dropout, train)
      x = self.activation(nn.Dense(units, kernel_init=glorot, dtype=x.dtype)(x))
    x = dropout(x.astype(jnp.float32), self.dropout, train)
    return _two(nn.Dense(1, kernel_init=glorot)(x)[:, 0])


def columns(fields: Sequence[Field], rows_BxF: jax.Array) -> list[tuple[Field, jax.Array]]:
  """Each field with its columns, int32[B, field.columns]."""
  ends = [sum(field.columns for field in fields[: i + 1]) for i in range(len(fields))]
  return [
    (field, rows_BxF[:, end - field.columns : end]) for field, end in zip(fields, ends, strict=True)
  ]


def embedded(
  field: Field, column_BxK: jax.Array, size: int, draw: nn.initializers.Initializer
) -> jax.Array:
  """float32[B, size]: the mean over a bag, without its entries that are -1.

  To be called inside a compact module, which will own the table under the field's
  name. A lookup, whose gradient adds up in the order of the batch: on a CPU in
  a loop half as long as the same by products with one-hot rows, and the tables
  are too small for a sparse optimiser to pay.
  """
  table = nn.Embed(field.buckets, size, embedding_init=draw, name=field.name)
  if field.columns == 1:
    return table(column_BxK[:, 0])
  there = column_BxK >= 0
  entries = jnp.where(there[..., None], table(jnp.maximum(column_BxK, 0)), 0)
  return entries.sum(1) / jnp.maximum(there.sum(1, keepdims=True), 1)


def _two(z_B: jax.Array) -> jax.Array:
  return jnp.stack([jnp.zeros_like(z_B), z_B], 1)
