"""Seeds of a batch: one number, one a clip, or drawn from a generator."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mova.errors import RequestError

Generator = torch.Generator | Sequence[torch.Generator]


def draw_seeds(
    batch: int,
    seed: int | Sequence[int] | None,
    audio_seed: int | Sequence[int] | None,
    generator: Generator | None,
) -> tuple[list[int], list[int]]:
    """Seeds of video and audio, one a clip.

    Raises:
        RequestError: If there are not as many as clips, or a seed is out of range, or both kinds are given.
    """
    if seed is not None and generator is not None:
        raise RequestError("seed and generator are both given.", "Give one of the two.", field="seed")
    if seed is None:
        generators = [generator] * batch if isinstance(generator, torch.Generator | None) else list(generator)
        if len(generators) != batch:
            raise RequestError(f"there are {len(generators)} generators for {batch} clips.", field="generator")
        seed = [int(torch.randint(2**32, (), generator=g, device=g.device if g else None)) for g in generators]
    seeds = _per_item(batch, seed, "seed")
    return seeds, seeds if audio_seed is None else _per_item(batch, audio_seed, "audio_seed")


def _per_item(batch: int, seed: int | Sequence[int], field: str) -> list[int]:
    seeds = [seed + index for index in range(batch)] if isinstance(seed, int) else list(seed)
    if len(seeds) != batch:
        raise RequestError(f"there are {len(seeds)} values of {field} for {batch} clips.", field=field)
    if not all(0 <= value < 2**63 for value in seeds):
        raise RequestError(f"{field} must be between 0 and 2^63 - 1; got {seeds}.", field=field)
    return seeds
