"""What a sweep will cost, before anything is trained: on this machine, or on a device elsewhere."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from seedlab import devices, host, lanes, tasks
from seedlab.config import Config
from seedlab.errors import UserError
from seedlab.experiment import Experiment, describe, executor_of, experiment, spec_of
from seedlab.pool import WorkerPool, check_workers
from seedlab.progress import say
from seedlab.sweeps import run_numbers

_LANES = tuple(2**power for power in range(11))  # of which the memory is told


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
  device: str | None = None,
  price_per_hour: float | None = None,
  quiet: bool = False,
) -> dict[str, Any]:
  """What a sweep will cost: from half a second of training here, or from the programs of a device.

  Args:
    what, runs, arguments, seeds, data_dir, lanes, width, workers, quiet: as of `sweeps.sweep`.
    device: one of `devices.DEVICES`, which need not be there: the programs are compiled for it,
      and all times are bounds. `workers` are then devices, one by default.
    price_per_hour: of one such device.

  Returns:
    a dict by name; with a device, as `_ahead` says.
  """
  check_workers(workers)
  if device is None and price_per_hour is not None:
    raise UserError("price_per_hour is of a device: name it with device, e.g. device='h200'")
  if device is not None:
    devices.check_compiler(devices.named(device))
    if price_per_hour is not None and not 0 <= price_per_hour < math.inf:
      raise UserError(f"price_per_hour={price_per_hour!r} must be a number of at least 0")
  begun = "planning: reading the data, compiling"
  begun += f" for {device}" if device else ", measuring the speed"
  say(quiet, f"{begun}; nothing is trained")
  described = experiment(what, arguments, seeds, data_dir)
  wanted = len(run_numbers(runs, described.seeds))
  if device:
    return _ahead(described, wanted, device, lanes, width, workers or 1, price_per_hour)
  with executor_of(workers, None) as (pool, count):
    each = math.ceil(wanted / count)
    facts = describe(pool, described, lanes, width, quiet=True, runs=each)
  steps, evaluations, costs = facts["plan"][-1], len(facts["plan"]), facts["costs"]
  return {
    "runs": wanted,
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
    "hours": facts["seconds_per_run"] * math.ceil(wanted / count) / 3600,
  }


def _ahead(
  described: Experiment,
  runs: int,
  name: str,
  mode: str,
  width: int | None,
  count: int,
  price: float | None,
) -> dict[str, Any]:
  """The plan for `count` devices that are elsewhere.

  Returns:
    candidates: the evidence of each program that was compiled (`lanes.Evidence`, as dicts, with
      `seconds` a step and what limits it).
    chosen: which of them `lanes="auto"` takes.
    memory: {lanes: bytes} of programs like the last candidate; `most_lanes` of it fit.
    hours, price: of all runs; no less than these.
  """
  if mode == "measure":
    raise UserError("lanes='measure' times programs on the device itself: plan with lanes='auto'")
  device, each = devices.named(name), math.ceil(runs / count)
  spec = spec_of(described, mode, width, runs=each)
  with WorkerPool([None], [host.ahead_environment(device.platform)]) as pool:
    answer = pool.submit(tasks.ahead, spec, name, described.code).result()
  found = [lanes.Evidence(**one) for one in answer["found"]]
  best = lanes.chosen(found, device, answer["plan"], each)
  memory = _memory(found[-1], answer["bytes_shared"])
  hours = best.hours(answer["plan"], each)
  return {
    "device": name,
    "device_memory": device.memory,
    "runs": runs,
    "workers": count,
    "steps_per_run": answer["plan"][-1],
    "evaluations_per_run": len(answer["plan"]),
    "bytes_shared_per_worker": answer["bytes_shared"],
    "candidates": [_row(one, device) for one in found],
    "chosen": found.index(best),
    "memory": memory,
    "most_lanes": max((n for n, size in memory.items() if lanes.fits(size, device)), default=0),
    "hours": hours,
    "price": None if price is None else price * hours * count,
  }


def _row(one: lanes.Evidence, device: devices.Device) -> dict[str, Any]:
  told = {"seconds": one.seconds, "limit": one.limit, "fits": one.fits(device)}
  return dataclasses.asdict(one) | told


def _memory(one: lanes.Evidence, shared: float) -> dict[int, float]:
  """{lanes: bytes} of programs like that one: each lane needs as much, beside the data."""
  lane = (one.memory - shared) / one.width
  return {number: shared + number * lane for number in _LANES}
