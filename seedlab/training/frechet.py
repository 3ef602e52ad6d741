"""How good generated samples are, in the graph: Frechet distance, precision and recall.

All compare samples with reference data in some space of features. Nothing here calls LAPACK: on a
CPU JAX takes it from SciPy, whose version no fingerprint of a run holds, so that a run's bits
could change with it.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

_SWEEPS = 9  # of Jacobi's rotations; float32 needs 6 in 64 dimensions, 8 in 512
NEIGHBOURS = 3  # of precision and recall, as by Kynkäänniemi et al.


class Reference(NamedTuple):
  """What is known of the data that samples are compared with, in D dimensions."""

  mean: jax.Array  # float32[D]
  root: jax.Array  # float32[D, D], the symmetric root of the covariance
  trace: jax.Array  # float32[], of the covariance
  point: jax.Array  # float32[M, D], for precision and recall
  radius: jax.Array  # float32[M], from each point to its third neighbour among them, squared


def reference(feature_NxD: jax.Array, points: int) -> Reference:
  """The moments of the features of all N examples of the data, and the first `points` of them."""
  mean, covariance = _moments(feature_NxD)
  value, vector = eigh(covariance)
  root = (vector * jnp.sqrt(jnp.maximum(value, 0))[None, :]) @ vector.T
  point = feature_NxD[:points]
  return Reference(mean, root, jnp.trace(covariance), point, _radius(point))


def frechet(feature_NxD: jax.Array, known: Reference) -> jax.Array:
  """float32: the Frechet distance of N samples to the data, between Gaussians of their moments.

    |m - m'|² + tr(S + S' - 2 (S^1/2 S' S^1/2)^1/2)

  (Dowson & Landau 1982; with the features of an Inception network it is the FID of Heusel et al.
  2017, arXiv 1706.08500.) In squared units of a feature. Covariances are divided by N - 1.

  It is biased upwards by about c / N, and c is a model's own (Chong & Forsyth 2020, arXiv
  1911.07023): compare distances of the same number of samples. For samples of the reference's own
  Gaussian in D dimensions of variance 1, c is D + D (D + 1) / 4 to first order: in 64 dimensions
  the distance, whose true value is 0, was 1.10 at 1,000 samples and 0.218 at 5,000.
  """
  mean, covariance = _moments(feature_NxD)
  value, _ = eigh(known.root @ covariance @ known.root)
  shift = jnp.square(mean - known.mean).sum()
  mixed = jnp.sqrt(jnp.maximum(value, 0)).sum()
  return shift + known.trace + jnp.trace(covariance) - 2 * mixed


def _moments(feature_NxD: jax.Array) -> tuple[jax.Array, jax.Array]:
  mean = feature_NxD.mean(0)
  centred = feature_NxD - mean[None, :]
  return mean, centred.T @ centred / (feature_NxD.shape[0] - 1)


def eigh(matrix_DxD: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Eigenvalues float32[K] of a symmetric matrix, in no order, and eigenvectors float32[D, K].

  Jacobi's method with K / 2 rotations at once, each pair once a sweep (Brent & Luk 1985; Golub &
  Van Loan, Matrix Computations, section 8.5): sums, products and square roots alone. Errors are a
  few units in the last place of the largest eigenvalue. K is D, or for odd D one more: a zero with
  a vector of zeros.
  """
  size = matrix_DxD.shape[0]
  padding = size % 2
  a = jnp.pad((matrix_DxD + matrix_DxD.T) / 2, ((0, padding), (0, padding)))
  seats = _round_table(size + padding)

  def body(_, carried):
    a, vectors = carried  # a vector a row
    diagonal = jnp.diagonal(a).reshape(-1, 2)
    off = jnp.diagonal(a, 1)[0::2]
    apart = diagonal[:, 1] - diagonal[:, 0]
    below = jnp.abs(apart) + jnp.sqrt(jnp.square(apart) + 4 * jnp.square(off))
    tangent = 2 * off * jnp.where(apart < 0, -1, 1) / jnp.where(below > 0, below, 1)
    cosine = 1 / jnp.sqrt(1 + jnp.square(tangent))
    turn = functools.partial(_turned, cosine[:, None], (tangent * cosine)[:, None])
    a = turn(turn(a).T)
    return a[seats][:, seats], turn(vectors)[seats]

  rounds = _SWEEPS * (size + padding - 1)
  a, vectors = lax.fori_loop(0, rounds, body, (a, jnp.eye(size + padding, dtype=jnp.float32)))
  return jnp.diagonal(a), vectors[:, :size].T


def _round_table(size: int) -> np.ndarray:
  """int32[size]: who sits where next, so that in size - 1 rounds each sits beside each other once.

  Neighbours 0 and 1, 2 and 3, ... are pairs. All but the first move up by one.
  """
  seats = np.arange(size, dtype=np.int32)
  if size > 2:
    top, bottom = seats[0::2].copy(), seats[1::2].copy()
    seats[0::2] = np.concatenate([top[:1], bottom[:1], top[1:-1]])
    seats[1::2] = np.concatenate([bottom[1:], top[-1:]])
  return seats


def _turned(cosine: jax.Array, sine: jax.Array, a: jax.Array) -> jax.Array:
  """The rows of each pair of `a`, rotated; cosine and sine are [pairs, 1]."""
  pair = a.reshape(-1, 2, a.shape[1])
  first, second = pair[:, 0], pair[:, 1]
  turned = [cosine * first - sine * second, sine * first + cosine * second]
  return jnp.stack(turned, axis=1).reshape(a.shape)


def precision_and_recall(
  feature_NxD: jax.Array, known: Reference
) -> tuple[jax.Array, jax.Array]:
  """Shares of the samples that lie among the data, and of the data that lie among the samples.

  A point lies among others if it is no further from one of them than that one's third neighbour
  among its own kind (Kynkäänniemi et al. 2019, arXiv 1904.06991, eqs. 1 and 2).

  Args:
    feature_NxD: the samples, as many as the reference has points: both shares depend on that.
    known: the reference.
  """
  apart_NxM = _distances(feature_NxD, known.point)
  among_data = (apart_NxM <= known.radius[None, :]).any(1)
  among_samples = (apart_NxM <= _radius(feature_NxD)[:, None]).any(0)
  return among_data.mean(dtype=jnp.float32), among_samples.mean(dtype=jnp.float32)


def _radius(point_MxD: jax.Array) -> jax.Array:
  """float32[M]: from each point to its third neighbour, squared; the nearest one is itself."""
  apart = _distances(point_MxD, point_MxD)
  return -lax.top_k(-apart, NEIGHBOURS + 1)[0][:, -1]


def _distances(a_NxD: jax.Array, b_MxD: jax.Array) -> jax.Array:
  """Squared distances [N, M], up to rounding."""
  a, b = (jnp.square(one).sum(-1) for one in (a_NxD, b_MxD))
  return jnp.maximum(a[:, None] + b[None, :] - 2 * a_NxD @ b_MxD.T, 0)
