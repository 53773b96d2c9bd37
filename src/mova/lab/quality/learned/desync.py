"""DeSync: by how much Synchformer says that audio and video are out of step (Iashin et al. 2024, arXiv 2401.16423).

The protocol is that of av-benchmark: the first and the last 14 segments of a video (4.8 s each) are judged, each over 21
offsets from -2 to 2 s in steps of 0.2 s, and DeSync is the mean size of the likeliest. What that can and cannot say:
anything below 0.1 s scores 0, shorter videos cannot be scored at all, and the middle of longer ones is not looked at. For
offsets that people notice (45 ms), use :mod:`mova.lab.sync.pairing`.

The network is :class:`mova.lab.quality.learned.synchformer.Synchformer`, whose docstring says what of it is verified.
Another model of the same kind may take its place: ``DeSync(build=...)``, a function from the weights' path to a model
``(video [1, 14, 16, 3, 224, 224], audio [1, 14, 128, 66]) -> logits [1, 21]``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from einops import rearrange
from torch import Tensor, nn

from mova.errors import CheckpointError
from mova.lab.quality.audio import magnitudes
from mova.lab.quality.learned.synchformer import NUM_FRAMES as SEGMENT_FRAMES
from mova.lab.quality.learned.synchformer import NUM_MELS, NUM_OFFSETS, NUM_SEGMENTS, SIDE, read_synchformer
from mova.lab.quality.learned.synchformer import NUM_STEPS as MEL_STEPS
from mova.lab.quality.metric import (
    Sample,
    Scorer,
    Scores,
    UnscorableError,
    audio_at,
    frame_indices,
    pictures,
    resize_square,
    score_each,
)
from mova.media.clip import Clip

FPS, SAMPLE_RATE = 25.0, 16000
SEGMENT_SAMPLES = 10240
OFFSETS_S = np.linspace(-2.0, 2.0, NUM_OFFSETS)
_MEAN, _TWICE_DEVIATION = -4.2677393, 2.0 * 4.5689974  # of AudioSet, as the audio tower was trained

SyncModel = Callable[[Tensor, Tensor], Tensor]
"""``(video [B, 14, 16, 3, 224, 224], audio [B, 14, 128, 66]) -> [B, 21]`` logits over :data:`OFFSETS_S`."""


@dataclass(frozen=True)
class DeSync:
    """Mean size of the offset, in seconds, in steps of 0.2 s.

    Args:
        build: Reads weights (safetensors) and gives the network.
    """

    name: str = "desync"
    version: str = "1"
    source: str = "the state dict of Synchformer 24-01-04T16-39-21 (github.com/v-iashin/Synchformer) saved as safetensors"
    requires: frozenset[str] = frozenset({"video", "audio"})
    of_sets: bool = False
    build: Callable[[Path], SyncModel] = read_synchformer

    def load(self, weights: Path, *, device: str) -> Scorer:
        """Build the network.

        Raises:
            CheckpointError: If the weights do not fit.
        """
        network = self.build(weights)
        return DeSyncScorer(network.to(device) if isinstance(network, nn.Module) else network, device)


@dataclass(frozen=True, eq=False)
class DeSyncScorer:
    """Scores videos with a network.

    Args:
        model: See :data:`SyncModel`.
        device: Where its inputs go.
    """

    model: SyncModel
    device: str = "cpu"

    def __call__(self, samples: Sequence[Sample], references: Sequence[Sample]) -> Scores:
        return score_each(samples, self.score)

    @torch.inference_mode()
    def score(self, sample: Sample) -> dict[str, float]:
        """DeSync of one video."""
        video, audio = segments(sample.clip)
        ends = (slice(None, NUM_SEGMENTS), slice(-NUM_SEGMENTS, None))
        offsets = [self.offset_s(video[end], audio[end]) for end in ends]
        return {"desync_s": float(np.mean(np.abs(offsets)))}

    def offset_s(self, video: Tensor, audio: Tensor) -> float:
        """The likeliest offset of 14 segments, in seconds."""
        logits = self.model(video[None].to(self.device), audio[None].to(self.device))
        if logits.shape != (1, OFFSETS_S.size):
            raise CheckpointError(f"the model must give logits [1, {OFFSETS_S.size}]; got {list(logits.shape)}.")
        return float(OFFSETS_S[int(logits[0].argmax())])


def segments(clip: Clip) -> tuple[Tensor, Tensor]:
    """Overlapping pieces of 0.64 s: video ``[S, 16, 3, 224, 224]`` in [-1, 1], audio ``[S, 128, 66]`` log-mel.

    Raises:
        UnscorableError: If the clip has fewer than 14 of them.
    """
    indices = frame_indices(clip, FPS)
    waveform = audio_at(clip, SAMPLE_RATE)
    count = min((len(indices) - SEGMENT_FRAMES) // 8 + 1, (waveform.size - SEGMENT_SAMPLES) // (SEGMENT_SAMPLES // 2) + 1)
    if count < NUM_SEGMENTS:
        raise UnscorableError(f"it lasts {float(clip.seconds):.2f} s; DeSync needs 4.8 s.")
    frames = resize_square(pictures(clip.frames[indices]), SIDE) * 2.0 - 1.0
    video = torch.stack([frames[8 * number : 8 * number + SEGMENT_FRAMES] for number in range(count)])
    half = SEGMENT_SAMPLES // 2
    audio = [_log_mel(waveform[half * number : half * number + SEGMENT_SAMPLES]) for number in range(count)]
    return video, torch.from_numpy(np.stack(audio))


def _log_mel(piece: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """``[128, 66]``: torchaudio's mel spectrogram (400 of 1024 every 160), logarithm, AudioSet's mean and deviation."""
    from transformers.audio_utils import mel_filter_bank

    power = magnitudes(piece.astype(np.float64), window=400, hop=160, size=1024) ** 2
    filters = mel_filter_bank(513, NUM_MELS, 0.0, SAMPLE_RATE / 2.0, SAMPLE_RATE, mel_scale="htk")
    mel = np.log(power @ filters + 1e-6)
    mel = np.pad(mel, ((0, MEL_STEPS - len(mel)), (0, 0)))
    return rearrange((mel - _MEAN) / _TWICE_DEVIATION, "t f -> f t").astype(np.float32)
