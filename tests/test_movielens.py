"""MovieLens as clicks: the published counts, and a small set worked by hand."""

import hashlib
import pathlib

import numpy as np
import pytest
import tensorflow_datasets as tfds
from test_data import load

from seedlab import data
from seedlab.data import catalogue, movielens
from seedlab.errors import UserError


@pytest.fixture(scope="module", autouse=True)
def one_cache(tmp_path_factory):
  """A cache directory of this module's, so that the records are decoded once."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    yield


@pytest.fixture(scope="module")
def directory(data_dir) -> str:
  if not (pathlib.Path(data_dir) / movielens.NAME).is_dir():
    pytest.skip("needs movielens/100k-ratings in SEEDLAB_DATA")
  return data_dir


@pytest.fixture(scope="module")
def both(directory) -> list[data.Dataset]:
  """Both splits of the real one."""
  return [load(movielens.NAME, directory, download=False, test_by=by) for by in ("random", "time")]


# Training rows and labels, test rows and labels; of the random fifth, then of the latest.
GOLDEN = [
  "f9c37438fdf3",
  "bbad184bca8a",
  "40dbe6c1384a",
  "26e6a20d2320",
  "0050a5a90751",
  "1f8d83679793",
  "4739ef76ef50",
  "8208485e3ced",
]


def rating(user: int, film: int, time: int, stars: float = 4.0, **others) -> dict:
  """What tensorflow-datasets gives: numbers of its own kinds, names as bytes."""
  return {
    "user_id": str(user).encode(),
    "movie_id": str(film).encode(),
    "timestamp": np.int64(time),
    "user_rating": np.float32(stars),
    "user_gender": user % 2 == 0,
    "bucketized_user_age": np.float32([1, 18, 25, 35, 45, 50, 56][user % 7]),
    "user_occupation_label": np.int64(user % 22),
    "movie_genres": [np.int64(genre) for genre in (film % 21, (film + 3) % 21)],
    **others,
  }


# Users 2 and 10, whose names would sort the other way round; films 3, 20 and 100.
SMALL = [
  rating(10, 3, 500, 5.0),
  rating(2, 100, 300, 3.0, movie_genres=[]),
  rating(10, 20, 300, 1.0),
  rating(2, 3, 400, 4.0),
  rating(2, 20, 300, 2.0),
]
ROWS = [  # by time, user and film
  [0, 1, 2, 2, 1, 2, 20, -1, -1, -1, -1],
  [0, 1, 2, 2, 2, -1, -1, -1, -1, -1, -1],
  [1, 1, 3, 10, 1, 2, 20, -1, -1, -1, -1],
  [0, 1, 2, 2, 0, 3, 6, -1, -1, -1, -1],
  [1, 1, 3, 10, 0, 3, 6, -1, -1, -1, -1],
]
LABELS = [0, 0, 0, 1, 1]


def test_the_latest_by_hand():
  train, label, test, test_label = movielens.split(movielens.table(iter(SMALL)), "time", 2)
  assert train.tolist() == ROWS[:3] and test.tolist() == ROWS[3:]
  assert label.tolist() == LABELS[:3] and test_label.tolist() == LABELS[3:]
  assert train.dtype == test.dtype == label.dtype == np.int32


def test_a_random_part_by_hand():
  train, label, test, test_label = movielens.split(movielens.table(iter(SMALL)), "random", 2)
  pairs = ["2 20", "2 100", "10 20", "2 3", "10 3"]  # of ROWS
  shuffled = sorted(range(5), key=lambda i: hashlib.sha256(pairs[i].encode()).hexdigest())
  assert test.tolist() == [ROWS[i] for i in shuffled[:2]]
  assert train.tolist() == [ROWS[i] for i in sorted(shuffled[2:])]
  assert label.tolist() == [LABELS[i] for i in sorted(shuffled[2:])]
  assert test_label.tolist() == [LABELS[i] for i in shuffled[:2]]


def test_users_and_films_by_hand():
  users, films, seen = movielens.users_and_films(np.int32(ROWS[:3]), np.int32(ROWS[3:]))
  assert users.tolist() == [ROWS[0][:4], ROWS[2][:4]]
  assert films.tolist() == [ROWS[3][4:], ROWS[0][4:], ROWS[1][4:]]
  assert seen.tolist() == [[False, True, True], [False, True, False]]


def test_published_counts(both):
  for loaded in both:
    assert len(loaded.train_label) == 80_000 and len(loaded.test_label) == 20_000
    rows = np.concatenate([loaded.train_image, loaded.test_image])
    label = np.concatenate([loaded.train_label, loaded.test_label])
    assert rows.shape == (100_000, 11) and rows.dtype == np.int32
    assert [len(np.unique(rows[:, i])) for i in range(5)] == [943, 2, 7, 17, 1682]
    assert label.sum() == 34_174 + 21_201 and set(label.tolist()) == {0, 1}
    assert len(np.unique(rows[:, 0] * 2000 + rows[:, 4])) == 100_000
    genres = (rows[:, 5:] >= 0).sum(1)
    assert np.bincount(genres).tolist() == [0, 30_062, 38_952, 21_945, 6832, 1788, 421]
    assert np.bincount(rows[:, 2]).tolist() == [2491, 24_060, 35_444, 19_591, 6890, 6534, 4990]
    assert np.bincount(rows[:, 1]).tolist() == [25_740, 74_260]
    assert loaded.mean.shape == loaded.std.shape == (0,) and loaded.mean.dtype == np.float32
  fields, start = movielens.FIELDS, 0
  for field in fields:
    part = rows[:, start : start + field.columns]
    assert part.max() < field.buckets and part.min() >= (-1 if field.columns > 1 else 0), field
    start += field.columns
  assert start == 11
  assert (both[0].train_image[0] == both[1].train_image[0]).all()
  # In the random fifth every user is as likely; the latest fifth knows a few users only.
  assert len(np.unique(both[0].test_image[:, 0])) > 900
  assert len(np.unique(both[1].test_image[:, 0])) < 400


def test_frozen_splits(both):
  """Every record made with MovieLens rests on them; no library of random numbers decides."""
  digests = [
    hashlib.sha256(np.ascontiguousarray(part).tobytes()).hexdigest()[:12]
    for loaded in both
    for part in loaded[:4]
  ]
  assert digests == GOLDEN


def test_against_the_records_one_by_one(both, directory):
  """A second way, through names instead of positions: who rated what, and how."""
  with catalogue.quiet():
    source = tfds.builder(movielens.NAME, data_dir=directory).as_data_source("train")
    records = source.__getitems__(range(3000))
  found = {
    (row[0] + 1, row[4] + 1): (row[1:4].tolist(), [g for g in row[5:].tolist() if g >= 0], label)
    for row, label in zip(
      np.concatenate([both[0].train_image, both[0].test_image]),
      np.concatenate([both[0].train_label, both[0].test_label]),
      strict=True,
    )
  }
  ages = [1, 18, 25, 35, 45, 50, 56]
  for record in records:
    (gender, age, occupation), genres, label = found[
      int(record["user_id"]), int(record["movie_id"])
    ]
    assert gender == record["user_gender"] and ages[age] == record["bucketized_user_age"]
    assert occupation == record["user_occupation_label"] and genres == [*record["movie_genres"]]
    assert label == (record["user_rating"] in (4, 5))


def test_lists_of_films(both, directory):
  users, films, seen = data.build(movielens.NAME, data_dir=directory).lists()
  assert users.shape == (943, 4) and films.shape == (1682, 7) and seen.shape == (943, 1682)
  assert seen.sum() == 80_000
  rows = np.concatenate([both[0].train_image, both[0].test_image])
  np.testing.assert_array_equal(np.concatenate([users[rows[:, 0]], films[rows[:, 4]]], 1), rows)
  assert seen[both[0].train_image[:, 0], both[0].train_image[:, 4]].all()
  assert not seen[both[0].test_image[:, 0], both[0].test_image[:, 4]].any()
  few = data.build(f"{movielens.NAME}:0.1.1", data_dir=directory, test_examples=50)
  assert few.dataset.test_image.tolist() == both[0].test_image[:50].tolist()
  assert few.lists().seen.sum() == 80_000


@pytest.mark.parametrize(
  ("name", "options", "says"),
  [
    ("movielens/1m-ratings", {}, r"'movielens/1m-ratings' is not supp.*100k-ratings"),
    ("movielens", {}, r"data\.name='movielens' is not supported"),
    ("movielens/100k-movies:0.1.1", {}, r"100k-movies:0\.1\.1' is not supported"),
    (movielens.NAME, {"image_size": 8}, r"image_size=8 is not read by .*'movielens/100k-ratings'"),
    (movielens.NAME, {"extra": "a.npz"}, r"extra='a\.npz' is not read by"),
    (movielens.NAME, {"train_split": "all"}, r"train_split='all' is not read by"),
    (movielens.NAME, {"test_by": "user"}, r"data\.test_by='user' .*random, time"),
    ("digits", {"test_by": "time"}, r"test_by='time' is not read by .*'digits', but by movielens;"),
    (f"{movielens.NAME}:9.9.9", {}, r"cannot be opened"),
    (movielens.NAME, {}, r"'movielens/100k-ratings' is not in "),
  ],
)
def test_what_is_refused(tmp_path, name, options, says):
  with pytest.raises(UserError, match=says) as caught:
    load(name, tmp_path, download=False, **options)
  assert "\n" not in str(caught.value)


def test_other_sets_have_no_lists():
  assert data.build("digits").lists is None


@pytest.mark.parametrize(
  "others", [{"movie_genres": [*range(7)]}, {"bucketized_user_age": np.float32(30)}]
)
def test_what_no_column_takes(others):
  with pytest.raises(UserError, match=r"age that is none of .*genres"):
    movielens.table([*SMALL, rating(2, 4, 5, **others)])
