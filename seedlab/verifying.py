"""Whether a store holds what its seeds compute, and a certificate of it that others can check.

Every digest is compared, then a drawn sample of the runs is trained again (`certificates`).
"""

import concurrent.futures
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from seedlab import certificates, errors, host, integrity, records, seals
from seedlab.errors import UserError
from seedlab.pool import WorkerPool, check_workers
from seedlab.progress import Progress, say

if TYPE_CHECKING:  # they bring JAX, without which digests are compared
  from seedlab.experiment import Experiment
  from seedlab.recipe import Recipe
  from seedlab.replaying import Replay

MADE_UP = 15  # percent of the runs; what the chance in a report is said for
_NO_DIGESTS = (
  "the store is of an earlier release, which wrote none: a changed number is noticed in the runs"
  " that are trained again, and in no other; train them into another directory for digests"
)


class Verification(NamedTuple):
  """What was found about a store."""

  directory: str
  sealed: bool  # whether the store has digests at all
  damage: list[integrity.Damage]
  runs: int = 0  # finished ones; 0 where the store is damaged
  left_out: int = 0  # those that are not finished, or failed
  root: str = ""
  seed: str = ""
  replays: "tuple[Replay, ...]" = ()  # of the runs that were drawn
  objections: tuple[str, ...] = ()  # to a certificate that was given
  certificate: dict[str, Any] | None = None  # only if all is well and the store has digests

  @property
  def passed(self) -> bool:
    """Whether every digest holds, every drawn run is exact and a given certificate is right."""
    return not (self.damage or self.objections) and all(one.exact for one in self.replays)

  def text(self) -> str:
    """The result in a few plain lines."""
    if self.damage:
      remedy = str(integrity.refusal(self.directory, self.damage)).rpartition("; ")[2]
      lines = [f"damaged     {one}: not what was written" for one in self.damage]
      return "\n".join([*lines, f"nothing was trained again; {remedy}"])
    lines = [f"digests     {errors.counted(self.runs, 'run')}: all as they were written"]
    if not self.sealed:
      lines = [f"digests     none: {_NO_DIGESTS}"]
    if self.left_out:
      lines.append(f"left out    {errors.counted(self.left_out, 'run')} not finished or failed")
    if self.sealed:
      lines.append(f"root        {self.root}")
    lines += [f"FORGED      the certificate: {one}" for one in self.objections]
    return "\n".join([*lines, *self._sample()])

  def _sample(self) -> list[str]:
    """What the drawn runs showed."""
    if not self.replays:
      return ["drawn       no run: digests show what was changed, not what was made up"]
    drawn = errors.counted(len(self.replays), "run")
    seed = "the root as seed" if self.seed == self.root else f"the seed {self.seed!r}"
    lines = [f"drawn       {drawn} of {self.runs:,} by {seed}, and trained again"]
    exact = [str(one.run) for one in self.replays if one.exact]
    if exact:
      lines.append(f"exact       {', '.join(exact)}")
    for one in self.replays:
      if not one.passed:
        lines.append(f"DIFFERENT   run {one.run}: {one.verdict(self.directory).partition(': ')[2]}")
    lines += self._incomparable()
    if len(exact) == len(self.replays):
      chance = 100 * certificates.chance_to_catch(self.runs, len(self.replays), MADE_UP)
      lines.append(
        f"If {MADE_UP} % of the {errors.counted(self.runs, 'run')} were made up, such a sample"
        f" would hold one of them with a probability of {chance:.3g} %."
      )
    return lines

  def _incomparable(self) -> list[str]:
    """The runs whose bits cannot be compared here, by what changed, and how far off they are."""
    groups: dict[str, list[Replay]] = {}
    for one in self.replays:
      if not one.exact and one.changed:
        groups.setdefault(errors.changes(one.changed), []).append(one)
    lines = []
    for changed, some in groups.items():
      most = max(max(one.deviation.values(), default=0.0) for one in some)
      lines.append(
        f"OPEN        {', '.join(str(one.run) for one in some)}: not comparable bit for bit, since"
        f" the fingerprint changed ({changed}); outcomes differ by {most:.3g} at most. Verify on"
        " the device and with the versions that are recorded"
      )
    return lines


def verify(
  directory: str | os.PathLike,
  sample: int = 20,
  *,
  seed: str | None = None,
  certificate: Mapping[str, Any] | None = None,
  workers: int | None = None,
  executor: concurrent.futures.Executor | None = None,
  trainer: Callable[..., Any] | None = None,
  recipe: "Recipe | Callable[..., Any] | None" = None,
  data_dir: str | None = None,
  trust_code: bool = False,
  quiet: bool = False,
) -> Verification:
  """Compares everything in a store with its digests, then trains a sample of its runs again.

  Args:
    sample: how many runs are drawn (`certificates.draw`); 0: digests only.
    seed: the text that draws; None: the root of the store's digests.
    certificate: one of this store (`certificates.read`), which is checked too.
    workers, executor: see `sweeps.sweep`.
    trainer, recipe, data_dir, trust_code: see `replaying.replay`.
    quiet: no progress on stderr.

  Raises:
    UserError: what is no store, code that it may not import; what changed meanwhile.
  """
  if errors.whole("sample", sample) < 0:
    raise UserError(f"sample={sample} must be 0 or more")
  check_workers(workers)
  if seed is not None:
    certificates.check_seed(seed)
  kept = records.manifest(directory)
  described = None
  if sample:
    from seedlab.experiment import recorded_experiment  # with JAX: see above

    described = recorded_experiment(kept, trainer or recipe, data_dir, directory, trust_code)
  say(quiet, f"reading {os.fspath(directory)} and comparing it with its digests")
  digests = _digests(directory, kept)
  found = Verification(os.fspath(directory), integrity.sealed(kept), records.damage(directory))
  if found.damage:
    return found
  if not digests:
    raise UserError(f"{os.fspath(directory)!r} has no finished run; run its sweep's command first")
  fields = _fields(directory, kept, digests, seed, sample)
  found = found._replace(
    runs=len(digests), left_out=fields["left_out"], root=fields["root"], seed=fields["seed"]
  )
  if certificate is not None:
    drawn = certificate["seed"], len(certificate["drawn"])
    expected = _fields(directory, kept, digests, *drawn)
    found = found._replace(objections=tuple(certificates.objections(certificate, expected)))
  if described and not found.objections:
    replays = _replayed(directory, kept, fields["drawn"], described, (workers, executor), quiet)
    found = found._replace(replays=tuple(replays))
  if not (found.passed and found.sealed):
    return found
  return found._replace(certificate=certificates.sealed({**fields, "date": host.now()}))


def _replayed(
  directory: str | os.PathLike,
  kept: Mapping[str, Any],
  runs: Sequence[int],
  described: "Experiment",
  workers: tuple[int | None, concurrent.futures.Executor | None],
  quiet: bool,
) -> "list[Replay]":
  """The drawn runs, trained again."""
  from seedlab import replaying  # with JAX: see above
  from seedlab.experiment import executor_of

  recorded = replaying.recorded_runs(directory, kept, runs)
  with executor_of(*workers) as (pool, _), Progress(len(recorded), quiet) as progress:
    if isinstance(pool, WorkerPool):
      pool.on_progress = progress.part
    return replaying.replay_all(recorded, described, pool, progress)


def digests(directory: str | os.PathLike) -> dict[int, str]:
  """run -> run_digest of every finished run, as `certificates` takes them; checks nothing."""
  kept = records.manifest(directory)
  if not integrity.sealed(kept):
    raise UserError(f"{os.fspath(directory)!r} has no digests: {_NO_DIGESTS}")
  return _digests(directory, kept)


def _digests(directory: str | os.PathLike, kept: Mapping[str, Any]) -> dict[int, str]:
  """run -> digest of the finished runs; of none where the arrays are damaged.

  Read before everything is checked: a sweep may be at work, and finish more runs meanwhile. A store
  without digests of its runs has those of their states.
  """
  with records.readable(directory):
    group = integrity.committed(pathlib.Path(directory))
    names = "run", "completed", seals.DIGEST if integrity.sealed(kept) else "digest"
    runs, completed, column = (integrity.values_of(group, name) for name in names)
  if runs is None or completed is None or column is None:
    return {}
  finished = completed.view(np.uint8) == 1
  found = zip(runs[finished].tolist(), column[finished].tolist(), strict=True)
  return {run: value.decode("latin-1") for run, value in found}


def _fields(
  directory: str | os.PathLike,
  kept: Mapping[str, Any],
  digests: Mapping[int, str],
  seed: str | None,
  sample: int,
) -> dict[str, Any]:
  """Every field of a certificate that can be computed from the store."""
  metadata = integrity.metadata(pathlib.Path(directory))
  if records.manifest(directory) != kept:
    raise UserError(f"{os.fspath(directory)!r} changed meanwhile; verify it when its sweep ended")
  return {
    **certificates.of_digests(digests, seed, sample),
    "left_out": metadata["run/.zarray"]["shape"][0] - len(digests),
    "manifest_sha256": seals.digest(metadata),
    "fingerprints": [seals.digest(one) for one in kept["fingerprints"]],
    "devices": sorted({_device(one) for one in kept["fingerprints"]}),
    "seedlab_version": kept["seedlab_version"],
  }


def _device(fingerprint: Mapping[str, Any]) -> str:
  """What a fingerprint says of its device: of a processor its model, where the system tells it."""
  device = fingerprint.get("device") or {}
  return str(device.get("model_name") or device.get("kind"))
