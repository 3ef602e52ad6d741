"""Data: reading pictures (`load`), the order of examples, augmentation."""

from seedlab.data.loading import Dataset, class_names, load, moments

__all__ = ["Dataset", "class_names", "load", "moments"]
