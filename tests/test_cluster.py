"""Executors of others: one seedlab in every worker, a core for each, and how many they are."""

import concurrent.futures
import os
import pathlib
import shutil
import subprocess
import sys
import types

import pytest

import seedlab
from seedlab import cluster, host, tasks
from seedlab.errors import UserError
from seedlab.pool import WorkerPool

HERE = pathlib.Path(__file__).parent
SPEC = {"function": "toy:make", "arguments": {}, "mode": "loop", "width": None}


def test_the_identity_names_version_source_and_python():
  found = host.identity()
  assert found["seedlab"] == seedlab.__version__ and len(found["source"]) == 64
  assert found["python"] == f"{sys.version_info[0]}.{sys.version_info[1]}"


def test_a_changed_comment_is_another_seedlab_and_gets_no_work(tmp_path):
  """The copy differs in a comment alone: what a comment stands beside may be what was changed."""
  copy = tmp_path / "seedlab"
  shutil.copytree(HERE.parent / "seedlab", copy, ignore=shutil.ignore_patterns("__pycache__"))
  with (copy / "engine.py").open("a") as file:
    file.write("# another\n")
  variables = {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(HERE)])}
  core = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
  marker = tmp_path / "marker"
  spec = {"identity": host.identity(), **SPEC, "arguments": {"marker": str(marker)}}
  with WorkerPool([core], [variables]) as pool:
    for task, arguments in (
      (tasks.check, []), (tasks.describe, []), (tasks.compute, [[[0] * 7]]),
    ):  # fmt: skip
      with pytest.raises(UserError, match=r"has another seedlab .*\(source: .* -> .*\).* install"):
        pool.submit(task, spec, *arguments).result()
  assert not marker.exists()  # nothing was built


@pytest.mark.parametrize(
  "asked, says",
  [
    ({}, "seedlab: None -> "),
    ({**host.identity(), "seedlab": "9"}, r"\(seedlab: 9 -> "),
    ({**host.identity(), "python": "2.7"}, r"\(python: 2.7 -> "),
  ],
)
def test_another_version_is_named(asked, says):
  with pytest.raises(UserError, match=says):
    tasks.check({"identity": asked, **SPEC})


def test_a_worker_that_ends_while_it_is_asked_is_not_called_another_one():
  def check(**answers):
    client = types.SimpleNamespace(
      nthreads=lambda: dict.fromkeys(answers, 1), run=lambda function, on_error: answers
    )
    cluster._check_workers(client, "dask:x", "tcp://x")

  check(alive=cluster.identity(), dead=OSError("connection closed"))
  with pytest.raises(UserError, match="worker old has no seedlab, or another one"):
    check(alive=cluster.identity(), old=ModuleNotFoundError("No module named 'seedlab'"))


def test_a_file_that_moves_or_changes_changes_the_identity(tmp_path, monkeypatch):
  (tmp_path / "configs").mkdir()
  monkeypatch.setattr(host, "__file__", str(tmp_path / "host.py"))

  def source():
    host.identity.cache_clear()
    return host.identity()["source"]

  try:
    seen = {source()}
    (tmp_path / "a.py").write_text("1")
    seen.add(source())
    (tmp_path / "configs" / "c.py").write_text("of an experiment")
    assert source() in seen
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    seen.add(source())
    (tmp_path / "b.py").write_text("2")
    seen.add(source())
    assert len(seen) == 4
  finally:
    monkeypatch.undo()
    host.identity.cache_clear()


def test_the_size_of_any_executor():
  with concurrent.futures.ThreadPoolExecutor(3) as threads:
    assert cluster.size(threads) == 3
  assert cluster.size(types.SimpleNamespace(size=5)) == 5  # seedlab's own
  assert cluster.size(types.SimpleNamespace(num_workers=7)) == 7  # mpi4py's
  assert cluster.size(types.SimpleNamespace(num_workers=0)) == 1  # not yet started
  assert cluster.size(types.SimpleNamespace()) == 1
  assert cluster.size(types.SimpleNamespace(size=lambda: 4)) == 1


def test_the_size_of_a_dask_executor_is_that_of_the_workers_it_may_use():
  from distributed.cfexecutor import ClientExecutor

  threads = {"tcp://a": 1, "tcp://b": 2, "tcp://c": 4}

  def nthreads(workers=None):
    return {name: count for name, count in threads.items() if workers is None or name in workers}

  client = types.SimpleNamespace(nthreads=nthreads)
  assert cluster.size(ClientExecutor(client)) == 7
  assert cluster.size(ClientExecutor(client, workers=["tcp://a", "tcp://c"])) == 5
  threads.clear()
  assert cluster.size(ClientExecutor(client)) == 1


def test_workers_that_others_started_take_a_core_each(all_cores, tmp_path):
  """Whatever their process numbers are; a core is free again when its worker has ended."""
  code = (
    "import os, sys; from seedlab import host; host.pin_if_needed();"
    " print(*os.sched_getaffinity(0), flush=True); sys.stdin.read()"
  )
  variables = {
    **os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(HERE.parent), "JAX_PLATFORMS": "cpu",
  }  # fmt: skip

  def start():
    return subprocess.Popen(
      [sys.executable, "-c", code],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
      env=variables,
    )

  processes = [start() for _ in all_cores]
  cores = [process.stdout.readline() for process in processes]
  assert sorted(map(int, cores)) == all_cores
  processes[0].communicate()
  processes.append(start())
  assert processes[-1].stdout.readline() == cores[0]
  for process in processes[1:]:
    process.communicate()
