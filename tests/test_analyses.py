"""Every study at every scale: its sweeps, and its whole analysis on made-up stores of them."""

import collections
import subprocess
import sys

import made_up
import numpy as np
import pytest

from seedlab import config, records, studies, sweeps
from seedlab.pool import local_pool
from seedlab.studies import runner, study


@pytest.mark.parametrize(
  "scale, given",
  [("smoke", True), ("smoke", False), ("laptop", True), ("laptop", False), ("paper", True)],
)  # at scale paper missing data are fetched
# Those whose sweeps are of recipes have made-up stores of their own, in their own tests.
@pytest.mark.parametrize("name", sorted({*studies.names()} - {"diffusion", "language"}))
def test_a_study_says_something_at_every_scale(name, scale, given, tmp_path, monkeypatch):
  if given:
    monkeypatch.setattr(f"seedlab.studies.{name}.sweeps.at_hand", lambda *_: True)
  else:
    monkeypatch.setenv("SEEDLAB_DATA", "")
    monkeypatch.setenv("HOME", "/nowhere")
  one = studies.load(name)
  planned = one.sweeps(scale, None)
  assert len({sweep.name for sweep in planned}) == len(planned) > 0
  reads = collections.Counter()
  datasets = {
    name: made_up.in_files(made, name, reads)
    for name, made in made_up.stores(one, scale, planned).items()
  }
  result = runner.conclude(one, scale, datasets, tmp_path / "page.html")
  assert reads and set(reads.values()) == {1}, reads.most_common(3)
  assert [verdict.claim for verdict in result.verdicts] == list(one.claims(scale))
  if scale == "smoke":
    assert {verdict.reason for verdict in result.verdicts} == {"smoke scale judges nothing"}
  assert one.title in result.page.read_text() and "changed since" not in result.text


_FOLDER = {
  "__init__": """
from seedlab.studies.study import in_folder
STUDY = in_folder(__name__, "Does it train?")
""",
  "claims": """
from seedlab.claims import Claim, Part
def make(scale):
  return [Claim("T1", "it does", (Part("accuracy", "lo > x", (0.5,)),))]
""",
  "sweeps": """
from seedlab.config import parse
from seedlab.studies.study import Sweep
def make(scale, data_dir):
  return [Sweep("a", parse({}), range(3))]
""",
  "analysis": """
from seedlab.stats.single import mean_interval
from seedlab.studies.study import Analysis
def analyse(datasets, scale):
  last = datasets["a"]["test_accuracy"].values[:, -1]
  return Analysis("It trains.", [], {"T1": lambda level: [mean_interval(last, level)]}, {}, [], {})
""",
}


def test_a_new_folder_is_a_new_study(tmp_path, monkeypatch):
  (tmp_path / "mine").mkdir()
  for name, text in _FOLDER.items():
    (tmp_path / f"mine/{name}.py").write_text(text)
  monkeypatch.setattr(studies, "__path__", [*studies.__path__, str(tmp_path)])
  assert studies.names() == [
    "bootstrap", "diffusion", "fullbatch", "language", "mine", "seeds", "smooth",
  ]  # fmt: skip
  one = studies.load("mine")
  datasets = made_up.stores(one, "laptop", one.sweeps("laptop", None))
  result = runner.conclude(one, "laptop", datasets, tmp_path / "page.html")
  assert result.verdicts[0].outcome == "shown" and "Does it train?" in result.page.read_text()


def test_studies_are_listed_without_being_imported():
  script = "from seedlab import studies; studies.names(); import sys; print(*sys.modules)"
  done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
  assert not {"jax", "scipy", "bokeh", "seedlab.studies.seeds"} & set(done.stdout.split())
  assert "seedlab.studies" in done.stdout.split()


def test_made_up_stores_are_like_real_ones(tmp_path):
  """Variables with their dimensions and types, coordinates, and the attributes read by a study."""
  settings = config.parse(
    {
      "data": {"name": "digits", "train_examples": 40, "test_examples": 40},
      "model": {"name": "mlp", "width": 2, "depth": 1},
      "training": {"batch_size": 20, "epochs": 4},
      "evaluation": {"train": True, "gradient_norm": True, "trajectory": True, "slices": 5},
    }
  )
  one = study.Sweep("a", settings, range(2))
  whole = study.Study("a study", lambda scale: [], lambda *_: [one], None)
  made = made_up.stores(whole, "laptop", [one])["a"]
  with local_pool(1) as pool:
    plans = {"planned_n": 2, "claims": []}
    sweeps.sweep(
      settings, runs=range(2), out=tmp_path, executor=pool, workers=1, quiet=True, **plans
    )
  seals_of = ["run_digest", "checksum", "failed"]  # which no study reads
  real = records.open(tmp_path, verify=True).drop_vars(seals_of)
  assert {k: v.dims for k, v in made.variables.items()} == {
    k: v.dims for k, v in real.variables.items()
  }
  assert {k: v.dtype for k, v in made.variables.items()} == {
    k: v.dtype for k, v in real.variables.items()
  }
  assert made.sizes["evaluation"] == real.sizes["evaluation"]
  for name in set(made.attrs) - {"trainer"}:
    assert isinstance(made.attrs[name], type(real.attrs[name])) or made.attrs[name] is None, name
  assert made.attrs["metrics"] == sorted(real.attrs["metrics"])
  assert made.attrs["meanings"] == real.attrs["meanings"]
  assert np.array_equal(made["seed_init"], real["seed_init"])
