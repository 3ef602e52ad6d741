"""What a published table can bear: which of its bold entries lead by more than luck?

The verdict on a benchmark is on one claim: the bold method is the best of those that can be judged.
It rests on the largest of the p-values against the others (an intersection-union test; that the
winner was selected costs nothing: Gutmann & Maymin 1987), and Holm's correction holds the claims of
all benchmarks together at 5 %.
"""

import dataclasses
import math
import os
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd

from seedlab import meanings, printed
from seedlab.errors import UserError, choice_error
from seedlab.meanings import Direction
from seedlab.printed import Entry, Kind
from seedlab.stats import published
from seedlab.stats.published import Lead, Luck, Published, Replication, Seeds

ALPHA = 0.05
Verdict = Literal["best", "open", "behind", "none"]
_MIXED = 30  # a share and another that many times larger are hardly in one unit


@dataclasses.dataclass(frozen=True)
class Benchmark:
  """The bold entry of one benchmark. Leads are positive where the bold entry is better."""

  name: str
  better: Direction
  percent: bool | None  # whether printed in percent; None where nobody says that it is a share
  share: bool  # of examples that are right or wrong
  bold: list[str]  # methods that are bold, the judged one first
  marked: bool  # by the table; otherwise those with the best mean
  winner: Entry
  runner_up: Entry | None  # the best that is not bold; None where all are
  methods: int  # with a mean
  judged: int  # of them those with a spread and seeds
  verdict: Verdict  # "best" at 5 % in the family; "behind": another mean is better; "none" given
  why: list[str]  # what was left out, and why there is no verdict
  assumed: bool = False  # some of what is judged rests on `sigma`
  lead: Lead | None = None  # over the runner-up
  hardest: str = ""  # the method that the bold entry is least surely ahead of
  p_value: float = math.nan  # against that one
  as_printed_p: float = math.nan  # the same as if the printed numbers were not rounded
  p_holm: float = math.nan  # the same, corrected for the benchmarks of the table
  luck: Luck | None = None
  replication: Replication | None = None  # for five methods or more
  seeds: Seeds | None = None  # against the hardest, where the claim is open
  examples: published.Examples | None = None  # where the size of the test set is known


@dataclasses.dataclass(frozen=True)
class Audit:
  """Every benchmark of a table, in its order."""

  benchmarks: list[Benchmark]
  reading: list[str]  # how the table was read
  kinds: list[Kind]  # what the spreads are
  seeds: list[int | None]  # behind each mean; None where nobody says
  sigma: float | None
  if_sem: int | None  # claims that stand if the printed sds are standard errors; None without sds

  @property
  def family(self) -> int:
    """Benchmarks with a claim that was tested."""
    return sum(not math.isnan(found.p_value) for found in self.benchmarks)


def audit(
  table: str | os.PathLike | pd.DataFrame,
  *,
  better: Direction | None = None,
  metric: str | None = None,
  spread: Kind | None = None,
  n: int | None = None,
  test_size: int | None = None,
  sigma: float | None = None,
) -> Audit:
  """Judges the bold entries of a published table.

  Args:
    table: a file (CSV, TSV, Markdown, LaTeX) or a DataFrame, long or wide (`printed`).
    better: which way is better on benchmarks whose headings do not say it (an arrow, or a word such
      as "accuracy"); no heading is overruled.
    metric: the name of the metric, such as "accuracy", likewise; or the column of means.
    spread: what a `93.1 ± 0.2` or an unnamed spread is: "sd" over seeds, "sem" or "ci95".
    n: seeds behind every mean, where no column says it.
    test_size: examples of every test set, likewise.
    sigma: an sd over seeds, in the unit of the table, for entries that have no spread or one seed.
      What rests on it is marked: it is an assumption, not a measurement.

  Raises UserError, with line and column, for what cannot be read, is impossible, or could mean
  several things; also where nobody says which way a metric is better.
  """
  if better not in (None, "higher", "lower"):
    raise choice_error("better", better, ("higher", "lower"))
  if sigma is not None and not 0 < sigma < math.inf:
    raise UserError(f"sigma={sigma} must be a positive number, an sd in the unit of the table")
  found = printed.read(table, metric=metric, spread=spread, n=n, test_size=test_size)
  groups: dict[str, list[Entry]] = {}
  for entry in found.entries:
    groups.setdefault(entry.benchmark, []).append(entry)
  named = None if metric == found.metric else metric  # else it is a column, and so a heading
  ways, said = _directions(found, list(groups), better, named)
  examined = []
  for name, entries in groups.items():
    meant = _meant(name, found, list(groups), named)
    units = _units(entries, meant, name in found.percent)
    examined.append(_examine(name, entries, ways[name], *units, sigma))
  if sigma is not None and all(_published(entry, 1, None) for entry in found.entries):
    said.append(f"Not used: --sigma={sigma:g}, since every entry has a spread of its own.")
  kinds = sorted({entry.kind for entry in found.entries if entry.kind})
  if spread and not kinds:
    said.append(f"Not used: --spread={spread}, since no spread is printed.")
  judged = _family(examined)
  if_sem = None
  if "sd" in kinds:
    turned = [_as_sem(groups[one.name], one, sigma) for one in judged]
    if_sem = sum(one.verdict == "best" for one in _family(turned))
  seeds = [entry.n for entry in found.entries]
  return Audit(judged, [*found.reading, *said], kinds, seeds, sigma, if_sem)


def _directions(
  found: printed.Printed, names: list[str], better: Direction | None, metric: str | None
) -> tuple[dict[str, Direction], list[str]]:
  """Which way is better on each benchmark, and sentences on what the user said and headings deny.

  A heading comes first; what the user says fills in where headings say nothing. Raises UserError
  where neither does.
  """
  word = meanings.better(metric or "")
  rest = better or word
  silent = [name for name in names if name not in found.better]
  if silent and rest is None:
    first, *others = [repr(name or metric or found.metric or "the mean") for name in silent]
    more = f" (nor {', '.join(others)})" if others else ""
    raise UserError(
      f"nobody says which way {first} is better{more}; write ↑ or ↓ into the heading, or say it"
      " with --better=higher or --better=lower, which holds where no heading says it, or name the"
      " metric, as in --metric=accuracy"
    )
  said = []
  for flag, way in ((f"--better={better}", better), (f"--metric={metric}", word)):
    denied = [name for name in names if way and found.better.get(name, way) != way]
    if denied:
      which = ", ".join(repr(name or found.metric) for name in denied)
      said.append(
        f"Not used for {which}: {flag}, since the heading says {found.better[denied[0]]};"
        " an arrow (↑ or ↓) in a heading comes before its words."
      )
  if silent and better and word and better != word:
    said.append(f"--better={better} was followed, though --metric={metric} says {word}.")
  if silent and len(names) > 1:
    flag = f"--better={better}" if better else f"--metric={metric}"
    said.append(f"By {flag}, {rest} is better on {', '.join(map(repr, silent))}.")
  return {name: found.better.get(name) or rest for name in names}, said  # type: ignore[misc]


def _meant(name: str, found: printed.Printed, names: Sequence[str], metric: str | None) -> str:
  """The metric of a benchmark: the heading that is known, else what the user says, else "".

  What the user says is of the datasets among the headings. Where some are metrics, a heading with
  an arrow is taken as one of them that is not known here, such as IS ↑ beside FID ↓.
  """
  for heading in (found.metric or "", name):
    if meanings.better(heading):
      return heading
  own = found.better.get(name)
  if own and (any(map(meanings.better, names)) or meanings.better(metric or "") not in (None, own)):
    return ""
  return metric or ""


def _as_sem(entries: list[Entry], one: Benchmark, sigma: float | None) -> Benchmark:
  """The same benchmark, if its sds are standard errors."""
  turned = [dataclasses.replace(e, kind="sem" if e.kind == "sd" else e.kind) for e in entries]
  return _examine(one.name, turned, one.better, one.percent, one.share, sigma)


def _units(entries: Sequence[Entry], metric: str, marked: bool) -> tuple[bool | None, bool]:
  """Whether a benchmark is in percent, None where nobody says it, and whether it is of examples.

  Percentages of what has no known name are taken as shares of examples if they can be.

  Args:
    metric: what is known to be printed, or "".
    marked: the heading has a % sign.

  Raises UserError where fractions and percentages meet, and for an sd that shares cannot have.
  """
  signs = {entry.percent for entry in entries}
  if len(signs) > 1:
    odd = next(entry for entry in entries if not entry.percent)
    raise UserError(f"{odd.where}: {odd.mean:g} has no % sign and others have one; use one unit")
  marked |= signs == {True}
  shares = bool(meanings.share(metric))
  least, most = (pick(entries, key=lambda entry: entry.mean) for pick in (min, max))
  bounded = least.mean >= 0 and most.mean <= 100
  if not shares:
    shares = marked and bounded and not meanings.better(metric)
  elif not bounded:
    odd = least if least.mean < 0 else most
    raise UserError(f"{odd.where}: {odd.mean:g} is no share: neither a fraction nor in percent")
  if not shares:
    return marked or None, False
  if not marked and 0 < least.mean <= 1 < most.mean and most.mean > _MIXED * least.mean:
    raise UserError(
      f"{least.where}: {least.mean:g} looks like a fraction and {most.mean:g} ({most.where}) like"
      " a percentage; use one unit"
    )
  percent = marked or most.mean > 1
  for entry in entries:
    sd, step = entry.sd()
    whole = 100.0 if percent else 1.0
    largest = math.sqrt(max((entry.mean + entry.step) * (whole - entry.mean + entry.step), 0))
    if entry.n and entry.n > 1 and sd - step > largest * math.sqrt(entry.n / (entry.n - 1)):
      raise UserError(
        f"{entry.where}: values between 0 and {whole:g} with mean {entry.mean:g} have an sd of at"
        f" most {largest * math.sqrt(entry.n / (entry.n - 1)):.3g}, not {sd:.3g}; is the spread in"
        " another unit, or not the kind that is said?"
      )
  return percent, True


def _examine(
  name: str,
  entries: list[Entry],
  better: Direction,
  percent: bool | None,
  share: bool,
  sigma: float | None,
) -> Benchmark:
  """Everything but the family's correction and what depends on it."""
  sign = 1 if better == "higher" else -1
  ordered = sorted(entries, key=lambda entry: -sign * entry.mean)  # stable: ties as in the table
  marked = any(entry.bold for entry in entries)
  top = ordered[0].mean
  bold = [entry for entry in ordered if (entry.bold if marked else entry.mean == top)]
  others = [entry for entry in ordered if entry not in bold]
  judged = {entry.method: means for entry in entries if (means := _published(entry, sign, sigma))}
  winner, runner_up = bold[0], others[0] if others else None
  found = Benchmark(
    name, better, percent, share, [entry.method for entry in bold], marked, winner, runner_up,
    len(entries), len(judged), "none", _left_out(ordered, sigma),
  )  # fmt: skip
  if runner_up is None:
    why = "every method is bold" if len(entries) > 1 else "there is no other method to compare with"
    return dataclasses.replace(found, why=[*found.why, f"No verdict: {why}."])
  if share and winner.test_size and winner.test_size == runner_up.test_size:
    whole = 100 if percent else 1
    error = published.other_examples(winner.mean / whole, runner_up.mean / whole, winner.test_size)
    error = published.Examples(*(whole * value for value in dataclasses.astuple(error)))
    found = dataclasses.replace(found, examples=error)
  elif winner.test_size and not share:
    note = (
      "What another test set would change is not computed: nobody says that the metric is a share"
      " of examples (--metric=accuracy does)."
    )
    found = dataclasses.replace(found, why=[*found.why, note])
  missing = [entry.method for entry in (winner, runner_up) if entry.method not in judged]
  if missing:
    why = f"No verdict: nothing is known of how {' and '.join(missing)} would vary."
    return dataclasses.replace(found, why=[*found.why, why])
  return _judged(found, judged, [entry.method for entry in others if entry.method in judged])


def _judged(found: Benchmark, judged: dict[str, Published], rivals: list[str]) -> Benchmark:
  """With the tests of the bold entry against its rivals, best first, and what goes with them."""
  winner = judged[found.winner.method]
  leads = {rival: published.lead(winner, judged[rival]) for rival in rivals}
  first = leads[rivals[0]]
  if any(math.isnan(lead.p_value) for lead in leads.values()):
    why = "No verdict: the printed spreads are 0 and the means are not rounded."
    return dataclasses.replace(found, why=[*found.why, why])
  behind = first.interval.estimate < 0
  hardest = max(rivals, key=lambda rival: _one_sided(leads[rival]))
  everyone = list(judged.values())
  rng = np.random.default_rng(0)  # the same table, the same numbers
  bold = [method for method in found.bold if method in judged]
  luck = replication = None
  if not behind:
    luck = published.luck(everyone, first.interval.estimate, rng, len(bold))
  if len(judged) >= published.FEWEST_METHODS:
    names = list(judged)
    at = names.index(found.winner.method), names.index(rivals[0])
    replication = published.replication(everyone, *at, rng)
  return dataclasses.replace(
    found,
    assumed=any(method.known for method in everyone),
    verdict="behind" if behind else "open",
    lead=first,
    hardest=hardest,
    p_value=1.0 if behind else leads[hardest].p_value,
    as_printed_p=math.nan if behind else leads[hardest].as_printed_p,
    luck=luck,
    replication=replication,
    seeds=None if behind else published.seeds_needed(winner, judged[hardest]),
  )


def _one_sided(lead: Lead) -> float:
  """Small where the lead is sure; orders leads of both signs."""
  return lead.p_value / 2 if lead.interval.estimate > 0 else 1 - lead.p_value / 2


def _family(examined: list[Benchmark]) -> list[Benchmark]:
  """With Holm's correction for all claims that were tested."""
  tested = [one for one in examined if not math.isnan(one.p_value)]
  corrected = iter(published.holm([one.p_value for one in tested]))
  found = []
  for one in examined:
    if not math.isnan(one.p_value):
      one = dataclasses.replace(one, p_holm=next(corrected))
      if one.p_holm <= ALPHA:
        one = dataclasses.replace(one, verdict="best", seeds=None)
    found.append(one)
  return found


def _published(entry: Entry, sign: int, sigma: float | None) -> Published | None:
  """For the statistics, larger is better; None where nothing is known of the spread."""
  sd, sd_step = entry.sd()
  if entry.n and entry.n > 1 and not math.isnan(sd):
    return Published(sign * entry.mean, sd, entry.n, entry.step, sd_step)
  if sigma is None:
    return None
  return Published(sign * entry.mean, sigma, entry.n or 1, entry.step, known=True)


def _left_out(entries: Sequence[Entry], sigma: float | None) -> list[str]:
  """A sentence for each reason for which entries are not judged, or judged by `sigma`."""
  reasons: dict[str, list[str]] = {}
  for entry in entries:
    if math.isnan(entry.spread):
      reason = "no spread is printed"
    elif entry.n is None:
      reason = "nobody says how many seeds are behind the mean"
    elif entry.n == 1:
      reason = "it rests on 1 seed, which shows no spread"
    else:
      continue
    reasons.setdefault(reason, []).append(entry.method)
  said = []
  for reason, methods in reasons.items():
    if sigma is None:
      who = "is not judged" if len(methods) == 1 else "are not judged"
      said.append(f"{', '.join(methods)} {who}: {reason}.")
    else:
      said.append(
        f"{', '.join(methods)}: {reason}; judged as if the sd over seeds were {sigma:g} (--sigma)"
        " and, where no number of seeds is known, with 1."
      )
  return said
