"""Parts of a measurement that end in every way there is."""

import os
import signal
import subprocess
import sys
import time

from seedlab.commands.accelerator_parts import TimeUp, found, record
from seedlab.errors import UserError


def whole(place):
  earlier = found(place).get("times", 0)
  record(place, "times", earlier + 1)
  record(place, "row", {"x": 0.5, "infinite": float("inf"), "all": [1, 2]})


def fails(place):
  record(place, "before", 1)
  raise UserError("a step is missing; add it")


def short_of_memory(place):
  record(place, "before", 1)
  raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 99 bytes")


def is_killed(place):
  record(place, "before", 1)
  os.kill(os.getpid(), signal.SIGKILL)


def hangs(place):
  sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
  record(place, "worker", sleeper.pid)
  time.sleep(600)


def in_time(place):
  record(place, "before", 1)
  raise TimeUp("2 of 3 cases are left")
