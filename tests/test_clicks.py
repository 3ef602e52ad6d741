"""The world of clicks: its rows, the truth about them, and what that is worth."""

import functools
import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score
from test_worlds import sample_key

from seedlab import config, data, migration
from seedlab.data import clicks

COUNT = 100_000


def world_of(**options: int | float) -> data.World:
  return data.build("clicks", options).world


@functools.cache
def drawn(**kwargs: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Rows, labels and true probabilities of two thirds of a million samples' time."""
  world = world_of(**kwargs)
  index = np.arange(COUNT, dtype=np.int32) * 7
  rows, label = jax.jit(world.sample)(sample_key(0), index)
  return np.asarray(rows), np.asarray(label), np.asarray(jax.jit(world.truth)(rows))


def column(rows: np.ndarray, name: str, **kwargs: float) -> np.ndarray:
  names = [field.name for field in world_of(**kwargs).fields]
  return rows[:, names.index(name)]


def test_fields_and_names():
  fields = world_of(items=30, users=9).fields
  assert [field.name for field in fields] == [
    "user", "item", "advertiser", "topic", "device", "slot", "hour",
  ]  # fmt: skip
  assert [field.buckets for field in fields] == [9, 30, 100, 200, 6, 4, 168]
  assert all(field.columns == 1 and field.embedding is None for field in fields)
  assert data.build("digits").fields == data.build("glyphs").fields == ()
  assert data.build("clicks").class_names == ("no click", "click")
  world = world_of()
  assert world.image_shape == (7,) and world.period == 168_000 and world.bayes_error is None
  rows, label, _ = drawn()
  assert rows.min(0).tolist() == [0] * 7 and set(label.tolist()) == {0, 1}
  assert (rows.max(0) < [field.buckets for field in world.fields]).all()


def test_golden_truth():
  """As for the samples in test_worlds: this changes if the world is made another, and then only."""
  digest = hashlib.sha256()
  for array in drawn():
    digest.update(array.tobytes())
  assert digest.hexdigest()[:16] == "d4473d5759c36ae9"


def test_clicks_are_as_frequent_as_the_truth_says():
  """Over all, and among the rows that the truth calls alike."""
  for kwargs in ({}, {"rate": 0.01, "interaction": 0.3}, {"rate": 0.9}):
    _, label, truth = drawn(**kwargs)
    error = np.sqrt((truth * (1 - truth)).sum())
    assert abs(label.sum() - truth.sum(dtype=np.float64)) < 3.5 * error
    order = np.argsort(truth, kind="stable")
    for part in np.array_split(order, 20):
      p = truth[part].astype(np.float64)
      assert abs(label[part].sum() - p.sum()) < 4 * np.sqrt((p * (1 - p)).sum())


def test_the_truth_is_the_formula_of_the_docstring():
  rows, _, truth = drawn(interaction=1.5, rank=3)
  tables = clicks._tables(
    world_of().fields,
    3,
    exponent=1.0,
    interaction=1.5,
    drift=0.5,
    rate=0.1,
  )
  user, item, advertiser, topic, device, slot, hour = rows[:500].T
  names = {"user": user, "item": item, "advertiser": advertiser, "topic": topic, "device": device}
  odds = np.full(500, np.log(0.1 / 0.9)) + tables.effects["slot"][slot] / 1024
  for name, value in names.items():
    odds += tables.effects[name][value] / 1024
  odds += 0.5 * (np.sin(2 * np.pi * hour / 24) + np.sin(2 * np.pi * hour / 168))
  factors = {name: 2.0 * table + 1 for name, table in tables.factors.items()}
  for one, other, a, b, strength in (
    ("user", "item", user, item, 1.5),
    ("topic", "advertiser", topic, advertiser, 0.75),
  ):
    product = (factors[one][a] * factors[other][b]).sum(1)
    odds += strength * product / (np.sqrt(3) * (256**2 - 1) / 3)
  expected = 1 / (1 + np.exp(-odds))
  assert expected.std() > 0.15
  np.testing.assert_allclose(truth[:500], expected, atol=2e-3)
  assert (truth * 2**24 % 1 == 0).all()


def test_hidden_numbers_are_spread_as_they_should_be():
  kwargs = {"users": 20_000, "items": 20_000, "exponent": 0.0, "interaction": 2.0}
  tables = clicks._tables(world_of(**kwargs).fields, 8, 0.0, interaction=2.0, drift=0.0, rate=0.5)
  a, b = (2.0 * tables.factors[name] + 1 for name in ("user", "item"))
  interaction = (a * b).sum(1) * tables.scales[0] / 2**12 / 1024
  assert abs(interaction.std() / 2 - 1) < 0.02 and abs(interaction.mean()) < 0.05
  effect = tables.effects["user"] / 1024
  assert abs(effect.mean()) < 0.02 and abs(effect.std() - 3**-0.5) < 0.01
  assert effect.min() == -1 and effect.max() == 1
  owners = np.bincount(tables.advertiser, minlength=100)
  assert ((owners - 200) ** 2 / 200).sum() < 148.2  # 0.999 quantile of chi-square, 99 degrees


def test_more_users_leave_the_first_ones_as_they_are():
  few, many = (
    clicks._tables(world_of(users=users).fields, 8, 1.0, 1.0, drift=0.5, rate=0.1)
    for users in (50, 500)
  )
  np.testing.assert_array_equal(few.factors["user"], many.factors["user"][:50])
  np.testing.assert_array_equal(few.effects["user"], many.effects["user"][:50])


@pytest.mark.parametrize("exponent", [0.0, 0.7, 1.3])
def test_popularity_follows_the_power_law(exponent):
  rows, _, _ = drawn(exponent=exponent)
  for name in ("user", "item", "topic"):
    counts = np.bincount(column(rows, name))[:40]
    slope = np.polyfit(np.log(np.arange(1, 41)), np.log(counts), 1)[0]
    assert abs(slope + exponent) < 0.12, name
  expected = np.arange(1, 7.0) ** -exponent
  device = np.bincount(column(rows, "device"), minlength=6)
  expected *= COUNT / expected.sum()
  assert ((device - expected) ** 2 / expected).sum() < 20.5  # chi-square, 5 degrees


def test_drawing_a_category_counts_words_exactly():
  """Every word that decides: the last of a category and the first of the next."""
  for size, exponent in ((7, 1.0), (1, 1.0), (100_000, 2.0), (5000, 1.0)):
    below = clicks._below(size, exponent)
    assert below.shape == (size - 1,) and below.dtype == np.uint32
    assert (np.diff(below.astype(np.int64)) >= 0).all()
    place = jax.jit(functools.partial(clicks._category, below))
    if size > 1:
      distinct = np.flatnonzero(np.diff(np.append(0, below.astype(np.int64))) > 0)
      ends = below[distinct]
      np.testing.assert_array_equal(place(ends - 1), distinct)
      assert (np.asarray(place(ends)) > distinct).all()
    assert place(jnp.uint32([0, 2**32 - 1])).tolist() == [0, size - 1]
  weights = 1 / np.arange(1, 8)
  share = np.diff(np.append(clicks._below(7, 1.0).astype(np.float64), 2.0**32), prepend=0) / 2**32
  np.testing.assert_allclose(share, weights / weights.sum(), atol=1e-8)


@pytest.mark.slow
def test_no_other_score_beats_the_truth():
  rows, label, truth = drawn()
  best, least = roc_auc_score(label, truth), log_loss(label, truth)
  rng = np.random.default_rng(0)
  odds = np.log(truth / (1 - truth))
  for noise in (0.1, 0.5, 2.0):
    other = odds + noise * rng.normal(size=COUNT)
    assert roc_auc_score(label, other) < best
    assert log_loss(label, 1 / (1 + np.exp(-other))) > least
  scale = 1 / (1 + np.exp(-1.2 * odds))
  assert roc_auc_score(label, scale) == pytest.approx(best) and log_loss(label, scale) > least
  for without in ({"interaction": 0.0}, {"drift": 0.0}, {"rank": 4}):
    blind = np.asarray(world_of(**without).truth(rows))
    assert roc_auc_score(label, blind) < best - 0.002, without
    assert log_loss(label, blind) > least + 0.002, without


@pytest.mark.slow
def test_the_base_rate_drifts_and_comes_round():
  rows, label, _ = drawn(drift=1.0, interaction=0.0)
  hour = column(rows, "hour")
  np.testing.assert_array_equal(hour, np.arange(COUNT) * 7 % 168_000 // 1000)
  counts = np.bincount(hour, minlength=168)
  rate = np.bincount(hour, label, 168) / counts
  wave = np.sin(2 * np.pi * np.arange(168) / 24) + np.sin(2 * np.pi * np.arange(168) / 168)
  assert np.corrcoef(wave, np.log(rate / (1 - rate)))[0, 1] > 0.95
  still = drawn(drift=0.0, interaction=0.0)[1]
  rate = np.bincount(hour, still, 168) / counts
  p = still.mean()
  assert ((rate - p) ** 2 * counts / (p * (1 - p))).sum() < 228  # chi-square, 167 degrees, 0.999
  sample = world_of(period=200).sample
  numbers = jnp.uint32([0, 1, 2, 199, 200, 201, 2**32 - 1])
  hours = column(np.asarray(sample(sample_key(0), numbers)[0]), "hour")
  assert hours.tolist() == [0, 0, 1, 167, 0, 0, (2**32 - 1) % 200 * 168 // 200]


def test_older_records_held_whole_numbers_as_floats():
  old = {
    "data": {"name": "clicks", "train_examples": 9, "world_kwargs": {"users": 30.0, "rate": 0.5}},
    "model": {"name": "ctr"}, "optimizer": {"name": "sgd", "schedule": "linear"}, "training": {},
  }  # fmt: skip
  section = config.parse(migration.from_layout_1(old)).data
  assert section.get("users") == 30 and section.get("rate") == 0.5
  assert data.read(section).world.fields[0].buckets == 30


@pytest.mark.slow
def test_extreme_parameters():
  for bound in (0, 1):
    kwargs = {name: values[bound] for name, values in clicks.RANGES.items()}
    world = world_of(**kwargs)
    rows, label = world.sample(sample_key(0), jnp.arange(2000))
    truth = np.asarray(world.truth(rows))
    assert (truth > 0).all() and (truth < 1).all() and rows.min() >= 0
    error = np.sqrt((truth * (1 - truth)).sum())
    assert abs(np.asarray(label).sum() - truth.sum()) < 4 * error
