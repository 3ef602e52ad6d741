"""What the tests of networks share."""

import dataclasses
import functools
import importlib
import inspect
import math
import pkgutil

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import optax

from seedlab import activations, models
from seedlab.models.layers import Style


@functools.cache
def named():
  """{name: function} of all networks that a config can name."""
  files = [info.name for info in pkgutil.iter_modules(models.__path__)]
  files = [importlib.import_module(f"seedlab.models.{file}") for file in files]
  return {name: getattr(file, name) for file in files for name in getattr(file, "__all__", ())}


def build(name, shape=(32, 32, 3), classes=10, **given):
  """The network `name`, from its options and those facts of a run that it asks for."""
  facts = {
    "classes": classes,
    "shape": shape,
    "platform": "cpu",
    "activation": activations.relu,
    "dtype": jnp.float32,
  }
  wanted = inspect.signature(named()[name]).parameters
  facts = {fact: value for fact, value in facts.items() if fact in wanted}
  return named()[name](**{**facts, **given})


def style(norm="batch", activation=jax.nn.relu, **others):
  return Style(norm, activation, **others)


def activated(module, activation):
  """`module` with another activation."""
  if not hasattr(module, "style"):
    return module.clone(activation=activation)
  return module.clone(style=dataclasses.replace(module.style, activation=activation))


def shapes(module, side=32):
  images = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
  return jax.eval_shape(functools.partial(module.init, train=False), jax.random.key(0), images)


def moved(module, side):
  """Variables about as large as the first ones, but none at zero or one: nothing goes unnoticed."""
  rng = np.random.default_rng(1)

  def draw(path, leaf):
    name = path[-1].key
    if name == "kernel":
      fan_in = leaf.shape[-2] * (math.prod(leaf.shape[-4:-2]) if leaf.ndim > 3 else 1)
      return rng.normal(size=leaf.shape) * fan_in**-0.5
    if name in ("scale", "var"):
      return rng.uniform(0.5, 1.5, leaf.shape)
    return 0.3 * rng.normal(size=leaf.shape)

  variables = jax.tree_util.tree_map_with_path(draw, shapes(module, side))
  return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), variables)


def gradient(module, variables, images):
  """Logits, new statistics and the gradient of a loss, in train mode."""

  def loss(params):
    logits, new = module.apply(
      {**variables, "params": params}, images, True, mutable=["batch_stats"]
    )
    labels = jnp.arange(len(images)) % 10
    value = optax.softmax_cross_entropy_with_integer_labels(logits, labels).sum()
    return value, (logits, new)

  (_, (logits, new)), slope = jax.value_and_grad(loss, has_aux=True)(variables["params"])
  return logits, new, slope


def assert_near(found, expected, tolerance=1e-4):
  assert jax.tree.structure(found) == jax.tree.structure(expected)
  for (path, a), b in zip(
    jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(expected), strict=True
  ):
    scale = float(np.abs(b).max()) + 1e-3
    name = jax.tree_util.keystr(path)
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * scale, err_msg=name)


def size(tree):
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def equations(jaxpr):
  for equation in jaxpr.eqns:
    yield equation
    for inner in jax.extend.core.jaxprs_in_params(equation.params):
      yield from equations(inner)
