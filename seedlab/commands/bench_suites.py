"""The suites of `seedlab bench`: what is timed side by side, as rows of a table."""

import concurrent.futures
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

from seedlab import cli, cluster, experiment, host, tasks
from seedlab.commands import bench_cpu, bench_generative, bench_pages, bench_tasks
from seedlab.config import STREAMS
from seedlab.pool import TaskError, WorkerDied, WorkerPool, local_pool

# What is timed of each network, and how many times as fast as eager PyTorch we shall be; as all
# others at least once.
_NETWORKS = {
  "digits_mlp": ("runs/s", 20.0),
  "digits": ("runs/s", 5.0),
  "picard": ("steps/s", 1.0),
  "resnet9": ("steps/s", 1.0),
}
_RIVALS = (
  "PyTorch, eager",
  "PyTorch, torch.compile",
  "PyTorch, torch.func",
  "JAX, jit",
  "JAX, jit of vmap",
)


def cpu(small: bool, repeats: int) -> list[dict]:
  """Beside PyTorch and plain JAX on one core, two workers beside one, a step in a loop, memory."""
  cores = host.usable_cores()
  rows = []
  for name, (unit, target) in _NETWORKS.items():
    which = {rival: target if rival == _RIVALS[0] else 1.0 for rival in _RIVALS}
    rows += _beside_others(cores[0], bench_cpu.seconds, name, unit, which, small, repeats)
  with WorkerPool([cores[0]]) as pool:
    say("ResNet-9: a step in a loop, beside the step alone")
    loop, alone = pool.submit(bench_tasks.resnet9_step, "auto", repeats, small).result()
    rows.append({"what": "ResNet-9 step in a loop, beside it alone: ms", "seedlab": 1e3 * loop,
                 "rival": 1e3 * alone, "ratio": loop / alone, "target": "<= 1.3"})  # fmt: skip
    say("memory of a worker after 100 and after 1,000 runs")
    few, many = pool.submit(bench_tasks.resident_memory, 5 if small else 100, 50 if small else 1000
                            ).result()  # fmt: skip
    rows.append({"what": "worker's memory after 1,000 runs, beside 100: MiB", "seedlab": many,
                 "rival": few, "ratio": many / few, "target": "~ 1"})  # fmt: skip
  if len(cores) > 1:
    say("two workers, beside one")
    rows.append(_two_workers(cores, 2 if small else 16, small, repeats))
  return rows


def generative(small: bool, repeats: int) -> list[dict]:
  """A step of a language model and of flow matching, beside PyTorch and plain JAX on one core."""
  core, rows = host.usable_cores()[0], []
  for name in bench_generative.NAMES:
    rivals = dict.fromkeys(bench_generative.RIVALS, 1.0)
    rows += _beside_others(
      core, bench_generative.seconds, name, "steps/s", rivals, small, repeats
    )
  return rows


def _beside_others(
  core: int,
  seconds: Callable[..., float],
  name: str,
  unit: str,
  rivals: Mapping[str, float],
  small: bool,
  repeats: int,
) -> list[dict]:
  """A row for each rival on a network: `unit` of seedlab and of it, taken in turns on one core.

  A rival that fails is left out with one line.

  Args:
    core: the core of both.
    seconds: (rival or "seedlab", name, small) -> CPU seconds of what `unit` counts.
    name, unit: of the network and of what is counted.
    rivals: by name how many times as fast seedlab shall be.
    small, repeats: see `cpu`.
  """
  rows: list[dict] = []
  with WorkerPool([core]) as ours:
    for rival, least in rivals.items():
      say(f"{name}: one core, beside {rival}")
      what = f"{name}, {unit} on one core, beside {rival}"
      taken: dict[str, list[float]] = {"seedlab": [], rival: []}
      with WorkerPool([core]) as theirs:
        try:
          for _ in range(1 + repeats):  # the first one compiles
            for which, pool in ((rival, theirs), ("seedlab", ours)):
              task = pool.submit(seconds, which, name, small)
              taken[which].append(task.result())
        except (TaskError, WorkerDied) as error:
          if len(taken[rival]) > len(taken["seedlab"]):
            raise  # ours failed
          why = str(error).strip().splitlines()[-1]
          missing = "No module named 'torch'" in why
          why = "PyTorch is not installed (extra `reference`)" if missing else why[:120]
          say(f"{rival} is left out: {why}")
          rows.append({"what": what, "note": why})
          continue
      mine, its = (statistics.median(taken[which][1:]) for which in ("seedlab", rival))
      rows.append({"what": what, "seedlab": 1 / mine, "rival": 1 / its, "ratio": its / mine,
                   "target": f">= {least:g}"})  # fmt: skip
  return rows


def _two_workers(cores: list[int], runs: int, small: bool, repeats: int) -> dict:
  speeds = {}
  for count in (1, 2):
    with WorkerPool(cores[:count]) as pool:
      times = []
      for _ in range(1 + repeats):
        started = time.perf_counter()
        tasks = [pool.submit(bench_tasks.seedlab_seconds, "digits", runs, small)
                 for _ in range(4)]  # fmt: skip
        for task in tasks:
          task.result()
        times.append(time.perf_counter() - started)
      speeds[count] = 4 * runs / statistics.median(times[1:])
  return {"what": "digits: runs/s of two workers, beside one", "seedlab": speeds[2],
          "rival": speeds[1], "ratio": speeds[2] / speeds[1], "target": ">= 1.8"}  # fmt: skip


def dask(small: bool, repeats: int) -> list[dict]:
  """Rounds of chunks on a Dask cluster of this machine, beside the same on a pool of seedlab's own.

  The chunks are of training, and of waiting: what the latter takes longer is messages alone.
  """
  from distributed import LocalCluster

  cores, seconds = host.usable_cores(), 0.1 if small else 1.0
  described = experiment.experiment(cli.load("seedlab:digits_mlp"))
  spec = experiment.spec_of(described, "vmap", 16)
  runs = 16 if small else 16 * 6
  seeds = [[run] * len(STREAMS) for run in range(runs)]
  chunks: dict[str, tuple[Any, ...]] = {
    "training": (tasks.compute, spec, seeds),
    "waiting": (bench_tasks.wait, seconds),
  }
  rows = []
  with (
    LocalCluster(len(cores), threads_per_worker=1, dashboard_address=None) as local,
    cluster.connect(f"dask:{local.scheduler_address}") as theirs,
    local_pool() as ours,
  ):
    for name, chunk in chunks.items():
      say(f"chunks of {name}")
      times: dict[str, list[float]] = {"ours": [], "theirs": []}
      executors: dict[str, concurrent.futures.Executor] = {"ours": ours, "theirs": theirs}
      for _ in range(1 + repeats):  # the first one compiles
        for which, executor in executors.items():
          started = time.perf_counter()
          for task in [executor.submit(*chunk) for _ in range(4 * len(cores))]:
            task.result()
          times[which].append((time.perf_counter() - started) / 4)
      pool, dask_ = (statistics.median(times[which][1:]) for which in ("ours", "theirs"))
      rows.append({"what": f"Dask beside the local pool, chunks of {name}: s", "seedlab": dask_,
                   "rival": pool, "ratio": dask_ / pool, "target": "<= 1.05"})  # fmt: skip
  return rows


def fullbatch(small: bool, repeats: int) -> list[dict]:
  """A full-batch step beside as many minibatch steps; memory; compilation of deep networks."""
  rows = []
  with local_pool(1) as pool:
    say("full-batch steps beside minibatch steps")
    costs = pool.submit(bench_tasks.full_batch_costs, repeats, small).result()
    targets = {"none": "<= 1.05", "forward": "<= 2.1"}
    for form in ("none", "forward", "central", "exact"):
      rows.append({"what": f"full-batch step, penalty {form}: ms", "seedlab": 1e3 * costs[form],
                   "rival": 1e3 * costs["minibatch"], "ratio": costs[form] / costs["minibatch"],
                   "target": targets.get(form)})  # fmt: skip
    for name, memory in pool.submit(bench_tasks.full_batch_memory, small).result():
      rows.append({"what": f"temporary memory, {name}: MiB", "seedlab": memory})
    for name in ("resnet18",) if small else ("resnet18", "resnet152", "densenet121"):
      say(f"compiling {name}")
      found = pool.submit(bench_tasks.compile_seconds, name, small).result()
      rows.append({"what": f"{name}: s to compile a step of 32", "seedlab": found["compile"]})
      rows.append(
        {"what": f"{name}: s to compile and draw the weights", "seedlab": found["weights"]}
      )
      rows.append({"what": f"{name}: s a step of 32", "seedlab": found["step"]})
  return rows


def pages(small: bool, repeats: int) -> list[dict]:
  """`compare` and `report` on made-up stores."""
  size = 200 if small else 10_000
  rows = []
  with tempfile.TemporaryDirectory() as folder:
    stores = [pathlib.Path(folder) / name for name in "ab"]
    say(f"making two stores of {size:,} runs x {size:,} examples")
    for number, store in enumerate(stores):
      bench_pages.made_up_store(store, size, size, number)
    for name, arguments, target in (
      ("compare", stores, "< 10 s, 1 GiB"),
      ("report", stores[:1], "< 20 s"),
    ):
      say(name)
      command = [sys.executable, "-m", "seedlab", name, *map(str, arguments)]
      found = [bench_pages.seconds_and_memory(command) for _ in range(repeats)]
      rows.append({"what": name, "seconds": statistics.median(seconds for seconds, _ in found),
                   "MiB": max(memory for _, memory in found), "target": target})  # fmt: skip
    rows.append({"what": "report.html", "MiB": (stores[0] / "report.html").stat().st_size / 2**20,
                 "target": "< 5 MB"})  # fmt: skip
  return rows


def say(message: str) -> None:
  print(f"bench: {message}", file=sys.stderr, flush=True)
