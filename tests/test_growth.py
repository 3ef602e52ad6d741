"""Stores of older releases: they open, report, compare, replay and go on, or say why not.

tests/golden holds a small store of every layout, written by the release that had it and never
again. All are configs/digits_mlp.py:smoke with the flags below, four runs.
"""

import json
import pathlib
import shutil

import forked
import numpy as np
import pytest
from forging import reseal
from test_scripts import MLP, run
from test_sweeps import sweep

import seedlab
from seedlab import changes, cli, config, experiment, findings, migration, records
from seedlab.config import STREAMS
from seedlab.errors import UserError

GOLDEN = pathlib.Path(__file__).parent / "golden"
_FLAGS = [
  MLP,
  "--config.model.width=4",
  "--config.data.test_examples=100",
  "--config.activation=smelu",
  "--config.activation.beta=0.5",
  "--config.loss.smoothing=0.1",
  '--config.augment=[{"name": "crop", "padding": 1}]',
]
COMMANDS = {"layout1": _FLAGS, "layout2": _FLAGS}


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
  reseal(store)


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
  sweeping = ["sweep", *flags, "--runs=6", f"--out={store}", "--workers=1"]
  if replay.changed:
    refused = forked.command(*sweeping)
    last = refused.stderr.splitlines()[-1]  # after what it was doing, on a slow machine
    assert refused.returncode == 2 and "go on in another directory, or here with" in last
    assert "--new_fingerprint" in last and "Traceback" not in refused.stderr
    assert seedlab.open(store).sizes["run"] == 4
    sweeping.append("--new_fingerprint")
  run(*sweeping)
  after = seedlab.open(store)
  assert after.completed.values.all() and after.run.values.tolist() == list(range(6))
  assert after.digest.values[:4].tolist() == before.digest.values.tolist()
  assert after.attrs["fingerprints"][0] == before.attrs["fingerprints"][0]
  assert len(after.attrs["fingerprints"]) == 1 + bool(replay.changed)


def old_config() -> dict:
  """The fields of the golden store of layout 1, as they were written."""
  return json.loads((GOLDEN / "layout1" / ".zattrs").read_text())["config"]


def test_a_config_of_layout_1_is_what_todays_flags_make():
  old = old_config()
  found = migration.migrated({"config": old})["config"]
  file, *flags = (flag.removeprefix("--config").split("=", 1) for flag in COMMANDS["layout1"])
  given = {field[1:]: cli.value_of(word) for field, word in flags}
  today = config.to_dict(changes.changed(cli.load(file[1]), given))
  del today["seeds"]["levels"]
  later = ("seeds.vary", [s for s in STREAMS if s != "generate"], list(STREAMS))
  assert config.differences(found, today) == [later]
  assert found["activation"] == {"name": "smelu", "beta": 0.5}
  assert found["augment"] == [{"name": "crop", "padding": 1, "fill": "zero"}]
  assert found["loss"] == {"name": "cross_entropy", "smoothing": 0.1}
  assert config.to_dict(config.parse(found)) == {**found, "seeds": found["seeds"] | {"levels": []}}


def test_fields_of_layout_1_that_stand_elsewhere_now():
  old = old_config()
  old["data"] |= {"flip": True, "crop": 4, "crop_padding": "reflect", "cutout": 8}
  old["optimizer"] |= {"name": "adam", "momentum": 0.5}  # which adam did not read
  old["optimizer"] |= {"schedule": "cosine", "warmup_steps": 3, "per_epoch": True, "end": 0.01}
  old["model"] |= {"name": "densenet40", "width": 12, "norm": "batch", "remat": True, "depth": 7}
  found = migration.migrated({"config": old})["config"]
  assert found["augment"] == [
    {"name": "crop", "padding": 4, "fill": "reflect"},
    {"name": "flip"},
    {"name": "cutout", "size": 8},
  ]
  assert found["optimizer"] == {
    "name": "adam", "learning_rate": 0.1, "weight_decay": 0.0, "bias_factor": 1.0,
  }  # fmt: skip
  assert found["schedule"] == {
    "name": "cosine", "warmup_steps": 3, "end": 0.01, "per_epoch": True, "hold_steps": 1,
  }  # fmt: skip
  assert found["model"] == {
    "name": "densenet40", "width": 12, "norm": "batch", "remat": True, "convolution": "auto",
    "initial": None, "fresh": [], "precision": "float32",
  }  # fmt: skip
  assert not {"flip", "crop", "crop_padding", "cutout", "world_kwargs"} & set(found["data"])
  config.parse(found)

  old["data"] = {"name": "clicks", "world_kwargs": {"rate": 0.3}, "flip": False, "gone": 1}
  found = migration.migrated({"config": old})["config"]
  assert found["augment"] == [] and found["data"]["rate"] == 0.3
  with pytest.raises(UserError, match=r"data.gone=1 is not an option of data.name='clicks'"):
    config.parse(found)  # what this release cannot train is not passed over in silence


def test_fields_that_did_not_exist_have_todays_defaults_and_nothing_else_is_filled_in():
  mlp = {"model": {"name": "mlp", "width": 7}, "augment": ["crop"]}
  today = config.to_dict(config.parse(mlp))
  del today["seeds"]["levels"]
  then = json.loads(json.dumps(today))
  del then["probe"], then["evaluation"]["epochs"], then["schedule"]["hold_steps"]
  del then["model"]["norm"], then["optimizer"]["nesterov"], then["augment"][0]["fill"]
  assert migration.completed(then) == today
  then["model"]["dropout"] = 0.5  # was the default of that time
  then["model"]["gone"] = 3
  assert config.differences(migration.completed(then), today) == [
    ("model.dropout", 0.5, 0.0),
    ("model.gone", 3, None),
  ]
  then["model"]["name"] = "retired"  # a part that this release does not have
  assert migration.completed(then)["model"]["width"] == 7
  own = {"config": None, "trainer": {"a": 1}}
  assert migration.migrated(own) == own


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
  assert kept["layout"] == records.LAYOUT == 3 and kept["seedlab_store"] == 1
  assert kept["trainer"]["arguments"] == {
    "steps": 20,
    "hidden": 5,
    "explode_below": 0,
    "explode_first": 0,
    "rate": 0.3,
    "pause": 0.0,
    "marker": "",
    "fed": False,
    "faults": "",
  }


def test_an_argument_that_did_not_exist_has_todays_default(tmp_path):
  store = tmp_path / "s"
  first = sweep(store, 2)

  def change(**arguments):
    rewrite(store, lambda manifest, _: manifest["trainer"]["arguments"].update(arguments))

  rewrite(store, lambda manifest, _: manifest["trainer"]["arguments"].pop("rate"))
  more = sweep(store, 3)
  assert more.digest.values[:2].tolist() == first.digest.values.tolist()
  assert seedlab.replay(store, 1, trust_code=True).exact
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
  assert seedlab.replay(store, 5, trust_code=True).exact
  with pytest.raises(UserError, match=r"another experiment: seeds.vary: "):
    sweep(store, 7, seeds={"fixed": 7, "vary": ["init", "poke"]})


def test_a_store_of_what_is_gone_still_opens_and_says_why_it_cannot_go_on(golden):
  store, _ = golden
  rewrite(store, lambda manifest, _: manifest["config"]["model"].update(name="gone"))
  assert "moved test accuracy" in " ".join(seedlab_report(store).split())
  with pytest.raises(UserError, match=r"whose config this version .* does not know"):
    seedlab.replay(store, 1)
  rewrite(store, lambda manifest, _: manifest["config"].pop("optimizer"))
  assert seedlab.open(store).sizes["run"] == 4


def seedlab_report(store: pathlib.Path) -> str:
  return run("report", store).stdout
