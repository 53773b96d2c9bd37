"""The formulas against what torch counts while the real networks run, and against the sizes that are known."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from live_bytes import largest_bytes
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mova.checkpoints.load import Components
from mova.models.bridge import INTERACTIONS, BridgeInputs
from mova.models.codecs.audio import AudioCodec
from mova.models.codecs.audio_vae import DacVae
from mova.models.codecs.video import VideoCodec
from mova.models.joint import JointModel
from mova.models.presets import BASE, MOVA_360P
from mova.models.tower import TowerInputs
from mova.request.solver_names import evaluation_points
from mova.runtime import costs
from mova.runtime.codec_costs import CODECS, codec_cost
from mova.runtime.costs import INTERACTING, Lengths, Network
from mova.runtime.memory import Model, choices, denoise_tensors, first_that_fits
from mova.sampling.av_tensors import AVTensors
from mova.sampling.denoise import Experts, denoise
from mova.sampling.guidance import Guidance
from mova.sampling.schedule import ScheduleConfig, schedule_pair
from mova.sampling.solvers import SOLVERS, Step
from mova.sampling.task import Task

FULL = Network.from_configs(**MOVA_360P)
P360 = Lengths(video=43_120, audio=403, text=512, frames=49)
P720 = Lengths(video=176_400, audio=403, text=512, frames=49)
TEXT_ENCODER = {"vocab_size": 256384, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64}
WAN_TINY = {"base_dim": 8, "z_dim": 4, "dim_mult": [1, 1, 2, 2], "num_res_blocks": 1}
DAC_TINY = {"encoder_dim": 8, "encoder_rates": [2, 3], "latent_dim": 8, "decoder_dim": 32, "decoder_rates": [3, 2]}
PLAIN, CFG, DUAL = (Guidance.from_scales(*scales).branches(0.5) for scales in ((1.0, 1.0), (5.0, 1.0), (5.0, 3.5)))


def counted(compute: Callable[[], Any]) -> int:
    """Operations as torch counts them; its counter does not know the fused attention of a CPU, but the plain one."""
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        compute()
    return int(counter.get_total_flops())


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
    network = Network.from_configs(**config)
    lengths = Lengths(video=frames * (side // 2) ** 2, audio=length, text=7, frames=frames)
    values = inputs(config, frames, side, length, batch)
    text_part = sum(costs.text_flops(network, lengths, batch=batch).values())
    bridged = sum(costs.forward_flops(network, lengths, batch=batch).values())
    apart = sum(costs.forward_flops(network, lengths, batch=batch, has_bridge=False).values())
    assert counted(lambda: model(**values)) == bridged + text_part
    assert counted(lambda: model(**values, bridge_scale=0.0)) == apart + text_part
    assert apart < bridged


@pytest.mark.parametrize("num_layers", [1, 8, 9])
def test_a_perturbed_pass_costs_exactly_what_torch_counts(num_layers: int) -> None:
    config = with_bridge(visual_layers=num_layers, audio_layers=9)
    config["video"] |= {"num_layers": num_layers}
    config["audio"] |= {"num_layers": 9}
    model, network = JointModel(**config).eval().requires_grad_(False), Network.from_configs(**config)
    assert costs.middle_layers(network) == model.middle_layers
    lengths = Lengths(video=3 * 16, audio=17, text=7, frames=3)
    values = inputs(config, 3, 8, 17, 1)
    perturbed = sum(costs.forward_flops(network, lengths, is_perturbed=True).values())
    text_part = sum(costs.text_flops(network, lengths).values())
    assert counted(lambda: model(**values, perturbed_layers=model.middle_layers)) == perturbed + text_part
    assert perturbed < sum(costs.forward_flops(network, lengths).values())


def test_a_token_with_a_level_of_its_own_costs_another_time_embedding() -> None:
    config = with_bridge()
    model, network = JointModel(**config).eval(), Network.from_configs(**config)
    values = inputs(config, 2, 4, 6, 1)
    values["video_timestep"] = torch.arange(2.0)[None, :, None, None].expand(1, 2, 4, 4) * 100
    values["audio_timestep"] = torch.arange(6.0)[None] * 10
    lengths = Lengths(video=8, audio=6, text=7, frames=2)
    formula = sum(costs.forward_flops(network, lengths, levels=(2, 6)).values())
    assert counted(lambda: model(**values)) == formula + sum(costs.text_flops(network, lengths).values())


def test_the_shipped_network_at_its_own_length_costs_exactly_what_torch_counts() -> None:
    model, network = JointModel(**BASE).eval(), Network.from_configs(**BASE)
    lengths = Lengths(video=9 * 36, audio=66, text=7, frames=9)
    formula = sum(costs.forward_flops(network, lengths).values()) + sum(costs.text_flops(network, lengths).values())
    assert counted(lambda: model(**inputs(BASE, 9, 12, 66, 1))) == formula


@pytest.mark.parametrize(("cross_scale", "evaluations"), [(1.0, 2), (2.5, 3)])
def test_a_guided_run_of_two_experts_costs_exactly_what_torch_counts(
    tiny_two_experts: Components, cross_scale: float, evaluations: int
) -> None:
    config = tiny_two_experts.transformer.config
    network = Network.from_configs(config["video"], config["audio"], config["bridge"])
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

    formula = 2 * costs.step_flops(network, lengths, branches)
    assert counted(run) == formula + costs.prompt_flops(network, lengths, branches, num_experts=2)


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


def test_interacting_layers_are_counted_as_the_bridge_places_them() -> None:
    assert INTERACTING.keys() == INTERACTIONS.keys()
    for name, depth in product(INTERACTING, range(41)):
        assert INTERACTING[name](depth) == len(INTERACTIONS[name](depth)), (name, depth)


def test_parameters_of_the_full_size_are_those_of_the_specification() -> None:
    assert costs.tower_weights(FULL.video).total == 14_288_901_184
    assert costs.tower_weights(FULL.audio).total == 1_419_193_472
    assert costs.bridge_weights(FULL).total == 2_659_737_600
    assert costs.text_encoder_weights(TEXT_ENCODER).total == 5_680_910_336
    assert codec_cost("DAC", {}, (1,)).parameters == 371_539_137
    assert codec_cost("AutoencoderKLWan", {}, (1, 2, 2)).parameters == 126_892_531
    assert codec_cost("AutoencoderKLWan", {}, (1, 2, 2)).scale == 8


@pytest.mark.parametrize(
    ("lengths", "petaflops", "attention"), [(P360, 2.766, 0.551), (P720, 30.56, 0.834)], ids=["360p", "720p"]
)
def test_operations_of_the_full_size_are_those_known(lengths: Lengths, petaflops: float, attention: float) -> None:
    parts = costs.forward_flops(FULL, lengths)
    total = sum(parts.values()) + sum(costs.text_flops(FULL, lengths).values())
    assert total / 1e15 == pytest.approx(petaflops, rel=5e-4)
    assert parts["video self-attention"] / total == pytest.approx(attention, abs=1e-3)


@pytest.mark.parametrize(
    "changes", [{}, {"interaction_strategy": "custom", "trainable_condition_scale": True}, {"pooled_adaln": True}]
)
def test_parameters_are_those_of_the_real_network(changes: dict[str, Any]) -> None:
    config = with_bridge(**changes)
    with torch.device("meta"):
        model = JointModel(**config)
    weights = costs.network_weights(Network.from_configs(**config))
    assert weights.total == sum(parameter.numel() for parameter in model.parameters())
    assert max(weights.blocks) == max(sum(p.numel() for p in block.parameters()) for block in model.transformer_blocks)


def wan(config: dict[str, Any]) -> Any:
    from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

    return AutoencoderKLWan(**config)


@pytest.mark.parametrize(
    ("name", "config", "grid"),
    [
        ("AutoencoderKLWan", WAN_TINY, (1, 4, 4)),
        ("AutoencoderKLWan", WAN_TINY | {"num_res_blocks": 2, "dim_mult": [1, 2, 4, 4]}, (3, 4, 6)),
        ("VideoCodec", {"latent_channels": 4, "base_width": 8, "width": 12}, (3, 2, 4)),
        ("DAC", DAC_TINY, (9,)),
        ("AudioCodec", {"latent_channels": 6, "width": 16, "num_blocks": 1, "n_fft": 512}, (8,)),
    ],
)
def test_decoding_costs_exactly_what_torch_counts(name: str, config: dict[str, Any], grid: tuple[int, ...]) -> None:
    classes: dict[str, Callable[[dict[str, Any]], Any]] = {
        "AutoencoderKLWan": wan,
        "VideoCodec": lambda values: VideoCodec(**values),
        "DAC": lambda values: DacVae(**values),
        "AudioCodec": lambda values: AudioCodec(**values),
    }
    assert classes.keys() == CODECS.keys()
    codec = classes[name](config).eval()
    channels = next(config[key] for key in ("z_dim", "latent_channels", "latent_dim") if key in config)
    price = codec_cost(name, config, grid)
    assert price.parameters == sum(parameter.numel() for parameter in codec.parameters())
    assert counted(lambda: codec.decode(torch.randn(1, channels, *grid))) == price.decode_flops


@pytest.mark.parametrize(
    ("name", "config", "grid"),
    [
        ("AutoencoderKLWan", {"base_dim": 96, "z_dim": 4}, (4, 4, 4)),
        ("VideoCodec", {"latent_channels": 16}, (9, 12, 12)),
        ("DAC", {}, (40,)),
    ],
)
def test_memory_of_decoding_is_estimated_to_a_tenth(name: str, config: dict[str, Any], grid: tuple[int, ...]) -> None:
    with torch.device("meta"):
        codec = {"AutoencoderKLWan": wan, "VideoCodec": lambda c: VideoCodec(**c), "DAC": lambda c: DacVae(**c)}[name](config)
        latents = torch.empty(1, {"AutoencoderKLWan": 4, "VideoCodec": 16, "DAC": 128}[name], *grid)
    given = [latents, *codec.eval().parameters()]
    assert codec_cost(name, config, grid).decode_bytes == pytest.approx(
        largest_bytes(lambda: codec.decode(latents), given=given), rel=0.1
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("strategy", ["full", "shallow_focus"])
def test_memory_of_a_step_is_estimated_to_a_twentieth(dtype: torch.dtype, strategy: str) -> None:
    config = copy.deepcopy(MOVA_360P)
    for part, layers in (("video", "visual_layers"), ("audio", "audio_layers")):
        config[part]["num_layers"] = config["bridge"][layers] = 2  # of two layers, shallow_focus joins none
    config["bridge"]["interaction_strategy"] = strategy
    network, lengths = Network.from_configs(**config), P360
    with torch.device("meta"):
        model = JointModel(**config).to(dtype)
        video, audio = torch.empty(1, lengths.video, 5120, dtype=dtype), torch.empty(1, lengths.audio, 1536, dtype=dtype)

        def tower(dim: int, tokens: int) -> TowerInputs:
            levels, index = torch.empty(1, 6, dim, dtype=dtype), torch.zeros(1, dtype=torch.long)
            return TowerInputs(levels, index, torch.empty(1, 512, dim, dtype=dtype), table(tokens))

        def table(tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.empty(1, tokens, 1, 64), torch.empty(1, tokens, 1, 64)

        towers = tower(5120, lengths.video), tower(1536, lengths.audio)
        bridge = BridgeInputs(49, table(lengths.video), table(lengths.audio))
        given = [video, audio, *model.parameters(), *(side.levels for side in towers), *(side.text for side in towers)]
        block = model.transformer_blocks[0]
        measured = video.nbytes + largest_bytes(lambda: block(video, audio, *towers, bridge), given=given)
    nothing_kept = replace(lengths, text=0)
    latents_and_positions = denoise_tensors(network, nothing_kept, PLAIN, num_experts=1, width=dtype.itemsize) - measured
    assert abs(latents_and_positions) < 0.05 * measured


def test_the_text_encoder_costs_exactly_what_torch_counts() -> None:
    from transformers import UMT5Config
    from transformers.models.umt5.modeling_umt5 import UMT5EncoderModel

    config = {"vocab_size": 50, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 3, "num_heads": 2}
    encoder = UMT5EncoderModel(UMT5Config(**config, feed_forward_proj="gated-gelu")).eval()
    ids = torch.zeros(1, 11, dtype=torch.long)
    weights = costs.text_encoder_weights(config)
    assert weights.total == sum(parameter.numel() for parameter in encoder.parameters())
    assert counted(lambda: encoder(input_ids=ids, attention_mask=torch.ones_like(ids))) == costs.text_encoder_flops(config, 11)


@pytest.fixture
def full_model() -> Model:
    encoder = costs.text_encoder_weights(TEXT_ENCODER)
    video, audio = codec_cost("AutoencoderKLWan", {}, (49, 44, 80)), codec_cost("DAC", {}, (403,))
    return Model(FULL, 2, encoder, TEXT_ENCODER, video, audio)


def test_weights_of_each_way_add_up_to_the_parameters(full_model: Model) -> None:
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
    assert active - streamed == 2 * costs.network_weights(FULL).doors


def test_each_way_takes_less_than_the_one_before_and_the_first_that_fits_is_taken(full_model: Model) -> None:
    ways = choices(full_model, P360, CFG)
    for stored in ("16 bit", "8 bit"):
        peaks = [way.peak_bytes for way in ways if way.stored == stored]
        assert peaks == sorted(peaks, reverse=True) and len(peaks) == 3
    chosen = [first_that_fits(ways, size * 10**9) for size in (140, 80, 24, 4)]
    names = [None if way is None else (way.offload, way.stored) for way in chosen]
    assert names == [("none", "16 bit"), ("component", "16 bit"), ("block", "16 bit"), None]


def test_a_third_evaluation_and_a_longer_text_are_kept_in_memory() -> None:
    def bytes_of(lengths: Lengths, branches: tuple[costs.Branch, ...], experts: int = 1) -> int:
        return denoise_tensors(FULL, lengths, branches, num_experts=experts, width=2)

    # keys and values of 512 text tokens in 40 and 30 blocks: 0.42 GB and 0.09 GB, and the projected text itself
    text_bytes = 512 * 2 * (81 * 5120 + 61 * 1536)
    assert bytes_of(P360, PLAIN) - bytes_of(replace(P360, text=0), PLAIN) == text_bytes
    assert bytes_of(P360, PLAIN, 2) - bytes_of(P360, PLAIN, 1) == 512 * 2 * 81 * 5120
    velocity = 4 * 16 * 4 * 43_120
    assert bytes_of(P360, CFG) - bytes_of(P360, PLAIN) == text_bytes + velocity
    assert bytes_of(P360, DUAL) - bytes_of(P360, CFG) == velocity


def test_configurations_of_the_official_checkpoint_are_read(official_full_configs: Path) -> None:
    names = ("video_dit", "audio_dit", "dual_tower_bridge", "text_encoder")
    files = [official_full_configs / name / "config.json" for name in names]
    video, audio, bridge, encoder = (json.loads(file.read_text(encoding="utf-8")) for file in files)
    assert Network.from_configs(video, audio, bridge) == FULL
    assert costs.text_encoder_weights(encoder).total == 5_680_910_336


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [("video", "dim", None), ("audio", "num_layers", 0), ("video", "ffn_dim", 1.5), ("bridge", "interaction_strategy", "all")],
)
def test_a_configuration_that_lacks_a_size_is_refused_by_its_name(part: str, name: str, value: Any) -> None:
    config = copy.deepcopy(MOVA_360P)
    config[part][name] = value
    with pytest.raises(ValueError, match=name):
        Network.from_configs(**config)


def test_an_unknown_codec_is_refused() -> None:
    with pytest.raises(ValueError, match="'Magic' is not known"):
        codec_cost("Magic", {}, (1, 2, 2))
    with pytest.raises(ValueError, match="only the Wan"):
        codec_cost("AutoencoderKLWan", {"is_residual": True}, (1, 2, 2))


def test_the_formulas_need_no_torch() -> None:
    import subprocess
    import sys

    code = "import sys, mova.runtime.costs, mova.runtime.memory, mova.cli.plan; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_counts_are_whole_numbers_and_attention_grows_with_the_square_of_the_length() -> None:
    short = costs.forward_flops(FULL, P360)
    assert all(isinstance(value, int) for value in short.values())
    double = costs.forward_flops(FULL, replace(P360, video=2 * P360.video))
    assert double["video self-attention"] == 4 * short["video self-attention"]
    assert double["video feed-forward"] == 2 * short["video feed-forward"]
    assert double["audio tower"] == short["audio tower"]
    assert math.isclose(sum(double.values()) / sum(short.values()), 3.1, abs_tol=0.1)
