"""Pictures or rows, and labels, as host arrays, decoded once. The only door to data files.

Nothing here uses TensorFlow, or starts JAX.
"""

import functools
import gzip
import hashlib
import importlib.util
import io
import json
import math
import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from seedlab.config import WORLDS, Data
from seedlab.data import cache, catalogue, cifar5m, criteo, dogbird, movielens, npz, stream
from seedlab.data.fields import Field
from seedlab.errors import UserError

_DIGITS_PER_CLASS = 50
_TEST_ARRAYS = ("test_image", "test_label")
_BULK = 1000  # records handled at a time
_LINES = 5000  # likewise, of a text
_CANVAS = 2  # sides of a picture that a canvas of `stream` has
_LARGE = 2**30  # bytes of pictures; more are never held in memory
_NO_MOMENTS = (
  np.zeros(0, np.float32),
  np.zeros(0, np.float32),
)  # of rows, and where nothing is read
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # Pillow's names by number of channels


class Dataset(NamedTuple):
  """The whole of a set, as NumPy arrays; read-only where they come from the cache.

  They are then mapped from files, and may be larger than memory.
  """

  train_image: np.ndarray  # uint8[N, H, W, C]; rows are int32[N, F], as `fields` says
  train_label: np.ndarray  # int32[N], 0 <= label < number of classes
  test_image: np.ndarray  # uint8[M, H, W, C] or int32[M, F]
  test_label: np.ndarray  # int32[M]
  # float32[C], of all pixels of the training pictures, on the 0..255 scale; of rows float32[0]
  mean: np.ndarray
  std: np.ndarray  # likewise; that of the population, and 1 where it would be 0


class _Pool(NamedTuple):
  """Examples that can be read in pieces, in order, as often as asked."""

  most: int  # no more examples than that
  shape: tuple[int, ...]  # height, width and channels of a picture; columns of a row
  pieces: Callable[[], Iterator[tuple[np.ndarray, np.ndarray]]]  # dtype[n, *shape], int32[n]
  dtype: type = np.uint8  # int32 of rows


def load(data: Data, data_dir: str | None = None, download: bool = True) -> Dataset:
  """The examples of `data.name`; pictures are resized to `data.image_size` if that is set.

  Whatever else `data` asks for (subset, order, augmentation) is applied later.
  A picture is stretched to a square: averaged over boxes (Pillow's BOX) where
  both sides are multiples of the new one, else by Pillow's BILINEAR filter, which
  averages when it shrinks. Mean and standard deviation are taken over all
  training pictures after that, from exact integer counts, so that they depend on
  no order of summation.

  A set of more than 1 GiB is converted once, in pieces, to files that are mapped
  into memory (`cache`); lines on stderr say how far that is.

  Args:
    data: `name` is one of
      "digits": the 1,797 handwritten digits that come with scikit-learn, 8x8
        grey, 500 to train and 1,297 to test;
      "cifar5m": the archives part0.npz, ..., part5.npz in the folder cifar5m of
        the data directory; the first five to train, in that order, and the first
        10,000 pictures of the last to test (Nakkiran et al. 2021);
      "imagenet_dogbird": hunting dogs (0) and birds (1) of imagenet2012 of
        tensorflow-datasets (Nakkiran et al. 2021), from its splits 'train' and
        'validation'; needs `image_size`, 224 as published;
      a set of tensorflow-datasets, as in "cifar10" or
        "imagenet_resized/32x32:0.1.0". Where that has no labelled split 'test',
        'validation' takes its place;
      "movielens/100k-ratings": rows (`fields`), 20,000 of them to test, which
        `test_by` chooses (`movielens.split`);
      "criteo": rows of train.txt or train.txt.gz in the folder criteo of the data
        directory (`criteo`).
      For dogbird and other pictures of tensorflow-datasets, `train_split` names the
      splits to train with, as in "train+extra", and `extra` archives with keys X and
      Y (`npz`), in the set's order of classes and size of pictures, whose examples
      come after these.
      `test_examples` keeps the first so many of the test set. Where `stream` is set there are no
      training pictures in what is returned (`streamed` reads them), and no moments.
    data_dir: a directory of tensorflow-datasets; None means that of the
      environment variable SEEDLAB_DATA, else ~/tensorflow_datasets. A set that is
      not there is downloaded to it. Not read for "digits".
    download: False refuses a set that is not there.

  Raises:
    UserError: if the set is unknown, not to be had, unreadable, neither image
      classification nor clicks, if its pictures differ in size and no `image_size` is set,
      if it has no such splits or examples, or if no disk takes a large one.
  """
  if data.name in WORLDS:
    raise UserError(f"data.name={data.name!r} is a world: its examples are made, not read")
  dataset = _whole(data, data_dir, download)
  count = data.test_examples
  if count is None:
    return dataset
  if count > len(dataset.test_label):
    raise UserError(
      f"data.test_examples={count} is more than the {len(dataset.test_label)} of {data.name}; lower"
      " it, or leave it empty to take them all"
    )
  return dataset._replace(
    test_image=dataset.test_image[:count], test_label=dataset.test_label[:count]
  )


def test_set(data: Data, data_dir: str | None = None) -> tuple[np.ndarray, np.ndarray]:
  """Test pictures uint8[M, H, W, C] and labels int32[M] that are at hand, nothing downloaded.

  Of a world those that a training drew and kept in the user's cache directory.

  Raises as `load` does.
  """
  if data.name not in WORLDS:
    dataset = load(data, data_dir, download=False)
    return dataset.test_image, dataset.test_label
  for place in _world_places(data):
    arrays = cache.read(place, _TEST_ARRAYS)
    if arrays:
      return arrays[0], arrays[1]
  raise UserError(f"data.name={data.name!r} is a world whose test set was not drawn here yet")


def keep_test_set(data: Data, image: np.ndarray, label: np.ndarray) -> None:
  """Keeps what a world is tested on, for pages to show; trainings draw it anew."""
  places = _world_places(data)
  if not any(cache.read(place, _TEST_ARRAYS) for place in places):
    cache.write(places, dict(zip(_TEST_ARRAYS, (image, label), strict=True)))


def _world_places(data: Data) -> list[pathlib.Path]:
  drawn = [data.image_size, data.world_kwargs, data.test_examples]
  digest = hashlib.sha256(json.dumps(drawn).encode()).hexdigest()[:16]
  return [cache.home() / f"{data.name}-{digest}"]


def class_names(data: Data, data_dir: str | None = None, download: bool = True) -> tuple[str, ...]:
  """The names of the classes, in the order of their labels. Raises as `load` does."""
  if data.name == "digits":
    return tuple(map(str, range(10)))
  if data.name in WORLDS:
    from seedlab.data import worlds  # here, since it imports JAX, which reading files does without

    return worlds.by_name(data.name, data.image_size, dict(data.world_kwargs)).class_names
  if data.name == "cifar5m":
    return cifar5m.CLASS_NAMES
  if data.name == "imagenet_dogbird":
    return dogbird.CLASS_NAMES
  if movielens.is_movielens(data.name):
    return movielens.CLASS_NAMES
  if data.name == "criteo":
    return criteo.CLASS_NAMES
  return tuple(_source_names(catalogue.find(data.name, data_dir, download)))


def fields_of(data: Data) -> tuple[Field, ...]:
  """What the columns of a row mean; () for pictures. Reads no file.

  Raises:
    UserError: an unknown parameter of a world, or another set of MovieLens.
  """
  if data.name in WORLDS:
    from seedlab.data import worlds  # as above

    return worlds.by_name(data.name, data.image_size, dict(data.world_kwargs)).fields
  if data.name == "criteo":
    return criteo.FIELDS
  return movielens.FIELDS if movielens.is_movielens(data.name) else ()


def lists(data: Data, data_dir: str | None = None, download: bool = True) -> movielens.Lists:
  """Every user and every film of a MovieLens set. Raises as `load` does, and for other sets."""
  if not movielens.is_movielens(data.name):
    raise UserError(
      f"data.name={data.name!r} has no films to make lists of; take {movielens.NAME!r}, or set"
      " evaluation.lists=0"
    )
  dataset = _whole(data, data_dir, download)
  return movielens.users_and_films(dataset.train_image, dataset.test_image)


def streamed(data: Data, data_dir: str | None = None, download: bool = True) -> stream.Pool:
  """The training pool of a set with `data.stream`. Raises as `load` does."""
  builder = _stream_builder(data, data_dir, download)
  with catalogue.reading(builder, data.name):
    splits, _ = _splits(builder, data)
    shape = _shape(builder, data)
    records = _records(builder, data, splits)
    files = [pathlib.Path(path) for name in splits for path in builder.info.splits[name].filepaths]
  canvas = _CANVAS * shape[0]
  whole = functools.partial(_whole_picture, data)
  return stream.Pool(
    stream.count(records),
    shape,
    functools.partial(stream.read, records, whole),
    functools.partial(stream.read, records, functools.partial(stream.on_canvas, canvas)),
    canvas,
    stream.digest(records, whole, files),
  )


def _whole(data: Data, data_dir: str | None, download: bool) -> Dataset:
  if data.stream:
    return _streamed_test(data, data_dir, download)
  rating = movielens.is_movielens(data.name)
  rows = rating or data.name == "criteo"
  if rows or data.name in ("digits", "cifar5m"):
    _check_unread(
      data,
      "sets of tensorflow-datasets that are pictures",
      {"extra": None, "train_split": "train"},
      ", which has the splits train, test",
    )
  if rows:
    _check_unread(data, "pictures", {"image_size": None}, ", whose examples are rows")
  if rating:
    return _movielens(data, data_dir, download)
  _check_unread(data, movielens.NAME, {"test_by": "random"})
  if data.name == "criteo":
    path = criteo.find(catalogue.directory(data_dir))
    places = cache.folders(path.parent, "criteo", [path])
    return _cached(places) or _build(data, places, *_criteo_pools(path))
  if data.name == "digits":
    return _digits(data.image_size)
  name = f"{data.image_size or 'native'}"
  if data.name == "cifar5m":
    parts = cifar5m.parts(catalogue.directory(data_dir))
    places = cache.folders(parts[0].parent, f"cifar5m-{name}", parts)
    return _cached(places) or _build(data, places, *_cifar5m_pools(data, parts))
  builder = _builder(data, data_dir, download)
  extra = _extra_archives(data, data_dir)
  if data.name == "imagenet_dogbird":
    name = f"dogbird-{name}"
  if data.train_split != "train":
    name = f"{name}-{data.train_split}"
  if extra:
    name = f"{name}-extra"
  source = pathlib.Path(builder.data_path)
  files = sorted(path for path in source.iterdir() if path.is_file())
  places = cache.folders(
    source, f"{builder.info.full_name.replace('/', '-')}-{name}", [*files, *extra]
  )
  return _cached(places) or _build(data, places, *_builder_pools(builder, data, extra))


def _stream_builder(data: Data, data_dir: str | None, download: bool) -> Any:
  if data.name in ("digits", "cifar5m", "imagenet_dogbird", "criteo") or movielens.is_movielens(
    data.name
  ):
    raise UserError(
      f"data.stream=True is for pictures of tensorflow-datasets, not for data.name={data.name!r};"
      " switch it off"
    )
  stream.without_advice()
  return catalogue.find(data.name, data_dir, download)


def _streamed_test(data: Data, data_dir: str | None, download: bool) -> Dataset:
  """As many test pictures as are asked for, beside a training pool without any."""
  builder = _stream_builder(data, data_dir, download)
  with catalogue.reading(builder, data.name):
    _, split = _splits(builder, data)
    shape = _shape(builder, data)
    records = _records(builder, data, [split])
  total = stream.count(records)
  most = min(data.test_examples or total, total)

  def pieces() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start in range(0, most, _BULK):
      found = stream.read(
        records,
        functools.partial(_whole_picture, data),
        np.arange(start, min(start + _BULK, most)),
      )
      yield found.image, found.label

  asked = (data.image_size or "native", data.centre_crop or "whole", data.corrupt, most)
  name = "-".join(map(str, ("stream", *asked)))
  source = pathlib.Path(builder.data_path)
  files = sorted(path for path in source.iterdir() if path.is_file())
  places = cache.folders(source, f"{builder.info.full_name.replace('/', '-')}-{name}", files)
  none = _Pool(0, shape, lambda: iter(()))
  return _cached(places) or _build(data, places, none, _Pool(most, shape, pieces))


def _records(builder: Any, data: Data, splits: list[str]) -> stream.Records:
  return stream.Records(
    data.name,
    pathlib.Path(builder.data_path),
    tuple((split, _source(builder, split)) for split in splits),
    builder.info.supervised_keys,
    _MODES[_shape(builder, data)[-1]],
    data.corrupt,
  )


def _whole_picture(data: Data, picture: Image.Image) -> tuple[np.ndarray, tuple[int, int]]:
  """A view: the picture as it is tested on."""
  size = data.image_size
  if data.centre_crop:
    picture, size = stream.centre_crop(size, data.centre_crop, picture), None
  pixels = _pixels(picture, size)
  return pixels, pixels.shape[:2]


def _check_unread(data: Data, for_what: str, usual: dict, why: str = "") -> None:
  for field, value in usual.items():
    if getattr(data, field) != value:
      raise UserError(
        f"data.{field}={getattr(data, field)!r} is for {for_what}, not for data.name={data.name!r}"
        f"{why}; leave it at {value!r}"
      )


def _movielens(data: Data, data_dir: str | None, download: bool) -> Dataset:
  builder = catalogue.find(data.name, data_dir, download, pictures=False)
  source = pathlib.Path(builder.data_path)
  places = cache.folders(
    source, builder.info.full_name.replace("/", "-"), sorted(source.glob("*.*"))
  )
  kept = next(filter(None, (cache.read(place, movielens.Table._fields) for place in places)), None)
  if kept:
    table = movielens.Table(*kept)
  else:
    with catalogue.reading(builder, data.name):
      table = movielens.table(movielens.read(builder.as_data_source(split="train"), _BULK))
    cache.write(places, table._asdict())
  return Dataset(*movielens.split(table, data.test_by), *_NO_MOMENTS)


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
  sets = (Dataset(*arrays) for arrays in found if arrays)
  return next((one for one in sets if _whole_arrays(one)), None)


def _whole_arrays(dataset: Dataset) -> bool:
  """Whether every picture has a label: a cache that somebody changed has not."""
  return len(dataset.train_image) == len(dataset.train_label) and len(dataset.test_image) == len(
    dataset.test_label
  )


def _build(data: Data, places: list[pathlib.Path], train: _Pool, test: _Pool) -> Dataset:
  """Reads both pools and keeps them in the cache; a large set must find room there."""
  size = sum(
    pool.most * (math.prod(pool.shape) * np.dtype(pool.dtype).itemsize + 4)
    for pool in (train, test)
  )
  if size <= _LARGE:
    dataset = _dataset(*_in_memory(train), *_in_memory(test))
    cache.write(places, dataset._asdict())
    return _cached(places) or dataset
  problems = []
  for folder in places:
    try:
      with cache.room(folder, size):
        # Another process may have been at it.
        return _cached([folder]) or _convert(data, folder, train, test, size)
    except OSError as error:  # those of reading have become UserErrors
      problems.append(f"{folder}: {error.strerror or catalogue.one_line(error)}")
  raise UserError(
    f"data.name={data.name!r} takes {size:,} bytes on disk when decoded, for which there is no room"
    f" ({'; '.join(problems)}); free a disk or name another with --data_dir, SEEDLAB_DATA or"
    " XDG_CACHE_HOME"
  )


def _in_memory(pool: _Pool) -> tuple[np.ndarray, np.ndarray]:
  images = np.empty((pool.most, *pool.shape), pool.dtype)
  labels = np.empty(pool.most, np.int32)
  end = 0
  for image, label in pool.pieces():
    start, end = end, end + len(label)
    images[start:end], labels[start:end] = image, label
  return images[:end], labels[:end]


def _convert(data: Data, folder: pathlib.Path, train: _Pool, test: _Pool, size: int) -> Dataset:
  _say(f"converting {data.name} once, {size / 1e9:,.1f} GB, to {folder}")
  pictures = train.dtype == np.uint8 and train.most > 0
  counts = np.zeros((train.shape[-1], 256), np.int64)
  done, total = 0, train.most + test.most
  for split, pool in (("train", train), ("test", test)):
    image_path, label_path = (folder / f"{split}_{part}.npy" for part in ("image", "label"))
    with (
      cache.growing(image_path, pool.shape, pool.dtype) as append_images,
      cache.growing(label_path, (), np.int32) as append_labels,
    ):
      for images, labels in pool.pieces():
        append_images(images)
        append_labels(labels)
        if pictures and pool is train:
          counts += _counts(images)
        before, done = done, done + len(labels)
        if 10 * before // total < 10 * done // total:
          kind = "pictures" if train.dtype == np.uint8 else "rows"
          _say(f"{data.name}: {done:,} of {total:,} {kind} converted")
  # The last to be written: without them nothing is read.
  found = _moments_of(counts) if pictures else _NO_MOMENTS
  for name, array in zip(("mean", "std"), found, strict=True):
    cache.save(folder / f"{name}.npy", array)
  return _cached([folder])


def _say(message: str) -> None:
  print(f"seedlab: {message}", file=sys.stderr, flush=True)


def _joined(pools: list[_Pool]) -> _Pool:
  """One after the other."""

  def pieces() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for pool in pools:
      yield from pool.pieces()

  return _Pool(sum(pool.most for pool in pools), pools[0].shape, pieces)


def _cifar5m_pools(data: Data, parts: list[pathlib.Path]) -> tuple[_Pool, _Pool]:
  *train, test = (
    _archive_pool("data.name='cifar5m'", part, cifar5m.SHAPE, 10, data.image_size, first)
    for part, first in zip(parts, [None] * 5 + [cifar5m.TEST_EXAMPLES], strict=True)
  )
  return _joined(train), test


def _criteo_pools(path: pathlib.Path) -> tuple[_Pool, _Pool]:
  def pool(part):
    pieces = functools.partial(criteo.pieces, path, part, _LINES)
    return _Pool(len(part), (criteo.COLUMNS,), pieces, np.int32)

  train, test = criteo.parts(criteo.count(path))
  return pool(train), pool(test)


def _archive_pool(
  field: str,
  path: pathlib.Path,
  expected: tuple[int | None, int | None, int],
  classes: int,
  size: int | None,
  first: int | None = None,
) -> _Pool:
  """Of an npz archive, whose pictures must have the shape `expected` before they are resized."""
  count, *found = npz.shape(field, path)
  if any(want not in (None, has) for want, has in zip(expected, found, strict=True)):
    wanted = "x".join("any" if side is None else str(side) for side in expected)
    raise UserError(
      f"{field}: the pictures in {path} are {'x'.join(map(str, found))}; they must be {wanted}"
    )

  def pieces() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for images, labels in npz.pieces(field, path, _BULK, classes, first):
      if size:
        pictures = images[..., 0] if images.shape[-1] == 1 else images
        images = np.stack([_pixels(Image.fromarray(picture), size) for picture in pictures])
      yield images, labels

  height, width, channels = found
  most = count if first is None else min(count, first)
  return _Pool(most, (size or height, size or width, channels), pieces)


def _extra_archives(data: Data, data_dir: str | None) -> list[pathlib.Path]:
  """The archives that `data.extra` names, in the order of their names."""
  if data.extra is None:
    return []
  path = catalogue.directory(data_dir) / pathlib.Path(data.extra).expanduser()
  archives = sorted(path.glob("*.npz")) if path.is_dir() else [path]
  if "," in data.extra or not archives or not all(archive.is_file() for archive in archives):
    raise UserError(
      f"data.extra={data.extra!r} names no npz file and no folder of them ({path}); give a path in"
      " the data directory, or an absolute one, without commas"
    )
  return archives


def _builder(data: Data, data_dir: str | None, download: bool) -> Any:
  if data.name != "imagenet_dogbird":
    return catalogue.find(data.name, data_dir, download)
  try:
    return catalogue.find(dogbird.SOURCE, data_dir, download)
  except UserError as error:
    raise UserError(f"data.name={data.name!r} is a part of {dogbird.SOURCE}: {error}") from error


def _builder_pools(builder: Any, data: Data, extra: list[pathlib.Path]) -> tuple[_Pool, _Pool]:
  with catalogue.reading(builder, data.name):
    train, test = _splits(builder, data)
    shape = _shape(builder, data)
    pools = {}
    for split in (*train, test):
      most = len(_source(builder, split))
      if data.name == "imagenet_dogbird":
        most = min(most, dogbird.MOST.get(split, most))
      pools[split] = _Pool(most, shape, functools.partial(_decode, builder, split, data))
    height, width, _ = builder.info.features[builder.info.supervised_keys[0]].shape
  names = class_names(data) if data.name == "imagenet_dogbird" else _source_names(builder)
  archives = [
    _archive_pool(
      f"data.extra={data.extra!r}", path, (height, width, shape[-1]), len(names), data.image_size
    )
    for path in extra
  ]
  return _joined([*(pools[split] for split in train), *archives]), pools[test]


def _splits(builder: Any, data: Data) -> tuple[list[str], str]:
  """Those to train with, and the one to test with."""
  splits, train = builder.info.splits, data.train_split.split("+")
  has = f"data.name={data.name!r} has the splits {', '.join(splits)}"
  unknown = [split for split in train if split not in splits]
  if unknown and train != ["train"]:
    raise UserError(f"data.train_split={data.train_split!r}: there is no {unknown[0]!r}; {has}")
  if len(set(train)) < len(train):
    raise UserError(f"data.train_split={data.train_split!r} must name each split once")
  label_key = builder.info.supervised_keys[1]
  for split in ("validation",) if data.name == "imagenet_dogbird" else ("test", "validation"):
    # The test splits of contests carry -1 for a label.
    if not unknown and split in splits and _source(builder, split)[0][label_key] >= 0:
      if split in train:
        raise UserError(
          f"data.train_split={data.train_split!r} holds {split!r}, which is the test set; {has}"
        )
      return train, split
  raise UserError(f"{has}; choose a set with 'train' and a labelled 'test' or 'validation'")


def _source(builder: Any, split: str) -> Any:
  """The records of a split, their pictures still encoded."""
  from tensorflow_datasets import decode

  return builder.as_data_source(
    split=split, decoders={builder.info.supervised_keys[0]: decode.SkipDecoding()}
  )


def _source_names(builder: Any) -> list[str]:
  return builder.info.features[builder.info.supervised_keys[1]].names


def _shape(builder: Any, data: Data) -> tuple[int, int, int]:
  """Height, width and channels of a picture, after it is resized."""
  height, width, channels = builder.info.features[builder.info.supervised_keys[0]].shape
  if data.image_size:
    height = width = data.image_size
  if not (height and width):
    usual = 224 if data.name == "imagenet_dogbird" else 64
    raise UserError(
      f"data.image_size=None does not do for data.name={data.name!r}, whose pictures differ in"
      f" size; set it, as in data.image_size={usual}"
    )
  return height, width, channels or 3


def _decode(builder: Any, split: str, data: Data) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Pieces uint8[n, H, W, C] and int32[n], in the order of the records."""
  image_key, label_key = builder.info.supervised_keys
  shape = _shape(builder, data)
  mode = _MODES[shape[-1]]
  names = _source_names(builder)
  kinds = dogbird.relabel(names) if data.name == "imagenet_dogbird" else np.arange(len(names))
  with catalogue.reading(builder, data.name):
    source = _source(builder, split)
  for start in range(0, len(source), _BULK):
    with catalogue.reading(builder, data.name):
      # Records are compressed in groups: one by one, each would unpack a whole group.
      records = source.__getitems__(range(start, min(start + _BULK, len(source))))
      labels = np.array([record[label_key] for record in records], np.int32)
      if labels.min() < 0:
        raise UserError(f"data.name={data.name!r} has a split {split!r} without labels")
      labels = kinds[labels].astype(np.int32)
      kept = np.flatnonzero(labels >= 0)
      images = np.empty((len(kept), *shape), np.uint8)
      for image, place in zip(images, kept, strict=True):
        picture = Image.open(io.BytesIO(records[place][image_key])).convert(mode)
        image[...] = _pixels(picture, data.image_size)
    yield images, labels[kept]


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
  pictures = train_image.dtype == np.uint8 and len(train_image) > 0
  found = moments(train_image) if pictures else _NO_MOMENTS
  return Dataset(train_image, train_label, test_image, test_label, *found)


def moments(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Mean and std of each channel, float32[C], exactly from how often each value occurs."""
  pieces = (images[start : start + _BULK] for start in range(0, len(images), _BULK))
  return _moments_of(sum(map(_counts, pieces)))


def _counts(images: np.ndarray) -> np.ndarray:
  """int64[C, 256]: how often each value occurs in each channel."""
  channels = (images[..., channel].ravel() for channel in range(images.shape[-1]))
  return np.stack([np.bincount(pixels, minlength=256) for pixels in channels])


def _moments_of(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  mean, std = [], []
  for channel in counts:
    # Python's integers, which neither round nor overflow, divided once.
    n, total, squares = (
      sum(int(count) * value**power for value, count in enumerate(channel)) for power in (0, 1, 2)
    )
    mean.append(total / n)
    std.append(math.sqrt((n * squares - total**2) / n**2) or 1.0)
  return np.array(mean, np.float32), np.array(std, np.float32)
