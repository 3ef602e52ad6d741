"""Ctrl-C and SIGTERM: what is under way is saved, and the same command goes on from there."""

import functools
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

import jobs
import numpy as np
import own
import pytest
import slow
import toy

import seedlab
from seedlab import checkpoints, cli, commands, engine
from seedlab.config import STREAMS
from seedlab.pool import WorkerPool

pytestmark = pytest.mark.own_workers  # what workers print is read
HERE = pathlib.Path(__file__).parent
CORES = sorted(os.sched_getaffinity(0))
STEPS = 20  # of the toy, evaluated after 6 and 20, cut at 6, 12 and 18


class Killed(BaseException):
  pass


def seeds_of(runs):
  return np.arange(runs, dtype=np.uint32)[:, None].repeat(len(STREAMS), axis=1)


@functools.cache
def case(kind):
  """(program, seeds of a group that is not full, what an uninterrupted training gives)."""
  trainer = own.regression()() if kind == "recipe" else toy.make(STEPS, explode_below=50)
  program = engine.build(trainer, "vmap", 4)
  return program, seeds_of(3), engine.train(program, seeds_of(3))


def assert_same(a, b) -> None:
  assert a.digest.tolist() == b.digest.tolist() and a.diverged.tolist() == b.diverged.tolist()
  for name, value in a.outcome.items():
    assert value.tobytes() == b.outcome[name].tobytes(), name


# The steps done when it can be asked for. That is after one step, which shows how long they take,
# after the rest of an epoch, and so on, and after each evaluation, of which the last is the end.
MOMENTS = [1, 6, 6, 12, 18, 20, 20]


@pytest.mark.parametrize(("kind", "moments"), [("toy", [0, 2, 6]), ("recipe", [1])])
def test_a_save_that_is_asked_for_comes_soon_and_leads_to_the_same_bits(
  kind, moments, tmp_path, capfd
):
  program, seeds, whole = case(kind)
  for number in moments:
    step = 7 if kind == "recipe" else MOMENTS[number]
    folder = tmp_path / str(number)
    folder.mkdir()
    questions, told = [], []

    def asked(questions=questions, number=number):
      questions.append(1)
      return len(questions) == number + 1

    def tell(runs, told=told):
      told.append(runs)
      raise Killed

    with pytest.raises(Killed):
      engine.train(program, seeds, saves=checkpoints.Saves(str(folder), 600, asked, tell))
    assert told == [len(seeds)] and len(list(folder.glob("*/000001"))) == 1
    capfd.readouterr()
    resumed = engine.train(program, seeds, saves=checkpoints.Saves(str(folder), 600))
    assert_same(resumed, whole)
    last = program.trainer.plan[-1]
    assert capfd.readouterr().err == f"seedlab: resumed at step {step} of {last}\n"


def test_one_that_cannot_be_written_is_no_run_saved(tmp_path, monkeypatch, capfd):
  monkeypatch.setattr(checkpoints, "_said", set())
  program, seeds, whole = case("toy")
  told = []
  saves = checkpoints.Saves(str(tmp_path / "missing"), 600, lambda: True, told.append)
  assert_same(engine.train(program, seeds, saves=saves), whole)
  assert told == [0] * len(MOMENTS) and "no checkpoint could be written" in capfd.readouterr().err


def test_the_statuses_are_documented():
  text = (HERE.parent / "docs/stopping.md").read_text()
  table = re.findall(r"^\| (\d+) \| (.+?) \|$", text, re.MULTILINE)
  assert {int(status): meaning for status, meaning in table} == cli.STATUSES
  shown = commands._help()
  for status, meaning in table:
    assert re.search(rf"^  {status} +{re.escape(meaning)}$", shown, re.MULTILINE)


# Between the pool and its workers.


def test_workers_are_asked_and_answer(tmp_path):
  """One saves and goes on; one does not answer in time; one has nothing to save yet."""
  with WorkerPool([CORES[0]] * 3) as pool:
    tasks = [pool.submit(jobs.save_when_asked, str(tmp_path), 3)]
    tasks.append(pool.submit(jobs.speak_then_sleep, str(tmp_path)))
    while any(task.heard is None for task in tasks):
      time.sleep(0.01)
    silent = pool.submit(jobs.sleep, 600)
    while not silent.running():
      time.sleep(0.01)
    started = time.monotonic()
    assert pool.save(2) == 3
    assert 2 <= time.monotonic() - started < 10
    assert [task.saved for task in (*tasks, silent)] == [3, None, None]
    pool.end(tasks[1], "enough")
    assert tasks[0].result(timeout=10) == "went on"
    started = time.monotonic()
    assert pool.save(20) == 0 and time.monotonic() - started < 10  # nobody has to be waited for
    pool.end(silent, "enough")
    assert pool.submit(jobs.terminate_a_fork).result(timeout=30) == -signal.SIGTERM


def test_a_second_interrupt_does_not_wait(tmp_path):
  with pytest.raises(KeyboardInterrupt), WorkerPool([CORES[0]]) as pool:
    task = pool.submit(jobs.speak_then_sleep, str(tmp_path))
    while task.heard is None:
      time.sleep(0.01)
    threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGINT]).start()
    started = time.monotonic()
    pool.save(60)
  assert time.monotonic() - started < 10 and task.done()


# The whole command.


def under_way(fed: pathlib.Path, after: int, size: int = 0) -> int:
  """Waits for ten segments beyond a step, noted after so many bytes; the worker's number."""
  while True:
    notes = fed.read_text()[size:].splitlines()[:-1] if fed.exists() else []
    if notes and int(notes[-1].split()[1]) >= after + 10 * toy.EPOCH:
      return int(notes[-1].split()[0])
    time.sleep(0.05)


def resumed_at(said: str) -> int:
  return int(re.search(r"resumed at step ([\d,]+) of 1,800\n", said)[1].replace(",", ""))


def test_a_sweep_that_is_stopped_goes_on_where_it_was(tmp_path, capfd):
  """By SIGTERM to all its processes at once, as batch systems do; by two Ctrl-C from Python."""
  (tmp_path / "slow").touch()
  fed, store = tmp_path / "fed", tmp_path / "s"
  process = subprocess.Popen(
    [
      sys.executable, "-m", "seedlab", "sweep", "--trainer=slow:make", "--runs=2", "--workers=1",
      f"--arguments={json.dumps({'folder': str(tmp_path)})}", "--lanes=vmap", "--width=4",
      f"--out={store}",
    ],
    stderr=subprocess.PIPE, text=True, cwd=HERE, start_new_session=True,
    env={**os.environ, "PYTHONPATH": str(HERE.parent)},
  )  # fmt: skip
  for line in process.stderr:
    if "lanes=" in line:  # the worker has described the experiment, for which it is fed as well
      break
  worker = under_way(fed, 0, fed.stat().st_size)
  os.killpg(process.pid, signal.SIGTERM)
  _, said = process.communicate(timeout=60)
  assert process.returncode == 143 and not jobs.alive(worker)
  assert said.splitlines() == [
    "seedlab: saving the runs under way, for 20 s at most; stop it again to end at once",
    f"seedlab: stopped with 0 finished runs in {store}, and 2 runs under way saved just now; the"
    " same command goes on",
    "seedlab sweep: terminated",
  ]
  last = int(fed.read_text().splitlines()[-1].split()[1])

  def interrupt():
    worker = under_way(fed, last)
    os.kill(worker, signal.SIGSTOP)  # so that it cannot answer
    os.kill(os.getpid(), signal.SIGINT)
    moments.append(time.monotonic())
    time.sleep(1)
    os.kill(os.getpid(), signal.SIGINT)

  moments, handler = [], signal.getsignal(signal.SIGTERM)
  fed.unlink()
  options = {"arguments": {"folder": str(tmp_path)}, "lanes": "vmap", "width": 4, "workers": 1}
  threading.Thread(target=interrupt).start()
  with pytest.raises(KeyboardInterrupt):
    seedlab.sweep(slow.make, 2, store, **options)
  assert 1 <= time.monotonic() - moments[0] < 15  # and not the twenty seconds of a first one
  said = capfd.readouterr().err
  step = resumed_at(said)
  assert last - 3 * toy.EPOCH <= step <= last  # one segment is under way, one is read for
  assert "and those under way as they were saved last" in said
  assert signal.getsignal(signal.SIGTERM) == handler

  (tmp_path / "slow").unlink()
  dataset = seedlab.sweep(slow.make, 2, store, **options)
  assert resumed_at(capfd.readouterr().err) == step
  whole = engine.train(engine.build(slow.make(str(tmp_path)), "vmap", 4), seeds_of(2))
  outcome = {name: dataset[name].values for name in whole.outcome}
  assert_same(whole, whole._replace(digest=dataset.digest.values, outcome=outcome))
  assert dataset.completed.values.all() and not checkpoints.folder(store).exists()
