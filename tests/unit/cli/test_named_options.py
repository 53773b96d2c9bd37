"""What a user typed wrongly is named as it was typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from mova.cli.options import with_option_of_file
from mova.cli.recorded import apply_changes
from mova.errors import MissingMediaError, RequestError, number_of


@pytest.mark.parametrize(
    ("values", "option"),
    [
        ({"image": "gone.png"}, "--image"),
        ({"keyframes": ({"time_s": 0.5, "image": "gone.png"},)}, "--keyframe"),
        ({"audio": "here.wav", "references": ["gone.png"]}, "--reference"),
    ],
)
def test_a_file_that_is_not_there_is_named_with_its_option(values: dict[str, object], option: str) -> None:
    problem = MissingMediaError(f"there is no file {Path('gone.png')}.", "Check the name.")
    named = with_option_of_file(problem, values)
    assert (named.message, named.exit_code) == (f"{option}: there is no file gone.png.", 2)
    assert with_option_of_file(problem, {"image": "other.png"}) is problem


def test_a_change_of_a_field_that_is_none_is_named() -> None:
    with pytest.raises(RequestError, match="--set foo: there is no field 'foo'"):
        apply_changes({}, ["foo=3"])
    with pytest.raises(RequestError) as problem:
        apply_changes({}, ["guidance_scal=3"])
    assert problem.value.hint == "Did you mean guidance_scale?"


def test_one_thing_is_not_several() -> None:
    assert (number_of(1, "frame"), number_of(0, "frame"), number_of(2, "event")) == ("1 frame", "0 frames", "2 events")
