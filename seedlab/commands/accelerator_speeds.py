"""The parts of `seedlab accelerator` that time and describe this machine, in their own process."""

import collections
import functools
import itertools
import os
import pathlib
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import seedlab
from seedlab import engine, errors, host, streams
from seedlab.commands import accelerator_parts as parts
from seedlab.commands import bench_tasks
from seedlab.commands.accelerator_cases import SMALL, Case, gib, trainer
from seedlab.commands.accelerator_parts import Place, TimeUp, left, noted, record

_WIDTHS = [
  Case("picard", "direct", "float32", "loop", 1),
  Case("picard", "patches", "float32", "vmap", 8),
  Case("picard", "direct", "tf32", "loop", 1),
  Case("picard", "direct", "float32", "vmap", 8),
  Case("digits_mlp", "direct", "float32", "vmap", 32),
  Case("digits", "patches", "float32", "vmap", 32),
  Case("digits", "direct", "float32", "vmap", 32),
  Case("picard", "direct", "bfloat16", "loop", 1),
  Case("resnet9", "direct", "float32", "loop", 1),
  Case("resnet9", "patches", "float32", "vmap", 4),
  Case("resnet9", "direct", "float32", "vmap", 4),
  Case("picard", "patches", "bfloat16", "vmap", 8),
  Case("digits_mlp", "direct", "float32", "vmap", 512),
  Case("digits", "patches", "float32", "vmap", 512),
  Case("picard", "patches", "float32", "loop", 1),
  Case("picard", "patches", "float32", "vmap", 2),
  Case("picard", "patches", "float32", "vmap", 32),
  Case("digits_mlp", "direct", "float32", "loop", 1),
  Case("digits", "direct", "float32", "loop", 1),
  Case("resnet9", "direct", "bfloat16", "loop", 1),
  Case("resnet9", "patches", "bfloat16", "vmap", 4),
  Case("picard", "direct", "float16", "loop", 1),
  Case("digits_mlp", "direct", "float32", "vmap", 4096),
]
# Under each set of flags, and by kernel.
_FEW = [
  Case("digits_mlp", "direct", "float32", "vmap", 32),
  Case("picard", "direct", "float32", "loop", 1),
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


def widths(place: Place) -> None:
  """Steps by network, lowering, precision, mode and width; the most telling first."""
  small = [*SMALL, Case("picard", "direct", "float32", "loop", 1)]
  _speeds(place, small if place.small else _WIDTHS)


def determinism(place: Place) -> None:
  """Some of them under the XLA flags that this process was started with."""
  _speeds(place, SMALL[:1] if place.small else _FEW)


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
    with noted(place, str(case)):
      record(place, str(case), _speed(case, place.small))
    longest = max(longest, time.monotonic() - started)


def _speed(case: Case, small: bool) -> dict[str, Any]:
  """Speed and memory of a case; runs/h are of its whole recipe on this device."""
  started = time.perf_counter()
  program = engine.build(trainer(case, small), case.mode, case.width)
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
    "GiB by the compiler": gib(program.costs, case.width),
    "GiB, most so far": peak and peak / 2**30,
    "s to build": built,
  }


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
    with noted(place, name), jax.default_matmul_precision(setting):
      record(place, name, {
        "relative error of a product": _error(jnp.matmul, a, b, a @ b),
        "of a convolution": _error(_convolution, x, k, convolved),
        "TFLOP/s": _ceiling("float32", size),
      })  # fmt: skip
  for kind in ("bfloat16", "float16"):
    with noted(place, kind):
      record(place, kind, {"TFLOP/s": _ceiling(kind, size)})
  with noted(place, "copy"):
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
    name = f"{errors.counted(kernels, 'sort')} a step"
    with noted(place, name):
      record(place, name, _loop(kernels, steps))


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
  cases = SMALL[:1] if place.small else _FEW
  for number, case in enumerate(cases):
    if number and left(place) < 12:
      raise TimeUp(f"{len(cases) - number} of {len(cases)} cases are left")
    with noted(place, str(case)):
      _profile(place, case)


def _profile(place: Place, case: Case) -> None:
  program = engine.build(trainer(case, place.small), case.mode, case.width)
  compiled: Any = program.advance
  file = str(case).replace(", ", "_").replace(" ", "_")
  with noted(place, f"{case}: program"):
    (parts.folder(place) / f"{file}.hlo.txt").write_text(compiled.as_text())
  rows = bench_tasks._seeds(program.width)
  seeds, data = streams.split(rows if program.mode == "vmap" else rows[0]), program.data
  steps = 2 if place.small else 10
  length = np.int32(steps)
  state = program.init(seeds, data)
  state, _ = jax.block_until_ready(compiled(state, seeds, data, None, np.int32(0), length))
  with tempfile.TemporaryDirectory() as traces:
    with jax.profiler.trace(traces):
      wall = _seconds(compiled, state, seeds, data, None, length, length)
    total, count = _kernels(pathlib.Path(traces))
  longest = [
    [name, total[name] / 1e6 / steps, count[name] / steps] for name, _ in total.most_common(40)
  ]
  record(place, str(case), {
    "ms/step": 1e3 * wall / steps,
    "of which kernels, ms": sum(total.values()) / 1e6 / steps,
    "kernels/step": sum(count.values()) / steps,
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
  plane_of, line_of = {
    "gpu": ("/device:GPU", "Stream"),
    "tpu": ("/device:TPU", "XLA Ops"),
  }.get(jax.default_backend(), ("/host:CPU", ""))
  for file in traces.rglob("*.xplane.pb"):
    for plane in jax.profiler.ProfileData.from_file(str(file)).planes:
      lines = plane.lines if plane.name.startswith(plane_of) else []
      for line in lines:
        if line.name.startswith(line_of) and line.name != "python":
          for event in line.events:
            total[event.name[:100]] += event.duration_ns
            count[event.name[:100]] += 1
  return total, count


def _said(*command: str) -> str:
  """What a program prints, or why it does not."""
  try:
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
  except (OSError, subprocess.TimeoutExpired) as error:
    return str(error)
  return (done.stdout or done.stderr).strip()
