"""Compiles a Trainer for `width` lanes: the only jit and vmap over runs.

  one_run   init, advance and evaluate of one run, from its seeds
  trace     the same for all lanes of a program, for the device of this process or one elsewhere
  compiled  the program, with its fingerprint and what it costs

A segment's first step and length are traced, so one program serves every
segment and the bits cannot depend on how the steps are cut.

A state is any tree. Between two programs it is a tree of plain arrays in the structure of the
first trace: the data of typed keys, and static fields (functions, say) that one trace made.
"""

import contextlib
import glob
import hashlib
import json
import math
import os
import pathlib
import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seedlab import counting, host, streams
from seedlab.config import STREAMS
from seedlab.errors import UserError
from seedlab.trainer import EVALUATION, Trainer, check_same_tree

# How `init`, which runs once, is compiled on a CPU: five times as fast, and it runs no slower.
_QUICK = {"xla_backend_optimization_level": 1}

Mode = Literal["loop", "vmap"]
MODES: tuple[Mode, ...] = ("loop", "vmap")


class OneRun(NamedTuple):
  """A Trainer as functions of the seeds of one run, and what these give."""

  trainer: Trainer
  data: Any  # arrays, or their shapes and place where the device is not there
  init: Callable[..., Any]
  advance: Callable[..., Any]
  evaluate: Callable[..., Any]
  state: Any  # shapes
  outcome: dict[str, jax.ShapeDtypeStruct]


class Traced(NamedTuple):
  """The programs of `width` lanes of one mode, not yet compiled."""

  one: OneRun
  mode: Mode
  width: int
  state: Any  # shapes, of all lanes
  init: jax.stages.Traced
  advance: jax.stages.Traced
  evaluate: jax.stages.Traced
  anew: Callable[..., Any]  # `advance` for segments that are fed, which may be of any length


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


def one_run(trainer: Trainer, data: Any) -> OneRun:
  """The functions of one run, and the shapes of its state and outcome.

  Args:
    trainer: what is trained.
    data: what it loaded; or shapes, with the place of a device that is not there.
  """
  streams.check_settings()
  seeds = streams.split(np.zeros(len(STREAMS), np.uint32))
  init, advance, evaluate = _functions(trainer, seeds, data)
  state = jax.eval_shape(init, seeds, data)
  outcome = jax.eval_shape(evaluate, state, seeds, data)
  _check_outcome(trainer, outcome)
  return OneRun(trainer, data, init, advance, evaluate, state, outcome)


def trace(
  one: OneRun, mode: Mode, width: int, place: jax.sharding.Sharding | None = None
) -> Traced:
  """The programs of `width` lanes; `place` is that of a device that is not there."""
  functions, data = (one.init, one.advance, one.evaluate), one.data
  seeds = streams.split(np.zeros(len(STREAMS), np.uint32))
  fed = None
  if one.trainer.feed:
    fed = one.trainer.feed(np.zeros(len(STREAMS), np.uint32), 0, _first_segment(one.trainer))
  if mode == "vmap":
    axes: tuple[Any, ...] = ((0, None), (0, 0, None, 0, None, None), (0, 0, None))
    functions = tuple(map(jax.vmap, functions, axes))
    seeds = streams.split(np.zeros((width, len(STREAMS)), np.uint32))
    fed = jax.tree.map(lambda leaf: np.stack([leaf] * width), fed)
  number: Any = jax.ShapeDtypeStruct((), jnp.int32)
  init, advance, evaluate = functions
  advance = jax.jit(advance, donate_argnums=0)

  def anew(*arguments):
    with products():
      return advance(*arguments)

  with products():
    state = jax.eval_shape(init, seeds, data)
    if place:
      seeds, fed, number, state = placed((seeds, fed, number, state), place)
    return Traced(
      one,
      mode,
      width,
      state,
      jax.jit(init).trace(seeds, data),
      advance.trace(state, seeds, data, fed, number, number),
      jax.jit(evaluate).trace(state, seeds, data),
      anew,
    )


def placed(tree: Any, place: jax.sharding.Sharding) -> Any:
  """The shapes of the arrays of a tree, on a device that is not there."""

  def one(leaf):
    dtype = jax.dtypes.canonicalize_dtype(leaf.dtype)
    return jax.ShapeDtypeStruct(leaf.shape, dtype, sharding=place)

  return jax.tree.map(one, tree)


def products() -> contextlib.AbstractContextManager[Any]:
  """Within it float32 products are float32, where nobody has asked JAX for something else.

  An accelerator's own default is less: TF32 on NVIDIA's (10 bits of the mantissa), bfloat16 on
  Google's (7 bits).
  """
  asked = host.matmul_precision(host.target())
  return jax.default_matmul_precision(asked) if asked else contextlib.nullcontext()


def compiled(traced: Traced, loaded: Any) -> Program:
  """The program, compiled for the device of this process.

  Args:
    traced: from data on that device.
    loaded: the same data, as the Trainer loaded them.
  """
  one, width = traced.one, traced.width
  stages = (traced.init, traced.advance, traced.evaluate)
  lowered = [stage.lower() for stage in stages]
  said = "xla_backend_optimization_level" in os.environ.get("XLA_FLAGS", "")
  quick = _QUICK if host.target() == "cpu" and not said else None
  fingerprint = host.numerics() | {
    "device": host.device(),
    "mode": traced.mode,
    "width": width,
    "program": program_digest(lowered, quick),
    "data": tree_digest(loaded),
  }
  made: list[Any] = [compile_(lowered[0], quick), *map(compile_, lowered[1:])]
  beside = _beside([stage.memory_analysis() for stage in made])
  costs = {
    "flops_step": sum(counting.products(traced.advance.jaxpr).values()) / width,
    "flops_evaluation": sum(counting.products(traced.evaluate.jaxpr).values()) / width,
    "bytes_lane": (size(traced.state) + beside) / width,
    "bytes_shared": float(sum(leaf.nbytes for leaf in jax.tree.leaves(one.data))),
  }
  if one.trainer.feed:
    made[1] = traced.anew
  reads = _reads(traced.evaluate, len(jax.tree.leaves(one.data)))
  init, advance, evaluate = made
  return Program(
    one.trainer, traced.mode, width, one.data, init, advance, evaluate, one.outcome, reads,
    fingerprint, costs,
  )  # fmt: skip


def _functions(trainer: Trainer, seeds, data) -> tuple[Callable, Callable, Callable]:
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


def tree_digest(tree: Any) -> str:
  """SHA-256 over the leaves in path order, each with its path, dtype, shape and bytes."""
  return leaves_digest(named_leaves(tree))


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


def leaves_digest(leaves: dict[str, np.ndarray]) -> str:
  sha = hashlib.sha256()
  for path, leaf in sorted(leaves.items()):
    sha.update(f"{path} {leaf.dtype.name} {leaf.shape}\n".encode())
    # In place: a leaf may be a mapped file larger than memory. As bytes, since not every dtype
    # (bfloat16) is one that buffers know.
    sha.update(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8).data)
  return sha.hexdigest()


def _first_segment(trainer: Trainer) -> int:
  """Steps before the first evaluation or the end of the first period, whichever is sooner."""
  later = [step for step in trainer.plan if step > 0]
  return min([*later[:1], *filter(None, [trainer.period])], default=0) if later else 0


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


def program_digest(lowered, options: Mapping[str, Any] | None = None) -> str:
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


def compile_(lowered, options: dict[str, Any] | None = None):
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


def size(tree: Any) -> int:
  return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
