"""Counts what a compiled program does: bytes moved, kernels started, operations of its products.

Bytes and kernels are read off the optimised program as XLA writes it (HLO text), so that a program
compiled for a device that is not there can be counted too. Operations are counted in the traced
program (jaxpr), which is the same for every device. XLA's own cost analysis counts the body of a
loop once, however often it runs, and is empty for a device that is not there.

  bytes    every instruction that is a kernel of its own reads its operands and writes its
           results: an upper bound, since caches may hold some of it; good for ratios
  kernels  those instructions; each has to be started
  loops    a loop that runs a known number of times counts so often, and any other one once: the
           engine's loop over the steps of a segment is such, so that its program counts as a step
"""

import collections
import dataclasses
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

_TYPE = re.compile(r"(\w+)\[([\d,]*)\](?:\{([^{}]*)\})?")
_BITS = re.compile(r"[a-z]+?(\d+)")
_NAME = re.compile(r"%([\w.\-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"?(\d+)')
_TILE = re.compile(r":T\(([\d,]+)\)")
_ELSEWHERE = re.compile(r"S\(([1-9]\d*)\)")  # a TPU's scratch memory: not what bandwidth bounds
# They name memory and move none.
_FREE = {
  "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id",
  "replica-id", "opt-barrier", "add-dependency", "domain",
}  # fmt: skip
_PICKS = {"dynamic-slice", "slice", "gather"}


@dataclasses.dataclass(frozen=True)
class Count:
  """What one step (or one call, of a program without a loop over steps) does."""

  bytes: float
  kernels: float

  def __add__(self, other: "Count") -> "Count":
    return Count(self.bytes + other.bytes, self.kernels + other.kernels)

  def times(self, factor: int) -> "Count":
    return Count(factor * self.bytes, factor * self.kernels)


@dataclasses.dataclass(frozen=True)
class _Instruction:
  name: str
  opcode: str
  type: str
  given: str  # between the parentheses, as text: the operands, or the number of a parameter
  rest: str  # attributes, as text
  root: bool

  @property
  def operands(self) -> list[str]:
    return _NAME.findall(self.given)


_NOTHING = Count(0.0, 0.0)
_Computations = Mapping[str, Mapping[str, _Instruction]]


def program(text: str) -> Count:
  """Bytes and kernels of a compiled program; `text` is its optimised HLO.

  Of a program with loops of unknown length, a pass through these alone: what comes before and
  after happens once a segment.
  """
  computations, entry = _parse(text)
  loops = list(_open_loops(computations, entry))
  if loops:
    return sum((_computation(computations, one) for one in loops), _NOTHING)
  return _computation(computations, entry)


def size(type_: str) -> int:
  """Bytes of an HLO type, tuples too, with the padding of its tiles; 0 for what is no array."""
  total = 0
  for dtype, dims, layout in _TYPE.findall(type_):
    if not _ELSEWHERE.search(layout):
      total += _elements(dims, layout) * _bits(dtype) // 8
  return total


def products(jaxpr: Any) -> dict[str, float]:
  """Operations (multiplications and additions) of the products and convolutions of a jaxpr.

  Returns:
    by what they round to: "float32"; "tf32"; "default", what a device takes for float32 where
    nothing else is asked for; "bfloat16", half precision of either kind.
    A loop of unknown length counts as one pass.
  """
  found: collections.Counter[str] = collections.Counter()
  _products(getattr(jaxpr, "jaxpr", jaxpr), 1, found)
  return dict(found)


def _products(jaxpr: Any, times: int, found: collections.Counter[str]) -> None:
  for equation in jaxpr.eqns:
    name, parameters = equation.primitive.name, equation.params
    if name == "dot_general":
      (contracted, _), _ = parameters["dimension_numbers"]
      left = equation.invars[0].aval
      inner = math.prod(left.shape[axis] for axis in contracted)
      found[_rounding(equation)] += 2.0 * times * equation.outvars[0].aval.size * inner
    elif name == "conv_general_dilated":
      kernel, form = equation.invars[1].aval, parameters["dimension_numbers"].rhs_spec
      window = kernel.size // kernel.shape[form[0]]  # inputs of a group times the kernel's pixels
      # The zeros that a stride puts between the pixels of a gradient are not multiplied.
      window /= math.prod(parameters["lhs_dilation"])
      found[_rounding(equation)] += 2.0 * times * equation.outvars[0].aval.size * window
    elif name == "cond":
      branches: list[collections.Counter[str]] = []
      for branch in parameters["branches"]:
        branches.append(collections.Counter())
        _products(branch.jaxpr, times, branches[-1])
      found.update(max(branches, key=lambda one: sum(one.values())))
    else:
      trips = times * (parameters["length"] if name == "scan" else 1)
      for inside in _inside(parameters):
        _products(inside, trips, found)


def _inside(parameters: Mapping[str, Any]) -> Iterator[Any]:
  """The jaxprs that the parameters of an equation hold."""
  for value in parameters.values():
    for one in value if isinstance(value, tuple | list) else (value,):
      one = getattr(one, "jaxpr", one)
      if hasattr(one, "eqns"):
        yield one


def _rounding(equation: Any) -> str:
  if equation.invars[0].aval.dtype.itemsize < 4:
    return "bfloat16"
  asked = equation.params.get("precision")
  first = asked[0] if isinstance(asked, tuple) else asked
  named = str(getattr(first, "name", first)).upper()
  if "HIGHEST" in named or "F32_F32_F32" in named:
    return "float32"
  return "tf32" if "HIGH" in named or "TF32" in named else "default"


def _parse(text: str) -> tuple[_Computations, str]:
  """({computation: {name: instruction}}, the name of the entry)."""
  computations: dict[str, dict[str, _Instruction]] = {}
  current: dict[str, _Instruction] = {}
  entry = ""
  for line in text.splitlines():
    if line.endswith("{") and not line.startswith(" ") and "->" in line:
      name = line.removeprefix("ENTRY ").split()[0].lstrip("%")
      current = computations.setdefault(name, {})
      entry = name if line.startswith("ENTRY") else entry
    elif line.startswith("  ") and " = " in line:
      instruction = _instruction(line)
      current[instruction.name] = instruction
  return computations, entry


def _instruction(line: str) -> _Instruction:
  head, _, tail = line.strip().partition(" = ")
  end = _closing(tail, 0) if tail.startswith("(") else tail.index(" ")
  type_, tail = tail[:end], tail[end:].strip()
  opcode, _, _ = tail.partition("(")
  end = _closing(tail, len(opcode))
  given, rest = tail[len(opcode) : end], tail[end:]
  name = head.removeprefix("ROOT ").lstrip("%")
  return _Instruction(name, opcode, type_, given, rest, head.startswith("ROOT "))


def _closing(text: str, at: int) -> int:
  """One past the parenthesis that closes the one at `at`."""
  depth = 0
  for place in range(at, len(text)):
    depth += (text[place] == "(") - (text[place] == ")")
    if not depth:
      return place + 1
  raise ValueError(f"no closing parenthesis: {text[:80]}")


def _open_loops(computations: _Computations, name: str) -> Iterator[str]:
  """The bodies and conditions of the outermost loops of unknown length below a computation."""
  for instruction in computations[name].values():
    if instruction.opcode == "while":
      body = _called(instruction, "body")
      if _TRIPS.search(instruction.rest):
        yield from _open_loops(computations, body)
      else:
        yield from (body, _called(instruction, "condition"))
    elif instruction.opcode in ("call", "conditional"):
      for below in _all_called(instruction, computations):
        yield from _open_loops(computations, below)


def _computation(computations: _Computations, name: str) -> Count:
  found = (_moved(computations, name, one) for one in computations[name].values())
  return sum(found, _NOTHING)


def _moved(computations: _Computations, where: str, instruction: _Instruction) -> Count:
  opcode, types = instruction.opcode, computations[where]
  if opcode in _FREE or opcode.endswith(("-done", "-update")):
    return _NOTHING
  if opcode == "while":
    trips = _TRIPS.search(instruction.rest)
    once = _computation(computations, _called(instruction, "body"))
    return once.times(int(trips[1])) if trips else once
  if opcode == "call":
    below = (_computation(computations, one) for one in _all_called(instruction, computations))
    return sum(below, _NOTHING)
  if opcode == "conditional":
    branches = [_computation(computations, one) for one in _all_called(instruction, computations)]
    return max(branches, key=lambda one: one.bytes)
  read = [size(types[one].type) for one in instruction.operands if one in types]
  written = size(instruction.type)
  if opcode.endswith("-start"):  # its result names its operands once more, and a flag
    written = max((size(one) for one in _parts(instruction.type)), default=0)
  elif opcode == "custom-call" and instruction.type.startswith("("):  # bytes are its scratch space
    written = sum(size(one) for one in _parts(instruction.type) if not one.startswith(("s8", "u8")))
  elif opcode == "fusion":
    read, written = _fused(computations, instruction, read, written)
  elif opcode in _PICKS:
    read[:1] = [written]
  elif opcode == "dynamic-update-slice":  # in place: only what is new is read and written
    read, written = read[1:], read[1]
  return Count(float(sum(read) + written), 1.0)


def _fused(
  computations: _Computations, instruction: _Instruction, read: list[int], written: int
) -> tuple[list[int], int]:
  """Bytes that a fusion reads of each operand and writes: of what it only picks from, the picked.

  A fusion may take a few rows of a data set that stays where it is, or write a few of them.
  """
  inside = computations.get(_called(instruction, "calls"))
  if inside is None:
    return read, written
  users: dict[str, list[_Instruction]] = collections.defaultdict(list)
  for one in inside.values():
    for operand in one.operands:
      users[operand].append(one)
  read = list(read)
  for parameter in inside.values():
    if parameter.opcode != "parameter":
      continue
    number = int(parameter.given.strip("()"))
    read[number] = min(read[number], _picked(parameter, users))
  changed = [one for one in inside.values() if one.opcode == "dynamic-update-slice"]
  for one in changed:
    if size(one.type) and _reaches_root(one, users):
      written += size(inside[one.operands[1]].type) - size(one.type)
  return read, max(written, 0)


def _picked(parameter: _Instruction, users: Mapping[str, list[_Instruction]]) -> int:
  """Bytes of a parameter that its users need: its whole size unless all of them pick."""
  total, waiting = 0, [parameter]
  while waiting:
    value = waiting.pop()
    for user in users[value.name]:
      if user.opcode == "bitcast":
        waiting.append(user)
      elif user.operands[0] != value.name or user.opcode not in (*_PICKS, "dynamic-update-slice"):
        return size(parameter.type)
      elif user.opcode in _PICKS:
        total += size(user.type)
  return total


def _reaches_root(one: _Instruction, users: Mapping[str, list[_Instruction]]) -> bool:
  while not one.root:
    following = users[one.name]
    if len(following) != 1 or following[0].opcode not in ("bitcast", "tuple"):
      return False
    one = following[0]
  return True


def _called(instruction: _Instruction, role: str) -> str:
  found = re.search(rf"\b{role}=%?([\w.\-]+)", instruction.rest)
  return found[1] if found else ""


def _all_called(instruction: _Instruction, computations: _Computations) -> list[str]:
  names = re.findall(
    r"(?:to_apply|calls|true_computation|false_computation)=%?([\w.\-]+)", instruction.rest
  )
  for listed in re.findall(r"branch_computations=\{([^}]*)\}", instruction.rest):
    names += [name.strip().lstrip("%") for name in listed.split(",")]
  return [name for name in names if name in computations]


def _parts(type_: str) -> list[str]:
  """The arrays of a type, as text."""
  return [found[0] for found in _TYPE.finditer(type_)]


def _elements(dims: str, layout: str) -> int:
  """How many elements an array has with those that fill up its tiles."""
  sizes = [int(one) for one in dims.split(",") if one]
  tile = _TILE.search(layout)
  if tile and sizes:
    minor_first = [int(one) for one in layout.split(":")[0].split(",") if one]
    for axis, across in zip(minor_first, map(int, reversed(tile[1].split(","))), strict=False):
      sizes[axis] = -(-sizes[axis] // across) * across
  return math.prod(sizes)


def _bits(dtype: str) -> int:
  if dtype == "pred":
    return 8
  found = _BITS.match(dtype)
  return int(found[1]) if found else 0
