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
from jax._src import compiler  # noqa: E402

from seedlab import host  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")
workers.share()


# Compiled by XLA in a tenth of the time, to programs that are slower than those of users.
QUICK: dict[str, int] = {"xla_backend_optimization_level": 0}
if jax.__version_info__ < (0, 11):  # which does not know this one any more
  QUICK["xla_cpu_use_fusion_emitters"] = False
FLAGS = os.environ.get("XLA_FLAGS", "")
options_of_jax = compiler.get_compile_options
options_of_jax(1, 1)  # XLA reads the flags of this process once, and these here are for others
AS_FOR_USERS: dict[str, int] = {}
overrides = AS_FOR_USERS


def compile_options(*arguments, **keywords):
  keywords["env_options_overrides"] = (keywords.get("env_options_overrides") or {}) | overrides
  return options_of_jax(*arguments, **keywords)


compiler.get_compile_options = compile_options


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
  """Says how programs are compiled for a test, in this process and in those that it starts.

  Quickly, or, where it is marked `optimised`, as for users. That may make other bits, so that no
  program is left for a test of the other kind. SEEDLAB_TEST_OPTIMISED compiles all as for users.
  A sweep of a test that is marked `own_workers` starts its workers itself.
  """
  global overrides
  marks = {mark.name for mark in item.iter_markers()}
  workers.shared = "own_workers" not in marks
  asked = AS_FOR_USERS if "optimised" in marks or "SEEDLAB_TEST_OPTIMISED" in os.environ else QUICK
  if asked is not overrides:
    overrides = asked
    flags = (f"--{name}={value}".lower() for name, value in asked.items())
    os.environ["XLA_FLAGS"] = " ".join([FLAGS, *flags])
    host._probe.cache_clear()
    jax.clear_caches()
  return (yield)


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
