"""A measure that no file of the package knows goes from the rows of a run to its tables, its report and its comparisons."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mova.checkpoints.load import Components
from mova.checkpoints.save import save_checkpoint
from mova.lab.documents import plain
from mova.lab.suite.clips import ModelSpec
from mova.lab.suite.compare import compare_results
from mova.lab.suite.measures import Measure, Subject, list_measures, share_floor_of
from mova.lab.suite.report import render_report
from mova.lab.suite.run import measure_model
from mova.lab.suite.tables import kind_table, number_table, tracks_of
from mova.scenes.world import write_script


def brightness(subject: Subject) -> float:
    """Mean of all pixels, of full scale."""
    return float(subject.clip.frames.mean()) / 255.0


BRIGHTNESS = Measure("brightness", brightness, share_floor_of, None, "brightness <of full scale>", heading="bright")


def test_a_measure_of_its_own_is_in_rows_tables_report_and_comparison(tiny_components: Components, tmp_path: Path) -> None:
    capabilities = replace(tiny_components.index.capabilities, default_frames=17, max_tokens=64, kinds=("ball",))
    save_checkpoint(
        tmp_path / "tiny", replace(tiny_components, index=replace(tiny_components.index, capabilities=capabilities))
    )
    (tmp_path / "clips").mkdir()
    scripts = [write_script("ball", seed, seconds=1.0625) for seed in (3, 8)]
    measures = (*list_measures(), BRIGHTNESS)
    maker, rows = ModelSpec(tmp_path / "tiny", 1, "cpu", tmp_path / "clips"), tmp_path / "rows.jsonl"
    document = measure_model(maker, scripts, ("text",), rows, seed=0, measures=measures)

    values = [row["values"]["brightness"] for row in document["clips"]]
    found = document["tracks"]["text"]["numbers"]["brightness"]
    assert found["value"] == pytest.approx(sum(values) / 2) and found["floor"] >= 0.5 and found["num_clips"] == 2
    (track,) = tracks_of(plain(document))
    assert "brightness" in [row[0] for row in number_table(track, measures).rows]
    assert "bright" in kind_table(track, measures).header
    page = render_report(plain(document), tmp_path, measures)
    assert "brightness &lt;of full scale&gt; <code>brightness</code>" in page
    assert [line.change for line in compare_results(document, document, measures).lines if line.name == "brightness"] == [0.0]
