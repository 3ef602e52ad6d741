import jax
import pytest

from seedlab import cli, counting, host, programs, training
from seedlab.changes import changed
from seedlab.config import parse


def rounding(precision: str) -> dict[str, float]:
  """Operations of a step of the small network, by what its products round to."""
  config = changed(parse(cli.load("seedlab:digits:smoke")), {"model.precision": precision})
  trainer = training.make_trainer(config)
  one = programs.one_run(trainer, trainer.load())
  return counting.products(programs.trace(one, "loop", 1).advance.jaxpr)


def test_float32_is_float32_on_an_accelerator_and_tf32_is_asked_for(monkeypatch):
  here = rounding("float32")
  assert set(here) == {"default"}  # which a CPU computes in float32
  monkeypatch.setattr(host, "matmul_precision", lambda platform: "highest")
  assert rounding("float32") == {"float32": here["default"]}
  assert rounding("tf32") == {"tf32": here["default"]}
  assert set(rounding("bfloat16")) >= {"bfloat16"}


def test_the_fingerprint_says_what_products_round_to():
  assert host.matmul_precision("cpu") is None
  assert host.matmul_precision("gpu") == host.matmul_precision("tpu") == "highest"
  assert host.numerics()["matmul_precision"] is None


@pytest.mark.parametrize("asked", ["tensorfloat32", "bfloat16"])
def test_what_a_user_asked_jax_for_stays(asked):
  with jax.default_matmul_precision(asked):
    assert host.matmul_precision("gpu") == asked
    assert host.numerics()["matmul_precision"] == asked
