"""Runs a study: its sweeps into one directory, then its claims, tables and page.

The claims go into every store before its first run, with the number of runs at which
they are judged. Everything resumes: the same call again trains what is missing.
"""

import itertools
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import xarray

from seedlab import (
  claims,
  decoding,
  experiment,
  findings,
  records,
  replaying,
  report,
  sweeps,
)
from seedlab.changes import changed
from seedlab.claims import Claim, Verdict
from seedlab.errors import UserError, counted
from seedlab.pool import local_pool
from seedlab.progress import Progress, say
from seedlab.studies.study import Study, Sweep

_MARK = "study.json"  # says whose directory it is
_TEACHERS_SHARE = 0.5  # of the labels


class Result(NamedTuple):
  verdicts: list[Verdict]
  text: str
  page: pathlib.Path


def run(
  study: Study,
  scale: str,
  out: str | os.PathLike,
  *,
  data_dir: str | None = None,
  workers: int | None = None,
  quiet: bool = False,
) -> Result:
  """Trains what is missing, judges the claims and writes OUT/report.html.

  Raises:
    UserError: input that cannot be right; what is on disk stays as it was.
  """
  try:
    return _run(study, scale, pathlib.Path(out), data_dir, workers, quiet)
  except KeyboardInterrupt:
    say(quiet, f"stopped; the same command goes on from {out}")
    raise


def _run(study: Study, scale: str, out: pathlib.Path, data_dir, workers, quiet) -> Result:
  if data_dir and not os.path.isdir(data_dir):
    raise UserError(f"data_dir={data_dir!r} is not a directory; name that of the data sets")
  _mark(study, scale, out)
  made = list(study.claims(scale))
  planned = list(study.sweeps(scale, data_dir))
  _nothing_left_out(planned, out)
  total = sum(len(one.runs) for one in planned)
  with local_pool(workers) as pool, Progress(total, quiet) as progress:
    for one in planned:  # a mistake in the last sweep is found before the first one trains
      experiment.check(experiment.experiment(**_what(one, data_dir)), pool)
    for one, following in itertools.pairwise([*planned, None]):
      if following and not _waits(following):
        _prepare(following, out, data_dir, pool)
      if _waits(one):
        one = _from_earlier(one, out, data_dir)
      sweeps.sweep(
        runs=None if _crossed(one) else one.runs,
        out=out / one.name,
        **_what(one, data_dir),
        lanes=_lanes(one),
        width=one.width,
        executor=pool,
        workers=workers,
        planned_n=len(one.runs),
        claims=claims.record(made),
        progress=progress,
        quiet=True,
      )
  datasets = {one.name: records.open(out / one.name, verify=True) for one in planned}
  return conclude(study, scale, datasets, out / "report.html")


def conclude(
  study: Study, scale: str, datasets: Mapping[str, xarray.Dataset], page: pathlib.Path
) -> Result:
  """Judges the claims by the finished sweeps and writes the page.

  Args:
    datasets: name of a sweep -> its store, as `records.open` gives it.
    page: the file to write.
  """
  made = list(study.claims(scale))
  found = study.analyse(datasets, scale)
  if scale == "smoke":
    found = found._replace(headline="Smoke scale: everything ran, and nothing is judged.")
  found = found._replace(lead=[*found.lead, *_failures(datasets)])
  verdicts = claims.judge_family(made, found.evidence, found.preconditions, scale)
  edited = _rules_changed(datasets, made)
  shown = report.study_page(
    study.title,
    found.headline,
    found.lead,
    verdicts,
    edited,
    found.tables,
    found.figures,
    _origin(datasets),
  )
  text = "\n".join(
    [found.headline, *found.lead, "", report.study_text(verdicts, edited, found.tables)]
  )
  return Result(verdicts, text, report.write(shown, page))


def _failures(datasets: Mapping[str, xarray.Dataset]) -> list[str]:
  """A sentence for each sweep in which runs failed."""
  failed = {name: findings.failures(dataset) for name, dataset in datasets.items()}
  return [
    f"{name}. {report.failures_told(runs, datasets[name].sizes['run'])}"
    for name, runs in failed.items()
    if runs
  ]


def _nothing_left_out(planned: Sequence[Sweep], out: pathlib.Path) -> None:
  """Refuses to write a page without sweeps that are there already."""
  kept = [*out.glob("*/.zmetadata"), *out.glob("*/*/.zmetadata")]
  names = {file.parent.relative_to(out).as_posix() for file in kept}
  left = sorted(names - {one.name for one in planned})
  if left:
    listed = ", ".join(left[:4]) + f" and {len(left) - 4} more" * (len(left) > 4)
    raise UserError(
      f"out={os.fspath(out)!r} holds {listed}, whose data are not at hand now; name their directory"
      " (--data_dir or SEEDLAB_DATA), or take another --out"
    )


def _origin(datasets: Mapping[str, xarray.Dataset]) -> str:
  """Runs, time, versions and devices in a sentence."""
  kept = [one.attrs for one in datasets.values()]
  fingerprints = [print_ for attributes in kept for print_ in attributes["fingerprints"]]

  def all_of(values):
    return ", ".join(sorted({str(value) for value in values}))

  runs = sum(one.sizes["run"] for one in datasets.values())
  begun = min(attributes["created"] for attributes in kept)
  commits = all_of((a["git_commit"] or "no commit")[:12] for a in kept)
  devices = all_of(f["device"].get("model_name", f["device"]["kind"]) for f in fingerprints)
  return (
    f"{counted(runs, 'run')} in {counted(len(datasets), 'sweep')}, begun"
    f" {begun[:16].replace('T', ' ')} UTC; seedlab"
    f" {all_of(a['seedlab_version'] for a in kept)} ({commits}), jax"
    f" {all_of(f['jax'] for f in fingerprints)}, on {devices}. Each sweep's directory says more"
    " (seedlab report) and repeats any run (seedlab replay)."
  )


def _what(one: Sweep, data_dir: str | None) -> dict[str, Any]:
  """The experiment of a sweep, as `experiment.experiment` and `sweeps.sweep` take it."""
  if one.config:
    return {"what": one.config, "data_dir": data_dir}
  function, arguments = one.trainer
  return {"what": function, "arguments": arguments, "seeds": one.seeds, "data_dir": data_dir}


def _waits(one: Sweep) -> bool:
  """Whether a sweep needs the parameters of an earlier one."""
  return bool(one.teacher or one.start or one.files)


def _crossed(one: Sweep) -> bool:
  """Whether a sweep has a run for every combination of levels."""
  if one.config:
    return one.config.seeds.design == "crossed"
  return (one.seeds or {}).get("design") == "crossed"


def _lanes(one: Sweep) -> str:
  return "vmap" if one.width else one.lanes


def _prepare(one: Sweep, out: pathlib.Path, data_dir: str | None, pool) -> None:
  """A program compiles on one core; that of the next sweep may as well use another meanwhile."""
  if not records.exists(out / one.name):
    coming = experiment.experiment(**_what(one, data_dir))
    experiment.prepare(coming, pool, _lanes(one), one.width)


def _from_earlier(one: Sweep, out: pathlib.Path, data_dir: str | None) -> Sweep:
  """A sweep that needs the parameters of earlier ones' runs, with the files that they are in."""
  if one.trainer:
    function, arguments = one.trainer
    files = {name: _saved(source, None, out, data_dir) for name, source in one.files.items()}
    return one._replace(trainer=(function, {**arguments, **files}))
  if one.start:
    file = _saved(*one.start, out, data_dir)
    fields = {"model.initial": file, "model.fresh": one.fresh}
  else:
    file = _saved(one.teacher, None, out, data_dir)
    fields = {"training.teacher": file, "training.distillation": _TEACHERS_SHARE}
  return one._replace(config=changed(one.config, fields))


def _saved(name: str, run: int | None, out: pathlib.Path, data_dir: str | None) -> str:
  """A file with the parameters of a run (None: the first), which is trained again for them."""
  source = out / name
  run = int(records.open(source)["run"][0]) if run is None else run
  file = (out / "parameters" / f"{name.replace('/', '-')}-{run}.safetensors").absolute()
  if not file.exists():
    file.parent.mkdir(exist_ok=True)
    replayed = replaying.replay(source, run, data_dir=data_dir)
    if not replayed.passed:
      raise UserError(f"later sweeps start from run {run} of {source}: {replayed.verdict(source)}")
    records.save_params(file, replayed.params)
  return str(file)


def _mark(study: Study, scale: str, out: pathlib.Path) -> None:
  """Writes OUT/study.json; refuses a directory that is anything but this study's."""
  mark = {"study": study.title, "scale": scale}
  try:
    found = decoding.parse((out / _MARK).read_text()) if (out / _MARK).exists() else None
    if found is None and out.exists() and any(out.iterdir()):
      raise UserError(f"out={os.fspath(out)!r} is not empty and holds no study; choose another")
    if found not in (None, mark):
      other = ", ".join(map(str, found.values() if isinstance(found, dict) else [found]))
      raise UserError(
        f"out={os.fspath(out)!r} is of another study or scale ({other}); choose another directory"
      )
    out.mkdir(parents=True, exist_ok=True)
    (out / _MARK).write_text(json.dumps(mark) + "\n")
  except (OSError, ValueError) as error:
    if isinstance(error, UserError):
      raise
    raise UserError(f"out={os.fspath(out)!r} cannot be used ({error}); choose another") from None


def _rules_changed(datasets: Mapping[str, xarray.Dataset], made: Sequence[Claim]) -> dict[str, str]:
  """Claim id -> what changed since the first of the sweeps began to train."""
  found: dict[str, str] = {}
  for dataset in datasets.values():
    found |= claims.changes(dataset.attrs["claims"], made)
  return found
