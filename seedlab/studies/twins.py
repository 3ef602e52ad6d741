"""Two trainings of one network that part at a step: how far, and whether a hill lies between.

Twins share initialisation, data, order and augmentation until step k; from then on the
second one draws its order, augmentation and noise anew. (Frankle, Dziugaite, Roy & Carbin
2020, arXiv 1912.05671: instability analysis. There only what follows step k differs, too.)

  error_path    test error of (1 - a) A + a B, a = 0, ..., 1
  barrier       its largest value less the mean of both ends
  distance      ||A - B||, and over the distance that A has gone since initialisation
  disagreement  share of the test examples that A and B label differently

Stores know this Trainer by the name of its module, so that moving it would disown them.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from seedlab import config as configs
from seedlab import streams, training
from seedlab.errors import UserError
from seedlab.trainer import Metric, Trainer

_ANEW = ("order", "augment", "noise")
_SECOND = 2**32 - 3  # fold_in of a stream's key: that of the second twin, beyond every epoch


class Twins(NamedTuple):
  """The state of both."""

  first: training.State
  second: training.State
  start: Any  # parameters at initialisation

  @property
  def params(self) -> Any:
    return self.first.params


def make(
  config: Mapping[str, Any], split: int, points: int = 21, data_dir: str | None = None
) -> Trainer:
  """The Trainer of twins that part before step `split`.

  Args:
    config: of one of them; without batch norm, whose statistics would have to be measured
      anew between the two, and not in an ideal world.
    split: k, from 0 (nothing but the initialisation is shared) to the last step (nothing parts).
    points: at which the path between them is measured, both ends included.
    data_dir: the tensorflow-datasets directory.

  Raises:
    UserError: what `training.make_trainer` raises, and for what twins cannot be.
  """
  parsed = configs.parse(config)
  _refuse_impossible(parsed)
  one = training.make_trainer(parsed, data_dir)
  if one.feed:
    raise UserError(
      "twins need their data on the device, where the second draws its order anew; switch off"
      " data.stream"
    )
  end = one.plan[-1]
  if not 0 <= split <= end or points < 2:
    raise UserError(
      f"split={split} must lie from 0 to the {end} steps of a run, points={points} be 2 or more"
    )

  def init(keys, data):
    state = one.init(keys, data)
    return Twins(state, state, state.params)

  def advance(state, keys, data, fed, first, steps):
    return _advance(one, split, state, keys, data, fed, first, steps)

  def evaluate(state, keys, data):
    return _outcomes(one, points, state, keys, data)

  names = ("barrier", "disagreement", "distance", "relative_distance")
  plan = tuple(sorted({step for step in (split, end) if step}))
  return Trainer(
    plan=plan,
    load=one.load,
    init=init,
    advance=advance,
    evaluate=evaluate,
    metrics={
      "test_accuracy": Metric(better="higher"),
      **dict.fromkeys(names, Metric()),
      "error_path": Metric(("point",)),
    },
    period=one.period,
    evaluated_on=one.evaluated_on,
  )


def _advance(one: Trainer, split: int, state: Twins, keys, data, fed, first, steps):
  """Both twins, `steps` steps further: what `Trainer.advance` returns.

  Segments never cross the step at which they part: it is an evaluation.
  """
  parted = _parted(keys, first, split)
  a, log = one.advance(state.first, keys, data, fed, first, steps)
  b, other = one.advance(state.second, parted, data, fed, first, steps)
  diverged = jnp.where(log["diverged"] < 0, other["diverged"], log["diverged"])
  return state._replace(first=a, second=b), {"diverged": diverged}


def _outcomes(one: Trainer, points: int, state: Twins, keys, data) -> dict[str, jax.Array]:
  """The outcomes of this module's head; `error_path` has shape [points]."""
  a, b = (one.evaluate(each, keys, data) for each in (state.first, state.second))

  def error(share):
    mixed = jax.tree.map(
      lambda x, y: (1 - share) * x + share * y, state.first.params, state.second.params
    )
    return 1 - one.evaluate(state.first._replace(params=mixed), keys, data)["test_accuracy"]

  path = jax.lax.map(error, jnp.linspace(0, 1, points, dtype=jnp.float32))
  distance, gone = (
    _norm(jax.tree.map(jnp.subtract, state.first.params, other))
    for other in (state.second.params, state.start)
  )
  return {
    "test_accuracy": a["test_accuracy"],
    "barrier": path.max() - (path[0] + path[-1]) / 2,
    "disagreement": (a["predicted_label"] != b["predicted_label"]).mean(dtype=jnp.float32),
    "distance": distance,
    "relative_distance": distance / jnp.where(gone > 0, gone, 1),
    "error_path": path,
  }


def _refuse_impossible(parsed: configs.Config) -> None:
  """Raises UserError where nothing could be mixed, or drawn anew."""
  if parsed.model.get("norm") == "batch":
    raise UserError(
      "model.norm='batch' has statistics that no mixture of two networks has; take 'none' or"
      " 'group'"
    )
  if parsed.data.world != "real":
    raise UserError("data.world='ideal' has no order to draw anew; twins need 'real'")
  if parsed.training.average:
    raise UserError(
      f"training.average={parsed.training.average:g} evaluates other parameters than those between"
      " which twins are mixed; twins need 0"
    )


def _parted(keys: streams.Keys, first: jax.Array, split: int) -> streams.Keys:
  """The keys, from step `split` on with those by which the second twin draws anew."""
  anew = {name: streams.at_step(getattr(keys, name), _SECOND) for name in _ANEW}
  return keys._replace(
    **{
      name: jax.random.wrap_key_data(
        jnp.where(
          first >= split, jax.random.key_data(key), jax.random.key_data(getattr(keys, name))
        ),
        impl=streams.IMPLEMENTATION,
      )
      for name, key in anew.items()
    }
  )


def _norm(tree: Any) -> jax.Array:
  squares = (jnp.square(leaf.astype(jnp.float32)) for leaf in jax.tree.leaves(tree))
  return jnp.sqrt(sum(jnp.sum(square) for square in squares))
