"""Is the mean of a method beyond a target, such as a loss below 3.28, at p < 0.01?

Higher is better throughout; of a loss, turn the signs of the values and the target.
"""

import dataclasses
import math

import scipy.optimize
import scipy.stats
from numpy.typing import ArrayLike

from seedlab.stats import resolution
from seedlab.stats.comparison import Spread
from seedlab.stats.single import finite_values

ALPHA = 0.01


@dataclasses.dataclass(frozen=True)
class TargetTest:
  """Of the hypothesis that the mean is not above the target; nan where nothing is known."""

  mean: float
  sd: float  # that the test rests on: with the resolution, pooled with a floor
  df: float  # inf: the spread is known
  p_value: float  # one-sided: how likely so high a mean if the true one is the target
  p_below: float  # the other side: of the hypothesis that the mean is not below the target
  bound: float  # the mean is above it with confidence 1 - ALPHA


def beyond(
  values_R: ArrayLike, target: float, floor: Spread | None = None, h: float = 0.0
) -> TargetTest:
  """One-sample t test (Student 1908) of mean > target, one-sided.

    t = (mean - target) sqrt(R) / s,   s^2 = (df sd^2 + (R - 1) s_R^2) / (df + R - 1) + h^2 / 12

  with df + R - 1 degrees of freedom; without a floor df = 0, and where the spread is known (df =
  inf) a normal test. One run without a floor has no spread to judge by: nan.

  Args:
    values_R: float[R], finite, one unit with the target.
    h: step of the grid of the values (`resolution.step`).
  """
  values_R = finite_values(values_R)
  n, floor = len(values_R), floor or Spread(0.0, 0)
  df = floor.df + n - 1
  own = resolution.variance(values_R) if n > 1 else 0.0
  if math.isinf(df):
    variance = floor.sd**2
  else:
    variance = (floor.df * floor.sd**2 + (n - 1) * own) / df if df else math.nan
  variance += h**2 / 12
  mean = float(values_R.mean())
  if not variance > 0:
    return TargetTest(mean, math.sqrt(variance), df, math.nan, math.nan, math.nan)
  spread = scipy.stats.norm() if math.isinf(df) else scipy.stats.t(df)
  error = math.sqrt(variance / n)
  t = (mean - target) / error
  bound = mean - float(spread.isf(ALPHA)) * error
  return TargetTest(
    mean, math.sqrt(variance), df, float(spread.sf(t)), float(spread.cdf(t)), float(bound)
  )


def gap(n: int, df: float = 0, power: float = 0.8) -> float:
  """Sds by which the mean must be beyond the target for the test to say so with this chance.

  By the noncentral t of n runs and a floor of df degrees of freedom; inf for one run without one.
  """
  total = df + n - 1
  if not total:
    return math.inf
  if math.isinf(total):
    normal = scipy.stats.norm
    return float(normal.isf(ALPHA) + normal.ppf(power)) / math.sqrt(n)
  critical = scipy.stats.t.isf(ALPHA, total)
  shift = scipy.optimize.brentq(
    lambda delta: scipy.stats.nct.sf(critical, total, delta) - power, 0, 20 * critical
  )
  return float(shift) / math.sqrt(n)


def fewest_runs(distance: float, df: float = 0, power: float = 0.8, most: int = 200) -> int | None:
  """Fewest runs that find a mean `distance` sds beyond the target with this chance, or None."""
  if not distance > gap(most, df, power):
    return None
  return next(n for n in range(1, most + 1) if gap(n, df, power) <= distance)
