"""Every study at every scale: its sweeps, and its whole analysis on made-up stores of them."""

import made_up
import numpy as np
import pytest

from seedlab import config, records, studies, sweeps
from seedlab.studies import runner, study


@pytest.mark.parametrize(
  "scale, given",
  [("smoke", True), ("smoke", False), ("laptop", True), ("laptop", False), ("paper", True)],
)  # at scale paper missing data are fetched
@pytest.mark.parametrize("name", studies.names())
def test_a_study_says_something_at_every_scale(name, scale, given, tmp_path, monkeypatch):
  if given:
    monkeypatch.setattr(f"seedlab.studies.{name}.sweeps.at_hand", lambda *_: True)
  else:
    monkeypatch.setenv("SEEDLAB_DATA", "")
    monkeypatch.setenv("HOME", "/nowhere")
  one = studies.load(name)
  planned = one.sweeps(scale, None)
  assert len({sweep.name for sweep in planned}) == len(planned) > 0
  datasets = made_up.stores(one, scale, planned)
  result = runner.conclude(one, scale, datasets, tmp_path / "page.html")
  assert [verdict.claim for verdict in result.verdicts] == list(one.claims(scale))
  if scale == "smoke":
    assert {verdict.reason for verdict in result.verdicts} == {"smoke scale judges nothing"}
  assert one.title in result.page.read_text() and "changed since" not in result.text


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
  with sweeps.local_pool(1) as pool:
    plans = {"planned_n": 2, "claims": []}
    sweeps.sweep(
      settings, runs=range(2), out=tmp_path, executor=pool, workers=1, quiet=True, **plans
    )
  real = records.open(tmp_path)
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
  assert np.array_equal(made["seed_init"], real["seed_init"])
