"""Planned numbers, claims, stopping rules: fixed before training, moved by nothing."""

import concurrent.futures
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from test_sweeps import HERE, assert_same_bits, sweep

import seedlab
from seedlab import filling, records
from seedlab import stopping as stopping_rules
from seedlab.config import STREAMS
from seedlab.errors import Damaged, UserError
from seedlab.stats import sequential
from seedlab.stopping import say_looks

RULE = "ci_width(mse)<0.056"
MOST = 120


def stopping(out, rule=RULE, most=MOST, **options):
  return sweep(out, None, stop=rule, max_runs=most, **options)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
  out = tmp_path_factory.mktemp("stop") / "sweep"
  return stopping(out), out


def test_the_stopping_run_is_the_first_look_at_which_the_interval_is_narrow(stopped):
  dataset, _ = stopped
  runs = len(dataset.run)
  assert sequential.BURN_IN < runs < MOST and runs % sequential.EVERY == 0
  values = dataset.mse.values[:, -1].astype(np.float64)
  low, high = sequential.asymptotic_sequence(values)
  widths = (high - low)[sequential.BURN_IN - 1 :: sequential.EVERY]
  assert widths[-1] < 0.056 and (widths[:-1] >= 0.056).all()
  assert dataset.completed.values.all() and dataset.run.values.tolist() == list(range(runs))
  assert dataset.attrs["stop"] == RULE and dataset.attrs["planned_n"] is None


def test_workers_and_width_of_the_tasks_do_not_move_it(stopped, tmp_path):
  assert_same_bits(stopped[0], stopping(tmp_path / "s", workers=2))
  wide = stopping(tmp_path / "wide", lanes="vmap", width=16, workers=2)
  assert len(wide.run) == len(stopped[0].run)  # other bits, the same decision here


def test_tasks_that_finish_in_any_order_do_not_move_it(stopped, tmp_path):
  """The later a task was submitted, the sooner it ends."""

  class Backwards(concurrent.futures.ThreadPoolExecutor):
    def submit(self, fn, /, *args):
      number = self._work_queue.qsize()

      def late():
        time.sleep(max(0.0, 0.2 - 0.05 * number))
        return fn(*args)

      return super().submit(late)

  with Backwards(4) as executor:
    dataset = stopping(tmp_path / "s", executor=executor, workers=4)
  assert len(dataset.run) == len(stopped[0].run)
  np.testing.assert_allclose(dataset.mse.values, stopped[0].mse.values, rtol=1e-4)


@pytest.mark.slow
def test_a_killed_sweep_stops_at_the_same_run(stopped, tmp_path):
  out = tmp_path / "s"
  code = (
    "from test_stop import stopping; import sys; stopping(sys.argv[1], workers=2,"
    " arguments={'marker': sys.argv[2]})"
  )
  # `marker` names a file and changes nothing that is computed; it is part of the experiment.
  marker = str(tmp_path / "marker")
  process = subprocess.Popen(
    [sys.executable, "-c", code, str(out), marker], cwd=HERE, start_new_session=True
  )
  deadline = time.monotonic() + 60
  while time.monotonic() < deadline:
    try:
      if records.exists(out) and records.open(out).completed.values.sum() >= 20:
        break
    except UserError:
      pass
    time.sleep(0.01)
  os.killpg(process.pid, signal.SIGKILL)
  process.wait()
  dataset = stopping(out, arguments={"marker": marker}, workers=2)
  assert_same_bits(stopped[0], dataset)


def test_again_there_is_nothing_to_do_and_a_narrower_rule_goes_on(stopped, tmp_path):
  dataset, _ = stopped
  out = tmp_path / "s"
  stopping(out)
  assert_same_bits(dataset, stopping(out))
  more = stopping(out, "ci_width(mse)<0.046")
  assert len(more.run) > len(dataset.run)
  assert more.digest.values[: len(dataset.run)].tolist() == dataset.digest.values.tolist()


def test_what_a_kill_while_dropping_rows_leaves_is_mended(stopped, tmp_path):
  out = tmp_path / "s"
  stopping(out)
  writer = records.Writer(out)
  more = range(len(writer.runs), MOST)
  writer.extend(more, np.zeros((len(more), len(STREAMS)), np.uint32))
  assert len(records.open(out).run) == MOST
  assert_same_bits(stopped[0], stopping(out))


@pytest.mark.parametrize("name", ["evaluation", "target"])
def test_labels_that_were_lost_after_it_was_met_are_written_again(stopped, tmp_path, name):
  shutil.copytree(stopped[1], tmp_path / "s")
  (tmp_path / "s" / name / "0").unlink()
  with pytest.raises(Damaged, match=name):
    seedlab.open(tmp_path / "s", verify=True)
  assert_same_bits(stopped[0], stopping(tmp_path / "s"))
  assert seedlab.open(tmp_path / "s", verify=True).equals(stopped[0])


def test_a_rule_that_is_never_met_ends_at_max_runs_and_says_so(tmp_path, capsys):
  dataset = seedlab.sweep(
    "toy:make",
    None,
    tmp_path / "s",
    lanes="loop",
    workers=1,
    stop="ci_width(mse)<1e-9",
    max_runs=30,
  )
  assert len(dataset.run) == 30 and dataset.completed.values.all()
  assert "is not met after 30 runs; raise max_runs" in capsys.readouterr().err


def test_a_diverged_run_whose_worth_is_unknown_is_refused(tmp_path):
  with pytest.raises(UserError, match=r"run \d+ diverged, and what that counts for is not known"):
    stopping(tmp_path / "s", arguments={"explode_below": 30})


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"stop": "ci_width(mse)<1"}, "give max_runs instead of runs"),
    ({"stop": "ci_width(mse)<1", "max_runs": 20}, "less than the 30 runs before the first look"),
    ({"stop": "mse<1", "max_runs": 50}, "is not a rule"),
    ({"stop": "ci_width(msee)<1", "max_runs": 50}, "did you mean 'mse'"),
    ({"stop": "ci_width(prediction)<1", "max_runs": 50}, "'prediction' is not known"),
    ({"stop": RULE, "max_runs": 50, "planned_n": 50}, "exclude each other"),
    ({"stop": RULE, "max_runs": 50, "runs": 50}, "give max_runs instead of runs"),
    (
      {
        "stop": RULE,
        "max_runs": 50,
        "seeds": {"vary": ["init", "order"], "design": "crossed", "levels": [2, 2]},
      },
      "needs independent runs",
    ),
    ({"runs": 5, "max_runs": 50}, "max_runs=50 is for stop"),
    ({"runs": 5, "planned_n": 1}, "planned_n=1 must be at least 2"),
  ],
)
def test_wrong_plans_are_refused_before_anything_trains(tmp_path, options, message):
  runs = options.pop("runs", None)
  with pytest.raises(UserError, match=message):
    sweep(tmp_path / "s", runs, **options)
  assert not records.exists(tmp_path / "s")


def test_a_store_of_other_runs_is_no_prefix(tmp_path):
  sweep(tmp_path / "s", range(5, 9))
  with pytest.raises(UserError, match="needs the runs 0, 1, 2"):
    stopping(tmp_path / "s")


def test_the_runs_of_the_first_call_are_the_plan_and_extending_keeps_it(tmp_path):
  out = tmp_path / "s"
  assert sweep(out, 6).attrs["planned_n"] == 6
  assert sweep(out, 8).attrs["planned_n"] == 6
  assert sweep(out, 8, planned_n=6).attrs["planned_n"] == 6
  with pytest.raises(UserError, match=r"planned_n=8: .* was begun with planned_n=6"):
    sweep(out, 9, planned_n=8)
  assert len(records.open(out).run) == 8
  assert sweep(tmp_path / "part", range(3, 5)).attrs["planned_n"] == 2
  assert sweep(tmp_path / "one", 1).attrs["planned_n"] == 1
  crossed = {"vary": ["init", "order"], "design": "crossed", "levels": [2, 3]}
  assert sweep(tmp_path / "crossed", None, seeds=crossed).attrs["planned_n"] == 6


def test_another_first_look_is_recorded_on_request_and_before_training(tmp_path):
  out = tmp_path / "s"
  assert sweep(out, 2, planned_n=4).attrs["planned_n"] == 4
  assert sweep(out, 4).attrs["planned_n"] == 4
  # A store of a release that recorded nothing keeps it that way.
  records.Writer(out).set_attributes(planned_n=None)
  assert sweep(out, 5).attrs["planned_n"] is None
  with pytest.raises(UserError, match="was begun with planned_n=None"):
    sweep(out, 6, planned_n=6)


@pytest.mark.parametrize(
  ("planned", "runs", "said"),
  [
    (1, 1, "1 run: the first look is at 2 runs"),
    (6, 6, "6 runs: this is the plan, at which the sweep is judged first; the next look is at 12"),
    (6, 8, "8 runs: planned were 6; the last look is at 6, the next at 12"),
    (6, 24, "24 runs: planned were 6; the last look is at 24, the next at 48"),
    (400, 100, "100 runs: the first look is at 400 runs"),
    (None, 7, ""),
  ],
)
def test_the_user_is_told_when_a_sweep_is_looked_at(capsys, planned, runs, said):
  say_looks(planned, runs, quiet=False)
  assert capsys.readouterr().err == f"seedlab: {said}\n" * bool(said)


def test_claims_are_in_the_manifest_and_a_changed_one_is_said(tmp_path, capsys):
  from seedlab import claims

  part = claims.Part("mean of mse", "hi < x", (1.0,))
  fixed = claims.record([claims.Claim("T1", "it learns", (part,))])
  loose = claims.record([claims.Claim("T1", "it learns", (claims.Part("mse", "hi < x", (2.0,)),))])
  out = tmp_path / "s"
  options = {"lanes": "loop", "workers": 1}
  seedlab.sweep("toy:make", 2, out, claims=fixed, **options)
  assert records.manifest(out)["claims"] == fixed
  seedlab.sweep("toy:make", 3, out, claims=loose, **options)
  assert "claims T1 are not as they were before training" in capsys.readouterr().err
  assert records.manifest(out)["claims"] == fixed


def test_runs_between_finished_ones_get_their_own_numbers(monkeypatch):
  """As a sweep trains them again of which single runs were damaged."""
  rows, written = np.array([8, 10, 12, 19, 21]), {}

  class Kept:
    failed = np.zeros(40, bool)

    def write(self, part, columns):
      written.update(zip(part.tolist(), columns["mse"].tolist(), strict=True))

  monkeypatch.setattr(stopping_rules, "stopping_run", lambda writer, rule: None)
  rule = stopping_rules.Rule("", None)
  assert filling._write(Kept(), rows, {"mse": 0.5 * rows}, rule) is None
  assert written == {8: 4.0, 10: 5.0, 12: 6.0, 19: 9.5, 21: 10.5}
  looks = [part.tolist() for part in stopping_rules.to_looks(rows)]
  assert looks == [[8], [10, 12, 19], [21]]
  assert [len(part) for part in stopping_rules.to_looks(np.arange(7, 33), 2)] == [5, 10, 10, 1]
