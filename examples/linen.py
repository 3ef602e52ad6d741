"""A Flax linen network with dropout: 16 runs that differ in their seed alone.

  python examples/linen.py
"""

import flax.linen as nn
import optax
from digits import test, train

import seedlab


class Net(nn.Module):
  @nn.compact
  def __call__(self, x, train: bool):
    x = nn.relu(nn.Dense(64)(x))
    x = nn.Dropout(0.2, deterministic=not train)(x)
    return nn.Dense(10)(x)


recipe = seedlab.supervised(
  network=Net(),
  optimizer=optax.adamw(1e-3),
  train=train,
  test=test,
  loss="cross_entropy",
  batch_size=50,
  epochs=20,
)

if __name__ == "__main__":
  sweep = seedlab.sweep(recipe, runs=16, out="out/linen")
  print(sweep.test_accuracy[:, -1].to_series().describe())
