"""What a study says: the outcome of each claim, and its tables, as a page and for the terminal."""

import itertools
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from bokeh.models.layouts import LayoutDOM

from seedlab import console
from seedlab.claims import Claim, Evidence, Verdict
from seedlab.report.markup import escape, figures, page, plain_table, section
from seedlab.stats.single import Interval

_RULES = (
  "A rule speaks of the interval in bold. Its level is as high as it takes for all claims to hold"
  " together (Holm), so that it is wider than the 95 % interval of the same number in a table; a"
  " p-value has to meet that level too. A claim is open where the interval decides neither way."
)


class Table(NamedTuple):
  """A table of text on a page: title, header, rows, and what must be said about it."""

  title: str
  head: Sequence[str]
  rows: Sequence[Sequence[str]]
  note: str = ""


def study_page(
  title: str,
  headline: str,
  lead: Sequence[str],
  verdicts: Sequence[Verdict],
  changed: Mapping[str, str],
  tables: Sequence[Table],
  drawn: Mapping[str, tuple[LayoutDOM, str, str]],
  origin: str = "",
) -> str:
  """The page about a study.

  Args:
    verdicts: of its claims, in order.
    changed: claim id -> what changed since training (`claims.changes`).
    tables: below the claims.
    drawn: id -> (model, alternative text, caption).
    origin: where and when what is on it was trained, in a sentence.
  """
  head = ("", "claim", "rule, and what was found", "outcome")
  rows = "\n".join(_verdict_row(verdict, changed) for verdict in verdicts)
  names = "".join(f"<th scope=col>{escape(cell)}" for cell in head)
  claims_table = (
    f'<div class="card scroll"><table class="left claims"><thead><tr>{names}</thead><tbody>'
    f"{rows}</table></div>"
  )
  body = [
    section("", figures(drawn), "figures"),
    section("Claims", f"{claims_table}<p>{_RULES}</p>" if verdicts else ""),
    *(
      section(
        table.title,
        plain_table(table.head, table.rows) + f"<p>{escape(table.note)}</p>" * bool(table.note),
      )
      for table in tables
      if table.rows
    ),
    f'<p class="kind">{escape(origin)}</p>\n' * bool(origin),
  ]
  return page(title, headline, lead, body, drawn, {})


def _verdict_row(verdict: Verdict, changed: Mapping[str, str]) -> str:
  claim = verdict.claim
  parts = "".join(
    f"<p>{escape(part.estimand)}: {escape(rule_text(part.rule, part.margin))}"
    + ("" if item is None else f"<br><b>{escape(evidence_text(item))}</b>")
    for part, item in itertools.zip_longest(claim.parts, verdict.evidence)
  )
  reason = f"<p>{escape(verdict.reason)}</p>" * bool(verdict.reason)
  warning = ""
  if claim.id in changed:
    warning = f'<p class="warn">{escape(changed[claim.id])}</p>'
  warning += "".join(f'<p class="warn">{escape(line)}</p>' for line in history_lines(claim))
  kind = verdict.outcome.split()[0]
  return (
    f"<tr><td>{escape(claim.id)}<td>{escape(claim.sentence)}{warning}<td>{parts}"
    f'<td><span class="outcome {kind}">{escape(verdict.outcome)}</span>'
    f"{reason}"
  )


def history_lines(claim: Claim) -> list[str]:
  """A sentence or two for each rule that a claim had before."""
  return [
    f"This rule was not fixed before training: it was changed on {one.until}, when an outcome was"
    f" known. Until then it was: {one.rule}. Outcome under that rule: {one.outcome}. Why it was"
    f" changed: {one.why}."
    for one in claim.history
  ]


def evidence_text(item: Evidence) -> str:
  """An interval with its level, or a p-value."""
  if not isinstance(item, Interval):
    return f"p = {item:.2g}"
  if math.isnan(item.low):
    return f"{item.estimate:.3g} (no interval)"
  return f"{item.estimate:.3g} ({100 * item.level:.4g} %: {item.low:.3g} to {item.high:.3g})"


def interval_text(interval: Interval, shown: str = ".2f", scale: float = 1.0) -> str:
  """An estimate with its limits for a cell of a table, as in "1.20 (1.05 to 1.35)".

  Args:
    shown: the format of the estimate; limits have it without a sign of their own.
    scale: what the numbers are multiplied by, such as 100 for points.
  """
  if math.isnan(interval.estimate):
    return "-"
  estimate = f"{scale * interval.estimate:{shown}}"
  low, high = (f"{scale * x:{shown.lstrip('+')}}" for x in (interval.low, interval.high))
  return estimate if math.isnan(interval.low) else f"{estimate} ({low} to {high})"


def rule_text(rule: str, margin: Sequence[float]) -> str:
  """A rule in words, such as "the whole interval must lie above 0"."""
  shown = [f"{value:g}" for value in margin]
  match rule:
    case "lo > x":
      return f"the whole interval must lie above {shown[0]}"
    case "hi < x":
      return f"the whole interval must lie below {shown[0]}"
    case "within [a, b]":
      return f"the whole interval must lie between {shown[0]} and {shown[1]}"
  return "the p-value must lie below one less the level"


def study_text(
  verdicts: Sequence[Verdict], changed: Mapping[str, str], tables: Sequence[Table]
) -> str:
  """The tables of a study and the outcome of each claim, for a terminal."""
  parts = []
  for table in tables:
    if not table.rows:
      continue
    lines = console.aligned([table.head, *table.rows])
    parts.append(
      "\n".join([table.title, lines, *[textwrap.fill(table.note, 90)] * bool(table.note)])
    )
  lines = []
  for verdict in verdicts:
    claim = verdict.claim
    reason = f" ({verdict.reason})" * bool(verdict.reason)
    lines.append(f"{claim.id}  {verdict.outcome}{reason}: {claim.sentence}")
    for part, item in itertools.zip_longest(claim.parts, verdict.evidence):
      found = "nothing" if item is None else evidence_text(item)
      lines.append(f"    {part.estimand}: {rule_text(part.rule, part.margin)}; found {found}")
    if claim.id in changed:
      lines.append(f"    {changed[claim.id]}")
    lines += [f"    {line}" for line in history_lines(claim)]
  return "\n\n".join([*parts, "\n".join(lines)])
