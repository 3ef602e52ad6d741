"""What a study is: sweeps, claims fixed before training, and what the runs say about them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from seedlab.config import Config

if TYPE_CHECKING:  # configs read a study's settings, and need none of what a page takes
  import xarray

  from seedlab import report
  from seedlab.claims import Claim, Evidence


class Sweep(NamedTuple):
  """One sweep of a study; its store is the directory `name` below the study's."""

  name: str
  config: Config | None  # None: `trainer` says what is trained
  runs: range  # of a crossed design all there are
  lanes: str = "auto"
  width: int | None = None  # of lanes, where that is not left to the rule
  teacher: str = ""  # name of an earlier sweep, whose first run is `training.teacher`
  start: tuple[str, int] | None = None  # earlier sweep and its run: `model.initial`
  fresh: tuple[str, ...] = ()  # `model.fresh` of `start`
  trainer: tuple[str, dict[str, Any]] | None = None  # "module:function" and its arguments
  seeds: Mapping[str, Any] | None = None  # of `trainer`, as in {"vary": ["order"]}
  # Argument of `trainer` -> earlier sweep, the parameters of whose first run become that file;
  # a study begins by building every Trainer once, without such files
  files: Mapping[str, str] = {}


class Analysis(NamedTuple):
  """What the finished sweeps say."""

  headline: str
  lead: Sequence[str]
  evidence: Mapping[str, Callable[[float], Sequence[Evidence]]]  # claim id -> of a level
  preconditions: Mapping[str, bool]
  tables: Sequence[report.Table]
  figures: Mapping[str, tuple[Any, str, str]]  # as `report.study_page` takes them


class Study(NamedTuple):
  title: str
  claims: Callable[[str], Sequence[Claim]]  # of a scale
  sweeps: Callable[[str, str | None], Sequence[Sweep]]  # of a scale and data_dir
  analyse: Callable[[Mapping[str, xarray.Dataset], str], Analysis]  # by name of the sweep


def in_folder(package: str, title: str) -> Study:
  """The study whose package has the functions claims.make, sweeps.make and analysis.analyse.

  Their modules are imported when they are called, so that a config file, which reads the settings
  alone, waits for none of them.
  """

  def of(module: str, function: str) -> Callable:
    def call(*arguments):
      return getattr(importlib.import_module(f"{package}.{module}"), function)(*arguments)

    return call

  return Study(title, of("claims", "make"), of("sweeps", "make"), of("analysis", "analyse"))
