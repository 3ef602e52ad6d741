"""`seedlab bench --suite=ahead`: what the studies' networks do on a device that is not there.

Each case is compiled for the device and its bytes, kernels and operations are counted. The table of
the last time stands in docs/performance.md; what moves more bytes than there is told.
"""

import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from seedlab import cli, config, devices, engine, host, training
from seedlab.changes import changed
from seedlab.config import Config
from seedlab.data import Dataset
from seedlab.errors import UserError
from seedlab.pool import TaskError, WorkerPool
from seedlab.trainer import Trainer

GREW = 1.02  # times the bytes of the last time
COLUMNS = (
  "network", "lowering", "precision", "lanes", "MB a lane and step", "kernels", "GFLOP a lane",
  "GiB", "us a lane and step", "limited by",
)  # fmt: skip
_KEY = COLUMNS[:4]
_BYTES = COLUMNS[4]
# {name: (config, pixels a side, channels, changes)}: as published, on made-up images.
_NETWORKS: dict[str, tuple[str, int, int, dict[str, Any]]] = {
  "digits_mlp": ("digits_mlp:laptop", 8, 1, {}),
  "digits": ("digits:laptop", 8, 1, {}),
  "picard": ("seeds/picard:paper", 32, 3, {}),
  "resnet9": ("cifar10_resnet9:paper", 32, 3, {}),
  "resnet14": ("seeds/summers:paper", 32, 3, {}),
  "preresnet18": (
    "bootstrap:paper", 32, 3, {"model": {"name": "preresnet18", "width": 64, "norm": "batch"}},
  ),
  "resnet18_full_batch": ("fullbatch:paper", 32, 3, {}),
}  # fmt: skip
_FLAT = ("digits_mlp",)  # without convolutions
_WIDTHS = {"digits_mlp": (32, 512), "digits": (32, 512)}
_SEVERAL = (8,)  # lanes of the larger ones


def cases(small: bool) -> list[tuple[str, str | None, str, str, int]]:
  """(network, lowering, precision, mode, width) of each row."""
  if small:
    return [("digits_mlp", None, "float32", "vmap", 4), ("digits", "direct", "tf32", "loop", 1)]
  found: list[tuple[str, str | None, str, str, int]] = []
  for network in _NETWORKS:
    for precision in ("float32", "tf32", "bfloat16"):
      alone, together = (None, None) if network in _FLAT else ("direct", "patches")
      found.append((network, alone, precision, "loop", 1))
      for width in _WIDTHS.get(network, _SEVERAL):
        found.append((network, together, precision, "vmap", width))
  return found


def suite(name: str, small: bool, say) -> list[dict[str, Any]]:
  """The rows of `COLUMNS` for one of `devices.DEVICES`; a case that fails has a note instead."""
  device = devices.named(name)
  devices.check_compiler(device)
  rows = []
  with WorkerPool([None], [host.ahead_environment(device.platform)]) as pool:
    for case in cases(small):
      say(" ".join(map(str, filter(None, case))))
      row = dict(zip(_KEY, (*case[:3], f"{case[3]} x {case[4]}"), strict=True))
      row = {key: value or "" for key, value in row.items()}
      try:
        row |= pool.submit(measure, name, *case).result()
      except (TaskError, UserError) as error:
        row["limited by"] = str(error).strip().splitlines()[-1][:80]
      rows.append(row)
  return rows


def measure(
  device: str, network: str, lowering: str | None, precision: str, mode: str, width: int
) -> dict[str, Any]:
  """One row, without its key; runs in a worker with `host.ahead_environment`."""
  host.use_compilation_cache()
  trainer = _trainer(network, lowering, precision)
  asked = devices.named(device)
  (one,), _ = engine.ahead({lowering: trainer}, asked, mode, width if mode == "vmap" else None, 1)
  operations = sum(one.operations.values()) / width
  figures = (
    one.bytes / width / 1e6, one.kernels, operations / 1e9, one.memory / 2**30,
    1e6 * one.seconds / width, one.limit,
  )  # fmt: skip
  return dict(zip(COLUMNS[4:], figures, strict=True))


def _trainer(network: str, lowering: str | None, precision: str) -> Trainer:
  name, side, channels, changes = _NETWORKS[network]
  values = {**config.to_dict(config.parse(cli.load(f"seedlab:{name}"))), **changes}
  options = {"model.precision": precision} | ({"model.convolution": lowering} if lowering else {})
  asked = changed(config.parse(values), options)
  return training.on_dataset(asked, _images(asked, side, channels), 10)


def _images(asked: Config, side: int, channels: int) -> Dataset:
  """As many black images as the data set has: only their shape counts."""
  train, test = (500, 1297) if asked.data.name == "digits" else (50_000, 10_000)
  mean, std = np.full(channels, 127, np.float32), np.full(channels, 70, np.float32)

  def images(count):
    return np.zeros((count, side, side, channels), np.uint8)

  def labels(count):
    return np.zeros(count, np.int32)

  return Dataset(images(train), labels(train), images(test), labels(test), mean, std)


def text(rows: Sequence[Mapping[str, Any]]) -> str:
  """The rows as a table of Markdown."""
  lines = [list(COLUMNS), ["---"] * len(COLUMNS)]
  lines += [[cell(row.get(name, "")) for name in COLUMNS] for row in rows]
  return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(value: Any) -> str:
  return f"{value:,.4g}" if isinstance(value, float) else str(value)


def replaced(document: str, device: str, table: str) -> str:
  """The document with the table of a device in place of its last one.

  Raises UserError where it has no place for it.
  """
  begins, ends = _marks(device)
  before, found, rest = document.partition(begins)
  _, closed, after = rest.partition(ends)
  if not found or not closed:
    raise UserError(f"the document has no place for the table of {device}: {begins} ... {ends}")
  return f"{before}{begins}\n{table}\n{ends}{after}"


def kept(document: str, device: str) -> dict[tuple[str, ...], float]:
  """{(network, lowering, precision, lanes): MB} of the table of a device in a document."""
  begins, ends = _marks(device)
  table = document.partition(begins)[2].partition(ends)[0]
  lines = [[word.strip() for word in line.split("|")[1:-1]] for line in table.splitlines()]
  found = {}
  for line in lines:
    if len(line) == len(COLUMNS) and re.fullmatch(r"[\d,.e+]+", line[4]):
      found[tuple(line[:4])] = float(line[4].replace(",", ""))
  return found


def grown(rows: Sequence[Mapping[str, Any]], before: Mapping[tuple[str, ...], float]) -> list[str]:
  """A line for each row that moves other bytes than last time; those that grew come first."""
  changes = []
  for row in rows:
    last, now = before.get(tuple(row[name] for name in _KEY)), row.get(_BYTES)
    if last and now and not 1 / GREW <= now / last <= GREW:
      words = " ".join(filter(None, (row[name] for name in _KEY)))
      changes.append((now / last, f"{words}: {cell(last)} MB -> {cell(now)} MB"))
  return [f"{line} ({100 * (ratio - 1):+.0f} %)" for ratio, line in sorted(changes, reverse=True)]


def compared(
  path: str | None, device: str, rows: Sequence[Mapping[str, Any]], update: bool
) -> tuple[list[str], bool]:
  """(lines to say, whether bytes grew) beside the table in a file, which `update` replaces."""
  if path is None:
    return [], False
  file = pathlib.Path(path)
  if not file.is_file():
    raise UserError(f"table={path!r} is no file; name the Markdown file that holds the last table")
  document = file.read_text()
  lines = grown(rows, kept(document, device))
  if update:
    file.write_text(replaced(document, device, text(rows)))
  return lines or ["no row moves other bytes than last time"], any("(+" in one for one in lines)


def _marks(device: str) -> tuple[str, str]:
  return f"<!-- ahead: {device} -->", f"<!-- end of ahead: {device} -->"
