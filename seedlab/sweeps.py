"""Many runs of one experiment: plan chunks, run them on an executor, resume.

  describe the experiment in a worker: lane mode, fingerprint, shapes, speed
  make or extend the store; refuse another experiment, another fingerprint
  one task for each chunk with runs missing; write each chunk as it arrives

The parent process starts no JAX backend.
"""

import concurrent.futures
import contextlib
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from seedlab import (
  __version__,
  checkpoints,
  config,
  errors,
  host,
  records,
  stopping,
  streams,
  tasks,
)
from seedlab.config import Config, Seeds
from seedlab.errors import UserError
from seedlab.experiment import (
  Experiment,
  check_same,
  describe,
  executor_of,
  experiment,
  going_on,
  spec_of,
)
from seedlab.pool import WorkerPool, check_workers
from seedlab.progress import Progress, say

_CHUNK_SECONDS = 10.0
_MOST_IN_CHUNK = 1024
_MOST_RUNS = 10_000_000
_SAVING_SECONDS = 20  # at most, when a sweep is stopped: batch systems kill after 30 and more


def sweep(
  what: Config | Mapping[str, Any] | str | Callable[..., Any],
  runs: Iterable[int] | int | None = None,
  out: str | os.PathLike = "out/sweep",
  *,
  arguments: Mapping[str, Any] | None = None,
  seeds: Mapping[str, Any] | None = None,
  data_dir: str | None = None,
  lanes: str = "auto",
  width: int | None = None,
  workers: int | None = None,
  executor: concurrent.futures.Executor | None = None,
  new_fingerprint: bool = False,
  planned_n: int | None = None,
  stop: str | None = None,
  max_runs: int | None = None,
  claims: Sequence[Mapping[str, Any]] = (),
  progress: Progress | None = None,
  checkpoint_every: float = 600.0,
  quiet: bool = False,
):
  """Trains every run not yet in the store and returns the whole sweep as an xarray.Dataset.

  The same call again resumes what was interrupted and ends with the same bits;
  with more runs it extends the sweep.

  Args:
    what, arguments, seeds, data_dir: see `experiment`.
    runs: run numbers, or how many (0, 1, ...); None: all of a crossed design.
    out: the directory of the store.
    lanes: "auto" (a fixed rule), "loop", "vmap", or "measure" (times them and records the choice).
    width: lanes of a program in mode "vmap".
    workers: worker processes; None: one per core the container may use, or one per accelerator.
    executor: runs the chunks elsewhere, e.g. `distributed.Client().get_executor()`.
    new_fingerprint: go on although programs, versions or devices changed since the store was made.
    planned_n: the number of runs at which `comparisons.compare` judges the sweep first, where
      it is not that of the first call (the plan, recorded before training and never changed; runs
      that are added are looked at when their number has doubled).
    stop: instead of `runs`, a rule such as "ci_width(test_accuracy)<0.001" (see `stopping`).
    max_runs: with `stop`, the most runs to train.
    claims: `claims.record(...)`, kept in the manifest before the first run.
    progress: counts the runs in a display that serves several sweeps.
    checkpoint_every: seconds after which runs under way are saved again; 0: never.
    quiet: no progress on stderr.

  Raises:
    UserError: input that cannot be right; what is on disk stays as it was.
  """
  described = experiment(what, arguments, seeds, data_dir)
  plans = stopping.plans_of(planned_n, stop, max_runs, runs, described.seeds, claims)
  wanted = run_numbers(max_runs if plans.rule else runs, described.seeds)
  check_workers(workers)
  _check_seconds(checkpoint_every)
  records.exists(out)  # refuses a foreign directory before anything is put into it
  options = _Options(
    lanes, width, workers, executor, new_fingerprint, checkpoint_every, progress, quiet
  )
  with records.lock(out):
    _complete(described, wanted, out, plans, options)
    return _tidied(out)


def run_numbers(runs: Iterable[int] | int | None, seeds: Seeds) -> list[int]:
  """The runs asked for, checked."""
  if seeds.design == "crossed":
    numbers = streams.runs_of_design(seeds)
    if runs is not None and list(_range(runs)) not in (numbers, list(range(len(numbers)))):
      raise UserError(
        f"runs={runs} does not go with a crossed design, whose levels {seeds.levels} make"
        f" {len(numbers)} runs; leave runs out"
      )
    return numbers
  if runs is None:
    raise UserError("runs is missing: say how many, e.g. runs=1000")
  numbers = list(_range(runs))
  if not numbers:
    raise UserError(f"runs={runs} must be at least 1")
  if len(set(numbers)) != len(numbers):
    raise UserError("runs names a run more than once")
  for run in (min(numbers), max(numbers)):
    streams.seeds_of_run(run, seeds)  # within [0, 2^32)
  return numbers


def plan(
  what: Config | Mapping[str, Any] | str | Callable[..., Any],
  runs: Iterable[int] | int | None,
  *,
  arguments: Mapping[str, Any] | None = None,
  seeds: Mapping[str, Any] | None = None,
  data_dir: str | None = None,
  lanes: str = "auto",
  width: int | None = None,
  workers: int | None = None,
  quiet: bool = False,
) -> dict[str, Any]:
  """What a sweep will cost, from its compiled programs and half a second of training."""
  say(quiet, "planning: reading the data, compiling, measuring the speed; nothing is trained")
  described = experiment(what, arguments, seeds, data_dir)
  wanted = run_numbers(runs, described.seeds)
  check_workers(workers)
  with executor_of(workers, None) as (pool, count):
    facts = describe(pool, described, lanes, width, quiet=True)
  steps, evaluations, costs = facts["plan"][-1], len(facts["plan"]), facts["costs"]
  return {
    "runs": len(wanted),
    "steps_per_run": steps,
    "evaluations_per_run": evaluations,
    "flops_per_step": costs["flops_step"],
    "flops_per_run": costs["flops_step"] * steps + costs["flops_evaluation"] * evaluations,
    "mode": facts["fingerprint"]["mode"],
    "width": facts["fingerprint"]["width"],
    "workers": count,
    "bytes_per_lane": costs["bytes_lane"],
    "bytes_shared_per_worker": costs["bytes_shared"],
    "seconds_per_run_and_worker": facts["seconds_per_run"],
    "hours": facts["seconds_per_run"] * math.ceil(len(wanted) / count) / 3600,
  }


class _Options(NamedTuple):
  """How a sweep is run. Of these, lane mode and width alone are part of the numerics."""

  lanes: str
  width: int | None
  workers: int | None
  executor: concurrent.futures.Executor | None
  new_fingerprint: bool
  checkpoint_every: float
  progress: Progress | None  # of the caller, for several sweeps
  quiet: bool


def _complete(described: Experiment, wanted, out, plans: stopping.Plans, options: _Options) -> None:
  """Trains what is missing of `wanted`, if anything is; the directory is locked."""
  quiet = options.quiet
  known = records.manifest(out) if records.exists(out) else None
  writer: records.Writer | None = None
  done: set[int] = set()
  if known:
    described = going_on(described, known)
    check_same(described, known, out)
    stopping.check_plans(plans, known, out, quiet)
    lanes, width = _same_lanes(known, options.lanes, options.width, out)
    options = options._replace(lanes=lanes, width=width)
    writer = records.Writer(out)  # which writes what the manifest implies anew
    if writer.damage:
      arrays = ", ".join(map(str, writer.damage[:4])) + ", ..." * (len(writer.damage) > 4)
      say(quiet, f"{os.fspath(out)} is damaged: {arrays}; what was lost is made again")
    if plans.rule and stopping.already_stopped(writer, plans.rule, quiet):
      return
    done = set(writer.runs[writer.completed].tolist())
  if options.progress:
    options.progress.found(len(done.intersection(wanted)))
  if writer and done.issuperset(wanted) and not writer.lost_labels:
    say(quiet, f"{os.fspath(out)} already holds {errors.counted(len(wanted), 'run')}, all finished")
    return
  saved = 0
  try:
    with executor_of(options.workers, options.executor) as (pool, count):
      facts = describe(pool, described, options.lanes, options.width, quiet=quiet)
      if not writer:
        stopping.check_metric(plans.rule, facts)
        _create(described, wanted, out, facts, plans)
        writer = records.Writer(out)
      try:
        _train(described, wanted, writer, facts, pool, count, plans.rule, options)
      except KeyboardInterrupt:  # a second one comes out of here at once
        saved = _save(pool, options)
        raise
  except KeyboardInterrupt:
    kept = int(writer.completed.sum()) if writer else 0
    under_way = ", and those under way as they were saved last" * bool(options.checkpoint_every)
    if saved:
      under_way = f", and {errors.counted(saved, 'run')} under way saved just now"
    say(
      _silent(options),
      f"stopped with {errors.counted(kept, 'finished run')} in {os.fspath(out)}{under_way}; the"
      " same command goes on",
    )
    raise


def _save(pool: concurrent.futures.Executor, options: _Options) -> int:
  """Has the workers of a sweep that is stopped save what they are at; how many runs they saved.

  On somebody else's executor nobody can be asked: what was saved last is what is kept.
  """
  if not options.checkpoint_every or not isinstance(pool, WorkerPool):
    return 0
  say(
    _silent(options),
    f"saving the runs under way, for {_SAVING_SECONDS} s at most; stop it again to end at once",
  )
  return pool.save(_SAVING_SECONDS)


def _silent(options: _Options) -> bool:
  """Whether nothing is to be said when a sweep is stopped, which one of several must."""
  return options.progress.quiet if options.progress else options.quiet


def _train(described, wanted, writer, facts, pool, count, rule, options) -> None:
  """Trains the runs of a store that are missing and writes them."""
  out = writer.path
  fingerprint, quiet = facts["fingerprint"], options.quiet
  mode, width = fingerprint["mode"], fingerprint["width"]
  labels = {name: np.asarray(values) for name, (_, values) in facts["coords"].items()}
  writer.restore({"evaluation": np.array(facts["plan"]), **labels})
  if rule and rule.text != writer.attributes.get("stop"):
    writer.set_attributes(stop=rule.text)
  index = _fingerprint_index(writer, fingerprint, out, options.new_fingerprint)
  kept = set(writer.runs.tolist())
  new = [run for run in wanted if run not in kept]
  if new:
    writer.extend(new, _seeds(new, described))
  stopping.say_looks(writer.attributes.get("planned_n"), len(kept) + len(new), quiet)
  pending = _pending(writer, wanted, width, count, stopping.LOOK if rule else None)
  total = sum(len(rows) for rows in pending)
  headline = errors.counted(total, "run") + " at most" * bool(rule)
  headline += f", {errors.counted(count, 'worker')}, lanes={mode}"
  headline += f" x {width}" * (mode == "vmap")
  say(quiet, f"{headline}; about {_duration(facts['seconds_per_run'] * total / count)}")
  spec, saves = spec_of(described, mode, width), _saves(out, options.checkpoint_every)

  def submit(rows):
    seeds = _seeds(writer.runs[rows], described).tolist()
    return pool.submit(tasks.compute, spec, seeds, False, saves, described.code)

  ahead = 2 * count if rule else len(pending)
  shared = options.progress and contextlib.nullcontext(options.progress)
  with shared or Progress(total, quiet) as progress:
    if isinstance(pool, WorkerPool):
      pool.on_progress = progress.part
    for rows, task in _finished(submit, pending, ahead, in_order=rule is not None):
      result = task.result()
      _check_bits(fingerprint, result["fingerprint"])
      stopped = _write(writer, rows, _columns(result, len(rows), index), rule)
      progress.finished(getattr(task, "task", None), len(rows))
      if stopped is not None:
        say(quiet, f"{rule.text} after {errors.counted(stopped, 'run')}: stopped")
        return
      checkpoints.remove(out, result["saved"])
  if rule:
    runs = errors.counted(len(wanted), "run")
    say(quiet, f"{rule.text} is not met after {runs}; raise max_runs to go on")


def _seeds(runs: Iterable[int], described: Experiment) -> np.ndarray:
  """uint32[len(runs), streams]."""
  return np.stack([streams.seeds_of_run(int(run), described.seeds) for run in runs])


def _check_bits(first: Mapping[str, Any], other: Mapping[str, Any]) -> None:
  if other != first:
    raise UserError(
      "a worker computes other bits than the first one:"
      f" {errors.changes(config.differences(first, other))}; use workers of one kind"
    )


def _columns(result: Mapping[str, Any], runs: int, fingerprint: int) -> dict[str, np.ndarray]:
  """What the store keeps of a finished task."""
  return {
    **result["outcome"],
    "digest": result["digest"],
    "diverged": result["diverged"],
    "seconds": np.full(runs, result["seconds"], np.float32),
    "fingerprint": np.full(runs, fingerprint, np.int32),
  }


def _write(writer: records.Writer, rows, columns, rule: stopping.Rule | None) -> int | None:
  """Stores a finished task; with a rule, after how many runs it is met, or None.

  A rule is looked at after every tenth run, and nothing is kept beyond the run that meets it.
  """
  if rule is None:
    writer.write(rows, columns)
    return None
  for part in stopping.to_looks(rows):
    at = part - rows[0]
    writer.write(part, {name: values[at] for name, values in columns.items()})
    stopped = stopping.stopping_run(writer, rule)
    if stopped is not None:
      writer.truncate(stopped)
      return stopped
  return None


def _saves(out, seconds: float) -> list[Any] | None:
  """What tasks are told about checkpoints; their folder has to be there, or they cannot write."""
  if not seconds:
    return None
  folder = checkpoints.folder(out)
  with contextlib.suppress(OSError):  # a worker that has something to save will say it
    folder.mkdir(exist_ok=True)
  return [os.fspath(folder), seconds]


def _tidied(out):
  """The sweep, without checkpoints if no run of it is missing."""
  dataset = records.open(out)
  if dataset["completed"].values.all():
    checkpoints.clear(out)
  return dataset


def _finished(submit, pending, ahead: int, in_order: bool) -> Iterator[tuple[np.ndarray, Any]]:
  """(rows, task) as tasks finish, or in their order, no more than `ahead` of them under way.

  An exception or Ctrl-C leaves none of them queued.
  """
  waiting, running = list(pending)[::-1], {}
  try:
    while waiting or running:
      while waiting and len(running) < ahead:
        rows = waiting.pop()
        running[submit(rows)] = rows
      first = next(iter(running))
      if in_order:
        concurrent.futures.wait([first])
        done = [first]
      else:
        done, _ = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
      for task in done:
        yield running.pop(task), task
  finally:
    for task in running:
      task.cancel()


def _create(described: Experiment, wanted, out, facts, plans: stopping.Plans) -> None:
  """Makes the store; its chunk is fixed here."""
  fingerprint = facts["fingerprint"]
  chunk = _chunk(facts["seconds_per_run"], fingerprint["width"])
  metrics = [name for name, (dims, *_) in facts["outcome"].items() if "example" not in dims]
  environment = host.environment()
  records.create(
    out,
    runs=wanted,
    seeds=_seeds(wanted, described),
    plan=facts["plan"],
    outcome=facts["outcome"],
    coords={name: (dim, labels) for name, (dim, labels) in facts["coords"].items()},
    chunk=chunk,
    attributes={
      "seedlab_version": __version__,
      "created": host.now(),
      **described.record,
      "metrics": metrics,
      "meanings": facts["meanings"],
      "vary": list(described.seeds.vary),
      "design": described.seeds.design,
      "planned_n": stopping.recorded(plans, len(wanted)),
      "stop": plans.rule.text if plans.rule else None,
      "claims": plans.claims,
      "fingerprints": [fingerprint],
      "data_digest": fingerprint["data"],
      "evaluation_digest": facts["evaluation_digest"],
      **environment,
    },
  )


def _chunk(seconds_per_run: float, width: int) -> int:
  """Runs per chunk, a multiple of `width`: about ten seconds of work."""
  runs = min(_CHUNK_SECONDS / max(seconds_per_run, 1e-6), _MOST_IN_CHUNK)
  return max(1, round(runs / width)) * width


def _pending(
  writer: records.Writer,
  wanted: Sequence[int],
  width: int,
  workers: int,
  most: int | None = None,
) -> list[np.ndarray]:
  """The rows still to be computed, task by task.

  A task lies within a chunk, and is shorter where there would be fewer than four
  a worker, so that all workers end at about the same time, or where it would have
  more than `most` runs (rounded up to the width).
  """
  rows = np.flatnonzero(~writer.completed & np.isin(writer.runs, wanted))
  longest = max(1, math.ceil(len(rows) / (4 * workers * width))) * width
  longest = min(longest, math.ceil((most or longest) / width) * width)
  edges = np.flatnonzero(np.diff(rows // writer.chunk)) + 1
  return [
    part[at : at + longest] for part in np.split(rows, edges) for at in range(0, len(part), longest)
  ]


def _fingerprint_index(writer: records.Writer, fingerprint, out, accept: bool) -> int:
  """Where `fingerprint` stands in the store's table; a new one must be asked for."""
  table = writer.attributes["fingerprints"]
  if fingerprint in table:
    return table.index(fingerprint)
  if writer.completed.any() and not accept:
    changes = config.differences(table[-1], fingerprint)
    remedy = "go on in another directory, or here with --new_fingerprint"
    if "data" in [field for field, _, _ in changes]:
      remedy = "the data or the file of model.initial is another one: go on in another directory"
    raise UserError(
      f"out={os.fspath(out)!r} holds runs of another fingerprint, so new ones would not be"
      f" comparable bit for bit: {errors.changes(changes)}; {remedy}"
    )
  table = [*table, fingerprint] if writer.completed.any() else [fingerprint]
  writer.set_attributes(fingerprints=table)
  return len(table) - 1


def _same_lanes(known: Mapping[str, Any], lanes: str, width: int | None, out):
  """The store's lane mode and width; another one asked for by name is refused."""
  first = known["fingerprints"][0]
  asked = (lanes if lanes in ("loop", "vmap") else first["mode"], width or first["width"])
  if asked != (first["mode"], first["width"]):
    raise UserError(
      f"lanes={lanes}{f', width={width}' if width else ''}: out={os.fspath(out)!r} was made with"
      f" lanes={first['mode']}, width={first['width']}, which is part of its numerics; leave lanes"
      " out or choose another directory"
    )
  return first["mode"], first["width"]


def _check_seconds(checkpoint_every: float) -> None:
  number = isinstance(checkpoint_every, int | float) and not isinstance(checkpoint_every, bool)
  if not number or not 0 <= checkpoint_every < math.inf:
    raise UserError(
      f"checkpoint_every={checkpoint_every!r} must be a number of seconds, 0 for no checkpoints"
    )


def _range(runs: Iterable[int] | int) -> Sequence[int]:
  text = isinstance(runs, str | bytes)
  if text or not isinstance(runs, Iterable) or getattr(runs, "ndim", 1) == 0:
    count = errors.whole("runs", runs)
    if count < 1:
      raise UserError(f"runs={runs} must be at least 1")
    runs = range(count)
  if not isinstance(runs, range):
    return [errors.whole("runs", run) for run in runs]
  if len(runs) > _MOST_RUNS:
    raise UserError(f"runs={runs} are more than {_MOST_RUNS:,} runs, the most one store takes")
  return runs


def _duration(seconds: float) -> str:
  if seconds < 90:
    return f"{seconds:.0f} s"
  return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
