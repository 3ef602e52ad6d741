"""Random cell-based networks, from a space like that of DARTS."""

import hashlib
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from seedlab.models.layers import (
  Activation,
  Lowering,
  Norm,
  Style,
  check_at_least,
  check_sizes,
  linear,
  neighbourhood_max,
  neighbourhood_mean,
)

__all__ = ("cells",)

OPERATIONS = ("conv 1x1", "conv 3x3", "conv 5x5", "average 3x3", "max 3x3", "skip")
_WIDENINGS = (1, 4)
_CELLS = (1, 5)
_MOST_NODES = 4


def cells(
  *,
  classes: int,
  shape: tuple[int, ...],
  activation: Activation,
  platform: str,
  width: int = 16,
  norm: Norm = "none",
  cell_seed: int = 0,
  convolution: Lowering = "auto",
) -> nn.Module:
  """The random network of cells that belongs to `cell_seed` (not its weights): see `Cells`."""
  check_sizes("cells", shape, width)
  check_at_least(0, cell_seed=cell_seed)
  return Cells(classes, width, Style(norm, activation, convolution, platform), cell_seed)


class Edge(NamedTuple):
  operation: str  # one of OPERATIONS
  source: int  # 0 is the cell's input, n its node n


class Structure(NamedTuple):
  """What a cell seed determines; all cells of a network are equal."""

  widening: int  # features of the first cell, in units of `model.width`
  cells: int
  nodes: tuple[tuple[Edge, Edge], ...]  # node n is the sum of its two edges, from earlier nodes


class Cells(nn.Module):
  """A network of equal cells whose structure is drawn from `cell_seed`.

    3x3 wc - norm - cells - norm - activation - mean over pixels - linear
    cell: activation - 1x1 f - norm - nodes side by side, f features each

  where c is 1 or 4 and f starts at wc. The cells in front of which a third and two
  thirds of all lie have a 3x3 convolution of stride 2 instead of the 1x1 and twice
  the features. An edge that convolves is activation - convolution - norm.

  Nakkiran et al. 2021 (arXiv 2010.08127) trained such networks, with 16 or 64
  features, 1 or 5 cells and at most 4 nodes, but have not published them. These are
  ours, and theirs in size at width 16.

  Convolutions are He-normal (He et al. 2015, arXiv 1502.01852, eq. 10), the linear
  layer's weights and biases PyTorch's. Without a norm convolutions have biases,
  zero at first.
  """

  classes: int
  width: int
  style: Style
  cell_seed: int = 0

  @nn.compact
  def __call__(
    self, images_BxHxWxC: jax.Array, train: bool, mask: jax.Array | None = None
  ) -> jax.Array:
    style = self.style

    def unit(x, features, size, stride=1):
      return style.normalise(style.conv(x, features, size, stride), train, mask)

    def edge(x, operation):
      if operation.startswith("conv"):
        return unit(style.activation(x), x.shape[-1], int(operation[-1]))
      if operation == "average 3x3":
        return neighbourhood_mean(x)
      return neighbourhood_max(x) if operation == "max 3x3" else x

    drawn = structure(self.cell_seed)
    features = drawn.widening * self.width
    x = unit(images_BxHxWxC, features, 3)
    for cell in range(drawn.cells):
      reduces = cell in reductions(drawn.cells)
      features *= 2 if reduces else 1
      x = style.activation(x)
      nodes = [unit(x, features, 3, 2) if reduces else unit(x, features, 1)]
      for edges in drawn.nodes:
        nodes.append(sum(edge(nodes[source], operation) for operation, source in edges))
      x = jnp.concatenate(nodes[1:], -1)
    x = style.finish(x, train, mask)
    return linear(self.classes, x.astype(jnp.float32).mean((1, 2)))


def structure(cell_seed: int) -> Structure:
  """The network that belongs to a seed, for ever: drawn by SHA-256, uniform in each choice."""

  def choose(what, options):
    text = f"seedlab cells {cell_seed}: {what}"
    number = int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")
    return options[number % len(options)]

  count = choose("nodes", range(1, _MOST_NODES + 1))
  nodes = tuple(
    tuple(
      Edge(
        choose(f"node {node} edge {edge} operation", OPERATIONS),
        choose(f"node {node} edge {edge} source", range(node)),
      )
      for edge in (1, 2)
    )
    for node in range(1, count + 1)
  )
  return Structure(choose("widening", _WIDENINGS), choose("cells", _CELLS), nodes)


def reductions(cells: int) -> set[int]:
  """The cells, counted from 0, that halve the sides: where a third and two thirds lie in front."""
  return {cells // 3, 2 * cells // 3} - {0}


def describe(cell_seed: int) -> str:
  """What `structure` drew: a line on the network's size, then one a node, `n2 = skip(n1) + ...`."""
  drawn = structure(cell_seed)
  cells = "1 cell" if drawn.cells == 1 else f"{drawn.cells} cells"
  lines = [f"{cells}, {drawn.widening} w features at first"]
  for number, edges in enumerate(drawn.nodes, 1):
    terms = (f"{op}({f'n{source}' if source else 'input'})" for op, source in edges)
    lines.append(f"n{number} = {' + '.join(terms)}")
  return "\n".join(lines)
