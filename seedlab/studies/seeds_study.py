"""The study "How much of a result is the seed?" (Picard 2021, arXiv 2109.08203, and after).

What the paper did: many seeds, everything varied, the distribution of the test accuracy and
its best and worst. What it could not say: which source of randomness is to blame, and how
much of the spread is the finite test set. Claims S1 to S8.

A "seed" of the paper sets every stream at once, as our `all` does. `crossed` has every
combination of levels of three streams, from which first-order and total effects follow.
Distribution-wise: what would show on new examples, too (Jordan 2024, arXiv 2304.01910).

Scale `laptop` is digits, and CIFAR-10 at 16x16 where it is at hand, with a small network and with
a narrow one of Picard's in the published protocol; scale `paper` has that protocol as it is. The
published tables stand beside ours with how sure each number is.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import xarray

from seedlab import data, findings, report
from seedlab.claims import Claim, Part
from seedlab.config import Data, to_dict
from seedlab.errors import UserError
from seedlab.report import charts
from seedlab.stats import comparison, crossed, crossed_pairs, curves, pairs, single
from seedlab.stats.single import Interval, several_jackknives
from seedlab.studies import seeds
from seedlab.studies.study import Analysis, Study, Sweep

_SCANNED = 100  # seeds of S4
_SCANS = (2, 5, 10, 20, 50, 100, 200, 400, 1000, 2000)
_PLATEAU = 25 / 45  # of the long schedule: from its epoch 25 on the paper calls it converged (S2)
_SAME_SPREAD = (0.8, 1.25)
_CARRIED = 0.2  # S6
_FULL = 0.8  # S7 and S8
_VARIANT = 0.005  # an identical variant "wins" by half a point
_PRETRAINED = 8  # pretraining seeds

_RUNS = {"smoke": 12, "laptop": 2000, "paper": 10_000}  # all streams varied
_FEW = {"smoke": 6, "laptop": 100, "paper": 500}  # of a design choice, of CIFAR-10
_ALONE = {"smoke": 6, "laptop": 500, "paper": 2000}  # of one stream alone, and of `long`
_TUNED = {"smoke": 4, "laptop": 40, "paper": 100}
# Of the published protocol: `long` is trained at scale `paper` alone.
_SHORT = {"smoke": 4, "laptop": 40, "paper": 10_000}
_LONG = 500
# Steps before which a weight is poked, and at which twins part.
_POKES = {"digits": (0, 15, 75, 150, 225, 285), "cifar10": (0, 100, 400, 700)}
_PLACE_NAMES = {"digits": "digits", "cifar10": "CIFAR-10"}
_TWINS = (0, 15, 75, 150, 225, 300)
_SETUPS = {
  "digits/all": "digits, MLP",
  "digits/long": "digits, MLP, published schedule",
  "cifar10/all": "CIFAR-10, CNN",
  "picard/short": "CIFAR-10, Picard's network, short",
  "picard/long": "CIFAR-10, Picard's network, long",
}


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


class Spread(NamedTuple):
  """Independent runs of one setting; diverged ones are right at chance level, on every example."""

  runs: np.ndarray  # int64[R]
  steps: np.ndarray  # int64[T]
  accuracy: np.ndarray  # float64[R, T]
  errors: np.ndarray  # bool[R, E], at the end; float32 where runs diverged
  diverged: np.ndarray  # bool[R]

  @property
  def last(self) -> np.ndarray:
    return self.accuracy[:, -1]


def claims(scale: str) -> list[Claim]:
  """S1 to S8, fixed before training."""
  given = "cifar10 is at hand"
  many, converged = (_SETUPS[name] for name in _primary(scale))
  made = [
    Claim(
      "S1",
      "the spread between seeds is real, not the test set's",
      (
        Part(
          f"distribution-wise variance of the accuracy, squared points, {many}", "lo > x", (0.0,)
        ),
      ),
    ),
    Claim(
      "S2",
      "longer training does not merge the runs",
      (
        Part(
          f"sd of accuracy at the end over that after 25 of 45 epochs, {converged}",
          "within [a, b]",
          _SAME_SPREAD,
        ),
      ),
    ),
    Claim(
      "S3",
      "there are black swans: tails heavier than a normal's",
      (Part(f"excess kurtosis of accuracy, parametric bootstrap, {many}", "p < alpha"),),
    ),
    Claim(
      "S4",
      "seeds rival design",
      (
        Part(
          f"expected gap among {_SCANNED} seeds over the median effect of five design choices",
          "lo > x",
          (1.0,),
        ),
      ),
    ),
    Claim(
      "S5",
      "pretraining narrows the spread and does not remove it",
      (
        Part(
          "distribution-wise sd of tuned networks over that from scratch with a fixed backbone",
          "hi < x",
          (1.0,),
        ),
        Part("distribution-wise variance of tuned networks, squared points", "lo > x", (0.0,)),
      ),
      given,
    ),
    Claim(
      "S6 config",
      "a good seed is good at another learning rate",
      (Part("Kendall's tau of accuracies by seed, digits", "lo > x", (_CARRIED,)),),
    ),
    Claim(
      "S6 data",
      "a good seed is good on another data set",
      (Part("Kendall's tau of accuracies by seed, digits and CIFAR-10", "lo > x", (_CARRIED,)),),
      given,
    ),
    *(
      Claim(
        f"S7 {stream}",
        "one source, varied by itself, gives the full spread",
        (
          Part(
            f"total effect of {stream}: share of the variance of accuracy, digits",
            "lo > x",
            (_FULL,),
          ),
        ),
      )
      for stream in seeds.FACTORS
    ),
    *(
      Claim(
        f"S8 {place}",
        "one unit in the last place is as good as another seed",
        (
          Part(
            f"disagreement of runs that differ in one ulp of one weight over other seeds', {place}",
            "lo > x",
            (_FULL,),
          ),
        ),
        given if place == "cifar10" else "",
      )
      for place in _POKES
    ),
  ]
  return [dataclasses.replace(claim, family="seeds") for claim in made]


def _primary(scale: str) -> tuple[str, str]:
  """Where the spread (S1, S3), and what longer training does to it (S2), is judged."""
  return ("picard/short", "picard/long") if scale == "paper" else ("digits/all", "digits/long")


def sweeps(scale: str, data_dir: str | None) -> list[Sweep]:
  """Every setting, on the data that are at hand (at scale paper all)."""
  few, levels = _FEW[scale], seeds.LEVELS[scale]
  made = [
    Sweep("digits/all", seeds.config(scale, "digits", "all"), range(_RUNS[scale])),
    Sweep("digits/crossed", seeds.config(scale, "digits", "crossed"), range(levels**3)),
    *(
      Sweep(f"digits/{word}", seeds.config(scale, "digits", word), range(_ALONE[scale]))
      for word in (*seeds.FACTORS, "long")
    ),
    *(
      Sweep(f"digits/{choice}", seeds.config(scale, "digits", choice), range(few))
      for choice in seeds.DESIGN
    ),
  ]
  made += _pokes(scale, "digits")
  for step in _twin_steps(scale):
    arguments = {"config": to_dict(seeds.config(scale, "digits", "all")), "split": step}
    twins = ("seedlab.studies.twins:make", arguments)
    made.append(Sweep(f"digits/twins{step}", None, range(min(few, 20)), trainer=twins))
  if scale == "paper" or _at_hand(data_dir):
    made.append(Sweep("cifar10/all", seeds.config(scale, "cifar10", "all"), range(few)))
    made.append(Sweep("picard/short", seeds.config(scale, "picard", "short"), range(_SHORT[scale])))
    if scale == "paper":
      made.append(Sweep("picard/long", seeds.config(scale, "picard", "long"), range(_LONG)))
    made += [*_pokes(scale, "cifar10"), *_pretraining(scale)]
  return made


def _poke_words(scale: str, place: str) -> list[str]:
  steps = _POKES[place][: 1 if scale == "smoke" else None]
  return [*(f"poke{step}" for step in steps), "poke0,factor"]


def _twin_steps(scale: str) -> tuple[int, ...]:
  return _TWINS[: 2 if scale == "smoke" else None]


def _pokes(scale: str, place: str) -> list[Sweep]:
  made = []
  for words in _poke_words(scale, place):
    config = seeds.config(scale, place, *words.split(","))
    inits, pokes = config.seeds.levels
    made.append(Sweep(f"{place}/{words}", config, range(inits * pokes)))
  return made


def _pretraining(scale: str) -> list[Sweep]:
  """Networks pretrained on glyphs, or not at all, and tuned to few pictures of CIFAR-10."""
  tuned = seeds.config(scale, "cifar10", "tuned")
  begun = range(2 if scale == "smoke" else _PRETRAINED)
  made = [
    Sweep("start/pretrained", seeds.config(scale, "glyphs"), begun),
    Sweep("start/scratch", seeds.untrained(tuned), begun),
  ]
  for kind in ("pretrained", "scratch"):
    for run in begun:
      name, start = f"tuned/{kind}{run}", (f"start/{kind}", run)
      made.append(Sweep(name, tuned, range(_TUNED[scale]), start=start, fresh=(seeds.HEAD,)))
  return made


def _at_hand(data_dir: str | None) -> bool:
  try:
    data.class_names(Data(name="cifar10"), data_dir, False)
  except UserError:
    return False
  return True


# --- what was measured


def spread(dataset: xarray.Dataset) -> Spread:
  """The completed runs of a store."""
  done = dataset["completed"].values.astype(bool)
  label_E = dataset["label"].values
  accuracy = dataset["test_accuracy"].transpose("run", "evaluation").values[done].astype(np.float64)
  errors = dataset["predicted_label"].transpose("run", "example").values[done] != label_E
  steps, diverged = dataset["evaluation"].values, dataset["diverged"].values[done]
  gone = (diverged[:, None] >= 0) & (steps[None, :] > diverged[:, None])
  accuracy[gone] = chance = 1 / findings.class_count(dataset)
  if (diverged >= 0).any():
    errors = errors.astype(np.float32)
    errors[diverged >= 0] = 1 - chance
  return Spread(dataset["run"].values[done], steps, accuracy, errors, diverged >= 0)


def _sound(one: Spread) -> Spread:
  """Without the runs that diverged."""
  kept = ~one.diverged
  return Spread(one.runs[kept], one.steps, one.accuracy[kept], one.errors[kept], one.diverged[kept])


def distribution_wise(one: Spread, level: float = 0.95) -> Interval:
  """Variance of the error on new examples, as a squared fraction."""
  return single.distribution_wise_interval(one.errors, level)


def _squared_points(variance: Interval) -> Interval:
  limits = (1e4 * x for x in (variance.estimate, variance.low, variance.high))
  return Interval(*limits, variance.level, variance.method)


def _sd(variance: float) -> float:
  return math.sqrt(max(variance, 0.0))


def _plateau(one: Spread) -> int:
  """The evaluation from which on a training counts as converged."""
  return int(np.flatnonzero(one.steps >= _PLATEAU * one.steps[-1])[0])


def _spread_kept(one: Spread, level: float) -> Interval:
  two = comparison.align(one.last, one.runs, one.accuracy[:, _plateau(one)], one.runs)
  return comparison.sd_ratio(two, level)


def _effects_of_design(datasets, level: float) -> dict[str, Interval]:
  """Change of the mean accuracy by each design choice, paired by seed."""
  base = spread(datasets["digits/all"])
  found = {}
  for choice in seeds.DESIGN:
    other = spread(datasets[f"digits/{choice}"])
    contrast = comparison.difference(
      comparison.align(other.last, other.runs, base.last, base.runs), level
    )
    found[choice] = Interval(contrast.estimate, contrast.low, contrast.high, level, contrast.method)
  return found


def _seeds_against_design(datasets, level: float) -> Interval:
  """Expected gap among _SCANNED seeds over the median |effect|.

  Its limits are those of the gap over the other limits of the median, each at the level at
  which both hold together (Bonferroni); the median of the effects' limits bounds the median.
  """
  each = 1 - (1 - level) / 2
  one = spread(datasets["digits/all"])
  gap = single.expected_range(one.last, min(_SCANNED, len(one.last)), each)
  effects = _effects_of_design(datasets, 1 - (1 - each) / len(seeds.DESIGN)).values()
  middle = np.median([abs(effect.estimate) for effect in effects])
  most = np.median([max(abs(effect.low), abs(effect.high)) for effect in effects])
  least = np.median(
    [
      0.0 if effect.low <= 0 <= effect.high else min(abs(effect.low), abs(effect.high))
      for effect in effects
    ]
  )
  high = gap.high / least if least else math.inf
  return Interval(gap.estimate / middle, gap.low / most, high, level, "gap and median together")


def _tuned(datasets, kind: str) -> list[Spread]:
  names = (f"tuned/{kind}{run}" for run in range(_PRETRAINED))
  return [spread(datasets[name]) for name in names if name in datasets]


def _narrowing(datasets, level: float) -> Interval:
  """Ratio of distribution-wise sds, by leaving out a pretraining or an initialisation."""
  variances = [
    np.array([distribution_wise(one).estimate for one in _tuned(datasets, kind)])
    for kind in ("pretrained", "scratch")
  ]
  means = [values.mean() for values in variances]
  left = [(len(v) * v.mean() - v) / (len(v) - 1) for v in variances]
  with np.errstate(invalid="ignore", divide="ignore"):  # the log of a variance below zero is nan
    above, below = np.log(means) / 2
    parts = [np.log(left[0]) / 2 - below, above - np.log(left[1]) / 2]
  log = float(above - below)
  low, high = several_jackknives(log, parts, level)
  limits = (math.exp(x) for x in (log, low, high))
  return Interval(*limits, level, "jackknife over what the networks start from")


def _remaining(datasets, level: float) -> Interval:
  """Mean distribution-wise variance of tuned networks, over pretraining seeds."""
  values = [distribution_wise(one).estimate for one in _tuned(datasets, "pretrained")]
  return single.mean_interval(values, level)


def _carried(a: Spread, b: Spread, level: float) -> Interval:
  """Kendall's tau of the seeds that both have; nan where there are too few or none differ."""
  _, at_a, at_b = np.intersect1d(a.runs, b.runs, return_indices=True)
  if len(at_a) < 5 or not np.ptp(a.last[at_a]) or not np.ptp(b.last[at_b]):
    return Interval(math.nan, math.nan, math.nan, level, "too few seeds that differ")
  return curves.kendall_tau(a.last[at_a], b.last[at_b], level)


def _crossed(dataset: xarray.Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Accuracy of each combination, and the errors on two halves of the test set."""
  one = spread(dataset)
  streams = {s: dataset[f"seed_{s}"].values for s in seeds.FACTORS}
  halves = crossed.halves(one.errors, np.random.default_rng(0))
  return tuple(crossed.design(values, streams)[0] for values in (one.last, *halves))


def _disagreements(dataset: xarray.Dataset) -> np.ndarray:
  """Rows of churn between runs that share the initialisation, float64[I, J]."""
  labels = _labels(dataset)
  init_R, poke_R = (dataset[f"seed_{stream}"].values for stream in ("init", "poke"))
  rows_R = pairs.churn_rows(labels, groups=init_R)
  return crossed.design(rows_R, {"init": init_R, "poke": poke_R})[0]


def _churn_rows(dataset: xarray.Dataset) -> np.ndarray:
  return pairs.churn_rows(_labels(dataset))


def _labels(dataset: xarray.Dataset) -> np.ndarray:
  """Predicted labels, int[R, E]; runs that diverged guess, and agree with others by chance."""
  labels = dataset["predicted_label"].transpose("run", "example").values
  gone = dataset["diverged"].values >= 0
  if gone.any():
    labels, rng = labels.copy(), np.random.default_rng(0)
    labels[gone] = rng.integers(findings.class_count(dataset), size=labels[gone].shape)
  return labels


def _poked(datasets, name: str, level: float) -> Interval:
  """Disagreement of runs that differ in a poke over that of runs that differ in every seed."""
  poke, parts = crossed_pairs.without_levels(_disagreements(datasets[name]), (1,), True)
  rows_R = _churn_rows(datasets[f"{name.split('/')[0]}/all"])
  R, total = len(rows_R), rows_R.sum()
  other, left_R = total / (R * (R - 1)), (total - 2 * rows_R) / ((R - 1) * (R - 2))
  with np.errstate(divide="ignore"):
    log = float(np.log(poke) - np.log(other))
    parts = [*(np.log(part) - np.log(other) for part in parts), np.log(poke) - np.log(left_R)]
  low, high = several_jackknives(log, parts, level)
  limits = (math.exp(x) for x in (log, low, high))
  return Interval(*limits, level, "jackknife over pokes, initialisations and seeds")


# --- what is said


def analyse(datasets: Mapping[str, xarray.Dataset], scale: str) -> Analysis:
  digits = spread(datasets["digits/all"])
  given = "cifar10/all" in datasets
  tables = [_distribution_table(datasets), _published_table(), _yardsticks_table(datasets)]
  tables += [_alone_table(datasets), _sources_table(datasets), _components_table(datasets)]
  tables += [_poke_table(datasets, scale, place) for place in (_POKES if given else ("digits",))]
  tables += [_twins_table(datasets, scale), _selection_table(digits)]
  tables += [_design_table(datasets), _carried_table(datasets)]
  if given:
    tables.append(_pretraining_table(datasets))
  lead = [
    f"{len(digits.last):,} seeds on digits, every stream varied; {seeds.LEVELS[scale]} levels each"
    " of initialisation, order and augmentation, fully crossed; the same questions on CIFAR-10 with"
    " fewer seeds. Distribution-wise: what would show on new examples, too. Accuracies in %,"
    " differences in points.",
  ]
  gone = {name: int((one["diverged"].values >= 0).sum()) for name, one in datasets.items()}
  if any(gone.values()):
    listed = ", ".join(f"{count:,} of {name}" for name, count in gone.items() if count)
    lead.append(f"Diverged, and counted as right at chance level: {listed}.")
  if not given:
    lead.append(
      "CIFAR-10 is not at hand (name its directory: --data_dir), so left out: its runs, Picard's"
      " network, the poke there, whether seeds carry over to it, and pretraining."
    )
  pictures = {}
  if scale != "smoke":
    pictures = {
      **_seeds_pictures(datasets),
      "convergence": _convergence_picture(datasets),
      "time": _time_picture(datasets),
      "sources": _sources_picture(datasets),
    }
    for place in _POKES if given else ("digits",):
      pictures[f"pokes-{place}"] = _poke_picture(datasets, scale, place)
  evidence, preconditions = _evidence(datasets, scale, given)
  return Analysis(_headline(digits), lead, evidence, preconditions, tables, pictures)


def _evidence(datasets, scale: str, given: bool):
  digits, few = spread(datasets["digits/all"]), spread(datasets["digits/slow"])
  many, converged = (spread(datasets[name]) for name in _primary(scale))
  tails = single.heavier_tails(many.last, 1 / many.errors.shape[1], np.random.default_rng(0))
  effects: dict[float, dict[str, crossed.Effect]] = {}

  def total(stream: str, level: float) -> list[Interval]:
    if level not in effects:
      values, *_ = _crossed(datasets["digits/crossed"])
      effects[level] = crossed.effects(values, seeds.FACTORS, level=level)
    return [effects[level][stream].total]

  evidence: dict[str, Callable] = {
    "S1": lambda level: [_squared_points(distribution_wise(many, level))],
    "S2": lambda level: [_spread_kept(converged, level)],
    "S3": lambda level: [tails.p_value],
    "S4": lambda level: [_seeds_against_design(datasets, level)],
    "S5": lambda level: [
      _narrowing(datasets, level),
      _squared_points(_remaining(datasets, level)),
    ],
    "S6 config": lambda level: [_carried(digits, few, level)],
    "S6 data": lambda level: [_carried(digits, spread(datasets["cifar10/all"]), level)],
    **{
      f"S7 {stream}": (lambda level, stream=stream: total(stream, level))
      for stream in seeds.FACTORS
    },
    "S8 digits": lambda level: [_poked(datasets, "digits/poke0", level)],
    "S8 cifar10": lambda level: [_poked(datasets, "cifar10/poke0", level)],
  }
  return evidence, {"S5": given, "S6 data": given, "S8 cifar10": given}


def _share(one: Spread) -> float:
  """The part of the variance of accuracies that is distribution-wise; 0 where they are equal."""
  own = max(distribution_wise(one).estimate, 0)
  return own / one.last.var(ddof=1) if np.ptp(one.last) else 0.0


def _headline(one: Spread) -> str:
  share = 100 * _share(one)
  return (
    f"Luck alone moves the accuracy on digits by {100 * np.ptp(one.last):.2f} points between the"
    f" best and the worst of {len(one.last):,} seeds; {share:.0f} % of the variance over seeds"
    " would show on new examples."
  )


def _points(interval: Interval, scale: float = 100.0, digits: int = 2) -> str:
  values = (scale * x for x in (interval.estimate, interval.low, interval.high))
  if math.isnan(interval.estimate):
    return "-"
  estimate, low, high = (f"{x:z.{digits}f}" for x in values)
  return estimate if math.isnan(interval.low) else f"{estimate} ({low} to {high})"


def _setup(name: str, dataset: xarray.Dataset) -> str:
  """What was trained, with its size."""
  config = dataset.attrs["config"]
  data, model = config["data"], config["model"]
  details = [f"width {model['width']}"]
  if data["train_examples"]:
    details.append(f"{data['train_examples']:,} pictures")
  if data["image_size"]:
    details.append(f"{data['image_size']}x{data['image_size']}")
  return f"{_SETUPS[name]} ({', '.join(details)})"


def _own_sd(own: Interval) -> str:
  """The root of a distribution-wise variance and its limits, in points."""
  root = Interval(*(_sd(x) for x in (own.estimate, own.low, own.high)), own.level, own.method)
  return _points(root)


def _distribution_table(datasets) -> report.Table:
  rows = []
  for name in _SETUPS:
    if name not in datasets:
      continue
    setup, whole = _setup(name, datasets[name]), spread(datasets[name])
    sound = [(f"{setup}, without the {whole.diverged.sum():,} diverged", _sound(whole))]
    for words, one in [(setup, whole), *sound * bool(whole.diverged.any())]:
      rows.append(
        (
          words,
          f"{len(one.last):,}",
          f"{100 * one.last.mean():.2f}",
          _points(single.sd_interval(one.last)),
          _own_sd(distribution_wise(one)),
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


def _yardsticks_table(datasets) -> report.Table:
  rows = []
  for name, setup in _SETUPS.items():
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


def _published_table() -> report.Table:
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
    " narrower, on fewer and smaller pictures, compare in their spread and not in their mean."
  )
  return report.Table("Reported", head, rows, note)


def _alone_table(datasets) -> report.Table:
  whole = spread(datasets["digits/all"])
  rows = []
  for word in (*seeds.FACTORS, "all"):
    one = spread(datasets[f"digits/{word}"])
    ratio = comparison.sd_ratio(
      comparison.align(one.last, one.runs, whole.last, whole.runs, paired=False)
    )
    rows.append(
      (
        "all streams" if word == "all" else word,
        f"{len(one.last):,}",
        f"{100 * one.last.mean():.2f}",
        _points(single.sd_interval(one.last)),
        _own_sd(distribution_wise(one)),
        "1" if word == "all" else _points(ratio, 1),
      )
    )
  head = ("what varies", "seeds", "mean", "sd", "distribution-wise sd", "sd over that of all")
  note = (
    "On digits, the other streams held at seed 0. What a stream does can depend on where the others"
    " stand: the crossed design below averages over that, and its total effects compare with the"
    " squares of the last column. 95 % intervals."
  )
  return report.Table("One stream at a time", head, rows, note)


def _sources_table(datasets) -> report.Table:
  values, first, second = _crossed(datasets["digits/crossed"])
  raw = crossed.effects(values, seeds.FACTORS)
  whole = sum(one.estimate for one in crossed.components(values, seeds.FACTORS).values())
  own = crossed.effects(first, seeds.FACTORS, second)
  rows = [
    (
      stream,
      _points(raw[stream].first, 1),
      _points(raw[stream].total, 1),
      _points(own[stream].first, 1),
      _points(own[stream].total, 1),
      f"{100 * _sd(whole * raw[stream].total.estimate):.2f}",
    )
    for stream in seeds.FACTORS
  ]
  head = (
    "source", "first-order", "total", "first-order, new examples", "total, new examples",
    "sd if it alone varies",
  )  # fmt: skip
  note = (
    "Initialisation x order x augmentation on digits, every combination of levels. Shares of the"
    " variance with 95 % intervals over new levels: first-order, what a source does whatever the"
    " others are; total, what it shows when it varies and the others are fixed, interactions"
    " included, on average over where they are fixed (Sobol effects)."
  )
  return report.Table("Which source is to blame", head, rows, note)


def _components_table(datasets) -> report.Table:
  values, first, second = _crossed(datasets["digits/crossed"])
  raw = crossed.components(values, seeds.FACTORS)
  own = crossed.components(first, seeds.FACTORS, second)
  total = sum(one.estimate for one in raw.values())
  rows = [
    (
      " x ".join(names),
      _points(raw[names], 1e4),
      _points(own[names], 1e4),
      f"{100 * raw[names].estimate / total:.0f} %" if total else "-",
    )
    for names in raw
  ]
  head = ("component", "variance, squared points", "on new examples", "share")
  note = (
    "The same runs: what each source adds by itself and what only their combinations do; the last"
    " row contains whatever nothing else explains. Estimates are unbiased and can be negative."
  )
  return report.Table("Variance components", head, rows, note)


def _poke_table(datasets, scale: str, place: str) -> report.Table:
  rows = []
  for words in _poke_words(scale, place):
    step, _, factor = words.removeprefix("poke").partition(",")
    name = f"{place}/{words}"
    churn = crossed_pairs.crossed_mean(_disagreements(datasets[name]), (1,), True)
    what = "times 1.001" if factor else "one ulp"
    rows.append(
      (f"{what} before step {step}", _points(churn), _points(_poked(datasets, name, 0.95), 1))
    )
  whole = pairs.pair_mean(_churn_rows(datasets[f"{place}/all"]))
  rows.append(("other seeds", _points(whole), "1"))
  head = ("what differs between two runs", "disagreement, %", "over that of other seeds")
  note = (
    "Disagreement: test examples labelled differently. A poke moves one weight of the network,"
    " drawn by its stream: to the next float32, or by a thousandth of itself; everything else is"
    " shared. Other seeds: runs of which every stream differs. 95 % intervals over new pokes and"
    " initialisations; none where no two runs differ."
  )
  return report.Table(f"The poke, {_PLACE_NAMES[place]}", head, rows, note)


def _twins_table(datasets, scale: str) -> report.Table:
  rows, gone = [], 0
  for step in _twin_steps(scale):
    dataset = datasets[f"digits/twins{step}"]
    sound = dataset["diverged"].values < 0
    gone += int((~sound).sum())
    cells = []
    for name, unit in (("barrier", 100), ("disagreement", 100), ("relative_distance", 1)):
      last_R = dataset[name].transpose("run", "evaluation").values[sound, -1]
      cells.append(_points(single.mean_interval(last_R), unit) if len(last_R) else "-")
    rows.append((f"{step}", *cells))
  head = (
    "part at step",
    "barrier, points",
    "disagreement, %",
    "distance between them over that from the start",
  )
  note = (
    "Two trainings that share everything before a step and from it on have another order and"
    " augmentation; from step 0 on they share the initialisation alone. Barrier: highest test"
    " error on the straight line between them, less the mean of both ends (Frankle et al. 2020,"
    " arXiv 1912.05671, call below 2 points stable)."
    + f" {gone} pairs of which one diverged are left out."
    * bool(gone)
  )
  return report.Table("Pairs: is there a hill between two seeds?", head, rows, note)


def _selection_table(one: Spread) -> report.Table:
  rng = np.random.default_rng(0)
  share = _share(one)
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


_CHOICES = {
  "narrow": "half the width",
  "slow": "half the learning rate",
  "large_batch": "twice the batch",
  "smelu": "SmeLU for ReLU",
  "decay": "weight decay of 0.001",
}


def _design_table(datasets) -> report.Table:
  one = spread(datasets["digits/all"])
  effects = _effects_of_design(datasets, 0.95)
  rows = [
    (
      f"{choice}: {_CHOICES[choice]}",
      f"{100 * e.estimate:+.2f} ({100 * e.low:+.2f} to {100 * e.high:+.2f})",
    )
    for choice, e in effects.items()
  ]
  scanned = min(_SCANNED, len(one.last))
  gap = single.expected_range(one.last, scanned)
  rows.append((f"best less worst of {scanned} seeds, expected", _points(gap)))
  ahead = np.sort(one.last)
  wins = (len(ahead) - np.searchsorted(ahead, ahead + _VARIANT - 1e-9)).sum()
  chance = wins / (len(ahead) * (len(ahead) - 1))
  note = (
    "Changes of mean accuracy by design choices listed before training, paired by seed, 95 %"
    f" intervals. With one seed each, a variant that changes nothing wins by {100 * _VARIANT:g}"
    f" points or more with a chance of {100 * chance:.1f} %."
  )
  return report.Table("Seeds beside design choices", ("what", "points"), rows, note)


def _carried_table(datasets) -> report.Table:
  one = spread(datasets["digits/all"])
  names = [f"digits/{choice}" for choice in (*seeds.DESIGN, "long")]
  names += [name for name in ("cifar10/all", "picard/short") if name in datasets]
  rows = []
  for name in names:
    other = spread(datasets[name])
    shared = np.isin(one.runs, other.runs)
    best = one.runs[shared][one.last[shared].argmax()]
    rank = 1 + int((other.last > other.last[other.runs == best]).sum())
    setup = _SETUPS.get(name) or _CHOICES[name.removeprefix("digits/")]
    carried = _points(_carried(one, other, 0.95), 1)
    rows.append((setup, f"{shared.sum():,}", carried, f"{rank:,}"))
  head = ("carried over to", "seeds", "Kendall's tau (95 %)", "rank there of the best seed here")
  note = (
    "Whether the seeds that do well on digits do well elsewhere: at another design choice, in a"
    " longer training, on other data with another network. Seeds draw the same initial weights"
    " where the network is the same, and the same order where the data and the batch are."
  )
  return report.Table("Does a good seed carry over?", head, rows, note)


def _pretraining_table(datasets) -> report.Table:
  rows = []
  for kind, words in (
    ("pretrained", "pretrained on glyphs"),
    ("scratch", "from scratch, backbone's initialisation fixed"),
  ):
    found = _tuned(datasets, kind)
    rows.append(
      (
        words,
        f"{len(found)} x {len(found[0].last)}",
        f"{100 * np.mean([one.last.mean() for one in found]):.2f}",
        f"{100 * _sd(np.mean([one.last.var(ddof=1) for one in found])):.2f}",
        f"{100 * _sd(np.mean([distribution_wise(one).estimate for one in found])):.2f}",
        f"{100 * np.mean([np.ptp(one.last) for one in found]):.2f}",
      )
    )
  rows.append(("ratio", "", "", "", _points(_narrowing(datasets, 0.95), 1), ""))
  head = (
    "network tuned to few pictures", "seeds", "mean", "sd", "distribution-wise sd", "best -"
    " worst",
  )  # fmt: skip
  pictures = datasets["tuned/scratch0"].attrs["config"]["data"]["train_examples"]
  note = (
    f"{pictures:,} pictures of CIFAR-10. Varied: the last layer's initialisation, order and"
    " augmentation, with one backbone at a time; variances are means over the backbones. The"
    " control has the same fixed backbone without pretraining, so that what narrows is the"
    " pretraining and not the fixed initialisation."
  )
  return report.Table("Pretraining, on CIFAR-10", head, rows, note)


def _seeds_pictures(datasets):
  """The runs as a histogram, and in order."""
  found = findings.examine(datasets["digits/all"], "test_accuracy", "digits")
  label = "test accuracy on digits, %"
  s = found.columns[0].summary
  return {
    "distribution": (
      charts.distribution(found, charts.runs(found, {}), label),
      f"Mean {s.mean:.2f}, sd {s.sd:.2f}.",
      "Histogram with density, below it every seed. Lower bar: sd; upper: distribution-wise sd.",
    ),
    "sorted": (
      charts.ranked(found, charts.runs(found, {}), label),
      f"From {s.min:.2f} to {s.max:.2f}.",
      "Sorted accuracies, with the middle 95 % of what a normal sample of that size would give.",
    ),
  }


def _convergence_picture(datasets):
  found = findings.examine(datasets["digits/long"], "test_accuracy", "digits")
  model = charts.curves(found, "test accuracy, %")
  middle = 100 * np.median(spread(datasets["digits/long"]).accuracy, 0)
  text = ", ".join(f"{step}: {m:.2f}" for step, m in zip(found.steps, middle, strict=True))
  caption = (
    "The published schedule on digits: median and the middle 50 and 90 % of the runs, below it"
    " their sd."
  )
  return model, f"Median by step: {text}.", caption


def _time_picture(datasets):
  lines, texts = [], []
  for role, (name, words) in enumerate({"all": "20 epochs", "long": "45 epochs"}.items()):
    one = spread(datasets[f"digits/{name}"])
    level = 1 - 0.05 / len(one.steps)  # Bonferroni
    found = [single.sd_interval(one.accuracy[:, t], level) for t in range(len(one.steps))]
    columns = 100 * np.array([(i.estimate, i.low, i.high) for i in found]).T
    dash = ("solid", "dashed")[role]
    lines.append(charts.Line(words, role, dash, one.steps, *columns))
    values = ", ".join(f"{step}: {sd:.2f}" for step, sd in zip(one.steps, columns[0], strict=True))
    texts.append(f"{words}, sd by step: {values}")
  model = charts.lines(lines, "training step", "sd of accuracy, points", x_axis="linear")
  caption = (
    "The spread over training on digits: the rate falls to zero within 20 epochs, or after the"
    " published schedule is constant from epoch 22 of 45 on. The limits hold at all steps of a line"
    " together (95 %)."
  )
  return model, f"{'; '.join(texts)}.", caption


def _sources_picture(datasets):
  values, *_ = _crossed(datasets["digits/crossed"])
  found = crossed.effects(values, seeds.FACTORS)
  names, rows = [], []
  for stream, effect in found.items():
    for kind, interval in (("first-order", effect.first), ("total", effect.total)):
      names.append(f"{stream}, {kind}")
      limits = (interval.low, interval.high)
      rows.append((interval.estimate, *limits, *limits))
  model = charts.intervals(names, rows, "share of the variance")
  text = "; ".join(f"{n} {row[0]:.2f}" for n, row in zip(names, rows, strict=True))
  return model, f"{text}.", "First-order and total effects of each source, digits, 95 % intervals."


def _poke_picture(datasets, scale: str, place: str):
  steps = [int(words[4:]) for words in _poke_words(scale, place) if words[4:].isdigit()]
  found = [
    crossed_pairs.crossed_mean(_disagreements(datasets[f"{place}/poke{step}"]), (1,), True)
    for step in steps
  ]
  columns = 100 * np.array([(i.estimate, i.low, i.high) for i in found]).T
  whole = pairs.pair_mean(_churn_rows(datasets[f"{place}/all"]))
  level = 100 * np.array([[whole.estimate], [whole.low], [whole.high]]).repeat(len(steps), 1)
  lines = [
    charts.Line("one ulp of one weight", 0, "solid", np.array(steps), *columns),
    charts.Line("other seeds", 1, "dashed", np.array(steps), *level),
  ]
  model = charts.lines(lines, "poked before step", "disagreement, %", x_axis="linear")
  text = "; ".join(f"{s}: {c:.2f}" for s, c in zip(steps, columns[0], strict=True))
  caption = (
    f"Test examples of {_PLACE_NAMES[place]} that two runs label differently, by the step from"
    " which on they differ."
  )
  return model, f"{text}; other seeds {100 * whole.estimate:.2f}.", caption


STUDY = Study("How much of a result is the seed?", claims, sweeps, analyse)
