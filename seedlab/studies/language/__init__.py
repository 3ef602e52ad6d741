"""The study "How much of a language model is its seed?"

Transformers over characters are trained from many seeds: their loss, their chances of the next
token in frozen contexts, and the texts that they write. Where no corpus is at hand the same is done
on `babble`, a made-up language. Claims L1 to L10, each published elsewhere for other models.
"""

from seedlab.studies.study import in_folder

STUDY = in_folder(__name__, "How much of a language model is its seed?")
