"""Worker processes: pinned, replaceable, gone with their parent."""

import os
import signal
import subprocess
import sys
import time

import cloudpickle
import jobs
import numpy as np
import pytest

from seedlab.errors import UserError
from seedlab.pool import Code, TaskError, WorkerDied, WorkerPool, pack, unpack

CORES = sorted(os.sched_getaffinity(0))


@pytest.fixture(scope="module")
def pool():
  with WorkerPool([CORES[0], CORES[0]]) as pool:
    yield pool


def test_pack_round_trip():
  value = {
    "a": np.arange(6, dtype=np.int16).reshape(2, 3),
    "empty": np.zeros((0, 4), np.float32),
    "digest": np.array([b"ab", b"c"], "S64"),
    "list": [1, None, "x", {"b": np.float32(0.5), "c": np.array(True)}],
  }
  back = unpack(pack(value))
  for name in ("a", "empty", "digest"):
    assert back[name].dtype == value[name].dtype and (back[name] == value[name]).all()
  assert back["list"][:3] == [1, None, "x"] and back["list"][3]["b"] == 0.5
  assert back["list"][3]["c"].shape == () and back["list"][3]["c"]


def test_pack_refuses_what_is_neither_json_nor_an_array():
  with pytest.raises(TypeError, match="object"):
    pack({"a": object()})


def test_results_come_back_in_order(pool):
  tasks = [pool.submit(jobs.double, number, np.arange(number)) for number in range(20)]
  for number, task in enumerate(tasks):
    assert task.result()["number"] == 2 * number
    assert (task.result()["array"] == 2 * np.arange(number)).all()


def test_workers_are_pinned_before_jax(all_cores):
  with WorkerPool(all_cores[:2]) as pool:
    tasks = [pool.submit(jobs.cores_and_threads) for _ in range(6)]
    seen = [task.result() for task in tasks]
  assert all(len(cores) == 1 and cores[0] in all_cores[:2] for cores, _ in seen)
  # XLA sized its pool of threads by the cores it saw when its backend started.
  assert {threads for _, threads in seen} == {1}


def test_too_little_memory_is_no_bug(pool):
  with pytest.raises(UserError, match=r"not enough memory for 372529.\d GiB at once: make"):
    pool.submit(jobs.run_out_of_memory).result()
  assert pool.submit(jobs.double, 4, np.arange(2)).result()["number"] == 8


def test_prints_of_a_task_do_not_disturb_the_answers(pool):
  assert pool.submit(jobs.chatter).result() == "done"


def test_errors_keep_their_kind(pool):
  with pytest.raises(UserError, match=r"^field=3 must be 4$"):
    pool.submit(jobs.refuse, 3).result()
  with pytest.raises(TaskError, match="ZeroDivisionError"):
    pool.submit(jobs.fail).result()
  assert pool.submit(jobs.chatter).result() == "done"


def test_a_killed_worker_costs_only_a_repetition(pool, tmp_path):
  marker = tmp_path / "died"
  calm = [pool.submit(jobs.double, number, np.arange(2)) for number in range(4)]
  assert pool.submit(jobs.die_once, str(marker)).result() == "second time"
  assert [task.result()["number"] for task in calm] == [0, 2, 4, 6]


def test_a_task_that_always_kills_its_worker_is_given_up(pool):
  with pytest.raises(WorkerDied, match=r"3 workers in a row.*SIGKILL.*memory"):
    pool.submit(jobs.die).result()
  assert pool.submit(jobs.chatter).result() == "done"


def test_progress_reaches_the_parent(pool):
  seen = []
  pool.on_progress = lambda task, value: seen.append((task, value))
  task = pool.submit(jobs.report_progress)
  assert task.result() == "done" and seen == [(task.task, 0.5), (task.task, 1.0)]
  pool.on_progress = lambda task, value: None


def test_code_travels_once_to_each_worker():
  factor = 3
  code = Code.of(lambda x: factor * x)
  with WorkerPool([CORES[0]] * 2) as pool:
    tasks = [pool.submit(jobs.call, code, number) for number in range(8)]
    seen = [task.result() for task in tasks]
    assert [value for value, *_ in seen] == [3 * number for number in range(8)]
    places = {tuple(place) for _, *place in seen}  # one object in each worker
    assert len(places) == len({pid for pid, _ in places}) == 2
    with pytest.raises(UserError, match=r"used by a worker of Python .*: use one version"):
      pool.submit(jobs.call, Code(code.payload, "2.7"), 1).result()
    with pytest.raises(UserError, match="a worker cannot use the function it was sent: Unpick"):
      pool.submit(jobs.call, Code(b"x"), 1).result()
    with pytest.raises(TypeError, match="object is neither JSON nor an array"):
      pool.submit(jobs.call, object()).result()
    assert pool.submit(jobs.chatter).result() == "done"


def test_a_worker_that_takes_the_place_of_another_is_sent_the_code_too(tmp_path):
  marker = str(tmp_path / "died")
  with WorkerPool([CORES[0]]) as pool:
    task = pool.submit(jobs.call, Code.of(lambda: jobs.die_once(marker)))
    assert task.result()[0] == "second time"


def test_code_is_the_same_wherever_it_was():
  """What somebody else's executor does, and what programs are kept by."""
  code = Code.of(lambda: 4)
  again = cloudpickle.loads(cloudpickle.dumps(code))
  assert again == code and hash(again) == hash(code) and again.load()() == 4


def test_cancelling_ends_at_once():
  started = time.monotonic()
  with pytest.raises(KeyboardInterrupt), WorkerPool([CORES[0]]) as pool:
    task = pool.submit(jobs.sleep, 60)
    while not task.running():
      time.sleep(0.05)
    raise KeyboardInterrupt
  assert time.monotonic() - started < 20
  assert task.done()


@pytest.mark.parametrize("busy", [False, True], ids=["starting", "computing"])
def test_no_worker_outlives_a_killed_parent(tmp_path, busy):
  code = (
    "import os, time\n"
    "from seedlab.pool import WorkerPool\n"
    "import jobs\n"
    f"pool = WorkerPool([{CORES[0]}, {CORES[0]}])\n"
    f"tasks = [pool.submit(jobs.compute_forever, {str(tmp_path)!r}) for _ in range(2)]\n"
    "print(*[slot.process.pid for slot in pool._slots], flush=True)\n"
    "time.sleep(600)\n"
  )
  parent = subprocess.Popen(
    [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=os.path.dirname(__file__)
  )
  workers = [int(word) for word in parent.stdout.readline().split()]
  assert len(workers) == 2
  while busy and len(list(tmp_path.iterdir())) < 2:
    time.sleep(0.1)
  parent.send_signal(signal.SIGKILL)
  parent.wait()
  parent.stdout.close()
  deadline = time.monotonic() + 2
  while any(map(jobs.alive, workers)) and time.monotonic() < deadline:
    time.sleep(0.05)
  assert not any(map(jobs.alive, workers))
