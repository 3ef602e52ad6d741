"""Made-up stores of a study's sweeps: what `records.open` gives of each, with few runs."""

import collections
import fractions
import itertools
from collections.abc import Sequence

import numpy as np
import xarray
from xarray.backends import BackendArray
from xarray.core import indexing

from seedlab import claims, config
from seedlab.config import STREAMS, Config
from seedlab.studies.study import Study, Sweep
from seedlab.trainer import Metric
from seedlab.training import evaluation

RUNS = 12  # at most of a sweep that is not crossed
# By which the levels of a crossed design are divided; what is left are at least two.
_FEWER = {"smoke": 1, "laptop": 4, "paper": 8}
_ROWS = ("movielens/100k-ratings", "clicks", "criteo")  # data of rows, with two classes
_EXAMPLES, _CLASSES, _POINTS = 40, 10, 5


def stores(study: Study, scale: str, planned: Sequence[Sweep]) -> dict[str, xarray.Dataset]:
  """A finished store for every sweep, by name."""
  made = claims.record(study.claims(scale))
  rng = np.random.default_rng(0)
  return {one.name: store(one, scale, made, rng) for one in planned}


class _Counted(BackendArray):
  """An array that is read from a file, and how much of it was, in whole arrays."""

  def __init__(self, values: np.ndarray, name: str, reads: collections.Counter):
    self.shape, self.dtype = values.shape, values.dtype
    self._values, self._name, self._reads = values, name, reads

  def __getitem__(self, key):
    support = indexing.IndexingSupport.OUTER
    return indexing.explicit_indexing_adapter(key, self.shape, support, self._read)

  def _read(self, key: tuple) -> np.ndarray:
    found = self._values
    for axis, chosen in reversed(list(enumerate(key))):
      found = found[(slice(None),) * axis + (chosen,)]
    self._reads[self._name] += fractions.Fraction(np.size(found), self._values.size)
    return found


def in_files(dataset: xarray.Dataset, name: str, reads: collections.Counter) -> xarray.Dataset:
  """The same with predictions that every question reads anew, as those of a store on disk.

  `reads` counts them: "NAME: variable" -> how often the whole of it was read.
  """
  for variable in {"predicted_label", "probability"} & set(dataset):
    values = _Counted(dataset[variable].values, f"{name}: {variable}", reads)
    lazy = indexing.LazilyIndexedArray(values)
    dataset = dataset.assign({variable: (dataset[variable].dims, lazy)})
  return dataset


def store(one: Sweep, scale: str, made: Sequence[dict], rng: np.random.Generator) -> xarray.Dataset:
  """Variables, dimensions, coordinates and attributes of a store of this sweep, and random values.

  Runs are fewer than planned: of a crossed design all combinations of fewer levels.
  """
  seeds = _seeds(one, scale)
  runs = len(seeds["init"])
  steps = np.array([10, 20, 30, 40])
  kept = _twins(rng, runs) if one.trainer else _outcomes(one.config, rng, runs, len(steps))
  names = [name for name, (dims, _) in kept.items() if "example" not in dims]
  meanings = _meanings(one, kept)
  kept |= {
    "completed": ("run", np.ones(runs, bool)),
    "diverged": ("run", np.full(runs, -1)),
    "digest": ("run", np.full(runs, b"0" * 64)),
    "fingerprint": ("run", np.zeros(runs, np.int32)),
    "seconds": ("run", np.ones(runs, np.float32)),
  }
  coords = {"run": np.arange(runs), "evaluation": steps}
  coords |= {f"seed_{stream}": ("run", seed_R) for stream, seed_R in seeds.items()}
  if one.config:
    coords["label"] = ("example", _labels(one.config))
  seeding = one.config.seeds if one.config else config.Seeds()
  function, arguments = one.trainer or (None, None)
  attributes = {
    "seedlab_version": "0", "created": "2026-01-01T00:00:00+00:00", "git_commit": None,
    "fingerprints": [{"jax": "0", "data": "same", "device": {"kind": "cpu"}}],
    "config": one.config and config.to_dict(one.config),
    "trainer": function and {"function": function, "arguments": arguments},
    "evaluation_digest": "same", "vary": list(seeding.vary), "design": seeding.design,
    "planned_n": runs, "stop": None, "claims": list(made), "metrics": sorted(names),
    "meanings": meanings,
  }  # fmt: skip
  return xarray.Dataset(kept, coords, attributes)


def _meanings(one: Sweep, kept: dict) -> dict[str, dict[str, str | None]]:
  """Better direction and unit of each outcome."""
  metrics = {"test_accuracy": Metric(better="higher")}
  if one.config:
    rows = one.config.data.name in _ROWS
    metrics = evaluation.metrics(one.config.evaluation, {}, rows, one.config.evaluation.lists > 0)
  meant = {name: metrics.get(name, Metric()) for name in kept}
  return {name: {"better": each.better, "unit": each.unit} for name, each in meant.items()}


def _seeds(one: Sweep, scale: str) -> dict[str, np.ndarray]:
  """uint32[R] of each stream."""
  seeding = one.config.seeds if one.config else config.Seeds()
  if seeding.design == "crossed":
    levels = [min(n, max(2, n // _FEWER[scale])) for n in seeding.levels]
    columns = zip(*itertools.product(*map(range, levels)), strict=True)
    varied = dict(zip(seeding.vary, columns, strict=True))
  else:
    varied = dict.fromkeys(seeding.vary, range(min(len(one.runs), RUNS)))
  runs = len(next(iter(varied.values())))
  return {s: np.array(varied.get(s, [seeding.fixed] * runs), np.uint32) for s in STREAMS}


def _labels(settings: Config) -> np.ndarray:
  return np.arange(_EXAMPLES, dtype=np.int32) % _count(settings)


def _count(settings: Config) -> int:
  """How many classes there are."""
  return 2 if settings.data.name in (*_ROWS, "gaussians") else _CLASSES


def _outcomes(settings: Config, rng: np.random.Generator, R: int, T: int) -> dict:
  """What a training with this section `evaluation` reports: name -> (dimensions, values)."""
  kept, shown, rows = {}, settings.evaluation, settings.data.name in _ROWS
  label_E, K = _labels(settings), _count(settings)
  for part in ("test", "train") if shown.train else ("test",):
    for name in ("accuracy", "loss", "soft_error"):
      kept[f"{part}_{name}"] = (("run", "evaluation"), _near(rng, 0.7, R, T))
  if rows:
    kept["test_auc"] = (("run", "evaluation"), _near(rng, 0.7, R, T))
  wrong = rng.uniform(size=(R, _EXAMPLES)) < 0.3
  predicted = np.where(wrong, (label_E + 1) % K, label_E).astype(np.uint8)
  kept["predicted_label"] = (("run", "example"), predicted)
  if shown.gradient_norm:
    kept["block_gradient_norm"] = (("run", "evaluation"), _near(rng, 1.0, R, T))
  if shown.trajectory or shown.probabilities:
    shape = (R, *(T,) * shown.trajectory, _EXAMPLES, K)
    p = rng.uniform(0.2, 1, shape).astype(np.float32)
    p /= p.sum(-1, keepdims=True)
    dims = ("run", *("evaluation",) * shown.trajectory, "example", *("class",) * (not rows))
    kept["probability"] = (dims, p[..., 1] if rows else p)
  if shown.lists:
    lists = rng.permuted(np.tile(np.arange(20, dtype=np.int32), (R, 3, 1)), axis=2)[..., :10]
    kept["best_films"] = (("run", "user", "place"), lists)
  if shown.slices:
    for name in ("slice_loss", "slice_slope", "slice_jump"):
      kept[name] = (("run", "point"), _near(rng, 1.0, R, _POINTS))
  return kept


def _twins(rng: np.random.Generator, R: int) -> dict:
  """What `studies.twins` reports."""
  names = ("test_accuracy", "barrier", "disagreement", "distance", "relative_distance")
  kept = {name: (("run", "evaluation"), _near(rng, 0.3, R, 4)) for name in names}
  return kept | {"error_path": (("run", "point"), _near(rng, 0.3, R, _POINTS))}


def _near(rng: np.random.Generator, middle: float, *shape: int) -> np.ndarray:
  return (middle + 0.01 * rng.normal(size=shape)).astype(np.float32)
