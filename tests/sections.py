"""Configs of tests: a base, and what a test changes of it, section by section."""

from collections.abc import Mapping
from typing import Any

from seedlab.changes import changed
from seedlab.config import Config


def merged(base: Mapping[str, Any] | Config, **sections: Any) -> Config:
  """`base` with these fields of these sections; what is no mapping (`augment`) takes their place.

  A part of another name keeps of the old one's options what `changed` lets it keep.
  """
  changes = {}
  for section, fields in sections.items():
    if isinstance(fields, Mapping):
      changes |= {f"{section}.{field}": value for field, value in fields.items()}
    else:
      changes[section] = fields
  return changed(base, changes)
