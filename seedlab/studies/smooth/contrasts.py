"""Intervals of what smooth activations do to prediction difference and loss."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from seedlab.stats import crossed_pairs, pairs
from seedlab.stats.single import Interval
from seedlab.studies.smooth.claims import LOSS_SHARE
from seedlab.studies.smooth.place import (
  Place,
  interval_of,
  mean_without,
  pd_ratio,
  pd_without,
  second_half,
)


def chosen_width(place: Place, names: Sequence[str]) -> str:
  """The width of a family with the least PD among those that lose little, on the first half.

  Little: a third of what the linear network loses against ReLU. Where all lose more, the
  one that loses least.
  """

  def loss(name: str) -> float:
    values = place.settings[name].loss[..., -1]
    return float(values[:, : values.shape[1] // 2].mean())

  relu, linear = loss("relu"), loss("linear")
  good = [n for n in names if loss(n) - relu < LOSS_SHARE * (linear - relu)]
  if not good:
    return min(names, key=loss)
  return min(good, key=lambda n: place.settings[n].first_half.sum())


def linear_loses(place: Place) -> bool:
  """Whether ReLU beats a linear network, the precondition of most claims."""
  losses = [mean_without(place.settings[name].loss[..., -1]) for name in ("linear", "relu")]
  return interval_of(losses[0] - losses[1], 0.95).low > 0


def pd_ratios(place: Place, names: Sequence[str], level: float) -> list[Interval]:
  relu = place.settings["relu"].judged_T[-1]
  return [pd_ratio(place.settings[name].judged_T[-1], relu, level) for name in names]


def extra_losses(place: Place, names: Sequence[str], level: float) -> list[Interval]:
  relu, linear, *others = (
    mean_without(second_half(place.settings[name].loss[..., -1]))
    for name in ("relu", "linear", *names)
  )
  return [interval_of(one - relu - LOSS_SHARE * (linear - relu), level) for one in others]


def against_stopped(place: Place, name: str, level: float) -> Interval:
  """PD of a setting at the end over ReLU's at the log-loss that the setting ends with.

  ReLU's PD is interpolated, on the log scale, between the evaluations around the moment at
  which its mean log-loss first is as low; before the first one there is nothing to
  interpolate (nan). Where ReLU never gets as low, its best evaluation counts.
  """
  relu, other = place.settings["relu"], place.settings[name]
  ours = mean_without(second_half(other.loss[..., -1]))
  times = range(len(relu.steps))
  losses = np.stack([mean_without(second_half(relu.loss[..., t])) for t in times])
  differences = np.stack([pd_without(relu.judged_T[t]) for t in times])
  best = int(losses[:, 0].argmin())
  stopped = [
    at_loss(losses[: best + 1, k], np.log(differences[: best + 1, k]), ours[k])
    for k in range(len(ours))
  ]
  return interval_of(pd_without(other.judged_T[-1]) / np.exp(stopped), level, log=True)


def at_loss(losses_T: np.ndarray, values_T: np.ndarray, loss: float) -> float:
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


def at_equal_loss(
  place: Place, family: Sequence[str], smelus: Sequence[str], level: float
) -> Interval:
  """PD of SmeLU over that of a family at equal log-loss, the mean of the logs over its widths.

  SmeLU's log PD is interpolated along its widths, ReLU among them, by log-loss; beyond its
  ends the nearest one counts.
  """
  ours = [place.settings[name] for name in ("relu", *smelus)]
  losses = np.stack([mean_without(one.loss[..., -1]) for one in ours])
  logs = np.log([pd_without(one.order_T[-1]) for one in ours])
  found = []
  for name in family:
    loss, log = (
      mean_without(place.settings[name].loss[..., -1]),
      np.log(pd_without(place.settings[name].order_T[-1])),
    )
    order = losses.argsort(axis=0)
    at_loss = [
      np.interp(loss[k], losses[order[:, k], k], logs[order[:, k], k]) for k in range(len(loss))
    ]
    found.append(np.array(at_loss) - log)
  return interval_of(np.exp(np.mean(found, axis=0)), level, log=True)


def width_effect(place: Place, smelus: Sequence[str], level: float) -> list[Interval]:
  """Slope of log PD on log beta by least squares, and log-loss of the widest less the sharpest."""
  settings = [place.settings[name] for name in smelus]
  widths = np.log([float(name.partition("=")[2]) for name in smelus])
  logs = np.log([pd_without(one.order_T[-1]) for one in settings])
  centred = widths - widths.mean()
  slope = centred @ logs / (centred @ centred)
  losses = [mean_without(settings[at].loss[..., -1]) for at in (-1, 0)]
  return [interval_of(slope, level), interval_of(losses[0] - losses[1], level)]


def overlap_gain(place: Place, name: str, level: float) -> Interval:
  tables = [place.settings[one].overlap for one in (name, "relu")]
  return crossed_pairs.crossed_difference(*tables, level=level)


def init_ratios(
  rows_of: Mapping[str, np.ndarray], place: str, names: Sequence[str], level: float
) -> list[Interval]:
  """PD between initialisations over ReLU's, from sweep -> `end_rows` of it."""
  relu = rows_of[f"{place}/init/relu"]
  return [
    pairs.pair_ratio(rows_of[f"{place}/init/{name}"], relu, paired=True, level=level)
    for name in names
  ]
