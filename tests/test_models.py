"""The networks: published sizes, activation everywhere, masks, dtypes, errors; and they learn."""

import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from networks import activated, size
from networks import build as network
from sklearn.datasets import load_digits

from seedlab import activations, config, training
from seedlab.errors import UserError

SHAPES = {"mlp": (8, 8, 1), "cnn": (8, 8, 1), "resnet9": (16, 16, 3)}
NAMES = sorted(SHAPES)
NORMS = ["none", "batch"]


def build(name, norm="none", shape=None, width=4, **fields):
  return network(name, shape or SHAPES[name], width=width, norm=norm, **fields)


@functools.cache
def start(name, norm):
  """First variables and seven images, for the networks of SHAPES."""
  images = np.random.default_rng(0).normal(size=(7, *SHAPES[name]))
  init = jax.jit(build(name, norm).init, static_argnums=2)
  images = jnp.asarray(images, jnp.float32)
  return init(jax.random.key(0), images, False), images


def apply(module, variables, images, train=False):
  return jax.jit(lambda v, x: module.apply(v, x, train))(variables, images)


def shapes(name, norm="none", shape=None, **fields):
  """The variables of a network, without their values."""
  images = jax.ShapeDtypeStruct((1, *(shape or SHAPES[name])), jnp.float32)
  init = functools.partial(build(name, norm, shape, **fields).init, train=False)
  return jax.eval_shape(init, jax.random.key(0), images)


def test_resnet9_has_the_published_number_of_parameters():
  variables = shapes("resnet9", "batch", (32, 32, 3), width=64)
  assert size(variables["params"]) == 2_274_880
  assert size(variables["batch_stats"]) == 2 * 1_344  # mean and variance of each channel


def test_resnet9_on_the_smallest_image_has_one_last_pixel():
  module = build("resnet9", shape=(11, 11, 3))
  variables = shapes("resnet9", shape=(11, 11, 3))
  seen = []
  spy = activated(module, lambda x: seen.append(x.shape) or x)
  images = jax.ShapeDtypeStruct((2, 11, 11, 3), jnp.float32)
  jax.eval_shape(functools.partial(spy.apply, train=False), variables, images)
  assert seen[-1] == (2, 1, 1, 8)


def test_resnet9_computes_the_published_network():
  """Written out once more with lax alone, from the list of layers in Jordan's repository."""
  variables, images = start("resnet9", "none")
  # Biases start at zero; shift them, or they would go unnoticed.
  params = jax.tree.map(
    lambda leaf: leaf + 0.1 if leaf.shape[0] == 1 else leaf, variables["params"]
  )

  def conv(x, number, stride=1, pad=1):
    layer = params[f"Conv_{number}"]
    pads, layout = [(pad, pad)] * 2, ("NHWC", "HWIO", "NHWC")
    y = jax.lax.conv_general_dilated(
      x, layer["kernel"], (stride, stride), pads, dimension_numbers=layout
    )
    return jax.nn.relu(y + layer["bias"])

  @jax.jit
  def published(x):
    x = conv(conv(x, 0), 1, stride=2, pad=2)
    x = x + conv(conv(x, 2), 3)
    x = conv(x, 4)
    x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    x = x + conv(conv(x, 5), 6)
    return conv(x, 7, pad=0).max((1, 2)) @ params["Dense_0"]["kernel"] / 5

  np.testing.assert_allclose(
    apply(build("resnet9"), {"params": params}, images), published(images), rtol=1e-4, atol=1e-5
  )


def test_cnn_halves_down_to_four_pixels():
  params = shapes("cnn", width=16)["params"]
  assert size(params) == (9 + 1) * 16 + (9 * 16 + 1) * 32 + (4 * 4 * 32 + 1) * 10
  params = shapes("cnn", shape=(32, 32, 3), width=16)["params"]
  assert [params[f"Conv_{i}"]["kernel"].shape[-1] for i in range(4)] == [16, 32, 64, 128]
  assert params["Dense_0"]["kernel"].shape == (4 * 4 * 128, 10)


def test_mlp_has_depth_hidden_layers():
  assert size(shapes("mlp", width=5)["params"]) == 65 * 5 + 6 * 5 + 6 * 10
  assert size(shapes("mlp", "batch", width=5)["params"]) == (64 + 2) * 5 + (5 + 2) * 5 + 6 * 10
  assert size(shapes("mlp", depth=0)["params"]) == 65 * 10


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_learns_and_statistics_are_recorded(name, norm):
  module, (variables, images) = build(name, norm), start(name, norm)
  assert set(variables) == ({"params", "batch_stats"} if norm == "batch" else {"params"})
  assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}

  @jax.jit
  def gradient(variables):
    def loss(params):
      logits, new = module.apply(
        {**variables, "params": params}, images, True, mutable=["batch_stats"]
      )
      labels = jnp.arange(7)
      return optax.softmax_cross_entropy_with_integer_labels(logits, labels).sum(), (logits, new)

    return jax.grad(loss, has_aux=True)(variables["params"])

  gradients, (logits, new) = gradient(variables)
  assert logits.shape == (7, 10) and logits.dtype == jnp.float32
  for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
    assert np.isfinite(leaf).all() and np.abs(leaf).max() > 0, jax.tree_util.keystr(path)
  if norm == "batch":
    both = zip(*map(jax.tree.leaves, (new, variables["batch_stats"])), strict=True)
    assert all((np.asarray(a) != b).any() for a, b in both)
    evaluated = apply(module, variables, images)
    assert np.abs(evaluated - logits).max() > 1e-3  # by running, not by batch statistics


@pytest.mark.parametrize("name, count", [("mlp", 2), ("cnn", 2), ("resnet9", 8)])
def test_the_activation_is_the_only_nonlinearity_beside_pooling(name, count):
  module, (variables, images) = build(name), start(name, "none")
  calls = []
  spy = activated(module, lambda x: calls.append(x.shape) or -x)
  jaxpr = jax.make_jaxpr(functools.partial(spy.apply, train=True))(variables, images)
  assert len(calls) == count
  assert "custom_jvp" not in str(jaxpr) and " max " not in str(jaxpr)  # as relu would leave


def test_the_activation_and_its_parameters_reach_the_network():
  variables, images = start("mlp", "none")
  smelus = [functools.partial(activations.smelu, beta=beta) for beta in (0.0, 2.0)]
  logits = [
    apply(build("mlp", activation=activation), variables, images)
    for activation in (activations.relu, *smelus)
  ]
  np.testing.assert_array_equal(logits[0], logits[1])
  assert np.abs(logits[0] - logits[2]).max() > 0.01


@pytest.mark.parametrize("name", NAMES)
def test_padding_of_an_incomplete_batch_changes_nothing(name):
  module, (variables, images) = build(name, "batch"), start(name, "batch")
  train = jax.jit(lambda x, mask: module.apply(variables, x, True, mask, mutable=["batch_stats"]))
  mask = jnp.arange(7) < 5
  padded, padded_stats = train(images.at[5:].set(1e3), mask)
  logits, stats = train(images[:5], mask[:5])
  np.testing.assert_allclose(padded[:5], logits, rtol=1e-4, atol=1e-4)
  chex.assert_trees_all_close(padded_stats, stats, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["cnn", "resnet9"])
def test_lowerings_are_the_same_network(name):
  variables, images = start(name, "none")
  native, patches = (
    apply(build(name, convolution=lowering), variables, images)
    for lowering in ("native", "patches")
  )
  np.testing.assert_allclose(native, patches, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_images_are_computed_in_bfloat16(name):
  variables, images = start(name, "batch")
  dtypes = []
  spy = activated(build(name, "batch"), lambda x: dtypes.append(x.dtype) or x)
  apply = functools.partial(spy.apply, train=False)
  logits = jax.eval_shape(apply, variables, images.astype(jnp.bfloat16))
  assert set(dtypes) == {jnp.dtype("bfloat16")} and logits.dtype == jnp.float32


def test_bfloat16_logits_are_near_the_float32_ones():
  module, (variables, images) = build("cnn", "batch"), start("cnn", "batch")
  exact = apply(module, variables, images)
  short = apply(module, variables, images.astype(jnp.bfloat16))
  assert 1e-4 < np.abs(short - exact).max() / np.abs(exact).max() < 0.05


def test_first_weights_have_their_published_variances():
  def first(name, norm, width, layer):
    module, images = build(name, norm, width=width), jnp.zeros((1, *SHAPES[name]))
    init = jax.jit(lambda key: module.init(key, images, False)["params"][layer]["kernel"])
    kernel = init(jax.random.key(0))
    return kernel, math.prod(kernel.shape[:-1])

  kernel, fan_in = first("resnet9", "batch", 16, "Conv_1")
  assert fan_in == 5 * 5 * 16
  assert float(kernel.var()) * fan_in == pytest.approx(1 / 3, rel=0.03)  # PyTorch's default
  assert float(jnp.abs(kernel).max()) * fan_in**0.5 == pytest.approx(1, rel=0.01)  # is uniform
  kernel, fan_in = first("resnet9", "none", 16, "Conv_1")
  assert float(kernel.var()) * fan_in == pytest.approx(2, rel=0.03)  # He et al. 2015
  kernel, fan_in = first("mlp", "none", 256, "Dense_0")
  assert float(kernel.var()) * fan_in == pytest.approx(2, rel=0.03)


@pytest.mark.parametrize(
  "fields, message",
  [
    ({"name": "resnet"}, "model.name='resnet' is not known; did you mean 'resnet9'"),
    ({"name": "vit", "dropout": 0.1}, "model.dropout=0.1 is not read by .*'vit', but by .* mlp,"),
    ({"name": "cnn", "head": "small"}, "model.head='small' .*, but by imagenet_resnet50, vit_s16;"),
    ({"name": "vit", "gain": "moment"}, "model.gain='moment' is not read by model.name='vit'"),
    ({"width": 0}, "model.width=0 must be at least 1"),
    ({"name": "vit", "patch": 3}, "model.patch=3 needs .*multiples of 3 pixels, not 8x8"),
    ({"name": "resnet9"}, "'resnet9' needs images of at least 11x11 pixels, not 8x8"),
  ],
)
def test_networks_that_no_config_can_have_are_refused_in_one_line(fields, message):
  """By their names and options, or by the images of the data (digits)."""
  with pytest.raises(UserError, match=message) as error:
    training.make_trainer({"model": fields})
  assert "\n" not in str(error.value)


def test_unknown_activations_are_refused_in_one_line():
  with pytest.raises(UserError, match=r"^activation.name='rule' is not known; did you mean 'relu'"):
    config.parse({"activation": "rule"})


@pytest.mark.parametrize("name", ["cnn", "resnet18", "vit", "dconv_l", "vgg11"])
def test_rows_are_refused(name):
  with pytest.raises(UserError, match=f"model.name='{name}' is for images, and the data are rows"):
    network(name, shape=(12,))


def test_a_perceptron_takes_rows_of_numbers():
  module = network("mlp", width=4)
  logits, _ = module.init_with_output(jax.random.key(0), jnp.ones((3, 5)), False)
  chex.assert_shape(logits, (3, 10))


@pytest.mark.parametrize(
  "name, given, words",
  [
    ("cnn", {"width": 0}, "model.width=0 must be at least 1"),
    ("mlp", {"depth": -1}, "model.depth=-1 must be at least 0"),
    ("mlp", {"dropout": -0.1}, "model.dropout=-0.1 must be at least 0"),
    ("dconv", {"dropout": 1.0}, "model.dropout=1.0 must be below 1"),
    ("vit", {"patch": 0}, "model.patch=0 must be at least 1"),
    ("vit", {"heads": 0}, "model.heads=0 must be at least 1"),
    ("cells", {"cell_seed": -1}, "model.cell_seed=-1 must be at least 0"),
  ],
)
def test_options_have_limits(name, given, words):
  with pytest.raises(UserError, match=words):
    network(name, **given)


def test_the_cnn_learns_the_digits_from_500_examples():
  digits = load_digits()
  images = jnp.asarray(digits.images[..., None] / 8 - 1, jnp.float32)
  labels = jnp.asarray(digits.target)
  module = network("cnn", (8, 8, 1), width=16)
  steps, batch = 150, 50  # 15 epochs
  optimizer = optax.sgd(optax.linear_schedule(0.05, 0, steps), momentum=0.9)

  def loss(params, x, y):
    logits = module.apply({"params": params}, x, True)
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

  @jax.jit
  def train(key):
    params = module.init(key, images[:1], False)["params"]
    order = jax.random.permutation(key, len(images))

    def step(i, carry):
      params, state = carry
      chosen = jax.lax.dynamic_slice(order, (i * batch % 500,), (batch,))
      gradient = jax.grad(loss)(params, images[chosen], labels[chosen])
      updates, state = optimizer.update(gradient, state)
      return optax.apply_updates(params, updates), state

    params, _ = jax.lax.fori_loop(0, steps, step, (params, optimizer.init(params)))
    test = order[500:]
    guesses = module.apply({"params": params}, images[test], False).argmax(-1)
    return (guesses == labels[test]).mean()

  assert train(jax.random.key(0)) > 0.94
