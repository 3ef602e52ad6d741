"""Real World or Ideal World: one setting of Nakkiran et al. (2021, arXiv 2010.08127).

Claim: until it has fitted its N examples, a network that reuses them generalises as if it never
saw one twice; what is left then is how fast it learns online.
Cost: `paper` 39,000 steps of 128 CIFAR-5m images (for an accelerator); `laptop` 1,536 steps of 32
images of 16x16, seconds a run on one core; `smoke` shows that everything works.
Data: glyphs are made, not read; cifar10 and cifar5m come from --data_dir or SEEDLAB_DATA.
Command: seedlab sweep --config=seedlab:bootstrap:laptop,mlp,ideal --runs=10 \\
    --out=out/ideal

After the colon: the scale, a network (without one, the first) and any number of modifiers, as in
`paper,preresnet18,real,n5000,aug2`. Networks of `smoke`: mlp, cnn; of `laptop`: mlp, resnet, vit;
of `paper`: mlp128,
mlp2048, preresnet18, resnet18, vgg11, mcnn, alexnet, densenet40_12, densenet40_32, wrn28_4,
wrn28_10, resnext29, resnet9, dconv, dconv_fc, vit4, vit8, cells0 to cells4. Modifiers: glyphs,
cifar10, cifar5m, dogbird; real, ideal; n64, n500, n1000, n2000, n5000, n10000, n25000, n50000, all;
aug0, aug1, aug2, aug3, shifts; momentum, adam, rmsprop, adagrad; noise20. What each changes:
seedlab/studies/bootstrap/settings.py.
"""

from ml_collections import ConfigDict

from seedlab.config import to_config_dict
from seedlab.studies.bootstrap import settings


def get_config(scale_network_modifiers: str = "laptop") -> ConfigDict:
  return to_config_dict(settings.config(*scale_network_modifiers.split(",")))
