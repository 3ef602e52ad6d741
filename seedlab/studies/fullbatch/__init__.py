"""The study "Stochastic training is not necessary for generalization" (Geiping et al. 2022).

Do networks generalise without the noise of minibatches? Rows of `settings`,
each from many seeds, on several data sets; claims F1 to F7. Numbers reported by the
paper stand beside ours with their source: not one of them comes with a number of
repetitions that is confirmed, so none is judged.

Settings of scale `laptop` were chosen on runs 1,000,000 and up (docs/fullbatch.md has
the grid); verdicts use runs 0, 1, 2, ...
"""

from seedlab.studies.study import in_folder

STUDY = in_folder(__name__, "Is stochastic training necessary?")
