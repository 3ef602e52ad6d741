"""What tests ask of two stores."""

import json
import os

import numpy as np
import zarr


def assert_same_store(a, b) -> None:
  """Byte for byte, but for times and the checksums, which cover them too."""
  files = {}
  for store in (a, b):
    found = {str(path.relative_to(store)): path.read_bytes()
             for path in store.rglob("*") if path.is_file()}  # fmt: skip
    metadata = json.loads(found.pop(".zmetadata"))["metadata"]
    metadata[".zattrs"]["created"] = ""
    attributes = json.loads(found.pop(".zattrs"))
    assert list(attributes) == list(metadata[".zattrs"])
    checksums = zarr.open_group(os.fspath(store), mode="r")["checksum"][:]
    column = metadata[".zattrs"]["arrays"].index("seconds")
    files[store] = {
      **{name: content for name, content in found.items()
         if name.split("/")[0] not in ("seconds", "checksum", ".lock") or ".z" in name},
      "metadata": json.dumps(metadata),
      "checksums": np.delete(checksums, column, axis=1).tobytes(),
    }  # fmt: skip
  assert files[a].keys() == files[b].keys()
  assert [name for name in files[a] if files[a][name] != files[b][name]] == []
