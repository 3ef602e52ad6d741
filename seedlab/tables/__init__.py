"""Tables of results from anywhere: files, folders and DataFrames as one value a run.

cells     text, numbers and seeds in cells            formats   one file as rows of cells
columns   which column is what, and wide tables       folders   a folder of runs as rows of cells
runs      at which step, repeats                         gaps      seeds that a variant lacks

`read` says in three lines what it took the table for. Names are text: 0010 and 10 are two
variants. A run is missing where nothing is known of it, and diverged where the table says so.
"""

import dataclasses
import os
import pathlib
from collections.abc import Iterable

import numpy as np
import pandas as pd

from seedlab.errors import UserError, counted
from seedlab.tables import columns, folders, formats, gaps, runs
from seedlab.tables.columns import Roles, Wide
from seedlab.tables.formats import Rows

_SHOWN = 8  # names of columns in a line
UNNAMED = "value"  # of what the columns of a wide table hold


@dataclasses.dataclass(frozen=True)
class Table:
  """The results of runs, whatever they were read from."""

  name: str  # of the file, without its ending, or of the folder; "" for a DataFrame
  # A row a run: variant, seed (int64), task, value (float64, nan: none), diverged (bool).
  frame: pd.DataFrame
  metric: str
  seeded: bool  # False where the table has no seeds and its runs were only numbered
  described: tuple[str, ...]  # three lines: what was read
  warnings: tuple[str, ...]  # what a reader must know of it
  repeats: pd.DataFrame | None = None  # the same columns, a row a training, where seeds repeat

  @property
  def said(self) -> list[str]:
    """The lines to show before anything is said of the table."""
    return [*self.described, *(f"Note: {warning}." for warning in self.warnings)]


def is_table(source: object) -> bool:
  """Whether a source is read here: a Table, DataFrame, file, or folder of runs; else a store."""
  if isinstance(source, (Table, pd.DataFrame)):
    return True
  if not isinstance(source, (str, os.PathLike)):
    return False
  path = pathlib.Path(source)
  by_name = path.suffix.lower() in formats.SUFFIXES and not path.is_dir()
  return by_name or path.is_file() or folders.holds_runs(path)


def read(
  source: "str | os.PathLike | pd.DataFrame | Table",
  *,
  variant: str | None = None,
  seed: str | None = None,
  metric: str | None = None,
  task: str | None = None,
  at: str | None = None,
) -> Table:
  """The runs of a table, one value each (docs/tables.md).

  Args:
    source: CSV, TSV, JSON, JSON lines, Parquet, a log, a folder with a file a run, or a DataFrame.
    variant, seed, task: the columns that say so; by default recognised by their names. Each may be
      "none", and variant or task "columns" for a table with a column for each.
    metric: the column to judge by; by default the only one of numbers that is no bookkeeping.
      Of a wide table the name of what its columns hold.
    at: of logs over steps: "last" (the default), "best:METRIC" or "step:N".

  Raises UserError for what cannot be read, and where several columns could be meant.
  """
  if isinstance(source, Table):
    return source
  if isinstance(source, pd.DataFrame):
    name, rows = "", formats.from_frame(source)
  elif pathlib.Path(source).is_dir():
    rows = folders.read(source)
    name = rows.name
  else:
    name, rows = pathlib.Path(source).stem, formats.read(source)
  height = len(rows.frame)
  _not_empty(rows)
  said = {"variant": variant, "seed": seed, "task": task}
  rows, wide, chosen = _long(rows, said, metric)
  if wide is not None:
    said[wide.by] = wide.by
  roles = _roles(rows, said, chosen, at)
  found = runs.collect(rows, roles, at)
  frame, repeats, more = _means(found.frame)
  lines = (
    f"{rows.name}: {rows.form}, {counted(height, 'row')}",
    _columns_said(roles, wide, found.seeded),
    _counts_said(frame, repeats, found, roles.task is not None),
  )
  notes = [*found.warnings, *more]
  if wide is not None and roles.metric == UNNAMED:
    notes.append(
      "what the columns hold is called value; --metric=acc (or whatever it is) names it, and tells"
      " which way it is better"
    )
  if found.percent:
    notes.append(f"{roles.metric} is written with percent signs and read as fractions")
  seeded = found.seeded and (wide is None or wide.seeded)
  if seeded:
    notes += gaps.lacking(frame)
  return Table(name, frame, roles.metric, seeded, lines, tuple(notes), repeats)


def _not_empty(rows: Rows) -> None:
  if not len(rows.frame) or not len(rows.frame.columns):
    shown = ", ".join(map(str, rows.frame.columns))
    raise UserError(
      f"{rows.name}: columns={shown} of {counted(len(rows.frame), 'row')}: a table needs a line"
      " that names the columns, as in variant,seed,accuracy, and a row for each run"
    )


def _long(
  rows: Rows, said: dict[str, str | None], metric: str | None
) -> tuple[Rows, Wide | None, str | None]:
  """The rows with one value each, how they were wide, and the metric that is known by then."""
  wide = columns.wide(rows.frame, rows.comma, metric=metric, **said)
  if wide is None:
    return rows, None, metric
  name = metric or wide.metric or UNNAMED
  frame, came_from = columns.melted(rows.frame, wide, name)
  files: tuple[tuple[str, np.ndarray], ...] = ()
  if len(rows.files) == 1:
    files = ((rows.files[0][0], rows.files[0][1][came_from]),)
  return dataclasses.replace(rows, frame=frame, files=files), wide, name


def _roles(
  rows: Rows, said: dict[str, str | None], metric: str | None, at: str | None
) -> Roles:
  frame, taken = rows.frame, [metric] if metric in rows.frame else []

  def found(role: str) -> str | None:
    rest = frame[[name for name in frame if name not in taken]]
    column = columns.named(frame if said[role] is not None else rest, role, said[role])
    taken.extend([column] if column is not None else [])
    return column

  named = [name for name in (*said.values(), metric) if name in frame.columns]
  if len(set(named)) < len(named):
    raise UserError("one column is named for two of variant, seed, task and metric; name another")
  # What is said takes its column away from what is only recognised.
  by_role = {role: found(role) for role in sorted(said, key=lambda role: said[role] is None)}
  by_role["variant"] = _no_name_of_runs(frame, by_role["variant"], said["variant"])
  rest = frame[[name for name in frame if name not in by_role.values() and name != metric]]
  # Of a run that ended, its last step is bookkeeping.
  one_row_a_run = at is None and not rows.log and columns.has_a_row_a_run(frame)
  step = None if one_row_a_run else columns.step_of(rest, at)
  known = [name for name in (*by_role.values(), step) if name is not None]
  chosen = columns.metric_of(frame, rows.comma, known, metric)
  rest = [name for name in frame if name not in (*known, chosen)]
  aside = tuple(
    name for name in rest if columns.is_bookkeeping(name) or columns.is_state(frame[name])
  )
  others = tuple(name for name in rest if name not in aside)
  unsaid = by_role["variant"] is None and said["variant"] is None
  return Roles(**by_role, step=step, metric=chosen, bookkeeping=aside, others=others, unsaid=unsaid)


def _no_name_of_runs(frame: pd.DataFrame, column: str | None, said: str | None) -> str | None:
  """Refuses names of single runs, as Weights & Biases gives, for those of variants."""
  if column is None or said is not None or not columns.names_runs(frame, column):
    return column
  raise UserError(
    f"{column} has another value in every row, as names of runs have: name the column of the"
    f" variants with --variant, or say --variant={column} if each row is a variant, or"
    " --variant=none if all are one"
  )


def _means(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame | None, list[str]]:
  """One row a run: the mean of what is known of its repeats; lost if one of them was."""
  keys = ["variant", "task", "seed"]
  if not frame.duplicated(keys).any():
    return frame, None, []
  grouped = frame.groupby(keys, sort=False)
  value = grouped["value"].mean().to_numpy()
  diverged = grouped["diverged"].any().to_numpy()
  found = frame.drop_duplicates(keys).reset_index(drop=True)
  value = np.where(diverged, np.nan, value)
  lacking = int((grouped["value"].count() < grouped.size()).sum())
  notes = [
    f"{counted(lacking, 'seed')} with repeats of which not all have a value: the mean of the others"
    " counts, and a diverged one makes the run diverged"
  ] * bool(lacking)
  return found.assign(value=value, diverged=diverged), frame, notes


def _columns_said(roles: Roles, wide: Wide | None, seeded: bool) -> str:
  said = {role: getattr(roles, role) for role in ("variant", "seed", "metric", "task", "step")}
  if wide is not None:
    of = f"a column each ({_listed(wide.columns)})"
    said[wide.by], said["metric"] = of, f"{roles.metric} (their cells)"
  if roles.seed is not None and not seeded:
    said["seed"] = f"{said['seed']} (a number of the run, not a seed)"
  shown = [f"{role}: {name or 'none'}" for role, name in said.items()]
  for words, names in (
    ("ignored as bookkeeping", roles.bookkeeping),
    ("not used", roles.others),
  ):
    shown += [f"{words}: {_listed(names)}"] * bool(names)
  return "; ".join(shown)


def _counts_said(
  frame: pd.DataFrame, repeats: pd.DataFrame | None, found: runs.Values, tasked: bool
) -> str:
  variants, tasks = frame["variant"].nunique(), frame["task"].nunique()
  seeds = frame["seed"].nunique()
  lost = int(frame["diverged"].sum())
  missing = int(frame["value"].isna().sum()) - lost
  said = [
    counted(variants, "variant"),
    counted(seeds, "seed" if found.seeded else "numbered run"),
    *[counted(tasks, "task")] * tasked,
    f"{counted(len(frame), 'run')} of which {missing:,} without a value and {lost:,} diverged",
    "no repeats"
    if repeats is None
    else f"{counted(len(repeats) - len(frame), 'repeat')} of a seed, averaged",
  ]
  return ", ".join(said) + f"; {found.read_at}" * bool(found.read_at)


def _listed(names: Iterable[str]) -> str:
  names = list(names)
  more = f" and {len(names) - _SHOWN} more" * (len(names) > _SHOWN)
  return ", ".join(names[:_SHOWN]) + more
