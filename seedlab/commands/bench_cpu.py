"""What `seedlab bench --suite=cpu` has its workers measure: seedlab, and what else trains seeds.

One description of each network (`NETWORKS`) is built in seedlab, in PyTorch and in flax, and all
train it with the same batch and update rule. Of the digits, whole runs are timed, with every
evaluation; of the large networks, steps on made-up images of CIFAR-10's size. What is measured is
CPU time of this process, without compilation.

  seedlab                 as `seedlab sweep` trains; of the large networks with their augmentation
  PyTorch, eager          one seed after another, on one thread
  PyTorch, torch.compile  the same, forward and backward compiled
  PyTorch, torch.func     `SEEDS` at once: functional_call, and vmap of grad over stacked parameters
  JAX, jit                one step compiled, called in a Python loop, as tutorials have it
  JAX, jit of vmap        the same over `SEEDS` seeds

The others get images that are normalised already, and no augmentation.
"""

import functools
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from seedlab import data as datasets
from seedlab import engine, training
from seedlab.changes import changed
from seedlab.commands import bench_tasks
from seedlab.studies.seeds import settings

SEEDS = {"digits": 16, "digits_mlp": 16, "picard": 2, "resnet9": 2}  # at once, of an ensemble
_BATCH = 50  # of the large networks
_PATIENCE = 10.0  # CPU seconds of a rival's run


class Network(NamedTuple):
  """A network as layers in order, each a name and its numbers; see `_torch_network`."""

  layers: tuple[Any, ...]
  norm: bool = False  # batch norm behind convolutions, which then have no bias
  celu: float | None = None  # its alpha; None is ReLU
  factor: float = 1.0  # of the logits
  nesterov: bool = False
  decay: float = 0.0
  smoothing: float = 0.0


def _residual(features: int) -> tuple[Any, ...]:
  return ("residual", ("unit", features, 3, 1, 1), ("unit", features, 3, 1, 1))


def network(name: str, small: bool) -> Network:
  """The networks of the configs digits, digits_mlp, seeds/picard and cifar10_resnet9."""
  layers: tuple[Any, ...]
  if name == "digits_mlp":
    width = 16 if small else 64
    return Network((("flatten",), ("linear", width), ("activation",), ("linear", 10)))
  if name == "digits":
    w = 8 if small else 16
    layers = (("unit", w, 3, 1, 1), ("unit", 2 * w, 3, 2, 1), ("flatten",), ("linear", 10))
    return Network(layers)
  w = 4 if small else 64
  if name == "picard":
    layers = (
      ("unit", w, 3, 1, 1), ("pool",), ("unit", 2 * w, 3, 1, 1), ("pool",), _residual(2 * w),
      ("unit", 4 * w, 3, 1, 1), ("pool",), ("unit", 4 * w, 3, 1, 1), ("pool",), _residual(4 * w),
      ("maximum",), ("output", 10),
    )  # fmt: skip
    return Network(layers, True, 0.1, 0.1, nesterov=True, decay=1e-3, smoothing=0.4 / 3)
  layers = (
    ("unit", w, 3, 1, 1), ("unit", 2 * w, 5, 2, 2), _residual(2 * w), ("unit", 4 * w, 3, 1, 1),
    ("pool",), _residual(4 * w), ("unit", 2 * w, 3, 1, 0), ("maximum",), ("output", 10),
  )  # fmt: skip
  return Network(layers, True, None, 0.2, decay=5e-4)


def seconds(rival: str, name: str, small: bool) -> float:
  """CPU seconds of one seed's run of digits, or of one seed's step of a large network.

  The first call of a process compiles; it is to be left out. A rival's run that takes too long is
  cut, and what is left of it is taken to be as fast.
  """
  advance, seeds = _advance(rival, name, small)
  started = time.process_time()
  share = advance()
  return (time.process_time() - started) / (share * seeds)


@functools.lru_cache(maxsize=4)
def _advance(rival: str, name: str, small: bool) -> tuple[Callable[[], float], int]:
  """(what does a run, or a step, of so many seeds and says which share of it; how many)."""
  if rival == "seedlab":
    return _seedlab(name, small)
  train, test, recipe = _examples(name, small)
  rivals: dict[str, Callable[..., Any]] = {
    "PyTorch, eager": functools.partial(_torch_seed, compiled=False),
    "PyTorch, torch.compile": functools.partial(_torch_seed, compiled=True),
    "PyTorch, torch.func": _torch_ensemble,
    "JAX, jit": functools.partial(_flax, lanes=False),
    "JAX, jit of vmap": functools.partial(_flax, lanes=True),
  }
  build = rivals[rival]
  seeds = 1 if rival in ("JAX, jit", "PyTorch, eager", "PyTorch, torch.compile") else SEEDS[name]
  fresh, step, evaluate = build(network(name, small), recipe, train, test, seeds)
  if not recipe.steps:
    state = fresh(0)
    rows = np.arange(recipe.batch)[None].repeat(seeds, 0)

    def one_step() -> float:
      nonlocal state
      state = step(state, rows)
      return 1.0

    return one_step, seeds

  def one_run() -> float:
    trained, started = fresh(0), time.process_time()
    for at, rows in enumerate(_orders(recipe, len(train[1]), seeds), start=1):
      trained = step(trained, rows)
      if at % recipe.every == 0:
        accuracy = evaluate(trained)
      if time.process_time() - started > _PATIENCE and at < recipe.steps:
        return at / recipe.steps
    if not small and accuracy < 0.9:
      raise RuntimeError(f"{rival} learns {name} to an accuracy of {accuracy:.2f} alone")
    return 1.0

  return one_run, seeds


class _Recipe(NamedTuple):
  batch: int
  rate: float
  steps: int  # of a run; 0 where steps are timed
  every: int  # steps between evaluations


def _orders(recipe: _Recipe, examples: int, seeds: int) -> Iterator[np.ndarray]:
  """int[seeds, batch] for each step: every seed in an order of its own."""
  random = np.random.default_rng(0)
  epoch = examples // recipe.batch
  for step in range(recipe.steps):
    if step % epoch == 0:
      order = np.stack([random.permutation(examples) for _ in range(seeds)])
    place = step % epoch * recipe.batch
    yield order[:, place : place + recipe.batch]


def _examples(name: str, small: bool):
  """((images float32[N, H, W, C], labels int32[N]) to train on and to test on, the recipe)."""
  if not name.startswith("digits"):
    random = np.random.default_rng(0)
    batch = 4 if small else _BATCH
    images = random.normal(size=(4 * batch, 32, 32, 3)).astype(np.float32)
    labels = random.integers(0, 10, 4 * batch).astype(np.int32)
    return (images, labels), (images, labels), _Recipe(batch, 0.01, 0, 1)
  config = bench_tasks._config(name, small)
  dataset = datasets.read(config.data).dataset
  train, test = (
    ((images.astype(np.float32) - dataset.mean) / dataset.std, np.asarray(labels))
    for images, labels in (
      (dataset.train_image, dataset.train_label),
      (dataset.test_image, dataset.test_label),
    )
  )
  batch = config.training.batch_size
  epoch = len(train[1]) // batch
  every = round(config.evaluation.every_epochs * epoch)
  steps = config.training.epochs * epoch
  return train, test, _Recipe(batch, config.optimizer.learning_rate, steps, every)


def _seedlab(name: str, small: bool) -> tuple[Callable[[], float], int]:
  if name.startswith("digits"):
    program = bench_tasks._program(name, small)
    runs = max(program.width, 1 if small else 4)

    def train() -> float:
      engine.train(program, bench_tasks._seeds(runs))
      return 1.0

    return train, runs
  program = engine.build(_on_noise(name, small), "loop")
  seeds, number = bench_tasks._seeds(1), 0
  state = engine._start(program, seeds)

  def steps() -> float:  # two, so that they are in a loop
    nonlocal state, number
    state, bad = engine._advance(program, state, seeds, None, number, 2)
    np.asarray(bad)
    number = (number + 2) % 4
    return 2.0

  return steps, 1


def _on_noise(name: str, small: bool):
  """The Trainer of a published protocol on made-up images, at the batch of the others."""
  batch, width = (4, 4) if small else (_BATCH, 64)
  if name == "resnet9":
    return bench_tasks._resnet9("auto", width, batch, 4 * batch, 100, "float32")
  asked = {"training.batch_size": batch, "model.width": width, "data.chunk": None}
  dataset = bench_tasks._noise_images(4 * batch, 32, 3)
  return training.on_dataset(changed(settings.config("paper", "picard"), asked), dataset, 10)


def _torch_network(described: Network, shape: tuple[int, ...], track: bool = True):
  """A torch.nn.Module of images [B, C, H, W]; `track`: whether batch norm keeps running moments."""
  import torch
  from torch import nn

  class Residual(nn.Sequential):
    def forward(self, x):
      return x + super().forward(x)

  class Maximum(nn.Module):
    def forward(self, x):
      return x.amax((2, 3))

  class Scaled(nn.Linear):
    def forward(self, x):
      return described.factor * super().forward(x)

  def activation():
    return nn.CELU(described.celu) if described.celu else nn.ReLU()

  def build(layers, channels):
    made = []
    for kind, *numbers in layers:
      if kind == "unit":
        features, size, stride, padding = numbers
        made.append(nn.LazyConv2d(features, size, stride, padding, bias=not described.norm))
        if described.norm:
          made.append(nn.BatchNorm2d(features, track_running_stats=track))
        made.append(activation())
      elif kind == "residual":
        made.append(Residual(*build(numbers, channels)))
      elif kind == "linear":
        made.append(nn.LazyLinear(*numbers))
      elif kind == "output":  # behind the last unit, outside the residual branches
        features = next(x[1] if x[0] == "unit" else x[1][1] for x in reversed(layers)
                        if x[0] in ("unit", "residual"))  # fmt: skip
        made.append(Scaled(features, *numbers, bias=False))
      else:
        pool = functools.partial(nn.MaxPool2d, 2)
        others = {"flatten": nn.Flatten, "activation": activation, "pool": pool, "maximum": Maximum}
        made.append(others[kind]())
    return made

  whole = nn.Sequential(*build(described.layers, shape[-1]))
  whole(torch.zeros(2, shape[-1], *shape[:2]))  # lazy layers learn their sizes
  return whole


def _torch_examples(examples):
  import torch

  images, labels = examples
  return (
    torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(),
    torch.from_numpy(np.array(labels)).long(),
  )


def _torch_seed(described, recipe, train, test, seeds, compiled):
  """One seed as a PyTorch user trains it."""
  import torch

  torch.set_num_threads(1)
  del seeds
  (images, labels), (test_images, test_labels) = _torch_examples(train), _torch_examples(test)
  loss = torch.nn.CrossEntropyLoss(label_smoothing=described.smoothing)
  shape = train[0].shape[1:]
  if compiled:  # one compiled function for all seeds, which a new module would compile again
    shared = _torch_network(described, shape)
    forward = torch.compile(shared)

  def fresh(seed: int):
    torch.manual_seed(seed)
    made = _torch_network(described, shape)
    if compiled:
      shared.load_state_dict(made.state_dict())
      made = shared
    optimizer = torch.optim.SGD(
      made.parameters(), recipe.rate, 0.9, nesterov=described.nesterov, weight_decay=described.decay
    )
    last = max(1, recipe.steps)
    schedule = torch.optim.lr_scheduler.LambdaLR(
      optimizer, lambda at: 1 - at / last if recipe.steps else 1.0
    )
    return made, optimizer, schedule

  def step(state, rows):
    made, optimizer, schedule = state
    call = forward if compiled else made
    chosen = torch.from_numpy(rows[0])
    optimizer.zero_grad()
    loss(call(images[chosen]), labels[chosen]).backward()
    optimizer.step()
    schedule.step()
    return state

  def evaluate(state) -> float:
    made = state[0]
    with torch.no_grad():
      return (made(test_images).argmax(1) == test_labels).float().mean().item()

  return fresh, step, evaluate


def _torch_ensemble(described, recipe, train, test, seeds):
  """As PyTorch's tutorial on model ensembling: stacked parameters, vmap of grad of one's loss.

  Its batch norm keeps no running moments, which vmap cannot change in place.
  """
  import torch
  from torch.func import functional_call, grad, stack_module_state, vmap

  torch.set_num_threads(1)
  (images, labels), (test_images, test_labels) = _torch_examples(train), _torch_examples(test)
  shape = train[0].shape[1:]
  base = _torch_network(described, shape, track=False)

  def loss(params, x, y):
    logits = functional_call(base, params, (x,))
    return torch.nn.functional.cross_entropy(logits, y, label_smoothing=described.smoothing)

  gradients = vmap(grad(loss))
  predict = vmap(lambda params, x: functional_call(base, params, (x,)), (0, None))

  def fresh(seed: int):
    torch.manual_seed(seed)
    made = [_torch_network(described, shape, track=False) for _ in range(seeds)]
    params = {name: leaf.detach() for name, leaf in stack_module_state(made)[0].items()}
    return params, {name: torch.zeros_like(leaf) for name, leaf in params.items()}, 0

  def step(state, rows):
    params, momentum, number = state
    rate = recipe.rate * (1 - number / recipe.steps if recipe.steps else 1)
    chosen = torch.from_numpy(rows)
    found = gradients(params, images[chosen], labels[chosen])
    with torch.no_grad():
      for name, leaf in params.items():
        g = found[name].add(leaf, alpha=described.decay) if described.decay else found[name]
        momentum[name].mul_(0.9).add_(g)
        if described.nesterov:
          g = g.add(momentum[name], alpha=0.9)
        leaf.sub_(g if described.nesterov else momentum[name], alpha=rate)
    return params, momentum, number + 1

  def evaluate(state) -> float:
    with torch.no_grad():
      right = predict(state[0], test_images).argmax(-1) == test_labels
      return right.float().mean(1).min().item()

  return fresh, step, evaluate


def _flax_network(described: Network):
  """A flax.linen module with flax's own layers, as tutorials have it; images [B, H, W, C]."""
  import flax.linen as nn
  import jax

  def activation(x):
    return jax.nn.celu(x, described.celu) if described.celu else jax.nn.relu(x)

  class Whole(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool = True):
      def run(layers, x):
        for kind, *numbers in layers:
          if kind == "unit":
            features, size, stride, padding = numbers
            x = nn.Conv(features, (size, size), stride, padding, use_bias=not described.norm)(x)
            if described.norm:
              x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
            x = activation(x)
          elif kind == "residual":
            x = x + run(numbers, x)
          elif kind == "linear":
            x = nn.Dense(*numbers)(x)
          elif kind == "output":
            x = described.factor * nn.Dense(*numbers, use_bias=False)(x)
          elif kind == "pool":
            x = nn.max_pool(x, (2, 2), (2, 2))
          elif kind == "maximum":
            x = x.max((1, 2))
          else:
            x = activation(x) if kind == "activation" else x.reshape(len(x), -1)
        return x

      return run(described.layers, x)

  return Whole()


def _flax(described, recipe, train, test, seeds, lanes):
  """flax and optax, one step compiled, called in a Python loop; with `lanes` over seeds at once."""
  import jax
  import jax.numpy as jnp
  import optax

  module = _flax_network(described)
  rate = optax.linear_schedule(recipe.rate, 0, recipe.steps) if recipe.steps else recipe.rate
  rule = optax.sgd(rate, 0.9, described.nesterov)
  if described.decay:
    rule = optax.chain(optax.add_decayed_weights(described.decay), rule)
  images, labels = train

  def init(key):
    variables = module.init(key, jnp.zeros((1, *images.shape[1:])))
    params, moments = variables["params"], variables.get("batch_stats", {})
    return params, moments, rule.init(params)

  def step(state, x, y):
    params, moments, opt_state = state

    def loss(params):
      logits, changed = module.apply(
        {"params": params, "batch_stats": moments}, x, mutable=["batch_stats"]
      )
      targets = optax.smooth_labels(jax.nn.one_hot(y, 10), described.smoothing)
      return optax.softmax_cross_entropy(logits, targets).mean(), changed.get("batch_stats", {})

    gradient, moments = jax.grad(loss, has_aux=True)(params)
    updates, opt_state = rule.update(gradient, opt_state, params)
    return optax.apply_updates(params, updates), moments, opt_state

  def accuracy(state, x, y):
    logits = module.apply({"params": state[0], "batch_stats": state[1]}, x, False)
    return (logits.argmax(-1) == y).mean()

  if lanes:
    init, step = jax.vmap(init), jax.vmap(step)
    accuracy = jax.vmap(accuracy, (0, None, None))
  init, step, accuracy = jax.jit(init), jax.jit(step), jax.jit(accuracy)

  def fresh(seed: int):
    keys = jax.random.split(jax.random.key(seed), seeds)
    return init(keys if lanes else keys[0])

  def stepped(state, rows):
    rows = rows if lanes else rows[0]
    return jax.block_until_ready(step(state, images[rows], labels[rows]))

  return fresh, stepped, lambda state: float(jnp.min(accuracy(state, *test)))
