"""Worlds: the same bytes everywhere, the distributions they claim, and what they refuse."""

import functools
import hashlib
import inspect
import io
import itertools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from seedlab import data, figures, streams
from seedlab.data import glyphs as drawing
from seedlab.data import worlds
from seedlab.errors import UserError

SIDE, COUNT = 16, 400
WORLDS = ("glyphs", "gaussians", "clicks")
glyph_labels = jax.jit(drawing.glyph_labels, static_argnums=2)


def sample_key(seed: int) -> jax.Array:
  return streams.derive(jnp.full(len(streams.STREAMS), seed, jnp.uint32)).sample


def world_of(name: str, **options: float) -> data.World:
  return data.build(name, options).world


def glyphs(first: int = 0, **kwargs: float) -> tuple[np.ndarray, np.ndarray]:
  """COUNT samples, drawn operation by operation.

  Compiled as a whole, each choice of parameters would take a second. Nothing is
  fused or contracted here, so no bit can rest on XLA's doing so.
  """
  world = world_of("glyphs", image_size=SIDE, **kwargs)
  return tuple(map(np.asarray, world.sample(sample_key(0), first + jnp.arange(COUNT))))


@functools.cache
def gaussians(side: int, count: int, distance: float) -> tuple[np.ndarray, np.ndarray]:
  world = world_of("gaussians", image_size=side, distance=distance)
  return tuple(map(np.asarray, jax.jit(world.sample)(sample_key(0), jnp.arange(count))))


@pytest.mark.parametrize("name", WORLDS)
def test_the_same_bytes_in_every_batch_lane_loop_and_program(name):
  world = world_of(name, **({} if name == "clicks" else {"image_size": SIDE}))
  keys = jax.vmap(jax.random.fold_in, (None, 0))(sample_key(3), jnp.arange(3))
  numbers = np.array([5, 70000, 0, 2**31 - 1, 17, 5, 9], np.int32)
  images, labels = jax.jit(world.sample)(keys[1], numbers)
  dtype = jnp.int32 if name == "clicks" else jnp.uint8
  assert images.shape == (7, *world.image_shape) and images.dtype == dtype
  assert labels.shape == (7,) and labels.dtype == jnp.int32
  assert (images[0] == images[5]).all() and not (images[0] == images[4]).all()

  def equal(other_images, other_labels, where):
    np.testing.assert_array_equal(other_images, images[where])
    np.testing.assert_array_equal(other_labels, labels[where])

  equal(*jax.jit(world.sample)(keys[1], numbers[4:5].astype(np.uint32)), slice(4, 5))
  lanes = jax.jit(jax.vmap(world.sample))(keys, numbers[np.array([[0, 1], [2, 3], [4, 4]])])
  equal(*(part[1] for part in lanes), slice(2, 4))

  @jax.jit
  def loop(key, numbers, steps):
    """Two samples a step, and arithmetic on them for XLA to fuse with the drawing."""

    def body(step, carry):
      pixels, seen, mean = carry
      images, labels = world.sample(key, jax.lax.dynamic_slice(numbers, (2 * step,), (2,)))
      pixels = jax.lax.dynamic_update_slice_in_dim(pixels, images, 2 * step, 0)
      mean = mean + (images.astype(jnp.float32) / 255).mean()
      return pixels, jax.lax.dynamic_update_slice(seen, labels, (2 * step,)), mean

    empty = jnp.zeros((6, *world.image_shape), dtype), jnp.zeros(6, jnp.int32), jnp.float32(0)
    return jax.lax.fori_loop(0, steps, body, empty)

  equal(*loop(keys[1], numbers[:6], 3)[:2], slice(0, 6))


@pytest.mark.slow
def test_operation_by_operation_draws_the_same_glyphs():
  world = world_of("glyphs", image_size=SIDE)
  images, labels = jax.jit(world.sample)(sample_key(0), jnp.arange(COUNT))
  one_by_one = glyphs()
  np.testing.assert_array_equal(one_by_one[0], images)
  np.testing.assert_array_equal(one_by_one[1], labels)


# Whoever changes these changes every training in an Ideal World: nothing but a decision to do so is
# a reason. It is all integer arithmetic: another device, version or lane is none.
GOLDEN = {  # the examples' SHA-256 and the labels of sixteen samples of two seeds
  "glyphs": ("318251dea8460236", ["3425326405565318", "3095763364554001"]),
  "gaussians": ("4e86f23c9ad34abc", ["1011110011111001", "0011011001010011"]),
  "clicks": ("1d2c9829e622895f", ["0100001000100000", "0001000000000010"]),
}


@pytest.mark.parametrize("name", WORLDS)
def test_golden_samples(name):
  world = world_of(name)
  digest, labels = hashlib.sha256(), []
  for seed in (0, 2**32 - 1):
    images, drawn_labels = jax.jit(world.sample)(sample_key(seed), jnp.arange(16))
    digest.update(np.asarray(images).tobytes())
    labels.append("".join(map(str, drawn_labels.tolist())))
  assert (digest.hexdigest()[:16], labels) == GOLDEN[name]


def test_no_two_glyphs_are_equal_and_classes_are_balanced():
  images, _ = jax.jit(world_of("glyphs", image_size=SIDE).sample)(sample_key(0), jnp.arange(2000))
  assert len({image.tobytes() for image in np.asarray(images)}) == len(images) == 2000
  labels, _ = glyph_labels(sample_key(1), jnp.arange(20000), 0.3)
  counts = np.bincount(labels[:5000], minlength=10)
  assert ((counts - 500) ** 2 / 500).sum() < 27.9  # 0.999 quantile of chi-square, 9 degrees


def test_the_ambiguous_share_is_half_way_shapes_that_do_not_know_their_label():
  labels, ambiguous = glyph_labels(sample_key(0), jnp.arange(20000), 0.3)
  assert abs(ambiguous.mean() - 0.3) < 3 * np.sqrt(0.3 * 0.7 / 20000)
  images, drawn_labels = glyphs(ambiguity=0.3)
  np.testing.assert_array_equal(labels[:COUNT], drawn_labels)

  # The same words but for the label: a picture differs unless it is half-way between the two.
  values = inspect.signature(drawing.glyphs).parameters
  values = {name: values[name].default for name in drawing.RANGES} | {"ambiguity": 0.3}
  words = worlds.words(sample_key(0), jnp.arange(COUNT), drawing._RESERVED + SIDE * SIDE)
  assert (words[:, 0] % 10 == labels[:COUNT]).all()
  for other, equal in ((labels ^ 1, ambiguous), ((labels + 2) % 10, jnp.zeros(20000, bool))):
    relabelled = words.at[:, 0].set(other[:COUNT].astype(jnp.uint32))
    pictures = jax.vmap(functools.partial(drawing._image, SIDE, values))(relabelled)
    same = (np.asarray(pictures) == images).all((1, 2, 3))
    np.testing.assert_array_equal(same, equal[:COUNT])
  shapes, _ = drawing._shapes()
  away = [np.abs(shapes[10:] - shapes[one:10:2]) for one in (0, 1)]
  assert np.abs(away[0] - away[1]).max() <= 1 < away[0].max()


@jax.jit
def covered(curves, place, width, soft):
  return drawing._coverage(drawing._segments(curves), place, width, soft)


def test_coverage_is_that_of_the_distance_in_floating_point():
  """Integers against float64: a pen along three polylines, on each of two grids."""
  rng = np.random.default_rng(0)
  curves = rng.integers(-900, 900, (3, 3, 2))
  t = np.linspace(0, 1, 5)[:, None, None]
  points = np.moveaxis(
    (1 - t) ** 2 * curves[:, 0] + 2 * t * (1 - t) * curves[:, 1] + t**2 * curves[:, 2], 0, 1
  )
  for side in (16, 27):
    place = (2 * np.arange(side) + 1 - side) * 1024 / side
    pixels = np.stack(np.meshgrid(place, place), -1)
    distance = np.full((side, side), np.inf)
    for line in points:
      for a, b in itertools.pairwise(line):
        share = np.clip(((pixels - a) @ (b - a)) / ((b - a) @ (b - a)), 0, 1)
        foot = a + share[..., None] * (b - a)
        distance = np.minimum(distance, np.linalg.norm(pixels - foot, axis=-1))
    inner, outer = (100 - 70) ** 2, (100 + 70) ** 2
    expected = 256 * np.clip((outer - distance**2) / (outer - inner), 0, 1)
    integers = covered(curves.astype(np.int32), np.floor(place).astype(np.int32), 100, 70)
    assert 0.1 < (expected > 0).mean() < 0.9
    # A unit of distance is up to 3.1 of 256, and integers are a few units off.
    np.testing.assert_allclose(integers, expected, atol=12)
    assert np.abs(integers - expected).mean() < 1.5


def test_coverage_is_integers_in_all_but_its_types():
  """float32 against int64: where one operation rounded, its bits could depend on fusion."""
  rng = np.random.default_rng(1)
  curves = rng.integers(-2500, 2500, (60, 3, 2)).astype(np.int32)
  place = np.arange(-1020, 1024, 8, dtype=np.int32)
  for k in range(0, 60, 3):
    width, soft = rng.integers(20, 300, 2)
    segments = drawing._segments(curves[k : k + 3])
    x0, y0, along, down, half = (np.asarray(part, np.int64)[:, None, None] for part in segments)
    x, y = place[None, None, :] - x0, place[None, :, None] - y0
    t = np.maximum(np.abs((x * along >> 12) + (y * down >> 12)) - half, 0)
    n = (x * down >> 12) + (-y * along >> 12)
    inner, outer = max(width - soft, 0) ** 2, (width + soft) ** 2
    inside = np.clip(outer - (t**2 + n**2).min(0), 0, outer - inner)
    expected = (inside * (2**30 // (outer - inner)) + 2**21) >> 22
    integers = covered(curves[k : k + 3], place, np.int32(width), np.int32(soft))
    np.testing.assert_array_equal(integers, expected)
    assert 0 < expected.mean() < 256 and expected.max() <= 256


def test_the_root_is_exact():
  near = np.arange(1, 20000, 7, dtype=np.int32)
  squares = np.concatenate([near**2 - 1, near**2, near**2 + 1, [0, 2**29 + 1]]).astype(np.int32)
  np.testing.assert_array_equal(drawing._root(jnp.asarray(squares)), np.sqrt(squares).astype(int))


def test_a_curve_that_is_one_point_is_a_dot():
  dot, place = np.full((1, 3, 2), 32, np.int32), np.arange(-992, 1024, 64, dtype=np.int32)
  expected = np.hypot(place[None] - 32, place[:, None] - 32) < 132
  np.testing.assert_array_equal(covered(dot, place, 100, 32) > 0, expected)


def roughness(images: np.ndarray) -> float:
  """Mean squared difference of neighbours in a row."""
  return float((np.diff(images.astype(float), axis=2) ** 2).mean())


PLAIN = dict.fromkeys(("ambiguity", "shift", "jitter", "clutter", "texture", "blur", "noise"), 0.0)
PLAIN["rotation"] = 0.0


def test_parameters_move_what_they_say():
  plain, labels = glyphs(**PLAIN)
  plain = plain.astype(float)

  def changed(**kwargs):
    """The words of a sample stay the same, so pictures differ by the parameter alone."""
    return glyphs(**{**PLAIN, **kwargs})[0].astype(float)

  noise, middle = changed(noise=10) - plain, (plain > 40) & (plain < 215)
  assert abs(noise[middle].std() - 10) < 0.2 and abs(noise[middle].mean()) < 0.1
  assert roughness(changed(noise=10)) > roughness(plain) + 150  # 2 x 10^2 but for clipping
  assert roughness(changed(blur=3)) < 0.8 * roughness(plain)
  assert np.ptp(changed(texture=60)[:, 0], 1).mean() > np.ptp(plain[:, 0], 1).mean() + 10
  strokes = [np.any(changed(clutter=c) != plain, (1, 2, 3)).mean() for c in (1, 3)]
  assert 0.5 < strokes[0] < 1 - (2 / 3) ** 3 + 0.07 and strokes[1] > 0.95
  for name, value in (("rotation", 90), ("shift", 0.3), ("jitter", 0.3)):
    # Less of a class is common to its pictures.
    assert common(changed(**{name: value}), labels) < 0.8 * common(plain, labels), name
  assert np.abs(lightness_gap(changed(contrast=112))).min() > 80  # clipping takes some
  assert np.abs(lightness_gap(plain)).min() < 60


def common(images: np.ndarray, labels: np.ndarray) -> float:
  """Variance over pixels of the mean shape of one class: where its pictures leave their ground."""
  shapes = np.abs(images - images[:, :1, :1]).sum(-1) > 60
  return float(np.mean([shapes[labels == c].mean(0).var() for c in range(10)]))


def lightness_gap(images: np.ndarray) -> np.ndarray:
  """Of each picture, the difference to its corner that is largest in size."""
  light = images.mean(-1).reshape(len(images), -1)
  far = light - light[:, :1]
  return np.take_along_axis(far, np.abs(far).argmax(1)[:, None], 1)[:, 0]


@pytest.mark.parametrize(("side", "bound"), [(8, 1), (21, 0)])
def test_the_smallest_side_with_every_extreme_and_an_odd_one(side, bound):
  extreme = {name: row[bound] for name, row in drawing.RANGES.items()}
  world = world_of("glyphs", image_size=side, **extreme)
  images, _ = jax.jit(world.sample)(sample_key(0), jnp.arange(50))
  assert images.shape == (50, side, side, 3) and images.std((1, 2)).max(1).min() > 5
  assert len({image.tobytes() for image in np.asarray(images)}) == 50


def optimal_labels(images: np.ndarray) -> np.ndarray:
  """The sign of the correlation with the quadrants; a sum of zero counts as half wrong."""
  side = images.shape[1]
  half = np.where(np.arange(side) * 2 < side, 1, -1)
  score = ((images[..., 0].astype(int) - 128) * np.outer(half, half)).sum((1, 2))
  return np.where(score == 0, 0.5, score > 0)


@pytest.mark.parametrize(("side", "distance"), [(8, 2.0), (9, 0.7)])
def test_the_optimal_rule_has_the_bayes_error(side, distance):
  count = 40000
  images, labels = gaussians(side, count, distance)
  error = np.abs(optimal_labels(images) - labels).mean()

  def within(distance):
    bayes = world_of("gaussians", image_size=side, distance=distance).bayes_error
    return abs(error - bayes) < 3 * np.sqrt(bayes * (1 - bayes) / count)

  assert within(distance) and not within(1.1 * distance) and not within(0.9 * distance)
  assert images.min() > 0 and images.max() < 255  # nothing is clipped


def test_gaussian_pixels_have_the_claimed_moments():
  images, labels = gaussians(8, 40000, 2.0)
  half = np.where(np.arange(8) * 2 < 8, 1, -1)
  signs = np.outer(half, half)[None] * (2 * labels - 1)[:, None, None]
  away = (images[..., 0].astype(float) - 128) * signs
  count = away.size
  variance = 16**2 + 1 / 12
  assert abs(away.mean() - np.sqrt(variance) / 8) < 4 * np.sqrt(variance / count)
  assert abs(away.var() / variance - 1) < 4 * np.sqrt(2 / count)
  assert abs(((away - away.mean()) ** 4).mean() / variance**2 - 3) < 4 * np.sqrt(24 / count)
  correlation = np.corrcoef(away.reshape(-1, 64).T) - np.eye(64)
  assert np.abs(correlation).max() < 5 / np.sqrt(len(images))
  assert world_of("gaussians", distance=2).bayes_error == pytest.approx(
    0.15865525393145707, rel=1e-12
  )


@pytest.mark.parametrize(
  ("name", "size", "kwargs", "says"),
  [
    ("clicks", 8, {}, r"image_size=8 is not read by data\.name='clicks', but by .*glyphs"),
    ("clicks", None, {"users": 2.5}, r"data\.users=2\.5 must be of type int"),
    ("clicks", None, {"users": 0}, r"users=0 must be a whole number in \[1, 100000\]"),
    ("clicks", None, {"users": float("nan")}, r"data\.users=nan must be of type int"),
    ("clicks", None, {"rate": 0.0}, r"rate=0\.0 must be a number in \[0\.001, 0\.999\]"),
    ("clicks", None, {"user": 9}, r"data\.user=9 is not an option of .*; did you mean 'users'"),
    ("glyphs", 7, {}, r"data\.image_size=7 must lie in \[8, 256\]"),
    ("gaussians", 257, {}, r"data\.image_size=257"),
    ("glyphs", None, {"noize": 1.0}, r"noize=1\.0 .*; did you mean 'noise'.*ambiguity, rot"),
    ("gaussians", None, {"noise": 1.0}, r"noise=1\.0 is not read .*'gaussians', but by glyphs;"),
    ("glyphs", None, {"noise": -1.0}, r"data\.noise=-1.0 .* \[0, 100\]"),
    ("glyphs", None, {"ambiguity": 1.01}, r"ambiguity=1.01"),
    ("glyphs", None, {"blur": float("nan")}, r"blur=nan"),
    ("glyphs", None, {"clutter": True}, r"data\.clutter=True must be of type float"),
    ("gaussians", None, {"distance": 11}, r"distance=11\.0 must be a number in \[0, 10\]"),
    ("gaussians", None, {"distance": "far"}, r"data\.distance='far' must be of type float"),
  ],
)
def test_what_is_refused(name, size, kwargs, says):
  with pytest.raises(UserError, match=says):
    data.build(name, kwargs | ({"image_size": size} if size else {}))


@pytest.mark.parametrize("name", WORLDS)
def test_other_keys_are_refused(name):
  sample = world_of(name).sample
  for key in (jax.random.PRNGKey(0), jax.random.key(0, impl="rbg")):
    with pytest.raises(TypeError, match="threefry2x32"):
      sample(key, jnp.arange(2))


def test_choosing_a_world_starts_no_backend():
  code = (
    "from jax._src import xla_bridge; from seedlab import data;"
    f" [data.build(name).world for name in {WORLDS}];"
    " assert not xla_bridge.backends_are_initialized()"
  )
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
  assert done.returncode == 0, done.stderr


def test_a_contact_sheet_shows_each_picture_in_its_row():
  """Each pixel is a square of equal side; a class with too few pictures leaves white."""
  images = np.stack([np.full((8, 8, 1), grey, np.uint8) for grey in (10, 20, 30, 40)])
  images[2, 0, 1] = 77
  figure = figures.contact_sheet(images, np.array([1, 0, 1, 1]), ["a", "b"], 2)
  file = io.BytesIO()
  figure.savefig(file, format="png")
  canvas = np.asarray(Image.open(file))
  width = canvas.shape[1]
  side = (width - 72) // 17  # two pictures of eight pixels and a gap of one
  sheet = canvas[:, 72:, 0].reshape(17, side, 17, side)
  assert (sheet == sheet[:, :1, :, :1]).all()
  expected = np.full((17, 17), 255)
  expected[:8, :8], expected[9:, :8], expected[9:, 9:] = 20, 10, 30
  expected[9, 10] = 77
  np.testing.assert_array_equal(sheet[:, 0, :, 0], expected)
  labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
  assert labels == ["a", "b"]


@pytest.mark.slow
def test_the_script_writes_a_picture(tmp_path):
  root = __file__.rsplit("/tests/", 1)[0]
  command = [sys.executable, f"{root}/scripts/glyphs.py", "--image_size=8", "--per_class=1"]
  done = subprocess.run([*command, f"--out={tmp_path}/a.png"], capture_output=True, text=True)
  assert done.returncode == 0 and (tmp_path / "a.png").read_bytes()[1:4] == b"PNG", done.stderr
  for flag, says in (("--world_kwargs={", "is not JSON"), ("--world_kwargs=[]", "an object")):
    done = subprocess.run([*command, "--out=b.png", flag], capture_output=True, text=True)
    assert done.returncode == 2 and says in done.stderr and done.stderr.count("\n") == 1
