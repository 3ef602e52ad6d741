"""What is stored of a run is compared with what it computes, whatever the seals say.

Also by `seedlab verify`: certificates, tables, samples; and a store brings in no code by itself.
"""

import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import toy
import zarr
from forging import reseal

import seedlab
from seedlab import (
  certificates,
  seals,
  verifying,
)
from seedlab.errors import Damaged, UserError
from seedlab.pool import WorkerPool

HERE = pathlib.Path(__file__).parent
CORE = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
RUNS, WIDTH = 20, 4


def _changed(store, name, at, value):
  group = zarr.open_group(store, mode="r+", zarr_format=2, use_consolidated=False)
  group[name][at] = value


def test_a_changed_number_fails_the_replay_even_if_it_was_sealed_again(tmp_path):
  out = str(tmp_path / "s")
  true = seedlab.sweep("toy:make", 4, out, workers=1, quiet=True).mse.values[2, -1]
  _changed(out, "mse", (2, -1), np.float32(0.001))
  with pytest.raises(Damaged, match=r"mse of run 2;"):
    seedlab.replay(out, 2, trust_code=True)
  reseal(out)
  replay = seedlab.replay(out, 2, trust_code=True)
  assert replay.recorded == replay.computed and replay.different == ["mse"]
  assert not replay.exact and not replay.passed
  assert "the state is as recorded, but the stored mse of run 2 is not" in replay.verdict(out)
  assert seedlab.replay(out, 1, trust_code=True).exact  # another run's row is as it was
  _changed(out, "mse", (2, -1), true)
  _changed(out, "diverged", 2, 7)
  reseal(out)
  assert seedlab.replay(out, 2, trust_code=True).different == ["diverged"]


# --- seedlab verify


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """(the store of RUNS runs of a toy, of which run 3 diverged and run 7 failed, a pool)."""
  out = tmp_path_factory.mktemp("verify") / "s"
  with WorkerPool([CORE]) as pool:
    options = {"lanes": "vmap", "width": WIDTH, "executor": pool, "quiet": True}
    arguments = {"steps": 9, "explode_below": 10}
    dataset = seedlab.sweep("toy:make", RUNS, out, arguments=arguments, **options)
    assert (dataset.diverged.values >= 0).any()
    _changed(out, "completed", 7, False)
    _changed(out, "failed", 7, b"out of memory")
    reseal(out)
    yield out, pool


@pytest.fixture
def store(trained, tmp_path):
  return pathlib.Path(shutil.copytree(trained[0], tmp_path / "s"))


def verify(store, pool, sample=20, **options):
  options = {"executor": pool, "trainer": toy.make, "quiet": True, **options}
  return seedlab.verify(store, sample, **options)


def test_a_sample_is_drawn_by_the_root_and_trained_again(trained):
  """By hand: what is a leaf, which runs are drawn, which tasks trained them."""
  out, pool = trained
  dataset = seedlab.open(out)
  there = dataset.completed.values
  assert (dataset.diverged.values[there] >= 0).any()  # a run that diverged is a leaf
  runs, digests = dataset.run.values[there].tolist(), dataset.run_digest.values[there].astype(str)
  leaves = dict(zip(runs, digests.tolist(), strict=True))
  assert verifying.digests(out) == leaves and len(leaves) == RUNS - 1 and 7 not in leaves
  before = pool._submitted
  found = verify(out, pool, 6)
  assert pool._submitted - before == 2  # lanes of one program: 6 runs in groups of 4
  root = certificates.root(leaves)
  ranks = {run: hashlib.sha256(f"{root} {root} {run}".encode()).hexdigest() for run in leaves}
  assert [one.run for one in found.replays] == sorted(sorted(ranks, key=ranks.get)[:6])
  assert found.passed and all(one.exact for one in found.replays)
  written = found.certificate
  assert written["root"] == root and written["runs"] == 19 and written["left_out"] == 1
  assert written["drawn"] == written["exact"] == [one.run for one in found.replays]
  manifest = json.loads((out / ".zmetadata").read_text())
  assert written["manifest_sha256"] == manifest["seedlab_sha256"]
  (one,) = dataset.attrs["fingerprints"]
  assert written["fingerprints"] == [hashlib.sha256(seals.canonical(one)).hexdigest()]
  assert written["devices"] == [one["device"].get("model_name", one["device"]["kind"])]
  assert "left out    1 run not finished or failed" in found.text()
  assert "6 runs of 19 by the root as seed, and trained again" in found.text()
  chance = 1 - (16 * 15 * 14 * 13 * 12 * 11) / (19 * 18 * 17 * 16 * 15 * 14)  # 3 of 19 made up
  assert f"probability of {100 * chance:.0f} %" in found.text()


def test_made_up_runs_are_caught_where_they_are_drawn(trained, store):
  """Numbers of two runs, with every digest made again as a forger would."""
  for run in (2, 11):
    _changed(store, "mse", (run, -1), np.float32(0.001))
  reseal(store)
  found = verify(store, trained[1], 99)
  assert [one.run for one in found.replays if not one.exact] == [2, 11]
  assert not found.passed and found.certificate is None
  assert "DIFFERENT   run 2: the state is as recorded, but the stored mse" in found.text()
  leaves = list(verifying.digests(store))
  seed = next(str(n) for n in range(999)
              if not {2, 11} & set(certificates.draw(found.root, str(n), leaves, 3)))  # fmt: skip
  assert verify(store, trained[1], 3, seed=seed).passed  # a sample is a sample


def test_damage_is_named_and_nothing_is_trained(trained, store):
  _changed(store, "mse", (2, -1), np.float32(0.001))
  _changed(store, "prediction", (5, 3), np.float32(0.001))
  before = trained[1]._submitted
  found = verify(store, trained[1])
  assert not found.passed and trained[1]._submitted == before and found.certificate is None
  said = found.text()
  assert "damaged     mse of run 2: not what" in said and "prediction of run 5" in said
  assert "run the sweep's command again, which trains the damaged runs again" in said
  shutil.rmtree(store / "run_digest")
  assert "run_digest" in verify(store, trained[1], 0).text()


def test_runs_of_another_fingerprint_are_left_open(trained, store):
  content = json.loads((store / ".zmetadata").read_text())
  content["metadata"][".zattrs"]["fingerprints"][0]["jax"] = "9.9"
  (store / ".zmetadata").write_text(json.dumps(content))
  reseal(store)
  assert verify(store, trained[1], 2).passed  # the same bits all the same
  _changed(store, "mse", (slice(None), -1), np.float32(0.5))
  reseal(store)
  found = verify(store, trained[1], 2)
  assert not found.passed and found.certificate is None
  assert "DIFFERENT" not in found.text() and "(jax: 9.9 -> " in found.text()


def test_a_store_of_an_earlier_release_has_a_sample_and_no_certificate():
  found = seedlab.verify(HERE / "golden" / "layout2", 1, workers=1, quiet=True)
  assert found.certificate is None and not found.sealed and len(found.replays) == 1
  assert found.replays[0].passed and "digests     none: the store is of an" in found.text()
  with pytest.raises(UserError, match=r"layout2' has no digests: .* into another directory"):
    verifying.digests(HERE / "golden" / "layout2")


FIELDS = [*certificates.of_digests({1: "a" * 64}, None, 1), *certificates.OF_THE_STORE,
          *certificates.UNCHECKABLE, "sha256"]  # fmt: skip


def test_a_certificate_of_the_store_forged_in_each_field(trained):
  """Whatever a certificate holds; with its checksum made again, as a forger would."""
  out, pool = trained
  true = verify(out, pool, 2).certificate
  assert list(true) == FIELDS
  assert verify(out, pool, 0, certificate=true).passed
  for field, value in true.items():
    if field in ("drawn", "format"):
      continue  # below, and refused when it is read
    other = {list: [], str: "0" * 64, int: 5}[type(value)]
    forged = {name: one for name, one in true.items() if name != "sha256"} | {field: other}
    forged = true | {field: other} if field == "sha256" else certificates.sealed(forged)
    found = verify(out, pool, 0, certificate=forged)
    if field in certificates.UNCHECKABLE:
      assert found.passed
      continue
    assert not found.passed and found.certificate is None
    named = "drawn" if field == "seed" else field
    assert any(one.startswith(f"{named} is ") for one in found.objections), field
    assert f"FORGED      the certificate: {found.objections[0]}" in found.text()
  drawn = [run for run in range(RUNS) if run not in true["drawn"]][:2]
  forged = {name: one for name, one in true.items() if name != "sha256"}
  forged = certificates.sealed(forged | dict.fromkeys(["drawn", "exact"], drawn))
  found = verify(out, pool, 0, certificate=forged)
  assert found.objections[0].startswith(f"drawn is {true['drawn']} by this root and seed")


def test_a_certificate_of_another_state_of_the_store(trained, store):
  true = verify(store, trained[1], 2).certificate
  _changed(store, "mse", (2, -1), np.float32(0.001))
  reseal(store)
  found = verify(store, trained[1], 5, certificate=true)
  assert found.objections[0].startswith("root is ") and not found.replays


def test_the_command(trained, store, tmp_path):
  """In processes of its own: the files that it writes, its status, a stranger's check."""

  def run(*arguments, status=0):
    done = subprocess.run(
      [sys.executable, "-m", "seedlab", "verify", *map(str, arguments)],
      capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": PATH},
    )  # fmt: skip
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr

  PATH = os.pathsep.join([str(HERE.parent), str(HERE)])
  file, table = tmp_path / "s.certificate.json", tmp_path / "digests.csv"
  before = sorted(store.rglob("*"))
  said = run(store, "--sample=2", "--workers=1", f"--table={table}", "--trust_code")
  assert f"certificate {file}" in said and f"table       {table}" in said
  assert sorted(store.rglob("*")) == before and certificates.read(file)["exact"]
  said = run(f"--certificate={file}", f"--table={table}")
  assert "that of the table's 19 digests" in said and "unchecked   left_out, manifest" in said
  rows = table.read_text().splitlines()
  table.write_text("\n".join([*rows[:-1], rows[-1][:-1] + "0"]))
  assert "FORGED" in run(f"--certificate={file}", f"--table={table}", status=1)
  _changed(store, "mse", (2, -1), np.float32(0.001))
  assert "mse of run 2" in run(store, f"--certificate={file}", status=1)


@pytest.mark.parametrize(
  "options, says",
  [
    ({"sample": -1}, "sample=-1 must be 0 or more"),
    ({"sample": 1.5}, "sample=1.5 must be a whole number"),
    ({"seed": ""}, "must be a text of one line"),
    ({"workers": 0}, "workers=0 must lie between"),
  ],
)
def test_wrong_input_is_one_line(trained, options, says):
  with pytest.raises(UserError, match=says):
    seedlab.verify(trained[0], **{"trainer": toy.make, "quiet": True, **options})


def test_where_a_certificate_may_not_be(store):
  with pytest.raises(UserError, match="lies inside the store"):
    certificates.check_place(store / "c.json", store)
  with pytest.raises(UserError, match="cannot be written"):
    certificates.check_place(store / "none" / "c.json", store)
  with pytest.raises(UserError, match="cannot be written"):
    certificates.check_place(store.parent, store)


def test_a_store_without_a_finished_run_is_one_line(store):
  _changed(store, "completed", slice(None), False)
  with pytest.raises(UserError, match="has no finished run; run its sweep's command first"):
    seedlab.verify(store, 0, quiet=True)
