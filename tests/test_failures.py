"""Runs that end without a result: stored as failed, with the reason, holding nobody up."""

import concurrent.futures
import json
import subprocess
import sys
import threading
import time

import jobs
import numpy as np
import pytest
from test_sweeps import assert_same_bits

import seedlab
from seedlab import dispatch, findings, pool, records
from seedlab.errors import UserError
from seedlab.pool import TaskError
from seedlab.report import words

RUNS = 8


def sweep(out, faults=None, runs=RUNS, **options):
  """A sweep of one worker in which `faults` happen (see toy.make)."""
  file = out.with_suffix(".json")
  file.write_text(json.dumps(faults or {}))
  options = {"workers": 1, "lanes": "loop", "quiet": True, **options}
  options["arguments"] = {"fed": True, "faults": str(file)}
  return seedlab.sweep("toy:make", runs, out, **options)


@pytest.fixture(scope="module")
def failed(tmp_path_factory):
  """The store of 8 runs of which 3 kills its worker and 6 raises."""
  out = tmp_path_factory.mktemp("failed") / "s"
  sweep(out, {"kill": [3], "raise": [6]})
  return out


def test_runs_that_fail_are_stored_with_their_reason_and_the_others_as_ever(failed, tmp_path):
  dataset = seedlab.open(failed, verify=True)
  assert np.flatnonzero(~dataset.completed.values).tolist() == [3, 6]
  assert findings.failures(dataset) == {
    3: "a task ended 3 workers in a row (SIGKILL); the machine may be short of memory: use fewer"
    " workers",
    6: "ArithmeticError: run 6 cannot be",
  }
  assert np.isnan(dataset.mse.values[[3, 6]]).all()
  sound = sweep(tmp_path / "s")
  others = [0, 1, 2, 4, 5, 7]
  assert_same_bits(sound.isel(run=others), dataset.isel(run=others))


def test_they_stay_as_they_are_until_they_are_retried(failed, capsys):
  sweep(failed, quiet=False)
  said = capsys.readouterr().err
  assert "8 runs, 2 of them failed; --retry_failed trains what failed again" in said
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(dispatch, "outcomes", lambda *arguments: iter(()))  # killed at once
    sweep(failed, retry_failed=True)
  assert not findings.failures(seedlab.open(failed, verify=True))
  assert sweep(failed, retry_failed=True).completed.values.all()
  records.check(failed)


@pytest.mark.slow
def test_a_run_that_hangs_is_reported_and_ended(tmp_path, capsys):
  out = tmp_path / "s"
  sweep(out, {"hang": [1]}, 2, quiet=False, stall_minutes=0.2, run_minutes=0.5)
  said = capsys.readouterr().err
  assert "run 1: no word for 12 s" in said and "1 run failed; --retry_failed" in said
  assert findings.failures(seedlab.open(out)) == {1: "it took longer than --run_minutes=0.5"}


def test_tasks_that_hang_are_reported_once_and_ended_and_the_others_finish():
  reports, watched = watch(silent=1.5)
  with pool.WorkerPool([None]) as executor:
    executor.submit(jobs.nap, [0], []).result()  # until the worker is there

    def submit(rows):
      return executor.submit(jobs.nap, rows.tolist(), [2])

    pending, watched = [np.arange(2), np.arange(2, 4)], watched._replace(longest=3.0)
    found = list(dispatch.outcomes(executor, submit, pending, watched, True))
  lost = [(rows.tolist(), result.reason) for rows, _, result in found
          if isinstance(result, dispatch.Failed)]  # fmt: skip
  assert lost == [([2, 3], "it took longer than --run_minutes=0.05"), ([2], lost[0][1])]
  done = [result for *_, result in found if not isinstance(result, dispatch.Failed)]
  assert done == [[0, 1], [3]]
  assert [rows for rows, _ in reports] == [[2, 3], [2]]


def fails(rows):
  """A task in which the rows 5 and 12 fail."""
  if {5, 12} & set(rows.tolist()):
    raise ArithmeticError("5 or 12")
  return rows


def watch(width=1, silent=0.0, expected=0.0):
  reports = []
  return reports, dispatch.Watch(
    width, expected, silent, None, lambda rows, seconds: reports.append((rows.tolist(), seconds))
  )


@pytest.mark.parametrize("in_order", [False, True])
@pytest.mark.parametrize("width", [1, 4])
def test_a_task_that_fails_is_halved_until_its_run_stands_alone(width, in_order):
  with concurrent.futures.ThreadPoolExecutor(1 if in_order else 3) as executor:
    found = list(
      dispatch.outcomes(
        executor,
        lambda rows: executor.submit(fails, rows),
        np.split(np.arange(20), [8, 16]),
        watch(width)[1],
        in_order,
      )
    )
  lost = [rows.tolist() for rows, _, result in found if isinstance(result, dispatch.Failed)]
  assert sorted(rows for rows in lost if len(rows) == 1) == [[5], [12]]
  assert all(len(rows) == 1 or len(rows) % width == 0 or len(rows) < width for rows in lost)
  sound = [rows for rows, _, result in found if not isinstance(result, dispatch.Failed)]
  assert sorted(np.concatenate(sound)) == sorted({*range(20)} - {5, 12})
  if in_order:
    ended = [row for rows, _, result in found if len(rows) == 1 or isinstance(result, np.ndarray)
             for row in rows.tolist()]  # fmt: skip
    assert ended == list(range(20))


def test_no_more_than_two_tasks_a_worker_are_under_way():
  under_way, most = threading.Semaphore(0), []
  with concurrent.futures.ThreadPoolExecutor(2) as executor:

    def submit(rows):
      under_way.release()
      most.append(under_way._value)
      return executor.submit(lambda: time.sleep(0.002))

    pending = np.split(np.arange(40), 40)
    for _ in dispatch.outcomes(executor, submit, pending, watch()[1], False):
      under_way.acquire()
  assert max(most) == 4


def test_silence_of_other_executors_is_measured_by_what_was_expected(monkeypatch):
  monkeypatch.setattr(dispatch, "_LOOK_SECONDS", 0.01)
  for expected, told in ((0.0, 1), (10.0, 0)):
    reports, watched = watch(silent=0.05, expected=expected)
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
      rows = [np.arange(2)]
      list(dispatch.outcomes(executor, lambda _, at=executor: at.submit(time.sleep, 0.3), rows,
                             watched, False))  # fmt: skip
    assert len(reports) == told


def test_where_the_first_runs_fail_the_experiment_is_wrong(tmp_path):
  """Its error is raised, and nothing is stored, so that the mended command trains all of them."""
  all_of_them = list(range(1, 9))
  with pytest.raises(TaskError, match=r"run [1-8] cannot be"):
    sweep(tmp_path / "s", {"raise": all_of_them}, all_of_them)
  assert not findings.failures(seedlab.open(tmp_path / "s"))
  with pytest.raises(TaskError, match="run 5 cannot be"):
    sweep(tmp_path / "one", {"raise": [5]}, [5])


def test_ten_in_a_row_stop_a_sweep_that_had_gone_well():
  last = dispatch.Failed("no device", RuntimeError("no device"))
  dispatch.check_failures(9, True, last)
  with pytest.raises(UserError, match=r"10 runs in a row failed .* no device; mend the cause"):
    dispatch.check_failures(10, True, last)


def test_a_stopping_rule_leaves_failed_runs_out(tmp_path):
  """30 values are needed before the first look; with a failed run they are there after 31."""
  rule = {"runs": None, "stop": "ci_width(mse)<100", "max_runs": 60}
  for _ in range(2):
    found = sweep(tmp_path / "s", {"raise": [12]}, lanes="vmap", width=8, **rule)
    assert found.sizes["run"] == 31 and found.completed.values.sum() == 30


def test_reports_count_them_with_their_reasons(tmp_path):
  failures = {3: "a", 9: "b", 4: "a", 1: "c", 2: "d", 7: "e"}
  assert words.failures_told(failures, 40) == (
    "Failed: 6 of 40 runs ended without a result and have no value: runs 3, 4 (a); run 9 (b); run 1"
    " (c); and 2 other reasons."
  )
  sweep(tmp_path / "s", {"raise": [2]}, 4)
  command = [sys.executable, "-m", "seedlab", "report", str(tmp_path / "s")]
  said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
  said = " ".join(said.split())
  assert "run 2 (ArithmeticError: run 2 cannot be)" in said and "Not finished" not in said
  assert "(ArithmeticError: run 2 cannot be)" in (tmp_path / "s" / "report.html").read_text()


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"stall_minutes": -1}, "stall_minutes=-1 must be"),
    ({"stall_minutes": "3"}, "stall_minutes='3' must be"),
    ({"run_minutes": 0}, "run_minutes=0 leaves no time"),
    ({"run_minutes": float("nan")}, "run_minutes=nan must be"),
    ({"run_minutes": 1, "executor": concurrent.futures.Executor()}, "workers of seedlab's own"),
    ({"shard": "0/3"}, "no shard 0 of 3"),
    ({"shard": "1/9"}, "8 runs cannot be split into 9"),
    ({"shard": "1/2", "runs": None, "stop": "ci_width(mse)<1", "max_runs": 60}, "exclude"),
  ],
)
def test_what_cannot_be_is_one_line(tmp_path, options, message):
  with pytest.raises(UserError, match=message):
    sweep(tmp_path / "s", **options)
  assert not (tmp_path / "s").exists() and not (tmp_path / "s.shards").exists()


def test_a_call_returns_the_runs_it_asked_for(failed):
  asked = sweep(failed, runs=range(1, 3))
  assert asked.run.values.tolist() == [1, 2] and isinstance(asked, records.Store)
