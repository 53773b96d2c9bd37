"""LSE-D and LSE-C: how well lips and speech agree, by SyncNet (Chung and Zisserman 2016, "Out of time").

LSE-D is the smallest mean distance between lip and speech embeddings over shifts of -15 to 15 frames, LSE-C how far it lies
below the median over shifts (Prajwal et al. 2020, "A lip sync expert is all you need"). Because of the minimum over shifts,
a constant offset of up to 0.6 s costs nothing: it is given beside them as ``lse_offset_ms``, audio late positive. Faces are
not looked for: each sample brings the place of its speaker's face, and videos without one are counted.

Names of parameters are those of SyncNet v2 as published (joonson/syncnet_python), so that its state dict fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy.fft import dct
from torch import Tensor, nn

from mova.lab.quality.metric import Sample, Scorer, Scores, UnscorableError, audio_at, frame_indices, load_weights, score_each

FPS, SAMPLE_RATE, SIDE = 25.0, 16000, 224
MAX_SHIFT = 15
SMALLEST_FACE_PX = 40
_WINDOW = 5  # frames, and 20 steps of speech


class SyncNet(nn.Module):
    """Embeds five frames of lips and 0.2 s of speech into one space.

    Args:
        width: Width of the embedding, 1024.
        share: Share of the published numbers of channels, 1; smaller for tests.
    """

    def __init__(self, width: int = 1024, share: float = 1.0) -> None:
        super().__init__()

        def of(count: int) -> int:
            return max(1, round(count * share))

        def heard(into: int, out: int, kernel: tuple[int, int] = (3, 3), padding: int = 1) -> list[nn.Module]:
            return [nn.Conv2d(into, out, kernel, padding=padding), nn.BatchNorm2d(out), nn.ReLU()]

        def seen(into: int, out: int, kernel: int, stride: int = 1, padding: int = 0, frames: int = 1) -> list[nn.Module]:
            conv = nn.Conv3d(into, out, (frames, kernel, kernel), (1, stride, stride), padding=(0, padding, padding))
            return [conv, nn.BatchNorm3d(out), nn.ReLU()]

        self.netcnnaud = nn.Sequential(
            *heard(1, of(64)),
            nn.MaxPool2d((1, 1), (1, 1)),
            *heard(of(64), of(192)),
            nn.MaxPool2d((3, 3), (1, 2)),
            *heard(of(192), of(384)),
            *heard(of(384), of(256)),
            *heard(of(256), of(256)),
            nn.MaxPool2d((3, 3), (2, 2)),
            *heard(of(256), of(512), (5, 4), 0),
        )
        self.netcnnlip = nn.Sequential(
            *seen(3, of(96), 7, 2, frames=5),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            *seen(of(96), of(256), 5, 2, 1),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), padding=(0, 1, 1)),
            *seen(of(256), of(256), 3, padding=1),
            *seen(of(256), of(256), 3, padding=1),
            *seen(of(256), of(256), 3, padding=1),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            *seen(of(256), of(512), 6),
        )
        self.netfcaud = _head(of(512), width)
        self.netfclip = _head(of(512), width)

    def speech(self, cepstra: Tensor) -> Tensor:
        """``[N, 1, 13, 20]`` cepstra to ``[N, width]``."""
        embedding: Tensor = self.netfcaud(self.netcnnaud(cepstra).flatten(1))
        return embedding

    def lips(self, frames: Tensor) -> Tensor:
        """``[N, 3, 5, 224, 224]`` faces, blue first, 0 to 255, to ``[N, width]``."""
        embedding: Tensor = self.netfclip(self.netcnnlip(frames).flatten(1))
        return embedding


@dataclass(frozen=True)
class Agreement:
    """What SyncNet says of one face.

    Args:
        distance: LSE-D.
        confidence: LSE-C.
        offset_frames: Shift of the smallest distance, in frames of 1/25 s; positive: the audio is late.
    """

    distance: float
    confidence: float
    offset_frames: int


@dataclass(frozen=True)
class LipSync:
    """LSE-D, LSE-C and the offset that they do not see."""

    name: str = "lse"
    version: str = "1"
    source: str = "the state dict of syncnet_v2.model (github.com/joonson/syncnet_python) saved as safetensors"
    requires: frozenset[str] = frozenset({"video", "audio", "face"})
    of_sets: bool = False
    network: SyncNet | None = None

    def load(self, weights: Path, *, device: str) -> Scorer:
        """Read the network.

        Raises:
            CheckpointError: If the weights do not fit.
        """
        network = load_weights(self.network if self.network is not None else SyncNet(), weights, device=device)
        assert isinstance(network, SyncNet)
        return _LipSyncScorer(network, device)


@dataclass(frozen=True, eq=False)
class _LipSyncScorer:
    network: SyncNet
    device: str

    def __call__(self, samples: Sequence[Sample], references: Sequence[Sample]) -> Scores:
        return score_each(samples, self.score)

    @torch.inference_mode()
    def score(self, sample: Sample) -> dict[str, float]:
        """LSE of one video."""
        faces, speech = face_crops(sample), cepstra(audio_at(sample.clip, SAMPLE_RATE))
        count = min(len(faces), speech.shape[1] // 4) - _WINDOW + 1
        if count < 1:
            raise UnscorableError("it is shorter than 0.2 s.")
        lips, sounds = [], []
        for first in range(0, count, _BATCH):
            starts = range(first, min(count, first + _BATCH))
            video = torch.stack([faces[start : start + _WINDOW].transpose(0, 1) for start in starts])
            words = torch.stack([torch.from_numpy(speech[None, :, 4 * start : 4 * start + 4 * _WINDOW]) for start in starts])
            lips.append(self.network.lips(video.to(self.device)).float().cpu())
            sounds.append(self.network.speech(words.to(self.device)).float().cpu())
        found = agreement(torch.cat(lips), torch.cat(sounds))
        return {
            "lse_d": found.distance,
            "lse_c": found.confidence,
            "lse_offset_ms": 1000.0 * found.offset_frames / FPS,
        }


def agreement(lips: Tensor, speech: Tensor, *, max_shift: int = MAX_SHIFT) -> Agreement:
    """LSE-D and LSE-C of embeddings.

    Args:
        lips: ``[N, D]``, one each frame.
        speech: ``[N, D]``, of the same instants.
        max_shift: Frames to both sides; beyond the ends speech is zero, as in the original.
    """
    padded = F.pad(speech, (0, 0, max_shift, max_shift))
    means = torch.stack(
        [F.pairwise_distance(lips, padded[shift : shift + len(lips)]).mean() for shift in range(2 * max_shift + 1)]
    )
    best = int(means.argmin())
    return Agreement(float(means[best]), float(means.median() - means[best]), best - max_shift)


def face_crops(sample: Sample) -> Tensor:
    """``[T, 3, 224, 224]`` the face at 25 frames per second, blue first, 0 to 255.

    Raises:
        UnscorableError: If there is no face, its rows are not one a frame, or it is too small.
    """
    if sample.face is None:
        raise UnscorableError("it has no face.")
    clip, boxes = sample.clip, np.round(np.asarray(sample.face, dtype=np.float64)).astype(np.int64)
    if boxes.shape != (clip.num_frames, 4):
        raise UnscorableError(f"it needs a face for each of its {clip.num_frames} frames; got {list(boxes.shape)}.")
    boxes = np.clip(boxes, 0, [clip.width, clip.height, clip.width, clip.height])
    if (boxes[:, 2:] - boxes[:, :2]).min() < SMALLEST_FACE_PX:
        raise UnscorableError(f"its face is smaller than {SMALLEST_FACE_PX} pixels.")
    crops = []
    for index in frame_indices(clip, FPS):
        left, top, right, bottom = boxes[index]
        crop = torch.from_numpy(np.ascontiguousarray(clip.frames[index, top:bottom, left:right, ::-1])).float()
        crops.append(F.interpolate(crop.permute(2, 0, 1)[None], size=(SIDE, SIDE), mode="bilinear", align_corners=False)[0])
    return torch.stack(crops) if crops else torch.zeros(0, 3, SIDE, SIDE)


def cepstra(audio: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """``[13, steps]`` mel-frequency cepstra every 10 ms of ``[S]`` at 16 kHz, as ``python_speech_features.mfcc`` makes them.

    Rectangular windows of 25 ms, samples in whole numbers of 16 bits, pre-emphasis 0.97, 26 bands, lifter 22, the first
    coefficient replaced by the logarithm of the energy.
    """
    samples = np.asarray(audio, dtype=np.float64) * 32768.0
    if not samples.size:
        return np.zeros((13, 0), np.float32)
    samples = np.concatenate((samples[:1], samples[1:] - 0.97 * samples[:-1]))
    steps = 1 if samples.size <= 400 else 1 + -(-(samples.size - 400) // 160)
    samples = np.pad(samples, (0, max(0, 400 + 160 * (steps - 1) - samples.size)))
    frames = np.lib.stride_tricks.sliding_window_view(samples, 400)[::160][:steps]
    power = np.abs(np.fft.rfft(frames, 512, axis=1)) ** 2 / 512.0
    tiny = np.finfo(np.float64).eps
    bands = np.maximum(power @ _psf_filters().T, tiny)
    coefficients = dct(np.log(bands), type=2, axis=1, norm="ortho")[:, :13]
    coefficients *= 1.0 + 11.0 * np.sin(np.pi * np.arange(13) / 22.0)
    coefficients[:, 0] = np.log(np.maximum(power.sum(axis=1), tiny))
    return np.ascontiguousarray(coefficients.T, dtype=np.float32)


_BATCH = 20


def _head(into: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(into, into), nn.BatchNorm1d(into), nn.ReLU(), nn.Linear(into, width))


def _psf_filters() -> npt.NDArray[np.float64]:
    """``[26, 257]`` triangles whose corners stand on whole bins, which is what makes them differ from other mel filters."""
    mels = np.linspace(0.0, 2595.0 * np.log10(1.0 + 8000.0 / 700.0), 28)
    corners = np.floor(513 * 700.0 * (10.0 ** (mels / 2595.0) - 1.0) / SAMPLE_RATE)
    filters = np.zeros((26, 257))
    for band, (low, middle, high) in enumerate(zip(corners, corners[1:], corners[2:], strict=False)):
        rising, falling = np.arange(low, middle), np.arange(middle, high)
        filters[band, rising.astype(int)] = (rising - low) / (middle - low)
        filters[band, falling.astype(int)] = (high - falling) / (high - middle)
    return filters
