"""The example notebook runs from top to bottom, as it stands."""

import pathlib

import pytest

nbclient = pytest.importorskip("nbclient", reason="needs nbclient (extra `test`)")
nbformat = pytest.importorskip("nbformat", reason="needs nbformat (extra `test`)")
pytest.importorskip("ipykernel", reason="needs ipykernel (extra `test`)")

NOTEBOOK = pathlib.Path(__file__).parent.parent / "docs/example.ipynb"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the kernel's own machinery
def test_the_example_notebook_runs(tmp_path):
  notebook = nbformat.read(NOTEBOOK, as_version=4)
  assert not any(cell.get("outputs") for cell in notebook.cells), "clear the outputs"
  client = nbclient.NotebookClient(
    notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
  )
  client.execute()
  shown = "".join(
    output.get("text", "") + output.get("data", {}).get("text/plain", "")
    for cell in notebook.cells
    for output in cell.get("outputs", [])
  )
  assert "difference, paired t" in shown and "equal within 0.5 (two one-sided" in shown
  assert shown.endswith("True")
  assert [
    o for c in notebook.cells for o in c.get("outputs", []) if "image/png" in o.get("data", {})
  ]
