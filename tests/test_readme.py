"""What the README shows runs as it stands there."""

import pathlib
import re
import subprocess
import sys

import forked

import seedlab

ROOT = pathlib.Path(__file__).parent.parent


def blocks(file: str) -> list[str]:
  return re.findall(r"```python\n(.*?)```", (ROOT / file).read_text(), re.DOTALL)


def seedlab_command(*arguments: str, cwd) -> subprocess.CompletedProcess:
  return forked.command(*arguments, cwd=cwd)


def test_a_network_of_ones_own(tmp_path):
  code = blocks("README.md")[0].replace("runs=100", "runs=18").replace("epochs=20", "epochs=5")
  (tmp_path / "mine.py").write_text(code)  # unguarded: workers do not import it
  done = subprocess.run([sys.executable, "mine.py"], cwd=tmp_path, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  accuracy, exact = done.stdout.split("\n")[:2]
  assert 0.6 < float(accuracy.split()[0]) < 1 and exact == "True"
  assert seedlab.open(tmp_path / "out/mine").sizes["run"] == 18


def test_ten_lines_of_python(tmp_path):
  code = blocks("README.md")[1].replace("range(200)", "range(18)")
  (tmp_path / "ten.py").write_text(code)
  done = subprocess.run([sys.executable, "ten.py"], cwd=tmp_path, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  accuracy, exact = done.stdout.split("\n")[:2]
  assert 0.9 < float(accuracy.split()[0]) < 1 and exact == "True"


def test_bring_your_own(tmp_path):
  """A Trainer of one's own: sweep, extend, replay and report without touching the library."""
  (tmp_path / "my_trainer.py").write_text(blocks("docs/trainer.md")[0])
  sweep = ("sweep", "--trainer=my_trainer:make", '--arguments={"width": 8}', "--out=out/mine")
  for runs in ("20", "30"):
    done = seedlab_command(*sweep, f"--runs={runs}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
  dataset = seedlab.open(tmp_path / "out/mine")
  assert dataset.completed.values.all() and dataset.sizes["run"] == 30
  assert float(dataset.mse[:, -1].mean()) < float(dataset.mse[:, 0].mean()) < 0.5
  done = seedlab_command("replay", "out/mine", "--run=25", "--trust_code", cwd=tmp_path)
  assert done.returncode == 0 and done.stdout.splitlines()[-1] == "exact", done.stderr
  done = seedlab_command("report", "out/mine", cwd=tmp_path)
  assert done.returncode == 0 and "mse" in done.stdout, done.stderr
  assert "<html" in (tmp_path / "out/mine/report.html").read_text()
