"""What a worker does for a sweep: describe an experiment, compute a chunk of its runs.

Everything here takes JSON and answers with JSON and arrays, so any executor can
carry it. `code` is the function that builds the Trainer where it cannot be imported.
"""

import dataclasses
import inspect
import json
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from seedlab import (
  checkpoints,
  config,
  devices,
  engine,
  errors,
  host,
  lanes,
  memory,
  parts,
  pool,
  programs,
)
from seedlab.errors import UserError
from seedlab.pool import Code
from seedlab.recipe import WHICH, Recipe
from seedlab.trainer import EVALUATION, Trainer

# The last program, by the spec that asked for it and by the one that says what was chosen.
_last: dict[tuple[str, Code | None], engine.Choice] = {}


def describe(spec: Mapping[str, Any], code: Code | None = None) -> dict[str, Any]:
  """What the parent must know before a sweep; runs in a worker."""
  with memory.explained():
    program, _, evidence = _choice(spec, code)
  trainer = program.trainer
  with memory.explained(program.costs, program.width):
    step, evaluation = engine.speed(program)
  outcome = {}
  # In the order of `metrics`, whose first one is the headline: JAX has sorted the outcome's names.
  for name, metric in trainer.metrics.items():
    dims, struct = list(metric.dims), program.outcome[name]
    every = dims[:1] == [EVALUATION]
    sizes = [len(trainer.plan)] * every + list(struct.shape)
    outcome[name] = [dims, sizes, np.dtype(struct.dtype).str]
  return {
    "plan": list(trainer.plan),
    "outcome": outcome,
    "meanings": {
      name: {"better": metric.better, "unit": metric.unit}
      for name, metric in trainer.metrics.items()
    },
    "coords": {name: [dim, np.asarray(labels)] for name, (dim, labels) in trainer.coords.items()},
    "fingerprint": program.fingerprint,
    "costs": program.costs,
    "evidence": [dataclasses.asdict(one) for one in evidence],
    "evaluation_digest": programs.evaluation_digest(program),
    "seconds_per_run": (step * trainer.plan[-1] + evaluation * len(trainer.plan)) / program.width,
  }


def compute(
  spec: Mapping[str, Any],
  seeds: list[list[int]],
  keep_params: bool = False,
  saves: Sequence[Any] | None = None,
  code: Code | None = None,
) -> dict[str, Any]:
  """Trains one run per row of seeds, with checkpoints as `saves` says; runs in a worker."""
  with memory.explained():
    program = _choice(spec, code).program
  with memory.explained(program.costs, program.width):
    results = engine.train(
      program,
      np.array(seeds, np.uint32),
      report=pool.progress,
      keep_params=keep_params,
      saves=checkpoints.Saves(*saves, pool.asked, pool.saved) if saves else None,
    )
  return {
    "outcome": results.outcome,
    "digest": results.digest,
    "diverged": results.diverged,
    "seconds": results.seconds / len(seeds),
    "fingerprint": program.fingerprint,
    "params": programs.named_leaves(results.params) if keep_params else None,
    "saved": results.saved,
  }


def check(spec: Mapping[str, Any], code: Code | None = None) -> None:
  """Builds the Trainer of a spec and nothing else; raises UserError for what cannot be."""
  _ready(spec)
  _trainer(spec, code)


def prepare(spec: Mapping[str, Any], code: Code | None = None) -> None:
  """Compiles the program of a spec: the cache of compiled programs has it from then on."""
  _choice(spec, code)


def ahead(spec: Mapping[str, Any], name: str, code: Code | None = None) -> dict[str, Any]:
  """What the programs of a spec do on the device `name`, which need not be there.

  Runs in a worker whose JAX is that of the CPU and whose XLA flags are those of the device.

  Returns:
    plan: the steps after which a run is evaluated.
    found: the evidence of each candidate (`lanes.Evidence`, as dicts).
    bytes_shared: of the data.
  """
  _ready(spec)
  device, trainers = devices.named(name), _trainers(spec, code)
  found, shared = engine.ahead(trainers, device, spec["mode"], spec["width"], spec["runs"])
  plan = next(iter(trainers.values())).plan
  listed = [dataclasses.asdict(one) for one in found]
  return {"plan": list(plan), "found": listed, "bytes_shared": shared}


def _choice(spec: Mapping[str, Any], code: Code | None) -> engine.Choice:
  """The compiled program of a spec, kept for the worker's next chunk."""
  if _key(spec, code) not in _last:
    _last.clear()  # before there is another one: a device may not hold two
    _ready(spec)
    runs = spec.get("runs", 1000)
    made = engine.choose(_trainers(spec, code), spec["mode"], spec["width"], runs)
    if made.lowering:
      fingerprint = made.program.fingerprint | {"lowering": made.lowering}
      made = made._replace(program=made.program._replace(fingerprint=fingerprint))
    program = made.program
    chosen = {**spec, "mode": program.mode, "width": program.width, "lowering": made.lowering}
    _last.update({_key(spec, code): made, _key(chosen, code): made})
  return _last[_key(spec, code)]


def _key(spec: Mapping[str, Any], code: Code | None) -> tuple[str, Code | None]:
  """What tells programs apart; how many runs are wanted only matters while something is chosen."""
  free = spec["mode"] == "auto" or spec["width"] is None
  return json.dumps({**spec, "runs": spec.get("runs") if free else None}), code


def _trainers(spec: Mapping[str, Any], code: Code | None) -> dict[str | None, Trainer]:
  """The Trainer of a spec, by the lowering of its convolutions where an accelerator has a choice.

  On a CPU the network itself chooses, layer by layer, by a fixed rule.
  """
  model = spec["arguments"].get("config", {}).get("model", {}) if not code else {}
  free = model.get("convolution") == "auto" and spec["function"] == "seedlab.training:make_trainer"
  if not free or host.target() == "cpu":
    return {None: _trainer(spec, code)}
  found: dict[str | None, Trainer] = {}
  chosen = spec.get("lowering")
  for lowering in [chosen] if chosen else lanes.LOWERINGS.values():
    config = {**spec["arguments"]["config"], "model": {**model, "convolution": lowering}}
    arguments = {**spec["arguments"], "config": config}
    found[lowering] = _trainer({**spec, "arguments": arguments}, code)
  return found


def _ready(spec: Mapping[str, Any]) -> None:
  _check_identity(spec)
  host.pin_if_needed()
  host.use_compilation_cache()


def _trainer(spec: Mapping[str, Any], code: Code | None) -> Trainer:
  build = code.load() if code else parts.resolve(spec["function"])
  try:
    inspect.signature(build).bind(**spec["arguments"])
  except TypeError as error:
    raise UserError(f"arguments={spec['arguments']!r} of {spec['function']}: {error}") from None
  trainer = build(**spec["arguments"])
  if isinstance(trainer, Recipe):  # of a function that returns one
    trainer = trainer()
  if not isinstance(trainer, Trainer):
    raise UserError(
      f"{spec['function']} returned a {type(trainer).__name__}, not a seedlab.Trainer or a recipe:"
      f" a function given to seedlab trains nothing itself; {WHICH}"
    )
  return trainer


def _check_identity(spec: Mapping[str, Any]) -> None:
  """Refuses the work of another seedlab, under whose rules this process would compute its own."""
  asked, here = spec.get("identity", {}), host.identity()
  if asked != here:
    changed = errors.changes(config.differences(asked, here))
    raise UserError(
      f"a worker on {platform.node()!r} has another seedlab or Python than the process that gives"
      f" it work ({changed}), and could give other results: install the same on both"
    )
