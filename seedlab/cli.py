"""What every command shares: parse the flags, call `main`, answer a mistake with one line.

  --FLAG=VALUE       absl parses it
  --config=FILE      executed here, so that the cause of a failure is known; seedlab:NAME is a file
                     that comes with seedlab
  --config.X=VALUE   changes field X of what FILE returned (changes.py)
  main(argv)         its result is the exit status

`STATUSES` are the exit statuses; 1 and others may also be what `main` returns.
"""

import ast
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
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from absl import flags
from ml_collections import config_dict

import seedlab
from seedlab import console, decoding, parts
from seedlab.errors import UserError, choice_error, closest

FLAGS = flags.FLAGS

_CONFIG_HELP = """FILE or FILE:SCALE (smoke, laptop, paper), a Python file whose get_config(scale)
returns the experiment; seedlab:digits or seedlab:digits:SCALE, one that comes with seedlab
(--config=seedlab: lists them). Further flags change its fields: --config.training.steps=300
--config.model=resnet18 --config.activation=smelu --config.activation.beta=0.5
--config.seeds.vary=init,order --config.data.train_examples=none --config.augment[0].padding=2
--config.optimizer=adamw --config.model.name=my_file:Net"""
HELP = {"-h", "-help", "--help"}
STATUSES = {
  0: "done",
  1: "a check that was asked for failed",
  2: "the input is wrong, or a file cannot be used; one line says what to change",
  70: "a bug, in seedlab or in a Trainer of your own, with its traceback",
  130: "stopped by Ctrl-C",
  141: "nobody reads the output any more",
  143: "stopped by SIGTERM",
}


class Terminated(KeyboardInterrupt):
  """SIGTERM, raised where Ctrl-C would be, so that `main` prepares for both at once."""


def run(main: Callable[[list[str]], int | None], positional: Sequence[str] = ()) -> NoReturn:
  """Parses the flags, calls `main` and exits with its result (None is 0), or with one line.

  Args:
    main: takes [command, *arguments that are no flags]. Reads its flags from their FlagHolders and
      raises UserError for what is wrong with them; may catch KeyboardInterrupt to tidy up. The
      flags and the docstring of its module are what --help shows.
    positional: names of the arguments `main` needs beside the flags, e.g. ("DIR",); "[DIR]" may be
      left out, and "..." at the end allows more.
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
    return 70, console.shown(f"{error}\n{_line(bug)}")
  return 70, "".join(traceback.format_exception(error)) + _line(bug)


def _line(message: str) -> str:
  return console.shown(f"{os.path.basename(sys.argv[0])}: {' '.join(message.split())}\n")


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
    text = _CONFIG_HELP if flag.name == "config" else flag.help
    text = " ".join(text.split()) + (f" ({'; '.join(notes)})" if notes else "")
    lines.append(f"  --{'[no]' if flag.boolean else ''}{flag.name}")
    lines.append(textwrap.fill(text, 88, initial_indent=" " * 6, subsequent_indent=" " * 6))
  return "\n".join(lines)


def _arguments(own: Sequence[flags.Flag], positional: Sequence[str]) -> list[str]:
  """Parses the command line into FLAGS; returns [command, *the arguments that are no flags]."""
  for word in sys.argv:
    if "\0" in word:  # as no shell can write it
      raise UserError(f"argument {word!r} holds a NUL character; leave it out")
  try:
    words = FLAGS.read_flags_from_files(sys.argv, force_gnu=False)
    words, _overrides[:] = _without_overrides(words)
    arguments = FLAGS(words)
  except (flags.Error, ValueError) as error:
    raise _reworded(error, own) from None
  given = arguments[1:]
  if len(given) > len(positional) and positional[-1:] != ("...",):
    raise UserError(f"argument {given[len(positional)]!r} is one too many; a flag is --NAME=VALUE")
  if "" in given:
    name = positional[0].strip("[]")
    raise UserError(f"{name} is empty; name a file or a directory, as . for this one")
  needed = [name for name in positional if name != "..." and not name.startswith("[")]
  if len(given) < len(needed):
    raise UserError(f"{needed[len(given)]} is missing; --help shows the usage")
  return arguments


def _reworded(error: Exception, own: Sequence[flags.Flag]) -> UserError:
  """What absl or ml_collections objects to, as one line."""
  if isinstance(error.__context__, UserError):  # raised by a parser below, wrapped by absl
    return error.__context__
  if isinstance(error, flags.CantOpenFlagFileError | UnicodeDecodeError):
    return UserError(f"--flagfile cannot be read ({str(error).rpartition(': [')[2]}); name a text")
  message = str(error)
  if isinstance(error, flags.UnrecognizedFlagError):
    name = error.flagname
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


# [(field, word)] of the flags --config.FIELD=WORD of this command line.
_overrides: list[tuple[str, str]] = []


def _without_overrides(words: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
  """The command line without the flags that change fields of --config, and those."""
  rest: list[str] = []
  found: list[tuple[str, str]] = []
  waiting = ""  # a flag whose value is the next word
  for at, word in enumerate(words):
    flag = re.fullmatch(r"--?(no)?config\.([^=]+)(?:=(.*))?", word, re.S)
    if waiting:
      found.append((waiting, word))
      waiting = ""
    elif "--" in words[:at] or not flag or "config" not in FLAGS:
      rest.append(word)
    elif flag[1]:
      found.append((flag[2], "false"))
    elif flag[3] is not None:
      found.append((flag[2], flag[3]))
    elif at + 1 < len(words) and not words[at + 1].startswith("-"):
      waiting = flag[2]
    else:
      found.append((flag[2], "true"))
  return rest, found


def experiment(argument: str | None) -> Any:
  """The `config.Config` of --config=ARGUMENT with the changes that other flags make; None for None.

  Raises:
    UserError: a file that fails, a field that is not known, a wrong value.
  """
  if argument is None:
    if _overrides:
      field = _overrides[0][0]
      raise UserError(f"--config.{field} changes a field of --config=FILE, which is missing")
    return None
  from seedlab import changes  # parts import JAX; a wrong file is answered before

  return changes.changed(load(argument), {field: value_of(word) for field, word in _overrides})


def value_of(word: str) -> Any:
  """What a word on the command line means: a number, true, false, none, a list, a dict, a word."""
  if word.lower() in ("none", "null", "true", "false"):
    return {"true": True, "false": False}.get(word.lower())
  try:
    return decoding.parse(word)
  except json.JSONDecodeError:
    pass
  try:
    with warnings.catch_warnings(action="ignore"):  # of escapes that Python does not know
      value = ast.literal_eval(word)
  except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
    return word
  return word if decoding.deeper(value) else value


def load(argument: str) -> Any:
  """What `get_config` of "FILE", "FILE:SCALE", "seedlab:NAME" or "seedlab:NAME:SCALE" returns.

  Executes the file; UserError with file, line and cause where that fails.
  """
  name, *scale = argument.split(":", 1)
  name, path, scale = _own_config(*scale) if name == "seedlab" else (name, name, scale)
  try:
    source = decoding.content(path)
  except OSError as error:
    near = closest(path, map(str, pathlib.Path(path).parent.glob("*.py")))
    raise UserError(f"config file {path!r} cannot be read: {error.strerror}{near}") from None
  if path == name:  # one's own, which may import what lies beside it
    parts.use_places()
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
    if not isinstance(config, config_dict.ConfigDict | dict):
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
