"""The recipe of a diffusion model: its outcomes, its streams, and what every recipe has anyway."""

import jax
import numpy as np
import pytest

import seedlab
from seedlab import data, engine, records
from seedlab.config import STREAMS
from seedlab.errors import UserError
from seedlab.models.mlp import MLP
from seedlab.recipes import diffusion
from seedlab.training import generation

NAME = "seedlab.recipes.diffusion:make"
SMALL = {
  "width": 8, "depth": 1, "batch_size": 16, "steps": 4, "warmup_steps": 2, "sampler_steps": 2,
  "samples": 30, "sample_batch": 12, "draws": 2, "points": 10, "frozen": 3,
}  # fmt: skip


def trained(**options):
  """A run with the seed 3 in every stream."""
  built = engine.build(diffusion.make(**{**SMALL, **options})(), "loop")
  return engine.train(built, np.full((1, len(STREAMS)), 3, np.uint32), keep_params=True)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
  """A file of a small classifier that was never trained."""
  file = tmp_path_factory.mktemp("features") / "classifier.safetensors"
  rng = np.random.default_rng(0)
  shapes = {"Dense_0/kernel": (64, 6), "Dense_0/bias": 6, "Dense_1/kernel": (6, 10)}
  shapes["Dense_1/bias"] = 10
  records.save_params(file, {n: np.float32(0.3 * rng.normal(size=s)) for n, s in shapes.items()})
  return {"features": str(file), "classifier": {"model": {"name": "mlp", "width": 6, "depth": 1}}}


def test_generation_seeds_change_samples_and_nothing_that_is_trained(classifier):
  recipe = diffusion.make(**SMALL, **classifier)
  built = engine.build(recipe(), "loop")
  table = np.full((2, len(STREAMS)), 3, np.uint32)
  table[1, STREAMS.index("generate")] = 9
  found = engine.train(built, table)
  assert found.digest[0] == found.digest[1]
  outcome = found.outcome
  shapes = {name: (array.shape[1:], array.dtype) for name, array in outcome.items()}
  one, draws = ((1,), np.float32), ((1, 2), np.float32)
  assert shapes == {
    "frechet": one, "test_loss": one, "frechet_features": draws, "frechet_pixels": draws,
    "precision": draws, "recall": draws, "image": ((1, 3, 64), np.uint8),
  }  # fmt: skip
  assert next(iter(recipe().metrics)) == "frechet"
  np.testing.assert_allclose(
    outcome["frechet"], outcome["frechet_features"].mean(-1), rtol=1e-5
  )
  # Draws differ, and seeds too; the images from frozen noises do not.
  distances = outcome["frechet_features"].ravel()
  assert len(set(distances.tolist())) == 4
  assert (outcome["image"][0] == outcome["image"][1]).all()
  assert outcome["image"][0].std() > 10


def test_the_features_are_what_the_last_layer_reads(classifier):
  kept = data.build("digits").dataset
  facts = {"classes": 10, "shape": (8, 8, 1), "platform": "cpu"}
  module, params = diffusion._classifier(classifier["features"], classifier["classifier"], facts)
  assert isinstance(module, MLP)
  known = {"params": params, "mean": kept.mean, "std": kept.std}
  found = generation.features(module, known, kept.test_image[:5])
  x = (kept.test_image[:5].reshape(5, -1) - kept.mean) / kept.std
  by_hand = np.maximum(x @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"], 0)
  np.testing.assert_allclose(found, by_hand, rtol=1e-4, atol=1e-5)


def test_an_ideal_world_and_a_poke_take_no_line_of_their_own():
  recipe = diffusion.make(**SMALL, world="ideal", poke_step=3)
  built = engine.build(recipe(), "loop")
  table = np.full((4, len(STREAMS)), 3, np.uint32)
  table[:, STREAMS.index("poke")] = range(4)
  found = engine.train(built, table)
  assert len(set(found.digest)) > 1  # a weight that is zero has no ulp that lasts
  assert np.ptp(found.outcome["frechet_pixels"], axis=0).max() < 0.01
  with pytest.raises(UserError, match=r"^world='ideal' uses each example once"):
    diffusion.make(**{**SMALL, "steps": 100}, world="ideal")()


@pytest.mark.slow
def test_a_full_batch_takes_no_line_of_its_own():
  found = trained(full_batch=True, block_size=500, last_block="keep")
  assert np.isfinite(found.outcome["frechet"]).all() and found.diverged[0] == -1


def test_the_samples_do_not_depend_on_how_many_are_made_at_once():
  def apply(x, time, label):
    return 0.1 * x + time[:, None] + label[:, None] - 4

  sampling = generation.Sampling(10, 1.0, "euler", 2, 30, 12, 1, 4)
  key = jax.random.key(0)
  whole = generation.drawn(sampling._replace(sample_batch=30), apply, key, (5,))
  np.testing.assert_array_equal(generation.drawn(sampling, apply, key, (5,)), whole)
  fewer = generation.drawn(sampling._replace(samples=7), apply, key, (5,))
  np.testing.assert_array_equal(fewer, whole[:7])
  assert len(np.unique(whole)) > 20


@pytest.mark.slow
def test_a_run_does_not_depend_on_its_neighbours(classifier):
  built = engine.build(diffusion.make(**SMALL, **classifier)(), "vmap", 2)
  runs = [np.array([[seed] * len(STREAMS) for seed in row], np.uint32) for row in ((3, 4), (3, 8))]
  first, other = (engine.train(built, table) for table in runs)
  assert first.digest[0] == other.digest[0] and first.digest[1] != other.digest[1]
  for name, array in first.outcome.items():
    np.testing.assert_array_equal(array[0], other.outcome[name][0], err_msg=name)


@pytest.mark.slow
def test_sweeps_of_it_resume_replay_and_are_put_together_from_shards(tmp_path):
  def sweep(name, runs, **options):
    return seedlab.sweep(
      NAME, runs, tmp_path / name, arguments=SMALL, seeds={"vary": ["init", "order", "generate"]},
      lanes="loop", workers=1, quiet=True, **options,
    )  # fmt: skip

  sweep("whole", 1)
  whole = sweep("whole", 3)  # goes on
  assert seedlab.replay(tmp_path / "whole", 1).exact
  for shard in ("1/2", "2/2"):
    sweep("cut", 3, shard=shard)
  seedlab.merge(tmp_path / "cut", quiet=True)
  merged = seedlab.open(tmp_path / "cut")
  for name in ("digest", "frechet", "frechet_pixels", "precision", "recall", "image", "test_loss"):
    np.testing.assert_array_equal(whole[name].values, merged[name].values)
  assert len(set(whole["digest"].values)) == 3


@pytest.mark.slow
def test_the_unet_is_a_network_of_it_too():
  found = trained(network="unet", depth=2, width=4)
  assert len(jax.tree.leaves(found.params)) > 20 and np.isfinite(found.outcome["frechet"]).all()


@pytest.mark.parametrize(("options", "words"), [
  ({"sampler": "rk4"}, r"^sampler='rk4' is not known.*euler, heun"),
  ({"drop_class": 1.5}, r"^drop_class=1.5 must lie from 0 to 1"),
  ({"guidance": 2.0, "drop_class": 0.0}, r"^guidance=2.0 asks for samples of no class"),
  ({"draws": 0}, r"^draws=0 must be at least 1"),
  ({"points": 31}, r"^points=31 must be at least 4 and at most .*30"),
  ({"data": "glyphs"}, r"^data='glyphs' is not a set of images"),
  ({"activation": "rellu"}, r"rellu"),
  ({"features": "/nowhere.safetensors"}, r"^features='/nowhere.safetensors' cannot be read"),
  ({"stepps": 3}, r"^stepps=3 is not an option"),
])  # fmt: skip
def test_a_wrong_argument_is_one_line(options, words):
  with pytest.raises(UserError, match=words):
    diffusion.make(**{**SMALL, **options})


def test_another_classifiers_file_is_refused(classifier):
  with pytest.raises(UserError, match=r"does not hold the parameters of classifier\.model"):
    diffusion.make(**SMALL, features=classifier["features"])
