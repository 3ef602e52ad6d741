"""Many sweeps: their ranks. Several tasks: aggregates, improvement, profiles over all of them."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike

from seedlab.stats import resolution
from seedlab.stats.comparison import ROUNDING, snapped
from seedlab.stats.single import Interval, finite_values, upper_tail


@dataclasses.dataclass(frozen=True)
class Ranks:
  """Of S sweeps: rank 1 has the highest mean. The sets low..high hold jointly at `level`."""

  mean_S: np.ndarray
  rank_S: np.ndarray  # 1 + number of sweeps with a higher mean
  low_S: np.ndarray  # 1 + number of sweeps shown to be better
  high_S: np.ndarray  # S - number of sweeps shown to be worse
  level: float


def ranks(
  values: Sequence[ArrayLike],
  rng: np.random.Generator,
  paired: bool = False,
  level: float = 0.95,
  draws: int = 2000,
) -> Ranks:
  """Ranks of S sweeps by their mean, with simultaneous bootstrap intervals of the ranks.

  All S (S-1)/2 differences of means are studentised, |m_j - m_k| / se_jk; the bootstrap
  gives the quantile c of the largest |(m*_j - m*_k) - (m_j - m_k)| / se*_jk; a pair is
  settled where |m_j - m_k| > c se_jk, and a sweep's rank lies between 1 + those shown
  better and S - those shown worse (Mogstad, Romano, Shaikh & Wilhelm, Review of Economic
  Studies 2024). Percentiles of resampled ranks are not used: for sweeps that are equal they
  claim an order too often.

  Args:
    values: for each sweep its values, float[R_s] of at least two runs; higher is better.
    paired: values[s][i] are the same run number in every sweep, and are resampled
      together; equal lengths then.

  Pairs without any spread are not settled. Few runs: resamples without spread make c
  infinite, and every set 1..S.
  """
  samples = [finite_values(v) for v in values]
  lengths = [len(v) for v in samples]
  if len(samples) < 2 or min(lengths) < 2 or (paired and len(set(lengths)) > 1):
    raise ValueError(f"ranks need two sweeps of two runs, of equal length if paired: {lengths}")
  level_values, _ = snapped(np.concatenate(samples), [])
  samples = np.split(level_values, np.cumsum(lengths)[:-1])
  draw = _paired_moments if paired else _separate_moments
  ones = [np.full((1, n), 1 / n) for n in (lengths[:1] if paired else lengths)]
  (mean_S,), (variance_SxS,) = draw(samples, ones)
  mean_S, _ = snapped(mean_S, [])  # of the same values in another order
  weights = [rng.multinomial(n.shape[1], n[0], draws) / n.shape[1] for n in ones]
  mean_DxS, variance_DxSxS = draw(samples, weights)
  gap_SxS = mean_S[:, None] - mean_S
  error_DxSxS = mean_DxS[:, :, None] - mean_DxS[:, None] - gap_SxS
  largest_D = _ratio(abs(error_DxSxS), np.sqrt(variance_DxSxS)).max((1, 2))
  critical = np.quantile(largest_D, level, method="higher")
  better_SxS = _settled(gap_SxS, critical, np.sqrt(variance_SxS))
  return Ranks(
    mean_S,
    1 + (gap_SxS < 0).sum(1),
    1 + better_SxS.sum(0),
    len(samples) - better_SxS.sum(1),
    level,
  )


def _settled(gap_SxS, critical: float, error_SxS) -> np.ndarray:
  with np.errstate(invalid="ignore"):
    return (gap_SxS > critical * error_SxS) & (error_SxS > 0)


def _ratio(x, error):
  """x / error; 0 / 0 is 0, as for a sweep against itself."""
  with np.errstate(divide="ignore", invalid="ignore"):
    return np.where(x <= 1e-12, 0.0, x / error)


def _separate_moments(samples, weights) -> tuple[np.ndarray, np.ndarray]:
  """Weighted means [D, S] and variances of differences of means [D, S, S], ddof = 1."""
  pairs = [_mean_and_variance(x, w) for x, w in zip(samples, weights, strict=True)]
  mean_DxS = np.stack([mean for mean, _ in pairs], 1)
  variance_DxS = np.stack([variance for _, variance in pairs], 1)
  return mean_DxS, variance_DxS[:, :, None] + variance_DxS[:, None]


def _mean_and_variance(x_R, weights_DxR) -> tuple[np.ndarray, np.ndarray]:
  n, centred = len(x_R), x_R - x_R.mean()
  mean = weights_DxR @ centred
  square = np.maximum(weights_DxR @ centred**2 - mean**2, 0)
  square[square < 1e-12 * (centred**2).mean()] = 0
  return mean + x_R.mean(), square / (n - 1)


def _paired_moments(samples, weights) -> tuple[np.ndarray, np.ndarray]:
  x_RxS, weights_DxR = np.stack(samples, 1), weights[0]
  differences_RxSS = (x_RxS[:, :, None] - x_RxS[:, None]).reshape(len(x_RxS), -1)
  variances = [_mean_and_variance(d, weights_DxR)[1] for d in differences_RxSS.T]
  size = len(samples)
  return weights_DxR @ x_RxS, np.stack(variances, 1).reshape(-1, size, size)


# Several tasks. Scores are a list of tasks, each with the scores of its runs, float[R_t]: the
# numbers of runs may differ, and every task weighs the same. (rliable's matrix of runs x tasks is
# `scores.T` here.)

Scores: TypeAlias = Sequence[ArrayLike]
AGGREGATES = ("mean", "median", "IQM", "optimality gap")
FEW = 10  # runs of a task below which percentile intervals are known to be too short
_MANY = 100  # runs of every task from which R - 1 of them differ from R by half a percent in width


@dataclasses.dataclass(frozen=True)
class Estimate:
  """An aggregate over tasks; both intervals speak of new seeds on these tasks."""

  interval: Interval  # to quote: widened for the few runs it was estimated from
  percentile: Interval  # as rliable has it; too short with fewer than 10 runs a task


@dataclasses.dataclass(frozen=True)
class Profile:
  """Share of runs above each threshold, with pointwise limits (nan if a task has one run)."""

  thresholds_L: np.ndarray
  share_L: np.ndarray
  low_L: np.ndarray
  high_L: np.ndarray
  percentile_2xL: np.ndarray  # the limits as rliable has them
  level: float


@dataclasses.dataclass(frozen=True)
class _Tasks:
  """Scores of N runs in all, task after task."""

  score_N: np.ndarray
  task_N: np.ndarray  # index of the task
  runs_T: np.ndarray
  start_T: np.ndarray  # of each task in score_N


@dataclasses.dataclass(frozen=True)
class _Draws:
  """D resamples: how often each run is in it, and how many runs it has of each task."""

  count_DxN: np.ndarray
  runs_T: np.ndarray


def estimates(scores: Scores, gamma: float = 1.0) -> dict[str, float]:
  """The aggregates of Agarwal et al. (NeurIPS 2021) over T tasks, without intervals.

    mean            mean of the tasks' means
    median          median of the tasks' means
    IQM             mean of the middle half of all runs, each of weight 1 / (T R_t): from below
                    and from above as many whole runs are cut as fit into a quarter of the weight
    optimality gap  gamma - mean over tasks and runs of min(score, gamma); it says something
                    where scores are normalised so that gamma is the aim (1: a human's score)

  With equal numbers of runs these are rliable's, whose IQM cuts floor(R T / 4) runs at each end.
  """
  tasks = _tasks(scores)
  (found,) = _aggregates(tasks, gamma)(_once(tasks))
  return dict(zip(AGGREGATES, map(float, found), strict=True))


def aggregates(
  scores: Scores,
  rng: np.random.Generator,
  gamma: float = 1.0,
  level: float = 0.95,
  draws: int = 2000,
) -> dict[str, Estimate]:
  """`estimates` with intervals of the stratified bootstrap: runs are drawn within each task.

  `percentile` draws R_t of the R_t runs of every task and takes quantiles (rliable's
  `get_interval_estimates`). A resample of n values varies (n - 1) / n too little, and quantiles
  of a normal distribution stand where Student's belong: too short for few runs. `interval` mends
  both: estimate ± t se, with se the sd over resamples of R_t - 1 of the R_t runs (Rao & Wu, JASA
  1988: its square is unbiased for means in strata), widened as the variance s² + h² / 12 widens
  that of the mean where a task's scores lie on a grid of step h (`resolution.step`), and t with
  Satterthwaite's degrees of freedom of the mean over tasks. Coverages: docs/statistics.md. No
  limits (nan) where nothing varies.

  Runs of different tasks are taken as independent. Nothing is said of other tasks. A task of one
  run gives no interval (nan).
  """
  tasks = _tasks(scores)
  statistic = _aggregates(tasks, gamma)
  (estimate_K,) = statistic(_once(tasks))
  less_DxK, whole_DxK = _both(statistic, [tasks], draws, rng)
  error_K = less_DxK.std(0)
  wider, floor, df = _spread(tasks)
  error_K[error_K <= ROUNDING * abs(tasks.score_N).max()] = 0
  error_K = np.maximum(error_K * wider, floor)
  half_K = scipy.stats.t.ppf(upper_tail(level), df) * np.where(error_K > 0, error_K, math.nan)
  percentiles = _percentiles(estimate_K, whole_DxK, level)
  method = "stratified bootstrap of R - 1 runs, t"
  found = [
    Estimate(Interval(p.estimate, p.estimate - half, p.estimate + half, level, method), p)
    for p, half in zip(percentiles, map(float, half_K), strict=True)
  ]
  return dict(zip(AGGREGATES, found, strict=True))


def improved_share(scores_x: Scores, scores_y: Scores) -> float:
  """Probability of improvement of X over Y (Agarwal et al. 2021): mean over tasks of the share of
  all pairs of runs, one of each, in which X scores higher; ties, also up to rounding, count half.

  Both hold the same tasks in the same order; numbers of runs may differ everywhere. A run that
  was lost may be given as -inf.
  """
  x, y = _tasks(scores_x, finite=False), _tasks(scores_y, finite=False)
  return float(_improvement(x, y)(_once(x), _once(y))[0, 0])


def improvement(
  scores_x: Scores,
  scores_y: Scores,
  rng: np.random.Generator,
  level: float = 0.95,
  draws: int = 2000,
) -> Estimate:
  """`improved_share` with intervals, X and Y resampled on their own.

  `percentile` is rliable's. `interval` takes quantiles of resamples of one run less in every task
  (Rao & Wu 1988) at Φ(t), t being Student's quantile of sum (R - 1) degrees of freedom
  (Hesterberg, American Statistician 2015). Where every task agrees in every resample, such as
  where X always wins, it is Clopper & Pearson's for as many trials in every task as the smallest
  number of runs: conservative, but never of width 0.
  """
  x, y = _tasks(scores_x, finite=False), _tasks(scores_y, finite=False)
  return _shares(_improvement(x, y), [x, y], rng, level, draws)[0]


def performance_profile(
  scores: Scores,
  thresholds_L: ArrayLike,
  rng: np.random.Generator,
  average: bool = False,
  level: float = 0.95,
  draws: int = 2000,
) -> Profile:
  """Run-score distribution: mean over tasks of the share of runs with a score above each threshold.

  Agarwal et al. 2021, equation 3; `average` gives their average-score distribution, the share of
  tasks whose mean score is above it. A score that is above by rounding alone is not. Limits are
  those of `improvement` at each threshold, no simultaneous band. A run that was lost may be
  given as -inf (not with `average`).
  """
  tasks = _tasks(scores, finite=average)
  thresholds_L = np.asarray(thresholds_L, np.float64)
  statistic = _profile(tasks, thresholds_L, average)
  found = _shares(statistic, [tasks], rng, level, draws)
  share, low, high, *percentile = np.array(
    [
      (e.interval.estimate, e.interval.low, e.interval.high, e.percentile.low, e.percentile.high)
      for e in found
    ]
  ).T
  return Profile(thresholds_L, share, low, high, np.array(percentile), level)


def _tasks(scores: Scores, finite: bool = True) -> _Tasks:
  samples = [np.asarray(x, np.float64) for x in scores]
  if not samples:
    raise ValueError("scores need at least one task")
  for task, x in enumerate(samples):
    if x.ndim != 1 or not len(x):
      raise ValueError(f"scores of task {task} must be a list of runs, not of shape {x.shape}")
    if (np.isnan(x) | np.isposinf(x)).any() or (finite and not np.isfinite(x).all()):
      raise ValueError(f"scores must be finite; run {np.argmin(np.isfinite(x))} of task {task}")
  runs_T = np.array([len(x) for x in samples])
  task_N = np.repeat(np.arange(len(samples)), runs_T)
  return _Tasks(np.concatenate(samples), task_N, runs_T, np.cumsum(runs_T) - runs_T)


def _once(tasks: _Tasks) -> _Draws:
  """Every run once."""
  return _Draws(np.ones((1, len(tasks.score_N))), tasks.runs_T)


def _drawn(tasks: _Tasks, less: int, draws: int, rng: np.random.Generator) -> _Draws:
  """Of every task R_t - `less` runs, with replacement."""
  runs_T = tasks.runs_T - less
  counts = [
    rng.multinomial(drawn, np.full(runs, 1 / runs), draws)
    for drawn, runs in zip(runs_T, tasks.runs_T, strict=True)
  ]
  return _Draws(np.concatenate(counts, 1).astype(np.float64), runs_T)


def _resampled(
  statistic: Callable[..., np.ndarray],
  pools: Sequence[_Tasks],
  less: int,
  draws: int,
  rng: np.random.Generator,
) -> np.ndarray:
  """float[D, K]: `statistic`, of _Draws of each pool, in D resamples; nan if a task has one run."""
  if min(tasks.runs_T.min() for tasks in pools) < 2:
    return np.full((draws, statistic(*map(_once, pools)).shape[1]), math.nan)
  block = max(1, 250_000 // sum(len(tasks.score_N) for tasks in pools))
  sizes = [min(block, draws - done) for done in range(0, draws, block)]
  return np.concatenate(
    [statistic(*[_drawn(tasks, less, size, rng) for tasks in pools]) for size in sizes]
  )


def _both(statistic, pools, draws: int, rng) -> tuple[np.ndarray, np.ndarray]:
  """Resamples of R - 1 and of R runs; the same where every task has so many that it is one."""
  less_DxK = _resampled(statistic, pools, 1, draws, rng)
  if min(tasks.runs_T.min() for tasks in pools) >= _MANY:
    return less_DxK, less_DxK
  return less_DxK, _resampled(statistic, pools, 0, draws, rng)


def _percentiles(estimate_K, drawn_DxK, level: float) -> list[Interval]:
  """As rliable has them."""
  upper = upper_tail(level)
  limits_2xK = np.quantile(drawn_DxK, [1 - upper, upper], axis=0)
  return [
    Interval(float(estimate), float(low), float(high), level, "stratified percentile bootstrap")
    for estimate, low, high in zip(estimate_K, *limits_2xK, strict=True)
  ]


def _shares(statistic, pools, rng, level: float, draws: int) -> list[Estimate]:
  """Of statistics between 0 and 1: quantiles at Φ(t), and never a width of 0."""
  (estimate_K,) = statistic(*map(_once, pools))
  less_DxK, whole_DxK = _both(statistic, pools, draws, rng)
  df = max(1, sum(int((tasks.runs_T - 1).sum()) for tasks in pools))
  upper = scipy.stats.norm.cdf(scipy.stats.t.ppf(upper_tail(level), df))
  limits_2xK = np.quantile(less_DxK, [1 - upper, upper], axis=0)
  trials = len(pools[0].runs_T) * min(int(tasks.runs_T.min()) for tasks in pools)
  found = []
  percentiles = _percentiles(estimate_K, whole_DxK, level)
  for percentile, low, high in zip(percentiles, *limits_2xK, strict=True):
    share, method = percentile.estimate, "stratified bootstrap of R - 1 runs, t tails"
    if high - low <= ROUNDING:
      share = min(max(share, 0.0), 1.0)
      exact = resolution.rate(share * trials, trials, level)
      low, high, method = exact.low, exact.high, "exact binomial, every task agrees"
    interval = Interval(percentile.estimate, float(low), float(high), level, method)
    found.append(Estimate(interval, percentile))
  return found


def _spread(tasks: _Tasks) -> tuple[float, float, float]:
  """Of the mean over tasks: by how much the grids of the scores widen its standard error, that of
  rounding to these grids alone, and Satterthwaite's degrees of freedom."""
  samples = np.split(tasks.score_N, tasks.start_T[1:])
  step_T = np.array([resolution.step(x) for x in samples])
  plain_T, with_grid_T = (
    np.array([resolution.variance(x, h) for x, h in zip(samples, steps, strict=True)])
    for steps in (0 * step_T, step_T)
  )
  part_T, plain = with_grid_T / tasks.runs_T, (plain_T / tasks.runs_T).sum()
  total, size = part_T.sum(), len(samples)
  if not total > 0:  # nothing varies, or a task has one run
    return math.nan, math.nan, 1.0
  wider = math.sqrt(total / plain) if plain > 0 else 1.0
  floor = math.sqrt((step_T**2 / 12 / tasks.runs_T).sum()) / size
  return wider, floor, total**2 / (part_T**2 / (tasks.runs_T - 1)).sum()


def _task_means(score_N, tasks: _Tasks, drawn: _Draws) -> np.ndarray:
  return np.add.reduceat(drawn.count_DxN * score_N, tasks.start_T, axis=1) / drawn.runs_T


def _weight_N(tasks: _Tasks, drawn: _Draws) -> np.ndarray:
  """What one run counts for: every task in all 1 / T."""
  return 1 / (len(tasks.runs_T) * drawn.runs_T)[tasks.task_N]


def _aggregates(tasks: _Tasks, gamma: float) -> Callable[[_Draws], np.ndarray]:
  order_N = np.argsort(tasks.score_N, kind="stable")

  def found(drawn: _Draws) -> np.ndarray:
    mean_DxT = _task_means(tasks.score_N, tasks, drawn)
    clipped_DxT = _task_means(np.minimum(tasks.score_N, gamma), tasks, drawn)
    weight_N = _weight_N(tasks, drawn)[order_N]
    iqm_D = _middle_mean(tasks.score_N[order_N], weight_N, drawn.count_DxN[:, order_N])
    columns = [mean_DxT.mean(1), np.median(mean_DxT, 1), iqm_D, gamma - clipped_DxT.mean(1)]
    return np.stack(columns, 1)

  return found


def _middle_mean(score_N, weight_N, count_DxN) -> np.ndarray:
  """Mean of ascending scores without the whole runs that make up a quarter at either end."""
  weight_DxN = count_DxN * weight_N
  up_to_DxN = weight_DxN.cumsum(1)
  kept_DxN = count_DxN.copy()
  for before_DxN in (up_to_DxN - weight_DxN, 1 - up_to_DxN):
    cut_DxN = np.floor((0.25 - before_DxN) / weight_N + 1e-6)  # a quarter up to rounding
    kept_DxN -= np.clip(cut_DxN, 0, count_DxN)
  kept_DxN *= weight_N
  return kept_DxN @ score_N / kept_DxN.sum(1)


def _improvement(x: _Tasks, y: _Tasks) -> Callable[[_Draws, _Draws], np.ndarray]:
  if len(x.runs_T) != len(y.runs_T):
    raise ValueError(f"both need the same tasks, not {len(x.runs_T)} and {len(y.runs_T)}")
  samples = [np.split(z.score_N, z.start_T[1:]) for z in (x, y)]
  places = []  # of each task: order of y, and where each x lies in it, before and after its ties
  for a_R, b_S in (snapped(*pair) for pair in zip(*samples, strict=True)):
    order_S = np.argsort(b_S)
    sides = (np.searchsorted(b_S[order_S], a_R, side) for side in ("left", "right"))
    places.append((order_S, *sides))

  def found(drawn_x: _Draws, drawn_y: _Draws) -> np.ndarray:
    total = 0.0
    for task, (order_S, before_R, after_R) in enumerate(places):
      count_DxR, count_DxS = (
        drawn.count_DxN[:, z.start_T[task] : z.start_T[task] + z.runs_T[task]]
        for drawn, z in ((drawn_x, x), (drawn_y, y))
      )
      beaten = np.pad(count_DxS[:, order_S].cumsum(1), ((0, 0), (1, 0)))
      won_D = (count_DxR * (beaten[:, before_R] + beaten[:, after_R])).sum(1) / 2
      total = total + won_D / (drawn_x.runs_T[task] * drawn_y.runs_T[task])
    return (total / len(places))[:, None]

  return found


def _profile(tasks: _Tasks, thresholds_L, average: bool) -> Callable[[_Draws], np.ndarray]:
  score_N, at_L = snapped(tasks.score_N, thresholds_L)
  above_NxL = (score_N[:, None] > at_L).astype(np.float64)

  def found(drawn: _Draws) -> np.ndarray:
    if not average:
      return (drawn.count_DxN * _weight_N(tasks, drawn)) @ above_NxL
    mean_DxTx1 = _task_means(tasks.score_N, tasks, drawn)[:, :, None]
    rounding = ROUNDING * np.maximum(abs(mean_DxTx1), abs(thresholds_L))
    return (mean_DxTx1 - thresholds_L > rounding).mean(1)

  return found
