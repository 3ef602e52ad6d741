"""The test examples on which seeds differ, and the classes that they take for each other."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from seedlab import config, parts
from seedlab import data as datasets
from seedlab.errors import UserError
from seedlab.findings import Disagreement, Findings
from seedlab.report.markup import escape, plain_table, section
from seedlab.stats.single import Interval

_SHOWN = 24  # test examples shown that flip between seeds
_CLASSES = 12  # up to which the confusion between seeds is shown as a matrix
_PAIRS = 12  # most confused classes listed otherwise


def instability(
  found: Disagreement | None, sweep: Findings, attributes: Mapping[str, Any], data_dir
) -> str:
  """The test examples on which seeds differ, and which classes they take for each other."""
  if found is None:
    return ""
  names = _class_names(attributes, found.votes_ExK.shape[1], data_dir)
  c, difference = found.churn, found.difference

  def limits(of: Interval, scale: int, digits: int, most: float) -> str:
    if not sweep.independent or math.isnan(of.low):
      return ""
    low, high = max(of.low, 0.0), min(of.high, most)  # what few runs do not know, the range does
    return f" (95 % interval {scale * low:.{digits}f} to {scale * high:.{digits}f})"

  unstable = int((found.instability_E > 0).sum())
  total = len(found.instability_E)
  text = (
    f"Two seeds disagree on {100 * c.estimate:.2f} % of the test examples{limits(c, 100, 2, 1.0)};"
    f" {unstable:,} of {total:,} examples flip between some of the runs."
  )
  if difference:
    text += (
      f" Their probabilities differ by {difference.estimate:.4f}{limits(difference, 1, 4, 2.0)} on"
      " average: the L1 prediction difference, of the click, or summed over the classes."
    )
  shown = np.argsort(-found.instability_E, kind="stable")[:_SHOWN]
  shown = shown[found.instability_E[shown] > 0]
  images = _test_images(attributes, found.label_E, data_dir)
  cards = "".join(_example(found, int(e), names, images) for e in shown)
  grid = f'<div class="images">{cards}</div>' if cards else ""
  return section("Examples that flip", f"<p>{escape(text)}</p>{grid}") + _confusion(found, names)


def _example(found: Disagreement, e: int, names: Sequence[str], images) -> str:
  votes = found.votes_ExK[e]
  runs = votes.sum()
  top = np.argsort(-votes, kind="stable")[:3]
  said = ", ".join(f"{names[k]}: {100 * votes[k] / runs:.0f} %" for k in top if votes[k])
  label = names[int(found.label_E[e])]
  alt = f"Test example {e}, labelled {label}; the runs say {said}"
  image = f'<img src="{_png(images[e])}" alt="{escape(alt)}">' if images is not None else ""
  return f"<div>{image}<b>{escape(label)}</b> (example {e})<br>{escape(said)}</div>"


def _confusion(found: Disagreement, names: Sequence[str]) -> str:
  """Which classes two seeds give to one example."""
  shares = 200 * found.confusion_KxK  # whichever of the two runs says which
  if not shares.any():
    return ""
  intro = "How often, in % of all examples and pairs of runs, one run says one class and another"
  if len(names) <= _CLASSES:
    most = shares.max()
    rows = "".join(
      f"<tr><th scope=row>{escape(names[i])}"
      + "".join(_heat(shares[i, j], most) if i != j else "<td>" for j in range(len(names)))
      for i in range(len(names))
    )
    head = "".join(f"<th scope=col>{escape(name)}" for name in names)
    table = f'<table class="heat"><thead><tr><td>{head}</thead><tbody>{rows}</table>'
  else:
    upper = np.triu(shares)
    order = np.argsort(-upper, axis=None)[:_PAIRS]
    pairs = [np.unravel_index(place, upper.shape) for place in order]
    rows = [(names[i], names[j], f"{upper[i, j]:.3f}") for i, j in pairs if upper[i, j]]
    table = plain_table(("one run says", "another", "% of examples"), rows)
  card = f'<div class="card scroll">{table}</div>'
  return section("Confusion between seeds", f"<p>{intro} the other.</p>{card}")


def _heat(share: float, most: float) -> str:
  strength = round(70 * share / most)
  shown = f"{share:.2f}" if share >= 0.005 else "0"
  style = f"background: color-mix(in srgb, var(--main) {strength}%, transparent)"
  return f'<td style="{style}">{shown}'


def _test_images(attributes: Mapping[str, Any], label_E: np.ndarray, data_dir) -> Any:
  """uint8[E, H, W, C] of the sweep's test set; None where it is not at hand or of no images."""
  examples = _examples(attributes, data_dir)
  try:
    dataset = examples and examples.dataset
  except (UserError, OSError):
    return None
  if dataset is None or dataset.test_image.ndim != 4:
    return None
  return dataset.test_image if np.array_equal(dataset.test_label, label_E) else None


def _class_names(attributes: Mapping[str, Any], classes: int, data_dir) -> list[str]:
  examples = _examples(attributes, data_dir)
  if examples is None or len(examples.class_names) < classes:
    return [str(number) for number in range(classes)]
  return list(examples.class_names)[:classes]


def _examples(attributes: Mapping[str, Any], data_dir) -> datasets.Examples | None:
  """The data set of a sweep; None if it is not at hand, or the sweep names none."""
  if not attributes.get("config") or any(parts.code_named(attributes["config"]["data"])):
    return None  # a page runs no code that a store names
  try:
    section = config.parse_data(attributes["config"]["data"])
    return datasets.read(section, data_dir, download=False)
  except (UserError, OSError):
    return None


def _png(pixels: np.ndarray) -> str:
  image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
  file = io.BytesIO()
  image.save(file, "PNG", optimize=True)
  return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
