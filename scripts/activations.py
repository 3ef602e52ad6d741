"""Draws every activation and its derivative, for a few values of the parameter it has."""

import functools

from absl import flags

from seedlab import cli
from seedlab.errors import UserError

_OUT = flags.DEFINE_string("out", None, "the PNG file to write", required=True)
_REACH = flags.DEFINE_float("reach", 3.0, "the largest |x|", lower_bound=0.1, upper_bound=100)

_BETAS = [{"beta": 0.5}, {"beta": 1.0}, {"beta": 3.0}]
# (name, its parameters in each variant), in the order of docs/activations.md.
_PANELS = [
  ("linear", [{}]),
  ("relu", [{}]),
  ("leaky_relu", [{"slope": 0.01}, {"slope": 0.2}]),
  ("smelu", [{"beta": 0.5}, {"beta": 1.0}, {"beta": 2.0}]),
  ("gsmelu", [{"g_minus": 0.2, "t": -0.2}, {"alpha": 0.0, "beta": 2.0}]),
  ("rescu", [{"degree": 1}, {"degree": 3}]),
  ("softplus", _BETAS),
  ("swish", _BETAS),
  ("gelu", _BETAS),
  ("squared_relu", [{}]),
  ("mish", [{}]),
  ("tanhexp", [{}]),
  ("squareplus", [{"b": 0.25}, {"b": 1.0}, {"b": 4.0}]),
  ("elu", [{"alpha": 0.5}, {"alpha": 1.0}]),
  ("celu", [{"alpha": 0.5}, {"alpha": 1.0}, {"alpha": 2.0}]),
]


def main(argv: list[str]) -> None:
  del argv
  if not _OUT.value.endswith(".png"):
    raise UserError(f"--out={_OUT.value!r} must end in .png")
  import jax  # after the flags: a mistake answers at once
  import numpy as np

  from seedlab import activations, figures

  x_N = np.linspace(-_REACH.value, _REACH.value, 601, dtype=np.float32)
  panels = {}
  for name, variants in _PANELS:
    panels[name] = {}
    for kwargs in variants:
      function = functools.partial(getattr(activations, name), **kwargs)
      lines = jax.jit(jax.vmap(jax.value_and_grad(function)))(x_N)
      label = ", ".join(f"{parameter} {value:g}" for parameter, value in kwargs.items())
      panels[name][label] = tuple(map(np.asarray, lines))
  figures.functions(x_N, panels).savefig(_OUT.value, format="png", dpi=110)


if __name__ == "__main__":
  cli.run(main)
