"""Recipes for language: a Transformer that predicts tokens, and one fine-tuned to classify windows.

  seedlab sweep --trainer=seedlab.recipes.language:make --runs=16 --out=out/babble
  seedlab sweep --trainer=seedlab.recipes.language:make --runs=16 --out=out/kjv \\
      --arguments='{"file": "text/kjv.txt.gz"}'

Both are built by `seedlab.supervised` alone, so that worlds, full batches, pokes, averages,
resuming and replay are what they are for any other network. Outcomes of `make`, of the evaluated
parameters; a file and `babble` have some of their own:

  test_loss           nats per token on windows of the test part
  bits_per_character  a file: the same in bits
  excess_loss         `babble`: test_loss less that of the true model on the same windows, nats
  tempered_loss       test_loss with the logits divided by `other_temperature`
  book_loss           as test_loss on windows of the held-out book (of `babble`: other windows)
  window_loss         [window]: that of each of these windows, at the end
  next_token          [context, token]: log chances after the frozen contexts, at every evaluation
  context_token       [context]: the token that truly follows each of them
  samples             [draw, sample, position]: tokens of the texts, at the end
  code_point          [token]: the character that each token stands for, 0 for the unknown one
  known_words         [draw]: a file: share of the words that the training part has
  novelty             [draw]: a file: share of runs of `run_length` tokens that it does not have
  distinct            [draw]: different runs of `run_length` tokens over all
  allowed             [draw]: `babble`: share of the tokens that its grammar allows
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seedlab import config as configs
from seedlab import parts, recipe
from seedlab.data import babble as languages
from seedlab.data import text as texts
from seedlab.errors import UserError, choice_error
from seedlab.models import transformer as models
from seedlab.recipe import Recipe
from seedlab.trainer import Metric
from seedlab.training import text as writing

BABBLE = "babble"
_OTHER = 1  # number of the test windows that are the held-out book of `babble`
_OPTIMIZERS = ("adamw", "muon")
_SCHEDULES = ("constant", "linear", "cosine")
_BITS = 1 / math.log(2)


def make(
  file: str = BABBLE, tokens: str = "characters",
  grammar: int = 0, vocabulary: int = 24, branches: int = 4,
  context: int = 64, width: int = 64, depth: int = 2, heads: int = 4, activation: Any = "gelu",
  positions: models.Positions = "learned", norm: models.Norm = "layer", tied: bool = True,
  optimizer: str = "adamw", learning_rate: float = 3e-3, weight_decay: float = 0.0,
  schedule: str = "linear", warmup_steps: int = 50,
  batch_size: int = 16, steps: int = 600, full_batch: bool = False, block_size: int | None = None,
  average: float = 0.0, world: str = "real", train_examples: int | None = None,
  poke_step: int | None = None, initial: str | None = None, fresh: Sequence[str] = (),
  test_examples: int = 512, book_examples: int = 256, contexts: int = 128,
  other_temperature: float = 0.8, temperature: float = 0.8, draws: int = 2, samples: int = 8,
  prompt: int = 8, run_length: int = 6,
  evaluate_every_steps: int | None = None, evaluate_log_dense: bool = False,
  precision: str = "float32", data_dir: str | None = None,
) -> Recipe:  # fmt: skip
  """A Transformer that learns to predict the next token of a text, or of a made-up language.

  Args:
    file: of UTF-8 text (`data.text.corpus`), below `data_dir` or anywhere; or "babble".
    tokens: of a file: "characters" or "bytes".
    grammar, vocabulary, branches: of `babble` (`data.babble.language`).
    context: tokens that are read at once.
    width, depth, heads, positions, norm, tied: of the network (`models.transformer`).
    activation: of its blocks, a name, or {"name": "smelu", "beta": 0.5}.
    optimizer: "adamw" or "muon", with `learning_rate`, `weight_decay` and a `schedule` ("linear",
      "cosine", "constant") after a warm-up of `warmup_steps`.
    batch_size, steps, full_batch, block_size, average, poke_step, initial, fresh, precision: as of
      `seedlab.supervised`; evaluate_every_steps None: at the end.
    world: "real" reuses its training examples, "ideal" (of `babble` alone) uses each once.
    train_examples: windows of a real world, drawn by the `sample` stream; None: all of a file, of
      `babble` 4,096.
    test_examples, book_examples: windows that are evaluated, evenly spaced in their part.
    contexts: frozen contexts of the test part; 0: none.
    temperature, draws, samples, prompt: `draws` times `samples` texts of `context` tokens, each
      after a prompt of the first `prompt` tokens of a test window; draws 0: no texts.
    run_length: tokens of a run, of novelty and distinct.

  Raises:
    UserError: what cannot be; a missing file says where texts are to be had.
  """
  counts = {"test_examples": test_examples, "book_examples": book_examples, "samples": samples}
  _check_counts(1, **counts, prompt=prompt, run_length=run_length)
  _check_counts(0, contexts=contexts, draws=draws)
  _check_temperatures(temperature=temperature, other_temperature=other_temperature)
  _check_lengths(context, prompt, run_length)
  rule, plan = _optimizer(optimizer, weight_decay), _schedule(schedule, warmup_steps)
  function = _activation(activation)
  source = _Source(file, tokens, grammar, vocabulary, branches, context, data_dir)
  train, train_examples = source.training(train_examples, world)
  network = models.transformer(
    vocabulary=source.size, context=context, activation=function, width=width, depth=depth,
    heads=heads, positions=positions, norm=norm, tied=tied,
  )  # fmt: skip
  test = source.tested(test_examples)
  metrics, data = _measured(source, test, book_examples, contexts, other_temperature)
  if draws:
    metrics |= _text_metrics(source)
    prompts = source.tested(max(contexts, samples))[0][:samples, :prompt]
    data |= {"prompts": prompts, "code_points": source.code_points, **source.of_texts(run_length)}

  def evaluate(apply, data, key):
    return _evaluated(apply, data, key, network, draws, float(temperature), run_length)

  return recipe.supervised(
    network, rule, train, test, writing.next_token, metrics=metrics, evaluate=evaluate,
    evaluate_data=data, learning_rate=learning_rate, schedule=plan, batch_size=batch_size,
    steps=steps, full_batch=full_batch, block_size=block_size, average=average, world=world,
    train_examples=train_examples, poke_step=poke_step, initial=initial, fresh=tuple(fresh),
    evaluate_every_steps=evaluate_every_steps or steps, evaluate_log_dense=evaluate_log_dense,
    evaluation_batch_size=128, precision=precision,
  )  # fmt: skip


def classify(
  file: str = BABBLE,
  tokens: str = "characters",
  grammar: int = 0,
  vocabulary: int = 24,
  branches: int = 4,
  context: int = 64,
  width: int = 64,
  depth: int = 2,
  heads: int = 4,
  activation: Any = "gelu",
  positions: models.Positions = "learned",
  norm: models.Norm = "layer",
  optimizer: str = "adamw",
  learning_rate: float = 1e-3,
  weight_decay: float = 0.0,
  schedule: str = "linear",
  warmup_steps: int = 10,
  batch_size: int = 16,
  steps: int = 100,
  train_examples: int = 1024,
  test_examples: int = 512,
  poke_step: int | None = None,
  initial: str | None = None,
  data_dir: str | None = None,
) -> Recipe:
  """The same Transformer with a new last layer `head`, which tells two kinds of windows apart.

  Of a file: those that stand in the training part, and others that run backwards; of `babble`:
  those of the grammar, and those of the next one. With `initial`, the parameters of a network that
  `make` trained, all but the new layer start from them. Outcomes: test_accuracy, test_loss,
  predicted_label.

  Args:
    train_examples, test_examples: windows of both kinds together, the same for all runs.
    initial: None draws all layers.
    others: as of `make`.
  """
  _check_counts(2, train_examples=train_examples, test_examples=test_examples)
  source = _Source(file, tokens, grammar, vocabulary, branches, context, data_dir)
  network = models.transformer(
    vocabulary=source.size, context=context, activation=_activation(activation), width=width,
    depth=depth, heads=heads, positions=positions, norm=norm, classes=2,
  )  # fmt: skip
  counts = train_examples // 2, test_examples // 2
  found = source.of_two_kinds(sum(counts))
  # Every so many windows one is tested on, so that both sets are spread over the whole stretch.
  tested = np.unique(np.linspace(0, sum(counts) - 1, counts[1]).round().astype(int))
  chosen = np.isin(np.arange(sum(counts)), tested)
  train, test = (
    (
      np.concatenate([one[at] for one in found]),
      np.repeat(np.arange(2, dtype=np.int32), at.sum()),
    )
    for at in (~chosen, chosen)
  )
  return recipe.supervised(
    network,
    _optimizer(optimizer, weight_decay),
    train,
    test,
    learning_rate=learning_rate,
    schedule=_schedule(schedule, warmup_steps),
    batch_size=batch_size,
    steps=steps,
    poke_step=poke_step,
    initial=initial,
    fresh=("head",) if initial else (),
    evaluate_every_steps=steps,
    evaluation_batch_size=128,
  )


class _Source:
  """Where the tokens come from: a file, or a made-up language."""

  def __init__(self, file, tokens, grammar, vocabulary, branches, context, data_dir):
    self.context, self.grammar, self.options = context, grammar, (vocabulary, branches)
    self.language = self.corpus = None
    if file == BABBLE:
      self.language = languages.language(grammar, vocabulary, branches)
    else:
      self.corpus = texts.corpus(file, tokens, data_dir=data_dir)

  @property
  def size(self) -> int:
    return self.language.tokens if self.language else len(self.corpus.vocabulary)

  @property
  def code_points(self) -> np.ndarray:
    words = self.language.vocabulary if self.language else self.corpus.vocabulary
    return np.array([ord(word) if word else 0 for word in words], np.uint32)

  def training(self, examples: int | None, world: str):
    """What `supervised` takes as `train`, and how many examples there are."""
    if world == "ideal" and not self.language:
      raise UserError(
        "world='ideal' needs text without end, and a file ends; take file='babble', or world='real'"
      )
    if self.language:
      return languages.sampler(self.language, self.context), examples or 4096
    windows = texts.windows(self.corpus.train, self.context)
    return windows, examples

  def tested(self, count: int):
    if self.language:
      return languages.windows(self.language, self.context, count)
    return self._spaced(self.corpus.test, "test_examples", count)

  def book(self, count: int):
    if self.language:
      return languages.windows(self.language, self.context, count, _OTHER)
    return self._spaced(self.corpus.book, "book_examples", count)

  def of_two_kinds(self, count: int) -> list[np.ndarray]:
    """x of `count` windows of each kind that `classify` tells apart."""
    if self.language:
      two = (languages.language(self.grammar + n, *self.options) for n in range(2))
      return [languages.windows(one, self.context, count)[0] for one in two]
    x, _ = self._spaced(self.corpus.train, "train_examples and test_examples", 2 * count)
    return [x[::2], np.ascontiguousarray(x[1::2, ::-1])]

  def of_texts(self, run_length: int) -> dict[str, Any]:
    """The arrays by which texts are measured."""
    if self.language:
      return {"allowed": languages.allowed(self.language)}
    train = self.corpus.train
    letters = writing.letters(self.corpus.vocabulary)
    return {
      "runs": writing.runs_of(train, run_length),
      "words": writing.words_of(train, letters),
      "letters": letters,
    }

  def _spaced(self, part, name: str, count: int):
    """`count` windows of a part, evenly spaced and apart."""
    x, y = texts.windows(part, self.context)
    if len(x) < count:
      raise UserError(
        f"{name}={count} windows of context={self.context} are more than the {len(x)} that this"
        " part of the text has; take fewer"
      )
    chosen = np.linspace(0, len(x) - 1, count).round().astype(int)
    return x[chosen], y[chosen]


def _measured(source, test, book_examples: int, contexts: int, other_temperature: float):
  """What is measured besides texts, and the arrays that this reads."""

  def tempered(logits, y):
    return writing.next_token(logits, y, other_temperature)

  def bits(logits, y):
    return writing.next_token(logits, y) * _BITS

  def excess(logits, y):
    return writing.next_token(logits, y) - true

  metrics: dict[str, Any] = {"test_loss": (writing.next_token, "lower", "nats")}
  if source.language:
    true = float(-languages.true_log_probability(source.language, *test).mean())
    metrics["excess_loss"] = (excess, "lower", "nats")
  else:
    metrics["bits_per_character"] = (bits, "lower", "bits")
  metrics |= {
    "tempered_loss": (tempered, "lower", "nats"),
    "book_loss": Metric(better="lower", unit="nats"),
    "window_loss": Metric(("window",), better="lower", unit="nats"),
  }
  data: dict[str, Any] = {"book": source.book(book_examples)}
  if contexts:
    data["contexts"] = source.tested(contexts)
    metrics["next_token"] = Metric(("evaluation", "context", "token"))
    metrics["context_token"] = Metric(("context",))
  return metrics, data


def _text_metrics(source: _Source) -> dict[str, Metric]:
  each = ("evaluation", "draw")
  found = {"samples": Metric(("draw", "sample", "position")), "code_point": Metric(("token",))}
  found["distinct"] = Metric(each)
  if source.language:
    return found | {"allowed": Metric(each, better="higher")}
  return found | {"known_words": Metric(each, better="higher"), "novelty": Metric(each)}


def _evaluated(apply, data, key, network, draws, temperature, run_length) -> dict[str, jax.Array]:
  """The outcomes that are no mean over the test windows."""
  x, y = data["book"]
  losses = writing.next_token(apply(x), y)
  found = {"book_loss": losses.mean(), "window_loss": losses}
  if "contexts" in data:
    x, y = data["contexts"]
    found["next_token"] = jax.nn.log_softmax(apply(x)[:, -1])
    found["context_token"] = y[:, -1]
  if draws:
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(draws))
    prompts = data["prompts"]
    cache = models.empty_cache(network, draws * prompts.shape[0], network.context)
    written = writing.written(apply, cache, prompts, keys, temperature)
    found["samples"] = written.astype(prompts.dtype)
    found["code_point"] = data["code_points"]
    found["distinct"] = jax.vmap(lambda one: writing.distinct(one, run_length))(written)
    if "allowed" in data:
      found["allowed"] = jax.vmap(lambda one: writing.allowed_share(data["allowed"], one))(written)
    else:
      found["novelty"] = jax.vmap(lambda one: writing.novelty(data["runs"], one, run_length))(
        written
      )
      found["known_words"] = jax.vmap(
        lambda one: writing.known_words(data["words"], data["letters"], one)
      )(written)
  return found


def _activation(given: Any) -> Any:
  section = configs.part_of(configs.Part, "activation", given, "activation")
  return parts.bind("activation", section.name, dict(section.options))


def _optimizer(name: str, weight_decay: float) -> Mapping[str, Any]:
  if name not in _OPTIMIZERS:
    raise choice_error("optimizer", name, _OPTIMIZERS)
  return {"name": name, "weight_decay": weight_decay}


def _schedule(name: str, warmup_steps: int) -> Mapping[str, Any]:
  if name not in _SCHEDULES:
    raise choice_error("schedule", name, _SCHEDULES)
  return {"name": name, "warmup_steps": warmup_steps}


def _check_temperatures(**given: Any) -> None:
  for name, value in given.items():
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 100:
      raise UserError(f"{name}={value!r} must be a number above 0, and below 100")


def _check_lengths(context: int, prompt: int, run_length: int) -> None:
  _check_counts(1, context=context)
  if prompt > context or run_length > context - 1:
    raise UserError(
      f"prompt={prompt} must be at most context={context}, and run_length={run_length} below it,"
      " since a text is as long as the context"
    )


def _check_counts(least: int, **counts: Any) -> None:
  for name, value in counts.items():
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
      raise UserError(f"{name}={value!r} must be a whole number, {least} or more")
