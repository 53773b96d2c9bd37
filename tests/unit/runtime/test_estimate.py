"""What is counted on the meta device against what torch counts while the real networks run, and against known sizes."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mova.checkpoints.layout import CODECS, build_codec, read_index
from mova.checkpoints.load import Components
from mova.checkpoints.meta import build_joint, build_module
from mova.models.joint import JointModel
from mova.models.presets import BASE, MOVA_360P
from mova.request.solver_names import evaluation_points
from mova.runtime.estimate import Lengths, NetworkCost, decode_cost, text_encoder_cost
from mova.runtime.memory import ModelCost, choices, first_that_fits
from mova.runtime.meter import measure
from mova.sampling.denoise import denoise
from mova.sampling.guidance import Branch, Experts, Guidance
from mova.sampling.schedule import ScheduleConfig, schedule_pair
from mova.sampling.solvers import SOLVERS, Step
from mova.sampling.task import AVTensors, Task

P360 = Lengths(video=43_120, audio=403, text=512, frames=49)
P720 = Lengths(video=176_400, audio=403, text=512, frames=49)
WAN_TINY = {"base_dim": 8, "z_dim": 4, "dim_mult": [1, 1, 2, 2], "num_res_blocks": 1}
DAC_TINY = {"encoder_dim": 8, "encoder_rates": [2, 3], "latent_dim": 8, "decoder_dim": 32, "decoder_rates": [3, 2]}
KNOWN = {name: entry for codecs in CODECS.values() for name, entry in codecs.items()}
PLAIN, CFG, DUAL = (Guidance.from_scales(*scales).branches(0.5) for scales in ((1.0, 1.0), (5.0, 1.0), (5.0, 3.5)))


def counted(compute: Callable[[], Any]) -> int:
    """Operations as torch counts them; its counter does not know the fused attention of a CPU, but the plain one."""
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        compute()
    return int(counter.get_total_flops())


def network_of(config: dict[str, Any]) -> NetworkCost:
    with torch.device("meta"):
        return NetworkCost(JointModel(**config))


@pytest.fixture(scope="module")
def full() -> NetworkCost:
    return network_of(MOVA_360P)


def with_bridge(**changes: Any) -> dict[str, Any]:
    config = copy.deepcopy(BASE)
    config["video"] |= {"num_layers": 3}
    config["audio"] |= {"num_layers": 2}
    config["bridge"] |= {"visual_layers": 3, "audio_layers": 2} | changes
    return config


def inputs(config: dict[str, Any], frames: int, side: int, length: int, batch: int) -> dict[str, Any]:
    return {
        "video_latents": torch.randn(batch, config["video"]["in_dim"], frames, side, side),
        "audio_latents": torch.randn(batch, config["audio"]["in_dim"], length),
        "video_timestep": torch.full((batch,), 500.0),
        "audio_timestep": torch.full((batch,), 400.0),
        "text_embeds": torch.randn(batch, 7, config["video"]["text_dim"]),
        "video_fps": 16.0,
    }


@pytest.mark.parametrize("changes", [{}, {"interaction_strategy": "custom"}, {"pooled_adaln": True}])
@pytest.mark.parametrize(("frames", "side", "length", "batch"), [(1, 4, 5, 1), (3, 8, 17, 2)])
def test_a_forward_pass_costs_exactly_what_torch_counts(
    changes: dict[str, Any], frames: int, side: int, length: int, batch: int
) -> None:
    config = with_bridge(**changes)
    model = JointModel(**config).eval().requires_grad_(False)
    network = network_of(config)
    lengths = Lengths(video=frames * (side // 2) ** 2, audio=length, text=7, frames=frames)
    values = inputs(config, frames, side, length, batch)
    text_part = sum(network.text_flops(lengths, batch=batch).values())
    bridged = sum(network.forward_flops(lengths, batch=batch).values())
    apart = sum(network.forward_flops(lengths, batch=batch, has_bridge=False).values())
    assert counted(lambda: model(**values)) == bridged + text_part
    assert counted(lambda: model(**values, bridge_scale=0.0)) == apart + text_part
    assert apart < bridged


@pytest.mark.parametrize("num_layers", [1, 8, 9])
def test_a_perturbed_pass_costs_exactly_what_torch_counts(num_layers: int) -> None:
    config = with_bridge(visual_layers=num_layers, audio_layers=9)
    config["video"] |= {"num_layers": num_layers}
    config["audio"] |= {"num_layers": 9}
    model, network = JointModel(**config).eval().requires_grad_(False), network_of(config)
    lengths = Lengths(video=3 * 16, audio=17, text=7, frames=3)
    values = inputs(config, 3, 8, 17, 1)
    perturbed = sum(network.forward_flops(lengths, is_perturbed=True).values())
    text_part = sum(network.text_flops(lengths).values())
    assert counted(lambda: model(**values, perturbed_layers=model.middle_layers)) == perturbed + text_part
    assert perturbed < sum(network.forward_flops(lengths).values())


def test_a_token_with_a_level_of_its_own_costs_another_time_embedding() -> None:
    config = with_bridge()
    model, network = JointModel(**config).eval(), network_of(config)
    values = inputs(config, 2, 4, 6, 1)
    values["video_timestep"] = torch.arange(2.0)[None, :, None, None].expand(1, 2, 4, 4) * 100
    values["audio_timestep"] = torch.arange(6.0)[None] * 10
    lengths = Lengths(video=8, audio=6, text=7, frames=2)
    count = sum(network.forward_flops(lengths, levels=(2, 6)).values())
    assert counted(lambda: model(**values)) == count + sum(network.text_flops(lengths).values())


def test_the_shipped_network_at_its_own_length_costs_exactly_what_torch_counts() -> None:
    model, network = JointModel(**BASE).eval(), network_of(BASE)
    lengths = Lengths(video=9 * 36, audio=66, text=7, frames=9)
    count = sum(network.forward_flops(lengths).values()) + sum(network.text_flops(lengths).values())
    assert counted(lambda: model(**inputs(BASE, 9, 12, 66, 1))) == count


@pytest.mark.parametrize(("cross_scale", "evaluations"), [(1.0, 2), (2.5, 3)])
def test_a_guided_run_of_two_experts_costs_exactly_what_torch_counts(
    tiny_two_experts: Components, cross_scale: float, evaluations: int
) -> None:
    config = tiny_two_experts.transformer.config
    network = network_of({name: config[name] for name in ("video", "audio", "bridge")})
    lengths = Lengths(video=2 * 4, audio=10, text=5, frames=2)
    branches = Guidance.from_scales(3.0, cross_scale).branches(0.5)
    assert len(branches) == evaluations
    first, second = tiny_two_experts.transformer, tiny_two_experts.transformer_2
    assert second is not None
    video_schedule, audio_schedule = schedule_pair(ScheduleConfig(shift=2.0), 2)

    def run() -> AVTensors:
        return denoise(
            Experts([first, second], boundary=0.9),
            Task(torch.ones(2, 4, 4), torch.ones(10)),
            text_embeds=torch.randn(1, 5, 32),
            negative_embeds=torch.randn(1, 5, 32),
            video_schedule=video_schedule,
            audio_schedule=audio_schedule,
            guidance=Guidance.from_scales(3.0, cross_scale),
            video_fps=16.0,
            video_noise=torch.randn(1, 4, 2, 4, 4),
            audio_noise=torch.randn(1, 6, 10),
        )

    count = 2 * network.step_flops(lengths, branches)
    assert counted(run) == count + network.prompt_flops(lengths, branches, num_experts=2)


@pytest.mark.parametrize("name", sorted(SOLVERS))
def test_a_solver_asks_for_as_many_velocities_as_are_counted(name: str) -> None:
    asked: list[int] = []

    def velocity(latents: AVTensors, point: int, /) -> AVTensors:
        asked.append(point)
        return latents

    sigmas = torch.linspace(1.0, 0.0, 6)
    latents, memory = AVTensors(torch.ones(1, 1, 1, 1, 1), torch.ones(1, 1, 1)), None
    for index in range(5):
        ends = [AVTensors(sigmas[i].view(1, 1, 1, 1, 1), sigmas[i].view(1, 1, 1)) for i in (index, index + 1)]
        latents, memory = SOLVERS[name].step(velocity, latents, Step(index, 5, *ends), memory)
    assert tuple(asked) == evaluation_points(name, 5)


def test_parameters_of_the_full_size_are_those_of_the_specification(full_model: ModelCost) -> None:
    assert full_model.network.parameters == {
        "video_dit": 14_288_901_184,
        "audio_dit": 1_419_193_472,
        "dual_tower_bridge": 2_659_737_600,
    }
    assert full_model.text_encoder.parameters == 5_680_910_336
    assert full_model.audio_codec.parameters == 371_539_137
    assert full_model.video_codec.parameters == 126_892_531


@pytest.mark.parametrize(
    ("lengths", "petaflops", "attention"), [(P360, 2.766, 0.551), (P720, 30.56, 0.834)], ids=["360p", "720p"]
)
def test_operations_of_the_full_size_are_those_known(
    full: NetworkCost, lengths: Lengths, petaflops: float, attention: float
) -> None:
    parts = full.forward_flops(lengths)
    total = sum(parts.values()) + sum(full.text_flops(lengths).values())
    assert total / 1e15 == pytest.approx(petaflops, rel=5e-4)
    assert parts["video self-attention"] / total == pytest.approx(attention, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "config", "grid"),
    [
        ("AutoencoderKLWan", WAN_TINY, (1, 4, 4)),
        ("AutoencoderKLWan", WAN_TINY | {"num_res_blocks": 2, "dim_mult": [1, 2, 4, 4]}, (3, 4, 6)),
        ("VideoCodec", {"latent_channels": 4, "base_width": 8, "width": 12}, (3, 2, 4)),
        ("FullRateVideoCodec", {"latent_channels": 4, "widths": (12, 10, 10, 8, 4), "encoder_widths": (8, 10, 12)}, (2, 2, 3)),
        ("DAC", DAC_TINY, (9,)),
        ("AudioCodec", {"latent_channels": 6, "width": 16, "num_blocks": 1, "n_fft": 512}, (8,)),
        ("StereoAudioCodec", {"latent_channels": 6, "decoder_width": 16, "decoder_blocks": 1}, (8,)),
    ],
)
def test_decoding_costs_exactly_what_torch_counts(name: str, config: dict[str, Any], grid: tuple[int, ...]) -> None:
    codec: Any = build_codec(KNOWN[name], config).eval()
    channels = next(config[key] for key in ("z_dim", "latent_channels", "latent_dim") if key in config)
    expected = counted(lambda: codec.decode(torch.randn(1, channels, *grid)))
    cost = decode_cost(codec, channels, grid)
    assert cost.parameters == sum(parameter.numel() for parameter in codec.parameters())
    assert cost.flops == expected


def test_every_codec_that_a_checkpoint_may_name_has_been_counted() -> None:
    video = {"AutoencoderKLWan", "VideoCodec", "FullRateVideoCodec"}
    assert KNOWN.keys() == video | {"DAC", "AudioCodec", "StereoAudioCodec"}


@pytest.mark.parametrize("num_latents", [1, 3, 6])
def test_a_steady_decoder_is_measured_on_its_first_latents(num_latents: int) -> None:
    entry = KNOWN["AutoencoderKLWan"]
    codec = build_codec(entry, WAN_TINY)
    grid = (num_latents, 4, 6)
    assert entry.steady_after and decode_cost(codec, 4, grid, steady_after=entry.steady_after) == decode_cost(codec, 4, grid)


def test_memory_is_that_of_all_tensors_alive_at_one_time() -> None:
    given = torch.zeros(10, device="meta")

    def compute() -> torch.Tensor:
        first = given + 1  # 40 bytes
        second = torch.cat([first, first, first])  # 120 more
        del first
        return second[:10] * 2  # 40 more, after 40 less

    measured = measure(compute, given=[given])
    assert measured.peak_bytes == 160 and measured.flops == 0


def test_attention_takes_no_memory_but_its_result() -> None:
    query = torch.zeros(1, 2, 100, 8, device="meta")
    measured = measure(lambda: torch.nn.functional.scaled_dot_product_attention(query, query, query), given=[query])
    assert measured.peak_bytes == query.nbytes and measured.flops == 2 * 2 * 2 * 100 * 100 * 8


def test_the_text_encoder_costs_exactly_what_torch_counts() -> None:
    from transformers import UMT5Config
    from transformers.models.umt5.modeling_umt5 import UMT5EncoderModel

    config = {"vocab_size": 50, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 3, "num_heads": 2}
    encoder = UMT5EncoderModel(UMT5Config(**config, feed_forward_proj="gated-gelu")).eval()
    ids = torch.zeros(1, 11, dtype=torch.long)
    expected = counted(lambda: encoder(input_ids=ids, attention_mask=torch.ones_like(ids)))
    parameters = sum(parameter.numel() for parameter in encoder.parameters())
    cost = text_encoder_cost(encoder, 11)
    assert (cost.parameters, cost.flops) == (parameters, expected)


@pytest.fixture(scope="module")
def full_model(full: NetworkCost, official_full_configs: Path) -> ModelCost:
    """The official checkpoint's configuration files at 640x352 and 193 frames."""
    index = read_index(official_full_configs)
    assert build_joint(official_full_configs, "video_dit").config["video"]["dim"] == full.model.config["video"]["dim"]
    encoder, video, audio = (
        build_module(official_full_configs, name, index) for name in ("text_encoder", "video_vae", "audio_vae")
    )
    steady = KNOWN["AutoencoderKLWan"].steady_after
    costs = decode_cost(video, 16, (49, 44, 80), steady_after=steady), decode_cost(audio, 128, (403,))
    return ModelCost(full, 2, text_encoder_cost(encoder, 512), *costs)


def test_decoding_of_the_full_size_is_what_is_known(full_model: ModelCost) -> None:
    assert full_model.video_codec.flops == 368_626_797_608_960
    assert full_model.audio_codec.flops == 930_661_195_776
    assert full_model.video_codec.peak_bytes == pytest.approx(4.9e9, rel=0.02)


def test_memory_of_a_step_of_the_full_size_is_what_is_known(full: NetworkCost) -> None:
    # tokens of 43,120 x 5,120 in 16 bit are 0.44 GB: two came in; normed, query twice, value, and the key turned in float32
    assert full.step_bytes(P360, CFG, num_experts=2) == pytest.approx(7.31e9, rel=0.01)


def test_weights_of_each_way_add_up_to_the_parameters(full_model: ModelCost) -> None:
    ways = {(way.offload, way.stored): way for way in choices(full_model, P360, CFG)}
    sixteen_bit = 2 * (2 * 14_288_901_184 + 1_419_193_472 + 2_659_737_600 + 5_680_910_336)
    everything = sixteen_bit + 4 * (371_539_137 + 126_892_531)
    assert {stage.weights for stage in ways["none", "16 bit"].stages.values()} == {everything}
    active = 2 * (14_288_901_184 + 1_419_193_472 + 2_659_737_600)
    assert ways["component", "16 bit"].stages["denoise"].weights == active
    assert ways["component", "16 bit"].stages["text"].weights == 2 * 5_680_910_336
    assert ways["component", "16 bit"].host_bytes == everything
    matrices = 40 * (8 * 5120**2 + 2 * 5120 * 13824)  # a byte less for each of their numbers, but four more a row
    saved = active - ways["component", "8 bit"].stages["denoise"].weights
    assert matrices - saved == 40 * 4 * (9 * 5120 + 13824)
    streamed = ways["block", "16 bit"].streamed_bytes
    blocks = full_model.network.model.transformer_blocks
    assert streamed == 2 * sum(parameter.numel() for parameter in blocks.parameters())


def test_each_way_takes_less_than_the_one_before_and_the_first_that_fits_is_taken(full_model: ModelCost) -> None:
    ways = choices(full_model, P360, CFG)
    for stored in ("16 bit", "8 bit"):
        peaks = [way.peak_bytes for way in ways if way.stored == stored]
        assert peaks == sorted(peaks, reverse=True) and len(peaks) == 3
    chosen = [first_that_fits(ways, size * 10**9) for size in (140, 80, 24, 4)]
    names = [None if way is None else (way.offload, way.stored) for way in chosen]
    assert names == [("none", "16 bit"), ("component", "16 bit"), ("block", "16 bit"), None]


def test_a_third_evaluation_and_a_longer_text_are_kept_in_memory(full: NetworkCost) -> None:
    def bytes_of(lengths: Lengths, branches: tuple[Branch, ...], experts: int = 1) -> int:
        return full.step_bytes(lengths, branches, num_experts=experts)

    # keys and values of 512 text tokens in 40 and 30 blocks: 0.42 GB and 0.09 GB, and the projected text itself
    text_bytes = 512 * 2 * (81 * 5120 + 61 * 1536)
    assert bytes_of(P360, PLAIN) - bytes_of(replace(P360, text=0), PLAIN) == text_bytes
    assert bytes_of(P360, PLAIN, 2) - bytes_of(P360, PLAIN, 1) == 512 * 2 * 81 * 5120
    velocity = 4 * 16 * 4 * 43_120
    assert bytes_of(P360, CFG) - bytes_of(P360, PLAIN) == text_bytes + velocity
    assert bytes_of(P360, DUAL) - bytes_of(P360, CFG) == velocity


def test_counts_are_whole_numbers_and_attention_grows_with_the_square_of_the_length(full: NetworkCost) -> None:
    short = full.forward_flops(P360)
    assert all(isinstance(value, int) for value in short.values())
    double = full.forward_flops(replace(P360, video=2 * P360.video))
    assert double["video self-attention"] == 4 * short["video self-attention"]
    assert double["video feed-forward"] == 2 * short["video feed-forward"]
    assert double["audio tower"] == short["audio tower"]
    assert math.isclose(sum(double.values()) / sum(short.values()), 3.1, abs_tol=0.1)
