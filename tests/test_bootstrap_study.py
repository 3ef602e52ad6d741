"""The Deep Bootstrap study: its settings, its pairs, and its numbers on made-up curves."""

import importlib.util
import json
import math
import pathlib

import numpy as np
import pytest
import xarray

from seedlab import claims
from seedlab import config as configs
from seedlab.changes import changed
from seedlab.errors import UserError
from seedlab.studies.bootstrap import STUDY, measures, page, pairs, settings, sweeps

STEPS = np.array([10, 20, 30, 40])


def store(
  settings, soft, accuracy, train, diverged=None, label=None, data="same"
) -> xarray.Dataset:
  """What `records.open` gives, as far as the study reads it. Curves: float[R, E]."""
  runs = len(soft)
  label = np.arange(50) % 10 if label is None else label
  curve = ("run", "evaluation")
  return xarray.Dataset(
    {
      "test_soft_error": (curve, soft),
      "test_accuracy": (curve, accuracy),
      "train_accuracy": (curve, train),
      "test_loss": (curve, soft),
      "train_loss": (curve, soft),
      "completed": ("run", np.ones(runs, bool)),
      "diverged": ("run", np.full(runs, -1) if diverged is None else diverged),
      "label": ("example", label),
    },
    {"run": np.arange(runs), "evaluation": STEPS},
    {"config": configs.to_dict(settings), "fingerprints": [{"data": data}]},
  )


REAL, IDEAL = settings.pair(settings.config("smoke", "mlp"))


def curves_of(runs, *values):
  """float[R, E], runs that differ a little."""
  return np.array(values) + 1e-3 * np.arange(runs)[:, None]


# --- settings and pairs


def test_every_setting_of_every_scale_is_an_experiment():
  for scale in ("smoke", "laptop", "paper"):
    for network in settings.networks(scale):
      settings.config(scale, network, "ideal", "adam")
    names = [sweep.name for sweep in STUDY.sweeps(scale, None)]
    assert len(set(names)) == len(names)
    kept = json.dumps([configs.to_dict(s.config) for s in STUDY.sweeps(scale, None)])
    assert kept
  paper = {sweep.name: sweep.config for sweep in STUDY.sweeps("paper", None)}
  main = paper["cifar5m/preresnet18,n50000"]
  assert (main.data.name, main.training.batch_size, main.training.steps) == (
    "cifar5m",
    128,
    39_000,
  )
  rule = main.optimizer
  assert (rule.name, rule.learning_rate) == ("sgd", 0.1)
  assert (rule.get("momentum"), rule.get("weight_decay")) == (0.0, 0.0)
  assert (main.schedule.name, main.schedule.hold_steps) == ("cosine", 390)
  assert main.data.normalisation == "half"
  augmented = paper["cifar5m/vgg11,aug2,ideal"]
  assert [part.name for part in augmented.augment] == ["crop", "flip"]
  assert (augmented.augment[0].get("padding"), augmented.data.world) == (4, "ideal")


@pytest.mark.parametrize(
  "arguments, words",
  [
    (("laptop", "mpl"), "network='mpl' is not known; did you mean 'mlp'"),
    (("laptop", "mlp", "aug4"), "modifier='aug4' is not known"),
    (("huge",), "scale='huge' is not known"),
  ],
)
def test_unknown_words_are_named(arguments, words):
  with pytest.raises(UserError, match=words):
    settings.config(*arguments)


def test_the_pairs_of_the_study_are_pairs():
  for scale in ("smoke", "laptop", "paper"):
    for place in sweeps.places_of(scale):
      for setting, sizes in sweeps.settings_of(place):
        ideal = sweeps.config_of(scale, place, setting, sizes[-1], "ideal")
        for size in sizes:
          real = sweeps.config_of(scale, place, setting, size)
          settings.check_pair(real, ideal)


@pytest.mark.parametrize(
  "change, words",
  [
    ({"model.width": 9}, "model.width=8 beside 9"),
    ({"optimizer.learning_rate": 0.2}, "optimizer.learning_rate=0.1 beside 0.2"),
    ({"augment": ["flip"]}, r"augment\[0\].name=None beside 'flip'"),
    ({"evaluation.every_steps": 3}, "evaluation.every_steps=6 beside 3"),
    ({"seeds.fixed": 1}, "seeds.fixed=0 beside 1"),
  ],
)
def test_worlds_that_differ_in_anything_else_are_no_pair(change, words):
  settings.check_pair(REAL, IDEAL)
  with pytest.raises(UserError, match=words):
    settings.check_pair(REAL, changed(IDEAL, change))
  data = [store(one, *[np.ones((3, 4))] * 3) for one in (REAL, changed(IDEAL, change))]
  with pytest.raises(UserError, match=words):
    pairs.pair(*data, "mlp", 64)


def test_the_worlds_of_a_pair_have_their_places():
  with pytest.raises(UserError, match=r"data.world='ideal' and 'real'"):
    settings.check_pair(IDEAL, REAL)
  with pytest.raises(UserError, match=r"data.world='real' and 'real'"):
    settings.check_pair(REAL, REAL)


def test_numbers_of_examples_may_differ_unless_something_counts_epochs():
  settings.check_pair(changed(REAL, {"data.train_examples": 32}), IDEAL)
  for field in ("training.steps", "evaluation.every_steps"):
    both = [changed(one, {field: None}) for one in (REAL, IDEAL)]
    settings.check_pair(*both)
    with pytest.raises(UserError, match=f"{field}=None counts in epochs"):
      settings.check_pair(changed(both[0], {"data.train_examples": 32}), both[1])


# --- numbers


def made(real_soft, ideal_soft, train, runs=4, **kept) -> pairs.Pair:
  soft, ideal = (curves_of(runs, *values) for values in (real_soft, ideal_soft))
  real = store(REAL, soft, 1 - soft - 0.01, train, **kept)
  return pairs.pair(real, store(IDEAL, ideal, 1 - ideal - 0.01, train), "mlp", 64)


def test_gaps_count_up_to_each_runs_own_stop():
  train = np.array([[0.5, 0.995, 1, 1], [0.5, 0.5, 0.99, 1], [0.5, 0.6, 0.7, 0.8], [1.0, 1, 1, 1]])
  one = made([0.8, 0.7, 0.6, 0.9], [0.79, 0.68, 0.59, 0.5], train)
  np.testing.assert_array_equal(one.converged, [20, 30, np.nan, 10])
  assert one.reached == 0.75
  gap = [0.01, 0.02, 0.01, 0.4]
  expected = np.array([gap] * 4)
  expected[0, 2:] = expected[1, 3:] = expected[3, 1:] = np.nan
  np.testing.assert_allclose(one.before("soft"), expected, atol=1e-12)
  np.testing.assert_allclose(one.gap("hard"), [gap] * 4, atol=1e-12)
  real, ideal = pairs.at_stop(one, "soft")
  np.testing.assert_allclose(real - ideal, [0.02, 0.01, 0.4, 0.01], atol=1e-12)
  first, last = pairs.stops_of(one)
  np.testing.assert_array_equal(first, [10, 20, 40, 0])
  np.testing.assert_array_equal(last, [20, 30, np.inf, 10])


def test_a_diverged_run_is_at_chance_from_then_on():
  train = np.full((4, 4), 0.5)
  bad = np.array([-1, 25, -1, -1])
  one = made([0.8, 0.7, 0.6, 0.5], [0.8, 0.7, 0.6, 0.5], train, diverged=bad)
  np.testing.assert_allclose(one.real["soft"][1], [0.801, 0.701, 0.9, 0.9])
  np.testing.assert_allclose(one.real["hard"][1, 2:], 0.9)
  np.testing.assert_allclose(one.real["soft"][0], [0.8, 0.7, 0.6, 0.5])


def test_worlds_of_other_data_are_no_pair():
  soft = curves_of(3, 0.8, 0.7, 0.6, 0.5)
  stores = [store(one, soft, 1 - soft, soft, data=one.data.world) for one in (REAL, IDEAL)]
  with pytest.raises(UserError, match=r"data.name='glyphs' of mlp was not the same data"):
    pairs.pair(*stores, "mlp", 64)


def test_settings_are_compared_on_the_runs_that_all_have():
  rng = np.random.default_rng(6)
  falling = [0.8, 0.7, 0.6, 0.5]
  both = {"a": noisy(rng, falling, falling), "b": noisy(rng, falling, falling, runs=7)}
  both["a"] = both["a"].only(np.array([2, 3, 5, 6, 9]))
  alike = pairs.alike(both)
  assert alike["a"].runs.tolist() == alike["b"].runs.tolist() == [2, 3, 5, 6]
  np.testing.assert_array_equal(alike["b"].real["soft"], both["b"].real["soft"][[2, 3, 5, 6]])
  assert len(alike["a"].converged) == len(alike["a"].train) == len(alike["a"].gap("hard")) == 4


def test_only_runs_of_both_worlds_are_paired():
  soft = curves_of(5, 0.8, 0.7, 0.6, 0.5)
  real = store(REAL, soft, 1 - soft, soft).isel(run=[0, 1, 3, 4])
  ideal = store(IDEAL, soft, 1 - soft, soft).isel(run=[0, 1, 2, 3])
  ideal["completed"][0] = False
  one = pairs.pair(real, ideal, "mlp", 64)
  assert one.runs.tolist() == [1, 3]
  np.testing.assert_allclose(one.gap("soft"), 0)


def noisy(rng, real_soft, ideal_soft, stop=30, runs=10) -> pairs.Pair:
  """A pair whose curves have the given means, with noise of 0.002 between runs."""
  soft, ideal = (
    np.array(values) + 0.002 * rng.normal(size=(runs, 4)) for values in (real_soft, ideal_soft)
  )
  train = np.tile(np.where(STEPS >= stop, 1.0, 0.5), (runs, 1))
  return pairs.pair(
    store(REAL, soft, 1 - soft, train), store(IDEAL, ideal, 1 - ideal, train), "mlp", 64
  )


def test_a_gap_is_judged_until_convergence_and_the_control_after_it():
  rng = np.random.default_rng(0)
  place = sweeps.Place("glyphs", ("mlp",), (64,))
  at = {("mlp", 64): noisy(rng, [0.8, 0.7, 0.61, 0.6], [0.8, 0.7, 0.6, 0.5])}
  (largest,) = measures.largest_gaps(at, place, "soft", 0.95)
  assert largest.estimate == pytest.approx(0.01, abs=0.002) and largest.high < 0.03
  (late,) = measures.late_gaps(at, place, "soft", 0.95)
  assert late.low > 0.09 and late.estimate == pytest.approx(0.1, abs=0.003)
  # Nested, as the correction for several claims needs them.
  levels = [0.9, 0.95, 0.99, 0.999]
  highs = [measures.largest_gaps(at, place, "soft", level)[0].high for level in levels]
  assert highs == sorted(highs)


def test_ranks_by_hand():
  rng = np.random.default_rng(1)
  ideal_end = [0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55]
  settings = [noisy(rng, [0.8, 0.7, end + 0.02, 0.9], [0.8, 0.7, end, end]) for end in ideal_end]
  tau, ratio = measures.ranks(settings, 0.95)
  assert tau.estimate == pytest.approx(1) and tau.low > 0.5
  assert ratio.estimate == pytest.approx(0.02 / np.std(ideal_end, ddof=1), rel=0.05)
  assert ratio.low < ratio.estimate < ratio.high < 0.5
  # The spread is the ideal world's: here the real one's is twice as wide.
  wide = [noisy(rng, [0.8, 0.7, 2 * end, 0.9], [0.8, 0.7, end, end]) for end in ideal_end]
  expected = np.mean(ideal_end) / np.std(ideal_end, ddof=1)
  assert measures.ranks(wide, 0.95)[1].estimate == pytest.approx(expected, rel=0.02)
  turned = [noisy(rng, [0.8, 0.7, 1 - end, 0.9], [0.8, 0.7, end, end]) for end in ideal_end]
  assert measures.ranks(turned, 0.95)[0].high < 0


def test_augmentation_delays_and_does_no_harm():
  rng = np.random.default_rng(2)
  place = sweeps.Place("glyphs", ("mlp",), (64,), ("mlp,shifts",), "shifts")
  falling = [0.8, 0.7, 0.6, 0.5]
  last = {
    "mlp": noisy(rng, falling, falling, stop=20),
    "mlp,shifts": noisy(rng, falling, [0.8, 0.7, 0.6, 0.51], stop=40),
  }
  delay, harm = measures.augmentation_effects(last, place, 0.95)
  assert delay.estimate == pytest.approx(math.log(2))
  # All runs alike: what is left is the grid, t* in (30, 40] over t* in (10, 20].
  assert (delay.low, delay.high) == pytest.approx((math.log(30 / 20), math.log(40 / 10)))
  assert harm.estimate == pytest.approx(0.01, abs=0.002) and 0 < harm.low < harm.high < 0.02


def test_a_stop_that_is_not_reached_is_a_lower_bound():
  rng = np.random.default_rng(2)
  falling = [0.8, 0.7, 0.6, 0.5]
  plain, slow = (noisy(rng, falling, falling, stop=stop) for stop in (20, 40))
  slow.converged[:3] = np.nan
  found = measures.delay_of(slow, plain, 0.95)
  least = np.log(np.where(np.arange(10) < 3, 40, 30) / 20)
  assert found.low == pytest.approx(measures.mean_gap(least, 0.95).low)
  assert found.high == math.inf and found.estimate == pytest.approx(math.log(2))
  plain.converged[5] = 30  # spread between runs widens both sides
  slow.converged[:3] = 40
  wider = measures.delay_of(slow, plain, 0.95)
  assert wider.low < math.log(30 / 20) < math.log(2) < wider.high < math.inf


def test_the_claims_of_the_study():
  for scale in ("smoke", "laptop", "paper"):
    made_ = STUDY.claims(scale)
    ids = [claim.id for claim in made_]
    assert len(set(ids)) == len(ids) and {"B3", "B4"} <= set(ids)
    places = sweeps.places_of(scale)
    for place in places:
      (b1,) = (claim for claim in made_ if claim.id == f"B1 soft, {place.name}")
      assert len(b1.parts) == len(place.networks) * len(place.sizes)
      assert all((part.rule, part.margin) == ("hi < x", (0.03,)) for part in b1.parts)
  laptop = sweeps.places_of("laptop")[0]
  assert len(sweeps.settings_of(laptop)) >= 8


def laptop_stores(gap: float) -> dict[str, xarray.Dataset]:
  """All stores of the laptop's glyphs: real worlds above their ideal ones by `gap` at t*."""
  rng = np.random.default_rng(3)
  datasets = {}
  for sweep in STUDY.sweeps("laptop", None):
    if not sweep.name.startswith("glyphs/"):
      continue  # as where CIFAR-10 is not at hand
    ideal = sweep.config.data.world == "ideal"
    slow = "shifts" in sweep.name
    network = ("mlp", "resnet", "vit").index(sweep.name.split("/")[1].split(",")[0])
    end = 0.2 + 0.1 * network + 0.03 * slow + 0.015 * ("momentum" in sweep.name)
    means = [0.8, 0.7, end + (0 if ideal else gap), end + (0 if ideal else 0.1)]
    soft = np.array(means) + 0.001 * rng.normal(size=(10, 4))
    stop = 40 if slow else 30
    train = np.tile(np.where(STEPS >= stop, 1.0, 0.5), (10, 1))
    if ideal:  # what is trained on next is as hard as a test
      train = 1 - soft
    datasets[sweep.name] = store(sweep.config, soft, 1 - soft, train)
  return datasets


@pytest.mark.parametrize("gap, outcome", [(0.005, "shown"), (0.08, "contradicted")])
def test_verdicts_on_made_up_stores(gap, outcome):
  datasets = laptop_stores(gap)
  found = STUDY.analyse(datasets, "laptop")
  made_ = STUDY.claims("laptop")
  verdicts = {
    verdict.claim.id: verdict
    for verdict in claims.judge_family(made_, found.evidence, found.preconditions, "laptop")
  }
  assert verdicts["B1 soft, glyphs"].outcome == outcome
  assert verdicts["B1 hard, glyphs"].outcome == outcome
  assert verdicts["B2 soft, glyphs"].outcome == "shown"
  assert verdicts["B1 soft, cifar10"].outcome == "not testable here"
  assert verdicts["B4"].outcome == "contradicted"  # the ideal world is 0.03 worse with shifts
  assert verdicts["B3"].outcome in ("shown", "open", "contradicted")
  assert "cifar10" in found.lead[1] and "glyphs" in found.headline
  assert set(found.figures) == {"curves-glyphs", "gaps-glyphs", "scatter-glyphs"}
  for table in found.tables:
    assert {len(row) for row in table.rows} == {len(table.head)}
  online = next(table for table in found.tables if table.title.startswith("Online"))
  assert [row[-1] for row in online.rows] == ["yes"] * 3


def test_a_setting_that_does_not_converge_cannot_be_judged():
  datasets = laptop_stores(0.005)
  name = "glyphs/vit,n500"
  never = datasets[name].copy(deep=True)
  never["train_accuracy"].values[:3] = 0.5  # 70 % of the runs are left
  found = STUDY.analyse({**datasets, name: never}, "laptop")
  assert not found.preconditions["B1 soft, glyphs"]
  assert STUDY.analyse(datasets, "laptop").preconditions["B1 soft, glyphs"]


def test_settings_that_do_not_converge_leave_the_ranking():
  datasets = laptop_stores(0.005)
  assert STUDY.analyse(datasets, "laptop").preconditions["B3"]
  for name in list(datasets):
    if name.startswith("glyphs/mlp,") and "ideal" not in name and "n500" not in name:
      datasets[name]["train_accuracy"].values[:] = 0.5
  found = STUDY.analyse(datasets, "laptop")
  assert not found.preconditions["B3"] and not found.preconditions["B4"]


@pytest.mark.parametrize("shift, equal", [(0.01, "yes"), (0.2, "NO")])
def test_the_online_check_allows_for_the_test_sets_luck(shift, equal):
  """50 test examples: an error of 0.3 is known to ± 0.13."""
  datasets = laptop_stores(0.005)
  datasets["glyphs/mlp,ideal"]["train_accuracy"].values[:] += shift
  table = page.online_table(datasets, sweeps.places_of("laptop")[:1])
  assert [row[-1] for row in table.rows] == [equal, "yes", "yes"]


def test_an_ideal_world_that_diverges_whole_leaves_a_page():
  datasets = laptop_stores(0.005)
  datasets["glyphs/mlp,ideal"]["diverged"].values[:] = 5
  found = STUDY.analyse(datasets, "laptop")
  online = next(table for table in found.tables if table.title.startswith("Online"))
  assert online.rows[0][-1] == "fewer than two runs did not diverge"


def test_without_a_late_gap_the_control_fails():
  datasets = laptop_stores(0.005)
  for name, dataset in datasets.items():
    if name.startswith("glyphs/mlp,n"):
      dataset["test_soft_error"].values[:, -1] -= 0.1
  found = STUDY.analyse(datasets, "laptop")
  assert not found.preconditions["B1 soft, glyphs"]
  assert found.preconditions["B1 hard, glyphs"]


def test_the_config_file():
  file = pathlib.Path(__file__).parent.parent / "configs/bootstrap.py"
  spec = importlib.util.spec_from_file_location("bootstrap_config", file)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  made_ = configs.parse(module.get_config("paper,preresnet18,real,n5000,aug2"))
  assert (made_.data.train_examples, made_.augment[0].get("fill")) == (5000, "black")
  dogs = configs.parse(module.get_config("paper,preresnet18,dogbird,real,all"))
  assert (dogs.data.name, dogs.data.train_examples, dogs.optimizer.get("momentum")) == (
    "imagenet_dogbird",
    None,
    0.9,
  )
  assert module.get_config("laptop,ideal") == module.get_config("laptop,mlp,ideal")
  assert configs.parse(module.get_config()).data.name == "glyphs"
