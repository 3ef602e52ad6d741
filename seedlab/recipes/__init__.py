"""Recipes of our own for what no config describes: each module has functions of JSON arguments.

`seedlab sweep --trainer=seedlab.recipes.MODULE:make --arguments='{...}'`. A new recipe is a new
module; stores may name the functions of this folder, which replay and verify import.
"""
