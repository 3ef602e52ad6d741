"""One step of a training, and the steps of a segment: plain functions of their arguments.

number of the step -> places of its examples (training/cut.py)
for each block of them: draw, prepare, gradient (training/gradients.py)
clipping, noise, update rule, moving average
"""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from seedlab import streams
from seedlab.config import Data, Gradient, Probe, Training
from seedlab.streams import Keys
from seedlab.training import cut as cuts
from seedlab.training import examples as sources
from seedlab.training import gradients, initial, poke
from seedlab.training.cut import Cut

Tree = Any


class State(NamedTuple):
  """What one run carries from step to step."""

  params: Any
  batch_stats: Any  # what a network keeps that is no parameter; empty without batch norm
  opt_state: optax.OptState
  examples: sources.Held
  measured: jax.Array  # uint32[2], the `augment` key if augmented examples are measured, else [0]
  average: Any = ()  # of the parameters over the steps, where it is evaluated


class Rules(NamedTuple):
  """What decides a step besides the run's state, keys and data; nothing here is traced."""

  cut: Cut
  data: Data
  training: Training
  gradient: Gradient
  probe: Probe
  fresh: tuple[str, ...]  # `model.fresh`
  source: sources.Source
  optimizer: Callable[[jax.Array], optax.GradientTransformation]  # of the `noise` key
  schedule: optax.Schedule | None
  loss: gradients.Loss
  # (image, index, augment key, epoch, data) -> what the network reads
  prepare: Callable[..., Any]
  # Whether a block gets a key, of dropout: one for all of it, or one for each example
  drops: Literal["no", "together", "each"] = "no"
  teacher: Callable[[Tree, Any], jax.Array] | None = None  # (parameters, inputs) -> probabilities


def advance(
  rules: Rules, state: State, keys: Keys, data: Any, fed: Any, first: jax.Array, steps: jax.Array
) -> tuple[State, dict[str, jax.Array]]:
  """The steps first, ..., first + steps - 1, as `Trainer.advance`; `data` is a `Shared`."""
  order = None
  if not (rules.cut.full_batch or rules.cut.listed):
    epoch = first // rules.cut.epoch_steps
    order = cuts.in_order(rules.data, keys, epoch, rules.cut.examples)

  def body(number, carry):
    state, diverged = carry
    state, finite = step(rules, state, number, first, order, keys, data, fed)
    return state, jnp.where((diverged < 0) & ~finite, number, diverged)

  state, diverged = lax.fori_loop(first, first + steps, body, (state, jnp.int32(-1)))
  held = rules.source.settle(state.examples, keys, data.dataset, fed, first + steps)
  return state._replace(examples=held), {"diverged": diverged}


def step(
  rules: Rules,
  state: State,
  number: jax.Array,
  first: jax.Array,
  order: jax.Array | None,
  keys: Keys,
  shared: Any,
  fed: Any,
) -> tuple[State, jax.Array]:
  """(the state after step `number`, whether its loss and parameters are finite).

  Args:
    rules: what does not change.
    state: before the step.
    number: int32, of the step.
    first: int32, of the segment it belongs to, which `fed` begins with.
    order: int32[N], of the epoch.
    keys: of the run.
    shared: data and teacher.
    fed: what the host sent with the segment.
  """
  cut = rules.cut
  params = poke.move(rules.training, state.params, keys.poke, number)
  probing = number < rules.probe.steps if rules.probe.steps else None
  epoch = number if rules.data.world == "ideal" else number // cut.epoch_steps
  places, real = cuts.of_step(cut, rules.data, keys, number, epoch, order)
  seen = (state.examples, keys, shared, fed, number, first, epoch, places, real, probing)
  take = functools.partial(take_block, rules, *seen)
  rate = rules.schedule(number) if rules.gradient.penalty else None
  formed = gradients.of_update(
    lambda batch_stats, block: gradients.of_block(
      rules.loss, rules.gradient, params, batch_stats, block, rate
    ),
    rules.gradient,
    params,
    state.batch_stats,
    cuts.blocks_of_step(cut, real),
    take,
  )
  params, opt_state = descend(
    rules, formed.gradient, params, state.opt_state, keys, number, probing, formed.loss
  )
  finite = jnp.isfinite(formed.loss) & is_finite(params)
  state = state._replace(params=params, batch_stats=formed.batch_stats, opt_state=opt_state)
  if rules.training.average:
    state = state._replace(average=averaged(rules.training.average, params, state.average, number))
  return state, finite


def take_block(
  rules: Rules, held, keys: Keys, shared, fed, number, first, epoch, places, real, probing, block
) -> gradients.Block:
  """The examples of one block of a step, as the loss reads them."""
  cut = rules.cut
  chosen, mask = cuts.of_block(cut, places, real, block)
  copy = epoch
  if cut.copies:
    copy = chosen // cut.examples if cut.full_batch else epoch % cut.copies
    chosen = chosen % cut.examples
  drawn = rules.source.draw(held, keys, shared.dataset, fed, number, first, chosen)
  dropout = None
  if rules.drops != "no":
    branch = streams.at_step(keys.noise, streams.DROPOUT)
    if rules.drops == "together":
      dropout = streams.at_step(streams.at_step(branch, number), block)
    else:
      dropout = streams.for_examples(branch, number, drawn.index)
  inputs = rules.prepare(drawn.image, drawn.index, keys.augment, copy, shared.dataset)
  target = rules.teacher(shared.teacher, inputs) if rules.teacher else None
  mask = mask if cut.masked else None
  return gradients.Block(inputs, drawn.label, mask, dropout, target, probing)


def descend(
  rules: Rules,
  whole: Tree,
  params: Tree,
  opt_state: optax.OptState,
  keys: Keys,
  number: jax.Array,
  probing: jax.Array | None,
  value: jax.Array,
) -> tuple[Tree, optax.OptState]:
  """Parameters and optimiser's state after clipping, noise and the update rule.

  While only the last layer is trained, the other parameters have no part in the norm that is
  clipped, and their updates are zero.
  """
  if rules.probe.steps:
    whole = initial.of_fresh(whole, rules.fresh, probing)
  whole = gradients.clip(rules.gradient, whole)
  whole = gradients.add_noise(rules.gradient, whole, keys.noise, number)
  if rules.probe.steps:
    opt_state = _started_anew(opt_state, number == rules.probe.steps)
  # Some rules of optax read the loss; of the others it is left out of the program.
  updates, opt_state = rules.optimizer(keys.noise).update(whole, opt_state, params, value=value)
  if rules.probe.steps:
    updates = initial.of_fresh(updates, rules.fresh, probing)
  return optax.apply_updates(params, updates), opt_state


def averaged(decay: float, params: Tree, average: Tree, number: jax.Array) -> Tree:
  """The moving average of the parameters after step `number`.

  Short of `decay` at first, or the average would stay near the initial parameters.
  """
  decay = jnp.minimum(decay, (1 + number) / (10 + number))
  return optax.incremental_update(params, average, 1 - decay)


def is_finite(params: Tree) -> jax.Array:
  """Whether all parameters are: bool. Summed in float32, since float16 sums may be infinite."""
  return jnp.isfinite(optax.tree.sum(optax.tree.cast(params, jnp.float32)))


def _started_anew(opt_state: optax.OptState, now: jax.Array) -> optax.OptState:
  """The momentum set to zero if it is `now`; the count of steps goes on."""
  return jax.tree.map(
    lambda leaf: jnp.where(now, 0, leaf) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf,
    opt_state,
  )
