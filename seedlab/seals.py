"""Digests of what is stored about a run, by which a reader notices a number that was changed.

A run's digest is the SHA-256 of everything the store holds about it but its time, which differs
from machine to machine. Beside it each array has a checksum of 16 bits for each run: the digest
says that something is wrong, the checksums say where.
"""

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

DIGEST, CHECKSUM = "run_digest", "checksum"  # the columns that hold them
UNDIGESTED = (DIGEST, CHECKSUM, "seconds", "completed", "fingerprint")


def canonical(value: Any) -> bytes:
  """`value` as JSON with sorted keys and without blanks: equal values have equal bytes."""
  return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def digest(value: Any) -> str:
  """SHA-256, in hexadecimal digits, of the canonical JSON of a value."""
  return hashlib.sha256(canonical(value)).hexdigest()


def array_digest(array: np.ndarray) -> str:
  """SHA-256 of an array with its type and shape."""
  sha = hashlib.sha256(_head(array.dtype, array.shape))
  sha.update(_bytes(array))
  return sha.hexdigest()


def run_digests(
  runs: np.ndarray,
  seeds: Mapping[str, np.ndarray],
  columns: Mapping[str, np.ndarray],
  fingerprints: Sequence[str],
) -> np.ndarray:
  """S64[R]: the digest of each run, over its number, seeds, columns and fingerprint.

  Args:
    runs: int[R], the run numbers.
    seeds: stream -> uint32[R].
    columns: name -> array[R, ...]; those of `UNDIGESTED` are left out.
    fingerprints: the digest of each run's fingerprint record.
  """
  named = sorted((name, values) for name, values in columns.items() if name not in UNDIGESTED)
  heads = [f"{name} ".encode() + _head(values.dtype, values.shape[1:]) for name, values in named]
  found = []
  for row, run in enumerate(runs):
    identity = {
      "run": int(run),
      "seeds": {stream: int(values[row]) for stream, values in seeds.items()},
      "fingerprint": fingerprints[row],
    }
    sha = hashlib.sha256(canonical(identity))
    for head, (_, values) in zip(heads, named, strict=True):
      sha.update(head)
      sha.update(_bytes(values[row]))
    found.append(sha.hexdigest())
  return np.array(found, "S64")


def checksums(columns: Sequence[np.ndarray]) -> np.ndarray:
  """uint16[R, len(columns)]: the low half of the CRC-32 of each run's bytes in each column."""
  found = [[zlib.crc32(_bytes(values[row])) & 0xFFFF for row in range(len(values))]
           for values in columns]  # fmt: skip
  return np.array(found, np.uint16).T


def as_ranges(runs: Sequence[int] | np.ndarray) -> list[list[int]]:
  """Run numbers, in their order, as [first, stop] of ranges that ascend by one."""
  numbers = np.asarray(runs, np.int64)
  cuts = np.flatnonzero(np.diff(numbers) != 1) + 1
  return [[int(part[0]), int(part[-1]) + 1] for part in np.split(numbers, cuts) if len(part)]


def from_ranges(ranges: Sequence[Sequence[int]]) -> np.ndarray:
  """int64[R]: the inverse of `as_ranges`."""
  parts = [np.arange(first, stop, dtype=np.int64) for first, stop in ranges]
  return np.concatenate([np.zeros(0, np.int64), *parts])


def _head(dtype: np.dtype, shape: Sequence[int]) -> bytes:
  return f"{dtype.str} {list(shape)}\n".encode()


def _bytes(values: np.ndarray) -> memoryview | bytes:
  return np.ascontiguousarray(values).tobytes()
