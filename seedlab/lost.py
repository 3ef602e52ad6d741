"""Variants of a table of which no run has a value, told apart so that the others can be judged."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy.stats

from seedlab import tables
from seedlab.errors import counted
from seedlab.findings import Findings
from seedlab.tables import Table


@dataclasses.dataclass(frozen=True)
class Lost:
  """A variant (on a task) whose runs all diverged or are missing."""

  name: str  # "" where neither a column nor a file names it
  task: str
  source: int  # its place among the sources
  place: int  # how many variants to be judged come before it
  diverged: int
  missing: int

  @property
  def all_diverged(self) -> bool:
    return not self.missing

  @property
  def runs(self) -> int:
    return self.diverged + self.missing

  @property
  def words(self) -> str:
    """`all 3 runs of B diverged`, or how many are missing."""
    of = f"of {self.name}{f' on {self.task}' * bool(self.task)}"
    if self.all_diverged:
      return f"all {counted(self.runs, 'run')} {of} diverged" if self.runs > 1 else (
        f"the only run {of} diverged"
      )
    rest = f", and {self.diverged} diverged" * (self.diverged > 0)
    are = "is" if self.missing == 1 else "are"
    return f"{counted(self.missing, 'run')} {of} {are} missing{rest}: none has a value"


def apart(
  sources: Sequence[Any], metric: str | None, roles: Mapping[str, Any], baseline: bool
) -> tuple[list[Any], list[Lost]]:
  """The sources with None for those of which nothing is left, and what was lost of them.

  Args:
    metric, roles: as `tables.read` takes them.
    baseline: the first variant is one, and stays even if it is lost: nothing can be judged then.
  """
  kept: list[Any] = []
  found: list[Lost] = []
  place = 0
  first: str | None = None  # the baseline's name
  for number, source in enumerate(sources):
    unread = isinstance(source, str | os.PathLike) and metric is None and number > 0
    if not tables.is_table(source) or unread:  # a store's metric is not known here
      kept.append(source)
      place += not (number == 0 and baseline)
      continue
    table = tables.read(source, metric=metric, **roles)
    metric = metric or table.metric
    first = table.frame["variant"].iloc[0] if number == 0 and baseline else first
    gone = np.zeros(len(table.frame), bool)
    for (task, name), rows in table.frame.groupby(["task", "variant"], sort=False):
      empty = rows["diverged"] | rows["value"].isna()
      if empty.all() and not (number == 0 and name == first):
        diverged = int(rows["diverged"].sum())
        found.append(
          Lost(name or table.name, task, number, place, diverged, len(rows) - diverged)
        )
        gone[table.frame.index.get_indexer(rows.index)] = True
      place += not (number == 0 and name == first)
    kept.append(None if gone.all() else _without(table, gone))
  return kept, found


def _without(table: Table, gone: np.ndarray) -> Table:
  if not gone.any():
    return table
  return dataclasses.replace(table, frame=table.frame[~gone].reset_index(drop=True))


def p_worse(lost: Lost, baseline: Findings) -> float:
  """Fisher's exact test, two-sided, of equal rates of losing a run.

  A missing run of the baseline counts as lost, and one of the variant as sound.
  """
  sound = baseline.planned - baseline.diverged - baseline.missing
  counts = [[baseline.planned - sound, sound], [lost.diverged, lost.missing]]
  return float(scipy.stats.fisher_exact(counts).pvalue)
