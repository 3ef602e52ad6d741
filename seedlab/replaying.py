"""One recorded run trained again, alone, and compared with what the store says of it."""

import concurrent.futures
import math
import os
import pathlib
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import zarr

from seedlab import config, designs, errors, integrity, records, seals, tasks
from seedlab.errors import UserError
from seedlab.experiment import Experiment, executor_of, recorded_experiment, spec_like
from seedlab.progress import Progress, duration, say
from seedlab.recipe import Recipe

_LONG = 10.0  # seconds of a replay that are told before it starts
_TOLERANCE = 0.01  # what other roundings do to the outcome of a short training


class Replay(NamedTuple):
  """A recorded run beside its repetition."""

  run: int
  recorded: str  # digests of the final state
  computed: str
  changed: list[tuple[str, Any, Any]]  # (fingerprint field, recorded, here)
  deviation: dict[str, float]  # outcome -> largest difference; of integers, the share that differ
  params: Any  # {path: array} of the repeated run
  different: list[str]  # stored arrays that hold other bits than this run computes

  @property
  def exact(self) -> bool:
    return not self.different

  @property
  def passed(self) -> bool:
    """False only if the same fingerprint gave other bits; another one promises nothing."""
    return self.exact or bool(self.changed)

  def verdict(self, directory: str | os.PathLike) -> str:
    """The result in a few plain lines."""
    if self.exact:
      return "exact" + " (although the fingerprint changed)" * bool(self.changed)
    if not self.changed and self.recorded == self.computed:
      return (
        f"DIFFERENT: the state is as recorded, but the stored {', '.join(self.different)} of run"
        f" {self.run} is not what this run computes: the store was changed; a sweep into another"
        " directory trains its runs again"
      )
    if not self.changed:
      return "DIFFERENT: the same fingerprint, yet another final state; please report this as a bug"
    lines = [
      "not comparable bit for bit: the fingerprint changed",
      *(f"  {errors.changes([change])}" for change in self.changed),
      "largest difference of each outcome (of whole numbers: the share that differs):",
      *(
        f"  {name}: {value:.3g}{' (more than rounding)' * (value > _TOLERANCE)}"
        for name, value in self.deviation.items()
      ),
    ]
    if any(field in ("jax", "jaxlib") for field, *_ in self.changed):
      lines += [
        "to restore the recorded environment:",
        f"  seedlab replay {shlex.quote(os.fspath(directory))} --lock > recorded.txt",
        "  python -m venv .venv-recorded && .venv-recorded/bin/pip install -r recorded.txt",
        "  .venv-recorded/bin/pip install --no-deps .",
      ]
    return "\n".join(lines)


def replay(
  directory: str | os.PathLike,
  run: int,
  *,
  trainer: Callable[..., Any] | None = None,
  recipe: Recipe | Callable[..., Any] | None = None,
  data_dir: str | None = None,
  trust_code: bool = False,
) -> Replay:
  """Recomputes one run alone and compares it bit for bit with all that the store holds of it.

  Compared are the digest of the final state, each outcome, and the step of divergence.

  Args:
    trainer: the function that built the Trainer, where the store names one that
      cannot be imported (a notebook's).
    recipe: the recipe, or the function that returned it, likewise.
    data_dir: the tensorflow-datasets directory.
    trust_code: import the module that the store names, where it is none of seedlab's.
  """
  kept = records.manifest(directory)
  described = recorded_experiment(kept, trainer or recipe, data_dir, directory, trust_code)
  records.check(directory, run)
  (recorded,) = recorded_runs(directory, kept, [run])
  say(not (said := _cost(recorded)), said)
  with executor_of(1, None) as (pool, _):
    task = _submit(pool, described, [recorded], keep_params=True)
    result = task.result()
  return _compared(recorded, result, 0)


class Recorded(NamedTuple):
  """What a store holds of a run, as its bytes are."""

  run: int
  values: dict[str, np.ndarray]  # digest, diverged and the outcomes
  fingerprint: dict[str, Any]
  seconds: float  # its share of the time that its lanes took


def _cost(one: Recorded) -> str:
  """What replaying a run will take, where that is long: all lanes of its program, trained once."""
  width = one.fingerprint["width"]
  seconds = one.seconds * width
  if not _LONG <= seconds < math.inf:
    return ""
  others = f", with the other {width - 1} lanes of its program, on whose number its bits depend"
  took = f"about {duration(seconds)} where it was made"
  return f"replaying run {one.run}{others * (width > 1)}: {took}"


def recorded_runs(
  directory: str | os.PathLike, kept: Mapping[str, Any], runs: Sequence[int]
) -> list[Recorded]:
  """What the store with the manifest `kept` holds of completed runs; UserError for any other."""
  with records.readable(directory):
    # Not as a Dataset, which makes every NaN the same one, and refuses what other runs lack.
    group = integrity.committed(pathlib.Path(directory))
    names = ["digest", "diverged", *kept["outcome"]]
    found = []
    for run in runs:
      row = _row(group, run, directory)
      values = {name: np.asarray(group[name][row]) for name in names}
      fingerprint = kept["fingerprints"][int(group["fingerprint"][row])]
      found.append(Recorded(run, values, fingerprint, float(group["seconds"][row])))
  return found


def replay_all(
  recorded: Sequence[Recorded],
  described: Experiment,
  pool: concurrent.futures.Executor,
  progress: Progress,
) -> list[Replay]:
  """Recomputes several runs of one store, in their order; without their parameters.

  Runs of one program are lanes of it, as in a sweep, and follow each other in a worker, which
  compiles a program once.
  """
  programs: dict[str, list[Recorded]] = {}
  for one in recorded:
    programs.setdefault(seals.digest(spec_like(described, one.fingerprint)), []).append(one)
  running = {}
  for runs in programs.values():
    width = runs[0].fingerprint["width"]
    for at in range(0, len(runs), width):
      running[_submit(pool, described, runs[at : at + width])] = runs[at : at + width]
  found: dict[int, Replay] = {}
  try:
    for task in concurrent.futures.as_completed(running):
      result, runs = task.result(), running[task]
      found |= {one.run: _compared(one, result, lane) for lane, one in enumerate(runs)}
      progress.finished(getattr(task, "task", None), len(runs))
  finally:
    for task in running:
      task.cancel()
  return [found[one.run] for one in recorded]


def _submit(
  pool: concurrent.futures.Executor,
  described: Experiment,
  runs: Sequence[Recorded],
  keep_params: bool = False,
) -> concurrent.futures.Future:
  """Runs of one program, in a worker."""
  seeds = [designs.seeds_of_run(one.run, described.seeds).tolist() for one in runs]
  spec = spec_like(described, runs[0].fingerprint)
  return pool.submit(tasks.compute, spec, seeds, keep_params, None, described.code)


def _compared(recorded: Recorded, result: Mapping[str, Any], lane: int) -> Replay:
  """A recorded run beside the lane of a finished task that repeated it."""
  values = recorded.values
  outcomes = [name for name in values if name not in ("digest", "diverged")]
  computed = {name: result[name][lane] for name in ("digest", "diverged")}
  computed |= {name: result["outcome"][name][lane] for name in outcomes}
  return Replay(
    run=recorded.run,
    recorded=values["digest"].item().decode(),
    computed=computed["digest"].decode(),
    changed=config.differences(recorded.fingerprint, result["fingerprint"]),
    deviation={name: _deviation(values[name], computed[name]) for name in outcomes},
    params=result["params"],
    different=[name for name in values if not _same_bits(values[name], computed[name])],
  )


def _same_bits(recorded: np.ndarray, computed: Any) -> bool:
  """Whether `computed`, stored in the type of `recorded`, has its shape and bytes."""
  stored = np.asarray(computed, recorded.dtype)
  return stored.shape == recorded.shape and stored.tobytes() == recorded.tobytes()


def _deviation(recorded: np.ndarray, computed: np.ndarray) -> float:
  if recorded.dtype.kind != "f":
    return float(np.mean(recorded != computed))
  return float(np.max(np.abs(recorded.astype(np.float64) - computed), initial=0.0))


def _row(group: zarr.Group, run: int, directory) -> int:
  """The row of a completed run."""
  numbers = group["run"][:]
  rows = np.flatnonzero(numbers == errors.whole("run", run))
  if not len(rows):
    raise UserError(
      f"run={run} is not in {os.fspath(directory)!r}, which holds"
      f" {errors.counted(len(numbers), 'run')} between {numbers.min()} and {numbers.max()}"
    )
  if not group["completed"][int(rows[0])]:
    raise UserError(
      f"run={run} of {os.fspath(directory)!r} is not finished; run the sweep's command again first"
    )
  return int(rows[0])
