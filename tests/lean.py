"""What commands have loaded when they end: `python lean.py '[[MODULES, WORDS], ...]'`.

Each command is a fork of this process, which first imports the MODULES that it and all later ones
use: so the libraries that many of them need are imported once. Prints a JSON line for each, its
exit status and the packages that are loaded.
"""

import importlib
import json
import os
import sys


def loaded(words: list[str]) -> tuple[int, list[str]]:
  """Status of `seedlab WORDS`, called in this process, and the packages loaded after it."""
  os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
  sys.argv = ["seedlab", *words]
  from seedlab import commands

  try:
    commands.main()
  except SystemExit as end:
    return end.code or 0, sorted({name.partition(".")[0] for name in sys.modules})


def main() -> None:
  for modules, words in json.loads(sys.argv[1]):
    for name in modules:
      importlib.import_module(name)
    reader, writer = os.pipe()
    if not os.fork():
      os.write(writer, json.dumps(loaded(words)).encode())
      os._exit(0)
    os.close(writer)
    with open(reader) as answer:
      print(answer.read(), flush=True)
    os.wait()


if __name__ == "__main__":
  main()
