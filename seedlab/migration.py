"""Records of older releases as this one would have written them.

  layout 1   103 fields in sections, before there were parts
  layout 2   sections of parts
  layout 3   the same, in a store whose runs and manifest have digests

What a store says is never replaced: an option that did not exist then gets today's default, one
whose default has changed since shows as a difference, and one that this release does not have
stays, for `config.parse` to refuse.
"""

import json
from collections.abc import Mapping
from typing import Any

from seedlab import config, parts
from seedlab.errors import UserError

LAYOUT = 3  # of the manifests written now
# Fields of layout 1 that stand elsewhere now: section.field -> section.field.
_SCHEDULE = ("warmup_steps", "period", "end", "per_epoch", "hold_steps")
_CHANGES = ("flip", "crop", "crop_padding", "cutout", "world_kwargs")


def migrated(manifest: Mapping[str, Any]) -> dict[str, Any]:
  """The manifest of a store in today's layout.

  One of an own Trainer has no config, and stays. So does a config that names what this release does
  not have: it opens and reports, and what would train it says why not.
  """
  values = manifest.get("config")
  if not values or manifest.get("layout", 1) >= 2:
    return dict(manifest)
  try:
    return {**manifest, "config": completed(from_layout_1(values))}
  except (UserError, KeyError, TypeError, ValueError, AttributeError):
    return dict(manifest)


def completed(values: Mapping[str, Any]) -> dict[str, Any]:
  """The record of a config with today's defaults for the fields and options that it does not have.

  Nothing is checked: what this release could not train is still a record that can be compared.
  """
  if not values:
    return {}
  filled: dict[str, Any] = dict(values)
  for name in (*config.OWN, *values):
    if name in config.SECTION and values.get(name) is not None:
      filled[name] = config.own_defaults(name) | dict(values[name])
    elif name in config.OWN:
      filled[name] = config.own_defaults(name)
  for name, kind in config.LISTS.items():
    section, _, field = name.rpartition(".")
    place = filled[section] if section else filled
    place[field] = [_with_defaults(kind, one) for one in place.get(field, [])]
  for name in config.DEFAULTS:
    if values.get(name):
      filled[name] = _with_defaults(name, filled[name])
  if "levels" not in values.get("seeds", {}):  # records leave them out: more levels extend a design
    del filled["seeds"]["levels"]
  return json.loads(json.dumps(filled))


def _with_defaults(kind: str, section: Mapping[str, Any]) -> dict[str, Any]:
  """A section with the defaults of its part; as it is if there is no such part any more.

  One of others whose module was not imported yet stays as it is, too: opening a store runs no code.
  """
  try:
    part = parts.known(kind, section["name"])
  except (UserError, ImportError):
    return dict(section)
  return parts.defaults(parts.options(kind, part)) | dict(section) if part else dict(section)


def with_levels(values: Mapping[str, Any]) -> dict[str, Any]:
  """The same with one level for each varied stream, where the design is crossed and has none."""
  seeds = dict(values.get("seeds", {}))
  if seeds.get("design") == "crossed" and not seeds.get("levels"):
    seeds["levels"] = [1] * len(seeds["vary"])
  return {**values, "seeds": seeds}


def from_layout_1(values: Mapping[str, Any]) -> dict[str, Any]:
  """Today's nested dicts of a config of layout 1, as `config.parse` takes them.

  Options that its parts did not read had no effect, and are dropped. What the record does not
  have keeps today's default.
  """
  if any(parts.code_named(values)):
    raise UserError("a config of layout 1 names functions of others, which there were not then")
  old = {section: dict(fields) for section, fields in values.items()}
  data, model, optimizer = old["data"], old["model"], old["optimizer"]
  training = old["training"]
  smoothing = training.pop("label_smoothing", 0.0)
  activation = model.pop("activation", "relu")
  beside = model.pop("activation_kwargs", {})
  # Options of worlds were floats, whole numbers too.
  world = data.get("world_kwargs", {}).items()
  world = {name: int(value) if value == int(value) else value for name, value in world}
  found = {
    **old,
    "data": _read("data", data | world, _CHANGES),
    "augment": _augmentations(data),
    "model": _read("model", model),
    "loss": {"name": "cross_entropy", "smoothing": smoothing},
    "optimizer": _read("optimizer", optimizer, ("schedule", *_SCHEDULE)),
    "schedule": _read(
      "schedule",
      {"name": optimizer["schedule"]}
      | {name: optimizer[name] for name in _SCHEDULE if name in optimizer},
    ),
  }
  if "activation" in parts.takes("model", parts.find("model", model["name"])):
    found["activation"] = {"name": activation, **beside}
  return found


def _read(kind: str, section: Mapping[str, Any], moved: tuple[str, ...] = ()) -> dict[str, Any]:
  """The fields of a section but for those moved, and for options that its part does not read."""
  part = parts.find(kind, section["name"])
  options = parts.options(kind, part)
  known = [parts.options(kind, parts.find(kind, name)) for name in parts.names(kind)]
  every = {option for one in known for option in one}
  ours = config.own_fields(kind)
  return {
    name: value
    for name, value in section.items()
    if name not in moved and (name in ours or name in options or name not in every)
  }


def _augmentations(data: Mapping[str, Any]) -> list[dict[str, Any]]:
  """The list of changes that flip, crop and cutout were, in the order in which they were made."""
  found: list[dict[str, Any]] = []
  if data.get("crop"):
    fill = data.get("crop_padding", "zero")
    found.append({"name": "crop", "padding": data["crop"], "fill": fill})
  if data.get("flip"):
    found.append({"name": "flip"})
  if data.get("cutout"):
    found.append({"name": "cutout", "size": data["cutout"]})
  return found
