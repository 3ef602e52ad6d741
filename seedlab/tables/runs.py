"""The value of each run: at which of its steps, and of repeats of one seed their mean."""

import dataclasses
from typing import NamedTuple

import numpy as np
import pandas as pd

from seedlab import meanings
from seedlab.errors import UserError, counted
from seedlab.tables import cells, columns
from seedlab.tables.columns import Roles
from seedlab.tables.formats import Rows

_DIRECTIONS = ("higher", "lower")


@dataclasses.dataclass(frozen=True)
class Values:
  """Trainings in the order of the table: one a row of R, or of a log one a run."""

  frame: pd.DataFrame  # variant, seed, task, value, diverged; equal (variant, task, seed) repeat
  seeded: bool
  percent: bool  # percent signs
  read_at: str  # in words
  warnings: tuple[str, ...]


class _Log(NamedTuple):
  """Rows of runs over their steps."""

  run_R: np.ndarray  # int: which run
  step_R: np.ndarray  # float64; nan where it says none
  name: str  # of the steps


def collect(rows: Rows, roles: Roles, at: str | None) -> Values:
  """The trainings of a table and their values; raises UserError for cells that are wrong."""
  frame = rows.frame
  variant_R = _names(rows, roles.variant, "variant")
  task_R = _names(rows, roles.task, "task")
  read = cells.numbers(frame[roles.metric], rows.comma)
  cells.refuse(roles.metric, frame[roles.metric], read, rows.place)
  value_R, lost = _by_state(frame, read.value_R)
  diverged_R = read.diverged_R & np.isnan(value_R)
  warnings = [*rows.notes, *lost]
  group_R = pd.factorize(pd.MultiIndex.from_arrays([variant_R, task_R]))[0]
  log = _steps(rows, roles, group_R)
  if roles.seed is not None:
    seed_R, seeded = cells.seeds(roles.seed, frame[roles.seed], rows.place), rows.seeded
  else:
    seed_R, seeded = _numbered(group_R, log is not None), False
  kept = pd.DataFrame(
    {
      "variant": variant_R,
      "seed": seed_R,
      "task": task_R,
      "value": value_R,
      "diverged": diverged_R,
      "row": np.arange(len(frame)),
    }
  )
  if log is None:
    if at is not None and at != "last":
      raise UserError(f"at={at}: the table has no column of steps; leave it out")
    _no_hidden_settings(rows, roles, kept)
    if roles.step is not None:  # one step: rows of other metrics are no repeats
      runs = [kept[name] for name in ("variant", "task", "seed")]
      some = pd.Series(~read.empty_R).groupby(runs).transform("any").to_numpy()
      kept = kept[~(some & read.empty_R)].reset_index(drop=True)
    found, said, more = kept, "", list[str]()
  else:
    run_R = pd.factorize(pd.MultiIndex.from_arrays([group_R, seed_R]))[0]
    log = log._replace(run_R=run_R)
    if at is None and not rows.log:
      _a_log_or_repeats(log, kept, read.empty_R)
    found, said, more = _at(rows, roles, log, kept, read.empty_R, at)
  warnings += _units(roles.metric, found, rows.place) + more
  return Values(found.drop(columns="row"), seeded, read.percent, said, tuple(warnings))


def _names(rows: Rows, column: str | None, role: str) -> np.ndarray:
  """object[R]: text as written; "" everywhere without such a column."""
  if column is None:
    found = np.empty(len(rows.frame), object)
    found[:] = ""
    return found
  found = cells.text(rows.frame[column])
  if (found == "").any():
    row = int(np.argmax(found == ""))
    raise UserError(f"{column} is empty in {rows.place(row)}; name the {role}")
  return found


def _numbered(group_R: np.ndarray, log: bool) -> np.ndarray:
  """Runs without seeds: the rows of a group, in order; of a log there is one run a group."""
  if log:
    return np.zeros(len(group_R), np.int64)
  return pd.Series(group_R).groupby(group_R).cumcount().to_numpy(np.int64)


def _units(metric: str, found: pd.DataFrame, place: cells.Place) -> list[str]:
  """A warning where fractions and percentages seem to meet.

  Raises UserError where they do in a share of examples: what one of them is, the other is not.
  """
  known = found[found["value"].notna()]
  value_R = known["value"].to_numpy()
  is_small, is_large = (value_R > 0) & (value_R <= 1), value_R > 1
  if not is_small.any() or not is_large.any() or value_R.min() < 0 or value_R.max() > 100:
    return []
  small, large = value_R[is_small], value_R[is_large]
  share = meanings.share(metric) is not None
  if not share and (meanings.better(metric) == "lower" or large.min() < 10 * small.max()):
    return []
  if large.max() < 10 * small.min():
    return []
  # In percent they would be among the others, as a collapsed run at 0.1 % would not.
  alike = is_small & (100 * value_R >= large.min() / 2) & (100 * value_R <= 2 * large.max())
  if share and alike.any():
    one, other = known.iloc[int(np.argmax(alike))], known.iloc[int(np.argmax(is_large))]
    raise UserError(
      f"{metric}={one.value:g} in {place(one.row)} and {other.value:g} in {place(other.row)} look"
      " like a fraction beside a percentage; bring them to one unit (or, if all are percentages,"
      " write a percent sign behind each)"
    )
  return [
    f"{metric} holds {counted(len(small), 'value')} up to 1 (such as {small[0]:g}) and"
    f" {len(large):,} above (such as {large[0]:g}): if these are fractions and percentages, bring"
    " them to one unit"
  ]


def _by_state(frame: pd.DataFrame, value_R: np.ndarray) -> tuple[np.ndarray, list[str]]:
  """Values of runs that finished; of one that Weights & Biases calls otherwise none is known."""
  for name in filter(lambda name: columns.is_state(frame[name]), frame):
    state_R = np.array([cell.lower() for cell in cells.text(frame[name])])
    other = state_R != "finished"
    if other.any():
      kinds = ", ".join(sorted(set(state_R[other])))
      return np.where(other, np.nan, value_R), [
        f"{counted(int(other.sum()), 'run')} did not finish ({name}: {kinds}): missing, since"
        " nobody knows why"
      ]
  return value_R, []


def _steps(rows: Rows, roles: Roles, group_R: np.ndarray) -> _Log | None:
  """The steps of a log; None where every row is a training."""
  if roles.step is None:
    return None
  read = cells.numbers(rows.frame[roles.step], rows.comma)
  cells.refuse(roles.step, rows.frame[roles.step], read, rows.place)
  step_R = read.value_R
  known = step_R[~np.isnan(step_R)]
  if not len(known) or (not rows.log and (step_R == known[0]).all()):
    return None  # steps of the whole training
  if roles.seed is None and not rows.log and roles.variant is not None:
    several = pd.Series(step_R).groupby(group_R).nunique() > 1
    if several.any():
      raise UserError(
        f"{roles.step} differs between rows of one variant and no column is called seed: nobody"
        " knows whether they are steps of one run or several runs; name the column that tells runs"
        " apart with --seed"
      )
    return None
  return _Log(np.zeros(0, np.int64), step_R, roles.step)


def _a_log_or_repeats(log: _Log, kept: pd.DataFrame, empty_R: np.ndarray) -> None:
  """Raises UserError where only few runs have rows at several steps: they may be repeats."""
  number_G = pd.Series(log.run_R[~empty_R]).value_counts()
  several = number_G[number_G > 1]
  if not len(several) or len(several) > len(number_G) / 2:
    return
  one = kept.iloc[int(np.argmax(log.run_R == several.index.min()))]
  which = f"variant={one.variant!r}, " * bool(one.variant) + f"seed={one.seed}"
  raise UserError(
    f"{which} has {several.loc[several.index.min()]} rows that differ in {log.name}, and most have"
    f" one: nobody knows whether they are steps of one run or repeats; leave {log.name} out if"
    " they are repeats, or say --at=last if they are steps"
  )


def _no_hidden_settings(rows: Rows, roles: Roles, kept: pd.DataFrame) -> None:
  """Raises UserError where rows that would count as runs of one kind differ in what was chosen."""
  alone = roles.unsaid
  keys = [kept[name] for name in ("variant", "task", "seed")]
  for name in roles.others:
    column = rows.frame[name]
    setting = columns.is_setting(name)
    if not setting and columns.numeric(rows.frame[[name]], rows.comma):
      continue  # measured, as the metric is
    written = pd.Series(cells.text(column))
    again = written.groupby(keys).nunique() > 1
    if again.any():
      raise UserError(
        f"rows of one variant and seed ({again[again].index[0][2]}) differ in {name}: say what it"
        f" is with --variant={name} or --task={name}, or leave that column out if they are repeats"
      )
    # A setting that several rows share, as in a grid, tells rows of one variant apart as well.
    kinds = written.groupby(keys[:2]).agg(["nunique", "size"])
    apart = (kinds["nunique"] > 1) & (setting | alone)
    apart &= (kinds["nunique"] < kinds["size"]) | (setting & alone)
    if apart.any():
      which = f"variant={apart[apart].index[0][0]!r}" if not alone else "the table (no variant)"
      raise UserError(
        f"rows of {which} differ in {name}: say --variant={name} or --task={name} if it tells them"
        " apart, " + ("--variant=none" if alone else "or leave that column out") + " if not"
      )


def _at(
  rows: Rows, roles: Roles, log: _Log, kept: pd.DataFrame, empty_R: np.ndarray, at: str | None
) -> tuple[pd.DataFrame, str, list[str]]:
  """One row a run: where its value stands, in words, and warnings."""
  chosen = at or "last"
  written, lost_R = ~empty_R, kept["diverged"].to_numpy()
  _once_a_step(rows, log, kept, written)
  firsts = pd.Series(log.run_R).drop_duplicates().index.to_numpy()  # of each run, in order
  if chosen == "last":
    row_G = _last(log, written, len(firsts))
    said, warnings = _last_said(log, written, row_G, at)
  elif chosen.startswith("best:"):
    row_G, said, warnings, lost_R = _best(rows, roles, log, written, chosen, kept)
  else:
    row_G, said, warnings = _at_step(log, written, len(firsts), chosen)
  found = kept.iloc[firsts].reset_index(drop=True)
  there = row_G >= 0
  value = np.full(len(firsts), np.nan)
  diverged = np.zeros(len(firsts), bool)
  value[there] = kept["value"].to_numpy()[row_G[there]]
  lost = np.unique(log.run_R[lost_R])
  diverged[lost[np.isnan(value[lost])]] = True  # it never came so far, or was no number after
  return found.assign(value=value, diverged=diverged, row=row_G), said, warnings


def _once_a_step(rows: Rows, log: _Log, kept: pd.DataFrame, written: np.ndarray) -> None:
  """A run has one value at a step, and in a folder one file that holds it."""
  at = np.flatnonzero(written)
  if rows.log and len(rows.files) > 1:
    file_R = np.repeat(np.arange(len(rows.files)), [len(lines) for _, lines in rows.files])
    several = pd.Series(file_R[at]).groupby(log.run_R[at]).nunique()
    wrong = several[several > 1]
    if len(wrong):
      files = np.unique(file_R[at][log.run_R[at] == wrong.index[0]])[:2]
      names = " and ".join(rows.files[file][0] for file in files)
      raise UserError(f"{names} hold values of one run; remove one, or give each a folder")
    return
  twice = pd.DataFrame({"run": log.run_R[at], "step": log.step_R[at]}).duplicated()
  if twice.any() and not rows.log:
    row = int(at[np.argmax(twice)])
    one = kept.iloc[row]
    which = f"variant={one.variant!r}, " * bool(one.variant) + f"seed={one.seed}"
    raise UserError(
      f"{which} has several rows at {log.name}={log.step_R[row]:g}, the second in"
      f" {rows.place(row)}; name the column that tells them apart with --seed, --variant or --task"
    )


def _last(log: _Log, written: np.ndarray, runs: int) -> np.ndarray:
  """int[G]: the row of each run's last written value; -1 without one."""
  at = np.flatnonzero(written)
  order = np.lexsort((at, np.nan_to_num(log.step_R[at], nan=-np.inf), log.run_R[at]))
  row_G = np.full(runs, -1)
  row_G[log.run_R[at][order]] = at[order]  # the last one stays
  return row_G


def _last_said(
  log: _Log, written: np.ndarray, row_G: np.ndarray, at: str | None
) -> tuple[str, list[str]]:
  step_G = log.step_R[row_G[row_G >= 0]]
  step_G = step_G[~np.isnan(step_G)]
  by_default = "" if at else " (the default of --at)"
  if not len(step_G):
    return f"the last value of each run{by_default}", []
  low, high = step_G.min(), step_G.max()
  if low == high:
    return f"the last value of each run{by_default}, at {log.name} {high:g}", []
  said = f"the last value of each run{by_default}, at {log.name} {low:g} to {high:g}"
  short = int((step_G < high).sum())
  note = (
    f"{counted(short, 'run')} of {len(step_G):,} end{'s' * (short == 1)} before {log.name}"
    f" {high:g}: values of unlike steps are compared"
  )
  shared = len(np.unique(log.run_R[written & (log.step_R == low)])) == len(step_G)
  return said, [note + f"; --at={_flag(log)}:{low:g} takes one that all have" * shared]


def _flag(log: _Log) -> str:
  return "step" if columns.key(log.name) == "step" else log.name


def _best(
  rows: Rows, roles: Roles, log: _Log, written: np.ndarray, at: str, kept: pd.DataFrame
) -> tuple[np.ndarray, str, list[str], np.ndarray]:
  """The row of each run, in words, warnings, and which rows say that the run diverged.

  A run of which the metric, or what it is chosen by, is no number in the end has none.
  """
  name = at.removeprefix("best:")
  direction = None
  if name not in rows.frame and name.rpartition(":")[2] in _DIRECTIONS:
    name, _, direction = name.rpartition(":")
  if name not in rows.frame:
    names = columns.numeric(rows.frame, rows.comma)
    raise UserError(f"at={at}: no column is called {name!r}; choices: {', '.join(names)}")
  direction = direction or meanings.better(name)
  if direction is None:
    raise UserError(
      f"at={at}: nobody knows which way {name} is better; say best:{name}:higher or"
      f" best:{name}:lower"
    )
  read = cells.numbers(rows.frame[name], rows.comma)
  cells.refuse(name, rows.frame[name], read, rows.place)
  by_R = read.value_R if direction == "lower" else -read.value_R
  known = np.flatnonzero(~np.isnan(by_R))
  runs = int(log.run_R.max()) + 1
  order = known[np.lexsort((known, log.step_R[known], by_R[known], log.run_R[known]))][::-1]
  row_G = np.full(runs, -1)
  row_G[log.run_R[order]] = order  # the best one, of equal ones the first, stays
  for has, value_R in ((written, kept["value"].to_numpy()), (~read.empty_R, read.value_R)):
    last_G = _last(log, has, runs)
    row_G[(last_G >= 0) & np.isnan(value_R[last_G])] = -1
  lost_R = kept["diverged"].to_numpy() | read.diverged_R
  if name == roles.metric:
    return (
      row_G,
      f"the best {name} of each run",
      [
        f"the best of many {name}s is luckier than one of them: choose the step by another metric"
        f" (--at=best:METRIC) or by none (--at=last)"
      ],
      lost_R,
    )
  at_step = {
    (run, step): row
    for run, step, row in zip(
      log.run_R[written], log.step_R[written], np.flatnonzero(written), strict=True
    )
  }
  for run in np.flatnonzero(row_G >= 0):
    found = at_step.get((run, log.step_R[row_G[run]]))
    if found is None and (written & (log.run_R == run)).any():
      one = kept.iloc[row_G[run]]
      raise UserError(
        f"at={at}: {f'variant={one.variant!r}, ' * bool(one.variant)}seed={one.seed} has no"
        f" {roles.metric} at {log.name}={log.step_R[row_G[run]]:g}, where {name} is best; log both"
        " at the same steps, or use --at=last"
      )
    row_G[run] = -1 if found is None else found
  return row_G, f"where {name} is best ({direction}) in each run", [], lost_R


def _at_step(
  log: _Log, written: np.ndarray, runs: int, at: str
) -> tuple[np.ndarray, str, list[str]]:
  name, _, number = at.rpartition(":")
  try:
    step = float(number.replace(",", ""))
  except ValueError:
    step = np.nan
  if not name or (name not in ("step", log.name)) or np.isnan(step):
    raise UserError(f"at={at!r} must be last, best:METRIC or step:N")
  at_R = np.flatnonzero(written & (log.step_R == step))
  row_G = np.full(runs, -1)
  row_G[log.run_R[at_R]] = at_R
  if not len(at_R):
    steps = np.unique(log.step_R[written & ~np.isnan(log.step_R)])
    shown = ", ".join(f"{step:g}" for step in steps[-5:])
    raise UserError(f"at={at}: no run has a value there; the last steps are {shown}")
  short = int((row_G < 0).sum())
  return (
    row_G,
    f"{log.name} {step:g}",
    [
      f"{counted(short, 'run')} of {runs:,} {'has' if short == 1 else 'have'} no value at"
      f" {log.name} {step:g}: missing, unless diverged before"
    ]
    * bool(short),
  )
