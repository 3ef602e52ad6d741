"""Accelerators that programs are compiled for without having one: what they hold and how fast.

Memory, bandwidth and rates are the makers' own figures, reached by no program, which makes times
computed from them bounds. Of NVIDIA's: data sheets of A100 SXM 80 GB (2021), H100 SXM (2022) and
H200 SXM (2023), dense rates; what XLA's compiler asks about a chip is as in XLA's own list of
targets. Of Google's: the pages "TPU v5e" and "TPU v6e" of the documentation of Cloud TPU; a float32
product is six of bfloat16 there (XLA's precision HIGHEST), of its precision HIGH three.
"""

import dataclasses
import importlib.util
from collections.abc import Mapping
from typing import Any

from seedlab.errors import UserError

# Seconds. Assumed, not measured on any of these devices (`seedlab accelerator` measures both): what
# the start of a kernel costs where the next one waits for it, and that the host is asked whether
# a loop of unknown length goes on.
_LAUNCH = {"gpu": 3e-6, "tpu": 1e-6}
_ROUND_TRIP = {"gpu": 15e-6, "tpu": 0.0}


@dataclasses.dataclass(frozen=True)
class Device:
  """One chip.

  Attributes:
    name: of the flag `--device`.
    kind: what JAX calls it (`device_kind`).
    platform: "gpu" or "tpu".
    memory: bytes.
    bandwidth: bytes a second between it and the chip.
    rates: operations a second of products, by what they round to: "float32", "tf32", "default"
      (what JAX takes for float32 where nothing else is asked for: TF32 on NVIDIA's, bfloat16 on
      Google's) and "bfloat16".
    target: of NVIDIA's, what XLA asks about a chip beside that; of Google's, the topology's name.
  """

  name: str
  kind: str
  platform: str
  memory: int
  bandwidth: float
  rates: Mapping[str, float]
  target: Any

  @property
  def launch(self) -> float:
    return _LAUNCH[self.platform]

  @property
  def round_trip(self) -> float:
    return _ROUND_TRIP[self.platform]


def _nvidia(name, kind, memory, bandwidth, tera, **target) -> Device:
  kinds = ("float32", "tf32", "default", "bfloat16")
  rates = dict(zip(kinds, (1e12 * tera[place] for place in (0, 1, 1, 2)), strict=True))
  return Device(name, kind, "gpu", memory, bandwidth, rates, target)


def _google(name, kind, memory, bandwidth, tera) -> Device:
  passes = {"float32": 6, "tf32": 3, "default": 1, "bfloat16": 1}
  rates = {kind: tera * 1e12 / number for kind, number in passes.items()}
  return Device(name, kind, "tpu", memory * 2**30, bandwidth, rates, f"{name}:1x1")


_HOPPER = {
  "core_count": 132, "fpus_per_core": 128, "clock_rate_ghz": 1.98, "l2_cache_size": 50 * 2**20,
  "shared_memory_per_core": 228 * 2**10, "shared_memory_per_block_optin": 227 * 2**10,
  "capability": "major: 9 feature_extension: ACCELERATED_FEATURES",
}  # fmt: skip
_AMPERE = {
  "core_count": 108, "fpus_per_core": 64, "clock_rate_ghz": 1.41, "l2_cache_size": 40 * 2**20,
  "shared_memory_per_core": 164 * 2**10, "shared_memory_per_block_optin": 163 * 2**10,
  "capability": "major: 8",
}  # fmt: skip
DEVICES = {
  one.name: one
  for one in (
    _nvidia("h200", "NVIDIA H200", 151_397_597_184, 4.8e12, (67, 494.5, 989), **_HOPPER),
    _nvidia("h100", "NVIDIA H100 80GB HBM3", 84_942_979_072, 3.35e12, (67, 494.5, 989), **_HOPPER),
    _nvidia("a100", "NVIDIA A100-SXM4-80GB", 85_100_068_864, 2.039e12, (19.5, 156, 312), **_AMPERE),
    _google("v5e", "TPU v5 lite", 16, 0.819e12, 197),
    _google("v6e", "TPU v6 lite", 32, 1.64e12, 918),
  )
}

# Of a platform: the extra that brings its compiler, and the packages that hold it.
_COMPILERS = {
  "gpu": ("cuda", "jax_plugins.xla_cuda13", "jax_plugins.xla_cuda12"),
  "tpu": ("tpu", "libtpu"),
}


def named(name: str) -> Device:
  """The device of that name, or a UserError that lists them."""
  if name not in DEVICES:
    raise UserError(f"device={name!r} is not known; choices: {', '.join(DEVICES)}")
  return DEVICES[name]


def here() -> Device:
  """The accelerator of this process, with the memory that it grants.

  One that is not listed counts as the listed one of its platform that is the slowest, with its own
  memory: ratios between programs are what choices rest on.
  """
  import jax

  chip = jax.local_devices()[0]
  alike = [one for one in DEVICES.values() if one.platform == chip.platform]
  found = [one for one in alike if chip.device_kind.startswith(one.kind)]
  one = found[0] if found else min(alike, key=lambda one: one.bandwidth)
  granted = (chip.memory_stats() or {}).get("bytes_limit")
  return dataclasses.replace(one, memory=granted or one.memory)


def check_compiler(device: Device) -> None:
  """Raises UserError where this environment cannot compile for a device."""
  extra, *packages = _COMPILERS[device.platform]
  if not any(map(_installed, packages)):
    raise UserError(
      f"device={device.name}: to compile for it without having one takes its compiler, which is"
      f" not installed; pip install '.[{extra}]' (jax 0.11 on Python 3.12 is known to do it)"
      " into an environment of its own"
    )


def _installed(package: str) -> bool:
  try:
    return importlib.util.find_spec(package) is not None
  except ModuleNotFoundError:
    return False


def sharding(device: Device) -> Any:
  """What places the arguments of a program on a device that is not there.

  To be called in a process with `host.ahead_environment`. Raises UserError where this JAX cannot.
  """
  import jax
  import numpy as np
  from jax.experimental import topologies

  form: dict[str, Any] = {"platform": "tpu", "topology_name": device.target}
  form["chips_per_host_bounds"] = (1, 1, 1)
  if device.platform == "gpu":
    form = {"platform": "cuda", "topology_name": "1x1x1", "topology": "1x1x1"}
    form["target_config"] = _target(device)
  try:
    topology = topologies.get_topology_desc(**form)
  except Exception as error:  # whatever a plugin raises that does not know the request
    why = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    raise UserError(
      f"device={device.name}: jax {jax.__version__} cannot describe it ({why}); jax 0.11"
      " on Python 3.12 is known to do it"
    ) from None
  mesh = jax.sharding.Mesh(np.array(topology.devices[:1]), ("device",))
  return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())


def _target(device: Device) -> str:
  """What XLA's compiler is told about one of NVIDIA's chips, as a text proto."""
  facts = dict(device.target)
  capability = facts.pop("capability")
  facts |= {
    "threads_per_block_limit": 1024, "threads_per_warp": 32, "shared_memory_per_block": 48 * 2**10,
    "threads_per_core_limit": 2048, "block_dim_limit_x": 2**31 - 1, "block_dim_limit_y": 2**16 - 1,
    "block_dim_limit_z": 2**16 - 1, "thread_dim_limit_x": 1024, "thread_dim_limit_y": 1024,
    "thread_dim_limit_z": 64, "registers_per_core_limit": 2**16, "registers_per_block_limit": 2**16,
    "memory_bandwidth": int(device.bandwidth), "device_memory_size": device.memory,
  }  # fmt: skip
  lines = [f"{name}: {value}" for name, value in facts.items()]
  lines += [f"cuda_compute_capability {{ {capability} }}", f'name: "{device.kind}"']
  lines += [f'{of}_version: "13.0.0"' for of in ("driver", "runtime", "compile_time_toolkit")]
  dnn = "dnn_version_info { major: 9 minor: 10 patch: 1 }"
  info = "\n".join(["gpu_device_info {", *lines, "}"])
  return f'{info}\nplatform_name: "CUDA"\n{dnn}\ndevice_description_str: "{device.kind}"\n'
