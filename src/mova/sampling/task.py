"""A task is a noise map: which latents are given, and how noisy each may become.

A token at level 0 is given and stays as it is; a token at level 1 is made from noise; one between joins the
run when the schedule has come down to its level, and so is changed only that far. To write a new task, fill
the two maps and the given latents: no other part of the library has to know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from typing import Literal

import torch
from torch import Tensor

from mova.timeline import Number, Timeline, frames_in_seconds


@dataclass(frozen=True)
class Grid:
    """The latent grids of a clip.

    Args:
        frames: Latent frames T.
        height: Latent rows H.
        width: Latent columns W.
        audio_length: Audio latents L.
    """

    frames: int
    height: int
    width: int
    audio_length: int


@dataclass(frozen=True, eq=False)
class Task:
    """What is given and what is to be made.

    Args:
        video_level: ``[T, H, W]`` float32: the highest noise level of each video latent; 0 is given.
        audio_level: ``[L]`` float32, likewise.
        video: Given latents ``[C, T, H, W]`` or ``[B, C, T, H, W]``, normalised; ``None`` where every level
            is 1.
        audio: Given latents ``[C, L]`` or ``[B, C, L]``, likewise.
        video_condition: Channels ``[C', T, H, W]`` or ``[B, C', T, H, W]`` that are appended to the noisy
            video at the network's door, for checkpoints that condition so.
        only: The one modality that is wanted. Each is made with the other in any case, as the network has learnt to make
            them; what is not wanted is left out of the file (:meth:`mova.media.clip.Clip.save`).

    Raises:
        ValueError: If a level is outside [0, 1], a shape does not fit, a level below 1 has nothing given, or nothing of
            what alone is wanted is made.
    """

    video_level: Tensor
    audio_level: Tensor
    video: Tensor | None = None
    audio: Tensor | None = None
    video_condition: Tensor | None = None
    only: Literal["audio", "video"] | None = None

    def __post_init__(self) -> None:
        _check("video", self.video_level, self.video, dims=3)
        _check("audio", self.audio_level, self.audio, dims=1)
        wanted = {"audio": self.audio_level, "video": self.video_level}
        if self.only is not None and not bool((wanted[self.only] > 0).any()):
            raise ValueError(f"only the {self.only} is wanted, and all of it is given.")

    @property
    def grid(self) -> Grid:
        """The latent grids."""
        frames, height, width = self.video_level.shape
        return Grid(frames=frames, height=height, width=width, audio_length=len(self.audio_level))

    def to(self, device: torch.device) -> Task:
        """The same on a device."""
        tensors = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "only"}
        return replace(self, **{name: tensor.to(device) for name, tensor in tensors.items() if tensor is not None})


def text(grid: Grid) -> Task:
    """Everything is made: from a prompt to a clip."""
    return masked(*_everything(grid))


def text_to_audio(grid: Grid) -> Task:
    """Everything is made, and the audio alone is wanted: from a prompt to audio."""
    return replace(text(grid), only="audio")


def text_to_video(grid: Grid) -> Task:
    """Everything is made, and the video alone is wanted: from a prompt to a silent video."""
    return replace(text(grid), only="video")


def first_frame(grid: Grid, image: Tensor) -> Task:
    """The first latent frame is given.

    Args:
        grid: Of the clip.
        image: Its latents ``[C, 1, H, W]`` or ``[B, C, 1, H, W]``, normalised; or those of several first frames.

    Raises:
        ValueError: If there are more than the clip has.
    """
    return _with_pictures(grid, {0: image})


def last_frame(grid: Grid, image: Tensor) -> Task:
    """The last latent frame is given; ``image`` as for :func:`first_frame`, of a picture that stands still for a latent."""
    return _with_pictures(grid, {grid.frames - 1: image})


def key_frames(grid: Grid, images: Mapping[Number, Tensor], *, timeline: Timeline) -> Task:
    """The latents that hold some moments are given.

    Args:
        grid: Of the clip.
        images: Seconds to latents as for :func:`last_frame`.
        timeline: The clip's clock.

    Raises:
        ValueError: If a time is outside the clip, or two are in one latent.
    """
    last = timeline.frames_of_latents(grid.frames) - 1
    found: dict[int, Tensor] = {}
    for time_s, image in images.items():
        frame = round(_exact(time_s) * timeline.fps)
        if not 0 <= frame <= last:
            raise ValueError(f"a picture is given at {float(time_s):g} s; the clip's last frame is at {last / timeline.fps} s.")
        latent = timeline.latent_of_frame(frame)
        if latent in found:
            raise ValueError(f"two pictures are given for the latent that holds {float(time_s):g} s.")
        found[latent] = image
    return _with_pictures(grid, found)


def video_to_audio(grid: Grid, video: Tensor) -> Task:
    """The video is given, its audio is made.

    Args:
        grid: Of the clip.
        video: Latents ``[C, T, H, W]`` or ``[B, C, T, H, W]``, normalised.
    """
    makes_video, makes_audio = _everything(grid)
    return masked(~makes_video, makes_audio, video=video)


def audio_to_video(grid: Grid, audio: Tensor) -> Task:
    """The audio is given, a video to it is made.

    Args:
        grid: Of the clip.
        audio: Latents ``[C, L]`` or ``[B, C, L]``, normalised.
    """
    makes_video, makes_audio = _everything(grid)
    return masked(makes_video, ~makes_audio, audio=audio)


def reference(grid: Grid, images: Sequence[Tensor]) -> Task:
    """Pictures are given before the clip, which goes on from them and does not hold them (VACE, arXiv 2503.07598).

    Args:
        grid: Of the clip and what is before it, whose ``timeline.frames_of_latents(len(images))`` frames are left out of the
            result (:meth:`mova.media.clip.Clip.without_beginning`).
        images: Latents of each as for :func:`last_frame`; the first as for :func:`first_frame`.

    Raises:
        ValueError: If there is no picture, or no latent of the clip is left.
    """
    if not 0 < len(images) < grid.frames:
        raise ValueError(f"{len(images)} references leave nothing of {grid.frames} latent frames, or there is none.")
    return _with_pictures(grid, dict(enumerate(images)))


def extend(video: Tensor, audio: Tensor, *, seconds: Number, timeline: Timeline, at: Literal["end", "start"] = "end") -> Task:
    """A clip is given, and something is made after or before it.

    At the start, the clip's first frame is made too: a causal codec's first latent stands for one frame, and no such
    latent is inside a clip.

    Args:
        video: Latents of the clip, ``[C, T, H, W]`` or ``[B, C, T, H, W]``, normalised.
        audio: ``[C, L]`` or ``[B, C, L]``, likewise.
        seconds: How much is added; the codec's next legal length is made.
        timeline: The clock.
        at: Where it is added.

    Raises:
        ValueError: If the clip's audio latents would lie between those of the longer clip.
    """
    old = timeline.frames_of_latents(video.shape[-3])
    new = timeline.next_legal_frames(old + frames_in_seconds(seconds, timeline.fps))
    added, total = timeline.video_latents(new) - video.shape[-3], timeline.audio_latents(new)
    # a last audio latent that goes beyond the clip's end is not given
    whole = min(audio.shape[-1], timeline.samples(old) // timeline.audio_hop)
    makes_video = torch.ones(timeline.video_latents(new), *video.shape[-2:], dtype=torch.bool)
    makes_audio = torch.ones(total, dtype=torch.bool)
    if at == "end":
        makes_video[: video.shape[-3]] = False
        makes_audio[:whole] = False
        return masked(makes_video, makes_audio, video=_placed(video, len(makes_video), 0, axis=-3),
                      audio=_placed(audio[..., :whole], total, 0, axis=-1))  # fmt: skip
    shift = timeline.samples(new) - timeline.samples(old)
    if shift % timeline.audio_hop:
        raise ValueError(
            f"{added} video latents before the clip last {shift} samples, which is no whole number of audio latents of "
            f"{timeline.audio_hop}; add another length."
        )
    first = shift // timeline.audio_hop
    makes_video[1 + added :] = False
    makes_audio[first : first + whole] = False
    return masked(makes_video, makes_audio, video=_placed(video, len(makes_video), added, axis=-3),
                  audio=_placed(audio[..., :whole], total, first, axis=-1))  # fmt: skip


def retake(
    video: Tensor,
    audio: Tensor,
    *,
    modality: Literal["audio", "video", "both"],
    from_s: Number,
    to_s: Number,
    timeline: Timeline,
) -> Task:
    """A clip is given, and every latent that a span touches is made anew.

    Args:
        video: Latents of the clip, ``[C, T, H, W]`` or ``[B, C, T, H, W]``, normalised.
        audio: ``[C, L]`` or ``[B, C, L]``, likewise.
        modality: What is made anew.
        from_s: Beginning of the span in seconds.
        to_s: Its end.
        timeline: The clock.

    Raises:
        ValueError: If the span is empty or goes beyond the clip.
    """
    begin, end = _exact(from_s), _exact(to_s)
    video_spans = [timeline.video_latent_span(index) for index in range(video.shape[-3])]
    audio_spans = [timeline.audio_latent_span(index) for index in range(audio.shape[-1])]
    length = video_spans[-1][1]
    # as floats: a length that is no decimal number ends where it is written to end
    if not 0 <= begin < end or begin >= length or float(end) > float(length):
        raise ValueError(f"the span {float(from_s):g} to {float(to_s):g} s is not within a clip of {float(length)} s.")
    touched_video = _touched(video_spans if modality != "audio" else [], begin, end, length=video.shape[-3])
    touched_audio = _touched(audio_spans if modality != "video" else [], begin, end, length=audio.shape[-1])
    return masked(touched_video[:, None, None].expand(video.shape[-3:]), touched_audio, video=video, audio=audio)


def repaint(region: Tensor, video: Tensor, audio: Tensor) -> Task:
    """A clip is given, and a region of its picture is made anew; its audio is kept.

    Args:
        region: ``[H, W]`` or ``[T, H, W]`` bool of latents: what is made.
        video: Latents of the clip, ``[C, T, H, W]`` or ``[B, C, T, H, W]``, normalised.
        audio: ``[C, L]`` or ``[B, C, L]``, likewise.

    Raises:
        ValueError: If the region is empty or of another shape.
    """
    if not bool(region.any()):
        raise ValueError("the region is empty: nothing would be made.")
    makes_video = region if region.ndim == 3 else region.expand(video.shape[-3], *region.shape)
    return masked(makes_video, torch.zeros(audio.shape[-1], dtype=torch.bool), video=video, audio=audio)


def masked(makes_video: Tensor, makes_audio: Tensor, *, video: Tensor | None = None, audio: Tensor | None = None) -> Task:
    """Some latents are given, the others made: what every task here comes to.

    Args:
        makes_video: ``[T, H, W]`` bool: latents to be made.
        makes_audio: ``[L]`` bool, likewise.
        video: Given latents, as in :class:`Task`; ``None`` if all are made.
        audio: Likewise.

    Raises:
        ValueError: If the shapes do not fit, or what is to be given is not there.
    """
    return Task(video_level=makes_video.float(), audio_level=makes_audio.float(), video=video, audio=audio)


def combined(first: Task, second: Task) -> Task:
    """Both together: all that either gives. Two parts of one clip that are made anew so meet in what both make.

    Raises:
        ValueError: If they are for different grids, give different things at one place, want different modalities, or
            nothing is left to be made.
    """
    if first.grid != second.grid:
        raise ValueError(f"the tasks have different grids: {first.grid} and {second.grid}.")
    for name in ("video", "audio"):
        one, other = getattr(first, f"{name}_level"), getattr(second, f"{name}_level")
        if _differ((one < 1) & (other < 1), getattr(first, name), getattr(second, name)):
            raise ValueError(f"both tasks give the {name} at one place, each another one.")
    if first.video_condition is not None and second.video_condition is not None:
        raise ValueError("both tasks give a video_condition.")
    if first.only is not None and second.only is not None and first.only != second.only:
        raise ValueError("one task wants the audio only, and the other the video.")
    result = Task(
        video_level=torch.minimum(first.video_level, second.video_level),
        audio_level=torch.minimum(first.audio_level, second.audio_level),
        video=_merged(first.video, second.video, second.video_level),
        audio=_merged(first.audio, second.audio, second.audio_level),
        video_condition=first.video_condition if second.video_condition is None else second.video_condition,
        only=first.only or second.only,
    )
    if not bool((result.video_level > 0).any() or (result.audio_level > 0).any()):
        raise ValueError("video and audio are both given whole: nothing would be made.")
    return result


def _everything(grid: Grid) -> tuple[Tensor, Tensor]:
    return (
        torch.ones(grid.frames, grid.height, grid.width, dtype=torch.bool),
        torch.ones(grid.audio_length, dtype=torch.bool),
    )


def _with_pictures(grid: Grid, images: Mapping[int, Tensor]) -> Task:
    """Latents given from some indices on."""
    makes_video, makes_audio = _everything(grid)
    task = masked(makes_video, makes_audio)
    for index, image in images.items():
        makes = makes_video.clone()
        makes[index : index + image.shape[-3]] = False
        task = combined(task, masked(makes, makes_audio, video=_placed(image, grid.frames, index, axis=-3)))
    return task


def _touched(spans: Sequence[tuple[Fraction, Fraction]], begin: Fraction, end: Fraction, *, length: int) -> Tensor:
    """``[length]`` bool: the latents whose span meets [begin, end); none without spans."""
    touched = [start < end and stop > begin for start, stop in spans]
    return torch.tensor(touched or [False] * length, dtype=torch.bool)


def _check(name: str, level: Tensor, given: Tensor | None, *, dims: int) -> None:
    if level.ndim != dims:
        raise ValueError(f"{name}_level must have {dims} axes; got shape {tuple(level.shape)}.")
    if level.numel() == 0 or not bool(((level >= 0) & (level <= 1)).all()):
        raise ValueError(f"{name}_level must hold values between 0 and 1.")
    if given is None:
        if bool((level < 1).any()):
            raise ValueError(f"{name}_level is below 1 somewhere, but no {name} latents are given.")
    elif given.ndim not in (dims + 1, dims + 2) or given.shape[-dims:] != level.shape:
        raise ValueError(f"{name} latents have shape {tuple(given.shape)}; the levels have {tuple(level.shape)}.")


def _placed(latents: Tensor, length: int, first: int, *, axis: int) -> Tensor:
    """Latents from index ``first`` on, zeros around them."""
    after = length - first - latents.shape[axis]
    if after < 0:
        raise ValueError(f"{latents.shape[axis]} latent frames are given from {first} on for a clip of {length}.")

    def zeros(count: int) -> Tensor:
        shape = list(latents.shape)
        shape[axis] = count
        return latents.new_zeros(shape)

    return torch.cat([zeros(first), latents, zeros(after)], dim=axis)


def _differ(where: Tensor, first: Tensor | None, second: Tensor | None) -> bool:
    """Whether latents of two tasks differ anywhere that ``where`` names."""
    if first is second or first is None or second is None:
        return False
    return bool((where.to(first.device) & (first != second)).any())


def _merged(first: Tensor | None, second: Tensor | None, second_level: Tensor) -> Tensor | None:
    if first is None or second is None:
        return first if second is None else second
    return torch.where(second_level.to(second.device) < 1, second, first)


def _exact(seconds: Number) -> Fraction:
    """Decimal seconds as written."""
    return Fraction(str(seconds)) if isinstance(seconds, float) else Fraction(seconds)
