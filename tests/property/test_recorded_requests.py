"""What a file says of how it was made is checked: whatever stands there, it is read, or refused in our words."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mova.cli import inspect as inspecting
from mova.cli import recorded as recording
from mova.conditioning.recorded import read_record
from mova.errors import MediaError, MovaError
from mova.media.clip import Clip
from mova.media.probe import MediaInfo, probe
from mova.request.schema import GenerationRequest

REQUEST: dict[str, Any] = {
    "prompt": "a red ball bounces twice", "negative_prompt": "", "seed": 1, "audio_seed": 2, "num_frames": 33, "fps": 16.0,
    "width": 96, "height": 96, "num_inference_steps": 2, "guidance_scale": 1.5, "solver": "adams", "audio_sample_rate": 16000,
    "cues": [{"time_s": 0.5, "label": "red"}], "keyframes": [{"time_s": 1.0, "image": "b.png"}],
    "retake": {"modality": "video", "from_s": 0.5, "to_s": 1.0}, "video": "c.mp4", "extend_at": "end", "truncate": False,
}  # fmt: skip
MADE_BY: dict[str, Any] = {
    "mova": "0.1.0", "model": "nosuch", "weights": "18af965459abc729", "dtype": "float32", "quantisation": "none",
    "schedule": {"shift": 3.0, "audio_shift": None}, "inputs": {"a.png": "00"},
    "loras": [{"name": "style", "scale": 0.5, "file": "style.safetensors", "hash": "00"}], "cues": [[0.664, "green"]],
}  # fmt: skip
FILM = {"model": "nosuch", "sound": "cut", "fade_ms": 5.0, "shots": [{"prompt": "rain", "seed": 1}], "made_by": MADE_BY}
RECORDS: list[dict[str, Any]] = [{**REQUEST, "made_by": MADE_BY}, FILM]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9)
    | st.sampled_from(["\ud800", "x" * 5000, "a\0b", "memory:00", "/dev/zero", "1e400"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


@pytest.fixture(scope="module")
def info(tmp_path_factory: pytest.TempPathFactory) -> MediaInfo:
    clip = Clip(np.zeros((8, 16, 16, 3), np.uint8), np.zeros((1, 8000), np.float32), 16, 16000, request=REQUEST)
    path = tmp_path_factory.mktemp("recorded") / "clip.wav"
    clip.save(path)
    found = probe(path)
    assert found.request is not None and found.request["prompt"] == REQUEST["prompt"]
    return found


def with_record(info: MediaInfo, record: Any) -> MediaInfo:
    return replace(info, metadata={"comment": record if isinstance(record, str) else json.dumps(record)})


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container and key within."""
    items = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ())
    return [(value, key) for key, _ in items] + [place for _, item in items for place in places(item)]


def use(info: MediaInfo) -> None:
    """Everything that is done with a record before a model is loaded."""
    inspecting.show_video(info, is_json=True)
    inspecting.show_video(info, is_json=False)
    record = read_record(info)
    if record is None or record.is_film:
        return
    for step in (
        lambda: GenerationRequest.model_validate(recording.apply_changes(record.request, ["seed=3"])),
        lambda: recording.check_inputs(record.request, record.made_by),
        lambda: recording.model_of_video(record.made_by),
        lambda: recording.loras_of_video(record.made_by),
        lambda: recording.reroll_from_file(info.path, record.request, "video"),
    ):
        try:
            step()
        except MovaError as problem:
            assert problem.message


@given(
    record=st.sampled_from(RECORDS), place=st.integers(0, 10**6), value=VALUES, change=st.sampled_from(["set", "drop", "add"])
)
def test_a_changed_record_is_read_or_refused(
    info: MediaInfo, record: dict[str, Any], place: int, value: Any, change: str
) -> None:
    changed = copy.deepcopy(record)
    found = places(changed)
    container, key = found[place % len(found)]
    if change == "drop":
        del container[key]
    elif change == "add" and isinstance(container, dict):
        container[f"{key}_2"] = value
    else:
        container[key] = value
    try:
        use(with_record(info, changed))
    except MediaError as problem:
        assert "its request is broken" in problem.message


@given(text=st.text(max_size=40) | st.just("[" * 10**5) | st.just('{"a":' * 10**5) | st.just('{"seed": ' + "9" * 5000 + "}"))
def test_any_text_in_the_tag_is_read_or_refused(info: MediaInfo, text: str) -> None:
    try:
        use(with_record(info, text))
    except MediaError as problem:
        assert "its request is broken" in problem.message


@pytest.mark.parametrize("record", RECORDS)
def test_what_mova_writes_passes(info: MediaInfo, record: dict[str, Any]) -> None:
    use(with_record(info, record))


BROKEN = [
    {"image": ["a"]},
    {"image": None},
    {"made_by": {"loras": [{"file": "a"}]}}, {"image": 3}, {"keyframes": "abc"}, {"keyframes": [{"time_s": 1.0}]}, 
    {"references": 5}, {"references": [1]},
    {"prompt": 5}, {"prompt": "\ud800"}, {"made_by": {"loras": 3}}, {"made_by": {"loras": [{"file": 3}]}}, {"made_by": "x"},
    {"made_by": {"model": {"a": 1}}}, {"made_by": {"model": []}}, {"made_by": {"model": "x" * 10000}}, 
    {"made_by": {"inputs": "x"}},
]  # fmt: skip


@pytest.mark.parametrize("change", BROKEN, ids=str)
def test_a_field_of_another_type_is_named(info: MediaInfo, change: dict[str, Any]) -> None:
    with pytest.raises(MediaError, match="its request is broken"):
        read_record(with_record(info, {**REQUEST, **change}))
