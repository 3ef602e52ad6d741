"""What the sweeps of the study of smooth activations say about its claims."""

import functools
import math
from collections.abc import Callable, Mapping

import numpy as np
import xarray

from seedlab import findings
from seedlab.stats.single import Interval
from seedlab.studies.smooth import contrasts, page, settings
from seedlab.studies.smooth.claims import MATCHED
from seedlab.studies.smooth.place import Place, end_rows, measure, second_half
from seedlab.studies.smooth.sweeps import BESIDE, SOURCES, fixed_width, of_family, settings_of
from seedlab.studies.sources import left_out
from seedlab.studies.study import Analysis


def analyse(datasets: Mapping[str, xarray.Dataset], scale: str) -> Analysis:
  names = [name for name in settings.places(scale) if f"{name}/relu" in datasets]
  first = settings.places(scale)[0]
  found = {}
  for name in names:
    stores = {setting: datasets[f"{name}/{setting}"] for setting in settings_of(name, scale)}
    findings.check_evaluation_sets(stores)
    shown = ("relu", BESIDE) if name == first else ()
    measured = {s: measure(store, s, s in shown) for s, store in stores.items()}
    found[name] = Place(name, measured)
  rows_of = _one_source(datasets, first)
  chosen = {
    name: {f: contrasts.chosen_width(place, all_) for f, all_ in of_family(name, scale).items()}
    for name, place in found.items()
  }
  evidence, preconditions = _evidence(rows_of, found, chosen, scale)
  tables = [page.settings_table(place, chosen[name]) for name, place in found.items()]
  figures = {}
  for name, place in found.items():
    figures[f"tradeoff-{name}"] = page.tradeoff_figure(place, scale)
    figures[f"time-{name}"] = page.time_figure(place, scale)
  inits, orders = settings.LEVELS[scale]
  lead = [
    "PD is the mean over pairs of runs of |p - p'|: of the probability of a click, summed over the"
    " classes for images. Order-only: the initialisation shared, the order of the examples not;"
    f" {inits} initialisations in {orders} orders. Intervals are"
    " for new orders of these initialisations on these test examples."
  ]
  lead += left_out([name for name in settings.places(scale) if name not in names])
  if first in found:
    tables += [
      page.sources_table(datasets, found[first], rows_of),
      page.measures_table(datasets, found[first]),
      page.remedies_table(datasets, found[first]),
      page.slices_table(datasets, first),
    ]
    figures["slices"] = page.slices_figure(datasets, first)
  tables.append(page.unit_table(datasets))
  return Analysis(_headline(found, chosen), lead, evidence, preconditions, tables, figures)


def _one_source(datasets: Mapping[str, xarray.Dataset], place: str) -> dict[str, np.ndarray]:
  """Sweep -> `end_rows`, of those in which one source alone varies."""
  fronts = tuple(f"{place}/{source}/" for source in SOURCES)
  return {name: end_rows(one) for name, one in datasets.items() if name.startswith(fronts)}


def _evidence(rows_of, found: Mapping[str, Place], chosen, scale: str):
  evidence: dict[str, Callable[[float], list[Interval]]] = {}
  preconditions: dict[str, bool] = {}
  for name in settings.places(scale):
    place, names = found.get(name), list(chosen.get(name, {}).values())
    beats = place is not None and contrasts.linear_loses(place)
    preconditions |= {f"M1 order, {name}": beats, f"M2 {name}": beats, f"M5 {name}": False}
    evidence[f"M1 order, {name}"] = functools.partial(contrasts.pd_ratios, place, names)
    evidence[f"M2 {name}"] = functools.partial(contrasts.extra_losses, place, names)
    if place is not None:
      smelu = chosen[name]["smelu"]
      preconditions[f"M5 {name}"] = math.isfinite(contrasts.against_stopped(place, smelu, 0.95).low)
      evidence[f"M5 {name}"] = lambda level, place=place, smelu=smelu: [
        contrasts.against_stopped(place, smelu, level)
      ]
  name = settings.places(scale)[0]
  place, families = found.get(name), of_family(name, scale)
  preconditions |= dict.fromkeys(
    (f"M1 init, {name}", "M3", "M4", "M6"), place is not None and contrasts.linear_loses(place)
  )
  evidence |= {
    f"M1 init, {name}": lambda level: contrasts.init_ratios(
      rows_of, name, fixed_width(scale), level
    ),
    "M3": lambda level: [
      contrasts.at_equal_loss(place, families[f], families["smelu"], level)
      for f in MATCHED
      if f in families
    ],
    "M4": lambda level: contrasts.width_effect(place, families["smelu"], level),
    "M6": lambda level: [contrasts.overlap_gain(place, chosen[name]["smelu"], level)],
  }
  return evidence, preconditions


def _headline(found: Mapping[str, Place], chosen) -> str:
  words = []
  for name, place in found.items():
    setting = chosen[name]["smelu"]
    ratio = contrasts.pd_ratios(place, [setting], 0.95)[0]
    losses = [second_half(place.settings[s].loss[..., -1]).mean() for s in (setting, "relu")]
    words.append(
      f"{name} {100 * (ratio.estimate - 1):+.0f}\N{NO-BREAK SPACE}% (log-loss"
      f" {losses[0] - losses[1]:+.4f}, {setting})"
    )
  if not words:
    return "No data of this study is at hand; name its directory: --data_dir."
  return f"How much two orders of the examples differ, SmeLU against ReLU: {'; '.join(words)}."
