"""What is decided before training: the plan, a rule that stops, claims.

The plan is the number of runs at which a sweep is judged first: those of the call that made it,
unless another number is asked for. Extending a sweep never changes it; more runs are looked at when
their number has doubled (`stats.route`). A rule that looks at the results has no plan.
"""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from seedlab import errors, records
from seedlab.config import Seeds
from seedlab.errors import UserError
from seedlab.progress import say

LOOK = 10  # runs of a task that a stopping rule waits for; its looks are as far apart


class Rule(NamedTuple):
  """When to stop, in the user's words and parsed."""

  text: str
  parsed: Any  # a stats.sequential.StopRule: scipy takes a second to import, so only rules do


class Plans(NamedTuple):
  """What is fixed before training and kept in the manifest."""

  planned_n: int | None  # asked for in place of the runs of the first call
  rule: Rule | None
  claims: list[dict[str, Any]]


def plans_of(planned_n, stop, max_runs, runs, seeds: Seeds, claims) -> Plans:
  """Checked; raises UserError for what does not go together."""
  if stop is None:
    if max_runs is not None:
      raise UserError(f"max_runs={max_runs} is for stop; say how many with runs")
    if planned_n is not None and errors.whole("planned_n", planned_n) < 2:
      raise UserError(f"planned_n={planned_n} must be at least 2")
    return Plans(planned_n, None, list(claims))
  from seedlab.stats import sequential

  if planned_n is not None:
    raise UserError(
      f"planned_n={planned_n} and stop={stop!r} exclude each other: a rule that looks at the"
      " results has no planned number"
    )
  if runs is not None or max_runs is None:
    raise UserError(f"stop={stop!r} decides how many runs; give max_runs instead of runs")
  if seeds.design == "crossed":
    raise UserError(f"stop={stop!r} needs independent runs, not a crossed design")
  if errors.whole("max_runs", max_runs) < sequential.BURN_IN:
    raise UserError(
      f"max_runs={max_runs} is less than the {sequential.BURN_IN} runs before the first look"
    )
  return Plans(None, Rule(stop, sequential.parse_rule(stop)), list(claims))


def recorded(plans: Plans, runs: int) -> int | None:
  """The plan of a new sweep whose first call has so many runs; None with a rule."""
  return None if plans.rule else plans.planned_n or runs


def say_looks(planned: int | None, runs: int, quiet: bool) -> None:
  """Says at how many runs a sweep that will hold `runs` is judged; nothing without a plan."""
  if planned is None:
    return
  look = first = max(planned, 2)  # one run has no spread to judge by
  while look <= runs:
    look *= 2
  if runs < first:
    said = f"the first look is at {errors.counted(first, 'run')}"
  elif runs == planned:
    said = f"this is the plan, at which the sweep is judged first; the next look is at {look:,}"
  else:
    said = f"planned were {planned:,}; the last look is at {look // 2:,}, the next at {look:,}"
  say(quiet, f"{errors.counted(runs, 'run')}: {said}")


def check_plans(plans: Plans, known: Mapping[str, Any], out, quiet: bool) -> None:
  """Refuses another planned number once runs exist; says which claims changed."""
  recorded = known.get("planned_n")
  if plans.planned_n is not None and plans.planned_n != recorded:
    raise UserError(
      f"planned_n={plans.planned_n}: out={os.fspath(out)!r} was begun with planned_n={recorded};"
      " what was planned cannot be recorded afterwards"
    )
  hashes = {claim["id"]: claim["hash"] for claim in known.get("claims") or []}
  changed = [claim["id"] for claim in plans.claims if hashes.get(claim["id"]) != claim["hash"]]
  if changed:
    say(
      quiet,
      f"claims {', '.join(changed)} are not as they were before training; the store keeps those",
    )


def check_metric(rule: Rule | None, facts: Mapping[str, Any]) -> None:
  if rule is None:
    return
  names = [name for name, (dims, *_) in facts["outcome"].items() if set(dims) <= {"evaluation"}]
  if rule.parsed.metric not in names:
    raise errors.choice_error("stop's metric", rule.parsed.metric, names)


def already_stopped(writer: records.Writer, rule: Rule, quiet: bool) -> bool:
  """Whether the runs in the store meet the rule; drops what was made ready but never trained."""
  stopped = stopping_run(writer, rule)
  if stopped is None:
    return False
  if not writer.completed[stopped:].any() and stopped < len(writer.runs):
    writer.truncate(stopped)
  runs = errors.counted(stopped, "run")
  say(quiet, f"{writer.path}: {rule.text} after {runs}; nothing left to train")
  return True


def stopping_run(writer: records.Writer, rule: Rule) -> int | None:
  """After how many runs the rule is met, by the runs before the first one that is missing."""
  from seedlab import findings
  from seedlab.stats import sequential

  name = rule.parsed.metric
  if name not in writer.attributes["metrics"]:
    raise errors.choice_error("stop's metric", name, writer.attributes["metrics"])
  if not np.array_equal(writer.runs, np.arange(len(writer.runs))):
    raise UserError(
      f"stop={rule.text!r} needs the runs 0, 1, 2, ... in order, which out={str(writer.path)!r}"
      " does not hold; choose another directory"
    )
  values = writer.metric(name)
  chance = findings.chance_level(name, writer.classes())
  diverged = ~np.isfinite(values) & writer.completed
  if chance is not None:
    values = np.where(diverged, chance, values)
  counted = np.flatnonzero(~writer.failed)  # a run that failed has no value, and is left out
  try:
    met = sequential.stopping_run(
      values[counted], rule.parsed, writer.completed[counted], every=LOOK
    )
  except ValueError:
    raise UserError(
      f"stop={rule.text!r}: run {np.argmax(diverged)} diverged, and what that counts for is not"
      f" known for {name}; choose an accuracy"
    ) from None
  return None if met is None else int(counted[met - 1]) + 1


def to_looks(rows: np.ndarray, failed: int = 0) -> list[np.ndarray]:
  """`rows`, ascending, cut after 10, 20, 30, ... runs that did not fail.

  Args:
    failed: how many before them did.
  """
  return np.split(rows, np.flatnonzero(np.diff((rows - failed) // LOOK)) + 1)
