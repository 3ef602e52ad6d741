"""What `soak.py` does to the processes and to the files of a sweep; for Linux.

A fault takes the counts, its dice and the command's process, and returns the statuses with which
that may end from now on.
"""

import collections
import contextlib
import os
import pathlib
import random
import resource
import signal
import subprocess
import time
from typing import NamedTuple

ORPHANS_MAY_LIVE = 2.0  # seconds

Counts = collections.Counter[str]
Child = subprocess.Popen[str]


class Found(Exception):
  """Something that must not happen."""


def kill_parent(counts: Counts, dice: random.Random, child: Child) -> set[int]:
  """SIGKILL; the workers, of which one may have been stopped, have to end with it."""
  if dice.random() < 0.3:
    _signal_worker(dice, child, signal.SIGSTOP)
  child.kill()
  child.wait()
  counts["parents killed"] += 1
  end = time.monotonic() + ORPHANS_MAY_LIVE
  while (orphans := session(child.pid)) and time.monotonic() < end:
    time.sleep(0.02)
  for orphan in orphans:
    with contextlib.suppress(ProcessLookupError):
      os.kill(orphan, signal.SIGKILL)
  counts["workers that outlived their parent"] += len(orphans)
  if orphans:
    raise Found(f"{len(orphans)} processes outlived their parent by {ORPHANS_MAY_LIVE} s")
  return {-signal.SIGKILL}


def kill_worker(counts: Counts, dice: random.Random, child: Child) -> set[int]:
  """SIGKILL to one of them, as soon as there is one."""
  while child.poll() is None and not workers_of(child):
    time.sleep(0.1)
  counts["workers killed"] += _signal_worker(dice, child, signal.SIGKILL)
  return {2}  # a task that has lost three workers in a row is given up


def stop(counts: Counts, dice: random.Random, child: Child) -> set[int]:
  """SIGSTOP to the parent or a worker, and SIGCONT later."""
  victim = dice.choice([child.pid, *workers_of(child)])
  with contextlib.suppress(ProcessLookupError):
    os.kill(victim, signal.SIGSTOP)
    counts["processes stopped for a while"] += 1
    time.sleep(dice.uniform(0.1, 1.5))
    os.kill(victim, signal.SIGCONT)
  return set()


def terminate(counts: Counts, dice: random.Random, child: Child) -> set[int]:
  """SIGTERM, as batch systems send it."""
  child.terminate()
  counts["parents terminated"] += 1
  return {143, -signal.SIGTERM}  # while Python starts, it ends as any process does


def fill_disk(counts: Counts, dice: random.Random, child: Child) -> set[int]:
  """From now on the parent's files cannot grow, which to it is a full disk."""
  _, most = resource.prlimit(child.pid, resource.RLIMIT_FSIZE)
  resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (dice.choice([0, 200, 1000]), most))
  counts["full disks"] += 1
  return {2}


def session(leader: int) -> dict[int, bytes]:
  """The living processes of a session, by number, with their command lines."""
  found = {}
  for folder in pathlib.Path("/proc").glob("[0-9]*"):
    with contextlib.suppress(OSError):  # it has ended meanwhile
      state, _, _, number = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
      if int(number) == leader and state not in "ZX":
        found[int(folder.name)] = (folder / "cmdline").read_bytes()
  return found


def workers_of(child: Child) -> list[int]:
  """The process numbers of a command's worker processes."""
  return sorted(pid for pid, words in session(child.pid).items() if b"seedlab.worker" in words)


def _signal_worker(dice: random.Random, child: Child, number: signal.Signals) -> int:
  """Sends a signal to one of the workers; how many got it, 0 or 1."""
  with contextlib.suppress(ProcessLookupError, IndexError):  # there are none, or it has ended
    os.kill(dice.choice(workers_of(child)), number)
    return 1
  return 0


class Struck(NamedTuple):
  """A file of a store that was changed."""

  file: pathlib.Path
  before: bytes
  flipped: bool  # else deleted

  @property
  def irreparable(self) -> bool:
    """The manifest says what the sweep is: no command can make it again."""
    return self.flipped and self.file.name == ".zmetadata"

  def undo(self) -> None:
    self.file.parent.mkdir(exist_ok=True)
    self.file.write_bytes(self.before)


def strike(dice: random.Random, out: pathlib.Path) -> Struck:
  """Flips a bit of a random file of a store, or deletes it."""
  files = sorted(file for file in out.rglob("*") if file.is_file() and file.name != ".lock")
  file = dice.choice(files)
  before = file.read_bytes()
  struck = Struck(file, before, bool(before) and dice.random() < 0.8)
  if struck.flipped:
    bit, changed = dice.randrange(8 * len(before)), bytearray(before)
    changed[bit // 8] ^= 1 << bit % 8
    file.write_bytes(changed)
  else:
    file.unlink()
  return struck
