"""MovieLens 100K as clicks: 100,000 ratings by 943 users of 1,682 films, 4 stars and more a click.

Harper & Konstan, "The MovieLens Datasets" (ACM TiiS 5, 2015); GroupLens lets it be
used for research and not be passed on. Read from tensorflow-datasets.
"""

import functools
import hashlib
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from seedlab.data import cache, catalogue, convert
from seedlab.data.examples import NO_MOMENTS, Dataset, Examples
from seedlab.data.fields import Field, Lists
from seedlab.errors import UserError

__all__ = ("movielens",)

NAME = "movielens/100k-ratings"
_CLASS_NAMES = ("below 4 stars", "4 stars or 5")
TEST_ROWS = 20_000

_AGES = (1, 18, 25, 35, 45, 50, 56)  # the youngest of each bucket
_GENRES = 6  # no film has more
_USER_FIELDS = (
  Field("user", 943),
  Field("gender", 2),
  Field("age", len(_AGES)),
  Field("occupation", 22),
)
FIELDS = (*_USER_FIELDS, Field("film", 1682), Field("genres", 21, columns=_GENRES))
_USER_COLUMNS = len(_USER_FIELDS)
_FIRST_CLICK = 4  # stars


class Table(NamedTuple):
  row: np.ndarray  # int32[N, F], with the columns of FIELDS
  label: np.ndarray  # int32[N]
  event: np.ndarray  # int64[N, 3]: seconds since 1970, published numbers of user and film


def movielens(
  *, name: str, data_dir: str | None, download: bool, test_by: Literal["random", "time"] = "random"
) -> Examples:
  """Rows of all ratings, 20,000 of them to test with.

  Args:
    name: "movielens/100k-ratings", with a version if wished.
    data_dir: a directory of tensorflow-datasets, as for `tfds`.
    download: False refuses a set that is not there.
    test_by: which fifth it is tested on (`split`).

  Raises:
    UserError: another set of MovieLens, or one that is not to be had.
  """
  if name.split(":")[0] != NAME:
    raise UserError(f"data.name={name!r} is not supported of MovieLens; choose {NAME!r}")
  builder = catalogue.find(name, data_dir, download, images=False)

  @functools.cache
  def read() -> Dataset:
    return Dataset(*split(_table(builder, name), test_by), *NO_MOMENTS)

  def lists() -> Lists:
    return users_and_films(read().train_image, read().test_image)

  return Examples(read, _CLASS_NAMES, FIELDS, lists=lists)


def _table(builder: Any, name: str) -> Table:
  """From the cache, or from the records."""
  source = pathlib.Path(builder.data_path)
  full_name = builder.info.full_name.replace("/", "-")
  places = cache.folders(source, full_name, sorted(source.glob("*.*")))
  kept = next(filter(None, (cache.read(place, Table._fields) for place in places)), None)
  if kept:
    return Table(*kept)
  with catalogue.reading(builder, name):
    made = table(read(builder.as_data_source(split="train"), convert.BULK))
  cache.write(places, made._asdict())
  return made


def read(source: Sequence, size: int) -> Iterator[Mapping[str, Any]]:
  """The records of a data source, `size` at a time: they are compressed in groups."""
  for start in range(0, len(source), size):
    yield from source.__getitems__(range(start, min(start + size, len(source))))


def table(records: Iterable[Mapping[str, Any]]) -> Table:
  """All ratings. Users and films are numbered in the ascending order of their published numbers.

  Args:
    records: with the features of movielens/100k-ratings of tensorflow-datasets.

  Raises:
    UserError: a film with more genres than there are columns, or an unknown age.
  """
  events, users, labels, genres = [], [], [], []
  for record in records:
    events.append([int(record[key]) for key in ("timestamp", "user_id", "movie_id")])
    keys = ("user_gender", "bucketized_user_age", "user_occupation_label")
    users.append([int(record[key]) for key in keys])
    labels.append(record["user_rating"] >= _FIRST_CLICK)
    genres.append(sorted(record["movie_genres"]))
  event, user = np.array(events, np.int64), np.array(users)
  most = max(map(len, genres))
  if not np.isin(user[:, 1], _AGES).all() or most > _GENRES:
    raise UserError(
      f"data.name={NAME!r} has a user's age that is none of {_AGES}, or a film of more than"
      f" {_GENRES} genres ({most}); fetch it again"
    )
  user[:, 1] = np.searchsorted(_AGES, user[:, 1])
  number, film = (np.unique(event[:, i], return_inverse=True)[1][:, None] for i in (1, 2))
  bags = np.array([[*bag, *[-1] * (_GENRES - len(bag))] for bag in genres])
  row = np.concatenate([number, user, film, bags], 1).astype(np.int32)
  return Table(row, np.array(labels, np.int32), event)


def split(
  table: Table, by: str, test_rows: int = TEST_ROWS
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
  """Rows and labels to train with, and to test with: int32[N, F], int32[N] and the same again.

  The training rows are in the order of their time (then user, film), so that
  data.order="sequential" is the order of events.

  Args:
    table: the ratings, in any order.
    by: "random" tests on the ratings whose "user film", in published numbers, has the
      smallest SHA-256, in that order, so that the first n of them are a random part too;
      "time" on the latest, in the order of time.
    test_rows: how many those are.
  """
  time, user, film = table.event.T
  if by == "time":
    order = np.lexsort((film, user, time))
    train, test = order[:-test_rows], order[-test_rows:]
  else:
    pairs = zip(user.tolist(), film.tolist(), strict=True)
    digests = [hashlib.sha256(f"{user} {film}".encode()).digest() for user, film in pairs]
    shuffled = np.array(sorted(range(len(digests)), key=digests.__getitem__))
    test, train = shuffled[:test_rows], shuffled[test_rows:]
    train = train[np.lexsort((film[train], user[train], time[train]))]
  return table.row[train], table.label[train], table.row[test], table.label[test]


def users_and_films(train: np.ndarray, test: np.ndarray) -> Lists:
  """From the rows of both sets, int32[N, F] and int32[M, F], which name every user and film."""
  rows = np.concatenate([train, test])
  users, films = (
    part[np.unique(part[:, 0], return_index=True)[1]]
    for part in (rows[:, :_USER_COLUMNS], rows[:, _USER_COLUMNS:])
  )
  seen = np.zeros((len(users), len(films)), bool)
  seen[train[:, 0], train[:, _USER_COLUMNS]] = True
  return Lists(users, films, seen)
