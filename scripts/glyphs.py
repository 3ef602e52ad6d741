"""Draws a contact sheet of the procedural world of glyphs: a row a class, then half-way shapes."""

import json

from absl import flags

from seedlab import cli
from seedlab.config import SEED_LIMIT
from seedlab.errors import UserError

_OUT = flags.DEFINE_string("out", None, "the PNG file to write", required=True)
_SIZE = flags.DEFINE_integer("image_size", 32, "pixels a side")
_SEED = flags.DEFINE_integer(
  "seed", 0, "seed of the stream `sample`", lower_bound=0, upper_bound=SEED_LIMIT - 1
)
_COLUMNS = flags.DEFINE_integer("per_class", 12, "images a class", lower_bound=1, upper_bound=40)
_WORLD = flags.DEFINE_string("world_kwargs", "{}", 'JSON parameters, as in {"clutter": 0}')


def main(argv: list[str]) -> None:
  del argv
  parameters = _parameters()
  if not _OUT.value.endswith(".png"):
    raise UserError(f"--out={_OUT.value!r} must end in .png")
  import jax  # after the flags: a mistake answers at once
  import jax.numpy as jnp
  import numpy as np

  from seedlab import data, figures, streams

  parameters["image_size"] = _SIZE.value
  world = data.build("glyphs", parameters).world
  halfway = data.build("glyphs", {**parameters, "ambiguity": 1.0}).world
  key = streams.derive(jnp.full(len(streams.STREAMS), _SEED.value, jnp.uint32)).sample
  drawn = 30 * _COLUMNS.value  # three times what the rows need on average
  images, labels = jax.jit(world.sample)(key, jnp.arange(drawn))
  between, _ = jax.jit(halfway.sample)(key, drawn + jnp.arange(_COLUMNS.value))
  figure = figures.contact_sheet(
    np.concatenate([images, between]),
    np.concatenate([labels, np.full(len(between), len(world.class_names))]),
    [*world.class_names, "half-way"],
    _COLUMNS.value,
  )
  figure.savefig(_OUT.value, format="png")


def _parameters() -> dict[str, float]:
  try:
    values = json.loads(_WORLD.value)
  except json.JSONDecodeError as error:
    raise UserError(f"--world_kwargs={_WORLD.value!r} is not JSON: {error}") from None
  if not isinstance(values, dict):
    raise UserError(f'--world_kwargs={_WORLD.value!r} must be an object, as in {{"clutter": 0}}')
  return values


if __name__ == "__main__":
  cli.run(main)
