"""Seeds of which one variant has rows and another has none: runs may have been left out."""

from collections.abc import Sequence

import pandas as pd

_SHOWN = 4  # seeds in a note
_NOTES = 4
_SHARED = 2  # seeds that two variants have in common, if they were run with the same ones


def lacking(frame: pd.DataFrame) -> list[str]:
  """A note for each variant without rows for seeds that others have, of the same task.

  Only variants that share two seeds are held against each other: others were hardly run with the
  same ones. A table from which failed runs were deleted looks like this, and flatters them.

  Args:
    frame: a row a run: variant, task, seed.
  """
  found = []
  for task, rows in frame.groupby("task", sort=False):
    names: dict[frozenset, list[str]] = {}  # variants by their seeds: most have the same
    for name, seeds in rows.groupby("variant", sort=False)["seed"]:
      names.setdefault(frozenset(seeds), []).append(str(name))
    for own in names:
      more = [other for other in names if other - own and len(other & own) >= _SHARED]
      seeds = sorted(frozenset().union(*more) - own)
      others = [name for other in more for name in names[other]]
      found += [_note(name, str(task), seeds, others) for name in names[own] if others]
  left = len(found) - _NOTES
  more_lack = f"{left:,} more variants lack rows for seeds that others have"
  return found[:_NOTES] + [more_lack if left > 1 else note for note in found[_NOTES:][:1]]


def _note(name: str, task: str, seeds: Sequence[int], others: Sequence[str]) -> str:
  which = f"{name}{f' on {task}' * bool(task)}"
  return (
    f"{which} has no rows for seed{'s' * (len(seeds) > 1)} {_some(seeds)} that {_some(others)}"
    f" {'has' if len(others) == 1 else 'have'}: if those runs failed or diverged, add them with an"
    f" empty cell or the word diverged, since a table without them flatters {which}; as long as the"
    " seeds are not the same, runs are no pairs"
  )


def _some(words: Sequence[int | str]) -> str:
  more = [f"{len(words) - _SHOWN:,} more"] if len(words) > _SHOWN else []
  shown = [*map(str, words[:_SHOWN]), *more]
  return ", ".join(shown[:-1]) + " and " * (len(shown) > 1) + shown[-1]
