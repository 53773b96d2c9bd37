"""First and last pictures as extra input channels of the video tower: how the official checkpoints are conditioned.

The channels are those of a mask, which pixel frames are given, with one channel for each frame of a latent (4), and the
latents of a video that holds the given pictures and mid-grey elsewhere (MOVA_SPEC 3.7). They are the same at every step, so
they are computed once a run.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from mova.timeline import frames_in_video_latents, video_latents_in_frames

TextOnlyPolicy = Literal["white", "unmasked"]

SAME = 1e-6  # largest difference of latents that count as equal, in parts of the largest value

_log = logging.getLogger(__name__)


def picture_tensor(picture: NDArray[np.uint8]) -> Tensor:
    """``[1, 3, H, W]`` float32 in [-1, 1] of a picture ``[H, W, 3]`` uint8."""
    return rearrange(torch.from_numpy(picture.copy()), "h w c -> 1 c h w").float() / 255.0 * 2.0 - 1.0


def image_condition(
    codec: Any,
    *,
    num_frames: int,
    image: Tensor | None = None,
    last_image: Tensor | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """The channels for a clip that begins with a picture, ends with one, or both.

    Of the video that is encoded, all but one or two frames are grey, and the latents of grey become constant once the
    picture is out of the encoder's sight: they are computed until then and repeated (:func:`count_settling_latents`). With
    the official codec and 193 frames that is 121 frames, or 63 % of the encoder's time and of the video's memory: at 720p,
    1.3 instead of 2.1 GB in float32. On a CPU the result is bit-equal to that of the whole video.

    Args:
        codec: The video codec, an ``AutoencoderKLWan`` or one with its interface.
        num_frames: Length of the clip: ``1 + stride k`` with the codec's stride.
        image: First frame, ``[B, 3, H, W]`` in [-1, 1].
        last_image: Last frame, likewise. Official MOVA was not trained with one, though its code can mark one; Wan's
            networks for first and last frames use just these channels.
        device: Device of the codec; its own device when None (a pipeline that offloads knows better).

    Returns:
        ``[B, stride + C, T, H / 8, W / 8]`` float32.

    Raises:
        ValueError: If no picture is given, or a size or length does not fit.
    """
    pictures = [picture for picture in (image, last_image) if picture is not None]
    if not pictures:
        raise ValueError("give image, last_image or both; text_only_condition is for neither.")
    if any(picture.ndim != 4 or picture.shape != pictures[0].shape for picture in pictures):
        raise ValueError(f"pictures must be [B, 3, H, W] and alike; got {[list(picture.shape) for picture in pictures]}.")
    video = _Video(num_frames, _stride(codec), tuple(pictures[0].shape), image, last_image)
    return _condition(codec, video, device=device)


def text_only_condition(
    codec: Any,
    policy: TextOnlyPolicy,
    *,
    num_frames: int,
    height: int,
    width: int,
    device: torch.device | None = None,
) -> Tensor:
    """The channels for a clip from a prompt alone, on a network that was trained with a first frame.

    ``"white"`` says that the first frame is white, as the authors advise (MOVA_SPEC 3.7). The network believes it: the clip
    begins white, and users report that about 40 % of clips are of one colour (MOVA_SPEC 5, issue 38).

    ``"unmasked"`` says that no frame is given: the mask is 0 everywhere and the video is grey throughout. Every latent frame
    then carries what every frame after the first carried in training, "to be made, grey beneath"; patches are embedded one
    by one and positions enter attention as differences, so the tokens are such as the network knows. New to MOVA is only
    that no frame at all is marked. Two things near to it speak for it and prove nothing: Wan's image-to-video pre-training
    mixed in interpolation between random frames (its paper as quoted in Wan-Video/Wan2.1, issue 283), where the first need
    not be given; and VideoX-Fun's Wan networks with these channels, which were trained for it, make videos from text with a
    mask of zeros (and zeros in place of grey's latents). Tested is that this is the image path with another mask, and that
    it depends on no picture. How good the clips are on the released weights is not measured.

    Args:
        codec: The video codec.
        policy: ``"white"`` or ``"unmasked"``.
        num_frames: Length of the clip: ``1 + stride k`` with the codec's stride.
        height: Height in pixels.
        width: Width in pixels.
        device: Device of the codec; its own device when None.

    Returns:
        ``[1, stride + C, T, height / 8, width / 8]`` float32.

    Raises:
        ValueError: If the policy is unknown, or a size or length does not fit.
    """
    if policy not in get_args(TextOnlyPolicy):
        raise ValueError(f"policy must be one of {', '.join(get_args(TextOnlyPolicy))}; got {policy!r}.")
    white = torch.ones(1, 3, height, width) if policy == "white" else None
    return _condition(codec, _Video(num_frames, _stride(codec), (1, 3, height, width), white, None), device=device)


def build_frames_mask(num_frames: int, *, stride: int, has_first: bool, has_last: bool) -> Tensor:
    """``[stride, T]`` float32: 1 where a pixel frame is given, folded as the codec folds frames.

    Channel c of latent frame i > 0 is the c-th pixel frame of that latent; the first pixel frame fills all channels of latent
    frame 0. So a given last frame marks the last channel of the last latent frame alone.

    Args:
        num_frames: Length of the clip, ``1 + stride k``.
        stride: Frames per video latent after the first.
        has_first: Whether the first frame is given.
        has_last: Whether the last frame is given.

    Raises:
        ValueError: If ``num_frames`` is not ``1 + stride k``, or a last frame is given to a single one.
    """
    video_latents_in_frames(num_frames, stride)
    if has_last and num_frames == 1:
        raise ValueError("a clip of one frame has no last frame beside the first.")
    given = torch.zeros(num_frames)
    given[0], given[-1] = float(has_first), float(has_last) if num_frames > 1 else float(has_first)
    folded = torch.cat([given[:1].expand(stride), given[1:]])
    return rearrange(folded, "(t c) -> c t", c=stride)


def count_settling_latents(config: Mapping[str, Any]) -> int | None:
    """Latent frames of an ``AutoencoderKLWan`` that see the first pixel frame; all later ones of a video that does not change
    after it are equal. ``None`` where the configuration is of another network.

    Counted in frames of the level at hand, from the input on: a causal convolution of three taps lets the first frame reach
    two further; halving the rate (taps ``2 p - 2 ... 2 p``) brings a reach of n to ``ceil(n / 2) + 1``; attention and norms
    stay within a frame. The official codec: 29 latents, 113 frames.
    """
    needed = ("dim_mult", "num_res_blocks", "temperal_downsample")
    if any(config.get(name) is None for name in needed) or config.get("is_residual") or config.get("patch_size"):
        return None
    if len(config["temperal_downsample"]) != len(config["dim_mult"]) - 1:
        return None
    convolutions_per_block = 2
    reach = 1 + 2  # the frame itself, then the convolution at the input
    for halves in (*config["temperal_downsample"], False):
        reach += 2 * convolutions_per_block * config["num_res_blocks"]
        if halves:
            reach = -(-reach // 2) + 1
    middle_blocks = 2
    return int(reach + 2 * convolutions_per_block * middle_blocks + 2)


@dataclass(frozen=True, eq=False)
class _Video:
    """A grey video with what is given of it; ``shape`` is that of a frame, ``(B, 3, H, W)``."""

    num_frames: int
    stride: int
    shape: tuple[int, ...]
    first: Tensor | None
    last: Tensor | None

    def cut_to(self, num_latents: int) -> _Video:
        """The same with less grey, or more."""
        return replace(self, num_frames=frames_in_video_latents(num_latents, self.stride))

    def pixels(self, device: torch.device, dtype: torch.dtype) -> Tensor:
        """``[B, 3, num_frames, H, W]``."""
        batch, channels, height, width = self.shape
        pixels = torch.zeros(batch, channels, self.num_frames, height, width, device=device, dtype=dtype)
        for index, picture in ((0, self.first), (-1, self.last)):
            if picture is not None:
                pixels[:, :, index] = picture.to(device, dtype)
        return pixels


@torch.no_grad()
def _condition(codec: Any, video: _Video, *, device: torch.device | None) -> Tensor:
    edges = {"has_first": video.first is not None, "has_last": video.last is not None}
    mask = build_frames_mask(video.num_frames, stride=video.stride, **edges)
    latents = _normalise(codec, _encode(codec, video, codec.device if device is None else device))
    batch, _, frames, height, width = latents.shape
    if frames != mask.shape[1]:
        raise ValueError(f"the codec made {frames} latents of {video.num_frames} frames; these channels need {mask.shape[1]}.")
    shown = mask.to(latents)[None, :, :, None, None].expand(batch, -1, -1, height, width)
    return torch.cat([shown, latents], dim=1)


def _encode(codec: Any, video: _Video, device: torch.device) -> Tensor:
    """Latents of the video, of which no more is encoded than differs."""
    reach = count_settling_latents(codec.config)
    num_latents, tail = video_latents_in_frames(video.num_frames, video.stride), int(video.last is not None)
    if reach is None or num_latents <= reach + 2 + tail:
        return _encode_whole(codec, video, device)
    # two latents beyond the reach, so that they can be compared; and one that holds the last picture
    latents = _encode_whole(codec, video.cut_to(reach + 2 + tail), device)
    one, other = latents[:, :, reach : reach + 1], latents[:, :, reach + 1 : reach + 2]
    if float((one - other).abs().max()) > SAME * float(other.abs().max()):
        _log.warning("the codec's latents are not constant after %d; the whole video is encoded.", reach)
        return _encode_whole(codec, video, device)
    grey = other.expand(-1, -1, num_latents - latents.shape[2], -1, -1)
    return torch.cat([latents[:, :, : reach + 2], grey, latents[:, :, reach + 2 :]], dim=2)


def _encode_whole(codec: Any, video: _Video, device: torch.device) -> Tensor:
    latents: Tensor = codec.encode(video.pixels(device, codec.dtype)).latent_dist.mode()
    return latents.float()


def _normalise(codec: Any, latents: Tensor) -> Tensor:
    mean, std = codec.config.get("latents_mean"), codec.config.get("latents_std")
    if mean is None or std is None:
        return latents
    shape = (1, -1, 1, 1, 1)
    return (latents - latents.new_tensor(mean).view(shape)) / latents.new_tensor(std).view(shape)


def _stride(codec: Any) -> int:
    """Frames per video latent after the first."""
    return int(codec.config.scale_factor_temporal)
