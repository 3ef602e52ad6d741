"""The study "Do smooth activations make networks agree?" (Shamir & Lin 2022, arXiv 2202.06499).

Two trainings of one network are equally accurate and still predict different things for
one example: prediction difference, PD. The papers say that the kinks of ReLU are a
cause, and that smooth activations, SmeLU the simplest, lower PD at no loss in accuracy.
Here PD is the mean over pairs of runs of |p - p'|, the probability of a click, or summed
over the classes of images.

Primary source: the initialisation fixed, the order of the examples varied. Every setting
is trained from a crossed design, each of its initialisations in each of its orders, and
PD taken over the pairs that share the initialisation. Intervals leave out an order in all
initialisations at once: they speak of new orders of these initialisations. Of each
family of activations the width is chosen on the first half of the orders and judged on
the second. Claims M1 to M6.

The papers' tables are not at hand (neither their data nor their grids of widths are public), so
no reported number stands beside ours.
"""

from seedlab.studies.study import in_folder

STUDY = in_folder(__name__, "Do smooth activations make networks agree?")
