"""The sweeps of the seed study."""

from seedlab.config import to_dict
from seedlab.studies.seeds import settings
from seedlab.studies.sources import at_hand
from seedlab.studies.study import Sweep

PRETRAINED = 8  # pretraining seeds
_RUNS = {"smoke": 12, "laptop": 2000, "paper": 10_000}  # all streams varied
_FEW = {"smoke": 6, "laptop": 100, "paper": 500}  # of a design choice, of CIFAR-10
_ALONE = {"smoke": 6, "laptop": 500, "paper": 2000}  # of one stream alone, and of `long`
_TUNED = {"smoke": 4, "laptop": 40, "paper": 100}
# Of the published protocol: `long` is trained at scale `paper` alone.
_SHORT = {"smoke": 4, "laptop": 40, "paper": 10_000}
_LONG = 500
# Steps before which a weight is poked, and at which twins part.
POKES = {"digits": (0, 15, 75, 150, 225, 285), "cifar10": (0, 100, 400, 700)}
_TWINS = (0, 15, 75, 150, 225, 300)
SETUPS = {
  "digits/all": "digits, MLP",
  "digits/long": "digits, MLP, published schedule",
  "cifar10/all": "CIFAR-10, CNN",
  "picard/short": "CIFAR-10, Picard's network, short",
  "picard/long": "CIFAR-10, Picard's network, long",
}


def make(scale: str, data_dir: str | None) -> list[Sweep]:
  """Every setting, on the data that are at hand (at scale paper all)."""
  few, levels = _FEW[scale], settings.LEVELS[scale]
  made = [
    Sweep("digits/all", settings.config(scale, "digits", "all"), range(_RUNS[scale])),
    Sweep("digits/crossed", settings.config(scale, "digits", "crossed"), range(levels**3)),
    *(
      Sweep(f"digits/{word}", settings.config(scale, "digits", word), range(_ALONE[scale]))
      for word in (*settings.FACTORS, "long")
    ),
    *(
      Sweep(f"digits/{choice}", settings.config(scale, "digits", choice), range(few))
      for choice in settings.DESIGN
    ),
  ]
  made += _pokes(scale, "digits")
  for step in twin_steps(scale):
    arguments = {"config": to_dict(settings.config(scale, "digits", "all")), "split": step}
    twins = ("seedlab.studies.twins:make", arguments)
    made.append(Sweep(f"digits/twins{step}", None, range(min(few, 20)), trainer=twins))
  if scale == "paper" or at_hand("cifar10", data_dir):
    made.append(Sweep("cifar10/all", settings.config(scale, "cifar10", "all"), range(few)))
    made.append(
      Sweep("picard/short", settings.config(scale, "picard", "short"), range(_SHORT[scale]))
    )
    if scale == "paper":
      made.append(Sweep("picard/long", settings.config(scale, "picard", "long"), range(_LONG)))
    made += [*_pokes(scale, "cifar10"), *_pretraining(scale)]
  return made


def poke_words(scale: str, place: str) -> list[str]:
  steps = POKES[place][: 1 if scale == "smoke" else None]
  return [*(f"poke{step}" for step in steps), "poke0,factor"]


def twin_steps(scale: str) -> tuple[int, ...]:
  return _TWINS[: 2 if scale == "smoke" else None]


def _pokes(scale: str, place: str) -> list[Sweep]:
  made = []
  for words in poke_words(scale, place):
    config = settings.config(scale, place, *words.split(","))
    inits, pokes = config.seeds.levels
    made.append(Sweep(f"{place}/{words}", config, range(inits * pokes)))
  return made


def _pretraining(scale: str) -> list[Sweep]:
  """Networks pretrained on glyphs, or not at all, and tuned to few images of CIFAR-10."""
  tuned = settings.config(scale, "cifar10", "tuned")
  begun = range(2 if scale == "smoke" else PRETRAINED)
  made = [
    Sweep("start/pretrained", settings.config(scale, "glyphs"), begun),
    Sweep("start/scratch", settings.untrained(tuned), begun),
  ]
  for kind in ("pretrained", "scratch"):
    for run in begun:
      name, start = f"tuned/{kind}{run}", (f"start/{kind}", run)
      made.append(Sweep(name, tuned, range(_TUNED[scale]), start=start, fresh=(settings.HEAD,)))
  return made
