"""The convolution against lax, in values, gradients and Hessian products; pooling; batch norm."""

import chex
import flax.linen as nn
import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from seedlab.errors import UserError
from seedlab.models import layers

LOWERINGS = layers.LOWERINGS
UNEVEN = ((0, 2), (3, 1))


def reference(x, kernel, strides, padding):
  layout = ("NHWC", "HWIO", "NHWC")
  return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=layout)


def normal(*shape):
  return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


def operands(height, width, kh, kw, cin, cout=4):
  return normal(2, height, width, cin), normal(kh, kw, cin, cout)


def assert_agrees_with_lax(x, kernel, strides, padding):
  """Values and both gradients of each lowering, for a cotangent that differs everywhere."""

  def all_of(function):
    y, pull_back = jax.vjp(function, x, kernel)
    return y, *pull_back(jnp.sin(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))

  @jax.jit
  def three(x, kernel):
    own = [lambda x, k, a=a: layers.conv(x, k, strides, padding, a) for a in LOWERINGS]
    return [all_of(f) for f in (lambda x, k: reference(x, k, strides, padding), *own)]

  expected, *found = three(x, kernel)
  for lowering, arrays in zip(LOWERINGS, found, strict=True):
    for name, a, b in zip(("y", "dx", "dk"), expected, arrays, strict=True):
      np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-4, err_msg=f"{name} of {lowering}")


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 3, 5])
def test_conv_agrees_with_lax(size, stride):
  for padding in ("SAME", "VALID") if size != 3 else ("SAME", "VALID", ((1, 1), (1, 1)), UNEVEN):
    assert_agrees_with_lax(*operands(8, 7, size, size, 5), (stride, stride), padding)


@pytest.mark.parametrize("cin", [1, 3])
def test_conv_agrees_with_lax_on_few_channels(cin):
  assert_agrees_with_lax(*operands(8, 7, 3, 3, cin), (1, 1), "SAME")
  assert_agrees_with_lax(*operands(7, 8, 5, 3, cin), (2, 2), UNEVEN)


def test_conv_agrees_with_lax_on_oblong_kernels_and_strides():
  assert_agrees_with_lax(*operands(9, 8, 2, 3, 5), (2, 1), "SAME")


@pytest.mark.parametrize("cin", [1, 5])
@pytest.mark.parametrize("lowering", LOWERINGS)
def test_hessian_vector_products_agree_with_lax(lowering, cin):
  x, kernel = operands(8, 7, 3, 3, cin)
  directions = (jnp.cos(x), jnp.sin(kernel))

  def product(conv):
    def loss(x, k):
      return jnp.sum(conv(jnp.tanh(conv(x, k)), jnp.ones((1, 1, 4, 2))) ** 3)

    return jax.jvp(jax.grad(loss, (0, 1)), (x, kernel), directions)[1]

  expected = jax.jit(lambda: product(lambda x, k: reference(x, k, (2, 2), "SAME")))()
  found = jax.jit(lambda: product(lambda x, k: layers.conv(x, k, (2, 2), "SAME", lowering)))()
  for a, b in zip(expected, found, strict=True):
    np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-4 * float(jnp.abs(a).max()))


@pytest.mark.parametrize("lowering", LOWERINGS)
def test_reverse_over_reverse_agrees_with_forward_over_reverse(lowering):
  x, kernel = operands(6, 6, 3, 3, 5)
  gradient = jax.grad(lambda k: jnp.sum(layers.conv(x, k, (1, 1), "SAME", lowering) ** 3))
  v = jnp.cos(kernel)
  forward = jax.jit(lambda k: jax.jvp(gradient, (k,), (v,))[1])(kernel)
  reverse = jax.jit(jax.grad(lambda k: jnp.vdot(gradient(k), v)))(kernel)
  np.testing.assert_allclose(forward, reverse, rtol=1e-4, atol=1e-4 * float(jnp.abs(reverse).max()))


def equations(jaxpr):
  for equation in jaxpr.eqns:
    yield equation
    for inner in jax.extend.core.jaxprs_in_params(equation.params):
      yield from equations(inner)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("order", ["gradient", "hessian-vector"])
def test_native_meets_only_the_fast_form_of_convolution(stride, order):
  """NHWC by HWIO, neither dilated nor grouped: any other form is the slow one in a CPU loop."""
  x, kernel = operands(8, 8, 3, 3, 5)
  gradient = jax.grad(lambda x, k: jnp.sum(layers.conv(x, k, (stride, stride)) ** 2), (0, 1))
  traced = {
    "gradient": gradient,
    "hessian-vector": lambda x, k: jax.jvp(gradient, (x, k), (x, k))[1],
  }[order]
  convolutions = [
    equation.params
    for equation in equations(jax.make_jaxpr(traced)(x, kernel).jaxpr)
    if equation.primitive.name == "conv_general_dilated"
  ]
  assert convolutions
  for params in convolutions:
    specs = params["dimension_numbers"]
    assert (specs.lhs_spec, specs.rhs_spec, specs.out_spec) == (
      (0, 3, 1, 2),
      (3, 2, 0, 1),
      (0, 3, 1, 2),
    )
    assert params["lhs_dilation"] == params["rhs_dilation"] == (1, 1)
    assert params["feature_group_count"] == params["batch_group_count"] == 1


@pytest.mark.parametrize("cin", [1, 5])
def test_patches_over_lanes_are_matrix_products(cin):
  """Kernels mapped by vmap: no convolution left, and each lane as if alone."""
  x, kernel = operands(8, 8, 3, 3, cin)
  kernels = jnp.stack([kernel, -2 * kernel, kernel + 1])

  def loss(k, x):
    return jnp.sum(layers.conv(x, k, (2, 2), "SAME", "patches") ** 2)

  lanes = jax.vmap(jax.grad(loss, (0, 1)), (0, None))
  names = {e.primitive.name for e in equations(jax.make_jaxpr(lanes)(kernels, x).jaxpr)}
  assert "dot_general" in names and "conv_general_dilated" not in names
  together = jax.jit(lanes)(kernels, x)
  alone = jax.jit(jax.grad(loss, (0, 1)))
  for lane, k in enumerate(kernels):
    for a, b in zip(together, alone(k, x), strict=True):
      np.testing.assert_allclose(a[lane], b, rtol=1e-4, atol=1e-4 * float(jnp.abs(b).max()))


def test_conv_refuses_what_does_not_fit():
  x, kernel = operands(8, 8, 3, 3, 5)
  with pytest.raises(UserError, match=r"model.convolution='patch' is not known; .*'patches'"):
    layers.conv(x, kernel, lowering="patch")
  for wrong in (x[..., :4], x[0], x.astype(jnp.bfloat16)):
    with pytest.raises(ValueError, match="does not fit the kernel"):
      layers.conv(wrong, kernel, lowering="patches")


def test_automatic_lowering_is_a_fixed_rule():
  def rule(side, cin, size, stride=1, batch=50, cout=128, platform="cpu"):
    after = -(-side // stride)
    x, y = (batch, side, side, cin), (batch, after, after, cout)
    return layers.lowering_for(x, (size, size, cin, cout), y, platform)

  assert [rule(16, cin, 3) for cin in (1, 3, 8, 64)] == ["patches"] * 2 + ["blocks"] * 2
  assert {rule(16, cin, 3, platform="gpu") for cin in (1, 3, 8, 64)} == {"direct"}
  # A kernel of 9 elements on 4, 9 and 16 pixels, before the stride and behind it.
  assert [rule(side, 256, 3) for side in (2, 3, 4)] == ["patches", "blocks", "blocks"]
  assert [rule(side, 256, 3, 2) for side in (4, 5)] == ["patches", "blocks"]
  # Patches of 8 * 8 * 9 * 16 floats an image, 36 KiB: 2 MiB are those of 56 images.
  assert [rule(8, 16, 3, batch=batch) for batch in (56, 57)] == ["patches", "blocks"]


@pytest.mark.parametrize("stride", [1, 2])
def test_blocks_add_up_to_the_whole_batch(stride, monkeypatch):
  x, kernel = normal(6, 8, 7, 5), normal(3, 3, 5, 4)

  def gradient(lowering):
    def loss(k):
      return jnp.sum(jnp.sin(layers.conv(x, k, (stride, stride), "SAME", lowering)))

    return jax.jit(jax.grad(loss)), jax.make_jaxpr(jax.grad(loss))(kernel).jaxpr

  whole, _ = gradient("native")
  loops = []
  for images in (6, 4, 2, 1):  # that the cache holds: of 4 it takes 3, which divides 6
    each = 4 * (8 * 7 * 5 + -(-8 // stride) * -(-7 // stride) * 4)
    monkeypatch.setattr(layers, "_CACHED", images * each)
    blocks, traced = gradient("blocks")
    np.testing.assert_allclose(blocks(kernel), whole(kernel), rtol=1e-5, atol=1e-4)
    loops.append([e.params["length"] for e in equations(traced) if e.primitive.name == "scan"])
  assert loops == [[], [2], [3], [6]]


def test_max_pool_by_hand():
  x = jnp.array([[1.0, 2, 5, 9], [4, 3, 7, 8], [0, 0, 6, 6]]).reshape(1, 3, 4, 1)
  assert layers.max_pool(x).reshape(-1).tolist() == [4, 9]
  slope = jax.grad(
    lambda x: jnp.vdot(layers.max_pool(x), jnp.array([10.0, 20]).reshape(1, 1, 2, 1))
  )(x)
  assert slope.reshape(3, 4).tolist() == [[0, 0, 0, 20], [10, 0, 0, 0], [0, 0, 0, 0]]
  assert layers.global_max_pool(x).tolist() == [[9]]


def test_of_equal_pixels_one_gets_the_gradient_of_a_max_pool():
  x = jnp.zeros((1, 4, 4, 1))
  for pool, whole in ((layers.max_pool, 4), (layers.global_max_pool, 1)):
    slope = jax.grad(lambda x, pool=pool: pool(x).sum())(x)
    assert slope.sum() == whole and set(slope.reshape(-1).tolist()) == {0, 1}
    assert slope[0, 0, 0, 0] == 1
  around = jax.grad(lambda x: layers.neighbourhood_max(x)[0, 1, 1, 0])(x)
  assert sorted(around.reshape(-1).tolist()) == [0] * 15 + [1]


def test_max_pools_keep_what_is_no_number():
  for place in range(4):
    x = jnp.zeros(4).at[place].set(jnp.nan).reshape(1, 2, 2, 1)
    assert jnp.isnan(layers.max_pool(x)).all() and jnp.isnan(layers.global_max_pool(x)).all()
    assert jnp.isnan(layers.neighbourhood_max(x)).all()


def test_max_pool_agrees_with_reduce_window():
  x, _ = operands(9, 6, 1, 1, 3)
  window = (1, 3, 3, 1)
  expected = lax.reduce_window(x, -jnp.inf, lax.max, window, window, "VALID")
  np.testing.assert_array_equal(layers.max_pool(x, 3), expected)


def test_average_pool_by_hand():
  x = jnp.array([[1.0, 2, 5, 9], [4, 3, 7, 8], [0, 0, 6, 6]]).reshape(1, 3, 4, 1)
  assert layers.average_pool(x).reshape(-1).tolist() == [2.5, 7.25]
  assert layers.average_pool(x, 1).tolist() == x.tolist()


def test_conv_draws_the_numbers_of_its_initialiser():
  key, shape = jax.random.key(3), (3, 3, 5, 4)
  drawn = layers.Conv(4, 3)._draw(key, shape)
  np.testing.assert_array_equal(drawn, nn.initializers.he_normal()(key, shape))


class Normalised(nn.Module):
  norm: str = "batch"

  @nn.compact
  def __call__(self, x, train, mask=None):
    return layers.normalise(x, self.norm, train, mask)


def test_batch_norm_by_hand():
  x = jnp.array([[1.0, 0], [3, 4]])  # means 2, 2; biased variances 1, 4
  module = Normalised()
  variables = module.init(jax.random.key(0), x, False)
  y, new = module.apply(variables, x, True, mutable=["batch_stats"])
  np.testing.assert_allclose(y, [[-1, -1], [1, 1]], atol=1e-5)
  assert y[1, 0] == pytest.approx((1 + 1e-5) ** -0.5, rel=1e-7)
  stats = new["batch_stats"]["BatchNorm_0"]
  np.testing.assert_allclose(stats["mean"], [0.2, 0.2], rtol=1e-6)
  np.testing.assert_allclose(stats["var"], [0.9 + 0.1, 0.9 + 0.4], rtol=1e-6)
  evaluated = module.apply({**variables, **new}, x, False)
  np.testing.assert_allclose(evaluated[:, 1], (np.array([0, 4]) - 0.2) / np.sqrt(1.3), rtol=1e-4)


@pytest.mark.parametrize("shape", [(5, 3), (5, 4, 4, 3)])
def test_batch_norm_does_not_see_masked_examples(shape):
  x = normal(*shape)
  padded = jnp.concatenate([x, jnp.full((2, *shape[1:]), 1e3)])
  module = Normalised()
  variables = module.init(jax.random.key(0), x, False)
  y, stats = module.apply(variables, x, True, mutable=["batch_stats"])
  mask = jnp.arange(7) < 5
  masked, masked_stats = module.apply(variables, padded, True, mask, mutable=["batch_stats"])
  np.testing.assert_allclose(masked[:5], y, atol=1e-6)
  chex.assert_trees_all_close(masked_stats, stats, rtol=1e-6)


def test_no_norm_is_the_identity():
  x = jnp.ones((2, 3))
  assert Normalised("none").apply({}, x, True) is x
