"""Rows: examples that are integers in columns, such as a user, a film and its genres."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Field(NamedTuple):
  """Adjoining columns of a row int32[F] that mean one thing."""

  name: str
  buckets: int  # categories 0, ..., buckets - 1; 0: a number, read as it is
  columns: int = 1  # of several, a bag of categories: the mean of those that are not -1
  embedding: int | None = None  # its published size, 0 for one-hot; None leaves it to the model


class Lists(NamedTuple):
  """What it takes to score every film for every user: any two of the rows, joined, are a row."""

  users: np.ndarray  # int32[U, 4], the columns of a row that are about the user
  films: np.ndarray  # int32[I, 7], the others
  seen: np.ndarray  # bool[U, I]: rated in the training set


def columns(fields: Sequence[Field]) -> int:
  """F, the length of a row."""
  return sum(field.columns for field in fields)
