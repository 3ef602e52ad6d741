"""The interactive figures of a page: findings in, Bokeh models out.

Colours are roles (main, best, worst, ink, soft, faint) kept in the `tags` of a
model as "property=role"; the page's script paints them from its own variables and
again when light turns dark. Every model that the script looks for has a name.

Bokeh takes the text of a tooltip for HTML and that of an axis, between dollar signs, for TeX: so
names reach a tooltip as a column of the data, which is escaped, and an axis as plain text.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import scipy.stats
from bokeh.layouts import column as stack
from bokeh.models import (
  Band,
  ColumnDataSource,
  FactorRange,
  GlyphRenderer,
  HoverTool,
  Legend,
  PlainText,
  Range1d,
  Slope,
  Span,
  TapTool,
)
from bokeh.models.layouts import LayoutDOM
from bokeh.plotting import figure

from seedlab.findings import Findings
from seedlab.report import series
from seedlab.stats.comparison import TwoSweeps
from seedlab.stats.single import Interval

MOST_POINTS = 20_000  # of a figure; more are thinned out between the extremes
_EXTREMES = 200  # on each side always drawn
_HEIGHT = 300


def runs(found: Findings, digests: Mapping[int, str]) -> ColumnDataSource:
  """The runs as points, ascending by value: value, rank, jitter, run, digest, seeds."""
  last = found.columns[0]
  order = np.lexsort((last.runs, last.values))
  rank = np.arange(len(order))
  chosen = thinned(len(order))
  order, rank = order[chosen], rank[chosen]
  run_R = last.runs[order]
  golden = (math.sqrt(5) - 1) / 2  # even and unlike any pattern in the numbers
  return ColumnDataSource(
    {
      "value": last.values[order],
      "rank": (rank + 1).astype(np.int32),
      "jitter": (run_R * golden % 1).astype(np.float32),
      "run": run_R.astype(np.int64),
      "digest": [digests.get(int(run), "") for run in run_R],
      "seeds": seeds_text(found, run_R),
    },
    name="runs",
  )


def thinned(count: int) -> np.ndarray:
  """Positions to draw of `count` sorted ones: all, or the extremes and evenly between."""
  if count <= MOST_POINTS:
    return np.arange(count)
  between = np.linspace(_EXTREMES, count - _EXTREMES - 1, MOST_POINTS - 2 * _EXTREMES)
  ends = np.r_[np.arange(_EXTREMES), np.arange(count - _EXTREMES, count)]
  return np.unique(np.r_[ends, between.astype(np.int64)])


def seeds_text(found: Findings, run_R: np.ndarray) -> list[str]:
  """For each run the seeds of the streams that vary; one number where they agree."""
  if found.independent or not found.seeds:
    return [str(run) for run in run_R]
  order = np.argsort(found.run_R)
  rows = order[np.searchsorted(found.run_R, run_R, sorter=order)]
  columns = [found.seeds[stream][rows] for stream in found.vary]
  return [
    ", ".join(f"{stream} {seed}" for stream, seed in zip(found.vary, row, strict=True))
    for row in zip(*columns, strict=True)
  ]


def distribution(found: Findings, source: ColumnDataSource, label: str) -> LayoutDOM:
  """Histogram with density and mean, above the runs one by one."""
  column = found.columns[-1]
  s, values_R = column.summary, column.values
  edges, counts, _, spans = series.histogram(found)
  top = _figure(label="", y_label="runs", height=_HEIGHT - 90)
  bars = top.quad(
    left=edges[:-1], right=edges[1:], bottom=0, top=counts, fill_alpha=0.5, line_width=0.5
  )
  _paint(bars, fill_color="main", line_color="page")
  if s.gap > 0:
    grid = np.linspace(edges[0], edges[-1], 200)
    density = scipy.stats.gaussian_kde(values_R)(grid) * len(values_R) * (edges[1] - edges[0])
    _paint(top.line(grid, density, line_width=2), line_color="main")
  mean = Span(location=s.mean, dimension="height", line_width=1, tags=["line_color=ink"])
  top.add_layout(mean)
  top.y_range.start = 0
  top.xaxis.visible = False
  bottom = _figure(label=label, y_label="", height=110, x_range=top.x_range)
  points = bottom.scatter("value", "jitter", source=source, size=7, fill_alpha=0.35, line_width=0)
  _points(bottom, points, found)
  bottom.yaxis.visible = bottom.ygrid.visible = False
  bottom.y_range = Range1d(-0.15, 1.15)
  for row, (_, half) in enumerate(spans):
    height = counts.max() * (1.08 + 0.07 * row)
    bar = top.segment([s.mean - half], [height], [s.mean + half], [height], line_width=3)
    _paint(bar, line_color="worst" if row else "main")
  return stack(top, bottom, sizing_mode="stretch_width")


def ranked(found: Findings, source: ColumnDataSource, label: str) -> LayoutDOM:
  """The runs in order of their value, with what a normal sample would look like."""
  column = found.columns[0]
  s = column.summary
  plot = _figure(label="runs, ascending", y_label=label, name="ranked")
  if s.gap > 0:
    rank = np.unique(np.geomspace(1, s.n, 120).round().astype(int))
    rank = np.unique(np.r_[rank, s.n + 1 - rank])
    # The i-th of n uniform values is Beta(i, n + 1 - i).
    low, middle, high = (
      s.mean + s.sd * scipy.stats.norm.ppf(scipy.stats.beta.ppf(q, rank, s.n + 1 - rank))
      for q in (0.025, 0.5, 0.975)
    )
    normal = ColumnDataSource({"rank": rank, "low": low, "high": high})
    band = Band(base="rank", lower="low", upper="high", source=normal, fill_alpha=0.25)
    band.update(line_alpha=0, level="underlay", tags=["fill_color=soft"])
    plot.add_layout(band)
  points = plot.scatter("rank", "value", source=source, size=6, fill_alpha=0.6, line_width=0)
  _points(plot, points, found)
  if s.gap > 0:
    _paint(plot.line(rank, middle, line_dash="dashed"), line_color="ink")
  return plot


def curves(found: Findings, label: str) -> LayoutDOM | None:
  """Median and bands over training, and the sd below; None for fewer than two evaluations."""
  bands = series.bands(found)
  if bands is None:
    return None
  names = ("q5", "q25", "median", "q75", "q95")
  columns = dict(zip(names, bands.quantiles, strict=True))
  source = ColumnDataSource({"step": bands.steps, **columns, "sd": bands.sd})
  top = _figure(label="", y_label=label, height=_HEIGHT - 110)
  outer = top.varea("step", "q5", "q95", source=source, fill_alpha=0.22)
  inner = top.varea("step", "q25", "q75", source=source, fill_alpha=0.4)
  middle = top.line("step", "median", source=source, line_width=2)
  _paint(outer, fill_color="main")
  _paint(inner, fill_color="main")
  _paint(middle, line_color="main")
  tips = [("step", "@step{0,0}"), ("median", "@median{0.000}"), ("90 % of runs", "@q5 to @q95")]
  top.add_tools(HoverTool(renderers=[middle], mode="vline", tooltips=[*tips, ("sd", "@sd{0.000}")]))
  top.y_range = Range1d(*series.frame(bands.quantiles[[0, -1]]))
  top.xaxis.visible = False
  bottom = _figure(label="training step", y_label="sd", height=140, x_range=top.x_range)
  line = bottom.line("step", "sd", source=source, line_width=2)
  _paint(line, line_color="main")
  _paint(bottom.scatter("step", "sd", source=source, size=4), fill_color="main", line_color="main")
  bottom.y_range.start = 0
  return stack(top, bottom, sizing_mode="stretch_width")


class Line(NamedTuple):
  """A curve with a band around it; nan leaves a gap."""

  name: str
  role: int  # lines of one role share a colour
  dash: str  # solid, dashed, dotted
  x: np.ndarray
  middle: np.ndarray
  low: np.ndarray
  high: np.ndarray


def line(
  name: str, role: int, dash: str, x: np.ndarray, found: Sequence[Interval], scale: float = 1.0
) -> Line:
  """Estimates of `found` at x with their limits, multiplied by `scale`."""
  columns = np.array([(i.estimate, i.low, i.high) for i in found]).T
  return Line(name, role, dash, np.asarray(x), *(scale * columns))


def lines(
  drawn: Sequence[Line],
  x_label: str,
  y_label: str,
  guides: Sequence[float] = (),
  x_axis: str = "log",
) -> LayoutDOM:
  """Curves with bands over a "log" or "linear" axis, one colour a role, and `guides` at heights.

  Without guides the vertical axis begins at zero.
  """
  plot = _figure(label=x_label, y_label=y_label, height=_HEIGHT + 80, x_axis_type=x_axis)
  roles = _roles(1 + max(line.role for line in drawn))
  items = []
  for line in drawn:
    source = ColumnDataSource(
      {"x": line.x, "middle": line.middle, "low": line.low, "high": line.high}
      | {"name": [line.name] * len(line.x)}
    )
    band = plot.varea("x", "low", "high", source=source, fill_alpha=0.18)
    curve = plot.line("x", "middle", source=source, line_width=2, line_dash=line.dash)
    _paint(band, fill_color=roles[line.role])
    _paint(curve, line_color=roles[line.role])
    tips = [("", "@name"), (x_label, "@x{0,0}"), (y_label, "@middle{0.000}")]
    plot.add_tools(
      HoverTool(renderers=[curve], tooltips=[*tips, ("band", "@low{0.000} to @high{0.000}")])
    )
    items.append((line.name, [curve, band]))
  legend = Legend(items=items, border_line_alpha=0, background_fill_alpha=0)
  legend.update(ncols=1 + max(line.role for line in drawn), click_policy="hide", glyph_width=26)
  legend.update(label_text_font_size="11px", spacing=8, margin=0, location="left")
  legend.tags = ["label_text_color=ink"]
  plot.add_layout(legend, "above")
  for height in guides:
    tags = ["line_color=soft"]
    plot.add_layout(Span(location=height, dimension="width", line_dash="dashed", tags=tags))
  if not guides:
    plot.y_range.start = 0
  return plot


class Path(NamedTuple):
  """Named points in the order in which a line joins them."""

  name: str
  labels: Sequence[str]
  x: Sequence[float]
  y: Sequence[float]


def paths(drawn: Sequence[Path], x_label: str, y_label: str) -> LayoutDOM:
  """A line through the points of each path, one colour and one legend entry a path."""
  plot = _figure(label=x_label, y_label=y_label, height=_HEIGHT + 80)
  roles = _roles(len(drawn))
  items = []
  for number, (role, path) in enumerate(zip(roles, drawn, strict=True)):
    dash = "solid" if role not in roles[:number] else "dashed"
    source = ColumnDataSource({"label": list(path.labels), "x": list(path.x), "y": list(path.y)})
    line = plot.line("x", "y", source=source, line_width=2, line_dash=dash)
    points = plot.scatter("x", "y", source=source, size=8, fill_alpha=0.85)
    _paint(line, line_color=role)
    _paint(points, fill_color=role, line_color=role)
    tips = [("", "@label"), (x_label, "@x{0.0000}"), (y_label, "@y{0.0000}")]
    plot.add_tools(HoverTool(renderers=[points], tooltips=tips))
    items.append((path.name, [line, points]))
  legend = Legend(items=items, border_line_alpha=0, background_fill_alpha=0)
  legend.update(ncols=min(len(drawn), 4), click_policy="hide", glyph_width=26, location="left")
  legend.update(label_text_font_size="11px", spacing=8, margin=0)
  legend.tags = ["label_text_color=ink"]
  plot.add_layout(legend, "above")
  return plot


def densities(sweeps: Sequence[Findings], label: str) -> LayoutDOM:
  """One density a sweep, over the same axis."""
  plot = _figure(label=label, y_label="density")
  roles = _roles(len(sweeps))
  handles = []
  for sweep, role in zip(sweeps, roles, strict=True):
    values_R = sweep.columns[0].values
    s = sweep.columns[0].summary
    if not s.gap:
      line = plot.line([s.mean, s.mean], [0, 1], line_width=2)
    else:
      grid = np.linspace(s.min - s.sd, s.max + s.sd, 200)
      line = plot.line(grid, scipy.stats.gaussian_kde(values_R)(grid), line_width=2)
    _paint(line, line_color=role)
    handles.append((sweep.name, [line]))
  legend = Legend(
    items=handles, border_line_alpha=0, background_fill_alpha=0, orientation="horizontal"
  )
  legend.tags = ["label_text_color=ink"]
  plot.add_layout(legend, "above")
  plot.y_range.start = 0
  return plot


def differences(two: TwoSweeps, run_R: np.ndarray, label: str) -> LayoutDOM:
  """Differences of pairs, ascending, around zero."""
  values = two.a_R - two.b_S
  order = np.argsort(values)
  chosen = thinned(len(order))
  source = ColumnDataSource(
    {"rank": chosen + 1, "value": values[order][chosen], "run": run_R[order][chosen]}, name="pairs"
  )
  plot = _figure(label="pairs, ascending", y_label=label)
  plot.add_layout(Span(location=0, dimension="width", tags=["line_color=soft"]))
  points = plot.scatter("rank", "value", source=source, size=6, fill_alpha=0.6, line_width=0)
  _paint(points, fill_color="main")
  plot.add_tools(
    HoverTool(renderers=[points], tooltips=[("seed", "@run"), (label, "@value{0.000}")])
  )
  return plot


def intervals(
  names: Sequence[str], rows: Sequence[tuple[float, float, float, float, float]], label: str
) -> LayoutDOM:
  """A row each: a thin line min to max, a thick one for the interval, a point at the mean.

  Args:
    rows: (mean, low, high, min, max); limits may be nan.
  """
  mean, low, high, least, most = np.array(rows, np.float64).T
  shown = [str(name) for name in names]
  source = ColumnDataSource(
    {"name": shown, "mean": mean, "low": low, "high": high, "min": least, "max": most}
  )
  plot = _figure(
    label=label, y_label="", height=70 + 28 * len(shown), y_range=FactorRange(*reversed(shown))
  )
  _paint(plot.segment("min", "name", "max", "name", source=source, line_width=1), line_color="soft")
  _paint(
    plot.segment("low", "name", "high", "name", source=source, line_width=5), line_color="main"
  )
  points = plot.scatter("mean", "name", source=source, size=8)
  _paint(points, fill_color="ink", line_color="ink")
  tips = [("", "@name"), ("mean", "@mean{0.000}"), ("95 %", "@low{0.000} to @high{0.000}")]
  plot.add_tools(
    HoverTool(renderers=[points], tooltips=[*tips, ("all", "@min{0.000} to @max{0.000}")])
  )
  return plot


def _roles(count: int) -> list[str]:
  """Colours for so many lines, from most to least distinct."""
  known = ["main", "worst", "best", "ink", "soft"]
  return [known[number % len(known)] for number in range(count)]


def _points(plot, points: GlyphRenderer, found: Findings) -> None:
  _paint(points, fill_color="main")
  points.selection_glyph = points.glyph.clone()
  points.selection_glyph.update(fill_alpha=1.0, size=11, tags=["fill_color=worst"])
  points.nonselection_glyph = None
  value = "@value{0.00}" if found.percent else "@value{0.0000}"
  tips = [("seed", "@seeds"), ("run", "@run"), (found.label, value), ("final state", "@digest")]
  plot.add_tools(HoverTool(renderers=[points], tooltips=tips), TapTool(renderers=[points]))


def _paint(renderer: GlyphRenderer, **roles: str) -> None:
  renderer.glyph.tags = [f"{name}={role}" for name, role in roles.items()]


def _figure(label: str, y_label: str, height: int = _HEIGHT, **options):
  plot = figure(
    height=height,
    sizing_mode="stretch_width",
    tools="",
    toolbar_location=None,
    outline_line_alpha=0,
    border_fill_color=None,
    background_fill_color=None,
    min_border=10,
    min_border_left=62,  # so that the axes of stacked figures are in line
    # Not transparent: what was drawn before a resize would shine through.
    tags=["background_fill_color=card", "border_fill_color=card"],
    **options,
  )
  plot.xaxis.axis_label = PlainText(text=label)
  plot.yaxis.axis_label = PlainText(text=y_label)
  for axis in (*plot.xaxis, *plot.yaxis):
    lines = ["axis_line_color=faint", "major_tick_line_color=faint"]
    axis.tags = [*lines, "major_label_text_color=ink", "axis_label_text_color=ink"]
    axis.minor_tick_line_alpha = 0
    axis.axis_label_text_font_style = "normal"
  plot.xgrid.visible = False
  for grid in plot.ygrid:
    grid.tags = ["grid_line_color=faint"]
    grid.grid_line_alpha = 0.6
  return plot


def against(
  names: Sequence[str], x: Sequence[float], y: Sequence[float], x_label: str, y_label: str
) -> LayoutDOM:
  """Named points around the line on which x and y are equal."""
  middle = (min(x) + max(x)) / 2
  # Names stand on the side that has room.
  side = ["right" if value > middle else "left" for value in x]
  offset = [-8 if value > middle else 8 for value in x]
  source = ColumnDataSource(
    {"name": list(names), "x": list(x), "y": list(y), "side": side, "offset": offset}
  )
  plot = _figure(label=x_label, y_label=y_label, height=_HEIGHT + 80)
  plot.add_layout(Slope(gradient=1, y_intercept=0, line_dash="dashed", tags=["line_color=soft"]))
  points = plot.scatter("x", "y", source=source, size=9, fill_alpha=0.8)
  _paint(points, fill_color="main", line_color="main")
  text = plot.text(
    "x", "y", "name", source=source, x_offset="offset", y_offset=4, text_align="side",
    text_font_size="11px",
  )  # fmt: skip
  _paint(text, text_color="ink")
  tips = [("", "@name"), (x_label, "@x{0.000}"), (y_label, "@y{0.000}")]
  plot.add_tools(HoverTool(renderers=[points], tooltips=tips))
  return plot


def labelled(
  names: Sequence[str], x: Sequence[float], y: Sequence[float], x_label: str, y_label: str
) -> LayoutDOM:
  """Named points over a logarithmic axis."""
  source = ColumnDataSource({"name": list(names), "x": list(x), "y": list(y)})
  plot = _figure(label=x_label, y_label=y_label, x_axis_type="log")
  points = plot.scatter("x", "y", source=source, size=9, fill_alpha=0.8)
  _paint(points, fill_color="main", line_color="main")
  text = plot.text("x", "y", "name", source=source, x_offset=7, y_offset=4, text_font_size="11px")
  _paint(text, text_color="ink")
  plot.add_tools(
    HoverTool(renderers=[points], tooltips=[("", "@name"), (x_label, "@x"), (y_label, "@y{0.00}")])
  )
  return plot


def images(names: Sequence[str], pixels_RxNxK: np.ndarray) -> LayoutDOM:
  """Rows of N square images with their names, K = side² pixels each, or 3 side² in colours.

  Args:
    pixels_RxNxK: from 0 to 1; colours of a pixel lie side by side.
  """
  rows, count, size = pixels_RxNxK.shape
  colours = 1 if round(size**0.5) ** 2 == size else 3
  side = round((size / colours) ** 0.5)
  shown = np.round(255 * np.clip(pixels_RxNxK, 0, 1)).astype(np.uint8)
  shown = shown.reshape(rows, count, side, side, colours)
  gap = max(1, side // 8)
  sheet = np.zeros((rows * (side + gap), count * (side + gap), 4), np.uint8)
  for row, column in np.ndindex(rows, count):
    # The first row is the uppermost, and the sheet begins below.
    bottom, left = (rows - 1 - row) * (side + gap), column * (side + gap)
    place = sheet[bottom : bottom + side, left : left + side]
    place[..., :3], place[..., 3] = shown[row, column, ::-1], 255
  ticks = {(rows - 0.5 - row) * (side + gap): name for row, name in enumerate(names)}
  # Squares stay square whatever the width.
  plot = _figure(label="", y_label="", height=30 + 40 * rows, match_aspect=True)
  plot.image_rgba(
    image=[np.ascontiguousarray(sheet).view(np.uint32)[..., 0]],
    x=0, y=0, dw=sheet.shape[1], dh=sheet.shape[0],
  )  # fmt: skip
  plot.xaxis.visible = False
  plot.ygrid.visible = False
  plot.yaxis.ticker = list(ticks)
  plot.yaxis.major_label_overrides = ticks
  return plot
