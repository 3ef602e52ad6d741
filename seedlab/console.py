"""Text for a terminal: what came from files and flags moves no cursor and hides no letter."""

import re
import sys
from collections.abc import Sequence

# Control characters but line ends and tabs; marks that turn the direction of writing or that
# nobody sees; halves of surrogate pairs, which stand for bytes that were no text.
_UNSEEN = re.compile(
  "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
  "\ufff9-\ufffb\ud800-\udfff]"
)


def shown(text: str) -> str:
  r"""The text with `\x1b`, `\u202e` and their like in place of what a terminal would act upon."""
  return _UNSEEN.sub(lambda found: ascii(found[0])[1:-1], text)


def write(text: object, error: bool = False) -> None:
  """Prints to the standard output, or to the standard error."""
  print(shown(str(text)), file=sys.stderr if error else sys.stdout, flush=error)


def say(message: str) -> None:
  """One line on the standard error."""
  write(f"seedlab: {message}", error=True)


def cell(text: str) -> str:
  """As a cell of a table: a line end within it begins no row."""
  return shown(re.sub(r"[\n\t]+", " ", text))


def aligned(rows: Sequence[Sequence[str]]) -> str:
  """The lines of a table with its columns in line."""
  cells = [list(map(cell, row)) for row in rows]
  widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
  return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in cells)
