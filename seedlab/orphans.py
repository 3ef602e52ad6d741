"""No worker outlives its parent by two seconds, however that ended and whatever the worker does:

computing in C with the interpreter's lock held, stopped by a signal, waiting for swapped memory.
So it is never the worker itself that has to notice.

  Linux      the kernel kills it (`end_with_parent`; prctl(2), PR_SET_PDEATHSIG) when the *thread*
             of the parent that started it ends, which is why each place of a pool has one
  elsewhere  a shell kills it (`guard`), one for each worker: it reads from a pipe that only the
             parent holds open, and that is closed when the parent ends in whatever way (and with
             it every copy of itself that the parent made by `fork` alone)

A number of a process is used again only after the process has been waited for. A guard is dismissed
right after that, and it does nothing while the parent lives: to hit another process, the parent
would have to be killed within these microseconds, and the number given away at once.
"""

import ctypes
import os
import signal
import subprocess
import sys

KERNEL = sys.platform == "linux"  # whether the kernel does it
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_GUARD = 'trap "" INT TERM HUP; read -r _; kill -9 "$1"'


def end_with_parent(parent: int) -> None:
  """Has the kernel kill this process when its parent's thread ends; Linux alone."""
  ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
  if os.getppid() != parent:  # it died before the kernel was asked
    os._exit(1)


def guard(worker: int) -> subprocess.Popen:
  """Starts a process that kills `worker` as soon as this one has ended; see `dismiss`.

  It is in a session of its own, so that no signal meant for this process's group reaches it.
  """
  return subprocess.Popen(
    ["/bin/sh", "-c", _GUARD, "seedlab-guard", str(worker)],
    stdin=subprocess.PIPE,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
    start_new_session=True,
  )


def dismiss(guardian: subprocess.Popen) -> None:
  """Ends what `guard` started, whose worker has been waited for."""
  guardian.kill()
  guardian.communicate()  # closes the pipe, and waits
