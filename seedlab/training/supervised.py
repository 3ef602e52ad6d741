"""A network, an optimiser, a loss and data that somebody brings, as a Trainer.

Everything is traced once, with one line for each mistake, before it is joined to the same steps as
those of a config (`training.descent`).
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from seedlab import config as configs
from seedlab import parts, streams, training
from seedlab.config import Config
from seedlab.data import Dataset, World, augmentation
from seedlab.errors import UserError
from seedlab.trainer import Metric, Trainer, check_same_tree
from seedlab.training import checks, images, initial, losses, objectives, optimizer, schedules
from seedlab.training import evaluation as evaluations
from seedlab.training.networks import as_network
from seedlab.training.objectives import Inputs, Network
from seedlab.training.step import Rules

_FORMS = {2: "(outputs, targets)", 3: "(apply, example, key)"}
_NATS = Metric(better="lower", unit="nats")


class Given(NamedTuple):
  """What `recipe.supervised` was called with, checked as far as no network is needed."""

  network: Any
  optimizer: Any  # a name and options, a transformation, or steps -> transformation
  dataset: Dataset
  loss: Any  # a name and options, or a function
  metrics: Mapping[str, Any] | None  # by name a function and its meaning, or a Metric alone
  augment: Any
  learning_rate: Any  # a number, or a schedule
  config: Config  # of the sections that recipes share with configs
  world: Callable[..., Any] | None  # (key, index) -> (x, y), in the place of training examples
  evaluate: Callable[..., Any] | None  # (apply, data, key) -> {name: array}: those with a Metric
  evaluate_data: Any  # what it reads; None: the test set


class Measure(NamedTuple):
  """A loss or a metric: its function, and whether that calls the network itself."""

  function: Callable[..., Any]
  calls: bool
  meaning: Metric = Metric()


def make(given: Given) -> Trainer:
  """The Trainer; raises UserError for what cannot be trained."""
  config, dataset = given.config, given.dataset
  if config.model.precision not in ("float32", "tf32"):
    raise UserError(
      f"model.precision={config.model.precision!r} is for networks of seedlab's own; make yours"
      " compute in that type, e.g. nn.Dense(..., dtype=jnp.bfloat16), and leave it out here"
    )
  world = _world(given.world, dataset) if given.world else None
  classes = classes_of(config, dataset.test_label if world else dataset.train_label)
  layout = training.laid_out(config, dataset, classes, world)
  loss = _measure("loss", given.loss)
  blank = functools.partial(_blank, loss, dataset)
  network = as_network(given.network, jax.eval_shape(blank))
  rule, rate = _rule(given, layout.length, layout.cut.epoch_steps)
  measures = _metrics(given, loss)
  classifier = is_cross_entropy(given.loss)
  meanings = _meanings(given, measures)
  drops = _checked(network, blank, loss, measures, dataset, rule, classifier)
  if loss.calls:
    descended = functools.partial(
      objectives.of_each, network, loss.function, config.training.loss_factor
    )
  else:
    values = functools.partial(objectives.by_loss, loss.function)
    factor = config.training.loss_factor
    descended = functools.partial(objectives.of_one, network, values, factor, factor)
  rules = Rules(
    layout.cut,
    config.data,
    config.training,
    config.gradient,
    config.probe,
    (),
    layout.source,
    rule,
    rate,
    descended,
    _augmented(given),
    drops,
  )

  def load():
    held = training.sources.on_device(dataset)
    further = given.evaluate_data
    return held if further is None else training.Shared(held, further=further)

  def evaluate(state, keys, data):
    shared = training.shared(data)
    outcome = _evaluated(config, network, measures, state, keys, shared.dataset)
    if given.evaluate:
      test = (shared.dataset.test_image, shared.dataset.test_label)
      read = test if given.evaluate_data is None else shared.further
      variables = evaluations.evaluated(state, config.training.average > 0)
      with checks.answered("evaluate"):
        found = given.evaluate(_applied(network, variables), read, keys.generate)
      _check_names(found, set(meanings) - set(measures))
      outcome |= found
    return outcome

  coords = {}
  if isinstance(dataset.test_label, np.ndarray) and dataset.test_label.ndim == 1:
    coords = {"label": ("example", dataset.test_label)}
  trainer = training.descent(
    config,
    rules,
    layout,
    network,
    blank,
    load=functools.cache(load),
    evaluate=evaluate,
    metrics=meanings,
    coords=coords,
    evaluated_on=lambda: _frozen(given),
  )
  if config.model.initial:
    trainer = initial.start_from(trainer, config.model)
  return training.in_tf32(trainer) if config.model.precision == "tf32" else trainer


def _meanings(given: Given, measures: Mapping[str, Measure]) -> dict[str, Metric]:
  """Of all outcomes, in the order of `metrics`, whose first one is the headline."""
  asked = given.metrics or {}
  return {
    name: one if isinstance(one := asked.get(name), Metric) else measures[name].meaning
    for name in dict.fromkeys([*asked, *measures])
  }


def _frozen(given: Given) -> Any:
  """The examples, and what else of arrays, on which runs are evaluated."""
  test = (given.dataset.test_image, given.dataset.test_label)
  return test if given.evaluate_data is None else (*test, given.evaluate_data)


def _applied(network: Network, variables: Mapping[str, Any]) -> Callable[..., Any]:
  """The network on a batch, as it is evaluated."""

  def apply(*inputs):
    batch = Inputs(inputs) if len(inputs) != 1 else inputs[0]
    params, kept = variables["params"], variables["batch_stats"]
    return network.apply(params, kept, batch, False, None, None)[0]

  return apply


def _check_names(found: Any, outcomes: set[str]) -> None:
  if not isinstance(found, dict) or set(found) != outcomes:
    names = ", ".join(map(str, found)) if isinstance(found, dict) else f"a {type(found).__name__}"
    raise UserError(
      f"evaluate returned {names or 'no outcome'}, and `metrics` has a seedlab.Metric for"
      f" {', '.join(sorted(outcomes))}: return a dict of these"
    )


def _world(draw: Callable[..., Any], dataset: Dataset) -> World:
  """The world of a function of one example, which must be like those that are tested on."""
  like, _ = checks.traced(
    "train", draw, checks.key_like(), jax.ShapeDtypeStruct((), jnp.int32)
  )
  tested = (dataset.test_image, dataset.test_label)
  wanted = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), tested)
  check_same_tree(wanted, like, "the function `train` (beside `test`)")

  def sample(key, index):
    return jax.vmap(draw, in_axes=(None, 0))(key, index)

  return World(sample, (), (), None)


def _evaluated(
  config: Config, network: Network, measures: Mapping[str, Measure], state, keys, data
) -> dict[str, jax.Array]:
  """All outcomes of one evaluation: means over the test examples, and predicted labels."""
  variables = evaluations.evaluated(state, config.training.average > 0)
  params, kept = variables["params"], variables["batch_stats"]
  drawn = streams.at_step(keys.generate, 0)

  def of_block(block, index):
    image, label = block
    if not all(one.calls for one in measures.values()):
      outputs, _ = network.apply(params, kept, image, False, None, None)
    found, each = {}, {}
    for name, one in measures.items():
      if one.calls:
        own = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(drawn, index)
        found[name] = objectives.each(network, one.function, params, kept, block, own, False)
      elif one.meaning.dims == ("example",):
        each[name] = one.function(outputs)
      else:
        block_ = objectives.Block(image, label, None)
        found[name] = objectives.by_loss(one.function, outputs, block_, name)
    return found, each

  examples = (data.test_image, data.test_label)
  return evaluations.of_examples(of_block, examples, config.evaluation.batch_size)


def classes_of(config: Config, label: Any) -> int:
  """How many classes there are, where label noise takes another one."""
  if not config.data.label_noise:
    return 0
  if not (isinstance(label, np.ndarray) and label.ndim == 1 and label.dtype == np.int32):
    raise UserError(
      f"data.label_noise={config.data.label_noise!r} replaces labels by other classes, and the"
      " targets of `train` are no whole numbers, one for each example; leave it at 0"
    )
  return int(label.max()) + 1


def _blank(loss: Measure, dataset: Dataset) -> Any:
  """A batch of one, as the network reads it."""
  example = jax.tree.map(
    lambda leaf: jnp.zeros(leaf.shape[1:], leaf.dtype), (dataset.train_image, dataset.train_label)
  )
  if not loss.calls:
    return jax.tree.map(lambda leaf: leaf[None], example[0])
  called = _First()
  with checks.answered("loss"):
    try:
      jax.eval_shape(lambda key: loss.function(called, example, key), checks.key_like())
    except _Stop:
      pass
  if called.inputs is None:
    raise UserError("the loss (apply, example, key) never calls apply, which is the network")
  inputs = jax.tree.map(lambda leaf: jnp.zeros((1, *leaf.shape), leaf.dtype), called.inputs)
  return Inputs(inputs) if len(inputs) != 1 else inputs[0]


class _Stop(Exception):
  pass


class _First:
  """Stands for the network until it is called: with what, is what initialises it."""

  inputs = None

  def __call__(self, *inputs):
    self.inputs = jax.tree.map(
      lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)), inputs
    )
    raise _Stop


def _measure(what: str, given: Any, meaning: Metric = _NATS, kind: str = "loss") -> Measure:
  """From a name, a section with options, or a function."""
  if isinstance(given, str | Mapping):
    part = configs.part_of(configs.Part, kind, given, what)
    return Measure(parts.bind(kind, part.name, dict(part.options)), False, meaning)
  return Measure(given, checks.positional(what, given, _FORMS) == 3, meaning)


def is_cross_entropy(loss: Any) -> bool:
  name = loss.get("name") if isinstance(loss, Mapping) else loss
  return isinstance(name, str) and name == "cross_entropy"


def _metrics(given: Given, loss: Measure) -> dict[str, Measure]:
  """What is measured, the headline first."""
  classifier = is_cross_entropy(given.loss)
  tested = loss._replace(function=losses.cross_entropy) if classifier else loss
  if not classifier:
    tested = tested._replace(meaning=Metric(better="lower"))
  if given.metrics is None:
    if not classifier:
      return {"test_loss": tested}
    accuracy = _measure("metrics", "accuracy", Metric(better="higher"), "metric")
    predicted = Measure(_predicted, False, Metric(("example",)))
    return {"test_accuracy": accuracy, "test_loss": tested, "predicted_label": predicted}
  found = {}
  for name, given_ in given.metrics.items():
    if isinstance(given_, Metric):
      continue
    function, better, unit = given_
    found[name] = _measure(
      f"metrics[{name!r}]", function, Metric(("evaluation",), better, unit), "metric"
    )
  return found | {"test_loss": tested}


def _predicted(logits: jax.Array) -> jax.Array:
  return logits.argmax(-1).astype(jnp.uint8 if logits.shape[-1] <= 256 else jnp.uint16)


def _augmented(given: Given) -> Callable[..., Any]:
  """What makes of stored examples what the network reads."""
  if not given.augment:
    return images.as_rows
  if callable(given.augment):
    change = jax.vmap(given.augment)
  else:
    sections = [configs.part_of(configs.Part, "augment", one, "augment") for one in given.augment]
    steps = [(parts.find("augment", one.name), dict(one.options)) for one in sections]

    def change(keys, image):
      return augmentation.augment(keys, image, steps, jnp.zeros(image.shape[-1]))

  def prepare(image, index, key, epoch, data):
    del data
    return change(streams.for_examples(key, epoch, index), image)

  return prepare


def _rule(given: Given, length: int, epoch_steps: int) -> tuple[Callable[..., Any], Any]:
  """((key of the `noise` stream) -> the update rule, the learning rate by step or None)."""
  made, config = given.optimizer, given.config
  if isinstance(made, str | Mapping):
    rate = None
    if config.schedule:
      peak = config.optimizer.learning_rate
      rate = schedules.of_section(config.schedule, peak, length, epoch_steps)
    return optimizer.build(config.optimizer, config.schedule, length, epoch_steps), rate
  if not hasattr(made, "update"):
    if getattr(made, "__module__", "").partition(".")[0] == "optax":
      raise UserError(
        f"optimizer is the function optax.{made.__name__}: call it, optax.{made.__name__}(1e-3), or"
        f" name it, {made.__name__!r} with learning_rate=1e-3"
      )
    if not callable(made):
      raise UserError(
        "optimizer must be an optax transformation, a function steps -> transformation, or a name"
        f" such as 'adamw', not a {type(made).__name__}"
      )
    with checks.answered("optimizer"):
      made = made(length)
  rule = optimizer.as_rule(made, "optimizer")
  rate = given.learning_rate
  if rate is not None and not callable(rate):
    rate = functools.partial(_constant, rate)
  return lambda key: rule, rate


def _constant(rate: float, step: jax.Array) -> float:
  del step
  return rate


def _check_labels(outputs: Any, dataset: Dataset) -> None:
  """Labels that are no classes of the outputs: cross-entropy would be quietly wrong."""
  for name, labels in (("train", dataset.train_label), ("test", dataset.test_label)):
    whole = isinstance(labels, np.ndarray) and labels.dtype.kind in "iu" and labels.ndim == 1
    if not whole or outputs.ndim != 2:
      raise UserError(
        "loss='cross_entropy' takes logits [B, K] and whole numbers [B] as targets, and the network"
        f" returns {_batch(outputs)} for those of {name}; write a loss of (outputs, targets)"
      )
    if not labels.size:  # of a world
      continue
    if labels.min() < 0 or labels.max() >= outputs.shape[-1]:
      raise UserError(
        f"the targets of {name} lie between {labels.min()} and {labels.max()}, and the network has"
        f" {outputs.shape[-1]} outputs, for the classes 0 to {outputs.shape[-1] - 1}"
      )


def _checked(
  network: Network, blank, loss: Measure, measures, dataset: Dataset, rule, classifier: bool
) -> str:
  """Traces everything on two examples; returns which keys the network or the loss asks for."""
  key = checks.key_like()
  params, state = checks.traced("network", network.init, key, jax.eval_shape(blank))[0]
  pair, target = (
    jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((2, *leaf.shape[1:]), leaf.dtype), tree)
    for tree in (dataset.train_image, dataset.train_label)
  )
  updates = jax.eval_shape(lambda: jax.tree.map(lambda p: jnp.zeros(p.shape, p.dtype), params))
  checks.traced(
    "optimizer", lambda key, p, g: rule(key).update(g, rule(key).init(p), p, value=jnp.float32(0)),
    key, params, updates,
  )  # fmt: skip
  functions = {"loss": loss, **measures}
  for what, one in functions.items():
    if one.calls:
      _check_caller(network, what, one, params, state, (pair, target))
  if all(one.calls for one in functions.values()):
    return "each"
  (outputs, changed), closed = checks.traced(
    "network", lambda p, s, x, key: network.apply(p, s, x, True, None, key),
    params, state, pair, key,
  )  # fmt: skip
  check_same_tree(state, changed, "the network")
  if classifier:
    _check_labels(outputs, dataset)
  for what, one in functions.items():
    if not one.calls and one.meaning.dims != ("example",):
      refuse_broadcast(what, outputs, target)
      checks.traced(
        what,
        lambda o, t, x, one=one, what=what: objectives.by_loss(
          one.function, o, objectives.Block(x, t, None), what
        ),
        outputs, target, pair,
      )  # fmt: skip
  if loss.calls:
    return "each"
  return "together" if _reads_last(closed.jaxpr) else "no"


def _check_caller(network: Network, what: str, one: Measure, params, state, examples) -> None:
  """A loss or a metric that calls the network with one example at a time."""
  trained = what == "loss"
  if trained and jax.tree.leaves(state):
    raise UserError(
      "loss calls the network with one example at a time, which has no batch statistics: take a"
      " network without batch norm"
    )
  keys = jax.ShapeDtypeStruct((2,), checks.key_like().dtype)
  checks.traced(
    what,
    lambda p, s, examples, keys: objectives.each(
      network, one.function, p, s, examples, keys, trained
    ),
    params, state, examples, keys,
  )  # fmt: skip


def _reads_last(jaxpr: core.Jaxpr) -> bool:
  """Whether any operation reads the last argument."""
  last = jaxpr.invars[-1]
  return any(last is variable for equation in jaxpr.eqns for variable in equation.invars)


def refuse_broadcast(what: str, outputs: Any, targets: Any) -> None:
  """[B, 1] beside [B] is the difference of every output to every target, and no error of JAX's."""
  if not (hasattr(outputs, "shape") and hasattr(targets, "shape")):
    return
  if not jnp.issubdtype(targets.dtype, jnp.floating) or outputs.shape == targets.shape:
    return
  short, long = sorted((outputs.shape, targets.shape), key=len)
  if long == (*short, 1):
    words = {outputs.shape: "outputs", targets.shape: "targets"}
    raise UserError(
      f"{what}: the network's outputs have the shape {_batch(outputs)} and the targets"
      f" {_batch(targets)}, whose difference would be [B, B]: give both one shape, e.g. by [:, 0]"
      f" of the {words[long]}"
    )


def _batch(array: Any) -> str:
  return f"[{', '.join(['B', *map(str, array.shape[1:])])}]"
