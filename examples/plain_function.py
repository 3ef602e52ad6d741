"""A whole training as one function of a key, from 1,000 seeds: python examples/plain_function.py"""

import jax
import jax.numpy as jnp
from sklearn.datasets import load_iris

import seedlab

flowers, species = load_iris(return_X_y=True)


def train(keys):
  """Softmax regression on a random two thirds of the flowers, tested on the others."""
  x, y = jnp.float32(flowers), jnp.int32(species)
  order = jax.random.permutation(keys.sample, 150)
  fit, held_out = order[:100], order[100:]

  def loss(weights):
    logits = x[fit] @ weights
    return -jax.nn.log_softmax(logits)[jnp.arange(100), y[fit]].mean()

  weights = 0.1 * jax.random.normal(keys.init, (4, 3))
  weights = jax.lax.fori_loop(0, 200, lambda _, w: w - 0.1 * jax.grad(loss)(w), weights)
  right = (x[held_out] @ weights).argmax(-1) == y[held_out]
  return {"test_accuracy": right.mean(), "train_loss": loss(weights)}


recipe = seedlab.function(train, metrics={"test_accuracy": "higher", "train_loss": "lower"})

if __name__ == "__main__":
  sweep = seedlab.sweep(recipe, runs=1000, out="out/plain_function")
  print(sweep.test_accuracy.mean().item(), "+-", sweep.test_accuracy.std().item())
