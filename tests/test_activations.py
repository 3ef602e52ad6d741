"""Activations against their definitions: values, derivatives, joints and limits; gains."""

import functools
import inspect
import itertools
import pathlib

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import networks
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import expit, ndtr

from seedlab import activations
from seedlab.activations import gsmelu, relu, rescu, second_moment, smelu
from seedlab.errors import UserError
from seedlab.models.mlp import MLP

FLOATS = [jnp.float16, jnp.bfloat16, jnp.float32]
value = jax.jit(smelu)
slope_in_x = jax.jit(jax.vmap(jax.grad(smelu), (0, None)))
slope_in_beta = jax.jit(jax.vmap(jax.grad(smelu, argnums=1), (0, None)))
curvature = jax.jit(
  jax.vmap(
    lambda x, b: jax.jvp(lambda t: jax.grad(smelu)(t, b), (x,), (jnp.ones_like(x),))[1], (0, None)
  )
)
relu_slope = jax.jit(jax.vmap(jax.grad(relu)))


def by_definition(x, beta):
  """SmeLU in float64, piece by piece."""
  x = np.float64(x)
  if x <= -beta:
    return 0.0
  return x if x >= beta else (x + beta) ** 2 / (4 * beta)


def float32s(low, high):
  return st.floats(low, high, width=32, allow_subnormal=False)


@settings(deadline=None)
@given(x=float32s(-100, 100), beta=float32s(0.125, 50))
def test_smelu_and_its_derivatives_follow_the_definition(x, beta):
  inside = -beta < x < beta
  xs, b = jnp.array([x], jnp.float32), jnp.float32(beta)
  c = np.clip((np.float64(x) + beta) / (2 * beta), 0, 1)
  np.testing.assert_allclose(value(xs, b)[0], by_definition(x, beta), rtol=1e-6, atol=1e-37)
  np.testing.assert_allclose(slope_in_x(xs, b)[0], c, rtol=1e-6, atol=1e-37)
  np.testing.assert_allclose(slope_in_beta(xs, b)[0], c * (1 - c), rtol=1e-5, atol=3e-7)
  np.testing.assert_allclose(curvature(xs, b)[0], 1 / (2 * beta) if inside else 0, rtol=1e-6)


@pytest.mark.parametrize("beta", [0.1, 0.3, 1.0, 3.0])
def test_smelu_is_a_scaled_sparse_plus(beta):
  x = jnp.linspace(-5, 5, 1001)
  np.testing.assert_allclose(
    smelu(x, beta), beta * jax.nn.sparse_plus(x / beta), rtol=1e-5, atol=1e-6
  )


def test_smelu_slopes_agree_with_finite_differences():
  x, beta, h = np.linspace(-3, 3, 241), 0.75, 1e-4
  in_x = [(by_definition(t + h, beta) - by_definition(t - h, beta)) / (2 * h) for t in x]
  in_beta = [(by_definition(t, beta + h) - by_definition(t, beta - h)) / (2 * h) for t in x]
  np.testing.assert_allclose(slope_in_x(jnp.float32(x), beta), in_x, atol=1e-4)
  np.testing.assert_allclose(slope_in_beta(jnp.float32(x), beta), in_beta, atol=1e-4)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("beta", [0.1, 0.7, 1.0, 3.0, 1000.0])
def test_smelu_is_exact_at_its_joints(beta, dtype):
  b = jnp.asarray(beta, dtype)
  joints = jnp.stack([-b, b])
  assert value(joints, b).tolist() == [0, b]
  assert slope_in_x(joints, b).tolist() == [0, 1]


@pytest.mark.parametrize("dtype", FLOATS)
def test_smelu_with_beta_zero_is_relu_in_values_and_derivatives(dtype):
  tiny = jnp.finfo(dtype).tiny
  x = jnp.array([-jnp.inf, -1e4, -1, -tiny, -0.0, 0, tiny, 1, 1e4, jnp.inf], dtype)
  zero = jnp.zeros((), dtype)  # traced: the special case cannot hang on a Python number
  assert value(x, zero).tolist() == relu(x).tolist()
  assert slope_in_x(x, zero).tolist() == relu_slope(x).tolist() == [0] * 6 + [1] * 4
  assert slope_in_beta(x, zero).tolist() == [0] * 10
  assert curvature(x, zero).tolist() == [0] * 10
  reverse_twice = jax.jit(jax.vmap(jax.grad(jax.grad(smelu)), (0, None)))
  assert reverse_twice(x, zero).tolist() == [0] * 10


@pytest.mark.parametrize("dtype", FLOATS)
def test_smelu_keeps_the_dtype_and_does_not_overflow(dtype):
  x = jnp.array([-1e4, -300, 300, 1e4], dtype)
  for beta in (0.0, 0.5, 1.0):
    y = value(x, beta)
    assert y.dtype == dtype and y.tolist() == [0, 0, x[2], x[3]]
    assert slope_in_x(x, beta).tolist() == [0, 0, 1, 1]
  x, beta = jnp.array([-3e4, 3e4], dtype), 4e4  # float16 holds neither x + beta nor 2 beta
  exact = [by_definition(t, beta) for t in x.astype(jnp.float32)]
  np.testing.assert_allclose(value(x, beta).astype(jnp.float32), exact, rtol=0.03)
  np.testing.assert_allclose(slope_in_x(x, beta).astype(jnp.float32), [1 / 8, 7 / 8], rtol=0.03)


def test_smelu_takes_one_beta_per_lane():
  x = jnp.linspace(-2, 2, 9)
  betas = jnp.array([0.0, 0.5, 2.0])
  lanes = jax.jit(jax.vmap(smelu, (None, 0)))(x, betas)
  for lane, beta in zip(lanes, betas.tolist(), strict=True):
    np.testing.assert_array_equal(lane, smelu(x, beta))


def test_nan_stays_nan():
  nan = jnp.full((1,), jnp.nan)
  assert all(np.isnan(f(nan)[0]) for f in (relu, smelu, lambda x: smelu(x, 0.0)))
  assert np.isnan(slope_in_x(nan, 1.0)[0])


def test_relu_by_hand():
  x = jnp.array([-2.0, -0.0, 0.0, 3.0])
  assert relu(x).tolist() == [0, 0, 0, 3]
  assert relu_slope(x).tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize(
  "name, kwargs, message",
  [
    ("smelu", {"beta": -1.0}, "beta=-1.0 must be at least 0"),
    ("smelu", {"beta": float("nan")}, "beta=nan must be at least 0"),
    ("smelu", {"beta": float("inf")}, r"beta=inf must be at least 0, and 8.5e\+37 at most"),
    *((name, {"beta": 0.0}, "beta=0.0 must be above 0") for name in ("softplus", "swish", "gelu")),
    ("celu", {"alpha": -1.0}, "alpha=-1.0 must be above 0"),
    ("elu", {"alpha": -1.0}, "alpha=-1.0 must be at least 0"),
    ("squareplus", {"b": -1.0}, "b=-1.0 must be at least 0"),
    ("leaky_relu", {"slope": float("nan")}, "slope=nan must lie within"),
    ("gsmelu", {"alpha": -1.0}, "alpha=-1.0 and beta=1.0 must have a sum above 0"),
    ("gsmelu", {"t": float("-inf")}, "t=-inf must lie within"),
    ("rescu", {"alpha": 2.0, "beta": -2.0}, "alpha=2.0 and beta=-2.0 must have a sum above 0"),
    ("rescu", {"degree": 2.0}, "degree=2.0 must be 1 or 3"),
  ],
)
def test_parameters_out_of_range_are_refused_in_one_line(name, kwargs, message):
  with pytest.raises(UserError, match=message) as error:
    getattr(activations, name)(jnp.zeros(1), **kwargs)
  assert "\n" not in str(error.value)


def joined(x, g_minus, g_plus, alpha, beta, t, degree):
  """gSmeLU and its kin in float64: the value at -alpha plus the integral of the slope."""
  u = np.clip((x + alpha) / (alpha + beta), 0, 1)
  rise, area = {1: (u, u**2 / 2), 3: (3 * u**2 - 2 * u**3, u**3 - u**4 / 2)}[degree]
  area = (alpha + beta) * area + np.maximum(x - beta, 0)
  difference = g_plus - g_minus
  return t + g_minus * (x + alpha) + difference * area, g_minus + difference * rise


def normal_density(z):
  return np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)


def bell(z):
  return expit(z) * expit(-z)


def soft(x):
  return np.tanh(np.logaddexp(0, x))


def hyperbola(x, b):
  r = np.hypot(x, np.sqrt(b))
  # Where the sum would cancel, its conjugate.
  return np.where(x > 0, (x + r) / 2, b / 2 / (r + np.abs(x))), (1 + x / r) / 2


# Values and derivatives in float64, and some parameters; linear and relu are too simple to fail.
DEFINITIONS = {
  "leaky_relu": (lambda x, a: (np.where(x > 0, x, a * x), np.where(x > 0, 1, a)), (0.01,)),
  "smelu": (lambda x, b: joined(x, 0, 1, b, b, 0, 1), (0.7,)),
  "gsmelu": (lambda x, *p: joined(x, *p, 1), (0.1, 1.2, 0.3, 0.6, -0.03)),
  "rescu": (lambda x, *p: joined(x, *p, 3), (-0.2, 0.9, -0.5, 2.0, 0.4)),
  "softplus": (lambda x, b: (np.logaddexp(0, b * x) / b, expit(b * x)), (1.7,)),
  "swish": (lambda x, b: (x * expit(b * x), expit(b * x) + b * x * bell(b * x)), (1.7,)),
  "gelu": (lambda x, b: (x * ndtr(b * x), ndtr(b * x) + b * x * normal_density(b * x)), (1.7,)),
  "mish": (lambda x: (x * soft(x), soft(x) + x * (1 - soft(x) ** 2) * expit(x)), ()),
  "tanhexp": (
    lambda x: (
      x * np.tanh(np.exp(np.minimum(x, 9))),
      np.tanh(np.exp(np.minimum(x, 9)))
      + x * np.exp(np.minimum(x, 5)) / np.cosh(np.exp(np.minimum(x, 5))) ** 2 * (x < 5),
    ),
    (),
  ),
  "squareplus": (hyperbola, (4.0,)),
  "elu": (
    lambda x, a: (
      np.where(x > 0, x, a * np.expm1(np.minimum(x, 0))),
      np.where(x > 0, 1, a * np.exp(np.minimum(x, 0))),
    ),
    (1.3,),
  ),
  "celu": (
    lambda x, a: (
      np.where(x > 0, x, a * np.expm1(np.minimum(x, 0) / a)),
      np.exp(np.minimum(x, 0) / a),
    ),
    (1.3,),
  ),
}
NOT_MONOTONE = {"swish", "silu", "gelu", "mish", "tanhexp"}


@functools.cache
def every(dtype):
  """All finite numbers of a dtype of 16 bits; for each upper half of a float32, one."""
  bits = np.arange(2**16, dtype=np.uint16)
  if dtype == jnp.float32:
    lower = np.random.default_rng(0).integers(0, 2**16, 2**16, np.uint32)
    x = (bits.astype(np.uint32) << 16 | lower).view(np.float32)
  else:
    x = np.asarray(jax.lax.bitcast_convert_type(jnp.asarray(bits), dtype))
  with np.errstate(invalid="ignore"):
    return np.sort(np.where(np.isfinite(x), x, 0))


@functools.cache
def program(name):
  """Compiles values and all partial derivatives, by x float[N] and parameters."""
  function = getattr(activations, name)
  numbers = tuple(range(1 + len(DEFINITIONS[name][1])))
  return jax.jit(jax.vmap(jax.value_and_grad(function, numbers), (0, *[None] * len(numbers[1:]))))


def at(name, x_N, *parameters):
  """Values and partial derivatives of an activation."""
  return program(name)(x_N, *map(jnp.float32, parameters))


def check_rounding(name, dtype, parameters):
  """Results are off by no more than if each input had been moved by a few units of rounding."""
  definition, _ = DEFINITIONS[name]
  parameters = tuple(float(np.float32(p)) for p in parameters)
  x_N = every(dtype)
  values, (slopes, *others) = at(name, x_N, *parameters)
  assert values.dtype == slopes.dtype == dtype
  values, slopes, x_N = (np.asarray(a).astype(np.float64) for a in (values, slopes, x_N))
  unit = float(jnp.finfo(jnp.float32).eps)
  last = 0 if dtype == jnp.float32 else 0.51 * float(jnp.finfo(dtype).eps)
  # XLA takes subnormal float32 for zero, also an exp that is then multiplied by x.
  least = float(jnp.finfo(dtype).smallest_subnormal if dtype == jnp.float16 else 1e-34)
  with np.errstate(over="ignore", invalid="ignore"):
    exact, slope = definition(x_N, *parameters)
    moved = np.abs(exact) + np.abs(x_N * slope)
    inner = np.abs(x_N) < 50
    for number, (parameter, other) in enumerate(zip(parameters, others, strict=True)):
      h = 1e-5 * abs(parameter)

      def moved_by(shift, number=number):
        return definition(
          x_N, *parameters[:number], parameters[number] + shift, *parameters[number + 1 :]
        )[0]

      difference = (moved_by(h) - moved_by(-h)) / (2 * h)
      np.testing.assert_allclose(other[inner], difference[inner], rtol=1e-4, atol=1e-4)
      assert np.isfinite(other[np.abs(x_N) < 1e15]).all() and not np.isnan(other).any()
      moved += np.abs(parameter * difference)
  fits = np.abs(exact) <= float(jnp.finfo(dtype).max)
  error = np.abs(values - exact)
  np.testing.assert_array_less(
    error[fits], (8 * unit * moved + last * np.abs(exact) + 2 * least)[fits]
  )
  assert not np.isnan(values).any() and fits.mean() > 0.9
  normal = (np.abs(x_N) > 1.2e-38) | (x_N == 0)
  assert not np.isnan(slopes).any() and not np.isnan(exact).any() and not np.isnan(slope).any()
  error = np.abs(slopes - slope)
  bound = 8 * unit * (1 + np.abs(slope)) + last * np.abs(slope) + least
  np.testing.assert_array_less(error[normal], bound[normal])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", DEFINITIONS)
def test_values_and_slopes_are_right_over_the_whole_range(name, dtype):
  check_rounding(name, dtype, DEFINITIONS[name][1])


WIDTHS = st.floats(0.03125, 32, width=32)
SLOPES = st.floats(-1.5, 1.5, width=32).filter(lambda slope: abs(slope) > 1e-3)


@st.composite
def activations_with_parameters(draw):
  name = draw(st.sampled_from([name for name in DEFINITIONS if DEFINITIONS[name][1]]))
  if name == "leaky_relu":
    return name, (draw(SLOPES),)
  if name in ("gsmelu", "rescu"):
    slopes, widths = [draw(SLOPES), draw(SLOPES)], [draw(WIDTHS), draw(WIDTHS)]
    return name, (*slopes, *widths, draw(SLOPES))
  return name, (draw(WIDTHS),)


@settings(deadline=None, max_examples=60)
@given(case=activations_with_parameters(), dtype=st.sampled_from(FLOATS))
def test_values_and_slopes_are_right_for_all_parameters(case, dtype):
  check_rounding(case[0], dtype, case[1])


@pytest.mark.parametrize("name", DEFINITIONS)
def test_definitions_have_the_slopes_of_their_finite_differences(name):
  definition, parameters = DEFINITIONS[name]
  x, h = np.linspace(-9.03, 9, 501), 1e-5
  difference = (definition(x + h, *parameters)[0] - definition(x - h, *parameters)[0]) / (2 * h)
  np.testing.assert_allclose(definition(x, *parameters)[1], difference, atol=1e-5)


def test_smooth_activations_agree_with_fifty_digits():
  mp = pytest.importorskip("mpmath").mp
  literal = {
    "softplus": lambda x, b: mp.log(1 + mp.exp(b * x)) / b,
    "swish": lambda x, b: x / (1 + mp.exp(-b * x)),
    "gelu": lambda x, b: x * mp.ncdf(b * x),
    "mish": lambda x: x * mp.tanh(mp.log(1 + mp.exp(x))),
    "tanhexp": lambda x: x * mp.tanh(mp.exp(x)),
    "squareplus": lambda x, b: (x + mp.sqrt(x * x + b)) / 2,
  }
  x_N = np.linspace(-12, 12, 25, dtype=np.float32)
  with mp.workdps(50):
    for name, function in literal.items():
      parameters = [float(np.float32(p)) for p in DEFINITIONS[name][1]]
      values, partials = at(name, x_N, *parameters)
      places = [(float(x), *parameters) for x in x_N]
      exact = np.array([float(function(*map(mp.mpf, place))) for place in places])
      slope = np.array([float(mp.diff(function, place, (1, 0)[: len(place)])) for place in places])
      error = np.abs(values - exact)
      np.testing.assert_array_less(error, 1e-6 * (np.abs(exact) + np.abs(x_N * slope)) + 1e-37)
      np.testing.assert_allclose(partials[0], slope, rtol=1e-6, atol=3e-7)
      if parameters:
        slope = np.array([float(mp.diff(function, place, (0, 1))) for place in places])
        np.testing.assert_allclose(partials[1], slope, rtol=1e-6, atol=3e-7)


@functools.cache
def derivatives():
  """First and second derivatives of all activations, by name."""
  return jax.jit(
    lambda x: {
      name: jax.vmap(jax.value_and_grad(jax.grad(function)))(x)
      for name, function in ((name, getattr(activations, name)) for name in activations.__all__)
    }
  )(every(jnp.float32))


@pytest.mark.parametrize("name", activations.__all__)
def test_those_are_monotone_that_are_said_to_be(name):
  slopes, _ = derivatives()[name]
  assert (slopes.min() < -0.05) == (name in NOT_MONOTONE)
  assert name in NOT_MONOTONE or slopes.min() >= 0


@pytest.mark.parametrize("name", activations.__all__)
def test_second_derivatives_are_numbers(name):
  """Penalties on gradients differentiate twice."""
  assert np.isfinite(derivatives()[name][1]).all()


def test_the_silu_is_the_swish_and_celu_of_one_the_elu():
  x = jnp.linspace(-4, 4, 33)
  assert activations.silu is activations.swish
  np.testing.assert_allclose(activations.celu(x), activations.elu(x), rtol=1e-6)
  np.testing.assert_array_equal(activations.squareplus(x, 0.0), relu(x))
  np.testing.assert_array_equal(activations.leaky_relu(x, 0.0), relu(x))
  np.testing.assert_array_equal(activations.elu(x, 0.0), relu(x))
  np.testing.assert_array_equal(activations.linear(x), x)


@pytest.mark.parametrize("dtype", FLOATS)
def test_squared_relu_is_the_square_of_relu_wherever_that_fits(dtype):
  """It has a test of its own: the squares of many numbers are too large for their dtype."""
  x = every(dtype)
  values, slopes = jax.jit(jax.vmap(jax.value_and_grad(activations.squared_relu)))(x)
  assert values.dtype == slopes.dtype == dtype
  wide = np.maximum(np.asarray(x).astype(np.float64), 0)
  most, least = (float(number) for number in (jnp.finfo(dtype).max, jnp.finfo(dtype).tiny))
  for found, exact in ((values, wide**2), (slopes, 2 * wide)):
    found = np.asarray(found).astype(np.float64)
    fits, normal = exact <= most, (exact >= 4 * least) | (exact == 0)
    np.testing.assert_allclose(
      found[fits & normal], exact[fits & normal], rtol=float(jnp.finfo(dtype).eps)
    )
    assert fits.mean() > 0.8 and (found[~fits] >= most).all()


def test_squareplus_without_b_has_the_derivatives_of_relu():
  x = jnp.array([-1e30, -1.0, -1e-30, 0.0, 1e-30, 1.0, 1e30])
  slopes = jax.jit(jax.vmap(jax.value_and_grad(jax.grad(activations.squareplus)), (0, None)))
  once, twice = slopes(x, jnp.float32(0))
  assert once.tolist() == relu_slope(x).tolist() and twice.tolist() == [0] * 7


@settings(deadline=None)
@given(beta=float32s(2**-20, 50))
def test_smelu_departs_from_relu_by_a_quarter_of_beta_at_most(beta):
  x = jnp.linspace(-60, 60, 2401)
  departure = value(x, jnp.float32(beta)) - relu(x)
  assert 0 <= departure.min() and departure.max() <= beta / 4 * (1 + 1e-5)
  np.testing.assert_allclose(value(jnp.zeros(1), jnp.float32(beta)), beta / 4, rtol=1e-6)


@pytest.mark.parametrize("beta", [0.1, 3.0])
def test_gsmelu_reduces_to_smelu_and_rescu_to_gsmelu(beta):
  x = jnp.concatenate([jnp.linspace(-5, 5, 1001), jnp.array([-beta, beta])])
  values, (slopes, *_) = at("gsmelu", x, 0, 1, beta, beta, 0)
  np.testing.assert_allclose(values, smelu(x, beta), rtol=2e-6, atol=1e-9)
  np.testing.assert_allclose(slopes, slope_in_x(x, beta), rtol=1e-6)
  five = (0.1, 0.9, beta, 2 * beta, -0.3)
  np.testing.assert_array_equal(rescu(x, *five, degree=1.0), gsmelu(x, *five))


def test_gsmelu_by_hand():
  # Slopes 1/2 and 2 from -1 to 3: slope 1/2 + 3 (x + 1) / 8, so 1 + (x + 1) / 2 + 3 (x + 1)^2 / 16.
  x = jnp.array([-3.0, -1.0, 1.0, 3.0, 5.0])
  values, (slopes, *_) = at("gsmelu", x, 0.5, 2, 1, 3, 1)
  assert values.tolist() == [0.0, 1.0, 2.75, 6.0, 10.0]
  assert slopes.tolist() == [0.5, 0.5, 1.25, 2.0, 2.0]


def test_rescu_of_degree_three_has_no_jump_in_its_second_derivative():
  x = jnp.array([-1.0, -0.999, -0.001, 0.0, 1.999, 2.0])
  curvature = jax.jit(jax.vmap(jax.grad(jax.grad(lambda x: rescu(x, 0.0, 1.0, 1.0, 2.0)))))(x)
  u = (x + 1) / 3  # S'(u) / 3 = 2 u (1 - u)
  np.testing.assert_allclose(curvature, 2 * u * (1 - u), atol=1e-6)
  assert curvature[0] == curvature[-1] == 0


# What public code got wrong. Each check is a function of an implementation and must tell.


@functools.cache
def values_and_slopes(function):
  return jax.jit(jax.vmap(jax.value_and_grad(function), (0, None)))


def check_values(function):
  for beta in (0.3, 1.0, 2.5):
    x = np.linspace(-4, 4, 161, dtype=np.float32)
    values, _ = values_and_slopes(function)(x, beta)
    np.testing.assert_allclose(values, [by_definition(t, beta) for t in x], rtol=1e-5, atol=1e-6)


def check_slopes(function):
  for beta in (0.3, 1.0, 2.5):
    x = np.linspace(-4.03, 4, 161, dtype=np.float32)  # meets no joint
    _, slopes = values_and_slopes(function)(x, beta)
    np.testing.assert_allclose(slopes, np.clip((x + beta) / (2 * beta), 0, 1), atol=1e-5)


def check_joints(function):
  for beta in (0.3, 1.0, 2.5):
    joint = np.full(161, beta, np.float32)
    for x, slope in ((-joint, 0), (joint, 1)):
      _, slopes = values_and_slopes(function)(x, beta)
      np.testing.assert_allclose(slopes, slope, atol=1e-6)


def check_no_width(function):
  x = np.linspace(-4, 4, 161, dtype=np.float32)
  values, slopes = values_and_slopes(function)(x, 0.0)
  np.testing.assert_array_equal(values, np.maximum(x, 0))
  np.testing.assert_array_equal(slopes, x > 0)


def three_branches(x, beta):
  middle = (x + beta) ** 2 / (4 * beta)
  return jnp.where(x >= beta, x, jnp.where(x <= -beta, 0.0, middle))


def without_branches(x, beta):
  return beta * jnp.clip((x + beta) / (2 * beta), 0, 1) ** 2 + relu(x - beta)


def half_the_polynomial(x, beta):
  middle = x**2 / (4 * beta) + x * beta / 8
  return jnp.where(x >= beta, x, jnp.where(x <= -beta, 0.0, middle))


@jax.custom_jvp
def quarter_on_the_left(x, beta):
  return jnp.where(x >= beta, x, (jnp.where(x <= -beta, 0.0, x) + beta) ** 2 / (4 * beta))


@quarter_on_the_left.defjvp
def _(primals, tangents):
  x, beta = primals
  return quarter_on_the_left(x, beta), jnp.where(jnp.abs(x) == beta, 0.0, 1.0) * tangents[0]


@pytest.mark.parametrize(
  "function, wrong",
  [
    (smelu, set()),
    (lambda x, beta: gsmelu(x, 0.0, 1.0, beta, beta), set()),
    (three_branches, {check_no_width}),
    (without_branches, {check_joints, check_no_width}),
    (half_the_polynomial, {check_values, check_slopes, check_no_width}),
    (quarter_on_the_left, {check_values, check_slopes, check_joints, check_no_width}),
  ],
)
def test_the_checks_tell_right_from_wrong(function, wrong):
  found = set()
  for check in (check_values, check_slopes, check_joints, check_no_width):
    try:
      check(function)
    except AssertionError:
      found.add(check)
  assert found == wrong


def test_a_training_step_over_betas_and_seeds_is_that_of_each():
  images, labels = jax.random.normal(jax.random.key(9), (16, 8, 8, 1)), jnp.arange(16) % 10
  module = MLP(10, 12, "none", relu, depth=1)
  init = functools.partial(module.init, train=False)
  shapes, rng = jax.eval_shape(init, jax.random.key(0), images), np.random.default_rng(0)
  first_S = jax.tree.map(lambda leaf: rng.normal(0, 0.3, (2, *leaf.shape)).astype("f"), shapes)

  def step(variables, beta):
    """One step of gradient descent, on beta too."""

    def loss(variables, beta):
      network = module.clone(activation=lambda x: smelu(x, beta))
      chances = jax.nn.log_softmax(network.apply(variables, images, True))
      return -jnp.take_along_axis(chances, labels[:, None], 1).mean()

    gradient = jax.grad(loss, (0, 1))(variables, beta)
    return jax.tree.map(lambda p, g: p - 0.5 * g, (variables, beta), gradient)

  betas_B = jnp.array([0.0, 0.25, 1.0, 3.0])
  lanes = jax.jit(jax.vmap(jax.vmap(step, (0, None)), (None, 0)))
  after_BxS, alone = lanes(first_S, betas_B), jax.jit(step)
  for b, s in itertools.product(range(4), range(2)):
    one = alone(jax.tree.map(lambda leaf, s=s: leaf[s], first_S), betas_B[b])
    for lane, leaf in zip(jax.tree.leaves(after_BxS), jax.tree.leaves(one), strict=True):
      np.testing.assert_allclose(lane[b, s], leaf, rtol=1e-5, atol=1e-6)
  moved_BxS = np.abs(after_BxS[1] - betas_B[:, None])
  assert (moved_BxS[1:] > 1e-5).all() and (moved_BxS[0] == 0).all()
  lanes(first_S, 2 * betas_B)
  assert lanes._cache_size() == alone._cache_size() == 1


@pytest.mark.parametrize(
  "name, kwargs, moment",
  [
    ("linear", {}, 1.0),
    ("relu", {}, 0.5),
    ("leaky_relu", {"slope": 0.1}, 0.505),
    # Integrals of the polynomials against the normal density, as published.
    ("smelu", {"beta": 0.1}, 0.5000),
    ("smelu", {"beta": 0.5}, 0.5033),
    ("smelu", {"beta": 1.0}, 0.5248),
    ("smelu", {"beta": 2.0}, 0.6674),
    # Kinks away from zero: E (1 + max(z - 1, 0))^2 with a joint of width 2e-6 around 1.
    ("gsmelu", {"t": 1.0, "alpha": -1.0, "beta": 1.000002}, 1 + 2 * 0.0833154706 + 0.0753399122),
  ],
)
def test_second_moments(name, kwargs, moment):
  places = 6e-5 if name == "smelu" else 2e-6
  assert second_moment(functools.partial(getattr(activations, name), **kwargs)) == pytest.approx(
    moment, abs=places
  )


@pytest.mark.parametrize("name", ["smelu", "gelu", "tanhexp", "elu"])
def test_second_moments_agree_with_adaptive_quadrature(name):
  definition, parameters = DEFINITIONS[name]
  exact, _ = quad(
    lambda z: definition(z, *parameters)[0] ** 2 * normal_density(z),
    *(-12, 12),
    points=[-0.7, 0, 0.7],
    epsabs=1e-12,
    limit=200,
  )
  found = second_moment(lambda x: getattr(activations, name)(x, *parameters))
  assert found == pytest.approx(exact, rel=1e-6)


def network(**fields):
  return networks.build("mlp", **fields)


def test_the_gain_he_draws_the_weights_it_always_has():
  class Before(nn.Module):
    @nn.compact
    def __call__(self, x):
      x = nn.relu(nn.Dense(512, kernel_init=nn.initializers.he_normal())(x))
      return nn.Dense(10)(x)

  key, images = jax.random.key(3), jnp.zeros((1, 16, 32, 1))
  before = Before().init(key, images.reshape(1, -1))
  for gain, activation in (("he", activations.gelu), ("moment", relu)):
    module = network(width=512, depth=1, gain=gain, activation=activation)
    chex.assert_trees_all_equal(before, module.init(key, images, False))


def levels(**fields):
  """Second moment of the pre-activations of each hidden layer, for inputs as from a layer."""
  module, seen = network(width=512, depth=10, **fields), []
  z = jax.random.normal(jax.random.key(0), (64, 16, 32, 1))
  spy = module.clone(activation=lambda x: seen.append(jnp.mean(x**2)) or module.activation(x))
  spy.init(jax.random.key(1), module.activation(z), False)
  return np.array(seen)


def test_the_gain_moment_keeps_the_level_of_the_pre_activations():
  wide = functools.partial(smelu, beta=2.0)
  for activation in (wide, activations.softplus):
    level = levels(gain="moment", activation=activation)
    assert 0.75 < level.min() and level.max() < 1.35, (activation, level)
  assert levels(activation=wide)[-1] > 2.5


def test_the_gain_moment_needs_a_moment():
  module = network(gain="moment", activation=activations.linear)
  assert module.gain == pytest.approx(1, rel=1e-6)
  with pytest.raises(UserError, match=r"second moment of the activation, which is 0"):
    network(gain="moment", activation=functools.partial(gsmelu, g_plus=0.0))


def test_the_page_lists_every_activation_with_its_defaults():
  page = pathlib.Path(__file__).parent.parent / "docs" / "activations.md"
  rows = [line.split("|")[1:-1] for line in page.read_text().splitlines() if line.startswith("| `")]
  table = {row[0].split("`")[1]: [cell.strip() for cell in row[1:]] for row in rows}
  assert set(table) == set(activations.__all__) - {"silu"}
  for name, (_, parameters, monotone, *_) in table.items():
    _, *known = inspect.signature(getattr(activations, name)).parameters.values()
    assert parameters == ", ".join(f"`{p.name}` {p.default:g}" for p in known)
    assert monotone.startswith("no") == (name in NOT_MONOTONE)
