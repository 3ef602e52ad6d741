"""One file of results, of whatever format, as rows of cells that are still as they were written.

CSV and its relatives, JSON, JSON lines and Parquet, and what programs leave: TensorBoard's and
Weights & Biases' exports, tables drawn with bars (airbench's logs), lines of `name:value` (the
logs of modded-nanogpt).
"""

import collections
import csv
import dataclasses
import io
import json
import os
import pathlib
import re
from typing import Any

import numpy as np
import pandas as pd

from seedlab import decoding
from seedlab.errors import UserError, not_there, short
from seedlab.tables import cells, names

SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet", ".pq", ".txt", ".log")
_NAMES = {",": "CSV", ";": "CSV with semicolons", "\t": "TSV"}
_JSON = (".json", ".jsonl", ".ndjson")
_DELIMITED = (".csv", ".tsv")
MOST_COLUMNS = 10_000
# Of a Parquet file, whose columns may be packed without any bound: a table of results has more than
# a byte for this many cells.
_CELLS_A_BYTE = 100
_SNIFFED = 50  # lines that tell what stands between cells
_PAIR = re.compile(r"([A-Za-z][\w/.]*):\s*([-+]?[\d.]+(?:e[-+]?\d+)?|nan|inf|-inf)([a-z]*)\b")
_BARS = re.compile(r"\s*(-{3,}\s*\n\s*)?\|")
_AIRBENCH = re.compile(r"^\s*\|\s*run\s*\|\s*epoch\s*\|", re.MULTILINE)
_STEP = re.compile(r"^step:\s*(\d+)(?:/\d+)?\s", re.MULTILINE)
_TAGGED = re.compile(r"(?:run-)?(.*?)[-_.]?tag-(.+)")


@dataclasses.dataclass(frozen=True)
class Rows:
  """What a file or a folder holds, before anything is known of its columns."""

  frame: pd.DataFrame  # as written: text, or what a DataFrame or Parquet file has
  name: str
  form: str
  files: tuple[tuple[str, np.ndarray], ...] = ()  # file and the line of each of its rows, in order
  comma: bool = False  # decimal commas
  seeded: bool = True  # False where the numbers of the runs are no seeds
  metric: str | None = None  # what the one column of values is called elsewhere
  log: bool = False  # a run stands in one file; of two rows at one step the later counts
  notes: tuple[str, ...] = ()

  def place(self, row: int) -> str:
    """Where a row stands, for a message."""
    first = row
    for file, lines in self.files:
      if first < len(lines):
        where = f" of {file}" if len(self.files) > 1 else ""
        return f"line {lines[first]}{where}"
      first -= len(lines)
    return f"row {row + 1}"


def from_frame(frame: pd.DataFrame, name: str = "DataFrame", form: str = "") -> Rows:
  """Rows of a DataFrame; the levels of an index that have names are columns."""
  named = [level for level in frame.index.names if level is not None]
  frame = frame.reset_index(level=named) if named else frame
  return Rows(_headed(frame.reset_index(drop=True)), name, form or "pandas")


def read(path: str | os.PathLike) -> Rows:
  """A file; raises UserError, with line and column, for one that cannot be read."""
  path = pathlib.Path(path)
  suffix = path.suffix.lower()
  try:
    content = decoding.content(path)
  except FileNotFoundError:
    raise UserError(not_there(path)) from None
  except OSError as error:
    raise UserError(f"{str(path)!r} cannot be opened ({error.strerror or error})") from None
  if suffix in (".parquet", ".pq") or content[:4] == b"PAR1":
    return _parquet(path)
  text = _decoded(path, content)
  if not text.strip():
    raise _unreadable(path, suffix, "it is empty")
  if suffix in _JSON or (suffix not in _DELIMITED and re.match(r'\s*(\{\s*"|\[\s*\{)', text)):
    return _json(path, text)
  if suffix not in _DELIMITED and _STEP.search(text):
    return _steps(path, text)  # before bars: such a log holds a table of the machine's GPUs too
  if _BARS.match(text) or (suffix not in _DELIMITED and _AIRBENCH.search(text)):
    return _barred(path, text)
  return _exported(_csv(path, text), path)


def is_log(path: pathlib.Path) -> bool:
  """Whether a file of words holds a log that is known here."""
  text = path.read_bytes().decode("utf-8", "replace")
  return any(form.search(text) for form in (_AIRBENCH, _STEP)) or bool(_BARS.match(text))


def _unreadable(path: pathlib.Path, suffix: str, reason: str) -> UserError:
  form = {"": "a table", ".csv": "CSV", ".tsv": "TSV", ".pq": "Parquet", ".parquet": "Parquet"}
  remedy = (
    "write it again as Parquet, or as CSV"
    if form.get(suffix) == "Parquet"
    else "save it as UTF-8 text whose first line names the columns, as in variant,seed,accuracy,"
    " with as many cells in every row"
  )
  kind = form.get(suffix, suffix.lstrip(".") if suffix in SUFFIXES else "a table")
  return UserError(f"{str(path)!r} cannot be read as {kind} ({reason}); {remedy}")


def _decoded(path: pathlib.Path, content: bytes) -> str:
  wide = content[:2] in (b"\xff\xfe", b"\xfe\xff")
  try:
    text = content.decode("utf-16" if wide else "utf-8-sig")
  except UnicodeDecodeError as error:
    line = content.count(b"\n", 0, error.start) + 1
    column = error.start - content.rfind(b"\n", 0, error.start)
    raise _unreadable(
      path, path.suffix.lower(), f"line {line}, column {column} is not {error.encoding} text"
    ) from None
  if "\0" in text:
    before = text[: text.index("\0")]
    where = f"line {before.count(chr(10)) + 1}, column {len(before) - before.rfind(chr(10))}"
    raise _unreadable(path, path.suffix.lower(), f"{where} is no text")
  return text


def _headed(frame: pd.DataFrame) -> pd.DataFrame:
  """Headers as people and pandas write them: blanks around them, an index without a name."""
  heads = [".".join(map(str, n)) if isinstance(n, tuple) else str(n) for n in frame.columns]
  frame = frame.set_axis([head.strip() for head in heads], axis=1)
  if len(heads) > MOST_COLUMNS:
    raise UserError(
      f"the table has {len(heads):,} columns, of which at most {MOST_COLUMNS:,} are read; write a"
      " row for each value, with columns that say what it is of"
    )
  kept = [name for name in frame.columns if name and not re.fullmatch(r"Unnamed: \d+", name)]
  repeated = next((name for name, count in collections.Counter(kept).items() if count > 1), None)
  if repeated is not None:
    raise UserError(f"column {repeated!r} occurs more than once; give every column its own name")
  return frame[kept]


def _csv(path: pathlib.Path, text: str) -> Rows:
  # What stands in front of the names, such as the first line of a Monitor's file.
  text = re.sub(r"\A(?:#[ {].*\n)+", lambda match: "\n" * match[0].count("\n"), text)
  try:
    between = "\t" if path.suffix.lower() == ".tsv" else separator(text)
  except csv.Error as error:
    raise _unreadable(path, ".csv", str(error)) from None
  reader = csv.reader(io.StringIO(text, newline=""), delimiter=between, strict=True)
  rows, lines = [], []
  try:
    for row in reader:
      if any(map(str.strip, row)):
        rows.append(row)
        lines.append(reader.line_num)
  except csv.Error as error:
    raise _unreadable(path, ".csv", f"line {reader.line_num}: {error}") from None
  head = rows[0]
  number = next((cell for cell in head if re.fullmatch(r"[+-]?\d*[.]\d+", cell.strip())), None)
  if number is not None:
    raise _unreadable(path, ".csv", f"line {lines[0]} holds the number {number} among the names")
  while head and not head[-1].strip() and all(len(row) < len(head) for row in rows[1:]):
    head = head[:-1]
  wide = len(head)
  for place, row in enumerate(rows[1:], 1):
    if len(row) > wide and not any(map(str.strip, row[wide:])):
      row = rows[place] = row[:wide]
    if len(row) != wide:
      raise _unreadable(
        path,
        ".csv",
        f"Expected {wide} fields in line {lines[place]}, saw {len(row)}"
        + (f"; the first one too many is column {wide + 1}" if len(row) > wide else ""),
      )
  columns = list(zip(*rows[1:], strict=True)) or [()] * wide
  frame = pd.DataFrame(
    np.array(columns, dtype=object).T.reshape(len(rows) - 1, wide), columns=head, dtype=object
  )
  frame = _headed(frame)
  comma = between != "," and any(cells.decimal_comma(frame[name]) for name in frame)
  form = _NAMES[between] + " and decimal commas" * comma
  return Rows(frame, path.name, form, ((path.name, np.array(lines[1:], np.int64)),), comma)


def separator(text: str) -> str:
  """What stands between cells: what cuts the first lines into as many cells each, and the most."""
  lines = text.splitlines()[:_SNIFFED]
  counts = {
    between: [len(row) for row in csv.reader(lines, delimiter=between) if row] for between in _NAMES
  }
  even = {between: wide[0] for between, wide in counts.items() if min(wide) == max(wide)}
  best = even if max(even.values(), default=1) > 1 else {b: w[0] for b, w in counts.items()}
  return max(best, key=lambda between: best[between])


def _json(path: pathlib.Path, text: str) -> Rows:
  """A list of objects, an object of columns, one object, or an object a line."""
  kept: dict[str, Any] = {"parse_float": str, "parse_int": str, "parse_constant": str}
  lines: list[int] = []
  try:
    found = decoding.parse(text, **kept)
    objects, form = _objects(found), "JSON"
  except json.JSONDecodeError as whole:
    objects, form = [], "JSON lines"
    for number, line in enumerate(text.splitlines(), 1):
      if not line.strip():
        continue
      try:
        objects.append(decoding.parse(line, **kept))
      except json.JSONDecodeError as error:
        first = not lines and path.suffix.lower() == ".json"
        line_number, error = (whole.lineno, whole) if first else (number, error)
        raise UserError(
          f"{str(path)!r} cannot be read as JSON (line {line_number}, column {error.colno}:"
          f" {error.msg}); write a list of objects, or an object a line"
        ) from None
      lines.append(number)
  wrong = next((n for n, one in enumerate(objects) if not isinstance(one, dict)), None)
  if wrong is not None or not objects:
    where = f"line {lines[wrong]}" if wrong is not None and lines else "its value"
    raise UserError(
      f"{str(path)!r} cannot be read as JSON ({where} is not an object with a value for each"
      " column); write a list of objects, or an object a line"
    )
  frame = pd.DataFrame([_flat(one) for one in objects], dtype=object)
  frame = _headed(frame.astype(object).where(frame.notna(), ""))
  files = ((path.name, np.array(lines, np.int64)),) if lines else ()
  return Rows(frame, path.name, form, files)


def _objects(found: Any) -> list[Any]:
  """The rows of a JSON value: of a list its items, of an object of columns one a position."""
  if not isinstance(found, dict):
    return found if isinstance(found, list) else [found]
  values = list(found.values())
  if values and all(isinstance(value, dict) for value in values):
    rows = dict.fromkeys(key for value in values for key in value)
    return [{name: column.get(row) for name, column in found.items()} for row in rows]
  lengths = {len(value) for value in values if isinstance(value, list)}
  if values and all(isinstance(value, list) for value in values) and len(lengths) == 1:
    return [dict(zip(found, row, strict=True)) for row in zip(*values, strict=True)]
  return [found]


def _flat(one: dict[str, Any], above: str = "") -> dict[str, Any]:
  """Names joined by points; what is no text is as Python writes it, null is empty."""
  flat: dict[str, Any] = {}
  for name, value in one.items():
    if isinstance(value, dict):
      flat |= _flat(value, f"{above}{name}.")
    else:
      flat[f"{above}{name}"] = "" if value is None else str(value)
  return flat


def _parquet(path: pathlib.Path) -> Rows:
  import pyarrow.parquet  # takes a while, and few tables are of this kind

  try:
    about = pyarrow.parquet.read_metadata(path)
    promised = about.num_rows * about.num_columns
    if promised > _CELLS_A_BYTE * path.stat().st_size or about.num_columns > MOST_COLUMNS:
      raise ValueError(f"it promises {about.num_rows:,} rows of {about.num_columns:,} columns")
    frame = pd.read_parquet(path)
  except Exception as error:  # Arrow and pandas raise what they like for bytes they did not write
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    raise _unreadable(path, ".parquet", short(reason)) from None
  return from_frame(frame, path.name, "Parquet")


def _barred(path: pathlib.Path, text: str) -> Rows:
  """A table drawn with bars; airbench leaves out the run where it is that of the line above."""
  rows: list[list[str]] = []
  lines: list[int] = []
  airbench = bool(_AIRBENCH.search(text))
  for number, line in enumerate(text.splitlines(), 1):
    if not line.strip().startswith("|") or re.fullmatch(r"[|\s:+-]+", line):
      continue
    row = [cell.strip() for cell in line.strip().strip("|").split("|")]
    if rows == [] and airbench and not _AIRBENCH.match(line):
      continue  # what was printed before
    if rows and row == rows[0]:
      continue
    if rows and len(row) != len(rows[0]):
      raise _unreadable(
        path, "", f"Expected {len(rows[0])} fields in line {number}, saw {len(row)}"
      )
    rows.append(row)
    lines.append(number)
  frame = _headed(pd.DataFrame(rows[1:], columns=rows[0], dtype=object))
  line_R, notes = np.array(lines[1:], np.int64), []
  if airbench:
    frame["run"] = frame["run"].replace("", pd.NA).ffill().fillna("").astype(object)
    warm = (frame["run"].str.lower() == "warmup").to_numpy()
    frame, line_R = frame[~warm].reset_index(drop=True), line_R[~warm]
    notes = ["the warm-up run is left out"] * bool(warm.any())
    last = pd.to_numeric(frame["epoch"], errors="coerce").ffill()
    frame["epoch"] = np.where(frame["epoch"] == "eval", last.astype(str), frame["epoch"])
  form = "airbench's log" if airbench else "a table with bars"
  files = ((path.name, line_R),)
  # Its runs are numbered; their seeds are not written down.
  return Rows(frame, path.name, form, files, seeded=not airbench, log=airbench, notes=tuple(notes))


def _steps(path: pathlib.Path, text: str) -> Rows:
  """Lines such as step:125/1770 val_loss:4.52 train_time:21000ms, whatever stands between them."""
  rows: list[dict[str, str]] = []
  lines: list[int] = []
  for number, line in enumerate(text.splitlines(), 1):
    step = _STEP.match(f"{line} ")
    if step:
      pairs = {name: value for name, value, _ in _PAIR.findall(line) if name != "step"}
      rows.append({"step": step[1], **pairs})
      lines.append(number)
  frame = pd.DataFrame(rows, dtype=object)
  frame = frame.astype(object).where(frame.notna(), "")
  form = "lines of step:, as in modded-nanogpt's logs"
  return Rows(frame, path.name, form, ((path.name, np.array(lines, np.int64)),), log=True)


def _exported(rows: Rows, path: pathlib.Path) -> Rows:
  """The exports of TensorBoard and of a Weights & Biases chart, one row a run and step."""
  head = list(rows.frame.columns)
  if head == ["Wall time", "Step", "Value"]:
    match = _TAGGED.fullmatch(path.stem)
    metric = match[2] if match else "Value"
    frame = rows.frame.rename(columns={"Value": metric})
    return dataclasses.replace(rows, frame=frame, form="TensorBoard's export", log=True)
  drawn = [name for name in head if {f"{name}__MIN", f"{name}__MAX"} <= set(head)]
  if not drawn or not all(" - " in name for name in drawn):
    return rows
  of_run = {name: name.rsplit(" - ", 1)[0] for name in drawn}
  told = {run: names.split([run]) for run in of_run.values()}
  numbered = all(number is not None for _, number, _ in told.values())
  seeded = all(named for _, _, named in told.values())
  # lively-forest-12 and brave-sun-13 are no two variants with a seed each.
  numbered &= seeded or len({name for name, _, _ in told.values()}) < len(told)
  parts = []
  for name, run in of_run.items():
    variant, number, _ = told[run] if numbered else (run, None, False)
    known = {"variant": variant or run} | ({"seed": number} if numbered else {})
    metric = name.rsplit(" - ", 1)[1]
    part = pd.DataFrame({head[0]: rows.frame[head[0]], metric: rows.frame[name]})
    parts.append(part.assign(**known))
  frame = pd.concat(parts, ignore_index=True).astype(object)
  frame = frame.where(frame.notna(), "")
  files = ((path.name, np.tile(rows.files[0][1], len(parts))),)
  form = "chart of Weights & Biases"
  return dataclasses.replace(
    rows, frame=frame, form=form, files=files, log=True, seeded=numbered and seeded
  )
