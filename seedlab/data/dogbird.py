"""ImageNet-DogBird: hunting dogs against birds, two classes made of 122 of ImageNet's.

Nakkiran, Neyshabur & Sedghi, "The Deep Bootstrap Framework" (ICLR 2021): the
classes of ILSVRC 2012 below hunting_dog.n.01 (label 0) and bird.n.01 (label 1)
in WordNet.
"""

import numpy as np

from seedlab.data import catalogue
from seedlab.data import tfds as sets
from seedlab.data.examples import Examples
from seedlab.errors import UserError

__all__ = ("imagenet_dogbird",)

_SOURCE = "imagenet2012"  # in tensorflow-datasets
_CLASS_NAMES = ("hunting dog", "bird")
# No class of ILSVRC 2012 has more images than 1300 in one split and 50 in the other.
_MOST = {"train": 122 * 1300, "validation": 122 * 50}

HUNTING_DOGS = """
  n02087394 n02088094 n02088238 n02088364 n02088466 n02088632 n02089078 n02089867 n02089973
  n02090379 n02090622 n02090721 n02091032 n02091134 n02091244 n02091467 n02091635 n02091831
  n02092002 n02092339 n02093256 n02093428 n02093647 n02093754 n02093859 n02093991 n02094114
  n02094258 n02094433 n02095314 n02095570 n02095889 n02096051 n02096177 n02096294 n02096437
  n02096585 n02097047 n02097130 n02097209 n02097298 n02097474 n02097658 n02098105 n02098286
  n02098413 n02099267 n02099429 n02099601 n02099712 n02099849 n02100236 n02100583 n02100735
  n02100877 n02101006 n02101388 n02101556 n02102040 n02102177 n02102318 n02102480 n02102973
""".split()

BIRDS = """
  n01514668 n01514859 n01518878 n01530575 n01531178 n01532829 n01534433 n01537544 n01558993
  n01560419 n01580077 n01582220 n01592084 n01601694 n01608432 n01614925 n01616318 n01622779
  n01795545 n01796340 n01797886 n01798484 n01806143 n01806567 n01807496 n01817953 n01818515
  n01819313 n01820546 n01824575 n01828970 n01829413 n01833805 n01843065 n01843383 n01847000
  n01855032 n01855672 n01860187 n02002556 n02002724 n02006656 n02007558 n02009229 n02009912
  n02011460 n02012849 n02013706 n02017213 n02018207 n02018795 n02025239 n02027492 n02028035
  n02033041 n02037110 n02051845 n02056570 n02058221
""".split()


def imagenet_dogbird(
  *,
  data_dir: str | None,
  download: bool,
  train_split: str = "train",
  extra: str | None = None,
  image_size: int | None = None,
) -> Examples:
  """Hunting dogs (0) and birds (1) of the splits "train" and "validation" of imagenet2012.

  Args:
    data_dir: a directory of tensorflow-datasets, as for `tfds`.
    download: False refuses a set that is not there.
    train_split: the splits to train with, as for `tfds`.
    extra: archives of further examples, likewise.
    image_size: pixels a side, needed: 224 as published.

  Raises:
    UserError: as `tfds` does.
  """
  name = "imagenet_dogbird"
  try:
    builder = catalogue.find(_SOURCE, data_dir, download)
  except UserError as error:
    raise UserError(f"data.name={name!r} is a part of {_SOURCE}: {error}") from error
  kinds = relabel(sets.class_names(builder))
  images = sets.ImageSet(
    builder, name, image_size, train_split, ("validation",), kinds, _MOST, usual_size=224
  )
  return Examples(
    lambda: sets.whole(images, _CLASS_NAMES, extra, data_dir, "dogbird-"), _CLASS_NAMES
  )


def relabel(names: list[str]) -> np.ndarray:
  """int32[len(names)]: for each class of ImageNet, by WordNet id, 0 dog, 1 bird, -1 neither."""
  missing = {*HUNTING_DOGS, *BIRDS} - {*names}
  if missing:
    raise UserError(
      f"data.name='imagenet_dogbird' needs the {len(HUNTING_DOGS) + len(BIRDS)} classes of"
      f" {_SOURCE} that are dogs and birds; {len(missing)} of them are not in this one"
    )
  kinds = dict.fromkeys(HUNTING_DOGS, 0) | dict.fromkeys(BIRDS, 1)
  return np.array([kinds.get(name, -1) for name in names], np.int32)
