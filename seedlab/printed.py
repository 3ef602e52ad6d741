"""Tables of results as they are printed: means, spreads, numbers of seeds, what is bold.

Long: a row for each benchmark and method, with columns such as benchmark, method, mean, sd, n.
Wide: a row a method and a column a benchmark, with cells such as `93.1 ± 0.2`. As CSV, TSV, a
Markdown or LaTeX table, or a DataFrame. Cells stay text until they are read here, since the
decimals that are printed say how far a number is rounded.

A table with a row (or a column) for each run is none of these and is refused: `tables` reads it.
"""

import csv
import dataclasses
import io
import math
import os
import pathlib
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Literal

import pandas as pd

from seedlab import decoding, meanings
from seedlab.errors import UserError, choice_error, counted
from seedlab.meanings import Direction
from seedlab.tables import formats

Kind = Literal["sd", "sem", "ci95"]
KINDS: dict[Kind, str] = {
  "sd": "standard deviation over seeds",
  "sem": "standard error of the mean",
  "ci95": "half-width of a 95 % interval",
}
NORMAL_95 = 1.96  # half-width of a 95 % interval in standard errors, where nobody says otherwise

_ROLES = {
  "method": "method methods model models algorithm algo approach system variant name",
  "benchmark": "benchmark benchmarks dataset data_set task environment env game",
  "metric": "metric metrics measure",
  "mean": "mean average avg score value result",
  "sd": "sd std stdev stddev std_dev standard_deviation",
  "sem": "sem se stderr std_err std_error standard_error",
  "ci95": "ci ci95 ci_95 95_ci 95ci half_width halfwidth ci95_half_width ci_half_width",
  "spread": "spread uncertainty error_bar plus_minus pm",
  "n": "n seeds n_seeds num_seeds runs n_runs num_runs trials repetitions",
  "test_size": "test_size n_test test_examples num_test test_set_size",
}
_RUNS = "seed random_seed rng_seed run run_id trial rep repeat repetition replicate".split()
_RUN = re.compile(r"(?:seed|run|trial|rep)?[ _-]?\d+", re.IGNORECASE)
_COSTS = frozenset(
  "params parameters param flops gflops macs epochs steps year size time hours latency memory speed"
  " throughput rank delta gain improvement diff".split()
)
_BESIDE = "min minimum max maximum median best worst p p_value pvalue rank".split()
_LIMIT = re.compile(r"(?:^|_)(?:ci|ci95)?_?(?:low|lower|high|upper|lo|hi|lb|ub)$")
_PREFIXED = ("sem", "ci95", "sd", "mean")  # acc_mean and std_acc are columns, too
_MISSING = {"", "-", "--", "---", "n/a", "na", "nan", "none", "?", "\N{EM DASH}", "\N{EN DASH}"}
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_CELL = re.compile(
  rf"({_NUMBER})\s*(%)?\s*(?:[±_]\s*({_NUMBER})\s*%?|\(\s*±?\s*({_NUMBER})\s*%?\s*\))?\s*(%)?"
)
_BOLD = re.compile(
  r"\*\*|__|\\(?:textbf|mathbf|boldsymbol|bm|bfseries|bf)(?![a-zA-Z])|<(?:b|strong)>"
)
# Numbers with commas: a decimal comma, separators of thousands, or either.
_COMMAED = re.compile(r"\d[\d.,]*\d")
_COMMAS = {
  "point": re.compile(r"\d+\.\d+"),
  "either": re.compile(r"[1-9]\d{0,2},\d{3}"),
  "decimal": re.compile(r"(?:\d+|\d{1,3}(?:\.\d{3})+),\d+"),
  "thousands": re.compile(r"[1-9]\d{0,2}(?:,\d{3})+\.\d+|[1-9]\d{0,2}(?:,\d{3}){2,}"),
}
_UP = re.compile(r"[↑⇑⬆▲↗]|\bhigher (?:is )?better", re.IGNORECASE)
_DOWN = re.compile(r"[↓⇓⬇▼↘]|\blower (?:is )?better", re.IGNORECASE)
# ImageNet 1% is a benchmark with a hundredth of the labels.
_PERCENT = re.compile(r"(?<!\d)(?<!\d )%|(?<![a-z])(?:percent|pct)(?![a-z])", re.IGNORECASE)
_RULES = re.compile(
  r"\\(?:top|mid|bottom|h)(?:rule|line)|\\c(?:mid)?(?:rule|line)(?:\(\w*\))?\{[^}]*\}"
)
_ASIDE = re.compile(  # colours, citations, marks of footnotes
  r"~?\\(?:(?:row|cell)color|(?:text)?color|cite\w*|footnote\w*)\*?(?:\[[^]]*\])*\{[^}]*\}"
  r"|\^\{?\\?(?:d?dagger|ast|star|[*†‡§])\}?"
)
_MARKUP = re.compile(
  r"\\[a-zA-Z]+|\*\*|</?\w+>|\^\{?[*†‡§]+\}?|[*†‡§^${}~\\]|(?<!\d)__|__(?!\d)"
)


@dataclasses.dataclass(frozen=True)
class Entry:
  """One method on one benchmark."""

  benchmark: str
  method: str
  mean: float
  step: float  # of its last printed digit
  spread: float  # as printed; nan where there is none
  spread_step: float
  kind: Kind | None  # what the spread is; None where there is none
  n: int | None  # seeds; None where nobody says
  test_size: int | None
  bold: bool  # marked so
  percent: bool  # printed with a % sign
  where: str  # line of the file and, of a wide table, the column

  def sd(self, kind: Kind | None = None) -> tuple[float, float]:
    """sd over seeds and the step of its rounding, if the spread is of this kind (else its own).

    A half-width is taken as 1.96 standard errors, which gives the larger sd: from Student's t it
    would be smaller.
    """
    kind = kind or self.kind
    if self.n is None or kind is None:
      return math.nan, math.nan
    scale = {"sd": 1.0, "sem": math.sqrt(self.n), "ci95": math.sqrt(self.n) / NORMAL_95}[kind]
    return scale * self.spread, scale * self.spread_step


@dataclasses.dataclass(frozen=True)
class Printed:
  """The entries of a table, in its order, and how it was read."""

  entries: list[Entry]
  metric: str | None  # the name of the column of means, where it is one
  better: dict[str, Direction]  # of benchmarks whose headings say it: an arrow, a known word
  percent: set[str]  # benchmarks whose heading says percent
  reading: list[str]  # which column was taken as what, in sentences


def read(
  source: str | os.PathLike | pd.DataFrame,
  *,
  metric: str | None = None,
  spread: Kind | None = None,
  n: int | None = None,
  test_size: int | None = None,
) -> Printed:
  """Reads a table; `spread`, `n` and `test_size` say what none of its columns does.

  `metric` may be the name of the column of means.

  Raises UserError, naming line and column, for what cannot be read or may mean several things.
  """
  if spread is not None and spread not in KINDS:
    raise choice_error("spread", spread, KINDS)
  for field, number in (("n", n), ("test_size", test_size)):
    if number is not None and number < 1:
      raise UserError(f"{field}={number} must be at least 1")
  frame, lines = _frame(source)
  if not len(frame):
    raise UserError("the table has no rows; it needs one for each method")
  columns = _columns(frame, spread, metric)
  for field, said in (("n", n), ("test_size", test_size)):
    if said is not None and field in columns:
      raise UserError(f"{field}={said} is said twice: the table has a column {columns[field]!r}")
  _refuse_runs(frame, lines, columns)
  frame, commas = _without_commas(frame, lines, columns)
  others = [str(name) for name in frame.columns if name not in columns.values()]
  if "metric" in columns and "benchmark" not in columns:
    columns["benchmark"] = columns.pop("metric")
  turned = "benchmark" in columns and not {"method", "mean", *KINDS} & columns.keys() and others
  if turned:  # a column for each method
    columns["method"] = columns.pop("benchmark")
  long = bool({"benchmark", "spread", *KINDS} & columns.keys()) or metric in frame.columns
  if not long and others:
    columns.pop("mean", None)  # "Average" beside other benchmarks is one of them
  long = long or "mean" in columns
  unread = others if long else _no_results(frame, others[not columns.get("method") :])
  frame = frame.drop(columns=unread)
  entries = (_long if long else _wide)(frame, lines, columns, spread)
  if turned:
    entries = [dataclasses.replace(e, benchmark=e.method, method=e.benchmark) for e in entries]
    columns["benchmark"] = columns.pop("method")
  entries = [
    dataclasses.replace(e, n=n or e.n, test_size=test_size or e.test_size) for e in entries
  ]
  _refuse_repeats(entries)
  heading = _subject(columns.get("mean", ""))
  better: dict[str, Direction] = {}
  for name in dict.fromkeys(entry.benchmark for entry in entries):
    way = _arrow(name) or _arrow(heading) or meanings.better(heading) or meanings.better(name)
    if way:
      better[name] = way
  percent = {e.benchmark for e in entries if _PERCENT.search(f"{heading} {e.benchmark}")}
  layout = "a row for each benchmark and method" if long else "a column for each benchmark"
  layout = "a row for each benchmark and a column for each method" if turned else layout
  reading = [*_reading(entries, columns, layout), *commas]
  if unread:
    reading.append(f"Not read: {_list(unread)}.")
  return Printed(entries, heading or None, better, percent, reading)


def _arrow(heading: str) -> Direction | None:
  """What an arrow, or "lower is better", in a heading says."""
  up, down = (form.search(heading) for form in (_UP, _DOWN))
  return None if bool(up) == bool(down) else "higher" if up else "lower"


def _frame(source: str | os.PathLike | pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
  """Cells as text, and what to call each row in a message."""
  if isinstance(source, pd.DataFrame):
    cells = source.astype(object).where(source.notna(), "").astype(str)
    return cells.rename(columns=_title), [f"row {at}" for at in range(1, len(cells) + 1)]
  try:
    text = decoding.content(source).decode("utf-8-sig")
  except (OSError, UnicodeDecodeError) as error:
    reason = error.strerror if isinstance(error, OSError) else f"byte {error.start} is not UTF-8"
    raise UserError(f"{str(source)!r} cannot be read: {reason}") from None
  text = text.replace("\r\n", "\n").replace("\r", "\n")
  suffix = pathlib.Path(source).suffix.lower()
  if suffix in (".md", ".markdown") or text.lstrip().startswith("|"):
    return _rectangle(_markdown(text), str(source))
  if suffix == ".tex" or "\\begin{tabular" in text:
    return _rectangle(_latex(text), str(source))
  try:
    between = "\t" if suffix == ".tsv" or not text.strip() else formats.separator(text)
  except csv.Error as error:
    raise UserError(f"{str(source)!r}: {error}") from None
  rows = csv.reader(io.StringIO(text), delimiter=between, strict=True)
  try:
    numbered = [(rows.line_num, [cell.strip() for cell in row]) for row in rows if any(row)]
  except csv.Error as error:
    raise UserError(f"{str(source)!r}, line {rows.line_num}: {error}") from None
  return _rectangle(numbered, str(source), between)


def _markdown(text: str) -> list[tuple[int, list[str]]]:
  rows = []
  for number, line in enumerate(text.splitlines(), 1):
    if line.strip().startswith("|"):
      cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
      if not all(re.fullmatch(r":?-+:?", cell) for cell in cells):
        rows.append((number, cells))
  return rows


def _latex(text: str) -> list[tuple[int, list[str]]]:
  """The rows of the first tabular."""
  text = re.sub(r"(?<!\\)%.*", "", text)
  start = re.search(r"\\begin\{tabular[x*]?\}", text)
  offset = start.end() if start else 0
  stop = text.find(r"\end{tabular", offset)
  rows = []
  body = text[offset : stop if stop > 0 else None]
  for piece in re.finditer(r"(.*?)(?:\\\\(?:\[[^]]*\])?|\Z)", body, re.DOTALL):
    row = _RULES.sub("", piece[1])
    cells = [cell.strip() for cell in re.split(r"(?<!\\)&", row)]
    if len(cells) > 1:
      number = text.count("\n", 0, offset + piece.end(1)) + 1
      if "\\multicolumn" in row or "\\multirow" in row:
        raise UserError(f"line {number}: \\multicolumn and \\multirow cannot be read; write cells")
      rows.append((number, cells))
  if rows:  # before the first cell stands the specification of the columns
    rows[0][1][0] = re.sub(r"^(?:\{(?:[^{}]|\{[^{}]*\})*\}\s*)+(?=\S|$)", "", rows[0][1][0])
  return rows


def _rectangle(
  numbered: Sequence[tuple[int, list[str]]], source: str, between: str = ""
) -> tuple[pd.DataFrame, list[str]]:
  if not numbered:
    raise UserError(
      f"{source!r} holds no table: CSV or TSV whose first line names the columns, lines of"
      " | cells | in .md, a tabular in .tex"
    )
  (_, head), *rows = numbered
  for number, row in rows:
    if len(row) != len(head):
      more = len(row) > len(head) and between == ","
      hint = "; quote a cell that holds a comma, or put semicolons between cells" * more
      raise UserError(
        f"{source!r}, line {number}: {counted(len(row), 'cell')} under"
        f" {counted(len(head), 'heading')}{hint}"
      )
  frame = pd.DataFrame([row for _, row in rows], columns=[_title(name) for name in head], dtype=str)
  return frame, [f"line {number}" for number, _ in rows]


def _title(name: object) -> str:
  """A heading without markup."""
  text = re.sub(r"\$?\\pm(?![a-zA-Z])\$?|\+/-|&plusmn;", "±", _ASIDE.sub("", str(name)))
  text = re.sub(r"\\[uU]parrow|&uarr;", "↑", re.sub(r"\\[dD]ownarrow|&darr;", "↓", text))
  text = re.sub(r"\\[a-zA-Z]+|\*\*|[{}$]|</?\w+>", "", text).replace("\\", "")
  return " ".join(text.split())


def _columns(frame: pd.DataFrame, spread: Kind | None, metric: str | None) -> dict[str, str]:
  """Role -> column, of the roles that are found; UserError where several would do."""
  names = [str(name) for name in frame.columns]
  repeated = sorted({name for name in names if names.count(name) > 1})
  if repeated:
    raise UserError(f"column {repeated[0]!r} occurs more than once; name every column differently")
  cells = [name for name in names if "±" in name]  # of both, such as accuracy (mean ± sd)
  found = {
    role: [name for name in names if _plain(name) in words.split() and name not in cells]
    for role, words in _ROLES.items()
  }
  if metric in names:
    found["mean"] = [metric]
  for role in _PREFIXED:
    if not found[role]:
      words = _ROLES[role].split()
      rest = [name for name in _untaken(names, found) if name not in cells]
      found[role] = [name for name in rest if _affixed(_plain(name), words)]
  known = [name for kind in KINDS for name in found[kind]]
  squares = [name for name in names if _plain(name) in ("variance", "var")]
  if squares and not known:
    raise UserError(
      f"column {squares[0]!r} holds variances, which are no spread; write their square roots into a"
      " column 'sd'"
    )
  limits = [name for name in names if _LIMIT.search(_plain(name)) and name not in found["mean"]]
  if len(limits) > 1 and (set(limits) & set(known) or (found["mean"] and not known)):
    raise UserError(
      f"columns {_list(limits)} look like the limits of an interval; write its half-width into a"
      " column 'ci95'"
    )
  if not found["mean"] and (found["benchmark"] or any(found[kind] for kind in KINDS)):
    found["mean"] = [name for name in _untaken(names, found) if meanings.better(name)]
  kinds = [kind for kind in (*KINDS, "spread") if found[kind]]
  if spread in kinds and len(kinds) > 1:
    kinds = [spread]  # the table prints several; the user chose
  if len(kinds) > 1 or any(len(found[kind]) > 1 for kind in kinds):
    several = _list([name for kind in kinds for name in found[kind]])
    raise UserError(
      f"several columns may be the spread: {several}; say which with --spread=sd, sem or ci95, or"
      " leave one column out"
    )
  for kind in KINDS:
    if kind not in kinds:
      found[kind] = []
  for role in _ROLES:
    if len(found[role]) > 1:
      raise UserError(
        f"several columns may be the {role}: {_list(found[role])}; rename or leave out all but one"
      )
  return {role: columns[0] for role, columns in found.items() if columns}


def _untaken(names: Sequence[str], found: dict[str, list[str]]) -> list[str]:
  taken = {name for columns in found.values() for name in columns}
  return [name for name in names if name not in taken]


def _plain(name: str) -> str:
  return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def _affixed(name: str, words: Sequence[str]) -> bool:
  return any(name.endswith(f"_{word}") or name.startswith(f"{word}_") for word in words)


def _list(names: Sequence[str]) -> str:
  return ", ".join(repr(name) for name in names)


def _refuse_runs(frame: pd.DataFrame, lines: Sequence[str], columns: dict[str, str]) -> None:
  """Raises UserError for a table of runs, which holds no means."""
  remedy = "use seedlab compare, or give audit a row for each method with mean and spread"
  names = [str(name) for name in frame.columns]
  single = [name for name in names if _RUN.fullmatch(name) and not name.isdigit()]
  if len(single) > 1:
    raise UserError(f"columns {_list(single)}: this has a column for each run: {remedy}")
  run = next((name for name in names if _plain(name) in _RUNS), None)
  if run is None:
    return
  method = columns.get("method", names[0])
  if run == method and all(_RUN.fullmatch(cell.strip()) for cell in frame[run]):
    raise UserError(f"column {run!r} numbers runs: this has a row for each run: {remedy}")
  keys = [method, *[columns[role] for role in ("benchmark", "metric") if role in columns]]
  again = frame.duplicated(keys)
  if run != method and again.any():
    at = int(again.argmax())
    raise UserError(
      f"{lines[at]}: {_title(frame[method].iloc[at])!r} is there again, and {run!r} is a column:"
      f" this has a row for each run: {remedy}"
    )


def _no_results(frame: pd.DataFrame, names: Sequence[str]) -> list[str]:
  """Of the columns beside the methods those of words, seeds, costs, ranks, gains or extremes."""
  spread = {name for name in names if any(map(re.compile(r"±|\\pm|\+/?-|\(").search, frame[name]))}
  found = []
  for name in names:
    cells = [cell for cell in map(_bare, frame[name]) if cell.lower() not in _MISSING]
    words = cells and not any(re.match(r"[+-]?\.?\d", cell) for cell in cells)
    word = _COSTS.intersection(_plain(name).split("_")) or "Δ" in name
    cost = spread and name not in spread and word
    if words or cost or _plain(name) in (*_RUNS, *_BESIDE):
      found.append(name)
  return found if len(found) < len(names) else []


def _without_commas(
  frame: pd.DataFrame, lines: Sequence[str], columns: dict[str, str]
) -> tuple[pd.DataFrame, list[str]]:
  """Cells with decimal points alone, and a sentence on what commas were taken for.

  Raises UserError, naming line and column, where commas may be either or are both.
  """
  beside = {columns.get("method", frame.columns[0]), columns.get("benchmark")}
  counts = {columns[role] for role in ("n", "test_size") if role in columns}
  values = [name for name in frame.columns if name not in beside | counts]
  frame = frame.copy()
  first: dict[str, tuple[str, str]] = {}  # kind of number -> an example and its place
  for name in values:
    frame[name] = [cell.replace("{,}", ",") for cell in frame[name]]
    for line, cell in zip(lines, frame[name], strict=True):
      if not re.match(r"[+-]?[.,]?\d", _bare(cell)):
        continue
      for number in _COMMAED.findall(cell):
        kind = next((kind for kind, form in _COMMAS.items() if form.fullmatch(number)), "")
        first.setdefault(kind, (number, f"{line}, column {name!r}"))
  wrong = first.get("thousands") or first.get("point")
  if "decimal" in first and wrong:
    number, where = first["decimal"]
    raise UserError(
      f"{where}: {number!r} has a decimal comma, but {wrong[0]!r} ({wrong[1]}) a decimal point;"
      " write one of them"
    )
  if "decimal" in first:
    for name in [*values, *counts]:
      frame[name] = [_COMMAED.sub(_pointed, cell) for cell in frame[name]]
    return frame, ["Commas were read as decimal commas."]
  if "thousands" in first or {"either", "point"} <= first.keys():
    for name in values:
      frame[name] = [re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", cell) for cell in frame[name]]
    return frame, ["Commas were read as separators of thousands."]
  if "either" in first:
    number, where = first["either"]
    raise UserError(
      f"{where}: the comma of {number!r} may be a decimal comma or separate thousands; write a"
      " decimal point and no separator of thousands"
    )
  return frame, []


def _pointed(number: re.Match) -> str:
  """93,1 and 1.093,1 with a decimal point alone."""
  return number[0].replace(".", "").replace(",", ".")


def _long(
  frame: pd.DataFrame, lines: Sequence[str], columns: dict[str, str], spread: Kind | None
) -> list[Entry]:
  for role in ("method", "mean"):
    if role not in columns:
      raise UserError(
        f"no column is the {role}; call one {role!r} (columns: {_list([*frame.columns])})"
      )
  kind: Kind | None = next((kind for kind in KINDS if kind in columns), None)
  if kind and spread and kind != spread:
    raise UserError(
      f"spread={spread!r} contradicts column {columns[kind]!r}, whose name says {kind!r}"
    )
  entries = []
  for line, (_, row) in zip(lines, frame.iterrows(), strict=True):
    own_kind = _kind(columns["mean"], spread)
    cell = _cell(row[columns["mean"]], f"{line}, column {columns['mean']!r}", own_kind)
    if cell is None:
      continue
    column = columns.get(kind or "spread")
    if column is not None:
      where = f"{line}, column {column!r}"
      if not math.isnan(cell.spread):
        raise UserError(f"{line}: a spread in column {columns['mean']!r} and one in {column!r}")
      if kind is None and spread is None:
        raise UserError(f"column {column!r}: {_WHICH}")
      own = _cell(row[column], where, spread)
      if own is not None:
        _refuse_negative(own.mean, where)
        cell = dataclasses.replace(
          cell, spread=own.mean, spread_step=own.step, kind=kind or spread
        )
    parts = [row[columns[role]] for role in ("benchmark", "metric") if role in columns]
    benchmark = " ".join(filter(None, map(_title, parts)))
    entries.append(_entry(dataclasses.replace(cell, where=line), benchmark, row, columns))
  return entries


def _subject(heading: str) -> str:
  """Accuracy, where the heading is Accuracy (mean ± std)."""
  return re.sub(r"\s*\((?:mean|avg|average)?\s*±[^)]*\)|\s*±[\w\s.%]*", "", heading)


def _kind(heading: str, said: Kind | None) -> Kind | None:
  """What the spread in the cells of a column is: as its heading says, mean ± std, or the user."""
  _, _, after = heading.partition("±")
  kind = next((kind for kind in KINDS if _plain(after) in _ROLES[kind].split()), None)
  if kind and said and kind != said:
    raise UserError(f"spread={said!r} contradicts column {heading!r}, whose name says {kind!r}")
  return kind or said


def _wide(
  frame: pd.DataFrame, lines: Sequence[str], columns: dict[str, str], spread: Kind | None
) -> list[Entry]:
  method = columns.setdefault("method", str(frame.columns[0]))
  benchmarks = [str(name) for name in frame.columns if name not in columns.values()]
  if not benchmarks:
    raise UserError(f"no column holds results beside {_list([*columns.values()])}")
  entries = []
  for benchmark in benchmarks:
    for line, (_, row) in zip(lines, frame.iterrows(), strict=True):
      where = f"{line}, column {benchmark!r}"
      cell = _cell(row[benchmark], where, _kind(benchmark, spread))
      if cell is not None:
        entries.append(_entry(cell, _subject(benchmark), row, {**columns, "method": method}))
  return entries


_WHICH = (
  "is the spread a standard deviation over seeds, a standard error or the half-width of a 95 %"
  " interval? Say it with --spread=sd, sem or ci95"
)


def _cell(text: str, where: str, spread: Kind | None) -> Entry | None:
  """An entry with what a cell says, mean ± spread; None where it is empty."""
  bold = bool(_BOLD.search(text))
  plain = _bare(text)
  if plain.lower() in _MISSING:
    return None
  match = _CELL.fullmatch(plain)
  if not match:
    hint = "leave the cell empty where there is no result"
    if re.search(r"[\[(][^])]*,[^])]*[])]", plain):
      hint = "write the half-width of an interval behind ±"
    elif "," in plain:
      hint = "write a decimal point and no thousands"
    raise UserError(
      f"{where}: {text.strip()!r} cannot be read as a mean or 'mean ± spread'; {hint}"
    )
  mean, sign, after, inside, sign2 = match.groups()
  printed = after or inside
  if inside and "." in mean and "." not in inside:
    raise UserError(f"{where}: {text.strip()!r} may mean ± {inside} or so many of the last digits")
  if printed and spread is None:
    raise UserError(f"{where}: {text.strip()!r}: {_WHICH}")
  width, width_step = (float(printed), _step(printed)) if printed else (math.nan, math.nan)
  _refuse_negative(width, where)
  kind = spread if printed else None
  return Entry(
    "", "", float(mean), _step(mean), width, width_step, kind, None, None, bold,
    bool(sign or sign2), where,
  )  # fmt: skip


def _bare(text: str) -> str:
  """A cell without markup, with ± for all that means it."""
  plain = text.replace("\N{MINUS SIGN}", "-")
  plain = re.sub(r"\\pm(?![a-zA-Z])|\+/-|\+-|&plusmn;", "±", _ASIDE.sub("", plain))
  plain = plain.replace(r"\%", "%")
  plain = _MARKUP.sub(" ", plain)
  return re.sub(r"_\s*±", "±", plain).strip()


def _refuse_negative(spread: float, where: str) -> None:
  if spread < 0:
    raise UserError(f"{where}: a spread is never negative, but this one is {spread:g}")


def _step(number: str) -> float:
  """Of the last printed digit: 0.01 for 93.10."""
  exponent = Decimal(number).as_tuple().exponent
  return float(Decimal(1).scaleb(int(exponent)))


def _entry(cell: Entry, benchmark: str, row: pd.Series, columns: dict[str, str]) -> Entry:
  where = cell.where
  method = _title(row[columns["method"]])
  if not method:
    raise UserError(f"{where}: the method has no name in column {columns['method']!r}")
  if not math.isfinite(cell.mean):
    raise UserError(f"{where}: the mean is too large a number")
  counts = {}
  for role in ("n", "test_size"):
    text = _bare(row[columns[role]]) if role in columns else ""
    if text.lower() in _MISSING:
      continue
    if re.fullmatch(r"\d{1,3}(,\d{3})+", text):
      text = text.replace(",", "")
    number = re.fullmatch(r"(\d+)(?:\.0{0,2})?", text)  # 10.000 may be 10,000
    if not number or not int(number[1]):
      raise UserError(
        f"{where}: {columns[role]!r} must be a whole number of at least 1, not {text!r}"
      )
    counts[role] = int(number[1])
  return dataclasses.replace(
    cell, benchmark=benchmark, method=method, n=counts.get("n"), test_size=counts.get("test_size")
  )


def _refuse_repeats(entries: Sequence[Entry]) -> None:
  if not entries:
    raise UserError("the table holds no mean")
  seen: dict[tuple[str, str], str] = {}
  for entry in entries:
    key = entry.benchmark, entry.method
    if key in seen:
      on = f" on {entry.benchmark!r}" if entry.benchmark else ""
      raise UserError(
        f"{entry.where}: {entry.method!r}{on} was there before, in {seen[key]}; give each method"
        " one row, and other benchmarks a column 'benchmark'; a table with a row for each run is"
        " for seedlab compare"
      )
    seen[key] = entry.where


def _reading(entries: Sequence[Entry], columns: dict[str, str], layout: str) -> list[str]:
  methods = {entry.method for entry in entries}
  benchmarks = {entry.benchmark for entry in entries}
  plural = "s" * (len(benchmarks) != 1)
  taken = [f"{column!r} as {KINDS.get(role, role)}" for role, column in columns.items()]  # type: ignore[call-overload]
  said = f"{len(entries)} means of {len(methods)} methods on {len(benchmarks)} benchmark{plural}"
  return [f"Read {said}, {layout}.", f"Columns: {', '.join(taken)}."]
