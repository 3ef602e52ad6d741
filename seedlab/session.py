"""The rules of a session of proposals: what its ledger says so far, and what may be written next.

Entries are those of `seedlab.ledger`. The first opens the session; then come a baseline and
proposals, and after a proposal that was kept a baseline of fresh seeds of it. Nothing here reads
or writes files. How a proposal is judged is in `stats.proposals`.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import seedlab
from seedlab import ledger
from seedlab.errors import UserError
from seedlab.findings import Findings, counted
from seedlab.ledger import Entry
from seedlab.stats import proposals
from seedlab.stats.comparison import Spread
from seedlab.stats.proposals import MOST, SCREEN

PROPOSALS = 1000  # of a session, unless it declares another number
FRESH = 30  # seeds recommended for a baseline
GAIN = 2.0  # sds, of the gain that users are told the chance for


@dataclasses.dataclass(frozen=True)
class Runs:
  """The runs of a method as a ledger holds them, in display units."""

  name: str
  seeds: list[int]  # ascending
  values: list[float | str | None]  # "diverged"; None: missing
  digest: str | None = None  # of the method's code, if the user gave one

  @property
  def of_seed(self) -> dict[int, float | str | None]:
    return dict(zip(self.seeds, self.values, strict=True))


@dataclasses.dataclass(frozen=True)
class Session:
  """What the entries of a ledger amount to."""

  opening: Entry
  baseline: Entry | None = None
  winner: Entry | None = None  # kept, and not yet given fresh seeds as the new baseline
  champion: Entry | None = None  # the proposal that the baseline holds fresh seeds of
  last: Mapping[tuple[str, str | None], Entry] = dataclasses.field(default_factory=dict)
  keeps: int = 0
  judged: int = 0  # proposals since the baseline was given

  @property
  def made(self) -> int:
    """How many proposals there were so far."""
    return len(self.last)

  @property
  def floor(self) -> Spread | None:
    known = self.opening["floor"]
    return known and Spread(known["sd"], math.inf if known["df"] is None else known["df"])

  @property
  def next_level(self) -> float:
    return proposals.level(
      self.made + 1, self.opening["proposals"], self.opening["mode"], self.keeps
    )


def declared(
  first: Findings, n: int | None, mode: str | None, floor: Spread | None, floor_from: str
) -> dict[str, Any]:
  """Fields of a session's opening, as a call declares them; None where it says nothing.

  Args:
    first: the baseline.
    n: proposals that may come.
    floor: what is known of the spread, in display units.
    floor_from: where that comes from, in words.
  """
  if n is not None and n < 1:
    raise UserError(f"proposals={n} must be at least 1: how many may come in this session")
  if mode not in (None, "strict", "fdr"):
    raise UserError(f"mode={mode!r} must be strict or fdr")
  known = floor and {
    "sd": floor.sd, "df": None if math.isinf(floor.df) else floor.df, "from": floor_from
  }  # fmt: skip
  return {
    "metric": first.metric, "better": "higher" if first.better > 0 else "lower",
    "unit": first.unit.strip(), "proposals": n, "mode": mode, "floor": known,
  }  # fmt: skip


def opening(asked: dict[str, Any]) -> Entry:
  """The first entry of a ledger, from `declared`."""
  defaults = {"proposals": PROPOSALS, "mode": "strict"}
  filled = {name: defaults.get(name) if value is None else value for name, value in asked.items()}
  return ledger.START | filled | {
    "kind": "session", "seedlab": seedlab.__version__, "alpha": proposals.ALPHA
  }  # fmt: skip


def so_far(entries: Sequence[Entry]) -> Session:
  """What the entries amount to; the first must be there."""
  baseline = winner = champion = None
  last: dict[tuple[str, str | None], Entry] = {}
  keeps = judged = 0
  for entry in entries[1:]:
    if entry["kind"] == "baseline":
      baseline, champion, winner, judged = entry, winner or champion, None, 0
      continue
    last[entry["name"], entry["digest"]] = entry
    judged += 1
    if entry["decision"] == "kept":
      winner, keeps = entry, keeps + 1
  return Session(entries[0], baseline, winner, champion, last, keeps, judged)


def same_session(opened: Entry, asked: dict[str, Any]) -> None:
  """Raises UserError if what is asked for differs from what the ledger was opened with."""
  if opened["_ledger"] != ledger.START["_ledger"]:
    raise UserError(
      f"ledger: {opened['_ledger']!r} was written by seedlab {opened.get('seedlab')}, and this is"
      f" {seedlab.__version__}; install that one to go on"
    )
  for field, value in asked.items():
    if value is not None and opened[field] != value:
      raise UserError(
        f"{field}={_shown(value)}: this ledger was opened with {_shown(opened[field])}; a session"
        " keeps what it declared: leave it as it was, or start a new session in another file"
      )


def _shown(value: Any) -> str:
  return f"sd {value['sd']:.4g} from {value['from']}" if isinstance(value, dict) else str(value)


def baseline(session: Session, runs: Runs) -> Entry | None:
  """The entry that makes these runs the baseline; None if they are it already.

  Raises UserError for one that may not be: changed values, too few, seeds that won, after a
  proposal was judged against another.
  """
  before, winner = session.baseline, session.winner
  if before and (before["seeds"], before["values"]) == (runs.seeds, runs.values):
    if not winner:
      return None
    raise UserError(needs_fresh(winner))
  champion = winner or session.champion
  used = sorted(set(runs.seeds) & set(champion["seeds"])) if champion else []
  if champion and used:
    raise UserError(
      f"baseline seed={used[0]}: {counted(len(used), 'seed')} of this baseline won the judgement"
      f" of proposal {champion['j']}, so they are lucky ones; {needs_fresh(champion)}"
    )
  if before and not winner:
    _grown(session, before, runs)
  _large_enough(session, runs)
  return {
    "kind": "baseline", "name": runs.name, "digest": runs.digest, "seeds": runs.seeds,
    "values": runs.values, "of": champion["j"] if champion else None,
  }  # fmt: skip


def needs_fresh(winner: Entry) -> str:
  seeds = ", ".join(map(str, winner["seeds"]))
  return (
    f"train proposal {winner['j']} ({winner['name']!r}), which was kept and is what later ones must"
    f" beat, from fresh seeds ({FRESH} are recommended; none of {seeds}) and give these runs as the"
    " baseline"
  )


def _grown(session: Session, before: Entry, runs: Runs) -> None:
  changed = _changed(before, runs)
  if session.judged:
    what = f"seed={changed[0]} {changed[1]}" if changed else "it has more seeds"
    raise UserError(
      f"baseline {runs.name!r} is not the one in the ledger ({what}), against which"
      f" {counted(session.judged, 'judgement')} {'was' if session.judged == 1 else 'were'} made; it"
      " stays until a proposal is kept: give those runs, or start a new session in another file"
    )
  if changed:
    raise UserError(
      f"baseline seed={changed[0]} {changed[1]}; a baseline may grow before the first proposal, but"
      " what it had stays"
    )


def _changed(before: Entry, runs: Runs) -> tuple[int, str] | None:
  """The first seed of an entry that the runs lack or have another value of, and how."""
  now = runs.of_seed
  for seed, value in zip(before["seeds"], before["values"], strict=True):
    if seed not in now:
      return seed, f"of the ledger ({_value(value)}) is not given"
    if now[seed] != value:
      return seed, f"is {_value(now[seed])}, and {_value(value)} in the ledger"
  return None


def _value(value: float | str | None) -> str:
  return "missing" if value is None else str(value)


def _large_enough(session: Session, runs: Runs) -> None:
  missing = [seed for seed, value in runs.of_seed.items() if value is None]
  if missing:
    raise UserError(
      f"baseline seed={missing[0]} is missing; it might have been better than any candidate: train"
      " it"
    )
  sound = sum(isinstance(value, float) for value in runs.values)
  floor, n = session.floor, len(runs.seeds)
  if sound < (2 if not floor or floor.df == 0 else 1):
    raise UserError(f"baseline {runs.name!r} has {counted(sound, 'run')} that did not diverge, too"
                    " few; train more seeds")  # fmt: skip
  if floor:
    return
  if n > proposals.LARGEST_BASELINE:
    raise UserError(
      f"baseline of {n:,} runs: the exact rank test takes at most"
      f" {proposals.LARGEST_BASELINE:,}; give that many, chosen before looking at their values"
    )
  level = proposals.level(1, session.opening["proposals"])
  if proposals.smallest_p(MOST, n) > level:
    enough = next(m for m in range(n, 1000) if proposals.smallest_p(MOST, m) <= level)
    raise UserError(
      f"baseline of {counted(n, 'run')}: not even {MOST} seeds that win every comparison would be"
      f" kept at level {level:.2g}; train at least {enough}, better {FRESH}, or say what is known"
      " of the spread (sigma or floor)"
    )


def recorded(session: Session, runs: Runs) -> Entry | None:
  """The last entry of this proposal if it was given just so; a repeated question."""
  before = session.last.get((runs.name, runs.digest))
  same = before and (before["seeds"], before["values"]) == (runs.seeds, runs.values)
  return before if same else None


def proposal(session: Session, runs: Runs) -> Entry:
  """The entry of the next judgement of a proposal that is not `recorded`.

  No runs at all: every one diverged. Raises UserError for a proposal that may not be judged: too
  few or too many seeds, values that changed, one that was decided, none left to make, no baseline.
  """
  n = len(runs.seeds)
  before = session.last.get((runs.name, runs.digest))
  if before and before["decision"] != "promising":
    raise UserError(
      f"{runs.name!r} was judged as proposal {before['j']} and {before['decision']}; each is"
      " decided once: a changed candidate takes a name (or digest) of its own"
    )
  changed = _changed(before, runs) if before else None
  if changed:
    raise UserError(
      f"{runs.name!r} seed={changed[0]} {changed[1]}; further seeds are added to those that were"
      " judged"
    )
  if session.winner:
    raise UserError(needs_fresh(session.winner))
  if n and not SCREEN <= n <= MOST:
    raise UserError(
      f"{runs.name!r} has {counted(n, 'seed')}: a proposal is looked at with {SCREEN} first, and"
      f" judged with at most {MOST}; which ones is decided before looking at their values"
    )
  return _judged(session, runs, before)


def _judged(session: Session, runs: Runs, before: Entry | None) -> Entry:
  level = before["level"] if before else session.next_level
  if level <= 0:
    raise UserError(
      f"proposals={session.opening['proposals']:,} were declared and made: with mode=fdr none is"
      " left; start a new session in another file, with the number that may come"
    )
  sign = 1 if session.opening["better"] == "higher" else -1
  first = before["seeds"] if before else runs.seeds[:SCREEN]
  values = runs.of_seed
  against = session.baseline or {}
  candidate = turned([values[seed] for seed in runs.seeds], sign)
  baseline_S = turned(against["values"], sign)
  h = proposals.grid(candidate, baseline_S)
  screened = turned([values[seed] for seed in first], sign)
  sound_S = baseline_S[np.isfinite(baseline_S)]
  found, decision = None, "dropped"
  if runs.seeds and (before or proposals.passes(screened, sound_S, session.floor, h)):
    decision = "promising"
    if len(runs.seeds) > SCREEN:
      found = proposals.evidence(candidate, baseline_S, session.floor, h)
      decision = "kept" if found.kept(level) else "dropped"
  return {
    "kind": "proposal", "j": before["j"] if before else session.made + 1, "name": runs.name,
    "digest": runs.digest, "level": level, "seeds": runs.seeds, "values": runs.values,
    "against": against["name"], "stage": 2 if found else 1, "step": h,
    "p_rank": found.rank if found else None, "p_mean": found.mean if found else None,
    "decision": decision,
  }  # fmt: skip


def turned(values: Sequence[float | str | None], sign: int) -> np.ndarray:
  """Values as a ledger holds them, so that higher is better; lost and missing ones -inf."""
  return np.array([sign * v if isinstance(v, float) else -math.inf for v in values])


@dataclasses.dataclass(frozen=True)
class Prospect:
  """What the next proposal can expect of the baseline it would be judged against."""

  baseline: int  # runs
  level: float
  found: float  # chance that a gain of GAIN sds is kept with MOST seeds
  enough: int | None  # baseline runs for 80 %; None if no number of them is enough


def prospect(session: Session) -> Prospect | None:
  """None while there is no baseline, and where no proposal is left."""
  level = session.next_level
  if not session.baseline or session.winner or not level:
    return None
  n = len(session.baseline["seeds"])
  df = session.floor.df if session.floor else None
  return Prospect(
    n,
    level,
    proposals.power(n, GAIN, level, df),
    proposals.fewest_baseline(GAIN, level, df),
  )
