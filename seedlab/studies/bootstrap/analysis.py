"""What the sweeps of the Deep Bootstrap study say about its claims."""

import functools
from collections.abc import Mapping

import numpy as np
import xarray

from seedlab import findings
from seedlab.studies.bootstrap import page
from seedlab.studies.bootstrap.claims import CONVERGED, METRICS, REACH, SETTINGS, SMALL
from seedlab.studies.bootstrap.measures import augmentation_effects, largest_gaps, late_gaps, ranks
from seedlab.studies.bootstrap.pairs import Pair, alike, at_stop, pair
from seedlab.studies.bootstrap.sweeps import SEEDS, Place, name_of, places_of, settings_of
from seedlab.studies.sources import left_out
from seedlab.studies.study import Analysis


def analyse(datasets: Mapping[str, xarray.Dataset], scale: str) -> Analysis:
  """Claims, tables and figures from the finished sweeps."""
  datasets = {name: findings.held(one) for name, one in datasets.items()}
  places = [p for p in places_of(scale) if name_of(p, p.networks[0]) in datasets]
  pairs = {
    place.name: {
      (setting, size): pair(
        datasets[name_of(place, setting, size)], datasets[name_of(place, setting)], setting, size
      )
      for setting, sizes in settings_of(place)
      for size in sizes
    }
    for place in places
  }
  first = places[0]
  evidence, preconditions = {}, {}
  for place in places_of(scale):
    for metric in METRICS:
      ids = [f"{claim} {metric}, {place.name}" for claim in ("B1", "B2")]
      if place not in places:
        preconditions |= dict.fromkeys(ids, False)
        continue
      at = pairs[place.name]
      preconditions[ids[1]] = True
      evidence[ids[0]] = functools.partial(largest_gaps, at, place, metric)
      evidence[ids[1]] = functools.partial(late_gaps, at, place, metric)
      control = all(gap.low > SMALL for gap in late_gaps(at, place, metric, 0.95))
      plain = [at[network, size] for network in place.networks for size in place.sizes]
      preconditions[ids[0]] = control and all(one.reached >= REACH for one in plain)
  last = alike({s: pairs[first.name][s, sizes[-1]] for s, sizes in settings_of(first)})
  converging = [one for one in last.values() if one.reached >= REACH]
  evidence["B3"] = functools.partial(ranks, converging)
  preconditions["B3"] = len(converging) >= SETTINGS
  evidence["B4"] = functools.partial(augmentation_effects, last, first)
  preconditions["B4"] = all(last[network].reached == 1 for network in first.networks)
  tables = [page.gaps_table(place, pairs[place.name], m) for place in places for m in METRICS]
  tables += [page.augmentation_table(last, first), page.online_table(datasets, places)]
  lead = [
    f"{SEEDS[scale]} seeds a setting and world; runs with the same seed are pairs. t* is the first"
    f" evaluation with a hard train error of at most {100 * CONVERGED:g} % (not augmented, in"
    " evaluation mode). Bands hold at all moments together, on this test set."
  ]
  lead += left_out([place.name for place in places_of(scale) if place not in places])
  figures = {}
  if scale != "smoke":
    for place in places:
      figures[f"curves-{place.name}"] = page.curves_figure(place, pairs[place.name])
      figures[f"gaps-{place.name}"] = page.gaps_figure(place, pairs[place.name])
      figures[f"scatter-{place.name}"] = page.scatter_figure(place, pairs[place.name])
  return Analysis(_headline(first, last), lead, evidence, preconditions, tables, figures)


def _headline(place: Place, last: Mapping[str, Pair]) -> str:
  words = []
  for network in place.networks:
    gaps = [np.subtract(*at_stop(last[network], metric)).mean() for metric in METRICS]
    words.append(f"{network} {100 * gaps[0]:+.1f} and {100 * gaps[1]:+.1f}")
  return (
    f"When the real world has fitted its {place.sizes[-1]:,} {place.name}, its soft- and hard-error"
    f" differ from the ideal world's by, in points: {'; '.join(words)}."
  )
