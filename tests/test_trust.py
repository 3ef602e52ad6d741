"""A store, a config or a page brings in no code that nobody named, wherever its text stands."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest
import toy

import seedlab
from seedlab import config, experiment, migration, parts
from seedlab.errors import UserError

HERE = pathlib.Path(__file__).parent


@pytest.fixture
def evil(tmp_path, monkeypatch):
  """The name of a module on the path that leaves a file when it is imported; and that file."""
  monkeypatch.syspath_prepend(tmp_path)
  name, mark = f"evil_{os.getpid()}_{len(sys.path)}", tmp_path / "was_imported"
  (tmp_path / f"{name}.py").write_text(
    f"import pathlib\npathlib.Path({str(mark)!r}).touch()\n"
    "def make(**options):\n  raise AssertionError\n"
  )
  yield name, mark
  sys.modules.pop(name, None)


def own_config(**sections) -> dict:
  values = config.to_dict(config.parse({"data": "digits", "model": "mlp"}))
  return {**values, **{name: {**(values[name] or {}), **one} for name, one in sections.items()}}


def manifests(name: str) -> dict[str, dict]:
  """Manifests that name a function of a module, each at another place."""
  seeds = own_config()["seeds"]
  twins = {"config": own_config(model={"name": name}), "split": 3}
  base = {"seedlab_version": "0.1.0", "layout": 3}
  found = {
    section: base | {"config": own_config(**{section: {"name": name}})}
    for section in ("data", "model", "loss", "optimizer", "schedule", "activation")
  }
  found["augment"] = base | {"config": {**own_config(), "augment": [{"name": name}]}}
  metrics = {"metrics": [{"name": name, "better": None, "unit": None}]}
  found["metric"] = base | {"config": own_config(evaluation=metrics)}
  for kind, function, arguments in (
    ("trainer", name, {}), ("twins", "seedlab.studies.twins:make", twins),
  ):  # fmt: skip
    trainer = {"function": function, "arguments": arguments, "seeds": seeds}
    found[kind] = base | {"config": None, "trainer": trainer}
  return found


def test_a_store_brings_in_no_code_that_its_reader_did_not_name(evil):
  name, mark = evil
  for place, kept in manifests(f"{name}:make").items():
    says = rf"'dir' names code .*: '{name}:make' \(module '{name}' from '.*{name}.py'\); nothing"
    with pytest.raises(UserError, match=says + r" was imported\. .*--trust_code"):
      experiment.recorded_experiment(kept, None, None, "dir")
    migration.migrated(kept)
    migration.completed(kept["config"] or {})
    assert not mark.exists(), place
  with pytest.raises(UserError):  # what stands in the place of a section is no part either way
    experiment.recorded_experiment(manifests(f"{name}:make")["loss"], None, None, "d", True)
  assert mark.exists()  # with the reader's word it is


def test_opening_a_store_of_layout_1_runs_nothing(evil):
  name, mark = evil
  old = json.loads((HERE / "golden" / "layout1" / ".zattrs").read_text())
  for section in ("data", "model", "optimizer"):
    config_1 = {**old["config"], section: {**old["config"][section], "name": f"{name}:make"}}
    assert migration.migrated({**old, "config": config_1})["config"] == config_1
  assert not mark.exists()


@pytest.mark.parametrize(
  "text",
  [
    "os:system", "subprocess:run", "seedlab.records:shutil.rmtree", "seedlab.parts:resolve",
    "seedlab.records:lock", "seedlab.recipe:supervised", "seedlab.data.digits:np.load",
    "seedlab:sweep", "builtins:exec", "nowhere.at.all:f",
  ],
)  # fmt: skip
def test_neither_pythons_functions_nor_ours_that_are_no_parts(text):
  for kept in manifests(text).values():
    with pytest.raises(UserError, match="names code that is none of seedlab's parts"):
      experiment.recorded_experiment(kept, None, None, "dir")


@pytest.mark.parametrize("through", ["contrib._sam", "transforms._adding"])
def test_a_part_of_a_library_is_its_own_function(through):
  """optax's modules hold jax, whose modules hold os, which starts programs."""
  for kind in ("optimizer", "schedule"):
    with pytest.raises(UserError, match="is not known"):
      parts.find(kind, f"{through}.jax._src.xla_bridge.os.popen")
    with pytest.raises(UserError, match="is not known"):
      parts.find(kind, "jax.numpy.save")
  assert parts.find("optimizer", "contrib.prodigy") is parts.find("optimizer", "prodigy")


def test_what_seedlab_has_itself_needs_no_word():
  full = {"data": {"name": "seedlab.data.digits:digits"}, "model": {"name": "mlp"}}
  kept = {"config": own_config(**full), "seedlab_version": "0.1.0"}
  assert experiment.recorded_experiment(kept, None, None, "dir").config.model.name == "mlp"
  kept = manifests("mlp")["twins"]
  assert experiment.recorded_experiment(kept, None, None, "d").function.endswith("twins:make")


def test_the_function_itself_is_word_enough(evil):
  kept = manifests(f"{evil[0]}:make")["trainer"]
  kept["trainer"]["arguments"] = {"steps": 9, "marker": f"{evil[0]}:make"}
  found = experiment.recorded_experiment(kept, toy.make, None, "dir")
  assert found.function == "toy:make" and not evil[1].exists()


def test_replay_and_verify_refuse_and_reading_runs_nothing(evil, tmp_path):
  name, mark = evil
  store = shutil.copytree(HERE / "golden" / "layout2", tmp_path / "s")
  content = json.loads((store / ".zmetadata").read_text())
  content["metadata"][".zattrs"]["config"]["model"]["name"] = f"{name}:make"
  (store / ".zmetadata").write_text(json.dumps(content))
  for call in (lambda: seedlab.replay(store, 1), lambda: seedlab.verify(store, 2, quiet=True)):
    with pytest.raises(UserError, match=f"'{name}:make'.*--trust_code"):
      call()
  assert seedlab.verify(store, 0, quiet=True).passed
  assert seedlab.open(store, verify=True).sizes["run"] == 4
  with pytest.raises(UserError, match=r"holds another experiment: .*model.name: evil"):
    seedlab.sweep({"data": "digits", "model": "mlp"}, 4, store, quiet=True)
  assert not mark.exists()


def test_a_page_runs_no_code_that_a_store_names(evil):
  from seedlab.report import flips

  attributes = {"config": own_config(data={"name": f"{evil[0]}:make"})}
  assert flips._examples(attributes, None) is None and not evil[1].exists()


def test_the_folder_of_a_command_is_searched_for_what_the_user_names_alone(tmp_path):
  """Files named as libraries, or as what libraries look for, are not run in passing."""
  for name in ("absl", "numpy", "jax", "jax_plugins", "tensorflow"):
    (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name} of this folder was run')")
  (tmp_path / "mine.py").write_text("import beside\nfrom toy import make")
  (tmp_path / "beside.py").touch()
  environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)])}
  code = (
    "import sys\n"
    "sys.argv = ['seedlab', 'verify', '--help']\n"
    "try:\n  import seedlab.__main__\nexcept SystemExit as done:\n  assert not done.code\n"
    "import jax\n"
    "from seedlab import parts\n"
    "assert not any(path in ('', '.') for path in sys.path)\n"
    "assert 'mine.py' in parts.origin('mine:make') and 'mine' not in sys.modules\n"
    "assert parts.imported('trainer', 'mine:make')\n"
  )
  for command in (["-c", code], ["-m", "seedlab", "--version"]):
    done = subprocess.run(
      [sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
