"""Runs commands in this process and makes the stores and texts that hostile tests change."""

import contextlib
import importlib
import io
import sys
from typing import NamedTuple

from absl import flags

from seedlab import cli

FLAGS = flags.FLAGS
_flags: dict[str, list] = {}  # of each command; several have flags of one name


class Answer(NamedTuple):
  status: int
  out: str
  err: str


def command(name: str, *arguments: str) -> Answer:
  """What `seedlab NAME ARGUMENTS` prints, and its status, without starting a process."""
  module = importlib.import_module(f"seedlab.commands.{name}") if name not in _flags else None
  full = f"seedlab.commands.{name}"
  if module:
    _flags[name] = FLAGS.get_key_flags_for_module(full)
  else:
    for flag in _flags[name]:
      FLAGS[flag.name] = flag
      FLAGS.register_key_flag_for_module(full, flag)
  out, err, argv = io.StringIO(), io.StringIO(), sys.argv
  sys.argv = [f"seedlab {name}", *arguments]
  try:
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
      FLAGS.unparse_flags()
      try:
        module = sys.modules[full]
        status = cli.call(module.main, module.POSITIONAL) or 0
      except SystemExit as error:
        status = error.code
      except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
          raise
        status, message = cli._explain(error)
        err.write(message)
  finally:
    sys.argv = argv
    FLAGS.unparse_flags()
    for flag in _flags[name]:
      flag.unparse()
      delattr(FLAGS, flag.name)
  return Answer(status, out.getvalue(), err.getvalue())
