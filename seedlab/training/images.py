"""What a network reads of an example: images normalised and augmented, rows as they are."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seedlab import streams
from seedlab.config import Data
from seedlab.data import Dataset, augmentation, crops
from seedlab.errors import UserError

# As torchvision's published networks were trained.
_IMAGENET_MEAN = (123.675, 116.28, 103.53)  # 255 (0.485, 0.456, 0.406)
_IMAGENET_STD = (58.395, 57.12, 57.375)  # 255 (0.229, 0.224, 0.225)


def as_rows(image: jax.Array, index: Any, key: Any, epoch: Any, data: Any) -> jax.Array:
  """Rows are read as they are stored."""
  del index, key, epoch, data
  return image


def prepare(
  config: Data,
  steps: Sequence[augmentation.Step],
  dtype: str,
  side: int,
  image: jax.Array | crops.Canvas,
  index: jax.Array | None,
  key: jax.Array | None,
  epoch: jax.Array | int | None,
  data: Dataset,
) -> jax.Array:
  """Images as the network meets them, [B, H, W, C] of `dtype`; augmented if there is a key.

  Args:
    config: whether neighbours share their changes (`chunk`), and what the first copy is.
    steps: the augmentations and their options, in order.
    dtype: of the computation.
    side: H, to which random crops of canvases are resized.
    image: uint8[B, H, W, C], or canvases.
    index: int32[B], what names the examples to the `augment` stream.
    key: of that stream; None leaves images unaugmented.
    epoch: number of the epoch, or of the copy of a fixed pool.
    data: mean and standard deviation of each channel.
  """
  keys = None
  if key is not None:
    keys = streams.for_examples(key, epoch, index, config.chunk)
  if isinstance(image, crops.Canvas):
    image = crops.random_resized_crop(keys, image, side)
  image = augmentation.normalise(image, data.mean, data.std)
  if keys is not None:
    changed = augmentation.augment(keys, image, steps, -data.mean / data.std)
    if config.plain_copy:
      first = jnp.broadcast_to(epoch == 0, index.shape)[:, None, None, None]
      changed = jnp.where(first, image, changed)
    image = changed
  return image.astype(dtype)


def fixed_moments(config: Data, channels: int) -> tuple[np.ndarray, np.ndarray]:
  """float32[C] each, on the 0..255 scale: those that `data.normalisation` names."""
  mean, std = {
    "half": (127.5, 127.5),
    "unit": (0.0, 255.0),
    "imagenet": (_IMAGENET_MEAN, _IMAGENET_STD),
  }[config.normalisation]
  if config.normalisation == "imagenet" and channels != len(mean):
    raise UserError(
      f"data.normalisation='imagenet' is for three channels, and {config.name} has {channels};"
      " set 'half' or 'unit'"
    )
  ones = np.ones(channels, np.float32)
  return np.multiply(mean, ones, dtype=np.float32), np.multiply(std, ones, dtype=np.float32)
