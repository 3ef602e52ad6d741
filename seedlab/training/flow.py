"""Flow matching: a velocity that carries noise to data, how it is learnt and how it is followed.

The path of one example x from noise e is the straight line

  x_t = (1 - t) e + t x,   t from 0 to 1,   with the velocity x - e

(Lipman et al. 2023, arXiv 2210.02747; rectified flow, Liu et al. 2023, arXiv 2209.03003). The
velocity of least squared error at (x_t, t) is the mean of x - e over all that pass there, and
following it from noise at t = 0 ends in data at t = 1.
"""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax

from seedlab.errors import choice_error

Method = Literal["euler", "heun"]
METHODS = ("euler", "heun")

Velocity = Callable[[jax.Array, jax.Array], jax.Array]  # (x [N, ...], time of all) -> [N, ...]


def matching(classes: int, drop_class: float = 0.0) -> Callable[..., jax.Array]:
  """The loss (apply, example, key) of `seedlab.supervised`: the mean squared error of the velocity.

    mean over pixels of (v(x_t, t, class) - (x - e))²,   t uniform in [0, 1), e standard normal

  Args:
    classes: K; the class K stands for "no class".
    drop_class: the probability with which an example's class is replaced by K, so that one network
      learns with and without classes (Ho & Salimans 2022, arXiv 2207.12598, algorithm 1).
  """

  def loss(apply, example, key):
    x, label = example
    key_time, key_noise, key_drop = jax.random.split(key, 3)
    time = jax.random.uniform(key_time, (), jnp.float32)
    noise = jax.random.normal(key_noise, x.shape, jnp.float32)
    if drop_class:
      dropped = jax.random.uniform(key_drop, (), jnp.float32) < drop_class
      label = jnp.where(dropped, classes, label)
    velocity = apply((1 - time) * noise + time * x, time, label)
    return jnp.square(velocity - (x - noise)).mean()

  return loss


def guided(
  apply: Callable[..., jax.Array], label_N: jax.Array, classes: int, guidance: float = 1.0
) -> Velocity:
  """The velocity of images with these classes, pushed away from that of no class.

    v = v(no class) + guidance (v(class) - v(no class))

  (Ho & Salimans 2022, eq. 6, whose w is guidance - 1.) At 1 it is that of the class, at 0 that of
  no class, and above 1 samples agree more with their class and less with the data.

  Args:
    apply: (x [N, ...], time [N], class int[N]) -> velocity [N, ...].
    label_N: classes, int32[N].
    classes: K, which stands for "no class".
    guidance: a plain number; any but 1 costs a second evaluation of the network.
  """
  nothing_N = jnp.full_like(label_N, classes)

  def velocity(x, time):
    time_N = jnp.full(label_N.shape, time, jnp.float32)
    with_class = apply(x, time_N, label_N)
    if guidance == 1:
      return with_class
    without = apply(x, time_N, nothing_N)
    return without + guidance * (with_class - without)

  return velocity


def follow(velocity: Velocity, x: jax.Array, steps: int, method: Method = "euler") -> jax.Array:
  """Where the flow carries x from time 0 to time 1, in equal steps of length h = 1 / steps.

    euler   x + h v(x, t)
    heun    x + h/2 (v(x, t) + v(x + h v(x, t), t + h)),   two velocities a step

  Their errors fall as h and as h². (Karras et al. 2022, arXiv 2206.00364, take Heun's.)

  Args:
    velocity: see `Velocity`.
    x: float32[N, ...], the noise.
    steps: at least 1.
    method: "euler" or "heun".
  """
  if method not in METHODS:
    raise choice_error("method", method, METHODS)

  def body(number, x):
    # Each time is a quotient, not a sum of steps, and the last one exactly 1.
    now, then = number / jnp.float32(steps), (number + 1) / jnp.float32(steps)
    slope = velocity(x, now)
    if method == "heun":
      slope = (slope + velocity(x + slope / steps, then)) / 2
    return x + slope / steps

  return lax.fori_loop(0, steps, body, x)
