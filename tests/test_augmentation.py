"""Augmentation against plain loops, a second threefry, and its own streams."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seedlab import streams
from seedlab.data import augmentation, order
from seedlab.errors import UserError

BLACK = jnp.array([-1.0, -2.0, -3.0])


class Changes(NamedTuple):
  """Which are made, in the order crop, flip, cutout."""

  crop: int = 0
  fill: str = "zero"
  flip: bool = False
  cutout: int = 0

  def steps(self) -> list[augmentation.Step]:
    return [
      *([(augmentation.crop, {"padding": self.crop, "fill": self.fill})] if self.crop else []),
      *([(augmentation.flip, {})] if self.flip else []),
      *([(augmentation.cutout, {"size": self.cutout})] if self.cutout else []),
    ]


EVERYTHING = Changes(flip=True, crop=3, cutout=5)


@functools.partial(jax.jit, static_argnums=2)
def augment(keys, images, changes):
  return augmentation.augment(keys, images, changes.steps(), BLACK)


def stream_keys(seed: int) -> streams.Keys:
  return streams.derive(jnp.full(len(streams.STREAMS), seed, jnp.uint32))


def keys_of(seed: int, epoch: int, index: list[int]) -> jax.Array:
  return example_keys(seed, epoch, jnp.array(index, jnp.int32))


@jax.jit
def example_keys(seed, epoch, index):
  return streams.for_examples(stream_keys(seed).augment, epoch, index)


def images_of(count: int, height: int = 9, width: int = 7) -> jax.Array:
  normal = np.random.default_rng(1).standard_normal((count, height, width, 3))
  return jnp.asarray(normal, jnp.float32)


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def draws(keys, crop, height, width):
  return (
    augmentation.flips(keys),
    augmentation.crop_offsets(keys, crop),
    augmentation.cutout_centres(keys, height, width),
  )


def by_hand(keys, images, data):
  """One image, one row, one pixel at a time, from the drawn integers."""
  _, height, width, _ = images.shape
  drawn = map(np.asarray, draws(keys, data.crop, height, width))
  results = []
  for image, mirror, offset, centre in zip(np.asarray(images), *drawn, strict=True):
    pad = {"zero": "constant", "reflect": "reflect"}[data.fill]
    padded = np.pad(image, [(data.crop, data.crop), (data.crop, data.crop), (0, 0)], mode=pad)
    image = padded[offset[0] : offset[0] + height, offset[1] : offset[1] + width].copy()
    if data.flip and mirror:
      image = np.stack([row[::-1] for row in image])
    first = centre - data.cutout // 2
    for row in range(first[0], first[0] + data.cutout):
      for column in range(first[1], first[1] + data.cutout):
        if 0 <= row < height and 0 <= column < width:
          image[row, column] = 0
    results.append(image)
  return np.stack(results)


@pytest.mark.parametrize(
  "data",
  [
    EVERYTHING,
    EVERYTHING._replace(fill="reflect"),
    Changes(crop=6, fill="reflect"),  # the widest border that 7 pixels can reflect
    Changes(cutout=4),
    Changes(flip=True, crop=12),  # wider than the image
  ],
  ids=["all", "all-reflect", "reflect-wide", "cutout", "flip-zero-wide"],
)
def test_agrees_with_a_plain_loop(data):
  keys, images = keys_of(5, 2, list(range(40))), images_of(40)
  changed = augment(keys, images, data)
  assert changed.dtype == jnp.float32
  np.testing.assert_array_equal(changed, by_hand(keys, images, data))
  assert not np.array_equal(changed, images)


def threefry(key, counter):
  """Threefry-2x32, 20 rounds, in Python's integers (Salmon et al. 2011, Random123)."""
  rotations = [(13, 15, 26, 6), (17, 29, 16, 24)]
  schedule = [*key, key[0] ^ key[1] ^ 0x1BD11BDA]
  x = [(counter[0] + schedule[0]) % 2**32, (counter[1] + schedule[1]) % 2**32]
  for group in range(5):
    for turn in rotations[group % 2]:
      x[0] = (x[0] + x[1]) % 2**32
      x[1] = ((x[1] << turn | x[1] >> (32 - turn)) % 2**32) ^ x[0]
    x[0] = (x[0] + schedule[(group + 1) % 3]) % 2**32
    x[1] = (x[1] + schedule[(group + 2) % 3] + group + 1) % 2**32
  return x


def test_draws_agree_with_a_second_threefry():
  # fold_in(key, n) enciphers the counter (0, n); 32 random bits are the two words of (0, place).
  seed, epoch, index, augment_stream = 7, 2, [0, 1, 2, 49_999], 3
  keys = keys_of(seed, epoch, index)
  mirrored, offsets, centres = draws(keys, 4, 32, 24)
  for example, number in enumerate(index):
    key = [0, seed]
    for fold in (augment_stream, epoch, number):
      key = threefry(key, [0, fold])
    words = [
      [a ^ b for a, b in (threefry(threefry(key, [0, kind]), [0, place]) for place in range(2))]
      for kind in range(3)
    ]
    assert bool(mirrored[example]) == (words[0][0] >= 2**31)
    assert offsets[example].tolist() == [words[1][0] % 9, words[1][1] % 9]
    assert centres[example].tolist() == [words[2][0] % 32, words[2][1] % 24]


def test_golden_draws():
  # Level L0 of the contract: never to be updated.
  mirrored, offsets, centres = draws(keys_of(7, 2, [0, 1, 2, 3, 4, 5]), 4, 32, 32)
  assert mirrored.tolist() == [False, True, False, False, False, True]
  assert offsets.dtype == jnp.int32
  assert offsets.tolist() == [[8, 4], [1, 8], [0, 2], [7, 2], [0, 7], [7, 1]]
  assert centres.dtype == jnp.int32
  assert centres.tolist() == [[26, 13], [3, 1], [19, 3], [29, 22], [25, 21], [12, 13]]


def test_an_image_keeps_its_change_in_any_company_and_order():
  images = images_of(12)
  visits = jax.jit(lambda seed: order.epoch_order(stream_keys(seed).order, 1, 12, "permutation"))

  def changed(index):
    return augment(keys_of(3, 1, index), images[jnp.array(index)], EVERYTHING)

  reference = np.asarray(changed(list(range(12))))
  for seed in range(3):  # of the order stream, which decides who shares a batch
    batch, _ = order.batch(visits(seed), 1, 5)
    np.testing.assert_array_equal(changed(batch.tolist()), reference[np.asarray(batch)])
  other_epoch = augment(keys_of(3, 2, list(range(12))), images, EVERYTHING)
  assert not np.array_equal(other_epoch, reference)


def test_switching_one_change_off_leaves_the_others():
  keys = keys_of(0, 0, list(range(30)))
  images = images_of(30, 8, 8)
  cut = np.asarray(augment(keys, images, Changes(cutout=3))) == 0
  both = np.asarray(augment(keys, images, Changes(cutout=3, flip=True))) == 0
  np.testing.assert_array_equal(cut, both)  # flipped first, so the squares stay in place
  cropped = np.asarray(augment(keys, images, Changes(crop=2)))
  flipped = np.asarray(augment(keys, images, Changes(crop=2, flip=True)))
  mirrored = np.asarray(augmentation.flips(keys))[:, None, None, None]
  np.testing.assert_array_equal(flipped, np.where(mirrored, cropped[:, :, ::-1], cropped))


@functools.partial(jax.jit, static_argnums=(3,))
def chunk_keys(seed, epoch, index, chunk):
  return streams.for_examples(stream_keys(seed).augment, epoch, index, chunk)


def test_golden_draws_of_chunks():
  # Level L0 of the contract: never to be updated. Chunk number n draws what image n would.
  index = jnp.array([0, 499, 500, 999, 1000, 2999], jnp.int32)
  mirrored, offsets, centres = draws(chunk_keys(7, 2, index, 500), 4, 32, 32)
  assert mirrored.tolist() == [False, False, True, True, False, True]
  assert offsets.tolist() == [[8, 4], [8, 4], [1, 8], [1, 8], [0, 2], [7, 1]]
  assert centres.tolist() == [[26, 13], [26, 13], [3, 1], [3, 1], [19, 3], [12, 13]]


def test_a_chunk_moves_alike_and_in_any_company():
  image = images_of(1)
  index = jnp.array([6, 13, 2, 7, 14, 0, 8], jnp.int32)  # as a shuffled batch may have them
  many = jnp.broadcast_to(image, (len(index), *image.shape[1:]))
  changed = np.asarray(augment(chunk_keys(3, 1, index, 7), many, EVERYTHING))
  for members in ((0, 2, 5), (1, 3, 6)):  # of chunks 0 and 1; chunk 2 has one here
    for member in members[1:]:
      np.testing.assert_array_equal(changed[member], changed[members[0]])
  assert not np.array_equal(changed[0], changed[1])
  assert not np.array_equal(changed[0], changed[4])
  alone = np.asarray(augment(chunk_keys(3, 1, index, None), many, EVERYTHING))
  assert len({one.tobytes() for one in alone}) == len(index)
  later = np.asarray(augment(chunk_keys(3, 2, index, 7), many, EVERYTHING))
  assert not np.array_equal(later[0], changed[0])
  assert len({one.tobytes() for one in later}) == 3


def test_vmap_over_runs_gives_what_single_calls_give():
  images = images_of(6)
  keys = jnp.stack([keys_of(seed, 0, list(range(6))) for seed in range(4)])
  together = jax.jit(jax.vmap(lambda k: augmentation.augment(k, images, EVERYTHING.steps())))(keys)
  for seed in range(4):
    np.testing.assert_array_equal(together[seed], augment(keys[seed], images, EVERYTHING))


def test_every_offset_flip_and_centre_is_as_likely():
  mirrored, offsets, centres = map(np.asarray, draws(keys_of(1, 0, list(range(9000))), 4, 5, 3))
  for axis in range(2):
    counts = np.bincount(offsets[:, axis], minlength=9)
    assert len(counts) == 9  # 0..8, both ends included
    # Chi-square with 8 degrees of freedom, its 0.999 quantile.
    assert ((counts - 1000) ** 2 / 1000).sum() < 26.12
  assert abs(np.corrcoef(offsets.T)[0, 1]) < 0.04
  # Four standard deviations of a binomial.
  assert abs(mirrored.mean() - 0.5) < 4 * 0.5 / 9000**0.5
  assert [sorted(set(column)) for column in centres.T.tolist()] == [[0, 1, 2, 3, 4], [0, 1, 2]]


def test_nothing_switched_on_costs_nothing():
  images = images_of(2)
  assert augmentation.augment(keys_of(0, 0, [0, 1]), images, []) is images


@pytest.mark.parametrize(
  ("step", "words"),
  [
    (
      (augmentation.crop, {"padding": 7, "fill": "reflect"}),
      r"crop\.padding=7 .* than .* \(7\) when",
    ),
    ((augmentation.crop, {"padding": -1}), r"crop\.padding=-1 must be at least 0"),
    (
      (augmentation.cutout, {"size": 7}),
      r"cutout\.size=7 must be .* less than the images' side \(7\)",
    ),
    ((augmentation.cutout, {"size": 0}), r"cutout\.size=0 must be at least 1"),
  ],
)
def test_what_is_too_wide(step, words):
  with pytest.raises(UserError, match=f"^augment: {words}"):
    augmentation.augment(keys_of(0, 0, [0]), images_of(1), [step])


def alone(keys, images, *steps):
  """Each by itself, one after the other."""
  for function, options in steps:
    images = function(keys, images, BLACK, **options)
  return images


CROP, FLIP = (augmentation.crop, {"padding": 2, "fill": "black"}), (augmentation.flip, {})


def test_a_list_is_its_functions_one_after_the_other():
  """However they are joined in one gather, and in the order they are listed in."""
  keys, images = keys_of(4, 0, list(range(30))), images_of(30)
  results = [
    np.asarray(augmentation.augment(keys, images, steps, BLACK))
    for steps in ([CROP, FLIP], [FLIP, CROP])
  ]
  for found, steps in zip(results, ((CROP, FLIP), (FLIP, CROP)), strict=True):
    np.testing.assert_array_equal(found, alone(keys, images, *steps))
  assert not np.array_equal(*results)
  assert (results[0] == np.asarray(BLACK)).all(-1).any()


def test_another_function_has_keys_of_its_place():
  """A user's own, and the second of a kind: fold_in(key, 16 + place)."""
  keys, images = keys_of(4, 0, list(range(12))), images_of(12)

  def brighter(keys, images, black, *, by):
    assert black is BLACK
    return images + by * jax.vmap(jax.random.uniform)(keys)[:, None, None, None]

  steps = [FLIP, (brighter, {"by": 3.0}), FLIP]
  found = augmentation.augment(keys, images, steps, BLACK)
  own = [jax.vmap(jax.random.fold_in, (0, None))(keys, 16 + place) for place in (1, 2)]
  expected = brighter(own[0], augmentation.flip(keys, images, BLACK), BLACK, by=3.0)
  np.testing.assert_array_equal(found, augmentation.flip(own[1], expected, BLACK))
  assert (augmentation.flips(keys) != augmentation.flips(own[1])).any()


def test_other_keys_are_refused():
  with pytest.raises(TypeError, match="threefry2x32"):
    augmentation.augment(jax.random.key(0, impl="rbg")[None], images_of(1), EVERYTHING.steps())


def test_normalise():
  images = jnp.array([[[[0, 10], [255, 30]]]], jnp.uint8)
  result = augmentation.normalise(images, jnp.array([100.0, 20.0]), jnp.array([50.0, 4.0]))
  assert result.dtype == jnp.float32
  np.testing.assert_allclose(result, [[[[-2.0, -2.5], [3.1, 2.5]]]], rtol=1e-6)
