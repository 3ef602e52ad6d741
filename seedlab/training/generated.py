"""How good generated samples are, in the graph: Frechet distance, precision and recall.

All compare samples with a reference set in some space of features, of which they need what
`reference` makes of it once, on the host. Nothing here calls LAPACK: on a CPU JAX takes it from
SciPy, whose version no fingerprint of a run holds, so that a run's bits could change with it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from seedlab.errors import UserError

_SWEEPS = 9  # of Jacobi's rotations; float32 needs 6 in 64 dimensions, 8 in 512
_NEIGHBOURS = 3  # of precision and recall, as by Kynkäänniemi et al.


class Reference(NamedTuple):
  """What is known of the data that samples are compared with, in D dimensions."""

  mean: np.ndarray  # float32[D]
  root: np.ndarray  # float32[D, D], the symmetric root of the covariance
  trace: np.ndarray  # float32[], of the covariance
  point: np.ndarray  # float32[M, D], for precision and recall
  radius: np.ndarray  # float32[M], from each point to its third neighbour among them, squared


def reference(feature_NxD: np.ndarray, points: int) -> Reference:
  """The moments of all N features, and the first `points` of them.

  Raises:
    UserError: too few features.
  """
  count = len(feature_NxD)
  if count < 2 or not _NEIGHBOURS < points <= count:
    raise UserError(
      f"points={points} must lie from {_NEIGHBOURS + 1} to the {count} examples that samples are"
      " compared with"
    )
  x = np.asarray(feature_NxD, np.float64)
  mean, covariance = x.mean(0), np.cov(x, rowvar=False).reshape(x.shape[1], -1)
  value, vector = np.linalg.eigh(covariance)
  root = (vector * np.sqrt(np.maximum(value, 0))) @ vector.T
  point = x[:points]
  square = np.square(point).sum(-1)
  apart = np.maximum(square[:, None] + square[None, :] - 2 * point @ point.T, 0)
  radius = np.partition(apart, _NEIGHBOURS, axis=1)[:, _NEIGHBOURS]
  numbers = (mean, root, np.trace(covariance), point, radius)
  return Reference(*(np.asarray(one, np.float32) for one in numbers))


def frechet(feature_NxD: jax.Array, known: Reference) -> jax.Array:
  """float32: the Frechet distance of N samples to the reference, of Gaussians with their moments.

    |m - m'|² + tr(S + S' - 2 (S^1/2 S' S^1/2)^1/2)

  (Dowson & Landau 1982; with the features of an Inception network it is the FID of Heusel et al.
  2017, arXiv 1706.08500.) In squared units of a feature. Covariances are divided by N - 1.

  It is biased upwards, by about c / N, and c is a model's own (Chong & Forsyth 2020, arXiv
  1911.07023): compare distances of the same number of samples. For samples of the reference's own
  Gaussian in D dimensions of variance 1, c is about D + D (D + 1) / 4; for D = 64 the distance is
  about 1.1 at 1,000 samples and 0.22 at 5,000, whose true value is 0.
  """
  mean = feature_NxD.mean(0)
  centred = feature_NxD - mean[None, :]
  covariance = centred.T @ centred / (feature_NxD.shape[0] - 1)
  value = eigenvalues(known.root @ covariance @ known.root)
  shift = jnp.square(mean - known.mean).sum()
  mixed = jnp.sqrt(jnp.maximum(value, 0)).sum()
  return shift + known.trace + jnp.trace(covariance) - 2 * mixed


def eigenvalues(matrix_DxD: jax.Array) -> jax.Array:
  """float32[D or D + 1]: eigenvalues of a symmetric matrix, in no order; a zero pads odd D.

  Jacobi's method with D / 2 rotations at once, each pair once a sweep (Brent & Luk 1985; Golub &
  Van Loan, Matrix Computations, section 8.5): sums, products and square roots alone. Their errors
  are a few units in the last place of the largest eigenvalue.
  """
  size = matrix_DxD.shape[0]
  padding = size % 2
  a = jnp.pad((matrix_DxD + matrix_DxD.T) / 2, ((0, padding), (0, padding)))
  size += padding
  # Everyone but the first moves up one seat of a round table: all pairs meet in size - 1 rounds.
  top, bottom = np.arange(0, size, 2), np.arange(1, size, 2)
  seats = np.empty(size, np.int32)
  seats[0::2] = np.concatenate([top[:1], bottom[:1], top[1:-1]]) if size > 2 else top
  seats[1::2] = np.concatenate([bottom[1:], top[-1:]]) if size > 2 else bottom

  def turned(a, c, s):
    """The rows of each pair, rotated."""
    pair = a.reshape(size // 2, 2, size)
    first, second = pair[:, 0], pair[:, 1]
    return jnp.stack([c * first - s * second, s * first + c * second], 1).reshape(size, size)

  def body(_, a):
    diagonal = jnp.diagonal(a).reshape(-1, 2)
    off = jnp.diagonal(a, 1)[0::2]
    apart = diagonal[:, 1] - diagonal[:, 0]
    below = jnp.abs(apart) + jnp.sqrt(jnp.square(apart) + 4 * jnp.square(off))
    tangent = 2 * off * jnp.where(apart < 0, -1, 1) / jnp.where(below > 0, below, 1)
    c = 1 / jnp.sqrt(1 + jnp.square(tangent))[:, None]
    s = tangent[:, None] * c
    a = turned(turned(a, c, s).T, c, s)
    return a[seats][:, seats]

  return jnp.diagonal(lax.fori_loop(0, _SWEEPS * (size - 1), body, a))


def precision_and_recall(
  feature_NxD: jax.Array, known: Reference
) -> tuple[jax.Array, jax.Array]:
  """Shares of the samples that lie among the data, and of the data that lie among the samples.

  A point lies among others if it is no further from one of them than that one's third neighbour
  among its own kind (Kynkäänniemi et al. 2019, arXiv 1904.06991, eqs. 1 and 2).

  Args:
    feature_NxD: the samples; N as the reference's number of points, for shares that compare.
    known: the reference.
  """
  apart_NxM = _distances(feature_NxD, known.point)
  among_data = (apart_NxM <= known.radius[None, :]).any(1)
  own_NxN = _distances(feature_NxD, feature_NxD)
  # The nearest one is the sample itself.
  radius_N = -lax.top_k(-own_NxN, _NEIGHBOURS + 1)[0][:, -1]
  among_samples = (apart_NxM <= radius_N[:, None]).any(0)
  return among_data.mean(dtype=jnp.float32), among_samples.mean(dtype=jnp.float32)


def _distances(a_NxD: jax.Array, b_MxD: jax.Array) -> jax.Array:
  """Squared distances [N, M], up to rounding."""
  squares = [jnp.square(one).sum(-1) for one in (a_NxD, b_MxD)]
  return jnp.maximum(squares[0][:, None] + squares[1][None, :] - 2 * a_NxD @ b_MxD.T, 0)
