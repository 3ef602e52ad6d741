"""Parts: names to functions, signatures to options, changes of a config, anyone's functions."""

import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from seedlab import changes, config, parts, streams
from seedlab.errors import UserError
from seedlab.training import make_trainer, optimizer, schedules

DIGITS = {
  "data": {"name": "digits", "train_examples": 40, "test_examples": 20},
  "model": {"name": "mlp", "width": 4, "depth": 1},
  "training": {"batch_size": 10, "epochs": 2},
}


def keys(**seeds):
  values = [seeds.get(name, 0) for name in config.STREAMS]
  return streams.derive(jnp.array(values, jnp.uint32))


def trained(values, evaluates=True, **seeds):
  """(trainer, the state after all steps, its outcomes), run by run and without the engine."""
  trainer = make_trainer(config.parse(values))
  data, run = jax.device_put(trainer.load()), keys(**seeds)
  state = jax.jit(trainer.init)(run, data)
  advance = jax.jit(trainer.advance)
  step = 0
  while step < trainer.plan[-1]:
    length = min(trainer.period or trainer.plan[-1], trainer.plan[-1] - step)
    state, log = advance(state, run, data, None, jnp.int32(step), jnp.int32(length))
    assert log["diverged"] == -1
    step += length
  outcome = jax.jit(trainer.evaluate)(state, run, data) if evaluates else None
  return trainer, state, outcome


# Names


def test_our_names_are_read_from_the_files_and_none_is_imported():
  code = (
    "import sys\n"
    "from seedlab import parts\n"
    "found = {kind: parts.names(kind) for kind in parts.KINDS}\n"
    "assert 'jax' not in sys.modules and 'flax' not in sys.modules\n"
    "assert found['model']['resnet18'] == 'seedlab.models.resnet'\n"
    "assert found['augment'].keys() >= {'crop', 'flip', 'cutout'}\n"
    "assert 'crop' not in found['data'] and found['data']['glyphs'] == 'seedlab.data.glyphs'\n"
  )
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
  assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", parts.KINDS)
def test_every_name_of_ours_is_a_function_whose_options_have_types(kind):
  assert parts.names(kind)
  for name in parts.names(kind):
    for option, (default, annotation) in parts.options(kind, parts.find(kind, name)).items():
      assert annotation is not None and default is not parts.inspect.Parameter.empty, (name, option)


def test_ours_wins_and_a_library_is_named_by_its_module():
  assert parts.find("optimizer", "adam") is optimizer.adam
  assert parts.find("optimizer", "optax:adam") is optax.adam
  assert parts.find("optimizer", "adamw") is optax.adamw
  assert parts.find("optimizer", "muon") is parts.find("optimizer", "contrib.muon")
  assert parts.find("schedule", "cosine_decay_schedule") is optax.cosine_decay_schedule


@pytest.mark.parametrize(
  ("kind", "name", "words"),
  [
    ("model", "resnet_18", "did you mean 'resnet18'"),
    ("optimizer", "adamm", "did you mean 'adam'"),
    ("model", "no_such_module:Net", "No module named 'no_such_module'"),
    ("model", "own_parts:Nett", "did you mean 'Net'"),
    ("model", "own_parts:", "must be module:function"),
    ("schedule", "float", "is not known"),
  ],
)
def test_a_name_that_is_none_gets_one_line(kind, name, words):
  with pytest.raises(UserError, match=f"^{kind}.name='{name}'") as raised:
    parts.find(kind, name)
  assert words in str(raised.value) and "\n" not in str(raised.value)


# Options


@pytest.mark.parametrize(
  ("changed", "message"),
  [
    ({"model.heads": 2}, "model.heads=2 is not read by model.name='mlp', but by vit"),
    (
      {"model.widht": 2},
      "model.widht=2 is not an option of model.name='mlp'; did you mean 'width'",
    ),
    ({"optimizer.name": "adam", "optimizer.momentum": 0.5}, "is not read by optimizer.name='adam'"),
    ({"model.width": 2.5}, "model.width=2.5 must be of type int, not float"),
    ({"model.norm": "layer"}, "model.norm='layer' is not known; choices: batch, group, none"),
    ({"loss.smoothing": "much"}, "loss.smoothing='much' must be of type float, not str"),
    ({"activation": "relu", "activation.beta": 1.0}, "activation.beta=1.0 is not read by"),
    ({"activation.name": "smelo"}, "did you mean 'smelu'"),
    ({"augment": ["crop"], "augment[0].pading": 2}, "did you mean 'padding'"),
    ({"augment": ["flip"], "augment[1].padding": 2}, "augment has 1 entries, counted from 0"),
    ({"augment": [None], "augment[0].size": 2}, "augment[0].size: augment[0] is not a section"),
    ({"training.epoch": 3}, "training.epoch is not a field; did you mean 'epochs'"),
    ({"trainign.epochs": 3}, "trainign is not a section; did you mean 'training'"),
    ({"training": 3}, "training is a section: give its fields"),
    ({"schedule": "warmup_cosine_decay_schedule"}, "schedule.init_value is missing"),
    ({"gradient.penalty_form": "exact"}, "is read only with gradient.penalty, which is 0.0"),
    ({"gradient.noise_scale": 0.1}, "is read only with gradient.noise, which is 'none'"),
    ({"probe.end": 0.001}, "is read only with probe.steps, which is 0"),
    ({"model.activation": "smelu"}, "model.activation is not a field; it is activation.name now"),
    ({"data.crop": 4}, "data.crop is not a field; it is augment"),
    ({"optimizer.schedule": "cosine"}, "it is schedule.name now"),
    ({"model.name": "vit", "model.depth": 2.0}, "model.depth=2.0 must be of type int"),
  ],
)
def test_what_nobody_reads_and_what_is_no_value_is_one_line(changed, message):
  with pytest.raises(UserError) as raised:
    changes.changed(DIGITS, changed)
  assert message in str(raised.value) and "\n" not in str(raised.value)


def test_a_section_that_no_part_asks_for_is_refused():
  with pytest.raises(UserError, match="asks for no activation; leave the section out"):
    config.parse({"model": "own_parts:Net", "activation": "smelu"})
  assert config.parse({"model": "own_parts:Net"}).activation is None


def test_records_hold_every_option_with_its_default_and_come_back():
  parsed = config.parse({"model": "vit", "optimizer": "adamw", "augment": ["crop", "flip"]})
  kept = config.to_dict(parsed)
  assert kept["model"]["heads"] == 4 and kept["optimizer"]["b1"] == 0.9
  assert kept["augment"] == [{"name": "crop", "padding": 4, "fill": "zero"}, {"name": "flip"}]
  assert config.parse(kept) == parsed
  as_file = config.to_config_dict({"model": {"name": "vit", "heads": 2}})
  assert config.parse(as_file).model.get("heads") == 2


# Changes


def test_names_come_first_then_changes_then_what_was_there():
  base = config.parse({**DIGITS, "model": {"name": "mlp", "width": 4}})
  made = changes.changed(base, {"model.width": 8, "model": "cnn"})  # in any order
  assert (made.model.name, made.model.get("width")) == ("cnn", 8)
  assert made.activation.name == "relu"
  kept = changes.changed(base, {"optimizer.learning_rate": 0.5, "optimizer.name": "lion"})
  assert kept.optimizer.learning_rate == 0.5 and kept.optimizer.get("b2") == 0.99


def test_what_the_new_part_does_not_have_is_dropped_at_its_default_and_refused_if_set():
  usual = config.parse({"model": {"name": "mlp", "depth": 2}})  # as by default
  assert changes.changed(usual, {"model": "cnn"}).model.get("depth") is None
  with pytest.raises(UserError, match=r"model.depth=3 was set for model.name='mlp'"):
    changes.changed({"model": {"name": "mlp", "depth": 3}}, {"model": "cnn"})
  back = {"model": "cnn", "model.depth": 2}  # said to be set back
  assert changes.changed({"model": {"name": "mlp", "depth": 3}}, back).model.name == "cnn"
  smelu = {"activation": {"name": "smelu", "beta": 0.5}}
  with pytest.raises(UserError, match=r"activation.beta=0.5 was set for activation.name='smelu'"):
    changes.changed(smelu, {"activation": "relu"})
  assert changes.changed(smelu, {"activation": "swish"}).activation.get("beta") == 0.5
  # A section that nobody asks for any more goes with it, unless it was set.
  assert changes.changed(usual, {"model": "own_parts:Net"}).activation is None
  with pytest.raises(UserError, match="asks for no activation"):
    changes.changed(smelu, {"model": "own_parts:Net"})


def test_lists_are_changed_whole_or_by_their_place():
  base = {"augment": [{"name": "crop", "padding": 2}, "flip"]}
  made = changes.changed(base, {"augment[0].padding": 3})
  assert [one.name for one in made.augment] == ["crop", "flip"]
  assert made.augment[0].get("padding") == 3
  other = changes.changed(base, {"augment[0]": "cutout", "augment[0].size": 3})
  assert (other.augment[0].name, other.augment[0].get("size")) == ("cutout", 3)
  assert changes.changed(base, {"augment": None}).augment == ()
  assert changes.changed(base, {"augment": "flip"}).augment[0].name == "flip"
  assert (
    changes.changed(base, {"augment": [{"name": "cutout", "size": 3}]}).augment[0].get("size") == 3
  )


# Optimisers and schedules


@pytest.mark.parametrize(
  ("name", "options"),
  [
    ("adamw", {"b2": 0.95, "weight_decay": 0.01}),
    ("lion", {}),
    ("contrib.muon", {}),
    ("contrib.schedule_free_adamw", {}),
    ("noisy_sgd", {"eta": 0.01}),
    ("own_parts:signs", {"scale": 0.5}),
    ("prodigy", {}),
  ],
)
def test_any_optimizer_trains_by_its_own_name_and_arguments(name, options):
  rate = {"learning_rate": 1.0 if name == "prodigy" else 0.01}
  values = {**DIGITS, "optimizer": {"name": name, **rate, **options}}
  trainer, state, outcome = trained(values)
  begun = trainer.init(keys(), jax.device_put(trainer.load()))
  assert np.isfinite(outcome["test_loss"])
  leaves = zip(jax.tree.leaves(state.params), jax.tree.leaves(begun.params), strict=True)
  assert any((a != b).any() for a, b in leaves)


def test_a_schedule_free_rule_is_evaluated_where_it_says():
  values = {**DIGITS, "optimizer": {"name": "contrib.schedule_free_sgd", "learning_rate": 0.1}}
  trainer, state, outcome = trained(values)
  says = optax.contrib.schedule_free_eval_params(state.opt_state, state.params)
  assert any(
    (a != b).any()
    for a, b in zip(jax.tree.leaves(says), jax.tree.leaves(state.params), strict=True)
  )
  run, data = keys(), jax.device_put(trainer.load())
  there = trainer.evaluate(state._replace(params=says, opt_state=()), run, data)
  np.testing.assert_allclose(outcome["test_loss"], there["test_loss"], rtol=1e-6)


@pytest.mark.parametrize("name", ["lbfgs", "contrib.sophia", "lookahead", "contrib.dpsgd"])
def test_a_rule_that_needs_more_than_a_step_has_gets_one_line(name):
  with pytest.raises(UserError, match=f"optimizer.name='{name}'"):
    trained({**DIGITS, "optimizer": name})


def rates(schedule, steps=20, **optimizing):
  parsed = config.parse({"schedule": schedule, "optimizer": {"name": "sgd", **optimizing}})
  rate = schedules.of_section(parsed.schedule, parsed.optimizer.learning_rate, steps, 5)
  return [float(rate(step)) for step in range(steps)]


def test_schedules_of_optax_get_the_peak_and_the_number_of_steps():
  bound = rates("cosine_decay_schedule", learning_rate=0.4)
  by_hand = [float(optax.cosine_decay_schedule(0.4, 20)(step)) for step in range(20)]
  np.testing.assert_allclose(bound, by_hand)
  given = rates({"name": "cosine_decay_schedule", "decay_steps": 10}, learning_rate=0.4)
  assert given[10] == 0 and bound[10] > 0
  warm = {"name": "warmup_cosine_decay_schedule", "init_value": 0.0, "warmup_steps": 4}
  assert max(rates(warm, learning_rate=0.3)) == pytest.approx(0.3)


def test_a_schedule_of_ones_own_counts_steps_or_epochs():
  assert (
    rates("own_parts:halved", learning_rate=0.2)
    == [pytest.approx(0.2)] * 10 + [pytest.approx(0.1)] * 10
  )
  by_epoch = {"name": "own_parts:halved", "per_epoch": True, "at": 0.25}
  assert rates(by_epoch, learning_rate=0.2)[4:6] == pytest.approx([0.2, 0.1])


SCHEDULE_CONTEXTS = {"end": 0.01, "period": 7, "warmup_steps": 3}


@pytest.mark.parametrize("name", parts.names("schedule"))
def test_every_option_of_every_schedule_changes_its_rates(name):
  counted = {"per_epoch": True} if name == "picard" else {}
  usual = rates({"name": name, **counted})
  for option in parts.options("schedule", parts.find("schedule", name)):
    assert rates({"name": name, option: SCHEDULE_CONTEXTS[option], **counted}) != usual, option


OPTIMIZER_CONTEXTS = {"momentum": 0.5, "nesterov": True, "weight_decay": 0.1, "bias_factor": 0.1}


@pytest.mark.parametrize("name", parts.names("optimizer"))
def test_every_option_of_every_optimizer_changes_its_updates(name):
  params = {"kernel": jnp.arange(1.0, 4.0), "bias": jnp.ones(2)}

  def updates(**options):
    parsed = config.parse({"optimizer": {"name": name, **options}})
    rule = optimizer.build(parsed.optimizer, parsed.schedule, 10)(jax.random.key(0))
    state, found = rule.init(params), []
    for factor in (1, 2):
      gradient = jax.tree.map(lambda leaf, factor=factor: factor * leaf, params)
      update, state = rule.update(gradient, state, params, value=jnp.float32(1))
      found += [leaf.tolist() for leaf in jax.tree.leaves(update)]
    return found

  for option in parts.options("optimizer", parts.find("optimizer", name)):
    assert updates(**{option: OPTIMIZER_CONTEXTS[option]}) != updates(), option


# Anyone's parts


OWN = {
  "data": {"name": "own_parts:stripes", "noise": 10.0},
  "model": {"name": "own_parts:Net", "hidden": 8, "rate": 0.2},
  "augment": [{"name": "own_parts:brightness", "by": 0.2}],
  "loss": {"name": "own_parts:hinge", "margin": 0.5},
  "optimizer": {"name": "own_parts:signs", "learning_rate": 0.02},
  "schedule": "own_parts:halved",
  "training": {"batch_size": 10, "epochs": 8},
  "evaluation": {
    "metrics": [{"name": "own_parts:confidence", "better": "higher"}, "top5_accuracy"]
  },
}


def test_every_part_may_be_anyones():
  few = {**OWN, "evaluation": {"metrics": [{"name": "own_parts:confidence", "better": "higher"}]}}
  trainer, _, outcome = trained(few)
  assert trainer.metrics["test_confidence"].better == "higher"
  assert 0.3 < outcome["test_confidence"] <= 1 and outcome["test_accuracy"] > 0.6
  active = {
    **OWN,
    "model": "own_parts:Active",
    "activation": {"name": "own_parts:bend", "strength": 2},
  }
  active["evaluation"] = {}
  assert np.isfinite(trained(active)[2]["test_loss"])


OWN_CHANGES = {
  "data.noise": 11.0, "data.classes": 2, "model.hidden": 7, "model.rate": 0.1,
  "augment[0].by": 0.1, "loss.margin": 0.7, "optimizer.scale": 0.5, "schedule.at": 0.2,
  "optimizer.learning_rate": 0.01,
}  # fmt: skip


BRIEF = {**OWN, "training": {"batch_size": 10, "steps": 8}, "evaluation": {}}


@pytest.fixture(scope="module")
def own_state():
  return trained(BRIEF, evaluates=False)[1]


@pytest.mark.parametrize("field", OWN_CHANGES)
def test_options_of_anyones_parts_reach_the_training(field, own_state):
  before = own_state
  _, after, _ = trained(changes.changed(BRIEF, {field: OWN_CHANGES[field]}), evaluates=False)
  different = [a.shape != b.shape or bool((a != b).any()) for a, b in zip(
    jax.tree.leaves(before.params), jax.tree.leaves(after.params), strict=True
  )]  # fmt: skip
  assert any(different)


def test_a_part_of_ours_is_one_new_file(tmp_path):
  """A copy of the package, with one file more in a folder and no edit elsewhere."""
  root = pathlib.Path(parts.__file__).parent
  copy = tmp_path / "seedlab"
  copy.mkdir()
  for entry in root.iterdir():
    if entry.name not in ("models", "__pycache__"):
      (copy / entry.name).symlink_to(entry)
  (copy / "models").mkdir()
  for entry in (root / "models").iterdir():
    if entry.name != "__pycache__":
      (copy / "models" / entry.name).symlink_to(entry)
  (copy / "models" / "tiny.py").write_text(
    '__all__ = ("tiny",)\n\n\ndef tiny(*, classes: int, width: int = 3):\n'
    "  import flax.linen as nn\n  return nn.Dense(classes)\n"
  )
  code = (
    "from seedlab import parts, config\n"
    "assert parts.find('model', 'tiny').__module__ == 'seedlab.models.tiny'\n"
    "assert config.parse({'model': {'name': 'tiny', 'width': 4}}).model.get('width') == 4\n"
  )
  environment = {"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"}
  done = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path
  )
  assert done.returncode == 0, done.stderr
