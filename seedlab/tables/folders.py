"""A folder of runs, one file of results each: which run a file is of, its path or Hydra says."""

import itertools
import os
import pathlib
import re

import numpy as np
import pandas as pd

from seedlab.errors import UserError, counted
from seedlab.tables import columns, formats, names
from seedlab.tables.formats import Rows

_MOST_ENTRIES = 100_000
_GENERIC = frozenset(
  "metrics metric results result log logs summary progress history eval evaluation test train val"
  " csv csv_logs lightning_logs output outputs out main data wandb-summary wandb_summary".split()
)
_NUMBERED = "_numbered"
_SETTINGS = re.compile(r".*(config|hparams|args|params|metadata|settings).*\.json")
_WORDS = (".txt", ".log")


def holds_runs(directory: str | os.PathLike) -> bool:
  """Whether a directory is no store of ours and holds files of results."""
  path = pathlib.Path(directory)
  return path.is_dir() and not any(path.glob(".z*")) and bool(_files(path))


def read(directory: str | os.PathLike) -> Rows:
  """The rows of all files of a folder, with columns that say of which run they are.

  `folder` and `file` are its path. What Hydra was told is a column for each field. Otherwise
  `variant` and `seed` are what the path tells (`A/seed0/metrics.csv`, `A_seed0.csv`), unless the
  files have such columns themselves. Raises UserError for a folder without files of results.
  """
  path = pathlib.Path(directory)
  files = _files(path)
  if not files:
    raise UserError(
      f"{str(path)!r} holds neither a store nor files of results; name a folder with one file"
      f" ({', '.join(formats.SUFFIXES)}) a run"
    )
  nothing = _jobs_without_files(path, files)
  read_files = [formats.read(file) for file in files]
  read_files += [Rows(pd.DataFrame(), job.name, "") for job in nothing]
  files += [job / "metrics" for job in nothing]
  told = [_told_by_hydra(file, path) for file in files]
  by_hydra = any(one is not None for one in told)
  facts = _with_variant(told) if by_hydra else _told_by_paths(files, path, read_files)
  parts, marks = [], []
  for file, rows, known in zip(files, read_files, facts, strict=True):
    place = file.relative_to(path)
    # A run of which no row is left is there all the same: it is missing.
    frame = rows.frame.astype(object) if len(rows.frame) else pd.DataFrame(index=[0])
    known = {"folder": place.parent.as_posix(), "file": place.stem, **known}
    added = {name: value for name, value in known.items() if name not in frame}
    parts.append(frame.assign(**added))
    lines = rows.files[0][1] if rows.files else np.arange(1, len(frame) + 1)
    lines = lines if len(lines) else np.ones(1, np.int64)
    marks.append((place.as_posix(), lines))
  frame = pd.concat(parts, ignore_index=True)
  frame = frame.astype(object).where(frame.notna(), "")
  forms = list(dict.fromkeys(rows.form for rows in read_files if rows.form))
  form = f"{counted(len(files) - len(nothing), 'file')} of {', '.join(forms)}"
  notes = [note for rows in read_files for note in rows.notes] + _left_aside(path)
  silent = [
    file.parent.relative_to(path).as_posix()
    for file, rows in zip(files, read_files, strict=True)
    if not len(rows.frame)
  ]
  if silent:
    notes.append(f"{counted(len(silent), 'run')} left no values ({', '.join(silent[:3])}): missing")
  numbered = _NUMBERED in frame and bool((frame[_NUMBERED] != "").any())
  seeded = all(rows.seeded for rows in read_files) and not numbered
  one_run_a_file = by_hydra or _NUMBERED in frame
  frame = frame.drop(columns=_NUMBERED, errors="ignore")
  return Rows(
    frame,
    pathlib.Path(os.path.abspath(path)).name or str(path),
    form + ", of which Hydra's records say the settings" * by_hydra,
    tuple(marks),
    any(rows.comma for rows in read_files),
    seeded,
    log=one_run_a_file or any(rows.log for rows in read_files),
    notes=tuple(dict.fromkeys(notes)),
  )


def _below(path: pathlib.Path) -> list[pathlib.Path]:
  """Everything below a folder; UserError for one that is none of runs alone, such as /."""
  found = list(itertools.islice(path.rglob("*"), _MOST_ENTRIES + 1))
  if len(found) > _MOST_ENTRIES:
    raise UserError(
      f"{str(path)!r} holds more than {_MOST_ENTRIES:,} files and folders; name the folder of the"
      " runs alone"
    )
  return found


def _files(path: pathlib.Path) -> list[pathlib.Path]:
  """Files of results below, by name with numbers in order; hidden ones and settings left out."""
  found = [
    file
    for file in _below(path)
    if file.suffix.lower() in formats.SUFFIXES
    and not _SETTINGS.fullmatch(file.name.lower())
    and not any(part.startswith(".") for part in file.relative_to(path).parts)
    and file.is_file()
  ]
  # A script's own log says in words what its table says in numbers.
  tables = {file.parent for file in found if file.suffix.lower() not in _WORDS}
  found = [
    file
    for file in found
    if file.suffix.lower() not in _WORDS or (file.parent not in tables and formats.is_log(file))
  ]
  return sorted(found, key=lambda file: _natural(file.relative_to(path).as_posix()))


def _jobs_without_files(path: pathlib.Path, files: list[pathlib.Path]) -> list[pathlib.Path]:
  """Folders that Hydra or their name says to be of a run, and that hold no results."""
  used = {folder for file in files for folder in file.parents}
  jobs = [record.parent.parent for record in path.rglob(".hydra/overrides.yaml")]
  empty = [
    folder
    for folder in _below(path)
    if folder.is_dir()
    and not any(part.startswith(".") for part in folder.relative_to(path).parts)
    and names.split([folder.name])[2]
  ]
  found = {job for job in (*jobs, *empty) if job not in used}
  return sorted(found, key=lambda folder: _natural(folder.relative_to(path).as_posix()))


def _left_aside(path: pathlib.Path) -> list[str]:
  """A note on text that is no known log where other text is: a run may have died before a line."""
  words = [file for file in _below(path) if file.suffix.lower() in _WORDS and file.is_file()]
  unknown = [file for file in words if not formats.is_log(file)]
  if not unknown or len(unknown) == len(words):
    return []
  shown = ", ".join(file.relative_to(path).as_posix() for file in unknown[:3])
  return [
    f"{counted(len(unknown), 'text')} left aside that is no known log ({shown}): a run may be"
    " missing"
  ]


def _natural(name: str) -> list[tuple[bool, int, str]]:
  parts = re.split(r"(\d+)", name)
  return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]


def _told_by_hydra(file: pathlib.Path, top: pathlib.Path) -> dict[str, str] | None:
  """The overrides of the job a file lies in, and its seed if its config alone says it."""
  for folder in file.parents:
    record = folder / ".hydra"
    if (record / "overrides.yaml").is_file():
      lines = _text(record / "overrides.yaml").splitlines()
      pairs = [line.strip().removeprefix("- ").strip("'\"") for line in lines]
      said = dict(pair.lstrip("+~").split("=", 1) for pair in pairs if "=" in pair)
      if not any(columns.key(name) == "seed" for name in said):
        said |= _seed_of_config(record / "config.yaml")
      return said
    if folder == top:
      break
  return None


def _with_variant(told: list[dict[str, str] | None]) -> list[dict[str, str]]:
  """What the jobs were told, with a variant of the fields in which they differ beside the seed."""
  jobs = [one or {} for one in told]
  fields = dict.fromkeys(name for one in jobs for name in one)
  no_variant = {*columns.ROLES["seed"], *columns.ROLES["task"]}
  differ = [
    name
    for name in fields
    if columns.key(name) not in no_variant and len({one.get(name) for one in jobs}) > 1
  ]
  if not differ or "variant" in fields:
    return jobs
  if len(differ) == 1:
    return [{**one, "variant": one.get(differ[0], "default")} for one in jobs]
  return [
    {**one, "variant": " ".join(f"{name}={one.get(name, 'default')}" for name in differ)}
    for one in jobs
  ]


def _seed_of_config(file: pathlib.Path) -> dict[str, str]:
  if not file.is_file():
    return {}
  found = re.search(r"^seed:\s*(\d+)\s*$", _text(file), re.MULTILINE)
  return {"seed": found[1]} if found else {}


def _text(file: pathlib.Path) -> str:
  return file.read_bytes().decode("utf-8", "replace")


def _told_by_paths(
  files: list[pathlib.Path], top: pathlib.Path, rows: list[Rows]
) -> list[dict[str, str]]:
  """Variant and seed of each file from its path; numbered in order where no number is named."""
  own = [{columns.key(name) for name in one.frame} for one in rows]
  if all(keys & {"seed", "run", "random_seed"} for keys in own):  # tables, not runs
    has = all(keys & set(columns.ROLES["variant"]) for keys in own)
    return [{} if has else {"variant": "/".join(_parts(file, top)) or top.name} for file in files]
  found = [names.split(_parts(file, top)) for file in files]
  if any(seed is None for _, seed, _ in found):
    found = _numbered(files, top)
  several = any(name for name, _, _ in found)
  return [
    {"seed": str(seed), _NUMBERED: "yes" * (not seeded)}
    | ({"variant": name or top.name} if several else {})
    for name, seed, seeded in found
  ]


def _parts(file: pathlib.Path, top: pathlib.Path) -> list[str]:
  """Of the path those that may say something."""
  parts = list(file.relative_to(top).with_suffix("").parts)
  match = re.fullmatch(r"(?:run-)?(.*?)[-_.]?tag-(.+)", parts[-1])
  if match:  # TensorBoard's name for a download
    parts[-1] = match[1]
  return [part for part in parts if part.lower() not in _GENERIC and part]


def _numbered(files: list[pathlib.Path], top: pathlib.Path) -> list[tuple[str, str | None, bool]]:
  """Every file a run of the variant that its folder is, numbered by name."""
  parts = [_parts(file, top) for file in files]
  words = [part[0] for part in parts if len(part) == 1 and not names.is_code(part[0])]
  if len(words) > 1:
    raise UserError(
      f"{top.name}: the names of the files ({', '.join(words[:3])}) tell neither variant nor seed;"
      " name them VARIANT_seed0, put those of a variant into a folder of its name, or compare the"
      " files one by one"
    )
  counts: dict[str, int] = {}
  found: list[tuple[str, str | None, bool]] = []
  for part in parts:
    name = "/".join(part[:-1])
    counts[name] = counts.get(name, -1) + 1
    found.append((name, str(counts[name]), False))
  return found
