"""Runs under way survive a kill: same bits, damaged and foreign checkpoints, nothing left."""

import dataclasses
import functools
import math
import os
import pathlib
import random
import signal
import subprocess
import sys
import time
import types
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

import seedlab
from seedlab import checkpoints, engine, programs, records
from seedlab.config import STREAMS
from seedlab.errors import UserError
from seedlab.trainer import Metric, Trainer

pytestmark = pytest.mark.own_workers  # what workers print is read
HERE = pathlib.Path(__file__).parent
STEPS = 20  # evaluated after 6 and 20
ALWAYS = 1e-9  # seconds: at every boundary, and every step is one


class Killed(BaseException):
  pass


@pytest.fixture(scope="module", params=programs.MODES)
def case(request):
  """(program, seeds of a group that is not full, what an uninterrupted training gives)."""
  program = build(request.param)
  seeds = seeds_of(3)[: program.width]
  return program, seeds, engine.train(program, seeds)


@pytest.fixture
def folder(tmp_path):
  place = checkpoints.folder(tmp_path)
  place.mkdir()
  return place


def seeds_of(runs):
  return np.arange(runs, dtype=np.uint32)[:, None].repeat(len(STREAMS), axis=1)


@functools.cache
def build(mode, **arguments):
  trainer = toy.make(**{"steps": STEPS, "explode_below": 50, **arguments})
  return engine.build(trainer, mode, 4 if mode == "vmap" else None)


def train(case, folder, seconds=ALWAYS, **options):
  program, seeds, _ = case
  return engine.train(program, seeds, saves=checkpoints.Saves(str(folder), seconds), **options)


def killed_after(case, folder, saves: int) -> None:
  """Trains until that many checkpoints are written."""
  original, left = checkpoints.save, [saves]

  def save(*arguments):
    assert original(*arguments)
    left[0] -= 1
    if not left[0]:
      raise Killed

  with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
    patch.setattr(checkpoints, "save", save)
    train(case, folder)


def assert_same(a, b) -> None:
  assert a.digest.tolist() == b.digest.tolist() and a.diverged.tolist() == b.diverged.tolist()
  for name, value in a.outcome.items():
    assert value.tobytes() == b.outcome[name].tobytes(), name


def states(folder) -> list[str]:
  return sorted(f"{place.name}" for place in folder.glob("*/*"))


@pytest.mark.parametrize("saves", [1, 6, 7, STEPS - 1])  # before, at and after an evaluation
def test_any_checkpoint_leads_to_the_same_bits(case, folder, capfd, saves):
  """Step 7 diverges, so both what was evaluated and what diverged before must come back."""
  killed_after(case, folder, saves)
  assert states(folder) == [f"{number:06}" for number in range(max(1, saves - 1), saves + 1)]
  reports = []
  resumed = train(case, folder, seconds=600, report=reports.append)
  assert_same(resumed, case[2])
  assert f"resumed at step {saves} of {STEPS}\n" in capfd.readouterr().err
  assert reports[0] == pytest.approx(len(case[1]) * saves / STEPS)
  assert [folder / name for name in resumed.saved] == list(folder.iterdir())


def truncate(file):
  os.truncate(file, file.stat().st_size // 2)


def flip(file):
  data = bytearray(file.read_bytes())
  data[len(data) // 2] ^= 1
  file.write_bytes(data)


@pytest.mark.parametrize("damage", [truncate, flip, pathlib.Path.unlink])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(case, folder, capfd, damage):
  killed_after(case, folder, 9)
  newest = next(folder.glob("*/000009"))
  largest = max((file for file in newest.rglob("*") if file.is_file()), key=os.path.getsize)
  damage(largest)
  assert_same(train(case, folder, seconds=600), case[2])
  said = capfd.readouterr().err
  assert "1 damaged checkpoint in" in said and "resumed at step 8" in said
  assert states(folder) == ["000008"]


def test_without_a_whole_checkpoint_the_training_starts_again(case, folder, capfd):
  killed_after(case, folder, 9)
  (hashes, data) = (
    next(folder.glob("*/000009/hashes.json")),
    next(folder.glob("*/000008/_METADATA")),
  )
  truncate(hashes)
  truncate(data)
  assert_same(train(case, folder, seconds=600), case[2])
  said = capfd.readouterr().err.splitlines()
  assert len(said) == 1 and said[0].startswith("seedlab: 2 damaged checkpoints in")
  assert "starts again" in said[0]


def test_a_state_that_is_not_whole_yet_is_none(case, folder, capfd):
  """A kill between orbax's last file and the hashes, or before the name."""
  killed_after(case, folder, 4)
  newest = next(folder.glob("*/000004"))
  newest.rename(newest.with_name("partial"))
  assert_same(train(case, folder), case[2])
  assert capfd.readouterr().err == f"seedlab: resumed at step 3 of {STEPS}\n"


def planned(program, *plan):
  """The steps are counted outside of the program: it is the same one."""
  return program._replace(trainer=dataclasses.replace(program.trainer, plan=plan))


@pytest.mark.parametrize("change", ["program", "plan", "seeds", "mode"])
def test_a_checkpoint_of_anything_else_is_ignored(folder, capfd, change):
  seeds = seeds_of(2)
  killed_after((build("vmap"), seeds, None), folder, 4)
  program = {
    "program": lambda: build("vmap", rate=0.2),
    "plan": lambda: planned(build("vmap"), 6, STEPS + 1),
    "seeds": lambda: build("vmap"),
    "mode": lambda: build("loop"),
  }[change]()
  seeds = seeds + (change == "seeds")
  assert_same(train((program, seeds, None), folder, seconds=600), engine.train(program, seeds))
  assert "resumed" not in capfd.readouterr().err


def test_short_runs_pay_nothing(case, folder, monkeypatch):
  monkeypatch.delattr(checkpoints, "save")
  monkeypatch.setattr(checkpoints, "restore", None)
  results = train(case, folder, seconds=600)
  assert_same(results, case[2])
  assert results.saved == () and not list(folder.iterdir())


@pytest.mark.parametrize("obstacle", ["file", "missing", "disk"])
def test_where_none_can_be_written_training_goes_on(case, folder, monkeypatch, capfd, obstacle):
  monkeypatch.setattr(checkpoints, "_said", set())
  if obstacle == "disk":
    monkeypatch.setattr(checkpoints, "_checkpointer", lambda: 1 / 0)
  else:
    folder.rmdir()
  if obstacle == "file":
    folder.write_text("in the way")
  for _ in range(2):
    results = train(case, folder)
    assert_same(results, case[2])
  said = capfd.readouterr().err.splitlines()
  assert len(said) == 1 and "no checkpoint could be written" in said[0]
  assert obstacle == "disk" or not results.saved
  assert folder.exists() == (obstacle != "missing") and not list(folder.glob("*/*"))


class Sum(NamedTuple):
  params: jax.Array
  nothing: jax.Array  # orbax knows no empty arrays


def full_batch():
  """A hundred and fifty steps without an epoch and with one evaluation."""

  def advance(state, keys, data, fed, first, steps):
    def step(number, state):
      noise = jax.random.normal(jax.random.fold_in(keys.noise, number), (4,), jnp.float32)
      return Sum(state.params * 0.9 + noise, state.nothing)

    return jax.lax.fori_loop(first, first + steps, step, state), {"diverged": jnp.int32(-1)}

  return Trainer(
    plan=(150,),
    load=lambda: {},
    init=lambda keys, data: Sum(
      jnp.full(4, -0.0, jnp.bfloat16).astype(jnp.float32), jnp.zeros((0, 2), jnp.float32)
    ),
    advance=advance,
    evaluate=lambda state, keys, data: {"norm": jnp.sum(state.params**2), "nothing": state.nothing},
    metrics={"norm": Metric(), "nothing": Metric(("row", "column"))},
  )


@pytest.mark.parametrize(
  ("seconds", "length"),
  [
    (60, 7),  # five seconds: so soon one that is asked for begins
    (12, 4),  # a quarter of the time between two
  ],
)
def test_long_segments_are_cut_by_the_time_a_step_takes(
  folder, monkeypatch, capfd, seconds, length
):
  program = engine.build(full_batch(), "loop")
  case = program, np.zeros((1, len(STREAMS)), np.uint32), None
  whole = engine.train(*case[:2])
  clock, cuts, saved = [0.0], [], []
  advance, save = engine._advance, checkpoints.save

  def slow(program, state, seeds, fed, first, length):
    clock[0] += 0.7 * length
    cuts.append(length)
    return advance(program, state, seeds, fed, first, length)

  def noted(place, arrays):
    saved.append(int(arrays["position"][0]))
    clock[0] += 10.0  # belongs to no step
    return save(place, arrays)

  timers = types.SimpleNamespace(monotonic=lambda: clock[0], perf_counter=time.perf_counter)
  monkeypatch.setattr(engine, "time", timers)
  monkeypatch.setattr(engine, "_advance", slow)
  monkeypatch.setattr(checkpoints, "save", noted)
  assert_same(train(case, folder, seconds), whole)
  full, rest = divmod(149, length)  # after one step, which shows how long they take
  assert cuts == [1, *[length] * full, rest]
  assert saved[0] == 1 + length * math.ceil((seconds / 0.7 - 1) / length)
  assert_same(train(case, folder, seconds), whole)
  assert f"resumed at step {saved[-1]} of 150" in capfd.readouterr().err


def test_fed_runs_resume(folder, capfd):
  case = build("vmap", fed=True, explode_below=0), np.zeros((2, len(STREAMS)), np.uint32), None
  whole = engine.train(*case[:2])
  killed_after(case, folder, 2)
  assert_same(train(case, folder), whole)
  assert f"resumed at step 12 of {STEPS}" in capfd.readouterr().err  # no epoch was cut


@pytest.mark.parametrize("mode", programs.MODES)
def test_typed_keys_and_static_fields_come_back(folder, capfd, mode):
  program = engine.build(toy.keyed(), mode, 4 if mode == "vmap" else None)
  case = program, seeds_of(3)[: program.width], None
  whole = engine.train(*case[:2])
  killed_after(case, folder, 5)
  assert_same(train(case, folder), whole)
  assert f"resumed at step 5 of {toy.KEYED_STEPS}" in capfd.readouterr().err


def test_a_flipped_bit_in_what_orbax_does_not_check_is_noticed(folder, capfd):
  for number in (1, 2):
    assert checkpoints.save(folder / "group", {"a": np.full(100_000, number)})
  flip(max((folder / "group" / "000002").rglob("*"), key=os.path.getsize))
  assert (checkpoints.restore(folder / "group")["a"] == 1).all()
  assert "1 damaged checkpoint in" in capfd.readouterr().err


WRITER = """
import os, pathlib, signal, sys, threading
import numpy as np
from seedlab import checkpoints

def die(*arguments):
  os.kill(os.getpid(), signal.SIGKILL)

group, moment = pathlib.Path(sys.argv[1]), sys.argv[2]
for number in range(1, 4):
  assert checkpoints.save(group, {"a": np.full(500_000, number)})
if moment == "hashes":
  checkpoints._hashes = die
elif moment == "rename":
  os.rename = die
else:
  threading.Timer(float(moment), die).start()
checkpoints.save(group, {"a": np.full(500_000, 4)})
die()
"""


@pytest.mark.parametrize("moment", ["hashes", "rename", "random"])
def test_sigkill_while_writing_leaves_the_one_before(folder, capfd, moment):
  if moment == "random":
    moment = f"{random.uniform(0, 0.05):.4f}"
    print(f"killed after {moment} s")
  done = subprocess.run([sys.executable, "-c", WRITER, str(folder / "group"), moment], check=False)
  assert done.returncode == -signal.SIGKILL
  array = checkpoints.restore(folder / "group")["a"]
  assert array.shape == (500_000,) and (array == array[0]).all()
  assert array[0] == 3 or (array[0] == 4 and "." in moment)
  assert capfd.readouterr().err == ""


LONG = 12_000


def sweep(out, lanes, every):
  return seedlab.sweep(
    "toy:make",
    2,
    out,
    arguments={"steps": LONG, "explode_below": 50},
    lanes=lanes,
    width=4 if lanes == "vmap" else None,
    workers=1,
    checkpoint_every=every,
    quiet=True,
  )


@pytest.mark.parametrize("lanes", ["loop", pytest.param("vmap", marks=pytest.mark.slow)])
def test_sigkill_in_the_middle_of_a_run_then_resume(tmp_path, capfd, lanes):
  code = f"import test_checkpoints as t; t.sweep({str(tmp_path / 's')!r}, {lanes!r}, 0.05)"
  process = subprocess.Popen([sys.executable, "-c", code], cwd=HERE, start_new_session=True)
  place = checkpoints.folder(tmp_path / "s")
  while not list(place.glob("*/00000[1-9]")):
    assert process.poll() is None
    time.sleep(0.01)
  os.killpg(process.pid, signal.SIGKILL)
  process.wait()
  assert not seedlab.open(tmp_path / "s").completed.values[-1]
  resumed = sweep(tmp_path / "s", lanes, 600)
  said = capfd.readouterr().err
  assert said.count("resumed at step") == 1 and "damaged" not in said
  assert not place.exists()
  program = planned(build(lanes), LONG // 3, LONG)
  whole = engine.train(program, seeds_of(2))
  assert_same(
    whole,
    whole._replace(
      digest=resumed.digest.values,
      diverged=resumed.diverged.values,
      outcome={name: resumed[name].values for name in whole.outcome},
    ),
  )


def test_checkpoints_stay_until_the_store_has_the_result(tmp_path, monkeypatch, capfd):
  def make():
    return toy.make()

  options = {"lanes": "loop", "quiet": True, "workers": 1, "checkpoint_every": ALWAYS}
  place, original = checkpoints.folder(tmp_path / "s"), records.Writer.write

  def write(self, rows, columns):
    # More, when the worker has begun with the next ones.
    assert len(list(place.iterdir())) >= len(rows)
    raise Killed

  with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
    patch.setattr(records.Writer, "write", write)
    seedlab.sweep(make, 2, tmp_path / "s", **options)
  left = {group.name for group in place.iterdir()}
  assert left
  # While another run is missing, only what is stored goes.
  (place / "other").mkdir()
  seedlab.sweep(make, [0], tmp_path / "s", **options)
  assert "resumed at step 19 of 20" in capfd.readouterr().err
  assert "other" in os.listdir(place) and len(left & set(os.listdir(place))) == len(left) - 1
  monkeypatch.setattr(records.Writer, "write", original)
  dataset = seedlab.sweep(make, 2, tmp_path / "s", **options)
  assert dataset.completed.values.all() and not place.exists()
  place.mkdir()  # a kill just before the end
  seedlab.sweep(make, 2, tmp_path / "s", **options)
  assert not place.exists() and seedlab.replay(tmp_path / "s", 1, trainer=make).exact


def test_a_folder_of_checkpoints_does_not_make_a_directory_foreign(tmp_path):
  checkpoints.folder(tmp_path).mkdir()
  assert not records.exists(tmp_path)


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), "10", True, None])
def test_a_wrong_number_of_seconds_is_refused(tmp_path, value):
  with pytest.raises(UserError, match=r"checkpoint_every=.* must be a number of seconds"):
    sweep(tmp_path / "s", "loop", value)
  assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("value", ["-1", "soon"])
def test_a_wrong_flag_is_refused(tmp_path, value):
  done = subprocess.run(
    [
      sys.executable, HERE.parent / "scripts" / "sweep.py", "--trainer=toy:make", "--runs=2",
      f"--out={tmp_path / 's'}", f"--checkpoint_minutes={value}",
    ],
    capture_output=True, text=True,
  )  # fmt: skip
  assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
  assert f"--checkpoint_minutes='{value}' must be a" in done.stderr
