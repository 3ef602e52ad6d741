"""Changes of a config: flags, the cells of a grid and the words of a study are settled here.

The new names of parts come first, then the other changes, then what the config says already.
"""

import re
from collections.abc import Mapping
from typing import Any

from ml_collections import config_dict

from seedlab import config as configs
from seedlab import parts
from seedlab.config import LISTS, PARTS, SECTIONS, Config, Part, Schedule
from seedlab.errors import UserError, closest


def changed(
  values: Mapping[str, Any] | config_dict.ConfigDict | Config, changes: Mapping[str, Any]
) -> Config:
  """A config with {"section.field": value} in place of what was there, checked.

  Names of parts are settled first, then the other changes, then what `values` says. Of the
  options that `values` gives to a part that was replaced, those that the new part has are kept,
  those at the old part's default are dropped, and any other is refused.

  Args:
    values: a Config, or what `parse` takes.
    changes: "section.field", "section" with a name (or with the list of `augment`), or
      "augment[0].field".

  Raises:
    UserError: a field that is not known, an option that the new part does not have, a wrong value.
  """
  values = configs.plain(values)
  named = {field.removesuffix(".name"): value for field, value in changes.items() if _names(field)}
  for section, name in named.items():
    _rename(values, section, name)
  for field, value in changes.items():
    if not _names(field):
      _set(values, field, value)
  return configs.parse(values)


def _names(field: str) -> bool:
  """Whether a change of `field` says which part a section is."""
  section = field.removesuffix(".name")
  return section in (*PARTS, *configs.DEFAULTS)


def _rename(values: dict[str, Any], section: str, name: Any) -> None:
  """Makes `section` the part `name`; what the new part does not have is dropped or refused."""
  if not isinstance(name, str):
    raise UserError(f"{section}={name!r} must be the name of a part: give its options one by one")
  old = values.get(section) or {}
  old = {"name": old} if isinstance(old, str) else dict(old)
  before = old.pop("name", configs.default_name(section))
  if name != before:
    ours = configs.own_fields(section)
    had = parts.options(section, parts.find(section, before))
    has = parts.options(section, parts.find(section, name))
    for option, value in list(old.items()):
      if option in ours or option in has:
        continue
      if option in had and not had[option].needed and _same(value, had[option].default):
        del old[option]
        continue
      raise UserError(
        f"{section}.{option}={value!r} was set for {section}.name={before!r}, and {name!r} does not"
        f" read it; set {section}.{option} back to {before!r}'s default first, or leave it out"
      )
  values[section] = {"name": name, **old}
  if section == "model":
    _drop_unasked(
      values, "activation", "activation" in parts.takes("model", parts.find("model", name))
    )
  if section == "optimizer":
    asks = "learning_rate" in parts.takes("optimizer", parts.find("optimizer", name))
    _drop_unasked(values, "schedule", asks)


def _drop_unasked(values: dict[str, Any], section: str, asked: bool) -> None:
  """Drops a section that nobody asks for any more, if it is at its default."""
  there = values.get(section)
  if asked or there is None:
    return
  cls = Schedule if section == "schedule" else Part
  if configs.part_of(cls, section, there, section) == configs.part_of(cls, section, {}, section):
    del values[section]


def _same(a: Any, b: Any) -> bool:
  return a == b or (isinstance(a, list) and isinstance(b, tuple) and tuple(a) == b)


def _set(values: dict[str, Any], field: str, value: Any) -> None:
  """Sets one field, creating its section; the field itself is checked by `parse`."""
  if field in LISTS:  # as a whole
    section, _, last = field.rpartition(".")
    place = values.setdefault(section, {}) if section else values
    place[last] = configs.as_list(field, value)
    return
  *path, last = field.split(".")
  place: Any = values
  walked: list[str] = []
  for name in path:
    walked.append(name)
    listed = re.fullmatch(r"(\w+)\[(\d+)\]", name)
    key = listed[1] if listed else name
    if key not in place or place[key] is None:
      place[key] = [] if listed else {}
    elif isinstance(place[key], str):
      place[key] = {"name": place[key]}
    inner = place[key]
    if listed:
      number = int(listed[2])
      if not isinstance(inner, list) or number >= len(inner):
        size = len(inner) if isinstance(inner, list) else 0
        raise UserError(f"{field}: {key} has {size} entries, counted from 0")
      if isinstance(inner[number], str):
        inner[number] = {"name": inner[number]}
      inner = inner[number]
    place = inner
    if not isinstance(place, dict):
      raise UserError(f"{field}: {'.'.join(walked)} is not a section")
  if not path:
    known = field in SECTIONS
    raise UserError(
      f"{field} is a section: give its fields ({field}.NAME=VALUE)"
      if known
      else f"{field} is not a field{closest(field, SECTIONS)}; sections: {', '.join(SECTIONS)}"
    )
  place[last] = value
