"""A video and its audio that agree in length: what the models make, the files hold and the metrics judge."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from mova.errors import MediaError, RequestError
from mova.timeline import exact_fps, samples_in_frames

if TYPE_CHECKING:
    from PIL import Image

    from mova.media.encode import WrittenFile
    from mova.media.health.gate import Health

MAX_CHANNELS = 8
SINGLE_KINDS = (".wav", ".gif")
"""Files of audio alone, or of picture alone."""


class NonFiniteError(MediaError):
    """A picture or audio holds NaN or infinity.

    Args:
        modality: Which of the two.
    """

    def __init__(self, modality: Literal["audio", "video"]) -> None:
        what = {"video": "frames hold", "audio": "waveform holds"}[modality]
        super().__init__(f"{what} values that are not finite (nan or inf).")
        self.modality = modality


class Maker(Protocol):
    """What made a clip, and can make a part of it anew."""

    def reroll(self, clip: Clip, modality: Literal["audio", "video"], *, seed: int | None = None) -> Clip:
        """The clip with its audio or its video made anew."""
        ...


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames and audio on one clock. Unpacks as ``video, audio = clip``.

    Args:
        frames: ``[T, H, W, 3]`` uint8, RGB, BT.709 primaries and transfer; frame 0 starts at 0 s.
        waveform: ``[channels, samples]`` float32 in ``[-1, 1]``; sample 0 is at 0 s.
        fps: Frames per second; kept as an exact fraction, so 23.976 becomes 24000/1001.
        sample_rate: Samples per second, in Hz.
        request: What made the clip, as plain JSON values; written into the file by :meth:`save`.
        made_by: What made it besides: version, model, weights, inputs; written beside the request.
        source_video: A file whose picture stream :meth:`save` writes as it is, in place of ``frames`` (which show it on a model's
            clock and at its size): where only audio was made for a video.
        only: What :meth:`save` writes, where it is not both: the audio, or the video without any audio stream.
        fully_conditioned: The audio or the video, where nothing of it was made: :attr:`health` does not judge what was given.
        maker: Gives the model that made the clip while that is in memory; it is not kept there for the clip's sake.

    Raises:
        MediaError: If a part has the wrong type, shape or range, or if ``samples`` is not exactly
            ``floor(T * sample_rate / fps)``.
    """

    frames: NDArray[np.uint8]
    waveform: NDArray[np.float32]
    fps: Fraction
    sample_rate: int
    request: Mapping[str, Any] | None = None
    made_by: Mapping[str, Any] | None = None
    source_video: Path | None = None
    only: Literal["audio", "video"] | None = None
    fully_conditioned: tuple[Literal["audio", "video"], ...] = ()
    maker: Callable[[], Maker | None] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fps", checked_fps(self.fps))
        object.__setattr__(self, "sample_rate", _checked_rate(self.sample_rate))
        _check_frames(self.frames)
        _check_waveform(self.waveform)
        if self.request is not None and not isinstance(self.request, Mapping):
            raise MediaError(f"request must be a mapping or None; got {type(self.request).__name__}.")
        if self.only not in (None, "audio", "video"):
            raise MediaError(f"only must be audio, video or None; got {self.only!r}.")
        needed, given = samples_in_frames(self.num_frames, self.fps, self.sample_rate), self.waveform.shape[1]
        if given != needed:
            raise MediaError(
                f"picture and audio differ in length: {self.num_frames} frames at {self.fps} fps last "
                f"{needed} samples at {self.sample_rate} Hz; the audio has {given}.",
                f"{'Trim' if given > needed else 'Extend'} the audio to {needed} samples.",
            )

    def __iter__(self) -> Iterator[NDArray[Any]]:
        yield self.frames
        yield self.waveform

    def __repr__(self) -> str:
        return (
            f"Clip({self.num_frames} frames {self.width}x{self.height} at {self.fps} fps, "
            f"{self.waveform.shape[0]} x {self.waveform.shape[1]} samples at {self.sample_rate} Hz, "
            f"{float(self.seconds):.3f} s)"
        )

    @property
    def num_frames(self) -> int:
        """Number of frames."""
        return int(self.frames.shape[0])

    @property
    def height(self) -> int:
        """Height of the picture in pixels."""
        return int(self.frames.shape[1])

    @property
    def width(self) -> int:
        """Width of the picture in pixels."""
        return int(self.frames.shape[2])

    @property
    def seconds(self) -> Fraction:
        """Exact length: ``num_frames / fps``."""
        return self.num_frames / self.fps

    @cached_property
    def health(self) -> Health:
        """The verdict of the health gate on what of the clip was made: ``clip.health.verdict`` is ``"ok"`` or ``"faulty"``.

        Found when it is first asked for (:func:`mova.media.health.gate.check_clip`).
        """
        from mova.media.health.gate import check_clip

        return check_clip(self)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "maker": None}  # a copy elsewhere has no model beside it

    def without_beginning(self, num_frames: int) -> Clip:
        """What follows the first frames, with its audio.

        Args:
            num_frames: How many are left out; fewer than the clip has.
        """
        if not num_frames:
            return self
        first = samples_in_frames(num_frames, self.fps, self.sample_rate)
        length = samples_in_frames(self.num_frames - num_frames, self.fps, self.sample_rate)
        return replace(self, frames=self.frames[num_frames:], waveform=self.waveform[:, first : first + length])

    def resampled(self, sample_rate: int) -> Clip:
        """The same clip with its audio at another rate, in step to the sample.

        Peaks between the old samples can lie above full scale; they are limited to ``[-1, 1]``, as a
        converter does.

        Args:
            sample_rate: New rate in Hz.

        Raises:
            MediaError: If ``sample_rate`` is not a positive whole number.
        """
        from mova.media.resample import resample

        rate = _checked_rate(sample_rate)
        if rate == self.sample_rate:
            return self
        num_samples = samples_in_frames(self.num_frames, self.fps, rate)
        waveform = resample(self.waveform, self.sample_rate, to_rate=rate, num_samples=num_samples)
        return replace(self, waveform=np.clip(waveform, -1.0, 1.0), sample_rate=rate)

    def save(
        self,
        path: str | Path,
        *,
        overwrite: bool = True,
        crf: int | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> WrittenFile:
        """Write the clip; the suffix chooses the kind of file (see :func:`mova.media.encode.write_clip`).

        Raises:
            MediaError: If the clip cannot be written as asked; nothing is left behind.
        """
        from mova.media.encode import request_comment, write_clip
        from mova.media.remux.silent import write_silent
        from mova.media.remux.soundtrack import video_seconds, write_soundtrack

        check_only(path, self.only)
        if self.only == "video" and Path(path).suffix.lower() not in SINGLE_KINDS:
            return write_silent(self, path, overwrite=overwrite, crf=crf, metadata=metadata)
        if self.source_video is not None and Path(path).suffix.lower() not in SINGLE_KINDS:
            if crf is not None:
                raise MediaError("crf has nothing to do: the picture is copied as it is.", "Leave crf out.")
            num_samples = int(video_seconds(self.source_video) * self.sample_rate)
            comment = {} if self.request is None else {"comment": request_comment(self.request, self.made_by)}
            return write_soundtrack(
                self.source_video,
                self.waveform[:, :num_samples],
                path,
                sample_rate=self.sample_rate,
                overwrite=overwrite,
                metadata={**(metadata or {}), **comment},
            )
        return write_clip(self, path, overwrite=overwrite, crf=crf, metadata=metadata)

    def reroll(self, modality: Literal["audio", "video"], *, seed: int | None = None) -> Clip:
        """The clip with its audio or its video made anew for the other, which stays as it is to the last bit.

        Args:
            modality: What is made anew: ``"audio"`` or ``"video"``.
            seed: Of what is made anew; drawn if not given, and recorded in ``request``.

        Raises:
            RequestError: If the model that made the clip is not in memory; any model's own ``reroll`` takes the clip.
        """
        model = None if self.maker is None else self.maker()
        if model is None:
            name = (self.made_by or {}).get("model", "mova-base")
            raise RequestError(
                "the model that made this clip is not in memory.",
                f"Load one: MOVAModel.from_pretrained({name!r}).reroll(clip, {modality!r}).",
                field="reroll",
            )
        return model.reroll(self, modality, seed=seed)

    def sheet(self, *, num_frames: int = 8, events: Sequence[float] | None = None, title: str | None = None) -> Image.Image:
        """The clip as one picture (:func:`mova.media.sheet.clip_sheet`): frames, waveform, spectrogram."""
        from mova.media.sheet import clip_sheet

        return clip_sheet(self, num_frames=num_frames, events=events, title=title)

    def show_sheet(self) -> None:
        """Show :meth:`sheet`: inside a notebook below the cell, elsewhere in the system's picture viewer."""
        image = self.sheet()
        ipython = sys.modules.get("IPython")
        if ipython is not None and ipython.get_ipython() is not None:
            ipython.display.display(image)
        else:
            image.show()


def check_only(path: str | Path, only: Literal["audio", "video"] | None) -> None:
    """Refuse a kind of file that does not hold what alone is wanted.

    Raises:
        MediaError: If audio is to go into a video's file, or a video into audio's.
    """
    path = Path(path)
    is_audio = path.suffix.lower() == ".wav"
    if only == "audio" and not is_audio:
        raise MediaError(f"cannot write {path}: only the audio is wanted.", f"Use {path.with_suffix('.wav').name}.")
    if only == "video" and is_audio:
        raise MediaError(f"cannot write {path}: only the video is wanted.", f"Use {path.with_suffix('.mp4').name}.")


def checked_fps(fps: Any) -> Fraction:
    """Frames per second as an exact fraction (:func:`mova.timeline.exact_fps`).

    Raises:
        MediaError: If that is no positive number.
    """
    if isinstance(fps, bool) or not isinstance(fps, int | float | Fraction):
        raise MediaError(f"fps must be a number; got {fps!r}.")
    try:
        return exact_fps(fps)
    except ValueError as error:
        raise MediaError(str(error)) from None


def _checked_rate(sample_rate: Any) -> int:
    if isinstance(sample_rate, bool) or not isinstance(sample_rate, int | np.integer) or sample_rate < 1:
        raise MediaError(f"sample_rate must be a positive whole number of Hz; got {sample_rate!r}.")
    return int(sample_rate)


def _check_frames(frames: Any) -> None:
    if not isinstance(frames, np.ndarray) or frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
        raise MediaError(f"frames must be a numpy array [T, H, W, 3] of uint8; got {_described(frames)}.")
    if 0 in frames.shape:
        raise MediaError(f"frames must hold at least one frame of at least one pixel; got {_described(frames)}.")


def _check_waveform(waveform: Any) -> None:
    if not isinstance(waveform, np.ndarray) or waveform.dtype != np.float32 or waveform.ndim != 2:
        raise MediaError(f"waveform must be a numpy array [channels, samples] of float32; got {_described(waveform)}.")
    if not 1 <= waveform.shape[0] <= MAX_CHANNELS:
        raise MediaError(
            f"waveform must have 1 to {MAX_CHANNELS} channels; got {_described(waveform)}.",
            "The channels come first: [channels, samples].",
        )
    if waveform.size == 0:
        return
    peak = float(np.abs(waveform).max())
    if not np.isfinite(peak):
        raise NonFiniteError("audio")
    if peak > 1.0:
        raise MediaError(
            f"waveform must stay within -1 and 1; its peak is {peak:.4f}.",
            f"Scale it by {1.0 / peak:.4f} or limit it first.",
        )


def _described(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array {list(value.shape)} of {value.dtype}"
    return f"a {type(value).__module__}.{type(value).__name__}"
