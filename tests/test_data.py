"""Reading data: the bundled digits, small sets made here, CIFAR-10, and every refusal."""

import hashlib
import io
import os
import pathlib
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from seedlab import data
from seedlab.data import Dataset, catalogue, convert, moments
from seedlab.data import tfds as sets
from seedlab.errors import UserError


@pytest.fixture(autouse=True)
def user_cache(tmp_path, monkeypatch) -> pathlib.Path:
  """An empty cache directory of the user's, and no SEEDLAB_DATA unless a test names it."""
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
  monkeypatch.delenv("SEEDLAB_DATA", raising=False)
  return tmp_path / "xdg" / "seedlab" / "data"


def picture(place: int, height: int = 4, width: int = 6) -> np.ndarray:
  """uint8[H, W, 3], other for every place."""
  rows, columns, channels = np.indices((height, width, 3))
  return ((place * 37 + rows * 11 + columns * 5 + channels * 71) % 256).astype(np.uint8)


def encoded(pixels: np.ndarray) -> bytes:
  file = io.BytesIO()
  Image.fromarray(pixels.squeeze()).save(file, "PNG")
  return file.getvalue()


def example(place: int, **size: int) -> dict:
  return {"image": encoded(picture(place, **size)), "label": place % 3}


def make_set(
  directory: pathlib.Path,
  splits: dict[str, list[dict]],
  shape: tuple = (4, 6, 3),
  supervised: tuple | None = ("image", "label"),
  file_format: str = "array_record",
) -> pathlib.Path:
  """Writes a set called own_set; returns the folder of its files."""

  class OwnSet(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    VERSION = tfds.core.Version("1.2.0")

    def _info(self):
      features = {
        "image": tfds.features.Image(shape=shape),
        "label": tfds.features.ClassLabel(names=["ant", "bee", "cow"]),
      }
      return tfds.core.DatasetInfo(
        builder=self, features=tfds.features.FeaturesDict(features), supervised_keys=supervised
      )

    def _split_generators(self, dl_manager):
      return {split: self._generate_examples(examples) for split, examples in splits.items()}

    def _generate_examples(self, examples):
      yield from enumerate(examples)

  builder = OwnSet(data_dir=directory, file_format=file_format)
  with catalogue.quiet():
    builder.download_and_prepare()
  return pathlib.Path(builder.data_path)


def sixteen(**size: int) -> dict[str, list[dict]]:
  examples = [example(place, **size) for place in range(16)]
  return {"train": examples[:12], "test": examples[12:]}


@pytest.fixture
def own_set(tmp_path) -> pathlib.Path:
  return make_set(tmp_path / "sets", sixteen())


OWN = "own_set"


def load(
  name: str,
  directory: pathlib.Path | str | None = None,
  *,
  download: bool = True,
  test_examples: int | None = None,
  **options,
) -> Dataset:
  facts = {"download": download, "test_examples": test_examples}
  return data.build(name, options, data_dir=directory and str(directory), **facts).dataset


def class_names(name: str, directory: str | None = None) -> tuple[str, ...]:
  return data.build(name, data_dir=directory).class_names


def digest(array: np.ndarray) -> str:
  return hashlib.sha256(array.tobytes()).hexdigest()[:16]


def as_multiset(images: np.ndarray, labels: np.ndarray) -> list[tuple[bytes, int]]:
  return sorted((image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True))


# The bundled digits.


def test_digits_are_frozen():
  # Part of the contract: every record made with the digits rests on this split.
  digits = load("digits")
  assert [digest(array) for array in digits[:4]] == [
    "a4bc5241262148f5",
    "d29deb1739c55e02",
    "ffde5045dc3f3a9b",
    "cae4ff8425207556",
  ]
  assert digits.train_label[:10].tolist() == [8, 9, 9, 9, 4, 5, 1, 0, 2, 2]
  assert np.bincount(digits.train_label).tolist() == [50] * 10
  assert class_names("digits") == tuple("0123456789")


def test_digits_are_scikit_learns():
  datasets = pytest.importorskip("sklearn.datasets")
  bunch = datasets.load_digits()
  digits = load("digits")
  assert digits.train_image.shape == (500, 8, 8, 1) and digits.test_image.shape == (1297, 8, 8, 1)
  assert digits.train_image.dtype == np.uint8 and digits.train_label.dtype == np.int32
  image = np.concatenate([digits.train_image, digits.test_image])[..., 0] / 15
  label = np.concatenate([digits.train_label, digits.test_label])
  assert as_multiset(image, label) == as_multiset(bunch.images, bunch.target)
  # In the order of the file: where each picture of the training set is found only moves forward.
  places = [
    np.flatnonzero((bunch.images == picture).all((1, 2)))[0]
    for picture in digits.train_image[..., 0] / 15
  ]
  assert places == sorted(places)


def test_digits_resized_by_boxes():
  full, small = load("digits").train_image, load("digits", image_size=4).train_image
  boxes = full.reshape(500, 4, 2, 4, 2, 1).mean((2, 4))
  assert small.shape == (500, 4, 4, 1)
  assert np.abs(small - boxes).max() <= 1  # rounded after the rows and after the columns


def test_loading_needs_no_tensorflow_and_starts_no_jax(own_set):
  code = (
    "import sys\n"
    "from seedlab import data\n"
    "data.build('digits').dataset\n"
    f"data.build('own_set', data_dir={str(own_set.parents[1])!r}).dataset\n"
    "print(*sorted({'jax', 'tensorflow', 'sklearn'} & set(sys.modules)))\n"
  )
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
  assert done.stdout.split() == []
  assert done.stderr == ""


# Sets of tensorflow-datasets.


def test_moments_are_exact(own_set):
  loaded = load(OWN, own_set.parents[1])
  pixels = loaded.train_image.reshape(-1, 3).astype(np.float64)
  np.testing.assert_allclose(loaded.mean, pixels.mean(0), rtol=1e-7)
  np.testing.assert_allclose(loaded.std, pixels.std(0), rtol=1e-7)
  assert loaded.mean.dtype == loaded.std.dtype == np.float32
  mean, std = moments(np.full((2, 3, 3, 1), 7, np.uint8))
  assert (mean, std) == ([7], [1])  # a constant channel does not divide by zero


def test_pictures_labels_and_names(own_set, monkeypatch):
  monkeypatch.setattr(convert, "BULK", 5)  # so that the last bulk is a short one
  loaded = load(OWN, own_set.parents[1])
  train = np.stack([picture(place) for place in range(12)])
  test = np.stack([picture(place) for place in range(12, 16)])
  assert as_multiset(loaded.train_image, loaded.train_label) == as_multiset(
    train, np.arange(12) % 3
  )
  assert as_multiset(loaded.test_image, loaded.test_label) == as_multiset(
    test, np.arange(12, 16) % 3
  )
  assert loaded.train_label.dtype == np.int32
  assert class_names(OWN, str(own_set.parents[1])) == ("ant", "bee", "cow")


def test_environment_names_the_directory(own_set, monkeypatch):
  monkeypatch.setenv("SEEDLAB_DATA", str(own_set.parents[1]))
  assert len(load(OWN).train_image) == 12


def test_grey_pictures_keep_one_channel(tmp_path):
  examples = [{"image": encoded(picture(i)[..., :1]), "label": 0} for i in range(3)]
  make_set(tmp_path, {"train": examples, "test": examples}, shape=(4, 6, 1))
  loaded = load(OWN, tmp_path)
  assert loaded.train_image.shape == (3, 4, 6, 1)
  assert sorted(loaded.train_image[:, 0, 0, 0]) == [picture(i)[0, 0, 0] for i in range(3)]


def test_pictures_of_many_sizes(tmp_path):
  examples = [example(2, height=8, width=12), example(2, height=4, width=4)]
  make_set(tmp_path, {"train": examples, "test": examples}, shape=(None, None, 3))
  with pytest.raises(UserError, match=r"^data\.image_size=None does not do .*data\.image_size=64"):
    load(OWN, tmp_path)
  loaded = load(OWN, tmp_path, image_size=4).train_image
  boxes = picture(2, 8, 12).reshape(4, 2, 4, 3, 3).mean((1, 3))
  assert min(np.abs(image - boxes).max() for image in loaded) <= 1
  assert picture(2, 4, 4).tolist() in loaded.tolist()


def test_shrinking_to_no_whole_fraction_averages(tmp_path):
  board = np.indices((9, 9)).sum(0) % 2 * 255  # its mean is grey; single pixels are black or white
  examples = [{"image": encoded(np.stack([board] * 3, -1).astype(np.uint8)), "label": 0}]
  make_set(tmp_path, {"train": examples, "test": examples}, shape=(9, 9, 3))
  loaded = load(OWN, tmp_path, image_size=4).train_image
  assert 90 < loaded.min() and loaded.max() < 165


def test_validation_stands_in_for_test(tmp_path):
  examples = [example(place) for place in range(5)]
  make_set(tmp_path, {"train": examples[:3], "validation": examples[3:]})
  assert sorted(load(OWN, tmp_path).test_label) == [0, 1]
  make_set(tmp_path / "both", {"train": examples, "validation": examples, "test": examples[:1]})
  assert len(load(OWN, tmp_path / "both").test_label) == 1


def test_unlabelled_test_split_is_passed_over(tmp_path):
  examples = [example(place) for place in range(6)]
  unlabelled = [example(place) | {"label": -1} for place in range(4)]
  make_set(tmp_path, {"train": examples, "test": unlabelled, "validation": examples[:2]})
  assert len(load(OWN, tmp_path).test_label) == 2


@pytest.mark.parametrize("split", ["train", "test"])
def test_missing_split_lists_the_splits(tmp_path, split):
  make_set(tmp_path, {split: [example(0)], "extra": [example(1)]})
  with pytest.raises(UserError, match=rf"^data\.name='own_set' has the splits .*{split}"):
    load(OWN, tmp_path)


# The cache.


def npy_files(directory: pathlib.Path) -> list[str]:
  return sorted(path.name for path in directory.rglob("*") if path.is_file())


ALL_FILES = sorted(f"{name}.npy" for name in Dataset._fields)


def assert_same(a: Dataset, b: Dataset) -> None:
  for name in Dataset._fields:
    left, right = getattr(a, name), getattr(b, name)
    assert left.dtype == right.dtype
    np.testing.assert_array_equal(left, right, err_msg=name)


@pytest.fixture
def decodings(monkeypatch) -> list[str]:
  """Which splits have been decoded since the test began."""
  splits = []
  decode = sets._decode

  def watched(images, split):
    splits.append(split)
    return decode(images, split)

  monkeypatch.setattr(sets, "_decode", watched)
  return splits


def test_cache_lies_beside_the_set_and_is_used(own_set, user_cache, decodings):
  directory = str(own_set.parents[1])
  first = load(OWN, directory)
  assert npy_files(own_set / "seedlab") == ALL_FILES
  assert not user_cache.exists()
  second = load(OWN, directory)
  assert decodings == ["train", "test"]
  assert_same(first, second)
  assert not second.train_image.flags.writeable  # mapped: several processes share it
  load(OWN, directory, image_size=2)
  assert decodings == ["train", "test"] * 2


def test_changed_source_is_decoded_again(own_set, decodings):
  directory = str(own_set.parents[1])
  load(OWN, directory)
  record = next(own_set.glob("*train*"))
  os.utime(record, ns=(1, 1))
  load(OWN, directory)
  assert decodings == ["train", "test"] * 2


@pytest.mark.parametrize("damage", ["empty", "half", "gone"])
@pytest.mark.parametrize("name", ["train_image", "mean"])
def test_damaged_cache_is_rebuilt(own_set, decodings, damage, name):
  directory = str(own_set.parents[1])
  first = Dataset(*map(np.array, load(OWN, directory)))
  path = next(own_set.rglob(f"{name}.npy"))
  whole = path.read_bytes()
  if damage == "gone":
    path.unlink()
  else:
    # A new file, as the arrays above are mapped from the old one.
    path.unlink()
    path.write_bytes(whole[: len(whole) // 2] if damage == "half" else b"")
  assert_same(load(OWN, directory), first)
  assert path.read_bytes() == whole
  assert decodings == ["train", "test"] * 2


def test_no_pickle_is_read_from_a_cache(own_set):
  directory = str(own_set.parents[1])
  load(OWN, directory)
  path = next(own_set.rglob("train_label.npy"))
  path.unlink()
  np.save(path, np.array([{}], object), allow_pickle=True)
  assert load(OWN, directory).train_label.dtype == np.int32


def test_readonly_directory_leaves_the_cache_to_the_user(own_set, user_cache, decodings):
  # Root may write there all the same; the missing permission is respected nevertheless.
  own_set.chmod(0o555)
  try:
    before = sorted(own_set.rglob("*"))
    load(OWN, own_set.parents[1])
    load(OWN, own_set.parents[1])
    assert sorted(own_set.rglob("*")) == before
  finally:
    own_set.chmod(0o755)
  assert npy_files(user_cache) == ALL_FILES
  assert decodings == ["train", "test"]


def test_full_disk_costs_the_cache_only(own_set, user_cache, monkeypatch):
  def full(file, array, allow_pickle):
    file.write(b"part")
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(np, "save", full)
  assert len(load(OWN, own_set.parents[1]).train_image) == 12
  assert npy_files(own_set / "seedlab") == npy_files(user_cache) == []


# What is refused, and how.


def refusal(name: str, directory: pathlib.Path | str | None, **options) -> str:
  with pytest.raises(UserError) as caught:
    load(name, directory, **options)
  message = str(caught.value)
  assert "\n" not in message
  return message


def test_unknown_set(tmp_path, own_set, capfd):
  assert refusal("cifar_10", tmp_path).startswith(
    "data.name='cifar_10' is not known; closest: cifar10"
  )
  assert "own_set" in refusal("ownset", own_set.parents[1])
  assert "choose 'digits' or an image" in refusal("zzzzzzzzzzzz", tmp_path)
  for name in ("no such set", "", "../etc", "cifar10/none", "cifar10:9.9.9"):
    assert refusal(name, tmp_path).startswith(f"data.name={name!r} ")
  assert refusal("huggingface:mnist", tmp_path).startswith("data.name='huggingface:mnist': No mod")
  assert capfd.readouterr() == ("", "")


def test_directory_that_is_not_there(tmp_path, monkeypatch):
  assert "is no directory" in refusal(OWN, tmp_path / "none")
  monkeypatch.setenv("SEEDLAB_DATA", str(tmp_path / "nowhere"))
  assert "nowhere" in refusal(OWN, None)


def test_missing_set_without_network(tmp_path, monkeypatch, capfd, caplog):
  def no_network(*args, **kwargs):
    raise socket.gaierror(-2, "Name or service not known")

  monkeypatch.setattr(socket, "getaddrinfo", no_network)
  start = time.monotonic()
  message = refusal("cifar10", tmp_path)
  assert time.monotonic() - start < 10
  assert message.startswith(f"data.name='cifar10' is not in {tmp_path} and cannot be downloaded")
  for remedy in ("SEEDLAB_DATA", "--data_dir", "python -c", "data.build('cifar10', data_dir='.')"):
    assert remedy in message
  assert caplog.records == []
  out, err = capfd.readouterr()
  assert (out, err) == ("", f"seedlab: downloading cifar10 to {tmp_path}\n")


def test_not_image_classification(tmp_path):
  make_set(tmp_path, sixteen(), supervised=None)
  assert "is not image classification" in refusal(OWN, tmp_path)


def test_set_that_only_tensorflow_reads(tmp_path):
  source = make_set(tmp_path, sixteen())
  info = source / "dataset_info.json"
  info.write_text(info.read_text().replace("array_record", "tfrecord"))
  for record in source.glob("*.array_record*"):
    record.rename(str(record).replace("array_record", "tfrecord"))
  message = refusal(OWN, tmp_path)
  assert "as tfrecord, which only TensorFlow reads" in message and str(source) in message


def test_damaged_records(own_set):
  record = next(own_set.glob("*train*"))
  record.write_bytes(record.read_bytes()[:1000])
  assert "cannot be read from" in refusal(OWN, own_set.parents[1])


# Preparing a downloaded set without TensorFlow.


def test_cifar10_is_prepared_from_its_archive(tmp_path, monkeypatch):
  """tensorflow-datasets' own CIFAR-10 code, on an archive of twelve pictures."""
  archive = tmp_path / "archive" / "cifar-10-batches-bin"
  archive.mkdir(parents=True)
  pictures = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), np.uint8)
  labels = np.arange(12, dtype=np.uint8) % 10
  names = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]
  for number, name in enumerate(names):
    rows = [
      bytes([labels[i]]) + pictures[i].transpose(2, 0, 1).tobytes()
      for i in (2 * number, 2 * number + 1)
    ]
    (archive / name).write_bytes(b"".join(rows))
  classes = [f"class{number}" for number in range(10)]
  (archive / "batches.meta.txt").write_text("\n".join(classes))
  monkeypatch.setattr(catalogue, "_check_network", lambda builder: None)
  monkeypatch.setattr(
    tfds.download.DownloadManager, "download_and_extract", lambda self, url: archive.parent
  )
  monkeypatch.setenv("HOME", str(tmp_path))  # the directory of last resort lies there
  loaded = load("cifar10")
  assert as_multiset(loaded.train_image, loaded.train_label) == as_multiset(
    pictures[:10], labels[:10]
  )
  assert as_multiset(loaded.test_image, loaded.test_label) == as_multiset(
    pictures[10:], labels[10:]
  )
  assert list(class_names("cifar10")) == classes
  assert list((tmp_path / "tensorflow_datasets").rglob("*train.array_record*"))


# The real thing.


def test_cifar10(data_dir):
  loaded = load("cifar10", data_dir)
  assert loaded.train_image.shape == (50_000, 32, 32, 3)
  assert loaded.test_image.shape == (10_000, 32, 32, 3)
  np.testing.assert_allclose(loaded.mean, [125.3, 122.9, 113.9], atol=0.3)
  assert np.bincount(loaded.train_label).tolist() == [5000] * 10
  assert np.bincount(loaded.test_label).tolist() == [1000] * 10
  assert class_names("cifar10", data_dir)[:3] == ("airplane", "automobile", "bird")
  # Labels and pictures belong together, and in the order of the records: another way to read them.
  builder = tfds.builder("cifar10", data_dir=data_dir)
  for split, images, labels in [
    ("train", loaded.train_image, loaded.train_label),
    ("test", loaded.test_image, loaded.test_label),
  ]:
    records = builder.as_data_source(split=split)
    for place in (0, 1, 999, 1000, len(labels) - 1):
      np.testing.assert_array_equal(records[place]["image"], images[place])
      assert records[place]["label"] == labels[place]
