"""`seedlab ...` in a process of its own, forked from one that has imported everything already.

Importing takes seconds of each command, and how a process is started is the subject of few tests
(tests/test_cli.py). The process that is forked has no JAX backend, whose threads no fork would
have; those of OpenBLAS and jemalloc are theirs to bring back.
"""

import atexit
import functools
import importlib
import json
import os
import subprocess
import sys
import tempfile
from typing import Any

# What the commands import once their flags are right.
_IMPORTED = (
  "sweeps", "grids", "merging", "replaying", "verifying", "audits", "referee", "report.audited",
  "report.comparison_html", "report.figure_files", "report.grid_html", "report.paper",
  "report.sweep_html",
)  # fmt: skip


def command(*words: Any, cwd=None, env=None) -> subprocess.CompletedProcess:
  """Status and outputs of `seedlab WORDS`; where a process cannot be forked it is a new one."""
  words = tuple(map(str, words))
  if not sys.platform.startswith("linux"):  # elsewhere libraries do not survive a fork
    new = [sys.executable, "-m", "seedlab", *words]
    return subprocess.run(new, cwd=cwd, env=env, capture_output=True, text=True)
  with tempfile.TemporaryDirectory() as folder:
    request = {
      "words": words, "cwd": os.fspath(cwd or os.getcwd()), "env": dict(env or os.environ),
      "cores": sorted(os.sched_getaffinity(0)), "folder": folder,
    }  # fmt: skip
    server = _server()
    server.stdin.write(json.dumps(request) + "\n")
    server.stdin.flush()
    status = int(server.stdout.readline())
    said = []
    for name in ("stdout", "stderr"):
      with open(os.path.join(folder, name), newline="") as file:
        said.append(file.read())
  return subprocess.CompletedProcess(words, status, *said)


@functools.cache
def _server() -> subprocess.Popen:
  pipe = subprocess.PIPE
  server = subprocess.Popen([sys.executable, __file__], stdin=pipe, stdout=pipe, text=True)
  atexit.register(server.communicate)  # the end of its input is its own
  return server


def _serve() -> None:
  for name in _IMPORTED:
    importlib.import_module(f"seedlab.{name}")
  from jax._src import xla_bridge

  assert not xla_bridge.backends_are_initialized()
  while line := sys.stdin.readline():
    child = os.fork()
    if not child:
      _become(**json.loads(line))
      return
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _become(words, cwd, env, cores, folder) -> None:
  """This process, in the state in which `python -m seedlab WORDS` starts."""
  os.sched_setaffinity(0, cores)
  os.chdir(cwd)
  os.environ.clear()
  os.environ.update(env)
  sys.path[:] = [cwd, *filter(None, env.get("PYTHONPATH", "").split(os.pathsep)), *sys.path[1:]]
  write = os.O_WRONLY | os.O_CREAT
  files = (os.devnull, os.O_RDONLY), (f"{folder}/stdout", write), (f"{folder}/stderr", write)
  for number, (path, mode) in enumerate(files):
    opened = os.open(path, mode, 0o600)
    os.dup2(opened, number)
    os.close(opened)
  sys.argv = ["seedlab", *words]
  from seedlab import commands

  commands.main()


if __name__ == "__main__":
  _serve()
