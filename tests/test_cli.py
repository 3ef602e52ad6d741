"""The command line as a user meets it: real processes, their one line, their exit status."""

import ast
import importlib.metadata
import json
import os
import pathlib
import runpy
import shutil
import signal
import subprocess
import sys
import zipfile

import pytest

import seedlab
from seedlab import cli, commands, config, errors

_CONFIGS = pathlib.Path(__file__).parent.parent / "configs"

_SCRIPT = '''"""Prints the config it is given.

  python script.py --config=good.py
"""

import atexit
import os
import resource
import sys
import time

from absl import flags

from seedlab import cli, config, errors

_CONFIG = flags.DEFINE_string("config", None, "the experiment")
_RUNS = flags.DEFINE_integer("runs", 100, "how many runs", lower_bound=1)
_MODE = flags.DEFINE_enum("mode", "auto", ["auto", "loop", "vmap"], "lane mode")
_STRICT = flags.DEFINE_boolean("strict", False, "fail on a contradiction")
_DO = flags.DEFINE_string("do", "print", "what main does")
flags.mark_flag_as_required("config")


def main(argv):
  return globals()[_DO.value]()


def print():
  import json
  sys.stdout.write(json.dumps(config.to_dict(cli.experiment(_CONFIG.value))))


def user_error():
  raise errors.UserError("runs=3 must be\\n  even")


def unusable_file():
  open("good.py/store")


def full_disk():
  with open("/dev/full", "w") as file:
    file.write("x")


def full_disk_seen_by_a_library():
  try:
    full_disk()
  except OSError as error:
    raise RuntimeError("cannot write the chunk") from error


def too_large_file():
  resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
  with open("large", "w") as file:
    file.write("x" * 100)


def bug():
  sys.stdout.write("so far")
  return {}["key"]


def broken_worker():
  reader, writer = os.pipe()
  os.close(reader)
  os.write(writer, b"x")


def failed_check():
  return 1


def leave():
  sys.exit(3)


def spam():
  for _ in range(100_000):
    sys.stdout.write("a line of output\\n")


def wait():
  sys.stdout.write("ready\\n")
  sys.stdout.flush()
  time.sleep(60)


def linger():
  atexit.register(time.sleep, 60)
  wait()


def tidy_up():
  try:
    wait()
  except KeyboardInterrupt:
    sys.stdout.write("tidied up")
    raise


if __name__ == "__main__":
  cli.run(main)
'''

_CONFIG_FILES = {
  "good.py": """
from seedlab.config import to_config_dict
from seedlab.errors import choice_error

def get_config(scale="laptop"):
  if scale not in ("smoke", "laptop"):
    raise choice_error("scale", scale, ("smoke", "laptop"))
  return to_config_dict({"model": {"name": "mlp", "width": 8}})
""",
  "no_scales.py": "from ml_collections import ConfigDict\nget_config = lambda: ConfigDict()\n",
  "syntax.py": "def get_config()\n  return 1\n",
  "nameless.py": "epochs = 3\n",
  "none.py": "def get_config(): pass\n",
  "raises.py": "def epochs():\n  return {}['epochs']\ndef get_config():\n  return epochs()\n",
  "misspelt.py": "from seedlab.config import Training\nTraining(epohcs=3)\n",
  "unchecked.py": "get_config = lambda: {'model': {'name': 'mlp', 'width': '3'}}\n",
  "checked.py": """
from seedlab.config import to_config_dict
get_config = lambda: to_config_dict({'model': {'name': 'mlp', 'width': '3'}})
""",
  "tuned.py": "get_config = lambda: {'optimizer': {'momentum': 0.5}}\n",
  "augmented.py": """
get_config = lambda: {"augment": [{"name": "crop", "padding": 4}, "flip"]}
""",
  "emptied.py": """
get_config = lambda: {"data": {"train_examples": 50}, "evaluation": {"epochs": [1, 2]}}
""",
  "missing_file.py": "def get_config():\n  open('absent.txt')\n",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
  folder = tmp_path_factory.mktemp("cli")
  for name, text in {"script.py": _SCRIPT, **_CONFIG_FILES}.items():
    (folder / name).write_text(text)
  return folder


def start(folder: pathlib.Path, *args: str, **streams) -> subprocess.Popen:
  pipe, null = subprocess.PIPE, subprocess.DEVNULL
  return subprocess.Popen(
    [sys.executable, "script.py", *args],
    cwd=folder,
    # Unbuffered output would hide what a flush at the end has to catch.
    env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
    text=True,
    **{"stdin": null, "stdout": pipe, "stderr": pipe, **streams},
  )


def call(folder: pathlib.Path, *args: str, **streams) -> subprocess.CompletedProcess:
  with start(folder, *args, **streams) as process:
    stdout, stderr = process.communicate(timeout=30)
  return subprocess.CompletedProcess(args, process.returncode, stdout, stderr)


def do(folder: pathlib.Path, action: str, **streams) -> subprocess.CompletedProcess:
  return call(folder, "--config=good.py", f"--do={action}", **streams)


_WRONG = {
  "--config is missing: the experiment": [],
  "config file 'god.py' cannot be read: No such file or directory; did you mean 'good.py'?": [
    "--config=god.py"
  ],
  "config file '.' cannot be read: Is a directory": ["--config=."],
  "good.py: scale='huge' is not known; choices: laptop, smoke": ["--config=good.py:huge"],
  "good.py: scale='smok' is not known; did you mean 'smoke'?; choices: laptop, smoke": [
    "--config=good.py:smok"
  ],
  "no_scales.py: get_config: too many positional arguments "
  "(what follows the colon of FILE:SCALE)": ["--config=no_scales.py:smoke"],
  "syntax.py, line 1: SyntaxError: expected ':'": ["--config=syntax.py"],
  "nameless.py: it must define get_config(scale), which returns a ConfigDict": [
    "--config=nameless.py"
  ],
  "none.py: get_config must return a ConfigDict, not NoneType": ["--config=none.py"],
  "raises.py, line 2: KeyError: 'epochs'": ["--config=raises.py"],
  "misspelt.py, line 2: TypeError: Training.__init__() got an unexpected keyword argument"
  " 'epohcs'": ["--config=misspelt.py"],
  "checked.py: model.width='3' must be of type int, not str": ["--config=checked.py"],
  "model.width='3' must be of type int, not str": ["--config=unchecked.py"],
  "optimizer.momentum=0.5 was set for optimizer.name='sgd', and 'adam' does not read it; set it"
  " back too (optimizer.momentum=0.9), or leave it out": [
    "--config=tuned.py",
    "--config.optimizer=adam",
  ],
  "missing_file.py, line 2: FileNotFoundError: [Errno 2] No such file or directory: 'absent.txt'": [
    "--config=missing_file.py"
  ],
  "--rnus is not a flag; did you mean '--runs'?; --help lists them": [
    "--config=good.py",
    "--rnus=3",
  ],
  "--runs='many' must be a positive integer": ["--config=good.py", "--runs=many"],
  "--runs='0' must be a positive integer": ["--config=good.py", "--runs=0"],
  "--mode='lop' is not known; did you mean 'loop'?; choices: auto, loop, vmap": [
    "--config=good.py",
    "--mode=lop",
  ],
  "--strict='maybe' must be true or false": ["--config=good.py", "--strict=maybe"],
  "--nostrict=3 does not take an argument": ["--config=good.py", "--nostrict=3"],
  "Missing value for flag --runs": ["--config=good.py", "--runs"],
  "argument 'out' is one too many; a flag is --NAME=VALUE": ["--config=good.py", "out", "more"],
}


@pytest.mark.parametrize("line", _WRONG)
def test_wrong_input_is_one_line_and_status_2(folder, line):
  result = call(folder, *_WRONG[line])
  assert result.stderr == f"script.py: {line}\n"
  assert (result.stdout, result.returncode) == ("", 2)


# Flags, and what their one line begins with and says.
_WRONG_FIELDS = [
  (["model.widht=3"], "model.widht=3 is not an option of model.name='mlp'", "did you mean 'width'"),
  (["model.widht=3"], "model.widht=3 ", "options of 'mlp': width, depth,"),
  (["modle.width=3"], "modle is not a section; did you mean 'model'?", "activation, augment, loss"),
  (["model.width.x=3"], "model.width.x: width is not a section", ""),
  (['model={"width": 3}'], "model={'width': 3} ", "must be the name of a part"),
  (["training=5"], "training is a section", "training.NAME=VALUE"),
  (["training.stepz=5"], "training.stepz is not a field; did you mean 'steps'?", "epochs, steps"),
  (["model=cnm"], "model.name='cnm' is not known; did you mean 'cnn'?", "choices: alexnet, cells"),
  (["model=nowhere:Net"], "model.name='nowhere:Net': No module named 'nowhere'", "nowhere.py"),
  (["model.width=wide"], "model.width='wide' must be of type int", ""),
  (["model.width=none"], "model.width=None must be of type int", "cannot be left empty"),
  (["training.steps=1e3"], "training.steps=1000.0 must be of type int", ""),
  (["optimizer.learning_rate=fast"], "optimizer.learning_rate='fast' must be of type float", ""),
  (["optimizer.learning_rate=NaN"], "optimizer.learning_rate=nan is not a number", ""),
  (["optimizer.learning_rate=1e39"], "optimizer.learning_rate=1e+39 must be finite", "3.4e38"),
  (["data.plain_copy=maybe"], "data.plain_copy='maybe' must be of type bool", ""),
  (["seeds.vary=(init,"], "seeds.vary='(init' is not known; did you mean 'init'?", "order, poke"),
  (["seeds.vary=init,ordr"], "seeds.vary='ordr' is not known; did you mean 'order'?", "poke"),
  (["activation.beta=0.5"], "activation.beta=0.5 is not read by activation.name='relu'", "smelu"),
  (["model=densenet40", "model.depth=4"], "model.depth=4 is not read by", "'densenet40', but by"),
  (["optimizer=optax:lion", "optimizer.b3=1"], "optimizer.b3=1 is not an option of", "'b2'"),
  (["augment[0].padding=3"], "augment[0].padding: augment has 0 entries", ""),
  (['augment=[{"name": "flap"}]'], "augment[0].name='flap' is not known", "did you mean 'flip'"),
  (["data.flip"], "data.flip is not a field", """augment='[{"name": "flip"}]'"""),
  (["model.activation=smelu"], "model.activation is not a field", "activation.name"),
]  # fmt: skip


# Each starts a process: a third of them in every run of the tests.
_SHOWN = [
  row if number % 3 == 0 else pytest.param(*row, marks=pytest.mark.slow)
  for number, row in enumerate(_WRONG_FIELDS)
]


@pytest.mark.parametrize(("flags", "start", "remedy"), _SHOWN)
def test_a_wrong_field_is_one_line_and_status_2(folder, flags, start, remedy):
  result = call(folder, "--config=good.py", *(f"--config.{flag}" for flag in flags))
  assert result.stderr.startswith(f"script.py: {start}") and remedy in result.stderr, result.stderr
  assert (result.stderr.count("\n"), result.stdout, result.returncode) == (1, "", 2)


def test_a_field_without_a_file_is_named():
  done = seedlab_command("sweep", "--out=nowhere", "--config.model.width=3")
  line = "--config.model.width changes a field of --config=FILE, which is missing"
  assert (done.stderr, done.returncode) == (f"seedlab sweep: {line}\n", 2)


def printed(folder, *flags: str) -> dict:
  """The config that the script was given, with `--config.FLAG` for each flag."""
  result = call(folder, *(f"--config{flag}" for flag in flags))
  assert (result.stderr, result.returncode) == ("", 0)
  return json.loads(result.stdout)


_GOOD = config.to_dict(config.parse({"model": {"name": "mlp", "width": 8}}))


@pytest.mark.parametrize(
  ("flag", "field", "value"),
  [
    ("training.steps=300", "training.steps", 300),  # empty in the config, an integer by its type
    ("optimizer.learning_rate=1", "optimizer.learning_rate", 1.0),
    ("optimizer.learning_rate=1e-3", "optimizer.learning_rate", 0.001),
    ("training.full_batch", "training.full_batch", True),
    ("seeds.vary=order", "seeds.vary", ["order"]),
    ("seeds.vary=init,order", "seeds.vary", ["init", "order"]),
    ('seeds.vary=("init", "order")', "seeds.vary", ["init", "order"]),
    ("activation=mish", "activation.name", "mish"),
    ("augment=flip", "augment[0].name", "flip"),
    ('augment={"name": "flip"}', "augment[0].name", "flip"),
  ],
)
def test_a_flag_changes_its_field_alone(folder, flag, field, value):
  ((name, before, after),) = (
    change
    for change in config.differences(_GOOD, printed(folder, "=good.py", f".{flag}"))
    if change != ("augment", [], None)  # a list that is filled is one of fields
  )
  assert (name, after, type(after)) == (field, value, type(value))
  assert before != after


@pytest.mark.parametrize(
  ("word", "value"),
  [
    ("300", 300), ("1e-3", 0.001), ("-.5", -0.5), ("1_000", 1000), ("true", True), ("False", False),
    ("none", None), ("None", None), ("null", None), ('"none"', "none"), ("smelu", "smelu"),
    ("init,order", "init,order"), ("2,3", (2, 3)), ("[2, 3]", [2, 3]), ("('init',)", ("init",)),
    ('[{"name": "flip"}]', [{"name": "flip"}]), ("{'beta': 1}", {"beta": 1}), ("", ""),
    ("my_file:Net", "my_file:Net"), ("out/a.safetensors", "out/a.safetensors"), ("[1", "[1"),
  ],
)  # fmt: skip
def test_what_a_word_means(word, value):
  assert (cli.value_of(word), type(cli.value_of(word))) == (value, type(value))


def test_flags_of_fields_may_stand_anywhere_and_the_last_wins(folder):
  (folder / "more.flags").write_text("--config.training.epochs=7\n--config.model.depth=3\n")
  result = call(
    folder, "--config.model.width=3", "-config.training.full_batch", "--runs=3", "--config=good.py",
    "--config.model.depth", "1", "--noconfig.training.full_batch", "--flagfile=more.flags",
  )  # fmt: skip
  assert (result.stderr, result.returncode) == ("", 0)
  assert config.differences(_GOOD, json.loads(result.stdout)) == [
    ("model.width", 8, 3),
    ("model.depth", 2, 3),
    ("training.epochs", 20, 7),
  ]
  excess = call(folder, "--config=good.py", "--", "--config.model.width=3")
  assert excess.stderr.startswith("script.py: argument '--config.model.width=3' is one too many")


def test_a_word_given_to_a_section_is_the_name_of_its_part(folder):
  """Options that were set stay with the new part; those that it does not have are not in it."""
  flags = [".activation.beta=0.5", ".model=cnn", ".activation=smelu", ".optimizer.name=optax:adam"]
  found = printed(folder, "=good.py", *flags)
  assert (found["model"]["name"], found["model"]["width"]) == ("cnn", 8)
  assert "depth" not in found["model"] and found["model"]["convolution"] == "auto"
  assert found["activation"] == {"name": "smelu", "beta": 0.5}
  assert (found["optimizer"]["b2"], found["optimizer"]["learning_rate"]) == (0.999, 0.1)
  assert printed(folder, "=good.py", ".model=mlp") == _GOOD  # as it was, with its width


def test_entries_of_a_list_are_numbered(folder):
  found = printed(folder, "=augmented.py", ".augment[0].padding=2", ".augment[0].fill=reflect")
  flip = {"name": "flip"}
  assert found["augment"] == [{"name": "crop", "padding": 2, "fill": "reflect"}, flip]
  found = printed(folder, "=augmented.py", ".augment[1].name=cutout", ".augment[1].size=3")
  cutout = {"name": "cutout", "size": 3}
  assert found["augment"] == [{"name": "crop", "padding": 4, "fill": "zero"}, cutout]
  assert printed(folder, "=augmented.py", ".augment=none")["augment"] == []


def test_optional_fields_can_be_emptied(folder):
  flags = ["data.train_examples=50", "data.train_examples=none", "data.image_size=None"]
  flags += ["gradient.clip_norm=2.5", "gradient.clip_norm=none"]
  flags += ["evaluation.epochs=none"]
  assert printed(folder, "=good.py", *(f".{flag}" for flag in flags)) == _GOOD
  found = printed(folder, "=emptied.py", ".data.train_examples=none", ".evaluation.epochs=none")
  assert (found["data"]["train_examples"], found["evaluation"]["epochs"]) == (None, [])


def test_several_flags(folder):
  flags = ["seeds.vary=init,order", "seeds.design=crossed", "seeds.levels=3,4"]
  result = call(folder, "--config=good.py:smoke", *(f"--config.{flag}" for flag in flags))
  seeds = json.loads(result.stdout)["seeds"]
  assert seeds == {"vary": ["init", "order"], "fixed": 0, "design": "crossed", "levels": [3, 4]}


def test_help_is_the_scripts_own(folder):
  result = call(folder, "--help", "--rnus=3")
  assert (result.stderr, result.returncode) == ("", 0)
  assert (
    result.stdout
    == """\
usage: script.py [flags]

Prints the config it is given.

  python script.py --config=good.py

flags:
  --config
      FILE or FILE:SCALE (smoke, laptop, paper), a Python file whose get_config(scale)
      returns the experiment; seedlab:digits or seedlab:digits:SCALE, one that comes
      with seedlab (--config=seedlab: lists them). Further flags change its fields:
      --config.training.steps=300 --config.model=resnet18 --config.activation=smelu
      --config.activation.beta=0.5 --config.seeds.vary=init,order
      --config.data.train_examples=none --config.augment[0].padding=2
      --config.optimizer=adamw --config.model.name=my_file:Net
  --runs
      how many runs (a positive integer; default: 100)
  --mode
      <auto|loop|vmap>: lane mode (default: auto)
  --[no]strict
      fail on a contradiction (default: false)
  --do
      what main does (default: print)
"""
  )


_FREE = "free space and run the same command again; nothing finished is lost"


@pytest.mark.parametrize(
  ("action", "line"),
  [
    ("user_error", "runs=3 must be even"),
    (
      "unusable_file",
      "good.py/store: Not a directory; name another path or make this one usable",
    ),
    ("full_disk", f"No space left on device: {_FREE}"),
    ("full_disk_seen_by_a_library", f"No space left on device: {_FREE}"),
    ("too_large_file", f"File too large: {_FREE}"),
  ],
)
def test_what_the_user_can_mend_in_main_is_one_line_and_status_2(folder, action, line):
  result = do(folder, action)
  assert (result.stderr, result.stdout) == (f"script.py: {line}\n", "")
  assert result.returncode == 2


@pytest.mark.parametrize(
  ("action", "error", "output"),
  [("bug", "KeyError: 'key'", "so far"), ("broken_worker", "BrokenPipeError: [Errno 32]", "")],
)
def test_a_bug_keeps_its_traceback(folder, action, error, output):
  result = do(folder, action)
  *trace, last, closing = result.stderr.splitlines()
  assert trace[0] == "Traceback (most recent call last):"
  assert last.startswith(error)
  bug = f"the lines above show a bug, in your own Trainer or in seedlab {seedlab.__version__}"
  assert closing == f"script.py: {bug}"
  assert (result.stdout, result.returncode) == (output, 70)


@pytest.mark.parametrize(("action", "status"), [("failed_check", 1), ("leave", 3)])
def test_the_status_main_chooses(folder, action, status):
  result = do(folder, action)
  assert (result.stderr, result.returncode) == ("", status)


@pytest.mark.parametrize(
  ("number", "status", "line"),
  [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
@pytest.mark.parametrize(("action", "output"), [("wait", ""), ("tidy_up", "tidied up")])
def test_signals(folder, number, status, line, action, output):
  with start(folder, "--config=good.py", f"--do={action}") as process:
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert process.communicate(timeout=10) == (output, f"script.py: {line}\n")
  assert process.returncode == status


def test_a_second_interrupt_ends_the_process_at_once(folder):
  with start(folder, "--config=good.py", "--do=linger") as process:
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.stderr.readline() == "script.py: interrupted\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=10) == ("", "")
  assert process.returncode == -signal.SIGINT


@pytest.mark.parametrize("action", ["spam", "bug"])
def test_a_reader_that_leaves_causes_no_words_of_its_own(folder, action):
  reader, writer = os.pipe()
  os.close(reader)
  result = do(folder, action, stdout=writer)
  os.close(writer)
  if action == "spam":
    assert (result.stderr, result.returncode) == ("", 141)
  else:
    assert result.stderr.endswith(f"in seedlab {seedlab.__version__}\n")
    assert result.returncode == 70


def test_the_status_stands_where_nobody_reads_the_line(folder):
  reader, writer = os.pipe()
  os.close(reader)
  for action, status in (("user_error", 2), ("bug", 70), ("failed_check", 1)):
    assert do(folder, action, stderr=writer).returncode == status
  os.close(writer)
  command = f"{sys.executable} script.py --config=good.py --do=user_error 2>&-"
  assert subprocess.run(command, shell=True, cwd=folder).returncode == 2


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_output_that_cannot_be_written_is_said_once(folder):
  with open("/dev/full", "w") as full:
    result = call(folder, "--config=good.py", stdout=full)
  assert (result.stderr, result.returncode) == (f"script.py: No space left on device: {_FREE}\n", 2)


def test_positional_arguments(tmp_path):
  (tmp_path / "script.py").write_text(
    "from seedlab import cli\ncli.run(lambda argv: print(*argv), positional=('A', 'B'))\n"
  )
  assert call(tmp_path, "one", "two").stdout == "script.py one two\n"
  missing, excess = call(tmp_path, "one"), call(tmp_path, "one", "two", "three")
  assert missing.stderr == "script.py: B is missing; --help shows the usage\n"
  assert excess.stderr == "script.py: argument 'three' is one too many; a flag is --NAME=VALUE\n"
  assert missing.returncode == excess.returncode == 2


HEAVY = {"jax", "tensorflow_datasets", "xarray", "zarr", "matplotlib", "numpy", "scipy", "pandas"}


def seedlab_command(*arguments: str, code: str = "", **options) -> subprocess.CompletedProcess:
  """`seedlab ARGUMENTS`, with `code` run when it ends."""
  starts = f"import atexit, sys; atexit.register(lambda: exec({code!r})); import seedlab.__main__"
  command = [sys.executable, "-c", starts] if code else [sys.executable, "-m", "seedlab"]
  return subprocess.run([*command, *arguments], capture_output=True, text=True, **options)


@pytest.mark.parametrize("name", ["", *commands.COMMANDS])
def test_help_comes_at_once(name):
  """It says what the command is and loads nothing that takes long to import."""
  code = f"sys.stderr.write(str({HEAVY} & set(sys.modules)))"
  result = seedlab_command(*[name][: len(name)], "--help", code=code)
  assert (result.stderr, result.returncode) == ("set()", 0)
  assert result.stdout.startswith(f"usage: seedlab {name or 'COMMAND'} ")
  if name:
    source = pathlib.Path(commands.__file__).with_name(f"{name}.py").read_text()
    assert ast.get_docstring(ast.parse(source)) in result.stdout


READ = {"orbax", "tensorflow_datasets", "sklearn"}
TRAIN = {"jax", "jaxlib", "flax", "optax", "chex", *READ}
DRAW = {"matplotlib", "bokeh", "PIL"}
OPEN = {"xarray", "zarr", "numcodecs", "safetensors"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
def test_commands_load_what_they_use(tmp_path):
  """Each of these libraries takes a tenth of a second to import, or ten times that."""
  golden = pathlib.Path(__file__).parent / "golden/layout2"
  shutil.copytree(golden, tmp_path / "s")
  for name, values in {"a": (0.71, 0.75, 0.73), "b": (0.81, 0.82, 0.85)}.items():
    rows = [f"{seed},{value}" for seed, value in enumerate(values)]
    (tmp_path / f"{name}.csv").write_text("\n".join(["seed,accuracy", *rows]))
  (tmp_path / "p.csv").write_text("method,mean,sd,n\nours,**0.82**,0.01,5\ntheirs,0.80,0.01,5\n")
  tables, small = ["numpy", "pandas", "scipy.stats"], "--config=seedlab:digits_mlp:smoke"
  cases = [
    # Imported first, the command, its status, what it must not have loaded.
    ([], "report s --nonsense", 2, HEAVY | TRAIN | DRAW | OPEN),
    ([], "compare a.csv b.csv --json --latex", 2, HEAVY | TRAIN | DRAW | OPEN),
    ([], "verify s --sample=0", 0, TRAIN | DRAW | {"scipy"}),
    (tables, "compare a.csv b.csv", 0, TRAIN | DRAW | OPEN),
    ([], "judge a.csv b.csv", 0, TRAIN | DRAW | OPEN),
    ([], "audit p.csv --metric=accuracy", 0, TRAIN | DRAW | OPEN),
    (["xarray", "zarr"], "compare s s", 0, TRAIN | DRAW),
    ([], "report s", 0, TRAIN | {"matplotlib"}),
    # The parent of a sweep, when all is known but what its directory says.
    ([], f"sweep {small} --runs=2 --out=p.csv", 2, READ | {"matplotlib", "bokeh"}),
  ]
  asked = json.dumps([(first, words.split()) for first, words, *_ in cases])
  script = [sys.executable, pathlib.Path(__file__).with_name("lean.py"), asked]
  done = subprocess.run(script, capture_output=True, text=True, cwd=tmp_path)
  answers = map(json.loads, done.stdout.splitlines())
  for (_, words, expected, needless), (status, packages) in zip(cases, answers, strict=True):
    assert (status, needless.intersection(packages)) == (expected, set()), words
    assert "absl" in packages


def test_the_list_of_commands():
  result = seedlab_command()
  words = [line.split()[0] for line in result.stdout.splitlines() if line.startswith("  ")]
  names = [word for word in words if not word.isdigit()]  # the others are exit statuses
  assert tuple(names) == commands.COMMANDS and result.returncode == 0
  assert max(map(len, result.stdout.splitlines())) <= 100
  assert seedlab_command("--version").stdout == f"seedlab {seedlab.__version__}\n"


def test_a_command_that_is_none_is_answered_with_the_closest():
  result = seedlab_command("reprot", "out/digits")
  assert (result.stdout, result.returncode) == ("", 2)
  listed = ", ".join(commands.COMMANDS)
  near = f"'reprot' is not a command; did you mean 'report'?; commands: {listed}"
  assert result.stderr == f"seedlab: {near}\n"


def test_scripts_are_the_same_commands():
  for name in commands.COMMANDS:
    script = [sys.executable, str(_CONFIGS.parent / "scripts" / f"{name}.py"), "--nonsense"]
    result = subprocess.run(script, capture_output=True, text=True)
    assert result.stderr.startswith(f"seedlab {name}: --nonsense is not a flag"), result.stderr
    assert (result.stdout, result.returncode) == ("", 2)


def test_configs_that_come_with_seedlab():
  digits = runpy.run_path(str(_CONFIGS / "digits.py"))["get_config"]
  assert cli.load("seedlab:digits") == digits()
  assert cli.load("seedlab:digits:smoke") == digits("smoke") != digits()
  picard = runpy.run_path(str(_CONFIGS / "seeds/picard.py"))["get_config"]
  assert cli.load("seedlab:seeds/picard:laptop,short") == picard("laptop,short")
  listed = [f"seedlab:{path.relative_to(_CONFIGS).with_suffix('').as_posix()}"
            for path in _CONFIGS.rglob("*.py")]  # fmt: skip
  for wrong in ("seedlab", "seedlab:", "seedlab:digit", "seedlab:../configs/digits"):
    with pytest.raises(errors.UserError, match=r"is not known.*; choices: seedlab:") as said:
      cli.load(wrong)
    assert str(said.value).endswith(", ".join(sorted(listed)))
  with pytest.raises(errors.UserError, match=r"^seedlab:digits: scale='smok' is not known"):
    cli.load("seedlab:digits:smok")


def test_the_wheel_has_the_command_the_configs_and_its_types(tmp_path):
  """Built from a copy, unpacked, and used from there where no checkout is."""
  source, target = tmp_path / "source", tmp_path / "installed"
  for name in ("seedlab", "configs"):
    shutil.copytree(_CONFIGS.parent / name, source / name, symlinks=True)
  for name in ("pyproject.toml", "README.md", "LICENSE"):
    shutil.copy(_CONFIGS.parent / name, source)
  build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
  subprocess.run(
    [sys.executable, "-W", "ignore", "-c", build, str(tmp_path)],
    cwd=source, check=True, capture_output=True,
  )  # fmt: skip
  with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
    wheel.extractall(target)
  (entry,) = importlib.metadata.Distribution.at(next(target.glob("*.dist-info"))).entry_points
  assert (entry.name, entry.value) == ("seedlab", "seedlab.commands:main")
  assert (target / "seedlab/py.typed").exists()
  environment = os.environ | {"PYTHONPATH": str(target)}
  options = {"cwd": tmp_path, "env": environment}
  found = seedlab_command(
    code="import seedlab; print(seedlab.__file__)", **options
  ).stdout.splitlines()[-1]
  assert pathlib.Path(found).is_relative_to(target)
  sweep = ("sweep", "--config=seedlab:digits_mlp:smoke", "--runs=2", "--out=out", "--workers=1")
  done = seedlab_command(*sweep, **options)
  assert done.returncode == 0 and "seedlab report out" in done.stdout, done.stderr


def test_dir_shows_the_api():
  assert sorted(dir(seedlab)) == sorted([*seedlab.__all__, "__version__"])
  assert all(hasattr(seedlab, name) for name in dir(seedlab))
  with pytest.raises(AttributeError, match="module 'seedlab' has no attribute 'swep'"):
    seedlab.swep  # noqa: B018


@pytest.mark.parametrize("path", sorted(_CONFIGS.glob("*.py")), ids=lambda path: path.stem)
def test_config_files(path):
  """Every experiment states claim, cost and command, and has its three scales."""
  module = runpy.run_path(str(path))
  assert all(
    word in module["__doc__"] for word in ("Claim", "Cost", f"--config=seedlab:{path.stem}")
  )
  cost = []
  for scale in ("smoke", "laptop", "paper"):
    parsed = config.parse(module["get_config"](scale))
    cost.append((parsed.training.steps or parsed.training.epochs) * parsed.model.get("width"))
  assert cost == sorted(cost) and len(set(cost)) == 3
  assert config.parse(module["get_config"]()) == config.parse(module["get_config"]("laptop"))
  with pytest.raises(errors.UserError, match="scale='huge' is not known; choices: laptop"):
    module["get_config"]("huge")


def test_published_recipe_of_resnet9():
  get_config = runpy.run_path(str(_CONFIGS / "cifar10_resnet9.py"))["get_config"]
  paper = config.parse(get_config("paper"))
  assert paper.training == config.Training(batch_size=500, epochs=64)
  values = config.to_dict(paper)
  assert values["optimizer"] == {
    "name": "sgd", "learning_rate": 0.5, "momentum": 0.9, "weight_decay": 5e-4,
    "nesterov": False, "bias_factor": 1.0,
  }  # fmt: skip
  assert values["schedule"] == {
    "name": "linear", "warmup_steps": 0, "per_epoch": False, "hold_steps": 1
  }  # fmt: skip
  assert values["augment"] == [
    {"name": "crop", "padding": 2, "fill": "zero"}, {"name": "flip"}, {"name": "cutout", "size": 12}
  ]  # fmt: skip
  assert values["loss"] == {"name": "cross_entropy", "smoothing": 0.0}
  model = paper.model
  assert (model.name, model.get("width"), model.get("norm")) == ("resnet9", 64, "batch")
