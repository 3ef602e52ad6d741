"""Images with labels from tensorflow-datasets, decoded once or streamed. Without TensorFlow."""

import functools
import io
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image

from seedlab.data import cache, catalogue, convert, npz
from seedlab.data import stream as streaming
from seedlab.data.convert import Pieces
from seedlab.data.examples import Dataset, Examples
from seedlab.errors import UserError

__all__ = ("tfds",)

_CANVAS = 2  # sides of an image that a canvas has
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # Pillow's names by number of channels


def tfds(
  *,
  name: str,
  data_dir: str | None,
  download: bool,
  test_examples: int | None,
  train_split: str = "train",
  extra: str | None = None,
  image_size: int | None = None,
  stream: bool = False,
  resized_crop: bool = False,
  centre_crop: float | None = None,
  corrupt: Literal["refuse", "skip"] = "refuse",
) -> Examples:
  """Any image classification set of tensorflow-datasets, as "imagenet_resized/32x32:0.1.0".

  Where it has no labelled split "test", "validation" takes its place.

  Args:
    name: of the set, as tensorflow-datasets writes it.
    data_dir: a directory of tensorflow-datasets; None: that of the environment variable
      SEEDLAB_DATA, else ~/tensorflow_datasets.
    download: whether a set that is not there is downloaded to it; False refuses it.
    test_examples: of a streamed set, how many are read to test on; None: all.
    train_split: the splits to train with, as in "train+extra".
    extra: an npz file, or a folder of them, with keys X and Y (`npz`), in the set's order of
      classes and size of images, whose examples come after these; a path in the data directory,
      or an absolute one.
    image_size: pixels a side that images are stretched to (`convert.pixels`); None keeps theirs.
    stream: training images are read when a step needs them, instead of decoding the set once, by
      SEEDLAB_READER_THREADS threads (4), which no number depends on.
    resized_crop: streamed: from each training image a random part of 8 to 100 % of its area,
      resized (`crops`).
    centre_crop: streamed: the shorter side is resized to int(centre_crop * image_size), then the
      centre cut out; None stretches to a square.
    corrupt: streamed: an image that cannot be decoded is an error, or the next one takes its place.

  Raises:
    UserError: if the set is unknown, not to be had, unreadable or no image classification, or lacks
      such splits; when it is read, if its images differ in size and there is no `image_size`.
  """
  _check_options(extra, image_size, stream, resized_crop, centre_crop, corrupt)
  if stream:
    streaming.without_advice()
  builder = catalogue.find(name, data_dir, download)
  images = ImageSet(builder, name, image_size, train_split)
  names = tuple(class_names(builder))
  if not stream:
    return Examples(lambda: whole(images, names, extra, data_dir), names)
  view = functools.partial(whole_image, image_size, centre_crop)
  asked = (image_size or "native", centre_crop or "whole", corrupt)
  return Examples(
    lambda: _streamed_test(images, view, corrupt, asked, test_examples),
    names,
    read_pool=lambda: _pool(images, view, corrupt, resized_crop),
  )


class ImageSet(NamedTuple):
  """A set of tensorflow-datasets, and what is made of it."""

  builder: Any
  name: str  # data.name
  image_size: int | None
  train_split: str = "train"
  held_out: tuple[str, ...] = ("test", "validation")  # the first that has labels is the test set
  kinds: np.ndarray | None = None  # int32[classes]: the label of each class, -1 leaves it out
  most: Mapping[str, int] = {}  # examples of a split that are left, at most
  usual_size: int = 64  # that is recommended where images differ in size


def class_names(builder: Any) -> list[str]:
  """In the order of their labels."""
  return builder.info.features[builder.info.supervised_keys[1]].names


def whole(
  images: ImageSet, names: tuple[str, ...], extra: str | None, data_dir: str | None, kind: str = ""
) -> Dataset:
  """All of a set, decoded once.

  Args:
    images: the set.
    names: of the classes.
    extra: as in `tfds`, like `data_dir`.
    kind: tells what is made of the set from what others make of it, in the cache.
  """
  archives = _extra_archives(extra, data_dir)
  builder = images.builder
  label = f"{kind}{images.image_size or 'native'}"
  if images.train_split != "train":
    label = f"{label}-{images.train_split}"
  if archives:
    label = f"{label}-extra"

  def parts() -> tuple[Pieces, Pieces]:
    train, test = _parts(images)
    height, width, _ = builder.info.features[builder.info.supervised_keys[0]].shape
    expected = (height, width, test.shape[-1])
    field = f"data.extra={extra!r}"
    more = [npz.part(field, path, expected, len(names), images.image_size) for path in archives]
    return convert.joined([*train, *more]), test

  return convert.dataset(images.name, _places(builder, label, archives), parts)


def whole_image(
  image_size: int | None, ratio: float | None, image: Image.Image
) -> tuple[np.ndarray, tuple[int, int]]:
  """A view: the image as it is tested on."""
  if ratio:
    image, image_size = streaming.centre_crop(image_size, ratio, image), None
  pixels = convert.pixels(image, image_size)
  return pixels, pixels.shape[:2]


def source(builder: Any, split: str) -> Any:
  """The records of a split, their images still encoded."""
  from tensorflow_datasets import decode

  return builder.as_data_source(
    split=split, decoders={builder.info.supervised_keys[0]: decode.SkipDecoding()}
  )


def _check_options(extra, image_size, stream, resized_crop, centre_crop, corrupt) -> None:
  set_ = {
    "resized_crop": resized_crop or None,
    "centre_crop": centre_crop,
    "corrupt": None if corrupt == "refuse" else corrupt,
  }
  for field, value in set_.items():
    if value is not None and not stream:
      raise UserError(f"data.{field}={value!r} is for data.stream=True")
    if value is not None and field != "corrupt" and image_size is None:
      raise UserError(f"data.{field}={value!r} needs data.image_size, as in data.image_size=224")
  if centre_crop is not None and centre_crop < 1:
    raise UserError(f"data.centre_crop={centre_crop!r} must be at least 1")
  if stream and extra is not None:
    raise UserError(
      f"data.extra={extra!r} is read as a whole, and data.stream=True reads batch by batch; leave"
      " one of them out"
    )


def _places(builder: Any, label: str, others: list[pathlib.Path]) -> list[pathlib.Path]:
  """Where the arrays may be kept that are made of the builder's files, and of others."""
  folder = pathlib.Path(builder.data_path)
  files = sorted(path for path in folder.iterdir() if path.is_file())
  name = builder.info.full_name.replace("/", "-")
  return cache.folders(folder, f"{name}-{label}", [*files, *others])


def _extra_archives(extra: str | None, data_dir: str | None) -> list[pathlib.Path]:
  """The archives that `extra` names, in the order of their names."""
  if extra is None:
    return []
  path = catalogue.directory(data_dir) / pathlib.Path(extra).expanduser()
  archives = sorted(path.glob("*.npz")) if path.is_dir() else [path]
  if "," in extra or not archives or not all(archive.is_file() for archive in archives):
    raise UserError(
      f"data.extra={extra!r} names no npz file and no folder of them ({path}); give a path in"
      " the data directory, or an absolute one, without commas"
    )
  return archives


def _parts(images: ImageSet) -> tuple[list[Pieces], Pieces]:
  """Each split to train with, and the one to test with."""
  with catalogue.reading(images.builder, images.name):
    train, test = _splits(images)
    shape = _shape(images)
    found = {}
    for split in (*train, test):
      count = len(source(images.builder, split))
      most = min(count, images.most.get(split, count))
      found[split] = Pieces(most, shape, functools.partial(_decode, images, split))
  return [found[split] for split in train], found[test]


def _splits(images: ImageSet) -> tuple[list[str], str]:
  """Those to train with, and the one to test with."""
  builder, splits = images.builder, images.builder.info.splits
  train = images.train_split.split("+")
  has = f"data.name={images.name!r} has the splits {', '.join(splits)}"
  unknown = [split for split in train if split not in splits]
  if unknown and train != ["train"]:
    raise UserError(f"data.train_split={images.train_split!r}: there is no {unknown[0]!r}; {has}")
  if len(set(train)) < len(train):
    raise UserError(f"data.train_split={images.train_split!r} must name each split once")
  label_key = builder.info.supervised_keys[1]
  for split in images.held_out:
    # The test splits of contests carry -1 for a label.
    if not unknown and split in splits and source(builder, split)[0][label_key] >= 0:
      if split in train:
        raise UserError(
          f"data.train_split={images.train_split!r} holds {split!r}, which is the test set; {has}"
        )
      return train, split
  raise UserError(f"{has}; choose a set with 'train' and a labelled 'test' or 'validation'")


def _shape(images: ImageSet) -> tuple[int, int, int]:
  """Height, width and channels of an image, after it is resized."""
  info = images.builder.info
  height, width, channels = info.features[info.supervised_keys[0]].shape
  if images.image_size:
    height = width = images.image_size
  if not (height and width):
    raise UserError(
      f"data.image_size=None does not do for data.name={images.name!r}, whose images differ in"
      f" size; set it, as in data.image_size={images.usual_size}"
    )
  return height, width, channels or 3


def _decode(images: ImageSet, split: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Pieces uint8[n, H, W, C] and int32[n], in the order of the records."""
  builder, name = images.builder, images.name
  image_key, label_key = builder.info.supervised_keys
  shape = _shape(images)
  mode = _MODES[shape[-1]]
  with catalogue.reading(builder, name):
    records_of_split = source(builder, split)
  for start in range(0, len(records_of_split), convert.BULK):
    with catalogue.reading(builder, name):
      # Records are compressed in groups: one by one, each would unpack a whole group.
      end = min(start + convert.BULK, len(records_of_split))
      records = records_of_split.__getitems__(range(start, end))
      labels = np.array([record[label_key] for record in records], np.int32)
      if labels.min() < 0:
        raise UserError(f"data.name={name!r} has a split {split!r} without labels")
      if images.kinds is not None:
        labels = images.kinds[labels]
      kept = np.flatnonzero(labels >= 0)
      decoded = np.empty((len(kept), *shape), np.uint8)
      for pixels, place in zip(decoded, kept, strict=True):
        image = Image.open(io.BytesIO(records[place][image_key])).convert(mode)
        pixels[...] = convert.pixels(image, images.image_size)
    yield decoded, labels[kept]


# Streamed.


def _pool(
  images: ImageSet, view: streaming.View, corrupt: str, resized_crop: bool
) -> streaming.Pool:
  builder = images.builder
  with catalogue.reading(builder, images.name):
    splits, _ = _splits(images)
    shape = _shape(images)
    records = _records(images, splits, corrupt)
    files = [pathlib.Path(path) for name in splits for path in builder.info.splits[name].filepaths]
  side = _CANVAS * shape[0]
  on_canvas = functools.partial(streaming.on_canvas, side)
  return streaming.Pool(
    streaming.count(records),
    shape,
    functools.partial(streaming.read, records, view),
    functools.partial(streaming.read, records, on_canvas) if resized_crop else None,
    side if resized_crop else None,
    streaming.digest(records, view, files),
  )


def _streamed_test(
  images: ImageSet, view: streaming.View, corrupt: str, asked: tuple, test_examples: int | None
) -> Dataset:
  """As many test images as are asked for, beside a training set without any."""
  with catalogue.reading(images.builder, images.name):
    _, split = _splits(images)
    shape = _shape(images)
    records = _records(images, [split], corrupt)
  total = streaming.count(records)
  most = min(test_examples or total, total)

  def read() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start in range(0, most, convert.BULK):
      found = streaming.read(records, view, np.arange(start, min(start + convert.BULK, most)))
      yield found.image, found.label

  label = "-".join(map(str, ("stream", *asked, most)))
  none = Pieces(0, shape, lambda: iter(()))
  places = _places(images.builder, label, [])
  return convert.dataset(images.name, places, lambda: (none, Pieces(most, shape, read)))


def _records(images: ImageSet, splits: list[str], corrupt: str) -> streaming.Records:
  builder = images.builder
  return streaming.Records(
    images.name,
    pathlib.Path(builder.data_path),
    tuple((split, source(builder, split)) for split in splits),
    builder.info.supervised_keys,
    _MODES[_shape(images)[-1]],
    corrupt,
  )
