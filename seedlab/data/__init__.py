"""Data: sets and worlds by name (`build`), the order of examples, augmentation.

Each file of this folder but `augmentation` offers the functions in its `__all__` to configs: a new
data set is a new file. Each returns `Examples`; its parameters without default are facts of the run
(`name`, `data_dir`, `download`, `test_examples`), the others are options that a config may set.
"""

import ast
import functools
import importlib
import inspect
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from seedlab.config import Data
from seedlab.data.examples import (
  Dataset,
  Examples,
  World,
  as_examples,
  first_to_test,
  moments,
)
from seedlab.data.fields import Field
from seedlab.errors import UserError, closest

__all__ = [
  "Dataset",
  "Examples",
  "World",
  "as_examples",
  "at_hand",
  "build",
  "class_names",
  "fields_of",
  "find",
  "first_to_test",
  "load",
  "moments",
  "of",
  "offered",
  "streamed",
  "test_set",
]

_NO_SETS = ("__init__", "augmentation")


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
    name: of a function of ours (`offered`), or of a set of tensorflow-datasets.
    options: keyword arguments of that function.
    data_dir: a directory of tensorflow-datasets; None: that of the environment variable
      SEEDLAB_DATA, else ~/tensorflow_datasets.
    download: False takes what is at hand, and neither downloads a set nor draws from a world.
    test_examples: keeps the first so many of the test set; None: all, of a world 10,000.

  Raises:
    UserError: an unknown name or option, a value that does not do, or a set that is not to be had.
  """
  function = find(name)
  facts = {
    "name": name, "data_dir": data_dir, "download": download, "test_examples": test_examples,
  }  # fmt: skip
  parameters = inspect.signature(function).parameters
  known = [option for option in parameters if option not in facts]
  for option, value in options.items():
    if option not in known:
      raise UserError(
        f"data.{option}={value!r} is no option of data.name={name!r}{closest(option, known)}; it"
        f" has {', '.join(known) or 'none'}"
      )
  bound = {fact: value for fact, value in facts.items() if fact in parameters}
  return first_to_test(function(**bound, **options), name, test_examples)


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


def find(name: str) -> Callable[..., Examples]:
  """The function that knows the data called `name`; nothing else is imported for it."""
  functions = offered()
  stem = name.split("/")[0].split(":")[0]
  function = name if name in functions else stem if stem == "movielens" else "tfds"
  return getattr(importlib.import_module(f"seedlab.data.{functions[function]}"), function)


@functools.cache
def offered() -> dict[str, str]:
  """The functions that a config can name, and the module of each; read, not imported."""
  found = {}
  for path in sorted(pathlib.Path(__file__).parent.glob("*.py")):
    if path.stem not in _NO_SETS:
      for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
          found |= dict.fromkeys(ast.literal_eval(node.value), path.stem)
  return found


# Of today's section `data`, which is the union of all options.

_OPTIONS = (
  "train_split",
  "extra",
  "image_size",
  "stream",
  "resized_crop",
  "centre_crop",
  "corrupt",
  "test_by",
)


def of(data: Data, data_dir: str | None = None, download: bool = True) -> Examples:
  """What a config's section asks for; raises as `build` does."""
  usual = Data()
  options = {
    name: getattr(data, name) for name in _OPTIONS if getattr(data, name) != getattr(usual, name)
  }
  return build(
    data.name,
    options | dict(data.world_kwargs),
    data_dir=data_dir,
    download=download,
    test_examples=data.test_examples,
  )


def load(data: Data, data_dir: str | None = None, download: bool = True) -> Dataset:
  return of(data, data_dir, download).dataset


def test_set(data: Data, data_dir: str | None = None) -> tuple[np.ndarray, np.ndarray]:
  """Test images uint8[M, H, W, C] and labels int32[M] that are at hand, nothing downloaded."""
  dataset = load(data, data_dir, download=False)
  return dataset.test_image, dataset.test_label


def class_names(data: Data, data_dir: str | None = None, download: bool = True) -> tuple[str, ...]:
  return of(data, data_dir, download).class_names


def fields_of(data: Data, data_dir: str | None = None) -> tuple[Field, ...]:
  return of(data, data_dir, download=False).fields


def streamed(data: Data, data_dir: str | None = None, download: bool = True) -> Any:
  return of(data, data_dir, download).pool
