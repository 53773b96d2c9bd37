"""A prompt that may be read otherwise than it was meant gets a note, and one of the model's own kind gets none."""

from __future__ import annotations

import pytest

from mova.checkpoints.layout import read_index, resolve_model
from mova.generation.model import MOVAModel
from mova.generation.notes import notes_after, notes_before
from mova.request.plan import Capabilities
from mova.scenes.kinds import known_kinds
from mova.scenes.world import sample_scripts


@pytest.fixture(scope="module")
def base() -> Capabilities:
    return read_index(resolve_model("mova-base")).capabilities


def test_captions_get_no_note(base: Capabilities) -> None:
    captions = [caption for name in base.kinds for caption in known_kinds()[name].example_captions]
    captions += [script.caption for script in sample_scripts(3, 120, base.kinds)]
    assert [caption for caption in captions if notes_before(caption, [], base)] == []


def test_a_kind_that_is_rendered_but_not_known_to_the_model_is_outside(base: Capabilities) -> None:
    assert "outside what mova-base knows" in notes_before("a heart monitor beeps at a steady pace", [], base)[0]


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("a vermilion ball bounces", "vermilion"),
        ("ein blauer Ball huepft zweimal", "most words of this prompt are outside"),
        ("una pelota azul", "outside what mova-base knows"),
        ("a cat sleeps", "outside what mova-base knows"),
        ("a thief notes the address", "thief"),
        ("not a siren, only a metronome", "read as metronome; words of it also name siren"),
        ("fireworks: green green green", "phrased otherwise"),
        ("the drum pads play twice, red and green", 'nearest: "drum pads are hit twice: red, green"'),
        ("2 balls on metal", "'2'"),
    ],
)
def test_what_was_never_learnt_is_named(base: Capabilities, prompt: str, words: str) -> None:
    assert words in " ".join(notes_before(prompt, [], base))


def test_cues_that_do_not_fit_the_kind_are_named(base: Capabilities) -> None:
    notes = " ".join(notes_before("gold fireworks", [(0.5, "C"), (0.55, "gold"), (1.5, "")], base))
    assert "fireworks has no C" in notes and "0.5 and 0.55 s are nearer than 0.22 s" in notes
    assert notes_before("gold fireworks", [(0.5, "gold"), (0.8, "red")], base) == []


def test_planned_cues_of_another_kind_number_or_order_are_named(base: Capabilities) -> None:
    def after(prompt: str, *labels: str) -> str:
        return " ".join(notes_after(prompt, [(0.5 * number, label) for number, label in enumerate(labels)], base))

    assert "high are of other kinds" in after("a thunderstorm", "high")
    assert "the prompt says 3, and 2 are planned" in after("three drum hits", "red", "red")
    assert "the prompt names red, blue, and blue, red are planned" in after("drum pads are hit: red, blue", "blue", "red")
    assert after("two drum hits", "red", "red") == ""


def test_a_clip_says_what_the_command_says() -> None:
    model = MOVAModel.from_pretrained("mova-base")
    clip = model.generate("thunderstorms, three of them", seed=1, num_inference_steps=1, fit="crop")
    assert "fit=crop: no image or video is given" in clip.notes
    assert any("'thunderstorms'" in note for note in clip.notes)
    assert clip.made_by is not None and {label for _, label in clip.made_by["cues"]} <= {"near", "far"}
    assert len(clip.made_by["cues"]) == 3
