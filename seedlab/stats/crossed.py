"""Crossed designs: every combination of the levels of several factors, one run each.

The array of values has one axis a factor (the seeds of one stream), values_L1xL2x...
Its runs share levels and are not independent: a summary as if they were is far too
sure. With levels drawn independently the value of a run decomposes uniquely into

  Y = mean + sum over the non-empty sets u of factors of an effect with variance σ²_u

(Hoeffding; Sobol 1993). With one run a cell the highest interaction is also what
nothing explains, the residual. Estimates are unbiased and may be negative; they are
shown as they come out. Intervals leave out levels: with fewer than 16 of each they
are rough, with fewer than 3 there are none.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike

from seedlab.stats.single import Interval, finite_values, upper_tail


@dataclasses.dataclass(frozen=True)
class Effect:
  """Shares of the variance over new runs; nan limits below 3 levels of a factor."""

  first: Interval  # this factor alone
  total: Interval  # this factor and all its interactions


def design(
  values_R: ArrayLike, seeds: Mapping[str, ArrayLike]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
  """The array of a crossed design from its runs, and the levels along each of its axes.

  Factors are the streams with more than one seed, in the order given; levels ascend.
  A combination of levels that has no run, or more than one, raises ValueError, and so
  does a design with fewer than two factors: neither is crossed.

  Args:
    values_R: finite, one a run.
    seeds: stream name -> int[R].
  """
  values_R = finite_values(values_R)
  levels, places = {}, []
  for stream, seeds_R in seeds.items():
    if np.shape(seeds_R) != values_R.shape:
      raise ValueError(f"{stream} needs a seed for each of {len(values_R)} runs")
    unique, place_R = np.unique(seeds_R, return_inverse=True)
    if len(unique) > 1:
      levels[stream] = unique
      places.append(place_R)
  if len(levels) < 2:
    raise ValueError(f"a crossed design varies at least two streams, not {list(levels)}")
  shape = [len(unique) for unique in levels.values()]
  if math.prod(shape) > 2 * len(values_R) + 1000:  # far from full: no array for it
    raise ValueError(
      f"not a full crossed design: {len(values_R)} runs for {math.prod(shape)} combinations"
    )
  counts = np.zeros(shape, int)
  np.add.at(counts, tuple(places), 1)
  if (counts != 1).any():
    cell = np.argwhere(counts != 1)[0]
    names = ", ".join(
      f"{stream}={levels[stream][i]}" for stream, i in zip(levels, cell, strict=True)
    )
    raise ValueError(
      f"not a full crossed design: {counts[tuple(cell)]} runs with {names} instead of 1"
      f" ({(counts != 1).sum()} of {counts.size} combinations are wrong)"
    )
  array = np.empty(counts.shape)
  array[tuple(places)] = values_R
  return array, levels


def halves(errors_LxE: ArrayLike, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
  """Mean errors on two random halves of the test set, from errors [L1, L2, ..., E].

  An odd example is left out. One run's chance errors on disjoint examples have nothing
  to do with each other, so that covariances between the halves see only what would show
  on new examples too: the distribution-wise variance (Jordan 2024, theorem 2, whose
  estimate is their average over all ways to halve).
  """
  errors_LxE = np.asarray(errors_LxE)
  half = errors_LxE.shape[-1] // 2
  if half < 1:
    raise ValueError("two halves need at least two test examples")
  order_E = rng.permutation(errors_LxE.shape[-1])
  first, second = errors_LxE[..., order_E[:half]], errors_LxE[..., order_E[half : 2 * half]]
  return first.mean(-1, dtype=np.float64), second.mean(-1, dtype=np.float64)


def mean(values: ArrayLike, level: float = 0.95) -> Interval:
  """Mean of a crossed design for new levels of every factor, with a jackknife-t interval.

    V = sum over u of (-1)^(|u|+1) MS_u / N,   at least the largest MS_f / N of one factor

  with N runs and mean squares MS_u; MS_f / N is the jackknife variance of the mean over
  the levels of factor f. Their plain sum (McCullagh 2000; the pigeonhole bootstrap of
  Owen 2007) counts an interaction once for each of its factors; the alternating sum
  counts it once and is unbiased. Student's t with Satterthwaite's degrees of freedom.
  Equal values have no interval (nan).
  """
  values = _full(values)
  squares = _mean_squares(values, values)
  variance = sum((-1) ** (len(u) + 1) * square for u, square in squares.items()) / values.size
  parts = np.array([squares[(f,)] for f in range(values.ndim)]) / values.size
  estimate = float(values.flat[0] + (values - values.flat[0]).mean())
  half = _half_width(max(variance, parts.max()), parts, values.shape, level)
  return Interval(estimate, estimate - half, estimate + half, level, "jackknife over levels")


def components(
  values: ArrayLike, factors: Sequence[str], other: ArrayLike | None = None, level: float = 0.95
) -> dict[tuple[str, ...], Interval]:
  """Variance components σ²_u for each non-empty set u of factors, in squared units.

    σ²_u = sum over v containing u of (-1)^(|v|-|u|) MS_v / (number of runs a level of u)

  the analysis of variance with random levels (Searle, Casella & McCulloch 1992),
  unbiased. With `other`, the same runs on the other half of the test set (`halves`),
  squares become products and the result the components of the covariance: those of
  the distribution-wise variance.

  Intervals: jackknife-t on the cube root of σ²_u + c_u, nearly normal where σ²_u itself is
  skewed (Wilson & Hilferty 1931), with c_u, held fixed, what makes the sum the mean square
  MS_u over the number of runs a level of u. For one factor the variances of the jackknives
  over the levels of each factor add; for an interaction each of its own factors' jackknives
  sees all of it, and their mean counts.
  """
  arrays = _arrays(values, other)
  _check_names(factors, arrays[0])
  subsets, estimates = list(_components(*arrays)), _component_values(*arrays)
  shape = arrays[0].shape
  squares = [_mean_squares(a, a) for a in arrays]
  whole = [
    sum(square[u] for square in squares) / 2 / math.prod(np.delete(shape, u)) for u in subsets
  ]
  shift = whole - estimates
  low = high = np.full(len(subsets), math.nan)
  if min(shape) >= 3 and np.ptp(arrays[0]) and np.ptp(arrays[1]):
    parts_FxK = _left_out(lambda *a: np.cbrt(_component_values(*a) + shift), arrays)
    halves = []
    for u, parts_F in zip(subsets, parts_FxK.T, strict=True):
      if len(u) == 1:
        halves.append(_half_width(parts_F.sum(), parts_F, shape, level))
      else:
        df = sum(shape[f] - 1 for f in u)
        error = math.sqrt(parts_F[list(u)].mean())
        halves.append(scipy.stats.t.ppf(upper_tail(level), df) * error)
    low, high = ((np.cbrt(whole) + sign * np.array(halves)) ** 3 - shift for sign in (-1, 1))
  return {
    tuple(factors[f] for f in u): Interval(*map(float, row), level, "jackknife over levels")
    for u, *row in zip(subsets, estimates, low, high, strict=True)
  }


def effects(
  values: ArrayLike, factors: Sequence[str], other: ArrayLike | None = None, level: float = 0.95
) -> dict[str, Effect]:
  """First-order and total (Sobol) effects of each factor, as shares of the variance.

    S_f = σ²_f / σ²,   T_f = sum over u with f of σ²_u / σ²,   σ² = sum of all σ²_u

  (Sobol 1993; Homma & Saltelli 1996.) Varying one stream with the others fixed
  estimates σ² T_f. Numerators and σ² are unbiased, their ratio nearly. Of one run a
  cell, the highest interaction contains what even all seeds do not explain. With
  `other` (`components`), shares of the distribution-wise variance.

  Intervals: the variances of the jackknives over the levels of each factor add, which
  counts interactions more than once and errs on the long side, with Student's t and
  Satterthwaite's degrees of freedom. Measured coverage is in docs/statistics.md.
  Values without variance, or with σ² <= 0 by `other`, have no shares (nan).
  """
  arrays = _arrays(values, other)
  _check_names(factors, arrays[0])
  estimates, (low, high) = _jackknife(_shares, arrays, level)
  first, total = (
    [Interval(*map(float, row), level, "jackknife over levels") for row in rows]
    for rows in np.stack([estimates, low, high], axis=-1).reshape(2, -1, 3)
  )
  return {name: Effect(first[f], total[f]) for f, name in enumerate(factors)}


def _shares(values: np.ndarray, other: np.ndarray) -> np.ndarray:
  """float[2F]: S of each factor, then T of each."""
  variances = _components(values, other)
  whole = sum(variances.values())
  if whole <= 0:
    return np.full(2 * values.ndim, math.nan)
  first = [variances[(f,)] for f in range(values.ndim)]
  total = [sum(s for u, s in variances.items() if f in u) for f in range(values.ndim)]
  return np.array(first + total) / whole


def _components(values: np.ndarray, other: np.ndarray) -> dict[tuple[int, ...], float]:
  squares = _mean_squares(values, other)
  return {
    u: sum((-1) ** (len(v) - len(u)) * squares[v] for v in squares if set(u) <= set(v))
    / math.prod(size for f, size in enumerate(values.shape) if f not in u)
    for u in squares
  }


def _component_values(values: np.ndarray, other: np.ndarray) -> np.ndarray:
  return np.array(list(_components(values, other).values()))


def _mean_squares(values: np.ndarray, other: np.ndarray) -> dict[tuple[int, ...], float]:
  """MS_u (mean products of two arrays) for each non-empty set u of axes, singles first."""
  axes = range(values.ndim)
  subsets = [u for size in range(values.ndim + 1) for u in itertools.combinations(axes, size)]
  # Less the first value: equal values give exactly 0. Less the mean: no cancellation.
  values, other = (x - x.mean() for x in (values - values.flat[0], other - other.flat[0]))
  sums = {}
  for u in subsets:
    rest = tuple(f for f in axes if f not in u)
    products = values.mean(rest, keepdims=True) * other.mean(rest, keepdims=True)
    sums[u] = float(products.sum()) * math.prod(values.shape[f] for f in rest)
  return {
    u: sum((-1) ** (len(u) - len(v)) * sums[v] for v in subsets if set(v) <= set(u))
    / math.prod(values.shape[f] - 1 for f in u)
    for u in subsets[1:]
  }


def _jackknife(
  statistic: Callable[..., np.ndarray], arrays: tuple[np.ndarray, ...], level: float
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
  """float[K] estimates and their limits, from leaving out each level of each factor."""
  estimates, shape = statistic(*arrays), arrays[0].shape
  if min(shape) < 3 or not np.isfinite(estimates).all():
    return estimates, (np.full(len(estimates), math.nan),) * 2
  parts_FxK = _left_out(statistic, arrays)
  halves_K = [_half_width(parts.sum(), parts, shape, level) for parts in parts_FxK.T]
  return estimates, (estimates - halves_K, estimates + halves_K)


def _left_out(statistic: Callable[..., np.ndarray], arrays: tuple[np.ndarray, ...]) -> np.ndarray:
  """float[F, K]: jackknife variances of K statistics over the levels of each factor."""
  parts_FxK = []
  for f, size in enumerate(arrays[0].shape):
    left_out = [statistic(*(np.delete(a, i, axis=f) for a in arrays)) for i in range(size)]
    parts_FxK.append((size - 1) ** 2 / size * np.var(left_out, axis=0, ddof=1))
  return np.array(parts_FxK)


def _half_width(
  variance: float, parts_F: np.ndarray, shape: tuple[int, ...], level: float
) -> float:
  """t times the standard error, with the degrees of freedom of the factors' parts; nan if 0."""
  upper = upper_tail(level)
  if not variance > 0:
    return math.nan
  df = variance**2 / (parts_F**2 / (np.array(shape) - 1)).sum()
  return float(scipy.stats.t.ppf(upper, df) * math.sqrt(variance))


def _arrays(values: ArrayLike, other: ArrayLike | None) -> tuple[np.ndarray, np.ndarray]:
  values = _full(values)
  other = values if other is None else _full(other)
  if other.shape != values.shape:
    raise ValueError(
      f"both halves must be of the same design, not {values.shape} and {other.shape}"
    )
  return values, other


def _full(values: ArrayLike) -> np.ndarray:
  """float64 array of at least two factors with at least two levels each, all finite."""
  values = np.asarray(values, np.float64)
  if values.ndim < 2 or min(values.shape) < 2:
    raise ValueError(
      f"a crossed design needs two factors or more with two levels or more, not {values.shape}"
    )
  if not np.isfinite(values).all():
    bad = np.argwhere(~np.isfinite(values))
    raise ValueError(
      f"{len(bad)} of {values.size} values are not finite, first at {tuple(map(int, bad[0]))}"
    )
  return values


def _check_names(factors: Sequence[str], values: np.ndarray) -> None:
  if len(set(factors)) != len(factors) or len(factors) != values.ndim:
    raise ValueError(f"factors={tuple(factors)} must name the {values.ndim} axes, each once")
