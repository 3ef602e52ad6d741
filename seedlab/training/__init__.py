"""seedlab's own Trainer: minibatch or full-batch training of an image classifier, from a Config.

for each epoch
  order = permutation(fold_in(order key, epoch))
  for each step (with `training.full_batch` the only one of its epoch)
    for each block of the step's examples: gather, normalise, augment by (epoch, index), gradient
    the blocks' mean gradient, SGD
at each evaluation: accuracy, loss and soft-error over the whole test set

In an ideal world (`data.world`) no example comes twice, and a step's are those that are next on
the run's list (training/examples.py). A minibatch is one block unless `gradient.block_size` cuts
it (training/gradients.py).
"""

import functools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from seedlab import config as configs
from seedlab import data as datasets
from seedlab import models, streams
from seedlab.config import Config, Gradient, UserError
from seedlab.data import augmentation, worlds
from seedlab.data import order as orders
from seedlab.trainer import EVALUATION, Trainer
from seedlab.training import examples as sources
from seedlab.training import gradients, initial, losses
from seedlab.training import optimizer as optimizers

__all__ = ["EVALUATION", "State", "Trainer", "make_trainer"]


# A segment of full-batch steps computes at least this many blocks, about as many as a minibatch
# epoch has steps. Nothing is drawn for a segment; it ends to let the engine report and measure.
_SEGMENT_BLOCKS = 400
_LARGEST_TEST_SET = 2 * 2**30  # bytes of it
_BULK = 1000  # of them drawn at a time
_TEST_EXAMPLES = 10_000  # of a world, unless data.test_examples says otherwise


class State(NamedTuple):
  """What one run carries from step to step."""

  params: Any
  batch_stats: Any  # empty without batch norm
  opt_state: optax.OptState
  examples: sources.Held
  measured: jax.Array  # uint32[2], the `augment` key if augmented examples are measured, else [0]


def make_trainer(config: Config | Mapping[str, Any], data_dir: str | None = None) -> Trainer:
  """The Trainer of a Config; raises UserError for what its model or data cannot do.

  Args:
    config: a Config, or what `config.parse` takes.
    data_dir: the tensorflow-datasets directory; None asks SEEDLAB_DATA.
  """
  config = configs.parse(config)
  if config.data.name in configs.WORLDS:
    return _on_world(config)
  if config.data.world_kwargs:
    raise UserError(
      f"data.world_kwargs={dict(config.data.world_kwargs)!r} is for the worlds"
      f" {', '.join(configs.WORLDS)}, not for data.name={config.data.name!r}; set it to"
      " {} with the name"
    )
  dataset = datasets.load(config.data, data_dir)
  return on_dataset(config, dataset, len(datasets.class_names(config.data, data_dir)))


def _on_world(config: Config) -> Trainer:
  world = worlds.by_name(config.data.name, config.data.image_size, dict(config.data.world_kwargs))
  if config.data.train_examples is None:
    raise UserError(
      f"data.train_examples=None does not do for data.name={config.data.name!r}, which has no end:"
      " say how many examples a real world reuses (in an ideal one they make an epoch)"
    )
  for field, usual in (("extra", None), ("train_split", "train")):
    if getattr(config.data, field) != usual:
      raise UserError(
        f"data.{field}={getattr(config.data, field)!r} is for sets of tensorflow-datasets, not for"
        f" data.name={config.data.name!r}; leave it at {usual!r}"
      )
  test_image, test_label = _drawn(world, config.data.test_examples or _TEST_EXAMPLES)
  datasets.keep_test_set(config.data, test_image, test_label)
  no_image, no_label = np.zeros((0, *world.image_shape), np.uint8), np.zeros(0, np.int32)
  # All pictures of a world are alike, so those it is tested on tell the mean and spread of a pixel.
  moments = datasets.moments(test_image)
  dataset = datasets.Dataset(no_image, no_label, test_image, test_label, *moments)
  return on_dataset(config, dataset, len(world.class_names), world)


def _drawn(world: worlds.World, examples: int) -> tuple[np.ndarray, np.ndarray]:
  """Test pictures and labels, the same for every run, from a key that no run has."""
  size = examples * math.prod(world.image_shape)
  if size > _LARGEST_TEST_SET:
    raise UserError(
      f"data.test_examples={examples:,} are {size / 2**30:.0f} GiB of pictures; set it lower"
      f" ({_TEST_EXAMPLES:,} by default)"
    )
  key = jax.random.fold_in(jax.random.key(0, impl=streams.IMPLEMENTATION), streams.TEST)
  sample = jax.jit(world.sample)  # not a training: it only fills host arrays, once
  parts = [
    jax.device_get(sample(key, jnp.arange(start, start + _BULK, dtype=jnp.int32)))
    for start in range(0, examples, _BULK)
  ]
  image, label = (np.concatenate(arrays)[:examples] for arrays in zip(*parts, strict=True))
  return image, label


def on_dataset(
  config: Config, dataset: datasets.Dataset, classes: int, world: worlds.World | None = None
) -> Trainer:
  """The Trainer of a Config on pictures already in memory, e.g. your own.

  With a `world` training pictures come from it, and `dataset` only says what they are tested on.
  """
  if config.data.normalisation != "channels":
    mean, std = {"half": (127.5, 127.5), "unit": (0, 255)}[config.data.normalisation]
    channels = np.ones(dataset.test_image.shape[-1], np.float32)
    dataset = dataset._replace(mean=mean * channels, std=std * channels)
  image_shape = dataset.test_image.shape[1:]
  total = config.data.train_examples if world else dataset.train_label.shape[0]
  examples = config.data.train_examples or total
  if examples > total:
    raise UserError(
      f"data.train_examples={examples} is more than the {total} of {config.data.name}; lower it, or"
      " leave it empty to take all"
    )
  copies, full_batch = config.data.copies, config.training.full_batch
  ideal = config.data.world == "ideal"
  batch_size, epoch_steps, blocks, block_size, ragged = _cut(config, examples)
  masked = ragged or blocks * block_size > batch_size  # some block may be incomplete
  steps = config.training.steps or config.training.epochs * epoch_steps
  precision = config.model.precision
  module = models.build(config.model, classes, image_shape, jax.default_backend())
  optimizer = optimizers.build(config.optimizer, steps, epoch_steps)
  schedule = optimizers.schedule(config.optimizer, steps, epoch_steps)
  source = sources.build(config, dataset, world, classes, examples, batch_size, steps)

  def init(keys, data):
    variables = module.init(keys.init, jnp.zeros((1, *image_shape), precision), train=False)
    params = variables["params"]
    measured = jnp.zeros(0, jnp.uint32)
    if config.evaluation.train_augmented:
      measured = jax.random.key_data(keys.augment)
    return State(
      params,
      variables.get("batch_stats", {}),
      optimizer.init(params),
      source.init(keys, data),
      measured,
    )

  def loss(params, batch_stats, block):
    logits, changed = module.apply(
      {"params": params, "batch_stats": batch_stats},
      block.image,
      train=True,
      mask=block.mask,
      mutable=["batch_stats"],
      rngs=None if block.key is None else {"dropout": block.key},
    )
    values = losses.cross_entropy(logits, block.label, config.training.label_smoothing)
    return losses.masked_mean(values, block.mask), changed.get("batch_stats", {})

  def prepare(image, index, key, epoch, data):
    """Pictures as the network meets them, augmented if there is a key."""
    image = augmentation.normalise(image, data.mean, data.std)
    if key is not None:
      keys = streams.for_examples(key, epoch, index)
      changed = augmentation.augment(keys, image, config.data, -data.mean / data.std)
      if config.data.plain_copy:
        first = jnp.broadcast_to(epoch == 0, index.shape)[:, None, None, None]
        changed = jnp.where(first, image, changed)
      image = changed
    return image.astype(precision)

  def step(state, number, first, order, keys, data, fed):
    epoch = number if ideal else number // epoch_steps
    if full_batch:
      positions, real = orders.epoch_order(keys.order, epoch, batch_size, config.data.order), None
    elif ideal:
      positions, real = jnp.arange(batch_size, dtype=jnp.int32), jnp.ones(batch_size, bool)
    else:
      positions, real = orders.batch(order, number % epoch_steps, batch_size)

    def take(block):
      places, mask = positions, real
      if blocks > 1:
        places, mask = orders.batch(positions, block, block_size)
        if ragged:
          mask &= orders.batch(real, block, block_size)[0]
      copy = epoch
      if copies:
        copy = places // examples if full_batch else epoch % copies
        places = places % examples
      drawn = source.draw(state.examples, keys, data, fed, number, first, places)
      dropout = None
      if config.model.dropout:
        branch = streams.at_step(keys.noise, streams.DROPOUT)
        dropout = streams.at_step(streams.at_step(branch, number), block)
      return gradients.Block(
        prepare(drawn.image, drawn.index, keys.augment, copy, data),
        drawn.label,
        mask if masked else None,
        dropout,
      )

    rate = schedule(number) if config.gradient.penalty else None
    formed = gradients.of_update(
      lambda batch_stats, block: gradients.of_block(
        loss, config.gradient, state.params, batch_stats, block, rate
      ),
      config.gradient,
      state.params,
      state.batch_stats,
      # Of an incomplete last batch only the blocks with real examples: the others have no mean.
      -(-real.sum(dtype=jnp.int32) // block_size) if ragged and blocks > 1 else blocks,
      take,
    )
    whole = gradients.add_noise(config.gradient, formed.gradient, keys.noise, number)
    whole = gradients.clip(config.gradient, whole)
    updates, opt_state = optimizer.update(whole, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    finite = jnp.isfinite(formed.loss) & jnp.isfinite(optax.tree.sum(params))
    state = state._replace(params=params, batch_stats=formed.batch_stats, opt_state=opt_state)
    return state, finite

  def advance(state, keys, data, fed, first, steps):
    order = None
    if not (full_batch or ideal):
      order = orders.epoch_order(keys.order, first // epoch_steps, examples, config.data.order)

    def body(number, carry):
      state, diverged = carry
      state, finite = step(state, number, first, order, keys, data, fed)
      return state, jnp.where((diverged < 0) & ~finite, number, diverged)

    state, diverged = lax.fori_loop(first, first + steps, body, (state, jnp.int32(-1)))
    held = source.settle(state.examples, keys, data, fed, first + steps)
    return state._replace(examples=held), {"diverged": diverged}

  def gradient_norm(state, data):
    size = min(block_size, examples)

    def take(block):
      places, _ = orders.batch(jnp.arange(examples, dtype=jnp.int32), block, size)
      image, label, _ = sources.look_up(state.examples, data, places)
      return gradients.Block(prepare(image, None, None, None, data), label, None)

    def form(batch_stats, block):
      return gradients.of_block(loss, Gradient(), state.params, batch_stats, block)

    return gradients.mean_squared_norm(form, state.batch_stats, examples // size, take)

  def train_block(state, data, places):
    image, label, index = sources.look_up(state.examples, data, places)
    key = None
    if config.evaluation.train_augmented:
      key = jax.random.wrap_key_data(state.measured, impl=streams.IMPLEMENTATION)
    return prepare(image, index, key, sources.MEASURED, data), label

  def evaluate(state, data):
    outcome = _evaluate(module, state, data, config)
    if config.evaluation.train:
      outcome |= _evaluate_train(module, state, data, config, source.measured, train_block)
    if config.evaluation.gradient_norm:
      outcome["block_gradient_norm"] = gradient_norm(state, data)
    return outcome

  dims = {
    "test_accuracy": (EVALUATION,),
    "test_loss": (EVALUATION,),
    "test_soft_error": (EVALUATION,),
    "predicted_label": ("example",),
  }
  if config.evaluation.train:
    dims |= {f"train_{name}": (EVALUATION,) for name in ("accuracy", "loss", "soft_error")}
  if config.evaluation.gradient_norm:
    dims["block_gradient_norm"] = (EVALUATION,)
  if config.evaluation.probabilities:
    dims["probability"] = ("example", "class")
  period = -(-_SEGMENT_BLOCKS // blocks) if full_batch else None if ideal else epoch_steps
  trainer = Trainer(
    plan=_plan(config, steps, epoch_steps),
    load=functools.cache(lambda: sources.on_device(dataset)),  # hashes a large pool
    init=init,
    advance=advance,
    evaluate=evaluate,
    dims=dims,
    feed=source.feed,
    period=source.period or period,
    coords={"label": ("example", dataset.test_label)},
  )
  return initial.start_from(trainer, config.model) if config.model.initial else trainer


class _Cut(NamedTuple):
  """How the examples of a run are cut into updates, and those into blocks."""

  batch_size: int  # examples of an update
  epoch_steps: int
  blocks: int  # of an update
  block_size: int
  ragged: bool  # whether the last update of an epoch is incomplete


def _cut(config: Config, examples: int) -> _Cut:
  if config.training.full_batch:
    pool = examples * (config.data.copies or 1)
    return _Cut(pool, 1, *gradients.blocks(config.gradient, pool), ragged=False)
  batch_size, last_batch = config.training.batch_size, config.data.last_batch
  if batch_size > examples:
    raise UserError(
      f"training.batch_size={batch_size} is more than the {examples} training examples"
      f" of {config.data.name}; lower it"
    )
  blocks, block_size = gradients.blocks(config.gradient, batch_size)
  ragged = last_batch == "keep" and examples % batch_size != 0
  if ragged and blocks > 1 and config.gradient.last_block != "keep":
    raise UserError(
      f"gradient.last_block={config.gradient.last_block!r} does not go with data.last_batch='keep',"
      f" which leaves a last batch of {examples % batch_size} of {examples} examples: set it to"
      " 'keep' too"
    )
  epoch_steps = orders.steps_per_epoch(examples, batch_size, last_batch)
  return _Cut(batch_size, epoch_steps, blocks, block_size, ragged)


def _plan(config: Config, steps: int, epoch_steps: int) -> tuple[int, ...]:
  """The steps after which a run is evaluated: at intervals, rounded, and after the last one.

  Log-dense with an interval of I: also every I / 16 up to 16 I and every I / 8 up to
  32 I. The published moments (Nakkiran et al. 2021) have I = 64: every 4 steps up to
  1,024, every 8 up to 2,048.
  """
  evaluation = config.evaluation
  every = evaluation.every_steps or evaluation.every_epochs * epoch_steps
  marks = {round(every * n) for n in range(1, math.ceil(steps / every) + 1)}
  if evaluation.log_dense:
    interval = int(every)
    for part, end in ((16, 16), (8, 32)):
      marks |= set(range(interval // part, end * interval + 1, interval // part))
  return tuple(sorted({mark for mark in marks if 0 < mark < steps} | {steps}))


def _evaluate(module, state: State, data, config: Config) -> dict[str, jax.Array]:
  """Outcomes on the whole test set, in blocks so that memory does not grow with it."""
  examples = data.test_label.shape[0]
  block = min(config.evaluation.batch_size, examples)
  blocks = -(-examples // block)
  variables = {"params": state.params, "batch_stats": state.batch_stats}

  def logits_of_block(number):
    # The last block is moved back to lie inside the set; what overlaps is dropped below.
    start = jnp.minimum(number * block, examples - block)
    images = lax.dynamic_slice_in_dim(data.test_image, start, block)
    images = augmentation.normalise(images, data.mean, data.std).astype(config.model.precision)
    return module.apply(variables, images, train=False)

  if blocks == 1:
    logits = logits_of_block(0)
  else:
    stacked = lax.map(logits_of_block, jnp.arange(blocks, dtype=jnp.int32))
    whole = (blocks - 1) * block
    head = stacked[:-1].reshape(whole, -1)
    logits = jnp.concatenate([head, stacked[-1, block - (examples - whole) :]])
  labels = data.test_label
  probability = jax.nn.softmax(logits)
  predicted = logits.argmax(-1)
  chosen = jnp.take_along_axis(probability, labels[:, None], axis=-1)[:, 0]
  outcome = {
    "test_accuracy": (predicted == labels).sum() / examples,
    "test_loss": losses.cross_entropy(logits, labels).sum() / examples,
    # 1 - p(y | x): the error of a label sampled from the softmax (Nakkiran et al. 2021).
    "test_soft_error": (1 - chosen).sum() / examples,
    "predicted_label": predicted.astype(jnp.uint8 if logits.shape[-1] <= 256 else jnp.uint16),
  }
  if config.evaluation.probabilities:
    outcome["probability"] = probability
  return outcome


def _evaluate_train(
  module, state: State, data, config: Config, examples: int, take
) -> dict[str, jax.Array]:
  """Outcomes on the first `examples` training examples that `take` (state, data, places) gives."""
  block = min(config.evaluation.batch_size, examples)
  variables = {"params": state.params, "batch_stats": state.batch_stats}

  def body(number, totals):
    places, mask = orders.batch(jnp.arange(examples, dtype=jnp.int32), number, block)
    images, labels = take(state, data, places)
    logits = module.apply(variables, images, train=False)
    chosen = jnp.take_along_axis(jax.nn.softmax(logits), labels[:, None], axis=-1)[:, 0]
    values = (logits.argmax(-1) == labels, losses.cross_entropy(logits, labels), 1 - chosen)
    return tuple(
      total + jnp.where(mask, value, 0).sum(dtype=total.dtype)
      for total, value in zip(totals, values, strict=True)
    )

  start = (jnp.int32(0), jnp.float32(0), jnp.float32(0))
  right, loss, soft = lax.fori_loop(0, -(-examples // block), body, start)
  return {
    "train_accuracy": right / examples,
    "train_loss": loss / examples,
    "train_soft_error": soft / examples,
  }
