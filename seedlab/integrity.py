"""Whether a store holds what was written into it, found by its digests (`seals`).

  run numbers, seeds    are what the manifest implies
  other coordinates     have digests in the manifest
  everything of a run   has a digest in the run's row, and a checksum for each array

A store of layout 1 or 2 has no digests: what is missing is found, a changed number is not.
"""

import math
import os
import pathlib
import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import zarr

from seedlab import decoding, designs, migration, seals
from seedlab.config import STREAMS, parse_seeds
from seedlab.errors import Damaged

# What the decoders of numcodecs and zarr raise for bytes that they did not write.
_UNDECODABLE = (
  ArithmeticError, AssertionError, EOFError, LookupError, MemoryError, RuntimeError, SystemError,
  TypeError, ValueError,
)  # fmt: skip


# The beginning of a chunk that Blosc packed: flags, bytes unpacked, bytes of the file.
_BLOSC = struct.Struct("<2xBxI4xI")
_LZ4 = 1


class Damage(NamedTuple):
  """An array of a store (or a file that describes one) that does not hold what was written."""

  array: str
  runs: list[int] | None = None  # None: the whole of it

  def __str__(self) -> str:
    if self.runs is None:
      return self.array
    more = f" and {len(self.runs) - 5:,} more" * (len(self.runs) > 5)
    listed = ", ".join(map(str, self.runs[:5]))
    return f"{self.array} of run{'s' * (len(self.runs) > 1)} {listed}{more}"


def refusal(path: str | os.PathLike, found: Sequence[Damage]) -> Damaged:
  """The error that names what is damaged and says what repairs it."""
  more = f" and {len(found) - 4} more" * (len(found) > 4)
  what = "trains the damaged runs" if any(one.runs for one in found) else "writes what is damaged"
  return Damaged(
    f"{os.fspath(path)!r} is damaged: what is stored is not what was written in"
    f" {'; '.join(map(str, found[:4]))}{more}; run the sweep's command again, which {what} again"
  )


def damage(path: pathlib.Path, attributes: Mapping[str, Any]) -> list[Damage]:
  """What in the store with this manifest is not as it was written; see `records.damage`."""
  files = metadata_damage(path)
  if {".zgroup", ".zattrs"} & {one.array for one in files}:
    return files  # without which nothing opens
  group = committed(path)
  if not sealed(attributes):
    runs, lost = group["run"][:], lost_files(path, attributes, group["completed"][:])
    return [*files, *(Damage(name, runs[rows].tolist()) for name, rows in lost.items())]
  coordinates = implied(attributes)
  return [
    *files,
    *_coordinate_damage(group, attributes, coordinates),
    *_row_damage(path, group, attributes, coordinates),
  ]


def metadata(path: pathlib.Path) -> dict[str, Any]:
  """File -> its content, as the consolidated metadata has it."""
  return decoding.parse(decoding.content(path / ".zmetadata"))["metadata"]


def metadata_damage(path: pathlib.Path) -> list[Damage]:
  """Files of single arrays that say something else than the consolidated metadata.

  A writer changes the shapes and the group's attributes in them first.
  """
  found = []
  for name, value in metadata(path).items():
    try:
      there = decoding.parse(decoding.content(path / name))
      if name.endswith("/.zarray"):
        there["shape"] = value["shape"]
      same = name == ".zattrs" or there == value
    except (OSError, ValueError, TypeError):
      same = False
    if not same:
      found.append(Damage(name))
  return found


def sealed(attributes: Mapping[str, Any]) -> bool:
  """Whether the store with this manifest has digests of its runs (layout 3 and later)."""
  return seals.DIGEST in attributes.get("by_run", ())


def committed(path: pathlib.Path) -> zarr.Group:
  """The store as its consolidated metadata describes it, which is all that readers go by."""
  return zarr.open_consolidated(os.fspath(path), mode="r", zarr_format=2)


def _coordinate_damage(group, attributes, coordinates) -> list[Damage]:
  """Of run numbers, seeds, evaluations and labels."""
  found = []
  for name, expected in coordinates.items():
    values = values_of(group, name)
    if values is None or not np.array_equal(values, expected):
      found.append(Damage(name))
  for name, expected in attributes["coordinates_sha256"].items():
    values = values_of(group, name)
    if values is None or seals.array_digest(values) != expected:
      found.append(Damage(name))
  return found


def implied(attributes: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """The coordinates along `run` as the manifest implies them: int64[R], and uint32[R] a stream."""
  runs = seals.from_ranges(attributes["runs"])
  seeds = (attributes.get("config") or attributes.get("trainer") or {}).get("seeds")
  if seeds is None:
    return {"run": runs}
  streams_here = streams_of(attributes)
  if seeds.get("design") == "crossed":
    parsed = parse_seeds(migration.with_levels({"seeds": seeds})["seeds"])
    values = np.array([designs.seeds_of_run(int(run), parsed) for run in runs], np.uint32)
    values = values.reshape(len(runs), len(STREAMS))
    columns = {stream: values[:, STREAMS.index(stream)] for stream in streams_here}
  else:
    fixed = np.full(len(runs), seeds["fixed"], np.uint32)
    columns = {
      stream: runs.astype(np.uint32) if stream in seeds["vary"] else fixed
      for stream in streams_here
    }
  return {"run": runs, **{f"seed_{stream}": values for stream, values in columns.items()}}


def _row_damage(path, group, attributes, coordinates) -> list[Damage]:
  """Of the finished and failed runs, array by array."""
  runs, chunk = coordinates["run"], attributes["chunk"]
  bad: dict[str, list[int]] = {}
  for first in range(0, len(runs), chunk):
    part = slice(first, min(first + chunk, len(runs)))
    for name, rows in _bad_rows(group, attributes, coordinates, part).items():
      bad.setdefault(name, []).extend(runs[first + rows].tolist())
  completed = values_of(group, "completed")
  if completed is not None:
    # A lost file of an array whose usual value is 0 reads as what was written.
    for name, rows in lost_files(path, attributes, completed).items():
      bad[name] = sorted({*bad.get(name, []), *runs[rows].tolist()})
  return [Damage(name, numbers) for name, numbers in bad.items()]


def _bad_rows(group, attributes, coordinates, part: slice) -> dict[str, np.ndarray]:
  """Array -> rows, counted from the first of the chunk, that hold other numbers than were written.
  """
  # What says that a row is there is written last, and read first: a sweep may be under way.
  flags = ["completed", "failed"]
  names = [name for name in attributes["by_run"] if name != "run" and name[:5] != "seed_"]
  names.sort(key=lambda name: name not in flags)
  read = {name: values_of(group, name, part) for name in names}
  columns = {name: values for name, values in read.items() if values is not None}
  if len(columns) < len(names):
    flag = columns.get("completed", np.ones(part.stop - part.start, bool)).view(np.uint8)
    return {name: np.flatnonzero(flag) for name in names if name not in columns and flag.any()}
  flag = columns["completed"].view(np.uint8)
  if (flag > 1).any():
    return {"completed": np.flatnonzero(flag > 1)}
  written = np.flatnonzero(flag | (columns["failed"] != b""))
  columns = {name: values[written] for name, values in columns.items()}
  seeds = {
    stream: (coordinates if f"seed_{stream}" in coordinates else group)[f"seed_{stream}"][part]
    for stream in streams_of(attributes)
  }
  return {
    name: written[rows]
    for name, rows in _differing(
      coordinates["run"][part][written],
      {stream: values[written] for stream, values in seeds.items()},
      columns,
      attributes,
    ).items()
    if len(rows)
  }


def _differing(runs, seeds, columns, attributes) -> dict[str, np.ndarray]:
  """Array -> positions of the runs whose digest or checksum is another one."""
  table = [seals.digest(one) for one in attributes["fingerprints"]]
  known = (columns["fingerprint"] >= 0) & (columns["fingerprint"] < len(table))
  prints = [table[at] if ok else "" for at, ok in zip(columns["fingerprint"], known, strict=True)]
  wrong = seals.run_digests(runs, seeds, columns, prints) != columns[seals.DIGEST]
  sums = seals.checksums([columns[name] for name in attributes["arrays"]])
  other = sums != columns[seals.CHECKSUM]
  lost = other.all(axis=1) & ~wrong  # the numbers are right, and their checksums are gone
  other[lost] = False
  found = {name: np.flatnonzero(other[:, at]) for at, name in enumerate(attributes["arrays"])}
  found[seals.CHECKSUM] = np.flatnonzero(lost)
  # Whoever changed a number here changed its checksum as well, so that nothing says which it was.
  unnamed = wrong & ~other.any(axis=1)
  found[seals.DIGEST] = np.union1d(found[seals.DIGEST], np.flatnonzero(unnamed))
  return found


def values_of(group: zarr.Group, name: str, part: slice = slice(None)) -> np.ndarray | None:
  """An array's values; None where its file is damaged.

  A flipped bit raises whatever the decoder makes of it. That a file cannot be read at all, for want
  of permission or a connection, is no damage.
  """
  try:
    array = group[name]
    if misdeclared(group, array, part):
      return None
    return array[part]
  except FileNotFoundError:
    return None
  except _UNDECODABLE:
    return None


def misdeclared(group: zarr.Group, array: zarr.Array, part: slice = slice(None)) -> bool:
  """Whether a file of an array would unpack to another size than the manifest says.

  Blosc makes as much room as a file's first bytes ask for, before it looks at the rest.
  """
  folder = os.path.join(group.store.root, array.path)
  rows, rest = array.chunks[0], ".0" * (array.ndim - 1)
  size = math.prod(array.chunks) * array.dtype.itemsize
  first, stop, _ = part.indices(array.shape[0])
  files = (os.path.join(folder, f"{row}{rest}") for row in range(first // rows, -(-stop // rows)))
  return not all(_unpacks_to(file, size, bool(array.compressors)) for file in files)


def _unpacks_to(file: str, size: int, packed: bool) -> bool:
  """Whether a chunk has so many bytes; one that is not there reads as the fill value."""
  try:
    with open(file, "rb") as opened:
      head, length = opened.read(_BLOSC.size), os.fstat(opened.fileno()).st_size
  except FileNotFoundError:
    return True
  if not packed:
    return length == size
  if len(head) < _BLOSC.size:
    return False
  flags, unpacked, here = _BLOSC.unpack(head)
  return flags >> 5 == _LZ4 and unpacked == size and here == length


def streams_of(attributes: Mapping[str, Any]) -> tuple[str, ...]:
  """The streams that existed when the store was made."""
  return tuple(stream for stream in STREAMS if f"seed_{stream}" in attributes["by_run"])


def lost_files(
  path: pathlib.Path, attributes: Mapping[str, Any], completed: np.ndarray
) -> dict[str, np.ndarray]:
  """Array -> completed rows whose chunk has no file; every chunk written has one."""
  chunk, found = attributes["chunk"], {}
  rows, described = np.flatnonzero(completed), metadata(path)
  for name in attributes["by_run"]:
    shape = described[f"{name}/.zarray"]["chunks"]
    if shape[0] == chunk:
      there = set(os.listdir(path / name)) if (path / name).is_dir() else set()
      gone = [f"{row // chunk}{'.0' * (len(shape) - 1)}" not in there for row in rows]
      if any(gone):
        found[name] = rows[gone]
  return found


