"""`mova generate --dry-run` refuses whatever the run would refuse, and reads no weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mova.cli.app import app
from mova.errors import RequestError
from mova.generation.model import MOVAModel
from mova.request.schema import MAX_SEED


@pytest.fixture(scope="module")
def without_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny official checkpoint's configurations and tokenizer alone: nothing can be loaded from it."""
    source = Path(__file__).parents[2] / "parity" / "golden" / "official_tiny"
    place = tmp_path_factory.mktemp("official") / "tiny"
    shutil.copytree(source, place, ignore=shutil.ignore_patterns("*.safetensors"))
    return place


def plan(folder: Path | str, *arguments: str) -> str:
    """What a dry run says; raises what it refuses with."""
    done = CliRunner().invoke(app, ["generate", *arguments, "--model", str(folder), "--dry-run"])
    if isinstance(done.exception, Exception):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def test_a_missing_first_frame_is_refused_before_any_weight_is_there(without_weights: Path) -> None:
    with pytest.raises(RequestError, match="trained with a first frame, and none is given") as refusal:
        plan(without_weights, "a dog barks")
    assert refusal.value.field == "image" and "text_only" in refusal.value.hint
    assert "640x352" in plan(without_weights, "a dog barks", "--text-only", "white")


def test_a_stand_in_for_a_first_frame_is_refused_where_none_is_needed() -> None:
    with pytest.raises(RequestError, match="needs no first frame"):
        plan("mova-base", "a red ball bounces", "--text-only", "white")


def test_a_prompt_with_too_many_tokens_is_refused_and_may_be_cut(without_weights: Path) -> None:
    words = "a dog barks " * 160
    for arguments in (("a ball " * 250, "--as-is"), ("a ball", "--negative-prompt", "a ball " * 250)):
        with pytest.raises(RequestError, match=r"tokens; this model reads \d+"):
            plan("mova-base", *arguments)
    with pytest.raises(RequestError, match=r"the prompt has \d+ tokens; this model reads 512"):
        plan(without_weights, words, "--text-only", "white")
    assert plan(without_weights, words, "--text-only", "white", "--truncate")


def test_seeds_of_several_clips_that_would_be_out_of_range_are_refused() -> None:
    assert plan("mova-base", "a red ball bounces", "--seed", str(MAX_SEED))
    with pytest.raises(RequestError, match=f"at most {MAX_SEED - 2} for 3 clips"):
        plan("mova-base", "a red ball bounces", "--seed", str(MAX_SEED), "-n", "3")


def test_a_last_frame_without_a_legal_length_is_refused(without_weights: Path, tmp_path: Path) -> None:
    from PIL import Image

    picture = tmp_path / "frame.png"
    Image.new("RGB", (640, 352)).save(picture)
    given = ("a dog barks", "--image", str(picture), "--last-image", str(picture))
    with pytest.raises(RequestError, match="a last frame only with a first one"):
        plan(without_weights, *given, "--num-frames", "20")
    assert plan(without_weights, *given, "--num-frames", "21")


def test_python_refuses_the_same_before_it_computes(tiny_model: MOVAModel) -> None:
    with pytest.raises(RequestError, match="needs no first frame"):
        tiny_model.generate("rain", text_only="white", num_frames=9)
    with pytest.raises(RequestError, match=r"tokens; this model reads 24"):
        tiny_model.generate("rain " * 60, num_frames=9)
    with pytest.raises(RequestError, match="no argument 'num_frame'") as refusal:
        tiny_model.generate("rain", num_frame=9)  # type: ignore[call-arg]
    assert "num_frames" in refusal.value.hint
