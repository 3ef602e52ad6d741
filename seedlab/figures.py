"""Figures of runs: arrays in, a matplotlib Figure out. No file, no statistic, no pyplot.

The figures are as wide as a phone, so that a page only ever scales them up.
`COLORS` are the only colours used: a page can replace each by one that follows
its light or dark theme.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

COLORS = {
  "ink": "#24292f",
  "faint": "#a9b0b8",
  "main": "#2f6fd0",
  "best": "#17866b",
  "worst": "#c8590d",
}
SIZE = (3.6, 2.9)  # inches


def histogram(
  edges: np.ndarray,
  counts: np.ndarray,
  *,
  label: str,
  mean: float,
  spans: Sequence[tuple[str, float]] = (),
) -> Figure:
  """Runs per bin and a line at `mean`; below, a bar of `mean ± half` for each (text, half)."""
  figure = Figure(figsize=SIZE, layout="constrained")
  heights = [SIZE[1] - 0.36 * len(spans), *[0.36 * len(spans)] * bool(spans)]
  panels = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)
  top, bottom = panels[0, 0], panels[-1, 0]
  bars = {"color": COLORS["main"], "alpha": 0.55, "edgecolor": "none", "rwidth": 0.94}
  top.hist(edges[:-1], bins=edges, weights=counts, **bars)
  top.axvline(mean, color=COLORS["ink"], linewidth=1)
  top.annotate(
    "mean", (mean, 1), (3, 0), xycoords=("data", "axes fraction"), textcoords="offset points",
    va="top", color=COLORS["ink"], fontsize=8.5,
  )  # fmt: skip
  top.yaxis.set_major_locator(MaxNLocator(5, integer=True))
  top.set_ylabel("runs")
  _style(top)
  if spans:
    _style(bottom)
    bottom.set(yticks=[], ylim=(0.7 - len(spans), 0.9))
    bottom.spines["left"].set_visible(False)
    top.tick_params(bottom=False)
  for row, (text, half) in enumerate(spans):
    color = COLORS["worst" if row else "main"]
    bottom.plot([mean - half, mean + half], [-row, -row], color=color, linewidth=3.5)
    bottom.annotate(
      text,
      (mean, -row),
      (0, 3),
      textcoords="offset points",
      ha="center",
      va="bottom",
      color=COLORS["ink"],
      fontsize=8.5,
      parse_math=False,
    )
  bottom.set_xlabel(label, parse_math=False)
  return figure


def curves(
  steps_E: np.ndarray,
  quantiles_5xE: np.ndarray,
  sd_E: np.ndarray,
  runs: Mapping[str, np.ndarray],
  *,
  limits: tuple[float, float],
  label: str,
  unit: str = "",
) -> Figure:
  """Quantiles 5, 25, 50, 75, 95 % over training with some runs (name -> [E]); below, the sd.

  The vertical axis goes from one of the limits to the other. The sd has a panel of its own,
  logarithmic if it changes more than tenfold. The first run is drawn as the best, the second as
  the worst, others faintly.
  """
  figure = Figure(figsize=SIZE, layout="constrained")
  top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[2.2, 1])
  q5, q25, median, q75, q95 = quantiles_5xE
  band = {"color": COLORS["main"], "linewidth": 0}
  top.fill_between(steps_E, q5, q95, alpha=0.25, label="5-95 %", **band)
  top.fill_between(steps_E, q25, q75, alpha=0.4, label="25-75 %", **band)
  top.plot(steps_E, median, color=COLORS["main"], linewidth=1.4, label="median")
  for number, (name, values_E) in enumerate(runs.items()):
    color = COLORS[("best", "worst", "faint")[min(number, 2)]]
    top.plot(steps_E, values_E, color=color, linewidth=1, label=name)
  top.set_ylim(*limits)
  top.set_ylabel(label, parse_math=False)
  figure.legend(  # above the axes, where it hides nothing
    loc="outside upper center",
    ncols=3,
    frameon=False,
    fontsize=8,
    labelcolor=COLORS["ink"],
    columnspacing=1.2,
    labelspacing=0.25,
  )
  bottom.plot(steps_E, sd_E, color=COLORS["main"], linewidth=1.4, marker=".", markersize=4)
  if 0 < 10 * np.min(sd_E) < np.max(sd_E):
    bottom.set_yscale("log")
    bottom.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    bottom.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    bottom.yaxis.set_minor_formatter(NullFormatter())
  else:
    bottom.set_ylim(0, 1.15 * np.max(sd_E) or 1)
  bottom.set_ylabel(f"sd, {unit}" if unit else "sd", parse_math=False)
  bottom.set_xlabel("training step")
  for axes in (top, bottom):
    _style(axes)
  bottom.xaxis.set_major_locator(MaxNLocator(5, integer=True))
  figure.align_ylabels()
  return figure


def contact_sheet(
  images_NxHxWxC: np.ndarray, labels_N: np.ndarray, class_names: Sequence[str], per_class: int
) -> Figure:
  """The first `per_class` images of each class, a row a class; a place without one stays white.

  Images are uint8 with one or three channels. Saved at its own resolution, the
  figure shows every pixel as a square of the same whole number of pixels.
  """
  height, width, channels = images_NxHxWxC.shape[1:]
  gap = max(1, width // 16)
  sheet = np.full(
    (len(class_names) * (height + gap) - gap, per_class * (width + gap) - gap, channels),
    255,
    np.uint8,
  )
  for row in range(len(class_names)):
    for column, image in enumerate(images_NxHxWxC[labels_N == row][:per_class]):
      top, left = row * (height + gap), column * (width + gap)
      sheet[top : top + height, left : left + width] = image
  enlarged = max(1, 840 // sheet.shape[1])
  sheet = np.repeat(sheet, enlarged, 0).repeat(enlarged, 1)
  margin, (rows, columns) = 72, sheet.shape[:2]
  figure = Figure(figsize=((columns + margin) / 100, rows / 100), dpi=100)
  axes = figure.add_axes((margin / (columns + margin), 0, columns / (columns + margin), 1))
  axes.imshow(sheet.repeat(3 // channels, 2), interpolation="none", extent=(0, columns, rows, 0))
  axes.set(xticks=[], yticks=(np.arange(len(class_names)) + 0.5) * rows / len(class_names))
  axes.set_yticklabels(class_names, parse_math=False)
  axes.tick_params(length=0, labelsize=8.5, labelcolor=COLORS["ink"])
  axes.spines[:].set_visible(False)
  return figure


def functions(
  x_N: np.ndarray, panels: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]]
) -> Figure:
  """A panel for each function: values above, derivatives below, a line for each of its variants.

  Args:
    x_N: where they were evaluated.
    panels: title -> {label: (values [N], derivatives [N])}, three variants at most; an only one
      may have no label.
  """
  columns = 4
  rows = -(-len(panels) // columns)
  figure = Figure(figsize=(9, 2.5 * rows), layout="constrained")
  grid = figure.subplots(2 * rows, columns, sharex=True, height_ratios=[1.6, 1] * rows)
  low = min(values.min() for panel in panels.values() for values, _ in panel.values())
  high = max(values.max() for panel in panels.values() for values, _ in panel.values())
  for number, (title, panel) in enumerate(panels.items()):
    row, column = 2 * (number // columns), number % columns
    top, bottom = grid[row, column], grid[row + 1, column]
    for color, (label, lines) in zip(("main", "worst", "best"), panel.items(), strict=False):
      for axes, line in zip((top, bottom), lines, strict=True):
        axes.plot(x_N, line, color=COLORS[color], linewidth=1.3, label=label)
    top.set_title(title, fontsize=10, color=COLORS["ink"], parse_math=False)
    top.set_ylim(low - 0.1, high)
    bottom.set_ylim(-0.25, 1.25)
    bottom.set_yticks([0, 1])
    if any(panel):
      top.legend(frameon=False, fontsize=7.5, labelcolor=COLORS["ink"], handlelength=1.2,
                 loc="upper left", borderaxespad=0, labelspacing=0.2)  # fmt: skip
    for axes in (top, bottom):
      _style(axes)
      axes.axvline(0, color=COLORS["faint"], alpha=0.4, linewidth=0.6)
      axes.tick_params(labelsize=7.5, labelbottom=axes is bottom)
  for number in range(len(panels), rows * columns):
    for axes in grid[2 * (number // columns) :, number % columns][:2]:
      axes.set_visible(False)
  for axes, label in zip(grid[:, 0], ("value", "derivative") * rows, strict=True):
    axes.set_ylabel(label, fontsize=8)
  figure.align_ylabels()
  return figure


def _style(axes: Axes) -> None:
  for side in ("top", "right"):
    axes.spines[side].set_visible(False)
  for side in ("left", "bottom"):
    axes.spines[side].set_color(COLORS["faint"])
  axes.grid(axis="y", color=COLORS["faint"], alpha=0.4, linewidth=0.6)
  axes.set_axisbelow(True)
  axes.tick_params(which="both", labelsize=8.5, color=COLORS["faint"], labelcolor=COLORS["ink"])
  for axis in (axes.xaxis, axes.yaxis):
    axis.label.set(color=COLORS["ink"], fontsize=9)
