"""What a codec is, and the codecs that a checkpoint may name.

A new codec is a class with the interface of :class:`Codec` and one entry in :data:`CODECS`. Its cost is measured on the meta
device (:mod:`mova.runtime.estimate`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn


class Codec(Protocol):
    """A video or audio codec, with the interface of diffusers' autoencoders.

    Its configuration holds ``latents_mean`` and ``latents_std``, one number a channel or ``None``; that of a video codec also
    ``scale_factor_temporal``, frames per latent after the first, and ``scale_factor_spatial``, pixels per latent along a side.
    """

    @property
    def config(self) -> Any:
        """The configuration: a mapping whose values are attributes, too."""
        ...

    def encode(self, x: Tensor, /) -> Any:
        """An object whose ``latent_dist`` is the distribution of the latents, with ``mode()`` and ``sample(generator)``.

        Args:
            x: Video ``[B, 3, T, H, W]`` or audio ``[B, 1, S]``, in [-1, 1].
        """
        ...

    def decode(self, latents: Tensor, /) -> Any:
        """An object whose ``sample`` is the video or audio.

        Args:
            latents: ``[B, C, T, h, w]`` or ``[B, C, L]``.
        """
        ...


@dataclass(frozen=True)
class CodecClass:
    """A codec's class, imported when it is built.

    Args:
        module: Module that defines it.
        name: Name of the class there.
        steady_after: Number of latents after which each further one costs the same to decode, for a decoder that takes them
            one after the other; 0 otherwise.
    """

    module: str
    name: str
    steady_after: int = 0


CODECS: dict[str, dict[str, CodecClass]] = {
    "video_vae": {
        "VideoCodec": CodecClass("mova.models.codecs.video", "VideoCodec"),
        "AutoencoderKLWan": CodecClass("diffusers.models.autoencoders.autoencoder_kl_wan", "AutoencoderKLWan", steady_after=3),
    },
    "audio_vae": {
        "AudioCodec": CodecClass("mova.models.codecs.audio", "AudioCodec"),
        "DAC": CodecClass("mova.models.codecs.audio_vae", "DacVae"),
    },
}
"""By component and class name, as ``model_index.json`` names them."""


def build_codec(entry: CodecClass, config: Mapping[str, Any]) -> nn.Module:
    """A codec without weights that mean anything.

    Args:
        entry: Its class.
        config: Its ``config.json``; keys that the class does not know have no effect.
    """
    cls = getattr(import_module(entry.module), entry.name)
    accepted = set(cls._get_init_keys(cls)) - {"self"}
    codec: nn.Module = cls(**{name: value for name, value in config.items() if name in accepted})
    return codec
