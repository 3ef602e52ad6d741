"""Activation functions on arrays of any float dtype, and the table that names them.

All act elementwise, keep the dtype of `x`, and have exact first derivatives at
every point, the joints of their pieces included.
"""

import functools
import inspect
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from seedlab.config import UserError, choice_error


def relu(x: jax.Array) -> jax.Array:
  """max(x, 0), with derivative 0 at 0; NaN stays NaN."""
  return jax.nn.relu(x)


def smelu(x: jax.Array, beta: jax.typing.ArrayLike = 1.0) -> jax.Array:
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
    UserError: `beta` is a plain number below 0, or NaN.

  References:
    Shamir & Lin, Real World Large Scale Recommendation Systems Reproducibility
    and Smooth Activations, arXiv 2202.06499.
  """
  if isinstance(beta, (int, float)) and not beta >= 0:
    raise UserError(f"beta={beta!r} must be at least 0")
  return _smelu(x, jnp.asarray(beta, x.dtype))


def gelu(x: jax.Array) -> jax.Array:
  """x P(Z <= x) for a standard normal Z (Hendrycks & Gimpel 2016, arXiv 1606.08415), by erfc.

  PyTorch's nn.GELU(); not its approximation by tanh.
  """
  return jax.nn.gelu(x, approximate=False)


def by_name(name: str, kwargs: Mapping[str, float]) -> Callable[[jax.Array], jax.Array]:
  """The activation called `name` with its parameters bound to `kwargs`.

  Raises UserError for an unknown name, an unknown parameter or a value that the
  activation rejects.
  """
  if name not in _BY_NAME:
    raise choice_error("model.activation", name, _BY_NAME)
  function = _BY_NAME[name]
  _, *parameters = inspect.signature(function).parameters
  for parameter in kwargs:
    if parameter not in parameters:
      raise UserError(
        f"model.activation_kwargs={dict(kwargs)!r}: {name} takes no {parameter!r}; it takes"
        f" {', '.join(parameters) or 'no parameters'}"
      )
  bound = functools.partial(function, **kwargs)
  try:
    jax.eval_shape(bound, jax.ShapeDtypeStruct((), np.float32))
  except UserError as error:
    raise UserError(f"model.activation_kwargs: {error}") from None
  return bound


# Every activation a config can name; parameters after the first are its activation_kwargs.
_BY_NAME = {"relu": relu, "smelu": smelu, "gelu": gelu}


@jax.custom_jvp
def _smelu(x: jax.Array, beta: jax.Array) -> jax.Array:
  # The parabola as beta * slope^2: no square of x, which float16 could not hold.
  return jnp.where(jnp.abs(x) < beta, beta * _smelu_slope(x, beta) ** 2, relu(x))


@_smelu.defjvp
def _smelu_jvp(primals, tangents):
  # d/dx is the slope s and d/dbeta = s (1 - s). Automatic differentiation of the pieces would
  # give 1/2 at x = beta and 0/0 at beta = 0.
  (x, beta), (dx, dbeta) = primals, tangents
  slope = _smelu_slope(x, beta)
  return _smelu(x, beta), slope * dx + slope * (1 - slope) * dbeta


def _smelu_slope(x: jax.Array, beta: jax.Array) -> jax.Array:
  """clip((x + beta) / (2 beta), 0, 1), and 0 at x = beta = 0 as for relu."""
  # Halved first: x + beta and 2 beta may overflow. The division must stay finite where its result
  # is not selected, or its derivative turns into NaN.
  inside = (x / 2 + beta / 2) / jnp.where(beta > 0, beta, 1)
  return jnp.where(x <= -beta, 0, jnp.where(x >= beta, 1, inside))
