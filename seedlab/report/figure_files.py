"""The figures of a sweep as files for a paper."""

import os
import pathlib

import matplotlib
import numpy as np
import xarray
from matplotlib.figure import Figure

from seedlab import figures, findings
from seedlab.errors import UserError
from seedlab.findings import Findings
from seedlab.report import series, words

_FONTS = {"pdf.fonttype": 42}  # TrueType, embedded: publishers refuse matplotlib's Type 3


def save_figures(
  dataset: xarray.Dataset, directory: str | os.PathLike, metric: str | None = None
) -> list[pathlib.Path]:
  """Writes the histogram and, where there are evaluations, the curves as PDF and SVG."""
  folder = pathlib.Path(directory)
  written = []
  try:
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures_of(findings.examine(dataset, metric)).items():
      for kind in ("pdf", "svg"):
        written.append(folder / f"{name}.{kind}")
        with matplotlib.rc_context(_FONTS):
          figure.savefig(written[-1], metadata={"CreationDate" if kind == "pdf" else "Date": None})
  except OSError as error:
    raise UserError(f"figures={str(folder)!r} cannot be written ({error.strerror})") from None
  return written


def figures_of(found: Findings) -> dict[str, Figure]:
  """Name -> figure of the histogram and, where there are evaluations, the curves."""
  column = found.columns[-1]
  if column.summary.n < 2:
    return {}
  label = f"{found.label}, %" if found.percent else found.label
  edges, counts, mean, spans = series.histogram(found)
  drawn = {"histogram": figures.histogram(edges, counts, label=label, mean=mean, spans=spans)}
  bands = series.bands(found)
  if bands is not None:
    low, high = words.WORDS[found.better != 0]
    worst, best = (found.curves[column.runs == runs[0]][0] for runs in words.ends(found, column))
    limits = series.frame(np.stack([*bands.quantiles[[0, -1]], best, worst]))
    runs, unit = {high: best, low: worst}, "points" if found.percent else ""
    drawn["curves"] = figures.curves(*bands, runs, limits=limits, label=label, unit=unit)
  return drawn
