"""Tables of how far seeds spread, and of what a scan for a good one is worth."""

import math
from typing import NamedTuple

import numpy as np

from seedlab import report
from seedlab.stats import crossed, single
from seedlab.studies.seeds import settings
from seedlab.studies.seeds.claims import SCANNED
from seedlab.studies.seeds.measures import (
  Spread,
  carried_over,
  distribution_wise,
  effects_of_design,
  share_of_variance,
  spread,
  without_diverged,
)
from seedlab.studies.seeds.sweeps import SETUPS
from seedlab.studies.seeds.words import CHOICES, own_sd, points, setup_of

_SCANS = (2, 5, 10, 20, 50, 100, 200, 400, 1000, 2000)
_VARIANT = 0.005  # an identical variant "wins" by half a point


class _Reported(NamedTuple):
  """A row of the paper's tables, test accuracy in %."""

  setup: str
  seeds: int
  mean_sd: str
  least: str
  most: str
  gap: str
  status: str


# Facts of the paper and how sure they are: its text could not be opened.
_REPORTED = (
  _Reported(
    "CIFAR-10, long", 500, "90.70 ± 0.20", "90.14", "91.41", "1.27",
    "unverified; the gap agrees with Jordan's remark",
  ),
  _Reported(
    "CIFAR-10, short", 10_000, "90.02 ± 0.23", "89.01", "90.83", "1.82",
    "gap: two summaries; worst and best: one; mean and sd unverified",
  ),
  _Reported(
    "ImageNet, supervised ResNet-50", 50, "75.48 ± 0.10", "75.25", "75.69", "0.44",
    "mean 75.5: a summary; the rest unverified",
  ),
  _Reported(
    "ImageNet, DINO ResNet-50", 50, "75.15 ± 0.08", "74.98", "75.35", "0.37", "unverified",
  ),
  _Reported(
    "ImageNet, DINO ViT-S/16", 50, "76.83 ± 0.09", "76.63", "77.09", "0.46", "unverified",
  ),
)  # fmt: skip


def distribution_table(datasets) -> report.Table:
  rows = []
  for name in SETUPS:
    if name not in datasets:
      continue
    setup, whole = setup_of(name, datasets[name]), spread(datasets[name])
    sound = [(f"{setup}, without the {whole.diverged.sum():,} diverged", without_diverged(whole))]
    for words, one in [(setup, whole), *sound * bool(whole.diverged.any())]:
      rows.append(
        (
          words,
          f"{len(one.last):,}",
          f"{100 * one.last.mean():.2f}",
          points(single.sd_interval(one.last)),
          own_sd(distribution_wise(one)),
          f"{100 * one.last.min():.2f} to {100 * one.last.max():.2f}",
          f"{one.errors.shape[1]:,}",
        )
      )
  head = ("setup", "seeds", "mean", "sd", "distribution-wise sd", "worst to best", "test set")
  note = (
    "sd: of the accuracy on this test set; distribution-wise (Jordan 2024, theorem 2): what would"
    " show on new examples. 95 % intervals by leaving out a run. The best seed of a list is no"
    " better a network: see what it is worth below."
  )
  return report.Table("Distribution over seeds", head, rows, note)


def yardsticks_table(datasets) -> report.Table:
  rows = []
  for name, setup in SETUPS.items():
    if name not in datasets:
      continue
    one = spread(datasets[name])
    n, E, error = len(one.last), one.errors.shape[1], float(1 - one.last.mean())
    sd = one.last.std(ddof=1)
    reach = single.normal_best(n) * sd
    tails = single.heavier_tails(one.last, 1 / E, np.random.default_rng(0))
    rows.append(
      (
        setup,
        f"{100 * (one.last.mean() - reach):.2f} to {100 * (one.last.mean() + reach):.2f}",
        f"{_chance_of_gap(one, sd):.2f}",
        f"{tails.p_value:.3f}",
        f"{100 * sd:.2f}",
        f"{100 * math.sqrt(error / (2 * E)):.2f}",
        f"{100 * math.sqrt(error * (1 - error) / E):.2f}",
      )
    )
  head = (
    "setup", "normal worst to best", "P of such a gap", "P of such tails", "sd", "sqrt(err/2n)",
    "binomial sd",
  )  # fmt: skip
  note = (
    "Beside the worst and the best seed: what as many normal draws with this mean and sd would"
    " reach, how often they are as far apart, and how often their kurtosis is as large. Beside the"
    " sd: sqrt(err/2n), what the finite test set alone gives two-class networks whose confidence is"
    " right (Jordan 2024), and the binomial sd, that of one network on new test sets."
  )
  return report.Table("Yardsticks: normal draws, and the size of the test set", head, rows, note)


def _chance_of_gap(one: Spread, sd: float, draws: int = 2000) -> float:
  """How often as many normal values are at least as far apart, on the grid of accuracies."""
  rng, n, E = np.random.default_rng(0), len(one.last), one.errors.shape[1]
  wide = [np.ptp(np.round(rng.normal(0, sd, n) * E)) for _ in range(draws)]
  return float(np.mean(np.array(wide) >= round(np.ptp(one.last) * E)))


def published_table() -> report.Table:
  rows = []
  for one in _REPORTED:
    mean, sd = (float(x) for x in one.mean_sd.split(" ± "))
    best = single.normal_best(one.seeds) * sd
    normal = f"{mean - best:.2f} to {mean + best:.2f}"
    rows.append((one.setup, f"{one.seeds:,}", one.mean_sd, f"{one.least} to {one.most}", one.gap,
                 normal, one.status))  # fmt: skip
  head = (
    "setup", "seeds", "mean ± sd", "worst to best", "gap", "of as many normal draws", "how sure",
  )  # fmt: skip
  note = (
    "As reported by Picard 2021, from public code and summaries; the tables themselves could not be"
    " opened. The extremes are those of normal samples of that size. Networks above that are"
    " narrower, on fewer and smaller images, compare in their spread and not in their mean."
  )
  return report.Table("Reported", head, rows, note)


def selection_table(one: Spread) -> report.Table:
  rng = np.random.default_rng(0)
  share = share_of_variance(one)
  first, second = (1 - half for half in crossed.halves(one.errors, rng))
  rows = []
  for k in _SCANS:
    if 5 * k > len(one.last):  # fewer groups say nothing
      break
    best = single.expected_best(one.last, k)
    gain = best.estimate - one.last.mean()
    groups = len(first) // k
    chosen = [g * k + int(first[g * k : (g + 1) * k].argmax()) for g in range(groups)]
    seen, worth = (half[chosen].mean() - half.mean() for half in (first, second))
    rows.append(
      (
        f"{k:,}",
        f"{100 * gain:.2f}",
        f"{100 * share * gain:.2f}",
        f"{100 * seen:.2f}",
        f"{100 * worth:.2f}",
      )
    )
  head = (
    "seeds scanned", "gain of the best on this test set", "worth on new examples",
    "best on half A: its gain there", "on half B",
  )  # fmt: skip
  note = (
    "Points over the mean seed. Worth: the gain times the distribution-wise share of the variance"
    " (for normal spreads its expectation). Halves of the test set: the best of so many seeds on"
    " one half, and what is left of its lead on the other, over disjoint groups of seeds. Quote the"
    " mean, not the best."
  )
  return report.Table("What a scan for a good seed is worth", head, rows, note)


def design_table(datasets) -> report.Table:
  one = spread(datasets["digits/all"])
  effects = effects_of_design(datasets, 0.95)
  rows = [
    (
      f"{choice}: {CHOICES[choice]}",
      f"{100 * e.estimate:+.2f} ({100 * e.low:+.2f} to {100 * e.high:+.2f})",
    )
    for choice, e in effects.items()
  ]
  scanned = min(SCANNED, len(one.last))
  gap = single.expected_range(one.last, scanned)
  rows.append((f"best less worst of {scanned} seeds, expected", points(gap)))
  ahead = np.sort(one.last)
  wins = (len(ahead) - np.searchsorted(ahead, ahead + _VARIANT - 1e-9)).sum()
  chance = wins / (len(ahead) * (len(ahead) - 1))
  note = (
    "Changes of mean accuracy by design choices listed before training, paired by seed, 95 %"
    f" intervals. With one seed each, a variant that changes nothing wins by {100 * _VARIANT:g}"
    f" points or more with a chance of {100 * chance:.1f} %."
  )
  return report.Table("Seeds beside design choices", ("what", "points"), rows, note)


def carried_table(datasets) -> report.Table:
  one = spread(datasets["digits/all"])
  names = [f"digits/{choice}" for choice in (*settings.DESIGN, "long")]
  names += [name for name in ("cifar10/all", "picard/short") if name in datasets]
  rows = []
  for name in names:
    other = spread(datasets[name])
    shared = np.isin(one.runs, other.runs)
    best = one.runs[shared][one.last[shared].argmax()]
    rank = 1 + int((other.last > other.last[other.runs == best]).sum())
    setup = SETUPS.get(name) or CHOICES[name.removeprefix("digits/")]
    carried = points(carried_over(one, other, 0.95), 1)
    rows.append((setup, f"{shared.sum():,}", carried, f"{rank:,}"))
  head = ("carried over to", "seeds", "Kendall's tau (95 %)", "rank there of the best seed here")
  note = (
    "Whether the seeds that do well on digits do well elsewhere: at another design choice, in a"
    " longer training, on other data with another network. Seeds draw the same initial weights"
    " where the network is the same, and the same order where the data and the batch are."
  )
  return report.Table("Does a good seed carry over?", head, rows, note)
