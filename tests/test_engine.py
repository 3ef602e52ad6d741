"""L2 inside one process: lanes, company, segments, padding. Bitwise means every byte."""

import collections
import dataclasses
import os
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from seedlab import designs, engine, host, programs, streams, tasks
from seedlab.config import Seeds
from seedlab.errors import UserError
from seedlab.trainer import Metric

RUNS = [3, 0, 11, 7, 5]


def seeds_of(runs, **seeds) -> np.ndarray:
  return np.stack([designs.seeds_of_run(run, Seeds(**seeds)) for run in runs])


@pytest.fixture(scope="module", params=[("loop", None), ("vmap", 4)], ids=["loop", "vmap"])
def program(request):
  return engine.build(toy.make(), *request.param)


def assert_same(a: engine.Results, b: engine.Results) -> None:
  assert a.digest.tolist() == b.digest.tolist()
  assert a.diverged.tolist() == b.diverged.tolist()
  for name in a.outcome:
    assert a.outcome[name].tobytes() == b.outcome[name].tobytes(), name


def test_a_run_alone_equals_the_run_in_company(program):
  together = engine.train(program, seeds_of(RUNS))
  for row, run in enumerate(RUNS):
    alone = engine.train(program, seeds_of([run]))
    assert alone.digest[0] == together.digest[row]
    for name, values in together.outcome.items():
      assert alone.outcome[name][0].tobytes() == values[row].tobytes()


def test_a_run_does_not_depend_on_its_lane(program):
  assert_same(
    engine.train(program, seeds_of(RUNS)),
    _reordered(engine.train(program, seeds_of(RUNS[::-1])), slice(None, None, -1)),
  )


def _reordered(results: engine.Results, order) -> engine.Results:
  return results._replace(
    outcome={name: values[order] for name, values in results.outcome.items()},
    digest=results.digest[order],
    diverged=results.diverged[order],
  )


@pytest.mark.parametrize("longest", [1, 2, 5])
def test_segments_do_not_matter(program, longest):
  assert_same(
    engine.train(program, seeds_of(RUNS)),
    engine.train(program, seeds_of(RUNS), longest=longest),
  )


def test_different_seeds_give_different_digests(program):
  assert len(set(engine.train(program, seeds_of(range(9))).digest.tolist())) == 9


def test_only_varied_streams_matter(program):
  """With `order` alone varied the initial parameters are one and the same."""
  seeds = seeds_of([1, 2], vary=("order",))
  keys = [streams.derive(jnp.asarray(row)) for row in seeds]
  first, second = (toy.make().init(key, program.data).params for key in keys)
  assert all((first[name] == second[name]).all() for name in first)
  assert len(set(engine.train(program, seeds).digest.tolist())) == 2


def test_shapes_follow_dims(program):
  outcome = engine.train(program, seeds_of(RUNS)).outcome
  assert outcome["mse"].shape == (5, 2) and outcome["prediction"].shape == (5, toy.EXAMPLES)


def test_the_engine_equals_the_trainer_called_by_hand():
  """A second route: the Trainer's own functions, in one segment an epoch, without the engine."""
  trainer = toy.make()
  program = engine.build(trainer, "loop")
  results = engine.train(program, seeds_of([4]), keep_params=True)
  data = jax.device_put(trainer.load())
  keys = streams.derive(jnp.asarray(seeds_of([4])[0]))
  state, first = trainer.init(keys, data), 0
  for length in (6, 6, 6, 2):
    steps = (jnp.int32(first), jnp.int32(length))
    state, _ = jax.jit(trainer.advance)(state, keys, data, None, *steps)
    first += length
  assert results.outcome["mse"][0, -1] == pytest.approx(
    float(trainer.evaluate(state, None, data)["mse"])
  )
  for name in state.params:
    np.testing.assert_allclose(results.params[name], state.params[name], rtol=1e-5)


def test_divergence_is_flagged_with_its_step_and_the_others_go_on():
  program = engine.build(toy.make(explode_below=50, explode_first=20), "vmap", 4)
  results = engine.train(program, seeds_of(range(12)))
  calm = engine.train(engine.build(toy.make(explode_below=0), "vmap", 4), seeds_of(range(12)))
  bad = results.diverged >= 0
  assert 0 < bad.sum() < 12 and set(results.diverged[bad]) == {0, 7}  # step 0 is one, too
  assert np.isfinite(results.outcome["mse"][~bad]).all()
  assert not np.isfinite(results.outcome["mse"][bad, -1]).any()
  np.testing.assert_allclose(results.outcome["mse"][~bad], calm.outcome["mse"][~bad], rtol=1e-5)


@pytest.mark.parametrize("mode", programs.MODES)
def test_fed_batches_reach_their_run(mode):
  """A run fed rows shifted by its `order` seed: segments and lanes change nothing."""
  width = 2 if mode == "vmap" else None
  program = engine.build(toy.make(fed=True), mode, width)
  whole = engine.train(program, seeds_of(RUNS))
  assert_same(whole, engine.train(program, seeds_of(RUNS), longest=1))
  assert engine.train(program, seeds_of([RUNS[1]])).digest[0] == whole.digest[1]


def test_digest_sees_names_shapes_types_and_every_byte():
  base = {"a": np.zeros((2, 3), np.float32), "b": np.ones(2, np.int32)}
  changed = [
    {"c": base["a"], "b": base["b"]},
    {"a": base["a"].reshape(3, 2), "b": base["b"]},
    {"a": base["a"].view(np.int32), "b": base["b"]},
    {"a": np.nextafter(base["a"], np.float32(1)), "b": base["b"]},
    {"a": -base["a"], "b": base["b"]},
  ]
  digests = [programs.tree_digest(tree) for tree in [base, *changed]]
  assert len(set(digests)) == len(digests)
  assert programs.tree_digest({"b": base["b"], "a": np.asfortranarray(base["a"])}) == digests[0]


def test_the_program_digest_sees_edited_numerics_but_not_the_number_of_steps():
  fingerprints = [
    engine.build(toy.make(**arguments), "loop").fingerprint["program"]
    for arguments in ({}, {}, {"rate": 0.30001}, {"hidden": 6}, {"steps": 21})
  ]
  assert fingerprints[0] == fingerprints[1] == fingerprints[4]
  assert len(set(fingerprints)) == 3


def test_metrics_must_fit_the_outcome():
  for metrics, message in (
    ({"mse": Metric()}, r"Trainer.metrics names \['mse'\], evaluate returns \['mse', 'pred"),
    ({"mse": Metric(()), "prediction": Metric(())}, r"metrics\['prediction'\].dims=\(\) must name"),
  ):
    with pytest.raises(UserError, match=message):
      engine.build(dataclasses.replace(toy.make(), metrics=metrics), "loop")
  with pytest.raises(UserError, match=r"metrics\['mse'\] is a tuple; it must be a seedlab.Metric"):
    dataclasses.replace(toy.make(), metrics={"mse": ("evaluation",)})
  for wrong in ({"better": "up"}, {"dims": "evaluation"}):
    with pytest.raises(UserError, match=f"Metric.{next(iter(wrong))}="):
      Metric(**wrong)


def test_meanings_and_the_headline_travel_with_the_outcome():
  spec = {"function": "toy:make", "arguments": {}, "mode": "loop", "width": None}
  facts = tasks.describe({"identity": host.identity(), **spec})
  assert list(facts["outcome"]) == list(facts["meanings"]) == ["mse", "prediction"]
  assert facts["outcome"]["prediction"] == [["example"], [toy.EXAMPLES], "<f4"]
  assert facts["meanings"]["mse"] == {"better": "lower", "unit": None}


def test_an_unreadable_cached_program_is_deleted(tmp_path, monkeypatch):
  from jax._src import compilation_cache

  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  compilation_cache.reset_cache()
  try:
    host.use_compilation_cache()
    fresh = engine.train(engine.build(toy.make(hidden=9), "loop"), seeds_of(RUNS))
    entries = sorted(tmp_path.rglob("jit_advance-*-cache"))
    assert len(entries) == 1
    assert tmp_path.joinpath("seedlab").stat().st_mode & 0o777 == 0o700
    entries[0].write_bytes(entries[0].read_bytes()[:100])
    jax.clear_caches()
    assert_same(fresh, engine.train(engine.build(toy.make(hidden=9), "loop"), seeds_of(RUNS)))
    assert not entries[0].exists()
    jax.clear_caches()
    cached = engine.train(engine.build(toy.make(hidden=9), "loop"), seeds_of(RUNS))
    jax.clear_caches()
    assert_same(cached, engine.train(engine.build(toy.make(hidden=9), "loop"), seeds_of(RUNS)))
    assert entries[0].exists()
  finally:
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()


@pytest.mark.parametrize("names", [streams.STREAMS[:6], (*streams.STREAMS, "eighth")])
def test_another_stream_leaves_programs_that_do_not_use_it_as_they_were(
  program, monkeypatch, names
):
  before = engine.train(program, seeds_of(RUNS))
  for module in (designs, streams, programs, engine):
    monkeypatch.setattr(module, "STREAMS", names)
  monkeypatch.setattr(streams, "Keys", collections.namedtuple("Keys", names))
  changed = engine.build(toy.make(), program.mode, program.width)
  assert changed.fingerprint == program.fingerprint
  assert_same(engine.train(changed, seeds_of(RUNS)), before)


def sampling() -> engine.Trainer:
  """The toy, which is asked for two samples of each trained model."""

  def evaluate(state, keys, data):
    draws = jax.vmap(lambda k: jax.random.normal(jax.random.fold_in(keys.generate, k), ()))
    return {"sample": state.params["out"].sum() + draws(jnp.arange(2, dtype=jnp.int32))}

  return dataclasses.replace(toy.make(), evaluate=evaluate, metrics={"sample": Metric(("draw",))})


@pytest.mark.parametrize("mode", programs.MODES)
def test_generation_has_its_own_stream(mode):
  program = engine.build(sampling(), mode, 4 if mode == "vmap" else None)
  usual = engine.train(engine.build(toy.make(), mode, program.width), seeds_of(RUNS))
  results = engine.train(program, seeds_of(RUNS, vary=("generate",), fixed=RUNS[0]))
  assert len(set(results.digest.tolist())) == 1 and results.digest[0] == usual.digest[0]
  assert len(set(results.outcome["sample"].ravel().tolist())) == 2 * len(RUNS)
  others = [name for name in streams.STREAMS if name != "generate"]
  results = engine.train(program, seeds_of(RUNS, vary=others))
  assert results.digest.tolist() == usual.digest.tolist()
  samples = results.outcome["sample"]
  np.testing.assert_allclose(np.diff(samples), np.diff(samples)[0, 0], rtol=1e-4)  # the same draws


@pytest.mark.parametrize("params", [True, False])
def test_a_state_is_any_tree(params):
  """Typed keys, functions in static fields, a Python int: trained, digested, kept."""
  trainer = toy.keyed(params)
  one, several = (engine.build(trainer, *lanes) for lanes in (("loop", None), ("vmap", 3)))
  for program in (one, several):
    results = engine.train(program, seeds_of(RUNS), keep_params=True)
    assert_same(results, engine.train(program, seeds_of(RUNS), longest=2))
    assert len(set(results.digest.tolist())) == len(RUNS)
    keys = streams.derive(seeds_of(RUNS)[-1])
    key = trainer.init(keys, {}).key if params else trainer.init(keys, {})["key"]
    for _ in range(toy.KEYED_STEPS):
      key, used = jax.random.split(key)
    kept = programs.named_leaves(results.params)
    if params:
      assert [value.shape for value in kept.values()] == [(3,)]
    else:
      assert (kept["key"] == jax.random.key_data(key)).all()
      np.testing.assert_allclose(kept["weights"], jax.random.normal(used, (3,)), rtol=1e-6)


def returning(change):
  def advance(*arguments):
    state, log = toy.make().advance(*arguments)
    return change(state), log

  return dataclasses.replace(toy.make(), advance=advance)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (
      lambda s: s._replace(noise=s.noise.astype("f2")),
      r"\.noise was float32\[\] and is float16\[\]",
    ),
    (lambda s: s._replace(noise=s.noise[None]), r"\.noise was float32\[\] and is float32\[1\]"),
    (lambda s: s._replace(params={"in": s.params["in"]}), r"\.params\['out'\] was .* missing"),
    (lambda s: (*s, s.noise), r"\.params\['in'\] was float32\[2, 5\] and is missing"),
  ],
)
def test_a_step_that_returns_another_tree_is_told_which_leaf(change, message):
  with pytest.raises(UserError, match=message) as found:
    engine.build(returning(change), "loop")
  assert "\n" not in str(found.value)


def captured(constant) -> engine.Trainer:
  return returning(
    lambda s: s._replace(noise=s.noise + jnp.take(constant, 4000 + jnp.int32(s.noise)))
  )


def programs_of_constants() -> list[str]:
  """Three constants, the last with another number in the middle: each program has a digest."""
  constants = [np.zeros(10_000, np.float32) for _ in range(3)]
  constants[2][5000] = 1
  return [engine.build(captured(c), "loop").fingerprint["program"] for c in constants]


def test_a_captured_constant_changes_the_digest():
  first, second, other = programs_of_constants()
  assert first == second != other


def test_a_constant_that_jax_keeps_beside_the_program_changes_the_digest():
  code = "import test_engine as t; a, b, c = t.programs_of_constants(); assert a == b != c"
  subprocess.run(
    [sys.executable, "-c", code],
    cwd=os.path.dirname(__file__),
    env={**os.environ, "JAX_USE_SIMPLIFIED_JAXPR_CONSTANTS": "1"},
    check=True,
  )


def test_constants_that_cannot_be_seen_are_refused(monkeypatch):
  stage = jax.jit(lambda x: x).lower(1.0)
  hidden = type("Stage", (), {"as_text": lambda self, **_: stage.as_text(), "_lowering": None})()
  assert programs.program_digest([hidden]) == programs.program_digest([stage])
  monkeypatch.setattr(jax, "config", type("Config", (), {}))
  monkeypatch.setattr(jax.config, "jax_use_simplified_jaxpr_constants", True, raising=False)
  with pytest.raises(UserError, match="unset JAX_USE_SIMPLIFIED_JAXPR_CONSTANTS"):
    programs.program_digest([hidden])


def tested(evaluated_on=None, constant=False, **data):
  """The digest of what a Trainer is tested on that reads what begins with "test"."""

  def evaluate(state, keys, data):
    read = [value for name, value in sorted(data.items()) if name.startswith("test")]
    return {"sum": sum(map(jnp.sum, [np.ones(2)] if constant else read)) + state.noise}

  trainer = dataclasses.replace(
    toy.make(),
    load=lambda: toy.make().load() | data,
    evaluate=jax.jit(evaluate),
    metrics={"sum": Metric()},
    evaluated_on=evaluated_on,
  )
  return programs.evaluation_digest(engine.build(trainer, "vmap", 2))


def test_what_is_tested_on_is_found_in_the_data():
  a, b = np.arange(4, dtype=np.float32), np.ones(3, np.float32)
  usual = tested(test=a, train=b)
  assert usual == tested(test=a, train=2 * b) == tested(test_x=a)
  assert len({usual, tested(test=b, train=a), tested(test=a, test_y=b)}) == 3
  assert tested(test=a, constant=True) is None  # it cannot be known
  assert tested(test=a, evaluated_on=lambda: b) == programs.tree_digest(b)


def test_one_program_serves_all_segments():
  """Traced while it is built and never again, however the steps are cut."""
  trainer = toy.make(steps=12)
  advance = chex.assert_max_traces(trainer.advance, n=2)  # shapes first, then the program
  program = engine.build(dataclasses.replace(trainer, advance=advance), "loop")
  whole = engine.train(program, seeds_of([1, 2]))
  for longest in (1, 5, 7):
    cut = engine.train(program, seeds_of([1, 2]), longest=longest)
    assert cut.digest.tolist() == whole.digest.tolist()
