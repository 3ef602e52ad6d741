"""`seedlab accelerator`: parts that fail take nothing from the others; what makes sense where."""

import concurrent.futures
import contextlib
import json
import pathlib
import signal
import time

import ends
import forked
import pytest

from seedlab.commands import accelerator_parts as parts
from seedlab.commands import accelerator_suite
from seedlab.commands.accelerator_parts import Part, Place
from seedlab.errors import UserError


def place_of(folder, seconds=60.0, **fields) -> Place:
  return Place(**{
    "part": "", "out": str(folder), "seconds": seconds, "small": True, "platform": "cpu",
    "devices": 1, "core": None, "data_dir": None, **fields,
  })  # fmt: skip


def part(function, seconds) -> Part:
  return Part(function.__name__, "a title", seconds, f"ends:{function.__name__}")


def is_there(process: int) -> bool:
  """Whether a process runs; one that nobody has waited for yet does not."""
  with contextlib.suppress(OSError):
    return pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
  return False


def test_a_part_takes_nothing_from_the_others(tmp_path, capsys):
  limits = {
    ends.fails: 30, ends.short_of_memory: 30, ends.is_killed: 30, ends.hangs: 2, ends.in_time: 30,
    ends.whole: 30,
  }  # fmt: skip
  asked = [part(one, seconds) for one, seconds in limits.items()]
  assert not parts.run(asked, place_of(tmp_path), {"machine": "this"})
  kept = parts.summarise(tmp_path, [one.name for one in asked])["parts"]
  assert json.loads((tmp_path / "summary.json").read_text())["parts"] == kept
  states = {name: (one["state"], one["reason"]) for name, one in kept.items()}
  told = states.pop("is_killed")
  assert states == {
    "fails": ("failed", "a step is missing; add it"),
    "short_of_memory": ("failed", "there is not enough memory: RESOURCE_EXHAUSTED: Out of memory"
                        " while trying to allocate 99 bytes"),
    "hangs": ("out of time", "it was ended after 2 s"),
    "in_time": ("out of time", "2 of 3 cases are left"),
    "whole": ("finished", ""),
  }  # fmt: skip
  assert told[0] == "failed" and "ended with SIGKILL; the machine may be short" in told[1]
  for name in ("fails", "short_of_memory", "is_killed", "in_time"):
    assert kept[name]["figures"] == {"before": 1} and kept[name]["machine"] == "this"
  row = {"x": 0.5, "infinite": None, "all": [1, 2]}
  assert kept["whole"]["figures"] == {"times": 1, "row": row}
  assert not is_there(kept["hangs"]["figures"]["worker"])
  assert "UserError: a step is missing" in (tmp_path / "fails" / "log.txt").read_text()

  capsys.readouterr()
  assert parts.run(asked[-1:], place_of(tmp_path))  # a second time
  assert "whole: finished at 20" in capsys.readouterr().err
  assert parts.read(tmp_path, "whole")["figures"]["times"] == 1
  killed = parts.read(tmp_path, "whole") | {"state": "under way"}  # the command itself was
  parts.keep(tmp_path, "whole", killed)
  assert parts.run(asked[-1:], place_of(tmp_path))
  assert parts.read(tmp_path, "whole")["figures"]["times"] == 2
  assert parts.run([part(ends.whole, 30)._replace(name="late")], place_of(tmp_path, seconds=5.0))
  assert parts.read(tmp_path, "late")["state"] == "left out"


def test_what_is_found_survives_a_stop(tmp_path):
  def stop(*_):
    raise KeyboardInterrupt

  before = signal.signal(signal.SIGALRM, stop)
  try:
    signal.setitimer(signal.ITIMER_REAL, 1.5)
    with pytest.raises(KeyboardInterrupt):
      parts.run([part(ends.hangs, 30)], place_of(tmp_path))
  finally:
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
  kept = parts.read(tmp_path, "hangs")
  assert kept["state"] == "stopped" and not is_there(kept["figures"]["worker"])


def test_a_damaged_file_of_figures_is_as_none(tmp_path):
  (tmp_path / "whole").mkdir()
  for text in ("", "[1]", '{"figures": 3}', "{"):
    (tmp_path / "whole" / "figures.json").write_text(text)
    assert parts.read(tmp_path, "whole") == {}


def test_the_command_measures_a_machine(tmp_path):
  out = tmp_path / "out"
  done = forked.command("accelerator", "--small", "--parts=environment", f"--out={out}")
  assert done.returncode == 0, done.stderr
  assert "finds no accelerator here, only a CPU" in done.stderr
  figures = json.loads((out / "summary.json").read_text())["parts"]["environment"]["figures"]
  assert figures["platform"] == "cpu" and figures["details"]["fingerprint"]["device"]["probe"]
  assert f"| probe | {figures['probe']} |" in (out / "figures.md").read_text()
  assert done.stdout.startswith("Tiny sizes") and figures["probe"] in done.stdout


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({}, "--small shows at tiny sizes that everything runs"),
    ({"names": ["widths", "loops"]}, "At full size widths would take a CPU hours"),
    ({"small": True, "names": ["determinism_while"]}, "needs a GPU, and this is a CPU"),
    ({"small": True, "names": ["picard", "loops"]}, r"do without it by --parts=loops$"),
  ],
)
def test_what_cannot_be_measured_is_refused(tmp_path, changes, message):
  with pytest.raises(UserError, match=message):
    measure(tmp_path / "out", **changes)


def measure(out, names=None, small=False, again=False):
  names = names or tuple(accelerator_suite.parts_of("cpu", 1))
  accelerator_suite.measure(
    str(out), names, named=True, small=small, minutes=1.0, again=again, data_dir="/nowhere"
  )


def test_a_directory_of_others_is_left_alone(tmp_path):
  (tmp_path / "thesis.tex").write_text("years of work")
  with pytest.raises(UserError, match=r"holds other files \(thesis.tex\)"):
    measure(tmp_path, ["loops"], again=True)
  assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_part_that_is_none_is_answered_with_the_closest():
  done = forked.command("accelerator", "--out=/proc/nowhere", "--parts=widht")
  assert done.returncode == 2 and "did you mean 'widths'?" in done.stderr


def test_what_makes_sense_on_which_platform(capsys):
  names = tuple(accelerator_suite.parts_of("cpu", 1))
  every = accelerator_suite.parts_of("gpu", 2)
  assert tuple(every) == names == tuple(accelerator_suite._possible(names, "gpu", False, False))
  on_a_tpu = accelerator_suite._possible(names, "tpu", False, False)
  assert [name for name in names if name not in on_a_tpu] == [
    "determinism", "determinism_off", "determinism_while",
  ]  # fmt: skip
  assert "a TPU has no such flags" in capsys.readouterr().err
  with pytest.raises(UserError, match="determinism_off needs a GPU, and this is a TPU"):
    accelerator_suite._possible(["determinism_off"], "tpu", True, False)


def test_under_which_flags_a_part_runs():
  """An unknown flag of XLA ends a process, so that none of a GPU's may reach another platform."""
  deterministic, buffers = "--xla_gpu_deterministic_ops=true", "enable_command_buffer=+WHILE"
  flags = {
    name: one.variables.get("XLA_FLAGS", "")
    for name, one in accelerator_suite.parts_of("gpu", 2).items()
  }
  assert {name for name, text in flags.items() if buffers in text} == {"determinism_while"}
  without = {"exactness", "picard", "replay", "determinism_off"}  # or with workers that have them
  assert {name for name, text in flags.items() if deterministic not in text} == without
  for platform in ("cpu", "tpu"):
    assert not any(one.variables for one in accelerator_suite.parts_of(platform, 1).values())


def test_figures_of_another_machine_are_not_mixed(tmp_path):
  here = {"device": "B", "small": False}
  parts.keep(tmp_path, "environment", {"figures": {"machine": {"fields": here}}})
  parts.keep(tmp_path, "widths", {"machine": here, "figures": {}})
  names = ["environment", "widths"]
  assert accelerator_suite._machine(str(tmp_path), names, {}) == here
  parts.keep(tmp_path, "widths", {"machine": here | {"device": "A"}, "figures": {}})
  with pytest.raises(UserError, match=r"figures of widths .*\(device: A -> B\)"):
    accelerator_suite._machine(str(tmp_path), names, {"title": "of A"})
  assert parts.read(tmp_path, "environment") == {"title": "of A"}


class Told:
  """Stands for a worker that answers with digests it was told."""

  def __init__(self, digests):
    self.digests = digests

  def __enter__(self):
    return self

  def __exit__(self, *_):
    pass

  def submit(self, function, *arguments):
    future = concurrent.futures.Future()
    thorough = {"alone": True, "in segments of 7 steps": True} if arguments[-1] else {}
    future.set_result({"digests": self.digests, "fingerprint": {"width": 4}, **thorough})
    return future


def test_other_bits_in_a_second_process_are_no_success(tmp_path, monkeypatch):
  from seedlab.commands import accelerator_runs as runs

  monkeypatch.setattr(runs, "_sweep_in_another_width", lambda *_: {"note": "refused"})
  monkeypatch.setattr(runs, "_replay_in_another_width", lambda *_: {"note": "another"})
  wrong = "bits differ that must not: digits_mlp"
  for second, message in ((["a" * 64], None), (["b" * 64], wrong)):
    workers = iter([Told(["a" * 64]), Told(second)])
    monkeypatch.setattr(runs, "_worker", lambda _, workers=workers: next(workers))
    place = place_of(tmp_path, part=second[0][0], began=time.monotonic())
    with pytest.raises(UserError, match=message) if message else contextlib.nullcontext():
      runs.exactness(place)
    row = parts.found(place)["digits_mlp, float32, vmap of 2"]
    assert row["in a second process"] == ("OTHER BITS" if message else "the same bits")


def test_tables_in_plain_words():
  from seedlab.commands import accelerator_tables as tables

  def steps(milliseconds):
    figures = {"mlp": {"ms/step": milliseconds, "kernels": [["sort", 1.0]]}, "all": {"list": [1]}}
    return {"state": "finished", "seconds": 4.2, "title": "Steps", "figures": figures}

  environment = {"figures": {"device": "H200", "jax": "0.11.2"}}
  summary = {"date": "2026-11-29T16:00:00+00:00", "parts": {
    "environment": environment, "determinism": steps(3.0), "determinism_off": steps(2.0),
  }}  # fmt: skip
  text = tables.text(summary)
  assert "Steps (determinism: finished after 4 s)\n     ms/step\nmlp  3\n" in text
  head = "     repeatable flags, ms/step  without them, ms/step  first / second"
  assert f"{head}\nmlp  3{' ' * 26}2{' ' * 22}1.5" in text
  assert "sort" not in text and "Tiny" not in text and "all" not in text
  page = tables.markdown(summary)
  assert page.startswith("Measured by seedlab accelerator, 2026-11-29: H200; jax 0.11.2.\n")
  assert "### Steps\n\nDeterminism\\_off: finished after 4 s.\n\n|  | ms/step |\n" in page
  assert [tables._cell(value) for value in (12345.6, 90.02, 4.0862e-7, 3, None)] == [
    "12,346", "90.02", "4.086e-07", "3", "",
  ]  # fmt: skip


@pytest.mark.slow
def test_every_part_at_a_tiny_size(data_dir, tmp_path):
  out = tmp_path / "out"
  done = forked.command("accelerator", "--small", f"--out={out}", f"--data_dir={data_dir}")
  assert done.returncode == 0, done.stderr
  kept = json.loads((out / "summary.json").read_text())["parts"]
  assert {one["state"] for one in kept.values()} == {"finished"} and len(kept) == 9
  assert kept["replay"]["figures"]["run 1 of picard"]["verdict"] == "exact"
  assert kept["picard"]["figures"]["short"]["runs"] == 2
  for name in ("exactness", "widths"):
    rows = kept[name]["figures"]
    assert "digits_mlp, float32, vmap of 2" in rows and "OTHER BITS" not in str(rows)
  assert all("note" not in row for row in kept["widths"]["figures"].values())
  again = forked.command("accelerator", "--small", f"--out={out}", f"--data_dir={data_dir}")
  assert again.stderr.count("and kept") == 8, again.stderr
