"""The seed study: its settings, twins, and its numbers on made-up runs."""

import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import xarray
from test_ideal import keys_of, seeds_of

from seedlab import claims, engine, report
from seedlab import config as configs
from seedlab.changes import changed
from seedlab.errors import UserError
from seedlab.stats import single
from seedlab.studies import runner, study, twins
from seedlab.studies.seeds import (
  STUDY,
  analysis,
  measures,
  settings,
  source_tables,
  spread_tables,
  sweeps,
)
from seedlab.training import schedules

STEPS = np.array([10, 20, 30, 40, 50])
TINY = configs.parse(
  {
    "data": {"name": "digits", "train_examples": 100, "test_examples": 60},
    "augment": [{"name": "crop", "padding": 1}],
    "model": {"name": "mlp", "width": 6, "depth": 1},
    "optimizer": {"learning_rate": 0.1},
    "training": {"batch_size": 20, "epochs": 3},
    "evaluation": {"every_epochs": 3},
  }
)


def store(errors, *, streams=None, diverged=None, accuracy=None) -> xarray.Dataset:
  """What the study reads of a store: `errors` bool[R, E] at the end, ten classes."""
  errors = np.asarray(errors, bool)
  runs, examples = errors.shape
  label = np.arange(examples) % 10
  curve = np.repeat(1 - errors.mean(1)[:, None], len(STEPS), 1) if accuracy is None else accuracy
  values = {
    "test_accuracy": (("run", "evaluation"), curve),
    "predicted_label": (("run", "example"), np.where(errors, (label + 1) % 10, label)),
    "label": ("example", label),
    "completed": ("run", np.ones(runs, bool)),
    "diverged": ("run", np.full(runs, -1) if diverged is None else diverged),
  }
  for name, seed_R in (streams or {}).items():
    values[f"seed_{name}"] = ("run", np.asarray(seed_R, np.uint32))
  attributes = {"config": configs.to_dict(settings.config("laptop", "cifar10", "tuned"))}
  return xarray.Dataset(values, {"run": np.arange(runs), "evaluation": STEPS}, attributes)


# --- settings


def test_every_setting_of_every_scale_is_an_experiment():
  for scale in settings.LEVELS:
    planned = STUDY.sweeps(scale, None)
    assert len({one.name for one in planned}) == len(planned)
    assert json.dumps([configs.to_dict(one.config) for one in planned if one.config])
    claims.record(STUDY.claims(scale))
  crossed = settings.config("laptop", "digits", "crossed").seeds
  assert (crossed.vary, crossed.levels) == (("init", "order", "augment"), (16, 16, 16))
  poke = settings.config("laptop", "digits", "poke15", "factor")
  assert (poke.training.poke_step, poke.training.poke) == (15, "factor")
  assert settings.config("laptop", "digits", "order").seeds.vary == ("order",)
  start = settings.untrained(settings.config("laptop", "cifar10", "tuned"))
  assert (start.training.steps, start.optimizer.learning_rate) == (1, 0.0)


def test_runs_on_cifar10_share_their_images(monkeypatch):
  """Which images a run trains on is no part of the paper's seed."""
  monkeypatch.setattr(sweeps, "at_hand", lambda name, data_dir: True)
  planned = {one.name: one for one in STUDY.sweeps("laptop", None)}
  for name in ("cifar10/all", "cifar10/poke0", "picard/short", "tuned/scratch3"):
    assert "sample" not in planned[name].config.seeds.vary, name
  assert planned["tuned/scratch3"].start == ("start/scratch", 3)
  assert planned["tuned/scratch3"].fresh == (settings.HEAD,)


@pytest.mark.parametrize(
  "words, message",
  [
    (("laptop", "picard", "short", "long"), "'short' and 'long' exclude each other"),
    (("laptop", "digits", "init", "order"), "'init' and 'order' exclude each other"),
    (("laptop", "digits", "init", "poke3"), "'init' and 'poke3' exclude each other"),
    (("laptop", "digits", "narrow", "slow"), "'narrow' and 'slow' exclude each other"),
    (("laptop", "picard", "narrow"), "word='narrow' is not known"),
    (("huge", "digits"), "scale='huge' is not known"),
    (("laptop", "digit"), "place='digit' is not known; did you mean 'digits'"),
    (("laptop", "digits", "pokes"), "word='pokes' is not known; did you mean 'poke0'"),
  ],
)
def test_words_that_cannot_be_are_refused(words, message):
  with pytest.raises(UserError, match=message):
    settings.config(*words)


# --- twins


def pair_after(split, run=1):
  built = twins.make(configs.to_dict(TINY), split, points=5)
  data, keys = jax.device_put(built.load()), keys_of(run)
  state, outcomes, done = built.init(keys, data), [], 0
  advance = jax.jit(built.advance)
  for mark in built.plan:
    while done < mark:
      length = min(mark, (done // 5 + 1) * 5) - done  # epochs of 5 steps
      state, _ = advance(state, keys, data, None, jnp.int32(done), jnp.int32(length))
      done += length
    outcomes.append(built.evaluate(state, None, data))
  return built, state, data, outcomes


@pytest.mark.optimised
@pytest.mark.slow
def test_twins_share_everything_until_they_part():
  built, state, data, outcomes = pair_after(7)
  assert built.plan == (7, 15)
  for name in ("distance", "barrier", "disagreement"):
    assert outcomes[0][name] == 0
  assert outcomes[1]["distance"] > 0
  one = built.evaluate(state, None, data)
  share = jax.tree.map(lambda a, b: 0.75 * a + 0.25 * b, state.first.params, state.second.params)
  plain = state._replace(first=state.first._replace(params=share))
  assert one["error_path"][1] == pytest.approx(
    1 - float(built.evaluate(plain, None, data)["test_accuracy"])
  )
  path = np.asarray(one["error_path"])
  assert one["barrier"] == pytest.approx(path.max() - (path[0] + path[-1]) / 2)
  flat = [np.concatenate([np.ravel(x) for x in jax.tree.leaves(t)])
          for t in (state.first.params, state.second.params, state.start)]  # fmt: skip
  distance = np.linalg.norm(flat[0] - flat[1])
  assert one["distance"] == pytest.approx(distance, rel=1e-5)
  relative = distance / np.linalg.norm(flat[0] - flat[2])
  assert one["relative_distance"] == pytest.approx(relative, rel=1e-5)


@pytest.mark.optimised
def test_twins_that_never_part_are_one():
  *_, outcomes = pair_after(15)
  assert outcomes[-1]["distance"] == 0 and outcomes[-1]["disagreement"] == 0
  *_, apart = pair_after(0)
  assert apart[-1]["distance"] > outcomes[-1]["distance"]


@pytest.mark.parametrize("changes", [{"augment": []}, {"data.order": "sequential"}])
def test_either_order_or_augmentation_parts_them(changes):
  built = twins.make(configs.to_dict(changed(TINY, changes)), 0, points=2)
  data, keys = jax.device_put(built.load()), keys_of(1)
  state = built.init(keys, data)
  state, _ = jax.jit(built.advance)(state, keys, data, None, jnp.int32(0), jnp.int32(5))
  assert built.evaluate(state, None, data)["distance"] > 0


def test_twins_diverge_when_the_second_does():
  built = twins.make(configs.to_dict(TINY), 0, points=2)
  data, keys = jax.device_put(built.load()), keys_of(1)
  state = built.init(keys, data)
  broken = jax.tree.map(lambda x: x * jnp.nan, state.second.params)
  state = state._replace(second=state.second._replace(params=broken))
  _, log = built.advance(state, keys, data, None, jnp.int32(0), jnp.int32(1))
  assert log["diverged"] == 0


def test_twins_are_exact():
  program = engine.build(twins.make(configs.to_dict(TINY), 7, points=3), "loop")
  together = engine.train(program, seeds_of(5, 6))
  alone = engine.train(program, seeds_of(6), longest=2)
  assert together.digest[1] == alone.digest[0]


@pytest.mark.parametrize(
  "changes, split, message",
  [
    ({"model.norm": "batch"}, 5, "norm='batch' has statistics"),
    ({"data.world": "ideal"}, 5, "world='ideal' has no order"),
    ({"training.average": 0.9}, 5, "training.average=0.9 evaluates other parameters"),
    ({}, 16, "split=16 must lie from 0 to the 15 steps"),
  ],
)
def test_twins_that_cannot_be_are_refused(changes, split, message):
  with pytest.raises(UserError, match=message):
    twins.make(configs.to_dict(changed(TINY, changes)), split)


def test_the_long_schedule_ends_at_a_constant_rate():
  """The published rates (fact sheet, section 1.2), on digits and of Picard's network."""
  for place, peak in (("digits", 0.2), ("picard", 0.02)):
    long = settings.config("laptop", place, "long")
    assert long.training.epochs == 45 and long.evaluation.epochs[-1] == 41
    rate = schedules.of_section(long.schedule, peak, 45)
    assert rate(3) == pytest.approx(0.51 * peak)
    assert [float(rate(e)) for e in (22, 30, 44)] == pytest.approx(3 * [0.01 * peak])
  assert settings.config("paper", "picard", "long").optimizer.learning_rate == 0.2
  assert settings.config("paper", "picard", "float16", "per_image").data.chunk is None


# --- numbers


def test_a_diverged_run_counts_as_chance():
  errors = np.zeros((3, 20), bool)
  one = measures.spread(store(errors, diverged=np.array([-1, 20, -1])))
  np.testing.assert_allclose(one.accuracy[1], [1, 1, 0.1, 0.1, 0.1])  # at step 20 still sound
  np.testing.assert_allclose(one.errors, np.array([[0], [0.9], [0]]).repeat(20, 1), rtol=1e-6)
  rng = np.random.default_rng(1)
  errors = rng.uniform(size=(60, 500)) < 0.3
  datasets = {"digits/all": store(errors, diverged=np.where(np.arange(60) < 2, 30, -1))}
  whole, sound = (
    [float(cell.split()[0]) for cell in row[3:5]]
    for row in spread_tables.distribution_table(datasets).rows
  )
  assert whole[0] > 5 and whole[1] <= whole[0]  # the networks' own part is a part
  alone = measures.spread(store(errors[2:]))
  assert sound[0] == pytest.approx(100 * alone.last.std(ddof=1), abs=0.005)
  # It labels at random: it disagrees with others on nine tenths of the examples.
  rows = measures.churn_rows(store(np.zeros((3, 5000)), diverged=np.array([-1, 4, -1])))
  assert rows[1] / 2 == pytest.approx(0.9, abs=0.02) and rows[0] == pytest.approx(0.9, abs=0.02)
  rows = measures.churn_rows(store(np.zeros((2, 5000)), diverged=np.array([4, 4])))
  assert rows[0] == pytest.approx(0.9, abs=0.02)  # with another that diverged, too


def test_a_run_that_is_not_complete_does_not_count():
  dataset = store(np.arange(4)[:, None] > np.arange(20))
  dataset["completed"][1] = False
  np.testing.assert_array_equal(measures.spread(dataset).runs, [0, 2, 3])


def test_the_spread_is_compared_with_that_of_the_plateau():
  rng = np.random.default_rng(0)
  base = rng.normal(size=200)
  accuracy = np.stack([0.9 + s * base for s in (0.1, 0.05, 0.02, 0.01, 0.01)], 1)
  one = measures.spread(store(np.zeros((200, 20)), accuracy=accuracy))
  assert measures.plateau_of(one) == 2  # 30 of 50 steps
  assert measures.spread_kept(one, 0.95).estimate == pytest.approx(0.5)


def test_seeds_beside_design():
  """Effects of 1 to 5 points, a gap of known size: its median counts."""
  rng = np.random.default_rng(1)
  accuracy = 0.9 + 0.002 * rng.normal(size=(600, 1)).repeat(len(STEPS), 1)
  nothing = np.zeros((600, 20))
  datasets = {"digits/all": store(nothing, accuracy=accuracy)}
  for number, choice in enumerate(settings.DESIGN):
    moved = accuracy[:100] + 0.01 * (number + 1) * (-1) ** number
    moved = moved + 1e-5 * rng.normal(size=moved.shape)
    datasets[f"digits/{choice}"] = store(nothing[:100], accuracy=moved)
  found = measures.seeds_against_design(datasets, 0.95)
  gaps = [np.ptp(rng.choice(accuracy[:, -1], 100, replace=False)) for _ in range(200)]
  assert found.estimate == pytest.approx(np.mean(gaps) / 0.03, rel=0.05)
  gap = single.expected_range(accuracy[:, -1], 100, 0.975)  # half of the risk is the gap's
  effects = measures.effects_of_design(datasets, 1 - 0.025 / 5).values()
  ends = np.median([sorted((abs(e.low), abs(e.high))) for e in effects], 0)
  np.testing.assert_allclose((found.low, found.high), (gap.low / ends[1], gap.high / ends[0]))
  effects = measures.effects_of_design(datasets, 0.95)
  assert effects["slow"].estimate == pytest.approx(-0.02, abs=1e-5)


def test_the_poke_beside_a_reseed():
  """Pokes flip one example in ten, other seeds three: a third, by brute force."""
  rng = np.random.default_rng(2)
  cells = list(itertools.product(range(4), range(8)))
  of_init = rng.uniform(size=(4, 400)) < 0.2
  errors = [of_init[i] ^ (rng.uniform(size=400) < 0.05) for i, _ in cells]
  poked = store(errors, streams={"init": [i for i, _ in cells], "poke": [p for _, p in cells]})
  other = store(rng.uniform(size=(60, 400)) < 0.2)
  found = measures.poked({"digits/poke0": poked, "digits/all": other}, "digits/poke0", 0.95)

  def churn(rows):
    return np.mean([np.mean(a != b) for a, b in itertools.combinations(rows, 2)])

  within = np.mean([churn(np.array(errors)[8 * i : 8 * i + 8]) for i in range(4)])
  whole = churn(other["predicted_label"].values)
  assert found.estimate == pytest.approx(within / whole, rel=1e-9)
  # The limits by leaving out one poke, one initialisation or one other seed.
  cube = np.array(errors).reshape(4, 8, -1)
  labels = other["predicted_label"].values

  def log(cube, labels):
    return np.log(np.mean([churn(rows) for rows in cube])) - np.log(churn(labels))

  left = [
    [log(np.delete(cube, i, axis), labels) for i in range(cube.shape[axis])] for axis in (1, 0)
  ]
  left.append([log(cube, np.delete(labels, i, 0)) for i in range(len(labels))])
  limits = np.exp(single.several_jackknives(np.log(within / whole), left, 0.95))
  np.testing.assert_allclose((found.low, found.high), limits, rtol=1e-9)


def test_pretraining_narrows():
  """Planted distribution-wise sds of 0.5 and 2 points, each with what examples add."""
  rng = np.random.default_rng(3)

  def runs(sd):
    rate = np.clip(0.3 + sd * rng.normal(size=(60, 1)), 0, 1)
    return store(rng.uniform(size=(60, 4000)) < rate)

  datasets = {}
  for run in range(5):
    datasets[f"tuned/pretrained{run}"] = runs(0.01)
    datasets[f"tuned/scratch{run}"] = runs(0.04)
  ratio = measures.narrowing(datasets, 0.95)
  assert ratio.estimate == pytest.approx(0.25, rel=0.25) and ratio.high < 0.5
  assert measures.remaining(datasets, 0.95).low > 0


def test_variances_that_are_not_above_zero_have_no_ratio():
  """Where examples err more evenly than by chance, both are estimated below zero."""
  errors = (np.arange(400) % 4 == 0)[None] ^ np.zeros((20, 1), bool)
  shifted = np.stack([np.roll(errors[0], r) for r in range(20)])  # the same number of errors
  datasets = {f"tuned/{kind}{run}": store(shifted) for kind in ("pretrained", "scratch")
              for run in range(5)}  # fmt: skip
  assert measures.remaining(datasets, 0.95).estimate < 0
  assert np.isnan(measures.narrowing(datasets, 0.95).estimate)


def test_a_good_seed_that_carries_over_and_one_that_does_not():
  rng = np.random.default_rng(4)
  errors = rng.uniform(size=(80, 500)) < rng.uniform(0.1, 0.3, (80, 1))
  one = measures.spread(store(errors))
  again = measures.spread(store(errors ^ (rng.uniform(size=errors.shape) < 0.01)))
  other = measures.spread(store(rng.uniform(size=(80, 500)) < rng.uniform(0.1, 0.3, (80, 1))))
  assert measures.carried_over(one, again, 0.95).low > 0.8
  assert measures.carried_over(one, other, 0.95).high < 0.5
  # The seeds that both have, in any sequence.
  fewer = measures.spread(store(errors).isel(run=np.arange(79, -1, -2)))
  assert measures.carried_over(one, fewer, 0.95).estimate == pytest.approx(1)


def test_the_table_of_seeds_that_carry_over():
  """The best seed keeps its rank where nothing changes; what is constant or short has no tau."""
  rng = np.random.default_rng(6)
  errors = rng.uniform(size=(30, 300)) < np.linspace(0.1, 0.5, 30)[::-1, None]
  datasets = {f"digits/{name}": store(errors) for name in ("all", "long", *settings.DESIGN)}
  datasets["digits/narrow"] = store(np.zeros((30, 300)))
  datasets["digits/slow"] = store(errors[::-1])
  datasets["cifar10/all"] = store(errors[:4])
  rows = {row[0]: row[1:] for row in spread_tables.carried_table(datasets).rows}
  assert rows["SmeLU for ReLU"] == ("30", "1.00 (1.00 to 1.00)", "1")
  assert rows["half the width"][1] == "-"
  right = (~errors).sum(1)
  lost = int((right > right[29 - right.argmax()]).sum())  # by the best one, among those reversed
  assert (
    lost > 20
    and rows["half the learning rate"][2] == str(1 + lost)
    and rows["half the learning rate"][1].startswith("-0.8")
  )
  assert rows["CIFAR-10, CNN"][:2] == ("4", "-")


def test_one_stream_alone_stands_beside_all():
  """Half the sd of all, and nothing of the test set's luck in the last column but one."""
  rng = np.random.default_rng(7)

  def runs(sd, count):
    deviation = scipy.stats.norm.ppf((np.arange(count) + 0.5) / count)
    return store(rng.uniform(size=(count, 3000)) < 0.3 + sd * deviation[:, None])

  datasets = {"digits/all": runs(0.04, 400)}
  for word, sd in zip(settings.FACTORS, (0.02, 0.01, 0.04), strict=True):
    datasets[f"digits/{word}"] = runs(sd, 200)
  rows = {row[0]: row for row in source_tables.alone_table(datasets).rows}
  for word, sd in (("init", 2), ("order", 1), ("augment", 4), ("all streams", 4)):
    assert float(rows[word][4].split()[0]) == pytest.approx(sd, rel=0.1)
  sd_init, sd_all = (
    datasets[f"digits/{n}"].test_accuracy[:, -1].std(ddof=1) for n in ("init", "all")
  )
  assert rows["init"][5].startswith(f"{float(sd_init / sd_all):.2f} (")


def test_how_often_normal_draws_are_as_far_apart():
  """100 evenly spread normal values span 5.15 sd; of as many draws two in five span more."""
  values = scipy.stats.norm.ppf((np.arange(100) + 0.5) / 100)
  accuracy = 0.8 + 0.01 * values
  one = measures.spread(
    store(np.zeros((100, 10_000)), accuracy=accuracy[:, None].repeat(len(STEPS), 1))
  )
  drawn = np.ptp(np.random.default_rng(3).normal(size=(4000, 100)), 1)
  expected = np.mean(drawn >= np.ptp(values))
  assert spread_tables._chance_of_gap(one, 0.01) == pytest.approx(expected, abs=0.04)
  assert expected > 0.3


def test_an_identical_variant_that_wins():
  """50 runs at 80.0 % and 50 at 80.5 %: of the pairs 50 x 50 / (100 x 99) gain half a point."""
  accuracy = np.where(np.arange(100) % 2, 0.805, 0.8)[:, None].repeat(len(STEPS), 1)
  names = ("all", *settings.DESIGN)
  datasets = {f"digits/{name}": store(np.zeros((100, 200)), accuracy=accuracy) for name in names}
  table = spread_tables.design_table(datasets)
  assert table.note.endswith("wins by 0.5 points or more with a chance of 25.3 %.")
  assert table.rows[0][0] == "narrow: half the width"


def test_the_share_of_new_examples_has_its_interval():
  errors = np.random.default_rng(5).random((60, 300)) < np.linspace(0.1, 0.3, 60)[:, None]
  one = measures.spread(store(errors))
  share = measures.share_interval(one)
  assert share.estimate == pytest.approx(measures.share_of_variance(one))
  assert 0.5 < share.low < share.estimate < share.high < 1


def test_a_scan_is_worth_what_its_distribution_wise_share_says():
  """All of the spread is the test set's: nothing is left on the other half."""
  rng = np.random.default_rng(5)
  luck = measures.spread(store(rng.uniform(size=(1000, 200)) < 0.2))
  real = measures.spread(store(rng.uniform(size=(1000, 2000)) < rng.uniform(0.1, 0.3, (1000, 1))))
  for one, low, high in ((luck, -0.6, 0.6), (real, 5, 12)):
    table = {row[0]: row for row in spread_tables.selection_table(one).rows}
    assert list(table) == ["2", "5", "10", "20", "50", "100", "200"]
    row = table["100"]
    assert float(row[1]) > 5
    assert low < float(row[2]) < high and low < float(row[4]) < high


def test_a_sweep_starts_from_an_earlier_ones_run(tmp_path):
  """Its parameters are trained again once, and named in the config that follows."""
  small = changed(TINY, {"training.epochs": 1})
  first = study.Sweep("a/first", small, range(2))
  later = study.Sweep("a/later", small, range(2), start=("a/first", 1), fresh=("Dense_1",))

  def analyse(datasets, scale):
    return study.Analysis("headline", [], {}, {}, [], {})

  made = study.Study("a study", lambda scale: [], lambda scale, data_dir: [first, later], analyse)
  runner.run(made, "smoke", tmp_path / "s", workers=1, quiet=True)
  from seedlab import records, replaying

  kept = records.open(tmp_path / "s/a/later").attrs["config"]["model"]
  assert kept["initial"].endswith("parameters/a-first-1.safetensors")
  assert kept["fresh"] == ["Dense_1"]
  assert replaying.replay(tmp_path / "s/a/later", 0).exact


# --- verdicts


def world(true: bool) -> dict[str, xarray.Dataset]:
  """A sweep for each claim, in a world in which the claims hold, or in one in which they do not."""
  rng = np.random.default_rng(9)
  E = 500

  def runs(rate_R):
    return store(rng.uniform(size=(len(rate_R), E)) < np.clip(rate_R, 0, 1)[:, None])

  swans = rng.standard_t(2.5, 300) if true else np.linspace(-1, 1, 300)
  digits = runs(0.3 + 0.04 * np.clip(swans, -5, 5))
  accuracy = digits.test_accuracy.values
  datasets = {"digits/all": digits}
  spreads = np.array([1, 1, 1, 1, 1 if true else 0.4])
  middle, noise = accuracy.mean(), 0.004 * rng.normal(size=accuracy.shape)
  datasets["digits/long"] = store(
    np.zeros((300, E)), accuracy=middle + (accuracy - middle) * spreads + noise
  )
  for number, choice in enumerate(settings.DESIGN):
    shift = (0.002 if true else 0.5) * (number + 1)
    noise = 1e-4 * rng.normal(size=(100, 1))
    datasets[f"digits/{choice}"] = store(
      np.zeros((100, E)), accuracy=accuracy[:100] - shift + noise
    )
  if not true:  # at another rate the seeds do well or badly anew
    again = runs(0.8 + 0.05 * rng.normal(size=300))
    datasets["digits/slow"] = again
  # Initialisation and augmentation matter together only, or order alone.
  cells = np.array(list(itertools.product(range(8), repeat=3)))
  together = (-1.0) ** (cells[:, 0] + cells[:, 2])
  crossed = runs(0.3 + 0.1 * (together if true else rng.normal(size=8)[cells[:, 1]]))
  datasets["digits/crossed"] = crossed.assign(
    {f"seed_{s}": ("run", cells[:, i].astype(np.uint32)) for i, s in enumerate(settings.FACTORS)}
  )
  for place in ("digits", "cifar10"):
    grid = list(itertools.product(range(6), range(8)))
    of_init = rng.integers(0, 2, (6, E)).astype(bool)
    flips = rng.uniform(size=(48, E)) < (0.5 if true else 0.05)
    errors = np.array([of_init[i] for i, _ in grid]) ^ flips
    streams = {"init": [i for i, _ in grid], "poke": [p for _, p in grid]}
    datasets[f"{place}/poke0"] = store(errors, streams=streams)
  # That the seeds of digits do well here too, or nothing of the kind.
  rate = 1 - accuracy[:, -1] if true else 0.3 + 0.05 * rng.normal(size=300)
  datasets["cifar10/all"] = runs(rate + (0 if true else 0.2))
  for run in range(5):
    for kind, sd in (("pretrained", 0.02), ("scratch", 0.08)):
      sd = sd if true else 0.1 - sd
      datasets[f"tuned/{kind}{run}"] = runs(0.4 + sd * rng.normal(size=60))
  return datasets


@pytest.mark.parametrize("true", [True, False])
def test_verdicts_of_two_worlds(true):
  evidence, preconditions = analysis._evidence(world(true), "laptop", True)
  made = STUDY.claims("laptop")
  verdicts = claims.judge_family(made, evidence, preconditions, "laptop")
  outcomes = {verdict.claim.id: verdict.outcome for verdict in verdicts}
  against = "shown" if true else "contradicted"
  expected = dict.fromkeys(("S2", "S4", "S5", "S6 config", "S6 data", "S8 digits"), against)
  expected |= {"S8 cifar10": against, "S1": "shown", "S3": "shown" if true else "open"}
  expected |= {f"S7 {stream}": against for stream in ("init", "augment")}
  expected["S7 order"] = "contradicted" if true else "shown"
  assert outcomes == expected
  for verdict in verdicts:  # all at the level that a family of twelve needs
    for item in verdict.evidence:
      if isinstance(item, single.Interval):
        assert item.level > 0.95


def test_without_cifar10_its_claims_are_not_testable():
  kept = {name: one for name, one in world(True).items() if name.startswith("digits")}
  evidence, preconditions = analysis._evidence(kept, "laptop", False)
  verdicts = claims.judge_family(STUDY.claims("laptop"), evidence, preconditions, "laptop")
  missing = {one.claim.id for one in verdicts if one.outcome == "not testable here"}
  assert missing == {"S5", "S6 data", "S8 cifar10"}


def test_everything_is_said_and_drawn():
  """Tables, figures and page of a whole study, some runs of which diverged."""
  datasets = world(True)
  rng = np.random.default_rng(10)
  for place, steps in sweeps.POKES.items():
    for words in (*(f"poke{step}" for step in steps), "poke0,factor"):
      datasets[f"{place}/{words}"] = datasets[f"{place}/poke0"]
  for word in settings.FACTORS:
    datasets[f"digits/{word}"] = datasets["digits/all"].isel(run=slice(2, 50))
  datasets["picard/short"] = datasets["cifar10/all"].isel(run=slice(30))
  datasets["digits/all"]["diverged"][:2] = 30
  for step in sweeps._TWINS:
    values = {name: (("run", "evaluation"), rng.uniform(size=(6, 2)))
              for name in ("barrier", "disagreement", "relative_distance")}  # fmt: skip
    gone = np.where(np.arange(6) == 3, 1, -1)
    datasets[f"digits/twins{step}"] = xarray.Dataset({**values, "diverged": ("run", gone)})
  datasets["digits/twins75"]["diverged"][:] = 0
  attributes = {"metrics": ["test_accuracy"], "vary": list(configs.STREAMS)}
  for name, one in datasets.items():
    seeds_R = {f"seed_{s}": ("run", one.run.values) for s in configs.STREAMS}
    kept = {n: v for n, v in seeds_R.items() if n not in one}
    datasets[name] = one.assign(kept).assign_attrs(attributes)
    datasets[name]["fingerprint"] = ("run", np.zeros(one.sizes["run"], int))
  found = STUDY.analyse(datasets, "laptop")
  (line,) = (line for line in found.lead if line.startswith("Diverged"))
  assert "2 of digits/all, " in line and "6 of digits/twins75, " in line
  tables = {table.title: table for table in found.tables}
  rows = {row[0]: row for row in tables["Pairs: is there a hill between two seeds?"].rows}
  assert rows["75"][1:] == ("-", "-", "-")
  barrier = 100 * datasets["digits/twins15"].barrier.values[[0, 1, 2, 4, 5], 1].mean()
  assert rows["15"][1].startswith(f"{barrier:.2f} (")
  names = [row[0] for row in tables["Distribution over seeds"].rows]
  what = "digits, MLP (width 8, 1,000 images, 16x16)"
  assert names[:2] == [what, f"{what}, without the 2 diverged"]
  for table in found.tables:
    assert len({len(row) for row in (table.head, *table.rows)}) == 1, table.title
    assert "nan" not in " ".join(cell for row in table.rows for cell in row), table.title
  assert set(found.figures) >= {"distribution", "sorted", "convergence", "pokes-cifar10"}
  page = report.study_page("t", found.headline, found.lead, [], {}, found.tables, found.figures)
  assert "Kendall" in page and "nan to nan" not in page
