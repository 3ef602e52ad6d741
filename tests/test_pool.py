"""Worker processes: pinned, replaceable, gone with their parent."""

import os
import random
import signal
import subprocess
import sys
import threading
import time

import cloudpickle
import jobs
import numpy as np
import pytest

from seedlab import orphans
from seedlab.errors import UserError
from seedlab.pool import Code, RunEnded, TaskError, WorkerDied, WorkerPool, pack, unpack

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
  with pytest.raises(UserError, match=r"not enough memory for 372,529.\d GiB at once: make"):
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


def test_a_task_that_always_kills_its_worker_is_given_up(pool, capfd):
  capfd.readouterr()
  with pytest.raises(WorkerDied, match=r"3 workers in a row.*SIGKILL.*memory"):
    pool.submit(jobs.die).result()
  assert capfd.readouterr().err == 2 * "seedlab: a worker ended (SIGKILL); its task runs again\n"
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


def test_a_task_that_is_ended_never_runs_again(tmp_path, capfd):
  with WorkerPool([CORES[0]]) as pool:
    before = time.monotonic()
    hung = pool.submit(jobs.speak_then_sleep, str(tmp_path))
    waiting = pool.submit(jobs.die)
    calm = pool.submit(jobs.double, 4, np.arange(2))
    assert waiting.started is None and waiting.heard is None
    while hung.heard is None and time.monotonic() - before < 20:
      time.sleep(0.01)
    assert hung.heard is not None
    assert before < hung.started < hung.heard < time.monotonic()
    worker = pool._slots[0].process.pid
    pool.end(waiting, "not needed")
    pool.end(hung, "run 7 took longer than 5 minutes")
    with pytest.raises(RunEnded, match=r"^run 7 took longer than 5 minutes$"):
      hung.result(timeout=10)
    with pytest.raises(RunEnded, match=r"^not needed$"):
      waiting.result(timeout=10)
    assert waiting.started is None
    assert calm.result(timeout=10)["number"] == 8
    pool.end(calm, "too late")
    assert calm.result()["number"] == 8
    assert pool.submit(jobs.double, 5, np.arange(2)).result()["number"] == 10
  assert [path.name for path in tmp_path.iterdir()] == [str(worker)]
  assert capfd.readouterr().err == ""  # it is no death that anybody has to hear of


def test_ending_at_any_moment_keeps_answers_with_their_tasks(capfd):
  """Also when the answer is just under way."""
  moments = random.Random(5)
  with WorkerPool([CORES[0]]) as pool:
    pool.submit(jobs.chatter).result()
    ended = 0
    for number in range(200):
      first, second = (pool.submit(jobs.double, n, np.arange(2)) for n in (number, -number))
      time.sleep(moments.uniform(0, 0.001))
      pool.end(first, "enough")
      try:
        assert first.result(timeout=10)["number"] == 2 * number
      except RunEnded:
        ended += 1
        if ended == 4:
          break
      assert second.result(timeout=10)["number"] == -2 * number
  assert ended == 4
  assert "its task runs again" not in capfd.readouterr().err


def test_without_a_new_process_the_task_fails_and_the_next_one_tries_again(monkeypatch):
  with WorkerPool([CORES[0]]) as pool, monkeypatch.context() as patch:
    patch.setattr(subprocess, "Popen", lambda *_, **__: os.open("/none", os.O_RDONLY))
    for _ in range(2):
      with pytest.raises(FileNotFoundError):
        pool.submit(jobs.die).result(timeout=10)
    patch.undo()
    assert pool.submit(jobs.double, 4, np.arange(2)).result(timeout=10)["number"] == 8


def test_cancelling_ends_at_once():
  started = time.monotonic()
  with pytest.raises(KeyboardInterrupt), WorkerPool([CORES[0]]) as pool:
    task = pool.submit(jobs.sleep, 60)
    while not task.running():
      time.sleep(0.05)
    raise KeyboardInterrupt
  assert time.monotonic() - started < 20
  assert task.done()


PARENT = """
import sys, time
import jobs
from seedlab import orphans
from seedlab.pool import WorkerPool

core, job, directory, kernel = sys.argv[1:]
orphans.KERNEL = kernel == "True"
pool = WorkerPool([int(core)])
task = pool.submit(getattr(jobs, job), directory)
print(pool._slots[0].process.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize(
  ("job", "stopped", "kernel"),
  [
    ("", False, True),
    ("compute_forever", False, True),
    ("compute_forever", True, True),
    ("speak_forever", False, True),
    ("hold_the_lock", False, True),
    ("start_again_and_hold_the_lock", False, True),
    # Where no kernel does it.
    ("", False, False),
    ("compute_forever", True, False),
    ("start_again_and_hold_the_lock", False, False),
  ],
)
def test_no_worker_outlives_a_killed_parent(tmp_path, job, stopped, kernel):
  """Starting, computing, answering, deaf to every Python thread, stopped by a signal."""
  parent = subprocess.Popen(
    [
      sys.executable, "-c", PARENT,
      str(CORES[0]), job or "compute_forever", str(tmp_path), str(kernel),
    ],
    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=os.path.dirname(__file__),
  )  # fmt: skip
  worker = int(parent.stdout.readline())
  while job and not (names := [path.name for path in tmp_path.iterdir() if path.name != "died"]):
    assert parent.poll() is None
    time.sleep(0.05)
  if job:
    worker = int(names[0])
    time.sleep(0.2)  # from the file to what the job then does
  assert jobs.alive(worker)
  if stopped:
    os.kill(worker, signal.SIGSTOP)
  parent.kill()
  deadline = time.monotonic() + 2
  while jobs.alive(worker) and time.monotonic() < deadline:
    time.sleep(0.02)
  orphan = jobs.alive(worker)
  if orphan:
    os.kill(worker, signal.SIGKILL)
  _, said = parent.communicate(timeout=30)
  assert not orphan
  assert "Traceback" not in said


def test_a_guard_stays_as_long_as_its_worker(monkeypatch, tmp_path):
  """No signal to the parent's group ends it, and a new worker has a new one."""
  monkeypatch.setattr(orphans, "KERNEL", False)
  with WorkerPool([CORES[0]]) as pool:
    pool.submit(jobs.chatter).result()
    (slot,) = pool._slots
    first = slot.guardian
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
      first.send_signal(number)
    assert os.getsid(first.pid) == first.pid
    pool.submit(jobs.die_once, str(tmp_path / "died")).result()
    assert first.returncode == -signal.SIGKILL and slot.guardian.poll() is None
    assert slot.process.pid in map(int, slot.guardian.args[-1:])
  assert slot.guardian.returncode == -signal.SIGKILL and slot.process.returncode == 0


def test_workers_outlive_the_thread_that_made_their_pool():
  """The kernel tells them of the end of the thread that started them, not of a process."""
  pools = []

  def make():
    pools.append(WorkerPool([CORES[0]]))
    pools[0].submit(jobs.chatter).result()

  maker = threading.Thread(target=make)
  maker.start()
  maker.join()
  with pools[0] as pool:
    worker = pool._slots[0].process
    pool.submit(jobs.sleep, 0.2).result()
    assert worker.poll() is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_stops_a_sweep_says_nothing_for_the_workers(number):
  """Ctrl-C reaches every process of a group at once, those that have just started too."""
  parent = subprocess.Popen(
    [
      sys.executable, "-c",
      "import signal\nfrom seedlab.pool import WorkerPool\n"
      f"signal.signal({int(number)}, lambda *_: None)\n"
      f"with WorkerPool([{CORES[0]}] * 3) as pool:\n"
      "  print(flush=True)\n  pool._slots[0].process.wait()\n",
    ],
    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
  )  # fmt: skip
  parent.stdout.readline()
  for _ in range(20):
    os.killpg(parent.pid, number)
    time.sleep(0.02)
  assert parent.poll() is None  # nor has it ended a worker
  parent.kill()
  assert parent.communicate(timeout=30) == ("", "")
