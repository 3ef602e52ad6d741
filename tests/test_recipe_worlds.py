"""Recipes whose examples a function makes, that measure what they please and start from a file."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import own
import pytest
from networks import equations

import seedlab
from seedlab import engine, experiment, records, streams
from seedlab.config import STREAMS
from seedlab.errors import UserError


def seeds(row, **given):
  """uint32[1, streams]: every stream seeded by `row`, but for those given."""
  table = np.full((1, len(STREAMS)), row, np.uint32)
  for name, value in given.items():
    table[:, STREAMS.index(name)] = value
  return table


def trained(recipe, row=3, **given):
  return engine.train(engine.build(recipe(), "loop"), seeds(row, **given), keep_params=True)


# A world of numbers below 8, told from one word of the `sample` stream: the true shares are
# learnt by a network that is one row of logits.

TEST = np.arange(16, dtype=np.int32) % 8


def drawn(key, index):
  word = jax.random.bits(jax.random.fold_in(key, index), (), jnp.uint32)
  return jnp.zeros((), jnp.float32), (word >> 29).astype(jnp.int32)


ROW = (lambda key, x: jnp.zeros(8), lambda params, x: jnp.broadcast_to(params, (x.shape[0], 8)))


def counts(train=drawn, **options):
  """The logits move by one for each example that is seen, so that they count."""
  return seedlab.supervised(
    ROW,
    optax.sgd(1.0),
    train,
    (np.zeros(16, np.float32), TEST),
    lambda outputs, targets: -jnp.take_along_axis(outputs, targets[:, None], 1)[:, 0],
    **{"batch_size": 4, "train_examples": 12, **options},
  )


def of_world(row, numbers):
  """How often the world has each number among its examples `numbers`."""
  key = streams.derive(jnp.asarray(seeds(row)[0])).sample
  labels = [int(drawn(key, jnp.int32(number))[1]) for number in numbers]
  return np.bincount(labels, minlength=8)


def test_an_ideal_world_takes_each_example_once_and_a_real_one_its_first_ones():
  ideal = trained(counts(world="ideal", steps=5)).params
  np.testing.assert_array_equal(4 * ideal, of_world(3, range(20)))
  real = trained(counts(epochs=2)).params
  np.testing.assert_array_equal(4 * real, 2 * of_world(3, range(12)))


def test_a_world_must_say_how_many_and_be_like_the_test_set():
  with pytest.raises(UserError, match=r"train_examples=None does not do where `train` is a functi"):
    counts(train_examples=None)
  with pytest.raises(UserError, match=r"function `train` .* returned another tree .*float32\[2"):
    counts(train=lambda key, index: (jnp.zeros(2), jnp.int32(0)))()
  with pytest.raises(UserError, match="train closes over a random key"):
    key = jax.random.key(0)
    counts(train=lambda _, index: drawn(key, index))()


# Outcomes that are no means over examples.

SUMS = {"draws": seedlab.Metric(("draw",)), "size": seedlab.Metric(better="lower")}


def generated(apply, data, key):
  outputs = apply(data["x"])
  noises = jax.vmap(lambda k: jax.random.normal(jax.random.fold_in(key, k), (), jnp.float32))
  return {"draws": noises(jnp.arange(3)), "size": jnp.abs(outputs).sum()}


def evaluated(**options):
  given = {"evaluate": generated, "evaluate_data": {"x": own.X[:5]}, "metrics": SUMS}
  return own.regression(**{"epochs": 1, **given, **options})


def test_evaluate_reads_its_own_data_and_the_generate_stream():
  recipe = evaluated()
  first, other = trained(recipe), trained(recipe, generate=9)
  assert first.digest[0] == other.digest[0]
  assert first.outcome["draws"].shape == (1, 3)
  assert (first.outcome["draws"] != other.outcome["draws"]).all()
  by_hand = np.abs(own.linear_apply(first.params, own.X[:5])).sum()
  np.testing.assert_allclose(first.outcome["size"][0, -1], by_hand, rtol=1e-6)
  assert list(recipe().metrics) == ["draws", "size", "test_loss"]
  # Its data identify what a sweep was tested on.
  other = evaluated(evaluate_data={"x": own.X[1:6]})
  leaves = [jax.tree.leaves(one().evaluated_on()) for one in (recipe, other)]
  assert any((a != b).any() for a, b in zip(*leaves, strict=True))


def test_an_average_is_what_evaluate_is_given():
  recipe = evaluated(average=0.5, optimizer=optax.sgd(0.5))
  found = trained(recipe)
  of_last = np.abs(own.linear_apply(found.params, own.X[:5])).sum()
  assert abs(found.outcome["size"][0, -1] - of_last) > 1e-3


def test_evaluate_and_its_metrics_go_together():
  for wrong in ({"evaluate": None, "metrics": SUMS}, {"metrics": None}):
    with pytest.raises(UserError, match="go together"):
      evaluated(**wrong)
  with pytest.raises(UserError, match=r"evaluate returned other, and `metrics` .* draws, size"):
    engine.build(evaluated(evaluate=lambda apply, data, key: {"other": 1.0})(), "loop")
  with pytest.raises(UserError, match="evaluate raised TypeError"):
    engine.build(evaluated(evaluate=lambda apply, data, key: apply(None, 1, 2))(), "loop")


# Saved parameters.


def test_a_recipe_starts_from_a_file_but_for_the_layers_that_are_drawn_anew(tmp_path):
  file = tmp_path / "kept.safetensors"
  records.save_params(file, {"w": np.full((4, 3), 0.5, np.float32), "v": np.float32([1, 2, 3])})
  still = {"optimizer": optax.sgd(0.0), "epochs": 1}
  params = trained(own.regression(initial=str(file), **still)).params
  assert (params["w"] == 0.5).all() and (params["v"] == [1, 2, 3]).all()
  fresh = trained(own.regression(initial=str(file), fresh=["w"], **still)).params
  plain = trained(own.regression(**still)).params
  assert (fresh["w"] == plain["w"]).all() and (fresh["v"] == [1, 2, 3]).all()
  with pytest.raises(UserError, match=r"^initial=.* does not fit the network: .*named_no.* fresh"):
    records.save_params(file, {"named_nowhere": np.zeros(3, np.float32)})
    own.regression(initial=str(file), **still)()
  with pytest.raises(UserError, match=r"^fresh='head' begins the name of no parameter"):
    own.regression(initial=str(file), fresh=["head"], **still)()


def test_products_may_round_as_an_accelerator_does_and_other_types_are_the_networks_own():
  for precision in ("float32", "tf32"):
    trainer = own.regression(precision=precision)()
    keys = streams.derive(jnp.asarray(seeds(3)[0]))
    state = trainer.init(keys, trainer.load())
    advance = jax.make_jaxpr(trainer.advance)(state, keys, trainer.load(), None, 0, 1)
    asked = [e.params["precision"] for e in equations(advance.jaxpr) if "dot" in e.primitive.name]
    found = {str(one) for one in asked}
    assert len(found) == 1 and ("HIGH" in found.pop()) == (precision == "tf32")
  with pytest.raises(UserError, match=r"^precision='bfloat16' is for networks of seedlab's own"):
    own.regression(precision="bfloat16")()


# Where data are is no part of what is trained.


def with_place(width: int = 3, data_dir: str | None = None):
  raise NotImplementedError


def test_a_function_is_told_where_data_are_and_the_record_is_not(tmp_path):
  described = experiment.experiment(with_place, {"width": 4}, data_dir=str(tmp_path))
  assert experiment.spec_of(described, "loop", 1)["arguments"] == {
    "width": 4,
    "data_dir": str(tmp_path),
  }
  recorded = described.record["trainer"]["arguments"]
  assert recorded == {"width": 4, "data_dir": None}
  said = experiment.experiment(with_place, {"data_dir": "there"}, data_dir=str(tmp_path))
  assert experiment.spec_of(said, "loop", 1)["arguments"] == {"data_dir": "there"}


def test_a_crossed_sweep_of_a_function_is_known_again_without_its_levels():
  seeds = {"vary": ["init", "order"], "design": "crossed", "levels": [3, 2]}
  described = experiment.experiment(with_place, {"width": 4}, seeds)
  known = {**described.record, "seedlab_version": "0"}
  assert "levels" not in known["trainer"]["seeds"]  # more of them extend the sweep
  again = experiment.recorded_experiment(known, with_place, None, "out")
  assert (again.seeds.design, again.seeds.vary) == ("crossed", ("init", "order"))
