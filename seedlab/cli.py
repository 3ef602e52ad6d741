"""What every command shares: parse the flags, call `main`, answer a mistake with one line.

  --FLAG=VALUE       absl parses it
  --config=FILE      executed here, so that the cause of a failure is known; seedlab:NAME is a file
                     that comes with seedlab
  --config.X=VALUE   ml_collections sets field X of what FILE returned
  main(argv)         its result is the exit status

Exit status: 0 done; 1 a check failed (`main` says so); 2 the input is wrong or a file cannot be
used; 70 a bug, with its traceback; 130 interrupted; 141 nobody reads the output; 143 terminated.
"""

import contextlib
import errno
import inspect
import json
import os
import pathlib
import re
import select
import signal
import sys
import textwrap
import traceback
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from absl import flags
from ml_collections import config_dict
from ml_collections.config_flags import config_flags, tuple_parser

import seedlab
from seedlab.errors import UserError, choice_error, closest

FLAGS = flags.FLAGS

_CONFIG_HELP = """FILE or FILE:SCALE (smoke, laptop, paper), a Python file whose get_config(scale)
returns the experiment; seedlab:digits or seedlab:digits:SCALE, one that comes with seedlab
(--config=seedlab: lists them). Flags after it change its fields: --config.training.steps=300
--config.data.flip=true --config.seeds.vary=init,order --config.data.train_examples=none
--config.model.activation_kwargs='{"beta": 0.5}'"""
HELP = {"-h", "-help", "--help"}


class Terminated(KeyboardInterrupt):
  """SIGTERM, raised where Ctrl-C would be, so that `main` prepares for both at once."""


def run(main: Callable[[list[str]], int | None], positional: Sequence[str] = ()) -> NoReturn:
  """Parses the flags, calls `main` and exits with its result (None is 0), or with one line.

  Args:
    main: takes [command, *arguments that are no flags]. Reads its flags from their FlagHolders and
      raises UserError for what is wrong with them; may catch KeyboardInterrupt to tidy up. The
      flags and the docstring of its module are what --help shows.
    positional: names of the arguments `main` needs beside the flags, e.g. ("DIR",); "..." at the
      end allows more.
  """
  answer(lambda: call(main, positional))


def call(main: Callable[[list[str]], int | None], positional: Sequence[str] = ()) -> int | None:
  """`run` without the exit: the result of `main`; raises what it raises."""
  module = main.__module__
  # absl files the flags of the script that was started under its path.
  own = FLAGS.get_key_flags_for_module(sys.argv[0] if module == "__main__" else module)
  if HELP.intersection(sys.argv[1:]):
    print(_help(sys.modules[module].__doc__ or "", own, positional))
    return None
  return main(_arguments(own, positional))


def answer(action: Callable[[], int | None]) -> NoReturn:
  """Exits with the result of `action` (None is 0), or with one line on what is wrong."""
  try:
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
      signal.signal(signal.SIGTERM, _terminate)
    status: int | str | None = action()
    for stream in _streams():
      stream.flush()
  except SystemExit as error:
    status = error.code
  except BaseException as error:
    status, message = _explain(error)
    if sys.stderr:
      with contextlib.suppress(OSError):  # nobody reads it
        sys.stderr.write(message)
  for stream in _streams():
    try:
      stream.flush()
    except OSError:  # explained above; Python would try once more at exit and complain
      os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
  sys.exit(status)


def _terminate(signum: int, frame: Any) -> NoReturn:
  raise Terminated


def _streams() -> list[Any]:
  return [stream for stream in (sys.stdout, sys.stderr) if stream]  # None where it was closed


def _explain(error: BaseException) -> tuple[int, str]:
  """The exit status and what to say on stderr."""
  if isinstance(error, KeyboardInterrupt):
    for number in (signal.SIGINT, signal.SIGTERM):  # a second one ends the process at once
      signal.signal(number, signal.SIG_DFL)
    terminated = isinstance(error, Terminated)
    return (143, _line("terminated")) if terminated else (130, _line("interrupted"))
  if isinstance(error, BrokenPipeError) and _reader_is_gone():
    return 141, ""
  message = str(error) if isinstance(error, UserError) else _file_error(error)
  if message is not None:
    return 2, _line(message)
  bug = f"the lines above show a bug, in your own Trainer or in seedlab {seedlab.__version__}"
  if getattr(error, "worker_traceback", False):  # our own frames only led there
    return 70, f"{error}\n{_line(bug)}"
  return 70, "".join(traceback.format_exception(error)) + _line(bug)


def _line(message: str) -> str:
  return f"{os.path.basename(sys.argv[0])}: {' '.join(message.split())}\n"


def _reader_is_gone() -> bool:
  """Whether it is the pipe of stdout or stderr that broke, and not one to a worker."""
  poll = select.poll()
  for stream in _streams():
    poll.register(stream.fileno(), 0)
  return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _file_error(error: BaseException) -> str | None:
  """A line for a file that cannot be used, None for any other error."""
  for cause in _causes(error):
    if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
      where = f" ({cause.filename})" if cause.filename else ""
      return (
        f"{cause.strerror}{where}: free space and run the same command again; "
        "nothing finished is lost"
      )
  if isinstance(error, OSError) and error.filename is not None:
    return f"{error.filename}: {error.strerror}; name another path or make this one usable"
  return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
  while error is not None:
    yield error
    error = error.__cause__ or error.__context__


def _help(doc: str, own: Sequence[flags.Flag], positional: Sequence[str]) -> str:
  usage = f"usage: {' '.join([sys.argv[0], *positional])} [flags]"
  lines = [usage, "", doc.strip(), "", "flags:"]
  for flag in own:
    notes = [flag.parser.syntactic_help] if flag.parser.syntactic_help else []
    if flag.default not in (None, []):
      notes.append("default: " + str(flag.default_as_str).strip("'"))
    text = _CONFIG_HELP if config_flags.is_config_flag(flag) else flag.help
    text = " ".join(text.split()) + (f" ({'; '.join(notes)})" if notes else "")
    lines.append(f"  --{'[no]' if flag.boolean else ''}{flag.name}")
    lines.append(textwrap.fill(text, 88, initial_indent=" " * 6, subsequent_indent=" " * 6))
  return "\n".join(lines)


def _arguments(own: Sequence[flags.Flag], positional: Sequence[str]) -> list[str]:
  """Parses the command line into FLAGS; returns [command, *the arguments that are no flags]."""
  config_flags.register_flag_parser_for_type(tuple, _Tuple())
  config_flags.register_flag_parser_for_type(int, _Integer())
  config_flags.register_flag_parser_for_type(float, _Float())
  config_flags.register_flag_parser_for_type(config_dict.ConfigDict, _Json())
  for name in FLAGS:
    if isinstance(FLAGS[name].parser, config_flags.ConfigFileFlagParser):
      FLAGS[name].parser = _ConfigFile(name)
  try:
    arguments = FLAGS(sys.argv)
  except (flags.Error, ValueError) as error:
    raise _reworded(error, own) from None
  given = arguments[1:]
  if len(given) > len(positional) and positional[-1:] != ("...",):
    raise UserError(f"argument {given[len(positional)]!r} is one too many; a flag is --NAME=VALUE")
  needed = [name for name in positional if name != "..."]
  if len(given) < len(needed):
    raise UserError(f"{needed[len(given)]} is missing; --help shows the usage")
  return arguments


def _reworded(error: Exception, own: Sequence[flags.Flag]) -> UserError:
  """What absl or ml_collections objects to, as one line."""
  if isinstance(error.__context__, UserError):  # raised by a parser below, wrapped by absl
    return error.__context__
  message = str(error)
  if isinstance(error, flags.UnrecognizedFlagError):
    name = error.flagname
    section = name.partition(".")[0].removeprefix("no")
    if "." in name and section in FLAGS:  # the fields are flags only once there is a config
      return UserError(f"--{name} changes a field of --{section}=FILE, which is missing")
    near = closest(f"--{name}", [f"--{flag.name}" for flag in own])
    return UserError(f"--{name} is not a flag{near}; --help lists them")
  missing = re.match(r"flag --(\w+)=None: Flag --\1 must have a value", message)
  if missing:
    return UserError(f"--{missing[1]} is missing: {FLAGS[missing[1]].help}")
  problem = f": {error.__context__}"
  name, _, value = message.removeprefix("flag --").removesuffix(problem).partition("=")
  if isinstance(error, flags.IllegalFlagValueError) and name in FLAGS:
    flag = FLAGS[name]
    if isinstance(flag.parser, flags.EnumParser):
      return choice_error(f"--{name}", value, flag.parser.enum_values)
    expected = "true or false" if flag.boolean else flag.parser.syntactic_help
    if expected:
      return UserError(f"--{name}={value!r} must be {expected}")
  return UserError(message)


class _Tuple(tuple_parser.TupleParser):
  """Takes words and numbers without quotes and brackets too: `init,order` and `2,3`."""

  syntactic_help = "a list, as in init,order or 2,3"

  def parse(self, argument: Any) -> tuple:
    if argument == "none":
      return ()
    if isinstance(argument, str) and re.fullmatch(r"[a-z_]+(,[a-z_]+)*", argument):
      return tuple(argument.split(","))
    return super().parse(argument)


class _Integer(flags.IntegerParser):
  """Takes `none` too: the field is left empty, if it may be."""

  def parse(self, argument: Any) -> Any:
    return None if str(argument).lower() == "none" else super().parse(argument)


class _Float(flags.FloatParser):
  """Takes `none` too."""

  def parse(self, argument: Any) -> Any:
    return None if str(argument).lower() == "none" else super().parse(argument)


class _Json(flags.ArgumentParser):
  """Takes the JSON of a dict."""

  syntactic_help = 'a JSON object, as in {"beta": 0.5}'

  def parse(self, argument: Any) -> config_dict.ConfigDict:
    value = json.loads(argument) if isinstance(argument, str) else argument  # the default
    if not isinstance(value, dict | config_dict.ConfigDict):
      raise ValueError
    return config_dict.ConfigDict(value)


class _ConfigFile(flags.ArgumentParser):
  """Takes `FILE` or `FILE:SCALE`: the ConfigDict of its `get_config`, and no override it lacks."""

  def __init__(self, name: str):
    self.name = name

  def parse(self, argument: str) -> config_dict.ConfigDict:
    config = load(argument)
    for flag in FLAGS.read_flags_from_files(sys.argv[1:], force_gnu=False):
      override = re.match(rf"--?(?:no)?{re.escape(self.name)}\.([^=]*)", flag)
      if override:
        _check_field(config, self.name, override[1])
    return config


def load(argument: str) -> config_dict.ConfigDict:
  """What `get_config` of "FILE", "FILE:SCALE", "seedlab:NAME" or "seedlab:NAME:SCALE" returns.

  Executes the file; UserError with file, line and cause where that fails.
  """
  name, *scale = argument.split(":", 1)
  name, path, scale = _own_config(*scale) if name == "seedlab" else (name, name, scale)
  try:
    source = pathlib.Path(path).read_bytes()
  except OSError as error:
    near = closest(path, map(str, pathlib.Path(path).parent.glob("*.py")))
    raise UserError(f"config file {path!r} cannot be read: {error.strerror}{near}") from None
  module = types.ModuleType("config_file")
  module.__file__ = path
  sys.modules[module.__name__] = module  # as after an import; dataclasses look there
  try:
    exec(compile(source, path, "exec"), module.__dict__)
    get_config = getattr(module, "get_config", None)
    if not callable(get_config):
      raise UserError("it must define get_config(scale), which returns a ConfigDict")
    try:
      call = inspect.signature(get_config).bind(*scale)
    except TypeError as error:
      raise UserError(f"get_config: {error} (what follows the colon of FILE:SCALE)") from None
    config = get_config(*call.args)
    if not isinstance(config, config_dict.ConfigDict):
      raise UserError(f"get_config must return a ConfigDict, not {type(config).__name__}")
    return config
  except UserError as error:
    raise UserError(f"{name}: {error}") from None
  except SyntaxError as error:
    where = f"{error.filename or path}, line {error.lineno}"
    raise UserError(f"{where}: SyntaxError: {error.msg}") from None
  except Exception as error:
    lines = [at.lineno for at in traceback.extract_tb(error.__traceback__) if at.filename == path]
    where = f"{path}, line {lines[-1]}" if lines else path
    raise UserError(f"{where}: {type(error).__name__}: {error}") from None


def _own_config(text: str = "") -> tuple[str, str, list[str]]:
  """Name, path and [scale], if any, of "NAME" or "NAME:SCALE", a config that comes with seedlab."""
  name, *scale = text.split(":", 1)
  folder = pathlib.Path(__file__).with_name("configs")
  paths = {f"seedlab:{path.relative_to(folder).with_suffix('').as_posix()}": path
           for path in folder.rglob("*.py")}  # fmt: skip
  name = f"seedlab:{name}"
  if name not in paths:
    raise choice_error("--config", name, paths)
  return name, str(paths[name]), scale


def _check_field(config: config_dict.ConfigDict, name: str, path: str) -> None:
  """Refuses a flag for a field that `config` lacks, or for a whole section.

  Setting a section would silently drop the fields it does not name.
  """
  parent, _, parameter = path.rpartition(".")
  if parent.endswith("_kwargs"):
    example = json.dumps({parameter: 1})
    raise UserError(f"--{name}.{path}: write them all at once, as in --{name}.{parent}='{example}'")
  value = config
  for field in path.split("."):
    if not isinstance(value, config_dict.ConfigDict) or field not in value:
      fields = list(value) if isinstance(value, config_dict.ConfigDict) else []
      listed = f"; fields: {', '.join(fields)}" if fields else ""
      raise UserError(f"--{name}.{path}: {field!r} is not a field{closest(field, fields)}{listed}")
    value = value[field]
  if isinstance(value, config_dict.ConfigDict) and not field.endswith("_kwargs"):
    raise UserError(f"--{name}.{path} is a section: give its fields (--{name}.{path}.NAME=VALUE)")
