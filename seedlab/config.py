"""What is trained: sections of a config, parsed and checked once.

  {"data": {"name": "digits"}, "model": {"name": "mlp", "width": 64}, "training": {"epochs": 20}}

Some sections name a part (`parts.py`) and carry its options beside the name; others, and a few
fields of the former, are our own: what every training has. `parse(mapping)` turns nested mappings
into a `Config`; after that boundary the library sees one typed value, in which every option has
its value. `to_dict` is its inverse, `to_config_dict` what a config file returns, `digest` names it.
Flags and the cells of a grid are applied by `changes.changed`. What needs models or data to be
checked (a size) is checked by `training.make_trainer`, before any work.
"""

import dataclasses
import hashlib
import json
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from ml_collections import config_dict

from seedlab import decoding, parts, rules
from seedlab.errors import UserError, closest

# Append new streams, here and in `streams.Keys`; never reorder.
Stream = Literal["init", "sample", "order", "augment", "noise", "poke", "generate"]
STREAMS: tuple[str, ...] = typing.get_args(Stream)
SEED_LIMIT = rules.SEED_LIMIT
_PRINTABLE = 10**1000  # Python prints no whole number of more than 4,300 digits


@dataclasses.dataclass(frozen=True)
class Part:
  """A function by its name, and all of its options."""

  name: str
  options: tuple[tuple[str, Any], ...] = ()

  def get(self, option: str, otherwise: Any = None) -> Any:
    """The value of an option, or `otherwise` if the part does not have it."""
    return dict(self.options).get(option, otherwise)


@dataclasses.dataclass(frozen=True)
class Data(Part):
  """Where examples come from, and which of them a run uses in which order."""

  # A world ("glyphs", "gaussians", "clicks"); images: "digits", "cifar5m", "imagenet_dogbird", or
  # any image classification set of tensorflow-datasets; clicks: "movielens/100k-ratings",
  # "criteo"; or module:function
  name: str = "digits"
  # "real" reuses `train_examples` of them, "ideal" trains on each example once
  world: Literal["real", "ideal"] = "real"
  # The first so many of the test set; None takes all, of a world 10,000
  test_examples: int | None = None
  train_examples: int | None = None  # subset drawn by the `sample` stream; None takes all
  # "permutation" is drawn for every epoch; a full batch that is "sequential" keeps its blocks;
  # "window" shuffles as a stream does that holds `window` examples back
  order: Literal["permutation", "replacement", "sequential", "window"] = "permutation"
  window: int | None = None  # 1 leaves the order as it is, all examples shuffle it fully
  last_batch: Literal["drop", "keep"] = "drop"  # the incomplete last batch of an epoch
  # None augments afresh in every epoch; N is a fixed pool of N augmented copies of each image, of
  # which a minibatch epoch visits one and a full-batch step all.
  copies: int | None = None
  # So many neighbouring examples, in the order of the data set, share each epoch's changes; None:
  # each has its own
  chunk: int | None = None
  plain_copy: bool = False  # the first of the copies is the image itself
  # By each channel's mean and deviation; of x in [0, 1]: (x - 1/2) / (1/2), or x itself; by
  # ImageNet's published means and deviations
  normalisation: Literal["channels", "half", "unit", "imagenet"] = "channels"
  label_noise: float = 0.0  # share of training labels replaced by a random other class, for good


@dataclasses.dataclass(frozen=True)
class Model(Part):
  """The network, and what it starts from."""

  name: str = "cnn"
  # A .safetensors file of parameters to start from: as `seedlab replay --params` writes it, or
  # pretrained weights in public names (models/pretrained.py); None draws all
  initial: str | None = None
  fresh: tuple[str, ...] = ()  # of those in the file, the layers (by name) that are drawn anew
  # Of the computation; with "float16" of parameters, gradients and momentum too, but for norms.
  # "tf32" is float32 but for products on accelerators, which round their factors (11 bits there)
  precision: Literal["float32", "tf32", "bfloat16", "float16"] = "float32"


@dataclasses.dataclass(frozen=True)
class Optimizer(Part):
  """The update rule: seedlab's own, optax's by its name, or module:function."""

  name: str = "sgd"
  learning_rate: float = 0.1  # the peak of the schedule


@dataclasses.dataclass(frozen=True)
class Schedule(Part):
  """The learning rate by step: seedlab's own, optax's by its name, or module:function."""

  name: str = "linear"
  per_epoch: bool = False  # constant within an epoch: the schedule's "steps" are epochs
  hold_steps: int = 1  # the rate changes only every so many steps


@dataclasses.dataclass(frozen=True)
class Measure(Part):
  """A further metric: its function, and what it means."""

  better: Literal["higher", "lower"] | None = None  # None: no report says which value is better
  unit: str | None = None


@dataclasses.dataclass(frozen=True)
class Training:
  """How long, and what is trained besides plain descent of the loss."""

  batch_size: int = 50  # not read with `full_batch`
  full_batch: bool = False  # one step takes the whole pool, which makes it an epoch
  epochs: int = 20
  steps: int | None = None  # overrides `epochs`
  loss_factor: float = 1.0  # of the loss that is descended, not of those that are measured
  average: float = 0.0  # decay of the moving average of the parameters that is evaluated; 0: none
  # Weight of the distance to a second network that is trained beside the run's, then thrown away
  codistillation: float = 0.0
  teacher: str | None = None  # a .safetensors file as `seedlab replay --params` writes it
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
  batch_size: int = 250  # images held at once; does not change what is measured
  # Keep the class probabilities of every test example at the end; of clicks, that of the click
  probabilities: bool = False
  trajectory: bool = False  # at every evaluation instead
  lists: int = 0  # movielens: users whose ten best films are kept at the end
  slices: int = 0  # points at which the loss along the gradient is kept at the end
  # also on the run's training examples; in an ideal world on those to be trained on next
  train: bool = False
  train_examples: int | None = None  # only the first so many; None: all, in an ideal world 500
  train_augmented: bool = False  # one augmented copy of them instead of the images themselves
  gradient_norm: bool = False  # also the mean squared norm of the training blocks' gradients
  metrics: tuple[Measure, ...] = ()  # further ones, module:function, of outputs and labels


@dataclasses.dataclass(frozen=True)
class Seeds:
  vary: tuple[Stream, ...] = typing.get_args(Stream)  # the streams that differ between runs
  fixed: int = 0  # the seed of the others
  design: Literal["joint", "crossed"] = "joint"  # joint: run r seeds every varied stream with r
  levels: tuple[int, ...] = ()  # crossed: number of levels of each stream in `vary`


@dataclasses.dataclass(frozen=True)
class Config:
  """One experiment; every option of every part has its value."""

  data: Data
  model: Model
  activation: Part | None  # None where the network has none to choose
  augment: tuple[Part, ...]  # in this order
  loss: Part
  optimizer: Optimizer
  schedule: Schedule | None  # None where the optimizer takes no learning rate
  training: Training = Training()
  probe: Probe = Probe()
  gradient: Gradient = Gradient()
  evaluation: Evaluation = Evaluation()
  seeds: Seeds = Seeds()


SECTIONS = tuple(field.name for field in dataclasses.fields(Config))
PARTS: dict[str, type[Part]] = {"data": Data, "model": Model, "optimizer": Optimizer}
OWN = {
  "training": Training,
  "probe": Probe,
  "gradient": Gradient,
  "evaluation": Evaluation,
  "seeds": Seeds,
}
LISTS = {"augment": "augment", "evaluation.metrics": "metric"}  # of parts of a kind
DEFAULTS = {
  "data": "digits", "model": "cnn", "activation": "relu", "loss": "cross_entropy",
  "optimizer": "sgd", "schedule": "linear",
}  # fmt: skip

SECTION: dict[str, type] = {**PARTS, "activation": Part, "loss": Part, "schedule": Schedule, **OWN}

# The smallest value that makes sense, for the fields of our own that have one.
_MINIMUM = {
  "data.train_examples": 1,
  "data.test_examples": 1,
  "data.copies": 1,
  "data.window": 1,
  "data.chunk": 1,
  "data.label_noise": 0,
  "optimizer.learning_rate": 0,
  "schedule.hold_steps": 1,
  "training.batch_size": 1,
  "training.epochs": 1,
  "training.steps": 1,
  "training.average": 0,
  "training.codistillation": 0,
  "training.distillation": 0,
  "training.poke_step": 0,
  "probe.steps": 0,
  "probe.learning_rate": 0,
  "probe.end": 0,
  "probe.period": 1,
  "probe.hold_steps": 1,
  "probe.label_smoothing": 0,
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

# Fields that are read only where another one is not at the value given here.
_READ_WITH = {
  "data.plain_copy": ("data.copies", None),
  "model.fresh": ("model.initial", None),
  "training.poke": ("training.poke_step", None),
  "gradient.last_block": ("gradient.block_size", None),
  "gradient.accumulation": ("gradient.block_size", None),
  "gradient.penalty_form": ("gradient.penalty", 0.0),
  "gradient.penalty_probe": ("gradient.penalty", 0.0),
  "gradient.penalty_statistics": ("gradient.penalty", 0.0),
  "gradient.noise_scale": ("gradient.noise", "none"),
  "evaluation.train_examples": ("evaluation.train", False),
  "evaluation.train_augmented": ("evaluation.train", False),
  **{
    f"probe.{field.name}": ("probe.steps", 0)
    for field in dataclasses.fields(Probe)
    if field.name != "steps"
  },
}

# Where fields went that configs had before there were parts.
_MOVED = {
  "model.activation": "activation.name",
  "model.activation_kwargs": "activation.OPTION",
  "optimizer.schedule": "schedule.name",
  "optimizer.warmup_steps": "schedule.warmup_steps",
  "optimizer.period": "schedule.period",
  "optimizer.end": "schedule.end",
  "optimizer.per_epoch": "schedule.per_epoch",
  "optimizer.hold_steps": "schedule.hold_steps",
  "training.label_smoothing": "loss.smoothing",
  "data.world_kwargs": "data.OPTION",
  "data.flip": 'augment, a list: augment=\'[{"name": "flip"}]\'',
  "data.crop": 'augment, a list: augment=\'[{"name": "crop", "padding": 4}]\'',
  "data.crop_padding": "augment[0].fill",
  "data.cutout": 'augment, a list: augment=\'[{"name": "cutout", "size": 8}]\'',
}


def parse(values: Mapping[str, Any] | config_dict.ConfigDict | Config) -> Config:
  """A checked Config from nested mappings; raises UserError naming field, value and remedy.

  A word in the place of a section is the name of its part: {"model": "resnet18"}.
  """
  if isinstance(values, Config):
    return values
  values = plain(values)
  if not isinstance(values, Mapping):
    raise UserError(f"a config must be a mapping of sections, not of type {type(values).__name__}")
  for name in values:
    if name not in SECTIONS:
      raise UserError(
        f"{name} is not a section{closest(name, SECTIONS)}; sections: {', '.join(SECTIONS)}"
      )
  found: dict[str, Any] = {}
  for name, cls in PARTS.items():
    found[name] = part_of(cls, name, values.get(name, {}), name)
  asks = parts.takes("model", parts.find("model", found["model"].name))
  found["activation"] = _asked(Part, "activation", values, "activation" in asks, found["model"])
  asks = parts.takes("optimizer", parts.find("optimizer", found["optimizer"].name))
  found["schedule"] = _asked(
    Schedule, "schedule", values, "learning_rate" in asks, found["optimizer"]
  )
  found["loss"] = part_of(Part, "loss", values.get("loss", {}), "loss")
  found["augment"] = _list_of_parts("augment", values.get("augment", ()))
  for name, cls in OWN.items():
    found[name] = parse_section(cls, values.get(name, {}), f"{name}.")
  config = Config(**found)
  check(config)
  return config


def parse_seeds(values: Mapping[str, Any]) -> Seeds:
  """The section `seeds` alone, checked."""
  seeds = parse_section(Seeds, plain(values), "seeds.")
  rules.check_seeds(seeds)
  return seeds


def parse_data(values: Any) -> Data:
  """The section `data` alone, its fields and options checked; imports no other section's part."""
  return part_of(Data, "data", plain(values), "data")


def plain(values: Any) -> Any:
  """ConfigDicts, tuples and Configs as dicts and lists; UserError where names are no text."""
  try:
    found = _plain(values)
  except RecursionError:
    found = None
  if found is None or decoding.deeper(found):
    raise UserError(
      f"a config is nested more than {decoding.DEEPEST} deep, or holds itself; it has sections, and"
      " those have fields"
    )
  return found


def _plain(values: Any) -> Any:
  if isinstance(values, Config):
    return to_dict(values)
  if isinstance(values, config_dict.ConfigDict):  # which is not a Mapping
    values = dict(values.items())
  if isinstance(values, Mapping):
    for name in values:
      if not isinstance(name, str):
        raise UserError(f"{name!r} is no name of a section or field of a config: names are text")
    return {name: _plain(value) for name, value in values.items()}
  if isinstance(values, list | tuple):
    return [_plain(value) for value in values]
  if isinstance(values, int) and abs(values) > _PRINTABLE:
    raise UserError("a config holds a whole number of more than 1,000 digits; no field takes one")
  return values


def to_dict(config: Config) -> dict[str, Any]:
  """Nested dicts of JSON values; `parse` takes them back."""
  values: dict[str, Any] = {}
  for name in SECTIONS:
    section = getattr(config, name)
    if section is not None:
      values[name] = _section_dict(section)
  return json.loads(json.dumps(values))


def _section_dict(section: Any) -> Any:
  if isinstance(section, tuple):
    return [_section_dict(one) if isinstance(one, Part) else one for one in section]
  found: dict[str, Any] = {}
  for field in dataclasses.fields(section):
    value = getattr(section, field.name)
    if field.name == "options":
      found |= dict(value)
    else:
      found[field.name] = _section_dict(value) if isinstance(value, tuple) else value
  return found


def to_config_dict(values: Mapping[str, Any] | Config) -> config_dict.ConfigDict:
  """What `get_config` of a config file returns: the sections, checked, as they were written.

  Its leaves are untyped, so that any of them can be changed to any value; they are checked when it
  is parsed.
  """
  parse(values)
  return _untyped(plain(values))


def _untyped(value: Any) -> Any:
  if isinstance(value, Mapping):
    found = config_dict.ConfigDict()
    for name, one in value.items():
      found[name] = _untyped(one)
    return found
  if isinstance(value, list):
    return [_untyped(one) if isinstance(one, Mapping) else one for one in value]
  return config_dict.FieldReference(value, object)


def digest(config: Config) -> str:
  """SHA-256 of what defines a run. The number of levels of a crossed design does not:

  a design is extended without renumbering its runs (`designs.seeds_of_run`).
  """
  values = to_dict(config)
  del values["seeds"]["levels"]
  return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def own_fields(section: str) -> tuple[str, ...]:
  """The fields of a section that are ours, whatever part it names."""
  return tuple(
    field.name for field in dataclasses.fields(SECTION[section]) if field.name != "options"
  )


def own_defaults(section: str) -> dict[str, Any]:
  """The defaults of the fields of a section that are ours, as JSON has them; `name` has none."""
  values = {
    field.name: field.default
    for field in dataclasses.fields(SECTION[section])
    if field.name not in ("name", "options")
  }
  return {
    name: list(value) if isinstance(value, tuple) else value for name, value in values.items()
  }


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
  """(field, value in a, value in b) for the fields in which two `to_dict` results differ."""
  flat_a, flat_b = dict(flatten(a)), dict(flatten(b))
  fields = [*flat_a, *(name for name in flat_b if name not in flat_a)]
  return [
    (field, flat_a.get(field), flat_b.get(field))
    for field in fields
    if flat_a.get(field) != flat_b.get(field)
  ]


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
  """("section.field", value) of nested dicts; parts of a list are "augment[0].padding"."""
  for name, value in values.items():
    if isinstance(value, Mapping):
      yield from flatten(value, f"{prefix}{name}.")
    elif isinstance(value, list | tuple) and value and all(isinstance(v, Mapping) for v in value):
      for number, one in enumerate(value):
        yield from flatten(one, f"{prefix}{name}[{number}].")
    else:
      yield prefix + name, value


def _asked(cls: type, section: str, values: Mapping[str, Any], asked: bool, by: Part) -> Any:
  """The part of a section that another part may ask for."""
  given = values.get(section)
  if asked:
    return part_of(cls, section, given or {}, section)
  if given is not None:
    kind = {"activation": "model", "schedule": "optimizer"}[section]
    raise UserError(
      f"{section}={given!r} is not read: {kind}.name={by.name!r} asks for no {section}; leave the"
      " section out"
    )
  return None


def part_of(cls: type, kind: str, values: Any, prefix: str) -> Any:
  """A section that names a part: the fields that are ours, and the part's options."""
  values = _mapping(values, prefix)
  ours = {field.name: field for field in dataclasses.fields(cls) if field.name != "options"}
  name = values.get("name", DEFAULTS.get(prefix))
  if not isinstance(name, str):
    raise UserError(f"{prefix}.name={name!r} must be the name of a part")
  _refuse_moved(values, prefix)
  own = parse_section(
    cls, {key: values[key] for key in values if key in ours} | {"name": name}, f"{prefix}."
  )
  given = {key: value for key, value in values.items() if key not in ours}
  settled = parts.settled(kind, name, given, prefix)
  return dataclasses.replace(own, options=tuple(settled.items()))


def _list_of_parts(field: str, values: Any) -> tuple[Part, ...]:
  values = as_list(field, values)
  kind = LISTS[field]
  cls = Measure if kind == "metric" else Part
  return tuple(part_of(cls, kind, one, f"{field}[{number}]") for number, one in enumerate(values))


def as_list(field: str, value: Any) -> list[Any]:
  if value is None or value == "none":
    return []
  if isinstance(value, str):
    value = [word for word in value.split(",") if word]
  if isinstance(value, Mapping):
    value = [value]
  if not isinstance(value, list | tuple):
    raise UserError(f'{field}={value!r} must be a list of parts, as in [{{"name": "flip"}}]')
  return list(value)


def _mapping(values: Any, prefix: str) -> Mapping[str, Any]:
  if isinstance(values, str):
    return {"name": values}
  if not isinstance(values, Mapping):
    raise UserError(f"{prefix}={values!r} is a section: give its fields ({prefix}.NAME=VALUE)")
  return values


def _refuse_moved(values: Mapping[str, Any], section: str) -> None:
  for name in values:
    moved = _MOVED.get(f"{section}.{name}")
    if moved and not (section == "schedule"):
      raise UserError(f"{section}.{name} is not a field; it is {moved} now")


def parse_section(cls: type, values: Any, prefix: str) -> Any:
  """A section whose fields are ours."""
  if not isinstance(values, Mapping):
    raise UserError(f"{prefix[:-1]}={values!r} is a section: give its fields ({prefix}NAME=VALUE)")
  _refuse_moved(values, prefix[:-1])
  fields = {field.name: field for field in dataclasses.fields(cls) if field.name != "options"}
  for name in values:
    if name not in fields:
      raise UserError(
        f"{prefix}{name} is not a field{closest(name, fields)}; fields: {', '.join(fields)}"
      )
  hints = typing.get_type_hints(cls)
  found = {}
  for name, value in values.items():
    if prefix + name in LISTS:
      found[name] = _list_of_parts(prefix + name, value)
    else:
      found[name] = parts.convert(value, hints[name], None, prefix + name)
  return cls(**found)


def check(config: Config) -> None:
  """Raises UserError for a value that is too small, and for fields that do not go together."""
  values = dict(flatten(to_dict(config)))
  usual = {
    f"{section}.{field}": value
    for section in SECTION
    for field, value in own_defaults(section).items()
  }
  for field, minimum in _MINIMUM.items():
    if values.get(field) is not None and values[field] < minimum:
      raise UserError(f"{field}={values[field]!r} must be at least {minimum}")
  for field, (other, off) in _READ_WITH.items():
    if values[other] == off and values[field] != usual[field]:
      raise UserError(
        f"{field}={values[field]!r} is read only with {other}, which is {off!r}: set that too, or"
        f" leave {field} at {usual[field]!r}"
      )
  rules.check(config, values)
