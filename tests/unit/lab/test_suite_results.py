"""What a run says, and what two runs say of each other."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm
from typer.testing import CliRunner

from mova.cli.app import app
from mova.errors import MediaError, RequestError
from mova.lab.documents import plain, write_json
from mova.lab.suite.compare import compare_results, holm, p_of_change
from mova.lab.suite.results import (
    METRICS_VERSION,
    Headline,
    Row,
    fall_from,
    headline_of,
    model_results,
    read_results,
)

TORN = '{"metrics_version": 1, "suite": "x", "clips": [{"key": "a", "values": {}, "video_s": ["<"]}]}'
FLOORS = {
    "all": {"offset_ms": 5.0, "f1_corrected": 0.02, "median_abs_ms": 5.0, "colour": 0.1, "whole": 0.05},
    "ball": {"colour": 0.3},
}


def rows(*, late_s: float = 0.0, colour: float = 1.0, count: int = 12, jitter_s: float = 0.002) -> list[Row]:
    """Clips of two kinds with three irregular events each, heard late."""
    found = []
    for index in range(count):
        rng = np.random.default_rng(index)
        seen = np.sort(rng.uniform(0.2, 3.8, size=3))
        heard = seen + late_s + jitter_s * rng.standard_normal(3)
        kind = ("ball", "drums")[index % 2]
        found.append(
            {
                "key": f"text/{kind}/{index}",
                "track": "text",
                "kind": kind,
                "prompt": "a ball",
                "file": None,
                "seconds": 4.0,
                "video_s": seen.tolist(),
                "audio_s": heard.tolist(),
                "lag_s": 0.0,
                "num_expected": 3,
                "values": {
                    "colour": colour,
                    "count_seen": 1.0,
                    "whole": 1.0,
                    **({"g_cv": 0.02, "restitution_difference": 0.01} if kind == "ball" else {}),
                },
                "chance": {"colour": 0.25 * (index % 2), "rate": 1.0, "restitution_difference": 0.2},
                "faults": [],
                "seconds_taken": 0.5,
            }
        )
    return found


def results(**options: Any) -> dict[str, Any]:
    made, truths = rows(**options), rows(count=options.get("count", 12))
    document: dict[str, Any] = plain(model_results({"suite": "clapper", "model": "tiny"}, made, truths, floors=FLOORS))
    return document


@pytest.fixture(scope="module")
def good() -> dict[str, Any]:
    return results()


@pytest.fixture(scope="module")
def late() -> dict[str, Any]:
    return results(late_s=0.3, colour=0.0)


def test_clips_in_step_score_1_and_shuffled_ones_near_0(good: dict[str, Any]) -> None:
    headline = good["headline"]
    assert headline["value"] == pytest.approx(1.0) and headline["track"] == "text"
    assert abs(headline["chance"]) < 0.1 and headline["floor"] == 0.02
    colour = {"value": 1.0, "interval": [1.0, 1.0], "num_clips": 12, "chance": 0.125, "floor": 0.1}
    assert good["tracks"]["text"]["numbers"]["colour"] == colour
    by_kind = good["tracks"]["text"]["by_kind"]
    assert {kind: found["numbers"]["colour"]["chance"] for kind, found in by_kind.items()} == {"ball": 0.0, "drums": 0.25}
    assert {found["numbers"]["f1_80"]["value"] for found in by_kind.values()} == {1.0}
    assert {kind: found["numbers"]["colour"]["floor"] for kind, found in by_kind.items()} == {"ball": 0.3, "drums": None}


def test_the_share_of_whole_clips_has_an_interval_and_a_floor() -> None:
    made = [{**row, "values": {**row["values"], "whole": float(index > 2)}} for index, row in enumerate(rows())]
    whole = model_results({"suite": "clapper"}, made, rows(), floors=FLOORS)["tracks"]["text"]["numbers"]["whole"]
    assert whole["value"] == 0.75 and whole["floor"] == 0.05 and math.isnan(whole["chance"])
    assert 0.4 < whole["interval"][0] < 0.75 < whole["interval"][1] <= 1.0


def test_what_is_missed_or_extra_is_what_precision_and_recall_leave(late: dict[str, Any]) -> None:
    scores = late["tracks"]["text"]["numbers"]
    for rest, share in (("missed_80", "recall_80"), ("extra_80", "precision_80")):
        assert scores[rest]["value"] == pytest.approx(1.0 - scores[share]["value"])
        assert scores[rest]["interval"] == pytest.approx([1.0 - bound for bound in scores[share]["interval"][::-1]])
        assert scores[rest]["interval"][0] <= scores[rest]["value"] <= scores[rest]["interval"][1]
        assert scores[rest]["chance"] == pytest.approx(1.0 - scores[share]["chance"])


def test_a_single_clip_has_no_chance_and_so_no_headline() -> None:
    assert results(count=1)["headline"]["value"] is None


def test_of_pairs_every_number_is_the_share_that_moves_the_right_way(good: dict[str, Any]) -> None:
    pairs: list[Row] = [
        {"key": f"counterfactual/ball/{index}", "track": "counterfactual", "kind": "ball", "prompt": "a ball", "file": None,
         "values": {"metal_decay_s": float(index < 6)}, "codec": {"metal_decay_s": 1.0}, "seconds_taken": 0.5}
        for index in range(8)
    ]  # fmt: skip
    document: dict[str, Any] = plain(model_results({"suite": "clapper"}, [*rows(), *pairs], rows(), floors=FLOORS))
    assert set(document["tracks"]) == {"text"} and document["headline"] == good["headline"]
    (found,) = document["counterfactual"].values()
    low, high = found.pop("interval")
    assert found == {"value": 0.75, "chance": 0.5, "codec": 1.0, "floor": 0.125, "num_pairs": 8}
    assert (low, high) == pytest.approx((0.409, 0.929), abs=1e-3)  # Wilson's, 6 of 8
    lines = {(line.track, line.name): line for line in compare_results(document, document).lines}
    assert lines["counterfactual", "metal_decay_s"].num_pairs == 8
    assert lines["counterfactual", "metal_decay_s"].floor == 0.125


def test_holm_corrects_as_its_paper_does() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    corrected = holm([0.5, math.nan, 0.9, 0.001])
    assert corrected[0] == 1.0 and math.isnan(corrected[1]) and corrected[2:] == pytest.approx([1.0, 0.003])


def test_a_p_value_agrees_with_its_interval_and_is_never_surer_than_all_signs() -> None:
    assert p_of_change(1.0, (0.0, 2.0), 100) == pytest.approx(0.05, abs=1e-4)
    assert p_of_change(3.0, (1.0, 5.0), 100) == pytest.approx(2.0 * norm.sf(3.0 / (4.0 / 2.0 / 1.959964)))
    assert p_of_change(1.0, (1.0, 1.0), 8) == 2.0**-7
    assert p_of_change(0.0, (0.0, 0.0), 8) == 1.0
    assert math.isnan(p_of_change(1.0, (0.5, 1.5), 5))


def test_what_changed_is_called_different_and_by_how_much(good: dict[str, Any], late: dict[str, Any]) -> None:
    found = {line.name: line for line in compare_results(good, late).lines}
    assert found["offset_ms"].change == pytest.approx(300.0, abs=2.0)
    assert found["offset_ms"].verdict == found["f1_corrected"].verdict == found["colour"].verdict == "different"
    assert found["colour"].change == -1.0
    assert "count_seen" not in found  # how it was counted is not asked for


def test_a_run_against_itself_is_no_change_and_a_small_one_is_below_the_floor(good: dict[str, Any]) -> None:
    assert {line.verdict for line in compare_results(good, good).lines} <= {"below the floor", "within chance", "not measured"}
    found = {line.name: line for line in compare_results(good, results(late_s=0.003)).lines}
    assert found["offset_ms"].change == pytest.approx(3.0, abs=0.1)
    assert found["offset_ms"].verdict == "below the floor"


def test_of_what_prompts_ask_for_the_coarser_floor_counts_and_a_floor_that_was_not_measured_counts_for_nothing(
    good: dict[str, Any],
) -> None:
    almost = [{**row, "values": {**row["values"], "colour": float(row["key"] != "text/ball/0")}} for row in good["clips"]]
    other = {**good, "clips": almost}
    for floor, verdict in ((0.01, "below the floor"), (None, "within chance")):
        found = {line.name: line for line in compare_results(good, {**other, "floors": {"colour": floor}}).lines}
        assert found["colour"].change == pytest.approx(-1 / 12) and found["colour"].verdict == verdict
    assert math.isnan(found["colour"].floor)


def test_only_clips_that_both_have_are_compared(good: dict[str, Any]) -> None:
    found = compare_results(good, results(count=4))
    assert found.num_pairs == 4 and len(found.only_first) == 8 and found.only_second == ()
    assert {line.name: line.num_pairs for line in found.lines if line.num_pairs != 4} == {
        "g_cv": 2,
        "restitution_difference": 2,  # of the balls alone
    }
    assert "too few clips" in {line.verdict for line in compare_results(good, results(count=4, late_s=0.3)).lines}


def test_results_of_other_versions_suites_or_clips_are_not_compared(good: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=f"different versions of the metrics, {METRICS_VERSION} and 99"):
        compare_results(good, {**good, "metrics_version": 99})
    with pytest.raises(RequestError, match="different suites"):
        compare_results(good, {**good, "suite": "files"})
    with pytest.raises(RequestError, match="share no clip"):
        compare_results(good, {**good, "clips": [{**row, "key": row["key"] + "x"} for row in good["clips"]]})


def test_the_command_compares_and_names_what_only_one_has(tmp_path: Path, good: dict[str, Any], late: dict[str, Any]) -> None:
    write_json(tmp_path / "a.json", good)
    write_json(tmp_path / "b.json", {**late, "clips": late["clips"][1:]})
    paths = [str(tmp_path / name) for name in ("a.json", "b.json")]
    done = CliRunner().invoke(app, ["eval", "compare", *paths])
    assert done.exit_code == 0 and "11 clips in both" in done.output and "1 clip is in" in done.output
    (row,) = [line for line in done.output.splitlines() if "offset_ms" in line]
    assert "300.0" in row and row.endswith("different")
    facts = json.loads(CliRunner().invoke(app, ["eval", "compare", *paths, "--json"]).stdout)
    assert facts["only_first"] == ["text/ball/0"]
    assert {line["verdict"] for line in facts["lines"] if line["name"] == "f1_45"} == {"different"}


def test_a_headline_may_fall_by_what_is_allowed_and_no_more() -> None:
    baseline, now = Headline("text", "f1_corrected", 0.80), Headline("text", "f1_corrected", 0.77)
    assert fall_from(baseline, now, most=0.05)[0] is False
    has_fallen, words = fall_from(baseline, now, most=0.02)
    assert has_fallen and "0.7700" in words and "0.8000" in words and "fell by 0.0300" in words
    assert fall_from(now, baseline, most=0.0)[0] is False
    assert fall_from(baseline, Headline("text", "f1_corrected", math.nan), most=1.0)[0] is True


def test_a_file_that_holds_no_results_is_named(tmp_path: Path, good: dict[str, Any]) -> None:
    write_json(tmp_path / "good.json", good)
    assert headline_of(read_results(tmp_path / "good.json")).value == pytest.approx(1.0)
    for text in ("{", "[]", '{"metrics_version": 1}', '{"metrics_version": 1, "suite": "x", "clips": [3]}', TORN):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(MediaError, match=r"bad\.json holds no results"):
            read_results(tmp_path / "bad.json")
    with pytest.raises(MediaError, match="cannot read"):
        read_results(tmp_path / "none.json")


def test_results_of_another_version_of_the_metrics_are_refused_by_name(tmp_path: Path, good: dict[str, Any]) -> None:
    write_json(tmp_path / "old.json", {**good, "metrics_version": 3})
    with pytest.raises(RequestError, match=rf"old\.json .* version 3 .* has version {METRICS_VERSION}") as caught:
        read_results(tmp_path / "old.json")
    assert "Measure again" in caught.value.hint


def test_a_self_test_of_no_such_family_names_the_nearest() -> None:
    done = CliRunner().invoke(app, ["eval", "self-test", "--family", "flash_beeps"])
    assert isinstance(done.exception, RequestError) and "'flash_beep'" in done.exception.hint
