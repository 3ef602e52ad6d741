"""The suites of `seedlab bench`: every rival does its steps."""

import importlib.util

import pytest

from seedlab.commands import bench_generative as generative


@pytest.mark.slow
@pytest.mark.parametrize("name", generative.NAMES)
@pytest.mark.parametrize("rival", ["seedlab", *generative.RIVALS])
def test_every_rival_trains(rival, name):
  if rival.startswith("PyTorch") and not importlib.util.find_spec("torch"):
    pytest.skip("needs PyTorch (pip install -e '.[reference]')")
  assert generative.seconds(rival, name, small=True) > 0
