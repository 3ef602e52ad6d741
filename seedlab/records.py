"""The store of a sweep: one Zarr group (format 2), opened by plain `xarray.open_zarr`.

Variables have the dimension `run` first; a Zarr chunk along `run` is a chunk of
work. Only the parent process writes (`Writer`), one chunk at a time, the
completion flag last, so a kill at any moment loses at most the chunk in hand.

The consolidated metadata (.zmetadata) is the commit point: it alone says how many
runs there are. A store grows by resizing every array, writing the new
coordinates, then replacing that file; a kill in between leaves the old store.
"""

import contextlib
import errno
import fcntl
import json
import os
import pathlib
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numcodecs
import numpy as np
import xarray
import zarr
from safetensors import SafetensorError
from safetensors.numpy import save_file

from seedlab import checkpoints, console, declared, decoding, integrity, migration, seals
from seedlab.config import STREAMS
from seedlab.errors import UserError, not_there

STORE_VERSION = 1
LAYOUT = migration.LAYOUT  # of manifests; those without a number are of layout 1
_MARK = "seedlab_store"  # the attribute that tells our stores from other Zarr groups
_SEAL = "seedlab_sha256"  # of the consolidated metadata, beside it in its file
# What may lie in the directory before there is a store: a kill while the first file is written
# leaves its beginning.
_NO_PART = {".lock", checkpoints.NAME, ".zattrs.partial"}
# Named, since zarr's own choice differs between releases, and `declared` takes no other.
_COMPRESSOR = numcodecs.Blosc("lz4", clevel=5, shuffle=numcodecs.Blosc.SHUFFLE)
_OUT_OF_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Store(xarray.Dataset):
  """An opened store: a Dataset in all, whose `attrs` hold the manifest and yet can be written.

  NetCDF knows no nested attributes and, in its version 3, which needs SciPy alone, no unsigned, no
  large and no half-precision numbers; version 3 of Zarr knows no byte strings (the digests).
  """

  __slots__ = ()

  def to_netcdf(self, *arguments: Any, **options: Any) -> Any:
    """`xarray.Dataset.to_netcdf`, equal values read back by `xarray.open_dataset`.

    Attributes that are neither text nor a number (and None, True, False) become JSON text, which
    `json.loads` turns back. Whole numbers beyond 32 bits become float64, and half precision
    becomes single.

    Raises UserError for whole numbers that float64 does not hold (beyond 2^53).
    """
    data = {name: _netcdf_variable(name, self.variables[name]) for name in self.data_vars}
    coords = {name: _netcdf_variable(name, self.variables[name]) for name in self.coords}
    attributes = {name: _netcdf_attribute(value) for name, value in self.attrs.items()}
    plain = xarray.Dataset(data, coords, attributes)
    return plain.to_netcdf(*arguments, **options)

  def to_zarr(self, *arguments: Any, **options: Any) -> Any:
    """`xarray.Dataset.to_zarr`; a new store is of Zarr's format 2 unless `zarr_format` says."""
    if options.get("mode") in (None, "w", "w-") and not {"append_dim", "region"} & set(options):
      options.setdefault("zarr_format", 2)
    return super().to_zarr(*arguments, **options)


def _netcdf_variable(name: Any, variable: xarray.Variable) -> xarray.Variable:
  values, attributes = variable.values, dict(variable.attrs)
  if values.dtype.kind == "u" and values.itemsize < 8:
    values = values.view(f"i{values.itemsize}")
    attributes["_Unsigned"] = "true"  # a convention that xarray, netCDF-Java and others decode
  elif values.dtype.kind in "iu" and (values != values.astype(np.int32)).any():
    if ((values > 2**53) | (values < -(2**53))).any():
      raise UserError(
        f"{name} holds whole numbers beyond 2^53, which a NetCDF file of version 3 cannot; use"
        " to_zarr, or drop_vars first"
      )
    values = values.astype(np.float64)
  elif values.dtype == np.float16:
    values = values.astype(np.float32)
  return xarray.Variable(variable.dims, values, attributes)


def _netcdf_attribute(value: Any) -> Any:
  if isinstance(value, str | float) or (type(value) is int and abs(value) < 2**31):
    return value
  return json.dumps(value)


def open(directory: str | os.PathLike, verify: bool = False) -> Store:  # `seedlab.open`
  """The sweep in `directory` as a Dataset: variables by run, the manifest in `attrs`.

  The manifest is as this release would have written it (`migration.migrated`). A stream that did
  not exist when the store was made is a constant coordinate. `to_netcdf` and `to_zarr` write it
  elsewhere (`Store`).

  Args:
    verify: read everything and compare it with its digests first (`check`), as reports do.

  Raises UserError if a part of it is missing or unreadable; Damaged, with `verify`, for numbers
  that are not those that were written.
  """
  path = pathlib.Path(directory)
  attributes = manifest(path)  # names what is wrong before xarray does
  if verify:
    check(path)
  with readable(path):
    _check_sizes(path, attributes)
    dataset = xarray.open_zarr(os.fspath(path), chunks=None, zarr_format=2, consolidated=True)
    lost = integrity.lost_files(path, attributes, dataset["completed"].values)
    # Attributes, and which variables are coordinates, as the sealed manifest has them: xarray reads
    # both from another file, which a writer changes first.
    if "coordinates" in attributes:
      dataset = dataset.reset_coords().set_coords(attributes["coordinates"].split())
    dataset.attrs = {key: value for key, value in attributes.items() if key != "coordinates"}
    dataset = dataset.assign_coords(_later_streams(attributes, dataset.sizes["run"]))
  for variable in dataset.variables.values():
    for codec in ("compressors", "filters", "shards"):  # of format 2, which format 3 refuses
      variable.encoding.pop(codec, None)
  if lost:
    runs = dataset["run"].values
    raise integrity.refusal(
      path, [integrity.Damage(name, runs[rows].tolist()) for name, rows in lost.items()]
    )
  return Store(dataset.data_vars, dataset.coords, dataset.attrs)


def _check_sizes(path: pathlib.Path, attributes: Mapping[str, Any]) -> None:
  """Refuses files that would unpack to more than the manifest says they hold."""
  group = integrity.committed(path)
  wrong = [
    integrity.Damage(name) for name, array in group.arrays() if integrity.misdeclared(group, array)
  ]
  if wrong:
    raise integrity.refusal(path, wrong)


def check(directory: str | os.PathLike, run: int | None = None) -> None:
  """Raises Damaged if the store is not what was written, naming arrays, runs and the remedy.

  Args:
    run: damage of other runs does not matter.
  """
  found = [one for one in damage(directory) if run is None or not one.runs or run in one.runs]
  if found:
    raise integrity.refusal(directory, found)


def damage(directory: str | os.PathLike) -> list[integrity.Damage]:
  """What in the store is not as it was written; reads everything, one chunk at a time.

  Stores of layouts 1 and 2 have no digests: only what is missing is found.

  Raises UserError where the manifest itself cannot be trusted.
  """
  path = pathlib.Path(directory)
  while True:
    attributes = manifest(path)
    with readable(path):
      found = integrity.damage(path, attributes)
    if not found or manifest(path) == attributes:  # else it grew or shrank meanwhile
      return found


def _later_streams(attributes: Mapping[str, Any], runs: int) -> dict[str, Any]:
  """The coordinates of streams that came later, which were constant in every run."""
  later = set(STREAMS) - set(integrity.streams_of(attributes))
  if not later:
    return {}
  seeds = (attributes.get("config") or attributes["trainer"])["seeds"]
  constant = np.full(runs, seeds["fixed"], np.uint32)
  return {f"seed_{name}": ("run", constant) for name in later if name not in seeds["vary"]}


@contextlib.contextmanager
def readable(directory: str | os.PathLike) -> Iterator[None]:
  """Names the store in errors about damaged parts, which reading may only meet late."""
  try:
    yield
  except (UserError, BrokenPipeError):  # nobody reads what is printed meanwhile
    raise
  except (KeyError, ValueError, TypeError, OSError, RuntimeError) as error:
    raise UserError(
      f"{os.fspath(directory)!r} is damaged ({type(error).__name__}:"
      f" {str(error).splitlines()[0][:120]}); restore it, or train into another directory"
    ) from error


def exists(directory: str | os.PathLike) -> bool:
  """Whether a store was created there; raises UserError if something else is in the way."""
  path = pathlib.Path(directory)
  if path.exists() and not path.is_dir():
    raise UserError(f"out={str(path)!r} is a file; name a directory")
  if not path.exists() or not set(os.listdir(path)) - _NO_PART or _half_created(path):
    return False
  if _without_metadata(path):
    raise UserError(
      f"out={str(path)!r} holds results, but its file .zmetadata is lost, which says what they are;"
      " restore that file, or name a new directory"
    )
  if not (path / ".zmetadata").exists():
    raise UserError(
      f"out={str(path)!r} is not empty and holds no seedlab store; name a new directory"
    )
  manifest(path)
  return True


def _half_created(path: pathlib.Path) -> bool:
  """A kill while creating left our attributes, but no consolidated metadata, and so no results."""
  return _without_metadata(path) and not any((path / "digest").glob("[0-9]*"))


def _without_metadata(path: pathlib.Path) -> bool:
  try:
    return not (path / ".zmetadata").exists() and _MARK in (path / ".zattrs").read_text()
  except OSError:
    return False


def manifest(directory: str | os.PathLike) -> dict[str, Any]:
  """The attributes of the store, as this release would have written them.

  Raises UserError for what is no (readable) store of ours.
  """
  path = pathlib.Path(directory)
  if not path.exists():
    raise UserError(
      f"{not_there(path)}; a store is made by seedlab sweep, and a table of results is a file or a"
      " folder of runs"
    )
  if not path.is_dir():
    raise UserError(f"{str(path)!r} is a file and no store; name what was given to --out")
  if not any(path.iterdir()):
    raise UserError(
      f"{str(path)!r} is empty: it holds no seedlab store, no table of results and no log of a run"
    )
  try:
    content = decoding.parse(decoding.content(path / ".zmetadata"))
    metadata = content["metadata"]
    attributes = metadata[".zattrs"]
    seal = content.get(_SEAL)
    ours = _MARK in attributes
  except FileNotFoundError:
    found = [*path.glob("*/.zmetadata"), *path.glob("*/*/.zmetadata")]  # a grid, a study
    cells = sorted(str(cell.parent) for cell in found)
    listed = ", ".join(cells[:4]) + f" and {len(cells) - 4} more" * (len(cells) > 4)
    other = "; name what was given to --out, a table of results or a folder of runs"
    inside = f", but there are: {listed}" if cells else other
    raise UserError(f"{str(path)!r} holds no seedlab store (no .zmetadata){inside}") from None
  except (json.JSONDecodeError, KeyError, TypeError, AttributeError):
    raise UserError(
      f"{str(path)!r}: .zmetadata is damaged; restore it, or train into another directory"
    ) from None
  if not ours:
    raise UserError(f"{str(path)!r} is a Zarr store, but not one of seedlab's")
  if attributes[_MARK] != STORE_VERSION:
    raise UserError(
      f"{str(path)!r} is a store of version {attributes[_MARK]}, written by seedlab"
      f" {attributes.get('seedlab_version')}; this is seedlab for version {STORE_VERSION}: install"
      f" seedlab=={attributes.get('seedlab_version')} to read it"
    )
  layout = attributes.get("layout", 1)
  if layout not in range(1, LAYOUT + 1):
    raise UserError(
      f"{str(path)!r} has a manifest of layout {layout}, written by seedlab"
      f" {attributes.get('seedlab_version')}; this is seedlab for layouts up to {LAYOUT}: install"
      f" seedlab=={attributes.get('seedlab_version')} to read it"
    )
  if (seal or layout >= 3) and seal != seals.digest(metadata):
    raise UserError(
      f"{str(path)!r}: the manifest in .zmetadata is not as it was written; restore it, or train"
      " into another directory"
    )
  wrong = declared.fault(metadata)
  if wrong:
    raise UserError(
      f"{str(path)!r}: {console.shown(wrong)}, which no seedlab wrote, so nothing of it is read;"
      " ask for the store again where it came from, or train into another directory"
    )
  return migration.migrated(attributes)


@contextlib.contextmanager
def lock(directory: str | os.PathLike) -> Iterator[None]:
  """Holds the directory for one writer; released by the system if the process dies."""
  path = pathlib.Path(directory)
  try:
    path.mkdir(parents=True, exist_ok=True)
    handle = (path / ".lock").open("a")
  except OSError as error:
    raise UserError(
      f"out={str(path)!r} cannot be written ({error.strerror}); choose another directory"
    ) from None
  with handle:
    try:
      fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise UserError(
        f"out={str(path)!r} is being written by another process; wait for it or stop it"
      ) from None
    yield


def create(
  directory: str | os.PathLike,
  *,
  runs: Sequence[int],
  seeds: np.ndarray,
  plan: Sequence[int],
  outcome: Mapping[str, tuple[tuple[str, ...], tuple[int, ...], str]],
  coords: Mapping[str, tuple[str, np.ndarray]],
  chunk: int,
  attributes: Mapping[str, Any],
) -> None:
  """Makes the store for `runs`, none of them completed.

  Args:
    seeds: uint32[R, streams], the seeds of each run.
    plan: the steps of the evaluations.
    outcome: name -> (dimensions after run, their sizes, dtype).
    coords: name -> (dimension, labels).
    chunk: runs per chunk of work and of storage.
  """
  path = pathlib.Path(directory)
  with _space(path):
    if _half_created(path):
      for entry in path.iterdir():
        if entry.name != ".lock":
          shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    # Before anything of zarr's: what a kill leaves behind can be told from foreign files.
    mark = {_MARK: STORE_VERSION}
    _replace(path / ".zattrs", mark)
    group = zarr.open_group(os.fspath(path), mode="a", zarr_format=2, attributes=mark)
    columns = {
      "run": ((), (), "i8"),
      **{f"seed_{stream}": ((), (), "u4") for stream in STREAMS},
      "digest": ((), (), "S64"),
      "diverged": ((), (), "i8"),
      "seconds": ((), (), "f4"),
      "fingerprint": ((), (), "i4"),
      "failed": ((), (), "S120"),
      "completed": ((), (), "?"),
      **outcome,
    }
    summed = [n for n in columns if n not in ("run", "completed") and not n.startswith("seed_")]
    summed.append(seals.DIGEST)
    columns[seals.DIGEST] = ((), (), "S64")
    columns[seals.CHECKSUM] = (("array",), (len(summed),), "u2")
    for name, (dims, sizes, dtype) in columns.items():
      # What is written once for many runs need not be split into a file for each chunk of work.
      rows = max(chunk, 16384) if name == "run" or name.startswith("seed_") else chunk
      _array(group, name, ("run", *dims), (0, *sizes), dtype, (rows, *sizes))
    labelled = {"evaluation": ("evaluation", np.array(plan)), **coords}
    for name, (dim, labels) in labelled.items():
      array = _array(group, name, (dim,), labels.shape, labels.dtype, labels.shape)
      array[:] = labels
    fixed = ["evaluation", *coords]
    group.attrs.update(
      {
        **attributes,
        "layout": LAYOUT,
        "coordinates": " ".join([*(f"seed_{stream}" for stream in STREAMS), *coords]),
        "chunk": chunk,
        "outcome": list(outcome),
        "by_run": list(columns),
        "runs": [],
        "arrays": summed,
        "coordinates_sha256": {
          name: seals.array_digest(labels) for name, (_, labels) in labelled.items()
        },
      }
    )
    arrays = {name: group[name] for name in [*columns, *fixed]}
    _grow(group, arrays, 0, runs, seeds)


class Writer:
  """The one writer of an existing store; hold `lock` while using it."""

  def __init__(self, directory: str | os.PathLike):
    self.path = pathlib.Path(directory)
    self.attributes = dict(manifest(directory))
    self.chunk: int = self.attributes["chunk"]
    # When it was opened; rows of it are no longer completed. Nothing else can be read before the
    # files that describe the arrays are whole.
    self.damage = integrity.metadata_damage(self.path)
    with _space(self.path):
      _restore_metadata(self.path)
    self.damage += damage(directory)
    with readable(self.path):
      committed = integrity.committed(self.path)
      self._group = zarr.open_group(
        os.fspath(self.path), mode="r+", zarr_format=2, use_consolidated=False
      )
      self._arrays = {
        name: self._group[name].with_config({"write_empty_chunks": True})
        for name in committed.array_keys()
      }
      if integrity.sealed(self.attributes):
        lost = {one.array for one in self.damage if one.runs is None}
        with _space(self.path):
          for name, values in integrity.implied(self.attributes).items():
            if name in lost:
              self._arrays[name][:] = values
      self.runs: np.ndarray = committed["run"][:]
      completed = integrity.values_of(committed, "completed")
      self.completed: np.ndarray = (
        np.zeros(len(self.runs), bool) if completed is None else completed.view(np.uint8) == 1
      )
      # bool[R]: runs without numbers, whose training ended in an error that is kept.
      self.failed: np.ndarray = np.zeros(len(self.runs), bool)
      if "failed" in self._arrays:
        reasons = integrity.values_of(committed, "failed")
        self.failed = self.failed if reasons is None else reasons != b""
      for one in self.damage:
        if one.runs is not None:  # to be trained again
          self.completed[np.isin(self.runs, one.runs)] = False
          self.failed[np.isin(self.runs, one.runs)] = False

  @property
  def lost_labels(self) -> set[str]:
    """Damaged coordinates that only the experiment itself can give again: `restore`."""
    lost = {one.array for one in self.damage if one.runs is None}
    return lost & set(self.attributes.get("coordinates_sha256", ()))

  def restore(self, coords: Mapping[str, np.ndarray]) -> None:
    """Writes the damaged ones of the coordinates (name -> labels) again."""
    with _space(self.path):
      for name in self.lost_labels & set(coords):
        self._arrays[name][:] = coords[name]

  def extend(self, runs: Sequence[int], seeds: np.ndarray) -> None:
    """Appends runs that are not yet completed."""
    with _space(self.path):
      _grow(self._group, self._arrays, len(self.runs), runs, seeds)
    self.runs = np.concatenate([self.runs, np.asarray(runs, np.int64)])
    self.completed = np.concatenate([self.completed, np.zeros(len(runs), bool)])
    self.failed = np.concatenate([self.failed, np.zeros(len(runs), bool)])

  def truncate(self, total: int) -> None:
    """Drops the rows from `total` on; none of them may be completed."""
    if self.completed[total:].any():
      raise ValueError(f"{self.completed[total:].sum()} of the runs to drop are completed")
    with _space(self.path):
      for name in self.attributes["by_run"]:
        self._arrays[name].resize((total, *self._arrays[name].shape[1:]))
      if integrity.sealed(self.attributes):
        self._group.attrs["runs"] = seals.as_ranges(self.runs[:total])
      _commit(self.path, self._arrays)
    self.runs, self.completed = self.runs[:total], self.completed[:total]
    self.failed = self.failed[:total]

  def metric(self, name: str) -> np.ndarray:
    """float64[R]: a metric at the last evaluation, nan where a run diverged."""
    values = self._arrays[name][:].astype(np.float64)
    values = values.reshape(len(values), -1)[:, -1]
    return np.where(self._arrays["diverged"][:] >= 0, np.nan, values)

  def classes(self) -> int:
    """How many classes the test labels have; 0 without labels."""
    return len(np.unique(self._arrays["label"][:])) if "label" in self._arrays else 0

  def write(self, rows: np.ndarray, columns: Mapping[str, np.ndarray]) -> None:
    """Stores finished runs: `columns` for int[n] `rows`, all of one chunk."""
    first = rows[0] // self.chunk * self.chunk
    last = min(first + self.chunk, len(self.runs))
    if integrity.sealed(self.attributes):
      columns = self._sealed(rows, columns)
    with _space(self.path):
      for name, values in sorted(columns.items(), key=lambda column: column[0] == "failed"):
        # The whole chunk is replaced, by the same bytes for rows that were there.
        array = self._arrays[name]
        block = integrity.values_of(self._group, name, slice(first, last))
        if block is None:  # damaged: none of its rows counts as completed
          block = np.zeros((last - first, *array.shape[1:]), array.dtype)
        block[rows - first] = values
        array[first:last] = block
      failed, completed = self.failed.copy(), self.completed.copy()
      failed[rows] = columns.get("failed", np.zeros(len(rows), "S1")) != b""
      completed[rows] = ~failed[rows]
      self._arrays["completed"][first:last] = completed[first:last]
    self.failed, self.completed = failed, completed

  def forget_failures(self, rows: np.ndarray) -> None:
    """Makes failed runs into such as were never trained."""
    for at in np.unique(rows // self.chunk):
      part = slice(at * self.chunk, min((at + 1) * self.chunk, len(self.runs)))
      reasons = self._arrays["failed"][part]
      reasons[rows[rows // self.chunk == at] - part.start] = b""
      with _space(self.path):
        self._arrays["failed"][part] = reasons
    self.failed[rows] = False

  def fail(self, rows: np.ndarray, reason: str, fingerprint: int) -> None:
    """Stores that the runs in int[n] `rows`, all of one chunk, ended without numbers, and why.

    A store of layout 1 or 2 has no place for that; there they stay as if never trained.
    """
    if not integrity.sealed(self.attributes):
      return
    columns = {
      name: np.full((len(rows), *array.shape[1:]), _no_number(array.dtype), array.dtype)
      for name, array in self._arrays.items()
      if name in {*self.attributes["outcome"], "digest", "seconds"}
    }
    text = reason.encode()[: self._arrays["failed"].dtype.itemsize].decode(errors="ignore")
    columns["failed"] = np.full(len(rows), (text or "no reason is known").encode())
    columns["diverged"] = np.full(len(rows), -1)
    columns["fingerprint"] = np.full(len(rows), fingerprint, np.int32)
    self.write(rows, columns)

  def _sealed(self, rows: np.ndarray, columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The columns as they will be stored, with their digests and checksums."""
    kept = {"failed": np.zeros(len(rows), "S120"), **columns}
    kept = {name: np.asarray(kept[name], self._arrays[name].dtype) for name in kept}
    table = [seals.digest(one) for one in self.attributes["fingerprints"]]
    seeds = {
      stream: self._arrays[f"seed_{stream}"].get_orthogonal_selection((rows,))
      for stream in integrity.streams_of(self.attributes)
    }
    kept[seals.DIGEST] = seals.run_digests(
      self.runs[rows], seeds, kept, [table[at] for at in kept["fingerprint"]]
    )
    kept[seals.CHECKSUM] = seals.checksums([kept[name] for name in self.attributes["arrays"]])
    return kept

  def set_attributes(self, **attributes: Any) -> None:
    """Updates the manifest."""
    self.attributes |= attributes
    with _space(self.path):
      self._group.attrs.update(attributes)
      _commit(self.path, self._arrays)


def _no_number(dtype: np.dtype) -> Any:
  """What stands where there is no value: nan where the type has one."""
  return np.nan if dtype.kind == "f" else np.zeros((), dtype)


def params_path(file: str | os.PathLike) -> pathlib.Path:
  """Where parameters can be saved; raises UserError before anything is trained for them."""
  path = pathlib.Path(file)
  if path.suffix != ".safetensors" or not path.parent.is_dir():
    raise UserError(
      f"params={str(path)!r} must end in .safetensors and lie in an existing directory"
    )
  return path


def save_params(file: str | os.PathLike, params: Mapping[str, np.ndarray]) -> None:
  """Writes {path: array} as safetensors, whole or not at all."""
  path = params_path(file)
  partial = path.with_suffix(".partial")
  with _space(path):
    try:
      save_file(dict(params), partial)
    except SafetensorError as error:  # what it makes of an OSError
      partial.unlink(missing_ok=True)
      raise UserError(f"params={str(path)!r} could not be written ({error})") from None
    os.replace(partial, path)


def _grow(
  group: zarr.Group,
  arrays: dict[str, zarr.Array],
  start: int,
  runs: Sequence[int],
  seeds: np.ndarray,
) -> None:
  """Resizes every array along `run`, writes the coordinates, then commits."""
  total = start + len(runs)
  for name in group.attrs["by_run"]:
    arrays[name].resize((total, *arrays[name].shape[1:]))
  arrays["run"][start:total] = np.asarray(runs, np.int64)
  for column, stream in enumerate(STREAMS):
    if f"seed_{stream}" in arrays:  # else it came later and is constant
      arrays[f"seed_{stream}"][start:total] = seeds[:, column]
  arrays["diverged"][start:total] = -1
  arrays["completed"][start:total] = False
  if integrity.sealed(group.attrs):
    before = seals.from_ranges(group.attrs["runs"])
    group.attrs["runs"] = seals.as_ranges(np.concatenate([before, np.asarray(runs, np.int64)]))
  _commit(pathlib.Path(group.store.root), arrays)


def _restore_metadata(path: pathlib.Path) -> None:
  """Brings the files of single arrays back to what the consolidated metadata says.

  They may be ahead of it, after an extension that was killed, or damaged; readers only see the
  consolidated metadata, which is sealed.
  """
  for name, value in integrity.metadata(path).items():
    try:
      same = decoding.parse(decoding.content(path / name)) == value
    except (OSError, ValueError):
      same = False
    if not same:
      (path / name).parent.mkdir(exist_ok=True)
      _replace(path / name, value)


def _commit(path: pathlib.Path, names: Iterable[str]) -> None:
  """Replaces the consolidated metadata by what the files now say, in one atomic step.

  zarr's own `consolidate_metadata` lists the directory, and takes a report or a
  lock file in it for damage.
  """
  files = [
    ".zgroup",
    ".zattrs",
    *(f"{name}/{part}" for name in sorted(names) for part in (".zarray", ".zattrs")),
  ]
  metadata = {file: json.loads((path / file).read_text()) for file in files}
  content = {"metadata": metadata, "zarr_consolidated_format": 1, _SEAL: seals.digest(metadata)}
  _replace(path / ".zmetadata", content)


def _replace(file: pathlib.Path, value: Any) -> None:
  """Writes JSON so that a reader finds the old file or the new one."""
  partial = file.with_name(file.name + ".partial")
  partial.write_text(json.dumps(value))
  os.replace(partial, file)


def _array(group, name, dims, shape, dtype, chunks) -> zarr.Array:
  # Zarr's fill value would make xarray read integers as floats with gaps; floats alone have one.
  fill = np.nan if np.dtype(dtype).kind == "f" else None
  return group.create_array(
    name,
    shape=shape,
    dtype=dtype,
    chunks=tuple(max(1, size) for size in chunks),
    fill_value=fill,
    compressors=_COMPRESSOR,
    attributes={"_ARRAY_DIMENSIONS": list(dims)},
    config={"write_empty_chunks": True},  # a chunk without a file is a lost one
  )


@contextlib.contextmanager
def _space(path: pathlib.Path) -> Iterator[None]:
  """Turns a full disk or a directory that cannot be written into the user's one line."""
  try:
    yield
  except OSError as error:
    remedy = "make it writable"
    if error.errno in _OUT_OF_SPACE:
      remedy = "free space"
    raise UserError(
      f"out={str(path)!r} could not be written ({error.strerror}): {remedy} and run the same"
      " command again; no finished run is lost"
    ) from error
