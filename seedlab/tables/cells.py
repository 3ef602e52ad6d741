"""Cells of a table as text, numbers and seeds, each named by its place where it is wrong.

A number may carry a percent sign, separators of thousands or a decimal comma. An empty cell and
`nan` are missing: nothing is known of the run. `inf`, `diverged`, `failed` and `crashed` say that
the run was lost.
"""

import math
import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd

from seedlab.errors import UserError, short

MISSING = frozenset(("", "nan", "na", "n/a", "-", "--", "none", "null", "missing", "<na>"))
DIVERGED = frozenset("inf +inf -inf infinity +infinity -infinity diverged failed crashed".split())
LARGEST = 1e100  # above it the squares overflow
_SEEDS = 2**63

Place = Callable[[int], str]  # row -> "line 4"

# Numbers with commas: groups of three digits, a decimal comma, or both ways possible.
_GROUPED = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?")
_COMMA = re.compile(r"[+-]?(\d{1,3}(\.\d{3})+|\d+)?,\d+(e[+-]?\d+)?")
_EITHER = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")
_GROUPED_POINTS = re.compile(r"[+-]?[1-9]\d{0,2}(\.\d{3})+")
_PLAIN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?")
_WHOLE = re.compile(r"[+-]?\d+")
_NUMBERED = re.compile(r"(\D*?)(\d+)")


class Numbers(NamedTuple):
  """A column as numbers, for each of R rows."""

  value_R: np.ndarray  # float64; nan where there is no finite number
  diverged_R: np.ndarray  # bool
  empty_R: np.ndarray  # bool: nothing was written, as in a log where another metric has its turn
  wrong_R: np.ndarray  # bool: neither a number nor a word for none
  percent: bool  # written with percent signs, and read as fractions


def text(column: pd.Series) -> np.ndarray:
  """object[R]: each cell as it was written, without blanks around it; "" for none."""
  cells = column.astype(object).to_numpy()
  if not all(type(cell) is str for cell in cells):
    cells = ["" if cell is None or cell is pd.NA or cell != cell else str(cell) for cell in cells]
  found = np.empty(len(cells), object)
  found[:] = [cell.strip() for cell in cells]
  return found


def decimal_comma(column: pd.Series) -> bool:
  """Whether a column of a file without commas between its cells has decimal commas."""
  cells = set(text(column))
  if not any("," in cell for cell in cells):
    return False
  bare = [cell.removesuffix("%").strip().lower() for cell in cells if "," in cell]
  return all(_COMMA.fullmatch(cell) for cell in bare)


def numbers(column: pd.Series, comma: bool = False) -> Numbers:
  """A column as numbers; what is none is marked and not refused (`refuse` does).

  Args:
    comma: the file has decimal commas, and so points between thousands.
  """
  nothing = np.zeros(len(column), bool)
  if column.dtype.kind in "iuf":
    value_R = column.to_numpy(np.float64)
    return Numbers(
      np.where(np.isfinite(value_R), value_R, np.nan),
      np.isinf(value_R),
      np.isnan(value_R),
      nothing,
      False,
    )
  cells = text(column)
  empty_R = cells == ""
  value_R = None if comma else _plain(cells)
  if value_R is not None:
    finite = np.where(np.isfinite(value_R), value_R, np.nan)
    return Numbers(finite, np.isinf(value_R), empty_R, nothing, False)
  codes, unique = pd.factorize(cells)
  low = [cell.lower().replace("\u2212", "-").replace("\u00a0", " ") for cell in unique]
  signs = [cell.endswith("%") for cell in low]
  read = _separated([cell.removesuffix("%").rstrip() for cell in low], comma)
  # The exponent and not a division: 93.08% is the number that 0.9308 is.
  shifted = [
    cell + "e-2" * (sign and "e" not in cell) for cell, sign in zip(read, signs, strict=True)
  ]
  value_U = np.array(
    [float(cell) if known else math.nan for cell, known in zip(shifted, read, strict=True)]
  )
  known = [bool(cell) for cell in read]
  diverged_U = np.array([cell in DIVERGED for cell in low])
  missing_U = np.array([cell in MISSING for cell in low])
  signed = {sign for sign, number in zip(signs, known, strict=True) if number}
  wrong_U = ~(np.array(known) | diverged_U | missing_U)
  if signed == {True, False}:  # 93.1% beside 0.93: nobody knows what the bare one means
    wrong_U |= np.array(known) & ~np.array(signs)
  return Numbers(value_U[codes], diverged_U[codes], empty_R, wrong_U[codes], signed == {True})


def _plain(cells: np.ndarray) -> np.ndarray | None:
  """Cells that Python reads as numbers, "" as nan; None if one is anything else."""
  try:
    value_R = np.array([float(cell or "nan") for cell in cells], np.float64)
  except ValueError:
    return None
  return None if any("_" in cell for cell in cells) else value_R  # 1_000 is a name


def _separated(cells: list[str], comma: bool) -> list[str]:
  """Each number with a decimal point alone, "" for what is none.

  1,234 alone says neither 1234 nor 1.234: other cells of the column (or of the file) must.
  """
  with_comma = [cell for cell in cells if "," in cell]
  decimal = comma or any(
    _COMMA.fullmatch(cell) and not _GROUPED.fullmatch(cell) for cell in with_comma
  )
  told = decimal or any(
    _GROUPED.fullmatch(cell) and not _EITHER.fullmatch(cell) for cell in with_comma
  )
  found = []
  for cell in cells:
    points = comma and _GROUPED_POINTS.fullmatch(cell)
    if points and not with_comma:
      found.append("")  # 1.234 is 1234 if it is written as the rest of the file
    elif decimal and (_COMMA.fullmatch(cell) or points):
      found.append(cell.replace(".", "").replace(",", "."))
    elif decimal and with_comma and "." in cell:
      found.append("")  # a decimal point among decimal commas
    elif not decimal and told and _GROUPED.fullmatch(cell):
      found.append(cell.replace(",", ""))
    else:
      found.append(cell if _PLAIN.fullmatch(cell) else "")
  return found


def may_be_number(cell: str) -> bool:
  """Whether a cell that is no number here is one in another way of writing."""
  bare = cell.lower().removesuffix("%").rstrip()
  return any(form.fullmatch(bare) for form in (_PLAIN, _EITHER, _COMMA, _GROUPED))


def refuse(name: str, column: pd.Series, found: Numbers, place: Place) -> None:
  """Raises UserError for the first cell that is no number, or too large a one."""
  if found.wrong_R.any():
    raise UserError(f"{name}={_wrong(text(column), found.wrong_R, place)}")
  huge = abs(np.nan_to_num(found.value_R)) > LARGEST
  if huge.any():
    row = int(np.argmax(huge))
    raise UserError(
      f"{name}={text(column)[row]} in {place(row)} is above {LARGEST:g}: its square overflows;"
      " rescale the metric"
    )


def _wrong(cells: np.ndarray, wrong_R: np.ndarray, place: Place) -> str:
  """The first cell that is wrong, where it stands, why, and what to do."""
  row = int(np.argmax(wrong_R))
  cell = cells[row]
  if may_be_number(cell):
    number_R = np.array([may_be_number(one) for one in cells])
    sign_R = np.array([one.endswith("%") for one in cells])
    if (number_R & sign_R).any() and (number_R & ~sign_R).any():
      few = (number_R & sign_R).sum() < (number_R & ~sign_R).sum()  # the others are more
      row = int(np.argmax(number_R & (sign_R == few)))
      has = ("a", "none") if few else ("no", "one")
      return (
        f"{short(cells[row])!r} in {place(row)} has {has[0]} percent sign, and others have"
        f" {has[1]}; write the column in one way"
      )
    if not _EITHER.fullmatch(cell) and not _GROUPED_POINTS.fullmatch(cell):
      return (
        f"{short(cell)!r} in {place(row)} has a decimal point, and others a decimal comma; write"
        " the column in one way"
      )
  if _EITHER.fullmatch(cell) or _GROUPED_POINTS.fullmatch(cell):
    return (
      f"{short(cell)!r} in {place(row)} may be two numbers, as its sign may be a decimal one or one"
      " between thousands; write the numbers without it"
    )
  return (
    f"{short(cell)!r} in {place(row)} is not a number; leave the cell empty for a run of which"
    " nothing is known, or write diverged"
  )


def seeds(name: str, column: pd.Series, place: Place) -> np.ndarray:
  """int64[R]: whole numbers, also behind one word they share (seed0, seed1).

  Raises UserError, with its place, for every other cell.
  """
  if column.dtype.kind in "iu" and not (column.dtype.kind == "u" and (column >= _SEEDS).any()):
    return column.to_numpy(np.int64)
  codes, unique = pd.factorize(text(column))
  prefixes = {match[1] for cell in unique if (match := _NUMBERED.fullmatch(cell))}
  found = np.zeros(len(unique), np.int64)
  for number, cell in enumerate(unique):
    seed = _seed(cell, prefixes)
    if seed is None or abs(seed) >= _SEEDS:
      row = int(np.argmax(codes == number))
      raise UserError(
        f"{name}={short(cell) if cell else 'nan'} in {place(row)} is not a whole number below"
        " 2^63; number the runs, or name the column of the seeds with --seed"
      )
    found[number] = seed
  return found[codes]


def _seed(cell: str, prefixes: set[str]) -> int | None:
  if _WHOLE.fullmatch(cell):
    return int(cell)
  match = _NUMBERED.fullmatch(cell)
  if match and len(prefixes) == 1:
    return int(match[2])
  try:
    value = float(cell)
  except ValueError:
    return None
  return int(value) if math.isfinite(value) and value == int(value) and abs(value) < 2**53 else None
