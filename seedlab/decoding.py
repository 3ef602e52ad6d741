"""Files and JSON that others wrote: whatever is wrong with them fails in one way.

`json.loads` raises a RecursionError for deep nesting, a plain ValueError for a number of more than
4,300 digits and a UnicodeDecodeError for bytes that are no text; and what it takes may be nested
more deeply than any function could go through afterwards.
"""

import errno
import json
import os
import pathlib
import stat
from typing import Any

DEEPEST = 100  # lists and objects inside each other; nothing that seedlab writes has 20


def parse(text: str | bytes, **options: Any) -> Any:
  """`json.loads(text, **options)`; raises `json.JSONDecodeError`, and nothing else."""
  try:
    value = json.loads(text, **options)
  except json.JSONDecodeError:
    raise
  except UnicodeDecodeError as error:
    raise json.JSONDecodeError(f"byte {error.start} is not {error.encoding} text", "", 0) from None
  except RecursionError:
    raise json.JSONDecodeError(_TOO_DEEP, "", 0) from None
  except ValueError:
    raise json.JSONDecodeError("a number has more than 4,300 digits", "", 0) from None
  if deeper(value):
    raise json.JSONDecodeError(_TOO_DEEP, "", 0)
  return value


def content(path: str | os.PathLike) -> bytes:
  """The bytes of a file; an OSError also for a pipe, which may never answer, and a device."""
  try:
    kind = os.stat(path).st_mode
  except ValueError as error:  # a NUL character
    raise OSError(errno.EINVAL, str(error), os.fspath(path)) from None
  if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
    raise OSError(errno.EINVAL, "it is a pipe or a device, and no file", os.fspath(path))
  return pathlib.Path(path).read_bytes()


def deeper(value: Any) -> bool:
  """Whether lists and dicts lie more than `DEEPEST` deep inside each other, or hold themselves."""
  level: list[Any] = [(value,)]
  for _ in range(DEEPEST + 1):
    inner = (one.values() if isinstance(one, dict) else one for one in level)
    level = [one for values in inner for one in values if isinstance(one, dict | list | tuple)]
    if not level:
      return False
  return True


_TOO_DEEP = f"it is nested more than {DEEPEST} deep"
