"""Data: reading pictures (`load`), the order of examples, augmentation."""

from seedlab.data.loading import Dataset, class_names, keep_test_set, load, moments, test_set

__all__ = ["Dataset", "class_names", "keep_test_set", "load", "moments", "test_set"]
