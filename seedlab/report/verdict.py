"""The verdict on a pair in plain sentences: what is concluded, on what it rests, what next."""

import math

from seedlab import judging
from seedlab.comparisons import LEVEL, Pair
from seedlab.findings import Findings, counted
from seedlab.report import words
from seedlab.stats import comparison, planning, resolution
from seedlab.stats.single import Interval

_HOPELESS = 0.1  # chance of a verdict at the next look below which more seeds are not advised


def verdict(pair: Pair) -> list[str]:
  """Sentences, the first of which stands alone."""
  if pair.settled == "unknown direction":
    return _unjudged(pair)
  if pair.by_ranks:
    return [*_by_ranks(pair), *outlook(pair)]
  return [_of_means(pair), *_beside_margin(pair), *_rests(pair), *outlook(pair)]


def _of_means(pair: Pair) -> str:
  of, name, base = pair.baseline, pair.variant.name, pair.baseline.name
  on = f" on {pair.task}" * bool(pair.task)
  if not math.isfinite(pair.judged.low):
    return f"Open whether {name} is better than {base}{on}: {_no_interval(pair)}"
  shown = difference(pair, pair.judged)
  interval = f"{level_text(pair.judged)} interval {limits(pair, pair.judged)}"
  if pair.settled in ("better", "worse"):
    sizes = sorted(abs(end) for end in (pair.judged.low, pair.judged.high))
    by, low, high = (words.number(of, x, scale(pair)) for x in (abs(pair.judged.estimate), *sizes))
    return (
      f"{name} is {pair.settled} than {base}{on} by {by}{of.unit} ({level_text(pair.judged)}"
      f" interval {low} to {high})."
    )
  if pair.settled == "equal":
    return (
      f"{name} and {base} are equal{on} within {pair.rules.margin:g}{of.unit}: they differ by"
      f" {shown} ({interval})."
    )
  return f"Open whether {name} is better than {base}{on}: they differ by {shown} ({interval})."


def _beside_margin(pair: Pair) -> list[str]:
  """What the same interval says of the margin."""
  margin = pair.rules.margin
  if not margin:
    return []
  size = f"{margin:g}{pair.baseline.unit}"
  low, high = pair.judged.low, pair.judged.high
  if pair.settled in ("better", "worse"):
    more = min(abs(low), abs(high)) > margin
    return [f"That is more than {size}." if more else f"Not shown to be by more than {size}."]
  least = -high if pair.sign < 0 else low
  if pair.settled == "open" and least > -margin:
    return [f"It is not worse by {size} or more."]
  return []


def _rests(pair: Pair) -> list[str]:
  return [_assumptions(pair)] if math.isfinite(pair.judged.low) else []


def _by_ranks(pair: Pair) -> list[str]:
  """Where runs diverged or are missing: how often the variant wins, whatever those would be."""
  name, base = pair.variant.name, pair.baseline.name
  on = f" on {pair.task}" * bool(pair.task)
  share = pair.judged
  interval = f"{level_text(share)} interval {share.low:.2f} to {share.high:.2f}"
  holds = ", whatever the missing runs would have shown" * bool(_missing(pair))
  if math.isnan(share.estimate) or not math.isfinite(share.low):
    first = (
      f"Open whether {name} is better than {base}{on}: runs diverged or are missing, and no verdict"
      " on the others holds for those as well."
    )
  elif pair.settled == "open":
    first = (
      f"Open whether {name} is better than {base}{on}: a new run of it is better than one of"
      f" {base} with probability {share.estimate:.2f} ({interval}{holds})."
    )
  else:
    first = (
      f"{name} is {pair.settled} than {base}{on}: a new run of it is better than one of {base} with"
      f" probability {share.estimate:.2f} ({words.p_text(pair.p_value)}{holds})."
    )
  return [first, _who_is_left(pair), *([_assumptions(pair)] if math.isfinite(share.low) else [])]


def _missing(pair: Pair) -> int:
  return pair.variant.missing + pair.baseline.missing


def _who_is_left(pair: Pair) -> str:
  """How many of the runs that there should be have a number, and what their means are worth."""
  of_each = []
  for sweep in (pair.variant, pair.baseline):
    planned, missing = sweep.planned, sweep.missing
    lost = 0 if sweep.chance is not None else sweep.diverged
    if not (lost or missing):
      continue
    left = " and ".join(words.lost_told(sweep) if lost else words.lost_told(sweep)[-1:])
    of_each.append(f"{planned - lost - missing:,} of {counted(planned, 'run')} of {sweep.name} have"
                   f" a number ({left})")  # fmt: skip
  return (
    f"Only {', and '.join(of_each)}. So means are not judged: those of the runs that are left may"
    " be better than those of all. A run that diverged counts as the worst"
    f"{', a missing one against the verdict' * bool(_missing(pair))}."
  )


def _unjudged(pair: Pair) -> list[str]:
  """Of a metric without a direction: the difference, why it is not judged, and the remedy."""
  of = pair.baseline
  shown = pair.fixed
  interval = ""
  if math.isfinite(shown.low):
    interval = f" ({level_text(shown)} interval {limits(pair, shown)})"
  rests = [] if pair.by_ranks else _rests(pair)
  left = [_who_is_left(pair)] if pair.by_ranks else []
  return [
    f"Not judged: whether a higher or a lower {of.label} is better is not known;"
    f" --better=higher or --better=lower says it{words.or_a_name(of)}.",
    f"The mean of {pair.variant.name} less that of {of.name} is"
    f" {difference(pair, shown)}{interval}.",
    *left,
    *rests,
  ]


def _no_interval(pair: Pair) -> str:
  two = pair.verdict.evidence.two
  n = min(len(two.a_R), len(two.b_S))
  spread = pair.rules.spread
  if spread and judging.too_small(two, spread):
    source = "stated" if math.isinf(spread.df) else "learnt"
    ratio, _ = comparison.spread_misfit(two, spread)
    return (
      f"the runs spread {ratio:.2g} times as much as was {source}, so nothing that rests on that"
      " spread is said; judge without it."
    )
  if n == 1:
    remedy = "; give --sigma or --floor if its spread is known" * (spread is None)
    return f"one run has no spread to judge a difference by{remedy}."
  if two.paired and (two.a_R == two.b_S).all():
    return (
      "every run has the same value in both. These are the same runs, or what differs between them"
      " changes nothing."
    )
  if pair.judged_by == "looked" and not math.isnan(pair.fixed.low):
    least = 4 if two.paired else comparison.ANYTIME_FROM
    noun = "pairs" if two.paired else "runs of each"
    return (
      f"{counted(n, 'run')} {'is' if n == 1 else 'are'} too few for an interval that forgives"
      f" looking again, which needs at least {least} {noun}."
    )
  return (
    f"they differ by {difference(pair, pair.fixed)} in every run alike, which leaves no spread"
    " to judge by; check that the seed is used."
  )


def _assumptions(pair: Pair) -> str:
  evidence, two = pair.verdict.evidence, pair.verdict.evidence.two
  if pair.judged_by == "crossed":
    runs = f"{counted(len(two.a_R), 'pair')} of runs"
  elif evidence.paired and (pair.rules.spread is None or pair.by_ranks):
    runs = f"{counted(evidence.runs[0], 'pair')} with the same seed"
  else:
    runs = f"{evidence.runs[0]:,} and {evidence.runs[1]:,} independent runs"
  where = "on this test set" if pair.baseline.examples else "under the same evaluation"
  said = ["It speaks of new seeds " + where, f"from {runs}", _when(pair)]
  spread = pair.rules.spread
  if spread and not pair.by_ranks:
    known = words.number(pair.baseline, spread.sd, spread.sd) + pair.baseline.unit
    if math.isinf(spread.df):
      said.append(f"if the sd of a run is {known}, as stated")
    else:
      learnt = counted(int(spread.df) + 1, "run")
      said.append(f"if these runs have the spread of the floor (sd {known}, from {learnt})")
  if pair.level > LEVEL + 1e-9:
    said.append("at a stricter level, since several are compared (Holm)")
  return "; ".join(said) + "."


def _when(pair: Pair) -> str:
  """What was fixed beforehand."""
  evidence = pair.verdict.evidence
  *others, last = dict.fromkeys(evidence.runs[:1] if evidence.paired else evidence.runs)
  numbers = " and ".join([*(f"{n:,}" for n in others), counted(last, "seed")])
  if evidence.kind == "crossed":
    return "by the jackknife over the levels of the crossed design"
  if evidence.kind == "looked":
    return "valid, for values without rare collapses, however often seeds were added and looked at"
  if evidence.kind == "fixed":
    return f"with the {numbers} fixed beforehand, as is assumed (--looked if they were not)"
  error = 100 * (1 - LEVEL)
  own = f"{error * evidence.weight:.2g} %"
  budget = f"at an error rate of {own}, so that all looks together err in {error:.2g} %"
  stands = "; its verdict stands, whatever later looks say" * (evidence is not pair.looks[-1])
  if evidence is pair.looks[0]:
    return f"looked at as planned, with {numbers} ({budget}){stands}"
  return f"looked at again with {numbers}, after a doubling ({budget}){stands}"


def outlook(pair: Pair) -> list[str]:
  """What more seeds would do for an open verdict, by the procedure that will judge them."""
  if pair.settled != "open" or pair.judged_by == "crossed":
    return []
  if pair.by_ranks:
    return ["Train the missing runs: more seeds do not replace them."] * bool(_missing(pair))
  found = pair.forecast
  if found is None:
    if not math.isfinite(pair.judged.low):  # why there is no interval was said
      return []
    return ["From these runs it cannot be told what more seeds would say."]
  unit = "pairs" if not pair.grows else f"runs of {pair.grows}"
  said = []
  if found.probability:
    chance, low, high = (f"{100 * p:.0f}" for p in found.probability)
    settles = (
      f"settles it with a chance of {chance} % ({low} to {high} %, as uncertain as these runs leave"
      " it)"
      if found.probability[2] >= 0.005
      else "settles it with a chance below 1 %"
    )
    said.append(f"The next look is at {found.next_runs:,} {unit} and {settles}.")
    if not found.enough and found.probability[2] < _HOPELESS:
      said.append(
        "Doubling the number is not likely to settle it: if a difference within that interval"
        " matters, plan a new comparison with more seeds."
      )
  if found.enough:
    middle, low, high = (f"{runs:,}" for runs in found.enough)
    range_text = f" ({low} to {high})" * (low != high)
    said.append(
      f"About {middle} {unit}{range_text} would settle it four times in five{_cost(pair)}."
    )
  if pair.judged_by == "fixed" and said:
    n = len(pair.looks[-1].two.a_R)
    said.append(
      f"Whoever adds seeds judges all of them with --planned_n={n}, for which these chances are:"
      " then this look counts as the first of several."
    )
  return said


def _cost(pair: Pair) -> str:
  """Hours on one worker, where both sweeps say how long a run takes."""
  more = pair.forecast.enough[0] - pair.forecast.next_runs // 2
  growing = [s for s in (pair.baseline, pair.variant) if pair.grows in ("", s.name)]
  if any(math.isnan(sweep.seconds) for sweep in growing):
    return ""
  hours = sum(planning.hours(more, sweep.seconds) for sweep in growing)
  time = f"{60 * hours:.2g} minutes" if hours < 1 else f"{hours:.2g} hours"
  return f", {time} more on one worker"


def difference(pair: Pair, interval: Interval | comparison.Contrast) -> str:
  """Its size, signed as variant - baseline, with the unit."""
  number = words.number(pair.baseline, interval.estimate, scale(pair))
  sign = "+" * (interval.estimate > 0)
  return f"{sign}{number}{pair.baseline.unit}"


def limits(pair: Pair, interval: Interval | comparison.Contrast) -> str:
  low, high = (
    words.number(pair.baseline, end, scale(pair)) for end in (interval.low, interval.high)
  )
  return f"{low} to {high}"


def scale(pair: Pair) -> float:
  """The uncertainty of the difference, which sets the digits."""
  if math.isfinite(pair.fixed.low):
    return (pair.fixed.high - pair.fixed.low) / 4
  return pair.baseline.columns[0].summary.sd


def level_text(interval: Interval | comparison.Contrast) -> str:
  return f"{100 * interval.level:.4g} %"


def share_text(sweep: Findings) -> str:
  """Diverged runs, with the exact interval of their rate among new seeds."""
  rate = resolution.rate(sweep.diverged, sweep.completed)
  return (
    f"{sweep.diverged:,} of {sweep.completed:,} of {sweep.name} ({100 * rate.low:.2g} to"
    f" {100 * rate.high:.2g} %)"
  )
