"""The optimizer and its schedule, from optax."""

import jax
import jax.numpy as jnp
import optax

from seedlab.config import Optimizer, Probe
from seedlab.errors import UserError

_EXPONENTIAL_END = 1e-3  # of the peak, at the last step
_NO_PROBE = Probe()
_SHORTEST_CYCLE = 4  # steps that leave one for the rise


def schedule(optimizer: Optimizer, steps: int, epoch_steps: int = 1) -> optax.Schedule:
  """Learning rate by step: warm-up from 0, then constant or falling to 0.

  "linear" and "cosine" are at 0 after the last step. "warmup_cosine" is the
  schedule of Geiping et al. (2022, arXiv 2109.14119): with peak eta, warm-up w and
  period T, in step k

    eta k / w                                for k <= w
    eta (1 + cos(pi (k - w - 1) / T)) / 2    above, and 0 from k - w - 1 = T on

  so the peak is held for two steps, and a T above steps - w cuts the cosine off.

  Nakkiran et al. (2021, arXiv 2010.08127) publish "cosine" with `hold_steps` = 390,
  and in their code "exponential" (to a thousandth), "three_step" (a tenth after each
  third) and "onecycle" (Smith & Topin 2018: a rise over 30 % of the steps from a 25th
  of the peak, then a fall to a 250,000th of it; both cosines).

  "picard" is that of Picard (2021, arXiv 2109.08203), in epochs e whatever the length of
  the run: eta (e / 6 + 0.01) for e < 4, eta ((22 - e) / 38 + 0.01) up to 22, then eta / 100;
  the highest rate is 0.51 eta, in epoch 3. "whole_cosine", of Summers & Dinneen (2021,
  arXiv 2103.04514), has eta (1 + cos(pi k / steps)) / 2, but eta k / w for k < w.

  Args:
    optimizer: peak, warm-up, period and form.
    steps: of the whole training.
    epoch_steps: of an epoch; with `optimizer.per_epoch` the schedule counts
      epochs for steps, k = step // epoch_steps, its warm-up and period likewise.

  Raises:
    UserError: if the warm-up takes the whole training.
  """
  if optimizer.hold_steps > 1:
    changing, hold = _by_count(optimizer, steps, "steps"), optimizer.hold_steps
    return lambda step: changing(step // hold * hold)
  if optimizer.per_epoch:
    by_epoch = _by_count(optimizer, -(-steps // epoch_steps), "epochs")
    return lambda step: by_epoch(step // epoch_steps)
  return _by_count(optimizer, steps, "steps")


def _by_count(optimizer: Optimizer, steps: int, unit: str) -> optax.Schedule:
  peak, warmup = optimizer.learning_rate, optimizer.warmup_steps
  if warmup >= steps:
    raise UserError(f"optimizer.warmup_steps={warmup} must be below the number of {unit}, {steps}")
  rest = steps - warmup
  if optimizer.schedule == "onecycle" and rest < _SHORTEST_CYCLE:
    raise UserError(
      f"optimizer.schedule='onecycle' needs {_SHORTEST_CYCLE} {unit} or more after the warm-up, not"
      f" {rest}; take 'linear'"
    )
  after = {
    "constant": lambda: optax.constant_schedule(peak),
    "linear": lambda: optax.linear_schedule(peak, 0.0, rest),
    "cosine": lambda: _falling(peak, optimizer.end, rest),
    "warmup_cosine": lambda: _cosine(peak, optimizer.period or steps),
    "exponential": lambda: optax.exponential_decay(peak, rest, _EXPONENTIAL_END),
    "three_step": lambda: optax.piecewise_constant_schedule(
      peak, {-(-rest * third // 3): 0.1 for third in (1, 2)}
    ),
    "onecycle": lambda: optax.cosine_onecycle_schedule(rest, peak),
    "picard": lambda: _picard(peak),
    "whole_cosine": lambda: optax.cosine_decay_schedule(peak, steps),
  }[optimizer.schedule]()
  if optimizer.schedule == "warmup_cosine":
    rising = optax.linear_schedule(0.0, peak, warmup) if warmup else optax.constant_schedule(peak)
    return optax.join_schedules([rising, after], [warmup + 1])
  if not warmup:
    return after
  if optimizer.schedule == "whole_cosine":
    return lambda count: jnp.where(count < warmup, peak * count / warmup, after(count))
  return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), after], [warmup])


def _falling(peak: float, end: float, steps: int) -> optax.Schedule:
  return optax.cosine_decay_schedule(peak, steps, end / peak if peak else 0.0)


def staged(optimizer: Optimizer, probe: Probe, steps: int, epoch_steps: int = 1) -> optax.Schedule:
  """The rate of a training whose first `probe.steps` steps are another stage.

    end + (eta - end) (1 + cos(pi k / period)) / 2   for k < probe.steps, k held
    schedule(k - probe.steps)                        after them, over the steps that are left

  Raises:
    UserError: if the first stage takes the whole training.
  """
  if not probe.steps:
    return schedule(optimizer, steps, epoch_steps)
  if probe.steps >= steps:
    raise UserError(f"probe.steps={probe.steps} must be below the {steps} steps of the training")
  first = _falling(probe.learning_rate, probe.end, probe.period or probe.steps)
  then = schedule(optimizer, steps - probe.steps, epoch_steps)
  hold = probe.hold_steps
  return lambda k: jnp.where(
    k < probe.steps, first(k // hold * hold), then(jnp.maximum(k - probe.steps, 0))
  )


def _cosine(peak: float, period: int) -> optax.Schedule:
  return lambda count: peak / 2 * (1 + jnp.cos(jnp.pi * jnp.clip(count / period, 0, 1)))


def _picard(peak: float) -> optax.Schedule:
  def rate(epoch):
    falling = jnp.maximum(22 - epoch, 0) / 38
    return peak * (jnp.where(epoch < 4, epoch / 6, falling) + 0.01)

  return rate


def build(
  optimizer: Optimizer, steps: int, epoch_steps: int = 1, probe: Probe = _NO_PROBE
) -> optax.GradientTransformation:
  """The update rule by name, with the constants that PyTorch has by default.

    sgd      v = momentum v + g;  p -= lr (v, or g + momentum v)
    adam     b1 0.9, b2 0.999, eps 1e-8 (Kingma & Ba 2015)
    rmsprop  v = 0.99 v + 0.01 g^2;  p -= lr g / (sqrt v + 1e-8)
    adagrad  v += g^2;  p -= lr g / sqrt(v + 1e-10), which PyTorch writes with eps outside the root

  Weight decay is coupled: g += decay p comes first, for every parameter, and
  enters the momentum. The learning rate multiplies last, so a change of it acts at
  once (Sutskever et al. 2013 fold it into v instead). `optimizer.bias_factor` multiplies it
  for parameters whose names are "bias" or "scale" (of a norm).
  """
  rate = staged(optimizer, probe, steps, epoch_steps)
  rule = {
    "sgd": lambda: optax.sgd(rate, optimizer.momentum or None, optimizer.nesterov),
    "adam": lambda: optax.adam(rate),
    "rmsprop": lambda: optax.rmsprop(rate, decay=0.99, eps=1e-8, eps_in_sqrt=False),
    "adagrad": lambda: optax.adagrad(rate, initial_accumulator_value=0.0, eps=1e-10),
  }[optimizer.name]()
  if optimizer.bias_factor != 1:
    rule = optax.chain(rule, optax.masked(optax.scale(optimizer.bias_factor), _are_biases))
  if not optimizer.weight_decay:
    return rule
  return optax.chain(optax.add_decayed_weights(optimizer.weight_decay), rule)


def _are_biases(params):
  """The tree of `params`, True for biases and scales."""
  return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key in ("bias", "scale"), params)
