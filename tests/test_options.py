"""Every field of a config that is ours is read: another value changes what the runs do.

Options of models, activations, data sets, augmentations, optimisers and schedules are walked by
`test_model_parts`, `test_data_parts` and `test_parts`; here are the fields that every config has,
losses and metrics. Each has a declared context, since many are read only beside another one.
"""

import dataclasses
import functools
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend import core

from seedlab import changes, config, designs, parts, programs, records, streams
from seedlab.data import Dataset, Examples
from seedlab.data.fields import Field, Lists
from seedlab.data.stream import Images, Pool
from seedlab.errors import UserError
from seedlab.training import make_trainer

RUNS = 4  # whose seeds are looked at


def few(*, stream: bool = False) -> Examples:
  """Thirty images of 4x4 pixels to train on, which may be streamed, and ten to test with."""
  rng = np.random.default_rng(0)
  image = rng.integers(0, 256, (40, 4, 4, 3), np.uint8)
  label = np.arange(40, dtype=np.int32) % 3
  moments = np.full(3, 127, np.float32), np.full(3, 70, np.float32)
  made = Dataset(image[:30], label[:30], image[30:], label[30:], *moments)

  def read(index):
    return Images(image[index], np.full((len(index), 2), 4), label[index])

  pool = Pool(30, (4, 4, 3), read, None, None, np.arange(32, dtype=np.int32))
  return Examples(lambda: made, ("a", "b", "c"), read_pool=(lambda: pool) if stream else None)


def rated() -> Examples:
  """Thirty rows of a user and a film, and whether it was clicked."""
  rng = np.random.default_rng(0)
  row = rng.integers(0, 12, (40, 2), np.int32)
  label = (row.sum(1) % 2).astype(np.int32)
  nothing = np.zeros(0, np.float32)
  made = Dataset(row[:30], label[:30], row[30:], label[30:], nothing, nothing)
  numbers = np.arange(12, dtype=np.int32)[:, None]
  lists = Lists(numbers, numbers, np.zeros((12, 12), bool))
  fields = (Field("user", 12, embedding=2), Field("film", 12, embedding=2))
  return Examples(lambda: made, ("no", "yes"), fields, lists=lambda: lists)


BASE = {
  "data": {"name": "test_options:few"},
  "model": {"name": "mlp", "width": 4, "depth": 1},
  "training": {"batch_size": 4, "epochs": 4},
}


def live(jaxpr):
  """`jaxpr` without what nothing in it reads, inside of loops and branches too."""

  def inside(value):
    if isinstance(value, core.ClosedJaxpr):
      return value.replace(jaxpr=live(value.jaxpr))
    if isinstance(value, tuple):
      return tuple(map(inside, value))
    return live(value) if isinstance(value, core.Jaxpr) else value

  read, kept = {id(out) for out in jaxpr.outvars}, []
  for equation in reversed(jaxpr.eqns):
    if any(id(out) in read for out in equation.outvars):
      params = {name: inside(value) for name, value in equation.params.items()}
      kept.append(equation.replace(params=params))
      read |= {id(taken) for taken in equation.invars}
  return jaxpr.replace(eqns=kept[::-1])


def seen(values) -> dict:
  """Whatever decides the numbers of a config's runs, without training any."""
  parsed = config.parse(values)
  trainer = make_trainer(parsed)
  data = trainer.load()
  seeds = [designs.seeds_of_run(run, parsed.seeds) for run in range(RUNS)]
  crossed = parsed.seeds.design == "crossed"
  fed, arrays = None, ""
  if trainer.feed:
    last = min(trainer.period or trainer.plan[-1], trainer.plan[-1])
    fed = trainer.feed(seeds[0], 0, last)
    arrays = programs.tree_digest([fed, trainer.feed(seeds[0], last - 1, 1)])
  texts = []

  def text(function, *arguments):
    made, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
    texts.append(re.sub(r"0x[0-9a-f]+", "", str(live(made.jaxpr))))  # addresses of functions
    texts.append(programs.tree_digest(made.consts))
    return shapes

  keys = jax.eval_shape(streams.derive, jax.ShapeDtypeStruct((len(config.STREAMS),), jnp.uint32))
  state = text(trainer.init, keys, data)
  one = jax.ShapeDtypeStruct((), jnp.int32)
  text(trainer.advance, state, keys, data, fed, one, one)
  text(trainer.evaluate, state, keys, data)
  return {
    "programs": texts,
    "data": programs.tree_digest(data),
    "fed": arrays,
    "plan": (trainer.plan, trainer.period),
    "metrics": dict(trainer.metrics),
    "coords": programs.tree_digest({name: array for name, (_, array) in trainer.coords.items()}),
    "seeds": np.array(seeds).tolist(),
    "runs": designs.runs_of_design(parsed.seeds) if crossed else None,
  }


@functools.cache
def usual(context: str) -> dict:
  """`seen` of a config in JSON: many fields share a context."""
  return seen(json.loads(context))


A, B = "weights A", "weights B"  # stand for files of parameters
ROWS = {"data.name": "test_options:rated", "model.name": "ctr"}
FRESH = {"model.initial": A, "model.fresh": ["Dense_1"]}
PROBE = {**FRESH, "probe.steps": 6}
PENALTY = {"gradient.penalty": 0.5}
TRAIN = {"evaluation.train": True}
CROSSED = {"seeds.vary": ["init", "order"], "seeds.design": "crossed", "seeds.levels": [2, 2]}

# field -> (what else is set, another value than the field has then)
TABLE = {
  "data.name": ({}, "digits"),
  "data.world": ({"training.steps": 4}, "ideal"),
  "data.test_examples": ({}, 5),
  "data.train_examples": ({}, 20),
  "data.order": ({}, "sequential"),
  "data.window": ({"data.order": "window", "data.window": 3}, 4),
  "data.last_batch": ({}, "keep"),  # of 30 examples in batches of 4
  "data.copies": ({"augment": ["flip"]}, 2),
  "data.chunk": ({"augment": ["flip"]}, 2),
  "data.plain_copy": ({"augment": ["flip"], "data.copies": 2}, True),
  "data.normalisation": ({}, "half"),
  "data.label_noise": ({}, 0.2),
  "model.name": ({}, "mlp_pytorch"),
  "model.initial": ({"model.initial": A}, B),
  "model.fresh": ({"model.initial": A}, ["Dense_1"]),
  "model.precision": ({}, "bfloat16"),
  "activation.name": ({}, "swish"),
  "loss.name": ({}, "own_parts:hinge"),
  "optimizer.name": ({}, "adam"),
  "optimizer.learning_rate": ({}, 0.03),
  "schedule.name": ({}, "cosine"),
  "schedule.per_epoch": ({}, True),
  "schedule.hold_steps": ({}, 3),
  "training.batch_size": ({}, 5),
  "training.full_batch": ({}, True),
  "training.epochs": ({}, 5),
  "training.steps": ({}, 9),
  "training.loss_factor": ({}, 2.0),
  "training.average": ({}, 0.9),
  "training.codistillation": ({}, 0.5),
  "training.teacher": ({"training.teacher": A, "training.distillation": 0.5}, B),
  "training.distillation": ({"training.teacher": A, "training.distillation": 0.5}, 0.25),
  "training.poke_step": ({}, 2),
  "training.poke": ({"training.poke_step": 2}, "factor"),
  "probe.steps": (FRESH, 6),
  "probe.learning_rate": (PROBE, 0.02),
  "probe.end": (PROBE, 0.001),
  "probe.period": (PROBE, 9),
  "probe.hold_steps": (PROBE, 2),
  "probe.label_smoothing": (PROBE, 0.1),
  "probe.loss_factor": (PROBE, 2.0),
  "gradient.block_size": ({}, 2),
  "gradient.last_block": ({"gradient.block_size": 3, "gradient.last_block": "drop"}, "keep"),
  "gradient.accumulation": ({"gradient.block_size": 2}, "legacy"),
  "gradient.penalty": ({}, 0.5),
  "gradient.penalty_form": (PENALTY, "exact"),
  "gradient.penalty_probe": (PENALTY, 0.1),
  "gradient.penalty_statistics": ({**PENALTY, "model.norm": "batch"}, False),
  "gradient.noise": (
    {"gradient.noise": "additive", "gradient.noise_scale": 0.1},
    "multiplicative",
  ),
  "gradient.noise_scale": ({"gradient.noise": "additive", "gradient.noise_scale": 0.1}, 0.2),
  "gradient.clip_norm": ({}, 1.0),
  "evaluation.every_epochs": ({}, 0.5),
  "evaluation.every_steps": ({}, 3),
  "evaluation.epochs": ({}, [1]),
  "evaluation.log_dense": ({"evaluation.every_steps": 16}, True),
  "evaluation.batch_size": ({}, 4),  # another program; the same outcomes but for rounding
  "evaluation.probabilities": ({}, True),
  "evaluation.trajectory": ({}, True),
  "evaluation.lists": (ROWS, 2),
  "evaluation.slices": ({}, 3),
  "evaluation.train": ({}, True),
  "evaluation.train_examples": (TRAIN, 7),
  "evaluation.train_augmented": ({**TRAIN, "augment": ["flip"]}, True),
  "evaluation.gradient_norm": ({}, True),
  "evaluation.metrics": ({}, ["brier"]),
  "evaluation.metrics[0].name": ({"evaluation.metrics": ["brier"]}, "accuracy"),
  "evaluation.metrics[0].better": ({"evaluation.metrics": ["brier"]}, "lower"),
  "evaluation.metrics[0].unit": ({"evaluation.metrics": ["brier"]}, "nats"),
  "seeds.vary": ({}, ["init", "order"]),
  "seeds.fixed": ({"seeds.vary": ["init"]}, 3),
  "seeds.design": (
    {"seeds.vary": ["init", "order"]},
    {"seeds.design": "crossed", "seeds.levels": [2, 2]},
  ),
  "seeds.levels": (CROSSED, [2, 3]),
  "loss.smoothing of cross_entropy": ({}, 0.1),
}

STREAM = {"data.stream": True, "data.normalisation": "half"}  # whose batches are fed
IDEAL = {"data.world": "ideal", "training.epochs": 1}
# Read elsewhere than in the table's context, by other code.
ALSO = [
  ("data.train_examples", IDEAL),  # what counts as an epoch
  ("data.train_examples", {**IDEAL, **STREAM}),
  ("data.train_examples", STREAM),
  ("data.order", STREAM),
  ("data.window", STREAM),
  ("data.last_batch", STREAM),
  ("data.label_noise", STREAM),
  ("data.label_noise", IDEAL),
  ("training.batch_size", STREAM),
  ("training.batch_size", IDEAL),
  ("evaluation.train_examples", STREAM),
  ("evaluation.train_examples", {**IDEAL, "training.steps": 2, "evaluation.train_examples": 10}),
]
# Fields that another one overrides, as its comment in config.py says: a flag need not undo both.
OVERRIDDEN = {
  "training.epochs": {"training.steps": 9},
  "training.batch_size": {"training.full_batch": True},
  "evaluation.every_epochs": {"evaluation.every_steps": 3},
}


def fields() -> list[str]:
  """All of ours, and the options of losses and metrics, from the signatures."""
  found = [
    f"{section}.{field}" for section in config.SECTION for field in config.own_fields(section)
  ]
  found += [
    f"evaluation.metrics[0].{field.name}"
    for field in dataclasses.fields(config.Measure)
    if field.name != "options"
  ]
  for kind, section in (("loss", "loss"), ("metric", "evaluation.metrics[0]")):
    for name in parts.names(kind):
      options = parts.options(kind, parts.find(kind, name))
      found += [f"{section}.{option} of {name}" for option in options]
  return found


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, str]:
  """{what stands for it: a file of parameters}."""
  folder, trainer = tmp_path_factory.mktemp("weights"), make_trainer(BASE)
  found = {}
  for seed, name in enumerate((A, B)):
    seeds = jnp.full(len(config.STREAMS), seed, jnp.uint32)
    state = trainer.init(streams.derive(seeds), trainer.load())
    found[name] = str(folder / f"{seed}.safetensors")
    records.save_params(found[name], programs.named_leaves(state.params))
  return found


def changed(values: dict, files: dict[str, str]) -> config.Config:
  """BASE with some fields set."""
  given = {field: files.get(str(value), value) for field, value in values.items()}
  return changes.changed(BASE, given)


def other(field: str) -> dict:
  """The change of a field that the table names."""
  value = TABLE[field][1]
  return value if isinstance(value, dict) else {field.partition(" ")[0]: value}


def test_every_field_is_in_the_table():
  assert set(fields()) == set(TABLE)


@pytest.mark.parametrize("field", fields())
def test_every_field_is_read(field, files):
  assert field in TABLE, f"{field} is new: say in TABLE beside what it is read, and another value"
  context, _ = TABLE[field]
  before = usual(json.dumps(config.to_dict(changed(context, files))))
  assert seen(changed(context | other(field), files)) != before


@pytest.mark.parametrize("field, beside", ALSO)
def test_a_field_is_read_there_too(field, beside, files):
  context = TABLE[field][0] | beside
  before = usual(json.dumps(config.to_dict(changed(context, files))))
  assert seen(changed(context | other(field), files)) != before


@pytest.mark.parametrize("field", OVERRIDDEN)
def test_what_overrides_a_field(field, files):
  beside = OVERRIDDEN[field]
  assert seen(changed(beside | other(field), files)) == seen(changed(beside, files))


REFUSED = {  # what nobody would read beside it
  "data.last_batch": ({"training.full_batch": True}, "'keep' is about minibatches"),
  "evaluation.probabilities": ({"evaluation.trajectory": True}, "leave evaluation.probabilities"),
  "evaluation.train_augmented": (TRAIN, "measures augmented images, and none is augmented"),
  "gradient.accumulation": ({"gradient.block_size": 4}, "makes one of its 4 examples: leave it"),
  "gradient.penalty_probe": ({**PENALTY, "gradient.penalty_form": "exact"}, "finite differences"),
  "gradient.penalty_statistics": (PENALTY, "this network keeps none: leave it at True"),
  "optimizer.learning_rate": ({"optimizer.name": "scale_by_adam"}, "'scale_by_adam' takes none"),
  "probe.steps": (
    {**FRESH, "optimizer.name": "scale_by_adam"},
    "with optimizer.name='scale_by_adam'",
  ),
  "schedule.hold_steps": ({"schedule.name": "constant"}, "of schedule.name='constant' never does"),
  "schedule.per_epoch": ({"schedule.name": "constant"}, "of schedule.name='constant' never does"),
}


@pytest.mark.parametrize("field", REFUSED)
def test_what_nobody_would_read_is_refused(field, files):
  context, words = REFUSED[field]
  seen(changed(context, files))
  with pytest.raises(UserError, match=re.escape(field)) as raised:
    seen(changed({**context, **other(field)}, files))
  assert words in str(raised.value) and "\n" not in str(raised.value)


def test_a_factor_of_biases_needs_a_bias():
  rule = parts.bind("optimizer", "sgd", {"bias_factor": 0.5}, {"learning_rate": 0.1})
  rule.init({"layer": {"kernel": jnp.ones(3), "bias": jnp.ones(1)}})
  with pytest.raises(UserError, match=r"optimizer\.bias_factor .* this network has none"):
    rule.init({"layer": {"kernel": jnp.ones(3)}})
