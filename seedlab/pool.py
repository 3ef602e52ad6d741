"""A `concurrent.futures.Executor` of worker processes, one per core or accelerator.

The standard pool loses every pending task with one killed worker, leaves orphans
when its parent is killed, and re-imports the user's script. Here a worker is
a plain `seedlab.worker.main`: it is bound to its core before JAX starts, takes
functions by name with JSON arguments, answers with JSON and arrays (`pack`), and
ends with its parent (`orphans`). A task whose worker dies runs again on a new
one; the others notice nothing. A function that workers cannot import travels as
`Code`, once to each worker.
"""

import concurrent.futures
import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import queue
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any

import cloudpickle
import numpy as np

from seedlab import console, host, orphans
from seedlab.errors import UserError, whole

_MOST_WORKERS = 4 * (os.cpu_count() or 1)
_ATTEMPTS = 3  # workers a single task may take down before it is given up
_START = "from seedlab.worker import main; main()"
_LENGTH = struct.Struct(">Q")
_PYTHON = "{}.{}".format(*sys.version_info)  # pickled code is for one version
_CODE = "__code__"  # stands for a `Code` in the arguments of a task

send: Callable[[Any], None] | None = None  # to the parent; set in a worker process
_asked = False  # in a worker: since `asked` said so last


def progress(value: float) -> None:
  """Tells the parent how far the running task is; does nothing outside a worker."""
  if send:
    send({"progress": value})


def ask(*_: Any) -> None:
  """In a worker: has its task save what is under way as soon as it can. A handler of signals."""
  global _asked
  _asked = True


def asked() -> bool:
  """Whether the running task shall save what is under way, which is said once each time."""
  global _asked
  said, _asked = _asked, False
  return said


def saved(runs: int) -> None:
  """Tells the parent how many runs under way were saved; does nothing outside a worker."""
  if send:
    send({"saved": runs})


class TaskError(RuntimeError):
  """A task raised in its worker; the message is the worker's traceback."""

  worker_traceback = True


class WorkerDied(UserError):
  """A task took down several workers in a row."""


class RunEnded(UserError):
  """`WorkerPool.end` ended the task; the message is its reason."""


class Task(concurrent.futures.Future):
  """The future of a task of a `WorkerPool`.

  Attributes:
    task: its number, counted from 0 in the order of `submit`.
    started: when a worker last began it, by `time.monotonic`; None before.
    heard: when that worker last sent something about it; None before.
    saved: how many of its runs were saved when that was last asked for; None before.
    ended: why `WorkerPool.end` ended it, or None.
  """

  def __init__(self, task: int):
    super().__init__()
    self.task = task
    self.started: float | None = None
    self.heard: float | None = None
    self.saved: int | None = None
    self.ended: str | None = None


@dataclasses.dataclass(frozen=True)
class Code:
  """A function by value, for processes that cannot import it: a notebook's, a closure.

  It is never stored and identifies nothing: the digest of the program it makes does.
  """

  payload: bytes
  python: str = _PYTHON

  @classmethod
  def of(cls, function: Callable[..., Any]) -> "Code":
    """Raises UserError where the function holds what no other process can have."""
    try:
      return cls(cloudpickle.dumps(function))
    except Exception as error:  # each thing that cannot be pickled has its own
      raise UserError(
        f"{function!r} cannot be sent to worker processes ({_first_line(error)}): let it make that"
        " inside, or put it into a module of its own"
      ) from None

  @functools.cached_property
  def digest(self) -> str:
    return hashlib.sha256(self.python.encode() + self.payload).hexdigest()

  def load(self) -> Callable[..., Any]:
    """The function; raises UserError where this process cannot have it."""
    if self.python != _PYTHON:
      raise UserError(
        f"a function of Python {self.python} cannot be used by a worker of Python {_PYTHON}: use"
        " one version, or put the function into a module that workers can import"
      )
    try:
      return cloudpickle.loads(self.payload)
    except Exception as error:
      raise UserError(
        f"a worker cannot use the function it was sent: {_first_line(error)}"
      ) from None


def with_codes(arguments: list[Any], codes: Mapping[str, Code]) -> list[Any]:
  """The arguments of a task with the code in place of what stands for it."""
  return [
    codes[argument[_CODE]] if isinstance(argument, dict) and _CODE in argument else argument
    for argument in arguments
  ]


class WorkerPool(concurrent.futures.Executor):
  """Runs importable functions of JSON arguments in worker processes.

  Args:
    places: one entry a worker: the core to pin to, or None (not pinned).
    environment: per worker, variables set beside the parent's own.
    on_progress: called as (task number, value) from the workers' threads when a
      running task calls `progress(value)`.
  """

  def __init__(
    self,
    places: Sequence[int | None],
    environment: Sequence[Mapping[str, str]] | None = None,
    on_progress: Callable[[int, float], None] = lambda task, value: None,
  ):
    self.on_progress = on_progress
    self._tasks: queue.SimpleQueue[tuple[Task, str, Sequence] | None] = queue.SimpleQueue()
    self._closed = False
    self._submitted = 0
    self._slots = [
      _Slot(place, variables, self)
      for place, variables in zip(places, environment or [{}] * len(places), strict=True)
    ]

  def submit(self, fn: Callable[..., Any], /, *args: Any) -> Task:  # type: ignore[override]
    """Schedules `fn(*args)`: an importable function of JSON, arrays and `Code`.

    It is packed when it is sent.
    """
    if self._closed:
      raise RuntimeError("cannot schedule new tasks after shutdown")
    future = Task(self._submitted)
    self._submitted += 1
    self._tasks.put((future, f"{fn.__module__}:{fn.__qualname__}", args))
    return future

  def end(self, future: Task, reason: str) -> None:
    """Kills the worker of a task, which then raises RunEnded(reason) and never runs again.

    One that waits raises it when its turn comes; one that is done stays as it is. The other tasks
    notice nothing: a new worker takes the place of the killed one.
    """
    future.ended = reason  # before looking for it: who takes it up from now on sees this
    for slot in self._slots:
      slot.kill(future)

  def save(self, seconds: float) -> int:
    """Has the tasks under way save their runs, and waits for that; how many were saved.

    A task is asked only after it has told of its progress: before, there is nothing to save. One
    that does not answer in so many `seconds`, or ends, counts for none.
    """
    running = [future for slot in self._slots if (future := slot.ask()) is not None]
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(
      future.saved is None and not future.done() for future in running
    ):
      time.sleep(0.02)
    return sum(future.saved or 0 for future in running)

  def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
    """Ends the workers after their tasks; with `cancel_futures`, now."""
    self._closed = True
    if cancel_futures:
      while not self._tasks.empty():
        task = self._tasks.get()
        if task is not None:
          task[0].cancel()
      for slot in self._slots:
        slot.kill()
    for _ in self._slots:
      self._tasks.put(None)
    if wait:
      for slot in self._slots:
        slot.thread.join()

  def __exit__(self, kind, value, trace):
    self.shutdown(cancel_futures=kind is not None)
    return False

  @property
  def size(self) -> int:
    """The number of workers."""
    return len(self._slots)

  @property
  def closed(self) -> bool:
    return self._closed

  def next_task(self) -> tuple[Task, str, Sequence] | None:
    """Blocks until there is a task for a slot; None means: end."""
    return self._tasks.get()


class _Slot:
  """One place of the pool: a thread that keeps a worker process alive and feeds it.

  The thread itself starts the process, and starts it again: the kernel kills a worker when the
  thread it was started from ends, and this one outlives it.
  """

  def __init__(self, place: int | None, environment: Mapping[str, str], pool: WorkerPool):
    self.place, self.environment, self.pool = place, environment, pool
    self.lock = threading.Lock()  # of `process` and `future`
    self.future: Task | None = None  # what the process is working on
    self.guardian: subprocess.Popen | None = None  # of the process, where the kernel is none
    first: concurrent.futures.Future[subprocess.Popen] = concurrent.futures.Future()
    self.thread = threading.Thread(target=self._serve, args=(first,), daemon=True)
    self.thread.start()
    self.process = first.result()

  def kill(self, future: Task | None = None) -> None:
    """Kills the process; with a future, only while it is working on that."""
    with self.lock:
      if future is None or future is self.future:
        self.process.kill()

  def ask(self) -> Task | None:
    """Asks the process to save what it is at: the task, or None where there is nothing to save."""
    with self.lock:
      if self.future is None or self.future.heard is None:
        return None
      self.future.saved = None
      self.process.terminate()  # which is how a worker takes it
      return self.future

  def _spawn(self) -> subprocess.Popen:
    self.known: set[str] = set()  # digests of the code that the process has
    told = [] if self.place is None else [f"--core={self.place}"]
    told += [f"--parent={os.getpid()}"] * orphans.KERNEL
    variables = {
      "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
      "TF_CPP_MIN_LOG_LEVEL": "2",  # XLA's remarks on cached programs are not the user's affair
    }
    process = subprocess.Popen(
      [sys.executable, "-P", "-c", _START, *told],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      env={**os.environ, **variables, **self.environment},
    )
    if not orphans.KERNEL:  # until then it can do nothing but wait for a task, or for our end
      self.guardian = orphans.guard(process.pid)
    return process

  def _serve(self, first: concurrent.futures.Future[subprocess.Popen]) -> None:
    # A worker inherits this, so that no signal reaches it before it knows what to do with it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
      first.set_result(self._spawn())
    except OSError as error:  # no memory, no processes left
      first.set_exception(error)
      return
    while (task := self.pool.next_task()) is not None:
      future, function, arguments = task
      if future.set_running_or_notify_cancel():
        try:
          self._run(future, function, arguments)
        except (TypeError, OSError) as error:  # what cannot be packed; no new process to be had
          future.set_exception(error)
    self._reap()

  def _reap(self) -> str:
    """Waits for the process to end, having closed its pipes; what ended it."""
    for pipe in filter(None, (self.process.stdin, self.process.stdout)):
      with contextlib.suppress(OSError):  # what was not yet written to a dead process
        pipe.close()
    status = self.process.wait()
    if self.guardian:
      orphans.dismiss(self.guardian)
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"

  def _run(self, future: Task, function: str, arguments: Sequence) -> None:
    codes = [argument for argument in arguments if isinstance(argument, Code)]
    plain = [{_CODE: one.digest} if isinstance(one, Code) else one for one in arguments]
    request = pack({"function": function, "arguments": plain})
    cause = ""
    for attempt in range(_ATTEMPTS):
      if attempt:
        console.say(f"a worker ended ({cause}); its task runs again")
      answer, cause = self._try(future, codes, request)
      if future.ended is not None:
        future.set_exception(RunEnded(future.ended))
      elif answer is None and self.pool.closed:
        future.set_exception(concurrent.futures.CancelledError())
      elif answer is None:
        continue
      elif "error" in answer:
        error = UserError if answer["error"] == "user" else TaskError
        future.set_exception(error(answer["message"]))
      else:
        future.set_result(answer["result"])
      return
    hint = "; the machine may be short of memory: use fewer workers" if cause == "SIGKILL" else ""
    future.set_exception(WorkerDied(f"a task ended {_ATTEMPTS} workers in a row ({cause}){hint}"))

  def _try(
    self, future: Task, codes: Sequence[Code], request: bytes
  ) -> tuple[dict[str, Any] | None, str]:
    """The worker's answer; None and what ended the worker, in whose place there is a new one."""
    answer = None
    with self.lock:
      if future.ended is not None:
        return None, ""
      self.future = future
    try:
      self._teach(codes)
      answer = self._ask(future, request)
    except (EOFError, OSError, ValueError):  # ValueError: it is dead since the task before
      pass
    with self.lock:
      self.future = None  # from here on `end` is too late
      killed = future.ended is not None
    if answer is not None and not killed:
      return answer, ""
    cause = self._reap()
    with self.lock:
      if not self.pool.closed:  # whoever closes it kills the process afterwards
        self.process = self._spawn()
    return None, cause

  def _teach(self, codes: Sequence[Code]) -> None:
    """Sends the process the code that it has not got yet."""
    for code in codes:
      if code.digest not in self.known:
        payload = np.frombuffer(code.payload, np.uint8)
        frame = {"code": code.digest, "payload": payload, "python": code.python}
        write_frame(self._pipes()[0], pack(frame))
        self.known.add(code.digest)

  def _ask(self, future: Task, request: bytes) -> dict[str, Any]:
    future.started = future.heard = None
    requests, answers = self._pipes()
    write_frame(requests, request)
    while True:
      answer = unpack(read_frame(answers))
      if "begun" in answer:
        future.started = time.monotonic()
        continue
      future.heard = time.monotonic()
      if "progress" in answer:
        self.pool.on_progress(future.task, answer["progress"])
      elif "saved" in answer:
        future.saved = answer["saved"]
      else:
        return answer

  def _pipes(self) -> tuple[IO[bytes], IO[bytes]]:
    assert self.process.stdin and self.process.stdout
    return self.process.stdin, self.process.stdout


def write_frame(stream: IO[bytes], payload: bytes) -> None:
  stream.write(_LENGTH.pack(len(payload)))
  stream.write(payload)
  stream.flush()


def read_frame(stream: IO[bytes]) -> bytes:
  """The next frame; EOFError when the other side is gone."""
  (length,) = _LENGTH.unpack(_exactly(stream, _LENGTH.size))
  return _exactly(stream, length)


def pack(value: Any) -> bytes:
  """JSON with NumPy arrays in it, as a header and the arrays' bytes."""
  arrays: list[np.ndarray] = []

  def encode(item: Any) -> Any:
    if isinstance(item, np.ndarray):
      arrays.append(np.ascontiguousarray(item))
      return {"__array__": [len(arrays) - 1, item.dtype.str, list(item.shape)]}
    if isinstance(item, np.generic):
      return item.item()
    raise TypeError(f"{type(item).__name__} is neither JSON nor an array")

  header = json.dumps(value, default=encode).encode()
  return b"".join([_LENGTH.pack(len(header)), header, *(array.tobytes() for array in arrays)])


def unpack(payload: bytes) -> Any:
  """The inverse of `pack`."""
  (length,) = _LENGTH.unpack_from(payload)
  at = _LENGTH.size + length

  def decode(item: dict[str, Any]) -> Any:
    nonlocal at
    if "__array__" not in item:
      return item
    _, dtype, shape = item["__array__"]
    array = np.frombuffer(payload, dtype, count=int(np.prod(shape)), offset=at).reshape(shape)
    at += array.nbytes
    return array

  return json.loads(payload[_LENGTH.size : at], object_hook=decode)


def _exactly(stream: IO[bytes], count: int) -> bytes:
  data = stream.read(count)
  if len(data) < count:
    raise EOFError
  return data


def local_pool(workers: int | None = None) -> WorkerPool:
  """Workers on this machine: one pinned to each usable core, or one for each accelerator."""
  platform, devices = host.accelerators()
  if platform == "cpu":
    cores = host.usable_cores()
    places = [cores[number % len(cores)] for number in range(workers or len(cores))]
    return WorkerPool(places)
  count = min(workers or devices, devices)
  environment = [host.accelerator_environment(platform, number, devices) for number in range(count)]
  return WorkerPool([None] * count, environment)


def check_workers(workers: int | None) -> None:
  if workers is not None and not 1 <= whole("workers", workers) <= _MOST_WORKERS:
    raise UserError(f"workers={workers} must lie between 1 and {_MOST_WORKERS}")


def _first_line(error: Exception) -> str:
  text = str(error)
  return f"{type(error).__name__}: {text.splitlines()[0][:200]}" if text else type(error).__name__
