"""Decoded images kept on disk as one plain .npy file per array.

They lie beside their source where that is writable, else in the user's cache
directory, and are mapped into memory, so that several workers share one copy.
"""

import contextlib
import errno
import hashlib
import json
import os
import pathlib
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

import numpy as np

_FORMAT = 1  # raise it when the same source would be decoded to other arrays
_PART = ".part"


def folders(source: pathlib.Path, name: str, files: Iterable[pathlib.Path]) -> list[pathlib.Path]:
  """Where the arrays called `name`, decoded from `files`, may lie; beside `source` at best.

  The folder's name holds a digest of the files' names, sizes and times, so that
  a source that has changed never meets an old cache.
  """
  stamps = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
  digest = hashlib.sha256(json.dumps([_FORMAT, stamps]).encode()).hexdigest()[:16]
  return [place / f"{name}-{digest}" for place in (source / "seedlab", home())]


def home() -> pathlib.Path:
  """Where arrays lie that cannot lie beside their source."""
  cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
  return cache / "seedlab" / "data"


def read(folder: pathlib.Path, names: tuple[str, ...]) -> list[np.ndarray] | None:
  """The arrays, read-only and mapped from their files; None if any is missing or cut short."""
  try:
    return [
      np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False))
      for name in names
    ]
  except (OSError, ValueError, EOFError):
    return None


def write(places: list[pathlib.Path], arrays: dict[str, np.ndarray]) -> None:
  """Keeps the arrays in the first of `places` that takes them, or nowhere.

  A cache saves time and nothing else: a full or forbidden disk is no error.
  """
  for folder in filter(_writable, places):
    with contextlib.suppress(OSError):
      folder.mkdir(parents=True, exist_ok=True)
      for name, array in arrays.items():
        save(folder / f"{name}.npy", array)
      return


def save(path: pathlib.Path, array: np.ndarray) -> None:
  """Raises OSError where that fails."""
  with _part(path) as file:
    np.save(file, array, allow_pickle=False)


@contextlib.contextmanager
def room(folder: pathlib.Path, size: int) -> Iterator[None]:
  """Makes a folder for arrays larger than memory and keeps other processes out; they wait.

  A process that is killed lets go; what it had begun is thrown away by the next.

  Raises:
    OSError: if the folder cannot be written or its disk has fewer than `size` bytes free.
  """
  import fcntl  # not on every system, and only large sets come here

  if not _writable(folder):
    raise PermissionError(errno.EACCES, "it may not be written")
  folder.mkdir(parents=True, exist_ok=True)
  with (folder / ".lock").open("w") as lock:
    # Where there are no locks (some network disks), two processes write the same bytes twice.
    with contextlib.suppress(OSError):
      fcntl.flock(lock, fcntl.LOCK_EX)
      for left in folder.glob(f".*{_PART}"):
        left.unlink(missing_ok=True)
    free = shutil.disk_usage(folder).free
    if free < size:
      raise OSError(errno.ENOSPC, f"it has {free:,} bytes free")
    yield


@contextlib.contextmanager
def growing(
  path: pathlib.Path, shape: tuple[int, ...], dtype: type
) -> Iterator[Callable[[np.ndarray], None]]:
  """A file for an array larger than memory: gives a function that appends entries of `shape`.

  The pieces are written, not assigned to a mapped array: a disk that fills up
  under one kills the process. The file appears when the block ends without an
  error. How many entries there are need not be known before: the header leaves
  room for their number.
  """
  count = 0
  with _part(path) as file:

    def append(piece: np.ndarray) -> None:
      nonlocal count
      assert piece.shape[1:] == shape and piece.dtype == dtype
      file.write(np.ascontiguousarray(piece).data)
      count += len(piece)

    _write_header(file, (0, *shape), dtype)
    start = file.tell()
    yield append
    file.seek(0)
    _write_header(file, (count, *shape), dtype)
    assert file.tell() == start


def _writable(folder: pathlib.Path) -> bool:
  while not folder.exists():
    folder = folder.parent
  # Root may write anywhere, but a folder nobody has permission to write is meant to stay as it is.
  return bool(folder.stat().st_mode & 0o222) and os.access(folder, os.W_OK)


def _write_header(file: BinaryIO, shape: tuple[int, ...], dtype: type) -> None:
  descr = np.lib.format.dtype_to_descr(np.dtype(dtype))
  np.lib.format.write_array_header_1_0(
    file, {"descr": descr, "fortran_order": False, "shape": shape}
  )


@contextlib.contextmanager
def _part(path: pathlib.Path) -> Iterator[BinaryIO]:
  """The file appears whole or not at all; whoever writes it at the same time writes the same."""
  part = path.with_name(f".{path.stem}-{uuid.uuid4().hex}{_PART}")
  try:
    with part.open("wb") as file:
      yield file
      file.flush()
      os.fsync(file.fileno())
    part.replace(path)
  finally:
    part.unlink(missing_ok=True)
