"""Training that starts from saved parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file
from sections import merged
from test_training import BASE, DATASET, keys_of

from seedlab import config as configs
from seedlab import programs, training
from seedlab.data import Dataset
from seedlab.errors import UserError


def trainer(**model) -> training.Trainer:
  return training.on_dataset(merged(BASE, model=model), DATASET, 3)


def drawn(run: int):
  return trainer().init(keys_of(run), jax.device_put(DATASET)).params


@pytest.fixture
def file(tmp_path):
  """Parameters that no run draws."""
  leaves = programs.named_leaves(drawn(123))
  save_file({name: np.asarray(leaf) for name, leaf in leaves.items()}, tmp_path / "p.safetensors")
  return str(tmp_path / "p.safetensors")


def start(run: int, **model):
  built = trainer(**model)
  return built.init(keys_of(run), jax.device_put(built.load())).params


def test_runs_start_from_the_file(file):
  for run in (0, 1):
    assert programs.tree_digest(start(run, initial=file)) == programs.tree_digest(drawn(123))


def test_fresh_layers_are_those_of_an_ordinary_run(file):
  params = start(4, initial=file, fresh=("Dense_1",))
  for name, expected in (("Dense_0", drawn(123)), ("Dense_1", drawn(4))):
    assert programs.tree_digest(params[name]) == programs.tree_digest(expected[name])


def test_training_goes_on_as_from_these_parameters(file):
  built, usual = trainer(initial=file), trainer()
  data = jax.device_put(DATASET)
  state = usual.init(keys_of(2), data)._replace(params=drawn(123))
  theirs, _ = usual.advance(state, keys_of(2), data, None, jnp.int32(0), jnp.int32(4))
  whole = jax.device_put(built.load())
  ours, _ = built.advance(
    built.init(keys_of(2), whole), keys_of(2), whole, None, jnp.int32(0), jnp.int32(4)
  )
  assert programs.tree_digest(ours.params) == programs.tree_digest(theirs.params)
  outcomes = [one.evaluate(ours, None, d) for one, d in ((built, whole), (usual, data))]
  assert programs.tree_digest(outcomes[0]) == programs.tree_digest(outcomes[1])


def test_the_file_is_part_of_the_datas_digest(file, tmp_path):
  digest = programs.tree_digest(trainer(initial=file).load())
  leaves = programs.named_leaves(drawn(124))
  save_file({name: np.asarray(leaf) for name, leaf in leaves.items()}, tmp_path / "q.safetensors")
  assert programs.tree_digest(trainer(initial=str(tmp_path / "q.safetensors")).load()) != digest


@pytest.mark.parametrize(
  "model, words",
  [
    ({"width": 7}, r"Dense_0/bias is \[6\] and not \[7\], .* in model.fresh"),
    ({"depth": 2}, r"Dense_2/bias is missing"),
    ({"depth": 0}, r"Dense_1/bias is not of this network"),
    (
      {"fresh": ("Dense_9",)},
      r"fresh='Dense_9' begins the name of no parameter; there are Dense_0",
    ),
    ({"initial": "nowhere.safetensors"}, r"initial='nowhere.safetensors' cannot be read"),
  ],
)
def test_what_does_not_fit_is_named(file, model, words):
  with pytest.raises(UserError, match=words):
    trainer(**{"initial": file, **model})


def test_a_damaged_file_is_refused(file):
  with open(file, "r+b") as damaged:
    damaged.truncate(40)
  with pytest.raises(UserError, match="cannot be read"):
    trainer(initial=file)


def test_fresh_without_a_file_is_refused():
  with pytest.raises(UserError, match=r"fresh=.* is read only with model.initial"):
    trainer(fresh=("Dense_1",))


def test_a_file_in_public_names_is_read_into_our_network(tmp_path):
  """A ViT as timm names it: linear layers are transposed, and the last one is drawn."""
  width = 64
  shapes = {
    "cls_token": (1, 1, width), "pos_embed": (1, 2, width), "norm.weight": (width,),
    "patch_embed.proj.weight": (width, 3, 16, 16), "blocks.0.norm1.weight": (width,),
    "blocks.0.attn.qkv.weight": (3 * width, width), "blocks.0.attn.proj.weight": (width, width),
    "blocks.0.norm2.weight": (width,), "blocks.0.mlp.fc1.weight": (4 * width, width),
    "blocks.0.mlp.fc2.weight": (width, 4 * width),
  }  # fmt: skip
  biases = {n.replace("weight", "bias"): s[:1] for n, s in shapes.items() if "weight" in n}
  rng = np.random.default_rng(0)
  tensors = {name: np.float32(rng.normal(size=s)) for name, s in (shapes | biases).items()}
  save_file(tensors, tmp_path / "public.safetensors")
  config = configs.parse({
    "model": {
      "name": "vit_s16", "width": width, "depth": 1, "head": "small",
      "initial": str(tmp_path / "public.safetensors"), "fresh": ["Dense_1"],
    },
    "activation": {"name": "gelu"},
    "training": {"batch_size": 2},
  })  # fmt: skip
  image = rng.integers(0, 256, (4, 16, 16, 3), np.uint8)
  label = np.arange(4, dtype=np.int32) % 3
  dataset = Dataset(image, label, image, label, *np.full((2, 3), 100, np.float32))
  built = training.on_dataset(config, dataset, 3)
  params = jax.jit(built.init)(keys_of(0), built.load()).params
  found = [np.asarray(leaf).squeeze() for leaf in jax.tree.leaves(params)]
  for name in ("blocks.0.mlp.fc1.weight", "blocks.0.mlp.fc2.weight", "blocks.0.attn.proj.weight"):
    assert any(np.array_equal(leaf, tensors[name].T) for leaf in found), name
  assert 0 < np.abs(params["Dense_1"]["kernel"]).max() < 1e-3
