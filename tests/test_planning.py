"""Plans for devices that are not there, from made-up counts: their compilers are large."""

import concurrent.futures
import contextlib

import pytest

import seedlab
from seedlab import devices, host, planning, report
from seedlab.commands import bench_ahead
from seedlab.errors import UserError

GIB = 2**30


def evidence(mode, width, seconds, memory, lowering=None):
  return {
    "lowering": lowering, "mode": mode, "width": width, "bytes": 2e9 * width, "kernels": 100.0,
    "operations": {"float32": 5e9 * width}, "evaluation": 0.0, "memory": memory,
    "limits": {"bandwidth": seconds, "arithmetic": seconds / 2, "launches": 1e-6},
  }  # fmt: skip


@pytest.fixture
def compiler(monkeypatch):
  """A pool whose worker has compiled one run alone, and eight lanes that need ten times as much."""
  found = [evidence("loop", 1, 0.010, 2 * GIB, "direct"), evidence("vmap", 8, 0.100, 17 * GIB)]
  asked = []

  class Pool(contextlib.nullcontext):
    def __init__(self, places, environment):
      super().__init__(self)
      asked.append(environment[0])

    def submit(self, task, spec, device, code):
      asked.append((spec["runs"], device))
      future = concurrent.futures.Future()
      future.set_result({"plan": [500, 1000], "found": found, "bytes_shared": 1.0 * GIB})
      return future

  monkeypatch.setattr(planning, "WorkerPool", Pool)
  monkeypatch.setattr(devices, "check_compiler", lambda device: None)
  return asked


def test_a_plan_for_a_device_elsewhere(compiler):
  plan = seedlab.plan("toy:make", 100, device="h200", workers=2, price_per_hour=4.0, quiet=True)
  environment, (runs, device) = compiler
  assert environment["JAX_PLATFORMS"] == "cpu" and environment[host._TARGET] == "gpu"
  assert (runs, device) == (50, "h200")
  for flag in ("deterministic_ops=true", "autotune_level=0", "enable_triton_gemm=false"):
    assert flag in environment["XLA_FLAGS"]
  # One run alone: 10 ms a step, and 12.5 in eight lanes. 50 runs of 1,000 steps on each device.
  assert plan["chosen"] == 0
  assert plan["hours"] == pytest.approx(50 * 1000 * 0.010 / 3600)
  assert plan["price"] == pytest.approx(2 * 4.0 * plan["hours"])
  # 2 GiB a lane in company, and 1 GiB of data: 32 lanes are 65 GiB, 64 would be 129.
  assert plan["memory"][8] == 17 * GIB and plan["most_lanes"] == 32

  text = report.plan_text(plan)
  assert "* " in text and "loop x 1 *" in text and ">= 12.5 ms" in text
  assert "and never\nrun" in text and "at least 0.139 hours" in text and "at least 1.11" in text


def test_mistakes_of_a_plan(monkeypatch):
  for asked, message in (
    ({"device": "h300"}, "device='h300' is not known; choices: h200"),
    ({"price_per_hour": 3.0}, "price_per_hour is of a device"),
    ({"device": "h200", "price_per_hour": float("inf")}, "price_per_hour=inf must be a number"),
    ({"device": "h200", "lanes": "measure"}, "lanes='measure' times programs on the device"),
  ):
    monkeypatch.setattr(devices, "check_compiler", lambda device: None)
    with pytest.raises(UserError, match=message):
      seedlab.plan("toy:make", 3, quiet=True, **asked)


ROWS = [
  {"network": "picard", "lowering": "direct", "precision": "float32", "lanes": "loop x 1",
   "MB a lane and step": 4262.0, "kernels": 172.0},
  {"network": "digits_mlp", "lowering": "", "precision": "float32", "lanes": "vmap x 32",
   "MB a lane and step": 0.2788, "kernels": 25.0},
]  # fmt: skip


def test_a_table_is_kept_in_a_document_and_compared_with(tmp_path):
  file = tmp_path / "performance.md"
  file.write_text("# Before\n<!-- ahead: h200 -->\n<!-- end of ahead: h200 -->\nafter\n")
  assert bench_ahead.compared(str(file), "h200", ROWS, True)[1] is False
  kept = bench_ahead.kept(file.read_text(), "h200")
  assert kept[("picard", "direct", "float32", "loop x 1")] == 4262.0
  assert kept[("digits_mlp", "", "float32", "vmap x 32")] == 0.2788
  assert file.read_text().startswith("# Before\n") and file.read_text().endswith("after\n")

  same = bench_ahead.compared(str(file), "h200", ROWS, False)
  assert same == (["no row moves other bytes than last time"], False)
  more = [ROWS[0] | {"MB a lane and step": 5000.0}, ROWS[1] | {"MB a lane and step": 0.1}]
  lines, grew = bench_ahead.compared(str(file), "h200", more, False)
  assert grew and lines == [
    "picard direct float32 loop x 1: 4,262 MB -> 5,000 MB (+17 %)",
    "digits_mlp float32 vmap x 32: 0.2788 MB -> 0.1 MB (-64 %)",
  ]
  assert not bench_ahead.compared(str(file), "h200", more[1:], False)[1]
  with pytest.raises(UserError, match="no place for the table of a100"):
    bench_ahead.compared(str(file), "a100", ROWS, True)
  with pytest.raises(UserError, match="is no file"):
    bench_ahead.compared(str(tmp_path / "none.md"), "h200", ROWS, False)


def test_the_committed_table_has_a_row_for_each_case():
  document = (bench_ahead.pathlib.Path(__file__).parent.parent / "docs/performance.md").read_text()
  rows = bench_ahead.kept(document, "h200")
  assert len(rows) == len(bench_ahead.cases(small=False))
