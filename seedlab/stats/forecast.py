"""What the next look at growing sweeps will say: the chance that it settles the verdict.

The effect and the spread are not known but have a posterior (flat priors, normal values), and the
test that will judge is run on what further runs could show, those that are there included. A
chance comes with the interval in which it lies for the middle 80 % of what the truth may be; where
that says nothing, neither does the forecast.
"""

import dataclasses
import math

import numpy as np
import scipy.stats

from seedlab.stats import comparison
from seedlab.stats.comparison import Spread, TwoSweeps

_PILOT = 5  # runs (pairs) below which nothing can be forecast
_TRUTHS = 120  # drawn effects and spreads
_FUTURES = 50  # drawn further runs, of each truth
_DOUBLINGS = 12  # looked ahead
_POWER = 0.8
_MIDDLE = (0.1, 0.9)  # of the truths
_VAGUE = 0.8  # a chance whose interval is longer says nothing
_APART = 16.0  # likewise a number of runs that may as well be this many times another


@dataclasses.dataclass(frozen=True)
class Forecast:
  """Of sweeps that grow by doubling; each part None where it says nothing."""

  next_runs: int  # runs (pairs) of the growing sweep at the next look
  probability: tuple[float, float, float] | None  # that this look settles it: mean, low, high
  enough: tuple[int, int, int] | None  # runs at which 4 times in 5 it is settled: middle, low, high


@dataclasses.dataclass(frozen=True)
class Arm:
  """Summary of runs: of one sweep, or of the differences of pairs."""

  n: int
  mean: float
  variance: float  # ddof = 1


def of_pairs(two: TwoSweeps) -> Arm:
  d = two.a_R - two.b_S
  return Arm(len(d), float(d.mean()), float(d.var(ddof=1)) if len(d) > 1 else math.nan)


def of_sweep(values_R: np.ndarray) -> Arm:
  spread = float(values_R.var(ddof=1)) if len(values_R) > 1 else math.nan
  return Arm(len(values_R), float(values_R.mean()), spread)


def forecast(
  grows: Arm,
  other: Arm | None,
  alphas: list[float],
  margin: float | None = None,
  step: float = 0.0,
  spread: Spread | None = None,
  seed: int = 0,
) -> Forecast | None:
  """The chance that grows.n * 2, * 4, ... runs settle whether the mean difference is 0.

  Args:
    grows: the sweep that gets more runs, or the differences of pairs.
    other: the sweep that stays as it is; None for pairs.
    alphas: two-sided error rate of the next look, of the one after it, ...
    margin: with one a look also settles that the two are equal within it.
    step, spread: as `comparison.mean_difference` takes them.

  None for fewer than five runs, without spread, or where the forecast would say nothing.
  """
  arms = [grows] if other is None else [grows, other]
  known = spread is not None and math.isinf(spread.df)
  if min(arm.n for arm in arms) < _PILOT and not known:
    return None
  if not known and not sum(arm.variance for arm in arms) > 0:
    return None
  rng = np.random.default_rng(seed)
  truths = [_truths(arm, step, spread, rng) for arm in arms]
  settled_KxT = np.zeros((min(_DOUBLINGS, len(alphas)), _TRUTHS))
  for k in range(len(settled_KxT)):
    n = grows.n << (k + 1)
    future = _future(grows, n, *truths[0], rng)
    means, variances, sizes = [future[0]], [future[1]], [n]
    if other is not None:
      means.append(np.full_like(future[0], other.mean))
      variances.append(np.full_like(future[0], other.variance))
      sizes.append(other.n)
    settled = _settles(means, variances, sizes, alphas[k], margin, step, spread)
    settled_KxT[k] = settled.mean(1)
  return _summary(grows.n, settled_KxT)


def _truths(arm: Arm, step: float, spread: Spread | None, rng) -> tuple[np.ndarray, np.ndarray]:
  """Drawn means and variances of new runs, [T, 1]."""
  shape = (_TRUTHS, 1)
  if spread and math.isinf(spread.df):
    variance = np.full(shape, spread.sd**2)
  else:
    own = max(arm.n - 1, 0)
    df = own + (spread.df if spread else 0)
    total = own * (arm.variance if own else 0.0) + (spread.df * spread.sd**2 if spread else 0)
    variance = (total / df + step**2 / 12) * df / rng.chisquare(df, shape)
  return arm.mean + np.sqrt(variance / arm.n) * rng.normal(size=shape), variance


def _future(arm: Arm, n: int, mean, variance, rng) -> tuple[np.ndarray, np.ndarray]:
  """Mean and variance of all n runs, those that are there and what the truth adds: [T, futures]."""
  new, shape = n - arm.n, (_TRUTHS, _FUTURES)
  added = mean + np.sqrt(variance / new) * rng.normal(size=shape)
  within = variance * rng.chisquare(max(new - 1, 1e-9), shape) if new > 1 else np.zeros(shape)
  squares = (arm.n - 1) * (arm.variance if arm.n > 1 else 0.0) + within
  squares = squares + arm.n * new / n * (added - arm.mean) ** 2
  return (arm.n * arm.mean + new * added) / n, squares / (n - 1)


def _settles(means, variances, sizes, alpha, margin, step, spread: Spread | None) -> np.ndarray:
  """Whether the test that will judge settles it, for arrays of what it may see."""
  difference = means[0] - (means[1] if len(means) > 1 else 0.0)
  if spread:
    df = spread.df + sum(n - 1 for n in sizes) if math.isfinite(spread.df) else math.inf
    learnt = spread.sd**2
    if math.isfinite(spread.df):
      own = sum((n - 1) * v for n, v in zip(sizes, variances, strict=True))
      learnt = (spread.df * spread.sd**2 + own) / df + step**2 / 12
    parts = [learnt / n for n in sizes]
  else:
    parts = [(v + step**2 / 12) / n for v, n in zip(variances, sizes, strict=True)]
    df = sum(parts) ** 2 / sum(p**2 / (n - 1) for p, n in zip(parts, sizes, strict=True))
    if len(parts) == 1:
      df = sizes[0] - 1  # the same in every draw, and a quantile of one number is quick
  error = np.sqrt(sum(parts))

  def critical(tail: float):
    if spread or not comparison.lopsided(*sizes):
      return scipy.stats.t.isf(tail, df)
    each = [p * scipy.stats.t.isf(tail, n - 1) for p, n in zip(parts, sizes, strict=True)]
    return sum(each) / sum(parts)

  settled = abs(difference) > critical(alpha / 2) * error
  if margin:
    settled |= abs(difference) + critical(alpha) * error < margin
  return settled


def _summary(n: int, settled_KxT: np.ndarray) -> Forecast | None:
  low, high = np.quantile(settled_KxT[0], _MIDDLE)
  probability = (float(settled_KxT[0].mean()), float(low), float(high))
  runs_K = [n << (k + 1) for k in range(len(settled_KxT))]
  # Once settled the verdict stands, so a chance never falls.
  rising_KxT = np.maximum.accumulate(settled_KxT, 0)
  never = len(runs_K)
  first_T = np.where((rising_KxT >= _POWER).any(0), (rising_KxT >= _POWER).argmax(0), never)
  least, middle, most = (int(np.quantile(first_T, q, method="higher")) for q in (0.1, 0.5, 0.9))
  enough = None
  if most < never and runs_K[most] <= _APART * runs_K[least]:
    enough = (runs_K[middle], runs_K[least], runs_K[most])
  told = probability if high - low <= _VAGUE else None
  return Forecast(runs_K[0], told, enough) if told or enough else None
