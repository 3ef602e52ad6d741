"""What a data set or a world is: arrays, names, and what it can be asked for.

Every function of this folder that a config can name returns `Examples`; a function of one's own may
return plain arrays (`as_examples`).
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from seedlab.data.fields import Field, Lists, columns
from seedlab.data.stream import Pool
from seedlab.errors import UserError

if TYPE_CHECKING:  # files are read without JAX
  import jax

_BULK = 1000  # images counted at a time
# Of rows, and where nothing is read.
NO_MOMENTS = (np.zeros(0, np.float32), np.zeros(0, np.float32))


class Dataset(NamedTuple):
  """The whole of a set, as NumPy arrays; read-only where they come from the cache.

  They are then mapped from files, and may be larger than memory. A recipe has any trees of arrays
  in the place of images and labels.
  """

  train_image: Any  # uint8[N, H, W, C]; rows are int32[N, F], as `fields` says
  train_label: Any  # int32[N], 0 <= label < number of classes
  test_image: Any  # uint8[M, H, W, C] or int32[M, F]
  test_label: Any  # int32[M]
  # float32[C], of all pixels of the training images, on the 0..255 scale; of rows float32[0]
  mean: np.ndarray
  std: np.ndarray  # likewise; that of the population, and 1 where it would be 0


class World(NamedTuple):
  """A distribution of labelled images, or of rows (`fields`).

  sample(key, index): from a typed threefry key (a run's `sample` stream) and
  sample numbers int32[n] or uint32[n], images uint8[n, H, W, C] or rows int32[n, F],
  and labels int32[n]. Sample i is a function of fold_in(key, i), and of i where
  there is a `period`. Drawing takes some 25 kB of memory an image of 32x32x3.
  """

  sample: Callable[["jax.Array", "jax.Array"], tuple["jax.Array", "jax.Array"]]
  image_shape: tuple[int, ...]  # (H, W, C), or (F,)
  class_names: tuple[str, ...]
  bayes_error: float | None  # the least error there is, where it is known in closed form
  fields: tuple[Field, ...] = ()  # of a row; empty for images
  # Rows to the true probabilities of label 1, float32[n], where they are known
  truth: Callable[["jax.Array"], "jax.Array"] | None = None
  # Samples after which the distribution comes round; None: it does not depend on their number
  period: int | None = None


@dataclasses.dataclass(frozen=True)
class Examples:
  """All about a data set or a world. Its arrays are read when they are first asked for."""

  # Of a world or a streamed set only what it is tested on
  read: Callable[[], Dataset]
  class_names: tuple[str, ...]  # in the order of their labels
  fields: tuple[Field, ...] = ()  # what the columns of rows mean; () for images
  world: World | None = None
  read_pool: Callable[[], Pool] | None = None  # of a streamed set
  lists: Callable[[], Lists] | None = None  # every user and every film, where there are any

  @functools.cached_property
  def dataset(self) -> Dataset:
    return self.read()

  @functools.cached_property
  def pool(self) -> Pool | None:
    """The training examples of a streamed set."""
    return self.read_pool() if self.read_pool else None


def first_to_test(examples: Examples, name: str, count: int | None) -> Examples:
  """The same with the first `count` of its test set; None keeps all.

  Raises:
    UserError: when the arrays are read, if there are fewer.
  """
  if count is None or examples.world:  # which draws as many as are asked for
    return examples

  def read() -> Dataset:
    dataset = examples.dataset
    total = len(dataset.test_label)
    if count > total:
      raise UserError(
        f"data.test_examples={count} is more than the {total} of {name}; lower it, or leave it"
        " empty to take them all"
      )
    image, label = dataset.test_image[:count], dataset.test_label[:count]
    return dataset._replace(test_image=image, test_label=label)

  return dataclasses.replace(examples, read=read)


def as_examples(value: Any, name: str) -> Examples:
  """What a function of the user's own returned.

  Args:
    value: Examples, or a pair ((x, y), (x, y)) to train and to test with, or a dict of
      "train" and "test" (and "class_names", "fields" if wished). x is images uint8[N, H, W, C] or
      uint8[N, H, W], or rows of integers [N, F]; y is labels 0, 1, ..., integers [N]. Without
      `fields` every column of a row is a kind of categories 0, 1, ...
    name: what the config calls it.

  Raises:
    UserError: anything else.
  """
  if isinstance(value, Examples):
    return value
  field, others = f"data.name={name!r}", {}
  if isinstance(value, Mapping):
    others = {key: value[key] for key in value if key not in ("train", "test")}
    if set(value) - set(others) != {"train", "test"} or set(others) - {"class_names", "fields"}:
      raise UserError(
        f"{field} returned a dict of {', '.join(map(repr, value))}; it must have 'train' and"
        " 'test', and may have 'class_names' and 'fields'"
      )
    value = value["train"], value["test"]
  if not (
    isinstance(value, tuple | list)
    and len(value) == 2
    and all(isinstance(part, tuple | list) and len(part) == 2 for part in value)
  ):
    raise UserError(
      f"{field} returned {type(value).__name__}; it must return ((images, labels), (images,"
      " labels)) to train and to test with, a dict of 'train' and 'test', or Examples"
    )
  arrays = [
    array
    for part, words in zip(value, ("to train with", "to test with"), strict=True)
    for array in _checked(field, words, *map(np.asarray, part))
  ]
  (train, label, test, test_label) = arrays
  if train.shape[1:] != test.shape[1:] or train.dtype != test.dtype:
    raise UserError(
      f"{field} has examples {_form(train)} to train with and {_form(test)} to test with; all but"
      " their number must agree"
    )
  classes = int(max(label.max(), test_label.max())) + 1
  names = tuple(map(str, others.get("class_names", range(classes))))
  if len(names) < classes:
    raise UserError(f"{field} has labels up to {classes - 1} and {len(names)} class_names")
  images = train.dtype == np.uint8
  fields = () if images else _fields(field, train, test, others.get("fields"))
  dataset = Dataset(train, label, test, test_label, *(moments(train) if images else NO_MOMENTS))
  return Examples(lambda: dataset, names, fields)


def _checked(field: str, words: str, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """uint8[N, H, W, C] or int32[N, F], and int32[N]."""
  if x.ndim == 3 and x.dtype == np.uint8:
    x = x[..., None]
  rows = x.ndim == 2 and x.dtype.kind in "iu"
  if not rows and not (x.ndim == 4 and x.dtype == np.uint8):
    raise UserError(
      f"{field} has examples {_form(x)} {words}; images are uint8[N, H, W, C] in 0..255, rows are"
      " integers [N, F]"
    )
  if y.ndim != 1 or y.dtype.kind not in "iu":
    raise UserError(f"{field} has labels {_form(y)} {words}; they must be integers [N]")
  if len(x) != len(y) or not len(x):
    raise UserError(
      f"{field} has {len(x)} examples and {len(y)} labels {words}; each needs one, and there must"
      " be some"
    )
  if y.min() < 0:
    raise UserError(f"{field} has the label {y.min()} {words}; classes are counted from 0")
  if rows and np.abs(x.astype(np.float64)).max() >= 2**31:
    raise UserError(f"{field} has rows {words} with an integer that 32 bits do not hold")
  return x.astype(np.int32) if rows else x, y.astype(np.int32)


def _form(array: np.ndarray) -> str:
  return f"{array.dtype.name}{list(array.shape)}"


def _fields(field: str, train: np.ndarray, test: np.ndarray, given: Any) -> tuple[Field, ...]:
  if given is not None:
    if columns(given) != train.shape[1]:
      raise UserError(
        f"{field} has fields of {columns(given)} columns, and its rows have {train.shape[1]}"
      )
    return tuple(given)
  if min(train.min(), test.min()) < 0:
    raise UserError(
      f"{field} has rows with integers below 0 and no 'fields'; count categories from 0, or say"
      " what the columns are with seedlab.data.fields.Field"
    )
  largest = np.maximum(train.max(0), test.max(0)).tolist()
  return tuple(Field(f"column_{i}", most + 1) for i, most in enumerate(largest))


def moments(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Mean and std of each channel, float32[C], exactly from how often each value occurs."""
  pieces = (images[start : start + _BULK] for start in range(0, len(images), _BULK))
  return moments_of(sum(map(counts, pieces)))


def counts(images: np.ndarray) -> np.ndarray:
  """int64[C, 256]: how often each value occurs in each channel."""
  channels = (images[..., channel].ravel() for channel in range(images.shape[-1]))
  return np.stack([np.bincount(pixels, minlength=256) for pixels in channels])


def moments_of(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Mean and std, float32[C], from int64[C, 256]."""
  mean, std = [], []
  for channel in counts:
    # Python's integers, which neither round nor overflow, divided once.
    n, total, squares = (
      sum(int(count) * value**power for value, count in enumerate(channel)) for power in (0, 1, 2)
    )
    mean.append(total / n)
    std.append(math.sqrt((n * squares - total**2) / n**2) or 1.0)
  return np.array(mean, np.float32), np.array(std, np.float32)
