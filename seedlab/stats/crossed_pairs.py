"""Means over pairs of runs in a crossed design of two factors, one run a cell.

Runs that share a level of one factor and differ in the other say what the other alone
does to a network: with the initialisation shared, what the order of the examples does.
Every run (i, j) has rows[i, j], its distances to the runs it is paired with, summed
(`pairs`), and from these alone follow the mean over pairs,

    U = sum_ij rows[i, j] / (number of ordered pairs),

and U without a level: that of a varied factor takes its pairs with every other level
along, sum - 2 (rows of that level), that of a shared factor only its own, sum - (rows of that
level). Leaving a level out in all groups at once is what an interval needs: the runs of
one order in all initialisations are one draw of an order, not many.

Two scopes. *These groups*: the shared levels as they are, the varied factor anew; leaves
out levels of the varied factor alone. *New groups*: both anew; adds the jackknife
variance between groups. What belongs to a group and a level together is in both parts,
so this interval errs on the long side; with few groups its t has few degrees of freedom.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from seedlab.errors import UserError
from seedlab.stats import crossed
from seedlab.stats.single import Interval, several_jackknives


class PairTables(NamedTuple):
  """rows[i, j] of the run with level i of the first factor and j of the second, float64[I, J]."""

  second: np.ndarray  # to the runs that share i: the second factor alone differs; varied=(1,)
  first: np.ndarray  # to the runs that share j: the first factor alone differs; varied=(0,)
  both: np.ndarray  # to the runs that share neither; varied=(0, 1)


def pair_tables(
  rows: Callable[..., np.ndarray], first_R: ArrayLike, second_R: ArrayLike
) -> PairTables:
  """The three tables of a sweep, from its runs in any sequence.

  Args:
    rows: gives rows_R within the groups of its argument `groups`, or among all runs, such as
      `functools.partial(pairs.l1_rows, predictions)`.
    first_R, second_R: int[R], the levels (seeds) of each run. A combination that is missing
      or there twice raises ValueError, and so does a factor with one level.
  """
  same_first_R, same_second_R = rows(groups=first_R), rows(groups=second_R)
  apart_R = rows(groups=None) - same_first_R - same_second_R
  # Rounding must not make something of nothing.
  apart_R[np.abs(apart_R) < 1e-12 * (same_first_R + same_second_R)] = 0
  seeds = {"first factor": first_R, "second factor": second_R}
  tables = [crossed.design(rows_R, seeds)[0] for rows_R in (same_first_R, same_second_R, apart_R)]
  return PairTables(*tables)


def crossed_mean(
  rows_GxL: ArrayLike,
  varied: Sequence[int] = (1,),
  new_groups: bool = False,
  level: float = 0.95,
) -> Interval:
  """U, with a jackknife-t interval of its log over levels.

  Args:
    rows_GxL: float[G, L], a table of `PairTables`; of matrices of distances within G groups,
      float[G, L, L], their `.sum(2)`.
    varied: the axes on which the two runs of a pair differ. With both, both are left
      out, level by level, and every scope is that of new levels.
    new_groups: whether the interval is for new levels of the shared factor, too.

  nan limits below 3 levels of a varied factor, below 2 groups where they are to be new, and
  where U is 0 or becomes it without one level.
  """
  log, parts = _logs(rows_GxL, varied, new_groups)
  low, high = several_jackknives(log, parts, level)
  method = f"jackknife of log pair mean over {_over(varied, new_groups)}"
  return Interval(math.exp(log), math.exp(low), math.exp(high), level, method)


def crossed_difference(
  a_GxL: ArrayLike,
  b_GxL: ArrayLike,
  varied: Sequence[int] = (1,),
  new_groups: bool = False,
  level: float = 0.95,
) -> Interval:
  """U_A - U_B of two sweeps over the same levels, which are left out of both at once.

  On the plain scale: of overlaps, where 0 is no limit.
  """
  _same_levels(a_GxL, b_GxL)
  a, parts_a = without_levels(a_GxL, varied, new_groups)
  b, parts_b = without_levels(b_GxL, varied, new_groups)
  parts = [x - y for x, y in zip(parts_a, parts_b, strict=True)]
  low, high = several_jackknives(a - b, parts, level)
  method = f"jackknife of difference over {_over(varied, new_groups)}"
  return Interval(a - b, low, high, level, method)


def _same_levels(a_GxL: ArrayLike, b_GxL: ArrayLike) -> None:
  if np.shape(a_GxL) != np.shape(b_GxL):
    raise UserError(
      f"both sweeps must have the same levels, not {np.shape(a_GxL)} and {np.shape(b_GxL)};"
      " keep those they share"
    )


def _over(varied: Sequence[int], new_groups: bool) -> str:
  if len(varied) == 2:
    return "the levels of both factors"
  return "levels and groups" if new_groups else "levels, in these groups"


def _logs(
  rows_GxL: ArrayLike, varied: Sequence[int], new_groups: bool
) -> tuple[float, list[np.ndarray]]:
  mean, parts = without_levels(rows_GxL, varied, new_groups)
  with np.errstate(divide="ignore"):
    return float(np.log(mean)), [np.log(x) for x in parts]


def without_levels(
  rows_GxL: ArrayLike, varied: Sequence[int] = (1,), new_groups: bool = False
) -> tuple[float, list[np.ndarray]]:
  """U, and U without each level of each axis to be left out; arguments as of `crossed_mean`."""
  rows_GxL = np.asarray(rows_GxL, np.float64)
  if rows_GxL.ndim != 2:
    raise ValueError(f"rows must have the shape [G, L], not {rows_GxL.shape}")
  if not np.isfinite(rows_GxL).all():
    raise ValueError(f"the rows of cell {np.argwhere(~np.isfinite(rows_GxL))[0]} are not finite")
  if not varied or not set(varied) <= {0, 1}:
    raise ValueError(f"varied={tuple(varied)} must name axis 0, 1 or both")
  if any(rows_GxL.shape[axis] < 2 for axis in varied):
    raise UserError("one level has no pairs; train at least two, three for an interval")
  mean = rows_GxL.sum() / _pairs(rows_GxL.shape, varied)
  parts = []
  for axis in (0, 1) if new_groups else sorted(varied):
    left_N = rows_GxL.sum() - (2 if axis in varied else 1) * rows_GxL.sum(1 - axis)
    shape = [size - (f == axis) for f, size in enumerate(rows_GxL.shape)]
    left_N[left_N < 1e-12 * rows_GxL.sum()] = 0  # rounding: only this level made a difference
    count = _pairs(shape, varied)
    parts.append(left_N / count if count else np.full(len(left_N), math.nan))
  return float(mean), parts


def _pairs(shape: Sequence[int], varied: Sequence[int]) -> int:
  """How many ordered pairs of cells differ on exactly the axes `varied`."""
  return math.prod(n * (n - 1) if axis in varied else n for axis, n in enumerate(shape))
