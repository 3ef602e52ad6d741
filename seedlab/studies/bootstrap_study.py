"""The study "The Deep Bootstrap framework" (Nakkiran, Neyshabur & Sedghi 2021, arXiv 2010.08127).

Does a network that trains on N examples over and over generalise like one that never sees
an example twice? Settings of `studies.bootstrap`, each in a real and in an ideal world,
from many seeds; claims B1 to B4. The bootstrap error of a run is its test error in the
real world less that of the run with the same seeds in the ideal one: they share `init`,
and their examples as far as the real world has any. The paper gives curves and no table of numbers,
so no reported number stands beside ours.

Settings of scale `laptop` were chosen on runs 1,000,000 and up (docs/bootstrap.md);
verdicts use runs 0, 1, 2, ...
"""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import scipy.stats
import xarray

from seedlab import data, findings, report
from seedlab.claims import Claim, Part
from seedlab.config import Config, Data, parse
from seedlab.errors import UserError
from seedlab.report import charts
from seedlab.stats import comparison, curves
from seedlab.stats.curves import Band
from seedlab.stats.single import Interval, jackknife_interval
from seedlab.studies import bootstrap
from seedlab.studies.study import Analysis, Study, Sweep

METRICS = ("soft", "hard")  # errors: 1 - p(label), and whether the label is missed
# Hard train error, not augmented, in evaluation mode, at which a run has converged: at its t*.
_CONVERGED = 0.01
_ROUNDING = 1e-6  # 1 less an accuracy of exactly 99 % may come out above 1 %
_SMALL = 0.03  # of a bootstrap error
_REACH = 0.8  # share of the runs that must converge for a setting to be judged
_RANK_RATIO = 0.5  # B3: mean |gap| beside the sd between settings
_SETTINGS = 8  # fewest of B3
_IDEAL_HARM = 0.02  # B4: most that augmentation may add to the ideal world's error
_SEEDS = {"smoke": 3, "laptop": 10, "paper": 10}


class _Place(NamedTuple):
  """A data set with its settings. The last size is the one that further settings use."""

  name: str
  networks: Sequence[str]
  sizes: Sequence[int]  # N, ascending
  # Settings "network,modifier,..." of the last size alone.
  further: Sequence[str] = ()
  augmented: str = ""  # the modifier of B4; empty: none


class Pair(NamedTuple):
  """A setting in both worlds: error curves of the runs that both have."""

  name: str
  size: int
  runs: np.ndarray  # int64[R]
  steps: np.ndarray  # int64[E]
  real: Mapping[str, np.ndarray]  # metric -> float[R, E], test error
  ideal: Mapping[str, np.ndarray]
  train: np.ndarray  # float[R, E], hard train error in the real world
  converged: np.ndarray  # float[R], t*, or nan

  def gap(self, metric: str) -> np.ndarray:
    """float[R, E]: the bootstrap error."""
    return self.real[metric] - self.ideal[metric]

  def before(self, metric: str) -> np.ndarray:
    """float[R, E]: the bootstrap error up to t*, nan after it."""
    end = np.where(np.isnan(self.converged), np.inf, self.converged)
    return np.where(self.steps[None, :] <= end[:, None], self.gap(metric), np.nan)

  def stopped(self) -> np.ndarray:
    """int64[R]: the evaluation at t*, or the last one where it is not reached."""
    at = np.searchsorted(self.steps, np.where(np.isnan(self.converged), np.inf, self.converged))
    return np.minimum(at, len(self.steps) - 1)

  def only(self, runs: np.ndarray) -> "Pair":
    rows = np.isin(self.runs, runs)
    return self._replace(
      runs=self.runs[rows],
      real={metric: error[rows] for metric, error in self.real.items()},
      ideal={metric: error[rows] for metric, error in self.ideal.items()},
      train=self.train[rows],
      converged=self.converged[rows],
    )

  @property
  def reached(self) -> float:
    return float(np.isfinite(self.converged).mean())


def _places(scale: str) -> list[_Place]:
  """The first one carries B3 and B4."""
  if scale == "smoke":
    return [_Place("glyphs", ("mlp", "cnn"), (64,), ("mlp,shifts",), "shifts")]
  if scale == "laptop":
    networks = ("mlp", "resnet", "vit")
    shifted = tuple(f"{network},shifts" for network in networks)
    rules = tuple(f"mlp,{rule}" for rule in ("momentum", "adam", "rmsprop", "adagrad"))
    further = (*shifted, *rules, "resnet,momentum")
    return [
      _Place("glyphs", networks, (500, 1000), further, "shifts"),
      _Place("cifar10", networks, (500, 1000)),
    ]
  main = ("mlp2048", "preresnet18", "vgg11")
  others = ("mlp128", "mcnn", "alexnet", "densenet40_12", "densenet40_32", "cells0", "cells1")
  augmented = tuple(f"{network},aug2" for network in main)
  optimisers = ("mlp2048,adam", "preresnet18,adam", "preresnet18,momentum", "preresnet18,noise20")
  sizes = (5000, 10_000, 25_000, 50_000)
  return [_Place("cifar5m", main, sizes, (*augmented, *others, *optimisers), "aug2")]


def claims(scale: str) -> list[Claim]:
  """B1 to B4, fixed before training."""
  made = []
  for place in _places(scale):
    settled = (
      f"at least {100 * _REACH:g} % of the runs of each of these settings reach a hard train error"
      f" of {100 * _CONVERGED:g} %"
    )
    for metric in METRICS:
      made += [
        Claim(
          f"B1 {metric}, {place.name}",
          f"until the real world has converged, its {metric} test error is the ideal world's",
          tuple(
            Part(
              f"{network}, N = {size}, largest |bootstrap {metric}-error| up to t*",
              "hi < x",
              (_SMALL,),
            )
            for network in place.networks
            for size in place.sizes
          ),
          f"B2 {metric}, {place.name} holds, and {settled}",
        ),
        Claim(
          f"B2 {metric}, {place.name}",
          "control: long after it has converged, the real world is worse",
          tuple(
            Part(
              f"{network}, N = {place.sizes[0]}, bootstrap {metric}-error at the end",
              "lo > x",
              (_SMALL,),
            )
            for network in place.networks
          ),
          f"{place.name} is at hand",
        ),
      ]
  first = _places(scale)[0]
  made += [
    Claim(
      "B3",
      "what is fast online is good offline: settings rank alike in both worlds",
      (
        Part(
          f"Kendall's tau of real and ideal soft-error at t* over the {first.name} settings that"
          " converge",
          "lo > x",
          (0.0,),
        ),
        Part(
          "mean |bootstrap soft-error| at t* over the sd of the ideal error between settings",
          "hi < x",
          (_RANK_RATIO,),
        ),
      ),
      f"{_SETTINGS} settings or more, N = {first.sizes[-1]}, of which {100 * _REACH:g} % of the"
      " runs converge",
    ),
    Claim(
      "B4",
      "augmentation helps by delaying the real world's convergence, without harm to the ideal one",
      (
        *(
          Part(f"log of t* with over t* without augmentation, {network}", "lo > x", (0.0,))
          for network in first.networks
        ),
        *(
          Part(
            f"change of the ideal world's hard error by augmentation, {network}",
            "hi < x",
            (_IDEAL_HARM,),
          )
          for network in first.networks
        ),
      ),
      "every run without augmentation reaches t*",
    ),
  ]
  return [dataclasses.replace(claim, family="bootstrap") for claim in made]


def sweeps(scale: str, data_dir: str | None) -> list[Sweep]:
  """Every setting in both worlds, on the data that are at hand (at scale paper all)."""
  runs = range(_SEEDS[scale])
  made = []
  for place in _places(scale):
    if scale != "paper" and not _at_hand(place, data_dir):
      continue
    for setting, sizes in _settings(place):
      for size in sizes:
        made.append(Sweep(_name(place, setting, size), _config(scale, place, setting, size), runs))
      ideal = _config(scale, place, setting, sizes[-1], "ideal")
      made.append(Sweep(_name(place, setting), ideal, runs))
  return made


def _settings(place: _Place) -> list[tuple[str, Sequence[int]]]:
  plain = [(network, place.sizes) for network in place.networks]
  return plain + [(setting, place.sizes[-1:]) for setting in place.further]


def _name(place: _Place, setting: str, size: int | None = None) -> str:
  return f"{place.name}/{setting},{f'n{size}' if size else 'ideal'}"


def _config(scale: str, place: _Place, setting: str, size: int, world: str = "real") -> Config:
  network, *modifiers = setting.split(",")
  return bootstrap.config(scale, network, place.name, *modifiers, f"n{size}", world)


def _at_hand(place: _Place, data_dir: str | None) -> bool:
  try:
    data.class_names(Data(name=place.name), data_dir, False)
  except UserError:
    return False
  return True


def analyse(datasets: Mapping[str, xarray.Dataset], scale: str) -> Analysis:
  """Claims, tables and pictures from the finished sweeps."""
  places = [p for p in _places(scale) if _name(p, p.networks[0]) in datasets]
  pairs = {
    place.name: {
      (setting, size): pair(
        datasets[_name(place, setting, size)], datasets[_name(place, setting)], setting, size
      )
      for setting, sizes in _settings(place)
      for size in sizes
    }
    for place in places
  }
  first = places[0]
  evidence, preconditions = {}, {}
  for place in _places(scale):
    for metric in METRICS:
      ids = [f"{claim} {metric}, {place.name}" for claim in ("B1", "B2")]
      if place not in places:
        preconditions |= dict.fromkeys(ids, False)
        continue
      at = pairs[place.name]
      preconditions[ids[1]] = True
      evidence[ids[0]] = functools.partial(_largest_gaps, at, place, metric)
      evidence[ids[1]] = functools.partial(_late_gaps, at, place, metric)
      control = all(gap.low > _SMALL for gap in _late_gaps(at, place, metric, 0.95))
      plain = [at[network, size] for network in place.networks for size in place.sizes]
      preconditions[ids[0]] = control and all(one.reached >= _REACH for one in plain)
  last = _alike({s: pairs[first.name][s, sizes[-1]] for s, sizes in _settings(first)})
  converging = [one for one in last.values() if one.reached >= _REACH]
  evidence["B3"] = functools.partial(_ranks, converging)
  preconditions["B3"] = len(converging) >= _SETTINGS
  evidence["B4"] = functools.partial(_augmentation, last, first)
  preconditions["B4"] = all(last[network].reached == 1 for network in first.networks)
  tables = [_gaps_table(place, pairs[place.name], m) for place in places for m in METRICS]
  tables += [_augmentation_table(last, first), _online_table(datasets, places)]
  missing = [place.name for place in _places(scale) if place not in places]
  lead = [
    f"{_SEEDS[scale]} seeds a setting and world; runs with the same seed are pairs. t* is the first"
    f" evaluation with a hard train error of at most {100 * _CONVERGED:g} % (not augmented, in"
    " evaluation mode). Bands hold at all moments together, on this test set.",
  ]
  if missing:
    lead.append(f"Not at hand, so left out: {', '.join(missing)} (name its directory: --data_dir).")
  pictures = {}
  if scale != "smoke":
    for place in places:
      pictures[f"curves-{place.name}"] = _curves_picture(place, pairs[place.name])
      pictures[f"gaps-{place.name}"] = _gaps_picture(place, pairs[place.name])
      pictures[f"scatter-{place.name}"] = _scatter(place, pairs[place.name])
  return Analysis(_headline(first, last), lead, evidence, preconditions, tables, pictures)


def pair(real: xarray.Dataset, ideal: xarray.Dataset, name: str, size: int) -> Pair:
  """Two stores as a pair; raises UserError if more than their world differs.

  A diverged run counts as chance level from the evaluation after its divergence on.
  """
  bootstrap.check_pair(parse(real.attrs["config"]), parse(ideal.attrs["config"]))
  digests = {print_["data"] for one in (real, ideal) for print_ in one.attrs["fingerprints"]}
  if len(digests) > 1:
    raise UserError(
      f"data.name={parse(real.attrs['config']).data.name!r} of {name} was not the same data in the"
      " real and in the ideal world; train both anew from one --data_dir"
    )
  runs = np.intersect1d(*(_completed(one) for one in (real, ideal)))
  steps = real["evaluation"].values
  worlds = []
  for dataset in (real, ideal):
    rows = np.searchsorted(dataset["run"].values, runs)
    chance = 1 - 1 / findings.class_count(dataset)
    bad = dataset["diverged"].values[rows]
    gone = (bad[:, None] >= 0) & (steps[None, :] > bad[:, None])
    soft = dataset["test_soft_error"].values[rows].astype(np.float64)
    hard = 1 - dataset["test_accuracy"].values[rows].astype(np.float64)
    train = 1 - dataset["train_accuracy"].values[rows].astype(np.float64)
    worlds.append([np.where(gone, chance, error) for error in (soft, hard, train)])
  (soft, hard, train), (ideal_soft, ideal_hard, _) = worlds
  return Pair(
    name,
    size,
    runs,
    steps,
    {"soft": soft, "hard": hard},
    {"soft": ideal_soft, "hard": ideal_hard},
    train,
    curves.first_at_most(train, steps, _CONVERGED + _ROUNDING),
  )


def _completed(dataset: xarray.Dataset) -> np.ndarray:
  return dataset["run"].values[dataset["completed"].values.astype(bool)]


def _band(values: np.ndarray, level: float) -> Band:
  return curves.simultaneous_band(values, level, np.random.default_rng(0))


def _largest_gaps(at, place: _Place, metric: str, level: float) -> list[Interval]:
  return [
    curves.largest_deviation(_band(at[network, size].before(metric), level))
    for network in place.networks
    for size in place.sizes
  ]


def _late_gaps(at, place: _Place, metric: str, level: float) -> list[Interval]:
  return [_mean(at[n, place.sizes[0]].gap(metric)[:, -1], level) for n in place.networks]


def _mean(values: np.ndarray, level: float) -> Interval:
  """The mean of paired differences with its t interval."""
  return _t_interval(values, np.zeros(len(values)), level)


def _t_interval(a: np.ndarray, b: np.ndarray, level: float) -> Interval:
  runs = np.arange(len(a))
  found = comparison.difference(comparison.align(a, runs, b, runs), level)
  return Interval(found.estimate, found.low, found.high, level, found.method)


def _at_stop(one: Pair, metric: str) -> tuple[np.ndarray, np.ndarray]:
  """float[R] twice: the error of each run at its t* (or the end), real and ideal."""
  rows, at = np.arange(len(one.runs)), one.stopped()
  return one.real[metric][rows, at], one.ideal[metric][rows, at]


def _ranks(settings: Sequence[Pair], level: float) -> list[Interval]:
  """Kendall's tau between the worlds, and mean |gap| over the ideal sd between settings."""
  real, ideal = (
    np.array(errors) for errors in zip(*(_at_stop(one, "soft") for one in settings), strict=True)
  )

  def ratio(real_SxR, ideal_SxR):
    real_S, ideal_S = real_SxR.mean(1), ideal_SxR.mean(1)
    return math.log(np.abs(real_S - ideal_S).mean() / ideal_S.std(ddof=1))

  whole = ratio(real, ideal)
  left_out = [
    ratio(np.delete(real, run, 1), np.delete(ideal, run, 1)) for run in range(real.shape[1])
  ]
  limits = np.exp([whole, *jackknife_interval(whole, left_out, level)]).tolist()
  return [
    curves.kendall_tau(real.mean(1), ideal.mean(1), level),
    Interval(*limits, level, "run jackknife of the log"),
  ]


def _augmentation(last: Mapping[str, Pair], place: _Place, level: float) -> list[Interval]:
  delays, harms = [], []
  for network in place.networks:
    plain, augmented = last[network], last[f"{network},{place.augmented}"]
    delays.append(_delay(augmented, plain, level))
    harms.append(_t_interval(augmented.ideal["hard"][:, -1], plain.ideal["hard"][:, -1], level))
  return delays + harms


def _delay(augmented: Pair, plain: Pair, level: float) -> Interval:
  """log t* of `augmented` less log t* of `plain`, which every run has to reach.

  A t* is known to the interval between two evaluations, and one that is not reached only
  to lie beyond the last. So low is the t interval's limit for the smallest ratios that these
  allow, high for the largest, which is no number where a run does not reach its t*. Where
  all runs have the same ratio there is no spread, and it is the limit itself.
  """
  first, last = _stops(augmented)
  plain_first, plain_last = _stops(plain)
  least, most = np.log(first / plain_last), np.log(last / np.maximum(plain_first, 1))
  low = _mean(least, level).low
  if math.isnan(low):
    low = float(least.min())
  high = math.inf
  if np.isfinite(most).all():
    high = _mean(most, level).high
    if math.isnan(high):
      high = float(most.max())
  seen = np.minimum(last, augmented.steps[-1])
  estimate = float(np.log(seen / plain_last).mean())
  return Interval(estimate, low, high, level, "t interval of censored ratios")


def _stops(one: Pair) -> tuple[np.ndarray, np.ndarray]:
  """float[R] twice: t* lies above the one and not above the other; inf if it is not reached."""
  reached = np.isfinite(one.converged)
  at = one.stopped()
  before = np.concatenate([[0], one.steps[:-1]])[at]
  return (
    np.where(reached, before, one.steps[-1]).astype(np.float64),
    np.where(reached, one.converged, np.inf),
  )


def _alike(pairs: Mapping[str, Pair]) -> dict[str, Pair]:
  """The same pairs with the runs that all of them have."""
  shared = functools.reduce(np.intersect1d, [one.runs for one in pairs.values()])
  return {name: one.only(shared) for name, one in pairs.items()}


def _headline(place: _Place, last: Mapping[str, Pair]) -> str:
  words = []
  for network in place.networks:
    gaps = [np.subtract(*_at_stop(last[network], metric)).mean() for metric in METRICS]
    words.append(f"{network} {100 * gaps[0]:+.1f} and {100 * gaps[1]:+.1f}")
  return (
    f"When the real world has fitted its {place.sizes[-1]:,} {place.name}, its soft- and hard-error"
    f" differ from the ideal world's by, in points: {'; '.join(words)}."
  )


def _points(interval: Interval) -> str:
  if math.isnan(interval.low):
    return f"{100 * interval.estimate:+.2f}"
  low, high = 100 * interval.low, 100 * interval.high
  return f"{100 * interval.estimate:+.2f} ({low:.2f} to {high:.2f})"


def _gaps_table(place: _Place, pairs: Mapping[tuple[str, int], Pair], metric: str) -> report.Table:
  head = (
    "setting", "N", "seeds", "t*", "reached, %", "largest |gap| to t*", "gap at t*",
    "gap at the end", "ideal world, end, %",
  )  # fmt: skip
  rows = []
  for (setting, size), one in pairs.items():
    largest = curves.largest_deviation(_band(one.before(metric), 0.95))
    low, high = 100 * largest.low, 100 * largest.high
    rows.append(
      (
        setting,
        f"{size:,}",
        str(len(one.runs)),
        _median_stop(one),
        f"{100 * one.reached:.0f}",
        f"{100 * largest.estimate:.2f} ({low:.2f} to {high:.2f})",
        _points(_t_interval(*_at_stop(one, metric), 0.95)),
        _points(_mean(one.gap(metric)[:, -1], 0.95)),
        f"{100 * one.ideal[metric][:, -1].mean():.2f}",
      )
    )
  note = (
    "Bootstrap errors, real less ideal, in points with 95 % intervals (simultaneous over the"
    " evaluations where it says largest). t*: the median of the runs that reach it, in steps; the"
    " gaps at t* take the last evaluation of a run that does not."
  )
  return report.Table(f"Bootstrap {metric}-error on {place.name}", head, rows, note)


def _median_stop(one: Pair) -> str:
  """The median t* of the runs that reach it."""
  reached = one.converged[np.isfinite(one.converged)]
  return f"{np.median(reached):,.0f}" if len(reached) else "-"


def _augmentation_table(last: Mapping[str, Pair], place: _Place) -> report.Table:
  rows = []
  for network in place.networks:
    if f"{network},{place.augmented}" not in last:
      continue
    plain, augmented = last[network], last[f"{network},{place.augmented}"]
    ends = [one.ideal["hard"][:, -1] for one in (augmented, plain)]
    tests = [one.real["hard"][:, -1] for one in (augmented, plain)]
    later = "-"
    if plain.reached == 1:
      delay = _delay(augmented, plain, 0.95)
      low, high = np.exp([delay.low, delay.high])
      least = "" if augmented.reached == 1 else "at least "
      later = f"{least}{math.exp(delay.estimate):.2f} ({low:.2f} to {high:.2f})"
    rows.append(
      (
        network,
        f"{100 * augmented.reached:.0f}",
        later,
        _points(_t_interval(*ends, 0.95)),
        _points(_t_interval(*tests, 0.95)),
      )
    )
  head = (
    "network", "reached t*, %", "t* with over t* without", "ideal hard error, change",
    "real hard error, change",
  )  # fmt: skip
  note = (
    f"Augmentation: {place.augmented}, N = {place.sizes[-1]:,}. A run that does not reach t* counts"
    " with the last step, and its limit above is no number; limits allow for the evaluations' grid."
    " Changes of the error at the end, in points."
  )
  return report.Table("Augmentation", head, rows, note)


def _online_table(datasets: Mapping[str, xarray.Dataset], places: Sequence[_Place]) -> report.Table:
  """Whether, where nothing is reused, errors on what is trained on next are test errors."""
  rows = []
  for place in places:
    for network in place.networks:
      dataset = datasets[_name(place, network)]
      sound = (dataset["diverged"].values < 0) & dataset["completed"].values.astype(bool)
      if sound.sum() < 2:
        rows.append((f"{place.name}, {network}", "-", "-", "fewer than two runs did not diverge"))
        continue
      losses, errors = (
        (dataset[f"train_{name}"] - dataset[f"test_{name}"]).values[sound].mean(1)
        for name in ("loss", "accuracy")
      )
      error = 1 - float(dataset["test_accuracy"].values[sound].mean())
      spread = scipy.stats.norm.ppf(0.975) * math.sqrt(
        error * (1 - error) / len(dataset["label"]) + errors.var(ddof=1) / len(errors)
      )
      gap = _mean(losses, 0.95)
      rows.append(
        (
          f"{place.name}, {network}",
          f"{gap.estimate:+.4f} ({gap.low:.4f} to {gap.high:.4f})",
          f"{-100 * errors.mean():+.2f} ± {100 * spread:.2f}",
          "yes" if abs(errors.mean()) <= spread else "NO",
        )
      )
  head = ("ideal world of", "online less test loss", "online less test error, points", "equal")
  note = (
    "Check: in an ideal world the loss on examples about to be trained on is a test loss, whatever"
    " the step. Means over all evaluations; the interval of the loss speaks of these test examples,"
    " that of the error of new ones too, which makes it the one to judge by."
  )
  return report.Table("Online loss is test loss", head, rows, note)


def _curves_picture(place: _Place, pairs: Mapping[tuple[str, int], Pair]):
  lines = []
  size = place.sizes[-1]
  for role, network in enumerate(place.networks):
    one = pairs[network, size]
    for label, values, dash in (
      (f"{network}, real", one.real["soft"], "solid"),
      (f"{network}, ideal", one.ideal["soft"], "dashed"),
      (f"{network}, train", one.train, "dotted"),
    ):
      band = _band(values, 0.95)
      lines.append(charts.Line(label, role, dash, one.steps, band.mean, band.low, band.high))
  label = f"error on {place.name}"
  model = charts.lines(lines, "training step", label)
  ends = "; ".join(f"{line.name} {line.middle[-1]:.3f}" for line in lines)
  caption = (
    f"Soft test error in the real world (N = {size:,}, solid) and in the ideal one (dashed), and"
    " the real world's hard train error (dotted), with simultaneous 95 % bands over seeds."
  )
  return model, f"{label} at the end of training: {ends}.", caption


def _gaps_picture(place: _Place, pairs: Mapping[tuple[str, int], Pair]):
  lines = []
  size = place.sizes[-1]
  for role, network in enumerate(place.networks):
    one = pairs[network, size]
    for metric, dash in zip(METRICS, ("solid", "dashed"), strict=True):
      band = _band(one.gap(metric), 0.95)
      label = f"{network}, {metric}"
      lines.append(charts.Line(label, role, dash, one.steps, band.mean, band.low, band.high))
  model = charts.lines(lines, "training step", "bootstrap error", guides=(-_SMALL, _SMALL))
  ends = "; ".join(f"{line.name} {line.middle[-1]:+.3f}" for line in lines)
  stops = ", ".join(f"{n} {_median_stop(pairs[n, size])}" for n in place.networks)
  caption = (
    f"Bootstrap error on {place.name}, N = {size:,}: real less ideal test error, soft (solid) and"
    f" hard (dashed), with simultaneous 95 % bands; B1 asks that it stay within ±{_SMALL:g} until"
    f" t* (median: {stops})."
  )
  return model, f"Bootstrap error on {place.name} at the end of training: {ends}.", caption


def _scatter(place: _Place, pairs: Mapping[tuple[str, int], Pair]):
  last = place.sizes[-1]
  names = [setting if size == last else f"{setting}, N = {size:,}" for setting, size in pairs]
  both = [[values.mean() for values in _at_stop(one, "soft")] for one in pairs.values()]
  real, ideal = ([values[world] for values in both] for world in (0, 1))
  model = charts.against(names, ideal, real, "ideal world", "real world")
  alt = "; ".join(f"{name} {x:.3f}, {y:.3f}" for name, x, y in zip(names, ideal, real, strict=True))
  caption = (
    f"Soft test error at t* (or the end) of every setting on {place.name}, N = {last:,} where it"
    " says nothing else: on the line both worlds agree."
  )
  return model, f"Ideal and real soft-error: {alt}.", caption


STUDY = Study("Real World or Ideal World?", claims, sweeps, analyse)
