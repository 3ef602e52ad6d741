"""The files of docs/clusters.md: run with stand-ins for SLURM and for seedlab, or parsed."""

import os
import pathlib
import py_compile
import re
import shlex
import signal
import subprocess
import sys
import time

import pytest
from stores import assert_same_store

import seedlab
from seedlab import records, sweeps
from seedlab.pool import WorkerPool

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent
FILES = ROOT / "examples" / "clusters"
CORE = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


@pytest.fixture
def home(tmp_path):
  """A home with an environment whose commands are stand-ins; they write into the file `said`."""
  place = tmp_path / "home"
  bin_ = place / "seedlab" / ".venv" / "bin"
  bin_.mkdir(parents=True)
  (bin_ / "activate").write_text(f'PATH="{bin_}:$PATH"\n')
  command(place, "scontrol", 'echo scontrol "$@" >> "$HOME/said"')
  return place


def command(home, name, text) -> None:
  path = home / "seedlab" / ".venv" / "bin" / name
  path.write_text(f"#!/bin/bash\n{text}\n")
  path.chmod(0o755)


def job(home, file, task=None, changes=()) -> subprocess.Popen:
  """Starts a batch file as SLURM does, with what `changes` replaces in its text."""
  text = (FILES / file).read_text()
  for old, new in changes:
    assert old in text
    text = text.replace(old, new)
  (home / file).write_text(text)
  variables = {"HOME": str(home), "PATH": os.environ["PATH"], "SLURM_JOB_ID": "77"}
  if task:
    numbers = {"ID": task, "MIN": 1, "MAX": 3, "STEP": 1, "COUNT": 3}
    variables |= {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in numbers.items()}
    variables["SLURM_ARRAY_JOB_ID"] = "70"
  return subprocess.Popen(["bash", home / file], env=variables, cwd=home, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip


@pytest.mark.parametrize("status", [0, 2, 143])
def test_a_task_of_the_array_trains_its_shard_and_is_queued_again_when_it_was_stopped(home, status):
  command(home, "seedlab", f'echo "$SLURM_ARRAY_TASK_ID" "$@" >> "$HOME/said"; exit {status}')
  task = job(home, "slurm_sweep.sbatch", 2)
  assert task.communicate() == ("", "") and task.returncode == status
  words, *rest = (home / "said").read_text().splitlines()
  out = f"{home}/out/digits"
  assert words == f"2 sweep --config=seedlab:digits --runs=10000 --out={out} --shard=auto"
  assert rest == ["scontrol requeue 70_2"] * (status == 143)


@pytest.mark.parametrize("file", ["slurm_sweep.sbatch", "tpu_vm.sh"])
def test_the_signal_to_stop_reaches_the_sweep_which_has_time_to_save(home, file):
  saves = 'trap "sleep 0.3; echo saved >> $HOME/said; exit 143" TERM; touch "$HOME/up$$"'
  command(home, "seedlab", f"{saves}; while true; do sleep 0.05; done")
  command(home, "python", "exit 0")
  chips = file == "tpu_vm.sh"
  count, changes = (4, [("python3 -m venv", ": ")]) if chips else (1, [])
  task = job(home, file, 1, changes)
  deadline = time.monotonic() + 60
  while len(list(home.glob("up*"))) < count and time.monotonic() < deadline:
    time.sleep(0.02)
  task.send_signal(signal.SIGTERM)
  out, err = task.communicate(timeout=60)
  assert task.returncode == 143, (out, err)
  said = (home / "said").read_text().splitlines()
  assert said.count("saved") == count
  assert said[count:] == ["scontrol requeue 70_1"] * (not chips)


def test_every_chip_trains_a_shard_and_then_they_are_merged(home):
  command(home, "seedlab", 'echo "$TPU_VISIBLE_DEVICES" "$@" >> "$HOME/said"')
  command(home, "python", "exit 0")
  task = job(home, "tpu_vm.sh", changes=[("python3 -m venv", ": ")])
  assert task.communicate() == ("", "") and task.returncode == 0
  *shards, merge, report = (home / "said").read_text().splitlines()
  assert sorted(shards) == [
    f"{chip} sweep --config=seedlab:digits --runs=10000 --out={home}/out/digits --workers=1"
    f" --shard={chip + 1}/4"
    for chip in range(4)
  ]
  assert (merge, report) == (f" merge {home}/out/digits", f" report {home}/out/digits")
  command(home, "seedlab", '[ "$1" = sweep ] && exit 2; echo merged >> "$HOME/said"')
  (home / "said").unlink()
  task = job(home, "tpu_vm.sh", changes=[("python3 -m venv", ": ")])
  task.communicate()
  assert task.returncode == 2 and not (home / "said").exists()


def test_the_merge_waits_for_the_whole_array(home):
  for file in ("slurm_sweep.sbatch", "slurm_merge.sbatch"):
    (home / file).write_text((FILES / file).read_text())
  command(home, "sbatch", 'echo sbatch "$@" >> "$HOME/said"; wc -l < "$HOME/said"')
  variables = {"HOME": str(home), "PATH": f"{home}/seedlab/.venv/bin:{os.environ['PATH']}"}
  (home / "submit.sh").write_text((FILES / "slurm_submit.sh").read_text())
  done = subprocess.run(["bash", home / "submit.sh"], env=variables, capture_output=True, text=True)
  assert done.stdout == "job array 1, then job 2; squeue --me shows them\n"
  assert (home / "said").read_text().splitlines() == [
    "sbatch --parsable slurm_sweep.sbatch",
    "sbatch --parsable --dependency=afterok:1 slurm_merge.sbatch",
  ]


@pytest.mark.slow  # six times the imports of a command
def test_the_slurm_files_make_the_store_of_one_machine(home, tmp_path, monkeypatch):
  paths = os.pathsep.join([str(ROOT), str(HERE)])
  command(home, "seedlab", f'PYTHONPATH={paths} exec {shlex.quote(sys.executable)} -m seedlab "$@"')
  experiment = "--trainer=toy:make --lanes=vmap --width=2 --workers=1"
  changes = [("--config=seedlab:digits", experiment), ("RUNS=10000", "RUNS=20")]
  for task in (2, 3, 1):
    one = job(home, "slurm_sweep.sbatch", task, changes)
    out, err = one.communicate()
    assert one.returncode == 0, err
    assert "When all shards are there: seedlab merge" in out
  merge = job(home, "slurm_merge.sbatch")
  out, err = merge.communicate()
  assert merge.returncode == 0, err
  store = home / "out" / "digits"
  assert "20 seeds" in out and (store / "report.html").exists()
  (store / "report.html").unlink()
  chunk = records.manifest(store)["chunk"]  # which follows from the speed measured
  monkeypatch.setattr(sweeps, "_chunk", lambda seconds, width: chunk)
  with WorkerPool([CORE]) as pool:
    seedlab.sweep("toy:make", 20, tmp_path / "one", lanes="vmap", width=2, executor=pool,
                  quiet=True)  # fmt: skip
  assert_same_store(tmp_path / "one", store)


@pytest.mark.parametrize("file", sorted(FILES.glob("*.yaml")), ids=lambda file: file.name)
def test_a_kubernetes_file_is_a_job_whose_shards_are_its_pods(file):
  yaml = pytest.importorskip("yaml")
  content = yaml.safe_load(file.read_text())
  assert (content["apiVersion"], content["kind"]) == ("batch/v1", "Job")
  (container,) = content["spec"]["template"]["spec"]["containers"]
  shell, flag = container["command"]
  (text,) = container["args"]
  assert container["resources"]["requests"] == container["resources"]["limits"]
  if "sweep" in file.name:
    assert content["spec"]["completionMode"] == "Indexed"
    count, names = content["spec"]["completions"], {rule_container(one) for one in rules(content)}
    assert names == {None, container["name"]}
    shards = set()
    for index in range(count):
      words = subprocess.run(
        [shell, flag, text.replace("exec seedlab", "echo")], capture_output=True, text=True,
        env={"JOB_COMPLETION_INDEX": str(index), "PATH": os.environ["PATH"]},
      ).stdout.split()  # fmt: skip
      shards.add(words[-1])
    assert shards == {f"--shard={number}/{count}" for number in range(1, count + 1)}


def rules(content):
  return content["spec"]["podFailurePolicy"]["rules"]


def rule_container(rule):
  return rule.get("onExitCodes", {}).get("containerName")


def test_every_file_is_named_in_the_document_and_can_be_read(tmp_path):
  text = (ROOT / "docs" / "clusters.md").read_text()
  named = set(re.findall(r"\(\.\./examples/clusters/([^)]+)\)", text))
  assert named == {file.name for file in FILES.iterdir() if file.suffix != ".pyc"}
  py_compile.compile(FILES / "dask_jobqueue_sweep.py", tmp_path / "compiled.pyc", doraise=True)
  for file in [*FILES.glob("*.sh"), *FILES.glob("*.sbatch")]:
    subprocess.run(["bash", "-n", file], check=True)
