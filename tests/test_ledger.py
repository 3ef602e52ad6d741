"""The ledger: what was written stays, what was changed is found, whatever stops a writer."""

import hashlib
import json
import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest

from seedlab import ledger
from seedlab.errors import UserError

_OPENING = ledger.START | {"kind": "session", "proposals": 10}


def written(path, count=5):
  with ledger.opened(path) as book:
    book.append(_OPENING)
    for number in range(count):
      book.append({"kind": "note", "number": number, "value": 0.1 + number})
  return path


@pytest.fixture
def file(tmp_path) -> pathlib.Path:
  return written(tmp_path / "session.jsonl")


def test_what_is_appended_is_read_again(file):
  entries, head = ledger.read(file)
  assert entries[0] == _OPENING and [e["number"] for e in entries[1:]] == [0, 1, 2, 3, 4]
  assert len(head) == 64 and json.loads(file.read_text().splitlines()[-1])["chain"] == head
  with ledger.opened(file) as book:
    assert (book.entries, book.head) == (entries, head)
    book.append({"kind": "note", "number": 5})
  assert ledger.read(file)[0][-1] == {"kind": "note", "number": 5}


def test_chain_by_hand(file):
  """SHA-256 of the chain before and the entry, as JSON with sorted keys and no blanks."""
  first, second = (json.loads(line) for line in file.read_text().splitlines()[:2])
  text = '{"_ledger":"seedlab session 1","kind":"session","proposals":10}'
  assert first["chain"] == hashlib.sha256(text.encode()).hexdigest()
  text = first["chain"] + '{"kind":"note","number":0,"value":0.1}'
  assert second["chain"] == hashlib.sha256(text.encode()).hexdigest()


def changed(lines, how):
  """The lines after a change, and the first line that does not follow any more."""
  if how == "edited":
    return [*lines[:3], lines[3].replace(b"2.1", b"9.1"), *lines[4:]], 4
  if how == "edited last":
    return [*lines[:5], lines[5].replace(b"4.1", b"9.1")], 6
  if how == "a blank more":
    return [*lines[:3], lines[3].replace(b":", b": "), *lines[4:]], 4
  if how == "reordered":
    return [*lines[:2], lines[3], lines[2], *lines[4:]], 3
  if how == "taken out":
    return [*lines[:2], *lines[3:]], 3
  if how == "repeated":
    return [*lines[:3], lines[2], *lines[3:]], 4
  if how == "last repeated":
    return [*lines, lines[-1]], 7
  if how == "first taken out":
    return lines[1:], 1
  if how == "empty line":
    return [*lines[:2], b"", *lines[2:]], 3
  if how == "cut in the middle":
    return [*lines[:2], lines[2][:30], *lines[3:]], 3
  raise ValueError(how)


@pytest.mark.parametrize(
  "how",
  ["edited", "edited last", "a blank more", "reordered", "taken out", "repeated", "last repeated",
   "first taken out", "empty line", "cut in the middle"],
)  # fmt: skip
def test_a_changed_ledger_is_refused_with_its_line(file, how):
  lines, number = changed(file.read_bytes().splitlines(), how)
  file.write_bytes(b"\n".join(lines) + b"\n")
  before = file.read_bytes()
  for use in (ledger.read, lambda path: ledger.opened(path).__enter__()):
    with pytest.raises(UserError, match=f"line {number} ") as error:
      use(file)
    assert "bring back" in str(error.value)
  assert file.read_bytes() == before


def test_an_unfinished_last_line_loses_no_earlier_entry(file):
  """Cut after every byte of the last line: the entries before are there, and one can go on."""
  content = file.read_bytes()
  start = content[:-1].rfind(b"\n") + 1
  for end in range(start, len(content) + 1):
    file.write_bytes(content[:end])
    entries, _ = ledger.read(file)
    whole = end >= len(content) - 1  # all but the line break
    assert [e["number"] for e in entries[1:]] == [0, 1, 2, 3, 4][: 5 if whole else 4]
    with ledger.opened(file) as book:
      book.append({"kind": "note", "number": 9})
    assert [e["number"] for e in ledger.read(file)[0][1:]][-1] == 9
    assert len(ledger.read(file)[0]) == len(entries) + 1 and file.read_bytes().endswith(b"}\n")


def test_an_unfinished_first_line_starts_anew(tmp_path):
  file = written(tmp_path / "a", 0)
  content = file.read_bytes()
  for end in range(len(content) - 1):
    file.write_bytes(content[:end])
    assert ledger.read(file) == ([], "")
  with ledger.opened(file) as book:
    book.append(_OPENING)
  assert file.read_bytes() == content


@pytest.mark.parametrize("content", ["seed,accuracy\n0,0.9\n", '{"a": 1}', "{}", "hello", "\n"])
def test_another_file_is_left_alone(tmp_path, content):
  path = tmp_path / "other"
  path.write_text(content)
  with pytest.raises(UserError, match="line 1 does not start a ledger"), ledger.opened(path):
    pass
  assert path.read_text() == content


def test_files_that_cannot_be_used(tmp_path):
  with pytest.raises(UserError, match=r"cannot be written \(Is a dir"):
    ledger.opened(tmp_path).__enter__()
  with pytest.raises(UserError, match=r"cannot be written \(No such"):
    ledger.opened(tmp_path / "no/session").__enter__()
  with pytest.raises(UserError, match="cannot be read"):
    ledger.read(tmp_path / "none")


def test_a_failed_write_leaves_the_file_as_it_was(file, monkeypatch):
  before = file.read_bytes()

  def full(handle):
    raise OSError(28, "No space left on device")

  with ledger.opened(file) as book:
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
      book.append({"kind": "note", "number": 5})
    monkeypatch.undo()
    assert file.read_bytes() == before
    book.append({"kind": "note", "number": 6})
  assert [e["number"] for e in ledger.read(file)[0][1:]] == [0, 1, 2, 3, 4, 6]


_WRITER = """
import sys
from seedlab import ledger
path, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
for number in range(count):
  with ledger.opened(path) as book:
    book.append({"by": name, "number": number, "text": "x" * 20_000})
  sys.stdout.write(f"{number}\\n")
  sys.stdout.flush()
"""


def writer(path, name, count):
  command = [sys.executable, "-c", _WRITER, str(path), name, str(count)]
  return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_kill_at_any_moment_loses_nothing_that_was_told(tmp_path):
  """Killed again and again while it appends: every entry it spoke of is there, in order."""
  path, rng, told = written(tmp_path / "s", 0), np.random.default_rng(0), {}
  for turn in range(6):
    with writer(path, str(turn), 10_000) as process:
      for _ in range(int(rng.integers(1, 40))):
        told[turn] = int(process.stdout.readline())
      process.send_signal(signal.SIGKILL)
      rest = process.stdout.read().split()
      told[turn] = int(rest[-1]) if rest else told[turn]
  entries, _ = ledger.read(path)
  assert len(told) == 6
  for turn, last in told.items():
    numbers = [e["number"] for e in entries if e.get("by") == str(turn)]
    assert numbers == list(range(len(numbers))) and len(numbers) in (last + 1, last + 2)


def test_two_processes_that_append_at_once(tmp_path):
  path = written(tmp_path / "s", 0)
  processes = [writer(path, name, 60) for name in "ab"]
  for process in processes:
    process.communicate()
    assert process.returncode == 0
  entries, _ = ledger.read(path)
  for name in "ab":
    assert [e["number"] for e in entries if e.get("by") == name] == list(range(60))
