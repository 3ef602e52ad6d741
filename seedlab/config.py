"""What is trained: frozen dataclasses, parsed and checked once.

`parse(mapping)` turns a ConfigDict or plain dict into a `Config`; after that
boundary the library sees one typed, hashable value. `to_dict` is its inverse,
`to_config_dict` the form that flags can change, `digest` names it. What needs
models or data to be checked (a name, a size) is checked by
`training.make_trainer`, before any work.
"""

import dataclasses
import hashlib
import json
import math
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from ml_collections import config_dict

from seedlab.errors import UserError, choice_error, closest

# Append new streams, here and in `streams.Keys`; never reorder.
Stream = Literal["init", "sample", "order", "augment", "noise", "poke", "generate"]
STREAMS: tuple[str, ...] = typing.get_args(Stream)
SEED_LIMIT = 2**32
# Values of data.name that are sampled by key: data/worlds.py, data/clicks.py
WORLDS = ("glyphs", "gaussians", "clicks")


@dataclasses.dataclass(frozen=True)
class Data:
  # A world ("glyphs", "gaussians", "clicks"); pictures: "digits", "cifar5m", "imagenet_dogbird", or
  # any image classification set of tensorflow-datasets; clicks: "movielens/100k-ratings", "criteo"
  name: str = "digits"
  world_kwargs: tuple[tuple[str, float], ...] = ()  # parameters of a world: see data/worlds.py
  # "real" reuses `train_examples` of them, "ideal" trains on each example once
  world: Literal["real", "ideal"] = "real"
  train_split: str = "train"  # of a set of tensorflow-datasets; several are joined by "+"
  # Appended to the training pool: an npz file or a folder of them, with keys X and Y; a path in the
  # data directory, or an absolute one.
  extra: str | None = None
  # The first so many of the test set; None takes all, of a world 10,000
  test_examples: int | None = None
  image_size: int | None = None  # pixels a side, resized when decoding; None keeps the size
  # Of tensorflow-datasets: training pictures are read when a step needs them, instead of decoding
  # the set once, by SEEDLAB_READER_THREADS threads (4), which no number depends on
  stream: bool = False
  # streamed: from each training picture a random part of 8 to 100 % of its area, resized
  resized_crop: bool = False
  # streamed: the shorter side is resized to int(centre_crop * image_size), then the centre cut out;
  # None stretches to a square
  centre_crop: float | None = None
  # streamed: a picture that cannot be decoded is an error, or the next one takes its place
  corrupt: Literal["refuse", "skip"] = "refuse"
  train_examples: int | None = None  # subset drawn by the `sample` stream; None takes all
  # "permutation" is drawn for every epoch; a full batch that is "sequential" keeps its blocks;
  # "window" shuffles as a stream does that holds `window` examples back
  order: Literal["permutation", "replacement", "sequential", "window"] = "permutation"
  window: int | None = None  # 1 leaves the order as it is, all examples shuffle it fully
  test_by: Literal["random", "time"] = "random"  # movielens: which fifth of it is the test set
  last_batch: Literal["drop", "keep"] = "drop"  # the incomplete last batch of an epoch
  flip: bool = False  # horizontally, with probability 1/2
  crop: int = 0  # pixels of padding on each side before a random crop back to size
  crop_padding: Literal["zero", "black", "reflect"] = "zero"  # zero once normalised
  cutout: int = 0  # side of the square filled with the mean colour
  # None augments afresh in every epoch; N is a fixed pool of N augmented copies of each picture, of
  # which a minibatch epoch visits one and a full-batch step all.
  copies: int | None = None
  # So many neighbouring examples, in the order of the data set, share each epoch's changes; None:
  # each has its own
  chunk: int | None = None
  plain_copy: bool = False  # the first of them is the picture itself
  # By each channel's mean and deviation; of x in [0, 1]: (x - 1/2) / (1/2), or x itself; by
  # ImageNet's published means and deviations
  normalisation: Literal["channels", "half", "unit", "imagenet"] = "channels"
  label_noise: float = 0.0  # share of training labels replaced by a random other class, for good


@dataclasses.dataclass(frozen=True)
class Model:
  name: str = "cnn"
  # Hidden units (mlp; ctr halves them layer by layer), channels of the first layer (others; 64 as
  # published)
  width: int = 16
  # Hidden layers (mlp, mlp_pytorch, ctr), blocks (vit; vit_s16: 12 as published); others: not read
  depth: int = 2
  norm: Literal["none", "batch", "group"] = "none"  # vit has its own
  # resnet18, resnet50, resnet152, where the size changes: average or stride
  shortcut: Literal["pool", "plain"] = "pool"
  remat: bool = False  # ResNets, DenseNets, VGGs: less memory, blocks recomputed in the gradient
  dropout: float = 0.0  # mlp*, dconv*: share of hidden units set to zero; dconv's paper has 0.5
  patch: int = 4  # vit: pixels a side of what becomes a token
  heads: int = 4  # vit: must divide width
  cell_seed: int = 0  # cells: which random network (not its weights)
  embedding: int = 16  # ctr: numbers that stand for a category
  towers: int = 1  # ctr: stacks of hidden layers on the same embeddings, their logits averaged
  # A .safetensors file of parameters to start from: as scripts/replay.py --params writes it, or
  # pretrained weights in public names (models/pretrained.py); None draws all
  initial: str | None = None
  fresh: tuple[str, ...] = ()  # first parts of the names of those that are drawn all the same
  # imagenet_resnet50, vit_s16: first weights of the last layer (models/layers.py, first_head)
  head: Literal["usual", "picard", "small"] = "usual"
  activation: str = "relu"
  activation_kwargs: tuple[tuple[str, float], ...] = ()  # a dict (or its JSON) where it is written
  # mlp, ctr: variance of hidden weights for ReLU, or by the activation's own second moment
  gain: Literal["he", "moment"] = "he"
  convolution: Literal["auto", "native", "patches"] = "auto"  # lowering; part of the numerics
  # Of the computation; with "float16" of parameters, gradients and momentum too, but for norms
  precision: Literal["float32", "bfloat16", "float16"] = "float32"


@dataclasses.dataclass(frozen=True)
class Optimizer:
  name: Literal["sgd", "adam", "rmsprop", "adagrad"] = "sgd"
  learning_rate: float = 0.1  # the peak of the schedule
  # "linear" and "cosine" reach zero at the last step, "warmup_cosine" after `period`,
  # "exponential" a thousandth of the peak at the last step; "three_step" is a tenth in each third;
  # "picard" counts epochs, "whole_cosine" is a cosine whose beginning the warm-up replaces
  schedule: Literal[
    "constant",
    "linear",
    "cosine",
    "warmup_cosine",
    "exponential",
    "three_step",
    "onecycle",
    "picard",
    "whole_cosine",
  ] = "linear"
  warmup_steps: int = 0  # linear from zero to the peak
  period: int | None = None  # steps of the falling half cosine of "warmup_cosine"; None: all steps
  end: float = 0.0  # what "cosine" falls to
  per_epoch: bool = False  # constant within an epoch: the schedule's "steps" are epochs
  hold_steps: int = 1  # the rate changes only every so many steps
  momentum: float = 0.9  # of "sgd" alone, like `nesterov`
  nesterov: bool = False
  weight_decay: float = 0.0  # coupled: added to the gradient of every parameter before momentum
  bias_factor: float = 1.0  # of the learning rate of biases and of the scales of norms


@dataclasses.dataclass(frozen=True)
class Training:
  batch_size: int = 50  # not read with `full_batch`
  full_batch: bool = False  # one step takes the whole pool, which makes it an epoch
  epochs: int = 20
  steps: int | None = None  # overrides `epochs`
  label_smoothing: float = 0.0
  loss_factor: float = 1.0  # of the loss that is descended, not of those that are measured
  average: float = 0.0  # decay of the moving average of the parameters that is evaluated; 0: none
  # Weight of the distance to a second network that is trained beside the run's, then thrown away
  codistillation: float = 0.0
  teacher: str | None = None  # a .safetensors file as scripts/replay.py --params writes it
  distillation: float = 0.0  # share of the teacher's probabilities in the labels
  # Before this step the `poke` stream picks one parameter and moves it; None: never
  poke_step: int | None = None
  poke: Literal["ulp", "factor"] = "ulp"  # to the next float up, or times 1.001


@dataclasses.dataclass(frozen=True)
class Probe:
  """A first stage of fine-tuning, in which the parameters of `model.fresh` alone are trained."""

  steps: int = 0  # of the training's steps, the first; 0: no such stage
  learning_rate: float = 0.01
  end: float = 0.0  # what its cosine falls to
  period: int | None = None  # steps of the whole fall; None: of the stage
  hold_steps: int = 1  # the rate changes only every so many steps
  label_smoothing: float = 0.0
  loss_factor: float = 1.0


@dataclasses.dataclass(frozen=True)
class Gradient:
  """How the gradient of one update is formed: see `training/gradients.py`."""

  block_size: int | None = None  # examples at a time; also batch norm's and the penalty's unit
  last_block: Literal["drop", "keep", "error"] = "error"  # where blocks do not divide the update
  accumulation: Literal["mean", "legacy"] = "mean"  # legacy: the weights of published code
  penalty: float = 0.0  # strength of the penalty on the blocks' gradient norms
  penalty_form: Literal["forward", "central", "exact"] = "forward"
  penalty_probe: float = 0.01  # distance in parameter space of the finite difference
  penalty_statistics: bool = True  # probe passes record batch norm's running statistics too
  noise: Literal["none", "additive", "multiplicative"] = "none"
  noise_scale: float = 0.0  # standard deviation a coordinate
  clip_norm: float | None = None  # largest norm of the whole gradient; None does not clip


@dataclasses.dataclass(frozen=True)
class Evaluation:
  every_epochs: float = 1.0  # the last step is always evaluated
  every_steps: int | None = None  # overrides `every_epochs`
  # Behind these epochs, counted from 0, and the last step; overrides `every_epochs`
  epochs: tuple[int, ...] = ()
  log_dense: bool = False  # 16 times as often in the first 16 intervals, 8 times in the next 16
  batch_size: int = 250  # pictures held at once; does not change what is measured
  # Keep the class probabilities of every test example at the end; of clicks, that of the click
  probabilities: bool = False
  trajectory: bool = False  # at every evaluation instead
  lists: int = 0  # movielens: users whose ten best films are kept at the end
  slices: int = 0  # points at which the loss along the gradient is kept at the end
  # also on the run's training examples; in an ideal world on those to be trained on next
  train: bool = False
  train_examples: int | None = None  # only the first so many; None: all, in an ideal world 500
  train_augmented: bool = False  # one augmented copy of them instead of the pictures themselves
  gradient_norm: bool = False  # also the mean squared norm of the training blocks' gradients


@dataclasses.dataclass(frozen=True)
class Seeds:
  vary: tuple[Stream, ...] = STREAMS  # the streams that differ between runs
  fixed: int = 0  # the seed of the others
  design: Literal["joint", "crossed"] = "joint"  # joint: run r seeds every varied stream with r
  levels: tuple[int, ...] = ()  # crossed: number of levels of each stream in `vary`


@dataclasses.dataclass(frozen=True)
class Config:
  data: Data = Data()
  model: Model = Model()
  optimizer: Optimizer = Optimizer()
  training: Training = Training()
  probe: Probe = Probe()
  gradient: Gradient = Gradient()
  evaluation: Evaluation = Evaluation()
  seeds: Seeds = Seeds()


_LARGEST_FLOAT = 3.4028235e38  # of float32

# The smallest value that makes sense, for the fields that have one.
_MINIMUM = {
  "data.image_size": 1,
  "data.train_examples": 1,
  "data.test_examples": 1,
  "data.crop": 0,
  "data.cutout": 0,
  "data.centre_crop": 1,
  "data.copies": 1,
  "data.window": 1,
  "data.chunk": 1,
  "data.label_noise": 0,
  "model.width": 1,
  "model.depth": 0,
  "model.dropout": 0,
  "model.patch": 1,
  "model.heads": 1,
  "model.cell_seed": 0,
  "model.embedding": 1,
  "model.towers": 1,
  "optimizer.learning_rate": 0,
  "optimizer.warmup_steps": 0,
  "optimizer.period": 1,
  "optimizer.hold_steps": 1,
  "optimizer.momentum": 0,
  "optimizer.weight_decay": 0,
  "optimizer.bias_factor": 0,
  "training.batch_size": 1,
  "training.epochs": 1,
  "training.steps": 1,
  "training.label_smoothing": 0,
  "probe.steps": 0,
  "probe.learning_rate": 0,
  "probe.end": 0,
  "probe.period": 1,
  "probe.hold_steps": 1,
  "probe.label_smoothing": 0,
  "optimizer.end": 0,
  "training.average": 0,
  "training.codistillation": 0,
  "training.distillation": 0,
  "training.poke_step": 0,
  "gradient.block_size": 1,
  "gradient.penalty": 0,
  "gradient.noise_scale": 0,
  "evaluation.every_steps": 1,
  "evaluation.train_examples": 1,
  "evaluation.batch_size": 1,
  "evaluation.lists": 0,
  "evaluation.slices": 0,
  "seeds.fixed": 0,
}


def parse(values: Mapping[str, Any] | config_dict.ConfigDict | Config) -> Config:
  """A checked Config from nested mappings; raises UserError naming field, value and remedy."""
  if isinstance(values, Config):
    values = to_dict(values)
  elif isinstance(values, config_dict.ConfigDict):  # which is not a Mapping
    values = values.to_dict()
  config = _parse(Config, values, "")
  _check(config)
  return config


def to_dict(config: Config) -> dict[str, Any]:
  """Nested dicts of JSON values; `parse` takes them back."""
  values = dataclasses.asdict(config)
  values["model"]["activation_kwargs"] = dict(config.model.activation_kwargs)
  values["data"]["world_kwargs"] = dict(config.data.world_kwargs)
  return json.loads(json.dumps(values))


def to_config_dict(config: Config) -> config_dict.ConfigDict:
  """What `get_config` of a config file returns: `config`, checked, each field open to a flag.

  An empty field stays open by a placeholder that keeps its type.
  """
  return _config_dict(parse(config))


def digest(config: Config) -> str:
  """SHA-256 of what defines a run. The number of levels of a crossed design does not:

  a design is extended without renumbering its runs (`streams.seeds_of_run`).
  """
  values = to_dict(config)
  del values["seeds"]["levels"]
  return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def changed(config: Config, changes: Mapping[str, Any]) -> Config:
  """`config` with {"section.field": value} in place of what was there, checked."""
  values = to_dict(config)
  known = dict(flatten(values))
  for name, value in changes.items():
    assert name in known, name
    section, field = name.split(".")
    values[section][field] = value
  return parse(values)


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
  """(field, value in a, value in b) for the fields in which two `to_dict` results differ."""
  flat_a, flat_b = dict(flatten(a)), dict(flatten(b))
  fields = [*flat_a, *(name for name in flat_b if name not in flat_a)]
  return [
    (field, flat_a.get(field), flat_b.get(field))
    for field in fields
    if flat_a.get(field) != flat_b.get(field)
  ]


def _config_dict(section: Any) -> config_dict.ConfigDict:
  values = {}
  for name, hint in typing.get_type_hints(type(section)).items():
    value = getattr(section, name)
    if dataclasses.is_dataclass(value):
      value = _config_dict(value)
    elif name.endswith("_kwargs"):
      value = dict(value)
    elif value is None:
      value = config_dict.placeholder(_without_none(hint))
    values[name] = value
  return config_dict.ConfigDict(values)


def _without_none(hint: Any) -> Any:
  (hint,) = (arg for arg in typing.get_args(hint) if arg is not type(None))
  return hint


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
  """("section.field", value) of nested dicts; a dict field such as activation_kwargs is a value."""
  for name, value in values.items():
    if isinstance(value, Mapping) and not name.endswith("_kwargs"):
      yield from flatten(value, f"{prefix}{name}.")
    else:
      yield prefix + name, value


def _parse(cls: type, values: Any, prefix: str) -> Any:
  if not isinstance(values, Mapping):
    raise UserError(f"{prefix[:-1]}={values!r} is a section: give its fields ({prefix}NAME=VALUE)")
  fields = {field.name: field for field in dataclasses.fields(cls)}
  for name in values:
    if name not in fields:
      raise UserError(
        f"{prefix}{name} is not a field{closest(name, fields)}; fields: {', '.join(fields)}"
      )
  hints = typing.get_type_hints(cls)
  parsed = {
    name: _convert(value, hints[name], prefix + name) for name, value in dict(values).items()
  }
  return cls(**parsed)


def _convert(value: Any, hint: Any, field: str) -> Any:
  """`value` as type `hint`; an int serves as a float, a list as a tuple, nothing else changes."""
  if dataclasses.is_dataclass(hint):
    return _parse(hint, value, field + ".")
  origin = typing.get_origin(hint)
  if origin is Literal:
    if value not in typing.get_args(hint):
      raise choice_error(field, value, typing.get_args(hint))
    return value
  if origin is types.UnionType:
    if value is None:
      return None
    return _convert(value, _without_none(hint), field)
  if field.endswith("_kwargs"):
    return _keyword_arguments(value, field)
  if origin is tuple:
    if isinstance(value, str) or not isinstance(value, typing.Iterable):
      raise UserError(f"{field}={value!r} must be a list")
    return tuple(_convert(item, typing.get_args(hint)[0], field) for item in value)
  if hint is float and isinstance(value, int) and not isinstance(value, bool):
    value = float(value)
  if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
    kind = "and cannot be left empty" if value is None else f"not {type(value).__name__}"
    raise UserError(f"{field}={value!r} must be of type {hint.__name__}, {kind}")
  if hint is float and value != value:
    raise UserError(f"{field}=nan is not a number")
  if hint is float and abs(value) > _LARGEST_FLOAT:
    raise UserError(f"{field}={value!r} must be finite in float32, so below 3.4e38")
  return value


def _keyword_arguments(value: Any, field: str) -> tuple[tuple[str, float], ...]:
  if isinstance(value, str):
    try:
      value = json.loads(value or "{}")
    except json.JSONDecodeError as error:
      raise UserError(f'{field}={value!r} is not JSON ({error}); write {{"beta": 0.5}}') from None
  if isinstance(value, Mapping):
    value = value.items()
  try:
    return tuple(sorted((str(name), float(number)) for name, number in value))
  except (TypeError, ValueError):
    raise UserError(f'{field}={value!r} must map names to numbers, as in {{"beta": 0.5}}') from None


def _check(config: Config) -> None:
  values = dict(flatten(to_dict(config)))
  for field, minimum in _MINIMUM.items():
    if values[field] is not None and values[field] < minimum:
      raise UserError(f"{field}={values[field]!r} must be at least {minimum}")
  if config.training.label_smoothing >= 1:
    raise UserError(f"training.label_smoothing={config.training.label_smoothing!r} must be below 1")
  if config.training.loss_factor <= 0:
    raise UserError(f"training.loss_factor={config.training.loss_factor!r} must be above 0")
  if config.data.label_noise >= 1:
    raise UserError(f"data.label_noise={config.data.label_noise!r} must be below 1")
  _check_remedies(config.training)
  _check_probe(config)
  if config.model.fresh and config.model.initial is None:
    raise UserError(
      f"model.fresh={config.model.fresh!r} is about the parameters in model.initial, which is empty"
    )
  _check_evaluation(config.evaluation)
  if config.evaluation.gradient_norm and config.model.dropout:
    raise UserError(
      f"evaluation.gradient_norm=True does not go with model.dropout={config.model.dropout!r},"
      " which draws another network for every block; switch one of them off"
    )
  if config.evaluation.slices == 1:
    raise UserError("evaluation.slices=1 is one point of a slice; take 2 or more, or 0 for none")
  if config.evaluation.slices and config.data.world == "ideal":
    raise UserError(
      f"evaluation.slices={config.evaluation.slices} slices the loss of examples that are reused,"
      " and data.world='ideal' reuses none: set it to 0"
    )
  _check_world(config)
  _check_order(config.data)
  _check_stream(config)
  _check_update(config)
  _check_float16(config)
  seeds = config.seeds
  if seeds.fixed >= SEED_LIMIT:
    raise UserError(f"seeds.fixed={seeds.fixed} must lie in [0, 2^32)")
  if len(set(seeds.vary)) != len(seeds.vary) or not seeds.vary:
    raise UserError(f"seeds.vary={seeds.vary!r} must name at least one stream, each once")
  if seeds.design == "crossed":
    if len(seeds.levels) != len(seeds.vary) or min(seeds.levels) < 1:
      raise UserError(
        f"seeds.levels={seeds.levels!r} must give a number of levels for each of seeds.vary="
        f"{seeds.vary!r}"
      )
  elif seeds.levels:
    raise UserError(f"seeds.levels={seeds.levels!r} is for seeds.design='crossed'")


def _check_evaluation(evaluation: Evaluation) -> None:
  if evaluation.every_epochs <= 0:
    raise UserError(f"evaluation.every_epochs={evaluation.every_epochs!r} must be above 0")
  epochs = evaluation.epochs
  if any(epoch < 0 for epoch in epochs) or list(epochs) != sorted(set(epochs)):
    raise UserError(f"evaluation.epochs={epochs!r} must be rising numbers of epochs from 0")
  for field in ("every_steps", "log_dense"):
    if epochs and getattr(evaluation, field):
      raise UserError(
        f"evaluation.epochs={epochs!r} and evaluation.{field}={getattr(evaluation, field)!r} both"
        " say when to evaluate: take one"
      )
  if evaluation.log_dense and (evaluation.every_steps or 1) % 16:
    raise UserError(
      "evaluation.log_dense=True divides evaluation.every_steps by 16: set it to a multiple of 16,"
      f" not {evaluation.every_steps}"
    )
  for field in ("train_examples", "train_augmented"):
    if getattr(evaluation, field) and not evaluation.train:
      raise UserError(
        f"evaluation.{field}={getattr(evaluation, field)!r} is for evaluation.train=True"
      )


def _check_remedies(training: Training) -> None:
  for field in ("average", "distillation"):
    value, closed = getattr(training, field), field == "distillation"
    if value > 1 or (value == 1 and not closed):
      words = "at most" if closed else "below"
      raise UserError(f"training.{field}={value!r} must be {words} 1")
  if bool(training.teacher) != bool(training.distillation):
    raise UserError(
      f"training.teacher={training.teacher!r} and training.distillation={training.distillation!r}"
      " go together: name a .safetensors file, and a share above 0 of what it says"
    )
  if training.poke != "ulp" and training.poke_step is None:
    raise UserError(f"training.poke={training.poke!r} is about training.poke_step, which is empty")


def _check_probe(config: Config) -> None:
  probe, training = config.probe, config.training
  if config.optimizer.end and config.optimizer.schedule != "cosine":
    raise UserError(
      f"optimizer.end={config.optimizer.end!r} is for optimizer.schedule='cosine', not"
      f" {config.optimizer.schedule!r}"
    )
  for name, stage in (("optimizer", config.optimizer), ("probe", probe)):
    if stage.end > stage.learning_rate:
      raise UserError(
        f"{name}.end={stage.end!r} must be at most {name}.learning_rate={stage.learning_rate!r},"
        " from which the rate falls to it"
      )
  if not probe.steps:
    return
  if not config.model.fresh:
    raise UserError(
      f"probe.steps={probe.steps} trains the parameters of model.fresh alone, which is empty: name"
      " the last layer, and in model.initial the file of the others"
    )
  for field, set_ in (
    (f"optimizer.name={config.optimizer.name!r}", config.optimizer.name != "sgd"),
    ("training.codistillation", training.codistillation > 0),
    ("training.distillation", training.distillation > 0),
    ("optimizer.per_epoch=True", config.optimizer.per_epoch),
    ("gradient.penalty", config.gradient.penalty > 0),
  ):
    if set_:
      raise UserError(f"probe.steps={probe.steps} does not go with {field}; set one of them back")
  if probe.label_smoothing >= 1 or probe.loss_factor <= 0:
    raise UserError(
      f"probe.label_smoothing={probe.label_smoothing!r} must be below 1, and probe.loss_factor="
      f"{probe.loss_factor!r} above 0"
    )


def _check_order(data: Data) -> None:
  if (data.order == "window") != (data.window is not None):
    raise UserError(
      f"data.order={data.order!r} and data.window={data.window}: a window is the number of examples"
      " that order='window' shuffles among; give both or neither"
    )
  if data.test_by != "random" and not data.name.startswith("movielens"):
    raise UserError(
      f"data.test_by={data.test_by!r} is for movielens, not for data.name={data.name!r}; leave it"
      " at 'random'"
    )


def _check_stream(config: Config) -> None:
  data, usual = config.data, Data()
  for field in ("resized_crop", "centre_crop", "corrupt"):
    value = getattr(data, field)
    if value != getattr(usual, field):
      if not data.stream:
        raise UserError(f"data.{field}={value!r} is for data.stream=True")
      if field != "corrupt" and data.image_size is None:
        raise UserError(f"data.{field}={value!r} needs data.image_size, as in data.image_size=224")
  if not data.stream:
    return
  if data.normalisation == "channels":
    raise UserError(
      "data.normalisation='channels' takes the moments of a whole set, and data.stream=True reads"
      " it piece by piece: set 'imagenet', 'half' or 'unit'"
    )
  for field, set_ in (
    ("training.full_batch", config.training.full_batch),
    ("evaluation.gradient_norm", config.evaluation.gradient_norm),
    ("evaluation.slices", config.evaluation.slices > 0),
    ("data.extra", data.extra is not None),
    ("data.plain_copy", data.plain_copy),
  ):
    if set_:
      raise UserError(
        f"{field} needs pictures at hand that data.stream=True reads batch by batch; leave it out,"
        " or set data.stream=False"
      )


def _check_world(config: Config) -> None:
  """What an ideal world has not: a pool that is trained on again."""
  if config.data.world == "real":
    return
  for field, set_, instead in (
    ("training.full_batch", config.training.full_batch, "take data.world='real'"),
    ("data.copies", config.data.copies is not None, "leave it empty"),
    ("data.chunk", config.data.chunk is not None, "leave it empty"),
    ("data.last_batch='keep'", config.data.last_batch == "keep", "take 'drop'"),
    ("evaluation.gradient_norm", config.evaluation.gradient_norm, "switch it off"),
  ):
    if set_:
      raise UserError(
        f"{field} is about a set of examples that is reused, and data.world='ideal' reuses none:"
        f" {instead}"
      )


def _check_update(config: Config) -> None:
  """What the fields of an update say together."""
  data, optimizer, gradient = config.data, config.optimizer, config.gradient
  augmented = data.flip or data.crop or data.cutout or data.resized_crop
  if data.chunk is not None and not augmented:
    raise UserError(
      f"data.chunk={data.chunk} says which pictures are changed alike, and none is changed; switch"
      " on data.flip, data.crop or data.cutout, or leave data.chunk empty"
    )
  if data.copies is not None and not augmented:
    raise UserError(
      f"data.copies={data.copies} would all be the same picture; switch on data.flip, data.crop,"
      " data.cutout or data.resized_crop, or leave data.copies empty"
    )
  if data.plain_copy and data.copies is None:
    raise UserError("data.plain_copy=True is about the first of data.copies, which is empty")
  if config.training.full_batch and data.order == "replacement":
    raise UserError(
      "data.order='replacement' does not visit the whole pool, as training.full_batch=True says;"
      " set 'sequential' or 'permutation'"
    )
  if optimizer.period is not None and optimizer.schedule != "warmup_cosine":
    raise UserError(
      f"optimizer.period={optimizer.period} is for optimizer.schedule='warmup_cosine', not"
      f" {optimizer.schedule!r}"
    )
  if optimizer.schedule == "picard" and (optimizer.warmup_steps or not optimizer.per_epoch):
    raise UserError(
      f"optimizer.schedule='picard' counts epochs and has its own warm-up: set optimizer.per_epoch"
      f"=True (it is {optimizer.per_epoch}) and optimizer.warmup_steps=0 (it is"
      f" {optimizer.warmup_steps})"
    )
  if optimizer.hold_steps > 1 and optimizer.per_epoch:
    raise UserError(
      f"optimizer.hold_steps={optimizer.hold_steps} and optimizer.per_epoch=True both say when the"
      " rate changes: take one"
    )
  if optimizer.name != "sgd" and optimizer.nesterov:
    raise UserError(f"optimizer.nesterov=True is for optimizer.name='sgd', not {optimizer.name!r}")
  for field in ("clip_norm", "penalty_probe"):
    value = getattr(gradient, field)
    if value is not None and not 0 < value < math.inf:
      raise UserError(f"gradient.{field}={value!r} must be above 0 and finite")
  if gradient.penalty and not optimizer.learning_rate:
    raise UserError(
      f"gradient.penalty={gradient.penalty!r} is multiplied by the learning rate, and"
      " optimizer.learning_rate=0.0: set it above 0"
    )
  if gradient.noise != "none" and not gradient.noise_scale:
    raise UserError(
      f"gradient.noise={gradient.noise!r} needs gradient.noise_scale above 0, not 0.0"
    )


def _check_float16(config: Config) -> None:
  """What gradients and parameters of float16 are too coarse for."""
  if config.model.precision != "float16":
    return
  usual = dict(flatten(to_dict(Config())))
  values = dict(flatten(to_dict(config)))
  for field in (
    "optimizer.name",
    "training.average",
    "training.codistillation",
    "training.distillation",
    "gradient.block_size",
    "gradient.penalty",
    "gradient.noise",
    "gradient.clip_norm",
    "evaluation.slices",
    "evaluation.gradient_norm",
  ):
    if values[field] != usual[field]:
      raise UserError(
        f"{field}={values[field]!r} does not go with model.precision='float16', which holds"
        f" gradients in float16: leave it at {usual[field]!r}, or take 'float32'"
      )
