"""The main commands through their real entry points, and what a person reads."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

import forked
import numpy as np
import pytest
from forging import reseal
from safetensors.numpy import load_file

import seedlab
from seedlab import records
from seedlab.config import STREAMS

ROOT = pathlib.Path(__file__).parent.parent
DIGITS = "--config=seedlab:digits:smoke"
MLP = "--config=seedlab:digits_mlp:smoke"


def command(name: str, *arguments) -> list[str]:
  return [sys.executable, "-m", "seedlab", name, *map(str, arguments)]


def run(name: str, *arguments, status: int = 0) -> subprocess.CompletedProcess:
  done = forked.command(name, *arguments)
  assert done.returncode == status, done.stderr
  if status == 2:
    lines = done.stderr.strip().splitlines()
    assert len(lines) - lines[0].startswith("seedlab: reading the data") == 1, done.stderr
  return done


@pytest.fixture(scope="module")
def store(tmp_path_factory):
  out = tmp_path_factory.mktemp("digits") / "sweep"
  done = run("sweep", DIGITS, "--runs=12", f"--out={out}", "--workers=2")
  assert "12 of 12 runs" in done.stderr and "12 seeds" in done.stdout
  return out


def test_the_same_command_again_has_nothing_to_do(store):
  done = run("sweep", DIGITS, "--runs=12", f"--out={store}")
  assert "already holds 12 runs, all finished" in done.stderr


def test_report_prints_a_table_and_writes_a_page(store):
  done = run("report", store)
  for word in ("mean", "sd", "95 %", "median", "gap", "init, sample, order, augment, noise, poke"):
    assert word in done.stdout, word
  page = (store / "report.html").read_text()
  assert 'id="ranked"' in page and "seedlab replay" in page and "data:image/png" in page
  assert not re.search(r"(src|href)=.?https?:", page.split("<script", 1)[0])


def test_replay_is_exact_and_saves_parameters(store, tmp_path):
  file = tmp_path / "run7.safetensors"
  done = run("replay", store, "--run=7", f"--params={file}")
  lines = done.stdout.splitlines()
  assert lines[1].split()[1] == lines[2].split()[1] and lines[3] == "exact"
  params = load_file(file)
  assert all(value.dtype == np.float32 for value in params.values()) and len(params) >= 4


def test_replay_of_a_tampered_store_fails(store, tmp_path):
  copy = tmp_path / "copy"
  shutil.copytree(store, copy)
  writer = records.Writer(copy)
  writer._arrays["digest"][3] = b"f" * 64
  assert "digest of run 3" in run("replay", copy, "--run=3", status=1).stdout
  reseal(copy)
  assert "DIFFERENT" in run("replay", copy, "--run=3", status=1).stdout


def test_the_recorded_environment_can_be_printed(store):
  lines = run("replay", store, "--lock").stdout.splitlines()
  assert any(line.startswith("jax==") for line in lines) and len(lines) > 30


def test_plan_trains_nothing_and_agrees_with_a_hand_count(tmp_path):
  """The smoke MLP: 64-16-10 at batch 32, forward and two backward products a layer but one."""
  done = run("sweep", MLP, "--runs=1000", f"--out={tmp_path / 's'}", "--plan", "--lanes=loop")
  assert not (tmp_path / "s").exists() and "trains nothing" in done.stderr
  (flops,) = re.findall(r"operations +([\d.e+]+) a step", done.stdout)
  by_hand = 2 * 32 * (64 * 16 + 16 * 10) * 2 + 2 * 32 * 16 * 10
  assert by_hand < float(flops) < 1.5 * by_hand
  assert re.search(r"steps of a run +30\n", done.stdout)  # 2 epochs of 15 steps
  assert "hours" in done.stdout and "-" not in done.stdout.split("memory")[1].split("\n")[0]


def test_grid_makes_a_store_a_cell_and_one_table(tmp_path):
  grid = ("--grid=activation=relu,smelu", "--grid=config.optimizer.learning_rate=0.1,0.05")
  done = run("sweep", MLP, "--runs=3", f"--out={tmp_path}/g", "--workers=1", *grid)
  table = done.stdout.splitlines()
  assert len(table) == 6 and table[1].split()[:3] == [
    "activation", "optimizer.learning_rate", "runs",
  ]  # fmt: skip
  cell = seedlab.open(tmp_path / "g" / "activation=smelu,optimizer.learning_rate=0.05")
  assert cell.attrs["config"]["activation"] == {"name": "smelu", "beta": 1.0}
  assert cell.attrs["config"]["optimizer"]["learning_rate"] == 0.05
  wrong = run("sweep", MLP, "--runs=3", f"--out={tmp_path}/h", "--grid=activatoin=relu", status=2)
  assert "did you mean 'activation'" in wrong.stderr


def test_another_config_is_refused_naming_the_fields(store):
  before = seedlab.open(store).digest.values.tolist()
  done = run(
    "sweep", DIGITS, "--config.model.width=9", "--config.training.batch_size=25", "--runs=12",
    f"--out={store}", status=2,
  )  # fmt: skip
  assert "model.width: 8 -> 9" in done.stderr and "training.batch_size: 50 -> 25" in done.stderr
  assert seedlab.open(store).digest.values.tolist() == before


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--config.model.name=cnm"], "did you mean 'cnn'"),
    (["--config.activation=smelo"], "did you mean 'smelu'"),
    (["--config.data.name=digitz"], "digits"),
    (["--config.model.widht=3"], "is not an option of model.name='cnn'; did you mean 'width'"),
    (["--config.training.epochs=two"], "training.epochs"),
    (["--config.training.batch_size=501"], "batch_size=501 is more than the 500"),
    (["--config.data.train_examples=501"], "train_examples=501"),
    (["--config.activation.beta=2"], "is not read by activation.name='relu', but by"),
    (["--runs=0"], "at least 1"),
    (["--runs=-3"], "at least 1"),
    (["--runs=4294967290:4294967297"], "2^32"),
    (["--runs=0:5000000000"], "10,000,000"),
    (["--runs=ten"], "--runs='ten'"),
    (["--seeds={}x"], "not JSON"),
    (["--out=/proc/nowhere/s"], "/proc/nowhere"),
    (["--nonsense"], "--nonsense is not a flag"),
  ],
)
def test_wrong_input_gets_one_line(tmp_path, arguments, message):
  done = run(
    "sweep", DIGITS, "--runs=2", f"--out={tmp_path / 's'}", "--workers=1", *arguments, status=2
  )
  assert message in done.stderr.splitlines()[-1]


def test_a_store_that_is_none_is_named(tmp_path):
  for name, extra in (("report", []), ("replay", ["--run=0"])):
    assert "no seedlab store" in run(name, tmp_path, *extra, status=2).stderr
  assert "holds no seedlab store" in run(
    "sweep", DIGITS, "--runs=2", f"--out={_foreign(tmp_path)}", status=2
  ).stderr  # fmt: skip


def _foreign(tmp_path):
  (tmp_path / "thesis.tex").write_text("years of work")
  return tmp_path


@pytest.mark.slow
def test_cifar10_through_the_scripts(data_dir, tmp_path):
  out = tmp_path / "cifar"
  config = "--config=seedlab:cifar10_resnet9:smoke"
  run("sweep", config, f"--data_dir={data_dir}", "--runs=2", f"--out={out}", "--workers=1")
  assert seedlab.open(out).test_accuracy.shape[0] == 2
  done = run("replay", out, "--run=1", f"--data_dir={data_dir}")
  assert done.stdout.splitlines()[-1] == "exact"


def test_missing_data_says_how_to_get_it(tmp_path):
  config = "--config=seedlab:cifar10_resnet9:smoke"
  done = run(
    "sweep", config, f"--data_dir={tmp_path}/none", "--runs=1", f"--out={tmp_path}/s", status=2
  )
  assert "SEEDLAB_DATA" in done.stderr


def test_a_page_follows_a_sweep_that_is_still_running(tmp_path):
  out = tmp_path / "sweep"
  sweep = ("sweep", "--trainer=toy:make", f"--out={out}", "--lanes=loop", "--workers=1")
  environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
  assert not forked.command(*sweep, "--runs=4", env=environment).returncode
  writer = records.Writer(out)  # two more are planned and not there yet
  writer.extend([4, 5], np.array([[4] * len(STREAMS), [5] * len(STREAMS)], np.uint32))
  live = subprocess.Popen(command("report", out, "--live"), stdout=subprocess.PIPE, text=True)
  page, refresh = out / "report.html", 'http-equiv="refresh"'
  deadline = time.monotonic() + 60
  while not page.exists() and time.monotonic() < deadline:
    time.sleep(0.1)
  assert refresh in page.read_text() and "2 of 6 runs are missing" in page.read_text()
  assert not forked.command(*sweep, "--runs=6", env=environment).returncode
  said, _ = live.communicate(timeout=60)
  assert live.returncode == 0 and "of 6 seeds" in " ".join(said.split())
  assert refresh not in page.read_text()


def test_results_of_any_framework_as_csv(tmp_path):
  rows = [
    f"{v},{s},{0.9 + s * s / 5000 + (v == 'b') * (s + 5) / 750}" for v in "ab" for s in range(6)
  ]
  file = tmp_path / "results.csv"
  file.write_text("\n".join(["variant,seed,accuracy", *rows]))
  done = run("compare", file, "--planned_n=6", f"--page={tmp_path}/page.html")
  assert "b is better than a by 1.00 points" in " ".join(done.stdout.split())
  assert "looked at as planned, with 6 seeds" in " ".join(done.stdout.split())
  assert "b - a: the differences of runs with the same seed" in (tmp_path / "page.html").read_text()
  done = run("report", file)
  assert "whatever the seed set" in done.stdout and (tmp_path / "results.report.html").exists()
  file.write_text("variant,accuracy\na,high")
  assert "none holds the numbers" in " ".join(run("report", file, status=2).stderr.split())


@pytest.mark.slow
def test_a_grid_has_a_page_of_its_own(tmp_path):
  grid = ("--grid=activation=relu,smelu", f"--out={tmp_path}/grid")
  run("sweep", MLP, "--runs=4", "--workers=1", *grid)
  done = run("report", f"{tmp_path}/grid")
  assert done.stdout.count("relu") == done.stdout.count("smelu") >= 2
  assert "activation.name=smelu" in (tmp_path / "grid/report.html").read_text()


@pytest.mark.slow
def test_activations_are_drawn(tmp_path):
  from matplotlib.image import imread

  script = [sys.executable, str(ROOT / "scripts" / "activations.py")]
  subprocess.run([*script, f"--out={tmp_path}/all.png", "--reach=2"], check=True)
  image = imread(tmp_path / "all.png")
  assert image.shape[0] > 800 and image.shape[1] > 800 and image[..., :3].std() > 0.05
  wrong = subprocess.run([*script, "--out=all.jpg"], capture_output=True, text=True)
  assert wrong.returncode == 2 and "must end in .png" in wrong.stderr
