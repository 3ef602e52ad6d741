"""Compiles a Trainer for `width` lanes and drives it in segments: the only jit and vmap over runs.

  for each group of `width` runs (the last one padded with copies of its last run)
    state = init(seeds, data)
    for each segment up to the next evaluation: state = advance(state, ...)
    at each evaluation of the plan: outcome = evaluate(state, seeds, data)
    every so many seconds, between two segments: a checkpoint; when asked, as soon as possible
    digest of every lane's whole final state

A segment's first step and length are traced, so one program serves every
segment and the bits cannot depend on how the steps are cut.

A state is any tree. Between two programs it is a tree of plain arrays in the structure of the
first trace: the data of typed keys, and static fields (functions, say) that one trace made.
"""

import concurrent.futures
import glob
import hashlib
import json
import math
import os
import pathlib
import re
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seedlab import checkpoints, console, host, streams
from seedlab.config import STREAMS
from seedlab.errors import UserError
from seedlab.trainer import EVALUATION, Trainer, check_same_tree

Mode = Literal["loop", "vmap"]
MODES: tuple[Mode, ...] = ("loop", "vmap")

# Measured on one core (BUILD_NOTES.md, Lanes): lanes pay where a step is so small that the
# loop around it dominates, and never for convolutions, which vmap turns into grouped ones.
_SMALL_NETWORK = 100_000
_CPU_WIDTH = 16
_ACCELERATOR_WIDTH = 32
_LANES_STATE = 8 * 2**30  # bytes; what a step needs besides is a few times as much

# How `init`, which runs once, is compiled on a CPU: five times as fast, and it runs no slower.
_QUICK = {"xla_backend_optimization_level": 1}
_LAYOUT = 1  # of a checkpoint; another one is ignored
_SEGMENT_SECONDS = 5.0  # at most, where there are checkpoints: so soon one that is asked for begins
_NEVER = np.int64(np.iinfo(np.int64).max)


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
  reads: tuple[int, ...]  # the leaves of the data that `evaluate` reads
  fingerprint: dict[str, Any]
  costs: dict[str, float]  # flops_step, flops_evaluation, bytes_lane, bytes_shared


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
  trainer: Trainer, mode: Mode | Literal["auto"] = "auto", width: int | None = None
) -> Program:
  """Traces and compiles; `auto` decides by the fixed rule of `lanes`."""
  streams.check_settings()
  host_data = trainer.load()
  data = jax.device_put(host_data)
  seeds = streams.split(np.zeros(len(STREAMS), np.uint32))
  init, advance, evaluate = _one_run(trainer, seeds, data)
  state = jax.eval_shape(init, seeds, data)
  outcome = jax.eval_shape(evaluate, state, seeds, data)
  _check_outcome(trainer, outcome)
  mode, width = lanes(state, jax.default_backend(), mode, width)
  fed = None
  if trainer.feed:
    fed = trainer.feed(np.zeros(len(STREAMS), np.uint32), 0, _first_segment(trainer))
  if mode == "vmap":
    init = jax.vmap(init, in_axes=(0, None))
    advance = jax.vmap(advance, in_axes=(0, 0, None, 0, None, None))
    evaluate = jax.vmap(evaluate, in_axes=(0, 0, None))
    seeds = streams.split(np.zeros((width, len(STREAMS)), np.uint32))
    fed = jax.tree.map(lambda leaf: np.stack([leaf] * width), fed)

  init = jax.jit(init)
  advance = jax.jit(advance, donate_argnums=0)
  number = jax.ShapeDtypeStruct((), jnp.int32)
  state = jax.eval_shape(init, seeds, data)
  evaluation = jax.jit(evaluate).trace(state, seeds, data)
  lowered = (
    init.lower(seeds, data),
    advance.lower(state, seeds, data, fed, number, number),
    evaluation.lower(),
  )
  said = "xla_backend_optimization_level" in os.environ.get("XLA_FLAGS", "")
  quick = _QUICK if jax.default_backend() == "cpu" and not said else None
  fingerprint = host.numerics() | {
    "device": host.device(),
    "mode": mode,
    "width": width,
    "program": _program_digest(lowered, quick),
    "data": tree_digest(host_data),
  }
  compiled = [_compile(lowered[0], quick), *map(_compile, lowered[1:])]
  shared = sum(leaf.nbytes for leaf in jax.tree.leaves(data))
  costs = {
    # The body of a loop is counted once, which makes this the cost of one step.
    "flops_step": _flops(lowered[1]) / width,
    "flops_evaluation": _flops(lowered[2]) / width,
    "bytes_lane": (_bytes(state) + _beside([one.memory_analysis() for one in compiled])) / width,
    "bytes_shared": float(shared),
  }
  if trainer.feed:  # a fed segment may have another length than the one compiled above
    compiled[1] = advance
  reads = _reads(evaluation, len(jax.tree.leaves(data)))
  return Program(trainer, mode, width, data, *compiled, outcome, reads, fingerprint, costs)


def _one_run(trainer: Trainer, seeds, data) -> tuple[Callable, Callable, Callable]:
  """init, advance and evaluate of one run, from its seeds, with states of plain arrays.

  Every state has the structure of the first trace: a static field that each trace makes anew
  (an optimiser's functions) would otherwise make another tree of it, which no program takes.
  """
  kinds = []  # of each leaf the implementation of keys, None where it is no typed key

  def first(seeds, data):
    state = trainer.init(streams.derive(seeds), data)
    kinds.extend(map(_key_kind, jax.tree.leaves(state)))
    return state

  form = jax.eval_shape(first, seeds, data)
  structure = jax.tree.structure(form)

  def plain(state):
    return jax.tree.unflatten(structure, map(key_data, jax.tree.leaves(state)))

  def typed(state):
    return jax.tree.unflatten(structure, map(_as_key, jax.tree.leaves(state), kinds))

  def init(seeds, data):
    return plain(trainer.init(streams.derive(seeds), data))

  def evaluate(state, seeds, data):  # no store knows bfloat16
    outcome = trainer.evaluate(typed(state), streams.derive(seeds), data)
    return {name: _storable(jnp.asarray(value)) for name, value in outcome.items()}

  def advance(state, seeds, data, fed, first, steps):
    result = trainer.advance(typed(state), streams.derive(seeds), data, fed, first, steps)
    if len(result) != 2 or not isinstance(result[1], dict) or "diverged" not in result[1]:
      raise UserError('Trainer.advance must return (state, {"diverged": step or -1})')
    check_same_tree(form, result[0], "Trainer.advance")
    return plain(result[0]), result[1]["diverged"]

  return init, advance, evaluate


def _reads(evaluation, count: int) -> tuple[int, ...]:
  """Which of the last `count` arguments of a traced function its results depend on."""
  from jax._src.interpreters import partial_eval

  jaxpr = evaluation.jaxpr.jaxpr
  _, used = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
  return tuple(int(number) for number in np.flatnonzero(used[len(used) - count :]))


def evaluation_digest(program: Program) -> str | None:
  """Of what the runs are tested on; None where that cannot be known.

  It is `evaluated_on` where the Trainer has it, else those leaves of the data that `evaluate`
  reads, whatever they are called. An `evaluate` that reads none has constants of its own.
  """
  if program.trainer.evaluated_on:
    return tree_digest(program.trainer.evaluated_on())
  leaves = jax.tree.leaves(program.data)
  read = sorted(tree_digest(leaves[number]) for number in program.reads)
  return hashlib.sha256("".join(read).encode()).hexdigest() if read else None


def lanes(state: Any, platform: str, mode: str, width: int | None) -> tuple[Mode, int]:
  """The lane mode and width: as asked, or for "auto" by a fixed rule.

  CPU: `vmap` of 16 lanes for networks without convolutions (no parameter of rank
  3 or more) of at most 100,000 parameters, else `loop`. Accelerators: `vmap` of 32, or of
  as many fewer, halved, as keep the lanes' state below 8 GiB: tables of embeddings
  are each lane's own, and so are the optimizer's numbers for them.

  Args:
    state: of one run; its `parameters` decide on a CPU.
  """
  leaves = jax.tree.leaves(parameters(state))
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
  if width or platform == "cpu":
    return "vmap", width or _CPU_WIDTH
  width, lane = _ACCELERATOR_WIDTH, _bytes(state)
  while width > 1 and width * lane > _LANES_STATE:
    width //= 2
  return "vmap", width


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
    kept = parameters(under.state)
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


def tree_digest(tree: Any) -> str:
  """SHA-256 over the leaves in path order, each with its path, dtype, shape and bytes."""
  return _leaves_digest(named_leaves(tree))


def named_leaves(tree: Any) -> dict[str, np.ndarray]:
  """{path: array} of a tree; of typed keys their data."""
  leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
  return {
    jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(key_data(leaf))
    for path, leaf in leaves
  }


def parameters(state: Any) -> Any:
  """The field or entry `params` of a state; the whole state where it has none."""
  if isinstance(state, Mapping):
    return state.get("params", state)
  return getattr(state, "params", state)


def key_data(leaf: Any) -> Any:
  """The integers of a typed key, uint32[..., words]; any other leaf as it is."""
  return leaf if _key_kind(leaf) is None else jax.random.key_data(leaf)


def _key_kind(leaf: Any) -> Any:
  """The implementation of a typed key; None for any other leaf."""
  typed = hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
  return jax.random.key_impl(leaf) if typed else None


def _as_key(leaf: jax.Array, kind: Any) -> jax.Array:
  """The inverse of `key_data`."""
  return leaf if kind is None else jax.random.wrap_key_data(leaf, impl=kind)


def _leaves_digest(leaves: dict[str, np.ndarray]) -> str:
  sha = hashlib.sha256()
  for path, leaf in sorted(leaves.items()):
    sha.update(f"{path} {leaf.dtype.name} {leaf.shape}\n".encode())
    # In place: a leaf may be a mapped file larger than memory. As bytes, since not every dtype
    # (bfloat16) is one that buffers know.
    sha.update(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8))
  return sha.hexdigest()


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
  leaves = {path: _lanes(program, leaf) for path, leaf in named_leaves(under.state).items()}
  digests = np.array(
    [_leaves_digest({path: leaf[lane] for path, leaf in leaves.items()}) for lane in range(real)],
    "S64",
  )
  return outcome, digests, np.where(under.diverged == _NEVER, -1, under.diverged)[:real]


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


def _first_segment(trainer: Trainer) -> int:
  upcoming = _upcoming(trainer, 0, 0, None)
  return upcoming[2] if upcoming else 0


def _bytes(tree: Any) -> int:
  return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


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


def _check_outcome(trainer: Trainer, outcome) -> None:
  if set(outcome) != set(trainer.metrics):
    raise UserError(
      f"Trainer.metrics names {sorted(trainer.metrics)}, evaluate returns {sorted(outcome)}:"
      " they must be the same"
    )
  for name, struct in outcome.items():
    dims = tuple(trainer.metrics[name].dims)
    every = dims[:1] == (EVALUATION,)
    if len(dims) - every != len(struct.shape):
      added = " after 'evaluation', which seedlab adds," if every else ""
      raise UserError(
        f"Trainer.metrics[{name!r}].dims={dims} must name{added} the {len(struct.shape)} axes of"
        f" the array of shape {struct.shape} that evaluate returns"
      )


def _storable(value: jax.Array) -> jax.Array:
  return value.astype(jnp.float32) if value.dtype == jnp.bfloat16 else value


def _program_digest(lowered, options: Mapping[str, Any] | None = None) -> str:
  """SHA-256 of the StableHLO without locations: edited code changes it, moved code does not.

  Options of the compiler are part of it, where there are any.

  Arrays that a program captured are constants in its text, or beside it where JAX is told to keep
  them out of programs (jax_use_simplified_jaxpr_constants); then they are hashed as well.
  """
  sha = hashlib.sha256(json.dumps(options).encode() if options else b"")
  for stage in lowered:
    sha.update(stage.as_text(debug_info=False).encode())
    captured = getattr(stage._lowering, "const_args", None)
    if captured is None and getattr(jax.config, "jax_use_simplified_jaxpr_constants", False):
      raise UserError(
        f"jax_use_simplified_jaxpr_constants=True hides in jax {jax.__version__} which constants"
        " a program has captured; unset JAX_USE_SIMPLIFIED_JAXPR_CONSTANTS"
      )
    for constant in captured or ():
      sha.update(tree_digest(constant).encode())
  return sha.hexdigest()


def _compile(lowered, options: dict[str, Any] | None = None):
  """Compiles; a cached program that cannot be read is deleted, which costs a recompilation.

  JAX leaves such an entry where it is and would fail on it again in every later process. A
  process killed while it wrote leaves one.
  """
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    compiled = lowered.compile(compiler_options=options)
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


def _beside(stages) -> float:
  """Bytes that lanes need at most beside their state, from the analyses of init, advance, evaluate.

  The first two give nothing but a state. What a segment is fed is small beside what it computes.
  """
  if not all(stages):
    return math.nan
  init, advance, evaluate = stages
  evaluated = evaluate.temp_size_in_bytes + evaluate.output_size_in_bytes
  return float(max(init.temp_size_in_bytes, advance.temp_size_in_bytes, evaluated))


def _flops(lowered) -> float:
  analysis = lowered.cost_analysis() or {}
  return float(analysis.get("flops", math.nan))


def _rarely(report: Callable[[float], None]) -> Callable[[float], None]:
  """`report` at most twice a second."""
  last = -math.inf  # at once: a resumed run has something to tell

  def limited(runs: float) -> None:
    nonlocal last
    if time.monotonic() - last >= 0.5:
      last = time.monotonic()
      report(runs)

  return limited
