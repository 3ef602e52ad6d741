"""The parts of `seedlab accelerator` that train whole runs, in workers as a sweep has them.

Their own processes start no JAX.
"""

import functools
import pathlib
import time
from typing import Any

import numpy as np

import seedlab
from seedlab import config, designs, engine, errors, experiment, host, records, replaying
from seedlab.commands import accelerator_parts as parts
from seedlab.commands import bench_tasks
from seedlab.commands.accelerator_cases import SMALL, Case, gib, trainer
from seedlab.commands.accelerator_parts import Place, TimeUp, left, noted, record, row_of
from seedlab.errors import UserError
from seedlab.pool import WorkerPool
from seedlab.studies.seeds import settings

# Whose text could not be opened: mean and standard deviation are not verified.
_PUBLISHED = "90.02 +- 0.23 (10,000 seeds; unverified)"
_COMPANY = 5  # runs, in lanes of four: one group is full, the other holds copies of its only run
_WIDTH = 4
_SECOND = "in a second process"

_DIGITS = [
  Case("digits_mlp", "native", "float32", "vmap", _WIDTH),
  Case("digits", "patches", "float32", "vmap", _WIDTH),
  Case("digits", "native", "float32", "vmap", _WIDTH),
  Case("digits", "native", "bfloat16", "vmap", _WIDTH),
  Case("digits", "native", "float32", "loop", 1),
  Case("digits_mlp", "native", "float32", "loop", 1),
  Case("digits", "patches", "bfloat16", "vmap", _WIDTH),
  Case("digits", "patches", "float32", "loop", 1),
  Case("digits_mlp", "native", "bfloat16", "vmap", _WIDTH),
  Case("digits", "native", "bfloat16", "loop", 1),
  Case("digits", "patches", "bfloat16", "loop", 1),
  Case("digits_mlp", "native", "bfloat16", "loop", 1),
]


def exactness(place: Place) -> None:
  """Is a run the same alone, in company, in segments, in a second process? Another width differs.

  No cache of compiled programs: the second process compiles each of them itself.
  """
  first: dict[Case, dict[str, Any]] = {}
  every, half = SMALL if place.small else _DIGITS, place.seconds / 2
  if place.platform != "cpu":  # where a run alone takes the library's own convolutions
    every = [
      case._replace(lowering="direct") if case.lowering == "native" else case for case in every
    ]
  cases = [case for case in every if _SECOND not in row_of(place, str(case))]
  with _worker(place) as pool:
    for case in cases:
      if first and left(place) < half:
        break
      with noted(place, str(case)):
        first[case] = pool.submit(train_again, *case, place.small, True).result()
        record(place, str(case), _row(first[case]))
    for name, action in (("sweep", _sweep_in_another_width), ("replay", _replay_in_another_width)):
      with noted(place, f"another width: {name}"):
        record(place, f"another width: {name}", action(place, pool))
  with _worker(place) as pool:
    for case, facts in first.items():
      with noted(place, str(case)):
        again = pool.submit(train_again, *case, place.small, False).result()
        facts[_SECOND] = again["digests"] == facts["digests"]
        changed = config.differences(facts["fingerprint"], again["fingerprint"])
        if changed:
          facts["note"] = f"the second process has another fingerprint: {errors.changes(changed)}"
        record(place, str(case), _row(facts))
  rows = parts.found(place)
  wrong = [name for name, row in rows.items() if "OTHER BITS" in row.values() or "wrong" in row]
  if wrong:
    raise UserError(f"bits differ that must not: {'; '.join(wrong)}; please report this as a bug")
  untried = [case for case in every if _SECOND not in row_of(place, str(case))]
  if untried:
    raise TimeUp(f"{len(untried)} of {len(every)} cases are left")


def train_again(network, lowering, precision, mode, width, small, thorough) -> dict[str, Any]:
  """In a worker: digests of a few runs, and whether company and segments change them."""
  case = Case(network, lowering, precision, mode, width)
  program = engine.build(trainer(case, small), mode, width)
  seeds = np.stack([designs.seeds_of_run(run, config.Seeds()) for run in range(_COMPANY)])
  together = engine.train(program, seeds)
  digests = [digest.decode() for digest in together.digest]
  facts: dict[str, Any] = {"digests": digests, "fingerprint": program.fingerprint}
  if thorough:
    alone = engine.train(program, seeds[3:4]).digest
    cut = engine.train(program, seeds[:4], longest=7).digest
    facts["alone"] = alone[0].decode() == digests[3]
    facts["in segments of 7 steps"] = [digest.decode() for digest in cut] == digests[:4]
    facts["ms a run"] = 1e3 * together.seconds / len(seeds)
  return facts


def _row(facts: dict[str, Any]) -> dict[str, Any]:
  """Of what `train_again` found, what a table shows, and the digests."""
  cells = {
    name: ("the same bits" if value else "OTHER BITS") if isinstance(value, bool) else value
    for name, value in facts.items()
    if name not in ("digests", "fingerprint")
  }
  return {**cells, "digest of run 0": facts["digests"][0][:16], "digests": facts["digests"]}


def _sweep_in_another_width(place: Place, pool: WorkerPool) -> dict[str, Any]:
  """A store that was made with one width is to refuse another one."""
  chosen = bench_tasks._config("digits_mlp", place.small)
  store = parts.folder(place) / "store"
  go_on = functools.partial(
    seedlab.sweep, chosen, out=store, lanes="vmap", executor=pool, checkpoint_every=0, quiet=True
  )
  go_on(_WIDTH, width=_WIDTH)
  try:
    go_on(2 * _WIDTH, width=2)
  except UserError as error:
    return {"note": f"refused: {str(error).replace(str(store), 'STORE')}"}
  return {"wrong": "it was not refused"}


def _replay_in_another_width(place: Place, pool: WorkerPool) -> dict[str, Any]:
  """What replay says of a run that another width repeats: never that it is exact."""
  case = _DIGITS[0]
  recorded, computed = (
    pool.submit(train_again, *case._replace(width=width), place.small, False).result()
    for width in (_WIDTH, 2)
  )
  changed = config.differences(recorded["fingerprint"], computed["fingerprint"])
  digests = recorded["digests"][0], computed["digests"][0]
  different = ["digest"] * (digests[0] != digests[1])
  found = replaying.Replay(0, *digests, changed, {}, None, different)
  verdict = found.verdict("STORE").splitlines()[0]
  fields = ", ".join(field for field, *_ in changed)
  row = {"note": f"another fingerprint (fields: {fields}); replay says: {verdict}"}
  return row if changed else {**row, "wrong": "the fingerprint is the same"}


def picard(place: Place) -> None:
  """As many runs of Picard's `short` as fit, group by group: what a stop leaves behind is whole."""
  chosen = settings.config("smoke" if place.small else "paper", "picard", "short")
  store = parts.folder(place) / "store"
  described = experiment.experiment(chosen, data_dir=place.data_dir)
  with _worker(place) as pool:
    before = len(_accuracies(store))
    lanes, width, seconds = _lanes_that_fit(place, described, pool, store)
    room = 0 if place.small else min(left(place) / 8, 30)
    runs = max(1, round(room / seconds / width)) * width  # of a group
    started, group = time.monotonic(), runs * seconds
    most = before + 2 * runs if place.small else 10_000
    done = before
    while done < most and (done == before or left(place) > 1.3 * group + 5):
      again = time.monotonic()
      done = min(most, done + runs)
      seedlab.sweep(
        chosen, done, store, data_dir=place.data_dir, lanes=lanes, width=width, executor=pool,
        planned_n=10_000, checkpoint_every=0, quiet=True,
      )  # fmt: skip
      group = max(group, time.monotonic() - again)
      record(place, "short", _spread(store, done - before, time.monotonic() - started))


def _lanes_that_fit(place, described, pool, store) -> tuple[str, int, float]:
  """Mode, width and seconds of a run: the store's, else `auto` if a group of it fits, else fewer.

  Neither memory nor time that one choice lacks shall be the end of the part.
  """
  choices: list[tuple[str, int | None]] = [("auto", None), ("vmap", 8), ("loop", 1)]
  if records.exists(store):
    known = records.manifest(store)["fingerprints"][0]
    choices = [(known["mode"], known["width"])]
  slow = 0.0  # seconds of a run in lanes of which a group takes too long
  for lanes, asked in choices:
    if slow * (asked or 1) > left(place) / 2:
      continue
    name = f"speed in lanes={lanes}" + f", width={asked}" * (lanes == "vmap")
    with noted(place, name):
      facts = experiment.describe(pool, described, lanes, asked, quiet=True)
      mode, width = facts["fingerprint"]["mode"], facts["fingerprint"]["width"]
      seconds = facts["seconds_per_run"]
      fits = seconds * width < left(place) / 2
      record(place, name, {
        "mode": mode, "width": width, "runs/h": 3600 / seconds, "GiB": gib(facts["costs"], width),
        "note": "" if fits else "a group of runs takes too long for this part",
        "fingerprint": facts["fingerprint"],
      })  # fmt: skip
      if fits:
        return mode, width, seconds
      slow = seconds
  raise UserError(
    "no run was trained: no choice of lanes leaves memory and time for a group; give more --minutes"
  )


def _accuracies(store: pathlib.Path) -> np.ndarray:
  """Test accuracy in % of the finished runs of a store; none where there is no store."""
  if not records.exists(store):
    return np.array([])
  dataset = seedlab.open(store)
  return 100 * dataset["test_accuracy"].values[dataset["completed"].values, -1]


def _spread(store: pathlib.Path, new: int, took: float) -> dict[str, Any]:
  """Of the runs of `picard`: how many an hour, `new` ones in `took` seconds, and their spread."""
  dataset = seedlab.open(store)
  accuracy = _accuracies(store)
  one = int(dataset["run"].values[min(1, len(accuracy) - 1)])
  return {
    "runs": len(accuracy),
    "mean %": float(accuracy.mean()),
    "sd": float(accuracy.std(ddof=1)) if len(accuracy) > 1 else None,
    "min": float(accuracy.min()),
    "max": float(accuracy.max()),
    "published mean +- sd": _PUBLISHED,
    "diverged": int((dataset["diverged"].values >= 0).sum()),
    "runs/h by the clock": 3600 * new / took,
    "runs/h while training": 3600 / float(np.nanmean(dataset["seconds"].values)),
    "accuracies": [round(float(value), 2) for value in accuracy],
    f"digest of run {one}": dataset["digest"].values[one].decode()[:16],
  }


def replay(place: Place) -> None:
  """One run of what `picard` left behind, trained again alone and in another process."""
  store = parts.folder(place).parent / "picard" / "store"
  if not records.exists(store):
    raise UserError("there is no run to repeat: the part picard has to come first")
  runs = seedlab.open(store)["run"].values
  run, started = int(runs[min(1, len(runs) - 1)]), time.monotonic()
  again = seedlab.replay(store, run, data_dir=place.data_dir)
  record(place, f"run {run} of picard", {
    "verdict": again.verdict("STORE").splitlines()[0], "recorded": again.recorded[:16],
    "computed": again.computed[:16], "s": time.monotonic() - started,
    "differences": {"fingerprint": again.changed, "outcomes": again.deviation},
  })  # fmt: skip
  if not again.exact:
    raise UserError(f"the replay of run {run} is not exact: {again.verdict('STORE')}")


def _worker(place: Place) -> WorkerPool:
  """One worker as a sweep on this machine has them, without asking once more what there is."""
  return WorkerPool([place.core], [host.accelerator_environment(place.platform, 0, place.devices)])
