"""An audit of a published table in words: text for a terminal, Markdown, JSON values."""

import math
import textwrap
from typing import Any

from seedlab import console
from seedlab.audits import ALPHA, Audit, Benchmark
from seedlab.errors import counted
from seedlab.printed import KINDS
from seedlab.report import markdown as forms
from seedlab.stats.published import (
  FEWEST_METHODS,
  FORECAST_LEVEL,
  MOST_SEEDS,
  Examples,
  Seeds,
)
from seedlab.stats.single import Interval

_HEAD = ("benchmark", "bold", "over", "lead (95 %)", "p (Holm)", "verdict", "beats it again",
         "best again", "by luck", "seeds a side")  # fmt: skip
_VERDICTS = {"best": "best", "open": "open", "behind": "not the best mean", "none": "no verdict"}
SCHEMA = 1  # of the JSON; another number where a field changes or goes
_SLIGHT = 0.1  # a change of p below it, relative, is not worth a word
_TWO_SIDED = 1.96  # standard errors
CANNOT = (
  "Pairing: methods that share their seeds could be told apart by fewer of them; a table does not"
  " say it, so runs were taken as independent.",
  "Distributions: the tests take means as normal. Whether runs are skewed, or a few of them"
  " collapsed, a mean and a spread do not show.",
  "Left out: seeds, methods or benchmarks that were tried and not printed, and how much each"
  " method was tuned, would change every number here.",
  "What varied: whether the spread is over seeds, and not over checkpoints, folds or evaluations"
  " of one run, the table alone cannot tell.",
  "One test set: fresh seeds are answered for; other examples or another benchmark are not.",
)


def text(found: Audit) -> str:
  """One screen: how the table was read, a row a benchmark, sentences, and what cannot be said."""
  rows = [_HEAD, *(_row(one) for one in found.benchmarks)]
  keep = [at for at in range(len(_HEAD)) if any(row[at] not in ("", "-") for row in rows[1:])]
  table = [console.aligned([[row[at] for at in keep] for row in rows])]
  notes = [_fill(note, "- ") for note in _notes(found)]
  parts = [
    [_fill(sentence) for sentence in _read(found)],
    [_fill(headline(found))],
    table,
    notes,
    ["What this table cannot say", *(_fill(sentence, "- ") for sentence in CANNOT)],
  ]
  return "\n\n".join("\n".join(part) for part in parts if part)


def markdown(found: Audit) -> str:
  """The same in Markdown: what was read, the rows as a table, the rest as a list."""
  rows = [_HEAD, *(_row(one) for one in found.benchmarks)]
  table = forms.document([" ".join(_read(found)), headline(found)], rows)
  notes = [f"* {forms.escaped(note)}" for note in (*_notes(found), *CANNOT)]
  return "\n\n".join([table, "\n".join(notes)])


def _read(found: Audit) -> list[str]:
  """How the table was read: layout, columns, and what spread, seeds, direction and bold are."""
  spread = " and ".join(KINDS[kind] for kind in found.kinds) or "none is printed"
  counts = sorted({n for n in found.seeds if n is not None})
  seeds = " to ".join(f"{n:,}" for n in sorted({counts[0], counts[-1]})) if counts else "unknown"
  ways = {one.better for one in found.benchmarks}
  if len(ways) == 1:
    way = f"{ways.pop()} is better"
  else:
    way = "better is " + ", ".join(f"{one.better} on {_name(one)}" for one in found.benchmarks)
  inside = [one for one in found.benchmarks if one.percent]
  percent = ", shares in percent" if inside else ""
  if inside and len(inside) < len(found.benchmarks):
    percent = f"; in percent: {', '.join(map(_name, inside))}"
  marked = {one.marked for one in found.benchmarks}
  bold = "bold is what the table marks" if marked == {True} else "bold is the best mean"
  if len(marked) == 2:
    bold = "bold is what the table marks, and the best mean where it marks nothing"
  return [
    *found.reading,
    f"Spread: {spread}; seeds behind a mean: {seeds}; {way}{percent}; {bold}.",
  ]


def headline(found: Audit) -> str:
  """How many bold entries are shown to be the best, and how many would win again."""
  best = sum(one.verdict == "best" for one in found.benchmarks)
  if not found.family:
    return "No bold entry can be judged; why is said below."
  entries = "1 bold entry" if found.family == 1 else f"{found.family} bold entries"
  holm = f" ({100 * ALPHA:g} % for all together, by Holm's correction)" * (found.family > 1)
  said = f"Of {entries} that can be judged, {best} {_are(best)} shown to be the"
  said += f" best of those compared{holm}."
  again = [one.replication.again for one in found.benchmarks if one.replication]
  if len(again) > 1:
    said += (
      f" Of the {len(again)} among {FEWEST_METHODS} methods or more, {sum(again):.1f} are expected"
      " to beat their runner-up again with as many new seeds."
    )
  return said


def _row(one: Benchmark) -> tuple[str, ...]:
  over = one.runner_up.method if one.runner_up else "-"
  again = best = luck = "-"
  if one.replication:
    again, best = _share(one.replication.again), _share(one.replication.best)
  if one.luck and one.lead:
    expected = number(one.luck.expected, _scale(one))
    luck = f"{expected} ({_p_equals(one.luck.p_value)})"
  return (
    _name(one), one.winner.method, over, _lead(one), _p(one.p_holm), _outcome(one),
    again, best, luck, _seeds_cell(one),
  )  # fmt: skip


def _outcome(one: Benchmark) -> str:
  return _VERDICTS[one.verdict] + ", with --sigma" * (one.assumed and one.verdict != "none")


def _name(one: Benchmark) -> str:
  return one.name or "(all rows)"


def _lead(one: Benchmark) -> str:
  if one.lead is None:
    if one.runner_up is None:
      return "-"
    sign = 1 if one.better == "higher" else -1
    lead = sign * (one.winner.mean - one.runner_up.mean)
    return f"{number(lead, 10 * max(one.winner.step, one.runner_up.step))} (no interval)"
  low, estimate, high = (number(value, _scale(one)) for value in _limits(one.lead.interval))
  return f"{estimate} ({low} to {high})"


def _limits(interval: Interval) -> tuple[float, float, float]:
  return interval.low, interval.estimate, interval.high


def _scale(one: Benchmark) -> float:
  """What sets the digits: the lead's standard error, for at most one digit more than printed."""
  return max(one.lead.error if one.lead else 0.0, one.winner.step)


def _seeds_cell(one: Benchmark) -> str:
  if one.verdict == "best":
    return "shown"
  if one.seeds is None or math.isnan(one.seeds.low):
    return "-"
  low = f"{one.seeds.low:,.0f}" if math.isfinite(one.seeds.low) else "?"
  if not math.isfinite(one.seeds.estimate):
    return "cannot be said"
  high = f"{one.seeds.high:,.0f}" if math.isfinite(one.seeds.high) else "no limit"
  return f"{one.seeds.estimate:,.0f} ({low} to {high})"


def _notes(found: Audit) -> list[str]:
  """A paragraph for each benchmark, then those on the whole table."""
  notes = []
  for one in found.benchmarks:
    sentences = [*_verdict(one), *_by_luck(one), *_settle(one), *one.why, *_other_examples(one)]
    notes.append(f"{_name(one)}: {' '.join(sentences)}")
  few = [one for one in found.benchmarks if one.lead and not one.replication]
  if few:
    notes.append(
      "No chance of replication is given for fewer than"
      f" {FEWEST_METHODS} methods with a spread: {', '.join(_name(one) for one in few)}."
    )
  if found.if_sem is not None:
    best = sum(one.verdict == "best" for one in found.benchmarks)
    if best:
      instead = f"{found.if_sem} instead of {best}" if found.if_sem < best else f"still {best}"
      notes.append(
        "The spreads were read as standard deviations over seeds. If they are standard errors,"
        f" {instead} of the bold entries {_are(best)} shown to be the best."
      )
  if "ci95" in found.kinds:
    notes.append(
      "Half-widths were divided by 1.96. If they come from Student's t, standard deviations are"
      " smaller than assumed here, and p-values too large."
    )
  return notes


def _verdict(one: Benchmark) -> list[str]:
  if one.lead is None:
    return []
  unit, bold = _unit(one), one.winner.method
  lead, others = one.lead, one.judged - len(one.bold)
  low, estimate, high = (number(value, _scale(one)) for value in _limits(lead.interval))
  size = f"{estimate.lstrip('-')}{unit}"
  over = one.runner_up.method if one.runner_up else ""
  said = []
  corrected = ", corrected" if one.p_holm > one.p_value else ""
  if len(one.bold) > 1:
    mark = "are bold" if one.marked else "share the best printed mean"
    said.append(f"{' and '.join(one.bold)} {mark}; judged is {bold} against those that are not.")
  if one.verdict == "behind":
    return [*said, f"{bold} is bold, but {over} has the better mean, by {size}."]
  said.append(
    f"{bold} leads {over} by {size} ({low} to {high}, {lead.interval.method},"
    f" {_p_rounded(lead.p_value, lead.as_printed_p)})."
  )
  if lead.p_value == 1 and lead.as_printed_p < 1:
    exact = [number(value, _scale(one)) for value in _limits(lead.as_printed)]
    said.append(
      "The rounding of the printed numbers alone can make such a lead, hence p = 1; without it the"
      f" interval would be {exact[0]} to {exact[2]}."
    )
  if one.verdict == "best":
    whom = f"the {others} others" if others > 1 else over
    said.append(f"It is shown to be better than {whom} ({_p_equals(one.p_holm)}{corrected}).")
  elif one.hardest != over:
    said.append(
      f"Least sure is its lead over {one.hardest} ({_p_rounded(one.p_value, one.as_printed_p)}), on"
      " which the verdict rests: open."
    )
  else:
    cause = "seeds"
    if lead.p_value == 1 and lead.interval.estimate > 0:
      cause = "rounding or seeds" if lead.as_printed_p > ALPHA else "rounding"
    said.append(f"That is open: {cause} alone may have made it.")
  return said


def _by_luck(one: Benchmark) -> list[str]:
  if one.luck is None or one.lead is None:
    return []
  expected = number(one.luck.expected, _scale(one))
  everyone = "both" if one.judged == 2 else f"all {one.judged}"
  said = (
    f"Were {everyone} equal, the best would lead by {expected}{_unit(one)} on average, and"
    f" by as much as printed in {_share(one.luck.p_value)} of such tables."
  )
  found = [said]
  if one.replication:
    found.append(
      f"With as many new seeds it would beat {one.runner_up.method if one.runner_up else ''} again"
      f" with a chance of {_share(one.replication.again)}, and be the best again with"
      f" {_share(one.replication.best)}."
    )
  return found


def _other_examples(one: Benchmark) -> list[str]:
  error = one.examples
  if error is None or one.runner_up is None:
    return []
  lead = abs(one.winner.mean - one.runner_up.mean)
  where = "inside" if lead < _TWO_SIDED * error.independent else "outside"
  same, independent = (
    number(_TWO_SIDED * value, max(value, one.winner.step))
    for value in (error.same, error.independent)
  )
  return [
    f"On {one.winner.test_size:,} other test examples the lead may change by ±{independent}"
    f"{_unit(one)} (95 %) if the two methods err independently, by ±{same} if they err on the same"
    f" examples wherever they can; the table does not tell. It lies {where} the first."
  ]


def _settle(one: Benchmark) -> list[str]:
  """Seeds for a new comparison of the bold entry with the one it is least surely ahead of."""
  seeds = one.seeds
  if one.verdict != "open" or seeds is None or math.isnan(seeds.low):
    return []
  if not math.isfinite(seeds.low):
    return [f"It cannot be settled: {MOST_SEEDS:,} new seeds a side would hardly do."]
  least = counted(int(seeds.low), "new seed")
  if not math.isfinite(seeds.estimate):
    return [f"It cannot be said how many seeds would settle it: {least} a side at least, and no"
            " number if the lead is nothing."]  # fmt: skip
  said = (
    f"If it is as printed, {counted(int(seeds.estimate), 'new seed')} a side would settle it with a"
    " chance of 80 % (80 % interval: "
  )
  if math.isfinite(seeds.high):
    return [f"{said}{int(seeds.low):,} to {int(seeds.high):,})."]
  return [f"{said}{int(seeds.low):,} to no limit, since the lead may be nothing)."]


def _unit(one: Benchmark) -> str:
  return " points" if one.percent else ""


def number(value: float, scale: float) -> str:
  """To the second significant digit of `scale`, an uncertainty."""
  if not (math.isfinite(scale) and scale > 0):
    return f"{value:.4g}"
  decimals = max(0, 1 - math.floor(math.log10(scale)))
  return f"{value:,.{decimals}f}" if decimals < 9 else f"{value:.3g}"


def _p(value: float) -> str:
  return "-" if math.isnan(value) else f"{value:.2g}" if value >= 1e-4 else "< 0.0001"


def _p_equals(value: float) -> str:
  return f"p = {_p(value)}" if value >= 1e-4 else f"p {_p(value)}"


def _p_rounded(value: float, as_printed: float) -> str:
  """With the p-value that the printed numbers have if they are not rounded, where it is another."""
  alike = abs(value - as_printed) <= _SLIGHT * value and (value > ALPHA) == (as_printed > ALPHA)
  if math.isnan(as_printed) or alike or _p(value) == _p(as_printed):
    return _p_equals(value)
  without = _p_equals(as_printed)
  return f"{without} without, {_p(value)} with the rounding of the printed numbers"


def _are(number: int) -> str:
  return "is" if number == 1 else "are"


def _share(value: float) -> str:
  if 0.005 <= value < 0.995:
    return f"{100 * value:.0f} %"
  return "over 99 %" if value > 0.5 else "under 1 %"


def _fill(sentence: str, start: str = "") -> str:
  return textwrap.fill(sentence, 96, initial_indent=start, subsequent_indent=" " * len(start))


def json_values(found: Audit) -> dict[str, Any]:
  """Everything as JSON values (docs/json.md)."""
  return {
    "schema": SCHEMA,
    "reading": found.reading,
    "spread": list(found.kinds),
    "sigma": found.sigma,
    "alpha": ALPHA,
    "family": found.family,
    "shown": sum(one.verdict == "best" for one in found.benchmarks),
    "shown_if_sds_are_standard_errors": found.if_sem,
    "benchmarks": [_benchmark_json(one) for one in found.benchmarks],
    "cannot_be_said": list(CANNOT),
  }


def _benchmark_json(one: Benchmark) -> dict[str, Any]:
  luck, again, lead = one.luck, one.replication, one.lead
  return {
    "benchmark": one.name,
    "better": one.better,
    "unit": "points" if one.percent else None,
    "bold": one.bold,
    "marked": one.marked,
    "judged_entry": one.winner.method,
    "runner_up": one.runner_up.method if one.runner_up else None,
    "methods": one.methods,
    "methods_judged": one.judged,
    "verdict": one.verdict,
    "rests_on_sigma": one.assumed,
    "lead": _interval_json(lead.interval) if lead else None,
    "lead_p": _finite(lead.p_value) if lead else None,
    "lead_as_printed": _interval_json(lead.as_printed) if lead else None,
    "lead_p_as_printed": _finite(lead.as_printed_p) if lead else None,
    "hardest": one.hardest or None,
    "p": _finite(one.p_value),
    "p_as_printed": _finite(one.as_printed_p),
    "p_holm": _finite(one.p_holm),
    "by_luck": luck and {"expected_lead": luck.expected, "p": luck.p_value},
    "replication": again and {
      "beats_runner_up_again": again.again,
      "best_again": again.best,
      "naive": again.naive,
      "between_methods_sd": again.between_sd,
    },
    "seeds_a_side": _seeds_json(one.seeds),
    "lead_standard_error_on_other_examples": _examples_json(one.examples),
    "notes": one.why,
  }  # fmt: skip


def _interval_json(interval: Interval) -> dict[str, Any]:
  return {
    "estimate": interval.estimate,
    "low": _finite(interval.low),
    "high": _finite(interval.high),
    "level": interval.level,
    "method": interval.method,
  }


def _seeds_json(seeds: Seeds | None) -> dict[str, Any] | None:
  if seeds is None:
    return None
  return {
    "estimate": _finite(seeds.estimate),
    "low": _finite(seeds.low),
    "high": _finite(seeds.high),
    "level": FORECAST_LEVEL,
  }


def _examples_json(error: Examples | None) -> dict[str, float] | None:
  if error is None:
    return None
  return {"same": error.same, "independent": error.independent, "opposed": error.opposed}


def _finite(value: float) -> float | None:
  return value if math.isfinite(value) else None
