"""Losses and metrics of a classifier, as sums over examples and counts, divided once."""

import jax
import jax.numpy as jnp
import optax

__all__ = ("cross_entropy", "squared_error")


def cross_entropy(logits: jax.Array, labels: jax.Array, smoothing: float = 0.0) -> jax.Array:
  """Softmax cross-entropy of each example, [B], from logits [B, K] and labels int[B].

  The targets are (1 - smoothing) onehot + smoothing / K (Szegedy et al. 2016).
  """
  if not smoothing:
    # As optax's for integer labels, to the bit; but the gradient of looking a logit up is a
    # scatter, which deterministic GPU kernels sort first, and that of selecting one is none.
    asked = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    chosen = jnp.where(asked, logits, 0).sum(-1)
    return jax.nn.logsumexp(logits, axis=-1) - chosen
  return towards(logits, smoothed(labels, logits.shape[-1], smoothing, logits.dtype))


def squared_error(outputs: jax.Array, targets: jax.Array) -> jax.Array:
  """The squared error of each example, [B], summed over what it has besides: both [B, ...]."""
  error = jnp.square(outputs - targets)
  return error.reshape(error.shape[0], -1).sum(axis=-1)


def smoothed(
  labels: jax.Array, classes: int, smoothing: float | jax.Array, dtype=jnp.float32
) -> jax.Array:
  """Target probabilities [B, K] of labels int[B]: (1 - smoothing) onehot + smoothing / K."""
  return optax.smooth_labels(jax.nn.one_hot(labels, classes, dtype=dtype), smoothing)


def masked_mean(
  values: jax.Array | tuple[jax.Array, jax.Array], mask: jax.Array | None
) -> tuple[jax.Array, jax.Array | None]:
  """(the mean over the real examples, what it was divided by): a sum divided once.

  Args:
    values: [B], one number per example; or (sums [B], weights [B]) of ragged examples, e.g. the
      summed loss and the number of tokens of each. The mean is then the sum of all over the sum of
      the weights.
    mask: bool[B], False for examples that are padding; None: all are real.

  Returns:
    the mean, and the weight it has beside other means: float32, the sum of the weights, or the
    number of real examples; None where all are real and weigh the same.
  """
  if isinstance(values, tuple):
    sums, weights = (jnp.asarray(part, jnp.float32) for part in values)
    if mask is not None:
      sums, weights = (jnp.where(mask, part, 0) for part in (sums, weights))
    weight = weights.sum()
    return sums.sum() / jnp.where(weight > 0, weight, 1), weight
  if mask is None:
    return values.mean(), None
  # float16 ends at 65,504, which the sum of a test set's losses may exceed.
  return jnp.where(mask, values, 0).sum(dtype=jnp.float32) / mask.sum(), None


def towards(logits: jax.Array, targets: jax.Array) -> jax.Array:
  """Cross-entropy of each example, [B], from logits and target probabilities, both [B, K]."""
  return optax.softmax_cross_entropy(logits, targets)


def area_under_curve(scores: jax.Array, labels: jax.Array) -> jax.Array:
  """float32: the chance that a random positive scores above a random negative, ties a half.

    AUC = mean over positives of (#negatives below + #negatives at most) / (2 #negatives)

  The area under the ROC curve (Hanley & McNeil 1982). nan without a positive or a negative.

  Args:
    scores: float[M], finite.
    labels: int[M], 0 or 1.
  """
  order = jnp.argsort(scores)
  ascending = scores[order]
  # Negatives among the first k scores, k = 0, ..., M.
  negatives = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(labels[order] == 0)])
  below, at_most = (
    negatives[jnp.searchsorted(ascending, scores, side=side)] for side in ("left", "right")
  )
  positive = labels == 1
  shares = (below + at_most) / (2 * negatives[-1])
  return jnp.where(positive, shares, 0).sum() / positive.sum()
