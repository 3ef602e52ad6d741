"""The published scans of seeds: networks, schedules, loss, float16, moments, configs."""

import functools
import math
import pathlib
import runpy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import activated, assert_near, moved, shapes, size, style
from networks import build as network
from sections import merged
from test_training import DATASET, keys_of

from seedlab import activations, models, programs, training
from seedlab import config as configs
from seedlab.config import Training
from seedlab.data import Dataset
from seedlab.errors import UserError
from seedlab.models import resnet
from seedlab.training import cut, losses, poke, schedules
from seedlab.training import optimizer as optimizers

quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
SEEDS = pathlib.Path(__file__).parent.parent / "configs" / "seeds"


def build(name, width, side=32, **fields):
  celu = functools.partial(activations.celu, alpha=0.1)
  fields = {"norm": "batch", "activation": celu} | fields
  return network(name, (side, side, 3), width=width, **fields)


@functools.cache
def config_file(name):
  return runpy.run_path(str(SEEDS / f"{name}.py"))


def config_of(name, words):
  return configs.parse(config_file(name)["get_config"](words))


# --- networks


def test_published_numbers_of_parameters():
  found = shapes(build("picard", 64))
  assert size(found["params"]) == 2_434_752 + 2_944 + 2_560 == 2_440_256
  assert size(found["batch_stats"]) == 2_944
  assert {leaf.shape for leaf in jax.tree.leaves(found) if leaf.ndim == 1} == {
    (64,),
    (128,),
    (256,),
  }
  # By hand: kernels, scale and shift of every norm (two of them of shortcuts), linear layer.
  kernels = 9 * (3 * 16 + 4 * 16**2 + 16 * 32 + 3 * 32**2 + 32 * 64 + 3 * 64**2)
  norms = 2 * (5 * 16 + 4 * 32 + 4 * 64 + 16 + 32)
  assert size(shapes(build("resnet14", 16))["params"]) == kernels + norms + 650


@pytest.mark.parametrize("name", ["picard", "resnet14"])
def test_width_scales_every_layer(name):
  wide, narrow = (shapes(build(name, width))["params"] for width in (32, 8))
  for (path, a), b in zip(
    jax.tree_util.tree_leaves_with_path(wide), jax.tree.leaves(narrow), strict=True
  ):
    one_side = path[-1].key != "kernel" or 3 in a.shape[-2:-1] or a.ndim == 2
    expected = 1 if a.shape == (10,) else 4 if one_side else 16
    assert a.size / b.size == expected, jax.tree_util.keystr(path)


def test_images_of_picards_network_have_sixteen_pixels_a_side():
  assert shapes(build("picard", 4, side=16), 16)
  with pytest.raises(UserError, match=r"model.name='picard' needs images of at least 16x16"):
    build("picard", 4, side=15)


def test_first_weights_of_picards_network_are_pytorchs():
  module = build("picard", 32, side=16)
  key = jax.random.key(0, impl="rbg")  # which XLA compiles ten times faster than threefry
  inputs = {"Conv_0": 27, "Conv_4": 9 * 64, "Dense_0": 128}

  def draw(key):
    params = module.init(key, jnp.zeros((1, 16, 16, 3)), False)["params"]
    return {name: params[name]["kernel"] for name in inputs}  # XLA draws no other

  for name, kernel in quick_jit(draw)(key).items():
    assert float(np.abs(kernel).max()) <= inputs[name] ** -0.5
    assert float(np.var(kernel)) * inputs[name] == pytest.approx(1 / 3, rel=0.09)


def test_branches_of_resnet14_start_at_zero():
  module = build("resnet14", 2, side=8)

  def scales(key):
    params = module.init(key, jnp.zeros((1, 8, 8, 3)), False)["params"]
    return {
      (*(key.key for key in path),): leaf
      for path, leaf in jax.tree_util.tree_leaves_with_path(params)
      if path[-1].key == "scale"
    }

  found = quick_jit(scales)(jax.random.key(0, impl="rbg"))
  assert len(found) == 1 + 6 * 2 + 2
  for (block, *norm), scale in found.items():
    last = block.startswith("stage") and norm[0] == "BatchNorm_1"
    assert (np.asarray(scale) == (0 if last else 1)).all()


def test_a_shortcut_without_weights_subsamples_and_adds_features_of_zero():
  block = resnet.Block(5, 2, False, "pad", style(lowering="native"), False)
  x = np.random.default_rng(0).normal(size=(4, 7, 6, 3)).astype(np.float32)
  blank = jax.eval_shape(block.init, jax.random.key(0), x, None)
  variables = jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), blank)
  params = variables["params"]
  params["BatchNorm_1"] = jax.tree.map(np.zeros_like, params["BatchNorm_1"])  # no branch
  params["BatchNorm_2"] = {"scale": np.float32([2, 3, -1]), "bias": np.float32([0, 1, 0])}
  found = quick_jit(lambda variables, x: block.apply(variables, x, None))(variables, x)
  means_and_variances = 1, 1 + 1e-5
  kept = (x[:, ::2, ::2] - means_and_variances[0]) / np.sqrt(means_and_variances[1])
  expected = np.maximum(kept * np.float32([2, 3, -1]) + np.float32([0, 1, 0]), 0)
  assert found.shape == (4, 4, 3, 5)
  np.testing.assert_allclose(found[..., :3], expected, rtol=1e-5, atol=1e-6)
  assert not np.asarray(found[..., 3:]).any()


# --- one step, beside PyTorch

COUNT = 20


def made_up(side=16, count=COUNT, classes=10):
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (count, side, side, 3), np.uint8)
  labels = rng.integers(0, classes, count).astype(np.int32)
  channels = (np.array([125, 120, 110], np.float32), np.array([60, 61, 65], np.float32))
  return Dataset(images, labels, images[:3], labels[:3], *channels)


def recipe(**model):
  paper = config_of("picard", "paper")
  unchanged = {"data": {"name": "cifar10", "order": "sequential"}, "augment": []}
  return merged(
    {**configs.to_dict(paper), **unchanged},
    model={"width": 8, **model},
    training={"batch_size": COUNT},
  )


def start_at(trainer, dataset, params, batch_stats):
  """The state that `init` gives, but for its parameters, without compiling what draws them."""
  blank = jax.eval_shape(trainer.init, keys_of(0), dataset)
  state = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), blank)
  index = np.arange(len(dataset.train_label), dtype=np.int32)
  return state._replace(
    params=params, batch_stats=batch_stats, examples=state.examples._replace(index=index)
  )


def test_a_step_is_pytorchs():
  """Epoch 3, at a rate of 0.102, from weights and momentum that nothing has at zero."""
  torch = pytest.importorskip("torch", reason="needs PyTorch (pip install -e '.[reference]')")
  dataset = made_up()
  trainer = training.on_dataset(recipe(), dataset, 10)
  variables = moved(build("picard", 8, side=16), side=16)
  rng = np.random.default_rng(2)
  momentum = jax.tree.map(
    lambda leaf: np.float32(0.02 * rng.normal(size=leaf.shape)), variables["params"]
  )
  state = start_at(trainer, dataset, variables["params"], variables["batch_stats"])
  decay, (trace, count) = state.opt_state
  at_epoch_3 = (decay, (trace._replace(trace=momentum), count._replace(count=np.int32(3))))
  advance = quick_jit(functools.partial(trainer.advance, fed=None, first=3, steps=1))
  after, log = advance(state._replace(opt_state=at_epoch_3), keys_of(0), dataset)
  assert int(log["diverged"]) == -1

  params, buffers, stats = torch_step(torch, variables, momentum, dataset)
  assert_near(jax.tree.map(np.asarray, after.params), params, 1e-5)
  assert_near(
    jax.tree.map(np.asarray, after.opt_state[1][0].trace), buffers, 1e-4
  )  # sums of 5,120 terms
  assert_near(jax.tree.map(np.asarray, after.batch_stats), stats, 1e-5)


def torch_step(torch, variables, momentum, dataset):
  """Parameters, momentum and running statistics after a step of torch.optim.SGD."""
  functional = torch.nn.functional
  params = jax.tree.map(
    lambda leaf: torch.tensor(np.asarray(leaf), requires_grad=True), variables["params"]
  )
  stats = jax.tree.map(lambda leaf: torch.tensor(np.asarray(leaf)), variables["batch_stats"])
  x = torch.tensor((dataset.train_image - dataset.mean) / dataset.std).permute(0, 3, 1, 2)

  def unit(x, number):
    x = functional.conv2d(x, params[f"Conv_{number}"]["kernel"].permute(3, 2, 0, 1), padding=1)
    norm, seen = params[f"BatchNorm_{number}"], stats[f"BatchNorm_{number}"]
    mean, var = seen["mean"].clone(), seen["var"].clone()
    values = x.numel() / x.shape[1]
    x = functional.batch_norm(
      x, mean, var, norm["scale"], norm["bias"], True, momentum=0.1, eps=1e-5
    )
    # Running variances are biased here: less by (n - 1) / n.
    old = 0.9 * seen["var"]
    seen |= {"mean": mean, "var": old + (var - old) * (values - 1) / values}
    return functional.celu(x, 0.1)

  pool = functools.partial(functional.max_pool2d, kernel_size=2)
  x = pool(unit(pool(unit(x, 0)), 1))
  x = x + unit(unit(x, 2), 3)
  x = pool(unit(pool(unit(x, 4)), 5))
  x = x + unit(unit(x, 6), 7)
  logits = 0.1 * functional.linear(x.amax((2, 3)), params["Dense_0"]["kernel"].T)
  labels = torch.tensor(dataset.train_label).long()
  plain = functional.cross_entropy(logits, labels)
  loss = plain + 2 * functional.cross_entropy(logits, labels, label_smoothing=0.2)
  loss.backward()
  leaves, structure = jax.tree.flatten(params)
  rate = 0.2 * (0.5 * 3 / 3 + 0.01)
  optimizer = torch.optim.SGD(leaves, rate, momentum=0.9, nesterov=True, weight_decay=1e-3)
  for leaf, buffer in zip(leaves, jax.tree.leaves(momentum), strict=True):
    optimizer.state[leaf]["momentum_buffer"] = torch.tensor(np.asarray(buffer))
  optimizer.step()
  buffers = [optimizer.state[leaf]["momentum_buffer"].numpy() for leaf in leaves]
  params = [leaf.detach().numpy() for leaf in leaves]
  stats = jax.tree.map(lambda leaf: leaf.numpy(), stats)
  return *(jax.tree.unflatten(structure, each) for each in (params, buffers)), stats


# --- schedules


def test_picards_schedule_is_the_published_table():
  for words, epochs in (("paper,short", 22), ("paper,long", 45)):
    settings = config_of("picard", words)
    assert settings.training.epochs == epochs
    peak = settings.optimizer.learning_rate
    rate = schedules.of_section(settings.schedule, peak, 100 * epochs, 100)
    published = {
      0: 0.0020, 1: 0.0353, 2: 0.0687, 3: 0.1020, 4: 0.0967, 6: 0.0862, 8: 0.0757, 10: 0.0652,
      12: 0.0546, 14: 0.0441, 16: 0.0336, 18: 0.0231, 20: 0.0125, 21: 0.0073,
    } | ({22: 0.0020, 33: 0.0020, 44: 0.0020} if epochs == 45 else {})  # fmt: skip
    for epoch, expected in published.items():
      for step in (100 * epoch, 100 * epoch + 99):  # constant within an epoch
        assert float(rate(step)) == pytest.approx(expected, abs=6e-5)


def test_a_cosine_over_the_whole_run_behind_its_warm_up():
  def schedule(**options):
    section = configs.parse({"schedule": {"name": "whole_cosine", **options}}).schedule
    return schedules.of_section(section, 0.4, 5000)

  rate = schedule(warmup_steps=30)
  expected = {0: 0.0, 15: 0.2, 29: 0.4 * 29 / 30, 30: 0.2 * (1 + math.cos(math.pi * 30 / 5000))}
  expected |= {2500: 0.2, 5000: 0.0}
  assert {step: float(rate(step)) for step in expected} == pytest.approx(expected, abs=1e-7)
  cold = schedule()
  assert float(cold(0)) == pytest.approx(0.4) and float(cold(2500)) == pytest.approx(0.2)


def test_biases_and_scales_at_a_rate_of_their_own():
  params = {"a": {"kernel": jnp.ones(2), "bias": jnp.ones(2)}, "n": {"scale": jnp.ones(2)}}
  slope = jax.tree.map(lambda leaf: leaf + 1, params)
  settings = configs.parse({
    "optimizer": {"learning_rate": 0.5, "weight_decay": 0.1, "bias_factor": 0.1},
    "schedule": {"name": "constant"},
  })  # fmt: skip
  optimizer = optimizers.build(settings.optimizer, settings.schedule, 9)(keys_of(0).noise)
  state = optimizer.init(params)
  expected = {"kernel": [-1.05, -1.05 * 1.9], "bias": [-0.105, -0.105 * 1.9]}
  expected["scale"] = expected["bias"]
  for step in range(2):
    updates, state = optimizer.update(slope, state, params)
    for path, leaf in jax.tree_util.tree_leaves_with_path(updates):
      np.testing.assert_allclose(leaf, expected[path[-1].key][step], rtol=1e-5)


# --- loss


def test_cross_entropy_with_twice_a_smoothed_one_is_thrice_another():
  @quick_jit
  def both(logits, labels):
    plain, smooth = (losses.cross_entropy(logits, labels, share) for share in (0.0, 0.2))
    return plain + 2 * smooth, 3 * losses.cross_entropy(logits, labels, 0.4 / 3)

  logits = np.random.default_rng(0).normal(size=(50, 10)).astype(np.float32)
  published, ours = both(logits, np.arange(50) % 10)
  np.testing.assert_allclose(ours, published, rtol=1e-5)
  settings = config_of("picard", "paper")
  assert (settings.loss.get("smoothing"), settings.training.loss_factor) == (0.4 / 3, 3.0)


def test_a_factor_scales_the_descended_loss_alone():
  """Softmax regression: the first step is three times the gradient, by hand."""
  settings = configs.parse({
    "model": {"name": "mlp", "depth": 0},
    "optimizer": {"learning_rate": 0.1, "momentum": 0.0},
    "schedule": {"name": "constant"},
    "data": {"order": "sequential"},
    "training": {"batch_size": 22, "loss_factor": 3.0},
  })  # fmt: skip
  trainer = training.on_dataset(settings, DATASET, 3)
  state = start_at(trainer, DATASET, {"Dense_0": {
    "kernel": np.zeros((64, 3), np.float32), "bias": np.float32([0, 1, 2])
  }}, {})  # fmt: skip
  advance = functools.partial(trainer.advance, fed=None, first=0, steps=1)
  (after, _), outcome = quick_jit(
    lambda state, keys, data: (advance(state, keys, data), trainer.evaluate(state, None, data))
  )(state, keys_of(0), DATASET)
  chance = np.exp([0, 1, 2]) / np.exp([0, 1, 2]).sum()
  slope = (chance - np.eye(3)[DATASET.train_label]).mean(0)
  moved_by = np.float32([0, 1, 2]) - np.asarray(after.params["Dense_0"]["bias"])
  np.testing.assert_allclose(moved_by, 0.3 * slope, atol=1e-6)
  measured = -np.log(chance[DATASET.test_label]).mean()
  assert float(outcome["test_loss"]) == pytest.approx(measured, rel=1e-5)


# --- float16


def test_float16_is_kept_throughout_but_for_norms():
  dataset = made_up()
  trainer = training.on_dataset(recipe(precision="float16"), dataset, 10)
  start = jax.eval_shape(trainer.init, keys_of(0), dataset)
  advance = functools.partial(trainer.advance, fed=None, first=0, steps=1)
  state, _ = jax.eval_shape(advance, start, keys_of(0), dataset)
  assert state == start
  for path, leaf in jax.tree_util.tree_leaves_with_path((state.params, state.opt_state[1][0])):
    name = jax.tree_util.keystr(path)
    assert leaf.dtype == ("float32" if "BatchNorm" in name else "float16"), name
  seen = []
  module = activated(build("picard", 8), lambda x: seen.append(x.dtype) or x)
  images = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float16)
  apply = functools.partial(module.apply, train=True, mutable=["batch_stats"])
  logits, stats = jax.eval_shape(
    apply, {"params": state.params, "batch_stats": state.batch_stats}, images
  )
  assert set(seen) == {jnp.dtype("float16")} and logits.dtype == jnp.float16
  assert {leaf.dtype for leaf in jax.tree.leaves(stats)} == {jnp.dtype("float32")}
  for dtype in (jnp.bfloat16, jnp.float32):  # whose logits every other network's are
    cast = jax.ShapeDtypeStruct(images.shape, dtype)
    logits, _ = jax.eval_shape(apply, shapes(module), cast)
    assert logits.dtype == jnp.float32
  smoothed = functools.partial(losses.cross_entropy, labels=np.arange(2), smoothing=0.1)
  loss = jax.eval_shape(smoothed, logits.update(dtype=jnp.float16))
  assert loss.dtype == jnp.float16


def test_training_in_float16():
  """40 steps on three classes that differ in brightness."""
  rng = np.random.default_rng(0)
  label = np.arange(60, dtype=np.int32) % 3
  image = (60 * label[:, None, None, None] + rng.integers(0, 60, (60, 4, 4, 1))).astype(np.uint8)
  dataset = Dataset(image, label, image, label, *np.float32([[90.0], [50.0]]))
  options = {"width": 6, "depth": 1, "norm": "batch"}
  settings = configs.parse({
    "data": {"order": "sequential"},
    "model": {"name": "mlp", "precision": "float16", **options},
    "optimizer": {"learning_rate": 0.1, "nesterov": True, "weight_decay": 1e-3},
    "loss": {"name": "cross_entropy", "smoothing": 0.1},
    "training": {"batch_size": 20, "steps": 40, "loss_factor": 3.0},
  })  # fmt: skip
  trainer = training.on_dataset(settings, dataset, 3)
  module = network("mlp", (4, 4, 1), 3, **options)
  init = functools.partial(module.init, train=False)
  blank = jax.eval_shape(init, jax.random.key(0), image[:1].astype(np.float32))
  drawn = jax.tree.map(lambda leaf: np.float32(rng.normal(size=leaf.shape) / 4), blank["params"])
  stats = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), blank["batch_stats"])
  params = jax.tree.map(np.asarray, models.held_in("float16", drawn))
  state = start_at(trainer, dataset, params, stats)
  advance = quick_jit(functools.partial(trainer.advance, fed=None))

  for first in range(0, 39, 3):
    state, log = advance(state, keys_of(0), dataset, first=np.int32(first), steps=np.int32(3))
    assert int(log["diverged"]) == -1
  outcome = quick_jit(trainer.evaluate)(state, None, dataset)
  assert float(outcome["test_accuracy"]) == 1
  assert 0 < float(outcome["test_loss"]) < 0.2 and outcome["test_loss"].dtype == jnp.float32
  for part in (state.params, state.opt_state[1][0].trace):
    for name, leaf in programs.named_leaves(part).items():
      assert leaf.dtype == ("float32" if "Norm" in name else "float16"), name
  # What tells runs apart knows the dtype.
  single = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), state.params)
  assert programs.tree_digest(single) != programs.tree_digest(state.params)


def test_a_poke_of_float16_is_its_last_bit():
  @quick_jit
  def poked(key):
    params = {"kernel": jnp.full((2, 3), -1.5, jnp.float16)}
    settings = (Training(poke_step=0, poke=kind) for kind in ("ulp", "factor"))
    return [poke.move(each, params, key, jnp.int32(0))["kernel"] for each in settings]

  expected = (-1.5 - 2.0**-10, float(np.float16(-1.5) * np.float16(1.001)))
  for found, other in zip(poked(keys_of(1).poke), expected, strict=True):
    assert found.dtype == jnp.float16
    assert sorted(np.asarray(found).ravel().tolist()) == [other, *5 * [-1.5]]


# --- chunks


def test_chunks_reach_the_training():
  """Chunks of one are images by themselves, larger ones are not."""

  def trained(**data):
    settings = configs.parse({
      "model": {"name": "mlp", "depth": 0},
      "data": {"order": "sequential", **data},
      "augment": [{"name": "crop", "padding": 2}, {"name": "flip"}],
      "training": {"batch_size": 22},
    })  # fmt: skip
    trainer = training.on_dataset(settings, DATASET, 3)
    blank = {"Dense_0": {"kernel": np.zeros((64, 3), np.float32), "bias": np.zeros(3, np.float32)}}
    advance = quick_jit(functools.partial(trainer.advance, fed=None, first=0, steps=1))
    state, _ = advance(start_at(trainer, DATASET, blank, {}), keys_of(0), DATASET)
    return programs.tree_digest(state.params)

  single = trained()
  assert trained(chunk=1) == single
  assert trained(chunk=11) != single


# --- moments


def test_published_moments_of_evaluation():
  short, long = config_of("picard", "paper,short"), config_of("picard", "paper,long")
  assert cut.plan(short.evaluation, 2200, 100) == (100, 200, 700, 1200, 1700, 2200)
  first = (100, 200, 700, 1200, 1700, 2200, 2700, 3200, 3700, 4200)
  assert cut.plan(long.evaluation, 4500, 100) == (*first, 4500)

  def plan(*epochs):
    return cut.plan(configs.parse({"evaluation": {"epochs": epochs}}).evaluation, 10, 3)

  assert plan(0, 2) == (3, 9, 10)
  with pytest.raises(UserError, match=r"evaluation.epochs=\(0, 3\) goes beyond the 3.33333 epochs"):
    plan(0, 3)


# --- errors and configs


@pytest.mark.parametrize(
  "sections, message",
  [
    ({"evaluation": {"epochs": (1, 1)}}, r"evaluation.epochs=\(1, 1\) must be rising"),
    ({"evaluation": {"epochs": (2, 1)}}, r"evaluation.epochs=\(2, 1\) must be rising"),
    ({"evaluation": {"epochs": (-1,)}}, r"evaluation.epochs=\(-1,\) must be rising"),
    ({"evaluation": {"epochs": (1.5,)}}, r"evaluation.epochs=1.5 must be of type int"),
    ({"evaluation": {"epochs": (1,), "every_steps": 5}}, "evaluation.every_steps=5 both say when"),
    (
      {"evaluation": {"epochs": (1,), "log_dense": True, "every_epochs": 2.0}},
      "evaluation.log_dense=True both say",
    ),
    ({"training": {"loss_factor": 0.0}}, "training.loss_factor=0.0 must be above 0"),
    ({"schedule": {"name": "picard"}}, "counts epochs: set schedule.per_epoch=True"),
    (
      {"schedule": {"name": "picard", "per_epoch": True, "warmup_steps": 1}},
      "schedule.warmup_steps=1 is not read by schedule.name='picard', but by .*linear",
    ),
    ({"data": {"chunk": 0}, "augment": ["flip"]}, "data.chunk=0 must be at least 1"),
    ({"data": {"chunk": 5}}, "data.chunk=5 .*none is changed; name augmentations in `augment`"),
    (
      {"data": {"chunk": 5, "world": "ideal"}, "augment": ["flip"]},
      "data.chunk is about a set of examples that is reused.*leave it empty",
    ),
    (
      {"model": {"precision": "float16"}, "optimizer": {"name": "adam"}},
      "optimizer.name='adam' does not go with model.precision='float16'.*leave it at 'sgd'",
    ),
    (
      {"model": {"precision": "float16"}, "gradient": {"clip_norm": 1.0}},
      "gradient.clip_norm=1.0 does not go with .*leave it at None",
    ),
    ({"model": {"precision": "float8"}}, "choices: bfloat16, float16, float32"),
  ],
)
def test_errors(sections, message):
  with pytest.raises(UserError, match=message) as error:
    configs.parse(sections)
  assert "\n" not in str(error.value)


@pytest.mark.parametrize("option", ["bias_factor", "weight_decay", "momentum"])
def test_rules_refuse_their_options_before_any_work(option):
  settings = configs.parse({"training": {"batch_size": 5}, "optimizer": {option: -1.0}})
  with pytest.raises(UserError, match=f"optimizer.{option}=-1.0 must be at least 0"):
    training.on_dataset(settings, DATASET, 3)


@pytest.mark.parametrize("name", ["picard", "summers"])
def test_config_files(name):
  """Every experiment states claim, cost, data and command, and has its three scales."""
  module = config_file(name)
  for word in ("Claim", "Cost", "Data", f"--config=seedlab:seeds/{name}:"):
    assert word in module["__doc__"]
  cost = []
  for scale in ("smoke", "laptop", "paper"):
    parsed = config_of(name, scale)
    options = dict(parsed.model.options)
    cost.append(parsed.training.epochs * options["width"])
    network(parsed.model.name, 2 * (parsed.data.get("image_size") or 32,) + (3,), **options)
  assert cost == sorted(cost) and len(set(cost)) == 3
  assert configs.parse(module["get_config"]()) == config_of(name, "laptop")
  with pytest.raises(UserError, match="scale='huge' is not known"):
    module["get_config"]("huge")
  with pytest.raises(UserError, match="='longer' is not known"):
    module["get_config"]("smoke,longer")


def test_words_of_picards_config():
  paper = config_of("picard", "paper")
  published = configs.parse({
    "data": {"name": "cifar10", "chunk": 500},
    "augment": [
      {"name": "crop", "padding": 4, "fill": "zero"},
      {"name": "flip"},
      {"name": "cutout", "size": 8},
    ],
    "activation": {"name": "celu", "alpha": 0.1},
    "optimizer": {
      "name": "sgd", "learning_rate": 0.2, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-3,
    },
    "schedule": {"name": "picard", "per_epoch": True},
  })  # fmt: skip
  for section in ("data", "augment", "activation", "optimizer", "schedule"):
    assert getattr(paper, section) == getattr(published, section), section
  assert paper.training.batch_size == 500
  changed = config_of("picard", "paper,long,per_image,float16")
  found = {name for name, *_ in configs.differences(*map(configs.to_dict, (paper, changed)))}
  assert found == {"training.epochs", "evaluation.epochs", "data.chunk", "model.precision"}
  assert changed.evaluation.epochs == (0, 1, 6, 11, 16, 21, 26, 31, 36, 41)
  assert config_of("picard", "paper,short") == paper
  assert config_of("picard", "smoke,bfloat16").model.precision == "bfloat16"
  for scale in ("smoke", "laptop"):  # of all images too, so that 100 chunks stay
    assert config_of("picard", scale).data.chunk == 500


def test_sources_of_summers_config():
  paper = config_of("summers", "paper")
  assert (paper.training.batch_size, paper.training.epochs) == (512, 500)
  published = configs.parse({
    "optimizer": {"learning_rate": 0.4, "weight_decay": 5e-4, "bias_factor": 0.1},
    "schedule": {"name": "whole_cosine", "warmup_steps": 291},
  })  # fmt: skip
  assert (paper.optimizer, paper.schedule) == (published.optimizer, published.schedule)
  assert paper.seeds.vary == ("init", "order", "augment", "noise", "poke")
  with pytest.raises(UserError, match="init, order are several sources; name one"):
    config_of("summers", "smoke,init,order")
  for source in ("init", "order", "augment"):
    changed = config_of("summers", f"paper,{source}")
    assert changed == merged(paper, seeds={"vary": [source]})
  bit = config_of("summers", "paper,bit")
  assert (bit.seeds.vary, bit.training.poke_step, bit.training.poke) == (("poke",), 0, "ulp")
