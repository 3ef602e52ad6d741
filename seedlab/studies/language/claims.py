"""Claims L1 to L10 of the study of language, fixed before training.

Steps and margins of scale `laptop` were chosen on runs 1,000,000 and up (docs/language.md); those
of `paper` are the same shares of a run.
"""

import dataclasses

from seedlab.claims import Claim, Part
from seedlab.studies.language import settings

PUBLISHED_SPREAD = 0.00056  # sd over mean of 1,261 trainings of GPT-2 124M (modded-nanogpt's logs)
_SHARE = 0.25  # L2 and L5: of the variance of the loss
_CARRIED = 0.5  # L1 and L6: correlations
_LOSS = 0.02  # nats, L8: "at no loss"
# Steps of the course of training, L3: after the warm-up, before and at the height, and the end.
PHASES = {"smoke": (2, 4, 6, 8), "laptop": (60, 100, 240, 400), "paper": (600, 1200, 3000, 5000)}
EARLY = {"smoke": (4, 6), "laptop": (240, 320), "paper": (3000, 4000)}  # L4
REPEATS = {"smoke": (1, 2), "laptop": (5, 16), "paper": (5, 16)}  # L9: times each window was seen
_NO_GAP, _GAP = 0.03, 0.1  # nats, L9


def make(scale: str) -> list[Claim]:
  """L1 to L10; L3 in three parts that are judged apart."""
  made = [*_of_loss(), *_of_course(scale), *_of_further(scale)]
  made.sort(key=lambda claim: int(claim.id.split()[0].removeprefix("L")))
  return [dataclasses.replace(claim, family="language") for claim in made]


def rivals(scale: str) -> list[str]:
  """The activations that SmeLU is compared with (L8)."""
  return ["gelu", *list(settings.activations(scale))[1:]]


def _of_loss() -> list[Claim]:
  sources = ("initialisation", "order")
  return [
    Claim(
      "L1",
      "the spread of the loss between seeds is real, and no smaller than that of a large model",
      (
        Part("sd of the test loss over its mean", "lo > x", (PUBLISHED_SPREAD,)),
        Part(
          "correlation over seeds of the loss on every second window of the held-out book with that"
          " on the others",
          "lo > x",
          (_CARRIED,),
        ),
      ),
    ),
    Claim(
      "L2",
      "initialisation and order each make much of the spread, and each alone parts predictions",
      (
        *(
          Part(f"total share of the {one} in the variance of the test loss", "lo > x", (_SHARE,))
          for one in sources
        ),
        *(
          Part(f"PD where the {one} alone differs, over that where both do", "lo > x", (0.5,))
          for one in sources
        ),
      ),
      "all runs of the crossed design ended",
    ),
    Claim(
      "L5",
      "fine-tuning: the new layer's initialisation and the order each contribute a quarter or more",
      tuple(
        Part(f"total share of the {one} in the variance of the test loss", "lo > x", (_SHARE,))
        for one in sources
      ),
      "all runs of the crossed design ended, and classify better than by guessing",
    ),
    Claim(
      "L6",
      "a seed's luck in loss carries over to another temperature and to a held-out book",
      tuple(
        Part(f"correlation over seeds of the test loss with {other}", "lo > x", (_CARRIED,))
        for other in ("that at temperature 0.8", "the loss on the held-out book")
      ),
    ),
    Claim(
      "L7",
      "decoding seeds move what is measured of sampled texts more than training seeds do",
      tuple(
        Part(f"share of decoding in the variance of one draw: {what}", "lo > x", (0.5,))
        for what in (
          "known words (`babble`: tokens that the grammar allows)",
          "novel runs of characters (`babble`: different runs)",
        )
      ),
    ),
  ]


def _of_course(scale: str) -> list[Claim]:
  warm, before, height, end = PHASES[scale]
  phases = (
    ("convergence", "hi < x", warm, before),
    ("divergence", "lo > x", before, height),
    ("reconvergence", "hi < x", height, end),
  )
  made = [
    Claim(
      f"L3 {name}",
      f"over training seeds pass through a phase of {name}",
      (Part(f"divergence between runs at step {b:,} over that at step {a:,}", rule, (1.0,)),),
    )
    for name, rule, a, b in phases
  ]
  return [
    *made,
    Claim(
      "L4",
      "frequent tokens converge first",
      tuple(
        Part(
          f"divergence in contexts with a frequent next token over that in others, step {step:,}",
          "hi < x",
          (1.0,),
        )
        for step in EARLY[scale]
      ),
    ),
  ]


def _of_further(scale: str) -> list[Claim]:
  few, many = REPEATS[scale]
  return [
    Claim(
      "L8",
      "smooth activations lower prediction difference, at no loss",
      (
        *(Part(f"PD of smelu over that of {one}", "hi < x", (1.0,)) for one in rivals(scale)),
        *(
          Part(f"test loss of smelu less that of {one}, nats", "hi < x", (_LOSS,))
          for one in rivals(scale)
        ),
      ),
      "all runs of all activations ended",
    ),
    Claim(
      "L9",
      "seen a few times the same text is as good as new, and seen often it is not",
      (
        Part(
          f"`babble`: test loss of the real world less the ideal one's after {few} repeats, nats",
          "within [a, b]",
          (-_NO_GAP, _NO_GAP),
        ),
        Part(f"the same after {many} repeats", "lo > x", (_GAP,)),
      ),
      "all runs of both worlds ended",
    ),
    Claim(
      "L10",
      "one ulp is as good as another seed",
      (
        Part(
          "PD at the end of runs that differ by one ulp of one parameter before the first step,"
          " over that of runs that differ in all seeds",
          "lo > x",
          (0.5,),
        ),
      ),
    ),
  ]
