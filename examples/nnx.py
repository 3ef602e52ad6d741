"""A Flax NNX network with dropout, trained from 16 seeds: python examples/nnx.py"""

import jax
import optax
from flax import nnx
from sklearn.datasets import load_digits

import seedlab

x, y = load_digits(return_X_y=True)


class Net(nnx.Module):
  def __init__(self, rngs: nnx.Rngs):
    self.hidden = nnx.Linear(64, 64, rngs=rngs)
    self.dropout = nnx.Dropout(0.2, rngs=rngs)
    self.out = nnx.Linear(64, 10, rngs=rngs)

  def __call__(self, x):
    return self.out(self.dropout(jax.nn.relu(self.hidden(x / 16))))


recipe = seedlab.supervised(
  network=Net,  # a function of rngs: every run draws weights of its own
  optimizer=lambda steps: optax.adamw(optax.cosine_decay_schedule(1e-3, steps)),
  train=(x[:1000], y[:1000]),
  test=(x[1000:], y[1000:]),
  batch_size=50,
  epochs=20,
)

if __name__ == "__main__":
  sweep = seedlab.sweep(recipe, runs=16, out="out/nnx")
  print(sweep.test_accuracy[:, -1].values)
