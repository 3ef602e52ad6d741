import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from seedlab import counting

# A step that picks two rows of a data set, multiplies them, and is started in a loop of unknown
# length, as XLA writes it for a GPU; the parts that do not matter are left out.
STEP = """HloModule jit_advance, is_scheduled=true

%fused_gather (param_0: u8[50000,64], param_1: s32[2,1]) -> f32[2,64] {
  %param_0 = u8[50000,64]{1,0} parameter(0)
  %param_1 = s32[2,1]{1,0} parameter(1)
  %gather.1 = u8[2,64]{1,0} gather(%param_0, %param_1), offset_dims={1}, slice_sizes={1,64}
  ROOT %convert.1 = f32[2,64]{1,0} convert(%gather.1)
}

%fused_update (param_0: f32[100,64], param_1: f32[1,64], param_2: s32[]) -> f32[100,64] {
  %param_0 = f32[100,64]{1,0} parameter(0)
  %param_1 = f32[1,64]{1,0} parameter(1)
  %param_2 = s32[] parameter(2)
  %zero = s32[] constant(0)
  ROOT %dus = f32[100,64]{1,0} dynamic-update-slice(%param_0, %param_1, %param_2, %zero)
}

%body (state: (s32[], f32[64,10], u8[50000,64], s32[2,1])) -> (s32[], f32[64,10]) {
  %state = (s32[], f32[64,10]{1,0}, u8[50000,64]{1,0}, s32[2,1]{1,0}) parameter(0)
  %step = s32[] get-tuple-element(%state), index=0
  %weights = f32[64,10]{1,0} get-tuple-element(%state), index=1
  %images = u8[50000,64]{1,0} get-tuple-element(%state), index=2
  %chosen = s32[2,1]{1,0} get-tuple-element(%state), index=3
  %rows = f32[2,64]{1,0} fusion(%images, %chosen), kind=kLoop, calls=%fused_gather
  %logits = (f32[2,10]{1,0}, s8[4096]{0}) custom-call(%rows, %weights), custom_call_target="gemm"
  %inner = (s32[], f32[2,10]) tuple(%step, %weights)
  %w = (s32[], f32[2,10]) while(%inner), body=%body.2, config={"known_trip_count":{"n":"5"}}
  ROOT %tuple = (s32[], f32[64,10]{1,0}) tuple(%step, %weights)
}

%body.2 (state.2: (s32[], f32[2,10])) -> (s32[], f32[2,10]) {
  %state.2 = (s32[], f32[2,10]{1,0}) parameter(0)
  %values = f32[2,10]{1,0} get-tuple-element(%state.2), index=1
  %doubled = f32[2,10]{1,0} add(%values, %values)
  ROOT %tuple.2 = (s32[], f32[2,10]{1,0}) tuple(%values, %doubled)
}

%always (state.3: (s32[])) -> pred[] {
  %state.3 = (s32[]) parameter(0)
  ROOT %true = pred[] constant(true)
}

ENTRY %main (weights.1: f32[64,10], images.1: u8[50000,64]) -> f32[64,10] {
  %weights.1 = f32[64,10]{1,0} parameter(0)
  %copy.1 = f32[64,10]{1,0} copy(%weights.1)
  %while.1 = (s32[], f32[64,10]{1,0}) while(%copy.1), condition=%always, body=%body
  ROOT %out = f32[64,10]{1,0} get-tuple-element(%while.1), index=1
}
"""


def test_bytes_and_kernels_of_a_step_counted_by_hand():
  # The gather reads two rows of uint8 and two indices and writes two rows of float32; the product
  # reads these and the weights and writes 20 numbers (its scratch space is not counted); five
  # times 20 numbers are read twice and written. The copy before the loop is not of a step.
  gather = 2 * 64 + 2 * 4 + 2 * 64 * 4
  product = 2 * 64 * 4 + 64 * 10 * 4 + 2 * 10 * 4
  added = 3 * 2 * 10 * 4
  assert counting.program(STEP) == counting.Count(gather + product + 5 * added, 1 + 1 + 5)


def test_what_is_written_in_place_is_not_read():
  entry = STEP[: STEP.index("%body (")] + """ENTRY %main (a: f32[100,64]) -> f32[100,64] {
  %a = f32[100,64]{1,0} parameter(0)
  %b = f32[1,64]{1,0} parameter(1)
  %at = s32[] constant(3)
  ROOT %updated = f32[100,64]{1,0} fusion(%a, %b, %at), kind=kLoop, calls=%fused_update
}
"""
  # The row and its place are read, and the row is written.
  assert counting.program(entry) == counting.Count(64 * 4 + 4 + 64 * 4, 1)


@pytest.mark.parametrize(
  ("type_", "size"),
  [
    ("f32[3,5]{1,0}", 60), ("bf16[7]{0}", 14), ("pred[9]{0}", 9), ("s32[]", 4), ("token[]", 0),
    ("(f32[2]{0}, u8[3]{0})", 11), ("f8e4m3fn[4]{0}", 4),
    # A TPU's tiles are filled up: 3 channels take 128 places, 5 rows take 8.
    ("f32[5,3]{1,0:T(8,128)}", 8 * 128 * 4), ("f32[3,5]{0,1:T(8,128)}", 8 * 128 * 4),
    ("f32[2,8,128]{2,1,0:T(8,128)}", 2 * 8 * 128 * 4),
    ("f32[8,128]{1,0:T(8,128)S(1)}", 0),  # in its scratch memory
  ],
)  # fmt: skip
def test_sizes_of_types(type_, size):
  assert counting.size(type_) == size


def test_a_compiled_program_of_this_device_is_counted():
  def advance(x, steps):
    return lax.fori_loop(0, steps, lambda step, x: jnp.sin(x) @ x, x)

  x = np.ones((64, 64), np.float32)
  text = jax.jit(advance).lower(x, np.int32(3)).compile().as_text()
  found = counting.program(text)
  # sin: read, written; product: two read, one written. Copies between may come on top.
  assert 5 * x.nbytes <= found.bytes <= 9 * x.nbytes and found.kernels >= 2


def test_operations_of_products_counted_by_hand():
  def step(x, kernel, weights):
    layout = ("NHWC", "HWIO", "NHWC")
    y = lax.conv_general_dilated(x, kernel, (2, 2), "SAME", dimension_numbers=layout)
    return lax.scan(lambda carry, _: (carry @ weights, None), y, length=7)[0]

  shapes = [(5, 8, 8, 3), (3, 3, 3, 4), (4, 4)]
  jaxpr = jax.make_jaxpr(step)(*(jnp.zeros(shape) for shape in shapes))
  # 5 images of 4 x 4 pixels and 4 channels, from 27 inputs each; seven times 5 x 4 x 4 rows.
  expected = 2 * (5 * 4 * 4 * 4) * 27 + 7 * 2 * (5 * 4 * 4 * 4) * 4
  assert counting.products(jaxpr) == {"default": expected}


def test_zeros_between_strides_are_no_operations():
  def loss(x, kernel):
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (2, 2), "SAME", dimension_numbers=layout).sum()

  x, kernel = jnp.zeros((5, 8, 8, 3)), jnp.zeros((3, 3, 3, 4))
  found = counting.products(jax.make_jaxpr(jax.grad(loss, (0, 1)))(x, kernel))
  # Forward and both gradients: 5 images of 4 x 4 pixels and 4 channels, from 27 inputs each.
  assert found["default"] == 3 * 2 * (5 * 4 * 4 * 4) * 27


def test_operations_count_by_what_they_round_to():
  def of(dtype, precision):
    x = jnp.zeros((4, 4), dtype)
    with jax.default_matmul_precision(precision):
      return counting.products(jax.make_jaxpr(jnp.matmul)(x, x))

  assert of(jnp.float32, "highest") == of(jnp.float32, "float32") == {"float32": 128}
  assert of(jnp.float32, "tensorfloat32") == {"tf32": 128}
  assert of(jnp.bfloat16, "highest") == {"bfloat16": 128}


def test_lanes_count_as_often_as_there_are():
  one = jax.make_jaxpr(jnp.matmul)(jnp.zeros((2, 3)), jnp.zeros((3, 4)))
  many = jax.make_jaxpr(jax.vmap(jnp.matmul))(jnp.zeros((6, 2, 3)), jnp.zeros((6, 3, 4)))
  assert counting.products(many)["default"] == 6 * counting.products(one)["default"] == 6 * 48


def test_of_branches_the_longest_counts():
  def f(x, yes):
    return lax.cond(yes, lambda x: x @ x @ x, lambda x: x @ x, x)

  jaxpr = jax.make_jaxpr(f)(jnp.zeros((2, 2)), True)
  assert counting.products(jaxpr) == {"default": 32}
