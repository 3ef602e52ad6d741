"""The optimizer and its schedule, from optax."""

import optax

from seedlab.config import Optimizer, UserError


def schedule(optimizer: Optimizer, steps: int) -> optax.Schedule:
  """Learning rate by step: warm-up from 0, then constant or falling to 0 at `steps`."""
  peak, warmup = optimizer.learning_rate, optimizer.warmup_steps
  if warmup >= steps:
    raise UserError(f"optimizer.warmup_steps={warmup} must be below the number of steps, {steps}")
  after = {
    "constant": lambda: optax.constant_schedule(peak),
    "linear": lambda: optax.linear_schedule(peak, 0.0, steps - warmup),
    "cosine": lambda: optax.cosine_decay_schedule(peak, steps - warmup),
  }[optimizer.schedule]()
  if not warmup:
    return after
  return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), after], [warmup])


def build(optimizer: Optimizer, steps: int) -> optax.GradientTransformation:
  """SGD as PyTorch defines it: g += decay p; v = momentum v + g; p -= lr (v, or g + momentum v).

  Weight decay is coupled: it enters the momentum, for every parameter. The
  learning rate multiplies last, so a change of it acts at once (Sutskever et al.
  2013 fold it into v instead).
  """
  sgd = optax.sgd(schedule(optimizer, steps), optimizer.momentum or None, optimizer.nesterov)
  if not optimizer.weight_decay:
    return sgd
  return optax.chain(optax.add_decayed_weights(optimizer.weight_decay), sgd)
