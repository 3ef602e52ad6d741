"""seedlab's own Trainer: minibatch or full-batch training of an image classifier, from a Config.

for each epoch
  order = permutation(fold_in(order key, epoch))
  for each step (with `training.full_batch` the only one of its epoch)
    for each block of the step's examples: gather, normalise, augment by (epoch, index), gradient
    the blocks' mean gradient, SGD
at each evaluation: accuracy, loss and soft-error over the whole test set

A minibatch is one block unless `gradient.block_size` cuts it (training/gradients.py).
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from seedlab import config as configs
from seedlab import data as datasets
from seedlab import models, streams
from seedlab.config import Config, Gradient, UserError
from seedlab.data import augmentation
from seedlab.data import order as orders
from seedlab.trainer import EVALUATION, Trainer
from seedlab.training import gradients, losses
from seedlab.training import optimizer as optimizers

__all__ = ["EVALUATION", "State", "Trainer", "make_trainer"]


# A segment of full-batch steps computes at least this many blocks, about as many as a minibatch
# epoch has steps. Nothing is drawn for a segment; it ends to let the engine report and measure.
_SEGMENT_BLOCKS = 400


class State(NamedTuple):
  """What one run carries from step to step."""

  params: Any
  batch_stats: Any  # empty without batch norm
  opt_state: optax.OptState
  subset: jax.Array  # int32[N]: positions in the full data set of the run's examples


def make_trainer(config: Config | Mapping[str, Any], data_dir: str | None = None) -> Trainer:
  """The Trainer of a Config; raises UserError for what its model or data cannot do.

  Args:
    config: a Config, or what `config.parse` takes.
    data_dir: the tensorflow-datasets directory; None asks SEEDLAB_DATA.
  """
  config = configs.parse(config)
  dataset = datasets.load(config.data, data_dir)
  return on_dataset(config, dataset, len(datasets.class_names(config.data, data_dir)))


def on_dataset(config: Config, dataset: datasets.Dataset, classes: int) -> Trainer:
  """The Trainer of a Config on pictures already in memory, e.g. your own."""
  total, image_shape = dataset.train_image.shape[0], dataset.train_image.shape[1:]
  examples = config.data.train_examples or total
  if examples > total:
    raise UserError(
      f"data.train_examples={examples} is more than the {total} of {config.data.name}"
    )
  copies, full_batch = config.data.copies, config.training.full_batch
  batch_size, epoch_steps, blocks, block_size, ragged = _cut(config, examples)
  masked = ragged or blocks * block_size > batch_size  # some block may be incomplete
  steps = config.training.steps or config.training.epochs * epoch_steps
  precision = config.model.precision
  module = models.build(config.model, classes, image_shape, jax.default_backend())
  optimizer = optimizers.build(config.optimizer, steps, epoch_steps)
  schedule = optimizers.schedule(config.optimizer, steps, epoch_steps)

  def init(keys, data):
    del data
    variables = module.init(keys.init, jnp.zeros((1, *image_shape), precision), train=False)
    params = variables["params"]
    subset = orders.subset(keys.sample, total, examples)
    return State(params, variables.get("batch_stats", {}), optimizer.init(params), subset)

  def loss(params, batch_stats, block):
    logits, changed = module.apply(
      {"params": params, "batch_stats": batch_stats},
      block.image,
      train=True,
      mask=block.mask,
      mutable=["batch_stats"],
    )
    values = losses.cross_entropy(logits, block.label, config.training.label_smoothing)
    return losses.masked_mean(values, block.mask), changed.get("batch_stats", {})

  def gather(index, mask, key, epoch, data):
    images = augmentation.normalise(data.train_image[index], data.mean, data.std)
    if key is not None:
      keys = streams.for_examples(key, epoch, index)
      images = augmentation.augment(keys, images, config.data)
    return gradients.Block(images.astype(precision), data.train_label[index], mask)

  def step(state, number, order, keys, data):
    epoch = number // epoch_steps
    if full_batch:
      positions, real = orders.epoch_order(keys.order, epoch, batch_size, config.data.order), None
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
      return gather(state.subset[places], mask if masked else None, keys.augment, copy, data)

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
    return State(params, formed.batch_stats, opt_state, state.subset), finite

  def advance(state, keys, data, fed, first, steps):
    del fed
    order = None
    if not full_batch:
      order = orders.epoch_order(keys.order, first // epoch_steps, examples, config.data.order)

    def body(number, carry):
      state, diverged = carry
      state, finite = step(state, number, order, keys, data)
      return state, jnp.where((diverged < 0) & ~finite, number, diverged)

    state, diverged = lax.fori_loop(first, first + steps, body, (state, jnp.int32(-1)))
    return state, {"diverged": diverged}

  def gradient_norm(state, data):
    size = min(block_size, examples)

    def take(block):
      index, _ = orders.batch(state.subset, block, size)
      return gather(index, None, None, None, data)

    def form(batch_stats, block):
      return gradients.of_block(loss, Gradient(), state.params, batch_stats, block)

    return gradients.mean_squared_norm(form, state.batch_stats, examples // size, take)

  def evaluate(state, data):
    outcome = _evaluate(module, state, data, config)
    if config.evaluation.train:
      outcome |= _evaluate_train(module, state, data, config)
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
    dims |= {"train_accuracy": (EVALUATION,), "train_loss": (EVALUATION,)}
  if config.evaluation.gradient_norm:
    dims["block_gradient_norm"] = (EVALUATION,)
  if config.evaluation.probabilities:
    dims["probability"] = ("example", "class")
  return Trainer(
    plan=_plan(steps, config.evaluation.every_epochs * epoch_steps),
    load=lambda: dataset,
    init=init,
    advance=advance,
    evaluate=evaluate,
    dims=dims,
    period=-(-_SEGMENT_BLOCKS // blocks) if full_batch else epoch_steps,
    coords={"label": ("example", dataset.test_label)},
  )


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
      f" of {config.data.name}"
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


def _plan(steps: int, every: float) -> tuple[int, ...]:
  """Every `every` steps, rounded, and the last step."""
  marks = (round(every * n) for n in range(1, math.ceil(steps / every) + 1))
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


def _evaluate_train(module, state: State, data, config: Config) -> dict[str, jax.Array]:
  """Loss and accuracy on the run's own training examples, as they are in the data set."""
  examples = state.subset.shape[0]
  block = min(config.evaluation.batch_size, examples)
  variables = {"params": state.params, "batch_stats": state.batch_stats}

  def body(number, total):
    index, mask = orders.batch(state.subset, number, block)
    images = augmentation.normalise(data.train_image[index], data.mean, data.std)
    logits = module.apply(variables, images.astype(config.model.precision), train=False)
    labels = data.train_label[index]
    right, loss = total
    right += (mask & (logits.argmax(-1) == labels)).sum()
    loss += jnp.where(mask, losses.cross_entropy(logits, labels), 0).sum()
    return right, loss

  right, loss = lax.fori_loop(0, -(-examples // block), body, (jnp.int32(0), jnp.float32(0)))
  return {"train_accuracy": right / examples, "train_loss": loss / examples}
