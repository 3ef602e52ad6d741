"""Full-batch gradient descent: blocks, penalty, clipping, noise, fixed pools, schedule."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import build as network
from sections import merged

from seedlab import activations, designs, engine, programs, streams, training
from seedlab import config as configs
from seedlab.config import Gradient, Seeds
from seedlab.data import Dataset, augmentation
from seedlab.errors import UserError
from seedlab.studies.fullbatch import settings
from seedlab.training import gradients, losses, schedules

RNG = np.random.default_rng(0)
EXAMPLES = 22
DATASET = Dataset(
  train_image=RNG.integers(0, 256, (EXAMPLES, 8, 8, 1), np.uint8),
  train_label=RNG.integers(0, 3, EXAMPLES).astype(np.int32),
  test_image=RNG.integers(0, 256, (13, 8, 8, 1), np.uint8),
  test_label=RNG.integers(0, 3, 13).astype(np.int32),
  mean=np.array([127.0], np.float32),
  std=np.array([70.0], np.float32),
)
MODEL = {"name": "mlp", "width": 6, "depth": 1}
BASE = {
  "data": {"order": "sequential"},
  "model": MODEL,
  "optimizer": {"learning_rate": 0.1},
  "schedule": {"name": "constant"},
  "training": {"full_batch": True, "steps": 6},
}
AUGMENTED = [{"name": "flip"}]


def trainer(dataset: Dataset = DATASET, **sections) -> training.Trainer:
  return training.on_dataset(merged(BASE, **sections), dataset, 3)


def module_of(**options):
  """The network that the trainers of this file train."""
  return network(shape=(8, 8, 1), classes=3, **{**MODEL, **options})


def keys_of(run: int, **seeds) -> streams.Keys:
  return streams.derive(jnp.asarray(designs.seeds_of_run(run, Seeds(**seeds))))


def after(built: training.Trainer, first=0, steps=1, keys=None, dataset=DATASET):
  """The state after some steps from a fresh start."""
  keys, data = keys_of(1) if keys is None else keys, jax.device_put(dataset)
  state = built.init(keys, data)
  state, log = jax.jit(built.advance)(state, keys, data, None, jnp.int32(first), jnp.int32(steps))
  assert int(log["diverged"]) == -1
  return state


def assert_close(a, b, rtol=2e-5, atol=1e-6):
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    np.testing.assert_allclose(x, y, rtol=rtol, atol=atol)


# --- accumulation


@functools.cache
def one_shot():
  return after(trainer(), steps=2)


@pytest.mark.parametrize(
  ("block_size", "last_block"), [(1, "error"), (11, "error"), (4, "keep"), (21, "keep")]
)
def test_accumulated_blocks_equal_one_shot(block_size, last_block):
  blocks = trainer(gradient={"block_size": block_size, "last_block": last_block})
  assert_close(after(blocks, steps=2), one_shot())


def test_a_dropped_block_is_as_if_its_examples_were_not_there():
  fewer = DATASET._replace(
    train_image=DATASET.train_image[:20], train_label=DATASET.train_label[:20]
  )
  ours = after(trainer(gradient={"block_size": 5, "last_block": "drop"}))
  theirs = after(trainer(fewer), dataset=fewer)
  assert_close(ours.params, theirs.params)


def test_a_full_batch_visits_the_runs_own_subset():
  built = trainer(data={"train_examples": 15}, gradient={"block_size": 5})
  state = built.init(keys_of(1), jax.device_put(DATASET))
  own = DATASET._replace(
    train_image=DATASET.train_image[state.examples.index],
    train_label=DATASET.train_label[state.examples.index],
  )
  assert_close(after(built).params, after(trainer(own), dataset=own).params)


def test_a_minibatch_in_blocks_equals_the_minibatch():
  """10 + 10 + 2 examples, in blocks of 4, 4, 2 and one of 2."""
  sections = {
    "data": {"last_batch": "keep", "order": "permutation"},
    "training": {"full_batch": False, "batch_size": 10, "steps": 6},
  }
  whole = trainer(**sections)
  cut = trainer(**sections, gradient={"block_size": 4, "last_block": "keep"})
  assert whole.period == cut.period == 3
  assert_close(after(cut, steps=3), after(whole, steps=3))


def weights(accumulation: str, number: int, masks=None) -> np.ndarray:
  """The weight of every block in the whole gradient, which is the sum of unit vectors."""

  def take(b):
    return gradients.Block(b, b, None if masks is None else masks[b])

  def form(batch_stats, block):
    unit = jax.nn.one_hot(block.label, number)
    return gradients.Formed({"p": unit}, unit.sum(), batch_stats)

  whole = gradients.of_update(
    form, Gradient(accumulation=accumulation), {"p": jnp.zeros(number)}, {}, number, take
  )
  np.testing.assert_allclose(whole.loss, whole.gradient["p"].sum(), rtol=1e-4)
  return np.asarray(whole.gradient["p"], np.float64)


def test_blocks_are_weighted_by_their_real_examples():
  np.testing.assert_allclose(weights("mean", 4), 1 / 4)
  masks = jnp.arange(3)[None, :] < jnp.array([3, 3, 1])[:, None]
  np.testing.assert_allclose(weights("mean", 3, masks), [3 / 7, 3 / 7, 1 / 7], rtol=1e-6)


@pytest.mark.parametrize("number", [1, 2, 5, 390])
def test_legacy_weights_of_the_public_code(number):
  found = weights("legacy", number)
  expected = (1 / number) * (1 - 1 / number) ** (number - 1 - np.arange(number))
  np.testing.assert_allclose(found, expected, rtol=1e-4)
  assert found.sum() == pytest.approx(1 - (1 - 1 / number) ** number, rel=1e-4)
  if number == 390:
    assert found.sum() == pytest.approx(0.6326, abs=1e-3)
    assert found[-1] / found[0] == pytest.approx(math.e, rel=5e-3)


# --- penalty


def block_gradient(loss, params, rate=0.8, **fields):
  """of_block for a loss of the parameters alone."""
  block = gradients.Block(jnp.zeros(1), jnp.zeros(1), None)
  formed = gradients.of_block(
    lambda params, batch_stats, block: (loss(params), (batch_stats + 1, None)),
    Gradient(**fields),
    params,
    jnp.int32(0),
    block,
    jnp.float32(rate),
  )
  return formed.gradient, int(formed.batch_stats)


@pytest.mark.parametrize("form", ["forward", "central", "exact"])
def test_penalty_worked_by_hand_on_a_parabola(form):
  """L = 3/2 x^2 at 2: g = 6, H g = 18, so g + 0.8 / 4 * 0.5 * 18 = 7.8."""
  gradient, _ = block_gradient(
    lambda x: 1.5 * x**2, jnp.float32(2), penalty=0.5, penalty_form=form, penalty_probe=0.5
  )
  assert float(gradient) == pytest.approx(7.8, rel=1e-5)


def test_finite_differences_worked_by_hand_on_a_quartic():
  """L = x^4 at 1 with g = 4, over a span of 0.1: times g,

  ahead 4 (1.1^3 - 1) / 0.1 = 13.24, around 4 (1.05^3 - 0.95^3) / 0.1 = 12.01, exactly 12.
  """

  def penalty(form):
    gradient, passes = block_gradient(
      lambda x: x**4, jnp.float32(1), penalty=2.0, penalty_form=form, penalty_probe=0.1
    )
    return (float(gradient) - 4) / (0.8 / 4 * 2) / 4, passes

  assert penalty("forward") == (pytest.approx(13.24, rel=1e-4), 2)
  assert penalty("central") == (pytest.approx(12.01, rel=1e-4), 3)
  assert penalty("exact") == (pytest.approx(12.0, rel=1e-4), 1)


@pytest.mark.parametrize(("form", "order"), [("forward", 1), ("central", 2)])
def test_finite_differences_converge_to_the_hessian_vector_product(form, order):
  x, y = (jnp.asarray(RNG.normal(size=shape), jnp.float32) for shape in ((16, 3), (16,)))

  def loss(params):
    return jnp.mean((jnp.tanh(x @ params["in"]) @ params["out"] - y) ** 2)

  params = {
    "in": jnp.asarray(RNG.normal(size=(3, 4)), jnp.float32),
    "out": jnp.asarray(RNG.normal(size=4), jnp.float32),
  }
  fields = {"penalty": 0.5, "rate": 4.0}
  exact, _ = block_gradient(loss, params, penalty_form="exact", **fields)
  g, hessian_g = jax.jvp(jax.grad(loss), (params,), (jax.grad(loss)(params),))
  assert_close(exact, jax.tree.map(lambda g, hg: g + 0.5 * hg, g, hessian_g))

  def error(probe):
    found, _ = block_gradient(loss, params, penalty_form=form, penalty_probe=probe, **fields)
    difference = jax.tree.map(jnp.subtract, found, exact)
    return float(
      jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(difference)))
      / jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(hessian_g)))
    )

  coarse, fine = error(0.2), error(0.05)
  assert fine < 0.02
  assert coarse / fine == pytest.approx(4**order, rel=0.3)


@pytest.mark.parametrize("form", ["forward", "central", "exact"])
def test_a_gradient_of_zero_has_a_penalty_of_zero(form):
  gradient, _ = block_gradient(lambda x: (x**2).sum(), jnp.zeros(3), penalty=1, penalty_form=form)
  assert gradient.tolist() == [0, 0, 0]


def test_the_penalty_of_a_convolutional_network_is_the_hessian_vector_product():
  module = network("cnn", (8, 8, 1), 3, width=2, norm="batch", activation=activations.smelu)
  block = gradients.Block(
    augmentation.normalise(DATASET.train_image, DATASET.mean, DATASET.std),
    jnp.asarray(DATASET.train_label),
    None,
  )

  def loss(params, batch_stats, block):
    variables = {"params": params, "batch_stats": batch_stats}
    logits, changed = module.apply(variables, block.image, train=True, mutable=["batch_stats"])
    return losses.cross_entropy(logits, block.label).mean(), (changed["batch_stats"], None)

  @jax.jit
  def found(key, block):
    variables = module.init(key, block.image[:1], train=False)
    return [
      gradients.of_block(
        loss,
        Gradient(penalty=penalty, penalty_form=form, penalty_probe=0.003),
        variables["params"], variables["batch_stats"], block, 0.5,
      ).gradient
      for form, penalty in (("forward", 0.0), ("exact", 4.0), ("central", 4.0))
    ]  # fmt: skip

  plain, exact, central = map(jax.tree.leaves, found(keys_of(1).init, block))
  change = max(np.abs(a - b).max() for a, b in zip(plain, exact, strict=True))
  assert change > 0.1
  assert_close(central, exact, rtol=0, atol=0.02 * change)


# --- batch norm


def python_loop(built, block_size, gradient: Gradient):
  """The running statistics after the blocks of one step, one after the other."""
  module = module_of(norm="batch")
  state = built.init(keys_of(1), jax.device_put(DATASET))
  images = augmentation.normalise(DATASET.train_image, DATASET.mean, DATASET.std)

  @jax.jit
  def visit(params, batch_stats, images, labels):
    def loss(params):
      variables = {"params": params, "batch_stats": batch_stats}
      logits, changed = module.apply(variables, images, train=True, mutable=["batch_stats"])
      return losses.cross_entropy(logits, labels).mean(), changed["batch_stats"]

    g, changed = jax.grad(loss, has_aux=True)(params)
    norm = jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(g)))
    return changed, jax.tree.map(lambda p, g: p + gradient.penalty_probe * g / norm, params, g)

  batch_stats = state.batch_stats
  for at in range(0, EXAMPLES, block_size):
    rows = slice(at, at + block_size)
    block = (images[rows], DATASET.train_label[rows])
    batch_stats, displaced = visit(state.params, batch_stats, *block)
    if gradient.penalty and gradient.penalty_statistics:
      batch_stats, _ = visit(displaced, batch_stats, *block)
  return batch_stats


PENALTY = {"penalty": 1.0, "penalty_probe": 0.5}


@pytest.mark.parametrize("fields", [{}, PENALTY, {**PENALTY, "penalty_statistics": False}])
def test_running_statistics_follow_the_blocks(fields):
  gradient = {"block_size": 2, **fields}
  built = trainer(model={"norm": "batch"}, gradient=gradient)
  expected = python_loop(built, 2, Gradient(**gradient))
  assert_close(after(built).batch_stats, expected, rtol=1e-4, atol=1e-5)


# --- the whole update


def test_three_steps_equal_plain_numpy():
  """Penalty per block, mean, clipping, weight decay, Nesterov; softmax regression in float64."""
  probe, alpha, clip, decay, peak = 0.1, 4.0, 1.95, 0.05, 0.4
  built = trainer(
    model={"depth": 0},
    optimizer={"learning_rate": peak, "weight_decay": decay, "nesterov": True},
    schedule={"name": "warmup_cosine", "warmup_steps": 1, "period": 8},
    training={"steps": 4},
    gradient={
      "block_size": 8, "last_block": "keep", "penalty": alpha, "penalty_probe": probe,
      "clip_norm": clip,
    },
  )  # fmt: skip
  data, keys = jax.device_put(DATASET), keys_of(1)
  start = built.init(keys, data)
  (layer,) = start.params.values()
  theta = np.concatenate([layer["kernel"], layer["bias"][None]]).astype(np.float64)
  pixels = ((DATASET.train_image - 127.0) / 70.0).reshape(EXAMPLES, 64)
  inputs = np.concatenate([pixels, np.ones((EXAMPLES, 1))], 1)

  def slope(theta, rows):
    logits = inputs[rows] @ theta
    probability = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    residual = probability - np.eye(3)[DATASET.train_label[rows]]
    return inputs[rows].T @ residual / len(inputs[rows])

  velocity, clipped = np.zeros_like(theta), []
  for step, rate in enumerate([0.0, peak, peak]):
    whole = 0.0
    for rows, size in ((slice(0, 8), 8), (slice(8, 16), 8), (slice(16, 22), 6)):
      g = slope(theta, rows)
      v = alpha * g
      eps = probe / np.linalg.norm(v)
      whole += size * (g + rate / 4 * (slope(theta + eps * v, rows) - g) / eps)
    whole /= EXAMPLES
    clipped.append(np.linalg.norm(whole) > clip)
    if clipped[-1]:
      whole *= clip / (np.linalg.norm(whole) + 1e-6)
    whole += decay * theta
    velocity = whole if step == 0 else 0.9 * velocity + whole
    theta = theta - rate * (whole + 0.9 * velocity)
  assert clipped[:2] == [False, True]  # both cases are met
  state, _ = jax.jit(built.advance)(start, keys, data, None, jnp.int32(0), jnp.int32(3))
  (layer,) = state.params.values()
  np.testing.assert_allclose(layer["kernel"], theta[:-1], rtol=1e-3, atol=2e-4)
  np.testing.assert_allclose(layer["bias"], theta[-1], rtol=1e-3, atol=2e-4)


def test_clipping_by_hand():
  tree = {"a": jnp.array([3.0, 0.0]), "b": jnp.array([[4.0]])}
  clipped = gradients.clip(Gradient(clip_norm=1.0), tree)
  assert_close(clipped, {"a": np.array([0.6, 0.0]), "b": np.array([[0.8]])}, rtol=1e-5)
  for kept in (5.0, None):  # at the limit, and without one
    assert_close(gradients.clip(Gradient(clip_norm=kept), tree), tree, rtol=0, atol=0)


@pytest.mark.parametrize("noise", ["additive", "multiplicative"])
def test_noise_follows_its_stream_and_step(noise):
  tree = {"a": jnp.full((100, 30), 2.0), "b": jnp.full(1000, -2.0)}
  setting, key = Gradient(noise=noise, noise_scale=0.5), keys_of(1).noise

  def noisy(step):
    return gradients.add_noise(setting, tree, key, step)

  draw = np.asarray(jax.random.normal(streams.at_step(key, 3), (4000,), jnp.float32))
  added = 0.5 * draw if noise == "additive" else draw * np.repeat([1.0, -1.0], [3000, 1000])
  assert_close(noisy(3)["a"].ravel(), 2.0 + added[:3000], rtol=1e-5)
  assert_close(noisy(3)["b"], -2.0 + added[3000:], rtol=1e-5)
  assert (noisy(3)["a"] != noisy(4)["a"]).all()
  assert np.std(noisy(4)["a"]) == pytest.approx(0.5 if noise == "additive" else 1.0, rel=0.05)


def test_noise_comes_after_clipping_as_in_the_published_code():
  """A step is as long as its noise, not as the norm that the gradient was clipped to."""
  fields = {"noise": "additive", "noise_scale": 10.0, "clip_norm": 0.25}
  built = trainer(gradient=fields, optimizer={"momentum": 0.0, "learning_rate": 1.0})
  start = built.init(keys_of(1), jax.device_put(DATASET))
  moved = jax.tree.map(jnp.subtract, start.params, after(built).params)
  norm = math.sqrt(sum(float((leaf**2).sum()) for leaf in jax.tree.leaves(moved)))
  count = sum(leaf.size for leaf in jax.tree.leaves(moved))
  assert norm == pytest.approx(10 * math.sqrt(count), rel=0.1)


# --- schedule


def schedule(peak: float, steps: int, epoch_steps: int = 1, **section):
  return schedules.of_section(
    configs.parse({"schedule": section}).schedule, peak, steps, epoch_steps
  )


@pytest.mark.parametrize(
  ("peak", "published"),
  [
    (0.4, [0, 0.001, 0.2, 0.4, 0.4, 0.378, 0.262, 0.109]),
    (0.8, [0, 0.002, 0.4, 0.8, 0.8, 0.757, 0.524, 0.219]),
    (1.6, [0, 0.004, 0.8, 1.6, 1.6, 1.513, 1.048, 0.438]),
  ],
)
def test_published_schedule(peak, published):
  """Warm-up over 400 steps, a cosine of 4000 cut off after 3000."""
  rate = schedule(peak, 3000, name="warmup_cosine", warmup_steps=400, period=4000)
  found = [float(rate(step)) for step in (0, 1, 200, 400, 401, 1000, 2000, 2999)]
  assert found == pytest.approx(published, abs=5.1e-4)
  k = np.arange(401, 3000)
  exact = peak / 2 * (1 + np.cos(np.pi * (k - 400 - 1) / 4000))
  np.testing.assert_allclose(rate(k), exact, rtol=1e-5)


def test_published_schedule_by_epoch():
  section = {"name": "warmup_cosine", "warmup_steps": 5, "per_epoch": True}
  rate = schedule(0.1, 300 * 390, 390, **section)
  found = [float(rate(390 * epoch + 389)) for epoch in (0, 1, 5, 6, 299)]
  assert found == pytest.approx([0, 0.02, 0.1, 0.1, 0.000134], abs=1e-6)
  assert float(rate(390 * 2)) == float(rate(390 * 2 + 389)) != float(rate(390 * 3))


def test_corners_of_the_schedule():
  def values(**fields):
    rate = schedule(0.8, 6, name="warmup_cosine", **fields)
    return [round(float(rate(step)), 6) for step in range(6)]

  assert values(period=2) == [0.8, 0.8, 0.4, 0, 0, 0]  # no warm-up; 0 after its period
  assert values(warmup_steps=2, period=4) == [0, 0.4, 0.8, 0.8, 0.682843, 0.4]
  assert values(warmup_steps=2)[-1] == pytest.approx(0.4 * (1 + math.cos(math.pi / 3)))
  with pytest.raises(UserError, match=r"warmup_steps=3 .* below the number .* of epochs\), 3"):
    schedule(0.1, 9, 3, warmup_steps=3, per_epoch=True)


# --- fixed pools of augmented copies


def stored_copies(copies: int, keys: streams.Keys, plain: bool = False) -> Dataset:
  """The pool written out: images only move, and what is uncovered becomes the mean, 127."""
  index = jnp.arange(EXAMPLES, dtype=jnp.int32)
  rounds = [
    augmentation.augment(
      streams.for_examples(keys.augment, copy, index),
      augmentation.normalise(jnp.asarray(DATASET.train_image), DATASET.mean, DATASET.std),
      [(augmentation.flip, {})],
    )
    for copy in range(copies)
  ]
  pixels = np.rint(np.concatenate(rounds) * DATASET.std + DATASET.mean)
  if plain:
    pixels[:EXAMPLES] = DATASET.train_image
  return DATASET._replace(
    train_image=pixels.astype(np.uint8), train_label=np.tile(DATASET.train_label, copies)
  )


@pytest.mark.parametrize("plain", [False, True])
def test_a_pool_of_copies_equals_augmenting_once_and_storing(plain):
  keys = keys_of(1)
  stored = stored_copies(3, keys, plain)
  gradient = {"block_size": 8, "last_block": "drop"}  # 66 examples; blocks span two copies
  pool = {"copies": 3, "plain_copy": plain}
  ours = after(trainer(data=pool, augment=AUGMENTED, gradient=gradient), steps=2)
  theirs = after(trainer(stored, gradient=gradient), steps=2, dataset=stored)
  assert_close(ours.params, theirs.params, rtol=1e-6)
  assert (np.diff(stored.train_image.reshape(3, -1).astype(int), axis=0) != 0).mean() > 0.5


def test_a_full_batch_of_copies_is_the_same_in_every_step():
  def digest(first, **data):
    built = trainer(data=data, augment=AUGMENTED, gradient={"block_size": 11})
    return programs.tree_digest(after(built, first=first).params)

  assert digest(0, copies=2) == digest(5, copies=2)
  assert digest(0) != digest(5)


def test_minibatches_visit_one_copy_an_epoch():
  sections = {"training": {"full_batch": False, "batch_size": 11, "steps": 12}}
  built = trainer(data={"copies": 2}, augment=AUGMENTED, **sections)
  digests = [programs.tree_digest(after(built, first=2 * e, steps=2).params) for e in range(4)]
  assert digests[0] == digests[2] != digests[1] == digests[3]
  plain = trainer(data={"copies": 2, "plain_copy": True}, augment=AUGMENTED, **sections)
  none = trainer(**sections)
  for epoch, same in ((0, True), (1, False), (2, True)):
    ours, theirs = (after(one, first=2 * epoch, steps=2).params for one in (plain, none))
    gap = max(jax.tree.leaves(jax.tree.map(lambda a, b: jnp.abs(a - b).max(), ours, theirs)))
    assert (gap < 1e-6) == same


# --- exactness


DETERMINISTIC = {
  "plain": {},
  "clipped": {"clip_norm": 0.1},
  "penalty": {"penalty": 0.5, "clip_norm": 0.1},
  "legacy": {"accumulation": "legacy"},
}


def final(built, run, **seeds) -> str:
  return programs.tree_digest(after(built, steps=3, keys=keys_of(run, **seeds)))


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_without_randomness_only_the_initialisation_matters(name):
  gradient = {"block_size": 8, "last_block": "keep", **DETERMINISTIC[name]}
  built = trainer(model={"norm": "batch"}, gradient=gradient)
  unused = ("order", "augment", "noise", "poke")
  assert final(built, 0, vary=unused) == final(built, 1, vary=unused)
  assert final(built, 0, vary=("init",)) != final(built, 1, vary=("init",))


def test_what_each_source_of_randomness_moves():
  """Shuffling moves the bits, and so do fresh augmentation, noise and a pool's own copies."""

  def moves(stream, **sections):
    built = trainer(**sections)
    return final(built, 1, vary=(stream,)) != final(built, 2, vary=(stream,))

  blocks, pool = {"block_size": 11}, {"copies": 2}
  assert moves("order", data={"order": "permutation"}, gradient=blocks)
  assert moves("augment", augment=AUGMENTED, gradient=blocks)
  assert moves("noise", gradient={"noise": "multiplicative", "noise_scale": 0.1})
  assert moves("augment", data=pool, augment=AUGMENTED, gradient=blocks)
  assert not moves("order", data=pool, augment=AUGMENTED, gradient=blocks)


def test_full_batch_runs_are_exact_too():
  built = trainer(
    data={"order": "permutation"},
    model={"norm": "batch"},
    gradient={"block_size": 8, "last_block": "keep", "penalty": 0.5, "clip_norm": 0.5},
    evaluation={"train": True, "gradient_norm": True},
  )
  program = engine.build(built, "vmap", 3)
  seeds = np.stack([designs.seeds_of_run(run, Seeds()) for run in range(4)])
  together = engine.train(program, seeds)
  alone = engine.train(program, seeds[2:3], longest=2)
  assert alone.digest[0] == together.digest[2] and len(set(together.digest.tolist())) == 4
  for name in ("train_loss", "block_gradient_norm"):
    assert together.outcome[name].shape == (4, 6)
    assert together.outcome[name][2].tobytes() == alone.outcome[name][0].tobytes()


def test_segments_hold_many_full_batch_steps():
  assert trainer().period == 400
  assert trainer(gradient={"block_size": 11}).period == 200


def test_memory_does_not_grow_with_the_pool():
  def temporary(examples):
    many = DATASET._replace(
      train_image=np.zeros((examples, 8, 8, 1), np.uint8),
      train_label=np.zeros(examples, np.int32),
    )
    built = trainer(
      many,
      data={"order": "permutation"},
      augment=AUGMENTED,
      gradient={"block_size": 50, "penalty": 0.5},
    )
    keys, shapes = keys_of(0), jax.eval_shape(lambda: jax.device_put(many))
    state = jax.eval_shape(built.init, keys, shapes)
    lowered = jax.jit(built.advance).lower(state, keys, shapes, None, jnp.int32(0), jnp.int32(1))
    return lowered.compile().memory_analysis().temp_size_in_bytes

  small, large = 1_000, 50_000
  growth = (temporary(large) - temporary(small)) / (large - small)
  # Bytes an example: the order itself (4), random bits (4), and bits and places packed into eight
  # bytes, before and after their sort and once more while it works (24). An image alone would take
  # 64 as integers, 256 as floats.
  assert growth <= 36


# --- evaluation


def test_train_outcomes_by_hand():
  built = trainer(
    data={"train_examples": 15},
    augment=AUGMENTED,
    model={"norm": "batch"},
    evaluation={"train": True, "batch_size": 4},
  )
  data = jax.device_put(DATASET)
  state = built.init(keys_of(1), data)
  outcome = jax.jit(built.evaluate)(state, None, data)
  module = module_of(norm="batch")
  images = augmentation.normalise(data.train_image, data.mean, data.std)[state.examples.index]
  variables = {"params": state.params, "batch_stats": state.batch_stats}
  logits = module.apply(variables, images, train=False)
  labels = data.train_label[state.examples.index]
  assert float(outcome["train_loss"]) == pytest.approx(
    float(losses.cross_entropy(logits, labels).mean()), rel=1e-5
  )
  assert float(outcome["train_accuracy"]) == pytest.approx(
    float((logits.argmax(-1) == labels).mean())
  )
  assert built.metrics["train_loss"].dims == ("evaluation",)


@pytest.mark.parametrize("full_batch", [True, False])
def test_block_gradient_norm_by_hand(full_batch):
  """22 examples in blocks of 8 of which the last is left out; neither augmented nor penalised."""
  built = trainer(
    augment=AUGMENTED,
    training={"full_batch": full_batch, "batch_size": 8},
    gradient={"block_size": 8, "last_block": "drop", "penalty": 3.0},
    evaluation={"gradient_norm": True},
  )
  data = jax.device_put(DATASET)
  state = built.init(keys_of(1), data)
  module = module_of()
  images = augmentation.normalise(data.train_image, data.mean, data.std)

  def loss(params, rows):
    logits = module.apply({"params": params}, images[rows], train=True)
    return losses.cross_entropy(logits, data.train_label[rows]).mean()

  squares = [
    sum(float((leaf**2).sum()) for leaf in jax.tree.leaves(jax.grad(loss)(state.params, rows)))
    for rows in (slice(0, 8), slice(8, 16))
  ]
  outcome = jax.jit(built.evaluate)(state, None, data)
  assert float(outcome["block_gradient_norm"]) == pytest.approx(np.mean(squares), rel=1e-5)
  assert next(iter(built.metrics)) == "test_accuracy"  # the headline of reports
  assert "train_loss" not in outcome and "train_loss" not in built.metrics


# --- what is refused


@pytest.mark.parametrize(
  ("sections", "message"),
  [
    ({"gradient": {"block_size": 5}}, "block_size=5 does not divide the 22 .*: 2 would be left"),
    ({"gradient": {"block_size": 23}}, "block_size=23 is more than the 22 examples"),
    ({"gradient": {"penalty_form": "centre"}}, "penalty_form='centre' .*did you mean 'central'"),
    ({"gradient": {"clip_norm": 0.0}}, "clip_norm=0.0 must be above 0"),
    ({"gradient": {"clip_norm": -1.0}}, "clip_norm=-1.0 must be above 0"),
    ({"gradient": {"penalty": -0.5}}, "penalty=-0.5 must be at least 0"),
    ({"gradient": {"penalty": 1, "penalty_probe": 0.0}}, "penalty_probe=0.0 must be above 0"),
    ({"gradient": {"noise": "additive"}}, "noise='additive' needs gradient.noise_scale above 0"),
    ({"gradient": {"penalty": 0.5}, "optimizer": {"learning_rate": 0.0}}, "learning_rate=0.0"),
    ({"schedule": {"period": 9}}, "period=9 is not read by .*'constant', but by warmup_cosine"),
    ({"data": {"copies": 2}}, "copies=2 would all be the same image; .* in `augment`"),
    ({"data": {"plain_copy": True}}, "plain_copy=True is read only with data.copies"),
    ({"data": {"order": "replacement"}}, "order='replacement' does not visit the whole pool"),
    (
      {
        "training": {"full_batch": False, "batch_size": 10},
        "data": {"last_batch": "keep"},
        "gradient": {"block_size": 5},
      },
      "last_block='error' does not go with data.last_batch='keep'",
    ),
    (
      {"training": {"full_batch": False, "batch_size": 10}, "gradient": {"block_size": 11}},
      "block_size=11 is more than the 10 examples",
    ),
  ],
)
def test_what_makes_no_sense_is_refused(sections, message):
  with pytest.raises(UserError, match=message):
    trainer(**sections)


# --- the study's rows


def test_published_rows():
  """train.sh and config/hyp/*.yaml of the public code, row by row."""

  def recipe(row):
    config = settings.config("paper", row)
    schedule, gradient, training = config.schedule, config.gradient, config.training
    return (
      training.full_batch, training.epochs, config.optimizer.learning_rate,
      schedule.get("warmup_steps"), schedule.get("period"), gradient.clip_norm, gradient.penalty,
      gradient.block_size, config.data.order,
    )  # fmt: skip

  fixed, shuffled = "sequential", "permutation"
  assert {row: recipe(row) for row in settings.rows("paper") if "noise" not in row} == {
    "sgd": (False, 300, 0.1, 5, None, None, 0, None, shuffled),
    "sgd_replacement": (False, 300, 0.1, 5, None, None, 0, None, "replacement"),
    "sgd_tuned": (False, 300, 0.8, 5, None, 0.25, 0.5, None, shuffled),
    "full_batch": (True, 300, 0.1, 5, None, None, 0, 128, fixed),
    "longer": (True, 3000, 0.4, 400, 4000, None, 0, 128, fixed),
    "clipped": (True, 3000, 0.4, 400, 4000, 0.25, 0, 128, fixed),
    "regularized": (True, 3000, 0.8, 400, 4000, 0.25, 0.5, 128, fixed),
    "strong": (True, 3000, 0.8, 400, 4000, 0.25, 0.5, 32, fixed),
    "in_practice": (True, 3000, 0.8, 400, 4000, 0.25, 0.5, 32, shuffled),
  }
  paper = settings.config("paper", "sgd")
  assert paper.training.batch_size == 128
  changes = {"augment": [{"name": "crop"}, {"name": "flip"}]}  # four pixels of mean colour
  assert paper.augment == configs.parse(changes).augment
  optimizer = dict(paper.optimizer.options)
  names = ("momentum", "nesterov", "weight_decay")
  assert tuple(optimizer[name] for name in names) == (0.9, True, 5e-4)


def test_every_row_can_be_trained_on_a_laptop():
  for scale in ("smoke", "laptop"):
    plans = {len(training.make_trainer(settings.config(scale, row)).plan)
             for row in settings.rows(scale)}  # fmt: skip
    assert max(plans) <= 31


def test_modifiers_of_a_row():
  config = settings.config("paper", "in_practice", "copies40", "resnet50")
  assert (config.data.copies, config.model.name, config.data.order) == (
    40,
    "resnet50",
    "permutation",
  )
  assert settings.config("laptop", "strong", "no_augmentation").augment == ()
  for words, message in [
    (("huge",), "scale='huge'"),
    (("laptop", "strongly"), "row='strongly' is not known; did you mean 'strong'"),
    (("laptop", "strong", "copies41"), "modifier='copies41' is not known; did you mean"),
    (("laptop", "strong", "no_augmentation", "copies10"), "copies=10 would all be the same"),
  ]:
    with pytest.raises(UserError, match=message):
      settings.config(*words)
