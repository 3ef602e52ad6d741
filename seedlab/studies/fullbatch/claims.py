"""Claims F1 to F7 of the full-batch study, fixed before training if they have no history."""

import dataclasses

from seedlab.claims import Claim, Earlier, Part
from seedlab.studies.fullbatch.sweeps import places_of

LOSS_SLACK = 0.01  # nats of train loss that count as "not above"
_MARGIN = {"smoke": 1.0, "laptop": 1.0, "paper": 0.5}  # points, of F3, F4 and F7


def make(scale: str) -> list[Claim]:
  """F1 to F7."""
  margin = _MARGIN[scale]
  others = [place.name for place in places_of(scale)[1:]]

  def part(estimand: str, rule: str, *limits: float) -> Part:
    return Part(f"test accuracy, {estimand}, points", rule, limits)

  def fitted(*rows: str) -> str:
    return (
      f"train loss of {', '.join(rows)} not above that of SGD (by more than {LOSS_SLACK} nats,"
      " not augmented, in evaluation mode)"
    )

  made = [
    Claim(
      "F1",
      "plain full-batch descent generalises worse than SGD",
      (part("full_batch - sgd", "hi < x", -1.0),),
      fitted("full_batch"),
    ),
    Claim(
      "F2",
      "training longer recovers a part of that, and not all",
      (part("longer - full_batch", "lo > x", 0.0), part("longer - sgd", "hi < x", 0.0)),
      fitted("longer"),
    ),
    Claim(
      "F3",
      "clipping and a gradient penalty suffice to match tuned SGD",
      (part("regularized - sgd_tuned", "lo > x", -margin),),
      fitted("regularized"),
    ),
    Claim(
      "F4",
      "no randomness is needed: the same without augmentation and on fixed copies",
      (
        part("regularized - sgd_tuned, no augmentation", "lo > x", -margin),
        part("regularized - sgd_tuned, fixed copies", "lo > x", -margin),
      ),
      "train loss of both not above that of sgd_tuned on the same data; no bit of the rows without"
      " augmentation moved by `order` and `augment`",
      history=(
        Earlier(
          "2026-11-22",
          "the same, where all four of the fixed copies were shifted",
          "not testable here: the full batch did not fit the copies",
          "a later version of the published code keeps the image itself as the first copy",
        ),
      ),
    ),
    Claim(
      "F5",
      "gradient noise is not what helps: the best tuned noise stays below SGD",
      (part("best of the noise rows - sgd", "hi < x", -1.0),),
      fitted("the noise row"),
    ),
    Claim(
      "F6",
      "sampling with replacement is as good as without",
      (part("sgd_replacement - sgd", "within [a, b]", -0.5, 0.5),),
      fitted("sgd_replacement"),
    ),
    Claim(
      "F7",
      f"F3 carries over to {' and '.join(others) or 'further data sets'}",
      tuple(
        part(f"regularized - sgd_tuned on {place.name}", "lo > x", -margin)
        for place in places_of(scale)[1:] or places_of(scale)
      ),
      "every further data set at hand, train loss as for F3",
    ),
  ]
  return [dataclasses.replace(claim, family="fullbatch") for claim in made]
