"""Images read from their records when they are needed: no set is ever held in memory.

Several threads read records and decode them; what comes back depends on the positions asked for
alone. Records are compressed in groups, but unpacking one for each record costs little beside
decoding an image (BUILD_NOTES.md), so that nothing is kept between two calls.

The threads are SEEDLAB_READER_THREADS many, 4 by default. Neither TensorFlow nor JAX is started.
"""

import concurrent.futures
import functools
import hashlib
import io
import logging
import os
import pathlib
import re
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image

from seedlab import console
from seedlab.data import catalogue
from seedlab.errors import UserError

_THREADS = 4
_CHUNK = 16  # records that a thread reads before it takes the next ones
_BUFFER = re.compile(r"<_io\.BytesIO object at \w+>")  # as Pillow calls an image
_ROW = 100  # records without an image, one after the other, before there is no going on
_SAMPLED = 64  # records that stand for a set

# A decoded image -> uint8[H, W, C] of a fixed shape, and how much of it is image: its height
# and width.
View = Callable[[Image.Image], tuple[np.ndarray, tuple[int, int]]]


class Records(NamedTuple):
  """Encoded images with labels, in one or more splits of a tensorflow-datasets set."""

  name: str  # data.name
  folder: pathlib.Path  # that the records lie in
  splits: tuple[tuple[str, Any], ...]  # names and data sources, whose images stay encoded
  keys: tuple[str, str]  # of image and label in a record
  mode: str  # Pillow's name of the channels
  corrupt: Literal["refuse", "skip"]


class Images(NamedTuple):
  """What was read, in the order asked for."""

  image: np.ndarray  # uint8[n, H, W, C]
  size: np.ndarray  # int32[n, 2]: height and width of the image within its canvas
  label: np.ndarray  # int32[n]


class Pool(NamedTuple):
  """The training examples of a set that is streamed."""

  count: int
  shape: tuple[int, int, int]  # height, width and channels of a whole image
  # Positions int[n] -> the images as the test set shows them, or on canvases: squares of
  # `canvas` pixels a side, scaled down to fit where they are larger, with zeros beyond them.
  read: Callable[[np.ndarray], Images]
  read_canvases: Callable[[np.ndarray], Images] | None  # where random parts are cut out of them
  canvas: int | None  # likewise
  digest: np.ndarray  # int32[32], that tells the pool from others


def count(records: Records) -> int:
  return sum(len(source) for _, source in records.splits)


def read(records: Records, view: View, positions: np.ndarray) -> Images:
  """The examples at `positions`, the same whatever the number of threads.

  Args:
    records: where they are read.
    view: what becomes of a decoded image; called by several threads.
    positions: int[n], n > 0, which count through the splits.

  Raises:
    UserError: if records cannot be read or have no label, if an image cannot be decoded and
      `records.corrupt` is "refuse", and if one hundred in a row cannot. A "skip" puts the next
      image that can be decoded in its place, and says so once on stderr.
  """
  chunks = [positions[at : at + _CHUNK] for at in range(0, len(positions), _CHUNK)]
  parts, skipped = [], []
  with concurrent.futures.ThreadPoolExecutor(threads()) as pool:
    # After an error, or Ctrl-C, `map` drops the chunks that no thread has begun.
    for found, left_out in pool.map(functools.partial(_read_chunk, records, view), chunks):
      parts.append(found)
      skipped += left_out
  if skipped:
    _say_skipped(records.name, skipped[0])
  return Images(*map(np.concatenate, zip(*parts, strict=True)))


def threads() -> int:
  """SEEDLAB_READER_THREADS, or 4. Raises UserError if that is no whole number above 0."""
  text = os.environ.get("SEEDLAB_READER_THREADS") or str(_THREADS)
  if not text.isdecimal() or not int(text):
    raise UserError(
      f"SEEDLAB_READER_THREADS={text!r} must be a whole number above 0, {_THREADS} if it is unset"
    )
  return int(text)


def digest(records: Records, view: View, files: list[pathlib.Path]) -> np.ndarray:
  """int32[32]: SHA-256 of the files' names and sizes, and of some records as they are decoded here.

  Hashing all of a large set takes hours; a JPEG decoder of another kind shows in any image.
  """
  sha = hashlib.sha256(repr([(file.name, file.stat().st_size) for file in files]).encode())
  total = count(records)
  for part in read(records, view, np.unique(np.linspace(0, total - 1, _SAMPLED).astype(int))):
    sha.update(np.ascontiguousarray(part).data)
  return np.frombuffer(sha.digest(), np.uint8).astype(np.int32)


def on_canvas(side: int, image: Image.Image) -> tuple[np.ndarray, tuple[int, int]]:
  """A view: the image in the upper left corner of a square, scaled down if it does not fit."""
  scale = side / max(image.size)
  if scale < 1:
    width, height = (max(1, round(scale * length)) for length in image.size)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
  pixels = np.asarray(image).reshape(image.height, image.width, -1)
  canvas = np.zeros((side, side, pixels.shape[-1]), np.uint8)
  canvas[: image.height, : image.width] = pixels
  return canvas, (image.height, image.width)


def centre_crop(side: int, ratio: float, image: Image.Image) -> Image.Image:
  """The central `side` x `side` pixels, after the shorter side was resized to int(ratio side).

  torchvision's Resize and CenterCrop: the longer side is rounded down, an offset to even.
  """
  shorter = int(ratio * side)
  width, height = (shorter * length // min(image.size) for length in image.size)
  left, top = round((width - side) / 2), round((height - side) / 2)
  resized = image.resize((width, height), Image.Resampling.BILINEAR)
  return resized.crop((left, top, left + side, top + side))


def without_advice() -> None:
  """Keeps array_record from advising, file by file, on how records should have been grouped.

  A filter for good: silencing all that is logged while a thread reads would silence others too.
  """
  logging.getLogger("absl").addFilter(_is_no_advice)


def _is_no_advice(record: logging.LogRecord) -> bool:
  return "Grain requires group size" not in str(record.msg)


def _read_chunk(records: Records, view: View, positions: np.ndarray) -> tuple[Images, list[str]]:
  """The examples at `positions`, and which records had to be skipped for them, and why."""
  images, sizes, labels, skipped = [], [], [], []
  for wanted in positions.tolist():
    for position in range(wanted, wanted + _ROW):
      split, number, record = _record(records, position % count(records))
      try:
        opened = Image.open(io.BytesIO(record[records.keys[0]])).convert(records.mode)
        break
      except Exception as error:  # Pillow's decoders raise what they like
        reason = _BUFFER.sub("the image", catalogue.one_line(error))
        skipped.append(f"record {number} of split {split!r} cannot be decoded ({reason})")
        if records.corrupt == "refuse":
          raise UserError(
            f"data.name={records.name!r}: {skipped[-1]}; repair {records.folder}, or set"
            " data.corrupt='skip'"
          ) from error
    else:
      raise UserError(
        f"data.name={records.name!r}: none of {_ROW} records in a row can be decoded, the last is"
        f" record {number} of split {split!r}; repair {records.folder}"
      )
    label = record[records.keys[1]]
    if label < 0:
      raise UserError(
        f"data.name={records.name!r}: record {number} of split {split!r} has no label; name other"
        " splits in data.train_split"
      )
    image, size = view(opened)
    images.append(image)
    sizes.append(size)
    labels.append(label)
  return Images(np.stack(images), np.array(sizes, np.int32), np.array(labels, np.int32)), skipped


def _record(records: Records, position: int) -> tuple[str, int, dict]:
  """A record, with its split and its number there."""
  splits = iter(records.splits)
  split, source = next(splits)
  while position >= len(source):
    position -= len(source)
    split, source = next(splits)
  try:
    return split, position, source[position]
  except Exception as error:  # the readers of record files raise what they like
    raise catalogue.unreadable(records.folder, records.name, error) from error


_said: set[str] = set()


def _say_skipped(name: str, where: str) -> None:
  if name not in _said:
    _said.add(name)
    console.say(
      f"{name}: {where}; data.corrupt='skip' puts the next one in its place, here and wherever else"
      " it must"
    )
