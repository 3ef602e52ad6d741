"""A recommender on MovieLens 100K: which films will a user rate with 4 stars or 5?

Claim: two equally accurate ReLU networks disagree about a film more than two smooth ones do.
Cost: `laptop` 6 epochs of 80,000 ratings, about 0.6 s a run on one core.
Data: movielens/100k-ratings of tensorflow-datasets, from --data_dir or SEEDLAB_DATA.
Command: seedlab sweep --config=seedlab:smooth/movielens:laptop,smelu=1,order \\
    --runs=16 --out=out/smelu

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
  return to_config_dict(smooth.config(scale, "movielens", *words))
