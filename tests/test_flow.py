"""Flow matching: velocity networks, the loss, samplers, and distances between samples and data."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.linalg

import seedlab
from seedlab import activations, engine
from seedlab.config import STREAMS
from seedlab.errors import UserError
from seedlab.models import velocity
from seedlab.training import flow, frechet, generation

# A Gaussian target, whose flow is known: x_0 = e goes to mean + covariance^(1/2) e.

MEAN = np.float32([0.5, -1.0])
COVARIANCE = np.float32([[0.5, 0.3], [0.3, 0.4]])


def exact(x, t):
  """E[x_1 - x_0 | x_t = x] by the rule for conditional means of joint Gaussians."""
  at = (1 - t) ** 2 * jnp.eye(2) + t**2 * COVARIANCE
  gain = (t * COVARIANCE - (1 - t) * jnp.eye(2)) @ jnp.linalg.inv(at)
  return MEAN[None] + (x - t * MEAN[None]) @ gain.T


def noises(count, size=2):
  return jax.random.normal(jax.random.key(0), (count, size), jnp.float32)


def test_the_flow_of_a_gaussian_ends_where_its_closed_form_says():
  x = noises(200)
  wanted = MEAN + np.asarray(x) @ scipy.linalg.sqrtm(COVARIANCE)
  follow = jax.jit(flow.follow, static_argnums=(0, 2, 3))
  errors = {
    (method, steps): np.abs(follow(exact, x, steps, method) - wanted).max()
    for method, steps in (("euler", 50), ("euler", 100), ("heun", 50), ("heun", 100))
  }
  # Orders 1 and 2.
  assert 1.8 < errors["euler", 50] / errors["euler", 100] < 2.2
  assert 3.5 < errors["heun", 50] / errors["heun", 100] < 4.5
  assert errors["heun", 100] < 1e-3


@pytest.mark.slow
def test_a_trained_velocity_approaches_that_flow():
  rng = np.random.default_rng(0)
  data = rng.multivariate_normal(MEAN, COVARIANCE, 2000).astype(np.float32)
  label = np.zeros(2000, np.int32)

  def init(key, x, t, label):
    k1, k2 = jax.random.split(key)
    return {"a": jax.random.normal(k1, (3, 32)), "b": 0.1 * jax.random.normal(k2, (32, 2))}

  def apply(params, x, t, label):
    return jnp.tanh(jnp.concatenate([x, t[:, None]], 1) @ params["a"]) @ params["b"]

  recipe = seedlab.supervised(
    (init, apply), optax.adam(optax.linear_schedule(1e-2, 0, 800)), (data, label),
    (data[:10], label[:10]), flow.matching(1), batch_size=200, steps=800, evaluate_every_steps=800,
  )  # fmt: skip
  built = engine.build(recipe(), "loop")
  params = engine.train(built, np.zeros((1, len(STREAMS)), np.uint32), keep_params=True).params
  made = np.asarray(
    flow.follow(lambda x, t: apply(params, x, jnp.full(len(x), t), None), noises(2000), 50, "heun")
  )
  np.testing.assert_allclose(made.mean(0), MEAN, atol=0.08)
  np.testing.assert_allclose(np.cov(made.T), COVARIANCE, atol=0.08)


def test_the_loss_is_the_squared_error_of_the_straight_path():
  x, seen = jnp.ones((2, 2, 1)), []

  def apply(x_t, t, label):
    seen.append((x_t, t, label))
    return 2 * x

  key = jax.random.key(5)
  loss = flow.matching(10)(apply, (x, jnp.int32(3)), key)
  x_t, t, label = seen[0]
  noise = (x_t - t * x) / (1 - t)
  np.testing.assert_allclose(loss, jnp.square(2 * x - (x - noise)).mean(), rtol=1e-5)
  assert label == 3
  dropping = flow.matching(10, 0.25)

  def of_key(key):
    return dropping(lambda x_t, t, label: jnp.full_like(x, label), (x, jnp.int32(3)), key)

  by_key = jax.jit(jax.vmap(of_key))(jax.random.split(key, 200))
  # (10 - 1 + e)² is far above (3 - 1 + e)²: the class of about a quarter is withheld.
  assert 0.18 < (by_key > 30).mean() < 0.32


def test_guidance_moves_from_no_class_through_the_class():
  asked = []

  def apply(x, time, label):
    asked.append(label)
    return x + label[:, None] + time[:, None]

  x, label = jnp.zeros((3, 1)), jnp.int32([0, 1, 2])
  for guidance, wanted in ((1.0, [0, 1, 2]), (0.0, [9, 9, 9]), (2.0, [-9, -7, -5])):
    found = flow.guided(apply, label, 9, guidance)(x, jnp.float32(0.5))
    np.testing.assert_allclose(found[:, 0], np.float32(wanted) + 0.5)
  assert len(asked) == 1 + 2 + 2  # at 1 no second evaluation is paid for
  with pytest.raises(UserError, match=r"method='rk4' is not known.*euler, heun"):
    flow.follow(exact, x, 1, "rk4")


# Velocity networks.


def made(name, **options):
  given = {"classes": 4, "shape": (4, 4, 1), "activation": activations.silu, "platform": "cpu"}
  return velocity.network(name, **given, **{"width": 4, "depth": 2, **options})


def filled(params):
  """Parameters that are nowhere zero, so that everything matters."""
  rng = np.random.default_rng(0)
  return jax.tree.map(lambda leaf: np.float32(leaf + 0.1 * rng.normal(size=leaf.shape)), params)


@pytest.mark.parametrize("name", ["mlp", "unet"])
def test_a_velocity_network_reads_each_example_alone(name):
  init, apply = velocity.as_pair(made(name))
  key, apply = jax.random.key(0), jax.jit(apply)
  x, t = jax.random.normal(key, (3, 4, 4, 1)), jnp.float32([0.1, 0.5, 0.9])
  label = jnp.int32([0, 3, 4])  # 4: no class
  params = jax.jit(init)(key, x, t, label)
  first = apply(params, x, t, label)
  assert first.shape == x.shape and not first.any()  # at first it moves nothing
  params = filled(params)
  whole = apply(params, x, t, label)
  others = apply(params, x.at[1:].set(0), t.at[1:].set(0), label.at[1:].set(0))
  np.testing.assert_allclose(others[0], whole[0], rtol=1e-4, atol=1e-5)
  for changed in ((x, t + 0.05, label), (x, t, (label + 1) % 5)):
    assert (jnp.abs(apply(params, *changed) - whole).max((1, 2, 3)) > 1e-3).all()


def test_examples_are_put_together_whatever_is_mapped():
  """Mapped over examples, inputs that are shared, and runs with parameters of their own."""
  init, apply = velocity.as_pair(made("mlp"))
  key, rng = jax.random.key(1), np.random.default_rng(0)
  x, t = np.float32(rng.normal(size=(3, 1, 4, 4, 1))), jnp.float32([0.3])
  label = jnp.int32([[0], [1], [2]])
  each = [filled(jax.jit(init)(key, x[0], t, label[0])) for key in jax.random.split(key)]
  each[1] = filled(each[1])
  plain = made("mlp").apply

  def loss(params, x):
    return jnp.square(jax.vmap(lambda x, label: apply(params, x, t, label))(x, label)).sum()

  def without_mapping(params, x):
    velocity = plain({"params": params}, x[:, 0], jnp.full(3, t[0]), label[:, 0])
    return jnp.square(velocity).sum()

  together = jax.tree.map(lambda *leaves: np.stack(leaves), *each)
  found = jax.jit(jax.vmap(jax.grad(loss), (0, None)))(together, x)
  gradient = jax.jit(jax.grad(without_mapping))
  for number, params in enumerate(each):
    for a, b in zip(*map(jax.tree.leaves, (found, gradient(params, x))), strict=True):
      np.testing.assert_allclose(a[number], b, rtol=1e-4, atol=1e-4)


def test_a_unet_halves_what_can_be_halved():
  with pytest.raises(UserError, match="depth=4 halves images 3 times, and 4 x 4 pixels are no"):
    made("unet", depth=4)
  with pytest.raises(UserError, match=r"network='cnn' is not known.*mlp, unet"):
    made("cnn")
  with pytest.raises(UserError, match="width=0 must be at least 1"):
    made("mlp", width=0)


# Distances.


def features(rng, count, size, scale=1.0):
  mixing = scale * rng.normal(size=(size, size)) * np.geomspace(1, 1e-2, size)
  return (rng.normal(size=(count, size)) @ mixing + rng.normal(size=size)).astype(np.float32)


def by_scipy(a, b):
  """The textbook's formula in float64, with SciPy's matrix square root."""
  a, b = a.astype(np.float64), b.astype(np.float64)
  s, t = (np.cov(one, rowvar=False) for one in (a, b))
  root = scipy.linalg.sqrtm(s @ t)
  return np.square(a.mean(0) - b.mean(0)).sum() + np.trace(s + t - 2 * root.real)


@pytest.mark.parametrize("size", [2, 15])
def test_the_frechet_distance_is_that_of_scipys_square_root(size):
  rng = np.random.default_rng(size)
  a, b = features(rng, 300, size), features(rng, 200, size, 1.5)
  found = jax.jit(lambda a, b: frechet.frechet(b, frechet.reference(a, 10)))(a, b)
  np.testing.assert_allclose(found, by_scipy(a, b), rtol=1e-4)


def test_the_frechet_distance_of_known_gaussians():
  """|m - m'|² + sum over axes of (s - s')², between Gaussians with the same axes."""
  rng = np.random.default_rng(0)
  x = rng.normal(size=(50, 4))
  x = np.linalg.qr(x - x.mean(0))[0] * np.sqrt(49)  # mean 0 and covariance 1, exactly
  data, moved = np.float32(x * [1, 2, 3, 0]), np.float32(x * [2, 2, 0, 1] + [0, 3, 0, 0])
  distance = jax.jit(lambda a, b: frechet.frechet(b, frechet.reference(a, 5)))
  np.testing.assert_allclose(distance(data, moved), 1 + 0 + 9 + 1 + 9, rtol=1e-5)
  assert abs(distance(data, data)) < 1e-4


def test_few_samples_make_a_distance_of_nothing():
  """Its bias falls as 1 / N: (D + D (D + 1) / 4) / N for samples of the reference itself."""
  eye = jnp.eye(8, dtype=jnp.float32)
  known = frechet.Reference(jnp.zeros(8), eye, jnp.float32(8), None, None)
  for count in (500, 1000):
    draws = jax.random.normal(jax.random.key(count), (60, count, 8), jnp.float32)
    found = jax.jit(jax.vmap(lambda x: frechet.frechet(x, known)))(draws)
    np.testing.assert_allclose(found.mean(), (8 + 8 * 9 / 4) / count, rtol=0.1)


@pytest.mark.parametrize("size", [1, 2, 7])
def test_eigenvalues_are_lapacks_and_no_lane_sees_its_neighbours(size):
  rng = np.random.default_rng(size)
  x = features(rng, 40, size)
  lanes = np.stack([np.cov(one, rowvar=False).reshape(size, size) for one in (x, x[:20], x[20:])])
  lanes = lanes.astype(np.float32)
  solve = jax.jit(jax.vmap(frechet.eigh))
  value, vector = solve(lanes)
  for number, matrix in enumerate(lanes):
    found = np.sort(value[number])[-size:]
    np.testing.assert_allclose(found, np.linalg.eigvalsh(matrix), atol=1e-6 * value.max())
    again = np.asarray(vector[number]) * np.asarray(value[number]) @ np.asarray(vector[number]).T
    np.testing.assert_allclose(again, matrix, atol=3e-6 * value.max())
  other, _ = solve(np.stack([lanes[0], 5 * lanes[2], np.zeros_like(lanes[0])]))
  np.testing.assert_array_equal(other[0], value[0])


def test_precision_and_recall_by_hand():
  """Data at 0, 1, 2, 3: each reaches to its third neighbour, 3, 2, 2 and 3 away."""
  data = jnp.arange(4.0)[:, None]
  known = jax.jit(frechet.reference, static_argnums=1)(data, 4)
  shares = jax.jit(frechet.precision_and_recall)
  np.testing.assert_allclose(known.radius, [9, 4, 4, 9])
  # Samples at 5, 6, 7 and 40: 5 and 6 lie within 3 of the datum at 3. Third neighbours of the
  # samples are 35, 34, 33 and 35 away, so that all data lie among them.
  precision, recall = shares(jnp.float32([[5], [6], [7], [40]]), known)
  assert (precision, recall) == (0.5, 1)
  # Samples in a heap at 20: no datum is among them.
  precision, recall = shares(20 + 0.1 * data, known)
  assert (precision, recall) == (0, 0)


def test_pixels_are_the_nearest_of_256():
  image = np.arange(256, dtype=np.uint8)
  np.testing.assert_array_equal(generation.pixels(generation.scaled(image)), image)
  np.testing.assert_array_equal(generation.pixels(jnp.float32([-3, 3, -0.998])), [0, 255, 0])


def test_large_images_are_compared_by_their_thumbnails():
  image = np.zeros((2, 32, 32, 3), np.uint8)
  image[1, :4, 4:8, 2] = 255
  found = np.asarray(generation.thumbnails(jnp.asarray(image))).reshape(2, 8, 8, 3)
  wanted = -np.ones((2, 8, 8, 3))
  wanted[1, 0, 1, 2] = 1
  np.testing.assert_allclose(found, wanted, atol=1e-6)
  small = np.arange(64, dtype=np.uint8).reshape(1, 8, 8, 1)
  np.testing.assert_allclose(
    generation.thumbnails(jnp.asarray(small))[0], np.arange(64) / 127.5 - 1, atol=1e-6
  )
