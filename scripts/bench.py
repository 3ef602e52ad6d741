"""Measures seedlab on this machine: ratios of things timed side by side, in one call.

  --suite=cpu  runs/s beside eager PyTorch (extra `reference`), two workers beside one, a ResNet-9
               step in a loop beside the same step alone, memory of a worker
  --suite=gpu  lanes by vmap at widths 1 to 64 under each convolution lowering and precision,
               with the share of the matmul ceiling; one run replayed in a second process
  --suite=fullbatch  a full-batch step beside as many minibatch steps, with each penalty; memory
                     against the size of the pool; compilation of deep networks
  --suite=worlds  glyphs drawn per second, their share of a training step, an ideal world's memory
                  beside a real one's
  --suite=activations  a training step with SmeLU beside the same with ReLU
  --suite=metrics  the prediction difference of 1,000 runs on 10,000 examples of ten classes, from
                   disk: time and peak memory
  --suite=clicks  training on rows of MovieLens's size beside eager PyTorch (extra `reference`), by
                  number of lanes, with the memory of a lane; clicks drawn per second
  --suite=seeds  a training step of Picard's network beside eager PyTorch (extra `reference`)
  --suite=pages  compare.py and report.py on two made-up sweeps of 10,000 runs x 10,000 examples

Absolute times of a shared machine prove nothing; compare the ratios.
"""

import json
import pathlib
import platform
import statistics
import sys
import tempfile
import time

import jax
import measure
from absl import flags
from ml_collections import config_flags  # noqa: F401  (cli.run expects its parsers)

from seedlab import cli, host
from seedlab.pool import TaskError, WorkerPool, local_pool

_SUITE = flags.DEFINE_enum(
  "suite",
  "cpu",
  ["cpu", "gpu", "fullbatch", "worlds", "activations", "clicks", "metrics", "seeds", "pages"],
  "what to measure",
)
_JSON = flags.DEFINE_string("json", None, "also write the figures to this file")
_REPEATS = flags.DEFINE_integer("repeats", 5, "timings per figure; the median counts")
_MINUTES = flags.DEFINE_float("minutes", 9.0, "gpu: start no new measurement after this long")
_SMALL = flags.DEFINE_bool("small", False, "tiny sizes, to see that the suite runs")


def main(argv: list[str]) -> None:
  del argv
  suites = {
    "cpu": _cpu, "gpu": _gpu, "fullbatch": _fullbatch, "worlds": _worlds,
    "activations": _activations, "clicks": _clicks, "metrics": _metrics, "seeds": _seeds,
    "pages": _pages,
  }  # fmt: skip
  rows = suites[_SUITE.value]()
  facts = {"suite": _SUITE.value, "date": host.now(), "jax": jax.__version__,
           "python": platform.python_version(), "rows": rows}  # fmt: skip
  names = list(dict.fromkeys(name for row in rows for name in row))
  cells = [names, *([_cell(row.get(name)) for name in names] for row in rows)]
  widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
  for line in cells:
    print("  ".join(map(str.ljust, line, widths)).rstrip())
  if _JSON.value:
    pathlib.Path(_JSON.value).write_text(json.dumps(facts, indent=1) + "\n")


def _cpu() -> list[dict]:
  cores, small = host.usable_cores(), _SMALL.value
  runs = 2 if small else 16
  rows = []
  with WorkerPool([cores[0]]) as ours, WorkerPool([cores[0]]) as theirs:
    for name in ("digits", "digits_mlp"):
      _say(f"{name}: one core, beside PyTorch")
      per_run, rival = [], []
      for number in range(1 + _REPEATS.value):  # the first one compiles
        per_run.append(ours.submit(measure.seedlab_seconds, name, runs, small).result())
        try:
          rival.append(theirs.submit(measure.torch_seconds, name, 1, small).result())
        except TaskError as error:
          if "ModuleNotFoundError" not in str(error):
            raise
          _say("PyTorch is not installed (extra `reference`): no comparison") if not number else 0
      rows.append({
        "what": f"{name}: runs/s on one core",
        "seedlab": 1 / statistics.median(per_run[1:]),
        "rival": 1 / statistics.median(rival[1:]) if rival else None,
        "ratio": statistics.median(rival[1:]) / statistics.median(per_run[1:]) if rival else None,
        "target": ">= 2.5",
      })  # fmt: skip
    _say("ResNet-9: a step in a loop, beside the step alone")
    for lowering in ("native", "patches"):
      loop, alone = theirs.submit(measure.resnet9_step, lowering, _REPEATS.value, small).result()
      rows.append({"what": f"ResNet-9 step in a loop, {lowering}: ms", "seedlab": 1e3 * loop,
                   "rival": 1e3 * alone, "ratio": loop / alone, "target": "<= 1.3"})  # fmt: skip
    _say("memory of a worker after 100 and after 1,000 runs")
    few, many = ours.submit(measure.resident_memory, 5 if small else 100, 50 if small else 1000
                            ).result()  # fmt: skip
    rows.append({"what": "worker's memory after 1,000 runs, beside 100: MiB", "seedlab": many,
                 "rival": few, "ratio": many / few, "target": "~ 1"})  # fmt: skip
  if len(cores) > 1:
    _say("two workers, beside one")
    rows.append(_two_workers(cores, runs))
  return rows


def _two_workers(cores: list[int], runs: int) -> dict:
  speeds = {}
  for count in (1, 2):
    with WorkerPool(cores[:count]) as pool:
      times = []
      for _ in range(1 + _REPEATS.value):
        started = time.perf_counter()
        tasks = [pool.submit(measure.seedlab_seconds, "digits", runs, _SMALL.value)
                 for _ in range(4)]  # fmt: skip
        for task in tasks:
          task.result()
        times.append(time.perf_counter() - started)
      speeds[count] = 4 * runs / statistics.median(times[1:])
  return {"what": "digits: runs/s of two workers, beside one", "seedlab": speeds[2],
          "rival": speeds[1], "ratio": speeds[2] / speeds[1], "target": ">= 1.8"}  # fmt: skip


def _gpu() -> list[dict]:
  deadline = time.monotonic() + 60 * _MINUTES.value
  rows, small = [], _SMALL.value
  with local_pool(1) as pool:
    ceilings = pool.submit(measure.matmul_ceilings, small).result()
    rows += [{"what": f"matmul ceiling, {kind}", "TFLOP/s": value}
             for kind, value in ceilings.items()]  # fmt: skip
    for case in measure.gpu_cases(small):
      if time.monotonic() > deadline:
        rows.append({"what": "left out, time was up: " + " ".join(map(str, case))})
        continue
      _say(" ".join(map(str, case)))
      try:
        row = pool.submit(measure.gpu_speed, *case, small).result()
      except TaskError as error:
        row = {"note": str(error).strip().splitlines()[-1][:80]}
      network, lowering, precision, width = case
      rows.append({"what": network, "lowering": lowering, "precision": precision, "width": width,
                   **row})  # fmt: skip
      if "TFLOP/s" in row:
        rows[-1]["of ceiling"] = row["TFLOP/s"] / ceilings[precision]
  digests = []
  for _ in range(2):
    with local_pool(1) as pool:
      digests.append(pool.submit(measure.gpu_digests, small).result())
  same = "same bits" if digests[0] == digests[1] else f"DIFFERENT: {digests}"
  rows.append({"what": "runs repeated in a second process", "note": same})
  return rows


def _fullbatch() -> list[dict]:
  small, rows = _SMALL.value, []
  with local_pool(1) as pool:
    _say("full-batch steps beside minibatch steps")
    costs = pool.submit(measure.full_batch_costs, _REPEATS.value, small).result()
    targets = {"none": "<= 1.05", "forward": "<= 2.1"}
    for form in ("none", "forward", "central", "exact"):
      rows.append({"what": f"full-batch step, penalty {form}: ms", "seedlab": 1e3 * costs[form],
                   "rival": 1e3 * costs["minibatch"], "ratio": costs[form] / costs["minibatch"],
                   "target": targets.get(form)})  # fmt: skip
    for name, memory in pool.submit(measure.full_batch_memory, small).result():
      rows.append({"what": f"temporary memory, {name}: MiB", "seedlab": memory})
    for name in ("resnet18",) if small else ("resnet18", "resnet152", "densenet121"):
      _say(f"compiling {name}")
      found = pool.submit(measure.compile_seconds, name, small).result()
      rows.append({"what": f"{name}: s to compile a step of 32", "seedlab": found["compile"]})
      rows.append(
        {"what": f"{name}: s to compile and draw the weights", "seedlab": found["weights"]}
      )
      rows.append({"what": f"{name}: s a step of 32", "seedlab": found["step"]})
  return rows


def _worlds() -> list[dict]:
  small, repeats = _SMALL.value, _REPEATS.value
  with local_pool(1) as pool:
    _say("drawing glyphs")
    glyph = pool.submit(measure.draw_seconds, "glyphs", repeats, small).result()
    _say("a ResNet-9 step")
    loop, _ = pool.submit(measure.resnet9_step, "native", repeats, small).result()
    _say("steps of an MLP")
    real, ideal = (
      pool.submit(measure.world_step, world, repeats, small).result() for world in ("real", "ideal")
    )
  rows = [
    {"what": "glyphs of 32x32 a second, one core", "seedlab": 1 / glyph, "target": ">= 20,000"},
    {"what": "50 glyphs, beside a ResNet-9 step of 50: ms", "seedlab": 50e3 * glyph,
     "rival": 1e3 * loop, "ratio": 50 * glyph / loop, "target": "< 0.15"},
    {"what": "step of an MLP, ideal world beside real: ms", "seedlab": 1e3 * ideal,
     "rival": 1e3 * real, "ratio": ideal / real},
  ]  # fmt: skip
  memory = []
  for world in ("ideal", "real"):  # each in a process of its own, for its peak
    with local_pool(1) as pool:
      memory.append(pool.submit(measure.world_memory, world, small).result())
  rows.append({"what": "peak memory of a run, ideal world beside 50,000 glyphs: MiB",
               "seedlab": memory[0], "rival": memory[1],
               "ratio": memory[0] / memory[1] if memory[1] else None})  # fmt: skip
  return rows


def _activations() -> list[dict]:
  rows = []
  with local_pool(1) as pool:
    for network in ("mlp", "cnn"):
      _say(f"steps of the {network}")
      smelu, relu, ratio = pool.submit(
        measure.activation_costs, network, _REPEATS.value, _SMALL.value
      ).result()
      rows.append({"what": f"step of the {network}, SmeLU beside ReLU: ms", "seedlab": 1e3 * smelu,
                   "rival": 1e3 * relu, "ratio": ratio, "target": "< 1.03"})  # fmt: skip
  return rows


def _metrics() -> list[dict]:
  shape = (20, 100, 3) if _SMALL.value else (1000, 10_000, 10)
  rows = []
  with tempfile.TemporaryDirectory() as folder:
    _say("making predictions of {:,} runs x {:,} examples x {} classes".format(*shape))
    with local_pool(1) as pool:
      pool.submit(measure.made_up_predictions, folder, *shape).result()
    for kind in ("memory map", "zarr array"):
      with local_pool(1) as pool:  # a process of its own, for its peak
        cpu, wall, memory = pool.submit(measure.difference_cost, folder, kind).result()
      rows.append({"what": f"prediction difference from a {kind}", "CPU s": cpu,
                   "wall s": wall, "MiB": memory, "target": "< 20 s, 1 GiB"})  # fmt: skip
  return rows


def _clicks() -> list[dict]:
  core, small = host.usable_cores()[0], _SMALL.value
  batch = 8 if small else measure.MOVIELENS_BATCH
  rows, steps, rival = [], {}, []
  with WorkerPool([core]) as pool:
    _say("a network for MovieLens, beside PyTorch")
    for number in range(_REPEATS.value):
      for lanes in (1, 2) if small else (1, 4):
        step, memory = pool.submit(measure.movielens_step, lanes, small).result()
        steps.setdefault((lanes, memory), []).append(step)
      try:
        rival.append(pool.submit(measure.torch_movielens_step, small).result())
      except TaskError as error:
        if "ModuleNotFoundError" not in str(error):
          raise
        _say("PyTorch is not installed (extra `reference`): no comparison") if not number else 0
    for (lanes, memory), found in steps.items():
      rows.append({
        "what": f"MovieLens network, lanes: {lanes}; examples/s on one core",
        "seedlab": batch / min(found),
        "rival": batch / min(rival) if rival else None,
        "ratio": min(rival) / min(found) if rival else None,
        "MiB a lane": memory,
      })  # fmt: skip
    _say("clicks drawn")
    drawn = pool.submit(measure.draw_seconds, "clicks", _REPEATS.value, small).result()
    rows.append({"what": "clicks drawn per second", "seedlab": 1 / drawn, "target": ">= 200,000"})
  return rows


def _seeds() -> list[dict]:
  core, small = host.usable_cores()[0], _SMALL.value
  ours, rival = [], []
  with WorkerPool([core]) as pool:
    _say("a step of Picard's network, beside PyTorch")
    for number in range(_REPEATS.value):
      ours.append(pool.submit(measure.picard_step, small).result())
      try:
        rival.append(pool.submit(measure.torch_picard_step, small).result())
      except TaskError as error:
        if "ModuleNotFoundError" not in str(error):
          raise
        _say("PyTorch is not installed (extra `reference`): no comparison") if not number else 0
  return [{
    "what": "Picard's network, a step of 50: ms of one core", "seedlab": 1e3 * min(ours),
    "rival": 1e3 * min(rival) if rival else None,
    "ratio": min(ours) / min(rival) if rival else None,
  }]  # fmt: skip


def _pages() -> list[dict]:
  size = 200 if _SMALL.value else 10_000
  scripts, rows = pathlib.Path(__file__).parent, []
  with tempfile.TemporaryDirectory() as folder:
    stores = [pathlib.Path(folder) / name for name in "ab"]
    _say(f"making two stores of {size:,} runs x {size:,} examples")
    for number, store in enumerate(stores):
      measure.made_up_store(store, size, size, number)
    for name, arguments, target in (
      ("compare.py", stores, "< 10 s, 1 GiB"),
      ("report.py", stores[:1], "< 20 s"),
    ):
      _say(name)
      command = [sys.executable, str(scripts / name), *map(str, arguments)]
      found = [measure.seconds_and_memory(command) for _ in range(_REPEATS.value)]
      rows.append({"what": name, "seconds": statistics.median(seconds for seconds, _ in found),
                   "MiB": max(memory for _, memory in found), "target": target})  # fmt: skip
    rows.append({"what": "report.html", "MiB": (stores[0] / "report.html").stat().st_size / 2**20,
                 "target": "< 5 MB"})  # fmt: skip
  return rows


def _cell(value) -> str:
  if value is None:
    return ""
  return f"{value:.3g}" if isinstance(value, float) else str(value)


def _say(message: str) -> None:
  print(f"bench: {message}", file=sys.stderr, flush=True)


if __name__ == "__main__":
  cli.run(main)
