"""L0: the integers of a run depend on its seeds alone."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seedlab import config, designs, streams
from seedlab.config import STREAMS, Seeds
from seedlab.errors import UserError


def keys_of(run: int, **seeds) -> streams.Keys:
  return streams.derive(jnp.asarray(designs.seeds_of_run(run, Seeds(**seeds))))


def test_golden_key_data():
  """A contract: these integers never change, on any device, in any version of seedlab.

  If this fails, do not update the numbers: every recorded run would lose its replay.
  """
  data = {name: jax.random.key_data(key).tolist() for name, key in keys_of(7)._asdict().items()}
  assert data == GOLDEN_RUN_7
  assert jax.random.key_data(keys_of(2**32 - 1).order).tolist() == GOLDEN_LAST_ORDER
  key = streams.at_step(keys_of(7).augment, 3)
  assert jax.random.key_data(key).tolist() == GOLDEN_STEP
  keys = streams.for_examples(keys_of(7).augment, 3, jnp.array([0, 49_999]))
  assert jax.random.key_data(keys).tolist() == GOLDEN_EXAMPLES
  assert jax.random.bits(key, (3,), jnp.uint32).tolist() == GOLDEN_BITS


GOLDEN_RUN_7 = {
  "init": [3625411723, 1954958720],
  "sample": [195045567, 4062205631],
  "order": [966301609, 1948237315],
  "augment": [276534068, 1641862660],
  "noise": [51277378, 3088387524],
  "poke": [3583082021, 1947592014],
  "generate": [2687091327, 3539857703],
}
GOLDEN_LAST_ORDER = [3122495753, 3444035234]
GOLDEN_STEP = [2494649705, 475266033]
GOLDEN_EXAMPLES = [[140856048, 3113529582], [4062542344, 169409746]]
GOLDEN_BITS = [2985425438, 2255201463, 2054954871]


def test_derivation_is_fold_in_of_the_stream_number():
  keys = keys_of(11)
  for number, name in enumerate(STREAMS):
    expected = jax.random.fold_in(jax.random.key(11, impl="threefry2x32"), number)
    assert (jax.random.key_data(getattr(keys, name)) == jax.random.key_data(expected)).all()


def test_lanes_equal_single_calls():
  seeds = jnp.asarray(np.stack([designs.seeds_of_run(run, Seeds()) for run in (0, 5, 2**32 - 1)]))
  together = jax.random.key_data(jnp.stack(jax.vmap(streams.derive)(seeds)))
  alone = [jax.random.key_data(jnp.stack(streams.derive(row))) for row in seeds]
  assert (together == jnp.stack(alone, axis=1)).all()


def test_streams_of_equal_seeds_differ():
  data = {tuple(jax.random.key_data(key).tolist()) for key in keys_of(3)}
  assert len(data) == len(STREAMS)


def test_vary_leaves_the_other_streams_at_fixed():
  seeds = designs.seeds_of_run(9, Seeds(vary=("order",), fixed=4))
  assert dict(zip(STREAMS, seeds.tolist(), strict=True)) == {
    "init": 4, "sample": 4, "order": 9, "augment": 4, "noise": 4, "poke": 4,
    "generate": 4,
  }  # fmt: skip


@pytest.mark.parametrize("levels", [(4,), (3, 5), (2, 3, 4)])
def test_crossed_design_has_every_combination_once(levels):
  vary = STREAMS[: len(levels)]
  seeds = Seeds(vary=vary, design="crossed", levels=levels)
  runs = designs.runs_of_design(seeds)
  found = {tuple(designs.seeds_of_run(run, seeds)[: len(levels)].tolist()) for run in runs}
  assert found == {tuple(index) for index in np.ndindex(levels)}
  assert len(runs) == len(set(runs)) == np.prod(levels)


def test_more_levels_renumber_nothing():
  small = Seeds(vary=("init", "order"), design="crossed", levels=(3, 2))
  large = Seeds(vary=("init", "order"), design="crossed", levels=(3, 7))
  assert set(designs.runs_of_design(small)) < set(designs.runs_of_design(large))
  for run in designs.runs_of_design(small):
    assert (designs.seeds_of_run(run, small) == designs.seeds_of_run(run, large)).all()


def test_crossed_numbering_worked_by_hand():
  """Rosenberg & Strong's shells for two streams: (0,0) | (0,1) (1,1) (1,0) | (0,2) ..."""
  seeds = Seeds(vary=("init", "order"), design="crossed", levels=(3, 3))
  levels = [designs.seeds_of_run(run, seeds)[[0, 2]].tolist() for run in range(9)]
  assert levels == [[0, 0], [0, 1], [1, 1], [1, 0], [0, 2], [1, 2], [2, 2], [2, 1], [2, 0]]


@pytest.mark.parametrize("run", [-1, 2**32])
def test_seeds_outside_32_bits_are_refused(run):
  with pytest.raises(UserError, match=r"\[0, 2\^32\)"):
    designs.seeds_of_run(run, Seeds())


@pytest.mark.parametrize(
  "key", [jax.random.PRNGKey(0), jax.random.key(0, impl="rbg"), 0, np.zeros(2, np.uint32)]
)
def test_only_typed_threefry_keys(key):
  with pytest.raises(TypeError, match="threefry2x32"):
    streams.at_step(key, 0)


@pytest.mark.parametrize(
  ("variable", "value"), [("JAX_ENABLE_X64", "1"), ("JAX_THREEFRY_PARTITIONABLE", "0")]
)
def test_settings_that_change_draws_are_refused(variable, value):
  code = "from seedlab import streams; streams.check_settings()"
  done = subprocess.run(
    [sys.executable, "-c", code],
    env={**os.environ, variable: value},
    capture_output=True,
    text=True,
  )
  assert done.returncode and variable.lower() in done.stderr.lower()


def test_config_refuses_bad_designs():
  for bad, named in [
    ({"vary": []}, "seeds.vary"),
    ({"vary": ["order", "order"]}, "seeds.vary"),
    ({"vary": ["ordr"]}, "did you mean 'order'"),
    ({"fixed": -1}, "seeds.fixed"),
    ({"design": "crossed", "vary": ["init"], "levels": [2, 2]}, "seeds.levels"),
    ({"design": "crossed", "vary": ["init"], "levels": [0]}, "seeds.levels"),
    ({"levels": [2]}, "seeds.levels"),
  ]:
    with pytest.raises(UserError, match=named.replace(".", r"\.")):
      config.parse({"seeds": bad})
