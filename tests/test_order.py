"""Order and subset: golden integers, properties, and equality under vmap."""

import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seedlab import streams
from seedlab.data import order
from seedlab.errors import UserError


@jax.jit
def keys_of(seed: int) -> streams.Keys:
  return streams.derive(jnp.full(len(streams.STREAMS), seed, jnp.uint32))


# Level L0 of the contract: should one of these fail, the library or a new jax draws other
# numbers than every record made before. Do not update them; find what changed.
@pytest.mark.parametrize(
  ("how", "epoch", "expected"),
  [
    ("permutation", 0, [7, 3, 6, 4, 8, 5, 1, 0, 9, 2]),
    ("permutation", 3, [6, 4, 8, 9, 3, 2, 7, 5, 0, 1]),
    ("replacement", 0, [0, 0, 5, 9, 4, 6, 1, 5, 0, 8]),
    ("replacement", 3, [6, 3, 3, 4, 1, 4, 4, 5, 7, 5]),
    ("sequential", 0, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
    ("sequential", 3, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
  ],
)
def test_golden_order(how, epoch, expected):
  positions = order.epoch_order(keys_of(7).order, epoch, 10, how)
  assert positions.dtype == jnp.int32
  assert positions.tolist() == expected


def test_golden_order_of_50000():
  # Above about 1,600 elements jax shuffles in more than one round.
  positions = np.asarray(order.epoch_order(keys_of(7).order, 1, 50_000, "permutation"))
  assert zlib.crc32(positions.astype("<i4").tobytes()) == 2531661378
  assert np.array_equal(np.sort(positions), np.arange(50_000))


@pytest.mark.parametrize("examples", [1, 500, 3000])
def test_permutations_are_those_of_jax(examples):
  keys = jax.random.split(keys_of(5).order, 3)
  ours = jax.jit(jax.vmap(lambda key: order._permutation(key, examples)))(keys)
  theirs = jax.vmap(lambda key: jax.random.permutation(key, jnp.arange(examples)))(keys)
  assert ours.dtype == jnp.int32 and np.array_equal(ours, theirs)


def test_golden_subset():
  positions = order.subset(keys_of(7).sample, 20, 8)
  assert positions.dtype == jnp.int32
  assert positions.tolist() == [0, 4, 6, 8, 10, 11, 14, 16]


def test_subsets_are_nested_and_the_whole_is_the_whole():
  key = keys_of(3).sample
  sizes = [set(order.subset(key, 50, size).tolist()) for size in (10, 20, 49)]
  assert [len(found) for found in sizes] == [10, 20, 49]
  assert sizes[0] < sizes[1] < sizes[2]
  assert order.subset(key, 50, 50).tolist() == list(range(50))
  assert order.subset(keys_of(4).sample, 50, 10).tolist() != sorted(sizes[0])


def test_subset_larger_than_the_set():
  with pytest.raises(UserError, match=r"^data\.train_examples=21 is more than the 20 training"):
    order.subset(keys_of(0).sample, 20, 21)


@pytest.mark.parametrize("how", ["permutation", "replacement"])
def test_vmap_gives_what_single_calls_give(how):
  seeds = jnp.arange(5, dtype=jnp.uint32)
  keys = jax.vmap(keys_of)(seeds)
  together = jax.jit(jax.vmap(lambda key: order.epoch_order(key, 2, 97, how)))(keys.order)
  subsets = jax.jit(jax.vmap(lambda key: order.subset(key, 97, 30)))(keys.sample)
  for seed in range(5):
    alone = keys_of(seed)
    assert np.array_equal(together[seed], order.epoch_order(alone.order, 2, 97, how))
    assert np.array_equal(subsets[seed], order.subset(alone.sample, 97, 30))


def test_epochs_and_seeds_differ():
  drawn = {
    tuple(order.epoch_order(keys_of(seed).order, epoch, 30, "permutation").tolist())
    for seed in range(3)
    for epoch in range(3)
  }
  assert len(drawn) == 9


def test_replacement_is_uniform():
  counts = np.bincount(
    np.concatenate(
      [order.epoch_order(keys_of(0).order, epoch, 20, "replacement") for epoch in range(200)]
    ),
    minlength=20,
  )
  # 4,000 draws over 20 values: chi-square with 19 degrees of freedom, its 0.999 quantile.
  assert ((counts - 200) ** 2 / 200).sum() < 43.82


@pytest.mark.parametrize(
  ("examples", "batch_size", "last_batch", "steps"),
  [(10, 4, "drop", 2), (10, 4, "keep", 3), (8, 4, "drop", 2), (8, 4, "keep", 2), (3, 4, "keep", 1)],
)
def test_batches_tile_the_epoch(examples, batch_size, last_batch, steps):
  assert order.steps_per_epoch(examples, batch_size, last_batch) == steps
  positions = jnp.arange(100, 100 + examples, dtype=jnp.int32)
  seen = []
  for step in range(steps):
    chosen, mask = order.batch(positions, jnp.int32(step), batch_size)
    assert chosen.dtype == jnp.int32 and chosen.shape == mask.shape == (batch_size,)
    assert set(chosen.tolist()) <= set(positions.tolist())  # padding too
    seen += np.asarray(chosen)[np.asarray(mask)].tolist()
  assert seen == positions.tolist()[: examples if last_batch == "keep" else steps * batch_size]


def test_short_batch_by_hand():
  positions, mask = order.batch(jnp.array([5, 2, 9, 4, 7], jnp.int32), 1, 3)
  assert positions.tolist() == [4, 7, 7]
  assert mask.tolist() == [True, True, False]


def test_batch_larger_than_the_data():
  with pytest.raises(UserError, match=r"^training\.batch_size=11 is larger than the 10 training"):
    order.steps_per_epoch(10, 11, "drop")
