"""Many proposals against one baseline: which to keep, so that hardly any is kept by luck.

"Keep it if it looks better" keeps 4 of 100 proposals that do nothing. Here a session declares
beforehand how many proposals N it may make, and each is judged at its own small level:

  screen   three seeds; dropped unless their mean leads by more than half a baseline sd
  judge    once, with 4 to 12 seeds (those three among them); kept if the exact rank test has
           p <= level and Welch's t test p <= 5 level; if the spread is known, or learnt from
           other runs (a floor), if the one test with that spread has p <= level

Nothing is kept by the screen, so the levels bound the chance of any false keep by their sum,
whatever the proposals have in common (the baseline) and however later ones depend on earlier ones.
The null hypothesis is "the same distribution", and the rank test alone holds the level. Welch's is
a guard against proposals that are only more spread, which a rank test takes for better ones too
often; at the level itself it would cost more power than it is worth (docs/statistics.md).

Higher is better throughout; of a loss, turn the signs. A run that diverged or is missing is -inf,
the worst rank.
"""

import dataclasses
import functools
import math
from typing import Literal

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike

from seedlab.stats import resolution
from seedlab.stats.comparison import Spread, snapped

Mode = Literal["strict", "fdr"]
ALPHA = 0.05  # strict: chance of any false keep; fdr: share of false keeps among the keeps
SCREEN = 3  # seeds of the first stage
MOST = 12  # seeds of a proposal
LEAD = 0.5  # baseline sds that the screen asks for
GUARD = 5  # Welch's p may be this many times the level
LARGEST_BASELINE = 2000  # runs for which the exact rank test takes a second
_FIRST, _NEXT = 0.8, 0.2  # share of ALPHA for the first N proposals; of each later N, of the rest
_ROUNDING = 1e-12  # of the largest value: values nearer to each other are equal
_DRAWS = 4000  # simulated proposals behind a power: two standard errors are at most 1.6 points
_SEARCHED = 100  # largest baseline that `fewest_baseline` tries


def level(j: int, proposals: int, mode: Mode = "strict", keeps: int = 0) -> float:
  """The level of proposal j = 1, 2, ... in a session that declared N = `proposals`.

    strict   0.05 * 0.8 * 0.2^b / N for block b = 0, 1, ... of N proposals; all sum to 0.05
    fdr      (0.05 / N) (keeps + 1) for j <= N, then 0: Javanmard & Montanari's LOND (2018),
             with the weight of every proposal 1 / N

  Args:
    keeps: proposals kept before this one was first looked at.
  """
  if j < 1 or proposals < 1:
    raise ValueError(f"j={j} and proposals={proposals} must be at least 1")
  block = (j - 1) // proposals
  if mode == "fdr":
    return ALPHA / proposals * (keeps + 1) if block == 0 else 0.0
  return ALPHA * _FIRST * _NEXT**block / proposals


def rank_test(candidate_R: ArrayLike, baseline_S: ArrayLike) -> float:
  """P(rank sum of the candidate at least the one seen), given the values seen and their ties.

  The one-sided test of Wilcoxon (1945) and Mann & Whitney (1947), conditional on ties: the rank
  sum over all C(R + S, R) ways to call R of the R + S runs the candidate's, each as likely, by
  dynamic programming over doubled mid-ranks. Exact if both have the same distribution, coarse
  grids and infinite values (-inf: lost; inf: won) included. Values that differ by rounding alone
  (`comparison.snapped`) are ties. O((R + S)^2 min(R, S)^2) steps.
  """
  candidate_R, baseline_S = np.asarray(candidate_R, float), np.asarray(baseline_S, float)
  n, m = len(candidate_R), len(baseline_S)
  pooled = np.concatenate(snapped(candidate_R, baseline_S))
  if not n or not m or np.isnan(pooled).any():
    raise ValueError(f"need values of both, none of them nan; got {n} and {m}")
  doubled = np.rint(2 * scipy.stats.rankdata(pooled)).astype(np.int64)
  # The smaller group is counted: high ranks of the one are low ranks of the other.
  if n <= m:
    chosen, short_N = slice(0, n), doubled.max() - doubled
  else:
    chosen, short_N = slice(n, None), doubled - doubled.min()
  seen = int(short_N[chosen].sum())
  return min(1.0, float(_subsets(short_N, min(n, m), seen).sum()) / math.comb(n + m, n))


def _subsets(weight_N: np.ndarray, size: int, most: int) -> np.ndarray:
  """Entry s: how many subsets of `size` of the N weights (whole, >= 0) sum to s = 0 ... most."""
  counts = np.zeros((size + 1, most + 1))
  counts[0, 0] = 1
  for weight in weight_N.tolist():
    if weight <= most:
      counts[1:, weight:] += counts[:-1, : most + 1 - weight]
  return counts[size]


@functools.lru_cache
def rank_tails(n: int, m: int) -> np.ndarray:
  """Entry u: P(at least u of the n m pairs are won by the candidate) under the null, without ties.

  What `rank_test` gives for a rank sum of n (n + 1) / 2 + u.
  """
  size = min(n, m)
  # Won pairs are the surplus of the rank sum over its least value 1 + 2 + ... + size.
  sums = _subsets(np.arange(n + m), size, n * m + size * (size - 1) // 2)
  ways = sums[size * (size - 1) // 2 :]
  return np.minimum(ways[::-1].cumsum()[::-1] / math.comb(n + m, n), 1.0)


def welch_test(candidate_R: ArrayLike, baseline_S: ArrayLike, h: float = 0.0) -> np.ndarray:
  """One-sided p of Welch's t test (1947) that the candidate's mean is higher.

  Variances are s^2 + h^2 / 12 with h the step of the grid of the values (`resolution.step`).
  1 where nothing varies: without spread a lead cannot be judged. Over the last axis.
  """
  candidate_R, baseline_S = np.asarray(candidate_R, float), np.asarray(baseline_S, float)
  n, m = candidate_R.shape[-1], baseline_S.shape[-1]
  parts = [_variances(candidate_R, h) / n, _variances(baseline_S, h) / m]
  square = parts[0] + parts[1]
  with np.errstate(divide="ignore", invalid="ignore"):
    t = (candidate_R.mean(-1) - baseline_S.mean(-1)) / np.sqrt(square)
    df = square**2 / (parts[0] ** 2 / (n - 1) + parts[1] ** 2 / (m - 1))
  return np.where(square > 0, scipy.stats.t.sf(t, np.where(square > 0, df, 1)), 1.0)


def floor_test(
  candidate_R: ArrayLike, baseline_S: ArrayLike, floor: Spread, h: float = 0.0
) -> np.ndarray:
  """One-sided p of the t test with one variance for all, pooled by degrees of freedom.

    s^2 = (df sd^2 + (R - 1) s_R^2 + (S - 1) s_S^2) / (df + R + S - 2) + h^2 / 12

  with df + R + S - 2 degrees of freedom; a normal test where df is inf (the spread is known).
  It rests on candidate, baseline and floor having one spread. Over the last axis.
  """
  candidate_R, baseline_S = np.asarray(candidate_R, float), np.asarray(baseline_S, float)
  n, m = candidate_R.shape[-1], baseline_S.shape[-1]
  df = floor.df + n + m - 2
  variance = _pooled([candidate_R, baseline_S], floor) + h**2 / 12
  with np.errstate(divide="ignore", invalid="ignore"):
    t = (candidate_R.mean(-1) - baseline_S.mean(-1)) / np.sqrt(variance * (1 / n + 1 / m))
  tail = scipy.stats.norm.sf(t) if math.isinf(df) else scipy.stats.t.sf(t, df)
  return np.where(variance > 0, tail, 1.0)


def _variances(values: np.ndarray, h: float) -> np.ndarray:
  """s^2 + h^2 / 12 over the last axis; values equal up to rounding have no spread of their own."""
  return _squares(values) / (values.shape[-1] - 1) + h**2 / 12


def _squares(values: np.ndarray) -> np.ndarray:
  """Sums of squares about the mean over the last axis."""
  spread = np.ptp(values, axis=-1) > _ROUNDING * abs(values).max(-1)
  return np.where(spread, ((values - values.mean(-1, keepdims=True)) ** 2).sum(-1), 0.0)


def _pooled(groups: list[np.ndarray], floor: Spread) -> np.ndarray:
  if math.isinf(floor.df):
    return np.asarray(floor.sd, float) ** 2
  below = sum(group.shape[-1] - 1 for group in groups)
  squares = sum(_squares(group) for group in groups)
  return (floor.df * np.asarray(floor.sd) ** 2 + squares) / (floor.df + below)


def passes(candidate_R: ArrayLike, baseline_S: ArrayLike, floor: Spread | None, h: float = 0.0):
  """The screen: whether the mean of the seeds leads by more than half a baseline sd.

  The sd is that of the baseline, pooled with what is known beforehand. Over the last axis.
  """
  candidate_R, baseline_S = np.asarray(candidate_R, float), np.asarray(baseline_S, float)
  if floor:
    variance = _pooled([baseline_S], floor) + h**2 / 12
  else:
    variance = _variances(baseline_S, h)
  return candidate_R.mean(-1) - baseline_S.mean(-1) > LEAD * np.sqrt(variance)


@dataclasses.dataclass(frozen=True)
class Evidence:
  """The p-values that the judgement of a proposal rests on."""

  rank: float | None  # of the exact rank test; None where the spread is known or learnt
  mean: float  # of Welch's test, or of that with the known or learnt spread

  def kept(self, level: float) -> bool:
    if self.rank is None:
      return self.mean <= level
    return self.rank <= level and self.mean <= GUARD * level


def evidence(
  candidate_R: ArrayLike, baseline_S: ArrayLike, floor: Spread | None = None, h: float = 0.0
) -> Evidence:
  """Of a proposal whose lost seeds, and a baseline whose diverged runs, are -inf.

  They have the worst rank, which carries the level; Welch's guard looks at the others. Where the
  mean carries it, one lost seed of the proposal leaves nothing to judge by (p = 1). The mean of
  the baseline is that of its other runs, which only makes it harder to beat.
  """
  candidate_R, baseline_S = np.asarray(candidate_R, float), np.asarray(baseline_S, float)
  sound_R, sound_S = (values[np.isfinite(values)] for values in (candidate_R, baseline_S))
  if floor:
    whole = len(sound_R) == len(candidate_R)
    return Evidence(None, float(floor_test(sound_R, sound_S, floor, h)) if whole else 1.0)
  enough = len(sound_R) > 1 and len(sound_S) > 1
  guard = float(welch_test(sound_R, sound_S, h)) if enough else 1.0
  return Evidence(rank_test(candidate_R, baseline_S), guard)


def grid(candidate_R: ArrayLike, baseline_S: ArrayLike) -> float:
  """The step of the grid that both lie on (`resolution.step`), lost seeds aside; 0 for none."""
  values = np.concatenate([np.asarray(candidate_R, float), np.asarray(baseline_S, float)])
  values = values[np.isfinite(values)]
  return resolution.step(values) if len(values) else 0.0


def smallest_p(n: int, m: int) -> float:
  """The least p that the rank test can have: the candidate wins every pair."""
  return 1 / math.comb(n + m, n)


@functools.lru_cache
def power(
  baseline: int, gain: float, level: float, df: float | None = None, seeds: int = MOST
) -> float:
  """Chance that a proposal is kept whose mean lies `gain` sds above the baseline's.

  Simulated (4,000 proposals, normal values, one spread, fixed seed), the screen included.

  Args:
    baseline: its number of runs.
    seeds: of the proposal, at least 4.
    df: None for the rank test with Welch's; else the degrees of freedom of a floor
      (0: a pooled t test, inf: the spread is known).
  """
  rng = np.random.default_rng(0)
  candidate_R = rng.normal(gain, 1, (_DRAWS, seeds))
  baseline_S = rng.normal(size=(_DRAWS, baseline))
  floor = None
  if df is not None:
    sds = np.sqrt(rng.chisquare(df, _DRAWS) / df) if 0 < df < math.inf else np.ones(_DRAWS)
    floor = Spread(sds, df)  # type: ignore[arg-type]
  kept = passes(candidate_R[:, :SCREEN], baseline_S, floor)
  if floor:
    kept &= floor_test(candidate_R, baseline_S, floor) <= level
  else:
    won = sum((candidate_R[:, i : i + 1] > baseline_S).sum(1) for i in range(seeds))
    kept &= rank_tails(seeds, baseline)[won] <= level
    kept[kept] = welch_test(candidate_R[kept], baseline_S[kept]) <= GUARD * level
  return float(kept.mean())


@functools.lru_cache
def fewest_baseline(
  gain: float, level: float, df: float | None = None, seeds: int = MOST, target: float = 0.8
) -> int | None:
  """Fewest baseline runs, to about one, with `power` at least `target`; None if 100 have less."""
  low, high = 1, _SEARCHED
  if power(high, gain, level, df, seeds) < target:
    return None
  while high - low > 1:
    middle = (low + high) // 2
    low, high = (low, middle) if power(middle, gain, level, df, seeds) >= target else (middle, high)
  return high
