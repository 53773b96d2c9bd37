"""First and last frames for checkpoints that take them as input channels: what they need is refused before any work."""

from __future__ import annotations

from mova.conditioning.given import Given
from mova.errors import RequestError
from mova.request.capabilities import Capabilities, grid_frames
from mova.request.schema import TextOnly


def check_first_frame(given: Given, capabilities: Capabilities, *, num_frames: int, text_only: TextOnly | None) -> None:
    """Refuse what a checkpoint that was trained with a first frame cannot make; and ``text_only`` for one that was not.

    Args:
        given: What is given of the clip, references before it included.
        capabilities: What the model can make.
        num_frames: Length of the clip, references before it included.
        text_only: Stand-in for a first frame that is not given.

    Raises:
        RequestError: If no first frame is given and ``text_only`` does not say what takes its place, the last frame is not
            the codec's last, or ``text_only`` has nothing to do.
    """
    if not capabilities.needs_first_frame:
        if text_only is not None:
            raise RequestError(f"{capabilities.name} needs no first frame: text_only has nothing to do.", field="text_only")
        return
    if given.first_frame is None and text_only is None:
        raise RequestError(
            "this model was trained with a first frame, and none is given.",
            "Give an image, or say text_only=white (a white first frame) or text_only=unmasked (none).",
            field="image",
        )
    legal = grid_frames(capabilities, num_frames)
    if given.last_still is not None and (given.first_frame is None or num_frames != legal):
        raise RequestError(
            f"this model takes a last frame only with a first one, in a clip of 1 + {capabilities.video_stride} k frames.",
            f"Give both, and ask for {legal} frames.",
            field="last_image",
        )
