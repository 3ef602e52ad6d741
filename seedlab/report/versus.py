"""What a comparison says, in words: for the terminal, for a paper, for machines."""

import math
import textwrap
from typing import Any

import numpy as np
import scipy.stats

from seedlab import console
from seedlab.comparisons import LEVEL, Comparison, Pair, turned
from seedlab.config import STREAMS
from seedlab.findings import Findings
from seedlab.report import aggregate, words
from seedlab.report import latex as latex_form
from seedlab.report import markdown as markdown_form
from seedlab.report.caveats import notes
from seedlab.report.verdict import (
  difference,
  level_text,
  limits,
  outlook,
  scale,
  share_text,
  verdict,
)
from seedlab.stats import beside, comparison, planning, resolution
from seedlab.stats.single import Interval

SCHEMA = 1  # of comparison.schema.json; another number where a field changes or goes
_FEW = 10  # pairs below which a bootstrap of wins says nothing


def text(found: Comparison, details: bool = False) -> str:
  """One screen: what differs, the sweeps, then for every variant difference, P(better), verdict."""
  parts = [_lines(_differing(found)), console.aligned(_sweep_rows(found))]
  for pair in found.pairs:
    lines = [_fill(" ".join(verdict(pair)))]
    beside = [*facts(pair), *(on_request(pair) if details else [])]
    lines += ["  " + line for line in console.aligned(beside).splitlines()]
    lines += [_fill(note, "- ") for note in notes(pair)]
    parts.append("\n".join(lines))
  if found.aggregate:
    parts.append(aggregate.text(found.aggregate, details))
  return "\n\n".join(part for part in parts if part)


def _lines(rows: list[tuple[str, ...]]) -> str:
  table = [("what differs", *rows[0]), *[("", *row) for row in rows[1:]]] if rows else []
  return console.aligned(table)


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
    apart = ", ".join(words.lost_told(sweep))
    named = f"{sweep.name} on {sweep.task}" if sweep.task else sweep.name
    rows.append((named, f"{s.n:,}{f' ({apart})' * bool(apart)}", *show, _varied(sweep)))
  unknown = [at for at, blank in ((7, "?"), (4, "-")) if all(row[at] == blank for row in rows[1:])]
  for at in unknown:
    rows = [row[:at] + row[at + 1 :] for row in rows]
  if found.ranks:
    r = found.ranks
    sets = zip(r.rank_S, r.low_S, r.high_S, strict=True)
    cells = ["rank (95 %)", *(f"{rank} ({low} to {high})" for rank, low, high in sets)]
    rows = [(*row[:2], cell, *row[2:]) for row, cell in zip(rows, cells, strict=True)]
  return rows


def _varied(sweep: Findings) -> str:
  if set(sweep.vary) == set(STREAMS):
    return "all streams"
  return ", ".join(sweep.vary) or "?"


def facts(pair: Pair) -> list[tuple[str, str]]:
  """Numbers beside the verdict; the interval that carries it is marked."""
  mark = " <- judges" if pair.settled != "unknown direction" else ""
  if pair.judged_by == "crossed":
    return [("difference, over new levels", _cell(pair, pair.judged) + mark)]
  listed = []
  if not pair.by_ranks:
    name = {"fixed": "as fixed beforehand", "route": "at this look", "looked": "looked at often"}
    label = f"difference, {pair.judged.method} {name[pair.judged_by]} {level_text(pair.judged)}"
    if math.isfinite(pair.judged.low):
      listed.append((label, _cell(pair, pair.judged) + _p(pair.p_value) + mark))
  left = ", of the runs that are left" * pair.by_ranks
  fixed = (f"difference, {pair.fixed.method} at fixed n {level_text(pair.fixed)}{left}",
           _cell(pair, pair.fixed) + _p(getattr(pair.fixed, "p_value", math.nan)))  # fmt: skip
  if pair.by_ranks or pair.judged_by != "fixed" or pair.judged.level != pair.fixed.level:
    listed.append(fixed)
  if pair.anytime and pair.judged_by != "looked" and not pair.by_ranks:
    name = f"difference, anytime t {level_text(pair.anytime)}"
    listed.append((name, _cell(pair, pair.anytime)))
  listed += _wins(pair, mark)
  listed += _collapsed(pair)
  detectable = _detectable(pair)
  if detectable:
    listed.append(("found 4 times in 5 with this many", detectable))
  if pair.rules.margin and not pair.by_ranks:
    name = f"equal within {pair.rules.margin:g} (two one-sided tests)"
    listed.append((name, words.p_text(pair.p_equal)))
  if pair.without_diverged:
    listed.append(("difference without diverged runs", _cell(pair, pair.without_diverged)))
  if not math.isnan(pair.diverged_p):
    shares = " against ".join(map(share_text, (pair.variant, pair.baseline)))
    listed.append(("diverged", f"{shares}{_p(pair.diverged_p)} (Fisher)"))
  return listed


def _collapsed(pair: Pair) -> list[tuple[str, str]]:
  """How many runs lie far from all others, and how many such there may be though none is seen."""
  seen = []
  for sweep in (pair.variant, pair.baseline):
    found = resolution.collapse(sweep.columns[-1].values, pair.rules.step)
    if not found.seen:
      return []
    rate, n = found.rate, len(found.collapsed_R)
    limits_text = f"up to {100 * rate.high:.2g} %" if not rate.low else (
      f"{100 * rate.low:.2g} to {100 * rate.high:.2g} %")  # fmt: skip
    seen.append(f"{found.collapsed_R.sum():,} of {n:,} of {sweep.name} ({limits_text})")
  return [("runs far from all others", ", ".join(seen))]


def _p(p_value: float) -> str:
  return "" if math.isnan(p_value) else f", {words.p_text(p_value)}"


def _wins(pair: Pair, mark: str) -> list[tuple[str, str]]:
  """How often the variant wins, and Bouthillier's rule on that."""
  name = f"P({pair.variant.name} {'better' if pair.baseline.better else 'higher'})"
  if pair.by_ranks and mark:
    b = pair.judged
    shown = "-" if math.isnan(b.estimate) else f"{b.estimate:.2f} ({b.low:.2f} to {b.high:.2f})"
    return [(f"{name}, worst case {level_text(b)}", shown + _p(pair.p_value) + mark)]
  b = pair.better
  if b is None or pair.by_ranks:
    return []
  listed = [(name, f"{b.estimate:.2f} ({b.low:.2f} to {b.high:.2f}), {b.method}")]
  rule = beside.bouthillier(turned(pair.two, pair.baseline.better), np.random.default_rng(0))
  if rule.pairs >= _FEW and pair.baseline.better:
    conclusion = rule.conclusion.replace("A is better", f"{pair.variant.name} is better")
    limits_text = f"{rule.low:.2f} to {rule.high:.2f}, meaningful above 0.75"
    name = f"Bouthillier's rule, no verdict, for {pair.variant.name}"
    listed.append((name, f"{conclusion} ({limits_text})"))
  return listed


def _detectable(pair: Pair) -> str:
  """The difference that the test which judges finds in four of five such comparisons.

  Its interval is that of the spread, which is estimated too.
  """
  latest = pair.looks[-1]
  if latest.kind not in ("fixed", "route") or latest.by_ranks:
    return ""
  found = comparison.mean_difference(latest.two, pair.rules.step, pair.rules.spread)
  if not math.isfinite(latest.interval(pair.level).low):
    return ""
  if math.isnan(found.error) or found.df < 2 or found.parts:
    return ""
  alpha = (1 - pair.level) * latest.weight
  size = found.error * planning.detectable_shift(found.df, alpha)
  unit, digits = pair.baseline.unit, scale(pair)
  shown = f"a difference of {words.number(pair.baseline, size, digits)}{unit}"
  if math.isinf(found.df):
    return shown
  low, high = (size * math.sqrt(found.df / scipy.stats.chi2.ppf(q, found.df)) for q in (0.9, 0.1))
  ends = [words.number(pair.baseline, end, digits) for end in (low, high)]
  return f"{shown} ({ends[0]} to {ends[1]}, as uncertain as the spread)"


def on_request(pair: Pair) -> list[tuple[str, str]]:
  """Other methods, for who wants them, without a verdict; drawn from fixed seeds."""
  if pair.judged_by == "crossed":
    return []
  two = turned(pair.two, pair.baseline.better)
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
    order = beside.almost_stochastic_order(two, np.random.default_rng(2))
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


def _cell(pair: Pair, interval: Interval) -> str:
  if not math.isfinite(interval.low):
    return f"{difference(pair, interval)} (no interval)"
  return f"{difference(pair, interval)} ({limits(pair, interval)})"


def markdown(found: Comparison) -> str:
  """A sentence for each variant and a table, ready for a paper."""
  over_tasks = [aggregate.markdown(found.aggregate)] if found.aggregate else []
  return "\n\n".join([markdown_form.document(*for_paper(found)), *over_tasks])


def latex(found: Comparison) -> str:
  """The same for LaTeX."""
  over_tasks = [aggregate.latex(found.aggregate)] if found.aggregate else []
  return "\n\n".join([latex_form.document(*for_paper(found)), *over_tasks])


def for_paper(found: Comparison) -> tuple[list[str], list[tuple[str, ...]]]:
  """A sentence for each variant, and the rows of a table, the head first."""
  head, *rows = _sweep_rows(found)
  deltas = {(pair.variant.name, pair.task): _delta(pair) for pair in found.pairs}
  table = [(*head, "difference (interval)")]
  for sweep, row in zip(found.sweeps, rows, strict=True):
    table.append((*row, deltas.get((sweep.name, sweep.task), "-")))
  return [_sentence(pair) for pair in found.pairs], table


def _delta(pair: Pair) -> str:
  return _cell(pair, pair.judged).replace("(", f"({level_text(pair.judged)}: ", 1)


def _sentence(pair: Pair) -> str:
  """The verdict without what would settle it, which is no matter of a paper."""
  later = outlook(pair)
  return " ".join(sentence for sentence in verdict(pair) if sentence not in later)


def json_values(found: Comparison) -> dict[str, Any]:
  """Everything as JSON values (docs/json.md); of the form that comparison.schema.json describes."""
  return {
    "schema": SCHEMA,
    "metric": found.metric,
    "unit": "%" if found.sweeps[0].percent else found.unit.strip() or None,
    "better": {1: "higher", -1: "lower", 0: None}[found.sweeps[0].better],
    "margin": found.margin,
    "sigma": found.rules.spread and found.rules.spread.sd,
    "config_differences": dict(found.differences),
    "sweeps": [_sweep_json(sweep) for sweep in found.sweeps],
    "ranks": found.ranks
    and {
      "rank": found.ranks.rank_S.tolist(),
      "low": found.ranks.low_S.tolist(),
      "high": found.ranks.high_S.tolist(),
    },
    "aggregate": aggregate.json_values(found.aggregate) if found.aggregate else None,
    "comparisons": [_pair_json(pair) for pair in found.pairs],
  }


def _sweep_json(sweep: Findings) -> dict[str, Any]:
  column = sweep.columns[0]
  s = column.summary
  return {
    "name": sweep.name,
    "task": sweep.task or None,
    "runs": s.n,
    "planned": sweep.planned,
    "diverged": sweep.diverged,
    "missing": sweep.missing,
    "failed": len(sweep.failures),
    "planned_n": sweep.planned_n,
    "varied": sweep.vary,
    **{key: _number(getattr(s, key)) for key in ("mean", "sd", "min", "median", "max")},
    "distribution_wise_sd": _number(column.sd),
  }


def _pair_json(pair: Pair) -> dict[str, Any]:
  return {
    "variant": pair.variant.name,
    "baseline": pair.baseline.name,
    "task": pair.task or None,
    "outcome": pair.settled,
    "judged_by": pair.judged_by,
    "by_ranks": pair.by_ranks,
    "paired": pair.two.paired,
    "runs": len(pair.two.a_R),
    "baseline_runs": len(pair.two.b_S),
    "p_value": _number(pair.p_value),
    "p_equal": _number(pair.p_equal) if pair.rules.margin else None,
    "level": _number(pair.level),
    "looks": [
      {"runs": len(look.two.a_R), "baseline_runs": len(look.two.b_S), "weight": look.weight}
      for look in pair.looks
    ],
    "judged": _interval_json(pair.judged) | {"of": "P(better)" if pair.by_ranks else "difference"},
    "fixed_n": _interval_json(pair.fixed)
    | {"p_value": _number(getattr(pair.fixed, "p_value", math.nan))},
    "anytime": _interval_json(pair.anytime) if pair.anytime else None,
    "probability_better": _interval_json(pair.better)
    if pair.better and pair.baseline.better and not pair.by_ranks
    else None,
    "without_diverged": _interval_json(pair.without_diverged) if pair.without_diverged else None,
    "diverged_p": _number(pair.diverged_p),
    "forecast": _forecast_json(pair),
    "sentence": " ".join(verdict(pair)),
    "notes": notes(pair),
  }


def _forecast_json(pair: Pair) -> dict[str, Any] | None:
  found = pair.forecast
  if found is None:
    return None
  return {
    "grows": pair.grows or None,
    "next_runs": found.next_runs,
    "probability": list(found.probability) if found.probability else None,
    "enough": list(found.enough) if found.enough else None,
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


def _fill(sentence: str, start: str = "") -> str:
  return textwrap.fill(sentence, 96, initial_indent=start, subsequent_indent=" " * len(start))
