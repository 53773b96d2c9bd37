"""The page for the raters, a folder that works from any disk without a network, and the key that stays at home."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from mova.errors import MediaError, RequestError
from mova.files import atomic_write, hash_file
from mova.lab import documents
from mova.lab.arena.blind import Video, collect_prompts, copy_blind, inspect_videos, same_times, videos_of_systems, volumes
from mova.lab.arena.pairs import Check, Pair, plan_checks, plan_pairs, write_late
from mova.lab.arena.votes import MODES, Key, KeyPair, Mode

MAX_TITLE_CHARACTERS = 200


@dataclass(frozen=True)
class ArenaPage:
    """What was written.

    Args:
        page: Folder for the raters.
        key: What the opaque names stand for; not for the raters.
        systems: Their names.
        num_prompts: Prompts with at least one pair.
        num_pairs: Pairs of different systems.
        num_checks: Attention checks among them.
        num_late: Checks that show a video against itself with late audio.
        size_bytes: Size of the folder.
        notes: What could not be done as usual.
    """

    page: Path
    key: Path
    systems: tuple[str, ...]
    num_prompts: int
    num_pairs: int
    num_checks: int
    num_late: int
    size_bytes: int
    notes: tuple[str, ...]


def make_page(
    folders: Sequence[Path],
    output: Path,
    *,
    seed: int = 0,
    num_pairs: int | None = None,
    num_checks: int | None = None,
    modes: Sequence[Mode] = MODES,
    title: str = "Which is better?",
    matches_loudness: bool = True,
    on_progress: Callable[[int, int], None] | None = None,
) -> ArenaPage:
    """Write a blind pairwise page for videos of two or more systems.

    Args:
        folders: One for each system, with videos of the same stems; the folder's name is the system's name.
        output: Folder to write; the key goes beside it, as ``<output>-key.json``.
        seed: Seed of pairs, sides, order and opaque names.
        num_pairs: Number of pairs of different systems. Default: every two systems on every prompt.
        num_checks: Attention checks besides. Default: one for ten pairs, at least two.
        modes: What raters may judge: both together, audio alone, picture alone.
        title: Over the page; it must not give the systems away.
        matches_loudness: Play the louder video of a pair as quietly as the other.
        on_progress: Called with the videos done and all videos.

    Raises:
        RequestError: If the folders do not fit together or an argument is out of range.
        MediaError: If videos cannot be read, judged in a browser or copied (all of them are named, up to five), or the
            output cannot be written. Nothing is left behind.
    """
    key_path = _checked_output(output)
    if not 0 <= seed < 2**63:
        raise RequestError(f"seed must be 0 to {2**63 - 1}; got {seed}.", field="seed")
    modes = _checked_modes(modes)
    if not title.strip() or len(title) > MAX_TITLE_CHARACTERS:
        raise RequestError(f"title must have 1 to {MAX_TITLE_CHARACTERS} characters; got {len(title)}.", field="title")
    listed = videos_of_systems(folders)
    pairs = plan_pairs(tuple(listed), sorted(next(iter(listed.values()))), seed=seed, num_pairs=num_pairs)
    wanted_checks = max(2, round(len(pairs) / 10)) if num_checks is None else num_checks
    if not 0 <= wanted_checks <= len(pairs):
        raise RequestError(
            f"num_checks must be 0 to {len(pairs)}, the number of pairs; got {wanted_checks}.",
            f"Use {max(0, min(wanted_checks, len(pairs)))}, the nearest.",
            field="num_checks",
        )
    places = sorted({(system, pair.name) for pair in pairs for system in (pair.left, pair.right)})
    done, total = count(1), 2 * len(places) + wanted_checks

    def step() -> None:
        if on_progress is not None:
            on_progress(next(done), total)

    videos = inspect_videos({place: listed[place[0]][place[1]] for place in places}, modes, on_video=step)
    prompts = collect_prompts(videos)
    checks = plan_checks(list(videos.values()), wanted_checks, modes=modes, seed=seed)
    try:
        with atomic_write(output) as folder:
            (folder / "videos").mkdir(parents=True)
            shown, faults = _fill(folder / "videos", videos, pairs=pairs, checks=checks, seed=seed, on_video=step)
            key = _key(shown, folder / "videos", videos=videos, seed=seed, modes=modes)
            document = render_page(_page_data(key, shown, prompts=prompts, matches_loudness=matches_loudness), title=title)
            (folder / "index.html").write_text(document, encoding="utf-8")
            size_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            if output.exists():
                output.rmdir()
            with atomic_write(key_path) as beside:
                beside.write_text(key.model_dump_json(indent=1), encoding="utf-8")
    except OSError as error:
        key_path.unlink(missing_ok=True)
        raise MediaError(f"cannot write {output}: {error.strerror or error}.", "Choose another -o.") from error
    return ArenaPage(
        page=output,
        key=key_path,
        systems=tuple(listed),
        num_prompts=len({pair.name for pair in pairs}),
        num_pairs=len(pairs),
        num_checks=len(checks),
        num_late=sum(one.check is not None and one.check.kind == "late" for one in shown),
        size_bytes=size_bytes,
        notes=_notes(shown, wanted_checks, modes, faults),
    )


def render_page(data: Mapping[str, Any], *, title: str) -> str:
    """The page as one HTML document: no address outside its folder, and no script but its own will run.

    Args:
        data: ``arena``, ``modes`` and ``pairs``, as the page's script reads them. Its text may hold anything.
        title: Over the page.
    """
    folder = Path(__file__).parent
    script = "\n" + (folder / "page.js").read_text(encoding="utf-8").removesuffix("\n")  # as it stands in the page
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # in a script element only "<" can end the text early; ">" and "&" are for readers that know no better
    text = json.dumps(data, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return documents.render_page(folder / "page.html", {"script_hash": Markup(digest), "title": title, "data": Markup(text)})


@dataclass(frozen=True)
class _Shown:
    """A pair on the page: the opaque names of its two copies, and what they are copies of."""

    id: str
    left: str
    right: str
    left_video: Video
    right_video: Video
    check: Check | None = None


def _checked_output(output: Path) -> Path:
    """The key's path; refuse what cannot be written before any video is read."""
    if output.name in ("", "..") or not output.name.isprintable():
        raise MediaError(f"cannot write {str(output)!r}: give the page's folder a name.", "For example -o page.")
    folder, key_path = output.parent, output.with_name(f"{output.name}-key.json")
    if not folder.is_dir():
        raise MediaError(f"cannot write {output}: the folder {folder} does not exist.", f"Make it: mkdir -p {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise MediaError(f"cannot write {output}: the folder {folder} may not be written to.", "Choose another -o.")
    if output.is_symlink() or (output.exists() and (not output.is_dir() or any(output.iterdir()))):
        raise MediaError(f"cannot write {output}: it is there and not empty.", "Choose another -o, or remove it first.")
    if key_path.exists():
        raise MediaError(
            f"cannot write {output}: {key_path}, the key of another page, is beside it.",
            "Choose another -o; without its key the votes on that page mean nothing.",
        )
    return key_path


def _checked_modes(modes: Sequence[Mode]) -> tuple[Mode, ...]:
    unknown = [mode for mode in modes if mode not in MODES]
    if unknown or not modes:
        raise RequestError(f"mode must be one of {', '.join(MODES)}; got {', '.join(unknown) or 'none'}.", field="mode")
    return tuple(mode for mode in MODES if mode in modes)


def _fill(
    folder: Path,
    videos: Mapping[tuple[str, str], Video],
    *,
    pairs: Sequence[Pair],
    checks: Sequence[Check],
    seed: int,
    on_video: Callable[[], None],
) -> tuple[list[_Shown], list[MediaError]]:
    """Copy all videos under opaque names; the pairs in the order of the page, with the checks spread among them.

    Also returns why videos could not serve for a check with late audio.
    """
    generator = np.random.default_rng((seed, 2))
    files, ids = _opaque_names(generator, 8), _opaque_names(generator, 4)
    copies = {place: next(files) + videos[place].suffix for place in sorted(videos)}
    for place, copy in copies.items():
        copy_blind(videos[place].path, folder / copy)
        on_video()
    placed: list[tuple[float, _Shown]] = []
    for number, pair in enumerate(pairs):
        left, right = (pair.left, pair.name), (pair.right, pair.name)
        shown = _Shown(next(ids), copies[left], copies[right], videos[left], videos[right])
        placed.append((number + 0.5, shown))
    faults = []
    for number, check in enumerate(checks):
        video, suffix = check.video, check.video.suffix
        shown = _Shown(next(ids), next(files) + suffix, next(files) + suffix, video, video, check)
        try:
            _write_check(check, folder / shown.left, folder / shown.right)
        except MediaError as fault:
            faults.append(fault)
            shown = replace(shown, check=replace(check, kind="same"))
            _write_same(video, folder / shown.left, folder / shown.right)
        on_video()
        placed.append((float(generator.uniform(number, number + 1)) * len(pairs) / len(checks), shown))
    for path in folder.iterdir():
        same_times(path)
    return [shown for _, shown in sorted(placed, key=lambda item: item[0])], faults


def _opaque_names(generator: np.random.Generator, num_bytes: int) -> Iterator[str]:
    """Random names that do not repeat."""
    used: set[str] = set()
    while True:
        name = generator.bytes(num_bytes).hex()
        if name not in used:
            used.add(name)
            yield name


def _write_check(check: Check, left: Path, right: Path) -> None:
    if check.kind == "same":
        _write_same(check.video, left, right)
        return
    better, worse = (left, right) if check.is_better_left else (right, left)
    encoded = [path.with_name(f"encoded-{path.name}") for path in (better, worse)]
    try:
        write_late(check.video, *encoded)
        for source, target in zip(encoded, (better, worse), strict=True):
            copy_blind(source, target)
    finally:
        for path in encoded:
            path.unlink(missing_ok=True)


def _write_same(video: Video, left: Path, right: Path) -> None:
    copy_blind(video.path, left)
    shutil.copyfile(left, right)


def _key(
    shown: Sequence[_Shown],
    folder: Path,
    *,
    videos: Mapping[tuple[str, str], Video],
    seed: int,
    modes: tuple[Mode, ...],
) -> Key:
    system_of = {video.path: system for (system, _), video in videos.items()}
    pairs = tuple(
        KeyPair(
            id=one.id,
            prompt=one.left_video.path.stem,
            left=system_of[one.left_video.path],
            right=system_of[one.right_video.path],
            left_file=one.left,
            right_file=one.right,
            check=None if one.check is None else one.check.kind,
            answers={} if one.check is None else one.check.answers(modes),
        )
        for one in shown
    )
    # of what is seen and heard, so that another page of the same names is another arena
    digest = hashlib.sha256(json.dumps([seed, modes, [pair.model_dump() for pair in pairs]]).encode())
    for path in sorted(folder.iterdir()):
        digest.update(bytes.fromhex(hash_file(path)))
    systems = tuple(dict.fromkeys(system for system, _ in videos))
    return Key(arena=digest.hexdigest()[:16], seed=seed, modes=modes, systems=systems, pairs=pairs)


def _page_data(key: Key, shown: Sequence[_Shown], *, prompts: Mapping[str, str], matches_loudness: bool) -> dict[str, Any]:
    pairs = []
    for pair, one in zip(key.pairs, shown, strict=True):
        left, right = volumes(one.left_video.loudness_lufs, one.right_video.loudness_lufs) if matches_loudness else (1.0, 1.0)
        pairs.append(
            {
                "id": pair.id,
                "prompt": prompts[pair.prompt],
                "left": {"file": f"videos/{pair.left_file}", "volume": left},
                "right": {"file": f"videos/{pair.right_file}", "volume": right},
            }
        )
    return {"arena": key.arena, "modes": list(key.modes), "pairs": pairs}


def _notes(shown: Sequence[_Shown], num_checks: int, modes: Sequence[Mode], faults: Sequence[MediaError]) -> tuple[str, ...]:
    has_late = any(one.check is not None and one.check.kind == "late" for one in shown)
    if faults:
        return tuple(f"no check with late audio from this video: {fault.message}" for fault in faults)
    if num_checks and "both" in modes and not has_late:
        return ("no check with late audio: it needs a video that is heard and lasts 1.5 s; all checks show a video twice",)
    return ()
