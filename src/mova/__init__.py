"""mova: video and audio made together, in one diffusion process, on one clock.

The public names load on first use, so that ``import mova`` does not import torch. ``OMP_WAIT_POLICY`` is set
to PASSIVE before torch is imported, unless the user has set it, so that threads sleep while they wait: on a busy machine,
threads that wait actively keep the cores from the one that they wait for, and a clip takes minutes instead of seconds.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from mova._version import __version__

if "torch" not in sys.modules:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
_HOMES = {
    "Clip": "mova.media.clip",
    "GenerationRequest": "mova.request.schema",
    "MOVAModel": "mova.generation.model",
    "MOVAPipeline": "mova.pipeline",
    "MovaError": "mova.errors",
    "RuntimeOptions": "mova.runtime.options",
    "read_clip": "mova.media.decode",
}
__all__ = ["Clip", "GenerationRequest", "MOVAModel", "MOVAPipeline", "MovaError", "RuntimeOptions", "__version__", "read_clip"]

if TYPE_CHECKING:
    from mova.errors import MovaError
    from mova.generation.model import MOVAModel
    from mova.media.clip import Clip
    from mova.media.decode import read_clip
    from mova.pipeline import MOVAPipeline
    from mova.request.schema import GenerationRequest
    from mova.runtime.options import RuntimeOptions


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mova' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
