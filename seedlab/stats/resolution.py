"""What values on a grid, and runs that collapsed, leave to be said.

Accuracies on E examples lie on the grid 1/E, and printed numbers on that of their last digit.
Where the spread is small beside the step of the grid, the sd of a few values is often 0 and a t
interval far too short. A run that collapsed is far away from all the others: a share of 1 % of
them spoils every interval of a mean, and can only be seen if one is among the runs.
"""

import dataclasses
from decimal import Decimal

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike

from seedlab.stats.single import ROUNDING, Interval, finite_values, upper_tail, variance

__all__ = ["Collapse", "collapse", "rate", "step", "variance"]

_NOISE = 1e-6  # of the range: a common step below it is not a grid but rounding
_FLOAT32 = 2.0**-18  # of the largest value: rounding of multiples of differences of float32
_DIGITS = 6  # significant digits up to which a number looks printed
_DISTINCT = 4  # values from which the differences tell a grid by themselves
SEEN_FROM = 5  # runs below which a collapsed one cannot be told from spread


def step(values: ArrayLike, examples: int = 0) -> float:
  """Step h of the grid that values lie on, in their unit; 0 where none is seen.

  Of accuracies or errors in [0, 1] on a known number of examples it is 1 / examples. Otherwise
  the largest step of which all differences are multiples, if there are at least four distinct
  values (continuous ones have none); else that of the last printed digit, of numbers with at
  most six significant digits.

  Args:
    values: all values that share the grid, such as those of every variant of a table; finite.
  """
  if examples:
    return 1 / examples
  distinct = np.unique(finite_values(values))
  scale = float(abs(distinct).max())
  apart = np.diff(distinct)
  apart = apart[apart > ROUNDING * scale]
  if len(apart) + 1 >= _DISTINCT:
    short = (distinct == distinct.astype(np.float32)).all()  # kept as float32, as stores do
    rounding = max(_NOISE * float(np.ptp(distinct)), (_FLOAT32 if short else ROUNDING) * scale)
    return _common_step(apart, rounding)
  printed = max((_decimals(value) for value in distinct), default=0)
  digits = max((_significant(value) for value in distinct), default=0)
  return 0.0 if digits > _DIGITS else 10.0**-printed


def _common_step(apart: np.ndarray, tolerance: float) -> float:
  """The largest number that divides all differences; 0 where only rounding does."""
  common = 0.0
  for difference in np.unique(apart):
    a, b = float(difference), common
    while b > tolerance:
      a, b = b, abs(a - b * round(a / b))
    common = a
    if common <= 10 * tolerance:
      return 0.0
  return common


def _decimals(value: float) -> int:
  return max(0, -int(Decimal(repr(float(value))).normalize().as_tuple().exponent))


def _significant(value: float) -> int:
  return len(Decimal(repr(float(value))).normalize().as_tuple().digits)


@dataclasses.dataclass(frozen=True)
class Collapse:
  """Runs that lie apart from all others."""

  collapsed_R: np.ndarray  # bool[R]
  rate: Interval  # their share among new seeds, exact (Clopper & Pearson 1934)
  seen: bool  # False below five runs, where no collapse can be told from spread


def collapse(values_R: ArrayLike, h: float = 0.0, level: float = 0.95) -> Collapse:
  """Which of finite values, float[R], lie beyond a gap that the spread does not explain.

  The largest gap between neighbours counts if it exceeds f max(range of the larger side, h), with
  f = 5 for 5 to 9 runs and f = 3 from 10, and cuts off fewer than a third of the runs (two of five
  are no exception, and ordinary noise parts so in 3 of 100 tables). h is the step of the grid
  (`step`).
  """
  values_R = finite_values(values_R)
  n = len(values_R)
  collapsed_R = np.zeros(n, bool)
  if n >= SEEN_FROM:
    order = np.argsort(values_R, kind="stable")
    ordered = values_R[order]
    gaps = np.diff(ordered)
    cut = int(np.argmax(gaps)) + 1
    rest = ordered[cut:] if 2 * cut < n else ordered[:cut]
    factor = 5 if n < 10 else 3
    if 3 * min(cut, n - cut) < n and gaps[cut - 1] > factor * max(np.ptp(rest), h):
      if gaps[cut - 1] > ROUNDING * abs(values_R).max():
        collapsed_R[order[:cut] if 2 * cut < n else order[cut:]] = True
  return Collapse(collapsed_R, rate(int(collapsed_R.sum()), n, level), n >= SEEN_FROM)


def rate(count: int, n: int, level: float = 0.95) -> Interval:
  """A share `count` of n independent runs with the interval of Clopper & Pearson (1934).

  Exact: it covers at least `level` whatever the share. 0 of 10: 0 to 0.31.
  """
  if not 0 <= count <= n or n < 1:
    raise ValueError(f"count={count} must lie between 0 and n={n}, n at least 1")
  upper = upper_tail(level)
  low = float(scipy.stats.beta.ppf(1 - upper, count, n - count + 1)) if count else 0.0
  high = float(scipy.stats.beta.ppf(upper, count + 1, n - count)) if count < n else 1.0
  return Interval(count / n, low, high, level, "Clopper-Pearson")
