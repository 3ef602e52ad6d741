"""The same worker processes for all tests that are not about workers: a new one takes seconds."""

import atexit
import contextlib
import os
import sys
from collections.abc import Iterator

from seedlab import experiment, grids, pool
from seedlab.studies import runner

shared = True  # not in a test that is marked `own_workers`
_kept: dict[tuple, pool.WorkerPool] = {}


def share() -> None:
  """From now on, those who open a pool get workers that are there."""
  for module in (experiment, grids, runner):
    module.local_pool = local_pool
  atexit.register(_end)


@contextlib.contextmanager
def local_pool(workers: int | None = None) -> Iterator[pool.WorkerPool]:
  """`pool.local_pool`, but that all who ask for as many workers get the same ones.

  They end with this process, after an error, whose tasks may be under way, and when a worker that
  is started now would have other variables, another path of modules or other cores.
  """
  if not shared:
    with pool.local_pool(workers) as executor:
      yield executor
    return
  variables = {name: text for name, text in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
  cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
  around = (*sorted(variables.items()), *sys.path, os.getcwd(), *sorted(cores))
  if any(kept != around for _, kept in _kept):
    _end()
  key = workers, around
  if key not in _kept:
    _kept[key] = pool.local_pool(workers)
  try:
    yield _kept[key]
  except BaseException:
    _end()
    raise


def _end() -> None:
  while _kept:
    _kept.popitem()[1].shutdown(cancel_futures=True)
