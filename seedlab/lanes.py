"""How many runs share a program, and how: the rules of lanes="auto".

On a CPU a fixed rule, as measured on one. On an accelerator by evidence: the programs of candidates
are compiled, and what they move, compute and start is counted; of those that fit into the device's
memory the one whose bound on time is the lowest for the runs that are wanted is taken.
"""

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax

from seedlab import counting, programs
from seedlab.devices import Device
from seedlab.errors import UserError
from seedlab.programs import MODES, Mode, Traced

# Measured on one core (BUILD_NOTES.md, Lanes): lanes pay where a step is so small that the
# loop around it dominates, and never for convolutions, which vmap turns into grouped ones.
_SMALL_NETWORK = 100_000
_BUSY = 64e6  # operations of a step: 49 million were as fast in 16 lanes, 87 half as fast
_CPU_WIDTH = 16
_WIDTHS = (8, 32, 128, 512)  # that are tried on an accelerator, as long as each is worth it
_EQUAL = 1.05  # times the lowest bound: what is no reason for more memory
_WORTH = 0.9  # of the time of the narrower one: a wider one must take less to go on
# Lanes of a library's own convolution make a grouped one, and no count of bytes shows how slow its
# kernels are (TPUs have none and compute 3.2 times as much): lanes take matrix products instead.
LOWERINGS: dict[Mode, str] = {"loop": "direct", "vmap": "patches"}
_MEMORY = 0.8  # of the device's: the rest is lost between buffers, or others' (kernels' scratch)


@dataclasses.dataclass(frozen=True)
class Evidence:
  """What a compiled program of `width` lanes does, of all lanes together.

  Attributes:
    lowering: of its convolutions, where that was chosen.
    mode, width: of its lanes.
    bytes, kernels: of a step; upper bounds (see `counting`).
    operations: of the products of a step, by what they round to.
    evaluation: seconds of one evaluation, a bound like `seconds`.
    memory: bytes that it needs, the data included.
    limits: seconds of a step, were each of these all that limits it: "bandwidth", "arithmetic",
      "launches".
  """

  lowering: str | None
  mode: Mode
  width: int
  bytes: float
  kernels: float
  operations: Mapping[str, float]
  evaluation: float
  memory: float
  limits: Mapping[str, float]

  @property
  def seconds(self) -> float:
    """Of a step: no less than this."""
    return max(self.limits.values())

  @property
  def limit(self) -> str:
    """What bounds a step."""
    return max(self.limits, key=lambda name: self.limits[name])

  def fits(self, device: Device) -> bool:
    return fits(self.memory, device)

  def hours(self, plan: Sequence[int], runs: int) -> float:
    """Of so many runs on one device: no less than this."""
    group = self.seconds * plan[-1] + self.evaluation * len(plan)
    return group * math.ceil(runs / self.width) / 3600


def fits(memory: float, device: Device) -> bool:
  """Whether a program that needs so many bytes is to be run on a device."""
  return memory <= _MEMORY * device.memory


def rule(state: Any, platform: str, mode: str, width: int | None) -> tuple[Mode, int] | None:
  """The lane mode and width as asked, or for "auto" on a CPU by a fixed rule; else None.

  CPU: `vmap` of 16 lanes for networks without convolutions (no parameter of rank
  3 or more) of at most 100,000 parameters, unless they are `busy`, else `loop`.

  Args:
    state: of one run; its `parameters` decide on a CPU.
  """
  if mode not in ("auto", *MODES):
    raise UserError(f"lanes={mode!r} is not known; choices: auto, loop, measure, vmap")
  if width is not None and width < 1:
    raise UserError(f"width={width} must be at least 1")
  if mode == "auto":
    if platform != "cpu":
      return None
    leaves = jax.tree.leaves(programs.parameters(state))
    small = sum(leaf.size for leaf in leaves) <= _SMALL_NETWORK
    mode = "vmap" if small and all(leaf.ndim < 3 for leaf in leaves) else "loop"
  if mode == "loop":
    if width not in (None, 1):
      raise UserError(f"width={width} needs lanes=vmap; lanes=loop runs one run at a time")
    return "loop", 1
  if width is None and platform != "cpu":
    return None
  return "vmap", width or _CPU_WIDTH


def busy(traced: Traced) -> bool:
  """Whether a step of each lane multiplies so much that a CPU gains nothing from lanes.

  A Transformer uses each parameter for every token, so that few parameters do not mean small steps.
  """
  return sum(counting.products(traced.advance.jaxpr).values()) / traced.width > _BUSY


def candidates(
  measure: Callable[[str | None, Mode, int], Evidence],
  device: Device,
  runs: int,
  lowerings: Collection[str | None] = (None,),
  mode: str = "auto",
  width: int | None = None,
) -> list[Evidence]:
  """The evidence that `chosen` decides on: one run alone, then wider and wider programs.

  Wider ones are tried as long as they fit, take at least a tenth less time a run than the
  narrower one, and have no more lanes than there are runs (rounded up to what is tried).

  Args:
    measure: compiles and counts: (lowering, mode, width).
    device: what they have to fit into.
    runs: how many are wanted.
    lowerings: those of the convolutions. Where there is a choice, LOWERINGS says which mode takes
      which.
    mode, width: as asked: "auto" and None leave the choice.
  """

  def lowering(mode: Mode) -> str | None:
    (only, *others) = lowerings
    return LOWERINGS[mode] if others else only

  if mode == "loop":
    return [measure(lowering("loop"), "loop", 1)]
  if width is not None:
    return [measure(lowering("vmap"), "vmap", width)]
  found = [measure(lowering("loop"), "loop", 1)] if mode == "auto" else []
  for wider in _WIDTHS:
    if wider > _WIDTHS[0] and wider >= 4 * runs:
      break
    found.append(measure(lowering("vmap"), "vmap", wider))
    if len(found) > 1:
      last, one = found[-2:]
      if not one.fits(device) or one.seconds / one.width > _WORTH * last.seconds / last.width:
        break
  return found


def chosen(found: Sequence[Evidence], device: Device, plan: Sequence[int], runs: int) -> Evidence:
  """The one that needs the least memory of those whose bound on the time of all runs is the lowest.

  A bound within a twentieth of the lowest counts as such. Where none fits, the smallest.
  """
  fitting = [one for one in found if one.fits(device)] or [min(found, key=lambda one: one.memory)]
  fastest = min(one.hours(plan, runs) for one in fitting)
  equal = [one for one in fitting if one.hours(plan, runs) <= _EQUAL * fastest]
  return min(equal, key=lambda one: one.memory)


def evidence(traced: Traced, device: Device, lowering: str | None = None) -> Evidence:
  """Compiles the programs of some lanes and counts what they do.

  Args:
    traced: for `device`, whether that is there or not.
    device: its figures.
    lowering: of the convolutions, to be told with it.
  """
  init, advance, evaluate = (
    programs.compile_(stage.lower()) for stage in (traced.init, traced.advance, traced.evaluate)
  )
  step, test = (counting.program(one.as_text()) for one in (advance, evaluate))
  operations = counting.products(traced.advance.jaxpr)
  tested = _limits(device, test, counting.products(traced.evaluate.jaxpr), 0.0)
  return Evidence(
    lowering,
    traced.mode,
    traced.width,
    step.bytes,
    step.kernels,
    operations,
    max(tested.values()),
    max(map(_memory, (init, advance, evaluate))),
    _limits(device, step, operations, device.round_trip),
  )


def _limits(
  device: Device, count: counting.Count, operations: Mapping[str, float], round_trip: float
) -> dict[str, float]:
  arithmetic = sum(number / device.rates[kind] for kind, number in operations.items())
  launches = count.kernels * device.launch + round_trip
  return {
    "bandwidth": count.bytes / device.bandwidth, "arithmetic": arithmetic, "launches": launches,
  }  # fmt: skip


def _memory(stage: Any) -> float:
  """Bytes of a compiled program: what it is given and returns, and what it needs meanwhile."""
  found = stage.memory_analysis()
  given, returned = found.argument_size_in_bytes, found.output_size_in_bytes
  return float(given + returned - found.alias_size_in_bytes + found.temp_size_in_bytes)
