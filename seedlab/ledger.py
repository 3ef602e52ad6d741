"""The ledger of a session of proposals: one file that is only appended to, with a hash chain.

Each line is one entry as JSON with sorted keys. Its `chain` is the SHA-256, in hexadecimal, of the
`chain` of the line before (nothing before the first) and the entry without `chain`. So a line
that was edited, inserted, moved, repeated or taken out is found, unless it was the last: that the
end is missing, or that the whole chain was computed anew, cannot be seen from the file alone. Who
must be sure notes the digest of the last line (`head`), which every judgement prints, elsewhere.

A write is under a lock and on the disk before its result is told. What a kill in the middle of a
write leaves, a last line without its end, was never told to anyone: it is dropped by the next
write. A last line that lacks nothing but the line break counts.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from seedlab import decoding
from seedlab.errors import UserError

Entry = dict[str, Any]
# How the first line begins, so that no other file is ever taken for one that was cut short.
START = {"_ledger": "seedlab session 1"}
_BEGINNING = b'{"_ledger":"seedlab session'


@dataclasses.dataclass
class Ledger:
  """A ledger under its lock; `append` is the only change there is."""

  path: str
  entries: list[Entry]  # without their `chain`
  head: str  # chain of the last entry; "" of an empty file
  _file: BinaryIO
  _end: int  # bytes of the entries; what follows is an unfinished write

  def append(self, entry: Entry) -> None:
    """Writes an entry to the disk; OSError where that fails, with the file as it was."""
    chain = _chain(self.head, entry)
    line = _text(entry | {"chain": chain}).encode() + b"\n"
    self._file.truncate(self._end)
    try:
      self._file.seek(self._end)
      rest = memoryview(line)
      while rest:
        rest = rest[self._file.write(rest) :]
      os.fsync(self._file.fileno())
    except OSError:
      with contextlib.suppress(OSError):
        self._file.truncate(self._end)
      raise
    self._end += len(line)
    self.head = chain
    self.entries.append(json.loads(_text(entry)))


@contextlib.contextmanager
def opened(path: str | os.PathLike) -> Iterator[Ledger]:
  """The ledger at `path`, made if there is none, for this process alone; others wait.

  Raises UserError for a file that cannot be used, and for one that was changed, with the line.
  """
  try:
    with contextlib.suppress(FileExistsError):
      pathlib.Path(path).touch(0o666, exist_ok=False)
      _sync(pathlib.Path(path).parent)
    file = open(path, "r+b", buffering=0)
  except OSError as error:
    raise UserError(
      f"ledger={str(path)!r} cannot be written ({error.strerror}); name a file in a directory that"
      " can"
    ) from None
  with file:
    fcntl.flock(file, fcntl.LOCK_EX)
    entries, head, end, complete = _entries(file.read(), str(path))
    if not complete:
      file.seek(end)
      file.write(b"\n")
      end += 1
    yield Ledger(str(path), entries, head, file, end)


def read(path: str | os.PathLike) -> tuple[list[Entry], str]:
  """The entries of a ledger and its head, without the right to write; UserError as `opened`."""
  try:
    with open(path, "rb") as file:
      fcntl.flock(file, fcntl.LOCK_SH)
      content = file.read()
  except OSError as error:
    raise UserError(f"ledger={str(path)!r} cannot be read ({error.strerror})") from None
  entries, head, _, _ = _entries(content, str(path))
  return entries, head


def _entries(content: bytes, path: str) -> tuple[list[Entry], str, int, bool]:
  """Entries, head, their bytes, and whether the last ends with a line break."""
  entries: list[Entry] = []
  head, end = "", 0
  lines = content.split(b"\n")
  for number, line in enumerate(lines, 1):
    last = number == len(lines)
    if last and not line:
      break
    entry = _entry(line, head)
    if entry is None:
      unfinished = line.startswith(_BEGINNING) or _BEGINNING.startswith(line) or entries
      if last and unfinished:
        break
      raise UserError(_refusal(path, number, entries))
    head = entry.pop("chain")
    entries.append(entry)
    end += len(line) + (not last)
  return entries, head, end, end == 0 or content[end - 1 : end] == b"\n"


def _refusal(path: str, number: int, entries: list[Entry]) -> str:
  if not entries:
    return (
      f"ledger={path!r}: line 1 does not start a ledger, or was changed; name a file of its own"
      " that does not exist yet, or bring back the ledger as it was"
    )
  return (
    f"ledger={path!r}: line {number} does not follow from line {number - 1}: the file was changed"
    " there (an entry edited, moved, repeated or taken out), and its error budget holds no longer;"
    " bring back the file as it was, or start a new session in another file"
  )


def _entry(line: bytes, head: str) -> Entry | None:
  """What a line says if it follows from the line whose chain is `head`, to the last byte."""
  try:
    entry = decoding.parse(line)
    said = dict(entry)
    sound = said.pop("chain") == _chain(head, said) and _text(entry).encode() == line
  except (ValueError, TypeError, KeyError):
    return None
  return entry if sound else None


def _chain(head: str, entry: Entry) -> str:
  return hashlib.sha256((head + _text(entry)).encode()).hexdigest()


def _text(entry: Entry) -> str:
  return json.dumps(entry, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _sync(folder: pathlib.Path) -> None:
  """So that a new file survives a crash of the machine too."""
  handle = os.open(folder, os.O_RDONLY)
  try:
    os.fsync(handle)
  finally:
    os.close(handle)
