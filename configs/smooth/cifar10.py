"""A multilayer perceptron on 5,000 pictures of CIFAR-10 at 16x16, with any activation.

Claim: the order of the examples alone moves what a ReLU network predicts more than a smooth one.
Cost: `laptop` 4 epochs, about 0.2 s a run on one core; `paper` all pictures at 32x32.
Data: cifar10 of tensorflow-datasets, from --data_dir or SEEDLAB_DATA.
Command: seedlab sweep --config=seedlab:smooth/cifar10:laptop,smelu=1,order \\
    --runs=16 --out=out/cifar10-smelu

After the colon: the scale (laptop, paper) and any number of words: an activation, as in relu
or smelu=0.5 (the parameter of its width); what differs between runs (crossed, init, order, sample,
dropout, poke); window10, window100, window1000; time; average, towers3, codistill; slices. What
each changes: seedlab/studies/smooth.py.
"""

from ml_collections import ConfigDict

from seedlab.config import to_config_dict
from seedlab.studies import smooth


def get_config(scale_words: str = "laptop") -> ConfigDict:
  scale, *words = scale_words.split(",")
  return to_config_dict(smooth.config(scale, "cifar10", *words))
