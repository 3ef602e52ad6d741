"""A real Dask cluster of two worker processes: the bytes of the local pool, and every refusal."""

import functools
import json
import os
import pathlib
import subprocess
import sys
import time
import types

import jobs
import numpy as np
import pytest
from stores import assert_same_store

import seedlab
from seedlab import cluster, records, sweeps
from seedlab.errors import UserError
from seedlab.pool import Code, TaskError, WorkerDied, WorkerPool

HERE = pathlib.Path(__file__).parent
PATHS = {"PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)]), "TF_CPP_MIN_LOG_LEVEL": "2"}
CORE = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None

pytest.importorskip("distributed")


class Cluster:
  """A scheduler and workers without nannies, so that a lost one stays lost."""

  def __init__(self, folder: pathlib.Path):
    self.folder, self.file = folder, folder / "scheduler.json"
    self.processes: list[subprocess.Popen] = []
    self.scheduler = self._start("scheduler", "--host=127.0.0.1", "--port=0")

  def add_worker(self) -> None:
    self._start("worker", "--nthreads=1", "--no-nanny", f"--local-directory={self.folder}")

  def _start(self, kind, *words) -> subprocess.Popen:
    variables = {**os.environ, **PATHS, "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False"}
    command = [sys.executable, "-m", "dask", kind, *words, "--no-dashboard",
               f"--scheduler-file={self.file}"]  # fmt: skip
    with (self.folder / f"log{len(self.processes)}").open("w") as log:
      self.processes.append(subprocess.Popen(command, env=variables, stdout=log, stderr=log))
    return self.processes[-1]

  def end(self) -> None:
    for process in self.processes:
      process.kill()
      process.wait()


@pytest.fixture(scope="module")
def dask(tmp_path_factory):
  """A Cluster of two workers."""
  found = Cluster(tmp_path_factory.mktemp("dask"))
  try:
    for _ in range(2):
      found.add_worker()
    yield found
  finally:
    found.end()


@pytest.fixture(scope="module")
def executor(dask):
  with cluster.connect(f"dask:{dask.file}", patience=300) as executor:
    wait_until(lambda: executor.size == 2)
    yield executor


def wait_until(true) -> None:
  deadline = time.monotonic() + 300
  while not true() and time.monotonic() < deadline:
    time.sleep(0.02)
  assert true()


def test_the_command_trains_the_bytes_of_the_local_pool_though_a_worker_is_killed(
  dask, executor, tmp_path, monkeypatch
):
  """The killed one is in the middle of its first chunk, which the other one does again."""
  if executor.size < 2:  # where other tests came first
    dask.add_worker()
    wait_until(lambda: executor.size == 2)
  before = executor.size
  marker = tmp_path / "marker"
  arguments = {"steps": 9, "marker": str(marker)}
  command = [sys.executable, "-m", "seedlab", "sweep", "--trainer=toy:dying", "--runs=20",
             f"--arguments={json.dumps(arguments)}", "--lanes=vmap", "--width=2",
             f"--out={tmp_path / 'dask'}", f"--scheduler=dask:{dask.file}"]  # fmt: skip
  done = subprocess.run(command, env={**os.environ, **PATHS}, capture_output=True, text=True)
  assert done.returncode == 0 and f"{before} workers" in done.stderr and "20 seeds" in done.stdout
  assert "distributed" not in done.stderr
  pids = marker.read_text().split()
  assert len(set(pids)) >= 2 and not jobs.alive(int(pids[1])) and executor.size == before - 1
  assert records.damage(tmp_path / "dask") == []
  chunk = records.manifest(tmp_path / "dask")["chunk"]  # which follows from the speed measured
  monkeypatch.setattr(sweeps, "_chunk", lambda seconds, width: chunk)
  marker.unlink()
  with WorkerPool([CORE]) as pool:
    seedlab.sweep("toy:dying", 20, tmp_path / "local", arguments=arguments, lanes="vmap", width=2,
                  executor=pool, quiet=True)  # fmt: skip
  assert_same_store(tmp_path / "local", tmp_path / "dask")


def test_answers_are_those_of_a_worker_of_ours(executor):
  """Arrays, code by value sent once to each worker, both kinds of error, progress."""
  sent = np.arange(3)
  found = executor.submit(jobs.double, 2, sent).result()
  assert found["number"] == 4 and (found["array"] == 2 * sent).all()
  offset = 7
  code = Code.of(lambda value: value + offset)
  answers = [executor.submit(jobs.call, code, value).result() for value in range(6)]
  assert [value for value, _, _ in answers] == list(range(7, 13))
  kept = {}
  for _, process, where in answers:
    assert kept.setdefault(process, where) == where
  with pytest.raises(UserError, match=r"^field=3 must be 4$"):
    executor.submit(jobs.refuse, 3).result()
  with pytest.raises(TaskError, match=r"in fail\n.*\n.*\nZeroDivisionError"):
    executor.submit(jobs.fail).result()


def test_progress_and_what_is_heard_of_a_task(executor, monkeypatch):
  heard = []
  monkeypatch.setattr(executor, "on_progress", lambda task, value: heard.append((task, value)))
  began = time.monotonic()
  task = executor.submit(jobs.report_slowly)
  assert task.result() == "done"
  wait_until(lambda: heard)
  assert heard == [(task.task, 2.0)]  # the first one came too soon to be worth a message
  assert began < task.started < task.heard


def test_what_waits_is_cancelled_and_what_is_under_way_is_not(executor):
  running = [executor.submit(jobs.sleep, 0.3) for _ in range(4)]
  wait_until(lambda: running[0].running())
  assert not running[0].cancel() and running[2].cancel() and running[3].cancel()
  assert running[0].result() is None
  wait_until(lambda: not executor.client.futures)  # so no worker keeps what nobody asks for


def test_what_is_under_way_saves_when_it_is_asked_and_ends_with_its_client(dask, executor):
  def states(dask_worker):
    return [task.state for task in dask_worker.state.tasks.values()]

  with cluster.connect(f"dask:{dask.file}") as another:
    task = another.submit(jobs.save_again_and_again)
    wait_until(lambda: task.running())
    assert another.save(60) == 7
    assert task.running()
  wait_until(lambda: not any(executor.client.run(states).values()))


def another(field, value):
  """What `identity` answers in a worker once this has been run there; None restores it."""

  def patch(field=field, value=value):
    from seedlab import cluster

    own = getattr(cluster.identity, "own", cluster.identity)
    cluster.identity = own
    if field:

      def identity():
        return {**own(), field: value}

      identity.own = own
      identity.__module__, identity.__qualname__ = own.__module__, own.__qualname__
      cluster.identity = identity

  return patch


@pytest.mark.parametrize(
  "field, value, says",
  [
    ("source", "f00d" * 16, r"source f00df00df00d\.\.\. there and [0-9a-f]{12}\.\.\. here"),
    ("jax", "0.0.1", r"jax 0\.0\.1 there and [0-9.]+ here"),
    ("python", "2.7", r"python 2\.7 there and 3\.[0-9]+ here"),
  ],
)
def test_another_worker_is_refused_before_it_works(
  dask, executor, tmp_path, field, value, says
):
  """By its address, when the cluster is looked at and when it has joined later."""
  place = min(executor.client.nthreads())
  executor.client.run(another(field, value), workers=[place])
  marker = tmp_path / "marker"
  try:
    with (
      pytest.raises(UserError, match=rf"worker {place} is refused.*{says}\. Nothing was trained"),
      cluster.connect(f"dask:{dask.file}"),
    ):
      pass
    executor.client.run(another(field, value))  # all of them: any one may be given the work
    with pytest.raises(UserError, match=rf"worker tcp://\S+ is refused.*{says}"):
      seedlab.sweep("toy:make", 4, tmp_path / "s", arguments={"marker": str(marker)},
                    executor=executor, quiet=True)  # fmt: skip
    assert not marker.exists() and not records.exists(tmp_path / "s")
  finally:
    executor.client.run(another(None, None))


def test_a_worker_of_several_threads_is_refused(dask, executor):
  place = min(executor.client.nthreads())

  def widen(threads, dask_scheduler):
    dask_scheduler.workers[place].nthreads = threads

  executor.client.run_on_scheduler(functools.partial(widen, 2))
  try:
    with (
      pytest.raises(UserError, match=rf"worker {place} runs 2 tasks at once.* --nthreads 1"),
      cluster.connect(f"dask:{dask.file}"),
    ):
      pass
  finally:
    executor.client.run_on_scheduler(functools.partial(widen, 1))


def test_a_worker_of_several_threads_that_joins_later_is_refused(executor):
  def widen(threads, dask_worker):
    dask_worker.state.nthreads = threads

  executor.client.run(functools.partial(widen, 2))
  try:
    with pytest.raises(UserError, match=r"worker tcp://\S+ runs 2 tasks at once"):
      executor.submit(jobs.double, 1, np.ones(1)).result()
  finally:
    executor.client.run(functools.partial(widen, 1))


def test_a_worker_without_seedlab_is_refused(executor):
  client = types.SimpleNamespace(
    nthreads=lambda: {"tcp://a:1": 1, "tcp://b:1": 1},
    run=lambda function, on_error: {
      "tcp://a:1": ModuleNotFoundError("No module named 'seedlab'"),
      "tcp://b:1": AttributeError("no identity"),
    },
  )
  says = (
    r"worker tcp://a:1 has no seedlab, or another one \(ModuleNotFoundError: No module named"
    r" 'seedlab'\); and 1 more worker like it\. Nothing was trained"
  )
  with pytest.raises(UserError, match=says):
    cluster._check_workers(client, "dask:x", "x")


def test_a_scheduler_that_is_not_there_is_one_line(tmp_path, monkeypatch):
  monkeypatch.setattr(cluster, "_CONNECT_SECONDS", 0.3)
  (tmp_path / "old.json").write_text(json.dumps({"address": "tcp://127.0.0.1:9"}))
  (tmp_path / "other.json").write_text("[]")
  for text, says in (
    ("dask:tcp://127.0.0.1:9", "no Dask scheduler answers at tcp://127.0.0.1:9 within"),
    ("dask:127.0.0.1:9", "no Dask scheduler answers at 127.0.0.1:9 within"),
    ("dask:abc://x:1", r"no Dask scheduler answers at abc://x:1 .*ValueError"),
    (f"dask:{tmp_path}/old.json", "no Dask scheduler answers at tcp://127.0.0.1:9"),
    (f"dask:{tmp_path}/other.json", "is not a file that Dask's scheduler wrote"),
    (f"dask:{tmp_path}/none.json", "none.json': no such file.* name that of `dask scheduler"),
    (f"dask:{tmp_path}/none/s.json", "nor is there a folder"),
    (f"dask:{tmp_path}", "is not a file that Dask's scheduler wrote"),
    ("dask:", "must be dask:ADDRESS, as in .*, or dask:FILE"),
    ("tcp://127.0.0.1:9", "must be dask:ADDRESS"),
  ):
    with (
      pytest.raises(UserError, match=f"^scheduler='{text}'.*{says}"),
      cluster.connect(text, patience=0.3),
    ):
      pass


def test_no_workers_and_no_distributed_are_one_line(monkeypatch):
  client = types.SimpleNamespace(nthreads=dict)
  with pytest.raises(UserError, match=r"no workers after 0 seconds: .*`dask worker x --nthreads 1"):
    cluster._wait_for_workers(client, "dask:x", "x", 0)
  monkeypatch.setitem(sys.modules, "distributed", None)
  with (
    pytest.raises(UserError, match=r"needs the package distributed: pip install 'seedlab\[clus"),
    cluster.connect("dask:x:1"),
  ):
    pass


def test_a_task_that_ends_every_worker_is_given_up_and_those_beside_it_are_not(
  dask, executor
):
  before = executor.size
  for _ in range(2):
    dask.add_worker()
  wait_until(lambda: executor.size == before + 2)

  def allow(failures, dask_scheduler):
    dask_scheduler.allowed_failures = failures

  executor.client.run_on_scheduler(functools.partial(allow, 0))
  try:
    beside = [executor.submit(jobs.sleep, 0.2) for _ in range(2)]
    bad = executor.submit(jobs.die)
    beside += [executor.submit(jobs.sleep, 0.2) for _ in range(4)]
    with pytest.raises(WorkerDied, match=r"ended 1 worker in a row, and as many when .* tcp://"):
      bad.result(timeout=300)
    assert [task.result(timeout=300) for task in beside] == [None] * 6
  finally:
    executor.client.run_on_scheduler(functools.partial(allow, 3))


def test_a_scheduler_that_goes_is_one_line(tmp_path):
  """One of its own, since it does not come back; no worker is needed to wait for one."""
  from distributed import Client

  other = Cluster(tmp_path)
  wait_until(other.file.exists)
  with Client(scheduler_file=other.file, timeout=60, set_as_default=False) as client:
    executor = cluster.DaskExecutor(client, "dask:x")
    waiting = executor.submit(jobs.sleep, 60)
    wait_until(lambda: client.futures)
    other.end()
    lose(executor, waiting)


def lose(executor, waiting):
  with pytest.raises(UserError, match="connection to the Dask scheduler was lost; what was fin"):
    waiting.result(timeout=120)
  with pytest.raises(UserError, match="connection to the Dask scheduler was lost"):
    executor.submit(jobs.sleep, 0).result(timeout=120)
  with pytest.raises(UserError, match="connection to the Dask scheduler was lost"):
    cluster.size(executor)
