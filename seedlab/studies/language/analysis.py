"""What the sweeps of the study of language say about its claims."""

import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import xarray

from seedlab import findings
from seedlab.stats import pairs
from seedlab.stats.single import Interval
from seedlab.studies.language import claims, measures, page, settings
from seedlab.studies.study import Analysis


def analyse(datasets: Mapping[str, xarray.Dataset], scale: str) -> Analysis:
  """Claims, tables and figures from the finished sweeps."""
  found = {name: measures.sound(findings.held(one)) for name, one in datasets.items()}
  for group in (("main", *settings.activations(scale)), ("course", "poke")):
    findings.check_evaluation_sets({name: datasets[f"text/{name}"] for name in group})
  findings.check_evaluation_sets({name: datasets[f"babble/{name}"] for name in ("ideal", "real")})
  of_text = "known_words" in datasets["text/main"]
  evidence: dict[str, Callable[[float], Sequence[Interval]]] = {
    "L1": functools.partial(_spread, found["text/main"]),
    "L2": functools.partial(_sources, found["text/crossed"]),
    **{
      f"L3 {name}": functools.partial(_phase, found["text/course"], scale, number)
      for number, name in enumerate(("convergence", "divergence", "reconvergence"))
    },
    "L4": functools.partial(_frequent, found["text/course"], scale),
    "L5": functools.partial(_finetuned, found["text/finetuned"]),
    "L6": functools.partial(_luck, found["text/main"]),
    "L7": functools.partial(_decoding, found["text/main"], of_text),
    "L8": functools.partial(_activations, found, scale),
    "L9": functools.partial(_worlds, found, scale),
    "L10": functools.partial(_poked, found),
  }
  complete = {name: one.sizes["run"] == datasets[name].sizes["run"] for name, one in found.items()}
  preconditions = {
    "L2": complete["text/crossed"],
    "L5": complete["text/finetuned"] and _learns(found["text/finetuned"]),
    "L8": all(complete[f"text/{name}"] for name in ("main", *settings.activations(scale))),
    "L9": complete["babble/ideal"] and complete["babble/real"],
  }
  main = found["text/main"]
  loss = measures.losses(main)
  headline = (
    f"{len(loss)} trainings that differ in their seed alone: test loss {loss.mean():.4f} nats,"
    f" standard deviation {loss.std(ddof=1):.4f} ({100 * loss.std(ddof=1) / loss.mean():.2f}"
    "\N{NO-BREAK SPACE}% of it)."
  )
  source = "the King James Bible, by characters" if of_text else "`babble`, a made-up language"
  lead = [
    f"The text is {source}. Intervals speak of new seeds on this text; pairs of runs differ in all"
    " their seeds where nothing else is said. The difference of predictions (PD) is the sum over"
    " the vocabulary of |p - p'|, and the divergence is the mean of both Kullback-Leibler"
    " divergences in nats, both of the next token in the same frozen contexts."
  ]
  if not of_text and scale != "smoke":  # which trains on `babble` wherever it is
    lead.append(
      f"Not at hand, so left out: {settings.FILE} (name its directory: --data_dir). All claims are"
      " judged on `babble` instead, of which there are no words, and no held-out book but other"
      " windows."
    )
  tables = [
    page.spread_table(found),
    page.sources_table(found["text/crossed"]),
    page.activations_table(found),
    page.ulp_table(found),
    page.finetuned_table(found["text/finetuned"]),
    page.texts_table(main, of_text),
    page.samples_table(main),
    page.worlds_table(found, scale),
  ]
  figures = {}
  if scale != "smoke":
    figures = {
      "spread": page.spread_figure(main),
      "divergence": page.divergence_figure(found),
      "worlds": page.worlds_figure(found, scale),
    }
  return Analysis(headline, lead, evidence, preconditions, tables, figures)


def _spread(main: xarray.Dataset, level: float) -> list[Interval]:
  return [
    measures.relative_spread(measures.losses(main), level),
    measures.correlation(*measures.halves(main), level),
  ]


def _sources(crossed: xarray.Dataset, level: float) -> list[Interval]:
  return [
    *measures.totals(crossed, measures.losses(crossed), level),
    *measures.share_of_both(measures.tables(crossed), level),
  ]


def _at(course: xarray.Dataset, step: int) -> int:
  """The evaluation at a step, or the nearest one."""
  return int(np.abs(course["evaluation"].values - step).argmin())


def _phase(course: xarray.Dataset, scale: str, number: int, level: float) -> list[Interval]:
  """The divergence at the end of a phase over that at its beginning."""
  earlier, later = (
    measures.divergence_rows(measures.chances(course, _at(course, step)))
    for step in claims.PHASES[scale][number : number + 2]
  )
  return [pairs.pair_ratio(later, earlier, True, level)]


def _frequent(course: xarray.Dataset, scale: str, level: float) -> list[Interval]:
  chosen = measures.frequent(course)
  found = []
  for step in claims.EARLY[scale]:
    p = measures.chances(course, _at(course, step))
    often, seldom = (measures.divergence_rows(p[:, part]) for part in (chosen, ~chosen))
    found.append(pairs.pair_ratio(often, seldom, True, level))
  return found


def _learns(tuned: xarray.Dataset) -> bool:
  """Whether fine-tuned networks do better than by guessing."""
  accuracy = measures.losses(tuned, "test_accuracy")
  classes = len(np.unique(tuned["label"].values))
  return bool(accuracy.mean() > 1.2 / classes)


def _finetuned(tuned: xarray.Dataset, level: float) -> list[Interval]:
  return measures.totals(tuned, measures.losses(tuned), level)


def _luck(main: xarray.Dataset, level: float) -> list[Interval]:
  loss = measures.losses(main)
  return [
    measures.correlation(loss, measures.losses(main, name), level)
    for name in ("tempered_loss", "book_loss")
  ]


def _decoding(main: xarray.Dataset, of_text: bool, level: float) -> list[Interval]:
  names = ("known_words", "novelty") if of_text else ("allowed", "distinct")
  return [measures.share_within(measures.draws(main, name), level) for name in names]


def _activations(found: Mapping[str, xarray.Dataset], scale: str, level: float) -> list[Interval]:
  runs = measures.by_activation(found)
  rows = {name: pairs.l1_rows(measures.chances(one)) for name, one in runs.items()}
  loss = {name: measures.losses(one) for name, one in runs.items()}
  others = claims.rivals(scale)
  return [
    *(pairs.pair_ratio(rows["smelu"], rows[name], True, level) for name in others),
    *(measures.mean_difference(loss["smelu"], loss[name], level) for name in others),
  ]


def _worlds(found: Mapping[str, xarray.Dataset], scale: str, level: float) -> list[Interval]:
  """Test loss of the real world less that of the ideal one, after so many repeats."""
  ideal, real = found["babble/ideal"], found["babble/real"]
  times = [settings.repeats(scale, step) for step in real["evaluation"].values]
  result = []
  for number in claims.REPEATS[scale]:
    at = int(np.abs(np.array(times) - number).argmin())
    a, b = (measures.losses_T(one)[:, at] for one in (real, ideal))
    result.append(measures.mean_difference(a, b, level))
  return result


def _poked(found: Mapping[str, xarray.Dataset], level: float) -> list[Interval]:
  rows = [pairs.l1_rows(measures.chances(found[f"text/{name}"])) for name in ("poke", "course")]
  return [pairs.pair_ratio(*rows, False, level)]
