"""What is descended: the mean loss of a block of examples, as functions of plain arguments.

  one network    the mean loss of the block, or what a teacher says mixed into its labels
  one by one     a loss that calls the network itself, with an example and a key of its own
  two networks   co-distillation: each also towards what the other one says
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from seedlab import streams
from seedlab.errors import UserError
from seedlab.training import losses
from seedlab.training.gradients import Block

Tree = Any


class Inputs(NamedTuple):
  """What a network reads where its call takes several arguments."""

  arguments: tuple[Any, ...]

  @classmethod
  def of(cls, inputs: Any) -> tuple[Any, ...]:
    """The arguments of a call: several, or `inputs` alone."""
    return inputs.arguments if isinstance(inputs, cls) else (inputs,)


class Network(NamedTuple):
  """What is trained, whatever library it was written in.

  Attributes:
    init: (key, inputs) -> (parameters, state): `inputs` is a batch (a tree of arrays, or `Inputs`
      where a call takes several), of which only shapes matter;
      the state holds what is no parameter, e.g. running statistics, and may be empty.
    apply: (parameters, state, inputs, train, mask, key) -> (outputs, state): `train` is a Python
      bool; mask bool[B] or None, False for examples that are padding; `key` is for dropout, or
      None. In evaluation the state comes back unchanged.
  """

  init: Callable[..., tuple[Tree, Tree]]
  apply: Callable[..., tuple[Any, Tree]]


def of_one(
  network: Network,
  values: Callable[[Any, Block], Any],
  factor: float,
  probe_factor: float,
  params: Tree,
  state: Tree,
  block: Block,
) -> tuple[jax.Array, tuple[Tree, jax.Array | None]]:
  """(the mean loss of a block times a factor, (the network's new state, the mean's weight)).

  Args:
    network: what is trained.
    values: (outputs, block) -> one loss per example, or (losses, weights).
    factor: of the mean; `probe_factor` instead while only the last layer is trained.
    params, state: the network's.
    block: examples.
  """
  outputs, changed = network.apply(params, state, block.image, True, block.mask, block.key)
  mean, weight = _descended(values(outputs, block), factor, probe_factor, block)
  return mean, (changed, weight)


def of_two(
  network: Network,
  values: Callable[[jax.Array, Block], jax.Array],
  weight: float,
  factor: float,
  probe_factor: float,
  params: dict[str, Tree],
  state: dict[str, Tree],
  block: Block,
) -> tuple[jax.Array, tuple[Tree, jax.Array | None]]:
  """The same for two networks that are trained together: {"run": ..., "peer": ...}.

  Each also descends `weight` times the cross-entropy towards the probabilities of the other, which
  are held fixed (co-distillation, Anil et al. 2018, arXiv 1804.03235).
  """
  found = {}
  for number, name in enumerate(params):
    key = None if block.key is None else streams.at_step(block.key, number)
    found[name] = network.apply(params[name], state[name], block.image, True, block.mask, key)
  (ours, _), (its, _) = found["run"], found["peer"]
  said = [lax.stop_gradient(jax.nn.softmax(logits)) for logits in (its, ours)]
  summed = sum(
    values(logits, block) + weight * losses.towards(logits, other)
    for logits, other in zip((ours, its), said, strict=True)
  )
  changed = {name: new for name, (_, new) in found.items()}
  mean, weight = _descended(summed, factor, probe_factor, block)
  return mean, (changed, weight)


def of_each(
  network: Network,
  loss: Callable[..., Any],
  factor: float,
  params: Tree,
  state: Tree,
  block: Block,
) -> tuple[jax.Array, tuple[Tree, jax.Array | None]]:
  """As `of_one`, for a loss (apply, example, key) that sees one example at a time.

  Args:
    network: without a state of its own.
    loss: see `each`.
    factor: of the mean.
    params, state: the network's.
    block: examples (images, labels), with one key for each.
  """
  values = each(network, loss, params, state, (block.image, block.label), block.key, True)
  mean, weight = _descended(values, factor, factor, block)
  return mean, (state, weight)


def each(
  network: Network, loss: Callable[..., Any], params: Tree, state: Tree, examples, keys, train: bool
) -> Any:
  """What `loss` (or a metric) says of each example, [B], or (sums [B], weights [B]).

  Args:
    loss: (apply, example, key) -> a number, or (number, weight); `apply(*inputs)` is the network
      on one example's inputs, without the axis of examples.
    examples: a tree of arrays [B, ...].
    keys: typed keys [B], one for each example.
    train: whether the network is trained, or evaluated.
  """

  def one(example, key):
    dropout = streams.at_step(key, streams.DROPOUT) if train else None

    def apply(*inputs):
      batch = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], inputs)
      batch = Inputs(batch) if len(batch) != 1 else batch[0]
      outputs, _ = network.apply(params, state, batch, train, None, dropout)
      return jax.tree.map(lambda leaf: leaf[0], outputs)

    values = loss(apply, example, key)
    for value in values if isinstance(values, tuple) else (values,):
      if jnp.shape(value):
        raise UserError(
          f"the loss returned an array of shape {jnp.shape(value)} for one example; it must return"
          " a number, or a pair (sum, weight)"
        )
    return values

  return jax.vmap(one)(examples, keys)


def by_labels(
  smoothing: float,
  probe_smoothing: float,
  share: float,
  classes: int,
  logits: jax.Array,
  block: Block,
) -> jax.Array:
  """Softmax cross-entropy of each example, float32[B].

  Towards labels smoothed by `smoothing` (by `probe_smoothing` while only the last layer is
  trained), of which `share` is replaced by what a teacher says.
  """
  if block.probing is not None:
    smoothing = jnp.where(block.probing, probe_smoothing, smoothing)
    return losses.towards(logits, losses.smoothed(block.label, classes, smoothing))
  if block.target is None:
    return losses.cross_entropy(logits, block.label, smoothing)
  hard = losses.smoothed(block.label, classes, smoothing)
  return losses.towards(logits, (1 - share) * hard + share * block.target)


def by_loss(
  loss: Callable[[Any, Any], Any], outputs: Any, block: Block, what: str = "the loss"
) -> Any:
  """What a loss (or `what` else) says of each example: [B], or (sums [B], weights [B])."""
  values = loss(outputs, block.label)
  examples = jax.tree.leaves((block.label, block.image))[0].shape[0]
  for found in values if isinstance(values, tuple) else (values,):
    if jnp.shape(found) != (examples,):
      raise UserError(
        f"{what} returned an array of shape {jnp.shape(found)} for {examples} examples; it must"
        f" return one number for each, shape ({examples},), or a pair of such (sums, weights)"
      )
  return values


def teachers_view(network: Network, teacher: Tree, image: jax.Array) -> jax.Array:
  """float32[B, K]: the class probabilities of a network with the parameters `teacher`."""
  return jax.nn.softmax(network.apply(teacher, {}, image, False, None, None)[0])


def _descended(values: Any, factor: float, probe_factor: float, block: Block):
  """(the mean of the losses times its factor, the weight of the mean)."""
  mean, weight = losses.masked_mean(values, block.mask)
  if block.probing is not None:
    return jnp.where(block.probing, probe_factor, factor) * mean, weight
  return mean if factor == 1 else factor * mean, weight
