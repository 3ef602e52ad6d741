"""Sentences and tables as LaTeX, any text escaped; tables need the package booktabs."""

import re
from collections.abc import Sequence

_SPECIAL = {
  "\\": r"\textbackslash{}",
  "~": r"\textasciitilde{}",
  "^": r"\textasciicircum{}",
  "&": r"\&",
  "%": r"\%",
  "$": r"\$",
  "#": r"\#",
  "_": r"\_",
  "{": r"\{",
  "}": r"\}",
  # Of these, fonts of the OT1 encoding show other signs.
  "<": r"\textless{}",
  ">": r"\textgreater{}",
  "|": r"\textbar{}",
  "`": r"\textasciigrave{}",
  # After the end of a row, an option.
  "[": "{[}",
  "]": "{]}",
  "*": "{*}",
  # Which not every font has.
  "±": r"$\pm$",
  "\N{MULTIPLICATION SIGN}": r"$\times$",
  "\N{MINUS SIGN}": "$-$",
  "≤": r"$\leq$",
  "≥": r"$\geq$",
}
_ANY = re.compile(
  r"(?P<minus>(?<![\w.)])-(?=\.?\d))|(?P<dash>-(?=-))|[" + re.escape("".join(_SPECIAL)) + "]"
)
_NUMBER = re.compile(r"[+-]?(\d[\d,]*)?\.?\d+(e[+-]?\d+)?( ?%)?", re.ASCII)


def escaped(text: str) -> str:
  """Set as `text`; a sign before a number is a minus, other letters than ASCII are left."""
  return _ANY.sub(_replaced, " ".join(text.split()))


def _replaced(found: re.Match[str]) -> str:
  if found["minus"]:
    return "$-$"
  return "-{}" if found["dash"] else _SPECIAL[found[0]]  # no dash of two hyphens


def document(sentences: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  r"""Paragraphs, then a `tabular` whose first row is its head; columns of numbers end right."""
  head, *body = rows
  places = ["r" if _numeric(cells) else "l" for cells in zip(*body, strict=True)]
  head, *body = (" & ".join(map(escaped, row)) + r" \\" for row in rows)
  lines = [
    rf"\begin{{tabular}}{{{' '.join(places)}}}",
    r"\toprule",
    head,
    r"\midrule",
    *body,
    r"\bottomrule",
    r"\end{tabular}",
  ]
  package = "% The table needs \\usepackage{booktabs}."
  return "\n\n".join([*map(escaped, sentences), "\n".join([package, *lines])])


def _numeric(cells: Sequence[str]) -> bool:
  given = [cell for cell in cells if cell not in ("", "-", "?")]
  return bool(given) and all(map(_NUMBER.fullmatch, given))
