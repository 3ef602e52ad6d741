"""Update rules: what a config's section `optimizer` can name, beside those of optax.

Ours have the constants of PyTorch's defaults, and a weight decay that is coupled: g += decay p
comes first, for every parameter, and enters the momentum. The learning rate multiplies last, so a
change of it acts at once (Sutskever et al. 2013 fold it into the momentum instead). `bias_factor`
multiplies it for parameters whose names are "bias" or "scale" (of a norm).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from seedlab import parts, streams
from seedlab.config import Optimizer, Probe, Schedule
from seedlab.errors import UserError
from seedlab.training import schedules

__all__ = ("adagrad", "adam", "rmsprop", "sgd")

Rate = optax.Schedule | float
_NO_PROBE = Probe()
# Of optax: what they need that a training step does not have.
_UNFIT = {
  "lbfgs": "the loss as a function, for its line search",
  "polyak_sgd": "a lower bound of the loss that holds for minibatches",
  "lookahead": "parameters in pairs, fast and slow",
  "sophia": "the loss as a function, for its curvature",
  "dpsgd": "the gradient of each example alone",
  "differentially_private_aggregate": "the gradient of each example alone",
}


def sgd(
  *,
  learning_rate: Rate,
  momentum: float = 0.9,
  nesterov: bool = False,
  weight_decay: float = 0.0,
  bias_factor: float = 1.0,
) -> optax.GradientTransformation:
  """v = momentum v + g;  p -= lr (v, or g + momentum v with `nesterov`)."""
  if momentum < 0:
    raise UserError(f"optimizer.momentum={momentum!r} must be at least 0")
  rule = optax.sgd(learning_rate, momentum or None, nesterov)
  return _with_decay(rule, weight_decay, bias_factor)


def adam(
  *,
  learning_rate: Rate,
  weight_decay: float = 0.0,
  bias_factor: float = 1.0,
) -> optax.GradientTransformation:
  """b1 0.9, b2 0.999, eps 1e-8 (Kingma & Ba 2015); `optax:adam` has them as options."""
  return _with_decay(optax.adam(learning_rate), weight_decay, bias_factor)


def rmsprop(
  *,
  learning_rate: Rate,
  weight_decay: float = 0.0,
  bias_factor: float = 1.0,
) -> optax.GradientTransformation:
  """v = 0.99 v + 0.01 g^2;  p -= lr g / (sqrt v + 1e-8)."""
  rule = optax.rmsprop(learning_rate, decay=0.99, eps=1e-8, eps_in_sqrt=False)
  return _with_decay(rule, weight_decay, bias_factor)


def adagrad(
  *,
  learning_rate: Rate,
  weight_decay: float = 0.0,
  bias_factor: float = 1.0,
) -> optax.GradientTransformation:
  """v += g^2;  p -= lr g / sqrt(v + 1e-10), which PyTorch writes with eps outside the root."""
  rule = optax.adagrad(learning_rate, initial_accumulator_value=0.0, eps=1e-10)
  return _with_decay(rule, weight_decay, bias_factor)


def build(
  optimizer: Optimizer,
  schedule: Schedule | None,
  steps: int,
  epoch_steps: int = 1,
  probe: Probe = _NO_PROBE,
) -> Callable[[jax.Array], optax.GradientTransformation]:
  """(key of the `noise` stream) -> the update rule of a config; most rules read no key.

  Raises:
    UserError: a rule that needs more than parameters, gradient and loss, what is no rule, or what
      the rule says of its options.
  """
  name = optimizer.name.rpartition(":")[2].rpartition(".")[2]
  if name in _UNFIT and optimizer.name not in __all__:
    raise UserError(
      f"optimizer.name={optimizer.name!r} needs {_UNFIT[name]}, which a training step here does not"
      " have; take another one, or seedlab.from_train_step"
    )
  rate = staged(optimizer, schedule, probe, steps, epoch_steps) if schedule else None

  def rule(key: jax.Array) -> optax.GradientTransformation:
    facts = {"learning_rate": rate, "steps": steps, "key": key}
    made = parts.bind("optimizer", optimizer.name, dict(optimizer.options), facts)
    return as_rule(made, f"optimizer.name={optimizer.name!r}")

  rule(jax.random.key(0, impl=streams.IMPLEMENTATION))  # refuses now, and not in a traced program
  return rule


def as_rule(made: Any, what: str) -> optax.GradientTransformationExtraArgs:
  """A gradient transformation that takes, and may ignore, the value of the loss."""
  if not (hasattr(made, "init") and hasattr(made, "update")):
    raise UserError(
      f"{what} must be an optax gradient transformation, or return one, not a {type(made).__name__}"
    )
  return optax.with_extra_args_support(made)


def evaluated_params(params: Any, opt_state: Any) -> Any:
  """The parameters that are evaluated: those of the optimizer's own average, where it has one.

  Schedule-free rules train at one point and are evaluated at another (Defazio et al. 2024,
  arXiv 2405.15682).
  """
  if isinstance(opt_state, optax.contrib.ScheduleFreeState):
    return optax.contrib.schedule_free_eval_params(opt_state, params)
  return params


def staged(
  optimizer: Optimizer, schedule: Schedule, probe: Probe, steps: int, epoch_steps: int = 1
) -> optax.Schedule:
  """The rate of a training whose first `probe.steps` steps are another stage.

    end + (eta - end) (1 + cos(pi k / period)) / 2   for k < probe.steps, k held
    schedule(k - probe.steps)                        after them, over the steps that are left

  Raises:
    UserError: if the first stage takes the whole training.
  """
  if not probe.steps:
    return schedules.of_section(schedule, optimizer.learning_rate, steps, epoch_steps)
  if probe.steps >= steps:
    raise UserError(f"probe.steps={probe.steps} must be below the {steps} steps of the training")
  first = schedules.falling(probe.learning_rate, probe.end, probe.period or probe.steps)
  left = steps - probe.steps
  then = schedules.of_section(schedule, optimizer.learning_rate, left, epoch_steps)
  hold = probe.hold_steps
  return lambda k: jnp.where(
    k < probe.steps, first(k // hold * hold), then(jnp.maximum(k - probe.steps, 0))
  )


def _with_decay(rule: optax.GradientTransformation, decay: float, bias_factor: float):
  for option, value in (("weight_decay", decay), ("bias_factor", bias_factor)):
    if value < 0:
      raise UserError(f"optimizer.{option}={value!r} must be at least 0")
  if bias_factor != 1:
    rule = optax.chain(rule, optax.masked(optax.scale(bias_factor), _are_biases))
  return optax.chain(optax.add_decayed_weights(decay), rule) if decay else rule


def _are_biases(params):
  """The tree of `params`, True for biases and scales."""

  def is_bias(path, _):
    return jax.tree_util.keystr(path[-1:], simple=True) in ("bias", "scale")

  found = jax.tree_util.tree_map_with_path(is_bias, params)
  if not any(jax.tree.leaves(found)):
    raise UserError(
      "optimizer.bias_factor multiplies the learning rate of parameters called 'bias' or 'scale',"
      " and this network has none: leave it at 1.0"
    )
  return found
