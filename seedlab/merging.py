"""One store from the stores of a sweep's shards.

verify every part; refuse other experiments, other fingerprints, runs that contradict each other
make the store of all runs, or extend the one that is there
copy chunk by chunk, the completion flag last, as a sweep writes: a kill loses the chunk in hand
"""

import collections
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import zarr

from seedlab import config, errors, integrity, records, seals, shards
from seedlab.config import STREAMS
from seedlab.errors import Damaged, UserError
from seedlab.progress import say

# What a manifest says of the experiment, and of the sweep's plan.
_EXPERIMENT = (
  "config", "trainer", "vary", "design", "metrics", "meanings", "outcome", "arrays",
  "coordinates_sha256", "data_digest", "evaluation_digest",
)  # fmt: skip
_PLAN = ("planned_n", "stop", "claims")
# What `records.create` writes itself, and what only a part has.
_NOT_COPIED = {
  "seedlab_store", "layout", "coordinates", "chunk", "outcome", "by_run", "runs", "arrays",
  "coordinates_sha256", "shard",
}  # fmt: skip
_FINISHED, _FAILED, _OPEN = 2, 1, 0


class _Part(NamedTuple):
  """A store, as it is when the merge begins."""

  path: pathlib.Path
  attributes: dict[str, Any]
  group: zarr.Group
  runs: np.ndarray  # int64[R]
  state: np.ndarray  # int[R]: _FINISHED, _FAILED or _OPEN
  digest: np.ndarray  # S64[R]
  fingerprint: np.ndarray  # int32[R], in the manifest's table

  def __str__(self) -> str:
    shard = self.shard
    return repr(str(self.path)) + (f" (--shard={shard[0]}/{shard[1]})" if shard else "")

  @property
  def shard(self) -> list[int] | None:
    return self.attributes.get("shard")


class _Row(NamedTuple):
  """Where a run is."""

  part: _Part
  row: int

  @property
  def state(self) -> int:
    return int(self.part.state[self.row])

  @property
  def digest(self) -> bytes:
    return self.part.digest[self.row]

  @property
  def fingerprint(self) -> dict[str, Any]:
    return self.part.attributes["fingerprints"][self.part.fingerprint[self.row]]


def merge(
  out: str | os.PathLike,
  parts: Sequence[str | os.PathLike] = (),
  *,
  new_fingerprint: bool = False,
  unfinished: bool = False,
  quiet: bool = False,
) -> records.Store:
  """The runs of several stores of one sweep in one store, as one machine would have written it.

  Rows ascend by run number. The same call again goes on after an interruption, and a store that is
  already there is extended; nothing in it is replaced but what is damaged.

  Args:
    out: the directory of the merged store.
    parts: directories of stores; none: the shards of `out`, in OUT.shards.
    new_fingerprint: take parts whose programs, versions or devices differ.
    unfinished: take parts with runs that are not finished, and sweeps of which shards are missing;
      the sweep's own command, without a shard, trains them.
    quiet: no word on stderr.

  Raises:
    UserError: parts that do not belong together; what is on disk stays as it was.
    Damaged: a part that does not hold what was written.
  """
  opened = [_verified(path) for path in _paths(out, parts)]
  for part in opened[1:]:
    _check_same(opened[0], part, (*_EXPERIMENT, *_PLAN))
  rows = _rows(opened)
  if not unfinished:
    _check_all_there(opened, rows)
  records.exists(out)  # refuses a foreign directory before anything is put into it
  with records.lock(out):
    there = None
    if records.exists(out):
      there = _opened(pathlib.Path(out), records.Writer(out).completed)
      _check_same(there, opened[0], _EXPERIMENT)
      _rows([there, *opened])  # refuses runs that it holds otherwise
    table = _fingerprints(rows, there, new_fingerprint)
    if there is None:
      _create(out, opened, rows, table)
    _copy(out, rows, table)
    merged = records.open(out)
  total, finished = merged.sizes["run"], int(merged["completed"].values.sum())
  left = f", {total - finished:,} of them not finished" if finished < total else ""
  counted = errors.counted(len(opened), "part")
  say(quiet, f"{os.fspath(out)} holds {errors.counted(total, 'run')}{left}, merged from {counted}")
  return merged


def _paths(out: str | os.PathLike, parts: Sequence[str | os.PathLike]) -> list[pathlib.Path]:
  """The directories of the parts; by default those of `out`'s shards."""
  found = [pathlib.Path(part) for part in ([parts] if isinstance(parts, str) else parts)]
  if not found:
    folder = shards.folder(out)
    found = [path for path in folder.glob("*-of-*") if records.exists(path)]
    found.sort(key=lambda path: [int(word) for word in re.findall("[0-9]+", path.name)])
    if not found:
      raise UserError(
        f"{str(folder)!r} holds no shards of {os.fspath(out)!r}: train them with seedlab sweep"
        " --shard=i/n, or name the stores to merge"
      )
  target = pathlib.Path(out).resolve()
  if target in [path.resolve() for path in found]:
    raise UserError(f"{os.fspath(out)!r} cannot be merged into itself; name another directory")
  return found


def _manifest(path: pathlib.Path) -> dict[str, Any]:
  """The manifest of a store whose numbers carry digests."""
  attributes = records.manifest(path)
  if not integrity.sealed(attributes) or integrity.streams_of(attributes) != STREAMS:
    raise UserError(
      f"{str(path)!r} was written by an earlier release, without the digests by which its numbers"
      " are verified: train it again, or keep it apart"
    )
  return attributes


def _verified(path: pathlib.Path) -> _Part:
  """A part, in which every number is what was written."""
  attributes = _manifest(path)
  try:
    records.check(path)
  except Damaged as error:
    shard = attributes.get("shard")
    command = f" (with --shard={shard[0]}/{shard[1]})" if shard else ""
    raise Damaged(f"{error}{command}; nothing was merged") from None
  return _opened(path)


def _opened(path: pathlib.Path, completed: np.ndarray | None = None) -> _Part:
  """A store; `completed` says which of its rows count, where some are damaged."""
  attributes = _manifest(path)
  with records.readable(path):
    group = integrity.committed(path)
    if completed is None:
      completed = group["completed"][:]
    failed, digest, fingerprint = (
      _rows_of(group, name, attributes["chunk"]) for name in ("failed", seals.DIGEST, "fingerprint")
    )
    state = np.where(completed, _FINISHED, np.where(failed != b"", _FAILED, _OPEN))
    runs = seals.from_ranges(attributes["runs"])
    return _Part(path, attributes, group, runs, state, digest, fingerprint)


def _rows_of(group: zarr.Group, name: str, chunk: int) -> np.ndarray:
  """array[R], with zeros for chunks that cannot be read: their runs are not completed."""
  array = group[name]
  values = np.zeros(array.shape, array.dtype)
  for first in range(0, len(values), chunk):
    part = slice(first, first + chunk)
    read = integrity.values_of(group, name, part)
    if read is not None:
      values[part] = read
  return values


def _check_same(a: _Part, b: _Part, fields: Sequence[str]) -> None:
  """Refuses a part of another experiment, naming what differs."""
  here = {field: a.attributes.get(field) for field in fields}
  there = {field: b.attributes.get(field) for field in fields}
  changed = config.differences(_shaped(a, here), _shaped(b, there))
  if changed:
    raise UserError(
      f"{b} is not of the same sweep as {a}: {errors.changes(changed)}; merge the parts of one"
      " sweep alone"
    )


def _shaped(part: _Part, values: Mapping[str, Any]) -> dict[str, Any]:
  """The fields with the shape of a run's outcomes; what is None is left to be compared as such."""
  shapes = {}
  for name in part.attributes["outcome"]:
    array = part.group[name]
    shapes[name] = f"{array.dtype}{list(array.shape[1:])}"
  return {**values, "shape": shapes}


def _rows(parts: Sequence[_Part]) -> dict[int, _Row]:
  """Run -> where it is, ascending; of runs in several parts, the one that is furthest.

  Raises UserError for runs that are finished in two parts with different numbers.
  """
  chosen: dict[int, _Row] = {}
  clashes: list[tuple[int, _Row, _Row]] = []
  for part in parts:
    for row, run in enumerate(part.runs.tolist()):
      found = _Row(part, row)
      before = chosen.get(run)
      if before is None or found.state > before.state:
        chosen[run] = found
      elif before.state == found.state == _FINISHED and before.digest != found.digest:
        clashes.append((run, before, found))
  if clashes:
    run, before, found = clashes[0]
    more = f" and {len(clashes) - 1:,} more" * (len(clashes) > 1)
    changed = config.differences(before.fingerprint, found.fingerprint)
    why = f"; their fingerprints differ: {errors.changes(changed)}" if changed else ""
    raise UserError(
      f"run {run}{more}: {before.part} and {found.part} hold different results of it{why}; replay"
      " it in both (seedlab replay), and leave out the part that is wrong"
    )
  return dict(sorted(chosen.items()))


def _check_all_there(parts: Sequence[_Part], rows: Mapping[int, _Row]) -> None:
  """Refuses missing shards and runs that are not finished, naming the command that trains them."""
  seen = collections.defaultdict(set)
  for part in parts:
    if part.shard:
      number, count = part.shard
      seen[count].add(number)
  missing = {count: sorted({*range(1, count + 1)} - there) for count, there in seen.items()}
  if missing and all(missing.values()):
    count = min(missing, key=lambda one: len(missing[one]))
    numbers = missing[count]
    listed = _listed([f"{number}-of-{count}" for number in numbers])
    raise UserError(
      f"{errors.counted(len(numbers), 'shard')} missing: {listed}; the sweep's command with"
      f" --shard={numbers[0]}/{count} trains the first, and --unfinished merges without them"
    )
  for part in parts:
    lacking = {
      word: [run for run, row in rows.items() if row.part is part and row.state == state]
      for state, word in ((_OPEN, "not finished"), (_FAILED, "failed"))
    }
    said = [f"{errors.counted(len(runs), 'run')} {word} ({_listed(runs)})"
            for word, runs in lacking.items() if runs]  # fmt: skip
    if said:
      flags = f" with --shard={part.shard[0]}/{part.shard[1]}" if part.shard else ""
      flags += " and --retry_failed" * bool(lacking["failed"])
      raise UserError(
        f"{str(part.path)!r}: {', '.join(said)}; the sweep's command{flags} trains them, and"
        " --unfinished merges them as they are"
      )


def _listed(items: Sequence[Any]) -> str:
  return ", ".join(map(str, items[:5])) + f" and {len(items) - 5:,} more" * (len(items) > 5)


def _fingerprints(
  rows: Mapping[int, _Row], there: _Part | None, accept: bool
) -> list[dict[str, Any]]:
  """The table of the merged store: what is in it, then what the parts add, which must be asked for.

  Raises UserError for parts of several fingerprints.
  """
  table = list(there.attributes["fingerprints"]) if there and there.state.any() else []
  known = {seals.digest(one) for one in table}
  for row in rows.values():
    if row.state == _OPEN:
      continue
    fingerprint = row.fingerprint
    if (digest := seals.digest(fingerprint)) in known:
      continue
    if table and not accept:
      raise UserError(
        f"{row.part} holds runs of another fingerprint, which are not comparable bit for bit:"
        f" {errors.changes(config.differences(table[-1], fingerprint))}; leave it out, or merge"
        " with --new_fingerprint"
      )
    known.add(digest)
    table.append(fingerprint)
  return table or list(next(iter(rows.values())).part.attributes["fingerprints"][-1:])


def _create(
  out: str | os.PathLike,
  parts: Sequence[_Part],
  rows: Mapping[int, _Row],
  table: Sequence[Mapping[str, Any]],
) -> None:
  """Makes the store, with the chunk and the provenance of the first part."""
  first = parts[0]
  attributes, group = first.attributes, first.group
  copied = {name: value for name, value in attributes.items() if name not in _NOT_COPIED}
  created = min(part.attributes["created"] for part in parts)
  dims = {name: group[name].attrs["_ARRAY_DIMENSIONS"] for name in attributes["outcome"]}
  labelled = [name for name in attributes["coordinates_sha256"] if name != "evaluation"]
  records.create(
    out,
    runs=list(rows),
    seeds=_seeds(rows),
    plan=group["evaluation"][:].tolist(),
    outcome={
      name: (tuple(dims[name][1:]), group[name].shape[1:], group[name].dtype.str) for name in dims
    },
    coords={name: (group[name].attrs["_ARRAY_DIMENSIONS"][0], group[name][:]) for name in labelled},
    chunk=attributes["chunk"],
    attributes={**copied, "created": created, "fingerprints": table},
  )


def _seeds(rows: Mapping[int, _Row]) -> np.ndarray:
  """uint32[len(rows), streams]."""
  parts = {id(row.part): row.part for row in rows.values()}
  read = {
    key: np.stack([part.group[f"seed_{stream}"][:] for stream in STREAMS], axis=1)
    for key, part in parts.items()
  }
  return np.stack([read[id(row.part)][row.row] for row in rows.values()])


def _copy(
  out: str | os.PathLike, rows: Mapping[int, _Row], table: Sequence[Mapping[str, Any]]
) -> None:
  """Writes what is missing in the store of what the parts hold."""
  writer = records.Writer(out)
  labels = next(iter(rows.values())).part.group
  writer.restore({name: labels[name][:] for name in writer.lost_labels})
  if writer.attributes["fingerprints"] != table:
    writer.set_attributes(fingerprints=table)
  kept = set(writer.runs.tolist())
  new = {run: row for run, row in rows.items() if run not in kept}
  if new:
    writer.extend(list(new), _seeds(new))
  index = {seals.digest(one): at for at, one in enumerate(table)}
  copied: dict[int, bytes] = {}
  for first in range(0, len(writer.runs), writer.chunk):
    chunk = range(first, min(first + writer.chunk, len(writer.runs)))
    found = [(at, rows[run]) for at in chunk if (run := int(writer.runs[at])) in rows]
    found = [(at, row) for at, row in found if row.state and not writer.completed[at]]
    if found:
      where = [row for _, row in found]
      writer.write(np.array([at for at, _ in found]), _columns(writer, where, index))
      copied |= {at: row.digest for at, row in found}
  _check_copied(pathlib.Path(out), copied)


def _columns(
  writer: records.Writer, rows: Sequence[_Row], index: Mapping[str, int]
) -> dict[str, np.ndarray]:
  """What the parts hold in `rows`, which all go into one chunk: name -> array[len(rows), ...]."""
  apart = {"run", "completed", seals.DIGEST, seals.CHECKSUM}
  names = [n for n in writer.attributes["by_run"] if n not in apart and not n.startswith("seed_")]
  places = collections.defaultdict(list)  # part -> where its rows stand in `rows`
  for at, row in enumerate(rows):
    places[id(row.part)].append(at)
  columns: dict[str, np.ndarray] = {}
  for stands in places.values():
    part, there = rows[stands[0]].part, np.array([rows[one].row for one in stands])
    with records.readable(part.path):
      for name in names:
        values = part.group[name][there.min() : there.max() + 1][there - there.min()]
        if name == "fingerprint":
          digests = [seals.digest(one) for one in part.attributes["fingerprints"]]
          values = np.array([index[digests[one]] for one in values], values.dtype)
        column = columns.setdefault(name, np.empty((len(rows), *values.shape[1:]), values.dtype))
        column[stands] = values
  return columns


def _check_copied(out: pathlib.Path, copied: Mapping[int, bytes]) -> None:
  """That each run has in the merged store the digest that it has in its part."""
  digests = integrity.committed(out)[seals.DIGEST][:]
  wrong = [at for at, digest in copied.items() if digests[at] != digest]
  if wrong:
    raise Damaged(
      f"{str(out)!r}: rows {_listed(wrong)} changed while they were copied; remove the store and"
      " merge the parts again"
    )
