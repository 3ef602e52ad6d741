"""Sweeps under random faults, compared bit for bit with sweeps without: a soak test, for Linux.

An episode trains a sweep: at once, extended, by a stopping rule, in shards that are merged, or on a
Dask cluster. It strikes the sweep's processes and files at random moments (`soak_faults`), runs the
same command again until the sweep is finished, and replays random runs of it. One seed decides all
that can be decided; where exactly a blow falls depends on the machine. A directory in which
something was found is kept, and the exit status is then 1.

  python scripts/soak.py --minutes=30 --seed=1
  python scripts/soak.py --seed=1 --episode=17   # that one alone
"""

import argparse
import collections
import contextlib
import datetime
import importlib.metadata
import os
import pathlib
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import soak_faults as faults
from soak_faults import Found

import seedlab
from seedlab import cli, experiment, host, merging, pool, records, replaying, shards
from seedlab.errors import UserError
from seedlab.progress import Progress

HERE = pathlib.Path(__file__).resolve().parent
STRIKES, REPLAYS = 16, 50  # after each episode
PATIENCE = 180.0  # seconds, after which a command hangs

TOY = {"trainer": "soak_trainer:make", "workers": 2}
SWEEPS: dict[str, dict[str, Any]] = {
  "loop": {**TOY, "runs": 24, "lanes": "loop"},
  "vmap": {**TOY, "runs": 24, "lanes": "vmap", "width": 3},
  "digits": {"config": "seedlab:digits_mlp:smoke", "runs": 24, "workers": 2},
  "stop": {**TOY, "stop": "ci_width(mse)<0.03", "max_runs": 60, "lanes": "loop"},
}
KINDS = ["plain", "extended", "stopping", "shards", "dask"]
# A command meets some of those after which it goes on, then one of those that end it.
GOES_ON = [*[faults.kill_worker] * 4, faults.stop]
ENDS = [*[faults.kill_parent] * 4, faults.terminate, faults.fill_disk]
ROWS = (
  "episodes", "parents killed", "parents terminated", "workers killed", "Dask workers killed",
  "processes stopped for a while", "full disks", "workers that outlived their parent",
  "commands run again", "bits flipped", "bits flipped: noticed", "bits flipped: harmless",
  "bits flipped: unnoticed", "files deleted", "files deleted: noticed", "files deleted: harmless",
  "files deleted: unnoticed", "manifests restored by hand", "shards trained", "merges",
  "finished stores compared", "bits that differ", "replays", "replays that differ",
  "episodes that found something",
)  # fmt: skip


class Reference(NamedTuple):
  """A sweep without faults."""

  store: records.Store
  seconds: float  # that its command took


class Step(NamedTuple):
  """A command, the same from Python for when it is to end without faults, and its store."""

  words: list[str]
  call: Callable[[], Any]
  out: pathlib.Path


class Soak(NamedTuple):
  """What all episodes share."""

  folder: pathlib.Path
  counts: faults.Counts
  pool: pool.WorkerPool  # trains without faults
  references: dict[str, Reference]
  closing: contextlib.ExitStack
  clusters: list[Any]  # of Dask, once there is one


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--minutes", type=float, default=10.0, help="begin no episode after them")
  parser.add_argument("--seed", type=int, default=0, help="decides the episodes and their faults")
  parser.add_argument("--episode", type=int, help="this one alone")
  parser.add_argument("--markdown", type=pathlib.Path, help="write the table to this file as well")
  asked = parser.parse_args()
  folder = pathlib.Path(tempfile.mkdtemp(prefix="soak-"))
  print(f"seed {asked.seed}, in {folder}", flush=True)
  found, began = [], time.monotonic()
  with soaking(folder) as soak:
    for number in range(10**9) if asked.episode is None else [asked.episode]:
      if problem := try_episode(soak, asked.seed, number):
        found.append(problem)
      if time.monotonic() - began > 60 * asked.minutes:
        break
    rows = table(soak, asked.seed, time.monotonic() - began)
  print("\n".join(f"{name:<40} {value}" for name, value in rows))
  if asked.markdown:
    lines = ["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows)]
    asked.markdown.write_text("\n".join(lines) + "\n")
  if found:
    sys.exit("\n".join(["", *found, f"what is left of it: {folder}"]))
  shutil.rmtree(folder)


@contextlib.contextmanager
def soaking(folder: pathlib.Path) -> Iterator[Soak]:
  """A soak whose processes end with it; commands use this checkout and the Trainer beside it."""
  paths = os.pathsep.join([str(HERE), str(HERE.parent)])
  os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [paths, os.environ.get("PYTHONPATH")]))
  os.environ["PYTHONFAULTHANDLER"] = "1"  # for a command that hangs
  with contextlib.ExitStack() as closing, pool.local_pool(1) as workers:
    yield Soak(folder, collections.Counter(), workers, {}, closing, [])


def try_episode(soak: Soak, seed: int, number: int) -> str:
  """What an episode found, with the command that repeats it; nothing where all is well."""
  dice = random.Random(f"{seed} {number}")
  kind = dice.choice(KINDS)
  before, began = collections.Counter(soak.counts), time.monotonic()
  said = ""
  try:
    episode(soak, dice, kind, soak.folder / f"episode-{number}")
    shutil.rmtree(soak.folder / f"episode-{number}")
  except Exception as error:  # whatever it is, the other episodes go on
    soak.counts["episodes that found something"] += 1
    said = f"episode {number} ({kind}): {type(error).__name__}: {error}"
    said += f"\n  repeat with: python scripts/soak.py --seed={seed} --episode={number}"
  soak.counts["episodes"] += 1
  new = ", ".join(f"{name} {count}" for name, count in (soak.counts - before).items())
  seconds = time.monotonic() - began
  print(said or f"episode {number} ({kind}, {seconds:.0f} s): {new}", flush=True)
  return said


def episode(soak: Soak, dice: random.Random, kind: str, folder: pathlib.Path) -> None:
  folder.mkdir()
  out = folder / "sweep"
  name = "stop" if kind == "stopping" else dice.choice(["loop", "loop", "vmap", "vmap", "digits"])
  reference, options = reference_of(soak, name), SWEEPS[name]
  if kind == "extended":
    asked = [{**options, "runs": dice.randint(2, 12)}, options]
  elif kind == "shards":
    count = dice.randint(2, 3)
    asked = [{**options, "shard": f"{number}/{count}"} for number in range(1, count + 1)]
  else:
    asked = [options]
  steps = [sweep_step(soak, one, out, kind == "dask") for one in asked]
  goes_on = [on_cluster(soak)] if kind == "dask" else GOES_ON
  for step in steps:
    finish(soak, dice, step, reference, goes_on)
  if kind == "shards":
    soak.counts["shards trained"] += len(steps)
    steps.append(merge(soak, dice, steps, out, reference))
  damage_and_repair(soak, dice, steps[-1], reference)
  replay(soak, dice, out)


def reference_of(soak: Soak, name: str) -> Reference:
  """The sweep of that name, trained by its command without faults at the first call."""
  if name not in soak.references:
    step = sweep_step(soak, SWEEPS[name], soak.folder / f"reference-{name}")
    began = time.monotonic()
    done = subprocess.run(step.words, capture_output=True, text=True)
    if done.returncode:
      raise Found(f"{' '.join(step.words)}:\n{done.stderr}")
    store = seedlab.open(step.out, verify=True).load()
    soak.references[name] = Reference(store, time.monotonic() - began)
  return soak.references[name]


def sweep_step(soak: Soak, options: dict[str, Any], out: pathlib.Path, dask: bool = False) -> Step:
  """The command of a sweep, which saves the runs under way all the time."""
  given = dict(options)
  if dask:
    given["scheduler"] = f"dask:{cluster(soak).scheduler_address}"
    del given["workers"]
  words = [f"--{name}={value}" for name, value in given.items()]
  command = [sys.executable, "-m", "seedlab", "sweep", f"--out={out}", *words]
  what = options.get("trainer") or cli.experiment(options["config"])
  rest = {name: options[name] for name in options if name not in ("trainer", "config", "workers")}

  def call() -> None:
    seedlab.sweep(what, out=out, executor=soak.pool, quiet=True, retry_failed=True, **rest)

  shard = options.get("shard")
  store = shards.place(out, shards.parse(shard)) if shard else out
  return Step([*command, "--checkpoint_minutes=0.002"], call, store)


def finish(soak: Soak, dice: random.Random, step: Step, reference: Reference, goes_on) -> None:
  """Runs a command under faults, once or more often, then to its end, and compares."""
  for _ in range(dice.randint(2, 4)):
    blows = [*dice.choices(goes_on, k=dice.randint(2, 6) * bool(goes_on)), dice.choice(ENDS)]
    finished = under_faults(soak, step, reference, [(fault, fork(dice)) for fault in blows])
    own = fork(dice)
    if own.random() < 0.5 and (step.out / ".zmetadata").exists():
      strike(soak, own, step.out, reference)
    if finished:
      break
  step.call()
  compare(soak, step.out, reference)


def under_faults(soak: Soak, step: Step, reference: Reference, blows) -> bool:
  """Starts a command, strikes it one blow after the other; whether it finished its work."""
  began = time.time()
  child = subprocess.Popen(
    step.words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
  )
  allowed = {0}
  for fault, dice in blows:
    part = 0.3 if fault in ENDS else 0.03  # a command is to meet several faults before its end
    wait_for_a_moment(child, dice, step.out, began, part * reference.seconds)
    if child.poll() is None:
      allowed |= fault(soak.counts, dice, child)
  try:
    _, said = child.communicate(timeout=max(1.0, began + PATIENCE - time.time()))
  except subprocess.TimeoutExpired:
    child.send_signal(signal.SIGABRT)  # it says where it is
    _, said = child.communicate()
    raise Found(f"no end after {PATIENCE:.0f} s: {' '.join(step.words)}\n{said}") from None
  if child.returncode not in allowed or "Traceback" in said:
    raise Found(f"status {child.returncode} of {' '.join(step.words)}:\n{said}")
  soak.counts["commands run again"] += child.returncode != 0
  return child.returncode == 0


def wait_for_a_moment(child, dice: random.Random, out: pathlib.Path, began: float, seconds: float):
  """At most so many seconds from now, or from when the command first wrote a chunk of runs."""
  anywhere, part = dice.random() < 0.75, dice.random()
  while not anywhere and child.poll() is None and not written_since(out, began):
    if time.time() > began + PATIENCE:  # it hangs, as its caller will say
      return
    time.sleep(0.02)
  end = time.monotonic() + part * seconds
  while child.poll() is None and time.monotonic() < end:
    time.sleep(0.02)


def written_since(out: pathlib.Path, began: float) -> bool:
  """Whether the flags of the finished runs were written after that time."""
  with contextlib.suppress(FileNotFoundError):
    return (out / "completed" / "0").stat().st_mtime > began
  return False


def strike(soak: Soak, dice: random.Random, out: pathlib.Path, reference: Reference):
  """Changes a file of a store and judges what a reader then makes of it: (file, verdict)."""
  struck = faults.strike(dice, out)
  word, verdict = "bits flipped" if struck.flipped else "files deleted", "harmless"
  try:
    if bits_that_differ(seedlab.open(out, verify=True), reference.store):
      verdict = "unnoticed"
  except UserError:
    verdict = "noticed"
  soak.counts[word] += 1
  soak.counts[f"{word}: {verdict}"] += 1
  if verdict == "unnoticed":
    raise Found(f"{struck.file} was changed, and other numbers are read")
  if struck.irreparable:
    struck.undo()
    soak.counts["manifests restored by hand"] += 1
  return struck, verdict


def damage_and_repair(soak: Soak, dice: random.Random, step: Step, reference: Reference) -> None:
  """Changes files one at a time; then some at once, which the command has to repair."""
  for _ in range(STRIKES):
    struck, _ = strike(soak, dice, step.out, reference)
    struck.undo()
  for _ in range(3):
    strike(soak, dice, step.out, reference)
  step.call()
  compare(soak, step.out, reference)


def merge(soak: Soak, dice: random.Random, parts: list[Step], out, reference) -> Step:
  """Merges shards: not while one of them is damaged; then under faults."""
  part = dice.choice(parts)
  struck, verdict = strike(soak, dice, part.out, reference)
  if verdict == "noticed" and not struck.irreparable:
    with contextlib.suppress(UserError):
      merging.merge(out, quiet=True)
      raise Found(f"{struck.file} was changed, and merged")
  part.call()
  words = [sys.executable, "-m", "seedlab", "merge", str(out)]
  step = Step(words, lambda: merging.merge(out, quiet=True), out)
  finish(soak, dice, step, reference, [])
  soak.counts["merges"] += 1
  return step


def replay(soak: Soak, dice: random.Random, out: pathlib.Path) -> None:
  """Trains random runs again, in other company, and compares all that is stored of them."""
  kept = records.manifest(out)
  described = experiment.recorded_experiment(kept, None, None, out, trust_code=True)
  runs = dice.choices(records.open(out).run.values.tolist(), k=REPLAYS)
  recorded = replaying.recorded_runs(out, kept, runs)
  for one in replaying.replay_all(recorded, described, soak.pool, Progress(REPLAYS, quiet=True)):
    soak.counts["replays"] += 1
    if not one.exact:
      soak.counts["replays that differ"] += 1
      raise Found(f"{', '.join(one.different)} of run {one.run} in {out} is not what it computes")


def compare(soak: Soak, out: pathlib.Path, reference: Reference) -> None:
  """A finished store with that of the same sweep, or of the whole one, without faults."""
  store = seedlab.open(out, verify=True)
  if not store.completed.values.all():
    raise Found(f"{out} is not finished")
  different = bits_that_differ(store, reference.store)
  soak.counts["finished stores compared"] += 1
  soak.counts["bits that differ"] += different
  if different:
    raise Found(f"{different} bits of {out} are not those of the same sweep without faults")


def bits_that_differ(store, reference) -> int:
  """In all variables but `seconds` and its checksum, of the runs that `store` has finished."""
  rows = np.flatnonzero(store.completed.values)
  place = {int(run): row for row, run in enumerate(reference.run.values)}
  same = np.array([place.get(int(store.run[row]), -1) for row in rows], np.int64)
  if (same < 0).any() or set(store.variables) != set(reference.variables):
    return 8 * store.nbytes
  timeless = np.array(reference.attrs["arrays"]) != "seconds"
  found = 0
  for name in set(reference.variables) - {"seconds"}:
    a, b = store[name].values, reference[name].values
    if "run" in reference[name].dims:
      a, b = a[rows], b[same]
    if name == "checksum":
      a, b = a[:, timeless], b[:, timeless]
    if a.dtype != b.dtype or a.shape != b.shape:
      return 8 * store.nbytes
    bits = np.frombuffer(a.tobytes(), np.uint8) ^ np.frombuffer(b.tobytes(), np.uint8)
    found += int(np.unpackbits(bits).sum())
  return found


def cluster(soak: Soak) -> Any:
  """A Dask cluster of two worker processes, which are started again when they are killed."""
  if not soak.clusters:
    from distributed import LocalCluster

    made = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50)
    soak.clusters.append(soak.closing.enter_context(made))
  return soak.clusters[0]


def on_cluster(soak: Soak):
  """The fault that a worker of the Dask cluster is killed."""

  def kill_dask_worker(counts, dice: random.Random, child) -> set[int]:
    made = cluster(soak)
    # One that is killed while it starts is given up by Dask, and not started again.
    there = [
      nanny for nanny in made.workers.values() if nanny.worker_address in made.scheduler.workers
    ]
    numbers = [nanny.pid for nanny in there if nanny.pid]
    with contextlib.suppress(ProcessLookupError, IndexError):  # both are starting again
      os.kill(dice.choice(numbers), signal.SIGKILL)
      counts["Dask workers killed"] += 1
    return {2}

  return kill_dask_worker


def fork(dice: random.Random) -> random.Random:
  """Dice of its own for what may take any number of throws."""
  return random.Random(dice.random())


def table(soak: Soak, seed: int, seconds: float) -> list[tuple[str, str]]:
  """(what, how many) of a soak, with what it ran on."""
  packages = ("seedlab", "jax", "zarr", "distributed")
  versions = [f"{name} {importlib.metadata.version(name)}" for name in packages]
  device = next(iter(soak.references.values())).store.attrs["fingerprints"][0]["device"]
  about = {
    "seed": str(seed),
    "date": datetime.date.today().isoformat(),
    "minutes": f"{seconds / 60:.0f}",
    "versions": ", ".join([f"Python {platform.python_version()}", *versions]),
    "machine": f"{device.get('model_name', '?')}, {len(host.visible_cores())} cores",
  }
  return [*about.items(), *((name, f"{soak.counts[name]:,}") for name in ROWS)]


if __name__ == "__main__":
  main()
