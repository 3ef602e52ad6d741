"""One worker process for all sweeps and replays that are not about workers: one takes seconds."""

import atexit
import contextlib
import functools

from seedlab import pool


def local_pool(workers: int | None = None) -> contextlib.AbstractContextManager[pool.WorkerPool]:
  """`pool.local_pool`, but that all who ask for one worker get the same."""
  return contextlib.nullcontext(_shared()) if workers == 1 else pool.local_pool(workers)


@functools.cache
def _shared() -> pool.WorkerPool:
  """It ends with this process, and has the environment and `sys.path` of the first call."""
  executor = pool.local_pool(1)
  atexit.register(executor.shutdown)
  return executor
