"""A kind of scene from outside the package, one file: rendered, asked for, recognised, read, learnt and generated.

The file is the one that ``docs/scenes.md`` shows.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from mova.checkpoints.layout import read_index, resolve_model
from mova.data.shards import describe
from mova.errors import RequestError
from mova.generation.model import MOVAModel
from mova.lab.adherence.judge import judge
from mova.lab.read.audio_events import hear
from mova.lab.read.readers import read_all
from mova.lab.read.video_events import see
from mova.lab.sync.measure import measure_clip
from mova.scenes.clapper.scene import as_scene
from mova.scenes.kind import Kind, ReadingHints
from mova.scenes.kinds import KINDS, kind_of, known_kinds, labels_of, load_kinds
from mova.scenes.world import render, sample_scripts, write_script
from mova.training.cues import check_labels, choose_labels, read_labels, save_labels
from mova.training.recipe import run_recipes

PAGE = Path(__file__).parents[2] / "docs" / "scenes.md"
OPTIM = "{num_steps: 2, save_every: 2, validate_every: 2, warmup_steps: 1}"
TOWER = "{dim: 48, ffn_dim: 64, num_heads: 2, num_layers: 2}"
RECIPES = {
    "latents": "{stage: latents, codecs_from: mova-base, num_clips: 8, num_held_out: 8, clips_per_shard: 8}",
    "joint": f"{{stage: joint, joint: {{video: {TOWER}, audio: {TOWER}, bridge: {{visual_layers: 2, audio_layers: 2, "
    f"visual_hidden_dim: 48, audio_hidden_dim: 48, head_dim: 8}}}}, text_layers: 1, vocab_size: 300, "
    f"phrasings: 2, batch_size: 2, optim: {OPTIM}}}",
    "planner": f"{{stage: planner, width: 32, layers: 1, batch_size: 4, optim: {OPTIM}}}",
    "export": "{stage: export, codecs_from: mova-base}",
}


@pytest.fixture
def bells_file(tmp_path: Path) -> Path:
    (code,) = [
        one for one in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL) if "KIND =" in one
    ]
    path = tmp_path / "bells.py"
    path.write_text(code, encoding="utf-8")
    return path


@pytest.fixture
def bells(bells_file: Path) -> Kind:
    return load_kinds([str(bells_file)])[0]


def test_a_script_of_another_kind_is_written_rendered_and_recognised(bells: Kind) -> None:
    script = write_script(bells, 3, attributes={"sequence": "ding dong ding"})
    assert (script.kind, [event.label for event in script.events]) == ("bells", ["ding", "dong", "ding"])
    clip = render(script, width=48, height=48)
    assert clip.frames.std() > 3.0 and abs(clip.waveform).max() > 0.1
    assert kind_of(script.caption, [*KINDS.values(), bells]) == "bells"
    assert [one.kind for one in sample_scripts(0, 4, [bells, "piano"])] == ["bells", "piano", "bells", "piano"]
    with pytest.raises(RequestError, match="no scene kind 'bells'"):
        write_script("bells", 3)


def test_only_a_recipe_or_the_command_line_runs_a_file(bells_file: Path) -> None:
    with pytest.raises(RequestError, match="there is no scene kind"):
        write_script(str(bells_file), 3)  # what a checkpoint calls its kinds is never run


def test_what_happens_in_a_clip_of_another_kind_is_read_back(bells: Kind) -> None:
    for script in sample_scripts(7, 6, [bells]):
        clip = render(script)
        seen = see(clip.frames, float(clip.fps), kind=bells)
        heard = hear(clip.waveform, clip.sample_rate, kind=bells)
        labels = [event.label for event in script.events]
        assert [one.label for one in seen] == labels and [one.label for one in heard] == labels
        for one, event in zip(seen, script.events, strict=True):
            assert one.time_s == pytest.approx(event.time_s, abs=0.009)  # the shutter is closed for 16 ms
        for one, event in zip(heard, script.events, strict=True):
            assert one.time_s == pytest.approx(event.audio_time_s, abs=0.003)
        sync = measure_clip(clip.clip(), kind=bells)
        assert sync.verdict == ("in step" if sync.num_events > 2 else "cannot tell") and abs(sync.offset_ms or 0.0) < 9.0
        scene = as_scene(script)
        values = judge(scene, read_all(clip.clip(), scene)).values
        assert "count" in values and set(values.values()) == {1.0}, (script.caption, values)


def test_a_kind_without_hints_is_read_by_changes_of_light_and_motion(bells: Kind) -> None:
    plain = replace(bells, reading=ReadingHints())
    script = write_script(plain, 3, attributes={"sequence": "ding dong ding"})
    clip = render(script)
    seen, heard = see(clip.frames, 16.0, kind=plain), hear(clip.waveform, 16000, kind=plain)
    assert [one.time_s for one in seen] == pytest.approx([event.time_s for event in script.events], abs=0.03)
    assert [one.time_s for one in heard] == pytest.approx([event.time_s for event in script.events], abs=0.003)


def test_a_model_learns_another_kind_and_keeps_its_labels(bells_file: Path, tmp_path: Path) -> None:
    common = f"processes: 1, folder: {tmp_path}/run, world: {{width: 32, height: 32, num_frames: 17, kinds: [{bells_file}]}}"
    paths = []
    for name, text in RECIPES.items():
        more = f", output: {tmp_path}/model" if name == "export" else ""
        paths.append(tmp_path / f"{name}.yaml")
        paths[-1].write_text(f"{text[:-1]}, {common}{more}}}\n", encoding="utf-8")
    run_recipes(paths)
    capabilities = read_index(tmp_path / "model").capabilities
    assert capabilities.kinds == ("bells",) and capabilities.cues == ("ding", "dong")
    assert "**bells**: Two bells" in (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    model = MOVAModel.from_pretrained(tmp_path / "model")
    told = model.generate("two bells", seed=1, num_inference_steps=2, cues=[(0.5, "dong")])
    assert told.frames.shape == (17, 32, 32, 3)
    assert (told.frames != model.generate("two bells", seed=1, num_inference_steps=2, cues=[(0.5, "ding")]).frames).any()


def test_a_run_that_goes_on_keeps_the_checkpoints_labels_and_adds_new_ones_after_them(bells: Kind, tmp_path: Path) -> None:
    base = read_index(resolve_model("mova-base")).capabilities
    shipped, known = base.cues, [KINDS[name] for name in base.kinds]
    assert shipped[:6] == ("red", "yellow", "green", "blue", "gold", "C") and set(shipped) == set(labels_of(known))
    labels = choose_labels(tmp_path, [bells, KINDS["piano"]], start_from="mova-base")
    assert labels == (*shipped, "ding", "dong")
    save_labels(tmp_path, labels)
    assert choose_labels(tmp_path, [bells]) == read_labels(tmp_path) == labels, "they are fixed when the run begins"
    with pytest.raises(RequestError, match="began without the label 'clack'"):
        choose_labels(tmp_path, [replace(bells, labels=("clack",))])


def test_clips_with_labels_that_the_recipe_does_not_name_are_refused(bells: Kind) -> None:
    script = describe(write_script(bells, 1, attributes={"sequence": "dong"}))
    with pytest.raises(RequestError, match="labelled dong"):
        check_labels([script], labels_of(KINDS.values()))


def test_a_file_without_a_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no scene kind at"):
        load_kinds([str(tmp_path / "none.py")])
    (tmp_path / "empty.py").write_text("KIND = 3\n", encoding="utf-8")
    with pytest.raises(RequestError, match="defines no KIND"):
        load_kinds([str(tmp_path / "empty.py")])


def test_a_kind_that_makes_labels_it_does_not_name_is_refused(bells: Kind) -> None:
    with pytest.raises(ValueError, match="labelled dong"):
        write_script(replace(bells, labels=("ding",)), 3, attributes={"sequence": "ding dong"})
    with pytest.raises(ValueError, match="at least one label"):
        replace(bells, labels=())


def test_an_installed_kind_is_found_by_its_name(bells_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metadata = bells_file.parent / "bells-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: bells\nVersion: 1\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text("[mova.scenes]\nbells = bells:KIND\n", encoding="utf-8")
    monkeypatch.syspath_prepend(bells_file.parent)
    known_kinds.cache_clear()
    try:
        assert write_script("bells", 3).caption and kind_of("two bells are struck") == "bells"
    finally:
        known_kinds.cache_clear()
