"""Which column of a table is what: variant, seed, task, step and metric, as named or as recognised.

A role is recognised by the whole name of a column (or its part behind the last point or stroke, as
in config.seed). Where several columns could have a role, nothing is guessed: the error lists them
and the flag that says it. What is known to be bookkeeping is never the metric.
"""

import dataclasses
import re
from collections.abc import Mapping

import numpy as np
import pandas as pd

from seedlab import meanings
from seedlab.errors import UserError, choice_error
from seedlab.tables import cells

ROLES: Mapping[str, tuple[str, ...]] = {
  "variant": (
    *("variant", "method", "model", "algorithm", "algo", "config", "group", "arm", "condition"),
    *("name", "run_name", "experiment", "exp_name"),
  ),
  "seed": ("seed", "random_seed", "rng_seed", "seed_id", "run", "trial"),
  "task": (
    *("task", "dataset", "data_set", "env", "env_id", "env_name", "environment", "game"),
    "benchmark",
  ),
}
# From the finest to the coarsest: a log often has several, and the first is taken.
STEPS = (
  *("global_step", "step", "iteration", "iter", "timestep", "timesteps", "total_timesteps"),
  *("env_step", "env_steps", "update", "epoch"),
)
_NAMES_OF_RUNS = ("name", "run_name", "run_id")
_BOOKKEEPING = frozenset(
  "time times timestamp runtime seconds secs sec ms minutes hours duration date datetime created"
  " update updated wall walltime version sha commit hash id uuid pid host hostname gpu gpus device"
  " memory mem flops epoch epochs step steps iteration iterations iter iters timestep timesteps"
  " index repeat rep replicate user note notes comment comments tags sweep path url file folder job"
  " name run trial".split()
)
_SETTINGS = frozenset(
  "lr momentum wd decay size width depth layers hidden dropout temperature rate params parameters"
  " num count optimizer schedule scheduler warmup batch".split()
)
_STATES = frozenset("finished crashed failed killed running preempted preempting pending".split())
_NONE, _COLUMNS = "none", "columns"  # of --variant and --task: there is none; every column is one
_SEED_COLUMN = re.compile(r"(seed|run|trial|s)?[ _.-]?(\d+)", re.IGNORECASE)
_METRIC_OF_SEED = re.compile(r"(.+?)[ _./-]+(seed|run|trial)[ _.=-]?(\d+)", re.IGNORECASE)
_PARTS_OF_DATA = frozenset("train training val valid validation dev eval test".split())


@dataclasses.dataclass(frozen=True)
class Roles:
  """The column of each role, None where there is none."""

  variant: str | None
  seed: str | None
  task: str | None
  step: str | None
  metric: str
  bookkeeping: tuple[str, ...]  # recognised as such
  others: tuple[str, ...]  # neither
  unsaid: bool = False  # no column is the variant, and nobody said that there is none


@dataclasses.dataclass(frozen=True)
class Wide:
  """A table of which several columns hold the values of one metric."""

  columns: tuple[str, ...]
  by: str  # what tells these columns apart: variant, task or seed
  names: tuple[str, ...]  # its value for each column
  seeded: bool = True  # the names of the columns say that their numbers are seeds
  metric: str | None = None  # what their names say that they hold


def key(name: str) -> str:
  """The name that roles are recognised by: of `config/random-seed` it is random_seed."""
  return re.sub(r"[\s_-]+", "_", re.split(r"[./]", name.strip())[-1].lower()).strip("_")


def named(frame: pd.DataFrame, role: str, said: str | None) -> str | None:
  """The column that is said to have a role, or the one recognised; None where there is none.

  Raises UserError for an unknown column and where several could have it.
  """
  if said is not None:
    if said in frame:
      return said
    if said == _NONE:
      return None
    raise choice_error(role, said, frame.columns)
  found = [name for name in frame if key(name) in ROLES[role]]
  exact = [name for name in found if name.lower() == role]
  if len(exact) == 1:
    return exact[0]
  written = {name: set(cells.text(frame[name])) for name in found}
  found = [name for name in found if written[name] != {""}]
  if len(found) > 1:  # a column with one value does not tell rows apart
    found = [name for name in found if len(written[name]) > 1] or found
    found = [name for name in found if not names_runs(frame, name)] or found
  if len(found) > 1:
    raise UserError(
      f"columns {' and '.join(found)} could each be the {role}; name one with --{role}={found[0]}"
    )
  return found[0] if found else None


def names_runs(frame: pd.DataFrame, column: str) -> bool:
  """Whether a column holds names of single runs, as Weights & Biases gives them."""
  written = cells.text(frame[column])
  return key(column) in _NAMES_OF_RUNS and 1 < len(written) == len(set(written))


def has_a_row_a_run(frame: pd.DataFrame) -> bool:
  """Whether a table is one of runs, as Weights & Biases exports it, and no log of their steps.

  It has the State of each run, a summary of it, or a name of runs that no two rows share.
  """
  return any(
    is_state(frame[name]) or name.startswith("_wandb") or names_runs(frame, name) for name in frame
  )


def step_of(frame: pd.DataFrame, at: str | None) -> str | None:
  """The column of steps: that which --at=NAME:N names, else the finest that is recognised."""
  if at and ":" in at and not at.startswith("best:"):
    name = at.rpartition(":")[0]
    if name in frame:
      return name
  by_key = {key(name): name for name in reversed(list(frame.columns))}
  found = next((by_key[step] for step in STEPS if step in by_key), None)
  return found if found is None or cells.text(frame[found]).any() else None


def is_bookkeeping(name: str) -> bool:
  """Whether a name says that its numbers are times, counters, or the like and no outcome."""
  words = set(meanings.words(name))
  outcome = words & (meanings.HIGHER | meanings.LOWER)
  return name.startswith("_") or (bool(words & _BOOKKEEPING) and not outcome)


def is_state(column: pd.Series) -> bool:
  """Whether a column holds what Weights & Biases says of a run: finished, crashed, running, ..."""
  return (
    key(str(column.name)) == "state" and {cell.lower() for cell in cells.text(column)} <= _STATES
  )


def is_setting(name: str) -> bool:
  """Whether a name says that its values were chosen and not measured."""
  words = set(meanings.words(name))
  above = re.split(r"[./]", name.lower())[0]
  outcome = words & (meanings.HIGHER | meanings.LOWER)
  return above in ("config", "hparams") or (bool(words & _SETTINGS) and not outcome)


def numeric(frame: pd.DataFrame, comma: bool) -> list[str]:
  """Columns of which at least half of the cells that say something are numbers."""
  found = []
  for name in frame:
    read = cells.numbers(frame[name], comma)
    unclear = sum(map(cells.may_be_number, cells.text(frame[name])[read.wrong_R]))
    numbers = int((~np.isnan(read.value_R)).sum()) + unclear
    if numbers and numbers >= int(read.wrong_R.sum()) - unclear:
      found.append(name)
  return found


def metric_of(frame: pd.DataFrame, comma: bool, taken: list[str], said: str | None) -> str:
  """The metric: as named, or the one column of numbers that is no bookkeeping.

  Of several, the only one whose name is a known outcome (`meanings`). Raises UserError where that
  leaves none or more than one.
  """
  rest = [name for name in frame if name not in taken]
  if said is not None:
    if said not in rest:
      raise choice_error("metric", said, rest)
    return said
  found = numeric(frame[rest], comma)
  bare = [name for name in found if not is_bookkeeping(name) and not is_setting(name)]
  if len(bare) > 1:
    varied = [
      name
      for name in bare
      if meanings.better(name) or not _is_constant_or_counter(frame[name], comma)
    ]
    bare = varied or bare
  if len(bare) > 1:
    known = [name for name in bare if meanings.better(name)]
    bare = known if len(known) == 1 else bare
  if len(bare) == 1:
    return bare[0]
  if bare:
    alike = len(set(map(meanings.better, bare))) == 1
    alike &= not _PARTS_OF_DATA.intersection(meanings.words(" ".join(bare)))
    raise UserError(
      f"columns {', '.join(bare)} could each be the metric; name one with --metric={bare[0]}"
      + ", or say --task=columns or --variant=columns if each is a task or a variant" * alike
    )
  if found:
    raise UserError(
      f"only what looks like bookkeeping or settings holds numbers ({', '.join(found)}); name the"
      f" metric with --metric={found[0]}"
    )
  shown = ", ".join(map(str, frame.columns))
  if any("±" in cell for name in rest for cell in set(cells.text(frame[name]))):
    raise UserError(
      f"columns={shown}: the cells with ± are means of runs, and none holds the number of a single"
      " run; give a table with a row for each run (seedlab audit takes published means)"
    )
  raise UserError(
    f"columns={shown} of {len(frame):,} row{'s' * (len(frame) != 1)}: none holds the numbers of a"
    " metric; a table has a column variant, a column seed and one of numbers, and a row for each"
    " run"
  )


def _is_constant_or_counter(column: pd.Series, comma: bool) -> bool:
  value_R = cells.numbers(column, comma).value_R
  value_R = value_R[~np.isnan(value_R)]
  if len(value_R) < 2:
    return False
  apart = np.diff(value_R)
  return bool((apart == 0).all() or (len(value_R) > 2 and (apart == 1).all()))


def wide(
  frame: pd.DataFrame,
  comma: bool,
  variant: str | None,
  seed: str | None,
  metric: str | None,
  task: str | None = None,
) -> Wide | None:
  """How a table is wide, if it is: a column for each seed, or one for each variant or task.

  A column for each variant is recognised where no column names the variant, the names of at least
  two columns of numbers are no known outcomes, and their medians are within a factor of two;
  `variant="columns"` says it, as `task="columns"` does of tasks.
  """
  if metric in frame:
    return None
  if seed is None and named(frame, "seed", None) is None:
    found = _by_seed(list(frame), metric)
    if found is not None:
      return found
  said = {"variant": variant, "task": task}
  told = [role for role in said if said[role] == _COLUMNS and _COLUMNS not in frame]
  if len(told) > 1:
    raise UserError("variant=columns and task=columns: the columns are one of both; name the other")
  if not told and (variant is not None or metric is not None):
    return None
  if not told and named(frame, "variant", None) is not None:
    return None
  by = told[0] if told else "variant"
  rest = {role: said.get(role) for role in ("variant", "task") if role != by} | {"seed": seed}
  known = {role: named(frame, role, column) for role, column in rest.items()}
  others = [n for n in frame if n not in known.values() and not is_bookkeeping(n)]
  columns = tuple(name for name in numeric(frame[others], comma) if not is_setting(name))
  if told and not columns:
    raise UserError(f"{by}=columns: no column of the table holds numbers; name one column")
  if not told and not _alike(frame, comma, columns, known["seed"]):
    return None
  return Wide(columns, by, columns)


def _by_seed(names: list[str], metric: str | None) -> Wide | None:
  """Columns such as seed0 and seed1, or acc_seed0 and acc_seed1."""
  bare = {name: match for name in names if (match := _SEED_COLUMN.fullmatch(name))}
  prefixes = {(match[1] or "").lower() for match in bare.values()}
  if len(bare) > 1 and len(prefixes) == 1:
    numbers = tuple(match[2] for match in bare.values())
    return Wide(tuple(bare), "seed", numbers, prefixes <= {"seed", "s"})
  named_so = {name: match for name in names if (match := _METRIC_OF_SEED.fullmatch(name))}
  held = [match[1] for match in named_so.values()]
  metrics = [name for name in dict.fromkeys(held) if held.count(name) > 1]
  chosen = metric if metric in metrics else metrics[0] if len(metrics) == 1 else None
  if chosen is None:
    if metric is None and any(map(meanings.better, metrics)):
      raise UserError(
        f"there is a column for each seed of {', '.join(metrics)}; name one with"
        f" --metric={metrics[0]}"
      )
    return None
  found = {name: match for name, match in named_so.items() if match[1] == chosen}
  seeded = {match[2].lower() for match in found.values()} == {"seed"}
  return Wide(tuple(found), "seed", tuple(match[3] for match in found.values()), seeded, chosen)


def _alike(frame: pd.DataFrame, comma: bool, found: tuple[str, ...], seed: str | None) -> bool:
  if len(found) < 2 or seed is None or step_of(frame, None) is not None:
    return False
  if any(set(meanings.words(n)) & (meanings.HIGHER | meanings.LOWER) for n in found):
    return False
  middles = [abs(np.nanmedian(cells.numbers(frame[name], comma).value_R)) for name in found]
  return max(middles) <= 2 * min(middles)


def melted(frame: pd.DataFrame, how: Wide, metric: str) -> tuple[pd.DataFrame, np.ndarray]:
  """The wide table with a row for each value, and the row each came from; columns stay together."""
  others = [name for name in frame if name not in how.columns]
  if how.by in others:
    raise UserError(
      f"{how.by}=columns: the table has a column {how.by} besides; name that one, or leave it out"
    )
  rows = np.tile(np.arange(len(frame)), len(how.columns))
  found = frame[others].iloc[rows].reset_index(drop=True)
  found[how.by] = np.repeat(np.array(how.names, object), len(frame))
  values = [frame[name].astype(object) for name in how.columns]
  found[metric] = pd.concat(values, ignore_index=True)
  return found, rows
