"""Which data are on this disk, and what is said of those that are not."""

from collections.abc import Sequence

from seedlab import data
from seedlab.data import catalogue
from seedlab.errors import UserError

MOVIELENS = "movielens/100k-ratings"
# Parameters of `glyphs`, less varied than the world's own: for small networks and little time.
PLAIN_GLYPHS = {"clutter": 1.0, "jitter": 0.07, "rotation": 10.0, "shift": 0.05, "texture": 20.0}


def left_out(missing: Sequence[str]) -> list[str]:
  """A sentence about data that are not at hand, if there are any."""
  said = f"Not at hand, so left out: {', '.join(missing)} (name its directory: --data_dir)."
  return [said] * bool(missing)


def at_hand(name: str, data_dir: str | None) -> bool:
  """Whether the data set `data.name` can be read without a download."""
  try:
    if name == MOVIELENS:  # whose classes are known without it
      catalogue.find(name, data_dir, False, False)
    else:
      return data.at_hand(name, data_dir=data_dir) is not None
  except UserError:
    return False
  return True
