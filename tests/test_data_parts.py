"""Data sets, worlds and augmentations as parts: found by name, every option read, own arrays."""

import functools
import inspect
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_augmentation import images_of, keys_of
from test_data import encoded, make_set, picture
from test_data import user_cache as user_cache
from test_pools import archives as archives
from test_pools import extra_archive
from test_pools import imagenet as imagenet
from test_worlds import sample_key

from seedlab import data, parts
from seedlab.data import augmentation, stream
from seedlab.data.fields import Field
from seedlab.errors import UserError

FACTS = {"name", "data_dir", "download", "test_examples"}


def options_of(function) -> dict[str, inspect.Parameter]:
  """The keyword arguments that a config may set."""
  parameters = inspect.signature(function).parameters.values()
  return {p.name: p for p in parameters if p.default is not inspect.Parameter.empty}


def everything_of(examples: data.Examples) -> list[bytes]:
  """All that can be seen of examples in files."""
  seen = [repr(examples.class_names).encode()]
  seen += [f"{array.shape}".encode() + array.tobytes() for array in examples.dataset]
  if examples.pool:
    read = examples.pool.read_canvases or examples.pool.read
    seen += [array.tobytes() for array in read(np.arange(2))]
  return seen


def test_each_file_offers_its_functions():
  assert {*parts.names("data")} == {
    "cifar5m", "clicks", "criteo", "digits", "gaussians", "glyphs", "imagenet_dogbird", "movielens",
    "tfds",
  }  # fmt: skip
  for name, module in parts.names("data").items():
    function = parts.find("data", name)
    assert function.__name__ == name and function.__module__ == module
    for parameter in inspect.signature(function).parameters.values():
      assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
      assert parameter.annotation is not inspect.Parameter.empty
      assert (parameter.name in FACTS) == (parameter.default is inspect.Parameter.empty)
    assert inspect.getmodule(function).__doc__
  assert parts.find("data", "movielens/100k-ratings:0.1.1").__name__ == "movielens"
  assert (
    parts.find("data", "cifar10:3.0.2").__name__ == parts.find("data", "mnist").__name__ == "tfds"
  )


def test_finding_files_starts_no_jax():
  code = (
    "import sys\n"
    "from seedlab import data, parts\n"
    "for name in ('digits', 'cifar5m', 'imagenet_dogbird', 'criteo', 'movielens/x', 'cifar10'):\n"
    "  parts.find('data', name)\n"
    "assert 'jax' not in sys.modules and 'tensorflow_datasets' not in sys.modules\n"
  )
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
  assert done.returncode == 0, done.stderr


# Every option is read: in its context, another value gives other arrays.

WORLDS = {
  "glyphs": {
    "image_size": 9, "ambiguity": 1.0, "rotation": 90.0, "shift": 0.4, "jitter": 0.3,
    "clutter": 0.0, "texture": 80.0, "contrast": 110.0, "blur": 3.0, "noise": 0.0,
  },
  "gaussians": {"image_size": 9, "distance": 4.0},
  "clicks": {
    "users": 7, "items": 7, "rank": 3, "exponent": 0.0, "interaction": 4.0, "drift": 2.0,
    "rate": 0.9, "period": 168,
  },
}  # fmt: skip


def text_of(function, *arguments) -> str:
  """Of its program, constants and all."""
  return jax.jit(function).lower(*arguments).as_text()


@pytest.mark.parametrize("name", WORLDS)
def test_every_option_of_a_world_changes_what_samples_it(name):
  assert WORLDS[name].keys() == options_of(parts.find("data", name)).keys()
  usual = {"image_size": 8} if "image_size" in WORLDS[name] else {"users": 20, "items": 20}

  def text(options):
    return text_of(data.build(name, options).world.sample, sample_key(0), jnp.arange(3))

  base = text(usual)
  assert text(usual) == base
  for option, value in WORLDS[name].items():
    assert text(usual | {option: value}) != base, option


def changes(name: str, directory: str | None, contexts: dict, seen_below: set = frozenset()):
  """{option: (context, its value)}: with it all that is seen differs from the context alone."""
  assert {*contexts, *seen_below} == options_of(parts.find("data", name)).keys()
  for option, (context, value) in contexts.items():
    with_it, without = (
      everything_of(data.build(name, options, data_dir=directory))
      for options in (context | {option: value}, context)
    )
    assert with_it != without, option


def test_every_option_of_a_file_changes_what_is_read(archives, imagenet):
  changes("digits", None, {"image_size": ({}, 4)})
  changes("cifar5m", str(archives.parent), {"image_size": ({}, 16)})
  assert not options_of(parts.find("data", "criteo"))
  assert {*options_of(parts.find("data", "movielens/100k-ratings"))} == {
    "test_by"
  }  # see test_movielens
  sized = {"image_size": 4}
  np.savez(imagenet / "more.npz", X=extra_archive(1)["X"], Y=[0, 1, 0])
  contexts = {"extra": (sized, "more.npz"), "image_size": (sized, 5)}
  changes("imagenet_dogbird", str(imagenet), contexts, {"train_split"})
  other = sized | {"train_split": "train+validation"}
  with pytest.raises(UserError, match="holds 'validation', which is the test set"):
    everything_of(data.build("imagenet_dogbird", other, data_dir=str(imagenet)))


def test_every_option_of_a_set_of_tensorflow_datasets_changes_what_is_read(tmp_path, monkeypatch):
  monkeypatch.setattr(stream, "_said", set())
  examples = [{"image": encoded(picture(i, 6, 9)), "label": i % 3} for i in range(9)]
  make_set(
    tmp_path, {"train": examples[:4], "more": examples[4:6], "test": examples[6:]}, shape=(6, 9, 3)
  )
  np.savez(tmp_path / "more.npz", **extra_archive(1, height=6, width=9))
  streamed = {"stream": True, "image_size": 3}
  contexts = {
    "train_split": ({}, "train+more"),
    "extra": ({}, "more.npz"),
    "image_size": ({}, 3),
    "stream": ({}, True),
    "resized_crop": (streamed, True),
    "centre_crop": (streamed, 1.4),
  }
  changes("own_set", str(tmp_path), contexts, {"corrupt"})
  examples[6]["image"] = b"no image"
  broken = tmp_path / "broken"
  make_set(broken, {"train": examples[:4], "test": examples[6:]}, shape=(6, 9, 3))
  with pytest.raises(UserError, match="cannot be decoded"):
    everything_of(data.build("own_set", streamed, data_dir=str(broken)))
  read = data.build("own_set", streamed | {"corrupt": "skip"}, data_dir=str(broken))
  assert len(read.dataset.test_label) == 3


AUGMENTATIONS = {
  "crop": {"padding": ({"padding": 2}, 3), "fill": ({"padding": 2}, "black")},
  "flip": {},
  "cutout": {"size": ({"size": 3}, 4)},
}


def test_every_option_of_an_augmentation_changes_its_program():
  assert {*augmentation.__all__} == AUGMENTATIONS.keys()
  keys, images = keys_of(2, 0, list(range(10))), images_of(10)
  black = jnp.array([-1.0, -2.0, -3.0])

  def text(function, options):
    return text_of(functools.partial(function, **options), keys, images, black)

  for name, contexts in AUGMENTATIONS.items():
    function = getattr(augmentation, name)
    assert [*inspect.signature(function).parameters][:3] == ["keys", "images", "black"]
    assert contexts.keys() == options_of(function).keys()
    for option, (context, value) in contexts.items():
      assert text(function, context | {option: value}) != text(function, context)


# At hand or not.


def test_what_is_at_hand(tmp_path, archives):
  assert data.at_hand("cifar10", data_dir=str(tmp_path)) is None
  assert data.at_hand("criteo", data_dir=str(tmp_path)) is None
  assert data.at_hand("cifar5m", data_dir=str(archives.parent)).class_names[0] == "airplane"
  (archives / "part3.npz").unlink()
  assert data.at_hand("cifar5m", data_dir=str(archives.parent)) is None
  assert len(data.at_hand("digits", test_examples=7).dataset.test_label) == 7


def test_a_world_shows_what_was_drawn_and_draws_nothing(monkeypatch):
  options = {"distance": 3}
  assert data.at_hand("gaussians", options).class_names == ("minus", "plus")
  assert not len(data.at_hand("gaussians", options, test_examples=9).dataset.test_label)
  drawn = data.build("gaussians", options, test_examples=9).dataset
  monkeypatch.setattr(jax, "jit", None)
  kept = data.at_hand("gaussians", {"distance": 3.0}, test_examples=9).dataset
  for ours, theirs in zip(kept, drawn, strict=True):
    np.testing.assert_array_equal(ours, theirs)
  for options, count in (({"distance": 3.1}, 9), ({"distance": 3}, 8), ({}, 9)):
    assert not len(data.at_hand("gaussians", options, test_examples=count).dataset.test_label)


# Arrays of a user's own.

RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.integers(0, 256, (9, 4, 5, 3), np.uint8), np.arange(9) % 3
ROWS = RNG.integers(0, 6, (9, 2))


def test_own_images():
  made = data.as_examples(((IMAGES, LABELS), (IMAGES[:2], LABELS[:2])), "m:f")
  assert made.class_names == ("0", "1", "2") and made.fields == () and made.world is None
  np.testing.assert_array_equal(made.dataset.train_image, IMAGES)
  np.testing.assert_allclose(made.dataset.mean, IMAGES.mean((0, 1, 2)), rtol=1e-6)
  assert made.dataset.train_label.dtype == made.dataset.test_label.dtype == np.int32
  assert data.as_examples(made, "m:f") is made
  grey = IMAGES[..., 0]
  grey = data.as_examples({"train": (grey, LABELS), "test": (grey, LABELS)}, "m:f")
  assert grey.dataset.test_image.shape == (9, 4, 5, 1) and grey.dataset.mean.shape == (1,)
  few = data.first_to_test(made, "m:f", 1)
  assert len(few.dataset.test_label) == 1 and len(few.dataset.train_label) == 9
  with pytest.raises(UserError, match=r"^data\.test_examples=3 is more than the 2 of m:f; lower"):
    _ = data.first_to_test(made, "m:f", 3).dataset


def test_own_rows():
  made = data.as_examples(((ROWS, LABELS), (ROWS[:2], LABELS[:2])), "m:f")
  assert made.fields == tuple(Field(f"column_{i}", ROWS[:, i].max() + 1) for i in range(2))
  assert made.dataset.train_image.dtype == np.int32 and made.dataset.mean.shape == (0,)
  fields = (Field("age", 0), Field("city", 9))
  made = data.as_examples(
    {"train": (ROWS - 1, LABELS), "test": (ROWS, LABELS), "fields": fields, "class_names": "abc"},
    "m:f",
  )
  assert made.fields == fields and made.class_names == ("a", "b", "c")


GOOD = (IMAGES, LABELS)


@pytest.mark.parametrize(
  ("value", "says"),
  [
    (None, r"returned NoneType; it must return \(\(images, labels\), \(images, labels\)\)"),
    (GOOD, r"returned tuple; it must return"),
    ((GOOD, GOOD, GOOD), r"returned tuple; it must return"),
    ({"train": GOOD}, r"returned a dict of 'train'; it must have 'train' and 'test'"),
    ({"train": GOOD, "test": GOOD, "names": "abc"}, r"a dict of 'train', 'test', 'names'; it must"),
    ((GOOD, (IMAGES[:2], LABELS)), r"has 2 examples and 9 labels to test with; each needs one"),
    ((GOOD, (IMAGES[:0], LABELS[:0])), r"has 0 examples and 0 labels to test with; .* be some"),
    (((IMAGES / 255, LABELS), GOOD), r"examples float64\[9, 4, 5, 3\] to train with; images are"),
    (((IMAGES, LABELS / 1.0), GOOD), r"labels float64\[9\] to train with; they must be integers"),
    (((IMAGES, LABELS[:, None]), GOOD), r"labels int64\[9, 1\] to train with; they must be"),
    (((IMAGES, LABELS - 1), GOOD), r"has the label -1 to train with; classes are counted from 0"),
    ((GOOD, (IMAGES[:, :3], LABELS)), r"uint8\[9, 4, 5, 3\] .* and uint8\[9, 3, 5, 3\] to test"),
    ((GOOD, (ROWS, LABELS)), r"examples .* to train with and int32\[9, 2\] to test with; all but"),
    (((ROWS - 9, LABELS), (ROWS, LABELS)), r"rows with integers below 0 and no 'fields'"),
    (((ROWS + 2**40, LABELS), (ROWS, LABELS)), r"an integer that 32 bits do not hold"),
    ({"train": GOOD, "test": GOOD, "class_names": ["a"]}, r"labels up to 2 and 1 class_names"),
    (
      {"train": (ROWS, LABELS), "test": (ROWS, LABELS), "fields": (Field("a", 9),)},
      r"has fields of 1 columns, and its rows have 2",
    ),
  ],
)
def test_own_arrays_that_cannot_be_data(value, says):
  with pytest.raises(UserError, match=rf"^data\.name='m:f' .*{says}") as caught:
    data.as_examples(value, "m:f")
  assert "\n" not in str(caught.value)
