"""Fréchet audio distance with VGGish (Kilgour et al. 2019), and the kernel distance of the same embeddings.

The Fréchet distance is biased for small sets, the kernel distance is not: both are given, with the number of sounds. The
network is Hershey et al. 2017, "CNN architectures for large-scale audio classification"; names of parameters are those of
the usual PyTorch port (torchvggish), so that its state dict, saved as safetensors, fits. As in most published numbers there
is no PCA and no activation after the last layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from einops import rearrange
from torch import Tensor, nn

from mova.lab.quality.distances import FEWEST, frechet_distance, kernel_distance
from mova.lab.quality.learned.inputs import audio_at, load_weights
from mova.lab.quality.metric import Sample, Scorer, Scores, UnscorableError

SAMPLE_RATE = 16000
EXAMPLE_FRAMES = 96


class VGGish(nn.Module):
    """``[N, 1, 96, 64]`` log-mel examples of 0.96 s to ``[N, width]`` embeddings.

    Args:
        width: Width of the embedding, 128 in the published network.
        channels: Channels of the first convolution, 64; the others are multiples of it.
        hidden: Width of the two layers before the embedding, 4096.
    """

    def __init__(self, width: int = 128, channels: int = 64, hidden: int = 4096) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        into = 1
        for wide in (1, 0, 2, 0, 4, 4, 0, 8, 8, 0):  # 0: pooling
            if wide:
                layers += [nn.Conv2d(into, wide * channels, 3, padding=1), nn.ReLU()]
                into = wide * channels
            else:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.embeddings = nn.Sequential(
            nn.Linear(into * 6 * 4, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, width)
        )

    def forward(self, examples: Tensor) -> Tensor:
        """``[N, 1, 96, 64]`` to ``[N, width]``."""
        embedding: Tensor = self.embeddings(rearrange(self.features(examples), "n c t f -> n (t f c)"))
        return embedding


def log_mel_examples(audio: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """``[N, 96, 64]`` examples of 0.96 s, without overlap, of ``[S]`` at 16 kHz; N is 0 if it is shorter.

    25 ms periodic Hann windows every 10 ms, 64 HTK mel bands of magnitudes from 125 to 7500 Hz, ``log(mel + 0.01)``.
    """
    from transformers.audio_utils import mel_filter_bank

    if audio.size < 400 + 160 * (EXAMPLE_FRAMES - 1):
        return np.zeros((0, EXAMPLE_FRAMES, 64), np.float32)
    spectrum = _vggish_magnitudes(audio.astype(np.float64))
    # TensorFlow's filters are triangles over mel, not over frequency
    filters = mel_filter_bank(257, 64, 125.0, 7500.0, SAMPLE_RATE, mel_scale="kaldi", triangularize_in_mel_space=True)
    mel = np.log(spectrum @ filters + 0.01)
    count = len(mel) // EXAMPLE_FRAMES
    examples: npt.NDArray[np.float32] = rearrange(mel[: count * EXAMPLE_FRAMES], "(n t) f -> n t f", t=EXAMPLE_FRAMES).astype(
        np.float32
    )
    return examples


@dataclass(frozen=True)
class VGGishFAD:
    """Fréchet and kernel distance between the embeddings of generated and of real sounds.

    Args:
        fewest: Examples of 0.96 s that each set must have before a Fréchet distance is given.
    """

    name: str = "fad"
    version: str = "1"
    source: str = "the state dict of torchvggish (github.com/harritaylor/torchvggish) saved as safetensors"
    requires: frozenset[str] = frozenset({"audio", "references"})
    of_sets: bool = True
    higher_is_better: Mapping[str, bool] = field(default_factory=lambda: {"fad": False, "kad": False})
    fewest: int = FEWEST
    network: VGGish | None = None

    def load(self, weights: Path, *, device: str) -> Scorer:
        """Read the network.

        Raises:
            CheckpointError: If the weights do not fit.
        """
        network = self.network if self.network is not None else VGGish()
        return _FadScorer(load_weights(network, weights, device=device), device, self.fewest)


@dataclass(frozen=True, eq=False)
class _FadScorer:
    network: nn.Module
    device: str
    fewest: int

    def __call__(self, samples: Sequence[Sample], references: Sequence[Sample]) -> Scores:
        (made, reasons), (real, short) = self.embeddings(samples), self.embeddings(references)
        if len(made) < self.fewest or len(real) < self.fewest:
            raise UnscorableError(
                f"a Fréchet distance needs at least {self.fewest} pieces of 0.96 s on both sides; got {len(made)} generated "
                f"and {len(real)} real ({len(reasons)} and {len(short)} videos are shorter than one)."
            )
        columns = {"fad": [frechet_distance(made, real, fewest=self.fewest)], "kad": [kernel_distance(made, real).value]}
        return Scores(columns, reasons)

    @torch.inference_mode()
    def embeddings(self, samples: Sequence[Sample]) -> tuple[npt.NDArray[np.float32], list[str]]:
        """``[N, D]`` of all videos together, and a reason for each video that has none."""
        found, reasons = [], []
        for sample in samples:
            examples = log_mel_examples(audio_at(sample.clip, SAMPLE_RATE))
            if not len(examples):
                reasons.append("it is shorter than 0.975 s.")
                continue
            found.append(self.network(torch.from_numpy(examples)[:, None].to(self.device)).float().cpu().numpy())
        return np.concatenate(found) if found else np.zeros((0, 1), np.float32), reasons


def _vggish_magnitudes(audio: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """``[frames, 257]``: the window stands at the start of the transform, not in its middle."""
    hann = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(400) / 400)
    frames = np.lib.stride_tricks.sliding_window_view(audio, 400)[::160]
    return np.asarray(np.abs(np.fft.rfft(frames * hann, 512, axis=1)))
