"""Data: reading pictures (`load`), the order of examples, augmentation."""

from seedlab.data.loading import (
  Dataset,
  class_names,
  fields,
  keep_test_set,
  load,
  moments,
  test_set,
)

__all__ = ["Dataset", "class_names", "fields", "keep_test_set", "load", "moments", "test_set"]
