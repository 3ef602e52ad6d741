"""seedlab's own Trainer: minibatch training of an image classifier, built from a Config.

for each epoch
  order = permutation(fold_in(order key, epoch))
  for each step: gather batch, normalise, augment by (epoch, index), gradient, SGD
at each evaluation: accuracy, loss and soft-error over the whole test set
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
from seedlab.config import Config, UserError
from seedlab.data import augmentation
from seedlab.data import order as orders
from seedlab.trainer import EVALUATION, Trainer
from seedlab.training import losses
from seedlab.training import optimizer as optimizers

__all__ = ["EVALUATION", "State", "Trainer", "make_trainer"]


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
  batch_size = config.training.batch_size
  if batch_size > examples:
    raise UserError(
      f"training.batch_size={batch_size} is more than the {examples} training examples"
      f" of {config.data.name}"
    )
  epoch_steps = orders.steps_per_epoch(examples, batch_size, config.data.last_batch)
  steps = config.training.steps or config.training.epochs * epoch_steps
  precision = config.model.precision
  module = models.build(config.model, classes, image_shape, jax.default_backend())
  optimizer = optimizers.build(config.optimizer, steps)
  ragged = config.data.last_batch == "keep" and examples % batch_size != 0

  def init(keys, data):
    del data
    variables = module.init(keys.init, jnp.zeros((1, *image_shape), precision), train=False)
    params = variables["params"]
    subset = orders.subset(keys.sample, total, examples)
    return State(params, variables.get("batch_stats", {}), optimizer.init(params), subset)

  def loss(params, batch_stats, images, labels, mask):
    logits, changed = module.apply(
      {"params": params, "batch_stats": batch_stats},
      images,
      train=True,
      mask=mask,
      mutable=["batch_stats"],
    )
    values = losses.cross_entropy(logits, labels, config.training.label_smoothing)
    return losses.masked_mean(values, mask), changed.get("batch_stats", {})

  def step(state, number, order, keys, data):
    epoch = number // epoch_steps
    positions, mask = orders.batch(order, number % epoch_steps, batch_size)
    index = state.subset[positions]
    images = augmentation.normalise(data.train_image[index], data.mean, data.std)
    images = augmentation.augment(
      streams.for_examples(keys.augment, epoch, index), images, config.data
    ).astype(precision)
    (value, batch_stats), gradient = jax.value_and_grad(loss, has_aux=True)(
      state.params, state.batch_stats, images, data.train_label[index], mask if ragged else None
    )
    updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    finite = jnp.isfinite(value) & jnp.isfinite(optax.tree.sum(params))
    return State(params, batch_stats, opt_state, state.subset), finite

  def advance(state, keys, data, fed, first, steps):
    del fed
    order = orders.epoch_order(keys.order, first // epoch_steps, examples, config.data.order)

    def body(number, carry):
      state, diverged = carry
      state, finite = step(state, number, order, keys, data)
      return state, jnp.where((diverged < 0) & ~finite, number, diverged)

    state, diverged = lax.fori_loop(first, first + steps, body, (state, jnp.int32(-1)))
    return state, {"diverged": diverged}

  def evaluate(state, data):
    return _evaluate(module, state, data, config)

  dims = {
    "test_accuracy": (EVALUATION,),
    "test_loss": (EVALUATION,),
    "test_soft_error": (EVALUATION,),
    "predicted_label": ("example",),
  }
  if config.evaluation.probabilities:
    dims["probability"] = ("example", "class")
  return Trainer(
    plan=_plan(steps, config.evaluation.every_epochs * epoch_steps),
    load=lambda: dataset,
    init=init,
    advance=advance,
    evaluate=evaluate,
    dims=dims,
    period=epoch_steps,
    coords={"label": ("example", dataset.test_label)},
  )


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
