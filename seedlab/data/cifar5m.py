"""CIFAR-5m: six million pictures like CIFAR-10's, drawn from a generative model.

Nakkiran, Neyshabur & Sedghi, "The Deep Bootstrap Framework" (ICLR 2021): samples
of a DDPM trained on CIFAR-10, labelled by a BiT network. Six npz archives of
1,000,448 pictures, 18.4 GB; https://github.com/preetum/cifar5m.
"""

import pathlib

from seedlab.errors import UserError

CLASS_NAMES = (
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
