"""Sentences and tables as Markdown (CommonMark with the tables of GitHub), any text escaped."""

import re
from collections.abc import Sequence

_SPECIAL = re.compile(r"[\\`*_{}\[\]<>$~&|]")


def escaped(text: str) -> str:
  """Shown as `text` within a line or a cell; each run of blanks and line ends as one blank."""
  return _SPECIAL.sub(r"\\\g<0>", " ".join(text.split()))


def paragraph(text: str) -> str:
  """Shown as a paragraph with `text` on one line, whatever it begins with."""
  line = re.sub(r"^(\d{1,9})(?=[.)])", r"\1\\", escaped(text))
  return re.sub(r"^(?=[#+=-])", r"\\", line)


def document(sentences: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """A paragraph each, then a table whose first row is its head."""
  lines = ["| " + " | ".join(map(escaped, row)) + " |" for row in rows]
  lines.insert(1, "|" + " --- |" * len(rows[0]))
  return "\n\n".join([*map(paragraph, sentences), "\n".join(lines)])
