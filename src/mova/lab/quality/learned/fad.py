"""Distances of two sets of embeddings, Fréchet and kernel, and both of them with VGGish (FAD, Kilgour et al. 2019).

The Fréchet distance is biased for small sets, the kernel distance is not: both are given, with the number of sounds. The
network is Hershey et al. 2017, "CNN architectures for large-scale audio classification"; names of parameters are those of
the usual PyTorch port (torchvggish), so that its state dict, saved as safetensors, fits. As in most published numbers there
is no PCA and no activation after the last layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from einops import rearrange
from torch import Tensor, nn

from mova.lab.quality.metric import Sample, Scorer, Scores, UnscorableError, audio_at, load_weights

Embeddings = npt.NDArray[np.floating]
FEWEST = 256
"""Below this many samples a Fréchet distance says more about their number than about the sets."""


def frechet_distance(generated: Embeddings, reference: Embeddings, *, fewest: int = FEWEST) -> float:
    """Fréchet distance of two Gaussians fitted to embeddings: FID, FVD or FAD, by what was embedded.

    ``|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))`` (Heusel et al. 2017, eq. 6); the trace of the root is the sum of the
    roots of the eigenvalues of ``S1 S2``, which needs no matrix root.

    Args:
        generated: ``[N, D]``.
        reference: ``[M, D]``.
        fewest: Smallest N and M; the distance is biased upwards for small sets.

    Raises:
        ValueError: If a set is too small, not finite, or the widths differ.
    """
    one, two = _checked(generated, reference)
    count = min(len(one), len(two))
    if count < max(fewest, 2):
        raise ValueError(f"a Fréchet distance needs at least {max(fewest, 2)} samples in each set; got {count}.")
    first, second = np.atleast_2d(np.cov(one, rowvar=False)), np.atleast_2d(np.cov(two, rowvar=False))
    # S1 S2 has the eigenvalues of R S2 R with R = S1^(1/2), which is symmetric: stable, and none is complex
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ second @ root), 0.0)).sum()
    apart = one.mean(axis=0) - two.mean(axis=0)
    return float(apart @ apart + np.trace(first) + np.trace(second) - 2.0 * shared)


def kernel_distance(
    generated: Embeddings, reference: Embeddings, *, subset_size: int = 1000, num_subsets: int = 100, seed: int = 0
) -> float:
    """Kernel distance: unbiased squared maximum mean discrepancy under ``(x y / D + 1)^3``, mean over random subsets.

    Bińkowski et al. 2018, "Demystifying MMD GANs". Unbiased for small sets too, where it may come out below 0.

    Args:
        generated: ``[N, D]``.
        reference: ``[M, D]``.
        subset_size: At most; smaller sets are used whole.
        num_subsets: How many; one if both sets are used whole.
        seed: Seed of the subsets.

    Raises:
        ValueError: If a set has fewer than two samples, is not finite, or the widths differ.
    """
    one, two = _checked(generated, reference)
    size = min(len(one), len(two), subset_size)
    if size < 2:
        raise ValueError(f"a kernel distance needs at least 2 samples in each set; got {size}.")
    rng = np.random.default_rng(seed)
    rounds = 1 if len(one) == len(two) == size else num_subsets
    draws = [
        _discrepancy(one[rng.choice(len(one), size, replace=False)], two[rng.choice(len(two), size, replace=False)])
        for _ in range(rounds)
    ]
    return float(np.mean(draws))


def _checked(one: Embeddings, two: Embeddings) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    if one.ndim != 2 or two.ndim != 2 or one.shape[1] != two.shape[1]:
        raise ValueError(f"embeddings must be [N, D] and [M, D]; got {list(one.shape)} and {list(two.shape)}.")
    if not (np.isfinite(one).all() and np.isfinite(two).all()):
        raise ValueError("embeddings must be finite.")
    return one.astype(np.float64), two.astype(np.float64)


def _discrepancy(one: npt.NDArray[np.float64], two: npt.NDArray[np.float64]) -> float:
    def kernel(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        similarity: npt.NDArray[np.float64] = (a @ b.T / a.shape[1] + 1.0) ** 3
        return similarity

    size = len(one)
    own = sum(float(matrix.sum() - np.trace(matrix)) for matrix in (kernel(one, one), kernel(two, two)))
    return own / (size * (size - 1)) - 2.0 * float(kernel(one, two).mean())


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
        columns = {"fad": [frechet_distance(made, real, fewest=self.fewest)], "kad": [kernel_distance(made, real)]}
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
