"""What the fields of a config say together: rules that span sections, in one place.

Each check takes a parsed config (`config.Config`) and raises a UserError that names field, value
and remedy. What concerns one part alone is checked by the part.
"""

import math
from typing import Any

from seedlab.errors import UserError

SEED_LIMIT = 2**32


def check(config: Any, values: dict[str, Any]) -> None:
  """All rules.

  Args:
    config: a `config.Config`.
    values: {"section.field": value} of all of it.
  """
  _check_below(values)
  _check_remedies(config.training)
  _check_probe(config)
  _check_evaluation(config)
  _check_world(config)
  _check_order(config.data)
  _check_stream(config)
  _check_update(config)
  _check_loss(config)
  _check_float16(config)
  check_seeds(config.seeds)


def _check_below(values: dict[str, Any]) -> None:
  for field in ("data.label_noise", "probe.label_smoothing"):
    if values[field] >= 1:
      raise UserError(f"{field}={values[field]!r} must be below 1")
  for field in ("training.loss_factor", "probe.loss_factor", "evaluation.every_epochs"):
    if values[field] <= 0:
      raise UserError(f"{field}={values[field]!r} must be above 0")


def check_seeds(seeds: Any) -> None:
  """The section `seeds` alone."""
  if seeds.design != "crossed" and seeds.levels:
    raise UserError(f"seeds.levels={seeds.levels!r} is for seeds.design='crossed'")
  if seeds.fixed >= SEED_LIMIT:
    raise UserError(f"seeds.fixed={seeds.fixed} must lie in [0, 2^32)")
  if len(set(seeds.vary)) != len(seeds.vary) or not seeds.vary:
    raise UserError(f"seeds.vary={seeds.vary!r} must name at least one stream, each once")
  if seeds.design == "crossed" and (
    len(seeds.levels) != len(seeds.vary) or min(seeds.levels, default=0) < 1
  ):
    raise UserError(
      f"seeds.levels={seeds.levels!r} must give a number of levels for each of seeds.vary="
      f"{seeds.vary!r}"
    )


def _check_evaluation(config: Any) -> None:
  evaluation = config.evaluation
  epochs = evaluation.epochs
  if any(epoch < 0 for epoch in epochs) or list(epochs) != sorted(set(epochs)):
    raise UserError(f"evaluation.epochs={epochs!r} must be rising numbers of epochs from 0")
  for field in ("every_steps", "log_dense"):
    if epochs and getattr(evaluation, field):
      raise UserError(
        f"evaluation.epochs={epochs!r} and evaluation.{field}={getattr(evaluation, field)!r} both"
        " say when to evaluate: take one"
      )
  if evaluation.log_dense and (evaluation.every_steps or 1) % 16:
    raise UserError(
      "evaluation.log_dense=True divides evaluation.every_steps by 16: set it to a multiple of 16,"
      f" not {evaluation.every_steps}"
    )
  if evaluation.gradient_norm and config.model.get("dropout"):
    raise UserError(
      "evaluation.gradient_norm=True does not go with model.dropout="
      f"{config.model.get('dropout')!r}, which draws another network for every block; switch one of"
      " them off"
    )
  if evaluation.trajectory and evaluation.probabilities:
    raise UserError(
      "evaluation.trajectory=True keeps the probabilities of every evaluation, and so those at the"
      " end: leave evaluation.probabilities at False"
    )
  if evaluation.train_augmented and not _augmented(config):
    raise UserError(
      "evaluation.train_augmented=True measures augmented images, and none is augmented: name"
      " augmentations in `augment`, or leave it at False"
    )
  if evaluation.slices == 1:
    raise UserError("evaluation.slices=1 is one point of a slice; take 2 or more, or 0 for none")
  if evaluation.slices and config.data.world == "ideal":
    raise UserError(
      f"evaluation.slices={evaluation.slices} slices the loss of examples that are reused,"
      " and data.world='ideal' reuses none: set it to 0"
    )


def _check_remedies(training: Any) -> None:
  for field in ("average", "distillation"):
    value, closed = getattr(training, field), field == "distillation"
    if value > 1 or (value == 1 and not closed):
      words = "at most" if closed else "below"
      raise UserError(f"training.{field}={value!r} must be {words} 1")
  if bool(training.teacher) != bool(training.distillation):
    raise UserError(
      f"training.teacher={training.teacher!r} and training.distillation={training.distillation!r}"
      " go together: name a .safetensors file, and a share above 0 of what it says"
    )


def _check_probe(config: Any) -> None:
  probe, training = config.probe, config.training
  if probe.end > probe.learning_rate:
    raise UserError(
      f"probe.end={probe.end!r} must be at most probe.learning_rate={probe.learning_rate!r}, from"
      " which the rate falls to it"
    )
  if not probe.steps:
    return
  if not config.model.fresh:
    raise UserError(
      f"probe.steps={probe.steps} trains the parameters of model.fresh alone, which is empty: name"
      " the last layer, and in model.initial the file of the others"
    )
  for field, set_ in (
    (f"optimizer.name={config.optimizer.name!r}", config.optimizer.name != "sgd"),
    ("training.codistillation", training.codistillation > 0),
    ("training.distillation", training.distillation > 0),
    ("schedule.per_epoch=True", config.schedule and config.schedule.per_epoch),
    ("gradient.penalty", config.gradient.penalty > 0),
  ):
    if set_:
      raise UserError(f"probe.steps={probe.steps} does not go with {field}; set one of them back")


def _check_order(data: Any) -> None:
  if (data.order == "window") != (data.window is not None):
    raise UserError(
      f"data.order={data.order!r} and data.window={data.window}: a window is the number of examples"
      " that order='window' shuffles among; give both or neither"
    )
  if data.world == "ideal" and data.order != "permutation":
    raise UserError(
      f"data.order={data.order!r} is about examples that are reused, and data.world='ideal' takes"
      " each as it comes; leave it at 'permutation'"
    )


def _augmented(config: Any) -> bool:
  return bool(config.augment) or bool(config.data.get("resized_crop"))


def _check_stream(config: Any) -> None:
  if not config.data.get("stream"):
    return
  if config.data.normalisation == "channels":
    raise UserError(
      "data.normalisation='channels' takes the moments of a whole set, and data.stream=True reads"
      " it piece by piece: set 'imagenet', 'half' or 'unit'"
    )
  for field, set_ in (
    ("training.full_batch", config.training.full_batch),
    ("evaluation.gradient_norm", config.evaluation.gradient_norm),
    ("evaluation.slices", config.evaluation.slices > 0),
    ("data.extra", config.data.get("extra") is not None),
    ("data.plain_copy", config.data.plain_copy),
  ):
    if set_:
      raise UserError(
        f"{field} needs images at hand that data.stream=True reads batch by batch; leave it out,"
        " or set data.stream=False"
      )


def _check_world(config: Any) -> None:
  """What an ideal world has not: a pool that is trained on again."""
  if config.data.world == "real":
    return
  for field, set_, instead in (
    ("training.full_batch", config.training.full_batch, "take data.world='real'"),
    ("data.copies", config.data.copies is not None, "leave it empty"),
    ("data.chunk", config.data.chunk is not None, "leave it empty"),
    ("data.last_batch='keep'", config.data.last_batch == "keep", "take 'drop'"),
    ("evaluation.gradient_norm", config.evaluation.gradient_norm, "switch it off"),
  ):
    if set_:
      raise UserError(
        f"{field} is about a set of examples that is reused, and data.world='ideal' reuses none:"
        f" {instead}"
      )


def _check_update(config: Any) -> None:
  """What the fields of an update say together."""
  data, optimizer, gradient = config.data, config.optimizer, config.gradient
  if data.chunk is not None and not _augmented(config):
    raise UserError(
      f"data.chunk={data.chunk} says which images are changed alike, and none is changed; name"
      " augmentations in `augment`, or leave data.chunk empty"
    )
  if data.copies is not None and not _augmented(config):
    raise UserError(
      f"data.copies={data.copies} would all be the same image; name augmentations in `augment`, or"
      " leave data.copies empty"
    )
  if config.training.full_batch and data.order == "replacement":
    raise UserError(
      "data.order='replacement' does not visit the whole pool, as training.full_batch=True says;"
      " set 'sequential' or 'permutation'"
    )
  if config.training.full_batch and data.last_batch == "keep":
    raise UserError(
      "data.last_batch='keep' is about minibatches, and training.full_batch=True takes all examples"
      " at once: leave it at 'drop'"
    )
  for field, usual in (("penalty_probe", 0.01), ("penalty_statistics", True)):
    if gradient.penalty_form == "exact" and getattr(gradient, field) != usual:
      raise UserError(
        f"gradient.{field}={getattr(gradient, field)!r} is about finite differences, and"
        f" gradient.penalty_form='exact' takes none: leave it at {usual!r}"
      )
  for field in ("clip_norm", "penalty_probe"):
    value = getattr(gradient, field)
    if value is not None and not 0 < value < math.inf:
      raise UserError(f"gradient.{field}={value!r} must be above 0 and finite")
  if gradient.penalty and not optimizer.learning_rate:
    raise UserError(
      f"gradient.penalty={gradient.penalty!r} is multiplied by the learning rate, and"
      " optimizer.learning_rate=0.0: set it above 0"
    )
  if gradient.noise != "none" and not gradient.noise_scale:
    raise UserError(
      f"gradient.noise={gradient.noise!r} needs gradient.noise_scale above 0, not 0.0"
    )
  if config.schedule is None:
    if optimizer.learning_rate != 0.1:
      raise UserError(
        f"optimizer.learning_rate={optimizer.learning_rate!r} is not read: optimizer.name="
        f"{optimizer.name!r} takes none; leave it at 0.1, or take another optimizer"
      )
    for field, set_ in (
      ("gradient.penalty", gradient.penalty),
      ("probe.steps", config.probe.steps),
    ):
      if set_:
        raise UserError(
          f"{field}={set_!r} needs the learning rate of each step, which optimizer.name="
          f"{optimizer.name!r} does not take; take another optimizer"
        )
    return
  _check_schedule(config.schedule)


def _check_schedule(schedule: Any) -> None:
  """When the rate changes."""
  if schedule.name == "picard" and not schedule.per_epoch:
    raise UserError("schedule.name='picard' counts epochs: set schedule.per_epoch=True")
  if schedule.hold_steps > 1 and schedule.per_epoch:
    raise UserError(
      f"schedule.hold_steps={schedule.hold_steps} and schedule.per_epoch=True both say when the"
      " rate changes: take one"
    )
  held = schedule.per_epoch or schedule.hold_steps > 1
  if schedule.name == "constant" and held and not schedule.get("warmup_steps"):
    field = "per_epoch=True" if schedule.per_epoch else f"hold_steps={schedule.hold_steps}"
    raise UserError(
      f"schedule.{field} says when the rate changes, and that of schedule.name='constant' never"
      " does: leave it out"
    )


def _check_loss(config: Any) -> None:
  """What reads class probabilities, and so goes with cross-entropy alone."""
  if config.loss.name == "cross_entropy":
    return
  for field, set_ in (
    ("training.codistillation", config.training.codistillation),
    ("training.distillation", config.training.distillation),
    ("probe.label_smoothing", config.probe.label_smoothing),
    ("evaluation.slices", config.evaluation.slices),
  ):
    if set_:
      raise UserError(
        f"{field}={set_!r} is about class probabilities and goes with loss.name='cross_entropy'"
        f" alone, not {config.loss.name!r}; set it back to 0"
      )


def _check_float16(config: Any) -> None:
  """What gradients and parameters of float16 are too coarse for."""
  if config.model.precision != "float16":
    return
  for field, value, usual in (
    ("optimizer.name", config.optimizer.name, "sgd"),
    ("training.average", config.training.average, 0.0),
    ("training.codistillation", config.training.codistillation, 0.0),
    ("training.distillation", config.training.distillation, 0.0),
    ("gradient.block_size", config.gradient.block_size, None),
    ("gradient.penalty", config.gradient.penalty, 0.0),
    ("gradient.noise", config.gradient.noise, "none"),
    ("gradient.clip_norm", config.gradient.clip_norm, None),
    ("evaluation.slices", config.evaluation.slices, 0),
    ("evaluation.gradient_norm", config.evaluation.gradient_norm, False),
  ):
    if value != usual:
      raise UserError(
        f"{field}={value!r} does not go with model.precision='float16', which holds"
        f" gradients in float16: leave it at {usual!r}, or take 'float32'"
      )
