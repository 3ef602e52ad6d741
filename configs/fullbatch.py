"""Full-batch gradient descent beside SGD: one row of Geiping et al. (2022, arXiv 2109.14119).

Claim, at scale `paper`: trained on the whole of CIFAR-10 in every step, without minibatches,
a ResNet-18 is as accurate as by SGD, once training is longer, gradients are clipped and their
norm is penalised: 95.7 % (`strong`), beside 95.7 % (`sgd`) and 75.4 % (`full_batch`).
Cost, in passes over the training images: `paper` 300 for `sgd` and `full_batch`, 3,000 for
`longer` and `clipped`, 6,000 for `regularized` and what follows (for an accelerator); `laptop`, 480
digits and a network of two convolutions, a fifth of them; `smoke` shows that everything works.
Data: `paper` needs CIFAR-10, from --data_dir or SEEDLAB_DATA.
Command: seedlab sweep --config=seedlab:fullbatch:laptop,strong --runs=10 \\
    --out=out/fullbatch/strong

After the colon: the scale, a row (without one, `strong`) and any number of modifiers, as in
`paper,in_practice,copies10,resnet50`. Rows: sgd, sgd_replacement, sgd_tuned, full_batch, longer,
noise_additive, noise_multiplicative, clipped, regularized, strong, in_practice. Modifiers:
no_augmentation; copies10 and copies40 (a fixed pool of augmented copies); shuffle, no_shuffle;
resnet50, resnet152, densenet121, vgg16. What each changes: seedlab/studies/fullbatch/settings.py.
"""

from ml_collections import ConfigDict

from seedlab.config import to_config_dict
from seedlab.studies.fullbatch import settings


def get_config(scale_row_modifiers: str = "laptop") -> ConfigDict:
  return to_config_dict(settings.config(*scale_row_modifiers.split(",")))
