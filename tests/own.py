"""What a user of the library would write: networks, losses and recipes of their own."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import seedlab

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4)).astype(np.float32)
Y = (X @ np.float32([1, -2, 0.5, 0])).astype(np.float32)
TOKENS = RNG.integers(0, 7, (40, 6)).astype(np.int32)
LENGTHS = RNG.integers(2, 6, 40).astype(np.int32)


def linear_init(key, x):
  return {"w": jax.random.normal(key, (x.shape[-1], 3)), "v": jnp.ones((3,))}


def linear_apply(params, x):
  return jnp.tanh(x @ params["w"]) @ params["v"]


LINEAR = linear_init, linear_apply


def squared(outputs, targets):
  return (outputs - targets) ** 2


def bigram_init(key, x):
  del x
  return {"logits": 0.1 * jax.random.normal(key, (7, 7))}


def bigram_apply(params, x):
  return params["logits"][x["tokens"][:, :-1]]


BIGRAM = bigram_init, bigram_apply


def next_token(outputs, targets):
  """(summed loss, number of tokens) of each window, which ends where its length says."""
  losses = optax.softmax_cross_entropy_with_integer_labels(outputs, targets["tokens"][:, 1:])
  real = jnp.arange(losses.shape[1])[None] < targets["length"][:, None]
  return (losses * real).sum(-1), real.sum(-1)


def regression(optimizer=None, **options):
  """A regression on 60 rows, tested on 12."""
  return seedlab.supervised(
    options.pop("network", LINEAR),
    optimizer or optax.sgd(0.1),
    (X, Y),
    (X[:12], Y[:12]),
    **{"loss": squared, "batch_size": 8, "epochs": 2, **options},
  )


def tokens(optimizer=None, **options):
  """Next-token prediction on ragged windows."""
  windows = ({"tokens": TOKENS}, {"tokens": TOKENS, "length": LENGTHS})
  return seedlab.supervised(
    BIGRAM,
    optimizer or optax.sgd(0.1),
    windows,
    jax.tree.map(lambda leaf: leaf[:9], windows),
    **{"loss": next_token, "batch_size": 8, "epochs": 2, **options},
  )


def named(steps: int = 6, rate: float = 0.1):
  """A recipe by name, with arguments that flags and grids can set."""
  return regression(optimizer=optax.sgd(rate), steps=steps, epochs=1)


RECIPE = regression(steps=3)


def not_a_recipe(key):
  return {"loss": jax.random.normal(key, ())}
