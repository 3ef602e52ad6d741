"""What is trained: an experiment, its record in a manifest, its description by a worker.

An experiment is a function that builds a Trainer (or a recipe) with its JSON arguments; or a
recipe, which is such a function without arguments; or a config, for which it is seedlab's own.
"""

import concurrent.futures
import contextlib
import dataclasses
import inspect
import json
import os
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from seedlab import (
  __version__,
  changes,
  cluster,
  config,
  errors,
  host,
  integrity,
  migration,
  parts,
  tasks,
)
from seedlab.config import STREAMS, Config, Seeds, Stream
from seedlab.errors import UserError
from seedlab.pool import Code, local_pool
from seedlab.progress import say
from seedlab.recipe import WHICH, Recipe

_FUNCTION = (
  "seedlab calls the function once, with `arguments` alone, and it must return a seedlab.Trainer"
  f" or a recipe: {WHICH}"
)
# Functions of ours that a store may name: these, and all whose names begin like that.
_OWN_TRAINERS = ("seedlab.studies.twins:make",)
_OWN_RECIPES = "seedlab.recipes."
_PATIENCE = 5.0  # seconds without a word
_MEASURED = (("loop", 1), ("vmap", 8), ("vmap", 16), ("vmap", 32))  # what lanes=measure tries


class Experiment(NamedTuple):
  """What is trained: a function that builds a Trainer, and its JSON arguments."""

  function: str  # "module:name"
  arguments: dict[str, Any]  # those that were given
  config: Config | None  # None for a Trainer of the user's own
  seeds: Seeds
  code: Code | None = None  # the function itself, where workers cannot import it
  defaults: Mapping[str, Any] = {}  # of the arguments of the user's own function
  data_dir: str | None = None  # what a function that asks for it is told; where, not what it trains

  @property
  def record(self) -> dict[str, Any]:
    """What the manifest keeps, and what must agree when a sweep goes on."""
    if self.config:
      values = config.to_dict(self.config)
      del values["seeds"]["levels"]  # more levels extend the sweep
      return {"config": values, "config_digest": config.digest(self.config)}
    seeds = dataclasses.asdict(self.seeds)
    del seeds["levels"]
    return {
      "config": None,
      "trainer": {
        "function": self.function,
        "arguments": {**self.defaults, **json.loads(json.dumps(self.arguments))},
        "seeds": json.loads(json.dumps(seeds)),
      },
    }


def experiment(
  what: Config | Mapping[str, Any] | str | Recipe | Callable[..., Any],
  arguments: Mapping[str, Any] | None = None,
  seeds: Mapping[str, Any] | None = None,
  data_dir: str | None = None,
) -> Experiment:
  """An Experiment from a Config (or what `config.parse` takes), a recipe or a function.

  Args:
    what: a Config, a mapping, a recipe, a function that returns a Trainer or a recipe, or its name
      "module:function".
    arguments: JSON arguments of the function; a Config has none.
    seeds: fields of `config.Seeds`, for a function; a Config has its own.
    data_dir: the tensorflow-datasets directory, for a Config; or for a function with a parameter of
      this name that `arguments` leave out.
  """
  if not isinstance(what, str) and not callable(what):
    if arguments or seeds:
      raise UserError("arguments and seeds are for a Trainer of your own; a config has its own")
    parsed = config.parse(what)
    directory = os.path.abspath(data_dir) if data_dir else None
    values = {"config": config.to_dict(parsed), "data_dir": directory}
    return Experiment("seedlab.training:make_trainer", values, parsed, parsed.seeds)
  parsed_seeds = config.parse_seeds(seeds or {})
  given = dict(arguments or {})
  try:
    json.dumps(given)
  except TypeError as error:
    raise UserError(f"arguments={given!r} must be JSON ({error})") from None
  if isinstance(what, str):
    name, build, code = what, parts.imported("trainer", what), None
  elif isinstance(what, Recipe):
    name, build, code = f"<{what.description['kind']} recipe>", what, Code.of(what)
  else:
    name, build = f"{what.__module__}:{what.__qualname__}", what
    code = None if _found(name, what) else Code.of(what)
  parameters = _parameters(name, build)
  _check_arguments(name, parameters, given)
  described: Mapping[str, Any] = _defaults(parameters)
  if isinstance(build, Recipe):  # which has no arguments
    described = build.description
  asks = data_dir and "data_dir" in parameters and "data_dir" not in given
  directory = os.path.abspath(data_dir) if data_dir and asks else None
  return Experiment(name, given, None, parsed_seeds, code, described, directory)


def argument_values(what: str | Callable[..., Any]) -> dict[str, Any]:
  """Every argument by name of a function that builds a Trainer: its default, or None."""
  build = parts.imported("trainer", what) if isinstance(what, str) else what
  parameters = _parameters(str(what), build)
  by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
  names = [name for name, parameter in parameters.items() if parameter.kind in by_name]
  return dict.fromkeys(names) | _defaults(parameters)


def _parameters(name: str, build: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
  """The parameters of a function that builds a Trainer."""
  try:
    return inspect.signature(build).parameters
  except (TypeError, ValueError):
    raise UserError(f"{name} is no function whose arguments can be read; {_FUNCTION}") from None


def _check_arguments(
  name: str, parameters: Mapping[str, inspect.Parameter], given: Mapping[str, Any]
) -> None:
  """Refuses arguments that the function does not have, and the lack of one that it needs."""
  kinds = {parameter.kind for parameter in parameters.values()}
  for argument in given:
    if argument not in parameters and inspect.Parameter.VAR_KEYWORD not in kinds:
      listed = f"; its arguments: {', '.join(parameters)}" if parameters else ", which has none"
      near = errors.closest(argument, parameters)
      raise UserError(f"arguments.{argument} is not an argument of {name}{near}{listed}")
  variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
  for argument, parameter in parameters.items():
    needed = parameter.default is parameter.empty and parameter.kind not in variadic
    if needed and argument not in given:
      raise UserError(
        f"{name} needs the argument {argument!r}, which arguments={given} lacks: {_FUNCTION}"
      )


def _defaults(parameters: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
  """The default of every argument that has one which JSON can hold."""
  found = {}
  for name, parameter in parameters.items():
    if parameter.default is not parameter.empty:
      with contextlib.suppress(TypeError, ValueError):
        found[name] = json.loads(json.dumps(parameter.default))
  return found


def recorded_experiment(kept, trainer, data_dir, directory, trust_code=False) -> Experiment:
  """The experiment of a store; its config must be one this version of seedlab knows.

  Args:
    kept: the manifest.
    trainer: the function or recipe itself, where the caller has it.
    trust_code: import what the store names, although it is none of seedlab's.
  """
  if not trust_code:
    _refuse_foreign_code(kept, trainer, directory)
  if not kept.get("config"):
    known = kept["trainer"]
    if not trainer and known["function"].endswith(" recipe>"):
      raise UserError(
        f"{os.fspath(directory)!r} was made by a recipe, whose code no store keeps; pass it:"
        f" seedlab.replay({os.fspath(directory)!r}, run, recipe=recipe)"
      )
    if not trainer and (known["function"].startswith("__main__:") or "<" in known["function"]):
      raise UserError(
        f"{os.fspath(directory)!r}: its Trainer was made by {known['function']}, in a notebook or"
        " script that only it can import; there, pass the function:"
        f" seedlab.replay({os.fspath(directory)!r}, run, trainer=make)"
      )
    build = trainer or parts.imported("trainer", known["function"])
    if isinstance(build, Recipe):
      return _recorded_recipe(trainer or known["function"], build.description, known, directory)
    usual = _defaults(_parameters(known["function"], build))
    given = {  # a default that JSON changes, such as a tuple, is the function's own again
      name: value
      for name, value in known["arguments"].items()
      if name not in usual or usual[name] != value
    }
    seeds = migration.with_levels({"seeds": known["seeds"]})["seeds"]
    return experiment(trainer or known["function"], given, seeds, data_dir)
  try:
    return experiment(migration.with_levels(kept["config"]), data_dir=data_dir)
  except UserError as error:
    raise UserError(
      f"{os.fspath(directory)!r} was written by seedlab {kept['seedlab_version']}, whose config"
      f" this version ({__version__}) does not know: {error}; install that version to replay it"
    ) from None


def _refuse_foreign_code(kept, trainer, directory) -> None:
  """Raises UserError where the experiment of a store is code that its reader did not name."""
  recorded = kept.get("trainer") or {}
  if kept.get("config"):
    named = list(parts.code_named(kept["config"]))
  elif trainer or "<" in recorded["function"] or recorded["function"].startswith("__main__:"):
    return  # the caller's own, or such as nobody can import
  elif recorded["function"] in _OWN_TRAINERS or recorded["function"].startswith(_OWN_RECIPES):
    named = list(parts.code_named(recorded["arguments"]))
  else:
    named = [recorded["function"]]
  if named:
    listed = ", ".join(f"{name!r} ({parts.origin(name)})" for name in dict.fromkeys(named))
    raise UserError(
      f"{os.fspath(directory)!r} names code that is none of seedlab's parts: {listed}; nothing was"
      " imported. Look at that file, then say --trust_code (from Python: trust_code=True, or pass"
      " the function itself)"
    )


def _recorded_recipe(what, description, known, directory) -> Experiment:
  """The experiment of a recipe (or its name), whose description must be that of the store."""
  there = known["arguments"]
  changed = config.differences({**description, **there}, dict(description))
  if "kind" in there and changed:  # else it was the result of a function with these arguments
    raise UserError(
      f"{os.fspath(directory)!r} was made by another recipe: {errors.changes(changed)}"
    )
  return experiment(what, seeds=known["seeds"])


def going_on(described: Experiment, known: Mapping[str, Any]) -> Experiment:
  """`described` with the streams of a store: "all of them" means those that existed then."""
  then, seeds = integrity.streams_of(known), described.seeds
  if set(seeds.vary) != set(STREAMS) or then == STREAMS or seeds.design == "crossed":
    return described
  if not described.config:
    vary = typing.cast(tuple[Stream, ...], then)
    return described._replace(seeds=dataclasses.replace(seeds, vary=vary))
  changed = changes.changed(described.config, {"seeds.vary": list(then)})
  arguments = {**described.arguments, "config": config.to_dict(changed)}
  return described._replace(arguments=arguments, config=changed, seeds=changed.seeds)


def check_same(described: Experiment, known: Mapping[str, Any], out) -> None:
  """Refuses to mix two experiments in one store, naming the fields that differ.

  An argument that is not in the manifest did not exist then, or is of a manifest of layout 1,
  which holds what was given alone: it had today's default.
  """
  record = described.record
  trainer = dict(known.get("trainer") or {})
  if trainer:
    trainer["arguments"] = {**described.defaults, **trainer["arguments"]}
  changed = config.differences(
    {**migration.completed(known.get("config") or {}), **trainer},
    {**(record["config"] or {}), **record.get("trainer", {})},
  )
  if changed:
    raise UserError(
      f"out={os.fspath(out)!r} holds another experiment: {errors.changes(changed)}; choose another"
      " directory"
    )


def spec_of(
  described: Experiment,
  mode: str,
  width: int | None,
  lowering: str | None = None,
  runs: int = 1000,
) -> dict[str, Any]:
  """What `tasks` are told: the Trainer, how its runs share a program, and who asks.

  Args:
    mode, width, lowering: as of `lanes`; "auto" and None leave the choice.
    runs: how many are wanted, for that choice on an accelerator.
  """
  return {
    "identity": host.identity(),
    "function": described.function,
    "arguments": {
      **described.arguments, **({"data_dir": described.data_dir} if described.data_dir else {}),
    },
    "mode": mode,
    "width": width,
    "lowering": lowering,
    "runs": runs,
  }


def spec_like(described: Experiment, fingerprint: Mapping[str, Any]) -> dict[str, Any]:
  """The same for runs that share a program as the recorded ones with that fingerprint did."""
  mode, width = fingerprint["mode"], fingerprint["width"]
  return spec_of(described, mode, width, fingerprint.get("lowering"))


def describe(
  pool,
  described: Experiment,
  lanes: str,
  width: int | None,
  *,
  quiet: bool,
  lowering: str | None = None,
  runs: int = 1000,
) -> dict[str, Any]:
  choices = _MEASURED if lanes == "measure" else [(lanes, width)]
  specs = [spec_of(described, *choice, lowering, runs) for choice in choices]
  running = [pool.submit(tasks.describe, spec, described.code) for spec in specs]
  if concurrent.futures.wait(running, timeout=_PATIENCE).not_done:
    say(quiet, "reading the data, compiling, measuring the speed")
  facts = [task.result() for task in running]
  return min(facts, key=lambda fact: fact["seconds_per_run"])


def check(described: Experiment, pool: concurrent.futures.Executor) -> None:
  """Builds the Trainer in a worker and trains nothing; raises UserError for what cannot be."""
  pool.submit(tasks.check, spec_of(described, "auto", None), described.code).result()


def prepare(
  described: Experiment, pool: concurrent.futures.Executor, lanes: str = "auto", width=None
) -> None:
  """Has a worker compile an experiment's program for the cache, while others are at work."""
  pool.submit(tasks.prepare, spec_of(described, lanes, width), described.code)


@contextlib.contextmanager
def executor_of(
  workers: int | None, executor: concurrent.futures.Executor | None
) -> Iterator[tuple[concurrent.futures.Executor, int]]:
  """The executor, by default a local pool, and how many tasks it runs at once."""
  if executor is not None:
    yield executor, workers or cluster.size(executor)
  else:
    with local_pool(workers) as pool:
      yield pool, pool.size


def _found(name: str, what: Any) -> bool:
  """Whether worker processes find `what` by its name."""
  try:
    return not name.startswith("__main__:") and parts.resolve(name) is what
  except (ImportError, AttributeError):
    return False
