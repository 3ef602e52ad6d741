"""A worker process of `pool.WorkerPool`.

Bound to its core before anything can start JAX; answers frames on its original
stdout (prints of tasks go to stderr); ends when its parent does.
"""

import argparse
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from seedlab import orphans


def main() -> None:
  parser = argparse.ArgumentParser()
  parser.add_argument("--parent", type=int)
  parser.add_argument("--core", type=int)
  place = parser.parse_args()
  if place.parent is not None:
    orphans.end_with_parent(place.parent)

  from seedlab import host, pool

  _heed_signals(pool.ask)
  if place.core is not None:
    host.pin(place.core)
  answers = os.fdopen(os.dup(1), "wb")
  os.dup2(2, 1)

  def send(payload):
    try:
      pool.write_frame(answers, payload)
    except OSError:  # nobody is there to hear an answer, or of a fault in giving it
      os._exit(1)

  pool.send = lambda message: send(pool.pack(message))
  codes = {}  # by their digests; unpacked when a task needs them
  importlib.import_module("seedlab.tasks")  # while the parent prepares the first task
  while True:
    try:
      request = pool.unpack(pool.read_frame(sys.stdin.buffer))
    except EOFError:
      return
    if "code" in request:
      codes[request["code"]] = pool.Code(request["payload"].tobytes(), request["python"])
      continue
    pool.send({"begun": True})  # a worker may take seconds to start, which are not the task's
    send(answer(request["function"], pool.with_codes(request["arguments"], codes)))


def answer(function: str, arguments: Sequence[Any]) -> bytes:
  """What goes back for `function(*arguments)`: its result or its error, packed."""
  from seedlab import memory, parts, pool
  from seedlab.errors import UserError

  try:
    return pool.pack({"result": parts.resolve(function)(*arguments)})
  except UserError as error:
    return pool.pack({"error": "user", "message": str(error)})
  except Exception as error:  # a task's failure is the parent's to report
    if memory.ran_out(error):
      return pool.pack({"error": "user", "message": memory.plainly(error)})
    return pool.pack({"error": "task", "message": traceback.format_exc()})


def _heed_signals(ask: Callable[[int, Any], Any]) -> None:
  """Has a signal never end this process, whoever sent it: its parent does, when it has decided.

  Ctrl-C in a terminal reaches all processes, a batch system's SIGTERM often does. The latter has
  the task under way save what it has, and then go on; so it is also how the parent asks for that.
  """
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  signal.signal(signal.SIGTERM, ask)
  signal.siginterrupt(signal.SIGTERM, False)  # others' code need not expect interrupted calls
  # A data loader's own processes are ended by SIGTERM.
  os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))
  # The pool held them back until here.
  signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
