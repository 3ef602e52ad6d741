"""Stores of older releases: they open, report, compare, replay and go on, or say why not.

tests/golden holds a small store of every layout, written by the release that had it and never
again. Layout 1 is configs/digits_mlp.py:smoke with the flags below, four runs.
"""

import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from test_scripts import MLP, run, script
from test_sweeps import sweep

import seedlab
from seedlab import config, experiment, findings, records
from seedlab.config import STREAMS
from seedlab.errors import UserError

GOLDEN = pathlib.Path(__file__).parent / "golden"
COMMANDS = {
  "layout1": [
    MLP,
    "--config.model.width=4",
    "--config.data.test_examples=100",
    "--config.model.activation=smelu",
    '--config.model.activation_kwargs={"beta": 0.5}',
    "--config.training.label_smoothing=0.1",
    "--config.data.crop=1",
  ]
}


@pytest.fixture(params=sorted(COMMANDS))
def golden(request, tmp_path):
  """(a copy of the store, the flags that made it)."""
  shutil.copytree(GOLDEN / request.param, tmp_path / request.param)
  return tmp_path / request.param, COMMANDS[request.param]


def rewrite(store: pathlib.Path, change) -> None:
  """Applies `change` to the manifest and, of {file: its values}, to the consolidated metadata."""
  values = json.loads((store / ".zmetadata").read_text())
  change(values["metadata"][".zattrs"], values["metadata"])
  (store / ".zmetadata").write_text(json.dumps(values))
  (store / ".zattrs").write_text(json.dumps(values["metadata"][".zattrs"]))


def test_every_released_layout_has_a_golden_store():
  released = range(1, records.LAYOUT)  # the present one can still change
  assert sorted(path.name for path in GOLDEN.iterdir()) == [f"layout{n}" for n in released]


def test_a_golden_store_opens_reports_and_compares(golden):
  store, _ = golden
  dataset = seedlab.open(store)
  assert dataset.completed.values.all() and dataset.sizes["run"] == 4
  assert dataset.attrs["config"] == records.manifest(store)["config"]
  # Accuracies of 0.18, 0.31, 0.11 and 0.19.
  assert "moved test accuracy by 20.00 points" in " ".join(run("report", store).stdout.split())
  other = shutil.copytree(store, store.parent / "other")
  writer = records.Writer(other)
  better = writer._arrays["test_accuracy"][:] + np.float32(0.25)
  writer._arrays["test_accuracy"][:] = better
  (pair,) = seedlab.compare([store, other]).pairs
  assert pair.fixed.estimate == pytest.approx(25, abs=1e-4)  # percentage points


def test_a_golden_store_replays_and_goes_on_by_its_command(golden):
  """On another processor, or with another jax: what differs and what helps, then with that."""
  store, flags = golden
  before = seedlab.open(store)
  replay = seedlab.replay(store, 2)
  assert replay.passed and replay.exact >= (not replay.changed)
  command = ["sweep", *flags, "--runs=6", f"--out={store}", "--workers=1"]
  if replay.changed:
    refused = subprocess.run([sys.executable, *script(*command)], capture_output=True, text=True)
    last = refused.stderr.splitlines()[-1]  # after what it was doing, on a slow machine
    assert refused.returncode == 2 and "go on in another directory, or here with" in last
    assert "--new_fingerprint" in last and "Traceback" not in refused.stderr
    assert seedlab.open(store).sizes["run"] == 4
    command.append("--new_fingerprint")
  run(*command)
  after = seedlab.open(store)
  assert after.completed.values.all() and after.run.values.tolist() == list(range(6))
  assert after.digest.values[:4].tolist() == before.digest.values.tolist()
  assert after.attrs["fingerprints"][0] == before.attrs["fingerprints"][0]
  assert len(after.attrs["fingerprints"]) == 1 + bool(replay.changed)


def test_fields_that_did_not_exist_have_todays_defaults_and_nothing_else_is_filled_in():
  today = config.to_dict(config.parse({"model": {"width": 7}}))
  del today["seeds"]["levels"]
  then = json.loads(json.dumps(today))
  del then["model"]["towers"], then["probe"], then["evaluation"]["epochs"]
  assert config.migrated({"config": then})["config"] == today
  then["model"]["dropout"] = 0.5  # was the default of that time
  then["model"]["gone"] = 3
  filled = config.migrated({"config": then})["config"]
  assert config.differences(filled, today) == [
    ("model.dropout", 0.5, 0.0),
    ("model.gone", 3, None),
  ]
  assert config.migrated({"config": None, "trainer": {"a": 1}}) == {
    "config": None,
    "trainer": {"a": 1},
  }


def test_one_new_field_of_the_config_leaves_older_stores_as_they_were(golden):
  store, _ = golden
  described = experiment.experiment(seedlab.open(store).attrs["config"])
  rewrite(store, lambda manifest, _: manifest["config"]["gradient"].pop("penalty"))
  experiment.check_same(described, records.manifest(store), store)
  rewrite(store, lambda manifest, _: manifest["config"]["gradient"].update(penalty=0.5))
  with pytest.raises(UserError, match=r"another experiment: gradient.penalty: 0.5 -> 0.0;"):
    experiment.check_same(described, records.manifest(store), store)


def test_a_manifest_holds_every_argument_of_a_trainer(tmp_path):
  sweep(tmp_path / "s", 2)
  kept = records.manifest(tmp_path / "s")
  assert kept["layout"] == records.LAYOUT == 2 and kept["seedlab_store"] == 1
  assert kept["trainer"]["arguments"] == {
    "steps": 20,
    "hidden": 5,
    "explode_below": 0,
    "rate": 0.3,
    "pause": 0.0,
    "marker": "",
    "fed": False,
  }


def test_an_argument_that_did_not_exist_has_todays_default(tmp_path):
  store = tmp_path / "s"
  first = sweep(store, 2)

  def change(**arguments):
    rewrite(store, lambda manifest, _: manifest["trainer"]["arguments"].update(arguments))

  rewrite(store, lambda manifest, _: manifest["trainer"]["arguments"].pop("rate"))
  more = sweep(store, 3)
  assert more.digest.values[:2].tolist() == first.digest.values.tolist()
  assert seedlab.replay(store, 1).exact
  change(hidden=6)  # as if the default of `hidden` had been another one
  with pytest.raises(UserError, match=r"another experiment: arguments.hidden: 6 -> 5;"):
    sweep(store, 4)
  change(hidden=5, gone=1)
  with pytest.raises(UserError, match=r"another experiment: arguments.gone: 1 -> None;"):
    sweep(store, 4)


def test_a_stream_that_did_not_exist_is_constant(tmp_path):
  """As if `poke` were new: the store knows five streams, and none of its trainings drew from it."""
  store = tmp_path / "s"
  whole = sweep(tmp_path / "whole", 6, seeds={"fixed": 7})
  sweep(store, 4, seeds={"fixed": 7})

  def forget(manifest, files):
    for name in [name for name in files if name.startswith("seed_poke/")]:
      del files[name]
    manifest["by_run"].remove("seed_poke")
    manifest["coordinates"] = manifest["coordinates"].replace("seed_poke ", "")
    for vary in (manifest["vary"], manifest["trainer"]["seeds"]["vary"]):
      vary.remove("poke")

  rewrite(store, forget)
  shutil.rmtree(store / "seed_poke")
  older = seedlab.open(store)
  assert older.seed_poke.values.tolist() == [7] * 4 and older.seed_poke.dtype == np.uint32
  assert "seed_poke" in older.coords
  found = findings.examine(older)
  assert set(found.seeds) == set(STREAMS) and found.vary == [s for s in STREAMS if s != "poke"]
  more = sweep(store, 6, seeds={"fixed": 7})
  assert more.seed_poke.values.tolist() == [7] * 6
  assert more.digest.values.tolist() == whole.digest.values.tolist()
  assert seedlab.replay(store, 5).exact
  with pytest.raises(UserError, match=r"another experiment: seeds.vary: "):
    sweep(store, 7, seeds={"fixed": 7, "vary": ["init", "poke"]})
