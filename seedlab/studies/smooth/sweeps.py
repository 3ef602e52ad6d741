"""The sweeps of the study of smooth activations: crossed designs, and what stands around them."""

from collections.abc import Sequence

from seedlab.changes import changed
from seedlab.config import Config, parse
from seedlab.studies.smooth import settings
from seedlab.studies.sources import at_hand
from seedlab.studies.study import Sweep

_RUNS = {"smoke": 4, "laptop": 16, "paper": 32}  # where one stream varies
_INITS = {"smoke": 4, "laptop": 24, "paper": 50}  # where that is the initialisation
_UNITS = {"smoke": 16, "laptop": 256, "paper": 1000}
# Families of smooth activations and their widths, the sharpest first.
FAMILIES = {
  "movielens": {
    "smelu": (0.1, 0.25, 0.5, 1, 2),
    "swish": (4, 2, 1),
    "softplus": (8, 4, 2),
    "gelu": (1,),
    "mish": (),
    "tanhexp": (),
  },
  "clicks": {"smelu": (0.25, 0.5, 1, 2), "swish": (2, 1), "gelu": (1,)},
  "digits": {"smelu": (0.25, 0.5, 1, 2), "swish": (2, 1), "gelu": (1,)},
  "cifar10": {"smelu": (0.5, 1, 2), "swish": (2, 1), "gelu": (1,)},
  "criteo": {"smelu": (0.25, 0.5, 1, 2), "swish": (1,)},
}
BESIDE = "smelu=1"  # the smooth setting shown beside ReLU where one is enough
_FIXED_WIDTH = ("smelu=1", "swish=1", "softplus=2", "gelu=1")  # of M1 where nothing is chosen
SOURCES = {
  "init": "another initialisation, the order fixed",
  "sample": "another 60,000 of the training ratings",
  "dropout": "other units dropped (a tenth)",
  "poke": "one weight moved by one ulp before the first step",
  "order,time": "another order, tested on the latest fifth of the ratings",
  "order,window1000": "order shuffled among 1,000",
  "order,window100": "order shuffled among 100",
  "order,window10": "order shuffled among 10",
}
REMEDIES = {
  "average": ("moving average of the parameters", "1", "1"),
  "towers3": ("self-ensemble: three stacks of hidden layers", "about 2", "about 2"),
  "codistill": ("co-distillation with a second network", "1", "2"),
  "taught": ("distillation from one earlier run", "1", "1.3, and the teacher"),
}
UNIT_SETTINGS = ("relu", "smelu=0.25", "smelu=1", "smelu=4", "linear")


def settings_of(place: str, scale: str) -> list[str]:
  families = FAMILIES[place]
  if scale == "smoke":
    families = {"smelu": (0.5, 1)}
  found = ["relu", "linear"]
  for family, widths in families.items():
    found += [f"{family}={width:g}" for width in widths] or [family]
  return found


def of_family(place: str, scale: str) -> dict[str, list[str]]:
  """Smooth families -> their settings, the sharpest first."""
  found: dict[str, list[str]] = {}
  for setting in settings_of(place, scale)[2:]:
    found.setdefault(setting.split("=")[0], []).append(setting)
  return found


def fixed_width(scale: str) -> Sequence[str]:
  return _FIXED_WIDTH[:1] if scale == "smoke" else _FIXED_WIDTH


def make(scale: str, data_dir: str | None) -> list[Sweep]:
  """Every setting, on the data that are at hand (at scale paper all)."""
  made = []
  inits, orders = settings.LEVELS[scale]
  crossed = range(inits * orders)
  for place in settings.places(scale):
    if scale != "paper" and not at_hand(settings.config(scale, place).data.name, data_dir):
      continue
    for setting in settings_of(place, scale):
      config = settings.config(scale, place, setting, "crossed")
      made.append(_sweep(f"{place}/{setting}", config, crossed))
  first = settings.places(scale)[0]
  if scale == "paper" or at_hand(settings.config(scale, first).data.name, data_dir):
    made += _around(scale, first)
  for setting in UNIT_SETTINGS[: 2 if scale == "smoke" else None]:
    made.append(Sweep(f"unit/{setting}", _unit(setting), range(_UNITS[scale])))
  return made


def _sweep(name: str, config: Config, runs: range, **options) -> Sweep:
  # Lanes of networks with tables of embeddings are slower on a CPU than run after run.
  lanes = "loop" if config.model.name.startswith("ctr") else "auto"
  return Sweep(name, config, runs, lanes=lanes, **options)


def _around(scale: str, place: str) -> list[Sweep]:
  """Further sources, remedies, slices and numerics, of ReLU and one smooth setting."""
  made = []
  inits, orders = settings.LEVELS[scale]
  smoke = scale == "smoke"
  for setting in ("relu", BESIDE):
    for source in ("init", "poke") if smoke else SOURCES:
      runs = _INITS[scale] if source == "init" else _RUNS[scale]
      config = settings.config(scale, place, setting, *source.split(","))
      made.append(_sweep(f"{place}/{source}/{setting}", config, range(runs)))
    # The first initialisation of the crossed design again, in lanes.
    config = changed(
      settings.config(scale, place, setting, "crossed"), {"seeds.levels": (1, orders)}
    )
    made.append(Sweep(f"{place}/numerics/{setting}", config, range(orders), width=4))
  for setting in fixed_width(scale)[1:]:
    config = settings.config(scale, place, setting, "init")
    made.append(_sweep(f"{place}/init/{setting}", config, range(_INITS[scale])))
  fewer = {"seeds.levels": (inits, orders // 2)}
  for remedy in ("taught",) if smoke else REMEDIES:
    words = () if remedy == "taught" else (remedy,)
    config = changed(settings.config(scale, place, "relu", "crossed", *words), fewer)
    teacher = f"{place}/relu" if remedy == "taught" else ""
    name = f"{place}/{remedy}/relu"
    made.append(_sweep(name, config, range(inits * (orders // 2)), teacher=teacher))
  if not smoke:
    config = changed(settings.config(scale, place, BESIDE, "crossed", "average"), fewer)
    made.append(_sweep(f"{place}/average/{BESIDE}", config, range(inits * (orders // 2))))
  for setting in ("relu", BESIDE) if smoke else ("relu", BESIDE, "linear"):
    config = settings.config(scale, place, setting, "slices")
    made.append(_sweep(f"{place}/slices/{setting}", config, range(4)))
  return made


def _unit(setting: str) -> Config:
  """One hidden unit between 64 pixels and two classes: where a kink alone decides."""
  name, _, width = setting.partition("=")
  activation = {"name": name} | ({"beta": float(width)} if width else {})
  return parse(
    {
      "data": {"name": "gaussians", "train_examples": 1000, "test_examples": 1000},
      "model": {"name": "mlp", "width": 1, "depth": 1},
      "activation": activation,
      "optimizer": {"name": "sgd", "learning_rate": 0.05, "momentum": 0.0},
      "schedule": {"name": "constant"},
      "training": {"batch_size": 10, "epochs": 3},
      "evaluation": {**settings.KEPT, "every_epochs": 3},
      "seeds": {"vary": ("init",)},
    }
  )  # fmt: skip
