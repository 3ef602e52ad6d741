"""The study "How much of a diffusion model's score is the seed?"

A velocity network trained by flow matching is trained again and again from other seeds, and each
training generates its samples several times. So what retraining does to the Frechet distance is
set apart from what drawing other samples does. Claims D1 to D7: the size of both spreads, whether
more compute makes them smaller, whose share is whose (initialisation, order, noise), what quoting
the best of three draws is worth, what guidance does, how much compute luck is worth, and whether
one noise gives one image whatever the training seed.

The numbers of the FID Lottery (Dufour, Efros & Perez 2026, arXiv 2606.20536), of EDM and of others
stand beside ours, marked by how well they are known. Settings were chosen on runs 1,000,000 and up.
"""

from seedlab.studies.study import in_folder

STUDY = in_folder(__name__, "How much of a diffusion model's score is the seed?")
