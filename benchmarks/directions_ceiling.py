"""The most that ``directions.py`` can measure of what goes on from given frames: rendered videos through the video codec.

    python benchmarks/directions_ceiling.py          # a minute on one core

The videos are those of ``directions.py``. Each goes through the codec, the given frames are put back as they were, and the same
measures are taken: what is lost here, no network can give back.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from directions import FPS, Case, ModelSpec, canvas, loaded, rendered
from directions_measures import Pixels, continuity, holds, still_there
from rich.console import Console

from mova.conditioning.given import Given, given_beginning, given_pictures, given_video, paste_back
from mova.lab.documents import machine, write_json
from mova.media.clip import Clip

ROOT = Path(__file__).parents[1]


def first_frame(case: Case) -> Given:
    """The first frame."""
    return given_pictures(canvas(), {0: case.truth.frames[0]})


def key_frame(case: Case) -> Given:
    """A frame in the middle."""
    return given_pictures(canvas(), {16: case.truth.frames[16]})


def beginning(case: Case) -> Given:
    """The first 17 frames."""
    half = Clip(case.truth.frames[:17], case.truth.waveform[:, :17000], case.truth.fps, case.truth.sample_rate)
    return given_beginning(canvas(), half)


# what of a video and the true one
MEASURES: dict[str, tuple[Callable[[Case], Given], Callable[[Pixels, Pixels], float]]] = {
    "first_frame: kept in the next frame": (first_frame, lambda video, truth: float(holds(video, truth))),
    "first_frame: still there in the next four": (
        first_frame,
        lambda video, truth: still_there(video, truth, num_frames=4)["still there"],
    ),
    "key_frame: motion through it continuous": (
        key_frame,
        lambda video, truth: continuity(video, (15, 16), truth)["continuous"],
    ),
    "extend: goes on, pixel by pixel": (beginning, lambda video, truth: continuity(video, (16,), truth)["continuous"]),
}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="mova-base", help="name or folder of the model")
    parser.add_argument("--per-kind", type=int, default=3, help="videos per kind")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "directions_ceiling.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    maker = loaded(arguments.checkpoint, None, 0.0)
    cases = rendered(maker.model.capabilities.kinds, arguments.per_kind, 1)
    copies = [through_codec(maker, case) for case in cases]
    console, results = Console(width=160), {}
    for name, (given, measure) in MEASURES.items():
        shares: dict[str, list[float]] = {}
        for case, copy in zip(cases, copies, strict=True):
            joined = paste_back(copy, given(case), audio=None, timeline=maker.model.capabilities.timeline(FPS))
            shares.setdefault(case.script.kind, []).append(float(measure(joined.frames, case.truth.frames)))
        by_kind = {kind: float(np.mean(values)) for kind, values in shares.items()}
        results[name] = {"all": float(np.mean(list(by_kind.values()))), **by_kind}
        less = ", ".join(f"{kind} {value:.2f}" for kind, value in by_kind.items() if value < 1)
        console.print(f"{name}: {results[name]['all']:.2f} ({less or 'all kinds 1.00'})", highlight=False)
    made = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(arguments.output, {"made": made, "machine": machine(), "films": len(cases), "shares": results})


@torch.no_grad()
def through_codec(maker: ModelSpec, case: Case) -> Clip:
    """The rendered video as the codec gives it back."""
    given = given_video(canvas(), case.truth.frames).frames
    video = torch.from_numpy(np.ascontiguousarray(given)).permute(3, 0, 1, 2)[None].float() / 127.5 - 1.0
    back = maker.model.pipeline.codecs.decode_video(maker.model.pipeline.codecs.encode_video(video))[0]
    frames = ((back.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 3, 0).numpy()
    return Clip(frames, case.truth.waveform, case.truth.fps, case.truth.sample_rate)


if __name__ == "__main__":
    main()
