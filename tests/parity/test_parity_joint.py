from __future__ import annotations

import pytest
from golden import assert_close, build, load_case, load_official, pick

from mova.models.joint import share_audio_and_bridge


@pytest.mark.parametrize("rope_dtype", ["float32", "float64"])
def test_one_denoising_pass_equals_the_reference_with_both_experts_and_without_the_bridge(
    rope_dtype: str,
) -> None:
    case, tensors = load_case("case6_dual_tower_step")
    config = case["config"]
    sizes = {
        "video": config["video_dit"],
        "audio": config["audio_dit"],
        "bridge": config["bridge"],
        "rope_dtype": rope_dtype,
    }
    first, second = build(sizes), build(sizes)
    share_audio_and_bridge(first, second)
    load_official(first, "video_dit", pick(tensors, "weights.video_dit."))
    load_official(first, "audio_dit", pick(tensors, "weights.audio_dit."))
    load_official(first, "dual_tower_bridge", pick(tensors, "weights.dual_tower_bridge."))
    load_official(second, "video_dit_2", pick(tensors, "weights.video_dit_2."))

    inputs = pick(tensors, "inputs.")
    common = {
        "video_latents": inputs["visual_latents"],
        "audio_latents": inputs["audio_latents"],
        "video_timestep": inputs["timestep"],
        "audio_timestep": inputs["audio_timestep"],
        "video_fps": config["video_fps"],
        "text_context": first.encode_text(inputs["context"]),
    }
    for model, scale, suffix in ((first, 1.0, ""), (second, 1.0, "_expert2"), (first, 0.0, "_nobridge")):
        out = model(**common, bridge_scale=scale)
        assert_close(out.video, tensors[f"outputs.visual{suffix}"])
        assert_close(out.audio, tensors[f"outputs.audio{suffix}"])
