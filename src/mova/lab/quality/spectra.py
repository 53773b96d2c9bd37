"""Short-time spectra of audio, by torch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def mono(waveform: npt.NDArray[np.floating]) -> Floats:
    """``[S]`` mean over channels of ``[channels, S]`` or ``[S]``."""
    audio = np.asarray(waveform, dtype=np.float64)
    return audio.mean(axis=0) if audio.ndim == 2 else audio


def magnitudes(audio: Floats, *, window: int, hop: int, size: int | None = None) -> Floats:
    """``[frames, size / 2 + 1]`` magnitudes under a periodic Hann window; frame ``i`` is centred on sample ``i * hop``.

    Beyond its ends the audio is reflected, or silent where it is shorter than half of the transform.

    Args:
        audio: ``[S]``.
        window: Length of the window in samples.
        hop: Samples between frames.
        size: Length of the transform; the window stands in its middle. Default: ``window``.
    """
    import torch

    size = size or window
    spectrum = torch.stft(
        torch.from_numpy(np.ascontiguousarray(audio, dtype=np.float64)),
        size,
        hop,
        window,
        torch.hann_window(window, dtype=torch.float64),
        pad_mode="reflect" if audio.size > size // 2 else "constant",
        return_complex=True,
    )
    return np.asarray(spectrum.abs().T.numpy())
