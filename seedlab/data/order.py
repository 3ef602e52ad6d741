"""Which examples a run trains on, and in which order: pure functions of a key.

Their integers are part of the contract (DESIGN, level L0): the same on every
device, under vmap and in every version. `tests/test_order.py` holds them fixed.
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from seedlab import host, streams
from seedlab.errors import UserError


def single_pass(key: jax.Array, examples: int, size: int) -> jax.Array:
  """int32[size]: positions in the full set in the order in which an ideal world visits them.

  No two are equal: the head of a permutation drawn from the `sample` stream's key.

  Raises:
    UserError: if there are fewer than `size` examples.
  """
  if size > examples:
    raise UserError(
      f"data.train_examples={size} is more than the {examples} training examples there are"
    )
  return _permutation(streams.check_key(key), examples)[:size]


def subset(key: jax.Array, examples: int, size: int) -> jax.Array:
  """int32[size], ascending: the positions in the full set that a run trains on.

  Drawn without replacement from the `sample` stream's key: the first `size` of
  `single_pass`. All of them is the full set in its own order, and for one key a
  smaller subset lies within every larger one (but is no prefix of it).

  Raises:
    UserError: if there are fewer than `size` examples.
  """
  if size == examples:
    return jnp.arange(examples, dtype=jnp.int32)  # what sorting would give, without two sorts
  return jnp.sort(single_pass(key, examples, size))


def epoch_order(
  key: jax.Array,
  epoch: jax.Array | int,
  examples: int,
  order: Literal["permutation", "replacement", "sequential", "window"],
  window: int | None = None,
) -> jax.Array:
  """int32[examples]: the positions visited in one epoch, from the `order` stream's key.

  "permutation" visits each position once, "replacement" draws each visit
  independently and uniformly, "sequential" counts and reads no key, "window" is
  `through_window`. Costs about 5 ms for 50,000 positions on one CPU core: draw it
  once an epoch, not once a step.
  """
  if order == "sequential":
    return jnp.arange(examples, dtype=jnp.int32)
  key = streams.at_step(key, epoch)
  if order == "replacement":
    return jax.random.randint(key, (examples,), 0, examples, dtype=jnp.int32)
  if order == "window":
    return through_window(key, examples, window)
  return _permutation(key, examples)


def through_window(key: jax.Array, examples: int, window: int) -> jax.Array:
  """int32[examples]: 0, 1, 2, ... as they leave a shuffling buffer of `window` places.

  Each next position is drawn uniformly from those in the buffer, whose place the
  next one of the stream takes; once the stream has ended the buffer empties. No
  position leaves more than `window` - 1 places early; 1 is the identity, and
  `examples` or more are the permutation that order "permutation" draws. (The shuffling
  window of Snapp & Shamir 2021, arXiv 2102.10696, whose own construction we have not
  seen; tf.data's shuffle works so.)

  Draws by remainder: the chance of a place is off by less than window / 2^32.
  """
  if window >= examples:
    return _permutation(streams.check_key(key), examples)
  words = jax.random.bits(streams.check_key(key), (examples,), jnp.uint32)

  def leave(buffer, at):
    number, word = at
    filled = jnp.minimum(window, examples - number)
    place = (word % filled.astype(jnp.uint32)).astype(jnp.int32)
    coming = number + window
    # While the stream lasts its next position comes in, then the last place closes the gap.
    successor = jnp.where(coming < examples, coming, buffer[filled - 1])
    return buffer.at[place].set(successor), buffer[place]

  numbers = jnp.arange(examples, dtype=jnp.int32)
  return lax.scan(leave, jnp.arange(window, dtype=jnp.int32), (numbers, words))[1]


def steps_per_epoch(examples: int, batch_size: int, last_batch: Literal["drop", "keep"]) -> int:
  """The number of batches in an epoch; an incomplete last one is dropped or counts.

  Raises:
    UserError: if not even one batch can be filled.
  """
  if last_batch == "keep":
    return -(-examples // batch_size)
  if batch_size > examples:
    raise UserError(
      f"training.batch_size={batch_size} is larger than the {examples} training examples; make it"
      " smaller, or set data.last_batch=keep"
    )
  return examples // batch_size


def batch(
  order: jax.Array, step_in_epoch: jax.Array | int, batch_size: int
) -> tuple[jax.Array, jax.Array]:
  """The positions of one batch and which of them are real.

  Args:
    order: int32[N], from `epoch_order`.
    step_in_epoch: counts from 0 to `steps_per_epoch` - 1.
    batch_size: B; static.

  Returns:
    positions, int32[B], and mask, bool[B]. Past the end of the epoch the mask is
    False and the position repeats the last one of `order`: valid to gather, to
    be left out of every sum and count.
  """
  slots = step_in_epoch * batch_size + jnp.arange(batch_size, dtype=jnp.int32)
  return jnp.take(order, slots, mode="clip"), slots < order.shape[0]


def _permutation(key: jax.Array, examples: int) -> jax.Array:
  """int32[examples]: exactly jax.random.permutation of 0, ..., examples - 1.

  That sorts the positions by 32 random bits, stably, and several times where many bits could be
  equal. XLA:CPU sorts pairs by calling a function for each comparison. Bits and places packed into
  one number, whose order is the same, it sorts natively, in a fourth of the time.
  """
  positions = jnp.arange(examples, dtype=jnp.int32)
  if host.target() != "cpu":
    return jax.random.permutation(key, positions)
  rounds = math.ceil(3 * math.log(max(1, examples)) / math.log(2**32 - 1))
  for number in range(rounds):
    key, own = jax.random.split(key)
    bits = jax.random.bits(own, (examples,), jnp.uint32)
    with jax.enable_x64(True):
      places = lax.iota(jnp.uint64, examples)
      packed = lax.sort((bits.astype(jnp.uint64) << np.uint64(32)) | places, is_stable=False)
      order = packed.astype(jnp.uint32).astype(jnp.int32)
    positions = positions[order] if number else order
  return positions
