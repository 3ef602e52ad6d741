"""Tasks of a sweep on an executor: few under way at once, watched, and halved where they fail.

A task is some rows of the store. One that fails is tried again in halves, until the run that is to
blame stands alone: that run has failed, and holds nobody up.
"""

import concurrent.futures
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from seedlab import cluster
from seedlab.errors import UserError
from seedlab.pool import RunEnded, Task, WorkerDied

Future = concurrent.futures.Future
_LOOK_SECONDS = 1.0  # between looks at how long tasks have been silent
_LATE = 4  # times as long as expected is late, for a task that says nothing until its end
_FIRST_FAILURES = 3  # of single runs before any has finished: the experiment itself is wrong
_FAILURES_IN_A_ROW = 10  # of single runs later on: something else has broken


class Failed(NamedTuple):
  """How a run ended that has no outcome."""

  reason: str
  error: Exception


class Watch(NamedTuple):
  """How long tasks may take.

  Attributes:
    width: runs that a worker trains at once.
    expected: seconds of a task of that many runs, as measured beforehand.
    silent: seconds without a word after which a task is reported once; 0: never.
    longest: seconds that a run may take before it is ended; None: any.
    report: takes the rows of a silent task and the seconds of silence.
  """

  width: int
  expected: float
  silent: float
  longest: float | None
  report: Callable[[np.ndarray, float], None]


def outcomes(
  executor: concurrent.futures.Executor,
  submit: Callable[[np.ndarray], Future],
  pending: Sequence[np.ndarray],
  watch: Watch,
  in_order: bool,
  count: int | None = None,
) -> Iterator[tuple[np.ndarray, Future, Any]]:
  """(rows, task, its result or Failed) as tasks finish, or in the order of their rows.

  Two tasks a worker are under way, for as many workers as there are then. The halves of a task of
  several runs that failed come later. An exception or Ctrl-C leaves no task queued.

  Args:
    submit: sends some rows to the executor.
    pending: int[n], ascending rows of each task.
    count: workers, where that does not follow from the executor.

  Raises UserError for what no other run would do better: an input that cannot be right.
  """
  waiting = list(pending)[::-1]
  running: dict[Future, np.ndarray] = {}
  began: dict[Future, float] = {}
  told: set[Future] = set()
  try:
    while waiting or running:
      ahead = 2 * (count or cluster.size(executor))
      while waiting and len(running) < ahead:
        rows = waiting.pop()
        task = submit(rows)
        running[task], began[task] = rows, time.monotonic()
      awaited = [min(running, key=lambda task: running[task][0])] if in_order else list(running)
      done, _ = concurrent.futures.wait(
        awaited, _LOOK_SECONDS, return_when=concurrent.futures.FIRST_COMPLETED
      )
      for task in done:
        rows = running.pop(task)
        result = _result(task)
        if isinstance(result, Failed) and len(rows) > 1:
          waiting += _halves(rows, watch.width)[::-1]
        yield rows, task, result
      if not done:
        _look(executor, running, began, told, watch)
  finally:
    for task in running:
      task.cancel()


def check_failures(in_a_row: int, finished: bool, last: Failed) -> None:
  """Raises the last failure where so many single runs failed that the others would too.

  Args:
    in_a_row: how many failed since one finished.
    finished: whether any run of the sweep ever did.
  """
  if not finished and in_a_row >= _FIRST_FAILURES:
    raise last.error
  if in_a_row >= _FAILURES_IN_A_ROW:
    raise UserError(
      f"{in_a_row} runs in a row failed and are stored as failed, the last with: {last.reason};"
      " mend the cause and train them with --retry_failed; the same command goes on without them"
    ) from last.error


def _result(task: Future) -> Any:
  """What a task that is done gave, or how it failed."""
  try:
    return task.result()
  except (WorkerDied, RunEnded) as error:
    return Failed(str(error), error)
  except (UserError, concurrent.futures.BrokenExecutor):
    raise
  except Exception as error:  # whatever the experiment's own code raises
    return Failed(_last_line(error), error)


def _last_line(error: Exception) -> str:
  """The error itself, where its text is a traceback."""
  lines = [line for line in str(error).splitlines() if line.strip()]
  if not lines:
    return type(error).__name__
  if getattr(error, "worker_traceback", False):
    # After the last line of a frame, which is indented, comes the error, perhaps of many lines.
    framed = [at for at, line in enumerate(lines) if line.startswith(" ")]
    return lines[min(framed[-1] + 1 if framed else 0, len(lines) - 1)]
  return f"{type(error).__name__}: {lines[0]}"


def _halves(rows: np.ndarray, width: int) -> list[np.ndarray]:
  """Two tasks in place of one; whole groups of lanes stay together as long as there are two."""
  groups = -(-len(rows) // width)
  at = groups // 2 * width if groups > 1 else len(rows) // 2
  return [rows[:at], rows[at:]]


def _look(executor, running, began, told, watch: Watch) -> None:
  """Ends tasks that have taken too long, and reports silent ones."""
  now = time.monotonic()
  for task, rows in running.items():
    groups = -(-len(rows) // watch.width)
    if not isinstance(task, Task):  # says nothing before its end, and may be waiting until then
      silence, silent = now - began[task], max(watch.silent, 2 * _LATE * watch.expected * groups)
    elif task.started is None:
      continue
    else:
      silence, silent = now - (task.heard or task.started), watch.silent
      # Runs of a group are trained at once, groups one after the other, and each says something.
      longest = watch.longest or math.inf
      if silence > longest or now - task.started > longest * groups:
        executor.end(task, f"it took longer than --run_minutes={longest / 60:g}")
        continue
    if watch.silent and silence > silent and task not in told:
      told.add(task)
      watch.report(rows, silence)
