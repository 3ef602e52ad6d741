"""A world of clicks: who was shown what, where and when, and whether they clicked.

A made-up stand-in for the click data of the papers on the reproducibility of
recommender networks (Shamir, Lin & Coviello 2020, arXiv 2010.09931), of which the
true probability of every click is known: a score that ranks better than `truth`,
or has a smaller log-loss, is luck.

  log-odds(row) = log-odds of the base rate
                  + an effect of each user, item, advertiser, topic, device and slot
                  + an effect of the hour: a daily and a weekly wave
                  + interaction (user factors . item factors)
                  + interaction / 2 (topic factors . advertiser factors)

Users, items, topics, devices and slots are drawn independently, the k-th of a
kind with a probability that falls as k^-exponent. Whose item it is, its
advertiser, is a fixed table, and the hour follows from the example's number.
Effects and factors are uniform and come from SHAKE-256 of the field's name, so
that no library of random numbers can change them; further users or items leave
the first ones as they were.

As in `worlds`, everything is integers, log-odds in units of 1/1024 and
probabilities in units of 2^-24, so that a sample is the same numbers in every
lane, batch, loop and program, and on every device. The tables become constants
of the program: 0.2 MB with the default parameters, 4 MB with the largest.
"""

import functools
import hashlib
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seedlab.data import worlds
from seedlab.data.examples import Examples, World
from seedlab.data.fields import Field, columns

__all__ = ("clicks",)

# Of each option: least and largest value; one whose bounds are ints is a whole number.
RANGES = {
  "users": (1, 100_000),
  "items": (1, 100_000),
  "rank": (1, 16),
  "exponent": (0.0, 2.0),
  "interaction": (0.0, 4.0),
  "drift": (0.0, 2.0),
  "rate": (0.001, 0.999),
  "period": (168, 2**24),
}
CLASS_NAMES = ("no click", "click")

_HOURS = 168  # of a week
_ADVERTISERS, _TOPICS, _DEVICES, _SLOTS = 100, 200, 6, 4
# Of the effects of a kind, the largest either way, in log-odds.
_EFFECTS = {"user": 1.0, "item": 1.0, "advertiser": 0.5, "topic": 0.5, "device": 0.5, "slot": 1.0}
_DRAWN = ("user", "item", "topic", "device", "slot")  # one word each, then one for the click

_ONE = 1024  # 1.0, in log-odds
_FARTHEST = 12 * _ONE  # log-odds beyond are cut to it
_BYTE_VARIANCE = (256**2 - 1) / 3  # of the odd numbers -255, ..., 255
_SHIFT = 12  # binary digits of the factor of a dot product


class _Tables(NamedTuple):
  below: dict[str, np.ndarray]  # uint32[n - 1]: how many of 2^32 words draw a category up to k
  advertiser: np.ndarray  # int32[items]
  effects: dict[str, np.ndarray]  # int32[n], in units of 1 / _ONE
  factors: dict[str, np.ndarray]  # int8[n, rank]; b stands for the odd number 2 b + 1
  base: int
  scales: tuple[int, int]  # what the two dot products are multiplied with, times 2^_SHIFT


def clicks(
  *,
  test_examples: int | None,
  download: bool,
  users: int = 5000,
  items: int = 2000,
  rank: int = 8,
  exponent: float = 1.0,
  interaction: float = 1.0,
  drift: float = 0.5,
  rate: float = 0.1,
  period: int = 168_000,
) -> Examples:
  """A world of rows int32[7]: user, item, advertiser, topic, device, slot, hour. See above.

  Its `truth` maps rows to the probabilities of a click, float32[n], multiples of 2^-24.

  Args:
    test_examples: how many are drawn to test on, over all of the period; None: 10,000.
    download: False draws no test set.
    users: how many there are.
    items: likewise.
    rank: numbers that each user, item, topic and advertiser is made of.
    exponent: of the power law; 0 makes all equally frequent.
    interaction: its standard deviation in log-odds, over pairs of user and item.
    drift: amplitude of the daily wave, and of the weekly one, in log-odds.
    rate: of clicks, where all effects are zero.
    period: examples a week, after which the hours come round.

  Raises:
    UserError: an option out of its range.
  """
  options = worlds.checked(
    RANGES,
    users=users,
    items=items,
    rank=rank,
    exponent=exponent,
    interaction=interaction,
    drift=drift,
    rate=rate,
    period=period,
  )
  world = _world(**options)
  return worlds.examples("clicks", world, options, test_examples, download)


def _world(users: int, items: int, rank: int, period: int, **others: float) -> World:
  fields = (
    Field("user", users),
    Field("item", items),
    Field("advertiser", _ADVERTISERS),
    Field("topic", _TOPICS),
    Field("device", _DEVICES),
    Field("slot", _SLOTS),
    Field("hour", _HOURS),
  )
  tables = _tables(fields, rank, **others)

  def sample(key, index):
    words = worlds.words(key, index, len(_DRAWN) + 1)
    drawn = {name: _category(tables.below[name], words[:, i]) for i, name in enumerate(_DRAWN)}
    drawn["advertiser"] = jnp.asarray(tables.advertiser)[drawn["item"]]
    # The product stays below 2^32.
    drawn["hour"] = index.astype(jnp.uint32) % period * _HOURS // period
    rows = jnp.stack([jnp.asarray(drawn[field.name], jnp.int32) for field in fields], 1)
    clicked = (words[:, -1] >> 8).astype(jnp.int32) < _chances(fields, tables, rows)
    return rows, clicked.astype(jnp.int32)

  def truth(rows):
    # Integers up to 2^24 are exact in float32, and so is their share of a power of two.
    return _chances(fields, tables, rows).astype(jnp.float32) / 2**24

  return World(sample, (columns(fields),), CLASS_NAMES, None, fields, truth, period)


def _category(below: np.ndarray, words: jax.Array) -> jax.Array:
  """int32[n]: word w falls into category k if below[k - 1] <= w < below[k]."""
  return jnp.searchsorted(jnp.asarray(below), words, side="right").astype(jnp.int32)


def _chances(fields: tuple[Field, ...], tables: _Tables, rows: jax.Array) -> jax.Array:
  """int32[n]: the probability of a click in units of 2^-24."""
  column = {field.name: rows[:, i] for i, field in enumerate(fields)}
  odds = tables.base + sum(
    jnp.asarray(effects)[column[name]] for name, effects in tables.effects.items()
  )
  pairs = (("user", "item"), ("topic", "advertiser"))
  for (one, other), scale in zip(pairs, tables.scales, strict=True):
    a, b = (
      2 * jnp.asarray(tables.factors[name])[column[name]].astype(jnp.int32) + 1
      for name in (one, other)
    )
    odds += (a * b).sum(1) * scale >> _SHIFT  # below 2^30
  place = jnp.clip(odds, -_FARTHEST, _FARTHEST) + _FARTHEST
  return jnp.asarray(_sigmoid())[place]


def _tables(
  fields: tuple[Field, ...],
  rank: int,
  exponent: float,
  interaction: float,
  drift: float,
  rate: float,
) -> _Tables:
  sizes = {field.name: field.buckets for field in fields}
  # Two bytes each, so that no advertiser is much more frequent than another.
  owners = _bytes("advertiser of item", 2 * sizes["item"]).reshape(-1, 2).astype(np.int32)
  hours = 2 * np.pi * np.arange(_HOURS)
  wave = drift * (np.sin(hours / 24) + np.sin(hours / _HOURS))
  effects = {
    name: (2 * _bytes(f"effect of {name}", sizes[name]).astype(np.int32) - 255)
    * round(largest * _ONE)
    // 255
    for name, largest in _EFFECTS.items()
  }
  # A product of two factors has the variance _BYTE_VARIANCE^2.
  scale = interaction * _ONE * 2**_SHIFT / (_BYTE_VARIANCE * math.sqrt(rank))
  return _Tables(
    below={name: _below(sizes[name], exponent) for name in _DRAWN},
    advertiser=(owners[:, 0] * 256 + owners[:, 1]) % _ADVERTISERS,
    effects=effects | {"hour": np.round(_ONE * wave).astype(np.int32)},
    factors={
      name: _bytes(f"factors of {name}", sizes[name] * rank).view(np.int8).reshape(-1, rank)
      for name in ("user", "item", "topic", "advertiser")
    },
    base=round(_ONE * math.log(rate / (1 - rate))),
    scales=(round(scale), round(scale / 2)),
  )


def _bytes(name: str, count: int) -> np.ndarray:
  """uint8[count], the same for ever; more of them begin alike."""
  return np.frombuffer(hashlib.shake_256(f"clicks: {name}".encode()).digest(count), np.uint8)


def _below(size: int, exponent: float) -> np.ndarray:
  """uint32[size - 1]: cumulative counts, of 2^32 words, of a power law.

  Integers are added up: no order of summation and no last bit of a power shows.
  """
  weights = np.round(2.0**32 * np.arange(1, size + 1) ** -exponent).astype(np.int64)
  ends = np.maximum(weights, 1).cumsum()  # below 2^49, so exact in float64
  return np.floor(ends[:-1] / ends[-1] * 2.0**32).astype(np.uint32)


@functools.cache
def _sigmoid() -> np.ndarray:
  """int32[2 * _FARTHEST + 1]: 2^24 / (1 + exp(-z)) for all log-odds z there are, rounded."""
  odds = np.arange(-_FARTHEST, _FARTHEST + 1) / _ONE
  return np.round(2**24 / (1 + np.exp(-odds))).astype(np.int32)
