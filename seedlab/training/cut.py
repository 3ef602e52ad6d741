"""How the examples of a run are cut into updates, and those into blocks; when it is evaluated."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seedlab.config import Config, Data, Evaluation
from seedlab.data import order as orders
from seedlab.errors import UserError
from seedlab.streams import Keys
from seedlab.training import gradients

# A segment of full-batch steps computes at least this many blocks, about as many as a minibatch
# epoch has steps. Nothing is drawn for a segment; it ends to let the engine report and measure.
_SEGMENT_BLOCKS = 400
_MOST_EVALUATIONS = 10**6  # of a run: their list is held in memory


class Cut(NamedTuple):
  """Sizes that are decided before anything is traced."""

  examples: int  # of the run; in an ideal world those of what counts as an epoch
  batch_size: int  # examples of an update; of a full batch all, copies included
  epoch_steps: int
  blocks: int  # of an update
  block_size: int
  ragged: bool  # whether the last update of an epoch is incomplete
  masked: bool  # whether some block may be incomplete
  full_batch: bool
  listed: bool  # whether a step's examples come in the order of a list: an ideal world, a stream
  copies: int | None  # of each example, in a fixed pool of augmented ones

  @property
  def period(self) -> int | None:
    """The steps that no segment crosses, where the order of the examples is drawn for them."""
    if self.full_batch:
      return -(-_SEGMENT_BLOCKS // self.blocks)
    return self.epoch_steps


def cut(config: Config, examples: int, name: str, listed: bool) -> Cut:
  """The Cut of a run of `examples` examples.

  Args:
    config: batch or full batch, blocks, what happens to incomplete ones.
    examples: N.
    name: of the data, for messages.
    listed: whether steps take examples from a list that is in order already.

  Raises:
    UserError: a batch or block that is larger than what it is cut from, or an incomplete one that
      nobody wants.
  """
  if config.training.full_batch:
    pool = examples * (config.data.copies or 1)
    blocks, size = gradients.blocks(config.gradient, pool)
    sizes = (pool, 1, blocks, size, False)
  else:
    sizes = _minibatches(config, examples, name)
  batch_size, _, blocks, size, ragged = sizes
  masked = ragged or blocks * size > batch_size
  full_batch, copies = config.training.full_batch, config.data.copies
  return Cut(examples, *sizes, masked, full_batch, listed, copies)


def _minibatches(config: Config, examples: int, name: str) -> tuple[int, int, int, int, bool]:
  batch_size, last_batch = config.training.batch_size, config.data.last_batch
  if batch_size > examples:
    raise UserError(
      f"training.batch_size={batch_size} is more than the {examples} training examples"
      f" of {name}; lower it"
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
  return batch_size, epoch_steps, blocks, block_size, ragged


def in_order(data: Data, keys: Keys, epoch: jax.Array, count: int) -> jax.Array:
  """int32[count]: the order of an epoch, or of the pool of a full batch."""
  return orders.epoch_order(keys.order, epoch, count, data.order, data.window)


def of_step(
  cut: Cut,
  data: Data,
  keys: Keys,
  number: jax.Array,
  epoch: jax.Array,
  order: jax.Array | None,
) -> tuple[jax.Array, jax.Array | None]:
  """Places int32[B] of the examples of step `number`, and which are real (None: all are).

  Args:
    cut: sizes.
    data: `order` and `window`, of a full batch.
    keys: of the run.
    number: of the step.
    epoch: the one it belongs to.
    order: int32[N] of that epoch, where minibatches follow one.
  """
  if cut.full_batch:
    return in_order(data, keys, epoch, cut.batch_size), None
  if not cut.listed:
    return orders.batch(order, number % cut.epoch_steps, cut.batch_size)
  places = jnp.arange(cut.batch_size, dtype=jnp.int32)  # of what is next, or what was fed
  real = jnp.ones(cut.batch_size, bool)
  if cut.ragged:
    real = number % cut.epoch_steps * cut.batch_size + places < cut.examples
  return places, real


def of_block(
  cut: Cut, places: jax.Array, real: jax.Array | None, block: jax.Array | int
) -> tuple[jax.Array, jax.Array | None]:
  """Places int32[b] of one block of a step, and which of them are real."""
  if cut.blocks == 1:
    return places, real
  chosen, mask = orders.batch(places, block, cut.block_size)
  if cut.ragged:
    mask &= orders.batch(real, block, cut.block_size)[0]
  return chosen, mask


def blocks_of_step(cut: Cut, real: jax.Array | None) -> int | jax.Array:
  """How many blocks a step has.

  Of an incomplete last batch only those with real examples: the others have no mean.
  """
  if cut.ragged and cut.blocks > 1:
    return -(-real.sum(dtype=jnp.int32) // cut.block_size)
  return cut.blocks


def plan(evaluation: Evaluation, steps: int, epoch_steps: int) -> tuple[int, ...]:
  """The steps after which a run is evaluated: at intervals, rounded, and after the last one.

  Or after the epochs that `evaluation.epochs` names, and the last step.

  Log-dense with an interval of I: also every I / 16 up to 16 I and every I / 8 up to
  32 I. The published moments (Nakkiran et al. 2021) have I = 64: every 4 steps up to
  1,024, every 8 up to 2,048.
  """
  if evaluation.epochs:
    marks = [(epoch + 1) * epoch_steps for epoch in evaluation.epochs]
    if marks[-1] > steps:
      raise UserError(
        f"evaluation.epochs={evaluation.epochs!r} goes beyond the {steps / epoch_steps:g} epochs of"
        " a run; name earlier ones, counted from 0"
      )
    return tuple(sorted({*marks, steps}))
  every = evaluation.every_steps or evaluation.every_epochs * epoch_steps
  if steps / every > _MOST_EVALUATIONS:
    field = "every_steps" if evaluation.every_steps else "every_epochs"
    raise UserError(
      f"evaluation.{field}={getattr(evaluation, field)} evaluates a run of {steps:,} steps more"
      f" than {_MOST_EVALUATIONS:,} times; set it higher"
    )
  marks = {round(every * n) for n in range(1, math.ceil(steps / every) + 1)}
  if evaluation.log_dense:
    interval = int(every)
    for part, end in ((16, 16), (8, 32)):
      marks |= set(range(interval // part, end * interval + 1, interval // part))
  return tuple(sorted({mark for mark in marks if 0 < mark < steps} | {steps}))
