"""seedlab: how much of a result is the seed?"""

__version__ = "0.1.0"
