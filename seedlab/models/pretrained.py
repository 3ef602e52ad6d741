"""Pretrained weights: safetensors files of public networks, in the names they are published in.

  load      file -> {public name: array}; nothing but safetensors is read, a pickle never
  layout_of names -> who names their tensors so
  convert   -> parameters and batch norm's running statistics, as our networks have them

Both networks lie in memory otherwise than in PyTorch. Kernels of convolutions are [h, w, in, out]
here and [out, in, h, w] there, of linear layers [in, out] and [out, in]; equal blocks are one
leaf with a leading axis; queries, keys and values are one matrix; patches are cut out before
they meet a matrix, where PyTorch convolves.
"""

import dataclasses
import functools
import math
import pathlib
import re
from collections.abc import Callable, Iterable, Mapping

import flax
import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from seedlab.errors import UserError

_MOST_NAMED = 5  # parameters listed in an error
_KEYS_A = -0.75  # PyTorch's parameter of Keys' cubic kernel
_WRAPPERS = re.compile(r"^(?:(?:module|backbone|resnet|vit)\.)+")
_PICKLE = (b"PK\x03\x04", *(b"\x80" + bytes([protocol]) for protocol in range(2, 6)))
_PICKLE_SUFFIXES = (".pth", ".pt", ".bin", ".pkl", ".ckpt")
_LEAVES = {
  "kernel": "weight",
  "scale": "weight",
  "bias": "bias",
  "mean": "running_mean",
  "var": "running_var",
}


@dataclasses.dataclass(frozen=True)
class Layout:
  """The public names of a network; ours on the left of both tables."""

  words: str
  network: str  # model.name
  sign: str  # a pattern that some of the names begin with
  outer: Mapping[str, str]
  block: Callable[[int, int], str]  # (stage, block) -> what its names begin with
  inner: Mapping[str, tuple[str, ...]]  # several lie side by side in one of our leaves
  head: str  # our last layer
  heads: tuple[str, ...]  # what public names of a last layer begin with


def _residual(words, sign, outer, block, conv, norm, shortcut, head):
  inner = {f"Conv_{n}": (conv(n),) for n in range(3)}
  inner |= {f"BatchNorm_{n}": (norm(n),) for n in range(3)}
  inner |= {"Conv_3": (shortcut[0],), "BatchNorm_3": (shortcut[1],)}
  outer = dict(zip(("Conv_0", "BatchNorm_0", "Dense_0"), outer, strict=True))
  return Layout(words, "imagenet_resnet50", sign, outer, block, inner, "Dense_0", (head,))


def _transformer(words, sign, outer, block, inner, heads):
  names = ("Dense_0", "token", "position", "LayerNorm_0", "Dense_1")
  outer = dict(zip(names, outer, strict=True))
  layers = ("LayerNorm_0", "Dense_0", "Dense_1", "LayerNorm_1", "Dense_2", "Dense_3")
  inner = {ours: theirs.split() for ours, theirs in zip(layers, inner, strict=True)}
  return Layout(words, "vit_s16", sign, outer, block, inner, "Dense_1", heads)


_EMBEDDINGS = (
  "embeddings.patch_embeddings.projection",
  "embeddings.cls_token",
  "embeddings.position_embeddings",
  "layernorm",
  "classifier",
)
_LAYOUTS = (
  _residual(
    "a ResNet in torchvision's names",
    r"layer\d+\.\d+\.conv\d\.",
    ("conv1", "bn1", "fc"),
    lambda stage, block: f"layer{stage + 1}.{block}.",
    lambda n: f"conv{n + 1}",
    lambda n: f"bn{n + 1}",
    ("downsample.0", "downsample.1"),
    "fc.",
  ),
  _residual(
    "a ResNet in transformers' names",
    r"encoder\.stages\.\d+\.layers\.",
    ("embedder.embedder.convolution", "embedder.embedder.normalization", "classifier.1"),
    lambda stage, block: f"encoder.stages.{stage}.layers.{block}.",
    lambda n: f"layer.{n}.convolution",
    lambda n: f"layer.{n}.normalization",
    ("shortcut.convolution", "shortcut.normalization"),
    "classifier.",
  ),
  _transformer(
    "a ViT in DINO's and timm's names",
    r"blocks\.\d+\.attn\.",
    ("patch_embed.proj", "cls_token", "pos_embed", "norm", "head"),
    lambda stage, block: f"blocks.{block}.",
    ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2"),
    ("head.",),
  ),
  _transformer(
    "a ViT in transformers' names",
    r"encoder\.layer\.\d+\.attention\.",
    _EMBEDDINGS,
    lambda stage, block: f"encoder.layer.{block}.",
    (
      "layernorm_before",
      "attention.attention.query attention.attention.key attention.attention.value",
      "attention.output.dense",
      "layernorm_after",
      "intermediate.dense",
      "output.dense",
    ),
    ("classifier.", "pooler."),
  ),
  # As the modules of transformers 5 are called; its files keep the older names.
  _transformer(
    "a ViT in the names of transformers 5",
    r"layers\.\d+\.attention\.q_proj\.",
    _EMBEDDINGS,
    lambda stage, block: f"layers.{block}.",
    (
      "layernorm_before",
      "attention.q_proj attention.k_proj attention.v_proj",
      "attention.o_proj",
      "layernorm_after",
      "mlp.fc1",
      "mlp.fc2",
    ),
    ("classifier.", "pooler."),
  ),
)


def load(field: str, file: str) -> Mapping[str, np.ndarray]:
  """{name: array} of a .safetensors file; raises UserError, which names `field`, if it is none."""
  path = find(field, file)
  try:
    read = safetensors.numpy.load_file(path)
  except (OSError, AttributeError, KeyError, safetensors.SafetensorError) as error:
    if _is_pickle(path):
      converted = path.with_suffix(".safetensors")
      if converted == path:
        converted = path.with_name(f"{path.stem}-converted.safetensors")
      raise UserError(
        f"{field}={file!r} is a pickle, which can run code of its maker when it is read, so it is"
        " not; convert it where that is no harm: import io, pathlib, torch, safetensors.torch;"
        f" safetensors.torch.save_file(torch.load(io.BytesIO(pathlib.Path({str(path)!r})"
        ".read_bytes()), map_location='cpu',"
        f" weights_only=True), {str(converted)!r})"
      ) from None
    # Types that NumPy has not come as attributes or keys that are missing.
    raise UserError(
      f"{field}={file!r} cannot be read from {path} ({error}): it is damaged, not complete or no"
      " .safetensors file; fetch or write it again"
    ) from None
  for name, array in read.items():
    if not np.isfinite(array).all():
      raise UserError(f"{field}={file!r}: {name} has values that are not finite; take another file")
  return read


def find(field: str, file: str) -> pathlib.Path:
  """The whole path of a file; raises UserError, which names `field`, if it is none."""
  path = pathlib.Path(file).expanduser().absolute()
  if not path.is_file():
    raise UserError(
      f"{field}={file!r} cannot be read: there is no file {path}; give the path of a .safetensors"
      " file, such as seedlab replay --params writes"
    )
  return path


def layout_of(file: str, names: Iterable[str]) -> Layout:
  """Whose names those in `file` are; raises UserError for nobody's we know."""
  bare = [_WRAPPERS.sub("", name) for name in names]
  for layout in _LAYOUTS:
    if any(re.match(layout.sign, name) for name in bare):
      return layout
  raise UserError(
    f"model.initial={file!r} has names of no layout that is known, such as {some(names)}; it can be"
    f" {', '.join(layout.words for layout in _LAYOUTS)}, or what seedlab replay --params writes"
    " of this network"
  )


def convert(
  layout: Layout,
  tensors: Mapping[str, np.ndarray],
  network: flax.linen.Module,
  shape: tuple[int, int, int],
  *,
  file: str,
  name: str,
  fresh: tuple[str, ...] = (),
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
  """Parameters and running statistics {path: array} in our layout, without those in `fresh`.

  Wrappers in front of names ("module.", "backbone.", "resnet.", "vit.") are dropped; counts of
  batches, and last layers where ours is fresh, are passed over. Everything else has to fit.
  Position embeddings are interpolated to the size of the images (`interpolated`).

  transformers' DINO says epsilon 1e-12 in its layer norms, DINO itself 1e-6, as we do.

  Args:
    layout: whose names `tensors` have (`layout_of`).
    tensors: {public name: array}.
    network: ours, as `imagenet_resnet50` or `vit_s16` makes it.
    shape: (H, W, C) of the images it is for.
    file, name, fresh: the values of `model.initial`, `model.name` and `model.fresh`.

  Raises:
    UserError: the file is of another network, or tensors are missing, too many, of another shape.
  """
  said = f"model.initial={file!r} holds {layout.words}"
  if name != layout.network:
    raise UserError(
      f"{said}, which is not model.name={name!r}; set it to {layout.network!r}, or take"
      " another file"
    )
  if layout.network == "imagenet_resnet50" and network.style.norm != "batch":
    norm = network.style.norm
    raise UserError(f"{said} with batch norm, not model.norm={norm!r}; set it to 'batch'")
  bare, problems = _bare(tensors)
  blank = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
  key = jax.eval_shape(lambda: jax.random.key(0))
  variables = jax.eval_shape(functools.partial(network.init, train=False), key, blank)
  position = layout.outer.get("position")
  if position in bare:
    grid = tuple(side // network.patch for side in shape[:2])
    bare[position] = interpolated(bare[position], grid)

  found = {"params": {}, "batch_stats": {}}
  known = set()
  for (collection, *path), leaf in flax.traverse_util.flatten_dict(variables).items():
    stacked = path[0] == "blocks" or path[0].endswith("_rest")
    names = _public(layout, path, leaf.shape[0] if stacked else 1)
    known.update(name for parts in names for name in parts)
    ours = "/".join(path)
    if is_fresh(ours, fresh):
      continue
    block = leaf.shape[1:] if stacked else leaf.shape
    if ours == "Dense_0/kernel" and position:
      block = (network.patch, network.patch, shape[2], block[1])
    blocks, wrong = _blocks(bare, names, block)
    problems += wrong
    if not wrong:
      found[collection][ours] = np.stack(blocks).reshape(leaf.shape).astype(leaf.dtype)

  passed = layout.heads if is_fresh(layout.head, fresh) else ()
  extra = [name for name in bare if name not in known and not name.startswith(passed)]
  problems += [
    f"{name} is not of this network" for name in extra if not name.endswith("num_batches_tracked")
  ]
  if problems:
    raise UserError(
      f"{said}, which does not fit model.name={name!r}: {some(sorted(problems))}; name the"
      f" layers to be drawn anew in model.fresh (the last one is {layout.head!r}), or take the"
      " network that the file is of"
    )
  return found["params"], found["batch_stats"]


def _bare(tensors):
  """The tensors under names without wrappers, and what is said of a name that is there twice."""
  bare, problems = {}, []
  for public, array in tensors.items():
    short = _WRAPPERS.sub("", public)
    if short in bare:
      problems.append(f"{short} is there twice")
    bare[short] = array
  return bare, problems


def interpolated(position: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
  """Position embeddings of a square grid for another grid: bicubic, as PyTorch resizes images.

  The class token's, in front, stays. PyTorch's interpolate(mode="bicubic",
  align_corners=False) with the size given. DINO's code gives it a scale that is larger by 0.1
  grid cells, which moves its values a little.

  Args:
    position: float[1, 1 + n^2, width]; anything else comes back as it is.
    grid: rows and columns that are wanted.

  Returns:
    float[1, 1 + rows columns, width].
  """
  side = math.isqrt(max(position.shape[1] - 1, 0)) if position.ndim == 3 else 0
  if not side or position.shape[:2] != (1, 1 + side**2) or grid == (side, side):
    return position
  cells = position[0, 1:].reshape(side, side, -1).astype(np.float64)
  down, across = (_cubic(side, size) for size in grid)
  cells = np.einsum("hi,wj,ijc->hwc", down, across, cells, optimize=True)
  cells = cells.reshape(1, -1, cells.shape[-1]).astype(position.dtype)
  return np.concatenate([position[:, :1], cells], 1)


def is_fresh(name: str, prefixes: tuple[str, ...]) -> bool:
  """Whether one of `model.fresh` is `name` or whole parts at its beginning."""
  return any(name == prefix or name.startswith(prefix + "/") for prefix in prefixes)


def some(names: Iterable[str]) -> str:
  """The first few, and how many more."""
  names = list(names)
  more = len(names) - _MOST_NAMED
  return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _public(layout, path, count):
  """For each of `count` equal blocks the public names of what makes up our leaf at `path`."""
  if len(path) == 1:
    return [[layout.outer[path[0]]]]
  *stack, layer, leaf = path
  if not stack:
    return [[f"{layout.outer[layer]}.{_LEAVES[leaf]}"]]
  stage = int("".join(filter(str.isdigit, stack[0])) or 0)
  first = int(stack[0].endswith("_rest"))
  return [
    [f"{layout.block(stage, first + n)}{part}.{_LEAVES[leaf]}" for part in layout.inner[layer]]
    for n in range(count)
  ]


def _blocks(tensors, names, shape):
  """Our leaf block by block, each from those of `names` side by side; and what does not fit.

  `shape` is that of a block of ours, with four axes where the public network convolves.
  """
  shape = (*shape[:-1], shape[-1] // len(names[0]))
  axes = {4: (2, 3, 1, 0), 2: (1, 0)}.get(len(shape), range(len(shape)))
  theirs = tuple(shape[axes.index(axis)] for axis in range(len(axes)))
  wrong = [_misfit(name, tensors, theirs) for parts in names for name in parts]
  if any(wrong):
    return [], list(filter(None, wrong))
  return [np.concatenate([tensors[n].transpose(axes) for n in parts], -1) for parts in names], []


def _misfit(name, tensors, shape):
  if name not in tensors:
    return f"{name} is missing"
  if tensors[name].shape != shape:
    return f"{name} is {list(tensors[name].shape)} and not {list(shape)}"
  return None


def _cubic(old: int, new: int) -> np.ndarray:
  """Weights [new, old] of Keys' cubic convolution (1981) at pixel centres; edges are repeated."""
  at = (np.arange(new) + 0.5) * old / new - 0.5
  start = np.floor(at).astype(int)
  weights = np.zeros((new, old))
  for offset in range(-1, 3):
    distance = np.abs(at - start - offset)
    near = (_KEYS_A + 2) * distance**3 - (_KEYS_A + 3) * distance**2 + 1
    far = _KEYS_A * (distance**3 - 5 * distance**2 + 8 * distance - 4)
    column = np.clip(start + offset, 0, old - 1)
    np.add.at(weights, (np.arange(new), column), np.where(distance <= 1, near, far))
  return weights


def _is_pickle(path):
  if not path.is_file():
    return False
  with open(path, "rb") as opened:
    return path.suffix in _PICKLE_SUFFIXES or opened.read(4).startswith(_PICKLE)
