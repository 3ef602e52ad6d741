"""Statistics over runs, on plain NumPy arrays (one module a question)."""

from seedlab.stats.single import (
  Summary,
  bands,
  distribution_wise_variance,
  histogram_edges,
  independent_errors_variance,
  summary,
)

__all__ = [
  "Summary",
  "bands",
  "distribution_wise_variance",
  "histogram_edges",
  "independent_errors_variance",
  "summary",
]
