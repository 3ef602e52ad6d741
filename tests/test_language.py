"""Recipes for language: what they store, and that exactness needs no line of their own."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

import seedlab
from seedlab import engine, findings, merging, records, replaying
from seedlab.config import STREAMS
from seedlab.data import babble, text
from seedlab.errors import UserError
from seedlab.recipes import language
from seedlab.training import text as writing

TINY = {
  "context": 6, "width": 8, "depth": 1, "heads": 2, "vocabulary": 8, "branches": 2, "batch_size": 4,
  "steps": 4, "warmup_steps": 1, "train_examples": 16, "test_examples": 8, "book_examples": 8,
  "contexts": 4, "draws": 2, "samples": 3, "prompt": 2, "run_length": 3, "evaluate_every_steps": 2,
}  # fmt: skip


def seeds(row, **given):
  table = np.full((1, len(STREAMS)), row, np.uint32)
  for name, value in given.items():
    table[:, STREAMS.index(name)] = value
  return table


@functools.cache
def program(**options):
  return engine.build(language.make(**{**TINY, **options})(), "loop")


def trained(row=3, options=(), **given):
  return engine.train(program(**dict(options)), seeds(row, **given), keep_params=True)


def test_the_generate_stream_changes_the_texts_and_nothing_that_training_stores():
  first, other = trained(), trained(generate=9)
  assert first.digest[0] == other.digest[0]
  drawn = {"samples", "distinct", "allowed"}
  assert set(first.outcome) > drawn
  for name, values in first.outcome.items():
    assert name in drawn or (values == other.outcome[name]).all(), name
  a, b = first.outcome["samples"][0], other.outcome["samples"][0]
  assert a.shape == (2, 3, 6) and a.dtype == np.uint8 and (a != b).any() and (a[0] != a[1]).any()
  assert (a[:, :, :2] == b[:, :, :2]).all()  # the prompts


def test_losses_are_those_of_the_parameters_that_come_back():
  found = trained()
  one = babble.language(tokens=8, branches=2)
  x, y = babble.windows(one, 6, 8)
  network = language.models.transformer(
    vocabulary=8, context=6, width=8, depth=1, heads=2, activation=language._activation("gelu")
  )
  logs = np.asarray(jax.nn.log_softmax(network.apply({"params": found.params}, x)), np.float64)
  loss = -np.take_along_axis(logs, y[..., None].astype(int), -1).mean()
  outcome = {name: values[0] for name, values in found.outcome.items()}
  assert outcome["test_loss"][-1] == pytest.approx(loss, rel=1e-5)
  true = -babble.true_log_probability(one, x, y).mean()
  assert outcome["excess_loss"][-1] == pytest.approx(loss - true, rel=1e-4)
  np.testing.assert_allclose(outcome["next_token"][-1], logs[:4, -1], atol=1e-5)
  assert (outcome["context_token"] == y[:4, -1]).all()
  assert outcome["book_loss"][-1] == pytest.approx(outcome["window_loss"].mean(), rel=1e-5)
  assert outcome["book_loss"][-1] != outcome["test_loss"][-1]


@pytest.mark.slow
def test_full_batches_ideal_worlds_and_pokes_are_what_they_are_elsewhere():
  def found(row=3, streams=(), **options):
    chosen = {"draws": 0, "contexts": 0, "steps": 2, **options}
    return trained(row, tuple(chosen.items()), **dict(streams))

  plain, other = found(), {"order": 9}
  # Of a full batch the order is rounding, and an ideal world has none.
  for option in ({"full_batch": True}, {"world": "ideal"}):
    first, moved = found(**option), found(streams=other.items(), **option)
    assert first.digest[0] != plain.digest[0]
    np.testing.assert_allclose(moved.outcome["test_loss"], first.outcome["test_loss"], rtol=1e-5)
  poked = [found(streams={"poke": seed}.items(), poke_step=1) for seed in (3, 9)]
  assert len({one.digest[0] for one in (plain, *poked)}) == 3
  apart = abs(poked[0].outcome["test_loss"] - plain.outcome["test_loss"]).max()
  assert (
    apart
    < 1e-3
    < abs(found(streams=other.items()).outcome["test_loss"] - plain.outcome["test_loss"]).max()
  )


@pytest.mark.slow
def test_sweeps_resume_replay_and_shard_exactly_and_know_what_they_were_evaluated_on(tmp_path):
  given = {"what": "seedlab.recipes.language:make", "workers": 1, "quiet": True}
  small = {**TINY, "draws": 0, "contexts": 4}
  whole = seedlab.sweep(runs=3, out=tmp_path / "a", arguments=small, **given)
  seedlab.sweep(runs=2, out=tmp_path / "b", arguments=small, **given)
  resumed = seedlab.sweep(runs=3, out=tmp_path / "b", arguments=small, **given)
  for name in ("digest", "test_loss", "next_token"):
    assert (whole[name].values == resumed[name].values).all()
  assert replaying.replay(tmp_path / "a", 1).passed
  for part in ("1/2", "2/2"):
    seedlab.sweep(runs=3, out=tmp_path / "d", arguments=small, shard=part, **given)
  merging.merge(tmp_path / "d", quiet=True)
  merged = records.open(tmp_path / "d")
  assert (merged["digest"].values == whole["digest"].values).all()
  more = {**small, "contexts": 5}
  seedlab.sweep(runs=1, out=tmp_path / "c", arguments=more, **given)
  stores = {name: records.open(tmp_path / name) for name in "abc"}
  findings.check_evaluation_sets({name: stores[name] for name in "ab"})
  with pytest.raises(UserError, match="evaluated on different examples"):
    findings.check_evaluation_sets(stores)


def test_a_file_has_words_and_novelty(tmp_path):
  file = tmp_path / "a.txt"
  file.write_text("the cat sat on the mat. a dog ate the cat! " * 40)
  options = {**TINY, "file": str(file), "train_examples": None, "steps": 2}
  found = engine.train(engine.build(language.make(**options)(), "loop"), seeds(1)).outcome
  assert {"known_words", "novelty", "bits_per_character"} < set(found)
  assert "allowed" not in found and "excess_loss" not in found
  bits = found["test_loss"] / np.log(2)
  np.testing.assert_allclose(found["bits_per_character"], bits, rtol=1e-5)


def test_fine_tuning_starts_from_the_trained_network_but_for_its_head(tmp_path):
  file = tmp_path / "kept.safetensors"
  params = trained().params
  records.save_params(file, traverse_util.flatten_dict(params, sep="/"))
  sizes = {
    name: TINY[name] for name in ("context", "width", "depth", "heads", "vocabulary", "branches")
  }
  options = {**sizes, "steps": 2, "batch_size": 4, "train_examples": 8}
  options |= {"test_examples": 8, "warmup_steps": 0}
  still = {**options, "initial": str(file), "learning_rate": 1e-30}
  tuned = engine.train(
    engine.build(language.classify(**still)(), "loop"), seeds(1), keep_params=True
  )
  head = tuned.params["head"]["kernel"]
  assert head.shape == (8, 2) and set(tuned.params) - set(params) == {"head"}
  np.testing.assert_array_equal(tuned.params["embedding"], params["embedding"])
  assert set(tuned.outcome) == {"test_accuracy", "test_loss", "predicted_label"}


@pytest.mark.parametrize(
  "options, message",
  [
    ({"world": "ideal", "file": "FILE"}, r"world='ideal' needs text without end"),
    ({"prompt": 9}, r"prompt=9 must be at most context=6"),
    ({"temperature": 0}, r"temperature=0 must be a number above 0"),
    ({"optimizer": "sgd"}, r"optimizer='sgd' is not known"),
    ({"schedule": "none"}, r"schedule='none' is not known"),
    ({"draws": -1}, r"draws=-1 must be a whole number, 0 or more"),
    ({"activation": "relux"}, r"activation.*relux"),
    ({"file": "nowhere.txt"}, r"file='nowhere.txt' is neither"),
    (
      {"file": "FILE", "test_examples": 10_000},
      r"test_examples=10000 windows of context=6 are more",
    ),
  ],
)
def test_what_cannot_be_is_refused_in_one_line(tmp_path, options, message):
  (tmp_path / "a.txt").write_text("no end of words. " * 40)
  options = {
    name: str(tmp_path / "a.txt") if value == "FILE" else value for name, value in options.items()
  }
  with pytest.raises(UserError, match=message) as error:
    language.make(**{**TINY, "train_examples": None, **options})
  assert "\n" not in str(error.value)


# What is measured of texts.


def test_hashes_are_the_same_by_numpy_and_jax_and_tell_runs_apart():
  tokens = np.random.default_rng(0).integers(0, 60, 5000).astype(np.uint8)
  runs = {tuple(tokens[at : at + 4]) for at in range(4997)}
  assert len(writing.runs_of(tokens, 4)) == len(runs)
  np.testing.assert_array_equal(writing.hashes(jnp.asarray(tokens), 4), writing.hashes(tokens, 4))


def test_novelty_distinct_and_known_words_by_hand():
  letters = "abcd ."
  vocabulary = (*letters, "")

  def tokens(*lines):
    return jnp.asarray([[letters.index(letter) for letter in line] for line in lines])

  corpus = np.asarray(tokens("ab ba. abc")[0], np.uint8)
  texts = tokens("ab ba", "ab dd")
  runs = jnp.asarray(writing.runs_of(corpus, 3))
  # "ab ", "b b", " ba" are known; "ab " again, "b d" and " dd" are not.
  assert float(writing.novelty(runs, texts, 3)) == pytest.approx(2 / 6)
  assert float(writing.distinct(texts, 3)) == pytest.approx(5 / 6)
  letter = writing.letters(vocabulary)
  words = writing.words_of(corpus, letter)
  assert len(words) == 3 == len(set(re.findall("[abcd]+", "ab ba. abc")))
  read = functools.partial(writing.known_words, jnp.asarray(words), jnp.asarray(letter))
  # The first word of a text and its last one may be cut off: of the first "abc" counts alone.
  assert float(read(tokens("da abc ab", "ab ba dd."))) == pytest.approx(2 / 3)
  assert float(read(tokens("abcd"))) == 0


def test_texts_follow_the_chances_of_the_network():
  """A network that says one thing for each position, whatever it has read."""
  chances = jnp.log(jnp.array([0.7, 0.2, 0.1]))

  def apply(tokens, cache, position):
    del position
    return jnp.broadcast_to(chances, (tokens.shape[0], 1, 3)), cache

  keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), jnp.arange(4))
  cache = ((jnp.zeros((4 * 50, 40, 1, 1)),) * 2,)
  prompts = jnp.full((50, 3), 2)
  write = jax.jit(writing.written, static_argnums=(0, 4))
  texts = np.asarray(write(apply, cache, prompts, keys, 1.0))
  assert texts.shape == (4, 50, 40) and (texts[:, :, :3] == 2).all()
  share = np.bincount(texts[:, :, 3:].ravel(), minlength=3) / texts[:, :, 3:].size
  np.testing.assert_allclose(share, [0.7, 0.2, 0.1], atol=0.02)
  cold = np.asarray(write(apply, cache, prompts, keys, 0.25))[:, :, 3:]
  by_hand = np.array([0.7, 0.2, 0.1]) ** 4
  share = np.bincount(cold.ravel(), minlength=3) / cold.size
  np.testing.assert_allclose(share, by_hand / by_hand.sum(), atol=0.02)
  alone = np.asarray(write(apply, ((jnp.zeros((50, 40, 1, 1)),) * 2,), prompts, keys[2:3], 1.0))
  np.testing.assert_array_equal(alone[0], texts[2])


def test_grammatical_texts_are_allowed():
  one = babble.language(tokens=8, branches=2)
  x, _ = babble.windows(one, 9, 20)
  allowed = jnp.asarray(babble.allowed(one))
  assert float(writing.allowed_share(allowed, jnp.asarray(x))) == 1
  wrong = np.array(x)
  wrong[:, -1] = [next(t for t in range(8) if not allowed[a, b, t]) for a, b in x[:, -3:-1]]
  assert float(writing.allowed_share(allowed, jnp.asarray(wrong))) == pytest.approx(6 / 7)


def test_the_loss_of_the_next_token_by_hand():
  logits = jnp.log(jnp.array([[[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]]))
  found = writing.next_token(logits, jnp.array([[1, 2]], jnp.uint8))
  assert float(found[0]) == pytest.approx(-(np.log(0.25) + np.log(0.8)) / 2)
  squared = np.array([0.25, 0.0625, 0.0625])
  cold = writing.next_token(logits[:, :1], jnp.array([[0]]), 0.5)
  assert float(cold[0]) == pytest.approx(-np.log(squared[0] / squared.sum()))


def test_text_reads_as_it_was_encoded(tmp_path):
  (tmp_path / "a.txt").write_text("some words, and others. " * 9)
  corpus = text.corpus(str(tmp_path / "a.txt"))
  assert text.shown(text.encoded("and words", corpus), corpus.vocabulary) == "and words"
