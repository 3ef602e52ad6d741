"""What `seedlab bench --suite=generative` has its workers measure: steps of two generative models.

  characters  a Transformer of two blocks of width 64 on 16 windows of 64 tokens, AdamW
  flow        an MLP of three layers of 256 units on 128 digits, flow matching, Adam, moving average

seedlab's are the recipes of `seedlab.recipes` as a sweep trains them, drawing its examples; the
others are given the same shapes of examples, and write the same network and update as their
tutorials do. What is measured is CPU time of this process for one step of one seed, without
compilation. Lanes and the vmapped rival train `SEEDS` at once.
"""

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from seedlab import engine
from seedlab.commands import bench_tasks

NAMES = ("characters", "flow")
RIVALS = ("PyTorch, eager", "PyTorch, torch.compile", "JAX, jit", "JAX, jit of vmap")
SEEDS = 8

_AT_ONCE = 20  # steps of a timing


class Sizes(NamedTuple):
  """Of a network and its batch; `context` and `vocabulary` of characters alone."""

  batch: int
  width: int
  depth: int
  heads: int = 4
  context: int = 64
  vocabulary: int = 24
  rate: float = 1e-3


def sizes(name: str, small: bool) -> Sizes:
  if name == "characters":
    return Sizes(2, 8, 1, 2, 8) if small else Sizes(16, 64, 2)
  return Sizes(4, 8, 1) if small else Sizes(128, 256, 3)


def seconds(rival: str, name: str, small: bool) -> float:
  """CPU seconds of one seed's step. The first call of a process compiles, and is to be left out."""
  advance, steps = _advance(rival, name, small)
  started = time.process_time()
  advance()
  return (time.process_time() - started) / steps


@functools.lru_cache(maxsize=4)
def _advance(rival: str, name: str, small: bool) -> tuple[Callable[[], Any], int]:
  """(what does some steps of some seeds, how many: steps times seeds)."""
  asked = sizes(name, small)
  if rival == "seedlab":
    return _seedlab(name, asked, small)
  if rival.startswith("PyTorch"):
    made = _torch_characters if name == "characters" else _torch_flow
    step = made(asked, rival.endswith("compile"))
    return lambda: [step(number) for number in range(_AT_ONCE)], _AT_ONCE
  lanes = rival.endswith("vmap")
  step = _flax(name, asked, lanes)
  return lambda: [step(number) for number in range(_AT_ONCE)], _AT_ONCE * (SEEDS if lanes else 1)


def _seedlab(name: str, asked: Sizes, small: bool) -> tuple[Callable[[], Any], int]:
  program = engine.build(_recipe(name, asked, small)())
  seeds = bench_tasks._seeds(program.width)
  length = program.trainer.period or _AT_ONCE  # no segment crosses an epoch
  state, number = engine._start(program, seeds), 0

  def steps():
    nonlocal state, number
    state, bad = engine._advance(program, state, seeds, None, number, length)
    number += length
    return np.asarray(bad)

  return steps, length * program.width


def _recipe(name: str, asked: Sizes, small: bool):
  """The recipe, evaluated at the end of more steps than are timed."""
  common: dict[str, Any] = {"width": asked.width, "depth": asked.depth, "batch_size": asked.batch}
  common |= {"steps": 100_000, "learning_rate": asked.rate, "samples": 4}
  if name == "flow":
    from seedlab.recipes import diffusion

    return diffusion.make(points=4, draws=1, frozen=1, **common)
  from seedlab.recipes import language

  return language.make(
    context=asked.context, heads=asked.heads, contexts=0, draws=0, prompt=2, run_length=2, **common
  )


def _windows(asked: Sizes, count: int) -> np.ndarray:
  random = np.random.default_rng(0)
  return random.integers(0, asked.vocabulary, (count, asked.context + 1)).astype(np.int32)


def _digits(asked: Sizes, count: int) -> tuple[np.ndarray, np.ndarray]:
  """Images float32[N, 64] and labels int32[N]."""
  random = np.random.default_rng(0)
  images = random.normal(size=(count, 64)).astype(np.float32)
  return images, random.integers(0, 10, count).astype(np.int32)


def _batches(asked: Sizes, count: int, seeds: int) -> Callable[[int], np.ndarray]:
  """Number of a step -> int[seeds, batch], each seed in an order of its own."""
  random = np.random.default_rng(0)
  orders = np.stack([random.permutation(count) for _ in range(seeds)])
  return lambda number: orders[:, number * asked.batch % count :][:, : asked.batch]


def _torch_characters(asked: Sizes, compiled: bool) -> Callable[[int], Any]:
  """A step of one seed as a PyTorch user writes it, on one thread."""
  import torch
  from torch import nn
  from torch.nn import functional

  torch.set_num_threads(1)
  torch.manual_seed(0)
  count = 8 * asked.batch
  rows = _batches(asked, count, 1)

  class Block(nn.Module):
    def __init__(self):
      super().__init__()
      width = asked.width
      self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
      self.mixing, self.mixed = nn.Linear(width, 3 * width), nn.Linear(width, width)
      self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
      batch, tokens, width = x.shape
      parts = self.mixing(self.first(x)).split(width, -1)
      q, k, v = (part.view(batch, tokens, asked.heads, -1).transpose(1, 2) for part in parts)
      mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
      x = x + self.mixed(mixed.transpose(1, 2).reshape(batch, tokens, width))
      return x + self.down(functional.gelu(self.up(self.second(x))))

  class Characters(nn.Module):
    def __init__(self):
      super().__init__()
      self.token = nn.Embedding(asked.vocabulary, asked.width)
      self.position = nn.Parameter(0.02 * torch.randn(asked.context, asked.width))
      self.blocks = nn.Sequential(*[Block() for _ in range(asked.depth)])
      self.last = nn.LayerNorm(asked.width)

    def forward(self, tokens):
      x = self.blocks(self.token(tokens) + self.position)
      return self.last(x) @ self.token.weight.T

  network = Characters()
  forward = torch.compile(network) if compiled else network
  optimizer = torch.optim.AdamW(network.parameters(), asked.rate)
  windows = torch.from_numpy(_windows(asked, count)).long()

  def step(number):
    chosen = windows[torch.from_numpy(rows(number)[0])]
    logits = forward(chosen[:, :-1])
    loss = functional.cross_entropy(logits.flatten(0, 1), chosen[:, 1:].flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

  return step


def _torch_flow(asked: Sizes, compiled: bool) -> Callable[[int], Any]:
  """The same of flow matching."""
  import torch
  from torch import nn
  from torch.nn import functional

  torch.set_num_threads(1)
  torch.manual_seed(0)
  count = 8 * asked.batch
  rows = _batches(asked, count, 1)

  class Velocity(nn.Module):
    def __init__(self):
      super().__init__()
      inputs, layers = 64 + 32 + 11, []
      for _ in range(asked.depth):
        layers += [nn.Linear(inputs, asked.width), nn.SiLU()]
        inputs = asked.width
      self.layers = nn.Sequential(*layers, nn.Linear(inputs, 64))
      self.register_buffer("frequencies", torch.logspace(0, 2, 16))

    def forward(self, x, time, label):
      angle = time[:, None] * self.frequencies
      label = functional.one_hot(label, 11).float()
      return self.layers(torch.cat([x, angle.cos(), angle.sin(), label], -1))

  network = Velocity()
  forward = torch.compile(network) if compiled else network
  optimizer = torch.optim.Adam(network.parameters(), asked.rate)
  average = [leaf.detach().clone() for leaf in network.parameters()]
  images, labels = map(torch.from_numpy, _digits(asked, count))

  def step(number):
    chosen = torch.from_numpy(rows(number)[0])
    x, label = images[chosen], labels[chosen].long()
    time, noise = torch.rand(asked.batch), torch.randn_like(x)
    label = torch.where(torch.rand(asked.batch) < 0.1, 10, label)
    velocity = forward((1 - time[:, None]) * noise + time[:, None] * x, time, label)
    loss = (velocity - (x - noise)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    with torch.no_grad():
      torch._foreach_lerp_(average, list(network.parameters()), 0.005)

  return step


def _flax_characters(asked: Sizes):
  """(network, update rule, examples, a blank batch, loss) as tutorials of flax have it."""
  import flax.linen as nn
  import jax.numpy as jnp
  import optax

  class Characters(nn.Module):
    @nn.compact
    def __call__(self, tokens):
      embed = nn.Embed(asked.vocabulary, asked.width)
      position = self.param("position", nn.initializers.normal(0.02), (asked.context, asked.width))
      x = embed(tokens) + position[None]
      mask = nn.make_causal_mask(tokens)
      for _ in range(asked.depth):
        y = nn.LayerNorm()(x)
        x = x + nn.MultiHeadDotProductAttention(asked.heads)(y, mask=mask)
        y = nn.Dense(4 * asked.width)(nn.LayerNorm()(x))
        x = x + nn.Dense(asked.width)(nn.gelu(y))
      return embed.attend(nn.LayerNorm()(x))

  network, rule = Characters(), optax.adamw(asked.rate)
  examples = _windows(asked, 8 * asked.batch)
  blank = (jnp.zeros((1, asked.context), jnp.int32),)

  def loss(params, chosen, key):
    del key
    logits = network.apply(params, chosen[:, :-1])
    return optax.softmax_cross_entropy_with_integer_labels(logits, chosen[:, 1:]).mean()

  return network, rule, examples, blank, loss


def _flax_flow(asked: Sizes):
  """The same of flow matching."""
  import flax.linen as nn
  import jax
  import jax.numpy as jnp
  import optax

  class Velocity(nn.Module):
    @nn.compact
    def __call__(self, x, time, label):
      angle = time[:, None] * jnp.logspace(0, 2, 16)[None]
      label = jax.nn.one_hot(label, 11)
      y = jnp.concatenate([x, jnp.cos(angle), jnp.sin(angle), label], -1)
      for _ in range(asked.depth):
        y = nn.silu(nn.Dense(asked.width)(y))
      return nn.Dense(64)(y)

  network, rule = Velocity(), optax.adam(asked.rate)
  examples = _digits(asked, 8 * asked.batch)
  blank = (jnp.zeros((1, 64)), jnp.zeros(1), jnp.zeros(1, jnp.int32))

  def loss(params, chosen, key):
    x, label = chosen
    first, second, third = jax.random.split(key, 3)
    time, noise = jax.random.uniform(first, (len(x),)), jax.random.normal(second, x.shape)
    label = jnp.where(jax.random.uniform(third, (len(x),)) < 0.1, 10, label)
    found = network.apply(params, (1 - time[:, None]) * noise + time[:, None] * x, time, label)
    return jnp.square(found - (x - noise)).mean()

  return network, rule, examples, blank, loss


def _flax(name: str, asked: Sizes, lanes: bool) -> Callable[[int], Any]:
  """A step of flax and optax compiled, called in a Python loop; with `lanes` over seeds at once."""
  import jax
  import optax

  count, seeds = 8 * asked.batch, SEEDS if lanes else 1
  made = _flax_characters if name == "characters" else _flax_flow
  network, rule, examples, blank, loss = made(asked)

  def init(key):
    params = network.init(key, *blank)
    return params, rule.init(params), params, key

  def step(state, chosen):
    params, opt_state, average, key = state
    key, used = jax.random.split(key)
    updates, opt_state = rule.update(jax.grad(loss)(params, chosen, used), opt_state, params)
    params = optax.apply_updates(params, updates)
    if name == "flow":
      average = optax.incremental_update(params, average, 0.005)
    return params, opt_state, average, key

  keys = jax.random.split(jax.random.key(0), seeds)
  if lanes:
    state, compiled = jax.jit(jax.vmap(init))(keys), jax.jit(jax.vmap(step))
  else:
    state, compiled = jax.jit(init)(keys[0]), jax.jit(step)
  rows = _batches(asked, count, seeds)

  def stepped(number):
    nonlocal state
    chosen = rows(number) if lanes else rows(number)[0]
    state = jax.block_until_ready(compiled(state, jax.tree.map(lambda x: x[chosen], examples)))

  return stepped
