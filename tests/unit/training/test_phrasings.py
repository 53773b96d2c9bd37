"""Captions that a clip is shown with in training."""

from __future__ import annotations

from mova.data.shards import describe
from mova.scenes.world import sample_scripts
from mova.training.text import phrasings


def test_phrasings_begin_with_the_clips_own_caption_and_never_change() -> None:
    for script in map(describe, sample_scripts(3, 12)):
        captions = phrasings(script, 6)
        assert captions[0] == script["caption"] and len(captions) == 6
        assert captions == phrasings(script, 6)
        assert len(set(captions)) > 1


def test_phrasings_name_the_colour_of_the_clip_or_none() -> None:
    colours = {"red", "orange", "yellow", "green", "blue", "purple", "pink", "white"}
    for script in map(describe, sample_scripts(4, 10, ["mouth"])):
        for caption in phrasings(script, 8):
            assert set(caption.replace(":", " ").split()) & colours <= {script["attributes"]["colour"]}
