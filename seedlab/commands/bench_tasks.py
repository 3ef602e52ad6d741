"""What `seedlab bench` has its workers measure: functions of JSON, answering JSON."""

import functools
import math
import pathlib
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from seedlab import cli, engine, host, programs, streams, training
from seedlab.changes import changed
from seedlab.config import STREAMS, Config, parse
from seedlab.data import Dataset
from seedlab.trainer import Trainer


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
  """Seconds of a ResNet-9 training step on 32x32 images: in a compiled loop, and alone."""
  steps, batch, width = (2, 4, 4) if small else (4, 50, 64)
  trainer = _resnet9(lowering, width, batch, examples=4 * batch, steps=100, precision="float32")
  program = engine.build(trainer, "loop")
  seeds = _seeds(1)[0]
  data = program.data
  keys = streams.derive(jnp.asarray(seeds))

  def advance(state, steps):
    return trainer.advance(state, keys, data, None, 0, steps)[0]

  in_loop = jax.jit(advance)
  # A trip count of one, known when compiling: XLA drops the loop and leaves the bare step.
  alone = jax.jit(functools.partial(advance, steps=1))
  state = program.init(training.streams.split(seeds), data)
  times: dict[str, list[float]] = {"loop": [], "alone": []}
  for _ in range(1 + repeats):
    started = time.perf_counter()
    jax.block_until_ready(in_loop(state, jnp.int32(steps)))
    times["loop"].append((time.perf_counter() - started) / steps)
    started = time.perf_counter()
    for _ in range(steps):
      jax.block_until_ready(alone(state))
    times["alone"].append((time.perf_counter() - started) / steps)
  return statistics.median(times["loop"][1:]), statistics.median(times["alone"][1:])




@functools.lru_cache(maxsize=2)
def _program(name: str, small: bool) -> programs.Program:
  host.use_compilation_cache()
  return engine.build(training.make_trainer(_config(name, small)))


def _resnet9(lowering, width, batch, examples, steps, precision) -> Trainer:
  """Jordan's recipe on made-up images of CIFAR-10's size, evaluated once."""
  random = np.random.default_rng(0)

  def images(count):
    return random.integers(0, 256, (count, 32, 32, 3), np.uint8)

  def labels(count):
    return random.integers(0, 10, count).astype(np.int32)

  test = examples // 5
  dataset = Dataset(
    images(examples), labels(examples), images(test), labels(test),
    np.full(3, 127.0, np.float32), np.full(3, 64.0, np.float32),
  )  # fmt: skip
  augment = [{"name": "crop", "padding": 2}, {"name": "flip"}, {"name": "cutout", "size": 12}]
  network = {"name": "resnet9", "width": width, "norm": "batch"}
  cfg = parse(
    {
      "data": {"name": "cifar10"},
      "augment": augment,
      "model": {**network, "convolution": lowering, "precision": precision},
      "optimizer": {"name": "sgd", "learning_rate": 0.5, "weight_decay": 5e-4},
      "training": {"batch_size": batch, "steps": steps},
      "evaluation": {"every_epochs": 1e6},
    }
  )
  return training.on_dataset(cfg, dataset, 10)


def _config(name: str, small: bool) -> Config:
  return parse(cli.load(f"seedlab:{name}:{'smoke' if small else 'laptop'}"))


def _seeds(runs: int) -> np.ndarray:
  return np.arange(runs, dtype=np.uint32)[:, None].repeat(len(STREAMS), axis=1)


def _resident() -> float:
  return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


def full_batch_costs(repeats: int, small: bool) -> dict[str, float]:
  """CPU seconds of as many blocks: as minibatch steps, as a full-batch step, with each penalty."""
  pool = 96 if small else 1920
  base = parse(
    {
      "data": {"name": "digits", "order": "sequential"},
      "augment": [{"name": "crop", "padding": 1}],
      "model": {"name": "cnn", "width": 8, "norm": "batch"},
      "optimizer": {"name": "sgd", "nesterov": True, "weight_decay": 5e-4},
      "schedule": {"name": "constant"},
      "training": {"batch_size": 32, "steps": 10**6},
    }
  )
  whole = {"training.full_batch": True, "gradient.block_size": 32, "gradient.clip_norm": 0.25}
  configs = {"minibatch": base, "none": changed(base, whole)}
  for form in ("forward", "central", "exact"):
    penalty = {"gradient.penalty": 0.5, "gradient.penalty_form": form}
    configs[form] = changed(base, whole | penalty)
  programs = {name: _advance(config, _noise_images(pool, 8, 1)) for name, config in configs.items()}
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
    config = parse(
      {
        "data": {"name": "digits", "copies": copies},
        "augment": [{"name": "crop", "padding": 4}, {"name": "flip"}],
        "model": {"name": "cnn", "width": 16, "norm": "batch"},
        "schedule": {"name": "constant"},
        "training": {"full_batch": True, "steps": 100},
        "gradient": {"block_size": 125, "penalty": 0.5, "clip_norm": 0.25},
      }
    )
    _, compiled = _advance(config, _noise_images(examples, 32, 3))
    name = f"{examples:,} images" + f" x {copies} copies" * bool(copies)
    found.append((name, compiled.memory_analysis().temp_size_in_bytes / 2**20))
  return found


def compile_seconds(name: str, small: bool) -> dict[str, float]:
  """Seconds to compile the first weights and a training step of batch 32, and of one such step."""
  config = parse(
    {
      "model": {"name": name, "width": 8 if small else 64, "norm": "batch"},
      "schedule": {"name": "constant"},
      "training": {"batch_size": 4 if small else 32, "steps": 2},
      "evaluation": {"batch_size": 10},
    }
  )
  trainer = training.on_dataset(config, _noise_images(64, 32, 3), 10)
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


def _noise_images(examples: int, side: int, channels: int) -> Dataset:
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


def wait(seconds: float) -> None:
  """A chunk of work that needs no processor."""
  time.sleep(seconds)
