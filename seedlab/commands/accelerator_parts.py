"""Parts of a measurement, each in a process of its own, whose figures are kept as they are found.

  OUT/PART/figures.json  what a part has found so far, and how it ended
  OUT/PART/log.txt       what its process printed
  OUT/summary.json       all of them together

A part that fails, hangs, is killed or runs out of memory takes nothing from the others.
"""

import contextlib
import json
import math
import os
import pathlib
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from seedlab import console, host, memory, orphans
from seedlab import parts as names
from seedlab.errors import UserError

FINISHED = "finished"
SUMMARY = "summary.json"
_START = "from seedlab.commands.accelerator_parts import work; work()"
_LEAST = 8.0  # seconds within which a part that asks for as many can find nothing


class Place(NamedTuple):
  """What a part is told, in its process."""

  part: str
  out: str  # the directory of all parts
  seconds: float  # until its process is killed
  small: bool
  platform: str  # "cpu", "gpu" or "tpu"
  devices: int
  core: int | None  # that it is bound to; None on accelerators
  data_dir: str | None
  began: float = 0.0  # by time.monotonic


class Part(NamedTuple):
  """One measurement."""

  name: str
  title: str  # of its table
  seconds: float  # at most
  function: str  # "module:name" of what takes its Place, imported in its process alone
  variables: Mapping[str, str] = {}  # of its process


class TimeUp(Exception):
  """A part has done what fits into its time; the message says what is left."""


def left(place: Place) -> float:
  """Seconds until this process is killed."""
  return place.began + place.seconds - time.monotonic()


def folder(place: Place) -> pathlib.Path:
  """Where a part may put files of its own."""
  return pathlib.Path(place.out, place.part)


def found(place: Place) -> dict[str, Any]:
  """The figures of this part so far, those of an earlier call among them."""
  return read(place.out, place.part).get("figures", {})


def record(place: Place, name: str, value: Any) -> None:
  """Keeps a figure at once: a row of a table as a dict, or a single value.

  Lists and dicts within are for summary.json; tables do not show them.
  """
  kept = read(place.out, place.part)
  kept.setdefault("figures", {})[name] = value = _finite(value)
  keep(place.out, place.part, kept)
  print(name, json.dumps(value), flush=True)


@contextlib.contextmanager
def noted(place: Place, name: str) -> Iterator[None]:
  """Keeps why one figure could not be had, so that the others still can."""
  try:
    yield
  except Exception as error:
    record(place, name, {**row_of(place, name), "note": in_a_line(error)})


def row_of(place: Place, name: str) -> dict[str, Any]:
  row = found(place).get(name)
  return row if isinstance(row, dict) else {}


def read(out: str | os.PathLike, part: str) -> dict[str, Any]:
  """What is kept of a part; {} where there is nothing, or nothing whole."""
  with contextlib.suppress(OSError, ValueError):
    kept = json.loads(pathlib.Path(out, part, "figures.json").read_text())
    if isinstance(kept, dict) and isinstance(kept.get("figures", {}), dict):
      return kept
  return {}


def keep(out: str | os.PathLike, part: str, kept: Mapping[str, Any]) -> None:
  """The inverse of `read`."""
  place = pathlib.Path(out, part)
  place.mkdir(exist_ok=True)
  _write(place / "figures.json", kept)


def summarise(out: str | os.PathLike, order: Sequence[str]) -> dict[str, Any]:
  """Everything that is kept, in the order of the parts; also written to OUT/summary.json."""
  found = {name: kept for name in order if (kept := read(out, name))}
  summary = {"format": 1, "date": host.now(), "parts": found}
  _write(pathlib.Path(out, SUMMARY), summary)
  return summary


def run(parts: Sequence[Part], place: Place, facts: Mapping[str, Any] = {}) -> bool:
  """Runs the parts one after another within `place.seconds`; whether none of them failed.

  A part that finished earlier is kept. What `place` says of a part is filled in here.

  Args:
    facts: kept beside the figures of each part.
  """
  deadline = time.monotonic() + place.seconds
  well = True
  for part in parts:
    kept = read(place.out, part.name)
    if kept.get("state") == FINISHED:
      console.say(f"{part.name}: finished at {kept['date']}, and kept")
      continue
    limit = min(part.seconds, deadline - time.monotonic())
    where = place._replace(part=part.name, seconds=limit)
    facts_now = {"title": part.title, **facts, "date": host.now()}
    if limit < min(part.seconds, _LEAST):
      console.say(f"{part.name}: left out, since the time is up")
      _note(where, facts_now | {"state": "left out", "reason": "the time was up before it began"})
      continue
    console.say(f"{part.name}: at most {limit:.0f} s")
    _note(where, facts_now | {"state": "under way", "reason": ""})
    started = time.monotonic()
    try:
      state, reason = _run(part, where)
    except KeyboardInterrupt:
      _note(where, {"state": "stopped", "reason": "the command was stopped"})
      raise
    took = time.monotonic() - started
    _note(where, {"state": state, "reason": reason, "seconds": took, "date": host.now()})
    console.say(f"{part.name}: {state} after {took:.0f} s" + f" ({reason})" * bool(reason))
    well = well and state in (FINISHED, "out of time")
  return well


def _run(part: Part, place: Place) -> tuple[str, str]:
  """How the process of a part ended, and why if not well.

  It has a session of its own, so that Ctrl-C reaches this process alone, and so that it can be
  ended together with workers that it has started.
  """
  variables = {
    "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
    "PYTHONUNBUFFERED": "1",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    **part.variables,
  }
  told = json.dumps([part.function, os.getpid(), place])
  with open(folder(place) / "log.txt", "a") as log:
    process = subprocess.Popen(
      [sys.executable, "-P", "-c", _START, told],
      stdin=subprocess.DEVNULL,
      stdout=log,
      stderr=log,
      env={**os.environ, **variables},
      start_new_session=True,
    )
    guardian = None if orphans.KERNEL else orphans.guard(process.pid)
    try:
      status = process.wait(place.seconds)
    except subprocess.TimeoutExpired:
      return "out of time", f"it was ended after {place.seconds:.0f} s"
    finally:
      with contextlib.suppress(OSError):  # its workers may be there when it is not
        os.killpg(process.pid, signal.SIGKILL)
      process.wait()
      if guardian:
        orphans.dismiss(guardian)
  if not status:
    return FINISHED, ""
  told_by_it = read(place.out, place.part).get("reason")
  if status == 3:
    return "out of time", told_by_it or ""
  cause = signal.Signals(-status).name if status < 0 else f"exit status {status}"
  memory_hint = "; the machine may be short of memory" * (status == -signal.SIGKILL)
  log_file = folder(place) / "log.txt"
  return "failed", told_by_it or f"its process ended with {cause}{memory_hint}; see {log_file}"


def work() -> None:
  """The process of a part: exit status 0 if it finished, 3 if time was up, else 1."""
  function, parent, fields = json.loads(sys.argv[1])
  if orphans.KERNEL:
    orphans.end_with_parent(parent)
  place = Place(*fields)._replace(began=time.monotonic())
  if place.core is not None:
    host.pin(place.core)
  print(f"-- {place.part}, {host.now()}", flush=True)
  try:
    names.resolve(function)(place)
  except TimeUp as error:
    _note(place, {"reason": str(error)})
    sys.exit(3)
  except Exception as error:
    traceback.print_exc()
    _note(place, {"reason": in_a_line(error)})
    sys.exit(1)


def in_a_line(error: Exception) -> str:
  """What went wrong, for a cell of a table."""
  if memory.ran_out(error):
    return f"there is not enough memory: {_first_line(error)}"
  text = str(error)
  if getattr(error, "worker_traceback", False):  # its last line is the error
    return text.strip().splitlines()[-1][:300]
  if isinstance(error, UserError):
    return text[:300]
  return f"{type(error).__name__}: {_first_line(error)}"


def _first_line(error: Exception) -> str:
  return (str(error).strip().splitlines() or [""])[0][:200]


def _note(place: Place, fields: Mapping[str, Any]) -> None:
  """Changes fields beside the figures of a part."""
  keep(place.out, place.part, {**read(place.out, place.part), **fields})


def _finite(value: Any) -> Any:
  """As JSON, which knows neither NaN nor infinity."""
  if isinstance(value, Mapping):
    return {str(key): _finite(item) for key, item in value.items()}
  if isinstance(value, list | tuple):
    return [_finite(item) for item in value]
  if isinstance(value, float):
    return value if math.isfinite(value) else None
  return value if value is None or isinstance(value, bool | int) else str(value)


def _write(file: pathlib.Path, value: Any) -> None:
  """JSON, whole or not at all."""
  partial = file.with_name(file.name + ".partial")
  partial.write_text(json.dumps(value, indent=1) + "\n")
  os.replace(partial, file)
