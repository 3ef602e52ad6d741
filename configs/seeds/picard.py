"""Picard's scan of seeds on CIFAR-10 (2021, arXiv 2109.08203).

Claim, at scale `paper`: over 10,000 seeds of `short` (22 epochs) the best test accuracy lies about
1.8 points above the worst; over 500 of `long` (45 epochs) runs spread with a standard deviation of
about 0.2 points around 90.7 %, and from epoch 25 on the spread no longer shrinks.
Cost, at scale `paper`: 2,200 steps of batch 500 a run of `short`, 4,500 of `long`; for an
accelerator. `laptop`: a network a sixteenth as wide on 5,000 pictures of 16x16, about 7 s a run on
one core. `smoke`: 2 epochs of 500 pictures, to see that it trains.
Data: CIFAR-10, from --data_dir or SEEDLAB_DATA.
Command: python scripts/sweep.py --config=configs/seeds/picard.py:laptop,short --runs=100 \\
    --out=out/picard

After the colon: the scale and any number of words:

  short, long    epochs: 22 (also without a word), or 45, of which the last 23 have a constant rate
  per_picture    each picture is changed by itself; without the word 500 neighbours alike
  float16        as published: all of float16 but batch norm; without a word float32
  bfloat16       computed in bfloat16, parameters in float32

From the published code: network, initialisation, batch 500, SGD with Nesterov momentum 0.9, weight
decay 1e-3 on all parameters, the rate 0.2 times a factor by epoch (0.102 at most); after
normalisation crops with a border of 4, flips and cutout of 8, one draw of each an epoch for 500
neighbouring pictures; evaluation behind the epochs listed and, of `long`, at the end too, which the
code leaves out. Its loss, CE + 2 LS(0.2), is 3 LS(0.4 / 3), where LS is the cross-entropy towards
smoothed labels.

Departures: float32 unless a word says float16, whose updates are rounded twice here (rate times
direction, then the sum). Pictures are normalised by their channels' own deviations; the code's
(0.2023, 0.1994, 0.2010) are smaller by a fifth, which the first batch norm cancels. Running
variances are biased. A seed decides the result to the last bit, which it does not there. `laptop`
keeps the 100 chunks and 100 steps of an epoch, at a tenth of the rate, since a batch has a tenth of
the pictures. On a CPU too convolutions are matrix products of patches: a step takes half the time.

Jordan's recipe, by whose statistics such runs are read: configs/cifar10_resnet9.py.
"""

import dataclasses

from ml_collections import ConfigDict

from seedlab.config import (
  Config,
  Data,
  Evaluation,
  Model,
  Optimizer,
  Training,
  choice_error,
  to_config_dict,
)

_EPOCHS = {"short": 22, "long": 45}
_MOMENTS = {"short": (0, 1, 6, 11, 16, 21), "long": (0, 1, 6, 11, 16, 21, 26, 31, 36, 41)}

_PAPER = Config(
  data=Data(name="cifar10", flip=True, crop=4, cutout=8, chunk=500),
  model=Model(
    name="picard",
    width=64,
    norm="batch",
    activation="celu",
    activation_kwargs=(("alpha", 0.1),),
    convolution="patches",
  ),
  optimizer=Optimizer(
    learning_rate=0.2,
    schedule="picard",
    per_epoch=True,
    momentum=0.9,
    nesterov=True,
    weight_decay=1e-3,
  ),
  training=Training(
    batch_size=500, epochs=_EPOCHS["short"], label_smoothing=0.4 / 3, loss_factor=3.0
  ),
  evaluation=Evaluation(epochs=_MOMENTS["short"]),
)

_LAPTOP = dataclasses.replace(
  _PAPER,
  data=dataclasses.replace(
    _PAPER.data, image_size=16, train_examples=5_000, crop=2, cutout=4, chunk=50
  ),
  model=dataclasses.replace(_PAPER.model, width=4),
  optimizer=dataclasses.replace(_PAPER.optimizer, learning_rate=0.02),
  training=dataclasses.replace(_PAPER.training, batch_size=50),
)

_SMOKE = dataclasses.replace(
  _LAPTOP,
  data=dataclasses.replace(_LAPTOP.data, train_examples=500, chunk=5),
  model=dataclasses.replace(_LAPTOP.model, width=2),
)

_SCALES = {"smoke": _SMOKE, "laptop": _LAPTOP, "paper": _PAPER}
_SMOKE_EPOCHS = {"short": 2, "long": 3}
_WORDS = ("short", "long", "per_picture", "float16", "bfloat16")


def get_config(scale_words: str = "laptop") -> ConfigDict:
  scale, *words = scale_words.split(",")
  if scale not in _SCALES:
    raise choice_error("scale", scale, _SCALES)
  config = _SCALES[scale]
  duration = "short"
  for word in words:
    if word not in _WORDS:
      raise choice_error("word", word, _WORDS)
    if word in _EPOCHS:
      duration = word
    elif word == "per_picture":
      config = dataclasses.replace(config, data=dataclasses.replace(config.data, chunk=None))
    else:
      config = dataclasses.replace(config, model=dataclasses.replace(config.model, precision=word))
  epochs = (_SMOKE_EPOCHS if scale == "smoke" else _EPOCHS)[duration]
  moments = tuple(epoch for epoch in _MOMENTS[duration] if epoch < epochs)
  config = dataclasses.replace(
    config,
    training=dataclasses.replace(config.training, epochs=epochs),
    evaluation=dataclasses.replace(config.evaluation, epochs=moments),
  )
  return to_config_dict(config)
