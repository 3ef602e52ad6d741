"""The commands: `seedlab NAME`, `python -m seedlab NAME` and `scripts/NAME.py` are the same.

Each is a module here: its docstring is its help, whose first line `seedlab --help` lists, its flags
are absl's, POSITIONAL names what it takes beside flags, and `main` does the work.
"""

import ast
import importlib
import os
import pathlib
import sys
from typing import NoReturn

import seedlab
from seedlab import cli, console, parts
from seedlab.errors import UserError, closest

COMMANDS = ("sweep", "merge", "report", "compare", "judge", "audit", "replay", "verify", "study",
            "bench", "accelerator")


def main(name: str | None = None) -> NoReturn:
  """Runs command `name`, or the one that the command line names, and exits with its status."""
  cli.answer(lambda: _run([name, *sys.argv[1:]] if name else sys.argv[1:]))


def _run(words: list[str]) -> int | None:
  sys.argv = ["seedlab", *words]  # whichever way it was started, messages name the same command
  if not words or words[0] in cli.HELP:
    console.write(_help())
    return None
  if words[0] == "--version":
    console.write(f"seedlab {seedlab.__version__}")
    return None
  name, *arguments = words
  if name not in COMMANDS:
    near = closest(name, COMMANDS)
    raise UserError(f"{name!r} is not a command{near}; commands: {', '.join(COMMANDS)}")
  sys.argv = [f"seedlab {name}", *arguments]
  parts.PLACES.append(os.getcwd())  # where the module of one's own Trainer lies
  module = importlib.import_module(f"{__name__}.{name}")
  return cli.call(module.main, module.POSITIONAL)


def _help() -> str:
  lines = ["usage: seedlab COMMAND [arguments] [flags]", ""]
  for name in COMMANDS:
    # Read and not imported: the modules define flags of the same names.
    tree = ast.parse(pathlib.Path(__file__).with_name(f"{name}.py").read_text())
    lines.append(f"  {name:<12}{(ast.get_docstring(tree) or '').splitlines()[0]}")
  lines += ["", "exit status:", *(f"  {code:<5}{what}" for code, what in cli.STATUSES.items())]
  lines += ["", "seedlab COMMAND --help lists its flags and what else it may exit with."]
  return "\n".join(lines)
