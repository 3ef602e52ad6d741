"""Activations against their definitions: values, derivatives, joints and limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seedlab import activations
from seedlab.activations import relu, smelu
from seedlab.config import UserError

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


def test_by_name_binds_parameters():
  x = jnp.linspace(-2, 2, 9)
  assert activations.by_name("relu", {})(x).tolist() == relu(x).tolist()
  np.testing.assert_array_equal(activations.by_name("smelu", {"beta": 0.5})(x), smelu(x, 0.5))
  np.testing.assert_array_equal(activations.by_name("smelu", {})(x), smelu(x, 1.0))


@pytest.mark.parametrize(
  "name, kwargs, message",
  [
    ("smelo", {}, "model.activation='smelo' is not known; did you mean 'smelu'"),
    ("smelu", {"alpha": 1.0}, "model.activation_kwargs.*smelu takes no 'alpha'; it takes beta"),
    (
      "relu",
      {"beta": 1.0},
      "model.activation_kwargs.*relu takes no 'beta'; it takes no parameters",
    ),
    ("smelu", {"beta": -1.0}, "model.activation_kwargs: beta=-1.0 must be at least 0"),
    ("smelu", {"beta": float("nan")}, "model.activation_kwargs: beta=nan must be at least 0"),
  ],
)
def test_by_name_refuses_in_one_line(name, kwargs, message):
  with pytest.raises(UserError, match=message) as error:
    activations.by_name(name, kwargs)
  assert "\n" not in str(error.value)
