"""Metrics that a config or a recipe can name: one number per example, whose mean is the outcome."""

import jax
import jax.numpy as jnp

__all__ = ("absolute_error", "accuracy", "brier", "top5_accuracy")


def accuracy(outputs: jax.Array, targets: jax.Array) -> jax.Array:
  """Whether the largest of the logits [..., K] is that of the label int[...], float32 [B].

  Where an example has several labels (tokens), their mean.
  """
  return _by_example(outputs.argmax(-1) == targets)


def top5_accuracy(outputs: jax.Array, targets: jax.Array) -> jax.Array:
  """Whether the label int[B] is among the five largest of the logits [B, K], float32 [B]."""
  above = (outputs > jnp.take_along_axis(outputs, targets[..., None], axis=-1)).sum(-1)
  return _by_example(above < 5)


def brier(outputs: jax.Array, targets: jax.Array) -> jax.Array:
  """The squared distance of the softmax of logits [B, K] to the label int[B] (Brier 1950)."""
  hard = jax.nn.one_hot(targets, outputs.shape[-1])
  return _by_example(jnp.square(jax.nn.softmax(outputs) - hard).sum(-1))


def absolute_error(outputs: jax.Array, targets: jax.Array) -> jax.Array:
  """The mean absolute error of each example, [B], of outputs and targets [B, ...]."""
  return _by_example(jnp.abs(outputs - targets))


def _by_example(values: jax.Array) -> jax.Array:
  return values.astype(jnp.float32).reshape(values.shape[0], -1).mean(axis=-1)
