"""Prints what a sweep shows and writes DIR/report.html, a page that needs no network."""

from absl import flags

from seedlab import cli

_METRIC = flags.DEFINE_string("metric", None, "the metric to judge by; else the store's first")


def main(argv: list[str]) -> None:
  from seedlab import records, report  # after the flags: a mistake answers at once

  directory = argv[1]
  with records.readable(directory):
    print(report.text(records.open(directory), _METRIC.value))
    print(f"page: {report.write(directory, _METRIC.value)}")


if __name__ == "__main__":
  cli.run(main, positional=("DIR",))
