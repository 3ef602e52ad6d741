"""Losses and metrics of a classifier, as sums over examples and counts, divided once."""

import jax
import jax.numpy as jnp
import optax


def cross_entropy(logits: jax.Array, labels: jax.Array, smoothing: float = 0.0) -> jax.Array:
  """Softmax cross-entropy of each example, [B], from logits [B, K] and labels int[B].

  The targets are (1 - smoothing) onehot + smoothing / K (Szegedy et al. 2016).
  """
  if not smoothing:
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)
  targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), smoothing)
  return optax.softmax_cross_entropy(logits, targets)


def masked_mean(values: jax.Array, mask: jax.Array | None) -> jax.Array:
  """The mean of values [B] over the real examples: a sum divided once by their number."""
  if mask is None:
    return values.mean()
  return jnp.where(mask, values, 0).sum() / mask.sum()
