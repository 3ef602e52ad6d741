"""A made-up language without end, whose true entropy is known.

The next token depends on the two before it: a Markov chain of order 2 over `tokens` tokens. After
a token b only twice `branches` tokens are possible at all, after a pair a, b only `branches` of
those, and low numbers are more frequent (about as 1 / (number + 1)); so there is something to learn
from single tokens, more from pairs, and all of it from triples.

Window i of a key is a function of fold_in(key, i) alone, by integer comparisons of words of 32 bits
with cumulative thresholds: the same tokens on every device, in every lane and program. Which
grammar it is depends on its number through SHA-256, so it is the same everywhere, too. Every chance
is a whole number of 2^-32, from which the stationary distribution and the entropies are computed in
float64, by sums whose sequence is fixed.
"""

import functools
import hashlib
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seedlab import streams
from seedlab.data import worlds
from seedlab.errors import UserError

_ONE = 2**32
_RANGES = {"tokens": (4, 64), "branches": (2, 16), "grammar": (0, _ONE - 1)}
_STEPS = 100_000  # of the iteration for the stationary distribution, at most
_EQUAL = 1e-14  # of the stationary distribution: the sum of its changes in the last step


class Language(NamedTuple):
  """A grammar, V = tokens, K = branches; a pair (a, b) has the number a V + b.

  Attributes:
    successors: uint8[V V, K], the tokens that may follow a pair, ascending.
    chances: uint64[V V, K], of 2^32; each row's sum is 2^32.
    stationary: float64[V V], how often a pair is met.
    starts: uint64[V V], the chances of the first pair of a window, of 2^32: `stationary`, rounded.
  """

  tokens: int
  successors: np.ndarray
  chances: np.ndarray
  stationary: np.ndarray
  starts: np.ndarray

  @property
  def vocabulary(self) -> tuple[str, ...]:
    """A letter for each token, for readers."""
    return tuple(_LETTERS[: self.tokens])


_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-"


@functools.lru_cache(maxsize=8)
def language(grammar: int = 0, tokens: int = 24, branches: int = 4) -> Language:
  """The grammar with a number.

  Args:
    grammar: its number, from 0 to 2^32 - 1.
    tokens: in the vocabulary, 4 to 64.
    branches: that follow a pair, 2 to 16, and at most half of the tokens.

  Raises:
    UserError: an option out of its range.
  """
  worlds.checked(_RANGES, grammar=grammar, tokens=tokens, branches=branches)
  if 2 * branches > tokens:
    raise UserError(
      f"branches={branches} must be at most half of tokens={tokens}, since twice as many tokens"
      " follow a single one"
    )
  successors = np.zeros((tokens * tokens, branches), np.uint8)
  chances = np.zeros((tokens * tokens, branches), np.uint64)
  for b in range(tokens):
    pool = _chosen(
      _words(f"{grammar}/{tokens}/{branches}/{b}", tokens), range(tokens), 2 * branches
    )
    for a in range(tokens):
      words = _words(f"{grammar}/{tokens}/{branches}/{b}/{a}", tokens + branches)
      found = sorted(_chosen(words, pool, branches))
      # Squares make some chances small; one in 2^16 at least keeps each successor possible.
      weights = [(word >> 16) ** 2 + _ONE // 2**12 for word in words[tokens:]]
      ends = [_ONE * sum(weights[: k + 1]) // sum(weights) for k in range(branches)]
      successors[a * tokens + b] = found
      chances[a * tokens + b] = np.diff([0, *ends])
  stationary = _stationary(tokens, successors, chances)
  ends = np.round(np.cumsum(stationary) / math.fsum(stationary) * _ONE)
  ends[-1] = _ONE
  starts = np.diff(ends, prepend=0).astype(np.uint64)
  return Language(tokens, successors, chances, stationary, starts)


def sampler(one: Language, context: int) -> Callable[[jax.Array, jax.Array], tuple]:
  """A function (key, index) -> (x uint8[context], y uint8[context]) of one window.

  The window's context + 1 tokens begin with a pair of the stationary distribution.
  """
  thresholds = np.cumsum(one.chances, axis=1)[:, :-1].astype(np.uint32)  # of 2^32: the last is 2^32
  begun = np.flatnonzero(one.starts)  # without those that are never met, each threshold is < 2^32
  starts = np.cumsum(one.starts[begun])[:-1].astype(np.uint32)
  if isinstance(context, bool) or not isinstance(context, int) or context < 1:
    raise UserError(f"context={context!r} must be a whole number, 1 or more")

  def sample(key, index):
    own = jax.random.fold_in(streams.check_key(key), index)
    words = jax.random.bits(own, (context,), jnp.uint32)
    number = jnp.searchsorted(starts, words[0], side="right")
    pair = jnp.asarray(begun, jnp.int32)[number]

    def follow(pair, word):
      branch = (jnp.asarray(thresholds)[pair] <= word).sum(dtype=jnp.int32)
      token = jnp.asarray(one.successors)[pair, branch].astype(jnp.int32)
      return (pair % one.tokens) * one.tokens + token, token

    _, rest = jax.lax.scan(follow, pair, words[1:])
    first = jnp.stack([pair // one.tokens, pair % one.tokens])
    window = jnp.concatenate([first, rest]).astype(jnp.uint8)
    return window[:-1], window[1:]

  return sample


def windows(
  one: Language, context: int, count: int, number: int = 0
) -> tuple[np.ndarray, np.ndarray]:
  """x[count, context] and y[count, context] to test on, from a key that no run has.

  Args:
    number: another one gives other windows.
  """
  root = jax.random.fold_in(jax.random.key(0, impl=streams.IMPLEMENTATION), streams.TEST)
  drawn = jax.jit(jax.vmap(sampler(one, context), (None, 0)))  # no training: host arrays, once
  x, y = jax.device_get(drawn(jax.random.fold_in(root, number), jnp.arange(count, dtype=jnp.int32)))
  return x, y


def true_log_probability(one: Language, x: np.ndarray, y: np.ndarray) -> np.ndarray:
  """float64[..., context]: log chance of each token of y given all of the window before it, nats.

  Before the first of them stands one token alone, so its chance is that given x[..., 0].
  """
  x, y = np.asarray(x, np.int64), np.asarray(y, np.int64)
  with np.errstate(divide="ignore"):
    pairs, singles = np.log(_next_of_pairs(one)), np.log(_next_of_singles(one))
  first = singles[x[..., 0], y[..., 0]]
  rest = pairs[x[..., :-1] * one.tokens + x[..., 1:], y[..., 1:]]
  return np.concatenate([first[..., None], rest], -1)


def entropy(one: Language) -> float:
  """Nats per token, given the two tokens before it: sum of pi(a, b) H(next | a, b)."""
  return _conditional(one.stationary, _next_of_pairs(one))


def floor(one: Language, context: int) -> float:
  """The mean loss of the true model on windows of `context` tokens, nats per token.

  The first of them is predicted from one token, and the others from two.
  """
  marginal = one.stationary.reshape(one.tokens, one.tokens).sum(0)
  alone = _conditional(marginal, _next_of_singles(one))
  return (alone + (context - 1) * entropy(one)) / context


def allowed(one: Language) -> np.ndarray:
  """bool[V, V, V]: whether a token may follow a pair."""
  return (_next_of_pairs(one) > 0).reshape((one.tokens,) * 3)


def _words(seed: str, count: int) -> list[int]:
  """Whole numbers of 32 bits from a text, the same everywhere."""
  raw = b"".join(
    hashlib.sha256(f"{seed}/{block}".encode()).digest() for block in range(-(-count // 8))
  )
  return [int.from_bytes(raw[4 * n : 4 * n + 4], "little") for n in range(count)]


def _chosen(words: list[int], pool, count: int) -> list[int]:
  """`count` of a pool, without repetition, each with a weight of 1 / (number + 1)."""
  left, found = list(pool), []
  for word in words[:count]:
    weights = [2**20 // (token + 1) for token in left]
    mark, at = word * sum(weights) >> 32, 0
    while mark >= weights[at]:
      mark -= weights[at]
      at += 1
    found.append(left.pop(at))
  return found


def _stationary(tokens: int, successors: np.ndarray, chances: np.ndarray) -> np.ndarray:
  """float64[V V]: iterated from equal shares; half of each step stays, against periods."""
  following = (np.arange(tokens * tokens)[:, None] % tokens) * tokens + successors
  share = chances / _ONE
  found = np.full(tokens * tokens, 1 / tokens**2)
  for _ in range(_STEPS):
    # bincount adds one after the other, in a fixed sequence: the same bits on every machine.
    moved = np.bincount(following.ravel(), (found[:, None] * share).ravel(), tokens**2)
    before, found = found, (found + moved) / 2
    if math.fsum(abs(found - before)) < _EQUAL:
      return found
  raise UserError("this grammar mixes too slowly for its entropy to be known; take another grammar")


def _next_of_pairs(one: Language) -> np.ndarray:
  """float64[V V, V]: chance of each token after a pair."""
  found = np.zeros((one.tokens**2, one.tokens))
  np.put_along_axis(found, one.successors.astype(np.int64), one.chances / _ONE, 1)
  return found


def _next_of_singles(one: Language) -> np.ndarray:
  """float64[V, V]: chance of each token after a single one, 0 after one that never occurs."""
  joint = one.stationary.reshape(one.tokens, one.tokens)
  total = joint.sum(1, keepdims=True)
  return np.divide(joint, total, out=np.zeros_like(joint), where=total > 0)


def _conditional(weight: np.ndarray, chances: np.ndarray) -> float:
  logs = np.log(np.where(chances > 0, chances, 1))
  return float(-(weight @ (chances * logs).sum(1)))
