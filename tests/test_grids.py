"""A grid over the arguments of a Trainer of one's own; over a config see test_scripts.py."""

import numpy as np
import pytest
import toy

import seedlab
from seedlab import grids
from seedlab.errors import UserError


def nested(net: dict = {"hidden": 5, "rate": 0.3}, steps: int = 9):  # noqa: B006
  return toy.make(steps=steps, hidden=net["hidden"], rate=net["rate"])


def test_a_grid_over_arguments_equals_sweeps_one_by_one(tmp_path):
  options = {"arguments": {"steps": 12}, "lanes": "loop", "workers": 1, "quiet": True}
  cells = grids.grid("toy:make", {"hidden": [3, 5]}, 2, tmp_path / "grid", **options)
  assert cells == [({"hidden": n}, tmp_path / "grid" / f"hidden={n}") for n in (3, 5)]
  for (values, store), shape in zip(cells, (3, 5), strict=True):
    assert seedlab.open(store).attrs["trainer"]["arguments"]["hidden"] == values["hidden"]
    assert seedlab.replay(store, 1, trust_code=True).params["in"].shape == (2, shape)
  options["arguments"] = {"steps": 12, "hidden": 3}
  alone = seedlab.sweep("toy:make", 2, tmp_path / "alone", **options)
  there = seedlab.open(cells[0][1])
  assert alone.digest.values.tolist() == there.digest.values.tolist()
  assert not np.array_equal(there.mse.values, seedlab.open(cells[1][1]).mse.values)


def test_cells_hold_what_was_given_and_what_the_grid_sets():
  cells = grids.grid_cells("toy:make", {"rate": [0.1, 0.2], "fed": [True]}, "out", {"steps": 12})
  assert [cell.arguments for cell in cells] == [
    {"steps": 12, "rate": rate, "fed": True} for rate in (0.1, 0.2)
  ]
  assert [cell.store.name for cell in cells] == ["rate=0.1,fed=True", "rate=0.2,fed=True"]
  (cell,) = grids.grid_cells(nested, {"net.rate": [0.5]}, "out")
  assert cell.arguments == {"net": {"hidden": 5, "rate": 0.5}} and cell.what is nested


@pytest.mark.parametrize(
  ("field", "message"),
  [
    ("hiden", "--grid=hiden: no such field; did you mean 'hidden'?"),
    ("steps.deep", "--grid=steps.deep: no such field"),
    ("arguments.hidden", "--grid=arguments.hidden: no such field"),
  ],
)
def test_an_argument_that_does_not_exist_is_named(tmp_path, field, message):
  with pytest.raises(UserError, match=message.replace("?", r"\?")):
    grids.grid("toy:make", {field: [1, 2]}, 2, tmp_path / "g", workers=1, quiet=True)
  assert not (tmp_path / "g").exists()


def test_a_value_that_is_given_twice_is_refused():
  with pytest.raises(UserError, match="--grid=steps names a value twice: 9,9"):
    grids.grid_cells("toy:make", {"steps": [9, 9]}, "out")
