"""Configurations of a checkpoint's components, checked before anything is built from them.

A configuration comes with the weights, from anyone. Keys that could choose what runs (``auto_map``, ``attn_implementation``,
``quantization_config``) never reach a library; sizes that would fill the memory or take hours to build are refused.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mova.checkpoints.header import StoredTensor
from mova.checkpoints.layout import CONFIG, read_json
from mova.errors import CheckpointError

LOG = logging.getLogger(__name__)

MAX_SIZE = 2**18
"""Largest whole number in a configuration that no tensor's size speaks for; the official vocabulary has 256,384 words."""
MAX_LAYERS = 1024
MAX_ENTRIES = 4096
MAX_TEXT = 500
_LAYERS = re.compile(r"(^|_)(layers|blocks|num_layers)($|_)")
_UMT5 = frozenset(
    [
        "classifier_dropout",
        "d_ff",
        "d_kv",
        "d_model",
        "decoder_start_token_id",
        "dense_act_fn",
        "dropout_rate",
        "eos_token_id",
        "feed_forward_proj",
        "initializer_factor",
        "is_decoder",
        "is_encoder_decoder",
        "is_gated_act",
        "layer_norm_epsilon",
        "num_decoder_layers",
        "num_heads",
        "num_layers",
        "pad_token_id",
        "relative_attention_max_distance",
        "relative_attention_num_buckets",
        "tie_word_embeddings",
        "use_cache",
        "vocab_size",
    ]
)
ALLOWED = {
    "UMT5EncoderModel": _UMT5,
    "UMT5ForConditionalGeneration": _UMT5 | {"text_vocab", "cue_labels", "steps_per_s", "min_gap_s", "left_open"},
}
"""Keys by class, for classes of libraries that do more with a configuration than to take sizes from it."""
_SILENT = frozenset(
    [
        "architectures",
        "dtype",
        "torch_dtype",
        "model_type",
        "transformers_version",
        "tokenizer_class",
        "output_past",
        "bos_token_id",
        "return_dict",
        "output_hidden_states",
        "output_attentions",
        "scalable_attention",
        "problem_type",
        "id2label",
        "label2id",
        "chunk_size_feed_forward",
    ]
)
"""Keys that the libraries write for themselves, without effect here."""
_ACTIVATIONS = ("gated-gelu", "gated-silu", "relu", "gelu", "gelu_new", "silu")


def read_config(
    folder: Path, name: str, *, class_name: str = "", tensors: Mapping[str, StoredTensor] | None = None
) -> dict[str, Any]:
    """A component's configuration, without the keys that libraries add for themselves and those that are not allowed.

    Args:
        folder: Checkpoint folder.
        name: The component's folder.
        class_name: Its class, if that has a list of allowed keys.
        tensors: Stored tensors of the component; ``None`` for configuration files alone.

    Raises:
        CheckpointError: If it is missing or broken, or a size is beyond what the weights or a limit allow.
    """
    path = folder / name / CONFIG
    values = {key: value for key, value in read_json(path).items() if not key.startswith("_")}
    if class_name in ALLOWED:
        ignored = sorted(values.keys() - ALLOWED[class_name] - _SILENT)
        if ignored:
            LOG.warning("ignored in %s: %s", path, ", ".join(ignored)[:200])
        values = {key: value for key, value in values.items() if key in ALLOWED[class_name]}
    check_values(path, values, tensors=tensors)
    return values


def check_values(path: Path, values: Mapping[str, Any], *, tensors: Mapping[str, StoredTensor] | None = None) -> None:
    """Compare the sizes in a configuration with the stored tensors and with the limits.

    Raises:
        CheckpointError: If one is beyond them; the message names it.
    """
    sizes = [size for tensor in (tensors or {}).values() for size in tensor.shape]
    largest = max([MAX_SIZE, *sizes])
    most_layers = MAX_LAYERS if tensors is None else min(MAX_LAYERS, max(len(tensors), 1))
    for key, value in values.items():
        if isinstance(value, list) and len(value) > MAX_ENTRIES:
            raise _refused(path, key, f"has {len(value)} entries; at most {MAX_ENTRIES} are read")
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, str) and len(one) > MAX_TEXT:
                raise _refused(path, key, f"has {len(one)} characters")
            if isinstance(one, bool) or not isinstance(one, int | float):
                continue
            if _LAYERS.search(key) and one > most_layers:
                raise _refused(path, key, f"is {one}; the weights have {most_layers} tensors" if tensors is not None
                               else f"is {one}; at most {MAX_LAYERS} can be built")  # fmt: skip
            if isinstance(one, int) and abs(one) > largest:
                raise _refused(path, key, f"is {one}; no tensor of the weights is larger than {largest}")
    if values.get("feed_forward_proj", "relu") not in _ACTIVATIONS or values.get("dense_act_fn", "relu") not in _ACTIVATIONS:
        raise _refused(path, "feed_forward_proj", f"must be one of {', '.join(_ACTIVATIONS)}")


def _refused(path: Path, key: str, what: str) -> CheckpointError:
    return CheckpointError(f"{path}: {key[:80]} {what}.", "Download the folder again, from its makers.")
