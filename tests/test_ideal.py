"""Real and ideal worlds: what is reused, what never comes twice, and that both are exact."""

import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sections import merged

from seedlab import checkpoints, designs, engine, programs, streams, training
from seedlab import config as configs
from seedlab import data as datasets
from seedlab.config import Config, Seeds
from seedlab.data import Dataset, augmentation
from seedlab.data import order as orders
from seedlab.errors import UserError
from seedlab.training import cut, evaluation, schedules
from seedlab.training import examples as sources
from seedlab.training import optimizer as optimizers

RNG = np.random.default_rng(0)
POOL, STEPS, BATCH = 120, 9, 10
# An image's first two pixels tell its position.
IMAGES = RNG.integers(0, 256, (POOL, 4, 4, 1)).astype(np.uint8)
IMAGES[:, 0, 0, 0] = np.arange(POOL)
DATASET = Dataset(
  train_image=IMAGES,
  train_label=RNG.integers(0, 3, POOL).astype(np.int32),
  test_image=RNG.integers(0, 256, (15, 4, 4, 1)).astype(np.uint8),
  test_label=RNG.integers(0, 3, 15).astype(np.int32),
  mean=np.array([127.0], np.float32),
  std=np.array([70.0], np.float32),
)
BASE = {
  "data": {"name": "made", "world": "ideal", "train_examples": 40},
  "model": {"name": "mlp", "width": 4, "depth": 1},
  "optimizer": {"learning_rate": 0.05},
  "training": {"batch_size": BATCH, "steps": STEPS},
  "evaluation": {"every_steps": 4, "train": True, "train_examples": 20},
}
FLIP = [{"name": "flip"}]
WORLD = datasets.build("gaussians").world


def config(**sections) -> Config:
  return merged(BASE, **sections)


def on_pool(**sections) -> training.Trainer:
  return training.on_dataset(config(**sections), DATASET, 3)


def on_world(**sections) -> training.Trainer:
  data = {"name": "gaussians", "test_examples": 15, **sections.pop("data", {})}
  return training.make_trainer(config(data=data, **sections))


@pytest.fixture
def on_host(monkeypatch):
  """Every pool counts as too large for a device."""
  monkeypatch.setattr(sources, "_LARGEST_ON_DEVICE", 0)


def keys_of(run: int, **seeds) -> streams.Keys:
  return streams.derive(jnp.asarray(designs.seeds_of_run(run, Seeds(**seeds))))


def seeds_of(*runs: int) -> np.ndarray:
  return np.array([[run] * len(configs.STREAMS) for run in runs], np.uint32)


def after(trainer, run=1, steps=STEPS, first=0):
  data = jax.device_put(trainer.load())
  keys = keys_of(run)
  fed = trainer.feed(seeds_of(run)[0], first, steps) if trainer.feed else None
  state = jax.jit(trainer.init)(keys, data)
  advance = jax.jit(trainer.advance)
  return advance(state, keys, data, fed, jnp.int32(first), jnp.int32(steps))[0]


def assert_close(a, b):
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


# --- nothing comes twice


def drawn(source, data, steps):
  keys = keys_of(1)
  held = source.init(keys, data)
  places = jnp.arange(BATCH, dtype=jnp.int32)
  return [source.draw(held, keys, data, None, number, 0, places) for number in range(steps)]


def source_of(settings: Config, dataset=DATASET, world=None):
  return sources.build(settings, dataset, world, 3, 40, BATCH, STEPS)


def test_an_ideal_pool_gives_each_example_once():
  seen = np.concatenate(
    [part.image[:, 0, 0, 0] for part in drawn(source_of(config()), jax.device_put(DATASET), STEPS)]
  )
  assert len(set(seen.tolist())) == STEPS * BATCH
  assert (np.diff(seen.astype(int)) < 0).any()  # in a drawn order


def test_an_ideal_world_counts_samples_up():
  parts = drawn(source_of(config(), world=WORLD), None, STEPS)
  image, label = WORLD.sample(keys_of(1).sample, jnp.arange(STEPS * BATCH, dtype=jnp.int32))
  np.testing.assert_array_equal(np.concatenate([part.image for part in parts]), image)
  np.testing.assert_array_equal(np.concatenate([part.label for part in parts]), label)
  assert len(np.unique(np.asarray(image).reshape(len(image), -1), axis=0)) == STEPS * BATCH
  keys = [
    tuple(jax.random.key_data(jax.random.fold_in(keys_of(1).sample, i)).tolist())
    for i in range(STEPS * BATCH)
  ]
  assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("train_examples", [20, None])
def test_an_ideal_world_refuses_to_outlast_its_pool(train_examples):
  evaluation = {"train": train_examples is not None, "train_examples": train_examples}
  left = 100 if train_examples else 120
  on_pool(training={"steps": left // BATCH}, evaluation=evaluation)
  too_many = POOL // BATCH + 1
  with pytest.raises(UserError, match=rf"{too_many} steps of 10.* need .*has 120") as error:
    on_pool(training={"steps": too_many}, evaluation=evaluation)
  assert f"training.steps to {left // BATCH} or fewer" in str(error.value)


@pytest.mark.parametrize(
  "sections, words",
  [
    ({"training": {"full_batch": True}}, "training.full_batch is about a set .* reused"),
    ({"data": {"copies": 2}, "augment": FLIP}, "data.copies is about a set .* reused"),
    ({"data": {"last_batch": "keep"}}, "data.last_batch='keep' is about a set .*: take 'drop'"),
    ({"schedule": {"name": "onecycle"}, "training": {"steps": 3}}, "needs 4 steps or more"),
    ({"evaluation": {"gradient_norm": True}}, "evaluation.gradient_norm is about a set"),
    ({"data": {"label_noise": 1.0}}, "label_noise=1.0 must be below 1"),
    (
      {"data": {"world": "real"}, "evaluation": {"gradient_norm": True}, "model": {"dropout": 0.1}},
      "gradient_norm=True does not go with model.dropout=0.1",
    ),
    (
      {"training": {"batch_size": 110, "steps": 1}, "data": {"train_examples": 115}},
      "set training.batch_size or evaluation.train_examples lower",
    ),
    ({"optimizer": {"learning_rate": 1e40}}, "learning_rate=1e\\+40 must be finite in float32"),
    ({"data": {"world": "perfect"}}, "data.world='perfect' is not known"),
    ({"evaluation": {"log_dense": True}}, "divides evaluation.every_steps by 16.*not 4"),
    ({"evaluation": {"train": False}}, "train_examples=20 is read only with evaluation.train,"),
    ({"schedule": {"hold_steps": 3, "per_epoch": True}}, "hold_steps=3 and schedule.per_epoch"),
    ({"optimizer": {"name": "adam", "nesterov": True}}, "nesterov=True is not read .*'adam'.*sgd"),
    ({"data": {"world": "real"}, "evaluation": {"train_examples": 41}}, "examples=41 is more than"),
  ],
)
def test_what_makes_no_sense_is_refused(sections, words):
  with pytest.raises(UserError, match=words):
    on_pool(**sections)


def test_what_a_world_is_tested_on_is_kept_for_pages(tmp_path, monkeypatch):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

  def kept(count):
    return datasets.at_hand("gaussians", test_examples=count).dataset

  assert len(kept(15).test_label) == 0
  drawn = on_world().load()
  np.testing.assert_array_equal(kept(15).test_image, drawn.test_image)
  np.testing.assert_array_equal(kept(15).test_label, drawn.test_label)
  assert len(kept(16).test_label) == 0
  with pytest.raises(UserError, match=r"test_examples=1,000,000,000 are .* GiB of images"):
    on_world(data={"test_examples": 10**9})


def test_a_world_needs_its_own_fields():
  with pytest.raises(UserError, match="train_examples=None does not do"):
    on_world(data={"train_examples": None})
  with pytest.raises(UserError, match=r"data.extra='x.npz' is not read by .*'gaussians', but by"):
    on_world(data={"extra": "x.npz"})
  with pytest.raises(UserError, match=r"steps=268,435,456 asks for more examples than the 2\^31"):
    on_world(training={"steps": 2**28}, evaluation={"every_steps": 2**20})
  with pytest.raises(UserError, match=r"every_steps=4 evaluates a run of 268,435,456 steps more"):
    on_world(training={"steps": 2**28})
  with pytest.raises(UserError, match=r"train_examples=3,000,000,000 asks for more examples"):
    on_world(data={"world": "real", "train_examples": 3 * 10**9})
  with pytest.raises(UserError, match=r"data\.noise=1\.0 is not read by .*'digits', but by"):
    training.make_trainer({"data": {"noise": 1.0}})


# --- the real world shares what it can with the ideal one


def test_both_worlds_draw_from_one_list():
  key = keys_of(3).sample
  listed = np.asarray(orders.single_pass(key, POOL, POOL))
  assert sorted(listed) == list(range(POOL))
  np.testing.assert_array_equal(orders.subset(key, POOL, 40), np.sort(listed[:40]))
  real = on_world(data={"world": "real"})
  held = real.init(keys_of(3), None).examples
  image, label = WORLD.sample(key, jnp.arange(40, dtype=jnp.int32))
  np.testing.assert_array_equal(held.image, image)
  np.testing.assert_array_equal(held.label, label)


def test_an_ideal_pool_equals_one_epoch_of_the_pool_in_its_order():
  listed = np.asarray(orders.single_pass(keys_of(1).sample, POOL, POOL))
  stored = DATASET._replace(train_image=IMAGES[listed], train_label=DATASET.train_label[listed])
  once = config(data={"world": "real", "order": "sequential", "train_examples": None})
  theirs = after(training.on_dataset(once, stored, 3))
  assert_close(after(on_pool()).params, theirs.params)


def test_an_ideal_world_equals_one_epoch_of_its_samples():
  image, label = WORLD.sample(keys_of(1).sample, jnp.arange(STEPS * BATCH, dtype=jnp.int32))
  ours = on_world()
  stored = ours.load()._replace(train_image=np.asarray(image), train_label=np.asarray(label))
  once = config(data={"world": "real", "order": "sequential", "train_examples": None})
  theirs = after(training.on_dataset(once, stored, 2))
  assert_close(after(ours).params, theirs.params)


def test_nothing_of_an_ideal_world_depends_on_the_number_of_examples():
  """Not even which flips it draws, which follow the step and not an epoch."""
  few, many = (on_pool(data={"train_examples": n}, augment=FLIP) for n in (10, 90))
  assert_close(after(few).params, after(many).params)


@pytest.mark.parametrize("world", ["real", "ideal"])
def test_a_pool_fed_by_the_host_trains_as_one_on_the_device(world, monkeypatch):
  sections = {"data": {"world": world, "label_noise": 0.3}, "augment": FLIP}
  results = {}
  for limit in (2**30, 0):
    monkeypatch.setattr(sources, "_LARGEST_ON_DEVICE", limit)
    built = on_pool(**sections)
    assert (built.feed is None) == bool(limit)
    assert built.load().train_image.nbytes == (IMAGES.nbytes if limit else 0)
    seeds = np.arange(14, dtype=np.uint32).reshape(2, 7)  # another one for every stream
    results[limit] = engine.train(engine.build(built, "loop"), seeds)
  for name, value in results[0].outcome.items():
    np.testing.assert_allclose(value, results[2**30].outcome[name], rtol=1e-5, err_msg=name)
  assert results[0].outcome["train_loss"].std() > 0


def test_too_large_a_share_of_a_pool_on_the_host_is_refused(on_host, monkeypatch):
  monkeypatch.setattr(sources, "_LARGEST_SHARE", 40 * 16)
  on_pool(data={"world": "real"})
  with pytest.raises(UserError, match=r"data.train_examples=41 of made are .* GiB to send"):
    on_pool(data={"world": "real", "train_examples": 41})


def test_a_pool_on_the_host_is_told_from_another(on_host):
  digest = programs.tree_digest(on_pool().load())
  assert digest == programs.tree_digest(on_pool().load())
  image = IMAGES.copy()
  image[-1, -1, -1, -1] ^= 1
  other = training.on_dataset(config(), DATASET._replace(train_image=image), 3)
  assert programs.tree_digest(other.load()) != digest


# --- measuring on training examples


def by_hand(trainer, state, image, label) -> tuple[float, float, float]:
  data = trainer.load()
  x = (np.asarray(image, np.float32) - data.mean) / data.std
  hidden, output = jax.device_get([state.params["Dense_0"], state.params["Dense_1"]])
  h = np.maximum(x.reshape(len(x), -1) @ hidden["kernel"] + hidden["bias"], 0)
  logits = h @ output["kernel"] + output["bias"]
  p = np.exp(logits - logits.max(1, keepdims=True))
  chosen = (p / p.sum(1, keepdims=True))[np.arange(len(label)), label]
  return (logits.argmax(1) == label).mean(), -np.log(chosen).mean(), (1 - chosen).mean()


def measured(trainer, state):
  outcome = trainer.evaluate(state, None, jax.device_put(trainer.load()))
  return [float(outcome[f"train_{name}"]) for name in ("accuracy", "loss", "soft_error")]


def test_an_ideal_world_measures_on_what_comes_next():
  listed = np.asarray(orders.single_pass(keys_of(1).sample, POOL, POOL))
  for steps in (4, STEPS):
    built = on_pool(evaluation={"batch_size": 8})  # 20 in blocks of 8
    state = after(built, steps=steps)
    next_ = listed[steps * BATCH : steps * BATCH + 20]
    expected = by_hand(built, state, IMAGES[next_], DATASET.train_label[next_])
    np.testing.assert_allclose(measured(built, state), expected, rtol=1e-5)


def test_an_ideal_world_of_samples_measures_on_what_comes_next():
  built = on_world()
  for steps in (4, STEPS):
    state = after(built, steps=steps)
    numbers = jnp.arange(steps * BATCH, steps * BATCH + 20, dtype=jnp.int32)
    image, label = jax.device_get(WORLD.sample(keys_of(1).sample, numbers))
    expected = by_hand(built, state, image, label)
    np.testing.assert_allclose(measured(built, state), expected, rtol=1e-5)


def test_a_real_world_measures_on_its_first_examples_with_their_noisy_labels():
  built = on_pool(data={"world": "real", "label_noise": 0.5})
  state = after(built)
  index, label = state.examples.index[:20], np.asarray(state.examples.label[:20])
  assert (label != DATASET.train_label[index]).any()
  expected = by_hand(built, state, IMAGES[index], label)
  np.testing.assert_allclose(measured(built, state), expected, rtol=1e-5)


def test_augmented_training_examples_are_measured_when_asked_for():
  plain, augmented = (
    on_pool(augment=FLIP, evaluation={"train_augmented": flag}) for flag in (False, True)
  )
  states = [after(one) for one in (plain, augmented)]
  assert_close(states[0].params, states[1].params)
  first, second = (measured(*pair) for pair in zip((plain, augmented), states, strict=True))
  assert abs(first[1] - second[1]) > 1e-4
  assert second == measured(augmented, states[1])  # one copy, not another one each time


def test_soft_error_by_hand():
  """Two examples of three classes: 1 - 1/2 and 1 - 1/4."""
  outcome = evaluation.of_training_examples(
    lambda images: images,
    lambda places: (
      jnp.log(jnp.array([[2.0, 1.0, 1.0], [2.0, 1.0, 1.0]]))[places],
      jnp.array([0, 2])[places],
    ),
    2,
    250,
  )
  assert float(outcome["train_soft_error"]) == pytest.approx((1 / 2 + 3 / 4) / 2)
  assert float(outcome["train_accuracy"]) == 0.5
  assert float(outcome["train_loss"]) == pytest.approx(math.log(8) / 2)


# --- dropout


def test_every_step_and_block_has_its_own_dropout():
  """Steps that are alike but for their number: all examples in order, at a constant rate."""

  def moved(dropout, first=0, **gradient):
    built = on_pool(
      data={"world": "real", "order": "sequential"},
      model={"width": 20, "dropout": dropout},
      training={"batch_size": 40},
      schedule={"name": "constant"},
      gradient=gradient,
    )
    return after(built, steps=1, first=first).params["Dense_0"]["kernel"]

  assert_close(moved(0.0), moved(0.0, first=1))
  assert abs(moved(0.5) - moved(0.5, first=1)).max() > 1e-3
  # Blocks of the same examples: with the same units dropped they would be one block again.
  repeated = DATASET._replace(
    train_image=np.tile(IMAGES[:5], (2, 1, 1, 1)), train_label=np.tile(DATASET.train_label[:5], 2)
  )
  once = DATASET._replace(train_image=IMAGES[:5], train_label=DATASET.train_label[:5])
  kernels = []
  for dataset, batch in ((repeated, 10), (once, 5)):
    settings = config(
      data={"world": "real", "order": "sequential", "train_examples": None},
      model={"width": 20, "dropout": 0.5},
      training={"batch_size": batch},
      gradient={"block_size": 5},
      evaluation={"train_examples": None},
    )
    built = training.on_dataset(settings, dataset, 3)
    kernels.append(after(built, steps=1).params["Dense_0"]["kernel"])
  assert abs(kernels[0] - kernels[1]).max() > 1e-3


# --- label noise


def test_label_noise_takes_another_class_for_good():
  index = jnp.arange(20_000, dtype=jnp.int32)
  label = index % 5
  noisy = np.asarray(sources._noisy_labels(0.2, 5, keys_of(1), index, label))
  changed = noisy != np.asarray(label)
  assert abs(changed.mean() - 0.2) < 3 * math.sqrt(0.2 * 0.8 / 20_000)
  assert noisy.min() >= 0 and noisy.max() < 5
  shift = (noisy - np.asarray(label))[changed] % 5
  counts = np.bincount(shift, minlength=5)
  assert counts[0] == 0 and (abs(counts[1:] / changed.sum() - 1 / 4) < 0.03).all()
  # By index alone: whichever others are asked for with it, and whenever.
  some = jnp.array([7, 19_999, 3], jnp.int32)
  again = sources._noisy_labels(0.2, 5, keys_of(1), some, label[some])
  np.testing.assert_array_equal(again, noisy[np.asarray(some)])
  other = np.asarray(sources._noisy_labels(0.2, 5, keys_of(2), index, label))
  assert (other != noisy).any()
  # A larger share changes these too, and to the same classes.
  more = np.asarray(sources._noisy_labels(0.4, 5, keys_of(1), index, label))
  np.testing.assert_array_equal(more[changed], noisy[changed])


def test_label_noise_is_golden():
  """Integers, level L0 of the contract: they never change, or every noisy sweep does."""
  index = jnp.arange(24, dtype=jnp.int32)
  noisy = sources._noisy_labels(0.4, 10, keys_of(0), index, jnp.zeros(24, jnp.int32))
  assert np.asarray(noisy).tolist() == GOLDEN_NOISE


GOLDEN_NOISE = [0, 2, 0, 0, 0, 0, 8, 2, 0, 0, 4, 2, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0]


def test_label_noise_trains_on_the_noisy_labels():
  keys = keys_of(1)
  index = jnp.arange(POOL, dtype=jnp.int32)
  noisy = np.asarray(sources._noisy_labels(0.5, 3, keys, index, DATASET.train_label))
  for world in ("real", "ideal"):
    ours = after(on_pool(data={"world": world, "label_noise": 0.5}))
    stored = DATASET._replace(train_label=noisy)
    settings = config(data={"world": world})
    assert_close(ours.params, after(training.on_dataset(settings, stored, 3)).params)


# --- moments of evaluation, schedules, update rules


def test_the_published_moments_of_evaluation():
  settings = config(training={"steps": 39_000}, evaluation={"every_steps": 64, "log_dense": True})
  plan = cut.plan(settings.evaluation, 39_000, 390)
  expected = {*range(4, 1025, 4), *range(8, 2049, 8), *range(64, 39_000, 64), 39_000}
  assert list(plan) == sorted(expected)
  assert cut.plan(config(evaluation={"every_steps": 4}).evaluation, 9, 4) == (4, 8, 9)
  short = config(evaluation={"every_steps": 16, "log_dense": True})
  assert cut.plan(short.evaluation, 9, 4) == (1, 2, 3, 4, 5, 6, 7, 8, 9)


def schedule(peak: float, steps: int, **section):
  return schedules.of_section(configs.parse({"schedule": section}).schedule, peak, steps)


def test_the_published_cosine_is_held_for_390_steps():
  rate = schedule(0.1, 39_000, name="cosine", hold_steps=390)
  for step in (0, 389, 390, 1000, 20_000, 38_999):
    expected = 0.05 * (1 + math.cos(math.pi * (step // 390) / 100))
    assert float(rate(step)) == pytest.approx(expected, rel=1e-4, abs=1e-9)
  assert float(rate(38_999)) == pytest.approx(2.5e-5, rel=0.02)


@pytest.mark.parametrize(
  "name, expected",
  [
    ("exponential", {0: 1, 15: 1e-3**0.5, 30: 1e-3}),
    ("three_step", {0: 1, 9: 1, 10: 0.1, 19: 0.1, 20: 0.01, 29: 0.01}),
    ("onecycle", {0: 1 / 25, 9: 1, 30: 1e-4 / 25}),
  ],
)
def test_other_schedules_by_hand(name, expected):
  rate = schedule(2.0, 30, name=name)
  for step, value in expected.items():
    assert float(rate(step)) == pytest.approx(2 * value, rel=1e-3), step
  risen = schedule(2.0, 40, name=name, warmup_steps=10)
  assert float(risen(5)) == pytest.approx(1.0)
  assert float(risen(10)) == pytest.approx(2 * expected[0], rel=1e-3)


def rules():
  """One coordinate's step by each rule from the gradients so far, as their papers write it."""

  def adam(g):
    m = sum(0.1 * 0.9 ** (len(g) - 1 - i) * x for i, x in enumerate(g))
    v = sum(0.001 * 0.999 ** (len(g) - 1 - i) * x * x for i, x in enumerate(g))
    return m / (1 - 0.9 ** len(g)) / (math.sqrt(v / (1 - 0.999 ** len(g))) + 1e-8)

  def rmsprop(g):
    v = sum(0.01 * 0.99 ** (len(g) - 1 - i) * x * x for i, x in enumerate(g))
    return g[-1] / (math.sqrt(v) + 1e-8)

  def adagrad(g):
    return g[-1] / math.sqrt(sum(x * x for x in g) + 1e-10)

  return {"adam": adam, "rmsprop": rmsprop, "adagrad": adagrad}


@pytest.mark.parametrize("name", ["adam", "rmsprop", "adagrad"])
def test_update_rules_by_hand(name):
  settings = configs.parse({
    "optimizer": {"name": name, "learning_rate": 0.1, "weight_decay": 0.01},
    "schedule": {"name": "constant"},
  })  # fmt: skip
  built = optimizers.build(settings.optimizer, settings.schedule, 4)(keys_of(0).noise)
  param, seen = jnp.array([0.5], jnp.float32), []
  state = built.init(param)
  for gradient in (0.3, -0.2, 0.0, 1.5):
    seen.append(gradient + 0.01 * float(param[0]))
    update, state = built.update(jnp.array([gradient], jnp.float32), state, param)
    assert float(update[0]) == pytest.approx(-0.1 * rules()[name](seen), rel=1e-3)
    param += update


def test_a_black_border_is_black_in_the_image():
  """Training on crops with black borders, beside training on these crops stored as images."""
  crops = [{"name": "crop", "padding": 1, "fill": "black"}]
  plain = {"world": "real", "order": "sequential", "train_examples": None}
  index = jnp.arange(POOL, dtype=jnp.int32)
  keys = streams.for_examples(keys_of(1).augment, 0, index)
  moved = augmentation.crop(keys, jnp.asarray(IMAGES, jnp.float32), None, padding=1)
  stored = DATASET._replace(train_image=np.asarray(moved).astype(np.uint8))
  ours, theirs = (
    training.on_dataset(config(data=plain, augment=changes), dataset, 3)
    for changes, dataset in ((crops, DATASET), ([], stored))
  )
  assert_close(after(ours).params, after(theirs).params)


def test_black_borders_and_half_normalisation():
  changes = [{"name": "crop", "padding": 2, "fill": "black"}]
  built = on_world(data={"normalisation": "half"}, augment=changes)
  data = built.load()
  assert data.mean == 127.5 and data.std == 127.5
  unit = on_world(data={"normalisation": "unit"}).load()
  assert unit.mean == 0 and unit.std == 255 and unit.mean.dtype == np.float32
  keys = streams.for_examples(keys_of(1).augment, 0, jnp.arange(30, dtype=jnp.int32))
  image = jnp.full((30, 8, 8, 2), 3.0)
  black = jnp.array([-1.0, -2.0])
  moved = augmentation.augment(
    keys, image, [(augmentation.crop, {"padding": 2, "fill": "black"})], black
  )
  usual = augmentation.augment(keys, image, [(augmentation.crop, {"padding": 2})])
  outside = np.asarray(usual) == 0
  assert 0.1 < outside.mean() < 0.6
  expected = np.where(outside, np.array([-1.0, -2.0]), 3.0)
  np.testing.assert_array_equal(moved, expected)


# --- exactness


def builds():
  return {
    "ideal world": on_world,
    "real world": lambda: on_world(data={"world": "real"}),
    "ideal pool": on_pool,
    "noisy labels": lambda: on_pool(data={"label_noise": 0.3, "world": "real"}),
    "adam": lambda: on_world(optimizer={"name": "adam"}),
    "dropout": lambda: on_world(model={"dropout": 0.3}),
  }


@pytest.mark.parametrize(
  "kind, mode",
  [
    ("ideal world", "loop"),
    ("ideal world", "vmap"),
    ("real world", "vmap"),
    ("ideal pool", "vmap"),
    ("noisy labels", "loop"),
    ("adam", "vmap"),
    ("dropout", "vmap"),
  ],
)
def test_runs_are_exact(kind, mode):
  program = engine.build(builds()[kind](), mode, 3 if mode == "vmap" else None)
  whole = engine.train(program, seeds_of(4, 5, 6))
  assert len(set(whole.digest.tolist())) == 3
  alone = engine.train(program, seeds_of(5), longest=1)
  assert alone.digest[0] == whole.digest[1]
  for name, value in alone.outcome.items():
    np.testing.assert_array_equal(value[0], whole.outcome[name][1])


@pytest.mark.parametrize("world", ["real", "ideal"])
def test_fed_runs_are_exact(world, on_host):
  program = engine.build(on_pool(data={"world": world, "label_noise": 0.2}), "vmap", 3)
  whole = engine.train(program, seeds_of(4, 5, 6))
  alone = engine.train(program, seeds_of(5), longest=2)
  assert alone.digest[0] == whole.digest[1] != whole.digest[0]


@pytest.mark.parametrize("kind", ["ideal world", "ideal pool"])
def test_a_killed_ideal_run_goes_on_to_the_same_bits(kind, tmp_path, monkeypatch, capfd):
  program = engine.build(builds()[kind](), "vmap", 3)
  whole = engine.train(program, seeds_of(4, 5, 6))
  place = checkpoints.folder(tmp_path)
  place.mkdir()
  saves = checkpoints.Saves(str(place), 1e-9)
  original, left = checkpoints.save, [3]

  def save(*arguments):
    original(*arguments)
    left[0] -= 1
    if not left[0]:
      raise KeyboardInterrupt

  with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
    patch.setattr(checkpoints, "save", save)
    engine.train(program, seeds_of(4, 5, 6), saves=saves)
  resumed = engine.train(program, seeds_of(4, 5, 6), saves=saves)
  assert "resumed at step 3" in capfd.readouterr().err
  assert resumed.digest.tolist() == whole.digest.tolist()
  for name, value in resumed.outcome.items():
    np.testing.assert_array_equal(value, whole.outcome[name])
  assert pathlib.Path(saves.folder).exists()


def test_only_the_sample_stream_decides_what_an_ideal_world_shows():
  source = source_of(config(data={"label_noise": 0.2}), world=WORLD)
  places = jnp.arange(BATCH, dtype=jnp.int32)

  def seen(**seeds):
    keys = keys_of(5, **seeds)
    return source.draw(source.init(keys, None), keys, None, None, 2, 0, places)

  base, same = seen(vary=("sample", "noise")), seen()
  assert programs.tree_digest(base) == programs.tree_digest(same)
  other = seen(vary=("init", "order", "augment", "noise", "poke"))
  assert (np.asarray(other.image) != np.asarray(base.image)).any()
