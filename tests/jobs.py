"""Functions for worker processes to run in tests."""

import ctypes
import multiprocessing
import os
import pathlib
import signal
import time

from seedlab import pool
from seedlab.errors import UserError


def double(number, array):
  return {"number": 2 * number, "array": 2 * array}


def cores_and_threads():
  """The cores of this worker, and how many threads XLA:CPU made for itself."""
  import jax.numpy as jnp

  (jnp.ones((300, 300)) @ jnp.ones((300, 300))).block_until_ready()
  names = [(task / "comm").read_text() for task in pathlib.Path("/proc/self/task").iterdir()]
  return [sorted(os.sched_getaffinity(0)), names.count("tf_XLAEigen\n")]


def chatter():
  print("a task prints", flush=True)
  os.write(1, b"and writes\n")
  return "done"


def refuse(value):
  raise UserError(f"field={value} must be 4")


def fail():
  return 1 / 0


def run_out_of_memory():
  import jax.numpy as jnp

  return float(jnp.zeros(10**14, jnp.float32).sum())


def nap(rows, endless):
  """The rows again, if none of them is among the endless."""
  while set(rows) & set(endless):
    time.sleep(3600)
  return rows


def die():
  os.kill(os.getpid(), signal.SIGKILL)


def die_once(marker):
  if not os.path.exists(marker):
    pathlib.Path(marker).touch()
    die()
  return "second time"


def report_progress():
  pool.progress(0.5)
  pool.progress(1.0)
  return "done"


def save_again_and_again():
  """Goes on without end, and says that it saved seven runs when it is asked to."""
  while True:
    pool.progress(0.5)
    if pool.asked():
      pool.saved(7)
    time.sleep(0.01)


def report_slowly():
  pool.progress(1.0)
  time.sleep(1.1)
  pool.progress(2.0)
  return "done"


def call(code, *arguments):
  """What a function that travelled by value returns, and where."""
  return [code.load()(*arguments), os.getpid(), id(code)]


def sleep(seconds):
  time.sleep(seconds)


def speak_then_sleep(directory):
  """Leaves a file with this process's number at each call, reports progress once, then sleeps."""
  pathlib.Path(directory, str(os.getpid())).touch()
  pool.progress(0.5)
  time.sleep(600)


def save_when_asked(directory, runs):
  """Tells of progress until it is asked to save, says that it did, and goes on a little."""
  while not pool.asked():
    pool.progress(0.5)
    time.sleep(0.01)
  pool.saved(runs)
  time.sleep(0.1)
  return "went on"


def terminate_a_fork():
  """How a process ends that was forked here, as data loaders do, and then terminated."""
  context = multiprocessing.get_context("fork")
  begun = context.Event()  # before that it has the handlers of this process, for a moment
  process = context.Process(target=_begin, args=(begun,))
  process.start()
  begun.wait(30)
  process.terminate()
  process.join(10)
  code = process.exitcode
  process.kill()
  return code


def _begin(begun):
  begun.set()
  time.sleep(600)


def hold_the_lock(directory):
  """Leaves a file, then lets no other Python thread of this process run for ten minutes."""
  pathlib.Path(directory, str(os.getpid())).touch()
  ctypes.PyDLL(None).sleep(600)


def start_again_and_hold_the_lock(directory):
  """Takes the first worker down; on the second one as above."""
  die_once(os.path.join(directory, "died"))
  hold_the_lock(directory)


def speak_forever(directory):
  """Leaves a file, then reports progress without end."""
  pathlib.Path(directory, str(os.getpid())).touch()
  while True:
    pool.progress(0.5)


def compute_forever(directory):
  """Leaves a file, then holds the device in one long compiled loop."""
  import jax
  import jax.numpy as jnp

  pathlib.Path(directory, str(os.getpid())).touch()

  @jax.jit
  def spin(x):
    return jax.lax.while_loop(lambda x: x[0] < 2, lambda x: jnp.sin(x), x)

  return float(spin(jnp.ones(8))[0])


def alive(pid: int) -> bool:
  """Whether the process exists and is more than a zombie."""
  try:
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
  except OSError:
    return False
