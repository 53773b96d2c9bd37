"""Run readers in a process of their own: a decoder that dies of a file ends that process, and the file is named.

Codecs are millions of lines of C; a damaged or hostile file can make one of them write where it must not. One helper process
is started with the first file (0.3 to 1 s) and serves all that follow; frames come through a socket, at about a gigabyte per
second. It is a guard against crashes, not a sandbox. Where no process can be started, files are read in this one.
"""

from __future__ import annotations

import functools
import os
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from itertools import count, islice
from multiprocessing.connection import Connection
from typing import Any, TypeVar, cast

import numpy as np

from mova.errors import MediaError

_Value = TypeVar("_Value")

_idle: list[_Worker] = []
_is_worker = False


def isolate_parts(function: Callable[..., Iterator[_Value]]) -> Callable[..., Iterator[_Value]]:
    """Let a generator function of a module run in the helper process; its first argument is the path, for errors.

    What it yields is sent as it comes, arrays without being pickled. Errors of it are raised here. Whoever does not take all
    that it yields ends the process; the next file is given to a new one.
    """

    @functools.wraps(function)
    def run(path: Any, *args: Any, **options: Any) -> Iterator[_Value]:
        if _is_worker or os.name != "posix":
            return function(path, *args, **options)
        return _run(function, path, args, options)

    return run


def isolate(function: Callable[..., _Value]) -> Callable[..., _Value]:
    """Let a function of a module run in the helper process; its first argument is the path, for errors."""

    @functools.wraps(function)
    def run(path: Any, *args: Any, **options: Any) -> _Value:
        if _is_worker or os.name != "posix":
            return function(path, *args, **options)
        (value,) = _run(function, path, args, options)
        return cast(_Value, value)

    return run


def serve(descriptor: int) -> None:
    """Run what the other end asks for, until it closes the connection."""
    global _is_worker
    _is_worker = True
    connection = Connection(descriptor)
    while True:
        try:
            folder, module, name, args, options = connection.recv()
        except EOFError:
            return
        try:
            os.chdir(folder)
            result = getattr(import_module(module), name)(*args, **options)
            for part in result if isinstance(result, Iterator) else [result]:
                _send(connection, part)
            connection.send(("end", None))
        except (BrokenPipeError, ConnectionResetError):
            return
        except Exception as error:
            connection.send(("error", error if isinstance(error, MediaError) else _describe(error, args[0])))


class _Worker:
    """The helper process and the connection to it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", f"from mova.media.worker import serve; serve({theirs.fileno()})"],
                pass_fds=(theirs.fileno(),),
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the program; this process ends with its connection
            )
        self.connection = Connection(ours.detach())
        self.owner, self.num_files = os.getpid(), 0

    def receive(self) -> tuple[str, Any]:
        """Return the next message; an array is read into memory of its own."""
        kind, value = self.connection.recv()
        if kind != "array":
            return kind, value
        array = np.empty(*value)
        if array.nbytes:
            self.connection.recv_bytes_into(memoryview(array.data).cast("B"))
        return "part", array

    def close(self) -> None:
        """End the process."""
        with suppress(OSError):  # a reader that was left in the middle is closed at the end of the program, out of order
            self.connection.close()
        self.process.kill()
        self.process.wait()


def _run(function: Callable[..., Any], path: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Iterator[Any]:
    num_sent = 0
    while True:
        try:
            worker = _take_worker()
        except OSError:  # no process can be started
            result = function(path, *args, **options)
            yield from islice(result if isinstance(result, Iterator) else [result], num_sent, None)
            return
        is_new, is_idle = worker.num_files == 0, False
        worker.num_files += 1
        try:
            worker.connection.send((_folder(), function.__module__, function.__qualname__, (path, *args), options))
            for index in count():
                kind, value = worker.receive()
                is_idle = kind != "part"
                if kind == "error":
                    raise value
                if kind == "end":
                    return
                if index >= num_sent:
                    num_sent += 1
                    yield value
        except (EOFError, ConnectionError):
            # what an earlier file did to the memory of the process may have ended it only now: a new one decides
            if is_new:
                raise _crash_error(path, worker.process.wait()) from None
        finally:
            if is_idle:
                _idle.append(worker)
            else:
                worker.close()


def _take_worker() -> _Worker:
    while _idle:
        worker = _idle.pop()
        if worker.owner == os.getpid():
            return worker
    return _Worker()


def _send(connection: Connection, part: Any) -> None:
    if isinstance(part, np.ndarray) and not part.dtype.hasobject:
        connection.send(("array", (part.shape, part.dtype)))
        if part.nbytes:
            connection.send_bytes(memoryview(np.ascontiguousarray(part).data).cast("B"))
    else:
        connection.send(("part", part))


def _describe(error: Exception, path: Any) -> RuntimeError:
    """A fault of ours as what can be sent: the message, with its traceback as a note."""
    described = RuntimeError(f"{path} cannot be read: {type(error).__name__}: {error}")
    described.add_note("".join(traceback.format_exception(error)))
    return described


def _crash_error(path: Any, code: int) -> MediaError:
    name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    if name == "SIGKILL":
        return MediaError(f"{path} cannot be read: the system ended its decoder (SIGKILL).", "There may be too little memory.")
    return MediaError(
        f"{path} cannot be read: its decoder crashed ({name}).",
        "The file is damaged, or of a kind that FFmpeg cannot cope with: convert it with another program first.",
    )


def _folder() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return os.path.sep
