"""Training on rows: clicks that are made, lists of films, and what rows cannot be asked for."""

import forked
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sections import merged
from test_ideal import keys_of, seeds_of

from seedlab import engine, replaying, streams, sweeps, training
from seedlab.config import Config
from seedlab.data import Dataset, build, read
from seedlab.data.fields import Field
from seedlab.errors import UserError
from seedlab.training import evaluation

CLICKS = {"name": "clicks", "items": 20, "users": 30, "interaction": 2.0}
BASE = {
  "data": {**CLICKS, "train_examples": 400, "test_examples": 300},
  "model": {"name": "ctr", "width": 8, "depth": 1, "embedding": 4},
  "optimizer": {"name": "adam", "learning_rate": 0.01},
  "schedule": "constant",
  "training": {"batch_size": 40, "steps": 12},
  "evaluation": {"every_steps": 6, "probabilities": True},
}


def config(**sections) -> Config:
  return merged(BASE, **sections)


def outcome_of(built, runs=(1,), mode="loop", **options):
  return engine.train(
    engine.build(built, mode, None if mode == "loop" else 2), seeds_of(*runs), **options
  )


def test_clicks_are_measured_as_clicks():
  built = training.make_trainer(config())
  assert next(iter(built.metrics)) == "test_loss"  # the headline
  found = outcome_of(built).outcome
  data = built.load()
  click = found["probability"][0]
  assert data.test_image.dtype == np.int32 and click.shape == (300,)
  label = data.test_label
  entropy = -np.where(label == 1, np.log(click), np.log(1 - click)).mean()
  assert found["test_loss"][0, -1] == pytest.approx(entropy, rel=1e-5)
  assert found["test_accuracy"][0, -1] == pytest.approx(np.mean((click > 0.5) == label))
  wins = click[label == 1][:, None] - click[label == 0]
  assert found["test_auc"][0, -1] == pytest.approx((wins > 0).mean() + (wins == 0).mean() / 2)


@pytest.mark.parametrize(
  "world, mode", [("real", "loop"), pytest.param("ideal", "vmap", marks=pytest.mark.slow)]
)
def test_runs_on_clicks_are_exact(world, mode):
  """Alone or together, however the steps are cut: the same bits."""
  built = training.make_trainer(config(data={"world": world}, evaluation={"train": True}))
  program = engine.build(built, mode, None if mode == "loop" else 2)
  together = engine.train(program, seeds_of(5, 6, 7))
  alone = engine.train(program, seeds_of(6), longest=3)
  assert together.digest[1] == alone.digest[0]
  for name, values in alone.outcome.items():
    np.testing.assert_array_equal(values[0], together.outcome[name][1])


def test_an_ideal_world_of_clicks_trains_on_the_next_ones():
  """One step of plain gradient descent on the first clicks of the run's list, by hand."""
  settings = config(
    data={"world": "ideal"}, optimizer={"name": "sgd", "learning_rate": 0.5},
    training={"steps": 1},
  )  # fmt: skip
  built = training.make_trainer(settings)
  data, keys = jax.device_put(built.load()), keys_of(3)
  before = jax.jit(built.init)(keys, data)
  after, _ = jax.jit(built.advance)(before, keys, data, None, jnp.int32(0), jnp.int32(1))
  world = read(settings.data).world
  rows, labels = jax.jit(world.sample)(keys.sample, jnp.arange(40))

  def loss(params):
    tables = [params[field.name]["embedding"][rows[:, i]] for i, field in enumerate(world.fields)]
    first, last = params["tower_0"]["Dense_0"], params["tower_0"]["Dense_1"]
    hidden = jax.nn.relu(jnp.concatenate(tables, 1) @ first["kernel"] + first["bias"][None])
    z = (hidden @ last["kernel"])[:, 0] + last["bias"]
    return -jnp.where(labels == 1, jax.nn.log_sigmoid(z), jax.nn.log_sigmoid(-z)).mean()

  slope = jax.jit(jax.grad(loss))(before.params)
  expected = jax.tree.map(lambda p, g: p - 0.5 * g, before.params, slope)
  for ours, hand in zip(jax.tree.leaves(after.params), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(ours, hand, rtol=1e-5, atol=1e-6)


def test_the_test_set_of_a_drifting_world_spans_its_time():
  data = training.make_trainer(config()).load()
  hours = data.test_image[:, -1]
  assert hours.min() < 5 and hours.max() > 162  # of 168
  assert len(np.unique(hours)) > 140


@pytest.mark.slow
def test_no_trained_network_ranks_better_than_the_truth():
  """Long enough to learn much of it; the true probabilities are an upper bound, up to luck."""
  settings = config(
    data={"train_examples": 20_000, "test_examples": 4000},
    training={"batch_size": 200, "steps": 300}, evaluation={"every_steps": 300},
  )  # fmt: skip
  built = training.make_trainer(settings)
  found = outcome_of(built, (1, 2, 3, 4)).outcome["test_auc"][:, -1]
  data = built.load()
  world = read(settings.data).world
  truth = np.asarray(world.truth(data.test_image))
  best = training.losses.area_under_curve(truth, data.test_label)
  assert 0.6 < found.min() and found.max() < best
  assert data.test_label.mean() == pytest.approx(truth.mean(), abs=4 * 0.5 / np.sqrt(4000))


def own_rows(lists=None, **sections):
  """A Trainer on 200 rows of a user and a film."""
  rng = np.random.default_rng(0)
  rows = rng.integers(0, 15, (200, 2)).astype(np.int32)
  label = rng.integers(0, 2, 200).astype(np.int32)
  nothing = np.zeros(0, np.float32)
  dataset = Dataset(rows[:150], label[:150], rows[150:], label[150:], nothing, nothing)
  fields = (Field("user", 15), Field("film", 15))
  base = BASE | {"data": {"name": "own"}}
  return training.on_dataset(merged(base, **sections), dataset, 2, fields=fields, lists=lists)


@pytest.mark.parametrize(
  "sections",
  [
    {"model": {"norm": "batch", "dropout": 0.2, "towers": 2}, "optimizer": {"name": "adagrad"}},
    {"model": {"gain": "moment"}, "activation": "swish", "training": {"codistillation": 0.5}},
    {
      "evaluation": {"probabilities": False, "trajectory": True, "slices": 3},
      "data": {"label_noise": 0.1},
    },
  ],
)
def test_what_networks_can_be_trained_with_they_can_on_rows(sections):
  found = outcome_of(own_rows(**sections))
  assert np.isfinite(found.outcome["test_loss"]).all() and found.diverged[0] == -1


@pytest.mark.parametrize(
  "sections, message",
  [
    ({"augment": "flip"}, "augment is for images, and data.name='clicks' has rows; leave it out"),
    ({"data": {"normalisation": "half"}}, "data.normalisation is for images"),
    ({"data": {"chunk": 5}}, "data.chunk=5 says which images are changed alike"),
    ({"data": {"copies": 2}}, "data.copies=2 would all be the same image"),
    ({"data": {"train_examples": None}}, "train_examples=None does not do for data.name='clicks'"),
    ({"evaluation": {"lists": 3}}, "evaluation.lists=3 is for users and films"),
    (
      {"evaluation": {"train": True, "train_augmented": True}},
      "train_augmented=True measures augmented images, and none is",
    ),
  ],
)
def test_what_rows_cannot_be_asked_for(sections, message):
  with pytest.raises(UserError, match=message):
    training.make_trainer(config(**sections))


@pytest.mark.parametrize(
  "network, message",
  [
    ("mlp", "model.name='mlp' is for images"),
    ("ctr_ovadia", "needs embedding sizes that were published"),
  ],
)
def test_networks_that_do_not_read_these_rows(network, message):
  with pytest.raises(UserError, match=message):
    training.make_trainer(BASE | {"model": network})


def test_the_best_films_by_hand():
  """Scores of five films by two users; what was seen is left out, ties go to the first."""
  scores = np.full((2, 12), -5.0)
  scores[0, [3, 1, 7]] = [9, 8, 8]
  scores[1, [0, 11]] = [2, 1]
  seen = np.zeros((2, 12), bool)
  seen[0, 3] = True
  seen[1, 2:9] = True

  def network(rows):
    z = jnp.asarray(scores)[rows[:, 0], rows[:, 1]]
    return jnp.stack([jnp.zeros_like(z), z], 1)

  lists = evaluation.Lists(jnp.arange(2)[:, None], jnp.arange(12)[:, None], jnp.asarray(seen))
  found = np.asarray(evaluation.best_films(network, lists))
  assert found[0, :4].tolist() == [1, 7, 0, 2] and 3 not in found[0]
  assert found[1].tolist() == [0, 11, 1, 9, 10, -1, -1, -1, -1, -1]


def test_lists_are_kept_and_do_not_change_a_run():
  one = np.arange(15, dtype=np.int32)[:, None]
  lists = evaluation.Lists(one[:4], one, np.zeros((4, 15), bool))
  found = outcome_of(own_rows(lists, evaluation={"lists": 4}))
  assert found.outcome["best_films"].shape == (1, 4, 10)
  assert found.digest[0] == outcome_of(own_rows()).digest[0]


@pytest.mark.slow
def test_a_page_of_clicks_names_what_flips(tmp_path):
  sweeps.sweep(config(), 4, tmp_path / "s", workers=1, quiet=True)
  done = forked.command("report", tmp_path / "s")
  assert done.returncode == 0, done.stderr
  text = (tmp_path / "s/report.html").read_text()
  assert "prediction difference, of the click" in text and "no click" in text
  assert replaying.replay(tmp_path / "s", 2, trust_code=True).exact


def test_the_time_of_a_world_is_that_of_its_key():
  """Rows are of (key, number): another seed's clicks are others, at the same hours."""
  world = build("clicks").world
  index = jnp.arange(50, dtype=jnp.int32)
  a, b = (
    world.sample(streams.derive(jnp.asarray(seeds_of(run)[0])).sample, index)[0] for run in (1, 2)
  )
  np.testing.assert_array_equal(a[:, -1], b[:, -1])
  assert (a[:, 0] != b[:, 0]).any()
