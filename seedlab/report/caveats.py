"""What has to be kept in mind beside a verdict: sentences about a pair of sweeps."""

import math

from seedlab.comparisons import Pair
from seedlab.findings import Findings, counted
from seedlab.judging import Evidence
from seedlab.report import words
from seedlab.stats import comparison, resolution
from seedlab.stats.comparison import Spread, TwoSweeps


def notes(pair: Pair) -> list[str]:
  """In the order in which they matter."""
  baseline, variant, latest = pair.baseline, pair.variant, pair.looks[-1]
  if latest.kind == "crossed":
    return []
  notes = _unknown_examples(baseline, variant)
  if variant.vary != baseline.vary:
    notes.append(
      f"{baseline.name} varied {_streams(baseline)}, {variant.name} {_streams(variant)}: their"
      " spreads do not measure the same luck."
    )
  if pair.two.left_out and not pair.by_ranks:  # ranks are of all runs
    have, are = ("has", "is") if pair.two.left_out == 1 else ("have", "are")
    notes.append(
      f"{counted(pair.two.left_out, 'run')} {have} no partner with the same seed and {are} not"
      " used."
    )
  notes += _not_yet_looked_at(latest, pair.two)
  if (baseline.diverged or variant.diverged) and baseline.chance != variant.chance:
    notes.append("Diverged runs count as chance level in one sweep and as lost in the other.")
  for sweep in (variant, baseline):
    notes += _collapsed(sweep, pair.rules.step)
  if pair.rules.spread:
    notes += _other_spread(pair, pair.rules.spread)
  if latest.kind == "looked" and not pair.two.paired:
    notes.append(
      "Whoever looks again and again at skewed values of few new runs beside many of a baseline"
      " errs more often than 5 times in 100 (in simulations up to 14)."
    )
  return notes


def _not_yet_looked_at(latest: Evidence, two: TwoSweeps) -> list[str]:
  """Runs beyond the last doubling wait for the next."""
  waiting = len(two.a_R) + len(two.b_S) - len(latest.two.a_R) - len(latest.two.b_S)
  if latest.kind != "route" or latest.by_ranks or waiting <= 0:
    return []
  seen = f"{len(latest.two.a_R):,}"
  if two.paired:
    kind, waiting = "pair", waiting // 2
    seen += " pairs"
  else:
    kind = "run"
    seen += f" and {len(latest.two.b_S):,} runs"
  are = "is" if waiting == 1 else "are"
  return [
    f"The latest look is at {seen}; {counted(waiting, 'further ' + kind)} {are} looked at when the"
    " number has doubled."
  ]


def _collapsed(sweep: Findings, step: float) -> list[str]:
  """What collapsed runs make of a statement on means."""
  column = sweep.columns[-1]
  seen = resolution.collapse(column.values, step)
  count = int(seen.collapsed_R.sum())
  if not count:
    return []
  low, high = 100 * seen.rate.low, 100 * seen.rate.high
  return [
    f"{counted(count, 'run')} of {sweep.name} lie{'s' * (count == 1)} far from all its others"
    f" ({100 * seen.rate.estimate:.2g} %, 95 % interval {low:.2g} to {high:.2g} %). Its mean is"
    " decided by how often that happens, which so few runs cannot tell well: look at medians,"
    " P(better) and that rate too."
  ]


def _other_spread(pair: Pair, spread: Spread) -> list[str]:
  """Where the runs' own spread contradicts the one that is stated or learnt."""
  ratio, p = comparison.spread_misfit(pair.two, spread)
  if p > 0.01:
    return []
  source = "the stated one" if math.isinf(spread.df) else "the floor's"
  return [
    f"The runs' own sd is {ratio:.2g} times {source}, which chance does not explain (F test,"
    f" {words.p_text(p)}): that spread is not theirs; judge without it."
  ]


def _unknown_examples(baseline: Findings, variant: Findings) -> list[str]:
  """A note if a store does not say on which examples it was evaluated."""
  unknown = [
    sweep.name
    for sweep in (baseline, variant)
    if sweep.dataset is not None and sweep.dataset.attrs.get("evaluation_digest") is None
  ]
  if not unknown:
    return []
  return [
    f"It is not known whether {baseline.name} and {variant.name} were evaluated on the same"
    f" examples: {' and '.join(unknown)} did not record which (Trainer.evaluated_on)."
  ]


def _streams(sweep: Findings) -> str:
  return ", ".join(sweep.vary) if sweep.vary else "something unknown"
