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

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from seedlab import config as configs
from seedlab import data as datasets
from seedlab import host, models, parts, streams
from seedlab.config import Config
from seedlab.data import worlds
from seedlab.data.fields import Field
from seedlab.data.stream import Pool
from seedlab.errors import UserError
from seedlab.models import pretrained
from seedlab.trainer import Metric, Trainer
from seedlab.training import cut as cuts
from seedlab.training import evaluation as evaluations
from seedlab.training import examples as sources
from seedlab.training import images, initial, losses, objectives, schedules
from seedlab.training import optimizer as optimizers
from seedlab.training import step as stepping
from seedlab.training.networks import as_network
from seedlab.training.objectives import Network
from seedlab.training.step import Rules, State

__all__ = ["Shared", "State", "Trainer", "make_trainer", "on_dataset"]

_PEER = 1  # fold_in(init, 1) draws the second network of co-distillation


class Shared(NamedTuple):
  """What all runs share, where that is more than a data set."""

  dataset: datasets.Dataset
  teacher: Any = ()  # its parameters
  lists: evaluations.Lists | tuple[()] = ()
  further: Any = ()  # arrays that an evaluation reads beside the test set


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
  examples = datasets.read(config.data, data_dir)
  if examples.world and config.data.train_examples is None:
    raise UserError(
      f"data.train_examples=None does not do for data.name={config.data.name!r}, which has no end:"
      " say how many examples a real world reuses (in an ideal one they make an epoch)"
    )
  return on_dataset(
    config,
    examples.dataset,
    len(examples.class_names),
    examples.world,
    examples.fields,
    _lists(config, examples) if config.evaluation.lists else None,
    examples.pool,
  )


def _lists(config: Config, examples: datasets.Examples) -> evaluations.Lists:
  count = config.evaluation.lists
  if not examples.lists:
    raise UserError(
      f"evaluation.lists={count} is for users and films, which data.name={config.data.name!r} does"
      " not have; take 'movielens/100k-ratings', or set it to 0"
    )
  users, films, seen = examples.lists()
  if count > len(users):
    raise UserError(
      f"evaluation.lists={count} is more than the {len(users)} users of {config.data.name}; lower"
      " it"
    )
  return evaluations.Lists(users[:count], films, seen[:count])


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
  _check_examples(config, fields)
  dataset = _normalised_as_asked(config, dataset)
  if pool:
    dataset = dataset._replace(train_label=pool.digest)
  shape = dataset.test_image.shape[1:]
  layout = laid_out(config, dataset, classes, world, pool)
  network = _network(config, classes, shape, fields)
  teacher = ()
  if config.training.teacher:
    teacher = initial.teacher(
      config.training.teacher, lambda key: network.init(key, _blank(config, shape, fields))
    )
  rules = _rules(config, network, classes, shape, fields, layout)
  measured = _measured(config, network, rules, bool(fields))

  def load():
    held = sources.on_device(dataset)
    return Shared(held, teacher, lists or ()) if teacher or lists else held

  def evaluate(state, keys, data):
    del keys  # nothing is generated
    return evaluations.of_classifier(measured, state, shared(data))

  trainer = descent(
    config,
    rules,
    layout,
    network,
    lambda: _blank(config, shape, fields),
    load=functools.cache(load),  # hashes a large pool
    evaluate=evaluate,
    metrics=_metrics(config, bool(fields), lists is not None),
    coords={"label": ("example", dataset.test_label)},
    evaluated_on=lambda: (dataset.test_image, dataset.test_label),
  )
  if config.model.initial:
    module = functools.partial(_module, config, classes, shape, fields)
    trainer = initial.start_from(trainer, config.model, module, shape)
  return in_tf32(trainer) if config.model.precision == "tf32" else trainer


class Layout(NamedTuple):
  """What is decided about a run before anything is traced."""

  cut: cuts.Cut
  length: int  # steps of a run
  plan: tuple[int, ...]  # those after which it is evaluated
  source: sources.Source


def laid_out(
  config: Config,
  dataset: datasets.Dataset,
  classes: int,
  world: worlds.World | None = None,
  pool: Pool | None = None,
) -> Layout:
  """How runs of a config use examples; arguments as of `on_dataset`."""
  cut = cuts.cut(
    config,
    _count(config, dataset, world, pool),
    config.data.name,
    listed=config.data.world == "ideal" or pool is not None,
  )
  length = config.training.steps or config.training.epochs * cut.epoch_steps
  _check_poke(config, length)
  plan = cuts.plan(config.evaluation, length, cut.epoch_steps)
  source = sources.build(
    config, dataset, world, classes, cut.examples, cut.batch_size, length, pool=pool, plan=plan
  )
  return Layout(cut, length, plan, source)


def period(config: Config, layout: Layout) -> int | None:
  """The steps that no segment crosses."""
  ideal = config.data.world == "ideal" and not layout.cut.full_batch
  return layout.source.period or (None if ideal else layout.cut.period)


def descent(
  config: Config,
  rules: Rules,
  layout: Layout,
  network: Network,
  blank: Callable[[], Any],
  **others: Any,
) -> Trainer:
  """The Trainer that descends a loss by `rules`.

  Args:
    config, rules, layout: how.
    network: what is trained.
    blank: makes a batch of its inputs, of which only shapes are read.
    others: of `Trainer`: load (-> a Dataset or a `Shared`), evaluate, metrics, coords,
      evaluated_on.
  """

  def init(keys, data):
    return _initial(config, network, rules, blank(), keys, shared(data))

  def advance(state, keys, data, fed, first, steps):
    return stepping.advance(rules, state, keys, shared(data), fed, first, steps)

  return Trainer(
    plan=layout.plan,
    init=init,
    advance=advance,
    feed=layout.source.feed,
    period=period(config, layout),
    **others,
  )


def _count(config: Config, dataset: datasets.Dataset, world, pool: Pool | None) -> int:
  """N, the training examples of a run."""
  if pool:
    total = pool.count
  else:
    total = config.data.train_examples if world else sources.pool_size(dataset)
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
) -> Network:
  """The network of a config, whatever library it is of."""
  precision = config.model.precision
  made = _module(config, classes, shape, fields)
  blank = _blank(config, shape, fields)
  network = as_network(made, blank, f"model.name={config.model.name!r}")
  if precision != "float16":
    return network

  def init(key, inputs):
    params, state = network.init(key, inputs)
    return models.held_in(precision, params), state

  return network._replace(init=init)


def _module(config: Config, classes: int, shape: tuple[int, ...], fields: Sequence[Field]) -> Any:
  """What the part of a config's model makes of the facts of a run."""
  section = config.model
  activation = None
  if config.activation:
    activation = _function("activation", config.activation)
  if fields and "fields" not in parts.takes("model", parts.find("model", section.name)):
    raise UserError(
      f"model.name={section.name!r} is for images, and the data are rows of clicks; take 'ctr'"
    )
  facts = {
    "classes": classes,
    "shape": shape,
    "fields": tuple(fields),
    "platform": host.target(),
    "precision": section.precision,
    "dtype": jnp.dtype(_dtype(config)),
    "activation": activation,
  }
  return parts.bind("model", section.name, dict(section.options), facts)


def _blank(config: Config, shape: tuple[int, ...], fields: Sequence[Field]) -> jax.Array:
  """One example, of which a network's initialisation reads the shape alone."""
  return jnp.zeros((1, *shape), jnp.int32 if fields else _dtype(config))


def _dtype(config: Config) -> str:
  """Of the computation: that of "tf32" is float32, whatever products round to."""
  precision = config.model.precision
  return "float32" if precision == "tf32" else precision


def in_tf32(trainer: Trainer) -> Trainer:
  """The Trainer with float32 products that may round their factors to TF32 where a device can."""

  def rounding(function):
    @functools.wraps(function)
    def traced(*arguments):
      with jax.default_matmul_precision("tensorfloat32"):
        return function(*arguments)

    return traced

  functions = {name: rounding(getattr(trainer, name)) for name in ("init", "advance", "evaluate")}
  return dataclasses.replace(trainer, **functions)


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
  opt_state = rules.optimizer(keys.noise).init(params)
  return State(params, batch_stats, opt_state, held, measured, average)


def _rules(
  config: Config, network: Network, classes: int, shape, fields, layout: Layout
) -> Rules:
  training, probe = config.training, config.probe
  cut, length = layout.cut, layout.length
  share = training.distillation
  values = functools.partial(objectives.by_loss, _values(config.loss))
  if config.loss.name == "cross_entropy":
    values = functools.partial(
      objectives.by_labels, config.loss.get("smoothing", 0.0), probe.label_smoothing, share, classes
    )
  factors = (training.loss_factor, probe.loss_factor)
  loss = functools.partial(objectives.of_one, network, values, *factors)
  if training.codistillation:
    loss = functools.partial(objectives.of_two, network, values, training.codistillation, *factors)
  prepare = images.as_rows
  if not fields:
    changes = [(parts.find("augment", one.name), dict(one.options)) for one in config.augment]
    prepare = functools.partial(
      images.prepare, config.data, changes, _dtype(config), shape[0]
    )
  draws = ":" in config.model.name or config.model.get("dropout", 0.0) > 0
  return Rules(
    cut,
    config.data,
    training,
    config.gradient,
    probe,
    config.model.fresh,
    layout.source,
    optimizers.build(config.optimizer, config.schedule, length, cut.epoch_steps, probe),
    _rate(config, length, cut.epoch_steps),
    loss,
    prepare,
    drops="together" if draws else "no",
    teacher=functools.partial(objectives.teachers_view, network) if training.teacher else None,
  )


def _measured(
  config: Config, network: Network, rules: Rules, rows: bool
) -> evaluations.Measured:
  return evaluations.Measured(
    config.evaluation,
    network,
    rules.prepare,
    rules.loss,
    _values(config.loss),
    {_name(one): _function("metric", one) for one in config.evaluation.metrics},
    rules.cut.examples,
    rules.cut.block_size,
    rules.source.measured,
    rows,
    config.training.average > 0,
    config.training.codistillation > 0,
  )


def _metrics(config: Config, rows: bool, lists: bool) -> dict[str, Metric]:
  further = {
    _name(one): Metric(better=one.better, unit=one.unit) for one in config.evaluation.metrics
  }
  return evaluations.metrics(config.evaluation, further, rows, lists)


def _values(loss: configs.Part) -> Callable[[Any, Any], Any]:
  """(outputs, labels) -> the losses that are measured: without smoothing, which is for training."""
  if loss.name == "cross_entropy":
    return losses.cross_entropy
  return _function("loss", loss)


def _function(kind: str, part: configs.Part) -> Callable[..., Any]:
  return parts.bind(kind, part.name, dict(part.options))


def _name(part: configs.Part) -> str:
  """What an outcome is called: the function, without its module."""
  return f"test_{part.name.rpartition(':')[2].rpartition('.')[2]}"


def _rate(config: Config, length: int, epoch_steps: int) -> Any:
  """The learning rate by step, where the optimizer takes one."""
  if config.schedule is None:
    return None
  return schedules.of_section(config.schedule, config.optimizer.learning_rate, length, epoch_steps)


def _normalised_as_asked(config: Config, dataset: datasets.Dataset) -> datasets.Dataset:
  if config.data.normalisation == "channels":
    return dataset
  mean, std = images.fixed_moments(config.data, dataset.test_image.shape[-1])
  return dataset._replace(mean=mean, std=std)


def shared(data: datasets.Dataset | Shared) -> Shared:
  """What `Trainer.load` returned, whichever of the two it is."""
  return data if isinstance(data, Shared) else Shared(data)


def _check_examples(config: Config, fields: Sequence[Field]) -> None:
  """What rows cannot be asked for."""
  if not fields:
    return
  for field, set_ in (
    ("augment", bool(config.augment)),
    ("data.normalisation", config.data.normalisation != "channels"),
  ):
    if set_:
      raise UserError(
        f"{field} is for images, and data.name={config.data.name!r} has rows; leave it out"
      )
