"""ResNet-14 on CIFAR-10, one source of randomness at a time (Summers & Dinneen, arXiv 2103.04514).

Claim, at scale `paper`: every source of randomness, down to the last bit of one initial weight,
makes runs differ by about as much as all of them together.
Cost, at scale `paper`: 48,500 steps of batch 512 a run, 100 runs a source; for an accelerator.
`laptop`: a network a quarter as wide on 2,000 images of 16x16, seconds a run on one core.
`smoke`: 2 epochs of 500 images, to see that it trains.
Data: CIFAR-10, from --data_dir or SEEDLAB_DATA.
Command: seedlab sweep --config=seedlab:seeds/summers:laptop,bit --runs=20 \\
    --out=out/summers-bit

After the colon: the scale and a source: all (also without a word), init, order, augment, bit. The
other streams keep the seed 0.

From the published code: widths 16, 32 and 64, the last scale of a branch 0 at first, shortcuts that
subsample, normalise and add features of zero; batch 512, 500 epochs, SGD with momentum 0.9, weight
decay 5e-4, rate 0.4 after 3 epochs of linear warm-up, a cosine over all 500 epochs, a tenth of the
rate for biases and the scales of norms; crops with a border of 4, flips.

Assumed: convolutions Kaiming-normal by fan-out, the linear layer as in PyTorch, no Nesterov
momentum, weight decay on all parameters, the incomplete last batch dropped, warm-up and cosine by
steps and not by epochs. Departures: `bit` moves any weight, away from zero; theirs one of the first
convolution (or of the linear layer), up or down. Kernels are deterministic here, so that source of
theirs is missing, as are their remedies.
"""

from ml_collections import ConfigDict

from seedlab.changes import changed
from seedlab.config import parse, to_config_dict
from seedlab.errors import UserError, choice_error

_PAPER = parse(
  {
    "data": {"name": "cifar10"},
    "augment": [{"name": "crop", "padding": 4}, {"name": "flip"}],
    "model": {"name": "resnet14", "width": 16, "norm": "batch"},
    "optimizer": {
      "name": "sgd", "learning_rate": 0.4, "momentum": 0.9, "weight_decay": 5e-4,
      "bias_factor": 0.1,
    },
    "schedule": {"name": "whole_cosine", "warmup_steps": 3 * (50_000 // 512)},
    "training": {"batch_size": 512, "epochs": 500},
    "evaluation": {"every_epochs": 50, "probabilities": True},
  }
)  # fmt: skip
_LAPTOP = changed(
  _PAPER,
  {
    "data.image_size": 16, "data.train_examples": 2000, "augment[0].padding": 2, "model.width": 4,
    "schedule.warmup_steps": 3 * 31, "training.batch_size": 64, "training.epochs": 10,
    "evaluation.every_epochs": 2,
  },
)  # fmt: skip
_SMOKE = changed(
  _LAPTOP,
  {
    "data.train_examples": 500, "model.width": 2, "schedule.warmup_steps": 2,
    "training.batch_size": 100, "training.epochs": 2,
  },
)  # fmt: skip
_SCALES = {"smoke": _SMOKE, "laptop": _LAPTOP, "paper": _PAPER}
# Which images a run has is no source of theirs.
_SOURCES = {"all": ("init", "order", "augment", "noise", "poke"), "bit": ("poke",)} | {
  source: (source,) for source in ("init", "order", "augment")
}


def get_config(scale_source: str = "laptop") -> ConfigDict:
  scale, *words = scale_source.split(",")
  if scale not in _SCALES:
    raise choice_error("scale", scale, _SCALES)
  config = _SCALES[scale]
  if len(words) > 1:
    raise UserError(f"{', '.join(words)} are several sources; name one")
  for word in words or ["all"]:
    if word not in _SOURCES:
      raise choice_error("source", word, _SOURCES)
    changes = {"seeds.vary": _SOURCES[word]} | ({"training.poke_step": 0} if word == "bit" else {})
    config = changed(config, changes)
  return to_config_dict(config)
