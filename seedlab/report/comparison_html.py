"""The page about a comparison of sweeps."""

from bokeh.models.layouts import LayoutDOM

from seedlab import judging
from seedlab.aggregates import Aggregate
from seedlab.comparisons import Comparison
from seedlab.findings import Findings, counted
from seedlab.report import aggregate, charts, versus, words
from seedlab.report.markup import escape, figures, label_of, page, plain_table, section


def comparison_page(found: Comparison, title: str | None = None) -> str:
  """The page about a comparison."""
  of = found.sweeps[0]
  label = label_of(of)
  drawn = {}
  if not found.aggregate:  # tasks have no axis in common
    drawn["densities"] = (
      charts.densities(found.sweeps, label),
      f"Density of {label} over the runs of each sweep: "
      + "; ".join(range_words(sweep) for sweep in found.sweeps)
      + ".",
      "How the runs of each sweep are spread.",
    )
  for number, pair in enumerate(found.pairs):
    if pair.two.paired and len(pair.two.a_R) > 1:
      name = f"{pair.variant.name} - {pair.baseline.name}{f' on {pair.task}' * bool(pair.task)}"
      shared = judging.paired_runs(pair.baseline, pair.variant)
      drawn[f"pairs{number}"] = (
        charts.differences(pair.two, shared, f"{name}{of.unit}"),
        f"Differences of {len(shared):,} pairs of runs with the same seed, ascending.",
        f"{name}: the differences of runs with the same seed, in ascending order.",
      )
  if found.aggregate:
    profiles = tasks_profiles(found.aggregate)
    drawn |= {"profiles": profiles} if profiles else {}
  verdicts = [versus.verdict(pair) for pair in found.pairs]
  head, *rows = versus.sweep_table(found)
  sections = []
  for pair, sentences in zip(found.pairs, verdicts, strict=True):
    listed = "".join(
      f"<dt>{escape(name)}<dd>{escape(value)}" for name, value in versus.facts(pair)
    )
    notes = "".join(f"<li>{escape(note)}" for note in versus.notes(pair))
    sections.append(
      section(
        f"{pair.variant.name} against {pair.baseline.name}{f' on {pair.task}' * bool(pair.task)}",
        f'<p class="outcome {pair.settled}">{escape(sentences[0])}</p>'
        + "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences[1:])
        + f'<div class="card"><dl>{listed}</dl><ul>{notes}</ul></div>',
      )
    )
  differing = [
    (field, *("none" if value is None else str(value) for value in values))
    for field, values in found.differences
  ]
  body = [
    section("", figures(drawn), "figures"),
    *sections,
    *([tasks_section(found.aggregate)] if found.aggregate else []),
    section("Sweeps", plain_table(head, rows)),
    section(
      "What differs",
      plain_table(("field", *(sweep.name for sweep in found.sweeps)), differing)
      if differing
      else "<p>Nothing that was recorded.</p>",
    ),
  ]
  names = " and ".join(dict.fromkeys(sweep.name for sweep in found.sweeps))
  return page(
    title or names, verdicts[0][0], [sentences[0] for sentences in verdicts[1:]], body, drawn, {}
  )


def range_words(found: Findings) -> str:
  s = found.columns[0].summary
  mean, low, high = (words.number(found, value, s.sd) for value in (s.mean, s.min, s.max))
  return f"{found.name} {low} to {high}, mean {mean}"


def tasks_section(found: Aggregate) -> str:
  """Of a page: the table, and what it does not say."""
  notes = "".join(f"<li>{escape(note)}" for note in aggregate.sentences(found)[1:])
  head, *body = aggregate.paper_rows(found)
  table = plain_table(head, body) if body else ""
  return section(
    f"Over {counted(len(found.tasks), 'task')}",
    f'<p>{escape(aggregate.scope(found))}</p>{table}<div class="card"><ul>{notes}</ul></div>',
  )


def tasks_profiles(found: Aggregate) -> tuple[LayoutDOM, str, str] | None:
  """The performance profiles with pointwise limits: figure, text instead of it, caption.

  None where no variant holds every task.
  """
  if not found.standings:
    return None
  drawn = []
  for number, one in enumerate(found.standings):
    p = one.profile
    dash = ("solid", "dashed", "dotted")[number // 5 % 3]
    drawn.append(
      charts.Line(one.name, number % 5, dash, p.thresholds_L, p.share_L, p.low_L, p.high_L)
    )
  kind = "below" if found.better < 0 else "above"
  label = found.metric.replace("_", " ") + ", %" * found.percent
  plot = charts.lines(drawn, label, f"share of runs {kind}", x_axis="linear")
  about = (
    f"Performance profiles: share of runs {kind} each {label}, mean over"
    f" {counted(len(found.tasks), 'task')}"
  )
  names = ", ".join(one.name for one in found.standings)
  return plot, f"{about}, of {names}.", f"{about}, with 95 % limits at each threshold."
