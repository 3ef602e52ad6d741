"""What `seedlab bench --suite=pages` measures: commands on made-up sweeps of any size."""

import os
import pathlib
import subprocess
import time

import numpy as np

from seedlab import records
from seedlab.config import STREAMS


def made_up_store(out: pathlib.Path, runs: int, examples: int, seed: int) -> None:
  """A finished sweep of networks that err on 5 to 8 % of ten classes, most on the same examples."""
  out.mkdir()
  rng, chunk = np.random.default_rng(seed), 250
  label = np.random.default_rng(0).integers(0, 10, examples).astype(np.int32)
  hard = np.random.default_rng(1).beta(0.1, 1.5, examples)
  seeds = np.arange(runs, dtype=np.uint32)[:, None].repeat(len(STREAMS), 1)
  records.create(
    out,
    runs=range(runs),
    seeds=seeds,
    plan=[100, 200, 300],
    outcome={
      "test_accuracy": (("evaluation",), (3,), "<f4"),
      "predicted_label": (("example",), (examples,), "|u1"),
    },
    coords={"label": ("example", label)},
    chunk=chunk,
    attributes={
      "config": None, "metrics": ["test_accuracy"], "vary": list(STREAMS), "fingerprints": [{}],
    },
  )
  writer = records.Writer(out)
  for first in range(0, runs, chunk):
    rows = np.arange(first, min(first + chunk, runs))
    wrong = rng.random((len(rows), examples)) < hard * rng.normal(1, 0.05, (len(rows), 1))
    predicted = ((label + wrong * rng.integers(1, 4, wrong.shape)) % 10).astype(np.uint8)
    accuracy = 1 - (predicted != label).mean(1, dtype=np.float64).astype(np.float32)
    writer.write(
      rows,
      {
        "test_accuracy": np.stack([accuracy / 2, accuracy * 0.9, accuracy], 1),
        "predicted_label": predicted,
        "digest": np.array([f"{row:064x}" for row in rows], "S64"),
        "diverged": np.full(len(rows), -1),
        "seconds": np.full(len(rows), 1.0, np.float32),
        "fingerprint": np.zeros(len(rows), np.int32),
      },
    )


def seconds_and_memory(command: list[str]) -> tuple[float, float]:
  """Wall-clock seconds and peak resident memory (MiB) of a command; raises if it fails."""
  started = time.perf_counter()
  process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
  _, status, usage = os.wait4(process.pid, 0)
  if status:
    raise RuntimeError(f"{command} ended with {status}")
  return time.perf_counter() - started, usage.ru_maxrss / 1024
