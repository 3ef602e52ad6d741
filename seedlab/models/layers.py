"""The layers all networks share: one convolution with its own derivative, pooling, norms.

Why a convolution of our own: XLA:CPU runs the gradient convolutions made by
automatic differentiation in a generic loop, up to hundreds of times slower, as
soon as they lie inside a `while` (lax.scan, lax.fori_loop); and a convolution
vmapped over kernels (lanes) becomes a grouped one, slow everywhere. `conv`
writes its derivative in forms that stay fast in both places:

        native                                  patches
  y     a convolution                           P(x) K
  dx    a convolution of dy, kernel turned      the transpose of P applied to dy K^T
  dK    one matrix product per kernel element   P(x)^T dy

P(x) holds, for every output pixel, the window of the image under the kernel
(im2col); K is the kernel as a matrix [kh kw cin, cout]. `blocks` is `native` for a
CPU's cache: dK is summed over blocks of few images, and where the stride is s, dx is
made of s x s convolutions of dy, one for the pixels that have each remainder.

An accelerator has gradients of convolutions in its own library, which copy no
image: `direct` is lax's convolution as it is, for one run at a time there.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from seedlab import activations
from seedlab.errors import UserError, choice_error

Activation = Callable[[jax.Array], jax.Array]
Lowering = Literal["auto", "native", "patches", "blocks", "direct"]
Norm = Literal["none", "batch", "group"]
Head = Literal["usual", "picard", "small"]
Gain = Literal["he", "moment"]
Padding = Literal["SAME", "VALID"] | Sequence[tuple[int, int]]

LOWERINGS = ("native", "patches", "blocks", "direct")
_LAYOUT = ("NHWC", "HWIO", "NHWC")
_PIXELS = (0, 1, 2)  # the axes of NHWC that a kernel's gradient sums over
# Up to this many input channels `patches` writes its products out as sums: XLA fuses them into
# one loop, where a matrix product with so short an inner side would be mostly copying.
_FEW_CHANNELS = 3
_CACHED = 2**20  # bytes: what a core's second cache surely holds beside a product's result
_MOST_GROUPS = 32  # of a group norm


def conv(
  x: jax.Array,
  kernel: jax.Array,
  strides: tuple[int, int] = (1, 1),
  padding: Padding = "SAME",
  lowering: Literal["native", "patches", "blocks", "direct"] = "native",
  groups: int = 1,
) -> jax.Array:
  """lax.conv_general_dilated of images, with gradients that are fast in loops and lanes.

  Differentiable in reverse, and forward over reverse (Hessian-vector products,
  fast in loops too), but not forward alone. Reverse over reverse is right as
  well, yet `native` meets XLA:CPU's slow loop there again.

  Args:
    x: float[B, H, W, cin].
    kernel: float[kh, kw, cin // groups, cout], dtype of `x`.
    strides: down and right, in pixels.
    padding: "SAME", "VALID" or ((top, bottom), (left, right)) in pixels.
    lowering: "native", "patches", "blocks" or "direct": the same values and gradients up to
      rounding.
    groups: neighbouring channels are cut into this many groups, each convolved alone to
      cout // groups channels. More than one takes `patches` where `lowering` says `native`.

  Returns:
    float[B, h, w, cout].
  """
  if lowering not in LOWERINGS:
    raise choice_error("model.convolution", lowering, LOWERINGS)
  if (
    x.ndim != 4
    or x.dtype != kernel.dtype
    or x.shape[3] != groups * kernel.shape[2]
    or kernel.shape[3] % groups
  ):
    raise ValueError(
      f"x {x.dtype}{x.shape} does not fit the kernel {kernel.dtype}{kernel.shape}"
      + (f" in {groups} groups" if groups > 1 else "")
    )
  static = (tuple(strides), _pads(x.shape, kernel.shape, strides, padding))
  if lowering == "direct":
    return lax.conv_general_dilated(
      x, kernel, *static, dimension_numbers=_LAYOUT, feature_group_count=groups
    )
  if groups == 1:
    return _conv(x, kernel, *static, lowering)
  # Batched matrix products: a grouped convolution is seven times slower in a loop of XLA:CPU, and
  # one convolution a group compiles four times as long for at most a third less time.
  split = [leaf.reshape(*leaf.shape[:3], groups, -1) for leaf in (x, kernel)]
  y = jax.vmap(lambda x, k: _conv(x, k, *static, "patches"), (3, 3), 3)(*split)
  return y.reshape(*y.shape[:3], -1)


def lowering_for(
  x: tuple[int, ...],
  kernel: tuple[int, ...],
  y: tuple[int, ...],
  platform: str,
) -> Literal["patches", "blocks", "direct"]:
  """The fixed rule of model.convolution="auto": by platform and shapes, as measured.

  On an accelerator a sweep chooses for the whole network (see `lanes`); where nobody did, it is
  `direct`. A CPU runs its lanes one by one, and takes `blocks` but for

    few channels   whose patches XLA fuses into sums
    small images   of fewer pixels than the kernel has elements: XLA then exchanges the two, and
                   its convolution of the other way round is 25 to 250 times slower
    small batches  whose patches lie in the cache

  Args:
    x, kernel, y: shapes, as of `conv`.
    platform: of JAX.
  """
  if platform != "cpu":
    return "direct"
  elements, pixels = math.prod(kernel[:2]), min(math.prod(x[1:3]), math.prod(y[1:3]))
  patches = 4 * math.prod(y[:3]) * math.prod(kernel[:3])  # bytes
  small = kernel[2] <= _FEW_CHANNELS or elements > pixels or patches <= 2 * _CACHED
  return "patches" if small else "blocks"


class Conv(nn.Module):
  """`conv` with a trained kernel, and a bias where nothing behind it would cancel one.

  Computes in the dtype of its input; parameters are float32.
  """

  features: int
  size: int
  stride: int = 1
  padding: Padding = "SAME"
  bias: bool = True
  kernel_init: nn.initializers.Initializer = nn.initializers.he_normal()
  lowering: Lowering = "auto"
  platform: str = "cpu"
  groups: int = 1
  bias_init: nn.initializers.Initializer = nn.initializers.zeros

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    cin = x.shape[-1]
    shape = (self.size, self.size, cin // self.groups, self.features)
    kernel = self.param("kernel", self._draw, shape)
    strides = (self.stride, self.stride)
    lowering = self.lowering
    if lowering == "auto":
      size = _output_size(x.shape, shape, strides, self.padding)
      lowering = lowering_for(x.shape, shape, (x.shape[0], *size), self.platform)
    y = conv(x, kernel.astype(x.dtype), strides, self.padding, lowering, self.groups)
    if self.bias:
      bias = self.param("bias", self.bias_init, (1, 1, 1, self.features))
      y += bias.astype(y.dtype)
    return y

  def _draw(self, key: jax.Array, shape: tuple[int, int, int, int]) -> jax.Array:
    # As a matrix: the same numbers, but XLA takes a second longer to compile threefry's counters
    # for each four-dimensional shape.
    matrix = (math.prod(shape[:-1]), shape[-1])
    return self.kernel_init(key, matrix, jnp.float32).reshape(shape)


@dataclasses.dataclass(frozen=True)
class Style:
  """How a convolutional network convolves, normalises and activates: the same in all its layers.

  Its methods are to be called inside a compact module, which will own the parameters.
  """

  norm: Norm
  activation: Activation
  lowering: Lowering = "auto"
  platform: str = "cpu"

  def conv(
    self,
    x: jax.Array,
    features: int,
    size: int,
    stride: int = 1,
    *,
    padding: int | None = None,
    bias: bool | None = None,
    **others,
  ) -> jax.Array:
    """`Conv` with `padding` pixels on each side.

    Args:
      x, features, size, stride, others: as of `Conv`.
      padding: None is half the kernel, which keeps the size where the stride is 1.
      bias: None is only where no norm follows, which would cancel it.
    """
    pad = size // 2 if padding is None else padding
    bias = self.norm == "none" if bias is None else bias
    kind = {"lowering": self.lowering, "platform": self.platform, **others}
    return Conv(features, size, stride, ((pad, pad), (pad, pad)), bias, **kind)(x)

  def normalise(
    self, x: jax.Array, train: bool, mask: jax.Array | None, zero_scale: bool = False
  ) -> jax.Array:
    """`normalise` with the norm of the network."""
    return normalise(x, self.norm, train, mask, zero_scale)

  def finish(self, x: jax.Array, train: bool, mask: jax.Array | None) -> jax.Array:
    """Norm, then activation."""
    return self.activation(self.normalise(x, train, mask))


class LocalConv(nn.Module):
  """A convolution that has a kernel of its own for every output pixel: locally connected.

  Kernel elements that meet the padding alone are there too; they have no gradient.
  Starts as PyTorch's linear layer between the flattened images would. Computes in
  the dtype of its input.
  """

  features: int
  size: int
  stride: int = 1
  padding: Sequence[tuple[int, int]] = ((0, 0), (0, 0))
  bias: bool = True

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    windows = _windows(x, (self.size, self.size), (self.stride, self.stride), self.padding)
    patches = jnp.concatenate(windows, -1)
    draw = pytorch_uniform(math.prod(x.shape[1:]))
    kernel = self.param("kernel", draw, (*patches.shape[1:], self.features))
    y = jnp.einsum("bhwp,hwpf->bhwf", patches, kernel.astype(x.dtype))
    if self.bias:
      y += self.param("bias", draw, (1, *y.shape[1:])).astype(y.dtype)
    return y


# Normal draws of variance 2 / inputs (He et al. 2015, arXiv 1502.01852, eq. 10), not truncated:
# PyTorch's kaiming_normal_ as it is called without a mode.
kaiming_fan_in = nn.initializers.variance_scaling(2, "fan_in", "normal")


def kaiming_fan_out(size: int, features: int) -> nn.initializers.Initializer:
  """Normal draws of variance 2 / (size^2 features), for a square convolution of stride 1.

  He et al. 2015, arXiv 1502.01852, eq. 14 (PyTorch's kaiming_normal_, fan_out),
  which keeps the variance of gradients. Fixed numbers, since `Conv` shows its
  initialiser a matrix, from which the size of the kernel cannot be read.
  """
  return nn.initializers.normal(math.sqrt(2 / (size**2 * features)))


def pytorch_uniform(fan_in: int) -> nn.initializers.Initializer:
  """Uniform within ±1/sqrt(fan_in): PyTorch's first weights and biases, of layers of all kinds."""
  bound = fan_in**-0.5

  def draw(key, shape, dtype=jnp.float32):
    # As a matrix at most, for the reason that `Conv` gives.
    flat = shape if len(shape) < 3 else (math.prod(shape[:-1]), shape[-1])
    return jax.random.uniform(key, flat, dtype, -bound, bound).reshape(shape)

  return draw


def linear(
  features: int,
  x: jax.Array,
  bias: bool = True,
  zero_bias: bool = False,
  kernel_init: nn.initializers.Initializer | None = None,
  bias_init: nn.initializers.Initializer | None = None,
) -> jax.Array:
  """A linear layer that starts as PyTorch's: uniform within ±1/sqrt(inputs), its bias too.

  To be called inside a compact module, which will own the parameters.

  Args:
    features: width of the output.
    x: float[..., inputs], in whose dtype it computes.
    bias: whether it has one.
    zero_bias: start that at zero.
    kernel_init: other first weights.
    bias_init: another first bias.
  """
  draw = pytorch_uniform(x.shape[-1])
  return nn.Dense(
    features,
    use_bias=bias,
    kernel_init=kernel_init or draw,
    bias_init=bias_init or (nn.initializers.zeros if zero_bias else draw),
    dtype=x.dtype,
  )(x)


def first_head(head: Head) -> dict[str, nn.initializers.Initializer]:
  """How the last linear layer starts on a pretrained network: arguments of `linear`.

  As in the public code of Picard 2021 (arXiv 2109.08203). "picard", its ResNets:
  weights Kaiming-uniform with a = sqrt(5), which is PyTorch's usual, and biases
  N(0, 1). "small", its ViT: weights N(0, 1e-10) and biases zero. "usual" leaves that
  to the network.
  """
  normal, zeros = nn.initializers.normal, nn.initializers.zeros
  return {
    "usual": {},
    "picard": {"bias_init": normal(1.0)},
    "small": {"kernel_init": normal(1e-5), "bias_init": zeros},
  }[head]


def dropout(x: jax.Array, rate: float, train: bool) -> jax.Array:
  """In training, zeros with probability `rate` and x / (1 - rate) else; else `x` itself.

  To be called inside a compact module. At a rate above 0 training draws from the
  key that `apply` is given as rngs={"dropout": key}.

  Args:
    x: float[...].
    rate: at least 0 and below 1.
  """
  return nn.Dropout(rate, deterministic=not train)(x)


def normalise(
  x: jax.Array, norm: Norm, train: bool, mask: jax.Array | None, zero_scale: bool = False
) -> jax.Array:
  """Batch norm or group norm as in PyTorch (epsilon 1e-5), or `x` itself.

  To be called inside a compact module, which will own the parameters: a scale
  (1 at first, or with `zero_scale` 0) and a shift (0) for each channel.

  "batch" normalises each channel over all other axes. Running averages are
  0.9 old + 0.1 new; the running variance is the biased one of flax, smaller
  than PyTorch's by the factor (n - 1) / n for n values a channel.

  "group" normalises each example alone, over its pixels and a group of
  neighbouring channels (Wu & He 2018, arXiv 1803.08494): 32 groups, or the
  largest number below that divides the channels. It neither knows `train` nor
  records anything.

  Args:
    x: float[B, ..., C].
    train: use and record the statistics of this batch; else use the recorded ones.
    mask: bool[B], False for the padding of an incomplete batch; None means all real.
    zero_scale: start with a scale of 0.

  Raises:
    UserError: groups of a single value, which would all turn into zero.
  """
  if norm == "none":
    return x
  first = nn.initializers.zeros if zero_scale else nn.initializers.ones
  if norm == "group":
    groups = max(n for n in range(1, _MOST_GROUPS + 1) if x.shape[-1] % n == 0)
    if math.prod(x.shape[1:]) == groups:
      raise UserError(
        f"model.norm='group' meets {x.shape[-1]} channels of one pixel, {groups} groups of a single"
        " value; take a larger model.width, larger images (data.image_size) or norm='batch'"
      )
    return nn.GroupNorm(groups, epsilon=1e-5, dtype=x.dtype, scale_init=first)(x)
  layer = nn.BatchNorm(
    use_running_average=not train, momentum=0.9, epsilon=1e-5, dtype=x.dtype, scale_init=first
  )
  return layer(x, mask=None if mask is None else mask.reshape(-1, *[1] * (x.ndim - 1)))


def max_pool(x: jax.Array, window: int = 2) -> jax.Array:
  """Maxima of disjoint squares: float[B, H, W, C] to float[B, H // window, W // window, C].

  Rows and columns that do not fill a square are dropped, and of equal pixels the
  first one gets the gradient, as in PyTorch. The gradient of lax.reduce_window's
  maximum scatters (select-and-scatter), which GPUs do not add up in a fixed order;
  this one selects.
  """
  squares = _squares(x, window)
  return _largest([squares[:, :, i, :, j] for i in range(window) for j in range(window)])


def average_pool(x: jax.Array, window: int = 2) -> jax.Array:
  """Means of disjoint squares: float[B, H, W, C] to float[B, H // window, W // window, C].

  Rows and columns that do not fill a square are dropped, as PyTorch does.
  """
  return _squares(x, window).mean((2, 4))


def neighbourhood_max(x: jax.Array, stride: int = 1) -> jax.Array:
  """The largest of the 3x3 pixels around each: float[B, H, W, C] to the same shape.

  With a stride, around the first and every so many after it: ceil(H / stride) rows and
  columns likewise. Where several are largest one of them gets the gradient.
  """
  for axis in (1, 2):
    x = _largest(_neighbours(x, axis, -jnp.inf, stride))
  return x


def neighbourhood_mean(x: jax.Array) -> jax.Array:
  """The mean of the 3x3 pixels around each that exist: float[B, H, W, C] to the same shape."""
  for axis in (1, 2):
    inside = jnp.ones([n if i == axis else 1 for i, n in enumerate(x.shape)], x.dtype)
    x = sum(_neighbours(x, axis, 0)) / sum(_neighbours(inside, axis, 0))
  return x


def _neighbours(x, axis, outside, stride=1):
  """`x` and `x` moved by a pixel either way along `axis`, of which every so many pixels."""
  size = x.shape[axis]
  x = jnp.pad(x, [(1, 1) if i == axis else (0, 0) for i in range(4)], constant_values=outside)
  return [lax.slice_in_dim(x, start, start + size, stride, axis) for start in range(3)]


def global_max_pool(x: jax.Array) -> jax.Array:
  """float[B, H, W, C] to float[B, C]; gradients as for `max_pool`."""
  rows = _largest([x[:, i] for i in range(x.shape[1])])
  return _largest([rows[:, j] for j in range(x.shape[2])])


def convolutional(name: str, module: type, smallest: int = 1, **kind) -> Callable:
  """A network's function, with the facts and options that most convolutional networks have.

  Args:
    name: the value of `model.name`.
    module: what it makes: module(classes, width, style, **kind).
    smallest: pixels a side of the smallest image that it can take.
    kind: what tells it from others that are of the same module.
  """

  def network(
    *,
    classes: int,
    shape: tuple[int, ...],
    activation: Activation,
    platform: str,
    width: int = 16,
    norm: Norm = "none",
    convolution: Lowering = "auto",
  ) -> nn.Module:
    check_sizes(name, shape, width, smallest)
    return module(classes, width, Style(norm, activation, convolution, platform), **kind)

  return called(name, module, network)


def recomputing(name: str, module: type, smallest: int = 1, **kind) -> Callable:
  """`convolutional` with the option `remat`: blocks are computed anew in the gradient, which takes
  less memory and more time."""

  def network(
    *,
    classes: int,
    shape: tuple[int, ...],
    activation: Activation,
    platform: str,
    width: int = 16,
    norm: Norm = "none",
    remat: bool = False,
    convolution: Lowering = "auto",
  ) -> nn.Module:
    check_sizes(name, shape, width, smallest)
    style = Style(norm, activation, convolution, platform)
    return module(classes, width, style, remat=remat, **kind)

  return called(name, module, network)


def called(name: str, module: type, function: Callable) -> Callable:
  """`function`, one of several made alike, under its own name and with the words of `module`."""
  function.__name__ = function.__qualname__ = name
  function.__module__, function.__doc__ = module.__module__, module.__doc__
  return function


def check_sizes(name: str, shape: tuple[int, ...], width: int, smallest: int = 1) -> None:
  """Raises UserError unless `shape` is that of images that the network `name` can take.

  Args:
    name: the value of `model.name`.
    shape: (H, W, C) of an image; (F,) of a row is refused.
    width: the value of `model.width`, which must be at least 1.
    smallest: pixels a side that leave at least one pixel behind every halving.
  """
  check_at_least(1, width=width)
  if len(shape) != 3:
    raise UserError(
      f"model.name={name!r} is for images, and the data are rows; take 'ctr' for rows of clicks, or"
      " 'mlp' for rows of numbers"
    )
  height, across, _ = shape
  if min(height, across) < smallest:
    raise UserError(
      f"model.name={name!r} needs images of at least {smallest}x{smallest} pixels, not"
      f" {height}x{across}; set data.image_size={smallest} or more, or take 'cnn'"
    )


def check_multiple(said: str, shape: tuple[int, ...], multiple: int, otherwise: str = "") -> None:
  """Raises UserError, which begins with `said`, unless both sides are multiples of `multiple`."""
  height, width, _ = shape
  if height % multiple or width % multiple:
    larger = -(-max(height, width) // multiple) * multiple
    raise UserError(
      f"{said} needs images whose sides are multiples of {multiple} pixels, not {height}x{width};"
      f" set data.image_size={larger}{otherwise}"
    )


def check_at_least(smallest: int, **options: float) -> None:
  """Raises UserError for the first of the options of `model` that is below `smallest`."""
  for name, value in options.items():
    if value < smallest:
      raise UserError(f"model.{name}={value!r} must be at least {smallest}")


def check_dropout(rate: float) -> None:
  """Raises UserError unless 0 <= `rate` < 1."""
  check_at_least(0, dropout=rate)
  if rate >= 1:
    raise UserError(f"model.dropout={rate!r} must be below 1")


def gain_of(gain: Gain, activation: Activation) -> float:
  """The variance of first hidden weights times their inputs that `model.gain` asks for.

  "he": 2, which suits ReLU (He et al. 2015, arXiv 1502.01852, eq. 10). "moment": one over the
  activation's second moment (`activations.second_moment`).

  Raises:
    UserError: "moment" of an activation whose second moment is zero or not finite.
  """
  if gain == "he":
    return 2.0
  moment = activations.second_moment(activation)
  if not 0 < moment < math.inf:
    raise UserError(
      "model.gain='moment' divides by the second moment of the activation, which is"
      f" {moment!r}; take other parameters of the activation, or model.gain='he'"
    )
  return 1 / moment


def _largest(parts: list[jax.Array]) -> jax.Array:
  """The elementwise maximum, or nan.

  The gradient of jnp.max asks which elements equal the maximum. Where a compiler
  computes the elements anew for the gradient and rounds them otherwise none does, and the
  gradient is 0 / 0. Here each comparison sends it one way or the other.
  """
  best, *rest = parts
  for x in rest:
    best = jnp.where((x > best) | jnp.isnan(x), x, best)
  return best


def _squares(x, window):
  """float[B, H, W, C] as [B, h, window, w, window, C]."""
  batch, height, width, channels = x.shape
  h, w = height // window, width // window
  return x[:, : h * window, : w * window].reshape(batch, h, window, w, window, channels)


def _pads(x, kernel, strides, padding) -> tuple[tuple[int, int], ...]:
  """((top, bottom), (left, right)) of a padding, from shapes."""
  if isinstance(padding, str):
    padding = lax.padtype_to_pads(x[1:3], kernel[:2], strides, padding)
  return tuple(map(tuple, padding))


def _output_size(x, kernel, strides, padding) -> tuple[int, ...]:
  """(height, width) of a convolution, from shapes."""
  pads = _pads(x, kernel, strides, padding)
  each = zip(x[1:3], kernel[:2], strides, pads, strict=True)
  return tuple((n + sum(pad) - k) // s + 1 for n, k, s, pad in each)


def _forward(x, kernel, strides, pads, lowering):
  if lowering != "patches":
    return lax.conv_general_dilated(x, kernel, strides, pads, dimension_numbers=_LAYOUT)
  kh, kw, cin, cout = kernel.shape
  windows = _windows(x, (kh, kw), strides, pads)
  if cin <= _FEW_CHANNELS:
    rows = kernel.reshape(kh * kw, cin, 1, 1, 1, cout)
    return sum(
      window[..., c : c + 1] * row[c]
      for window, row in zip(windows, rows, strict=True)
      for c in range(cin)
    )
  return jnp.tensordot(jnp.concatenate(windows, -1), kernel.reshape(-1, cout), 1)


_conv = jax.custom_vjp(_forward, nondiff_argnums=(2, 3, 4))


# Neither rule calls _conv, so a derivative of the derivative meets plain lax operations only.
def _conv_fwd(x, kernel, strides, pads, lowering):
  return _forward(x, kernel, strides, pads, lowering), (x, kernel)


def _conv_bwd(strides, pads, lowering, saved, dy):
  x, kernel = saved
  dx, dk = {
    "patches": (_dx_patches, _dk_patches),
    "native": (_dx_native, _dk_native),
    "blocks": (_dx_phases, _dk_blocks),
  }[lowering]
  if strides != (1, 1) and (dx is _dx_native or min(kernel.shape[:2]) < max(strides)):
    # Between strides dy would be mostly zeros: patches take a third less time than convolving them.
    dx = _dx_patches
  return dx(x, kernel, strides, pads, dy), dk(x, kernel, strides, pads, dy)


_conv.defvjp(_conv_fwd, _conv_bwd)


def _dx_native(x, kernel, strides, pads, dy):
  # The kernel is turned here and not by dimension numbers: XLA:CPU's fast convolution knows one
  # layout only.
  turned = lax.rev(kernel, (0, 1)).swapaxes(2, 3)
  back = [(k - 1 - lo, k - 1 - hi) for k, (lo, hi) in zip(kernel.shape[:2], pads, strict=True)]
  return lax.conv_general_dilated(dy, turned, strides, back, dimension_numbers=_LAYOUT)


def _dk_native(x, kernel, strides, pads, dy):
  # dy comes first because XLA:CPU multiplies this way round twice as fast.
  windows = _windows(x, kernel.shape[:2], strides, pads)
  products = [jnp.tensordot(dy, window, (_PIXELS, _PIXELS)) for window in windows]
  return jnp.stack(products).swapaxes(1, 2).reshape(kernel.shape)


def _dk_blocks(x, kernel, strides, pads, dy):
  """`_dk_native` summed over blocks of images: as many as the cache holds, dividing the batch."""
  batch = x.shape[0]
  each = (x.size + dy.size) * x.dtype.itemsize // batch
  size = max(n for n in range(1, batch + 1) if batch % n == 0 and (n == 1 or n * each <= _CACHED))
  if size == batch:
    return _dk_native(x, kernel, strides, pads, dy)

  def add(number, total):
    block = (lax.dynamic_slice_in_dim(leaf, number * size, size) for leaf in (x, dy))
    some, its = block
    return total + _dk_native(some, kernel, strides, pads, its)

  return lax.fori_loop(0, batch // size, add, jnp.zeros_like(kernel))


def _dx_phases(x, kernel, strides, pads, dy):
  """For each remainder of a pixel's place by the stride, a convolution of dy, then interleaved.

  Kernel element i, of offset i - lo, meets the pixels whose remainder is that of its offset. The
  kernel must be at least as large as the stride, or some pixels would meet none of it.
  """
  if strides == (1, 1):
    return _dx_native(x, kernel, strides, pads, dy)
  # Of each phase, rounded up.
  size = [-(-n // s) for n, s in zip(x.shape[1:3], strides, strict=True)]

  def along(axis, remainder):
    """The first kernel element of a phase, from the last one to it, and dy's padding there."""
    s, lo, k = strides[axis], pads[axis][0], kernel.shape[axis]
    first = (remainder + lo) % s
    count = -(-(k - first) // s)
    before = count - 1 - (remainder + lo) // s
    return first, (before, size[axis] + count - 1 - dy.shape[1 + axis] - before)

  rows = []
  for row in range(strides[0]):
    columns = []
    for column in range(strides[1]):
      (i, above), (j, left) = along(0, row), along(1, column)
      part = lax.rev(kernel[i :: strides[0], j :: strides[1]], (0, 1)).swapaxes(2, 3)
      columns.append(
        lax.conv_general_dilated(dy, part, (1, 1), (above, left), dimension_numbers=_LAYOUT)
      )
    rows.append(jnp.stack(columns, 3))
  whole = jnp.stack(rows, 2)  # [B, height, row, width, column, cin]
  whole = whole.reshape(x.shape[0], size[0] * strides[0], size[1] * strides[1], x.shape[3])
  return whole[:, : x.shape[1], : x.shape[2]]


def _dx_patches(x, kernel, strides, pads, dy):
  kh, kw, _, cout = kernel.shape
  columns = jnp.tensordot(dy, kernel.reshape(-1, cout), ((3,), (1,)))
  spread = []
  for number, part in enumerate(jnp.split(columns, kh * kw, -1)):
    offset = divmod(number, kw)
    edges = [
      (i - lo, n - (i - lo) - (m - 1) * s - 1, s - 1)
      for i, n, m, s, (lo, _) in zip(
        offset, x.shape[1:3], dy.shape[1:3], strides, pads, strict=True
      )
    ]
    spread.append(lax.pad(part, jnp.zeros((), dy.dtype), [(0, 0, 0), *edges, (0, 0, 0)]))
  return sum(spread)


def _dk_patches(x, kernel, strides, pads, dy):
  windows = _windows(x, kernel.shape[:2], strides, pads)
  if kernel.shape[2] <= _FEW_CHANNELS:
    return jnp.einsum("kbhwc,bhwo->kco", jnp.stack(windows), dy).reshape(kernel.shape)
  # As matrices: with three axes to sum over, XLA:GPU writes the patches a second time, turned.
  patches, dy = (leaf.reshape(-1, leaf.shape[-1]) for leaf in (jnp.concatenate(windows, -1), dy))
  return jnp.tensordot(patches, dy, ((0,), (0,))).reshape(kernel.shape)


def _windows(x, size, strides, pads):
  """For every kernel element, row by row: the pixels [B, h, w, cin] it meets."""
  x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
  h, w = ((n - k) // s * s + 1 for n, k, s in zip(x.shape[1:3], size, strides, strict=True))
  return [
    x[:, i : i + h : strides[0], j : j + w : strides[1]]
    for i in range(size[0])
    for j in range(size[1])
  ]
