"""Looking again at sweeps that grow, on one error budget: a first look at the plan, then doublings.

A sweep is planned for n0 runs. It is looked at when it holds n0, 2 n0, 4 n0, ... of them, and look
k = 0, 1, 2, ... may err with probability alpha w(k), w = 0.8, 0.1, 0.05, 0.025, ... in all alpha.
Between doublings the last verdict stands. So the p-value of the whole route is the smallest
p(k) / w(k), and the interval at look k has level 1 - alpha w(k). A plan that is kept costs little
(4 % instead of 5 %), and who goes on pays nothing for having looked.
"""

from typing import NamedTuple

_FIRST = 0.8  # of the budget for the look at the plan; the doublings share the rest


class Look(NamedTuple):
  """Of two sweeps, how many runs each is judged with, and what of the error budget that takes."""

  runs_a: int
  runs_b: int
  weight: float


def weight(index: int) -> float:
  """Share of the error budget of look 0, 1, 2, ...: 0.8, 0.1, 0.05, 0.025, ...; the sum is 1."""
  return _FIRST if index == 0 else (1 - _FIRST) * 0.5**index


def doublings(first: int, runs: int) -> int:
  """How often a plan of `first` runs was doubled by `runs`; -1 before the plan is reached."""
  index = -1
  while first <= runs:
    index, first = index + 1, 2 * first
  return index


def looks(planned_a: int, runs_a: int, planned_b: int, runs_b: int) -> list[Look]:
  """The looks that two sweeps have reached, the last of them the latest; none before both plans.

  Where one sweep grows: all its doublings. Where both have doubled: the plan and now. A look's
  place in the budget is the number of doublings of both together, since these only rise,
  so that no order in which the two sweeps grew ever uses the same part of the budget twice.
  (Paired sweeps grow together: give the number of pairs, and a sweep B that never doubles.)
  """
  a, b = doublings(planned_a, runs_a), doublings(planned_b, runs_b)
  if min(a, b) < 0:
    return []
  if a and b:
    reached = [(0, 0), (a, b)]
  else:
    reached = [(i, 0) for i in range(a + 1)] if a else [(0, j) for j in range(b + 1)]
  return [Look(planned_a << i, planned_b << j, weight(i + j)) for i, j in reached]
