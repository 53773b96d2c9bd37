"""The stereo audio codec: reconstruction of maps, of sounds that are rendered when they are first drawn.

No audio is made in a step: the maps of a sound are what the network reads and what it has to give.
"""

from __future__ import annotations

from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from mova.data.marks import digest_kinds
from mova.models.codecs.audio_analysis import analyse
from mova.models.codecs.audio_maps import FINE, LOG_FLOOR, SAMPLE_RATE, SLOW, AudioMaps, group_levels
from mova.models.codecs.audio_stereo import HOP, StereoAudioCodec
from mova.scenes.kind import Kind
from mova.scenes.kinds import load_kinds
from mova.scenes.world import synthesise, write_script
from mova.training.objective import Objective, draw_below
from mova.training.recipe import TrainRecipe

HELD_OUT = 900_000
"""Number of the first held-out sound."""
FRAME = {"noise": FINE, "gain": FINE}


class StereoAudioCodecRecipe(TrainRecipe):
    """The stereo audio codec."""

    stage: Literal["stereo_audio_codec"] = "stereo_audio_codec"
    codec: dict[str, Any] = Field(default={}, description="Overrides of the codec's sizes.")
    seed: int = 1
    seconds: float = Field(default=4.0, ge=1.0, description="Length of a sound.")
    num_sounds: int = Field(default=4000, ge=1, le=HELD_OUT, description="Sounds to draw from.")
    num_held_out: int = Field(default=24, ge=1)
    crop_latents: int = Field(default=60, ge=4, description="Latents of a sound that a step sees.")
    batch_size: int = Field(default=12, ge=1, description="Sounds per process.")
    kl_weight: float = 1e-3

    def digest_inputs(self) -> dict[str, str]:
        """The kinds of scenes, as they are defined now."""
        return {"kinds of scenes": digest_kinds(load_kinds(self.world.kinds))}

    def build(self, device: str) -> StereoAudioCodecObjective:
        """A fresh codec on sounds of the kinds of the recipe's world."""
        return StereoAudioCodecObjective(
            StereoAudioCodec(**self.codec),
            Sounds(load_kinds(self.world.kinds), seed=self.seed, seconds=self.seconds),
            num_sounds=self.num_sounds,
            num_held_out=self.num_held_out,
            crop_latents=self.crop_latents,
            batch_size=self.batch_size,
            kl_weight=self.kl_weight,
            device=device,
        )


class Sounds:
    """Maps of an endless list of sounds, each rendered when it is first asked for, and kept in half precision.

    Most are one scene; some are two scenes at once, one after the other, or tones and sweeps as no scene has them. Levels
    differ, and an onset may fall anywhere within a latent.

    Args:
        kinds: Kinds of scenes.
        seed: Names the list.
        seconds: Length of a sound; it is cut to whole latents.
    """

    def __init__(self, kinds: tuple[Kind, ...], *, seed: int, seconds: float) -> None:
        self.kinds, self.seed = kinds, seed
        self.num_latents = int(seconds * SAMPLE_RATE) // HOP
        self.maps = lru_cache(maxsize=None)(self._maps)

    def render(self, index: int) -> NDArray[np.float32]:
        """Sound number ``index``: ``[2, samples]`` in [-1, 1]."""
        rng = np.random.default_rng((self.seed, index))
        samples = self.num_latents * HOP
        if rng.random() < 0.06:
            sound = _tones(rng, samples)
        else:
            sound = self._scene(index, samples, rng)
            if rng.random() < 0.15:
                sound = sound + self._scene(int(rng.integers(HELD_OUT)), samples, rng)
            elif rng.random() < 0.2:
                sound[:, samples // 2 :] = self._scene(int(rng.integers(HELD_OUT)), samples, rng)[:, : samples - samples // 2]
        if rng.random() < 0.25:
            sound = sound * 10 ** (rng.uniform(-14.0, 2.0) / 20)
        late = int(rng.integers(HOP))
        return np.clip(np.pad(sound, ((0, 0), (late, 0)))[:, :samples], -1.0, 1.0).astype(np.float32)

    def _scene(self, index: int, samples: int, rng: np.random.Generator) -> NDArray[np.float64]:
        kind = self.kinds[index % len(self.kinds)]
        script = write_script(kind, int(rng.integers(2**31)), seconds=samples / SAMPLE_RATE)
        return synthesise(script, sample_rate=SAMPLE_RATE, num_samples=samples, channels=2).astype(np.float64)

    def _maps(self, index: int) -> tuple[Tensor, ...]:
        maps = analyse(torch.from_numpy(self.render(index))[None])
        return tuple(getattr(maps, field.name)[0].half() for field in fields(maps))


class StereoAudioCodecObjective(Objective):
    """Reconstruction of the maps of stretches of sounds.

    Args:
        codec: The codec to train.
        sounds: List of sounds.
        num_sounds: How many of them are trained on.
        num_held_out: Sounds for validation.
        crop_latents: Length of a stretch in latents.
        batch_size: Stretches per process and step.
        kl_weight: Weight of the KL term.
        device: Where to train.
    """

    not_matrices = ("conv_in", "to_latent", "from_latent", "to_maps")

    def __init__(
        self,
        codec: StereoAudioCodec,
        sounds: Sounds,
        *,
        num_sounds: int,
        num_held_out: int,
        crop_latents: int,
        batch_size: int,
        kl_weight: float = 1e-3,
        device: str = "cpu",
    ) -> None:
        self.codec = codec.to(device)
        self.modules = nn.ModuleDict({"codec": codec})
        self.sounds, self.num_sounds, self.num_held_out = sounds, num_sounds, num_held_out
        self.crop = min(crop_latents, sounds.num_latents)
        self.batch_size, self.kl_weight, self.device = batch_size, kl_weight, device

    def loss(self, step: int, num_steps: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Loss of one batch of stretches, half of them with left and right exchanged."""
        target = self._batch(generator)
        decoded, mean, logvar = self.codec(target, generator)
        kl = 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar).mean()
        terms = map_terms(decoded, target)
        total = torch.stack(list(terms.values())).sum() + self.kl_weight * kl
        return total, {name: term.item() for name, term in terms.items()} | {"kl": kl.item()}

    def _batch(self, generator: torch.Generator) -> AudioMaps:
        rows = []
        for _ in range(self.batch_size):
            index, first = (draw_below(n, generator) for n in (self.num_sounds, self.sounds.num_latents - self.crop + 1))
            rows.append(_stretch(self.sounds.maps(index), first, self.crop))
        target = AudioMaps(*(torch.stack(parts).float().to(self.device) for parts in zip(*rows, strict=True)))
        target.angle[::2] = torch.pi / 2 - target.angle[::2]
        return target

    @torch.no_grad()
    def validate(self, step: int, averaged: nn.ModuleDict, folder: Path) -> dict[str, float]:
        """The same terms on held-out sounds."""
        codec = averaged["codec"]
        assert isinstance(codec, StereoAudioCodec)
        rows = [self.sounds.maps(HELD_OUT + index) for index in range(self.num_held_out)]
        target = AudioMaps(*(torch.stack(parts).float().to(self.device) for parts in zip(*rows, strict=True)))
        decoded = codec.decode_maps(codec.encode_maps(target).mode())
        return {name: term.item() for name, term in map_terms(decoded, target).items()}


def map_terms(decoded: AudioMaps, target: AudioMaps) -> dict[str, Tensor]:
    """The parts of the loss; what is loud counts most, in the target or in what was decoded."""
    loud = _loudness(target.partial)
    louder = torch.maximum(loud, _loudness(decoded.partial.detach()))
    noisy = torch.maximum(_loudness(target.noise), _loudness(decoded.noise.detach()))
    by_group, noise_by_group = group_levels(loud, noisy)
    rise = target.noise.diff(dim=-1)
    steady = (decoded.partial.diff(dim=-1) - target.partial.diff(dim=-1)).abs()
    fine = F.interpolate(by_group, scale_factor=SLOW // FINE, mode="linear")
    jump = F.max_pool1d(F.pad(target.gain.diff(dim=-1), (1, 0)).clamp(0.0, 3.0), 9, 1, 4)
    here = torch.maximum(by_group, F.avg_pool1d(noise_by_group, SLOW // FINE)) + 0.02
    return {
        "partial": 0.5 * ((1.0 + 6.0 * louder) * (decoded.partial - target.partial).abs()).mean(),
        "steady": 0.6 * _weighted(steady, loud[..., 1:]),
        "pitch": 2.0 * _weighted((decoded.pitch - target.pitch).abs(), loud),
        "noise": ((1.0 + 6.0 * noisy) * (decoded.noise - target.noise).abs()).mean() / 3.0,
        "rise": 0.5 * ((1.0 + 4.0 * rise.clamp(0.0, 2.0)) * noisy[..., 1:] * (decoded.noise.diff(dim=-1) - rise).abs()).mean(),
        "gain": 2.0 * ((1.0 + jump) * fine * (decoded.gain - target.gain).abs()).sum() / fine.sum().clamp(min=1.0),
        "angle": 4.0 * _weighted((decoded.angle - target.angle).abs(), here),
        "coherence": 0.5 * _weighted((decoded.coherence - target.coherence).abs(), here),
    }


def _loudness(level: Tensor) -> Tensor:
    """0 for silence, 1 from about -23 dB on."""
    return ((level - LOG_FLOOR - 0.5) / 6.0).clamp(0.0, 1.0)


def _weighted(error: Tensor, weight: Tensor) -> Tensor:
    return (weight * error).sum() / weight.sum().clamp(min=1.0)


def _stretch(maps: tuple[Tensor, ...], first: int, length: int) -> list[Tensor]:
    cut = []
    for field, part in zip(fields(AudioMaps), maps, strict=True):
        fold = HOP // FRAME.get(field.name, SLOW)
        cut.append(part[:, first * fold : (first + length) * fold])
    return cut


def _tones(rng: np.random.Generator, samples: int) -> NDArray[np.float64]:
    """One to three tones or sweeps at one place, through the whole sound or a part of it."""
    share = np.arange(samples) / samples
    sound = np.zeros(samples)
    for _ in range(int(rng.integers(1, 4))):
        start, end = np.exp(rng.uniform(np.log(80.0), np.log(4000.0), 2))
        hz = start * ((end if rng.random() < 0.4 else start) / start) ** share
        sound += 0.15 * rng.uniform(0.2, 1.0) * np.sin(2 * np.pi * np.cumsum(hz) / SAMPLE_RATE)
    if rng.random() < 0.6:
        first, last = np.sort(rng.uniform(0.0, 1.0, 2))
        lit = ((share > first) & (share < last + 0.05)).astype(np.float64)
        sound *= np.convolve(lit, np.full(48, 1 / 48), mode="same")
    angle = rng.uniform(0.0, np.pi / 2)
    return np.stack([np.cos(angle) * sound, np.sin(angle) * sound])
