"""The diffusion study: its sweeps, and its numbers on made-up trainings."""

import numpy as np
import pytest
import scipy.stats
import xarray

from seedlab.errors import UserError
from seedlab.recipes import diffusion
from seedlab.report import charts
from seedlab.studies.diffusion import STUDY, measures, settings, sweeps

CLASSES = 10


def made_up(R, K, between, within, rng, mean=2.0):
  """float64[R, K]: trainings with draws, with these standard deviations."""
  return mean + between * rng.normal(size=(R, 1)) + within * rng.normal(size=(R, K))


def store(values_RxTxK, image_RxTxNxP, seeds=None, steps=None) -> xarray.Dataset:
  R, T, _ = values_RxTxK.shape
  per_draw = ("run", "evaluation", "draw")
  names = ("frechet_features", "frechet_pixels", "precision", "recall")
  values = {name: (per_draw, values_RxTxK.astype(np.float32)) for name in names}
  values["test_loss"] = (("run", "evaluation"), np.ones((R, T), np.float32))
  values["image"] = (("run", "evaluation", "noise", "pixel"), image_RxTxNxP)
  values["completed"] = ("run", np.ones(R, bool))
  values["diverged"] = ("run", np.full(R, -1))
  for name, seed_R in (seeds or {}).items():
    values[f"seed_{name}"] = ("run", np.asarray(seed_R, np.uint32))
  steps = np.arange(1, T + 1) * 100 if steps is None else steps
  return xarray.Dataset(values, {"run": np.arange(R), "evaluation": steps},
                        {"evaluation_digest": "one", "fingerprints": []})  # fmt: skip


def test_the_ratio_of_retraining_covers_as_often_as_it_says():
  rng = np.random.default_rng(0)
  found = [measures.retraining_ratio(made_up(12, 4, 0.2, 0.1, rng), 0.9) for _ in range(400)]
  covered = np.mean([one.low <= 2 <= one.high for one in found])
  assert scipy.stats.binomtest(round(400 * covered), 400, 0.9).pvalue > 0.01
  assert abs(np.median([one.estimate for one in found]) - 2) < 0.15
  assert measures.retraining_ratio(made_up(12, 4, 0.0, 0.1, rng)).low == 0


def test_variation_leaves_the_draws_out_and_is_a_share_of_the_mean():
  rng = np.random.default_rng(1)
  found = measures.variation(made_up(400, 2, 0.1, 0.3, rng))
  assert found.low < 0.05 < found.high and found.high < 0.08
  values_R = made_up(50, 1, 0.1, 0.0, rng)[:, 0]
  trend = measures.variation_trend(values_R, 3 * values_R)
  np.testing.assert_allclose(trend.estimate, 1)  # the same share of three times the mean
  wider = measures.variation_trend(values_R, values_R + 2 * (values_R - values_R.mean()))
  np.testing.assert_allclose(wider.estimate, 3)


def test_the_best_of_three_by_hand():
  values = np.array([[1.0, 2, 3, 4], [5, 5, 5, 5]])
  # Of the four threes the least is 1, 1, 1 and 2.
  np.testing.assert_array_equal(np.sort(measures.best_of_three(values), 1)[0], [1, 1, 1, 2])
  np.testing.assert_allclose(measures.flattery(values).estimate, (2.5 - 1.25) / 2 / 3.75)
  other = np.array([[0.0, 10, 10, 10], [20, 20, 20, 20]])
  found = measures.overturned(np.full((3, 2), 5.0), other)
  # One draw of the first run of the other model wins in a quarter, its best of three in 3 of 4.
  np.testing.assert_allclose(found.estimate, ((0.75 - 0.25) + 0) / 2)


def test_luck_is_worth_the_steps_it_saves():
  """A distance that falls as 1 / step: 1.28 sd of 10 % are worth a factor of 1 / (1 - 0.128)."""
  rng = np.random.default_rng(2)
  steps = np.array([500.0, 1000, 1500, 2000])
  factor = 1 + 0.1 * rng.permutation(scipy.stats.norm.ppf((np.arange(200) + 0.5) / 200))
  values = factor[:, None, None] / steps[None, :, None] * np.ones((1, 1, 2))
  noisy = values * (1 + 0.05 * rng.normal(size=values.shape))
  for one, tolerance in ((values, 0.005), (noisy, 0.02)):
    found = measures.luck(one, steps)
    np.testing.assert_allclose(found.estimate, 1 / (1 - 0.12816), rtol=tolerance)
    assert found.low < found.estimate < found.high
  # Beyond the last evaluation the line is prolonged.
  slow = factor[:, None, None] * steps[None, :, None] ** -0.1 * np.ones((1, 1, 2))
  np.testing.assert_allclose(measures.luck(slow, steps).estimate, 3.94, rtol=0.02)


def test_sameness_is_0_where_the_seed_and_1_where_the_noise_does_not_matter():
  rng = np.random.default_rng(3)
  noise = rng.uniform(size=(1, 40, 16)).astype(np.float32)
  same = np.repeat(noise, 4, 0) + 1e-6 * rng.normal(size=(4, 40, 16))
  assert measures.sameness(same, CLASSES).high < 0.01
  apart = rng.uniform(size=(6, 40, 16)).astype(np.float32)
  found = measures.sameness(apart, CLASSES)
  assert found.low < 1 < found.high and found.high - found.low < 0.2
  # By hand: two noises of one class, two runs.
  images = np.float32([[[0.0], [1.0]], [[0.5], [1.0]]])
  np.testing.assert_allclose(measures.sameness(images, 1).estimate, 0.25 / 0.75, rtol=1e-6)


def test_what_differs_between_two_runs_of_the_crossed_design():
  levels = np.array([(i, o, n) for i in range(2) for o in range(2) for n in range(2)])
  seeds = dict(zip(settings.FACTORS, levels.T, strict=True))
  image = np.zeros((8, 1, 20, 4), np.uint8)
  image += (51 * levels[:, 0] + 102 * levels[:, 1])[:, None, None, None].astype(np.uint8)
  values = np.ones((8, 1, 2)) + levels[:, 2][:, None, None]
  one = store(values, image, seeds)
  found = measures.apart_by(one, settings.FACTORS)
  assert len(found) == 7
  np.testing.assert_allclose(found["init",], 4 * 0.2, rtol=1e-5)
  np.testing.assert_allclose(found["order",], 4 * 0.4, rtol=1e-5)
  assert found["noise",] == 0
  effect = measures.effects(one, settings.FACTORS)
  np.testing.assert_allclose(effect["noise"].total.estimate, 1)
  one["diverged"][3] = 7
  with pytest.raises(UserError, match="1 of 8 runs diverged or are missing; lower learning_rate"):
    measures.draws(one)


@pytest.mark.parametrize("scale", ["smoke", "laptop", "paper"])
def test_every_sweep_asks_for_what_the_recipe_has(scale, monkeypatch):
  planned = {one.name: one for one in STUDY.sweeps(scale, None)}
  claims = STUDY.claims(scale)
  assert len({claim.id for claim in claims}) == len(claims)
  total = sum(len(one.runs) for one in planned.values())
  assert total <= {"smoke": 30, "laptop": 270, "paper": 1000}[scale]
  asked = {}
  monkeypatch.setattr(diffusion, "supervised", lambda *given, **options: asked.update(options))
  for name, one in planned.items():
    if name == "classifier" or scale == "paper":  # whose data need not be at hand
      continue
    diffusion.make(**one.trainer[1])
    assert asked["steps"] == one.trainer[1]["steps"]
    assert one.files == {"features": "classifier"}
  with pytest.raises(UserError, match="scale"):
    settings.arguments("desk")
  assert sweeps.counts("laptop") == [1000, 2500]


def test_rows_of_images_begin_at_the_top():
  pixels = np.zeros((2, 3, 16))
  pixels[0, 0, 0] = 1  # the upper left pixel of all
  plot = charts.images(["first", "second"], pixels)
  (sheet,) = plot.renderers[0].data_source.data["image"]
  # Rows count from below; squares of 4 and gaps of 1.
  red = sheet.view(np.uint8).reshape(*sheet.shape, 4)[..., 0]
  assert sheet.shape == (10, 15) and np.argwhere(red).tolist() == [[8, 0]]
  assert plot.yaxis.major_label_overrides == {7.5: "first", 2.5: "second"}
