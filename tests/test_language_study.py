"""The study of language: its settings, and its numbers on made-up stores."""

import itertools

import numpy as np
import pytest
import scipy.stats
import xarray

from seedlab import claims
from seedlab.errors import UserError
from seedlab.recipes import language as recipe
from seedlab.stats import crossed_pairs
from seedlab.studies.language import STUDY, measures, settings, sweeps
from seedlab.studies.language.claims import EARLY, PHASES, REPEATS

CONTEXTS, TOKENS, WINDOWS = 12, 4, 10


# --- settings


@pytest.mark.parametrize("scale", ["smoke", "laptop", "paper"])
def test_every_sweep_is_a_call_of_a_recipe_and_claims_have_their_evaluations(scale):
  planned = sweeps.of_file(scale, settings.FILE)
  assert len({one.name for one in planned}) == len(planned)
  for one in planned:
    name, arguments = one.trainer
    function = getattr(recipe, name.partition(":")[2])
    allowed = function.__code__.co_varnames[: function.__code__.co_argcount]
    assert set(arguments) <= set(allowed), one.name
    assert len(one.runs) >= 2
  course = {**settings.text(scale, "babble"), **settings.COURSE[scale]}
  for step in (*PHASES[scale], *EARLY[scale]):
    assert step % course["evaluate_every_steps"] == 0 and step <= course["steps"]
  world = settings.babble(scale, "real")
  evaluated = range(0, world["steps"] + 1, world["evaluate_every_steps"])
  assert {settings.repeats(scale, step) for step in evaluated} >= set(REPEATS[scale])


def test_babble_stands_in_where_the_text_is_not_at_hand(tmp_path, monkeypatch):
  monkeypatch.setenv("SEEDLAB_DATA", str(tmp_path))
  assert sweeps.make("laptop", None)[0].trainer[1]["file"] == "babble"
  (tmp_path / "text").mkdir()
  (tmp_path / settings.FILE).write_bytes(b"")
  assert sweeps.make("laptop", None)[0].trainer[1]["file"] == settings.FILE
  assert sweeps.make("smoke", None)[0].trainer[1]["file"] == "babble"


# --- statistics


def test_the_divergence_by_hand():
  p, q = np.array([0.5, 0.5]), np.array([0.9, 0.1])
  by_hand = (0.5 * np.log(5 / 9) + 0.5 * np.log(5) + 0.9 * np.log(9 / 5) + 0.1 * np.log(1 / 5)) / 2
  assert measures.divergence(p, q) == pytest.approx(by_hand)
  rows = measures.divergence_rows(np.stack([p, q, p])[:, None])
  np.testing.assert_allclose(rows, [by_hand, 2 * by_hand, by_hand])


def test_the_share_of_draws_is_one_less_the_intraclass_correlation():
  rng = np.random.default_rng(0)
  runs, draws = 400, 3
  values = rng.normal(size=(runs, 1)) + 2 * rng.normal(size=(runs, draws))
  found = measures.share_within(values, 0.95)
  assert found.low < 0.8 < found.high and found.estimate == pytest.approx(0.8, abs=0.05)
  # Its limits are where an F test is on the edge.
  between = draws * values.mean(1).var(ddof=1)
  within = values.var(axis=1, ddof=1).mean()
  for share, tail in ((found.low, 0.975), (found.high, 0.025)):
    ratio = 1 + draws * (1 - share) / share  # of the true mean squares
    law = scipy.stats.f(runs - 1, runs * (draws - 1))
    assert law.cdf(between / within / ratio) == pytest.approx(1 - tail, abs=1e-6)
  assert measures.share_within(np.array([[0.0, 1], [1, 0], [0, 1]]), 0.95).high == 1


def test_correlations_have_fishers_limits():
  x, y = np.random.default_rng(1).normal(size=(2, 30))
  found = measures.correlation(x, x + y, 0.9)
  low, high = scipy.stats.pearsonr(x, x + y).confidence_interval(0.9)
  assert (found.low, found.high) == pytest.approx((low, high))
  assert np.isnan(measures.correlation(x, 0 * x, 0.9).low)


def test_shares_of_what_both_sources_do():
  rng = np.random.default_rng(2)
  inits, orders = 5, 6
  cells = list(itertools.product(range(inits), range(orders)))
  by_init, by_order = rng.normal(size=(inits, 400)), rng.normal(size=(orders, 400))
  values = np.array([3 * by_init[i] + by_order[j] for i, j in cells])
  dataset = xarray.Dataset(
    {
      "next_token": (
        ("run", "evaluation", "context", "token"),
        np.log(np.exp(values)[:, None, :, None]),
      )
    },
    {"seed_init": ("run", [i for i, _ in cells]), "seed_order": ("run", [j for _, j in cells])},
  )
  dataset["next_token"] = dataset["next_token"] * 0 + np.log(0.5 + 0.01 * values)[:, None, :, None]
  tables = measures.tables(dataset)
  assert isinstance(tables, crossed_pairs.PairTables)
  init, order = measures.share_of_both(tables, 0.95)
  # |3 z| and |z| of normal differences, over |z sqrt 10|.
  for found, exact in ((init, 3 / np.sqrt(10)), (order, 1 / np.sqrt(10))):
    assert found.low < found.estimate < found.high
    assert found.estimate == pytest.approx(exact, rel=0.15)


def test_frequent_contexts_are_those_of_the_commonest_tokens():
  tokens = np.array([[3, 3, 3, 1, 1, 0, 2, 5]])
  dataset = xarray.Dataset({"context_token": (("run", "context"), tokens)})
  assert measures.frequent(dataset).tolist() == [True] * 5 + [False] * 3


# --- the whole analysis


def made_up(one, apart) -> xarray.Dataset:
  """A store of a sweep: predictions of runs are `apart` from each other at its evaluations."""
  crossed = (one.seeds or {}).get("design") == "crossed"
  levels = one.seeds["levels"] if crossed else (len(one.runs), 1)
  cells = list(itertools.product(*map(range, levels)))
  arguments = one.trainer[1]
  every = arguments.get("evaluate_every_steps") or arguments["steps"]
  steps = np.arange(every, arguments["steps"] + 1, every)
  rng = np.random.default_rng(len(one.name))
  shape = (len(cells), len(steps), CONTEXTS, TOKENS)
  noise = rng.normal(size=shape)
  if crossed:
    i, j = np.array(cells).T
    noise = rng.normal(size=shape)[i] + rng.normal(size=shape)[j] + 0.1 * noise
  luck = noise.mean((1, 2, 3))
  luck = (-1.0) ** i + (-1.0) ** j if crossed else luck / luck.std()
  size = np.array([apart(one.name, step) for step in steps])
  logs = size[None, :, None, None] * noise
  logs -= np.log(np.exp(logs).sum(-1, keepdims=True))
  loss = (2 + 0.01 * luck)[:, None] + 0 * steps
  gap = np.where(steps > arguments["steps"] / 2, 0.3, 0.0) * one.name.endswith("real")
  loss = loss + gap + 1e-4 * rng.normal(size=loss.shape)
  curve, each = ("run", "evaluation"), ("run", "evaluation", "draw")
  wide = np.arange(len(cells))[:, None]
  values = {
    "test_loss": (curve, loss),
    "excess_loss": (curve, loss - 1.9),
    "test_accuracy": (curve, 0.9 - 0 * loss),
    "tempered_loss": (curve, loss + 1e-4 * rng.normal(size=loss.shape)),
    "book_loss": (curve, loss + 1e-3 * rng.normal(size=loss.shape)),
    "window_loss": (
      ("run", "window"),
      loss[:, -1:] + 1e-3 * rng.normal(size=(len(cells), WINDOWS)),
    ),
    "next_token": (("run", "evaluation", "context", "token"), np.float32(logs)),
    "context_token": (("run", "context"), np.arange(CONTEXTS) % TOKENS + 0 * wide),
    "samples": (("run", "draw", "sample", "position"), rng.integers(0, 4, (len(cells), 4, 3, 5))),
    "code_point": (("run", "token"), np.array([97, 98, 10, 0]) + 0 * wide),
    **{
      name: (each, rng.normal(size=(len(cells), len(steps), 4)))
      for name in ("known_words", "novelty", "distinct")
    },
    "completed": ("run", np.ones(len(cells), bool)),
    "diverged": ("run", np.full(len(cells), -1)),
    "label": ("example", np.arange(8) % 2),
    "seed_init": ("run", np.array(cells)[:, 0]),
    "seed_order": ("run", np.array(cells)[:, 1]),
  }
  coords = {"run": np.arange(len(cells)), "evaluation": steps}
  attributes = {
    "evaluation_digest": one.name.partition("/")[0] + str(one.name.endswith(("course", "poke"))),
    "fingerprints": [],
    "metrics": {"test_loss": {"dims": ["evaluation"], "better": "lower", "unit": "nats"}},
  }
  return xarray.Dataset(values, coords, attributes)


def judged(apart, monkeypatch):
  # A page's figures read more of a store than is made up here.
  monkeypatch.setattr("seedlab.studies.language.page.spread_figure", lambda main: None)
  planned = sweeps.of_file("laptop", settings.FILE)
  datasets = {one.name: made_up(one, apart) for one in planned}
  found = STUDY.analyse(datasets, "laptop")
  rules = STUDY.claims("laptop")
  verdicts = claims.judge_family(rules, found.evidence, found.preconditions, "laptop")
  return found, datasets, {one.claim.id: one.outcome for one in verdicts}


def test_a_world_as_published(monkeypatch):
  _, before, height, end = PHASES["laptop"]

  def apart(name, step):
    """Small after the convergence, large at the height of the divergence."""
    if name.endswith("smelu"):
      return 0.2
    return np.interp(step, [0, before, height, end], [1.0, 0.3, 1.0, 0.6])

  found, _, outcomes = judged(apart, monkeypatch)
  shown = ("L1", "L2", "L5", "L6", "L7", "L8", "L9", "L10")
  assert [name for name in shown if outcomes[name] != "shown"] == []
  phases = ("convergence", "divergence", "reconvergence")
  assert {outcomes[f"L3 {name}"] for name in phases} == {"shown"}
  assert outcomes["L4"] == "open"  # frequent tokens are as others
  assert "40 trainings" in found.headline and len(found.tables) == 8
  assert any("modded-nanogpt" in row[0] for row in found.tables[0].rows)
  samples = next(table for table in found.tables if table.title.startswith("The same prompts"))
  assert all(set(cell) <= set('ab| "\ufffd') for row in samples.rows for cell in row[1:])


def test_a_world_that_contradicts_it(monkeypatch):
  def apart(name, step):
    if name.endswith("poke"):
      return 1e-3
    if name.endswith("smelu"):
      return 1.0
    return 0.2 + 0.001 * (400 - step)

  _, datasets, outcomes = judged(apart, monkeypatch)
  for name in ("L3 divergence", "L8", "L10"):
    assert outcomes[name] == "contradicted", name
  assert outcomes["L3 reconvergence"] == "shown"
  datasets["text/relu"].attrs["evaluation_digest"] = "another"
  with pytest.raises(UserError, match="main and relu were evaluated on different examples"):
    STUDY.analyse(datasets, "laptop")
  fewer = {**datasets, "text/relu": datasets["text/smelu"]}
  fewer["text/crossed"] = fewer["text/crossed"].copy()
  fewer["text/crossed"]["diverged"] = ("run", [0] + [-1] * 35)
  with pytest.raises((UserError, ValueError)):
    STUDY.analyse(fewer, "laptop")
