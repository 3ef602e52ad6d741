"""Parts of a user's own, named by `own_parts:function` in tests."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax


class Net(nn.Module):
  """A linen module as people have it: its fields are options, and `classes` a fact of the run."""

  classes: int
  hidden: int = 6
  rate: float = 0.0

  @nn.compact
  def __call__(self, x, deterministic: bool):
    x = nn.relu(nn.Dense(self.hidden)(x.reshape(x.shape[0], -1)))
    x = nn.Dropout(self.rate, deterministic=deterministic)(x)
    return nn.Dense(self.classes)(x)


class Active(nn.Module):
  """One that asks for the section `activation`."""

  classes: int
  activation: object

  @nn.compact
  def __call__(self, x, train: bool):
    return nn.Dense(self.classes)(self.activation(nn.Dense(5)(x.reshape(x.shape[0], -1))))


def stripes(*, classes: int = 3, noise: float = 20.0):
  """((images, labels), (images, labels)): 4x4 images, lit in the row of their class."""
  rng = np.random.default_rng(0)

  def made(count):
    label = np.arange(count) % classes
    image = rng.normal(100, noise, (count, 4, 4, 1))
    image[np.arange(count), label] += 100
    return np.clip(image, 0, 255).astype(np.uint8), label

  return made(30), made(12)


def bend(x, strength: float = 0.5):
  """An activation."""
  return x + strength * jnp.sin(x)


def brightness(keys, images, black, *, by: float = 0.1):
  """An augmentation: the whole image brighter or darker, each by its own key."""
  del black
  shift = jax.vmap(lambda key: jax.random.uniform(key, (), jnp.float32, -by, by))(keys)
  return images + shift[:, None, None, None]


def hinge(logits, labels, margin: float = 1.0):
  """A loss: the multi-class hinge of each example, [B]."""
  right = jnp.take_along_axis(logits, labels[:, None], axis=1)
  over = jnp.maximum(0, margin + logits - right)
  return over.sum(axis=1) - margin


def confidence(logits, labels):
  """A metric: the largest of the softmax."""
  del labels
  return jax.nn.softmax(logits).max(-1)


def signs(learning_rate, *, scale: float = 1.0):
  """An optimiser: descends by the signs of the gradient."""
  return optax.chain(
    optax.scale_by_sign(), optax.scale_by_learning_rate(learning_rate), optax.scale(scale)
  )


def halved(*, learning_rate: float, steps: int, at: float = 0.5):
  """A schedule: half the rate from a share of the steps on."""
  return lambda step: jnp.where(step < at * steps, learning_rate, learning_rate / 2)
