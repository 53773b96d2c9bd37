"""Python processes that begin with everything imported: a server imports once, and forks itself for each run.

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
from pathlib import Path
from typing import Any, NoReturn

ENVIRONMENT = {"OMP_NUM_THREADS": "1", "NO_COLOR": "1", "HF_HUB_OFFLINE": "1"}
IMPORTS = (
    "mova.cli.app",
    "mova.cli.generate",
    "mova.cli.film",
    "mova.generation.model",
    "transformers.models.umt5.modeling_umt5",
)
READY = 0


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
        assert self._reply() == READY

    def run(self, code: str, arguments: tuple[str, ...], *, folder: Path, timeout: float) -> subprocess.CompletedProcess[str]:
        """Run ``code`` in ``folder`` with ``arguments`` as ``sys.argv``, in the environment of now.

        Raises:
            subprocess.TimeoutExpired: It took longer than ``timeout`` seconds, and was killed.
        """
        assert self._server.stdin is not None and self._server.stdout is not None
        with tempfile.TemporaryDirectory() as streams:
            out, err = Path(streams, "out"), Path(streams, "err")
            request = {
                "code": code,
                "arguments": arguments,
                "folder": str(folder),
                "environment": {**os.environ, **ENVIRONMENT},
                "streams": [str(out), str(err)],
            }
            self._server.stdin.write(json.dumps(request).encode() + b"\n")
            process = self._reply()
            if not select.select([self._server.stdout], [], [], timeout)[0]:
                os.kill(process, signal.SIGKILL)
                self._reply()
                raise subprocess.TimeoutExpired(arguments, timeout, out.read_bytes(), err.read_bytes())
            return subprocess.CompletedProcess(arguments, self._reply(), out.read_text("utf-8"), err.read_text("utf-8"))

    def _reply(self) -> int:
        assert self._server.stdout is not None
        line = self._server.stdout.readline()
        assert line, "the server ended"
        return int(line)

    def close(self) -> None:
        self._server.kill()
        self._server.wait()


def serve() -> None:
    """Import what a run needs; then fork for every request, and never return in the child."""
    for name in IMPORTS:
        importlib.import_module(name)
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
