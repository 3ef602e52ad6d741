"""Velocity networks of flow matching: (noisy images, times, classes) to a velocity for each pixel.

A class is given as a number, and the number of classes stands for "no class", which guidance asks
for. It reaches the network as a one-hot row and a matrix product: the gradient of looking a row up
is a scatter-add, whose order GPUs do not fix. The last layer starts at zero, so that an untrained
network moves nothing.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap

from seedlab.errors import UserError, choice_error
from seedlab.models.layers import Activation, Style, check_at_least

__all__ = ()  # no network that a config could train: these take times and classes

NETWORKS = ("mlp", "unet")
_FREQUENCIES = 16
_SLOWEST, _FASTEST = 1.0, 100.0  # radians in the unit of time


def network(
  name: str,
  *,
  classes: int,
  shape: tuple[int, ...],
  activation: Activation,
  platform: str,
  width: int,
  depth: int,
) -> nn.Module:
  """A velocity network by name.

  Args:
    name: "mlp" or "unet".
    classes: K; the number K itself stands for "no class".
    shape: (H, W, C) of the images.
    activation: between layers.
    platform: of JAX, which decides how a convolution is computed.
    width: units of a hidden layer; of a U-Net the channels at full size.
    depth: hidden layers; of a U-Net the number of sizes, each half of the one before.

  Raises:
    UserError: an unknown name, or images that a U-Net cannot halve so often.
  """
  check_at_least(1, width=width, depth=depth)
  if name == "mlp":
    return VelocityMLP(classes, width, depth, activation)
  if name != "unet":
    raise choice_error("network", name, NETWORKS)
  multiple = 2 ** (depth - 1)
  if any(side % multiple for side in shape[:2]):
    raise UserError(
      f"depth={depth} halves images {depth - 1} times, and {shape[0]} x {shape[1]} pixels are no"
      f" multiple of {multiple}; take a smaller depth"
    )
  return VelocityUNet(classes, width, depth, Style("group", activation, platform=platform))


def as_pair(module: nn.Module) -> tuple[Callable[..., Any], Callable[..., Any]]:
  """(init, apply) of a velocity network, for a loss that calls it with one example at a time.

  Such calls are mapped over the examples of a batch. Mapped layer by layer, a convolution would
  have a kernel's gradient for each example before they are added up; here the examples are put
  into one batch again before the network is asked, which does not mix them.
  """

  def init(key, image, time, label):
    return module.init(key, image, time, label)["params"]

  def plain(params, *inputs):
    return module.apply({"params": params}, *inputs)

  apply = custom_vmap(plain)

  @apply.def_vmap
  def mapped(size, batched, params, *inputs):
    if not any(jax.tree.leaves(batched[0])) and all(batched[1:]):
      together = [leaf.reshape(-1, *leaf.shape[2:]) for leaf in inputs]
      outputs = plain(params, *together)
      return outputs.reshape(size, -1, *outputs.shape[1:]), True
    axes = jax.tree.map(lambda mapped: 0 if mapped else None, batched)
    return jax.vmap(plain, axes)(params, *inputs), True

  return init, apply


def conditions(time_B: jax.Array, label_B: jax.Array, classes: int) -> jax.Array:
  """What a network reads beside an image, float32[B, 2 * 16 + K + 1].

  Cosines and sines of the time at sixteen frequencies from 1 to 100 radians, each the same
  multiple of the one before, and the class as a one-hot row.
  """
  frequency = np.geomspace(_SLOWEST, _FASTEST, _FREQUENCIES).astype(np.float32)
  angle = time_B[:, None] * frequency[None, :]
  label = jax.nn.one_hot(label_B, classes + 1, dtype=jnp.float32)
  return jnp.concatenate([jnp.cos(angle), jnp.sin(angle), label], axis=-1)


class VelocityMLP(nn.Module):
  """`depth` hidden layers of `width` units on pixels, time and class side by side; linear output.

  Hidden weights are He-normal (He et al. 2015, arXiv 1502.01852, eq. 10), biases and the output
  zero.
  """

  classes: int
  width: int
  depth: int
  activation: Activation

  @nn.compact
  def __call__(
    self, image_BxHxWxC: jax.Array, time_B: jax.Array, label_B: jax.Array
  ) -> jax.Array:
    flat = image_BxHxWxC.reshape(image_BxHxWxC.shape[0], -1)
    x = jnp.concatenate([flat, conditions(time_B, label_B, self.classes)], axis=-1)
    for _ in range(self.depth):
      x = self.activation(nn.Dense(self.width, kernel_init=nn.initializers.he_normal())(x))
    x = nn.Dense(flat.shape[-1], kernel_init=nn.initializers.zeros)(x)
    return x.reshape(image_BxHxWxC.shape)


class VelocityUNet(nn.Module):
  """A U-Net of residual blocks, two a size, whose sizes halve `depth` - 1 times and come back.

    in:    3x3 w - [block - 3x3 2w stride 2] ... - block - block
    out:   ... [twice as large, nearest - 3x3 w - the block's own output from the way in - block]
    last:  norm - activation - 3x3 C, zero at first
    block: x + 3x3(act(scale norm(3x3(act(norm(x)))) + shift))

  (Ronneberger et al. 2015, arXiv 1505.04597; blocks of Dhariwal & Nichol 2021, arXiv 2105.05233.)
  Time and class set the scale and the shift of each channel, behind the norm: a shift in front of
  it would be lost where a group is a single channel. Group norms see one example at a time, and so
  an example's velocity does not depend on its company. Convolutions are He-normal, the second of a
  block and the output zero.
  """

  classes: int
  width: int
  depth: int
  style: Style

  @nn.compact
  def __call__(
    self, image_BxHxWxC: jax.Array, time_B: jax.Array, label_B: jax.Array
  ) -> jax.Array:
    style, zeros = self.style, nn.initializers.zeros
    said = nn.Dense(4 * self.width)(conditions(time_B, label_B, self.classes))
    said = style.activation(said)

    def block(x):
      features = x.shape[-1]
      y = style.conv(style.finish(x, True, None), features, 3, bias=True)
      scale, shift = jnp.split(nn.Dense(2 * features)(said)[:, None, None, :], 2, axis=-1)
      y = style.activation((1 + scale) * style.normalise(y, True, None) + shift)
      return x + style.conv(y, features, 3, bias=True, kernel_init=zeros)

    x, kept = style.conv(image_BxHxWxC, self.width, 3, bias=True), []
    for level in range(self.depth):
      if level:
        x = style.conv(x, self.width * 2**level, 3, 2, bias=True)
      x = block(x)
      kept.append(x)
    x = block(x)
    for level in reversed(range(self.depth - 1)):
      x = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
      x = style.conv(x, self.width * 2**level, 3, bias=True)
      x = block(style.conv(jnp.concatenate([x, kept[level]], -1), x.shape[-1], 1, bias=True))
    x = style.finish(x, True, None)
    return style.conv(x, image_BxHxWxC.shape[-1], 3, bias=True, kernel_init=zeros)
