"""`seedlab bench --suite=scaling`: how the time of a run grows with each size, on one core.

One size of the digits networks is changed at a time; everything else is as in their configs.
"""

import time
from collections.abc import Sequence
from typing import Any

from seedlab import engine, host, training
from seedlab.changes import changed
from seedlab.commands import bench_tasks
from seedlab.pool import WorkerPool

# (network, what is changed, its values); "lanes" and "runs" are no fields of a config.
_SIZES: tuple[tuple[str, str, Sequence[int]], ...] = (
  ("digits_mlp", "lanes", (1, 4, 16, 64)),
  ("digits_mlp", "model.width", (16, 64, 256)),
  ("digits_mlp", "model.depth", (1, 2, 4, 8)),
  ("digits_mlp", "data.train_examples", (125, 250, 500)),
  ("digits_mlp", "training.batch_size", (10, 50, 250)),
  ("digits_mlp", "runs", (16, 64, 256)),
  ("digits", "model.width", (8, 16, 32)),
  ("digits", "training.batch_size", (10, 50, 250)),
)


def suite(small: bool, say) -> list[dict[str, Any]]:
  """A row for each size: a step and a run of one lane, and what it took to compile."""
  rows = []
  with WorkerPool([host.usable_cores()[0]]) as pool:
    for network, field, values in _SIZES[:1] if small else _SIZES:
      for value in values[:2] if small else values:
        say(f"{network}, {field}={value}")
        found = pool.submit(measure, network, field, value, small).result()
        rows.append({"what": f"{network}, {field}", "value": value, **found})
  return rows


def measure(network: str, field: str, value: int, small: bool) -> dict[str, float]:
  """In a worker: milliseconds of a step and of a run of one lane, seconds to build the program."""
  config = bench_tasks._config(network, small)
  if "." in field:
    config = changed(config, {field: value})
  started = time.perf_counter()
  program = engine.build(
    training.make_trainer(config), *(("vmap", value) if field == "lanes" else ("auto", None))
  )
  built = time.perf_counter() - started
  if field == "runs":
    engine.train(program, bench_tasks._seeds(program.width))  # loads what later ones have
    return {
      "ms a run and lane": 1e3 * engine.train(program, bench_tasks._seeds(value)).seconds / value
    }
  step, evaluation = engine.speed(program, 0.05 if small else 0.5)
  plan, lanes = program.trainer.plan, program.width
  run = (step * plan[-1] + evaluation * len(plan)) / lanes
  memory = program.costs["bytes_lane"] / 2**20
  return {
    "us a step and lane": 1e6 * step / lanes, "ms a run and lane": 1e3 * run, "lanes": lanes,
    "MiB a lane": memory, "s to build": built,
  }  # fmt: skip
