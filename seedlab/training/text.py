"""What a network that predicts tokens writes, and what is measured of it.

Text is drawn token by token with a cache of keys and values: draw number k of the `generate` stream
by fold_in(key, k), its token at position t by fold_in of that at t. All outcomes are functions of
arrays of tokens, int[texts, length].
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from seedlab.models.transformer import Cache

_FACTOR = 0x9E3779B1  # of the hash of a sequence of tokens


def next_token(logits_BxTxV: jax.Array, y_BxT: jax.Array, temperature: float = 1.0) -> jax.Array:
  """Mean cross-entropy of the next token over the positions of each window, nats, float32[B].

  Args:
    temperature: logits are divided by it.
  """
  logs = jax.nn.log_softmax(logits_BxTxV / temperature)
  # As a product, not as a lookup: the gradient of that would be added in no fixed order on a GPU.
  chosen = jax.nn.one_hot(y_BxT, logs.shape[-1], dtype=logs.dtype)
  return -(logs * chosen).sum(-1).mean(-1)


def written(
  apply: Callable[..., tuple[jax.Array, Cache]],
  cache: Cache,
  prompts_SxP: jax.Array,
  keys_D: jax.Array,
  temperature: float,
) -> jax.Array:
  """Text after each of the prompts, once for each key: int32[D, S, length].

  Args:
    apply: (tokens[B, 1], cache, position) -> (logits[B, 1, V], cache), of a batch B = D S.
    cache: empty, for B texts; their length, that of the prompt included, is its second axis's.
    prompts_SxP: whole numbers; every text begins with its prompt.
    keys_D: typed keys of the draws.
    temperature: above 0; logits are divided by it.
  """
  draws, (texts, given) = keys_D.shape[0], prompts_SxP.shape
  length = cache[0][0].shape[1]
  # Beyond the prompt nothing is read of it.
  prompts = jnp.pad(prompts_SxP.astype(jnp.int32), ((0, 0), (0, length - given)))
  prompts = jnp.tile(prompts, (draws, 1))

  def follow(carry, position):
    cache, drawn_B = carry
    token_B = jnp.where(position < given, prompts[:, position], drawn_B)
    logits, cache = apply(token_B[:, None], cache, position)
    own_D = jax.vmap(jax.random.fold_in, (0, None))(keys_D, position)
    scaled = (logits[:, 0] / temperature).reshape(draws, texts, -1)
    noise = jax.vmap(lambda key: jax.random.gumbel(key, scaled.shape[1:], jnp.float32))(own_D)
    return (cache, (scaled + noise).argmax(-1).reshape(-1).astype(jnp.int32)), token_B

  first = jnp.zeros(draws * texts, jnp.int32)
  _, tokens = jax.lax.scan(follow, (cache, first), jnp.arange(length))
  return tokens.T.reshape(draws, texts, length)


def hashes(tokens: jax.Array | np.ndarray, n: int) -> jax.Array | np.ndarray:
  """uint32[..., length - n + 1]: a hash of each run of n tokens, the same by NumPy and by JAX.

  Two different runs have the same hash with a chance of 2^-32, about 1 in 4 billion.
  """
  library = jnp if isinstance(tokens, jax.Array) else np
  tokens = tokens.astype(library.uint32)
  count = tokens.shape[-1] - n + 1
  found = library.zeros((*tokens.shape[:-1], count), library.uint32)
  for offset in range(n):
    found = extended(found, tokens[..., offset : offset + count])
  return found


def extended(found, tokens):
  """The hash of sequences with one more token each."""
  found = (found ^ (tokens + np.uint32(1))) * np.uint32(_FACTOR)
  return found ^ (found >> np.uint32(15))


def runs_of(tokens_N: np.ndarray, n: int) -> np.ndarray:
  """The sorted hashes of all runs of n tokens of a corpus, without repetition."""
  return np.unique(hashes(tokens_N, n))


def words_of(tokens_N: np.ndarray, letters_V: np.ndarray) -> np.ndarray:
  """The sorted hashes of the words of a corpus: its longest runs of letters.

  Args:
    letters_V: bool, which tokens are letters.
  """
  inside = np.concatenate([[False], letters_V[tokens_N], [False]])
  begins, ends = (np.flatnonzero(np.diff(inside.astype(np.int8)) == sign) for sign in (1, -1))
  found = set()
  words = {tokens_N[b:e].tobytes(): (b, e) for b, e in zip(begins, ends, strict=True)}
  for begin, end in words.values():
    found.add(int(hashes(tokens_N[begin:end], end - begin)[0]))
  return np.array(sorted(found), np.uint32)


def known(sorted_M: jax.Array, values: jax.Array) -> jax.Array:
  """bool: which values are among sorted ones.

  Of hashes: one that belongs to none of the M is taken for known with a chance of M / 2^32, which
  is about 1 in 6,000 for the 0.67 million runs of eight characters of the King James Bible.
  """
  at = jnp.searchsorted(sorted_M, values).clip(max=sorted_M.shape[0] - 1)
  return sorted_M[at] == values


def novelty(sorted_M: jax.Array, texts: jax.Array, n: int) -> jax.Array:
  """Share of the runs of n tokens of all texts that the corpus of `runs_of` does not have."""
  return 1 - known(sorted_M, hashes(texts, n)).mean(dtype=jnp.float32)


def distinct(texts: jax.Array, n: int) -> jax.Array:
  """Different runs of n tokens over all of them, "distinct-n" (Li et al. 2016)."""
  ordered = jnp.sort(hashes(texts, n).reshape(-1))
  return (1 + (ordered[1:] != ordered[:-1]).sum()) / jnp.float32(ordered.shape[0])


def known_words(sorted_M: jax.Array, letters_V: jax.Array, texts_SxL: jax.Array) -> jax.Array:
  """Share of the whole words of all texts that the corpus of `words_of` has; 0 if there are none.

  A word is whole where something that is no letter stands before it and after it: the first and the
  last ones of a text may be cut off.
  """

  def read(carry, token_S):
    found_S, open_S, words, right = carry
    letter_S = letters_V[token_S]
    ended_S = open_S & ~letter_S & (found_S != 0)
    hit_S = ended_S & known(sorted_M, found_S)
    words, right = words + ended_S.sum(), right + hit_S.sum()
    # Open: a word that began behind something that is no letter, or may begin now.
    found_S = jnp.where(letter_S, extended(found_S, token_S.astype(jnp.uint32)), jnp.uint32(0))
    return (found_S, open_S | ~letter_S, words, right), None

  texts = texts_SxL.astype(jnp.int32)
  start = jnp.zeros(texts.shape[0], jnp.uint32), jnp.zeros(texts.shape[0], bool)
  zero = jnp.zeros((), jnp.int32)
  (_, _, words, right), _ = jax.lax.scan(read, (*start, zero, zero), texts.T)
  return right / jnp.maximum(words, 1).astype(jnp.float32)


def allowed_share(allowed_VxVxV: jax.Array, texts: jax.Array) -> jax.Array:
  """Share of the tokens from the third on that a grammar allows after the two before them."""
  texts = texts.astype(jnp.int32)
  found = allowed_VxVxV[texts[..., :-2], texts[..., 1:-1], texts[..., 2:]]
  return found.mean(dtype=jnp.float32)


def letters(vocabulary: Sequence[str]) -> np.ndarray:
  """bool[V]: which tokens are letters."""
  return np.array([word.isalpha() for word in vocabulary])
