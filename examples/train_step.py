"""A train step as people have it, trained from 16 seeds: python examples/train_step.py"""

import flax.linen as nn
import jax
import optax
from flax.training.train_state import TrainState
from sklearn.datasets import load_digits

import seedlab

x, y = load_digits(return_X_y=True)
net = nn.Sequential([nn.Dense(64), nn.relu, nn.Dense(10)])


def init(key):
  params = net.init(key, x[:1])
  return TrainState.create(apply_fn=net.apply, params=params, tx=optax.adam(1e-3))


def train_step(state, batch):
  images, labels = batch

  def loss_of(params):
    logits = state.apply_fn(params, images / 16)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

  loss, gradient = jax.value_and_grad(loss_of)(state.params)
  return state.apply_gradients(grads=gradient), {"loss": loss}


def evaluate(state, test):
  images, labels = test
  return {"test_accuracy": (state.apply_fn(state.params, images / 16).argmax(-1) == labels).mean()}


recipe = seedlab.from_train_step(
  init,
  train_step,
  evaluate,
  train=(x[:1000], y[:1000]),
  test=(x[1000:], y[1000:]),
  metrics={"test_accuracy": "higher"},
  batch_size=50,
  epochs=20,
)

if __name__ == "__main__":
  sweep = seedlab.sweep(recipe, runs=16, out="out/train_step")
  print(sweep.test_accuracy[:, -1].values)
