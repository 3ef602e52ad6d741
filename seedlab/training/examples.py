"""Which examples a step trains on: the same ones over and over, or never one twice.

  real world   N examples are drawn once by the `sample` stream and reused in every epoch
  ideal world  step t trains on examples t B, ..., t B + B - 1 of an endless list

(Nakkiran et al. 2021, arXiv 2010.08127.) Both worlds go through one list, which the
`sample` stream alone decides: a permutation of a finite pool, or example number i of a
procedural world. The real world's N examples are the first N of it, so that two runs that
differ in their world alone share what they can.

Where the images come from depends on the data:

  a pool on the device            looked up by position
  a pool too large for a device   fed by the host, segment by segment
  a pool that is streamed         likewise, each batch read from its records (data/stream.py)
  a world (data/worlds.py)        made by key; a real world keeps its N in the state

Images and labels may be trees of arrays with a leading axis of examples: a recipe's are.
"""

import functools
import hashlib
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from seedlab import streams
from seedlab.config import STREAMS, Config
from seedlab.data import Dataset, World, crops
from seedlab.data import order as orders
from seedlab.data.stream import Pool
from seedlab.errors import UserError

# Larger pools stay on the host, mapped into memory.
_LARGEST_ON_DEVICE = 4 * 2**30  # bytes

_LARGEST_SHARE = 2**30  # bytes of the examples of a real world that is fed

_NUMBERS = 2**31  # of the examples of a world: int32
_BLOCK = 250  # images of a real world drawn at a time
_BULK = 4096  # images hashed at a time

# Stands for the number of the epoch where augmented training examples are measured.
MEASURED = 2**32 - 1

_COMING = 500  # examples of an ideal world on which `evaluation.train` measures, by default
_LANES = 64  # runs whose positions in a pool are remembered between segments
_STREAMED = 2**28  # bytes of the images of a segment, at most, where they are streamed
_FED_STEPS = 64  # of a segment at most, where each of its images comes from the host


class Held(NamedTuple):
  """What the state of a run carries of its examples; unused arrays have no rows.

  Of a real world the N examples, of an ideal one the list, and those that come next.
  """

  index: jax.Array  # int32[N], or of an ideal pool [all]: positions in the full data set
  image: jax.Array | crops.Canvas  # uint8[N, H, W, C], or rows int32[N, F]
  label: jax.Array  # int32[N]: as trained on, with label noise


class Drawn(NamedTuple):
  """Some examples."""

  image: jax.Array | crops.Canvas  # uint8[B, H, W, C], or rows int32[B, F]
  label: jax.Array  # int32[B]
  index: jax.Array  # int32[B]: what names them to the `augment` stream


class Source(NamedTuple):
  """Functions of one run; all but `feed` are pure and traced."""

  init: Callable[..., Held]  # (keys, data)
  # (held, keys, data, fed, number, first, places) -> Drawn. `places`: int32[B], of a real world
  # positions among its N, of an ideal one slots of step `number`; the segment began with `first`.
  draw: Callable[..., Drawn]
  # (held, keys, data, fed, step) -> held, at the end of a segment, with `step` steps done
  settle: Callable[..., Held]
  measured: int  # examples on which `evaluation.train` measures
  feed: Callable[..., Any] | None = None
  period: int | None = None  # the longest segment, where feeding bounds it


def on_host(dataset: Dataset) -> bool:
  """Whether the training pool stays on the host."""
  return _bytes(dataset.train_image) > _LARGEST_ON_DEVICE


def pool_size(dataset: Dataset) -> int:
  """N, the number of training examples."""
  return jax.tree.leaves((dataset.train_label, dataset.train_image))[0].shape[0]


def _bytes(images: Any) -> int:
  return sum(leaf.nbytes for leaf in jax.tree.leaves(images))


def on_device(dataset: Dataset) -> Dataset:
  """What of a data set all runs share on the device: all of it, or all but too large a pool.

  A digest stands for such a pool, so that no other one is taken for it.
  """
  if not on_host(dataset):
    return dataset
  image, label = dataset.train_image, dataset.train_label
  sha = hashlib.sha256()
  for leaf in jax.tree.leaves((label, image)):
    for start in range(0, len(leaf), _BULK):
      sha.update(np.ascontiguousarray(leaf[start : start + _BULK]).data)
  digest = np.frombuffer(sha.digest(), np.uint8).astype(np.int32)
  return dataset._replace(train_image=_at(image, slice(0)), train_label=digest)


def build(
  config: Config,
  dataset: Dataset,
  world: World | None,
  classes: int,
  examples: int,
  batch_size: int,
  steps: int,
  pool: Pool | None = None,
  plan: Sequence[int] = (),
) -> Source:
  """The source of a config's examples.

  Args:
    config: world, label noise, what is measured on training examples.
    dataset: the pool; with a `world` or a streamed `pool` only its test set is read.
    world: a procedural world, or None for a pool.
    classes: number of classes, of which label noise takes another one.
    examples: N of a real world.
    batch_size: examples of a step.
    steps: of the whole training.
    pool: what is streamed, if anything is.
    plan: steps after which a run is evaluated; read with `pool` alone.

  Raises:
    UserError: an ideal world that asks for more examples than its pool has, or too many examples
      to feed.
  """
  ideal = config.data.world == "ideal"
  measured = 0
  if config.evaluation.train:
    measured = config.evaluation.train_examples or (_COMING if ideal else examples)
    if not ideal and measured > examples:
      raise UserError(
        f"evaluation.train_examples={measured} is more than the {examples} of data.train_examples"
      )
  field, count, numbered = "data.train_examples", examples, examples
  if ideal:
    field, count, numbered = "training.steps", steps, steps * batch_size + measured
  if world and numbered >= _NUMBERS:
    raise UserError(
      f"{field}={count:,} asks for more examples than the 2^31 that a world numbers; set it lower"
    )
  noisy = functools.partial(_noisy_labels, config.data.label_noise, classes)
  if world:
    if ideal:
      return _ideal_world(world, noisy, batch_size, measured)
    return _real_world(world, noisy, examples, measured)
  if not ideal and pool:
    return _streamed(config, pool, noisy, examples, batch_size, steps, measured, plan)
  total = pool.count if pool else pool_size(dataset)
  if not ideal:
    if on_host(dataset):
      share = examples * _bytes(_at(dataset.train_image, slice(1)))
      if share > _LARGEST_SHARE:
        raise UserError(
          f"data.train_examples={examples:,} of {config.data.name} are {share / 2**30:.1f} GiB to"
          f" send with every segment, {_LARGEST_SHARE / 2**30:.0f} GiB at most: set it, or"
          " data.image_size, lower"
        )
      return _real_fed(dataset, noisy, examples, measured)
    return _real_pool(total, config.data.label_noise > 0, noisy, examples, measured)
  needed = steps * batch_size + measured
  if needed > total:
    also = f" and {measured} to measure on" if measured else ""
    most = max(0, total - measured) // batch_size
    remedy = f"training.steps to {most:,} or fewer"
    if not most:
      remedy = "training.batch_size or evaluation.train_examples lower"
    raise UserError(
      f"data.world='ideal' uses each example once: {steps:,} steps of {batch_size}{also} need"
      f" {needed:,}, and {config.data.name} has {total:,}; set {remedy}, or data.name to a world"
    )
  if pool:
    return _streamed(config, pool, noisy, needed, batch_size, steps, measured, plan)
  if on_host(dataset):
    return _ideal_fed(dataset, noisy, needed, batch_size, measured)
  return _ideal_pool(dataset, noisy, needed, batch_size, measured)


def _noisy_labels(share: float, classes: int, keys, index, label):
  """Labels of which `share` are replaced by another class, by index: the same in every epoch."""
  if not share:
    return label
  drawn = jax.vmap(
    lambda i: jax.random.bits(
      jax.random.fold_in(streams.at_step(keys.noise, streams.LABELS), i), (2,), jnp.uint32
    )
  )(index)
  replaced = drawn[:, 0] < np.uint32(min(round(share * 2**32), 2**32 - 1))
  other = 1 + drawn[:, 1] % (classes - 1)  # 1, ..., classes - 1 further
  return jnp.where(replaced, (label + other.astype(jnp.int32)) % classes, label)


def _nothing(shape=(0,), dtype=jnp.int32):
  return jnp.zeros(shape, dtype)


def look_up(held: Held, data: Dataset, places: jax.Array) -> Drawn:
  """Examples by place: of a real world among its N, of an ideal one among those that come next."""
  held_images = jax.tree.leaves(held.image)[0].shape[0]
  if not held_images:
    index = held.index[places]
    label = held.label[places] if held.label.shape[0] else _at(data.train_label, index)
    return Drawn(_at(data.train_image, index), label, index)
  # Only an ideal pool's list is longer than what is held of it.
  index = held.index[places] if held.index.shape[0] == held_images else places
  return Drawn(_at(held.image, places), _at(held.label, places), index)


def _at(images, places):
  """Some of the images, canvases or rows."""
  return jax.tree.map(lambda leaf: leaf[places], images)


def _reused(held, keys, data, fed, number, first, places):
  del keys, fed, number, first
  return look_up(held, data, places)


def _settled(held, keys, data, fed, step):
  del keys, data, fed, step
  return held


def _real_pool(total, noise, noisy, examples, measured):
  def init(keys, data):
    index = orders.subset(keys.sample, total, examples)
    label = noisy(keys, index, _at(data.train_label, index)) if noise else _nothing()
    return _empty(index)._replace(label=label)

  return Source(init, _reused, _settled, measured)


def _real_world(world, noisy, examples, measured):
  def init(keys, data):
    del data
    index = jnp.arange(examples, dtype=jnp.int32)
    # Block by block: what it takes to draw a image is many times the image.
    starts = jnp.arange(0, examples, _BLOCK, dtype=jnp.int32)
    blocks = starts[:, None] + jnp.arange(_BLOCK, dtype=jnp.int32)[None, :]
    drawn = lax.map(lambda block: world.sample(keys.sample, block), blocks)
    image, label = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:examples], drawn)
    return Held(_nothing(), image, noisy(keys, index, label))

  return Source(init, _reused, _settled, measured)


def _ideal_world(world, noisy, batch_size, measured):
  def drawn(keys, index):
    image, label = _once(world.sample, keys.sample, index)
    return image, noisy(keys, index, label)

  def coming(keys, step):
    index = step * batch_size + jnp.arange(measured, dtype=jnp.int32)
    return Held(_nothing(), *drawn(keys, index)) if measured else _empty(_nothing())

  def draw(held, keys, data, fed, number, first, places):
    del held, data, fed, first
    return Drawn(*drawn(keys, number * batch_size + places), places)

  def settle(held, keys, data, fed, step):
    del held, data, fed
    return coming(keys, step)

  return Source(lambda keys, data: coming(keys, 0), draw, settle, measured)


def _once(sample, key, index):
  """sample(key, index), computed once.

  XLA:CPU would fuse the drawing of a image into each of its uses, forward and backward, and
  so draw it many times over (6 times as slow for an MLP). What a loop leaves behind is computed
  once; this one has a single round, which XLA cannot know: numbers of examples are not negative.
  """
  like = jax.eval_shape(sample, key, index)
  nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), like)
  rounds = jnp.where(index[0] < 0, 0, 1)
  return lax.fori_loop(0, rounds, lambda _, drawn: sample(key, index), nothing)


def _empty(index):
  """An index alone."""
  return Held(index, _nothing(), _nothing())


def _ideal_pool(dataset, noisy, needed, batch_size, measured):
  total = pool_size(dataset)

  def coming(index, keys, data, step):
    if not measured:
      return _empty(index)
    at = index[step * batch_size + jnp.arange(measured, dtype=jnp.int32)]
    return Held(index, _at(data.train_image, at), noisy(keys, at, _at(data.train_label, at)))

  def init(keys, data):
    index = orders.single_pass(keys.sample, total, needed)
    return coming(index, keys, data, 0)

  def draw(held, keys, data, fed, number, first, places):
    del fed, first
    at = held.index[number * batch_size + places]
    return Drawn(_at(data.train_image, at), noisy(keys, at, _at(data.train_label, at)), places)

  def settle(held, keys, data, fed, step):
    del fed
    return coming(held.index, keys, data, step)

  return Source(init, draw, settle, measured)


def _real_fed(dataset, noisy, examples, measured):
  @functools.lru_cache(maxsize=_LANES)
  def positions(seed):
    return np.asarray(orders.subset(_sample_key(seed), pool_size(dataset), examples))

  @functools.lru_cache(maxsize=1)  # images are large: those of one run, from segment to segment
  def chosen(seed):
    index = positions(seed)
    return {
      "index": index,
      "image": jax.tree.map(np.asarray, _at(dataset.train_image, index)),
      "label": jax.tree.map(np.asarray, _at(dataset.train_label, index)),
    }

  def feed(seeds, first, steps):
    del first, steps
    return chosen(int(seeds[_SAMPLE]))

  def init(keys, data):
    del keys, data
    return Held(_nothing((examples,)), *_blanks(dataset, examples))

  def draw(held, keys, data, fed, number, first, places):
    index = fed["index"][places]
    return Drawn(_at(fed["image"], places), noisy(keys, index, _at(fed["label"], places)), index)

  def settle(held, keys, data, fed, step):
    del held, data, step
    return Held(fed["index"], fed["image"], noisy(keys, fed["index"], fed["label"]))

  return Source(init, draw, settle, measured, feed)


def _blanks(dataset, examples):
  """Images and labels of zeros, in the shapes of so many training examples."""
  return jax.tree.map(
    lambda leaf: _nothing((examples, *leaf.shape[1:]), leaf.dtype),
    (dataset.train_image, dataset.train_label),
  )


def _ideal_fed(dataset, noisy, needed, batch_size, measured):
  @functools.lru_cache(maxsize=_LANES)
  def listed(seed):
    return np.asarray(orders.single_pass(_sample_key(seed), pool_size(dataset), needed))

  def feed(seeds, first, steps):
    end = (first + steps) * batch_size
    index = listed(int(seeds[_SAMPLE]))[first * batch_size : end + measured]
    return {
      "index": index,
      "image": jax.tree.map(np.asarray, _at(dataset.train_image, index)),
      "label": jax.tree.map(np.asarray, _at(dataset.train_label, index)),
    }

  def init(keys, data):
    del keys, data
    if not measured:
      return _empty(_nothing())
    return Held(_nothing(), *_blanks(dataset, measured))

  def draw(held, keys, data, fed, number, first, places):
    del held, data
    at = (number - first) * batch_size + places
    label = noisy(keys, fed["index"][at], _at(fed["label"], at))
    return Drawn(_at(fed["image"], at), label, places)

  def settle(held, keys, data, fed, step):
    del data, step
    if not measured:
      return held
    names, last = ("index", "image", "label"), slice(-measured, None)
    index, image, label = (_at(fed[name], last) for name in names)
    return Held(held.index, image, noisy(keys, index, label))

  return Source(init, draw, settle, measured, feed, _FED_STEPS)


def _streamed(config, pool, noisy, examples, batch_size, steps, measured, plan):
  """Of either world: the host draws the order of its batches itself, to read them ahead of time.

  Every segment is fed as much, filled up with zeros: one program, whatever their lengths.
  """
  ideal = config.data.world == "ideal"
  # Where no part is drawn at random, images come as they are tested on.
  canvases = pool.canvas is not None
  held_canvases = canvases and config.evaluation.train_augmented
  _check_share(config, measured, measured * math.prod(_shape(pool, held_canvases)))
  size = math.prod(_shape(pool, canvases))
  longest = max(1, min(_STREAMED // (batch_size * size), _FED_STEPS, steps))
  host = _cpu()

  @functools.lru_cache(maxsize=_LANES)
  def listed(seed):
    draw = orders.single_pass if ideal else orders.subset
    with jax.default_device(host):
      return np.asarray(draw(_key(seed, "sample"), pool.count, examples))

  @functools.lru_cache(maxsize=_LANES)
  def in_epoch(seed, epoch):
    with jax.default_device(host):
      key = _key(seed, "order")
      return np.asarray(
        orders.epoch_order(key, epoch, examples, config.data.order, config.data.window)
      )

  def places_of(seeds, step):
    if ideal:
      return step * batch_size + np.arange(batch_size)
    order = functools.partial(in_epoch, int(seeds[_SEEDS["order"]]))
    return _places(order, examples, batch_size, config.data.last_batch, step)

  def feed(seeds, first, steps):
    index = listed(int(seeds[_SAMPLE]))
    places = np.concatenate([places_of(seeds, step) for step in range(first, first + steps)])
    fed = {"batches": _read(pool, index[places], longest * batch_size, canvases)}
    end = first + steps
    if measured and end in plan:
      start = end * batch_size if ideal else 0
      fed["measured"] = _read(pool, index[start : start + measured], measured, held_canvases)
    elif measured:  # nobody looks at them
      fed["measured"] = _blank(pool, measured, held_canvases)
    return fed

  def held_of(drawn, label):
    return Held(_nothing() if ideal else drawn.index, drawn.image, label)

  def init(keys, data):
    del keys, data
    if not measured:
      return _empty(_nothing())
    drawn = jax.tree.map(jnp.asarray, _blank(pool, measured, held_canvases))
    return held_of(drawn, drawn.label)

  def draw(held, keys, data, fed, number, first, places):
    del held, data
    image, label, index = _at(fed["batches"], (number - first) * batch_size + places)
    return Drawn(image, noisy(keys, index, label), places if ideal else index)

  def settle(held, keys, data, fed, step):
    del data, step
    if not measured:
      return held
    drawn = fed["measured"]
    return held_of(drawn, noisy(keys, drawn.index, drawn.label))

  return Source(init, draw, settle, measured, feed, longest)


def _check_share(config, measured, size):
  """Raises UserError where the examples to measure on take too many bytes of every run."""
  if size > _LARGEST_SHARE:
    raise UserError(
      f"evaluation.train measures {measured:,} examples of {config.data.name},"
      f" {size / 2**30:.1f} GiB of images in every run, {_LARGEST_SHARE / 2**30:.0f} GiB at most:"
      " set evaluation.train_examples lower"
    )


def _cpu() -> jax.Device:
  """The device that draws orders: an accelerator would do it after the segment under way."""
  try:
    return jax.local_devices(backend="cpu")[0]
  except RuntimeError:
    raise UserError(
      "JAX_PLATFORMS leaves out the CPU, on which data.stream=True draws the order of what it"
      " reads; append ',cpu' to it"
    ) from None


def _places(order, examples, batch_size, last_batch, step):
  """int[B]: on which of the N examples step number `step` trains; `order(epoch)` is int[N]."""
  epoch, within = divmod(step, orders.steps_per_epoch(examples, batch_size, last_batch))
  slots = within * batch_size + np.arange(batch_size)
  return order(epoch)[np.minimum(slots, examples - 1)]


def _shape(pool: Pool, canvases: bool) -> tuple[int, ...]:
  """Of one image of a pool, on its canvas or as it is tested on."""
  return (pool.canvas, pool.canvas, pool.shape[-1]) if canvases else pool.shape


def _read(pool: Pool, index: np.ndarray, count: int, canvases: bool) -> Drawn:
  """What a pool has of the examples `index`, filled up with zeros to `count`."""
  found = (pool.read_canvases if canvases else pool.read)(index)
  index, image, size, label = (
    np.concatenate([array, np.zeros((count - len(array), *array.shape[1:]), array.dtype)])
    for array in (index, *found)
  )
  return Drawn(crops.Canvas(image, size) if canvases else image, label, index)


def _blank(pool: Pool, count: int, canvases: bool) -> Drawn:
  """`count` black images of class 0."""
  image = np.zeros((count, *_shape(pool, canvases)), np.uint8)
  label = np.zeros(count, np.int32)
  if canvases:
    image = crops.Canvas(image, np.ones((count, 2), np.int32))
  return Drawn(image, label, label)


_SEEDS = {name: number for number, name in enumerate(STREAMS)}
_SAMPLE = _SEEDS["sample"]


def _sample_key(seed: int) -> jax.Array:
  return _key(seed, "sample")


def _key(seed: int, stream: str) -> jax.Array:
  return getattr(streams.derive(jnp.full(len(STREAMS), seed, jnp.uint32)), stream)
