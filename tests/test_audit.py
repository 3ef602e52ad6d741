"""Audits of published tables: the statistics, the reader, the verdicts, the command."""

import dataclasses
import json
import math
import pathlib
import re
import subprocess

import forked
import numpy as np
import pandas as pd
import pytest
import scipy.integrate
import scipy.special
import scipy.stats

import seedlab
from seedlab import printed, report
from seedlab.errors import UserError
from seedlab.stats import published
from seedlab.stats.published import Published

WIDE = """\
| Method | CIFAR-10 | CIFAR-100 | SVHN ↑ |
| :-- | --: | --- | --- |
| Base | 94.10 ± 0.20 | 75.1 ± 0.4 | 96.2 |
| A | 94.31 ± 0.15 | 75.9 ± 0.3 | 96.4 ± 0.1 |
| B | 94.25 ± 0.25 | 75.4 ± 0.5 | 96.5 ± 0.1 |
| C | 94.40 ± 0.18 | 76.0 ± 0.3 | 96.4 ± 0.2 |
| **Ours** | **94.52 ± 0.17** | **77.3 ± 0.4** | **96.6 ± 0.1** |
"""


def rng(seed: int = 0) -> np.random.Generator:
  return np.random.default_rng(seed)


def frame(text: str) -> pd.DataFrame:
  """A table of words and commas, as a DataFrame of text."""
  head, *rows = [line.split(",") for line in text.split()]
  return pd.DataFrame(rows, columns=head)


def audit(text: str, **options):
  return seedlab.audit(frame(text), **options)


# The statistics.


@pytest.mark.parametrize("a", [(93.1, 0.2, 5), (0.5, 3.0, 2)])
@pytest.mark.parametrize("b", [(92.8, 0.3, 8), (92.9, 0.01, 4), (93.3, 0.4, 30)])
def test_a_lead_is_welchs_t(a, b):
  """scipy 1.17.1, from mean, sd and n; the interval inverts the test."""
  if min(a[2], b[2]) < 10 and max(a[2], b[2]) >= 2 * min(a[2], b[2]):
    a = (*a[:2], 20)
    b = (*b[:2], 25)
  expected = scipy.stats.ttest_ind_from_stats(*a, *b, equal_var=False)
  found = published.lead(Published(*a), Published(*b))
  assert found.interval.method == "Welch's t"
  assert found.p_value == pytest.approx(expected.pvalue, rel=1e-9)
  assert found.interval.estimate / found.error == pytest.approx(expected.statistic)
  at_limit = (a[0] - found.interval.low, *a[1:])
  again = scipy.stats.ttest_ind_from_stats(*at_limit, *b, equal_var=False)
  assert again.pvalue == pytest.approx(0.05)


def test_a_lopsided_lead_is_cochran_and_coxs():
  """By hand: v = 0.04 / 4 and 0.09 / 9, so that the critical value is the mean of t(3) and t(8)."""
  a, b = Published(1.0, 0.2, 4), Published(0.5, 0.3, 9)
  found = published.lead(a, b)
  critical = (3.182446 + 2.306004) / 2
  assert found.interval.method == "Cochran and Cox's t"
  assert found.interval.high == pytest.approx(0.5 + critical * math.sqrt(0.02), rel=1e-6)
  edge = published.lead(Published(0.5 + critical * math.sqrt(0.02), 0.2, 4), b)
  assert edge.p_value == pytest.approx(0.05, rel=1e-5)
  assert published.lead(b, b).interval.method == "Welch's t"
  alike = [published.lead(Published(1.0, 0.2, n), Published(0.5, 0.3, m)) for n, m in
           ((5, 9), (10, 20), (9, 18))]  # fmt: skip
  assert [x.interval.method[0] for x in alike] == ["W", "W", "C"]


@pytest.mark.parametrize("lead", [0.0, 1e-4, 0.3, 100.0])
def test_cochran_and_coxs_p_is_found_whatever_the_lead(lead):
  found = published.lead(Published(lead, 0.0074, 3, 0, 1e-4), Published(0, 0.008, 30, 0, 1e-4))
  inside = found.interval.low <= 0
  assert (found.p_value > 0.05) == inside and 0 < found.p_value <= 1


def test_rounding_is_part_of_the_error():
  """sd 0.0 of one decimal: 0.01 / 12 a run; the mean's own rounding adds the same once."""
  one = Published(93.1, 0.0, 4, 0.1, 0.1)
  assert one.run_variance == pytest.approx(0.01 / 12)
  assert one.variance == pytest.approx(0.01 / 48 + 0.01 / 12)
  assert one.df == Published(93.1, 0.2, 4).df == 3
  beside = published.lead(one, dataclasses.replace(one, mean=93.0))
  assert beside.p_value == 1 and beside.interval.low <= 0  # 93.051 and 93.049 may be behind them
  apart = published.lead(one, dataclasses.replace(one, mean=92.7))
  assert apart.p_value == pytest.approx(2 * scipy.stats.t.sf(0.4 / math.sqrt(2 * one.variance), 6))
  many = published.lead(Published(93.1, 0.01, 99, 0.1), Published(93.1, 0.01, 99, 0.1))
  assert many.interval.high == pytest.approx(0.1)
  nothing = published.lead(Published(1.0, 0.0, 3), Published(2.0, 0.0, 3))
  assert math.isnan(nothing.p_value) and math.isnan(nothing.interval.low)


def test_a_known_spread_is_normal():
  a, b = Published(1.0, 0.1, 1, known=True), Published(0.8, 0.1, 4, known=True)
  found = published.lead(a, b)
  assert found.p_value == pytest.approx(2 * scipy.stats.norm.sf(0.2 / math.sqrt(0.01 + 0.0025)))


def test_sds_are_drawn_to_each_other_as_far_as_they_are_alike():
  """Smyth's (2004) estimate: trigamma(d0 / 2) is what the log variances spread beyond chance."""
  alike = [Published(0.0, s, n) for s, n in ((1.0, 4), (1.1, 4), (0.9, 10))]
  drawn, df, one = published.moderated(alike)
  pooled = math.sqrt((3 * 1.0 + 3 * 1.21 + 9 * 0.81) / 15)
  assert one and [m.sd for m in drawn] == pytest.approx([pooled] * 3) and (df == 15).all()

  sds = np.array([0.1, 0.3, 1.0, 3.0, 10.0])
  drawn, df, one = published.moderated([Published(0.0, s, 5) for s in sds])
  prior = df[0] - 4
  excess = np.log(sds**2).var(ddof=1) - scipy.special.polygamma(1, 2)
  assert not one and scipy.special.polygamma(1, prior / 2) == pytest.approx(excess)
  centre = np.log(sds**2).mean() - scipy.special.digamma(2) + math.log(2)
  common = math.exp(centre + scipy.special.digamma(prior / 2) - math.log(prior / 2))
  by_hand = np.sqrt((prior * common + 4 * sds**2) / (prior + 4))
  assert [m.sd for m in drawn] == pytest.approx(by_hand.tolist())

  known = Published(0.0, 5.0, 1, known=True)
  drawn, df, _ = published.moderated([*alike, known])
  assert drawn[3] is known and df[3] == math.inf
  assert published.moderated([known])[0] == [known]
  assert published.luck([*alike, known], 0.1, rng()).p_value > 0.5


def order_gap(k: int) -> float:
  """Expected gap between the two largest of k standard normal values, by quadrature."""

  def above(x):  # exactly one value above x
    return k * scipy.stats.norm.sf(x) * scipy.stats.norm.cdf(x) ** (k - 1)

  return scipy.integrate.quad(above, -8, 8)[0]


@pytest.mark.parametrize("k", [2, 5, 10])
def test_the_lead_by_luck_is_that_of_order_statistics(k):
  """Two values: 2 / sqrt(pi); more by quadrature. Standard errors are 0.2 / sqrt(5)."""
  methods = [Published(0.0, 0.2, 5)] * k
  found = published.luck(methods, 0.1, rng())
  assert order_gap(2) == pytest.approx(2 / math.sqrt(math.pi))
  assert found.expected == pytest.approx(order_gap(k) * 0.2 / math.sqrt(5), rel=0.02)


def test_the_chance_of_a_lead_of_two_is_students():
  a, b = Published(1.0, 0.2, 5), Published(0.8, 0.2, 5)
  expected = scipy.stats.ttest_ind_from_stats(1.0, 0.2, 5, 0.8, 0.2, 5).pvalue
  found = published.luck([a, b], 0.2, rng())
  assert found.p_value == pytest.approx(expected, abs=0.005)


def test_two_leaders_lead_over_the_third():
  methods = [Published(0.0, 1.0, 4)] * 3
  third = published.luck(methods, 0.1, rng(), leaders=2)
  assert third.expected == pytest.approx(0.5 * 1.692569, rel=0.02)  # the range of three, times 1/2
  with pytest.raises(ValueError, match="none to lead"):
    published.luck(methods, 0.1, rng(), leaders=3)


def test_between_variance_solves_paule_and_mandels_equation():
  means, errors2 = np.array([1.0, 2.0, 3.0, 4.0, 7.0]), np.array([0.1, 0.2, 0.3, 0.4, 0.5])
  found = published.between_variance(means, errors2)
  weights = 1 / (found + errors2)
  centre = weights @ means / weights.sum()
  assert weights @ (means - centre) ** 2 == pytest.approx(4)
  equal = published.between_variance(means, np.full(5, 0.3))  # then simply s^2 - e^2
  assert equal == pytest.approx(means.var(ddof=1) - 0.3)
  assert published.between_variance(means, np.full(5, 9.0)) == 0


def test_replication_by_hand():
  """Equal errors e = 0.1: tau^2 = s^2 - e^2, w = 1 - e^2 / s^2; the lead shrinks by w."""
  means = [0.9, 0.8, 0.5, 0.4, 0.2]
  methods = [Published(m, 0.2, 4) for m in means]
  found = published.replication(methods, 0, 1, rng())
  kept = 1 - 0.01 / np.var(means, ddof=1)
  shrunk = kept * 0.1 / math.sqrt(2 * (kept * 0.01 + 0.01))
  assert found.naive == pytest.approx(scipy.stats.norm.cdf(0.1 / math.sqrt(4 * 0.01)))
  assert found.again == pytest.approx(scipy.stats.norm.cdf(shrunk))
  assert found.between_sd == pytest.approx(math.sqrt(np.var(means, ddof=1) - 0.01))
  assert 0.5 < found.best < found.again < found.naive
  alike = [Published(m / 100, 0.2, 4) for m in means]
  assert published.replication(alike, 0, 1, rng()).again == 0.5  # no difference in sight
  assert published.replication(alike, 0, 1, rng()).best == pytest.approx(0.2, abs=0.01)
  with pytest.raises(ValueError, match="4 methods are fewer than the 5"):
    published.replication(methods[:4], 0, 1, rng())


def test_replication_with_unequal_numbers_of_seeds():
  """By the matrix: what is not kept of a mean is the centre's, whose error all of them share."""
  n, means = np.array([40, 2, 2, 2, 2]), np.array([1.2, 0.95, 0.8, 0.75, 0.5])
  methods = [Published(m, 0.5, int(k)) for m, k in zip(means, n, strict=True)]
  found = published.replication(methods, 0, 1, rng())
  error2, between2 = 0.25 / n, found.between_sd**2
  kept, weight = between2 / (between2 + error2), 1 / (between2 + error2)
  mean = kept * means + (1 - kept) * (weight @ means / weight.sum())
  covariance = np.diag(kept * error2 + error2) + np.outer(1 - kept, 1 - kept) / weight.sum()
  contrast = np.array([1, -1, 0, 0, 0])
  z = contrast @ mean / math.sqrt(contrast @ covariance @ contrast)
  assert found.again == pytest.approx(scipy.stats.norm.cdf(z), rel=1e-9)
  drawn = rng(1).multivariate_normal(mean, covariance, 100_000)
  assert found.best == pytest.approx((drawn.argmax(1) == 0).mean(), abs=0.015)


def test_seeds_needed_have_the_power_that_is_promised():
  """Simulated: Welch's test with that many seeds a side finds the lead four times in five."""
  a, b = Published(0.6, 0.3, 5), Published(0.3, 0.4, 5)
  n = int(published.seeds_needed(a, b).estimate)
  draws = rng().standard_normal((4000, 2, n)) * np.array([[0.3], [0.4]]) + [[0.6], [0.3]]
  p = scipy.stats.ttest_ind(draws[:, 0], draws[:, 1], axis=1, equal_var=False).pvalue
  assert np.mean(p <= 0.05) == pytest.approx(0.8, abs=0.02)
  equal = published.seeds_needed(Published(1.0, 0.5, 9), Published(0.5, 0.5, 9))
  assert equal.estimate == 17  # statsmodels 0.15: TTestIndPower().solve_power(1, power=.8) 16.71


def test_seeds_needed_say_nothing_where_there_is_nothing():
  a = Published(1.0, 0.5, 9)
  none = published.seeds_needed(a, a)
  assert none.estimate == none.high == math.inf and none.low < 100
  behind = published.seeds_needed(Published(0.9, 0.5, 9), a)  # it may be ahead in truth
  ahead = published.seeds_needed(a, Published(0.9, 0.5, 9))
  assert behind.estimate == math.inf and ahead.low < behind.low < math.inf
  large = published.seeds_needed(Published(30.0, 0.5, 9), a)
  assert large.estimate == 2 and large.high < 4
  assert math.isnan(published.seeds_needed(Published(1, 0, 3), Published(0, 0, 3)).estimate)


def test_what_other_examples_change():
  """By hand, 100 examples, 0.9 and 0.8: they differ on 0.1, 0.26 or 0.3 of them."""
  found = published.other_examples(0.9, 0.8, 100)
  assert found.same == pytest.approx(math.sqrt((0.1 - 0.01) / 100))
  assert found.independent == pytest.approx(math.sqrt((0.09 + 0.16) / 100))
  assert found.opposed == pytest.approx(math.sqrt((0.3 - 0.01) / 100))
  assert dataclasses.astuple(published.other_examples(0.1, 0.2, 100)) == pytest.approx(
    dataclasses.astuple(found)
  )
  with pytest.raises(ValueError, match="shares"):
    published.other_examples(90.0, 80.0, 100)


def test_holm_by_hand():
  assert published.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
  assert published.holm([0.5, 0.9]) == [1.0, 1.0] and published.holm([]) == []


# Simulations: a few in the fast tests, the tables of docs/statistics.md in the slow ones.


def tables(k: int, n: int, between: float, ratio: float, repetitions: int, seed: int = 0):
  """True means, sds, printed means and sds, [repetitions, k]; the best printed one is first.

  True means are normal with `between` times the standard error of a mean of n runs whose sd is 1,
  sds log-uniform within a factor of `ratio`.
  """
  draw = rng(seed)
  shape = repetitions, k
  sd = np.exp(draw.uniform(-0.5, 0.5, shape) * math.log(ratio))
  true = draw.normal(0, between / math.sqrt(n), shape) if between else np.zeros(shape)
  mean = true + sd / math.sqrt(n) * draw.standard_normal(shape)
  printed_sd = sd * np.sqrt(draw.chisquare(n - 1, shape) / (n - 1))
  order = np.argsort(-mean, axis=1)
  return [np.take_along_axis(x, order, axis=1) for x in (true, sd, mean, printed_sd)]


def shown_to_be_best(mean, sd, n: int) -> np.ndarray:
  """bool[repetitions]: the first beats all others by Welch's t at 5 %."""
  p = scipy.stats.ttest_ind_from_stats(
    mean[:, :1], sd[:, :1], n, mean[:, 1:], sd[:, 1:], n, equal_var=False
  ).pvalue
  return p.max(axis=1) <= 0.05


def false_best(k: int, n: int, ratio: float, gap: float, repetitions: int) -> float:
  """%: a method is shown to be best that is not. Two are equal, the others `gap` sds below."""
  draw = rng(k + n)
  shape = repetitions, k
  sd = np.exp(draw.uniform(-0.5, 0.5, shape) * math.log(ratio))
  true = np.where(np.arange(k) < 2, 0.0, -gap) * np.ones(shape)
  mean = true + sd / math.sqrt(n) * draw.standard_normal(shape)
  printed_sd = sd * np.sqrt(draw.chisquare(n - 1, shape) / (n - 1))
  order = np.argsort(-mean, axis=1)
  mean, printed_sd = (np.take_along_axis(x, order, axis=1) for x in (mean, printed_sd))
  return 100 * shown_to_be_best(mean, printed_sd, n).mean()


def replications(k: int, n: int, between: float, ratio: float, repetitions: int):
  """Per table: true chances (beats it again, best again), and what `replication` says."""
  true, sd, mean, printed_sd = tables(k, n, between, ratio, repetitions, k + n)
  draw = rng(1)
  rows = []
  for at in range(repetitions):
    methods = [Published(m, s, n) for m, s in zip(mean[at], printed_sd[at], strict=True)]
    said = published.replication(methods, 0, 1, draw)
    error = sd[at] / math.sqrt(n)
    again = scipy.stats.norm.cdf((true[at, 0] - true[at, 1]) / math.hypot(*error[:2]))
    fresh = true[at] + error * draw.standard_normal((200, k))
    rows.append((again, (fresh.argmax(1) == 0).mean(), said.naive, said.again, said.best))
  return np.array(rows).T


@pytest.mark.parametrize(("k", "n"), [(2, 5), (5, 3), (10, 5)])
def test_what_is_not_the_best_is_rarely_shown_to_be(k, n):
  """4,000 tables: two standard errors are 0.7 points."""
  assert false_best(k, n, 1.0, 2.0, 4000) < 5.7
  assert false_best(k, n, 1.0, 0.0, 4000) < 5.7


def test_the_chance_of_replication_is_shrunk_far_enough():
  """Ten equal methods: the runner-up wins the next time in half of all cases."""
  again, best, naive, shrunk, shrunk_best = replications(10, 5, 0.0, 1.0, 200).mean(axis=1)
  assert again == 0.5 and best == pytest.approx(0.1, abs=0.01)
  assert naive == pytest.approx(0.61, abs=0.02) and shrunk == pytest.approx(0.525, abs=0.015)
  assert shrunk_best < 0.16


def lead_coverage(n: int, m: int, sd: float, step: float, repetitions: int) -> float:
  """%: the interval of a lead holds 0, the truth; sds 1 and `sd`, printed to that step."""
  draw = rng(100 * n + m)
  held = 0
  for _ in range(repetitions):
    grid = draw.uniform(0, 10)  # where the truth lies between the printed numbers
    runs = draw.standard_normal(n), sd * draw.standard_normal(m)
    two = []
    for x in runs:
      mean, spread = x.mean() + grid, x.std(ddof=1)
      if step:
        mean, spread = step * round(mean / step), step * round(spread / step)
      two.append(Published(mean, spread, len(x), step, step))
    interval = published.lead(*two).interval
    held += interval.low <= 0 <= interval.high
  return 100 * held / repetitions


def test_leads_cover_though_they_are_rounded():
  """400 tables each: two standard errors are 2.2 points."""
  assert lead_coverage(3, 3, 1.0, 2.0, 400) > 93 and lead_coverage(3, 10, 1.0, 0.5, 400) > 93


@pytest.mark.slow
def test_coverage_of_leads():
  print("\n| seeds | sds | exact | step 0.5 | step 1 | step 2 |\n|" + " --- |" * 6)
  for n, m in ((3, 3), (5, 5), (10, 10), (3, 10), (3, 30)):
    for sd in (1.0, 3.0):
      found = [lead_coverage(n, m, sd, step, 1000) for step in (0.0, 0.5, 1.0, 2.0)]
      print(f"| {n}, {m} | 1, {sd:g} | " + " | ".join(f"{x:.1f}" for x in found) + " |")
      assert min(found) > 93


@pytest.mark.slow
def test_false_best_entries():
  print("\n| methods | seeds | all equal | sds 1 to 4 | two equal | sds 1 to 4 |\n|" + " --- |" * 6)
  for k in (2, 5, 10):
    for n in (3, 5, 10):
      found = [false_best(k, n, ratio, gap, 20_000) for gap in (0.0, 3.0) for ratio in (1.0, 4.0)]
      print(f"| {k} | {n} | " + " | ".join(f"{x:.1f}" for x in found) + " |")
      assert max(found) < 6.5


@pytest.mark.slow
def test_calibration_of_replication():
  head = (
    "| methods | seeds | true means differ by | sds 1 to | again: actual | naive | shrunk"
    " | best of all: actual | shrunk |"
  )
  print(f"\n{head}\n|" + " --- |" * 9)
  for k in (5, 10):
    for n in (3, 10):
      for between, ratio in ((0, 1), (0, 4), (1, 1), (3, 1), (3, 4), (3, 30)):
        again, best, *said = replications(k, n, between, ratio, 1000).mean(axis=1)
        cells = [again, said[0], said[1], best, said[2]]
        print(f"| {k} | {n} | {between:g} | {ratio:g} | "
              + " | ".join(f"{100 * x:.0f}" for x in cells) + " |")  # fmt: skip
        assert said[1] <= said[0] and abs(said[1] - again) < 0.06


@pytest.mark.slow
def test_reliability_of_replication():
  """Of leads to which about the same chance is given, how many do win again."""
  print("\n| said | tables | actual |\n| --- | --- | --- |")
  drawn = [replications(k, n, b, 1.0, 400) for k in (5, 10) for n in (3, 10) for b in (1, 2, 4)]
  again, _, _, said, _ = np.hstack(drawn)
  for low, high in ((0.5, 0.6), (0.6, 0.7), (0.7, 0.8), (0.8, 0.9), (0.9, 0.97), (0.97, 1.01)):
    some = (said >= low) & (said < high)
    print(f"| {100 * said[some].mean():.0f} | {some.sum()} | {100 * again[some].mean():.0f} |")
    assert abs(said[some].mean() - again[some].mean()) < 0.08


@pytest.mark.slow
def test_the_p_value_of_luck():
  print("\n| methods | seeds | equal sds | sds 1 to 4 |\n| --- | --- | --- | --- |")
  for k in (2, 5, 10):
    for n in (3, 10):
      found = []
      for ratio in (1.0, 4.0):
        _, _, mean, sd = tables(k, n, 0.0, ratio, 1000, k + n)
        draw, p = rng(2), []
        for means, sds in zip(mean, sd, strict=True):
          methods = [Published(m, s, n) for m, s in zip(means, sds, strict=True)]
          p.append(published.luck(methods, means[0] - means[1], draw).p_value)
        found.append(100 * np.mean(np.array(p) <= 0.05))
      print(f"| {k} | {n} | {found[0]:.1f} | {found[1]:.1f} |")
      assert found[0] < 6.7


@pytest.mark.slow
def test_coverage_of_seeds_needed():
  """80 % intervals; the truth is the number for the true lead and sds."""
  print("\n| seeds | lead in sds | needed | covered | too low | too high | no limit |")
  print("|" + " --- |" * 7)
  for n in (3, 5, 10):
    for lead in (0.5, 1.0, 2.0):
      truth = published.seeds_needed(Published(lead, 1, 9), Published(0, 1, 9)).estimate
      draw, low, high, unlimited = rng(n), 0, 0, 0
      for _ in range(400):
        a, b = lead + draw.standard_normal(n), draw.standard_normal(n)
        found = published.seeds_needed(
          Published(a.mean(), a.std(ddof=1), n), Published(b.mean(), b.std(ddof=1), n)
        )
        high += found.low > truth
        low += found.high < truth
        unlimited += found.high == math.inf
      inside = 400 - low - high
      row = [inside, low, high, unlimited]
      print(f"| {n} | {lead:g} | {truth:.0f} | "
            + " | ".join(f"{x / 4:.0f} %" for x in row) + " |")  # fmt: skip
      assert inside / 4 > 74


# The reader.


@pytest.mark.parametrize(
  ("cell", "mean", "step", "spread", "bold", "percent"),
  [
    ("93.10 ± 0.2", 93.1, 0.01, 0.2, False, False),
    ("93.1+/-0.20", 93.1, 0.1, 0.2, False, False),
    (r"$93.1 \pm 0.2$", 93.1, 0.1, 0.2, False, False),
    (r"\textbf{93.1} $\pm$ \textbf{0.2}", 93.1, 0.1, 0.2, True, False),
    (r"$\mathbf{93.1}_{\pm 0.2}$", 93.1, 0.1, 0.2, True, False),
    (r"{\bf 93.1} (0.2)", 93.1, 0.1, 0.2, True, False),
    ("$93.1_{0.2}$", 93.1, 0.1, 0.2, False, False),
    ("**93.1** (.2)", 93.1, 0.1, 0.2, True, False),
    ("__93.1 ± 0.2__", 93.1, 0.1, 0.2, True, False),
    ("<b>93.1</b>&plusmn;0.2", 93.1, 0.1, 0.2, True, False),
    ("93.1% ± 0.2%", 93.1, 0.1, 0.2, False, True),
    (r"93.1\% (0.2\%)", 93.1, 0.1, 0.2, False, True),
    ("\N{MINUS SIGN}110 ± 3", -110, 1, 3, False, False),
    (r"\underline{93.1}$^{\dagger}$", 93.1, 0.1, None, False, False),
    ("93.1*", 93.1, 0.1, None, False, False),
    ("1.20e-3 ± 1e-4", 1.2e-3, 1e-5, 1e-4, False, False),
  ],
)
def test_cells(cell, mean, step, spread, bold, percent):
  (entry,) = printed.read(pd.DataFrame({"method": ["a"], "x": [cell]}), spread="sd").entries
  assert (entry.mean, entry.step, entry.bold, entry.percent) == (mean, step, bold, percent)
  assert entry.spread == spread if spread else math.isnan(entry.spread)
  assert (entry.benchmark, entry.method, entry.n) == ("x", "a", None)


@pytest.mark.parametrize("cell", ["", "-", "—", "n/a", "--", "nan"])
def test_empty_cells_hold_nothing(cell):
  table = pd.DataFrame({"method": ["a", "b"], "x": [cell, "1.0"]})
  assert [entry.method for entry in printed.read(table).entries] == ["b"]


@pytest.mark.parametrize(
  ("column", "kind"),
  [
    ("sd", "sd"), ("Std", "sd"), ("stdev", "sd"), ("acc_std", "sd"), ("std_acc", "sd"),
    ("SEM", "sem"), ("se", "sem"), ("std. error", "sem"), ("acc stderr", "sem"),
    ("ci", "ci95"), ("95% CI", "ci95"), ("half-width", "ci95"), ("ci95", "ci95"),
  ],
)  # fmt: skip
def test_the_name_of_the_column_says_what_the_spread_is(column, kind):
  """sd, sem sqrt(n), half-width sqrt(n) / 1.96."""
  table = frame("method,mean,S,n\na,1.5,0.10,4").rename(columns={"S": column})
  (entry,) = printed.read(table).entries
  sd = {"sd": 0.1, "sem": 0.2, "ci95": 0.2 / 1.96}[kind]
  assert entry.kind == kind and entry.sd() == pytest.approx((sd, sd / 10))


def test_layouts_and_formats_hold_the_same(tmp_path):
  long = "benchmark,method,mean,sd,n\nx,a,1.0,0.1,3\nx,b,**1.2**,0.2,3\ny,a,5.0,0.5,3\n"
  files = {
    "t.csv": long,
    "bom.csv": "\ufeff" + long.replace("\n", "\r\n") + "\r\n",
    "t.tsv": long.replace(",", "\t"),
    "t.md": "# T\n\n| method | x | y |\n|---|---|---|\n| a | 1.0 ± 0.1 | 5.0±0.5 |\n"
            "| b | **1.2 ± 0.2** | - |\n\nwords\n",
    "t.tex": "\\begin{tabular}{lcc}\n\\toprule\nmethod & x & y \\\\ \\midrule % no & here\n"
             "a & $1.0 \\pm 0.1$ & 5.0 (0.5) \\\\[2pt]\n\\cmidrule(lr){1-2}\n"
             "\\textbf{b} & $\\mathbf{1.2 \\pm 0.2}$ & -- \\\\\n\\bottomrule\n\\end{tabular}\n",
  }  # fmt: skip
  seen = []
  for name, content in files.items():
    (tmp_path / name).write_bytes(content.encode())
    long_table = name.endswith("sv")
    options = {} if long_table else {"spread": "sd", "n": 3}
    entries = printed.read(tmp_path / name, **options).entries
    seen.append(sorted((e.benchmark, e.method, e.mean, e.step, e.spread, e.kind, e.n, e.bold)
                       for e in entries))  # fmt: skip
  assert seen[0][1] == ("x", "b", 1.2, 0.1, 0.2, "sd", 3, True)
  assert all(other == seen[0] for other in seen[1:])


def test_which_columns_are_benchmarks():
  wide = frame("Model,x,y,Average\na,1,2,1.5\nb,2,3,2.5")
  assert {e.benchmark for e in printed.read(wide).entries} == {"x", "y", "Average"}
  named = printed.read(wide, metric="y")
  assert [e.mean for e in named.entries] == [2, 3] and named.reading[-1] == (
    "Not read: 'x', 'Average'."
  )
  long = frame("task,model,accuracy,std,seeds,venue\nx,a,.9,.1,3,v")
  read = printed.read(long)
  assert (read.metric, read.reading[-1]) == ("accuracy", "Not read: 'venue'.")
  assert [e.mean for e in printed.read(frame("method,score\na,1")).entries] == [1]


@pytest.mark.parametrize(
  ("text", "options", "message"),
  [
    ("method,x\na,93.1±0.2", {}, r"row 1, column 'x': '93.1±0.2': is the spread a standard dev"),
    ("method,mean,spread,n\na,1,2,3", {}, "column 'spread': is the spread"),
    ("method,mean,sd,n\na,1,2,3", {"spread": "sem"}, "'sem' contradicts column 'sd'"),
    ("method,mean,sd,sem\na,1,2,3", {}, "several columns may be the spread: 'sd', 'sem'"),
    ("method,mean,score,sd\na,1,2,3", {}, "several columns may be the mean: 'mean', 'score'"),
    ("method,model,mean,sd\na,1,2,3", {}, "may be the method: 'method', 'model'; rename"),
    ("mean,sd\n1,2", {}, "no column is the method"),
    ("method,mean,sd,n\na,1,2,3", {"n": 4}, "n=4 is said twice: the table has a column 'n'"),
    ("method,mean,sd,n\na,1,2,2.5", {}, "row 1: 'n' must be a whole number of at least 1"),
    ("method,mean,sd,n\na,1,2,0", {}, "row 1: 'n' must be a whole number"),
    ("method,mean,sd,n\na,1,-2,3", {}, "row 1, column 'sd': a spread is never negative"),
    ("method,mean,sd,n\na,1,x,3", {}, "row 1, column 'sd': 'x' cannot be read"),
    ("method,mean,sd,n\na,1,2,3\na,2,2,3", {}, "row 2: 'a' was there before, in row 1"),
    ("method,mean,sd,n\n,1,2,3", {}, "row 1: the method has no name in column 'method'"),
    ("method,x\na,93.1(2)", {"spread": "sd"}, "may mean ± 2 or so many of the last digits"),
    ("method,x\na,diverged", {}, "row 1, column 'x': 'diverged' cannot be read as a mean"),
    ("method,x\na,1e999", {}, "too large"),
    ("method,x\na,-", {}, "holds no mean"),
    ("method\na", {}, "no column holds results"),
    ("method,mean,sd\na,1,2", {"spread": "std"}, "spread='std' is not known"),
    ("method,mean,sd\na,1,2", {"n": 0}, "n=0 must be at least 1"),
  ],
)
def test_what_cannot_be_read_names_row_and_column(text, options, message):
  with pytest.raises(UserError, match="(?s)" + message.replace("(2)", r"\(2\)")):
    printed.read(frame(text), **options)


@pytest.mark.parametrize(
  ("name", "content", "message"),
  [
    ("t.csv", b"method,mean\na,1\n\nb,2,3\n", "line 4: 3 cells under 2 headings; quote a cell"),
    ("t.csv", b"method,mean\na\n", "line 2: 1 cell under 2 headings$"),
    ("t.csv", b'method,mean\n"a,1\n', "line 2: unexpected end of data"),
    ("t.csv", b"\xff\xfe", "byte 0 is not UTF-8"),
    ("t.csv", b"", "holds no table"),
    ("t.csv", b"method,mean\n", "the table has no rows"),
    ("t.md", b"words\n", "holds no table"),
    ("t.md", b"|a|b|\n|-|-|\n|1|\n", "line 3: 1 cell under 2 headings"),
    ("t.tex", b"a & b \\\\\n\\multicolumn{2}{c}{x} & 1 \\\\", "line 2: .multicolumn"),
    ("t.csv", b"method,x,x\na,1,2\n", "column 'x' occurs more than once"),
  ],
)
def test_files_that_cannot_be_read_name_the_line(tmp_path, name, content, message):
  (tmp_path / name).write_bytes(content)
  with pytest.raises(UserError, match=message):
    printed.read(tmp_path / name)


SEMICOLONS = """\
method;accuracy;sd;n;test_size
base;93,1;0,20;5;10.000
ours;**93,95**;0,2;5;10.000
"""


@pytest.mark.parametrize(
  ("name", "content", "spread"),
  [
    ("t.csv", SEMICOLONS, None),
    ("t.csv", SEMICOLONS.replace(";", "\t"), None),
    ("t.tsv", SEMICOLONS.replace(";", "\t"), None),
    ("t.csv", 'method,accuracy,sd,n,test_size\nbase,"93,1","0,20",5,"10000"\n'
              'ours,"**93,95**","0,2",5,10000\n', None),
    ("t.csv", "method;accuracy;n;test_size\nbase;93,1 ± 0,20;5;10.000\n"
              "ours;**93,95** (0,2);5;10000\n", "sd"),
    ("t.txt", "| method | accuracy | n | test_size |\n|-|-|-|-|\n"
              "| base | 93,1 ± 0,20 | 5 | 10000 |\n"
              "| ours | **93,95 ± 0,2** | 5 | 10000 |\n", "sd"),
    ("t.txt", "\\begin{tabular}{llll}\nmethod & accuracy & n & test_size \\\\\n"
              "base & $93{,}1 \\pm 0{,}20$ & 5 & 10000 \\\\\n"
              "ours & \\textbf{93{,}95}$_{\\pm 0{,}2}$ & 5 & 10000 \\\\\n\\end{tabular}", "sd"),
  ],
)  # fmt: skip
def test_decimal_commas_and_semicolons(tmp_path, name, content, spread):
  (tmp_path / name).write_text(content)
  read = printed.read(tmp_path / name, spread=spread)
  found = [(e.method, e.mean, e.step, e.spread, e.spread_step, e.n, e.test_size, e.bold)
           for e in read.entries]  # fmt: skip
  assert found == [
    ("base", 93.1, 0.1, 0.2, 0.01, 5, 10_000, False),
    ("ours", 93.95, 0.01, 0.2, 0.1, 5, 10_000, True),
  ]
  assert "Commas were read as decimal commas." in read.reading


@pytest.mark.parametrize(
  ("cells", "means"),
  [
    (("1,234.5", "1,999"), (1234.5, 1999)), (("1,234,567", "2"), (1234567, 2)),
    (("1,234 ± 1.5", "99"), (1234, 99)), (("0,123", "1,500"), (0.123, 1.5)),
    (("1.234,5", "12,345"), (1234.5, 12.345)),
  ],
)  # fmt: skip
def test_commas_that_only_one_reading_fits(cells, means):
  read = printed.read(pd.DataFrame({"method": ["a, 1,2", "b"], "x": cells}), spread="sd")
  assert tuple(entry.mean for entry in read.entries) == means
  assert read.entries[0].method == "a, 1,2" and "Commas were read as" in read.reading[-1]


@pytest.mark.parametrize(
  ("cells", "message"),
  [
    (("1,234", "2,345"), "row 1, column 'x': the comma of '1,234' may be a decimal comma or"),
    (("93,1", "93.5"), "row 1, column 'x': '93,1' has a decimal comma, but '93.5' .row 2, column"),
    (("93,1", "1,234.5"), "row 1, column 'x': '93,1' has a decimal comma, but '1,234.5' .row 2"),
    (("1,23,4", "2"), "row 1, column 'x': '1,23,4' cannot be read .* decimal point and no thous"),
    (("93 [92, 94]", "2"), "row 1, column 'x': .* write the half-width of an interval"),
  ],
)
def test_commas_that_may_be_either_are_refused(cells, message):
  with pytest.raises(UserError, match=message):
    printed.read(pd.DataFrame({"method": ["a", "b"], "x": cells}), spread="sd")


def test_a_count_with_three_zeros_is_not_guessed():
  counts = pd.DataFrame({"method": ["a"], "x": ["1"], "n": ["5.0"], "test_size": ["10,000"]})
  (entry,) = printed.read(counts).entries
  assert (entry.n, entry.test_size) == (5, 10_000)
  for wrong in ("10.000", "5,0", "1,00"):
    with pytest.raises(UserError, match=f"'test_size' must be a whole number .*'{wrong}'"):
      printed.read(counts.assign(test_size=wrong))


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("method,seed,acc\nbase,0,1\nbase,1,2\nours,0,3", "row 2: 'base' is there again, and 'seed'"),
    ("acc,run_id,Model\n1,a7,base\n1,b8,base", "row 2: 'base' is there again, and 'run_id'"),
    ("lr,Trial,acc\n.1,0,1\n.1,1,2", "row 2: '.1' is there again, and 'Trial'"),
    ("task,method,seed,acc\nx,a,0,1\ny,a,0,1\nx,a,1,2", "row 3: 'a' is there again, and 'seed'"),
    ("seed,base,ours\n0,1,2\n1,2,3", "column 'seed' numbers runs: this has a row for each run"),
    ("method,seed0,seed1\na,1,2\nb,2,3", "'seed0', 'seed1': this has a column for each run"),
    ("method,acc\na,1\na,2", "row 2, column 'acc': 'a' on 'acc' was there before"),
  ],
)
def test_a_table_of_runs_is_for_compare(text, message):
  with pytest.raises(UserError, match=f"{message}.*") as caught:
    printed.read(frame(text))
  assert "seedlab compare" in str(caught.value)


def test_columns_that_hold_no_results_are_named_and_not_read():
  """Words, what a method costs beside cells with spreads, and a seed that all runs share."""
  table = frame("Method,Net,Params(M),seed,x\na,ResNet-50,25.6,0,1.0±0.1\nb,ViT-B,86,0,2.0±0.1")
  read = printed.read(table, spread="sd", n=3)
  assert {entry.benchmark for entry in read.entries} == {"x"}
  assert read.reading[-1] == "Not read: 'Net', 'Params(M)', 'seed'."
  gains = printed.read(frame("Method,x,Δ,Rank\na,1.0±0.1,-,2\nb,2.0±0.1,+1,1"), spread="sd")
  assert gains.reading[-1] == "Not read: 'Δ', 'Rank'."
  ends = printed.read(frame("method,accuracy,min,max,n\na,93.1,92,94,5"))
  assert len(ends.entries) == 1 and ends.reading[-1] == "Not read: 'min', 'max'."
  with pytest.raises(UserError, match="column 'variance' holds variances, which are no spread"):
    printed.read(frame("method,error,variance,n\na,6.1,0.04,5"))
  named = printed.read(frame("run,x\nbase,1\nours,2"))
  assert [entry.method for entry in named.entries] == ["base", "ours"]


LATEX = r"""
\begin{tabular}{@{}lcc@{}} \hline
\textbf{Model} & MNLI (Acc.\ $\pm$ std) & KID $\times 10^3$ $\Downarrow$ \\ \hline\hline
BERT~\cite[p.~3]{devlin2018} & 84.6$_{\pm 0.2}$ & \textcolor{red}{3.1 $\pm$ 0.1} \\
\rowcolor{gray!20} Ours$^\dagger$ & \cellcolor{blue!10}\textbf{87.1}$_{\pm 0.2}$ & 2.9 $\pm$ 0.1 \\
\end{tabular}
"""


def test_colours_citations_and_footnotes_are_no_part_of_names(tmp_path):
  (tmp_path / "t.tex").write_text(LATEX)
  found = [(e.benchmark, e.method, e.mean, e.bold)
           for e in printed.read(tmp_path / "t.tex", spread="sd").entries]  # fmt: skip
  kid = "KID 10^3 ↓"
  assert found == [
    ("MNLI (Acc.)", "BERT", 84.6, False), ("MNLI (Acc.)", "Ours", 87.1, True),
    (kid, "BERT", 3.1, False), (kid, "Ours", 2.9, False),
  ]  # fmt: skip


def test_a_heading_that_names_mean_and_spread():
  """Accuracy (mean ± std) says what is better and what the spread is."""
  table = frame("Method,Accuracy_(mean±std),Seeds\na,0.951±0.002,5\nb,0.958±0.001,5")
  table.columns = ["Method", "Accuracy (mean ± std)", "Seeds"]
  (one,) = seedlab.audit(table).benchmarks
  assert (one.name, one.better, one.share, one.winner.kind, one.winner.n) == (
    "Accuracy", "higher", True, "sd", 5,
  )  # fmt: skip
  assert printed.read(table.set_axis(["m", "x +/- SE", "n"], axis=1)).entries[0].kind == "sem"
  with pytest.raises(UserError, match="spread='sem' contradicts column 'Accuracy"):
    printed.read(table, spread="sem")


def test_a_column_for_each_method():
  turned = frame("Game,DQN,Ours\nAlien,1±1,**9±1**\nPong,2±1,3±1")
  read = printed.read(turned, spread="sd", n=3)
  assert [(e.benchmark, e.method, e.mean, e.bold) for e in read.entries] == [
    ("Alien", "DQN", 1, False), ("Pong", "DQN", 2, False),
    ("Alien", "Ours", 9, True), ("Pong", "Ours", 3, False),
  ]  # fmt: skip
  assert "a row for each benchmark and a column for each method" in read.reading[0]
  assert read.reading[1] == "Columns: 'Game' as benchmark."
  metrics = seedlab.audit(frame("metric,a,b\nFID,1,2\naccuracy,90,80"))
  assert [b.name for b in metrics.benchmarks] == ["FID", "accuracy"]
  assert [b.winner.method for b in metrics.benchmarks] == ["a", "a"]


def test_a_column_of_metrics_is_part_of_the_benchmark():
  rows = "X,mAP,a,37,.2,3 X,mAP,b,38,.2,3 X,loss,a,2,.1,3 X,loss,b,1,.1,3"
  long = frame(f"dataset,metric,model,value,std,n {rows}")
  found = seedlab.audit(long).benchmarks
  assert [(b.name, b.better) for b in found] == [("X mAP", "higher"), ("X loss", "lower")]


@pytest.mark.parametrize("names", ["ci_low,ci_high", "lower,upper", "95%_CI_lower,95%_CI_upper"])
def test_limits_of_an_interval_are_not_taken_for_its_half_width(names):
  with pytest.raises(UserError, match="look like the limits of an interval; write its half-width"):
    printed.read(frame(f"method,mean,{names},n\na,1,0,2,3"))
  assert printed.read(frame("method,mean,sd,low,high,n\na,1,1,0,2,3")).entries[0].kind == "sd"


# The audit.


def test_the_whole_of_a_table(tmp_path):
  """Leads, tests and counts by scipy and by hand; the marks decide what is bold."""
  (tmp_path / "t.md").write_text(WIDE)
  found = seedlab.audit(tmp_path / "t.md", spread="sd", n=5, metric="accuracy", test_size=10_000)
  ten, hundred, svhn = found.benchmarks
  assert [b.winner.method for b in found.benchmarks] == ["Ours"] * 3
  assert [b.runner_up.method for b in found.benchmarks] == ["C", "C", "B"]
  assert [b.verdict for b in found.benchmarks] == ["open", "best", "open"] and ten.percent
  plain = scipy.stats.ttest_ind_from_stats(94.52, 0.17, 5, 94.40, 0.18, 5, equal_var=False).pvalue
  assert ten.lead.p_value == pytest.approx(plain, rel=0.01)  # printed to 0.01: hardly any rounding
  assert hundred.p_holm == pytest.approx(3 * hundred.p_value)
  assert ten.p_holm == pytest.approx(2 * ten.p_value)
  assert svhn.p_value == svhn.p_holm == 1  # 96.6 and 96.5 may be 96.551 and 96.549
  assert (ten.methods, svhn.methods, svhn.judged) == (5, 5, 4)
  assert ten.replication and svhn.replication is None  # four are fewer than five
  assert svhn.why == ["Base is not judged: no spread is printed."]
  both = 0.9452 * 0.0548 + 0.944 * 0.056
  assert ten.examples.independent == pytest.approx(100 * math.sqrt(both / 10_000))
  assert found.if_sem == 0  # sds of 0.9 and 0.7 for a lead of 1.3
  assert ten.seeds.high == math.inf and ten.seeds.low < ten.seeds.estimate < 100
  assert seedlab.audit(tmp_path / "t.md", spread="sd", n=5, metric="accuracy",
                       test_size=10_000) == found  # fmt: skip


SD = "method,mean,sd,n\na,10.0,1.0,9\nb,8.4,1.0,9\n"


def test_sd_and_standard_error_are_not_the_same():
  as_sd, as_sem = audit(SD, better="higher"), audit(SD.replace("sd", "sem"), better="higher")
  assert as_sd.benchmarks[0].verdict == "best" and as_sd.if_sem == 0
  assert as_sem.benchmarks[0].verdict == "open" and as_sem.if_sem is None
  assert as_sem.benchmarks[0].lead.error == pytest.approx(3 * as_sd.benchmarks[0].lead.error, 0.01)
  text = report.audit_text(as_sd)
  assert "If they are standard errors, 0 instead of 1" in " ".join(text.split())
  assert "Were both equal" in " ".join(text.split())
  wide = " ".join(report.audit_text(audit(SD.replace("8.4", "1.0"), better="higher")).split())
  assert "If they are standard errors, still 1 of the bold entries is shown" in wide
  half = audit(SD.replace("sd", "ci95"), better="higher")
  assert "divided by 1.96" in " ".join(report.audit_text(half).split())


def test_lower_is_better_turns_everything():
  up = audit(SD, better="higher").benchmarks[0]
  turned = SD.replace("10.0", "2.0").replace("8.4", "3.6")
  down = audit(turned, better="lower").benchmarks[0]
  assert down.winner.method == "a" and down.verdict == "best"
  assert down.lead.interval.estimate == pytest.approx(up.lead.interval.estimate)
  assert audit(turned, metric="test_loss").benchmarks[0].winner.method == "a"
  assert audit(turned.replace("mean", "val_loss"), ).benchmarks[0].better == "lower"
  arrow = pd.DataFrame({"method": ["a", "b"], "FID ↓": ["2 ± 1", "3 ± 1"], "IS ↑": ["2", "3"]})
  found = seedlab.audit(arrow, spread="sd", n=3)
  assert [b.winner.method for b in found.benchmarks] == ["a", "b"]
  with pytest.raises(UserError, match="nobody says which way 'mean' is better"):
    audit(SD)
  with pytest.raises(UserError, match="better='up' is not known"):
    audit(SD, better="up")


MIXED = pd.DataFrame(
  {
    "Method": ["a", "b"],
    "FID ↓": ["3.40 ± 0.05", "**3.10 ± 0.04**"],
    "IS ↑": ["9.1 ± 0.1", "**9.4 ± 0.1**"],
    "Precision": ["0.70 ± 0.01", "**0.80 ± 0.01**"],
    "Mystery": ["1.0 ± 0.1", "**2.0 ± 0.1**"],
  }
)


def test_what_the_user_says_fills_in_where_no_heading_says_it():
  """An arrow and a known word are never overruled, and what was not used is said."""
  up, down = (seedlab.audit(MIXED, spread="sd", n=5, better=way) for way in ("higher", "lower"))
  assert [one.better for one in up.benchmarks] == ["lower", "higher", "higher", "higher"]
  assert [one.better for one in down.benchmarks] == ["lower", "higher", "higher", "lower"]
  assert up.benchmarks[0].verdict == "best"
  (denied,) = [said for said in up.reading if said.startswith("Not used")]
  assert "'FID ↓': --better=higher, since the heading says lower" in denied
  (denied,) = [said for said in down.reading if said.startswith("Not used")]
  assert "'IS ↑', 'Precision': --better=lower, since the heading says higher" in denied
  assert "By --better=lower, lower is better on 'Mystery'." in down.reading
  named = seedlab.audit(MIXED, spread="sd", n=5, metric="val_loss")
  assert [one.better for one in named.benchmarks] == ["lower", "higher", "higher", "lower"]
  both = seedlab.audit(MIXED, spread="sd", n=5, metric="val_loss", better="higher")
  assert both.benchmarks[3].better == "higher"
  assert "--better=higher was followed, though --metric=val_loss says lower." in both.reading
  with pytest.raises(UserError, match=r"'Mystery' is better; write ↑ or ↓ .* no heading says"):
    seedlab.audit(MIXED, spread="sd", n=5)
  with pytest.raises(UserError, match=r"'x' is better \(nor 'y'\)"):
    audit("method,x,y\na,1,2\nb,2,3")
  long = audit(SD.replace("mean", "error"), better="higher")
  assert long.benchmarks[0].better == "lower" and "Not used for 'error'" in long.reading[-1]


@pytest.mark.parametrize(
  ("heading", "way"),
  [
    ("x ↓", "lower"), ("x (↑)", "higher"), (r"x $\Downarrow$", "lower"), (r"x \uparrow", "higher"),
    ("x (lower is better)", "lower"), ("x, higher better", "higher"), ("x &darr;", "lower"),
    ("accuracy ↓", "lower"),
  ],
)  # fmt: skip
def test_a_heading_says_which_way_is_better(heading, way):
  wide = pd.DataFrame({"method": ["a", "b"], heading: ["1", "2"]})
  long = pd.DataFrame({"method": ["a", "b"], "dataset": [heading] * 2, "score": ["1", "2"]})
  column = pd.DataFrame({"method": ["a", "b"], heading: ["1", "2"], "sd": ["1", "1"]})
  for table in (wide, long):
    assert seedlab.audit(table).benchmarks[0].better == way
  assert seedlab.audit(column, metric=printed.read(wide).entries[0].benchmark).benchmarks[
    0].better == way  # fmt: skip


def test_units_are_those_of_each_benchmark():
  """Points are of percentages: not of an FID beside them, and not of what an arrow alone names."""
  found = seedlab.audit(MIXED, spread="sd", n=5, metric="accuracy")
  assert [one.percent for one in found.benchmarks] == [None, None, None, True]
  text = " ".join(report.audit_text(found).split())
  assert "in percent: Mystery;" in text and "shares in percent" not in text
  assert "leads a by 0.300 (" in text and "leads a by 1.00 points (" in text
  assert [b["unit"] for b in report.audit_json(found)["benchmarks"]] == [None] * 3 + ["points"]
  marked = MIXED.rename(columns={"Mystery": "F1 (%)", "Precision": "ImageNet 1%"})
  f1 = seedlab.audit(marked, spread="sd", n=5, test_size=100, better="higher").benchmarks
  assert [one.percent for one in f1] == [None, None, None, True]
  assert f1[3].examples is None  # F1 is no share of examples
  rate = pd.DataFrame({"method": ["a", "b"], "WER": ["120%", "30%"], "Change (%)": ["-3", "4"]})
  assert [one.percent for one in seedlab.audit(rate, better="higher").benchmarks] == [True] * 2


def test_the_rounding_of_the_printed_numbers_is_named_beside_p():
  """By hand: t = 0.1 / sqrt(0.04 / 5 + 0.01 / 5) = 1 with 5.88 degrees of freedom, p = 0.36."""
  found = audit("method,accuracy,sd,n\na,93.6,0.2,5\nb,93.5,0.1,5\n")
  lead = found.benchmarks[0].lead
  half = scipy.stats.t.isf(0.025, 0.01**2 / (0.008**2 / 4 + 0.002**2 / 4)) * 0.1
  assert lead.as_printed_p == pytest.approx(0.357, abs=0.001) and lead.p_value == 1
  assert lead.as_printed.high == pytest.approx(0.1 + half)
  text = " ".join(report.audit_text(found).split())
  assert "(-0.16 to 0.36, Welch's t, p = 0.36 without, 1 with the rounding of the printed" in text
  assert "alone can make such a lead, hence p = 1; without it the interval would be -0.15" in text
  assert "rounding or seeds alone may have made it" in text
  one = report.audit_json(found)["benchmarks"][0]
  assert one["p_as_printed"] == one["lead_p_as_printed"] == lead.as_printed_p
  assert one["lead_as_printed"]["high"] == lead.as_printed.high
  fine = " ".join(report.audit_text(audit(SD.replace("10.0", "10.000")
                                          .replace("8.4", "8.400"), better="higher")).split())
  assert "without" not in fine


@pytest.mark.parametrize("step", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("level", [0.5, 0.9, 0.99])
def test_the_interval_of_a_lead_matches_its_p(step, level):
  """It holds 0 where p is above 1 - level, with rounding and without."""
  for mean in np.linspace(0.02, 1.5, 12):
    a, b = Published(mean, 0.4, 4, step, 0.1), Published(0.0, 0.3, 5, step, 0.1)
    found = published.lead(a, b, level)
    assert (found.interval.low <= 0) == (found.p_value > 1 - level)
    assert (found.as_printed.low <= 0) == (found.as_printed_p > 1 - level)


def test_a_sigma_or_a_spread_that_is_not_used_is_said():
  none = audit("method,mean\na,1\nb,2", better="higher", spread="sd")
  assert none.reading[-1] == "Not used: --spread=sd, since no spread is printed."
  used = "Not used: --sigma=0.2, since every entry has a spread of its own."
  assert audit(SD, better="higher", sigma=0.2).reading[-1] == used
  assert used not in audit(SD + "c,1.0,,9\n", better="higher", sigma=0.2).reading
  assert used not in audit(SD, better="higher").reading


def test_two_bold_entries_are_judged_against_the_rest():
  marked = "method,mean,sd,n\na,**10.0**,1.0,9\nb,**9.9**,1.0,9\nc,8.0,1.0,9\n"
  found = audit(marked, better="higher").benchmarks[0]
  assert found.bold == ["a", "b"] and found.runner_up.method == "c" and found.verdict == "best"
  assert found.lead.interval.estimate == pytest.approx(2.0)
  equal = audit(marked.replace("**", "").replace("9.9", "10.0"), better="higher").benchmarks[0]
  assert equal.bold == ["a", "b"] and not equal.marked and equal.runner_up.method == "c"
  text = " ".join(report.audit_text(audit(marked, better="higher")).split())
  assert "a and b are bold; judged is a against those that are not" in text
  everyone = audit("method,mean,sd,n\na,1,1,9\nb,1,1,9\n", better="higher").benchmarks[0]
  assert everyone.verdict == "none" and "every method is bold" in everyone.why[-1]


def test_a_bold_entry_that_is_not_the_best():
  found = audit(SD.replace("8.4", "**8.4**"), better="higher")
  (one,) = found.benchmarks
  assert one.verdict == "behind" and one.lead.interval.estimate < 0
  assert (one.p_value, one.luck, one.seeds) == (1.0, None, None)
  assert "b is bold, but a has the better mean, by 1.60" in report.audit_text(found)


def test_the_verdict_rests_on_the_least_sure_rival():
  """A noisy method far below is not beaten, though the runner-up is."""
  noisy = SD + "c,7.0,6.0,9\n"
  (found,) = audit(noisy, better="higher").benchmarks
  assert found.lead.p_value < 0.05 < found.p_value and found.hardest == "c"
  assert found.verdict == "open"
  assert "Least sure is its lead over c" in " ".join(report.audit_text(
    audit(noisy, better="higher")).split())  # fmt: skip


@pytest.mark.parametrize(
  ("row", "why"),
  [
    ("b,8.4,,9", "b is not judged: no spread is printed."),
    ("b,8.4,1.0,1", "b is not judged: it rests on 1 seed, which shows no spread."),
    ("b,8.4,1.0,", "b is not judged: nobody says how many seeds are behind the mean."),
  ],
)
def test_no_verdict_without_spread_or_seeds(row, why):
  text = f"method,mean,sd,n\na,10.0,1.0,9\n{row}\nc,5.0,1.0,9\n"
  found = audit(text, better="higher")
  (one,) = found.benchmarks
  assert one.verdict == "none" and why in one.why and math.isnan(one.p_holm)
  assert one.why[-1] == "No verdict: nothing is known of how b would vary."
  assert found.family == 0 and "No bold entry can be judged" in report.audit_text(found)
  (assumed,) = audit(text, better="higher", sigma=1.0).benchmarks
  assert assumed.verdict != "none" and assumed.assumed and "(--sigma)" in assumed.why[0]
  assert "with --sigma" in report.audit_text(audit(text, better="higher", sigma=1.0))
  (below,) = audit(text.replace("8.4", "4.0"), better="higher").benchmarks
  assert below.verdict == "best" and below.judged == 2  # of those judged; the note names the other


def test_percent_and_fractions():
  """The same table in both units says the same; both in one table, or an impossible sd, do not."""
  percent = "method,accuracy,sd,n,test_size\na,93.10,0.20,5,1000\nb,92.50,0.20,5,1000\n"
  fraction = percent.replace("93.10", ".9310").replace("92.50", ".9250").replace("0.20", "0.0020")
  (p,), (f,) = audit(percent).benchmarks, audit(fraction).benchmarks
  assert p.percent and not f.percent and p.p_value == pytest.approx(f.p_value)
  assert p.examples.independent == pytest.approx(100 * f.examples.independent)
  with pytest.raises(UserError, match=r"row 2: 0\.925 looks like a fraction and 93\.1 \(row 1\)"):
    audit(percent.replace("92.50", ".925"))
  with pytest.raises(UserError, match=r"row 1: values between 0 and 1 with mean 0\.931 have"):
    audit(fraction.replace("0.0020", "0.4", 1))
  with pytest.raises(UserError, match="is no share"):
    audit(percent.replace("93.10", "930"))
  with pytest.raises(UserError, match="has no % sign"):
    audit(percent.replace("93.10", "93.10%"))
  assert audit(percent.replace("accuracy", "err").replace("93.10", "0.9").replace("92.50", "1.2"))
  score = audit(percent.replace("accuracy", "mean"), better="higher").benchmarks[0]
  assert score.examples is None and "nobody says that the metric is a share" in score.why[0]


def test_decimals_that_are_not_printed_widen_the_interval():
  coarse = audit("method,mean,sd,n\na,94,0,3\nb,93,0,3\n", better="higher").benchmarks[0]
  fine = audit("method,mean,sd,n\na,94.00,0.01,3\nb,93.00,0.01,3\n", better="higher").benchmarks[0]
  assert coarse.p_value == 1 and fine.p_value < 1e-4
  text = report.audit_text(audit("method,mean,sd,n\na,94,0,3\nb,93,0,3\n", better="higher"))
  assert "rounding alone may have made it" in " ".join(text.split())
  assert coarse.lead.error == pytest.approx(math.sqrt(2 * (1 / 36 + 1 / 12)))


# What is said.


def test_the_example_of_the_documents(tmp_path):
  page = (pathlib.Path(__file__).parent.parent / "docs" / "audit.md").read_text()
  (table,) = re.findall(r"```csv\n(.*?)```", page, re.DOTALL)
  (said,) = re.findall(r"```text\n(.*?)\n```", page, re.DOTALL)
  (tmp_path / "fullbatch.csv").write_text(table)
  assert report.audit_text(seedlab.audit(tmp_path / "fullbatch.csv")) == said


def test_text_markdown_and_json_agree(tmp_path):
  (tmp_path / "t.md").write_text(WIDE)
  found = seedlab.audit(tmp_path / "t.md", spread="sd", n=5, metric="accuracy")
  text, markdown = report.audit_text(found), report.audit_markdown(found)
  done = command(tmp_path / "t.md", "--spread=sd", "--n=5", "--metric=accuracy", "--json")
  values = json.loads(done.stdout)
  assert done.returncode == 0 and values == report.audit_json(found)
  assert values["shown"] == 1 and values["family"] == 3
  one = values["benchmarks"][1]
  assert (one["verdict"], one["seeds_a_side"], one["unit"]) == ("best", None, "points")
  assert values["benchmarks"][0]["seeds_a_side"]["high"] is None
  assert "Of 3 bold entries that can be judged, 1 is shown to be the best" in text
  assert "| CIFAR-100 | Ours | C | 1.30 (0.77 to 1.83) |" in markdown
  for said in ("Pairing", "Distributions", "collapsed", "Left out", "What varied"):
    assert said in text and said in markdown
  assert max(map(len, text.splitlines())) < 140


def test_json_is_documented_field_by_field():
  """The section of docs/json.md names the fields that there are, no others, and its version."""

  def fields(part) -> set[str]:
    if isinstance(part, dict):
      return set(part).union(*map(fields, part.values()))
    return set().union(*map(fields, part)) if isinstance(part, list) else set()

  rows = [f"{name},{mean},0.2,5,1000" for name, mean in zip("abcde", range(90, 95), strict=True)]
  table = "method,accuracy,sd,n,test_size\n" + "\n".join(rows)
  values = report.audit_json(audit(table))
  unsure = report.audit_json(audit(table.replace("94,0.2", "93.1,0.2")))
  assert values["schema"] == 1
  page = (pathlib.Path(__file__).parent.parent / "docs" / "json.md").read_text()
  section = page.split("# What `audit --json` prints")[1]
  assert set(re.findall(r"`(\w+)`", section)) - {"null"} == fields(values) | fields(unsure)


def command(*arguments) -> subprocess.CompletedProcess:
  return forked.command("audit", *arguments)


def test_wrong_input_gets_one_line(tmp_path):
  (tmp_path / "t.md").write_text(WIDE)
  done = command(tmp_path / "t.md", "--n=5")
  assert (done.returncode, done.stdout) == (2, "") and len(done.stderr.splitlines()) == 1
  assert "line 3, column 'CIFAR-10': '94.10 ± 0.20': is the spread a standard" in done.stderr
  with pytest.raises(UserError, match="nobody says which way 'CIFAR-10' is better"):
    seedlab.audit(tmp_path / "t.md", spread="sd")
  with pytest.raises(UserError, match=r"sigma=-1.* must be a positive number"):
    seedlab.audit(tmp_path / "t.md", spread="sd", better="higher", sigma=-1.0)
