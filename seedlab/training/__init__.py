"""seedlab's own Trainer: minibatch or full-batch training of a classifier, from a Config.

for each epoch
  order = permutation(fold_in(order key, epoch))
  for each step (with `training.full_batch` the only one of its epoch)
    for each block of the step's examples: gather, normalise, augment by (epoch, index), gradient
    the blocks' mean gradient, SGD
at each evaluation: accuracy, loss and soft-error over the whole test set (training/evaluation.py)

In an ideal world (`data.world`) no example comes twice, and a step's are those that are next on
the run's list (training/examples.py). A minibatch is one block unless `gradient.block_size` cuts
it (training/gradients.py). Examples are pictures, or rows of whole numbers (data/fields.py), which
no step changes.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from seedlab import config as configs
from seedlab import data as datasets
from seedlab import models, streams
from seedlab.config import Config, Gradient
from seedlab.data import augmentation, crops, worlds
from seedlab.data import order as orders
from seedlab.data.fields import Field
from seedlab.data.stream import Pool
from seedlab.errors import UserError
from seedlab.models import pretrained
from seedlab.trainer import Trainer
from seedlab.training import evaluation as evaluations
from seedlab.training import examples as sources
from seedlab.training import gradients, initial, losses, poke
from seedlab.training import optimizer as optimizers

__all__ = ["State", "Trainer", "make_trainer"]


# A segment of full-batch steps computes at least this many blocks, about as many as a minibatch
# epoch has steps. Nothing is drawn for a segment; it ends to let the engine report and measure.
_SEGMENT_BLOCKS = 400
_LARGEST_TEST_SET = 2 * 2**30  # bytes of it
_BULK = 1000  # of them drawn at a time
_TEST_EXAMPLES = 10_000  # of a world, unless data.test_examples says otherwise
_SLICED = 32  # training examples whose loss is sliced: among many a kink of one is lost
# As torchvision's published networks were trained.
_IMAGENET_MEAN = (123.675, 116.28, 103.53)  # 255 (0.485, 0.456, 0.406)
_IMAGENET_STD = (58.395, 57.12, 57.375)  # 255 (0.229, 0.224, 0.225)
_PEER = 1  # fold_in(init, 1) draws the second network of co-distillation


class State(NamedTuple):
  """What one run carries from step to step."""

  params: Any
  batch_stats: Any  # empty without batch norm
  opt_state: optax.OptState
  examples: sources.Held
  measured: jax.Array  # uint32[2], the `augment` key if augmented examples are measured, else [0]
  average: Any = ()  # of the parameters over the steps, where it is evaluated


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
    dataset: pictures uint8[N, H, W, C], or rows int32[N, F] with `fields`.
    classes: K.
    world: where training examples come from; `dataset` then only says what they are tested on.
    fields: what the columns of rows mean.
    lists: users and films of `evaluation.lists`.
    pool: streamed training examples; `dataset` then only says what they are tested on.
  """
  _check_examples(config, fields, lists)
  if config.data.normalisation != "channels":
    mean, std = _fixed_moments(config, dataset.test_image.shape[-1])
    dataset = dataset._replace(mean=mean, std=std)
  if pool:
    dataset = dataset._replace(train_label=pool.digest)
  image_shape = dataset.test_image.shape[1:]
  total = config.data.train_examples if world else dataset.train_label.shape[0]
  if pool:
    total = pool.count
  examples = config.data.train_examples or total
  if examples > total:
    raise UserError(
      f"data.train_examples={examples} is more than the {total} of {config.data.name}; lower it, or"
      " leave it empty to take all"
    )
  copies, full_batch = config.data.copies, config.training.full_batch
  ideal = config.data.world == "ideal"
  batch_size, epoch_steps, blocks, block_size, ragged = _cut(config, examples)
  masked = ragged or blocks * block_size > batch_size  # some block may be incomplete
  steps = config.training.steps or config.training.epochs * epoch_steps
  precision = config.model.precision
  module = models.build(config.model, classes, image_shape, jax.default_backend(), fields)
  optimizer = optimizers.build(config.optimizer, steps, epoch_steps, config.probe)
  schedule = optimizers.schedule(config.optimizer, steps, epoch_steps)
  plan = _plan(config, steps, epoch_steps)
  source = sources.build(
    config, dataset, world, classes, examples, batch_size, steps, pool=pool, plan=plan
  )

  paired = config.training.codistillation > 0
  if config.training.poke_step is not None and config.training.poke_step >= steps:
    raise UserError(
      f"training.poke_step={config.training.poke_step} must be below the {steps} steps of a run"
    )

  def drawn(key):
    blank = jnp.zeros((1, *image_shape), jnp.int32 if fields else precision)
    variables = module.init(key, blank, train=False)
    return models.held_in(precision, variables["params"]), variables.get("batch_stats", {})

  teacher = initial.teacher(config.training.teacher, drawn) if config.training.teacher else ()

  def init(keys, data):
    params, batch_stats = drawn(keys.init)
    if paired:
      peer = drawn(streams.at_step(keys.init, _PEER))
      params, batch_stats = (
        {"run": ours, "peer": its} for ours, its in zip((params, batch_stats), peer, strict=True)
      )
    measured = jnp.zeros(0, jnp.uint32)
    if config.evaluation.train_augmented:
      measured = jax.random.key_data(keys.augment)
    held = source.init(keys, _shared(data).dataset)
    average = params if config.training.average else ()
    return State(params, batch_stats, optimizer.init(params), held, measured, average)

  def apply(params, batch_stats, block, key):
    logits, changed = module.apply(
      {"params": params, "batch_stats": batch_stats},
      block.image,
      train=True,
      mask=block.mask,
      mutable=["batch_stats"],
      rngs=None if key is None else {"dropout": key},
    )
    return logits, changed.get("batch_stats", {})

  def by_labels(logits, block):
    smoothing, share = config.training.label_smoothing, config.training.distillation
    if block.probing is not None:
      smoothing = jnp.where(block.probing, config.probe.label_smoothing, smoothing)
      targets = optax.smooth_labels(jax.nn.one_hot(block.label, classes), smoothing)
      return losses.towards(logits, targets)
    if block.target is None:
      return losses.cross_entropy(logits, block.label, smoothing)
    hard = optax.smooth_labels(jax.nn.one_hot(block.label, classes), smoothing)
    return losses.towards(logits, (1 - share) * hard + share * block.target)

  def descended(values, block):
    mean, factor = losses.masked_mean(values, block.mask), config.training.loss_factor
    if block.probing is not None:
      return jnp.where(block.probing, config.probe.loss_factor, factor) * mean
    return mean if factor == 1 else factor * mean

  def loss(params, batch_stats, block):
    if not paired:
      logits, changed = apply(params, batch_stats, block, block.key)
      return descended(by_labels(logits, block), block), changed
    found = {}
    for number, name in enumerate(params):
      key = None if block.key is None else streams.at_step(block.key, number)
      found[name] = apply(params[name], batch_stats[name], block, key)
    (ours, _), (its, _) = found["run"], found["peer"]
    said = [lax.stop_gradient(jax.nn.softmax(logits)) for logits in (its, ours)]
    values = sum(
      by_labels(logits, block) + config.training.codistillation * losses.towards(logits, other)
      for logits, other in zip((ours, its), said, strict=True)
    )
    return descended(values, block), {name: new for name, (_, new) in found.items()}

  def prepare(image, index, key, epoch, data):
    """Examples as the network meets them; pictures are augmented if there is a key."""
    if fields:
      return image
    keys = None
    if key is not None:
      keys = streams.for_examples(key, epoch, index, config.data.chunk)
    if isinstance(image, crops.Canvas):
      image = crops.random_resized_crop(keys, image, image_shape[0])
    image = augmentation.normalise(image, data.mean, data.std)
    if keys is not None:
      changed = augmentation.augment(keys, image, config.data, -data.mean / data.std)
      if config.data.plain_copy:
        first = jnp.broadcast_to(epoch == 0, index.shape)[:, None, None, None]
        changed = jnp.where(first, image, changed)
      image = changed
    return image.astype(precision)

  def step(state, number, first, order, keys, shared, fed):
    data = shared.dataset
    params = poke.move(config.training, state.params, keys.poke, number)
    probing = number < config.probe.steps if config.probe.steps else None
    epoch = number if ideal else number // epoch_steps
    if full_batch:
      positions, real = in_order(keys, epoch, batch_size), None
    elif ideal or pool:  # of what is next, or what was fed
      positions, real = jnp.arange(batch_size, dtype=jnp.int32), jnp.ones(batch_size, bool)
      if ragged:
        real = number % epoch_steps * batch_size + positions < examples
    else:
      positions, real = orders.batch(order, number % epoch_steps, batch_size)

    def take(block):
      places, mask = positions, real
      if blocks > 1:
        places, mask = orders.batch(positions, block, block_size)
        if ragged:
          mask &= orders.batch(real, block, block_size)[0]
      copy = epoch
      if copies:
        copy = places // examples if full_batch else epoch % copies
        places = places % examples
      drawn = source.draw(state.examples, keys, data, fed, number, first, places)
      dropout = None
      if config.model.dropout:
        branch = streams.at_step(keys.noise, streams.DROPOUT)
        dropout = streams.at_step(streams.at_step(branch, number), block)
      image = prepare(drawn.image, drawn.index, keys.augment, copy, data)
      target = None
      if config.training.teacher:
        target = jax.nn.softmax(module.apply({"params": shared.teacher}, image, train=False))
      return gradients.Block(image, drawn.label, mask if masked else None, dropout, target, probing)

    rate = schedule(number) if config.gradient.penalty else None
    formed = gradients.of_update(
      lambda batch_stats, block: gradients.of_block(
        loss, config.gradient, params, batch_stats, block, rate
      ),
      config.gradient,
      params,
      state.batch_stats,
      # Of an incomplete last batch only the blocks with real examples: the others have no mean.
      -(-real.sum(dtype=jnp.int32) // block_size) if ragged and blocks > 1 else blocks,
      take,
    )
    whole = gradients.add_noise(config.gradient, formed.gradient, keys.noise, number)
    if config.probe.steps:  # frozen parameters have no part in the norm
      whole = initial.of_fresh(whole, config.model.fresh, probing)
    whole = gradients.clip(config.gradient, whole)
    before = state.opt_state
    if config.probe.steps:
      before = _started_anew(before, number == config.probe.steps)
    updates, opt_state = optimizer.update(whole, before, params)
    if config.probe.steps:
      updates = initial.of_fresh(updates, config.model.fresh, probing)
    params = optax.apply_updates(params, updates)
    finite = jnp.isfinite(formed.loss) & _finite(params)
    state = state._replace(params=params, batch_stats=formed.batch_stats, opt_state=opt_state)
    if config.training.average:
      # Short of the decay at first, or the average would stay near the initial parameters.
      decay = jnp.minimum(config.training.average, (1 + number) / (10 + number))
      average = optax.incremental_update(params, state.average, 1 - decay)
      state = state._replace(average=average)
    return state, finite

  def in_order(keys, epoch, count):
    return orders.epoch_order(keys.order, epoch, count, config.data.order, config.data.window)

  def advance(state, keys, data, fed, first, steps):
    shared, order = _shared(data), None
    if not (full_batch or ideal or pool):
      order = in_order(keys, first // epoch_steps, examples)

    def body(number, carry):
      state, diverged = carry
      state, finite = step(state, number, first, order, keys, shared, fed)
      return state, jnp.where((diverged < 0) & ~finite, number, diverged)

    state, diverged = lax.fori_loop(first, first + steps, body, (state, jnp.int32(-1)))
    held = source.settle(state.examples, keys, shared.dataset, fed, first + steps)
    return state._replace(examples=held), {"diverged": diverged}

  def gradient_norm(state, data):
    size = min(block_size, examples)

    def take(block):
      places, _ = orders.batch(jnp.arange(examples, dtype=jnp.int32), block, size)
      image, label, _ = sources.look_up(state.examples, data, places)
      return gradients.Block(prepare(image, None, None, None, data), label, None)

    def form(batch_stats, block):
      return gradients.of_block(loss, Gradient(), state.params, batch_stats, block)

    return gradients.mean_squared_norm(form, state.batch_stats, examples // size, take)

  def train_block(state, data, places):
    image, label, index = sources.look_up(state.examples, data, places)
    key = None
    if config.evaluation.train_augmented:
      key = jax.random.wrap_key_data(state.measured, impl=streams.IMPLEMENTATION)
    return prepare(image, index, key, sources.MEASURED, data), label

  def variables_of(state):
    """What is evaluated: of an average or of two networks the one that would be used."""
    params = state.average if config.training.average else state.params
    chosen = (params, state.batch_stats)
    if paired:
      chosen = (each["run"] for each in chosen)
    return dict(zip(("params", "batch_stats"), chosen, strict=True))

  def evaluate(state, keys, data):
    del keys  # nothing is generated
    data, _, listed = _shared(data)
    variables = variables_of(state)

    def network(image):
      return module.apply(variables, image, train=False).astype(jnp.float32)

    outcome = evaluations.of_test_set(
      lambda image: network(prepare(image, None, None, None, data)),
      data.test_image,
      data.test_label,
      config,
      clicks=bool(fields),
    )
    if config.evaluation.train:
      outcome |= evaluations.of_training_examples(
        network,
        lambda places: train_block(state, data, places),
        source.measured,
        config.evaluation.batch_size,
      )
    if config.evaluation.gradient_norm:
      outcome["block_gradient_norm"] = gradient_norm(state, data)
    if listed:
      outcome["best_films"] = evaluations.best_films(network, listed)
    if config.evaluation.slices:
      places = jnp.arange(min(_SLICED, examples), dtype=jnp.int32)
      image, label, _ = sources.look_up(state.examples, data, places)
      image = prepare(image, None, None, None, data)

      def sliced(params):
        logits = module.apply(variables | {"params": params}, image, train=False)
        return losses.cross_entropy(logits, label).mean()

      outcome |= evaluations.slices(sliced, variables["params"], config.evaluation.slices)
    return outcome

  period = -(-_SEGMENT_BLOCKS // blocks) if full_batch else None if ideal else epoch_steps

  def load():
    held = sources.on_device(dataset)
    return Shared(held, teacher, lists or ()) if teacher or lists else held

  trainer = Trainer(
    plan=plan,
    load=functools.cache(load),  # hashes a large pool
    init=init,
    advance=advance,
    evaluate=evaluate,
    metrics=evaluations.metrics(config.evaluation, clicks=bool(fields), lists=lists is not None),
    feed=source.feed,
    period=source.period or period,
    coords={"label": ("example", dataset.test_label)},
    evaluated_on=lambda: (dataset.test_image, dataset.test_label),
  )
  if config.model.initial:
    trainer = initial.start_from(trainer, config.model, classes, image_shape)
  return trainer


def _finite(params: Any) -> jax.Array:
  # Not in float16, where the sum of sound parameters can be infinite.
  return jnp.isfinite(optax.tree.sum(optax.tree.cast(params, jnp.float32)))


def _started_anew(opt_state: optax.OptState, now: jax.Array) -> optax.OptState:
  """The momentum set to zero if it is `now`; the count of steps goes on."""
  return jax.tree.map(
    lambda leaf: jnp.where(now, 0, leaf) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf,
    opt_state,
  )


def _shared(data: datasets.Dataset | Shared) -> Shared:
  return data if isinstance(data, Shared) else Shared(data)


def _fixed_moments(config: Config, channels: int) -> tuple[np.ndarray, np.ndarray]:
  """float32[C] each, on the 0..255 scale: those that `data.normalisation` names."""
  mean, std = {
    "half": (127.5, 127.5),
    "unit": (0.0, 255.0),
    "imagenet": (_IMAGENET_MEAN, _IMAGENET_STD),
  }[config.data.normalisation]
  if config.data.normalisation == "imagenet" and channels != len(mean):
    raise UserError(
      f"data.normalisation='imagenet' is for three channels, and {config.data.name} has {channels};"
      " set 'half' or 'unit'"
    )
  ones = np.ones(channels, np.float32)
  return np.multiply(mean, ones, dtype=np.float32), np.multiply(std, ones, dtype=np.float32)


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


class _Cut(NamedTuple):
  """How the examples of a run are cut into updates, and those into blocks."""

  batch_size: int  # examples of an update
  epoch_steps: int
  blocks: int  # of an update
  block_size: int
  ragged: bool  # whether the last update of an epoch is incomplete


def _cut(config: Config, examples: int) -> _Cut:
  if config.training.full_batch:
    pool = examples * (config.data.copies or 1)
    return _Cut(pool, 1, *gradients.blocks(config.gradient, pool), ragged=False)
  batch_size, last_batch = config.training.batch_size, config.data.last_batch
  if batch_size > examples:
    raise UserError(
      f"training.batch_size={batch_size} is more than the {examples} training examples"
      f" of {config.data.name}; lower it"
    )
  blocks, block_size = gradients.blocks(config.gradient, batch_size)
  ragged = last_batch == "keep" and examples % batch_size != 0
  if ragged and blocks > 1 and config.gradient.last_block != "keep":
    raise UserError(
      f"gradient.last_block={config.gradient.last_block!r} does not go with data.last_batch='keep',"
      f" which leaves a last batch of {examples % batch_size} of {examples} examples: set it to"
      " 'keep' too"
    )
  epoch_steps = orders.steps_per_epoch(examples, batch_size, last_batch)
  return _Cut(batch_size, epoch_steps, blocks, block_size, ragged)


def _plan(config: Config, steps: int, epoch_steps: int) -> tuple[int, ...]:
  """The steps after which a run is evaluated: at intervals, rounded, and after the last one.

  Or after the epochs that `evaluation.epochs` names, and the last step.

  Log-dense with an interval of I: also every I / 16 up to 16 I and every I / 8 up to
  32 I. The published moments (Nakkiran et al. 2021) have I = 64: every 4 steps up to
  1,024, every 8 up to 2,048.
  """
  evaluation = config.evaluation
  if evaluation.epochs:
    marks = [(epoch + 1) * epoch_steps for epoch in evaluation.epochs]
    if marks[-1] > steps:
      raise UserError(
        f"evaluation.epochs={evaluation.epochs!r} goes beyond the {steps / epoch_steps:g} epochs of"
        " a run; name earlier ones, counted from 0"
      )
    return tuple(sorted({*marks, steps}))
  every = evaluation.every_steps or evaluation.every_epochs * epoch_steps
  marks = {round(every * n) for n in range(1, math.ceil(steps / every) + 1)}
  if evaluation.log_dense:
    interval = int(every)
    for part, end in ((16, 16), (8, 32)):
      marks |= set(range(interval // part, end * interval + 1, interval // part))
  return tuple(sorted({mark for mark in marks if 0 < mark < steps} | {steps}))
