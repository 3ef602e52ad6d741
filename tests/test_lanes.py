import itertools
import re

import jax
import jax.numpy as jnp
import pytest

from seedlab import (
  cli,
  counting,
  devices,
  engine,
  experiment,
  filling,
  lanes,
  programs,
  replaying,
  sweeps,
  tasks,
  training,
)
from seedlab.changes import changed
from seedlab.config import parse
from seedlab.errors import UserError

GIB = 2**30
H200 = devices.named("h200")
PLAN = (100, 200)


def state(*shape):
  return {"params": {"a": jax.ShapeDtypeStruct(shape, jnp.float32)}}


def test_a_cpu_has_a_fixed_rule():
  assert lanes.rule(state(10, 10), "cpu", "auto", None) == ("vmap", 16)
  assert lanes.rule(state(400, 400), "cpu", "auto", None) == ("loop", 1)
  assert lanes.rule(state(3, 3, 1, 4), "cpu", "auto", None) == ("loop", 1)
  assert lanes.rule(state(3, 3, 1, 4), "cpu", "vmap", None) == ("vmap", 16)


@pytest.mark.parametrize(("batch", "busy", "mode"), [(50, False, "vmap"), (500, True, "loop")])
def test_a_step_that_multiplies_much_gains_nothing_from_lanes_on_a_cpu(
  batch, busy, mode, monkeypatch
):
  """Of 64 inputs, 512 hidden units and 10 classes, by hand: 2 B (2 x 64 x 512 + 3 x 512 x 10)."""
  config = parse(
    {
      "data": {"name": "digits"},
      "model": {"name": "mlp", "width": 512, "depth": 1},
      "training": {"batch_size": batch, "epochs": 1},
    }
  )
  trainer = training.make_trainer(config)
  traced = programs.trace(programs.one_run(trainer, trainer.load()), "vmap", 16)
  by_hand = 2 * batch * (2 * 64 * 512 + 3 * 512 * 10)
  assert sum(counting.products(traced.advance.jaxpr).values()) / 16 == by_hand
  assert lanes.busy(traced) == busy == (by_hand > 64e6)
  monkeypatch.setattr(programs, "compiled", lambda traced, data: traced)
  assert engine.build(trainer).mode == mode
  assert engine.build(trainer, width=8).mode == "vmap"  # as asked


def test_an_accelerator_has_a_rule_for_what_was_asked_alone():
  assert lanes.rule(state(10, 10), "gpu", "auto", None) is None
  assert lanes.rule(state(10, 10), "gpu", "vmap", None) is None
  assert lanes.rule(state(10, 10), "gpu", "vmap", 8) == ("vmap", 8)
  assert lanes.rule(state(10, 10), "tpu", "loop", None) == ("loop", 1)


@pytest.mark.parametrize(("mode", "width"), [("loop", 4), ("vmap", 0), ("lanes", None)])
def test_what_cannot_be_is_refused(mode, width):
  with pytest.raises(UserError):
    lanes.rule(state(10, 10), "gpu", mode, width)


def made_up(lane_bytes, lane_memory, kernels, wider=1.0):
  """Programs that move so many bytes a lane and need so much memory, which are never compiled."""

  def measure(lowering, mode, width):
    moved = width * (lane_bytes if mode == "loop" else wider * lane_bytes)
    limits = {
      "bandwidth": moved / H200.bandwidth, "arithmetic": 0.0, "launches": kernels * H200.launch,
    }  # fmt: skip
    memory = lane_memory * width
    return lanes.Evidence(lowering, mode, width, moved, kernels, {}, 0.0, memory, limits)

  return measure


def choice(measure, runs=1000, **asked):
  found = lanes.candidates(measure, H200, runs, **asked)
  return lanes.chosen(found, H200, PLAN, runs), found


def test_where_launches_rule_lanes_are_nearly_free():
  best, found = choice(made_up(lane_bytes=1e5, lane_memory=1e6, kernels=36))
  assert (best.mode, best.width) == ("vmap", 512)
  assert [one.width for one in found] == [1, 8, 32, 128, 512]
  assert best.limit == "launches"


def test_where_bytes_rule_a_run_alone_is_taken_and_the_search_ends_at_once():
  best, found = choice(made_up(lane_bytes=4e9, lane_memory=1e9, kernels=100, wider=2.0))
  assert (best.mode, best.width) == ("loop", 1)
  assert [one.width for one in found] == [1, 8]
  assert best.limit == "bandwidth"


def test_what_does_not_fit_into_four_fifths_of_the_memory_is_not_taken():
  # 3.4 GiB a lane, as of ResNet-9: 32 lanes fit into 112.8 GiB, 128 do not.
  best, found = choice(made_up(lane_bytes=1e5, lane_memory=3.4 * GIB, kernels=36))
  assert best.width == 32 and found[-1].width == 128
  assert 32 * 3.4 * GIB < 0.8 * H200.memory < 34 * 3.4 * GIB


def test_no_more_lanes_than_there_are_runs():
  best, found = choice(made_up(lane_bytes=1e5, lane_memory=1e6, kernels=36), runs=5)
  assert best.width == 8 and [one.width for one in found] == [1, 8]
  best, found = choice(made_up(lane_bytes=1e5, lane_memory=1e6, kernels=36), runs=33)
  assert best.width == 128 and found[-1].width == 128


def test_the_last_group_counts_as_a_whole_one():
  # 40 runs: five groups of 8 lanes, or two of 32 that take three times as long each.
  def measure(lowering, mode, width):
    seconds = {1: 1.0, 8: 1.0, 32: 3.0, 128: 12.0}[width]
    return lanes.Evidence(lowering, mode, width, 0, 0, {}, 0.0, GIB, {"bandwidth": seconds})

  found = lanes.candidates(measure, H200, 40)
  assert [one.width for one in found] == [1, 8, 32, 128]
  assert lanes.chosen(found, H200, (1,), 40).width == 8
  assert lanes.chosen(found, H200, (1,), 64).width == 32


def test_lanes_take_patches_and_a_run_alone_takes_the_library():
  both = tuple(lanes.LOWERINGS.values())
  best, found = choice(made_up(1e5, 1e6, 36), lowerings=both)
  assert [one.lowering for one in found] == ["direct", *["patches"] * 4]
  assert best.lowering == "patches"
  for mode, width in (("vmap", 8), ("loop", None)):
    (only,) = lanes.candidates(made_up(1e5, 1e6, 36), H200, 9, both, mode, width)
    assert (only.mode, only.lowering) == (mode, lanes.LOWERINGS[mode])


def test_where_nothing_fits_the_smallest_is_tried():
  best, _ = choice(made_up(lane_bytes=1e9, lane_memory=200 * GIB, kernels=10))
  assert best.width == 1


def test_bounds_of_a_device_are_read_off_its_figures():
  for one in devices.DEVICES.values():
    assert one.memory > 10 * GIB and one.bandwidth > 5e11
    rates = [one.rates[kind] for kind in ("float32", "tf32", "bfloat16")]
    assert all(slow < fast for slow, fast in itertools.pairwise(rates))
  with pytest.raises(UserError, match=r"device='h300' is not known; choices: h200, h100"):
    devices.named("h300")


def test_without_its_compiler_a_plan_for_a_device_says_what_to_install(monkeypatch):
  monkeypatch.setattr(devices.importlib.util, "find_spec", lambda name: None)
  for name, extra in (("a100", "cuda"), ("v5e", "tpu")):
    with pytest.raises(UserError, match=rf"device={name}.*pip install '\.\[{extra}\]'"):
      devices.check_compiler(devices.named(name))


def test_the_choice_is_recorded_and_used_by_replay(monkeypatch):
  """As on an accelerator, whose programs this CPU compiles instead."""
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  monkeypatch.setattr(devices, "here", lambda: H200)
  smallest = {"model.width": 1, "data.train_examples": 40, "training.batch_size": 4}
  config = changed(parse(cli.load("seedlab:digits:smoke")), smallest)
  described = experiment.experiment(config)
  monkeypatch.setattr(lanes, "_WIDTHS", ())  # one candidate is compiled more quickly than five
  asked = experiment.spec_of(described, "auto", None, runs=3)
  assert tasks._trainers(asked, None).keys() == {"direct", "patches"}
  made = tasks._choice(asked, None)
  fingerprint = made.program.fingerprint
  assert fingerprint["lowering"] == made.lowering == "direct"
  assert fingerprint["matmul_precision"] == "highest"
  (evidence,) = made.evidence
  assert evidence.lowering == "direct" and evidence.bytes > 0 and evidence.memory > 0

  again = experiment.spec_like(described, fingerprint)
  assert (again["mode"], again["width"], again["lowering"]) == ("loop", 1, "direct")
  assert tasks._trainers(again, None).keys() == {"direct"}
  assert tasks._choice(again, None) is made  # which the first chunk finds compiled
  # The other lowering is another program, which the fingerprint tells.
  other = tasks._choice(again | {"lowering": "patches"}, None)
  assert other.program.fingerprint["program"] != fingerprint["program"]
  assert other.evidence == []  # what was asked for, or chosen before, needs none


@pytest.mark.parametrize(
  ("width", "seconds", "said"),
  [
    (1, 3.0, ""),
    (1, 200.0, "replaying run 7: about 3 min where it was made"),
    (16, 0.1, ""),
    (512, 0.2, r"run 7, with the other 511 lanes of its program.*: about 2 min where it was made"),
    (8, float("nan"), ""),
  ],
)
def test_a_long_replay_says_what_it_costs(width, seconds, said):
  one = replaying.Recorded(7, {}, {"width": width}, seconds)
  found = replaying._cost(one)
  assert bool(found) == bool(said) and re.search(said, found)


def test_all_shards_of_a_sweep_choose_for_the_same_number_of_runs():
  none = dict.fromkeys(filling.Options._fields)

  def each(runs, workers, **changes):
    return sweeps._each(runs, workers, filling.Options(**{**none, **changes}))

  assert each(32, 4) == 8 and each(33, 4) == 9
  # 100 runs in three shards: 34, 33 and 33 of them, on machines with one worker and with eight.
  shards = [each(34, 1, shard=(1, 3), planned=100), each(33, 8, shard=(2, 3), planned=100)]
  assert shards == [34, 34]


def test_a_jax_that_cannot_describe_a_device_says_so(monkeypatch):
  from jax.experimental import topologies

  def refuse(**form):
    raise RuntimeError("Unknown topology\nand more")

  monkeypatch.setattr(topologies, "get_topology_desc", refuse)
  for name in ("h100", "v6e"):
    with pytest.raises(UserError, match=rf"device={name}: jax .* cannot .*\(Unknown topology\)"):
      devices.sharding(devices.named(name))
