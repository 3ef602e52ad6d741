"""Checkpoints of runs under way: what a killed worker leaves to the one that trains its runs again.

  STORE/.checkpoints/<group>/<number>/   one state as orbax writes it, and the hash of every file

A group is the runs trained together in one program. Its name is a digest of everything its bits
depend on, so that a checkpoint of another program, other seeds or other lanes is never even looked
at. Hashes make sure that a damaged file becomes no number: a state is whole or it is none.
"""

import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np

from seedlab import console

NAME = ".checkpoints"
_KEPT = 2  # the newest and, should that be damaged, the one before
_HASHES = "hashes.json"
_PARTIAL = "partial"

_said: set[str] = set()


class Saves(NamedTuple):
  """Where the groups of a task are saved, and when."""

  folder: str
  seconds: float  # after so many again
  asked: Callable[[], bool] = lambda: False  # whether the runs under way are wanted now as well
  told: Callable[[int], object] = lambda runs: None  # called with how many of them were saved then


def folder(store: str | os.PathLike) -> pathlib.Path:
  """Where the checkpoints of a store lie; absolute, for workers elsewhere."""
  return pathlib.Path(store).absolute() / NAME


def group_name(identity: str, seeds: np.ndarray) -> str:
  """The name of the group with these seeds; `identity` says all else that its bits depend on."""
  sha = hashlib.sha256(identity.encode())
  sha.update(f"{seeds.dtype.str} {seeds.shape}\n".encode())
  sha.update(np.ascontiguousarray(seeds).tobytes())
  return sha.hexdigest()


def save(group: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> bool:
  """Writes {name: array}, none of them empty; afterwards removes all but the newest two.

  A failure is said once a process and is no reason to end the training.
  """
  try:
    group.mkdir(exist_ok=True)  # the folder is the parent's to make: it may not exist over here
    number = max((int(place.name) for place in _states(group)), default=0) + 1
    partial = group / _PARTIAL  # what a kill leaves behind is never taken for a state
    shutil.rmtree(partial, ignore_errors=True)
    with _checkpointer() as checkpointer:
      checkpointer.save(partial, dict(arrays))
    (partial / _HASHES).write_text(json.dumps(_hashes(partial)))
    os.rename(partial, group / f"{number:06}")
  except Exception as error:  # the disk's, orbax's, tensorstore's: each has its own kind
    shutil.rmtree(group / _PARTIAL, ignore_errors=True)
    reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
    _say_once(f"no checkpoint could be written ({reason}); the training goes on without")
    return False
  for old in _states(group)[:-_KEPT]:
    shutil.rmtree(old, ignore_errors=True)
  return True


def restore(group: pathlib.Path) -> dict[str, np.ndarray] | None:
  """The newest state that is whole; those that are not are removed, which is said in one line."""
  damaged, found = 0, None
  for place in reversed(_states(group)):
    found = _read(place)
    if found is not None:
      break
    damaged += 1
    shutil.rmtree(place, ignore_errors=True)
  if damaged:
    instead = "the training starts again" if found is None else "the one before is used"
    console.say(f"{damaged} damaged checkpoint{'s' * (damaged > 1)} in {group.parent}: {instead}")
  return found


def remove(store: str | os.PathLike, groups: Iterable[str]) -> None:
  """Removes the checkpoints of groups whose results are in the store."""
  for group in groups:
    shutil.rmtree(folder(store) / group, ignore_errors=True)


def clear(store: str | os.PathLike) -> None:
  """Removes all checkpoints of a store."""
  shutil.rmtree(folder(store), ignore_errors=True)


def _states(group: pathlib.Path) -> list[pathlib.Path]:
  """The states of a group, the newest last."""
  if not group.is_dir():
    return []
  return sorted(place for place in group.iterdir() if place.name.isdecimal())


def _read(place: pathlib.Path) -> dict[str, np.ndarray] | None:
  try:
    if json.loads((place / _HASHES).read_text()) != _hashes(place):
      return None
    with _checkpointer() as checkpointer:
      return checkpointer.restore(place)
  except Exception:  # whatever orbax makes of it, there is no state to go on from
    return None


def _hashes(place: pathlib.Path) -> dict[str, str]:
  """{file: SHA-256} of everything orbax wrote."""
  hashes = {}
  for path in sorted(place.rglob("*")):
    if path.is_file() and path.name != _HASHES:
      with path.open("rb") as file:
        hashes[path.relative_to(place).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
  return hashes


def _checkpointer():
  """Orbax's; imported late, since most sweeps never write a checkpoint."""
  import orbax.checkpoint as ocp

  # Weights do not compress, and trying takes longer than writing them.
  return ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_compression=False))


def _say_once(message: str) -> None:
  if message not in _said:
    _said.add(message)
    console.say(message)
