"""How many seeds: power and sample size before training, and what the seeds will cost.

Every number of runs is per sweep, for two sweeps of equal size; paired, it is the
number of shared seeds. The sd comes from a pilot, and what follows is as uncertain as it.
"""

import math
from collections.abc import Callable

import scipy.optimize
import scipy.stats

MOST_RUNS = 10**9


def power(
  runs: int, difference: float, sd: float, paired: bool = False, alpha: float = 0.05
) -> float:
  """Chance that the two-sided t test finds `difference` significant, by the noncentral t.

    P(|T| > t(1 - α/2, df)),  T ~ t(df, δ)     paired:  δ = |difference| sqrt(n) / sd, df = n - 1
                                               else:    δ = |difference| sqrt(n/2) / sd, df = 2n - 2

  Args:
    runs: n per sweep (paired: pairs), at least 2.
    difference: of the means, in the unit of the values.
    sd: paired, of the differences a_i - b_i; otherwise of each sweep, taken as equal.

  Exact for normal values (paired t; equal-variance t, to which Welch's is close).
  """
  _check(alpha, sd=sd)
  if runs < 2:
    raise ValueError(f"runs must be at least 2, not {runs}")
  df = runs - 1 if paired else 2 * runs - 2
  return t_power(abs(difference) / sd * math.sqrt(runs if paired else runs / 2), df, alpha)


def t_power(shift: float, df: float, alpha: float = 0.05) -> float:
  """P(|T| > t(1 - α/2, df)), T of the noncentral t with shift δ >= 0 and df, which may be infinite.

  That is the chance that a two-sided t test finds a difference of δ standard errors.
  """
  critical = float(scipy.stats.t.isf(alpha / 2, df))
  if math.isinf(df):
    return float(scipy.stats.norm.sf(critical - shift) + scipy.stats.norm.sf(critical + shift))
  if shift > 500:  # the noncentral t fails out there, and only the sd's own luck is left
    return float(scipy.stats.chi2.cdf(df * (shift / critical) ** 2, df))
  found = scipy.stats.nct.sf(critical, df, shift)
  wrong_sign = scipy.stats.nct.sf(critical, df, -shift) if shift < 8 else 0.0
  return float(found + wrong_sign)


def runs_for_difference(
  difference: float, sd: float, paired: bool = False, target: float = 0.8, alpha: float = 0.05
) -> int:
  """Fewest runs per sweep whose `power` is at least `target`; arguments as there.

  A difference of 0 is found by no number of runs: ValueError.
  """
  _check(alpha, target, sd=sd, difference=abs(difference))
  return _fewest(lambda n: power(n, difference, sd, paired, alpha) >= target)


def detectable_shift(df: float, alpha: float = 0.05, target: float = 0.8) -> float:
  """The true t, difference over its standard error, that a two-sided t test finds with `target`.

  By the noncentral t with df degrees of freedom, which may be infinite (normal).
  """
  _check(alpha, target)
  high = 1.0
  while t_power(high, df, alpha) < target:
    high *= 2
  return float(scipy.optimize.brentq(lambda shift: t_power(shift, df, alpha) - target, 0.0, high))


def hours(runs: int, seconds_per_run: float) -> float:
  """Hours that `runs` take at a sweep's own speed: wall-clock seconds per run, workers included."""
  if runs < 0 or not 0 <= seconds_per_run < math.inf:
    raise ValueError(f"runs and seconds must not be negative: {runs}, {seconds_per_run}")
  return runs * seconds_per_run / 3600


def _fewest(enough: Callable[[int], bool]) -> int:
  """Smallest n >= 2 for which a condition that stays true once it is true holds."""
  high = 2
  while not enough(high):
    high *= 2
    if high > MOST_RUNS:
      raise ValueError(f"more than {MOST_RUNS:,} runs would be needed")
  low = high // 2
  while high - low > 1 and high > 2:
    middle = (low + high) // 2
    low, high = (low, middle) if enough(middle) else (middle, high)
  return high


def _check(alpha: float, target: float = 0.5, **positive: float) -> None:
  if not 0 < alpha < 1 or not alpha < target < 1:
    raise ValueError(f"need 0 < alpha < target < 1, not alpha {alpha}, target {target}")
  for name, value in positive.items():
    if not 0 < value < math.inf:
      raise ValueError(f"{name} must be positive, not {value}")
