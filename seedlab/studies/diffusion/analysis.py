"""What the sweeps of the diffusion study say about its claims."""

from collections.abc import Mapping

import numpy as np
import xarray

from seedlab import findings
from seedlab.studies.diffusion import measures, page, settings
from seedlab.studies.diffusion.claims import WATCHED
from seedlab.studies.diffusion.sweeps import widths
from seedlab.studies.study import Analysis

_RECOGNISED = 0.5  # of the samples
_CLASSES = 10


def analyse(datasets: Mapping[str, xarray.Dataset], scale: str) -> Analysis:
  """Claims, tables and figures from the finished sweeps."""
  generated = {name: one for name, one in datasets.items() if name != "classifier"}
  # Those that change how samples are made or compared are evaluated on the same data all the same.
  findings.check_evaluation_sets(generated)
  value = {name: measures.draws(one) for name, one in generated.items()}
  main, time = value["main"], generated["time"]
  step_T = time["evaluation"].values.astype(np.float64)
  over_time = np.stack([measures.draws(time, t) for t in range(len(step_T))], axis=1)
  seen = {name: measures.images(one) for name, one in generated.items()}
  first, last = measures.images(time, 0), measures.images(time, -1)

  def shared(a: str, b: str) -> tuple[np.ndarray, np.ndarray]:
    """Mean distances of the runs that two sweeps have both."""
    at_a, at_b = page.shared_runs(generated, a, b)
    return value[a].mean(1)[at_a], value[b].mean(1)[at_b]

  def nearer(a: str, b: str, level: float):
    return page.image_ratio(generated, seen, a, b, level)

  evidence = {
    "D1": lambda level: [measures.retraining_ratio(main, level)],
    "D2 size": lambda level: [
      *(measures.variation(value[name], level) for name in widths(scale)),
      *(measures.variation(over_time[:, t], level) for t in WATCHED),
    ],
    "D2 trend": lambda level: [
      measures.variation_trend(over_time[:, 0].mean(1), over_time[:, -1].mean(1), level)
    ],
    "D3": lambda level: [
      effect.total
      for effect in measures.effects(generated["crossed"], settings.FACTORS, level).values()
    ],
    "D4 flattery": lambda level: [measures.flattery(main, level)],
    "D4 ranking": lambda level: [measures.overturned(main, value["relu"], level)],
    "D5 spread": lambda level: [measures.spread_ratio(*shared("guided", "main"), level)],
    "D5 seeds": lambda level: [measures.correlation(*shared("guided", "main"), level)],
    "D6": lambda level: [measures.luck(over_time, step_T, level)],
    "D7 same": lambda level: [measures.sameness(seen["main"], _CLASSES, level)],
    "D7 time": lambda level: [measures.sameness_trend(first, last, _CLASSES, level)],
    "D7 smooth": lambda level: [nearer(name, "relu", level) for name in ("main", "smelu")],
  }
  recognised = measures.draws(generated["main"], metric="precision").mean() >= _RECOGNISED
  preconditions = dict.fromkeys(evidence, bool(recognised))
  ratio = measures.retraining_ratio(main)
  cv = measures.variation(main)
  headline = (
    f"Training again moves the Frechet distance {ratio.estimate:.1f} times as much as drawing other"
    f" samples does (95 % interval {ratio.low:.1f} to {ratio.high:.1f}): by"
    f" {100 * cv.estimate:.1f} % of it."
  )
  arguments = settings.arguments(scale)
  lead = [
    f"{len(main)} trainings of the main setting with {main.shape[1]} draws of"
    f" {arguments['samples']:,} samples each, on {arguments['data']}. The distance is in the"
    " features of a classifier of the study's own and is not comparable with an FID; it is biased"
    " upwards, the more so the fewer samples there are (table below). Draws of one training differ"
    " in the seed of the sampler alone."
  ]
  tables = [
    page.settings_table(generated),
    page.published_table(main, value),
    page.time_table(step_T, over_time, time, _CLASSES),
    page.sources_table(generated["crossed"]),
    page.images_table(generated, seen, _CLASSES),
    page.bias_table(generated, scale),
  ]
  figures = {
    "spread": page.spread_figure(main),
    "time": page.time_figure(step_T, over_time),
    "same": page.same_figure(step_T, time, _CLASSES),
    "images": page.images_figure(generated, seen),
  }
  if scale != "smoke":
    figures["sources"] = page.sources_figure(generated["crossed"])
  return Analysis(headline, lead, evidence, preconditions, tables, figures)
