"""Averages, second networks, teachers, pokes, windows and slices in training."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sections import merged
from test_ideal import DATASET, assert_close, keys_of, seeds_of

from seedlab import engine, findings, programs, records, streams, sweeps, training
from seedlab.config import Training
from seedlab.data import order as orders
from seedlab.errors import UserError
from seedlab.training import evaluation, losses, poke

STEPS = 7
BASE = {
  "data": {"name": "made", "train_examples": 40},
  "model": {"name": "mlp", "width": 4, "depth": 1},
  "optimizer": {"learning_rate": 0.1, "momentum": 0.0},
  "schedule": {"name": "constant"},
  "training": {"batch_size": 10, "steps": STEPS},
  "evaluation": {"every_steps": 3},
}


def trainer(**sections) -> training.Trainer:
  return training.on_dataset(merged(BASE, **sections), DATASET, 3)


def states(built, run=1, steps=STEPS, **fixed):
  """The states after 0, 1, ..., `steps` steps, each step a segment of its own."""
  data, keys = jax.device_put(built.load()), keys_of(run, **fixed)
  advance = jax.jit(built.advance)
  found = [jax.jit(built.init)(keys, data)]
  for step in range(steps):
    found.append(advance(found[-1], keys, data, None, jnp.int32(step), jnp.int32(1))[0])
  return found


def differing(a, b) -> int:
  """How many parameters differ in their bits."""
  pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
  return sum(int((np.asarray(x) != np.asarray(y)).sum()) for x, y in pairs)


# --- moving average


def test_the_average_follows_its_recurrence_and_is_what_is_evaluated():
  built = trainer(training={"average": 0.3})
  plain = states(trainer())
  found = states(built)
  expected = plain[0].params
  for step in range(STEPS):
    assert differing(found[step].params, plain[step].params) == 0
    assert_close(found[step].average, expected)
    decay = min(0.3, (1 + step) / (10 + step))
    expected = jax.tree.map(
      lambda old, new, d=decay: d * old + (1 - d) * new, expected, plain[step + 1].params
    )
  data = jax.device_put(built.load())
  averaged = found[-1]._replace(params=found[-1].average)
  ours = built.evaluate(found[-1], None, data)
  assert_close(ours, trainer().evaluate(averaged._replace(average=()), None, data))
  assert ours["test_loss"] != trainer().evaluate(plain[-1], None, data)["test_loss"]


# --- co-distillation


def test_co_distillation_follows_two_networks_by_hand():
  """The first step, from formulas: cross-entropy with the labels and with what the other says."""
  weight = 0.5
  built = trainer(training={"codistillation": weight})
  before, after = states(built, steps=1)
  data, keys = built.load(), keys_of(1)
  subset = orders.subset(keys.sample, 120, 40)
  at = subset[orders.epoch_order(keys.order, 0, 40, "permutation")[:10]]
  image = (data.train_image[at].astype(np.float32) - 127) / 70
  label = jax.nn.one_hot(data.train_label[at], 3)

  def logits(params):
    first, last = (params[f"Dense_{number}"] for number in (0, 1))
    hidden = jax.nn.relu(image.reshape(10, -1) @ first["kernel"] + first["bias"][None])
    return hidden @ last["kernel"] + last["bias"][None]

  def entropy(target, logits):
    return -(target * jax.nn.log_softmax(logits)).sum(-1).mean()

  both = before.params
  said = {name: jax.nn.softmax(logits(params)) for name, params in both.items()}
  for name, other in (("run", "peer"), ("peer", "run")):
    slope = jax.grad(
      lambda params, o=other: (
        entropy(label, logits(params)) + weight * entropy(said[o], logits(params))
      )
    )(both[name])
    assert_close(after.params[name], jax.tree.map(lambda p, g: p - 0.1 * g, both[name], slope))


def test_the_second_network_starts_elsewhere_and_only_the_first_is_evaluated():
  built = trainer(training={"codistillation": 0.5})
  state = states(built)[-1]
  assert differing(state.params["run"], state.params["peer"]) > 10
  start = states(built, steps=0)[0]
  assert differing(start.params["run"], states(trainer(), steps=0)[0].params) == 0
  data = jax.device_put(built.load())
  alone = state._replace(params=state.params["run"], batch_stats={})
  assert_close(built.evaluate(state, None, data), trainer().evaluate(alone, None, data))


def test_two_networks_without_weight_would_train_as_one():
  """A weight of next to nothing: the run's network goes the way it goes alone."""
  found = states(trainer(training={"codistillation": 1e-30}))[-1]
  assert_close(found.params["run"], states(trainer())[-1].params)


def test_co_distillation_with_batch_norm_and_dropout():
  built = trainer(training={"codistillation": 0.5}, model={"norm": "batch", "dropout": 0.5})
  state = states(built)[-1]
  assert set(state.batch_stats) == {"run", "peer"}
  outcome = built.evaluate(state, None, jax.device_put(built.load()))
  assert np.isfinite(outcome["test_loss"])


# --- distillation


@pytest.fixture
def teacher(tmp_path):
  """A trained network of another run in a file."""
  file = tmp_path / "teacher.safetensors"
  params = states(trainer(), run=9)[-1].params
  records.save_params(file, programs.named_leaves(params))
  return str(file), params


def test_a_student_of_share_one_follows_the_teacher_alone(teacher):
  """Every label is another one, and nothing changes; with a share of a half something does."""
  file, _ = teacher
  other = DATASET._replace(train_label=(DATASET.train_label + 1) % 3)
  for share, same in ((1.0, True), (0.5, False)):
    config = merged(BASE, training={"teacher": file, "distillation": share})
    found = [states(training.on_dataset(config, data, 3))[-1].params for data in (DATASET, other)]
    assert (differing(*found) == 0) == same


def test_the_loss_of_a_student_by_hand():
  logits = jnp.array([[1.0, 0.0, -1.0]])
  hard, said = np.array([0.0, 1.0, 0.0]), np.array([0.2, 0.3, 0.5])
  target = 0.25 * hard + 0.75 * said
  expected = -(target * jax.nn.log_softmax(logits[0])).sum()
  assert losses.towards(logits, target[None])[0] == pytest.approx(float(expected), rel=1e-6)


def test_a_student_that_is_its_teacher_stays():
  """Started where the teacher is, with the teacher's word alone, the gradient is zero."""
  state = states(trainer(), run=9)[-1]

  def loss(params, said):
    image = jnp.asarray(DATASET.test_image, jnp.float32).reshape(15, -1) / 70
    hidden = jax.nn.relu(image @ params["Dense_0"]["kernel"])
    logits = hidden @ params["Dense_1"]["kernel"]
    return losses.towards(logits, jax.nn.softmax(logits) if said is None else said).mean(), logits

  said = jax.nn.softmax(loss(state.params, None)[1])
  slope = jax.grad(lambda params: loss(params, said)[0])(state.params)
  assert max(float(jnp.abs(g).max()) for g in jax.tree.leaves(slope)) < 1e-6


def test_teachers_that_do_not_fit_are_refused(teacher, tmp_path):
  file, _ = teacher
  with pytest.raises(UserError, match=r"teacher=None and training.distillation=0.5 go together"):
    trainer(training={"distillation": 0.5})
  with pytest.raises(UserError, match=r"is of another network: Dense_0/bias, Dense_0/kernel, "):
    trainer(training={"teacher": file, "distillation": 0.5}, model={"width": 5})
  with pytest.raises(UserError, match="holds no running statistics"):
    trainer(training={"teacher": file, "distillation": 0.5}, model={"norm": "batch"})
  with pytest.raises(UserError, match=r"training.teacher='no.safetensors' cannot be read"):
    trainer(training={"teacher": "no.safetensors", "distillation": 0.5})
  with pytest.raises(UserError, match=r"training.distillation=1.5 must be at most 1"):
    trainer(training={"teacher": file, "distillation": 1.5})


# --- pokes


@pytest.mark.parametrize("kind", ["ulp", "factor"])
def test_a_poke_moves_one_weight_at_its_step(kind):
  """Without a gradient nothing else moves."""
  still = {"optimizer": {"learning_rate": 0.0}}
  poked = states(trainer(training={"poke_step": 3, "poke": kind}, **still))
  plain = states(trainer(**still))
  for step in range(STEPS + 1):
    assert differing(poked[step].params, plain[step].params) == (step > 3)
  before, after = (
    np.concatenate([np.asarray(leaf).ravel() for leaf in jax.tree.leaves(state.params)])
    for state in (plain[-1], poked[-1])
  )
  (at,) = np.flatnonzero(before != after)
  if kind == "ulp":
    assert abs(int(after[at : at + 1].view(np.int32)[0]) - int(before.view(np.int32)[at])) == 1
    assert abs(after[at]) == np.nextafter(abs(before[at]), np.float32(np.inf))
  else:
    assert after[at] == before[at] * np.float32(1.001)


def test_before_a_poke_nothing_differs_and_then_the_training_does():
  poked, plain = states(trainer(training={"poke_step": 3})), states(trainer())
  for step in range(STEPS + 1):
    assert (differing(poked[step].params, plain[step].params) > 0) == (step > 3)


def test_the_poke_stream_alone_chooses_the_weight():
  params = states(trainer(), steps=0)[0].params
  settings = Training(poke_step=2)

  @jax.jit
  @jax.vmap
  def places(seeds):
    moved = poke.move(settings, params, streams.derive(seeds).poke, jnp.int32(2))
    pairs = zip(*map(jax.tree.leaves, (params, moved)), strict=True)
    return jnp.concatenate([(a != b).ravel() for a, b in pairs])

  flags = np.asarray(places(seeds_of(*range(40))))
  assert (flags.sum(1) == 1).all()
  found = flags.argmax(1).tolist()
  assert len(set(found)) > 20
  sizes = [leaf.size for leaf in jax.tree.leaves(params)]  # bias 4, kernel 64, bias 3, kernel 12
  assert sizes == [4, 64, 3, 12]
  # Biases are never moved; both kernels are.
  assert all(4 <= at < 68 or 71 <= at for at in found) and {at < 68 for at in found} == {
    True,
    False,
  }
  assert poke.move(settings, params, keys_of(1).poke, jnp.int32(1)) is not None
  assert differing(poke.move(settings, params, keys_of(1).poke, jnp.int32(1)), params) == 0


def test_pokes_that_cannot_be_are_refused():
  with pytest.raises(UserError, match=r"poke_step=7 must be below the 7 steps"):
    trainer(training={"poke_step": 7})
  with pytest.raises(UserError, match=r"poke='factor' is read only with training.poke_step"):
    trainer(training={"poke": "factor"})
  with pytest.raises(UserError, match="this network has none"):
    poke.move(Training(poke_step=0), {"bias": jnp.zeros(3)}, keys_of(1).poke, jnp.int32(0))


# --- shuffling windows


@pytest.mark.parametrize("window", [1, 2, 7, 39, 40, 100])
def test_a_window_visits_each_example_once(window):
  order = np.asarray(orders.epoch_order(keys_of(3).order, 5, 40, "window", window))
  assert sorted(order.tolist()) == list(range(40))
  early = order - np.arange(40)  # by how many places each leaves before its turn
  assert early.max() <= window - 1
  if window == 1:
    np.testing.assert_array_equal(order, np.arange(40))
  elif window < 40:
    assert early.max() > 0
  else:
    full = orders.epoch_order(keys_of(3).order, 5, 40, "permutation")
    np.testing.assert_array_equal(order, full)


def test_a_window_by_hand():
  """The buffer, as one would write it with a list."""
  key = streams.at_step(keys_of(3).order, 5)
  words = np.asarray(jax.random.bits(key, (12,), jnp.uint32)).tolist()
  buffer, coming, expected = list(range(5)), 5, []
  for word in words:
    place = word % len(buffer)
    expected.append(buffer[place])
    if coming < 12:
      buffer[place] = coming
      coming += 1
    else:
      buffer[place] = buffer[-1]
      buffer.pop()
  np.testing.assert_array_equal(orders.through_window(key, 12, 5), expected)


def test_what_leaves_a_window_first_is_uniform():
  keys = jax.vmap(lambda n: streams.at_step(keys_of(0).order, n))(jnp.arange(4000))
  firsts = np.asarray(jax.vmap(lambda key: orders.through_window(key, 9, 4)[0])(keys))
  counts = np.bincount(firsts, minlength=9)
  assert counts[4:].sum() == 0
  assert np.abs(counts[:4] - 1000).max() < 5 * np.sqrt(4000 * 0.25 * 0.75)


def test_training_through_a_window():
  """A window of one is the order as it is; wider ones are orders of their own."""
  sequential = states(trainer(data={"order": "sequential"}))[-1].params
  narrow = states(trainer(data={"order": "window", "window": 1}))[-1].params
  wide = states(trainer(data={"order": "window", "window": 12}))[-1].params
  assert differing(narrow, sequential) == 0 and differing(wide, sequential) > 0
  with pytest.raises(UserError, match=r"data.order='window' and data.window=None"):
    trainer(data={"order": "window"})
  with pytest.raises(UserError, match=r"data.order='permutation' and data.window=5"):
    trainer(data={"window": 5})


# --- what is kept


def test_probabilities_at_every_evaluation(tmp_path):
  def sweep(name, **sections):
    config = merged(config_of_digits, **sections)
    return sweeps.sweep(config, 3, tmp_path / name, workers=1, quiet=True)

  config_of_digits = merged(BASE, data={"name": "digits", "test_examples": 30})
  dataset = sweep("a", evaluation={"trajectory": True})
  assert dataset["probability"].dims == ("run", "evaluation", "example", "class")
  probability, label = dataset["probability"].values, dataset["label"].values
  chosen = np.take_along_axis(probability, label[None, None, :, None], axis=-1)[..., 0]
  np.testing.assert_allclose(1 - chosen.mean(-1), dataset["test_soft_error"], atol=1e-6)
  np.testing.assert_allclose(-np.log(chosen).mean(-1), dataset["test_loss"], atol=1e-5)
  last = sweep("b", evaluation={"probabilities": True})
  np.testing.assert_allclose(last["probability"], probability[:, -1], atol=1e-6)
  ends = probability[:, -1].astype(np.float64)
  apart = np.mean([np.abs(ends[m] - ends[j]).sum(-1).mean() for m, j in ((0, 1), (0, 2), (1, 2))])
  shown = findings.disagreement(dataset).difference
  assert shown.estimate == pytest.approx(apart, rel=1e-6)
  # The same examples, whatever else is kept; fewer of them are another evaluation set.
  assert last.attrs["evaluation_digest"] == dataset.attrs["evaluation_digest"]
  other = sweep("c", data={"test_examples": 29})
  findings.check_evaluation_sets({"a": dataset, "b": last})
  with pytest.raises(UserError, match="b and c were evaluated on different examples"):
    findings.check_evaluation_sets({"b": last, "c": other})


def test_area_under_the_curve():
  rng = np.random.default_rng(0)
  scores, labels = rng.integers(0, 9, 60).astype(np.float32), rng.integers(0, 2, 60)
  positive, negative = scores[labels == 1], scores[labels == 0]
  wins = (positive[:, None] > negative).mean() + 0.5 * (positive[:, None] == negative).mean()
  assert losses.area_under_curve(scores, labels) == pytest.approx(wins, rel=1e-6)
  assert losses.area_under_curve(jnp.array([0.1, 0.9]), jnp.array([0, 1])) == 1
  assert np.isnan(losses.area_under_curve(jnp.array([0.1, 0.9]), jnp.array([1, 1])))


def test_slices_of_a_known_loss():
  """L = |x|_1 from (3, 4): the gradient is (1, 1) until a coordinate passes zero, then jumps."""
  length = 0.02 * 5.0
  found = evaluation.slices(lambda p: jnp.abs(p).sum(), jnp.array([3.0, 4.0]), 5)
  t = length * np.arange(5) / 4
  np.testing.assert_allclose(found["slice_loss"], 7 - np.sqrt(2) * t, rtol=1e-6)
  np.testing.assert_allclose(found["slice_slope"], -np.sqrt(2), rtol=1e-6)
  np.testing.assert_array_equal(found["slice_jump"], 0)
  # A kink half-way: x = 0.035 is passed between the third point and the fourth.
  kinked = evaluation.slices(lambda p: jnp.abs(p[0] - 2.965) + p[1], jnp.array([3.0, 4.0]), 5)
  np.testing.assert_allclose(kinked["slice_jump"], [0, 0, 2 / np.sqrt(2), 0, 0], atol=1e-6)
  # L = |p|^2 / 2: the gradient is p, so that each step changes it by its own length.
  square = evaluation.slices(lambda p: (p**2).sum() / 2, jnp.array([3.0, 4.0]), 5)
  np.testing.assert_allclose(square["slice_jump"], np.r_[0, [length / 4 / 5] * 4], atol=1e-6)
  flat = evaluation.slices(lambda p: (0 * p).sum(), jnp.array([3.0, 4.0]), 3)
  np.testing.assert_array_equal(flat["slice_loss"], 0)


def test_slices_of_a_network_begin_at_its_loss():
  built = trainer(evaluation={"slices": 4, "train": True, "train_examples": 32})
  state = states(built)[-1]
  outcome = built.evaluate(state, None, jax.device_put(built.load()))
  assert outcome["slice_loss"].shape == (4,)
  assert outcome["slice_loss"][0] == pytest.approx(float(outcome["train_loss"]), rel=1e-5)
  assert outcome["slice_slope"][0] < 0
  with pytest.raises(UserError, match="slices=1 is one point"):
    trainer(evaluation={"slices": 1})
  with pytest.raises(UserError, match=r"slices=5 slices the loss of examples that are reused"):
    trainer(evaluation={"slices": 5}, data={"world": "ideal"})


# --- exactness


@pytest.mark.parametrize("mode", ["loop", pytest.param("vmap", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
  "sections",
  [
    {"training": {"average": 0.9}},
    {"training": {"codistillation": 0.5}, "model": {"dropout": 0.2}},
    {"training": {"poke_step": 4}, "data": {"order": "window", "window": 9}},
    {"evaluation": {"slices": 3, "trajectory": True}},
  ],
  ids=["average", "codistillation", "poke", "kept"],
)
def test_runs_are_exact(sections, mode):
  """Alone or together, however the steps are cut: the same bits."""
  program = engine.build(trainer(**sections), mode, None if mode == "loop" else 2)
  together = engine.train(program, seeds_of(5, 6, 7))
  alone = engine.train(program, seeds_of(6), longest=2)
  assert together.digest[1] == alone.digest[0]
  for name, values in alone.outcome.items():
    np.testing.assert_array_equal(values[0], together.outcome[name][1])


def test_a_decay_of_one_would_never_average():
  with pytest.raises(UserError, match=r"training.average=1.0 must be below 1"):
    trainer(training={"average": 1.0})
  assert optax.incremental_update(2.0, 1.0, 0.25) == 1.25
