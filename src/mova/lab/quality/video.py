"""How good a picture is, as far as it can be said without learned weights.

``flicker`` is VBench's temporal flickering, to the letter. Motion and jerk are this project's own: VBench uses RAFT for its
dynamic degree, and no number made with another flow may carry that name.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
from einops import rearrange, reduce
from scipy.ndimage import laplace

from mova.lab.quality import from_extra

Frames = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class VideoQuality:
    """One video's picture.

    Args:
        flicker: VBench's temporal flickering, 1 for a still picture; fair only where the camera stands still.
        motion_px_s: Mean length of the flow, in pixels per second of a picture whose short side has 128.
        jerk_px_s3: Mean size of its second change over time: pixels per cubed second of the same picture. nan below 4 frames.
        still_ratio: Share of frames that are as good as the one before.
        black_ratio: Share of black frames.
        blur: Variance of the Laplacian of the grey picture at 128 pixels, mean over frames: below 60 is soft.
        blockiness: Mean step across the borders of 8 x 8 blocks over the mean step inside them; 1 without blocks.
        luma: Mean brightness, 0 to 255.
        contrast: Standard deviation of the brightness within a frame, mean over frames.
        crushed_ratio: Share of pixels at 0 to 2.
        blown_ratio: Share of pixels at 253 to 255.
    """

    flicker: float
    motion_px_s: float
    jerk_px_s3: float
    still_ratio: float
    black_ratio: float
    blur: float
    blockiness: float
    luma: float
    contrast: float
    crushed_ratio: float
    blown_ratio: float

    def as_dict(self) -> dict[str, float | None]:
        """Plain JSON values; nan becomes None."""
        return {name: float(value) if np.isfinite(value) else None for name, value in asdict(self).items()}


def video_quality(frames: Frames, fps: float) -> VideoQuality:
    """Measure a picture.

    Args:
        frames: ``[T, H, W, 3]`` uint8.
        fps: Frames per second.

    Raises:
        ValueError: If there are fewer than two frames.
        MissingExtraError: If OpenCV is not installed.
    """
    if frames.ndim != 4 or frames.dtype != np.uint8 or len(frames) < 2:
        raise ValueError(f"video_quality needs at least two frames [T, H, W, 3] uint8; got {list(frames.shape)}.")
    grey = grey_pictures(frames)
    small = pool_pictures(grey)
    motion_px_s, jerk_px_s3 = motion(small, fps)
    change = np.abs(np.diff(small, axis=0)).mean((1, 2))
    return VideoQuality(
        flicker=temporal_flicker(frames),
        motion_px_s=motion_px_s,
        jerk_px_s3=jerk_px_s3,
        still_ratio=float((change < _SAME).mean()),
        black_ratio=float((np.quantile(rearrange(small, "t h w -> t (h w)"), 0.99, axis=1) < _BLACK).mean()),
        blur=float(np.mean([laplace(picture).var() for picture in small])),
        blockiness=blockiness(grey),
        luma=float(grey.mean()),
        contrast=float(grey.std(axis=(1, 2)).mean()),
        crushed_ratio=float((grey <= 2.0).mean()),
        blown_ratio=float((grey >= 253.0).mean()),
    )


def temporal_flicker(frames: Frames) -> float:
    """VBench's temporal flickering: ``(255 - mean |f_t - f_(t+1)|) / 255`` over all pixels, channels and pairs.

    Huang et al. 2024, "VBench" (``vbench/temporal_flickering.py``). 1 for a still picture: it rewards videos in which
    nothing happens.

    Raises:
        ValueError: If there are fewer than two frames.
    """
    if len(frames) < 2:
        raise ValueError(f"temporal_flicker needs at least two frames; got {len(frames)}.")
    # uint8 wraps around, but the larger less the smaller does not
    steps = [float((np.maximum(one, two) - np.minimum(one, two)).mean()) for one, two in zip(frames, frames[1:], strict=False)]
    return (255.0 - float(np.mean(steps))) / 255.0


def motion(small: Floats, fps: float) -> tuple[float, float]:
    """Speed and jerk of what is seen, in pixels of ``small`` scaled to a short side of 128.

    Args:
        small: ``[T, h, w]`` grey pictures.
        fps: Frames per second.

    Returns:
        Mean length of the flow per second, and mean length of its second difference per cubed second.
    """
    scale = _SHORT_SIDE / min(small.shape[1:])
    flow = np.stack([optical_flow(one, two) for one, two in zip(small, small[1:], strict=False)]) * scale
    jerk = np.diff(flow, n=2, axis=0) if len(flow) > 2 else np.full((1, 1, 1, 2), np.nan)
    return float(np.linalg.norm(flow, axis=-1).mean() * fps), float(np.linalg.norm(jerk, axis=-1).mean() * fps**3)


def optical_flow(first: Floats, second: Floats) -> Floats:
    """``[H, W, 2]`` where each pixel of a grey picture ``[H, W]`` is found in the next: pixels to the right and down.

    OpenCV's ``calcOpticalFlowFarneback`` (Farneback 2003, "Two-frame motion estimation based on polynomial expansion") with
    the values of its own example, which AV-Align and most motion scores use.

    Raises:
        MissingExtraError: If OpenCV is not installed.
    """
    cv2 = from_extra("cv2")
    return np.asarray(cv2.calcOpticalFlowFarneback(first, second, None, 0.5, 3, 15, 3, 5, 1.2, 0))


def blockiness(grey: Floats) -> float:
    """Mean step across the borders of 8 x 8 blocks over the mean step within them; 1 without blocks, nan if all is flat.

    After Wang, Sheikh and Bovik 2002, "No-reference perceptual quality assessment of JPEG compressed images".

    Args:
        grey: ``[T, H, W]``.
    """
    across, within = 0.0, 0.0
    for axis in (1, 2):
        step = np.abs(np.diff(grey, axis=axis)).mean(axis=0).mean(axis=2 - axis)
        border = (np.arange(step.size) + 1) % 8 == 0
        if not border.any():
            return float("nan")
        across += float(step[border].mean())
        within += float(step[~border].mean())
    return across / within if within > 0.0 else float("nan")


def grey_pictures(frames: Frames) -> Floats:
    """``[T, H, W]`` float32 luma (BT.601, as OpenCV's grey) of ``[T, H, W, 3]`` uint8."""
    grey = np.empty(frames.shape[:3], np.float32)
    for index, frame in enumerate(frames):
        grey[index] = frame.astype(np.float32) @ _GREY
    return grey


def pool_pictures(grey: Floats) -> Floats:
    """``[T, h, w]`` means over whole squares, so that the short side has 128 pixels or a little more."""
    pool = max(1, min(grey.shape[1:]) // _SHORT_SIDE)
    height, width = (size // pool * pool for size in grey.shape[1:])
    return reduce(grey[:, :height, :width], "t (h a) (w b) -> t h w", "mean", a=pool, b=pool)


_GREY = np.array([0.299, 0.587, 0.114], np.float32)
_SHORT_SIDE = 128
_SAME, _BLACK = 0.03, 12.0
