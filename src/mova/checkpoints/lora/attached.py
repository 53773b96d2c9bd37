"""The LoRAs attached to a pipeline.

diffusers' own loader treats the networks of a pipeline as unrelated; two experts that share audio and bridge would switch
each other's LoRAs off.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mova.checkpoints.lora.adapters import collect_lora, load_lora, lora_scales, set_lora_scales, unload_lora
from mova.checkpoints.lora.file import DIFFUSERS_FILE, OFFICIAL_FILE, Naming, lora_hash, write_lora
from mova.errors import CheckpointError, RequestError
from mova.models.joint import JointModel


class LoraSet:
    """The LoRAs on the one or two experts of a pipeline.

    Args:
        pipeline: Has the components ``transformer`` and ``transformer_2`` (or ``None``).
    """

    def __init__(self, pipeline: Any) -> None:
        self._pipeline = weakref.proxy(pipeline)
        self._sources: dict[str, dict[str, str]] = {}

    def load(self, path: str | Path, adapter_name: str | None = None, *, scale: float = 1.0) -> str:
        """Read a LoRA and add it to those that are attached; all of them act until :meth:`activate`.

        Args:
            path: A ``.safetensors`` file, or a folder that holds one.
            adapter_name: Name of the adapter; made from the file's name if not given.
            scale: Strength of the LoRA.

        Returns:
            The name.

        Raises:
            CheckpointError: If the file is broken, or made for another model. Nothing has changed then.
            RequestError: If the name or the scale cannot be used.
        """
        name = load_lora(self._experts, path, name=adapter_name, scale=scale, pipeline=self._if_offloadable)
        self._sources[name] = {"file": str(path), "hash": lora_hash(path)}
        return name

    def activate(self, adapter_names: str | Sequence[str], adapter_weights: float | Sequence[float] | None = None) -> None:
        """Let exactly these act, each with its weight (1 if not given); the others stay attached and are off.

        Raises:
            RequestError: If a name is not attached or comes twice, or there are not as many weights as names.
        """
        names = [adapter_names] if isinstance(adapter_names, str) else list(adapter_names)
        one = 1.0 if adapter_weights is None else adapter_weights
        weights = list(one) if isinstance(one, Sequence) else [one] * len(names)
        if len(weights) != len(names) or len(set(names)) != len(names):
            raise RequestError(f"there are {len(weights)} weights for the LoRAs {names}.", "Give one for each.", field="lora")
        off = dict.fromkeys(lora_scales(self._experts), 0.0)
        set_lora_scales(self._experts, off | dict(zip(names, weights, strict=True)))

    def set_scales(self, scales: Mapping[str, float]) -> None:
        """Set the strength of some; the others keep theirs.

        Raises:
            RequestError: If a name is not attached, or a scale is not a finite number.
        """
        set_lora_scales(self._experts, scales)

    def by_network(self) -> dict[str, list[str]]:
        """Names by network; one of the audio or the bridge is in both experts."""
        experts = zip(("transformer", "transformer_2"), self._experts, strict=False)
        return {part: names for part, expert in experts if (names := list(lora_scales([expert])))}

    def scales(self) -> dict[str, float]:
        """Strength of each that is attached."""
        return lora_scales(self._experts)

    def record(self) -> list[dict[str, Any]]:
        """Name, scale, file and SHA-256 of each that acts, in the order in which they were added, as plain JSON values.

        One that was not read from a file by :meth:`load` has no file and no hash.
        """
        scales = self.scales()
        names = [*self._sources, *(name for name in scales if name not in self._sources)]
        return [{"name": name, "scale": scales[name], **self._sources.get(name, {})} for name in names if scales.get(name)]

    def active(self) -> list[str]:
        """Names of those that act."""
        return [name for name, scale in lora_scales(self._experts).items() if scale != 0]

    def detach(self, adapter_names: str | Sequence[str]) -> None:
        """Take some off.

        Raises:
            RequestError: If one is not attached; nothing has changed then.
        """
        names = [adapter_names] if isinstance(adapter_names, str) else list(adapter_names)
        set_lora_scales(self._experts, dict.fromkeys(names, 0.0))  # refuses an unknown name
        for name in dict.fromkeys(names):
            unload_lora(self._experts, name)
            self._sources.pop(name, None)

    def detach_all(self) -> None:
        """Take all off: the network is bit for bit what it was."""
        unload_lora(self._experts)
        self._sources.clear()

    def save(self, save_directory: str | Path, adapter_name: str | None = None, *, names: Naming = "diffusers") -> Path:
        """Write one LoRA into a folder.

        Args:
            save_directory: Made if it is not there.
            adapter_name: Name of the adapter; may be left out if there is only one.
            names: ``"diffusers"``, or ``"official"`` for the reference's tools.

        Returns:
            The file.

        Raises:
            RequestError: If it is not clear which, or that is not attached.
            CheckpointError: If the folder cannot be written.
        """
        attached = list(lora_scales(self._experts))
        if adapter_name is None and len(attached) != 1:
            raise RequestError(f"attached are {len(attached)} LoRAs: {', '.join(attached)}.", "Give a name.", field="lora")
        lora = collect_lora(self._experts, adapter_name or attached[0])
        folder = Path(save_directory)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(f"{folder} cannot be made: {error.strerror}.", "Give another folder.") from error
        return write_lora(folder / (DIFFUSERS_FILE if names == "diffusers" else OFFICIAL_FILE), lora, names=names)

    @property
    def _experts(self) -> list[JointModel]:
        return [expert for expert in (self._pipeline.transformer, self._pipeline.transformer_2) if expert is not None]

    @property
    def _if_offloadable(self) -> Any:
        """This pipeline, where diffusers can look for its offload hooks."""
        return self._pipeline if hasattr(self._pipeline, "hf_device_map") else None
