"""Decoded pictures kept on disk as one plain .npy file per array.

They lie beside their source where that is writable, else in the user's cache
directory, and are mapped into memory, so that several workers share one copy.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import uuid

import numpy as np

_FORMAT = 1  # raise it when the same source would be decoded to other arrays


def folders(source: pathlib.Path, name: str) -> list[pathlib.Path]:
  """Where the arrays called `name`, decoded from the files in `source`, may lie; the best first.

  The folder's name holds a digest of the files' names, sizes and times, so that
  a source that has changed never meets an old cache.
  """
  files = sorted(
    (path.name, path.stat().st_size, path.stat().st_mtime_ns)
    for path in source.iterdir()
    if path.is_file()
  )
  digest = hashlib.sha256(json.dumps([_FORMAT, files]).encode()).hexdigest()[:16]
  home = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
  return [place / f"{name}-{digest}" for place in (source / "seedlab", home / "seedlab" / "data")]


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
        _write_file(folder / f"{name}.npy", array)
      return


def _writable(folder: pathlib.Path) -> bool:
  while not folder.exists():
    folder = folder.parent
  # Root may write anywhere, but a folder nobody has permission to write is meant to stay as it is.
  return bool(folder.stat().st_mode & 0o222) and os.access(folder, os.W_OK)


def _write_file(path: pathlib.Path, array: np.ndarray) -> None:
  """The file appears whole or not at all; whoever writes it at the same time writes the same."""
  part = path.with_name(f".{path.stem}-{uuid.uuid4().hex}")
  try:
    with part.open("wb") as file:
      np.save(file, array, allow_pickle=False)
      file.flush()
      os.fsync(file.fileno())
    part.replace(path)
  finally:
    part.unlink(missing_ok=True)
