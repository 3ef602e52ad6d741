"""The 1,797 handwritten digits, 8x8 grey, that come with scikit-learn."""

import gzip
import hashlib
import importlib.util
import pathlib

import numpy as np
from PIL import Image

from seedlab.data import convert
from seedlab.data.examples import Dataset, Examples

__all__ = ("digits",)

_PER_CLASS = 50  # to train with


def digits(*, image_size: int | None = None) -> Examples:
  """500 digits to train and 1,297 to test with, uint8[8, 8, 1].

  Args:
    image_size: pixels a side that they are resized to (`convert.pixels`); None: 8.
  """
  return Examples(lambda: _read(image_size), tuple(map(str, range(10))))


def _read(image_size: int | None) -> Dataset:
  # Importing scikit-learn takes more than a second; the file it bundles is all that is needed.
  package = pathlib.Path(importlib.util.find_spec("sklearn").origin).parent
  with gzip.open(package / "datasets/data/digits.csv.gz", "rt") as file:
    table = np.loadtxt(file, delimiter=",")
  # 0..16 times 15 keeps every value exact.
  image = (table[:, :64] * 15).astype(np.uint8).reshape(-1, 8, 8)
  label = table[:, 64].astype(np.int32)
  image = np.stack([convert.pixels(Image.fromarray(one), image_size) for one in image])
  train = _to_train(label)
  return convert.together(image[train], label[train], image[~train], label[~train])


def _to_train(label: np.ndarray) -> np.ndarray:
  """bool[N]: of each class, the 50 examples whose number has the smallest SHA-256.

  A hash, because the file is ordered by writer, and because no release of a
  library of random numbers can change it.
  """
  shuffled = sorted(range(len(label)), key=lambda i: hashlib.sha256(str(i).encode()).digest())
  train = np.zeros(len(label), bool)
  for digit in range(10):
    train[[i for i in shuffled if label[i] == digit][:_PER_CLASS]] = True
  return train
