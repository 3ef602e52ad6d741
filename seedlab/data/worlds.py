"""Worlds: distributions of pictures or rows, sampled by key inside the compiled program.

A training that never sees a sample twice (an Ideal World) needs no storage if
every sample can be drawn where it is used: sample i of a key depends on
fold_in(key, i) alone.

The examples are exact: integer arithmetic throughout, and float32 only where
every intermediate value is an integer that float32 represents. How XLA fuses,
reorders or contracts multiplications and additions then cannot move a bit, so
that a sample is the same bytes in every lane, batch, loop and program, and on
every device.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from seedlab import streams
from seedlab.config import WORLDS
from seedlab.data import clicks
from seedlab.data.fields import Field, columns
from seedlab.errors import UserError, choice_error, closest

_SIDES = (8, 256)  # least and largest image_size


class World(NamedTuple):
  """A distribution of labelled pictures, or of rows (`fields`).

  sample(key, index): from a typed threefry key (a run's `sample` stream) and
  sample numbers int32[n] or uint32[n], pictures uint8[n, H, W, C] or rows int32[n, F],
  and labels int32[n]. Sample i is a function of fold_in(key, i), and of i where
  there is a `period`. Drawing takes some 25 kB of memory a picture of 32x32x3.
  """

  sample: Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
  image_shape: tuple[int, ...]  # (H, W, C), or (F,)
  class_names: tuple[str, ...]
  bayes_error: float | None  # the least error there is, where it is known in closed form
  fields: tuple[Field, ...] = ()  # of a row; empty for pictures
  # Rows to the true probabilities of label 1, float32[n], where they are known
  truth: Callable[[jax.Array], jax.Array] | None = None
  # Samples after which the distribution comes round; None: it does not depend on their number
  period: int | None = None


# Of each parameter: default, least and largest value. A glyph's size, proportions, slant, thickness
# and colours vary whatever these are.
_GLYPHS = {
  "ambiguity": (0.05, 0.0, 1.0),  # share of half-way shapes, labelled as either class at random
  "rotation": (25.0, 0.0, 180.0),  # degrees either way
  "shift": (0.15, 0.0, 0.5),  # of the side, either way
  "jitter": (0.1, 0.0, 0.5),  # of the glyph's half width, each control point either way
  "clutter": (2.0, 0.0, 3.0),  # mean number of distracting strokes, of at most 3
  "texture": (40.0, 0.0, 100.0),  # grey levels either way, of the stripes
  "contrast": (40.0, 0.0, 112.0),  # least difference of lightness, glyph to ground, in grey levels
  "blur": (1.0, 0.0, 3.0),  # how far edges soften either way at most, in 1/32 of the side
  "noise": (16.0, 0.0, 100.0),  # standard deviation of a pixel, in grey levels
}
_GAUSSIANS = {"distance": (2.0, 0.0, 10.0)}  # between the classes' means, in standard deviations
_PARAMETERS = {"glyphs": _GLYPHS, "gaussians": _GAUSSIANS, "clicks": clicks.PARAMETERS}


def by_name(name: str, image_size: int | None, kwargs: Mapping[str, float]) -> World:
  """The world of a config.

  Args:
    name: one of WORLDS.
    image_size: pixels a side; None takes the world's own (32 for glyphs, 8 for gaussians).
      None for clicks, which are no pictures.
    kwargs: parameters of the world, by name; the others keep their defaults.

  Raises:
    UserError: an unknown name or parameter, or a value out of range.
  """
  if name not in WORLDS:
    raise choice_error("data.name", name, WORLDS)
  values = {key: default for key, (default, _, _) in _PARAMETERS[name].items()}
  for key, value in kwargs.items():
    if key not in values:
      raise UserError(
        f"data.world_kwargs: {name!r} takes no {key!r}{closest(key, values)}; it takes"
        f" {', '.join(values)} (set all of them with data.name, {{}} for the defaults)"
      )
    default, low, high = _PARAMETERS[name][key]
    whole = isinstance(default, int)
    if (
      isinstance(value, bool)
      or not isinstance(value, int | float)
      or not low <= value <= high
      or (whole and value != int(value))
    ):
      kind, form = ("whole number", "") if whole else ("number", "g")
      raise UserError(
        f"data.world_kwargs: {key}={value!r} must be a {kind} in [{low:{form}}, {high:{form}}]"
      )
    values[key] = type(default)(value)
  if name == "clicks":
    return _clicks(image_size, values)
  side = {"glyphs": 32, "gaussians": 8}[name] if image_size is None else image_size
  if not _SIDES[0] <= side <= _SIDES[1]:
    raise UserError(
      f"data.image_size={side} must lie in [{_SIDES[0]}, {_SIDES[1]}] for data.name={name!r}"
    )
  return (_glyphs if name == "glyphs" else _gaussians)(side, **values)


def _clicks(image_size: int | None, values: dict) -> World:
  if image_size is not None:
    raise UserError(
      f"data.image_size={image_size} is for pictures, and data.name='clicks' has rows; leave it"
      " empty"
    )
  made = clicks.build(**values)
  return World(
    made.sample,
    (columns(made.fields),),
    clicks.CLASS_NAMES,
    None,
    made.fields,
    made.truth,
    values["period"],
  )


# Glyphs. Coordinates are integers: the picture spans -1024..1024 both ways, y down, so that a glyph
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
  draws = _named(_words(key, index, _RESERVED))
  return _label(draws), _ambiguous(draws, ambiguity)


def _glyphs(side: int, **values: float) -> World:
  def sample(key, index):
    words = _words(key, index, _RESERVED + side * side)
    images = jax.vmap(functools.partial(_picture, side, values))(words)
    return images, _label(_named(words))

  return World(sample, (side, side, 3), tuple(_CURVES), None)


def _words(key: jax.Array, index: jax.Array, count: int) -> jax.Array:
  """uint32[n, count]: the first random words of each sample; more words leave these alone."""
  keys = jax.vmap(jax.random.fold_in, (None, 0))(streams.check_key(key), index)
  return jax.vmap(lambda key: jax.random.bits(key, (count,), jnp.uint32))(keys)


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


def _picture(side: int, values: dict, words: jax.Array) -> jax.Array:
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


# Gaussians.

_SD = 16.0  # of a pixel, in grey levels, before rounding


def _gaussians(side: int, distance: float) -> World:
  """Two classes, "minus" and "plus": the same quadrants, darker or lighter by a hair.

  Pixel p is 128 + y s_p q with y = -1 or 1 by class, s_p = -1 or 1 by quadrant
  and q the rounded N(m, 16^2): drawn by comparing a word of 32 bits with the
  distribution function, so exactly. Such a word reaches 6.3 standard deviations
  at most, so nothing is ever clipped. Rounding adds 1/12 to the variance, and m
  is chosen so that the class means are `distance` standard deviations apart with
  it. The optimal rule of the Gaussians is the sign of sum_p s_p (pixel - 128); on
  the rounded ones its error, computed by convolution, is Phi(-distance / 2) to
  within 2e-6 at 8x8.
  """
  mean = distance * math.sqrt(_SD**2 + 1 / 12) / (2 * side)
  levels = np.arange(-127, 127)
  below = special.ndtr((levels + 0.5 - mean) / _SD)  # P(q <= level)
  thresholds = np.round(below * 2**32)
  thresholds = thresholds[thresholds < 2**32].astype(np.uint32)
  half = np.arange(side) * 2 < side
  signs = np.where(half[:, None] == half[None], 1, -1).astype(np.int32).reshape(-1)

  def sample(key, index):
    words = _words(key, index, 1 + side * side)
    label = (words[:, 0] >> 31).astype(jnp.int32)
    level = -127 + jnp.searchsorted(thresholds, words[:, 1:], side="right").astype(jnp.int32)
    pixels = 128 + (2 * label[:, None] - 1) * signs[None] * level
    return pixels.astype(jnp.uint8).reshape(-1, side, side, 1), label

  return World(sample, (side, side, 1), ("minus", "plus"), float(special.ndtr(-distance / 2)))
