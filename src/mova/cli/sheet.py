"""``mova sheet``: a video or audio-visual file drawn as one picture."""

from __future__ import annotations

from pathlib import Path

from mova.cli import console
from mova.cli.generate import check_picture_target, save_picture


def run(file: Path, output: Path | None) -> None:
    """Draw frames, waveform and spectrogram of a file, with ticks at its cues.

    Raises:
        MediaError: If the file cannot be read, or the picture not written.
    """
    from mova.media.decode import read_clip

    target = output or file.with_suffix(".png")
    check_picture_target(target, "--output")
    clip = read_clip(file)
    prompt = (clip.request or {}).get("prompt")
    save_picture(clip.sheet(title=prompt if isinstance(prompt, str) else file.name), target, "--output")
    console.fact(f"{target}  {console.count(clip.num_frames, 'frame')} of {file.name}")
