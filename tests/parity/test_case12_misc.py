"""Prompt cleaning, lengths of the audio and the crop of a picture against the recorded values."""

from __future__ import annotations

import numpy as np
import pytest
from golden import load_case

from mova.errors import MediaError
from mova.media.image import crop_and_resize, fit_image
from mova.models.text import clean_prompt
from mova.timeline import Timeline, exact_fps


def test_prompts_are_cleaned_as_by_the_reference() -> None:
    case, _ = load_case("case12_misc")
    assert len(case["prompt_clean"]) >= 6
    for row in case["prompt_clean"]:
        assert clean_prompt(row["in"]) == row["out"]


def test_the_audio_has_the_length_of_the_reference_for_every_video() -> None:
    case, _ = load_case("case12_misc")
    assert len(case["audio_length"]) >= 4
    for row in case["audio_length"]:
        timeline = Timeline(fps=exact_fps(row["fps"]), sample_rate=row["sample_rate"], audio_hop=row["hop"])
        assert timeline.samples(row["num_frames"]) == row["num_samples"], row
        assert timeline.audio_latents(row["num_frames"]) == row["latent_len"], row


def test_pictures_are_cropped_and_scaled_to_the_very_values_of_the_reference() -> None:
    case, tensors = load_case("case12_crop_and_resize")
    for index, (_, _, height, width) in enumerate(case["config"]["crops_h_w_H_W"]):
        picture, recorded = (tensors[f"{name}.{index}.image"].numpy() for name in ("inputs", "outputs"))
        np.testing.assert_array_equal(crop_and_resize(picture, height, width), recorded)
        np.testing.assert_array_equal(fit_image(picture, width, height, fit="crop"), recorded)


def test_a_picture_is_fitted_in_the_way_that_is_named() -> None:
    picture = np.full((20, 40, 3), 200, np.uint8)
    picture[:, :10] = 50
    for fit in ("crop", "pad", "stretch"):
        for width, height in ((16, 16), (48, 8), (7, 33)):
            assert fit_image(picture, width, height, fit=fit).shape == (height, width, 3)
    padded = fit_image(picture, 16, 16, fit="pad")
    assert not padded[:4].any() and not padded[12:].any() and padded[4:12].all()
    assert (fit_image(picture, 20, 20, fit="crop") == 200).mean() > 0.95  # the left quarter is cut away
    stretched = fit_image(picture, 20, 20, fit="stretch")
    assert int(stretched[10, 2, 0]) == 50 and int(stretched[10, 17, 0]) == 200
    same = fit_image(picture, 40, 20, fit="crop")
    np.testing.assert_array_equal(same, picture)


def test_pictures_that_cannot_be_fitted_are_refused() -> None:
    picture = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(MediaError, match="squeeze"):
        fit_image(picture, 8, 8, fit="squeeze")  # type: ignore[arg-type]
    with pytest.raises(MediaError, match="0x8"):
        fit_image(picture, 0, 8, fit="crop")
    with pytest.raises(MediaError, match="cannot be cropped"):
        crop_and_resize(np.zeros((1, 400, 3), np.uint8)[:, :1], 1000, 1)
    with pytest.raises(MediaError, match="uint8"):
        fit_image(picture[..., 0], 8, 8, fit="crop")
