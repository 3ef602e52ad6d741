"""What a sweep gives a paper: sentences with a table."""

from collections.abc import Sequence
from typing import Literal

from seedlab.findings import Findings
from seedlab.report import latex, markdown, words


def tables(found: Sequence[Findings], form: Literal["latex", "markdown"]) -> str:
  """The headline of each and a table, in one of the forms."""
  document = {"latex": latex.document, "markdown": markdown.document}[form]
  written = []
  for one in found:
    name = f"{one.name}: {words.caption(one)}" if one.name else words.caption(one)
    head = (name, *(column.name or "value" for column in one.columns))
    written.append(document(words.headline(one), [head, *words.rows(one)]))
  return "\n\n".join(written)
