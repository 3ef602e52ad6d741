"""What `seedlab accelerator` measures: a function a part, each run in a process of its own.

`exactness`, `picard` and `replay` start workers as a sweep does and no JAX themselves; the others
compute in their own process, under the variables that it was started with.
"""

import collections
import contextlib
import functools
import itertools
import os
import pathlib
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import seedlab
from seedlab import (
  changes,
  config,
  engine,
  errors,
  experiment,
  host,
  records,
  replaying,
  streams,
  training,
)
from seedlab.commands import accelerator_parts as parts
from seedlab.commands import bench_tasks
from seedlab.commands.accelerator_parts import Place, TimeUp, left, record
from seedlab.data import Dataset
from seedlab.errors import UserError
from seedlab.pool import WorkerPool
from seedlab.studies.seeds import settings
from seedlab.trainer import Trainer

# Whose text could not be opened: mean and standard deviation are not verified.
_PUBLISHED = "90.02 +- 0.23 (10,000 seeds; unverified)"
_COMPANY = 5  # runs, in lanes of four: one group is full, the other holds copies of its only run
_WIDTH = 4
_SECOND = "in a second process"


class Case(NamedTuple):
  """A network as it is compiled."""

  network: str  # picard, digits_mlp, digits, resnet9
  lowering: str  # of convolutions
  precision: str
  mode: engine.Mode
  width: int

  def __str__(self) -> str:
    lanes = f"vmap of {self.width}" if self.mode == "vmap" else "loop"
    lowering = [self.lowering] * (self.network != "digits_mlp")
    return ", ".join([self.network, *lowering, self.precision, lanes])


_DIGITS = [
  Case("digits_mlp", "native", "float32", "vmap", _WIDTH),
  Case("digits", "patches", "float32", "vmap", _WIDTH),
  Case("digits", "native", "float32", "vmap", _WIDTH),
  Case("digits", "native", "bfloat16", "vmap", _WIDTH),
  Case("digits", "native", "float32", "loop", 1),
  Case("digits_mlp", "native", "float32", "loop", 1),
  Case("digits", "patches", "bfloat16", "vmap", _WIDTH),
  Case("digits", "patches", "float32", "loop", 1),
  Case("digits_mlp", "native", "bfloat16", "vmap", _WIDTH),
  Case("digits", "native", "bfloat16", "loop", 1),
  Case("digits", "patches", "bfloat16", "loop", 1),
  Case("digits_mlp", "native", "bfloat16", "loop", 1),
]
_WIDTHS = [
  Case("picard", "native", "float32", "loop", 1),
  Case("picard", "patches", "float32", "vmap", 8),
  Case("picard", "native", "float32", "vmap", 8),
  Case("digits_mlp", "native", "float32", "vmap", 32),
  Case("digits", "patches", "float32", "vmap", 32),
  Case("digits", "native", "float32", "vmap", 32),
  Case("picard", "native", "bfloat16", "loop", 1),
  Case("resnet9", "native", "float32", "loop", 1),
  Case("resnet9", "patches", "float32", "vmap", 4),
  Case("resnet9", "native", "float32", "vmap", 4),
  Case("picard", "patches", "bfloat16", "vmap", 8),
  Case("digits_mlp", "native", "float32", "vmap", 512),
  Case("digits", "patches", "float32", "vmap", 512),
  Case("picard", "patches", "float32", "loop", 1),
  Case("picard", "patches", "float32", "vmap", 2),
  Case("picard", "patches", "float32", "vmap", 32),
  Case("digits_mlp", "native", "float32", "loop", 1),
  Case("digits", "native", "float32", "loop", 1),
  Case("resnet9", "native", "bfloat16", "loop", 1),
  Case("resnet9", "patches", "bfloat16", "vmap", 4),
  Case("picard", "native", "float16", "loop", 1),
  Case("digits_mlp", "native", "float32", "vmap", 4096),
]
# At tiny sizes on a CPU, where compilation takes longest: one of each kind.
_SMALL = [
  Case("digits_mlp", "native", "float32", "vmap", 2),
  Case("digits", "native", "float32", "loop", 1),
  Case("digits", "patches", "bfloat16", "vmap", 2),
]
# Under each set of flags, and by kernel.
_FEW = [
  Case("digits_mlp", "native", "float32", "vmap", 32),
  Case("picard", "native", "float32", "loop", 1),
  Case("digits", "patches", "float32", "vmap", 32),
  Case("picard", "patches", "float32", "vmap", 8),
]


def environment(place: Place) -> None:
  """Device, driver, memory, versions, commit, and all that decides the bits."""
  device, described = jax.local_devices()[0], host.environment()
  fingerprint = host.numerics() | {"device": host.device()}
  record(place, "device", device.device_kind)
  record(place, "platform", device.platform)
  record(place, "devices of this machine", place.devices)
  memory = (device.memory_stats() or {}).get("bytes_limit")
  record(place, "memory that JAX may take, GiB", memory and memory / 2**30)
  if device.platform == "gpu":
    asked = "name,driver_version,memory.total,clocks.max.sm,power.limit,ecc.mode.current"
    said = _said("nvidia-smi", f"--query-gpu={asked}", "--format=csv,noheader")
    record(place, f"nvidia-smi ({asked})", said)
  record(place, "runtime", device.client.platform_version)
  record(place, "jax", f"{fingerprint['jax']}, jaxlib {fingerprint['jaxlib']}")
  record(place, "Python", f"{described['python']}, {described['system']}")
  record(place, "processor", f"{platform.processor() or platform.machine()}, "
         f"{os.cpu_count()} cores")  # fmt: skip
  record(place, "seedlab", f"{seedlab.__version__}, commit {described['git_commit']}")
  record(place, "XLA flags", " ".join(fingerprint["xla_flags"]))
  record(place, "matmul precision", fingerprint["matmul_precision"])
  record(place, "probe", fingerprint["device"]["probe"])
  record(place, "details", {"fingerprint": fingerprint, "packages": described["lock"]})
  # What figures that stand side by side must have in common.
  record(place, "machine", {"fields": machine(device.device_kind, place.small)})


def machine(device: str, small: bool) -> dict[str, Any]:
  """By which a later call knows whether it may go on."""
  return {
    "device": device, "jax": jax.__version__, "small": small, "source": host.identity()["source"],
  }  # fmt: skip


def exactness(place: Place) -> None:
  """Is a run the same alone, in company, in segments, in a second process? Another width differs.

  No cache of compiled programs: the second process compiles each of them itself.
  """
  first: dict[Case, dict[str, Any]] = {}
  every, half = _SMALL if place.small else _DIGITS, place.seconds / 2
  cases = [case for case in every if _SECOND not in _row_of(place, str(case))]
  with _worker(place) as pool:
    for case in cases:
      if first and left(place) < half:
        break
      with _noted(place, str(case)):
        first[case] = pool.submit(train_again, *case, place.small, True).result()
        record(place, str(case), _row(first[case]))
    for name, action in (("sweep", _sweep_in_another_width), ("replay", _replay_in_another_width)):
      with _noted(place, f"another width: {name}"):
        record(place, f"another width: {name}", action(place, pool))
  with _worker(place) as pool:
    for case, facts in first.items():
      with _noted(place, str(case)):
        again = pool.submit(train_again, *case, place.small, False).result()
        facts[_SECOND] = again["digests"] == facts["digests"]
        changed = config.differences(facts["fingerprint"], again["fingerprint"])
        if changed:
          facts["note"] = f"the second process has another fingerprint: {errors.changes(changed)}"
        record(place, str(case), _row(facts))
  rows = parts.found(place)
  wrong = [name for name, row in rows.items() if "OTHER BITS" in row.values() or "wrong" in row]
  if wrong:
    raise UserError(f"bits differ that must not: {'; '.join(wrong)}; please report this as a bug")
  untried = [case for case in every if _SECOND not in _row_of(place, str(case))]
  if untried:
    raise TimeUp(f"{len(untried)} of {len(every)} cases are left")


def train_again(network, lowering, precision, mode, width, small, thorough) -> dict[str, Any]:
  """In a worker: digests of a few runs, and whether company and segments change them."""
  case = Case(network, lowering, precision, mode, width)
  program = engine.build(_trainer(case, small), mode, width)
  seeds = np.stack([streams.seeds_of_run(run, config.Seeds()) for run in range(_COMPANY)])
  together = engine.train(program, seeds)
  digests = [digest.decode() for digest in together.digest]
  facts: dict[str, Any] = {"digests": digests, "fingerprint": program.fingerprint}
  if thorough:
    alone = engine.train(program, seeds[3:4]).digest
    cut = engine.train(program, seeds[:4], longest=7).digest
    facts["alone"] = alone[0].decode() == digests[3]
    facts["in segments of 7 steps"] = [digest.decode() for digest in cut] == digests[:4]
    facts["ms a run"] = 1e3 * together.seconds / len(seeds)
  return facts


def _row(facts: dict[str, Any]) -> dict[str, Any]:
  """Of what `train_again` found, what a table shows, and the digests."""
  cells = {
    name: ("the same bits" if value else "OTHER BITS") if isinstance(value, bool) else value
    for name, value in facts.items()
    if name not in ("digests", "fingerprint")
  }
  return {**cells, "digest of run 0": facts["digests"][0][:16], "digests": facts["digests"]}


def _sweep_in_another_width(place: Place, pool: WorkerPool) -> dict[str, Any]:
  """A store that was made with one width is to refuse another one."""
  chosen = bench_tasks._config("digits_mlp", place.small)
  store = parts.folder(place) / "store"
  go_on = functools.partial(
    seedlab.sweep, chosen, out=store, lanes="vmap", executor=pool, checkpoint_every=0, quiet=True
  )
  go_on(_WIDTH, width=_WIDTH)
  try:
    go_on(2 * _WIDTH, width=2)
  except UserError as error:
    return {"note": f"refused: {str(error).replace(str(store), 'STORE')}"}
  return {"wrong": "it was not refused"}


def _replay_in_another_width(place: Place, pool: WorkerPool) -> dict[str, Any]:
  """What replay says of a run that another width repeats: never that it is exact."""
  case = _DIGITS[0]
  recorded, computed = (
    pool.submit(train_again, *case._replace(width=width), place.small, False).result()
    for width in (_WIDTH, 2)
  )
  changed = config.differences(recorded["fingerprint"], computed["fingerprint"])
  digests = recorded["digests"][0], computed["digests"][0]
  different = ["digest"] * (digests[0] != digests[1])
  found = replaying.Replay(0, *digests, changed, {}, None, different)
  verdict = found.verdict("STORE").splitlines()[0]
  fields = ", ".join(field for field, *_ in changed)
  row = {"note": f"another fingerprint (fields: {fields}); replay says: {verdict}"}
  return row if changed else {**row, "wrong": "the fingerprint is the same"}


@contextlib.contextmanager
def _noted(place: Place, name: str) -> Iterator[None]:
  """Keeps why one figure could not be had, so that the others still can."""
  try:
    yield
  except Exception as error:
    record(place, name, {**_row_of(place, name), "note": parts.in_a_line(error)})


def _row_of(place: Place, name: str) -> dict[str, Any]:
  row = parts.found(place).get(name)
  return row if isinstance(row, dict) else {}


def picard(place: Place) -> None:
  """As many runs of Picard's `short` as fit, group by group: what a stop leaves behind is whole."""
  chosen = settings.config("smoke" if place.small else "paper", "picard", "short")
  store = parts.folder(place) / "store"
  described = experiment.experiment(chosen, data_dir=place.data_dir)
  with _worker(place) as pool:
    before = len(_accuracies(store))
    lanes, width, seconds = _lanes_that_fit(place, described, pool, store)
    room = 0 if place.small else min(left(place) / 8, 30)
    runs = max(1, round(room / seconds / width)) * width  # of a group
    started, group = time.monotonic(), runs * seconds
    most = before + 2 * runs if place.small else 10_000
    done = before
    while done < most and (done == before or left(place) > 1.3 * group + 5):
      again = time.monotonic()
      done = min(most, done + runs)
      seedlab.sweep(
        chosen, done, store, data_dir=place.data_dir, lanes=lanes, width=width, executor=pool,
        planned_n=10_000, checkpoint_every=0, quiet=True,
      )  # fmt: skip
      group = max(group, time.monotonic() - again)
      record(place, "short", _spread(store, done - before, time.monotonic() - started))


def _lanes_that_fit(place, described, pool, store) -> tuple[str, int, float]:
  """Mode, width and seconds of a run: the store's, else `auto` if a group of it fits, else fewer.

  Neither memory nor time that one choice lacks shall be the end of the part.
  """
  choices: list[tuple[str, int | None]] = [("auto", None), ("vmap", 8), ("loop", 1)]
  if records.exists(store):
    known = records.manifest(store)["fingerprints"][0]
    choices = [(known["mode"], known["width"])]
  for lanes, width in choices:
    name = f"speed in lanes={lanes}" + f", width={width}" * bool(width and lanes == "vmap")
    with _noted(place, name):
      facts = experiment.describe(pool, described, lanes, width, quiet=True)
      mode, width = facts["fingerprint"]["mode"], facts["fingerprint"]["width"]
      seconds = facts["seconds_per_run"]
      fits = seconds * width < left(place) / 2
      record(place, name, {
        "mode": mode, "width": width, "runs/h": 3600 / seconds, "GiB": _gib(facts["costs"], width),
        "note": "" if fits else "a group of runs takes too long for this part",
        "fingerprint": facts["fingerprint"],
      })  # fmt: skip
      if fits:
        return mode, width, seconds
  raise UserError(
    "no run was trained: no choice of lanes leaves memory and time for a group; give more --minutes"
  )


def _accuracies(store: pathlib.Path) -> np.ndarray:
  """Test accuracy in % of the finished runs of a store; none where there is no store."""
  if not records.exists(store):
    return np.array([])
  dataset = seedlab.open(store)
  return 100 * dataset["test_accuracy"].values[dataset["completed"].values, -1]


def _spread(store: pathlib.Path, new: int, took: float) -> dict[str, Any]:
  """Of the runs of `picard`: how many an hour, `new` ones in `took` seconds, and their spread."""
  dataset = seedlab.open(store)
  accuracy = _accuracies(store)
  one = int(dataset["run"].values[min(1, len(accuracy) - 1)])
  return {
    "runs": len(accuracy),
    "mean %": float(accuracy.mean()),
    "sd": float(accuracy.std(ddof=1)) if len(accuracy) > 1 else None,
    "min": float(accuracy.min()),
    "max": float(accuracy.max()),
    "published mean +- sd": _PUBLISHED,
    "diverged": int((dataset["diverged"].values >= 0).sum()),
    "runs/h by the clock": 3600 * new / took,
    "runs/h while training": 3600 / float(np.nanmean(dataset["seconds"].values)),
    "accuracies": [round(float(value), 2) for value in accuracy],
    f"digest of run {one}": dataset["digest"].values[one].decode()[:16],
  }


def replay(place: Place) -> None:
  """One run of what `picard` left behind, trained again alone and in another process."""
  store = parts.folder(place).parent / "picard" / "store"
  if not records.exists(store):
    raise UserError("there is no run to repeat: the part picard has to come first")
  runs = seedlab.open(store)["run"].values
  run, started = int(runs[min(1, len(runs) - 1)]), time.monotonic()
  again = seedlab.replay(store, run, data_dir=place.data_dir)
  record(place, f"run {run} of picard", {
    "verdict": again.verdict("STORE").splitlines()[0], "recorded": again.recorded[:16],
    "computed": again.computed[:16], "s": time.monotonic() - started,
    "differences": {"fingerprint": again.changed, "outcomes": again.deviation},
  })  # fmt: skip
  if not again.exact:
    raise UserError(f"the replay of run {run} is not exact: {again.verdict('STORE')}")


def widths(place: Place) -> None:
  """Steps by network, lowering, precision, mode and width; the most telling first."""
  small = [*_SMALL, Case("picard", "native", "float32", "loop", 1)]
  _speeds(place, small if place.small else _WIDTHS)


def determinism(place: Place) -> None:
  """Some of them under the XLA flags that this process was started with."""
  _speeds(place, _SMALL[:1] if place.small else _FEW)


def _speeds(place: Place, cases: Sequence[Case]) -> None:
  """A row a case. Those that never came to an end, such as one that was killed, come last."""
  host.use_compilation_cache()
  there = parts.found(place)
  begun, open_ = [], []
  for case in cases:
    row = there.get(str(case))
    if row is None:
      open_.append(case)
    elif "ms/step" not in row:
      begun.append(case)
  waiting = [*open_, *begun]
  longest = 0.0
  for number, case in enumerate(waiting):
    if left(place) < max(5.0, longest) and number:
      raise TimeUp(f"{len(waiting) - number} of {len(cases)} cases are left")
    record(place, str(case), {"note": "begun, and never finished"})
    started = time.monotonic()
    with _noted(place, str(case)):
      record(place, str(case), _speed(case, place.small))
    longest = max(longest, time.monotonic() - started)


def _speed(case: Case, small: bool) -> dict[str, Any]:
  """Speed and memory of a case; runs/h are of its whole recipe on this device."""
  started = time.perf_counter()
  program = engine.build(_trainer(case, small), case.mode, case.width)
  built = time.perf_counter() - started
  engine.speed(program, 0.0)  # a device's first step loads what all later ones have
  step, evaluation = engine.speed(program, 0.1 if small else 1.0)
  plan = program.trainer.plan
  hours = (step * plan[-1] + evaluation * len(plan)) / 3600
  peak = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
  return {
    "ms/step": 1e3 * step,
    "ms/evaluation": 1e3 * evaluation,
    "runs/h": case.width / hours if hours else None,
    "TFLOP/s": program.costs["flops_step"] * case.width / step / 1e12 if step else None,
    "GiB by the compiler": _gib(program.costs, case.width),
    "GiB, most so far": peak and peak / 2**30,
    "s to build": built,
  }


def _gib(costs: Mapping[str, float], width: int) -> float:
  """Memory of a program by the compiler's own count."""
  return (costs["bytes_lane"] * width + costs["bytes_shared"]) / 2**30


def precision(place: Place) -> None:
  """What a float32 product is, the ceilings of products, and the speed of memory."""
  rng = np.random.default_rng(0)
  a, b = rng.normal(size=(512, 512)), rng.normal(size=(512, 512))
  x, k = rng.normal(size=(8, 16, 16, 64)), rng.normal(size=(3, 3, 64, 64))
  padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  convolved = sum(
    padded[:, i : i + 16, j : j + 16] @ k[i, j] for i, j in itertools.product(range(3), range(3))
  )
  size = 256 if place.small else 8192
  for setting in (None, "default", "high", "highest"):
    name = f"float32, matmul precision {setting or 'as it is'}"
    with _noted(place, name), jax.default_matmul_precision(setting):
      record(place, name, {
        "relative error of a product": _error(jnp.matmul, a, b, a @ b),
        "of a convolution": _error(_convolution, x, k, convolved),
        "TFLOP/s": _ceiling("float32", size),
      })  # fmt: skip
  for kind in ("bfloat16", "float16"):
    with _noted(place, kind):
      record(place, kind, {"TFLOP/s": _ceiling(kind, size)})
  with _noted(place, "copy"):
    count = 2**18 if place.small else 2**28  # numbers of four bytes
    block = jax.random.normal(jax.random.key(0), (count,))
    seconds = _median_seconds(jax.jit(lambda block: block + 1), block)
    record(place, "copy", {"TB/s": 2 * 4 * count / seconds / 1e12})


def _convolution(x, kernel):
  return lax.conv_general_dilated(
    x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
  )


def _error(function, x: np.ndarray, y: np.ndarray, exact: np.ndarray) -> float:
  """Relative error, in the Euclidean norm, of a function of float32 beside float64."""
  got = np.asarray(jax.jit(function)(x.astype(np.float32), y.astype(np.float32)), np.float64)
  return float(np.linalg.norm(got - exact) / np.linalg.norm(exact))


def _ceiling(kind: str, size: int) -> float:
  """TFLOP/s of a large product of square matrices of a dtype."""
  x = jax.random.normal(jax.random.key(0), (size, size), jnp.float32).astype(kind)
  return 2 * size**3 / _median_seconds(jax.jit(lambda x: x @ x), x) / 1e12


def _median_seconds(function: Callable[..., Any], *arguments: Any, times: int = 7) -> float:
  """The first call, which compiles, does not count."""
  taken = [_seconds(function, *arguments) for _ in range(1 + times)]
  return statistics.median(taken[1:])


def _seconds(function: Callable[..., Any], *arguments: Any) -> float:
  started = time.perf_counter()
  jax.block_until_ready(function(*arguments))
  return time.perf_counter() - started


def loops(place: Place) -> None:
  """What a step of a compiled loop costs when its length is traced, beside a known length.

  A device may have to ask its host after every step whether there is another one.
  """
  steps = 50 if place.small else 1000
  for kernels in (1, 20):
    with _noted(place, f"{kernels} sorts a step"):
      record(place, f"{kernels} sorts a step", _loop(kernels, steps))


def _loop(kernels: int, steps: int) -> dict[str, float]:
  """Microseconds a step, timed in turns."""

  def body(_, x):
    for _ in range(kernels):
      x = jnp.sort(x)[::-1] * 1.0001  # does not fuse with the next one
    return x

  x = jnp.ones(64, jnp.float32)
  forms: dict[str, Callable[[], Any]] = {
    "traced": functools.partial(
      jax.jit(lambda x, steps: lax.fori_loop(0, steps, body, x)), x, jnp.int32(steps)
    ),
    "known": functools.partial(jax.jit(lambda x: lax.fori_loop(0, steps, body, x)), x),
  }
  times: dict[str, list[float]] = {form: [] for form in forms}
  for _ in range(8):
    for form, function in forms.items():
      times[form].append(1e6 * _seconds(function) / steps)
  traced, known = (statistics.median(times[form][1:]) for form in ("traced", "known"))
  return {"traced length, us/step": traced, "known length, us/step": known, "ratio": traced / known}


def profile(place: Place) -> None:
  """Where the time of a few steps goes, by kernel, as the profiler of JAX sees it."""
  host.use_compilation_cache()
  cases = _SMALL[:1] if place.small else _FEW
  for number, case in enumerate(cases):
    if number and left(place) < 12:
      raise TimeUp(f"{len(cases) - number} of {len(cases)} cases are left")
    with _noted(place, str(case)):
      _profile(place, case)


def _profile(place: Place, case: Case) -> None:
  program = engine.build(_trainer(case, place.small), case.mode, case.width)
  file = str(case).replace(", ", "_").replace(" ", "_")
  with _noted(place, f"{case}: program"):
    (parts.folder(place) / f"{file}.hlo.txt").write_text(program.advance.as_text())
  seeds = bench_tasks._seeds(program.width)
  seeds = streams.split(seeds if program.mode == "vmap" else seeds[0])
  steps = np.int32(2 if place.small else 10)
  state = program.init(seeds, program.data)
  state, _ = jax.block_until_ready(
    program.advance(state, seeds, program.data, None, np.int32(0), steps)
  )
  with tempfile.TemporaryDirectory() as traces:
    with jax.profiler.trace(traces):
      wall = _seconds(program.advance, state, seeds, program.data, None, steps, steps)
    total, count = _kernels(pathlib.Path(traces))
  longest = [
    [name, total[name] / 1e6 / int(steps), count[name] / int(steps)]
    for name, _ in total.most_common(40)
  ]
  record(place, str(case), {
    "ms/step": 1e3 * wall / int(steps),
    "of which kernels, ms": sum(total.values()) / 1e6 / int(steps),
    "kernels/step": sum(count.values()) / int(steps),
    "kernels": longest,
  })  # fmt: skip
  for name, milliseconds, times in longest[:5]:
    record(place, f"{case}: {name}", {"ms/step": milliseconds, "kernels/step": times})


def _kernels(traces: pathlib.Path) -> tuple[collections.Counter, collections.Counter]:
  """Nanoseconds and calls of each kernel in the profiler's files.

  A GPU's are on its streams, a TPU's on the line of XLA's operations; a CPU has its threads alone.
  """
  total: collections.Counter = collections.Counter()
  count: collections.Counter = collections.Counter()
  on_device = jax.default_backend() != "cpu"
  for file in traces.rglob("*.xplane.pb"):
    for plane in jax.profiler.ProfileData.from_file(str(file)).planes:
      if not plane.name.startswith("/device:" if on_device else "/host:CPU"):
        continue
      for line in plane.lines:
        if on_device and not line.name.startswith(("Stream", "XLA Ops")):
          continue
        if not on_device and line.name == "python":
          continue
        for event in line.events:
          total[event.name[:100]] += event.duration_ns
          count[event.name[:100]] += 1
  return total, count


def _worker(place: Place) -> WorkerPool:
  """One worker as a sweep on this machine has them, without asking once more what there is."""
  return WorkerPool([place.core], [host.accelerator_environment(place.platform, 0, place.devices)])


def _trainer(case: Case, small: bool) -> Trainer:
  """A network on images that are made up where its own would have to be there."""
  options = {"model.convolution": case.lowering, "model.precision": case.precision}
  if case.network == "picard":
    chosen = settings.config("smoke" if small else "paper", "picard", "short")
    examples, side = (500, 16) if small else (50_000, 32)
    return training.on_dataset(changes.changed(chosen, options), _images(examples, side), 10)
  if case.network == "resnet9":
    batch, channels = (4, 4) if small else (500, 64)
    examples = 10 * batch if small else 50_000
    return bench_tasks._resnet9(case.lowering, channels, batch, examples, 6_400, case.precision)
  if case.network == "digits_mlp":  # which has no convolution
    del options["model.convolution"]
  return training.make_trainer(changes.changed(bench_tasks._config(case.network, small), options))


def _images(examples: int, side: int) -> Dataset:
  """Made-up images in ten classes, a fifth as many to test on."""
  rng = np.random.default_rng(0)
  arrays = []
  for count in (examples, examples // 5):
    arrays.append(rng.integers(0, 256, (count, side, side, 3), np.uint8))
    arrays.append(rng.integers(0, 10, count).astype(np.int32))
  return Dataset(*arrays, np.full(3, 127, np.float32), np.full(3, 64, np.float32))


def _said(*command: str) -> str:
  """What a program prints, or why it does not."""
  try:
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
  except (OSError, subprocess.TimeoutExpired) as error:
    return str(error)
  return (done.stdout or done.stderr).strip()
