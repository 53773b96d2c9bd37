"""A whole model at tiny size, of the real classes, with random weights: what most tests run on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from mova.request.plan import Capabilities

if TYPE_CHECKING:
    from mova.checkpoints.load import Components
    from mova.generation.model import MOVAModel

settings.register_profile("mova", deadline=None)  # how long an example takes depends on what else runs
settings.load_profile("mova")

TINY_CAPABILITIES = Capabilities(
    name="tiny",
    size_multiple=16,
    default_size=(32, 32),
    fps_range=(8.0, 24.0),
    default_fps=16.0,
    max_frames=33,
    default_frames=9,
    sample_rate=16000,
    audio_hop=500,
    max_tokens=24,
    num_inference_steps=2,
    guidance_scale=3.0,
)
TINY_TOWER = {
    "ffn_dim": 48,
    "text_dim": 32,
    "freq_dim": 32,
    "eps": 1e-6,
    "num_heads": 2,
    "num_layers": 2,
}
TINY_JOINT = {
    "video": {**TINY_TOWER, "dim": 48, "in_dim": 4, "out_dim": 4, "patch_size": [1, 2, 2]},
    "audio": {**TINY_TOWER, "dim": 32, "in_dim": 6, "out_dim": 6, "patch_size": [1], "vae_type": "dac"},
    "bridge": {
        "visual_layers": 2,
        "audio_layers": 2,
        "visual_hidden_dim": 48,
        "audio_hidden_dim": 32,
        "audio_fps": 32.0,
        "head_dim": 8,
    },
}


def build_tiny_components(num_experts: int = 1, cues: tuple[str, ...] = ()) -> Components:
    """Random weights everywhere, so that no part is silent; the same at every call. With ``cues`` it has a planner."""
    import torch

    from mova.checkpoints.layout import OFFICIAL_CLASSES, Index
    from mova.checkpoints.load import Components
    from mova.models.codecs.audio import AudioCodec
    from mova.models.codecs.video import VideoCodec
    from mova.models.joint import JointModel, share_audio_and_bridge
    from mova.models.text import build_cue_planner, num_cue_channels
    from mova.sampling.schedule import FlowMatchPairScheduler
    from mova.training.text import build_text_encoder, train_tokenizer

    with torch.random.fork_rng():
        torch.manual_seed(0)
        tokenizer = train_tokenizer(["a red ball bounces twice on wood", "two drums, then a bell", "rain"], 300)
        text_encoder = build_text_encoder(len(tokenizer), 32, 1)
        video = dict(TINY_JOINT["video"])
        video["in_dim"] += num_cue_channels(len(cues), stride=TINY_CAPABILITIES.video_stride) if cues else 0
        experts = [JointModel(**{**TINY_JOINT, "video": video}) for _ in range(num_experts)]
        video_codec = VideoCodec(4, base_width=8, width=12, latents_mean=[0.1] * 4, latents_std=[0.5] * 4)
        audio_codec = AudioCodec(6, width=16, num_blocks=1, n_fft=512, latents_mean=[0.2] * 6, latents_std=[0.7] * 6)
        planner = None
        if cues:
            planner = build_cue_planner(
                text_vocab=len(tokenizer), labels=cues, seconds=33 / 16, steps_per_s=64, width=32, num_layers=1
            )
        for module in (*experts, text_encoder, video_codec, audio_codec, *([planner] if planner else [])):
            for parameter in module.parameters():
                torch.nn.init.normal_(parameter, std=0.25)
            module.requires_grad_(False).eval()
    if num_experts == 2:
        share_audio_and_bridge(*experts)
    classes = {name: OFFICIAL_CLASSES[name] for name in ("video_dit", "audio_dit", "dual_tower_bridge", "scheduler")}
    if num_experts == 2:
        classes["video_dit_2"] = OFFICIAL_CLASSES["video_dit_2"]
    classes |= {
        "video_vae": ("mova.models.codecs.video", "VideoCodec"),
        "audio_vae": ("mova.models.codecs.audio", "AudioCodec"),
        "text_encoder": ("transformers", "UMT5EncoderModel"),
        "tokenizer": ("transformers", "PreTrainedTokenizerFast"),
    }
    if planner is not None:
        classes["cue_planner"] = ("transformers", "UMT5ForConditionalGeneration")
    return Components(
        transformer=experts[0],
        transformer_2=experts[1] if num_experts == 2 else None,
        video_vae=video_codec,
        audio_vae=audio_codec,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        scheduler=FlowMatchPairScheduler(shift=2.0, sigma_min=0.0, extra_one_step=True, snap_to_training_grid=False),
        index=Index(
            classes=classes,
            boundary_ratio=0.9 if num_experts == 2 else None,
            capabilities=replace(TINY_CAPABILITIES, cues=cues),
        ),
        cue_planner=planner,
    )


@pytest.fixture(scope="session")
def golden_folder() -> Path:
    """What the reference implementation recorded, and checkpoint folders in its layout; the README there describes them."""
    return Path(__file__).parent / "parity" / "golden"


@pytest.fixture(scope="session")
def official_tiny(golden_folder: Path) -> Path:
    """A whole checkpoint folder in the official layout, at tiny size with random weights."""
    return golden_folder / "official_tiny"


@pytest.fixture(scope="session")
def official_full_configs(golden_folder: Path) -> Path:
    """The configuration files of the full-size official checkpoint, without weights."""
    return golden_folder / "official_full_configs"


def find_shared(name: str, content: str) -> Path:
    """A folder of files beside the repository; they are not ours to keep in it."""
    folder = Path(__file__).parents[1].parent / "shared" / name
    if not folder.is_dir():
        pytest.skip(f"the folder ../shared/{name} with {content} is not beside the repository")
    return folder


@pytest.fixture(scope="session")
def shared_media() -> Path:
    """Real videos, audio and images."""
    return find_shared("media", "real videos")


@pytest.fixture(scope="session")
def cases() -> Path:
    """Files of public reports."""
    return find_shared("cases", "files of public reports")


@pytest.fixture(scope="session")
def tiny_components() -> Components:
    return build_tiny_components()


@pytest.fixture(scope="session")
def tiny_model(tiny_components: Components) -> MOVAModel:
    from mova.generation.model import MOVAModel
    from mova.pipeline import MOVAPipeline

    return MOVAModel(MOVAPipeline.from_components(tiny_components))


@pytest.fixture(scope="session")
def tiny_two_experts() -> Components:
    return build_tiny_components(num_experts=2)


@pytest.fixture(scope="session")
def tiny_cued() -> Components:
    """One that can be told when things happen, and plans it where nobody says."""
    return build_tiny_components(cues=("red", "blue"))
