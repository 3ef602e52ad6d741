"""seedlab's own Trainer against rules written out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sections import merged

from seedlab import config as configs
from seedlab import designs, engine, streams, training
from seedlab.config import Evaluation, Seeds
from seedlab.data import Dataset
from seedlab.errors import UserError
from seedlab.training import losses, schedules
from seedlab.training import optimizer as optimizers

RNG = np.random.default_rng(0)
DATASET = Dataset(
  train_image=RNG.integers(0, 256, (22, 8, 8, 1), np.uint8),
  train_label=RNG.integers(0, 3, 22).astype(np.int32),
  test_image=RNG.integers(0, 256, (13, 8, 8, 1), np.uint8),
  test_label=RNG.integers(0, 3, 13).astype(np.int32),
  mean=np.array([127.0], np.float32),
  std=np.array([70.0], np.float32),
)
BASE = {
  "model": {"name": "mlp", "width": 6, "depth": 1},
  "optimizer": {"learning_rate": 0.05},
  "training": {"batch_size": 5, "epochs": 3},
}


def trainer(**sections) -> training.Trainer:
  return training.on_dataset(merged(BASE, **sections), DATASET, 3)


def keys_of(run: int, **seeds) -> streams.Keys:
  return streams.derive(jnp.asarray(designs.seeds_of_run(run, Seeds(**seeds))))


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_follows_pytorchs_rule(momentum, weight_decay, nesterov):
  """torch.optim.SGD: g += wd p; buf = g at first, then m buf + g; p -= lr (g + m buf or buf)."""
  nesterov = nesterov and momentum > 0
  fields = {"momentum": momentum, "weight_decay": weight_decay, "nesterov": nesterov}
  parsed = configs.parse({"optimizer": {"learning_rate": 0.2, **fields}, "schedule": "linear"})
  optimizer = optimizers.build(parsed.optimizer, parsed.schedule, 5)(keys_of(0).noise)
  gradients = RNG.normal(size=(5, 4)).astype(np.float32)
  params = jnp.array([1.0, -2.0, 0.5, 3.0])
  state = optimizer.init(params)
  expected, buffer = np.asarray(params, np.float64), None
  for step, gradient in enumerate(gradients):
    updates, state = optimizer.update(jnp.asarray(gradient), state, params)
    params = optax.apply_updates(params, updates)
    g = gradient + weight_decay * expected
    buffer = g if buffer is None else momentum * buffer + g
    rate = 0.2 * (1 - step / 5)
    expected = expected - rate * (g + momentum * buffer if nesterov else buffer)
    np.testing.assert_allclose(params, expected, rtol=2e-5)


def test_schedules_by_hand():
  def values(steps, **fields):
    section = configs.parse({"schedule": fields}).schedule
    schedule = schedules.of_section(section, 0.8, steps)
    return [float(schedule(step)) for step in range(steps)]

  assert values(4, name="constant") == pytest.approx([0.8] * 4)
  assert values(4, name="linear") == pytest.approx([0.8, 0.6, 0.4, 0.2])
  assert values(4, name="cosine") == pytest.approx([0.8, 0.6828427, 0.4, 0.1171573], rel=1e-5)
  warm = values(6, name="linear", warmup_steps=2)
  assert warm == pytest.approx([0.0, 0.4, 0.8, 0.6, 0.4, 0.2])
  with pytest.raises(UserError, match="warmup_steps=6"):
    values(6, warmup_steps=6)


def test_cross_entropy_by_hand():
  logits = jnp.log(jnp.array([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]]))
  labels = jnp.array([0, 2])
  plain = losses.cross_entropy(logits, labels)
  np.testing.assert_allclose(plain, -np.log([0.5, 0.7]), rtol=1e-6)
  smooth = losses.cross_entropy(logits, labels, 0.3)
  expected = [
    -(0.8 * np.log(0.5) + 0.2 * np.log(0.25)),
    -(0.8 * np.log(0.7) + 0.1 * np.log(0.1) + 0.1 * np.log(0.2)),
  ]
  np.testing.assert_allclose(smooth, expected, rtol=1e-6)


def test_a_masked_mean_divides_by_the_real_examples():
  values = jnp.array([1.0, 2.0, jnp.nan, 9.0])
  mask = jnp.array([True, True, False, False])
  mean, weight = losses.masked_mean(values, mask)
  assert float(mean) == 1.5 and weight is None


def test_a_masked_mean_of_ragged_examples_divides_by_their_weights():
  """Sums 6, 1 and of the padding 9, of 3, 1 and 5 tokens: 7 / 4."""
  sums, weights = jnp.array([6.0, 1.0, 9.0]), jnp.array([3, 1, 5])
  mean, weight = losses.masked_mean((sums, weights), jnp.array([True, True, False]))
  assert float(mean) == 7 / 4 and float(weight) == 4


def test_one_epoch_equals_plain_numpy():
  """A second route: softmax regression, whose gradient is written out by hand."""
  built = trainer(
    model={"depth": 0}, data={"order": "sequential"}, optimizer={"momentum": 0.0},
    training={"epochs": 1},
  )  # fmt: skip
  data = jax.device_put(DATASET)
  start = built.init(keys_of(1), data)
  state, log = jax.jit(built.advance)(
    start, keys_of(1), data, None, jnp.int32(0), jnp.int32(built.plan[-1])
  )
  (kernel, bias) = (
    np.asarray(_leaf(start.params, name), np.float64) for name in ("kernel", "bias")
  )
  images = ((DATASET.train_image - 127.0) / 70.0).reshape(22, 64)
  for step in range(4):
    rows = slice(5 * step, 5 * step + 5)
    logits = images[rows] @ kernel + bias
    probability = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    residual = (probability - np.eye(3)[DATASET.train_label[rows]]) / 5
    rate = 0.05 * (1 - step / 4)
    kernel, bias = kernel - rate * images[rows].T @ residual, bias - rate * residual.sum(0)
  assert int(log["diverged"]) == -1
  np.testing.assert_allclose(_leaf(state.params, "kernel"), kernel, rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(_leaf(state.params, "bias"), bias, rtol=1e-4, atol=1e-6)


def _leaf(params, name):
  (found,) = [
    leaf
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]
    if jax.tree_util.keystr(path).endswith(f"['{name}']")
  ]
  return found


def test_a_short_last_batch_is_averaged_over_its_real_examples():
  """22 examples in batches of 5, the last one kept: the same as that batch alone, of size 2."""
  whole = trainer(data={"last_batch": "keep", "order": "sequential"}, training={"epochs": 1})
  data = jax.device_put(DATASET)
  state = whole.init(keys_of(2), data)
  ours, _ = whole.advance(state, keys_of(2), data, None, jnp.int32(4), jnp.int32(1))
  pair = DATASET._replace(
    train_image=DATASET.train_image[20:], train_label=DATASET.train_label[20:]
  )
  config = configs.parse(
    {**BASE, "data": {"order": "sequential"}, "training": {"batch_size": 2, "steps": 5}}
  )
  alone = training.on_dataset(config, pair, 3)
  theirs, _ = alone.advance(
    state._replace(examples=state.examples._replace(index=jnp.arange(2, dtype=jnp.int32))),
    keys_of(2), jax.device_put(pair), None, jnp.int32(4), jnp.int32(1),
  )  # fmt: skip
  assert whole.plan == (5,)
  for a, b in zip(jax.tree.leaves(ours.params), jax.tree.leaves(theirs.params), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("batch_size", [1, 4, 5, 13, 500])
def test_evaluation_blocks_do_not_change_what_is_measured(batch_size):
  data = jax.device_put(DATASET)
  built = trainer(evaluation={"batch_size": batch_size, "probabilities": True})
  state = built.init(keys_of(0), data)
  outcome = built.evaluate(state, None, data)
  whole = trainer(evaluation={"probabilities": True}).evaluate(state, None, data)
  assert outcome["predicted_label"].tolist() == whole["predicted_label"].tolist()
  for name in ("test_accuracy", "test_loss", "test_soft_error", "probability"):
    np.testing.assert_allclose(outcome[name], whole[name], rtol=1e-5, err_msg=name)


def test_outcomes_by_hand():
  data = jax.device_put(DATASET)
  built = trainer(evaluation={"probabilities": True})
  outcome = built.evaluate(built.init(keys_of(0), data), None, data)
  probability = np.asarray(outcome["probability"], np.float64)
  chosen = probability[np.arange(13), DATASET.test_label]
  right = probability.argmax(1) == DATASET.test_label
  assert float(outcome["test_accuracy"]) == pytest.approx(right.mean())
  assert float(outcome["test_loss"]) == pytest.approx(-np.log(chosen).mean(), rel=1e-5)
  assert float(outcome["test_soft_error"]) == pytest.approx(1 - chosen.mean(), rel=1e-5)
  assert outcome["predicted_label"].dtype == jnp.uint8


def test_the_plan_evaluates_at_multiples_and_at_the_end():
  assert trainer().plan == (4, 8, 12)
  assert trainer(evaluation={"every_epochs": 2.0}).plan == (8, 12)
  assert trainer(evaluation={"every_epochs": 0.5}).plan == (2, 4, 6, 8, 10, 12)
  assert trainer(training={"steps": 7}).plan == (4, 7)


def test_order_moves_neither_initial_parameters_nor_the_subset():
  built = trainer(data={"train_examples": 15})
  data = jax.device_put(DATASET)
  first, second = (built.init(keys_of(run, vary=("order",)), data) for run in (1, 2))
  for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
    assert (a == b).all()
  other = built.init(keys_of(1, vary=("sample",)), data)
  assert (other.examples.index != first.examples.index).any()
  assert all(map(jnp.array_equal, jax.tree.leaves(other.params), jax.tree.leaves(first.params)))


def test_a_diverging_run_is_flagged_at_its_step():
  program = engine.build(trainer(optimizer={"learning_rate": 1e30}), "loop")
  seeds = np.zeros((1, len(configs.STREAMS)), np.uint32)
  whole = engine.train(program, seeds).diverged[0]
  assert 0 <= whole < 12
  assert engine.train(program, seeds, longest=1).diverged[0] == whole


SMALL = {
  "mlp": {},
  "cnn": {"model": {"name": "cnn", "width": 4, "norm": "batch"}, "data": {"last_batch": "keep"},
          "augment": [{"name": "crop", "padding": 1}, {"name": "flip"}]},
}  # fmt: skip


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize(("mode", "width"), [("loop", None), ("vmap", 3)])
def test_real_networks_are_exact_too(name, mode, width):
  config = configs.parse({**BASE, **SMALL[name]})
  program = engine.build(training.on_dataset(config, DATASET, 3), mode, width)
  seeds = np.stack([designs.seeds_of_run(run, Seeds()) for run in range(4)])
  together = engine.train(program, seeds)
  alone = engine.train(program, seeds[2:3], longest=3)
  assert alone.digest[0] == together.digest[2] and len(set(together.digest.tolist())) == 4


@pytest.mark.parametrize(
  ("sections", "message"),
  [
    ({"training": {"batch_size": 23}}, "batch_size=23"),
    ({"data": {"train_examples": 4}}, "batch_size=5"),
    ({"data": {"train_examples": 23}}, "train_examples=23"),
    ({"model": {"name": "cnm"}}, "did you mean 'cnn'"),
    ({"activation": {"name": "smelo"}}, "did you mean 'smelu'"),
    ({"activation": {"gamma": 1.0}}, "activation.gamma=1.0 is not .*'relu'"),
    ({"schedule": {"warmup_steps": 12}}, "schedule.warmup_steps=12 .* below the number .* 12"),
  ],
)
def test_what_cannot_be_trained_is_refused_before_any_work(sections, message):
  with pytest.raises(UserError, match=message):
    trainer(**sections)


def test_unknown_data_is_named():
  with pytest.raises(UserError, match="digits"):
    training.make_trainer(configs.parse({"data": {"name": "digit"}}))


def test_digits_through_make_trainer():
  built = training.make_trainer({"training": {"epochs": 1}, "evaluation": {"every_epochs": 1.0}})
  assert built.plan == (10,) and built.coords["label"][1].shape == (1297,)
  assert Evaluation().batch_size < 1297  # so that blocks are in use
