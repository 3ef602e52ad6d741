"""Finds a set of tensorflow-datasets on disk, or downloads it; without TensorFlow.

tensorflow-datasets reads its files without TensorFlow, but prepares images
with it (to open files and to encode PNG). Where TensorFlow is missing,
`_tensorflow` lends it the few functions it asks for while it prepares.
"""

import contextlib
import difflib
import glob
import importlib.util
import io
import logging
import os
import pathlib
import shutil
import types
import urllib.parse
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from seedlab import console, parts
from seedlab.errors import UserError

_READABLE = ("array_record", "parquet", "bagz")  # what can be read without TensorFlow
_CONNECT_SECONDS = 10.0


def find(name: str, data_dir: str | None, download: bool = True, images: bool = True) -> Any:
  """The tensorflow-datasets builder of a set that is on disk.

  Downloads and prepares the set if it is not there yet; one line on stderr says so.

  Args:
    name: as tensorflow-datasets writes it, "set", "set/config" or "set:version".
    data_dir: its directory; None means SEEDLAB_DATA, else ~/tensorflow_datasets.
    download: False refuses a set that is not there yet.
    images: refuse what is no image classification, before anything is downloaded.

  Raises:
    UserError: if it is unknown, refused, or not to be had.
  """
  place = directory(data_dir)
  with quiet():
    builder = _builder(name, place, images)
    if images:
      _check_supervised(builder, name)
    prepared = builder.is_prepared()
  if not prepared and not download:
    raise UserError(f"data.name={name!r} is not in {place}; name its directory with --data_dir")
  if not prepared:
    _download(builder, name, place)
  if builder.info.file_format.value not in _READABLE:
    raise UserError(
      f"data.name={name!r} lies in {builder.data_path} as {builder.info.file_format.value}, which"
      " only TensorFlow reads; move that folder away to have it prepared anew, or name another"
      " directory (--data_dir or SEEDLAB_DATA)"
    )
  return builder


def directory(data_dir: str | None) -> pathlib.Path:
  """`data_dir`, else SEEDLAB_DATA, else ~/tensorflow_datasets; UserError if a named one is none."""
  named = data_dir or os.environ.get("SEEDLAB_DATA")
  if not named:
    return pathlib.Path.home() / "tensorflow_datasets"
  path = pathlib.Path(named).expanduser().absolute()
  if not path.is_dir():
    raise UserError(
      f"data_dir={named!r} is no directory; name one with --data_dir or SEEDLAB_DATA, or make it"
      " and have the set downloaded there"
    )
  return path


@contextlib.contextmanager
def reading(builder: Any, name: str) -> Iterator[None]:
  """Silence, and one kind of error: the readers of record files raise what they like."""
  try:
    with quiet():
      yield
  except UserError:
    raise
  except Exception as error:
    raise unreadable(builder.data_path, name, error) from error


def unreadable(folder: Any, name: str, error: Exception) -> UserError:
  """What is said of records that cannot be read."""
  return UserError(
    f"data.name={name!r} cannot be read from {folder}"
    f" ({one_line(error)}); if it is damaged, move that folder away and fetch it again"
  )


def one_line(error: Exception) -> str:
  """The kind of an error and the first line of what it says."""
  lines = str(error).strip().splitlines()
  return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


@contextlib.contextmanager
def quiet() -> Iterator[None]:
  """Keeps what tensorflow-datasets logs and prints about itself off the user's terminal."""
  disabled = logging.root.manager.disable
  logging.disable(logging.CRITICAL)
  try:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
      yield
  finally:
    logging.disable(disabled)


def _builder(name: str, directory: pathlib.Path, images: bool) -> Any:
  import tensorflow_datasets as tfds


  if not images and not (directory / name.split(":")[0]).is_dir():
    # Without TensorFlow it knows the code of its image sets only.
    import tensorflow_datasets.structured.movielens

  try:
    return tfds.builder(name, data_dir=directory)
  except tfds.core.DatasetNotFoundError:
    # A set that somebody made is known by its folder alone.
    own = [path.name for path in directory.iterdir()] if directory.is_dir() else []
    names = {*parts.names("data"), *tfds.list_builders(with_community_datasets=False), *own}
  except Exception as error:  # a wrong version or config, or anything in a set's own code
    raise UserError(f"data.name={name!r} cannot be opened: {one_line(error)}") from error
  stem = name.split("/")[0].split(":")[0]
  near = ", ".join(difflib.get_close_matches(stem, sorted(names), n=5, cutoff=0.5))
  raise UserError(
    f"data.name={name!r} is not known; {f'closest: {near}; ' if near else ''}choose 'digits' or an"
    f" image classification set of tensorflow-datasets (looked in {directory} too)"
  )


def _check_supervised(builder: Any, name: str) -> None:
  from tensorflow_datasets import features

  keys = builder.info.supervised_keys
  if keys is not None and len(keys) == 2 and all(isinstance(key, str) for key in keys):
    image, label = (builder.info.features[key] for key in keys)
    if (
      isinstance(image, features.Image)
      and image.np_dtype == np.uint8
      and isinstance(label, features.ClassLabel)
    ):
      return
  raise UserError(
    f"data.name={name!r} is not image classification (its supervised keys: {keys}); choose a set"
    " with one uint8 image and one class label"
  )


def _download(builder: Any, name: str, directory: pathlib.Path) -> None:
  from tensorflow_datasets import download

  console.say(f"downloading {name} to {directory}")
  try:
    _check_network(builder)
    with quiet(), _tensorflow():
      builder.download_and_prepare(
        file_format="array_record",
        download_config=download.DownloadConfig(try_download_gcs=False),
      )
  except Exception as error:  # network, disk, a changed web page, files to be fetched by hand
    raise UserError(
      f"data.name={name!r} is not in {directory} and cannot be downloaded ({one_line(error)});"
      " name a directory that has it with --data_dir or SEEDLAB_DATA, or fetch it on a machine with"
      ' a network: python -c "from seedlab import data;'
      f" data.build({name!r}, data_dir='.').dataset\""
    ) from error


def _check_network(builder: Any) -> None:
  """Raises within seconds if no host of the set answers; the download itself tries for minutes."""
  import requests

  hosts = {urllib.parse.urlsplit(url).netloc: url for url in builder.url_infos or ()}
  failure = None
  for url in list(hosts.values())[:3]:
    try:
      with requests.get(url, stream=True, timeout=_CONNECT_SECONDS):
        return
    except requests.RequestException as error:
      failure = error
  if failure:
    raise ConnectionError(f"no answer from {', '.join(list(hosts)[:3])}") from failure


@contextlib.contextmanager
def _tensorflow() -> Iterator[None]:
  """Lends tensorflow-datasets what its image sets ask of TensorFlow, where that is missing."""
  from tensorflow_datasets.core.utils import lazy_imports_utils

  if importlib.util.find_spec("tensorflow"):
    yield
    return
  gfile = types.SimpleNamespace(
    GFile=open,
    copy=shutil.copy,
    exists=os.path.exists,
    glob=glob.glob,
    isdir=os.path.isdir,
    listdir=os.listdir,
    walk=os.walk,
  )
  stand_in = types.SimpleNamespace(
    executing_eagerly=lambda: True,
    image=types.SimpleNamespace(encode_png=_encode_png),
    io=types.SimpleNamespace(gfile=gfile),
  )
  # Where its lazy import keeps the module once imported.
  lazy = vars(lazy_imports_utils.tensorflow)
  lazy["_module"] = stand_in
  try:
    yield
  finally:
    del lazy["_module"]


def _encode_png(image: np.ndarray) -> types.SimpleNamespace:
  """Lossless, so any encoder serves; `numpy()` is how an eager tensor gives its bytes."""
  file = io.BytesIO()
  Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, "PNG")
  return types.SimpleNamespace(numpy=file.getvalue)
