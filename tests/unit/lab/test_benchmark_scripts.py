"""The scripts that hold the shipped model and its codecs against what they must reach."""

from __future__ import annotations

import importlib.util
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from mova.checkpoints.load import Components
from mova.lab.documents import machine
from mova.lab.suite.clips import through_codecs
from mova.lab.sync.scores import ClipTimes
from mova.pipeline import MOVAPipeline
from mova.scenes.world import render, sample_scripts, write_script
from mova.timeline import Timeline

FOLDER = Path(__file__).parents[3] / "benchmarks"


def script(name: str) -> ModuleType:
    """A script of the folder as a module, under a name that no library has."""
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def video(kind: str, seed: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A rendered video of 33 frames."""
    return render(write_script(kind, seed), width=96, height=96, num_frames=33).frames


def test_prompts_that_training_never_saw_come_first() -> None:
    base_model = script("base_model")
    drawn = list(sample_scripts(base_model.TEST_SEED, 20, ["ball"]))
    known = frozenset(one.caption for one in drawn[:18])
    fresh = [one for one in drawn if one.caption not in known]
    found = base_model.test_scripts("ball", 4, known)
    assert fresh and found == [*fresh, *(one for one in drawn if one.caption in known)][:4]
    assert base_model.test_scripts("ball", 4, frozenset()) == drawn[:4]


def test_every_prompt_of_training_is_known(tmp_path: Path) -> None:
    base_model = script("base_model")
    latents, joint = tmp_path / "latents.yaml", FOLDER.parent / "recipes" / "continue" / "2_joint.yaml"
    latents.write_text("stage: latents\nfolder: runs/base\nseed: 3\nnum_clips: 8\nnum_held_out: 8\n")
    known = base_model.training_captions(latents, joint, 3)
    world, count = base_model.load_recipe(latents).world.world(), base_model.load_recipe(joint).phrasings
    written = {one.caption for one in base_model.scripts_in(3, 0, 8, world)}
    assert written <= known and len(known) <= 8 * count


def test_what_is_reached_is_said_of_every_line() -> None:
    base_model = script("base_model")

    def numbers(**values: float) -> dict[str, Any]:
        found = {name: {"value": value, "interval": [value, value], "chance": 0.1} for name, value in values.items()}
        return {"numbers": found}

    made = numbers(median_abs_ms=11.9, f1_80=0.9, colour=0.92, sequence=0.05)
    tracks = {"text": made, "text-bridge-off": numbers(f1_80=0.29, median_abs_ms=90.0)}
    lines = base_model.acceptance({"tracks": tracks, "codec": numbers(f1_80=0.99, colour=1.0)})
    assert [line["met"] for line in lines] == ["goal", "floor", "no", "reported"]
    table = base_model.markdown(lines).splitlines()
    assert table[2].endswith(", ms | 11.9 | 11.9 to 11.9 | 0.1 | - | 90.0 | 25.0 | 12.0 | goal |")
    assert table[3].endswith("| 0.90 | 0.90 to 0.90 | 0.10 | 0.99 | 0.29 | 0.85 | 0.95 | floor |")


def test_codecs_of_folders_do_what_they_do_inside_a_model(tiny_components: Components, tmp_path: Path) -> None:
    pipeline = MOVAPipeline.from_components(tiny_components)
    pipeline.video_vae.save_pretrained(tmp_path / "video")
    pipeline.audio_vae.save_pretrained(tmp_path / "audio")
    truth = render(write_script("ball", 3, seconds=1.0625), width=32, height=32, num_frames=17)
    timeline = Timeline(truth.fps, truth.sample_rate, 4, 500)
    codecs = script("codecs").load_codecs(tmp_path / "video", tmp_path / "audio")
    own, inside = (through_codecs(one, timeline, truth) for one in (codecs, pipeline.codecs))
    assert np.array_equal(own.frames, inside.frames) and np.array_equal(own.waveform, inside.waveform)


def test_the_machine_is_named() -> None:
    found = machine()
    assert found["cpu"] and found["cores"] >= 1 and len(found["load"]) == 3 and found["torch"]


def test_a_ball_that_jumps_or_is_gone_after_a_border_does_not_go_on() -> None:
    measures, truth = script("directions_measures"), video("ball", 1)
    jumped = np.concatenate([truth[:17], truth[21:], truth[-4:]])
    gone = truth.copy()
    gone[17:] = gone[17:, :, :1]  # the left edge of the picture over all of it
    assert measures.position_continuity(truth, (16,), truth)["position continues"]
    assert not measures.position_continuity(jumped, (16,), truth)["position continues"]
    assert not measures.position_continuity(gone, (16,), truth)["position continues"]
    assert measures.continuity(truth, (16,), truth) == {"continuous": True, "truth continuous": True}
    assert not measures.continuity(jumped, (16,), truth)["continuous"]


def test_a_ball_that_fades_within_a_latent_is_not_there_still() -> None:
    measures, truth = script("directions_measures"), video("ball", 1)
    faded = truth.copy()
    faded[3:5] = faded[3:5, :, :1]
    assert measures.still_there(truth, truth, num_frames=4) == {"still there": True, "truth still there": True}
    assert measures.still_there(faded, truth, num_frames=4) == {"still there": False, "truth still there": True}
    assert measures.holds(faded, truth)  # the next frame alone does not show it


def test_events_of_a_span_are_judged_with_those_that_they_are_paired_with() -> None:
    measures = script("directions_measures")
    whole = ClipTimes("storm", (0.3, 0.79, 1.2, 1.7), (0.4, 0.92, 1.5, 1.85), lag_s=0.1)
    inside = measures.events_in(whole, (0.8, 1.6))
    assert inside.video_s == (0.79, 1.2) and inside.audio_s == (0.92, 1.5)
    late = measures.events_in(ClipTimes("ball", (0.79,), (0.81,)), (0.8, 1.6))
    assert late.video_s == (0.79,) and late.audio_s == (0.81,)


def test_a_line_says_how_many_clips_it_is_of_and_what_it_is_held_against() -> None:
    lines = script("directions_table")
    text = {"clips": 72, "F1@45": 0.9}
    readings = [{"continuous": True, "truth continuous": True}, {"position continues": False, "truth position continues": True}]
    results = {"text": text, "reroll": {**text, "F1@45": 0.86}, "extend": lines.summary([*readings, *readings, readings[0]])}
    found = lines.table(results)
    assert [(row["task"], row["clips"], row["met"]) for row in found] == [
        ("reroll", 72, True), ("extend", 3, True), ("extend", 2, False)
    ]  # fmt: skip
    assert found[0]["floor"] == pytest.approx(0.85) and lines.table({"reroll": text}) == []
    assert lines.markdown(found).splitlines()[2] == (
        "| reroll | event F1 at 45 ms, within 5 points of text | 72 | >= 0.85 | 0.86 | yes |"
    )


TREE = {
    "mova/__init__.py": "",
    "mova/cli/__init__.py": "",
    "mova/cli/app.py": """
        import sys
        from functools import cached_property
        import mova.models.tower, mova.unused
        from mova.clock import Clock

        def main():
            print(Clock().rate, sys.argv)
            for _ in range(2):
                mova.models.tower.forward(2)
            sys.exit(0)
        """,
    "mova/clock.py": """
        class Clock:
            @property
            def rate(self):
                return [(lambda one: one)(one) for one in range(3)]

            def never(self):
                pass
        """,
    "mova/models/__init__.py": "",
    "mova/models/tower.py": """
        def forward(deep):
            def inside():
                return forward(deep - 1)
            return inside() if deep else None
        """,
    "mova/unused.py": "import mova.clock, mova.models.tower\nimport mova.cli.app\n",
}


def write(file: Path, text: str) -> None:
    """Write a file, and the folders that it is in."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@pytest.fixture
def small_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small package with a command line, which child processes find before the real one."""
    for name, text in TREE.items():
        write(tmp_path / "src" / name, textwrap.dedent(text).lstrip())
    contract = 'type = "layers"\nlayers = ["mova.cli", "mova.models | mova.unused"]\n'
    write(tmp_path / "pyproject.toml", f"[[tool.importlinter.contracts]]\n{contract}")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "src"))
    return tmp_path / "src" / "mova"


def test_a_trace_holds_each_function_once_and_no_lambda_or_class_body(small_tree: Path) -> None:
    structure = script("structure")
    traced = structure.trace(["generate", "x"])
    assert structure.listing(traced).splitlines() == [
        "cli/app.py:6       main",
        "clock.py:2          Clock.rate",
        "models/tower.py:1   forward",
        "models/tower.py:2    forward.<locals>.inside",
        "4 functions in 3 files, call depth 6",
    ]


def test_lines_layers_and_loose_modules_are_counted_in_any_layout(small_tree: Path) -> None:
    structure = script("structure")
    assert structure.layer_rows(small_tree) == [
        structure.Row("rows of the import contract", 2, 9), structure.Row("loose modules", 2, 8)
    ]  # fmt: skip
    total, lab, heart = structure.line_rows(small_tree)
    num_lines = {name: len(text.strip().splitlines()) for name, text in TREE.items()}
    assert total.value == sum(num_lines.values()) and lab.value == 0.0
    assert heart.value == pytest.approx(100 * num_lines["mova/models/tower.py"] / total.value)


def test_modules_that_import_each_other_are_a_cycle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {"__init__": "", "left": "from roundabout import right", "right": "import roundabout.left"}.items():
        write(tmp_path / "roundabout" / f"{name}.py", text)
    write(tmp_path / "roundabout" / "inner" / "__init__.py", "def late():\n    from roundabout.inner import leaf\n")
    write(tmp_path / "roundabout" / "inner" / "leaf.py", "import roundabout.left\n")
    monkeypatch.syspath_prepend(tmp_path)
    rows = {row.what: row.value for row in script("structure").import_rows("roundabout")}
    assert rows == {
        "modules": 5,
        "arrows between top-level packages": 3,  # left -> right, right -> left, inner -> left
        "import cycles between modules": 1,
        "modules in cycles": 2,
    }


def test_a_row_says_whether_its_limit_is_met() -> None:
    row = script("structure").Row
    assert [row("share", value, 27, " %").is_met for value in (27.0, 27.1)] == [True, False]
    assert row("files", 1_234).is_met is None and row("files", 1_234).text(1_234) == "1,234"


def test_a_codec_that_changes_nothing_has_the_best_numbers_and_noise_lowers_them() -> None:
    codecs, played = script("codecs"), write_script("piano", 7)
    truth = render(played).clip()
    noisy = np.clip(truth.frames + np.random.default_rng(0).normal(0, 8, truth.frames.shape), 0, 255).astype(np.uint8)
    best = codecs.summarise_codec([codecs.compare(played, truth, truth)])
    worse = codecs.summarise_codec([codecs.compare(played, truth, replace(truth, frames=noisy))])
    assert best.psnr_db > 50.0 > worse.psnr_db > 25.0
    assert (best.heard, best.seen, best.names_right, best.heard_extra) == (1.0, 1.0, 1.0, 0.0)
    assert best.onset_error_ms < 0.5


def test_the_summary_of_sync_counts_the_values_that_are_sure_and_those_of_them_that_are_wrong() -> None:
    rows = [
        {"offset_ms": 10.0, "value_ms": value, "is_sure": is_sure}
        for value, is_sure in [(12.0, True), (80.0, True), (-60.0, False), (None, False), (10.0, False)]
    ]
    counted = script("sync_any").summary(rows)
    assert (counted["videos"], counted["with_a_value"], counted["wrong"]) == (5, 0.8, 2)
    assert (counted["sure"], counted["sure_and_wrong"]) == (2, 1)
