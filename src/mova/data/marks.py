"""What data was made from, and digests to compare it by: data of other settings is made again, and never kept in silence."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import mova.scenes
from mova.errors import CheckpointError
from mova.files import hash_file, read_regular
from mova.parsing import parse_json
from mova.scenes.kind import Kind

MARK = "made_from.json"
_DIGITS = 32


@dataclass(frozen=True)
class ShardMark:
    """What a shard says of itself.

    Args:
        settings: Digest of everything that its clips follow from, but for their numbers.
        first: Number of its first clip.
        count: Clips in it.
        content: Digest of the clips.
    """

    settings: str
    first: int
    count: int
    content: str

    def is_of(self, settings: str, first: int, count: int) -> bool:
        """Whether it holds these clips of these settings."""
        return (self.settings, self.first, self.count) == (settings, first, count)

    def as_json(self) -> str:
        """As text, for :func:`parse_mark`."""
        return json.dumps(asdict(self))


def parse_mark(text: str | None) -> ShardMark | None:
    """The mark of a shard; ``None`` if it has none, as those of earlier versions."""
    try:
        return ShardMark(**parse_json(text or ""))
    except (ValueError, TypeError):
        return None


def digest_marks(folder: Path, marks: Iterable[ShardMark | None]) -> str:
    """Digest of the clips in a folder of shards; empty if there are none.

    Args:
        folder: Folder of the shards.
        marks: Their marks, in order.

    Raises:
        CheckpointError: If some shards are of other settings than the others: the run that made them was interrupted.
    """
    found = list(marks)
    if len({mark.settings for mark in found if mark is not None}) > 1:
        raise CheckpointError(
            f"{folder} holds clips of different settings: the stage that makes them was interrupted.", "Run that stage again."
        )
    return digest([mark and mark.content for mark in found]) if found else ""


def digest(value: Any) -> str:
    """Digest of a JSON value."""
    return digest_bytes(json.dumps(value, sort_keys=True, separators=(",", ":"), default=str).encode())


def digest_files(paths: Iterable[Path]) -> str:
    """Digest of the content of files; empty if none of them is there."""
    found = [hash_file(path)[:_DIGITS] if path.is_file() else "" for path in paths]
    return digest(found) if any(found) else ""


def digest_part(folder: Path) -> str:
    """Digest of a saved part of a model: its weights, vocabulary and sizes; empty if it is not there.

    What is noted in a configuration under a name that begins with an underscore, such as the version that wrote it, does not
    count.
    """
    files: dict[str, str] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")):
        if path.name == "config.json":
            values = parse_json(read_regular(path))
            found = digest_bytes(digest({key: value for key, value in values.items() if not key.startswith("_")}).encode())
        else:
            found = hash_file(path)[:_DIGITS]
        files[path.relative_to(folder).as_posix()] = found
    return digest(files) if files else ""


def digest_kinds(kinds: Iterable[Kind]) -> str:
    """Digest of kinds of scenes: their names, the files that define them, and the code that draws and sounds all kinds."""
    return digest([_digest_renderers(), *([kind.name, _digest_source(kind)] for kind in kinds)])


def _digest_source(kind: Kind) -> str:
    modules = {getattr(part, "__module__", "") for part in (kind.choose, kind.plan, kind.draw, kind.sound, kind.phrases)}
    files = [getattr(sys.modules.get(name), "__file__", None) for name in sorted(modules)]
    return digest_files(Path(file) for file in files if file is not None)


@cache
def _digest_renderers() -> str:
    folder = Path(mova.scenes.__path__[0])
    return digest_files(sorted(folder.rglob("*.py")))


def digest_bytes(content: bytes) -> str:
    """Digest of some bytes: 32 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()[:_DIGITS]
