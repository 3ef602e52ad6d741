"""Pictures read from their records when needed: the same for all threads, segments and lanes."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from sections import merged
from test_data import OWN, encoded, load, make_set, picture, refusal
from test_data import user_cache as user_cache

from seedlab import checkpoints, designs, engine, programs, streams, training
from seedlab import data as datasets
from seedlab.config import Config, Seeds
from seedlab.data import augmentation, catalogue, convert, crops, stream
from seedlab.data import order as orders
from seedlab.data import tfds as sets
from seedlab.errors import UserError
from seedlab.training import examples as sources

TRAIN, TEST, SIDE = 22, 9, 6
PUBLISHED = {"image_size": SIDE, "stream": True, "resized_crop": True, "centre_crop": 1.5}
BASE = {
  "data": {
    "name": OWN, **PUBLISHED, "normalisation": "imagenet", "last_batch": "keep",
    "label_noise": 0.2, "train_examples": 13, "copies": 2,
  },
  "augment": "flip",
  "model": {"name": "mlp", "width": 3, "depth": 1},
  "optimizer": {"learning_rate": 0.01},
  "training": {"batch_size": 5, "epochs": 2},
  "evaluation": {"every_steps": 4, "train": True, "train_examples": 7, "train_augmented": True},
}  # fmt: skip


def height_of(place: int) -> int:
  return 4 + place % 5 * 4


def width_of(place: int) -> int:
  return 5 + place % 7 * 3


def one(place: int) -> dict:
  return {"image": encoded(picture(place, height_of(place), width_of(place))), "label": place % 3}


def many(start: int, count: int) -> list[dict]:
  return [one(place) for place in range(start, start + count)]


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> str:
  """The data directory of a set whose pictures differ in size."""
  folder = tmp_path_factory.mktemp("sets")
  splits = {"train": many(0, TRAIN), "extra": many(50, 4), "test": many(100, TEST)}
  make_set(folder, splits, shape=(None, None, 3))
  return str(folder)


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> str:
  """One whose pictures are all 6x6."""
  folder = tmp_path_factory.mktemp("plain")
  pictures = [
    {"image": encoded(picture(place, SIDE, SIDE)), "label": place % 3} for place in range(31)
  ]
  make_set(folder, {"train": pictures[:TRAIN], "test": pictures[TRAIN:]}, shape=(6, 6, 3))
  return str(folder)


def decoded(directory: str, split: str) -> list[dict]:
  """Another way to read the records of a split, in their order."""
  return list(tfds.builder("own_set", data_dir=directory).as_data_source(split=split))


def config(base=BASE, **sections) -> Config:
  return merged(base, **sections)


def published(directory: str, **options) -> stream.Pool:
  return datasets.build(OWN, PUBLISHED | options, data_dir=directory).pool


def held_out(directory: str, **options) -> datasets.Dataset:
  return load(OWN, directory, **PUBLISHED | options)


def seeds_of(*runs: int) -> np.ndarray:
  return np.array([[run] * len(streams.STREAMS) for run in runs], np.uint32)


def keys_of(run: int) -> streams.Keys:
  return streams.derive(jnp.asarray(designs.seeds_of_run(run, Seeds())))


# Reading.


@pytest.mark.parametrize("threads", ["1", "2", "4"])
def test_pictures_come_in_the_order_asked_for_whatever_the_threads(own, monkeypatch, threads):
  monkeypatch.setenv("SEEDLAB_READER_THREADS", threads)
  monkeypatch.setattr(stream, "_CHUNK", 3)
  pool = published(own, train_split="train+extra")
  records = decoded(own, "train") + decoded(own, "extra")
  assert pool.count == len(records) == TRAIN + 4 and pool.shape == (SIDE, SIDE, 3)
  positions = np.array([25, 0, 7, 7, 21, 22, 3, 24, 1, 11])
  found, whole = pool.read_canvases(positions), pool.read(positions)
  assert found.image.shape == (10, 2 * SIDE, 2 * SIDE, 3) and found.image.dtype == np.uint8
  for number, position in enumerate(positions):
    image = Image.fromarray(records[position]["image"])
    height, width = found.size[number]
    scale = min(1, 12 / max(image.size))
    assert (width, height) == tuple(round(scale * length) for length in image.size)
    shrunk = image.resize((width, height), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(found.image[number, :height, :width], np.asarray(shrunk))
    assert not found.image[number, height:].any() and not found.image[number, :, width:].any()
    expected, _ = sets.whole_image(SIDE, 1.5, image)
    np.testing.assert_array_equal(whole.image[number], expected)
    assert found.label[number] == whole.label[number] == records[position]["label"]
  assert found.label.dtype == found.size.dtype == np.int32


def test_centre_crops_by_hand():
  pixels = picture(3, 6, 12)
  found = np.asarray(stream.centre_crop(5, 1.2, Image.fromarray(pixels)))  # 6 is the shorter side
  np.testing.assert_array_equal(found, pixels[:5, 4:9])  # 1/2 and 7/2, rounded to even
  # 8x25 becomes 6x18.75, rounded down: the central 4 of 18 columns.
  resized = Image.fromarray(picture(3, 8, 25)).resize((18, 6), Image.Resampling.BILINEAR)
  found = np.asarray(stream.centre_crop(4, 1.5, Image.fromarray(picture(3, 8, 25))))
  np.testing.assert_array_equal(found, np.asarray(resized)[1:5, 7:11])
  tall = np.asarray(stream.centre_crop(5, 1.2, Image.fromarray(picture(3, 12, 6))))
  np.testing.assert_array_equal(tall, picture(3, 12, 6)[4:9, :5])
  assert int(1.14 * 224) == 255


@pytest.mark.parametrize("large", [False, True])
def test_test_pictures_are_cut_once_and_kept(own, monkeypatch, large, capfd):
  if large:
    monkeypatch.setattr(convert, "LARGE", 0)
    monkeypatch.setattr(convert, "BULK", 4)
  loaded = held_out(own, image_size=6 + large)  # the two share a folder
  assert loaded.train_image.shape == (0, 6 + large, 6 + large, 3) and not len(loaded.train_label)
  for image, label, record in zip(
    loaded.test_image, loaded.test_label, decoded(own, "test"), strict=True
  ):
    expected, _ = sets.whole_image(6 + large, 1.5, Image.fromarray(record["image"]))
    np.testing.assert_array_equal(image, expected)
    assert label == record["label"]
  monkeypatch.setattr(stream, "read", None)
  again = held_out(own, image_size=6 + large)
  np.testing.assert_array_equal(again.test_image, loaded.test_image)
  held = datasets.at_hand(OWN, PUBLISHED | {"image_size": 6 + large}, data_dir=own)
  np.testing.assert_array_equal(held.dataset.test_label, loaded.test_label)
  assert capfd.readouterr().err.count("converting") == large


def test_few_test_pictures(own):
  few, whole = held_out(own, test_examples=4), held_out(own)
  np.testing.assert_array_equal(few.test_image, whole.test_image[:4])
  with pytest.raises(UserError, match=r"^data.test_examples=10 is more than the 9 of own_set"):
    held_out(own, test_examples=10)


def test_a_pool_is_told_from_another(own, plain):
  options = {"centre_crop": None, "resized_crop": False}
  first, again = (published(own, **options).digest.tolist() for _ in range(2))
  assert first == again != published(plain, **options).digest.tolist()
  assert published(own, train_split="train+extra", **options).digest.tolist() != first


def test_nothing_is_said_of_groups_of_records(own, capfd, caplog):
  published(own).read(np.arange(3))
  assert caplog.records == [] and capfd.readouterr() == ("", "")
  logging.getLogger("absl").error("something else")
  assert len(caplog.records) == 1


# Pictures that cannot be decoded.


@pytest.fixture
def damaged(tmp_path, monkeypatch):
  """A set with damaged pictures in both splits; (directory, numbers of the damaged records)."""
  monkeypatch.setattr(stream, "_said", set())
  train = many(0, 12)
  train[4]["image"] = train[4]["image"][:60]
  train[7]["image"] = b"no picture"
  test = many(100, 3)
  test[1]["image"] = b""
  make_set(tmp_path, {"train": train, "test": test}, shape=(None, None, 3))
  numbers = []
  for split in ("train", "test"):
    source = sets.source(tfds.builder("own_set", data_dir=tmp_path), split)
    sound = {example["image"] for example in many(0, 12) + many(100, 3)}
    numbers.append([n for n in range(len(source)) if source[n]["image"] not in sound])
  return str(tmp_path), *numbers


def test_a_damaged_picture_is_named(damaged):
  directory, train, test = damaged
  with pytest.raises(UserError) as caught:
    published(directory, image_size=4)
  assert f"'own_set': record {train[0]} of split 'train' cannot be decoded (" in str(caught.value)
  assert str(caught.value).endswith("or set data.corrupt='skip'") and "\n" not in str(caught.value)
  with pytest.raises(UserError, match=rf"record {test[0]} of split 'test' cannot be decoded"):
    held_out(directory, image_size=4)


def test_a_damaged_picture_is_skipped(damaged, monkeypatch, capfd):
  monkeypatch.setattr(stream, "_CHUNK", 5)
  directory, train, test = damaged
  skipping = {"image_size": 4, "corrupt": "skip"}
  pool = published(directory, **skipping)
  found = pool.read(np.arange(12))
  for number in train:
    instead = (number + 1) % 12
    while instead in train:
      instead = (instead + 1) % 12
    np.testing.assert_array_equal(found.image[number], found.image[instead])
    assert found.label[number] == found.label[instead]
  sound = [number for number in range(12) if number not in train]
  assert len(np.unique(found.image[sound].reshape(10, -1), axis=0)) == 10
  loaded = held_out(directory, **skipping)
  np.testing.assert_array_equal(loaded.test_image[test[0]], loaded.test_image[(test[0] + 1) % 3])
  err = capfd.readouterr().err
  assert err.count("\n") == 1  # said once
  assert err.startswith(f"seedlab: own_set: record {train[0]} of split 'train' cannot be decoded")
  monkeypatch.setattr(stream, "_ROW", 1)
  with pytest.raises(UserError, match=rf"none of 1 records in a row can .* record {train[0]} of"):
    pool.read(np.arange(12))


def test_a_record_without_a_label_is_named(tmp_path):
  make_set(
    tmp_path,
    {"train": many(0, 2), "bare": [one(3) | {"label": -1}], "test": many(9, 2)},
    shape=(None, None, 3),
  )
  with pytest.raises(UserError, match=r"record 0 of split 'bare' has no label"):
    published(str(tmp_path), train_split="train+bare")


def test_records_that_cannot_be_read(own, monkeypatch):
  pool = published(own)

  def broken(position):
    raise OSError(5, "Input/output error")

  source = dict(pool.read.args[0].splits)["train"]
  monkeypatch.setattr(type(source), "__getitem__", lambda self, position: broken(position))
  with pytest.raises(
    UserError, match=r"'own_set' cannot be read from .*Errno 5.* if it is damaged"
  ):
    pool.read(np.array([3]))


# Training.


def made(own: str, base=BASE, **sections) -> training.Trainer:
  return training.make_trainer(config(base, **sections), own)


def short(patch) -> None:
  """Segments of at most two steps of five canvases."""
  patch.setattr(sources, "_STREAMED", 2 * 5 * 12 * 12 * 3)


@pytest.fixture(scope="module")
def program(own) -> programs.Program:
  with pytest.MonkeyPatch.context() as patch:
    short(patch)
    return engine.build(made(own), "vmap", 2)


def test_a_run_is_the_same_in_other_segments_lanes_and_threads(program, monkeypatch):
  assert program.trainer.period == 2
  monkeypatch.setenv("SEEDLAB_READER_THREADS", "1")
  pair = engine.train(program, seeds_of(4, 5))
  monkeypatch.setenv("SEEDLAB_READER_THREADS", "4")
  alone = engine.train(program, seeds_of(5), longest=1)
  assert alone.digest[0] == pair.digest[1] != pair.digest[0]
  for name, value in alone.outcome.items():
    np.testing.assert_array_equal(value[0], pair.outcome[name][1])
  assert np.isfinite(pair.outcome["train_loss"]).all() and pair.outcome["train_loss"].std() > 0


def test_a_killed_run_goes_on_to_the_same_bits(program, tmp_path, monkeypatch, capfd):
  whole = engine.train(program, seeds_of(4, 5))
  place = checkpoints.folder(tmp_path)
  place.mkdir()
  saves = checkpoints.Saves(str(place), 1e-9)
  save = checkpoints.save

  def and_stop(*arguments):
    save(*arguments)
    raise KeyboardInterrupt

  with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
    patch.setattr(checkpoints, "save", and_stop)
    engine.train(program, seeds_of(4, 5), saves=saves)
  resumed = engine.train(program, seeds_of(4, 5), saves=saves)
  assert "resumed at step 2 of 6" in capfd.readouterr().err
  assert resumed.digest.tolist() == whole.digest.tolist()


def test_training_pictures_are_measured_as_random_parts(program, own):
  """By hand: crops, flips and normalisation of the first seven, then the two layers."""
  done = engine.train(program, seeds_of(4, 5), keep_params=True)
  keys = keys_of(5)
  index = orders.subset(keys.sample, TRAIN, 13)[:7]
  read = datasets.read(config().data, own).pool.read_canvases(np.asarray(index))
  drawn = streams.for_examples(keys.augment, sources.MEASURED, index)
  crop = jax.jit(crops.random_resized_crop, static_argnums=2)
  image = crop(drawn, crops.Canvas(read.image, read.size), SIDE) / 255
  image = image - np.array([[[[0.485, 0.456, 0.406]]]], np.float32)
  image = np.asarray(image / np.array([[[[0.229, 0.224, 0.225]]]], np.float32))
  flipped = np.asarray(augmentation.flips(drawn))[:, None, None, None]
  image = np.where(flipped, image[:, :, ::-1], image)
  layers = jax.device_get(done.params)
  hidden = image.reshape(7, -1) @ layers["Dense_0"]["kernel"] + layers["Dense_0"]["bias"]
  logits = np.maximum(hidden, 0) @ layers["Dense_1"]["kernel"] + layers["Dense_1"]["bias"]
  label = sources._noisy_labels(0.2, 3, keys, index, read.label)
  wanted = np.log(np.exp(logits).sum(1)) - logits[np.arange(7), label]
  assert done.outcome["train_loss"][1, -1] == pytest.approx(wanted.mean(), rel=1e-4)


def test_a_segment_holds_no_more_than_its_bound(program):
  for first, steps in ((0, 1), (2, 2)):
    fed = program.trainer.feed(seeds_of(1)[0], first, steps)
    assert fed["batches"].image.pixels.nbytes == 2 * 5 * 12 * 12 * 3 < TRAIN * 12 * 12 * 3


STORED = config(
  data={
    "resized_crop": False,
    "centre_crop": None,
    "image_size": None,
    "train_examples": None,
    "copies": None,
    "label_noise": 0.3,
  }
)


def source(directory: str, streamed: bool, world: str) -> tuple[sources.Source, datasets.Dataset]:
  settings = config(STORED, data={"stream": streamed, "world": world, "last_batch": "drop"})
  found = datasets.read(settings.data, directory)
  needed = (settings, found.dataset, None, 3, TRAIN, 5, 3)
  assert (found.pool is not None) == streamed
  return sources.build(*needed, pool=found.pool, plan=(2, 3)), found.dataset


@pytest.mark.parametrize("world", ["real", "ideal"])
def test_a_streamed_set_shows_what_the_decoded_one_does(plain, world, monkeypatch):
  """Pictures, noisy labels and what is measured, without random crops, at the same step."""
  monkeypatch.setattr(sources, "_STREAMED", 2 * 5 * 6 * 6 * 3)
  (ours, _), (theirs, whole) = (source(plain, streamed, world) for streamed in (True, False))
  # What the two worlds have in common: an epoch that is not cut short.
  keys, seeds = keys_of(3), seeds_of(3)[0]
  data = jax.device_put(whole)
  listed = theirs.init(keys, data)
  order = orders.epoch_order(keys.order, 0, TRAIN, "permutation")
  places = jnp.arange(5, dtype=jnp.int32)
  fed = ours.feed(seeds, 0, 2), ours.feed(seeds, 2, 1), ours.feed(seeds, 1, 1)
  for step, segment, first in ((0, 0, 0), (1, 0, 0), (2, 1, 2), (1, 2, 1)):
    held = ours.init(keys, data)
    found = ours.draw(held, keys, data, fed[segment], step, first, places)
    at = order[step * 5 + places] if world == "real" else places
    wanted = theirs.draw(listed, keys, data, None, step, 0, at)
    for ours_, its in zip(found, wanted, strict=True):
      np.testing.assert_array_equal(ours_, its)
  for done, segment in ((2, 0), (3, 1)):
    held = ours.settle(ours.init(keys, data), keys, data, fed[segment], done)
    wanted = theirs.settle(listed, keys, data, None, done)
    seven = jnp.arange(7, dtype=jnp.int32)
    for ours_, its in zip(
      sources.look_up(held, data, seven), sources.look_up(wanted, data, seven), strict=True
    ):
      np.testing.assert_array_equal(ours_, its)


def test_an_incomplete_batch_is_trained_on_as_that_of_the_decoded_set(plain):
  """22 = 4 x 5 + 2; after the fifth step another epoch begins."""
  sections = {
    "data": {"label_noise": 0.0},
    "augment": [],
    "evaluation": {"train": False, "train_examples": None, "train_augmented": False},
    "training": {"steps": 7},
  }
  kernels = []
  for streamed in (True, False):
    sections["data"]["stream"] = streamed
    built = made(plain, STORED, **sections)
    data, keys = jax.device_put(built.load()), keys_of(2)
    state = built.init(keys, data)
    fed = built.feed(seeds_of(2)[0], 0, 7) if streamed else None
    advance = jax.jit(built.advance)
    if streamed:
      state, _ = advance(state, keys, data, fed, 0, 7)
    else:  # which draws an order once a segment
      for first, steps in ((0, 5), (5, 2)):
        state, _ = advance(state, keys, data, None, first, steps)
    kernels.append(state.params["Dense_0"]["kernel"])
  np.testing.assert_allclose(*kernels, rtol=1e-5, atol=1e-7)


def test_batches_are_those_of_the_epochs_order(own, program):
  built = program.trainer
  pool = datasets.read(config().data, own).pool
  keys, seeds = keys_of(3), seeds_of(3)[0]
  listed = np.asarray(orders.subset(keys.sample, TRAIN, 13))
  for number in (1, 2, 4):  # the third of its epoch is incomplete: 13 = 2 x 5 + 3
    fed = built.feed(seeds, number, 1)["batches"]
    order = orders.epoch_order(keys.order, number // 3, 13, "permutation")
    places, mask = map(np.asarray, orders.batch(order, number % 3, 5))
    expected = pool.read_canvases(listed[places])
    np.testing.assert_array_equal(fed.image.pixels[:5], expected.image)
    np.testing.assert_array_equal(fed.image.size[:5], expected.size)
    np.testing.assert_array_equal(fed.index[:5], listed[places])
    np.testing.assert_array_equal(fed.label[:5], expected.label)
    assert mask.sum() == (3 if number == 2 else 5)


# What is refused.


@pytest.mark.parametrize(
  "sections, words",
  [
    ({"data": {"stream": False}}, "data.resized_crop=True is for data.stream=True"),
    ({"data": {"stream": False, "resized_crop": False}}, "data.centre_crop=1.5 is for"),
    (
      {"data": {"stream": False, "resized_crop": False, "centre_crop": None, "corrupt": "skip"}},
      "data.corrupt='skip' is for",
    ),
    ({"data": {"image_size": None}}, "resized_crop=True needs data.image_size, as in"),
    ({"data": {"normalisation": "channels"}}, "'channels' takes the moments .* set 'imagenet'"),
    ({"data": {"centre_crop": 0.9}}, "data.centre_crop=0.9 must be at least 1"),
    ({"data": {"extra": "x.npz"}}, "data.extra needs images at hand"),
    ({"data": {"plain_copy": True}}, "data.plain_copy needs images at hand"),
    ({"training": {"full_batch": True}}, "training.full_batch needs images at hand"),
    ({"evaluation": {"gradient_norm": True}}, "evaluation.gradient_norm needs images at hand"),
    ({"evaluation": {"slices": 5}}, "evaluation.slices needs images at hand"),
  ],
)
def test_what_cannot_be_streamed_is_refused(own, sections, words):
  with pytest.raises(UserError, match=words) as caught:
    made(own, **sections)
  assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["digits", "glyphs", "imagenet_dogbird"])
def test_other_data_are_not_streamed(name):
  message = refusal(name, None, stream=True)
  assert message.startswith(f"data.stream=True is not read by data.name={name!r}, but by tfds;")


def test_too_many_pictures_to_measure_on_are_refused(own, monkeypatch):
  monkeypatch.setattr(sources, "_LARGEST_SHARE", 7 * 12 * 12 * 3)
  made(own)
  with pytest.raises(UserError, match=r"measures 8 examples of own_set, .*train_examples lower"):
    made(own, evaluation={"train_examples": 8})


@pytest.mark.parametrize("threads", ["0", "-1", "many", "1.5"])
def test_a_wrong_number_of_threads_is_refused(monkeypatch, threads):
  monkeypatch.setenv("SEEDLAB_READER_THREADS", threads)
  with pytest.raises(UserError, match=f"SEEDLAB_READER_THREADS='{threads}' must be a whole number"):
    stream.threads()


def test_grey_pictures_have_no_moments_of_imagenet(tmp_path):
  examples = [{"image": encoded(picture(i)[..., :1]), "label": 0} for i in range(3)]
  make_set(tmp_path, {"train": examples, "test": examples}, shape=(4, 6, 1))
  with pytest.raises(UserError, match="'imagenet' is for three channels, and own_set has 1"):
    made(str(tmp_path))


# The real thing.


def test_cifar10_streamed_is_cifar10(data_dir):
  pool = datasets.build("cifar10", {"stream": True}, data_dir=data_dir).pool
  # What `load` keeps, up to the first thousand.
  builder = catalogue.find("cifar10", data_dir, download=False)
  image, label = next(sets._decode(sets.ImageSet(builder, "cifar10", None), "train"))
  positions = np.random.default_rng(0).permutation(1000)
  found = pool.read(positions)
  np.testing.assert_array_equal(found.image, image[positions])
  np.testing.assert_array_equal(found.label, label[positions])
  assert (found.size == 32).all() and pool.count == 50_000
