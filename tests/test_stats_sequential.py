"""Anytime-valid intervals: reference values, time-uniform coverage, and a stop nothing can move."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import scipy.optimize
import scipy.stats

from seedlab.errors import UserError
from seedlab.stats import sequential

DISTRIBUTIONS = {
  "normal": lambda rng, shape: rng.normal(0, 1, shape),
  "gamma(2)": lambda rng, shape: rng.gamma(2, 1, shape) - 2,
  "t(4)": lambda rng, shape: rng.standard_t(4, shape),
  "accuracy": lambda rng, shape: rng.binomial(1297, 0.96, shape) / 1297 - 0.96,
}


def ever_outside(samples_SxR, make=sequential.asymptotic_sequence, mean=0.0):
  """Fraction of the samples whose interval misses the mean after any number of runs."""
  missed = 0
  for values_R in samples_SxR:
    low_R, high_R = make(values_R)
    missed += bool(np.any((low_R > mean) | (high_R < mean)))
  return missed / len(samples_SxR)


def at_looks(values_R):
  return [limits_R[29::10] for limits_R in sequential.asymptotic_sequence(values_R)]


def ever_outside_t(samples_SxR):
  """The same for a t interval at each n from 30 on."""
  runs_R = np.arange(1, samples_SxR.shape[1] + 1)
  means_SxR = samples_SxR.cumsum(1) / runs_R
  squares_SxR = (samples_SxR**2).cumsum(1) - runs_R * means_SxR**2
  sem_SxR = np.sqrt(squares_SxR[:, 29:] / (runs_R[29:] - 1) / runs_R[29:])
  return np.mean(
    (np.abs(means_SxR[:, 29:]) / sem_SxR > scipy.stats.t.ppf(0.975, runs_R[29:] - 1)).any(1)
  )


def test_margin_by_hand():
  """α = 0.05, target 100: y - log y = 1 - log α² at 9.21197, so n ρ² = 8.21197 at n = 100."""
  expected = math.sqrt(9.211968 / 8.211968 / 100 * (math.log(9.211968) - 2 * math.log(0.05)))
  assert sequential.mixture_margin([100], 0.05, 100) == pytest.approx(expected, rel=1e-6)


def student_margin(n):
  """The margin as a multiple of the standard error, at the t quantile of its normal tail."""
  margin = sequential.mixture_margin([n], 0.05, sequential.TARGET)[0] * math.sqrt(n)
  return scipy.stats.t.ppf(scipy.stats.norm.cdf(margin), n - 1)


@pytest.mark.parametrize("target", [40, 100, 1000])
def test_margin_at_the_target_is_the_least_over_all_tunings(target):
  margins = scipy.optimize.minimize_scalar(
    lambda log_t: sequential.mixture_margin([target], 0.05, math.exp(log_t))[0],
    bracket=(math.log(target) - 1, math.log(target) + 1),
  )
  assert sequential.mixture_margin([target], 0.05, target) == pytest.approx(margins.fun, rel=1e-9)
  assert math.exp(margins.x) == pytest.approx(target, rel=1e-3)


def test_asymptotic_sequence_is_mean_and_sd_of_each_prefix():
  values = np.random.default_rng(0).gamma(2, size=60) + 1e4
  low, high = sequential.asymptotic_sequence(values, burn_in=5)
  assert np.isneginf(low[:4]).all() and np.isposinf(high[:4]).all()
  for n in (5, 23, 60):
    half = values[:n].std(ddof=1) / math.sqrt(n) * student_margin(n)
    assert (low[n - 1], high[n - 1]) == pytest.approx(
      (values[:n].mean() - half, values[:n].mean() + half), abs=1e-8
    )


def test_width_against_the_fixed_interval():
  """At sd 0.002 a width of 0.001 takes a fixed t interval 64 runs, an anytime one 154."""

  def needed(margin):
    return next(n for n in range(30, 1000) if 2 * 0.002 * margin(n) / math.sqrt(n) < 0.001)

  assert needed(lambda n: scipy.stats.t.ppf(0.975, n - 1)) == 64
  assert needed(student_margin) == 154


def test_equal_values_give_no_interval():
  low, high = sequential.asymptotic_sequence([0.1] * 50)
  assert np.isneginf(low).all() and np.isposinf(high).all()
  low, high = sequential.asymptotic_sequence([0.5])
  assert (low[0], high[0]) == (-math.inf, math.inf)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_asymptotic_sequence_covers_at_every_look_at_once(name):
  """30 to 1,000 runs, a look after each: about 5 % at most ever miss; of t intervals a third."""
  samples = DISTRIBUTIONS[name](np.random.default_rng(1), (1000, 1000))
  assert ever_outside(samples) < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 1000)
  assert ever_outside_t(samples) > 0.2


def test_betting_sequence_is_that_of_the_reference_implementation():
  """confseq 0.0.11 (betting_cs, λ by lambda_predmix_eb with log(2/α), c = 1/2, 20,000 breaks).

  It rounds outwards to its grid, by at most two steps.
  """
  values = 0.2 + 0.6 * (np.arange(1, 101) * 37 % 101 / 101) ** 2
  low, high = sequential.betting_sequence(values, every=1)
  reference = {
    1: (0, 1),
    10: (0.20010, 0.69210),
    30: (0.30345, 0.53475),
    60: (0.33580, 0.47960),
    100: (0.34885, 0.45610),
  }
  for n, (reference_low, reference_high) in reference.items():
    assert 0 <= low[n - 1] - reference_low < 1e-4
    assert 0 <= reference_high - high[n - 1] < 1e-4


def test_betting_sequence_mirrors_and_narrows():
  values = np.random.default_rng(2).beta(8, 2, 205)
  low, high = sequential.betting_sequence(values)
  low_mirror, high_mirror = sequential.betting_sequence(1 - values)
  np.testing.assert_allclose(low, 1 - high_mirror, atol=1e-9)
  np.testing.assert_allclose(high, 1 - low_mirror, atol=1e-9)
  assert (np.diff(low) >= 0).all() and (np.diff(high) <= 0).all()
  assert (low[8], high[8]) == (0, 1)  # the first look is after ten
  assert low[204] == low[199] and 10 < len(set(low)) <= 21  # nothing moves between looks


def test_betting_sequence_covers_at_every_look_at_once():
  samples = np.random.default_rng(3).random((1000, 120)) < 0.9  # the hardest: zeros and ones
  outside = ever_outside(
    samples.astype(float), lambda values: sequential.betting_sequence(values, every=5), 0.9
  )
  assert outside < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 1000)


def test_betting_sequence_of_extreme_values():
  low, high = sequential.betting_sequence([1.0] * 100)
  assert 0.9 < low[-1] < 1 and high[-1] == 1
  low, high = sequential.betting_sequence([0.0] * 100 + [1.0] * 100)  # no one mean fits
  assert math.isnan(low[-1]) and math.isnan(high[-1])


def test_parse_rule():
  rule = sequential.parse_rule(" ci_width( test_accuracy ) < 1e-3 ")
  assert rule == sequential.StopRule("test_accuracy", 0.001)


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("test_accuracy<0.001", "is not a rule"),
    ("ci_width(test_accuracy)<=0.001", "is not a rule"),
    ("ci_width(test_accuracy)>0.001", "is not a rule"),
    ("ci_width(a)<0.1 and ci_width(b)<0.1", "is not a rule"),
    ("ci_width()<0.1", "is not a rule"),
    ("", "is not a rule"),
    ("ci_width(test_accuracy)<small", "'small' is not a number"),
    ("ci_width(test_accuracy)<0", "must be positive and finite"),
    ("ci_width(test_accuracy)<-1", "must be positive and finite"),
    ("ci_width(test_accuracy)<nan", "must be positive and finite"),
    ("ci_width(test_accuracy)<inf", "must be positive and finite"),
  ],
)
def test_parse_rule_refuses(text, message):
  with pytest.raises(UserError, match=message) as raised:
    sequential.parse_rule(text)
  assert repr(text) in str(raised.value) and "ci_width(test_accuracy)<0.001" in str(raised.value)
  assert "\n" not in str(raised.value)


RULE = sequential.StopRule("test_accuracy", 0.001)


def test_the_stop_is_the_first_look_that_is_narrow_enough():
  values = np.random.default_rng(4).normal(0.9, 0.002, 400)
  stop = sequential.stopping_run(values, RULE)
  low, high = sequential.asymptotic_sequence(values)
  widths = high - low
  assert stop == next(n for n in range(30, 401, 10) if widths[n - 1] < 0.001)
  assert 100 < stop < 200
  just = sequential.StopRule("test_accuracy", widths[129] * 1.0001)
  assert widths[128] > just.width and sequential.stopping_run(values, just) == 130
  assert sequential.stopping_run(values, dataclasses.replace(just, width=widths[129])) == 140
  assert sequential.stopping_run(values[: stop - 1], RULE) is None
  assert sequential.stopping_run(values, RULE, every=1) <= stop


def test_the_stop_of_another_level_and_burn_in():
  values = np.random.default_rng(4).normal(0.9, 0.002, 400)
  low, high = sequential.asymptotic_sequence(values, 0.8, burn_in=45)
  stop = sequential.stopping_run(values, RULE, burn_in=45, level=0.8)
  assert stop == next(n for n in range(45, 401, 10) if (high - low)[n - 1] < 0.001)
  assert stop < sequential.stopping_run(values, RULE) - 20
  wide = sequential.StopRule("test_accuracy", 0.01)
  assert sequential.stopping_run(values[:30], wide) == 30  # the first look is at its last run
  assert sequential.stopping_run(values[:29], wide) is None
  assert sequential.stopping_run(values, wide, burn_in=12) == 12


@pytest.mark.parametrize("make", [sequential.asymptotic_sequence, sequential.betting_sequence])
def test_a_higher_level_gives_wider_intervals(make):
  values = np.random.default_rng(8).random(200)
  found = [make(values, level) for level in (0.5, 0.9, 0.95, 0.99)]
  for (low, high), (lower, higher) in itertools.pairwise(found):
    assert (low[50:] > lower[50:]).all() and (high[50:] < higher[50:]).all()


def test_nothing_but_the_contiguous_prefix_moves_the_stop():
  """Runs land in chunks, in any order, with gaps left by kills: the answer never changes."""
  rng = np.random.default_rng(5)
  values = rng.normal(0.9, 0.002, 400)
  stop = sequential.stopping_run(values, RULE)
  for _ in range(20):
    complete = np.zeros(400, bool)
    seen = np.full(400, np.nan)
    answers = []
    for chunk in rng.permutation(50):
      complete[chunk * 8 : chunk * 8 + 8] = True
      seen[complete] = values[complete]
      answers.append(sequential.stopping_run(seen, RULE, complete))
      assert (answers[-1] is not None) == complete[:stop].all()
    assert set(answers) == {None, stop}


def test_a_diverged_run_before_the_stop_is_refused_and_after_it_ignored():
  values = np.random.default_rng(6).normal(0.9, 0.002, 400)
  stop = sequential.stopping_run(values, RULE)
  values[stop] = math.nan
  assert sequential.stopping_run(values, RULE) == stop
  values[17] = math.nan
  with pytest.raises(ValueError, match="value 17 of test_accuracy is not finite"):
    sequential.stopping_run(values, RULE)


def log_b(t, df, r):
  """The mixture of the t likelihood ratio over N(0, r), by quadrature."""
  null = scipy.stats.t.pdf(t, df)
  # Given the effect, t is noncentral; a normal mixture of it is a t of scale sqrt(1 + r).
  return math.log(scipy.stats.t.pdf(t / math.sqrt(1 + r), df) / math.sqrt(1 + r) / null)


@pytest.mark.parametrize(("df", "r"), [(3, 20.0), (9, 50.0), (29.5, 12.0)])
def test_anytime_t_is_the_ratio_of_two_t_densities(df, r):
  for t in (0.3, 2.0, 5.0):
    p = sequential.anytime_p(t, df, r)
    assert p == pytest.approx(min(1, math.exp(-log_b(t, df, r))))
  limits = sequential.anytime_t(2.0, 0.5, df, r, 0.9)
  assert limits.estimate == 2 and limits.high - 2 == pytest.approx(2 - limits.low)
  assert sequential.anytime_p((limits.high - 2) / 0.5, df, r) == pytest.approx(0.1)


def test_anytime_t_of_a_known_spread_is_the_normal_mixture():
  near = sequential.anytime_t(0.0, 1.0, 1e7, 50.0)
  known = sequential.anytime_t(0.0, 1.0, math.inf, 50.0)
  assert known.high == pytest.approx(near.high, rel=1e-5)
  assert known.high == pytest.approx(math.sqrt((math.log(51) + 2 * math.log(20)) * 51 / 50))
  assert sequential.anytime_p(known.high, math.inf, 50.0) == pytest.approx(0.05)
  assert math.isinf(sequential.anytime_t(0.0, 1.0, 1, 10.0).high)


def test_equal_runs_never_stop_a_sweep():
  assert sequential.stopping_run(np.full(500, 0.1), RULE) is None
  assert sequential.stopping_run([], RULE) is None


def test_the_interval_at_the_stop_covers():
  """Stopped where it looks good: 95 % still cover. A t interval looked at like this stays short."""
  rng = np.random.default_rng(7)
  rule = sequential.StopRule("loss", 0.5)
  covered = []
  for values in rng.normal(0, 1, (600, 400)):
    stop = sequential.stopping_run(values, rule)
    low, high = sequential.asymptotic_sequence(values[:stop])
    covered.append(low[-1] <= 0 <= high[-1])
  assert np.mean(covered) > 0.95


@pytest.mark.parametrize(
  ("call", "message"),
  [
    (lambda: sequential.asymptotic_sequence([1, math.nan]), "not finite"),
    (lambda: sequential.asymptotic_sequence([1.0, 2.0], level=95), "level must lie"),
    (lambda: sequential.asymptotic_sequence([1.0, 2.0], burn_in=1), "burn_in=1"),
    (lambda: sequential.betting_sequence([0.5, 1.5]), r"\[0, 1\], not \[0.5, 1.5\]"),
    (lambda: sequential.betting_sequence([0.5], every=0), "every=0"),
  ],
)
def test_refuses(call, message):
  with pytest.raises(ValueError, match=message):
    call()


@pytest.mark.slow
def test_time_uniform_coverage_table():
  """Prints the table of docs/statistics.md: 30 to 5,000 runs, 4,000 repetitions."""
  print("\n| values | every run | every 10 | t, every run |\n| --- | --- | --- | --- |")
  for number, (name, draw) in enumerate(DISTRIBUTIONS.items()):
    rng = np.random.default_rng(100 + number)
    outside = np.zeros(3)
    for _ in range(8):
      samples = draw(rng, (500, 5000))
      outside += ever_outside(samples), ever_outside(samples, at_looks), ever_outside_t(samples)
    outside /= 8
    print(f"| {name} | {outside[0]:.4f} | {outside[1]:.4f} | {outside[2]:.4f} |")
    assert outside[1] < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 4000)
    assert name == "gamma(2)" or outside[0] < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 4000)
  samples = (np.random.default_rng(200).random((4000, 500)) < 0.9).astype(float)
  outside = ever_outside(samples, sequential.betting_sequence, 0.9)
  print(f"| zeros and ones (0.9), betting, 500 runs | - | {outside:.4f} | - |")
  assert outside < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 4000)
