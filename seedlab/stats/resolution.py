"""What values on a grid, and runs that collapsed, leave to be said.

Accuracies on E examples lie on the grid 1/E, and printed numbers on that of their last digit.
Where the spread is small beside the step of the grid, the sd of a few values is often 0 and a t
interval far too short. A run that collapsed is far away from all the others: a share of 1 % of
them spoils every interval of a mean, and can only be seen if one is among the runs.
"""

import dataclasses
import math
from decimal import Decimal

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike

from seedlab.stats.single import Interval, finite_values, upper_tail

_ROUNDING = 1e-12  # of the largest value: values nearer to each other are equal
_NOISE = 1e-6  # of the range: a common step below it is not a grid but rounding
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
  apart = apart[apart > _ROUNDING * scale]
  if len(apart) + 1 >= _DISTINCT:
    return _common_step(apart, max(_NOISE * float(np.ptp(distinct)), _ROUNDING * scale))
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


def variance(values_R: ArrayLike, h: float = 0.0) -> float:
  """s² + h² / 12 (ddof = 1): the variance with that of rounding to a grid of step h added.

  Rounding hides spread where it is small beside h; the added term is the variance of a uniform
  error over one step (Sheppard 1898, with the sign that keeps intervals honest). nan for one
  value; 0 where values on no grid are equal up to rounding.
  """
  values_R = finite_values(values_R)
  if len(values_R) < 2:
    return math.nan
  spread = np.ptp(values_R) > _ROUNDING * abs(values_R).max()
  return (float(values_R.var(ddof=1)) if spread else 0.0) + h**2 / 12


@dataclasses.dataclass(frozen=True)
class Collapse:
  """Runs that lie apart from all others."""

  collapsed_R: np.ndarray  # bool[R]
  rate: Interval  # their share among new seeds, exact (Clopper & Pearson 1934)
  seen: bool  # False below five runs, where no collapse can be told from spread


def collapse(values_R: ArrayLike, h: float = 0.0, level: float = 0.95) -> Collapse:
  """Which of finite values, float[R], lie beyond a gap that the spread does not explain.

  The largest gap between neighbours counts if it exceeds f max(range of the larger side, h), with
  f = 5 for 5 to 9 runs and f = 3 from 10; the smaller side (below half of the runs) collapsed.
  h is the step of the grid (`step`).
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
    if 2 * min(cut, n - cut) < n and gaps[cut - 1] > factor * max(np.ptp(rest), h):
      if gaps[cut - 1] > _ROUNDING * abs(values_R).max():
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
