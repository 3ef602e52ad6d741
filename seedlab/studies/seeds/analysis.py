"""What the sweeps of the seed study say about its claims."""

from collections.abc import Callable, Mapping

import numpy as np
import xarray

from seedlab import findings
from seedlab.stats import crossed, single
from seedlab.stats.single import Interval
from seedlab.studies.seeds import figures, measures, settings, source_tables, spread_tables
from seedlab.studies.seeds.claims import primary_setups
from seedlab.studies.seeds.sweeps import POKES
from seedlab.studies.study import Analysis


def analyse(datasets: Mapping[str, xarray.Dataset], scale: str) -> Analysis:
  datasets = {name: findings.held(one) for name, one in datasets.items()}
  digits = measures.spread(datasets["digits/all"])
  given = "cifar10/all" in datasets
  poked = POKES if given else ("digits",)
  tables = [
    spread_tables.distribution_table(datasets),
    spread_tables.published_table(),
    spread_tables.yardsticks_table(datasets),
    source_tables.alone_table(datasets),
    source_tables.sources_table(datasets),
    source_tables.components_table(datasets),
    *(source_tables.poke_table(datasets, scale, place) for place in poked),
    source_tables.twins_table(datasets, scale),
    spread_tables.selection_table(digits),
    spread_tables.design_table(datasets),
    spread_tables.carried_table(datasets),
  ]
  if given:
    tables.append(source_tables.pretraining_table(datasets))
  lead = [
    f"{len(digits.last):,} seeds on digits, every stream varied; {settings.LEVELS[scale]} levels"
    " each of initialisation, order and augmentation, fully crossed; the same questions on CIFAR-10"
    " with fewer seeds. Distribution-wise: what would show on new examples, too. Accuracies in %,"
    " differences in points."
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
  drawn = {}
  if scale != "smoke":
    drawn = {
      **figures.seeds_figures(datasets),
      "convergence": figures.convergence_figure(datasets),
      "time": figures.time_figure(datasets),
      "sources": figures.sources_figure(datasets),
      **{f"pokes-{place}": figures.poke_figure(datasets, scale, place) for place in poked},
    }
  evidence, preconditions = _evidence(datasets, scale, given)
  return Analysis(_headline(digits), lead, evidence, preconditions, tables, drawn)


def _evidence(datasets, scale: str, given: bool):
  digits, few = measures.spread(datasets["digits/all"]), measures.spread(datasets["digits/slow"])
  many, converged = (measures.spread(datasets[name]) for name in primary_setups(scale))
  tails = single.heavier_tails(many.last, 1 / many.errors.shape[1], np.random.default_rng(0))
  effects: dict[float, dict[str, crossed.Effect]] = {}

  def total(stream: str, level: float) -> list[Interval]:
    if level not in effects:
      values, *_ = measures.crossed_design(datasets["digits/crossed"])
      effects[level] = crossed.effects(values, settings.FACTORS, level=level)
    return [effects[level][stream].total]

  evidence: dict[str, Callable] = {
    "S1": lambda level: [measures.squared_points(measures.distribution_wise(many, level))],
    "S2": lambda level: [measures.spread_kept(converged, level)],
    "S3": lambda level: [tails.p_value],
    "S4": lambda level: [measures.seeds_against_design(datasets, level)],
    "S5": lambda level: [
      measures.narrowing(datasets, level),
      measures.squared_points(measures.remaining(datasets, level)),
    ],
    "S6 config": lambda level: [measures.carried_over(digits, few, level)],
    "S6 data": lambda level: [
      measures.carried_over(digits, measures.spread(datasets["cifar10/all"]), level)
    ],
    **{
      f"S7 {stream}": (lambda level, stream=stream: total(stream, level))
      for stream in settings.FACTORS
    },
    "S8 digits": lambda level: [measures.poked(datasets, "digits/poke0", level)],
    "S8 cifar10": lambda level: [measures.poked(datasets, "cifar10/poke0", level)],
  }
  return evidence, {"S5": given, "S6 data": given, "S8 cifar10": given}


def _headline(one: measures.Spread) -> str:
  share = measures.share_interval(one)
  low, high = f"{100 * share.low:.0f}", f"{100 * share.high:.0f}"
  return (
    f"Luck alone moves the accuracy on digits by {100 * np.ptp(one.last):.2f} points between the"
    f" best and the worst of {len(one.last):,} seeds; {100 * share.estimate:.0f} % (95 % interval"
    f" {low} to {high} %) of the variance over seeds would show on new examples."
  )
