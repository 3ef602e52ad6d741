"""L1 and L2 through real worker processes: company, workers, kills, resuming, replay, refusals."""

import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import jobs
import numpy as np
import pytest
import toy
from forging import reseal

import seedlab
from seedlab import designs, engine, records, sweeps
from seedlab.config import Seeds
from seedlab.errors import Damaged, UserError

HERE = pathlib.Path(__file__).parent
PATHS = os.pathsep.join([str(HERE), str(HERE.parent)])  # this checkout's, whichever is installed
RUNS = 24
TRAINERS = {"loop": "loop", "vmap": "vmap"}


def sweep(out, runs=RUNS, *, steps=20, lanes="loop", width=None, workers=1, **options):
  width = width or (4 if lanes == "vmap" else None)
  return seedlab.sweep(
    "toy:make",
    runs,
    out,
    arguments={"steps": steps, **options.pop("arguments", {})},
    lanes=lanes,
    width=width,
    workers=workers,
    quiet=True,
    **options,
  )


@pytest.fixture(scope="module", params=["loop", "vmap"])
def reference(request, tmp_path_factory):
  """(lanes, an uninterrupted sweep of RUNS runs by one worker)."""
  out = tmp_path_factory.mktemp(request.param) / "sweep"
  return request.param, sweep(out, lanes=request.param), out


def assert_same_bits(a, b) -> None:
  assert a.completed.values.all() and b.completed.values.all()
  assert a.run.values.tolist() == b.run.values.tolist()
  for name in ("digest", "diverged", "mse", "prediction", "seed_order"):
    assert a[name].values.tobytes() == b[name].values.tobytes(), name


def test_workers_equal_the_engine_in_this_process(reference):
  lanes, dataset, _ = reference
  program = engine.build(toy.make(), lanes, 4 if lanes == "vmap" else None)
  seeds = np.stack([designs.seeds_of_run(run, Seeds()) for run in (5, 17)])
  results = engine.train(program, seeds)
  assert results.digest.tolist() == dataset.digest.values[[5, 17]].tolist()
  assert results.outcome["mse"].tobytes() == dataset.mse.values[[5, 17]].tobytes()
  assert program.fingerprint == dataset.attrs["fingerprints"][0]


def test_two_workers_give_the_same_bits(reference, tmp_path):
  lanes, dataset, _ = reference
  assert_same_bits(dataset, sweep(tmp_path / "s", lanes=lanes, workers=2))


def test_cold_and_warm_compilation_cache_give_the_same_bits(reference, tmp_path, monkeypatch):
  lanes, dataset, _ = reference
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  for out in ("cold", "warm"):
    assert bool(list(tmp_path.rglob("jit_advance-*-cache"))) == (out == "warm")
    assert_same_bits(dataset, sweep(tmp_path / out, lanes=lanes))


def test_asking_for_more_runs_extends_the_sweep(reference, tmp_path):
  lanes, dataset, _ = reference
  sweep(tmp_path / "s", 7, lanes=lanes)
  extended = sweep(tmp_path / "s", range(RUNS), lanes=lanes)
  assert_same_bits(dataset, extended)
  assert len(extended.attrs["fingerprints"]) == 1


def test_any_run_replays_alone(reference):
  _, dataset, out = reference
  replay = seedlab.replay(out, 13, trust_code=True)
  assert replay.exact and replay.passed and not replay.changed and replay.verdict(out) == "exact"
  assert replay.computed == dataset.digest.values[13].decode()
  assert set(replay.deviation.values()) == {0.0}
  assert replay.params["in"].shape == (2, 5)


def start(out, runs, lanes, workers=2, arguments=None) -> subprocess.Popen:
  """The same sweep from an unguarded script in its own process."""
  code = (
    "import sys, seedlab\n"
    f"seedlab.sweep('toy:make', {runs}, {str(out)!r}, arguments={arguments or {'steps': 20}!r},"
    f" lanes={lanes!r}, width={4 if lanes == 'vmap' else None}, workers={workers})\n"
  )
  script = pathlib.Path(out).parent / "unguarded.py"
  script.write_text(code)
  return subprocess.Popen(
    [sys.executable, str(script)],
    stderr=subprocess.PIPE,
    text=True,
    env={**os.environ, "PYTHONPATH": PATHS},
  )


def children(pid: int) -> list[int]:
  return [
    int(word) for word in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
  ]


@pytest.mark.parametrize(
  "reference", [pytest.param("loop", marks=pytest.mark.slow), "vmap"], indirect=True
)
@pytest.mark.parametrize("victim", ["parent", pytest.param("workers", marks=pytest.mark.slow)])
def test_sigkill_at_random_moments_then_resume(reference, tmp_path, victim):
  """Slow runs and small chunks, so that kills land in imports, compilations, chunks and writes."""
  lanes, dataset, _ = reference
  seed = int(os.environ.get("SEEDLAB_TEST_SEED", time.time_ns() % 2**32))
  moments = random.Random(seed)
  print(f"SEEDLAB_TEST_SEED={seed} repeats these moments")
  out = tmp_path / "s"
  for attempt in range(3 if victim == "parent" else 2):
    process = start(out, RUNS, lanes)
    pause = moments.uniform(0.5, 6)
    deadline = time.monotonic() + pause
    while time.monotonic() < deadline and process.poll() is None:
      time.sleep(0.02)
    workers = children(process.pid) if process.poll() is None else []
    print(f"attempt {attempt}: {victim} killed after {pause:.2f} s, workers {workers}")
    if victim == "parent":
      process.kill()
      process.communicate()
      deadline = time.monotonic() + 2
      while any(map(jobs.alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.02)
      assert not any(map(jobs.alive, workers))
    else:
      for pid in workers:
        os.kill(pid, signal.SIGKILL)
      _, errors = process.communicate()
      assert process.returncode == 0, errors
      assert_same_bits(dataset, seedlab.open(out))
      out = tmp_path / f"s{attempt}"
  assert_same_bits(dataset, sweep(out, lanes=lanes, workers=2))


@pytest.mark.parametrize(
  "reference", ["loop", pytest.param("vmap", marks=pytest.mark.slow)], indirect=True
)
def test_sigkill_while_extending(reference, tmp_path):
  lanes, dataset, _ = reference
  seed = int(os.environ.get("SEEDLAB_TEST_SEED", time.time_ns() % 2**32))
  print(f"SEEDLAB_TEST_SEED={seed} repeats these moments")
  moments = random.Random(seed)
  out = tmp_path / "s"
  first = sweep(out, 6, lanes=lanes)
  assert first.sizes["run"] == 6
  for _ in range(3):
    process = start(out, RUNS, lanes)
    # "lanes=" announces that the store has just been extended.
    for line in process.stderr:
      if "lanes=" in line:
        break
    time.sleep(moments.uniform(0, 0.2))
    process.kill()
    process.communicate()
    seedlab.open(out)
  assert_same_bits(dataset, sweep(out, lanes=lanes, workers=2))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_sweep_says_how_to_go_on(tmp_path, number):
  code = (
    "import sys; sys.argv[1:] = ['--trainer=toy:make', '--runs=4000', '--workers=1',"
    f" '--arguments={json.dumps({'steps': 300})}', '--out={tmp_path / 's'}']\n"
    f"import runpy; runpy.run_path({str(HERE.parent / 'scripts' / 'sweep.py')!r}, None, '__main__')"
  )
  process = subprocess.Popen(
    [sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, cwd=HERE
  )
  for line in process.stderr:
    if "lanes=" in line:
      break
  while not (tmp_path / "s" / "completed" / "0").exists():
    time.sleep(0.05)
  time.sleep(0.2)
  process.send_signal(number)
  _, errors = process.communicate(timeout=30)
  assert process.returncode == 128 + number
  assert "Traceback" not in errors and "the same command goes on" in errors
  assert 0 <= seedlab.open(tmp_path / "s").completed.values.sum() < 4000


def test_another_experiment_in_the_same_directory_is_refused(reference):
  lanes, dataset, out = reference
  with pytest.raises(UserError, match=r"arguments.steps: 20 -> 21"):
    sweep(out, lanes=lanes, steps=21)
  with pytest.raises(UserError, match=r"seeds.vary: .*order"):
    sweep(out, lanes=lanes, seeds={"vary": ["order"]})
  other = "vmap" if lanes == "loop" else "loop"
  with pytest.raises(UserError, match="part of its numerics"):
    sweep(out, lanes=other)
  assert_same_bits(dataset, seedlab.open(out))


def test_a_store_from_before_a_stream_goes_on(tmp_path):
  """As a release without `generate` wrote it: the stream is constant there, and nothing changes."""
  options = {"lanes": "loop", "workers": 1, "quiet": True}
  whole = seedlab.sweep("toy:make", 6, tmp_path / "new", **options)
  seedlab.sweep("toy:make", 4, tmp_path / "old", **options)
  old = tmp_path / "old"
  shutil.rmtree(old / "seed_generate")
  metadata = json.loads((old / ".zmetadata").read_text())
  kept = metadata["metadata"]
  for name in [name for name in kept if name.startswith("seed_generate/")]:
    del kept[name]
  attributes = kept[".zattrs"]
  attributes["coordinates"] = attributes["coordinates"].replace("seed_generate ", "")
  for names in (attributes["by_run"], attributes["vary"], attributes["trainer"]["seeds"]["vary"]):
    names.remove("seed_generate" if "run" in names else "generate")
  (old / ".zattrs").write_text(json.dumps(attributes))
  (old / ".zmetadata").write_text(json.dumps(metadata))
  reseal(old)

  assert seedlab.open(old).seed_generate.values.tolist() == [0] * 4
  extended = seedlab.sweep("toy:make", 6, old, **options)
  assert extended.digest.values.tolist() == whole.digest.values.tolist()
  assert len(extended.attrs["fingerprints"]) == 1
  assert extended.seed_generate.values.tolist() == [0] * 6
  assert whole.seed_generate.values.tolist() == list(range(6))
  assert seedlab.replay(old, 5, trust_code=True).exact


@pytest.mark.own_workers
def test_a_changed_program_is_noticed_and_refused(tmp_path, monkeypatch):
  """Editing a Trainer's file between kill and resume changes the program's digest."""
  monkeypatch.syspath_prepend(tmp_path)
  source = (HERE / "toy.py").read_text()
  (tmp_path / "edited.py").write_text(source)
  options = {"lanes": "loop", "workers": 1, "quiet": True}
  seedlab.sweep("edited:make", 4, tmp_path / "s", **options)
  (tmp_path / "edited.py").write_text("# moved lines change nothing\n\n" + source)
  seedlab.sweep("edited:make", 6, tmp_path / "s", **options)
  (tmp_path / "edited.py").write_text(source.replace("0.1 * jitter", "0.11 * jitter"))
  with pytest.raises(UserError, match=r"another fingerprint.*program: .* -> "):
    seedlab.sweep("edited:make", 8, tmp_path / "s", **options)
  assert seedlab.open(tmp_path / "s").sizes["run"] == 6
  mixed = seedlab.sweep("edited:make", 8, tmp_path / "s", new_fingerprint=True, **options)
  assert mixed.fingerprint.values.tolist() == [0] * 6 + [1] * 2
  replay = seedlab.replay(tmp_path / "s", 2, trust_code=True)
  assert [field for field, *_ in replay.changed] == ["program"] and replay.passed
  assert "not comparable bit for bit" in replay.verdict("s")
  assert seedlab.replay(tmp_path / "s", 7, trust_code=True).exact


@pytest.mark.parametrize(
  ("field", "value"), [("jax", "0.0.1"), ("device.probe", "f00"), ("device.cores", 64)]
)
@pytest.mark.parametrize(
  "reference", ["loop", pytest.param("vmap", marks=pytest.mark.slow)], indirect=True
)
def test_another_version_or_device_is_noticed(reference, tmp_path, field, value):
  lanes, _, _ = reference
  out = tmp_path / "s"
  sweep(out, 4, lanes=lanes)
  writer = records.Writer(out)
  (fingerprint,) = json.loads(json.dumps(writer.attributes["fingerprints"]))
  *section, name = field.split(".")
  (fingerprint[section[0]] if section else fingerprint)[name] = value
  writer.set_attributes(fingerprints=[fingerprint])
  writer._arrays["digest"][1] = b"0" * 64
  reseal(out)
  with pytest.raises(UserError, match=f"{field}: {value} -> "):
    sweep(out, 8, lanes=lanes)
  replay = seedlab.replay(out, 1, trust_code=True)
  assert [field for field, *_ in replay.changed] == [field]
  assert ("--lock > recorded.txt" in replay.verdict(out)) == (field == "jax")


def test_a_tampered_digest_fails_the_replay(tmp_path):
  out = tmp_path / "s"
  sweep(out, 4)
  writer = records.Writer(out)
  writer._arrays["digest"][2] = b"0" * 64
  with pytest.raises(Damaged, match=r"digest of run 2; run the sweep's command again"):
    seedlab.replay(out, 2, trust_code=True)
  reseal(out)
  replay = seedlab.replay(out, 2, trust_code=True)
  assert not replay.exact and not replay.passed and "DIFFERENT" in replay.verdict(out)


def test_runs_not_there_are_named(reference, tmp_path):
  _, _, out = reference
  with pytest.raises(UserError, match=r"run=99 is not in .* 24 runs between 0 and 23"):
    seedlab.replay(out, 99, trust_code=True)
  with pytest.raises(UserError, match="run='7' must be a whole number"):
    seedlab.replay(out, "7", trust_code=True)
  with pytest.raises(UserError, match=r"nowhere.: no such file or directory"):
    seedlab.replay(tmp_path / "nowhere", 0)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"runs": 0}, "at least 1"),
    ({"runs": []}, "at least 1"),
    ({"runs": [-1]}, r"\[0, 2\^32\)"),
    ({"runs": [1, 1]}, "more than once"),
    ({"runs": None}, "runs is missing"),
    ({"workers": 0}, "workers=0"),
    ({"lanes": "loop", "width": 3}, "needs lanes=vmap"),
    ({"arguments": {"stepz": 3}}, r"stepz is not an argument of toy:make; did you mean 'steps'"),
    ({"seeds": {"vary": ["ordr"]}}, "did you mean 'order'"),
  ],
)
def test_wrong_input_leaves_nothing_behind(tmp_path, options, message):
  with pytest.raises(UserError, match=message):
    sweep(tmp_path / "s", **options)
  assert not list(tmp_path.rglob(".zmetadata"))


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("toy", "module:function"),
    ("toi:make", "No module named 'toi'"),
    ("toy:mak", "did you mean 'make'"),
    ("toy:State", r"toy:State needs the argument 'params'.* must return a seedlab.Trainer"),
    ("toy:EXAMPLES", "toy:EXAMPLES is no function .* must return a seedlab.Trainer"),
    ("jobs:chatter", "returned a str, not a seedlab.Trainer or a recipe: .* trains nothing itself"),
  ],
)
def test_a_trainer_that_is_none_is_named(tmp_path, name, message):
  with pytest.raises(UserError, match=message):
    seedlab.sweep(name, 1, tmp_path / "s", quiet=True, workers=1)


def test_a_function_that_trains_by_itself_is_told_what_a_function_must_be(tmp_path):
  def train(key):
    return 0.9

  def trained():
    return 0.9

  with pytest.raises(UserError, match=r"train needs the argument 'key'.* seedlab.function"):
    seedlab.sweep(train, 3, tmp_path / "s", quiet=True)
  with pytest.raises(UserError, match=r"trained returned a float, not a seedlab.Trainer or a"):
    seedlab.sweep(trained, 3, tmp_path / "s", quiet=True)


@pytest.mark.parametrize("runs", ["123", b"5", 2.0, True, [0.5, 1.9], ["1"], [True], {"a": 1}])
def test_what_is_no_whole_number_of_runs_is_refused(runs):
  with pytest.raises(UserError, match=r"^runs=.* must be a whole number, not of type") as caught:
    sweeps.run_numbers(runs, Seeds())
  assert len(str(caught.value).splitlines()) == 1


def test_numbers_of_numpy_are_numbers_of_runs():
  assert sweeps.run_numbers(np.int64(2), Seeds()) == [0, 1]
  assert sweeps.run_numbers(np.array(3, np.uint8), Seeds()) == [0, 1, 2]
  numbers = sweeps.run_numbers(np.array([2, 5], np.uint8), Seeds())
  assert numbers == [2, 5] and {type(number) for number in numbers} == {int}
  crossed = Seeds(("init", "order"), design="crossed", levels=(2, 2))
  for runs in (4, np.arange(4), range(4)):
    assert sweeps.run_numbers(runs, crossed) == [0, 1, 2, 3]


def test_crossed_sweep_and_its_extension(tmp_path):
  crossed = {"design": "crossed", "vary": ["init", "order"]}
  small = sweep(tmp_path / "s", None, seeds={**crossed, "levels": [2, 2]})
  assert small.sizes["run"] == 4
  large = sweep(tmp_path / "s", None, seeds={**crossed, "levels": [2, 3]})
  assert (
    large.sizes["run"] == 6 and large.digest.values[:4].tolist() == small.digest.values.tolist()
  )
  pairs = set(zip(large.seed_init.values.tolist(), large.seed_order.values.tolist(), strict=True))
  assert pairs == {(init, order) for init in range(2) for order in range(3)}
  assert set(large.seed_noise.values.tolist()) == {0}
  with pytest.raises(UserError, match="leave runs out"):
    sweep(tmp_path / "s", 5, seeds={**crossed, "levels": [2, 3]})


def test_a_closure_is_replayed_where_it_is(tmp_path):
  def make(steps):
    return toy.make(steps=steps)

  options = {"arguments": {"steps": 12}, "lanes": "loop", "workers": 1, "quiet": True}
  dataset = seedlab.sweep(make, 3, tmp_path / "s", **options)
  assert dataset.completed.values.all()
  assert seedlab.replay(tmp_path / "s", 2, trainer=make).exact
  with pytest.raises(UserError, match="trainer"):
    seedlab.replay(tmp_path / "s", 2, trust_code=True)


UNGUARDED = """
import os
import seedlab
import toy
from forging import reseal

print("main", os.getpid(), flush=True)
RATE = 0.3

def make(marker):
  return toy.make(rate=RATE, marker=marker)

for out, what in ((OUT + "/value", make), (OUT + "/name", "toy:make")):
  given = {"marker": out + ".pids"}
  seedlab.sweep(what, 8, out, arguments=given, lanes="loop", workers=2, quiet=True)
"""


@pytest.mark.slow
def test_an_unguarded_script_uses_all_workers(tmp_path):
  script = tmp_path / "own.py"
  script.write_text(f"OUT = {str(tmp_path)!r}\n{UNGUARDED}")
  done = subprocess.run(
    [sys.executable, str(script)],
    stdout=subprocess.PIPE,
    text=True,
    env={**os.environ, "PYTHONPATH": PATHS},
    check=True,
  )
  (line,) = done.stdout.splitlines()  # no worker has run the script
  assert_same_bits(*(seedlab.open(tmp_path / name) for name in ("name", "value")))
  workers = set((tmp_path / "value.pids").read_text().split())
  assert len(workers) == 2 and line.split()[1] not in workers
  record = (tmp_path / "value" / ".zattrs").read_text()
  assert "__main__:make" in record and "payload" not in record


def test_what_no_process_can_be_sent_is_one_line(tmp_path):
  import threading

  lock = threading.Lock()
  with pytest.raises(UserError, match=r"cannot be sent to worker processes \(TypeError.*lock"):
    seedlab.sweep(lambda: lock, 1, tmp_path / "s", quiet=True)


def test_any_executor_will_do(reference, tmp_path):
  """A pool of somebody else's, unpinned until the task pins it (as under Dask)."""
  import concurrent.futures
  import multiprocessing

  lanes, dataset, _ = reference
  context = multiprocessing.get_context("spawn")
  with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as executor:
    assert_same_bits(dataset, sweep(tmp_path / "s", lanes=lanes, executor=executor))


def test_measured_lanes_stay_with_the_sweep(tmp_path):
  first = sweep(tmp_path / "s", 8, lanes="measure")
  again = sweep(tmp_path / "s", 12, lanes="measure")
  assert len(again.attrs["fingerprints"]) == 1
  assert first.digest.values.tolist() == again.digest.values[:8].tolist()


def test_plan_trains_nothing_and_says_so(capsys):
  plan = seedlab.plan("toy:make", 100, arguments={"steps": 20}, lanes="loop", workers=1)
  assert "compiling, measuring the speed; nothing is trained" in capsys.readouterr().err
  assert plan["runs"] == 100 and plan["steps_per_run"] == 20 and plan["evaluations_per_run"] == 2
  assert plan["hours"] > 0 and plan["bytes_per_lane"] > 0


def test_importing_seedlab_and_sweeping_start_no_backend(tmp_path):
  code = (
    "import seedlab, seedlab.sweeps, seedlab.records\n"
    f"seedlab.sweep('toy:make', 2, {str(tmp_path / 's')!r}, workers=1, quiet=True)\n"
    "from jax._src import xla_bridge\n"
    "assert not xla_bridge.backends_are_initialized()\n"
  )
  subprocess.run([sys.executable, "-c", code], cwd=HERE, check=True)


def test_what_finished_before_an_error_is_kept(tmp_path):
  """Chunks are written as they come, and Ctrl-C waits for no queue."""

  class Stop(BaseException):
    pass

  def make():
    return toy.make()

  original, written = records.Writer.write, []

  def write(self, rows, columns):
    original(self, rows, columns)
    written.extend(rows.tolist())
    raise Stop

  with pytest.MonkeyPatch.context() as patch, pytest.raises(Stop):
    patch.setattr(records.Writer, "write", write)
    seedlab.sweep(make, 40, tmp_path / "s", lanes="loop", quiet=True)
  kept = seedlab.open(tmp_path / "s").completed.values
  assert np.flatnonzero(kept).tolist() == written and 0 < kept.sum() < 40
  assert seedlab.sweep(make, 40, tmp_path / "s", lanes="loop", quiet=True).completed.values.all()
