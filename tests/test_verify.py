"""What is stored of a run is compared with what it computes, whatever the seals say."""

import numpy as np
import pytest
import zarr
from forging import reseal

import seedlab
from seedlab.errors import Damaged


def _changed(store, name, at, value):
  group = zarr.open_group(store, mode="r+", zarr_format=2, use_consolidated=False)
  group[name][at] = value


def test_a_changed_number_fails_the_replay_even_if_it_was_sealed_again(tmp_path):
  out = str(tmp_path / "s")
  true = seedlab.sweep("toy:make", 4, out, workers=1, quiet=True).mse.values[2, -1]
  _changed(out, "mse", (2, -1), np.float32(0.001))
  with pytest.raises(Damaged, match=r"mse of run 2;"):
    seedlab.replay(out, 2)
  reseal(out)
  replay = seedlab.replay(out, 2)
  assert replay.recorded == replay.computed and replay.different == ["mse"]
  assert not replay.exact and not replay.passed
  assert "the state is as recorded, but the stored mse of run 2 is not" in replay.verdict(out)
  assert seedlab.replay(out, 1).exact  # another run's row is as it was
  _changed(out, "mse", (2, -1), true)
  _changed(out, "diverged", 2, 7)
  reseal(out)
  assert seedlab.replay(out, 2).different == ["diverged"]
