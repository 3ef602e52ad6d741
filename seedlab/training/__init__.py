"""seedlab's own Trainer: minibatch or full-batch training of a classifier, from a Config.

for each epoch
  order = permutation(fold_in(order key, epoch))
  for each step (with `training.full_batch` the only one of its epoch)
    for each block of the step's examples: gather, normalise, augment by (epoch, index), gradient
    the blocks' mean gradient, SGD
at each evaluation: accuracy, loss and soft-error over the whole test set (training/evaluation.py)

In an ideal world (`data.world`) no example comes twice, and a step's are those that are next on
the run's list (training/examples.py). A minibatch is one block unless `gradient.block_size` cuts
it (training/gradients.py). Examples are images, or rows of whole numbers (data/fields.py), which
no step changes. This module only joins plain functions, each in its own:

  cut          sizes of updates and blocks, moments of evaluation
  examples     which examples a step trains on
  images       normalisation and augmentation
  objectives   the loss of a block
  gradients    the gradient of an update
  step         one step, the steps of a segment
  evaluation   what is measured
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seedlab import config as configs
from seedlab import data as datasets
from seedlab import models, streams
from seedlab.config import Config
from seedlab.data import worlds
from seedlab.data.fields import Field
from seedlab.data.stream import Pool
from seedlab.errors import UserError
from seedlab.models import pretrained
from seedlab.trainer import EVALUATION, Trainer
from seedlab.training import cut as cuts
from seedlab.training import evaluation as evaluations
from seedlab.training import examples as sources
from seedlab.training import images, initial, objectives
from seedlab.training import optimizer as optimizers
from seedlab.training import step as steps
from seedlab.training.objectives import Network
from seedlab.training.step import Rules, State

__all__ = ["EVALUATION", "Shared", "State", "Trainer", "make_trainer", "on_dataset"]

_LARGEST_TEST_SET = 2 * 2**30  # bytes of it
_BULK = 1000  # of them drawn at a time
_TEST_EXAMPLES = 10_000  # of a world, unless data.test_examples says otherwise
_PEER = 1  # fold_in(init, 1) draws the second network of co-distillation


class Shared(NamedTuple):
  """What all runs share, where that is more than a data set."""

  dataset: datasets.Dataset
  teacher: Any = ()  # its parameters
  lists: evaluations.Lists | tuple[()] = ()


def make_trainer(config: Config | Mapping[str, Any], data_dir: str | None = None) -> Trainer:
  """The Trainer of a Config; raises UserError for what its model or data cannot do.

  Args:
    config: a Config, or what `config.parse` takes.
    data_dir: the tensorflow-datasets directory; None asks SEEDLAB_DATA.
  """
  config = configs.parse(config)
  for field, file in (
    ("model.initial", config.model.initial),
    ("training.teacher", config.training.teacher),
  ):
    if file:  # before data are looked for, perhaps far away
      pretrained.find(field, file)
  if config.data.name in configs.WORLDS:
    return _on_world(config)
  if config.data.world_kwargs:
    raise UserError(
      f"data.world_kwargs={dict(config.data.world_kwargs)!r} is for the worlds"
      f" {', '.join(configs.WORLDS)}, not for data.name={config.data.name!r}; set it to"
      " {} with the name"
    )
  dataset = datasets.load(config.data, data_dir)
  fields = datasets.fields_of(config.data)
  lists = None
  if config.evaluation.lists:
    lists = _lists(config, data_dir)
  classes = len(datasets.class_names(config.data, data_dir))
  pool = datasets.streamed(config.data, data_dir) if config.data.stream else None
  return on_dataset(config, dataset, classes, fields=fields, lists=lists, pool=pool)


def _lists(config: Config, data_dir: str | None) -> evaluations.Lists:
  users, films, seen = datasets.lists(config.data, data_dir)
  count = config.evaluation.lists
  if count > len(users):
    raise UserError(
      f"evaluation.lists={count} is more than the {len(users)} users of {config.data.name}; lower"
      " it"
    )
  return evaluations.Lists(users[:count], films, seen[:count])


def _on_world(config: Config) -> Trainer:
  world = worlds.by_name(config.data.name, config.data.image_size, dict(config.data.world_kwargs))
  if config.data.train_examples is None:
    raise UserError(
      f"data.train_examples=None does not do for data.name={config.data.name!r}, which has no end:"
      " say how many examples a real world reuses (in an ideal one they make an epoch)"
    )
  for field, usual in (("extra", None), ("train_split", "train"), ("stream", False)):
    if getattr(config.data, field) != usual:
      raise UserError(
        f"data.{field}={getattr(config.data, field)!r} is for sets of tensorflow-datasets, not for"
        f" data.name={config.data.name!r}; leave it at {usual!r}"
      )
  test_image, test_label = _drawn(world, config.data.test_examples or _TEST_EXAMPLES)
  no_label = np.zeros(0, np.int32)
  if world.fields:
    moments = (np.zeros(0, np.float32),) * 2
  else:
    datasets.keep_test_set(config.data, test_image, test_label)
    # All pictures of a world are alike, so those it is tested on tell the moments of a pixel.
    moments = datasets.moments(test_image)
  dataset = datasets.Dataset(test_image[:0], no_label, test_image, test_label, *moments)
  return on_dataset(config, dataset, len(world.class_names), world, world.fields)


def _drawn(world: worlds.World, examples: int) -> tuple[np.ndarray, np.ndarray]:
  """Test pictures and labels, the same for every run, from a key that no run has."""
  size = examples * math.prod(world.image_shape)
  if size > _LARGEST_TEST_SET:
    raise UserError(
      f"data.test_examples={examples:,} are {size / 2**30:.0f} GiB of pictures; set it lower"
      f" ({_TEST_EXAMPLES:,} by default)"
    )
  key = jax.random.fold_in(jax.random.key(0, impl=streams.IMPLEMENTATION), streams.TEST)
  sample = jax.jit(world.sample)  # not a training: it only fills host arrays, once
  stride = max(1, (world.period or 0) // examples)  # all times of a world that changes
  parts = [
    jax.device_get(sample(key, stride * jnp.arange(start, start + _BULK, dtype=jnp.int32)))
    for start in range(0, examples, _BULK)
  ]
  image, label = (np.concatenate(arrays)[:examples] for arrays in zip(*parts, strict=True))
  return image, label


def on_dataset(
  config: Config,
  dataset: datasets.Dataset,
  classes: int,
  world: worlds.World | None = None,
  fields: Sequence[Field] = (),
  lists: evaluations.Lists | None = None,
  pool: Pool | None = None,
) -> Trainer:
  """The Trainer of a Config on examples already in memory, e.g. your own.

  Args:
    config: what is trained, and how.
    dataset: images uint8[N, H, W, C], or rows int32[N, F] with `fields`.
    classes: K.
    world: where training examples come from; `dataset` then only says what they are tested on.
    fields: what the columns of rows mean.
    lists: users and films of `evaluation.lists`.
    pool: streamed training examples; `dataset` then only says what they are tested on.
  """
  _check_examples(config, fields, lists)
  dataset = _normalised_as_asked(config, dataset)
  if pool:
    dataset = dataset._replace(train_label=pool.digest)
  shape = dataset.test_image.shape[1:]
  cut = cuts.cut(
    config,
    _count(config, dataset, world, pool),
    config.data.name,
    listed=config.data.world == "ideal" or pool is not None,
  )
  length = config.training.steps or config.training.epochs * cut.epoch_steps
  _check_poke(config, length)
  apply, network = _network(config, classes, shape, fields)
  plan = cuts.plan(config.evaluation, length, cut.epoch_steps)
  source = sources.build(
    config, dataset, world, classes, cut.examples, cut.batch_size, length, pool=pool, plan=plan
  )
  teacher = ()
  if config.training.teacher:
    teacher = initial.teacher(
      config.training.teacher, lambda key: network.init(key, _blank(config, shape, fields))
    )
  rules = _rules(config, network, classes, shape, fields, cut, source, length)
  measured = evaluations.Measured(
    config.evaluation,
    apply,
    rules.prepare,
    rules.loss,
    cut.examples,
    cut.block_size,
    source.measured,
    bool(fields),
    config.training.average > 0,
    config.training.codistillation > 0,
  )

  def load():
    held = sources.on_device(dataset)
    return Shared(held, teacher, lists or ()) if teacher or lists else held

  def init(keys, data):
    blank = _blank(config, shape, fields)
    return _initial(config, network, rules, blank, keys, _shared(data))

  def advance(state, keys, data, fed, first, steps_):
    return steps.advance(rules, state, keys, _shared(data), fed, first, steps_)

  def evaluate(state, data):
    return evaluations.of_classifier(measured, state, _shared(data))

  period = None if config.data.world == "ideal" and not cut.full_batch else cut.period
  trainer = Trainer(
    plan=plan,
    load=functools.cache(load),  # hashes a large pool
    init=init,
    advance=advance,
    evaluate=evaluate,
    dims=_dims(config, fields, lists),
    feed=source.feed,
    period=source.period or period,
    coords={"label": ("example", dataset.test_label)},
    evaluated_on=lambda: (dataset.test_image, dataset.test_label),
  )
  if config.model.initial:
    trainer = initial.start_from(trainer, config.model, classes, shape)
  return trainer


def _count(config: Config, dataset: datasets.Dataset, world, pool: Pool | None) -> int:
  """N, the training examples of a run."""
  total = config.data.train_examples if world else dataset.train_label.shape[0]
  if pool:
    total = pool.count
  examples = config.data.train_examples or total
  if examples > total:
    raise UserError(
      f"data.train_examples={examples} is more than the {total} of {config.data.name}; lower it, or"
      " leave it empty to take all"
    )
  return examples


def _check_poke(config: Config, length: int) -> None:
  if config.training.poke_step is not None and config.training.poke_step >= length:
    raise UserError(
      f"training.poke_step={config.training.poke_step} must be below the {length} steps of a run"
    )


def _network(
  config: Config, classes: int, shape: tuple[int, ...], fields: Sequence[Field]
) -> tuple[Callable[..., jax.Array], Network]:
  """(({"params", "batch_stats"}, inputs) -> logits in evaluation, the network of a config)."""
  precision = config.model.precision
  module = models.build(config.model, classes, shape, jax.default_backend(), fields)

  def init(key, blank):
    variables = module.init(key, blank, train=False)
    return models.held_in(precision, variables["params"]), variables.get("batch_stats", {})

  def apply(params, batch_stats, inputs, train, mask, key):
    if not train:
      return module.apply(
        {"params": params, "batch_stats": batch_stats}, inputs, train=False
      ), batch_stats
    logits, changed = module.apply(
      {"params": params, "batch_stats": batch_stats},
      inputs,
      train=True,
      mask=mask,
      mutable=["batch_stats"],
      rngs=None if key is None else {"dropout": key},
    )
    return logits, changed.get("batch_stats", {})

  return functools.partial(module.apply, train=False), Network(init, apply)


def _blank(config: Config, shape: tuple[int, ...], fields: Sequence[Field]) -> jax.Array:
  """One example, of which a network's initialisation reads the shape alone."""
  return jnp.zeros((1, *shape), jnp.int32 if fields else config.model.precision)


def _initial(config: Config, network: Network, rules: Rules, blank, keys, shared: Shared) -> State:
  """The state before the first step."""
  params, batch_stats = network.init(keys.init, blank)
  if config.training.codistillation:
    peer = network.init(streams.at_step(keys.init, _PEER), blank)
    params, batch_stats = (
      {"run": ours, "peer": its} for ours, its in zip((params, batch_stats), peer, strict=True)
    )
  measured = jnp.zeros(0, jnp.uint32)
  if config.evaluation.train_augmented:
    measured = jax.random.key_data(keys.augment)
  held = rules.source.init(keys, shared.dataset)
  average = params if config.training.average else ()
  return State(params, batch_stats, rules.optimizer.init(params), held, measured, average)


def _rules(
  config: Config, network: Network, classes: int, shape, fields, cut, source, length: int
) -> Rules:
  training, probe = config.training, config.probe
  share = training.distillation
  values = functools.partial(
    objectives.by_labels, training.label_smoothing, probe.label_smoothing, share, classes
  )
  factors = (training.loss_factor, probe.loss_factor)
  loss = functools.partial(objectives.of_one, network, values, *factors)
  if training.codistillation:
    loss = functools.partial(objectives.of_two, network, values, training.codistillation, *factors)
  prepare = images.as_rows
  if not fields:
    prepare = functools.partial(images.prepare, config.data, config.model.precision, shape[0])
  return Rules(
    cut,
    config.data,
    training,
    config.gradient,
    probe,
    config.model.fresh,
    source,
    optimizers.build(config.optimizer, length, cut.epoch_steps, probe),
    optimizers.schedule(config.optimizer, length, cut.epoch_steps),
    loss,
    prepare,
    drops=config.model.dropout > 0,
    teacher=functools.partial(objectives.teachers_view, network) if training.teacher else None,
  )


def _dims(config: Config, fields: Sequence[Field], lists) -> dict[str, tuple[str, ...]]:
  """Outcome -> the dimensions it is stored under."""
  evaluation = config.evaluation
  dims = {
    "test_accuracy": (EVALUATION,),
    "test_loss": (EVALUATION,),
    "test_soft_error": (EVALUATION,),
    "predicted_label": ("example",),
  }
  if evaluation.train:
    dims |= {f"train_{name}": (EVALUATION,) for name in ("accuracy", "loss", "soft_error")}
  if evaluation.gradient_norm:
    dims["block_gradient_norm"] = (EVALUATION,)
  if fields:
    dims = {"test_loss": (EVALUATION,), "test_auc": (EVALUATION,)} | dims
  if evaluations.keeps_probabilities(evaluation):
    at = (EVALUATION,) if evaluation.trajectory else ()
    dims["probability"] = (*at, "example") if fields else (*at, "example", "class")
  if lists:
    dims["best_films"] = ("user", "place")
  if evaluation.slices:
    dims |= {f"slice_{name}": ("point",) for name in ("loss", "slope", "jump")}
  return dims


def _normalised_as_asked(config: Config, dataset: datasets.Dataset) -> datasets.Dataset:
  if config.data.normalisation == "channels":
    return dataset
  mean, std = images.fixed_moments(config.data, dataset.test_image.shape[-1])
  return dataset._replace(mean=mean, std=std)


def _shared(data: datasets.Dataset | Shared) -> Shared:
  return data if isinstance(data, Shared) else Shared(data)


def _check_examples(config: Config, fields: Sequence[Field], lists) -> None:
  """What pictures or rows cannot be asked for."""
  if config.evaluation.lists and not lists:
    raise UserError(
      f"evaluation.lists={config.evaluation.lists} is for users and films, not for"
      f" data.name={config.data.name!r}; set it to 0"
    )
  if not fields:
    return
  usual = configs.Data()
  for field in ("flip", "crop", "cutout", "copies", "chunk", "normalisation", "image_size"):
    value = getattr(config.data, field)
    if value != getattr(usual, field):
      raise UserError(
        f"data.{field}={value!r} is for pictures, not for data.name={config.data.name!r}; leave it"
        f" at {getattr(usual, field)!r}"
      )
  if config.evaluation.train_augmented:
    raise UserError(
      f"evaluation.train_augmented=True is for pictures, not for data.name={config.data.name!r};"
      " switch it off"
    )
