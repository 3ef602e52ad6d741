"""Random resized crops: boxes by hand and by a second route, pixels against Pillow."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import stats

from seedlab import streams
from seedlab.data import crops

RNG = np.random.default_rng(0)
KEY = jax.random.key(5, impl=streams.IMPLEMENTATION)


KEYS = streams.for_examples(KEY, 0, jnp.arange(6000, dtype=jnp.int32))
BOXES = jax.jit(jax.vmap(crops.resized_crop_box))


def boxes_of(sizes: np.ndarray) -> np.ndarray:
  """Of the first keys; always 6,000, so that all tests share one program."""
  rest = np.ones((6000 - len(sizes), 2), np.int32)
  return np.asarray(BOXES(KEYS, np.concatenate([sizes, rest]).astype(np.int32)))[: len(sizes)]


@functools.partial(jax.jit, static_argnums=3)
def crop(keys, pixels, size, side):
  return crops.random_resized_crop(keys, crops.Canvas(pixels, size), side)


def as_written(words: list[list[int]], height: int, width: int) -> list[int]:
  """The ten attempts as a loop, in float64."""
  for share, slant, down, right in words:
    area = height * width * (0.08 + 0.92 * (share // 256) / 2**24)
    ratio = math.exp(math.log(3 / 4) + math.log(16 / 9) * (slant // 256) / 2**24)
    wide, tall = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
    if 0 < wide <= width and 0 < tall <= height:
      return [down % (height - tall + 1), right % (width - wide + 1), tall, wide]
  return []


def test_boxes_follow_the_loop_of_ten_attempts():
  sizes = RNG.integers(5, 500, (200, 2))
  found = boxes_of(sizes).tolist()
  drawn = jax.vmap(lambda key: jax.random.bits(jax.random.fold_in(key, 3), (10, 4), jnp.uint32))
  words = np.asarray(drawn(KEYS), np.int64)[:200].tolist()
  expected = [as_written(*each) for each in zip(words, *sizes.T.tolist(), strict=True)]
  decided = [(box, want) for box, want in zip(found, expected, strict=True) if want]
  assert len(decided) > 150
  assert [box for box, _ in decided] == [want for _, want in decided]
  # Some were not decided by the first attempt.
  assert any(max(size) > 4 * min(size) and want for size, want in zip(sizes, expected, strict=True))


def test_a_box_is_golden():
  """Part of every run with such crops: another number here is another augmentation."""
  sizes = np.array([[375, 500], [500, 375], [64, 64]])
  assert boxes_of(sizes).tolist() == GOLDEN


@pytest.mark.parametrize(
  "size, box",
  [
    ((2, 200), [0, 98, 2, 3]),  # 2 (4/3) = 2.7 wide
    ((200, 2), [98, 0, 3, 2]),  # 2 / (3/4) = 2.7 tall
    ((1, 1), [0, 0, 1, 1]),
    ((1, 2), None),
  ],
)
def test_what_fits_no_attempt_is_cut_from_the_centre(size, box):
  found = boxes_of(np.tile(size, (20, 1))).tolist()
  if box:
    assert found == [box] * 20
  else:
    assert {tuple(one) for one in found} <= {(0, 0, 1, 1), (0, 1, 1, 1)}


def test_boxes_never_leave_the_picture():
  sizes = RNG.integers(1, 60, (4000, 2))
  top, left, tall, wide = boxes_of(sizes).T
  assert min(top.min(), left.min()) >= 0 and min(tall.min(), wide.min()) >= 1
  assert (top + tall <= sizes[:, 0]).all() and (left + wide <= sizes[:, 1]).all()


def test_areas_ratios_and_places_are_distributed_as_published():
  side = 2000  # so large that rounding does not show
  boxes = boxes_of(np.full((6000, 2), side))
  top, left, tall, wide = boxes.T
  area = tall * wide / side**2
  assert area.min() < 0.085 and area.max() > 0.98
  assert abs(np.log(wide / tall)).max() < math.log(4 / 3) + 0.002
  # In a square every ratio fits up to 3/4 of the area: there nothing is drawn again.
  free = area < 0.74
  assert stats.kstest((area[free] - 0.08) / 0.66, "uniform").pvalue > 0.01
  slant = np.log(wide / tall)[free] / (2 * math.log(4 / 3)) + 0.5
  assert stats.kstest(slant, "uniform").pvalue > 0.01
  for start, length in ((top, tall), (left, wide)):
    assert stats.kstest(start[free] / (side - length[free] + 1), "uniform").pvalue > 0.01
  apart = [top[free] / (side - tall[free]), left[free] / (side - wide[free]), area[free], slant]
  assert abs(np.corrcoef(apart) - np.eye(4)).max() < 0.05


@pytest.mark.parametrize("largest, side", [(40, 12), (12, 20), (13, 13)])
def test_boxes_are_resized_as_pillow_does(largest, side):
  pixels = RNG.integers(0, 256, (6, largest, largest, 3), np.uint8)
  whole = [0, 0, largest, largest]
  boxes = [whole, [0, 0, 1, largest], [1, 2, largest - 2, 3], [largest - 4, 0, 4, 4]]
  boxes = np.array([*boxes, [2, 3, 7, 5], [0, 5, largest, 2]], np.int32)
  found = np.asarray(jax.jit(crops.resample, static_argnums=2)(pixels, boxes, side))
  if side == largest:
    np.testing.assert_array_equal(found[0], pixels[0])
  assert found.shape == (6, side, side, 3) and found.dtype == np.float32
  for image, box, cut in zip(found, boxes.tolist(), pixels, strict=True):
    top, left, tall, wide = box
    part = cut[top : top + tall, left : left + wide].astype(np.float32)
    for channel in range(3):
      wanted = Image.fromarray(part[..., channel]).resize((side, side), Image.Resampling.BILINEAR)
      np.testing.assert_allclose(image[..., channel], np.asarray(wanted), atol=2e-3)  # of 255


@pytest.mark.optimised
def test_lanes_and_single_calls_give_the_same_bits():
  pixels = RNG.integers(0, 256, (2, 3, 24, 24, 3), np.uint8)
  sizes = RNG.integers(6, 25, (2, 3, 2)).astype(np.int32)
  drawn = KEYS[:6].reshape(2, 3)
  lanes = np.asarray(jax.vmap(lambda *of: crop(*of, 12))(drawn, pixels, sizes))
  for lane in range(2):
    single = crop(drawn[lane], pixels[lane], sizes[lane], 12)
    np.testing.assert_array_equal(lanes[lane], single)
    again = crop(drawn[lane][::-1], pixels[lane][::-1], sizes[lane][::-1], 12)
    np.testing.assert_array_equal(again[::-1], single)


def test_nothing_beyond_the_picture_is_seen():
  for start in range(0, 60, 3):
    sizes = RNG.integers(4, 24, (3, 2)).astype(np.int32)
    pixels = np.zeros((3, 24, 24, 3), np.uint8)
    for image, (height, width) in zip(pixels, sizes, strict=True):
      image[:height, :width] = 200
    found = crop(KEYS[start : start + 3], pixels, sizes, 12)
    np.testing.assert_allclose(found, 200, rtol=1e-6)


GOLDEN = [[188, 234, 175, 220], [1, 18, 311, 242], [2, 5, 46, 50]]
