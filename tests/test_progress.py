"""How far a sweep is, and when it will be done."""

import pytest

from seedlab import progress


@pytest.fixture
def clock(monkeypatch):
  class Clock:
    now = 1000.0

    def monotonic(self):
      return self.now

  made = Clock()
  monkeypatch.setattr(progress, "time", made)
  return made


def lines(capsys):
  return capsys.readouterr().err.splitlines()


def test_the_time_left_follows_the_speed_of_the_last_minute(clock, capsys):
  """100 short runs in 10 s, then long ones of 10 s each: 20 of those take 200 s."""
  with progress.Progress(140) as shown:
    clock.now += 10
    shown.finished(1, 100)
    assert lines(capsys) == ["seedlab: 100 of 140 runs, 10.0 runs/s, 0:00:04 left"]
    for task in range(20):
      clock.now += 10
      shown.finished(task, 1)
    assert lines(capsys)[-1] == "seedlab: 120 of 140 runs, 360 runs/h, 0:03:20 left"


def test_runs_found_in_the_store_took_no_time(clock, capsys):
  with progress.Progress(100) as shown:
    shown.found(60)
    clock.now += 20
    shown.part(1, 4.0)
    assert lines(capsys) == ["seedlab: 64 of 100 runs, 720 runs/h, 0:03:00 left"]
