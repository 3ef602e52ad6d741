"""How the gradient of one update is formed: blocks, penalty, mean, clipping, noise.

for each block of `gradient.block_size` examples
  g = gradient of the block's mean loss, batch norm by the block's own statistics
  g += rate/4 alpha H g                  the penalty; H g is a difference of gradients
G = mean of g over the blocks            sums, divided once by the number of examples
G = c G / (||G|| + 1e-6) if ||G|| > c    clipping
G = G with noise
then, in the optimizer: weight decay, momentum

This is the order of the public code of Geiping et al. (2022, arXiv 2109.14119,
"Stochastic Training is Not Necessary for Generalization"). A minibatch is an
update of one block, or of several where `gradient.block_size` is set; a full batch
is one of all blocks of the pool. Blocks are gathered one by one, so memory does
not grow with the update.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import flatten_util, lax

from seedlab import streams
from seedlab.config import Gradient
from seedlab.errors import UserError

Tree = Any

_TINY = 1e-6  # in the denominator of clipping, as PyTorch has it


class Block(NamedTuple):
  """The examples that share a forward pass."""

  image: Any  # float[B, H, W, C], normalised and augmented; rows int32[B, F]; or a tree of arrays
  label: Any  # int32[B], or a tree of targets
  mask: jax.Array | None  # bool[B], False for padding; None means all real
  key: jax.Array | None = None  # of dropout
  target: jax.Array | None = None  # float32[B, K], what a teacher says
  probing: jax.Array | None = None  # bool: whether the last layer alone is trained yet


class Formed(NamedTuple):
  """What the examples of an update say."""

  gradient: Tree  # like the parameters
  loss: jax.Array  # float32, unpenalised, averaged with the gradient's weights
  batch_stats: Tree
  # float32: what the block weighs, where that is not the number of its real examples
  weight: jax.Array | None = None


# (params, batch_stats, block) -> (mean loss of the block's real examples, (new batch_stats, the
# weight of that mean, or None))
Loss = Callable[[Tree, Tree, Block], tuple[jax.Array, tuple[Tree, jax.Array | None]]]


def blocks(gradient: Gradient, examples: int) -> tuple[int, int]:
  """(number, size) of the blocks of an update of `examples` examples.

  Raises:
    UserError: if a block is larger than the update, under last_block="error" if blocks do not
      divide it, and if one block is to be weighed.
  """
  size = gradient.block_size or examples
  if size > examples:
    raise UserError(
      f"gradient.block_size={size} is more than the {examples} examples of an update; make it"
      " smaller, or leave it empty for one block"
    )
  if size == examples and gradient.accumulation != "mean":
    raise UserError(
      f"gradient.accumulation={gradient.accumulation!r} weighs the blocks of an update, and"
      f" gradient.block_size={size} makes one of its {examples} examples: leave it at 'mean', or"
      " make the blocks smaller"
    )
  whole, rest = divmod(examples, size)
  if rest and gradient.last_block == "error":
    raise UserError(
      f"gradient.block_size={size} does not divide the {examples} examples of an update:"
      f" {rest} would be left over; set gradient.last_block to 'drop' or 'keep' them, or another"
      " size"
    )
  return whole + (rest > 0 and gradient.last_block == "keep"), size


def of_block(
  loss: Loss,
  gradient: Gradient,
  params: Tree,
  batch_stats: Tree,
  block: Block,
  rate: jax.Array | None = None,
) -> Formed:
  """The gradient of one block's mean loss L, penalised by its norm.

  With alpha = `gradient.penalty`, the learning rate of the step and probe =
  `gradient.penalty_probe`,

    v = alpha grad L(theta),  eps = probe / ||v||
    forward   g + rate/4 (grad L(theta + eps v) - g) / eps
    central   g + rate/4 (grad L(theta + eps v / 2) - grad L(theta - eps v / 2)) / eps
    exact     g + rate/4 H v

  All approximate the gradient of L + (rate alpha / 8) ||grad L||^2. The finite
  differences always span `probe` along g, whatever alpha, at the same (augmented)
  images: from theta on, or as the published code's central one from half of it
  behind to half of it ahead. They cost one and two more gradients, `exact` (by a
  Hessian-vector product) about one and a half. A gradient of zero has a penalty of
  zero.

  Args:
    loss: the loss of a block.
    gradient: `penalty`, `penalty_form`, `penalty_probe`, `penalty_statistics`:
      whether batch norm's running statistics also take in what the finite
      differences' passes saw, at displaced parameters, as in the published code.
    params: theta.
    batch_stats: running statistics before the block.
    block: its examples.
    rate: the learning rate of the step; not read without a penalty.
  """
  if gradient.penalty and gradient.penalty_form == "exact":
    return _exact(loss, gradient, params, batch_stats, block, rate)
  compute = jax.value_and_grad(loss, has_aux=True)
  (value, (batch_stats, weight)), g = compute(params, batch_stats, block)
  if not gradient.penalty:
    return Formed(g, value, batch_stats, weight)

  if not gradient.penalty_statistics and not jax.tree.leaves(batch_stats):
    raise UserError(
      "gradient.penalty_statistics=False is about running statistics, and this network keeps none:"
      " leave it at True"
    )
  norm = gradient.penalty * optax.tree.norm(g)  # of v
  # Both divisions by eps are written as products, so that a norm of 0 divides nothing.
  eps = gradient.penalty_probe / jnp.where(norm > 0, norm, 1)
  inverse = norm / gradient.penalty_probe

  def probe(share, batch_stats):
    displaced = jax.tree.map(lambda p, x: p + share * eps * gradient.penalty * x, params, g)
    (_, (changed, _)), moved = compute(displaced, batch_stats, block)
    return moved, changed if gradient.penalty_statistics else batch_stats

  if gradient.penalty_form == "forward":
    behind = g
    ahead, batch_stats = probe(1, batch_stats)
  else:
    ahead, batch_stats = probe(0.5, batch_stats)
    behind, batch_stats = probe(-0.5, batch_stats)
  factor = rate / 4 * inverse
  penalised = jax.tree.map(lambda x, a, b: x + factor * (a - b), g, ahead, behind)
  return Formed(penalised, value, batch_stats, weight)


def _exact(loss, gradient, params, batch_stats, block, rate):
  def compute(params):
    (value, aux), g = jax.value_and_grad(loss, has_aux=True)(params, batch_stats, block)
    return g, (value, *aux)

  g, hessian_times, (value, changed, weight) = jax.linearize(compute, params, has_aux=True)
  factor = rate / 4 * gradient.penalty
  penalised = jax.tree.map(lambda x, hx: x + factor * hx, g, hessian_times(g))
  return Formed(penalised, value, changed, weight)


def of_update(
  form: Callable[[Tree, Block], Formed],
  gradient: Gradient,
  params: Tree,
  batch_stats: Tree,
  number: int | jax.Array,
  take: Callable[[jax.Array | int], Block],
) -> Formed:
  """The gradients of all blocks of an update, averaged; batch norm's statistics block after block.

  "mean": sums weighted by the blocks' real examples (or by the weights that a loss gives),
  divided once. "legacy": G += (g_b - G) / B for the blocks b = 0, ..., B - 1, the rule
  of the public code of Geiping et al. until 31 January 2023: block b gets the
  weight (1/B) (1 - 1/B)^(B - 1 - b), all of them together 1 - (1 - 1/B)^B, about
  0.632; an incomplete block counts as a full one.

  Args:
    form: (batch_stats, block) -> what the block says, e.g. `of_block` bound.
    gradient: `accumulation`.
    params: for their shapes and dtypes.
    batch_stats: running statistics before the update.
    number: B, at least 1; may be traced, unless it is 1.
    take: number of a block -> its examples.
  """
  if isinstance(number, int) and number == 1:
    return form(batch_stats, take(0))

  def body(b, carry):
    total, weight = carry
    block = take(b)
    new = form(total.batch_stats, block)
    old = (total.gradient, total.loss)
    if gradient.accumulation == "legacy":
      summed = jax.tree.map(lambda old, new: old + (new - old) / number, old, new[:2])
    elif block.mask is None and new.weight is None:
      summed = jax.tree.map(jnp.add, old, new[:2])
      weight += 1
    else:
      size = block.mask.sum().astype(jnp.float32) if new.weight is None else new.weight
      summed = jax.tree.map(lambda old, new: old + size * new, old, new[:2])
      weight += size
    return Formed(*summed, new.batch_stats), weight

  nothing = Formed(jax.tree.map(jnp.zeros_like, params), jnp.float32(0), batch_stats)
  total, weight = lax.fori_loop(0, number, body, (nothing, jnp.float32(0)))
  if gradient.accumulation == "legacy":
    return total
  mean, loss = jax.tree.map(lambda x: x / weight, total[:2])
  return Formed(mean, loss, total.batch_stats)


def add_noise(gradient: Gradient, whole: Tree, key: jax.Array, step: int | jax.Array) -> Tree:
  """The averaged and clipped gradient with noise of each coordinate.

  additive: G + s N(0, 1); multiplicative: G (1 + s N(0, 1)); s = `noise_scale`.

  Args:
    gradient: `noise`, `noise_scale`.
    whole: G.
    key: of the `noise` stream.
    step: its number. One draw serves all parameters, in the order of the tree's
      leaves.
  """
  if gradient.noise == "none":
    return whole
  flat, unravel = flatten_util.ravel_pytree(whole)
  noise = gradient.noise_scale * jax.random.normal(
    streams.at_step(key, step), flat.shape, jnp.float32
  )
  return unravel(flat + noise if gradient.noise == "additive" else flat * (1 + noise))


def clip(gradient: Gradient, whole: Tree) -> Tree:
  """c G / (||G|| + 1e-6) if the norm of G over all parameters is above c = `clip_norm`, else G."""
  if gradient.clip_norm is None:
    return whole
  norm = optax.tree.norm(whole)
  factor = jnp.where(norm > gradient.clip_norm, gradient.clip_norm / (norm + _TINY), 1)
  return jax.tree.map(lambda x: factor * x, whole)


def mean_squared_norm(
  form: Callable[[Tree, Block], Formed],
  batch_stats: Tree,
  number: int,
  take: Callable[[jax.Array | int], Block],
) -> jax.Array:
  """float32: the mean over blocks of ||g_b||^2, the quantity that the penalty lowers.

  Args:
    form: (batch_stats, block) -> what the block says; its new statistics are dropped.
    batch_stats: read by every block alike.
    number: of blocks.
    take: number of a block -> its examples.
  """

  def body(b, total):
    g = form(batch_stats, take(b)).gradient
    return total + sum(jnp.sum(jnp.square(x)) for x in jax.tree.leaves(g))

  return lax.fori_loop(0, number, body, jnp.float32(0)) / number
