"""Is B better than A? Two or more sweeps (or variants of a table) judged on one metric.

The first is the baseline; every other one is compared with it, on each task by itself where there
are several. What carries the verdict is chosen by design, never by outcome (`seedlab.judging`);
everything else (the other intervals, P(better), rates of divergence, sensitivity to diverged runs)
stands beside it and carries none. Where nobody knows whether a higher or a lower value is better,
nothing is judged.
"""

import dataclasses
import functools
import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np
import pandas as pd
import scipy.stats

from seedlab import aggregates, config, findings, judging, tables
from seedlab.aggregates import Aggregate
from seedlab.config import STREAMS
from seedlab.errors import NotComparable, UserError
from seedlab.findings import Findings, counted
from seedlab.judging import Evidence, Rules, Verdict
from seedlab.meanings import Direction
from seedlab.stats import comparison, crossed, many, resolution, route, sequential
from seedlab.stats import forecast as forecasts
from seedlab.stats.comparison import Contrast, Spread, TwoSweeps
from seedlab.stats.single import Interval
from seedlab.tables import Table

if TYPE_CHECKING:  # tables are judged without the libraries that open stores
  import xarray

LEVEL = 1 - judging.ALPHA
Source: TypeAlias = Union[str, os.PathLike, "xarray.Dataset", pd.DataFrame, Table]


@dataclasses.dataclass(frozen=True)
class Pair:
  """A variant beside the baseline; differences are variant - baseline, in display units."""

  baseline: Findings
  variant: Findings
  verdict: Verdict
  looks: list[Evidence]  # those reached, the latest last
  two: TwoSweeps  # all runs that have a number; the variant is its A
  fixed: Contrast | Interval  # of the means at this number of runs, at 95 %, whatever judges
  anytime: Contrast | None  # of the means, at 95 %; None where it is infinite, or crossed
  better: Contrast | None  # P(variant better than baseline); higher, if the direction is unknown
  without_diverged: Contrast | None
  diverged_p: float  # Fisher's exact test of equal rates of divergence; nan if no run diverged
  rules: Rules  # by which it was judged

  @property
  def sign(self) -> int:
    return -1 if self.baseline.better < 0 else 1

  @property
  def task(self) -> str:
    return self.variant.task

  @property
  def settled(self) -> judging.Outcome:
    """better, worse, equal or open; "unknown direction" where nothing can be judged."""
    return self.verdict.outcome

  @property
  def judged(self) -> Interval:
    """What carries the verdict: an interval of the difference, or of P(better) (`by_ranks`)."""
    return self.verdict.judged

  @property
  def judged_by(self) -> judging.Kind:
    return self.verdict.evidence.kind

  @property
  def by_ranks(self) -> bool:
    return self.verdict.evidence.by_ranks

  @property
  def level(self) -> float:
    """1 less the error rate that this variant's verdict was given at, looks included."""
    return self.verdict.level

  @property
  def p_value(self) -> float:
    """Of no difference, over all looks, before the family's correction."""
    return min(look.p_value for look in self.looks)

  @property
  def p_equal(self) -> float:
    """Of a difference of the margin or more; 1 without a margin."""
    return min(look.p_equal for look in self.looks)

  @property
  def arms(self) -> tuple[forecasts.Arm, forecasts.Arm | None]:
    """What grows, and what stays: the differences of pairs alone, or of two sweeps that first of
    which more runs help most."""
    two = self.looks[-1].two
    if two.paired and self.rules.spread is None:
      return forecasts.of_pairs(two), None
    a, b = forecasts.of_sweep(two.a_R), forecasts.of_sweep(two.b_S)
    return (b, a) if self.grows == self.baseline.name else (a, b)

  @property
  def grows(self) -> str:
    """Whose runs the forecast adds; "" for pairs, which grow together.

    Of two independent sweeps the one whose mean is known less well; beside a table's baseline,
    which counts as finished, the variant.
    """
    two = self.looks[-1].two
    if two.paired and self.rules.spread is None:
      return ""
    if self.baseline.dataset is None:
      return self.variant.name
    errors = [x.var(ddof=1) / len(x) if len(x) > 1 else math.inf for x in (two.a_R, two.b_S)]
    return (self.baseline if errors[1] > errors[0] else self.variant).name

  @functools.cached_property
  def forecast(self) -> forecasts.Forecast | None:
    """Of an open verdict on means: what the next look will say."""
    latest = self.looks[-1]
    silent = latest.by_ranks or latest.kind == "crossed" or self.settled != "open"
    if self.rules.spread and judging.too_small(latest.two, self.rules.spread):
      silent = True
    return None if silent else _forecast(self)


@dataclasses.dataclass(frozen=True)
class Comparison:
  metric: str
  unit: str
  rules: Rules
  sweeps: list[Findings]
  pairs: list[Pair]
  differences: list[tuple[str, list[Any]]]  # config field -> its value in each sweep
  ranks: many.Ranks | None  # of three or more sweeps of independent runs, if a direction is known
  aggregate: Aggregate | None  # over tasks, where there are several

  @property
  def margin(self) -> float | None:
    return self.rules.margin


def compare(
  sources: Sequence[Source] | pd.DataFrame | Table,
  metric: str | None = None,
  *,
  better: Direction | None = None,
  margin: float | None = None,
  paired: bool | None = None,
  planned_n: int | None = None,
  looked: bool = False,
  sigma: float | None = None,
  floor: Source | None = None,
  names: Sequence[str] | None = None,
  variant: str | None = None,
  seed: str | None = None,
  task: str | None = None,
  at: str | None = None,
) -> Comparison:
  """Compares the second and every further sweep with the first.

  Args:
    sources: stores (directories or Datasets), or tables: whatever `tables.read` takes; one may
      hold several variants.
    metric: to judge by; by default the first of the first store, or a table's only one.
    better: which way the metric is better, "higher" or "lower"; by default as the stores say,
      or, where they do not, as the words of its name tell (docs/statistics.md).
    margin: what counts as a difference worth having, in the unit shown (points for
      fractions); allows the verdict "equal".
    paired: True: equal seeds are pairs, whatever else the designs hold; False: no pairs. By default
      runs are pairs where both designs have the same set of seeds.
    planned_n: of a table that grew: its number of runs when it was first looked at. By default
      a table is judged as finished, with the seeds fixed beforehand; a store knows its plan.
    looked: seeds were added until it looked good: judged by an interval that forgives that.
    sigma: the sd of a run, where it is known, in the unit shown.
    floor: a sweep or table from which to learn that sd, with its uncertainty.
    names: of the sources, by default the last parts of their paths.
    variant, seed, task, at: of tables, as `tables.read` takes them.

  Raises UserError for what is wrong, NotComparable for sweeps on different test sets, in different
  units, or of designs that do not fit.
  """
  sources = [sources] if isinstance(sources, (pd.DataFrame, Table)) else list(sources)
  _check(sources, better, margin, names)
  _check_plan(planned_n, looked, sigma is not None or floor is not None)
  roles = {"variant": variant, "seed": seed, "task": task, "at": at}
  sweeps: list[Findings] = []
  for number, source in enumerate(sources):
    given = metric or (sweeps[0].metric if sweeps else None)
    sweeps += read(source, given, names[number] if names else "", **roles)
  sweeps = _one_direction(_distinct(sweeps), better)
  if planned_n is not None:
    sweeps = _with_plan(sweeps, planned_n)
  matched = _matched(sweeps)
  findings.in_points("margin", margin, sweeps)
  findings.in_points("sigma", sigma, sweeps)
  rules = Rules(margin, paired, looked, spread_of(sigma, floor, sweeps[0].metric, **roles))
  for two in matched:
    same_test_set(*two)
  looks = [_evidence(*two, _on_grid(rules, two)) for two in matched]
  verdicts = judging.verdicts(looks, sweeps[0].better, margin)
  return Comparison(
    metric=sweeps[0].metric,
    unit=sweeps[0].unit,
    rules=rules,
    sweeps=sweeps,
    pairs=[
      _pair(*two, reached, verdict, _on_grid(rules, two))
      for two, reached, verdict in zip(matched, looks, verdicts, strict=True)
    ],
    differences=differing([sweep.record for sweep in sweeps]),
    ranks=_ranks(sweeps),
    aggregate=aggregates.aggregate(sweeps),
  )


def _check(sources, better, margin, names) -> None:
  if better not in (None, "higher", "lower"):
    raise UserError(f"better={better!r} must be higher or lower")
  if margin is not None and not 0 < margin < math.inf:
    raise UserError(f"margin={margin} must be a positive number in the unit of the metric")
  if names and len(names) != len(sources):
    raise UserError(f"names={','.join(names)} are {len(names)} for {len(sources)} sources")


def _check_plan(planned_n: int | None, looked: bool, spread_known: bool) -> None:
  least = 1 if spread_known else 2
  if planned_n is not None and planned_n < least:
    raise UserError(f"planned_n={planned_n} must be at least {least}")
  if planned_n is not None and looked:
    raise UserError(
      f"planned_n={planned_n} and looked exclude each other: seeds that were added until it looked"
      " good followed no plan; give one"
    )


def _with_plan(sweeps: list[Findings], planned_n: int) -> list[Findings]:
  recorded = [sweep.name for sweep in sweeps if sweep.record]
  if recorded:
    raise UserError(
      f"planned_n={planned_n} is for tables; {recorded[0]!r} is a store, whose plan was recorded"
      " before training: leave it out"
    )
  return [dataclasses.replace(sweep, planned_n=planned_n) for sweep in sweeps]


def _matched(sweeps: list[Findings]) -> list[tuple[Findings, Findings]]:
  """(baseline, variant) of every further sweep, on the task of both."""
  if len(sweeps) < 2:
    raise UserError(
      f"{counted(len(sweeps), 'sweep')} to compare; give two stores, or a table of two variants"
    )
  base = {sweep.task: sweep for sweep in sweeps if sweep.name == sweeps[0].name}
  pairs = []
  for sweep in sweeps:
    if sweep.name == sweeps[0].name:
      continue
    if sweep.task in base:  # the aggregates name what the baseline lacks
      pairs.append((base[sweep.task], sweep))
  if not pairs and len({sweep.name for sweep in sweeps}) > 1:
    raise NotComparable(
      f"{sweeps[0].name}, the baseline, and the other variants share no task; run them on the same"
    )
  if not pairs:
    raise UserError(
      f"{sweeps[0].name!r} is the only variant; a comparison needs two stores, or a table of two"
      " variants"
    )
  return pairs


def spread_of(
  sigma: float | None, floor: Source | None, metric: str, **roles: Any
) -> Spread | None:
  """What is known of the sd of a run."""
  named = floor if isinstance(floor, str | os.PathLike) else "(a table or store)"
  if sigma is not None and floor is not None:
    raise UserError(f"sigma={sigma} and floor={named} are two noise floors; give one")
  if sigma is not None:
    if not 0 < sigma < math.inf:
      raise UserError(f"sigma={sigma} must be a positive number in the unit of the metric")
    return Spread(sigma, math.inf)
  if floor is None:
    return None
  found = read(floor, metric, **roles)
  if len(found) != 1:
    names = ", ".join(one.name for one in found)
    raise UserError(f"floor={named} holds {len(found)} sweeps ({names}); it must be of one alone")
  (one,) = found
  if one.repeats:
    raise UserError(
      f"floor={one.name} holds seeds that were trained more than once, whose means spread less than"
      " single runs; keep one row of each seed"
    )
  values = one.columns[-1].values
  if not one.independent or len(values) < 3 or not np.ptp(values) > 0:
    raise UserError(
      f"floor={named} has {counted(len(values), 'run')} of {one.label} to learn a spread from; it"
      " needs at least 3 independent ones that differ"
    )
  return Spread(float(values.std(ddof=1)), len(values) - 1)


def _on_grid(rules: Rules, two: tuple[Findings, Findings]) -> Rules:
  """The rules with the step of the grid that the values of both lie on, in display units."""
  scale = 100.0 if two[0].percent else 1.0
  examples = {sweep.examples for sweep in two}
  values = np.concatenate([sweep.columns[0].values for sweep in two]) / scale
  known = examples.pop() if len(examples) == 1 and two[0].percent else 0
  return dataclasses.replace(rules, step=scale * resolution.step(values, known))


def _ranks(sweeps: Sequence[Findings]) -> many.Ranks | None:
  """Of the means; resampled together where all sweeps hold the same run numbers.

  Below ten runs the simultaneous sets of ranks say next to nothing (docs/statistics.md).
  """
  used = [_used(sweep) for sweep in sweeps]
  few = min(len(values_R) for values_R, _ in used) < 10
  known = sweeps[0].better and all(sweep.independent for sweep in sweeps)
  whole = all(np.isfinite(judging.outcomes(sweep)).all() for sweep in sweeps)
  if len(sweeps) < 3 or few or not known or not whole or sweeps[0].task:
    return None
  paired = all(np.array_equal(run_R, used[0][1]) for _, run_R in used[1:])
  draws = 2000 if max(len(values_R) for values_R, _ in used) <= 2000 else 400
  values = [sweeps[0].better * values_R for values_R, _ in used]
  return many.ranks(values, np.random.default_rng(0), paired, LEVEL, draws)


def read(
  source: Source, metric: str | None = None, name: str = "", **roles: Any
) -> list[Findings]:
  """The sweeps of a source; `roles` are the keyword arguments of `tables.read`."""
  if isinstance(source, (pd.DataFrame, Table)) or tables.is_table(source):
    table = tables.read(source, metric=metric, **roles)
    found = findings.examine_table(table)
    unnamed = {one.name for one in found} == {""}  # one variant, perhaps on several tasks
    name = name or table.name
    return [dataclasses.replace(one, name=name) for one in found] if unnamed and name else found
  # With zarr and xarray, which take 0.3 s to import.
  import xarray

  from seedlab import records

  if isinstance(source, xarray.Dataset):
    return [findings.examine(source, metric, name)]
  with records.readable(source):
    dataset = records.open(source, verify=True)
    return [findings.examine(dataset, metric, name or findings.named(source))]


def _distinct(sweeps: list[Findings]) -> list[Findings]:
  """Names that tell the sweeps apart: A, B, ... where they have none, numbered where equal."""
  found: list[Findings] = []
  for number, sweep in enumerate(sweeps):
    name = sweep.name or chr(ord("A") + number % 26)
    taken = {other.name for other in found if other.task == sweep.task}
    if name in taken:
      name = next(
        f"{name} ({n})" for n in range(2, len(sweeps) + 2) if f"{name} ({n})" not in taken
      )
    found.append(dataclasses.replace(sweep, name=name))
  return found


def _one_direction(sweeps: list[Findings], better: Direction | None) -> list[Findings]:
  """The sweeps with one direction, as said or as those know that do."""
  sweeps = [sweep.turned(better) for sweep in sweeps]
  known = [sweep for sweep in sweeps if sweep.better]
  other = next((sweep for sweep in known if sweep.better != known[0].better), None)
  if other:
    raise UserError(
      f"metric={other.metric!r}: {known[0].name} and {other.name} say opposite things of which way"
      " it is better; say it with better=higher or better=lower"
    )
  direction = known[0].better if known else 0
  return [dataclasses.replace(sweep, better=direction) for sweep in sweeps]


def same_test_set(first: Findings, sweep: Findings) -> None:
  if sweep.percent != first.percent:
    raise NotComparable(
      f"metric={first.metric!r}: {first.name} has fractions and {sweep.name} other numbers; bring"
      " them to one unit"
    )
  sets = (first.test_label_E, sweep.test_label_E)
  differ = min(map(len, sets)) and not np.array_equal(*sets)
  # Labels may agree by chance, as those of one test set at two sizes of its images do.
  if differ or not findings.same_evaluation_set(first.dataset, sweep.dataset):
    sizes = " and ".join(f"{len(labels):,}" for labels in sets)
    sizes = f" ({sizes} examples)" if min(map(len, sets)) else ""
    raise NotComparable(
      f"{first.name} and {sweep.name} were evaluated on different test sets{sizes}: a"
      " difference between them would not be one of the methods; evaluate both on one set"
    )


def _evidence(baseline: Findings, variant: Findings, rules: Rules) -> list[Evidence]:
  """Every look at the pair that was reached, the latest last."""
  if baseline.independent and variant.independent:
    return judging.evidence(baseline, variant, rules)
  for name, given in (("paired", rules.paired is False), ("looked", rules.looked)):
    if given:
      raise UserError(
        f"{name}={getattr(rules, name)}: crossed sweeps are compared level by level, as they are"
        " finished; leave it out"
      )
  if rules.spread:
    raise UserError(
      "sigma and floor are no help here: crossed sweeps are compared level by level, by their own"
      " spread; leave them out"
    )
  return [judging.crossed_evidence(*_crossed_values(baseline, variant), rules.margin)]


def _used(sweep: Findings) -> tuple[np.ndarray, np.ndarray]:
  """Values and run numbers, ascending; the first column is the one with diverged at chance."""
  column = sweep.columns[0]
  order = np.argsort(column.runs)
  return column.values[order], column.runs[order]


def _crossed_values(baseline: Findings, variant: Findings) -> tuple[np.ndarray, np.ndarray]:
  """Of the variant and of the baseline, over the same levels of the same streams."""
  if baseline.independent or variant.independent:
    joint, design = (baseline, variant) if baseline.independent else (variant, baseline)
    raise NotComparable(
      f"{design.name} is a crossed design and {joint.name} has independent runs: their means carry"
      " other luck; compare two of one kind"
    )
  arrays, levels = [], []
  for sweep in (variant, baseline):
    values_R, run_R = _used(sweep)
    order = np.argsort(sweep.run_R)
    rows = order[np.searchsorted(sweep.run_R, run_R, sorter=order)]
    seeds = {stream: sweep.seeds[stream][rows] for stream in STREAMS if stream in sweep.vary}
    try:
      array, found = crossed.design(values_R, seeds)
    except ValueError as error:
      raise UserError(
        f"{sweep.name} has runs that share seeds, and those that are judged are no full crossed"
        f" design ({error}); finish the sweep, judge by a metric that diverged runs have too, or"
        " compare sweeps of independent runs"
      ) from None
    arrays.append(array)
    levels.append({stream: values.tolist() for stream, values in found.items()})
  if levels[0] != levels[1]:
    raise NotComparable(
      f"{baseline.name} and {variant.name} are crossed designs over other levels; a crossed sweep"
      " is compared only with one over the same streams and levels"
    )
  return arrays[0], arrays[1]


def _pair(
  baseline: Findings, variant: Findings, looks: list[Evidence], verdict: Verdict, rules: Rules
) -> Pair:
  crossed_design = verdict.evidence.kind == "crossed"
  two, fixed, anytime, better = looks[-1].two, None, None, None
  if not crossed_design:
    two = judging.all_numbers(baseline, variant, rules.paired)
    refuted = rules.spread and judging.too_small(two, rules.spread)
    spread = None if refuted else rules.spread
    fixed = comparison.difference(two, LEVEL, rules.step, spread)
    anytime = comparison.anytime_difference(two, LEVEL, rules.step, spread)
    better = comparison.probability_better(turned(two, baseline.better), LEVEL)
  return Pair(
    baseline=baseline,
    variant=variant,
    verdict=verdict,
    looks=looks,
    two=two,
    fixed=fixed or looks[-1].interval(LEVEL),
    anytime=anytime if anytime and math.isfinite(anytime.low) else None,
    better=better,
    without_diverged=None if crossed_design else _without_diverged(baseline, variant, two),
    diverged_p=_diverged_p(baseline, variant),
    rules=rules,
  )


def turned(two: TwoSweeps, better: int) -> TwoSweeps:
  """Higher is better, as `stats.comparison` takes it."""
  return two if better >= 0 else dataclasses.replace(two, a_R=-two.a_R, b_S=-two.b_S)


def _diverged_p(baseline: Findings, variant: Findings) -> float:
  if not (baseline.diverged or variant.diverged):
    return math.nan
  table = [[one.diverged, one.completed - one.diverged] for one in (baseline, variant)]
  return float(scipy.stats.fisher_exact(table).pvalue)


def _without_diverged(baseline: Findings, variant: Findings, two: TwoSweeps) -> Contrast | None:
  sweeps = (variant, baseline)
  if not any(len(sweep.columns) > 1 for sweep in sweeps):
    return None
  if any(sweep.failed_R.all() for sweep in sweeps):
    return None
  columns = [sweep.columns[-1] for sweep in sweeps]
  values = [(column.values, column.runs) for column in columns]
  if any(len(column.values) < 2 for column in columns):
    return None
  try:
    kept = comparison.align(*values[0], *values[1], two.paired)
  except ValueError:  # no pair is left
    return None
  return comparison.difference(kept, LEVEL)


def _forecast(pair: Pair) -> forecasts.Forecast | None:
  """Of the next looks by the procedure that will judge."""
  latest, alpha = pair.looks[-1], 1 - pair.level
  growing, other = pair.arms
  if latest.kind == "looked":
    alphas = _anytime_alphas(growing, other, alpha)
  else:
    past = 1 + (len(pair.looks) > 1) * round(math.log2(0.2 / latest.weight))
    alphas = [alpha * route.weight(past + k) for k in range(12)]
  rules = pair.rules
  return forecasts.forecast(growing, other, alphas, rules.margin, rules.step, rules.spread)


def _anytime_alphas(grows: forecasts.Arm, other: forecasts.Arm | None, alpha: float) -> list[float]:
  """Error rates of t tests that are as strict as the anytime t at 2, 4, ... times the runs."""
  alphas = []
  for n in (grows.n << k for k in range(1, 13)):
    df = n - 1 if other is None else n + other.n - 2
    information = 5 * n if other is None else 10 / (1 / n + 1 / other.n)
    half = sequential.anytime_t(0.0, 1.0, df, information, 1 - alpha).high
    alphas.append(float(2 * scipy.stats.t.sf(half, df)))
  return alphas


def differing(recorded: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[Any]]]:
  """Fields that are not the same in all configs (or trainers), in the order of the first."""
  flat = [dict(config.flatten(_values(record))) for record in recorded]
  fields = dict.fromkeys(field for one in flat for field in one)
  return [
    (field, [one.get(field) for one in flat])
    for field in fields
    if any(one.get(field) != flat[0].get(field) for one in flat[1:])
  ]


def _values(record: Mapping[str, Any]) -> dict[str, Any]:
  values = record.get("config") or record.get("trainer") or {}
  return {name: value for name, value in values.items() if name != "seeds"}
