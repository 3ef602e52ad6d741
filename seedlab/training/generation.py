"""Images that a flow generates when it is evaluated, and what is measured on them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from seedlab.data import augmentation
from seedlab.models.layers import average_pool
from seedlab.training import flow, frechet

_SIDE = 8  # pixels


class Known(NamedTuple):
  """The arrays that an evaluation reads."""

  image: Any  # uint8[N, H, W, C], the data that samples are compared with
  noise: Any  # float32[F, H, W, C], the same in every run and evaluation
  classifier: Any = None  # its parameters, and `mean` and `std` of the pixels that it reads


class Sampling(NamedTuple):
  """How images are generated; the fields are arguments of `recipes.diffusion.make`."""

  classes: int
  guidance: float
  sampler: flow.Method
  sampler_steps: int
  samples: int
  sample_batch: int
  draws: int
  points: int


def scaled(image: jax.Array) -> jax.Array:
  """uint8 pixels as float32 from -1 to 1."""
  return image.astype(jnp.float32) / 127.5 - 1


def pixels(x: jax.Array) -> jax.Array:
  """The nearest uint8 pixels of floats, cut at -1 and 1."""
  return jnp.round((jnp.clip(x, -1, 1) + 1) * 127.5).astype(jnp.uint8)


def thumbnails(image: jax.Array) -> jax.Array:
  """float32[N, D]: pixels from -1 to 1, averaged over squares where there are 16 a side or more.

  So D stays near 64 pixels: a covariance of all those of a large image is no measure of anything
  with a few thousand samples.
  """
  x = scaled(image)
  if min(x.shape[1:3]) >= 2 * _SIDE:
    x = average_pool(x, min(x.shape[1:3]) // _SIDE)
  return x.reshape(x.shape[0], -1)


def images(
  sampling: Sampling, apply: Callable[..., jax.Array], noise: jax.Array, index_N: jax.Array
) -> jax.Array:
  """uint8[N, H, W, C] from noise; sample number i has the class i modulo the classes."""
  label_N = index_N % sampling.classes
  velocity = flow.guided(apply, label_N, sampling.classes, sampling.guidance)
  return pixels(flow.follow(velocity, noise, sampling.sampler_steps, sampling.sampler))


def drawn(
  sampling: Sampling, apply: Callable[..., jax.Array], key: jax.Array, shape: tuple[int, ...]
) -> jax.Array:
  """uint8[samples, H, W, C] of one draw; the noise of sample i is of fold_in(key, i) alone."""
  size = sampling.sample_batch
  blocks = -(-sampling.samples // size)

  def of_block(number):
    index = number * size + jnp.arange(size, dtype=jnp.int32)
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, index)
    noise = jax.vmap(lambda key: jax.random.normal(key, shape, jnp.float32))(keys)
    return images(sampling, apply, noise, index)

  made = lax.map(of_block, jnp.arange(blocks, dtype=jnp.int32))
  return made.reshape(-1, *shape)[: sampling.samples]


def evaluated(
  sampling: Sampling,
  module: nn.Module | None,
  apply: Callable[..., jax.Array],
  known: Known,
  key: jax.Array,
) -> dict[str, jax.Array]:
  """The outcomes of `recipes.diffusion.make` but for its loss.

  Args:
    sampling: how images are made.
    module: the classifier whose features are compared; None compares pixels alone.
    apply: the velocity network on a batch.
    known: what is compared with.
    key: of the `generate` stream.
  """
  spaces = {"frechet_pixels": thumbnails}
  if module is not None:
    spaces["frechet_features"] = lambda image: features(module, known.classifier, image)
  found = {name: frechet.reference(of(known.image), sampling.points) for name, of in spaces.items()}
  *_, best = spaces  # where precision and recall are measured

  def of_draw(number):
    image = drawn(sampling, apply, jax.random.fold_in(key, number), known.noise.shape[1:])
    seen = {name: of(image) for name, of in spaces.items()}
    distances = {name: frechet.frechet(seen[name], found[name]) for name in spaces}
    shares = frechet.precision_and_recall(seen[best][: sampling.points], found[best])
    return distances | dict(zip(("precision", "recall"), shares, strict=True))

  outcome = lax.map(of_draw, jnp.arange(sampling.draws, dtype=jnp.int32))
  outcome["frechet"] = outcome[best].mean()
  index = jnp.arange(known.noise.shape[0], dtype=jnp.int32)
  frozen = images(sampling, apply, known.noise, index)
  return outcome | {"image": frozen.reshape(frozen.shape[0], -1)}


def features(module: nn.Module, classifier: dict[str, Any], image: jax.Array) -> jax.Array:
  """float32[N, D]: what the last linear layer of a classifier reads.

  Args:
    module: a linen classifier of ours.
    classifier: `params`, and `mean` and `std` of the pixels that it was trained on.
    image: uint8[N, H, W, C].
  """
  read = []

  def note(layer, arguments, options, context):
    if isinstance(context.module, nn.Dense) and context.method_name == "__call__":
      read.append(arguments[0])
    return layer(*arguments, **options)

  normal = augmentation.normalise(image, classifier["mean"], classifier["std"])
  with nn.intercept_methods(note):
    module.apply({"params": classifier["params"]}, normal, train=False)
  return read[-1].astype(jnp.float32)
