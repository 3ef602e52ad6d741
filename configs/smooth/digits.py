"""A small network on 500 of scikit-learn's digits, with any activation.

Claim: the order of the examples alone moves what a ReLU network predicts more than a smooth one.
Cost: `laptop` 20 epochs, hundredths of a second a run.
Command: seedlab sweep --config=seedlab:smooth/digits:laptop,smelu=1,order \\
    --runs=16 --out=out/digits-smelu

After the colon: the scale (smoke, laptop, paper) and any number of words: an activation, as in relu
or smelu=0.5 (the parameter of its width); what differs between runs (crossed, init, order, sample,
dropout, poke); window10, window100, window1000; time; average, towers3, codistill; slices. What
each changes: seedlab/studies/smooth.py.
"""

from ml_collections import ConfigDict

from seedlab.config import to_config_dict
from seedlab.studies import smooth


def get_config(scale_words: str = "laptop") -> ConfigDict:
  scale, *words = scale_words.split(",")
  return to_config_dict(smooth.config(scale, "digits", *words))
