"""The finite pools of the Deep Bootstrap paper, sets larger than memory, and their refusals."""

import hashlib
import os
import pathlib
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import tracemalloc
import zipfile

import ml_dtypes
import numpy as np
import pytest
import scipy.io
import tensorflow_datasets as tfds
from PIL import Image
from test_data import (
  ALL_FILES,
  OWN,
  as_multiset,
  assert_same,
  class_names,
  encoded,
  example,
  load,
  make_set,
  npy_files,
  picture,
  refusal,
  sixteen,
)
from test_data import user_cache as user_cache

from seedlab import config, programs
from seedlab.data import Dataset, cache, catalogue, cifar5m, convert, dogbird, npz
from seedlab.errors import UserError

CIFAR5M = "cifar5m"


def archive(number: int, count: int = 40) -> dict[str, np.ndarray]:
  rng = np.random.default_rng(number)
  return {
    "X": rng.integers(0, 256, (count, 32, 32, 3), np.uint8),
    "Y": rng.integers(0, 10, count, np.int64),
  }


def whole_pool() -> tuple[np.ndarray, ...]:
  """Training pictures and labels, test pictures and labels, of `archives` below."""
  archives = [archive(number) for number in range(6)]
  train = (np.concatenate([part[key] for part in archives[:5]]) for key in "XY")
  return (*train, archives[5]["X"][:30], archives[5]["Y"][:30])


@pytest.fixture
def archives(tmp_path, monkeypatch) -> pathlib.Path:
  """The folder of six archives in the published layout, some of them compressed."""
  monkeypatch.setattr(cifar5m, "TEST_EXAMPLES", 30)
  folder = tmp_path / "sets" / "cifar5m"
  folder.mkdir(parents=True)
  for number in range(6):
    write = np.savez_compressed if number % 3 == 1 else np.savez
    write(folder / f"part{number}.npz", **archive(number))
  return folder


@pytest.fixture
def large(monkeypatch) -> None:
  """Every set counts as larger than memory."""
  monkeypatch.setattr(convert, "LARGE", 0)


def assert_pool(loaded: Dataset) -> None:
  for array, expected in zip(loaded, whole_pool(), strict=False):
    np.testing.assert_array_equal(array, expected)
  assert loaded.train_image.dtype == loaded.test_image.dtype == np.uint8
  assert loaded.train_label.dtype == loaded.test_label.dtype == np.int32


# CIFAR-5m.


@pytest.mark.parametrize("bulk", [7, 1000])
def test_cifar5m_has_the_published_split(archives, large, monkeypatch, bulk):
  monkeypatch.setattr(convert, "BULK", bulk)
  loaded = load(CIFAR5M, archives.parent)
  assert_pool(loaded)
  pixels = loaded.train_image.reshape(-1, 3).astype(np.float64)
  np.testing.assert_allclose(loaded.mean, pixels.mean(0), rtol=1e-7)
  np.testing.assert_allclose(loaded.std, pixels.std(0), rtol=1e-7)
  assert not loaded.train_image.flags.writeable
  names = class_names(CIFAR5M, str(archives.parent))
  assert names[:3] + names[-1:] == (
    "airplane",
    "automobile",
    "bird",
    "truck",
  )


def test_cifar5m_has_ten_thousand_to_test():
  assert cifar5m.TEST_EXAMPLES == 10_000 and cifar5m.SHAPE == (32, 32, 3)


def test_labels_of_any_integer_type(archives, large):
  np.savez(archives / "part2.npz", X=archive(2)["X"], Y=archive(2)["Y"].astype(">u2"))
  assert_pool(load(CIFAR5M, archives.parent))


def test_both_ways_to_the_cache_write_the_same_bytes(archives, monkeypatch):
  folders = []
  for size in (2**30, 0):
    monkeypatch.setattr(convert, "LARGE", size)
    load(CIFAR5M, archives.parent)
    (folder,) = (archives / "seedlab").iterdir()
    folders.append({path.name: path.read_bytes() for path in folder.glob("*.npy")})
    shutil.rmtree(folder)
  assert sorted(folders[0]) == ALL_FILES and folders[0] == folders[1]


def test_conversion_happens_once_and_says_how_far_it_is(archives, large, monkeypatch, capfd):
  monkeypatch.setattr(convert, "BULK", 10)
  load(CIFAR5M, archives.parent)
  out, err = capfd.readouterr()
  lines = err.splitlines()
  assert out == "" and len(lines) == 11
  assert lines[0].startswith("seedlab: converting cifar5m once, 0.0 GB, to ")
  assert lines[1].split()[2:6] == ["30", "of", "230", "images"]
  assert lines[-1] == "seedlab: cifar5m: 230 of 230 images converted"
  (archives / "notes.txt").write_text("not a part of the set")
  load(CIFAR5M, archives.parent)
  assert capfd.readouterr() == ("", "")
  os.utime(archives / "part3.npz", ns=(1, 1))
  load(CIFAR5M, archives.parent)
  assert "converting" in capfd.readouterr().err


def test_conversion_holds_a_piece_at_a_time(tmp_path, large, monkeypatch):
  folder = tmp_path / "cifar5m"
  folder.mkdir()
  pictures = 2500
  for number in range(6):
    write = np.savez_compressed if number % 2 else np.savez
    images = np.full((pictures, 32, 32, 3), number, np.uint8)
    write(folder / f"part{number}.npz", X=images, Y=np.full(pictures, number))
  monkeypatch.setattr(convert, "BULK", 50)
  longest = []
  read = zipfile.ZipExtFile.read

  def watched(self, n=-1):
    content = read(self, n)
    longest.append(len(content))
    return content

  monkeypatch.setattr(zipfile.ZipExtFile, "read", watched)
  tracemalloc.start()
  try:
    loaded = load(CIFAR5M, tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
  finally:
    tracemalloc.stop()
  assert max(longest) == 50 * 3072
  assert peak < 4e6 < pictures * 3072  # bytes; a part alone has 7.7 million
  assert loaded.train_image[::pictures, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]


def test_resized(archives, large):
  small = load("cifar5m", archives.parent, image_size=16).train_image
  boxes = whole_pool()[0].reshape(-1, 16, 2, 16, 2, 3).mean((2, 4))
  assert small.shape == (200, 16, 16, 3) and np.abs(small - boxes).max() <= 1


# Where a large set may be kept.


def test_killed_conversion_is_not_believed_and_leaves_nothing(archives, large):
  code = (
    "import os, signal\n"
    "from seedlab import data\n"
    "from seedlab.data import convert, examples\n"
    "convert.LARGE = 0\n"
    "count = examples.counts\n"
    "def counts(images, seen=[]):\n"
    "  seen.append(1)\n"
    "  return count(images) if len(seen) < 3 else os.kill(os.getpid(), signal.SIGKILL)\n"
    "examples.counts = counts\n"
    f"data.build('cifar5m', data_dir={str(archives.parent)!r}).dataset\n"
  )
  done = subprocess.run([sys.executable, "-c", code], capture_output=True)
  assert done.returncode == -signal.SIGKILL
  (folder,) = (archives / "seedlab").iterdir()
  assert len(list(folder.glob(".*.part"))) == 2  # pictures and labels
  assert_pool(load(CIFAR5M, archives.parent))
  assert npy_files(folder) == sorted([".lock", *ALL_FILES])


@pytest.mark.parametrize("name", Dataset._fields)
def test_cache_without_one_array_is_not_believed(archives, large, capfd, name):
  load(CIFAR5M, archives.parent)
  next(archives.rglob(f"{name}.npy")).unlink()
  assert_pool(load(CIFAR5M, archives.parent))
  assert capfd.readouterr().err.count("converting") == 2


def test_others_wait_for_the_one_that_converts(archives, large, capfd):
  load(CIFAR5M, archives.parent)
  (folder,) = (archives / "seedlab").iterdir()
  mean = (folder / "mean.npy").read_bytes()
  (folder / "mean.npy").unlink()
  got = []
  with cache.room(folder, 0):
    waiting = threading.Thread(target=lambda: got.append(load(CIFAR5M, archives.parent)))
    waiting.start()
    waiting.join(0.3)
    assert waiting.is_alive()
    (folder / "mean.npy").write_bytes(mean)
  waiting.join(10)
  assert_pool(got[0])
  assert capfd.readouterr().err.count("converting") == 1


def read_only(*folders: pathlib.Path) -> None:
  for folder in folders:
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o555)


def test_no_room_names_directories_and_bytes(archives, large, user_cache, monkeypatch):
  size = 230 * (3072 + 4)
  usage = shutil.disk_usage(archives)
  monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=size - 1))
  message = refusal(CIFAR5M, archives.parent)
  assert message.startswith(f"data.name='cifar5m' takes {size:,} bytes on disk when decoded")
  for part in (
    str(archives / "seedlab"),
    str(user_cache),
    f"{size - 1:,} bytes free",
    "--data_dir",
  ):
    assert part in message
  assert not list(archives.rglob("*.npy"))
  monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=size))
  assert_pool(load(CIFAR5M, archives.parent))


def test_read_only_everywhere(archives, user_cache, monkeypatch):
  read_only(archives, user_cache)
  try:
    assert_pool(load(CIFAR5M, archives.parent))  # small enough for memory
    monkeypatch.setattr(convert, "LARGE", 0)
    message = refusal(CIFAR5M, archives.parent)
    assert message.count("may not be written") == 2 and f"{user_cache}" in message
    user_cache.chmod(0o755)
    assert_pool(load(CIFAR5M, archives.parent))
    assert {*ALL_FILES} < {*npy_files(user_cache)}
  finally:
    archives.chmod(0o755)


def test_disk_that_fills_up_on_the_way(archives, large, user_cache, monkeypatch):
  def full(descriptor):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(os, "fsync", full)
  message = refusal(CIFAR5M, archives.parent)
  assert message.count("No space left on device") == 2
  assert {*npy_files(archives / "seedlab"), *npy_files(user_cache)} == {".lock"}


# Archives that are refused.


class Trap:
  """Leaves a file behind when its pickle is loaded."""

  def __init__(self, path: pathlib.Path):
    self.path = path

  def __reduce__(self):
    return os.mkdir, (str(self.path),)


def test_no_pickle_is_loaded(archives, tmp_path):
  trap = Trap(tmp_path / "sprung")
  path = archives / "part4.npz"
  for key in "XY":
    arrays = archive(4) | {key: np.array([trap] * 40, object)}
    np.savez(path, allow_pickle=True, **arrays)
    with pytest.raises(UserError, match=f"{key} in .*part4.npz is pickled Python objects, which"):
      load(CIFAR5M, archives.parent)
  path.write_bytes(pickle.dumps(trap))
  assert f"{path} is a pickle, which is never read" in refusal(CIFAR5M, archives.parent)
  assert not trap.path.exists()
  with pytest.raises(FileExistsError):  # the trap does work
    trap.path.mkdir()
    pickle.loads(path.read_bytes())


GOOD = archive(2)


@pytest.mark.parametrize(
  ("arrays", "message"),
  [
    ({"X": GOOD["X"]}, r"has no key 'Y' \(its keys: X\); name the images X, the labels Y"),
    ({"image": GOOD["X"], "Y": GOOD["Y"]}, r"has no key 'X' \(its keys: image, Y\)"),
    ({}, r"has no key 'X' \(its keys: none\)"),
    (GOOD | {"X": GOOD["X"] / 255}, r"X in .* is float64\[40, 32, 32, 3\]; .* uint8\[N, H, W, C\]"),
    (GOOD | {"X": GOOD["X"].reshape(40, -1)}, r"X in .* is uint8\[40, 3072\]; it must be"),
    (GOOD | {"X": np.asfortranarray(GOOD["X"])}, r"X in .* in Fortran order; it must be"),
    (GOOD | {"X": GOOD["X"][:0], "Y": GOOD["Y"][:0]}, r"X in .* is uint8\[0, 32, 32, 3\]"),
    (GOOD | {"X": GOOD["X"][:, :28, :28]}, r"images in .* are 28x28x3; they must be 32x32x3"),
    (GOOD | {"Y": GOOD["Y"] / 1.0}, r"Y in .* is float64\[40\]; it must be integers\[N\]"),
    (GOOD | {"Y": GOOD["Y"][:, None]}, r"Y in .* is int64\[40, 1\]; it must be integers\[N\]"),
    (GOOD | {"Y": GOOD["Y"][:39]}, r"has 40 images in X and 39 labels in Y"),
    (GOOD | {"Y": np.where(np.arange(40) < 33, 0, 10)}, r"Y in .* is 10 at position 33; .* 0\.\.9"),
    (GOOD | {"Y": np.where(np.arange(40) == 3, -1, 9)}, r"Y in .* is -1 at position 3; .* 0\.\.9"),
  ],
)
def test_wrong_archives(archives, large, monkeypatch, arrays, message):
  monkeypatch.setattr(convert, "BULK", 30)
  path = archives / "part2.npz"
  np.savez(path, **arrays)
  with pytest.raises(UserError, match=rf"^data\.name='cifar5m': .*{message}") as caught:
    load(CIFAR5M, archives.parent)
  assert str(path) in str(caught.value) and "\n" not in str(caught.value)
  assert not list(archives.rglob("*.part"))


@pytest.mark.parametrize(
  "damage", ["short", "empty", "text", "npy", "stored", "deflated", "header"]
)
def test_damaged_archives(archives, large, damage):
  path = archives / "part2.npz"
  if damage == "deflated":
    np.savez_compressed(path, X=np.zeros((40, 32, 32, 3), np.uint8), Y=GOOD["Y"])
  content = bytearray(path.read_bytes())
  if damage == "short":
    content = content[:-1000]
  elif damage in ("empty", "text", "npy"):
    content = {"empty": b"", "text": b"no such key", "npy": b"\x93NUMPY\x01\x00"}[damage]
  elif damage == "header":
    content = content.replace(b"(40, 32, 32, 3)", b"(39, 32, 32, 3)")
  else:
    content[200] ^= 255  # in the middle of X: found by decompressing, or by its checksum
  path.write_bytes(content)
  message = refusal(CIFAR5M, archives.parent)
  assert message.startswith(f"data.name='cifar5m': {path} is no npz archive, or damaged or cut")
  assert message.endswith("fetch or write it again")
  assert not list(archives.rglob("*.npy"))


def test_missing_parts(archives, tmp_path, monkeypatch):
  for number in (1, 4):
    (archives / f"part{number}.npz").unlink()
  message = refusal(CIFAR5M, archives.parent)
  missing = f"part1.npz, part4.npz in {archives}"
  assert message.startswith(f"data.name='cifar5m' has no {missing}; fetch")
  assert "gs://gresearch/cifar5m/part*.npz" in message
  assert "part0.npz, part1.npz, part2.npz" in refusal(CIFAR5M, tmp_path)


# Splits and extra pools of sets of tensorflow-datasets.


@pytest.fixture
def own(tmp_path) -> pathlib.Path:
  """The data directory of a set with three splits of 6, 4 and 5 examples."""
  examples = [example(place) for place in range(15)]
  splits = {"train": examples[:6], "test": examples[6:10], "extra": examples[10:]}
  make_set(tmp_path / "sets", splits)
  return tmp_path / "sets"


def split_of(directory: pathlib.Path, split: str) -> tuple[np.ndarray, np.ndarray]:
  """As tensorflow-datasets reads it itself."""
  with catalogue.quiet():
    source = tfds.builder("own_set", data_dir=directory).as_data_source(split=split)
  records = [source[place] for place in range(len(source))]
  return np.stack([r["image"] for r in records]), np.array([r["label"] for r in records])


@pytest.mark.parametrize("size", [0, 2**30])
@pytest.mark.parametrize("bulk", [4, 1000])
def test_splits_are_joined_in_the_order_named(own, monkeypatch, size, bulk):
  monkeypatch.setattr(convert, "LARGE", size)
  monkeypatch.setattr(convert, "BULK", bulk)
  for splits in ("train+extra", "extra+train", "extra", "train"):
    loaded = load("own_set", own, train_split=splits)
    images, labels = zip(*(split_of(own, split) for split in splits.split("+")), strict=True)
    np.testing.assert_array_equal(loaded.train_image, np.concatenate(images))
    np.testing.assert_array_equal(loaded.train_label, np.concatenate(labels))
    np.testing.assert_array_equal(loaded.test_image, split_of(own, "test")[0])
    pixels = loaded.train_image.reshape(-1, 3)
    np.testing.assert_allclose(loaded.mean, pixels.mean(0), rtol=1e-6)


def test_a_large_set_is_decoded_like_a_small_one(tmp_path, monkeypatch, capfd):
  make_set(tmp_path, sixteen())
  small = Dataset(*map(np.array, load(OWN, tmp_path)))
  for folder in tmp_path.rglob("seedlab"):
    shutil.rmtree(folder)
  monkeypatch.setattr(convert, "LARGE", 0)
  assert_same(load(OWN, tmp_path), small)
  assert "converting own_set once" in capfd.readouterr().err


def test_svhn_is_prepared_from_its_matrices_with_its_extra_split(tmp_path, monkeypatch):
  """tensorflow-datasets' own code, on small files; the digit 0 is 10 in them."""
  sizes = {"train": 5, "test": 3, "extra": 4}
  images = {}
  for number, (split, count) in enumerate(sizes.items()):
    images[split] = archive(number, count)["X"]
    arrays = {"X": images[split].transpose(1, 2, 3, 0), "y": np.arange(10, 10 - count, -1)[:, None]}
    scipy.io.savemat(tmp_path / f"{split}.mat", arrays)
  monkeypatch.setattr(catalogue, "_check_network", lambda builder: None)
  monkeypatch.setattr(
    tfds.download.DownloadManager,
    "download",
    lambda self, urls: {split: tmp_path / f"{split}.mat" for split in urls},
  )
  loaded = load("svhn_cropped", tmp_path, train_split="train+extra")
  for held, label, splits in [
    (loaded.train_image, loaded.train_label, ("train", "extra")),
    (loaded.test_image, loaded.test_label, ("test",)),
  ]:
    expected = np.concatenate([images[split] for split in splits])
    digits = np.concatenate([np.arange(10, 10 - sizes[split], -1) % 10 for split in splits])
    assert as_multiset(held, label) == as_multiset(expected, digits)


def test_unknown_and_forbidden_splits(own, tmp_path):
  def said(splits: str) -> str:
    return refusal("own_set", own, train_split=splits)

  has = "data.name='own_set' has the splits "
  for splits, wrong in [
    ("train+extr", "extr"),
    ("", ""),
    ("train+", ""),
    ("train[:2]", "train[:2]"),
  ]:
    message = said(splits)
    assert message.startswith(f"data.train_split={splits!r}: there is no {wrong!r}; {has}")
    assert all(split in message.split(has)[1] for split in ("train", "test", "extra"))
  assert "must name each split once" in said("train+train")
  message = said("train+test")
  assert message.startswith("data.train_split='train+test' holds 'test', which is the test set; ")
  unlabelled = [example(place) | {"label": -1} for place in range(4)]
  splits = sixteen() | {"validation": unlabelled}
  make_set(tmp_path / "other", splits)
  message = refusal("own_set", tmp_path / "other", train_split="train+validation")
  assert "has a split 'validation' without labels" in message
  message = refusal("digits", None, train_split="train+test")
  assert message.startswith("data.train_split='train+test' is not read by data.name='digits', but")
  message = refusal("cifar5m", own, extra="a.npz")
  assert message.startswith("data.extra='a.npz' is not read by data.name='cifar5m', but by imagen")


def extra_archive(number: int, count: int = 3, **size: int) -> dict[str, np.ndarray]:
  images = np.stack([picture(100 * number + place, **size) for place in range(count)])
  return {"X": images, "Y": np.arange(count) % 3}


def test_extra_pool_comes_after_the_training_split(own, monkeypatch):
  monkeypatch.setattr(convert, "BULK", 2)
  plain = load(OWN, own)
  (own / "tiny").mkdir()
  for number in (2, 1):
    np.savez(own / "tiny" / f"pool{number}.npz", **extra_archive(number))
  first, second = extra_archive(1), extra_archive(2)
  file = load("own_set", own, extra="tiny/pool2.npz")
  np.testing.assert_array_equal(file.train_image, [*plain.train_image, *second["X"]])
  for extra in ("tiny", str(own / "tiny")):
    both = load("own_set", own, extra=extra, train_split="train+extra")
    images = [*plain.train_image, *split_of(own, "extra")[0], *first["X"], *second["X"]]
    np.testing.assert_array_equal(both.train_image, images)
    assert both.train_label[-6:].tolist() == [0, 1, 2, 0, 1, 2]
    assert both.train_label.dtype == np.int32
    np.testing.assert_array_equal(both.test_image, plain.test_image)
    np.testing.assert_allclose(both.mean, np.reshape(images, (-1, 3)).mean(0), rtol=1e-6)
  # None of these is taken for another in the cache, nor for what it was.
  assert_same(load(OWN, own), plain)
  np.savez(own / "tiny" / "pool2.npz", **extra_archive(3))
  again = load("own_set", own, extra="tiny/pool2.npz")
  np.testing.assert_array_equal(again.train_image[6:], extra_archive(3)["X"])


@pytest.mark.parametrize("channels", [1, 3])
def test_extra_pictures_are_resized_too(tmp_path, channels):
  shape = (4, 4, channels)
  grey = slice(0, channels)
  examples = [{"image": encoded(picture(place, 4, 4)[..., grey]), "label": 0} for place in range(3)]
  make_set(tmp_path, {"train": examples, "test": examples}, shape=shape)
  # The same pictures: decoded from the set or read from the archive, they come out the same.
  plain = split_of(tmp_path, "train")
  np.savez(tmp_path / "same.npz", X=plain[0], Y=plain[1])
  loaded = load("own_set", tmp_path, image_size=3, extra="same.npz")
  assert loaded.train_image.shape == (6, 3, 3, channels)
  np.testing.assert_array_equal(loaded.train_image[:3], loaded.train_image[3:])


def test_wrong_extra_pools(own, tmp_path):
  def said(extra: str) -> str:
    return refusal("own_set", own, extra=extra)

  (own / "none").mkdir()
  for extra in ("none", "nothing.npz", "a,b.npz", ""):
    assert said(extra).startswith(f"data.extra={extra!r} names no npz file and no folder of them")
  np.savez(own / "large.npz", **extra_archive(1, height=5))
  assert "are 5x6x3; they must be 4x6x3" in said("large.npz")
  np.savez(own / "label.npz", X=extra_archive(1)["X"], Y=[0, 3, 0])
  path = own / "label.npz"
  assert said("label.npz") == (
    f"data.extra='label.npz': Y in {path} is 3 at position 1; labels must lie in 0..2"
  )
  examples = [example(0), example(1)]
  make_set(tmp_path / "any", {"train": examples, "test": examples}, shape=(None, None, 1))
  message = refusal("own_set", tmp_path / "any", extra=str(path), image_size=4)
  assert "are 4x6x3; they must be anyxanyx1" in message


# ImageNet-DogBird.


def all_wordnet_ids() -> list[str]:
  return tfds.core.tfds_path("datasets/imagenet2012/labels.txt").read_text().split()


def test_dogs_and_birds_are_the_published_classes():
  names = all_wordnet_ids()
  assert len(names) == 1000
  birds = [*names[7:25], *names[80:101], *names[127:147]]
  assert names[159:222] == dogbird.HUNTING_DOGS and len(dogbird.HUNTING_DOGS) == 63
  assert birds == dogbird.BIRDS and len(birds) == 59
  kinds = dogbird.relabel(names)
  assert np.bincount(kinds + 1).tolist() == [878, 63, 59]
  # Some that everybody knows: cock, ostrich, goldfinch, beagle, golden retriever, goldfish, tabby.
  known = [
    "n01514668",
    "n01518878",
    "n01531178",
    "n02088364",
    "n02099601",
    "n01443537",
    "n02123045",
  ]
  assert [kinds[names.index(name)] for name in known] == [1, 1, 1, 0, 0, -1, -1]
  with pytest.raises(UserError, match="121 of them are not in this one"):
    dogbird.relabel(names[:8])


TRAIN = [159, 158, 221, 222, 7, 6, 24, 25, 80, 100, 101, 127, 146, 147, 200, 999, 0, 180]
VALIDATION = [146, 0, 159, 221, 300]
TWO_CLASSES = "imagenet_dogbird"


@pytest.fixture
def imagenet(tmp_path) -> pathlib.Path:
  """The data directory of an imagenet2012 with 23 labelled examples and 3 unlabelled ones."""

  class Imagenet2012(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    VERSION = tfds.core.Version("5.1.0")

    def _info(self):
      features = {
        "image": tfds.features.Image(),
        "label": tfds.features.ClassLabel(names=all_wordnet_ids()),
        "file_name": tfds.features.Text(),
      }
      return tfds.core.DatasetInfo(
        builder=self,
        features=tfds.features.FeaturesDict(features),
        supervised_keys=("image", "label"),
      )

    def _split_generators(self, dl_manager):
      splits = {"train": TRAIN, "validation": VALIDATION, "test": [-1] * 3}
      return {split: self._generate_examples(labels) for split, labels in splits.items()}

    def _generate_examples(self, labels):
      for place, label in enumerate(labels):
        pixels = encoded(picture(label, height=4 + place, width=8))
        yield place, {"image": pixels, "label": label, "file_name": f"{label}.JPEG"}

  builder = Imagenet2012(data_dir=tmp_path / "sets", file_format="array_record")
  with catalogue.quiet():
    builder.download_and_prepare()
  return tmp_path / "sets"


@pytest.mark.parametrize("size", [0, 2**30])
@pytest.mark.parametrize("bulk", [3, 1000])
def test_dogs_and_birds_of_an_imagenet(imagenet, monkeypatch, size, bulk):
  monkeypatch.setattr(convert, "LARGE", size)
  monkeypatch.setattr(convert, "BULK", bulk)
  loaded = load(TWO_CLASSES, imagenet, image_size=4)
  dogs = {159, 221, 200, 180}
  birds = {7, 24, 80, 100, 127, 146}
  for split, images, labels in [
    (TRAIN, loaded.train_image, loaded.train_label),
    (VALIDATION, loaded.test_image, loaded.test_label),
  ]:
    expected_images, expected_labels = [], []
    for place, label in enumerate(split):
      if label in dogs | birds:
        pixels = Image.fromarray(picture(label, height=4 + place, width=8))
        expected_images.append(convert.pixels(pixels, 4))
        expected_labels.append(int(label in birds))
    assert as_multiset(images, labels) == as_multiset(np.array(expected_images), expected_labels)
    assert images.dtype == np.uint8 and labels.dtype == np.int32
  assert loaded.train_image.shape == (10, 4, 4, 3) and loaded.test_label.shape == (3,)
  assert class_names(TWO_CLASSES, str(imagenet)) == ("hunting dog", "bird")
  pixels = loaded.train_image.reshape(-1, 3)
  np.testing.assert_allclose(loaded.mean, pixels.mean(0), rtol=1e-6)


def test_refusals_of_dogs_and_birds(imagenet, tmp_path):
  message = refusal("imagenet_dogbird", imagenet)
  assert message.startswith("data.image_size=None does not do") and "image_size=224" in message
  message = refusal("imagenet_dogbird", imagenet, image_size=8, train_split="train+test")
  assert "has a split 'test' without labels" in message
  (tmp_path / "empty").mkdir()
  with pytest.raises(
    UserError, match=r"^data\.name='imagenet_dogbird' is a part of imagenet2012: "
  ):
    load(TWO_CLASSES, tmp_path / "empty", download=False, image_size=4)


# The first examples of the test set.


def test_the_first_test_examples(archives, own):
  for name, directory in [("digits", None), (CIFAR5M, archives.parent), (OWN, own)]:
    whole = load(name, directory)
    some = load(name, directory, test_examples=3)
    assert_same(
      some, whole._replace(test_image=whole.test_image[:3], test_label=whole.test_label[:3])
    )
    assert_same(load(name, directory, test_examples=len(whole.test_label)), whole)
  message = refusal("digits", None, test_examples=1298)
  assert message.startswith("data.test_examples=1298 is more than the 1297 of digits; lower it")
  assert refusal("own_set", own, test_examples=5).startswith("data.test_examples=5 ")
  with pytest.raises(UserError, match=r"^data\.test_examples=0 must be at least 1"):
    config.parse({"data": {"test_examples": 0}})


# The digest of data.


def test_digests_of_arrays_are_those_of_their_bytes():
  leaves = {
    "bfloat16": np.arange(6).astype(ml_dtypes.bfloat16),
    "bool": np.array([True, False]),
    "empty": np.zeros((0, 3), np.float32),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "number": np.array(3, np.int32),
    "strided": np.arange(10, dtype=np.uint8)[::3],
  }
  sha = hashlib.sha256()
  for name, leaf in leaves.items():
    sha.update(f"{name} {leaf.dtype.name} {leaf.shape}\n".encode() + leaf.tobytes())
  assert programs.tree_digest(leaves) == sha.hexdigest()


def test_digest_of_a_mapped_array_copies_nothing(tmp_path):
  np.save(tmp_path / "pool.npy", np.ones((1000, 32, 32, 3), np.uint8))
  pool = np.load(tmp_path / "pool.npy", mmap_mode="r")
  tracemalloc.start()
  try:
    programs.tree_digest({"pool": pool})
    peak = tracemalloc.get_traced_memory()[1]
  finally:
    tracemalloc.stop()
  assert peak < pool.nbytes / 10


def test_pieces_of_an_archive_alone(tmp_path):
  np.savez(tmp_path / "a.npz", **archive(0))
  assert npz.shape("x", tmp_path / "a.npz") == (40, 32, 32, 3)
  lengths = [len(label) for _, label in npz.pieces("x", tmp_path / "a.npz", 16, 10)]
  assert lengths == [16, 16, 8]
  lengths = [len(label) for _, label in npz.pieces("x", tmp_path / "a.npz", 16, 10, first=20)]
  assert lengths == [16, 4]
