"""Parts: functions that a section of a config names, and whose parameters are its options.

  {"name": "mlp", "width": 64}   ->   mlp(width=64, classes=10, activation=...)

A name is one of ours, anyone's as "module:function", or optax's. A file in a kind's folder offers
what its `__all__` lists, which is read without importing the file: a new part is a new file. Of the
parameters of a function

  the first few of some kinds are what training passes by position (x of an activation)
  those that are facts of a run (classes, shape, steps, ...) are bound by name
  all others are options: what a config may set, with the default and the type they have there

so an option that nobody reads cannot exist.
"""

import ast
import functools
import importlib
import importlib.machinery
import importlib.util
import inspect
import pathlib
import re
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

from seedlab.errors import UserError, choice_error, closest, short

LARGEST_FLOAT = 3.4028235e38  # of float32
LARGEST_WHOLE = 2**63 - 1
# Folders asked last for a module that the user names: the command line adds the one it runs in.
# They are not on the path before, where any library's optional import would find what lies there.
PLACES: list[str] = []
_CODE = re.compile(r"[^\s:/]+:[^\W\d]\w*(\.[^\W\d]\w*)*")  # module:function


class Kind(NamedTuple):
  """Where the parts of a kind are found, and what they get besides their options."""

  places: tuple[str, ...]  # modules, and packages whose files are asked
  given: int = 0  # parameters that training passes by position
  facts: tuple[str, ...] = ()  # bound by name
  libraries: tuple[str, ...] = ()  # asked by name after ours
  # A fact by its other names in libraries: the first that a function has is bound, unless given
  aliases: Mapping[str, tuple[str, ...]] = types.MappingProxyType({})
  otherwise: str = ""  # the part that takes a name which is no function's, as its fact `name`


KINDS = {
  "data": Kind(
    ("seedlab.data",),
    facts=("name", "data_dir", "download", "test_examples", "train_examples"),
    otherwise="tfds",
  ),
  "model": Kind(
    ("seedlab.models",),
    facts=("classes", "shape", "fields", "platform", "dtype", "precision", "activation"),
  ),
  "activation": Kind(("seedlab.activations",), given=1),
  "augment": Kind(("seedlab.data.augmentation",), given=3),
  "loss": Kind(("seedlab.training.losses",), given=2),
  "metric": Kind(("seedlab.training.measures",), given=2),
  "optimizer": Kind(
    ("seedlab.training.optimizer",),
    facts=("learning_rate", "steps", "key"),
    libraries=("optax", "optax.contrib"),
  ),
  "schedule": Kind(
    ("seedlab.training.schedules",),
    facts=("learning_rate", "steps"),
    libraries=("optax",),
    aliases={
      "learning_rate": ("peak_value", "init_value", "value"),
      "steps": ("decay_steps", "transition_steps", "total_steps"),
    },
  ),
}
_NO_OPTIONS = ("name", "parent")  # reserved: the section's own, and linen's


class Option(NamedTuple):
  """A parameter that a config may set."""

  default: Any  # inspect.Parameter.empty if it must be given
  annotation: Any

  @property
  def needed(self) -> bool:
    return self.default is inspect.Parameter.empty


def resolve(name: str) -> Any:
  """The function of "module:qualified.name"."""
  module, _, path = name.partition(":")
  return functools.reduce(getattr, path.split("."), _module(module))


def _module(name: str) -> types.ModuleType:
  if PLACES and _spec(name) is None:
    use_places()
  return importlib.import_module(name)


def imported(field: str, name: str) -> Any:
  """`resolve(name)`, with a UserError about `field` where there is no such function."""
  module, _, path = name.partition(":")
  if not all(part.isidentifier() for part in (*module.split("."), *path.split("."))):
    raise UserError(f"{field}={name!r} must be module:function")
  try:
    found = _module(module)
  except ModuleNotFoundError as error:
    raise UserError(f"{field}={name!r}: {error}; run from the directory of {module}.py") from None
  try:
    return functools.reduce(getattr, path.split("."), found)
  except AttributeError:
    choices = [key for key, value in vars(found).items() if callable(value) and key[0] != "_"]
    raise UserError(f"{field}={name!r}: {module} has no {path!r}{closest(path, choices)}") from None


def use_places() -> None:
  """Puts `PLACES` at the end of the path, for code that the user named."""
  sys.path.extend(place for place in PLACES if place not in sys.path)


def code_named(record: Any) -> Iterator[str]:
  """Every text "module:function" in a JSON record that is no part of ours: what it would import."""
  if isinstance(record, str):
    if _CODE.fullmatch(record) and not _is_ours(record):
      yield record
  elif isinstance(record, Mapping | list | tuple):
    for value in record.values() if isinstance(record, Mapping) else record:
      yield from code_named(value)


def origin(name: str) -> str:
  """Where the module of "module:function" would be imported from, in words; imports nothing."""
  module = name.partition(":")[0]
  everywhere = [*sys.path, *PLACES]
  spec = _spec(module) or importlib.machinery.PathFinder.find_spec(_top(module), everywhere)
  if spec is None:
    return f"module {module!r}, which is not found here"
  found = spec.origin or next(iter(spec.submodule_search_locations or ()), None)
  inside = f" of the package {_top(module)!r}" if "." in module else ""
  return f"module {module!r}{inside} from {found!r}"


def known(kind: str, name: str) -> Callable[..., Any] | None:
  """The part of a kind that a record names; None where finding it would bring in others' code."""
  if not any(code_named(name)):
    return find(kind, name)
  module, _, path = name.partition(":")
  return vars(sys.modules[module]).get(path) if module in sys.modules else None


def _is_ours(name: str) -> bool:
  """Whether "module:function" is a part of ours by its full name."""
  module, _, path = name.partition(":")
  return any(names(kind).get(path) == module for kind in KINDS)


def _top(module: str) -> str:
  return module.partition(".")[0]


def _spec(module: str) -> importlib.machinery.ModuleSpec | None:
  """What a module's package is found by, without running any of it; None for a bare folder."""
  try:
    found = importlib.util.find_spec(_top(module))
  except (ValueError, ImportError):  # no name of a module, or one without a file
    return None
  return found if found and found.origin else None


def find(kind: str, name: str, field: str = "") -> Callable[..., Any]:
  """The part of a kind by its name.

  Args:
    kind: a key of KINDS.
    name: one of ours, "module:function", or a function of a library that the kind asks.
    field: what to call it in an error; by default KIND.name.

  Raises:
    UserError: there is none.
  """
  field = field or f"{kind}.name"
  head, colon, path = name.partition(":")
  # A set of tensorflow-datasets may have a version: "mnist:3.0.1".
  if colon and not (kind == "data" and ("/" in head or not path[:1].isidentifier())):
    return imported(field, name)
  ours, asked = names(kind), KINDS[kind]
  if name in ours:
    return getattr(importlib.import_module(ours[name]), name)
  for library in asked.libraries:
    found: Any = importlib.import_module(library)
    for part in name.split("."):
      found = None if part.startswith("_") else getattr(found, part, None)
    # Its modules hold others, and those hold Python's, which start programs.
    if inspect.isfunction(found) and _top(found.__module__) == _top(library):
      return found
  if asked.otherwise:
    head = name.partition("/")[0]
    if head in ours:  # "movielens/100k-ratings"
      return getattr(importlib.import_module(ours[head]), head)
    return getattr(importlib.import_module(ours[asked.otherwise]), asked.otherwise)
  raise choice_error(field, name, ours)


@functools.cache
def names(kind: str) -> dict[str, str]:
  """{name: module} of our parts of a kind, from the files' `__all__`; imports none of them."""
  taken = {place for other in KINDS.values() for place in other.places}
  found: dict[str, str] = {}
  for place in KINDS[kind].places:
    file = pathlib.Path(__file__).parent.joinpath(*place.split(".")[1:])
    file = file / "__init__.py" if file.is_dir() else file.with_suffix(".py")
    if file.name != "__init__.py":
      found |= dict.fromkeys(_listed(file), place)
      continue
    for part in sorted(file.parent.glob("*.py")):
      module = f"{place}.{part.stem}"
      if part.stem != "__init__" and module not in taken:
        found |= dict.fromkeys(_listed(part), module)
  return found


def _listed(file: pathlib.Path) -> tuple[str, ...]:
  """What `__all__` lists in a file that assigns it literally."""
  for node in ast.parse(file.read_text()).body:
    if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
      return tuple(ast.literal_eval(node.value))
  return ()


def takes(kind: str, function: Callable[..., Any]) -> dict[str, Option]:
  """All parameters of a part by name, facts included, but for those passed by position."""
  try:
    signature = inspect.signature(function)
  except (TypeError, ValueError):
    raise UserError(
      f"{kind}: the parameters of {function!r} cannot be read; wrap it in a function of your own"
    ) from None
  try:
    hints = typing.get_type_hints(function.__init__ if inspect.isclass(function) else function)
  except Exception:  # annotations that cannot be evaluated say no less than none
    hints = {}
  parameters = list(signature.parameters.values())[KINDS[kind].given :]
  named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
  reserved = _NO_OPTIONS if inspect.isclass(function) else ()
  return {
    one.name: Option(one.default, hints.get(one.name, one.annotation))
    for one in parameters
    if one.kind in named and one.name not in reserved
  }


def options(kind: str, function: Callable[..., Any]) -> dict[str, Option]:
  """The parameters of a part that a config may set.

  Facts are none, but for those of other libraries, which may be given and are bound otherwise.
  """
  asked = KINDS[kind]
  found = {
    name: option for name, option in takes(kind, function).items() if name not in asked.facts
  }
  for fact, alias in _aliases(kind, function).items():
    del fact
    found[alias] = Option(None, found[alias].annotation)
  return found


def settled(kind: str, name: str, given: Mapping[str, Any], prefix: str) -> dict[str, Any]:
  """All options of the part `name`, in the order of its signature: as given, checked, or usual.

  Raises:
    UserError: an option that the part does not have, one that is missing, or a wrong type.
  """
  known = options(kind, find(kind, name, f"{prefix}.name"))
  for option, value in given.items():
    if option not in known:
      raise _unread(kind, name, option, value, prefix, known)
  usual, values = defaults(known), {}
  for option, (default, annotation) in known.items():
    field = f"{prefix}.{option}"
    if option in given:
      values[option] = _plain(convert(given[option], annotation, default, field), field)
    elif known[option].needed:
      raise UserError(f"{field} is missing: {prefix}.name={name!r} needs it")
    elif option in usual:  # not a function or a dtype, which the part keeps to itself
      values[option] = usual[option]
  return values


def defaults(known: Mapping[str, Option]) -> dict[str, Any]:
  """The defaults of options, of those that have one which a record can hold."""
  return {
    name: option.default
    for name, option in known.items()
    if not option.needed and _is_plain(option.default)
  }


def _unread(kind, name, option, value, prefix, known) -> UserError:
  """The error for an option that the part does not have: who reads it, or what is near."""
  readers = []
  for other in names(kind):
    if other != name and option in options(kind, find(kind, other)):
      readers.append(other)
  field = f"{prefix}.{option}={value!r}"
  if readers:
    listed = ", ".join(readers[:8]) + f" and {len(readers) - 8} more" * (len(readers) > 8)
    return UserError(
      f"{field} is not read by {prefix}.name={name!r}, but by {listed}; leave it out, or take one"
      " of those"
    )
  has = f"; options of {name!r}: {', '.join(known)}" if known else f"; {name!r} has no options"
  return UserError(
    f"{field} is not an option of {prefix}.name={name!r}{closest(option, known)}{has}"
  )


def bind(
  kind: str, name: str, given: Mapping[str, Any], facts: Mapping[str, Any] = {}, prefix: str = ""
) -> Any:
  """What a part makes of its options and of the facts of a run.

  Kinds whose parts get arguments by position give the function with its options bound; the others
  the function's result.

  Args:
    kind, name: which part.
    given: its options, as `settled` returns them.
    facts: by name; those that the function does not ask for are left out.
    prefix: the section's name, for errors.

  Raises:
    UserError: from the part itself, or a parameter that nobody supplies.
  """
  prefix = prefix or kind
  function = find(kind, name, f"{prefix}.name")
  asked = takes(kind, function)
  bound = {fact: facts[fact] for fact in KINDS[kind].facts if fact in asked and fact in facts}
  for fact, alias in _aliases(kind, function).items():
    if given.get(alias) is None:
      bound[alias] = facts[fact]
      given = {option: value for option, value in given.items() if option != alias}
  arguments = {**given, **bound}
  for parameter, option in asked.items():
    if option.needed and parameter not in arguments:
      raise UserError(f"{prefix}.name={name!r} asks for {parameter!r}, which nothing here supplies")
  if not KINDS[kind].given:
    return function(**arguments)
  return functools.partial(function, **arguments) if arguments else function


def _aliases(kind: str, function: Callable[..., Any]) -> dict[str, str]:
  """{fact: its name in a library's function that does not have it by ours}."""
  asked = takes(kind, function)
  found = {}
  for fact, others in KINDS[kind].aliases.items():
    there = [other for other in others if other in asked]
    if fact not in asked and there:
      found[fact] = there[0]
  return found


def convert(value: Any, annotation: Any, default: Any, field: str) -> Any:
  """`value` as what an option takes; an int serves as a float, a list as a tuple.

  Args:
    value: from a file, a flag, a grid or Python.
    annotation: int, float, bool, str, a Literal, a tuple of these, or one of them `| None`; of
      any other the type of `default` decides, and without one anything goes.
    default: of the option.
    field: its name, for errors.

  Raises:
    UserError: the value is of another type, or no finite number of float32.
  """
  origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
  if origin is Literal:
    if value not in arguments:
      raise choice_error(field, value, map(str, arguments))
    return value
  if origin in (types.UnionType, typing.Union):
    kinds = [kind for kind in arguments if kind is not type(None)]
    if value is None and len(kinds) < len(arguments):
      return None
    annotation = kinds[0] if len(kinds) == 1 else None
    return convert(value, annotation, default, field)
  if origin is tuple or annotation is tuple:
    return _as_tuple(value, arguments[0] if arguments else None, field)
  if annotation not in (int, float, bool, str):
    annotation = type(default)
    if default is None or annotation not in (int, float, bool, str):
      return value
  return _as_scalar(value, annotation, field)


def _as_tuple(value: Any, kind: Any, field: str) -> tuple:
  if isinstance(value, str):
    value = [word for word in value.split(",") if word] if value != "none" else []
  if value is None:
    value = ()
  if not isinstance(value, Iterable) or isinstance(value, Mapping):
    raise UserError(f"{field}={value!r} must be a list")
  return tuple(convert(item, kind, None, field) for item in value)


def _as_scalar(value: Any, kind: type, field: str) -> Any:
  if type(value) is int and abs(value) > LARGEST_WHOLE:
    raise UserError(f"{field}={short(value)} has {len(str(value)):,} digits; it must be below 2^63")
  if kind is float and isinstance(value, int) and not isinstance(value, bool):
    value = float(value)
  if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
    other = "and cannot be left empty" if value is None else f"not {type(value).__name__}"
    raise UserError(f"{field}={value!r} must be of type {kind.__name__}, {other}")
  if kind is float and value != value:
    raise UserError(f"{field}=nan is not a number")
  if isinstance(value, float) and abs(value) > LARGEST_FLOAT:
    raise UserError(f"{field}={value!r} must be finite in float32, so below 3.4e38")
  return value


def _is_plain(value: Any) -> bool:
  """Whether a record can hold it."""
  if isinstance(value, tuple | list):
    return all(map(_is_plain, value))
  if isinstance(value, Mapping):
    return all(map(_is_plain, value.values()))
  return value is None or isinstance(value, bool | int | float | str)


def _plain(value: Any, field: str) -> Any:
  """`value` with tuples for lists; a UserError where no record could hold it."""
  if not _is_plain(value):
    raise UserError(f"{field}={value!r} must be a number, a word, a list or a dict of these")
  if isinstance(value, list | tuple):
    return tuple(_plain(item, field) for item in value)
  if isinstance(value, Mapping):
    return {str(name): _plain(item, field) for name, item in value.items()}
  return value
