"""Many runs of one experiment: plan chunks, run them on an executor, resume, replay.

  describe the experiment in a worker: lane mode, fingerprint, shapes, speed
  make or extend the store; refuse another experiment, another fingerprint
  one task for each chunk with runs missing; write each chunk as it arrives

The parent process starts no JAX backend.
"""

import concurrent.futures
import contextlib
import dataclasses
import functools
import importlib
import json
import math
import os
import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from seedlab import __version__, checkpoints, config, errors, host, parts, records, streams, tasks
from seedlab.config import Config, Seeds
from seedlab.errors import UserError
from seedlab.pool import Code, WorkerPool
from seedlab.progress import Progress

_CHUNK_SECONDS = 10.0
_LOOK = 10  # runs of a task that a stopping rule waits for; its looks are as far apart
_MOST_IN_CHUNK = 1024
_MOST_WORKERS = 4 * (os.cpu_count() or 1)
_MOST_RUNS = 10_000_000
_TOLERANCE = 0.01  # what other roundings do to the outcome of a short training
_PATIENCE = 5.0  # seconds without a word
_MEASURED = (("loop", 1), ("vmap", 8), ("vmap", 16), ("vmap", 32))  # what lanes=measure tries


class Experiment(NamedTuple):
  """What is trained: a function that builds a Trainer, and its JSON arguments."""

  function: str  # "module:name"
  arguments: dict[str, Any]
  config: Config | None  # None for a Trainer of the user's own
  seeds: Seeds
  code: Code | None = None  # the function itself, where workers cannot import it

  @property
  def record(self) -> dict[str, Any]:
    """What the manifest keeps, and what must agree when a sweep goes on."""
    if self.config:
      values = config.to_dict(self.config)
      del values["seeds"]["levels"]  # more levels extend the sweep
      return {"config": values, "config_digest": config.digest(self.config)}
    seeds = dataclasses.asdict(self.seeds)
    del seeds["levels"]
    return {
      "config": None,
      "trainer": {
        "function": self.function,
        "arguments": self.arguments,
        "seeds": json.loads(json.dumps(seeds)),
      },
    }


class Replay(NamedTuple):
  """A recorded run beside its repetition."""

  run: int
  recorded: str  # digests of the final state
  computed: str
  changed: list[tuple[str, Any, Any]]  # (fingerprint field, recorded, here)
  deviation: dict[str, float]  # outcome -> largest difference; of integers, the share that differ
  params: Any  # {path: array} of the repeated run

  @property
  def exact(self) -> bool:
    return self.recorded == self.computed

  @property
  def passed(self) -> bool:
    """False only if the same fingerprint gave other bits; another one promises nothing."""
    return self.exact or bool(self.changed)

  def verdict(self, directory: str | os.PathLike) -> str:
    """The result in a few plain lines."""
    if self.exact:
      return "exact" + " (although the fingerprint changed)" * bool(self.changed)
    if not self.changed:
      return "DIFFERENT: the same fingerprint, yet another final state; please report this as a bug"
    lines = [
      "not comparable bit for bit: the fingerprint changed",
      *(f"  {field}: {_short(there)} -> {_short(here)}" for field, there, here in self.changed),
      "largest difference of each outcome (of whole numbers: the share that differs):",
      *(
        f"  {name}: {value:.3g}{' (more than rounding)' * (value > _TOLERANCE)}"
        for name, value in self.deviation.items()
      ),
    ]
    if any(field in ("jax", "jaxlib") for field, *_ in self.changed):
      lines += [
        "to restore the recorded environment:",
        f"  python scripts/replay.py {os.fspath(directory)} --lock > recorded.txt",
        "  python -m venv .venv-recorded && .venv-recorded/bin/pip install -r recorded.txt",
        "  .venv-recorded/bin/pip install --no-deps .",
      ]
    return "\n".join(lines)


def experiment(
  what: Config | Mapping[str, Any] | str | Callable[..., Any],
  arguments: Mapping[str, Any] | None = None,
  seeds: Mapping[str, Any] | None = None,
  data_dir: str | None = None,
) -> Experiment:
  """An Experiment from a Config (or what `config.parse` takes) or a function building a Trainer.

  Args:
    what: a Config, a mapping, a function, or its name "module:function".
    arguments: JSON arguments of the function; a Config has none.
    seeds: fields of `config.Seeds`, for a function; a Config has its own.
    data_dir: the tensorflow-datasets directory, for a Config.
  """
  if not isinstance(what, str) and not callable(what):
    if arguments or seeds:
      raise UserError("arguments and seeds are for a Trainer of your own; a config has its own")
    parsed = config.parse(what)
    directory = os.path.abspath(data_dir) if data_dir else None
    values = {"config": config.to_dict(parsed), "data_dir": directory}
    return Experiment("seedlab.training:make_trainer", values, parsed, parsed.seeds)
  parsed_seeds = config.parse({"seeds": seeds or {}}).seeds
  given = dict(arguments or {})
  try:
    json.dumps(given)
  except TypeError as error:
    raise UserError(f"arguments={given!r} must be JSON ({error})") from None
  if isinstance(what, str):
    _importable(what)
    return Experiment(what, given, None, parsed_seeds)
  named = what if hasattr(what, "__qualname__") else type(what)  # a partial has no name
  name = f"{named.__module__}:{named.__qualname__}"
  return Experiment(name, given, None, parsed_seeds, None if _found(name, what) else Code.of(what))


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
    planned_n: the number of runs at which the sweep will be judged, recorded before training: it
      lets `comparisons.compare` judge at that fixed number.
    stop: instead of `runs`, a rule such as "ci_width(test_accuracy)<0.001": trains runs 0, 1, ...
      until the anytime-valid interval of the mean is that narrow (`stats.sequential`). Looks
      happen after 30, 40, ... runs, in the order of their numbers, so that neither workers nor
      kills move the stopping run.
    max_runs: with `stop`, the most runs to train.
    claims: `claims.record(...)`, kept in the manifest before the first run; another
      rule later is said, not stored.
    progress: counts the runs, finished ones included, in a display that serves several sweeps.
    checkpoint_every: seconds after which runs under way are saved (again), so that a kill costs no
      more of them; 0: never.
    quiet: no progress on stderr.

  Raises:
    UserError: input that cannot be right; what is on disk stays as it was.
  """
  described = experiment(what, arguments, seeds, data_dir)
  plans = _plans(planned_n, stop, max_runs, runs, described.seeds, claims)
  wanted = run_numbers(max_runs if plans.rule else runs, described.seeds)
  _check_workers(workers)
  _check_seconds(checkpoint_every)
  records.exists(out)  # refuses a foreign directory before anything is put into it
  with records.lock(out):
    known = records.manifest(out) if records.exists(out) else None
    if known:
      _same_experiment(described, known, out)
      _same_plans(plans, known, out, quiet)
      lanes, width = _same_lanes(known, lanes, width, out)
    if known and plans.rule and _already_stopped(out, plans.rule, quiet):
      return _tidied(out)
    done = set(_completed(out)) if known else set()
    if progress:
      progress.found(len(done.intersection(wanted)))
    if known and done.issuperset(wanted):
      _say(quiet, f"{os.fspath(out)} already has all {len(wanted)} runs")
      return _tidied(out)
    try:
      with _executor(workers, executor) as (pool, count):
        lane = (lanes, width)
        options = _Options(new_fingerprint, checkpoint_every, progress, quiet)
        _run(described, wanted, out, known, lane, pool, count, plans, options)
    except KeyboardInterrupt:
      kept = len(_completed(out)) if records.exists(out) else 0
      _say(
        quiet,
        f"stopped with {kept} finished runs in {os.fspath(out)}, and those under way as far as"
        " they were saved; the same command goes on",
      )
      raise
    return _tidied(out)


def run_numbers(runs: Iterable[int] | int | None, seeds: Seeds) -> list[int]:
  """The runs asked for, checked."""
  if seeds.design == "crossed":
    numbers = streams.runs_of_design(seeds)
    if runs not in (None, len(numbers)) and list(_range(runs)) != numbers:
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
) -> dict[str, Any]:
  """What a sweep will cost, from its compiled programs and half a second of training."""
  described = experiment(what, arguments, seeds, data_dir)
  wanted = run_numbers(runs, described.seeds)
  _check_workers(workers)
  with _executor(workers, None) as (pool, count):
    facts = _describe(pool, described, lanes, width, quiet=True)
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


def replay(
  directory: str | os.PathLike,
  run: int,
  *,
  trainer: Callable[..., Any] | None = None,
  data_dir: str | None = None,
) -> Replay:
  """Recomputes one run alone and compares its final state with the recorded digest.

  Args:
    trainer: the function that built the Trainer, where the store names one that
      cannot be imported (a notebook's).
    data_dir: the tensorflow-datasets directory.
  """
  kept = records.manifest(directory)
  dataset = records.open(directory)
  with records.readable(directory):
    row = _row(dataset, run, directory)
    recorded = {name: dataset[name].values[row] for name in ["digest", *kept["outcome"]]}
  recorded_fingerprint = kept["fingerprints"][int(dataset["fingerprint"].values[row])]
  described = _recorded_experiment(kept, trainer, data_dir, directory)
  mode, width = recorded_fingerprint["mode"], recorded_fingerprint["width"]
  with _executor(1, None) as (pool, _):
    spec = _spec(described, mode, width)
    seeds = [streams.seeds_of_run(run, described.seeds).tolist()]
    result = pool.submit(tasks.compute, spec, seeds, True, None, described.code).result()
  deviation = {
    name: _deviation(recorded[name], result["outcome"][name][0]) for name in kept["outcome"]
  }
  return Replay(
    run=run,
    recorded=recorded["digest"].decode(),
    computed=result["digest"][0].decode(),
    changed=config.differences(recorded_fingerprint, result["fingerprint"]),
    deviation=deviation,
    params=result["params"],
  )


def check(described: Experiment, pool: concurrent.futures.Executor) -> None:
  """Builds the Trainer in a worker and trains nothing; raises UserError for what cannot be."""
  pool.submit(tasks.check, _spec(described, "auto", None), described.code).result()


def prepare(
  described: Experiment, pool: concurrent.futures.Executor, lanes: str = "auto", width=None
) -> None:
  """Has a worker compile an experiment's program for the cache, while others are at work."""
  pool.submit(tasks.prepare, _spec(described, lanes, width), described.code)


def grid(
  values: Mapping[str, Any],
  fields: Mapping[str, Sequence[Any]],
  runs: Iterable[int] | int | None,
  out: str | os.PathLike,
  *,
  workers: int | None = None,
  executor: concurrent.futures.Executor | None = None,
  **options: Any,
) -> list[tuple[dict[str, Any], pathlib.Path]]:
  """One sweep for every combination of field values, each in its own store below `out`.

  Args:
    values: the config all cells share.
    fields: {"section.field": values}.
    runs, options: as for `sweep`.

  Returns:
    (the cell's field values, its store) in order.
  """
  if isinstance(values, str) or callable(values):
    raise UserError("--grid needs a config; run a Trainer of your own once for each --arguments")
  _check_workers(workers)
  cells = grid_cells(values, fields, out)
  pool = contextlib.nullcontext(executor) if executor else local_pool(workers)
  with pool as shared:
    for _, values, _ in cells:  # a mistake in the last cell is found before the first one trains
      described = experiment(values, data_dir=options.get("data_dir"))
      asked = (options.get(name) for name in ("planned_n", "stop", "max_runs"))
      _plans(*asked, runs, described.seeds, ())
      run_numbers(options.get("max_runs") or runs, described.seeds)
      check(described, shared)
    for cell, values, directory in cells:
      _say(options.get("quiet", False), ", ".join(f"{name}={cell[name]}" for name in cell))
      sweep(values, runs, directory, executor=shared, workers=workers, **options)
  return [(cell, directory) for cell, _, directory in cells]


def grid_cells(
  values: Mapping[str, Any], grid: Mapping[str, Sequence[Any]], out: str | os.PathLike
) -> list[tuple[dict[str, Any], dict[str, Any], pathlib.Path]]:
  """(the cell's field values, its config, its store) for every combination; all of them checked."""
  cells: list[dict[str, Any]] = [{}]
  for field, choices in grid.items():
    if len(set(map(str, choices))) != len(choices):
      raise UserError(f"--grid={field} names a value twice: {','.join(map(str, choices))}")
    cells = [cell | {field: choice} for cell in cells for choice in choices]
  found = []
  for cell in cells:
    changed = json.loads(json.dumps(values))
    for field, choice in cell.items():
      *sections, last = field.split(".")
      section = changed
      for name in sections:
        section = section.get(name, {}) if isinstance(section, dict) else {}
      if not isinstance(section, dict) or last not in section:
        known = [name for name, _ in config.flatten(values)]
        raise UserError(f"--grid={field}: no such field{errors.closest(field, known)}")
      section[last] = choice
    name = ",".join(f"{field}={choice}" for field, choice in cell.items()).replace("/", "_")
    found.append((cell, config.to_dict(config.parse(changed)), pathlib.Path(out) / name))
  return found


class _Options(NamedTuple):
  """How a sweep is run; nothing of it changes a result."""

  new_fingerprint: bool
  checkpoint_every: float
  progress: Progress | None  # of the caller, for several sweeps
  quiet: bool


def _run(described, wanted, out, known, lanes, pool, count, plans, options) -> None:
  """Trains what is missing of `wanted` and writes it."""
  quiet = options.quiet
  facts = _describe(pool, described, *lanes, quiet=quiet)
  fingerprint = facts["fingerprint"]
  mode, width = fingerprint["mode"], fingerprint["width"]
  seeds_of = functools.partial(streams.seeds_of_run, seeds=described.seeds)
  if not known:
    _check_metric(plans.rule, facts)
    _create(described, wanted, out, facts, plans)
  writer = records.Writer(out)
  if plans.rule and plans.rule.text != writer.attributes.get("stop"):
    writer.set_attributes(stop=plans.rule.text)
  index = _fingerprint_index(writer, fingerprint, out, options.new_fingerprint)
  kept = set(writer.runs.tolist())
  new = [run for run in wanted if run not in kept]
  if new:
    writer.extend(new, np.stack([seeds_of(run) for run in new]))
  pending = _pending(writer, wanted, width, count, _LOOK if plans.rule else None)
  total = sum(len(rows) for rows in pending)
  headline = f"{total} runs{' at most' * bool(plans.rule)}, {count} workers, lanes={mode}"
  headline += f" x {width}" * (mode == "vmap")
  _say(quiet, f"{headline}; about {_duration(facts['seconds_per_run'] * total / count)}")

  spec = _spec(described, mode, width)
  saves = _saves(out, options.checkpoint_every)

  def submit(rows):
    seeds = [seeds_of(int(run)).tolist() for run in writer.runs[rows]]
    return pool.submit(tasks.compute, spec, seeds, False, saves, described.code)

  ahead = 2 * count if plans.rule else len(pending)
  shared = options.progress and contextlib.nullcontext(options.progress)
  with shared or Progress(total, quiet) as progress:
    if isinstance(pool, WorkerPool):
      pool.on_progress = progress.part
    for rows, task in _finished(submit, pending, ahead, in_order=plans.rule is not None):
      result = task.result()
      if result["fingerprint"] != fingerprint:
        raise UserError(
          "a worker computes other bits than the first one: "
          + _changes(config.differences(fingerprint, result["fingerprint"]))
          + "; use workers of one kind"
        )
      columns = {
        **result["outcome"],
        "digest": result["digest"],
        "diverged": result["diverged"],
        "seconds": np.full(len(rows), result["seconds"], np.float32),
        "fingerprint": np.full(len(rows), index, np.int32),
      }
      if plans.rule is None:
        writer.write(rows, columns)
        checkpoints.remove(out, result["saved"])
        progress.finished(getattr(task, "task", None), len(rows))
        continue
      # Up to the next look and no further: nothing is kept beyond the run that stops the sweep.
      for part in _to_looks(rows):
        at = part - rows[0]
        writer.write(part, {name: values[at] for name, values in columns.items()})
        stopped = _stopping_run(writer, plans.rule, out)
        if stopped is not None:
          writer.truncate(stopped)
          progress.finished(getattr(task, "task", None), len(part))
          _say(quiet, f"{plans.rule.text} after {stopped:,} runs: stopped")
          return
      checkpoints.remove(out, result["saved"])
      progress.finished(getattr(task, "task", None), len(rows))
  if plans.rule:
    _say(quiet, f"{plans.rule.text} is not met after {len(wanted):,} runs; raise max_runs to go on")


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


class _Rule(NamedTuple):
  """When to stop, in the user's words and parsed."""

  text: str
  parsed: Any  # a stats.sequential.StopRule: scipy takes a second to import, so only rules do


class _Plans(NamedTuple):
  """What is fixed before training and kept in the manifest."""

  planned_n: int | None
  rule: _Rule | None
  claims: list[dict[str, Any]]


def _already_stopped(out, rule: _Rule, quiet: bool) -> bool:
  """Whether the runs in the store meet the rule; drops what was made ready but never trained."""
  writer = records.Writer(out)
  stopped = _stopping_run(writer, rule, out)
  if stopped is None:
    return False
  if not writer.completed[stopped:].any() and stopped < len(writer.runs):
    writer.truncate(stopped)
  _say(quiet, f"{os.fspath(out)}: {rule.text} after {stopped:,} runs; nothing left to train")
  return True


def _plans(planned_n, stop, max_runs, runs, seeds: Seeds, claims) -> _Plans:
  """Checked; raises UserError for what does not go together."""
  if stop is None:
    if max_runs is not None:
      raise UserError(f"max_runs={max_runs} is for stop; say how many with runs")
    if planned_n is not None and planned_n < 2:
      raise UserError(f"planned_n={planned_n} must be at least 2")
    return _Plans(planned_n, None, list(claims))
  from seedlab.stats import sequential

  if planned_n is not None:
    raise UserError(
      f"planned_n={planned_n} and stop={stop!r} exclude each other: a rule that looks at the"
      " results has no planned number"
    )
  if runs is not None or max_runs is None:
    raise UserError(f"stop={stop!r} decides how many runs; give max_runs instead of runs")
  if seeds.design == "crossed":
    raise UserError(f"stop={stop!r} needs independent runs, not a crossed design")
  if max_runs < sequential.BURN_IN:
    raise UserError(
      f"max_runs={max_runs} is less than the {sequential.BURN_IN} runs before the first look"
    )
  return _Plans(None, _Rule(stop, sequential.parse_rule(stop)), list(claims))


def _same_plans(plans: _Plans, known: Mapping[str, Any], out, quiet: bool) -> None:
  """Refuses another planned number once runs exist; says which claims changed."""
  recorded = known.get("planned_n")
  if plans.planned_n is not None and plans.planned_n != recorded:
    raise UserError(
      f"planned_n={plans.planned_n}: out={os.fspath(out)!r} was begun with planned_n={recorded};"
      " what was planned cannot be recorded afterwards"
    )
  hashes = {claim["id"]: claim["hash"] for claim in known.get("claims") or []}
  changed = [claim["id"] for claim in plans.claims if hashes.get(claim["id"]) != claim["hash"]]
  if changed:
    _say(
      quiet,
      f"claims {', '.join(changed)} are not as they were before training; the store keeps those",
    )


def _check_metric(rule: _Rule | None, facts: Mapping[str, Any]) -> None:
  if rule is None:
    return
  names = [name for name, (dims, *_) in facts["outcome"].items() if set(dims) <= {"evaluation"}]
  if rule.parsed.metric not in names:
    raise errors.choice_error("stop's metric", rule.parsed.metric, names)


def _stopping_run(writer: records.Writer, rule: _Rule, out) -> int | None:
  """After how many runs the rule is met, by the runs before the first one that is missing."""
  from seedlab import findings
  from seedlab.stats import sequential

  name = rule.parsed.metric
  if name not in writer.attributes["metrics"]:
    raise errors.choice_error("stop's metric", name, writer.attributes["metrics"])
  if not np.array_equal(writer.runs, np.arange(len(writer.runs))):
    raise UserError(
      f"stop={rule.text!r} needs the runs 0, 1, 2, ... in order, which out={os.fspath(out)!r} does"
      " not hold; choose another directory"
    )
  values = writer.metric(name)
  chance = findings.chance_level(name, writer.classes())
  failed = ~np.isfinite(values) & writer.completed
  if chance is not None:
    values = np.where(failed, chance, values)
  try:
    return sequential.stopping_run(values, rule.parsed, writer.completed, every=_LOOK)
  except ValueError:
    raise UserError(
      f"stop={rule.text!r}: run {np.argmax(failed)} diverged, and what that counts for is not known"
      f" for {name}; choose an accuracy"
    ) from None


def _to_looks(rows: np.ndarray) -> list[np.ndarray]:
  """`rows`, ascending and adjoining, cut after 10, 20, 30, ... runs."""
  cuts = [at for at in range(1, len(rows)) if (rows[0] + at) % _LOOK == 0]
  return np.split(rows, cuts)


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


def _create(described: Experiment, wanted, out, facts, plans: _Plans) -> None:
  """Makes the store; its chunk is fixed here."""
  fingerprint = facts["fingerprint"]
  chunk = _chunk(facts["seconds_per_run"], fingerprint["width"])
  metrics = [name for name, (dims, *_) in facts["outcome"].items() if "example" not in dims]
  environment = host.environment()
  records.create(
    out,
    runs=wanted,
    seeds=np.stack([streams.seeds_of_run(run, described.seeds) for run in wanted]),
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
      "planned_n": plans.planned_n,
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
      f" comparable bit for bit: {_changes(changes)}; {remedy}"
    )
  table = [*table, fingerprint] if writer.completed.any() else [fingerprint]
  writer.set_attributes(fingerprints=table)
  return len(table) - 1


def _same_experiment(described: Experiment, known: Mapping[str, Any], out) -> None:
  """Refuses to mix two experiments in one store, naming the fields that differ."""
  record = described.record
  seeds = (record["config"] or record["trainer"])["seeds"]
  # A stream that the store does not know was constant, whatever varies by default since.
  there = {name.removeprefix("seed_") for name in known["by_run"] if name.startswith("seed_")}
  seeds["vary"] = [stream for stream in seeds["vary"] if stream in there]
  recorded = {"config": known.get("config"), "trainer": known.get("trainer")}
  changed = config.differences(
    {**(recorded["config"] or {}), **(recorded["trainer"] or {})},
    {**(record["config"] or {}), **record.get("trainer", {})},
  )
  if changed:
    raise UserError(
      f"out={os.fspath(out)!r} holds another experiment: {_changes(changed)}; choose another"
      " directory"
    )


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


def _describe(
  pool, described: Experiment, lanes: str, width: int | None, *, quiet: bool
) -> dict[str, Any]:
  choices = _MEASURED if lanes == "measure" else [(lanes, width)]
  specs = [_spec(described, *choice) for choice in choices]
  running = [pool.submit(tasks.describe, spec, described.code) for spec in specs]
  if concurrent.futures.wait(running, timeout=_PATIENCE).not_done:
    _say(quiet, "reading the data, compiling, measuring the speed")
  facts = [task.result() for task in running]
  return min(facts, key=lambda fact: fact["seconds_per_run"])


def _spec(described: Experiment, mode: str, width: int | None) -> dict[str, Any]:
  return {
    "function": described.function,
    "arguments": described.arguments,
    "mode": mode,
    "width": width,
  }


@contextlib.contextmanager
def _executor(workers: int | None, executor) -> Iterator[tuple[concurrent.futures.Executor, int]]:
  """The executor, by default a local pool, and how many tasks it runs at once."""
  if executor is not None:
    yield executor, getattr(executor, "size", workers or len(host.usable_cores()))
  else:
    with local_pool(workers) as pool:
      yield pool, pool.size


def _check_workers(workers: int | None) -> None:
  if workers is not None and not 1 <= workers <= _MOST_WORKERS:
    raise UserError(f"workers={workers} must lie between 1 and {_MOST_WORKERS}")


def _check_seconds(checkpoint_every: float) -> None:
  number = isinstance(checkpoint_every, int | float) and not isinstance(checkpoint_every, bool)
  if not number or not 0 <= checkpoint_every < math.inf:
    raise UserError(
      f"checkpoint_every={checkpoint_every!r} must be a number of seconds, 0 for no checkpoints"
    )


def local_pool(workers: int | None = None) -> WorkerPool:
  """Workers on this machine: one pinned to each usable core, or one for each accelerator."""
  platform, devices = host.accelerators()
  if platform == "cpu":
    cores = host.usable_cores()
    places = [cores[number % len(cores)] for number in range(workers or len(cores))]
    return WorkerPool(places)
  count = min(workers or devices, devices)
  environment = [host.accelerator_environment(platform, number, devices) for number in range(count)]
  return WorkerPool([None] * count, environment)


def _recorded_experiment(kept, trainer, data_dir, directory) -> Experiment:
  """The experiment of a store; its config must be one this version of seedlab knows."""
  if not kept.get("config"):
    known = kept["trainer"]
    if not trainer and (known["function"].startswith("__main__:") or "<" in known["function"]):
      raise UserError(
        f"{os.fspath(directory)!r}: its Trainer was made by {known['function']}, in a notebook or"
        " script that only it can import; there, pass the function:"
        f" seedlab.replay({os.fspath(directory)!r}, run, trainer=make)"
      )
    return experiment(trainer or known["function"], known["arguments"], known["seeds"])
  seeds = dict(kept["config"]["seeds"])
  seeds["levels"] = [1] * len(seeds["vary"]) if seeds["design"] == "crossed" else []
  try:
    return experiment({**kept["config"], "seeds": seeds}, data_dir=data_dir)
  except UserError as error:
    raise UserError(
      f"{os.fspath(directory)!r} was written by seedlab {kept['seedlab_version']}, whose config"
      f" this version ({__version__}) does not know: {error}; install that version to replay it"
    ) from None


def _deviation(recorded: np.ndarray, computed: np.ndarray) -> float:
  if recorded.dtype.kind != "f":
    return float(np.mean(recorded != computed))
  return float(np.max(np.abs(recorded.astype(np.float64) - computed), initial=0.0))


def _row(dataset, run: int, directory) -> int:
  """The row of a completed run."""
  numbers = dataset["run"].values
  rows = np.flatnonzero(numbers == run)
  if not len(rows):
    raise UserError(
      f"run={run} is not in {os.fspath(directory)!r}, which holds {len(numbers)} runs between"
      f" {numbers.min()} and {numbers.max()}"
    )
  if not dataset["completed"].values[rows[0]]:
    raise UserError(
      f"run={run} of {os.fspath(directory)!r} is not finished; run the sweep's command again first"
    )
  return int(rows[0])


def _completed(directory) -> list[int]:
  writer = records.Writer(directory)
  return writer.runs[writer.completed].tolist()


def _importable(name: str) -> None:
  module, separator, function = name.partition(":")
  if not separator or not function:
    raise UserError(f"trainer={name!r} must be module:function")
  try:
    parts.resolve(name)
  except ModuleNotFoundError as error:
    raise UserError(f"trainer={name!r}: {error}; run from the directory of {module}.py") from None
  except AttributeError:
    choices = [
      key
      for key, value in vars(importlib.import_module(module)).items()
      if callable(value) and not key.startswith("_")
    ]
    raise UserError(
      f"trainer={name!r}: {module} has no {function!r}{errors.closest(function, choices)}"
    ) from None


def _found(name: str, what: Any) -> bool:
  """Whether worker processes find `what` by its name."""
  try:
    return not name.startswith("__main__:") and parts.resolve(name) is what
  except (ImportError, AttributeError):
    return False


def _range(runs: Iterable[int] | int) -> Sequence[int]:
  if isinstance(runs, int):
    if runs < 1:
      raise UserError(f"runs={runs} must be at least 1")
    runs = range(runs)
  if not isinstance(runs, range):
    return [int(run) for run in runs]
  if len(runs) > _MOST_RUNS:
    raise UserError(f"runs={runs} are more than {_MOST_RUNS:,} runs, the most one store takes")
  return runs


def _changes(differences: Sequence[tuple[str, Any, Any]]) -> str:
  """`field: there -> here` for each, long values cut."""
  return ", ".join(
    f"{field}: {_short(there)} -> {_short(here)}" for field, there, here in differences
  )


def _short(value: Any) -> str:
  text = str(value)
  return text if len(text) <= 40 else f"{text[:12]}..."


def _duration(seconds: float) -> str:
  if seconds < 90:
    return f"{seconds:.0f} s"
  return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _say(quiet: bool, message: str) -> None:
  if not quiet:
    print(f"seedlab: {message}", file=sys.stderr, flush=True)
