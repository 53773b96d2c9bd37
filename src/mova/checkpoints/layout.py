"""A checkpoint folder: which parts it has, which class each is, what the model can make, and its tokenizer.

The folder is laid out as the official checkpoints are (spec 1): ``model_index.json`` and one folder a
component. Class names in it are looked up in the tables below and never imported, so that a downloaded folder
cannot choose what runs. A new codec is a class with the interface of :class:`Codec` and one entry in :data:`CODECS`; its cost
is measured on the meta device (:mod:`mova.runtime.estimate`).
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mova.checkpoints.header import MAX_HEADER_BYTES
from mova.errors import CheckpointError
from mova.files import is_regular, open_regular, read_regular, read_text
from mova.parsing import parse_json
from mova.request.plan import Capabilities

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
            x: Video ``[B, 3, T, H, W]`` or audio ``[B, 1, S]``, in [-1, 1]; a codec in stereo takes ``[B, 2, S]``, too.
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
        "FullRateVideoCodec": CodecClass("mova.models.codecs.full_rate", "FullRateVideoCodec"),
        "AutoencoderKLWan": CodecClass("diffusers.models.autoencoders.autoencoder_kl_wan", "AutoencoderKLWan", steady_after=3),
    },
    "audio_vae": {
        "AudioCodec": CodecClass("mova.models.codecs.audio", "AudioCodec"),
        "StereoAudioCodec": CodecClass("mova.models.codecs.audio_stereo", "StereoAudioCodec"),
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


INDEX = "model_index.json"
CHECKSUMS = "checksums.json"
CONFIG = "config.json"
SCHEDULER_CONFIG = "scheduler_config.json"
DIFFUSERS_WEIGHTS = "diffusion_pytorch_model.safetensors"
TRANSFORMERS_WEIGHTS = "model.safetensors"
BASE_NAME = "mova-base"
REQUIRED = (
    "video_dit",
    "audio_dit",
    "dual_tower_bridge",
    "video_vae",
    "audio_vae",
    "text_encoder",
    "tokenizer",
    "scheduler",
)
OPTIONAL = ("video_dit_2", "cue_planner", "prompt_reader")
# what is written for parts whose class is not ours to name
OFFICIAL_CLASSES = {
    "video_dit": ("mova.diffusion.models.wan_video_dit", "WanModel"),
    "video_dit_2": ("mova.diffusion.models.wan_video_dit", "WanModel"),
    "audio_dit": ("mova.diffusion.models.wan_audio_dit", "WanAudioModel"),
    "dual_tower_bridge": ("mova.diffusion.models.interactionv2", "DualTowerConditionalBridge"),
    "scheduler": ("mova.diffusion.schedulers.flow_match_pair", "FlowMatchPairScheduler"),
}

Builder = Callable[[Mapping[str, Any]], "nn.Module"]


def _umt5_encoder(config: Mapping[str, Any]) -> nn.Module:
    from transformers.models.umt5.configuration_umt5 import UMT5Config
    from transformers.models.umt5.modeling_umt5 import UMT5EncoderModel

    encoder: nn.Module = UMT5EncoderModel(UMT5Config.from_dict(dict(config)))
    return encoder


def _umt5_planner(config: Mapping[str, Any]) -> nn.Module:
    from transformers.models.umt5.configuration_umt5 import UMT5Config
    from transformers.models.umt5.modeling_umt5 import UMT5ForConditionalGeneration

    needed = ("text_vocab", "cue_labels", "steps_per_s", "min_gap_s", "left_open")
    if missing := [name for name in needed if name not in config]:
        raise ValueError(f"the planner's configuration lacks {', '.join(missing)}.")
    planner: nn.Module = UMT5ForConditionalGeneration(UMT5Config.from_dict(dict(config)))
    return planner


_TAG = re.compile(r"count=(\d{1,3}|#)|at=(\d{1,3}(\.\d{1,3})?|#)|bpm=#|(?!(count|at|bpm)=)[a-z][a-z0-9_]*=\S{1,40}")


def _prompt_reader(config: Mapping[str, Any]) -> nn.Module:
    from mova.models.reader import PromptReader

    accepted = set(PromptReader._get_init_keys(PromptReader)) - {"self"}
    for name in ("characters", "tags", "kinds", "languages"):
        entries = config.get(name)
        if not isinstance(entries, list) or not entries or not all(isinstance(one, str) for one in entries):
            raise ValueError(f"{name} must be a list of texts.")
    if wrong := [tag for tag in config["tags"] if not _TAG.fullmatch(tag)]:
        raise ValueError(f"{wrong[0]!r} is no tag of a prompt.")
    reader: nn.Module = PromptReader(**{name: value for name, value in config.items() if name in accepted})
    return reader


BUILDERS: dict[str, dict[str, Builder]] = {
    **{
        component: {name: partial(build_codec, entry) for name, entry in codecs.items()} for component, codecs in CODECS.items()
    },
    "text_encoder": {"UMT5EncoderModel": _umt5_encoder},
    "cue_planner": {"UMT5ForConditionalGeneration": _umt5_planner},
    "prompt_reader": {"PromptReader": _prompt_reader},
}
TOKENIZERS = ("T5TokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend")
KNOWN_CLASSES: dict[str, tuple[str, ...]] = {
    **{component: (name,) for component, (_, name) in OFFICIAL_CLASSES.items()},
    **{component: tuple(builders) for component, builders in BUILDERS.items()},
    "tokenizer": TOKENIZERS,
}


@dataclass(frozen=True)
class Index:
    """Content of ``model_index.json``.

    Args:
        classes: Component to (module, class name), as written there.
        boundary_ratio: Sigma below which the second expert works; ``None`` with one expert.
        capabilities: Capabilities of the model.
        other: Every other value, kept for writing back.
        fingerprint: Fingerprint of the folder's weights, see :func:`fingerprint`; not written back.
    """

    classes: Mapping[str, tuple[str, str]]
    boundary_ratio: float | None = None
    capabilities: Capabilities = field(default_factory=Capabilities)
    other: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: str = field(default="", compare=False)

    def values(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "_class_name": "MOVA",
            **self.other,
            "boundary_ratio": self.boundary_ratio,
            "world": {name: value for name, value in asdict(self.capabilities).items() if name != "needs_first_frame"},
            **{name: list(self.classes[name]) for name in (*REQUIRED, *OPTIONAL) if name in self.classes},
        }


def read_index(folder: Path) -> Index:
    """What a checkpoint folder holds.

    Raises:
        CheckpointError: If the folder is not a checkpoint, or a component is missing or of an unknown class.
    """
    values = read_json(folder / INDEX, otherwise=f"{folder} is not a checkpoint: it has no {INDEX}.")
    classes = {name: _class_of(name, values[name]) for name in (*REQUIRED, *OPTIONAL) if name in values}
    missing = [name for name in REQUIRED if name not in classes]
    if missing:
        raise CheckpointError(f"{folder / INDEX} does not name {', '.join(missing)}.", "Download the folder again.")
    known = {"_class_name", "boundary_ratio", "world", *classes}
    boundary = values.get("boundary_ratio")
    if "video_dit_2" in classes and boundary is None:
        raise CheckpointError(f"{folder / INDEX} has two experts but no boundary_ratio.", "Download the folder again.")
    return Index(
        classes=classes,
        boundary_ratio=_boundary(boundary, folder),
        capabilities=_capabilities(values, folder),
        other={name: value for name, value in values.items() if name not in known},
        fingerprint=fingerprint(folder),
    )


def fingerprint(folder: Path) -> str:
    """16 hex digits that tell the weights of one folder from another's.

    From the list of checksums where there is one, which the loader holds against the files; else from the names, sizes and
    headers of the weight files, which is quick for any size.
    """
    listed = folder / CHECKSUMS
    digest = hashlib.sha256()
    try:
        if is_regular(listed):
            digest.update(read_regular(listed))
        else:
            for path in sorted(folder.glob("*/*.safetensors")):
                with open_regular(path) as handle:
                    head = handle.read(8)
                    header = handle.read(min(int.from_bytes(head, "little"), MAX_HEADER_BYTES))
                    size = handle.seek(0, 2)
                digest.update(f"{path.relative_to(folder).as_posix()} {size} ".encode() + header)
    except OSError as error:
        raise CheckpointError(f"{error.filename} cannot be read: {error.strerror}.", "Download the folder again.") from None
    return digest.hexdigest()[:16]


def resolve_model(name_or_path: str | Path, *, may_download: bool = True) -> Path:
    """The folder of a model: the shipped one by its name, a folder by its path, or a repository of the
    Hugging Face hub.

    Args:
        name_or_path: Name, folder or repository.
        may_download: Whether a repository that is not on this machine is fetched.

    Raises:
        CheckpointError: If there is no such model, or it cannot be downloaded.
    """
    if str(name_or_path) == BASE_NAME:
        folder = Path(__file__).parent / "base"
        if not (folder / INDEX).is_file():
            raise CheckpointError(f"this installation does not hold the weights of {BASE_NAME}.", "Train them with: make base")
        return folder
    path = Path(name_or_path).expanduser()
    if os.path.isdir(path):
        return path
    if os.path.exists(path):
        raise CheckpointError(f"{path} is a file; a model is a folder with a {INDEX}.", "Give the folder.")
    if re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", str(name_or_path)):
        return _download(str(name_or_path), may_download=may_download)
    raise CheckpointError(
        f"there is no model {str(name_or_path)[:200]!r}.",
        f"Give {BASE_NAME}, a folder, or a hub id such as OpenMOSS-Team/MOVA-360p.",
    )


def read_json(path: Path, *, otherwise: str = "") -> dict[str, Any]:
    """A JSON document that must be a mapping.

    Raises:
        CheckpointError: If the file is missing (``otherwise`` is the message then) or broken.
    """
    try:
        values = parse_json(read_text(path))
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointError(
            otherwise or f"{path} is missing.", f"Give a folder with a {INDEX}, or download it again."
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{path} cannot be read: {reason}.", "Download the folder again.") from None
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} does not hold a mapping.", "Download the folder again.")
    return values


def _boundary(value: Any, folder: Path) -> float | None:
    if value is None or (type(value) in (int, float) and 0 <= value <= 1):
        return None if value is None else float(value)
    raise CheckpointError(f"{folder / INDEX}: boundary_ratio must be from 0 to 1; got {value!r}.", "Download the folder again.")


def _class_of(component: str, entry: Any) -> tuple[str, str]:
    if not (isinstance(entry, list) and len(entry) == 2 and all(isinstance(part, str) for part in entry)):
        raise CheckpointError(f"{INDEX}: {component} must name a module and a class; got {entry!r}.")
    module, name = entry
    known = KNOWN_CLASSES[component]
    if name not in known:
        raise CheckpointError(
            f"{INDEX}: the class {name!r} of {component} is not one that can be loaded.",
            f"Known are {', '.join(known)}.",
        )
    return module, name


def _capabilities(values: Mapping[str, Any], folder: Path) -> Capabilities:
    try:
        stored = values["world"] if "world" in values else _official_capabilities(folder)
        capabilities = Capabilities.from_values(stored)
        path = folder / "video_dit" / CONFIG
        # a missing configuration is reported when the folder is loaded
        sizes = read_json(path) if path.is_file() and not capabilities.cues else {}
        # input channels beside the noisy latents that are not those of cues (spec 3.7)
        return replace(capabilities, needs_first_frame=bool(sizes.get("in_dim", 0) > sizes.get("out_dim", 0)))
    except (AttributeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder / INDEX}: world is wrong: {error}", "Download the folder again.") from None


def _official_capabilities(folder: Path) -> dict[str, Any]:
    """Official folders do not say what they can make: the defaults are theirs, the rates those of their audio codec."""
    audio = read_json(folder / "audio_vae" / CONFIG)
    hop = math.prod(audio.get("encoder_rates", (2, 3, 4, 5, 8)))
    return {"name": folder.name, "sample_rate": audio.get("sample_rate", 48000), "audio_hop": hop}


def _download(repository: str, *, may_download: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    # no pickles, no code: what is not on this list never reaches the disk
    patterns = ["*.json", "*.safetensors", "*.model", "*.txt", "*.md"]
    try:
        return Path(snapshot_download(repository, allow_patterns=patterns, local_files_only=not may_download))
    except RepositoryNotFoundError:
        raise CheckpointError(
            f"the hub has no model {repository!r}, or it is not public.", "Check the name, or set HF_TOKEN."
        ) from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        offline = isinstance(error, LocalEntryNotFoundError)
        why = "it is not on this machine, and the hub cannot be reached" if offline else str(error).split("\n")[0]
        raise CheckpointError(
            f"{repository} cannot be downloaded: {why}.",
            "Check the connection, or give the path of a folder that holds the model.",
        ) from error
