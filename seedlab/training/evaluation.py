"""What is measured on a network: on the test set, on training examples, on lists and slices."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from seedlab import streams
from seedlab.config import Evaluation, Gradient
from seedlab.data import order as orders
from seedlab.trainer import EVALUATION, Metric
from seedlab.training import examples as sources
from seedlab.training import gradients, losses, objectives, optimizer
from seedlab.training.step import State

LISTED = 10  # films of a list
_SLICE = 0.02  # length of a slice, as a share of the norm of the parameters
_SLICED = 32  # training examples whose loss is sliced: among many a kink of one is lost

_ACCURACY = Metric(better="higher", unit="fraction")
_SOFT_ERROR = Metric(better="lower", unit="fraction")
_LOSS, _AUC = Metric(better="lower", unit="nats"), Metric(better="higher")

# (images or rows as they are stored) -> logits float32[B, K], in evaluation mode
Network = Callable[[jax.Array], jax.Array]


def metrics(
  evaluation: Evaluation, further: Mapping[str, Metric], clicks: bool, lists: bool
) -> dict[str, Metric]:
  """The outcomes that `evaluation` asks for, the headline first; arguments as below."""
  found = {"test_accuracy": _ACCURACY, "test_loss": _LOSS}
  if clicks:
    found = {"test_loss": _LOSS, "test_auc": _AUC, "test_accuracy": _ACCURACY}
  found |= {"test_soft_error": _SOFT_ERROR, "predicted_label": Metric(("example",))}
  if evaluation.train:
    found |= {"train_accuracy": _ACCURACY, "train_loss": _LOSS, "train_soft_error": _SOFT_ERROR}
  if evaluation.gradient_norm:
    found["block_gradient_norm"] = Metric()
  found |= further
  if keeps_probabilities(evaluation):
    at = (EVALUATION,) if evaluation.trajectory else ()
    found["probability"] = Metric((*at, "example") if clicks else (*at, "example", "class"))
  if lists:
    found["best_films"] = Metric(("user", "place"))
  if evaluation.slices:
    found |= {f"slice_{name}": Metric(("point",)) for name in ("loss", "slope", "jump")}
  return found


class Measured(NamedTuple):
  """What decides an evaluation of a classifier besides state and data; nothing here is traced."""

  evaluation: Evaluation
  network: objectives.Network
  prepare: Callable[..., jax.Array]  # as `Rules.prepare`
  loss: gradients.Loss
  values: Callable[..., jax.Array]  # (logits, labels) -> losses [B] that are measured
  metrics: Mapping[str, Callable[..., jax.Array]]  # further ones, likewise
  examples: int  # of the run
  block_size: int  # of the blocks whose gradients are measured
  training_examples: int  # on which `evaluation.train` measures
  clicks: bool  # whether the labels say if something was clicked
  averaged: bool  # whether the average of the parameters is evaluated
  paired: bool  # whether there are two networks, of which the first is evaluated


def of_classifier(measured: Measured, state: State, shared: Any) -> dict[str, jax.Array]:
  """All outcomes of one evaluation, as `Trainer.evaluate`; `shared` is a `training.Shared`."""
  data, evaluation = shared.dataset, measured.evaluation
  variables = evaluated(state, measured.averaged, measured.paired)

  def logits_of(params, inputs):
    return measured.network.apply(params, variables["batch_stats"], inputs, False, None, None)[0]

  def network(inputs):
    return logits_of(variables["params"], inputs).astype(jnp.float32)

  outcome = of_test_set(
    lambda image: network(measured.prepare(image, None, None, None, data)),
    data.test_image,
    data.test_label,
    evaluation,
    measured.values,
    measured.metrics,
    clicks=measured.clicks,
  )
  if evaluation.train:
    outcome |= of_training_examples(
      network,
      lambda places: training_block(measured, state, data, places),
      measured.training_examples,
      evaluation.batch_size,
    )
  if evaluation.gradient_norm:
    outcome["block_gradient_norm"] = gradient_norm(measured, state, data)
  if shared.lists:
    outcome["best_films"] = best_films(network, shared.lists)
  if evaluation.slices:
    places = jnp.arange(min(_SLICED, measured.examples), dtype=jnp.int32)
    image, label, _ = sources.look_up(state.examples, data, places)
    image = measured.prepare(image, None, None, None, data)

    def sliced(params):
      logits = logits_of(params, image)
      return losses.cross_entropy(logits, label).mean()

    outcome |= slices(sliced, variables["params"], evaluation.slices)
  return outcome


def evaluated(state: State, averaged: bool, paired: bool = False) -> dict[str, Any]:
  """What is evaluated: of an average or of two networks the one that would be used."""
  params = state.average if averaged else optimizer.evaluated_params(state.params, state.opt_state)
  chosen = (params, state.batch_stats)
  if paired:
    chosen = (each["run"] for each in chosen)
  return dict(zip(("params", "batch_stats"), chosen, strict=True))


def training_block(
  measured: Measured, state: State, data: Any, places: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """What the network reads of some training examples, and their labels int32[B]."""
  image, label, index = sources.look_up(state.examples, data, places)
  key = None
  if measured.evaluation.train_augmented:
    key = jax.random.wrap_key_data(state.measured, impl=streams.IMPLEMENTATION)
  return measured.prepare(image, index, key, sources.MEASURED, data), label


def gradient_norm(measured: Measured, state: State, data: Any) -> jax.Array:
  """float32: the mean squared norm of the gradients of the training examples' blocks."""
  examples = measured.examples
  size = min(measured.block_size, examples)

  def take(block):
    places, _ = orders.batch(jnp.arange(examples, dtype=jnp.int32), block, size)
    image, label, _ = sources.look_up(state.examples, data, places)
    return gradients.Block(measured.prepare(image, None, None, None, data), label, None)

  def form(batch_stats, block):
    return gradients.of_block(measured.loss, Gradient(), state.params, batch_stats, block)

  return gradients.mean_squared_norm(form, state.batch_stats, examples // size, take)


class Lists(NamedTuple):
  """Users and films whose columns, joined, are rows."""

  users: jax.Array  # int32[U, Fu]
  films: jax.Array  # int32[I, Fi]
  seen: jax.Array  # bool[U, I]: not to be listed


def of_test_set(
  network: Network,
  image: jax.Array,
  labels: jax.Array,
  evaluation: Evaluation,
  values: Callable[..., jax.Array],
  metrics: Mapping[str, Callable[..., jax.Array]],
  clicks: bool,
) -> dict[str, jax.Array]:
  """Outcomes on the whole test set, in blocks so that memory does not grow with it.

  Args:
    network: what is tested.
    image: uint8[M, H, W, C], or rows int32[M, F].
    labels: int32[M].
    evaluation: how many at a time, whether probabilities are kept.
    values, metrics: (logits, labels) -> one number per example, whose means are measured.
    clicks: whether the labels say if something was clicked: then the area under the
      ROC curve is measured too, and of probabilities that of a click is kept.
  """
  logits = _in_blocks(network, image, evaluation.batch_size)
  probability = jax.nn.softmax(logits)
  predicted = logits.argmax(-1)
  chosen = jnp.take_along_axis(probability, labels[:, None], axis=-1)[:, 0]
  examples = labels.shape[0]
  outcome = {
    "test_accuracy": (predicted == labels).sum() / examples,
    "test_loss": values(logits, labels).sum() / examples,
    # 1 - p(y | x): the error of a label sampled from the softmax (Nakkiran et al. 2021).
    "test_soft_error": (1 - chosen).sum() / examples,
    "predicted_label": predicted.astype(jnp.uint8 if logits.shape[-1] <= 256 else jnp.uint16),
  }
  if clicks:
    outcome["test_auc"] = losses.area_under_curve(logits[:, 1] - logits[:, 0], labels)
  for name, metric in metrics.items():
    outcome[name] = metric(logits, labels).sum() / examples
  if keeps_probabilities(evaluation):
    outcome["probability"] = probability[:, 1] if clicks else probability
  return outcome


def keeps_probabilities(evaluation: Evaluation) -> bool:
  return evaluation.probabilities or evaluation.trajectory


def _blocks(examples: int, most: int) -> tuple[int, int]:
  """(number, size) of the blocks that all examples are seen in: as few as may be, and alike.

  1,297 examples by 250 at most are 6 blocks of 224, which overlap by 47, and not 6 of 250. Sizes
  are multiples of 8 where that is no more than `most`, as vector units have them.
  """
  number = -(-examples // most)
  return number, min(most, examples, -(-examples // (8 * number)) * 8)


def _in_blocks(network: Network, image: jax.Array, most: int) -> jax.Array:
  """float32[M, K]: logits, `most` examples at a time."""
  examples = image.shape[0]
  blocks, block = _blocks(examples, most)

  def logits_of_block(number):
    # The last block is moved back to lie inside the set; what overlaps is dropped below.
    start = jnp.minimum(number * block, examples - block)
    return network(lax.dynamic_slice_in_dim(image, start, block))

  if blocks == 1:
    return logits_of_block(0)
  stacked = lax.map(logits_of_block, jnp.arange(blocks, dtype=jnp.int32))
  whole = (blocks - 1) * block
  head = stacked[:-1].reshape(whole, -1)
  return jnp.concatenate([head, stacked[-1, block - (examples - whole) :]])


def of_examples(
  measure: Callable[[Any, jax.Array], tuple[dict[str, Any], dict[str, jax.Array]]],
  examples: Any,
  most: int,
) -> dict[str, jax.Array]:
  """Means over all examples, sums divided once, and what is kept of each example.

  Args:
    measure: (some examples, their numbers int32[b]) -> ({name: values [b], or (sums [b], weights
      [b])}, {name: what is kept of each, [b, ...]}).
    examples: a tree of arrays [M, ...].
    most: so many at a time.
  """
  count = jax.tree.leaves(examples)[0].shape[0]
  blocks, block = _blocks(count, most)

  def of_block(number):
    # The last block is moved back to lie inside the set; what overlaps is left out.
    start = jnp.minimum(number * block, count - block)
    index = start + jnp.arange(block, dtype=jnp.int32)
    part = jax.tree.map(lambda leaf: lax.dynamic_slice_in_dim(leaf, start, block), examples)
    values, kept = measure(part, index)
    new = index >= number * block
    return {name: _summed(one, new) for name, one in values.items()}, kept

  sums, kept = lax.map(of_block, jnp.arange(blocks, dtype=jnp.int32))
  outcome = {name: total.sum() / weight.sum() for name, (total, weight) in sums.items()}
  for name, stacked in kept.items():
    whole = (blocks - 1) * block
    head = stacked[:-1].reshape(whole, *stacked.shape[2:])
    outcome[name] = jnp.concatenate([head, stacked[-1, block - (count - whole) :]])
  return outcome


def _summed(values: Any, counted: jax.Array) -> tuple[jax.Array, jax.Array]:
  """(the sum, its weight) of those that are counted; see `losses.masked_mean` for `values`."""
  parts = values if isinstance(values, tuple) else (values, jnp.ones(counted.shape))
  total, weight = (jnp.where(counted, part, 0).sum(dtype=jnp.float32) for part in parts)
  return total, weight


def of_training_examples(
  network: Network,
  take: Callable[[jax.Array], tuple[jax.Array, jax.Array]],
  examples: int,
  most: int,
) -> dict[str, jax.Array]:
  """Outcomes on the first `examples` training examples, `most` at a time.

  Args:
    network: of examples as `take` gives them.
    take: places int32[B] -> what the network reads, and labels int32[B].
  """
  blocks, block = _blocks(examples, most)

  def body(number, totals):
    places, mask = orders.batch(jnp.arange(examples, dtype=jnp.int32), number, block)
    images, labels = take(places)
    logits = network(images)
    chosen = jnp.take_along_axis(jax.nn.softmax(logits), labels[:, None], axis=-1)[:, 0]
    values = (logits.argmax(-1) == labels, losses.cross_entropy(logits, labels), 1 - chosen)
    return tuple(
      total + jnp.where(mask, value, 0).sum(dtype=total.dtype)
      for total, value in zip(totals, values, strict=True)
    )

  start = (jnp.int32(0), jnp.float32(0), jnp.float32(0))
  right, loss, soft = lax.fori_loop(0, blocks, body, start)
  return {
    "train_accuracy": right / examples,
    "train_loss": loss / examples,
    "train_soft_error": soft / examples,
  }


def best_films(network: Network, lists: Lists) -> jax.Array:
  """int32[U, 10]: the films likeliest to be clicked by each user, best first, those seen left out.

  Equal scores: the smaller number first. Where fewer than ten are left, -1 fills up.
  """

  def of_user(user):
    columns, seen = user
    rows = jnp.concatenate(
      [jnp.broadcast_to(columns, (lists.films.shape[0], columns.shape[0])), lists.films], axis=1
    )
    logits = network(rows)
    score, film = lax.top_k(jnp.where(seen, -jnp.inf, logits[:, 1] - logits[:, 0]), LISTED)
    return jnp.where(score > -jnp.inf, film, -1).astype(jnp.int32)

  return lax.map(of_user, (lists.users, lists.seen))


def slices(loss: Callable, params, points: int) -> dict[str, jax.Array]:
  """The loss along the negative gradient, and how the gradient jumps there.

  At S points t between 0 and 2 % of ||theta||, with u = -grad L(theta) / ||grad L(theta)||:

    slice_loss   L(theta + t u)
    slice_slope  its derivative, grad L(theta + t u) . u
    slice_jump   ||grad L(theta + t u) - that of the point before|| / ||grad L(theta)||, first 0

  A network of ReLUs has a loss with kinks, at which the gradient jumps however close the
  points lie; a smooth one has none, so that jumps shrink with the distance of the points.

  Args:
    loss: parameters -> float32, the mean loss of some examples.
    params: theta.
    points: S, at least 2.
  """
  gradient = jax.grad(loss)
  start = gradient(params)
  norm = _norm(start)
  # Without a gradient there is no direction: the slice then is a point.
  direction = jax.tree.map(lambda g: -g / jnp.where(norm > 0, norm, 1), start)
  length = _SLICE * _norm(params)

  def at(before, t):
    here = jax.tree.map(lambda p, u: p + t * u, params, direction)
    value, g = jax.value_and_grad(loss)(here)
    slope = sum(jnp.vdot(a, b) for a, b in zip(*map(jax.tree.leaves, (g, direction)), strict=True))
    jump = _norm(jax.tree.map(jnp.subtract, g, before)) / jnp.where(norm > 0, norm, 1)
    return g, (value, slope, jump)

  steps = length * jnp.arange(points, dtype=jnp.float32) / (points - 1)
  _, (values, slopes, jumps) = lax.scan(at, start, steps)
  # What two programs make of one gradient may differ in the last bit; there is no jump at first.
  return {
    "slice_loss": values,
    "slice_slope": slopes,
    "slice_jump": jumps.at[0].set(0),
  }


def _norm(tree) -> jax.Array:
  return jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(tree)))
