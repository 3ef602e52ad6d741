"""What runs say, for people: text for a terminal, and pages that need no network.

words    sentences and table cells about one sweep     versus   the same about a comparison
charts   interactive figures                           markup   what every page is made of

latex, markdown   sentences and a table in these forms, for a paper

Then a module a page (sweep_html with flips, comparison_html, grid_html, studied), `terminal` and
`grid` for text, `paper` for tables and `figure_files` for figures of a sweep, `audited` for
published tables.

The names below load on first use: a text needs no library that draws, which takes a second to
import. No module is called like one of them, or importing it would put it in the name's place.
"""

from typing import TYPE_CHECKING

__all__ = [
  "Table",
  "audit_json",
  "audit_markdown",
  "audit_text",
  "comparison_json",
  "comparison_latex",
  "comparison_markdown",
  "comparison_page",
  "comparison_text",
  "failures_told",
  "grid_cells",
  "grid_page",
  "grid_text",
  "headline",
  "interval_text",
  "paper_tables",
  "plan_text",
  "save_figures",
  "study_page",
  "study_text",
  "sweep_page",
  "table_page",
  "table_text",
  "text",
  "write",
]

if TYPE_CHECKING:
  from seedlab.report.audited import json_values as audit_json
  from seedlab.report.audited import markdown as audit_markdown
  from seedlab.report.audited import text as audit_text
  from seedlab.report.comparison_html import comparison_page
  from seedlab.report.figure_files import save_figures
  from seedlab.report.grid import grid_cells, grid_text
  from seedlab.report.grid_html import grid_page
  from seedlab.report.markup import write
  from seedlab.report.paper import tables as paper_tables
  from seedlab.report.studied import Table, interval_text, study_page, study_text
  from seedlab.report.sweep_html import sweep_page, table_page
  from seedlab.report.terminal import headline, plan_text, table_text, text
  from seedlab.report.versus import json_values as comparison_json
  from seedlab.report.versus import latex as comparison_latex
  from seedlab.report.versus import markdown as comparison_markdown
  from seedlab.report.versus import text as comparison_text
  from seedlab.report.words import failures_told
else:
  _HOME = {
    "Table": "studied.Table",
    "audit_json": "audited.json_values",
    "audit_markdown": "audited.markdown",
    "audit_text": "audited.text",
    "comparison_json": "versus.json_values",
    "comparison_latex": "versus.latex",
    "comparison_markdown": "versus.markdown",
    "comparison_page": "comparison_html.comparison_page",
    "comparison_text": "versus.text",
    "failures_told": "words.failures_told",
    "grid_cells": "grid.grid_cells",
    "grid_page": "grid_html.grid_page",
    "grid_text": "grid.grid_text",
    "headline": "terminal.headline",
    "interval_text": "studied.interval_text",
    "paper_tables": "paper.tables",
    "plan_text": "terminal.plan_text",
    "save_figures": "figure_files.save_figures",
    "study_page": "studied.study_page",
    "study_text": "studied.study_text",
    "sweep_page": "sweep_html.sweep_page",
    "table_page": "sweep_html.table_page",
    "table_text": "terminal.table_text",
    "text": "terminal.text",
    "write": "markup.write",
  }

  def __getattr__(name):
    import importlib

    if name not in _HOME:
      raise AttributeError(f"module 'seedlab.report' has no attribute {name!r}")
    module, attribute = _HOME[name].split(".")
    return getattr(importlib.import_module(f"seedlab.report.{module}"), attribute)


def __dir__() -> list[str]:
  return list(__all__)
