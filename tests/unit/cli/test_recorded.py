"""What a video says of how it was made is enough to make it again, and nothing else is taken for it."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from mova.checkpoints.load import Components
from mova.checkpoints.lora.file import LoraFile, LoraLayer, lora_hash, write_lora
from mova.checkpoints.save import save_checkpoint
from mova.cli.app import app
from mova.cli.film import FilmOutput
from mova.cli.film import run as make_video
from mova.cli.recorded import loras_of_video, model_of_video, read_recorded_request, replay, request_from_video
from mova.errors import CheckpointError, MovaError, RequestError
from mova.generation.model import MOVAModel
from mova.media.decode import read_clip
from mova.media.probe import probe
from mova.pipeline import MOVAPipeline

Generate = Callable[..., Path]


@pytest.fixture
def here(tiny_components: Components, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, where the tiny model is found by its own name."""
    monkeypatch.chdir(tmp_path)
    save_checkpoint(tmp_path / "tiny", tiny_components)
    return tmp_path


@pytest.fixture
def generate(here: Path) -> Generate:
    def run(name: str, *arguments: str) -> Path:
        values = ("--num-frames", "5", "--seed", "3") if "--from" not in arguments else ()
        CliRunner().invoke(app, ["generate", *arguments, *values, "-o", name], catch_exceptions=False)
        assert (here / name).is_file()
        return here / name

    return run


def write_style(path: Path, components: Components, *, seed: int = 0) -> Path:
    generator = torch.Generator().manual_seed(seed)
    layers = {
        name: LoraLayer(
            down=torch.randn(2, module.in_features, generator=generator),
            up=torch.randn(module.out_features, 2, generator=generator),
            alpha=2.0,
        )
        for name, module in components.transformer.named_modules()
        if name.endswith("self_attn.to_q")
    }
    return write_lora(path, LoraFile(layers))


def test_a_clip_made_with_loras_is_replayed_with_them(
    generate: Generate, tiny_components: Components, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scales = (0.5, 0.3, 0.0)
    styles = [write_style(here / f"{name}.safetensors", tiny_components, seed=seed) for seed, name in enumerate("zab")]
    loras = [word for style, scale in zip(styles, scales, strict=True) for word in ("--lora", f"{style}:{scale}")]
    plain, made = (generate(name, "a red ball", "-m", "tiny", *more) for name, more in (("p.mkv", ()), ("a.mkv", loras)))
    assert not np.array_equal(read_clip(plain).frames, read_clip(made).frames)
    made_by = probe(made).made_by or {}
    assert (
        made_by["loras"]
        == [  # in their order, which the sum depends on; one that is off does nothing
            {"name": style.stem, "scale": scale, "file": str(style), "hash": lora_hash(style)}
            for style, scale in zip(styles[:2], scales[:2], strict=True)
        ]
    )
    assert (made_by["dtype"], made_by["quantisation"]) == ("float32", "none")
    capsys.readouterr()
    replay(made, None, model=None, is_json=False)
    assert "is the same as a.mkv, byte by byte" in capsys.readouterr().err
    varied = generate("b.mkv", "--from", str(made))
    assert varied.read_bytes() == made.read_bytes()

    write_style(styles[0], tiny_components, seed=7)
    with pytest.raises(RequestError, match=r"z\.safetensors is not what it was when the video was made"):
        replay(made, here / "c.mkv", model=None, is_json=False)
    styles[0].unlink()
    with pytest.raises(CheckpointError, match=r"there is no file .*z\.safetensors"):
        replay(made, here / "c.mkv", model=None, is_json=False)
    assert not (here / "c.mkv").exists()


def test_a_lora_that_came_from_no_file_is_not_left_out_silently(tiny_components: Components, here: Path) -> None:
    model = MOVAModel(MOVAPipeline.from_components(tiny_components))
    name = model.load_lora(write_style(here / "style.safetensors", tiny_components))
    try:
        record = model.pipeline.loras.record()
        assert [lora["name"] for lora in record] == [name]
        assert len(loras_of_video({"loras": record})) == 1
        for unknown in ([{"name": name, "scale": 1.0}], {name: 1.0}):  # attached from memory; as an older version wrote it
            with pytest.raises(RequestError, match="does not say with which file"):
                loras_of_video({"loras": unknown})
    finally:
        model.unload_lora()
    assert model.pipeline.loras.record() == []


def test_a_replay_that_is_not_the_same_fails_and_says_what_differs(
    generate: Generate, tiny_components: Components, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = generate("a.mkv", "a red ball", "-m", "tiny")
    video_vae = copy.deepcopy(tiny_components.video_vae)
    with torch.no_grad():
        for parameter in video_vae.parameters():
            parameter.mul_(1.5)
    save_checkpoint(here / "other", replace(tiny_components, video_vae=video_vae))
    with pytest.raises(MovaError, match=r"a-replay\.mkv is not the same as a\.mkv: another picture\.") as problem:
        replay(made, None, model="other", is_json=False)
    assert problem.value.exit_code == 1
    for target in ("a.mkv", "b.mp4"):
        with pytest.raises(RequestError, match="of another kind, or the same file"):
            replay(made, here / target, model=None, is_json=False)
    clip = MOVAModel.from_pretrained("tiny", device="cpu").generate("a red ball", num_frames=5, seed=3)
    older = {name: value for name, value in (clip.made_by or {}).items() if name not in ("dtype", "quantisation")}
    replace(clip, made_by=older).save(here / "older.mkv")
    capsys.readouterr()
    replay(here / "older.mkv", None, model=None, is_json=False)
    assert "has the same frames and samples" in capsys.readouterr().err


def test_a_variation_is_made_by_the_model_of_the_clip_from_inputs_that_are_the_same(generate: Generate, here: Path) -> None:
    Image.fromarray(np.full((32, 32, 3), 200, np.uint8)).save(here / "a.png")
    made = generate("a.mkv", "a red ball", "-m", "tiny", "--image", "a.png")
    varied = probe(generate("b.mkv", "--from", str(made), "--set", "guidance_scale=2"))
    assert (varied.made_by or {})["model"] == "tiny" and (varied.request or {})["guidance_scale"] == 2.0
    Image.fromarray(np.full((32, 32, 3), 90, np.uint8)).save(here / "a.png")
    for changes in ((), ("guidance_scale=3",)):
        with pytest.raises(RequestError, match=r"a\.png is not what it was"):
            request_from_video(made, {}, changes, reroll=None)
    assert request_from_video(made, {"image": "a.png"}, (), reroll=None)[0]["image"] == "a.png"  # as it is now
    assert "image" not in request_from_video(made, {}, ("image=null",), reroll=None)[0]
    assert "image" not in request_from_video(made, {}, (), reroll="audio")[0]
    shutil.rmtree(here / "tiny")
    with pytest.raises(CheckpointError, match="made with 'tiny', which is not on this machine"):
        model_of_video(probe(made).made_by or {})
    assert model_of_video({}) == "mova-base"


def test_a_model_is_never_downloaded_because_a_video_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    for made_by in ({"model": "somebody/unknown", "weights": "0" * 16}, {"model": "somebody/unknown"}):
        with pytest.raises(CheckpointError, match="not on this machine") as refused:
            model_of_video(made_by)
        assert "--model" in str(refused.value.hint)


def test_a_video_of_shots_says_what_made_it_and_is_not_taken_for_a_clip(here: Path, tiny_components: Components) -> None:
    Image.fromarray(np.full((32, 32, 3), 200, np.uint8)).save(here / "a.png")
    shots: list[dict[str, Any]] = [
        {"prompt": "a red ball", "num_frames": 5, "image": "a.png", "retakes": ["audio:0.1-0.2"]},
        {"prompt": "rain", "num_frames": 5, "keep": ["last_frame"]},
    ]
    document = {"num_inference_steps": 1, "guidance_scale": 1, "shots": shots}
    (here / "a.yaml").write_text(json.dumps(document))
    for name in ("a.mkv", "b.mkv"):  # the second from finished shots alone
        make_video(here / "a.yaml", FilmOutput(here / name, None, False, True, False), retakes=(), model="tiny")
    assert (here / "a.mkv").read_bytes() == (here / "b.mkv").read_bytes()
    made_by = probe(here / "a.mkv").made_by or {}
    clip = MOVAModel.from_pretrained("tiny", device="cpu").generate("rain", num_frames=5, num_inference_steps=1)
    of_clip = clip.made_by or {}
    assert {**made_by, "inputs": {}} == of_clip and made_by["weights"] and made_by["schedule"]
    assert list(made_by["inputs"]) == [str(here / "a.png")]
    with pytest.raises(RequestError, match="a video of shots, which one request does not make") as refusal:
        read_recorded_request(here / "a.mkv")
    assert "mova film" in refusal.value.hint
