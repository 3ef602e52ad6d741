"""Whether the data of a sweep are on this disk."""

from seedlab import data
from seedlab.config import Data
from seedlab.data import catalogue
from seedlab.errors import UserError

MOVIELENS = "movielens/100k-ratings"


def at_hand(name: str, data_dir: str | None) -> bool:
  """Whether the data set `data.name` can be read without a download."""
  try:
    if name == MOVIELENS:  # whose classes are known without it
      catalogue.find(name, data_dir, download=False, pictures=False)
    else:
      data.class_names(Data(name=name), data_dir, download=False)
  except UserError:
    return False
  return True
