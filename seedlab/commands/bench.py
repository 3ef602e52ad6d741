"""Measures seedlab on this machine: ratios of things timed side by side, in one call.

  --suite=cpu  runs/s and steps/s of four networks beside PyTorch (extra `reference`: eager,
               torch.compile, torch.func over seeds) and plain JAX (jit of a step, and of vmap over
               seeds, called in a Python loop), in CPU time of one core; two workers beside one, a
               ResNet-9 step in a loop beside the same step alone, memory of a worker
  --suite=generative  steps/s of a language model and of flow matching beside the same rivals
  --suite=fullbatch  a full-batch step beside as many minibatch steps, with each penalty; memory
                     against the size of the pool; compilation of deep networks
  --suite=dask  chunks on a Dask cluster of this machine beside the same on seedlab's own workers
  --suite=pages  `compare` and `report` on two made-up sweeps of 10,000 runs x 10,000 examples

  --suite=scaling  how a step and a run grow with lanes, widths, depth, examples, batches and runs
  --suite=ahead  what the studies' networks do on --device, which need not be there: bytes, kernels,
                 operations and memory, beside the table in --table; status 1 if a row moves more
                 bytes than there, unless --update replaces it

Absolute times of a shared machine prove nothing; compare the ratios.
"""

import functools
import json
import pathlib
import platform

from absl import flags

_SUITES = ["cpu", "generative", "fullbatch", "pages", "dask", "ahead", "scaling"]
_SUITE = flags.DEFINE_enum("suite", "cpu", _SUITES, "what to measure")
_JSON = flags.DEFINE_string("json", None, "also write the figures to this file")
_REPEATS = flags.DEFINE_integer("repeats", 5, "timings per figure; the median counts")
_DEVICE = flags.DEFINE_string("device", "h200", "ahead: h200, h100, a100, v5e or v6e")
_TABLE = flags.DEFINE_string("table", None, "ahead: the Markdown file with the last table")
_UPDATE = flags.DEFINE_bool("update", False, "ahead: replace that table")
_SMALL = flags.DEFINE_bool("small", False, "tiny sizes, to see that the suite runs")

POSITIONAL = ()


def main(argv: list[str]) -> int:
  import jax  # after the flags: a mistake answers at once

  from seedlab import console, host
  from seedlab.commands import bench_ahead, bench_scaling, bench_suites

  del argv
  small, repeats = _SMALL.value, _REPEATS.value
  suites = {
    "cpu": functools.partial(bench_suites.cpu, small, repeats),
    "generative": functools.partial(bench_suites.generative, small, repeats),
    "fullbatch": functools.partial(bench_suites.fullbatch, small, repeats),
    "pages": functools.partial(bench_suites.pages, small, repeats),
    "dask": functools.partial(bench_suites.dask, small, repeats),
    "scaling": functools.partial(bench_scaling.suite, small, bench_suites.say),
    "ahead": functools.partial(bench_ahead.suite, _DEVICE.value, small, bench_suites.say),
  }
  rows = suites[_SUITE.value]()
  facts = {"suite": _SUITE.value, "date": host.now(), "jax": jax.__version__,
           "python": platform.python_version(), "rows": rows}  # fmt: skip
  names = list(dict.fromkeys(name for row in rows for name in row))
  cells = [names, *([_cell(row.get(name)) for name in names] for row in rows)]
  console.write(console.aligned(cells))
  if _JSON.value:
    pathlib.Path(_JSON.value).write_text(json.dumps(facts, indent=1) + "\n")
  if _SUITE.value != "ahead":
    return 0
  lines, more = bench_ahead.compared(_TABLE.value, _DEVICE.value, rows, _UPDATE.value)
  console.write("\n".join(lines))
  return 1 if more and not _UPDATE.value else 0


def _cell(value) -> str:
  if value is None:
    return ""
  return f"{value:.3g}" if isinstance(value, float) else str(value)
