"""What cannot be kept of a prompt gets a note, and a prompt of the model's own kinds gets none."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from mova.checkpoints.layout import read_index, resolve_model
from mova.cli.app import app
from mova.generation.model import MOVAModel
from mova.generation.notes import notes_after, notes_before
from mova.lab.sync.measure import find_recorded_kind
from mova.pipeline.reading import ReadPrompt, reader_of_folder
from mova.request.plan import Capabilities
from mova.request.reading import EventPlan, PromptReading
from mova.scenes.kinds import known_kinds
from mova.scenes.world import sample_scripts


@pytest.fixture(scope="module")
def base() -> Capabilities:
    return read_index(resolve_model("mova-base")).capabilities


@pytest.fixture(scope="module")
def read(base: Capabilities) -> ReadPrompt:
    return reader_of_folder(resolve_model("mova-base"), base)


def test_captions_are_read_as_what_they_are_and_stay_as_they_are(base: Capabilities, read: ReadPrompt) -> None:
    scripts = sample_scripts(3, 120, base.kinds)
    captions = [(name, caption) for name in base.kinds for caption in known_kinds()[name].example_captions]
    captions += [(script.kind, script.caption) for script in scripts]
    readings = [(kind, caption, read(caption, 60.0)) for kind, caption in captions]
    wrong = [
        (caption, reading)
        for kind, caption, reading in readings
        if reading is None or (reading.kind, reading.text, notes_before(reading, [], base)) != (kind, caption, [])
    ]
    assert wrong == []


def test_what_is_read_of_captions_is_true(base: Capabilities, read: ReadPrompt) -> None:
    wrong = []
    for script in sample_scripts(11, 160, base.kinds):
        reading, labels = read(script.caption, 60.0), tuple(event.label for event in script.events)
        assert reading is not None
        is_true = reading.order in ((), labels) and (reading.number in (None, len(labels)) or script.kind == "ball")
        named = {name: str(script.attributes.get(name)) for name in reading.attributes if name != "number"}
        if not is_true or named != {name: value for name, value in reading.attributes.items() if name != "number"}:
            wrong.append((script.caption, reading))
    assert wrong == []


@pytest.mark.parametrize(
    ("prompt", "asked"),
    [
        ("a crimson ball bounces three times on a steel plate", {"kind": "ball", "colour": "red", "number": 3}),
        ("PIANO: C, E, G!!!", {"kind": "piano", "order": ["C", "E", "G"]}),
        ("tap the blue drum twice", {"kind": "drums", "order": ["blue", "blue"]}),
        ("no drums, just a piano playing A", {"kind": "piano", "order": ["A"]}),
        ("ein roter Ball springt dreimal", {"kind": "ball", "colour": "red", "number": 3, "language": "de"}),
        ("dos fuegos artificiales dorados", {"kind": "fireworks", "colour": "gold", "number": 2, "language": "es"}),
        ("a dog barks", {"kind": None}),
        ("a heart monitor beeps at a steady pace", {"kind": None}),
    ],
)
def test_free_words_are_read(read: ReadPrompt, prompt: str, asked: dict[str, object]) -> None:
    reading = read(prompt, 60.0)
    assert reading is not None
    found = reading.as_dict()
    assert {name: found[name] for name in asked} == asked


def test_what_cannot_be_kept_or_is_outside_gets_a_note(base: Capabilities) -> None:
    outside = PromptReading(None)
    assert "outside what mova-base knows" in notes_before(outside, [], base)[0]
    unsure = PromptReading("ball", confidence=0.3, unsupported=("'teal': the colour can be red",))
    notes = " ".join(notes_before(unsure, [], base))
    assert "not kept: 'teal': the colour can be red" in notes and "unsure of how the prompt is read (30 %)" in notes
    assert notes_before(None, [(0.5, "C")], base) == []


def test_cues_that_do_not_fit_the_kind_are_named(base: Capabilities) -> None:
    fireworks = PromptReading("fireworks")
    notes = " ".join(notes_before(fireworks, [(0.5, "C"), (0.55, "gold"), (1.5, "")], base))
    assert "fireworks has no C" in notes and "0.5 and 0.55 s are nearer than 0.22 s" in notes
    assert notes_before(fireworks, [(0.5, "gold"), (0.8, "red")], base) == []


def test_planned_cues_of_another_kind_number_or_order_are_named(base: Capabilities) -> None:
    def after(reading: PromptReading, *labels: str) -> str:
        return " ".join(notes_after(reading, [(0.5 * number, label) for number, label in enumerate(labels)], base))

    assert "high are of other kinds" in after(PromptReading("storm"), "high")
    assert "the prompt says 3, and 2 are planned" in after(PromptReading("drums", events=EventPlan(3)), "red", "red")
    ordered = PromptReading("drums", events=EventPlan(2, ("red", "blue")))
    assert "the prompt names red, blue, and blue, red are planned" in after(ordered, "blue", "red")
    assert after(PromptReading("drums", events=EventPlan(2)), "red", "red") == ""


def test_a_clip_says_how_its_prompt_was_read_and_a_reading_can_be_left_out() -> None:
    model = MOVAModel.from_pretrained("mova-base")
    clip = model.generate("thunderstorm, 3 flashes of lightning, far away", seed=1, num_inference_steps=1, fit="crop")
    assert "fit=crop: no image or video is given" in clip.notes
    assert clip.reading is not None and clip.made_by is not None
    assert (clip.reading["kind"], clip.reading["number"], clip.reading["attributes"]) == ("storm", 3, {"distance": "far"})
    assert [label for _, label in clip.made_by["cues"]] == ["far"] * 3
    assert clip.request is not None and clip.request["prompt"] == "thunderstorm, 3 flashes of lightning, far away"
    as_is = model.generate("thunderstorm, 3 flashes of lightning, far away", seed=1, num_inference_steps=1, as_is=True)
    assert as_is.reading is None and not (as_is.frames == clip.frames).all()


def test_stated_times_are_cues() -> None:
    model = MOVAModel.from_pretrained("mova-base")
    clip = model.generate("drum pads: red at 0.5 s, blue at 1.5 s", seed=1, num_inference_steps=1)
    assert clip.made_by is not None and clip.made_by["cues"] == [[0.5, "red"], [1.5, "blue"]]


def test_the_pipeline_reads_as_the_model_does() -> None:
    model = MOVAModel.from_pretrained("mova-base")
    prompt = "three times lightning, very close"
    mine = model.generate(prompt, seed=1, num_inference_steps=1).frames
    output = model.pipeline(prompt, seed=1, num_inference_steps=1, output_type="clips")
    assert (output.clips[0].frames == mine).all()


def test_a_dry_run_shows_the_reading() -> None:
    def dry_run(*arguments: str) -> dict[str, object]:
        done = CliRunner().invoke(app, ["generate", *arguments, "--dry-run", "--json"])
        assert done.exit_code == 0, done.output
        values: dict[str, object] = json.loads(done.stdout)
        return values

    reading = dry_run("two gold fireworks")["reading"]
    assert isinstance(reading, dict)
    assert (reading["kind"], reading["colour"], reading["number"], reading["order"]) == ("fireworks", "gold", 2, [])
    assert dry_run("two gold fireworks", "--as-is")["reading"] is None


@pytest.mark.parametrize(
    ("made_by", "kind"),
    [
        ({"reading": {"kind": "drums"}}, "drums"),
        ({"reading": {"kind": None}}, "ball"),
        ({"reading": {"kind": ["drums"]}}, "ball"),
        ({"reading": {"kind": "no such kind"}}, "ball"),
        ({"reading": "drums"}, "ball"),
        ({}, "ball"),
        (None, "ball"),
    ],
)
def test_a_recorded_clip_is_of_the_kind_that_its_prompt_was_read_as(made_by: dict[str, object] | None, kind: str) -> None:
    assert find_recorded_kind({"prompt": "a red ball"}, made_by) == kind
