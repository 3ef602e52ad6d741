"""What leaves seedlab: Markdown, LaTeX, JSON, PDF, NetCDF and Zarr, each read back."""

import itertools
import json
import pathlib
import re
import warnings

import jsonschema
import numpy as np
import pandas as pd
import pytest
import xarray
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from test_comparisons import noisy, run, sweep, table
from test_report import errors, store

import seedlab
from seedlab import records, referee, report
from seedlab.comparisons import compare
from seedlab.config import STREAMS
from seedlab.errors import UserError
from seedlab.report import latex, markdown

ROOT = pathlib.Path(__file__).parent.parent
GOLDEN = ROOT / "tests/golden/layout1"
SCHEMA = json.loads((ROOT / "seedlab/report/comparison.schema.json").read_text())
UGLY = "-1|x*y*_z_ `c` <b>&amp;</b> [l](u) $m$ \\ ~s~ # {k}\n- q"
# All but NUL and halves of characters, with the signs that mean something more often.
TEXT = st.text(
  st.one_of(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
    st.sampled_from("\\`*_{}[]()<>#+-.!|~$&%^'\"=:@/ \n\t0123456789ab±\N{MINUS SIGN}"),
  ),
  max_size=30,
)


def shown(text: str) -> str:
  """As a line: every run of blanks is one."""
  return " ".join(text.split())


def read(tokens, opening: str) -> list[str]:
  """The texts of the blocks of a kind, which hold nothing but text."""
  found = []
  for before, token in itertools.pairwise(tokens):
    if before.type == opening:
      assert all(child.type == "text" for child in token.children), token.children
      found.append("".join(child.content for child in token.children))
  return found


MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])


@given(TEXT, TEXT, TEXT)
def test_markdown_shows_any_text_as_it_is(sentence, first, second):
  rows = [("head", second), (first, "x"), (second, first)]
  tokens = MARKDOWN.parse(markdown.document([sentence + "s"], rows))
  assert read(tokens, "paragraph_open") == [shown(sentence + "s")]
  assert read(tokens, "th_open") == ["head", shown(second)]
  assert read(tokens, "td_open") == [shown(t) for t in (first, "x", second, first)]
  kinds = {"paragraph", "inline", "table", "thead", "tbody", "tr", "th", "td"}
  assert {token.type.removesuffix("_open").removesuffix("_close") for token in tokens} <= kinds


@pytest.mark.parametrize("start", ["# a", "- a", "+ a", "1. a", "12) a", "> a", "=", "---", "&#9;"])
def test_markdown_of_a_sentence_starts_no_block(start):
  tokens = MARKDOWN.parse(markdown.paragraph(start))
  assert [token.type for token in tokens] == ["paragraph_open", "inline", "paragraph_close"]
  assert read(tokens, "paragraph_open") == [start]


def test_markdown_leaves_numbers_readable():
  assert markdown.escaped("-0.5 (95 %: -0.7 to +0.3)") == "-0.5 (95 %: -0.7 to +0.3)"
  assert markdown.escaped("test_accuracy") == r"test\_accuracy"


# What LaTeX sets for each of its signs, from the LaTeX Companion, independent of the module's.
SETS = {
  r"\textbackslash{}": "\\", r"\textasciitilde{}": "~", r"\textasciicircum{}": "^",
  r"\textless{}": "<", r"\textgreater{}": ">", r"\textbar{}": "|", r"\textasciigrave{}": "`",
  **{"\\" + sign: sign for sign in "&%$#_{}"}, "{[}": "[", "{]}": "]", "{*}": "*", "-{}": "-",
  r"$\pm$": "±", r"$\times$": "\N{MULTIPLICATION SIGN}", r"$\leq$": "≤", r"$\geq$": "≥",
  "$-$": "-",
}  # fmt: skip
PIECE = re.compile("|".join(map(re.escape, SETS)) + "|(?P<bare>.)", re.DOTALL)


def set_by_latex(source: str) -> str:
  parts = []
  for piece in PIECE.finditer(source):
    assert piece["bare"] is None or piece["bare"] not in "\\~^&%$#_{}[]*<>|`", source
    parts.append(piece["bare"] or SETS[piece[0]])
  return "".join(parts)


@given(TEXT)
def test_latex_sets_any_text_as_it_is(text):
  source = latex.escaped(text)
  assert set_by_latex(source) == shown(text).replace("\N{MINUS SIGN}", "-")
  assert "--" not in source and not source.startswith(("[", "*"))


def test_latex_by_hand():
  rows = [
    ("a_b, %", "runs", "difference"),
    ("[x] 50% & more", "1,261", "-"),
    ("C:\\~^{#$}", "3", "-0.5 ± 2 (95 %: -0.7 to 3e-4)"),
  ]
  assert latex.document(["Use --better of A_1-2."], rows) == r"""Use -{}-better of A\_1-2.

% The table needs \usepackage{booktabs}.
\begin{tabular}{l r l}
\toprule
a\_b, \% & runs & difference \\
\midrule
{[}x{]} 50\% \& more & 1,261 & - \\
C:\textbackslash{}\textasciitilde{}\textasciicircum{}\{\#\$\} & 3 & """ + (
    r"""$-$0.5 $\pm$ 2 (95 \%: $-$0.7 to 3e-4) \\
\bottomrule
\end{tabular}"""
  )


def test_a_comparison_is_the_same_table_in_both_forms():
  found = compare(table(**{"A": noisy(0), UGLY: noisy(1, 40, 9)}), planned_n=40)
  tokens = MARKDOWN.parse(report.comparison_markdown(found))
  sentences, cells = read(tokens, "paragraph_open"), read(tokens, "td_open")
  assert sentences[0].startswith(f"{shown(UGLY)} is ") and shown(UGLY) in cells
  written = report.comparison_latex(found)
  body = written.split("\\midrule\n")[1].split("\\bottomrule")[0].splitlines()
  assert len(body) == 2 and all(row.endswith(r" \\") for row in body)
  got = [set_by_latex(cell) for row in body for cell in row.removesuffix(r" \\").split(" & ")]
  assert got == cells and len(got) == 2 * len(read(tokens, "th_open"))
  assert set_by_latex(written.split("\n\n")[0]) == sentences[0]


def test_the_commands_print_a_form_and_nothing_else(tmp_path):
  place = tmp_path / "a_table.csv"
  frame = table(A_1=noisy(0), B_2=noisy(1))
  frame.to_csv(place, index=False)
  assert run("compare", place, "--latex").stdout == report.comparison_latex(compare(frame)) + "\n"
  done = run("report", place, "--markdown")
  assert done.stdout.count("\n| --- | --- |\n") == 2 and r"A\_1" in done.stdout
  assert "page:" not in done.stdout and "page:" in done.stderr
  done = run("compare", place, "--latex", "--json", status=2)
  assert "--json and --latex" in done.stderr and not done.stdout


def test_a_grid_is_one_table_in_either_form():
  cells = [({"width_x": 4}, GOLDEN), ({"width_x": "a&b"}, GOLDEN)]
  tokens = MARKDOWN.parse(report.grid_text(cells, None, "markdown"))
  assert read(tokens, "th_open")[0] == "width_x" and read(tokens, "td_open")[7] == "a&b"
  written = report.grid_text(cells, None, "latex")
  assert "\n\\midrule\n4 & 4 & 19.75" in written and "\na\\&b & 4 & 19.75" in written


def losses(seed: int, metric: str = "test_loss", **lost) -> xarray.Dataset:
  return sweep(noisy(seed), metric, **lost)


def crossed(seed: int) -> xarray.Dataset:
  """Two initial weights by thirty orders."""
  levels = {"init": np.arange(60) // 30, "order": np.arange(60) % 30}
  dataset = store(errors(seed=seed), vary=("init", "order"), seeds=levels)
  dataset.attrs["design"] = "crossed"
  return dataset


COMPARED = {
  "a table": lambda: compare(table(A=noisy(0), B=noisy(1), C=noisy(2, 40, 9)), margin=0.5),
  "a plan": lambda: compare(table(A=noisy(0), B=noisy(1, 40, 9)), planned_n=40),
  "no direction": lambda: compare([sweep(noisy(0), "score"), sweep(noisy(1, 40, 9), "score")]),
  "no direction, three": lambda: compare([sweep(noisy(n), "score") for n in range(3)], margin=1),
  "one run": lambda: compare(table(A=[1.0], B=[2.0])),
  "no spread": lambda: compare(table(A=[1.0] * 5, B=[1.0] * 5), margin=1),
  "few runs": lambda: compare(table(A=noisy(0, 3), B=noisy(1, 5)), paired=False),
  "stores": lambda: compare([store(errors()), store(errors(seed=1), diverged=(3,))], margin=1),
  "all diverged": lambda: compare([store(errors()), store(errors(seed=1), diverged=range(60))]),
  "missing": lambda: compare([store(errors()), store(errors(seed=1), missing=(3, 4))]),
  "losses that diverged": lambda: compare([losses(0), losses(1, diverged=(1, 2), missing=(5,))]),
  "crossed": lambda: compare([crossed(0), crossed(1)], margin=1),
  "of another size": lambda: compare([sweep(noisy(0, 35)), sweep(noisy(1), first=500)]),
  "a route": lambda: compare([sweep(noisy(n, 40, n / 9), planned_n=10) for n in range(3)]),
  "looked": lambda: compare(table(A=noisy(0, 20), B=noisy(1, 20, 0.3)), looked=True, margin=2),
  "sigma": lambda: compare(table(A=noisy(0, 3), B=noisy(1, 3)), sigma=1.0, margin=9),
  "no direction, diverged": lambda: compare(
    [losses(0, "score"), losses(1, "score", diverged=(1, 2))]
  ),
}  # fmt: skip


def validated(values) -> None:
  jsonschema.Draft202012Validator(SCHEMA).validate(values)


@pytest.mark.parametrize("kind", COMPARED)
def test_json_is_of_the_form_that_the_schema_describes(kind):
  values = json.loads(json.dumps(report.comparison_json(COMPARED[kind]()), allow_nan=False))
  validated(values)
  assert values["schema"] == SCHEMA["properties"]["schema"]["const"]
  outcomes = {one["outcome"] for one in values["comparisons"]}
  assert (values["better"] is None) == ("no direction" in kind) == ("unknown direction" in outcomes)


@pytest.mark.parametrize("outcome", ["better", "worse", "equal", "open"])
def test_the_schema_refuses_an_outcome_without_a_direction(outcome):
  values = report.comparison_json(COMPARED["no direction"]())
  values["comparisons"][0] |= {"outcome": outcome, "p_equal": 0.01}
  with pytest.raises(jsonschema.ValidationError, match="unknown direction"):
    validated(values)
  values = report.comparison_json(COMPARED["a plan"]())
  values["comparisons"][0]["outcome"] = "unknown direction"
  with pytest.raises(jsonschema.ValidationError, match="is not one of"):
    validated(values)


def properties(part) -> set[str]:
  """All names of fields in a schema."""
  if not isinstance(part, dict):
    return set().union(*map(properties, part)) if isinstance(part, list) else set()
  own = set(part["properties"]) if isinstance(part.get("properties"), dict) else set()
  return own.union(*map(properties, part.values()))


def json_page(command: str) -> str:
  """The part of docs/json.md about a command."""
  parts = (ROOT / "docs/json.md").read_text().split("# What `")
  (part,) = [part for part in parts if part.startswith(f"{command} --json`")]
  return part


def fields(values) -> set[str]:
  """All names of fields in JSON values."""
  if isinstance(values, list):
    return set().union(*map(fields, values))
  return set(values).union(*map(fields, values.values())) if isinstance(values, dict) else set()


def test_json_of_judge_is_documented_field_by_field(tmp_path):
  columns = {"base": noisy(0, 24), "good": noisy(3, 12) - 50, "bad": [np.inf] * 5}
  rows = [(v, n, loss) for v, some in columns.items() for n, loss in enumerate(some)]
  frame = pd.DataFrame(rows, columns=["variant", "seed", "loss"])
  calls = [{"target": 0.0}, {"ledger": tmp_path / "ledger"}, {}]
  found = [referee.as_json(seedlab.judge(frame, **options)) for options in calls]
  for values in found:
    assert values["schema"] == referee.SCHEMA == 1
    assert [one["name"] for one in values["judgements"]][-2:] == ["good", "bad"]
    json.dumps(values, allow_nan=False)
  numbers = found[2]["judgements"][0].pop("numbers")  # which the part on compare is about
  assert set(numbers) == set(SCHEMA["$defs"]["comparison"]["properties"]) - {"sentence"}
  text = json_page("judge")
  assert set(re.findall(r"`(\w+)`", text)) - {"null"} == fields(found)
  for outcome in referee.STATUS:
    assert f'`"{outcome}"`' in text


def test_the_schema_is_valid_and_documented_field_by_field():
  jsonschema.Draft202012Validator.check_schema(SCHEMA)
  text = json_page("compare")
  named = set(re.findall(r"`(\w+)`", text))
  assert named - {"null"} == properties(SCHEMA)
  for part in (SCHEMA, *SCHEMA["$defs"].values()):  # a new field shows, a missing one too
    if part.get("type") == "object" and "properties" in part:
      assert set(part["required"]) == set(part["properties"])
      assert part["additionalProperties"] is False


def test_fonts_of_pdf_figures_are_embedded_truetype(tmp_path):
  dataset = store(errors(), diverged=(3,)).rename(test_accuracy="test_η_accuracy")
  dataset.attrs["metrics"] = ["test_η_accuracy"]
  paths = [p for p in report.save_figures(dataset, tmp_path) if p.suffix == ".pdf"]
  assert len(paths) == 2
  for path in paths:
    pdf = path.read_bytes()
    kinds = set(re.findall(rb"/Type\s*/Font\s*/Subtype\s*/(\w+)", pdf))
    assert kinds and kinds <= {b"TrueType", b"Type0", b"CIDFontType2"}, kinds
    assert b"/FontFile2" in pdf and b"/FontFile3" not in pdf and b"/Type3" not in pdf


@pytest.fixture
def opened(tmp_path) -> records.Store:
  """A store whose numbers are as large as their types hold, with an incomplete run."""
  seeds = np.array([0, 1, 2**31, 2**32 - 1], np.uint32)
  (tmp_path / "store").mkdir()
  records.create(
    tmp_path / "store",
    runs=[0, 1, 2**31, 2**53],
    seeds=seeds[:, None].repeat(len(STREAMS), 1),
    plan=[5, 10],
    outcome={
      "test_accuracy": (("evaluation",), (2,), "f4"),
      "predicted_label": (("example",), (3,), "u1"),
      "place": (("example",), (3,), "u2"),
      "small": ((), (), "f2"),
      "exact": ((), (), "f8"),
      "count": ((), (), "u8"),
    },
    coords={"label": ("example", np.array([0, 7, 255], np.uint8))},
    chunk=4,
    attributes={
      "seedlab_version": "ü", "trainer": {"a": {"b": [1, None, True]}}, "git_commit": None,
      "config": None,
      "planned_n": 4, "metrics": ["test_accuracy"], "claims": [], "rate": 0.5, "large": 2**40,
      "stop": "", "yes": True, "fingerprints": [{"jax": "0"}],
    },
  )  # fmt: skip
  writer = records.Writer(tmp_path / "store")
  three = np.arange(3)
  columns = {
    "test_accuracy": np.array([[0.5, np.nan], [0.25, 1 / 3], [0, 1]], np.float32),
    "predicted_label": np.array([[0, 128, 255]] * 3, np.uint8),
    "place": np.array([[0, 2**15, 2**16 - 1]] * 3, np.uint16),
    "small": np.array([0.5, 0.1, 0.3], np.float16),
    "exact": np.array([0.1, 1e300, -0.0]),
    "count": np.array([0, 1, 2**53], np.uint64),
    "digest": np.array([f"{number:064x}" for number in three], "S64"),
    "diverged": np.array([-1, -1, 2**40]),
    "seconds": np.ones(3, np.float32),
    "fingerprint": np.zeros(3, np.int32),
  }
  writer.write(three, columns)
  return seedlab.open(tmp_path / "store")


def same_values(a: xarray.Dataset, b: xarray.Dataset) -> None:
  assert set(a.variables) == set(b.variables) and set(a.coords) == set(b.coords)
  for name in b.variables:
    assert a[name].dims == b[name].dims, name
    np.testing.assert_array_equal(a[name].values, b[name].values, name)


def test_an_opened_store_goes_through_netcdf(opened, tmp_path):
  opened.to_netcdf(tmp_path / "out.nc")
  with xarray.open_dataset(tmp_path / "out.nc") as back:
    same_values(back, opened)
    assert back.equals(opened)
    for name in ("seed_init", "predicted_label", "place", "completed", "test_accuracy", "digest"):
      assert back[name].dtype == opened[name].dtype, name
    for name, value in opened.attrs.items():
      plain = isinstance(value, str | float) or (type(value) is int and value < 2**31)
      assert (back.attrs[name] if plain else json.loads(back.attrs[name])) == value, name
  assert opened.attrs["trainer"] == {"a": {"b": [1, None, True]}}


def test_parts_of_an_opened_store_go_through_netcdf_too(opened, tmp_path):
  parts = {
    "run": opened.sel(run=2**31), "none": opened.isel(run=[]),
    "more": opened.assign(note=("run", ["a", "ü", "", "d"])), "names": opened[["test_accuracy"]],
  }  # fmt: skip
  for name, part in parts.items():
    part.to_netcdf(tmp_path / f"{name}.nc")
    with xarray.open_dataset(tmp_path / f"{name}.nc") as back:
      same_values(back, part)


def test_what_netcdf_cannot_hold_is_refused(opened, tmp_path):
  far = opened.assign(count=opened["count"] + np.uint64(1))
  with pytest.raises(UserError, match=r"count holds whole numbers beyond 2\^53.*to_zarr"):
    far.to_netcdf(tmp_path / "out.nc")


def test_an_opened_store_goes_through_zarr(opened, tmp_path):
  opened.to_zarr(tmp_path / "new")
  back = xarray.open_zarr(tmp_path / "new", chunks=None)
  same_values(back, opened)
  assert back.identical(opened) and back.attrs == opened.attrs
  assert {n: v.dtype for n, v in back.variables.items()} == {
    n: v.dtype for n, v in opened.variables.items()
  }
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # zarr's own, about byte strings in format 3
    opened.to_zarr(tmp_path / "three", zarr_format=3)
    assert xarray.open_zarr(tmp_path / "three", chunks=None).identical(opened)


def test_a_store_of_a_former_layout_goes_out_as_well(tmp_path):
  dataset = seedlab.open(GOLDEN)
  dataset.to_netcdf(tmp_path / "out.nc")
  dataset.to_zarr(tmp_path / "out")
  with xarray.open_dataset(tmp_path / "out.nc") as back:
    same_values(back, dataset)
    assert json.loads(back.attrs["config"]) == dataset.attrs["config"]
  assert xarray.open_zarr(tmp_path / "out", chunks=None).identical(dataset)
