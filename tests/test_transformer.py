"""The Transformer: its sizes, its attention and positions against references, and its cache."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seedlab import activations
from seedlab.errors import UserError
from seedlab.models import transformer as models


def made(**options):
  sizes = {"vocabulary": 11, "context": 8, "width": 8, "depth": 2, "heads": 2}
  return models.transformer(**{**sizes, "activation": activations.gelu, **options})


def tokens(batch=3, length=8):
  return jnp.asarray(np.random.default_rng(1).integers(0, 11, (batch, length)), jnp.uint8)


def drawn(network, seed=0):
  """Parameters of a deviation that makes attention do something, with biases and scales."""
  shapes = jax.eval_shape(network.init, jax.random.key(seed), tokens())
  rng = np.random.default_rng(seed)
  return jax.tree.map(lambda leaf: jnp.float32(rng.normal(0, 0.5, leaf.shape)), shapes)


def by_hand(q, k, v):
  """Causal attention in float64, one query after the other."""
  found = np.zeros_like(q)
  for batch, at, head in np.ndindex(q.shape[:3]):
    scores = k[batch, : at + 1, head] @ q[batch, at, head] / np.sqrt(q.shape[-1])
    weights = np.exp(scores - scores.max())
    found[batch, at, head] = weights / weights.sum() @ v[batch, : at + 1, head]
  return found


def turned_by_hand(x):
  """Rotary positions in float64 as products of complex numbers."""
  half = x.shape[-1] // 2
  angle = np.arange(x.shape[1])[:, None] / 10_000 ** (np.arange(half) / half)
  turned = (x[..., :half] + 1j * x[..., half:]) * np.exp(1j * angle)[:, None]
  return np.concatenate([turned.real, turned.imag], -1)


def heads(seed=0, shape=(2, 7, 3, 4)):
  return np.random.default_rng(seed).normal(0, 2, (3, *shape))


def attended(q, k, v):
  seen = np.tril(np.ones((q.shape[1],) * 2, bool))
  return np.asarray(models.attention(*map(jnp.float32, (q, k, v)), seen))


def test_attention_and_rotary_positions_are_their_definitions():
  q, k, v = heads()
  np.testing.assert_allclose(attended(q, k, v), by_hand(q, k, v), atol=1e-5)
  turned = models.rotated(jnp.float32(q), jnp.arange(7))
  np.testing.assert_allclose(turned, turned_by_hand(q), atol=1e-5)
  # What two positions say to each other depends on their distance alone.
  moved = models.rotated(jnp.float32(np.stack([q, k])).reshape(4, 7, 3, 4), 5 + jnp.arange(7))
  a, b = np.asarray(moved).reshape(2, 2, 7, 3, 4)
  for one, other in ((a, b), (turned_by_hand(q), turned_by_hand(k))):
    scores = np.einsum("bihd,bjhd->bhij", one, other)
    np.testing.assert_allclose(scores, np.einsum("bihd,bjhd->bhij", a, b), atol=1e-4)


def test_attention_is_that_of_torch():
  torch = pytest.importorskip("torch", reason="torch is a reference, and no requirement")
  q, k, v = heads(shape=(4, 64, 4, 16))
  parts = (torch.tensor(np.float32(part)).transpose(1, 2) for part in (q, k, v))
  theirs = torch.nn.functional.scaled_dot_product_attention(*parts, is_causal=True)
  apart = np.abs(attended(q, k, v) - theirs.transpose(1, 2).numpy()).max()
  print(f"largest difference {apart:.1e}")
  assert apart < 1e-5


@pytest.mark.parametrize(("positions", "norm"), [("learned", "layer"), ("rotary", "rms")])
def test_no_token_sees_those_after_it_and_a_cache_changes_nothing(positions, norm):
  network = made(positions=positions, norm=norm, tied=norm == "layer")
  params, x = drawn(network), tokens()
  apply = jax.jit(network.apply)
  logits = apply(params, x)
  assert logits.shape == (3, 8, 11) and logits.dtype == jnp.float32
  other = apply(params, x.at[:, 5:].set(0))
  np.testing.assert_array_equal(other[:, :5], logits[:, :5])
  assert (abs(other[:, 5:] - logits[:, 5:]).max(-1) > 1e-3).all()
  cache, steps = models.empty_cache(network, 3, 8), []
  for position in range(8):
    one, cache = apply(params, x[:, position : position + 1], cache, position)
    steps.append(one[:, 0])
  np.testing.assert_allclose(jnp.stack(steps, 1), logits, atol=1e-5)


def test_gpt_2_has_its_number_of_parameters():
  network = models.transformer(
    vocabulary=50_257, context=1024, width=768, depth=12, heads=12, activation=activations.gelu
  )
  shapes = jax.eval_shape(network.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 2), jnp.int32))
  assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 124_439_808


def test_first_weights_are_gpt_2s():
  network = made(vocabulary=300, width=64)
  # XLA compiles draws of rbg ten times faster than those of threefry.
  init = jax.jit(network.init, compiler_options={"xla_backend_optimization_level": 0})
  params = init(jax.random.key(0, impl="rbg"), tokens())["params"]
  block = params["block_1"]
  usual = [params["embedding"], block["mixing"]["kernel"], block["up"]["kernel"]]
  small = [block["mixed"]["kernel"], block["down"]["kernel"]]
  for leaves, deviation in ((usual, 0.02), (small, 0.02 / np.sqrt(4))):
    for leaf in leaves:
      assert leaf.std() == pytest.approx(deviation, rel=0.05) and abs(leaf.mean()) < deviation / 20
  assert not any(jnp.any(block[name]["bias"]) for name in ("mixing", "mixed", "up", "down"))
  assert "head" not in params
  untied = jax.eval_shape(made(tied=False).init, jax.random.key(0), tokens())["params"]
  assert untied["head"]["kernel"].shape == (8, 11)


def test_a_head_of_classes_reads_the_last_position():
  network = made(classes=5)
  params, x = drawn(network), tokens()
  found = network.apply(params, x)
  assert found.shape == (3, 5) and params["params"]["head"]["kernel"].shape == (8, 5)
  assert (found != network.apply(params, x.at[:, -1].set((x[:, -1] + 1) % 11))).all()


@pytest.mark.parametrize(
  "options, message",
  [
    ({"heads": 3}, r"heads=3 must divide width=8; take width=6"),
    ({"heads": 8, "positions": "rotary"}, r"quotient must be even .*; take width=16"),
    ({"context": 0}, r"context=0 must be a whole number, 1 or more"),
    ({"depth": -1}, r"depth=-1 must be a whole number, 0 or more"),
    ({"positions": "none"}, r"positions='none' is not known; choices: learned, rotary"),
    ({"norm": "batch"}, r"norm='batch' is not known"),
  ],
)
def test_sizes_that_are_none_are_refused(options, message):
  with pytest.raises(UserError, match=message):
    made(**options)
