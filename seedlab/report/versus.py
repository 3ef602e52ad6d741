"""What a comparison says, in words: for the terminal, for a paper (Markdown), for machines."""

import math
import textwrap
from typing import Any

import numpy as np

from seedlab.comparisons import LEVEL, Comparison, Pair
from seedlab.config import STREAMS
from seedlab.findings import Findings, counted
from seedlab.report import words
from seedlab.stats import beside, comparison, planning, sequential
from seedlab.stats.comparison import TwoSweeps
from seedlab.stats.single import Interval

_FEW = 5  # pairs below which a bootstrap of wins says nothing
_FAR = 1_000_000  # runs beyond which a forecast is only "more than"


def text(found: Comparison, details: bool = False) -> str:
  """One screen: what differs, the sweeps, then for every variant difference, P(better), verdict."""
  parts = [_lines(_differing(found)), _aligned(_sweep_rows(found))]
  for pair in found.pairs:
    lines = [_fill(" ".join(verdict(pair, found.margin)))]
    beside = [*facts(pair, found.margin), *(on_request(pair) if details else [])]
    lines += ["  " + line for line in _aligned(beside).splitlines()]
    lines += [_fill(note, "- ") for note in notes(pair)]
    parts.append("\n".join(lines))
  return "\n\n".join(part for part in parts if part)


def _lines(rows: list[tuple[str, ...]]) -> str:
  return _aligned([("what differs", *rows[0]), *[("", *row) for row in rows[1:]]]) if rows else ""


def _differing(found: Comparison) -> list[tuple[str, ...]]:
  return [
    (field, " | ".join("none" if value is None else str(value) for value in values))
    for field, values in found.differences
  ]


def sweep_table(found: Comparison) -> list[tuple[str, ...]]:
  """Header and a row for each sweep: n, streams varied, mean, sd, range."""
  return _sweep_rows(found)


def _sweep_rows(found: Comparison) -> list[tuple[str, ...]]:
  of = found.sweeps[0]
  unit = ", %" * of.percent
  head = (f"{of.label}{unit}", "runs", "mean", "sd", "distribution-wise sd", "min", "max", "varied")
  rows = [head]
  for sweep in found.sweeps:
    column = sweep.columns[0]
    s = column.summary
    show = [words.number(sweep, value, s.sd) for value in (s.mean, s.sd, column.sd, s.min, s.max)]
    diverged = f" ({sweep.diverged} diverged)" * bool(sweep.diverged)
    rows.append((sweep.name, f"{s.n:,}{diverged}", *show, _varied(sweep)))
  unknown = [at for at, blank in ((7, "?"), (4, "-")) if all(row[at] == blank for row in rows[1:])]
  for at in unknown:
    rows = [row[:at] + row[at + 1 :] for row in rows]
  if found.ranks:
    r = found.ranks
    sets = zip(r.rank_S, r.low_S, r.high_S, strict=True)
    cells = ["rank (95 %)", *(f"{rank} ({low} to {high})" for rank, low, high in sets)]
    rows = [(*row[:2], cell, *row[2:]) for row, cell in zip(rows, cells, strict=True)]
  return rows


def verdict(pair: Pair, margin: float | None) -> list[str]:
  """The verdict in plain sentences: what is concluded, on what it rests, what would settle it."""
  name, base = pair.variant.name, pair.baseline.name
  shown = difference(pair, pair.judged)
  interval = f"{_level(pair.judged)} interval {limits(pair, pair.judged)}"
  settled = pair.settled
  if settled == "unknown direction":
    return _unjudged(pair)
  if settled in ("better", "worse"):
    by = words.number(pair.baseline, abs(pair.judged.estimate), _scale(pair)) + pair.baseline.unit
    first = f"{name} is {settled} than {base} by {by} ({interval} of the difference)."
  elif settled == "equal":
    first = (
      f"{name} and {base} are equal within {margin:g}{pair.baseline.unit}: they differ by {shown}"
      f" ({interval})."
    )
  elif math.isfinite(pair.judged.low):
    first = f"Open whether {name} is better than {base}: they differ by {shown} ({interval})."
  else:
    first = f"Open whether {name} is better than {base}: {_no_interval(pair)}"
  not_worse = next((v for v in pair.verdicts if v.claim.id == "not worse"), None)
  also = []
  if not_worse and not_worse.outcome == "shown" and settled == "open":
    also = [f"It is not worse by {margin:g}{pair.baseline.unit} or more."]
  if margin and settled in ("better", "worse"):
    near = min(abs(pair.judged.low), abs(pair.judged.high))
    unit = f"{margin:g}{pair.baseline.unit}"
    also = [
      f"That is more than {unit}." if near > margin else f"Not shown to be by more than {unit}."
    ]
  rests = [_assumptions(pair)] if math.isfinite(pair.judged.low) else []
  return [first, *also, *rests, *_outlook(pair, margin)]


def _unjudged(pair: Pair) -> list[str]:
  """Of a metric without a direction: the difference, why it is not judged, and the remedy."""
  of = pair.baseline
  interval = ""
  if math.isfinite(pair.judged.low):
    interval = f" ({_level(pair.judged)} interval {limits(pair, pair.judged)})"
  rests = [_assumptions(pair)] if interval else []
  return [
    f"Not judged: whether a higher or a lower {of.label} is better is not known;"
    " --better=higher or --better=lower says it.",
    f"The mean of {pair.variant.name} less that of {of.name} is"
    f" {difference(pair, pair.judged)}{interval}.",
    *rests,
  ]


def _varied(sweep: Findings) -> str:
  if set(sweep.vary) == set(STREAMS):
    return "all streams"
  return ", ".join(sweep.vary) or "?"


def _no_interval(pair: Pair) -> str:
  n = min(len(pair.two.a_R), len(pair.two.b_S))
  if pair.judged_by == "anytime" and n < sequential.BURN_IN:
    number = counted(n, "pair" if pair.two.paired else "run")
    return (
      f"{number} {'is' if n == 1 else 'are'} fewer than the {sequential.BURN_IN} from which an"
      " interval that forgives looking again speaks, and the fixed-n interval judges only where the"
      " number of seeds was decided before training (--planned_n)."
    )
  if n > 1 and pair.two.paired and (pair.two.a_R == pair.two.b_S).all():
    return (
      "every run has the same value in both. These are the same runs, or what differs between them"
      " changes nothing."
    )
  if n > 1:
    return (
      f"they differ by {difference(pair, pair.judged)} in every run alike, which leaves no spread"
      " to judge by; check that the seed is used."
    )
  return "one run has no spread to judge a difference by."


def _assumptions(pair: Pair) -> str:
  kind = {
    "anytime": "valid however often one looks",
    "fixed": "at the number of runs that was "
    + ("recorded before training" if pair.baseline.record else "decided beforehand, as stated"),
    "crossed": "jackknife over the levels of the crossed design",
  }[pair.judged_by]
  if pair.judged_by == "crossed":
    runs = f"{counted(len(pair.two.a_R), 'pair')} of runs"
  elif pair.two.paired:
    runs = f"{counted(len(pair.two.a_R), 'pair')} with the same seed"
  else:
    runs = f"{len(pair.two.a_R):,} and {len(pair.two.b_S):,} independent runs"
  where = "on this test set" if pair.baseline.examples else "under the same evaluation"
  shared = (
    "" if pair.judged.level == LEVEL else "; wider than 95 % since several are compared (Holm)"
  )
  return f"It speaks of the means over new seeds {where}; from {runs}; {kind}{shared}."


def _outlook(pair: Pair, margin: float | None) -> list[str]:
  if pair.settled != "open" or pair.judged_by == "crossed":
    return []
  if pair.more is None:
    if min(len(pair.two.a_R), len(pair.two.b_S)) < _FEW:
      return ["Too few runs to say how many more would settle it."]
    if math.isnan(pair.fixed.low):  # no spread: said already
      return []
    hint = "" if margin else "; a --margin says which differences you care about"
    return [f"No number of seeds that can be trained would settle it if that is the truth{hint}."]
  if pair.more > _FAR:
    hint = "" if margin else "; a --margin says which differences you care about"
    return [f"More than {_FAR:,} further seeds a sweep would be needed{hint}."]
  hours = [
    planning.hours(pair.more, sweep.seconds)
    for sweep in (pair.baseline, pair.variant)
    if not math.isnan(sweep.seconds)
  ]
  cost = f" ({_duration(sum(hours))} on one worker)" if len(hours) == 2 else ""
  return [
    "If the difference and the spread are what they seem, about"
    f" {counted(pair.more, 'more seed')} a sweep{cost} would settle it four times in five."
  ]


def facts(pair: Pair, margin: float | None) -> list[tuple[str, str]]:
  """Numbers beside the verdict; the interval that carries it is marked."""
  listed = []
  fixed = Interval(
    pair.fixed.estimate, pair.fixed.low, pair.fixed.high, pair.fixed.level, pair.fixed.method
  )
  mark = {True: " <- judges", False: ""}
  if pair.judged_by == "crossed":
    listed.append(("difference, over new levels", _cell(pair, fixed) + mark[True]))
  else:
    anytime = pair.judged if pair.judged_by == "anytime" else pair.anytime
    if pair.anytime and anytime:
      value = _cell(pair, anytime) + mark[pair.judged_by == "anytime"]
      listed.append((f"difference, anytime-valid {_level(anytime)}", value))
    else:
      value = f"from {sequential.BURN_IN} runs on"
      listed.append(("difference, anytime-valid 95 %", value))
    fixed = pair.judged if pair.judged_by == "fixed" else fixed
    p = f", p = {pair.fixed.p_value:.2g}" if not math.isnan(pair.fixed.p_value) else ""
    value = _cell(pair, fixed) + p + mark[pair.judged_by == "fixed"]
    listed.append((f"difference, {fixed.method} at fixed n {_level(fixed)}", value))
  if pair.better:
    b = pair.better
    listed.append(
      (
        f"P({pair.variant.name} {'better' if pair.baseline.better else 'higher'})",
        f"{b.estimate:.2f} ({b.low:.2f} to {b.high:.2f}), {b.method}",
      )
    )
    rule = beside.bouthillier(_turned(pair), np.random.default_rng(0))
    if rule.pairs >= _FEW and pair.baseline.better:
      conclusion = rule.conclusion.replace("A is better", f"{pair.variant.name} is better")
      limits_text = f"{rule.low:.2f} to {rule.high:.2f}, meaningful above 0.75"
      name = f"Bouthillier's rule, no verdict, for {pair.variant.name}"
      listed.append((name, f"{conclusion} ({limits_text})"))
  detectable = _detectable(pair)
  if detectable:
    listed.append(("found 4 times in 5 at this n (t test)", detectable))
  if margin and pair.better and math.isfinite(pair.fixed.low):
    test = comparison.equivalence(pair.two, margin)
    listed.append((f"equal within {margin:g} (TOST, fixed n)", f"p = {test.p_value:.2g}"))
  if pair.without_diverged:
    w = pair.without_diverged
    interval = Interval(w.estimate, w.low, w.high, w.level, w.method)
    listed.append(("difference without diverged runs", _cell(pair, interval)))
  return listed


def _detectable(pair: Pair) -> str:
  """The smallest difference that so many runs would find, from the spread seen."""
  two = pair.two
  if pair.judged_by == "crossed" or min(len(two.a_R), len(two.b_S)) < 3:
    return ""
  if two.paired:
    n, sd = len(two.a_R), float((two.a_R - two.b_S).std(ddof=1))
  else:
    n = min(len(two.a_R), len(two.b_S))
    sd = math.sqrt((two.a_R.var(ddof=1) + two.b_S.var(ddof=1)) / 2)
  if not sd > 0:
    return ""
  found = planning.detectable_difference(n, sd, two.paired)
  return f"a difference of {words.number(pair.baseline, found, _scale(pair))}{pair.baseline.unit}"


def notes(pair: Pair) -> list[str]:
  return list(pair.notes)


def on_request(pair: Pair) -> list[tuple[str, str]]:
  """Other methods, for who wants them, without a verdict; drawn from fixed seeds."""
  if pair.judged_by == "crossed":
    return []
  two = _turned(pair)
  singles = _single_runs(pair)
  if singles:
    return singles
  ratio = comparison.sd_ratio(pair.two, LEVEL)
  boot = beside.bootstrap_difference(pair.two, np.random.default_rng(1), LEVEL)
  if math.isnan(pair.fixed.low):
    return []
  listed = [
    ("permutation p", f"{beside.permutation_p(pair.two, np.random.default_rng(3)):.2g}"),
    ("difference, BCa bootstrap 95 %", _cell(pair, boot)),
    ("Cliff's delta", f"{beside.cliffs_delta(two.a_R, two.b_S):.2f}"),
    ("ratio of sds", f"{ratio.estimate:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"),
  ]
  if pair.baseline.better:
    order = beside.almost_stochastic_order(_turned(pair), np.random.default_rng(2))
    upper = "no limit" if math.isnan(order.upper) else f"{order.upper:.2f}"
    shown = f"{upper} (violation {order.violation:.2f})"
    listed.append(("almost stochastic order, eps_min", shown))
  return [*listed, *_new_examples(pair)]


def _single_runs(pair: Pair) -> list[tuple[str, str]]:
  """McNemar's test, if each sweep is one run on the same examples."""
  if len(pair.two.a_R) > 1 or len(pair.two.b_S) > 1:
    return []
  a, b = (sweep.correct() for sweep in (pair.variant, pair.baseline))
  if a is None or b is None:
    return []
  test = beside.mcnemar(a[0], b[0])
  value = (
    f"p = {test.p_value:.2g} ({test.only_a} right by the first alone, {test.only_b} by the other)"
  )
  return [("McNemar, these two runs alone", value)]


def _new_examples(pair: Pair) -> list[tuple[str, str]]:
  """The multibootstrap over seeds and test examples, where predictions were kept."""
  sweeps = (pair.variant, pair.baseline)
  shared = None
  if pair.two.paired:
    shared = np.intersect1d(*(sweep.columns[0].runs for sweep in sweeps))
  a, b = (sweep.correct(shared) for sweep in sweeps)
  if a is None or b is None or not pair.baseline.metric.endswith("accuracy"):
    return []
  found = beside.multibootstrap(a, b, pair.two.paired, np.random.default_rng(4), LEVEL)
  scaled = Interval(100 * found.estimate, 100 * found.low, 100 * found.high, LEVEL, found.method)
  return [("new seeds and new examples", f"{_cell(pair, scaled)}, multibootstrap")]


def difference(pair: Pair, interval: Interval) -> str:
  """Its size, signed as variant - baseline, with the unit."""
  number = words.number(pair.baseline, interval.estimate, _scale(pair))
  sign = "+" * (interval.estimate > 0)
  return f"{sign}{number}{pair.baseline.unit}"


def limits(pair: Pair, interval: Interval) -> str:
  show = [
    words.number(pair.baseline, value, _scale(pair)) for value in (interval.low, interval.high)
  ]
  return f"{show[0]} to {show[1]}"


def _cell(pair: Pair, interval: Interval) -> str:
  if not math.isfinite(interval.low):
    return f"{difference(pair, interval)} (no interval)"
  return f"{difference(pair, interval)} ({limits(pair, interval)})"


def _scale(pair: Pair) -> float:
  """The uncertainty of the difference, which sets the digits."""
  if math.isfinite(pair.fixed.low):
    return (pair.fixed.high - pair.fixed.low) / 4
  return pair.baseline.columns[0].summary.sd


def _turned(pair: Pair) -> TwoSweeps:
  if pair.baseline.better >= 0:
    return pair.two
  return TwoSweeps(-pair.two.a_R, -pair.two.b_S, pair.two.paired, pair.two.left_out)


def _duration(hours: float) -> str:
  if hours < 1:
    return f"{60 * hours:.2g} minutes"
  return f"{hours:.2g} hours"


def markdown(found: Comparison) -> str:
  """A sentence for each variant and a table, ready for a paper."""
  rows = _sweep_rows(found)
  deltas = ["difference (interval)", "-", *(_delta(pair) for pair in found.pairs)]
  table = [(*row, delta) for row, delta in zip(rows, deltas, strict=True)]
  lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in table]
  lines.insert(1, "|" + " --- |" * len(table[0]))
  sentences = [_sentence(pair, found.margin) for pair in found.pairs]
  return "\n\n".join([*sentences, "\n".join(lines)])


def _delta(pair: Pair) -> str:
  return _cell(pair, pair.judged).replace("(", f"({_level(pair.judged)}: ", 1)


def _level(interval: Interval) -> str:
  return f"{100 * interval.level:.4g} %"


def _sentence(pair: Pair, margin: float | None) -> str:
  """The verdict without what would settle it, which is no matter of a paper."""
  outlook = _outlook(pair, margin)
  return " ".join(sentence for sentence in verdict(pair, margin) if sentence not in outlook)


def json_values(found: Comparison) -> dict[str, Any]:
  """Everything as JSON values; differences are variant - baseline in `unit`, nan is null."""
  return {
    "metric": found.metric,
    "unit": "%" if found.sweeps[0].percent else found.unit.strip() or None,
    "better": {1: "higher", -1: "lower", 0: None}[found.sweeps[0].better],
    "margin": found.margin,
    "config_differences": dict(found.differences),
    "sweeps": [_sweep_json(sweep) for sweep in found.sweeps],
    "ranks": found.ranks
    and {
      "rank": found.ranks.rank_S.tolist(),
      "low": found.ranks.low_S.tolist(),
      "high": found.ranks.high_S.tolist(),
    },
    "comparisons": [_pair_json(pair) for pair in found.pairs],
  }


def _sweep_json(sweep: Findings) -> dict[str, Any]:
  column = sweep.columns[0]
  s = column.summary
  return {
    "name": sweep.name,
    "runs": s.n,
    "diverged": sweep.diverged,
    "planned_n": sweep.planned_n,
    "varied": sweep.vary,
    **{key: _number(getattr(s, key)) for key in ("mean", "sd", "min", "median", "max")},
    "distribution_wise_sd": _number(column.sd),
  }


def _pair_json(pair: Pair) -> dict[str, Any]:
  return {
    "variant": pair.variant.name,
    "baseline": pair.baseline.name,
    "outcome": pair.settled,
    "judged_by": pair.judged_by,
    "paired": pair.two.paired,
    "pairs": len(pair.two.a_R) if pair.two.paired else None,
    "judged": _interval_json(pair.judged),
    "fixed_n": _interval_json(pair.fixed)
    | {"p_value": _number(getattr(pair.fixed, "p_value", math.nan))},
    "anytime": _interval_json(pair.anytime) if pair.anytime else None,
    "probability_better": _interval_json(pair.better) if pair.better and pair.verdicts else None,
    "without_diverged": _interval_json(pair.without_diverged) if pair.without_diverged else None,
    "more_runs_a_sweep": pair.more,
    "verdicts": {
      v.claim.id: {"sentence": v.claim.sentence, "outcome": v.outcome, "level": _number(v.level)}
      for v in pair.verdicts
    },
    "notes": list(pair.notes),
  }


def _interval_json(interval: Any) -> dict[str, Any]:
  return {
    "estimate": _number(interval.estimate),
    "low": _number(interval.low),
    "high": _number(interval.high),
    "level": interval.level,
    "method": interval.method,
  }


def _number(value: float) -> float | None:
  return value if math.isfinite(value) else None


def _aligned(rows: list[tuple[str, ...]]) -> str:
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _fill(sentence: str, start: str = "") -> str:
  return textwrap.fill(sentence, 96, initial_indent=start, subsequent_indent=" " * len(start))
