"""The study "How much of a result is the seed?" (Picard 2021, arXiv 2109.08203, and after).

What the paper did: many seeds, everything varied, the distribution of the test accuracy and
its best and worst. What it could not say: which source of randomness is to blame, and how
much of the spread is the finite test set. Claims S1 to S8.

A "seed" of the paper sets every stream at once, as our `all` does. `crossed` has every
combination of levels of three streams, from which first-order and total effects follow.
Distribution-wise: what would show on new examples, too (Jordan 2024, arXiv 2304.01910).

Scale `laptop` is digits, and CIFAR-10 at 16x16 where it is at hand, with a small network and with
a narrow one of Picard's in the published protocol; scale `paper` has that protocol as it is. The
published tables stand beside ours with how sure each number is.
"""

from seedlab.studies.study import in_folder

STUDY = in_folder(__name__, "How much of a result is the seed?")
