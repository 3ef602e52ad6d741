"""Named streams of randomness: integer seeds to typed threefry keys.

Every random number of a run is a function of (stream, step or epoch, index in
the data set), never of history, so that a resumed run needs only its step and
a changed stream leaves the others alone:

  order    fold_in(order, epoch)
  sample   which examples of a data set are the run's: one permutation; of a world, fold_in(sample,
           number of the example)
  augment  fold_in(fold_in(augment, epoch), index in the full data set); of a fixed pool of
           augmented copies, the copy's number for the epoch; in an ideal world the step for the
           epoch and the slot for the index; with `data.chunk` the index // chunk for the index
  noise    fold_in(noise, step); poke likewise; labels and dropout have branches of their own
  generate fold_in(generate, k): draw number k of what a trained model samples when it is evaluated
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seedlab.config import STREAMS
from seedlab.errors import UserError

IMPLEMENTATION = "threefry2x32"

# Branches of the `noise` stream, beyond every number of a step. Append, never renumber.
LABELS = 2**32 - 1
DROPOUT = 2**32 - 2

# In the place of a stream's number: what a world is tested on. No run has this key.
TEST = 2**32 - 1


# The seeds of so many streams share an array; each later one is an argument of its own (`split`).
_TOGETHER = 6


class Keys(NamedTuple):
  """One typed threefry key per stream. Append new streams; never reorder."""

  init: jax.Array
  sample: jax.Array
  order: jax.Array
  augment: jax.Array
  noise: jax.Array
  poke: jax.Array
  generate: jax.Array


assert Keys._fields == STREAMS


def split(seeds: np.ndarray | jax.Array) -> tuple[np.ndarray | jax.Array, ...]:
  """Seeds uint32[..., len(STREAMS)] as compiled programs take them: (uint32[..., 6], uint32[...]).

  The first six streams share an array. Every later one has an argument of its own, which jit
  drops from a program that does not use it: that program's text and digest are what they were
  before the stream existed.
  """
  return seeds[..., :_TOGETHER], *(seeds[..., n] for n in range(_TOGETHER, len(STREAMS)))


def derive(seeds: np.ndarray | jax.Array | tuple[jax.Array, ...]) -> Keys:
  """The keys of one run from its seeds, uint32[len(STREAMS)] in the order of STREAMS.

  Stream number n with seed s gets fold_in(key(s), n), so equal seeds in two
  streams give unrelated draws.

  Args:
    seeds: the array, or what `split` makes of it.
  """
  check_settings()
  if not isinstance(seeds, tuple):
    if seeds.dtype != jnp.uint32 or seeds.shape != (len(STREAMS),):
      raise TypeError(f"seeds must be uint32[{len(STREAMS)}], not {seeds.dtype}{list(seeds.shape)}")
    seeds = split(seeds)
  together, *alone = seeds

  def key(number):  # the text of a program depends on the order in which seeds are taken
    seed = together[number] if number < _TOGETHER else alone[number - _TOGETHER]
    return jax.random.fold_in(jax.random.key(seed, impl=IMPLEMENTATION), number)

  return Keys(*map(key, range(len(STREAMS))))


def at_step(key: jax.Array, step: jax.Array | int) -> jax.Array:
  """The key of one step (or epoch) of a stream."""
  return jax.random.fold_in(check_key(key), step)


def for_examples(
  key: jax.Array, epoch: jax.Array | int, index: jax.Array, chunk: int | None = None
) -> jax.Array:
  """Keys of the examples `index` (int[B], positions in the full data set) in an epoch.

  `epoch` may differ between examples (int[B]), as the copies of a fixed pool do. With
  `chunk` the key is a function of (epoch, index // chunk), which neighbours share.
  """
  if chunk is not None:
    index = index // chunk
  if jnp.ndim(epoch):
    return jax.vmap(lambda epoch, index: at_step(at_step(key, epoch), index))(epoch, index)
  return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(at_step(key, epoch), index)


def check_key(key: jax.Array) -> jax.Array:
  """`key` itself if it is a typed threefry key; any other would change every draw."""
  dtype = getattr(key, "dtype", None)
  if dtype is None or not jnp.issubdtype(dtype, jax.dtypes.prng_key):
    raise TypeError(
      f"a typed key is needed (jax.random.key(seed, impl={IMPLEMENTATION!r})), not"
      f" {type(key).__name__} of dtype {dtype}"
    )
  if str(jax.random.key_impl(key)) != IMPLEMENTATION:
    raise TypeError(
      f"keys must be {IMPLEMENTATION}, not {jax.random.key_impl(key)}: other implementations"
      " draw other numbers, and rbg is not exact under vmap"
    )
  return key


def check_settings() -> None:
  """Refuses the process-wide JAX settings under which the same key draws other numbers."""
  if jax.config.jax_enable_x64:
    raise UserError("jax_enable_x64=True changes the draws of every key; unset JAX_ENABLE_X64")
  if not jax.config.jax_threefry_partitionable:
    raise UserError(
      "jax_threefry_partitionable=False changes the draws of every key; unset"
      " JAX_THREEFRY_PARTITIONABLE"
    )
