"""Intervals that stay valid when one looks again after more runs, and the stopping rule on them.

A fixed-n interval covers with 95 % at one n chosen beforehand. Who adds seeds
until it suits uses up several chances to be wrong. A confidence sequence is one
interval for each n that holds at all of them at once,

    P(for some n >= burn-in: the mean lies outside interval n) <= 1 - level,

so that looking as often as one likes, and stopping because of what is seen,
costs nothing but width.
"""

import dataclasses
import math
import re
from typing import NamedTuple

import numpy as np
import scipy.optimize
import scipy.special
import scipy.stats
from numpy.typing import ArrayLike

from seedlab.errors import UserError
from seedlab.stats.single import Interval, finite_values, upper_tail

BURN_IN = 30  # runs before the first look
EVERY = 10  # runs between looks
TARGET = 100  # runs at which the asymptotic interval is narrowest for its confidence


class Intervals(NamedTuple):
  """Interval number n - 1 speaks after n values; (-inf, inf) where nothing can be said yet."""

  low_R: np.ndarray
  high_R: np.ndarray


def asymptotic_sequence(
  values_R: ArrayLike, level: float = 0.95, burn_in: int = BURN_IN, target: int = TARGET
) -> Intervals:
  """Anytime-valid interval of the mean after each run, of any values with a variance.

    mean_n ± sd_n sqrt( 2 (n ρ² + 1) / (n² ρ²)  log( sqrt(n ρ² + 1) / α ) ),   α = 1 - level

  the asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy &
  Ramdas, "Time-uniform central limit theory and asymptotic confidence
  sequences" (Annals of Statistics 2024, arXiv 2103.06476), theorem 2.2: Robbins'
  normal mixture with the variance estimated (ddof = 1). It is narrowest at
  n = target with ρ² = (y - 1) / target, where y > 1 solves y - log y = 1 - log α²;
  from a third of the target to ten times it at most 7 % wider than the best
  choice for that n, at a hundred times 18 %. Choose the target before looking.
  The default is near burn-in log(burn-in), the choice of their theorem 2.5.

  Ours: the margin, a multiple of the standard error, is raised to the quantile of
  t(n-1) with the tail it has under a normal. That pays for the estimated sd, as
  Student's t does at fixed n (11 % at n = 30, 2 % at 143, nothing in the limit).

  For independent runs of one distribution. Like the t interval of values that
  are not normal it is valid in the limit, here of a late first look: before
  `burn_in` runs nothing is said. Strong skewness shows: of gamma(2) values (1.4)
  some 6 % miss with a look after each run, 4.5 % with one every ten. Values
  that are all equal so far give no scale to speak on, and (-inf, inf) too. A
  value that is not finite raises ValueError.

  Args:
    values_R: in the order of the run numbers, float[R], any unit.
  """
  if burn_in < 2 or target < 1:
    raise ValueError(f"burn_in={burn_in} must be at least 2 and target={target} at least 1")
  values_R = finite_values(values_R)
  runs_R = np.arange(1, len(values_R) + 1)
  means_R, sds_R = _running_mean_and_sd(values_R)
  errors_R = sds_R / np.sqrt(runs_R)
  margins_R = mixture_margin(runs_R, 2 * (1 - upper_tail(level)), target) * np.sqrt(runs_R)
  tails_R = scipy.stats.norm.sf(margins_R)
  halves_R = errors_R * scipy.stats.t.isf(tails_R, np.maximum(runs_R - 1, 1))
  halves_R[(runs_R < burn_in) | (sds_R == 0)] = math.inf
  return Intervals(means_R - halves_R, means_R + halves_R)


def mixture_margin(runs_R: ArrayLike, alpha: float, target: int) -> np.ndarray:
  """Half width of the normal mixture's interval for values of variance 1, float[R]."""
  runs_R = np.asarray(runs_R, np.float64)
  best = -scipy.special.lambertw(-(alpha**2) / math.e, -1).real
  rho2 = (best - 1) / target
  inside_R = np.log(runs_R * rho2 + 1) - 2 * math.log(alpha)
  return np.sqrt((runs_R * rho2 + 1) / (runs_R**2 * rho2) * inside_R)


def betting_sequence(
  values_R: ArrayLike, level: float = 0.95, every: int = EVERY, truncation: float = 0.5
) -> Intervals:
  """Anytime-valid interval of the mean of values in [0, 1], for any n and any distribution.

  The hedged capital of Waudby-Smith & Ramdas, "Estimating means of bounded
  random variables by betting" (JRSS B 2024, arXiv 2010.09686), theorem 3: one
  gambler bets that the mean lies above m, one that it lies below,

    K⁺_n(m) = prod_i (1 + min(λ_i, c/m) (x_i - m))
    K⁻_n(m) = prod_i (1 - min(λ_i, c/(1-m)) (x_i - m))
    λ_i = sqrt( 2 log(2/α) / (σ²_{i-1} i log(i + 1)) )

  with c the truncation and σ²_i = (1/4 + sum_{j<=i} (x_j - μ_j)²) / (i + 1),
  μ_i = (1/2 + sum_{j<=i} x_j) / (i + 1). An m that makes either of them reach 2/α is
  excluded for good (the intervals of earlier looks are intersected). Both are
  monotone in m, so the limits are roots.

  Exact for values that, given those before, have one mean; far wider than the
  asymptotic sequence where the spread is small beside [0, 1]. Limits that cross
  say that no one mean fits (probability at most α); they become nan.

  Args:
    values_R: fractions in the order of the run numbers, float[R]; ValueError outside [0, 1].
    every: runs between looks; in between the last interval stands.
  """
  if not 0 < truncation < 1 or every < 1:
    raise ValueError(f"truncation={truncation} must lie in (0, 1) and every={every} be at least 1")
  values_R = finite_values(values_R)
  if values_R.min() < 0 or values_R.max() > 1:
    raise ValueError(f"values must lie in [0, 1], not [{values_R.min()}, {values_R.max()}]")
  alpha = 2 * (1 - upper_tail(level))
  bets_R = _bets(values_R, alpha)
  low_R = _lower_limits(values_R, bets_R, alpha, every, truncation)
  high_R = 1 - _lower_limits(1 - values_R, bets_R, alpha, every, truncation)
  crossed_R = low_R > high_R
  return Intervals(np.where(crossed_R, np.nan, low_R), np.where(crossed_R, np.nan, high_R))


def anytime_t(
  estimate: float, error: float, df: float, information: float, level: float = 0.95
) -> Interval:
  """Interval of a mean, or difference of means, that holds however often one looks, from few runs.

  The t test's mixture: with t = estimate / error, nu = df and r = `information` (below),

    log B = -log(1 + r) / 2 + (nu + 1) / 2 [ log1p(t² / nu) - log1p(t² / (nu (1 + r))) ]

  is the likelihood ratio of an effect that is drawn, in sds, from N(0, r / n) against none, the sd
  unknown (Rouder et al. 2009; its behaviour under looking again: Hendriksen, de Heide &
  Grünwald 2021). Among normal values it exceeds 1 / alpha at any look with probability at most
  alpha. The interval holds the values whose B stays below 1 / alpha; it is infinite where so
  few runs exclude nothing.

  Args:
    estimate, error, df: as a t test takes them; df may be infinite for a known sd.
    information: r. Of n values of one sweep, or pairs, 5 n; of two independent sweeps
      10 n m / (n + m) (asymptotic: Satterthwaite's df stand in for nu).
  """
  half = error * math.sqrt(_largest_square(df, information, 2 * (1 - upper_tail(level))))
  return Interval(estimate, estimate - half, estimate + half, level, "anytime t")


def anytime_p(t: float, df: float, information: float) -> float:
  """Smallest alpha at which the interval of `anytime_t` leaves out 0: min(1, 1 / B)."""
  r = information
  if math.isinf(df):
    log_b = -math.log1p(r) / 2 + t**2 / 2 * r / (1 + r)
  else:
    grown = math.log1p(t**2 / df) - math.log1p(t**2 / (df * (1 + r)))
    log_b = -math.log1p(r) / 2 + (df + 1) / 2 * grown
  return math.exp(min(-log_b, 0.0))


def _largest_square(df: float, r: float, alpha: float) -> float:
  """t² at which B reaches 1 / alpha."""
  needed = math.log1p(r) - 2 * math.log(alpha)
  if math.isinf(df):
    return needed * (1 + r) / r
  exponent = needed / (df + 1)
  if exponent >= math.log1p(r):
    return math.inf
  return df * math.expm1(exponent) / -math.expm1(exponent - math.log1p(r))


@dataclasses.dataclass(frozen=True)
class StopRule:
  """Stop at the first look at which the anytime-valid interval of `metric` is below `width`."""

  metric: str
  width: float  # high - low, in the unit of the metric


def parse_rule(text: str) -> StopRule:
  """The rule written "ci_width(METRIC)<WIDTH"; UserError for anything else."""
  match = re.fullmatch(r"\s*ci_width\(\s*(\w+)\s*\)\s*<\s*([^\s<=]+)\s*", str(text))
  remedy = 'write "ci_width(METRIC)<WIDTH", such as "ci_width(test_accuracy)<0.001"'
  if not match:
    raise UserError(f"stop={text!r} is not a rule; {remedy}")
  try:
    width = float(match[2])
  except ValueError:
    raise UserError(f"stop={text!r}: {match[2]!r} is not a number; {remedy}") from None
  if not 0 < width < math.inf:
    raise UserError(f"stop={text!r}: the width must be positive and finite; {remedy}")
  return StopRule(match[1], width)


def stopping_run(
  values_R: ArrayLike,
  rule: StopRule,
  complete_R: ArrayLike | None = None,
  burn_in: int = BURN_IN,
  every: int = EVERY,
  level: float = 0.95,
) -> int | None:
  """How many runs the sweep needs by its rule; None while the rule is not met.

  Looks after burn_in, burn_in + every, ... runs, and only at runs before the
  first one that is missing. What look n decides depends on the first n values
  alone: neither the order in which runs finish nor a kill moves the answer.

  Args:
    values_R: the metric of the rule in the order of the run numbers.
    complete_R: bool[R], which of them are there; None: all.

  Raises: ValueError if a value before the stop is not finite; later ones are not looked at.
  """
  if every < 1:
    raise ValueError(f"every={every} must be at least 1")
  values_R = np.asarray(values_R, np.float64)
  usable_R = np.isfinite(values_R)
  if complete_R is not None:
    usable_R &= np.asarray(complete_R, bool)
  usable = len(values_R) if usable_R.all() else int(np.argmin(usable_R))
  if usable >= burn_in:
    low_R, high_R = asymptotic_sequence(values_R[:usable], level, burn_in)
    looks = np.arange(burn_in, usable + 1, every)
    met = np.flatnonzero((high_R - low_R)[looks - 1] < rule.width)
    if len(met):
      return int(looks[met[0]])
  if usable < len(values_R) and (complete_R is None or np.asarray(complete_R)[usable]):
    raise ValueError(f"value {usable} of {rule.metric} is not finite ({values_R[usable]})")
  return None


def _running_mean_and_sd(values_R: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Of the first 1, 2, ... values; the sd with ddof = 1, nan for one value."""
  # By Welford's increments: exactly 0 for equal values, no cancellation for close ones.
  runs_R = np.arange(1, len(values_R) + 1)
  shifted_R = values_R - values_R[0]
  means_R = np.cumsum(shifted_R) / runs_R
  before_R = np.concatenate([[0.0], means_R[:-1]])
  squares_R = np.cumsum((shifted_R - before_R) * (shifted_R - means_R))
  with np.errstate(invalid="ignore"):
    return values_R[0] + means_R, np.sqrt(squares_R / (runs_R - 1))


def _bets(values_R: np.ndarray, alpha: float) -> np.ndarray:
  """λ_i of `betting_sequence`: from the values before i alone."""
  runs_R = np.arange(1, len(values_R) + 1)
  means_R = (0.5 + np.cumsum(values_R)) / (runs_R + 1)
  variances_R = (0.25 + np.cumsum((values_R - means_R) ** 2)) / (runs_R + 1)
  variances_before_R = np.concatenate([[0.25], variances_R[:-1]])
  return np.sqrt(2 * math.log(2 / alpha) / (variances_before_R * runs_R * np.log(runs_R + 1)))


def _lower_limits(
  values_R: np.ndarray, bets_R: np.ndarray, alpha: float, every: int, truncation: float
) -> np.ndarray:
  """Running maximum over the looks of the m at which log K⁺(m) falls to log(2/α)."""

  def excess(m: float, n: int) -> float:
    stakes_n = np.minimum(bets_R[:n], truncation / m if m else math.inf)
    return np.log1p(stakes_n * (values_R[:n] - m)).sum() - math.log(2 / alpha)

  limits_R, limit = np.zeros(len(values_R)), 0.0
  for n in range(every, len(values_R) + 1, every):
    if excess(limit, n) > 0:
      limit = scipy.optimize.brentq(excess, limit, 1.0, args=(n,), xtol=1e-12)
    limits_R[n - 1 : n - 1 + every] = limit
  return limits_R
