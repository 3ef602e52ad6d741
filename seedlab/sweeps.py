"""Many runs of one experiment: what is asked for, checked, and what is missing of it, trained.

  describe the experiment in a worker: lane mode, fingerprint, shapes, speed
  make the store, or read what is there; refuse another experiment
  fill in the runs that are missing (see `filling`)

The parent process starts no JAX backend.
"""

import concurrent.futures
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from seedlab import (
  __version__,
  checkpoints,
  declared,
  designs,
  errors,
  filling,
  host,
  records,
  shards,
  stopping,
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
)
from seedlab.pool import WorkerPool, check_workers
from seedlab.progress import Progress, say

_CHUNK_SECONDS = 10.0
_MOST_IN_CHUNK = 1024
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
  shard: str | None = None,
  retry_failed: bool = False,
  stall_minutes: float = 10.0,
  run_minutes: float | None = None,
  quiet: bool = False,
):
  """Trains what is not yet in the store of the runs asked for, and returns these as a Dataset.

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
    shard: "2/7" trains the second of seven equal blocks of the runs into OUT.shards/2-of-7, which
      `merge` puts together; "auto" asks the batch system (see `shards`).
    retry_failed: train the runs again that failed before: those that ended their worker again and
      again, raised an error or took too long. They are stored with the reason and without numbers.
    stall_minutes: without a word from a run for so long, that is said; 0: never.
    run_minutes: a run that takes longer has failed and is ended; None: as long as it takes.
    quiet: no progress on stderr.

  Raises:
    UserError: input that cannot be right; what is on disk stays as it was.
  """
  described = experiment(what, arguments, seeds, data_dir)
  plans = stopping.plans_of(planned_n, stop, max_runs, runs, described.seeds, claims)
  wanted = run_numbers(max_runs if plans.rule else runs, described.seeds)
  planned = stopping.recorded(plans, len(wanted))
  part = None if shard is None else _shard(shard, stop)
  if part:
    wanted, out = shards.block(wanted, part), shards.place(out, part)
  options = filling.Options(
    lanes, width, workers, executor, new_fingerprint, checkpoint_every, retry_failed, stall_minutes,
    run_minutes, planned, part, progress, quiet,
  )  # fmt: skip
  _check(options)
  records.exists(out)  # refuses a foreign directory before anything is put into it
  with records.lock(out):
    _complete(described, wanted, out, plans, options)
    return _tidied(out, wanted)


def run_numbers(runs: Iterable[int] | int | None, seeds: Seeds) -> list[int]:
  """The runs asked for, checked."""
  if seeds.design == "crossed":
    numbers = designs.runs_of_design(seeds)
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
    designs.seeds_of_run(run, seeds)  # within [0, 2^32)
  return numbers


def _complete(
  described: Experiment, wanted, out, plans: stopping.Plans, options: filling.Options
) -> None:
  """Trains what is missing of `wanted`, if anything is; the directory is locked."""
  quiet = options.quiet
  known = records.manifest(out) if records.exists(out) else None
  writer: records.Writer | None = None
  done: set[int] = set()
  lowering = None
  if known:
    described = going_on(described, known)
    check_same(described, known, out)
    stopping.check_plans(plans, known, out, quiet)
    lanes, width = _same_lanes(known, options.lanes, options.width, out)
    lowering = known["fingerprints"][0].get("lowering")
    options = options._replace(lanes=lanes, width=width)
    writer = records.Writer(out)  # which writes what the manifest implies anew
    if writer.damage:
      arrays = ", ".join(map(str, writer.damage[:4])) + ", ..." * (len(writer.damage) > 4)
      say(quiet, f"{os.fspath(out)} is damaged: {arrays}; what was lost is made again")
    sound = not writer.lost_labels  # else a worker is asked for them, before anything is decided
    if plans.rule and sound and stopping.already_stopped(writer, plans.rule, quiet):
      return
    finished = writer.completed if options.retry_failed else writer.completed | writer.failed
    done = set(writer.runs[finished].tolist())
  if options.progress:
    options.progress.found(len(done.intersection(wanted)))
  if writer and done.issuperset(wanted) and sound:
    say(quiet, f"{os.fspath(out)} already holds {_held(writer, wanted)}")
    return
  saved = 0
  try:
    with executor_of(options.workers, options.executor) as (pool, count):
      facts = describe(
        pool,
        described,
        options.lanes,
        options.width,
        quiet=quiet,
        lowering=lowering,
        runs=_each(len(wanted), count, options),
      )
      if not writer:
        stopping.check_metric(plans.rule, facts)
        _create(described, wanted, out, facts, plans, options)
        writer = records.Writer(out)
      try:
        filling.fill(described, wanted, writer, facts, pool, count, plans.rule, options)
      except KeyboardInterrupt:  # a second one comes out of here at once
        saved = _save(pool, options)
        raise
  except KeyboardInterrupt:
    kept = int(writer.completed.sum()) if writer else 0
    may_be = bool(writer and options.checkpoint_every)
    under_way = ", and those under way as they were saved last" * may_be
    if saved:
      under_way = f", and {errors.counted(saved, 'run')} under way saved just now"
    say(
      _silent(options),
      f"stopped with {errors.counted(kept, 'finished run')} in {os.fspath(out)}{under_way}; the"
      " same command goes on",
    )
    raise


def _each(runs: int, count: int, options: filling.Options) -> int:
  """How many runs a worker will train, for the choice of lanes.

  All shards of a sweep have to choose alike, whose blocks differ by one and whose machines may have
  different numbers of workers.
  """
  if options.shard is None:
    return math.ceil(runs / count)
  parts = options.shard[1]
  return math.ceil((options.planned or runs * parts) / parts)


def _save(pool: concurrent.futures.Executor, options: filling.Options) -> int:
  """Has the workers of a sweep that is stopped save what they are at; how many runs they saved.

  On somebody else's executor nobody can be asked: what was saved last is what is kept.
  """
  if not options.checkpoint_every or not hasattr(pool, "save"):
    return 0
  say(
    _silent(options),
    f"saving the runs under way, for {_SAVING_SECONDS} s at most; stop it again to end at once",
  )
  return pool.save(_SAVING_SECONDS)


def _silent(options: filling.Options) -> bool:
  """Whether nothing is to be said when a sweep is stopped, which one of several must."""
  return options.progress.quiet if options.progress else options.quiet


def _tidied(out, wanted: Sequence[int]):
  """The runs of the store that were asked for, without checkpoints if no run of it is missing."""
  dataset = records.open(out)
  if dataset["completed"].values.all():
    checkpoints.clear(out)
  asked = np.isin(dataset["run"].values, wanted)
  return dataset if asked.all() else dataset.isel(run=np.flatnonzero(asked))


def _held(writer: records.Writer, wanted: Sequence[int]) -> str:
  """What a store holds of the runs asked for, where nothing of them is left to train."""
  failed = int((writer.failed & np.isin(writer.runs, wanted)).sum())
  runs = errors.counted(len(wanted), "run")
  if not failed:
    return f"{runs}, all finished"
  return f"{runs}, {failed:,} of them failed; --retry_failed trains what failed again"


def _create(
  described: Experiment, wanted, out, facts, plans: stopping.Plans, options: filling.Options
) -> None:
  """Makes the store; its chunk is fixed here."""
  fingerprint = facts["fingerprint"]
  chunk = _chunk(facts["seconds_per_run"], fingerprint["width"])
  metrics = [name for name, (dims, *_) in facts["outcome"].items() if "example" not in dims]
  environment = host.environment()
  records.create(
    out,
    runs=wanted,
    seeds=filling.seeds_of(wanted, described),
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
      "planned_n": options.planned,
      "stop": plans.rule.text if plans.rule else None,
      "claims": plans.claims,
      "fingerprints": [fingerprint],
      "data_digest": fingerprint["data"],
      "evaluation_digest": facts["evaluation_digest"],
      **({"lanes_evidence": facts["evidence"]} if facts["evidence"] else {}),
      **({"shard": list(options.shard)} if options.shard else {}),
      **environment,
    },
  )


def _chunk(seconds_per_run: float, width: int) -> int:
  """Runs per chunk, a multiple of `width`: about ten seconds of work."""
  runs = min(_CHUNK_SECONDS / max(seconds_per_run, 1e-6), _MOST_IN_CHUNK)
  return max(1, round(runs / width)) * width


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


def _check_time(field: str, value: float, form: str) -> None:
  number = isinstance(value, int | float) and not isinstance(value, bool)
  if not number or not 0 <= value < math.inf:
    raise UserError(f"{field}={value!r} must be a number of {form}")


def _check(options: filling.Options) -> None:
  """Raises UserError for options that cannot be right, or do not go together."""
  check_workers(options.workers)
  _check_time("checkpoint_every", options.checkpoint_every, "seconds, 0 for no checkpoints")
  _check_time("stall_minutes", options.stall_minutes, "minutes, 0 for no report")
  if options.run_minutes is None:
    return
  _check_time("run_minutes", options.run_minutes, "minutes")
  if not options.run_minutes:
    raise UserError("run_minutes=0 leaves no time for a run; give the minutes that one may take")
  if options.executor is not None and not isinstance(options.executor, WorkerPool):
    raise UserError(
      f"run_minutes={options.run_minutes} is for workers of seedlab's own: those of another"
      " executor cannot be ended from here; leave it out, and let the batch system's limit end them"
    )


def _shard(text: str, stop: str | None) -> tuple[int, int]:
  if stop is not None:
    raise UserError(
      f"shard={text!r} and stop={stop!r} exclude each other: a rule looks at the runs in their"
      " order, which shards do not train in; give runs instead"
    )
  return shards.parse(text)


def _range(runs: Iterable[int] | int) -> Sequence[int]:
  text = isinstance(runs, str | bytes)
  if text or not isinstance(runs, Iterable) or getattr(runs, "ndim", 1) == 0:
    count = errors.whole("runs", runs)
    if count < 1:
      raise UserError(f"runs={runs} must be at least 1")
    runs = range(count)
  if not isinstance(runs, range):
    return [errors.whole("runs", run) for run in runs]
  if len(runs) > declared.MOST_RUNS:
    most = f"{declared.MOST_RUNS:,}"
    raise UserError(f"runs={runs} are more than {most} runs, the most one store takes")
  return runs
