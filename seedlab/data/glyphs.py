"""Glyphs: ten classes of drawn shapes in colour, a world of images that never ends."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seedlab.data import worlds
from seedlab.data.examples import Examples, World

__all__ = ("glyphs",)

# Of each option: least and largest value.
RANGES = {
  "ambiguity": (0.0, 1.0),
  "rotation": (0.0, 180.0),
  "shift": (0.0, 0.5),
  "jitter": (0.0, 0.5),
  "clutter": (0.0, 3.0),
  "texture": (0.0, 100.0),
  "contrast": (0.0, 112.0),
  "blur": (0.0, 3.0),
  "noise": (0.0, 100.0),
}


def glyphs(
  *,
  test_examples: int | None,
  download: bool,
  image_size: int | None = None,
  ambiguity: float = 0.05,
  rotation: float = 25.0,
  shift: float = 0.15,
  jitter: float = 0.1,
  clutter: float = 2.0,
  texture: float = 40.0,
  contrast: float = 40.0,
  blur: float = 1.0,
  noise: float = 16.0,
) -> Examples:
  """A world of images uint8[image_size, image_size, 3] in ten classes.

  A glyph's size, proportions, slant, thickness and colours vary whatever the options are.

  Args:
    test_examples: how many are drawn to test on; None: 10,000.
    download: False draws no test set, and shows one that a training has left in the cache.
    image_size: pixels a side, 8 to 256; None: 32.
    ambiguity: share of half-way shapes, which are labelled as either of two classes at random.
    rotation: degrees either way, at most.
    shift: of the side, either way, at most.
    jitter: of the glyph's half width, each control point either way, at most.
    clutter: mean number of distracting strokes, of at most 3.
    texture: grey levels either way, at most, of the stripes.
    contrast: least difference of lightness, glyph to ground, in grey levels.
    blur: how far edges soften either way at most, in 1/32 of the side.
    noise: standard deviation of a pixel, in grey levels.

  Raises:
    UserError: an option out of its range.
  """
  options = worlds.checked(
    RANGES,
    ambiguity=ambiguity,
    rotation=rotation,
    shift=shift,
    jitter=jitter,
    clutter=clutter,
    texture=texture,
    contrast=contrast,
    blur=blur,
    noise=noise,
  )
  side = worlds.side(image_size, 32)

  def sample(key, index):
    words = worlds.words(key, index, _RESERVED + side * side)
    images = jax.vmap(functools.partial(_image, side, options))(words)
    return images, _label(_named(words))

  world = World(sample, (side, side, 3), tuple(_CURVES), None)
  return worlds.examples("glyphs", world, {"side": side} | options, test_examples, download)


# Coordinates are integers: the image spans -1024..1024 both ways, y down, so that a glyph
# looks the same at every size. Each is four quadratic Bezier curves x0 y0 x1 y1 x2 y2 on a grid of
# -8..8. Classes 2k and 2k + 1 are a pair: half-way between them lies the ambiguous shape.

_CURVES = {
  "ring": "0 -8 7 -8 7 0 / 7 0 7 8 0 8 / 0 8 -7 8 -7 0 / -7 0 -7 -8 0 -8",
  "snail": "0 -8 7 -8 7 0 / 7 0 7 8 0 8 / 0 8 -6 8 -6 2 / -6 2 -5 -4 2 -1",
  "arch": "-6 8 -6 4 -6 0 / -6 0 -6 -8 0 -8 / 0 -8 6 -8 6 0 / 6 0 6 4 6 8",
  "tent": "-7 8 -5 4 -4 0 / -4 0 -2 -4 0 -8 / 0 -8 2 -4 4 0 / 4 0 5 4 7 8",
  "cross": "0 0 0 -4 0 -8 / 0 0 0 4 0 8 / 0 0 -4 0 -8 0 / 0 0 4 0 8 0",
  "fork": "0 1 0 -4 0 -8 / 0 1 0 4 0 8 / 0 1 -7 1 -7 -7 / 0 1 7 1 7 -7",
  "swan": "-5 -4 -4 -8 0 -8 / 0 -8 6 -8 5 -3 / 5 -3 3 2 -6 8 / -6 8 0 8 6 8",
  "zigzag": "-6 -7 -3 -7 0 -7 / 0 -7 3 -7 6 -7 / 6 -7 0 0 -6 7 / -6 7 0 7 6 7",
  "flag": "-4 8 -4 4 -4 0 / -4 0 -4 -4 -4 -8 / -4 -8 2 -6 7 -4 / 7 -4 2 -2 -4 0",
  "cane": "-4 8 -4 4 -4 0 / -4 0 -4 -2 -4 -4 / -4 -4 -4 -8 1 -8 / 1 -8 6 -8 6 -2",
}
_GRID = 96  # units of the grid of -8..8
_PIECES = 4  # line segments that stand for one curve
_STROKES = 3  # distracting curves
_ONE = 4096  # 1.0, in factors and directions

# The words of 32 bits that each part of a sample draws. Append, never reorder. The first _RESERVED
# words of a sample's key are for these, the following ones for the noise, one a pixel: a single
# draw, since each takes XLA a sixth of a second to compile.
_WORDS = {
  "label": 1,
  "ambiguous": 1,
  "angle": 1,
  "scale": 2,
  "shear": 1,
  "shift": 2,
  "jitter": 24,
  "width": 2,
  "soft": 1,
  "stroke": 6 * _STROKES,
  "stroke_present": _STROKES,
  "lightness": 4,
  "hue": 9,
  "wave": 6,
  "tint": 3,
}
_RESERVED = 96
assert sum(_WORDS.values()) <= _RESERVED


def glyph_labels(key: jax.Array, index: jax.Array, ambiguity: float) -> tuple[jax.Array, jax.Array]:
  """Labels int32[n] of samples of glyphs, and bool[n]: which are half-way shapes.

  A half-way shape is drawn without looking at which of its two classes the
  label names: there every rule errs half the time, and on all samples at least
  in ambiguity / 2 of them.
  """
  draws = _named(worlds.words(key, index, _RESERVED))
  return _label(draws), _ambiguous(draws, ambiguity)


def _named(words: jax.Array) -> dict[str, jax.Array]:
  """uint32[..., count] for each name in _WORDS."""
  *ends, last = np.cumsum(list(_WORDS.values()))
  return dict(zip(_WORDS, jnp.split(words[..., :last], ends, axis=-1), strict=True))


def _label(draws: dict[str, jax.Array]) -> jax.Array:
  return (draws["label"][..., 0] % len(_CURVES)).astype(jnp.int32)


def _ambiguous(draws: dict[str, jax.Array], ambiguity: float) -> jax.Array:
  return draws["ambiguous"][..., 0] >> 8 < round(ambiguity * 2**24)


def _uniform(words: jax.Array, low: int | jax.Array, high: int | jax.Array) -> jax.Array:
  """int32, uniform in low..high inclusive, to within (high - low) / 2^16; they span under 2^15."""
  return low + ((words >> 16).astype(jnp.int32) * (high - low + 1) >> 16)


def _image(side: int, values: dict, words: jax.Array) -> jax.Array:
  """uint8[side, side, 3], from one sample's words."""
  draws, speckle = _named(words), words[_RESERVED:].reshape(side, side)
  place = (2 * np.arange(side) + 1 - side) * 1024 // side
  pixel = 1024 // side
  width = _uniform(draws["width"], 55, 120)
  soft = pixel + _uniform(draws["soft"], 0, round(64 * values["blur"]))[0]

  curves = _pose(_control_points(values, draws), values, draws)
  glyph = _coverage(_segments(curves), place, width[0], soft)

  ends = _uniform(draws["stroke"], -1300, 1300).reshape(_STROKES, 3, 2)
  bend = jnp.array([[[1, 1], [0, 0], [1, 1]]], jnp.int32)
  # The ends of a stroke lie around its middle; one that is not to be seen lies far off.
  strokes = ends[:, 1:2] + bend * (ends >> 1)
  absent = draws["stroke_present"] >> 8 >= round(values["clutter"] / _STROKES * 2**24)
  strokes = strokes + jnp.where(absent, 1 << 14, 0)[:, None, None]
  clutter = _coverage(_segments(strokes, 2), place, width[1], soft)

  packed = _paint(side, values, draws, place, glyph, clutter, speckle)
  # Three channels are made from one word a pixel, once it is there: a fused program would compute
  # everything above for each channel.
  packed = jax.lax.optimization_barrier(packed)
  channels = packed[..., None] >> jnp.array([[[0, 8, 16]]], jnp.uint32)
  return (channels & 255).astype(jnp.uint8)


def _shapes() -> tuple[np.ndarray, np.ndarray]:
  """Control points int32[15, 12, 2] of ten classes and five half-way shapes; who moves together.

  The second, int32[15, 12], names for each control point the first one at the
  same place: points that join curves get one jitter.
  """
  numbers = [[int(n) for n in text.replace("/", " ").split()] for text in _CURVES.values()]
  classes = np.array(numbers, np.int32).reshape(len(_CURVES), 12, 2) * _GRID
  shapes = np.concatenate([classes, (classes[0::2] + classes[1::2]) // 2])
  same = (shapes[:, :, None] == shapes[:, None]).all(-1)
  return shapes, same.argmax(-1).astype(np.int32)


def _control_points(values: dict, draws: dict) -> jax.Array:
  """int32[4, 3, 2]: the shape with its jitter."""
  shapes, first = _shapes()
  label = _label(draws)
  row = jnp.where(_ambiguous(draws, values["ambiguity"]), len(_CURVES) + label // 2, label)
  reach = round(values["jitter"] * 8 * _GRID)
  jitter = _uniform(draws["jitter"], -reach, reach).reshape(12, 2)
  return (jnp.asarray(shapes)[row] + jitter[jnp.asarray(first)[row]]).reshape(4, 3, 2)


def _pose(points: jax.Array, values: dict, draws: dict) -> jax.Array:
  """Sheared, scaled, turned and shifted."""
  angles = np.deg2rad(np.linspace(-values["rotation"], values["rotation"], 257))
  turns = np.round(_ONE * np.stack([np.cos(angles), np.sin(angles)], 1)).astype(np.int32)
  cos, sin = jnp.asarray(turns)[_uniform(draws["angle"], 0, 256)[0]]
  shear = _uniform(draws["shear"], -_ONE // 4, _ONE // 4)[0]
  # An overall size, and a ratio of width to height.
  size, ratio = _uniform(draws["scale"], -_ONE // 8, _ONE // 8)
  x, y = points[..., 0], points[..., 1]
  x = x + (y * shear >> 12)
  x, y = x * (3 * _ONE // 4 + size + ratio) >> 12, y * (3 * _ONE // 4 + size - ratio) >> 12
  x, y = x * cos - y * sin >> 12, x * sin + y * cos >> 12
  reach = round(values["shift"] * 2048)
  shift = _uniform(draws["shift"], -reach, reach)
  return jnp.stack([x, y], -1) + shift[None, None]


class _Segments(NamedTuple):
  """Line segments by middle, direction (of length _ONE) and half length, int32[k] each."""

  x: jax.Array
  y: jax.Array
  along: jax.Array
  down: jax.Array
  half: jax.Array


def _segments(curves: jax.Array, pieces: int = _PIECES) -> _Segments:
  """Each quadratic Bezier curve, int32[k, 3, 2], as `pieces` (2 or 4) line segments."""
  t = np.arange(pieces + 1)
  weights = np.stack([(pieces - t) ** 2, 2 * t * (pieces - t), t**2], 1)
  points = sum(
    jnp.asarray(weights[None, :, i, None], jnp.int32) * curves[:, None, i] for i in range(3)
  )
  points = points // pieces**2
  start, end = points[:, :-1].reshape(-1, 2), points[:, 1:].reshape(-1, 2)
  middle, step = (start + end) >> 1, end - start
  length = _root(64 * (step * step).sum(-1))  # in eighths of a unit
  direction = step * (8 * _ONE) // jnp.maximum(length, 1)[:, None]
  along = jnp.where(length == 0, _ONE, direction[:, 0])  # a point has any direction
  return _Segments(middle[:, 0], middle[:, 1], along, direction[:, 1], length >> 4)


def _root(square: jax.Array) -> jax.Array:
  """The integer part of the square root, exactly, however a device rounds its own."""
  root = jnp.sqrt(square.astype(jnp.float32)).astype(jnp.int32)
  root = root - (root * root > square)
  return root + ((root + 1) * (root + 1) <= square)


def _coverage(
  segments: _Segments, place: np.ndarray, width: jax.Array, soft: jax.Array
) -> jax.Array:
  """int32[side, side] in 0..256: how much of each pixel a pen of radius `width` covers.

  It falls from 256 to 0 between the distances width - soft and width + soft,
  linearly in the squared distance, which needs no root.
  """
  x = place[None] - segments.x[:, None]
  y = place[None] - segments.y[:, None]
  along, down = segments.along[:, None], segments.down[:, None]
  # A pixel's coordinates along and across a segment are sums of a part of its column and a part of
  # its row. In float32 they, their squares and the squares' sum are exact up to 2^24, which is
  # farther than anything is painted.
  column_t, row_t, column_n, row_n = (
    (product >> 12).astype(jnp.float32) for product in (x * along, y * down, x * down, -y * along)
  )
  half = segments.half.astype(jnp.float32)
  nearest = None
  for i in range(segments.x.shape[0]):
    t = jnp.abs(column_t[i][None] + row_t[i][:, None]) - half[i]
    n = column_n[i][None] + row_n[i][:, None]
    square = jnp.square(jnp.maximum(t, 0)) + jnp.square(n)
    nearest = square if nearest is None else jnp.minimum(nearest, square)
  inner = jnp.maximum(width - soft, 0)
  outer = jnp.square(width + soft)
  ramp = outer - jnp.square(inner)
  inside = jnp.clip(outer.astype(jnp.float32) - nearest, 0, ramp.astype(jnp.float32))
  return inside.astype(jnp.int32) * (2**30 // ramp) + 2**21 >> 22


def _paint(
  side: int,
  values: dict,
  draws: dict,
  place: np.ndarray,
  glyph: jax.Array,
  clutter: jax.Array,
  speckle: jax.Array,
) -> jax.Array:
  """uint32[side, side]: red + 256 green + 65536 blue."""
  ground, share, sign, difference = draws["lightness"]
  ground = _uniform(ground, 16, 239)
  difference = _uniform(difference, round(values["contrast"]), 112)
  upward = jnp.where(sign >> 31 == 1, ground + difference < 240, ground < difference + 16)
  ink = jnp.where(upward, ground + difference, ground - difference)
  third = ground + ((ink - ground) * _uniform(share, 128, 256) >> 8)
  hues = _uniform(draws["hue"], -48, 48).reshape(3, 3)
  hues = hues - hues.sum(1, keepdims=True) // 3  # they leave the lightness alone

  stripes = sum(_wave(words, place) for words in draws["wave"].reshape(2, 3))  # -256..256
  reach = round(values["texture"])
  tints = _uniform(draws["tint"], -reach, reach)
  strength = round(values["noise"] * 4096 / math.sqrt((2**16 - 1) / 6))
  common = (speckle >> 24).astype(jnp.int32)
  packed = jnp.zeros((side, side), jnp.uint32)
  for channel in range(3):
    paper, pen, other = (light + hues[i, channel] for i, light in enumerate((ground, ink, third)))
    shade = stripes * tints[channel] >> 8
    value = paper + shade + ((other - paper - shade) * clutter >> 8)
    value = value + ((pen + (shade >> 1) - value) * glyph >> 8)
    # The sum of two bytes has a triangular distribution; one of them is shared by the channels.
    grain = (speckle >> 8 * channel & 255).astype(jnp.int32) + common - 255
    value = jnp.clip(value + (grain * strength + 2048 >> 12), 0, 255)
    packed = packed | value.astype(jnp.uint32) << 8 * channel
  return packed


def _wave(words: jax.Array, place: np.ndarray) -> jax.Array:
  """int32[side, side] in -128..128: a triangle wave in a random direction."""
  x, y = _uniform(words[:2], -1024, 1024)
  phase = (place[None, :] * x >> 8) + (place[:, None] * y >> 8) + (words[2] >> 20).astype(jnp.int32)
  return 128 - jnp.abs((phase >> 2 & 511) - 256)
