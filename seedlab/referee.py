"""The referee: one word and one sentence on each candidate, for machines and for people.

Three ways to judge, by what is asked:

  two sides    the comparison of `seedlab.compare`: better, worse, equal or open
  a target     is the mean beyond a number, at p < 0.01 (`stats.target`): met, missed or open
  a ledger     a session of proposals with one error budget (`session`, `stats.proposals`): kept,
               dropped, or open until the further seeds are there

What cannot be compared (other test sets, other designs) is "not comparable", with the reason.
"""

import dataclasses
import math
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from seedlab import comparisons, findings, judging, report, session
from seedlab import ledger as ledgers
from seedlab import lost as losing
from seedlab.comparisons import Pair, Source
from seedlab.errors import AllDiverged, NotComparable, UserError
from seedlab.findings import Findings, counted
from seedlab.ledger import Entry, Ledger
from seedlab.lost import Lost
from seedlab.meanings import Direction
from seedlab.report import verdict
from seedlab.session import Runs, Session
from seedlab.stats import resolution
from seedlab.stats import target as targets
from seedlab.stats.comparison import Spread
from seedlab.stats.proposals import GUARD, LEAD, MOST, SCREEN, Mode
from seedlab.tables import Table

# Exit statuses of `seedlab judge`; of several candidates the first of BEST_FIRST that occurs.
STATUS = {
  "better": 0, "kept": 0, "met": 0, "worse": 10, "missed": 10, "equal": 11, "open": 12,
  "not comparable": 13, "dropped": 14,
}  # fmt: skip
BEST_FIRST = (0, 11, 12, 14, 10, 13)
SCHEMA = 1  # of the JSON; another number where a field has changed or gone


@dataclasses.dataclass(frozen=True)
class Judgement:
  """What is said of one candidate."""

  name: str
  outcome: str  # one of STATUS
  sentence: str
  advice: str  # how many further seeds of which side, or that none help; "" where nothing is left
  numbers: Mapping[str, Any]  # what it rests on, as it goes into JSON


@dataclasses.dataclass(frozen=True)
class Verdicts:
  """The judgements of all candidates, in the order given."""

  metric: str
  baseline: str
  judgements: list[Judgement]
  beforehand: str = ""  # what can be found at all, in words
  ledger: Mapping[str, Any] | None = None  # of a session: path, head, proposals, keeps, ...

  @property
  def status(self) -> int:
    """The exit status: that of the best outcome among the candidates; 0 if there is none."""
    found = {STATUS[judgement.outcome] for judgement in self.judgements}
    return next((status for status in BEST_FIRST if status in found), 0)


def as_json(found: Verdicts) -> dict[str, Any]:
  """The form of docs/json.md; None for what JSON has no number for."""
  judgements = [
    {**dataclasses.asdict(one), "numbers": {name: _number(n) for name, n in one.numbers.items()}}
    for one in found.judgements
  ]
  return {
    "schema": SCHEMA, "metric": found.metric, "baseline": found.baseline, "status": found.status,
    "judgements": judgements, "beforehand": found.beforehand, "ledger": found.ledger,
  }  # fmt: skip


def _number(value: Any) -> Any:
  return None if isinstance(value, float) and not math.isfinite(value) else value


def judge(
  baseline: Source,
  candidates: Source | Sequence[Source] = (),
  *,
  metric: str | None = None,
  better: Direction | None = None,
  target: float | None = None,
  margin: float | None = None,
  sigma: float | None = None,
  floor: Source | None = None,
  ledger: str | os.PathLike | None = None,
  proposals: int | None = None,
  mode: Mode | None = None,
  looked: bool = False,
  paired: bool | None = None,
  planned_n: int | None = None,
  digest: str | None = None,
  names: Sequence[str] | None = None,
  variant: str | None = None,
  seed: str | None = None,
  task: str | None = None,
  at: str | None = None,
) -> Verdicts:
  """Judges candidates against a baseline, or all of them against a target.

  Args:
    baseline: a store, a table file or a DataFrame, as `seedlab.compare` takes them; a table may
      hold the candidates as further variants.
    candidates: one or several.
    metric, better, margin, paired, planned_n, names: as in `seedlab.compare`.
    target: a number in the unit shown (percent for fractions); then every source, the first too,
      is judged against it.
    sigma: the sd of one run where it is known, in the unit shown.
    floor: other runs (a store or table) to learn it from; with a ledger also "own": baseline and
      candidate spread alike, and one sd is computed from both.
    ledger: file of a session of proposals; made if there is none.
    proposals: with a ledger: how many may come; 1,000 unless said when it is made.
    mode: with a ledger: "strict" (5 % chance of any false keep; the default) or "fdr" (5 % of
      the keeps are false).
    looked: seeds were added until it looked good.
    digest: with a ledger: of the candidate's code; a candidate of the same name and another
      digest is another proposal.
    variant, seed, task, at: of tables, as in `seedlab.compare`.

  Raises UserError for wrong input; what is right and cannot be compared is an outcome.
  """
  if isinstance(candidates, str | os.PathLike) or not isinstance(candidates, Sequence):
    candidates = [candidates]
  sources = [baseline, *candidates]
  roles = {"variant": variant, "seed": seed, "task": task, "at": at}
  said = {"metric": metric, "better": better, "names": names, **roles}
  session_alone = {"proposals": proposals, "mode": mode, "digest": digest}
  compared_alone = {
    "margin": margin, "paired": paired, "planned_n": planned_n, "looked": looked or None
  }  # fmt: skip
  if names and len(names) != len(sources):
    raise UserError(f"names={','.join(names)} are {len(names)} for {len(sources)} sources")
  if ledger is not None:
    _refuse({"target": target, **compared_alone}, "with a ledger")
    return _in_session(_given(sources, said), said, ledger, (proposals, mode, sigma, floor), digest)
  _refuse(session_alone, "without a ledger")
  if isinstance(floor, str) and floor == "own":
    raise UserError("floor='own' is for a ledger; otherwise both sides' own spread is used anyway")
  if target is not None:
    _refuse(compared_alone, "with a target")
    return _against_target(_given(sources, said, False), said, target, (sigma, floor))
  options = {**said, **compared_alone, "sigma": sigma, "floor": floor}
  options = {field: value for field, value in options.items() if value is not None}
  return _compared(_given(sources, said), options)


def _refuse(given: Mapping[str, Any], where: str) -> None:
  for field, value in given.items():
    if value is not None:
      raise UserError(f"{field}={value} has no meaning {where}; leave it out")


# What is given.


@dataclasses.dataclass(frozen=True)
class _Given:
  """The sources, and the variants of tables of which no run has a value, taken out of them."""

  sources: list[tuple[int, Source]]  # with their places in the call
  lost: list[Lost]

  def with_lost(self, judged: Sequence[Any], say: Callable[[Lost], Any]) -> list[Any]:
    """What was found of the variants, with what is said of the lost ones, in the order given."""
    judged = list(judged)
    for one in self.lost:
      judged.insert(one.place, say(one))
    return judged


def _given(sources: list[Source], said: Mapping[str, Any], baseline: bool = True) -> _Given:
  kept, lost = losing.apart(sources, said["metric"], _roles(said), baseline)
  present = [(n, source) for n, source in enumerate(kept) if source is not None]
  if not present:  # let it be said as of any single one
    return _Given(list(enumerate(sources)), [])
  names = said["names"]
  named = []
  for one in lost:
    whole = names[one.source] if names and kept[one.source] is None else one.name
    named.append(dataclasses.replace(one, name=whole or chr(ord("A") + one.source % 26)))
  return _Given(present, named)


def _sweeps(source: Source, said: Mapping[str, Any], number: int) -> list[Findings]:
  """One or several of a source, with names that stay the same from call to call."""
  names = said.get("names")
  name = names[number] if names else ""
  found = comparisons.read(source, said["metric"], name, **_roles(said))
  if len(found) == 1 and (names or not found[0].name):
    name = names[number] if names else _name(source)
    found = [dataclasses.replace(found[0], name=name)]
  return [_independent(_directed(sweep.turned(said.get("better")))) for sweep in found]


def _roles(said: Mapping[str, Any]) -> dict[str, Any]:
  """The columns of tables, as `tables.read` takes them."""
  return {role: said[role] for role in ("variant", "seed", "task", "at")}


def _independent(sweep: Findings) -> Findings:
  if not sweep.independent:
    raise UserError(
      f"{sweep.name!r} has runs that share seeds (a crossed design), and targets and sessions are"
      " judged by independent runs; give a sweep whose runs share none"
    )
  return sweep


def _directed(sweep: Findings) -> Findings:
  if not sweep.better:
    raise UserError(
      f"metric={sweep.metric!r}: whether a higher or a lower value is better is not known;"
      " say it with better=higher or better=lower"
    )
  return sweep


def _name(source: Any) -> str:
  """Of a file or directory its name without the ending."""
  if isinstance(source, Table) and source.name:
    return source.name
  if not isinstance(source, str | os.PathLike):
    raise UserError("a table without a column variant has no name; name it with names=")
  path = pathlib.Path(os.path.abspath(source))
  return path.name if path.is_dir() else path.stem


def _sound(sweep: Findings) -> dict[int, float]:
  """Run number -> value in display units, of the runs that did not diverge."""
  column, failed = sweep.columns[-1], set(sweep.run_R[sweep.failed_R].tolist())
  values = zip(column.runs.tolist(), column.values.tolist(), strict=True)
  return {run: value for run, value in sorted(values) if run not in failed}


def _runs(sweep: Findings, digest: str | None) -> Runs:
  """As a ledger holds them."""
  if sweep.task:
    raise UserError(
      f"{sweep.name!r} has runs on the task {sweep.task!r}, and a session is about one: give a"
      " table of its rows alone"
    )
  if not sweep.seeded:
    raise UserError(
      f"{sweep.name!r} has no seeds, and a ledger holds the seed of every run; add a column seed"
    )
  if sweep.repeated is not None:  # a mean of repeats is less noisy than a run
    raise UserError(
      f"{sweep.name!r} seed={sweep.repeated} was trained more than once, and a ledger holds one run"
      " a seed; keep the first of each, or give each run a seed of its own"
    )
  found: dict[int, float | str | None] = dict.fromkeys(sweep.design_R.tolist())
  found.update(dict.fromkeys(sweep.run_R[sweep.failed_R].tolist(), "diverged"))
  found.update(_sound(sweep))
  return Runs(sweep.name, sorted(found), [found[seed] for seed in sorted(found)], digest)


@dataclasses.dataclass(frozen=True)
class _Known:
  """What is known of the spread, and from where."""

  spread: Spread
  source: str

  @property
  def text(self) -> str:
    df, sd = self.spread.df, f"an sd of {self.spread.sd:.4g}"
    if math.isinf(df):
      return f"This rests on {sd}, taken as known: if it is wrong, so is the verdict."
    if not df:
      return "This rests on normal values and on baseline and candidate spreading alike."
    return (
      f"This rests on {sd} ({df:g} degrees of freedom) learnt from {self.source}, and on these runs"
      " spreading like those: if they do not, the verdict is wrong."
    )


def _known(
  sigma: float | None, floor: Source | None, metric: str, roles: dict[str, Any]
) -> _Known | None:
  if isinstance(floor, str) and floor == "own":
    if sigma is not None:
      raise UserError(f"sigma={sigma:g} and floor='own' both say what the spread is; give one")
    return _Known(Spread(0.0, 0), "own")
  found = comparisons.spread_of(sigma, floor, metric, **roles)
  if found is None:
    return None
  named = isinstance(floor, str | os.PathLike)
  return _Known(found, "sigma" if floor is None else _name(floor) if named else "a table")


# Two sides.


def _compared(given: _Given, options: Mapping[str, Any]) -> Verdicts:
  reasons: dict[int, str] = {}
  sources = [source for _, source in given.sources]
  if given.lost and "names" in options:
    options = {**options, "names": [options["names"][n] for n, _ in given.sources]}
  variants = len(sources) > 1 or _several(sources[0], options, given.lost)
  try:
    found = comparisons.compare(sources, **options) if variants else None
  except NotComparable as error:
    reasons = _reasons(sources, options)
    if not reasons:  # each with the baseline, but not all together
      raise UserError(str(error)) from None
    rest = [n for n in range(len(sources)) if n not in reasons]
    found = None
    if len(rest) > 1:
      found = comparisons.compare([sources[n] for n in rest], **_named(options, *rest[1:]))
  judgements = []
  if found:
    rows = report.comparison_json(found)["comparisons"]
    numbers = [{k: v for k, v in row.items() if k != "sentence"} for row in rows]
    judgements = [_of_pair(*one) for one in zip(found.pairs, numbers, strict=True)]
  names = options.get("names")
  for number, reason in sorted(reasons.items()):
    name = names[number] if names else _name(sources[number])
    out = Judgement(name, "not comparable", f"{reason}.", "", {})
    judgements.insert(number - 1, out)
  if given.lost:
    sweeps = found.sweeps if found else _sweeps(sources[0], {**_NOTHING, **options}, 0)
    base = {sweep.task: sweep for sweep in sweeps if sweep.name == sweeps[0].name}
    looked = options.get("looked") or "planned_n" in options
    tests = sum(one.all_diverged for one in given.lost) + len(found.pairs if found else [])
    judgements = given.with_lost(
      judgements, lambda one: _of_lost(one, base.get(one.task), tests, looked)
    )
    return Verdicts(sweeps[0].metric, sweeps[0].name, judgements)
  if not found:
    name = names[0] if names else _name(sources[0])
    return Verdicts(options.get("metric", ""), name, judgements)
  return Verdicts(found.metric, found.sweeps[0].name, judgements)


def _of_lost(one: Lost, baseline: Findings | None, tests: int, looked: bool) -> Judgement:
  """Of a variant without a value: worse if its runs diverged and the baseline's rather do not."""
  if baseline is None:
    sentence = f"{one.name} cannot be judged on {one.task}: the baseline has no runs there."
    return Judgement(one.name, "not comparable", sentence, "", {})
  numbers: dict[str, Any] = {
    "variant": one.name, "baseline": baseline.name, "runs": 0, "planned": one.runs,
    "diverged": one.diverged, "missing": one.missing, "p_value": None, "level": None,
  }  # fmt: skip
  if not one.all_diverged:
    sentence = f"Open whether {one.name} is better than {baseline.name}: {one.words}."
    return Judgement(one.name, "open", sentence, "Train the missing runs.", numbers)
  p_value, alpha = losing.p_worse(one, baseline), judging.ALPHA / tests
  numbers |= {"p_value": p_value, "level": 1 - alpha}
  of = f"{baseline.diverged} of the {counted(baseline.planned, 'run')} of {baseline.name}"
  seen = f"{one.words}, against {of} (p = {p_value:.2g} by Fisher's exact test"
  if p_value > alpha or looked:
    why = "runs were added after a look" if looked else f"{alpha:.2g} is needed"
    sentence = f"Open whether {one.name} is worse than {baseline.name}: {seen}; {why})."
    return Judgement(one.name, "open", sentence, "Mend what diverges before more seeds.", numbers)
  sentence = f"{one.name} is worse than {baseline.name}: {seen})."
  return Judgement(one.name, "worse", sentence, "", numbers)


_NOTHING = dict.fromkeys(("metric", "better", "names", "variant", "seed", "task", "at"))


def _several(source: Source, options: Mapping[str, Any], lost: Sequence[Lost]) -> bool:
  """Whether a single source holds several methods; refused if nothing else can be judged."""
  said = {**_NOTHING, **options}
  names = {sweep.name for sweep in comparisons.read(source, said["metric"], **_roles(said))}
  if len(names) > 1 or lost:
    return len(names) > 1
  raise UserError(
    f"{next(iter(names)) or 'the table'} is all that was given, and there is nothing to judge it"
    " by: give candidates too (files, or a table of several variants), a number to reach"
    " (--target), or the file of a session of which it is the baseline (--ledger)"
  )


def _reasons(sources: list[Source], options: Mapping[str, Any]) -> dict[int, str]:
  """Why which candidates cannot be compared with the baseline, by their place."""
  reasons = {}
  for number, source in enumerate(sources[1:], 1):
    try:
      comparisons.compare([sources[0], source], **_named(options, number))
    except NotComparable as reason:
      reasons[number] = str(reason)
  return reasons


def _named(options: Mapping[str, Any], *numbers: int) -> dict[str, Any]:
  """The options for the baseline and these sources alone."""
  names = options.get("names")
  return {**options, "names": [names[n] for n in (0, *numbers)]} if names else dict(options)


def _of_pair(pair: Pair, numbers: Mapping[str, Any]) -> Judgement:
  """What a comparison says of a variant."""
  _directed(pair.baseline)
  sentences, advice = verdict.verdict(pair), verdict.outlook(pair)
  said = " ".join(sentences[: len(sentences) - len(advice)])
  return Judgement(pair.variant.name, pair.settled, said, " ".join(advice), numbers)


# A target.


def _against_target(
  given: _Given,
  said: Mapping[str, Any],
  target: float,
  spread: tuple[float | None, Source | None],
) -> Verdicts:
  if not math.isfinite(target):
    raise UserError(f"target={target} must be a number in the unit of the metric")
  sweeps = [sweep for n, source in given.sources for sweep in _sweeps(source, said, n)]
  findings.in_points("target", target, sweeps)
  findings.in_points("sigma", spread[0], sweeps)
  known = _known(*spread, sweeps[0].metric, _roles(said))
  numbers = sorted({sweep.planned for sweep in sweeps})
  beforehand = _shown_with(numbers, known.spread.df if known else 0)
  judgements = [_of_target(sweep, target, known) for sweep in sweeps]
  judgements = given.with_lost(judgements, lambda one: _lost_of_target(one, sweeps[0], target))
  return Verdicts(sweeps[0].metric, "", judgements, beforehand)


def _lost_of_target(one: Lost, like: Findings, target: float) -> Judgement:
  beyond = f"{'above' if like.better > 0 else 'below'} {target:g}{' %' if like.percent else ''}"
  numbers = {
    "target": target, "runs": one.runs, "missing": one.missing, "diverged": one.diverged,
    "mean": None, "sd": None, "df": None, "p_value": None, "bound": None, "level": targets.ALPHA,
  }  # fmt: skip
  advice = "Train the missing runs." if one.missing else "Mend what diverges before more seeds."
  sentence = f"Withheld whether {one.name} is {beyond} in the mean: {one.words}."
  return Judgement(one.name, "open", sentence, advice, numbers)


def _shown_with(numbers: Sequence[int], df: float) -> str:
  """How far beyond a target a mean must be to be shown, for each number of runs."""
  gaps = {n: targets.gap(n, df) for n in numbers}
  found = [f"{gap:.2g} sd with {counted(n, 'run')}" for n, gap in gaps.items() if gap < math.inf]
  said = []
  if found:
    said = [
      "A mean beyond the target is shown to be so in 80 % if it is beyond it by"
      f" {', '.join(found)}."
    ]
  if len(found) < len(gaps):
    said.append("One run shows nothing by itself: give sigma or floor, or two runs and more.")
  return " ".join(said)


def _of_target(sweep: Findings, target: float, known: _Known | None) -> Judgement:
  sign, n = sweep.better, sweep.planned
  sound = np.array(list(_sound(sweep).values()))
  lost = n - len(sound)
  worst, best = (0.0, 100.0) if sign > 0 else (100.0, 0.0)

  def tested(missing: float) -> targets.TargetTest:
    fill = [worst] * sweep.diverged + [missing] * (lost - sweep.diverged) if sweep.percent else []
    values = np.append(sound, fill)
    spread = known.spread if known else None
    return targets.beyond(sign * values, sign * target, spread, resolution.step(values))

  found = tested(worst)
  numbers = {
    "target": target, "runs": n, "missing": sweep.missing, "diverged": sweep.diverged,
    "mean": sign * found.mean, "sd": found.sd, "df": found.df, "p_value": found.p_value,
    "bound": sign * found.bound, "level": targets.ALPHA,
  }  # fmt: skip
  unit = " %" if sweep.percent else ""
  claim = f"{sweep.name} is {'above' if sign > 0 else 'below'} {target:g}{unit} in the mean"
  at = f"at p < {targets.ALPHA:g} over these {counted(n, 'run')}"
  note = f" {known.text}" if known else ""

  def said(outcome: str, sentence: str, advice: str = "") -> Judgement:
    return Judgement(sweep.name, outcome, f"{sentence}.{note}", advice, numbers)

  if lost and not sweep.percent:
    reason = f"{_lost(sweep)}, and as a {sweep.label} may be as bad as one likes,"
    reason += f" {'it' if lost == 1 else 'they'} may outweigh all others"
    return said("open", f"Withheld whether {claim}: {reason}", _lost_advice(sweep, sound, target))
  if lost:
    note += f" {_lost(sweep)}: counted as {worst:g} %, the worst there is."
  mean = f"mean {sign * found.mean:.6g}{unit}"
  if math.isnan(found.p_value):
    alike = f"all {n} runs have the value {sign * found.mean:.6g}{unit}, which shows no spread"
    alone = f"one run ({sign * found.mean:.6g}{unit}) has no spread to judge by"
    advice = "Give sigma or floor, or two runs and more."
    if n > 1:
      advice = "Give sigma or floor, or more digits of the values."
    return said("open", f"Open whether {claim}: {alone if n == 1 else alike}", advice)
  mean += f", sd {found.sd:.3g}"
  if found.p_value < targets.ALPHA:
    return said("met", f"{claim} {at} ({mean}, p = {found.p_value:.2g})")
  against = tested(best).p_below  # what is missing may be good
  if against < targets.ALPHA:
    return said("missed", f"Not so {at} that {claim} ({mean}, p = {against:.2g})")
  advice = (
    _lost_advice(sweep, sound, target) if lost else _target_advice(found, n, sign, target, known)
  )
  return said("open", f"Not shown {at} that {claim} ({mean}, p = {found.p_value:.2g})", advice)


def _lost(sweep: Findings) -> str:
  """Which runs have no value, in words."""
  said = [f"{counted(sweep.diverged, 'run')} diverged"] * (sweep.diverged > 0)
  if sweep.missing:
    failed = f" ({len(sweep.failures):,} of them failed)" * bool(sweep.failures)
    are = "is" if sweep.missing == 1 else "are"
    said.append(f"{counted(sweep.missing, 'run')} {are} missing{failed}")
  return " and ".join(said)


def _lost_advice(sweep: Findings, sound: np.ndarray, target: float) -> str:
  """What to do of runs without a value, which decide an open verdict."""
  said = []
  if sweep.missing:
    said.append(f"Train the missing {'run' if sweep.missing == 1 else 'runs'}.")
  if sweep.diverged and not sweep.percent:
    said.append(
      "A run that diverged stays so, and further seeds do not outweigh it: mend what diverges, or"
      " judge by a metric that has a worst value, such as an accuracy."
    )
  elif sweep.diverged and len(sound):
    ahead = sweep.better * (sound.mean() - target) > 0
    without = f"Without what diverged{' or is missing' * (sweep.missing > 0)}"
    said.append(
      f"{without} the mean is {sound.mean():.6g} %, {'' if ahead else 'not '}beyond the target"
      + (": what decides is how often runs diverge." if ahead else " either.")
    )
  return " ".join(said)


def _target_advice(
  found: targets.TargetTest, n: int, sign: int, target: float, known: _Known | None
) -> str:
  """Of an open verdict: nothing is final, for the target lies within what the mean may be."""
  distance = (found.mean - sign * target) / found.sd
  ends = sorted((sign * found.bound, sign * (2 * found.mean - found.bound)))
  within = (
    f"these {counted(n, 'run')} leave it open on which side the mean is (from {ends[0]:.5g} to"
    f" {ends[1]:.5g}, each limit at {100 * (1 - targets.ALPHA):g} %)"
  )
  if distance <= 0:
    return (
      f"The mean is {-distance * math.sqrt(n):.1f} standard errors on the wrong side of the target:"
      f" if that is where it is, no number of seeds shows the claim; but {within}."
    )
  needed = targets.fewest_runs(distance, known.spread.df if known else 0)
  if needed is None:
    return (
      "If mean and sd are what they seem, not even 200 fresh runs would show it in 80 %; but"
      f" {within}."
    )
  few = "" if n >= 5 or known else f" (which {counted(n, 'run')} tell only roughly)"
  return (
    f"If mean and sd are what they seem{few}, {counted(max(needed, n), 'fresh run')} would show it"
    " in 80 %. Choose the number first; adding runs until it is shown proves nothing."
  )


# A session of proposals.


def _in_session(
  given: _Given,
  said: Mapping[str, Any],
  path: str | os.PathLike,
  declared: tuple[int | None, Mode | None, float | None, Source | None],
  digest: str | None,
) -> Verdicts:
  first, *variants = _sweeps(given.sources[0][1], said, 0)
  said = {**said, "metric": first.metric}
  candidates: list[Runs | Judgement] = [_runs(sweep, digest) for sweep in variants]
  for number, other in given.sources[1:]:
    candidates += _candidates(first, other, said, number, digest)
  candidates = given.with_lost(candidates, lambda one: _lost_in_session(one, digest))
  proposed = [runs for runs in candidates if isinstance(runs, Runs)]
  n, mode, sigma, source = declared
  findings.in_points("sigma", sigma, [first])
  known = _known(sigma, source, first.metric, _roles(said))
  floor, learnt_from = (known.spread, known.source) if known else (None, "")
  asked = session.declared(first, n, mode, floor, learnt_from)
  with ledgers.opened(path) as book:
    opening = book.entries[0] if book.entries else session.opening(asked)
    session.same_session(opening, asked)
    state = session.so_far(book.entries or [opening])
    if not proposed or not all(session.recorded(state, runs) for runs in proposed):
      new = session.baseline(state, _runs(first, None))
      for entry in ([] if book.entries else [opening]) + ([new] if new else []):
        book.append(entry)
    judgements = [one if isinstance(one, Judgement) else _propose(book, one) for one in candidates]
    state = session.so_far(book.entries)
  return Verdicts(
    first.metric, first.name, judgements, _beforehand(state), _of_session(state, book)
  )


def _lost_in_session(one: Lost, digest: str | None) -> Runs | Judgement:
  """All diverged: a proposal without runs; where some are missing nothing was proposed yet."""
  if one.all_diverged:
    return Runs(one.name, [], [], digest)
  sentence = f"{one.name} was not judged: {one.words}."
  return Judgement(one.name, "open", sentence, "Train the missing runs.", {})


def _candidates(
  first: Findings, source: Source, said: Mapping[str, Any], number: int, digest: str | None
) -> list[Runs | Judgement]:
  names = said.get("names")

  def name() -> str:
    return names[number] if names else _name(source)

  try:
    sweeps = _sweeps(source, said, number)
    for sweep in sweeps:
      comparisons.same_test_set(first, sweep)
  except AllDiverged:
    return [Runs(name(), [], [], digest)]
  except NotComparable as error:
    return [Judgement(name(), "not comparable", f"{error}.", "", {})]
  return [_runs(sweep, digest) for sweep in sweeps]


def _propose(book: Ledger, runs: Runs) -> Judgement:
  """Judges a proposal and writes it down, unless that was done before."""
  state = session.so_far(book.entries)
  entry = session.recorded(state, runs)
  if not entry:
    if state.winner:  # kept in this very call
      reason = session.needs_fresh(state.winner)
      return Judgement(runs.name, "open", f"{runs.name} was not judged.", f"First {reason}.", {})
    entry = session.proposal(state, runs)
    book.append(entry)
  return _of_entry(entry, state)


def _of_entry(entry: Entry, state: Session) -> Judgement:
  name, decision, n = entry["name"], entry["decision"], len(entry["seeds"])
  lost = sum(not isinstance(value, float) for value in entry["values"])
  what = "looks promising" if decision == "promising" else f"is {decision}"
  what = f"Proposal {entry['j']}, {name}, {what}"
  if not n:
    why = "all its runs diverged"
  elif entry["stage"] == 1:
    beats = "exceeds" if decision == "promising" else "does not exceed"
    why = (
      f"after {SCREEN} seeds; its lead over {entry['against']} {beats} {LEAD:g} sd of the baseline"
    )
  else:
    tests = [f"p = {entry['p_mean']:.2g} at level {entry['level']:.2g}"]
    if entry["p_rank"] is not None:
      tests = [
        f"exact rank test p = {entry['p_rank']:.2g} at level {entry['level']:.2g}",
        f"Welch's t test p = {entry['p_mean']:.2g} at {GUARD * entry['level']:.2g}",
      ]
    why = f"{counted(n, 'seed')} against {entry['against']}; {', '.join(tests)}"
  note = f" {counted(lost, 'seed')} of it diverged or {'is' if lost == 1 else 'are'} missing, and" \
         " counted as the worst." if lost else ""  # fmt: skip
  if entry["stage"] == 2 and state.floor:
    note += f" {_Known(state.floor, state.opening['floor']['from']).text}"
  outcome = "open" if decision == "promising" else decision
  return Judgement(name, outcome, f"{what}: {why}.{note}", _next(entry), dict(entry))


def _next(entry: Entry) -> str:
  """What to do now."""
  if entry["decision"] == "promising":
    more = counted(MOST - len(entry["seeds"]), "further seed")
    return f"Train {more} and give all {MOST} at once: it is judged once."
  if entry["decision"] == "kept":
    return f"Train it from {session.FRESH} fresh seeds and give these runs as the new baseline."
  return "It is decided; no further seeds of it."


def _beforehand(state: Session) -> str:
  """What the next proposal can expect of the baseline."""
  if state.winner:
    return ""
  seen = session.prospect(state)
  if seen is None:
    return "No proposal is left in this session."
  enough = {
    None: "no number of baseline runs makes it 80 %: learn the spread (floor)",
    True: f"{seen.enough} baseline runs would make it 80 %",
    False: "",
  }[None if seen.enough is None else seen.enough > seen.baseline]
  return (
    f"With a baseline of {counted(seen.baseline, 'run')} a gain of {session.GAIN:g} sd is found by"
    f" {MOST} seeds in about {100 * seen.found:.0f} % at level {seen.level:.2g}"
    + (f"; {enough}." if enough else ".")
  )


def _of_session(state: Session, book: Ledger) -> dict[str, Any]:
  opening, seen = state.opening, session.prospect(state)
  return {
    "path": book.path, "head": book.head,
    "mode": opening["mode"], "proposals": opening["proposals"],
    "made": state.made, "keeps": state.keeps, "next_level": state.next_level,
    "needs_fresh_baseline": state.winner is not None,
    "baseline_runs": len(state.baseline["seeds"]) if state.baseline else 0,
    "found_2_sd": seen and seen.found, "baseline_for_80": seen and seen.enough,
  }  # fmt: skip
