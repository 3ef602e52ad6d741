"""How the tables of the seed study name what was trained, and write intervals."""

import xarray

from seedlab import report
from seedlab.stats.single import Interval
from seedlab.studies.seeds.measures import sd_of
from seedlab.studies.seeds.sweeps import SETUPS

PLACE_NAMES = {"digits": "digits", "cifar10": "CIFAR-10"}


def points(interval: Interval, scale: float = 100.0) -> str:
  return report.interval_text(interval, "z.2f", scale)


def setup_of(name: str, dataset: xarray.Dataset) -> str:
  """What was trained, with its size."""
  config = dataset.attrs["config"]
  data, model = config["data"], config["model"]
  details = [f"width {model['width']}"]
  if data["train_examples"]:
    details.append(f"{data['train_examples']:,} images")
  if data["image_size"]:
    details.append(f"{data['image_size']}x{data['image_size']}")
  return f"{SETUPS[name]} ({', '.join(details)})"


def own_sd(own: Interval) -> str:
  """The root of a distribution-wise variance and its limits, in points."""
  root = Interval(*(sd_of(x) for x in (own.estimate, own.low, own.high)), own.level, own.method)
  return points(root)


CHOICES = {
  "narrow": "half the width",
  "slow": "half the learning rate",
  "large_batch": "twice the batch",
  "smelu": "SmeLU for ReLU",
  "decay": "weight decay of 0.001",
}
