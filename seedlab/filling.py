"""The runs of a store that are missing, trained on an executor and written as they arrive.

A task lies within a chunk of the store. One that fails is halved until the run that is to blame
stands alone, which is stored as failed (see `dispatch`). A stopping rule is looked at as runs
arrive in their order.
"""

import concurrent.futures
import contextlib
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from seedlab import checkpoints, config, designs, dispatch, errors, records, stopping, tasks
from seedlab.errors import UserError
from seedlab.experiment import Experiment, spec_like
from seedlab.pool import WorkerPool
from seedlab.progress import Progress, duration, say


class Options(NamedTuple):
  """How a sweep is run. Of these, lane mode and width alone are part of the numerics."""

  lanes: str
  width: int | None
  workers: int | None
  executor: concurrent.futures.Executor | None
  new_fingerprint: bool
  checkpoint_every: float
  retry_failed: bool
  stall_minutes: float
  run_minutes: float | None
  planned: int | None  # of the whole sweep, for a store that is made
  shard: tuple[int, int] | None
  progress: Progress | None  # of the caller, for several sweeps
  quiet: bool


def fill(
  described: Experiment,
  wanted: Sequence[int],
  writer: records.Writer,
  facts: Mapping[str, Any],
  pool: concurrent.futures.Executor,
  count: int,
  rule: stopping.Rule | None,
  options: Options,
) -> None:
  """Trains the runs of a store that are missing, or until `rule` is met, and writes them.

  Args:
    wanted: run numbers; those that are new to the store are added to it.
    facts: what `experiment.describe` found out in a worker.
    count: the tasks that `pool` can run at once.
  """
  labels = {name: np.asarray(values) for name, (_, values) in facts["coords"].items()}
  lost = writer.lost_labels
  writer.restore({"evaluation": np.array(facts["plan"]), **labels})
  if rule and lost and stopping.already_stopped(writer, rule, options.quiet):
    return
  if rule and rule.text != writer.attributes.get("stop"):
    writer.set_attributes(stop=rule.text)
  index = _fingerprint_index(writer, facts["fingerprint"], writer.path, options.new_fingerprint)
  _make_room(described, wanted, writer, options)
  _train(described, wanted, writer, facts, pool, count, rule, options, index)


def _make_room(
  described: Experiment, wanted: Sequence[int], writer: records.Writer, options: Options
) -> None:
  """Adds the runs that are new to the store, and forgets the failures that are tried again."""
  kept = set(writer.runs.tolist())
  new = [run for run in wanted if run not in kept]
  if new:
    writer.extend(new, seeds_of(new, described))
  if not options.shard:
    planned = writer.attributes.get("planned_n")
    stopping.say_looks(planned, len(kept) + len(new), options.quiet)
  if options.retry_failed:
    writer.forget_failures(np.flatnonzero(writer.failed & np.isin(writer.runs, wanted)))


def _train(described, wanted, writer, facts, pool, count, rule, options, index) -> None:
  """Trains and writes the runs that are missing; `index` is the place of their fingerprint."""
  out = writer.path
  fingerprint, quiet = facts["fingerprint"], options.quiet
  mode, width = fingerprint["mode"], fingerprint["width"]
  pending = _pending(writer, wanted, width, count, stopping.LOOK if rule else None)
  total = sum(len(rows) for rows in pending)
  headline = errors.counted(total, "run") + " at most" * bool(rule)
  headline += f", {errors.counted(count, 'worker')}, lanes={mode}"
  headline += f" x {width}" * (mode == "vmap")
  say(quiet, f"{headline}; about {duration(facts['seconds_per_run'] * total / count)}")
  spec, saves = spec_like(described, fingerprint), _saves(out, options.checkpoint_every)

  def submit(rows):
    seeds = seeds_of(writer.runs[rows], described).tolist()
    return pool.submit(tasks.compute, spec, seeds, False, saves, described.code)

  def report(rows, seconds):
    remedy = "--run_minutes=M ends such runs, which have then failed, and goes on with the others"
    limited = options.run_minutes is not None or not isinstance(pool, WorkerPool)
    said = f"{_named(writer.runs[rows])}: no word for {duration(seconds)}"
    say(quiet, said + f"; {remedy}" * (not limited))

  watch = dispatch.Watch(
    width=width,
    expected=facts["seconds_per_run"] * width,
    silent=60 * options.stall_minutes,
    longest=options.run_minutes and 60 * options.run_minutes,
    report=report,
  )
  shared = options.progress and contextlib.nullcontext(options.progress)
  with shared or Progress(total, quiet) as progress:
    if hasattr(pool, "on_progress"):  # seedlab's own
      pool.on_progress = progress.part
    tasks_done = dispatch.outcomes(pool, submit, pending, watch, rule is not None, options.workers)
    for rows, task, result in _failures_stored(tasks_done, writer, index, quiet):
      number = getattr(task, "task", None)
      if isinstance(result, dispatch.Failed):
        progress.finished(number, len(rows) if len(rows) == 1 else 0)
        continue
      _check_bits(fingerprint, result["fingerprint"])
      stopped = _write(writer, rows, _columns(result, len(rows), index), rule)
      progress.finished(number, len(rows))
      if rule and stopped is not None:
        say(quiet, f"{rule.text} after {errors.counted(stopped, 'run')}: stopped")
        return
      checkpoints.remove(out, result["saved"])
  failed = int((writer.failed & np.isin(writer.runs, wanted)).sum())
  if failed:
    say(quiet, f"{errors.counted(failed, 'run')} failed; --retry_failed trains what failed again")
  if rule:
    runs = errors.counted(len(wanted), "run")
    say(quiet, f"{rule.text} is not met after {runs}; raise max_runs to go on")


def _failures_stored(tasks_done, writer: records.Writer, index: int, quiet: bool):
  """The tasks as they come, with the single runs among them that failed written to the store.

  Not before any run has finished: where the first ones fail it is the experiment that is wrong, and
  its error is raised, and nothing is stored.
  """
  unwritten, in_a_row = [], 0
  for rows, task, result in tasks_done:
    failed = isinstance(result, dispatch.Failed)
    if failed and len(rows) > 1:
      named = _named(writer.runs[rows])
      say(quiet, f"{named} failed ({result.reason}); trained again in two parts, to find which")
    elif failed:
      say(quiet, f"{_named(writer.runs[rows])} failed ({result.reason})")
      unwritten.append((rows, result.reason))
      in_a_row += 1
    else:
      in_a_row = 0
    if not failed or writer.completed.any():
      for lost, reason in unwritten:
        writer.fail(lost, reason, index)
      unwritten.clear()
    if failed:
      dispatch.check_failures(in_a_row, bool(writer.completed.any()), result)
    yield rows, task, result
  if unwritten:
    raise result.error


def seeds_of(runs: Iterable[int], described: Experiment) -> np.ndarray:
  """uint32[len(runs), streams]."""
  return np.stack([designs.seeds_of_run(int(run), described.seeds) for run in runs])


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

  A rule is looked at after every tenth run that did not fail, and nothing is kept beyond the run
  that meets it.
  """
  if rule is None:
    writer.write(rows, columns)
    return None
  for part in stopping.to_looks(rows, int(writer.failed[: rows[0]].sum())):
    at = np.searchsorted(rows, part)  # rows between them may be finished: these were damaged
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


def _named(runs: np.ndarray) -> str:
  """Runs of a task in words."""
  if len(runs) == 1:
    return f"run {runs[0]}"
  ascending = (np.diff(runs) == 1).all()
  return f"runs {runs[0]} to {runs[-1]}" + f" ({len(runs):,} of them)" * (not ascending)


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
  rows = np.flatnonzero(~writer.completed & ~writer.failed & np.isin(writer.runs, wanted))
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
