"""Seeds that were trained more than once: how much of the spread is the seed's, how much is not."""

import math

import numpy as np
import pandas as pd
import scipy.stats
from numpy.typing import ArrayLike

from seedlab.stats.single import Interval, finite_values, upper_tail


def components(
  values_R: ArrayLike, seed_R: ArrayLike, level: float = 0.95
) -> tuple[Interval, Interval]:
  """Standard deviations between repeats of one seed, and between seeds without the repeats' share.

  One-way random effects (Searle, Casella & McCulloch, Variance Components, 1992, chapter 3): the
  first is the pooled sd within seeds, with its chi-squared interval on N - k degrees of freedom.
  The second is sqrt((MSB - MSW) / h), 0 where that is negative, with MSB = h s²(means of seeds) and
  h the harmonic mean of the numbers of repeats (Thomas & Hultquist, Annals of Statistics 6, 1978;
  of equal numbers the usual mean squares); its interval is Williams' (Biometrika 49, 1962), which
  covers at least `level` nearly always. Both are exact for normal values and equal numbers only.

  Args:
    values_R: finite values of N trainings, in any unit.
    seed_R: the seed of each, k different ones.

  Returns: both in the unit of the values; nan where no seed repeats, or for a single seed.
  """
  values_R = finite_values(values_R)
  groups = pd.Series(values_R).groupby(np.asarray(seed_R))
  n_K, mean_K = groups.size().to_numpy(), groups.mean()
  k, n = len(n_K), len(values_R)
  nothing = Interval(math.nan, math.nan, math.nan, level, "one-way random effects")
  if n == k:
    return nothing, nothing
  apart_R = values_R - mean_K.loc[np.asarray(seed_R)].to_numpy()
  inside = float((apart_R**2).sum()) / (n - k)
  q = upper_tail(level)
  tails = scipy.stats.chi2.ppf([q, 1 - q], n - k) / (n - k)
  within = Interval(*np.sqrt([inside, *(inside / tails)]).tolist(), level, "chi-squared")
  if k < 2:
    return within, nothing
  h = float(scipy.stats.hmean(n_K))
  outside = h * float(mean_K.var(ddof=1))
  f = scipy.stats.f.ppf([q, 1 - q], k - 1, n - k)
  chi = scipy.stats.chi2.ppf([q, 1 - q], k - 1) / (k - 1)
  squares = np.concatenate([[outside - inside], (outside - inside * f) / chi]) / h
  between = Interval(*np.sqrt(np.maximum(squares, 0)).tolist(), level, "Williams")
  return within, between
