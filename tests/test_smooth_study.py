"""The study of smooth activations: its settings, and its numbers on made-up predictions."""

import importlib.util
import itertools
import json
import pathlib

import numpy as np
import pytest
import xarray

from seedlab import claims, training
from seedlab import config as configs
from seedlab.errors import UserError
from seedlab.stats import crossed_pairs
from seedlab.studies.smooth import STUDY, contrasts, settings, sweeps
from seedlab.studies.smooth import place as measured

INITS, ORDERS, EXAMPLES = 3, 6, 60
_MLPS = ("digits", "cifar10")  # places whose network has no towers
STEPS = np.array([10, 20, 30])
ROOT = pathlib.Path(__file__).parent.parent


def store(
  spread: float,
  losses=(0.60, 0.58, 0.57),
  *,
  init_spread: float = 0.02,
  inits=INITS,
  orders=ORDERS,
  lists=None,
  score="test_auc",
  seed=0,
) -> xarray.Dataset:
  """A crossed sweep as the study reads it: predictions move by `spread` with the order.

  One underlying noise whatever the spread, so that settings differ by it alone.
  """
  rng = np.random.default_rng(seed)
  cells = list(itertools.product(range(inits), range(orders)))
  shared = rng.uniform(0.4, 0.6, EXAMPLES)
  of_init = rng.normal(size=(inits, EXAMPLES))
  of_run = rng.normal(size=(inits, orders, len(STEPS), EXAMPLES))
  grown = np.array([0.5, 0.75, 1.0])[:, None]
  probability = [
    shared + 0.01 * init_spread * of_init[i] + 0.1 * spread * grown * of_run[i, j] for i, j in cells
  ]
  own = np.random.default_rng(int(1e6 * (spread + losses[-1])))
  wobble = 1e-4 * own.normal(size=(len(cells), 1))
  curve = ("run", "evaluation")
  values = {
    "probability": (("run", "evaluation", "example"), np.float32(probability)),
    "test_loss": (curve, np.array(losses) + wobble),
    score: (curve, 0.75 + wobble + 0 * STEPS),
    "test_accuracy": (curve, 0.75 + wobble + 0 * STEPS),
    "predicted_label": (("run", "example"), (np.array(probability)[:, -1] > 0.5).astype(np.uint8)),
    "completed": ("run", np.ones(len(cells), bool)),
    "diverged": ("run", np.full(len(cells), -1)),
    "label": ("example", np.arange(EXAMPLES) % 2),
    "seed_init": ("run", np.array([i for i, _ in cells], np.uint32)),
    "seed_order": ("run", np.array([j for _, j in cells], np.uint32)),
  }
  if lists is not None:
    values["best_films"] = (("run", "user", "place"), lists)
  coords = {"run": np.arange(len(cells)), "evaluation": STEPS}
  return xarray.Dataset(values, coords, {"evaluation_digest": "one", "fingerprints": []})


def place(**settings) -> measured.Place:
  made = {name.replace("_", "="): measured.measure(one, name) for name, one in settings.items()}
  return measured.Place("movielens", made)


def brute(ends, i, js):
  """Mean over pairs of orders `js` of initialisation i."""
  return np.mean([np.abs(ends[i, a] - ends[i, b]).mean() for a, b in itertools.permutations(js, 2)])


# --- settings


def test_every_setting_of_every_scale_is_an_experiment():
  for scale in settings.LEVELS:
    for name in settings.places(scale):
      settings.config(scale, name, "smelu=0.5", "crossed")
      for word in settings.MODIFIERS:
        if (word == "time" and name != "movielens") or (word == "towers3" and name in _MLPS):
          with pytest.raises(UserError, match="is not read by"):
            settings.config(scale, name, "swish", word)
        elif name != "criteo" and not word.startswith("window"):
          settings.config(scale, name, "swish", word)
    planned = STUDY.sweeps(scale, None)
    assert len({one.name for one in planned}) == len(planned)
    assert json.dumps([configs.to_dict(one.config) for one in planned])
    claims.record(STUDY.claims(scale))


def test_words_say_what_they_change():
  assert settings.config("laptop", "movielens", "time").data.get("test_by") == "time"
  made = settings.config("laptop", "movielens", "smelu=0.5", "order", "window100")
  assert made.activation == configs.Part("smelu", (("beta", 0.5),))
  assert made.seeds.vary == ("order",)
  assert (made.data.order, made.data.window) == ("window", 100)
  made = settings.config("laptop", "digits", "squareplus=3")
  assert made.activation == configs.Part("squareplus", (("b", 3.0),))
  assert settings.config("laptop", "movielens", "sample").data.train_examples == 60_000
  crossed = settings.config("laptop", "clicks", "crossed").seeds
  assert (crossed.vary, crossed.levels) == (("init", "order"), (4, 16))


@pytest.mark.parametrize(
  "words, message",
  [
    (("half", "digits"), "scale='half' is not known"),
    (("smoke", "clicks"), "scale='smoke' has no settings of clicks; take laptop or paper"),
    (("laptop", "movielens", "smalu"), "word='smalu' is not known; did you mean 'smelu'"),
    (("laptop", "movielens", "relu=1"), "relu has no parameter; write relu"),
    (("laptop", "movielens", "smelu=wide"), "'wide' is no number; write smelu=0.5"),
    (("smoke", "digits", "smelu=-1"), "beta=-1.0 must be at least 0"),
  ],
)
def test_words_that_cannot_be_are_refused(words, message):
  with pytest.raises(UserError, match=message):
    training.make_trainer(settings.config(*words))


def test_the_config_file_takes_words():
  spec = importlib.util.spec_from_file_location("smooth", ROOT / "configs/smooth.py")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  for name in settings.places("paper"):
    made = configs.parse(module.get_config(f"paper,{name},smelu=0.5,init"))
    assert made == settings.config("paper", name, "smelu=0.5", "init")
  assert configs.parse(module.get_config()) == settings.config("laptop", "movielens")


# --- what is measured


def test_measured_by_brute_force():
  rng = np.random.default_rng(1)
  lists = rng.permuted(np.tile(np.arange(30), (INITS * ORDERS, 4, 1)), axis=2)[..., :10]
  dataset = store(1.0, lists=lists)
  found = measured.measure(dataset.isel(run=rng.permutation(INITS * ORDERS)), "x")
  at = dataset["probability"].values.astype(np.float64).reshape(INITS, ORDERS, 3, EXAMPLES)
  for t in range(3):
    expected = np.mean([brute(at[:, :, t], i, range(ORDERS)) for i in range(INITS)])
    assert measured.pd_without(found.order_T[t])[0] == pytest.approx(expected, rel=1e-6)
    late = np.mean([brute(at[:, :, t], i, range(3, 6)) for i in range(INITS)])
    assert measured.pd_without(found.judged_T[t])[0] == pytest.approx(late, rel=1e-6)
  early = np.mean([brute(at[:, :, -1], i, range(3)) for i in range(INITS)])
  assert measured.pd_without(found.first_half)[0] == pytest.approx(early, rel=1e-6)
  for j in range(ORDERS):
    rest = [k for k in range(ORDERS) if k != j]
    without = np.mean([brute(at[:, :, -1], i, rest) for i in range(INITS)])
    assert measured.pd_without(found.order_T[-1])[1 + j] == pytest.approx(without, rel=1e-6)
  np.testing.assert_allclose(
    measured.mean_without(found.loss[..., -1])[1:],
    [np.delete(found.loss[..., -1], j, 1).mean() for j in range(ORDERS)],
  )
  average = at[:3, :, -1].mean(0)
  expected = brute(average[None], 0, range(ORDERS))
  assert measured.pd_without(found.ensembles)[0] == pytest.approx(expected, rel=1e-5)
  held = lists.reshape(INITS, ORDERS, 4, 10)
  shared = [
    np.mean([len(set(held[i, a, u]) & set(held[i, b, u])) / 10 for u in range(4)])
    for i in range(INITS)
    for a, b in itertools.permutations(range(3, 6), 2)
  ]
  overlap = crossed_pairs.crossed_mean(found.overlap).estimate
  assert overlap == pytest.approx(np.mean(shared), rel=1e-6)


def test_a_diverged_run_spoils_a_crossed_design():
  dataset = store(1.0)
  dataset["diverged"][4] = 7
  with pytest.raises(UserError, match="x: 1 of 18 runs diverged or are missing"):
    measured.measure(dataset, "x")


# --- what follows


def test_the_width_is_chosen_by_the_first_half_among_those_that_lose_little():
  flat = {"linear": store(0.5, (0.6, 0.6, 0.60)), "relu": store(1.0, (0.6, 0.58, 0.57))}
  settings = {
    "smelu_0.25": store(0.8, (0.6, 0.58, 0.571)),
    "smelu_1": store(0.6, (0.6, 0.58, 0.575)),
    "smelu_2": store(0.2, (0.6, 0.58, 0.59)),  # agrees most and loses too much
  }
  one = place(**flat, **settings)
  names = ["smelu=0.25", "smelu=1", "smelu=2"]
  assert contrasts.chosen_width(one, names) == "smelu=1"
  worse = place(**flat, smelu_4=store(0.1, (0.6, 0.58, 0.595)), **settings)
  assert contrasts.chosen_width(worse, ["smelu=4", "smelu=2"]) == "smelu=2"  # both lose too much
  # A setting that is restless in the second half alone is still chosen.
  late = store(0.2, (0.6, 0.58, 0.571))
  late["probability"][late["seed_order"] >= 3] += np.random.default_rng(0).normal(
    size=(9, 3, EXAMPLES)
  )
  other = place(**flat, **settings, smelu_3=late)
  assert contrasts.chosen_width(other, [*names, "smelu=3"]) == "smelu=3"
  ratio = contrasts.pd_ratios(other, ["smelu=3"], 0.95)[0]
  assert ratio.estimate > 3


def test_ratios_and_losses_are_those_of_the_second_half():
  one = place(
    relu=store(1.0, (0.6, 0.58, 0.57)), linear=store(0.5, (0.6, 0.6, 0.60)),
    smelu_1=store(0.5, (0.6, 0.58, 0.572)),
  )  # fmt: skip
  ratio = contrasts.pd_ratios(one, ["smelu=1"], 0.95)[0]
  assert ratio.estimate == pytest.approx(0.5, rel=1e-4)
  extra = contrasts.extra_losses(one, ["smelu=1"], 0.95)[0]
  assert extra.estimate == pytest.approx(0.002 - 0.03 / 3, abs=2e-4)
  assert contrasts.linear_loses(one)
  assert not contrasts.linear_loses(place(relu=store(1.0), linear=store(0.5)))


def test_where_falling_losses_reach_a_loss():
  losses, values = np.array([0.6, 0.5, 0.4]), np.array([1.0, 2.0, 4.0])
  assert contrasts.at_loss(losses, values, 0.42) == pytest.approx(3.6)
  assert contrasts.at_loss(losses, values, 0.6) == 1.0
  assert contrasts.at_loss(losses, values, 0.3) == 4.0
  assert np.isnan(contrasts.at_loss(losses, values, 0.61))


def test_relu_is_stopped_at_the_same_loss():
  """Half-way between its evaluations 2 and 3: its spread there is sqrt(0.75 * 1)."""
  one = place(relu=store(1.0, (0.60, 0.58, 0.57)), smelu_1=store(0.8, (0.60, 0.58, 0.575)))
  ratio = contrasts.against_stopped(one, "smelu=1", 0.95)
  relu = [measured.pd_without(one.settings["relu"].judged_T[t])[0] for t in (1, 2)]
  smelu = measured.pd_without(one.settings["smelu=1"].judged_T[-1])[0]
  assert ratio.estimate == pytest.approx(smelu / np.sqrt(relu[0] * relu[1]), rel=1e-2)
  assert ratio.low < ratio.estimate < ratio.high
  never = place(relu=store(1.0), smelu_1=store(0.8, (0.7, 0.7, 0.7)))
  assert np.isnan(contrasts.against_stopped(never, "smelu=1", 0.95).low)


def test_families_are_matched_at_equal_loss():
  """SmeLU's log PD falls by log 2 from 0.57 to 0.59; at 0.58 it is half-way."""
  ours = {"relu": store(1.0, (0.6, 0.6, 0.57)), "smelu_1": store(0.5, (0.6, 0.6, 0.59))}
  for spread, expected in ((np.sqrt(0.5), 1.0), (np.sqrt(2.0), 0.5)):
    one = place(**ours, swish_1=store(spread, (0.6, 0.6, 0.58)))
    found = contrasts.at_equal_loss(one, ["swish=1"], ["smelu=1"], 0.95)
    assert found.estimate == pytest.approx(expected, rel=1e-2)


def test_the_effect_of_the_width():
  """PD falls as beta^-1/2, and the widest loses 0.02."""
  widths = (0.25, 1, 4)
  made = {f"smelu_{w:g}": store(w**-0.5, (0.6, 0.6, 0.57 + 0.01 * n)) for n, w in enumerate(widths)}
  slope, loss = contrasts.width_effect(place(**made), [f"smelu={w:g}" for w in widths], 0.95)
  assert slope.estimate == pytest.approx(-0.5, rel=1e-3)
  assert loss.estimate == pytest.approx(0.02, abs=2e-4)


# --- the whole analysis


def made_up(one, spreads) -> xarray.Dataset:
  """A store for a sweep of the study: of its own setting, or of the one it varies."""
  setting = one.name.split("/")[-1]
  spread, loss = spreads(setting)
  if "/slices/" in one.name:
    jump = np.linspace(0, spread, 5)[None].repeat(4, 0)
    return xarray.Dataset(
      {"slice_jump": (("run", "point"), jump), "slice_loss": (("run", "point"), 1 - jump)}
    )
  crossed = one.config.seeds.design == "crossed"
  inits, orders = one.config.seeds.levels if crossed else (len(one.runs), 1)
  rng = np.random.default_rng(5)
  best = np.tile(np.arange(10), (inits * orders, 2, 1))
  steady = rng.uniform(size=best.shape) < 1 - spread / 2
  lists = np.where(steady, best, rng.integers(10, 1000, best.shape))
  losses = (loss + 0.03, loss + 0.02, loss)
  name = "test_auc" if one.name.startswith("movielens") else "test_accuracy"
  return store(spread, losses, inits=inits, orders=orders, lists=lists, score=name)


def judged(spreads, monkeypatch):
  monkeypatch.setattr(sweeps, "at_hand", lambda name, data_dir: name.startswith("movielens"))
  planned = STUDY.sweeps("laptop", None)
  rules = STUDY.claims("laptop")
  # Settings share what is random, as runs with the same seeds do.
  datasets = {one.name: made_up(one, spreads) for one in planned}
  found = STUDY.analyse(datasets, "laptop")
  verdicts = claims.judge_family(rules, found.evidence, found.preconditions, "laptop")
  return found, {one.claim.id: one.outcome for one in verdicts}


def test_a_world_as_the_papers_have_it(monkeypatch):
  """Smooth networks move half as much, at ReLU's loss; a linear one loses."""

  def spreads(setting):
    family, _, width = setting.partition("=")
    if family == "smelu":
      return 0.4 * float(width) ** -0.1, 0.571 + 0.0005 * float(width)
    return {"relu": (1.0, 0.57), "linear": (0.5, 0.60)}.get(family, (0.42, 0.571))

  found, outcomes = judged(spreads, monkeypatch)
  assert "movielens" in found.headline and "clicks, digits, cifar10" in found.lead[1]
  assert outcomes["M1 order, movielens"] == "shown"
  assert outcomes["M1 init, movielens"] == "shown"
  assert outcomes["M2 movielens"] == "shown"
  assert outcomes["M5 movielens"] == "shown"
  assert outcomes["M4"] == "shown"
  assert outcomes["M6"] == "shown"
  assert outcomes["M1 order, clicks"] == "not testable here"
  assert {table.title for table in found.tables} >= {
    "Activations on movielens",
    "Sources of irreproducibility on movielens",
    "Remedies on movielens",
    "Slices of the loss on movielens",
    "One unit",
  }
  assert set(found.figures) == {"tradeoff-movielens", "time-movielens", "slices"}


def test_a_world_that_contradicts_them(monkeypatch):
  """Smooth networks move more, and lose as much as a linear one."""
  _, outcomes = judged(
    lambda setting: {"relu": (0.5, 0.57), "linear": (0.5, 0.60)}.get(setting, (1.0, 0.60)),
    monkeypatch,
  )
  for name in ("M1 order, movielens", "M1 init, movielens", "M2 movielens", "M5 movielens"):
    assert outcomes[name] == "contradicted", name
  assert outcomes["M6"] == "contradicted"


def test_two_evaluation_sets_are_never_compared(monkeypatch):
  monkeypatch.setattr(sweeps, "at_hand", lambda name, data_dir: name.startswith("movielens"))
  planned = STUDY.sweeps("laptop", None)
  datasets = {one.name: made_up(one, lambda setting: (1.0, 0.57)) for one in planned}
  datasets["movielens/linear"].attrs["evaluation_digest"] = "another"
  with pytest.raises(UserError, match="relu and linear were evaluated on different examples"):
    STUDY.analyse(datasets, "laptop")
