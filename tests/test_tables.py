"""Tables of results from anywhere: what they are taken for, and what is refused."""

import json
import math
import pathlib
import subprocess
import textwrap
import time

import forked
import numpy as np
import pandas as pd
import pytest

from seedlab import comparisons, findings, report, tables
from seedlab.errors import UserError
from seedlab.report import words
from seedlab.stats import repeats
from seedlab.tables import formats


def write(path: pathlib.Path, text: str) -> pathlib.Path:
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(textwrap.dedent(text).lstrip("\n"))
  return path


@pytest.fixture
def file(tmp_path):
  """text, name -> the file of that content."""
  return lambda text, name="t.csv": write(tmp_path / name, text)


def values(table: tables.Table) -> dict[tuple[str, int], float | str]:
  """(variant, seed) -> value, "diverged" or "missing"; a task stands in front of it."""
  found = {}
  for row in table.frame.itertuples():
    assert math.isnan(row.value) or not row.diverged
    value = "diverged" if row.diverged else "missing" if math.isnan(row.value) else row.value
    found[(*filter(None, [row.task]), row.variant, row.seed)] = value
  return found


def refused(source, match: str, **options) -> None:
  with pytest.raises(UserError, match=match) as caught:
    findings.examine_table(tables.read(source, **options))
  assert len(str(caught.value).splitlines()) == 1


EXPECTED = {("A", 0): 0.9308, ("A", 1): 0.935, ("B", 0): 0.94, ("B", 1): 0.9412}
PLAIN = """
  variant,seed,acc
  A,0,0.9308
  A,1,0.935
  B,0,0.94
  B,1,0.9412
"""


# Formats.


@pytest.mark.parametrize(
  ("name", "text"),
  [
    ("t.csv", PLAIN),
    ("t.tsv", PLAIN.replace(",", "\t")),
    ("no_suffix", PLAIN),
    ("t.csv", PLAIN.replace(",", ";")),
    ("t.csv", PLAIN.replace(",", ";").replace(".", ",")),
    ("t.csv", "\ufeff" + textwrap.dedent(PLAIN).lstrip()),
    ("t.csv", PLAIN.replace("\n", "\n\n")),
    ("t.csv", PLAIN.replace("variant", '" variant "')),
    ("t.csv", "variant,seed,acc\nA,0,93.08%\nA,1,93.5 %\nB,0,94%\nB,1,94.12%\n"),
    ("t.csv", ",variant,seed,acc,\n0,A,0,.9308,\n1,A,1,.935,\n2,B,0,.94,\n3,B,1,.9412,\n"),
    ("t.csv", "Unnamed: 0,variant,seed,acc\n0,A,0,.9308\n1,A,1,.935\n2,B,0,.94\n3,B,1,.9412\n"),
    ("t.csv", "# by hand\n#{}\n" + textwrap.dedent(PLAIN).lstrip()),
    ("t.txt", PLAIN.replace(",", " | ").replace("\n  ", " |\n  | ").strip() + " |"),
    (
      "t.jsonl",
      '{"variant": "A", "seed": 0, "acc": 0.9308}\n{"variant": "A", "seed": 1, "acc": 0.935}\n\n'
      '{"acc": 0.94, "variant": "B", "seed": 0}\n{"variant": "B", "seed": 1, "acc": 0.9412}\n',
    ),
    (
      "t.json",
      '[{"variant": "A", "seed": 0, "acc": 0.9308}, {"variant": "A", "seed": 1, "acc": 0.935},'
      '{"variant": "B", "seed": 0, "acc": 0.94}, {"variant": "B", "seed": 1, "acc": 0.9412}]',
    ),
    (
      "t.json",
      '{"variant": ["A", "A", "B", "B"], "seed": [0, 1, 0, 1],'
      '"acc": [0.9308, 0.935, 0.94, 0.9412]}',
    ),
    (
      "t.json",
      '{"variant": {"0": "A", "1": "A", "2": "B", "3": "B"},'
      '"seed": {"0": 0, "1": 1, "2": 0, "3": 1},'
      '"acc": {"0": 0.9308, "1": 0.935, "2": 0.94, "3": 0.9412}}',
    ),
  ],
)
def test_the_same_runs_in_every_format(file, name, text):
  table = tables.read(file(text, name))
  assert values(table) == EXPECTED
  assert (table.metric, table.seeded, table.repeats) == ("acc", True, None)
  assert table.frame.dtypes.map(str).to_dict() | {"variant": "", "task": ""} == {
    "variant": "",
    "seed": "int64",
    "task": "",
    "value": "float64",
    "diverged": "bool",
  }


def test_wide_characters_parquet_and_frames_are_read_too(tmp_path, file):
  frame = pd.read_csv(file(PLAIN))
  path = tmp_path / "t.parquet"
  frame.to_parquet(path)
  wide = tmp_path / "wide.csv"
  wide.write_text(textwrap.dedent(PLAIN).lstrip(), encoding="utf-16")
  for source in (frame, path, wide, frame.set_index(["variant", "seed"])):
    table = tables.read(source)
    assert values(table) == EXPECTED and tables.is_table(source)
  assert tables.read(table) is table
  assert tables.read(path).described[0] == "t.parquet: Parquet, 4 rows"
  assert tables.read(file(PLAIN.replace(",", ";").replace(".", ","))).described[0] == (
    "t.csv: CSV with semicolons and decimal commas, 4 rows"
  )


def test_three_lines_say_what_was_read(file):
  path = file("""
    method,config.seed,_runtime,lr,val/acc,dataset
    A,0,12.5,0.1,0.9,cifar
    A,1,12.6,0.1,diverged,cifar
    B,0,12.7,0.1,0.8,cifar
    B,1,12.8,0.1,,cifar
  """)
  table = tables.read(path)
  assert table.described == (
    "t.csv: CSV, 4 rows",
    "variant: method; seed: config.seed; metric: val/acc; task: dataset; step: none; ignored as"
    " bookkeeping: _runtime; not used: lr",
    "2 variants, 2 seeds, 1 task, 4 runs of which 1 without a value and 1 diverged, no repeats",
  )


# Cells.


ABSENT = (
  "new has no rows for seeds 0, 3, 5 and 9 that base has: if those runs failed or diverged, add"
  " them with an empty cell or the word diverged, since a table without them flatters new; as"
  " long as the seeds are not the same, runs are no pairs"
)


def rows_of(variant: str, seeds) -> str:
  return "".join(f"{variant},{seed},0.{50 + seed}\n" for seed in seeds)


def test_rows_that_one_variant_lacks_are_said(file):
  head, kept = "variant,seed,acc\n", (1, 2, 4, 6, 7, 8)
  table = tables.read(file(head + rows_of("base", range(10)) + rows_of("new", kept)))
  assert table.warnings == (ABSENT,)
  assert "16 runs of which 0 without a value" in table.described[2]
  empty = "".join(f"new,{seed},\n" for seed in (0, 3, 5, 9))  # those runs written down
  whole = head + rows_of("base", range(10)) + rows_of("new", kept) + empty
  assert tables.read(file(whole)).warnings == ()
  # Many are counted, one is a seed, both sides are named, and of several variants all that have it.
  many = tables.read(file(head + rows_of("a", range(9)) + rows_of("b", (7, 8, 9))))
  assert "b has no rows for seeds 0, 1, 2, 3 and 3 more that a has" in many.warnings[1]
  assert "a has no rows for seed 9 that b has" in many.warnings[0]
  three = head + rows_of("a", range(4)) + rows_of("b", range(4)) + rows_of("c", range(3))
  assert "c has no rows for seed 3 that a and b have" in "".join(tables.read(file(three)).warnings)
  # Not where the seeds are others, nor where there are none.
  for text in (
    head + rows_of("a", range(4)) + rows_of("b", range(3, 9)),
    (head + rows_of("a", range(4)) + rows_of("b", range(3))).replace("seed", "note"),
    "dataset," + head + "x," + rows_of("a", range(2)).replace("\n", "\nx,", 1) + "y,b,5,.5\n",
  ):
    assert tables.read(file(text), metric="acc").warnings == ()
  on = "dataset,variant,seed,acc\nx,a,0,.5\nx,a,1,.5\nx,b,0,.5\nx,b,1,.5\nx,b,2,.5\ny,a,2,.6\n"
  assert "a on x has no rows for seed 2 that b has" in tables.read(file(on)).warnings[0]
  crowd = "".join(rows_of(f"v{n}", range(2 + n)) for n in range(8))
  notes = tables.read(file(head + crowd)).warnings
  assert len(notes) == 5 and notes[4] == "3 more variants lack rows for seeds that others have"


def test_rows_that_another_file_has_are_said(file):
  base = file("seed,acc\n" + "".join(f"{s},.5{s}\n" for s in range(10)), "base.csv")
  new = file("seed,acc\n" + "".join(f"{s},.6{s}\n" for s in (1, 2, 4, 6, 7, 8)), "new.csv")
  for session in (False, True):  # of proposals with fewer seeds, which are no loss
    lines = []
    findings.opened([base, new], None, lines.append, session=session)
    assert lines[2:] == [f"Note: {ABSENT}."] * (not session)
  lines = []
  findings.opened([base, base], None, lines.append)
  assert len(lines) == 2
  both = "variant,seed,acc\n" + rows_of("base", range(4)) + rows_of("new", range(3))
  lines = []  # what was said of one table is not said again
  findings.opened([file(both), file("seed,acc\n50,.5\n51,.6\n", "far.csv")], None, lines.append)
  assert "".join(lines).count("has no rows") == 1


def test_names_are_text(file):
  written = ["0010", "10", "12e4567", "98e7654", "1.0", "1", "True", "true", "NA", "nan", "1e3"]
  rows = "".join(f"{name},{seed},{n}.5\n" for n, name in enumerate(written) for seed in (0, 1))
  text = "variant,seed,m\n" + rows
  table = tables.read(file(text))
  assert list(dict.fromkeys(table.frame["variant"])) == written
  assert [one.name for one in findings.examine_table(table)] == written
  lines = "".join(
    json.dumps({"variant": name, "seed": seed, "m": n + 0.5}) + "\n"
    for n, name in enumerate(written)
    for seed in (0, 1)
  )
  assert values(tables.read(file(lines, "t.jsonl"))) == values(table)
  for column, names in (
    ([1, 1, 10, 10], ["1", "10"]),
    ([1.0, 1.0, 0.5, 0.5], ["1.0", "0.5"]),
    ([True, True, False, False], ["True", "False"]),
    (np.array([1, 1, "1.0", True], object), ["1", "1.0", "True"]),
    (pd.Categorical(["b", "b", "a", "a"]), ["b", "a"]),
  ):
    frame = pd.DataFrame({"variant": column, "seed": [0, 1, 0, 1], "m": [1.0, 2.0, 3.0, 4.0]})
    assert list(dict.fromkeys(tables.read(frame).frame["variant"])) == names


def test_missing_is_not_diverged(file):
  path = file("""
    variant,seed,acc
    A,0,0.5
    A,1,
    A,2,nan
    A,3,NA
    A,4,-
    A,5,inf
    A,6,diverged
    A,7,Crashed
    A,8,-inf
  """)
  table = tables.read(path)
  assert list(values(table).values()) == [0.5, *["missing"] * 4, *["diverged"] * 4]
  (found,) = findings.examine_table(table)
  assert (found.completed, found.planned, found.missing, found.diverged) == (5, 9, 4, 4)
  assert found.run_R.tolist() == [0, 5, 6, 7, 8] and found.design_R.tolist() == list(range(9))
  assert found.columns[0].values.tolist() == [50]
  frame = pd.DataFrame({"seed": range(4), "m": [1.0, math.nan, math.inf, None]})
  assert list(values(tables.read(frame)).values()) == [1, "missing", "diverged", "missing"]
  one = [{"seed": n, "m": value} for n, value in enumerate([1, math.nan, math.inf, None])]
  assert values(tables.read(file(json.dumps(one), "t.json"))) == values(tables.read(frame))


@pytest.mark.parametrize(
  ("cells", "between", "expected"),
  [
    (["1,234.5", "950"], ",", [1234.5, 950]),
    (["1,234,567", "1,234"], ",", [1234567, 1234]),
    (["1.234,5", "950", "1.234"], ";", [1234.5, 950, 1234]),
    (["0,93", "0,935"], ",", [0.93, 0.935]),
    (["3,281", "3,279"], ";", [3.281, 3.279]),
    (["93,08%", "94,1%"], ";", [0.9308, 0.941]),
    (["93.08%", "nan"], ",", [0.9308, math.nan]),
    (["1e-3", "-2.5E+2", "+.5"], ",", [1e-3, -250, 0.5]),
    (["\u22121.5", "2"], ",", [-1.5, 2]),
  ],
)
def test_numbers_as_people_write_them(file, cells, between, expected):
  rows = "".join(f'{n}{between}"{cell}"\n' for n, cell in enumerate(cells))
  table = tables.read(file(f"seed{between}acc\n{rows}"))
  np.testing.assert_array_equal(table.frame["value"], expected)


@pytest.mark.parametrize(
  ("cells", "message"),
  [
    (["1,234", "1,235"], "acc='1,234' in line 2 may be two numbers, as its sign may be a decimal"),
    (["93.1%", "0.93"], "acc='0.93' in line 3 has no percent sign, and others have one; write"),
    (["0.93", "93.1%", "0.9"], "acc='93.1%' in line 3 has a percent sign, and others have none"),
    (["nan", "high", "93.1%"], "acc='high' in line 3 is not a number; leave the cell empty"),
    (["0,93", "0.93"], "acc='0.93' in line 3 has a decimal point, and others a decimal comma"),
    (["1", "high"], "acc='high' in line 3 is not a number; leave the cell empty"),
    (["1", "1_000"], "acc='1_000' in line 3"),
    (["1", "1e200"], r"acc=1e200 in line 3 is above 1e\+100: its square overflows"),
  ],
)
def test_numbers_that_may_mean_two_things_are_refused(file, cells, message):
  rows = "".join(f'{n},"{cell}"\n' for n, cell in enumerate(cells))
  refused(file(f"seed,acc\n{rows}"), message)


def test_a_point_in_a_file_of_decimal_commas_may_mean_thousands(file):
  path = file("seed;other;loss\n0;1,5;3.281\n1;1,6;3.279\n")
  refused(path, "loss='3.281' in line 2 may be two numbers, as its sign may be", metric="loss")
  assert tables.read(path, metric="other").frame["value"].tolist() == [1.5, 1.6]


def test_fractions_beside_percentages_are_refused_where_the_metric_is_a_share(file):
  message = r"acc=0.902 in line 4 and 90.1 in line 2 look like a fraction beside a percentage"
  for rows in (
    "A,0,90.1\nA,1,90.3\nA,2,0.902\n",
    "A,0,90.1\nA,1,90.3\nB,0,0.902\nB,1,0.9\n",
    "A,0,90.1\nA,1,\nA,2,0.902\nA,3,0\n",
  ):
    refused(file("variant,seed,acc\n" + rows), message)
  refused(file("seed,error_rate\n0,0.06\n1,6.1\n"), "error_rate=0.06 in line 2 and 6.1 in line 3")
  log = "seed,step,acc\n0,1,0.9\n0,2,70.5\n1,1,0.8\n1,2,{}\n"  # percent from the first step on
  assert tables.read(file(log.format(71))).warnings == ()
  refused(file(log.format(0.71)), "acc=0.71 in line 5 and 70.5 in line 3")
  # A collapsed run, in percent, is no fraction; where it could be one, percent signs say it.
  for cells in ("0.1", "1.5"), ("90.1", "0.1"), ("70", "2"):
    text = "".join(f"{n},{cell}\n" for n, cell in enumerate(cells))
    assert len(tables.read(file("seed,acc\n" + text)).frame) == 2
  refused(file("seed,acc\n0,70\n1,1\n"), "if all are percentages, write a percent sign behind each")
  signs = tables.read(file("seed,acc\n0,70%\n1,1%\n"))
  assert signs.frame["value"].tolist() == [0.7, 0.01]


def test_fractions_beside_percentages_of_other_metrics_are_said(file):
  score = tables.read(file("seed,score\n0,0.93\n1,93.1\n2,0.94\n"))
  assert "score holds 2 values up to 1 (such as 0.93) and 1 above (such as 93.1)" in (
    score.warnings[0]
  )
  assert "bring them to one unit" in score.warnings[0]
  for text in ("seed,acc\n0,0.93\n1,0.94\n", "seed,loss\n0,.9\n1,93\n", "seed,score\n0,.9\n1,3\n"):
    assert tables.read(file(text)).warnings == ()


def test_seeds_are_whole_numbers_however_they_are_called(file):
  for cells in (["seed3", "seed10"], ["3", "10"], ["3.0", "10.0"], ["run-3", "run-10"]):
    table = tables.read(file(f"seed,m\n{cells[0]},1\n{cells[1]},2\n"))
    assert table.frame["seed"].tolist() == [3, 10]
  big = 2**62 + 1  # not a float
  assert tables.read(file(f"seed,m\n{big},1\n0,2\n")).frame["seed"].tolist() == [big, 0]
  for cell in ("1.5", "inf", "x", str(2**64), "run-3"):
    refused(file(f"seed,m\n1,1\n{cell},2\n4,3\n"), "seed=.* in line 3 is not a whole")
  refused(file("seed,m\n1,1\n,2\n"), "seed=nan in line 3")


# Columns.


@pytest.mark.parametrize(
  ("head", "options", "expected"),
  [
    ("variant,seed,acc", {}, ("variant", "seed", "acc")),
    ("Method,config.seed,Val Acc", {}, ("Method", "config.seed", "Val Acc")),
    ("algorithm,random_seed,return", {}, ("algorithm", "random_seed", "return")),
    ("config/model,trial,test/nll", {}, ("config/model", "trial", "test/nll")),
    ("group,run,reward", {}, ("group", "run", "reward")),
    ("kind,number,x", {"variant": "kind", "seed": "number"}, ("kind", "number", "x")),
    ("method,seed,acc", {"variant": "seed", "seed": "method"}, ("seed", "method", "acc")),
  ],
)
def test_columns_are_recognised_by_name_or_named(file, head, options, expected):
  text = f"{head}\n1,0,0.5\n1,1,0.6\n2,0,0.7\n2,1,0.8\n"
  variant, seed, metric = expected
  table = tables.read(file(text), **options)
  assert f"variant: {variant}; seed: {seed}; metric: {metric};" in table.described[1]
  assert sorted(table.frame["value"]) == [0.5, 0.6, 0.7, 0.8]


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("method,model,seed,acc\na,x,0,1\nb,y,1,2\n", "columns method and model .*--variant=method"),
    ("variant,run,trial,acc\na,0,1,1\nb,1,0,2\n", "columns run and trial could .* the seed"),
    ("variant,dataset,env,seed,acc\na,x,u,0,1\na,y,v,1,2\n", "dataset and env .*task.*--task="),
    ("variant,seed,test_loss,test_acc\na,0,1,2\nb,0,3,2\n", "test_loss, test_acc .*--metric="),
    ("variant,seed,score,other\na,0,1,7.5\nb,0,3,2.5\n", "score, other .*--metric=score"),
    (
      "variant,seed,runtime,epoch\na,0,1.5,4\nb,1,3.5,2\n",
      "only what looks like bookkeeping .*runtime",
    ),
    ("method,acc\na,93.1 ± 0.2\nb,93.4 ± 0.1\n", "cells with ± are means of runs"),
    ("variant,seed,state,acc\na,0,CA,1\na,0,NY,2\n", "differ in state: say what it is"),
    ("variant,seed,acc\na,0,93.1 \\%\n", "none holds the numbers of a metric"),
    ("variant,seed\nA,0\n", "columns=variant, seed of 1 row: none holds the numbers of a metric"),
    ("variant,seed,m\n", "columns=variant, seed, m of 0 rows: a table needs"),
    ("variant,seed,m\nA,0,1\n,1,2\n", "variant is empty in line 3; name the variant"),
    ("seed,m,m\n0,1,2\n", "column 'm' occurs more than once"),
    ("optimizer,seed,acc\nadam,0,1\nsgd,1,2\nadam,2,1\nsgd,3,2\n", "differ in optimizer: say --"),
    ("name,seed,acc\nlively,0,1\nbrave,1,2\nsunny,2,1\n", "name has another value in every row"),
  ],
)
def test_what_may_mean_several_columns_is_asked(file, text, message):
  refused(file(text), message)


def test_what_does_not_tell_rows_apart_is_no_candidate(file):
  text = "method,model,Name,Group,seed,acc\na,x,r1,,0,1\nb,x,r2,,0,2\na,x,r3,,1,1\nb,x,r4,,1,3\n"
  assert "variant: method" in tables.read(file(text)).described[1]
  both = "variant,model,seed,acc\na,x,0,1\nb,y,0,2\n"  # the column called variant is the variant
  assert "variant: variant" in tables.read(file(both)).described[1]
  refused(
    file("variant,model,seed,acc\na,x,0,1\na,y,0,2\n"),
    r"rows of one variant and seed \(0\) differ in model: say .* --variant=model or --task=model",
  )


def test_unknown_columns_are_named_with_the_choices(file):
  path = file("seed,m,other\n0,1,2\n")
  refused(path, "metric='mm' is not known; did you mean 'm'.* m, other", metric="mm")
  refused(path, "seed='sed' is not known; did you mean 'seed'", seed="sed")
  refused(path, "one column is named for two of", seed="m", metric="m")
  refused(path, "at=step:3: the table has no column of steps", metric="m", at="step:3")


BOOKKEEPING = (
  "schema_version Runtime _runtime _timestamp _step epoch id created git_sha lr num_params seconds"
  " train_time_ms wall_clock_seconds config.batch_size weight_decay n_params gpu_memory"
).split()


@pytest.mark.parametrize("name", BOOKKEEPING)
def test_bookkeeping_is_never_the_metric(name):
  rng = np.random.default_rng(0)
  frame = pd.DataFrame({name: rng.random(6), "variant": ["A", "B"] * 3, "seed": [0, 0, 1, 1, 2, 2]})
  if not name.startswith(("_step", "epoch")):
    assert tables.read(frame.assign(score=rng.random(6))).metric == "score"
  assert tables.read(frame.assign(accuracy=rng.random(6))).metric == "accuracy"


def test_counters_and_constants_give_way_and_outcomes_are_preferred():
  frame = pd.DataFrame({"n": range(5, 9), "c": 3.5, "score": [1.5, 2, 1, 4], "seed": range(4)})
  assert tables.read(frame).metric == "score"
  assert tables.read(frame.assign(acc=[1.5, 2, 1, 5])).metric == "acc"
  assert tables.read(frame.assign(acc=[1.5, 2, 1, 5]), metric="score").metric == "score"
  equal = frame[["seed"]].assign(score=1.0)  # the only one may be constant
  assert tables.read(equal).metric == "score"


def test_rows_without_seeds_are_only_numbered(file):
  table = tables.read(file("method,acc\nA,1\nA,2\nB,3\nA,4\n"))
  assert values(table) == {("A", 0): 1, ("A", 1): 2, ("B", 0): 3, ("A", 2): 4}
  assert not table.seeded and "3 numbered runs" in table.described[2]
  assert not any(one.seeded for one in findings.examine_table(table))
  refused(file("variant,epoch,acc\nA,10,1\nA,12,2\n"), "epoch differs .* name the column .*--seed")


def test_tasks_are_kept_apart_and_in_order(file):
  path = file("""
    algo,seed,game,return
    x,0,pong,1
    y,0,pong,2
    x,0,breakout,3
    y,0,breakout,4
  """)
  found = findings.examine_table(tables.read(path))
  assert [(one.task, one.name) for one in found] == [
    ("pong", "x"),
    ("pong", "y"),
    ("breakout", "x"),
    ("breakout", "y"),
  ]


def test_rows_may_be_in_any_order_and_columns_too(file):
  path = file("m,seed,variant\n4,2,B\n1,0,A\n3,2,A\n2,1,A\n6,0,B\n5,1,B\n")
  b, a = findings.examine_table(tables.read(path))
  assert (b.name, a.name) == ("B", "A")
  assert a.run_R.tolist() == b.run_R.tolist() == [0, 1, 2]
  assert a.columns[0].values.tolist() == [1, 2, 3] and b.columns[0].values.tolist() == [6, 5, 4]


# Wide tables.


def test_a_column_for_each_seed(file):
  for head, seeded in (("seed0,seed1", True), ("seed_0,seed_1", True), ("0,1", False)):
    path = file(f"method,dataset,{head}\nA,x,1,2\nB,x,3,\nA,y,5,6\nB,y,7,diverged\n")
    table = tables.read(path)
    assert values(table) == {
      **{("x", "A", 0): 1, ("x", "B", 0): 3, ("y", "A", 0): 5, ("y", "B", 0): 7},
      **{("x", "A", 1): 2, ("x", "B", 1): "missing", ("y", "A", 1): 6, ("y", "B", 1): "diverged"},
    }
    assert table.seeded is seeded and table.metric == "value"
    assert f"seed: a column each ({head.replace(',', ', ')})" in table.described[1]
    assert tables.read(path, metric="acc").metric == "acc"
  refused(file("method,seed0,seed1\nA,1,2\nB,3,high\n"), "value='high' in line 3")


def test_a_column_for_each_seed_of_a_metric(file):
  for head, seeded in (
    ("acc_seed0,acc_seed1", True),
    ("acc/seed_0,acc/seed_1", True),
    ("acc run 0,acc run 1", False),
  ):
    table = tables.read(file(f"method,{head}\nA,1,2\nB,3,\n"))
    assert values(table) == {("A", 0): 1, ("B", 0): 3, ("A", 1): 2, ("B", 1): "missing"}
    assert (table.metric, table.seeded, table.warnings) == ("acc", seeded, ())
  two = file("method,acc_seed0,acc_seed1,loss_seed0,loss_seed1\nA,1,2,3,4\n")
  refused(two, "a column for each seed of acc, loss; name one with --metric=acc")
  assert values(tables.read(two, metric="loss")) == {("A", 0): 3, ("A", 1): 4}
  one = file("method,acc_seed9,loss_seed0,loss_seed1\nA,1,3,4\n")
  assert tables.read(one).metric == "loss" and len(tables.read(one).frame) == 2
  other = tables.read(file("method,x_seed0,x_seed1\nA,1,2\n"), metric="acc")
  assert other.metric == "acc" and len(other.frame) == 2


def test_a_column_for_each_task(file):
  text = "method,seed,cifar10,svhn,mnist\nA,0,90,50,1\nA,1,91,,2\nB,0,92,52,3\nB,1,95,53,5\n"
  refused(
    file(text), "cifar10, svhn, mnist could each be the metric; name one .* or say --task=columns"
  )
  table = tables.read(file(text), task="columns", metric="score")
  assert len(table.frame) == 12 and values(table)["cifar10", "A", 1] == 91
  assert values(table)["svhn", "A", 1] == "missing" and table.metric == "score"
  said = "variant: method; seed: seed; metric: score (their cells); task: a column each (cifar10,"
  assert table.described[1].startswith(said)
  assert [one.task for one in findings.examine_table(table)] == ["cifar10"] * 2 + ["svhn"] * 2 + [
    "mnist"
  ] * 2
  sizes = file("kind,number,x,y\n8,0,50,60\n16,0,52,63\n8,1,51,60\n16,1,52,65\n")
  named = tables.read(sizes, variant="kind", seed="number", task="columns")
  assert len(named.frame) == 8 and values(named)["y", "16", 1] == 65
  refused(file(text), "are one of both; name the other", task="columns", variant="columns")
  refused(file("seed,note\n0,x\n"), "task=columns: no column of the table holds", task="columns")
  with pytest.raises(UserError) as caught:
    tables.read(file("variant,seed,train_loss,test_loss\na,0,1,2\nb,0,3,2\n"))
  assert "columns if" not in str(caught.value)


def test_what_columns_hold_may_be_named(file):
  path = file("method,seed0,seed1,seed2\nA,1,2,3\nB,3,4,4.5\n")
  table = tables.read(path)
  assert table.warnings[0].startswith("what the columns hold is called value; --metric=acc")
  assert tables.read(path, metric="acc").warnings == ()
  text = report.comparison_text(comparisons.compare(table))
  unsaid = "lower says it, or, if it has a column for each seed or variant, --metric=acc names"
  assert unsaid in " ".join(text.split())
  long = file("method,seed,score\nA,0,1\nA,1,2\nB,0,2\nB,1,5\n")
  assert "lower says it." in " ".join(report.comparison_text(comparisons.compare([long])).split())


def test_seeds_in_rows_are_not_looked_for_in_columns(file):
  path = file("seed,0010,10\n5,1,2\n6,3,4\n")
  expected = {("0010", 5): 1, ("0010", 6): 3, ("10", 5): 2, ("10", 6): 4}
  assert values(tables.read(path)) == expected  # two variants
  refused(file("seed,0,1,2\n5,1,2,3\n6,1,2,3\n"), "columns 0, 1, 2 could each be the metric")
  path = file("method,r1,rl\nA,0.4,0.2\nB,0.5,0.1\n")  # ROUGE
  refused(path, "r1, rl could each be the metric")
  path = file("variant,seed,x,y\nA,5,1,2\n")
  refused(path, "variant=columns: the table has a column variant besides", variant="columns")


def test_a_column_for_each_variant(file):
  path = file("seed,adam,sgd\n0,90.5,91\n1,90.1,92\n2,,91.5\n")
  table = tables.read(path)
  assert values(table)["sgd", 2] == 91.5 and values(table)["adam", 2] == "missing"
  assert "variant: a column each (adam, sgd); seed: seed; metric: value" in table.described[1]
  said = tables.read(path, variant="columns", metric="accuracy")
  assert said.metric == "accuracy" and values(said) == values(table)
  assert values(tables.read(path, metric="sgd")) == {("", 0): 91, ("", 1): 92, ("", 2): 91.5}
  refused(file("seed,adam,sgd\n0,90.5,9\n1,90.1,8\n"), "adam, sgd could each be the metric")
  losses = file("seed,loss_a,loss_b\n0,1.5,1.6\n1,1.7,1.9\n")
  refused(losses, "loss_a, loss_b could each be the metric; name one with")
  assert len(tables.read(losses, variant="columns").frame) == 4


# Logs over steps.

LIGHTNING = """
  epoch,step,train_loss,val_acc,val_loss,test_acc
  0,49,1.5,,,
  0,49,,0.50,1.20,0.48
  1,99,1.1,,,
  1,99,,0.70,0.90,0.69
  2,149,0.9,,,
  2,149,,0.60,0.95,0.66
  3,150,,,,
"""


def test_the_alternating_rows_of_lightning(file):
  path = file(LIGHTNING)
  table = tables.read(path, metric="val_acc")
  assert values(table) == {("", 0): 0.6} and not table.seeded
  assert "step: step;" in table.described[1]
  said = "; the last value of each run (the default of --at), at step 149"
  assert table.described[2].endswith(said)
  assert values(tables.read(path, metric="train_loss")) == {("", 0): 0.9}
  at = {
    "best:val_loss": 0.69,
    "best:val_acc": 0.69,
    "best:val_loss:higher": 0.48,
    "step:49": 0.48,
    "epoch:1": 0.69,
    "last": 0.66,
  }
  for where, expected in at.items():
    assert values(tables.read(path, metric="test_acc", at=where)) == {("", 0): expected}, where
  refused(path, "train_loss, val_acc, val_loss, test_acc could each be the metric")
  refused(
    path, "at=step:7: no run has a value there; the last steps", metric="val_acc", at="step:7"
  )
  refused(path, "at='first' must be last, best:METRIC or step:N", metric="val_acc", at="first")
  refused(path, "no column is called 'x'; choices: .*val_acc", metric="val_acc", at="best:x")
  refused(path, "nobody knows which way epoch is better", metric="val_acc", at="best:epoch")


LOG = """
  variant,seed,step,loss,acc
  A,0,100,1.0,0.5
  A,0,200,0.5,0.7
  A,0,300,0.7,0.6
  A,1,100,0.9,0.4
  A,1,200,0.8,0.8
  A,2,100,0.9,0.4
  A,2,200,nan,nan
  A,3,100,0.9,0.4
  A,3,200,inf,diverged
"""


def test_the_value_of_a_run_is_at_a_step_that_is_said(file):
  path = file(LOG)
  last = tables.read(path, metric="acc")
  expected = {("A", 0): 0.6, ("A", 1): 0.8, ("A", 2): "missing", ("A", 3): "diverged"}
  assert values(last) == expected
  assert "at step 200 to 300" in last.described[2]
  assert "3 runs of 4 end before step 300" in last.warnings[0]
  assert "--at=step:200" in last.warnings[0]
  best = tables.read(path, metric="acc", at="best:loss")
  assert values(best) == {
    **{("A", 0): 0.7, ("A", 1): 0.8, ("A", 2): "missing", ("A", 3): "diverged"}
  }
  assert best.described[2].endswith("; where loss is best (lower) in each run")
  own = tables.read(path, metric="acc", at="best:acc")
  assert values(own)["A", 0] == 0.7 and "luckier" in own.warnings[0]
  third = tables.read(path, metric="acc", at="step:300")
  assert values(third) == {
    **{("A", 0): 0.6, ("A", 1): "missing", ("A", 2): "missing", ("A", 3): "diverged"}
  }
  assert "3 runs of 4 have no value at step 300" in third.warnings[0]
  alone = tables.read(file("variant,seed,epoch,acc\nA,0,10,.5\nA,1,12,.6\n", "one.csv"))
  assert alone.warnings[0].endswith("values of unlike steps are compared")  # no step is shared
  # Rows in another order are the same log.
  lines = textwrap.dedent(LOG).strip().splitlines()
  turned = file("\n".join([lines[0], *lines[:0:-1]]), "turned.csv")
  assert values(tables.read(turned, metric="acc")) == dict(reversed(expected.items()))


@pytest.mark.parametrize(
  ("end", "expected"),
  [
    ("3,nan,nan", "missing"),
    ("3,nan,", "missing"),  # what it is chosen by is no number in the end
    ("3,,nan", "missing"),
    ("3,inf,0.1", "diverged"),
    ("3,0.6,diverged", "diverged"),
    ("3,nan,diverged\nA,0,4,nan,nan", "diverged"),
    ("3,,", 0.8),  # nothing was written
  ],
)
def test_a_run_that_is_no_number_in_the_end_has_no_best_step(file, end, expected):
  head = "variant,seed,step,loss,acc\nA,1,1,0.9,0.5\nA,1,3,0.8,0.6\nA,0,1,0.7,0.7\nA,0,2,0.5,0.8\n"
  path = file(f"{head}A,0,{end}\n")
  for at in ("best:loss", "best:acc"):
    own = at == "best:acc" and not end.endswith(("nan", "diverged", "nan,nan"))
    chosen = 0.8 if own else expected
    assert values(tables.read(path, metric="acc", at=at)) == {("A", 1): 0.6, ("A", 0): chosen}, at
  if end.endswith(("nan", "diverged")):
    assert values(tables.read(path, metric="acc", at="last"))["A", 0] == expected


def test_the_best_step_must_hold_the_metric_too(file):
  path = file("variant,seed,step,val_loss,test_acc\nA,0,1,0.5,\nA,0,2,0.7,0.9\n")
  refused(path, "variant='A', seed=0 has no test_acc at step=1, where", metric="test_acc",
          at="best:val_loss")  # fmt: skip


def test_rows_of_other_metrics_at_one_step_are_no_repeats(file):
  path = file("seed,step,loss,acc\n0,1,.5,\n0,1,,.6\n1,1,.4,\n1,1,,\n2,1,.4,\n2,1,,.8\n")
  table = tables.read(path, metric="acc")
  assert values(table) == {("", 0): 0.6, ("", 1): "missing", ("", 2): 0.8}
  assert "no repeats" not in table.described[2] and table.frame["value"].isna().sum() == 1


def test_two_rows_at_one_step_are_asked(file):
  path = file("variant,seed,step,acc\nA,0,1,0.5\nA,0,2,0.7\nA,0,2,0.8\n")
  refused(path, "variant='A', seed=0 has several rows at step=2, the second in line 4")
  alone = tables.read(file("variant,seed,step,acc\nA,0,9,0.5\nA,1,9,0.7\nA,1,9,0.9\n"))
  assert values(alone) == {("A", 0): 0.5, ("A", 1): 0.8}  # step 9 of 9: repeats


def test_the_run_table_of_weights_and_biases(file):
  path = file("""
    "Name","State","Notes","User","Tags","Created","Runtime","Sweep","method","seed","val/acc"
    "lively-forest-1","finished","-","me","","2025-03-01T10:00:00.000Z","351","","adam","0","0.91"
    "brave-sun-2","finished","-","me","","2025-03-01T10:10:00.000Z","352","","adam","1","0.92"
    "sunny-sea-3","crashed","-","me","","2025-03-01T10:20:00.000Z","31","","sgd","0","0.31"
    "dark-lake-4","running","-","me","","2025-03-01T10:30:00.000Z","100","","sgd","1","0.51"
  """)
  table = tables.read(path)
  assert values(table) == {
    **{("adam", 0): 0.91, ("adam", 1): 0.92, ("sgd", 0): "missing", ("sgd", 1): "missing"}
  }
  assert table.warnings == (
    "2 runs did not finish (State: crashed, running): missing, since nobody knows why",
  )
  assert "variant: method; seed: seed; metric: val/acc; task: none;" in table.described[1]


RUNS = """
  Name,State,_step,_runtime,method,seed,acc
  lively-forest-1,finished,1000,10,adam,0,0.90
  brave-sun-2,finished,1200,12,adam,0,0.94
  sunny-sea-3,finished,900,11,sgd,0,0.80
  dark-lake-4,finished,900,11,sgd,1,0.81
"""


def test_rows_of_one_seed_in_a_table_of_runs_are_repeats_and_no_steps(file):
  text = textwrap.dedent(RUNS).lstrip()
  plain = [line.split(",") for line in text.splitlines()]

  def without(*names: str) -> str:
    kept = [n for n, name in enumerate(plain[0]) if name not in names]
    return "".join(",".join(row[n] for n in kept) + "\n" for row in plain)

  expected = {("adam", 0): pytest.approx(0.92), ("sgd", 0): 0.8, ("sgd", 1): 0.81}
  variants = (
    text,
    without("Name"),
    without("State"),
    without("Name", "State").replace("_runtime", "_wandb.runtime"),
    without("State").replace("Name", "run_id"),
    text.replace("_step", "epoch"),
    text.replace("_step", "update"),
  )
  for number, one in enumerate(variants):
    table = tables.read(file(one))
    assert values(table) == expected, number
    assert "1 repeat of a seed, averaged" in table.described[2], number
    assert "step: none" in table.described[1] and len(table.repeats) == 4
  assert "_step" in tables.read(file(text)).described[1].split("bookkeeping:")[1]
  called = text.replace("lively-forest-1", "adam").replace("brave-sun-2", "adam")
  assert values(tables.read(file(called), variant="method")) == expected
  # A code of the row is none of a run.
  coded = "id,seed,step,acc\n" + "".join(f"a{n},{n // 2},{n % 2},.5{n}\n" for n in range(4))
  assert values(tables.read(file(coded))) == {("", 0): 0.51, ("", 1): 0.53}
  # Where nothing says that a row is a run, and few have several rows, it is asked.
  asked = file(without("Name", "State"))
  refused(asked, "variant='adam', seed=0 has 2 rows that differ in _step, and most have one")
  assert values(tables.read(asked, at="last")) == {**expected, ("adam", 0): 0.94}
  assert values(tables.read(file(without("Name", "State", "_step")))) == expected


def test_the_chart_of_weights_and_biases(file):
  path = file("""
    "Step","adam_seed0 - val/acc","adam_seed0 - val/acc__MIN","adam_seed0 - val/acc__MAX",\
"adam_seed1 - val/acc","adam_seed1 - val/acc__MIN","adam_seed1 - val/acc__MAX",\
"sgd_seed0 - val/acc","sgd_seed0 - val/acc__MIN","sgd_seed0 - val/acc__MAX"
    "10","0.5","0.1","0.9","0.6","0.6","0.6","",,""
    "20","0.7","0.7","0.7","","","","0.4","0.4","0.4"
  """)
  table = tables.read(path)
  assert values(table) == {("adam", 0): 0.7, ("adam", 1): 0.6, ("sgd", 0): 0.4}
  assert (table.metric, table.seeded) == ("val/acc", True) and "step: Step" in table.described[1]
  assert "1 run of 3 ends before Step 20" in table.warnings[0]
  named = file(path.read_text().replace("adam_seed0", "lively-forest-12").replace(
    "adam_seed1", "brave-sun-13").replace("sgd_seed0", "dark-lake-14"))  # fmt: skip
  names = tables.read(named)
  assert [key[0] for key in values(names)] == ["lively-forest-12", "brave-sun-13", "dark-lake-14"]
  assert not names.seeded


# Folders of runs.


def test_the_exports_of_tensorboard(file, tmp_path):
  for run, last in (("adam_seed0", 0.9), ("adam_seed1", 0.8), ("sgd_seed0", 0.7)):
    for tag, value in (("val_acc", last), ("val_loss", 1 - last)):
      file(
        f"Wall time,Step,Value\n1654943296.2150984,0,0.5\n1654943313.77,1,{value}\n",
        f"runs/run-{run}-tag-{tag}.csv",
      )
  folder = tmp_path / "runs"
  assert tables.is_table(folder)
  table = tables.read(folder, metric="val_acc")
  assert values(table) == {("adam", 0): 0.9, ("adam", 1): 0.8, ("sgd", 0): 0.7}
  assert table.seeded and "Wall time" in table.described[1].split("bookkeeping:")[1]
  refused(folder, "val_acc, val_loss could each be the metric")
  alone = file("Wall time,Step,Value\n1.5,0,0.5\n2.5,1,0.75\n", "loss_curve.csv")
  assert (tables.read(alone).metric, values(tables.read(alone))) == ("Value", {("", 0): 0.75})


def test_a_folder_as_hydra_leaves_it(file, tmp_path):
  job = 0
  for optimizer in ("adam", "sgd"):
    for seed in (3, 4):
      place = f"multirun/2025-03-01/10-00-00/{job}"
      file(f"- optimizer={optimizer}\n- seed={seed}\n", f"{place}/.hydra/overrides.yaml")
      file(f"seed: {seed}\nmodel:\n  width: 64\n", f"{place}/.hydra/config.yaml")
      file(LIGHTNING.replace("0.60", f"0.6{job}"), f"{place}/lightning_logs/version_0/metrics.csv")
      file("[2025-03-01 10:00:00][INFO] - training\n", f"{place}/train.log")
      job += 1
  file("- optimizer=adam,sgd\n- seed=3,4\n", "multirun/2025-03-01/10-00-00/multirun.yaml")
  table = tables.read(tmp_path / "multirun", metric="val_acc")
  assert values(table) == {
    **{("adam", 3): 0.6, ("adam", 4): 0.61, ("sgd", 3): 0.62, ("sgd", 4): 0.63}
  }
  assert table.seeded and "Hydra's records" in table.described[0]
  same = tables.read(tmp_path / "multirun", metric="val_acc", variant="optimizer")
  assert values(same) == values(table)


def test_what_hydra_was_told_of_several_fields_is_the_variant(file, tmp_path):
  for job, (told, seed) in enumerate([(["lr=0.1"], 0), (["lr=0.1", "+model.width=8"], 0)]):
    lines = "".join(f"- {one}\n" for one in [*told, f"dataset={'xy'[job]}"])
    file(lines, f"{job}/.hydra/overrides.yaml")
    file(f"seed: {seed}\n", f"{job}/.hydra/config.yaml")
    file('{"acc": 0.5, "time": 3}', f"{job}/results.json")
  table = tables.read(tmp_path)
  assert values(table) == {("x", "default", 0): 0.5, ("y", "8", 0): 0.5}


@pytest.mark.parametrize(
  ("names", "expected", "seeded"),
  [
    (["A/seed0/metrics.csv", "B/seed0/metrics.csv"], [("A", 0), ("B", 0)], True),
    (["A_seed0.csv", "A_seed10.csv", "A_seed2.csv"], [("A", 0), ("A", 2), ("A", 10)], True),
    (["A/s1/progress.csv", "B/b/s1/progress.csv"], [("A", 1), ("B/b", 1)], True),
    (["seed1/A.csv", "seed1/B.csv"], [("A", 1), ("B", 1)], True),
    (["A/0/metrics.csv", "A/1/metrics.csv"], [("A", 0), ("A", 1)], False),
    (["lightning_logs/version_0/metrics.csv", "lightning_logs/version_1/metrics.csv"],
     [("", 0), ("", 1)], False),
    (["A/3f2a90b1-11.csv", "A/ab34ffe0-02.csv", "B/00ff3a2b-17.csv"],
     [("A", 0), ("A", 1), ("B", 0)], False),
  ],
)  # fmt: skip
def test_paths_tell_which_run_a_file_is_of(file, tmp_path, names, expected, seeded):
  for number, name in enumerate(names):
    file(f"step,loss\n1,5\n2,{number}.5\n", name)
  table = tables.read(tmp_path)
  assert list(values(table)) == expected and table.seeded is seeded
  assert len(table.frame) == len(names)


def test_folders_that_tell_nothing_or_too_much_are_refused(file, tmp_path):
  with pytest.raises(UserError, match="holds neither a store nor files of results; name a folder"):
    tables.read(tmp_path)
  assert not tables.is_table(tmp_path)
  for name in ("adam.csv", "sgd.csv"):
    file("step,loss\n1,5\n2,4\n", name)
  refused(tmp_path, r"names of the files \(adam, sgd\) tell neither variant nor seed")
  for name in ("adam.csv", "sgd.csv"):
    (tmp_path / name).unlink()
    file("step,loss\n1,5\n2,4\n", f"A/seed0/{name[:-4]}_0/metrics.csv")
    file("step,loss\n1,5\n2,4\n", f"B/seed0/metrics{len(name)}.csv")
  folder = tmp_path / "C"
  for name in ("version_0", "version_1"):
    file("step,loss\n1,5\n2,4\n", f"C/seed0/{name}/metrics.csv")
  assert len(tables.read(folder).frame) == 2  # version_0 and version_1 are then in the name
  file("step,loss\n1,5\n", "D/seed0/metrics.csv")
  file("step\tloss\n2\t5\n", "D/seed0/metrics.tsv")
  refused(tmp_path / "D", r"seed0/metrics.csv and seed0/metrics.tsv hold values of one run")


AIRBENCH = """
  Files already downloaded and verified
  | a bar that is none |
  ---------------------------------------------------------------------------------------
  |  run     |  epoch  |  train_acc  |  val_acc  |  tta_val_acc  |  time_seconds  |
  ---------------------------------------------------------------------------------------
  |  warmup  |   eval  |     0.1000  |   0.1000  |       0.1000  |        9.9999  |
  ---------------------------------------------------------------------------------------
  |       0  |      0  |     0.6895  |   0.6360  |               |        0.5603  |
  |          |      1  |     0.7920  |   0.9257  |               |        1.1151  |
  |          |   eval  |     0.7920  |   0.9257  |       0.9401  |        3.1151  |
  ---------------------------------------------------------------------------------------
  |       1  |      0  |     0.6795  |   0.6260  |               |        0.5603  |
  |          |      1  |     0.7820  |   0.9248  |               |        1.1151  |
  |          |   eval  |     0.7820  |   0.9248  |       0.9396  |        3.1151  |
  ---------------------------------------------------------------------------------------
  Mean: 0.9399    Std: 0.0003
"""


def test_logs_of_airbench(file, tmp_path):
  path = file(AIRBENCH, "base.log")
  table = tables.read(path, metric="tta_val_acc")
  assert values(table) == {("", 0): 0.9401, ("", 1): 0.9396}
  assert not table.seeded and table.warnings == ("the warm-up run is left out",)
  assert values(tables.read(path, metric="val_acc"))["", 1] == 0.9248
  refused(path, "train_acc, val_acc, tta_val_acc could each be the metric")
  file(AIRBENCH.replace("0.9396", "0.9388"), "both/new.log")
  file(AIRBENCH, "both/base.log")
  both = tables.read(tmp_path / "both", metric="tta_val_acc")
  assert values(both) == {
    **{("base", 0): 0.9401, ("base", 1): 0.9396, ("new", 0): 0.9401, ("new", 1): 0.9388}
  }


NANOGPT = """
  import os
  import sys
  with open(sys.argv[0]) as f:
      code = f.read() # read the code of this file ASAP, for logging
  ====================================================================================
  Running Python 3.12.7 (main, Oct 16 2024) compiled for CUDA 12.6
  +-----------------------------------------------------------------------------+
  | NVIDIA-SMI 550.90.07    Driver Version: 550.90.07    CUDA Version: 12.6     |
  +-----------------------------------------------------------------------------+
  step:0/1770 val_loss:10.8258 train_time:0ms step_avg:nanms
  step:1/1770 train_time:241ms step_avg:240.90ms
  step:125/1770 val_loss:4.6390 train_time:17400ms step_avg:139.20ms
  step:1770/1770 val_loss:3.27{} train_time:251021ms step_avg:141.82ms
  step:1770/1770 train_time:251030ms step_avg:141.83ms
  peak memory allocated: 31461 MiB reserved: 31856 MiB
"""


def test_logs_of_modded_nanogpt(file, tmp_path):
  names = ("0b9a6d6e-0e1c-4f3b-9d3a-2f1e6f0d8a10", "5ccd8a2e-7a52-4f53-8b0e-fd4a4e0ad5a8")
  for number, (variant, name) in enumerate((v, n) for v in ("base", "new") for n in names):
    file(NANOGPT.format(80 + number), f"logs/{variant}/{name}.txt")
  table = tables.read(tmp_path / "logs")
  assert values(table) == {
    **{("base", 0): 3.278, ("base", 1): 3.2781, ("new", 0): 3.2782, ("new", 1): 3.2783}
  }
  assert (table.metric, table.seeded) == ("val_loss", False)
  assert "at step 1770" in table.described[2]
  one = tables.read(tmp_path / "logs" / "new")
  assert list(values(one)) == [("", 0), ("", 1)]
  assert values(tables.read(tmp_path / "logs" / "base" / f"{names[0]}.txt")) == {("", 0): 3.278}


def test_runs_that_left_nothing_are_missing(file, tmp_path):
  for job, seed in enumerate((0, 1, 2)):
    file(f"- lr=0.1\n- seed={seed}\n", f"multirun/{job}/.hydra/overrides.yaml")
  file("step,acc\n1,0.5\n", "multirun/0/metrics.csv")
  file("step,acc\n", "multirun/1/metrics.csv")  # a head and no row
  table = tables.read(tmp_path / "multirun")
  assert values(table) == {("", 0): 0.5, ("", 1): "missing", ("", 2): "missing"}
  assert table.warnings == ("2 runs left no values (1, 2): missing",)
  file("step,acc\n1,0.5\n", "plain/A/seed0/metrics.csv")
  (tmp_path / "plain" / "A" / "seed1").mkdir()
  assert values(tables.read(tmp_path / "plain")) == {("A", 0): 0.5, ("A", 1): "missing"}
  file(NANOGPT.format(80), "logs/3f2a90b1.txt")
  file("Traceback\n", "logs/3f2a90b2.txt")
  (note,) = tables.read(tmp_path / "logs").warnings
  assert note == "1 text left aside that is no known log (3f2a90b2.txt): a run may be missing"


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("variant,seed,lr,acc\nA,0,.1,1\nA,0,.2,2\n", r"variant and seed .0. differ in lr: say what"),
    ("variant,lr,acc\nA,.1,1\nA,.1,2\nA,.2,2\n", "rows of variant='A' differ in lr: say --var"),
    ("optimizer,seed,acc\nadam,0,1\nsgd,1,2\n", r"no variant. differ in optimizer.*variant=none"),
    ("note,seed,acc\nadam,0,1\nsgd,1,2\nadam,2,1\n", None),
    ("kind,seed,acc\nadam,0,1\nsgd,1,2\nadam,2,1\n", r"no variant. differ in kind"),
    ("variant,seed,lr,acc\nA,0,.1,1\nB,0,.2,2\nA,1,.1,1\nB,1,.2,2\n", None),
    ("variant,seed,correct_count,acc\nA,0,11,1\nA,1,12,2\n", None),
  ],
)
def test_rows_that_differ_in_what_was_chosen_are_no_runs_of_one_kind(file, text, message):
  if message is None:
    assert tables.read(file(text), metric="acc").repeats is None
    return
  refused(file(text), message, metric="acc")
  if "no variant" in message:
    assert len(tables.read(file(text), metric="acc", variant="none").frame) > 1


# Repeats of a seed.


def test_repeats_are_averaged_and_their_spread_is_not_the_seeds(file):
  path = file("""
    variant,seed,m
    A,0,1
    A,0,3
    A,1,6
    A,1,8
    A,2,
    A,2,5
    B,0,1
    B,1,2
    B,1,diverged
  """)
  table = tables.read(path)
  assert values(table) == {
    **{("A", 0): 2, ("A", 1): 7, ("A", 2): 5, ("B", 0): 1, ("B", 1): "diverged"}
  }
  assert "5 runs" in table.described[2] and "4 repeats of a seed, averaged" in table.described[2]
  assert "2 seeds with repeats of which not all have a value" in table.warnings[0]
  a, b = findings.examine_table(table)
  assert (a.repeats.most, b.repeats) == (2, None) and a.completed == 3
  # Within: squares 2 + 2 on 2 degrees of freedom.
  assert a.repeats.within.estimate == pytest.approx(math.sqrt(2))


def test_components_by_hand_and_against_the_textbook():
  # Two seeds, two repeats: means 2 and 7, MSW = 2, MSB = 2 * 12.5 = 25, (25 - 2) / 2 = 11.5.
  within, between = repeats.components([1, 3, 6, 8], [0, 0, 1, 1])
  assert within.estimate == pytest.approx(math.sqrt(2))
  assert between.estimate == pytest.approx(math.sqrt(11.5))
  assert between.high > 100  # one degree of freedom
  # One and three: MSW = 8 / 2, the harmonic mean of 1 and 3 is 1.5, (1.5 * 12.5 - 4) / 1.5.
  _, uneven = repeats.components([1, 4, 6, 8], [0, 1, 1, 1])
  assert uneven.estimate == pytest.approx(math.sqrt(12.5 - 4 / 1.5))
  # Equal means: nothing is the seed's, and the estimate is cut at 0.
  _, none = repeats.components([1, 3, 1, 3], [0, 0, 1, 1])
  assert (none.estimate, none.low) == (0, 0)
  assert all(math.isnan(one.estimate) for one in repeats.components([1, 2, 3], [0, 1, 2]))
  assert math.isnan(repeats.components([1, 2, 3], [0, 0, 0])[1].estimate)


def test_components_cover():
  rng, covered = np.random.default_rng(0), []
  for _ in range(300):
    seed_R = np.repeat(np.arange(8), [2, 3, 4, 3, 2, 3, 4, 3])
    value_R = 2.0 * rng.normal(size=8)[seed_R] + rng.normal(size=len(seed_R))
    within, between = repeats.components(value_R, seed_R)
    covered.append((within.low < 1 < within.high, between.low < 2 < between.high))
  share = np.mean(covered, axis=0)
  assert (abs(share - 0.95) < 0.035).all()  # 2.8 standard errors


# What is no table.


@pytest.mark.parametrize(
  ("name", "content", "message"),
  [
    ("empty.csv", b"", "cannot be read as CSV .it is empty."),
    ("blank.csv", b"\n \n", "it is empty"),
    ("ragged.csv", b"a,b\n1,2\n\n1,2,3,4\n", "Expected 2 fields in line 4, saw 4; .* column 3"),
    ("short.csv", b"a,b,c\n1,2,3\n1,2\n", "Expected 3 fields in line 3, saw 2"),
    ("quote.csv", b'a,b\n1,2\n1,"2\n', "line 3: unexpected end of data"),
    ("latin.csv", b"variant,m\nA,1\nna\xefve,2\n", "line 3, column 3 is not utf-8 text"),
    ("binary.csv", b"a,b\n1,\0\0\n", "line 2, column 3 is no text"),
    ("broken.json", b'[{"seed": 0,\n "m": 1}\n {"seed": 1}]', r"line 3, column 2: Expecting ','"),
    ("broken.jsonl", b'{"seed": 0, "m": 1}\n{"seed": 1, "m": }\n', "line 2, column 18"),
    ("numbers.json", b"[1, 2]", "is not an object with a value for each column"),
    ("list.jsonl", b'{"seed": 0, "m": 1}\n[1]\n', "line 2 is not an object"),
    ("none.parquet", b"PAR1 not really", "cannot be read as Parquet .*write it again"),
    ("none.parquet", b"a,b\n1,2\n", "cannot be read as Parquet"),
    ("no_names.csv", b"A,0,0.5\nA,1,0.6\n", "line 1 holds the number 0.5 among the names"),
    ("long.csv", b"a,b\n" + b"x" * 200_000 + b",1\n", "field larger than field limit"),
    ("bars.txt", b"| a | b |\n| 1 | 2 |\n| 1 |\n", "Expected 2 fields in line 3, saw 1"),
  ],
)
def test_what_is_no_table_is_named_with_line_and_column(tmp_path, name, content, message):
  (tmp_path / name).write_bytes(content)
  refused(tmp_path / name, message)
  with pytest.raises(UserError, match=name):
    tables.read(tmp_path / name)


def test_a_metric_that_nobody_has_is_named(file):
  refused(
    file("variant,seed,m\nA,0,1\nB,0,nan\nB,1,\n"), "2 runs of B and no value: all are missing"
  )
  refused(file("variant,seed,m\nA,0,1\nB,0,inf\n"), "every completed run of B diverged")


def test_what_is_not_there_is_named_with_the_nearest(file, tmp_path):
  path = file(PLAIN, "results.csv")
  assert tables.is_table(tmp_path / "result.csv") and not tables.is_table(tmp_path / "gone")
  near = r"result.csv': no such file or directory; did you mean 'results.csv'"
  refused(tmp_path / "result.csv", near)
  refused(tmp_path / "away" / "t.csv", "no such file or directory; nor is there a folder '.*away'")
  (tmp_path / "empty").mkdir()
  empty = "empty' is empty: it holds no seedlab store, no table of results and no log of a run"
  none = r"result': no such file or directory; did you mean 'results.csv'\?; a store is made by"
  for gone, message in (("result", none), ("result.csv", near), ("empty", empty)):
    for call in (
      lambda gone=gone: comparisons.compare([path, tmp_path / gone]),
      lambda gone=gone: comparisons.compare([path], floor=tmp_path / gone),
    ):
      with pytest.raises(UserError, match=message):
        call()
  (tmp_path / "locked.csv").mkdir()  # read as a folder, and empty
  refused(tmp_path / "locked.csv", "holds neither a store nor files of results")
  with pytest.raises(UserError, match=r"locked.csv' cannot be opened .Is a directory"):
    formats.read(tmp_path / "locked.csv")


# In a comparison, a report and at the command line.


def command(name: str, *arguments, status: int = 0) -> subprocess.CompletedProcess:
  done = forked.command(name, *arguments)
  assert done.returncode == status, done.stderr
  return done


def test_a_comparison_takes_any_table(file, tmp_path):
  rng = np.random.default_rng(0)
  frame = pd.DataFrame(
    {
      "algo": np.repeat(["a", "b"], 12),
      "number": np.tile(np.arange(12), 2),
      "acc": rng.normal(0.9, 0.01, 24),
      "auc": rng.normal(0.9, 0.01, 24),
    }
  )
  options = {"seed": "number"}
  found = comparisons.compare(frame, "auc", **options)
  assert [sweep.name for sweep in found.sweeps] == ["a", "b"] and found.pairs[0].two.paired
  frame.to_parquet(tmp_path / "t.parquet")
  table = tables.read(frame, metric="auc", **options)
  for same in (comparisons.compare([tmp_path / "t.parquet"], "auc", **options),
               comparisons.compare(table), comparisons.compare([table])):  # fmt: skip
    assert same.pairs[0].fixed == found.pairs[0].fixed
  # A second table is read by the metric of the first.
  (tmp_path / "c.csv").write_text("seed,acc,auc\n0,1,.5\n1,2,.6\n2,2,.7\n")
  lines = []
  sources = findings.opened([tmp_path / "c.csv"] * 2, "auc", lines.append)
  assert [one.metric for one in sources] == ["auc", "auc"] and len(lines) == 2
  assert lines[0].startswith("c.csv: CSV, 3 rows\nvariant: none; seed: seed; metric: auc")


def test_a_table_of_one_variant_is_called_by_its_file(file, tmp_path):
  first = file("seed,acc\n0,.5\n1,.6\n", "base.v1.csv")
  second = file("seed,acc\n0,.5\n1,.6\n", "runs.2/A/metrics.csv").parent.parent
  sources = findings.opened([first, second], None, lambda lines: None)
  names = [sweep.name for sweep in comparisons.compare(sources).sweeps]
  assert names == [one.name for one in comparisons.compare([first, second]).sweeps]
  assert names == ["base.v1", "A"]
  assert tables.read(first).name == "base.v1" and tables.read(second).name == "runs.2"
  assert tables.read(pd.read_csv(first)).name == ""


def test_repeats_stand_in_the_report_as_their_own_component(file):
  path = file("seed,m\n0,1\n0,3\n1,6\n1,8\n2,9\n2,9.5\n")
  (found,) = findings.examine_table(tables.read(path))
  facts = dict(words.facts(found))
  within = facts["sd of up to 2 repeats of one seed (not luck of the seed)"]
  assert within.startswith("1.2 (")  # sqrt((2 + 2 + 1/8) / 3)
  assert "sd between seeds, the repeats' share taken off" in facts


def test_the_command_says_what_it_read_before_anything_else(file, tmp_path):
  rows = "".join(f"{v};{s};{0.9 + s / 100 + (v == 'b') / 50}\n" for v in "ab" for s in range(5))
  path = file("kind;seed;acc\n" + rows.replace(".", ","))
  done = command("compare", path, "--json", "--variant=kind")
  assert [one["name"] for one in json.loads(done.stdout)["sweeps"]] == ["a", "b"]
  assert done.stderr.splitlines() == [
    "t.csv: CSV with semicolons and decimal commas, 10 rows",
    "variant: kind; seed: seed; metric: acc; task: none; step: none",
    "2 variants, 5 seeds, 10 runs of which 0 without a value and 0 diverged, no repeats",
  ]
  for number in range(3):
    file(LIGHTNING.replace("0.66", f"0.6{number}"), f"runs/a/seed{number}/metrics.csv")
  shown = command("report", tmp_path / "runs", "--metric=test_acc", "--at=last")
  assert shown.stderr.startswith("runs: 3 files of CSV, 21 rows\n")
  assert "of 3 seeds" in " ".join(shown.stdout.split())
  assert (tmp_path / "runs" / "report.html").exists()


@pytest.mark.slow
def test_a_hundred_thousand_rows_take_four_seconds(tmp_path):
  rng = np.random.default_rng(0)
  frame = pd.DataFrame(
    {
      "variant": np.repeat(["A", "B"], 50_000),
      "seed": np.tile(np.arange(50_000), 2),
      "runtime": rng.random(100_000),
      "accuracy": rng.normal(0.9, 0.01, 100_000),
    }
  )
  frame.to_csv(tmp_path / "t.csv", index=False)
  start = time.process_time()
  found = comparisons.compare([tmp_path / "t.csv"])
  assert found.pairs[0].two.paired and time.process_time() - start < 4
