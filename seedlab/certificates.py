"""What a stranger needs to check a store: one hash over all of its runs, and who was drawn from it.

The hash is the root of a Merkle tree (RFC 6962, section 2.1; RFC 9162): leaves are the finished
runs in ascending order, each the canonical JSON [run, run_digest]; a leaf is hashed after a byte 0,
the hashes of two halves after a byte 1, and the left half is the largest power of two that leaves
something for the right one. So the root commits to every run, and a handful of hashes shows that
one run belongs to it.

Which runs are replayed follows from the root and a text, by SHA-256 alone: nobody can have chosen
them before the store was complete. Everything here is plain Python and in docs/verify.md.
"""

import csv
import hashlib
import json
import math
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from seedlab import decoding, seals
from seedlab.errors import UserError, short

FORMAT = 1
UNCHECKABLE = ("date",)  # what nothing can be compared with
OF_THE_STORE = ("left_out", "manifest_sha256", "fingerprints", "devices", "seedlab_version")
_LONGEST_SEED = 200
_LARGEST_FILE = 200_000_000  # bytes; a table of a million runs has 80 million
_HEX = re.compile("[0-9a-f]{64}")


def leaf(run: int, run_digest: str) -> bytes:
  """SHA-256 of a leaf: a zero byte, then the canonical JSON [run, run_digest]."""
  return hashlib.sha256(b"\x00" + seals.canonical([run, run_digest])).digest()


def root(digests: Mapping[int, str]) -> str:
  """The hash over all runs (run -> run_digest), in hexadecimal digits; of none, that of nothing."""
  level = _leaves(digests)
  while len(level) > 1:
    level = _above(level)
  return level[0].hex() if level else hashlib.sha256().hexdigest()


def audit_path(digests: Mapping[int, str], run: int) -> list[str]:
  """The hashes, from the leaf upwards, with which `is_included` shows that a run is in the tree."""
  at, level, path = sorted(digests).index(run), _leaves(digests), []
  while len(level) > 1:
    beside = at ^ 1
    if beside < len(level):  # the last of an odd number goes up as it is
      path.append(level[beside].hex())
    at, level = at // 2, _above(level)
  return path


def is_included(
  run: int, run_digest: str, place: int, runs: int, path: Sequence[str], expected: str
) -> bool:
  """Whether the leaf of a run belongs to the tree with the root `expected` (RFC 9162, 2.1.3.2).

  Args:
    place: of the leaf in the tree, from 0: how many of its runs have a smaller number.
    runs: how many leaves the tree has.
    path: `audit_path` of the run.
  """
  if not 0 <= place < runs:
    return False
  found, last, rest = leaf(run, run_digest), runs - 1, list(path)
  while last:
    if place % 2 or place < last:  # it has one beside it
      if not rest:
        return False
      beside = bytes.fromhex(rest.pop(0))
      found = _node(beside, found) if place % 2 else _node(found, beside)
    place, last = place // 2, last // 2
  return not rest and found.hex() == expected


def draw(root: str, seed: str, runs: Sequence[int], count: int) -> list[int]:
  """The `count` runs (or all, if there are fewer) with the smallest ranks, ascending.

  The rank of a run is the SHA-256 of the text "ROOT SEED RUN".
  """

  def rank(run: int) -> bytes:
    return hashlib.sha256(f"{root} {seed} {run}".encode()).digest()

  return sorted(sorted(runs, key=rank)[:count])


def check_seed(seed: Any) -> None:
  """Refuses what is no text of one line, of which every language has the same bytes."""
  if not isinstance(seed, str) or not 0 < len(seed) <= _LONGEST_SEED or not seed.isprintable():
    raise UserError(
      f"seed={short(repr(seed))} must be a text of one line of 1 to {_LONGEST_SEED} characters"
    )


def chance_to_catch(runs: int, sample: int, percent: int = 15) -> float:
  """The probability that a sample holds a made-up run, if `percent` % of the runs are made up."""
  made_up = math.ceil(percent * runs / 100)
  return 1 - math.comb(runs - made_up, min(sample, runs)) / math.comb(runs, min(sample, runs))


def sealed(fields: Mapping[str, Any]) -> dict[str, Any]:
  """A certificate: the fields, and the SHA-256 of their canonical JSON."""
  return {**fields, "sha256": seals.digest(dict(fields))}


def as_text(certificate: Mapping[str, Any]) -> str:
  """JSON with a line for each field."""
  lines = [f" {json.dumps(field)}: {json.dumps(value)}" for field, value in certificate.items()]
  return "{\n" + ",\n".join(lines) + "\n}\n"


def of_digests(digests: Mapping[int, str], seed: str | None, sample: int) -> dict[str, Any]:
  """The fields of a certificate that a table of the digests is enough for.

  Args:
    digests: run -> run_digest of every finished run.
    seed: the public text that draws; None: the root itself.
    sample: how many runs are drawn.
  """
  top = root(digests)
  seed = top if seed is None else seed
  drawn = draw(top, seed, list(digests), sample)
  # A certificate is written if all that were drawn and trained again were the same to the last bit.
  return {
    "format": FORMAT,
    "root": top,
    "runs": len(digests),
    "seed": seed,
    "drawn": drawn,
    "exact": drawn,
  }


def objections(certificate: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
  """What a certificate claims otherwise than `expected`, field by field; nothing if it is right.

  Args:
    expected: the fields as they were computed anew. Those of `OF_THE_STORE` are not looked at where
      it lacks them.
  """
  unseen = {field for field in OF_THE_STORE if field not in expected}
  fields = [*expected, *OF_THE_STORE, *UNCHECKABLE, "sha256"]
  found = [f"{field} is no field of a certificate" for field in certificate if field not in fields]
  for field in dict.fromkeys(fields):
    if field not in certificate:
      found.append(f"{field} is missing")
    elif field in expected and not _same(certificate[field], expected[field]):
      by = " by this root and seed" if field == "drawn" else ""
      found.append(f"{field} is {short(expected[field])}{by}, not {short(certificate[field])}")
  claimed = {field: value for field, value in certificate.items() if field != "sha256"}
  if not found and certificate["sha256"] != seals.digest(claimed):
    doubted = ", ".join((*UNCHECKABLE, *sorted(unseen)))
    found.append(f"sha256 is not that of the certificate: {doubted} or itself was changed")
  return found


def read(path: str | os.PathLike) -> dict[str, Any]:
  """A certificate from its file; raises UserError for what is none."""
  text = _text(path)
  try:
    found = json.loads(text, parse_constant=_refuse)
  except (ValueError, RecursionError) as error:
    raise UserError(f"{os.fspath(path)!r} is no certificate: it is not JSON ({error})") from None
  if not isinstance(found, dict) or found.get("format") != FORMAT:
    raise UserError(
      f"{os.fspath(path)!r} is no certificate of seedlab verify: its field format is not {FORMAT}"
    )
  if not isinstance(found.get("drawn"), list):
    raise UserError(f"{os.fspath(path)!r} is no certificate of seedlab verify: drawn is no list")
  check_seed(found.get("seed"))
  return found


def write(path: str | os.PathLike, text: str) -> None:
  """Writes a small text file, whole or not at all."""
  file = pathlib.Path(path)
  partial = file.with_name(file.name + ".partial")
  try:
    partial.write_text(text)
    os.replace(partial, file)
  except OSError as error:
    raise UserError(
      f"{str(file)!r} cannot be written ({error.strerror}); name another file"
    ) from None


def check_place(path: str | os.PathLike, store: str | os.PathLike | None = None) -> pathlib.Path:
  """Where a file can be written that is not inside a store; raises UserError before any work."""
  file = pathlib.Path(path)
  if file.is_dir() or not os.access(file.parent, os.W_OK):
    raise UserError(f"{str(file)!r} cannot be written; name a file that can, as in --out=FILE")
  if store is not None and file.resolve().is_relative_to(pathlib.Path(store).resolve()):
    raise UserError(f"{str(file)!r} lies inside the store that it is about; name a file beside it")
  return file


def table(digests: Mapping[int, str]) -> str:
  """A table of the runs' digests: CSV with the columns run and run_digest."""
  return "\n".join(["run,run_digest", *(f"{run},{digests[run]}" for run in sorted(digests)), ""])


def read_table(path: str | os.PathLike) -> dict[int, str]:
  """run -> run_digest of a CSV file with these two columns, others beside, rows in any order."""
  lines = csv.DictReader(_text(path).splitlines())
  name, found = repr(os.fspath(path)), {}
  try:
    if not {"run", "run_digest"} <= set(lines.fieldnames or ()):
      raise UserError(f"{name} must be a CSV file with the columns run and run_digest")
    for row in lines:
      run, digest = row["run"] or "", row["run_digest"] or ""
      if not re.fullmatch("[0-9]{1,10}", run) or not _HEX.fullmatch(digest):
        raise UserError(
          f"{name}, line {lines.line_num}: run={short(run)!r}, run_digest={short(digest)!r} must be"
          " a run's number and 64 hexadecimal digits"
        )
      if int(run) in found:
        raise UserError(f"{name}, line {lines.line_num}: run {run} is there twice")
      found[int(run)] = digest
  except csv.Error as error:
    raise UserError(f"{name}, line {lines.line_num}, is no CSV ({error})") from None
  return found


def _leaves(digests: Mapping[int, str]) -> list[bytes]:
  return [leaf(run, digests[run]) for run in sorted(digests)]


def _node(left: bytes, right: bytes) -> bytes:
  return hashlib.sha256(b"\x01" + left + right).digest()


def _above(level: Sequence[bytes]) -> list[bytes]:
  """The hashes one level up: of neighbours in pairs, a last one without a neighbour as it is."""
  pairs = [_node(*level[at : at + 2]) for at in range(0, len(level) - 1, 2)]
  return [*pairs, *level[len(level) // 2 * 2 :]]


def _same(a: Any, b: Any) -> bool:
  """Whether two values are the same JSON: 1, 1.0 and true are three values."""
  return type(a) is type(b) and seals.canonical(a) == seals.canonical(b)


def _text(path: str | os.PathLike) -> str:
  try:
    if os.path.getsize(path) > _LARGEST_FILE:
      raise UserError(f"{os.fspath(path)!r} is larger than any file of seedlab verify")
    return decoding.content(path).decode("utf-8-sig")
  except OSError as error:
    raise UserError(f"{os.fspath(path)!r} cannot be read: {error.strerror}") from None
  except UnicodeDecodeError:
    raise UserError(f"{os.fspath(path)!r} is no text in UTF-8") from None


def _refuse(constant: str) -> float:
  raise ValueError(f"{constant} is no number of JSON")
