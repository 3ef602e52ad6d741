"""Executors that seedlab did not make: a Dask cluster, and how much work any does at once.

`connect` looks at every worker of a Dask cluster before any of them works: the same seedlab, Python
and libraries as here, and one task at a time. A worker that joins later is looked at by each task
it is given. Requests, answers and errors are those of `seedlab.worker`; Dask moves them, and gives
what a lost worker was doing to another one.
"""

import asyncio
import concurrent.futures
import contextlib
import functools
import importlib.metadata
import itertools
import json
import pathlib
import re
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from seedlab import errors, host, pool, worker
from seedlab.errors import UserError

_LIBRARIES = ("jax", "jaxlib", "numpy", "flax", "optax", "cloudpickle")  # bits, and code by value
_CONNECT_SECONDS = 10.0
_PROGRESS_SECONDS = 1.0
_ADDRESS = re.compile(r"[\w+.-]+://\S+|[\w.-]+:\d+|\[[0-9a-fA-F:]+\]:\d+")
_START = "dask worker {} --nthreads 1 --nworkers N"

_codes: dict[str, pool.Code] = {}  # in a worker: what the last task with code brought


def size(executor: concurrent.futures.Executor) -> int:
  """How many tasks an executor runs at once now, at least 1.

  Known are seedlab's own, Dask's `Client.get_executor()`, the pools of `concurrent.futures` and
  those of mpi4py; any other counts as one worker.
  """
  if hasattr(executor, "_client"):  # Dask's, whose workers come and go
    return max(1, _threads(executor))
  for name in ("size", "_max_workers", "num_workers"):
    found = getattr(executor, name, None)
    if isinstance(found, int) and not isinstance(found, bool):
      return max(1, found)
  return 1


def _threads(executor: Any) -> int:
  """Threads of the workers that a Dask executor may use."""
  named = executor._kwargs.get("workers")
  return sum(executor._client.nthreads(workers=named).values())


@contextlib.contextmanager
def connect(scheduler: str, patience: float = 60.0) -> Iterator["DaskExecutor"]:
  """An executor on a running Dask cluster, all of whose workers may work for this process.

  Args:
    scheduler: "dask:ADDRESS", as in dask:tcp://10.0.0.1:8786, or "dask:FILE", the file that
      `dask scheduler --scheduler-file=FILE` writes.
    patience: seconds to wait for that file, and for the first worker.

  Raises:
    UserError: there is no such cluster, it has no workers, or one of them is refused.
  """
  distributed = _distributed(scheduler)
  address = _address(scheduler, patience)
  try:
    client = distributed.Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)
  except (OSError, ValueError, RuntimeError, ImportError) as error:
    raise UserError(
      f"scheduler={scheduler!r}: no Dask scheduler answers at {address} within"
      f" {_CONNECT_SECONDS:.0f} seconds ({errors.short(_first_line(error))}); start one with `dask"
      " scheduler`, and name the address that it prints"
    ) from None
  with client:
    _wait_for_workers(client, scheduler, address, patience)
    _check_workers(client, scheduler, address)
    yield DaskExecutor(client, scheduler)


class DaskExecutor(concurrent.futures.Executor):
  """Gives tasks to the workers of a Dask cluster, as `pool.WorkerPool` does to its own.

  A task whose worker is lost runs again on another one. One that was lost with several workers may
  only have been waiting beside the task that ended them: it is tried once more while no other such
  task is, and after that raises `pool.WorkerDied`.

  Attributes:
    on_progress: called as (task number, value) when a running task calls `pool.progress(value)`.
  """

  def __init__(self, client: Any, name: str):
    self.client, self.name = client, name
    self.on_progress: Callable[[int, float], None] = lambda task, value: None
    self._asked = {**identity(), "threads": 1}
    self._numbers = itertools.count()
    self._under_way: weakref.WeakValueDictionary[int, pool.Task] = weakref.WeakValueDictionary()
    self._alone = asyncio.Lock()
    self._topic = f"seedlab-{client.id}"
    client.subscribe_topic(self._topic, self._heard)

  @property
  def size(self) -> int:
    """The number of workers now."""
    with contextlib.suppress(OSError, RuntimeError):
      if self.client.status == "running":
        return len(self.client.nthreads())
    raise self._lost()

  def submit(self, fn: Callable[..., Any], /, *args: Any) -> pool.Task:  # type: ignore[override]
    """Schedules `fn(*args)`: an importable function of JSON, arrays and `pool.Code`."""
    task = pool.Task(next(self._numbers))
    self._under_way[task.task] = task
    codes = {at: one for at, one in enumerate(args) if isinstance(one, pool.Code)}
    plain = [None if at in codes else one for at, one in enumerate(args)]
    request = pool.pack({"function": f"{fn.__module__}:{fn.__qualname__}", "arguments": plain})
    self.client.loop.add_callback(self._follow, task, request, codes)
    return task

  def save(self, seconds: float) -> int:
    """Has the tasks under way save their runs, as `pool.WorkerPool.save` does; how many did."""
    running = [task for task in self._under_way.values() if task.running()]
    for task in running:
      task.saved = None
    deadline = time.monotonic() + seconds
    with contextlib.suppress(OSError, RuntimeError):  # the connection was lost
      self.client.run(pool.ask, on_error="ignore")
      while time.monotonic() < deadline and any(
        task.saved is None and not task.done() for task in running
      ):
        time.sleep(0.02)
    return sum(task.saved or 0 for task in running)

  async def _follow(self, task: pool.Task, request: bytes, codes: Mapping[int, pool.Code]) -> None:
    """Sees a task through, on the event loop of the client."""
    from distributed import KilledWorker

    error: Exception | None = None
    try:
      try:
        answer = await self._answer(task, request, codes)
      except KilledWorker:
        async with self._alone:
          answer = await self._answer(task, request, codes)
    except KilledWorker as killed:
      error = pool.WorkerDied(
        f"a task ended {errors.counted(killed.allowed_failures + 1, 'worker')} in a row, and as"
        f" many when it was tried again, the last of them {killed.last_worker.address}; its log may"
        " say why: Dask ends a worker that needs more memory than its --memory-limit"
      )
    except (concurrent.futures.CancelledError, asyncio.CancelledError, OSError):
      error = self._lost()
    except Exception as other:  # Dask's own: a worker that cannot even read the request
      error = UserError(
        f"scheduler={self.name!r}: a worker cannot take a task ({_first_line(other)}): install the"
        " same seedlab on every worker"
      )
    if not _begun(task):
      return
    if error is None and "error" in answer:
      kind = UserError if answer["error"] == "user" else pool.TaskError
      error = kind(answer["message"])
    if error is not None:
      task.set_exception(error)
    else:
      task.set_result(answer["result"])

  async def _answer(
    self, task: pool.Task, request: bytes, codes: Mapping[int, pool.Code]
  ) -> dict[str, Any]:
    """What a worker answers; one that lacks the code gets it, and is asked again."""
    answer = await self._send(task, request, {at: code.digest for at, code in codes.items()})
    if "lacks" in answer:
      answer = await self._send(task, request, codes, workers=[answer["lacks"]])
    return answer

  async def _send(
    self, task: pool.Task, request: bytes, codes: Mapping[int, pool.Code | str], **where: Any
  ) -> dict[str, Any]:
    if task.cancelled() or self.client.status != "running":  # it would wait for a connection
      raise concurrent.futures.CancelledError
    future = self.client.submit(
      _work, self._asked, self._topic, task.task, request, codes,
      pure=False, allow_other_workers=bool(where), **where,
    )  # fmt: skip
    loop = self.client.loop
    task.add_done_callback(lambda done: done.cancelled() and loop.add_callback(future.cancel))
    try:
      return pool.unpack(await future)
    finally:
      future.release()  # or a worker keeps the result, and computes it again where that one is lost

  def _heard(self, event: tuple[float, Sequence[Any]]) -> None:
    """A worker has begun a task or says how far it is."""
    _, (number, value) = event
    if task := self._under_way.get(number):
      task.heard = time.monotonic()
      if value is None:
        task.started = task.heard
        _begun(task)
      elif "saved" in value:
        task.saved = value["saved"]
      else:
        self.on_progress(number, value["progress"])

  def _lost(self) -> UserError:
    return UserError(
      f"scheduler={self.name!r}: the connection to the Dask scheduler was lost; what was finished"
      " is stored, and the same command goes on when the scheduler is there again"
    )


@functools.cache
def identity() -> dict[str, str]:
  """Which seedlab, Python and libraries this process has; see `host.identity`."""
  found = {}
  for name in _LIBRARIES:
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      found[name] = "not installed"
  return {**host.identity(), **found}


def _work(
  asked: Mapping[str, Any],
  topic: str,
  number: int,
  request: bytes,
  codes: Mapping[int, pool.Code | str],
) -> bytes:
  """A task, in a worker of Dask; answers as `seedlab.worker` does.

  Args:
    codes: the arguments that are code, or its digests, by their places.
  """
  from distributed import get_worker

  me = get_worker()
  refused = _refusal(me.address, asked, {**identity(), "threads": me.state.nthreads})
  if refused:
    return pool.pack({"error": "user", "message": refused})
  arguments = pool.unpack(request)
  for at, code in codes.items():
    arguments["arguments"][at] = found = _known(code)
    if found is None:
      return pool.pack({"lacks": me.address})
  me.log_event(topic, [number, None])
  pool.send = functools.partial(_tell, me, me.get_current_task(), topic, number, [time.monotonic()])
  try:
    return worker.answer(**arguments)
  except _Abandoned:
    return b""  # for nobody
  finally:
    pool.send = None


class _Abandoned(BaseException):
  """Nobody wants the result of the running task any more."""


def _known(code: pool.Code | str) -> pool.Code | None:
  """The code itself, from its digest too if it is that of the last task here that had one."""
  if isinstance(code, pool.Code) and code.digest not in _codes:
    _codes.clear()
    _codes[code.digest] = code
  return _codes.get(code.digest if isinstance(code, pool.Code) else code)


def _tell(
  me: Any, key: Any, topic: str, number: int, last: list[float], message: Mapping[str, Any]
) -> None:
  """Passes on how far a task is, at most once a second since it goes through the scheduler.

  Raises _Abandoned where the task was cancelled, which Dask itself does not tell a running one.
  """
  task = me.state.tasks.get(key)
  if task is None or task.state == "cancelled":
    raise _Abandoned
  now = time.monotonic()
  if "progress" not in message or now - last[0] >= _PROGRESS_SECONDS:
    last[0] = now
    me.log_event(topic, [number, message])


def _begun(task: pool.Task) -> bool:
  """Makes a task one under way, which cannot be cancelled any more; False where it was before."""
  try:
    return task.running() or task.set_running_or_notify_cancel()
  except RuntimeError:  # told so before
    return False


def _distributed(scheduler: str) -> Any:
  try:
    import distributed
  except ImportError:
    raise UserError(
      f"scheduler={scheduler!r} needs the package distributed: pip install 'seedlab[cluster]'"
    ) from None
  return distributed


def _address(scheduler: str, patience: float) -> str:
  """The address of the scheduler that the user names."""
  kind, _, where = scheduler.partition(":")
  if kind != "dask" or not where:
    raise UserError(
      f"scheduler={scheduler!r} must be dask:ADDRESS, as in dask:tcp://10.0.0.1:8786, or dask:FILE"
      " with the file of `dask scheduler --scheduler-file=FILE`"
    )
  path = pathlib.Path(where)
  if not path.exists() and _ADDRESS.fullmatch(where):
    return where
  deadline = time.monotonic() + patience
  while True:  # the scheduler may be starting, or writing it
    try:
      return str(json.loads(path.read_bytes())["address"])
    except (OSError, ValueError, TypeError, KeyError) as error:
      if time.monotonic() < deadline and path.parent.is_dir() and not path.is_dir():
        time.sleep(0.2)
        continue
      said = errors.not_there(path) if isinstance(error, FileNotFoundError) else (
        f"{where!r} is not a file that Dask's scheduler wrote ({type(error).__name__})"
      )  # fmt: skip
      raise UserError(
        f"scheduler={scheduler!r}: {said}; name that of `dask scheduler --scheduler-file=FILE`, or"
        " the scheduler's address"
      ) from None


def _wait_for_workers(client: Any, scheduler: str, address: str, patience: float) -> None:
  deadline = time.monotonic() + patience
  while not client.nthreads():
    if time.monotonic() > deadline:
      raise UserError(
        f"scheduler={scheduler!r} has no workers after {patience:g} seconds: start some with"
        f" `{_START.format(address)}`"
      )
    time.sleep(0.1)


def _check_workers(client: Any, scheduler: str, address: str) -> None:
  """Refuses a cluster with a worker that would compute other bits, before it computes anything."""
  asked, threads = {**identity(), "threads": 1}, client.nthreads()
  refused = []
  for place, found in client.run(identity, on_error="return").items():
    if isinstance(found, OSError):  # it ended meanwhile; who comes later is asked before each task
      continue
    if isinstance(found, Exception):  # there is none, or an older one
      refused.append(f"worker {place} has no seedlab, or another one ({_first_line(found)})")
    else:
      refused += filter(None, [_refusal(place, asked, {**found, "threads": threads.get(place, 1)})])
  if refused:
    more = f"; and {errors.counted(len(refused) - 1, 'more worker')} like it" * (len(refused) > 1)
    raise UserError(
      f"scheduler={scheduler!r}: {refused[0]}{more}. Nothing was trained; restart the workers with"
      f" the same installation as here (`{_START.format(address)}`)"
    )


def _refusal(place: str, asked: Mapping[str, Any], found: Mapping[str, Any]) -> str:
  """Why a worker gets no work, or nothing."""
  if found["threads"] != asked["threads"]:
    return (
      f"worker {place} runs {found['threads']} tasks at once in one process, where seedlab needs"
      " one pinned to a core or accelerator to get the same bits: --nthreads 1"
    )
  changed = [name for name in asked if found.get(name) != asked[name]]
  if not changed:
    return ""
  listed = ", ".join(f"{name} {errors.short(found.get(name))} there and {errors.short(asked[name])}"
                     " here" for name in changed)  # fmt: skip
  return f"worker {place} is refused, since it could give other results: {listed}"


def _first_line(error: BaseException) -> str:
  text = str(error).strip()
  return f"{type(error).__name__}: {text.splitlines()[0][:200]}" if text else type(error).__name__
