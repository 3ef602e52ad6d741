"""Claims D1 to D7 of the diffusion study, fixed before training."""

import dataclasses

from seedlab.claims import Claim, Part
from seedlab.studies.diffusion import settings
from seedlab.studies.diffusion.sweeps import widths

_CV = 0.03  # D2
_SHARE = 0.25  # D3: of the variance between trainings, with interactions
_FLATTERED = 0.01  # D4: of the distance
_OVERTURNED = 0.05  # D4: of the pairs
_HALVED = 0.75  # D5: nearer to a half than to no change
_RESHUFFLED = 0.7  # D5: half of the variance is then not shared
_WORTH = 1.1  # D6
_NEAR = 0.5  # D7

WATCHED = (0, 1, 3, 7)  # evaluations of the longer trainings at which D2 is judged, if there are


def make(scale: str) -> list[Claim]:
  """D1 to D7, fixed before training."""
  precondition = "at least half of the samples of the main trainings lie among the data (precision)"
  return [
    dataclasses.replace(claim, family="diffusion", precondition=precondition)
    for claim in [*_of_spread(scale), *_of_draws(), *_of_seeds(), *_of_images(scale)]
  ]


def _of_spread(scale: str) -> list[Claim]:
  """D1 to D3: how much trainings differ, and by what."""
  others = [f"width {name.removeprefix('width')}" for name in widths(scale)]
  points = [f"evaluation {number + 1} of the longer trainings" for number in WATCHED]
  return [
    Claim(
      "D1",
      "training again moves the Frechet distance more than drawing other samples does",
      (Part("sd between trainings over sd between draws of one training", "lo > x", (1.0,)),),
    ),
    Claim(
      "D2 size",
      "the spread between trainings is below 3 % of the distance, at every compute",
      tuple(
        Part(f"coefficient of variation between trainings, {where}", "hi < x", (_CV,))
        for where in [*others, *points]
      ),
    ),
    Claim(
      "D2 trend",
      "that share does not depend on compute",
      (
        Part(
          "coefficient of variation at the last evaluation of the longer trainings over that at"
          " the first",
          "within [a, b]",
          (0.5, 2.0),
        ),
      ),
    ),
    Claim(
      "D3",
      "initialisation, order and noise are each to blame, with their interactions",
      tuple(
        Part(f"total effect of {factor} on the distance, as a share of the variance", "lo > x",
             (_SHARE,))
        for factor in settings.FACTORS
      ),
    ),
  ]


def _of_draws() -> list[Claim]:
  """D4: what the best of several draws does."""
  return [
    Claim(
      "D4 flattery",
      "quoting the best of three draws flatters by more than 1 %",
      (
        Part(
          "mean of the draws less the best of three, over the mean distance", "lo > x",
          (_FLATTERED,),
        ),
      ),
    ),
    Claim(
      "D4 ranking",
      "and that changes which of two models is said to be better",
      (
        Part(
          "share of pairs of trainings in which relu beats silu, relu quoted by the best of three"
          " draws, less the share with one draw of each",
          "lo > x",
          (_OVERTURNED,),
        ),
      ),
    ),
  ]


def _of_seeds() -> list[Claim]:
  """D5 and D6: what guidance does to seeds, and what luck is worth."""
  return [
    Claim(
      "D5 spread",
      "guidance halves the spread between trainings",
      (Part("sd between trainings, guided over not guided", "hi < x", (_HALVED,)),),
    ),
    Claim(
      "D5 seeds",
      "and reshuffles the seeds",
      (
        Part(
          "correlation over the seeds of the guided distance with that without guidance", "hi < x",
          (_RESHUFFLED,),
        ),
      ),
    ),
    Claim(
      "D6",
      "a lucky seed is worth compute",
      (
        Part(
          "steps that a mean seed takes to the distance of the luckiest tenth at half time, over"
          " half time",
          "lo > x",
          (_WORTH,),
        ),
      ),
    ),
  ]


def _of_images(scale: str) -> list[Claim]:
  """D7: what two trainings make of one noise."""
  made = [
    Claim(
      "D7 same",
      "the same noise gives nearly the same image, whatever the training seed",
      (
        Part(
          "distance of two trainings' images from one noise, over that of one training's images of"
          " one class from two noises",
          "hi < x",
          (_NEAR,),
        ),
      ),
    ),
    Claim(
      "D7 time",
      "and the more so the longer they are trained",
      (Part("the same at the last evaluation over that at the first", "hi < x", (1.0,)),),
    ),
  ]
  if scale != "smoke":
    made.append(
      Claim(
        "D7 smooth",
        "smooth activations bring the images of two trainings nearer",
        tuple(
          Part(f"distance of images from one noise, {a} over {b}", "hi < x", (1.0,))
          for a, b in (("silu", "relu"), ("smelu", "relu"))
        ),
      )
    )
  return made
