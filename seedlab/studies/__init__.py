"""Studies: each answers one question by several sweeps, and has a folder of its own here.

A folder holds settings (which experiments there are), sweeps (which of them run, how often),
claims (fixed before training), analysis (what the runs say about them), tables and figures; its
`STUDY` names them. A new study is a new folder.
"""

import importlib
import pkgutil

from seedlab.studies.study import Study


def names() -> list[str]:
  """The studies there are, found without importing them."""
  return sorted(found.name for found in pkgutil.iter_modules(__path__) if found.ispkg)


def load(name: str) -> Study:
  """The study in the folder of this name."""
  return importlib.import_module(f"{__name__}.{name}").STUDY
