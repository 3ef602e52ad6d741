"""One self-contained HTML page about a sweep, a comparison or a grid.

A page is a headline and sections of markup; pictures are Bokeh models, whose
library is inlined with them, so that nothing is fetched. Everything from outside
(names, configs, labels) is escaped, in markup and in JSON.
"""

import base64
import html as markup
import importlib.resources
import io
import itertools
import json
import math
import os
import pathlib
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray
from bokeh.embed import json_item
from bokeh.models.layouts import LayoutDOM
from PIL import Image

from seedlab import config, findings, records
from seedlab import data as datasets
from seedlab.claims import Evidence, Verdict
from seedlab.comparisons import Comparison
from seedlab.errors import UserError
from seedlab.findings import Disagreement, Findings
from seedlab.meanings import Direction
from seedlab.report import charts, versus, words
from seedlab.stats.single import Interval

_PICTURES = 24  # test examples shown that flip between seeds
_CLASSES = 12  # up to which the confusion between seeds is shown as a matrix
_PAIRS = 12  # most confused classes listed otherwise
_LIVE_SECONDS = 10
_DIGEST = 16  # characters of a digest that tell runs apart on a page


def sweep_page(
  dataset: xarray.Dataset,
  metric: str | None = None,
  title: str | None = None,
  directory: str = "DIR",
  data_dir: str | None = None,
  live: bool = False,
) -> str:
  """The page about one sweep.

  Args:
    dataset, metric: as in `report.text`, with the same errors.
    title: of the page; by default what was trained on what.
    directory: of the store, for the replay command.
    data_dir: where the test pictures are, for those that flip between seeds.
    live: has the browser load the page again every few seconds.
  """
  found = findings.examine(dataset, metric)
  return _runs_page(
    found,
    title or _title(dataset.attrs),
    _digests(dataset),
    _outcomes(dataset, found),
    f"python scripts/replay.py {shlex.quote(directory)} --run=RUN",
    [
      _instability(findings.disagreement(dataset), found, dataset.attrs, data_dir),
      _claims(dataset.attrs.get("claims") or []),
    ],
    [_section("Provenance", _provenance(dataset.attrs))],
    live,
  )


def table_page(found: Findings, title: str | None = None) -> str:
  """The page about one variant of a table (`findings.examine_table`)."""
  return _runs_page(found, title or found.name or "A table of runs", {}, [], "", [], [])


def _runs_page(
  found: Findings,
  title: str,
  digests: Mapping[int, str],
  outcomes: Sequence[Mapping[str, Any]],
  command: str,
  middle: Sequence[str],
  end: Sequence[str],
  live: bool = False,
) -> str:
  """Headline, pictures, numbers, what is special (`middle`), runs, replay, provenance (`end`)."""
  word, run = words.WORDS[bool(found.better)][0], int(words.ends(found, found.columns[0])[0][0])
  pictures = _sweep_charts(found, digests)
  columns = _run_columns(found, digests, outcomes)
  replay = (
    f'<p>Trains <span id="replayed">the {word} run, {run},</span> again and compares every bit;'
    " choose another in the table or a picture.</p>"
    f'<pre class="copy" id="command">{_escape(command.replace("RUN", str(run)))}</pre>'
  )
  body = [
    _section("", _figures(pictures), "figures"),
    _section("Numbers", _numbers(found), "numbers"),
    _effects(found),
    *middle,
    _section("Runs", _runs_table(columns)),
    _section("Replay", replay if command else ""),
    *end,
  ]
  first, *others = words.headline(found)
  facts = {"command": command, "columns": columns}
  return _page(title, first, others, body, pictures, facts, live)


def comparison_page(found: Comparison, title: str | None = None) -> str:
  """The page about a comparison."""
  of = found.sweeps[0]
  label = _label(of)
  pictures = {
    "densities": (
      charts.densities(found.sweeps, label),
      f"Density of {label} over the runs of each sweep: "
      + "; ".join(_range_words(sweep) for sweep in found.sweeps)
      + ".",
      "How the runs of each sweep are spread.",
    )
  }
  for number, pair in enumerate(found.pairs):
    if pair.two.paired and len(pair.two.a_R) > 1:
      shared = np.intersect1d(pair.variant.columns[0].runs, pair.baseline.columns[0].runs)
      pictures[f"pairs{number}"] = (
        charts.differences(
          pair.two, shared, f"{pair.variant.name} - {pair.baseline.name}{of.unit}"
        ),
        f"Differences of {len(shared):,} pairs of runs with the same seed, ascending.",
        f"{pair.variant.name} - {pair.baseline.name}, seed by seed.",
      )
  verdicts = [versus.verdict(pair, found.margin) for pair in found.pairs]
  head, *rows = versus.sweep_table(found)
  sections = []
  for pair, sentences in zip(found.pairs, verdicts, strict=True):
    listed = "".join(
      f"<dt>{_escape(name)}<dd>{_escape(value)}" for name, value in versus.facts(pair, found.margin)
    )
    notes = "".join(f"<li>{_escape(note)}" for note in versus.notes(pair))
    sections.append(
      _section(
        f"{pair.variant.name} against {pair.baseline.name}",
        f'<p class="outcome {pair.settled}">{_escape(sentences[0])}</p>'
        + "".join(f"<p>{_escape(sentence)}</p>" for sentence in sentences[1:])
        + f'<div class="card"><dl>{listed}</dl><ul>{notes}</ul></div>',
      )
    )
  differing = [
    (field, *("none" if value is None else str(value) for value in values))
    for field, values in found.differences
  ]
  body = [
    _section("", _figures(pictures), "figures"),
    *sections,
    _section("Sweeps", _plain_table(head, rows)),
    _section(
      "What differs",
      _plain_table(("field", *(sweep.name for sweep in found.sweeps)), differing)
      if differing
      else "<p>Nothing that was recorded.</p>",
    ),
  ]
  names = " and ".join(sweep.name for sweep in found.sweeps)
  return _page(
    title or names,
    verdicts[0][0],
    [sentences[0] for sentences in verdicts[1:]],
    body,
    pictures,
    {},
  )


def grid_page(
  cells: Sequence[tuple[Mapping[str, Any], str | os.PathLike]],
  metric: str | None = None,
  title: str | None = None,
  better: Direction | None = None,
) -> str:
  """The page about a grid: (the cell's field values, its store) in order."""
  found = []
  for values, directory in cells:
    name = ", ".join(f"{field}={value}" for field, value in values.items()) or str(directory)
    with records.readable(directory):
      found.append(findings.examine(records.open(directory), metric, name).turned(better))
    metric = metric or found[0].metric
  of = found[0]
  label = _label(of)
  rows = []
  for one in found:
    s = one.columns[0].summary
    limits = (s.low, s.high) if one.independent else (math.nan, math.nan)
    rows.append((s.mean, *limits, s.min, s.max))
  pictures = {
    "cells": (
      charts.intervals([one.name for one in found], rows, label),
      f"{label} in each cell: " + "; ".join(_range_words(one) for one in found) + ".",
      "Mean with its 95 % interval (thick) and the range of the runs (thin).",
    )
  }
  ordered = sorted(found, key=lambda one: one.columns[0].summary.mean * (one.better or 1))
  low, high = ordered[0], ordered[-1]
  means = [
    words.number(one, one.columns[0].summary.mean, one.columns[0].summary.sd) for one in (low, high)
  ]
  unit = " %" if of.percent else ""
  ends = words.WORDS[bool(of.better)]
  head = ("cell", "runs", "mean", "95 % interval of the mean", "sd", "min", "max")
  table = []
  for one in found:
    s = one.columns[0].summary
    show = [words.number(one, value, s.sd) for value in (s.mean, s.low, s.high, s.sd, s.min, s.max)]
    limits = f"{show[1]} to {show[2]}" if one.independent and s.n > 1 else "-"
    table.append((one.name, f"{s.n:,}", show[0], limits, *show[3:]))
  return _page(
    title or "A grid of sweeps",
    f"{of.label} by cell: the {ends[0]} mean is {means[0]}{unit} ({low.name}), the {ends[1]} is"
    f" {means[1]}{unit} ({high.name}).",
    [
      "The best of many cells is partly the luckiest; scripts/compare.py judges chosen pairs and"
      " corrects for their number."
    ],
    [_section("", _figures(pictures), "figures"), _section("Cells", _plain_table(head, table))],
    pictures,
    {},
  )


_RULES = (
  "lo and hi are the limits of the interval in bold. Its level is as high as it takes for all"
  " claims to hold together (Holm), so that it is wider than the 95 % interval of the same number"
  " in a table; a p-value has to meet that level too. Open: the interval decides neither way."
)


class Table(NamedTuple):
  """A table of text on a page: title, header, rows, and what must be said about it."""

  title: str
  head: Sequence[str]
  rows: Sequence[Sequence[str]]
  note: str = ""


def study_page(
  title: str,
  headline: str,
  lead: Sequence[str],
  verdicts: Sequence[Verdict],
  changed: Mapping[str, str],
  tables: Sequence[Table],
  pictures: Mapping[str, tuple[LayoutDOM, str, str]],
  origin: str = "",
) -> str:
  """The page about a study.

  Args:
    verdicts: of its claims, in order.
    changed: claim id -> what changed since training (`claims.changes`).
    tables: below the claims.
    pictures: id -> (model, alternative text, caption).
    origin: where and when what is on it was trained, in a sentence.
  """
  head = ("", "claim", "rule, and what was found", "outcome")
  rows = "\n".join(_verdict_row(verdict, changed) for verdict in verdicts)
  names = "".join(f"<th scope=col>{_escape(cell)}" for cell in head)
  claims_table = (
    f'<div class="card scroll"><table class="left claims"><thead><tr>{names}</thead><tbody>'
    f"{rows}</table></div>"
  )
  body = [
    _section("", _figures(pictures), "figures"),
    _section("Claims", f"{claims_table}<p>{_RULES}</p>" if verdicts else ""),
    *(
      _section(
        table.title,
        _plain_table(table.head, table.rows) + f"<p>{_escape(table.note)}</p>" * bool(table.note),
      )
      for table in tables
      if table.rows
    ),
    f'<p class="kind">{_escape(origin)}</p>\n' * bool(origin),
  ]
  return _page(title, headline, lead, body, pictures, {})


def _verdict_row(verdict: Verdict, changed: Mapping[str, str]) -> str:
  claim = verdict.claim
  parts = "".join(
    f"<p>{_escape(part.estimand)}: {_escape(rule_text(part.rule, part.margin))}"
    + ("" if item is None else f"<br><b>{_escape(evidence_text(item))}</b>")
    for part, item in itertools.zip_longest(claim.parts, verdict.evidence)
  )
  reason = f"<p>{_escape(verdict.reason)}</p>" * bool(verdict.reason)
  warning = ""
  if claim.id in changed:
    warning = f'<p class="warn">{_escape(changed[claim.id])}</p>'
  kind = verdict.outcome.split()[0]
  return (
    f"<tr><td>{_escape(claim.id)}<td>{_escape(claim.sentence)}{warning}<td>{parts}"
    f'<td><span class="outcome {kind}">{_escape(verdict.outcome)}</span>'
    f"{reason}"
  )


def evidence_text(item: Evidence) -> str:
  """An interval with its level, or a p-value."""
  if not isinstance(item, Interval):
    return f"p = {item:.2g}"
  if math.isnan(item.low):
    return f"{item.estimate:.3g} (no interval)"
  return f"{item.estimate:.3g} ({100 * item.level:.4g} %: {item.low:.3g} to {item.high:.3g})"


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


Pictures = Mapping[str, tuple[LayoutDOM, str, str]]  # id -> (model, alternative text, caption)


def _page(
  title: str,
  headline: str,
  lead: Sequence[str],
  sections: Sequence[str],
  pictures: Pictures,
  facts: Mapping[str, Any],
  live: bool = False,
) -> str:
  """The whole page; `facts` is what its script reads."""
  files = importlib.resources.files("seedlab.report")
  items = [json_item(model, name) for name, (model, _, _) in pictures.items()]
  known = {"charts": items, "columns": [], "command": "", **facts}
  scripts = [_bokeh()] * bool(items) + [files.joinpath("page.js").read_text(encoding="utf-8")]
  refresh = f'<meta http-equiv="refresh" content="{_LIVE_SECONDS}">\n' * live
  return "".join(
    [
      '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n',
      '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
      '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; style-src'
      " 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:; font-src data:\">\n",
      refresh,
      f"<title>{_escape(title)} - seedlab</title>\n",
      f"<style>{files.joinpath('page.css').read_text(encoding='utf-8')}</style>\n<main>\n",
      f'<p class="kind">{_escape(title)}</p>\n<h1>{_escape(headline)}</h1>\n',
      *(f'<p class="lead">{_escape(sentence)}</p>\n' for sentence in lead),
      *sections,
      "<noscript><p>The pictures and the table of runs need JavaScript.</p></noscript>\n",
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


def _sweep_charts(found: Findings, digests: Mapping[int, str]) -> dict[str, Any]:
  """Pictures of a sweep of two or more runs."""
  column = found.columns[-1]
  s = column.summary
  if s.n < 2:
    return {}
  label = _label(found)
  mean, sd = words.number(found, s.mean, s.sd), words.number(found, s.sd, s.sd)
  bars = f"The bar spans one standard deviation ({sd}) to either side of the mean"
  if found.examples:
    own = words.number(found, column.sd, s.sd)
    bars = (
      f"The bars span one standard deviation to either side of the mean: as measured on this test"
      f" set ({sd}), and as new examples would show it ({own})"
    )
  outside = ""
  if len(found.columns) > 1:
    outside = " Diverged runs stand at chance level among the runs, and not in the histogram."
  elif found.diverged:
    outside = f" Diverged runs are {'at chance level' if found.failed_R.all() else 'not drawn'}."
  pictures = {
    "distribution": (
      charts.distribution(found, charts.runs(found, digests), label),
      f"Histogram of {label} over {s.n:,} runs, from {words.number(found, s.min, s.sd)} to"
      f" {words.number(found, s.max, s.sd)}, half of them between"
      f" {words.number(found, s.q25, s.sd)} and {words.number(found, s.q75, s.sd)}; mean {mean},"
      f" sd {sd}.",
      f"How often each value occurs among {s.n:,} runs, and below each run. {bars}.{outside}",
    ),
    "ranked": (
      charts.ranked(found, charts.runs(found, digests), label),
      f"The {found.columns[0].summary.n:,} runs in ascending order of {label}, beside the order"
      " statistics of a normal sample.",
      "Every run in order. Dashed: what a normal sample of this size gives, with the band that"
      " holds each of its values 95 times in 100. Tap or click a run for its replay command."
      + _drawn(found.columns[0].summary.n),
    ),
  }
  lines = charts.curves(found, label)
  if lines is not None:
    sds = found.curves[np.isfinite(found.curves).all(axis=1)].std(axis=0, ddof=1)
    pictures["curves"] = (
      lines,
      f"{label} over training: median and bands of the runs; the standard deviation between runs"
      f" goes from {words.number(found, sds[0], sds[0])} to"
      f" {words.number(found, sds[-1], sds[-1])}.",
      "Over training: the median, and the bands that hold the middle half and nine tenths of the"
      " runs; the first steps may lie outside the frame. Below, the sd between runs.",
    )
  return pictures


def _drawn(count: int) -> str:
  if count <= charts.MOST_POINTS:
    return ""
  return f" {charts.MOST_POINTS:,} of the runs are drawn, with all extremes."


def _figures(pictures: Pictures) -> str:
  return "".join(
    f'<figure><div id="{name}" role="img" aria-label="{_escape(alt)}"></div>'
    f"<figcaption>{_escape(caption)}</figcaption></figure>\n"
    for name, (_, alt, caption) in pictures.items()
  )


def _numbers(found: Findings) -> str:
  head = ""
  if len(found.columns) > 1:
    names = "".join(f"<th scope=col>{_escape(column.name)}" for column in found.columns)
    head = f"<thead><tr><td>{names}</thead>"
  rows = "\n".join(
    f"<tr><th scope=row>{_escape(name)}" + "".join(f"<td>{_escape(cell)}" for cell in cells)
    for name, *cells in words.rows(found)
  )
  caption = f"<caption>{_escape(words.caption(found))}</caption>"
  facts = "".join(f"<dt>{_escape(name)}<dd>{_escape(value)}" for name, value in words.facts(found))
  notes = "".join(f"<li>{_escape(note)}" for note in words.notes(found))
  return (
    f'<div class="card"><table>{caption}{head}<tbody>\n{rows}</table></div>\n'
    f'<div class="card"><dl>{facts}</dl><ul>{notes}</ul></div>'
  )


def _effects(found: Findings) -> str:
  """Which stream is to blame, of a crossed design."""
  rows = words.effects(found)
  if not rows:
    return ""
  table = _plain_table(("stream", "alone (first-order)", "with all interactions (total)"), rows)
  return _section(
    "Variance by source",
    "<p>Shares of the variance over new seeds, with 95 % intervals; negative estimates are shown as"
    f" they come out. Fewer than 16 levels a stream give rough intervals.</p>{table}",
  )


def _instability(
  found: Disagreement | None, sweep: Findings, attributes: Mapping[str, Any], data_dir
) -> str:
  """The test examples on which seeds differ, and which classes they take for each other."""
  if found is None:
    return ""
  names = _class_names(attributes, found.votes_ExK.shape[1], data_dir)
  c, difference = found.churn, found.difference

  def limits(of: Interval, scale: int, digits: int, most: float) -> str:
    if not sweep.independent or math.isnan(of.low):
      return ""
    low, high = max(of.low, 0.0), min(of.high, most)  # what few runs do not know, the range does
    return f" (95 % interval {scale * low:.{digits}f} to {scale * high:.{digits}f})"

  unstable = int((found.instability_E > 0).sum())
  total = len(found.instability_E)
  text = (
    f"Two seeds disagree on {100 * c.estimate:.2f} % of the test examples{limits(c, 100, 2, 1.0)};"
    f" {unstable:,} of {total:,} examples flip between some of the runs."
  )
  if difference:
    text += (
      f" Their probabilities differ by {difference.estimate:.4f}{limits(difference, 1, 4, 2.0)} on"
      " average: the L1 prediction difference, of the click, or summed over the classes."
    )
  shown = np.argsort(-found.instability_E, kind="stable")[:_PICTURES]
  shown = shown[found.instability_E[shown] > 0]
  pictures = _test_pictures(attributes, found.label_E, data_dir)
  cards = "".join(_example(found, int(e), names, pictures) for e in shown)
  grid = f'<div class="pictures">{cards}</div>' if cards else ""
  return _section("Examples that flip", f"<p>{_escape(text)}</p>{grid}") + _confusion(found, names)


def _example(found: Disagreement, e: int, names: Sequence[str], pictures) -> str:
  votes = found.votes_ExK[e]
  runs = votes.sum()
  top = np.argsort(-votes, kind="stable")[:3]
  said = ", ".join(f"{names[k]}: {100 * votes[k] / runs:.0f} %" for k in top if votes[k])
  label = names[int(found.label_E[e])]
  alt = f"Test example {e}, labelled {label}; the runs say {said}"
  image = f'<img src="{_png(pictures[e])}" alt="{_escape(alt)}">' if pictures is not None else ""
  return f"<div>{image}<b>{_escape(label)}</b> (example {e})<br>{_escape(said)}</div>"


def _confusion(found: Disagreement, names: Sequence[str]) -> str:
  """Which classes two seeds give to one example."""
  shares = 200 * found.confusion_KxK  # whichever of the two runs says which
  if not shares.any():
    return ""
  intro = "How often, in % of all examples and pairs of runs, one run says one class and another"
  if len(names) <= _CLASSES:
    most = shares.max()
    rows = "".join(
      f"<tr><th scope=row>{_escape(names[i])}"
      + "".join(_heat(shares[i, j], most) if i != j else "<td>" for j in range(len(names)))
      for i in range(len(names))
    )
    head = "".join(f"<th scope=col>{_escape(name)}" for name in names)
    table = f'<table class="heat"><thead><tr><td>{head}</thead><tbody>{rows}</table>'
  else:
    upper = np.triu(shares)
    order = np.argsort(-upper, axis=None)[:_PAIRS]
    pairs = [np.unravel_index(place, upper.shape) for place in order]
    rows = [(names[i], names[j], f"{upper[i, j]:.3f}") for i, j in pairs if upper[i, j]]
    table = _plain_table(("one run says", "another", "% of examples"), rows)
  card = f'<div class="card scroll">{table}</div>'
  return _section("Confusion between seeds", f"<p>{intro} the other.</p>{card}")


def _heat(share: float, most: float) -> str:
  strength = round(70 * share / most)
  shown = f"{share:.2f}" if share >= 0.005 else "0"
  style = f"background: color-mix(in srgb, var(--main) {strength}%, transparent)"
  return f'<td style="{style}">{shown}'


def _test_pictures(attributes: Mapping[str, Any], label_E: np.ndarray, data_dir) -> Any:
  """uint8[E, H, W, C] of the sweep's test set, or None where it is not at hand or no pictures."""
  found = _from_data(attributes, lambda data: datasets.test_set(data, data_dir))
  if found is None or found[0].ndim != 4 or not np.array_equal(found[1], label_E):
    return None
  return found[0]


def _class_names(attributes: Mapping[str, Any], classes: int, data_dir) -> list[str]:
  names = _from_data(attributes, lambda data: datasets.class_names(data, data_dir, download=False))
  if names is None or len(names) < classes:
    return [str(number) for number in range(classes)]
  return list(names)[:classes]


def _from_data(attributes: Mapping[str, Any], read) -> Any:
  """What `read` makes of the data section of the config; None without the data."""
  if not attributes.get("config"):
    return None
  try:
    return read(config.parse({"data": attributes["config"]["data"]}).data)
  except (UserError, OSError):
    return None


def _png(picture: np.ndarray) -> str:
  image = Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture)
  file = io.BytesIO()
  image.save(file, "PNG", optimize=True)
  return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _claims(recorded: Sequence[Mapping[str, Any]]) -> str:
  """What was fixed before training; verdicts stand on the page of the study."""
  if not recorded:
    return ""
  rows = [
    (
      claim["id"],
      claim["sentence"],
      "; ".join(
        f"{part['estimand']}: {rule_text(part['rule'], part['margin'])}" for part in claim["parts"]
      ),
    )
    for claim in recorded
  ]
  return _section("Claims fixed before training", _plain_table(("", "claim", "rule"), rows))


def rule_text(rule: str, margin: Sequence[float]) -> str:
  """A rule with its margins, as in "lo > 0" or "within [0.8, 1.25]"."""
  shown = [f"{value:g}" for value in margin]
  if rule.startswith("within"):
    return f"within [{', '.join(shown)}]"
  return rule.replace("x", shown[0]) if shown else rule


def _runs_table(columns: Sequence[Mapping[str, Any]]) -> str:
  """The head of the sortable table; the page's script fills in the rows."""
  head = "".join(
    f'<th scope="col"><button type="button">{_escape(column["name"])}</button>'
    for column in columns
  )
  return (
    f'<div class="card scroll"><table id="runs"><thead><tr>{head}</thead><tbody></tbody></table>'
    '</div><p><button id="more" type="button" hidden>more</button></p>'
  )


def _run_columns(
  found: Findings, digests: Mapping[int, str], outcomes: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
  """The columns of the table of runs: name, values, digits behind the point (null: as it is)."""
  rows = _table_rows(found)
  run_R = found.run_R[rows]
  columns = [{"name": "run", "values": run_R.tolist(), "digits": None}]
  if not found.independent:
    columns.append({"name": "seeds", "values": charts.seeds_text(found, run_R), "digits": None})
  for column in outcomes:
    columns.append({**column, "values": [column["values"][row] for row in rows]})
  if not outcomes:
    shown = dict(zip(found.columns[0].runs.tolist(), found.columns[0].values.tolist(), strict=True))
    values = [shown.get(int(run)) for run in run_R]
    columns.append({"name": _label(found), "values": values, "digits": 4})
  if digests:
    heads = [digests[int(run)] for run in run_R]
    columns.append({"name": "final state (SHA-256)", "values": heads, "digits": None})
  return columns


def _outcomes(dataset: xarray.Dataset, found: Findings) -> list[dict[str, Any]]:
  """Every metric of a store at the end, and when a run diverged, of all completed runs."""
  completed = dataset["completed"].values.astype(bool)
  columns = []
  for name in dataset.attrs["metrics"]:
    if not set(dataset[name].dims) <= {"run", "evaluation"}:
      continue
    values = (
      dataset[name].transpose("run", ...).values[completed].reshape(found.completed, -1)[:, -1]
    )
    percent = found.percent and name == found.metric
    scale, unit, digits = (100, ", %", 2) if percent else (1, "", 4)
    shown = [
      round(scale * value, 5) if math.isfinite(value) else None
      for value in values.astype(np.float64).tolist()
    ]
    columns.append({"name": name.replace("_", " ") + unit, "values": shown, "digits": digits})
  if found.diverged:
    steps = dataset["diverged"].values[completed].tolist()
    shown = [step if step >= 0 else None for step in steps]
    columns.append({"name": "diverged at step", "values": shown, "digits": None})
  return columns


def _table_rows(found: Findings) -> np.ndarray:
  """Rows of the completed runs that the table holds: all, or the extremes and evenly between."""
  if found.completed <= charts.MOST_POINTS:
    return np.arange(found.completed)
  shown = found.columns[0].runs[np.argsort(found.columns[0].values, kind="stable")]
  return np.flatnonzero(np.isin(found.run_R, shown[charts.thinned(len(shown))]))


def _digests(dataset: xarray.Dataset) -> dict[int, str]:
  """Run -> the head of the digest of its final state."""
  if "digest" not in dataset:
    return {}
  completed = dataset["completed"].values.astype(bool)
  heads = dataset["digest"].values[completed].astype(f"S{_DIGEST}").astype(str).tolist()
  return dict(zip(dataset["run"].values[completed].tolist(), heads, strict=True))


def _range_words(found: Findings) -> str:
  s = found.columns[0].summary
  mean, low, high = (words.number(found, value, s.sd) for value in (s.mean, s.min, s.max))
  return f"{found.name} {low} to {high}, mean {mean}"


def _plain_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """A table of text; columns of numbers are set to the right."""
  top = "".join(f"<th scope=col>{_escape(cell)}" for cell in head)
  body = "\n".join("<tr>" + "".join(f"<td>{_escape(cell)}" for cell in row) for row in rows)
  table = f'<table class="left wide"><thead><tr>{top}</thead><tbody>\n{body}</table>'
  return f'<div class="card scroll">{table}</div>'


def _section(title: str, content: str, kind: str = "") -> str:
  if not content:
    return ""
  head = f"<h2>{_escape(title)}</h2>\n" if title else ""
  return f'{head}<div class="{kind}">\n{content}</div>\n' if kind else f"{head}{content}\n"


def _provenance(attributes: Mapping[str, Any]) -> str:
  """The whole manifest: short values as they are, nested ones folded away."""
  short, long = "", ""
  for name, value in attributes.items():
    nested = not isinstance(value, str)
    shown = json.dumps(value, indent=1, default=str, ensure_ascii=False) if nested else value
    if nested and len(shown) > 80:
      long += f"<details><summary>{_escape(name)}</summary><pre>{_escape(shown)}</pre></details>\n"
    else:
      short += f"<dt>{_escape(name)}<dd>{_escape(shown)}"
  return (
    f"<details><summary>Where these runs come from</summary>\n<dl>{short}</dl>\n{long}</details>"
  )


def _title(attributes: Mapping[str, Any]) -> str:
  config, trainer = attributes.get("config"), attributes.get("trainer")
  if config:
    return f"{config['model']['name']} on {config['data']['name']}"
  return trainer["function"] if trainer else "A sweep"


def _label(found: Findings) -> str:
  return f"{found.label}, %" if found.percent else found.label


def _escape(value: Any) -> str:
  return markup.escape(str(value))


def _json(value: Any) -> str:
  """JSON that no markup can end."""
  return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
