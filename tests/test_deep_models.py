"""ResNet, DenseNet, VGG: published sizes, PyTorch's values, loops, remat, first weights, errors."""

import functools
import itertools
import math

import chex
import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from networks import activated, assert_near, equations, gradient, moved, shapes, size, style
from networks import build as network

from seedlab import config
from seedlab.errors import UserError
from seedlab.models import layers, resnet
from seedlab.models.densenet import DenseNet
from seedlab.models.resnet import ResNet
from seedlab.models.vgg import VGG

PUBLISHED = {
  "resnet18": 11_173_962,
  "resnet50": 23_520_842,
  "resnet152": 58_156_618,
  "densenet121": 6_956_298,
  "vgg11": 9_231_114,
  "vgg13": 9_416_010,
  "vgg16": 14_728_266,
  "vgg19": 20_040_522,
}
STAGES = {
  "resnet18": (2, 2, 2, 2),
  "resnet50": (3, 4, 6, 3),
  "resnet152": (3, 8, 36, 3),
  "densenet121": (6, 12, 24, 16),
  "vgg11": (1, 1, 2, 2, 2),
  "vgg13": (2, 2, 2, 2, 2),
  "vgg16": (2, 2, 3, 3, 3),
  "vgg19": (2, 2, 4, 4, 4),
}


def small(kind, norm="batch", width=4, lowering="auto", **fields):
  """Narrow and of two stages, so that it compiles in a second or two."""
  cls, sizes = {
    "basic": (ResNet, {"blocks": (3, 1), "shortcut": "pool"}),
    "bottleneck": (ResNet, {"blocks": (3, 1), "bottleneck": True, "shortcut": "pool"}),
    "dense": (DenseNet, {"blocks": (1, 2)}),
    "vgg": (VGG, {"convolutions": (1, 2)}),
  }[kind]
  return cls(10, width, style(norm, lowering=lowering), **{**sizes, **fields})


SLOW = pytest.mark.slow  # seconds of XLA's compilation each, of code that another kind runs too
KINDS = ["basic", "bottleneck", "dense", "vgg"]


def build(name, width=64, norm="batch", shape=(32, 32, 3), **fields):
  return network(name, shape, width=width, norm=norm, **fields)


def pictures(count=6, side=8):
  images = np.random.default_rng(0).normal(size=(count, side, side, 3))
  return jnp.asarray(images, jnp.float32)


@functools.cache
def start(kind, norm="batch"):
  return moved(small(kind, norm), side=8), pictures()


@functools.cache
def trained(kind):
  """`gradient` of a small network with batch norm, compiled once for all tests."""
  return jax.jit(functools.partial(gradient, small(kind)))(*start(kind))


# Sizes


def layers_of(name):
  """Every layer by hand: (side of its kernel, inputs, outputs, whether a norm follows).

  A norm that follows no convolution of its own is (0, channels, channels, True).
  """
  w = 64
  if name.startswith("vgg"):
    stages = zip(STAGES[name], (w, 128, 256, 512, 512), strict=True)
    widths = [f for count, f in stages for _ in range(count)]
    return [(3, a, b, True) for a, b in itertools.pairwise([3, *widths])]
  if name == "densenet121":
    found, features = [(3, 3, w, False)], w
    for number, count in enumerate(STAGES[name]):
      for _ in range(count):
        found += [(0, features, features, True), (1, features, 128, True), (3, 128, 32, False)]
        features += 32
      found += [(0, features, features, True)]  # before a transition, or the last
      if number < 3:
        found += [(1, features, features // 2, False)]
        features //= 2
    return found
  found, inputs = [(3, 3, w, True)], w
  for stage, count in enumerate(STAGES[name]):
    f = w * 2**stage
    outputs = f if name == "resnet18" else 4 * f
    if inputs != outputs:
      found += [(1, inputs, outputs, True)]
    for _ in range(count):
      if name == "resnet18":
        found += [(3, inputs, f, True), (3, f, f, True)]
      else:
        found += [(1, inputs, f, True), (3, f, f, True), (1, f, outputs, True)]
      inputs = outputs
  return found


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_numbers_of_parameters(name):
  listed = layers_of(name)
  outputs = 1024 if name == "densenet121" else listed[-1][2]
  kernels = sum(side**2 * a * b for side, a, b, _ in listed) + outputs * 10 + 10
  biases = sum(b for side, _, b, _ in listed if side)
  channels = sum(b for *_, b, normed in listed if normed)
  with_norm = kernels + 2 * channels + (biases if name.startswith("vgg") else 0)
  assert with_norm == PUBLISHED[name]
  variables = shapes(build(name))
  assert size(variables["params"]) == with_norm
  assert size(variables["batch_stats"]) == 2 * channels
  grouped = shapes(build(name, norm="group"))
  assert set(grouped) == {"params"} and size(grouped["params"]) == with_norm
  assert size(shapes(build(name, norm="none"))["params"]) == kernels + biases


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet152"])
def test_a_plain_shortcut_has_the_same_parameters(name):
  plain, pool = (shapes(build(name, shortcut=shortcut)) for shortcut in ("plain", "pool"))
  assert plain == pool and size(plain["params"]) == PUBLISHED[name]


@pytest.mark.parametrize("name", PUBLISHED)
def test_width_scales_every_layer(name):
  """All but the first kernel's inputs and the last layer's outputs: a quarter, squared."""
  wide, narrow = (shapes(build(name, width))["params"] for width in (64, 16))
  for (path, a), b in zip(
    jax.tree_util.tree_leaves_with_path(wide), jax.tree.leaves(narrow), strict=True
  ):
    ratio = math.prod(a.shape) / math.prod(b.shape)
    one_side = a.ndim < 3 or 3 in a.shape[-2:-1] or path[-1].key != "kernel"
    last = a.shape == (10,)
    assert ratio == (1 if last else 4 if one_side else 16), jax.tree_util.keystr(path)


# Values


class Torch:
  """The layers of `variables` in PyTorch, each named by the module and number that own it."""

  def __init__(self, torch, variables, train):
    self.functional, self.train = torch.nn.functional, train
    self.params, self.stats = (
      jax.tree.map(lambda leaf: torch.tensor(np.asarray(leaf)), variables[part])
      for part in ("params", "batch_stats")
    )

  def scope(self, name, index=None):
    """The part of a module, of one block of a loop where `index` is given."""
    part = Torch.__new__(Torch)
    part.functional, part.train = self.functional, self.train
    part.params, part.stats = (
      tree[name] if index is None else jax.tree.map(lambda leaf: leaf[index], tree[name])
      for tree in (self.params, self.stats)
    )
    return part

  def conv(self, x, number, stride=1):
    layer = self.params[f"Conv_{number}"]
    kernel = layer["kernel"].permute(3, 2, 0, 1)
    bias = layer["bias"].reshape(-1) if "bias" in layer else None
    return self.functional.conv2d(x, kernel, bias, stride, padding=kernel.shape[-1] // 2)

  def norm(self, x, number):
    layer, stats = self.params[f"BatchNorm_{number}"], self.stats[f"BatchNorm_{number}"]
    mean, var = stats["mean"].clone(), stats["var"].clone()
    return self.functional.batch_norm(
      x, mean, var, layer["scale"], layer["bias"], training=self.train, eps=1e-5
    )

  def linear(self, x):
    layer = self.params["Dense_0"]
    return self.functional.linear(x, layer["kernel"].T, layer["bias"])


def torch_resnet(module, net, x):
  relu, pool = net.functional.relu, net.functional.avg_pool2d
  x = relu(net.norm(net.conv(x, 0), 0))
  for stage, count in enumerate(module.blocks):
    for number in range(count):
      stride = 2 if stage > 0 and number == 0 else 1
      part = (
        net.scope(f"stage{stage}_first")
        if number == 0
        else net.scope(f"stage{stage}_rest", number - 1)
      )
      if module.bottleneck:
        y = relu(part.norm(part.conv(x, 0), 0))
        y = relu(part.norm(part.conv(y, 1, stride), 1))
        y, last = part.norm(part.conv(y, 2), 2), 3
      else:
        y = relu(part.norm(part.conv(x, 0, stride), 0))
        y, last = part.norm(part.conv(y, 1), 1), 2
      if number == 0 and (stage > 0 or module.bottleneck):
        if module.shortcut == "pool":
          x = part.norm(part.conv(pool(x, stride, stride), last), last)
        else:
          x = part.norm(part.conv(x, last, stride), last)
      x = relu(x + y)
  return net.linear(x.mean((2, 3)))


def torch_dense(module, net, x):
  import torch

  relu = net.functional.relu
  x = net.conv(x, 0)
  for block, count in enumerate(module.blocks):
    if block > 0:
      x = net.functional.avg_pool2d(net.conv(relu(net.norm(x, block - 1)), block), 2)
    for number in range(count):
      layer = net.scope(f"block{block}_layer{number}")
      y = layer.conv(relu(layer.norm(x, 0)), 0)
      x = torch.cat([x, layer.conv(relu(layer.norm(y, 1)), 1)], 1)
  return net.linear(relu(net.norm(x, len(module.blocks) - 1)).mean((2, 3)))


def torch_vgg(module, net, x):
  for stage, count in enumerate(module.convolutions):
    part = net.scope(f"stage{stage}")
    for number in range(count):
      x = net.functional.relu(part.norm(part.conv(x, number), number))
    x = net.functional.max_pool2d(x, 2)
  return net.linear(x.flatten(1))


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize(
  "module, network",
  [
    (ResNet(10, 4, style(), (2, 2, 2, 2), shortcut="pool"), torch_resnet),
    (ResNet(10, 4, style(), (2, 2, 2, 2), shortcut="plain"), torch_resnet),
    (small("bottleneck"), torch_resnet),
    (small("dense", blocks=(2, 1, 2)), torch_dense),
    (small("vgg", convolutions=(1, 1, 2, 1)), torch_vgg),
  ],
  ids=["resnet18", "resnet18-plain", "bottleneck", "dense", "vgg"],
)
def test_logits_are_pytorchs(module, network, train):
  torch = pytest.importorskip("torch", reason="needs PyTorch (pip install -e '.[reference]')")
  images = pictures(side=16)
  variables = moved(module, side=16)
  logits = jax.jit(lambda v: module.apply(v, images, train, mutable=["batch_stats"])[0])(variables)
  with torch.no_grad():
    x = torch.tensor(np.asarray(images)).permute(0, 3, 1, 2)
    expected = network(module, Torch(torch, variables, train), x).numpy()
  assert np.abs(expected).max() > 0.1
  np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)


def one_by_one(module, variables, images):
  """A ResNet in train mode, the blocks of its loop applied one after the other: logits and the
  statistics of every block of the loop."""
  params, stats = variables["params"], variables["batch_stats"]
  x = layers.conv(images, params["Conv_0"]["kernel"], padding=((1, 1), (1, 1)))
  x = (x - x.mean((0, 1, 2), keepdims=True)) / jnp.sqrt(x.var((0, 1, 2), keepdims=True) + 1e-5)
  scale, shift = (params["BatchNorm_0"][name].reshape(1, 1, 1, -1) for name in ("scale", "bias"))
  x = jax.nn.relu(x * scale + shift)
  recorded = []
  for stage, count in enumerate(module.blocks):
    for n in range(count):
      name = f"stage{stage}_rest" if n else f"stage{stage}_first"
      part = {"params": params[name], "batch_stats": stats[name]}
      if n:
        part = jax.tree.map(lambda leaf, n=n: leaf[n - 1], part)
      stride = 2 if stage > 0 and n == 0 else 1
      shared = (module.shortcut, module.style, True)
      block = resnet.Block(module.width * 2**stage, stride, module.bottleneck, *shared)
      x, new = block.apply(part, x, None, mutable=["batch_stats"])
      if n:
        recorded.append(new["batch_stats"])
  output = params["Dense_0"]
  return x.mean((1, 2)) @ output["kernel"] + output["bias"].reshape(1, -1), recorded


def test_the_loop_over_equal_blocks_is_the_blocks_one_by_one():
  module, (variables, images) = small("basic"), start("basic")

  def taken_apart(variables, images):
    def loss(params):
      logits, recorded = one_by_one(module, {**variables, "params": params}, images)
      labels = jnp.arange(len(images)) % 10
      value = optax.softmax_cross_entropy_with_integer_labels(logits, labels).sum()
      return value, (logits, recorded)

    (_, rest), slope = jax.value_and_grad(loss, has_aux=True)(variables["params"])
    return *rest, slope

  logits, recorded, slope = jax.jit(taken_apart)(variables, images)
  found, new, found_slope = trained("basic")
  assert_near(found, logits)
  assert_near(found_slope, slope, 1e-3)
  stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *recorded)
  assert_near(new["batch_stats"]["stage0_rest"], stacked)


@pytest.mark.parametrize(
  "kind", [pytest.param("basic", marks=SLOW), pytest.param("dense", marks=SLOW), "vgg"]
)
@pytest.mark.optimised
def test_recomputing_blocks_changes_nothing(kind):
  module, (variables, images) = small(kind), start(kind)
  again = small(kind, remat=True)
  assert shapes(again, images.shape[1]) == shapes(module, images.shape[1])
  names = {
    remat: primitives(functools.partial(gradient, m), variables, images)
    for remat, m in ((False, module), (True, again))
  }
  assert any("remat" in name or "checkpoint" in name for name in names[True] - names[False])
  found = jax.jit(functools.partial(gradient, again))(variables, images)
  assert_near(*map(without_zeros, (found, trained(kind))), 1e-4)


def without_zeros(answer):
  """The same without gradients of biases that batch norm takes away again, which are rounding."""
  logits, new, slope = answer
  largest = max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(slope))

  def kept(path, leaf):
    names = [key.key for key in path]
    if names[-1] == "bias" and names[-2].startswith("Conv"):
      assert np.abs(leaf).max() < 1e-6 * largest, names
      return np.zeros_like(leaf)
    return leaf

  return logits, new, jax.tree_util.tree_map_with_path(kept, slope)


def primitives(function, *arguments):
  return {e.primitive.name for e in equations(jax.make_jaxpr(function)(*arguments).jaxpr)}


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_keep_to_convolutions_and_pools_that_are_fast_and_ordered(kind):
  """No window reductions or scatters; convolutions in XLA:CPU's fast form; in lanes, products."""
  variables, images = start(kind)
  alone = functools.partial(gradient, small(kind, lowering="blocks"))
  traced = jax.make_jaxpr(alone)(variables, images)
  found = list(equations(traced.jaxpr))
  names = {e.primitive.name for e in found}
  assert not any("window" in name or "select_and" in name for name in names), names
  convolutions = [e.params for e in found if e.primitive.name == "conv_general_dilated"]
  assert convolutions
  for params in convolutions:
    assert params["lhs_dilation"] == params["rhs_dilation"] == (1, 1)
    assert params["dimension_numbers"].lhs_spec == (0, 3, 1, 2)
    assert params["feature_group_count"] == params["batch_group_count"] == 1
  lanes = functools.partial(gradient, small(kind, lowering="patches"))
  assert "conv_general_dilated" not in primitives(lanes, variables, images)


@pytest.mark.parametrize("kind", ["basic", pytest.param("dense", marks=SLOW)])
def test_each_of_two_lanes_is_a_run(kind):
  variables, images = start(kind)
  other = jax.tree.map(lambda leaf: 1.1 * leaf, variables)
  lanes = jax.vmap(functools.partial(gradient, small(kind, lowering="patches")), (0, None))
  lanes = jax.jit(lanes)
  for lane, both in enumerate([(variables, other), (other, variables)]):
    together = lanes(jax.tree.map(lambda *leaves: jnp.stack(leaves), *both), images)
    assert_near(jax.tree.map(lambda leaf, n=lane: leaf[n], together), trained(kind), 1e-3)


def test_two_seeds_draw_the_first_weights_of_two_runs():
  def init(seed):
    return small("basic", blocks=(3,)).init(jax.random.key(seed), pictures(1), False)

  seeds = jnp.arange(2)
  together, alone = jax.jit(jax.vmap(init))(seeds), jax.jit(init)
  for seed in seeds:
    found = jax.tree.map(lambda leaf, seed=seed: leaf[seed], together)
    chex.assert_trees_all_equal(found, alone(seed))


# Fields


@pytest.mark.parametrize(
  "kind, norm", [*((kind, "batch") for kind in KINDS), ("basic", "none"), ("dense", "group")]
)
def test_every_parameter_has_a_gradient_and_statistics_are_recorded(kind, norm):
  if norm == "batch":
    (variables, _), (logits, new, slope) = start(kind), trained(kind)
  else:
    module = small(kind, norm, width=8)
    variables = moved(module, side=8)
    logits, new, slope = jax.jit(functools.partial(gradient, module))(variables, pictures())
  assert logits.shape == (6, 10) and logits.dtype == jnp.float32
  for path, leaf in jax.tree_util.tree_leaves_with_path(slope):
    assert np.isfinite(leaf).all() and np.abs(leaf).max() > 0, jax.tree_util.keystr(path)
  assert set(variables) == ({"params", "batch_stats"} if norm == "batch" else {"params"})
  if norm == "batch":
    both = zip(*map(jax.tree.leaves, (new, {"batch_stats": variables["batch_stats"]})), strict=True)
    assert all((np.asarray(a) != b).any() for a, b in both)


@pytest.mark.parametrize(
  "name, activations",
  [
    ("resnet18", 1 + 2 * (4 + 1 * 4)),
    ("resnet50", 1 + 3 * (4 + 4)),
    ("densenet121", 2 * 58 + 3 + 1),
    ("vgg16", 13),
  ],
)
def test_the_activation_is_the_only_nonlinearity_beside_pooling(name, activations):
  module = build(name, norm="none", width=8)
  seen = []
  spy = activated(module, lambda x: seen.append(x.dtype) or -x)
  images = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.bfloat16)
  variables = shapes(module)
  names = primitives(functools.partial(spy.apply, train=True), variables, images)
  assert len(seen) >= activations  # the body of a loop counts once, but is traced several times
  assert set(seen) == {jnp.dtype("bfloat16")}
  assert not names & {"custom_jvp_call", "max", "exp", "tanh", "logistic"}


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_images_are_computed_in_bfloat16(kind):
  variables, images = start(kind)
  dtypes = []
  spy = activated(small(kind), lambda x: dtypes.append(x.dtype) or x)
  apply = functools.partial(spy.apply, train=True, mutable=["batch_stats"])
  logits, new = jax.eval_shape(apply, variables, images.astype(jnp.bfloat16))
  assert set(dtypes) == {jnp.dtype("bfloat16")}
  chex.assert_type([logits, *jax.tree.leaves(new)], jnp.float32)


@pytest.mark.parametrize("kind", ["basic", "dense", "vgg"])
def test_padding_of_an_incomplete_batch_changes_nothing(kind):
  module, (variables, images) = small(kind), start(kind)
  train = jax.jit(lambda x, mask: module.apply(variables, x, True, mask, mutable=["batch_stats"]))
  mask = jnp.arange(6) < 4
  padded = train(images.at[4:].set(100.0), mask)
  expected = train(images[:4], mask[:4])
  assert_near((padded[0][:4], padded[1]), expected, 1e-3)


# Group norm


class Normalised(resnet.nn.Module):
  @resnet.nn.compact
  def __call__(self, x):
    return layers.normalise(x, "group", True, None)


@pytest.mark.parametrize("channels, groups", [(64, 32), (48, 24), (10, 10), (37, 1), (66, 22)])
def test_group_norm_in_numpy(channels, groups):
  x = np.random.default_rng(0).normal(3, 2, size=(3, 4, 5, channels)).astype(np.float32)
  split = x.reshape(3, 20, groups, -1).astype(np.float64)
  mean, var = (f(split, axis=(1, 3), keepdims=True) for f in (np.mean, np.var))
  scale, shift = np.linspace(0.5, 2, channels), np.linspace(-1, 1, channels)
  expected = ((split - mean) / np.sqrt(var + 1e-5)).reshape(x.shape) * scale + shift
  params = {"GroupNorm_0": {"scale": jnp.float32(scale), "bias": jnp.float32(shift)}}
  found = jax.jit(lambda x: Normalised().apply({"params": params}, x))(x)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_group_norm_refuses_groups_of_one_value():
  with pytest.raises(UserError, match=r"norm='group' meets 32 channels of one pixel.*model.width"):
    shapes(build("resnet18", width=4, norm="group"), side=8)
  shapes(build("resnet18", width=8, norm="group"), side=8)


# First weights


def first(module, side=32):
  images = jnp.zeros((1, side, side, 3))
  key = jax.random.key(0, impl="rbg")  # which XLA compiles ten times faster than threefry
  return jax.jit(lambda key: module.init(key, images, False)["params"])(key)


def variance_times(kernel, fan):
  return float(kernel.var()) * fan


def test_first_weights_of_resnets_are_kaiming_normal_by_fan_out():
  params = first(small("bottleneck", width=32), 8)
  looped = params["stage0_rest"]
  for kernel, fan_out in [
    (params["stage1_first"]["Conv_1"]["kernel"], 9 * 64),  # 3x3
    (params["stage1_first"]["Conv_3"]["kernel"], 256),  # shortcut
    (looped["Conv_1"]["kernel"], 9 * 32),
    (looped["Conv_2"]["kernel"], 128),
  ]:
    assert variance_times(kernel, fan_out) == pytest.approx(2, rel=0.05)
    assert float(jnp.abs(kernel).max()) > 3.5 * float(kernel.std())  # not truncated
  assert np.abs(looped["Conv_1"]["kernel"][0] - looped["Conv_1"]["kernel"][1]).min() > 0
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    if path[-1].key == "scale":  # of the last norm of a branch, too
      assert (np.asarray(leaf) == 1).all()
    elif path[0].key != "Dense_0" and path[-1].key == "bias":
      assert (np.asarray(leaf) == 0).all()


def test_first_weights_of_linear_layers_are_pytorchs():
  inputs = 2 * 128
  dense = first(small("basic", width=128), 8)["Dense_0"]
  for leaf in (dense["kernel"], dense["bias"]):
    assert float(jnp.abs(leaf).max()) <= inputs**-0.5
  assert float(jnp.abs(dense["kernel"]).max()) == pytest.approx(inputs**-0.5, rel=0.01)
  assert variance_times(dense["kernel"], inputs) == pytest.approx(1 / 3, rel=0.05)
  assert float(dense["bias"].std()) > 0.2 * inputs**-0.5  # not zero


def test_first_weights_of_densenets_and_vggs():
  params = first(small("dense", width=32), 8)
  assert not np.asarray(params["Dense_0"]["bias"]).any()
  layer = params["block1_layer1"]
  for kernel in (layer["Conv_0"]["kernel"], layer["Conv_1"]["kernel"]):
    assert variance_times(kernel, math.prod(kernel.shape[:-1])) == pytest.approx(2, rel=0.06)
    assert float(jnp.abs(kernel).max()) > 3.2 * float(kernel.std())
  params = first(small("vgg", width=32))
  kernel = params["stage1"]["Conv_0"]["kernel"]
  assert variance_times(kernel, 9 * 64) == pytest.approx(2, rel=0.05)
  assert float(params["Dense_0"]["kernel"].std()) == pytest.approx(0.01, rel=0.05)
  assert not np.asarray(params["Dense_0"]["bias"]).any()


# Errors


@pytest.mark.parametrize(
  "fields, shape, message",
  [
    ({"name": "resnet18"}, (4, 32, 3), "'resnet18' needs images of at least 8x8 .*not 4x32"),
    ({"name": "densenet121"}, (7, 7, 3), "'densenet121' needs images of at least 8x8 pixels"),
    ({"name": "vgg16"}, (28, 28, 1), "'vgg16' needs .* 32x32 .*not 28x28; set data.image_size=32"),
    (
      {"name": "resnet50"},
      (28, 28, 1),
      "shortcut='pool' .* multiples of 8 .*28x28; .*image_size=32",
    ),
    ({"name": "densenet121", "width": 5}, (32, 32, 3), "model.width=5 must be even .*take 6"),
  ],
)
def test_build_refuses_in_one_line(fields, shape, message):
  with pytest.raises(UserError, match=message) as error:
    network(shape=shape, **fields)
  assert "\n" not in str(error.value)


def test_the_config_refuses_unknown_choices():
  with pytest.raises(UserError, match=r"model.shortcut='stride' is not known; .*plain, pool"):
    config.parse({"model": {"name": "resnet18", "shortcut": "stride"}})
  with pytest.raises(UserError, match=r"model.remat=1 must be of type bool"):
    config.parse({"model": {"name": "resnet18", "remat": 1}})
  with pytest.raises(UserError, match=r"model.norm='layer' is not known; .*batch, group, none"):
    config.parse({"model": {"norm": "layer"}})


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_smallest_images_still_fit(name):
  side = 32 if name.startswith("vgg") else 8
  for shape in ((side, side, 3), (side, 2 * side, 3)):
    module = build(name, width=8, shape=shape)
    images = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    apply = functools.partial(module.init_with_output, train=False)
    logits, _ = jax.eval_shape(apply, jax.random.key(0), images)
    assert logits.shape == (2, 10)


@pytest.mark.parametrize("side", [9, 28])
def test_a_plain_shortcut_takes_odd_sides(side):
  module = build("resnet18", width=8, shape=(side, side, 3), shortcut="plain")
  shapes(module, side)


@pytest.mark.parametrize("name", ["resnet18", "resnet152", "densenet121", "vgg11"])
def test_fields_of_the_config_reach_the_network(name):
  module = build(name, width=6, norm="group", remat=True, convolution="patches")
  assert (module.width, module.remat) == (6, True)
  assert (module.style.norm, module.style.lowering) == ("group", "patches")
  if name.startswith("resnet"):
    assert module.shortcut == "pool" and module.bottleneck == (name == "resnet152")
    assert build(name, shortcut="plain").shortcut == "plain"
