"""Worlds: distributions of images or rows, sampled by key inside the compiled program.

A training that never sees a sample twice (an Ideal World) needs no storage if
every sample can be drawn where it is used: sample i of a key depends on
fold_in(key, i) alone.

The examples are exact: integer arithmetic throughout, and float32 only where
every intermediate value is an integer that float32 represents. How XLA fuses,
reorders or contracts multiplications and additions then cannot move a bit, so
that a sample is the same bytes in every lane, batch, loop and program, and on
every device.

The worlds themselves are in files of their own: glyphs, gaussians, clicks.
"""

import hashlib
import json
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from seedlab import streams
from seedlab.data import cache
from seedlab.data.examples import NO_MOMENTS, Dataset, Examples, World, moments
from seedlab.errors import UserError

_SIDES = (8, 256)  # least and largest image_size
_TEST_EXAMPLES = 10_000
_LARGEST_TEST_SET = 2 * 2**30  # bytes of it
_BULK = 1000  # of them drawn at a time
_KEPT = ("test_image", "test_label")


def checked(ranges: Mapping[str, tuple], /, **options: float) -> dict[str, float]:
  """The options as numbers of the kind of their bounds: (least, largest) of each.

  Raises:
    UserError: one that is no number, no whole number where the bounds are, or out of its range.
  """
  values = {}
  for name, value in options.items():
    low, high = ranges[name]
    whole = isinstance(low, int)
    if (
      isinstance(value, bool)
      or not isinstance(value, int | float)
      or not low <= value <= high
      or (whole and value != int(value))
    ):
      kind, form = ("whole number", "") if whole else ("number", "g")
      raise UserError(f"data.{name}={value!r} must be a {kind} in [{low:{form}}, {high:{form}}]")
    values[name] = type(low)(value)
  return values


def side(image_size: int | None, usual: int) -> int:
  """Pixels a side of a world's images; UserError if they are too few or too many."""
  size = usual if image_size is None else image_size
  if not _SIDES[0] <= size <= _SIDES[1]:
    raise UserError(f"data.image_size={size} must lie in [{_SIDES[0]}, {_SIDES[1]}]")
  return size


def words(key: jax.Array, index: jax.Array, count: int) -> jax.Array:
  """uint32[n, count]: the first random words of each sample; more words leave these alone."""
  keys = jax.vmap(jax.random.fold_in, (None, 0))(streams.check_key(key), index)
  return jax.vmap(lambda key: jax.random.bits(key, (count,), jnp.uint32))(keys)


def examples(
  name: str, world: World, options: Mapping[str, float], test_examples: int | None, download: bool
) -> Examples:
  """What a function of a world returns: its test set is drawn, and kept for pages to show.

  Args:
    name: of the world.
    world: what is drawn from.
    options: all that decides its examples.
    test_examples: how many it is tested on; None: 10,000.
    download: False draws nothing: the test set is one that was kept, or empty.
  """
  count = test_examples or _TEST_EXAMPLES
  digest = hashlib.sha256(json.dumps([options, count], sort_keys=True).encode()).hexdigest()[:16]
  place = cache.home() / f"{name}-{digest}"

  def read() -> Dataset:
    if download:
      image, label = _drawn(world, count)
      # Rows are shown nowhere.
      if not (world.fields or cache.read(place, _KEPT)):
        cache.write([place], dict(zip(_KEPT, (image, label), strict=True)))
    else:
      image, label = cache.read(place, _KEPT) or (
        np.zeros((0, *world.image_shape), np.uint8),
        np.zeros(0, np.int32),
      )
    # All images of a world are alike, so those it is tested on tell the moments of a pixel.
    found = NO_MOMENTS if world.fields or not len(label) else moments(image)
    return Dataset(image[:0], label[:0], image, label, *found)

  return Examples(read, world.class_names, world.fields, world)


def _drawn(world: World, count: int) -> tuple[np.ndarray, np.ndarray]:
  """Test images or rows and labels, the same for every run, from a key that no run has."""
  size = count * math.prod(world.image_shape)
  if size > _LARGEST_TEST_SET:
    raise UserError(
      f"data.test_examples={count:,} are {size / 2**30:.0f} GiB of images; set it lower"
      f" ({_TEST_EXAMPLES:,} by default)"
    )
  key = jax.random.fold_in(jax.random.key(0, impl=streams.IMPLEMENTATION), streams.TEST)
  sample = jax.jit(world.sample)  # not a training: it only fills host arrays, once
  stride = max(1, (world.period or 0) // count)  # all times of a world that changes
  parts = [
    jax.device_get(sample(key, stride * jnp.arange(start, start + _BULK, dtype=jnp.int32)))
    for start in range(0, count, _BULK)
  ]
  image, label = (np.concatenate(arrays)[:count] for arrays in zip(*parts, strict=True))
  return image, label
