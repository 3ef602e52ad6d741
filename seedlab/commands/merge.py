"""Puts the shards of a sweep, trained apart, into one store.

OUT is the store to make or to extend; after it come the parts, by default all in OUT.shards. Every
number is verified first; parts of another experiment, that lack runs or contradict each other are
refused.
"""

import shlex

from absl import flags

from seedlab import console

_NEW = flags.DEFINE_bool("new_fingerprint", False, "take parts of other programs or versions")
_UNFINISHED = flags.DEFINE_bool("unfinished", False, "take what is there; sweep trains the rest")

POSITIONAL = ("OUT", "...")


def main(argv: list[str]) -> None:
  from seedlab import merging, records, report  # after the flags: a mistake answers at once

  out, *parts = argv[1:]
  dataset = merging.merge(out, parts, new_fingerprint=_NEW.value, unfinished=_UNFINISHED.value)
  if dataset["completed"].values.any():
    with records.readable(out):
      console.write(report.headline(dataset))
  console.write(f"All of it on one page: seedlab report {shlex.quote(out)}")
