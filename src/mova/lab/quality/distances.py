"""Distances between two sets of embeddings: Fréchet and kernel (KID, also known as KAD for audio)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Embeddings = npt.NDArray[np.floating]
FEWEST = 256
"""Below this many samples a Fréchet distance says more about their number than about the sets."""


@dataclass(frozen=True)
class KernelDistance:
    """Mean over subsets, and its standard deviation."""

    value: float
    deviation: float


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
) -> KernelDistance:
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
    return KernelDistance(float(np.mean(draws)), float(np.std(draws)))


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
