"""The networks a config can name."""

import flax.linen as nn

from seedlab import activations
from seedlab.config import Model, UserError, choice_error
from seedlab.models.cnn import CNN
from seedlab.models.densenet import DenseNet
from seedlab.models.mlp import MLP
from seedlab.models.resnet import ResNet
from seedlab.models.resnet9 import ResNet9
from seedlab.models.vgg import VGG

# Blocks of each stage, and whether they are bottlenecks.
_RESNETS = {
  "resnet18": ((2, 2, 2, 2), False),
  "resnet50": ((3, 4, 6, 3), True),
  "resnet152": ((3, 8, 36, 3), True),
}
# Convolutions of each stage.
_VGGS = {
  "vgg11": (1, 1, 2, 2, 2),
  "vgg13": (2, 2, 2, 2, 2),
  "vgg16": (2, 2, 3, 3, 3),
  "vgg19": (2, 2, 4, 4, 4),
}
# Pixels a side that leave at least one pixel behind every halving, for all names there are.
_SMALLEST_SIDE = {
  "mlp": 1,
  "cnn": 1,
  "resnet9": 11,  # its last convolution, unpadded, then still finds its 3x3 window
  **dict.fromkeys(_RESNETS, 8),
  "densenet121": 8,
  **dict.fromkeys(_VGGS, 32),
}


def build(
  model: Model, classes: int, image_shape: tuple[int, int, int], platform: str = "cpu"
) -> nn.Module:
  """The network of a config, to be called as

    module.apply(variables, images, train, mask) -> logits

  with images float[B, H, W, C] (computed in their dtype), `train` a Python bool
  (batch norm uses the batch's statistics, and records them in the collection
  `batch_stats` when that is mutable), `mask` bool[B] or None (False for the
  padding of an incomplete batch; batch norm skips it), logits float32[B, classes].

  Args:
    model: names, sizes and the activation.
    classes: width of the output.
    image_shape: (H, W, C) of one picture.
    platform: where it will run, as jax.default_backend() names it; with
      model.convolution="auto" it decides the lowering (`layers.lowering_for`).

  Raises:
    UserError: an unknown name or parameter, a size the network cannot have, or
      pictures too small for it.
  """
  if model.name not in _SMALLEST_SIDE:
    raise choice_error("model.name", model.name, _SMALLEST_SIDE)
  _check_sizes(model, *image_shape[:2])
  activation = activations.by_name(model.activation, dict(model.activation_kwargs))
  if model.name == "mlp":
    return MLP(classes, model.width, model.norm, activation, depth=model.depth)
  shared = (classes, model.width, model.norm, activation, model.convolution, platform)
  if model.name == "cnn":
    return CNN(*shared)
  if model.name == "resnet9":
    return ResNet9(*shared)
  if model.name == "densenet121":
    return DenseNet(*shared, blocks=(6, 12, 24, 16), remat=model.remat)
  if model.name in _VGGS:
    return VGG(*shared, convolutions=_VGGS[model.name], remat=model.remat)
  blocks, bottleneck = _RESNETS[model.name]
  return ResNet(*shared, blocks, bottleneck, shortcut=model.shortcut, remat=model.remat)


def _check_sizes(model: Model, height: int, width: int) -> None:
  smallest = _SMALLEST_SIDE[model.name]
  if min(height, width) < smallest:
    raise UserError(
      f"model.name={model.name!r} needs pictures of at least {smallest}x{smallest} pixels,"
      f" not {height}x{width}; set data.image_size={smallest} or more, or take 'cnn'"
    )
  # An average over 2x2 squares drops an odd row, a convolution of stride 2 does not.
  if model.name in _RESNETS and model.shortcut == "pool" and (height % 8 or width % 8):
    raise UserError(
      f"model.shortcut='pool' needs pictures whose sides are multiples of 8 pixels, not"
      f" {height}x{width}; set data.image_size={-(-max(height, width) // 8) * 8} or take 'plain'"
    )
  if model.name == "densenet121" and model.width % 2:
    raise UserError(
      f"model.width={model.width} must be even for 'densenet121', whose layers add width / 2"
      f" features each; take {model.width + 1}"
    )
