"""A recommender that sees each click once: the made-up world of data/clicks.py.

Claim: irreproducibility needs no second epoch, and smooth activations lessen it.
Cost: `laptop` 200,000 clicks in one pass, about 0.6 s a run on one core.
Command: seedlab sweep --config=seedlab:smooth/clicks:laptop,smelu=1,order \\
    --runs=16 --out=out/clicks

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
  return to_config_dict(smooth.config(scale, "clicks", *words))
