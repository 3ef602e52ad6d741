"""Names to functions."""

import importlib
from typing import Any


def resolve(name: str) -> Any:
  """What "module:qualified.name" names; raises ImportError or AttributeError."""
  module, _, path = name.partition(":")
  found = importlib.import_module(module)
  for part in path.split("."):
    found = getattr(found, part)
  return found
