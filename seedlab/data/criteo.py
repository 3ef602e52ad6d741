"""Criteo's display advertising data: 45,840,617 lines of a click, 13 integers, 26 categories.

The file train.txt of the Criteo Display Advertising Challenge (2014), as Ovadia et
al. 2019 (arXiv 1906.02530) used it: its first 37,000,000 lines to train with, the
next 4,420,308 to validate, which nothing here does, and the last 4,420,309 to test
with; an empty integer is -1, an empty category a category like others; and
categories are hashed to as many buckets and embedded in as many numbers. Which
bucket a category falls into is another: TensorFlow hashes with FarmHash, here it
is the CRC-32 of "<number of the column>:<category>" modulo the buckets.

Lines are read one after the other, so that a file may be larger than memory.
"""

import contextlib
import functools
import gzip
import itertools
import pathlib
import zlib
from collections.abc import Iterator
from typing import IO

import numpy as np

from seedlab.data import cache, catalogue, convert
from seedlab.data.examples import Examples
from seedlab.data.fields import Field
from seedlab.errors import UserError

__all__ = ("criteo",)

_CLASS_NAMES = ("no click", "click")
_LINES, _TRAIN, _TEST = 45_840_617, 37_000_000, 4_420_309
_FEWEST = 10  # lines
_PARSED = 5000  # lines at a time
_INTEGERS = 13
# fmt: off
_BUCKETS = (
  1373, 2148, 4847, 9781, 396, 28, 3591, 2798, 14, 7403, 2511, 5598, 9501,
  46, 4753, 4056, 23, 3828, 5856, 12, 4226, 23, 61, 3098, 494, 5087,
)
_EMBEDDINGS = (
  3, 9, 29, 11, 17, 0, 14, 4, 0, 12, 19, 24, 29,
  0, 13, 25, 0, 8, 29, 0, 22, 0, 0, 31, 0, 29,
)
# fmt: on
FIELDS = (
  *(Field(f"integer_{i + 1}", 0) for i in range(_INTEGERS)),
  *(
    Field(f"category_{i + 1}", buckets, embedding=embedding)
    for i, (buckets, embedding) in enumerate(zip(_BUCKETS, _EMBEDDINGS, strict=True))
  ),
)
COLUMNS = len(FIELDS)

_LABELS = {b"0": 0, b"1": 1}
# The CRC of the front part, from which that of the whole goes on.
_FRONTS = tuple(zlib.crc32(f"{i + 1}:".encode()) for i in range(len(_BUCKETS)))
_BLOCK = 2**20  # bytes


def criteo(*, data_dir: str | None) -> Examples:
  """Rows of train.txt or train.txt.gz in the folder criteo of the data directory.

  Args:
    data_dir: as for `tfds`.

  Raises:
    UserError: if there is no such file; when it is read, if it is damaged.
  """
  path = find(catalogue.directory(data_dir))

  def both() -> tuple[convert.Pieces, convert.Pieces]:
    train, test = (
      convert.Pieces(
        len(part), (COLUMNS,), functools.partial(pieces, path, part, _PARSED), np.int32
      )
      for part in parts(count(path))
    )
    return train, test

  places = cache.folders(path.parent, "criteo", [path])
  return Examples(lambda: convert.dataset("criteo", places, both), _CLASS_NAMES, FIELDS)


def find(directory: pathlib.Path) -> pathlib.Path:
  """train.txt or train.txt.gz in `directory`/criteo; UserError if there is none."""
  paths = [directory / "criteo" / name for name in ("train.txt", "train.txt.gz")]
  for path in paths:
    if path.is_file():
      return path
  raise UserError(
    f"data.name='criteo' has no {paths[0]} (or train.txt.gz); put the training file of the Criteo"
    " Display Advertising Challenge there, which Criteo AI Lab offers among its data sets, or name"
    " the directory above with --data_dir or SEEDLAB_DATA"
  )


def count(path: pathlib.Path) -> int:
  """Its lines; UserError if it cannot be read to its end, or has fewer than ten."""
  lines, last = 0, b"\n"
  with _open(path) as file:
    while block := file.read(_BLOCK):
      lines, last = lines + block.count(b"\n"), block[-1:]
  lines += last != b"\n"
  if lines < _FEWEST:
    raise UserError(
      f"data.name='criteo': {path} has {lines} lines, fewer than {_FEWEST}; fetch it again"
    )
  return lines


def parts(lines: int) -> tuple[range, range]:
  """The numbers of the lines to train and to test with: as published, or that share of others."""
  train, test = (max(1, lines * part // _LINES) for part in (_TRAIN, _TEST))
  return range(train), range(lines - test, lines)


def pieces(path: pathlib.Path, part: range, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Rows int32[n, 39] with the columns of FIELDS and labels int32[n], n <= size, of these lines.

  Raises:
    UserError: a damaged file, or a line that is malformed, with its number from 1.
  """
  with _open(path) as file:
    lines = itertools.islice(file, part.start, part.stop)
    for first in range(part.start, part.stop, size):
      yield _parse(path, list(itertools.islice(lines, size)), first)


def _parse(path: pathlib.Path, lines: list[bytes], first: int) -> tuple[np.ndarray, np.ndarray]:
  try:
    label, *columns = zip(*map(_cells, lines), strict=True)
    if len(columns) != COLUMNS:
      raise ValueError
    rows = np.empty((len(lines), COLUMNS), np.int32)
    for i, column in enumerate(columns[:_INTEGERS]):
      # As an array first, which refuses what 32 bits do not hold.
      rows[:, i] = np.array([int(cell) if cell else -1 for cell in column], np.int32)
    for i, column in enumerate(columns[_INTEGERS:]):
      front = _FRONTS[i]
      hashes = np.array([zlib.crc32(cell, front) for cell in column], np.uint32)
      rows[:, _INTEGERS + i] = hashes % _BUCKETS[i]
    return rows, np.array([_LABELS[cell] for cell in label], np.int32)
  except (ValueError, KeyError, OverflowError):
    numbered = enumerate(map(_problem, lines), first + 1)
    number, problem = next(found for found in numbered if found[1])
  raise UserError(
    f"data.name='criteo': line {number} of {path} {problem}; lines are a label, {_INTEGERS}"
    f" integers and {len(_BUCKETS)} categories between tabs: fetch it again, or mend that line"
  )


def _cells(line: bytes) -> list[bytes]:
  return line.rstrip(b"\r\n").split(b"\t")


def _problem(line: bytes) -> str | None:
  """What is wrong with a line, if anything is."""
  label, *cells = _cells(line)
  if len(cells) != COLUMNS:
    return f"has {1 + len(cells)} cells, not {1 + COLUMNS}"
  if label not in _LABELS:
    return f"has the label {label[:20].decode(errors='replace')!r}, neither 0 nor 1"
  for cell in filter(None, cells[:_INTEGERS]):
    try:
      np.array(int(cell), np.int32)
    except (ValueError, OverflowError):
      return f"has {cell[:20].decode(errors='replace')!r} for an integer of 32 bits"
  return None


@contextlib.contextmanager
def _open(path: pathlib.Path) -> Iterator[IO[bytes]]:
  try:
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
      yield file
  except (OSError, EOFError, zlib.error) as error:
    raise UserError(
      f"data.name='criteo': {path} cannot be read ({catalogue.one_line(error)}); if it is damaged"
      " or cut short, fetch it again"
    ) from error
