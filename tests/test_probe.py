"""Fine-tuning in two stages: the last layer alone, then all of them."""

import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from networks import build as network_of
from networks import shapes
from sections import merged
from test_ideal import DATASET, assert_close, keys_of
from test_remedies import BASE, differing, states

from seedlab import config as configs
from seedlab import programs, records, training
from seedlab.config import Probe
from seedlab.errors import UserError
from seedlab.training import losses
from seedlab.training import optimizer as optimizers

ROOT = pathlib.Path(__file__).parent.parent
PROBE = {
  "steps": 3, "learning_rate": 0.2, "end": 0.2, "label_smoothing": 0.05, "loss_factor": 2.0
}  # fmt: skip


@pytest.fixture(scope="module")
def file(tmp_path_factory):
  """What a run of the same network with batch norm ended with."""
  name = tmp_path_factory.mktemp("probe") / "start.safetensors"
  trainer = training.on_dataset(merged(BASE, model={"norm": "batch"}), DATASET, 3)
  records.save_params(name, programs.named_leaves(states(trainer, run=9, steps=2)[-1].params))
  return str(name)


def tuned(file, probe=PROBE, optimizer="sgd"):
  config = merged(
    {**BASE, "optimizer": {"name": optimizer, "learning_rate": 0.1}},  # sgd: momentum 0.9
    model={"norm": "batch", "initial": file, "fresh": ["Dense_1"]},
    probe=probe,
  )
  return training.on_dataset(config, DATASET, 3)


def test_the_last_layer_is_trained_first_and_alone(file):
  found = states(tuned(file))
  for step in range(1, len(found)):
    before, after = found[step - 1], found[step]
    backbone = [
      differing(before.params[name], after.params[name])
      for name in before.params
      if name != "Dense_1"
    ]
    assert differing(before.params["Dense_1"], after.params["Dense_1"])
    assert any(backbone) == (step > 3)
    # In train mode: running statistics drift in the first stage, too.
    assert differing(before.batch_stats, after.batch_stats)


def test_the_second_stage_starts_without_momentum(file):
  """Its first step is that of a training which begins there."""
  found = states(tuned(file), steps=4)
  plain = tuned(file, {})
  data, keys = jax.device_put(plain.load()), keys_of(1)
  fresh = jax.jit(plain.init)(keys, data).opt_state
  start = found[3]._replace(opt_state=fresh)
  one, _ = jax.jit(plain.advance)(start, keys, data, None, jnp.int32(3), jnp.int32(1))
  assert_close(found[4].params, one.params)
  moving, _ = jax.jit(plain.advance)(
    start._replace(opt_state=found[3].opt_state), keys, data, None, jnp.int32(3), jnp.int32(1)
  )
  assert differing(moving.params["Dense_1"], one.params["Dense_1"])


def test_the_first_stage_has_its_own_loss_and_rate(file):
  """One step of the last layer, by hand: 2 LS(0.05) at 0.2."""
  before, after = states(tuned(file), steps=1)
  other = states(tuned(file, {**PROBE, "loss_factor": 1.0}), steps=1)[1]
  moved, half = (
    jax.tree.map(jnp.subtract, state.params["Dense_1"], before.params["Dense_1"])
    for state in (after, other)
  )
  assert_close(moved, jax.tree.map(lambda x: 2 * x, half))
  slower = states(tuned(file, {**PROBE, "learning_rate": 0.1, "end": 0.1}), steps=1)[1]
  assert_close(slower.params["Dense_1"], other.params["Dense_1"])
  plain = states(tuned(file, {**PROBE, "label_smoothing": 0.0}), steps=1)[1]
  assert differing(plain.params["Dense_1"], after.params["Dense_1"])


def test_the_loss_of_the_first_stage_is_the_published_one():
  rng = np.random.default_rng(0)
  logits, label = rng.normal(size=(6, 5)).astype(np.float32), np.arange(6) % 5
  published = losses.cross_entropy(logits, label) + losses.cross_entropy(logits, label, 0.1)
  np.testing.assert_allclose(2 * losses.cross_entropy(logits, label, 0.05), published, rtol=1e-5)
  smooth = optax.smooth_labels(jax.nn.one_hot(label, 5), 0.05)
  np.testing.assert_allclose(
    losses.towards(logits, smooth), losses.cross_entropy(logits, label, 0.05), rtol=1e-6
  )


def module():
  spec = importlib.util.spec_from_file_location("imagenet", ROOT / "configs/seeds/imagenet.py")
  found = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(found)
  return found


@pytest.mark.parametrize(
  "network, expected",
  [
    # Rates by step: a quarter cosine that moves once, then twelve steps of one.
    ("resnet50", {0: 0.02, 1999: 0.02, 2000: 0.019535, 4000: 5e-4, 5999: 5e-4, 27_999: 1.07e-4}),
    ("dino_resnet50", {0: 0.1, 2000: 0.0505, 4000: 0.04, 16_000: 0.02005, 27_999: 1e-4}),
    ("dino_vit", {0: 0.01, 1000: 0.0055, 2000: 1e-4, 15_000: 5.05e-5, 27_999: 1e-6}),
  ],
)
def test_the_published_rates(network, expected):
  config = configs.parse(module().get_config(f"paper,{network},file.safetensors"))
  rate = optimizers.staged(
    config.optimizer, config.schedule, config.probe, config.training.steps
  )
  for step, value in expected.items():
    assert float(rate(step)) == pytest.approx(value, rel=2e-3), step
  assert config.data.get("stream")


@pytest.mark.parametrize(
  "network, batch, own",
  [
    ("resnet50", 64, {"end": 1e-3, "period": 20_000, "hold_steps": 2000, "learning_rate": 0.02}),
    ("dino_resnet50", 128, {"end": 1e-3, "learning_rate": 0.1}),
    ("dino_vit", 128, {"end": 1e-3, "learning_rate": 0.01}),
  ],
)
def test_the_published_stages(network, batch, own):
  """The fact sheet's section 1.4; what is fresh is the last layer."""
  config = configs.parse(module().get_config(f"paper,{network},file.safetensors"))
  steps = 2000 if network == "dino_vit" else 4000
  assert config.probe == Probe(steps=steps, label_smoothing=0.05, loss_factor=2.0, **own)
  optimizer = dict(config.optimizer.options)
  names = ("nesterov", "momentum", "weight_decay")
  assert tuple(optimizer[name] for name in names) == (True, 0.9, 1e-4)
  assert (config.training.batch_size, config.training.steps) == (batch, 28_000)
  made = network_of(config.model.name, (224, 224, 3), 1000, **dict(config.model.options))
  params = shapes(made, 224)["params"]
  (name,) = config.model.fresh
  assert params[name]["kernel"].shape[1] == 1000


def test_stages_that_cannot_be_are_refused(file):
  with pytest.raises(UserError, match=r"probe.steps=7 must be below the 7 steps"):
    tuned(file, {**PROBE, "steps": 7})
  with pytest.raises(UserError, match=r"probe.steps=3 does not go with optimizer.name='adam'"):
    tuned(file, optimizer="adam")
  with pytest.raises(
    UserError, match=r"trains the parameters of model.fresh alone, which is empty"
  ):
    merged(BASE, probe=PROBE)
  with pytest.raises(UserError, match=r"schedule.end=0.1 is not read .*'constant', but by cosine"):
    merged(BASE, schedule={"end": 0.1})
  with pytest.raises(UserError, match=r"probe.end=5.0 must be at most probe.learning_rate=0.1"):
    tuned(file, {**PROBE, "learning_rate": 0.1, "end": 5.0})
  with pytest.raises(
    UserError, match=r"needs one file of weights: paper,dino_vit,FILE.safetensors"
  ):
    module().get_config("paper,dino_vit")
