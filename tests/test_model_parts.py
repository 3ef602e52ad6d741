"""Every option of every network and activation is read: no option can be set without effect."""

import functools
import inspect
import re
import typing

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import build, named

from seedlab import activations
from seedlab.data.fields import Field, columns
from seedlab.models.layers import Activation

FACTS = {
  "classes": int,
  "shape": tuple[int, ...],
  "fields": tuple[Field, ...],
  "platform": str,
  "activation": Activation,
  "dtype": jax.typing.DTypeLike,
}
FIELDS = (
  Field("film", 5, embedding=2),
  Field("genres", 4, columns=3, embedding=2),
  Field("age", 0),
)
# Where the defaults will not do: groups of more than one value, an activation of another second
# moment than ReLU's.
CONTEXT = {
  "mlp": {"width": 64, "activation": activations.gelu},
  "mlp_pytorch": {"width": 64},
  "vit_s16": {"width": 128, "depth": 2},
  "ctr": {"width": 64, "depth": 1, "activation": activations.gelu},
}
# Seconds each, of code that another network of the same family runs too.
DEEP = ("densenet121", "resnet50", "resnet152", "vgg13", "vgg16", "vgg19")
OTHER = {
  "width": lambda width: 2 * width,
  "depth": lambda depth: depth + 1,
  "heads": lambda heads: heads // 2,
  "patch": lambda patch: 2 * patch,
  "cell_seed": lambda seed: seed + 1,
  "embedding": lambda size: size + 1,
  "towers": lambda towers: towers + 1,
  "dropout": lambda rate: 0.5,
}


def options(function):
  """{name: (annotation, default)} of what a config may set."""
  return {
    name: (parameter.annotation, parameter.default)
    for name, parameter in inspect.signature(function).parameters.items()
    if parameter.default is not parameter.empty
  }


def program(name, **given):
  """The text of a network's first weights, and of its logits in training."""
  rows = "fields" in inspect.signature(named()[name]).parameters
  facts = {"classes": 2, "fields": FIELDS} if rows else {}
  module = build(name, **{**facts, **CONTEXT.get(name, {}), **given})

  def both(key, x):
    rngs = {"params": key, "dropout": key}
    return module.init_with_output(rngs, x, train=True, mutable=True)

  x = np.zeros((2, columns(FIELDS)), np.int32) if rows else np.zeros((2, 32, 32, 3), np.float32)
  text = str(jax.make_jaxpr(both)(jax.random.key(0), x))
  return re.sub(r"0x[0-9a-f]+", "", text)  # addresses of functions, which no program depends on


@functools.cache
def usual(name):
  return program(name)


@pytest.mark.parametrize("name", named())
def test_facts_and_options_can_be_told_apart_and_are_typed(name):
  for parameter in inspect.signature(named()[name]).parameters.values():
    assert parameter.kind is parameter.KEYWORD_ONLY
    if parameter.default is parameter.empty:
      assert parameter.annotation == FACTS[parameter.name]
    elif typing.get_origin(parameter.annotation) is typing.Literal:
      assert parameter.default in typing.get_args(parameter.annotation)
    else:
      assert type(parameter.default) is parameter.annotation in (bool, int, float, str)
  assert named()[name].__name__ == name and named()[name].__doc__
  assert named()[name].__module__.startswith("seedlab.models.")


def marked(name, option):
  return pytest.param(name, option, marks=[pytest.mark.slow] if name in DEEP else [])


@pytest.mark.parametrize(
  "name, option", [marked(name, option) for name in named() for option in options(named()[name])]
)
def test_every_option_changes_the_program(name, option):
  annotation, default = options(named()[name])[option]
  value = CONTEXT.get(name, {}).get(option, default)
  if annotation is bool:
    others = [not value]
  elif typing.get_origin(annotation) is typing.Literal:
    others = [choice for choice in typing.get_args(annotation) if choice != value]
    if option == "convolution":  # of which `blocks` is `native` but for the gradients
      others.remove("blocks")
  else:
    others = [OTHER[option](value)]
  texts = {program(name, **{option: other}) for other in others}
  assert len(texts) == len(others) > 0
  # The usual convolution may be one of the others in every layer.
  assert option == "convolution" or usual(name) not in texts


@pytest.mark.parametrize("name", ["mlp", "ctr", "resnet18"])
def test_the_same_network_has_the_same_program(name):
  assert program(name) == usual(name)


@pytest.mark.parametrize("name", named())
def test_logits_and_parameters_are_float32(name):
  rows = "fields" in inspect.signature(named()[name]).parameters
  facts = {"classes": 2, "fields": FIELDS} if rows else {}
  module = build(name, **{**facts, **CONTEXT.get(name, {})})
  x = np.zeros((3, columns(FIELDS)), np.int32) if rows else np.zeros((3, 32, 32, 3), np.float32)
  init = functools.partial(module.init_with_output, train=False)
  logits, variables = jax.eval_shape(init, jax.random.key(0), x)
  chex.assert_shape(logits, (3, facts.get("classes", 10)))
  chex.assert_type([logits, *jax.tree.leaves(variables)], jnp.float32)


@pytest.mark.parametrize(
  "name, option",
  [
    (name, option) for name in activations.__all__ for option in options(getattr(activations, name))
  ],
)
def test_every_parameter_of_an_activation_changes_its_values(name, option):
  function = getattr(activations, name)
  default = options(function)[option][1]
  other = 1 if option == "degree" else default / 2 + 0.1
  x = jnp.linspace(-3, 3, 61)
  assert np.abs(function(x, **{option: other}) - function(x)).max() > 1e-3
