"""What a metric means: as its store says, else as the whole words of its name tell.

The words are listed in docs/statistics.md. A name is cut at `_ / . - @`, blanks and capitals;
digits at the end of a word are left aside. What the list does not know says nothing, and neither
does a name whose words contradict each other.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

Direction = Literal["higher", "lower"]
FRACTION = "fraction"  # the unit of a number in [0, 1] that is shown in percent

HIGHER = frozenset(
  "acc accuracy accuracies ap auc aupr auprc auroc bleu correct dice elbo f1 fbeta fscore iou"
  " jaccard kappa likelihood loglik loglikelihood map mcc miou mrr ndcg precision psnr r2 recall"
  " return reward rocauc rouge sensitivity specificity ssim success topk".split()
)
LOWER = frozenset(
  "bce bpb bpc bpd brier ce cer crossentropy crps deviance ece eer err error errors fid fnr fpr"
  " inaccuracy kid kl logloss loss losses lpips mae mape mce misclassification misclassified"
  " mispredicted mistakes mse nll perplexity ppl regret risk rmse rmsle wer xent".split()
)
NEGATIONS = frozenset("minus neg negated negative".split())
# Beside these the words above are something else: a gap, a spread, a time, a setting.
OTHERWISE = frozenset(
  "bar change coef coefficient count delta diff difference drop duration false free gap grad"
  " gradient improvement in increase inv inverse no non norm num number ratio scale sd seconds sem"
  " size standard std steps threshold time to true var variance weight without".split()
)
_SHARES = frozenset(
  "acc accuracy accuracies inaccuracy misclassification misclassified topk".split()
)
_WRONG = re.compile(r"\b(?:(?:soft|hard|topk|classification) error|(?<!word )error rate)\b")


class Meaning(NamedTuple):
  better: Direction | None  # None: nobody knows, so nothing is judged
  unit: str | None  # "fraction" of what is counted; other units as they are shown


def meaning(name: str, said: Mapping[str, Any] | None = None) -> Meaning:
  """Of the metric `name`; what a store says of it (`better`, `unit`) comes before its name."""
  said = said or {}
  unit = said.get("unit") or (FRACTION if share(name) else None)
  return Meaning(said.get("better") or better(name), unit)


def better(name: str) -> Direction | None:
  """Which way the metric of this name is better; None where its words do not tell."""
  found = words(name)
  known = [word for word in found if word in HIGHER | LOWER]
  if len(known) > 1 and "topk" in known:
    known.remove("topk")  # of top5_error the error is what is measured
  if len({word in HIGHER for word in known}) != 1 or OTHERWISE.intersection(found):
    return None
  first = found.index(known[0])
  if NEGATIONS.intersection(found[first:]):  # accuracy_minus_baseline
    return None
  turned = sum(word in NEGATIONS for word in found[:first]) % 2 == 1
  return "higher" if (known[0] in HIGHER) != turned else "lower"


def share(name: str) -> Direction | None:
  """Of a share of examples that are right "higher", of one of those that are wrong "lower".

  None for every other metric.
  """
  found = words(name)
  return better(name) if _SHARES.intersection(found) or _WRONG.search(" ".join(found)) else None


def chance_level(name: str, classes: int) -> float | None:
  """Such a share where K classes are guessed, in [0, 1]; None for other metrics and unknown K.

  A top-k prediction names k of the classes; acc5 does not say if it is one.
  """
  if not classes or not share(name):
    return None
  numbered = re.search(r"\b(top|acc|accuracy) (\d+)\b", " ".join(_parts(name)))
  if numbered and numbered[1] != "top" and numbered[2] != "1":
    return None
  right = min(int(numbered[2]) if numbered else 1, classes) / classes
  return right if share(name) == "higher" else 1 - right


def words(name: str) -> list[str]:
  """The whole words of a name in small letters; a sign or `1 -` in front is the word "minus"."""
  text = re.sub(r"\btop \d+\b", "topk", " ".join(_parts(name)))
  text = text.replace("cross entropy", "crossentropy").replace("average precision", "ap")
  return [word for word in text.split() if not word.isdigit()]


def _parts(name: str) -> list[str]:
  """Words and the numbers that follow them, apart unless they belong together (f1, r2)."""
  name = re.sub(r"^\W*(?:1|one)[\s_]*(?:-|minus)|^\s*-", "minus ", name, flags=re.IGNORECASE)
  found: list[str] = []
  for chunk in re.findall(r"[^\W_]+", name):
    whole = chunk.lower()
    if whole.rstrip("0123456789") in HIGHER | LOWER:
      pieces = [whole]  # such as mIoU, which is one word
    else:
      pieces = re.findall(r"[A-Z]+(?![a-z])\d*|[A-Z]?[a-z]+\d*|\d+|[^\W\da-zA-Z]+", chunk)
    for piece in map(str.lower, pieces):
      found += [piece] if piece in HIGHER else re.findall(r"\d+|\D+", piece)
  return found
