"""Random resized crops, on the device: of one key and one image, whatever its size.

Images differ in size and a compiled program knows one shape, so an image lies in the upper left
corner of a square canvas of zeros, beside its own size. The draws are those of torchvision's
RandomResizedCrop, the filter that of Pillow and of torch's interpolate(antialias=True): a triangle
as wide as the shrinking, cut off at the border of the crop. An image of 224x224 from a canvas of
448x448 takes 1.5 ms on one CPU core.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from seedlab import streams

_AREA = 0.08, 1.0
_RATIO = 3 / 4, 4 / 3  # of width to height
_ATTEMPTS = 10
_KIND = 3  # in the table of augmentation.py


class Canvas(NamedTuple):
  """Images of any size, at most as large as their canvas."""

  pixels: jax.Array  # uint8[B, S, S, C], zero beyond the image
  size: jax.Array  # int32[B, 2]: height and width of the image, at least 1


def random_resized_crop(keys: jax.Array, canvas: Canvas, side: int) -> jax.Array:
  """float32[B, side, side, C] on the 0..255 scale: a random part of each image, resized.

  Args:
    keys: typed keys [B], one per example: `streams.for_examples(augment, epoch, index)`.
    canvas: the images.
    side: static; of the result.
  """
  boxes = jax.vmap(resized_crop_box)(streams.check_key(keys), canvas.size)
  return resample(canvas.pixels, boxes, side)


def resized_crop_box(key: jax.Array, size: jax.Array) -> jax.Array:
  """int32[4]: top, left, height, width of a random part of an image.

  Ten times an area (uniform in 8 to 100 % of the image's) and a ratio of width to height (its
  logarithm uniform, 3/4 to 4/3) are drawn; the first pair whose rounded box fits is moved to a
  uniform place. If none fits, it is the largest central box whose ratio lies in that range, as in
  torchvision.

  The logarithm is turned into a ratio in float32: another device may round it otherwise, and then
  choose a box that differs by a pixel.

  Args:
    key: typed, of one example.
    size: int32[2], height and width.
  """
  height, width = size[0], size[1]
  words = jax.random.bits(jax.random.fold_in(key, _KIND), (4 * _ATTEMPTS,), jnp.uint32).reshape(
    _ATTEMPTS, 4
  )
  share, slant = jnp.moveaxis((words[:, :2] >> 8).astype(jnp.float32) / 2**24, 1, 0)
  area = (_AREA[0] + (_AREA[1] - _AREA[0]) * share) * (height * width).astype(jnp.float32)
  low, high = map(math.log, _RATIO)
  ratio = jnp.exp(low + (high - low) * slant)
  tall = jnp.round(jnp.sqrt(area / ratio)).astype(jnp.int32)
  wide = jnp.round(jnp.sqrt(area * ratio)).astype(jnp.int32)
  fits = (tall >= 1) & (tall <= height) & (wide >= 1) & (wide <= width)
  chosen = jnp.argmax(fits)  # the first
  # Remainders of 32 bits: uniform to within a millionth, for images below 4,000 pixels a side.
  top = (words[:, 2] % jnp.maximum(height - tall + 1, 1).astype(jnp.uint32)).astype(jnp.int32)
  left = (words[:, 3] % jnp.maximum(width - wide + 1, 1).astype(jnp.uint32)).astype(jnp.int32)
  drawn = jnp.stack([top, left, tall, wide], 1)[chosen]
  return jnp.where(fits[chosen], drawn, _central_box(height, width))


def _central_box(height: jax.Array, width: jax.Array) -> jax.Array:
  tall = jnp.minimum(height, jnp.round(width / _RATIO[0]).astype(jnp.int32))
  wide = jnp.minimum(width, jnp.round(height * _RATIO[1]).astype(jnp.int32))
  return jnp.stack([(height - tall) // 2, (width - wide) // 2, tall, wide])


def resample(pixels: jax.Array, boxes: jax.Array, side: int) -> jax.Array:
  """float32[B, side, side, C]: boxes of images, resized by the bilinear filter with antialiasing.

  Args:
    pixels: [B, S, S, C].
    boxes: int32[B, 4]: top, left, height and width, inside the S x S pixels.
    side: static.
  """
  largest = pixels.shape[1]
  rows, row_weights = jax.vmap(lambda box: _taps(box[0], box[2], side, largest))(boxes)
  columns, column_weights = jax.vmap(lambda box: _taps(box[1], box[3], side, largest))(boxes)

  def taken(image, places, weights, axis):
    shape = tuple(side if at == axis else 1 for at in range(3))
    return sum(
      jnp.take(image, places[:, tap], axis, mode="clip").astype(jnp.float32)
      * weights[:, tap].reshape(shape)
      for tap in range(places.shape[1])
    )

  def one(of):
    image, row, row_weight, column, column_weight = of
    return taken(taken(image, row, row_weight, 0), column, column_weight, 1)

  # One by one: of a whole batch XLA:CPU computes the rows anew for every column (3 times as slow),
  # and the result anew wherever it is used.
  return lax.map(one, (pixels, rows, row_weights, columns, column_weights))


def _taps(start, length, side: int, largest: int) -> tuple[jax.Array, jax.Array]:
  """What each pixel of the result is the weighted sum of: places int32 and weights, [side, T].

  T is what the widest filter takes; the weights of a narrower one end in zeros.
  """
  count = 2 * max(1, math.ceil(largest / side)) + 1
  scale = length.astype(jnp.float32) / side
  reach = jnp.maximum(scale, 1)
  centre = (jnp.arange(side, dtype=jnp.float32) + 0.5) * scale
  first = jnp.maximum(jnp.floor(centre - reach + 0.5).astype(jnp.int32), 0)
  place = first[:, None] + jnp.arange(count, dtype=jnp.int32)[None, :]
  weight = jnp.maximum(1 - jnp.abs(place + 0.5 - centre[:, None]) / reach, 0)
  weight = jnp.where(place < length, weight, 0)
  return start + place, weight / weight.sum(1, keepdims=True)
