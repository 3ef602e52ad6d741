"""Data: sets and worlds by name (`build`), the order of examples, augmentation.

Each file of this folder but `augmentation` offers the functions in its `__all__` to configs: a new
data set is a new file. Each returns `Examples`; its parameters without default are facts of the run
(`name`, `data_dir`, `download`, `test_examples`), the others are options that a config may set.
"""

from collections.abc import Mapping
from typing import Any

from seedlab import parts
from seedlab.config import Data
from seedlab.data.examples import (
  Dataset,
  Examples,
  World,
  as_examples,
  first_to_test,
  moments,
)
from seedlab.errors import UserError

__all__ = [
  "Dataset",
  "Examples",
  "World",
  "as_examples",
  "at_hand",
  "build",
  "first_to_test",
  "moments",
  "read",
]


def build(
  name: str,
  options: Mapping[str, Any] = {},
  *,
  data_dir: str | None = None,
  download: bool = True,
  test_examples: int | None = None,
) -> Examples:
  """The data set or world called `name`.

  Args:
    name: of a function of ours, of a set of tensorflow-datasets, or module:function.
    options: keyword arguments of that function.
    data_dir: a directory of tensorflow-datasets; None: that of the environment variable
      SEEDLAB_DATA, else ~/tensorflow_datasets.
    download: False takes what is at hand, and neither downloads a set nor draws from a world.
    test_examples: keeps the first so many of the test set; None: all, of a world 10,000.

  Raises:
    UserError: an unknown name or option, a value that does not do, or a set that is not to be had.
  """
  facts = {
    "name": name, "data_dir": data_dir, "download": download, "test_examples": test_examples,
  }  # fmt: skip
  found = parts.bind("data", name, parts.settled("data", name, options, "data"), facts)
  return first_to_test(as_examples(found, name), name, test_examples)


def read(section: Data, data_dir: str | None = None, download: bool = True) -> Examples:
  """What a config's section asks for. See `build`."""
  return build(
    section.name,
    dict(section.options),
    data_dir=data_dir,
    download=download,
    test_examples=section.test_examples,
  )


def at_hand(
  name: str,
  options: Mapping[str, Any] = {},
  *,
  data_dir: str | None = None,
  test_examples: int | None = None,
) -> Examples | None:
  """As `build`, without downloading or drawing anything; None if the set is not at hand.

  The test set of a world is the one that a training has kept in the user's cache, or empty.
  """
  try:
    return build(name, options, data_dir=data_dir, download=False, test_examples=test_examples)
  except UserError:
    return None
