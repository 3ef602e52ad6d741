"""Networks, optimisers, losses, train steps and whole functions that somebody brings."""

import functools
import importlib
import os
import pathlib
import subprocess
import sys
import time

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import own
import pytest
from flax import nnx

import seedlab
from seedlab import config as configs
from seedlab import data, engine, pool, streams, training
from seedlab.config import STREAMS
from seedlab.errors import UserError
from seedlab.models.mlp import MLP
from seedlab.training import checks

EXAMPLES = pathlib.Path(__file__).parent.parent / "examples"
NAMES = ("linen", "nnx", "equinox_mlp", "train_step", "plain_function")


def seeds(*rows, **given):
  """uint32[R, streams]: every stream seeded by the row's number, but for those given."""
  table = np.array([[row] * len(STREAMS) for row in rows], np.uint32)
  for name, value in given.items():
    table[:, STREAMS.index(name)] = value
  return table


@functools.lru_cache(maxsize=4)
def compiled(recipe):
  return engine.build(recipe(), "loop")


def trained(recipe, *rows, **given):
  return engine.train(compiled(recipe), seeds(*(rows or (3,)), **given), keep_params=True)


def first_params(recipe, row=3):
  """The parameters before the first step."""
  trainer = recipe()
  keys = streams.derive(jnp.asarray(seeds(row)[0]))
  return jax.jit(trainer.init)(keys, jax.device_put(trainer.load())).params


# Full batches, worlds, pokes: of a regression, and of next tokens in ragged windows.


def whole_gradient(params, kind):
  """The gradient of the mean loss of all examples, by JAX alone."""
  if kind == "regression":
    return jax.grad(lambda p: own.squared(own.linear_apply(p, own.X), own.Y).mean())(params)

  def mean(params):
    outputs = own.bigram_apply(params, {"tokens": own.TOKENS})
    sums, weights = own.next_token(outputs, {"tokens": own.TOKENS, "length": own.LENGTHS})
    return sums.sum() / weights.sum()

  return jax.grad(mean)(params)


@pytest.mark.parametrize(("kind", "block_size"), [
  ("regression", None), ("regression", 7), ("tokens", None), ("tokens", 7),
])  # fmt: skip
def test_a_full_batch_descends_the_gradient_of_the_whole_set(kind, block_size):
  make = getattr(own, kind)
  options = {"block_size": block_size, "last_block": "keep"} if block_size else {}
  recipe = make(optimizer=optax.sgd(0.5), full_batch=True, epochs=1, **options)
  before, after = first_params(recipe), trained(recipe).params
  expected = jax.tree.map(lambda p, g: p - 0.5 * g, before, whole_gradient(before, kind))
  for name in before:
    np.testing.assert_allclose(after[name], expected[name], rtol=1e-5, atol=1e-6)
    assert np.abs(after[name] - before[name]).max() > 1e-3


def test_blocks_of_ragged_windows_weigh_what_they_hold():
  """Means of the blocks' means are another number, so that the test above sees the difference."""
  sums, weights = own.next_token(
    own.bigram_apply(own.bigram_init(jax.random.key(0), None), {"tokens": own.TOKENS}),
    {"tokens": own.TOKENS, "length": own.LENGTHS},
  )
  blocks = [slice(at, at + 7) for at in range(0, 40, 7)]
  of_means = np.mean([sums[block].sum() / weights[block].sum() for block in blocks])
  assert abs(of_means - sums.sum() / weights.sum()) > 1e-4


def visits(**options):
  """A recipe whose parameters count, in eighths, how often each example was trained on."""
  pair = (lambda key, x: jnp.zeros((40, 1)), lambda params, x: params[x["number"], 0])
  x = {"number": np.arange(40), "tokens": own.TOKENS}
  return seedlab.supervised(
    pair,
    optax.sgd(1.0),
    (x, None),
    (x, None),
    lambda outputs, targets: -outputs,
    batch_size=8,
    **options,
  )


def test_an_ideal_world_never_repeats_an_example():
  recipe = visits(world="ideal", steps=4)
  counts = 8 * trained(recipe).params[:, 0]
  assert sorted(set(counts)) == [0, 1] and counts.sum() == 32
  other = 8 * trained(recipe, 4).params[:, 0]
  assert (counts != other).any()  # drawn by the seed
  with pytest.raises(
    UserError, match=r"^world='ideal' uses each example once: 6 steps of 8 need 48"
  ):
    visits(world="ideal", steps=6)()


def test_a_real_world_draws_its_subset_once():
  counts = 8 * trained(visits(train_examples=16, epochs=3)).params[:, 0]
  assert sorted(counts) == [0] * 24 + [3] * 16


@pytest.mark.parametrize("kind", ["regression", "tokens"])
def test_a_poke_moves_one_bit(kind):
  recipe = getattr(own, kind)(optimizer=optax.sgd(0.0), poke_step=0, steps=1)
  before, after = first_params(recipe), trained(recipe).params
  flat = [np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(p)]) for p in (before, after)]
  assert (np.abs(flat[0].view(np.int32) - flat[1].view(np.int32)) == 1).sum() == 1
  assert (flat[0] != flat[1]).sum() == 1


def test_the_loss_is_a_mean_over_all_test_examples_whatever_is_held_at_once():
  outcomes = [
    trained(own.tokens(evaluation_batch_size=size)).outcome["test_loss"] for size in (9, 4)
  ]
  np.testing.assert_allclose(outcomes[1], outcomes[0], rtol=1e-6)


# Losses that call the network themselves.


class Flow(nn.Module):
  @nn.compact
  def __call__(self, x, t):
    return nn.Dense(4)(nn.tanh(nn.Dense(8)(jnp.concatenate([x, t[:, None]], axis=-1))))


def flow_matching(apply, example, key):
  """The squared error of a velocity, at a random time on the way from noise to an example."""
  key_time, key_noise = jax.random.split(key)
  x, t, noise = example[0], jax.random.uniform(key_time), jax.random.normal(key_noise, (4,))
  return ((apply((1 - t) * noise + t * x, t) - (x - noise)) ** 2).mean()


def flow(**options):
  return seedlab.supervised(
    Flow(), optax.adam(1e-2), (own.X, None), (own.X[:12], None), flow_matching,
    **{"batch_size": 10, "epochs": 1, **options},
  )  # fmt: skip


def test_generation_keys_change_what_is_sampled_and_not_the_training():
  recipe = flow()
  first, other = trained(recipe), trained(recipe, generate=9)
  assert first.digest[0] == other.digest[0]
  assert first.outcome["test_loss"][0, -1] != other.outcome["test_loss"][0, -1]
  noisy = trained(recipe, noise=9)
  assert noisy.digest[0] != first.digest[0]  # what is drawn while it trains


def test_a_metric_may_call_a_network_that_has_batch_statistics():
  def spread(apply, example, key):
    return jnp.square(apply(example[0] + 0.1 * jax.random.normal(key, (4,))) - apply(example[0]))

  recipe = own.regression(network=Batchy(), epochs=1, metrics={"spread": (spread, "lower")})
  found, other = trained(recipe), trained(recipe, generate=9)
  assert 0 < found.outcome["spread"][0, -1] != other.outcome["spread"][0, -1]
  assert found.digest[0] == other.digest[0]


def test_each_example_has_a_key_of_its_own_whatever_the_blocks():
  """So the gradient of a batch cut into blocks is that of the whole batch."""
  whole, cut = (trained(flow(steps=1, block_size=size)).params for size in (None, 5))
  for a, b in zip(*map(jax.tree.leaves, (whole, cut)), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


# The same network, however it is written.

CONFIG = {
  "data": {"name": "digits", "train_examples": 250},
  "model": {"name": "mlp", "width": 8, "depth": 1},
  "optimizer": {"name": "sgd", "learning_rate": 0.05, "momentum": 0.9},
  "schedule": "constant",
  "training": {"batch_size": 10, "epochs": 3},
}


@functools.cache
def digits():
  """Images as the built-in network reads them, labels, and the initial parameters of run 3."""
  kept = data.read(configs.parse(CONFIG).data).dataset
  images = [
    ((image.astype(np.float32) - kept.mean) / kept.std).astype(np.float32)
    for image in (kept.train_image, kept.test_image)
  ]
  trainer = training.make_trainer(CONFIG)
  keys = streams.derive(jnp.asarray(seeds(3)[0]))
  params = jax.jit(trainer.init)(keys, jax.device_put(trainer.load())).params
  layers = [jax.tree.map(np.asarray, params[f"Dense_{n}"]) for n in range(2)]
  return (images[0], kept.train_label), (images[1], kept.test_label), layers


def built_in():
  return training.make_trainer(CONFIG)


def in_linen():
  return MLP(10, 8, "none", jax.nn.relu, 1)


class InNNX(nnx.Module):
  def __init__(self, rngs):
    hidden, out = digits()[2]
    self.hidden, self.out = nnx.Linear(64, 8, rngs=rngs), nnx.Linear(8, 10, rngs=rngs)
    for layer, values in ((self.hidden, hidden), (self.out, out)):
      layer.kernel[...], layer.bias[...] = (
        jnp.asarray(values["kernel"]),
        jnp.asarray(values["bias"]),
      )

  def __call__(self, x):
    return self.out(jax.nn.relu(self.hidden(x.reshape(x.shape[0], -1))))


def in_equinox(key):
  eqx = pytest.importorskip("equinox")
  net = eqx.nn.MLP(64, 10, 8, 1, activation=jax.nn.relu, key=key)
  for number, values in enumerate(digits()[2]):
    net = eqx.tree_at(
      lambda net, n=number: (net.layers[n].weight, net.layers[n].bias),
      net,
      (jnp.asarray(values["kernel"]).T, jnp.asarray(values["bias"])),
    )
  return eqx.nn.Sequential([eqx.nn.Lambda(jnp.ravel), net])


def supervised(network):
  train, test, _ = digits()
  return seedlab.supervised(
    network, {"name": "sgd", "momentum": 0.9}, train, test,
    learning_rate=0.05, batch_size=10, epochs=3, train_examples=250,
  )  # fmt: skip


def by_train_step():
  train, test, layers = digits()
  rule = optax.sgd(0.05, 0.9)

  def apply(params, x):
    hidden = jax.nn.relu(x.reshape(x.shape[0], -1) @ params[0]["kernel"] + params[0]["bias"][None])
    return hidden @ params[1]["kernel"] + params[1]["bias"][None]

  def loss_of(params, batch):
    return optax.softmax_cross_entropy_with_integer_labels(apply(params, batch[0]), batch[1])

  def init(key):
    del key
    params = jax.tree.map(jnp.asarray, layers)
    return {"params": params, "opt": rule.init(params)}

  def step(state, batch):
    loss, slope = jax.value_and_grad(lambda p: loss_of(p, batch).mean())(state["params"])
    updates, opt = rule.update(slope, state["opt"])
    return {"params": optax.apply_updates(state["params"], updates), "opt": opt}, {"loss": loss}

  def evaluate(state, test):
    right = apply(state["params"], test[0]).argmax(-1) == test[1]
    return {"test_accuracy": right.mean(), "test_loss": loss_of(state["params"], test).mean()}

  return seedlab.from_train_step(
    init, step, evaluate, train=train, test=test, batch_size=10, epochs=3, train_examples=250
  )


@pytest.mark.parametrize("way", ["linen", "nnx", "equinox", "train_step"])
def test_one_network_has_the_same_numbers_however_it_is_written(way):
  """Same seeds, subset, order and initial weights; sums of floats may differ in their order."""
  recipe = {
    "linen": lambda: supervised(in_linen()),
    "nnx": lambda: supervised(InNNX),
    "equinox": lambda: supervised(in_equinox),
    "train_step": by_train_step,
  }[way]()
  usual = trained(built_in)
  found = trained(recipe)
  assert 0.6 < usual.outcome["test_accuracy"][0, -1] < 0.95
  for name in ("test_accuracy", "test_loss"):
    np.testing.assert_allclose(found.outcome[name], usual.outcome[name], rtol=2e-4)


def test_a_recipe_costs_what_the_built_in_network_costs():
  values = {
    "model": {"name": "cnn", "width": 4},
    "optimizer": {"name": "sgd", "learning_rate": 0.05},
    "schedule": "constant",
    "training": {"batch_size": 20, "steps": 4},
  }
  usual = training.make_trainer(values)
  kept = data.read(configs.parse(values).data).dataset
  facts = {"classes": 10, "shape": (8, 8, 1), "activation": jax.nn.relu, "platform": "cpu",
           "dtype": jnp.dtype("float32"), "precision": "float32", "fields": ()}  # fmt: skip
  module = seedlab.parts.bind("model", "cnn", dict(configs.parse(values).model.options), facts)

  def read(x):
    return data.augmentation.normalise(x, jnp.asarray(kept.mean), jnp.asarray(kept.std))

  def init(key, x):
    return module.init(key, read(x), train=False)["params"]

  def apply(params, x, train):
    return module.apply({"params": params}, read(x), train=train)

  recipe = seedlab.supervised(
    (init, apply), {"name": "sgd"}, (kept.train_image, kept.train_label),
    (kept.test_image, kept.test_label), learning_rate=0.05, batch_size=20, steps=4,
  )  # fmt: skip
  costs = []
  for trainer in (usual, recipe()):
    counted = engine.build(trainer, "loop").advance.cost_analysis()
    costs.append({name: counted[name] for name in ("flops", "bytes accessed")})
  for name, usual in costs[0].items():
    assert 0.999 * usual < costs[1][name] <= usual


# Networks that have more than parameters.


class Batchy(nn.Module):
  @nn.compact
  def __call__(self, x, train: bool):
    x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(nn.Dense(5)(x))
    return nn.Dropout(0.5, deterministic=not train)(nn.relu(x)).sum(-1)


class BatchyNNX(nnx.Module):
  def __init__(self, rngs):
    self.hidden, self.norm = nnx.Linear(4, 5, rngs=rngs), nnx.BatchNorm(5, rngs=rngs, momentum=0.9)
    self.dropout = nnx.Dropout(0.5, rngs=rngs)

  def __call__(self, x):
    return self.dropout(nnx.relu(self.norm(self.hidden(x)))).sum(-1)


def batchy_equinox():
  eqx = pytest.importorskip("equinox")

  class Net(eqx.Module):
    hidden: eqx.nn.Linear
    norm: eqx.nn.BatchNorm
    dropout: eqx.nn.Dropout

    def __init__(self, key):
      self.hidden = eqx.nn.Linear(4, 5, key=key)
      self.norm = eqx.nn.BatchNorm(5, "batch", mode="batch", momentum=0.9)
      self.dropout = eqx.nn.Dropout(0.5)

    def __call__(self, x, state, key):
      x, state = self.norm(self.hidden(x), state)
      return self.dropout(jax.nn.relu(x), key=key).sum(), state

  return eqx.nn.make_with_state(Net)


@pytest.mark.parametrize("library", ["linen", "nnx", "equinox"])
def test_batch_statistics_and_dropout_are_carried_and_drawn(library):
  """The noise stream alone decides dropout; evaluation has none, and reads the statistics."""
  network = {"linen": Batchy, "nnx": lambda: BatchyNNX, "equinox": batchy_equinox}[library]()
  recipe = own.regression(network=network, epochs=1)
  first, again, other = (trained(recipe, noise=noise) for noise in (1, 1, 2))
  assert first.digest[0] == again.digest[0] != other.digest[0]
  assert np.isfinite(first.outcome["test_loss"]).all()
  trainer = recipe()
  keys = streams.derive(jnp.asarray(seeds(3)[0]))
  state = jax.jit(trainer.init)(keys, jax.device_put(trainer.load()))
  moved, _ = jax.jit(trainer.advance)(state, keys, jax.device_put(trainer.load()), None, 0, 1)
  pairs = zip(*(jax.tree.leaves(one.batch_stats) for one in (state, moved)), strict=True)
  assert any((before != after).any() for before, after in pairs)


# Mistakes: one line before any training.


def broken(outputs, targets):
  return squared_roots(outputs - targets)  # noqa: F821


def keyed(key):
  return lambda outputs, targets: own.squared(outputs, targets) + jax.random.normal(key, (1,))


@jax.jit
def keyed_under_jit(outputs):
  return outputs + jax.random.normal(KEY, ())


KEY = jax.random.key(0)


def reused(apply, example, key):
  time, noise = jax.random.uniform(key), jax.random.normal(key, (4,))
  return (apply(example[0] + noise, time) ** 2).sum()


X, Y = own.X, own.Y
COLUMN = (own.linear_init, lambda params, x: own.linear_apply(params, x)[:, None])


@pytest.mark.parametrize(("make", "words"), [
  (lambda: own.regression(network=COLUMN),
   r"^loss: the network's outputs have the shape \[B, 1\] and the targets \[B\], whose diff"),
  (lambda: own.regression(loss=lambda outputs, targets: own.squared(outputs, targets).mean()),
   r"^loss returned an array of shape \(\) for 2 examples; it must return one number for each"),
  (lambda: own.regression(loss=lambda outputs: outputs),
   r"^loss must be a function of \(outputs, targets\) or \(apply, example, key\), not <lambda>"),
  (lambda: own.regression(loss=keyed(jax.random.key(0))), r"^loss closes over a random key"),
  (lambda: own.regression(loss=keyed(jax.random.PRNGKey(0))), r"^loss closes over a random key"),
  (lambda: own.regression(loss=lambda outputs, targets: keyed_under_jit(outputs) - targets),
   r"^loss closes over a random key"),
  (lambda: own.regression(optimizer=optax.adamw), r"^optimizer is the function optax.adamw: call"),
  (lambda: own.regression(loss="cross_entropy"), r"^loss='cross_entropy' takes logits \[B, K\]"),
  (lambda: seedlab.supervised(
    (lambda key, x: jnp.ones((4, 3)), lambda params, x: x @ params), optax.sgd(0.1),
    (X, np.arange(60) % 4), (X, np.arange(60) % 4), batch_size=5),
   r"^the targets of train lie between 0 and 3, and the network has 3 outputs"),
  (lambda: seedlab.supervised(
    Flow(), optax.adam(1e-2), (X, None), (X, None), reused, batch_size=8),
   r"^loss uses one random key for two purposes"),
  (lambda: own.regression(loss=broken),
   r"^loss raised NameError: name 'squared_roots' is not defined\n  File .*test_recipes.py\", line"
   r" \d+, in broken\n    return squared_roots\(outputs - targets\)[^/]*$"),
  (lambda: own.regression(batch_sise=3), r"^batch_sise=3 is not an option; did you mean"),
  (lambda: own.regression(batch_size=0), r"^batch_size=0 must be at least 1"),
  (lambda: own.regression(batch_size=900), r"^batch_size=900 is more than the 60 training"),
  (lambda: own.regression(block_size=3), r"^block_size=3 does not divide the 8 examples"),
  (lambda: own.regression(penalty=0.1), r"^penalty=0.1 needs the learning rate of each step"),
  (lambda: own.regression(label_noise=0.1), r"^label_noise=0.1 replaces labels by other classes"),
  (lambda: own.regression(optimizer=3), r"^optimizer must be an optax transformation"),
  (lambda: own.regression(optimizer="adamw"), r"^optimizer='adamw' needs learning_rate="),
  (lambda: own.regression(optimizer=optax.lbfgs()), r"^optimizer raised TypeError"),
  (lambda: own.regression(network=nnx.Linear(4, 1, rngs=nnx.Rngs(0))),
   r"^network is a Linear that has its weights already"),
  (lambda: own.regression(network=nn.Dense), r"^network is the class Dense: make one of it"),
  (lambda: own.regression(network=nn.Conv(3, (2, 2, 2))), r"^network cannot read a batch of"),
  (lambda: own.regression(metrics={"mae": (own.squared, "lowest")}), r"^metrics\['mae'\]='lowest'"),
  (lambda: seedlab.supervised(own.LINEAR, optax.sgd(0.1), (X, Y[:5]), (X, Y)),
   r"^the arrays of train must have the same number of examples.*\[60, 4\], \[5\]"),
  (lambda: seedlab.supervised(own.LINEAR, optax.sgd(0.1), (X, Y), (X[:, :2], Y)),
   r"^x of train and of test must be the same trees.*float32\[4\] and float32\[2\]"),
  (lambda: seedlab.supervised(own.LINEAR, optax.sgd(0.1), X, (X, Y)), r"^train must be a pair"),
  (lambda: seedlab.supervised(Batchy(), optax.sgd(0.1), (X, Y), (X, Y),
                              lambda apply, example, key: apply(example[0]),
                              batch_size=8),
   r"^loss calls the network with one example at a time"),
])  # fmt: skip
def test_a_mistake_is_one_line_before_any_training(make, words):
  with pytest.raises(UserError, match=words):
    make()()


def stepped(
  step, init=own.linear_init, evaluate=lambda state, test: {"n": state["v"].sum()}, **given
):
  return seedlab.from_train_step(
    lambda key: init(key, X),
    step,
    evaluate,
    train=(X, Y),
    test=(X, Y),
    batch_size=8,
    steps=3,
    **given,
  )


@pytest.mark.parametrize(("make", "words"), [
  (lambda: stepped(lambda state, batch: {**state, "w": state["w"][:2]}),
   r"^train_step returned another tree than it was given: \['w'\] was float32\[4, 3\]"),
  (lambda: stepped(lambda state, batch: {"v": state["v"]}), r"^train_step returned another tree"),
  (lambda: stepped(lambda state: state), r"^train_step must be a function of \(state, batch\) or"),
  (lambda: stepped(lambda state, batch: state, evaluate=lambda state, test: 3.0),
   r"^evaluate returned a .*; it must return \{name: value\}"),
  (lambda: stepped(lambda state, batch: state, metrics={"loss": "lower"}),
   r"^metrics names 'loss', and the outcomes are n$"),
  (lambda: stepped(lambda state, batch: state, full_batch=True),
   r"^full_batch=True is not an option of this kind of recipe"),
  (lambda: stepped(lambda state, batch: state, poke_step=0), r"^poke_step=0 moves a"),
  (lambda: seedlab.function(lambda key: jax.random.normal(key)), r"^train returned a .*metric"),
  (lambda: seedlab.function(lambda a, b: {"x": a}), r"^train must be a function of \(key\) or"),
])  # fmt: skip
def test_a_mistake_of_a_train_step_is_one_line(make, words):
  with pytest.raises(UserError, match=words):
    engine.build(make()())


def test_a_plain_function_is_told_what_it_can_be_wrapped_in(tmp_path):
  for what in (own.not_a_recipe, "own:not_a_recipe"):
    with pytest.raises(UserError, match=r"a function that trains from its key in seedlab.function"):
      seedlab.sweep(what, 2, tmp_path / "sweep", quiet=True)


def test_what_takes_long_to_trace_is_named(monkeypatch, capsys):
  monkeypatch.setattr(checks, "_PATIENCE", 0.05)

  def slow(outputs, targets):
    time.sleep(0.3)
    return own.squared(outputs, targets)

  own.regression(loss=slow)()
  assert "seedlab: loss has been traced for" in capsys.readouterr().err


def test_nan_is_recorded_as_divergence_with_its_step():
  exploding = own.regression(optimizer=optax.sgd(1e30), epochs=3)
  assert 0 <= trained(exploding).diverged[0] < 4

  def step(state, batch):
    return {**state, "v": state["v"] + jnp.where(state["v"].sum() > 4, jnp.nan, 1.0)}

  assert trained(stepped(step)).diverged[0] == 1
  assert trained(seedlab.function(lambda key: {"x": jnp.float32(jnp.nan)})).diverged[0] == 0


# Train steps.


def test_a_train_step_may_be_poked_where_its_parameters_are_named():
  def step(state, batch, key):
    return {**state, "v": state["v"] + 0 * jax.random.normal(key)}, {"loss": 1.0}

  recipe = stepped(step, params=lambda state: state["w"], poke_step=1)
  before = own.linear_init(streams.derive(jnp.asarray(seeds(3)[0])).init, X)
  after = trained(recipe).params.state
  assert (np.asarray(before["w"]).view(np.int32) != after["w"].view(np.int32)).sum() == 1
  assert (before["v"] == after["v"]).all()


def test_nnx_objects_are_trained_in_place_keys_and_all():
  """A model with dropout and its optimiser, as an NNX train step changes them."""

  def init(key):
    model = BatchyNNX(nnx.Rngs(key))
    return model, nnx.Optimizer(model, optax.sgd(0.05), wrt=nnx.Param)

  def step(state, batch):
    model, optimizer = state

    def loss_of(model):
      return own.squared(model(batch[0]), batch[1]).mean()

    loss, slope = nnx.value_and_grad(loss_of)(model)
    optimizer.update(model, slope)
    return {"loss": loss}

  def evaluate(state, test):
    state[0].eval()
    return {
      "mse": own.squared(state[0](test[0]), test[1]).mean(),
      "error": state[0](test[0]) - test[1],
    }

  recipe = seedlab.from_train_step(
    init, step, evaluate, train=(X, Y), test=(X, Y), epochs=10, batch_size=10, poke_step=3,
    params=lambda state: state[0], metrics={"mse": "lower"},
  )  # fmt: skip
  found, again, poked = trained(recipe), trained(recipe), trained(recipe, poke=1)
  assert found.outcome["mse"][0, -1] < 0.95 * found.outcome["mse"][0, 0]
  assert found.digest[0] == again.digest[0] != poked.digest[0]
  assert recipe().metrics["error"].dims == ("example",)


# Sweeps, replays.


def test_a_recipe_is_accepted_wherever_a_config_is(tmp_path):
  dataset = seedlab.sweep(own.named, 3, tmp_path / "a", arguments={"steps": 4}, lanes="loop",
                          workers=1, quiet=True)  # fmt: skip
  assert dataset.sizes["run"] == 3 and dataset.attrs["trainer"]["arguments"]["rate"] == 0.1
  assert seedlab.replay(tmp_path / "a", 2, trust_code=True).exact
  cells = seedlab.grid(
    "own:named", {"rate": [0.1, 0.2]}, 2, tmp_path / "grid", quiet=True, workers=1
  )
  assert [store.name for _, store in cells] == ["rate=0.1", "rate=0.2"]
  seedlab.sweep("own:RECIPE", 2, tmp_path / "named", lanes="loop", workers=1, quiet=True)
  assert seedlab.replay(tmp_path / "named", 1, trust_code=True).exact
  assert seedlab.replay(tmp_path / "named", 1, recipe=own.RECIPE).exact
  planned = seedlab.plan(own.named, 10, quiet=True, workers=1)
  assert planned["steps_per_run"] == 6
  with pytest.raises(UserError, match=r"arguments\.stepss is not an argument of own:named"):
    seedlab.sweep("own:named", 3, tmp_path / "b", arguments={"stepss": 4})


def test_a_sweep_goes_on_with_the_same_recipe_alone(tmp_path):
  out = tmp_path / "sweep"
  seedlab.sweep(own.regression(), 2, out, quiet=True, lanes="loop")
  assert seedlab.sweep(own.regression(), 3, out, quiet=True).sizes["run"] == 3
  with pytest.raises(UserError, match=r"holds another experiment: arguments\.epochs: 2 -> 1"):
    seedlab.sweep(own.regression(epochs=1), 3, out, quiet=True)
  with pytest.raises(UserError, match=r"holds runs of another fingerprint"):
    seedlab.sweep(own.regression(optimizer=optax.sgd(0.2)), 4, out, quiet=True)
  with pytest.raises(UserError, match=r"was made by a recipe, whose code no store keeps; pass it"):
    seedlab.replay(out, 1)
  with pytest.raises(UserError, match=r"was made by another recipe: epochs: 2 -> 1"):
    seedlab.replay(out, 1, recipe=own.regression(epochs=1))
  assert seedlab.replay(out, 1, recipe=own.regression()).exact


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
  """A store of two runs of each example."""
  pytest.importorskip("equinox")
  folder = tmp_path_factory.mktemp("examples")
  sys.path.insert(0, os.fspath(EXAMPLES))
  with pool.local_pool(1) as executor:
    for name in NAMES:
      recipe = importlib.import_module(name).recipe
      seedlab.sweep(recipe, 2, folder / name, lanes="loop", executor=executor, quiet=True)
  yield folder
  sys.path.remove(os.fspath(EXAMPLES))


def test_the_examples_learn(swept):
  for name in NAMES:
    dataset = seedlab.open(swept / name)
    if name == "equinox_mlp":
      assert dataset.attrs["meanings"]["test_absolute_error"] == {
        "better": "lower", "unit": "standard deviations"
      }  # fmt: skip
      assert dataset.test_absolute_error.values[:, -1].max() < 0.7
    else:
      assert dataset.attrs["meanings"]["test_accuracy"]["better"] == "higher"
      assert dataset.test_accuracy.values[:, -1].min() > 0.85
    assert len(set(dataset.digest.values)) == 2


@pytest.mark.slow
def test_each_example_is_replayed_exactly_in_another_process(swept):
  script = f"""
import importlib, sys
import seedlab
for name in {NAMES!r}:
  recipe = importlib.import_module(name).recipe
  assert seedlab.replay({os.fspath(swept)!r} + "/" + name, 1, recipe=recipe).exact, name
print("exact")
"""
  environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.fspath(EXAMPLES), *sys.path])}
  done = subprocess.run(
    [sys.executable, "-c", script], capture_output=True, text=True, env=environment, timeout=500
  )
  assert done.stdout == "exact\n", done.stderr


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the kernel's own machinery
def test_a_recipe_is_swept_and_replayed_in_a_notebook(tmp_path):
  nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
  pytest.importorskip("ipykernel")
  source = (EXAMPLES / "linen.py").read_text().partition("if __name__")[0]
  cells = [
    source,
    "sweep = seedlab.sweep(recipe, runs=2, out='sweep', lanes='loop', quiet=True)",
    "seedlab.replay('sweep', 1, recipe=recipe).exact",
  ]
  notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
  nbclient.NotebookClient(
    notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
  ).execute()
  assert notebook.cells[-1].outputs[-1]["data"]["text/plain"] == "True"
