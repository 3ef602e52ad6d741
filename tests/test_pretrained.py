"""Networks of ImageNet and their pretrained weights, beside PyTorch modules in public names.

The modules are written out here, since the packages that publish them are no dependency.
"""

import re

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import assert_near, build, equations, gradient, shapes, size
from safetensors.numpy import save_file
from test_training import keys_of

import seedlab
from seedlab import activations, programs, training
from seedlab import config as configs
from seedlab.data import Dataset
from seedlab.errors import UserError
from seedlab.models import layers, pretrained
from seedlab.models import resnet as resnets

torch = pytest.importorskip("torch", reason="needs PyTorch (pip install -e '.[reference]')")
F = torch.nn.functional

RESNET = {"name": "imagenet_resnet50", "width": 4, "norm": "batch"}
VIT = {"name": "vit_s16", "width": 128, "depth": 2}
PICTURES = np.random.default_rng(0).normal(size=(5, 32, 32, 3)).astype(np.float32)


def quick_jit(function):  # see tests/test_bootstrap_models.py
  return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})


# The originals


class Bottleneck(torch.nn.Module):
  def __init__(self, inputs, width, stride):
    super().__init__()
    self.conv1 = torch.nn.Conv2d(inputs, width, 1, bias=False)
    self.bn1 = torch.nn.BatchNorm2d(width)
    self.conv2 = torch.nn.Conv2d(width, width, 3, stride, 1, bias=False)
    self.bn2 = torch.nn.BatchNorm2d(width)
    self.conv3 = torch.nn.Conv2d(width, 4 * width, 1, bias=False)
    self.bn3 = torch.nn.BatchNorm2d(4 * width)
    self.downsample = None
    if stride > 1 or inputs != 4 * width:
      shortcut = torch.nn.Conv2d(inputs, 4 * width, 1, stride, bias=False)
      self.downsample = torch.nn.Sequential(shortcut, torch.nn.BatchNorm2d(4 * width))

  def forward(self, x):
    y = F.relu(self.bn1(self.conv1(x)))
    y = F.relu(self.bn2(self.conv2(y)))
    y = self.bn3(self.conv3(y))
    return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(torch.nn.Module):
  """ResNet-50 v1.5 of torchvision, narrower."""

  def __init__(self, blocks=(3, 4, 6, 3), width=4, classes=10):
    super().__init__()
    self.conv1 = torch.nn.Conv2d(3, width, 7, 2, 3, bias=False)
    self.bn1 = torch.nn.BatchNorm2d(width)
    inputs = width
    for stage, count in enumerate(blocks):
      inner = 2**stage * width
      parts = [Bottleneck(inputs, inner, 2 if stage else 1)]
      parts += [Bottleneck(4 * inner, inner, 1) for _ in range(count - 1)]
      self.add_module(f"layer{stage + 1}", torch.nn.Sequential(*parts))
      inputs = 4 * inner
    self.fc = torch.nn.Linear(inputs, classes)

  def forward(self, x):
    x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
    for stage in (module for name, module in self.named_children() if name.startswith("layer")):
      x = stage(x)
    return self.fc(x.mean((2, 3)))


class Attention(torch.nn.Module):
  def __init__(self, width, heads):
    super().__init__()
    self.qkv = torch.nn.Linear(width, 3 * width)
    self.proj = torch.nn.Linear(width, width)
    self.heads = heads

  def forward(self, x):
    split = self.qkv(x).reshape(*x.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4)
    return self.proj(F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2))


class Block(torch.nn.Module):
  def __init__(self, width, heads):
    super().__init__()
    self.norm1 = torch.nn.LayerNorm(width, eps=1e-6)
    self.attn = Attention(width, heads)
    self.norm2 = torch.nn.LayerNorm(width, eps=1e-6)
    self.mlp = torch.nn.ModuleDict(
      {"fc1": torch.nn.Linear(width, 4 * width), "fc2": torch.nn.Linear(4 * width, width)}
    )

  def forward(self, x):
    x = x + self.attn(self.norm1(x))
    return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))


class ViT(torch.nn.Module):
  """ViT-S/16 of DINO, narrower and shallower, and timm's linear layer on it."""

  def __init__(self, depth=2, width=128, side=2, classes=10):
    super().__init__()
    self.patch_embed = torch.nn.ModuleDict({"proj": torch.nn.Conv2d(3, width, 16, 16)})
    self.cls_token = torch.nn.Parameter(torch.zeros(1, 1, width))
    self.pos_embed = torch.nn.Parameter(torch.zeros(1, 1 + side**2, width))
    self.blocks = torch.nn.ModuleList(Block(width, width // 64) for _ in range(depth))
    self.norm = torch.nn.LayerNorm(width, eps=1e-6)
    self.head = torch.nn.Linear(width, classes)

  def forward(self, x):
    x = self.patch_embed["proj"](x).flatten(2).transpose(1, 2)
    x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
    for block in self.blocks:
      x = block(x)
    return self.head(self.norm(x)[:, 0])


def filled(module):
  """`module`, none of whose parameters and statistics is at zero or one."""
  generator = torch.Generator().manual_seed(0)
  with torch.no_grad():
    for name, leaf in module.state_dict().items():
      if leaf.ndim > 1:
        leaf.normal_(0, max(leaf[0].numel(), 4) ** -0.5, generator=generator)
      elif name.endswith(("weight", "var")):
        leaf.uniform_(0.5, 1.5, generator=generator)
      elif leaf.ndim:
        leaf.normal_(0, 0.3, generator=generator)
  return module


def state(module):
  return {name: leaf.numpy().copy() for name, leaf in module.state_dict().items()}


def module_of(model, side=32, classes=10):
  others = {"activation": activations.gelu} if model["name"] == "vit_s16" else {}
  return build(shape=(side, side, 3), classes=classes, **others, **model)


def read(tensors, tmp_path, model, side=32, classes=10, fresh=()):
  file = str(tmp_path / "public.safetensors")
  save_file({name: np.ascontiguousarray(leaf) for name, leaf in tensors.items()}, file)
  return read_file(file, model, classes, side, fresh)


def read_file(file, model, classes, side, fresh=()):
  """(params, batch_stats) of a file in public names, as trees for `module.apply`."""
  tensors, shape = pretrained.load("model.initial", file), (side, side, 3)
  found = pretrained.convert(
    pretrained.layout_of(file, tensors),
    tensors,
    module_of(model, side, classes),
    shape,
    file=file,
    name=model["name"],
    fresh=fresh,
  )
  return tuple(flax.traverse_util.unflatten_dict(flat, sep="/") for flat in found)


def as_channels_first(images):
  return torch.tensor(images).permute(0, 3, 1, 2)


@pytest.fixture
def shallow(monkeypatch):
  """Makes imagenet_resnet50 one of fewer blocks, for tests that compile it."""

  def cut(*blocks):
    monkeypatch.setattr(resnets, "_RESNET50", blocks)

  return cut


# Values and gradients


def test_full_size_has_the_published_numbers_of_parameters():
  resnet = module_of(RESNET | {"width": 64}, 224, 1000)
  vit = module_of(VIT | {"width": 384, "depth": 12}, 224, 1000)
  assert (vit.heads, vit.patch) == (6, 16)
  assert size(shapes(resnet, 224)["params"]) == 25_557_032
  assert size(shapes(vit, 224)["params"]) == 21_665_664 + 385 * 1000


def test_resnet_evaluates_as_pytorchs(shallow, tmp_path):
  shallow(2, 1)
  original = filled(ResNet((2, 1))).eval()
  params, batch_stats = read(state(original), tmp_path, RESNET)
  module = module_of(RESNET)
  found = quick_jit(lambda v: module.apply(v, PICTURES, False))(
    {"params": params, "batch_stats": batch_stats}
  )
  with torch.no_grad():
    expected = original(as_channels_first(PICTURES)).numpy()
  assert np.abs(expected).max() > 0.1
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def gradients_of(original):
  """Logits, and gradients by public name of the loss of `networks.gradient`."""
  logits = original(as_channels_first(PICTURES))
  F.cross_entropy(logits, torch.arange(len(PICTURES)) % 10, reduction="sum").backward()
  slopes = {name: leaf.grad.numpy() for name, leaf in original.named_parameters()}
  return logits.detach().numpy(), slopes


def test_resnet_trains_as_pytorchs(shallow, tmp_path):
  shallow(1, 1)
  original = filled(ResNet((1, 1))).train()
  before = state(original)
  params, batch_stats = read(before, tmp_path, RESNET)
  values = {}  # pixels and examples that each norm sees
  for name, module in original.named_modules():
    if isinstance(module, torch.nn.BatchNorm2d):
      module.register_forward_hook(
        lambda _, inputs, __, name=name: values.update({name: inputs[0][:, 0].numel()})
      )
  expected, slopes = gradients_of(original)
  module = module_of(RESNET)
  logits, new, slope = quick_jit(lambda v: gradient(module, v, PICTURES))(
    {"params": params, "batch_stats": batch_stats}
  )
  np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
  after = state(original)
  for name, count in values.items():  # PyTorch records the unbiased variance, flax the other
    old, recorded = before[f"{name}.running_var"], after[f"{name}.running_var"]
    after[f"{name}.running_var"] = 0.9 * old + (recorded - 0.9 * old) * (count - 1) / count
  expected_slope, expected_stats = read(after | slopes, tmp_path, RESNET)
  assert_near(new["batch_stats"], expected_stats)
  assert_near(slope, expected_slope, 1e-3)


def test_vit_and_its_gradients_are_pytorchs(tmp_path):
  original = filled(ViT())
  params, batch_stats = read(state(original), tmp_path, VIT)
  assert batch_stats == {}
  expected, slopes = gradients_of(original)
  module = module_of(VIT)
  logits, _, slope = quick_jit(lambda v: gradient(module, v, PICTURES))({"params": params})
  assert np.abs(expected).max() > 0.1
  np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
  assert_near(slope, read(slopes, tmp_path, VIT)[0], 1e-3)
  # Keys move all scores of a token alike, which no softmax sees.
  bias = slope["blocks"]["Dense_0"]["bias"]
  assert np.abs(np.delete(bias, np.s_[128:256], 1)).min(0).max() > 0


@pytest.mark.parametrize("height, width", [(7, 4), (1, 2)])
def test_the_stems_max_pool_is_pytorchs(height, width):
  x = np.random.default_rng(1).normal(size=(2, height, width, 3)).astype(np.float32) - 5
  theirs = as_channels_first(x).requires_grad_()
  pooled = F.max_pool2d(theirs, 3, 2, 1)
  weights = np.random.default_rng(2).normal(size=pooled.shape).astype(np.float32)
  (pooled * torch.tensor(weights)).sum().backward()

  def pool(x, weights):
    found, pull = jax.vjp(lambda x: layers.neighbourhood_max(x, stride=2), x)
    return found, pull(weights)[0]

  operands = (x, weights.transpose(0, 2, 3, 1))
  found, slope = quick_jit(pool)(*operands)
  np.testing.assert_array_equal(found, pooled.detach().permute(0, 2, 3, 1).numpy())
  np.testing.assert_allclose(slope, theirs.grad.permute(0, 2, 3, 1).numpy(), rtol=1e-6)
  # None whose gradient a GPU would add up in any order.
  names = {equation.primitive.name for equation in equations(jax.make_jaxpr(pool)(*operands).jaxpr)}
  assert not any(word in name for name in names for word in ("window", "select_and", "scatter"))


# Names


def transformers_resnet(name):
  name = name.replace("fc.", "classifier.1.")
  name = re.sub(r"^conv1", "resnet.embedder.embedder.convolution", name)
  name = re.sub(r"^bn1", "resnet.embedder.embedder.normalization", name)
  name = name.replace("downsample.0", "shortcut.convolution")
  name = name.replace("downsample.1", "shortcut.normalization")

  def stage(match):
    return f"resnet.encoder.stages.{int(match[1]) - 1}.layers.{match[2]}."

  name = re.sub(r"^layer(\d)\.(\d)\.", stage, name)
  kinds = {"conv": "convolution", "bn": "normalization"}
  return re.sub(
    r"\.(conv|bn)(\d)\.", lambda match: f".layer.{int(match[2]) - 1}.{kinds[match[1]]}.", name
  )


OLDER = (
  ("norm1", "layernorm_before"),
  ("norm2", "layernorm_after"),
  ("attn.proj", "attention.output.dense"),
  ("mlp.fc1", "intermediate.dense"),
  ("mlp.fc2", "output.dense"),
  ("attn.", "attention.attention."),
  ("blocks", "encoder.layer"),
)
NEWER = (
  ("norm1", "layernorm_before"),
  ("norm2", "layernorm_after"),
  ("attn.proj", "attention.o_proj"),
  ("attn.query", "attention.q_proj"),
  ("attn.key", "attention.k_proj"),
  ("attn.value", "attention.v_proj"),
  ("blocks", "layers"),
)


def transformers_vit(tensors, renamed):
  found = {}
  for name, leaf in tensors.items():
    parts = {name: leaf}
    if ".qkv." in name:
      kinds = ("query", "key", "value")
      parts = {
        name.replace("qkv", kind): part for kind, part in zip(kinds, np.split(leaf, 3), strict=True)
      }
    for key, part in parts.items():
      for old, new in (
        ("patch_embed.proj", "embeddings.patch_embeddings.projection"),
        ("cls_token", "embeddings.cls_token"),
        ("pos_embed", "embeddings.position_embeddings"),
        *renamed,
      ):
        key = key.replace(old, new)
      key = re.sub(r"^norm\.", "layernorm.", key)
      found["vit." + key if not key.startswith("head") else key.replace("head", "classifier")] = (
        part
      )
  return found


def test_all_of_resnet_50_is_read(tmp_path):
  tensors = state(filled(ResNet()))
  expected = read(tensors, tmp_path, RESNET)
  assert sum(map(size, expected)) == sum(leaf.size for leaf in tensors.values()) - 53  # counts
  rest = expected[0]["stage3_rest"]["Conv_0"]["kernel"]
  np.testing.assert_array_equal(
    rest[1, 0, 0], tensors["layer4.2.conv1.weight"].reshape(rest.shape[:0:-1][:2]).T
  )


def test_every_layout_says_the_same_of_a_resnet(shallow, tmp_path):
  shallow(2, 2)
  tensors = state(filled(ResNet((2, 2))))
  expected = read(tensors, tmp_path, RESNET)
  renamed = {transformers_resnet(name): leaf for name, leaf in tensors.items()}
  assert "resnet.encoder.stages.1.layers.1.layer.1.normalization.running_var" in renamed
  bare = {name.removeprefix("resnet."): leaf for name, leaf in renamed.items()}
  wrapped = {f"module.backbone.{name}": leaf for name, leaf in tensors.items()}
  for other in (renamed, bare, wrapped):
    found = read(other, tmp_path, RESNET)
    assert [*map(programs.tree_digest, found)] == [*map(programs.tree_digest, expected)]


def test_every_layout_says_the_same_of_a_vit(tmp_path):
  tensors = state(filled(ViT()))
  expected = read(tensors, tmp_path, VIT)
  for renamed, sample in (
    (OLDER, "vit.encoder.layer.1.attention.attention.key.bias"),
    (NEWER, "vit.layers.1.attention.k_proj.bias"),
  ):
    other = transformers_vit(tensors, renamed)
    assert sample in other
    assert programs.tree_digest(read(other, tmp_path, VIT)[0]) == programs.tree_digest(expected[0])


def test_a_head_that_is_fresh_is_passed_over_and_need_not_be_there(shallow, tmp_path):
  shallow(1)
  projection = {"head.mlp.0.weight": np.ones(3, np.float32)}  # in DINO's checkpoints
  for original, model, last, head, extra in (
    (ResNet((1,)), RESNET, "Dense_0", ("fc.weight", "fc.bias"), {}),
    (ViT(), VIT, "Dense_1", ("head.weight", "head.bias"), projection),
  ):
    tensors = state(original)
    params, _ = read(tensors | extra, tmp_path, model, classes=7, fresh=(last,))
    assert last not in params
    without = {name: leaf for name, leaf in tensors.items() if name not in head}
    found, _ = read(without, tmp_path, model, classes=7, fresh=(last,))
    assert programs.tree_digest(found) == programs.tree_digest(params)
    with pytest.raises(UserError, match=rf"{head[1]} is missing, .*the last one is '{last}'"):
      read(without, tmp_path, model)


def test_other_layers_can_be_fresh_too(shallow, tmp_path):
  shallow(2)
  fresh = ("stage0_rest", "Dense_0")
  params, batch_stats = read(state(ResNet((2,))), tmp_path, RESNET, fresh=fresh)
  for tree in (params, batch_stats):
    assert "stage0_rest" not in tree and "stage0_first" in tree


# Positions


@pytest.mark.parametrize("grid", [(7, 7), (5, 2), (1, 3), (28, 20)])
def test_positions_are_interpolated_as_pytorch_resizes(grid):
  position = np.random.default_rng(3).normal(size=(1, 1 + 14 * 14, 6)).astype(np.float32)
  found = pretrained.interpolated(position, grid)
  square = torch.tensor(position[:, 1:].reshape(1, 14, 14, 6)).permute(0, 3, 1, 2)
  expected = F.interpolate(square, size=grid, mode="bicubic", align_corners=False)
  expected = expected.permute(0, 2, 3, 1).reshape(1, -1, 6).numpy()
  np.testing.assert_allclose(found[:, 1:], expected, rtol=1e-5, atol=1e-5)
  np.testing.assert_array_equal(found[:, 0], position[:, 0])
  assert found.dtype == np.float32


def test_a_file_for_large_images_serves_small_ones(tmp_path):
  tensors = state(filled(ViT(side=4)))
  params, _ = read(tensors, tmp_path, VIT, side=32)
  expected = pretrained.interpolated(tensors["pos_embed"], (2, 2))
  np.testing.assert_array_equal(params["position"], expected)
  np.testing.assert_array_equal(
    read(tensors, tmp_path, VIT, side=64)[0]["position"], tensors["pos_embed"]
  )


# Errors


def without(name):
  return lambda tensors: {key: leaf for key, leaf in tensors.items() if key != name}


def small_resnet():
  return ResNet((2,))


@pytest.mark.parametrize(
  "original, model, change, words",
  [
    (
      small_resnet,
      RESNET,
      without("layer1.1.bn2.running_var"),
      "layer1.1.bn2.running_var is missing",
    ),
    (
      small_resnet,
      RESNET,
      lambda tensors: tensors | {"layer1.2.conv1.weight": np.ones((4, 16, 1, 1), np.float32)},
      ": layer1.2.conv1.weight is not of this network",
    ),
    (
      lambda: ResNet((2,), width=2),
      RESNET,
      dict,
      r"bn1.bias is \[2\] and not \[4\], .* and \d+ more; name the layers",
    ),
    (
      small_resnet,
      RESNET,
      lambda tensors: tensors | {"module.conv1.weight": tensors["conv1.weight"]},
      "conv1.weight is there twice",
    ),
    (lambda: ResNet((1,)), RESNET, dict, "layer1.1.bn1.bias is missing"),
    (
      small_resnet,
      VIT,
      dict,
      "a ResNet in torch.* is not model.name='vit_s16'; set it to 'imagenet_res",
    ),
    (ViT, RESNET, dict, "a ViT in DINO.* is not model.name='imagenet_resnet50'; set it to 'vit_s"),
    (
      small_resnet,
      {"name": "mlp"},
      dict,
      "is not model.name='mlp'; set it to 'imagenet_resnet50'",
    ),
    (
      small_resnet,
      {"name": "imagenet_resnet50"},
      dict,
      "with batch norm, not model.norm='none'; set",
    ),
    (lambda: ViT(depth=1), VIT, dict, "blocks.1.attn.proj.bias is missing"),
    (lambda: ViT(depth=3), VIT, dict, "blocks.2.attn.proj.bias is not of this network"),
    (
      ViT,
      VIT,
      lambda tensors: tensors | {"pos_embed": np.zeros((1, 4, 128), np.float32)},
      r"pos_embed is \[1, 4, 128\] and not \[1, 5, 128\]",
    ),
    (
      ViT,
      VIT,
      lambda tensors: tensors | {"patch_embed.proj.weight": np.zeros((128, 3, 8, 8), np.float32)},
      r"patch_embed.proj.weight is \[128, 3, 8, 8\] and not \[128, 3, 16, 16\]",
    ),
    (ViT, VIT, lambda tensors: {"a": np.ones(1)}, "of no layout that is known, such as a; it can"),
  ],
)
def test_what_does_not_fit_is_named_in_one_line(original, model, change, words, shallow, tmp_path):
  shallow(2)
  with pytest.raises(UserError, match=words) as error:
    read(change(state(original())), tmp_path, model)
  assert "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("legacy", [True, False])
def test_a_pickle_is_never_read(tmp_path, suffix, legacy):
  file = tmp_path / f"weights{suffix}"
  torch.save({"a": torch.ones(3)}, file, _use_new_zipfile_serialization=not legacy)
  with pytest.raises(UserError, match="is a pickle") as error:
    pretrained.load("model.initial", str(file))
  said = str(error.value)
  assert "\n" not in said
  # What it says to do works, from anywhere, and the file stays as it was.
  before = file.read_bytes()
  exec(said.split("harm: ")[1], {})
  converted = "weights.safetensors" if suffix == ".pth" else "weights-converted.safetensors"
  found = pretrained.load("model.initial", str(tmp_path / converted))
  assert {name: leaf.tolist() for name, leaf in found.items()} == {"a": [1, 1, 1]}
  assert file.read_bytes() == before


def test_what_is_neither_is_refused(tmp_path):
  (tmp_path / "a.safetensors").write_bytes(b"nothing of the kind")
  save_file({"x": np.ones(1000)}, tmp_path / "whole.safetensors")
  whole = (tmp_path / "whole.safetensors").read_bytes()
  (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
  save_file({"x": np.array([1, np.nan])}, tmp_path / "nan.safetensors")
  for name, words in (
    ("a.safetensors", "cannot be read from .*: it is damaged, not complete or no"),
    ("cut.safetensors", "cannot be read from .*: it is damaged, not complete or no"),
    ("nan.safetensors", "x has values that are not finite"),
    ("b.pth", "cannot be read: there is no file .*b.pth; give"),
  ):
    with pytest.raises(UserError, match=f"model.initial=.*{name}'.* {words}"):
      pretrained.load("model.initial", str(tmp_path / name))


def test_a_missing_file_is_named_before_data_are_looked_for():
  config = {
    "model": {**VIT, "initial": "no.safetensors", "fresh": ["Dense_1"]},
    "data": {"name": "imagenet2012", "image_size": 32},
  }
  with pytest.raises(
    UserError, match=r"model.initial='no.safetensors' cannot be read: there is no"
  ):
    training.make_trainer(config, "/nowhere")


def test_names_of_nobody_are_said_to_be_so_where_a_sweep_starts(tmp_path):
  save_file({"student.x": np.ones(1, np.float32)}, tmp_path / "a.safetensors")
  initial = {"initial": str(tmp_path / "a.safetensors"), "fresh": ["Dense_1"]}
  config = configs.parse({"model": VIT | initial, "training": {"batch_size": 2, "epochs": 1}})
  with pytest.raises(UserError, match=r"of no layout that is known, such as student.x; it can be"):
    training.on_dataset(config, pictures(32), 3)


def test_a_header_that_resembles_a_pickle_is_read(tmp_path):
  """A length of 0x280 begins with the bytes of pickle protocol 2."""
  for padding in range(0, 640, 8):
    save_file({"n" * (padding + 500): np.ones(1)}, tmp_path / "a.safetensors")
    if (tmp_path / "a.safetensors").read_bytes()[:2] == b"\x80\x02":
      break
  else:
    raise AssertionError("no such length")
  assert len(pretrained.load("model.initial", str(tmp_path / "a.safetensors"))) == 1


@pytest.mark.parametrize(
  "fields, shape, words",
  [
    ({"name": "vit_s16", "width": 128}, (40, 32, 3), "multiples of 16 pixels, not 40x32; .*=48"),
    ({"name": "vit_s16", "width": 96}, (32, 32, 3), "model.width=96 must be a multiple of 64"),
  ],
)
def test_build_refuses_in_one_line(fields, shape, words):
  with pytest.raises(UserError, match=words) as error:
    build(shape=shape, **fields)
  assert "\n" not in str(error.value)


# First weights


def first(model, key=0):
  module = module_of(model, classes=1000)
  draw = quick_jit(lambda key: module.init(key, jnp.zeros((1, 32, 32, 3)), False)["params"])
  return draw(jax.random.key(key, impl="rbg"))


def test_heads_start_as_published(shallow):
  shallow()
  vit = VIT | {"depth": 0}
  picard = first(RESNET | {"width": 32, "head": "picard"})["Dense_0"]
  assert np.abs(picard["kernel"]).max() <= 32**-0.5
  assert picard["kernel"].std() == pytest.approx((3 * 32) ** -0.5, rel=0.03)
  assert picard["bias"].std() == pytest.approx(1, rel=0.1) and np.abs(picard["bias"]).max() > 2
  small = first(vit | {"head": "small"})["Dense_1"]
  assert small["kernel"].std() == pytest.approx(1e-5, rel=0.03) and not small["bias"].any()
  usual = first(vit)
  assert usual["position"].std() == pytest.approx(0.02, rel=0.15)
  assert usual["Dense_1"]["kernel"].std() == pytest.approx(0.02, rel=0.03)
  assert usual["Dense_0"]["kernel"].std() == pytest.approx((3 * 768) ** -0.5, rel=0.03)


# Training


def pictures(side):
  rng = np.random.default_rng(4)
  images = rng.integers(0, 256, (6, side, side, 3), np.uint8)
  labels = np.arange(6, dtype=np.int32) % 3
  return Dataset(images, labels, images, labels, *np.full((2, 3), 100, np.float32))


@pytest.mark.slow
def test_a_sweep_starts_from_a_public_file(tmp_path):
  """One step at a rate of zero leaves what a run started from."""
  file = str(tmp_path / "vit.safetensors")
  save_file(state(filled(ViT(depth=1, width=64, side=2))), file)
  model = {"name": "vit_s16", "width": 64, "depth": 1, "head": "small"}
  config = configs.parse(
    {
      "model": {**model, "initial": file, "fresh": ["Dense_1"]},
      "activation": "gelu",
      "optimizer": {"learning_rate": 0.0},
      "training": {"batch_size": 3, "steps": 1},
    }
  )

  def make():
    return training.on_dataset(config, pictures(16), 3)

  found = seedlab.sweep(make, 2, tmp_path / "out", quiet=True)
  assert found.sizes["run"] == 2
  np.testing.assert_allclose(found.test_loss, np.log(3), rtol=1e-3)  # by a head near zero
  kept = seedlab.replay(tmp_path / "out", run=1, trainer=make)
  assert kept.exact
  expected = programs.named_leaves(read_file(file, model, 3, 16, ("Dense_1",))[0])
  heads = {"Dense_1/kernel", "Dense_1/bias"}
  assert set(kept.params) == expected.keys() | heads
  for name, leaf in expected.items():
    np.testing.assert_array_equal(kept.params[name], leaf)
  assert 0 < np.abs(kept.params["Dense_1/kernel"]).max() < 1e-4


def test_running_statistics_are_the_files(shallow, tmp_path):
  shallow(2)
  file = str(tmp_path / "resnet.safetensors")
  tensors = state(filled(ResNet((2,))))
  save_file(tensors, file)
  config = configs.parse(
    {
      "model": {**RESNET, "initial": file, "fresh": ["Dense_0"]},
      "training": {"batch_size": 3, "average": 0.9},
    }
  )
  trainer = training.on_dataset(config, pictures(16), 3)
  begun = jax.device_get(quick_jit(lambda data: trainer.init(keys_of(1), data))(trainer.load()))
  params, batch_stats = read_file(file, RESNET, 3, 16, ("Dense_0",))
  assert programs.tree_digest(begun.batch_stats) == programs.tree_digest(batch_stats)
  assert programs.tree_digest(begun.average) == programs.tree_digest(begun.params)
  del begun.params["Dense_0"]
  assert programs.tree_digest(begun.params) == programs.tree_digest(params)
  np.testing.assert_array_equal(
    begun.batch_stats["stage0_rest"]["BatchNorm_2"]["var"][0],
    tensors["layer1.1.bn3.running_var"],
  )
  assert size(trainer.load()["statistics"]) == size(batch_stats)  # part of the data's digest
