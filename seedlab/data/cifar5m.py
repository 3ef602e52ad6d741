"""CIFAR-5m: six million images like CIFAR-10's, drawn from a generative model.

Nakkiran, Neyshabur & Sedghi, "The Deep Bootstrap Framework" (ICLR 2021): samples
of a DDPM trained on CIFAR-10, labelled by a BiT network. Six npz archives of
1,000,448 images, 18.4 GB; https://github.com/preetum/cifar5m.
"""

import pathlib

from seedlab.data import cache, catalogue, convert, npz
from seedlab.data.examples import Examples
from seedlab.errors import UserError

__all__ = ("cifar5m",)

_CLASS_NAMES = (
  "airplane",
  "automobile",
  "bird",
  "cat",
  "deer",
  "dog",
  "frog",
  "horse",
  "ship",
  "truck",
)
SHAPE = (32, 32, 3)
TEST_EXAMPLES = 10_000  # the first of the last part, all if it has fewer; the others train
_PARTS = tuple(f"part{number}.npz" for number in range(6))
_SOURCE = "gs://gresearch/cifar5m"


def cifar5m(*, data_dir: str | None, image_size: int | None = None) -> Examples:
  """The first five archives to train with, in that order, and 10,000 images of the last to test.

  Args:
    data_dir: the directory with the folder cifar5m, as for `tfds`.
    image_size: pixels a side that they are resized to (`convert.pixels`); None: 32.

  Raises:
    UserError: if an archive is missing, damaged or another one.
  """
  archives = parts(catalogue.directory(data_dir))

  def pools() -> tuple[convert.Pieces, convert.Pieces]:
    *train, test = (
      npz.part("data.name='cifar5m'", path, SHAPE, len(_CLASS_NAMES), image_size, first)
      for path, first in zip(archives, [None] * 5 + [TEST_EXAMPLES], strict=True)
    )
    return convert.joined(train), test

  places = cache.folders(archives[0].parent, f"cifar5m-{image_size or 'native'}", archives)
  return Examples(lambda: convert.dataset("cifar5m", places, pools), _CLASS_NAMES)


def parts(directory: pathlib.Path) -> list[pathlib.Path]:
  """The archives in `directory`/cifar5m, in order; raises UserError if one is missing."""
  folder = directory / "cifar5m"
  missing = [name for name in _PARTS if not (folder / name).is_file()]
  if missing:
    raise UserError(
      f"data.name='cifar5m' has no {', '.join(missing)} in {folder}; fetch them with 'gsutil cp"
      f" {_SOURCE}/part*.npz {folder}', or name the directory above with --data_dir or"
      " SEEDLAB_DATA"
    )
  return [folder / name for name in _PARTS]
