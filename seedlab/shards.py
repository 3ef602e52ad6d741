"""Parts of a sweep for machines that share nothing, such as the tasks of a job array.

A shard "2/7" is the second of seven contiguous blocks of a sweep's runs. It is trained into a
store of its own beside the sweep's, `OUT.shards/2-of-7`.
"""

import os
import pathlib
import re
from collections.abc import Mapping, Sequence

from seedlab import errors
from seedlab.errors import UserError

_FORM = "give i/n, the i-th of n shards counted from 1, as in 2/7, or auto in a job array"


def parse(text: str, environment: Mapping[str, str] = os.environ) -> tuple[int, int]:
  """(i, n) of the shard that a text names, "2/7" or "auto"; i counts from 1.

  "auto" reads what the batch system tells the tasks of a job array: SLURM_ARRAY_TASK_ID with
  _COUNT, _MIN, _MAX and _STEP; or SGE_TASK_ID with _FIRST, _LAST and _STEPSIZE. Their numbers
  start at 0 or 1. PBS and Kubernetes tell a task its number alone: there, write i/n out.

  Raises UserError for any other text, and where the place in the array cannot be told.
  """
  if text == "auto":
    return _of_job_array(environment)
  found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text) if isinstance(text, str) else None
  if not found:
    raise UserError(f"shard={text!r} is no shard; {_FORM}")
  number, count = int(found[1]), int(found[2])
  if not 1 <= number <= count:
    raise UserError(f"shard={text!r}: there is no shard {number} of {count}; {_FORM}")
  return number, count


def block(runs: Sequence[int], shard: tuple[int, int]) -> list[int]:
  """The runs of a shard: contiguous blocks whose sizes differ by one run at most.

  Raises UserError where there are more shards than runs.
  """
  number, count = shard
  if count > len(runs):
    raise UserError(
      f"shard={number}/{count}: {errors.counted(len(runs), 'run')} cannot be split into"
      f" {count:,} shards; make {len(runs):,} at most"
    )
  first, stop = ((number - 1) * len(runs)) // count, (number * len(runs)) // count
  return list(runs[first:stop])


def place(out: str | os.PathLike, shard: tuple[int, int]) -> pathlib.Path:
  """The directory of a shard's store: `OUT.shards/2-of-7`."""
  number, count = shard
  return folder(out) / f"{number}-of-{count}"


def folder(out: str | os.PathLike) -> pathlib.Path:
  """The directory that holds the shards of the sweep `out`.

  Raises UserError for an `out` without a name, such as "/" or "..".
  """
  path = pathlib.Path(out)
  if path.name in ("", ".."):
    path = path.resolve()
  if not path.name:
    raise UserError(f"out={os.fspath(out)!r} has no name to put .shards after; name a directory")
  return path.with_name(path.name + ".shards")


def _of_job_array(environment: Mapping[str, str]) -> tuple[int, int]:
  """(i, n) of this task of a job array."""
  if "SLURM_ARRAY_TASK_ID" in environment:
    name = "SLURM_ARRAY_TASK_"
    task, first, last, step = _numbers(environment, name, ("ID", "MIN", "MAX", "STEP"))
    (count,) = _numbers(environment, name, ("COUNT",))
  elif environment.get("SGE_TASK_ID", "undefined") != "undefined":  # which it says outside an array
    name = "SGE_TASK_"
    task, first, last, step = _numbers(environment, name, ("ID", "FIRST", "LAST", "STEPSIZE"))
    count = (last - first) // max(step, 1) + 1
    last = first + (count - 1) * step  # in 1-8:3 the tasks are 1, 4, 7
  else:
    raise UserError(
      "shard='auto' is for a task of a job array, and neither SLURM_ARRAY_TASK_ID nor SGE_TASK_ID"
      f" is set here: {_told_apart(environment)}"
    )
  if first > 1:
    raise UserError(
      f"shard='auto': the tasks of this job array count from {first}, as those of a part of a"
      " larger array that is submitted again would, whose shards are others; number them from 1,"
      " as in"
      f" --array=1-{max(count, 1)} (finished shards end at once), or write --shard=i/n out"
    )
  even = step >= 1 and last - first == (count - 1) * step and (task - first) % step == 0
  if not (even and first <= task <= last):
    raise UserError(
      f"shard='auto': task {task} of a job array of {errors.counted(count, 'task')} from {first} to"
      f" {last} in steps of {step} could be any of them, since some between are left out; number"
      f" the tasks without gaps, as in --array=1-{max(count, 1)}, or write --shard=i/n out"
    )
  return (task - first) // step + 1, count


def _told_apart(environment: Mapping[str, str]) -> str:
  """What to write where a batch system tells a task its number and not how many there are."""
  for name, text in (
    ("PBS_ARRAY_INDEX", "$PBS_ARRAY_INDEX/N for an array 1-N"),
    ("JOB_COMPLETION_INDEX", "$((JOB_COMPLETION_INDEX + 1))/N with N completions"),
  ):
    if name in environment:
      return f"{name} is, which does not say of how many; write --shard={text}"
  return "submit the command as a job array, or write --shard=i/n out"


def _numbers(environment: Mapping[str, str], prefix: str, names: Sequence[str]) -> list[int]:
  """The whole numbers of variables of a batch system."""
  found = []
  for name in names:
    value = environment.get(prefix + name)
    if value is None or not re.fullmatch(r"[0-9]{1,18}", value):
      state = "is missing" if value is None else f"is {value!r}, not a whole number"
      raise UserError(
        f"shard='auto' needs {prefix}{name} to tell the tasks of the job array apart, and it"
        f" {state}; write --shard=i/n out"
      )
    found.append(int(value))
  return found
