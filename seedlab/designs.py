"""Run numbers to seeds: which integer every stream of a run gets, and which runs a design has.

Plain integers: whoever reads or checks a store needs them, and no JAX (`streams` makes keys of
them).
"""

from collections.abc import Sequence

import numpy as np

from seedlab.config import SEED_LIMIT, STREAMS, Seeds
from seedlab.errors import UserError


def seeds_of_run(run: int, seeds: Seeds) -> np.ndarray:
  """uint32[len(STREAMS)]: the seed of every stream in run number `run`.

  Joint design: varied streams get `run`. Crossed design: run numbers count the
  tuples of levels shell by shell (Rosenberg & Strong's pairing function for
  tuples: first all tuples with maximum 0, then maximum 1, ...), so a run's
  levels do not depend on how many levels the design has, and more levels
  renumber nothing.
  """
  if not 0 <= run < SEED_LIMIT:
    raise UserError(f"run={run} must lie in [0, 2^32): it is a seed")
  levels = [run] * len(seeds.vary)
  if seeds.design == "crossed":
    levels = _levels_of_run(run, len(seeds.vary))
  values: dict[str, int] = dict(zip(seeds.vary, levels, strict=True))
  return np.array([values.get(stream, seeds.fixed) for stream in STREAMS], np.uint32)


def runs_of_design(seeds: Seeds) -> list[int]:
  """The run numbers of a crossed design: one for each combination of levels, ascending."""
  tuples = np.indices(seeds.levels).reshape(len(seeds.levels), -1).T
  return sorted(_run_of_levels(tuple(map(int, levels))) for levels in tuples)


def _run_of_levels(levels: Sequence[int]) -> int:
  """Rosenberg-Strong: r(x_1..x_d) = r(x_1..x_{d-1}) + m^d + (m - x_d)((m+1)^(d-1) - m^(d-1))."""
  if len(levels) == 1:
    return levels[0]
  dims, shell = len(levels), max(levels)
  inner = (shell + 1) ** (dims - 1) - shell ** (dims - 1)
  return _run_of_levels(levels[:-1]) + shell**dims + (shell - levels[-1]) * inner


def _levels_of_run(run: int, dims: int) -> list[int]:
  """The inverse of `_run_of_levels`."""
  if dims == 1:
    return [run]
  shell = round(run ** (1 / dims))
  while shell**dims > run:
    shell -= 1
  while (shell + 1) ** dims <= run:
    shell += 1
  inner = (shell + 1) ** (dims - 1) - shell ** (dims - 1)
  offset = run - shell**dims
  last = shell - max(0, (offset - shell ** (dims - 1)) // inner)
  return [*_levels_of_run(offset - (shell - last) * inner, dims - 1), last]
