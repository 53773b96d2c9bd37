"""What a user may ask for, what is chosen where nothing is asked, and why."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry

from mova.errors import MissingExtraError, MovaError, RequestError
from mova.models.joint import JointModel
from mova.runtime.options import RuntimeOptions
from mova.runtime.resolve import (
    AttentionChoice,
    ModelFacts,
    choose_attention,
    choose_device,
    choose_dtype,
    host_memory,
    resolve_runtime,
    use_attention,
    why_not,
)

CPU = torch.device("cpu")
NO_ACCELERATOR = not torch.accelerator.is_available()


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("device", "GPU 1", "cuda:0"),
        ("dtype", "float99", "bfloat16"),
        ("dtype", torch.int8, "float32"),
        ("offload", "disk", "component"),
        ("quantisation", "int4", "fp8_scaled"),
        ("second_expert", "never", "prefetch"),
        ("attention_backend", None, "name"),
        ("vae_tiling", "yes", "true or false"),
    ],
)
def test_a_value_that_is_not_known_is_refused_with_the_field_and_what_is_allowed(field: str, value: Any, allowed: str) -> None:
    with pytest.raises(RequestError, match=allowed) as caught:
        RuntimeOptions(**{field: value})
    assert caught.value.field == field


def test_options_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(RequestError, match="prefetch") as caught:
        RuntimeOptions(second_expert="resident", drop_first_expert=True)
    assert caught.value.field == "drop_first_expert"
    for kind in ("int8", "fp8_scaled"):
        with pytest.raises(RequestError, match="bfloat16") as caught:
            RuntimeOptions(quantisation=kind, dtype="float32")  # type: ignore[arg-type]
        assert caught.value.field == "dtype"
    assert RuntimeOptions(quantisation="int8", dtype=torch.bfloat16).dtype_name == "bfloat16"


def test_options_can_be_named_without_importing_torch() -> None:
    code = "import sys; from mova.runtime.options import RuntimeOptions; RuntimeOptions(); print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], env=dict(os.environ), capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


@pytest.mark.skipif(not NO_ACCELERATOR, reason="this machine has an accelerator")
def test_without_an_accelerator_the_cpu_is_chosen_and_said() -> None:
    assert choose_device("auto") == (CPU, "torch sees no accelerator")
    assert choose_device("cpu") == (CPU, "asked for")
    for name in ("cuda", "cuda:3", "mps", "meta", "tpu"):
        with pytest.raises(RequestError, match="this machine has cpu") as caught:
            choose_device(name)
        assert caught.value.field == "device"


@pytest.mark.skipif(NO_ACCELERATOR, reason="needs an accelerator")
def test_an_accelerator_is_chosen_and_named() -> None:
    device, reason = choose_device("auto")
    assert device.type != "cpu"
    assert "accelerator" in reason
    assert choose_device("cpu")[0] == CPU


def test_on_a_cpu_float32_is_chosen_until_it_would_fill_the_memory() -> None:
    auto = RuntimeOptions()
    assert choose_dtype(auto, CPU, num_parameters=5_000_000)[0] == torch.float32
    dtype, reason = choose_dtype(auto, CPU, num_parameters=host_memory() // 4)
    assert dtype == torch.bfloat16
    assert f"{host_memory() / 1e9:.0f} GB" in reason
    assert choose_dtype(RuntimeOptions(dtype="float16"), CPU, num_parameters=1) == (torch.float16, "asked for")
    assert choose_dtype(RuntimeOptions(quantisation="int8"), CPU, num_parameters=1)[0] == torch.bfloat16
    assert choose_dtype(RuntimeOptions(quantisation="fp8"), CPU, num_parameters=1)[0] == torch.float32


def test_attention_is_chosen_by_what_works_and_the_reason_is_said() -> None:
    auto = choose_attention("auto", CPU, torch.float32, head_dims=(24, 16))
    assert (auto.video, auto.others) == ("native", "native")
    assert "fastest exact" in auto.reason
    assert choose_attention("sdpa", CPU, torch.float32).video == "native"
    assert choose_attention("flash", CPU, torch.float32, head_dims=(24,)).video == "_native_flash"
    assert "all scores" in choose_attention("flex", CPU, torch.float32).reason
    assert choose_attention("_native_math", CPU, torch.float32).video == "_native_math"


def test_attention_that_cannot_be_had_says_why() -> None:
    with pytest.raises(RequestError, match=r"no attention_backend 'fast'.*auto, sdpa, flash") as unknown:
        choose_attention("fast", CPU, torch.float32)
    assert unknown.value.field == "attention_backend"
    with pytest.raises(RequestError, match=r"_native_cudnn.* on cpu in float32: .*backend"):
        choose_attention("_native_cudnn", CPU, torch.float32)
    problem = why_not("sage", CPU, torch.float32, (64,))
    assert problem is not None
    with pytest.raises(MovaError):
        choose_attention("sage", CPU, torch.float32)


def test_a_backend_of_eight_bits_serves_only_where_video_reads_video(tiny_two_experts: Any) -> None:
    model: JointModel = tiny_two_experts.transformer
    before = _AttentionBackendRegistry.get_active_backend()
    try:
        use_attention(model, AttentionChoice("sage", "_native_math"))
        for name, module in model.named_modules():
            if hasattr(module, "processor"):
                expected = "sage" if name.endswith(".video.self_attn") else "_native_math"
                assert module.processor._attention_backend == AttentionBackendName(expected), name
    finally:
        use_attention(model, AttentionChoice())
    assert _AttentionBackendRegistry.get_active_backend() == before  # other models keep theirs


@pytest.mark.skipif(not NO_ACCELERATOR, reason="this machine has an accelerator")
def test_every_decision_is_settled_logged_and_has_a_reason(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="mova.runtime"):
        runtime = resolve_runtime(RuntimeOptions(offload="component", drop_first_expert=True), ModelFacts(10_000))
    assert (runtime.device, runtime.dtype, runtime.offload) == (CPU, torch.float32, "none")
    assert not runtime.drop_first_expert
    assert [record.message for record in caplog.records] == list(runtime.reasons)
    for word in ("device cpu: ", "dtype float32: ", "attention native: ", "offload none: ", "drop_first_expert: "):
        assert any(reason.startswith(word) for reason in runtime.reasons), word


def test_offloading_from_a_cpu_that_was_asked_for_is_refused() -> None:
    for offload in ("component", "block"):
        with pytest.raises(RequestError, match="host memory") as caught:
            resolve_runtime(RuntimeOptions(device="cpu", offload=offload), ModelFacts(10_000))  # type: ignore[arg-type]
        assert caught.value.field == "offload"


def test_a_codec_that_cannot_be_tiled_is_named() -> None:
    facts = ModelFacts(10_000, video_vae="VideoCodec", has_tiling=False, has_slicing=False)
    for field in ("vae_tiling", "vae_slicing"):
        with pytest.raises(RequestError, match="VideoCodec") as caught:
            resolve_runtime(RuntimeOptions(device="cpu", **{field: True}), facts)  # type: ignore[arg-type]
        assert caught.value.field == field


def test_a_missing_package_is_named_with_its_extra() -> None:
    from importlib.util import find_spec

    for kind in ("int8", "fp8_scaled"):
        if find_spec("torchao") is not None:
            pytest.skip("torchao is installed")
        with pytest.raises(MissingExtraError, match="torchao") as caught:
            resolve_runtime(RuntimeOptions(device="cpu", quantisation=kind), ModelFacts(10_000))  # type: ignore[arg-type]
        assert caught.value.extra == "quantise"
        assert "mova-av[quantise]" in str(caught.value)
