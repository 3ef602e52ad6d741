"""Trains one experiment from many seeds into one store.

The same command again resumes what was interrupted; with more runs it extends the sweep. The first
--runs are recorded as its plan: seedlab compare looks at that number of runs, then when it doubles.
"""

import contextlib
import json
import os
import shlex
from typing import Any

from absl import flags

from seedlab import cli, console, decoding
from seedlab.errors import UserError

_CONFIG = flags.DEFINE_string("config", None, "the experiment")
_TRAINER = flags.DEFINE_string("trainer", None, "module:function that builds a Trainer of your own")
_ARGUMENTS = flags.DEFINE_string("arguments", "{}", "JSON arguments of --trainer's function")
_SEEDS = flags.DEFINE_string("seeds", "{}", 'JSON seeds of --trainer, as in {"vary": ["order"]}')
_RUNS = flags.DEFINE_string("runs", None, "how many runs (0, 1, ...), or FIRST:STOP")
_OUT = flags.DEFINE_string("out", None, "directory of the store", required=True)
_DATA = flags.DEFINE_string("data_dir", None, "tensorflow-datasets directory; else SEEDLAB_DATA")
_GRID = flags.DEFINE_multi_string("grid", [], "FIELD=v1,v2: one store a cell, below --out")
_PLAN = flags.DEFINE_bool("plan", False, "train nothing; say what the sweep will cost")
_DEVICE = flags.DEFINE_string("device", None, "with --plan: on h200, h100, a100, v5e or v6e")
_PRICE = flags.DEFINE_float("price_per_hour", None, "with --device: of one such device")
_LANES = flags.DEFINE_enum("lanes", "auto", ["auto", "loop", "vmap", "measure"], "how runs share")
_WIDTH = flags.DEFINE_integer("width", None, "runs in one program, with --lanes=vmap")
_WORKERS = flags.DEFINE_integer("workers", None, "worker processes; else one a core or accelerator")
_SCHEDULER = flags.DEFINE_string("scheduler", None, "dask:ADDRESS or dask:FILE: train there")
_PLANNED = flags.DEFINE_integer("planned_n", None, "first look at so many runs, not at --runs")
_STOP = flags.DEFINE_string("stop", None, 'rule, as in "ci_width(test_accuracy)<0.001"')
_MOST = flags.DEFINE_integer("max_runs", None, "with --stop: the most runs to train")
_SAVES = flags.DEFINE_float(
  "checkpoint_minutes", 10.0, "save runs under way this often; 0: never", lower_bound=0.0
)
_SHARD = flags.DEFINE_string("shard", None, "i/n: one of n parts of the runs; auto in a job array")
_RETRY = flags.DEFINE_bool("retry_failed", False, "train the runs again that failed before")
_STALL = flags.DEFINE_float(
  "stall_minutes", 10.0, "report a run that is silent for so long; 0: never", lower_bound=0.0
)
_LIMIT = flags.DEFINE_float("run_minutes", None, "end a run that takes longer; it has then failed")
_NEW = flags.DEFINE_bool("new_fingerprint", False, "go on after programs or versions changed")

POSITIONAL = ()


def main(argv: list[str]) -> None:
  del argv
  if _PLAN.value:
    console.write(
      "planning trains nothing: it reads the data, compiles the programs"
      + (" and counts what they do" if _DEVICE.value else " and times a few steps"),
      error=True,
    )
  what: Any = _TRAINER.value or cli.experiment(_CONFIG.value)
  if _TRAINER.value and _CONFIG.value:
    raise UserError("--config and --trainer are two experiments; give one")
  if not what:
    raise UserError("--config is missing: name the experiment, e.g. --config=seedlab:digits")
  runs = _runs(_RUNS.value)
  options: dict[str, Any] = {"data_dir": _DATA.value, "lanes": _LANES.value, "width": _WIDTH.value}
  options |= {"workers": _WORKERS.value, **_own_trainer()}
  plans = {"planned_n": _PLANNED.value, "stop": _STOP.value, "max_runs": _MOST.value}
  training = {**options, **plans, "new_fingerprint": _NEW.value}
  training["checkpoint_every"] = 60 * _SAVES.value
  planned = {**options, "device": _DEVICE.value, "price_per_hour": _PRICE.value, "quiet": True}
  if _DEVICE.value and not _PLAN.value:
    raise UserError(
      f"--device={_DEVICE.value} is where --plan supposes the sweep; a sweep trains where it is"
      " started: add --plan, or leave --device out"
    )
  training |= {"shard": _SHARD.value, "retry_failed": _RETRY.value}
  training |= {"stall_minutes": _STALL.value, "run_minutes": _LIMIT.value}
  if _SCHEDULER.value and (_WORKERS.value is not None or _PLAN.value):
    other = "--plan" if _PLAN.value else "--workers"
    raise UserError(f"{other} is of this machine, --scheduler of a cluster; leave one of them out")
  # After the flags: a mistake answers at once.
  from seedlab import grids, planning, records, report, sweeps

  if _PLAN.value and _GRID.value:
    for cell in grids.grid_cells(what, _grid(), _OUT.value, options["arguments"]):
      console.write(", ".join(f"{name}={value}" for name, value in cell.values.items()))
      asked = {**planned, "arguments": cell.arguments}
      console.write(report.plan_text(planning.plan(cell.what, runs or _MOST.value, **asked)) + "\n")
  elif _PLAN.value:
    console.write(report.plan_text(planning.plan(what, runs or _MOST.value, **planned)))
  elif _GRID.value:
    with _executor() as training["executor"]:
      cells = grids.grid(what, _grid(), runs, _OUT.value, **training)
    if _SHARD.value:
      console.write("When all shards are there:")
      for _, store in cells:
        console.write(f"  seedlab merge {shlex.quote(os.fspath(store))}")
    else:
      console.write(report.grid_text(cells))
  else:
    with _executor() as training["executor"]:
      dataset = sweeps.sweep(what, runs, _OUT.value, **training)
    if _SHARD.value:
      console.write(f"When all shards are there: seedlab merge {shlex.quote(_OUT.value)}")
      return
    with records.readable(_OUT.value):
      console.write(report.headline(dataset))
    console.write(f"All of it on one page: seedlab report {shlex.quote(_OUT.value)}")


def _executor() -> contextlib.AbstractContextManager[Any]:
  """That of --scheduler; None is one of this machine."""
  from seedlab import cluster

  return cluster.connect(_SCHEDULER.value) if _SCHEDULER.value else contextlib.nullcontext()


def _own_trainer() -> dict[str, Any]:
  found = {}
  for name, text in (("arguments", _ARGUMENTS.value), ("seeds", _SEEDS.value)):
    try:
      found[name] = decoding.parse(text)
    except json.JSONDecodeError as error:
      raise UserError(f"--{name}={text!r} is not JSON ({error})") from None
    if not isinstance(found[name], dict):
      raise UserError(f'--{name}={text!r} must be a JSON object, as in {{"width": 8}}')
  return found


def _runs(text: str | None) -> range | None:
  if text is None:
    return None
  try:
    first, stop = map(int, text.split(":") if ":" in text else ("0", text))
  except ValueError:
    raise UserError(f"--runs={text!r} must be a number, or FIRST:STOP") from None
  if first < 0 or stop <= first:
    raise UserError(f"--runs={text} names no run; give at least 1, or FIRST:STOP with FIRST < STOP")
  return range(first, stop)


def _grid() -> dict[str, list[Any]]:
  cells: dict[str, list[Any]] = {}
  for item in _GRID.value:
    field, separator, values = item.partition("=")
    if not separator or not values:
      raise UserError(f"--grid={item!r} must be FIELD=v1,v2, as in activation=relu,smelu")
    field = field.removeprefix("config.")
    if field in cells:
      raise UserError(f"--grid={field} is given twice; list its values once, with commas")
    cells[field] = [cli.value_of(word) for word in values.split(",")]
  return cells
