"""A small network with any activation (Shamir & Lin 2022, arXiv 2202.06499).

Claim: the order of the examples alone moves what a ReLU network predicts more than what a network
of a smooth activation does, and the smooth one is as accurate.
Cost, on one core at scale `laptop`: movielens 0.6 s a run (6 epochs of 80,000 ratings), clicks
0.6 s (one pass of 200,000), digits hundredths of a second, cifar10 0.2 s (5,000 images of 16x16);
criteo has scale `paper` alone, 42,000 steps of 869 examples through 10.3 million parameters, for
an accelerator.
Data: digits and clicks need none; movielens/100k-ratings and cifar10 of tensorflow-datasets, and
criteo/train.txt of Criteo's Display Advertising Challenge, come from --data_dir or SEEDLAB_DATA.
Command: seedlab sweep --config=seedlab:smooth:laptop,movielens,smelu=1,order \\
    --runs=16 --out=out/smelu

After the colon: the scale (smoke, laptop, paper), the data (movielens, clicks, digits, cifar10,
criteo) and any number of words: an activation, as in relu or smelu=0.5 (the parameter of its
width); what differs between runs (crossed, init, order, sample, dropout, poke); window10,
window100, window1000; time; average, towers3, codistill; slices. What each changes:
seedlab/studies/smooth/settings.py.
"""

from ml_collections import ConfigDict

from seedlab.config import to_config_dict
from seedlab.studies.smooth import settings


def get_config(scale_data_words: str = "laptop") -> ConfigDict:
  return to_config_dict(settings.config(*scale_data_words.split(",")))
