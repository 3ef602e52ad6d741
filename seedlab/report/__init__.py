"""What runs say, for people: text for a terminal, and pages that need no network.

words    sentences and table cells about one sweep     versus   the same about a comparison
charts   interactive figures                           markup   what every page is made of

latex, markdown   sentences and a table in these forms, for a paper

Then a module a page (sweep_page with flips, comparison_page, grid, study_page), `terminal` for
text, `paper` for figures as files and tables of a sweep, `audited` for published tables.
"""

from seedlab.report import audited, versus, words
from seedlab.report.comparison_page import comparison_page
from seedlab.report.grid import grid_cells, grid_page, grid_text
from seedlab.report.markup import write
from seedlab.report.paper import save_figures
from seedlab.report.paper import tables as paper_tables
from seedlab.report.study_page import Table, interval_text, study_page, study_text
from seedlab.report.sweep_page import sweep_page, table_page
from seedlab.report.terminal import headline, plan_text, table_text, text

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

comparison_text = versus.text
comparison_latex = versus.latex
comparison_markdown = versus.markdown
comparison_json = versus.json_values
failures_told = words.failures_told
audit_text = audited.text
audit_markdown = audited.markdown
audit_json = audited.json_values
