"""The shape of the code, where no tool of `make lint` checks it."""

import ast
import pathlib

ROOT = pathlib.Path(__file__).parent.parent
FOLDERS = ("seedlab", "scripts", "configs", "tests")
TABLES = ()  # functions that are one long table, as "seedlab/file.py:name"


def test_no_function_is_longer_than_80_lines():
  found = {}
  for path in (path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")):
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= 80:
        found[f"{path.relative_to(ROOT)}:{node.name}"] = node.end_lineno - node.lineno + 1
  assert set(found) == set(TABLES), found


def test_nothing_is_decided_by_a_clock_that_can_be_set():
  """Clocks of machines jump: durations are measured by time.monotonic."""
  code = {path: path.read_text() for path in (ROOT / "seedlab").rglob("*.py")}
  assert not [path.name for path, text in code.items() if "time.time(" in text]
