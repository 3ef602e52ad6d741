"""The networks a config can name: the functions that the files here list in `__all__`.

Each takes facts of the run (keyword arguments without a default: classes, shape, fields, dtype,
platform, activation) and options (with one), and returns a flax module, to be called as

  module.apply(variables, images, train, mask) -> logits

with images float[B, H, W, C] (computed in their dtype), `train` a Python bool (batch norm uses the
batch's statistics, and records them in the collection `batch_stats` when that is mutable), `mask`
bool[B] or None (False for the padding of an incomplete batch; batch norm skips it), logits
float32[B, classes] (of `picard` float16 if the images are). Of `ctr` and `ctr_ovadia` rows
int32[B, F] take the place of the images. With dropout above 0, training needs
rngs={"dropout": key} too.

Where several read it, `width` is the hidden units of multilayer perceptrons (`ctr` halves them
layer by layer), the features of a Transformer, and the channels of the first layer of all others;
`depth` the number of hidden layers or of Transformer blocks; `norm` what normalises behind each
layer (`layers.normalise`); `convolution` how convolutions are computed (`layers.conv`).
"""

from typing import Any

import jax
import jax.numpy as jnp


def held_in(precision: str, params: Any) -> Any:
  """`params` in the dtypes in which they are trained: float32, or float16 but for those of norms.

  Args:
    precision: `model.precision`; of "bfloat16" the parameters are float32.
    params: a tree of float32 arrays, norms in modules whose names say so, as flax's do.
  """
  if precision != "float16":
    return params

  def cast(path, leaf):
    return leaf if "Norm" in jax.tree_util.keystr(path) else leaf.astype(jnp.float16)

  return jax.tree_util.tree_map_with_path(cast, params)
