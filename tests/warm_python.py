"""Python processes that begin with everything imported: a server imports and loads once, and forks itself for each run.

A run is a process of its own in everything else: it has its own folder, environment, streams, exit code and exit handlers.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

ENVIRONMENT = {"OMP_NUM_THREADS": "1", "NO_COLOR": "1", "HF_HUB_OFFLINE": "1"}
IMPORTS = (
    "av",
    "mova.cli.app",
    "mova.cli.film",
    "mova.cli.generate",
    "mova.cli.inspect",
    "mova.cli.plan",
    "mova.cli.recorded",
    "mova.cli.sheet",
    "mova.cli.sync",
    "mova.film.plan",
    "mova.generation.model",
    "mova.lab.sync.measure",
    "mova.media.encode",
    "mova.media.loudness",
    "mova.media.remux.soundtrack",
    "mova.training.recipe",
    "scipy.signal",
    "transformers.models.umt5.modeling_umt5",
)
READY = 0
COMMAND_LINE = "from mova.cli.app import main; main()"


class WarmPython:
    """A server and the runs that are asked of it, one after the other."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, **ENVIRONMENT},
        )
        assert self.reply() == READY

    def run(self, code: str, arguments: tuple[str, ...], *, folder: Path, timeout: float) -> subprocess.CompletedProcess[str]:
        """Run ``code`` in ``folder`` with ``arguments`` as ``sys.argv``, in the environment of now.

        Raises:
            subprocess.TimeoutExpired: It took longer than ``timeout`` seconds, and was killed.
        """
        return self.start(code, arguments, folder=folder).wait(timeout)

    def start(self, code: str, arguments: tuple[str, ...], *, folder: Path) -> Run:
        """Begin to run ``code``, as above; it has to be waited for before the next begins."""
        assert self._server.stdin is not None
        streams = tempfile.TemporaryDirectory()
        out, err = Path(streams.name, "out"), Path(streams.name, "err")
        request = {
            "code": code,
            "arguments": arguments,
            "folder": str(folder),
            "environment": {**os.environ, **ENVIRONMENT},
            "streams": [str(out), str(err)],
        }
        self._server.stdin.write(json.dumps(request).encode() + b"\n")
        return Run(self, self.reply(), arguments, streams, out, err)

    def is_idle(self, timeout: float) -> bool:
        """Wait until the run has ended; whether it has within ``timeout`` seconds."""
        return bool(select.select([self._server.stdout], [], [], timeout)[0])

    def reply(self) -> int:
        assert self._server.stdout is not None
        line = self._server.stdout.readline()
        assert line, "the server ended"
        return int(line)

    def close(self) -> None:
        self._server.kill()
        self._server.wait()


@dataclass
class Run:
    """A process that runs; ``err`` grows with what it says."""

    python: WarmPython
    pid: int
    arguments: tuple[str, ...]
    streams: tempfile.TemporaryDirectory[str]
    out: Path
    err: Path

    def wait(self, timeout: float) -> subprocess.CompletedProcess[str]:
        """The run, ended; it is killed after ``timeout`` seconds."""
        has_ended = self.python.is_idle(timeout)
        if not has_ended:
            os.kill(self.pid, signal.SIGKILL)
        status = self.python.reply()
        with self.streams:
            if not has_ended:
                raise subprocess.TimeoutExpired(self.arguments, timeout, self.out.read_bytes(), self.err.read_bytes())
            return subprocess.CompletedProcess(self.arguments, status, self.out.read_text("utf-8"), self.err.read_text("utf-8"))


def serve() -> None:
    """Import what a run needs; then fork for every request, and never return in the child."""
    for name in IMPORTS:
        importlib.import_module(name)
    # what torch and transformers prepare when a first model is loaded
    sys.modules["mova.generation.model"].MOVAModel.from_pretrained("mova-base")
    gc.freeze()  # a child that collects garbage would copy all that was imported
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    replies.write(b"%d\n" % READY)
    while line := sys.stdin.buffer.readline():
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            replies.close()
            execute(request)
        replies.write(b"%d\n" % child)
        replies.write(b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def execute(request: dict[str, Any]) -> NoReturn:
    """Take the folder, environment and streams of a request, run its code, and end the process."""
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    opened = [os.open(os.devnull, os.O_RDONLY), *(os.open(path, flags, 0o600) for path in request["streams"])]
    for stream, file in enumerate(opened):
        os.dup2(file, stream)
        os.close(file)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have let the server ignore it
    sys.argv = ["mova", *request["arguments"]]
    status = 0
    try:
        exec(compile(request["code"], "<run>", "exec"), {"__name__": "__main__"})
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(status)  # tidying up all that was imported takes longer than most runs


if __name__ == "__main__":
    serve()
