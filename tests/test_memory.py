"""What a user reads when memory runs out."""

import types

import jax
import numpy as np
import pytest

from seedlab import engine, host, memory, programs, tasks
from seedlab.config import STREAMS
from seedlab.errors import UserError

GIB = 2**30
MODEL = "make the model (model.width), data.train_examples, evaluation.batch_size"
KEEPS = "; a store keeps the width it was made with"
ENOUGH = "that is enough, unless other processes are on the device too; then --width=4 helps"
# As the CPU, two allocators of GPUs and a TPU say it.
TEXTS = {
  "RESOURCE_EXHAUSTED: Out of memory allocating 2147483648 bytes.": " for 2.0 GiB at once",
  "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 2147483648 bytes.\nBuffers:\n":
    " for 2.0 GiB at once",
  "RESOURCE_EXHAUSTED: Failed to allocate request for 2.00GiB (2147483648B) on device ordinal 0":
    " for 2.0 GiB at once",
  "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 20.5G of 15.5G hbm.": "",
}  # fmt: skip


@pytest.mark.parametrize(("text", "size"), TEXTS.items())
def test_the_texts_of_devices_are_understood(text, size):
  assert memory.ran_out(jax.errors.JaxRuntimeError(text))
  with pytest.raises(UserError) as raised, memory.explained():
    raise jax.errors.JaxRuntimeError(text)
  assert str(raised.value) == (
    f"there is not enough memory{size}: {MODEL}, the images or --width smaller"
  )


def test_nothing_else_is_a_lack_of_memory():
  assert memory.ran_out(MemoryError())
  with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"), memory.explained():
    raise jax.errors.JaxRuntimeError("INTERNAL: cuDNN failed")
  with pytest.raises(ValueError, match="out of memory"), memory.explained():
    raise ValueError("out of memory")


@pytest.mark.parametrize(
  ("lane", "shared", "width", "platform", "granted", "needed", "remedy"),
  [
    # 0.9 x 100 = 90 GiB hold 2 + 29 x 3: sixteen lanes are the largest power of two.
    (3, 2, 32, "tpu", 100, "98.0 GiB (3.0 GiB each, and 2.0 GiB for the data)",
     f"--width=16 would fit{KEEPS}"),
    (3.5, 2, 32, "gpu", 100, "114.0 GiB (3.5 GiB each, and 2.0 GiB for the data)",
     f"--width=16 would fit{KEEPS}"),
    (40, 30, 4, "tpu", 80, "190.0 GiB (40.0 GiB each, and 30.0 GiB for the data)",
     f"--width=1 would fit{KEEPS}"),
    (50, 30, 4, "tpu", 80, "230.0 GiB (50.0 GiB each, and 30.0 GiB for the data)",
     f"not even a single run fits; {MODEL} or the images smaller"),
    (50, 30, 1, "tpu", 80, "80.0 GiB",
     f"not even a single run fits; {MODEL} or the images smaller"),
    (1, 0.25, 8, "tpu", 80, "8.2 GiB (1.0 GiB each, and 256.0 MiB for the data)",
     f"{ENOUGH}{KEEPS}"),
    (1, 0, 8, "cpu", None, "8.0 GiB (1.0 GiB each, and 0.0 MiB for the data)",
     f"--width=4 needs half of it, fewer --workers need less together{KEEPS}"),
    (1, 1, 1, "cpu", None, "2.0 GiB",
     f"{MODEL} or the images smaller, fewer --workers need less together"),
  ],
)  # fmt: skip
def test_the_width_that_would_fit(lane, shared, width, platform, granted, needed, remedy):
  who = f"{width} lanes need" if width > 1 else "a run needs"
  grants = f", and the device grants {granted}.0 GiB" if granted else ""
  if platform == "gpu":
    grants += " (XLA_PYTHON_CLIENT_MEM_FRACTION says how much of it)"
  sizes = lane * GIB, shared * GIB, width, platform, granted and granted * GIB
  assert memory.in_lanes(*sizes) == f"out of memory: {who} about {needed}{grants}: {remedy}"


def test_what_a_lane_needs_is_the_most_of_the_three_programs():
  def analysis(temporary, output):
    return types.SimpleNamespace(temp_size_in_bytes=temporary, output_size_in_bytes=output)

  assert programs._beside([analysis(1, 99), analysis(7, 99), analysis(2, 3)]) == 7
  assert programs._beside([analysis(9, 99), analysis(7, 99), analysis(2, 3)]) == 9
  assert programs._beside([analysis(1, 99), analysis(7, 99), analysis(5, 3)]) == 8
  assert np.isnan(programs._beside([None, analysis(1, 1), None]))


@pytest.mark.parametrize("task", ["describe", "compute"])
def test_a_task_that_runs_out_says_what_its_program_needs(monkeypatch, task):
  def runs_out(*arguments, **options):
    raise jax.errors.JaxRuntimeError(next(iter(TEXTS)))

  costs = {"bytes_lane": 2.0 * GIB, "bytes_shared": 1.0 * GIB}
  program = types.SimpleNamespace(trainer=None, width=4, costs=costs)
  choice = engine.Choice(program, None, [])
  monkeypatch.setattr(tasks, "_choice", lambda spec, code: choice)
  monkeypatch.setattr(memory, "_device", lambda: ("tpu", 6 * GIB))
  monkeypatch.setattr(engine, "speed", runs_out)
  monkeypatch.setattr(engine, "train", runs_out)
  arguments = [{}] if task == "describe" else [{}, [[0] * len(STREAMS)]]
  with pytest.raises(UserError, match=r"4 lanes need about 9.0 GiB .* --width=2 would fit"):
    getattr(tasks, task)(*arguments)


def test_this_device_is_asked():
  platform, granted = memory._device()
  assert platform == host.device()["platform"] and (granted is None or granted > 0)
