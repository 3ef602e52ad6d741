"""Executors that seedlab did not make: how much work they do at once."""

import concurrent.futures
from typing import Any


def size(executor: concurrent.futures.Executor) -> int:
  """How many tasks an executor runs at once now, at least 1.

  Known are seedlab's own pool, Dask's `Client.get_executor()`, the pools of `concurrent.futures`
  and those of mpi4py; any other counts as one worker.
  """
  if hasattr(executor, "_client"):  # Dask's, whose workers come and go
    return max(1, _threads(executor))
  for name in ("size", "_max_workers", "num_workers"):
    found = getattr(executor, name, None)
    if isinstance(found, int) and not isinstance(found, bool):
      return max(1, found)
  return 1


def _threads(executor: Any) -> int:
  """Threads of the workers that a Dask executor may use."""
  named = executor._kwargs.get("workers")
  return sum(executor._client.nthreads(workers=named).values())
