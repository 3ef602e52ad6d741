"""Data: reading pictures and rows (`load`), the order of examples, augmentation."""

from seedlab.data.loading import (
  Dataset,
  class_names,
  fields_of,
  keep_test_set,
  lists,
  load,
  moments,
  streamed,
  test_set,
)

__all__ = [
  "Dataset",
  "class_names",
  "fields_of",
  "keep_test_set",
  "lists",
  "load",
  "moments",
  "streamed",
  "test_set",
]
