"""A store that is damaged is noticed by array and run, and the sweep's command repairs it."""

import os
import pathlib
import random
import shutil

import numpy as np
import pytest
import zarr

import seedlab
from seedlab import integrity, records, seals
from seedlab.errors import Damaged, UserError

OPTIONS = {"lanes": "loop", "workers": 1, "quiet": True}
TIMES = ["seconds", "checksum"]  # which differ from one training to the next


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> pathlib.Path:
  out = tmp_path_factory.mktemp("whole") / "s"
  seedlab.sweep("toy:make", 6, out, **OPTIONS)
  return out


@pytest.fixture
def store(whole, tmp_path) -> pathlib.Path:
  return pathlib.Path(shutil.copytree(whole, tmp_path / "s"))


def arrays_of(store: pathlib.Path) -> list[str]:
  return sorted(path.name for path in store.iterdir() if (path / ".zarray").exists())


def chunk_of(store: pathlib.Path, name: str) -> pathlib.Path:
  (first,) = (path for path in (store / name).iterdir() if not path.name.startswith("."))
  return first


def spoil(store: pathlib.Path, name: str, row: int) -> None:
  """Another value in place of one, as a text editor for arrays would write it."""
  group = zarr.open_group(os.fspath(store), mode="r+", zarr_format=2, use_consolidated=False)
  values = group[name][:]
  values[row] = b"x" if values.dtype.kind == "S" else ~values[row] if values.dtype == bool else 77
  group[name][:] = values


def found_in(store: pathlib.Path) -> dict[str, list[int] | None]:
  return {one.array: one.runs for one in records.damage(store)}


def test_every_array_changed_is_named(store, whole):
  attributes = records.manifest(store)
  assert set(arrays_of(store)) == {*attributes["by_run"], *attributes["coordinates_sha256"]}
  for name in arrays_of(store):
    shutil.rmtree(store)
    shutil.copytree(whole, store)
    spoil(store, name, 1)
    along = name in attributes["by_run"] and name != "run" and not name.startswith("seed_")
    if name == "completed":  # the run counts as one that is not there
      assert not found_in(store) and not seedlab.open(store).completed.values[1]
      continue
    assert found_in(store) == {name: [1] if along else None}
    with pytest.raises(Damaged, match=f"{name}.*run the sweep's command again"):
      seedlab.open(store, verify=True)


def test_a_number_changed_with_its_checksum_is_still_noticed(store):
  """Whoever forges the sixteen bits has not forged the digest."""
  spoil(store, "diverged", 2)
  group = zarr.open_group(os.fspath(store), mode="r+", zarr_format=2, use_consolidated=False)
  names = records.manifest(store)["arrays"]
  group["checksum"][:] = seals.checksums([group[name][:] for name in names])
  assert found_in(store) == {"run_digest": [2]}


def test_every_array_deleted_is_named(store, whole):
  for name in arrays_of(store):
    file = chunk_of(store, name)
    kept = file.read_bytes()
    file.unlink()
    if name == "completed":
      assert not seedlab.open(store).completed.values.any()
    else:
      assert name in found_in(store), name
    file.write_bytes(kept)
  assert not found_in(store)


def test_results_whose_manifest_is_lost_are_not_taken_for_the_beginning_of_a_store(store):
  (store / ".zmetadata").unlink()
  before = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}
  with pytest.raises(UserError, match=r"\.zmetadata is lost"):
    seedlab.sweep("toy:make", 6, store, **OPTIONS)
  after = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}
  assert after == before


def test_the_command_repairs_all_of_it(store, whole):
  for name in ("run", "seed_order", "evaluation", "failed", "fingerprint"):
    chunk_of(store, name).unlink()
  (store / "seconds" / ".zarray").write_text("{")
  (store / ".zattrs").write_text("")
  with pytest.raises(Damaged, match=r"\.zattrs"):
    seedlab.open(store, verify=True)
  shutil.copytree(store, store.parent / "copy")
  said = {one.array for one in records.Writer(store.parent / "copy").damage}
  assert said >= {".zattrs", "seconds/.zarray", "run", "failed"}
  repaired = seedlab.sweep("toy:make", 6, store, **OPTIONS)
  assert not records.damage(store)
  assert repaired.drop_vars(TIMES).equals(seedlab.open(whole).drop_vars(TIMES))


def test_one_changed_number_costs_one_run(store, whole):
  before = seedlab.open(whole)
  name = before.attrs["metrics"][0]
  spoil(store, name, 4)
  seconds = before.seconds.values.copy()
  repaired = seedlab.sweep("toy:make", 6, store, **OPTIONS)
  assert repaired.drop_vars(TIMES).equals(before.drop_vars(TIMES))
  assert np.flatnonzero(repaired.seconds.values != seconds).tolist() == [4]


def test_no_flipped_bit_changes_a_number_unnoticed(store, whole):
  truth = seedlab.open(whole).load()
  files = sorted(path for path in whole.rglob("*") if path.is_file() and path.name != ".lock")
  draw, noticed = random.Random(16), 0
  for _ in range(300):
    file = draw.choice(files)
    target = store / file.relative_to(whole)
    content = bytearray(file.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    target.write_bytes(content)
    try:
      read = seedlab.open(store, verify=True).load()
    except UserError:
      noticed += 1
    else:
      there = read.completed.values  # a flag that fell says that the run is not there
      same = read.isel(run=there).drop_vars("completed")
      assert same.identical(truth.isel(run=there).drop_vars("completed")), file
    target.write_bytes(file.read_bytes())
  assert noticed > 200


def test_what_is_a_coordinate_is_said_by_the_sealed_manifest(store, whole):
  text = (store / ".zattrs").read_text()
  (store / ".zattrs").write_text(text.replace("seed_init seed_sample", "seed_inht seed_sample"))
  assert (store / ".zattrs").read_text() != text
  assert seedlab.open(store, verify=True).identical(seedlab.open(whole))


def test_a_file_that_cannot_be_read_is_not_taken_for_damage(store, monkeypatch):
  def refuse(*_):
    raise PermissionError(13, "Permission denied")

  monkeypatch.setattr(zarr.Array, "__getitem__", refuse)
  group = integrity.committed(store)
  with pytest.raises(PermissionError):
    integrity.values_of(group, "run")


def test_the_digest_of_a_run_is_what_its_definition_says():
  """By hand: canonical JSON of number, seeds and fingerprint, then each array by name."""
  import hashlib

  runs, seeds = np.array([7]), {"order": np.array([3], np.uint32)}
  columns = {"b": np.array([[1, 2]], "<i4"), "a": np.array([0.5], "<f4"), "seconds": np.ones(1)}
  text = b'{"fingerprint":"f","run":7,"seeds":{"order":3}}'
  text += b"a <f4 []\n" + b"\x00\x00\x00\x3f" + b"b <i4 [2]\n" + b"\x01\0\0\0\x02\0\0\0"
  (found,) = seals.run_digests(runs, seeds, columns, ["f"])
  assert found == hashlib.sha256(text).hexdigest().encode()


@pytest.mark.parametrize("runs", [[], [5], [0, 1, 2], [0, 1, 5, 6, 4], [3, 2, 1]])
def test_ranges_hold_the_runs_in_their_order(runs):
  assert seals.from_ranges(seals.as_ranges(runs)).tolist() == runs
  assert seals.as_ranges([0, 1, 5, 6, 4]) == [[0, 2], [5, 7], [4, 5]]
