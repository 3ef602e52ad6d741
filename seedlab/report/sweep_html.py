"""The page about one sweep, or about one variant of a table."""

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from seedlab import findings
from seedlab.findings import Findings
from seedlab.report import charts, words
from seedlab.report.flips import instability
from seedlab.report.markup import escape, figures, label_of, page, plain_table, section
from seedlab.report.studied import rule_text

if TYPE_CHECKING:  # tables need it not
  import xarray

_DIGEST = 16  # characters of a digest that tell runs apart on a page


def sweep_page(
  dataset: "xarray.Dataset",
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
    data_dir: where the test images are, for those that flip between seeds.
    live: has the browser load the page again every few seconds.
  """
  dataset = findings.held(dataset)
  found = findings.examine(dataset, metric)
  return _runs_page(
    found,
    title or _title(dataset.attrs),
    _digests(dataset),
    _outcomes(dataset, found),
    f"seedlab replay {shlex.quote(directory)} --run=",
    [
      instability(findings.disagreement(dataset), found, dataset.attrs, data_dir),
      _claims(dataset.attrs.get("claims") or []),
    ],
    [section("Provenance", _provenance(dataset.attrs))],
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
  """Headline, drawn, numbers, what is special (`middle`), runs, replay, provenance (`end`)."""
  word, run = words.WORDS[bool(found.better)][0], int(words.ends(found, found.columns[0])[0][0])
  drawn = _sweep_charts(found, digests)
  columns = _run_columns(found, digests, outcomes)
  replay = (
    f'<p>Trains <span id="replayed">the {word} run, {run},</span> again and compares every bit;'
    " choose another in the table or a figure.</p>"
    f'<pre class="copy" id="command">{escape(f"{command}{run}")}</pre>'
  )
  body = [
    section("", figures(drawn), "figures"),
    section("Numbers", _numbers(found), "numbers"),
    _effects(found),
    *middle,
    section("Runs", _runs_table(columns)),
    section("Replay", replay if command else ""),
    *end,
  ]
  first, *others = words.headline(found)
  facts = {"command": command, "columns": columns}
  return page(title, first, others, body, drawn, facts, live)


def _sweep_charts(found: Findings, digests: Mapping[int, str]) -> dict[str, Any]:
  """Figures of a sweep of two or more runs."""
  column = found.columns[-1]
  s = column.summary
  if s.n < 2:
    return {}
  label = label_of(found)
  mean, sd = words.number(found, s.mean, s.sd), words.number(found, s.sd, s.sd)
  bars = f"The bar spans one standard deviation ({sd}) to either side of the mean"
  if words.own_share(found):
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
  over = words.runs_told(found, -1)
  drawn = {
    "distribution": (
      charts.distribution(found, charts.runs(found, digests), label),
      f"Histogram of {label} over {over}, from {words.number(found, s.min, s.sd)} to"
      f" {words.number(found, s.max, s.sd)}, half of them between"
      f" {words.number(found, s.q25, s.sd)} and {words.number(found, s.q75, s.sd)}; mean {mean},"
      f" sd {sd}.",
      f"How often each value occurs among {over}, and below each run. {bars}.{outside}",
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
    drawn["curves"] = (
      lines,
      f"{label} over training: median and bands of the runs; the standard deviation between runs"
      f" goes from {words.number(found, sds[0], sds[0])} to"
      f" {words.number(found, sds[-1], sds[-1])}.",
      "Over training: the median, and the bands that hold the middle half and nine tenths of the"
      " runs; the first steps may lie outside the frame. Below, the sd between runs.",
    )
  return drawn


def _drawn(count: int) -> str:
  if count <= charts.MOST_POINTS:
    return ""
  return f" {charts.MOST_POINTS:,} of the runs are drawn, with all extremes."


def _numbers(found: Findings) -> str:
  head = ""
  if len(found.columns) > 1:
    names = "".join(f"<th scope=col>{escape(column.name)}" for column in found.columns)
    head = f"<thead><tr><td>{names}</thead>"
  rows = "\n".join(
    f"<tr><th scope=row>{escape(name)}" + "".join(f"<td>{escape(cell)}" for cell in cells)
    for name, *cells in words.rows(found)
  )
  caption = f"<caption>{escape(words.caption(found))}</caption>"
  facts = "".join(f"<dt>{escape(name)}<dd>{escape(value)}" for name, value in words.facts(found))
  notes = "".join(f"<li>{escape(note)}" for note in words.notes(found))
  return (
    f'<div class="card"><table>{caption}{head}<tbody>\n{rows}</table></div>\n'
    f'<div class="card"><dl>{facts}</dl><ul>{notes}</ul></div>'
  )


def _effects(found: Findings) -> str:
  """Which stream is to blame, of a crossed design."""
  rows = words.effects(found)
  if not rows:
    return ""
  table = plain_table(("stream", "alone (first-order)", "with all interactions (total)"), rows)
  return section(
    "Variance by source",
    "<p>Shares of the variance over new seeds, with 95 % intervals; negative estimates are shown as"
    f" they come out. Fewer than 16 levels a stream give rough intervals.</p>{table}",
  )


def _claims(recorded: Sequence[Mapping[str, Any]]) -> str:
  """What was recorded before training; verdicts stand on the page of the study."""
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
  return section("Claims recorded before training", plain_table(("", "claim", "rule"), rows))


def _runs_table(columns: Sequence[Mapping[str, Any]]) -> str:
  """The head of the sortable table; the page's script fills in the rows."""
  head = "".join(
    f'<th scope="col"><button type="button">{escape(column["name"])}</button>' for column in columns
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
    columns.append({"name": label_of(found), "values": values, "digits": 4})
  if digests:
    heads = [digests[int(run)] for run in run_R]
    columns.append({"name": "final state (SHA-256)", "values": heads, "digits": None})
  return columns


def _outcomes(dataset: "xarray.Dataset", found: Findings) -> list[dict[str, Any]]:
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


def _digests(dataset: "xarray.Dataset") -> dict[int, str]:
  """Run -> the head of the digest of its final state."""
  if "digest" not in dataset:
    return {}
  completed = dataset["completed"].values.astype(bool)
  heads = dataset["digest"].values[completed].astype(f"S{_DIGEST}").astype(str).tolist()
  return dict(zip(dataset["run"].values[completed].tolist(), heads, strict=True))


def _provenance(attributes: Mapping[str, Any]) -> str:
  """The whole manifest: short values as they are, nested ones folded away."""
  short, long = "", ""
  for name, value in attributes.items():
    nested = not isinstance(value, str)
    shown = json.dumps(value, indent=1, default=str, ensure_ascii=False) if nested else value
    if nested and len(shown) > 80:
      long += f"<details><summary>{escape(name)}</summary><pre>{escape(shown)}</pre></details>\n"
    else:
      short += f"<dt>{escape(name)}<dd>{escape(shown)}"
  return (
    f"<details><summary>Where these runs come from</summary>\n<dl>{short}</dl>\n{long}</details>"
  )


def _title(attributes: Mapping[str, Any]) -> str:
  config, trainer = attributes.get("config"), attributes.get("trainer")
  if config:
    return f"{config['model']['name']} on {config['data']['name']}"
  return trainer["function"] if trainer else "A sweep"
