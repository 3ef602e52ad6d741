"""What a published table can bear: means with a spread and a number of seeds, without the runs.

Every function takes `Published` means: what is printed, and how surely. The larger mean is the
better one; of a loss, turn the signs. Runs are taken as independent between methods, since a table
does not say which share a seed: a pairing that is not known cannot be used.
"""

import bisect
import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import scipy.optimize
import scipy.special
import scipy.stats

from seedlab.stats.single import Interval, upper_tail

FEWEST_METHODS = 5  # below which the spread between methods says too little to shrink by
MOST_SEEDS = 100_000  # a side; a forecast beyond is none
FORECAST_LEVEL = 0.8  # of the interval of a forecast: one time in ten on either side
_DRAWS = 10_000
_LOPSIDED = 2  # ratio of the numbers of seeds from which Cochran and Cox's t judges
_SMALL = 10  # if the smaller is below this
_LEAST = 1e-12  # p-values of Cochran and Cox's t below it are this


@dataclasses.dataclass(frozen=True)
class Published:
  """The mean of one method over n seeds as printed, in the unit of the table."""

  mean: float
  sd: float  # over seeds
  n: int
  step: float = 0.0  # of the last printed digit of the mean
  sd_step: float = 0.0  # of that of the sd
  known: bool = False  # the sd is taken as known and not estimated from these n seeds

  @property
  def run_variance(self) -> float:
    """Of one run: sd² + h² / 12, the mean square of what rounds to the printed sd.

    A printed 0.0 thus counts as what rounds to it, and not as no spread at all.
    """
    return self.sd**2 + self.sd_step**2 / 12

  @property
  def variance(self) -> float:
    """Of the printed mean: that of a run over n, and h² / 12 for its own rounding."""
    return self.run_variance / self.n + self.step**2 / 12

  @property
  def df(self) -> float:
    """Degrees of freedom of `variance`: no more than the runs have, whatever rounding adds."""
    return math.inf if self.known else self.n - 1


@dataclasses.dataclass(frozen=True)
class Lead:
  """Of one method over another, in the unit of the table."""

  interval: Interval
  error: float  # standard error of the estimate
  df: float  # Satterthwaite's
  p_value: float  # two-sided; nan where nothing varies
  as_printed: Interval  # from the printed numbers as if they were not rounded
  as_printed_p: float  # likewise; nan where the printed spreads are 0


def lead(a: Published, b: Published, level: float = 0.95) -> Lead:
  """mean of a - mean of b with interval and two-sided p-value.

  Welch (1947) with Satterthwaite's degrees of freedom, as `scipy.stats.ttest_ind_from_stats`. If
  the smaller number of seeds is below 10 and the larger at least twice that, Cochran and Cox's
  (1950): the critical value is the mean of both sides' t quantiles, weighted by their squared
  standard errors. Sheppard's h² / 12 for the rounding of what is printed is part of the error, and
  a lead that rounding alone can make, half a step on either side, is none: p = 1, and the interval
  is no shorter than that, at any level. The same without any allowance is `as_printed`.
  """
  exact = (dataclasses.replace(m, step=0.0, sd_step=0.0) for m in (a, b))
  interval, error, df, p = _t_test(a, b, level)
  as_printed, _, _, as_printed_p = _t_test(*exact, level)
  return Lead(interval, error, df, p, as_printed, as_printed_p)


def _t_test(a: Published, b: Published, level: float) -> tuple[Interval, float, float, float]:
  """Interval, standard error, degrees of freedom and p-value of a lead."""
  variances, dfs = (a.variance, b.variance), (a.df, b.df)
  total = sum(variances)
  estimate, error = a.mean - b.mean, math.sqrt(total)
  if not error > 0:
    return Interval(estimate, math.nan, math.nan, level, "no spread"), math.nan, math.nan, math.nan
  parts = sum(v**2 / df for v, df in zip(variances, dfs, strict=True) if v)
  df = total**2 / parts if parts else math.inf
  few, many = sorted((a.n, b.n))
  lopsided = few < _SMALL and many >= _LOPSIDED * few and math.isfinite(df)

  def critical(upper: float) -> float:
    if not lopsided:
      return float(_quantile(upper, df))
    return float(sum(v * _quantile(upper, d) for v, d in zip(variances, dfs, strict=True)) / total)

  t, rounding = abs(estimate) / error, (a.step + b.step) / 2
  if 0 < rounding and abs(estimate) <= rounding * (1 + 1e-9):
    p = 1.0
  elif not lopsided:
    p = 2 * float(_tail(t, df))
  elif critical(_LEAST / 2) <= t:
    p = _LEAST
  else:  # the level at which the critical value is t
    ends = math.log(_LEAST / 2), math.log(0.5)
    p = 2 * math.exp(scipy.optimize.brentq(lambda tail: critical(math.exp(tail)) - t, *ends))
  half = max(critical(1 - upper_tail(level)) * error, rounding)
  method = "Cochran and Cox's t" if lopsided else "Welch's t"
  method = method if math.isfinite(df) else "normal, sds known"
  return Interval(estimate, estimate - half, estimate + half, level, method), error, df, p


def _quantile(upper: float, df: float) -> float:
  return scipy.stats.norm.isf(upper) if math.isinf(df) else scipy.stats.t.isf(upper, df)


def _tail(t: float, df: float) -> float:
  return scipy.stats.norm.sf(t) if math.isinf(df) else scipy.stats.t.sf(t, df)


def moderated(methods: Sequence[Published]) -> tuple[list[Published], np.ndarray, bool]:
  """The methods with sds drawn to each other, their degrees of freedom, and whether to one sd.

  The sds of three seeds each are too uncertain to weigh methods by; what is said of all methods at
  once borrows from the others. Variances are taken as drawn around a common one, with prior degrees
  of freedom d0 from the spread of their logarithms (Smyth 2004, sections 6.2 and 8):
  (d0 s0² + d s²) / (d0 + d), with d0 + d degrees of freedom, at most those of all methods. Where
  they spread no more than by chance, d0 is infinite and all get the pooled sd. Known sds stay.
  """
  free = [m for m in methods if not m.known]
  if not free:
    return list(methods), np.full(len(methods), math.inf), True
  d_K = np.array([m.n - 1 for m in free], float)
  v_K = np.array([m.run_variance for m in free])
  all_df, common = float(d_K.sum()), float(d_K @ v_K / d_K.sum())
  prior = math.inf
  if len(free) > 1 and (v_K > 0).all():
    e_K = np.log(v_K) - scipy.special.digamma(d_K / 2) + np.log(d_K / 2)
    excess = e_K.var(ddof=1) - scipy.special.polygamma(1, d_K / 2).mean()
    if excess > 1e-6:
      half = scipy.optimize.brentq(lambda x: scipy.special.polygamma(1, x) - excess, 1e-3, 1e7)
      prior = 2 * half
      common = float(np.exp(e_K.mean() + scipy.special.digamma(half) - math.log(half)))
  share_K = np.ones(len(free)) if math.isinf(prior) else prior / (prior + d_K)
  sd_K = iter(np.sqrt(share_K * common + (1 - share_K) * v_K))
  df_K = iter(np.minimum(prior + d_K, all_df))
  drawn = [m if m.known else dataclasses.replace(m, sd=float(next(sd_K)), sd_step=0.0)
           for m in methods]  # fmt: skip
  dfs = np.array([math.inf if m.known else next(df_K) for m in methods])
  return drawn, dfs, math.isinf(prior)


@dataclasses.dataclass(frozen=True)
class Luck:
  """What the best of k equal methods leads by, with these numbers of seeds and spreads."""

  expected: float  # the mean of such leads, in the unit of the table
  p_value: float  # chance of one at least as large as the printed


def luck(
  methods: Sequence[Published], printed: float, rng: np.random.Generator, leaders: int = 1
) -> Luck:
  """The lead of the best over the next, if all k methods had the same true mean.

  Draws of k normal means with `moderated` sds, whose own uncertainty enters the p-value. Where
  that is the pooled sd, it is Student's ratio, exact for methods of equal spread.

  Args:
    methods: all k of the benchmark, at least two.
    printed: the lead whose chance is asked for.
    leaders: how many share the lead, as where two entries are bold: it is then that of the first
      over the one after them.
  """
  if len(methods) <= leaders:
    raise ValueError(f"{leaders} leaders of {len(methods)} methods leave none to lead")
  alike, df_K, one = moderated(methods)
  drawn_DxK = rng.standard_normal((_DRAWS, len(alike))) * [math.sqrt(m.variance) for m in alike]
  df_K = np.minimum(df_K, 1e9)  # of a known sd: no luck of its own
  scale_DxK = np.sqrt(rng.chisquare(df_K[:1] if one else df_K, (_DRAWS, 1 if one else len(df_K))))
  scale_DxK /= np.sqrt(df_K[:1] if one else df_K)
  expected = _gap(drawn_DxK, leaders).mean()
  chance = (_gap(drawn_DxK / scale_DxK, leaders) >= printed).mean()
  return Luck(float(expected), float(chance))


def _gap(drawn_DxK: np.ndarray, leaders: int) -> np.ndarray:
  """Of the best over the one after the leaders, in every draw."""
  ordered_DxK = np.sort(drawn_DxK, axis=1)
  return ordered_DxK[:, -1] - ordered_DxK[:, -1 - leaders]


@dataclasses.dataclass(frozen=True)
class Replication:
  """Chance that a new run of the table, as many fresh seeds each, gives the same winner."""

  again: float  # that it beats the same runner-up, means shrunk over the methods
  best: float  # that it is the best of all of them, likewise
  naive: float  # the first without shrinking: too high for a lead that was selected
  between_sd: float  # of true means between methods; 0 where the table shows no difference


def replication(
  methods: Sequence[Published], winner: int, runner_up: int, rng: np.random.Generator
) -> Replication:
  """Of methods[winner] against methods[runner_up] and against all, for at least five methods.

  naive: Phi(lead / sqrt(e_w² + e_r² + f_w² + f_r²)) with squared standard errors e² of the
  printed means and f² of the new ones.

  Shrunk: true means are taken as normal with a variance τ² between methods (Paule & Mandel 1982,
  with `moderated` sds); each printed mean moves towards their centre by 1 - w,
  w = τ² / (τ² + e²), and keeps a variance w e² (Efron & Morris 1973); the centre's own variance
  is shared by all. `best` is the share of draws.
  """
  if len(methods) < FEWEST_METHODS:
    raise ValueError(f"{len(methods)} methods are fewer than the {FEWEST_METHODS} needed")
  w, r = methods[winner], methods[runner_up]
  new = (w.run_variance / w.n) + (r.run_variance / r.n)
  naive = scipy.stats.norm.cdf((w.mean - r.mean) / math.sqrt(w.variance + r.variance + new))
  alike, _, _ = moderated(methods)
  mean_K = np.array([m.mean for m in alike])
  error2_K = np.array([m.variance for m in alike])
  new2_K = np.array([m.run_variance / m.n for m in alike])
  between2 = between_variance(mean_K, error2_K)
  kept_K = between2 / (between2 + error2_K)
  weight_K = 1 / (between2 + error2_K)
  centre, centre2 = weight_K @ mean_K / weight_K.sum(), 1 / weight_K.sum()
  shrunk_K = kept_K * mean_K + (1 - kept_K) * centre
  own2_K = kept_K * error2_K + new2_K
  both = [winner, runner_up]
  variance = own2_K[both].sum() + (kept_K[winner] - kept_K[runner_up]) ** 2 * centre2
  again = scipy.stats.norm.cdf((shrunk_K[winner] - shrunk_K[runner_up]) / math.sqrt(variance))
  drawn = shrunk_K + rng.standard_normal((_DRAWS, len(alike))) * np.sqrt(own2_K)
  drawn += (1 - kept_K) * math.sqrt(centre2) * rng.standard_normal((_DRAWS, 1))
  best = (drawn.argmax(1) == winner).mean()
  return Replication(float(again), float(best), float(naive), math.sqrt(between2))


def between_variance(mean_K: np.ndarray, error2_K: np.ndarray) -> float:
  """Paule and Mandel's (1982) τ²: Σ (m - centre)² / (τ² + e²) = k - 1, or 0."""

  def excess(between2: float) -> float:
    weight_K = 1 / (between2 + error2_K)
    centre = weight_K @ mean_K / weight_K.sum()
    return float(weight_K @ (mean_K - centre) ** 2 - (len(mean_K) - 1))

  if excess(0.0) <= 0:
    return 0.0
  return float(scipy.optimize.brentq(excess, 0.0, len(mean_K) * float(np.var(mean_K))))


@dataclasses.dataclass(frozen=True)
class Seeds:
  """Seeds a side with which Welch's test finds the lead with a chance of 80 %."""

  estimate: float  # if lead and sds are as printed; inf beyond MOST_SEEDS
  low: float  # 80 % interval from the uncertainty of lead and sds
  high: float  # inf where the lead may be nothing


def seeds_needed(a: Published, b: Published, alpha: float = 0.05, target: float = 0.8) -> Seeds:
  """For a new comparison of a and b with n fresh seeds each, judged by Welch's two-sided test.

  Its power is that of the noncentral t with Welch's degrees of freedom at n. The interval inverts
  the noncentral t of the printed lead in standard errors (Steiger & Fouladi 1997), one time in ten
  on either side; the sds' ratio is taken as printed. A lead that may be nothing has no upper
  limit, and one of 0 no estimate.
  """
  two = lead(a, b)
  runs = math.sqrt(a.run_variance + b.run_variance)
  if math.isnan(two.error) or not runs > 0:
    return Seeds(math.nan, math.nan, math.nan)
  t = two.interval.estimate / two.error
  upper = 1 - upper_tail(FORECAST_LEVEL)
  limits = [_noncentrality(t, two.df, tail) for tail in (upper, 1 - upper)]  # high, low
  low, estimate, high = (
    _fewest(shift * two.error / runs, a, b, alpha, target) for shift in (limits[0], t, limits[1])
  )
  return Seeds(estimate, low, high)


def _noncentrality(t: float, df: float, below: float) -> float:
  """δ with P(T(df, δ) <= t) = below; for `below` between 0.05 and 0.95."""
  if t < 0:
    return -_noncentrality(-t, df, 1 - below)
  if math.isinf(df):
    return t - float(scipy.stats.norm.ppf(below))
  if t > 30:  # the noncentral t fails out there, and only the sds' own luck is left
    return t * math.sqrt(scipy.stats.chi2.isf(below, df) / df)
  return float(
    scipy.optimize.brentq(lambda d: scipy.stats.nct.cdf(t, df, d) - below, -3, 4 + 3 * t)
  )


def _fewest(effect: float, a: Published, b: Published, alpha: float, target: float) -> float:
  """Smallest n a side, at least 2; `effect` is the lead over sqrt(sd_a² + sd_b²)."""
  if not effect > 0:
    return math.inf
  u, v = a.run_variance, b.run_variance
  share = (u + v) ** 2 / (u**2 + v**2)

  def enough(n: int) -> bool:
    df = (n - 1) * share
    critical = scipy.stats.t.isf(alpha / 2, df)
    return bool(scipy.stats.nct.sf(critical, df, effect * math.sqrt(n)) >= target)

  found = 2 + bisect.bisect_left(range(2, MOST_SEEDS + 1), True, key=enough)
  return math.inf if found > MOST_SEEDS else float(found)


@dataclasses.dataclass(frozen=True)
class Examples:
  """Standard errors of a lead over other test sets of the same size, as shares of examples."""

  same: float  # if the two methods err on the same examples as far as they can
  independent: float  # if their errors have nothing to do with each other
  opposed: float  # if they err on different examples as far as they can


def other_examples(a: float, b: float, examples: int) -> Examples:
  """For two shares of right (or wrong) examples on one test set of E examples, binomial.

  Var = (q - d²) / E with d = a - b and q the share of examples on which the two differ, which a
  table does not tell (McNemar 1947): at least |d|, at most min(a + b, 2 - a - b); independent
  errors have a (1 - b) + b (1 - a), and then the variances a (1 - a) / E and b (1 - b) / E add.
  Of means over seeds it is an upper limit, since part of the binomial variance of one run is the
  seed's own.
  """
  if not (0 <= a <= 1 and 0 <= b <= 1 and examples >= 1):
    raise ValueError(f"shares must lie in [0, 1] and examples be at least 1: {a}, {b}, {examples}")
  d = abs(a - b)
  differing = (d, a * (1 - b) + b * (1 - a), min(a + b, 2 - a - b))
  return Examples(*(math.sqrt(max(q - d**2, 0.0) / examples) for q in differing))


def holm(p_values: Sequence[float]) -> list[float]:
  """Holm's (1979) adjusted p-values: rejected at alpha exactly where they are at most alpha."""
  order = sorted(range(len(p_values)), key=p_values.__getitem__)
  adjusted, least = [0.0] * len(p_values), 0.0
  for rank, at in enumerate(order):
    least = max(least, min(1.0, (len(p_values) - rank) * p_values[at]))
    adjusted[at] = least
  return adjusted
