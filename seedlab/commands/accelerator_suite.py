"""The parts of `seedlab accelerator`, where each makes sense, and the directory that keeps them."""

import os
import pathlib
import shutil
import time
from collections.abc import Mapping, Sequence
from typing import Any

from seedlab import config, console, errors, host, records
from seedlab.commands import accelerator_parts as parts
from seedlab.commands.accelerator_parts import Part, Place
from seedlab.errors import UserError

_RUNS = "seedlab.commands.accelerator_runs:"
_SPEEDS = "seedlab.commands.accelerator_speeds:"
_MINUTES = 9.0  # for which the limits below are made; with more, each part has more
_ON_A_CPU = ("environment", "exactness", "loops")  # that make sense at full size
# Where XLA has no such flags. A CPU shows at small sizes that the part runs.
_WITHOUT_FLAGS = {
  "cpu": ("determinism_off", "determinism_while"),
  "tpu": ("determinism", "determinism_off", "determinism_while"),
}
# An unknown flag of XLA ends the process: these are for GPUs alone.
_QUICK = "--xla_backend_optimization_level=0"
_WHILE = "--xla_gpu_enable_command_buffer=+WHILE"


def measure(
  out: str,
  names: Sequence[str],
  *,
  named: bool,
  small: bool,
  minutes: float,
  again: bool,
  data_dir: str | None,
) -> int:
  """Measures the parts `names`; the exit status.

  Args:
    out: the directory for what is found.
    named: whether the user named the parts; of all parts those that cannot be are left out.
    again: forget what `out` holds of them.
  """
  began = time.monotonic()
  try:
    platform, devices = host.accelerators()
  except RuntimeError as error:
    raise UserError(
      f"{error}; see that driver and JAX go together, or say JAX_PLATFORMS=cpu to do without"
    ) from None
  names = _possible(names, platform, named, small)
  _check_folder(out)
  with records.lock(out):
    if again:
      for name in names:
        shutil.rmtree(pathlib.Path(out, name), ignore_errors=True)
    names = _with_data(out, names, named, small, data_dir)
    core = host.usable_cores()[0] if platform == "cpu" else None
    place = Place("", out, 60 * minutes, small, platform, devices, core, data_dir)
    from seedlab.commands import accelerator_tables as tables  # after all that can be wrong

    chosen = parts_of(platform, devices)
    if small and platform == "cpu":  # where compiling takes longest, and no figure means anything
      flags = {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {_QUICK}".strip()}
      chosen = {name: part._replace(variables=flags) for name, part in chosen.items()}
    parts.summarise(out, list(chosen))  # by which a later call knows the directory
    try:
      before = parts.read(out, "environment")
      parts.keep(out, "environment", {})  # always measured
      well = parts.run([chosen["environment"]], place)
      machine = _machine(out, list(chosen), before)
      scale = max(3.0 if small else 1.0, minutes / _MINUTES)  # a busy CPU compiles slowly
      wanted = [
        chosen[name]._replace(seconds=scale * chosen[name].seconds)
        for name in names
        if name != "environment"
      ]
      left = place.seconds - (time.monotonic() - began)
      well = parts.run(wanted, place._replace(seconds=left), {"machine": machine}) and well
    except KeyboardInterrupt:
      console.say(f"stopped: what was found is in {out}, and the same command goes on")
      raise
    finally:
      summary = parts.summarise(out, list(chosen))
      pathlib.Path(out, "figures.md").write_text(tables.markdown(summary))
  console.write(tables.text(summary))
  console.write(f"\n{out}: summary.json, figures.md to be pasted, and a folder for each part")
  return 0 if well else 1


def parts_of(platform: str, devices: int) -> dict[str, Part]:
  """Every part by its name, in the order of importance.

  Those that start workers have the variables of a sweep's parent; the workers get their own.
  """
  own = host.accelerator_environment(platform, 0, devices)
  buffers = {**own, "XLA_FLAGS": f"{own['XLA_FLAGS']} {_WHILE}"} if platform == "gpu" else {}
  every = [
    Part("environment", "The machine", 40, _SPEEDS + "environment", own),
    Part("exactness", "The bits of a run beside its bits alone, in segments, in a second process",
         110, _RUNS + "exactness"),
    Part("picard", "Picard's protocol `short` on CIFAR-10", 160, _RUNS + "picard"),
    Part("replay", "One of these runs again in another process", 65, _RUNS + "replay"),
    Part("widths", "Steps by network, lowering, precision and lanes",
         90, _SPEEDS + "widths", own),
    Part("precision", "What a product of float32 is, and the ceilings",
         30, _SPEEDS + "precision", own),
    Part("loops", "A compiled loop of traced length beside one of known length",
         20, _SPEEDS + "loops", own),
    Part("determinism", "Steps under the repeatable XLA flags",
         30, _SPEEDS + "determinism", own),
    Part("determinism_off", "Steps without these flags", 35, _SPEEDS + "determinism"),
    Part("determinism_while", "Steps with command buffers for loops too",
         30, _SPEEDS + "determinism", buffers),
    Part("profile", "Where the time of a step goes, by kernel", 45, _SPEEDS + "profile", own),
  ]  # fmt: skip
  return {part.name: part for part in every}


def _possible(names: Sequence[str], platform: str, named: bool, small: bool) -> list[str]:
  """The parts that make sense on this platform; UserError where that is not what was asked for."""
  if platform == "cpu" and not small:
    senseless = [name for name in names if name not in _ON_A_CPU]
    if senseless:
      raise UserError(
        f"{_no_accelerator()} At full size {', '.join(senseless)} would take a CPU hours: --small"
        " shows at tiny sizes that everything runs, and on a CPU"
        f" --parts={','.join(_ON_A_CPU)} makes sense"
      )
  if platform == "cpu":
    console.say(f"{_no_accelerator()} What is measured is this CPU.")
  without = [name for name in names if name in _WITHOUT_FLAGS.get(platform, ())]
  if without and named:
    raise UserError(
      f"--parts={','.join(without)} needs a GPU, and this is a {platform.upper()}: its XLA has no"
      " such flags; leave it out"
    )
  if without:
    console.say(f"{', '.join(without)}: left out, since a {platform.upper()} has no such flags")
  return [name for name in names if name not in without]


def _no_accelerator() -> str:
  """What is said where JAX computes on the CPU."""
  if shutil.which("nvidia-smi"):
    return (
      "JAX finds no accelerator here, only a CPU, although there is an NVIDIA driver (pip install"
      " '.[cuda]' brings what JAX lacks; JAX_PLATFORMS must not be cpu)."
    )
  return "JAX finds no accelerator here, only a CPU."


def _with_data(out, names: Sequence[str], named: bool, small: bool, data_dir) -> list[str]:
  """The parts whose data are there, before any time is spent."""
  if "picard" not in names or parts.read(out, "picard").get("state") == parts.FINISHED:
    return list(names)
  from seedlab.studies.sources import at_hand  # imports JAX

  if at_hand("cifar10", data_dir):
    return list(names)
  if small and not named:
    console.say("picard, replay: left out, since CIFAR-10 is not at hand (--data_dir)")
    return [name for name in names if name not in ("picard", "replay")]
  others = ",".join(name for name in names if name not in ("picard", "replay")) or "environment"
  raise UserError(
    "CIFAR-10 is not at hand, and the part picard trains on it: name the tensorflow-datasets"
    " directory that holds cifar10 by --data_dir or SEEDLAB_DATA, or do without it by"
    f" --parts={others}"
  )


def _check_folder(out: str) -> None:
  """Refuses a directory that holds something else, before anything is put into it."""
  path = pathlib.Path(out)
  entries = {entry.name for entry in path.iterdir()} - {".lock"} if path.is_dir() else set()
  if entries and parts.SUMMARY not in entries:
    raise UserError(
      f"out={out!r} holds other files ({min(entries)}); choose a new directory, or an empty one"
    )


def _machine(out: str, names: Sequence[str], before: Mapping[str, Any]) -> Mapping[str, Any] | None:
  """What the environment says of this machine; None where it could not say.

  UserError where OUT holds figures of another one, which then keep their environment, `before`.
  """
  here = _machine_of(parts.read(out, "environment").get("figures", {}).get("machine"))
  if here is None:
    return None
  for name in names:
    there = parts.read(out, name).get("machine")
    if isinstance(there, dict) and name != "environment" and there != here:
      changed = errors.changes(config.differences(there, here))
      parts.keep(out, "environment", before)
      raise UserError(
        f"out={out!r} holds figures of {name} that were not made like this ({changed}), and"
        " they cannot stand side by side: choose another directory, or --again for all parts"
      )
  return here


def _machine_of(figure: Any) -> dict[str, Any] | None:
  return figure.get("fields") if isinstance(figure, dict) else None
