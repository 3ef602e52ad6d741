"""Learning rates by step: what a config's section `schedule` can name, beside those of optax.

Each is a function of the peak rate and of the number of steps to a function step -> rate. A warm-up
rises linearly from 0 to the peak in the first so many steps; what comes after has the rest.
"""

import jax.numpy as jnp
import optax

from seedlab.config import Schedule
from seedlab.errors import UserError
from seedlab.parts import bind

__all__ = (
  "constant",
  "cosine",
  "exponential",
  "linear",
  "onecycle",
  "picard",
  "three_step",
  "warmup_cosine",
  "whole_cosine",
)

_EXPONENTIAL_END = 1e-3  # of the peak, at the last step
_SHORTEST_CYCLE = 4  # steps that leave one for the rise


def constant(*, learning_rate: float, steps: int, warmup_steps: int = 0) -> optax.Schedule:
  """The peak, always."""
  return _after(
    learning_rate, steps, warmup_steps, lambda rest: optax.constant_schedule(learning_rate)
  )


def linear(*, learning_rate: float, steps: int, warmup_steps: int = 0) -> optax.Schedule:
  """Falls to 0, where it is after the last step."""
  return _after(
    learning_rate, steps, warmup_steps, lambda rest: optax.linear_schedule(learning_rate, 0.0, rest)
  )


def cosine(
  *, learning_rate: float, steps: int, warmup_steps: int = 0, end: float = 0.0
) -> optax.Schedule:
  """A half cosine from the peak to `end`, where it is after the last step."""
  if not 0 <= end <= learning_rate:
    raise UserError(
      f"schedule.end={end!r} must be at least 0 and at most optimizer.learning_rate="
      f"{learning_rate!r}, from which the rate falls to it"
    )
  return _after(learning_rate, steps, warmup_steps, lambda rest: falling(learning_rate, end, rest))


def exponential(*, learning_rate: float, steps: int, warmup_steps: int = 0) -> optax.Schedule:
  """Falls to a thousandth of the peak (code of Nakkiran et al. 2021, arXiv 2010.08127)."""
  return _after(
    learning_rate,
    steps,
    warmup_steps,
    lambda rest: optax.exponential_decay(learning_rate, rest, _EXPONENTIAL_END),
  )


def three_step(*, learning_rate: float, steps: int, warmup_steps: int = 0) -> optax.Schedule:
  """A tenth after each third (code of Nakkiran et al. 2021, arXiv 2010.08127)."""
  return _after(
    learning_rate,
    steps,
    warmup_steps,
    lambda rest: optax.piecewise_constant_schedule(
      learning_rate, {-(-rest * third // 3): 0.1 for third in (1, 2)}
    ),
  )


def onecycle(*, learning_rate: float, steps: int, warmup_steps: int = 0) -> optax.Schedule:
  """A rise over 30 % of the steps from a 25th of the peak, then a fall to a 250,000th of it.

  Both are half cosines (Smith & Topin 2018, arXiv 1708.07120).
  """
  rest = steps - warmup_steps
  if 0 < rest < _SHORTEST_CYCLE:
    raise UserError(
      f"schedule.name='onecycle' needs {_SHORTEST_CYCLE} steps or more after the warm-up, not"
      f" {rest}; take 'linear'"
    )
  return _after(
    learning_rate,
    steps,
    warmup_steps,
    lambda rest: optax.cosine_onecycle_schedule(rest, learning_rate),
  )


def warmup_cosine(
  *, learning_rate: float, steps: int, warmup_steps: int = 0, period: int | None = None
) -> optax.Schedule:
  """The schedule of Geiping et al. (2022, arXiv 2109.14119): peak eta, warm-up w and period T.

    eta k / w                                for k <= w
    eta (1 + cos(pi (k - w - 1) / T)) / 2    above, and 0 from k - w - 1 = T on

  so the peak is held for two steps, and a T above steps - w cuts the cosine off.

  Args:
    period: T; None: all steps.
  """
  if period is not None and period < 1:
    raise UserError(f"schedule.period={period!r} must be at least 1")
  _check_warmup(warmup_steps, steps)
  long = period or steps

  def after(count):
    return learning_rate / 2 * (1 + jnp.cos(jnp.pi * jnp.clip(count / long, 0, 1)))

  rising = optax.constant_schedule(learning_rate)
  if warmup_steps:
    rising = optax.linear_schedule(0.0, learning_rate, warmup_steps)
  return optax.join_schedules([rising, after], [warmup_steps + 1])


def whole_cosine(*, learning_rate: float, steps: int, warmup_steps: int = 0) -> optax.Schedule:
  """eta (1 + cos(pi k / steps)) / 2, but eta k / w for k < w (Summers & Dinneen 2021,
  arXiv 2103.04514)."""
  _check_warmup(warmup_steps, steps)
  after = optax.cosine_decay_schedule(learning_rate, steps)
  if not warmup_steps:
    return after
  return lambda count: jnp.where(
    count < warmup_steps, learning_rate * count / warmup_steps, after(count)
  )


def picard(*, learning_rate: float) -> optax.Schedule:
  """The schedule of Picard (2021, arXiv 2109.08203), in epochs e whatever the length of the run.

  eta (e / 6 + 0.01) for e < 4, eta ((22 - e) / 38 + 0.01) up to 22, then eta / 100; the highest
  rate is 0.51 eta, in epoch 3.
  """

  def rate(epoch):
    after = jnp.maximum(22 - epoch, 0) / 38
    return learning_rate * (jnp.where(epoch < 4, epoch / 6, after) + 0.01)

  return rate


def of_section(
  section: Schedule, learning_rate: float, steps: int, epoch_steps: int = 1
) -> optax.Schedule:
  """The schedule of a config's section.

  Args:
    section: the part, and whether its rate is held for some steps or for an epoch.
    learning_rate: the peak.
    steps: of the whole training.
    epoch_steps: of an epoch; with `per_epoch` the part counts epochs for steps,
      k = step // epoch_steps, its warm-up and period likewise.

  Raises:
    UserError: if the warm-up takes the whole training, and for what the part refuses.
  """
  count = -(-steps // epoch_steps) if section.per_epoch else steps
  facts = {"learning_rate": learning_rate, "steps": count}
  rate = bind("schedule", section.name, dict(section.options), facts)
  if not callable(rate):
    raise UserError(
      f"schedule.name={section.name!r} must return a function of the step, not a"
      f" {type(rate).__name__}"
    )
  if section.hold_steps > 1:
    hold = section.hold_steps
    return lambda step: rate(step // hold * hold)
  if section.per_epoch:
    return lambda step: rate(step // epoch_steps)
  return rate


def falling(peak: float, end: float, steps: int) -> optax.Schedule:
  """A half cosine from `peak` to `end` in so many steps."""
  return optax.cosine_decay_schedule(peak, steps, end / peak if peak else 0.0)


def _after(peak: float, steps: int, warmup: int, rest_of_it) -> optax.Schedule:
  """A warm-up, then what `rest_of_it` makes of the number of steps that are left."""
  _check_warmup(warmup, steps)
  after = rest_of_it(steps - warmup)
  if not warmup:
    return after
  return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), after], [warmup])


def _check_warmup(warmup: int, steps: int) -> None:
  if not 0 <= warmup < steps:
    raise UserError(
      f"schedule.warmup_steps={warmup} must lie from 0 to below the number of steps (with"
      f" schedule.per_epoch=True: of epochs), {steps}"
    )
