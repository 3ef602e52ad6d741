"""Networks as `seedlab accelerator` compiles them, on images that are made up."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from seedlab import changes, training
from seedlab.commands import bench_tasks
from seedlab.data import Dataset
from seedlab.programs import Mode
from seedlab.studies.seeds import settings
from seedlab.trainer import Trainer


class Case(NamedTuple):
  """A network as it is compiled."""

  network: str  # picard, digits_mlp, digits, resnet9
  lowering: str  # of convolutions
  precision: str
  mode: Mode
  width: int

  def __str__(self) -> str:
    lanes = f"vmap of {self.width}" if self.mode == "vmap" else "loop"
    lowering = [self.lowering] * (self.network != "digits_mlp")
    return ", ".join([self.network, *lowering, self.precision, lanes])


# At tiny sizes on a CPU, where compilation takes longest: one of each kind.
SMALL = [
  Case("digits_mlp", "native", "float32", "vmap", 2),
  Case("digits", "patches", "bfloat16", "loop", 1),
]


def trainer(case: Case, small: bool) -> Trainer:
  """A network on images that are made up where its own would have to be there."""
  options = {"model.convolution": case.lowering, "model.precision": case.precision}
  if case.network == "picard":
    chosen = settings.config("smoke" if small else "paper", "picard", "short")
    examples, side = (500, 16) if small else (50_000, 32)
    return training.on_dataset(changes.changed(chosen, options), _images(examples, side), 10)
  if case.network == "resnet9":
    batch, channels = (4, 4) if small else (500, 64)
    examples = 10 * batch if small else 50_000
    return bench_tasks._resnet9(case.lowering, channels, batch, examples, 6_400, case.precision)
  if case.network == "digits_mlp":  # which has no convolution
    del options["model.convolution"]
  return training.make_trainer(changes.changed(bench_tasks._config(case.network, small), options))


def _images(examples: int, side: int) -> Dataset:
  """Made-up images in ten classes, a fifth as many to test on."""
  rng = np.random.default_rng(0)

  def images(count):
    return rng.integers(0, 256, (count, side, side, 3), np.uint8)

  def labels(count):
    return rng.integers(0, 10, count).astype(np.int32)

  test = examples // 5
  mean, std = np.full(3, 127, np.float32), np.full(3, 64, np.float32)
  return Dataset(images(examples), labels(examples), images(test), labels(test), mean, std)


def gib(costs: Mapping[str, float], width: int) -> float:
  """Memory of a program by the compiler's own count."""
  return (costs["bytes_lane"] * width + costs["bytes_shared"]) / 2**30
