"""Simulated worlds of few seeds: the rows of "Few seeds" in docs/statistics.md.

Vectorised on the formulas; that they are those of seedlab is checked on single samples.
"""

import math

import numpy as np
import pytest
import scipy.stats

from seedlab import judging
from seedlab.stats import comparison, planning, route, sequential
from seedlab.stats import forecast as forecasts

LOOKS = 4  # the plan and three doublings


def collapsing(rng, shape):
  return rng.normal(size=shape) - 30 * (rng.uniform(size=shape) < 0.01)


WORLDS = {
  "normal": (lambda rng, shape: rng.normal(size=shape), 0.0),
  "exponential": (lambda rng, shape: rng.exponential(size=shape), 0.0),
  "grid of step 2 sd": (lambda rng, shape: 2 * np.round(rng.normal(size=shape) / 2), 2.0),
  "1 % collapsed": (collapsing, 0.0),
}


def rejected(a_WxR, b_WxS, paired: bool, alpha: float, step: float) -> np.ndarray:
  """bool[W]: whether each world's two-sided test of no difference is significant at alpha."""
  if paired:
    d = a_WxR - b_WxS
    own, n = d.var(axis=1, ddof=1), d.shape[1]
    t = abs(d.mean(1)) / np.sqrt((own + step**2 / 12) / n)
    return (own > 0) & (t > scipy.stats.t.isf(alpha / 2, n - 1))
  own = np.array([x.var(axis=1, ddof=1) for x in (a_WxR, b_WxS)])
  sizes = np.array([a_WxR.shape[1], b_WxS.shape[1]])[:, None]
  parts = (own + step**2 / 12) / sizes
  total = parts.sum(0)
  if sizes.min() < 10 and 2 * sizes.min() <= sizes.max():
    critical = (parts * scipy.stats.t.isf(alpha / 2, sizes - 1)).sum(0) / total
  else:
    critical = scipy.stats.t.isf(alpha / 2, total**2 / (parts**2 / (sizes - 1)).sum(0))
  different = abs(a_WxR.mean(1) - b_WxS.mean(1)) > critical * np.sqrt(total)
  return (own.sum(0) > 0) & different


def on_the_route(rng, world, n0, worlds, others=None, shift=0.0) -> np.ndarray:
  """Share of worlds in which a look has rejected, after each look.

  others: None for pairs, else the runs of the baseline, which does not grow.
  """
  draw, step = WORLDS[world]
  runs = n0 << (LOOKS - 1)
  a, b = draw(rng, (worlds, runs)) + shift, draw(rng, (worlds, others or runs))
  if others is None and shift:
    b = np.zeros_like(a)  # shifts are in sds of the differences
  found = np.zeros(worlds, bool)
  shares = []
  with np.errstate(all="ignore"):  # nothing varies in some worlds on a grid
    for k in range(LOOKS):
      seen = a[:, : n0 << k]
      other = b[:, : n0 << k] if others is None else b
      found |= rejected(seen, other, others is None, 0.05 * route.weight(k), step)
      shares.append(found.mean())
  return np.array(shares)


@pytest.mark.parametrize(("n", "m"), [(5, 5), (3, 10), (12, 30), (6, 30)])
def test_the_vectorised_tests_are_those_that_judge(n, m):
  rng = np.random.default_rng(n)
  for paired in (True, False)[n != m :]:
    for step in (0.0, 2.0):
      a, b = WORLDS["grid of step 2 sd" if step else "normal"][0](rng, (2, 60, m))
      a = a[:, :n] + rng.choice([0, 2], (60, 1))
      p = [
        comparison.difference(comparison.TwoSweeps(x, y, paired, 0), step=step).p_value
        for x, y in zip(a, b, strict=True)
      ]
      with np.errstate(all="ignore"):
        expected = rejected(a, b, paired, 0.03, step)
      assert (expected == (np.nan_to_num(np.array(p), nan=1.0) < 0.03)).all()


def at_most(rate: float, nominal: float, repetitions: int) -> bool:
  return rate <= nominal + 3 * math.sqrt(nominal * (1 - nominal) / repetitions)


@pytest.mark.parametrize(("n0", "others"), [(3, None), (10, None), (10, 10), (3, 10), (3, 30)])
def test_the_route_errs_in_five_of_a_hundred_at_most(n0, others):
  rate = on_the_route(np.random.default_rng(n0), "normal", n0, 3000, others)[-1]
  assert at_most(rate, 0.05, 3000) and rate > 0.02


@pytest.mark.slow
def test_table_of_false_verdicts_on_the_route():
  print("\n| values | design | n0 = 3 | 5 | 10 | 30 |\n| --- | --- | --- | --- | --- | --- |")
  for number, world in enumerate(WORLDS):
    rng = np.random.default_rng(300 + number)
    designs = {
      "pairs": dict.fromkeys((3, 5, 10, 30)),
      "a baseline of n0, the other grows": {n: n for n in (3, 5, 10, 30)},
    }
    for design, sizes in designs.items():
      rates = [on_the_route(rng, world, n, 10_000, m)[-1] for n, m in sizes.items()]
      print(f"| {world} | {design} | " + " | ".join(f"{100 * r:.1f}" for r in rates) + " |")
      assert world != "normal" or max(rates) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 10_000)
  print("\n| values | baseline 10 | 30 | 81 |\n| --- | --- | --- | --- |")
  for number, world in enumerate(WORLDS):
    rng = np.random.default_rng(310 + number)
    rates = [on_the_route(rng, world, 3, 10_000, m)[-1] for m in (10, 30, 81)]
    print(f"| {world} | " + " | ".join(f"{100 * r:.1f}" for r in rates) + " |")
    assert world != "normal" or max(rates) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 10_000)


def test_a_finished_table_has_the_power_of_the_t_test_and_the_plan_most_of_it():
  for n0, share in ((3, 0.8), (5, 0.86), (10, 0.92)):
    for shift in (1, 2, 3):
      fixed = planning.power(n0, shift, 1, paired=True)
      assert planning.power(n0, shift, 1, paired=True, alpha=0.04) >= share * fixed
  rng = np.random.default_rng(0)
  a = rng.normal(2, 1, (4000, 5))
  rate = rejected(a, np.zeros_like(a), True, 0.05, 0.0).mean()
  assert abs(rate - planning.power(5, 2, 1, paired=True)) < 0.025


@pytest.mark.slow
def test_table_of_power():
  head = "| runs | difference, sd | t test at this n | finished table | plan | 2 n0 | 4 n0 |"
  print("\n" + head + "\n|" + " --- |" * 7)
  for n0 in (3, 5, 10, 30):
    for shift in (1, 2, 3):
      rng = np.random.default_rng(320 + 10 * n0 + shift)
      a = rng.normal(shift, 1, (10_000, n0))
      finished = rejected(a, np.zeros_like(a), True, 0.05, 0.0).mean()
      exact = [planning.power(n, shift, 1, paired=True) for n in (n0, 2 * n0, 4 * n0)]
      assert abs(finished - exact[0]) < 0.02
      shares = on_the_route(rng, "normal", n0, 10_000, None, shift)
      cells = [
        f"{100 * s:.0f} of {100 * e:.0f}" for s, e in zip(shares[:3], exact, strict=True)
      ]
      row = [n0, shift, f"{100 * exact[0]:.1f}", f"{100 * finished:.1f}", *cells]
      print("| " + " | ".join(map(str, row)) + " |")


def false_equals(rng, variants: int, alternating: bool, worlds: int, n: int = 30) -> float:
  """Share of families with a false "equal": every variant is exactly the margin (1 sd) away."""
  signs = np.where(np.arange(variants) % 2 * alternating, -1.0, 1.0)
  base = rng.normal(size=(worlds, 1, n))
  others = rng.normal(size=(worlds, variants, n)) + signs[:, None]
  own = base.var(axis=2, ddof=1), others.var(axis=2, ddof=1)
  parts = np.stack(np.broadcast_arrays(*own)) / n
  error, df = np.sqrt(parts.sum(0)), parts.sum(0) ** 2 / (parts**2 / (n - 1)).sum(0)
  gap = abs(others.mean(2) - base.mean(2))
  p = 2 * scipy.stats.t.sf(gap / error, df)
  p_equal = scipy.stats.t.sf((1.0 - gap) / error, df)
  false = 0
  for one, equal in zip(p, p_equal, strict=True):
    if equal.min() > judging.ALPHA:
      continue
    levels = judging._thresholds(np.maximum(one, equal).tolist())
    false += bool(((equal <= levels) & (one > levels)).any())
  return false / worlds


@pytest.mark.parametrize("variants", [1, 5])
def test_false_equals_stay_within_five_of_a_hundred(variants):
  rate = false_equals(np.random.default_rng(variants), variants, True, 3000)
  assert at_most(rate, 0.05, 3000)


@pytest.mark.slow
def test_table_of_false_equals():
  print("\n| signs | 1 variant | 2 | 5 | 10 |\n| --- | --- | --- | --- | --- |")
  for number, alternating in enumerate((False, True)):
    rng = np.random.default_rng(330 + number)
    for n in (10, 30):
      rates = [false_equals(rng, k, alternating, 10_000, n) for k in (1, 2, 5, 10)]
      name = f"{'alternating' if alternating else 'the same'}, {n} runs"
      print(f"| {name} | " + " | ".join(f"{100 * r:.1f}" for r in rates) + " |")
      assert max(rates) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 10_000)


def moments(x):
  """Means and variances of the first 2, 3, ... of each world's values."""
  n = np.arange(1, x.shape[1] + 1)
  mean = np.cumsum(x, 1) / n
  variance = (np.cumsum(x**2, 1) - n * mean**2)[:, 1:] / (n[1:] - 1)
  return mean[:, 1:], variance, n[1:]


def exceeds(t2, df, r, alpha=0.05):
  """Whether the mixture of `anytime_t` reaches 1 / alpha."""
  grown = np.log1p(t2 / df) - np.log1p(t2 / (df * (1 + r)))
  return -np.log1p(r) / 2 + (df + 1) / 2 * grown >= -math.log(alpha)


def looked_at_often(rng, world, paired, worlds=2000, runs=200) -> float:
  """Share of worlds in which any look from 4 pairs (5 runs of each) on excludes 0."""
  a, b = WORLDS[world][0](rng, (2, worlds, runs))
  if paired:
    mean, variance, n = moments(a - b)
    return exceeds(mean**2 * n / variance, n - 1, 5 * n)[:, 2:].any(1).mean()
  (mean_a, own_a, n), (mean_b, own_b, _) = moments(a), moments(b)
  parts = own_a / n, own_b / n
  df = sum(parts) ** 2 / (sum(p**2 for p in parts) / (n - 1))
  return exceeds((mean_a - mean_b) ** 2 / sum(parts), df, 5 * n)[:, 3:].any(1).mean()


def test_the_vectorised_anytime_t_is_the_one_that_judges():
  for t, df, r in ((2.0, 5.0, 30.0), (4.0, 9.0, 50.0), (3.4, 199.0, 500.0)):
    for alpha in (0.01, 0.05, 0.3):
      assert exceeds(t**2, df, r, alpha) == (sequential.anytime_p(t, df, r) <= alpha)


@pytest.mark.parametrize("paired", [True, False])
def test_anytime_t_errs_in_three_of_a_hundred_at_most(paired):
  rate = looked_at_often(np.random.default_rng(1), "normal", paired, 1000)
  assert at_most(rate, 0.03, 1000)


@pytest.mark.slow
def test_table_of_looking_after_every_run():
  print("\n| values | pairs | two sweeps |\n| --- | --- | --- |")
  for number, world in enumerate(WORLDS):
    if WORLDS[world][1]:
      continue
    rng = np.random.default_rng(340 + number)
    rates = [
      np.mean([looked_at_often(rng, world, paired) for _ in range(5)]) for paired in (True, False)
    ]
    print(f"| {world} | " + " | ".join(f"{100 * r:.1f}" for r in rates) + " |")
    assert world != "normal" or max(rates) <= 0.03 + 3 * math.sqrt(0.03 * 0.97 / 10_000)


def two_worst_missing(rng, shift: float, worlds: int) -> tuple[float, float]:
  """Share of "better" if two of ten runs are dropped, and in the worst case of them."""
  dropped = worst = 0
  for _ in range(worlds):
    a, b = np.sort(rng.normal(shift, 1, 10)), rng.normal(size=10)
    test = scipy.stats.ttest_ind(a[2:], b, equal_var=False)
    dropped += test.pvalue <= 0.05 and test.statistic > 0
    a[:2] = math.nan
    found = judging.better_by_ranks(a, b, False, -1, 0.95)
    worst += found.p_value <= 0.05 and found.estimate > 0.5
  return dropped / worlds, worst / worlds


def test_the_worst_of_what_is_missing_is_no_gain():
  dropped, worst = two_worst_missing(np.random.default_rng(2), 0.0, 100)
  assert dropped > 0.03 and worst <= 0.05


@pytest.mark.slow
def test_table_of_missing_runs():
  print("\n| difference, sd | dropped | worst case |\n| --- | --- | --- |")
  for shift in (0.0, 1.0, 2.0):
    rates = two_worst_missing(np.random.default_rng(350 + int(shift)), shift, 1500)
    print(f"| {shift:g} | " + " | ".join(f"{100 * r:.1f}" for r in rates) + " |")
    assert shift or rates[1] <= 0.01


def foretold(rng, n: int, worlds: int) -> list[tuple[float, bool]]:
  """Of open pilots of n pairs with a forecast: the chance of the next look, and what comes.

  True effects are N(0, 1), in sds.
  """
  alphas = [0.05 * route.weight(1)]  # of the next look alone, which is all that is asked here
  first = scipy.stats.t.isf(0.025 * route.weight(0), n - 1)
  critical = scipy.stats.t.isf(alphas[0] / 2, 2 * n - 1)
  seen = []
  while len(seen) < worlds:
    effect = rng.normal()
    d = effect + rng.normal(size=n)
    if abs(d.mean()) / (d.std(ddof=1) / math.sqrt(n)) > first:
      continue
    arm = forecasts.Arm(n, float(d.mean()), float(d.var(ddof=1)))
    found = forecasts.forecast(arm, None, alphas)
    if found is None or found.probability is None:
      continue
    all_runs = np.append(d, effect + rng.normal(size=n))
    t = abs(all_runs.mean()) / (all_runs.std(ddof=1) / math.sqrt(2 * n))
    seen.append((found.probability[0], bool(t > critical)))
  return seen


def test_a_forecast_is_about_as_often_right_as_it_says():
  chances, came = zip(*foretold(np.random.default_rng(360), 10, 60), strict=True)
  assert abs(np.mean(chances) - np.mean(came)) < 0.15


@pytest.mark.slow
def test_table_of_forecasts():
  print("\n| pilot, pairs | below 5 % | 5 to 20 % | 20 to 50 % | above 50 % |")
  for n in (5, 10, 30):
    seen = foretold(np.random.default_rng(361 + n), n, 600)
    chances, came = map(np.array, zip(*seen, strict=True))
    cells = []
    for low, high in ((0, 0.05), (0.05, 0.2), (0.2, 0.5), (0.5, 1.01)):
      inside = (chances >= low) & (chances < high)
      said, true = (100 * x[inside].sum() / max(inside.sum(), 1) for x in (chances, came))
      cells.append(f"{said:.0f}: {true:.0f} ({inside.sum()})" if inside.any() else "-")
    print(f"| {n} | {' | '.join(cells)} |")
