"""``mova sync``: how far the audio of a video is from its picture."""

from __future__ import annotations

from pathlib import Path

from mova.cli import console
from mova.cli.generate import check_picture_target, save_picture
from mova.cli.options import with_flag_names
from mova.errors import RequestError
from mova.lab.sync.crosscheck import AGREES_MS
from mova.lab.sync.result import VideoSync


def run(path: Path, *, kind: str | None, plot: Path | None, is_json: bool) -> None:
    """Measure a video and say what was found; that it is unknown is an answer, not an error.

    Raises:
        MediaError: If the video cannot be read, or the plot not written.
        RequestError: If there is no such kind.
    """
    from mova.lab.sync.measure import measure, read_video

    if plot is not None:
        check_picture_target(plot, "--plot")
    video = read_video(path)
    try:
        sync = measure(video, kind=kind)
    except RequestError as problem:
        raise with_flag_names(problem) from None
    if plot is not None:
        from mova.lab.sync.plot import sync_plot

        save_picture(sync_plot(sync, video, title=path.name), plot, "--plot")
    if is_json:
        repaired = {"repaired": list(video.list_repairs())} if video.list_repairs() else {}
        console.facts_json({"file": str(path), **sync.as_dict(), **repaired})
        return
    console.fact(f"{path}  {sync.verdict}: {sync.why}")
    for line in (*_details(sync), *(f"repaired: {repair}" for repair in video.list_repairs())):
        console.fact(f"  {line}")


def _details(sync: VideoSync) -> list[str]:
    counts = f"{len(sync.seen_s)} event{'' if len(sync.seen_s) == 1 else 's'} seen, {len(sync.heard_s)} heard"
    read_as = f"read as {sync.read_as}"
    if sync.offset_ms is None:
        return [f"{counts}, {read_as}"]
    assert sync.mad_ms is not None
    offset = f"offset {sync.offset_ms:+.1f} ms, "
    if sync.offset_interval_ms is None:
        offset += "too few pairs for an interval; + is late"
    else:
        low, high = sync.offset_interval_ms
        offset += f"95 % {low:+.1f} to {high:+.1f}, spread {sync.mad_ms:.1f} ms; + is late"
    doubt = "" if sync.is_sure or sync.verdict == "cannot tell" else "; the verdict is not sure"
    pairs = console.count(sync.num_events, "pair")
    lines = [offset + doubt, f"{pairs} from {counts}, {read_as}"]
    if sync.drift_ms_per_s is not None and sync.drift_interval_ms_per_s is not None:
        low, high = sync.drift_interval_ms_per_s
        lines.append(f"drift {sync.drift_ms_per_s:+.2f} ms/s, 95 % {low:+.2f} to {high:+.2f}")
    if sync.correlation_ms is not None:
        says = {True: "agrees", False: "contradicts this", None: "says too little"}[sync.correlation_agrees]
        lines.append(f"correlation of change and onsets, to {AGREES_MS:.0f} ms: {sync.correlation_ms:+.0f} ms {says}")
    if sync.beat_s is not None:
        lines.append(f"the video beats every {sync.beat_s:.2f} s: the offset is known but for multiples of it")
    return lines
