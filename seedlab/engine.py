"""Drives the compiled program of a Trainer in segments, for as many runs as are asked for.

  for each group of `width` runs (the last one padded with copies of its last run)
    state = init(seeds, data)
    for each segment up to the next evaluation: state = advance(state, ...)
    at each evaluation of the plan: outcome = evaluate(state, seeds, data)
    every so many seconds, between two segments: a checkpoint; when asked, as soon as possible
    digest of every lane's whole final state
"""

import concurrent.futures
import json
import math
import os
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seedlab import checkpoints, console, devices, lanes, programs, streams
from seedlab.config import STREAMS
from seedlab.programs import Program
from seedlab.trainer import EVALUATION, Trainer

_LAYOUT = 1  # of a checkpoint; another one is ignored
_SEGMENT_SECONDS = 5.0  # at most, where there are checkpoints: so soon one that is asked for begins
_NEVER = np.int64(np.iinfo(np.int64).max)


class Results(NamedTuple):
  """What R runs left behind, host arrays."""

  outcome: dict[str, np.ndarray]  # [R, evaluations, ...] or [R, ...], by Metric.dims
  digest: np.ndarray  # S64[R], hexadecimal SHA-256 of the final state
  diverged: np.ndarray  # int64[R], first non-finite step or -1
  seconds: float
  params: Any = None  # of the last run, when asked for: see `parameters`
  saved: tuple[str, ...] = ()  # the groups that have checkpoints


class _Underway(NamedTuple):
  """A group of lanes between two segments: what a checkpoint holds."""

  step: int  # steps done
  evaluated: int  # evaluations done
  state: Any
  kept: dict[str, list]  # of those evaluations, the values that count
  diverged: np.ndarray  # int64[width], the first non-finite step or _NEVER


def build(
  trainer: Trainer, mode: str = "auto", width: int | None = None, *, runs: int = 1000
) -> Program:
  """Traces and compiles a Trainer; "auto" decides by the rules of `lanes`.

  Args:
    trainer: what is trained.
    mode: "loop", "vmap" or "auto".
    width: lanes of "vmap"; None leaves the choice.
    runs: how many are wanted, for that choice on an accelerator.
  """
  return choose({None: trainer}, mode, width, runs).program


class Choice(NamedTuple):
  """What `choose` found."""

  program: Program
  lowering: str | None  # of its convolutions, if there was a choice
  evidence: list[lanes.Evidence]  # empty where a fixed rule, or the user, decided


def choose(
  trainers: Mapping[str | None, Trainer], mode: str, width: int | None, runs: int
) -> Choice:
  """The program that suits the device of this process.

  Args:
    trainers: by the lowering of their convolutions, which is all that tells them apart.
    mode, width, runs: as of `build`.
  """
  first = next(iter(trainers.values()))
  loaded = first.load()
  data = jax.device_put(loaded)
  runs_of = {lowering: programs.one_run(trainer, data) for lowering, trainer in trainers.items()}
  state = next(iter(runs_of.values())).state
  ruled = lanes.rule(state, jax.default_backend(), mode, width)
  if ruled:  # nothing is left to find out, and evidence costs compilations
    lowering = next(iter(trainers)) if len(trainers) == 1 else lanes.LOWERINGS[ruled[0]]
    traced = programs.trace(runs_of[lowering], *ruled)
    if mode == "auto" and width is None and ruled[0] == "vmap" and lanes.busy(traced):
      traced = programs.trace(runs_of[lowering], "loop", 1)
    return Choice(programs.compiled(traced, loaded), lowering, [])
  device = devices.here()

  def measure(lowering: str | None, mode: programs.Mode, width: int) -> lanes.Evidence:
    return lanes.evidence(programs.trace(runs_of[lowering], mode, width), device, lowering)

  found = lanes.candidates(measure, device, runs, tuple(trainers), mode, width)
  best = lanes.chosen(found, device, first.plan, runs)
  traced = programs.trace(runs_of[best.lowering], best.mode, best.width)
  return Choice(programs.compiled(traced, loaded), best.lowering, found)


def ahead(
  trainers: Mapping[str | None, Trainer],
  device: devices.Device,
  mode: str,
  width: int | None,
  runs: int,
) -> tuple[list[lanes.Evidence], float]:
  """The evidence of the candidates on a device that need not be there, and bytes of the data.

  Args:
    trainers, mode, width, runs: as of `choose`.
    device: which; the JAX of this process is that of the CPU.
  """
  place = devices.sharding(device)
  data = programs.placed(next(iter(trainers.values())).load(), place)

  def measure(lowering: str | None, mode: programs.Mode, width: int) -> lanes.Evidence:
    one = programs.one_run(trainers[lowering], data)
    return lanes.evidence(programs.trace(one, mode, width, place), device, lowering)

  found = lanes.candidates(measure, device, runs, tuple(trainers), mode, width)
  return found, float(programs.size(data))


def train(
  program: Program,
  seeds: np.ndarray,
  *,
  report: Callable[[float], None] = lambda runs: None,
  longest: int | None = None,
  keep_params: bool = False,
  saves: checkpoints.Saves | None = None,
) -> Results:
  """Trains one run per row of `seeds`, uint32[R, streams].

  Args:
    report: called with the (fractional) number of runs done, at most twice a second.
    longest: cut segments to at most this many steps; the bits stay the same.
    keep_params: return the last run's parameters as well.
    saves: where to write checkpoints, and to go on from those that are there.
  """
  started = time.perf_counter()
  report = _rarely(report)
  parts, saved, step_seconds = [], [], math.nan
  identity = _identity(program) if saves else ""
  for at in range(0, len(seeds), program.width):
    group = seeds[at : at + program.width]
    real = len(group)
    group = np.concatenate([group, np.repeat(group[-1:], program.width - real, axis=0)])
    name = checkpoints.group_name(identity, group) if saves else ""
    under, step_seconds = _train_group(
      program,
      group,
      real,
      lambda done, at=at, real=real: report(at + done * real),
      longest,
      saves and saves._replace(folder=os.path.join(saves.folder, name)),
      step_seconds,
    )
    parts.append(_results(program, under, real))
    if saves and os.path.exists(os.path.join(saves.folder, name)):
      saved.append(name)
  outcomes, digests, diverged = zip(*parts, strict=True)
  params = None
  if keep_params:
    kept = programs.parameters(under.state)
    params = jax.tree.map(lambda leaf: _lanes(program, leaf)[real - 1], kept)
  return Results(
    outcome={name: np.concatenate([part[name] for part in outcomes]) for name in outcomes[0]},
    digest=np.concatenate(digests),
    diverged=np.concatenate(diverged),
    seconds=time.perf_counter() - started,
    params=params,
    saved=tuple(saved),
  )


def speed(program: Program, seconds: float = 0.5) -> tuple[float, float]:
  """Seconds of one step and of one evaluation of all lanes together.

  The best segment among those that fit into about `seconds` of real training
  (at least one, of one step): what disturbs a measurement only ever makes it longer.
  """
  seeds = np.arange(program.width, dtype=np.uint32)[:, None].repeat(len(STREAMS), axis=1)
  state = jax.block_until_ready(_start(program, seeds))
  step, started = math.inf, time.perf_counter()
  position = 0, 0
  while True:
    longest = _fitting(program.trainer, seconds, step if math.isfinite(step) else math.nan)
    upcoming = _upcoming(program.trainer, *position, longest)
    if upcoming is None:
      break
    first, evaluated, length = upcoming
    fed = _fed(program, seeds, first, length)
    before = time.perf_counter()
    state, _ = jax.block_until_ready(_advance(program, state, seeds, fed, first, length))
    step = min(step, (time.perf_counter() - before) / length)
    position = first + length, evaluated
    if time.perf_counter() - started > seconds:
      break
  before = time.perf_counter()
  jax.block_until_ready(_evaluate(program, state, seeds))
  return step if math.isfinite(step) else 0.0, time.perf_counter() - before


def _train_group(
  program: Program,
  seeds: np.ndarray,
  real: int,
  report: Callable[[float], None],
  longest: int | None,
  saves: checkpoints.Saves | None,
  step_seconds: float,
) -> tuple[_Underway, float]:
  """`width` runs, `real` ones among them, from init or their checkpoint to the end of the plan.

  Also takes and returns how long a step lasts, nan if nobody knows yet: segments are cut such that
  checkpoints are possible when `saves`, whose folder is that of this group, wants them.
  """
  trainer = program.trainer
  place = saves and pathlib.Path(saves.folder)
  kept: dict[str, list] = {name: [] for name in trainer.metrics}
  under = _Underway(0, 0, _start(program, seeds), kept, np.full(program.width, _NEVER))
  if place and place.is_dir():
    under = _restored(program, under, place)
    if under.step:
      console.say(f"resumed at step {under.step:,} of {trainer.plan[-1]:,}")
      report(under.step / trainer.plan[-1])
  step, evaluated, state, kept, diverged = under
  with concurrent.futures.ThreadPoolExecutor(1) as ahead:
    pending = _prefetch(ahead, program, seeds, step, evaluated, longest)
    saved = time.monotonic()
    while evaluated < len(trainer.plan):
      cut = min(saves.seconds / 4, _SEGMENT_SECONDS) if saves else math.inf
      fitting = _fitting(trainer, cut, step_seconds)
      length = _length(trainer, step, evaluated, longest, fitting)
      if length:
        fed = pending.result() if pending else None
        pending = _prefetch(ahead, program, seeds, step + length, evaluated, longest)
        before = time.monotonic()
        state, bad = _advance(program, state, seeds, fed, step, length)
        bad = _lanes(program, bad)  # waits, so that what is reported is done
        step_seconds = (time.monotonic() - before) / length
        diverged = np.minimum(diverged, np.where(bad >= 0, bad, _NEVER))
        step += length
        report(step / trainer.plan[-1])
      else:
        for name, value in _evaluate(program, state, seeds).items():
          if trainer.metrics[name].dims[:1] != (EVALUATION,):
            kept[name].clear()  # only the last one counts
          kept[name].append(value)
        evaluated += 1
      if not saves:
        continue
      asked = saves.asked()
      late = bool(length) and step < trainer.plan[-1] and time.monotonic() - saved >= saves.seconds
      if asked or late:
        written = _save(place, _Underway(step, evaluated, state, kept, diverged))
        saved = time.monotonic()
      if asked:
        saves.told(real * written)
  return _Underway(step, evaluated, state, kept, diverged), step_seconds


def _results(program: Program, under: _Underway, real: int):
  """Of a group at its end: outcome, digests and divergence steps of the first `real` lanes."""
  outcome = {}
  for name, values in under.kept.items():
    values = [_lanes(program, value)[:real] for value in values]
    at_each = program.trainer.metrics[name].dims[:1] == (EVALUATION,)
    outcome[name] = np.stack(values, axis=1) if at_each else values[0]
  named = programs.named_leaves(under.state)
  leaves = {path: _lanes(program, leaf) for path, leaf in named.items()}
  digests = [
    programs.leaves_digest({path: leaf[lane] for path, leaf in leaves.items()})
    for lane in range(real)
  ]
  diverged = np.where(under.diverged == _NEVER, -1, under.diverged)
  return outcome, np.array(digests, "S64"), diverged[:real]


def _identity(program: Program) -> str:
  """What decides the bits of a group besides its seeds."""
  plan = [int(step) for step in program.trainer.plan]
  period = program.trainer.period and int(program.trainer.period)
  return json.dumps([_LAYOUT, program.fingerprint, plan, period], sort_keys=True)


def _save(place: pathlib.Path, under: _Underway) -> bool:
  leaves = jax.tree.leaves((under.state, under.kept, under.diverged))
  arrays = {f"{number}": np.asarray(leaf) for number, leaf in enumerate(leaves) if leaf.size}
  return checkpoints.save(place, {"position": np.array([under.step, under.evaluated]), **arrays})


def _restored(program: Program, fresh: _Underway, place: pathlib.Path) -> _Underway:
  """What `_save` wrote last, or `fresh` if nothing there is whole."""
  arrays = checkpoints.restore(place)
  if arrays is None:
    return fresh
  step, evaluated = arrays["position"].tolist()
  lane = (program.width,) if program.mode == "vmap" else ()
  kept = {}
  for name, struct in program.outcome.items():
    every = program.trainer.metrics[name].dims[:1] == (EVALUATION,)
    count = evaluated if every else min(evaluated, 1)
    kept[name] = [jax.ShapeDtypeStruct((*lane, *struct.shape), struct.dtype)] * count
  like, structure = jax.tree.flatten((fresh.state, kept, fresh.diverged))
  leaves = [
    arrays[f"{number}"] if leaf.size else np.zeros(leaf.shape, leaf.dtype)
    for number, leaf in enumerate(like)
  ]
  state, kept, diverged = jax.tree.unflatten(structure, leaves)
  return _Underway(step, evaluated, jax.tree.map(jnp.array, state), kept, diverged)


def _length(trainer: Trainer, step: int, evaluated: int, *longest: int | None) -> int:
  """How many steps the segment after `step` has; 0 if the next evaluation comes first."""
  length = trainer.plan[evaluated] - step
  if trainer.period:
    length = min(length, trainer.period - step % trainer.period)
  return min([length, *filter(None, longest)])


def _upcoming(
  trainer: Trainer, step: int, evaluated: int, longest: int | None
) -> tuple[int, int, int] | None:
  """(step, evaluations done before it, length) of the next segment; None after the last one."""
  while evaluated < len(trainer.plan):
    length = _length(trainer, step, evaluated, longest)
    if length:
      return step, evaluated, length
    evaluated += 1
  return None


def _fitting(trainer: Trainer, seconds: float, step_seconds: float) -> int | None:
  """How many steps fit into `seconds`; one while nobody knows how long a step lasts.

  None for a Trainer that is fed: each length of what it is fed is another program, and what has to
  fit into memory is not that long.
  """
  if trainer.feed or math.isinf(seconds):
    return None
  if math.isnan(step_seconds):
    return 1
  return max(1, int(seconds / max(step_seconds, 1e-9)))


def _start(program: Program, seeds: np.ndarray):
  return program.init(_seeds(program, seeds), program.data)


def _advance(program: Program, state, seeds: np.ndarray, fed, first: int, length: int):
  numbers = np.int32(first), np.int32(length)
  return program.advance(state, _seeds(program, seeds), program.data, fed, *numbers)


def _evaluate(program: Program, state, seeds: np.ndarray):
  return program.evaluate(state, _seeds(program, seeds), program.data)


def _seeds(program: Program, seeds: np.ndarray) -> tuple[np.ndarray, ...]:
  """The seeds of a group as its programs take them."""
  return streams.split(seeds if program.mode == "vmap" else seeds[0])


def _fed(program: Program, seeds: np.ndarray, first: int, length: int):
  """The host's part of a segment for every lane."""
  if not program.trainer.feed:
    return None
  per_lane = [program.trainer.feed(row, first, length) for row in seeds]
  if program.mode == "loop":
    return per_lane[0]
  return jax.tree.map(lambda *leaves: np.stack(leaves), *per_lane)


def _prefetch(executor, program, seeds, step, evaluated, longest):
  """Starts reading for the first segment after `step`, while the device computes."""
  if not program.trainer.feed:
    return None
  upcoming = _upcoming(program.trainer, step, evaluated, longest)
  return upcoming and executor.submit(_fed, program, seeds, upcoming[0], upcoming[2])


def _lanes(program: Program, leaf) -> np.ndarray:
  """A leaf as a host array with the lane axis in front, in either mode."""
  array = np.asarray(leaf)
  return array if program.mode == "vmap" else array[None]


def _rarely(report: Callable[[float], None]) -> Callable[[float], None]:
  """`report` at most twice a second."""
  last = -math.inf  # at once: a resumed run has something to tell

  def limited(runs: float) -> None:
    nonlocal last
    if time.monotonic() - last >= 0.5:
      last = time.monotonic()
      report(runs)

  return limited
