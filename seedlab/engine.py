"""Compiles a Trainer for `width` lanes and drives it in segments: the only jit and vmap over runs.

  for each group of `width` runs (the last one padded with copies of its last run)
    state = init(seeds, data)
    for each segment up to the next evaluation: state = advance(state, ...)
    at each evaluation of the plan: outcome = evaluate(state)
    digest of every lane's whole final state

A segment's first step and length are traced, so one program serves every
segment and the bits cannot depend on how the steps are cut.
"""

import concurrent.futures
import glob
import hashlib
import math
import pathlib
import re
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seedlab import host, streams
from seedlab.config import STREAMS, UserError
from seedlab.trainer import EVALUATION, Trainer

Mode = Literal["loop", "vmap"]
MODES: tuple[Mode, ...] = ("loop", "vmap")

# Measured on one core (BUILD_NOTES.md, Lanes): lanes pay where a step is so small that the
# loop around it dominates, and never for convolutions, which vmap turns into grouped ones.
_SMALL_NETWORK = 100_000
_CPU_WIDTH = 16
_ACCELERATOR_WIDTH = 32


class Program(NamedTuple):
  """A Trainer compiled for `width` lanes of one mode."""

  trainer: Trainer
  mode: Mode
  width: int
  data: Any  # on the device, shared by the lanes
  init: Callable[..., Any]
  advance: Callable[..., Any]
  evaluate: Callable[..., Any]
  outcome: dict[str, jax.ShapeDtypeStruct]  # of one run
  fingerprint: dict[str, Any]
  costs: dict[str, float]  # flops_step, flops_evaluation, bytes_lane, bytes_shared


class Results(NamedTuple):
  """What R runs left behind, host arrays."""

  outcome: dict[str, np.ndarray]  # [R, evaluations, ...] or [R, ...], by Trainer.dims
  digest: np.ndarray  # S64[R], hexadecimal SHA-256 of the final state
  diverged: np.ndarray  # int64[R], first non-finite step or -1
  seconds: float
  params: Any = None  # of the last run, when asked for


def build(
  trainer: Trainer, mode: Mode | Literal["auto"] = "auto", width: int | None = None
) -> Program:
  """Traces and compiles; `auto` decides by the fixed rule of `lanes`."""
  streams.check_settings()
  host_data = trainer.load()
  data = jax.device_put(host_data)
  one_seed = jax.ShapeDtypeStruct((len(STREAMS),), jnp.uint32)

  def init(seeds, data):
    return trainer.init(streams.derive(seeds), data)

  def evaluate(state, data):  # no store knows bfloat16
    outcome = trainer.evaluate(state, data)
    return {name: _storable(jnp.asarray(value)) for name, value in outcome.items()}

  def advance(state, seeds, data, fed, first, steps):
    result = trainer.advance(state, streams.derive(seeds), data, fed, first, steps)
    if len(result) != 2 or not isinstance(result[1], dict) or "diverged" not in result[1]:
      raise UserError('Trainer.advance must return (state, {"diverged": step or -1})')
    return result[0], result[1]["diverged"]

  state = jax.eval_shape(init, one_seed, data)
  outcome = jax.eval_shape(evaluate, state, data)
  _check_outcome(trainer, outcome)
  mode, width = lanes(state.params, jax.default_backend(), mode, width)
  fed = None
  if trainer.feed:
    fed = trainer.feed(np.zeros(len(STREAMS), np.uint32), 0, _first_segment(trainer))
  if mode == "vmap":
    init = jax.vmap(init, in_axes=(0, None))
    advance = jax.vmap(advance, in_axes=(0, 0, None, 0, None, None))
    evaluate = jax.vmap(evaluate, in_axes=(0, None))
    one_seed = jax.ShapeDtypeStruct((width, len(STREAMS)), jnp.uint32)
    fed = jax.tree.map(lambda leaf: np.stack([leaf] * width), fed)

  init = jax.jit(init)
  advance = jax.jit(advance, donate_argnums=0)
  evaluate = jax.jit(evaluate)
  number = jax.ShapeDtypeStruct((), jnp.int32)
  state = jax.eval_shape(init, one_seed, data)
  lowered = (
    init.lower(one_seed, data),
    advance.lower(state, one_seed, data, fed, number, number),
    evaluate.lower(state, data),
  )
  fingerprint = host.numerics() | {
    "device": host.device(),
    "mode": mode,
    "width": width,
    "program": _program_digest(lowered),
    "data": tree_digest(host_data),
  }
  compiled = [_compile(stage) for stage in lowered]
  memory = compiled[1].memory_analysis()
  shared = sum(leaf.nbytes for leaf in jax.tree.leaves(data))
  state_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
  costs = {
    # The body of a loop is counted once, which makes this the cost of one step.
    "flops_step": _flops(lowered[1]) / width,
    "flops_evaluation": _flops(lowered[2]) / width,
    "bytes_lane": (state_bytes + memory.temp_size_in_bytes) / width if memory else math.nan,
    "bytes_shared": float(shared),
  }
  if trainer.feed:  # a fed segment may have another length than the one compiled above
    compiled[1] = advance
  return Program(trainer, mode, width, data, *compiled, outcome, fingerprint, costs)


def lanes(params: Any, platform: str, mode: str, width: int | None) -> tuple[Mode, int]:
  """The lane mode and width: as asked, or for "auto" by a fixed rule.

  CPU: `vmap` of 16 lanes for networks without convolutions (no parameter of rank
  3 or more) of at most 100,000 parameters, else `loop`. Accelerators: `vmap` of 32.
  """
  leaves = jax.tree.leaves(params)
  if mode == "auto":
    small = sum(leaf.size for leaf in leaves) <= _SMALL_NETWORK
    plain = all(leaf.ndim < 3 for leaf in leaves)
    mode = "vmap" if platform != "cpu" or (small and plain) else "loop"
  if mode not in MODES:
    raise UserError(f"lanes={mode!r} is not known; choices: auto, loop, measure, vmap")
  if mode == "loop":
    if width not in (None, 1):
      raise UserError(f"width={width} needs lanes=vmap; lanes=loop runs one run at a time")
    return "loop", 1
  if width is not None and width < 1:
    raise UserError(f"width={width} must be at least 1")
  return "vmap", width or (_CPU_WIDTH if platform == "cpu" else _ACCELERATOR_WIDTH)


def train(
  program: Program,
  seeds: np.ndarray,
  *,
  report: Callable[[float], None] = lambda runs: None,
  longest: int | None = None,
  keep_params: bool = False,
) -> Results:
  """Trains one run per row of `seeds`, uint32[R, streams].

  Args:
    report: called with the (fractional) number of runs done, at most twice a second.
    longest: cut segments to at most this many steps; the bits stay the same.
    keep_params: return the last run's parameters as well.
  """
  started = time.perf_counter()
  report = _rarely(report)
  parts = []
  for at in range(0, len(seeds), program.width):
    group = seeds[at : at + program.width]
    parts.append(
      _train_group(program, group, lambda done, at=at: report(at + done), longest, keep_params)
    )
  outcomes, digests, diverged, params = zip(*parts, strict=True)
  return Results(
    outcome={name: np.concatenate([part[name] for part in outcomes]) for name in outcomes[0]},
    digest=np.concatenate(digests),
    diverged=np.concatenate(diverged),
    seconds=time.perf_counter() - started,
    params=params[-1],
  )


def speed(program: Program, seconds: float = 0.5) -> tuple[float, float]:
  """Seconds of one step and of one evaluation of all lanes together.

  The best segment among those that fit into about `seconds` of real training
  (at least one): what disturbs a measurement only ever makes it longer.
  """
  seeds = np.arange(program.width, dtype=np.uint32)[:, None].repeat(len(STREAMS), axis=1)
  state = jax.block_until_ready(_start(program, seeds))
  step, started = math.inf, time.perf_counter()
  for first, length in _segments(program.trainer, None):
    if length:
      fed = _fed(program, seeds, first, length)
      before = time.perf_counter()
      state, _ = jax.block_until_ready(_advance(program, state, seeds, fed, first, length))
      step = min(step, (time.perf_counter() - before) / length)
    if time.perf_counter() - started > seconds:
      break
  before = time.perf_counter()
  jax.block_until_ready(program.evaluate(state, program.data))
  return step if math.isfinite(step) else 0.0, time.perf_counter() - before


def tree_digest(tree: Any) -> str:
  """SHA-256 over the leaves in path order, each with its path, dtype, shape and bytes."""
  return _leaves_digest(named_leaves(tree))


def named_leaves(tree: Any) -> dict[str, np.ndarray]:
  """{path: array} of a tree."""
  leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
  return {
    jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
    for path, leaf in leaves
  }


def _leaves_digest(leaves: dict[str, np.ndarray]) -> str:
  sha = hashlib.sha256()
  for path, leaf in sorted(leaves.items()):
    sha.update(f"{path} {leaf.dtype.name} {leaf.shape}\n".encode())
    sha.update(np.ascontiguousarray(leaf).tobytes())
  return sha.hexdigest()


def _train_group(program, seeds, report, longest, keep_params):
  """At most `width` runs from init to digest: outcome, digests, divergence steps, parameters."""
  trainer, real = program.trainer, len(seeds)
  seeds = np.concatenate([seeds, np.repeat(seeds[-1:], program.width - real, axis=0)])
  state = _start(program, seeds)
  kept: dict[str, list] = {name: [] for name in trainer.dims}
  diverged = []
  plan = list(_segments(trainer, longest))
  with concurrent.futures.ThreadPoolExecutor(1) as ahead:
    pending = _prefetch(ahead, program, seeds, plan, 0)
    for position, (first, length) in enumerate(plan):
      if length:
        fed = pending.result() if pending else None
        pending = _prefetch(ahead, program, seeds, plan, position + 1)
        state, step = _advance(program, state, seeds, fed, first, length)
        diverged.append(_lanes(program, step))  # waits, so that what is reported is done
        report((first + length) / trainer.plan[-1] * real)
      else:
        for name, value in program.evaluate(state, program.data).items():
          if trainer.dims[name][:1] != (EVALUATION,):
            kept[name].clear()  # only the last one counts
          kept[name].append(value)
  outcome = {}
  for name, values in kept.items():
    values = [_lanes(program, value)[:real] for value in values]
    at_each = trainer.dims[name][:1] == (EVALUATION,)
    outcome[name] = np.stack(values, axis=1) if at_each else values[0]
  never = np.full(program.width, np.iinfo(np.int64).max)
  first_bad = np.min([never, *(np.where(step >= 0, step, never) for step in diverged)], axis=0)
  leaves = {path: _lanes(program, leaf) for path, leaf in named_leaves(state).items()}
  digests = np.array(
    [_leaves_digest({path: leaf[lane] for path, leaf in leaves.items()}) for lane in range(real)],
    "S64",
  )
  params = None
  if keep_params:
    params = jax.tree.map(lambda leaf: _lanes(program, leaf)[real - 1], state.params)
  return outcome, digests, np.where(first_bad == never, -1, first_bad)[:real], params


def _segments(trainer: Trainer, longest: int | None) -> Iterator[tuple[int, int]]:
  """(first step, number of steps) in order; (step, 0) is an evaluation after `step` steps."""
  first = 0
  for target in trainer.plan:
    while first < target:
      length = target - first
      if trainer.period:
        length = min(length, trainer.period - first % trainer.period)
      if longest:
        length = min(length, longest)
      yield first, length
      first += length
    yield first, 0


def _first_segment(trainer: Trainer) -> int:
  return next((length for _, length in _segments(trainer, None) if length), 0)


def _start(program: Program, seeds: np.ndarray):
  return program.init(seeds if program.mode == "vmap" else seeds[0], program.data)


def _advance(program: Program, state, seeds: np.ndarray, fed, first: int, length: int):
  seeds = seeds if program.mode == "vmap" else seeds[0]
  return program.advance(state, seeds, program.data, fed, np.int32(first), np.int32(length))


def _fed(program: Program, seeds: np.ndarray, first: int, length: int):
  """The host's part of a segment for every lane."""
  if not program.trainer.feed:
    return None
  per_lane = [program.trainer.feed(row, first, length) for row in seeds]
  if program.mode == "loop":
    return per_lane[0]
  return jax.tree.map(lambda *leaves: np.stack(leaves), *per_lane)


def _prefetch(executor, program, seeds, plan, position):
  """Starts reading for the next segment at or after `position`, while the device computes."""
  if not program.trainer.feed:
    return None
  upcoming = next((item for item in plan[position:] if item[1]), None)
  return upcoming and executor.submit(_fed, program, seeds, *upcoming)


def _lanes(program: Program, leaf) -> np.ndarray:
  """A leaf as a host array with the lane axis in front, in either mode."""
  array = np.asarray(leaf)
  return array if program.mode == "vmap" else array[None]


def _check_outcome(trainer: Trainer, outcome) -> None:
  if set(outcome) != set(trainer.dims):
    raise UserError(
      f"Trainer.dims names {sorted(trainer.dims)}, evaluate returns {sorted(outcome)}: they must"
      " be the same"
    )
  for name, struct in outcome.items():
    dims = trainer.dims[name]
    every = dims[:1] == (EVALUATION,)
    if len(dims) - every != len(struct.shape):
      added = " after 'evaluation', which seedlab adds," if every else ""
      raise UserError(
        f"Trainer.dims[{name!r}]={dims} must name{added} the {len(struct.shape)} axes of the array"
        f" of shape {struct.shape} that evaluate returns"
      )


def _storable(value: jax.Array) -> jax.Array:
  return value.astype(jnp.float32) if value.dtype == jnp.bfloat16 else value


def _program_digest(lowered) -> str:
  """SHA-256 of the StableHLO without locations: edited code changes it, moved code does not."""
  sha = hashlib.sha256()
  for stage in lowered:
    sha.update(stage.as_text(debug_info=False).encode())
  return sha.hexdigest()


def _compile(lowered):
  """Compiles; a cached program that cannot be read is deleted, which costs a recompilation.

  JAX leaves such an entry where it is and would fail on it again in every later process. A
  process killed while it wrote leaves one.
  """
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    compiled = lowered.compile()
  for warning in caught:
    unreadable = re.search(
      r"reading persistent compilation cache entry for '(.+?)'", str(warning.message)
    )
    if unreadable:
      directory = pathlib.Path(jax.config.jax_compilation_cache_dir)
      for entry in directory.glob(f"{glob.escape(unreadable[1])}-*"):
        entry.unlink(missing_ok=True)
    else:
      warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
  return compiled


def _flops(lowered) -> float:
  analysis = lowered.cost_analysis() or {}
  return float(analysis.get("flops", math.nan))


def _rarely(report: Callable[[float], None]) -> Callable[[float], None]:
  """`report` at most twice a second."""
  last = time.monotonic()

  def limited(runs: float) -> None:
    nonlocal last
    if time.monotonic() - last >= 0.5:
      last = time.monotonic()
      report(runs)

  return limited
