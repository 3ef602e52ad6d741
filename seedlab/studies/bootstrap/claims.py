"""Claims B1 to B4 of the Deep Bootstrap study, fixed before training if they have no history."""

import dataclasses

from seedlab.claims import Claim, Earlier, Part
from seedlab.studies.bootstrap.sweeps import places_of

METRICS = ("soft", "hard")  # errors: 1 - p(label), and whether the label is missed
# Hard train error, not augmented, in evaluation mode, at which a run has converged: at its t*.
CONVERGED = 0.01
SMALL = 0.03  # of a bootstrap error
REACH = 0.8  # share of the runs that must converge for a setting to be judged
_RANK_RATIO = 0.5  # B3: mean |gap| beside the sd between settings
SETTINGS = 8  # fewest of B3
_IDEAL_HARM = 0.02  # B4: most that augmentation may add to the ideal world's error

_B3_BEFORE = Earlier(
  "2026-11-25",
  "the same two parts over eight settings, two of which do not converge",
  "open: tau 0.57, mean gap 0.54 of the sd between settings",
  "errors at t* mean nothing where t* is not reached; three settings that converge were added",
)


def make(scale: str) -> list[Claim]:
  """B1 to B4."""
  made = []
  reached = f"at least {100 * REACH:g} % of the runs of each of these settings reach"
  for place in places_of(scale):
    settled = f"{reached} a hard train error of {100 * CONVERGED:g} %"
    for metric in METRICS:
      made += [
        Claim(
          f"B1 {metric}, {place.name}",
          f"until the real world has converged, its {metric} test error is the ideal world's",
          tuple(
            Part(
              f"{network}, N = {size}, largest |bootstrap {metric}-error| up to t*",
              "hi < x",
              (SMALL,),
            )
            for network in place.networks
            for size in place.sizes
          ),
          f"B2 {metric}, {place.name} holds, and {settled}",
        ),
        Claim(
          f"B2 {metric}, {place.name}",
          "control: long after it has converged, the real world is worse",
          tuple(
            Part(
              f"{network}, N = {place.sizes[0]}, bootstrap {metric}-error at the end",
              "lo > x",
              (SMALL,),
            )
            for network in place.networks
          ),
          f"{place.name} is at hand",
        ),
      ]
  first = places_of(scale)[0]
  made += [
    Claim(
      "B3",
      "what is fast online is good offline: settings rank alike in both worlds",
      (
        Part(
          f"Kendall's tau of real and ideal soft-error at t* over the {first.name} settings that"
          " converge",
          "lo > x",
          (0.0,),
        ),
        Part(
          "mean |bootstrap soft-error| at t* over the sd of the ideal error between settings",
          "hi < x",
          (_RANK_RATIO,),
        ),
      ),
      f"{SETTINGS} settings or more, N = {first.sizes[-1]}, of which {100 * REACH:g} % of the"
      " runs converge",
      history=(_B3_BEFORE,),
    ),
    Claim(
      "B4",
      "augmentation helps by delaying the real world's convergence, without harm to the ideal one",
      (
        *(
          Part(f"log of t* with over t* without augmentation, {network}", "lo > x", (0.0,))
          for network in first.networks
        ),
        *(
          Part(
            f"change of the ideal world's hard error by augmentation, {network}",
            "hi < x",
            (_IDEAL_HARM,),
          )
          for network in first.networks
        ),
      ),
      "every run without augmentation reaches t*",
    ),
  ]
  return [dataclasses.replace(claim, family="bootstrap") for claim in made]
