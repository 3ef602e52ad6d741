"""Progress of a sweep on stderr: a bar on a terminal, else one plain line every ten seconds."""

import collections
import sys
import threading
import time

from seedlab import console
from seedlab.errors import counted

_LINE_SECONDS = 10.0
_RECENT_SECONDS = 60.0  # the speed is that of the last minute: runs of a study differ in length


def say(quiet: bool, message: str) -> None:
  """One line on stderr, unless `quiet`."""
  if not quiet:
    console.say(message)


def duration(seconds: float) -> str:
  """About how long, in words."""
  if seconds < 90:
    return f"{seconds:.0f} s"
  return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Progress:
  """Counts finished runs, and the finished part of runs under way."""

  def __init__(self, total: int, quiet: bool = False):
    self.total, self.quiet = total, quiet
    self._done = 0
    self._parts: dict[int, float] = {}
    self._lock = threading.Lock()
    self._bar = None

  def __enter__(self):
    self._last_line = time.monotonic()
    self._seen = collections.deque([(self._last_line, 0.0)])  # moments and runs done until then
    if not self.quiet and sys.stderr.isatty():
      self._bar = _bar()
      self._bar.start()
      self._task = self._bar.add_task("runs", total=self.total, speed="")
    return self

  def __exit__(self, kind, value, trace):
    if self._bar:
      self._bar.stop()
    elif not self.quiet and kind is None:
      self._line(self._done)

  def found(self, runs: int) -> None:
    """`runs` had been stored before; they say nothing about the speed."""
    with self._lock:
      self._done += runs
      self._seen = collections.deque((moment, done + runs) for moment, done in self._seen)
      self._show()

  def part(self, task: int, runs: float) -> None:
    """`runs` of a task are done, but not yet stored; called from the workers' threads."""
    with self._lock:
      self._parts[task] = runs
      self._show()

  def finished(self, task: int | None, runs: int) -> None:
    """All `runs` of a task are stored."""
    with self._lock:
      if task is not None:
        self._parts.pop(task, None)
      self._done += runs
      self._show()

  def _show(self) -> None:
    done = self._done + sum(self._parts.values())
    if self._bar:
      self._bar.update(self._task, completed=done, speed=_per_time(self._rate(done)))
    elif not self.quiet and time.monotonic() - self._last_line >= _LINE_SECONDS:
      self._last_line = time.monotonic()
      self._line(done)

  def _line(self, done: float) -> None:
    speed, rate = "", self._rate(done)
    if done >= 1 and rate:  # before that it would be a guess
      speed = f", {_per_time(rate)}, {_clock((self.total - done) / rate)} left"
    console.say(f"{int(done)} of {counted(self.total, 'run')}{speed}")

  def _rate(self, done: float) -> float:
    now = time.monotonic()
    self._seen.append((now, done))
    while len(self._seen) > 2 and self._seen[1][0] <= now - _RECENT_SECONDS:
      self._seen.popleft()
    since, before = self._seen[0]
    return max(done - before, 0.0) / max(now - since, 1e-9)


def _per_time(rate: float) -> str:
  return f"{rate:.1f} runs/s" if rate >= 1 else f"{rate * 3600:.0f} runs/h"


def _bar():
  from rich import progress
  from rich.console import Console

  return progress.Progress(
    progress.BarColumn(),
    progress.MofNCompleteColumn(),
    progress.TextColumn("runs  {task.fields[speed]}"),
    progress.TimeRemainingColumn(elapsed_when_finished=True),
    console=Console(stderr=True),
  )


def _clock(seconds: float) -> str:
  minutes, rest = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f"{hours}:{minutes:02}:{rest:02}"
