from __future__ import annotations

from pathlib import Path

import pytest

from mova.cli.options import number_paths, read_prompts, with_flag_names
from mova.errors import RequestError
from mova.request.schema import GenerationRequest


def test_only_fields_of_a_request_become_options() -> None:
    problem = RequestError("guidance_scale of my_tiny_model must fit num_inference_steps.", "A hint.", field="guidance_scale")
    typed = with_flag_names(problem)
    assert typed.message == "--guidance-scale: of my_tiny_model must fit --steps."
    assert typed.hint == "A hint."


def test_a_file_of_prompts_is_one_prompt_a_line(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_bytes("\ufeffdrum pads are hit\r\n\n  a slow metronome  \n".encode())
    assert read_prompts(f"@{path}") == ["drum pads are hit", "a slow metronome"]
    assert read_prompts("a red ball") == ["a red ball"]


@pytest.mark.parametrize(
    ("name", "message"), [("missing", "No such file"), ("blank", "no prompt"), ("bytes", "UTF-8"), ("", "a folder")]
)
def test_a_file_without_prompts_is_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "blank").write_text("\n \n")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(RequestError, match=message):
        read_prompts(f"@{tmp_path / name}")
    with pytest.raises(RequestError, match="a device"):
        read_prompts("@/dev/zero")


def test_clips_are_numbered_where_the_name_says() -> None:
    assert number_paths(Path("a/c.mp4"), 1) == [Path("a/c.mp4")]
    assert number_paths(Path("a/c.mp4"), 2) == [Path("a/c-1.mp4"), Path("a/c-2.mp4")]
    assert number_paths(Path("a/{index}-c.mp4"), 10)[:2] == [Path("a/01-c.mp4"), Path("a/02-c.mp4")]
    assert number_paths(Path("{index}.mp4"), 1) == [Path("1.mp4")]


def test_a_field_that_there_is_not_is_not_shown_as_an_option() -> None:
    with pytest.raises(RequestError) as caught:
        GenerationRequest(prompt="rain", foo=3)  # type: ignore[call-arg]
    assert with_flag_names(caught.value).message == "there is no field 'foo'."


@pytest.mark.parametrize(
    ("field", "words"), [("references", "must be a list"), ("retake", "must be a mapping of names to values")]
)
def test_a_list_and_a_mapping_are_asked_for_in_plain_words(field: str, words: str) -> None:
    with pytest.raises(RequestError, match=f"{field} {words}; got 5"):
        GenerationRequest(prompt="rain", **{field: 5})
