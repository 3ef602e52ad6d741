"""The user's mistakes: one line with field, value and remedy."""

import contextlib
import difflib
import operator
import os
import pathlib
import re
from collections.abc import Iterable, Sequence
from typing import Any

# No name of a file is longer than 255 bytes, so that whatever these match is not part of a path
# to copy: a word without slashes, or a literal in quotes that is longer than most whole paths.
_OVERLONG = re.compile(r"[^\s/]{256,}|'[^'\n]{1000,}'|\"[^\"\n]{1000,}\"")


_FRAMES = re.compile(r'\n(?=  File ")')


class UserError(ValueError):
  """The user's input is wrong: one line with field, value and remedy; exit status 2.

  Values too long to read are cut in the message, so that the remedy after them is seen. After the
  line may come the frames of the user's own function, as a traceback has them.
  """

  def __init__(self, message: str = "") -> None:
    head, *frames = _FRAMES.split(str(message), maxsplit=1)
    line = " ".join(part.strip() for part in head.splitlines())
    super().__init__("\n".join([_OVERLONG.sub(_cut, line), *frames]))


def _cut(found: re.Match) -> str:
  text = found.group()
  return f"{text[:60]}...{text[-20:]} ({len(text):,} characters)"


class NotComparable(UserError):
  """The sweeps measure different things, so that no verdict between them would mean anything."""


class Damaged(UserError):
  """What a store holds is not what was written into it."""


class AllDiverged(UserError):
  """There are runs, and every one of them diverged."""


def choice_error(field: str, value: Any, choices: Iterable[str]) -> UserError:
  """The error for a value outside a list, with the closest choice when there is one."""
  choices = sorted(choices)
  return UserError(
    f"{field}={value!r} is not known{closest(str(value), choices)}; choices: {', '.join(choices)}"
  )


def closest(word: str, choices: Iterable[str]) -> str:
  """`; did you mean X?` for the choice nearest to `word`, or nothing."""
  near = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.5)
  return f"; did you mean {near[0]!r}?" if near else ""


def not_there(path: str | os.PathLike) -> str:
  """That a path does not exist, with the nearest name beside it or the folder that lacks too."""
  path = pathlib.Path(path)
  folder = path.parent
  if not folder.is_dir():
    return f"{str(path)!r}: no such file or directory; nor is there a folder {str(folder)!r}"
  with contextlib.suppress(OSError):
    return f"{str(path)!r}: no such file or directory{closest(path.name, os.listdir(folder))}"
  return f"{str(path)!r}: no such file or directory"


def whole(field: str, value: Any) -> int:
  """`value` as an int; NumPy's integers are taken, text, booleans and floats refused."""
  if not isinstance(value, bool):
    with contextlib.suppress(TypeError):
      number = operator.index(value)
      if abs(number) >= 2**63:
        raise UserError(f"{field} must lie between -2^63 and 2^63")
      return number
  kind = type(value).__name__
  raise UserError(f"{field}={short(repr(value))} must be a whole number, not of type {kind}")


def counted(number: int, noun: str) -> str:
  """The number with its noun in the right form: "1 run", "1,000 runs"."""
  return f"{number:,} {noun}{'s' * (number != 1)}"


def changes(differences: Sequence[tuple[str, Any, Any]]) -> str:
  """`field: there -> here` for each, long values cut."""
  return ", ".join(
    f"{field}: {short(there)} -> {short(here)}" for field, there, here in differences
  )


def short(value: Any) -> str:
  """As text, of which long ones are cut."""
  text = str(value)
  return text if len(text) <= 40 else f"{text[:12]}..."
