"""One parameter moved by next to nothing: how much of a result is chaos of the training itself."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from seedlab import streams
from seedlab.config import Training
from seedlab.errors import UserError

_FACTOR = 1.001


def move(training: Training, params, key: jax.Array, step: jax.Array):
  """`params`, in which one weight is moved if `step` is `training.poke_step`.

  The weight is drawn uniformly from those of all arrays of rank 2 and more (kernels,
  tables of embeddings) by fold_in(poke, step). "ulp" moves it to the next float of its
  dtype away from zero, "factor" multiplies it by 1.001.

  Args:
    training: `poke_step` (None moves nothing) and `poke`.
    params: arrays of float32 or float16.
    key: of the `poke` stream.
    step: of the update that comes next.

  Raises:
    UserError: there is no weight to move.
  """
  if training.poke_step is None:
    return params
  leaves, structure = jax.tree.flatten(params)
  sizes = [leaf.size if leaf.ndim > 1 else 0 for leaf in leaves]
  total = sum(sizes)
  if not total:
    raise UserError(
      f"training.poke_step={training.poke_step} moves a weight, and this network has none; leave it"
      " empty"
    )

  def moved(leaves):
    place = jax.random.randint(streams.at_step(key, training.poke_step), (), 0, total, jnp.int32)
    found = []
    for leaf, size, end in zip(leaves, sizes, np.cumsum(sizes).tolist(), strict=True):
      if size:
        flat = leaf.reshape(-1)
        at = place - (end - size)
        inside = (at >= 0) & (at < size)
        at = jnp.clip(at, 0, size - 1)
        leaf = flat.at[at].set(jnp.where(inside, _moved(training.poke, flat[at]), flat[at]))
        leaf = leaf.reshape(leaves[len(found)].shape)
      found.append(leaf)
    return found

  # The step is the same in all lanes, so that under vmap too one branch alone runs.
  leaves = lax.cond(step == training.poke_step, moved, lambda leaves: leaves, leaves)
  return jax.tree.unflatten(structure, leaves)


def _moved(kind: str, weight: jax.Array) -> jax.Array:
  if kind == "factor":
    return weight * jnp.asarray(_FACTOR, weight.dtype)
  bits = lax.bitcast_convert_type(weight, f"int{8 * weight.dtype.itemsize}")
  return lax.bitcast_convert_type(bits + 1, weight.dtype)
