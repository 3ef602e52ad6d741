"""The soak test finds nothing where nothing is wrong, and finds what is."""

import os
import pathlib
import random
import shutil
import subprocess
import sys
import time

import pytest
from forging import reseal

from seedlab import records

SCRIPTS = pathlib.Path(__file__).parent.parent / "scripts"
EPISODE = 465  # two commands at most: two workers, processes that are stopped, the parents
REPLAY = 1  # of run 3


@pytest.fixture(scope="module")
def soak():
  """The script as a module, with the Trainer beside it."""
  sys.path.insert(0, os.fspath(SCRIPTS))
  import soak

  yield soak
  sys.path.remove(os.fspath(SCRIPTS))


@pytest.fixture(scope="module")
def soaking(soak, tmp_path_factory):
  with pytest.MonkeyPatch.context() as patch:
    for name in ("PYTHONPATH", "PYTHONFAULTHANDLER"):
      patch.setenv(name, os.environ.get(name, ""))
    patch.setattr(soak, "REPLAYS", 10)
    patch.setitem(soak.SWEEPS["loop"], "workers", 1)
    with soak.soaking(tmp_path_factory.mktemp("soak")) as made:
      step = soak.sweep_step(made, soak.SWEEPS["loop"], made.folder / "reference-loop")
      step.call()  # by the worker that the rest uses
      made.references["loop"] = soak.Reference(records.open(step.out).load(), 5.0)
      yield made


def test_an_episode_finds_nothing(soak, soaking):
  counts = soaking.counts
  soak.episode(soaking, random.Random(EPISODE), "plain", soaking.folder / "episode")
  assert counts["parents killed"] >= 1 and counts["workers killed"] >= 1, counts
  assert counts["bits flipped: noticed"] >= 5 and counts["replays"] == 10
  assert counts["bits that differ"] == counts["bits flipped: unnoticed"] == 0


def test_another_number_under_a_right_digest_is_found(soak, soaking, tmp_path, monkeypatch):
  """What no reader can notice: the soak test can, by the sweep without faults."""
  reference = soak.reference_of(soaking, "loop")
  out = tmp_path / "sweep"

  def forge(dice, out):
    writer = records.Writer(out)
    values = writer._arrays["mse"][3]
    writer._arrays["mse"][3] = -values  # one bit each
    reseal(out)
    return soak.faults.Struck(out / "mse" / "0.0", b"", True)

  monkeypatch.setattr(soak.faults, "strike", forge)
  shutil.copytree(soaking.folder / "reference-loop", out)
  with pytest.raises(soak.Found, match="was changed, and other numbers are read"):
    soak.strike(soaking, random.Random(0), out, reference)
  with pytest.raises(soak.Found, match=r"mse of run 3 .* is not what it computes"):
    monkeypatch.setattr(soak, "REPLAYS", 1)
    soak.replay(soaking, random.Random(REPLAY), out)
  with pytest.raises(soak.Found, match=r"bits of .* are not those"):
    soak.compare(soaking, out, reference)


def test_ways_in_which_a_command_may_not_end(soak, soaking, tmp_path, monkeypatch):
  reference = soak.Reference(None, 1.0)

  def ends(code: str) -> None:
    step = soak.Step([sys.executable, "-c", code], lambda: None, tmp_path)
    soak.under_faults(soaking, step, reference, [])

  ends("")
  for code, said in (
    ("import sys; sys.exit(2)", "status 2"),
    ("import sys; sys.stderr.write('Traceback')", "status 0"),
  ):
    with pytest.raises(soak.Found, match=said):
      ends(code)
  monkeypatch.setattr(soak, "PATIENCE", 0.1)
  with pytest.raises(soak.Found, match="no end after"):
    ends("import time; time.sleep(60)")


def test_a_process_that_outlives_its_parent_is_found_and_ended(soak, monkeypatch):
  monkeypatch.setattr(soak.faults, "ORPHANS_MAY_LIVE", 0.1)
  counts, code = soak.faults.Counts(), "sleep 60 & echo; wait"
  parent = subprocess.Popen(
    ["sh", "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True
  )
  parent.stdout.readline()
  with pytest.raises(soak.Found, match="1 processes outlived"):
    soak.faults.kill_parent(counts, random.Random(0), parent)
  parent.stdout.close()
  assert counts["workers that outlived their parent"] == 1
  end = time.monotonic() + 10
  while soak.faults.session(parent.pid) and time.monotonic() < end:
    time.sleep(0.02)
  assert not soak.faults.session(parent.pid)


@pytest.mark.slow
def test_minutes_of_all_kinds(tmp_path):
  done = subprocess.run(
    [sys.executable, SCRIPTS / "soak.py", "--minutes=4", "--seed=7"], capture_output=True, text=True
  )
  assert done.returncode == 0, done.stdout + done.stderr
