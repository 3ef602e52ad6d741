"""The optimizer and its schedule, from optax."""

import jax.numpy as jnp
import optax

from seedlab.config import Optimizer, UserError


def schedule(optimizer: Optimizer, steps: int, epoch_steps: int = 1) -> optax.Schedule:
  """Learning rate by step: warm-up from 0, then constant or falling to 0.

  "linear" and "cosine" are at 0 after the last step. "warmup_cosine" is the
  schedule of Geiping et al. (2022, arXiv 2109.14119): with peak eta, warm-up w and
  period T, in step k

    eta k / w                                for k <= w
    eta (1 + cos(pi (k - w - 1) / T)) / 2    above, and 0 from k - w - 1 = T on

  so the peak is held for two steps, and a T above steps - w cuts the cosine off.

  Args:
    optimizer: peak, warm-up, period and form.
    steps: of the whole training.
    epoch_steps: of an epoch; with `optimizer.per_epoch` the schedule counts
      epochs for steps, k = step // epoch_steps, its warm-up and period likewise.

  Raises:
    UserError: if the warm-up takes the whole training.
  """
  if optimizer.per_epoch:
    by_epoch = _by_count(optimizer, -(-steps // epoch_steps), "epochs")
    return lambda step: by_epoch(step // epoch_steps)
  return _by_count(optimizer, steps, "steps")


def _by_count(optimizer: Optimizer, steps: int, unit: str) -> optax.Schedule:
  peak, warmup = optimizer.learning_rate, optimizer.warmup_steps
  if warmup >= steps:
    raise UserError(f"optimizer.warmup_steps={warmup} must be below the number of {unit}, {steps}")
  after = {
    "constant": lambda: optax.constant_schedule(peak),
    "linear": lambda: optax.linear_schedule(peak, 0.0, steps - warmup),
    "cosine": lambda: optax.cosine_decay_schedule(peak, steps - warmup),
    "warmup_cosine": lambda: _cosine(peak, optimizer.period or steps),
  }[optimizer.schedule]()
  if optimizer.schedule == "warmup_cosine":
    rising = optax.linear_schedule(0.0, peak, warmup) if warmup else optax.constant_schedule(peak)
    return optax.join_schedules([rising, after], [warmup + 1])
  if not warmup:
    return after
  rising = optax.linear_schedule(0.0, peak, warmup)
  if optimizer.schedule == "warmup_cosine":
    return optax.join_schedules([rising, after], [warmup + 1])
  return optax.join_schedules([rising, after], [warmup])


def _cosine(peak: float, period: int) -> optax.Schedule:
  return lambda count: peak / 2 * (1 + jnp.cos(jnp.pi * jnp.clip(count / period, 0, 1)))


def build(optimizer: Optimizer, steps: int, epoch_steps: int = 1) -> optax.GradientTransformation:
  """SGD as PyTorch defines it: g += decay p; v = momentum v + g; p -= lr (v, or g + momentum v).

  Weight decay is coupled: it enters the momentum, for every parameter. The
  learning rate multiplies last, so a change of it acts at once (Sutskever et al.
  2013 fold it into v instead).
  """
  rate = schedule(optimizer, steps, epoch_steps)
  sgd = optax.sgd(rate, optimizer.momentum or None, optimizer.nesterov)
  if not optimizer.weight_decay:
    return sgd
  return optax.chain(optax.add_decayed_weights(optimizer.weight_decay), sgd)
