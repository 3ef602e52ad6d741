"""The networks a config can name."""

import flax.linen as nn

from seedlab import activations
from seedlab.config import Model, UserError, choice_error
from seedlab.models.cnn import CNN
from seedlab.models.mlp import MLP
from seedlab.models.resnet9 import SMALLEST_SIDE, ResNet9


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
    UserError: an unknown name or parameter, or pictures too small for the network.
  """
  activation = activations.by_name(model.activation, dict(model.activation_kwargs))
  if model.name == "mlp":
    return MLP(classes, model.width, model.norm, activation, depth=model.depth)
  shared = (classes, model.width, model.norm, activation, model.convolution, platform)
  if model.name == "cnn":
    return CNN(*shared)
  if model.name == "resnet9":
    if min(image_shape[:2]) < SMALLEST_SIDE:
      raise UserError(
        f"model.name='resnet9' needs pictures of at least {SMALLEST_SIDE}x{SMALLEST_SIDE} pixels,"
        f" not {image_shape[0]}x{image_shape[1]}; set data.image_size or take 'cnn'"
      )
    return ResNet9(*shared)
  raise choice_error("model.name", model.name, ["mlp", "cnn", "resnet9"])
