"""Shards: what they are called, which runs they have, where they lie."""

import pathlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedlab import shards
from seedlab.errors import UserError


def slurm(task, first, last, step, count):
  names = ("ID", "MIN", "MAX", "STEP", "COUNT")
  values = (task, first, last, step, count)
  return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in zip(names, values, strict=True)}


def sge(task, first, last, step):
  names, values = ("ID", "FIRST", "LAST", "STEPSIZE"), (task, first, last, step)
  return {f"SGE_TASK_{name}": str(value) for name, value in zip(names, values, strict=True)}


@pytest.mark.parametrize("text, shard", [("1/1", (1, 1)), ("2/7", (2, 7)), ("7/7", (7, 7))])
def test_a_shard_is_written_as_a_fraction(text, shard):
  assert shards.parse(text) == shard


@pytest.mark.parametrize(
  "text", ["0/7", "8/7", "0/0", "1.5/2", "-1/7", "2", "2/", "/7", "2/7/9", "two/seven", "", "²/7",
           "2 / 7", "2/7\n", "Auto", 2, None, ("2", "7")]
)  # fmt: skip
def test_what_names_no_shard_is_refused(text):
  with pytest.raises(UserError, match=re.escape(f"shard={text!r}") + ".*i/n"):
    shards.parse(text)


@pytest.mark.parametrize(
  "environment, shard",
  [
    (slurm(1, 1, 7, 1, 7), (1, 7)),
    (slurm(7, 1, 7, 1, 7), (7, 7)),
    (slurm(0, 0, 6, 1, 7), (1, 7)),
    (slurm(5, 1, 7, 2, 4), (3, 4)),  # --array=1-8:2: tasks 1, 3, 5, 7
    (sge(3, 1, 5, 1), (3, 5)),
    (sge(7, 1, 8, 3), (3, 3)),  # -t 1-8:3: tasks 1, 4, 7
  ],
)
def test_a_job_array_says_which_shard(environment, shard):
  assert shards.parse("auto", environment) == shard


@pytest.mark.parametrize(
  "environment, says",
  [
    ({}, "neither SLURM_ARRAY_TASK_ID nor SGE_TASK_ID"),
    ({"SGE_TASK_ID": "undefined"}, "neither"),
    ({"PBS_ARRAY_INDEX": "3"}, "PBS_ARRAY_INDEX is, .*--shard=[$]PBS_ARRAY_INDEX/N"),
    ({"JOB_COMPLETION_INDEX": "0"}, "[(]JOB_COMPLETION_INDEX [+] 1[)]"),
    ({"SLURM_ARRAY_TASK_ID": "3"}, "SLURM_ARRAY_TASK_MIN .* is missing"),
    (slurm(3, 1, 7, 1, "x"), "SLURM_ARRAY_TASK_COUNT .* 'x'"),
    (slurm(5, 1, 9, 1, 3), "left out.*--array=1-3"),  # --array=1,5,9
    (slurm(2, 1, 9, 1, 3), "left out"),
    (slurm(4, 1, 7, 2, 4), "left out"),
    (slurm(3, 3, 4, 1, 2), "count from 3.*--array=1-2 .*i/n"),  # two of a larger array again
    (slurm(8, 1, 7, 1, 7), "left out"),
    (slurm(1, 1, 7, 0, 7), "left out"),
    (slurm(1, 1, 1, 1, 0), "left out"),
  ],
)
def test_a_job_array_that_does_not_say_is_refused(environment, says):
  with pytest.raises(UserError, match=says):
    shards.parse("auto", environment)


def test_blocks_by_hand():
  runs = [5, 6, 7, 8, 20, 21, 22]
  assert [shards.block(runs, (number, 3)) for number in (1, 2, 3)] == [
    [5, 6], [7, 8], [20, 21, 22],
  ]  # fmt: skip


@given(st.integers(1, 300), st.data())
def test_blocks_are_the_runs_in_order_and_of_nearly_one_size(count, data):
  number = data.draw(st.integers(1, count))
  runs = list(range(3, 3 + count))
  blocks = [shards.block(runs, (one, number)) for one in range(1, number + 1)]
  assert [run for block in blocks for run in block] == runs
  sizes = {len(block) for block in blocks}
  assert max(sizes) - min(sizes) <= 1 <= min(sizes)


def test_more_shards_than_runs_are_refused():
  with pytest.raises(UserError, match="shard=1/3: 2 runs cannot be split into 3 shards"):
    shards.block([0, 1], (1, 3))


def test_a_shard_lies_beside_its_sweep(monkeypatch, tmp_path):
  assert shards.place("out/a.b", (2, 7)) == pathlib.Path("out/a.b.shards/2-of-7")
  assert shards.place("out/a/", (1, 7)) == pathlib.Path("out/a.shards/1-of-7")
  monkeypatch.chdir(tmp_path)
  assert shards.folder(".") == tmp_path.with_name(tmp_path.name + ".shards")
  with pytest.raises(UserError, match="has no name"):
    shards.place("/", (1, 2))
