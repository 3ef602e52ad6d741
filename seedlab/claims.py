"""Claims: what a study will conclude from which numbers, fixed before training.

A claim is data. Its hash goes into the manifest before the first run, so that a rule
changed afterwards shows (`record`, `changes`). Its outcome follows from intervals:

  shown              the interval lies inside the claim
  contradicted       the interval lies inside its complement
  open               neither: not significant never means equal, and never refuted
  not testable here  its precondition failed, or the scale judges nothing

A claim of several parts says that all of them hold (`judge`); the claims of a family
are corrected together (`judge_family`). A rule that was changed when an outcome was known keeps
what it was, and what came out, in the claim's history.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from seedlab.stats.single import Interval

Rule = Literal["lo > x", "hi < x", "within [a, b]", "p < alpha"]
Outcome = Literal["shown", "contradicted", "open", "not testable here"]
Evidence = Interval | float  # a float is a p-value, for the rule "p < alpha" alone

_MARGINS = {"lo > x": 1, "hi < x": 1, "within [a, b]": 2, "p < alpha": 0}


@dataclasses.dataclass(frozen=True)
class Part:
  """One condition: a rule for the limits lo and hi of the estimand's interval."""

  estimand: str  # in words, with unit and scope
  rule: Rule
  margin: tuple[float, ...] = ()  # x, or a and b

  def __post_init__(self):
    if self.rule not in _MARGINS:
      raise ValueError(f"rule={self.rule!r} is not known; rules: {', '.join(_MARGINS)}")
    if len(self.margin) != _MARGINS[self.rule] or not all(map(math.isfinite, self.margin)):
      raise ValueError(
        f"rule {self.rule!r} takes {_MARGINS[self.rule]} finite margins, not {self.margin}"
      )
    if self.rule == "within [a, b]" and self.margin[0] >= self.margin[1]:
      raise ValueError(f"margin={self.margin} must ascend")


@dataclasses.dataclass(frozen=True)
class Earlier:
  """A rule that a claim had before, and what it came to."""

  until: str  # the day of the change, such as "2026-11-25"
  rule: str  # in words
  outcome: str  # under it, with its numbers
  why: str  # it was changed


@dataclasses.dataclass(frozen=True)
class Claim:
  id: str  # such as "S1"
  sentence: str
  parts: tuple[Part, ...]  # all must hold
  precondition: str = ""  # in words; empty: none
  family: str = ""  # the study; its claims are corrected together
  history: tuple[Earlier, ...] = ()  # rules that were changed after an outcome was known

  def __post_init__(self):
    if not self.parts:
      raise ValueError(f"claim {self.id} has no parts")


@dataclasses.dataclass(frozen=True)
class Verdict:
  claim: Claim
  outcome: Outcome
  level: float  # of the intervals behind the outcome; nan where nothing was judged
  evidence: tuple[Evidence, ...]  # one a part, at that level
  reason: str = ""  # why it is not testable


def judge(
  evidence: Sequence[Evidence], claim: Claim, precondition_met: bool, level: float = 0.95
) -> Outcome:
  """The outcome of one claim, alone, from its parts' intervals or p-values.

    lo > x         shown if lo > x,              contradicted if hi <= x
    hi < x         shown if hi < x,              contradicted if lo >= x
    within [a, b]  shown if a <= lo and hi <= b, contradicted if hi < a or b < lo
    p < alpha      shown if p < 1 - level,       never contradicted

  All parts shown: shown (an intersection-union test, Berger 1982: no correction for the
  number of parts). One contradicted: contradicted. Limits that are nan settle nothing.
  """
  if not precondition_met:
    return "not testable here"
  if len(evidence) != len(claim.parts):
    raise ValueError(f"claim {claim.id} needs {len(claim.parts)} intervals, not {len(evidence)}")
  outcomes = [
    _judge_part(item, part, level) for item, part in zip(evidence, claim.parts, strict=True)
  ]
  if "contradicted" in outcomes:
    return "contradicted"
  return "open" if "open" in outcomes else "shown"


def _judge_part(evidence: Evidence, part: Part, level: float) -> Outcome:
  if isinstance(evidence, Interval) == (part.rule == "p < alpha"):
    wanted = "a p-value" if part.rule == "p < alpha" else "an interval"
    raise ValueError(f"the rule {part.rule!r} takes {wanted}, not {evidence!r}")
  if not isinstance(evidence, Interval):
    return "shown" if evidence < 1 - level else "open"
  low, high = evidence.low, evidence.high
  match part.rule, part.margin:
    case "lo > x", (x,):
      inside, outside = low > x, high <= x
    case "hi < x", (x,):
      inside, outside = high < x, low >= x
    case "within [a, b]", (a, b):
      inside, outside = a <= low and high <= b, high < a or b < low
  if math.isnan(low) or math.isnan(high):
    return "open"
  return "shown" if inside else "contradicted" if outside else "open"


def judge_family(
  claims: Sequence[Claim],
  evidence: Mapping[str, Callable[[float], Sequence[Evidence]]],
  preconditions: Mapping[str, bool],
  scale: str,
  alpha: float = 0.05,
) -> list[Verdict]:
  """Verdicts on a family of claims by Holm's step-down, with intervals at adjusted levels.

  With `left` claims not yet settled, all are judged by intervals of level 1 - alpha / left;
  if that settles any, those that are left get another turn, at the level that fewer claims
  allow. (Holm 1979, with the p-value of a claim the smallest alpha at which its interval
  settles it.) It is run twice, once for "shown" and once for "contradicted": in each only
  one tail of an interval can err, so that the chance of one or more false "shown" in the
  family is at most alpha / 2, and of one or more false "contradicted" too, whatever the
  claims' dependence. One run for both directions would not have that guarantee. (A p-value
  counts with its whole alpha; so does a contradicted "within" where [a, b] is narrower than
  the interval.) A claim of k parts is contradicted by its parts' intervals at
  1 - alpha / (left k). Claims whose precondition failed still count among those left.

  A verdict carries the intervals at the level that settled it, so that the page shows
  numbers from which the outcome can be read; an open claim's are those of its last turn.

  Args:
    evidence: claim id -> function of a level that gives one interval (or p-value) a part.
      Its intervals must be nested: a higher level, a wider interval.
    preconditions: claim id -> whether it is met; a claim without precondition needs none.
    scale: at "smoke" nothing is judged.
  """
  _check_ids(claims)
  families = {claim.family for claim in claims}
  if len(families) > 1:
    raise ValueError(f"one family is judged at a time, not {sorted(families)}")
  if scale == "smoke":
    return [_untestable(claim, "smoke scale judges nothing") for claim in claims]
  failed = [c for c in claims if c.precondition and not preconditions[c.id]]
  shown = _step_down(claims, failed, evidence, "shown", alpha)
  contradicted = _step_down(claims, failed, evidence, "contradicted", alpha)
  return [
    _untestable(claim, f"precondition failed: {claim.precondition}")
    if claim in failed
    else contradicted[claim.id]
    if contradicted[claim.id].outcome == "contradicted"
    else shown[claim.id]
    for claim in claims
  ]


def _step_down(claims, failed, evidence, direction: Outcome, alpha: float) -> dict[str, Verdict]:
  """Verdicts "open" or `direction` by claim id, of the claims that are testable."""
  verdicts: dict[str, Verdict] = {}
  left = list(claims)
  while left:
    for claim in left:
      if claim not in failed:
        parts = len(claim.parts) if direction == "contradicted" else 1
        level = 1 - alpha / (len(left) * parts)
        items = tuple(evidence[claim.id](level))
        outcome = judge(items, claim, True, level)
        verdicts[claim.id] = Verdict(
          claim, outcome if outcome == direction else "open", level, items
        )
    still = [c for c in left if c in failed or verdicts[c.id].outcome == "open"]
    if len(still) == len(left):
      break
    left = still
  return verdicts


def _untestable(claim: Claim, reason: str) -> Verdict:
  return Verdict(claim, "not testable here", math.nan, (), reason)


def claim_hash(claim: Claim) -> str:
  """SHA-256 of the claim as canonical JSON: sorted names, no blanks, numbers as floats."""
  return _hash(_to_json(claim))


def record(claims: Sequence[Claim]) -> list[dict[str, Any]]:
  """What goes into the manifest before training: each claim as JSON values, with its hash."""
  _check_ids(claims)
  return [{**_to_json(claim), "hash": claim_hash(claim)} for claim in claims]


def changes(recorded: Iterable[Mapping[str, Any]], claims: Sequence[Claim]) -> dict[str, str]:
  """Claim id -> what changed since training, in words; empty where nothing did.

  A record whose own hash does not fit was edited after it was written.
  """
  _check_ids(claims)
  before = {entry["id"]: dict(entry) for entry in recorded}
  now = {claim.id: _to_json(claim) for claim in claims}
  found = {}
  for name, entry in before.items():
    stored_hash = entry.pop("hash")
    if _hash(entry) != stored_hash:
      found[name] = "its record was edited after training began"
    elif name not in now:
      found[name] = "was dropped since training"
    elif entry != now[name]:
      fields = [field for field in now[name] if entry.get(field) != now[name][field]]
      found[name] = f"changed since training: {', '.join(fields)}"
  return found | {name: "was added since training" for name in now if name not in before}


def _to_json(claim: Claim) -> dict[str, Any]:
  """What a rule is, without what it was before: a history that grows changes no claim."""
  values = dataclasses.asdict(claim)
  del values["history"]
  for part in values["parts"]:
    part["margin"] = [float(x) for x in part["margin"]]
  values["parts"] = list(values["parts"])
  return values


def _hash(values: Mapping[str, Any]) -> str:
  text = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
  return hashlib.sha256(text.encode()).hexdigest()


def _check_ids(claims: Sequence[Claim]) -> None:
  ids = [claim.id for claim in claims]
  if len(set(ids)) < len(ids):
    raise ValueError(f"claim {next(i for i in ids if ids.count(i) > 1)} occurs more than once")
