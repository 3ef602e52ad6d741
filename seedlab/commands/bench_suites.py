"""The suites of `seedlab bench`: what is timed side by side, as rows of a table."""

import concurrent.futures
import pathlib
import statistics
import sys
import tempfile
import time
from typing import Any

from seedlab import cli, cluster, experiment, host, tasks
from seedlab.commands import bench_tasks
from seedlab.config import STREAMS
from seedlab.pool import TaskError, WorkerPool, local_pool


def cpu(small: bool, repeats: int) -> list[dict]:
  """Beside eager PyTorch, two workers beside one, a step in a loop beside one alone, memory."""
  cores = host.usable_cores()
  runs = 2 if small else 16
  rows = []
  with WorkerPool([cores[0]]) as ours, WorkerPool([cores[0]]) as theirs:
    for name in ("digits", "digits_mlp"):
      say(f"{name}: one core, beside PyTorch")
      per_run, rival = [], []
      for number in range(1 + repeats):  # the first one compiles
        per_run.append(ours.submit(bench_tasks.seedlab_seconds, name, runs, small).result())
        try:
          rival.append(theirs.submit(bench_tasks.torch_seconds, name, 1, small).result())
        except TaskError as error:
          if "ModuleNotFoundError" not in str(error):
            raise
          say("PyTorch is not installed (extra `reference`): no comparison") if not number else 0
      rows.append({
        "what": f"{name}: runs/s on one core",
        "seedlab": 1 / statistics.median(per_run[1:]),
        "rival": 1 / statistics.median(rival[1:]) if rival else None,
        "ratio": statistics.median(rival[1:]) / statistics.median(per_run[1:]) if rival else None,
        "target": ">= 2.5",
      })  # fmt: skip
    say("ResNet-9: a step in a loop, beside the step alone")
    for lowering in ("native", "patches"):
      loop, alone = theirs.submit(bench_tasks.resnet9_step, lowering, repeats, small).result()
      rows.append({"what": f"ResNet-9 step in a loop, {lowering}: ms", "seedlab": 1e3 * loop,
                   "rival": 1e3 * alone, "ratio": loop / alone, "target": "<= 1.3"})  # fmt: skip
    say("memory of a worker after 100 and after 1,000 runs")
    few, many = ours.submit(bench_tasks.resident_memory, 5 if small else 100, 50 if small else 1000
                            ).result()  # fmt: skip
    rows.append({"what": "worker's memory after 1,000 runs, beside 100: MiB", "seedlab": many,
                 "rival": few, "ratio": many / few, "target": "~ 1"})  # fmt: skip
  if len(cores) > 1:
    say("two workers, beside one")
    rows.append(_two_workers(cores, runs, small, repeats))
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
      bench_tasks.made_up_store(store, size, size, number)
    for name, arguments, target in (
      ("compare", stores, "< 10 s, 1 GiB"),
      ("report", stores[:1], "< 20 s"),
    ):
      say(name)
      command = [sys.executable, "-m", "seedlab", name, *map(str, arguments)]
      found = [bench_tasks.seconds_and_memory(command) for _ in range(repeats)]
      rows.append({"what": name, "seconds": statistics.median(seconds for seconds, _ in found),
                   "MiB": max(memory for _, memory in found), "target": target})  # fmt: skip
    rows.append({"what": "report.html", "MiB": (stores[0] / "report.html").stat().st_size / 2**20,
                 "target": "< 5 MB"})  # fmt: skip
  return rows


def say(message: str) -> None:
  print(f"bench: {message}", file=sys.stderr, flush=True)
