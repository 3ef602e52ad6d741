"""Networks on rows: worked by hand, beside PyTorch, their sizes, and what they refuse."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from networks import assert_near, size
from networks import build as network

from seedlab import activations
from seedlab.data import movielens
from seedlab.data.fields import Field
from seedlab.errors import UserError

FIELDS = (Field("user", 5), Field("genres", 4, columns=3), Field("age", 0))
ROWS = np.int32([[0, 1, 2, -1, 30], [4, -1, -1, -1, 0], [2, 3, -1, -1, -7], [2, 0, 3, 1, 123456]])


def build(fields=FIELDS, name="ctr", **values):
  values = {"width": 4, **({"depth": 2, "embedding": 3} if name == "ctr" else {}), **values}
  return network(name, classes=2, fields=fields, **values)


def start(module, rows=ROWS, seed=0):
  """Variables of which none is zero or one, so that nothing goes unnoticed."""
  shapes = jax.eval_shape(functools.partial(module.init, train=False), jax.random.key(0), rows)
  rng = np.random.default_rng(seed)

  def draw(path, leaf):
    drawn = rng.normal(size=leaf.shape) * 0.5
    return np.float32(np.abs(drawn) + 0.5 if path[-1].key in ("var", "scale") else drawn)

  return jax.tree_util.tree_map_with_path(draw, shapes)


@functools.partial(jax.jit, static_argnums=(0, 3), static_argnames="mutable")
def apply(module, variables, rows, train=False, mask=None, rngs=None, mutable=False):
  return module.apply(variables, rows, train, mask, rngs=rngs, mutable=mutable)


@functools.partial(jax.jit, static_argnums=0)
def first(module, seed, rows):
  return module.init(jax.random.key(seed), rows, False)["params"]


@functools.partial(jax.jit, static_argnums=0)
def log_loss(module, variables, rows, label):
  def loss(params):
    logits = module.apply({**variables, "params": params}, rows, False)
    return optax.softmax_cross_entropy_with_integer_labels(logits, label).mean()

  return jax.value_and_grad(loss)(variables["params"])


def test_forward_pass_by_hand():
  module = build()
  variables = start(module)
  params = jax.tree.map(np.asarray, variables["params"])
  users, genres = params["user"]["embedding"], params["genres"]["embedding"]
  assert users.shape == (5, 3) and genres.shape == (4, 3)
  x = np.array(
    [
      [*users[0], *(genres[1] + genres[2]) / 2, np.log(31)],
      [*users[4], 0, 0, 0, 0],
      [*users[2], *genres[3], -np.log(8)],
      [*users[2], *(genres[0] + genres[3] + genres[1]) / 3, np.log(123457)],
    ]
  )
  tower = params["tower_0"]
  assert [tower[f"Dense_{i}"]["kernel"].shape for i in range(3)] == [(7, 4), (4, 2), (2, 1)]
  for i in range(3):
    x = x @ tower[f"Dense_{i}"]["kernel"] + tower[f"Dense_{i}"]["bias"]
    x = np.maximum(x, 0) if i < 2 else x
  assert np.ptp(x) > 0.1
  logits = apply(module, variables, ROWS, False)
  assert logits.dtype == jnp.float32
  np.testing.assert_allclose(logits, np.concatenate([0 * x, x], 1), rtol=1e-5, atol=1e-6)


def test_two_logits_make_the_log_loss():
  module = build()
  variables, label = start(module), np.int32([1, 0, 0, 1])
  z = np.asarray(apply(module, variables, ROWS, False))[:, 1].astype(float)
  p = 1 / (1 + np.exp(-z))
  expected = -np.where(label == 1, np.log(p), np.log(1 - p)).mean()
  assert float(log_loss(module, variables, ROWS, label)[0]) == pytest.approx(expected, rel=1e-5)


def test_padding_of_a_bag_changes_nothing_wherever_it_stands():
  module = build()
  variables, label = start(module), np.int32([1])
  found = [
    log_loss(module, variables, np.int32([[1, *bag, 5]]), label)
    for bag in ([0, 2, -1], [-1, 0, 2], [2, -1, 0], [2, 0, -1])
  ]
  for loss, gradient in found[1:]:
    assert loss == pytest.approx(found[0][0])
    assert_near(gradient, found[0][1], 1e-6)
  slope = np.asarray(found[0][1]["genres"]["embedding"])
  assert np.abs(slope[[0, 2]]).max() > 1e-3 and (slope[[1, 3]] == 0).all()
  wider = build((*FIELDS[:1], Field("genres", 4, columns=5), FIELDS[2]))
  longer = log_loss(wider, variables, np.int32([[1, 0, 2, -1, -1, -1, 5]]), label)
  assert longer[0] == pytest.approx(found[0][0])


def test_beside_pytorch():
  """Logits, loss and gradient, with the embeddings and the mean over a bag that PyTorch has."""
  torch = pytest.importorskip("torch")
  fields = movielens.FIELDS
  rng = np.random.default_rng(3)
  rows = np.concatenate(
    [rng.integers(0, field.buckets, (64, field.columns)) for field in fields], 1
  ).astype(np.int32)
  rows[:, 6:][rng.random((64, 5)) < 0.6] = -1  # the first genre of a film is always there
  label = rng.integers(0, 2, 64).astype(np.int32)
  module = build(fields, width=16, depth=2, embedding=8, activation=activations.gelu)
  variables = start(module, rows)
  loss, slope = log_loss(module, variables, rows, label)

  leaves = jax.tree.map(lambda leaf: torch.tensor(np.asarray(leaf), requires_grad=True), variables)
  params, x, place = leaves["params"], [], 0
  for field in fields:
    table = params[field.name]["embedding"]
    column = torch.tensor(rows[:, place : place + field.columns].astype(np.int64))
    place += field.columns
    if field.columns == 1:
      x.append(torch.nn.functional.embedding(column[:, 0], table))
    else:
      padded = torch.cat([table, torch.zeros(1, 8)])
      column = torch.where(column < 0, field.buckets, column)
      x.append(
        torch.nn.functional.embedding_bag(column, padded, mode="mean", padding_idx=field.buckets)
      )
  x = torch.cat(x, 1)
  for i in range(3):
    layer = params["tower_0"][f"Dense_{i}"]
    x = x @ layer["kernel"] + layer["bias"]
    x = torch.nn.functional.gelu(x) if i < 2 else x
  z = x[:, 0]
  theirs = torch.nn.BCEWithLogitsLoss()(z, torch.tensor(label.astype(np.float32)))
  theirs.backward()
  np.testing.assert_allclose(
    apply(module, variables, rows, False)[:, 1], z.detach(), rtol=1e-4, atol=1e-5
  )
  assert float(loss) == pytest.approx(theirs.item(), rel=1e-5)
  assert_near(slope, jax.tree.map(lambda leaf: leaf.grad.numpy(), params))


def test_towers_share_embeddings_and_average_their_logits():
  module = build(towers=3, norm="batch")
  variables = start(module)
  names = {"user", "genres", "tower_0", "tower_1", "tower_2"}
  assert set(variables["params"]) == names
  logits = [
    apply(
      build(norm="batch"),
      {
        kind: {name: values[name] for name in ("user", "genres") if name in values}
        | {"tower_0": values[f"tower_{t}"]}
        for kind, values in variables.items()
      },
      ROWS,
      False,
    )
    for t in range(3)
  ]
  assert np.abs(logits[0] - logits[1]).max() > 1e-2
  np.testing.assert_allclose(apply(module, variables, ROWS, False), sum(logits) / 3, rtol=1e-5)
  drawn = first(module, 0, ROWS)
  kernels = [drawn[f"tower_{t}"]["Dense_0"]["kernel"] for t in range(3)]
  assert not (kernels[0] == kernels[1]).any() and not (kernels[1] == kernels[2]).any()


def test_widths_halve_down_to_one_and_none_is_a_linear_model():
  def kernels(**values):
    shapes = start(build(**values))["params"]["tower_0"]
    return [shapes[f"Dense_{i}"]["kernel"].shape[1] for i in range(len(shapes))]

  assert kernels(width=9, depth=5) == [9, 4, 2, 1, 1, 1]
  assert kernels(depth=0) == [1]


def test_number_of_parameters():
  module = build(movielens.FIELDS, width=64, depth=2, embedding=16)
  tables = 16 * (943 + 2 + 7 + 22 + 1682 + 21)
  hidden = (96 * 64 + 64) + (64 * 32 + 32) + 33
  shape = functools.partial(module.init, train=False)
  rows = jax.ShapeDtypeStruct((1, 11), jnp.int32)
  assert size(jax.eval_shape(shape, jax.random.key(0), rows)) == tables + hidden == 51_153
  batch = build(movielens.FIELDS, width=64, depth=2, embedding=16, norm="batch")
  shapes = jax.eval_shape(functools.partial(batch.init, train=False), jax.random.key(0), rows)
  assert size(shapes["params"]) == 51_153 + 64 + 32 and size(shapes["batch_stats"]) == 192


def test_first_parameters():
  module = build((Field("user", 4000), Field("item", 30)), width=512, depth=2, embedding=64)
  rows = np.zeros((1, 2), np.int32)
  params = first(module, 1, rows)
  assert abs(float(params["user"]["embedding"].std()) / 0.05 - 1) < 0.01
  one, second, last = (params["tower_0"][f"Dense_{i}"] for i in range(3))
  assert abs(float(one["kernel"].std()) / (2 / 128) ** 0.5 - 1) < 0.01
  assert abs(float(second["kernel"].std()) / (2 / 512) ** 0.5 - 1) < 0.01
  assert abs(float(last["kernel"].std()) / (1 / 256) ** 0.5 - 1) < 0.15
  assert not any(layer["bias"].any() for layer in (one, second, last))
  less = first(module.clone(gain=0.5), 1, rows)
  np.testing.assert_allclose(
    less["tower_0"]["Dense_1"]["kernel"], second["kernel"] / 2, rtol=1e-5, atol=1e-9
  )


def test_gain_is_that_of_the_activation():
  smelu = functools.partial(activations.smelu, beta=2.0)
  assert build(activation=smelu).gain == 2.0
  # 0.6674: the mean square of SmeLU at a standard normal, by numerical integration.
  moment = build(activation=smelu, gain="moment").gain
  assert moment == pytest.approx(1 / 0.6674, rel=1e-3)


@pytest.mark.parametrize("name", ["ctr", "ctr_ovadia"])
def test_padding_of_a_batch_is_nobodys_business(name):
  fields = (Field("a", 5, embedding=2), Field("b", 3, embedding=0), Field("c", 0))
  rng = np.random.default_rng(0)
  rows = np.stack([rng.integers(0, n, 9) for n in (5, 3, 1000)], 1).astype(np.int32)
  module = build(fields, name=name, **({"norm": "batch"} if name == "ctr" else {}))
  variables = start(module, rows)
  mask = np.arange(9) < 6
  whole, statistics = apply(module, variables, rows[:6], True, mutable=("batch_stats",))
  padded, masked = apply(module, variables, rows, True, mask, mutable=("batch_stats",))
  np.testing.assert_allclose(padded[:6], whole, rtol=1e-4, atol=1e-5)
  assert_near(masked, statistics)
  unmasked, _ = apply(module, variables, rows, True, mutable=("batch_stats",))
  assert np.abs(unmasked[:6] - whole).max() > 1e-3


@pytest.mark.parametrize("name", ["ctr", "ctr_ovadia"])
def test_dropout_is_drawn_in_training_alone(name):
  fields = (Field("a", 5, embedding=2), Field("c", 0))
  rows = np.int32([[0, 3], [4, 900], [2, -1]] * 4)
  module, plain = (build(fields, name=name, width=64, dropout=rate) for rate in (0.5, 0.0))
  variables = start(module, rows)

  def train(seed):
    rngs = {"dropout": jax.random.key(seed)}
    return apply(module, variables, rows, True, rngs=rngs, mutable=("batch_stats",))[0]

  assert (train(0) == train(0)).all() and (train(0) != train(1)).any()
  np.testing.assert_array_equal(
    apply(module, variables, rows, False), apply(plain, variables, rows, False)
  )
  # Before each of Ovadia's layers and the logit; behind each hidden layer of the other.
  drawn = str(
    jax.make_jaxpr(
      lambda v, key: module.apply(v, rows, True, rngs={"dropout": key}, mutable=("batch_stats",))
    )(variables, jax.random.key(0))
  ).count("random_bits[")
  assert drawn == {"ctr": 2, "ctr_ovadia": 4}[name]


def test_lower_precision_reads_numbers_first():
  """Numbers and batch norm are float32: bfloat16 would not tell 123456 from 123000."""
  fields = (Field("a", 5, embedding=2), Field("c", 0))
  rows = np.int32([[0, 123456], [0, 123400]])
  for name in ("ctr", "ctr_ovadia"):
    module = build(fields, name=name, dtype=jnp.bfloat16, width=8)
    variables = start(module, rows)
    logits = apply(module, variables, rows, False)
    exact = apply(build(fields, name=name, width=8), variables, rows, False)
    assert logits.dtype == jnp.float32
    np.testing.assert_allclose(logits, exact, rtol=0.05, atol=0.05 * np.abs(exact).max())
    hidden = module.apply(variables, rows, False, capture_intermediates=True)[1]["intermediates"]
    hidden = hidden.get("tower_0", hidden)
    assert hidden["Dense_0"]["__call__"][0].dtype == jnp.bfloat16


@pytest.mark.optimised
def test_lanes_equal_single_runs():
  module = build(towers=2, width=8)
  rng = np.random.default_rng(0)
  rows = np.stack([rng.integers(0, n, 40) for n in (5, 4, 4, 4, 50)], 1).astype(np.int32)
  label = rng.integers(0, 2, 40).astype(np.int32)
  optimizer = optax.adam(1e-2)

  def train(params, rows, label):
    def step(number, carry):
      params, state = carry
      batch = jax.lax.dynamic_slice_in_dim(rows, number % 4 * 10, 10)
      labels = jax.lax.dynamic_slice_in_dim(label, number % 4 * 10, 10)
      _, slope = log_loss(module, {"params": params}, batch, labels)
      updates, state = optimizer.update(slope, state)
      return optax.apply_updates(params, updates), state

    return jax.lax.fori_loop(0, 12, step, (params, optimizer.init(params)))[0]

  runs = [start(module, rows[:1], seed)["params"] for seed in range(3)]
  single = jax.jit(train)
  lanes = jax.jit(jax.vmap(train, (0, None, None)))(
    jax.tree.map(lambda *leaves: np.stack(leaves), *runs), rows, label
  )
  for number, params in enumerate(runs):
    one, again = single(params, rows, label), single(params, rows, label)
    assert all(map(np.array_equal, jax.tree.leaves(one), jax.tree.leaves(again)))
    assert_near(jax.tree.map(lambda leaf, n=number: leaf[n], lanes), one)
    assert np.abs(one["user"]["embedding"] - params["user"]["embedding"]).min() > 1e-5


# Ovadia et al.'s.


def test_ovadias_network_by_hand():
  fields = (Field("n", 0), Field("a", 5, embedding=2), Field("b", 3, embedding=0))
  rows = np.int32([[7, 0, 1], [-1, 4, 2], [100, 2, 0], [3, 2, 2]])
  module = build(fields, name="ctr_ovadia", width=5)
  variables = jax.tree.map(np.asarray, start(module, rows))
  params = variables["params"]
  x = np.concatenate([rows[:, :1], params["a"]["embedding"][rows[:, 1]], np.eye(3)[rows[:, 2]]], 1)
  for train in (True, False):
    norm, old = params["BatchNorm_0"], variables["batch_stats"]["BatchNorm_0"]
    mean, var = (x.mean(0), x.var(0)) if train else (old["mean"], old["var"])
    y = (x - mean) / np.sqrt(var + 1e-3) * norm["scale"] + norm["bias"]
    for i in range(4):
      y = y @ params[f"Dense_{i}"]["kernel"] + params[f"Dense_{i}"]["bias"]
      y = np.maximum(y, 0) if i < 3 else y
    logits, new = apply(module, variables, rows, train, mutable=("batch_stats",))
    np.testing.assert_allclose(logits[:, 1], y[:, 0], rtol=2e-5, atol=1e-5)
  assert [params[f"Dense_{i}"]["bias"].size for i in range(4)] == [5, 3, 3, 1]
  new = apply(module, variables, rows, True, mutable=("batch_stats",))[1]["batch_stats"]
  expected = 0.99 * np.asarray(old["mean"]) + 0.01 * x.mean(0)
  np.testing.assert_allclose(new["BatchNorm_0"]["mean"], expected, rtol=1e-5)


def test_ovadias_first_parameters():
  fields = (Field("a", 3000, embedding=16), Field("b", 300, embedding=0))
  module = build(fields, name="ctr_ovadia", width=640)
  params = first(module, 0, np.zeros((1, 2), np.int32))
  table, kernel = params["a"]["embedding"], params["Dense_0"]["kernel"]
  assert abs(float(table.std()) / (0.8796 / 4) - 1) < 0.02 and float(jnp.abs(table).max()) <= 0.5
  bound = (6 / (316 + 640)) ** 0.5
  assert 0.99 * bound < float(jnp.abs(kernel).max()) <= bound


# Refusals.


@pytest.mark.parametrize(
  ("name", "fields", "says"),
  [
    ("ctr", (), r"model\.name='ctr' is for rows of clicks.* are not; take 'mlp'.*'criteo'"),
    ("ctr_ovadia", (), r"model\.name='ctr_ovadia' is for rows"),
    ("ctr_ovadia", FIELDS, r"sizes that were published, and 'user' has none; take data\.name='cr"),
  ],
)
def test_what_is_refused(name, fields, says):
  with pytest.raises(UserError, match=says) as caught:
    network(name, classes=2, fields=fields)
  assert "\n" not in str(caught.value)


def test_clicks_have_two_classes():
  with pytest.raises(UserError, match=r"'ctr' tells a click from none, .* 3 classes"):
    network("ctr", classes=3, fields=FIELDS)


def test_a_category_beyond_its_table_is_seen():
  module = build()
  logits = apply(module, start(module), np.int32([[5, 0, 1, 2, 3], [4, 0, 1, 2, 3]]), False)
  assert np.isnan(logits[0, 1]) and np.isfinite(logits[1]).all()
