"""A Flax linen network with dropout, trained from 16 seeds: python examples/linen.py"""

import flax.linen as nn
import optax
from sklearn.datasets import load_digits

import seedlab

x, y = load_digits(return_X_y=True)  # 1,797 images of 8x8 pixels, as rows of 64


class Net(nn.Module):
  @nn.compact
  def __call__(self, x, train: bool):
    x = nn.relu(nn.Dense(64)(x / 16))
    x = nn.Dropout(0.2, deterministic=not train)(x)
    return nn.Dense(10)(x)


recipe = seedlab.supervised(
  network=Net(),
  optimizer=optax.adamw(1e-3),
  train=(x[:1000], y[:1000]),
  test=(x[1000:], y[1000:]),
  loss="cross_entropy",
  batch_size=50,
  epochs=20,
)

if __name__ == "__main__":
  sweep = seedlab.sweep(recipe, runs=16, out="out/linen")
  print(sweep.test_accuracy[:, -1].values)
