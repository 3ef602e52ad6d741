"""One sweep for every combination of values, each in a store of its own."""

import concurrent.futures
import contextlib
import json
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from seedlab import config, errors
from seedlab.errors import UserError
from seedlab.experiment import check, experiment
from seedlab.pool import check_workers, local_pool
from seedlab.progress import say
from seedlab.stopping import plans_of
from seedlab.sweeps import run_numbers, sweep


def grid(
  values: Mapping[str, Any],
  fields: Mapping[str, Sequence[Any]],
  runs: Iterable[int] | int | None,
  out: str | os.PathLike,
  *,
  workers: int | None = None,
  executor: concurrent.futures.Executor | None = None,
  **options: Any,
) -> list[tuple[dict[str, Any], pathlib.Path]]:
  """One sweep for every combination of field values, each in its own store below `out`.

  Args:
    values: the config all cells share.
    fields: {"section.field": values}.
    runs, options: as for `sweep`.

  Returns:
    (the cell's field values, its store) in order.
  """
  if isinstance(values, str) or callable(values):
    raise UserError("--grid needs a config; run a Trainer of your own once for each --arguments")
  check_workers(workers)
  cells = grid_cells(values, fields, out)
  pool = contextlib.nullcontext(executor) if executor else local_pool(workers)
  with pool as shared:
    for _, values, _ in cells:  # a mistake in the last cell is found before the first one trains
      described = experiment(values, data_dir=options.get("data_dir"))
      asked = (options.get(name) for name in ("planned_n", "stop", "max_runs"))
      plans_of(*asked, runs, described.seeds, ())
      run_numbers(options.get("max_runs") or runs, described.seeds)
      check(described, shared)
    for cell, values, directory in cells:
      say(options.get("quiet", False), ", ".join(f"{name}={cell[name]}" for name in cell))
      sweep(values, runs, directory, executor=shared, workers=workers, **options)
  return [(cell, directory) for cell, _, directory in cells]


def grid_cells(
  values: Mapping[str, Any], grid: Mapping[str, Sequence[Any]], out: str | os.PathLike
) -> list[tuple[dict[str, Any], dict[str, Any], pathlib.Path]]:
  """(the cell's field values, its config, its store) for every combination; all of them checked."""
  cells: list[dict[str, Any]] = [{}]
  for field, choices in grid.items():
    if len(set(map(str, choices))) != len(choices):
      raise UserError(f"--grid={field} names a value twice: {','.join(map(str, choices))}")
    cells = [cell | {field: choice} for cell in cells for choice in choices]
  found = []
  for cell in cells:
    changed = json.loads(json.dumps(values))
    for field, choice in cell.items():
      *sections, last = field.split(".")
      section = changed
      for name in sections:
        section = section.get(name, {}) if isinstance(section, dict) else {}
      if not isinstance(section, dict) or last not in section:
        known = [name for name, _ in config.flatten(values)]
        raise UserError(f"--grid={field}: no such field{errors.closest(field, known)}")
      section[last] = choice
    name = ",".join(f"{field}={choice}" for field, choice in cell.items()).replace("/", "_")
    found.append((cell, config.to_dict(config.parse(changed)), pathlib.Path(out) / name))
  return found
