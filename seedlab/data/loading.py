"""Pictures and labels as host arrays, decoded once. The only door to data files.

Nothing here uses TensorFlow, or starts JAX.
"""

import gzip
import hashlib
import importlib.util
import io
import math
import pathlib
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from seedlab.config import Data, UserError
from seedlab.data import cache, catalogue, worlds

_DIGITS_PER_CLASS = 50
_BULK = 1000  # records handled at a time
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # Pillow's names by number of channels


class Dataset(NamedTuple):
  """The whole of a set, as NumPy arrays; read-only where they come from the cache."""

  train_image: np.ndarray  # uint8[N, H, W, C]
  train_label: np.ndarray  # int32[N], 0 <= label < number of classes
  test_image: np.ndarray  # uint8[M, H, W, C]
  test_label: np.ndarray  # int32[M]
  mean: np.ndarray  # float32[C], of all pixels of the training pictures, on the 0..255 scale
  std: np.ndarray  # float32[C], likewise; that of the population, and 1 where it would be 0


def load(data: Data, data_dir: str | None = None, download: bool = True) -> Dataset:
  """The pictures of `data.name`, resized to `data.image_size` if that is set.

  Whatever else `data` asks for (subset, order, augmentation) is applied later.
  A picture is stretched to a square: averaged over boxes (Pillow's BOX) where
  both sides are multiples of the new one, else by Pillow's BILINEAR filter, which
  averages when it shrinks. Mean and standard deviation are taken over all
  training pictures after that, from exact integer counts, so that they depend on
  no order of summation.

  Args:
    data: `name` is "digits" (the 1,797 handwritten digits that come with
      scikit-learn, 8x8 grey: 500 to train, 1,297 to test) or a set of
      tensorflow-datasets, as in "cifar10" or "imagenet_resized/32x32:0.1.0".
      Where that has no labelled split 'test', 'validation' takes its place.
    data_dir: a directory of tensorflow-datasets; None means that of the
      environment variable SEEDLAB_DATA, else ~/tensorflow_datasets. A set that is
      not there is downloaded to it. Not read for "digits".
    download: False refuses a set that is not there.

  Raises:
    UserError: if the set is unknown, not to be had, unreadable, no image
      classification, or if its pictures differ in size and no `image_size` is set.
  """
  if data.name == "digits":
    return _digits(data.image_size)
  if data.name in worlds.NAMES:
    raise UserError(f"data.name={data.name!r} is a world: its pictures are made, not read")
  builder = catalogue.find(data.name, data_dir, download)
  name = f"{builder.info.full_name.replace('/', '-')}-{data.image_size or 'native'}"
  places = cache.folders(pathlib.Path(builder.data_path), name)
  return _cached(places) or _decode_and_cache(builder, data, places)


def class_names(data: Data, data_dir: str | None = None, download: bool = True) -> tuple[str, ...]:
  """The names of the classes, in the order of their labels. Raises as `load` does."""
  if data.name == "digits":
    return tuple(map(str, range(10)))
  if data.name in worlds.NAMES:
    return worlds.by_name(data.name, data.image_size, dict(data.world_kwargs)).class_names
  info = catalogue.find(data.name, data_dir, download).info
  return tuple(info.features[info.supervised_keys[1]].names)


def _digits(image_size: int | None) -> Dataset:
  # Importing scikit-learn takes more than a second; the file it bundles is all that is needed.
  package = pathlib.Path(importlib.util.find_spec("sklearn").origin).parent
  with gzip.open(package / "datasets/data/digits.csv.gz", "rt") as file:
    table = np.loadtxt(file, delimiter=",")
  # 0..16 times 15 keeps every value exact.
  image = (table[:, :64] * 15).astype(np.uint8).reshape(-1, 8, 8, 1)
  label = table[:, 64].astype(np.int32)
  image = np.stack([_pixels(Image.fromarray(picture[..., 0]), image_size) for picture in image])
  train = _digits_to_train(label)
  return _dataset(image[train], label[train], image[~train], label[~train])


def _digits_to_train(label: np.ndarray) -> np.ndarray:
  """bool[N]: of each class, the 50 examples whose number has the smallest SHA-256.

  A hash, because the file is ordered by writer, and because no release of a
  library of random numbers can change it.
  """
  shuffled = sorted(range(len(label)), key=lambda i: hashlib.sha256(str(i).encode()).digest())
  train = np.zeros(len(label), bool)
  for digit in range(10):
    train[[i for i in shuffled if label[i] == digit][:_DIGITS_PER_CLASS]] = True
  return train


def _cached(places: list[pathlib.Path]) -> Dataset | None:
  found = (cache.read(place, Dataset._fields) for place in places)
  return next((Dataset(*arrays) for arrays in found if arrays), None)


def _decode_and_cache(builder: Any, data: Data, places: list[pathlib.Path]) -> Dataset:
  try:
    with catalogue.quiet():
      train, test = (
        _decode(builder, split, data) for split in ("train", _test_split(builder, data))
      )
  except UserError:
    raise
  except Exception as error:  # the readers of record files raise what they like
    raise UserError(
      f"data.name={data.name!r} cannot be read from {builder.data_path}"
      f" ({catalogue.one_line(error)}); if it is damaged, move that folder away and fetch it again"
    ) from error
  dataset = _dataset(*train, *test)
  cache.write(places, dataset._asdict())
  return _cached(places) or dataset


def _test_split(builder: Any, data: Data) -> str:
  label_key, splits = builder.info.supervised_keys[1], builder.info.splits
  for split in ("test", "validation"):
    # The test splits of contests carry -1 for a label.
    if "train" in splits and split in splits and _source(builder, split)[0][label_key] >= 0:
      return split
  raise UserError(
    f"data.name={data.name!r} has the splits {', '.join(splits)}; choose a set with 'train' and a"
    " labelled 'test' or 'validation'"
  )


def _source(builder: Any, split: str) -> Any:
  """The records of a split, their pictures still encoded."""
  from tensorflow_datasets import decode

  return builder.as_data_source(
    split=split, decoders={builder.info.supervised_keys[0]: decode.SkipDecoding()}
  )


def _decode(builder: Any, split: str, data: Data) -> tuple[np.ndarray, np.ndarray]:
  """uint8[N, H, W, C] and int32[N], in the order of the records."""
  image_key, label_key = builder.info.supervised_keys
  height, width, channels = builder.info.features[image_key].shape
  if data.image_size:
    height = width = data.image_size
  if not (height and width):
    raise UserError(
      f"data.image_size=None does not do for data.name={data.name!r}, whose pictures differ in"
      " size; set it, as in data.image_size=64"
    )
  mode = _MODES[channels or 3]
  source = _source(builder, split)
  images = np.empty((len(source), height, width, len(mode)), np.uint8)
  labels = np.empty(len(source), np.int32)
  for start in range(0, len(source), _BULK):
    # Records are compressed in groups: one by one, each would unpack a whole group.
    records = source.__getitems__(range(start, min(start + _BULK, len(source))))
    for place, record in enumerate(records, start):
      picture = Image.open(io.BytesIO(record[image_key])).convert(mode)
      images[place] = _pixels(picture, data.image_size)
      labels[place] = record[label_key]
  return images, labels


def _pixels(picture: Image.Image, size: int | None) -> np.ndarray:
  """uint8[H, W, C], stretched to size x size pixels if that is given."""
  if size:
    whole = picture.width % size == 0 and picture.height % size == 0
    picture = picture.resize(
      (size, size), Image.Resampling.BOX if whole else Image.Resampling.BILINEAR
    )
  return np.asarray(picture).reshape(picture.height, picture.width, -1)


def _dataset(
  train_image: np.ndarray, train_label: np.ndarray, test_image: np.ndarray, test_label: np.ndarray
) -> Dataset:
  return Dataset(train_image, train_label, test_image, test_label, *moments(train_image))


def moments(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Mean and std of each channel, float32[C], exactly from how often each value occurs."""
  mean, std = [], []
  for channel in range(images.shape[-1]):
    counts = np.zeros(256, np.int64)
    for start in range(0, len(images), _BULK):
      pixels = images[start : start + _BULK, ..., channel]
      counts += np.bincount(pixels.ravel(), minlength=256)
    # Python's integers, which neither round nor overflow, divided once.
    n, total, squares = (
      sum(int(count) * value**power for value, count in enumerate(counts)) for power in (0, 1, 2)
    )
    mean.append(total / n)
    std.append(math.sqrt((n * squares - total**2) / n**2) or 1.0)
  return np.array(mean, np.float32), np.array(std, np.float32)
