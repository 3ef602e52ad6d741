"""The command line as a user meets it: real processes, their one line, their exit status."""

import ast
import dataclasses
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
from ml_collections import config_flags

from seedlab import cli, config, errors

_CONFIG = config_flags.DEFINE_config_file("config", None, "the experiment")
_RUNS = flags.DEFINE_integer("runs", 100, "how many runs", lower_bound=1)
_MODE = flags.DEFINE_enum("mode", "auto", ["auto", "loop", "vmap"], "lane mode")
_STRICT = flags.DEFINE_boolean("strict", False, "fail on a contradiction")
_DO = flags.DEFINE_string("do", "print", "what main does")
flags.mark_flag_as_required("config")


def main(argv):
  return globals()[_DO.value]()


def print():
  import json
  sys.stdout.write(json.dumps(config.to_dict(config.parse(_CONFIG.value))))


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
from seedlab.config import Config, Model, to_config_dict
from seedlab.errors import choice_error

def get_config(scale="laptop"):
  if scale not in ("smoke", "laptop"):
    raise choice_error("scale", scale, ("smoke", "laptop"))
  return to_config_dict(Config(model=Model(name="mlp", width=8)))
""",
  "no_scales.py": "from ml_collections import ConfigDict\nget_config = lambda: ConfigDict()\n",
  "syntax.py": "def get_config()\n  return 1\n",
  "nameless.py": "epochs = 3\n",
  "none.py": "def get_config(): pass\n",
  "raises.py": "def epochs():\n  return {}['epochs']\ndef get_config():\n  return epochs()\n",
  "misspelt.py": "from seedlab.config import Model\nModel(widht=3)\n",
  "invalid.py": """
from seedlab.config import Config, Model, to_config_dict
get_config = lambda: to_config_dict(Config(model=Model(width='3')))
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


_FIELDS = ", ".join(sorted(field.name for field in dataclasses.fields(config.Model)))
_WRONG = {
  "--config is missing: the experiment": [],
  "--config.model.width changes a field of --config=FILE, which is missing": [
    "--config.model.width=3"
  ],
  "Found --config.model.width=3 in argv before a value for --config was specified": [
    "--config.model.width=3",
    "--config=good.py",
  ],
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
  "misspelt.py, line 2: TypeError: Model.__init__() got an unexpected keyword argument 'widht'": [
    "--config=misspelt.py"
  ],
  "invalid.py: model.width='3' must be of type int, not str": ["--config=invalid.py"],
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
  f"--config.model.widht: 'widht' is not a field; did you mean 'width'?; fields: {_FIELDS}": [
    "--config=good.py",
    "--config.model.widht=3",
  ],
  "--config.modle.width: 'modle' is not a field; did you mean 'model'?; "
  "fields: data, evaluation, gradient, model, optimizer, probe, seeds, training": [
    "--config=good.py",
    "--config.modle.width=3",
  ],
  f"--config.model.norn: 'norn' is not a field; did you mean 'norm'?; fields: {_FIELDS}": [
    "--config=good.py",
    "--noconfig.model.norn",
  ],
  "--config.model.width.x: 'x' is not a field": ["--config=good.py", "--config.model.width.x=3"],
  "--config.model is a section: give its fields (--config.model.NAME=VALUE)": [
    "--config=good.py",
    '--config.model={"width": 3}',
  ],
  "--config.model.width='wide' must be an integer": [
    "--config=good.py",
    "--config.model.width=wide",
  ],
  "--config.training.steps='1e3' must be an integer": [
    "--config=good.py",
    "--config.training.steps=1e3",
  ],
  "--config.optimizer.learning_rate='fast' must be a number": [
    "--config=good.py",
    "--config.optimizer.learning_rate=fast",
  ],
  "--config.data.flip='maybe' must be true or false": [
    "--config=good.py",
    "--config.data.flip=maybe",
  ],
  "--config.seeds.vary='(init,' must be a list, as in init,order or 2,3": [
    "--config=good.py",
    "--config.seeds.vary=(init,",
  ],
  """--config.model.activation_kwargs='{beta: 0.5}' must be a JSON object, as in {"beta": 0.5}""": [
    "--config=good.py",
    "--config.model.activation_kwargs={beta: 0.5}",
  ],
  "--config.model.activation_kwargs.beta: write them all at once, as in"
  """ --config.model.activation_kwargs='{"beta": 1}'""": [
    "--config=good.py",
    "--config.model.activation_kwargs.beta=2",
  ],
  """--config.model.activation_kwargs='[1]' must be a JSON object, as in {"beta": 0.5}""": [
    "--config=good.py",
    "--config.model.activation_kwargs=[1]",
  ],
  "seeds.vary='ordr' is not known; did you mean 'order'?; "
  "choices: augment, init, noise, order, poke, sample": [
    "--config=good.py",
    "--config.seeds.vary=init,ordr",
  ],
}


@pytest.mark.parametrize("line", _WRONG)
def test_wrong_input_is_one_line_and_status_2(folder, line):
  result = call(folder, *_WRONG[line])
  assert result.stderr == f"script.py: {line}\n"
  assert (result.stdout, result.returncode) == ("", 2)


@pytest.mark.parametrize(
  ("flag", "field", "value"),
  [
    ("training.steps=300", "training.steps", 300),  # empty in the config, an integer by its type
    ("data.train_examples=50", "data.train_examples", 50),
    ("data.image_size=16", "data.image_size", 16),
    ("optimizer.learning_rate=1", "optimizer.learning_rate", 1.0),
    ("optimizer.learning_rate=1e-3", "optimizer.learning_rate", 0.001),
    ("data.flip=true", "data.flip", True),
    ("data.flip", "data.flip", True),
    ("seeds.vary=order", "seeds.vary", ["order"]),
    ("seeds.vary=init,order", "seeds.vary", ["init", "order"]),
    ('seeds.vary=("init", "order")', "seeds.vary", ["init", "order"]),
    ('model.activation_kwargs={"beta": 0.5}', "model.activation_kwargs", {"beta": 0.5}),
  ],
)
def test_a_flag_changes_its_field_alone(folder, flag, field, value):
  result = call(folder, "--config=good.py", f"--config.{flag}")
  assert (result.stderr, result.returncode) == ("", 0)
  plain = config.to_dict(config.parse(config.Config(model=config.Model(name="mlp", width=8))))
  ((name, before, after),) = config.differences(plain, json.loads(result.stdout))
  assert (name, after, type(after)) == (field, value, type(value))
  assert before != after


def test_optional_fields_can_be_emptied(folder):
  flags = ["data.train_examples=50", "data.train_examples=none", "data.image_size=None"]
  flags += ["gradient.clip_norm=2.5", "gradient.clip_norm=none"]
  flags += ["evaluation.epochs=none"]
  result = call(folder, "--config=good.py", *(f"--config.{flag}" for flag in flags))
  assert (result.stderr, result.returncode) == ("", 0)
  found = json.loads(result.stdout)
  assert (found["data"]["train_examples"], found["data"]["image_size"]) == (None, None)
  assert (found["gradient"]["clip_norm"], found["evaluation"]["epochs"]) == (None, [])
  required = call(folder, "--config=good.py", "--config.model.width=none")
  assert "model.width=None must be of type int, and cannot be left empty" in required.stderr


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
      with seedlab (--config=seedlab: lists them). Flags after it change its fields:
      --config.training.steps=300 --config.data.flip=true --config.seeds.vary=init,order
      --config.data.train_examples=none --config.model.activation_kwargs='{"beta": 0.5}'
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


def test_the_list_of_commands():
  result = seedlab_command()
  names = [line.split()[0] for line in result.stdout.splitlines() if line.startswith("  ")]
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
    cost.append((parsed.training.steps or parsed.training.epochs) * parsed.model.width)
  assert cost == sorted(cost) and len(set(cost)) == 3
  assert config.parse(module["get_config"]()) == config.parse(module["get_config"]("laptop"))
  with pytest.raises(errors.UserError, match="scale='huge' is not known; choices: laptop"):
    module["get_config"]("huge")


def test_published_recipe_of_resnet9():
  get_config = runpy.run_path(str(_CONFIGS / "cifar10_resnet9.py"))["get_config"]
  paper = config.parse(get_config("paper"))
  assert paper.training == config.Training(batch_size=500, epochs=64)
  assert paper.optimizer == config.Optimizer(
    learning_rate=0.5, schedule="linear", momentum=0.9, weight_decay=5e-4
  )
  assert (paper.data.flip, paper.data.crop, paper.data.cutout) == (True, 2, 12)
  assert (paper.model.name, paper.model.width, paper.model.norm) == ("resnet9", 64, "batch")
