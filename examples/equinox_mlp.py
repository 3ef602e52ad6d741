"""An Equinox network for a regression, trained from 16 seeds: python examples/equinox_mlp.py"""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from sklearn.datasets import load_diabetes
from sklearn.preprocessing import scale

import seedlab

x, y = load_diabetes(return_X_y=True, scaled=True)
x, y = scale(x), scale(y)


def net(key):
  return eqx.nn.MLP(10, "scalar", width_size=32, depth=2, activation=jax.nn.silu, key=key)


def squared(outputs, targets):
  return (outputs - targets) ** 2


def absolute(outputs, targets):
  return jnp.abs(outputs - targets)


recipe = seedlab.supervised(
  network=net,
  optimizer=optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3)),
  train=(x[:342], y[:342]),
  test=(x[342:], y[342:]),
  loss=squared,
  metrics={"test_absolute_error": (absolute, "lower", "standard deviations")},
  batch_size=38,
  epochs=10,
)

if __name__ == "__main__":
  sweep = seedlab.sweep(recipe, runs=16, out="out/equinox")
  print(sweep.test_absolute_error[:, -1].values)
