"""Two Gaussian classes in the space of images, whose best rule and its error are known."""

import math

import jax.numpy as jnp
import numpy as np
from scipy import special

from seedlab.data import worlds
from seedlab.data.examples import Examples, World

__all__ = ("gaussians",)

_SD = 16.0  # of a pixel, in grey levels, before rounding


def gaussians(
  *,
  test_examples: int | None,
  download: bool,
  image_size: int | None = None,
  distance: float = 2.0,
) -> Examples:
  """A world of two classes, "minus" and "plus": the same quadrants, darker or lighter by a hair.

  Pixel p is 128 + y s_p q with y = -1 or 1 by class, s_p = -1 or 1 by quadrant
  and q the rounded N(m, 16^2): drawn by comparing a word of 32 bits with the
  distribution function, so exactly. Such a word reaches 6.3 standard deviations
  at most, so nothing is ever clipped. Rounding adds 1/12 to the variance, and m
  is chosen so that the class means are `distance` standard deviations apart with
  it. The optimal rule of the Gaussians is the sign of sum_p s_p (pixel - 128); on
  the rounded ones its error, computed by convolution, is Phi(-distance / 2) to
  within 2e-6 at 8x8.

  Args:
    test_examples: how many are drawn to test on; None: 10,000.
    download: False draws no test set, and shows one that a training has left in the cache.
    image_size: pixels a side, 8 to 256; None: 8.
    distance: between the classes' means, in standard deviations, 0 to 10.

  Raises:
    UserError: an option out of its range.
  """
  distance = worlds.checked({"distance": (0.0, 10.0)}, distance=distance)["distance"]
  side = worlds.side(image_size, 8)
  mean = distance * math.sqrt(_SD**2 + 1 / 12) / (2 * side)
  levels = np.arange(-127, 127)
  below = special.ndtr((levels + 0.5 - mean) / _SD)  # P(q <= level)
  thresholds = np.round(below * 2**32)
  thresholds = thresholds[thresholds < 2**32].astype(np.uint32)
  half = np.arange(side) * 2 < side
  signs = np.where(half[:, None] == half[None], 1, -1).astype(np.int32).reshape(-1)

  def sample(key, index):
    words = worlds.words(key, index, 1 + side * side)
    label = (words[:, 0] >> 31).astype(jnp.int32)
    level = -127 + jnp.searchsorted(thresholds, words[:, 1:], side="right").astype(jnp.int32)
    pixels = 128 + (2 * label[:, None] - 1) * signs[None] * level
    return pixels.astype(jnp.uint8).reshape(-1, side, side, 1), label

  error = float(special.ndtr(-distance / 2))
  world = World(sample, (side, side, 1), ("minus", "plus"), error)
  options = {"side": side, "distance": distance}
  return worlds.examples("gaussians", world, options, test_examples, download)
