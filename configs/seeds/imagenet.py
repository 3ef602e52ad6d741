"""Fine-tuning of pretrained networks on ImageNet from many seeds (Picard 2021, arXiv 2109.08203).

Claim, at scale `paper`: over 50 seeds, which draw the last layer, the order and the augmentation,
the best and the worst top-1 accuracy lie about half a point apart although the backbone is one
file.
Cost: 26,000 to 28,000 steps of 64 or 128 images of 224x224 a run; for an accelerator. `smoke`
takes 4 steps of CIFAR-10 at 32x32, to see that a file fits.
Data: imagenet2012 of tensorflow-datasets, from --data_dir or SEEDLAB_DATA, read as it is needed;
any other set of images does: --config.data.name=imagenette.
Command: seedlab sweep --runs=50 --out=out/vit \\
    --config=seedlab:seeds/imagenet:paper,dino_vit,weights/dino_vits16.safetensors

After the colon: the scale, the network (resnet50, dino_resnet50, dino_vit) and its weights, a
safetensors file in a public layout.

From the published code: first the new last layer alone, in train mode, so that batch norm's
running statistics drift, then all layers; SGD with Nesterov momentum 0.9, weight decay 1e-4;
rates, losses (CE + LS(0.1) first, which is 2 LS(0.05), then CE) and the last layer's first
weights by network, as below; random resized crops and flips, and for the test the centre of
images whose shorter side is 255.

Departures: the supervised ResNet-50's first stage takes 4,000 steps of 64 images, theirs 2,000
of 128, and its rate moves every 2,000 of them; a run has one batch size. The momentum starts anew
with the second stage, as theirs does with a new optimiser. The stages count as one training, so
that evaluations fall on multiples of 2,000 steps.
"""

from typing import Any

from ml_collections import ConfigDict

from seedlab.changes import changed
from seedlab.config import to_config_dict
from seedlab.errors import UserError, choice_error

_RESNET50 = {
  "model.name": "imagenet_resnet50", "model.width": 64, "model.norm": "batch",
  "model.head": "picard", "model.fresh": ("Dense_0",),
}  # fmt: skip
_VIT = {
  "model.name": "vit_s16", "model.width": 384, "model.depth": 12, "activation.name": "gelu",
  "model.head": "small", "model.fresh": ("Dense_1",),
}  # fmt: skip
_NETWORKS: dict[str, dict[str, Any]] = {
  "resnet50": {
    **_RESNET50, "training.batch_size": 64, "training.steps": 28_000,
    "probe.steps": 4000, "probe.learning_rate": 0.02, "probe.end": 1e-3, "probe.period": 20_000,
    "probe.hold_steps": 2000,
    "optimizer.learning_rate": 5e-4, "schedule.end": 1e-4, "schedule.hold_steps": 2000,
  },
  "dino_resnet50": {
    **_RESNET50, "training.steps": 28_000,
    "probe.steps": 4000, "probe.learning_rate": 0.1, "probe.end": 1e-3,
    "optimizer.learning_rate": 0.04, "schedule.end": 1e-4,
  },
  "dino_vit": {
    **_VIT, "training.steps": 28_000,
    "probe.steps": 2000, "probe.learning_rate": 0.01, "probe.end": 1e-3,
    "optimizer.learning_rate": 1e-4, "schedule.end": 1e-6,
  },
}  # fmt: skip
_PAPER: dict[str, Any] = {
  "data": {
    "name": "imagenet2012", "stream": True, "image_size": 224, "resized_crop": True,
    "centre_crop": 1.14, "normalisation": "imagenet",
  },
  "augment": [{"name": "flip"}],
  "optimizer": {"name": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay": 1e-4},
  "schedule": {"name": "cosine"},
  "training": {"batch_size": 128, "steps": 28_000},
  "probe": {"label_smoothing": 0.05, "loss_factor": 2.0},
  "evaluation": {"every_steps": 2000, "batch_size": 50},
}  # fmt: skip
_SMOKE: dict[str, Any] = {
  "data.name": "cifar10", "data.image_size": 32, "data.test_examples": 20,
  "training.batch_size": 4, "training.steps": 4, "probe.steps": 2, "probe.period": None,
  "evaluation.every_steps": 2,
}  # fmt: skip


def get_config(scale_network_file: str = "paper,dino_vit,weights.safetensors") -> ConfigDict:
  scale, *words = scale_network_file.split(",")
  if scale not in ("smoke", "paper"):
    raise choice_error("scale", scale, ("smoke", "paper"))
  network, *files = words or ["dino_vit"]
  if network not in _NETWORKS:
    raise choice_error("network", network, _NETWORKS)
  if len(files) != 1:
    example = f"{scale},{network},FILE.safetensors"
    raise UserError(f"{scale},{network} needs one file of weights: {example}")
  changes = dict(_NETWORKS[network])
  changes |= {"model.initial": files[0]}
  if scale == "smoke":
    changes |= _SMOKE
  return to_config_dict(changed(_PAPER, changes))
