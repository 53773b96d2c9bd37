"""A clip: video frames and audio of the same length, as models generate, files store and metrics evaluate them."""

from __future__ import annotations

import base64
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from mova.errors import MediaError, MovaError, RequestError, number_of
from mova.timeline import exact_fps, samples_in_frames

if TYPE_CHECKING:
    from PIL import Image

    from mova.media.encode import WrittenFile
    from mova.media.health.gate import Health

MAX_CHANNELS = 8
MAX_PLAYER_BYTES = 20_000_000
"""Largest file that is put into a notebook."""
SINGLE_KINDS = (".wav", ".gif")
"""Suffixes of files that hold audio only, or video only."""


class NonFiniteError(MediaError):
    """Frames or audio hold NaN or infinity.

    Args:
        modality: ``"audio"`` or ``"video"``.
    """

    def __init__(self, modality: Literal["audio", "video"]) -> None:
        what = {"video": "the frames contain", "audio": "the waveform contains"}[modality]
        super().__init__(f"{what} values that are not finite (NaN or infinity).")
        self.modality = modality


class Reroll(Protocol):
    """A function that generates the audio or the video of a clip again."""

    def __call__(self, clip: Clip, modality: Literal["audio", "video"], *, seed: int | None = None) -> Clip:
        """Return the clip with new audio or new video."""
        ...


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames and audio on one clock. Unpacks as ``video, audio = clip``.

    Args:
        frames: ``[T, H, W, 3]`` uint8, RGB, BT.709 primaries and transfer; frame 0 starts at 0 s.
        waveform: ``[channels, samples]`` float32 in ``[-1, 1]``; sample 0 is at 0 s.
        fps: Frames per second; kept as an exact fraction, so 23.976 becomes 24000/1001.
        sample_rate: Samples per second, in Hz.
        request: Request that the clip was generated from, as plain JSON values; :meth:`save` writes it into the file.
        made_by: Version, model, weights and inputs that the clip was generated with; written with the request.
        source_video: File whose video stream :meth:`save` copies unchanged instead of encoding ``frames`` (which are at the
            model's frame rate and size): set where only audio was generated for a video.
        only: Modality that :meth:`save` writes, if not both: the audio alone, or the video without an audio stream.
        fully_conditioned: Modalities that were given as a whole; :attr:`health` does not check them.
        repairs: What was repaired when the clip was read from a file, one line each.
        notes: What is worth knowing of how the prompt and the cues were read, one line each.
        reroll_method: Weak reference to the ``reroll`` of the model that generated the clip; it returns None once the model
            is no longer in memory.

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
    repairs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    reroll_method: Callable[[], Reroll | None] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fps", check_fps(self.fps))
        object.__setattr__(self, "sample_rate", _check_rate(self.sample_rate))
        _check_frames(self.frames)
        _check_waveform(self.waveform)
        if self.request is not None and not isinstance(self.request, Mapping):
            raise MediaError(f"request must be a mapping or None; got {type(self.request).__name__}.")
        if self.only not in (None, "audio", "video"):
            raise MediaError(f"only must be audio, video or None; got {self.only!r}.")
        needed, given = samples_in_frames(self.num_frames, self.fps, self.sample_rate), self.waveform.shape[1]
        if given != needed:
            raise MediaError(
                f"video and audio differ in length: {number_of(self.num_frames, 'frame')} at {self.fps} fps last "
                f"{needed} samples at {self.sample_rate} Hz; the audio has {given}.",
                f"{'Trim' if given > needed else 'Extend'} the audio to {needed} samples.",
            )

    def __iter__(self) -> Iterator[NDArray[Any]]:
        yield self.frames
        yield self.waveform

    def __repr__(self) -> str:
        return (
            f"Clip({number_of(self.num_frames, 'frame')} {self.width}x{self.height} at {self.fps} fps, "
            f"{self.waveform.shape[0]} x {self.waveform.shape[1]} samples at {self.sample_rate} Hz, "
            f"{float(self.seconds):.3f} s)"
        )

    @property
    def num_frames(self) -> int:
        """Number of frames."""
        return int(self.frames.shape[0])

    @property
    def height(self) -> int:
        """Height in pixels."""
        return int(self.frames.shape[1])

    @property
    def width(self) -> int:
        """Width in pixels."""
        return int(self.frames.shape[2])

    @property
    def seconds(self) -> Fraction:
        """Exact length: ``num_frames / fps``."""
        return self.num_frames / self.fps

    @property
    def reading(self) -> Mapping[str, Any] | None:
        """What the model understood of the prompt (:class:`~mova.request.reading.PromptReading`, as plain JSON values);
        ``None`` if the prompt was taken as it is.
        """
        reading: Mapping[str, Any] | None = (self.made_by or {}).get("reading")
        return reading

    @cached_property
    def health(self) -> Health:
        """The health gate's verdict on the generated part: ``clip.health.verdict`` is ``"ok"`` or ``"faulty"``.

        Computed on first access (:func:`mova.media.health.gate.check_clip`).
        """
        from mova.media.health.gate import check_clip

        return check_clip(self)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "reroll_method": None}  # a weak reference cannot be pickled

    def without_beginning(self, num_frames: int) -> Clip:
        """Return the clip without its first frames and their audio.

        Args:
            num_frames: Number of frames to cut; fewer than the clip has.
        """
        if not num_frames:
            return self
        first = samples_in_frames(num_frames, self.fps, self.sample_rate)
        length = samples_in_frames(self.num_frames - num_frames, self.fps, self.sample_rate)
        return replace(self, frames=self.frames[num_frames:], waveform=self.waveform[:, first : first + length])

    def resampled(self, sample_rate: int) -> Clip:
        """Return the same clip with its audio at another rate, in step to the sample.

        Peaks between the old samples can exceed full scale; they are clipped to ``[-1, 1]``, as a converter does.

        Args:
            sample_rate: New rate in Hz.

        Raises:
            MediaError: If ``sample_rate`` is not a positive whole number.
        """
        from mova.media.resample import resample

        rate = _check_rate(sample_rate)
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
                raise MediaError("crf has no effect: the video stream is copied unchanged.", "Leave crf out.")
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
        """Generate the audio or the video again; the other modality stays bit-identical.

        Args:
            modality: Modality to generate again: ``"audio"`` or ``"video"``.
            seed: Seed of the new modality; drawn if not given, and recorded in ``request``.

        Raises:
            RequestError: If the model that generated the clip is not in memory; ``MOVAModel.reroll`` accepts any clip.
        """
        reroll = None if self.reroll_method is None else self.reroll_method()
        if reroll is None:
            name = (self.made_by or {}).get("model", "mova-base")
            raise RequestError(
                "the model that generated this clip is not in memory.",
                f"Load one: MOVAModel.from_pretrained({name!r}).reroll(clip, {modality!r}).",
                field="reroll",
            )
        return reroll(self, modality, seed=seed)

    def sheet(self, *, num_frames: int = 8, events: Sequence[float] | None = None, title: str | None = None) -> Image.Image:
        """Draw the clip as one image (:func:`mova.media.sheet.clip_sheet`): frames, waveform, spectrogram."""
        from mova.media.sheet import clip_sheet

        return clip_sheet(self, num_frames=num_frames, events=events, title=title)

    def _repr_html_(self) -> str:
        """Return a player for a notebook, with the clip as a small file in it; of a large clip its facts."""
        from html import escape

        facts = escape(repr(self))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "clip.wav" if self.only == "audio" else "clip.mp4")
            try:
                self.save(path)
            except MovaError as problem:  # such as a frame with an odd size
                return f"<p>{facts}<br>{escape(str(problem))}</p>"
            data = path.read_bytes()
        if len(data) > MAX_PLAYER_BYTES:
            return f"<p>{facts}</p>"
        kind = "audio" if self.only == "audio" else "video"
        mime = "audio/wav" if self.only == "audio" else "video/mp4"
        source = f"data:{mime};base64,{base64.b64encode(data).decode()}"
        return f'<{kind} controls title="{facts}" src="{source}"></{kind}>'

    def show_sheet(self) -> None:
        """Show :meth:`sheet` below the cell in a notebook, and in the system's image viewer elsewhere."""
        image = self.sheet()
        ipython = sys.modules.get("IPython")
        if ipython is not None and ipython.get_ipython() is not None:
            ipython.display.display(image)
        else:
            image.show()


def check_only(path: str | Path, only: Literal["audio", "video"] | None) -> None:
    """Refuse a file type that cannot hold the one modality to be written.

    Raises:
        MediaError: If audio alone is to be written to a video file, or video alone to an audio file.
    """
    path = Path(path)
    is_audio = path.suffix.lower() == ".wav"
    if only == "audio" and not is_audio:
        raise MediaError(f"cannot write {path}: only the audio is to be written.", f"Use {path.with_suffix('.wav').name}.")
    if only == "video" and is_audio:
        raise MediaError(f"cannot write {path}: only the video is to be written.", f"Use {path.with_suffix('.mp4').name}.")


def check_fps(fps: Any) -> Fraction:
    """Return frames per second as an exact fraction (:func:`mova.timeline.exact_fps`).

    Raises:
        MediaError: If ``fps`` is not a positive number.
    """
    if isinstance(fps, bool) or not isinstance(fps, int | float | Fraction):
        raise MediaError(f"fps must be a number; got {fps!r}.")
    try:
        return exact_fps(fps)
    except ValueError as error:
        raise MediaError(str(error)) from None


def _check_rate(sample_rate: Any) -> int:
    if isinstance(sample_rate, bool) or not isinstance(sample_rate, int | np.integer) or sample_rate < 1:
        raise MediaError(f"sample_rate must be a positive integer in Hz; got {sample_rate!r}.")
    return int(sample_rate)


def _check_frames(frames: Any) -> None:
    if not isinstance(frames, np.ndarray) or frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
        raise MediaError(f"frames must be a numpy array [T, H, W, 3] of uint8; got {_describe(frames)}.")
    if 0 in frames.shape:
        raise MediaError(f"frames must hold at least one frame of at least one pixel; got {_describe(frames)}.")


def _check_waveform(waveform: Any) -> None:
    if not isinstance(waveform, np.ndarray) or waveform.dtype != np.float32 or waveform.ndim != 2:
        raise MediaError(f"waveform must be a numpy array [channels, samples] of float32; got {_describe(waveform)}.")
    if not 1 <= waveform.shape[0] <= MAX_CHANNELS:
        raise MediaError(
            f"waveform must have 1 to {MAX_CHANNELS} channels; got {_describe(waveform)}.",
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


def _describe(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array {list(value.shape)} of {value.dtype}"
    return f"a {type(value).__module__}.{type(value).__name__}"
