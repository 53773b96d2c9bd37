"""What is printed cannot steer a terminal, every stream takes it, and a run ends with two lines and a code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mova.cli.console import count, printable
from mova.cli.ending import UNEXPECTED, run_to_exit_code
from mova.errors import MissingMediaError, RequestError


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a red ball", "a red ball"),
        ("\x1b[2J\x1b]0;x\x07", r"\x1b[2J\x1b]0;x\x07"),
        ("a\u202egnp.exe\u2066", r"a\u202egnp.exe\u2066"),
        ("\x9b31m\x7f", r"\x9b31m\x7f"),
        ("one\ntwo\rthree\u2028", r"one\ntwo\rthree\u2028"),
        ("\ud800", r"\ud800"),
        ("\U000e0041", r"\U000e0041"),
        ("日本 🎬 लाल नमस्ते ä", "日本 🎬 लाल नमस्ते ä"),
        ("👩\u200d🚀 می\u200cخواهم", "👩\u200d🚀 می\u200cخواهم"),
    ],
)
def test_what_is_no_visible_character_is_shown_as_an_escape(text: str, shown: str) -> None:
    assert printable(text) == shown


def run(code: str, *, encoding: str = "utf-8", stdout: str | None = None) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-c", f"from mova.cli import console\nfrom mova.cli.ending import exit_with\n{code}"]
    target = subprocess.PIPE if stdout is None else open(stdout, "wb")  # noqa: SIM115
    return subprocess.run(
        command, stdout=target, stderr=subprocess.PIPE, env={**os.environ, "PYTHONIOENCODING": encoding}, check=False
    )


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_every_encoding_takes_every_text(encoding: str) -> None:
    value = {"prompt": "日本 🎬 ä \x7f \u202e", "lone": "\ud800"}
    done = run(f"v = {value!r}\nconsole.fact(v['prompt']); console.say(v['prompt']); console.facts_json(v)", encoding=encoding)
    assert done.returncode == 0, done.stderr
    line, document = done.stdout.decode(encoding).splitlines()
    assert r"\x7f \u202e" in line and ("日本" in line) == (encoding == "utf-8")
    assert json.loads(document) == value and "\u202e" not in document


def test_a_full_disk_is_two_lines_and_talk_that_is_lost_is_no_reason_to_stop() -> None:
    done = run("exit_with(lambda: console.fact('a'))", stdout="/dev/full")
    assert done.returncode == 1
    assert done.stderr.decode().splitlines()[0] == "error: results cannot be printed: No space left on device."
    code = "import sys\nsys.stderr = open('/dev/full', 'w')\nexit_with(lambda: (console.say('a'), console.fact('b')))"
    done = run(code)
    assert (done.returncode, done.stdout) == (0, b"b\n")


def test_a_pipe_that_nobody_reads_ends_the_run_quietly() -> None:
    code = "import os\nr, w = os.pipe(); os.close(r); os.dup2(w, 1)\nexit_with(lambda: [console.fact('a') for _ in range(9)])"
    done = run(code)
    assert (done.returncode, done.stderr) == (141, b"")


def test_closed_streams_are_no_error() -> None:
    done = run("import sys\nsys.stdout = sys.stderr = None\nexit_with(lambda: (console.fact('a'), console.say('b')))")
    assert done.returncode == 0


def test_every_error_is_two_lines_and_a_code(capsys: pytest.CaptureFixture[str]) -> None:
    def raising(problem: BaseException) -> int:
        def command() -> None:
            raise problem

        return run_to_exit_code(command)

    for problem, code, words in (
        (RequestError("a is wrong.\nVery.", "Do\nb."), 2, "error: a is wrong. Very.\n  hint: Do b.\n"),
        (MissingMediaError("there is no file x.", "Check."), 2, "error: there is no file x.\n  hint: Check.\n"),
        (MemoryError(), 1, "error: out of memory.\n"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 1, "error: out of memory: Default"),
        (ImportError("libx.so: failed to map segment: Cannot allocate memory"), 1, "error: out of memory: libx.so"),
        (OSError(36, "File name too long", "x"), 1, "error: x: File name too long.\n"),
        (TypeError("no\n\x1b[2J"), UNEXPECTED, "error: TypeError: no \\x1b[2J\n"),
        (SystemExit(3), 3, ""),
        (SystemExit(None), 0, ""),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ):
        assert raising(problem) == code
        said = capsys.readouterr().err
        assert said.startswith(words) and said.count("\n") <= 2, said


def test_one_thing_is_not_several() -> None:
    assert [count(number, "frame") for number in (0, 1, 2)] == ["0 frames", "1 frame", "2 frames"]


def test_a_file_in_the_way_of_a_name_is_no_traceback(tmp_path: Path) -> None:
    from mova.files import is_regular, open_regular

    for name in ("x" * 300, "a\0b", str(tmp_path), "/dev/zero", "/dev/null"):
        assert not is_regular(name)
        with pytest.raises(OSError):
            open_regular(name)
