"""Settings of a LoRA: rank, alpha and the like, in its metadata or in a JSON document beside it, as each trainer writes them.

What changes the strength or the form of the update is honoured or refused by its name; nothing of the kind is passed over.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from mova.checkpoints.layout import read_json
from mova.checkpoints.lora.patterns import matches_end
from mova.checkpoints.lora.tensor_names import EXPERTS
from mova.errors import CheckpointError
from mova.files import is_regular
from mova.parsing import parse_json

CONFIG_FILES = ("lora_config.json", "adapter_config.json")
PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl")
_DOCUMENTS = ("lora_adapter_metadata", "lora_config", "adapter_config", "peft_config")
"""Names of metadata that hold a JSON mapping of settings."""
_SYNONYMS = {
    **dict.fromkeys(("rank", "r", "dim", "lora_rank", "lora_dim", "network_dim", "ss_network_dim", "lora_r"), "rank"),
    **dict.fromkeys(("alpha", "lora_alpha", "network_alpha", "ss_network_alpha"), "alpha"),
    **dict.fromkeys(("use_rslora", "rslora", "rs_lora"), "use_rslora"),
    **{name: name for name in ("rank_pattern", "alpha_pattern")},
}
# settings of PEFT and others that make more than W + alpha / rank B A
_BEYOND_LORA = {
    **{name: name for name in ("use_qalora", "modules_to_save", "alora_invocation_tokens", "layer_replication", "use_bdlora")},
    **{name: name for name in ("lora_bias", "fan_in_fan_out", "trainable_token_indices", "arrow_config", "target_parameters")},
    **dict.fromkeys(("use_dora", "dora", "dora_wd", "weight_decompose"), "use_dora"),
}
_TELLING = ("alpha", "dora", "rslora", "rs_lora")
"""Parts of a name that speak of the update's strength: such a name is known, or refused."""
_MEANINGLESS = ("ss_alpha_mask",)


class Settings:
    """Settings of one LoRA.

    Args:
        file: File, for messages.
        scopes: Values by scope: an expert's name, or "" for all.
    """

    def __init__(self, file: Path, scopes: Mapping[str, Mapping[str, Any]]) -> None:
        self.file = file
        self.scopes = {scope: _understood(file, values) for scope, values in scopes.items()}

    def alpha(self, layer: str, *, scope: str, local: str, rank: int, stored: float | None) -> float:
        """Alpha of a layer, over its rank.

        Args:
            layer: Stored name of the layer, for messages.
            scope: Expert, as written.
            local: Name that patterns match.
            rank: Rank of its tensors.
            stored: Alpha that stands beside the layer, if one does.

        Raises:
            CheckpointError: If the settings are broken, or tell of another rank than the tensors'.
        """
        values = self.scopes.get(scope, self.scopes.get("", {}))
        if stored is None:
            said = self._value(values, "rank", local)
            if said is not None and said != rank:
                raise CheckpointError(
                    f"{self.file}: the rank of {layer} is {rank}; its settings say {said:g}.",
                    "Correct rank and alpha: the official trainer writes 16 whatever it used.",
                )
        alpha = (self._value(values, "alpha", local) or float(rank)) if stored is None else stored
        # alpha / sqrt(rank), in the words of alpha / rank
        return alpha * math.sqrt(rank) if values.get("use_rslora") else alpha

    def _value(self, values: Mapping[str, Any], name: str, layer: str) -> float | None:
        """A layer's own value, or that of all."""
        patterns = values.get(f"{name}_pattern") or {}
        if not isinstance(patterns, dict):
            raise CheckpointError(f"{self.file}: {name}_pattern must be a mapping; got {patterns!r}.", "Correct its settings.")
        for pattern, value in patterns.items():
            try:
                is_meant = matches_end(pattern, layer)
            except ValueError as error:
                raise CheckpointError(
                    f"{self.file}: {name}_pattern has a broken pattern {pattern[:60]!r}: {error}.", "Correct its settings."
                ) from None
            if is_meant:
                return number(self.file, f"{name}_pattern", value)
        value = values.get(name)
        return None if value is None else number(self.file, name, value)


def read_settings(file: Path, metadata: Mapping[str, str]) -> Settings:
    """Settings of a file, from its metadata or else from a document beside it.

    Raises:
        CheckpointError: If they are broken, kept in a pickle, or make it more than a plain LoRA.
    """
    name = next((name for name in _DOCUMENTS if name in metadata), None)
    values = _mapping(file, name, metadata[name]) if name is not None else _flat(file, metadata)
    if not values:
        beside = [file.with_name(name) for name in (f"{file.stem}.json", *CONFIG_FILES)]
        values = next((read_json(path) for path in beside if is_regular(path)), {})
        if not values and (pickle := file.with_name("lora_config.pt")).exists():
            refuse_pickle(pickle)
    scopes: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        prefix, dot, rest = key.partition(".")
        scope, name = (prefix, rest) if dot and prefix in EXPERTS else ("", key)
        scopes.setdefault(scope, {})[name] = value
    return Settings(file, scopes)


def refuse_pickle(path: Path) -> NoReturn:
    """Raise for a file whose reading could run code."""
    raise CheckpointError(
        f"{path} is a pickle, which can run code, and is not read.",
        "Where you trust it, write torch.load(file, weights_only=True) with safetensors.torch.save_file, "
        'and rank and alpha as {"rank": 16, "alpha": 16} into lora_config.json beside it.',
    )


def number(file: Path, name: str, value: Any) -> float:
    """A positive finite number from a setting, which may be text.

    Raises:
        CheckpointError: If it is none.
    """
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not (math.isfinite(found) and found > 0):
        raise CheckpointError(f"{file}: {name} must be a number above 0; got {str(value)[:60]!r}.", "Correct its settings.")
    return found


def _flat(file: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """Settings that stand in the metadata by themselves, and those of kohya's network arguments."""
    values: dict[str, Any] = {name: value for name, value in metadata.items() if _is_setting(name)}
    for name in ("rank_pattern", "alpha_pattern"):
        if name in values:
            values[name] = _mapping(file, name, values[name])
    arguments = metadata.get("ss_network_args", "")
    if arguments.startswith("{"):
        values |= {name: value for name, value in _mapping(file, "ss_network_args", arguments).items() if _is_setting(name)}
    # a rank alone says nothing that the tensors do not
    return values if any(_SYNONYMS.get(name) != "rank" for name in values) else {}


def _is_setting(name: str) -> bool:
    speaks = any(part in name.lower() for part in _TELLING) and name not in _MEANINGLESS
    return speaks or name in _SYNONYMS or name in _BEYOND_LORA


def _mapping(file: Path, name: str, text: str) -> dict[str, Any]:
    try:
        values = parse_json(text)
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise CheckpointError(f"{file}: {name} in its metadata is no JSON mapping.", "Write the file again.")
    return values


def _understood(file: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by our names.

    Raises:
        CheckpointError: If two names of one setting disagree, or a setting makes it more than a plain LoRA.
    """
    found: dict[str, Any] = {}
    beyond = []
    for name, written in values.items():
        value = _plain_value(written)
        if name in _BEYOND_LORA:
            beyond += [_BEYOND_LORA[name]] if value else []
        elif name in _SYNONYMS:
            ours = _SYNONYMS[name]
            if value is not None and found.setdefault(ours, value) != value and _differ(found[ours], value):
                raise CheckpointError(f"{file}: its settings give two values of {ours}.", "Keep one of them.")
        elif any(part in name.lower() for part in _TELLING) and name not in _MEANINGLESS and value:
            raise CheckpointError(f"{file}: the setting {name[:60]!r} is not understood.", "Write alpha, in its usual form.")
    start = values.get("init_lora_weights", True)
    if isinstance(start, str) and start not in ("gaussian", "orthogonal"):  # PiSSA and the like change the base weights too
        beyond.append(f"init_lora_weights={start[:40]}")
    if str(values.get("peft_type") or "LORA").upper() not in ("LORA", "PEFTTYPE.LORA"):
        beyond.append(f"peft_type={str(values['peft_type'])[:40]}")
    if values.get("bias") not in (None, "none", False):
        beyond.append(f"bias={str(values['bias'])[:40]}")
    if beyond:
        raise CheckpointError(f"{file} is not a plain LoRA: {', '.join(beyond)}.", "Convert it to a plain LoRA with PEFT.")
    return found


def _plain_value(value: Any) -> Any:
    """Metadata is text: what says no is no."""
    text = value.strip().lower() if isinstance(value, str) else None
    return None if text in ("none", "null", "") else False if text == "false" else True if text == "true" else value


def _differ(one: Any, other: Any) -> bool:
    try:
        return float(one) != float(other)
    except (TypeError, ValueError, OverflowError):
        return True
