"""Claims M1 to M6 of the study of smooth activations, fixed before training."""

import dataclasses

from seedlab.claims import Claim, Part
from seedlab.studies.smooth import settings
from seedlab.studies.smooth.sweeps import FAMILIES, fixed_width, of_family

_LOWER = 0.95  # M1: of ReLU's PD
LOSS_SHARE = 1 / 3  # M2: of what a linear network loses against ReLU
_EQUAL = (0.9, 1.1)  # M3
MATCHED = ("swish", "softplus", "gelu")  # M3: what SmeLU is compared with


_BEATS = "the log-loss of a linear network is above ReLU's, at 95 %"


def make(scale: str) -> list[Claim]:
  """M1 to M6, fixed before training."""
  places = settings.places(scale)
  made = [claim for place in places for claim in _of_place(place, scale)]
  made += _of_the_first(places[0], scale)
  return [dataclasses.replace(claim, family="smooth") for claim in made]


def _of_place(place: str, scale: str) -> list[Claim]:
  families = list(of_family(place, scale))
  return [
    Claim(
      f"M1 order, {place}",
      "smooth activations lower prediction difference, whatever they are",
      tuple(
        Part(f"order-only PD of {f} over ReLU's, {place}, width chosen", "hi < x", (_LOWER,))
        for f in families
      ),
      f"{place} is at hand, and {_BEATS}",
    ),
    Claim(
      f"M2 {place}",
      "at no loss in accuracy",
      tuple(
        Part(
          f"log-loss of {f} over ReLU's, less a third of a linear network's, {place}",
          "hi < x",
          (0.0,),
        )
        for f in families
      ),
      f"{place} is at hand, and {_BEATS}",
    ),
    Claim(
      f"M5 {place}",
      "it is not merely less learning",
      (
        Part(
          f"order-only PD of smelu over that of ReLU stopped at the same log-loss, {place}",
          "hi < x",
          (1.0,),
        ),
      ),
      f"{place} is at hand, and ReLU is evaluated at a log-loss as high as SmeLU's last one",
    ),
  ]


def _of_the_first(first: str, scale: str) -> list[Claim]:
  """Of the one place that has further sweeps around its own."""
  matched = [f for f in MATCHED if f in FAMILIES[first]]
  return [
    Claim(
      f"M1 init, {first}",
      "smooth activations lower prediction difference, whatever they are",
      tuple(
        Part(f"init-only PD of {s} over ReLU's, {first}", "hi < x", (_LOWER,))
        for s in fixed_width(scale)
      ),
      f"{first} is at hand, and {_BEATS}",
    ),
    Claim(
      "M3",
      "the simplest smooth activation does as well as the others",
      tuple(
        Part(
          f"order-only PD of smelu over that of {f} at the log-loss of {f} (mean of the logs over"
          " its widths)",
          "within [a, b]",
          _EQUAL,
        )
        for f in matched
      ),
      f"{first} is at hand, and {_BEATS}",
    ),
    Claim(
      "M4",
      "a wider smooth region trades accuracy for agreement",
      (
        Part("slope of log PD on log beta of smelu", "hi < x", (0.0,)),
        Part("log-loss of the widest smelu less that of the sharpest", "lo > x", (0.0,)),
      ),
      f"{first} is at hand, and {_BEATS}",
    ),
    Claim(
      "M6",
      "lists get steadier",
      (
        Part(
          "top-10 overlap of a user's lists between two orders, smelu less ReLU", "lo > x", (0.0,)
        ),
      ),
      f"{first} is at hand, and {_BEATS}",
    ),
  ]
