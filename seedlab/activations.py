"""Activation functions on arrays of any float dtype.

All act elementwise, keep the dtype of `x`, compute in float32 at least, and have
exact first derivatives at every point, the joints of their pieces included, in
`x` and in their parameters. Those are numbers or arrays that broadcast to `x`
(traced and vmapped ones too); a plain number outside its range is a UserError.

Where the true value or derivative is finite so is the computed one, over the
whole finite range of the dtype. What `exp` and `erfc` enlarge is the rounding of
their argument beta x. Graphs and a table of formulas: docs/activations.md.
"""

import functools
import math
import operator
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jax.typing import ArrayLike

from seedlab.errors import UserError

# Those that a config can name; their parameters after the first are what it can set.
__all__ = (
  "celu",
  "elu",
  "gelu",
  "gsmelu",
  "leaky_relu",
  "linear",
  "mish",
  "relu",
  "rescu",
  "silu",
  "smelu",
  "softplus",
  "squared_relu",
  "squareplus",
  "swish",
  "tanhexp",
)

# Limits of parameters: numbers of float32 whose inverse is one too.
_SMALLEST = float(np.finfo(np.float32).tiny)
_LARGEST = 1 / _SMALLEST


def linear(x: jax.Array) -> jax.Array:
  """x itself: the control that is left of a network without any activation."""
  return x


def relu(x: jax.Array) -> jax.Array:
  """max(x, 0), with derivative 0 at 0; NaN stays NaN."""
  return jax.nn.relu(x)


def squared_relu(x: jax.Array) -> jax.Array:
  """max(x, 0)^2, with derivative 2 max(x, 0) (So et al., arXiv 2109.08668)."""
  return _squared_relu(x)


def leaky_relu(x: jax.Array, slope: ArrayLike = 0.01) -> jax.Array:
  """x above 0, `slope` x below, with derivative `slope` at 0 (Maas et al. 2013, ICML workshop)."""
  _check_finite(slope=slope)
  return _leaky_relu(x, slope)


def smelu(x: jax.Array, beta: ArrayLike = 1.0) -> jax.Array:
  """Smooth ReLU: two half-lines joined by a parabola of half-width `beta`.

    smelu(x) = 0                      x <= -beta
               (x + beta)^2 / (4 beta)  |x| <= beta
               x                      x >= beta

  The first derivative is clip((x + beta) / (2 beta), 0, 1), the second
  1 / (2 beta) inside the parabola and 0 outside it and at its ends.

  Args:
    x: float[...].
    beta: at least 0, in units of x; a number, or an array that broadcasts to
      `x` (traced and vmapped ones too). 0 is `relu`, derivatives included.

  Returns:
    float[...], shape and dtype of `x`.

  Raises:
    UserError: `beta` is a plain number below 0, infinite, or NaN.

  References:
    Shamir & Lin, Real World Large Scale Recommendation Systems Reproducibility
    and Smooth Activations, arXiv 2202.06499.
  """
  _check_not_negative(beta=beta)
  return _smelu(x, beta)


def gsmelu(
  x: jax.Array,
  g_minus: ArrayLike = 0.0,
  g_plus: ArrayLike = 1.0,
  alpha: ArrayLike = 1.0,
  beta: ArrayLike = 1.0,
  t: ArrayLike = 0.0,
) -> jax.Array:
  """Generalised SmeLU: any two slopes, joined by a parabola between any two points.

  `rescu` of degree 1, whose derivative rises (or falls) linearly from `g_minus` at
  x = -alpha to `g_plus` at x = beta. (0, 1, beta, beta, 0) is `smelu`;
  t = -g_minus alpha lets the left half-line pass through the origin.

  References:
    Shamir, Lin & Coviello, Smooth activations and reproducibility in deep
    networks, arXiv 2010.09931, where the five parameters have these names.
  """
  return rescu(x, g_minus, g_plus, alpha, beta, t, degree=1)


def rescu(
  x: jax.Array,
  g_minus: ArrayLike = 0.0,
  g_plus: ArrayLike = 1.0,
  alpha: ArrayLike = 1.0,
  beta: ArrayLike = 1.0,
  t: ArrayLike = 0.0,
  degree: Literal[1, 3] = 3,
) -> jax.Array:
  """Rectified smooth continuous unit: two half-lines with a joint of continuous derivative.

  The derivative is g_minus + (g_plus - g_minus) S(u) with u = (x + alpha) /
  (alpha + beta) clipped to [0, 1], and S the polynomial of `degree` that rises from
  0 to 1:

    degree  S(u)           the activation is
    1       u              once continuously differentiable: `gsmelu`
    3       3 u^2 - 2 u^3  twice

  The value at x = -alpha is t. Monotone unless a slope is negative.

  Args:
    x: float[...].
    g_minus, g_plus: slopes of the left and the right half-line.
    alpha, beta: the joint reaches from -alpha to beta, in units of x;
      alpha + beta must be above 0.
    t: the value at -alpha.
    degree: 1 or 3, not traced.

  Returns:
    float[...], shape and dtype of `x`.

  Raises:
    UserError: an infinite parameter, an empty joint or another degree.

  References:
    Shamir, Lin & Coviello, arXiv 2010.09931, for the family; the polynomial of
    degree 3 is ours.
  """
  _check_finite(g_minus=g_minus, g_plus=g_plus, alpha=alpha, beta=beta, t=t)
  if _is_number(alpha) and _is_number(beta) and not alpha + beta > 0:
    raise UserError(f"alpha={alpha!r} and beta={beta!r} must have a sum above 0")
  if degree not in _RESCU:
    raise UserError(f"degree={degree!r} must be 1 or 3")
  return _RESCU[degree](x, g_minus, g_plus, alpha, beta, t)


def softplus(x: jax.Array, beta: ArrayLike = 1.0) -> jax.Array:
  """log(1 + exp(beta x)) / beta, for beta above 0 (Dugas et al. 2000, NIPS 13)."""
  _check_positive(beta=beta)
  return _softplus(x, beta)


def swish(x: jax.Array, beta: ArrayLike = 1.0) -> jax.Array:
  """x sigmoid(beta x), for beta above 0; not monotone.

  SiLU where beta is 1 (Elfwing et al., arXiv 1702.03118); the parameter is Ramachandran
  et al.'s, arXiv 1710.05941.
  """
  _check_positive(beta=beta)
  return _swish(x, beta)


silu = swish


def gelu(x: jax.Array, beta: ArrayLike = 1.0) -> jax.Array:
  """x P(Z <= beta x) for a standard normal Z, for beta above 0, by erfc; not monotone.

  With beta = 1 Hendrycks & Gimpel 2016 (arXiv 1606.08415) and PyTorch's nn.GELU();
  not its approximation by tanh.
  """
  _check_positive(beta=beta)
  return _gelu(x, beta)


def mish(x: jax.Array) -> jax.Array:
  """x tanh(log(1 + exp x)) (Misra, arXiv 1908.08681); not monotone."""
  return _mish(x)


def tanhexp(x: jax.Array) -> jax.Array:
  """x tanh(exp x) (Liu & Di, arXiv 2003.09855); not monotone."""
  return _tanhexp(x)


def squareplus(x: jax.Array, b: ArrayLike = 4.0) -> jax.Array:
  """(x + sqrt(x^2 + b)) / 2, for b of at least 0; 0 is `relu` (Barron, arXiv 2112.11687)."""
  _check_not_negative(b=b)
  return _squareplus(x, b)


def elu(x: jax.Array, alpha: ArrayLike = 1.0) -> jax.Array:
  """x above 0, alpha (exp x - 1) below, for alpha of at least 0 (Clevert et al., arXiv 1511.07289).

  Its derivative is continuous for alpha = 1 alone; at 0 it is alpha.
  """
  _check_not_negative(alpha=alpha)
  return _elu(x, alpha)


def celu(x: jax.Array, alpha: ArrayLike = 1.0) -> jax.Array:
  """x above 0, alpha (exp(x / alpha) - 1) below, for alpha above 0 (Barron, arXiv 1704.07483)."""
  _check_positive(alpha=alpha)
  return _celu(x, alpha)


def second_moment(function: Callable[[jax.Array], jax.Array]) -> float:
  """E f(z)^2 for a standard normal z, to 1e-6 of its value.

  Hidden weights of variance 1 / (inputs x this) keep pre-activations at second
  moment 1 from layer to layer; of `relu` it is 1/2, hence He et al.'s factor 2.

  By the trapezoidal rule, whose error falls faster than any power of the step for
  smooth functions, and at a kink stays below the squared step: 2e-7.
  """
  steps_a_unit = 2048
  z = np.arange(-12 * steps_a_unit, 12 * steps_a_unit + 1) / steps_a_unit  # exact in float32
  y = np.asarray(jax.jit(function)(jnp.asarray(z, jnp.float32)), np.float64)
  density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
  return float(np.sum(y**2 * density) / steps_a_unit)


def _is_number(value: ArrayLike) -> bool:
  return isinstance(value, (int, float))


def _check_finite(**parameters: ArrayLike) -> None:
  for name, value in parameters.items():
    if _is_number(value) and not abs(value) <= _LARGEST:
      raise UserError(f"{name}={value!r} must lie within ±{_LARGEST:.1e}")


def _check_not_negative(**parameters: ArrayLike) -> None:
  for name, value in parameters.items():
    if _is_number(value) and not 0 <= value <= _LARGEST:
      raise UserError(f"{name}={value!r} must be at least 0, and {_LARGEST:.1e} at most")


def _check_positive(**parameters: ArrayLike) -> None:
  for name, value in parameters.items():
    if _is_number(value) and not _SMALLEST <= value <= _LARGEST:
      raise UserError(f"{name}={value!r} must be above 0, and {_LARGEST:.1e} at most")


def _exact(value: Callable, slopes: Callable) -> Callable:
  """`value(x, *parameters)` in float32 at least, and with the partial derivatives `slopes`.

  `slopes` takes the same arguments and answers with a tuple, each of the shape of x.
  """
  function = jax.custom_jvp(value)

  def jvp(primals, tangents):
    # Parameters that are not differentiated must not add 0 x inf.
    terms = [
      slope * tangent
      for slope, tangent in zip(slopes(*primals), tangents, strict=True)
      if not isinstance(tangent, SymbolicZero)
    ]
    return function(*primals), functools.reduce(operator.add, terms)

  function.defjvp(jvp, symbolic_zeros=True)

  def wide(x: jax.Array, *parameters: ArrayLike) -> jax.Array:
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    y = function(x.astype(dtype), *(jnp.asarray(p, dtype) for p in parameters))
    return y.astype(x.dtype)

  return wide


def _squared_relu_value(x):
  return jnp.square(jnp.maximum(x, 0))


def _squared_relu_slopes(x):
  return (2 * jnp.maximum(x, 0),)


def _leaky_relu_value(x, slope):
  return jnp.where(x > 0, x, slope * x)


def _leaky_relu_slopes(x, slope):
  return jnp.where(x > 0, 1, slope), jnp.minimum(x, 0)


def _smelu_value(x, beta):
  # relu and what smoothing adds: two kernels fewer a layer than by the slope, which XLA:CPU would
  # compute apart from both its uses. Divided before it is squared, which might overflow.
  short = jnp.maximum(beta - jnp.abs(x), 0)
  return relu(x) + short * (short * _inverse(beta)) / 4


def _smelu_slopes(x, beta):
  # Automatic differentiation would give 1/2 at x = beta, and 0/0 of the pieces at beta = 0.
  slope = _rise(x, beta, beta)
  return slope, slope * (1 - slope)


def _rise(x, alpha, beta):
  """clip((x + alpha) / (alpha + beta), 0, 1), and 0 at x = -alpha = beta as for relu."""
  # Halved first: the sums may overflow.
  inside = (x / 2 + alpha / 2) * _inverse(alpha / 2 + beta / 2)
  return jnp.where(x <= -alpha, 0, jnp.where(x >= beta, 1, inside))


def _inverse(width):
  """1 / width, and 1 for 0: finite where it is not selected, or its derivative would be NaN."""
  # Of the parameter, not of every element: a division costs as much as all the rest.
  return 1 / jnp.where(width > 0, width, 1)


def _joined(rise: Callable, integral: Callable) -> Callable:
  """`rescu` whose slope rises by `rise` from 0 to 1; `integral` is that of `rise` from 0."""

  def value(x, g_minus, g_plus, alpha, beta, t):
    left = g_minus * x + (t + g_minus * alpha)
    right = g_plus * x + (t + (alpha + beta) / 2 * g_minus + (alpha - beta) / 2 * g_plus)
    area = (alpha + beta) * integral(_rise(x, alpha, beta))
    inside = t + g_minus * (x + alpha) + (g_plus - g_minus) * area
    return jnp.where(x <= -alpha, left, jnp.where(x >= beta, right, inside))

  def slopes(x, g_minus, g_plus, alpha, beta, t):
    u = _rise(x, alpha, beta)
    height, area = rise(u), integral(u)
    inside = g_minus + (g_plus - g_minus) * height
    return (
      jnp.where(x <= -alpha, g_minus, jnp.where(x >= beta, g_plus, inside)),
      jnp.where(x <= -alpha, x + alpha, (alpha + beta) * (u - area)),
      jnp.where(x >= beta, x + (alpha - beta) / 2, (alpha + beta) * area),
      # u too depends on alpha and beta; where it is 1, these are what the right half-line has.
      g_minus + (g_plus - g_minus) * (area + height * (1 - u)),
      (g_plus - g_minus) * (area - height * u),
      jnp.ones_like(x),
    )

  return _exact(value, slopes)


def _softplus_value(x, beta):
  return jnp.maximum(x, 0) + jnp.log1p(jnp.exp(-jnp.abs(beta * x))) / beta


def _softplus_slopes(x, beta):
  z = _clipped(beta * x)
  size = jnp.abs(z)
  entropy = size * lax.logistic(-size) + jnp.log1p(jnp.exp(-size))
  return lax.logistic(z), -entropy / beta / beta


def _swish_value(x, beta):
  return x * lax.logistic(beta * x)


def _swish_slopes(x, beta):
  z = _clipped(beta * x)
  chance = lax.logistic(z)
  density = chance * lax.logistic(-z)
  return chance + z * density, x * (x * density)


def _gelu_value(x, beta):
  return 0.5 * x * lax.erfc(-(beta * x) * math.sqrt(0.5))


def _gelu_slopes(x, beta):
  z = _clipped(beta * x)
  chance = 0.5 * lax.erfc(-z * math.sqrt(0.5))
  density = jnp.exp(-z * z / 2) / math.sqrt(2 * math.pi)
  return chance + z * density, x * (x * density)


def _mish_terms(x):
  """tanh(log(1 + exp x)) and its derivative, as fractions of exp(-|x|)."""
  right = x >= 0
  e = jnp.exp(jnp.where(right, -x, x))
  below = jnp.where(right, 1 + 2 * e + 2 * e * e, e * e + 2 * e + 2)
  value = jnp.where(right, 1 + 2 * e, e * e + 2 * e) / below
  slope = 4 * e * (1 + e) * jnp.where(right, e, 1) / below / below
  return value, slope


def _mish_value(x):
  return x * _mish_terms(x)[0]


def _mish_slopes(x):
  value, slope = _mish_terms(x)
  return (value + x * slope,)


def _tanhexp_value(x):
  return x * jnp.tanh(jnp.exp(x))


def _tanhexp_slopes(x):
  x = jnp.clip(x, -200, 5)  # beyond them tanh does not change, and its slope would meet infinity
  e = jnp.exp(x)
  w = jnp.exp(-2 * e)
  return (jnp.tanh(e) + x * (e * 4 * w / (1 + w) ** 2),)


def _squareplus_value(x, b):
  root = jnp.sqrt(b)
  half = jnp.hypot(x, root) / 2
  left = jnp.where(half > 0, half + jnp.abs(x) / 2, 1)
  return jnp.where(x >= 0, x / 2 + half, root / 4 * (root / left))


def _squareplus_slopes(x, b):
  root = jnp.sqrt(jnp.where(b > 0, b, 1))
  length = jnp.hypot(x, root)
  left = jnp.where(b > 0, root / (length / 2 + jnp.abs(x) / 2) * (root / length) / 4, 0)
  return jnp.where(x > 0, 1 - left, left), 0.25 / jnp.where(b > 0, length, jnp.abs(x))


def _elu_value(x, alpha):
  return jnp.where(x > 0, x, alpha * jnp.expm1(jnp.minimum(x, 0)))


def _elu_slopes(x, alpha):
  left = jnp.where(x > 0, 0, x)
  return jnp.where(x > 0, 1, alpha * jnp.exp(left)), jnp.expm1(left)


def _celu_value(x, alpha):
  return jnp.where(x > 0, x, alpha * jnp.expm1(jnp.minimum(x, 0) / alpha))


def _celu_slopes(x, alpha):
  z = _clipped(jnp.where(x > 0, 0, x) / alpha)
  return jnp.exp(z), jnp.expm1(z) - z * jnp.exp(z)


def _clipped(z):
  """z, cut where exp(-|z|) has long vanished and would be multiplied by infinity."""
  return jnp.clip(z, -200, 200)


_squared_relu = _exact(_squared_relu_value, _squared_relu_slopes)
_leaky_relu = _exact(_leaky_relu_value, _leaky_relu_slopes)
_smelu = _exact(_smelu_value, _smelu_slopes)
_softplus = _exact(_softplus_value, _softplus_slopes)
_swish = _exact(_swish_value, _swish_slopes)
_gelu = _exact(_gelu_value, _gelu_slopes)
_mish = _exact(_mish_value, _mish_slopes)
_tanhexp = _exact(_tanhexp_value, _tanhexp_slopes)
_squareplus = _exact(_squareplus_value, _squareplus_slopes)
_elu = _exact(_elu_value, _elu_slopes)
_celu = _exact(_celu_value, _celu_slopes)
# By degree; the functions are a polynomial that rises from 0 to 1, and its integral.
_RESCU = {
  1: _joined(lambda u: u, lambda u: u * u / 2),
  3: _joined(lambda u: u * u * (3 - 2 * u), lambda u: u * u * u * (1 - u / 2)),
}
