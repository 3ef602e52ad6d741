"""What is said when memory runs out: how much a program needs, and how many lanes would fit."""

import contextlib
import math
import re
from collections.abc import Iterator, Mapping

from seedlab.errors import UserError, counted

_USABLE = 0.9  # of what a device grants: the rest is lost between buffers of different sizes
_REMEDY = "make the model (model.width), data.train_examples, evaluation.batch_size"
_TEXT = re.compile(r"RESOURCE_EXHAUSTED|out of memory", re.IGNORECASE)
_SIZE = re.compile(r"allocat\w+ (\d+) bytes|\((\d+)B\)")


@contextlib.contextmanager
def explained(costs: Mapping[str, float] | None = None, width: int = 1) -> Iterator[None]:
  """Turns a lack of memory within into a UserError.

  Args:
    costs: bytes_lane and bytes_shared of the compiled program that runs within, if there is one.
    width: its lanes.
  """
  try:
    yield
  except Exception as error:
    if not ran_out(error):
      raise
    if not costs or math.isnan(costs["bytes_lane"]):
      raise UserError(plainly(error)) from None
    platform, granted = _device()
    raise UserError(
      in_lanes(costs["bytes_lane"], costs["bytes_shared"], width, platform, granted)
    ) from None


def ran_out(error: Exception) -> bool:
  """Whether an error, Python's or the device's, is a lack of memory."""
  device = isinstance(error, RuntimeError) and _TEXT.search(str(error))
  return isinstance(error, MemoryError) or bool(device)


def plainly(error: Exception) -> str:
  """Of an error about which no more is known than what it says."""
  found = _SIZE.search(str(error))
  size = f" for {_gib(float(found[1] or found[2]))} at once" if found else ""
  return f"there is not enough memory{size}: {_REMEDY}, the images or --width smaller"


def in_lanes(lane: float, shared: float, width: int, platform: str, granted: int | None) -> str:
  """Of a program: what it needs, and the number of lanes, a power of two, that would fit.

  Args:
    lane, shared: bytes for each lane, and for the data that all of them read.
    platform: "cpu", "gpu" or "tpu".
    granted: bytes that the device gives to this process, None where nobody says.
  """
  needed = f"{counted(width, 'lane')} need" if width > 1 else "a run needs"
  text = f"out of memory: {needed} about {_gib(shared + width * lane)}"
  if width > 1:
    text += f" ({_gib(lane)} each, and {_gib(shared)} for the data)"
  if granted is None:
    smaller = f"{_REMEDY} or the images smaller"
    smaller = f"--width={width // 2} needs half of it" if width > 1 else smaller
    fewer = ", fewer --workers need less together" if platform == "cpu" else ""
    return f"{text}: {smaller}{fewer}{_keeps(width)}"
  text += f", and the device grants {_gib(granted)}"
  if platform == "gpu":
    text += " (XLA_PYTHON_CLIENT_MEM_FRACTION says how much of it)"
  fitting = (_USABLE * granted - shared) / lane
  if fitting < 1:
    return f"{text}: not even a single run fits; {_REMEDY} or the images smaller"
  most = 2 ** int(math.log2(fitting))
  if most >= width:
    half = f"; then --width={width // 2} helps" if width > 1 else ""
    enough = "that is enough, unless other processes are on the device too"
    return f"{text}: {enough}{half}{_keeps(width)}"
  return f"{text}: --width={most} would fit{_keeps(width)}"


def _keeps(width: int) -> str:
  return "; a store keeps the width it was made with" if width > 1 else ""


def _device() -> tuple[str, int | None]:
  """The platform of this process's device, and the bytes that it grants, if it says so."""
  import jax

  device = jax.local_devices()[0]
  return device.platform, (device.memory_stats() or {}).get("bytes_limit")


def _gib(size: float) -> str:
  """A number of bytes, to three digits or so."""
  return f"{size / 2**30:,.1f} GiB" if size >= 2**30 else f"{size / 2**20:,.1f} MiB"
