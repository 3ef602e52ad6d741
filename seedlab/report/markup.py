"""What every page is made of: sections, tables and figures in one HTML file.

A page is a headline and sections of markup; figures are Bokeh models, whose library is inlined
with them, so that nothing is fetched. Everything from outside (names, configs, labels) is escaped,
in markup and in JSON.
"""

import base64
import hashlib
import html
import importlib.resources
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from bokeh.embed import json_item
from bokeh.models.layouts import LayoutDOM

from seedlab import console
from seedlab.errors import UserError
from seedlab.findings import Findings

_LIVE_SECONDS = 10


def write(page: str, path: str | os.PathLike) -> pathlib.Path:
  """Writes a page, replaced in one piece; raises UserError where that cannot be."""
  path = pathlib.Path(path)
  part = path.with_name(f".{path.name}.{os.getpid()}.part")
  try:
    part.write_text(page, encoding="utf-8")
    part.replace(path)
  except OSError as error:
    part.unlink(missing_ok=True)
    raise UserError(
      f"{str(path)!r} cannot be written ({error.strerror}); make room or name another place"
    ) from None
  return path


Figures = Mapping[str, tuple[LayoutDOM, str, str]]  # id -> (model, alternative text, caption)


def page(
  title: str,
  headline: str,
  lead: Sequence[str],
  sections: Sequence[str],
  drawn: Figures,
  facts: Mapping[str, Any],
  live: bool = False,
) -> str:
  """The whole page; `facts` is what its script reads."""
  files = importlib.resources.files("seedlab.report")
  items = [json_item(model, name) for name, (model, _, _) in drawn.items()]
  known = {"charts": items, "columns": [], "command": "", **facts}
  scripts = [_bokeh()] * bool(items) + [files.joinpath("page.js").read_text(encoding="utf-8")]
  hashes = " ".join(f"'sha256-{_sha256(script)}'" for script in scripts)
  refresh = f'<meta http-equiv="refresh" content="{_LIVE_SECONDS}">\n' * live
  return "".join(
    [
      '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n',
      '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
      '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; style-src'
      " 'unsafe-inline'; script-src",
      f" {hashes}; img-src data: blob:; font-src data:\">\n",
      refresh,
      f"<title>{escape(title)} - seedlab</title>\n",
      f"<style>{files.joinpath('page.css').read_text(encoding='utf-8')}</style>\n<main>\n",
      f'<p class="kind">{escape(title)}</p>\n<h1>{escape(headline)}</h1>\n',
      *(f'<p class="lead">{escape(sentence)}</p>\n' for sentence in lead),
      *sections,
      "<noscript><p>The figures and the table of runs need JavaScript.</p></noscript>\n",
      "</main>\n",
      f'<script type="application/json" id="facts">{_json(known)}</script>\n',
      *(f"<script>{script}</script>\n" for script in scripts),
      "</html>\n",
    ]
  )


def _bokeh() -> str:
  """The plotting library itself; the one file that figures without widgets need."""
  import bokeh

  file = pathlib.Path(bokeh.__file__).parent / "server/static/js/bokeh.min.js"
  return file.read_text(encoding="utf-8").replace("</script", "<\\/script")


def figures(drawn: Figures) -> str:
  return "".join(
    f'<figure><div id="{name}" role="img" aria-label="{escape(alt)}"></div>'
    f"<figcaption>{escape(caption)}</figcaption></figure>\n"
    for name, (_, alt, caption) in drawn.items()
  )


def plain_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """A table of text; columns of numbers are set to the right."""
  top = "".join(f"<th scope=col>{escape(cell)}" for cell in head)
  body = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}" for cell in row) for row in rows)
  table = f'<table class="left wide"><thead><tr>{top}</thead><tbody>\n{body}</table>'
  return f'<div class="card scroll">{table}</div>'


def section(title: str, content: str, kind: str = "") -> str:
  if not content:
    return ""
  head = f"<h2>{escape(title)}</h2>\n" if title else ""
  return f'{head}<div class="{kind}">\n{content}</div>\n' if kind else f"{head}{content}\n"


def label_of(found: Findings) -> str:
  return f"{found.label}, %" if found.percent else found.label


def escape(value: Any) -> str:
  """Text within markup or an attribute; letters that nobody would see are shown as escapes."""
  return html.escape(console.shown(str(value)))


def _sha256(script: str) -> str:
  """By which the browser knows a script of ours; it runs no other."""
  return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _json(value: Any) -> str:
  """JSON that no markup can end."""
  return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
