"""A worker process of `pool.WorkerPool`.

Bound to its core before anything can start JAX; answers frames on its original
stdout (prints of tasks go to stderr); leaves when its parent does.
"""

import argparse
import importlib
import os
import re
import signal
import sys
import threading
import time
import traceback


def main() -> None:
  parser = argparse.ArgumentParser()
  parser.add_argument("--parent", type=int, required=True)
  parser.add_argument("--core", type=int)
  arguments = parser.parse_args()
  threading.Thread(target=_leave_with, args=(arguments.parent,), daemon=True).start()
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us

  from seedlab import host, parts, pool
  from seedlab.errors import UserError

  if arguments.core is not None:
    host.pin(arguments.core)
  answers = os.fdopen(os.dup(1), "wb")
  os.dup2(2, 1)

  def send(message):
    pool.write_frame(answers, pool.pack(message))

  pool.send = send
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
    try:
      arguments = pool.with_codes(request["arguments"], codes)
      send({"result": parts.resolve(request["function"])(*arguments)})
    except UserError as error:
      send({"error": "user", "message": str(error)})
    except Exception as error:  # a task's failure is the parent's to report
      message = traceback.format_exc()
      if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        send({"error": "user", "message": _out_of_memory(error)})
      else:
        send({"error": "task", "message": message})


def _out_of_memory(error: Exception) -> str:
  wanted = re.search(r"allocating (\d+) bytes", str(error))
  size = f" for {int(wanted[1]) / 2**30:.1f} GiB at once" if wanted else ""
  return (
    f"there is not enough memory{size}: make the model (model.width), data.train_examples,"
    " evaluation.batch_size, the images or --width smaller"
  )


def _leave_with(parent: int) -> None:
  """Ends this process within a fraction of a second of its parent's death, whatever it is doing."""
  while os.getppid() == parent:
    time.sleep(0.2)
  os._exit(1)
