"""Picard's scan of seeds on CIFAR-10 (2021, arXiv 2109.08203).

Claim, at scale `paper`: over 10,000 seeds of `short` (22 epochs) the best test accuracy lies about
1.8 points above the worst; over 500 of `long` (45 epochs) runs spread with a standard deviation of
about 0.2 points around 90.7 %, and from epoch 25 on the spread no longer shrinks.
Cost, at scale `paper`: 2,200 steps of batch 500 a run of `short`, 4,500 of `long`; for an
accelerator. `laptop`: a network a sixteenth as wide on 5,000 images of 16x16, about 7 s a run on
one core. `smoke`: 2 epochs of 500 images, to see that it trains.
Data: CIFAR-10, from --data_dir or SEEDLAB_DATA.
Command: seedlab sweep --config=seedlab:seeds/picard:laptop,short --runs=100 \\
    --out=out/picard

After the colon: the scale and any number of words:

  short, long    epochs: 22 (also without a word), or 45, of which the last 23 have a constant rate
  per_image      each image is changed by itself; without the word 500 neighbours alike
  float16        as published: all of float16 but batch norm; without a word float32
  bfloat16       computed in bfloat16, parameters in float32

  init, order, augment   the seed of this stream alone varies
  crossed        every combination of levels of these three

From the published code: network, initialisation, batch 500, SGD with Nesterov momentum 0.9, weight
decay 1e-3 on all parameters, the rate 0.2 times a factor by epoch (0.102 at most); after
normalisation crops with a border of 4, flips and cutout of 8, one draw of each an epoch for 500
neighbouring images; evaluation behind the epochs listed and, of `long`, at the end too, which the
code leaves out. Its loss, CE + 2 LS(0.2), is 3 LS(0.4 / 3), where LS is the cross-entropy towards
smoothed labels.

Departures: float32 unless a word says float16, whose updates are rounded twice here (rate times
direction, then the sum). Images are normalised by their channels' own deviations; the code's
(0.2023, 0.1994, 0.2010) are smaller by a fifth, which the first batch norm cancels. Running
variances are biased. A seed decides the result to the last bit, which it does not there. `laptop`
keeps the 100 steps of an epoch, at a tenth of the rate, since a batch has a tenth of the images,
and the chunks, of which those few images are a tenth.

Jordan's recipe, by whose statistics such runs are read: configs/cifar10_resnet9.py.
"""

from ml_collections import ConfigDict

from seedlab.config import to_config_dict
from seedlab.studies.seeds import settings


def get_config(scale_words: str = "laptop") -> ConfigDict:
  scale, *words = scale_words.split(",")
  return to_config_dict(settings.config(scale, "picard", *words))
