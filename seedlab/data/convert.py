"""Sets as arrays: examples read in pieces, decoded once, kept in the cache.

Nothing here uses TensorFlow, or starts JAX.
"""

import math
import pathlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

from seedlab import console
from seedlab.data import cache, catalogue, examples
from seedlab.data.examples import NO_MOMENTS, Dataset
from seedlab.errors import UserError

BULK = 1000  # records handled at a time
LARGE = 2**30  # bytes of images; more are never held in memory


class Pieces(NamedTuple):
  """Examples that can be read in pieces, in order, as often as asked."""

  most: int  # no more examples than that
  shape: tuple[int, ...]  # height, width and channels of an image; columns of a row
  read: Callable[[], Iterator[tuple[np.ndarray, np.ndarray]]]  # dtype[n, *shape], int32[n]
  dtype: type = np.uint8  # int32 of rows


def dataset(
  name: str, places: list[pathlib.Path], parts: Callable[[], tuple[Pieces, Pieces]]
) -> Dataset:
  """What is in the cache; else both parts are read and kept there.

  A set of more than 1 GiB is converted once, in pieces, to files that are mapped
  into memory (`cache`); lines on stderr say how far that is.

  Args:
    name: data.name.
    places: folders that the arrays may be kept in, the best first.
    parts: gives what to train and what to test with; called if the cache has nothing.

  Raises:
    UserError: if no disk takes a large set.
  """
  return _cached(places) or _built(name, places, *parts())


def together(
  train_image: np.ndarray, train_label: np.ndarray, test_image: np.ndarray, test_label: np.ndarray
) -> Dataset:
  """A Dataset with the moments of its training images, if they are images."""
  images = train_image.dtype == np.uint8 and len(train_image) > 0
  found = examples.moments(train_image) if images else NO_MOMENTS
  return Dataset(train_image, train_label, test_image, test_label, *found)


def joined(parts: list[Pieces]) -> Pieces:
  """One after the other."""

  def read() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for part in parts:
      yield from part.read()

  return Pieces(sum(part.most for part in parts), parts[0].shape, read)


def pixels(image: Image.Image, size: int | None) -> np.ndarray:
  """uint8[H, W, C], stretched to size x size pixels if that is given.

  Averaged over boxes (Pillow's BOX) where both sides are multiples of the new one, else by
  Pillow's BILINEAR filter, which averages when it shrinks.
  """
  if size:
    whole = image.width % size == 0 and image.height % size == 0
    image = image.resize((size, size), Image.Resampling.BOX if whole else Image.Resampling.BILINEAR)
  return np.asarray(image).reshape(image.height, image.width, -1)


def _cached(places: list[pathlib.Path]) -> Dataset | None:
  found = (cache.read(place, Dataset._fields) for place in places)
  sets = (Dataset(*arrays) for arrays in found if arrays)
  return next((one for one in sets if _all_labelled(one)), None)


def _all_labelled(dataset: Dataset) -> bool:
  """Whether every image has a label: a cache that somebody changed has not."""
  return len(dataset.train_image) == len(dataset.train_label) and len(dataset.test_image) == len(
    dataset.test_label
  )


def _built(name: str, places: list[pathlib.Path], train: Pieces, test: Pieces) -> Dataset:
  """Reads both parts and keeps them in the cache; a large set must find room there."""
  size = sum(
    part.most * (math.prod(part.shape) * np.dtype(part.dtype).itemsize + 4)
    for part in (train, test)
  )
  if size <= LARGE:
    dataset = together(*_in_memory(train), *_in_memory(test))
    cache.write(places, dataset._asdict())
    return _cached(places) or dataset
  problems = []
  for folder in places:
    try:
      with cache.room(folder, size):
        # Another process may have been at it.
        return _cached([folder]) or _converted(name, folder, train, test, size)
    except OSError as error:  # those of reading have become UserErrors
      problems.append(f"{folder}: {error.strerror or catalogue.one_line(error)}")
  raise UserError(
    f"data.name={name!r} takes {size:,} bytes on disk when decoded, for which there is no room"
    f" ({'; '.join(problems)}); free a disk or name another with --data_dir, SEEDLAB_DATA or"
    " XDG_CACHE_HOME"
  )


def _in_memory(part: Pieces) -> tuple[np.ndarray, np.ndarray]:
  images = np.empty((part.most, *part.shape), part.dtype)
  labels = np.empty(part.most, np.int32)
  end = 0
  for image, label in part.read():
    start, end = end, end + len(label)
    images[start:end], labels[start:end] = image, label
  return images[:end], labels[:end]


def _converted(
  name: str, folder: pathlib.Path, train: Pieces, test: Pieces, size: int
) -> Dataset | None:
  console.say(f"converting {name} once, {size / 1e9:,.1f} GB, to {folder}")
  images_to_count = train.dtype == np.uint8 and train.most > 0
  counts = np.zeros((train.shape[-1], 256), np.int64)
  done, total = 0, train.most + test.most
  for split, part in (("train", train), ("test", test)):
    image_path, label_path = (folder / f"{split}_{kind}.npy" for kind in ("image", "label"))
    with (
      cache.growing(image_path, part.shape, part.dtype) as append_images,
      cache.growing(label_path, (), np.int32) as append_labels,
    ):
      for images, labels in part.read():
        append_images(images)
        append_labels(labels)
        if images_to_count and part is train:
          counts += examples.counts(images)
        before, done = done, done + len(labels)
        if 10 * before // total < 10 * done // total:
          kind = "images" if train.dtype == np.uint8 else "rows"
          console.say(f"{name}: {done:,} of {total:,} {kind} converted")
  # The last to be written: without them nothing is read.
  found = examples.moments_of(counts) if images_to_count else NO_MOMENTS
  for kind, array in zip(("mean", "std"), found, strict=True):
    cache.save(folder / f"{kind}.npy", array)
  return _cached([folder])
