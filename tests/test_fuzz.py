"""Any input is read, or refused in one line: nothing else is raised, run, written or waited for.

Every run of the tests tries the same few inputs. SEEDLAB_FUZZ=N tries N others of each kind, and -k
chooses kinds, as in: SEEDLAB_FUZZ=2000 python -m pytest tests/test_fuzz.py -k ledgers
"""

import copy
import io
import json
import os
import pathlib
import shutil
import sys
import zipfile
from collections.abc import Callable
from typing import Any

import hostile
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import seedlab
from seedlab import changes, config, ledger, records, seals, tables
from seedlab.data import npz
from seedlab.errors import UserError
from seedlab.models import pretrained

resource = pytest.importorskip("resource")
GOLDEN = pathlib.Path(__file__).parent / "golden" / "layout2"
COUNT = int(os.environ.get("SEEDLAB_FUZZ", "0"))
ROOM = 1 << 30  # bytes that a test may take beyond what was taken before, with what it imports


def _most_memory() -> int:
  """The most bytes that this process ever had in memory."""
  unit = 1 if sys.platform == "darwin" else 1024
  return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.fixture(autouse=True)
def _little_memory():
  before = _most_memory()
  yield
  assert _most_memory() - before < ROOM


fuzzed = settings(
  max_examples=COUNT or 15,
  derandomize=not COUNT,
  deadline=None,
  database=None,
  suppress_health_check=list(HealthCheck),
)

# What stands where a number, a name or a list belongs.
HOSTILE = st.sampled_from(
  [
    None, True, -1, 0, 3, 2**31, 2**63, 10**30, 1e400, float("nan"), 0.5, "", " ", "0", "nan", "::",
    ":", "a:b", ".:a", "os:system", "a\0b", "\x1b[31m", "\u202e", "<script>", "..", "../../x", "/",
    "x" * 5000, "9" * 5000, [], {}, [[]], [None], {"": None}, {"name": "x"}, [0, 1], [[0, 1]],
    ["run"], {"a": {"b": {"c": 1}}}, [[[]]] * 3, "none", "mlp", "cnn", "sgd", "١٢",
  ]
)  # fmt: skip
TREES = st.recursive(
  st.one_of(HOSTILE, st.integers(), st.floats(), st.text(max_size=8)),
  lambda inner: st.one_of(
    st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)
  ),
  max_leaves=8,
)


def refused_or_read(use: Callable[[], Any]) -> None:
  try:
    use()
  except UserError as error:
    assert str(error) and "\n" not in str(error).strip() and len(str(error)) < 5000


@st.composite
def mutated(draw, texts: list[bytes]) -> bytes:
  """One of the texts with bytes changed, inserted, dropped, repeated, or cut; or any bytes."""
  content = bytearray(draw(st.sampled_from(texts)))
  for _ in range(draw(st.integers(0, 4))):
    at = draw(st.integers(0, len(content)))
    length = draw(st.integers(0, 12))
    match draw(st.sampled_from(["change", "insert", "drop", "repeat", "cut", "any"])):
      case "change":
        content[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
      case "insert":
        new = draw(st.one_of(st.binary(max_size=6), HOSTILE.map(lambda one: str(one).encode())))
        content[at:at] = new
      case "drop":
        del content[at : at + length]
      case "repeat":
        content[at:at] = content[at : at + length] * 3
      case "cut":
        del content[at:]
      case "any":
        content[:] = draw(st.binary(max_size=60))
  return bytes(content)


@st.composite
def tampered(draw, tree: Any) -> Any:
  """A JSON tree with up to three of its values replaced, taken out, or named otherwise."""
  tree = json.loads(json.dumps(tree))
  for _ in range(draw(st.integers(1, 3))):
    place, key = None, None
    inner = tree
    while isinstance(inner, dict | list) and inner and (place is None or draw(st.integers(0, 3))):
      keys = sorted(inner) if isinstance(inner, dict) else range(len(inner))
      place, key = inner, draw(st.sampled_from(list(keys)))
      inner = inner[key]
    if place is None:
      continue
    match draw(st.sampled_from(["replace", "replace", "replace", "drop", "rename"])):
      case "replace":
        place[key] = copy.deepcopy(draw(TREES))
      case "drop":
        del place[key]
      case "rename" if isinstance(place, dict):
        place[draw(st.text(max_size=5))] = place.pop(key)
  return tree


CSV = [
  b"variant,seed,acc\na,0,0.91\na,1,0.92\nb,0,0.93\nb,1,0.95\n",
  b"variant;seed;acc\na;0;0,91\na;1;0,92\nb;0;0,93\n",
  b"step,loss,seed\n1,2.0,0\n2,1.5,0\n1,2.1,1\n2,1.7,1\n",
  b"method,C-10,C-100\nA,93.1 \xc2\xb1 0.2,71 \xc2\xb1 1\nB,**94.0** \xc2\xb1 0.1,72 \xc2\xb1 1\n",
  b"benchmark,method,mean,sd,n\nx,A,93.1,0.2,5\nx,B,93.5,0.3,5\n",
  b"seed\tmodel\taccuracy\n0\ta\t91.0%\n1\ta\t92.0%\n",
  b'"Wall time","Step","Value"\n1.0,1,0.5\n2.0,2,0.6\n',
  b"run - acc,run - acc__MIN,run - acc__MAX,Step\n1,1,1,0\n",
]
JSON = [
  b'[{"variant": "a", "seed": 0, "acc": 0.5}, {"variant": "a", "seed": 1, "acc": 0.6}]',
  b'{"variant": {"0": "a", "1": "b"}, "acc": {"0": 1e999, "1": 2}}',
  b'{"variant": "a", "seed": 0, "acc": 1}\n{"variant": "a", "seed": 1, "acc": null}\n',
  b'{"acc": [1, 2, 3], "seed": [0, 1, 2]}',
]
TEXT = [
  b"| method | acc |\n| --- | --- |\n| A | 93.1 \xc2\xb1 0.2 |\n| B | 94 \xc2\xb1 1 |\n",
  b"\\begin{tabular}{l}\nM & acc \\\\\nA & $93 \\pm 1$ \\\\\nB & \\textbf{94} \\\\\n\\end{tabular}",
  b"step:0/10 val_loss:4.5\nstep:10/10 val_loss:3.3\n",
  b"| run | epoch | acc |\n| 0 | 1 | 0.5 |\n|  | eval | 0.6 |\n",
]
FILES = [
  *((".csv", text) for text in CSV), *((".tsv", text) for text in CSV[5:6]),
  *((".json", text) for text in JSON), *((".jsonl", text) for text in JSON),
  *((".md", text) for text in TEXT), (".tex", TEXT[1]), *((".log", text) for text in TEXT),
]  # fmt: skip


@fuzzed
@given(st.data())
def test_tables(tmp_path_factory, data):
  suffix, text = data.draw(st.sampled_from(FILES))
  path = tmp_path_factory.getbasetemp() / f"fuzzed{suffix}"
  path.write_bytes(data.draw(mutated([text])))
  option = data.draw(st.sampled_from([{}, {"metric": "acc"}, {"variant": "columns"}]))
  spread = data.draw(st.sampled_from([None, "sd", "sem"]))
  refused_or_read(lambda: tables.read(path, **option))
  refused_or_read(lambda: seedlab.audit(path, spread=spread))


@fuzzed
@given(st.data())
def test_configs(data):
  good = config.to_dict(config.parse({}))
  tree = data.draw(st.one_of(tampered(good), tampered({"model": "mlp", "training": {}}), TREES))
  refused_or_read(lambda: config.parse(tree))


FIELDS = [
  "model", "model.name", "model.width", "data", "data.train_examples", "augment", "augment[0].size",
  "training.steps", "training.epochs", "seeds.vary", "seeds.fixed", "seeds.levels", "seeds.design",
  "optimizer", "optimizer.learning_rate", "schedule", "schedule.warmup_steps", "evaluation.epochs",
  "evaluation.metrics", "loss", "activation", "activation.beta", "gradient.penalty", "probe.steps",
]  # fmt: skip
FLAGS = ["--runs", "--width", "--workers", "--planned_n", "--stop", "--lanes", "--max_runs",
         "--checkpoint_minutes", "--grid", "--arguments", "--seeds", "--data_dir"]  # fmt: skip
WORDS = st.one_of(
  HOSTILE.map(str), TREES.map(lambda tree: json.dumps(tree)), st.text(max_size=12),
  st.sampled_from(FIELDS).map(lambda field: f"{field}=1,2"),
)  # fmt: skip


@fuzzed
@given(st.lists(st.tuples(st.sampled_from([*FLAGS, *FIELDS, "", "x"]), WORDS), max_size=3))
def test_flags(tmp_path_factory, flags):
  out = tmp_path_factory.getbasetemp() / "fuzzed-store"
  named = [(name if name[:2] == "--" else f"--config.{name}", word) for name, word in flags]
  words = [f"{name}={word}" for name, word in named]
  # The last word is wrong, so that nothing is ever trained.
  answer = hostile.command(
    "sweep", "--config=seedlab:digits", f"--out={out}", *words, "--planned_n=1", "--runs=2"
  )
  assert answer.status == 2 and answer.err.count("\n") == 1, answer.err
  assert answer.err[:-1].isprintable() and not out.exists()


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
  path = tmp_path_factory.mktemp("stores") / "store"
  shutil.copytree(GOLDEN, path)
  return path


@fuzzed
@given(st.data())
def test_manifests(copied, data):
  """Sealed again after each change, as whoever forges one would."""
  content = json.loads((GOLDEN / ".zmetadata").read_text())
  metadata = data.draw(tampered(content["metadata"]))
  if data.draw(st.booleans()) and isinstance(metadata.get(".zattrs"), dict):
    metadata[".zattrs"] = data.draw(tampered(metadata[".zattrs"]))
  file = copied / ".zmetadata"
  file.write_text(json.dumps({"metadata": metadata, "seedlab_sha256": seals.digest(metadata)}))
  before = sorted(copied.parent.rglob("*"))
  refused_or_read(lambda: seedlab.open(copied, verify=True))
  refused_or_read(lambda: _reported(copied))
  file.write_bytes(data.draw(mutated([(GOLDEN / ".zmetadata").read_bytes()])))
  refused_or_read(lambda: records.manifest(copied))
  assert sorted(copied.parent.rglob("*")) == before


def _reported(path: pathlib.Path) -> None:
  from seedlab import report

  with records.readable(path):
    dataset = seedlab.open(path)
    report.text(dataset)


def _weights() -> bytes:
  return safetensors.numpy.save({"a.kernel": np.ones((2, 3), np.float32), "b": np.zeros(2)})


@fuzzed
@given(mutated([_weights()]))
def test_weights(tmp_path_factory, content):
  path = tmp_path_factory.getbasetemp() / "fuzzed.safetensors"
  path.write_bytes(content)
  refused_or_read(lambda: pretrained.load("model.initial", str(path)))


def _archive(method: int) -> bytes:
  file = io.BytesIO()
  with zipfile.ZipFile(file, "w", method) as archive:
    for name, array in (("X", np.ones((3, 4, 4, 1), np.uint8)), ("Y", np.arange(3))):
      part = io.BytesIO()
      np.save(part, array)
      archive.writestr(f"{name}.npy", part.getvalue())
  return file.getvalue()


@fuzzed
@given(mutated([_archive(zipfile.ZIP_STORED), _archive(zipfile.ZIP_DEFLATED)]))
def test_archives(tmp_path_factory, content):
  path = tmp_path_factory.getbasetemp() / "fuzzed.npz"
  path.write_bytes(content)
  refused_or_read(lambda: list(npz.pieces("data.path", path, 2, 3)))


ENTRIES = [
  {**ledger.START, "baseline": {"a": 1}, "proposals": 10, "mode": "strict"},
  {"proposal": 1, "digest": "x", "p": 0.5},
]


def _chained(entries: list[Any]) -> bytes:
  lines, head = [], ""
  for entry in entries:
    head = ledger._chain(head, entry)
    lines.append(json.dumps({**entry, "chain": head}, sort_keys=True, separators=(",", ":")))
  return "\n".join(lines).encode() + b"\n"


@fuzzed
@given(mutated([_chained(ENTRIES)]))
def test_ledgers(tmp_path_factory, content):
  path = tmp_path_factory.getbasetemp() / "fuzzed.ledger"
  path.write_bytes(content)
  refused_or_read(lambda: ledger.read(path))


@fuzzed
@given(st.dictionaries(st.sampled_from(FIELDS), TREES, max_size=3))
def test_changes(fields):
  refused_or_read(lambda: changes.changed({"model": "mlp"}, fields))
