"""The store: plain to open, written by one process, whole after a stop at any point."""

import json
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pytest
import xarray
import zarr

from seedlab import records
from seedlab.config import STREAMS
from seedlab.errors import UserError

PLAN, EXAMPLES, CHUNK = [5, 10], 7, 4
OUTCOME = {
  "test_accuracy": (("evaluation",), (len(PLAN),), "f4"),
  "predicted_label": (("example",), (EXAMPLES,), "u1"),
}


def seeds_of(runs) -> np.ndarray:
  return np.array(runs, np.uint32)[:, None].repeat(len(STREAMS), axis=1)


def columns_of(runs) -> dict[str, np.ndarray]:
  runs = np.asarray(runs)
  return {
    "test_accuracy": np.stack([runs / 100, runs / 50], axis=1).astype(np.float32),
    "predicted_label": (runs[:, None] + np.arange(EXAMPLES)).astype(np.uint8),
    "digest": np.array([f"{run:064x}" for run in runs], "S64"),
    "diverged": np.where(runs == 3, 8, -1),
    "seconds": np.ones(len(runs), np.float32),
    "fingerprint": np.zeros(len(runs), np.int32),
  }


def create(path, runs=range(10)) -> records.Writer:
  path.mkdir(exist_ok=True)
  records.create(
    path,
    runs=runs,
    seeds=seeds_of(runs),
    plan=PLAN,
    outcome=OUTCOME,
    coords={"label": ("example", np.arange(EXAMPLES, dtype=np.int32))},
    chunk=CHUNK,
    attributes={
      "seedlab_version": "0", "config": None, "trainer": {"a": {"b": 1}}, "metrics": [],
      "fingerprints": [{"jax": "x"}],
    },
  )
  return records.Writer(path)


def write(writer: records.Writer, rows) -> None:
  writer.write(np.asarray(rows), columns_of(writer.runs[rows]))


def assert_rows(path, total, completed) -> None:
  dataset = records.open(path)
  assert dataset.sizes["run"] == total
  assert np.flatnonzero(dataset.completed.values).tolist() == list(completed)
  rows = list(completed)
  for name, values in columns_of(dataset.run.values[rows]).items():
    assert (dataset[name].values[rows] == values).all(), name
  for stream in STREAMS:
    assert (dataset[f"seed_{stream}"].values == dataset.run.values).all()


def test_plain_xarray_opens_it_without_a_warning(tmp_path):
  writer = create(tmp_path / "s")
  write(writer, [0, 1, 2, 3])
  (tmp_path / "s" / "report.html").write_text("files beside the arrays do no harm")
  writer.set_attributes(note="n")
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    dataset = xarray.open_zarr(str(tmp_path / "s"))
  assert dataset.predicted_label.dtype == np.uint8 and dataset.diverged.dtype == np.int64
  assert dataset.completed.dtype == bool and dataset.seed_init.dtype == np.uint32
  assert dataset.digest.values[2] == f"{2:064x}".encode()
  assert set(dataset.coords) == {"run", "evaluation", "label", *(f"seed_{s}" for s in STREAMS)}
  assert dataset.evaluation.values.tolist() == PLAN and dataset.attrs["note"] == "n"
  assert dataset.attrs["trainer"] == {"a": {"b": 1}}
  assert np.isnan(dataset.test_accuracy.values[4:]).all()
  assert (dataset.sel(run=3).diverged == 8).all()


def test_a_metric_has_no_value_where_a_run_diverged_at_whatever_step(tmp_path):
  writer = create(tmp_path / "s")
  columns = columns_of(writer.runs[:4]) | {"diverged": np.array([-1, 0, -1, 8])}
  writer.write(np.arange(4), columns)
  np.testing.assert_allclose(writer.metric("test_accuracy")[:4], [0, np.nan, 2 / 50, np.nan])


def test_chunks_along_run_are_the_chunk_of_work(tmp_path):
  create(tmp_path / "s")
  group = zarr.open_group(str(tmp_path / "s"), mode="r", zarr_format=2)
  for name in OUTCOME:
    assert group[name].chunks[0] == CHUNK


def test_parts_of_a_chunk_and_extension(tmp_path):
  writer = create(tmp_path / "s")
  write(writer, [8, 9])
  write(writer, [4, 6])
  assert_rows(tmp_path / "s", 10, [4, 6, 8, 9])
  writer.extend([10, 20, 21], seeds_of([10, 20, 21]))
  assert_rows(tmp_path / "s", 13, [4, 6, 8, 9])
  write(writer, [10, 11])
  again = records.Writer(tmp_path / "s")
  write(again, [5, 7])
  write(again, [12])
  assert_rows(tmp_path / "s", 13, range(4, 13))


class Killed(BaseException):
  pass


def stop_after(monkeypatch, calls: int) -> None:
  """Lets zarr write `calls` more times, then stops as a kill would."""
  from zarr.storage import _local

  original, left = _local._put, [calls]
  alone = threading.Lock()  # zarr writes from several threads, and a kill stops them all

  def put(*arguments, **keywords):
    with alone:
      if left[0] == 0:
        raise Killed
      left[0] -= 1
      return original(*arguments, **keywords)

  monkeypatch.setattr(_local, "_put", put)


@pytest.mark.parametrize("stride", [7, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("step", ["extend", "write", "create"])
def test_a_stop_between_any_two_writes_leaves_a_readable_store(tmp_path, monkeypatch, step, stride):
  """Numbers of writes from none to all, then the work is done again: nothing is lost."""
  writer = create(tmp_path / "template")
  write(writer, [0, 1, 2, 3])
  write(writer, [8, 9])
  for calls in range(0, 400, stride):
    path = tmp_path / str(calls)
    if step != "create":
      shutil.copytree(tmp_path / "template", path)
    with monkeypatch.context() as patch:
      stop_after(patch, calls)
      try:
        if step == "extend":
          records.Writer(path).extend(range(10, 17), seeds_of(range(10, 17)))
        elif step == "write":
          write(records.Writer(path), [4, 5, 6, 7])
        else:
          create(path)
        finished = True
      except Killed:
        time.sleep(0.05)  # writes that zarr had scheduled still meet the patch
        finished = False
    if step == "create":
      if not records.exists(path):
        create(path)
      assert_rows(path, 10, [])
    else:
      done = [0, 1, 2, 3, *(range(4, 8) if step == "write" and finished else ()), 8, 9]
      dataset = records.open(path)
      total = dataset.sizes["run"]
      assert total in (10, 17)
      if not (step == "write" and not finished):  # the flag may have landed in the last moment
        assert_rows(path, total, done)
      writer = records.Writer(path)
      writer.set_attributes(resumed=True)
      assert records.open(path).sizes["run"] == total
      missing = [run for run in range(17) if run not in writer.runs]
      writer.extend(missing, seeds_of(missing))
      for chunk in range(5):
        rows = np.flatnonzero(~writer.completed & (np.arange(17) // CHUNK == chunk))
        if len(rows):
          write(writer, rows)
      assert_rows(path, 17, range(17))
    if finished:
      break
  else:
    pytest.fail("never finished")
  assert calls > 5  # the stop did come between writes


@pytest.mark.parametrize(
  ("damage", "message"),
  [
    (lambda path: (path / ".zmetadata").write_text('{"metadata": {'), "damaged"),
    (lambda path: (path / ".zmetadata").unlink(), "no seedlab store"),
    (lambda path: _edit(path, lambda attrs: attrs.pop("seedlab_store")), "not one of seedlab's"),
    (lambda path: _edit(path, lambda attrs: attrs.update(chunk=8)), "not as it was written"),
    (lambda path: _edit(path, lambda attrs: attrs.update(seedlab_store=99)), "version 99"),
    (lambda path: _edit(path, lambda attrs: attrs.update(layout=99)), "layout 99"),
  ],
)
def test_a_damaged_or_foreign_store_is_named(tmp_path, damage, message):
  path = tmp_path / "s"
  create(path)
  damage(path)
  if message == "no seedlab store":
    (path / ".zattrs").unlink()
  before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
  with pytest.raises(UserError, match=message):
    records.exists(path)
    records.Writer(path)
  assert before == {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}


def _edit(path, change) -> None:
  values = json.loads((path / ".zmetadata").read_text())
  change(values["metadata"][".zattrs"])
  (path / ".zmetadata").write_text(json.dumps(values))


def test_other_files_are_never_overwritten(tmp_path):
  (tmp_path / "notes.txt").write_text("mine")
  with pytest.raises(UserError, match="no seedlab store"):
    records.exists(tmp_path)
  with pytest.raises(UserError, match="is a file"):
    records.exists(tmp_path / "notes.txt")


def test_one_writer_at_a_time(tmp_path):
  with records.lock(tmp_path / "s"):
    code = f"from seedlab import records\nwith records.lock({str(tmp_path / 's')!r}): pass"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
  assert done.returncode and "being written by another process" in done.stderr
  with records.lock(tmp_path / "s"):
    pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_cannot_be_written(tmp_path):
  tmp_path.chmod(0o500)
  with pytest.raises(UserError, match="cannot be written"), records.lock(tmp_path / "s"):
    pass


def test_a_full_disk_loses_nothing(tmp_path):
  """Stands in for a full disk: a limit on the size of any file this process writes."""
  path = tmp_path / "s"
  writer = create(path)
  write(writer, [0, 1, 2, 3])
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
  try:
    with pytest.raises(UserError, match="free space and run the same command again"):
      write(writer, [4, 5, 6, 7])
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
  assert_rows(path, 10, [0, 1, 2, 3])
  write(records.Writer(path), [4, 5, 6, 7])
  assert_rows(path, 10, range(8))


def test_params_are_written_whole(tmp_path):
  from safetensors.numpy import load_file

  params = {"a/kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}
  records.save_params(tmp_path / "p.safetensors", params)
  assert (load_file(tmp_path / "p.safetensors")["a/kernel"] == params["a/kernel"]).all()
  assert os.listdir(tmp_path) == ["p.safetensors"]
  with pytest.raises(UserError, match="safetensors"):
    records.save_params(tmp_path / "p.npz", params)
