"""What is written is there whole or not at all."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mova.files import atomic_write, open_regular, read_text, remove_leftovers
from mova.parsing import parse_json, parse_yaml


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_takes_its_place_only_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "Clip.MP4"
    path.write_text("old")
    with atomic_write(path) as beside:
        assert beside.parent == tmp_path and beside.name.startswith(".") and beside.suffix == ".mp4"
        beside.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and names(tmp_path) == ["Clip.MP4"]


def test_a_file_has_the_permissions_that_a_file_written_in_place_has(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    with atomic_write(tmp_path / "beside") as beside:
        beside.write_text("")
    assert (tmp_path / "beside").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_folder_takes_the_place_of_a_folder_and_nothing_of_the_old_one_stays(tmp_path: Path) -> None:
    path = tmp_path / "model"
    for content in ("first", "second"):
        with atomic_write(path) as beside:
            beside.mkdir()
            (beside / content).write_text(content)
        assert names(path) == [content]
    assert names(tmp_path) == ["model"]


@pytest.mark.parametrize("failure", [ValueError, OSError, KeyboardInterrupt])
def test_what_fails_leaves_the_old_one_and_nothing_else(tmp_path: Path, failure: type[BaseException]) -> None:
    (tmp_path / "file.json").write_text("old")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "old").write_text("old")
    for name in ("file.json", "folder"):
        with pytest.raises(failure), atomic_write(tmp_path / name) as beside:
            if name == "folder":
                beside.mkdir()
                (beside / "part").write_text("new")
            else:
                beside.write_text("new")
            raise failure
    assert names(tmp_path) == ["file.json", "folder"]
    assert (tmp_path / "file.json").read_text() == "old" and names(tmp_path / "folder") == ["old"]


def test_a_folder_that_cannot_take_the_place_of_a_file_is_an_error_and_goes(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(OSError), atomic_write(tmp_path / "taken") as beside:
        beside.mkdir()
    assert names(tmp_path) == ["taken"] and (tmp_path / "taken").read_text() == "mine"


def test_an_old_folder_comes_back_when_the_new_one_vanishes_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, moves = tmp_path / "model", []
    path.mkdir()
    (path / "old").write_text("old")
    move = os.replace

    def failing(source: Path, target: Path) -> None:
        moves.append(source)
        if len(moves) == 2:  # the old one has stepped aside, the new one is to follow
            raise OSError("no space")
        move(source, target)

    monkeypatch.setattr("mova.files.os.replace", failing)
    with pytest.raises(OSError, match="no space"), atomic_write(path) as beside:
        beside.mkdir()
    assert len(moves) == 3 and names(tmp_path) == ["model"] and names(path) == ["old"]


def test_where_nothing_can_be_written_the_disks_own_error_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError), atomic_write(tmp_path / "file" / "inside.json") as beside:
        beside.write_text("")


def kill_while_writing(path: Path) -> None:
    """A run that is killed in the middle of writing to ``path``: what it leaves is of a process that is gone."""
    code = (
        "import os, pathlib, signal\n"
        "from mova.files import atomic_write\n"
        f"with atomic_write(pathlib.Path({str(path)!r})) as beside:\n"
        "    beside.write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL


def test_the_next_run_in_a_folder_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    kill_while_writing(tmp_path / "clip.mp4")
    (left,) = names(tmp_path)
    assert left.endswith(".partial.mp4")
    with atomic_write(tmp_path / "other.json") as beside:
        beside.write_text("")
    assert names(tmp_path) == ["other.json"]


def test_what_a_running_process_writes_is_no_leftover(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "one.json") as beside:
        beside.write_text("")
        (tmp_path / ".partial").write_text("")
        (tmp_path / "mine.partial").write_text("")
        for start, is_left in (("0", True), (beside.name.split("-")[2], False)):  # another process had the number before
            name = re.sub(r"-\d+-[0-9a-f]{8}\.", f"-{start}-00000000.", beside.name)
            (tmp_path / name).write_text("")
            remove_leftovers(tmp_path)
            assert (tmp_path / name).exists() is not is_left
        assert names(tmp_path) == sorted([beside.name, name, ".partial", "mine.partial"])
        beside.write_text("again")


@pytest.mark.parametrize("name", [".01234567.partial.mp4", ".ffffffff-1-1-01234567.partial.mp4"])
def test_of_an_earlier_version_or_another_machine_only_old_files_are_removed(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("")
    remove_leftovers(tmp_path)
    assert names(tmp_path) == [name]
    yesterday = time.time() - 25 * 3600
    os.utime(tmp_path / name, (yesterday, yesterday))
    remove_leftovers(tmp_path)
    assert names(tmp_path) == []


def test_a_folder_that_had_stepped_aside_when_its_run_was_killed_comes_back(tmp_path: Path) -> None:
    kill_while_writing(tmp_path / "model")
    (left,) = tmp_path.iterdir()
    aside = left.with_name(left.name.replace(".partial", ".old.model"))
    aside.mkdir()
    (aside / "weights").write_text("old")
    remove_leftovers(tmp_path)
    assert names(tmp_path) == ["model"] and names(tmp_path / "model") == ["weights"]


def test_only_regular_files_are_opened_and_nothing_waits(tmp_path: Path) -> None:
    import os
    import socket

    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "socket"))
    (tmp_path / "plain").write_bytes(b"\xef\xbb\xbfab")
    for name, message in (("pipe", "a pipe"), ("link", "a pipe"), ("socket", "a socket"), ("", "a folder")):
        with pytest.raises(OSError, match=message):
            open_regular(tmp_path / name)
    listener.close()
    assert read_text(tmp_path / "plain") == "ab"
    with pytest.raises(OSError, match="more than 4 bytes"):
        read_text(tmp_path / "plain", max_bytes=4)


@pytest.mark.parametrize(
    "text", ["[" * 10**5, '{"a":' * 10**5, "[" * 40 + "]" * 40, "NaN", "-Infinity", "1e999", "9" * 5000, "{", "", "\xff"]
)
def test_json_that_is_not_to_be_trusted_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_json(text)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 10**4,
        "a: " + "9" * 5000,
        "a: &x [1]\nb: *x",
        "a: 1\na: 2",
        "? [1]\n: 2",
        "a: 2001-99-99",
        "!!python/object:os.x {}",
        "[",
    ],
)
def test_yaml_that_is_not_to_be_trusted_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_yaml(text)


def test_plain_documents_are_read() -> None:
    assert parse_json(b'\xef\xbb\xbf{"a": [1, 2.5, null, true, "x"]}') == {"a": [1, 2.5, None, True, "x"]}
    assert parse_yaml("a: [1, 2.5, null, true, x]") == {"a": [1, 2.5, None, True, "x"]}
