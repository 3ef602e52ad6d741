"""Studies: what runs, what is judged, and that nothing of it depends on how it was run."""

import math
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import xarray

from seedlab import claims, config, records, report
from seedlab.changes import changed
from seedlab.claims import Claim, Part
from seedlab.errors import UserError
from seedlab.stats.single import Interval
from seedlab.studies import runner, study
from seedlab.studies.fullbatch import STUDY, measures

ROOT = pathlib.Path(__file__).parent.parent
TINY = config.parse(
  {
    "data": {"train_examples": 20},
    "model": {"name": "mlp", "width": 2, "depth": 1},
    "training": {"batch_size": 10, "epochs": 1},
  }
)


def small_study(margin: float = 0.0, runs: int = 3) -> study.Study:
  """Two sweeps that differ in the learning rate, and one claim about their means."""
  fast = changed(TINY, {"optimizer.learning_rate": 0.5})

  def analyse(datasets, scale):
    def evidence(level):
      gap = datasets["b/fast"].test_accuracy[:, -1] - datasets["a"].test_accuracy[:, -1]
      return [Interval(float(gap.mean()), float(gap.min()), float(gap.max()), level, "range")]

    table = report.Table(
      "Runs", ("sweep", "n"), [(n, str(len(d.run))) for n, d in datasets.items()]
    )
    return study.Analysis("headline", [scale], {"T1": evidence}, {}, [table], {})

  return study.Study(
    "a study",
    lambda scale: [Claim("T1", "fast is better", (Part("gap", "lo > x", (margin,)),))],
    lambda scale, data_dir: [
      study.Sweep("a", TINY, range(runs)),
      study.Sweep("b/fast", fast, range(runs)),
    ],
    analyse,
  )


def test_a_study_trains_judges_writes_and_resumes(tmp_path, capsys):
  result = runner.run(small_study(), "laptop", tmp_path, workers=1)
  assert [verdict.outcome for verdict in result.verdicts] != []
  assert "6 of 6 runs" in capsys.readouterr().err  # one display for both sweeps
  kept = records.manifest(tmp_path / "b/fast")
  assert kept["planned_n"] == 3 and kept["claims"] == claims.record(small_study().claims(""))
  assert "Runs\nsweep   n\na       3\nb/fast  3" in result.text and "T1  " in result.text
  assert result.page == tmp_path / "report.html" and "fast is better" in result.page.read_text()
  digests = [records.open(tmp_path / name).digest.values.tolist() for name in ("a", "b/fast")]
  again = runner.run(small_study(), "laptop", tmp_path, workers=1, quiet=True)
  assert again.text == result.text and not capsys.readouterr().err
  assert digests == [
    records.open(tmp_path / name).digest.values.tolist() for name in ("a", "b/fast")
  ]
  moved = runner.run(small_study(margin=0.3), "laptop", tmp_path, workers=1, quiet=True)
  assert "changed since training: parts" in moved.text
  assert "changed since training: parts" in moved.page.read_text()
  smoke = runner.run(small_study(), "smoke", tmp_path / "smoke", workers=1, quiet=True)
  assert smoke.verdicts[0].outcome == "not testable here"


def test_a_directory_belongs_to_one_study_and_scale(tmp_path):
  runner.run(small_study(), "laptop", tmp_path / "a", workers=1, quiet=True)
  page = (tmp_path / "a/report.html").read_bytes()
  other = small_study()._replace(title="another study")
  for one, scale in ((other, "laptop"), (small_study(), "paper")):
    with pytest.raises(UserError, match="is of another study or scale"):
      runner.run(one, scale, tmp_path / "a", workers=1, quiet=True)
  with pytest.raises(UserError, match="is not empty and holds no study"):  # a sweep's store
    runner.run(small_study(), "laptop", tmp_path / "a/b/fast", workers=1, quiet=True)
  (tmp_path / "file").write_text("x")
  with pytest.raises(UserError, match="cannot be used"):
    runner.run(small_study(), "laptop", tmp_path / "file", workers=1, quiet=True)
  assert (tmp_path / "a/report.html").read_bytes() == page
  (tmp_path / "a/study.json").write_text("{")
  with pytest.raises(UserError, match="cannot be used"):
    runner.run(small_study(), "laptop", tmp_path / "a", workers=1, quiet=True)


def test_no_page_is_written_without_sweeps_that_are_there(tmp_path):
  runner.run(small_study(), "laptop", tmp_path, workers=1, quiet=True)
  page = (tmp_path / "report.html").read_bytes()
  fewer = small_study()._replace(sweeps=lambda scale, data_dir: [study.Sweep("a", TINY, range(3))])
  with pytest.raises(UserError, match="holds b/fast, whose data are not at hand now; name"):
    runner.run(fewer, "laptop", tmp_path, workers=1, quiet=True)
  assert (tmp_path / "report.html").read_bytes() == page


def test_a_mistake_in_the_last_sweep_is_found_before_the_first_trains(tmp_path):
  wrong = changed(TINY, {"training.batch_size": 99})
  bad = small_study()._replace(
    sweeps=lambda scale, data_dir: [
      study.Sweep("a", TINY, range(3)),
      study.Sweep("wrong", wrong, range(3)),
    ]
  )
  with pytest.raises(UserError, match=r"training.batch_size=99 is more than the 20"):
    runner.run(bad, "laptop", tmp_path, workers=1, quiet=True)
  assert not (tmp_path / "a").exists()


def made_up(accuracy, *, loss=0.0, seed=0, settings=None) -> xarray.Dataset:
  """A finished sweep of 20 runs with this mean test accuracy (a fraction)."""
  rng = np.random.default_rng(seed)
  runs = 20
  values = accuracy + 0.002 * rng.normal(size=(runs, 1))
  streams = {f"seed_{name}": ("run", np.arange(runs, dtype=np.uint32)) for name in config.STREAMS}
  return xarray.Dataset(
    {
      "test_accuracy": (("run", "evaluation"), values),
      "train_loss": (("run", "evaluation"), loss + 1e-4 * rng.normal(size=(runs, 1))),
      "block_gradient_norm": (("run", "evaluation"), np.ones((runs, 1))),
      "digest": ("run", np.full(runs, b"same")),
      "diverged": ("run", np.full(runs, -1)),
      "completed": ("run", np.full(runs, True)),
      "fingerprint": ("run", np.zeros(runs, int)),
    },
    coords={
      "run": np.arange(runs),
      "evaluation": [9],
      "label": ("example", np.arange(10)),
      **streams,
    },
    attrs={"metrics": ["test_accuracy", "train_loss"], "config": config.to_dict(settings)},
  )


ACCURACY = {
  "sgd": 0.96, "sgd_replacement": 0.96, "sgd_tuned": 0.965, "full_batch": 0.90, "longer": 0.94,
  "noise_additive": 0.93, "noise_multiplicative": 0.93, "clipped": 0.955, "regularized": 0.968,
}  # fmt: skip


def full_batch_sweeps(**changes) -> dict[str, xarray.Dataset]:
  """Made-up results of every sweep at scale laptop: {row: (accuracy, train loss)} changes them."""
  found = {}
  for number, one in enumerate(STUDY.sweeps("laptop", None)):
    row = one.name.partition("/")[2]
    accuracy, loss = changes.get(row, (ACCURACY.get(row.split(",")[0], 0.95), 0.0))
    found[one.name] = made_up(accuracy, loss=loss, seed=number, settings=one.config)
  return found


def outcomes(datasets) -> dict[str, str]:
  made = STUDY.claims("laptop")
  found = STUDY.analyse(datasets, "laptop")
  verdicts = claims.judge_family(made, found.evidence, found.preconditions, "laptop")
  return {verdict.claim.id: verdict.outcome for verdict in verdicts}


@pytest.fixture
def no_images_at_hand(monkeypatch):
  """Only digits: the further data sets of the study are not on this disk."""
  monkeypatch.setenv("SEEDLAB_DATA", "")
  monkeypatch.setenv("HOME", "/nowhere")


def test_full_batch_claims_follow_their_rules(no_images_at_hand):
  first = outcomes(full_batch_sweeps())
  assert first == {
    "F1": "shown", "F2": "shown", "F3": "shown", "F4": "shown", "F5": "shown", "F6": "shown",
    "F7": "not testable here",
  }  # fmt: skip
  worse = outcomes(
    full_batch_sweeps(
      full_batch=(0.959, 0.0), longer=(0.97, 0.0), regularized=(0.94, 0.0),
      noise_multiplicative=(0.97, 0.0), sgd_replacement=(0.94, 0.0),
    )
  )  # fmt: skip
  assert {worse[name] for name in ("F1", "F2", "F3", "F5", "F6")} == {"contradicted"}


def test_full_batch_claims_need_rows_that_were_trained_as_far(no_images_at_hand):
  high = {row: (ACCURACY[row], 0.5) for row in ("full_batch", "longer", "regularized")}
  found = outcomes(full_batch_sweeps(**high))
  assert {found[name] for name in ("F1", "F2", "F3")} == {"not testable here"}
  assert {found[name] for name in ("F4", "F5", "F6")} == {"shown"}


def test_a_bit_moved_by_the_order_leaves_no_claim_of_no_randomness(no_images_at_hand):
  datasets = full_batch_sweeps()
  moved = datasets["digits/clipped,no_augmentation,still"]
  moved["digest"] = ("run", np.array([b"same"] * 19 + [b"other"]))
  assert outcomes(datasets)["F4"] == "not testable here"
  text = report.study_text([], {}, STUDY.analyse(datasets, "laptop").tables)
  assert "clipped      DIFFERENT bits" in text


def test_rows_differ_from_the_baseline_as_published():
  paper = {one.name: one.config for one in STUDY.sweeps("paper", None)}
  strong = paper["cifar10/strong"]
  assert (strong.gradient.block_size, strong.gradient.clip_norm) == (32, 0.25)
  schedule = strong.schedule
  assert (strong.training.epochs, schedule.get("warmup_steps"), schedule.get("period")) == (
    3000, 400, 4000,
  )  # fmt: skip
  assert paper["cifar10/regularized,copies"].data.copies == 10
  assert paper["cifar10/strong"].model.name == "resnet18"
  assert {"cifar10/regularized,resnet152", "cifar10/longer,densenet121"} <= set(paper)
  laptop = {one.name: one for one in STUDY.sweeps("laptop", None)}
  copies = laptop["digits/regularized,copies"].config
  assert copies.data.copies == 4
  assert [(part.name, part.get("padding")) for part in copies.augment] == [("crop", 1)]
  bare = laptop["digits/regularized,no_augmentation"].config
  assert bare.augment == () and bare.data.order == "sequential"
  assert (
    min(len(one.runs) for name, one in laptop.items() if "rate" not in name and "still" not in name)
    >= 20
  )


@pytest.mark.slow
def test_the_smoke_scale_of_every_study_runs_and_judges_nothing(tmp_path):
  done = subprocess.run(
    [
      sys.executable, "-m", "seedlab", "study", "--study=fullbatch", "--scale=smoke",
      f"--out={tmp_path}/study", "--strict",
    ],
    capture_output=True,
    text=True,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  assert done.stdout.count("not testable here (smoke scale judges nothing)") == 7
  assert done.stdout.count("the same bits") == 4 and "DIFFERENT" not in done.stdout
  assert (tmp_path / "study/report.html").exists()


_COUNTS = [("bootstrap", 6), ("diffusion", 11), ("language", 12), ("seeds", 12), ("smooth", 10)]


@pytest.mark.slow
@pytest.mark.parametrize("study, count", _COUNTS)
def test_the_smoke_scale_of_a_study_resumes(study, count, tmp_path):
  command = [
    sys.executable, "-m", "seedlab", "study", f"--study={study}", "--scale=smoke",
    f"--out={tmp_path}/study", "--strict",
  ]  # fmt: skip
  done = subprocess.run(command, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  assert done.stdout.count("not testable here (smoke scale judges nothing)") == count
  assert (tmp_path / "study/report.html").exists()
  again = subprocess.run(command, capture_output=True, text=True)
  assert again.stdout == done.stdout


def test_passes_count_every_gradient():
  configs = {one.name: one.config for one in STUDY.sweeps("laptop", None)}
  epochs = configs["digits/longer"].training.epochs
  assert measures.passes(configs["digits/longer"]) == epochs
  assert measures.passes(configs["digits/regularized"]) == 2 * epochs
  assert measures.passes(configs["digits/regularized,copies"]) == 2 * 4 * (epochs // 2)
  assert measures.passes(configs["digits/sgd_tuned,copies"]) == 2 * 40


def test_nan_train_loss_is_above_any(no_images_at_hand):
  found = full_batch_sweeps()
  found["digits/full_batch"]["train_loss"][:] = math.nan
  assert outcomes(found)["F1"] == "not testable here"
