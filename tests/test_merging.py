"""Shards that were trained apart, in one store: the bytes of one machine's, and every refusal."""

import errno
import json
import os
import pathlib
import shutil

import forked
import numpy as np
import pytest
import zarr
from forging import reseal
from stores import assert_same_store

import seedlab
from seedlab import records, seals, shards, sweeps
from seedlab.errors import Damaged, UserError
from seedlab.pool import WorkerPool

HERE = pathlib.Path(__file__).parent
RUNS = 20
CORE = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
GOLDEN = HERE / "golden" / "layout2"


def train(pool, out, runs, shard=None, **options):
  place = shards.place(out, shard) if shard else out
  numbers = shards.block(runs, shard) if shard else runs
  options = {"planned_n": len(runs), "seeds": {}, "arguments": {"steps": 9}, **options}
  seedlab.sweep("toy:make", numbers, place, lanes="vmap", width=2, executor=pool, quiet=True,
                **options)  # fmt: skip
  if shard:
    edit(place, shard=list(shard))
  return place


def edit(store, **attributes):
  """Changes the manifest, as whoever wrote it would have."""
  file = store / ".zmetadata"
  content = json.loads(file.read_text())
  content["metadata"][".zattrs"] |= attributes
  file.write_text(json.dumps(content))
  reseal(store)


def change(store, name, row, value):
  """Changes a number, and its digests with it."""
  zarr.open_group(os.fspath(store), mode="r+", use_consolidated=False)[name][row] = value
  reseal(store)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """A directory with `one`, a sweep of RUNS runs, and the shards of `s1`, `s3` and `s7`; a pool."""
  folder = tmp_path_factory.mktemp("shards")
  with pytest.MonkeyPatch.context() as patch, WorkerPool([CORE]) as pool:
    patch.setattr(sweeps, "_CHUNK_SECONDS", 0.0)  # a chunk is as wide as the program
    train(pool, folder / "one", range(RUNS))
    for count in (1, 3, 7):
      for number in range(1, count + 1):
        train(pool, folder / f"s{count}", range(RUNS), (number, count))
    yield folder, pool


@pytest.fixture
def three(trained, tmp_path):
  """Where to merge to, beside a copy of three shards."""
  shutil.copytree(trained[0] / "s3.shards", tmp_path / "s.shards")
  return tmp_path / "s"


def part(out, number):
  return shards.place(out, (number, 3))


@pytest.mark.parametrize("count", [1, 3, 7])
def test_shards_merge_into_the_store_of_one_machine(trained, tmp_path, count, capsys):
  folder, _ = trained
  shutil.copytree(folder / f"s{count}.shards", tmp_path / "s.shards")
  merged = seedlab.merge(tmp_path / "s")
  assert f"holds {RUNS} runs, merged from {count} part" in capsys.readouterr().err
  assert merged.run.values.tolist() == list(range(RUNS)) and merged.completed.values.all()
  assert "shard" not in merged.attrs and merged.attrs["planned_n"] == RUNS
  assert records.damage(tmp_path / "s") == []
  assert_same_store(folder / "one", tmp_path / "s")


def test_a_crossed_design(trained, tmp_path):
  """Whose seeds are not the numbers of the runs."""
  seeds = {"design": "crossed", "vary": ["init", "order"], "levels": [2, 3]}
  numbers = sweeps.run_numbers(None, sweeps.experiment("toy:make", seeds=seeds).seeds)
  whole = train(trained[1], tmp_path / "whole", numbers, seeds=seeds)
  seedlab.merge(tmp_path / "s", [whole], quiet=True)
  assert records.damage(tmp_path / "s") == []
  assert len(np.unique(seedlab.open(tmp_path / "s").seed_order)) == 3
  assert_same_store(whole, tmp_path / "s")


def test_a_merged_store_is_extended_and_nothing_in_it_is_replaced(three):
  parts = [part(three, number) for number in (1, 2, 3)]
  with pytest.raises(UserError, match=r"1 shard missing: 2-of-3; .* --shard=2/3"):
    seedlab.merge(three, [parts[0], parts[2]])
  assert not three.exists()
  seedlab.merge(three, [parts[0], parts[2]], unfinished=True, quiet=True)
  before = {path: path.read_bytes() for path in three.glob("mse/0.*")}
  merged = seedlab.merge(three, parts, quiet=True)
  assert sorted(merged.run.values) == list(range(RUNS)) and merged.completed.values.all()
  assert before and all(path.read_bytes() == content for path, content in before.items())
  assert records.damage(three) == []


def test_runs_in_two_parts_are_taken_once_if_they_agree(trained, three):
  parts = [trained[0] / "one", *(part(three, number) for number in (1, 2, 3))]
  seedlab.merge(three, parts, quiet=True)
  assert_same_store(trained[0] / "one", three)
  shutil.rmtree(three)
  change(part(three, 2), "mse", 1, 0.5)
  second = records.manifest(part(three, 2))["runs"][0][0] + 1
  with pytest.raises(UserError, match=rf"^run {second}: .*one' and .*2-of-3.*--shard=2/3.* differ"):
    seedlab.merge(three, parts)
  assert not three.exists()
  shutil.copytree(trained[0] / "one", three)
  with pytest.raises(UserError, match=rf"^run {second}: '{three}' and .*2-of-3"):
    seedlab.merge(three)
  assert_same_store(trained[0] / "one", three)


@pytest.mark.parametrize(
  "name, value, says",
  [
    ("trainer", {"function": "toy:make", "arguments": {"steps": 8}}, "trainer.arguments.steps: 9"),
    ("planned_n", 7, "planned_n: 20 -> 7"),
    ("claims", [{"claim": "b better than a"}], "claims"),
    ("evaluation_digest", "0" * 64, "evaluation_digest"),
    ("data_digest", "0" * 64, "data_digest"),
    ("metrics", [], "metrics"),
    ("design", "crossed", "design: joint -> crossed"),
  ],
)
def test_parts_of_another_sweep_are_refused(three, name, value, says):
  if name == "trainer":
    known = records.manifest(part(three, 3))["trainer"]
    value = {**known, "arguments": {**known["arguments"], **value["arguments"]}}
  edit(part(three, 3), **{name: value})
  with pytest.raises(UserError, match=rf"3-of-3' .*is not of the same sweep as .*1-of-3.*{says}"):
    seedlab.merge(three)
  assert not three.exists()


def test_a_damaged_part_is_refused_with_array_run_and_command(three):
  file = sorted((part(three, 2) / "mse").glob("1.*"))[0]
  content = bytearray(file.read_bytes())
  content[-1] ^= 1
  file.write_bytes(content)
  first = records.manifest(part(three, 2))["runs"][0][0]
  with pytest.raises(Damaged, match=rf"2-of-3'.*mse of run.*{first + 3}.*--shard=2/3.*nothing was"):
    seedlab.merge(three)
  assert not three.exists()


def test_mixed_fingerprints_must_be_asked_for(three):
  (known,) = records.manifest(part(three, 2))["fingerprints"]
  edit(part(three, 2), fingerprints=[{**known, "jax": "9.9"}])
  with pytest.raises(UserError, match=r"2-of-3.*another fingerprint.*jax: .* -> 9.9.*--new_fing"):
    seedlab.merge(three)
  merged = seedlab.merge(three, new_fingerprint=True, quiet=True)
  assert [one["jax"] for one in merged.attrs["fingerprints"]] == [known["jax"], "9.9"]
  there = merged.fingerprint.values == 1
  assert merged.run.values[there].tolist() == seedlab.open(part(three, 2)).run.values.tolist()
  assert records.damage(three) == []


def test_runs_that_are_not_finished_are_refused_or_left_to_the_sweep(trained, three):
  folder, _ = trained
  group = zarr.open_group(os.fspath(part(three, 2)), mode="r+", use_consolidated=False)
  group["completed"][1:3] = False
  group["failed"][2] = b"killed by its worker"
  reseal(part(three, 2))
  first = records.manifest(part(three, 2))["runs"][0][0]
  says = (rf"2-of-3': 1 run not finished \({first + 1}\), 1 run failed \({first + 2}\);"
          r".*--shard=2/3 and --retry_failed")  # fmt: skip
  with pytest.raises(UserError, match=says):
    seedlab.merge(three)
  merged = seedlab.merge(three, unfinished=True, quiet=True)
  lacking = merged.run.values[~merged.completed.values]
  assert lacking.tolist() == [first + 1, first + 2]
  assert merged.failed.values[first + 2] == b"killed by its worker"
  assert records.damage(three) == []
  # The shard is finished elsewhere, and merged again.
  shutil.rmtree(part(three, 2))
  shutil.copytree(folder / "s3.shards" / "2-of-3", part(three, 2))
  seedlab.merge(three, quiet=True)
  assert_same_store(folder / "one", three)


def test_a_kill_or_a_full_disk_between_any_two_writes(trained, three):
  """The same call again ends with the same bytes."""

  class Killed(BaseException):
    pass

  original = records.zarr.Array.__setitem__
  full = OSError(errno.ENOSPC, "no space left")
  for after, stop in ((3, Killed()), (40, Killed()), (17, full), (11, Killed()), (33, full)):
    left = after

    def write(array, where, values, stop=stop):
      nonlocal left
      left -= 1
      if left < 0:
        raise stop
      original(array, where, values)

    with pytest.MonkeyPatch.context() as patch, pytest.raises((Killed, UserError)):
      patch.setattr(records.zarr.Array, "__setitem__", write)
      seedlab.merge(three, quiet=True)
  merged = seedlab.open(three)
  assert 0 < merged.completed.values.sum() < RUNS  # the last one was stopped in the middle, too
  seedlab.merge(three, quiet=True)
  assert_same_store(trained[0] / "one", three)


def test_what_cannot_be_merged_is_one_line(trained, three, tmp_path):
  with pytest.raises(UserError, match=r"a.shards' holds no shards of .*--shard=i/n"):
    seedlab.merge(tmp_path / "a")
  with pytest.raises(UserError, match="cannot be merged into itself"):
    seedlab.merge(three, [part(three, 1), three])
  with pytest.raises(UserError, match="layout2' was written by an earlier release"):
    seedlab.merge(three, [GOLDEN])
  shutil.copytree(GOLDEN, three)
  with pytest.raises(UserError, match="s' was written by an earlier release"):
    seedlab.merge(three)
  shutil.rmtree(three)
  three.mkdir()
  (three / "notes.txt").touch()
  with pytest.raises(UserError, match="is not empty and holds no seedlab store"):
    seedlab.merge(three)


@pytest.mark.parametrize(
  ("file", "content"),
  [
    ("prediction/4.0", None),
    ("target/0", None),
    ("evaluation/0", b"no number"),
    ("failed/4", b"no number"),
    ("run_digest/4", b"no number"),
  ],
)
def test_a_damaged_merged_store_is_mended_by_merging_again(trained, three, file, content):
  seedlab.merge(three, quiet=True)
  assert (three / file).exists()
  (three / file).unlink() if content is None else (three / file).write_bytes(content)
  assert records.damage(three)
  seedlab.merge(three, quiet=True)
  assert_same_store(trained[0] / "one", three)


def test_numbers_that_change_meanwhile_are_noticed(three, monkeypatch):
  from seedlab import merging

  original = merging._columns

  def changed(*arguments):
    columns = original(*arguments)
    columns["mse"][0] += 1
    return columns

  monkeypatch.setattr(merging, "_columns", changed)
  with pytest.raises(Damaged, match=r"rows 0, 2, 4, .* changed while they were copied"):
    seedlab.merge(three, quiet=True)


def test_the_command(trained, three):
  done = forked.command("merge", three, cwd=HERE.parent)
  assert "merged from 3 parts" in done.stderr and f"seedlab report {three}" in done.stdout
  assert seals.as_ranges(seedlab.open(three).run.values) == [[0, RUNS]]
