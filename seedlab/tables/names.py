"""Which run a name is of: baseline_seed3, version_0, adam/2 as variant and number."""

import re
from collections.abc import Sequence

_SEED = re.compile(r"(?:(.+?)[-_ .]+)?(?:seed|s)[-_ =]?(\d+)", re.IGNORECASE)
_NUMBER = re.compile(r"(?:(.+)[-_ .])??(?:(?:version|run|trial|rep)[-_ ]?)?(\d+)", re.IGNORECASE)
_CODE = re.compile(r"[0-9a-f-]{8,}|[\d_-]{8,}", re.IGNORECASE)


def split(parts: Sequence[str]) -> tuple[str, str | None, bool]:
  """Variant, number (None where no part ends in one), and whether it is called a seed.

  Args:
    parts: of a path, from the outermost; or one name.
  """
  for place in range(len(parts) - 1, -1, -1):
    match = _SEED.fullmatch(parts[place])
    if match:
      rest = [*parts[:place], match[1], *parts[place + 1 :]]
      return "/".join(filter(None, rest)), match[2], True
  match = _NUMBER.fullmatch(parts[-1]) if parts else None
  if not match or is_code(parts[-1]):
    return "/".join(parts), None, False
  return "/".join(filter(None, [*parts[:-1], match[1]])), match[2], False


def is_code(name: str) -> bool:
  """Whether a name says nothing: a hexadecimal code or a date."""
  return bool(_CODE.fullmatch(name))
