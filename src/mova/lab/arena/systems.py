"""The videos of the systems that are compared: found, judged fit, and what was asked of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mova.errors import MediaError, RequestError
from mova.lab.arena.blind import Video, inspect_video, list_videos
from mova.lab.arena.votes import Mode

_NAMED_AT_MOST = 5


def videos_of_systems(folders: Sequence[Path]) -> dict[str, dict[str, Path]]:
    """Videos by system and stem; every system has the same stems.

    Args:
        folders: One for each system; its name is the system's, or its path where two have the same name.

    Raises:
        RequestError: If there are not two, or they do not fit together.
        MediaError: If a folder cannot be read.
    """
    if len(folders) < 2:
        raise RequestError(f"an arena needs the folders of two systems; got {len(folders)}.", "Give two or more folders.")
    real = [folder.resolve() for folder in folders]
    names = [path.name for path in real]
    listed: dict[str, dict[str, Path]] = {}
    for number, folder in enumerate(folders):
        if real[number] in real[:number]:
            raise RequestError(f"the folder {folder} is given twice.", "Give each system once.")
        system = str(folder) if names.count(names[number]) > 1 or not names[number] else names[number]
        if not system.isprintable() or len(system) > 200:
            raise RequestError(f"{system!r} cannot be the name of a system.", "Rename the folder.")
        listed[system] = list_videos(folder)
    every = set().union(*listed.values())
    lacking = {system: sorted(every - set(videos)) for system, videos in listed.items() if every - set(videos)}
    if lacking:
        named = "; ".join(f"{system} lacks {_few(names)}" for system, names in lacking.items())
        raise RequestError(
            f"the systems do not have videos of the same names: {named}.", "Make these, or move the others aside."
        )
    return listed


def inspect_videos(
    paths: Mapping[tuple[str, str], Path], modes: Sequence[Mode], *, on_video: Callable[[], None]
) -> dict[tuple[str, str], Video]:
    """All videos by system and stem; all that cannot be judged are reported at once.

    Args:
        paths: By system and stem.
        modes: What raters may judge.
        on_video: Called after each.

    Raises:
        MediaError: If videos cannot be judged; names the first few of them.
    """
    videos, faults = {}, []
    for place, path in paths.items():
        try:
            videos[place] = inspect_video(path, needs_audio=any(mode != "picture" for mode in modes))
        except MediaError as fault:
            faults.append(fault)
        on_video()
    if len(faults) == 1:
        raise faults[0]
    if faults:
        named = " ".join(fault.message for fault in faults[:_NAMED_AT_MOST])
        more = f" And {len(faults) - _NAMED_AT_MOST} more." if len(faults) > _NAMED_AT_MOST else ""
        raise MediaError(f"{len(faults)} videos cannot be judged: {named}{more}", faults[0].hint)
    return videos


def collect_prompts(videos: Mapping[tuple[str, str], Video]) -> dict[str, str]:
    """What is shown over each pair: the prompt that its videos carry, or else their stem.

    Raises:
        RequestError: If two videos of a name were made from different prompts.
    """
    found: dict[str, dict[str, Path]] = {name: {} for _, name in videos}
    for (_, name), video in videos.items():
        if video.prompt is not None:
            found[name].setdefault(video.prompt, video.path)
    for prompts in found.values():
        if len(prompts) > 1:
            (first, first_path), (second, second_path) = list(prompts.items())[:2]
            raise RequestError(
                f"{first_path} and {second_path} were made from different prompts: {first[:100]!r} and {second[:100]!r}.",
                "Videos of the same name must be made from the same prompt.",
            )
    return {name: next(iter(prompts), name) for name, prompts in found.items()}


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED_AT_MOST} more" if len(names) > _NAMED_AT_MOST else ""
    return ", ".join(names[:_NAMED_AT_MOST]) + more
