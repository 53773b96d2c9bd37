"""Cues as extra input channels of the video tower: what happens when, on the video's own clock.

A prompt says what happens and how often, and leaves open when. A cue determines that: an instant and a label. Structured times
beside the text are how audio generators are made to keep number and order (Make-An-Audio 2, arXiv 2305.18474; PicoAudio,
arXiv 2407.02869). Only the video tower has these channels; they reach the audio over the bridge, as everything seen does.

The channels are constant over the picture: one that says that cues are given (all else 0 means that none are); one per frame
of the latent, with 1 shared by the two frames nearest to the instant; and one per label, likewise, without regard to the
frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor

from mova.timeline import frames_in_video_latents, frames_of_latent, latent_of_frame

Instant = tuple[float, str]
"""Seconds from the start of the video, and a label; ``""`` for none."""


def num_cue_channels(num_labels: int, *, stride: int) -> int:
    """Channels of a network that knows ``num_labels`` labels and whose codec folds ``stride`` frames into a latent."""
    return 1 + stride + num_labels


def cue_condition(
    cues: Sequence[Instant] | None, labels: Sequence[str], *, num_latents: int, fps: Fraction | float, stride: int
) -> Tensor:
    """``[1 + stride + labels, num_latents]`` float32.

    Args:
        cues: Cues in any order; ``None`` where the times of events are left open, which is not the same as no cues.
        labels: Labels that the network knows, in its order.
        num_latents: Video latents of the clip.
        fps: Frames per second.
        stride: Frames per latent; the first latent stands for one frame, which fills all of its channels.

    Raises:
        ValueError: If a label is unknown or an instant is not within the clip.
    """
    channels = torch.zeros(num_cue_channels(len(labels), stride=stride), num_latents)
    if cues is None:
        return channels
    channels[0] = 1.0
    last = frames_in_video_latents(num_latents, stride) - 1
    for time_s, label in cues:
        position = time_s * float(fps)
        if not 0.0 <= position < last + 1:
            raise ValueError(f"a cue must be within the clip of {(last + 1) / float(fps):g} s; got {time_s:g} s.")
        if label and label not in labels:
            raise ValueError(f"there is no cue {label!r}; known are {', '.join(labels)}.")
        frame, share = int(position), position - int(position)
        for near, weight in ((frame, 1.0 - share), (min(frame + 1, last), share)):
            latent = latent_of_frame(near, stride)
            place = frames_of_latent(latent, stride).index(near)
            channels[slice(1, 1 + stride) if latent == 0 else 1 + place, latent] += weight
            if label:
                channels[1 + stride + labels.index(label), latent] += weight
    return channels
