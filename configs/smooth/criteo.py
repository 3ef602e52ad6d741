"""The Criteo network of Ovadia et al. (2019, arXiv 1906.02530), seeing each example once.

Claim: two equally accurate ReLU networks disagree about a click more than two smooth ones do.
Cost: 42,000 steps of 869 examples through 10.3 million parameters: for an accelerator.
Data: train.txt of Criteo's Display Advertising Challenge in the folder criteo of --data_dir or
SEEDLAB_DATA.
Command: seedlab sweep --config=seedlab:smooth/criteo:paper,smelu=1,init \\
    --runs=8 --out=out/criteo

After the colon: the scale (paper) and any number of words: an activation, as in relu
or smelu=0.5 (the parameter of its width); what differs between runs (crossed, init, order, sample,
dropout, poke); window10, window100, window1000; time; average, towers3, codistill; slices. What
each changes: seedlab/studies/smooth.py. This place has the scale `paper` alone.
"""

from ml_collections import ConfigDict

from seedlab.config import to_config_dict
from seedlab.studies import smooth


def get_config(scale_words: str = "paper") -> ConfigDict:
  scale, *words = scale_words.split(",")
  return to_config_dict(smooth.config(scale, "criteo", *words))
