"""What the metadata of a store may declare, checked before anything in it is opened.

A manifest comes with a store from whoever made it. Zarr would import the code of a codec that it
names, write and read wherever it points, and make room for whatever it promises; here it is held
to what seedlab writes: plain arrays of numbers and bytes, below the store's own directory,
compressed by LZ4 (which makes nothing more than 255 times smaller) or not at all.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

MOST_RUNS = 10_000_000  # of a store
_LARGEST_CHUNK = 2**31 - 1  # bytes; Blosc's own limit
_FILE = re.compile(r"(?:\w[\w.-]*/\.zarray|\w[\w.-]*/\.zattrs|\.zattrs|\.zgroup)", re.ASCII)
_DTYPE = re.compile(r"[<>|](?:b1|[iu][1248]|f[248]|[SU][1-9]\d{0,5})", re.ASCII)

# Of the manifest: what has to be there, and of which type it is where it is.
_FIELDS: dict[str, type | tuple[type, ...]] = {
  "chunk": int, "outcome": list, "by_run": list, "metrics": list, "fingerprints": list,
  "runs": list, "arrays": list, "coordinates": str, "coordinates_sha256": dict,
  "config": (dict, type(None)), "trainer": (dict, type(None)), "meanings": dict, "claims": list,
  "vary": list, "design": str, "planned_n": (int, type(None)), "stop": (str, type(None)),
  "created": str, "seedlab_version": str, "lock": list, "layout": int, "config_digest": str,
  "data_digest": (str, type(None)), "evaluation_digest": (str, type(None)), "python": str,
  "system": str, "git_commit": (str, type(None)), "shard": (list, type(None)),
}  # fmt: skip
_NEEDED = ("chunk", "outcome", "by_run", "metrics", "fingerprints", "config", "coordinates")
_SEALED = ("runs", "arrays", "coordinates_sha256")  # of layout 3
_NAMES = ("outcome", "by_run", "metrics", "arrays", "vary", "lock")
_SEEDS = {"vary": list, "fixed": int, "design": str}


def fault(metadata: Mapping[str, Any]) -> str | None:
  """What in the consolidated metadata (file -> content) is not as seedlab writes it; or None."""
  for name, content in metadata.items():
    if not _FILE.fullmatch(name):
      return f"{name!r} is no file of a store"
    if not isinstance(content, dict):
      return f"{name} is no object"
  if metadata.get(".zgroup") != {"zarr_format": 2}:
    return ".zgroup is not that of format 2"
  arrays = {name[:-8]: value for name, value in metadata.items() if name.endswith("/.zarray")}
  for name, array in arrays.items():
    wrong = _array(array) or _dimensions(array, metadata.get(f"{name}/.zattrs"))
    if wrong:
      return f"array {name!r}: {wrong}"
  return _manifest(metadata.get(".zattrs", {}), arrays)


def chunk_bytes(array: Mapping[str, Any]) -> int:
  """Bytes of a chunk of an array, unpacked."""
  return math.prod(array["chunks"]) * _itemsize(array["dtype"])


def array_bytes(array: Mapping[str, Any]) -> int:
  return math.prod(array["shape"]) * _itemsize(array["dtype"])


def _itemsize(dtype: str) -> int:
  return int(dtype[2:]) * (4 if dtype[1] == "U" else 1)


def _array(array: dict[str, Any]) -> str | None:
  shape: Any = array.get("shape")
  chunks: Any = array.get("chunks")
  dtype = array.get("dtype")
  if array.get("zarr_format") != 2:
    return "it is not of format 2"
  if not (_sizes(shape, 0) and _sizes(chunks, 1) and len(shape) == len(chunks) > 0):
    return f"its shape {shape!r} and chunks {chunks!r} do not go together"
  if chunks[1:] != [max(1, size) for size in shape[1:]]:
    return f"its chunks {chunks!r} split more than the first dimension of {shape!r}"
  if not isinstance(dtype, str) or not _DTYPE.fullmatch(dtype):
    return f"its dtype {dtype!r} is no plain one"
  if chunk_bytes(array) > _LARGEST_CHUNK or math.prod(shape) >= 2**63:
    return f"its chunks of {chunks!r} {dtype} are too large"
  compressor = array.get("compressor")
  if compressor is not None and not (
    isinstance(compressor, dict)
    and compressor.get("id") == "blosc"
    and compressor.get("cname") in ("lz4", "lz4hc")
    and all(isinstance(compressor.get(key), int) for key in ("clevel", "shuffle", "blocksize"))
  ):
    return f"its compressor {compressor!r} is none that seedlab uses"
  if array.get("filters") is not None:
    return f"its filters {array['filters']!r} are none that seedlab uses"
  if array.get("order") not in ("C", "F") or array.get("dimension_separator", ".") != ".":
    return "the order of its bytes or the names of its files are none that seedlab uses"
  if isinstance(array.get("fill_value"), list | dict):
    return f"its fill_value is {array['fill_value']!r}"
  return None


def _dimensions(array: dict[str, Any], attributes: Any) -> str | None:
  names: Any = attributes.get("_ARRAY_DIMENSIONS") if isinstance(attributes, dict) else None
  if not _texts(names) or len(names) != len(array["shape"]) or len(set(names)) < len(names):
    return f"its dimensions {names!r} do not fit its shape {array['shape']!r}"
  return None


def _manifest(manifest: Any, arrays: Mapping[str, dict[str, Any]]) -> str | None:
  layout = manifest.get("layout", 1)
  needed = [*_NEEDED, *_SEALED] if isinstance(layout, int) and layout >= 3 else _NEEDED
  for name in needed:
    if name not in manifest:
      return f"the manifest lacks {name!r}"
  for name, kind in _FIELDS.items():
    value = manifest.get(name)
    if name in manifest and (not isinstance(value, kind) or isinstance(value, bool)):
      return f"{name}={value!r} in the manifest is of another type"
  for name in _NAMES:
    if not _texts(manifest.get(name, [])):
      return f"{name}={manifest[name]!r} in the manifest are no names"
  sections = (manifest["config"] or {}).items()
  wrong = [name for name, one in sections if not isinstance(one, dict | list | type(None))]
  parts = [name for name, one in sections if not isinstance(_name(one), str)]
  if wrong or parts:
    return f"config.{[*wrong, *parts][0]} in the manifest is no section"
  if not all(isinstance(one, dict) for one in manifest.get("meanings", {}).values()):
    return "meanings in the manifest are no objects"
  for name in ("fingerprints", "claims"):
    if not all(isinstance(one, dict) for one in manifest.get(name, [])):
      return f"{name} in the manifest are no objects"
  if not manifest["fingerprints"]:
    return "fingerprints in the manifest are none"
  unknown = {*manifest["by_run"], *manifest["outcome"], *manifest["metrics"]} - set(arrays)
  unknown |= set(manifest["coordinates"].split()) - set(arrays)
  unknown |= set(manifest.get("coordinates_sha256", ())) - set(arrays)
  unknown |= set(manifest.get("arrays", ())) - set(manifest["by_run"])
  unknown |= {"run", "completed", "diverged", "digest", "fingerprint"} - set(manifest["by_run"])
  if unknown:
    return f"there is no array {min(unknown)!r}"
  heights = {arrays[name]["shape"][0] for name in manifest["by_run"]}
  if len(heights) > 1 or max(heights) > MOST_RUNS or manifest["chunk"] < 1:
    return "the arrays are not of one number of runs, or of too many"
  return _seeds(manifest) or _runs(manifest, heights.pop())


def _name(section: Any) -> Any:
  return section.get("name", "") if isinstance(section, dict) else ""


def _seeds(manifest: Any) -> str | None:
  experiment = manifest["config"] or manifest.get("trainer") or {}
  seeds = experiment.get("seeds")
  if seeds is None:
    return None
  if not isinstance(seeds, dict) or any(
    not isinstance(seeds.get(name), kind) or isinstance(seeds.get(name), bool)
    for name, kind in _SEEDS.items()
  ):
    return f"seeds={seeds!r} in the manifest are none"
  if not _texts(seeds["vary"]) or not 0 <= seeds["fixed"] < 2**32:
    return f"seeds={seeds!r} in the manifest are none"
  return None


def _runs(manifest: Any, height: int) -> str | None:
  """Of a store whose run numbers stand in the manifest."""
  ranges = manifest.get("runs")
  if ranges is None:
    return None
  if not all(_sizes(one, 0) and len(one) == 2 and one[0] < one[1] < 2**63 for one in ranges):
    return f"runs={ranges!r} in the manifest are no ranges"
  if sum(stop - first for first, stop in ranges) != height:
    return "runs in the manifest are not as many as the arrays have"
  return None


def _sizes(value: Any, least: int) -> bool:
  return isinstance(value, list) and all(type(one) is int and one >= least for one in value)


def _texts(value: Any) -> bool:
  return isinstance(value, list) and all(isinstance(one, str) for one in value)
