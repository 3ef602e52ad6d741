"""One core, chosen before JAX starts: XLA:CPU's bits depend on the cores it can see."""

import os
import pathlib

if hasattr(os, "sched_setaffinity"):
  cores = sorted(os.sched_getaffinity(0))
  number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
  os.sched_setaffinity(0, {cores[number % len(cores)]})

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def data_dir() -> str:
  """The tensorflow-datasets directory named by SEEDLAB_DATA; skips without it."""
  directory = os.environ.get("SEEDLAB_DATA", "")
  if not directory or not pathlib.Path(directory).is_dir():
    pytest.skip("needs SEEDLAB_DATA to name a tensorflow-datasets directory with cifar10")
  return directory
