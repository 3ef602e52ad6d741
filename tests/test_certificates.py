"""Trees by hand and by their definition, the draw, tables, and certificates that were forged."""

import csv
import hashlib
import json
import pathlib
import random
import subprocess

import pytest

from seedlab import certificates
from seedlab.errors import UserError


def sha(data: bytes) -> bytes:
  return hashlib.sha256(data).digest()


def digests(count: int, step: int = 3) -> dict[int, str]:
  """Runs 0, 3, 6, ... in no order."""
  runs = [step * number for number in range(count)]
  random.Random(count).shuffle(runs)
  return {run: hashlib.sha256(b"%d" % run).hexdigest() for run in runs}


def leaf(found: dict[int, str], run: int) -> bytes:
  return sha(b'\x00[%d,"%s"]' % (run, found[run].encode()))


def node(left: bytes, right: bytes) -> bytes:
  return sha(b"\x01" + left + right)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 7])
def test_small_trees_by_hand(count):
  found = digests(count)
  a, b, c, d, e, f, g = [leaf(found, run) for run in sorted(found)] + [b""] * (7 - count)
  by_hand = {
    1: lambda: a,
    2: lambda: node(a, b),
    3: lambda: node(node(a, b), c),
    5: lambda: node(node(node(a, b), node(c, d)), e),
    7: lambda: node(node(node(a, b), node(c, d)), node(node(e, f), g)),
  }
  assert certificates.root(found) == by_hand[count]().hex()


def test_a_path_by_hand():
  found = digests(7)
  a, b, c, d, e, f, g = (leaf(found, run) for run in sorted(found))
  path = [f, g, node(node(a, b), node(c, d))]
  assert certificates.audit_path(found, 12) == [one.hex() for one in path]
  path = [node(e, f), node(node(a, b), node(c, d))]
  assert certificates.audit_path(found, 18) == [one.hex() for one in path]


def by_definition(leaves: list[bytes]) -> bytes:
  """RFC 6962, 2.1, literally."""
  if not leaves:
    return sha(b"")
  if len(leaves) == 1:
    return leaves[0]
  split = max(2**k for k in range(20) if 2**k < len(leaves))
  return node(by_definition(leaves[:split]), by_definition(leaves[split:]))


def test_every_size_agrees_with_the_recursive_definition_and_every_path_with_its_root():
  for count in range(40):
    found = digests(count)
    top = certificates.root(found)
    assert top == by_definition([leaf(found, run) for run in sorted(found)]).hex()
    for place, run in enumerate(sorted(found)):
      path = certificates.audit_path(found, run)
      assert certificates.is_included(run, found[run], place, count, path, top)
      wrong = [
        (run + 1, found[run], place, count, path),
        (run, found[run][::-1], place, count, path),
        (run, found[run], place + 1, count, path),
        (run, found[run], place, count, [*path, top]),
        (run, found[run], place, count, path[:-1] or [top]),
      ]
      assert not any(certificates.is_included(*one, top) for one in wrong)


def test_the_draw_by_hand():
  """Ranks are hashes of a text that any language can write."""
  top, runs = "ab" * 32, range(100, 150)
  ranks = {run: hashlib.sha256(f"{top} lotto 7 {run}".encode()).hexdigest() for run in runs}
  expected = sorted(sorted(ranks, key=ranks.get)[:6])
  assert certificates.draw(top, "lotto 7", list(runs)[::-1], 6) == expected
  assert certificates.draw(top, "lotto 7", runs, 99) == list(runs)
  assert certificates.draw(top, "lotto 8", runs, 6) != expected


def test_the_draw_by_a_shell():
  """The same three runs by sha256sum and sort."""
  top = certificates.root(digests(9))
  script = (
    'for run in 0 3 6 9 12 15 18 21 24; do'
    f' echo "$(printf %s "{top} coin $run" | sha256sum | cut -c1-64) $run"; done | sort | head -3'
  )  # fmt: skip
  said = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout
  by_shell = sorted(int(line.split()[1]) for line in said.splitlines())
  assert certificates.draw(top, "coin", list(digests(9)), 3) == by_shell


def test_each_run_is_drawn_as_often_as_the_others():
  counts = dict.fromkeys(range(10), 0)
  for seed in range(2000):
    for run in certificates.draw("00", str(seed), range(10), 3):
      counts[run] += 1
  assert all(abs(count - 600) < 5 * (2000 * 0.3 * 0.7) ** 0.5 for count in counts.values())


def test_the_chance_to_catch_is_the_hypergeometric_one():
  """3 of 20 made up, 2 drawn: 1 - 17/20 * 16/19; of very many runs 1 - 0.85^20."""
  assert certificates.chance_to_catch(20, 2) == pytest.approx(1 - 17 / 20 * 16 / 19)
  assert certificates.chance_to_catch(10**6, 20) == pytest.approx(1 - 0.85**20, abs=1e-5)
  assert certificates.chance_to_catch(40, 0) == 0 and certificates.chance_to_catch(5, 9) == 1


def issued(seed=None, sample=4) -> dict:
  return certificates.sealed(
    {
      **certificates.of_digests(digests(20), seed, sample),
      "left_out": 1,
      "manifest_sha256": "0" * 64,
      "fingerprints": ["1" * 64],
      "devices": ["cpu"],
      "seedlab_version": "0.1.0",
      "date": "2026-01-01T00:00:00+00:00",
    }
  )


def expected_of(certificate: dict, whole: bool) -> dict:
  count, seed = len(certificate["drawn"]), certificate["seed"]
  fields = certificates.of_digests(digests(20), seed, count)
  if whole:
    fields |= {name: issued()[name] for name in certificates.OF_THE_STORE}
  return fields


def another(value):
  """Other values of the same kind."""
  if isinstance(value, list):
    return [value[:-1], [*value, value[0]], [*value[:-1], another(value[-1])[0]]]
  if isinstance(value, int):
    return [value + 1, float(value)]
  return [value + "0", "0" + value[1:] + "0"]


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("field", list(issued()))
def test_a_certificate_forged_in_any_field_is_refused(field, whole):
  """Naively, and with its checksum made again; with the store, and with a table alone."""
  true = issued()
  assert certificates.objections(true, expected_of(true, whole)) == []
  doubted = {*certificates.UNCHECKABLE, *(() if whole else certificates.OF_THE_STORE)}
  for value in [*another(true[field]), None, {}]:
    forged = true | {field: value}
    if not isinstance(forged["drawn"], list) or not isinstance(forged["seed"], str):
      continue  # refused when it is read
    said = certificates.objections(forged, expected_of(forged, whole))
    assert said and (field in doubted or any(field in one for one in said)), value
    del forged["sha256"]
    again = certificates.sealed(forged)
    if field not in doubted | {"sha256"}:
      said = certificates.objections(again, expected_of(again, whole))
      assert any(one.startswith(f"{field} is ") or f"and {field}," in one for one in said), value
  less = {name: value for name, value in true.items() if name != field}
  said = certificates.objections(less, expected_of(true, whole))
  assert f"{field} is missing" in said


def test_a_field_that_is_none_is_refused():
  more = issued() | {"approved": True}
  said = certificates.objections(more, expected_of(more, True))
  assert said == ["approved is no field of a certificate"]


def test_the_default_seed_is_the_root():
  assert issued()["seed"] == issued()["root"] and issued("x")["drawn"] != issued()["drawn"]


@pytest.mark.parametrize(
  "text, says",
  [
    ("{", "it is not JSON"),
    ("[" * 100_000, "it is not JSON"),
    ('{"format": 1, "runs": NaN}', "drawn is no list"),
    ("[]", "field format is not 1"),
    ('{"format": 2}', "field format is not 1"),
    ('{"format": 1, "drawn": 3}', "drawn is no list"),
    ('{"format": 1, "drawn": [], "seed": "a\\nb"}', "must be a text of one line"),
    ('{"format": 1, "drawn": [], "seed": "\\ud800"}', "it is not JSON .*surrogate"),
    ('{"format": 1, "drawn": [], "seed": ""}', "must be a text of one line"),
  ],
)
def test_a_file_that_is_no_certificate_is_one_line(tmp_path, text, says):
  file = tmp_path / "c.json"
  file.write_text(text)
  with pytest.raises(UserError, match=says) as error:
    certificates.read(file)
  assert "\n" not in str(error.value)


def test_a_table_is_read_as_it_was_written_and_in_any_order(tmp_path):
  found = digests(12)
  file = tmp_path / "t.csv"
  certificates.write(file, certificates.table(found))
  assert certificates.read_table(file) == found
  rows = list(csv.DictReader(file.read_text().splitlines()))[::-1]
  with file.open("w", newline="") as stream:
    wide = csv.DictWriter(stream, ["accuracy", "run_digest", "run"])
    wide.writeheader()
    wide.writerows(row | {"accuracy": "0.9"} for row in rows)
  assert certificates.read_table(file) == found
  assert certificates.root(certificates.read_table(file)) == certificates.root(found)


@pytest.mark.parametrize(
  "text, says",
  [
    ("run,digest\n1,2\n", "columns run and run_digest"),
    ("", "columns run and run_digest"),
    (f"run,run_digest\n1,{'a' * 63}\n", "line 2: run='1'"),
    (f"run,run_digest\n1,{'a' * 64}\n1,{'b' * 64}\n", "line 3: run 1 is there twice"),
    (f"run,run_digest\n-1,{'a' * 64}\n", "line 2"),
    ("run,run_digest\n1\n", "line 2"),
    ("run,run_digest\n" + "1" * 200_000, "is no CSV|line 2"),
  ],
)
def test_a_table_that_is_none_is_one_line(tmp_path, text, says):
  file = tmp_path / "t.csv"
  file.write_text(text)
  with pytest.raises(UserError, match=says):
    certificates.read_table(file)
  file.write_bytes(b"\xff\xfe\xff")
  with pytest.raises(UserError, match="no text in UTF-8"):
    certificates.read_table(file)


def test_a_certificate_is_plain_json(tmp_path):
  file = tmp_path / "c.json"
  certificates.write(file, certificates.as_text(issued()))
  assert certificates.read(file) == issued() and list(tmp_path.iterdir()) == [file]
  with pytest.raises(UserError, match="cannot be written"):
    certificates.write(tmp_path / "none" / "c.json", "")


def test_the_lines_of_the_documentation_and_its_example(tmp_path, monkeypatch, capsys):
  """docs/verify.md: what a stranger would run, and the numbers that he would compare."""
  text = (pathlib.Path(__file__).parent.parent / "docs" / "verify.md").read_text()
  code = text.split("```python\n")[1].split("```")[0]
  rows, leaves, ranks = (
    text.split(f"{before}\n\n```\n")[1].split("```")[0]
    for before in ("For the three runs", "the leaves are", "ranks the runs")
  )
  monkeypatch.chdir(tmp_path)
  pathlib.Path("digests.csv").write_text(rows)
  found = certificates.read_table("digests.csv")
  fields = certificates.of_digests(found, "coin", 2)
  pathlib.Path("certificate.json").write_text(json.dumps(fields))
  exec(code, {})
  assert capsys.readouterr().out == "True True\n"
  assert [line.split() for line in leaves.splitlines()] == [
    [str(run), leaf(found, run).hex()] for run in found
  ]
  assert certificates.audit_path(found, 4)[0] in text and fields["root"] in text
  assert [line.split() for line in ranks.splitlines()] == [
    [str(run), sha(f"{fields['root']} coin {run}".encode()).hex()] for run in found
  ]
  first, second = fields["drawn"]
  assert f"runs {first} and {second} are drawn" in text


def test_the_table_of_the_documentation():
  text = (pathlib.Path(__file__).parent.parent / "docs" / "verify.md").read_text()
  rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
  rows = [row for row in rows if row[0].isdigit()]
  assert len(rows) == 6
  for sample, *cells in rows:
    for percent, cell in zip((1, 5, 15, 30, 50), cells, strict=True):
      shown = cell.removesuffix(" %")
      digits = len(shown.partition(".")[2])
      chance = 100 * certificates.chance_to_catch(1000, int(sample), percent)
      assert f"{chance:.{digits}f}" == shown, (sample, percent)
