"""One metric over the runs of a sweep or a table of results: the numbers statements rest on.

Judged is the metric at the last evaluation, over the completed runs, in display
units: fractions in percent. A diverged run (or one whose value is not finite)
counts as chance level where that is known (accuracy or error on a labelled test
set), with the same numbers without such runs beside it; for any other metric it
is left out. What is better, and what is a fraction, a store says of its metrics
(`meanings` in its manifest); where it does not, the whole words of the name tell
(`seedlab.meanings`), and an unknown direction judges nothing.
"""

import dataclasses
import functools
import math
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from seedlab import meanings, stats, tables
from seedlab.config import STREAMS
from seedlab.errors import AllDiverged, UserError, choice_error, counted
from seedlab.meanings import chance_level
from seedlab.stats import pairs, resolution, single
from seedlab.stats.repeats import components
from seedlab.stats.single import Interval
from seedlab.tables import Table, gaps

if TYPE_CHECKING:  # tables are judged without the libraries that open stores
  import xarray

_SIGNS = {"higher": 1, "lower": -1, None: 0}
_BLOCK = 2**23  # predicted labels held at once
_RUNS_READ = 100  # for the classes they predict
_FEW_POINTS = 0.02  # a margin or sd below it is rather a fraction than points
MOST_LABELS = 2**30  # more are not gone through a second time for disagreement
_MOST_HELD = 2**28  # more predicted labels are read for each question, lest memory runs out


@dataclasses.dataclass(frozen=True)
class Column:
  """A set of runs and its statistics, in display units (percent for fractions)."""

  name: str
  runs: np.ndarray  # int64[R]
  values: np.ndarray  # float64[R]
  summary: stats.Summary
  variance: float  # distribution-wise; nan where no labels were predicted
  independent: float  # variance if the errors were independent; likewise

  @property
  def sd(self) -> float:
    """The distribution-wise sd; 0 where its variance is estimated below zero."""
    return math.nan if math.isnan(self.variance) else math.sqrt(max(self.variance, 0))


@dataclasses.dataclass(frozen=True)
class Repeats:
  """Seeds that were trained more than once: what is not the seed's. Runs are means over repeats."""

  most: int  # repeats of a seed
  within: Interval  # sd between repeats of one seed: nondeterminism
  between: Interval  # sd between seeds, the repeats' share taken off


@dataclasses.dataclass(frozen=True)
class Findings:
  """What is known of one metric of one sweep, R completed runs of it."""

  name: str  # of the sweep, to tell it from others
  metric: str  # as the store or table calls it
  percent: bool
  unit: str  # of differences, after a blank: " points" for fractions; "" where there is none
  better: int  # 1: higher is better, -1: lower, 0: not known
  columns: list[Column]  # one; with diverged runs at chance level two, the second without them
  chance: float | None  # what a diverged run counts as; None leaves it out
  failed_R: np.ndarray  # bool[R]: diverged, or not finite
  run_R: np.ndarray  # int64[R]: run numbers
  design_R: np.ndarray  # int64[planned]: all runs of the design in the order they were added
  planned_n: int | None  # the number recorded before training as the one to judge at
  vary: list[str]  # streams; empty where nothing is known of them
  seeds: dict[str, np.ndarray]  # stream -> uint32[R]
  steps: np.ndarray  # int64[E]; empty for a metric without evaluations
  curves: np.ndarray  # float64[R, E], the runs that did not diverge
  label_E: np.ndarray  # labels of the test examples behind the distribution-wise variance, or none
  test_label_E: np.ndarray  # those of the test set whatever the metric measures, or none
  fingerprints: int  # how many there are among the runs
  seconds: float  # per run and worker; nan where unknown
  record: Mapping[str, Any]  # config (or trainer) as in the manifest; empty for a table
  dataset: "xarray.Dataset | None" = None  # the store itself; None for a table
  seeded: bool = True  # False where the rows of a table carry no seeds and were only numbered
  task: str = ""  # data set or environment, of a table of several
  repeats: "Repeats | None" = None  # of a table in which seeds were trained more than once
  repeated: int | None = None  # the first such seed, whether or not each training has a value
  # run -> why it has no value, of the missing ones that failed
  failures: Mapping[int, str] = dataclasses.field(default_factory=dict)
  grid: float = 0.0  # step that the values lie on, in display units; 0 where none is known

  def correct(self, run_R: np.ndarray | None = None) -> np.ndarray | None:
    """bool[R, E]: what the runs (default: those of the first column, ascending) get right.

    None where the store has no predictions behind the metric; a diverged run gets nothing right.
    """
    if self.dataset is None or not self.examples:
      return None
    run_R = np.sort(self.columns[0].runs) if run_R is None else run_R
    rows = np.flatnonzero(np.isin(self.dataset["run"].values, run_R))
    rows = rows[np.argsort(self.dataset["run"].values[rows])]
    predicted = self.dataset["predicted_label"].transpose("run", "example").values[rows]
    sound = self.dataset["diverged"].values[rows] < 0
    return (predicted == self.label_E.astype(predicted.dtype)) & sound[:, None]

  @functools.cached_property
  def own(self) -> Interval | None:
    """The distribution-wise variance with its interval, in display units squared.

    Of the runs that did not diverge; None without predictions behind the metric, for runs that
    share seeds, and for more of them than are gone through a second time.
    """
    runs = np.sort(self.columns[-1].runs)
    if self.failed_R.all() or len(runs) * self.examples > MOST_LABELS or not self.independent:
      return None
    right = self.correct(runs)
    if right is None:
      return None
    of = single.distribution_wise_interval(~right)
    square = 1e4 if self.percent else 1.0
    numbers = (square * of.estimate, square * of.low, square * of.high)
    return Interval(*numbers, of.level, of.method)

  @property
  def planned(self) -> int:
    """How many runs there should be: of a table also those of a plan without even a row."""
    of_plan = self.planned_n if self.dataset is None else None
    return max(len(self.design_R), of_plan or 0)

  @property
  def missing(self) -> int:
    """Runs of the design without a value that did not diverge: not trained, or failed."""
    return self.planned - self.completed

  @property
  def label(self) -> str:
    return self.metric.replace("_", " ")

  @property
  def examples(self) -> int:
    return len(self.label_E)

  @property
  def diverged(self) -> int:
    return int(self.failed_R.sum())

  @property
  def completed(self) -> int:
    return len(self.run_R)

  @property
  def fixed(self) -> dict[str, int]:
    """Seeds of the streams that do not vary."""
    return {
      stream: int(seed_R[0]) for stream, seed_R in self.seeds.items() if stream not in self.vary
    }

  @property
  def independent(self) -> bool:
    """No two runs share the seed of a varied stream."""
    levels = [len(np.unique(self.seeds[stream])) for stream in self.vary]
    return not levels or (self.completed in levels and set(levels) <= {1, self.completed})

  def turned(self, better: meanings.Direction | None) -> "Findings":
    """The same where someone says which way is better; None leaves it as it is."""
    return self if better is None else dataclasses.replace(self, better=_SIGNS[better])


def stated(dataset: "xarray.Dataset", metric: str | None, better: str | None) -> "xarray.Dataset":
  """A store whose metric someone says a direction of; None leaves it as it is."""
  if better is None:
    return dataset
  name, said = _metric(dataset, metric), dataset.attrs.get("meanings", {})
  return dataset.assign_attrs(meanings={**said, name: {**said.get(name, {}), "better": better}})


def held(dataset: "xarray.Dataset") -> "xarray.Dataset":
  """The same with its predicted labels in memory: read once, whatever is asked of them.

  A store of very many is handed back as it is, to be read from its files for each question.
  """
  if "predicted_label" not in dataset or dataset["predicted_label"].size > _MOST_HELD:
    return dataset
  return dataset.assign(predicted_label=dataset["predicted_label"].compute())


def examine(dataset: "xarray.Dataset", metric: str | None = None, name: str = "") -> Findings:
  """The findings of a store as `records.open` gives it.

  Args:
    metric: a variable by run and perhaps evaluation; by default the first metric.
    name: of the sweep.

  Raises UserError for an unknown metric and for a store with nothing to summarise.
  """
  completed = dataset["completed"].values.astype(bool)
  if not completed.any():
    raise UserError(
      f"completed=0 of {counted(len(completed), 'run')}: resume the sweep, then report on it"
    )
  metric = _metric(dataset, metric)
  curves = dataset[metric].transpose("run", ...).values[completed].astype(np.float64)
  steps = dataset["evaluation"].values if curves.ndim == 2 else np.zeros(0, np.int64)
  curves = curves.reshape(len(curves), -1)
  failed = (dataset["diverged"].values[completed] >= 0) | ~np.isfinite(curves[:, -1])
  sound = completed.copy()
  sound[completed] = ~failed
  errors_R, errors_E = _count_errors(dataset, sound)
  classes = dataset.sizes.get("class") or class_count(dataset)
  kept = dataset.attrs
  run_R = dataset["run"].values[completed]
  return _found(
    name,
    metric,
    run_R,
    curves,
    failed,
    classes,
    (errors_R, errors_E, dataset["label"].values if "label" in dataset else np.zeros(0, np.int64)),
    design_R=dataset["run"].values,
    planned_n=kept.get("planned_n"),
    vary=list(kept.get("vary", STREAMS)),
    seeds={stream: dataset[f"seed_{stream}"].values[completed] for stream in STREAMS},
    steps=steps,
    fingerprints=len(np.unique(dataset["fingerprint"].values[completed])),
    seconds=_mean_seconds(dataset, completed),
    record={key: kept[key] for key in ("config", "trainer") if kept.get(key)},
    dataset=dataset,
    failures=failures(dataset),
    said=kept.get("meanings", {}).get(metric),
  )


def failures(dataset: "xarray.Dataset") -> dict[int, str]:
  """Run -> why its training ended without a value, of the runs of a store that failed."""
  if "failed" not in dataset:
    return {}
  reasons = dataset["failed"].values
  rows = np.flatnonzero(reasons != b"")
  runs = dataset["run"].values[rows].tolist()
  return dict(zip(runs, (reasons[row].decode() for row in rows), strict=True))


def opened(
  sources: Sequence[str],
  metric: str | None,
  say: Callable[[str], None],
  *,
  session: bool = False,
  **roles: str | None,
) -> list[str | Table]:
  """Paths with those of tables read, each with what it was taken for handed to `say`.

  Args:
    metric: by default that of the first source, so that all are read by one.
    session: of proposals, which are tried with fewer seeds than their baseline has.
    roles: variant, seed, task and at, as `tables.read` takes them.
  """
  found: list[str | Table] = []
  for source in sources:
    if not tables.is_table(source):
      found.append(source)
      if metric is None and pathlib.Path(source, ".zmetadata").exists():
        from seedlab import records  # with zarr and xarray, which take 0.3 s to import

        metric = next(iter(records.manifest(source).get("metrics", [])), None)
      continue
    table = tables.read(source, metric=metric, **roles)
    metric = metric or table.metric
    say("\n".join(table.said))
    found.append(table)
  if not session:
    notes = _unlike_seeds([one for one in found if isinstance(one, Table) and one.seeded])
    if notes:
      say("\n".join(f"Note: {note}." for note in notes))
  return found


def _unlike_seeds(read: list[Table]) -> list[str]:
  """Notes on variants without rows for seeds that those of another table have."""
  frames, taken = [], set[str]()
  for number, table in enumerate(read, 1):
    names = {name: name or table.name for name in table.frame["variant"].unique()}
    names = {key: f"{name} ({number})" if name in taken else name for key, name in names.items()}
    taken |= set(names.values())
    frames.append(table.frame.assign(variant=table.frame["variant"].map(names)))
  known = {warning for table in read for warning in table.warnings}
  found = gaps.lacking(pd.concat(frames)) if len(frames) > 1 else []
  return [note for note in found if note not in known]


def examine_table(table: Table) -> list[Findings]:
  """The findings of each variant on each task of a table, in the order in which they first appear.

  A run without a value is missing: it belongs to the design and not to the runs. A diverged one
  belongs to both.

  Raises UserError for a variant of which no run has a value.
  """
  found = []
  for (task, name), rows in table.frame.groupby(["task", "variant"], sort=False):
    rows = rows.sort_values("seed", kind="stable")
    known = rows[rows["value"].notna() | rows["diverged"]]
    if not len(known):
      raise UserError(
        f"metric={table.metric!r}: {counted(len(rows), 'run')}{f' of {name}' * bool(name)}"
        f"{f' on {task}' * bool(task)} and no value: all are missing; fill them in, or leave the"
        " variant out"
      )
    one = _table_findings(name, table, known, rows["seed"].to_numpy())
    if table.repeats is not None:
      chosen = (table.repeats["task"] == task) & (table.repeats["variant"] == name)
      trained = table.repeats[chosen]
      again = trained["seed"][trained["seed"].duplicated()].tolist()
      one = dataclasses.replace(
        one, repeats=_repeats(trained, one.percent), repeated=again[0] if again else None
      )
    found.append(dataclasses.replace(one, task=task, seeded=table.seeded))
  return found


def _repeats(rows: pd.DataFrame, percent: bool) -> "Repeats | None":
  """What the repeats of seeds show, in display units; None where no seed repeats."""
  rows = rows[rows["value"].notna()]
  most = int(rows["seed"].value_counts().max()) if len(rows) else 0
  if most < 2:
    return None
  scale = 100.0 if percent else 1.0
  within, between = components(scale * rows["value"].to_numpy(), rows["seed"].to_numpy())
  return Repeats(most, within, between)


def _table_findings(
  name: str, table: Table, rows: pd.DataFrame, design_R: np.ndarray
) -> Findings:
  nothing = np.zeros(0, np.int64)
  value_R, failed_R = rows["value"].to_numpy(), rows["diverged"].to_numpy()
  return _found(
    name,
    table.metric,
    rows["seed"].to_numpy(),
    np.where(failed_R, np.inf, value_R)[:, None],
    failed_R,
    0,
    (np.zeros((~failed_R).sum(), np.int64), nothing, nothing),
    design_R=design_R,
    planned_n=None,
    vary=[],
    seeds={},
    steps=nothing,
    fingerprints=1,
    seconds=math.nan,
    record={},
    said=None,
  )


def _found(
  name, metric, run_R, curves, failed, classes, errors, *, steps, said, **known
) -> Findings:
  values = curves[:, -1]
  sound = values[~failed]
  better, unit = meanings.meaning(metric, said)
  percent = unit == meanings.FRACTION and bool(((sound >= 0) & (sound <= 1)).all())
  scale = 100.0 if percent else 1.0
  wrong = 1 - 1 / classes if classes else math.nan  # error of a diverged run on each example
  known_chance = percent and meanings.share(metric) == better
  chance = chance_level(metric, classes) if known_chance else None
  chance = chance if chance is None else scale * chance
  if chance is None and not len(sound):
    raise AllDiverged(
      f"metric={metric!r}: every completed run{f' of {name}' * bool(name)} diverged; the store is"
      " whole"
    )

  errors_R, errors_E, label_E = errors
  error = errors_R / max(len(errors_E), 1)
  if not any(np.allclose(error, hard, rtol=0, atol=1e-5) for hard in (sound, 1 - sound)):
    errors_E = errors_E[:0]  # the predicted labels are not what this metric measures

  grid = scale * resolution.step(sound, len(errors_E)) if len(sound) else 0.0

  def column(title: str, chosen: np.ndarray) -> Column:
    numbers = np.where(failed, chance, scale * values)[chosen].astype(np.float64)
    added = int(failed[chosen].sum())
    variance = independent = math.nan
    if len(errors_E):
      totals_R = np.concatenate([errors_R, np.full(added, wrong * len(errors_E))])
      totals_E, squares_E = errors_E + added * wrong, errors_E + added * wrong**2
      variance = stats.distribution_wise_variance(totals_R, totals_E, squares_E)
      independent = stats.independent_errors_variance(totals_E, len(totals_R), squares_E)
    summary = stats.summary(numbers, grid)
    return Column(
      title, run_R[chosen], numbers, summary, variance * scale**2, independent * scale**2
    )

  columns = []
  if failed.any() and chance is not None:
    columns.append(column("diverged at chance", np.full(len(failed), True)))
  if len(sound):
    columns.append(column("without diverged" if failed.any() else "", ~failed))
  return Findings(
    name=name,
    metric=metric,
    percent=percent,
    unit=" points" if percent else "" if unit in (None, meanings.FRACTION) else f" {unit}",
    better=_SIGNS[better],
    columns=columns,
    chance=chance,
    failed_R=failed,
    run_R=run_R,
    steps=steps,
    curves=scale * curves[~failed],
    label_E=label_E if len(errors_E) else label_E[:0],
    test_label_E=label_E,
    grid=grid,
    **known,
  )


def _mean_seconds(dataset: "xarray.Dataset", completed: np.ndarray) -> float:
  if "seconds" not in dataset:
    return math.nan
  return float(dataset["seconds"].values[completed].mean(dtype=np.float64))


def _metric(dataset: "xarray.Dataset", metric: str | None) -> str:
  """The name of the metric asked for, or of the first."""
  names = [
    name
    for name in dataset.attrs["metrics"]
    if set(dataset[name].dims) in ({"run"}, {"run", "evaluation"})
  ]
  if not names:
    raise UserError("metrics=[]: the store has no number per run; let `evaluate` return one")
  if metric is not None and metric not in names:
    raise choice_error("metric", metric, names)
  return metric or names[0]


def class_count(dataset: "xarray.Dataset") -> int:
  """How many classes there are, from labels 0, 1, ...: few examples may not show them all."""
  if "label" not in dataset or not dataset.sizes["example"]:
    return 0
  shown = [dataset["label"].values.max()]
  if "predicted_label" in dataset:
    shown.append(dataset["predicted_label"][:_RUNS_READ].values.max())
  return int(max(shown)) + 1


def _count_errors(dataset: "xarray.Dataset", chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Wrong predictions of each chosen run and on each example; no examples without labels.

  Whole chunks of storage are read one group after another: the matrix of
  predictions may be larger than the memory.
  """
  if "predicted_label" not in dataset or "label" not in dataset:
    return np.zeros(chosen.sum(), np.int64), np.zeros(0, np.int64)
  labels_E = dataset["label"].values
  predicted = dataset["predicted_label"].transpose("run", "example")
  labels_E = labels_E.astype(predicted.dtype)  # compared in one byte, not in eight
  chunk = predicted.encoding.get("chunks", (1,))[0]
  rows = chunk * max(1, _BLOCK // (chunk * max(1, len(labels_E))))
  errors_R, errors_E = np.zeros(len(chosen), np.int64), np.zeros(len(labels_E), np.int64)
  for first in range(0, len(chosen), rows):
    block = slice(first, first + rows)
    wrong = (predicted[block].values != labels_E) & chosen[block, None]
    errors_R[block] = np.count_nonzero(wrong, axis=1)
    errors_E += np.count_nonzero(wrong, axis=0)
  return errors_R[chosen], errors_E


@dataclasses.dataclass(frozen=True)
class Disagreement:
  """How two seeds differ in what they predict for the same example, over the sound runs."""

  churn: Interval  # share of examples on which two runs differ, mean over pairs
  instability_E: np.ndarray  # float[E]: share of pairs of runs that differ on an example
  votes_ExK: np.ndarray  # runs that predict each class
  confusion_KxK: np.ndarray  # share of all (pair, example) with these two classes, symmetric
  label_E: np.ndarray
  difference: Interval | None  # L1 prediction difference at the end, where probabilities are kept


def disagreement(dataset: "xarray.Dataset") -> Disagreement | None:
  """Of the predicted labels of a store; None without them or with fewer than two sound runs."""
  if "predicted_label" not in dataset or "label" not in dataset:
    return None
  sound = dataset["completed"].values.astype(bool) & (dataset["diverged"].values < 0)
  predicted = dataset["predicted_label"].transpose("run", "example")
  runs, examples = int(sound.sum()), predicted.sizes["example"]
  if runs < 2 or not examples or runs * examples > MOST_LABELS:
    return None
  labels_RxE = predicted.values if sound.all() else predicted.values[sound]
  label_E = dataset["label"].values
  votes_ExK = pairs.votes(labels_RxE)
  unsaid = max(int(label_E.max()) + 1 - votes_ExK.shape[1], 0)  # classes no run predicts
  votes_ExK = np.pad(votes_ExK, ((0, 0), (0, unsaid)))
  churn = pairs.pair_mean(pairs.churn_rows(labels_RxE, votes_ExK))
  votes = votes_ExK.astype(np.float64)
  confusion_KxK = votes.T @ votes / (runs * (runs - 1) * examples)
  np.fill_diagonal(confusion_KxK, 0)
  instability_E = pairs.example_churn(votes_ExK)
  probability = _probabilities(dataset, sound)
  difference = None if probability is None else pairs.pair_mean(pairs.l1_rows(probability))
  return Disagreement(churn, instability_E, votes_ExK, confusion_KxK, label_E, difference)


def on_new_examples(dataset: "xarray.Dataset") -> dict[str, Interval]:
  """What two new seeds differ by on new examples: `churn`, and `difference` (L1) where it is known.

  Each leaves out runs and examples. Empty where `disagreement` is None.
  """
  seen = disagreement(dataset)
  if seen is None:
    return {}
  sound = dataset["completed"].values.astype(bool) & (dataset["diverged"].values < 0)
  labels_RxE = dataset["predicted_label"].transpose("run", "example").values[sound]
  churn_R = pairs.churn_rows(labels_RxE, seen.votes_ExK)
  found = {"churn": pairs.new_examples_mean(churn_R, seen.instability_E)}
  probability = _probabilities(dataset, sound)
  if probability is not None:
    apart_E = pairs.example_differences(probability)
    found["difference"] = pairs.new_examples_mean(pairs.l1_rows(probability), apart_E)
  return found


def _probabilities(dataset: "xarray.Dataset", sound: np.ndarray) -> np.ndarray | None:
  """[R, E] or [R, E, K] at the end, of the sound runs; None where they are not kept or too many."""
  if "probability" not in dataset or dataset["probability"].size > MOST_LABELS:
    return None
  probability = dataset["probability"]
  if "evaluation" in probability.dims:
    probability = probability.isel(evaluation=-1)
  return probability.transpose("run", "example", ...).values[sound]


def same_evaluation_set(a: "xarray.Dataset | None", b: "xarray.Dataset | None") -> bool:
  """Whether two stores were evaluated on the same examples; True where one does not say."""
  digests = {one.attrs.get("evaluation_digest") for one in (a, b) if one is not None}
  return len(digests - {None}) < 2


def check_evaluation_sets(stores: Mapping[str, "xarray.Dataset"]) -> None:
  """Raises UserError if two of the stores (name -> store) differ in what they were evaluated on."""
  first, *others = stores
  for name in others:
    if not same_evaluation_set(stores[first], stores[name]):
      raise UserError(
        f"{first} and {name} were evaluated on different examples, of which predictions cannot be"
        " compared; evaluate both on one set"
      )


def in_points(field: str, value: float | None, sweeps: Sequence[Findings]) -> None:
  """Refuses a number that was given as a fraction where percent or points are meant.

  Shares of examples (accuracies, rates of error) are shown in percent, so 0.9 is 0.9 % and 0.005 is
  half a hundredth of a point. That is refused only where the runs make it absurd.

  Args:
    field: "target", a mean to reach; "margin", a difference of means; "sigma", the sd of a run.
    value: as it was given; None passes, as does any number of a metric that is no share.
    sweeps: the runs to be judged by it, all of one metric.

  Raises UserError, which names the number to write instead.
  """
  if value is None or not sweeps or not _in_percent(sweeps[0]):
    return
  values = [sweep.columns[-1].values for sweep in sweeps]
  label, whole = sweeps[0].label, f"{100 * value:g}"
  if field == "target":
    means = [float(value_R.mean()) for value_R in values]
    if not 0 <= value <= 100:
      raise UserError(f"{field}={value:g}: {label} is in percent, which goes from 0 to 100")
    if 0 < value <= 1 and min(means) >= 10 * value:
      raise UserError(
        f"{field}={value:g}: {label} is in percent, and the runs are at {means[0]:.3g} %; write"
        f" {field}={whole} for {whole} % (so far from these runs, {value:g} % would judge nothing)"
      )
    return
  spreads = [(float(value_R.std(ddof=1)), len(value_R)) for value_R in values if len(value_R) > 1]
  if not 0 < value < _FEW_POINTS:
    return
  if spreads:
    sd, n = min(spreads)
    # A margin below the standard error of a mean is beyond these runs, so nothing is lost by it.
    if sd <= 10 * value or (field == "margin" and value >= sd / math.sqrt(n)):
      return
    seen = f"and the runs spread by {sd:.2g} points"
  elif field == "sigma":
    seen = "and single runs show no spread that is so small (floor learns it from others)"
  else:
    return
  raise UserError(
    f"{field}={value:g}: {label} is in percent, {seen}; give {field} in points, of which 0.5 is"
    f" half a point: {field}={whole} if {value:g} was meant as a fraction"
  )


def _in_percent(sweep: Findings) -> bool:
  """Shown in percent, or a share whose values are in percent already."""
  beyond = sweep.columns[-1].values.max(initial=0) > 1
  return sweep.percent or (meanings.share(sweep.metric) is not None and bool(beyond))


def named(directory: str | os.PathLike) -> str:
  """A short name for the sweep in a directory: its last part."""
  return pathlib.Path(os.path.abspath(directory)).name
