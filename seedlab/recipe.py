"""Recipes: what people have already (network, optimiser, loss, data, a train step) as a Trainer.

  supervised        network, optimiser, loss and data; the loop is ours, and so are full batches,
                    blocks, penalties, clipping, noise, averages
  from_train_step   init, train_step, evaluate; ours are the data's order, worlds, subsets, label
                    noise and pokes
  function          a function that trains from its keys and returns {metric: value}

A recipe is a function that builds the Trainer, in a worker and not before, and a description for
the record. The description, the digest of the program and that of the data say which recipe a
sweep was of; its code is never stored.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from seedlab import config as configs
from seedlab.data.examples import Dataset
from seedlab.errors import UserError, closest
from seedlab.trainer import Metric, Trainer

# An option of a recipe and the field of a config that it is: {option: (section, field)}.
_OPTIONS = {
  **{
    name: ("training", name)
    for name in (
      "batch_size", "epochs", "steps", "full_batch", "average", "loss_factor", "poke_step", "poke",
    )
  },
  **{field.name: ("gradient", field.name) for field in dataclasses.fields(configs.Gradient)},
  **{name: ("model", name) for name in ("initial", "fresh", "precision")},
  **{
    name: ("data", name)
    for name in (
      "world", "train_examples", "order", "window", "last_batch", "copies", "label_noise",
    )
  },
  "evaluate_every_epochs": ("evaluation", "every_epochs"),
  "evaluate_every_steps": ("evaluation", "every_steps"),
  "evaluate_epochs": ("evaluation", "epochs"),
  "evaluate_log_dense": ("evaluation", "log_dense"),
  "evaluation_batch_size": ("evaluation", "batch_size"),
}  # fmt: skip
_FIELDS = {f"{section}.{field}": option for option, (section, field) in _OPTIONS.items()}
# A train step of one's own forms its gradient itself.
_STEP_OPTIONS = [
  name
  for name, (section, field) in _OPTIONS.items()
  if section not in ("gradient", "model")
  and field not in ("full_batch", "average", "loss_factor", "copies")
  and name not in ("last_batch", "evaluation_batch_size")
]  # fmt: skip


# For who hands over something else.
WHICH = (
  "wrap a network in seedlab.supervised, a train step in seedlab.from_train_step, a function that"
  " trains from its key in seedlab.function"
)


@dataclasses.dataclass(frozen=True, eq=False)
class Recipe:
  """What `seedlab.sweep` takes in the place of a config.

  Attributes:
    make: () -> Trainer; called in a worker.
    description: JSON for the record: kind, names, options.
  """

  make: Callable[[], Trainer] = dataclasses.field(repr=False)
  description: Mapping[str, Any]

  def __call__(self) -> Trainer:
    try:
      return self.make()
    except UserError as error:
      raise UserError(_in_options(str(error))) from None


def supervised(
  network: Any,
  optimizer: Any,
  train: Any,
  test: Any,
  loss: Any = "cross_entropy",
  *,
  metrics: Mapping[str, Any] | Sequence[str] | None = None,
  evaluate: Callable[..., Any] | None = None,
  evaluate_data: Any = None,
  learning_rate: Any = None,
  schedule: str | Mapping[str, Any] | None = None,
  augment: Any = (),
  batch_size: int = 64,
  epochs: int = 20,
  **options: Any,
) -> Recipe:
  """A recipe for a network that descends a loss over examples.

  Args:
    network: a linen module; an (init, apply) pair; a function rngs -> NNX module, or key -> Equinox
      module. What it is told beside its inputs goes by the names in its call: train, training,
      deterministic, inference, key, rngs, mask.
    optimizer: an optax transformation; a function steps -> transformation, of the steps of a run;
      or a name ("adamw") or {"name": ..., option: value} with `learning_rate` and `schedule`.
    train, test: (x, y), trees of arrays with a leading axis of examples; y may be None. `train` may
      be a function (key, index) -> (x, y) of one example, traced, of the `sample` stream's key and
      a whole number: a world without end, of which world="real" reuses `train_examples` and
      world="ideal" uses each once.
    loss: "cross_entropy", "squared_error"; a function (outputs, targets) of a batch -> one number
      for each example, [B], or ([B], weights [B]) of ragged examples; or a function (apply,
      example, key) of one example (x, y) -> a number, or (number, weight), with a key of its own
      at every step. Means are sums over examples divided once by the sum of their weights.
    metrics: {name: function, or (function, "higher" or "lower"[, unit])}, functions as of `loss`,
      or names such as "accuracy", "brier"; and {name: seedlab.Metric} for each outcome of
      `evaluate`. None: with cross-entropy test_accuracy, test_loss and
      predicted_label, else test_loss.
    evaluate: (apply, data, key) -> {name: array}, for outcomes that are no mean over examples, such
      as what a model generates; `apply(*inputs)` is the network on a batch as it is evaluated,
      `key` that of the `generate` stream (draw number k by fold_in(key, k)).
    evaluate_data: what `evaluate` gets as `data`, a tree of arrays; None: the pair `test`. Arrays
      that it closes over instead would be constants of the program.
    learning_rate, schedule: of a named optimizer; a learning rate beside an optax transformation is
      what `penalty` multiplies by.
    augment: a function (key, x) -> x of one example, or names for images such as ["crop", "flip"].
    options: as in a config's sections training, gradient and data, e.g. steps, full_batch,
      block_size, clip_norm, penalty, noise, average, world, train_examples, label_noise, order,
      poke_step; evaluate_every_epochs, evaluate_every_steps, evaluation_batch_size; initial, a
      .safetensors file of parameters to start from, and fresh, the layers that are drawn anew;
      precision, "float32" or "tf32" (products of accelerators; other types are the network's own).

  Raises:
    UserError: what cannot be right; what depends on the network's shapes, when a sweep begins.
  """
  from seedlab.training import supervised as made  # late: only who makes a recipe needs networks

  options |= {"batch_size": batch_size, "epochs": epochs}
  dataset = _dataset(train, test, pairs=True)
  sections = _rule_sections(optimizer, learning_rate, schedule)
  sections["augment"] = (configs.Part("own"),) if augment else ()
  world = train if callable(train) else None
  if world and options.get("train_examples") is None:
    raise UserError(
      "train_examples=None does not do where `train` is a function, which has no end: say how many"
      " examples a real world reuses (in an ideal one they make an epoch)"
    )
  config = _config(options, list(_OPTIONS), sections)
  measured = _metrics(metrics)
  _check_evaluate(evaluate, measured)
  if evaluate_data is not None:
    evaluate_data = _arrays("evaluate_data", evaluate_data)
  given = made.Given(
    network, optimizer, dataset, loss, measured, augment, learning_rate, config, world, evaluate,
    evaluate_data,
  )  # fmt: skip
  description = _described(given, schedule) | _recorded(dataset, config, list(_OPTIONS))
  if world:
    shapes = _shapes((dataset.train_image, dataset.train_label))
    description["train"] = f"{_name(world)} makes {shapes}"
  return Recipe(functools.partial(made.make, given), description)


def _described(given: Any, schedule: Any) -> dict[str, Any]:
  """What a recipe of `supervised` is made of, for the record."""
  rate = given.learning_rate
  description = {
    "kind": "supervised",
    "network": _name(given.network),
    "optimizer": _name(given.optimizer),
    "loss": _name(given.loss),
    "metrics": sorted(given.metrics) if given.metrics is not None else None,
    "augment": _name(given.augment) if given.augment else None,
    "learning_rate": rate if isinstance(rate, int | float) else None,
    "schedule": schedule,
  }
  return description | ({"evaluate": _name(given.evaluate)} if given.evaluate else {})


def from_train_step(
  init: Callable[..., Any],
  train_step: Callable[..., Any],
  evaluate: Callable[..., Any],
  *,
  train: Any,
  test: Any,
  metrics: Mapping[str, Any] = {},
  params: Callable[[Any], Any] | None = None,
  batch_size: int = 64,
  epochs: int = 20,
  **options: Any,
) -> Recipe:
  """A recipe for a train step as people have it.

  Args:
    init: key -> state: any tree (a flax TrainState, a dict; typed keys and static fields are no
      obstacle), or NNX objects such as (model, optimizer), which are split and merged.
    train_step: (state, batch[, key]) -> state, or (state, logs); of NNX objects it may change them
      in place and return nothing, or logs. Of the logs `loss` is watched: a run whose loss is not
      finite is recorded as diverged.
    evaluate: (state, test[, key]) -> {name: a number, or one for each test example}; the key is of
      the stream `generate`.
    train: a tree of arrays with a leading axis of examples; a batch is the same tree of some.
    test: what `evaluate` gets.
    metrics: {name: "higher" or "lower", or a seedlab.Metric}: what outcomes mean.
    params: state -> its parameters, for `poke_step`; None: the field or entry `params`.
    options: steps, world, train_examples, label_noise, order, window, poke_step, poke,
      evaluate_every_epochs, evaluate_every_steps.
  """
  from seedlab.training import train_step as made

  options |= {"batch_size": batch_size, "epochs": epochs}
  dataset = _dataset(train, test, pairs=False)
  config = _config(options, _STEP_OPTIONS, {})
  meanings = {name: _meaning(name, one) for name, one in metrics.items()}
  pair = isinstance(train, tuple) and len(train) == 2
  given = made.Given(init, train_step, evaluate, dataset, pair, meanings, params, config)
  description = {
    "kind": "train_step",
    "init": _name(init),
    "train_step": _name(train_step),
    "evaluate": _name(evaluate),
  }
  return Recipe(
    functools.partial(made.make, given), description | _recorded(dataset, config, _STEP_OPTIONS)
  )


def function(train: Callable[..., Any], *, metrics: Mapping[str, Any] = {}) -> Recipe:
  """A recipe for a function that does a whole training.

  Args:
    train: (key) or (keys) -> {metric: a number, or an array}, pure and traced by JAX. By the name
      `keys` it gets one typed key for each stream (keys.init, keys.order, ...), by any other name
      keys.init alone, which is fold_in(jax.random.key(seed), 0).
    metrics: {name: "higher" or "lower", or a seedlab.Metric}: what outcomes mean.
  """
  from seedlab.training import train_step as made

  meanings = {name: _meaning(name, one) for name, one in metrics.items()}
  description = {"kind": "function", "train": _name(train)}
  return Recipe(functools.partial(made.of_function, train, meanings), description)


def _in_options(message: str) -> str:
  """A message about fields of a config in the words of a recipe."""
  return re.sub(
    r"\b(training|gradient|data|evaluation|model)\.([a-z_]+)",
    lambda found: _FIELDS.get(found[0], found[0]),
    message,
  ).replace("optimizer.learning_rate", "learning_rate")


def _config(options: Mapping[str, Any], known: Sequence[str], sections: Mapping[str, Any]) -> Any:
  """The sections that a recipe shares with configs, checked."""
  values: dict[str, dict[str, Any]] = {}
  for name, value in options.items():
    if name not in known:
      words = f"{closest(name, known)}; options: {', '.join(known)}"
      elsewhere = " of this kind of recipe" if name in _OPTIONS else ""
      raise UserError(f"{name}={value!r} is not an option{elsewhere}{words}")
    section, field = _OPTIONS[name]
    values.setdefault(section, {})[field] = value
  try:
    own = {
      name: configs.parse_section(configs.OWN[name], values.get(name, {}), f"{name}.")
      for name in ("training", "gradient", "evaluation")
    }
    own["data"] = configs.parse_section(
      configs.Data, {"name": "`train`", **values.get("data", {})}, "data."
    )
    usual = {
      "model": configs.parse_section(
        configs.Model, {"name": "network", **values.get("model", {})}, "model."
      ),
      "activation": None,
      "augment": (),
      "loss": configs.Part("own"),
      "optimizer": configs.Optimizer("yours"),
      "schedule": None,
    }
    config = configs.Config(**{**usual, **sections, **own})
    configs.check(config)
  except UserError as error:
    raise UserError(_in_options(str(error))) from None
  return config


def _check_evaluate(evaluate: Any, metrics: Mapping[str, Any] | None) -> None:
  """Refuses `evaluate` without the meanings of what it returns, and these without it."""
  outcomes = [name for name, one in (metrics or {}).items() if isinstance(one, Metric)]
  if bool(outcomes) != callable(evaluate):
    raise UserError(
      "evaluate=(apply, data, key) -> {name: array} and a seedlab.Metric for each of these names in"
      f" `metrics` go together; there are the metrics {', '.join(outcomes) or 'of no name'} and"
      f" evaluate={_name(evaluate)}"
    )


def _rule_sections(optimizer: Any, learning_rate: Any, schedule: Any) -> dict[str, Any]:
  """The sections of a config that say how parameters are updated."""
  if isinstance(optimizer, str | Mapping):
    return _named_optimizer(optimizer, learning_rate, schedule)
  if schedule is not None:
    raise UserError(
      f"schedule={schedule!r} is for an optimizer by name; give yours the schedule:"
      " optax.adamw(optax.cosine_decay_schedule(...)), or a function of the number of steps"
    )
  return {} if learning_rate is None else {"schedule": configs.Schedule("constant")}


def _named_optimizer(optimizer: Any, learning_rate: Any, schedule: Any) -> dict[str, Any]:
  values = {"name": optimizer} if isinstance(optimizer, str) else dict(optimizer)
  if learning_rate is not None:
    values["learning_rate"] = learning_rate
  if "learning_rate" not in values:
    raise UserError(f"optimizer={optimizer!r} needs learning_rate=, e.g. learning_rate=1e-3")
  section = configs.part_of(configs.Optimizer, "optimizer", values, "optimizer")
  planned = configs.part_of(configs.Schedule, "schedule", schedule or "constant", "schedule")
  return {"optimizer": section, "schedule": planned}


def _dataset(train: Any, test: Any, *, pairs: bool) -> Dataset:
  """Examples as arrays of the types that JAX has."""
  import jax

  for name, given in (("train", train), ("test", test)):
    if callable(given) and pairs and name == "train":
      continue
    if pairs and not (isinstance(given, tuple | list) and len(given) == 2):
      raise UserError(
        f"{name} must be a pair (x, y) of arrays, or trees of arrays, with an axis of examples"
      )
  nothing = np.zeros(0, np.float32)
  if callable(train) and pairs:  # a world: arrays without examples say what they are like
    tested, targets = (_arrays(f"test[{n}]", part) for n, part in enumerate(test))
    _check_axis("test", (tested, targets))
    x, y = jax.tree.map(lambda leaf: leaf[:0], (tested, targets))
    return Dataset(x, y, tested, targets, nothing, nothing)
  if pairs or (isinstance(train, tuple) and len(train) == 2):
    x, y = (_arrays(f"train[{n}]", part) for n, part in enumerate(train))
  else:
    x, y = _arrays("train", train), None
  _check_axis("train", (x, y))
  if not pairs:
    return Dataset(x, y, _arrays("test", test), None, nothing, nothing)
  tested, targets = (_arrays(f"test[{n}]", part) for n, part in enumerate(test))
  _check_axis("test", (tested, targets))
  for name, ours, other in (("x", x, tested), ("y", y, targets)):
    if _shapes(ours) != _shapes(other):
      raise UserError(
        f"{name} of train and of test must be the same trees of arrays but for the number of"
        f" examples: {_shapes(ours)} and {_shapes(other)}"
      )
  return Dataset(x, y, tested, targets, nothing, nothing)


def _arrays(name: str, tree: Any) -> Any:
  import jax

  def array(path, leaf):
    found = np.asarray(leaf)
    where = name + jax.tree_util.keystr(path)
    if found.dtype.kind not in "biuf" and found.dtype.name != "bfloat16":
      raise UserError(f"{where} must be an array of numbers, not of {found.dtype}")
    narrow = {"float64": np.float32, "int64": np.int32, "uint64": np.uint32}.get(found.dtype.name)
    if narrow is None:
      return found
    if found.dtype.kind in "iu" and found.size:
      limits = np.iinfo(narrow)
      if found.min() < limits.min or found.max() > limits.max:
        raise UserError(f"{where} has whole numbers beyond 32 bits, which JAX here does not have")
    return found.astype(narrow)

  return jax.tree_util.tree_map_with_path(array, tree)


def _check_axis(name: str, tree: Any) -> None:
  import jax

  shapes = [leaf.shape for leaf in jax.tree.leaves(tree)]
  lengths = {shape[0] if shape else None for shape in shapes}
  if len(lengths) != 1 or lengths & {None, 0}:
    listed = ", ".join(str(list(shape)) for shape in shapes) or "nothing"
    raise UserError(
      f"the arrays of {name} must have the same number of examples, 1 or more, on their first axis,"
      f" and their shapes are {listed}"
    )


def _shapes(tree: Any) -> str:
  """Shapes of one example, with dtypes, e.g. "float32[8, 8, 1]"."""
  import jax

  leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
  return ", ".join(
    f"{jax.tree_util.keystr(path)} {leaf.dtype}{list(leaf.shape[1:])}".strip()
    for path, leaf in leaves
  )


def _metrics(metrics: Mapping[str, Any] | Sequence[str] | None) -> dict[str, Any] | None:
  """{name: (function or name, better, unit), or the Metric of what `evaluate` returns}."""
  if metrics is None:
    return None
  if not isinstance(metrics, Mapping):
    names = [metrics] if isinstance(metrics, str) else metrics
    return {f"test_{name.rpartition(':')[2]}": (name, None, None) for name in names}
  found: dict[str, Any] = {}
  for name, given in metrics.items():
    if isinstance(given, Metric):
      found[name] = given
      continue
    function, *meaning = given if isinstance(given, tuple | list) else (given,)
    if not (callable(function) or isinstance(function, str | Mapping)) or len(meaning) > 2:
      raise UserError(
        f"metrics[{name!r}] must be a function, or (function, 'higher' or 'lower'[, unit]), or a"
        " seedlab.Metric if `evaluate` returns it"
      )
    better, unit = (*meaning, None, None)[:2]
    _meaning(name, better)
    found[name] = (function, better, unit)
  return found


def _meaning(name: str, given: Any) -> Metric:
  if isinstance(given, Metric):
    return given
  if given not in ("higher", "lower", None):
    raise UserError(f"metrics[{name!r}]={given!r} must be 'higher', 'lower' or a seedlab.Metric")
  return Metric(better=given)


def _name(thing: Any) -> str:
  """What the record calls a function, a module, an optimiser."""
  if isinstance(thing, str):
    return thing
  if isinstance(thing, Mapping):
    return str({str(key): value for key, value in sorted(thing.items())})
  if hasattr(thing, "update") and hasattr(thing, "init"):
    return "an optax transformation"
  if isinstance(thing, functools.partial):
    return _name(thing.func)
  if isinstance(thing, tuple | list) and not hasattr(thing, "_fields"):
    return ", ".join(map(_name, thing))
  if hasattr(thing, "__qualname__"):
    return f"{thing.__module__}.{thing.__qualname__}"
  fields = dataclasses.fields(thing) if dataclasses.is_dataclass(thing) else ()  # of a linen module
  options = {field.name: getattr(thing, field.name, None) for field in fields}
  listed = [f"{name}={value}" for name, value in options.items() if isinstance(value, int | float)]
  return f"{type(thing).__module__}.{type(thing).__qualname__}({', '.join(listed)})"


def _recorded(dataset: Dataset, config: Any, known: Sequence[str]) -> dict[str, Any]:
  """The data's shapes, and every option with its value."""
  import jax

  def count(tree):
    return jax.tree.leaves(tree)[0].shape[0]

  values = {name: getattr(getattr(config, _OPTIONS[name][0]), _OPTIONS[name][1]) for name in known}
  shapes = _shapes((dataset.train_image, dataset.train_label))
  values |= {"train": f"{count(dataset.train_image)} of {shapes}"}
  return {name: list(one) if isinstance(one, tuple) else one for name, one in values.items()}
