"""The training that `soak.py` sweeps: it compiles in a moment and uses noise at every step."""

import jax
import jax.numpy as jnp
import numpy as np

from seedlab import Metric, Trainer


def make(steps: int = 8000, rate: float = 0.05) -> Trainer:
  """8 hidden units learn a sine from noisy points."""
  x = np.linspace(-2, 2, 32, dtype=np.float32)[:, None]

  def predicted(params, x):
    return jnp.tanh(x @ params["in"]) @ params["out"]

  def error(params, data, noise):
    return jnp.mean((predicted(params, data["x"]) - data["y"] - noise) ** 2)

  def init(keys, data):
    weights = jax.random.normal(keys.init, (2, 8), jnp.float32)
    return {"params": {"in": weights[:1], "out": weights[1][:, None]}}

  def advance(state, keys, data, fed, first, steps):
    def step(number, params):
      key = jax.random.fold_in(keys.noise, number)
      slope = jax.grad(error)(params, data, jax.random.normal(key, (32, 1), jnp.float32))
      return jax.tree.map(lambda p, g: p - rate * g, params, slope)

    params = jax.lax.fori_loop(first, first + steps, step, state["params"])
    return {"params": params}, {"diverged": jnp.int32(-1)}

  def evaluate(state, keys, data):
    prediction = predicted(state["params"], data["x"])
    return {"mse": error(state["params"], data, 0.0), "prediction": prediction[:, 0]}

  return Trainer(
    plan=(steps // 3, steps),
    load=lambda: {"x": x, "y": np.sin(2 * x)},
    init=init,
    advance=advance,
    evaluate=evaluate,
    metrics={"mse": Metric(better="lower"), "prediction": Metric(("example",))},
    coords={"target": ("example", np.sin(2 * x[:, 0]))},
  )
