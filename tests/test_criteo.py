"""Criteo's file of clicks: parsed, split, converted in pieces; and its errors."""

import functools
import gzip
import os
import pathlib
import re
import subprocess
import sys
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import build, size
from test_data import load, refusal
from test_data import user_cache as user_cache

from seedlab import data
from seedlab.data import convert, criteo

# The buckets of the empty category.
EMPTY = [
  1118,
  208,
  3351,
  2475,
  183,
  20,
  2105,
  592,
  7,
  5267,
  1779,
  606,
  8053,
  6,
  779,
  3370,
  12,
  2480,
  4637,
  1,
  2594,
  15,
  33,
  1269,
  214,
  2265,
]


def lines(count: int, seed: int = 0) -> list[bytes]:
  """As published: cells between tabs, some of them empty, categories of eight hex digits."""
  rng = np.random.default_rng(seed)
  made = []
  for number in range(count):
    numbers = [b"" if rng.random() < 0.2 else b"%d" % n for n in rng.integers(-3, 9999, 13)]
    numbers[0] = b"%d" % number  # says which line it is
    names = [b"" if rng.random() < 0.1 else b"%08x" % n for n in rng.integers(0, 40, 26)]
    made.append(b"\t".join([b"%d" % (rng.random() < 0.25), *numbers, *names]) + b"\n")
  return made


def write(directory: pathlib.Path, content: list[bytes], packed: bool = False) -> pathlib.Path:
  folder = directory / "criteo"
  folder.mkdir(exist_ok=True)
  path = folder / ("train.txt.gz" if packed else "train.txt")
  text = b"".join(content)
  path.write_bytes(gzip.compress(text) if packed else text)
  return path


def by_hand(line: bytes) -> list[int]:
  _, *cells = line.rstrip(b"\n").split(b"\t")
  numbers = [-1 if cell == b"" else int(cell) for cell in cells[:13]]
  buckets = [field.buckets for field in criteo.FIELDS[13:]]
  return numbers + [
    zlib.crc32(b"%d:%s" % (i + 1, cell)) % buckets[i] for i, cell in enumerate(cells[13:])
  ]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("large", [False, True])
def test_rows_and_split(tmp_path, monkeypatch, packed, large):
  monkeypatch.setattr(criteo, "_PARSED", 17)
  if large:
    monkeypatch.setattr(convert, "LARGE", 0)
  content = lines(100)
  write(tmp_path, content, packed)
  for _ in range(2):  # read, and from the cache
    loaded = load("criteo", tmp_path)
    # 37/45.84 of a hundred, and 4.42/45.84, rounded down.
    assert loaded.train_image.tolist() == [by_hand(line) for line in content[:80]]
    assert loaded.test_image.tolist() == [by_hand(line) for line in content[91:]]
    assert loaded.train_label.tolist() == [int(line[:1]) for line in content[:80]]
    assert loaded.test_label.tolist() == [int(line[:1]) for line in content[91:]]
    assert {array.dtype for array in loaded[:4]} == {np.dtype(np.int32)}
    assert loaded.mean.shape == loaded.std.shape == (0,)
    assert not loaded.train_image.flags.writeable


def test_the_published_split_is_that_of_the_whole_file():
  train, test = criteo.parts(45_840_617)
  assert train == range(37_000_000) and len(test) == 4_420_309
  assert test.stop == 45_840_617 and test.start - train.stop == 4_420_308
  assert criteo.parts(10) == (range(8), range(9, 10))
  assert criteo.parts(1000) == (range(807), range(904, 1000))


def test_hashes_are_frozen_and_spread():
  """Every record made with Criteo rests on them."""
  empty = criteo._parse(pathlib.Path("x"), [b"1" + b"\t" * 39], 0)[0][0].tolist()
  assert empty[:13] == [-1] * 13
  assert empty[13:] == EMPTY
  rng = np.random.default_rng(0)
  names = [b"%08x" % n for n in rng.integers(0, 2**32, 20_000)]
  rows, _ = criteo._parse(
    pathlib.Path("x"), [b"\t".join([b"0", *[b"7"] * 13, *[name] * 26]) for name in names], 0
  )
  for column, buckets in ((13, 1373), (18, 28), (22, 7403), (32, 12)):
    expected = 20_000 / buckets
    counts = np.bincount(rows[:, column], minlength=buckets)
    spread = ((counts - expected) ** 2 / expected).sum()
    assert abs(spread - (buckets - 1)) < 4 * np.sqrt(2 * buckets), buckets
  assert abs(np.corrcoef(rows[:, 13], rows[:, 14])[0, 1]) < 0.03  # one name, two columns


def test_fields(tmp_path):
  write(tmp_path, lines(10))
  examples = data.build("criteo", data_dir=str(tmp_path))
  fields = examples.fields
  assert len(fields) == 39 and examples.class_names == ("no click", "click")
  assert all(field.buckets == 0 for field in fields[:13])
  assert sum(field.buckets for field in fields) == 81_552
  inputs = sum(field.embedding or field.buckets for field in fields[13:])
  assert 13 + inputs == 1042


def test_ovadias_network_has_the_published_size():
  """10.34 million: trained parameters, batch norm's running averages not counted."""
  module = build("ctr_ovadia", classes=2, fields=criteo.FIELDS, width=2572)
  shapes = jax.eval_shape(
    functools.partial(module.init, train=False),
    jax.random.key(0),
    jax.ShapeDtypeStruct((1, 39), jnp.int32),
  )
  params = shapes["params"]
  kernels = [params[f"Dense_{i}"]["kernel"].shape for i in range(4)]
  assert kernels == [(1042, 2572), (2572, 1454), (1454, 1596), (1596, 1)]
  assert size(params) == 10_335_998 and size(shapes["batch_stats"]) == 2 * 1042
  assert {name for name in params if not name.startswith(("Dense", "BatchNorm"))} == {
    field.name for field in criteo.FIELDS if field.embedding
  }


def test_conversion_says_how_far_it_is(tmp_path, monkeypatch, capfd):
  monkeypatch.setattr(criteo, "_PARSED", 10)
  monkeypatch.setattr(convert, "LARGE", 0)
  write(tmp_path, lines(100))
  load("criteo", tmp_path)
  out, err = capfd.readouterr()
  said = err.splitlines()
  assert out == "" and said[0].startswith("seedlab: converting criteo once, 0.0 GB, to ")
  assert said[1] == "seedlab: criteo: 10 of 89 rows converted"
  assert said[-1] == "seedlab: criteo: 89 of 89 rows converted"
  load("criteo", tmp_path)
  assert capfd.readouterr().err == ""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs Linux's /proc")
def test_memory_does_not_grow_with_the_file(tmp_path):
  content = lines(500)
  write(tmp_path, content * 160)  # 80,000 lines of 230 bytes
  code = (
    "import re, sys\n"
    "from seedlab import data\n"
    "from seedlab.data import convert\n"
    "convert.LARGE = 0\n"
    # Of this program alone; what getrusage tells begins at its parent's.
    "def peak():\n"
    "  status = open('/proc/self/status').read()\n"
    "  return int(re.search(r'VmHWM:\\s*(\\d+)', status)[1]) / 1024\n"
    "before = peak()\n"
    "loaded = data.build('criteo', data_dir=sys.argv[1]).dataset\n"
    "print(before, peak() - before, loaded.train_image.nbytes / 2**20)\n"
  )
  environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
  done = subprocess.run(
    [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, env=environment
  )
  assert done.returncode == 0, done.stderr
  _, more, rows = map(float, done.stdout.split())
  # The text alone has 18 MiB, its cells as Python objects some 150.
  assert rows > 9 and more < 40, done.stdout


# What is refused.


def changed(line: bytes, **cells: bytes) -> bytes:
  """With other cells, named c0 (the label), c1, ..."""
  old = line.rstrip(b"\n").split(b"\t")
  for name, cell in cells.items():
    old[int(name[1:])] = cell
  return b"\t".join(old) + b"\n"


@pytest.mark.parametrize(
  ("change", "says"),
  [
    (lambda line: line[:40] + b"\n", r"has \d+ cells, not 40"),
    (lambda line: line.rstrip() + b"\tab\tcd\n", r"has 42 cells, not 40"),
    (lambda line: b"\n", r"has 1 cells, not 40"),
    (functools.partial(changed, c0=b"2"), r"has the label '2', neither 0 nor 1"),
    (functools.partial(changed, c0=b""), r"has the label '', neither"),
    (functools.partial(changed, c7=b"1.5"), r"has '1\.5' for an integer"),
    (functools.partial(changed, c13=b"99999999999"), r"has '99999999999' for an integer"),
    (functools.partial(changed, c2=b"\xff"), r"for an integer of 32 bits"),
  ],
)
@pytest.mark.parametrize("number", [1, 44, 100])
def test_malformed_lines_are_named(tmp_path, monkeypatch, change, says, number):
  monkeypatch.setattr(criteo, "_PARSED", 10)
  content = lines(100)
  content[number - 1] = change(content[number - 1])
  path = write(tmp_path, content)
  message = refusal("criteo", tmp_path)
  assert message.startswith(f"data.name='criteo': line {number} of {path} ")
  assert re.search(says, message)


def test_all_lines_wrong_alike(tmp_path):
  for change in (lambda line: line.rsplit(b"\t", 1)[0] + b"\n", lambda line: b"1\t" + line):
    write(tmp_path, [change(line) for line in lines(20)])
    assert "line 1 of" in refusal("criteo", tmp_path)


def test_missing_short_and_damaged_files(tmp_path):
  message = refusal("criteo", tmp_path)
  assert f"no {tmp_path}/criteo/train.txt (or train.txt.gz)" in message
  assert "Criteo AI Lab" in message and "http" not in message
  path = write(tmp_path, lines(9))
  assert f"{path} has 9 lines, fewer than 10" in refusal("criteo", tmp_path)
  path.unlink()
  path = write(tmp_path, lines(3000), packed=True)
  whole = path.read_bytes()
  for damaged in (whole[: len(whole) // 2], whole[:-3], whole[:3000] + b"!" * 90 + whole[3090:]):
    path.write_bytes(damaged)
    assert f"{path} cannot be read (" in refusal("criteo", tmp_path)
  path.write_bytes(b"".join(lines(20)))
  assert "BadGzipFile" in refusal("criteo", tmp_path)


def test_a_last_line_without_its_end(tmp_path):
  content = lines(20)
  write(tmp_path, [*content[:-1], content[-1].rstrip(b"\n")])
  assert load("criteo", tmp_path).test_image.tolist() == [by_hand(content[-1])]
  write(tmp_path, [line.replace(b"\n", b"\r\n") for line in content])
  assert load("criteo", tmp_path).test_image.tolist() == [by_hand(content[-1])]


@pytest.mark.parametrize("option", [{"image_size": 8}, {"train_split": "all"}, {"test_by": "time"}])
def test_options_of_other_sets(tmp_path, option):
  message = refusal("criteo", tmp_path, **option)
  ((name, value),) = option.items()
  assert message.startswith(f"data.{name}={value!r} is not read by data.name='criteo', but by ")
