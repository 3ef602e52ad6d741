"""Changes of a config: flags, the cells of a grid and the words of a study are settled here.

The new names of parts come first, then the other changes, then what the config says already.
"""

import functools
import re
from collections.abc import Mapping
from typing import Any

from ml_collections import config_dict

from seedlab import config as configs
from seedlab import parts
from seedlab.config import LISTS, SECTIONS, Config, Part, Schedule
from seedlab.errors import UserError, closest

# The section that a part of another one may ask for, by the name of its parameter.
_ASKED = {"model": ("activation", "activation"), "optimizer": ("schedule", "learning_rate")}


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
  others = {field: value for field, value in changes.items() if not _names(field)}
  for section, name in named.items():
    for field in _of_the_old_part(values, section, name, others):
      _set(values, field, others.pop(field))
    _rename(values, section, name)
  for field, value in others.items():
    _set(values, field, value)
  return configs.parse(values)


def _of_the_old_part(
  values: dict[str, Any], section: str, name: Any, others: Mapping[str, Any]
) -> list[str]:
  """The changes that set options back which only the part to be replaced has."""
  asked = [field for field in others if field.startswith(f"{section}.")]
  if not asked or not isinstance(name, str):
    return []
  had, has = (
    parts.options(section, parts.find(section, one)) for one in (_name(values, section), name)
  )
  options = {field: field.partition(".")[2] for field in asked}
  return [
    field
    for field, option in options.items()
    if option in had and option not in has and _same(others[field], had[option].default)
  ]


def _name(values: Mapping[str, Any], section: str) -> str:
  """The name of the part of a section as it stands."""
  there = values.get(section) or {}
  return there if isinstance(there, str) else there.get("name", configs.DEFAULTS[section])


def _names(field: str) -> bool:
  """Whether a change of `field` says which part a section is."""
  section = field.removesuffix(".name")
  return section in configs.DEFAULTS


def _rename(values: dict[str, Any], section: str, name: Any) -> None:
  """Makes `section` the part `name`; what the new part does not have is dropped or refused."""
  if not isinstance(name, str):
    raise UserError(f"{section}={name!r} must be the name of a part: give its options one by one")
  before = _name(values, section)
  there = values.get(section) or {}
  old = {} if isinstance(there, str) else {key: there[key] for key in there if key != "name"}
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
        f" read it; set it back too ({section}.{option}={_usual(had, option)}), or leave it out"
      )
  values[section] = {"name": name, **old}
  other, fact = _ASKED.get(section, ("", ""))
  if other in values and fact not in parts.takes(section, parts.find(section, name)):
    # Nobody asks for that section any more: it goes if it is at its default.
    cls = Schedule if other == "schedule" else Part
    usual = configs.part_of(cls, other, {}, other)
    if configs.part_of(cls, other, values[other] or {}, other) == usual:
      del values[other]


def _usual(had: Mapping[str, parts.Option], option: str) -> Any:
  return had[option].default if option in had and not had[option].needed else "its default"


def _same(a: Any, b: Any) -> bool:
  return a == b or (isinstance(a, list) and isinstance(b, tuple) and tuple(a) == b)


def _set(values: dict[str, Any], field: str, value: Any) -> None:
  """Sets one field, creating its section; the field itself is checked by `parse`."""
  *path, last = field.split(".")
  if last.endswith("]") and isinstance(value, str):  # another part in its place: augment[1]=cutout
    entry = functools.reduce(lambda place, name: _inside(place, name, field), [*path, last], values)
    entry.clear()
    entry["name"] = value
    return
  if not path and field not in LISTS:
    if field in SECTIONS:
      raise UserError(f"{field} is a section: give its fields ({field}.NAME=VALUE)")
    near = closest(field, SECTIONS)
    raise UserError(f"{field} is not a field{near}; sections: {', '.join(SECTIONS)}")
  place = functools.reduce(lambda place, name: _inside(place, name, field), path, values)
  place[last] = configs.as_list(field, value) if field in LISTS else value


def _inside(place: dict[str, Any], name: str, field: str) -> dict[str, Any]:
  """The section `name` of `place`, or entry 0 of the list `name` where it says name[0]."""
  listed = re.fullmatch(r"(\w+)\[(\d{1,9})\]", name)
  if not listed:
    inner = place.get(name) or {}
    place[name] = {"name": inner} if isinstance(inner, str) else inner
    if not isinstance(place[name], dict):
      raise UserError(f"{field}: {name} is not a section")
    return place[name]
  key, number = listed[1], int(listed[2])
  entries = place.get(key) or []
  if not isinstance(entries, list) or number >= len(entries):
    count = len(entries) if isinstance(entries, list) else 0
    raise UserError(f"{field}: {key} has {count} entries, counted from 0")
  if isinstance(entries[number], str):
    entries[number] = {"name": entries[number]}
  if not isinstance(entries[number], dict):
    raise UserError(f"{field}: {name} is not a section")
  return entries[number]
