"""Images X and labels Y of an npz archive, read in pieces, for archives larger than memory.

`numpy.load` would unpack a whole array at once. Pickled content is never read.
"""

import contextlib
import math
import pathlib
import zipfile
from collections.abc import Iterator
from typing import IO, NamedTuple

import numpy as np
from PIL import Image

from seedlab.data import catalogue, convert
from seedlab.errors import UserError

_KEYS = {"X": "uint8[N, H, W, C]", "Y": "integers[N]"}


class _Member(NamedTuple):
  """An array of an archive, its file open after the header."""

  file: IO[bytes]
  shape: tuple[int, ...]
  dtype: np.dtype


def part(
  field: str,
  path: pathlib.Path,
  expected: tuple[int | None, int | None, int],
  classes: int,
  image_size: int | None,
  first: int | None = None,
) -> convert.Pieces:
  """The `first` images of an archive (None: all), resized if `image_size` is given.

  They must have the shape `expected` before that; None is any side. Raises as `shape` does.
  """
  count, *found = shape(field, path)
  if any(want not in (None, has) for want, has in zip(expected, found, strict=True)):
    wanted = "x".join("any" if side is None else str(side) for side in expected)
    raise UserError(
      f"{field}: the images in {path} are {'x'.join(map(str, found))}; they must be {wanted}"
    )

  def read() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for images, labels in pieces(field, path, convert.BULK, classes, first):
      if image_size:
        plain = images[..., 0] if images.shape[-1] == 1 else images
        images = np.stack([convert.pixels(Image.fromarray(one), image_size) for one in plain])
      yield images, labels

  height, width, channels = found
  most = count if first is None else min(count, first)
  return convert.Pieces(most, (image_size or height, image_size or width, channels), read)


def shape(field: str, path: pathlib.Path) -> tuple[int, ...]:
  """(N, H, W, C) of the images of an archive; checks all but the contents.

  Args:
    field: what errors begin with: the config's field and value that led to the archive.
    path: an npz file with X, uint8[N, H, W, C], and Y, N integers; stored or compressed.

  Raises:
    UserError: if it is anything else, or damaged.
  """
  with _open(field, path) as (images, _):
    return images.shape


def pieces(
  field: str, path: pathlib.Path, size: int, classes: int, first: int | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """uint8[n, H, W, C] and int32[n], n <= size, of the `first` images (None: all), in order.

  Raises:
    UserError: as `shape` does, for damaged contents, and for a label outside 0..classes - 1.
  """
  with _open(field, path) as (images, labels):
    count = len(range(*slice(first).indices(images.shape[0])))
    for start in range(0, count, size):
      length = min(size, count - start)
      image, label = _read(images, length), _read(labels, length)
      wrong = np.flatnonzero((label < 0) | (label >= classes))
      if wrong.size:
        raise UserError(
          f"{field}: Y in {path} is {label[wrong[0]]} at position {start + wrong[0]}; labels must"
          f" lie in 0..{classes - 1}"
        )
      yield image, label.astype(np.int32)


@contextlib.contextmanager
def _open(field: str, path: pathlib.Path) -> Iterator[tuple[_Member, _Member]]:
  """X and Y; whatever goes wrong while they are read is a UserError."""
  try:
    with path.open("rb") as file:
      if file.read(1) == b"\x80":
        raise UserError(
          f"{field}: {path} is a pickle, which is never read; write X and Y with numpy.savez"
        )
    with zipfile.ZipFile(path) as archive, contextlib.ExitStack() as files:
      images, labels = (_member(field, path, archive, key, files) for key in _KEYS)
      if images.shape[0] != labels.shape[0]:
        raise UserError(
          f"{field}: {path} has {images.shape[0]} images in X and {labels.shape[0]} labels in Y;"
          " each image needs one label"
        )
      yield images, labels
  except UserError:
    raise
  except Exception as error:  # zipfile, its decompressors and numpy's headers raise what they like
    raise UserError(
      f"{field}: {path} is no npz archive, or damaged or cut short ({catalogue.one_line(error)});"
      " fetch or write it again"
    ) from error


def _member(
  field: str,
  path: pathlib.Path,
  archive: zipfile.ZipFile,
  key: str,
  files: contextlib.ExitStack,
) -> _Member:
  packed = {one.compress_type for one in archive.infolist()} - {
    zipfile.ZIP_STORED,
    zipfile.ZIP_DEFLATED,
  }
  if packed:  # deflated, a file holds no more than 1,032 times its size; otherwise any amount
    raise UserError(f"{field}: {path} is packed by a method that NumPy never uses; write it again")
  names = archive.namelist()
  if f"{key}.npy" not in names:
    keys = ", ".join(name.removesuffix(".npy") for name in names) or "none"
    raise UserError(
      f"{field}: {path} has no key {key!r} (its keys: {keys}); name the images X, the labels Y"
    )
  file = files.enter_context(archive.open(f"{key}.npy"))
  read_header = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
  }[np.lib.format.read_magic(file)]
  size, fortran_order, dtype = read_header(file)
  if dtype.hasobject:
    raise UserError(
      f"{field}: {key} in {path} is pickled Python objects, which are never read; write"
      f" {_KEYS[key]}"
    )
  right = dtype == np.uint8 if key == "X" else dtype.kind in "iu"
  if not right or len(size) != _KEYS[key].count(",") + 1 or 0 in size or fortran_order:
    found = f"{dtype.name}{list(size)}{' in Fortran order' if fortran_order else ''}"
    raise UserError(f"{field}: {key} in {path} is {found}; it must be {_KEYS[key]}")
  if archive.getinfo(f"{key}.npy").file_size != file.tell() + math.prod(size) * dtype.itemsize:
    raise EOFError(f"{key} is not as long as its header says")
  return _Member(file, size, dtype)


def _read(member: _Member, length: int) -> np.ndarray:
  """The next `length` entries."""
  size = (length, *member.shape[1:])
  content = member.file.read(math.prod(size) * member.dtype.itemsize)
  return np.frombuffer(content, member.dtype).reshape(size)
