"""What names say of metrics: whole words, negations, the unknown; what stores say instead."""

import pathlib
import re

import pytest

from seedlab import meanings

DOCS = pathlib.Path(__file__).parent.parent / "docs" / "statistics.md"


@pytest.mark.parametrize(
  "name",
  "accuracy test_accuracy val_acc valAcc val.acc val/acc top1 top5 top-5-accuracy valTop5Acc acc@1"
  " f1 macro-F1 recall5 recall@10 test_auc testAUC ROC_AUC mIoU mAP50 R2 rougeL log_likelihood"
  " average_precision reward neg_log_loss neg_mean_squared_error negative_loss minus_loss -loss"
  " neg_inaccuracy Accuracy(%) ema_test_accuracy balancedAccuracy".split(),
)
def test_higher_is_better(name):
  assert meanings.better(name) == "higher"


@pytest.mark.parametrize(
  "name",
  "loss test_loss val/loss_epoch logLoss hard_error test_soft_error inaccuracy perplexity NLL rmse"
  " top5_error error_rate negative_log_likelihood 1-accuracy 1_minus_accuracy one_minus_auc WER"
  " misclassification_rate cross_entropy val.crossEntropy neg_reward".split(),
)
def test_lower_is_better(name):
  assert meanings.better(name) == "lower"


@pytest.mark.parametrize(
  "name",
  "score m metric closeness glossary lossless accurate blossom stop1 top seconds accuracy_loss"
  " accuracy_std loss_scale time_to_accuracy accuracy_gap standard_error false_negative_rate"
  " drop_in_accuracy accuracy_minus_baseline train_test_difference auc_error 精度".split(),
)
def test_unknown(name):
  assert meanings.better(name) is None and meanings.meaning(name) == (None, None)


def test_what_was_said_comes_before_the_name():
  said = {"better": "lower", "unit": "nats"}
  assert meanings.meaning("accuracy", said) == ("lower", "nats")
  assert meanings.meaning("score", {"better": "higher", "unit": None}) == ("higher", None)
  # Nothing said of a thing leaves it to the name.
  assert meanings.meaning("accuracy", {"better": None, "unit": None}) == ("higher", "fraction")
  assert meanings.meaning("loss") == ("lower", None)


@pytest.mark.parametrize(
  ("name", "level"),
  [
    ("test_accuracy", 0.1),
    ("hard_error", 0.9),
    ("test_soft_error", 0.9),
    ("inaccuracy", 0.9),
    ("1-accuracy", 0.9),
    ("top5_accuracy", 0.5),
    ("top-5 error", 0.5),
    ("top20", 1.0),
    ("acc1", 0.1),
    ("acc5", None),  # of the top 5, or of the fifth fold
    ("train_error", None),
    ("word_error_rate", None),
    ("test_auc", None),
    ("score", None),
  ],
)
def test_chance_of_ten_classes(name, level):
  assert meanings.chance_level(name, 10) == (level if level is None else pytest.approx(level))
  assert meanings.chance_level(name, 0) is None


def test_the_documentation_lists_every_word():
  text = DOCS.read_text()
  for kind in ("higher", "lower", "otherwise"):
    (block,) = re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL)
    assert sorted(re.split(r",\s+", block.strip())) == sorted(getattr(meanings, kind.upper()))
  assert all(f"`{word}`" in text for word in meanings.NEGATIONS)
  assert not meanings.HIGHER & meanings.LOWER
