"""Input that nobody meant well: what is said of it stays readable, and it runs nothing."""

import html.parser
import json
import pathlib
import re
import shutil
import zipfile

import hostile
import numpy as np
import pandas as pd
import pytest
from test_report import errors as errors_of
from test_report import store

import seedlab
from seedlab import (
  changes,
  cli,
  comparisons,
  config,
  console,
  decoding,
  errors,
  findings,
  records,
  report,
  tables,
)
from seedlab.data import npz
from seedlab.errors import UserError
from seedlab.report import charts

GOLDEN = pathlib.Path(__file__).parent / "golden" / "layout2"
DIGITS = "9" * 5000
NAME = (
  "\"><img src=x onerror=alert(1)>@x{safe}</script><script>alert(1)</script>' onmouseover='a()<!--"
  " $$\\href{javascript:alert(1)}{x}$$a\x1b[31m\u202e\x00b"
)


def test_a_message_cuts_long_values_and_keeps_field_and_remedy():
  message = str(errors.UserError(f"width={'9' * 5000} is too large; choose at most 4096"))
  assert message.startswith("width=999") and message.endswith("choose at most 4096")
  assert "(5,006 characters)" in message and len(message) < 200


def test_a_message_cuts_long_quoted_text_with_blanks():
  message = str(errors.UserError(f"name={'a ' * 2500!r} is not known; choices: b"))
  assert message.endswith("is not known; choices: b") and len(message) < 200


def test_a_message_is_one_line_whatever_is_named_in_it():
  assert str(errors.UserError("a\n  b\u2028c=3\r is wrong")) == "a b c=3 is wrong"


def test_a_message_keeps_paths_whole():
  path = "/".join(["folder"] * 100)
  assert str(errors.UserError(f"{path!r}: no such file")) == f"{path!r}: no such file"


@pytest.mark.parametrize(
  "text, reason",
  [
    ("[" * 100_000, "nested more than 100 deep"),
    ('{"a":' * 500 + "1" + "}" * 500, "nested more than 100 deep"),
    (DIGITS, "a number has more than 4,300 digits"),
    (b'"\xff"', "byte 1 is not utf-8 text"),
    ("{", "Expecting property name"),
    (r'"\ud800"', "half of a surrogate pair"),
  ],
)
def test_json_fails_in_one_way(text, reason):
  with pytest.raises(json.JSONDecodeError, match=reason):
    decoding.parse(text)


def test_json_that_is_right_is_read():
  deepest = json.loads("[" * 100 + "]" * 100)
  assert decoding.parse("[" * 100 + "]" * 100) == deepest
  assert decoding.parse(r'"\ud83d\ude00"') == "😀"
  assert decoding.parse("[" * 50 + "1" + "]" * 50, parse_int=str) is not None


def test_a_pipe_is_no_file_and_is_not_waited_for(tmp_path):
  import os

  os.mkfifo(tmp_path / "pipe.csv")
  for read in (tables.read, seedlab.audit):
    with pytest.raises(UserError, match="pipe or a device"):
      read(tmp_path / "pipe.csv")
  with pytest.raises(UserError, match="pipe or a device"):
    cli.load(str(tmp_path / "pipe.csv"))
  with pytest.raises(UserError, match="null"):
    cli.load("a\0b")


CONFIGS = {
  "text": "{1: 2}",
  "deep": "__import__('functools').reduce(lambda inner, _: {'a': inner}, range(500), 1)",
  "itself": "[d := {}, d.update(model=d)][0]",
  "number": "{'training': {'steps': 10**5000}}",
  "whole": "{'training': {'steps': 10**20}}",
  "float": "{'optimizer': {'learning_rate': 10**400}}",
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_config_file_may_return_anything(tmp_path, kind):
  (tmp_path / "c.py").write_text(f"def get_config(scale=None):\n  return {CONFIGS[kind]}\n")
  answer = hostile.command("sweep", f"--config={tmp_path}/c.py", f"--out={tmp_path}/s", "--runs=1")
  assert answer.status == 2 and answer.err.count("\n") == 1, answer.err
  assert len(answer.err) < 300


@pytest.mark.parametrize(
  "flag, said",
  [
    (f"--grid=model.width={DIGITS}", "model.width="),
    (f"--config.model.width={DIGITS}", "model.width="),
    (f"--config.augment[{DIGITS}].x=1", "is not"),
    (f"--config.training.steps={'[' * 9000}", "training.steps="),
    ("--config.training.steps={[]: 1}", "training.steps="),
    ("--config.model=.:a", "model.name='.:a' must be module:function"),
    ("--config.model=\x1b[31m", r"model.name='\x1b[31m'"),
    ("--\x1b[31mred=1", r"--\x1b[31mred is not a flag"),
    ("--flagfile=/nowhere", "--flagfile cannot be read"),
    ("--runs=\0", "NUL"),
    (f"--width={DIGITS}", "must be an integer"),
  ],
)
def test_a_hostile_flag_is_one_line(flag, said, tmp_path):
  answer = hostile.command("sweep", "--config=seedlab:digits", f"--out={tmp_path}/s", flag)
  assert answer.status == 2 and answer.err.count("\n") == 1 and said in answer.err, answer.err
  assert answer.err[:-1].isprintable() and len(answer.err) < 1000


@pytest.mark.parametrize("name", ["::", ":", ".:a", "..a:b", "os:", "a b:c", "\0:a", "os:a-b"])
def test_a_function_is_named_by_identifiers(name, tmp_path):
  with pytest.raises(UserError, match="must be module:function"):
    seedlab.sweep(name, 1, tmp_path / "s", quiet=True)


def test_names_and_depth_of_a_config():
  with pytest.raises(UserError, match="1 is no name"):
    config.parse({"model": {1: 2}})
  with pytest.raises(UserError, match="holds itself"):
    loop: dict = {}
    loop["model"] = loop
    changes.changed(loop, {})


def test_text_for_a_terminal():
  assert console.shown("a\x1b[31mb\u202ec\ud800\x9b\rd\te\n") == (
    r"a\x1b[31mb\u202ec\ud800\x9b\rd" + "\te\n"
  )
  assert (
    console.shown("ünïcode 😀 אב \N{ZERO WIDTH JOINER}") == "ünïcode 😀 אב \N{ZERO WIDTH JOINER}"
  )
  assert console.aligned([("a\nb", "c"), ("d", "\x1be")]) == "a b  c\nd    \\x1be"


class Structure(html.parser.HTMLParser):
  """The elements of a page with the names of their attributes, in order; its scripts' texts."""

  def __init__(self, page: str):
    super().__init__(convert_charrefs=True)
    self.tags: list[tuple] = []
    self.scripts: list[str] = []
    self.texts: list[str] = []
    self._in = ""
    self.feed(page)
    self.close()

  def handle_starttag(self, tag, attributes):
    self.tags.append((tag, *(name for name, _ in attributes)))
    self._in = tag

  def handle_endtag(self, tag):
    self.tags.append(("/", tag))
    self._in = ""

  def handle_comment(self, data):
    self.tags.append(("comment",))

  def handle_data(self, data):
    (self.scripts if self._in == "script" else self.texts).append(data)


def table_of(a: str, b: str) -> tables.Table:
  rng = np.random.default_rng(0)
  rows = [
    {"variant": name, "task": task, "seed": seed, f"acc {a}": rng.normal(0.9, 0.01)}
    for name in (a, b) for task in ("one", "two" + b) for seed in range(4)
  ]  # fmt: skip
  return tables.read(pd.DataFrame(rows), variant="variant", seed="seed", task="task")


def pages(a: str, b: str) -> list[str]:
  values = {"data": {"name": a}, "model": {"name": b, "option": a}}
  dataset = store(errors_of(12, 30), config=values)
  dataset.attrs |= {"python": a, "lock": [a, b], "git_commit": b}
  compared = comparisons.compare(table_of(a, b))
  return [
    report.sweep_page(dataset, directory=a),
    report.comparison_page(compared, a),
    report.table_page(findings.examine_table(table_of(a, b))[0]),
  ]


def test_a_name_adds_no_element_and_no_script():
  harmless_name = re.sub(r"[^ ]", "x", NAME)
  for hostile_page, harmless in zip(
    pages(NAME, f"b{NAME}"), pages(harmless_name, f"b{harmless_name}"), strict=True
  ):
    found, expected = Structure(hostile_page), Structure(harmless)
    assert found.tags == expected.tags
    assert found.scripts[1:] == expected.scripts[1:]  # the first holds data
    json.loads(found.scripts[0])
    hostile_page.encode()
    policy = re.search('Content-Security-Policy" content="([^"]*)"', hostile_page)[1]
    assert policy.count("'sha256-") == len(found.scripts) - 1
    assert "script-src 'unsafe-inline'" not in policy


def test_a_name_reaches_no_template_of_a_tooltip():
  line = charts.Line(NAME, 0, "solid", *np.ones((4, 3)))
  plot = charts.lines([line], NAME, "y")
  values = [value for tool in plot.tools for _, value in tool.tooltips]
  assert values and not any("img" in value for value in values)
  assert plot.xaxis[0].axis_label.text == NAME  # plain text, no TeX


def hostile_store(tmp_path, change) -> pathlib.Path:
  """The golden store with changed metadata; the content of other files is as it was."""
  path = tmp_path / "hostile"
  shutil.copytree(GOLDEN, path)
  file = path / ".zmetadata"
  content = json.loads(file.read_text())
  change(content["metadata"])
  for name, value in content["metadata"].items():
    inside = (path / name).resolve().parent.parent in (path, path.parent)
    if inside and (path / name).parent.is_dir():
      (path / name).write_text(json.dumps(value))
  file.write_text(json.dumps(content))
  return path


def _array(**changed):
  return lambda metadata: metadata["test_accuracy/.zarray"].update(changed)


STORES = {
  "pickle as a filter": _array(filters=[{"id": "pickle"}]),
  "pickle as the compressor": _array(compressor={"id": "pickle"}),
  "an empty list of filters": _array(filters=[]),
  "another compressor": _array(compressor={"id": "zstd", "level": 1}),
  "objects": _array(dtype="|O"),
  "a large shape": _array(shape=[10**12, 2]),
  "a large chunk": _array(chunks=[10**10, 1]),
  "no chunk": _array(chunks=[0, 2]),
  "a negative shape": _array(shape=[-1, 2]),
  "another format": _array(zarr_format=3),
  "a group of another format": lambda metadata: metadata.update({".zgroup": {"zarr_format": 3}}),
  "chunks of columns": _array(chunks=[4, 1], shape=[4, 2]),
  "a negative item": _array(dtype="<f-8"),
  "bytes in another order": _array(order="K"),
  "a list to fill with": _array(fill_value=[1]),
  "no list of arrays": lambda metadata: metadata[".zattrs"].pop("by_run"),
  "a number for the version": lambda metadata: metadata[".zattrs"].update(seedlab_version=1),
  "numbers for names": lambda metadata: metadata[".zattrs"].update(metrics=[1]),
  "a section that is a word": lambda metadata: metadata[".zattrs"]["config"].update(model="mlp"),
  "a part without a word": lambda metadata: metadata[".zattrs"]["config"]["model"].update(name=1),
  "a meaning that is a word": lambda metadata: metadata[".zattrs"]["meanings"].update(x="up"),
  "a fingerprint that is a word": lambda metadata: metadata[".zattrs"].update(fingerprints=["x"]),
  "no fingerprint": lambda metadata: metadata[".zattrs"].update(fingerprints=[]),
  "arrays of two heights": lambda metadata: metadata["digest/.zarray"].update(shape=[5]),
  "a file outside": lambda metadata: metadata.update({"../evil/.zattrs": {}}),
  "an absolute file": lambda metadata: metadata.update({"/tmp/evil/.zattrs": {}}),
  "no dimensions": lambda metadata: metadata["run/.zattrs"].clear(),
  "a word for the chunk": lambda metadata: metadata[".zattrs"].update(chunk="1"),
  "an array that is not there": lambda metadata: metadata[".zattrs"]["by_run"].append("x"),
  "no array of runs": lambda metadata: metadata.pop("run/.zarray"),
  "seeds that are none": lambda metadata: metadata[".zattrs"]["config"].update(seeds=[]),
  "an array that is no object": lambda metadata: metadata.update({"digest/.zarray": []}),
  "a stream that is a number": lambda metadata: (
    metadata[".zattrs"]["config"]["seeds"].update(vary=[1])
  ),
  "runs that end before they begin": lambda metadata: metadata[".zattrs"].update(runs=[[4, 0]]),
  "more runs than there are": lambda metadata: metadata[".zattrs"].update(runs=[[0, 5]]),
  "no metadata": lambda metadata: metadata.update({".zattrs": []}),
}


@pytest.mark.parametrize("kind", STORES)
def test_a_store_that_no_seedlab_wrote_is_not_opened(tmp_path, kind):
  path = hostile_store(tmp_path, STORES[kind])
  before = sorted(tmp_path.rglob("*"))
  for use in (seedlab.open, records.damage, records.Writer):
    with pytest.raises(UserError) as raised:
      use(path)
    said = str(raised.value)
    assert "which no seedlab wrote" in said or kind == "no metadata"
    assert "\n" not in said and len(said) < 1000
  assert sorted(tmp_path.rglob("*")) == before


def test_a_store_of_another_format_beside_ours_is_not_read(tmp_path):
  path = hostile_store(tmp_path, lambda metadata: None)
  (path / "zarr.json").write_text(
    '{"zarr_format": 3, "node_type": "group", "attributes": {"a": 1}}'
  )
  assert len(seedlab.open(path).run) == 4


def test_a_chunk_is_not_unpacked_to_more_than_its_share(tmp_path):
  """The beginning of a file of Blosc asks for 2 GB, of which nothing follows."""
  path = hostile_store(tmp_path, lambda metadata: None)
  file = path / "test_loss" / "0.0"
  content = bytearray(file.read_bytes())
  content[4:8] = (2**31 - 100).to_bytes(4, "little")
  file.write_bytes(content)
  with pytest.raises(errors.Damaged, match="test_loss"):
    seedlab.open(path)


def test_tables_that_promise_more_than_they_hold(tmp_path):
  wide = tmp_path / "wide.csv"
  wide.write_text(",".join(f"c{n}" for n in range(15_000)) + "\n" + "1," * 14_999 + "1\n")
  constant = pd.DataFrame({"seed": np.zeros(2_000_000, np.int8)})
  constant.to_parquet(tmp_path / "long.parquet")
  assert (tmp_path / "long.parquet").stat().st_size < 20_000
  for name, reason in (("wide.csv", "15,000 columns"), ("long.parquet", "2,000,000 rows")):
    with pytest.raises(UserError, match=reason):
      tables.read(tmp_path / name)
  with pytest.raises(UserError, match="15,000 columns"):
    seedlab.audit(wide)


def test_an_archive_is_packed_as_numpy_packs(tmp_path):
  with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_BZIP2) as archive:
    archive.writestr("X.npy", bytes(10**6))
  with pytest.raises(UserError, match="packed by a method"):
    npz.shape("data.path", tmp_path / "bomb.npz")
