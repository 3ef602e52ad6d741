"""What the machine is, and how a process is made to compute the same bits again.

XLA:CPU splits its work by the cores it can see when its backend starts, and
other splits give other bits; pinning afterwards changes nothing. So a CPU
worker is pinned to one core first (`pin`), and what was visible is part of the
fingerprint.
"""

import contextlib
import datetime
import fcntl
import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform as platform_module
import re
import subprocess
import sys
import tempfile
from typing import Any

from seedlab import __version__
from seedlab.errors import UserError

_REPEATABLE_GPU = "--xla_gpu_deterministic_ops=true --xla_gpu_autotune_level=0"
_TARGET = "SEEDLAB_TARGET_PLATFORM"  # of a worker that compiles for a device elsewhere
# XLA flags that say where to write or how to report, not how to compute.
_SILENT_FLAGS = ("--xla_dump", "--xla_gpu_dump", "--xla_force_host_platform_device_count=1")


def visible_cores() -> list[int]:
  """The cores this process may run on."""
  if hasattr(os, "sched_getaffinity"):
    return sorted(os.sched_getaffinity(0))
  return list(range(os.cpu_count() or 1))


def usable_cores() -> list[int]:
  """The visible cores, as many as the CPU quota of their control groups pays for.

  A fraction of a core pays for none, but there is always one.
  """
  cores = visible_cores()
  quota = _cpu_quota()
  return cores if quota is None else cores[: max(1, min(len(cores), int(quota)))]


def pin(core: int) -> None:
  """Binds this process to one core; to be called before JAX is imported."""
  if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {core})


def pin_if_needed() -> None:
  """Makes sure this process computes CPU bits as a worker does: on one core, seen from the start.

  For workers somebody else started (a cluster's). Raises UserError where JAX is
  already running with more cores in view: nothing can change its bits any more.
  """
  from jax._src import xla_bridge

  cores = visible_cores()
  if len(cores) == 1 or accelerators()[0] != "cpu":
    return
  if xla_bridge.backends_are_initialized():
    raise UserError(
      f"this worker's JAX backend was started with {len(cores)} cores in view: pin workers to one"
      " core before anything computes in them"
    )
  pin(_free_core(cores))


def _free_core(cores: list[int]) -> int:
  """A core that no other such worker of this user on this machine has taken, if there is one.

  It is taken by a lock on a file, which the system releases when this process ends.
  """
  folder = pathlib.Path(tempfile.gettempdir()) / f"seedlab-cores-{os.getuid()}"
  with contextlib.suppress(OSError):  # where nothing can be written, cores are shared by chance
    folder.mkdir(mode=0o700, exist_ok=True)
    for core in cores:
      file = os.open(folder / str(core), os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600)
      try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return core  # the file stays open as long as this process lives
      except BlockingIOError:
        os.close(file)
  return cores[os.getpid() % len(cores)]


def accelerators() -> tuple[str, int]:
  """(platform, number of devices) JAX would start with, found without starting it here.

  Without an installed accelerator plugin it is the CPU; otherwise a short-lived
  process asks JAX.
  """
  requested = os.environ.get("JAX_PLATFORMS", "")
  plugins = [entry.name for entry in importlib.metadata.entry_points(group="jax_plugins")]
  plugins += [name for name in ("jax_plugins", "libtpu") if importlib.util.find_spec(name)]
  if requested == "cpu" or not plugins:
    return "cpu", 1
  question = "import jax; print(jax.default_backend(), jax.local_device_count())"
  answer = subprocess.run(
    [sys.executable, "-c", question], capture_output=True, text=True, check=False
  )
  if answer.returncode:
    raise RuntimeError(f"JAX did not start: {answer.stderr.strip().splitlines()[-1:]}")
  platform, count = answer.stdout.split()[-2:]
  return platform, int(count)


def accelerator_environment(platform: str, number: int, count: int) -> dict[str, str]:
  """Variables under which a worker sees one accelerator of several and computes repeatable bits.

  One process a device needs no partitioned program: a run's bits do not depend on
  how many devices there are. Autotuning picks kernels by timing them, so another
  process may pick others: it is off, and the flags are part of the fingerprint.
  """
  if platform != "gpu":
    return {}
  devices = os.environ.get("CUDA_VISIBLE_DEVICES", "")
  names = devices.split(",") if devices else [str(index) for index in range(count)]
  flags = f"{os.environ.get('XLA_FLAGS', '')} {_REPEATABLE_GPU}".strip()
  return {"CUDA_VISIBLE_DEVICES": names[number], "XLA_FLAGS": flags}


def target() -> str:
  """The platform that this process makes programs for: its own, or that of `ahead_environment`."""
  import jax

  return os.environ.get(_TARGET) or jax.default_backend()


def ahead_environment(platform: str) -> dict[str, str]:
  """Variables under which a worker compiles for an accelerator of `platform` that is not there.

  With the flags of a worker that has one; and without Triton's products, which ask the device
  which of their forms is the fastest.
  """
  there = accelerator_environment(platform, 0, 1)
  flags = there.get("XLA_FLAGS", os.environ.get("XLA_FLAGS", ""))
  if platform == "gpu":
    flags += " --xla_gpu_enable_triton_gemm=false"
  return {
    _TARGET: platform,
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": flags,
    "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",  # which looks for a driver
    "TPU_SKIP_MDS_QUERY": "1",  # which asks the network what machine this is
    "TPU_MIN_LOG_LEVEL": "3",
    "TF_CPP_MIN_LOG_LEVEL": "3",
  }


def cache_directory() -> pathlib.Path:
  """seedlab's directory in the user's cache, mode 0700: compiled programs are executable code."""
  root = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
  directory = root / "seedlab"
  directory.mkdir(mode=0o700, parents=True, exist_ok=True)
  directory.chmod(0o700)
  return directory


def use_compilation_cache() -> None:
  """Keeps compiled programs across processes, apart for each kind of machine."""
  import jax

  machine = hashlib.sha256(json.dumps(_cpu(), sort_keys=True).encode()).hexdigest()[:12]
  try:
    directory = cache_directory() / "programs" / machine
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
  except OSError:
    return  # an unwritable home costs time, not correctness
  jax.config.update("jax_compilation_cache_dir", str(directory))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
  jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def device() -> dict[str, Any]:
  """What of this process's device decides the bits; starts the JAX backend."""
  import jax

  first = jax.local_devices()[0]
  described: dict[str, Any] = {"platform": first.platform, "kind": first.device_kind}
  if first.platform == "cpu":
    described |= _cpu() | {"cores": len(visible_cores()), "probe": _probe()}
  else:
    described["runtime"] = first.client.platform_version
    described["probe"] = _probe()
  return described


def numerics() -> dict[str, Any]:
  """The versions and settings of this process that decide the bits."""
  import jax
  import jaxlib

  flags = [
    flag
    for variable in ("XLA_FLAGS", "LIBTPU_INIT_ARGS")
    for flag in os.environ.get(variable, "").split()
    if not flag.startswith(_SILENT_FLAGS)
  ]
  return {
    "jax": jax.__version__,
    "jaxlib": jaxlib.__version__,
    "xla_flags": sorted(flags),
    "matmul_precision": matmul_precision(jax.default_backend()),
  }


def matmul_precision(platform: str) -> str | None:
  """What JAX is asked to compute float32 products with: what its user said, else float32.

  On a CPU that needs no asking. An accelerator's own default is less: TF32 on NVIDIA's (10 bits
  of the mantissa), bfloat16 on Google's (7 bits).
  """
  import jax

  return jax.config.jax_default_matmul_precision or (None if platform == "cpu" else "highest")


def environment() -> dict[str, Any]:
  """Provenance for the manifest: nothing here decides the bits."""
  return {
    "python": platform_module.python_version(),
    "system": platform_module.platform(),
    "git_commit": _git_commit(),
    "lock": sorted(
      f"{found.metadata['Name']}=={found.version}"
      for found in importlib.metadata.distributions()
      if found.metadata["Name"] not in (None, "seedlab")
    ),
  }


@functools.cache
def identity() -> dict[str, str]:
  """Which seedlab computes here: its version, a SHA-256 over its source files, and the Python.

  Equal versions may be different checkouts, and a rule that was changed in one of them would give
  other digests under the same fingerprint. Configs are left out: what they say travels with a task.
  """
  sha = hashlib.sha256()
  root = pathlib.Path(__file__).parent
  for path in sorted(root.rglob("*.py")):
    name = path.relative_to(root).as_posix()
    if not name.startswith("configs/"):
      source = path.read_bytes()
      sha.update(f"{name} {len(source)}\n".encode() + source)
  python = "{}.{}".format(*sys.version_info)
  return {"seedlab": __version__, "source": sha.hexdigest(), "python": python}


def now() -> str:
  """The time in UTC, ISO 8601, to the second."""
  return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


@functools.cache
def _probe() -> str:
  """SHA-256 of a fixed computation: a dozen matmuls, a convolution, reductions, transcendentals.

  Two processors of one name, or one under another hypervisor, may not agree;
  this finds out instead of believing the name.
  """
  import jax
  import jax.numpy as jnp
  import numpy as np
  from jax import lax

  @jax.jit
  def compute(x):
    products = []
    for size in (8, 10, 16, 31, 32, 50, 64, 100, 128, 200, 256, 500):
      product = x[:size, :128] @ x[:128, :size]
      products.append(product.sum())
    images = x[:256, :192].reshape(16, 16, 16, 12)
    kernel = x[:108, 300:316].reshape(3, 3, 12, 16)
    convolved = lax.conv_general_dilated(
      images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    rows = jnp.concatenate([jnp.tanh(x).sum(0), jnp.exp(x).sum(1), jnp.log1p(x * x).mean(0)])
    return jnp.stack(products), convolved, rows, lax.rsqrt(1 + x * x), lax.erf(x)

  count = np.arange(500 * 500, dtype=np.int64)
  x = ((count * 7919) % 10007 / 5003.5 - 1).astype(np.float32).reshape(500, 500)
  sha = hashlib.sha256()
  for leaf in compute(x):
    sha.update(np.asarray(leaf).tobytes())
  return sha.hexdigest()


@functools.cache
def _cpu() -> dict[str, Any]:
  """Vendor, family, model, stepping and cache sizes of the processor, where the system tells."""
  described: dict[str, Any] = {"machine": platform_module.machine()}
  wanted = {
    "vendor_id",
    "cpu family",
    "model",
    "model name",
    "stepping",
    "CPU implementer",
    "CPU part",
  }
  try:
    lines = pathlib.Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
  except OSError:
    described["processor"] = platform_module.processor()
    return described
  for line in lines:
    name, _, value = line.partition(":")
    if name.strip() in wanted:
      described[name.strip().replace(" ", "_")] = value.strip()
  caches = sorted(pathlib.Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"))
  described["caches"] = [cache.read_text().strip() for cache in caches]
  return described


def _cpu_quota(process: pathlib.Path = pathlib.Path("/proc/self")) -> float | None:
  """Cores' worth of time that the control groups of this process grant, or None without a limit.

  That is the smallest quota among its own group and those above it: a batch system limits a job
  and starts its steps in groups of their own, without a limit, below. Both versions of control
  groups may be in use at once.

  Args:
    process: the folder with the process's `cgroup` and `mountinfo`; see cgroups(7), proc(5).
  """
  try:
    lines = [line.split(":", 2) for line in (process / "cgroup").read_text().splitlines()]
    mounts = [line.split() for line in (process / "mountinfo").read_text().splitlines()]
  except OSError:
    return None
  # By the name of the controller, of which version 2 needs none.
  groups = {name: path for _, names, path in lines for name in names.split(",")}
  quotas: list[float | None] = []
  for mount in mounts:
    kind, _, options = mount[mount.index("-") + 1 :]
    controller = {"cgroup2": "", "cgroup": "cpu"}.get(kind)
    if controller in groups and (not controller or controller in options.split(",")):
      quotas += map(_quota, _levels(mount[3], mount[4], groups[controller]))
  return min((quota for quota in quotas if quota is not None), default=None)


def _levels(root: str, mounted: str, group: str) -> list[pathlib.Path]:
  """The folders of a group and of those above it, as far as they are in view.

  `root` is the group whose folder `mounted` is. A group outside of it (a container's view of its
  host's) has no folder here; then `mounted` is the nearest there is.
  """
  top = pathlib.Path(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), mounted))
  inside = pathlib.PurePath(os.path.relpath(group, root))
  if ".." in (*inside.parts, *pathlib.PurePath(group).parts):
    return [top]
  return [top / inside, *(top / above for above in inside.parents)]


def _quota(group: pathlib.Path) -> float | None:
  """Cores' worth of time that one group grants; None without a limit or where nobody can say."""
  try:
    if (group / "cpu.max").exists():  # version 2
      quota, period = (group / "cpu.max").read_text().split()
    else:
      quota = (group / "cpu.cfs_quota_us").read_text().strip()
      period = (group / "cpu.cfs_period_us").read_text().strip()
    return None if quota in ("max", "-1") else float(quota) / float(period)
  except (OSError, ValueError, ZeroDivisionError):
    return None


def _git_commit() -> str | None:
  """The commit of seedlab's checkout, with a `+` where files differ from it; None outside git."""
  here = pathlib.Path(__file__).parent

  def git(*arguments: str) -> str:
    return subprocess.run(
      ["git", "-C", str(here), *arguments], capture_output=True, text=True, check=True
    ).stdout.strip()

  try:
    return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--", ".") else "")
  except (OSError, subprocess.CalledProcessError):
    return None
