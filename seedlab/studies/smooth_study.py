"""The study "Do smooth activations make networks agree?" (Shamir & Lin 2022, arXiv 2202.06499).

Two trainings of one network are equally accurate and still predict different things for
one example: prediction difference, PD. The papers say that the kinks of ReLU are a
cause, and that smooth activations, SmeLU the simplest, lower PD at no loss in accuracy.
Here PD is the mean over pairs of runs of |p - p'|, the probability of a click, or summed
over the classes of pictures.

Primary source: the initialisation fixed, the order of the examples varied. Every setting
is trained from a crossed design, each of its initialisations in each of its orders, and
PD taken over the pairs that share the initialisation. Intervals leave out an order in all
initialisations at once: they speak of new orders of these initialisations. Of each
family of activations the width is chosen on the first half of the orders and judged on
the second. Claims M1 to M6.

The papers' tables are not at hand (papers/...: neither their data nor grids are public), so no
reported number stands beside ours.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import xarray

from seedlab import data, metrics, records, report
from seedlab.claims import Claim, Part
from seedlab.config import Config, Data, Model, Optimizer, Seeds, Training, changed
from seedlab.data import catalogue
from seedlab.errors import UserError
from seedlab.report import charts
from seedlab.stats import crossed_pairs, pairs
from seedlab.stats.single import Interval, jackknife_interval, mean_interval
from seedlab.studies import smooth
from seedlab.studies.study import Analysis, Study, Sweep

_LOWER = 0.95  # M1: of ReLU's PD
_LOSS_SHARE = 1 / 3  # M2: of what a linear network loses against ReLU
_EQUAL = (0.9, 1.1)  # M3
_RUNS = {"smoke": 4, "laptop": 16, "paper": 32}  # where one stream varies
_INITS = {"smoke": 4, "laptop": 24, "paper": 50}  # where that is the initialisation
_UNITS = {"smoke": 16, "laptop": 256, "paper": 1000}
_ENSEMBLE = 3

# Families of smooth activations and their widths, the sharpest first.
_FAMILIES = {
  "movielens": {
    "smelu": (0.1, 0.25, 0.5, 1, 2),
    "swish": (4, 2, 1),
    "softplus": (8, 4, 2),
    "gelu": (1,),
    "mish": (),
    "tanhexp": (),
  },
  "clicks": {"smelu": (0.25, 0.5, 1, 2), "swish": (2, 1), "gelu": (1,)},
  "digits": {"smelu": (0.25, 0.5, 1, 2), "swish": (2, 1), "gelu": (1,)},
  "cifar10": {"smelu": (0.5, 1, 2), "swish": (2, 1), "gelu": (1,)},
  "criteo": {"smelu": (0.25, 0.5, 1, 2), "swish": (1,)},
}
_MATCHED = ("swish", "softplus", "gelu")  # M3: what SmeLU is compared with
_BESIDE = "smelu=1"  # the smooth setting shown beside ReLU where one is enough
_FIXED_WIDTH = ("smelu=1", "swish=1", "softplus=2", "gelu=1")  # of M1 where nothing is chosen
_SOURCES = {
  "init": "another initialisation, the order fixed",
  "sample": "another 60,000 of the training ratings",
  "dropout": "other units dropped (a tenth)",
  "poke": "one weight moved by one ulp before the first step",
  "order,time": "another order, tested on the latest fifth of the ratings",
  "order,window1000": "order shuffled among 1,000",
  "order,window100": "order shuffled among 100",
  "order,window10": "order shuffled among 10",
}
_REMEDIES = {
  "average": ("moving average of the parameters", "1", "1"),
  "towers3": ("self-ensemble: three stacks of hidden layers", "about 2", "about 2"),
  "codistill": ("co-distillation with a second network", "1", "2"),
  "taught": ("distillation from one earlier run", "1", "1.3, and the teacher"),
}
_UNIT_SETTINGS = ("relu", "smelu=0.25", "smelu=1", "smelu=4", "linear")


class Place(NamedTuple):
  """The settings of one place, measured; every array has initialisations and orders in front."""

  name: str
  settings: Mapping[str, "Measured"]  # in the order in which they are shown


class Measured(NamedTuple):
  """A setting of a crossed design of I initialisations and J orders, at T evaluations."""

  steps: np.ndarray  # int64[T]
  loss: np.ndarray  # float64[I, J, T]
  score: np.ndarray  # float64[I, J, T]: AUC of clicks, accuracy of pictures
  tables: crossed_pairs.PairTables  # of PD at the end
  order_T: Sequence[np.ndarray]  # rows of order-only PD at each evaluation, float64[I, J]
  judged_T: Sequence[np.ndarray]  # within the second half of the orders, float64[I, J - J // 2]
  first_half: np.ndarray  # at the end, within the first half of the orders, float64[I, J // 2]
  churn: np.ndarray  # rows of changed labels at the end, float64[I, J]
  overlap: np.ndarray | None  # of lists at the end, within the second half of the orders
  ensembles: np.ndarray  # of means over the first _ENSEMBLE initialisations, float64[1, J]


def _settings(place: str, scale: str) -> list[str]:
  families = _FAMILIES[place]
  if scale == "smoke":
    families = {"smelu": (0.5, 1)}
  found = ["relu", "linear"]
  for family, widths in families.items():
    found += [f"{family}={width:g}" for width in widths] or [family]
  return found


def _of_family(place: str, scale: str) -> dict[str, list[str]]:
  """Smooth families -> their settings, the sharpest first."""
  found: dict[str, list[str]] = {}
  for setting in _settings(place, scale)[2:]:
    found.setdefault(setting.split("=")[0], []).append(setting)
  return found


def claims(scale: str) -> list[Claim]:
  """M1 to M6, fixed before training."""
  made = []
  places = smooth.places(scale)
  beats = "the log-loss of a linear network is above ReLU's, at 95 %"
  for place in places:
    families = list(_of_family(place, scale))
    made += [
      Claim(
        f"M1 order, {place}",
        "smooth activations lower prediction difference, whatever they are",
        tuple(
          Part(f"order-only PD of {f} over ReLU's, {place}, width chosen", "hi < x", (_LOWER,))
          for f in families
        ),
        f"{place} is at hand, and {beats}",
      ),
      Claim(
        f"M2 {place}",
        "at no loss in accuracy",
        tuple(
          Part(
            f"log-loss of {f} over ReLU's, less a third of a linear network's, {place}",
            "hi < x",
            (0.0,),
          )
          for f in families
        ),
        f"{place} is at hand, and {beats}",
      ),
      Claim(
        f"M5 {place}",
        "it is not merely less learning",
        (
          Part(
            f"order-only PD of smelu over that of ReLU stopped at the same log-loss, {place}",
            "hi < x",
            (1.0,),
          ),
        ),
        f"{place} is at hand, and ReLU is evaluated at a log-loss as high as SmeLU's last one",
      ),
    ]
  first = places[0]
  matched = [f for f in _MATCHED if f in _FAMILIES[first]]
  made += [
    Claim(
      f"M1 init, {first}",
      "smooth activations lower prediction difference, whatever they are",
      tuple(
        Part(f"init-only PD of {s} over ReLU's, {first}", "hi < x", (_LOWER,))
        for s in _fixed_width(scale)
      ),
      f"{first} is at hand, and {beats}",
    ),
    Claim(
      "M3",
      "the simplest smooth activation does as well as the others",
      tuple(
        Part(
          f"order-only PD of smelu over that of {f} at the log-loss of {f} (mean of the logs over"
          " its widths)",
          "within [a, b]",
          _EQUAL,
        )
        for f in matched
      ),
      f"{first} is at hand, and {beats}",
    ),
    Claim(
      "M4",
      "a wider smooth region trades accuracy for agreement",
      (
        Part("slope of log PD on log beta of smelu", "hi < x", (0.0,)),
        Part("log-loss of the widest smelu less that of the sharpest", "lo > x", (0.0,)),
      ),
      f"{first} is at hand, and {beats}",
    ),
    Claim(
      "M6",
      "lists get steadier",
      (
        Part(
          "top-10 overlap of a user's lists between two orders, smelu less ReLU", "lo > x", (0.0,)
        ),
      ),
      f"{first} is at hand, and {beats}",
    ),
  ]
  return [dataclasses.replace(claim, family="smooth") for claim in made]


def _fixed_width(scale: str) -> Sequence[str]:
  return _FIXED_WIDTH[:1] if scale == "smoke" else _FIXED_WIDTH


def sweeps(scale: str, data_dir: str | None) -> list[Sweep]:
  """Every setting, on the data that are at hand (at scale paper all)."""
  made = []
  inits, orders = smooth.LEVELS[scale]
  crossed = range(inits * orders)
  for place in smooth.places(scale):
    if scale != "paper" and not _at_hand(place, data_dir):
      continue
    for setting in _settings(place, scale):
      config = smooth.config(scale, place, setting, "crossed")
      made.append(_sweep(f"{place}/{setting}", config, crossed))
  first = smooth.places(scale)[0]
  if scale == "paper" or _at_hand(first, data_dir):
    made += _around(scale, first)
  for setting in _UNIT_SETTINGS[: 2 if scale == "smoke" else None]:
    made.append(Sweep(f"unit/{setting}", _unit(setting), range(_UNITS[scale])))
  return made


def _sweep(name: str, config: Config, runs: range, **options) -> Sweep:
  # Lanes of networks with tables of embeddings are slower on a CPU than run after run.
  lanes = "loop" if config.model.name.startswith("ctr") else "auto"
  return Sweep(name, config, runs, lanes=lanes, **options)


def _around(scale: str, place: str) -> list[Sweep]:
  """Further sources, remedies, slices and numerics, of ReLU and one smooth setting."""
  made = []
  inits, orders = smooth.LEVELS[scale]
  smoke = scale == "smoke"
  for setting in ("relu", _BESIDE):
    for source in ("init", "poke") if smoke else _SOURCES:
      runs = _INITS[scale] if source == "init" else _RUNS[scale]
      config = smooth.config(scale, place, setting, *source.split(","))
      made.append(_sweep(f"{place}/{source}/{setting}", config, range(runs)))
    # The first initialisation of the crossed design again, in lanes.
    config = changed(smooth.config(scale, place, setting, "crossed"), {"seeds.levels": (1, orders)})
    made.append(Sweep(f"{place}/numerics/{setting}", config, range(orders), width=4))
  for setting in _fixed_width(scale)[1:]:
    config = smooth.config(scale, place, setting, "init")
    made.append(_sweep(f"{place}/init/{setting}", config, range(_INITS[scale])))
  fewer = {"seeds.levels": (inits, orders // 2)}
  for remedy in ("taught",) if smoke else _REMEDIES:
    words = () if remedy == "taught" else (remedy,)
    config = changed(smooth.config(scale, place, "relu", "crossed", *words), fewer)
    teacher = f"{place}/relu" if remedy == "taught" else ""
    name = f"{place}/{remedy}/relu"
    made.append(_sweep(name, config, range(inits * (orders // 2)), teacher=teacher))
  if not smoke:
    config = changed(smooth.config(scale, place, _BESIDE, "crossed", "average"), fewer)
    made.append(_sweep(f"{place}/average/{_BESIDE}", config, range(inits * (orders // 2))))
  for setting in ("relu", _BESIDE) if smoke else ("relu", _BESIDE, "linear"):
    config = smooth.config(scale, place, setting, "slices")
    made.append(_sweep(f"{place}/slices/{setting}", config, range(4)))
  return made


def _unit(setting: str) -> Config:
  """One hidden unit between 64 pixels and two classes: where a kink alone decides."""
  name, _, width = setting.partition("=")
  return Config(
    data=Data(name="gaussians", train_examples=1000, test_examples=1000),
    model=Model(
      name="mlp", width=1, depth=1, activation=name,
      activation_kwargs=(("beta", float(width)),) if width else (),
    ),
    optimizer=Optimizer(learning_rate=0.05, schedule="constant", momentum=0.0),
    training=Training(batch_size=10, epochs=3),
    evaluation=dataclasses.replace(smooth.KEPT, every_epochs=3),
    seeds=Seeds(vary=("init",)),
  )  # fmt: skip


def _at_hand(place: str, data_dir: str | None) -> bool:
  try:
    if place == "movielens":  # whose classes are known without it
      catalogue.find("movielens/100k-ratings", data_dir, download=False, pictures=False)
    else:
      data.class_names(Data(name=place), data_dir, False)
  except UserError:
    return False
  return True


# --- what was measured


def _measured(dataset: xarray.Dataset, name: str) -> Measured:
  """Raises UserError where a run of the design is missing or diverged."""
  sound = dataset["completed"].values.astype(bool) & (dataset["diverged"].values < 0)
  if not sound.all():
    raise UserError(
      f"{name}: {int((~sound).sum())} of {len(sound)} runs diverged or are missing, and a crossed"
      " design needs all of them; lower optimizer.learning_rate"
    )
  init_R, order_R = (dataset[f"seed_{stream}"].values for stream in ("init", "order"))
  orders = np.unique(order_R)
  late_R = np.isin(order_R, orders[len(orders) // 2 :])
  probability = dataset["probability"].transpose("run", "evaluation", ...).values
  end = probability[:, -1]

  def crossed(values_R, chosen_R=slice(None)) -> np.ndarray:
    at = np.lexsort((order_R[chosen_R], init_R[chosen_R]))
    inits = len(np.unique(init_R))
    return np.asarray(values_R, np.float64)[at].reshape(inits, -1, *np.shape(values_R)[1:])

  def rows(predictions, chosen_R=slice(None), of=pairs.l1_rows) -> np.ndarray:
    return crossed(of(predictions[chosen_R], groups=init_R[chosen_R]), chosen_R)

  together_R = np.isin(init_R, np.unique(init_R)[:_ENSEMBLE])
  ensembles = np.stack([end[together_R & (order_R == order)].mean(0) for order in orders])
  overlap = None
  if "best_films" in dataset:
    lists = dataset["best_films"].transpose("run", ...).values
    overlap = rows(lists, late_R, metrics.list_overlap_rows)
  score = "test_auc" if "test_auc" in dataset else "test_accuracy"
  return Measured(
    steps=dataset["evaluation"].values,
    loss=crossed(dataset["test_loss"].transpose("run", "evaluation").values),
    score=crossed(dataset[score].transpose("run", "evaluation").values),
    tables=crossed_pairs.pair_tables(functools.partial(pairs.l1_rows, end), init_R, order_R),
    order_T=[rows(probability[:, t]) for t in range(probability.shape[1])],
    judged_T=[rows(probability[:, t], late_R) for t in range(probability.shape[1])],
    first_half=rows(end, ~late_R),
    churn=rows(dataset["predicted_label"].transpose("run", "example").values, of=pairs.churn_rows),
    overlap=overlap,
    ensembles=pairs.l1_rows(ensembles)[None],
  )


# What follows is in one form: float[1 + J], a statistic of all orders, then without each.


def _pd(rows_IxJ: np.ndarray) -> np.ndarray:
  mean, (left_J,) = crossed_pairs.without_levels(rows_IxJ, (1,))
  return np.concatenate([[mean], left_J])


def _mean(values_IxJ: np.ndarray) -> np.ndarray:
  J = values_IxJ.shape[1]
  columns_J = values_IxJ.mean(0)
  return np.concatenate([[columns_J.mean()], (columns_J.sum() - columns_J) / (J - 1)])


def _interval(left: np.ndarray, level: float, log: bool = False) -> Interval:
  """Of a statistic in that form, on the log scale where it is a ratio."""
  values = np.log(left) if log else left
  if not np.isfinite(values).all():
    return Interval(float(left[0]), math.nan, math.nan, level, "jackknife over orders")
  low, high = jackknife_interval(float(values[0]), values[1:], level)
  if log:
    low, high = math.exp(low), math.exp(high)
  return Interval(float(left[0]), low, high, level, "jackknife over orders, these initialisations")


def _second_half(values: np.ndarray) -> np.ndarray:
  return values[:, values.shape[1] // 2 :]


def _chosen(place: Place, names: Sequence[str]) -> str:
  """The width of a family with the least PD among those that lose little, on the first half.

  Little: a third of what the linear network loses against ReLU. Where all lose more, the
  one that loses least.
  """

  def loss(name: str) -> float:
    values = place.settings[name].loss[..., -1]
    return float(values[:, : values.shape[1] // 2].mean())

  relu, linear = loss("relu"), loss("linear")
  good = [n for n in names if loss(n) - relu < _LOSS_SHARE * (linear - relu)]
  if not good:
    return min(names, key=loss)
  return min(good, key=lambda n: place.settings[n].first_half.sum())


def _linear_loses(place: Place) -> bool:
  """Whether ReLU beats a linear network, the precondition of most claims."""
  losses = [_mean(place.settings[name].loss[..., -1]) for name in ("linear", "relu")]
  return _interval(losses[0] - losses[1], 0.95).low > 0


def _pd_ratios(place: Place, names: Sequence[str], level: float) -> list[Interval]:
  relu = _pd(place.settings["relu"].judged_T[-1])
  return [
    _interval(_pd(place.settings[name].judged_T[-1]) / relu, level, log=True) for name in names
  ]


def _extra_losses(place: Place, names: Sequence[str], level: float) -> list[Interval]:
  relu, linear, *others = (
    _mean(_second_half(place.settings[name].loss[..., -1])) for name in ("relu", "linear", *names)
  )
  return [_interval(one - relu - _LOSS_SHARE * (linear - relu), level) for one in others]


def _stopped(place: Place, name: str, level: float) -> Interval:
  """PD of a setting at the end over ReLU's at the log-loss that the setting ends with.

  ReLU's PD is interpolated, on the log scale, between the evaluations around the moment at
  which its mean log-loss first is as low; before the first one there is nothing to
  interpolate (nan). Where ReLU never gets as low, its best evaluation counts.
  """
  relu, other = place.settings["relu"], place.settings[name]
  ours = _mean(_second_half(other.loss[..., -1]))
  times = range(len(relu.steps))
  losses = np.stack([_mean(_second_half(relu.loss[..., t])) for t in times])
  differences = np.stack([_pd(relu.judged_T[t]) for t in times])
  best = int(losses[:, 0].argmin())
  stopped = [
    _at_loss(losses[: best + 1, k], np.log(differences[: best + 1, k]), ours[k])
    for k in range(len(ours))
  ]
  return _interval(_pd(other.judged_T[-1]) / np.exp(stopped), level, log=True)


def _at_loss(losses_T: np.ndarray, values_T: np.ndarray, loss: float) -> float:
  """The value where falling losses first reach a loss; nan above the first, the last below all."""
  if loss > losses_T[0]:
    return math.nan
  reached = np.flatnonzero(losses_T <= loss)
  if not len(reached):
    return float(values_T[-1])
  at = reached[0]
  if at == 0:
    return float(values_T[0])
  share = (losses_T[at - 1] - loss) / (losses_T[at - 1] - losses_T[at])
  return float(values_T[at - 1] + share * (values_T[at] - values_T[at - 1]))


def _matched(place: Place, family: Sequence[str], smelus: Sequence[str], level: float) -> Interval:
  """PD of SmeLU over that of a family at equal log-loss, the mean of the logs over its widths.

  SmeLU's log PD is interpolated along its widths, ReLU among them, by log-loss; beyond its
  ends the nearest one counts.
  """
  ours = [place.settings[name] for name in ("relu", *smelus)]
  losses = np.stack([_mean(one.loss[..., -1]) for one in ours])
  logs = np.log([_pd(one.order_T[-1]) for one in ours])
  found = []
  for name in family:
    loss, log = (
      _mean(place.settings[name].loss[..., -1]),
      np.log(_pd(place.settings[name].order_T[-1])),
    )
    order = losses.argsort(axis=0)
    at_loss = [
      np.interp(loss[k], losses[order[:, k], k], logs[order[:, k], k]) for k in range(len(loss))
    ]
    found.append(np.array(at_loss) - log)
  return _interval(np.exp(np.mean(found, axis=0)), level, log=True)


def _width_effect(place: Place, smelus: Sequence[str], level: float) -> list[Interval]:
  """Slope of log PD on log beta by least squares, and log-loss of the widest less the sharpest."""
  settings = [place.settings[name] for name in smelus]
  widths = np.log([float(name.partition("=")[2]) for name in smelus])
  logs = np.log([_pd(one.order_T[-1]) for one in settings])
  centred = widths - widths.mean()
  slope = centred @ logs / (centred @ centred)
  losses = [_mean(settings[at].loss[..., -1]) for at in (-1, 0)]
  return [_interval(slope, level), _interval(losses[0] - losses[1], level)]


def _overlap_gain(place: Place, name: str, level: float) -> Interval:
  tables = [place.settings[one].overlap for one in (name, "relu")]
  return crossed_pairs.crossed_difference(*tables, level=level)


def _init_ratios(datasets: Mapping[str, xarray.Dataset], place: str, names, level: float):
  relu = _rows(datasets[f"{place}/init/relu"])
  return [
    pairs.pair_ratio(_rows(datasets[f"{place}/init/{name}"]), relu, paired=True, level=level)
    for name in names
  ]


def _rows(dataset: xarray.Dataset) -> np.ndarray:
  """rows_R of PD at the end, of the runs that did not diverge."""
  sound = dataset["completed"].values.astype(bool) & (dataset["diverged"].values < 0)
  return pairs.l1_rows(dataset["probability"].transpose("run", "evaluation", ...).values[sound, -1])


# --- what is said


def analyse(datasets: Mapping[str, xarray.Dataset], scale: str) -> Analysis:
  names = [name for name in smooth.places(scale) if f"{name}/relu" in datasets]
  found = {}
  for name in names:
    stores = {setting: datasets[f"{name}/{setting}"] for setting in _settings(name, scale)}
    records.check_evaluation_sets(stores)
    found[name] = Place(name, {s: _measured(store, s) for s, store in stores.items()})
  first = smooth.places(scale)[0]
  chosen = {
    name: {f: _chosen(place, all_) for f, all_ in _of_family(name, scale).items()}
    for name, place in found.items()
  }
  evidence, preconditions = _evidence(datasets, found, chosen, scale)
  tables = [_settings_table(place, chosen[name]) for name, place in found.items()]
  pictures = {}
  for name, place in found.items():
    pictures[f"tradeoff-{name}"] = _tradeoff_picture(place, scale)
    pictures[f"time-{name}"] = _time_picture(place, scale)
  lead = [
    "PD is the mean over pairs of runs of |p - p'|: of the probability of a click, summed over the"
    " classes for pictures. Order-only: the initialisation shared, the order of the examples not;"
    f" {smooth.LEVELS[scale][0]} initialisations in {smooth.LEVELS[scale][1]} orders. Intervals are"
    " for new orders of these initialisations on these test examples.",
  ]
  missing = [name for name in smooth.places(scale) if name not in names]
  if missing:
    lead.append(f"Not at hand, so left out: {', '.join(missing)} (name its directory: --data_dir).")
  if first in found:
    tables += [
      _sources_table(datasets, found[first]),
      _measures_table(datasets, first),
      _remedies_table(datasets, found[first]),
      _slices_table(datasets, first),
    ]
    pictures["slices"] = _slices_picture(datasets, first)
  tables.append(_unit_table(datasets))
  return Analysis(_headline(found, chosen), lead, evidence, preconditions, tables, pictures)


def _evidence(datasets, found: Mapping[str, Place], chosen, scale: str):
  evidence: dict[str, Callable[[float], list[Interval]]] = {}
  preconditions: dict[str, bool] = {}
  for name in smooth.places(scale):
    place, names = found.get(name), list(chosen.get(name, {}).values())
    beats = place is not None and _linear_loses(place)
    preconditions |= {f"M1 order, {name}": beats, f"M2 {name}": beats, f"M5 {name}": False}
    evidence[f"M1 order, {name}"] = functools.partial(_pd_ratios, place, names)
    evidence[f"M2 {name}"] = functools.partial(_extra_losses, place, names)
    if place is not None:
      smelu = chosen[name]["smelu"]
      preconditions[f"M5 {name}"] = math.isfinite(_stopped(place, smelu, 0.95).low)
      evidence[f"M5 {name}"] = functools.partial(
        lambda level, place, smelu: [_stopped(place, smelu, level)], place=place, smelu=smelu
      )
  name = smooth.places(scale)[0]
  place, families = found.get(name), _of_family(name, scale)
  preconditions |= dict.fromkeys(
    (f"M1 init, {name}", "M3", "M4", "M6"), place is not None and _linear_loses(place)
  )
  evidence |= {
    f"M1 init, {name}": lambda level: _init_ratios(datasets, name, _fixed_width(scale), level),
    "M3": lambda level: [
      _matched(place, families[f], families["smelu"], level) for f in _MATCHED if f in families
    ],
    "M4": lambda level: _width_effect(place, families["smelu"], level),
    "M6": lambda level: [_overlap_gain(place, chosen[name]["smelu"], level)],
  }
  return evidence, preconditions


def _headline(found: Mapping[str, Place], chosen) -> str:
  words = []
  for name, place in found.items():
    setting = chosen[name]["smelu"]
    ratio = _pd_ratios(place, [setting], 0.95)[0]
    losses = [_second_half(place.settings[s].loss[..., -1]).mean() for s in (setting, "relu")]
    words.append(
      f"{name} {100 * (ratio.estimate - 1):+.0f}\N{NO-BREAK SPACE}% (log-loss"
      f" {losses[0] - losses[1]:+.4f}, {setting})"
    )
  if not words:
    return "No data of this study is at hand; name its directory: --data_dir."
  return f"How much two orders of the examples differ, SmeLU against ReLU: {'; '.join(words)}."


def _ratio(interval: Interval) -> str:
  if interval.high < 0.005:
    return "below 0.005"
  if math.isnan(interval.low):
    return f"{interval.estimate:.2f}"
  return f"{interval.estimate:.2f} ({interval.low:.2f} to {interval.high:.2f})"


def _change(interval: Interval) -> str:
  if math.isnan(interval.low):
    return f"{interval.estimate:+.4f}"
  return f"{interval.estimate:+.4f} ± {(interval.high - interval.low) / 2:.4f}"


def _settings_table(place: Place, chosen: Mapping[str, str]) -> report.Table:
  relu = place.settings["relu"]
  rows = []
  for name, one in place.settings.items():
    ratio = _interval(_pd(one.order_T[-1]) / _pd(relu.order_T[-1]), 0.95, log=True)
    change = _interval(_mean(one.loss[..., -1]) - _mean(relu.loss[..., -1]), 0.95)
    init = crossed_pairs.crossed_mean(one.tables.first, (0,)).estimate
    both = crossed_pairs.crossed_mean(one.tables.both, (0, 1)).estimate
    churn = _pd(one.churn)[0]
    cells = [
      name + " *" * (name in chosen.values()),
      f"{one.loss[..., -1].mean():.4f}",
      "-" if one is relu else _change(change),
      f"{100 * one.score[..., -1].mean():.2f}",
      f"{_pd(one.order_T[-1])[0]:.4f}",
      "1" if one is relu else _ratio(ratio),
      f"{init:.4f}",
      f"{both:.4f}",
      f"{100 * churn:.2f}",
    ]
    if relu.overlap is not None:
      cells.append(f"{crossed_pairs.crossed_mean(one.overlap).estimate:.3f}")
    rows.append(tuple(cells))
  score = "AUC" if place.name in ("movielens", "clicks", "criteo") else "accuracy"
  head = [
    "setting", "log-loss", "less ReLU's", f"{score}, %", "PD, order", "over ReLU's", "PD, init",
    "PD, both", "churn, %",
  ]  # fmt: skip
  if relu.overlap is not None:
    head.append("overlap")
  note = (
    "95 % intervals, paired by seeds. * the width chosen on the first half of the orders (M1, M2"
    " and M5 judge it on the second). PD, init: the order shared; both: neither shared. Churn, and"
    " the overlap of a user's ten best films: between two orders."
  )
  return report.Table(f"Activations on {place.name}", head, rows, note)


def _sources_table(datasets: Mapping[str, xarray.Dataset], place: Place) -> report.Table:
  rows = []
  relu, beside = (place.settings[name] for name in ("relu", _BESIDE))
  ratio = _interval(_pd(beside.order_T[-1]) / _pd(relu.order_T[-1]), 0.95, log=True)
  rows.append(
    (
      "another order, all shuffled",
      *(f"{_pd(one.order_T[-1])[0]:.4f}" for one in (relu, beside)),
      _ratio(ratio),
    )
  )
  for source, words in _SOURCES.items():
    if f"{place.name}/{source}/relu" not in datasets:
      continue
    stores = [datasets[f"{place.name}/{source}/{name}"] for name in ("relu", _BESIDE)]
    records.check_evaluation_sets(dict(zip(("relu", _BESIDE), stores, strict=True)))
    a, b = (_rows(store) for store in stores)
    estimates = [pairs.pair_mean(one).estimate for one in (a, b)]
    paired = len(a) == len(b)
    cell = _ratio(pairs.pair_ratio(b, a, paired=paired)) if min(estimates) > 0 else "-"
    rows.append((words, *map(_small, estimates), cell))
  cells = []
  for name in ("relu", _BESIDE):
    main, again = datasets[f"{place.name}/{name}"], datasets[f"{place.name}/numerics/{name}"]
    cells.append(_between(main, again))
  rows.append(("the same seeds in four lanes: other roundings", *map(_small, cells), "-"))
  head = ("what differs between two runs", "PD, ReLU", f"PD, {_BESIDE}", "ratio")
  note = (
    "Everything else is shared. Ratios with 95 % run-jackknife intervals, paired by seeds."
    " Roundings stand in for other hardware: the same runs one by one and in lanes of a vmapped"
    " program."
  )
  return report.Table(f"Sources of irreproducibility on {place.name}", head, rows, note)


def _measures_table(datasets: Mapping[str, xarray.Dataset], place: str) -> report.Table:
  """Order-only differences of the first initialisation, by every measure there is."""
  columns = []
  for name in ("relu", _BESIDE):
    dataset = datasets[f"{place}/{name}"]
    init_R = dataset["seed_init"].values
    rows = init_R == init_R.min()
    p_RxE = dataset["probability"].transpose("run", "evaluation", ...).values[rows, -1]
    truth_E = dataset["label"].values
    labels_RxE = metrics.predicted_labels(p_RxE)
    difference = metrics.prediction_difference(p_RxE)
    gain = metrics.ensemble_gain(p_RxE, truth_E, 2)
    columns.append(
      [
        _small(difference.estimate),
        _small(metrics.mean_deviation(p_RxE)),
        _small(metrics.relative_deviation(p_RxE)),
        _small(metrics.relative_deviation(p_RxE, truth_E)),
        *(
          _small(metrics.mean_distance(p_RxE, distance, all_pairs=True).estimate)
          for distance in (metrics.symmetric_relative, metrics.jensen_shannon, metrics.hellinger)
        ),
        _small(pairs.pair_mean(pairs.churn_rows(labels_RxE)).estimate),
        f"{metrics.logit_correlation(p_RxE).estimate:.4f}",
        f"{gain.difference_ratio.estimate:.3f}",
        f"{gain.log_loss_change.estimate:+.4f}",
        _small(metrics.calibration_errors(p_RxE, truth_E).mean()),
      ]
    )
  names = (
    "PD: mean |p - p'| over pairs of runs", "mean deviation from the average prediction",
    "relative PD", "relative PD of the label alone", "symmetric relative PD, pairwise",
    "Jensen-Shannon distance", "Hellinger distance", "churn", "correlation of logits",
    "PD of two averaged runs over that of one", "their log-loss less that of one",
    "calibration error, 15 bins",
  )  # fmt: skip
  note = (
    f"The first initialisation in {len(p_RxE)} orders. Formulas, ranges and the"
    " factors between them: seedlab/metrics.py."
  )
  rows = list(zip(names, *columns, strict=True))
  return report.Table(f"Other measures on {place}", ("measure", "ReLU", _BESIDE), rows, note)


def _small(value: float) -> str:
  """Four decimals, or two digits where they would say nothing."""
  return f"{value:.4f}" if value >= 5e-4 or value == 0 else f"{value:.1e}"


def _between(a: xarray.Dataset, b: xarray.Dataset) -> float:
  """Mean |p - p'| of the runs with equal seeds in two stores, at the end."""
  runs = np.intersect1d(a["run"].values, b["run"].values)
  ends = [
    one["probability"]
    .transpose("run", "evaluation", ...)
    .values[np.searchsorted(one["run"].values, runs), -1]
    for one in (a, b)
  ]
  return float(np.abs(ends[0].astype(np.float64) - ends[1]).mean())


def _remedies_table(datasets: Mapping[str, xarray.Dataset], place: Place) -> report.Table:
  relu = place.settings["relu"]
  half = relu.first_half.shape[1]
  base = _mean(relu.loss[:, :half, -1])

  def row(words, table_IxJ, loss_IxJ, use, train):
    ratio = _interval(_pd(table_IxJ) / _pd(relu.first_half), 0.95, log=True)
    change = _interval(_mean(loss_IxJ) - base, 0.95)
    return words, f"{_pd(table_IxJ)[0]:.4f}", _ratio(ratio), _change(change), use, train

  rows = []
  beside = place.settings[_BESIDE]
  rows.append(row(_BESIDE, beside.first_half, beside.loss[:, :half, -1], "1", "1"))
  for remedy, (words, use, train) in _REMEDIES.items():
    if f"{place.name}/{remedy}/relu" not in datasets:
      continue
    one = _measured(datasets[f"{place.name}/{remedy}/relu"], remedy)
    rows.append(row(f"ReLU, {words}", one.order_T[-1], one.loss[..., -1], use, train))
  both = f"{place.name}/average/{_BESIDE}"
  if both in datasets:  # not at scale smoke
    one = _measured(datasets[both], "average")
    words, use, train = _REMEDIES["average"]
    rows.append(row(f"{_BESIDE}, {words}", one.order_T[-1], one.loss[..., -1], use, train))
  for name, one in (("ReLU", relu), (_BESIDE, beside)):
    ratio = _interval(_pd(one.ensembles) / _pd(relu.order_T[-1]), 0.95, log=True)
    cells = (f"{_pd(one.ensembles)[0]:.4f}", _ratio(ratio), "-", "3", "3")
    rows.append((f"{name}, ensemble of {_ENSEMBLE} initialisations", *cells))
  head = (
    "remedy",
    "PD, order",
    "over ReLU's",
    "log-loss less ReLU's",
    "cost of use",
    "of training",
  )
  note = (
    "Order-only PD, 95 % intervals over orders, paired by seeds; costs in forward passes and in"
    " trainings of the plain network. A shared initialisation (warm start) is what order-only"
    " means: without it PD is that of both in the table above."
  )
  return report.Table(f"Remedies on {place.name}", head, rows, note)


def _slices_table(datasets: Mapping[str, xarray.Dataset], place: str) -> report.Table:
  rows = []
  for name in _sliced(datasets, place):
    dataset = datasets[f"{place}/slices/{name}"]
    jump, loss = dataset["slice_jump"].values[:, 1:], dataset["slice_loss"].values
    middle = np.median(jump, axis=1)
    rows.append(
      (
        name,
        f"{np.median(jump.max(1)):.3f}",
        f"{np.median(middle):.3f}",
        f"{np.median(jump.max(1) / middle):.1f}",
        f"{np.median(loss[:, 0] - loss.min(1)):.4f}",
      )
    )
  head = (
    "setting", "largest jump of the gradient", "median jump", "largest over median",
    "largest fall of the loss",
  )  # fmt: skip
  points = datasets[f"{place}/slices/relu"].sizes["point"]
  note = (
    f"Along the negative gradient of the loss of 32 training examples at the end, {points}"
    " points up to 2 % of the norm of the parameters; jumps between neighbouring points over the"
    " norm of the gradient at the start; medians over runs."
  )
  return report.Table(f"Slices of the loss on {place}", head, rows, note)


def _sliced(datasets: Mapping[str, xarray.Dataset], place: str) -> list[str]:
  return [n for n in ("relu", _BESIDE, "linear") if f"{place}/slices/{n}" in datasets]


def _unit_table(datasets: Mapping[str, xarray.Dataset]) -> report.Table:
  rows = []
  for name in _UNIT_SETTINGS:
    if f"unit/{name}" not in datasets:
      continue
    dataset = datasets[f"unit/{name}"]
    difference = pairs.pair_mean(_rows(dataset))
    loss = mean_interval(dataset["test_loss"].values[:, -1])
    rows.append(
      (
        name,
        f"{difference.estimate:.4f} ({difference.low:.4f} to {difference.high:.4f})",
        f"{loss.estimate:.4f}",
        f"{100 * dataset['test_accuracy'].values[:, -1].std(ddof=1):.2f}",
      )
    )
  head = ("activation", "PD, init", "log-loss", "sd of accuracy, points")
  note = (
    "The smallest example: a single hidden unit between 64 pixels and two Gaussian classes, the"
    " order shared. One kink is enough (Snapp & Shamir 2021, arXiv 2102.10696, whose own example we"
    " have not seen)."
  )
  return report.Table("One unit", head, rows, note)


def _tradeoff_picture(place: Place, scale: str):
  families = _of_family(place.name, scale)
  curves = []
  for family, names in families.items():
    points = [place.settings[name] for name in ("relu", *names)]
    curves.append(
      charts.Path(
        family,
        ["relu", *names],
        [one.loss[..., -1].mean() for one in points],
        [_pd(one.order_T[-1])[0] for one in points],
      )
    )
  model = charts.paths(curves, "log-loss", "PD between two orders")
  ends = "; ".join(f"{c.labels[-1]} {c.x[-1]:.4f}, {c.y[-1]:.4f}" for c in curves)
  caption = (
    f"Log-loss and order-only prediction difference on {place.name}: a curve a family, from ReLU"
    " (its limit) to the widest. Further down agrees more, further left predicts better."
  )
  return model, f"Log-loss and PD of the widest of each family: {ends}.", caption


def _time_picture(place: Place, scale: str):
  lines = []
  shown = [n for n in ("relu", _BESIDE, "swish=1", "linear") if n in place.settings]
  for role, name in enumerate(shown):
    one = place.settings[name]
    found = [_interval(_pd(table), 0.95, log=True) for table in one.order_T]
    columns = np.array([(i.estimate, i.low, i.high) for i in found]).T
    lines.append(charts.Line(name, role, "solid", one.steps, *columns))
  model = charts.lines(lines, "training step", "PD between two orders")
  ends = "; ".join(f"{line.name} {line.middle[-1]:.4f}" for line in lines)
  caption = (
    f"How order-only prediction difference grows with training on {place.name}, 95 % intervals."
  )
  return model, f"PD at the end: {ends}.", caption


def _slices_picture(datasets: Mapping[str, xarray.Dataset], place: str):
  lines = []
  for role, name in enumerate(_sliced(datasets, place)):
    jump = datasets[f"{place}/slices/{name}"]["slice_jump"].values[:, 1:]
    at = 2.0 * np.arange(1, jump.shape[1] + 1) / jump.shape[1]
    lines.append(charts.Line(name, role, "solid", at, np.median(jump, 0), jump.min(0), jump.max(0)))
  model = charts.lines(lines, "distance, % of the norm of the parameters", "jump of the gradient")
  tops = "; ".join(f"{line.name} {line.high.max():.3f}" for line in lines)
  caption = (
    f"How much the gradient changes from point to point along its own direction on {place}: median"
    " and range of four runs."
  )
  return model, f"Largest jump: {tops}.", caption


STUDY = Study("Do smooth activations make networks agree?", claims, sweeps, analyse)
