"""A Trainer small enough for hundreds of runs in a test, that uses every part of the seam."""

import dataclasses
import functools
import json
import os
import pathlib
import signal
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.training import train_state
from jax import lax

from seedlab.trainer import Metric, Trainer

EXAMPLES, BATCH, EPOCH = 24, 4, 6
KEYED_STEPS = 9


class State(NamedTuple):
  params: dict
  noise: jax.Array


def make(
  steps: int = 20,
  hidden: int = 5,
  explode_below: int = 0,
  rate: float = 0.3,
  pause: float = 0.0,
  marker: str = "",
  fed: bool = False,
  explode_first: int = 0,
  faults: str = "",
) -> Trainer:
  """A regression with a fresh permutation an epoch and noise each step.

  Args:
    explode_below: this many runs in a hundred become infinite at step 7.
    rate: the learning rate; another one is another program.
    pause: seconds `load` waits.
    marker: a file in which `load` leaves its process number.
    fed: whether the batches come from the host.
    explode_first: this many runs in a hundred become infinite at step 0.
    faults: file of {"kill": runs that kill their worker, "hang": ..., "raise": ...}, with `fed`.
  """
  x = np.linspace(-1, 1, EXAMPLES * 2, dtype=np.float32).reshape(EXAMPLES, 2)

  def load():
    _leave_mark(pause, marker)
    return {"x": x, "y": np.sin(3 * x[:, 0])}

  def init(keys, data):
    return State(
      {
        "in": jax.random.normal(keys.init, (2, hidden), jnp.float32),
        "out": jax.random.normal(jax.random.fold_in(keys.init, 1), (hidden,), jnp.float32),
      },
      jax.random.uniform(keys.noise, (), jnp.float32),
    )

  def advance(state, keys, data, fed_rows, first, steps):
    order = jax.random.permutation(
      jax.random.fold_in(keys.order, first // EPOCH), jnp.arange(EXAMPLES, dtype=jnp.int32)
    )

    def step(number, carry):
      state, bad = carry
      if fed:
        rows = lax.dynamic_index_in_dim(fed_rows, number - first, keepdims=False)
      else:
        rows = lax.dynamic_slice_in_dim(order, number % EPOCH * BATCH, BATCH)
      jitter = jax.random.normal(jax.random.fold_in(keys.noise, number), (BATCH, 2), jnp.float32)

      def loss(params):
        return jnp.mean((_predict(params, data["x"][rows] + 0.1 * jitter) - data["y"][rows]) ** 2)

      gradient = jax.grad(loss)(state.params)
      params = jax.tree.map(lambda p, g: p - rate * g, state.params, gradient)
      explodes = (number == 7) & (state.noise < explode_below / 100)
      explodes |= (number == 0) & (state.noise < explode_first / 100)
      params["out"] = jnp.where(explodes, jnp.inf, params["out"])
      finite = jnp.isfinite(params["out"]).all()
      return State(params, state.noise), jnp.where((bad < 0) & ~finite, number, bad)

    state, bad = lax.fori_loop(first, first + steps, step, (state, jnp.int32(-1)))
    return state, {"diverged": bad}

  def evaluate(state, keys, data):
    prediction = _predict(state.params, data["x"])
    return {"mse": jnp.mean((prediction - data["y"]) ** 2), "prediction": prediction}

  return Trainer(
    plan=(steps // 3, steps),
    load=load,
    init=init,
    advance=advance,
    evaluate=evaluate,
    metrics={"mse": Metric(better="lower"), "prediction": Metric(("example",))},
    feed=functools.partial(_feed, faults) if fed else None,
    period=EPOCH,
    coords={"target": ("example", np.sin(3 * x[:, 0]))},
  )


def dying(marker: str, **arguments) -> Trainer:
  """`make`, whose second `load` kills the process it is in; `marker` counts them."""
  trainer = make(marker=marker, **arguments)

  def load():
    data = trainer.load()
    if len(pathlib.Path(marker).read_text().split()) == 2:
      os.kill(os.getpid(), signal.SIGKILL)
    return data

  return dataclasses.replace(trainer, load=load)


def _leave_mark(pause, marker):
  time.sleep(pause)
  if marker:
    with open(marker, "a") as file:
      file.write(f"{os.getpid()}\n")


def _predict(params, x):
  return jnp.tanh(x @ params["in"]) @ params["out"]


def _feed(faults, seeds, first, steps):
  run = int(seeds[2])
  faults = json.loads(pathlib.Path(faults).read_text()) if faults else {}
  if run in faults.get("kill", ()):
    os.kill(os.getpid(), signal.SIGKILL)
  if run in faults.get("hang", ()):
    time.sleep(3600)
  if run in faults.get("raise", ()):
    raise ArithmeticError(f"run {run} cannot be")
  numbers = np.arange(first, first + steps)[:, None] * BATCH + np.arange(BATCH)
  return ((numbers + int(seeds[2])) % EXAMPLES).astype(np.int32)


class Keyed(train_state.TrainState):
  key: jax.Array  # typed, drawn from at every step


def keyed(params: bool = True) -> Trainer:
  """A Trainer whose state has a typed key, functions as static fields, and a count that is an int.

  Args:
    params: whether the state has a field of that name, or is a dictionary without one.
  """

  def init(keys, data):
    state = Keyed.create(
      apply_fn=lambda params: params["weights"] ** 2,
      params={"weights": jax.random.normal(keys.init, (3,), jnp.float32)},
      tx=optax.adam(0.1),
      key=jax.random.fold_in(keys.noise, 1),
    )
    return state if params else {**state.params, "key": state.key}

  def advance(state, keys, data, fed, first, steps):
    def step(number, state):
      if not params:
        key, used = jax.random.split(state["key"])
        return {"weights": jax.random.normal(used, (3,), jnp.float32), "key": key}
      key, used = jax.random.split(state.key)
      noise = jax.random.normal(used, (3,), jnp.float32)
      slope = jax.grad(lambda p: jnp.sum(state.apply_fn(p) + noise * p["weights"]))
      return state.apply_gradients(grads=slope(state.params)).replace(key=key)

    return lax.fori_loop(first, first + steps, step, state), {"diverged": jnp.int32(-1)}

  def evaluate(state, keys, data):
    return {"size": jnp.sum((state.params if params else state)["weights"] ** 2)}

  return Trainer((KEYED_STEPS,), dict, init, advance, evaluate, {"size": Metric()})
