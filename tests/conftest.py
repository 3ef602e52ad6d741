"""One core, chosen before JAX starts: XLA:CPU's bits depend on the cores it can see."""

import os
import pathlib
import signal

ALL_CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
# The process that starts pytest-xdist's workers is bound to a core itself by then, and they would
# all inherit that one.
ALL_CORES = [int(core) for core in os.environ.get("SEEDLAB_TEST_CORES", "").split()] or ALL_CORES
os.environ["SEEDLAB_TEST_CORES"] = " ".join(map(str, ALL_CORES))
if ALL_CORES:
  number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
  os.sched_setaffinity(0, {ALL_CORES[number % len(ALL_CORES)]})

# A shell that runs the tests in the background has them ignore Ctrl-C, and every process that the
# tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

import jax  # noqa: E402
import pytest  # noqa: E402
import workers  # noqa: E402

from seedlab import experiment, grids, host  # noqa: E402
from seedlab.studies import runner  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
  """A test marked `quick_compile`, and not `optimised`, gets programs that take half the time.

  Their bits may be other ones, so that none is left for a test that is not marked.
  """
  marks = {mark.name for mark in item.iter_markers()}
  quick = "quick_compile" in marks and "optimised" not in marks
  if quick != jax.config.read("jax_disable_most_optimizations"):
    jax.config.update("jax_disable_most_optimizations", quick)
    host._probe.cache_clear()
    jax.clear_caches()
  return (yield)


@pytest.fixture
def shared_worker(monkeypatch):
  """Pools of one worker are all the same one in this test."""
  for module in (experiment, grids, runner):
    monkeypatch.setattr(module, "local_pool", workers.local_pool)


@pytest.fixture
def all_cores():
  """For the test alone, the process may use every core again (JAX's bits are settled by now)."""
  if len(ALL_CORES) < 2:
    pytest.skip("needs two cores")
  mine = os.sched_getaffinity(0)
  os.sched_setaffinity(0, ALL_CORES)
  yield ALL_CORES
  os.sched_setaffinity(0, mine)


@pytest.fixture(scope="session")
def data_dir() -> str:
  """The tensorflow-datasets directory named by SEEDLAB_DATA; skips without it."""
  directory = os.environ.get("SEEDLAB_DATA", "")
  if not directory or not pathlib.Path(directory).is_dir():
    pytest.skip("needs SEEDLAB_DATA to name a tensorflow-datasets directory with cifar10")
  return directory
