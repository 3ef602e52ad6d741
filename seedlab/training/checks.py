"""Functions that people bring are traced once before any training: a line for each mistake."""

import contextlib
import inspect
import pathlib
import sysconfig
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from seedlab import console
from seedlab.errors import UserError

_PATIENCE = 10.0  # seconds of tracing without a word
_LIBRARIES = tuple(
  {sysconfig.get_paths()[name] for name in ("purelib", "platlib", "stdlib")}
  | {str(pathlib.Path(__file__).parents[1]), "<frozen"}
)


def traced(what: str, function: Callable[..., Any], *arguments: Any) -> tuple[Any, Any]:
  """(shapes and dtypes of what a function returns, its jaxpr), from one trace.

  Args:
    what: what to call the function in errors.
    function: of trees of arrays.
    arguments: arrays or ShapeDtypeStructs.

  Raises:
    UserError: it raises, closes over a random key, or uses one key for two purposes.
  """
  with watched(what), answered(what):
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
  if any(map(_is_key, _constants(closed))):
    raise _captured(what)
  _refuse_reuse(what, closed.jaxpr)
  return shapes, closed


def key_like() -> jax.ShapeDtypeStruct:
  """A typed key to trace with."""
  return jax.eval_shape(lambda: jax.random.key(0))


@contextlib.contextmanager
def answered(what: str) -> Iterator[None]:
  """An error inside the user's function becomes a UserError with their frames and no others."""
  try:
    yield
  except UserError:
    raise
  except Exception as error:
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not frame.filename.startswith(_LIBRARIES)]
    where = "".join(f"\n{line.rstrip()}" for line in traceback.format_list(theirs))
    raise UserError(f"{what} raised {type(error).__name__}: {_first_lines(error)}{where}") from None


@contextlib.contextmanager
def watched(what: str) -> Iterator[None]:
  """Says on stderr what is being traced, where that takes long."""
  message = (
    f"{what} has been traced for {_PATIENCE:.0f} s and goes on; a loop over many rounds in Python"
    " is traced round by round: use jax.lax.fori_loop or scan"
  )
  timer = threading.Timer(_PATIENCE, console.say, [message])
  timer.daemon = True
  timer.start()
  try:
    yield
  finally:
    timer.cancel()


def positional(what: str, function: Callable[..., Any], forms: dict[int, str]) -> int:
  """How many arguments by position a function takes, one of `forms`: {2: "(outputs, targets)"}."""
  _refuse_keys(what, function)
  named = parameters(function).values()
  by_place = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
  fitting = [one for one in named if one.kind in by_place]
  if any(one.kind is inspect.Parameter.VAR_POSITIONAL for one in named):
    return max(forms)
  needed = sum(one.default is one.empty for one in fitting)
  for count in sorted(forms):
    if needed <= count <= len(fitting) and (needed == count or needed < min(forms)):
      return count
  takes = f"{getattr(function, '__name__', what)}({', '.join(parameters(function))})"
  raise UserError(f"{what} must be a function of {' or '.join(forms.values())}, not {takes}")


def parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
  """Of a function, by name; raises UserError for what is none."""
  try:
    return inspect.signature(function).parameters
  except (TypeError, ValueError):
    raise UserError(f"{function!r} is no function whose arguments can be read") from None


def _refuse_keys(what: str, function: Callable[..., Any]) -> None:
  """A key in the closure of a function makes all runs draw the same numbers."""
  with contextlib.suppress(TypeError, ValueError):
    closure = inspect.getclosurevars(inspect.unwrap(function))
    if any(map(_is_key, [*closure.nonlocals.values(), *closure.globals.values()])):
      raise _captured(what)


def _captured(what: str) -> UserError:
  return UserError(
    f"{what} closes over a random key, so that all runs would draw the same numbers: use the key"
    " that it is given"
  )


def _is_key(value: Any) -> bool:
  """Whether a value is a typed key, or looks like one of the old kind (uint32[2])."""
  if not isinstance(value, jax.Array):
    return False
  old = value.dtype == jnp.uint32 and value.shape == (2,)
  return old or jnp.issubdtype(value.dtype, jax.dtypes.prng_key)


def _constants(closed: Any) -> Iterator[Any]:
  """The captured constants of a closed jaxpr, and of those inside it (of functions under jit)."""
  yield from closed.consts
  for equation in closed.jaxpr.eqns:
    for value in equation.params.values():
      for inner in value if isinstance(value, tuple | list) else (value,):
        if hasattr(inner, "consts") and hasattr(inner, "jaxpr"):
          yield from _constants(inner)


def _refuse_reuse(what: str, jaxpr: Any) -> None:
  try:  # no public function checks a jaxpr that is there already
    from jax.experimental.key_reuse._core import check_key_reuse_jaxpr
  except ImportError:
    return
  try:
    check_key_reuse_jaxpr(jaxpr)
  except jax.errors.KeyReuseError as error:
    if "consumed" not in str(error):  # captured constants confuse it
      return
    raise UserError(
      f"{what} uses one random key for two purposes ({str(error).splitlines()[0]}): split it first,"
      " a, b = jax.random.split(key)"
    ) from None
  except Exception:  # a primitive that jax's check does not know is no mistake of the user's
    return


def _first_lines(error: Exception) -> str:
  """The message up to its first empty line, cut where it is long."""
  return " ".join(str(error).strip().split("\n\n")[0].split())[:400]
