"""What `bench.py` has its worker processes measure: functions of JSON, answering JSON."""

import dataclasses
import functools
import importlib.util
import itertools
import math
import os
import pathlib
import resource
import statistics
import subprocess
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
import zarr

from seedlab import config, engine, host, metrics, records, streams, training
from seedlab.config import (
  STREAMS,
  Config,
  Data,
  Evaluation,
  Gradient,
  Model,
  Optimizer,
  Training,
)
from seedlab.data import Dataset, load, movielens, worlds

_MOVIELENS = {"width": 64, "depth": 2, "embedding": 16}
MOVIELENS_BATCH = 512
_CONFIGS = pathlib.Path(__file__).parent.parent / "configs"


def seedlab_seconds(name: str, runs: int, small: bool) -> float:
  """Seconds of one run of configs/NAME.py, over `runs` of them in this process."""
  program = _program(name, small)
  runs = max(runs, program.width)
  return engine.train(program, _seeds(runs)).seconds / runs


def resident_memory(few: int, many: int) -> tuple[float, float]:
  """MiB of this process after `few` and after `many` runs of the small MLP."""
  program = _program("digits_mlp", True)
  engine.train(program, _seeds(few))
  before = _resident()
  engine.train(program, _seeds(many))
  return before, _resident()


def resnet9_step(lowering: str, repeats: int, small: bool) -> tuple[float, float]:
  """Seconds of a ResNet-9 training step on 32x32 pictures: in a compiled loop, and alone."""
  import jax
  import jax.numpy as jnp

  steps, batch, width = (2, 4, 4) if small else (4, 50, 64)
  trainer = _resnet9(lowering, width, batch, examples=4 * batch, steps=100, precision="float32")
  program = engine.build(trainer, "loop")
  seeds = _seeds(1)[0]
  data = program.data
  keys = training.streams.derive(jnp.asarray(seeds))

  def advance(state, steps):
    return trainer.advance(state, keys, data, None, 0, steps)[0]

  in_loop = jax.jit(advance)
  # A trip count of one, known when compiling: XLA drops the loop and leaves the bare step.
  alone = jax.jit(functools.partial(advance, steps=1))
  state = program.init(training.streams.split(seeds), data)
  times = {"loop": [], "alone": []}
  for _ in range(1 + repeats):
    started = time.perf_counter()
    jax.block_until_ready(in_loop(state, jnp.int32(steps)))
    times["loop"].append((time.perf_counter() - started) / steps)
    started = time.perf_counter()
    for _ in range(steps):
      jax.block_until_ready(alone(state))
    times["alone"].append((time.perf_counter() - started) / steps)
  return statistics.median(times["loop"][1:]), statistics.median(times["alone"][1:])


def torch_seconds(name: str, runs: int, small: bool) -> float:
  """Seconds of one run of the same network, batch and steps in eager PyTorch on one thread."""
  import torch

  torch.set_num_threads(1)
  cfg = _config(name, small)
  dataset = load(cfg.data)

  def tensors(images, labels):
    images = (images.astype(np.float32) - dataset.mean) / dataset.std
    pictures = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    return pictures, torch.from_numpy(np.array(labels)).long()

  train = tensors(dataset.train_image, dataset.train_label)
  test = tensors(dataset.test_image, dataset.test_label)
  started = time.perf_counter()
  for run in range(runs):
    torch.manual_seed(run)
    accuracy = _torch_train(_torch_network(cfg.model), train, test, cfg)
    assert small or accuracy > 0.9, accuracy
  return (time.perf_counter() - started) / runs


def matmul_ceilings(small: bool) -> dict[str, float]:
  """TFLOP/s of a large matrix product, by the precision names of the configs."""
  import jax
  import jax.numpy as jnp

  size = 256 if small else 8192
  found = {}
  for precision in ("float32", "bfloat16"):
    x = jax.random.normal(jax.random.key(0), (size, size), jnp.float32).astype(precision)
    product = jax.jit(lambda x: x @ x)
    jax.block_until_ready(product(x))
    times = []
    for _ in range(5):
      started = time.perf_counter()
      jax.block_until_ready(product(x))
      times.append(time.perf_counter() - started)
    found[precision] = 2 * size**3 / statistics.median(times) / 1e12
  return found


def gpu_cases(small: bool) -> list[tuple[str, str, str, int]]:
  """(network, lowering, precision, width), the widest and most telling first."""
  widths = (2, 1) if small else (64, 16, 1, 32, 8, 4, 2)
  kinds = itertools.product(("digits", "resnet9"), ("patches", "native"), ("float32", "bfloat16"))
  return [(*kind, width) for width, kind in itertools.product(widths, list(kinds))]


def gpu_speed(network: str, lowering: str, precision: str, width: int, small: bool) -> dict:
  """Speed and memory of `width` lanes; runs/h are of the whole recipe on this device."""
  program = _gpu_program(network, lowering, precision, width, small)
  step, evaluation = engine.speed(program, 1.0)
  plan = program.trainer.plan
  hours = (step * plan[-1] + evaluation * len(plan)) / 3600
  return {
    "ms/step": 1e3 * step,
    "runs/h": width / hours,
    "TFLOP/s": program.costs["flops_step"] * width / step / 1e12,
    "GiB": (program.costs["bytes_lane"] * width + program.costs["bytes_shared"]) / 2**30,
  }


def gpu_digests(small: bool) -> list[str]:
  """Digests of a few short runs, to be compared between processes."""
  found = []
  for network, precision in itertools.product(("digits", "resnet9"), ("float32", "bfloat16")):
    program = _gpu_program(network, "auto", precision, 2, small, steps=20)
    found += [digest.decode() for digest in engine.train(program, _seeds(2)).digest]
  return found


@functools.lru_cache(maxsize=2)
def _program(name: str, small: bool) -> engine.Program:
  host.use_compilation_cache()
  return engine.build(training.make_trainer(_config(name, small)))


def _gpu_program(network, lowering, precision, width, small, steps=None) -> engine.Program:
  if network == "digits":
    cfg = _config("digits", small)
    model = {"convolution": lowering, "precision": precision}
    values = config.to_dict(cfg)
    values["model"] |= model
    values["training"]["steps"] = steps
    trainer = training.make_trainer(values)
  else:
    batch, channels = (4, 4) if small else (500, 64)
    examples = 10 * batch if small else 50_000
    trainer = _resnet9(lowering, channels, batch, examples, steps or 6_400, precision)
  return engine.build(trainer, "vmap", width)


def _resnet9(lowering, width, batch, examples, steps, precision) -> training.Trainer:
  """Jordan's recipe on made-up pictures of CIFAR-10's size, evaluated once."""
  random = np.random.default_rng(0)

  def pictures(count):
    return random.integers(0, 256, (count, 32, 32, 3), np.uint8)

  def labels(count):
    return random.integers(0, 10, count).astype(np.int32)

  test = examples // 5
  dataset = Dataset(
    pictures(examples), labels(examples), pictures(test), labels(test),
    np.full(3, 127.0, np.float32), np.full(3, 64.0, np.float32),
  )  # fmt: skip
  cfg = Config(
    data=Data(name="cifar10", flip=True, crop=2, cutout=12),
    model=Model(
      name="resnet9", width=width, norm="batch", convolution=lowering, precision=precision
    ),
    optimizer=Optimizer(learning_rate=0.5, weight_decay=5e-4),
    training=Training(batch_size=batch, steps=steps),
    evaluation=Evaluation(every_epochs=1e6),
  )
  return training.on_dataset(cfg, dataset, 10)


def _config(name: str, small: bool, scale: str = "laptop") -> Config:
  spec = importlib.util.spec_from_file_location(f"config_{name}", _CONFIGS / f"{name}.py")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return config.parse(module.get_config("smoke" if small else scale))


def _seeds(runs: int) -> np.ndarray:
  return np.arange(runs, dtype=np.uint32)[:, None].repeat(len(STREAMS), axis=1)


def _resident() -> float:
  return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


def _torch_network(model: Model):
  """`cnn` on 8x8 pictures, or `mlp`, layer for layer."""
  from torch import nn

  if model.name == "mlp":
    return nn.Sequential(
      nn.Flatten(), nn.Linear(64, model.width), nn.ReLU(), nn.Linear(model.width, 10)
    )
  return nn.Sequential(
    nn.Conv2d(1, model.width, 3, padding=1),
    nn.ReLU(),
    nn.Conv2d(model.width, 2 * model.width, 3, stride=2, padding=1),
    nn.ReLU(),
    nn.Flatten(),
    nn.Linear(16 * 2 * model.width, 10),
  )


def _torch_train(network, train, test, cfg: Config) -> float:
  """The recipe as a PyTorch user writes it; returns the last test accuracy."""
  import torch

  (images, labels), (test_images, test_labels) = train, test
  batch, epochs = cfg.training.batch_size, cfg.training.epochs
  epoch_steps = len(labels) // batch
  rate, momentum = cfg.optimizer.learning_rate, cfg.optimizer.momentum
  optimizer = torch.optim.SGD(network.parameters(), rate, momentum)
  steps = epochs * epoch_steps
  schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
  loss, accuracy = torch.nn.CrossEntropyLoss(), 0.0
  for epoch in range(epochs):
    order = torch.randperm(len(labels))
    for rows in order[: epoch_steps * batch].split(batch):
      optimizer.zero_grad()
      loss(network(images[rows]), labels[rows]).backward()
      optimizer.step()
      schedule.step()
    if (epoch + 1) % cfg.evaluation.every_epochs == 0:
      with torch.no_grad():
        right = network(test_images).argmax(1) == test_labels
        accuracy = right.float().mean().item()
  return accuracy


def made_up_store(out: pathlib.Path, runs: int, examples: int, seed: int) -> None:
  """A finished sweep of networks that err on 5 to 8 % of ten classes, most on the same examples."""
  out.mkdir()
  rng, chunk = np.random.default_rng(seed), 250
  label = np.random.default_rng(0).integers(0, 10, examples).astype(np.int32)
  hard = np.random.default_rng(1).beta(0.1, 1.5, examples)
  seeds = np.arange(runs, dtype=np.uint32)[:, None].repeat(len(STREAMS), 1)
  records.create(
    out,
    runs=range(runs),
    seeds=seeds,
    plan=[100, 200, 300],
    outcome={
      "test_accuracy": (("evaluation",), (3,), "<f4"),
      "predicted_label": (("example",), (examples,), "|u1"),
    },
    coords={"label": ("example", label)},
    chunk=chunk,
    attributes={"metrics": ["test_accuracy"], "vary": list(STREAMS), "fingerprints": [{}]},
  )
  writer = records.Writer(out)
  for first in range(0, runs, chunk):
    rows = np.arange(first, min(first + chunk, runs))
    wrong = rng.random((len(rows), examples)) < hard * rng.normal(1, 0.05, (len(rows), 1))
    predicted = ((label + wrong * rng.integers(1, 4, wrong.shape)) % 10).astype(np.uint8)
    accuracy = 1 - (predicted != label).mean(1, dtype=np.float64).astype(np.float32)
    writer.write(
      rows,
      {
        "test_accuracy": np.stack([accuracy / 2, accuracy * 0.9, accuracy], 1),
        "predicted_label": predicted,
        "digest": np.array([f"{row:064x}" for row in rows], "S64"),
        "diverged": np.full(len(rows), -1),
        "seconds": np.full(len(rows), 1.0, np.float32),
        "fingerprint": np.zeros(len(rows), np.int32),
      },
    )


def seconds_and_memory(command: list[str]) -> tuple[float, float]:
  """Wall-clock seconds and peak resident memory (MiB) of a command; raises if it fails."""
  started = time.perf_counter()
  process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
  _, status, usage = os.wait4(process.pid, 0)
  if status:
    raise RuntimeError(f"{command} ended with {status}")
  return time.perf_counter() - started, usage.ru_maxrss / 1024


def full_batch_costs(repeats: int, small: bool) -> dict[str, float]:
  """CPU seconds of as many blocks: as minibatch steps, as a full-batch step, with each penalty."""
  pool = 96 if small else 1920
  base = Config(
    data=Data(order="sequential", crop=1),
    model=Model(name="cnn", width=8, norm="batch"),
    optimizer=Optimizer(schedule="constant", nesterov=True, weight_decay=5e-4),
    training=Training(batch_size=32, steps=10**6),
  )
  whole = Training(full_batch=True, steps=10**6)
  configs = {"minibatch": base}
  for form in ("none", "forward", "central", "exact"):
    gradient = Gradient(block_size=32, clip_norm=0.25)
    if form != "none":
      gradient = dataclasses.replace(gradient, penalty=0.5, penalty_form=form)
    configs[form] = dataclasses.replace(base, training=whole, gradient=gradient)
  programs = {
    name: _advance(config, _noise_pictures(pool, 8, 1)) for name, config in configs.items()
  }
  found = dict.fromkeys(programs, math.inf)
  for _ in range(repeats):
    for name, (advance, _) in programs.items():
      started = time.process_time()
      advance(pool // 32 if name == "minibatch" else 1)
      found[name] = min(found[name], time.process_time() - started)
  return found


def full_batch_memory(small: bool) -> list[tuple[str, float]]:
  """MiB of temporary memory of a penalised full-batch step, by size of the pool."""
  found = []
  for examples, copies in ((500, None), (1000, 4)) if small else (
    (1_000, None), (10_000, None), (50_000, None), (50_000, 40),
  ):  # fmt: skip
    config = Config(
      data=Data(order="permutation", crop=4, flip=True, copies=copies),
      model=Model(name="cnn", width=16, norm="batch"),
      optimizer=Optimizer(schedule="constant"),
      training=Training(full_batch=True, steps=100),
      gradient=Gradient(block_size=125, penalty=0.5, clip_norm=0.25),
    )
    _, compiled = _advance(config, _noise_pictures(examples, 32, 3))
    name = f"{examples:,} pictures" + f" x {copies} copies" * bool(copies)
    found.append((name, compiled.memory_analysis().temp_size_in_bytes / 2**20))
  return found


def compile_seconds(name: str, small: bool) -> dict[str, float]:
  """Seconds to compile the first weights and a training step of batch 32, and of one such step."""
  config = Config(
    model=Model(name=name, width=8 if small else 64, norm="batch"),
    optimizer=Optimizer(schedule="constant"),
    training=Training(batch_size=4 if small else 32, steps=2),
    evaluation=Evaluation(batch_size=10),
  )
  trainer = training.on_dataset(config, _noise_pictures(64, 32, 3), 10)
  data, keys = jax.device_put(trainer.load()), _keys()
  jax.config.update("jax_enable_compilation_cache", False)
  started = time.perf_counter()
  state = jax.block_until_ready(jax.jit(trainer.init)(keys, data))
  weights = time.perf_counter() - started
  lowered = jax.jit(trainer.advance).lower(state, keys, data, None, jnp.int32(0), jnp.int32(1))
  started = time.perf_counter()
  advance = lowered.compile()
  step = time.perf_counter() - started
  seconds = []
  for _ in range(2):
    started = time.perf_counter()
    jax.block_until_ready(advance(state, keys, data, None, np.int32(0), np.int32(1)))
    seconds.append(time.perf_counter() - started)
  return {"weights": weights, "compile": step, "step": min(seconds)}


def draw_seconds(world: str, repeats: int, small: bool) -> float:
  """Seconds to draw one example of a world in a compiled loop of batches of 128."""
  batch, rounds = (4, 2) if small else (128, 64)
  sample = worlds.by_name(world, None, {}).sample

  @jax.jit
  def draw(key):
    def body(number, total):
      image, label = sample(key, number * batch + jnp.arange(batch, dtype=jnp.int32))
      return total + image.sum(dtype=jnp.int32) + label.sum()

    return jax.lax.fori_loop(0, rounds, body, jnp.int32(0))

  key, seconds = _keys().sample, []
  jax.block_until_ready(draw(key))
  for _ in range(repeats):
    started = time.perf_counter()
    jax.block_until_ready(draw(key))
    seconds.append((time.perf_counter() - started) / (rounds * batch))
  return min(seconds)


def movielens_step(lanes: int, small: bool) -> tuple[float, float]:
  """Seconds of a training step of one of `lanes` networks of MovieLens, and MiB of a lane."""
  program = _movielens(lanes, small)
  # So long that drawing the order of an epoch has its usual share.
  seconds, _ = engine.speed(program, 0.1 if small else 3.0)
  return seconds / lanes, program.costs["bytes_lane"] / 2**20


@functools.cache
def _movielens(lanes: int, small: bool) -> engine.Program:
  steps = 4 if small else 10_000
  cfg = Config(
    data=Data(name=movielens.NAME),
    model=Model(name="ctr", **_MOVIELENS),
    optimizer=Optimizer(name="adam", learning_rate=1e-3, schedule="constant"),
    training=Training(batch_size=8 if small else MOVIELENS_BATCH, steps=steps),
    evaluation=Evaluation(every_steps=steps),
  )
  trainer = training.on_dataset(cfg, _made_up_ratings(small), 2, fields=movielens.FIELDS)
  return engine.build(trainer, "vmap", lanes)


def torch_movielens_step(small: bool) -> float:
  """Seconds of such a step in eager PyTorch on one thread."""
  import torch
  from torch import nn

  torch.set_num_threads(1)
  dataset = _made_up_ratings(small)
  batch = 8 if small else MOVIELENS_BATCH
  width, size = _MOVIELENS["width"], _MOVIELENS["embedding"]
  inputs = size * len(movielens.FIELDS)

  class Network(nn.Module):
    def __init__(self):
      super().__init__()
      # A row of zeros behind a bag's table stands for what a film has no more of.
      self.tables = nn.ModuleList(
        nn.Embedding(field.buckets, size)
        if field.columns == 1
        else nn.EmbeddingBag(field.buckets + 1, size, mode="mean", padding_idx=field.buckets)
        for field in movielens.FIELDS
      )
      self.hidden = nn.Sequential(
        nn.Linear(inputs, width),
        nn.ReLU(),
        nn.Linear(width, width // 2),
        nn.ReLU(),
        nn.Linear(width // 2, 1),
      )

    def forward(self, rows):
      ends = np.cumsum([field.columns for field in movielens.FIELDS])
      parts = [
        table(rows[:, end - 1] if field.columns == 1 else rows[:, end - field.columns : end])
        for field, table, end in zip(movielens.FIELDS, self.tables, ends, strict=True)
      ]
      return self.hidden(torch.cat(parts, 1))[:, 0]

  padded = np.where(dataset.train_image < 0, movielens.FIELDS[-1].buckets, dataset.train_image)
  rows = torch.from_numpy(padded.astype(np.int64))
  labels = torch.from_numpy(dataset.train_label.astype(np.float32))
  network, loss = Network(), nn.BCEWithLogitsLoss()
  optimizer = torch.optim.Adam(network.parameters(), 1e-3)
  found = []
  for _ in range(2):  # epochs
    order = torch.randperm(len(labels))
    batches = order[: len(order) // batch * batch].split(batch)
    started = time.perf_counter()
    for numbers in batches:
      optimizer.zero_grad()
      loss(network(rows[numbers]), labels[numbers]).backward()
      optimizer.step()
    found.append((time.perf_counter() - started) / len(batches))
  return min(found)


def picard_step(small: bool) -> float:
  """CPU seconds of a training step of Picard's network, augmentation included."""
  advance, steps = _picard(small), 1 if small else 2
  started = time.process_time()
  advance(steps)
  return (time.process_time() - started) / steps


@functools.cache
def _picard(small: bool) -> Callable[[int], None]:
  cfg = _picard_config(small)
  advance, _ = _advance(cfg, _noise_pictures(4 * cfg.training.batch_size, 16 if small else 32, 3))
  advance(1)
  return advance


def _picard_config(small: bool) -> Config:
  cfg = _config("seeds/picard", small, "paper")
  batch = 4 if small else 50
  return config.changed(cfg, {"training.batch_size": batch, "data.train_examples": None})


def torch_picard_step(small: bool) -> float:
  """CPU seconds of such a step in eager PyTorch on one thread, on pictures ready to use."""
  import torch

  torch.set_num_threads(1)
  step = _torch_picard(small)
  steps = 1 if small else 2
  started = time.process_time()
  for _ in range(steps):
    step()
  return (time.process_time() - started) / steps


@functools.cache
def _torch_picard(small: bool):
  import torch
  from torch import nn

  cfg = _picard_config(small)
  w, side, batch = cfg.model.width, 16 if small else 32, cfg.training.batch_size

  def unit(inputs, features):
    conv = nn.Conv2d(inputs, features, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(features), nn.CELU(0.1))

  class Residual(nn.Module):
    def __init__(self, features):
      super().__init__()
      self.branch = nn.Sequential(unit(features, features), unit(features, features))

    def forward(self, x):
      return x + self.branch(x)

  network = nn.Sequential(
    unit(3, w), nn.MaxPool2d(2), unit(w, 2 * w), nn.MaxPool2d(2), Residual(2 * w),
    unit(2 * w, 4 * w), nn.MaxPool2d(2), unit(4 * w, 4 * w), nn.MaxPool2d(2), Residual(4 * w),
    nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(4 * w, 10, bias=False),
  )  # fmt: skip
  settings = cfg.optimizer
  optimizer = torch.optim.SGD(
    network.parameters(), settings.learning_rate, momentum=settings.momentum,
    weight_decay=settings.weight_decay, nesterov=settings.nesterov,
  )  # fmt: skip
  images, labels = torch.randn(batch, 3, side, side), torch.arange(batch) % 10
  plain, smooth = nn.CrossEntropyLoss(), nn.CrossEntropyLoss(label_smoothing=0.2)

  def step():
    optimizer.zero_grad()
    logits = 0.1 * network(images)
    (plain(logits, labels) + 2 * smooth(logits, labels)).backward()
    optimizer.step()

  step()  # the first one allocates
  return step


def _made_up_ratings(small: bool) -> Dataset:
  """Rows of MovieLens's size and columns; a film has two genres."""
  rng, count = np.random.default_rng(0), 64 if small else 80_000
  parts = [rng.integers(0, field.buckets, (count, field.columns)) for field in movielens.FIELDS]
  parts[-1][:, 2:] = -1
  rows = np.concatenate(parts, 1).astype(np.int32)
  label = rng.integers(0, 2, count).astype(np.int32)
  none = np.zeros(0, np.float32)
  return Dataset(rows, label, rows[:1000], label[:1000], none, none)


def world_step(world: str, repeats: int, small: bool) -> float:
  """Seconds of a training step of batch 32 of the MLP 3 x 128 on 16x16 glyphs."""
  steps = 8 if small else 400
  program = engine.build(training.make_trainer(_glyphs(world, 1000, 16, steps)), "loop")
  return min(engine.speed(program, 0.2)[0] for _ in range(repeats))


def world_memory(world: str, small: bool) -> float:
  """MiB that this process holds more, after training on 50,000 or on endlessly many glyphs."""
  examples, steps = (64, 4) if small else (50_000, 300)
  program = engine.build(training.make_trainer(_glyphs(world, examples, 32, steps)), "loop")
  before = _resident()
  engine.train(program, _seeds(1))
  return max(_resident(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024) - before


def _glyphs(world: str, examples: int, side: int, steps: int) -> Config:
  return Config(
    data=Data(
      name="glyphs", world=world, image_size=side, train_examples=examples, test_examples=100
    ),
    model=Model(name="mlp", width=128, depth=3, norm="batch"),
    training=Training(batch_size=32, steps=steps),
    evaluation=Evaluation(every_steps=steps),
  )


def activation_costs(network: str, repeats: int, small: bool) -> tuple[float, float, float]:
  """CPU seconds of a training step with SmeLU (beta 0.7) and ReLU, and the median of their ratios.

  Both are measured in turn, in either order; the MLP is 2 x 128 on 8x8, the CNN 16-32-64 on 16x16.
  """
  side = 8 if network == "mlp" else 16
  model = Model(name=network, width=16 if network == "cnn" else 128)
  trainers = {}
  for name, kwargs in (("smelu", (("beta", 0.7),)), ("relu", ())):
    config = Config(
      model=dataclasses.replace(model, activation=name, activation_kwargs=kwargs),
      optimizer=Optimizer(schedule="constant", learning_rate=0.01),
      training=Training(batch_size=32, steps=10**6),
    )
    trainers[name], _ = _advance(config, _noise_pictures(960, side, 1))
  steps = 4 if small else 2000 if network == "mlp" else 60
  seconds = {name: [] for name in trainers}
  for repeat in range(1 + repeats):
    for name in sorted(trainers, reverse=repeat % 2 == 0):
      started = time.process_time()
      trainers[name](steps)
      seconds[name].append((time.process_time() - started) / steps)
  smelu, relu = (np.array(seconds[name][1:]) for name in ("smelu", "relu"))
  return float(np.median(smelu)), float(np.median(relu)), float(np.median(smelu / relu))


def made_up_predictions(folder: str, runs: int, examples: int, classes: int) -> None:
  """Softmax outputs of float32 around shared logits, as a .npy and a zarr array of the folder."""
  shape, rng = (runs, examples, classes), np.random.default_rng(0)
  mapped = np.lib.format.open_memmap(f"{folder}/predictions.npy", "w+", np.float32, shape)
  chunk = max(1, 2**22 // (examples * classes))
  stored = zarr.create_array(
    f"{folder}/predictions.zarr", shape=shape, chunks=(chunk, examples, classes), dtype="f4"
  )
  shared = rng.normal(0, 2, shape[1:]).astype(np.float32)
  for first in range(0, runs, chunk):
    count = min(chunk, runs - first)
    own = rng.standard_normal((count, examples, classes), np.float32)
    mapped[first : first + count] = scipy.special.softmax(shared + 0.3 * own, axis=-1)
    stored[first : first + count] = mapped[first : first + count]
  mapped.flush()


def difference_cost(folder: str, kind: str) -> tuple[float, float, float]:
  """CPU seconds, wall clock seconds and this process's peak MiB of a PD with its interval."""
  if kind == "zarr array":
    predictions = zarr.open_array(f"{folder}/predictions.zarr", mode="r")
  else:
    predictions = np.load(f"{folder}/predictions.npy", mmap_mode="r")
  cpu, wall = time.process_time(), time.perf_counter()
  metrics.prediction_difference(predictions)
  cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
  return cpu, wall, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _noise_pictures(examples: int, side: int, channels: int) -> Dataset:
  rng = np.random.default_rng(0)
  image = rng.integers(0, 256, (examples, side, side, channels), np.uint8)
  label = rng.integers(0, 10, examples).astype(np.int32)
  mean, std = np.full(channels, 127, np.float32), np.full(channels, 70, np.float32)
  return Dataset(image, label, image[:10], label[:10], mean, std)


def _keys():
  return streams.derive(jnp.arange(len(STREAMS), dtype=jnp.uint32))


def _advance(config: Config, dataset: Dataset):
  """A function of a number of steps that trains so many from the start, and its program."""
  trainer = training.on_dataset(config, dataset, 10)
  data, keys = jax.device_put(dataset), _keys()
  state = jax.jit(trainer.init)(keys, data)
  one = jnp.int32(1)
  compiled = jax.jit(trainer.advance).lower(state, keys, data, None, one, one).compile()

  def advance(steps: int):
    jax.block_until_ready(compiled(state, keys, data, None, np.int32(0), np.int32(steps)))

  return advance, compiled
