"""The study "The Deep Bootstrap framework" (Nakkiran, Neyshabur & Sedghi 2021, arXiv 2010.08127).

Does a network that trains on N examples over and over generalise like one that never sees
an example twice? Settings of `settings`, each in a real and in an ideal world,
from many seeds; claims B1 to B4. The bootstrap error of a run is its test error in the
real world less that of the run with the same seeds in the ideal one: they share `init`,
and their examples as far as the real world has any. The paper gives curves and no table of numbers,
so no reported number stands beside ours.

Settings of scale `laptop` were chosen on runs 1,000,000 and up (docs/bootstrap.md);
verdicts use runs 0, 1, 2, ...
"""

from seedlab.studies.study import in_folder

STUDY = in_folder(__name__, "Real World or Ideal World?")
