"""What a sweep says, in words: sentences, rows of a table, facts and notes from its findings.

Runs that share seeds (a crossed design) get no standard error and no interval as if
they were independent draws.
"""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from seedlab import findings, tables
from seedlab.config import STREAMS
from seedlab.findings import Column, Findings, counted
from seedlab.stats import crossed, planning, resolution, route, sequential, single
from seedlab.stats.single import Interval

WORDS = {True: ("worst", "best"), False: ("lowest", "highest")}
_SUBSETS = (100, 10, 5)  # k of "k new seeds": the largest of which there are five times as many
_MOST_REASONS = 3  # why runs failed
_LOOKS = 100  # at most, of a betting sequence
_TAILS = 20  # runs below which nothing is said of tails
_DRAWS = 20_000_000  # normal values drawn to judge the tails
_FEWEST = 30  # runs: of fewer, an interval that happens to be narrow enough to tell is often wrong
_VACUOUS = 0.5  # width from which the interval of a share says nothing
_SEEN = 0.01  # of the variance: from here on what a grid hides is spoken of
_LOOSE = 2.0  # limits of an sd further apart forecast nothing: four times as many seeds


def headline(found: Findings) -> list[str]:
  """Sentences, the first of which stands alone."""
  column = found.columns[0]
  s = column.summary
  unit, points = (" %", " points") if found.percent else ("", "")
  streams, varied = _varied(found), " varied" * bool(found.vary)
  low, high = WORDS[found.better != 0]
  mean, sd, gap = (number(found, value, s.sd) for value in (s.mean, s.sd, s.gap))
  told = runs_told(found)
  if found.failed_R.all():
    all_of_them = f"All {found.completed:,} {_noun(found)}s"
    all_of_them = "The only run" if found.completed == 1 else all_of_them
    first = f"{all_of_them} diverged: there is no {found.label} to speak of."
  elif s.n == 1:
    one = "One run" if told.startswith("1 ") else told[0].upper() + told[1:]
    first = f"{one}: {found.label} {mean}{unit}. How far luck moves it shows from two runs on."
  elif s.gap == 0:
    first = f"Luck ({streams}{varied}) did not show: {found.label} {mean}{unit} in all of {told}."
  else:
    first = (
      f"Luck alone ({streams}{varied}) moved {found.label} by {gap}{points} between the {high} and"
      f" the {low} of {told} (mean {mean}{unit}, sd {sd}{points})."
    )
  open_runs = found.missing - len(found.failures)
  unfinished = (
    f"Not finished: {open_runs:,} of {counted(found.planned, 'run')}"
    f" {'is' if open_runs == 1 else 'are'} missing, of which nothing is known."
  )
  return [
    first,
    *_equal(found),
    *[failures_told(found.failures, found.planned)] * bool(found.failures),
    *[unfinished] * bool(open_runs),
    *_collapsed(found),
    *_split(found),
    *_without_diverged(found),
  ]


def failures_told(failures: Mapping[int, str], planned: int) -> str:
  """Which runs of so many failed, and why; one reason after the other."""
  of_each: dict[str, list[int]] = {}
  for run, reason in failures.items():
    of_each.setdefault(reason, []).append(run)
  listed = []
  for reason, runs in list(of_each.items())[:_MOST_REASONS]:
    more = f" and {len(runs) - 5:,} more" * (len(runs) > 5)
    listed.append(f"run{'s' * (len(runs) > 1)} {', '.join(map(str, runs[:5]))}{more} ({reason})")
  rest = len(of_each) - _MOST_REASONS
  more = f"; and {counted(rest, 'other reason')}" * (rest > 0)
  have = "has" if len(failures) == 1 else "have"
  return (
    f"Failed: {len(failures):,} of {counted(planned, 'run')} ended without a result and {have} no"
    f" value: {'; '.join(listed)}{more}."
  )


def lost_told(sweep: Findings) -> list[str]:
  """How many runs diverged and are missing, each in two or three words, of those that are not 0."""
  failed = f" ({len(sweep.failures):,} of them failed)" * bool(sweep.failures)
  return [f"{sweep.diverged:,} diverged"] * bool(sweep.diverged) + [
    f"{sweep.missing:,} missing{failed}"
  ] * bool(sweep.missing)


def _noun(found: Findings) -> str:
  return "seed" if found.independent else "run"


def runs_told(found: Findings, number: int = 0) -> str:
  """The runs behind a column, in words: "60 seeds", or which of them where some lack."""
  n = found.columns[number].summary.n
  lost = n < found.completed
  form = ("is" if n == 1 else "are") + " finished"
  which = [form] * bool(found.missing) + ["did not diverge"] * bool(lost)
  if not which:
    return counted(n, _noun(found))
  return f"the {counted(n, _noun(found))} of {found.planned:,} that {' and '.join(which)}"


def _varied(found: Findings) -> str:
  if not found.vary:
    return "whatever the seed set"
  return "every source of randomness" if set(found.vary) == set(STREAMS) else _listed(found.vary)


def _equal(found: Findings) -> list[str]:
  """What equal values hide."""
  s = found.columns[0].summary
  if s.n < 2 or s.gap or found.failed_R.all():
    return []
  if s.sem > 0:
    return [f"What is smaller than the step of the values, {_step(found)}, stays hidden."]
  return [
    "Equal values have no interval here: how finely this metric was measured is not known, so"
    " neither is how much spread that hides."
  ]


def _step(found: Findings) -> str:
  step = f"{found.grid:.2g}{found.unit}"
  return f"{step} (one of {found.examples:,} test examples)" if found.examples else step


def share(count: int, n: int, noun: str = "") -> str:
  """A count of n independent runs with its exact interval: "3 of 100 (3 %, ... 0.6 to 8.5 %)"."""
  of = resolution.rate(count, n)
  low, high = _percent(of.low), _percent(of.high)
  of_n = f"{count:,} of {counted(n, noun) if noun else format(n, ',')}"
  return f"{of_n} ({_percent(of.estimate)} %, 95 % interval {low} to {high} %)"


def _percent(fraction: float) -> str:
  value = 100 * fraction
  return f"{value:.0f}" if value >= 10 else f"{value:.1f}".removesuffix(".0")


def _apart(found: Findings) -> resolution.Collapse:
  """Which of the runs that did not diverge lie apart from all the others."""
  return resolution.collapse(found.columns[-1].values, found.grid)


def _spoilt(found: Findings) -> str:
  """By which runs intervals of the mean and the sd are void; nothing where they are not."""
  if found.failed_R.all():
    return ""
  if len(found.columns) > 1:
    return "diverged runs at chance level"
  return "runs that lie apart from all others" * bool(_apart(found).collapsed_R.any())


def _usual_sd(found: Findings) -> float:
  """The sd that sets the digits of a value: that of the runs that do not lie apart."""
  column = found.columns[-1]
  apart_R = _apart(found).collapsed_R
  return float(column.values[~apart_R].std(ddof=1)) if apart_R.any() else column.summary.sd


def _collapsed(found: Findings) -> list[str]:
  """Says it where runs lie far apart from all the others."""
  if found.failed_R.all() or not _apart(found).collapsed_R.any():
    return []
  column, apart_R = found.columns[-1], _apart(found).collapsed_R
  n, count = len(apart_R), int(apart_R.sum())
  below = column.values[apart_R].max() < column.values[~apart_R].min()
  worse = found.better == (1 if below else -1)
  many = share(count, n, "run") if found.independent else f"{count:,} of {counted(n, 'run')}"
  did = "collapsed" if worse else f"lie{'s' * (count == 1)} apart"
  median = number(found, column.summary.median, _usual_sd(found))
  return [
    f"{many} {did}, far {'below' if below else 'above'} all the others: mean and sd follow them,"
    f" and the median ({median}{' %' * found.percent}) and the interquartile mean do not."
  ]


def own_share(found: Findings) -> Interval | None:
  """The share of the variance that is the networks' own; None where its interval says nothing."""
  own, column = found.own, found.columns[-1]
  if own is None or column.summary.n < _FEWEST or not column.summary.gap:
    return None
  part = single.distribution_wise_share(own, column.independent, found.examples)
  return part if part.high - part.low <= _VACUOUS else None


def _split(found: Findings) -> list[str]:
  """How much of the variance the networks would show on new examples."""
  column, part = found.columns[-1], own_share(found)
  if found.own is None or not column.summary.gap or column.summary.n < 2:
    return []
  examples, seeds = f"{found.examples:,} test examples", counted(column.summary.n, "seed")
  if part is None:
    return [
      "How much of that spread is the networks' own and would show on new examples too, and how"
      f" much is how they happen to do on these {examples}, cannot be told from {seeds}."
    ]
  low, high = f"{100 * part.low:.0f}", f"{100 * part.high:.0f}"
  own = number(found, column.sd, column.summary.sd)
  return [
    f"An estimated {100 * part.estimate:.0f} % (95 % interval {low} to {high} %) of that variance"
    + " (without diverged runs)" * (len(found.columns) > 1)
    + " is the networks' own and would show on new examples too (distribution-wise sd"
    f" {own}{found.unit}); the rest is how they happen to do on these {examples}."
  ]


def _without_diverged(found: Findings) -> list[str]:
  if not found.diverged:
    return []
  many = f"{found.diverged:,} of {counted(found.completed, 'run')}"
  if found.independent:
    many = share(found.diverged, found.completed, "run")
  one = found.diverged == 1
  if found.chance is None:
    lost = "is lost: it is" if one else "are lost: they are"
    return [f"{many} diverged and {lost} in no other number here."]
  diverged = f"diverged and count{'s' * one} as chance ({number(found, found.chance, 0)} %)"
  if len(found.columns) == 1:
    return [f"{'This run' if one else 'All of these runs'} {diverged}."]
  s = found.columns[1].summary
  return [
    f"{many} {diverged}; without them the gap is"
    f" {number(found, s.gap, s.sd)} points and the sd {number(found, s.sd, s.sd)}."
  ]


def rows(found: Findings) -> list[tuple[str, ...]]:
  """The table: a name, then a cell for each column."""
  cells = [_cells(found, column) for column in found.columns]
  # Of few runs a column has fewer lines.
  return [(name, *(column.get(name, "-") for column in cells)) for name in cells[0]]


def _cells(found: Findings, column: Column) -> dict[str, str]:
  s = column.summary

  usual = _usual_sd(found)

  def show(value: float, scale: float = usual) -> str:
    return number(found, value, scale)

  cells = {"runs": f"{s.n:,}"}
  if s.n > 1 and found.independent:
    mean = _within(found, Interval(s.mean, s.low, s.high, 0.95, "t"))
    limits = f"{show(mean.low, s.sem)} to {show(mean.high, s.sem)}" if s.sem > 0 else "-"
    cells |= {
      "mean": show(s.mean, s.sem),
      "95 % interval of the mean": limits,
      "sem": show(s.sem, s.sem) if s.sem > 0 else "-",
    }
  else:
    cells["mean"] = show(s.mean)
  if s.n > 1:
    cells["sd"] = show(s.sd, s.sd)
    if found.examples and s.n > 2:
      cells["distribution-wise sd"] = show(column.sd)
      cells["sd if errors were independent"] = show(math.sqrt(column.independent))
  worst, best = (_some(runs) for runs in ends(found, column))
  low, high = WORDS[found.better != 0]
  return cells | {
    "min": show(s.min),
    "lower quartile": show(s.q25),
    "median": show(s.median),
    "upper quartile": show(s.q75),
    "max": show(s.max),
    "gap (max - min)": show(s.gap),
    f"{high} run": best,
    f"{low} run": worst,
  }


def facts(found: Findings) -> list[tuple[str, str]]:
  """What stands beside the table: name and value, of the first column's runs."""
  diverged = f"{found.diverged:,} of {found.completed:,}"
  missing = f"{found.missing:,} of {found.planned:,}"
  listed = [
    ("diverged", share(found.diverged, found.completed) if found.independent else diverged),
    ("missing", missing + ": not known" * bool(found.missing)),
  ]
  if found.failures:
    listed.insert(1, ("failed", f"{len(found.failures):,} of {found.planned:,}"))
  if found.planned_n:
    listed.append(("planned before training", counted(found.planned_n, "run")))
  if found.vary:
    listed.append(("streams that varied", ", ".join(found.vary)))
  if found.fixed:
    fixed = ", ".join(f"{stream} at {seed}" for stream, seed in found.fixed.items())
    listed.append(("streams held fixed", fixed))
  listed += _repeats(found)
  return listed + (_inference(found) if found.independent else _crossed(found))


def _inference(found: Findings) -> list[tuple[str, str]]:
  """About a new seed, from independent runs."""
  column = found.columns[0]
  s, values_R, spoilt = column.summary, column.values, _spoilt(found)
  listed = [] if found.failed_R.all() else [("collapsed", _seen(found))]
  if s.n < 3 or not s.sem > 0 or found.failed_R.all():
    return listed
  void, scale = f"not given: {spoilt} make it void", s.sem
  if spoilt:
    scale = _usual_sd(found) / math.sqrt(s.n)
  middle = single.interquartile_mean(values_R, h=found.grid)
  listed += [
    ("mean, interval that forgives looking again", void if spoilt else _again(found)),
    ("interquartile mean", interval(found, _within(found, middle), scale)),
  ]
  if spoilt:
    listed.append(_median(found))
  if not s.gap:
    return listed
  sd = single.sd_interval(values_R)
  spread = void if spoilt else interval(found, sd, s.sd / math.sqrt(s.n))
  listed.append(("sd with its 95 % interval", spread))
  if found.own is not None:
    sds = [math.sqrt(max(x, 0)) for x in (found.own.estimate, found.own.low, found.own.high)]
    own = Interval(*sds, found.own.level, found.own.method)
    listed.append(("distribution-wise sd with its 95 % interval", interval(found, own, s.sd)))
  k = None if spoilt else next((k for k in _SUBSETS if 5 * k <= s.n), None)
  if k:
    gap = single.expected_range(values_R, k)
    listed.append((f"expected gap of {k} new seeds", interval(found, gap, s.sd)))
  if k and found.better:
    best = single.expected_best(found.better * values_R, k)
    limits = sorted([found.better * best.low, found.better * best.high])
    best = Interval(found.better * best.estimate, *limits, best.level, best.method)
    listed.append((f"expected best of {k} new seeds", interval(found, best, s.sd)))
  if not spoilt:
    listed += _forecast(found)
  return [*listed, ("tails", _tails(found, values_R))]


def _seen(found: Findings) -> str:
  """How many of the runs that did not diverge collapsed, as far as that can be seen."""
  apart = _apart(found)
  if not apart.seen:
    return f"cannot be seen in fewer than {resolution.SEEN_FROM} runs"
  return share(int(apart.collapsed_R.sum()), len(apart.collapsed_R))


def _again(found: Findings) -> str:
  """The mean with an interval that holds at every look, whichever looks there were.

  Where the first look is known to be at 30 runs or more (a plan, a stopping rule) it is the
  asymptotic sequence; otherwise the anytime t, which is wider and says something from 4 runs on.
  Never one and then the other: together they would err too often.
  """
  column = found.columns[0]
  s = column.summary
  ruled = found.dataset is not None and found.dataset.attrs.get("stop")
  if (found.planned_n or (sequential.BURN_IN if ruled else 0)) < sequential.BURN_IN:
    of = sequential.anytime_t(s.mean, s.sem, s.n - 1, 5 * s.n)
  else:
    low, high = sequential.asymptotic_sequence(column.values[np.argsort(column.runs)])
    # What a grid hides is added to the sd, as in the t interval.
    half = (high[-1] - low[-1]) / 2 * (s.sem * math.sqrt(s.n) / s.sd if s.sd else 1)
    of = Interval(s.mean, float(s.mean - half), float(s.mean + half), 0.95, "")
  return interval(found, _within(found, of), s.sem)


def _within(found: Findings, of: Interval) -> Interval:
  """Limits of a share cut at 0 and 100 %; infinite ones stay."""
  if not found.percent or not math.isfinite(of.low):
    return of
  return dataclasses.replace(of, low=max(of.low, 0.0), high=min(of.high, 100.0))


def _median(found: Findings) -> tuple[str, str]:
  """Of the first column; on a grid half a step wider to either side."""
  column, half = found.columns[0], found.grid / 2
  of = single.quantile_interval(column.values, 0.5)
  of = _within(found, dataclasses.replace(of, low=of.low - half, high=of.high + half))
  scale = _usual_sd(found) / math.sqrt(column.summary.n)
  return "median, whatever the distribution", interval(found, of, scale)


def _forecast(found: Findings) -> list[tuple[str, str]]:
  """How many seeds find a difference of half an sd, of the test that will judge them.

  From the limits of the sd; nothing of few runs, or where these are far apart.
  """
  column = found.columns[0]
  s, of = column.summary, single.sd_interval(column.values)
  if s.n < _FEWEST or not of.high <= _LOOSE * of.low:
    return []
  alpha, sds = 0.05 * route.weight(0), (s.sd, of.low, of.high)
  each, fewest, most = (planning.runs_for_difference(s.sd / 2, sd, alpha=alpha) for sd in sds)
  half = number(found, s.sd / 2, s.sd) + found.unit
  said = f"{each:,} ({fewest:,} to {most:,}), 4 times in 5 by Welch's test at its first look"
  return [(f"seeds a sweep to find a difference of {half}", f"{said} ({100 * alpha:.0f} %)")]


def on_request(found: Findings) -> list[tuple[str, str]]:
  """Other intervals about a new seed, for who wants them (`--details`), from independent runs."""
  column = found.columns[0]
  s, values_R = column.summary, column.values
  if s.n < 3 or not s.gap or not found.independent:
    return []
  listed = [] if _spoilt(found) else [_median(found)]
  if found.percent:
    ordered_R = values_R[np.argsort(column.runs)] / 100
    every = max(sequential.EVERY, s.n // _LOOKS)
    low, high = (100 * x[-1] for x in sequential.betting_sequence(ordered_R, every=every))
    bet = Interval(s.mean, float(low), float(high), 0.95, "betting")
    name = "mean, whatever the distribution and however often one looks"
    listed.append((name, interval(found, bet, s.sem)))
  apart = {} if found.dataset is None else findings.on_new_examples(found.dataset)
  names = {
    "churn": "new examples on which two seeds differ, %",
    "difference": "new examples, difference of two seeds' probabilities (L1), %",
  }
  for kind, of in apart.items():
    limits = "" if math.isnan(of.low) else f" ({100 * of.low:.2f} to {100 * of.high:.2f})"
    listed.append((names[kind], f"{100 * of.estimate:.2f}{limits}"))
  return listed


def _tails(found: Findings, values_R: np.ndarray) -> str:
  if len(values_R) < _TAILS:
    return f"cannot be told from fewer than {_TAILS} runs"
  draws = min(max(_DRAWS // len(values_R), 199), 4999)
  tails = single.heavier_tails(values_R, found.grid, np.random.default_rng(0), draws)
  if math.isnan(tails.p_value):
    return "too few runs to say"
  verdict = "heavier than a normal's" if tails.p_value < 0.05 else "not seen to exceed a normal's"
  return f"{verdict} (excess kurtosis {tails.excess_kurtosis:.2f}, p = {tails.p_value:.2g})"


def _crossed(found: Findings) -> list[tuple[str, str]]:
  array = crossed_array(found)
  if array is None:
    return []
  mean = crossed.mean(array[0])
  return [
    ("mean over new levels of every stream", interval(found, mean, abs(mean.high - mean.low) / 4))
  ]


def crossed_array(found: Findings) -> tuple[np.ndarray, list[str]] | None:
  """Values over a full crossed design, one axis a stream, and the streams; None if it is none."""
  column = found.columns[0]
  chosen = np.isin(found.run_R, column.runs)
  seeds = {stream: found.seeds[stream][chosen] for stream in found.vary}
  try:
    array, levels = crossed.design(column.values, seeds)
  except ValueError:
    return None
  return array, list(levels)


def effects(found: Findings) -> list[tuple[str, str, str]]:
  """Rows (stream, first-order effect, total effect) of a full crossed design, as shares."""
  design = None if found.independent else crossed_array(found)
  if design is None:
    return []
  shown = []
  for stream, effect in crossed.effects(*design).items():
    cells = [
      "-" if math.isnan(i.estimate) else f"{i.estimate:.2f}{_limits(i.low, i.high, '.2f')}"
      for i in (effect.first, effect.total)
    ]
    shown.append((stream, *cells))
  return shown


def _limits(low: float, high: float, form: str) -> str:
  return "" if math.isnan(low) or math.isnan(high) else f" ({low:{form}} to {high:{form}})"


def interval(found: Findings, of: Interval, scale: float) -> str:
  """`estimate (low to high)`, to the digits that `scale` deserves."""
  estimate = number(found, of.estimate, scale)
  if not (math.isfinite(of.low) and math.isfinite(of.high)):
    return f"{estimate} (no interval from so few runs)"
  if not of.high - of.low > single.ROUNDING * abs(of.estimate):
    return f"{estimate} (no interval: too many runs are equal)"
  return f"{estimate} ({number(found, of.low, scale)} to {number(found, of.high, scale)})"


def or_a_name(found: Findings) -> str:
  """The other way to say which way is better, of a table that does not say what its cells are."""
  unnamed = found.dataset is None and found.metric == tables.UNNAMED
  other = ", or, if it has a column for each seed or variant, --metric=acc names their cells"
  return other * unnamed


def notes(found: Findings) -> list[str]:
  column = found.columns[0]
  notes, n = [], column.summary.n
  if n > 1 and found.better and column.summary.gap:
    notes.append(_warning(found, column))
  if not found.better:
    notes.append(
      f"Whether a higher or a lower {found.label} is better is not known, so no run is called the"
      f" best: --better=higher or --better=lower says it{or_a_name(found)}."
    )
  if found.diverged and found.chance is None:
    notes.append(
      "Diverged runs are lost, and what they would count for is not known for this metric: every"
      " number is about the runs that did not diverge, and the share of the others is part of the"
      " result."
    )
  elif found.diverged:
    notes.append(
      f"A diverged run counts as chance level, {number(found, found.chance, 0)} % (right or wrong"
      " at random on every test example)"
      + ("; the second column leaves such runs out." if len(found.columns) > 1 else ".")
    )
  if found.missing:
    notes.append(
      "Runs are missing: these numbers are about the completed runs alone, and nothing is known of"
      " the others, which may be the worst."
    )
  if _spoilt(found):
    notes.append(
      f"Because of {_spoilt(found)} no interval of the mean or the sd does what it promises, the t"
      " interval included: one such run more or less moves them beyond it. Median and interquartile"
      " mean stand beside, and the share of such runs with an exact interval."
    )
  if n > 1 and not found.independent:
    notes.append(
      "Runs share seeds (a crossed design), so they are not independent draws: no standard error"
      " of the mean as if they were is given, and every sd describes these runs alone."
    )
  elif column.summary.sem > 0:
    held = ", the fixed streams as they are" if found.fixed else ""
    scope = "this test set" if found.examples else "the same evaluation"
    notes.append(
      f"The interval is Student's t: it speaks of the mean over all seeds ({scope}{held})."
      " Minimum, maximum and gap are facts about these runs; the gap grows with their number."
    )
    if found.grid**2 / 12 > _SEEN * column.summary.sd**2 and column.summary.sem > 0:
      notes.append(
        f"The values lie in steps of {_step(found)}. What that hides, a variance of a twelfth of"
        " the squared step, is part of the standard error and of the intervals of the mean."
      )
  if n > 2 and found.examples:
    notes.append(
      "The distribution-wise sd is what new test examples would show of the spread (unbiased"
      " variance, Jordan, ICLR 2024, theorem 2; an estimate below zero is given as 0)."
    )
  if 1 < n < 30 and column.summary.gap:
    notes.append(
      f"Few runs: an sd from {n} is itself uncertain by about"
      f" {100 / math.sqrt(2 * (n - 1)):.0f} % (one standard error, for normal values)."
    )
  if found.fingerprints > 1:
    notes.append(
      f"The runs come from {found.fingerprints} fingerprints (device, versions or program): exact"
      " replay holds within each."
    )
  return notes


def _warning(found: Findings, column: Column) -> str:
  """What the best run is not."""
  s = column.summary
  best = s.max if found.better > 0 else s.min
  if _spoilt(found):
    lead = number(found, abs(best - s.median), _usual_sd(found)) + " points" * found.percent
    return (
      f"The best run is not the result: picked out of {s.n:,} by its luck, it leads the median by"
      f" {lead}. Quote the median or the interquartile mean with its interval, and beside it how"
      f" many of the runs {'diverged' if found.diverged else 'lie apart'}."
    )
  lead, points = number(found, abs(best - s.mean), s.sd), " points" if found.percent else ""
  said = (
    f"The best run is not the result: picked out of {s.n:,} by its luck, it leads the mean by"
    f" {lead}{points}"
  )
  part = own_share(found) if len(found.columns) == 1 else None
  if part is not None:
    about, low, high = (
      number(found, abs(best - s.mean) * fraction, s.sd)
      for fraction in (part.estimate, part.low, part.high)
    )
    said += f", of which about {about} ({low} to {high}) would show on new test examples"
  return f"{said}. Quote the mean, with its interval and sd."


def ends(found: Findings, column: Column) -> tuple[np.ndarray, np.ndarray]:
  """The runs at the worst (or lowest) and at the best (or highest) value, ties included."""
  lowest, highest = (
    column.runs[column.values == end] for end in (column.values.min(), column.values.max())
  )
  return (highest, lowest) if found.better < 0 else (lowest, highest)


def number(found: Findings, value: float, scale: float) -> str:
  """`value` to the second significant digit of `scale`, a spread; percentages to two decimals."""
  if math.isnan(value):
    return "-"
  if not math.isfinite(scale):
    return f"{value:.4g}"
  if not scale > 0:  # no spread to set the digits
    return f"{value:.2f}" if found.percent else f"{value:,.6g}"
  decimals = max(2 if found.percent else 0, 1 - math.floor(math.log10(scale)))
  return f"{value:,.{decimals}f}" if decimals < 9 else f"{value:.4g}"


def _some(runs: np.ndarray) -> str:
  return f"{runs[0]}" + (f" (and {len(runs) - 1:,} more)" if len(runs) > 1 else "")


def _listed(words: list[str]) -> str:
  return " and ".join([*([", ".join(words[:-1])] if words[:-1] else []), words[-1]])


def caption(found: Findings) -> str:
  where = f" at step {found.steps[-1]:,}" if len(found.steps) else ""
  return f"{found.label}{' in %' if found.percent else ''}{where}"


def _repeats(found: Findings) -> list[tuple[str, str]]:
  """Seeds that were trained again: what moves a result although the seed is the same."""
  if found.repeats is None:
    return []
  within, between = found.repeats.within, found.repeats.between
  return [
    (
      f"sd of up to {found.repeats.most} repeats of one seed (not luck of the seed)",
      interval(found, within, within.estimate),
    ),
    (
      "sd between seeds, the repeats' share taken off",
      interval(found, between, within.estimate),
    ),
  ]


def p_text(p_value: float) -> str:
  """`p = 0.021`; never 0."""
  return "p < 1e-15" if p_value < 1e-15 else f"p = {p_value:.2g}"
