"""Variants over several tasks: aggregates, improvement on the baseline, performance profiles.

Everything speaks of new seeds on *these* tasks, every task weighing the same (`stats.many`, after
Agarwal et al., NeurIPS 2021), and carries no verdict: whether a variant is better is judged task
by task. A variant that lacks a task is left out, and named: an average over fewer tasks would
compare other tasks, not other variants.

A run that diverged without a value is lost: worse than every other in the probability of
improvement and below every threshold of a profile, but in no mean. Of a missing run nothing is
known, and nothing counts it.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from seedlab.errors import UserError
from seedlab.findings import Findings, counted
from seedlab.stats import many
from seedlab.stats.many import Estimate, Profile

_THRESHOLDS = 61


@dataclasses.dataclass(frozen=True)
class Standing:
  """A variant over all tasks, in display units (percent for fractions)."""

  name: str
  runs: tuple[int, ...]  # with a value, of each task
  lost: int  # runs that diverged without a value
  missing: int
  mean: Estimate
  median: Estimate  # of the tasks' means
  iqm: Estimate
  gap: Estimate | None  # optimality gap; None where lower is better or nothing is below gamma
  profile: Profile  # share of runs better than each threshold (higher, if direction is unknown)


@dataclasses.dataclass(frozen=True)
class Improvement:
  """P(a new run of the variant is better than one of the baseline), mean over tasks."""

  variant: str
  baseline: str
  probability: Estimate  # of being higher, if the direction is unknown


@dataclasses.dataclass(frozen=True)
class Aggregate:
  metric: str
  unit: str  # of differences, after a blank
  percent: bool
  better: int  # 1: higher is better, -1: lower, 0: not known
  tasks: tuple[str, ...]
  gamma: float  # of the optimality gap, in display units
  standings: tuple[Standing, ...]  # of the variants that hold every task, the baseline first
  improvements: tuple[Improvement, ...]  # on the baseline; none if it lacks a task
  left_out: tuple[tuple[str, tuple[str, ...]], ...]  # variants, and the tasks that they lack
  notes: tuple[str, ...]


def aggregate(
  sweeps: Sequence[Findings], rng_seed: int = 0, gamma: float = 1.0
) -> Aggregate | None:
  """Aggregates of the same variants on several tasks; None with fewer than two tasks.

  Args:
    sweeps: one for each variant (`name`) and task (`task`), of independent runs; the variant
      of the first is the baseline.
    rng_seed: of the bootstrap.
    gamma: the aim from which the optimality gap is measured, in the unit of the metric (1 is 100 %
      of a fraction). The gap says something only where scores are normalised to this aim.

  Raises UserError where tasks have the metric in different units or directions.
  """
  tasks = tuple(dict.fromkeys(sweep.task for sweep in sweeps))
  if len(tasks) < 2:
    return None
  first = sweeps[0]
  _same_unit(sweeps)
  found: dict[str, dict[str, Findings]] = {}
  for sweep in sweeps:
    if sweep.task in found.setdefault(sweep.name, {}):
      raise ValueError(f"variant {sweep.name!r} occurs twice on task {sweep.task!r}")
    found[sweep.name][sweep.task] = sweep
  left_out = tuple(
    (name, tuple(task for task in tasks if task not in of))
    for name, of in found.items()
    if len(of) < len(tasks)
  )
  whole = {name: [of[t] for t in tasks] for name, of in found.items() if len(of) == len(tasks)}
  gamma = gamma * (100 if first.percent else 1)
  draws = _draws(sum(len(x) for of in whole.values() for x in _values(of)))
  thresholds_L = _thresholds(whole)
  standings = tuple(
    _standing(name, of, gamma, thresholds_L, np.random.default_rng([rng_seed, number]), draws)
    for number, (name, of) in enumerate(whole.items())
  )
  improvements = []
  for number, name in enumerate(whole):
    if first.name in whole and name != first.name:
      rng = np.random.default_rng([rng_seed, 1, number])
      scores = _ordered(whole[name]), _ordered(whole[first.name])
      probability = many.improvement(scores[0], scores[1], rng, draws=draws)
      improvements.append(Improvement(name, first.name, probability))
  return Aggregate(
    metric=first.metric,
    unit=first.unit,
    percent=first.percent,
    better=first.better,
    tasks=tasks,
    gamma=gamma,
    standings=standings,
    improvements=tuple(improvements),
    left_out=left_out,
    notes=(*_unpaired(left_out, first.name), *_notes(standings, tasks)),
  )


def _draws(runs: int) -> int:
  """Resamples: 2,000, fewer of a large table, whose intervals are narrow anyway."""
  return min(2000, max(100, 10_000_000 // runs)) if runs else 0


def _same_unit(sweeps: Sequence[Findings]) -> None:
  first = sweeps[0]
  for sweep in sweeps[1:]:
    if sweep.percent != first.percent:
      raise UserError(
        f"metric={first.metric!r}: {first.name} on task {first.task!r} has"
        f" {'fractions' if first.percent else 'no fractions'} and {sweep.name} on task"
        f" {sweep.task!r} {'has' if sweep.percent else 'has none'}; bring the tasks to one unit"
      )
    if sweep.better != first.better:
      raise UserError(
        f"metric={first.metric!r}: tasks {first.task!r} and {sweep.task!r} say different things of"
        " which way it is better; say it with better=higher or better=lower"
      )


def _values(of: Sequence[Findings]) -> list[np.ndarray]:
  return [sweep.columns[0].values for sweep in of]


def _lost(sweep: Findings) -> int:
  """Runs that diverged and have no value in the first column."""
  return sweep.completed - len(sweep.columns[0].values)


def _ordered(of: Sequence[Findings]) -> list[np.ndarray]:
  """Values with higher the better, lost runs as -inf."""
  sign = -1 if of[0].better < 0 else 1
  return [
    np.concatenate([sign * sweep.columns[0].values, np.full(_lost(sweep), -np.inf)]) for sweep in of
  ]


def _thresholds(whole: dict[str, list[Findings]]) -> np.ndarray:
  """Over the range of all values of all variants; none without a variant."""
  if not whole:
    return np.zeros(0)
  values = np.concatenate([x for of in whole.values() for x in _values(of)])
  return np.unique(np.linspace(values.min(), values.max(), _THRESHOLDS))


def _standing(
  name: str,
  of: Sequence[Findings],
  gamma: float,
  thresholds_L: np.ndarray,
  rng: np.random.Generator,
  draws: int,
) -> Standing:
  values = _values(of)
  found = many.aggregates(values, rng, gamma, draws=draws)
  sign = -1 if of[0].better < 0 else 1
  profile = many.performance_profile(_ordered(of), sign * thresholds_L, rng, draws=draws)
  below = any((x < gamma).any() for x in values)
  return Standing(
    name=name,
    runs=tuple(map(len, values)),
    lost=sum(map(_lost, of)),
    missing=sum(sweep.missing for sweep in of),
    mean=found["mean"],
    median=found["median"],
    iqm=found["IQM"],
    gap=found["optimality gap"] if of[0].better > 0 and below else None,
    profile=dataclasses.replace(profile, thresholds_L=thresholds_L),
  )


def _unpaired(left_out: Sequence[tuple[str, tuple[str, ...]]], baseline: str) -> list[str]:
  found = []
  for name, lacking in left_out:
    shown = ", ".join(lacking[:3]) + (f" and {len(lacking) - 3:,} more" if lacking[3:] else "")
    kind = "task" if len(lacking) == 1 else "tasks"
    found.append(
      f"{name} has no runs on {kind} {shown} and is left out of the aggregates: over fewer tasks"
      " they would be of something else."
    )
    if name == baseline:
      found.append("Without the baseline there is no probability of improvement on it.")
  return found


def _notes(standings: Sequence[Standing], tasks: Sequence[str]) -> list[str]:
  found = []
  for one in standings:
    if one.lost:
      of = counted(sum(one.runs) + one.lost, "run")
      found.append(
        f"{one.name}: {one.lost:,} of {of} diverged. They count as lost in the probability of"
        " improvement and in the performance profile; mean, median and interquartile mean are"
        " those of the runs that survived, which flatters it."
      )
    if one.missing:
      are = "is" if one.missing == 1 else "are"
      found.append(
        f"{one.name}: {counted(one.missing, 'run')} {are} missing. Nothing is known of"
        f" {'it' if one.missing == 1 else 'them'}, and no number here allows for the worst."
      )
    if min(one.runs) < 2:
      single = tasks[one.runs.index(1)]
      found.append(f"{one.name} has 1 run on task {single}: no interval can be given.")
  fewest = min((min(one.runs) for one in standings), default=many.FEW)
  if 1 < fewest < many.FEW:
    found.append(
      f"With {fewest} runs of a task the usual percentile intervals (rliable's) are too short;"
      " those shown are widened for it."
    )
  return found
