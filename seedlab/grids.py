"""One sweep for every combination of values, each in a store of its own."""

import concurrent.futures
import contextlib
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from seedlab import changes, config, errors
from seedlab.errors import UserError
from seedlab.experiment import argument_values, check, experiment
from seedlab.pool import check_workers, local_pool
from seedlab.progress import say
from seedlab.stopping import plans_of
from seedlab.sweeps import run_numbers, sweep


class Cell(NamedTuple):
  """One combination: what is trained there, and where it is kept."""

  values: dict[str, Any]  # of the fields of the grid
  what: Mapping[str, Any] | str | Callable[..., Any]
  arguments: dict[str, Any]  # of a function that builds a Trainer
  store: pathlib.Path


def grid(
  what: Mapping[str, Any] | str | Callable[..., Any],
  fields: Mapping[str, Sequence[Any]],
  runs: Iterable[int] | int | None,
  out: str | os.PathLike,
  *,
  arguments: Mapping[str, Any] | None = None,
  workers: int | None = None,
  executor: concurrent.futures.Executor | None = None,
  **options: Any,
) -> list[tuple[dict[str, Any], pathlib.Path]]:
  """One sweep for every combination of values, each in its own store below `out`.

  Args:
    what: the config that all cells share, or a function that builds a Trainer, or its name.
    fields: {"section.field": values} of a config, {"argument": values} of a function.
    runs, arguments, options: as for `sweep`.

  Returns:
    (the cell's field values, its store) in order.

  Raises:
    UserError: input that cannot be right in one of the cells, before the first of them trains.
  """
  check_workers(workers)
  cells = grid_cells(what, fields, out, arguments)
  pool = contextlib.nullcontext(executor) if executor else local_pool(workers)
  with pool as shared:
    for cell in cells:  # a mistake in the last cell is found before the first one trains
      described = experiment(
        cell.what, cell.arguments, options.get("seeds"), options.get("data_dir")
      )
      planned, stop, most = (options.get(name) for name in ("planned_n", "stop", "max_runs"))
      plans_of(planned, stop, most, runs, described.seeds, ())
      run_numbers(options.get("max_runs") or runs, described.seeds)
      check(described, shared)
    for cell in cells:
      say(options.get("quiet", False), ", ".join(f"{name}={cell.values[name]}" for name in fields))
      own: dict[str, Any] = {"arguments": cell.arguments, "executor": shared, "workers": workers}
      sweep(cell.what, runs, cell.store, **own, **options)
  return [(cell.values, cell.store) for cell in cells]


def grid_cells(
  what: Mapping[str, Any] | str | Callable[..., Any],
  fields: Mapping[str, Sequence[Any]],
  out: str | os.PathLike,
  arguments: Mapping[str, Any] | None = None,
) -> list[Cell]:
  """A cell for every combination; refuses fields that do not exist, naming the closest."""
  combinations: list[dict[str, Any]] = [{}]
  for field, choices in fields.items():
    if len(set(map(str, choices))) != len(choices):
      raise UserError(f"--grid={field} names a value twice: {','.join(map(str, choices))}")
    combinations = [values | {field: choice} for values in combinations for choice in choices]
  given = dict(arguments or {})
  trainer = isinstance(what, str) or callable(what)
  shared = {**argument_values(what), **given} if isinstance(what, str) or callable(what) else {}
  touched = {*given, *(field.partition(".")[0] for field in fields)}
  cells = []
  for values in combinations:
    name = ",".join(f"{field}={choice}" for field, choice in values.items()).replace("/", "_")
    store = pathlib.Path(out) / name
    if trainer:
      changed = _changed(shared, values)
      own = {argument: value for argument, value in changed.items() if argument in touched}
      cells.append(Cell(values, what, own, store))
    else:
      cells.append(Cell(values, config.to_dict(changes.changed(what, values)), given, store))
  return cells


def _changed(shared: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
  """A copy of nested arguments with {"argument.field": value} in place of what was there."""
  changed = json.loads(json.dumps(shared))
  for field, value in values.items():
    *sections, last = field.split(".")
    section = changed
    for name in sections:
      section = section.get(name, {}) if isinstance(section, dict) else {}
    if not isinstance(section, dict) or last not in section:
      known = [name for name, _ in config.flatten(shared)]
      raise UserError(f"--grid={field}: no such field{errors.closest(field, known)}")
    section[last] = value
  return changed
