"""Tables of a run: each number beside its chance, the codecs and the bridge off, over all kinds and kind by kind."""

from __future__ import annotations

import math
from typing import Any

import pytest

from mova.lab.suite.measures import MEASURES
from mova.lab.suite.results import BRIDGE_OFF
from mova.lab.suite.tables import kind_table, number_table, pair_table, tracks_of
from mova.lab.sync.scores import NAMES


def numbers(value: float, *, asked: tuple[str, ...] = ("colour",)) -> dict[str, Any]:
    """Numbers of a set of clips, all of one value."""
    found = {"value": value, "interval": [value - 0.1, value + 0.1], "chance": value / 2.0, "floor": 0.03}
    scores = {one.name: {**found, "unit": NAMES.get(one.name, "")} for one in MEASURES if one.of is None}
    means = {name: {**found, "num_clips": 7} for name in asked}
    return {"num_clips": 20, "numbers": {**scores, **means, "whole": {**found, "chance": math.nan, "num_clips": 20}}}


def results(*, has_bridge_off: bool) -> dict[str, Any]:
    tracks = {"text": numbers(0.8, asked=("colour", "count_seen"))}
    if has_bridge_off:
        tracks["text" + BRIDGE_OFF] = numbers(0.2)
    everything = [*tracks.values(), codec := numbers(1.0)]
    for one in everything:
        one["by_kind"] = {"ball": {**one}, "siren": {**one, "numbers": {**one["numbers"], "colour": None}}}
    return {"tracks": tracks, "codec": codec}


def cells(document: dict[str, Any]) -> dict[str, dict[str, str]]:
    (track,) = tracks_of(document)
    table = number_table(track)
    assert all(len(row) == len(table.header) for row in table.rows)
    return {row[0]: dict(zip(table.header, row, strict=True)) for row in table.rows}


def test_a_number_stands_beside_its_chance_the_codecs_and_the_bridge_off() -> None:
    found = cells(results(has_bridge_off=True))
    assert found["f1_80"] == {
        "score": "f1_80", "value": "0.800", "95 %": "0.700 to 0.900", "chance": "0.400", "codec": "1.000",
        "bridge off": "0.200", "floor": "0.030", "clips": "20",
    }  # fmt: skip
    assert found["median_abs_ms"]["value"] == "0.8" and found["offset_ms"]["value"] == "+0.8"
    assert found["colour"]["clips"] == "7" and found["colour"]["floor"] == "0.030"
    assert found["count_seen"]["codec"] == "-"  # nobody asked it of those clips
    assert found["drift_ms_per_s"]["floor"] == "0.0"
    whole = found["whole"]
    assert (whole["value"], whole["95 %"], whole["chance"], whole["codec"]) == ("0.800", "0.700 to 0.900", "-", "1.000")


def test_without_a_run_with_the_bridge_off_there_is_no_such_column() -> None:
    assert "bridge off" not in cells(results(has_bridge_off=False))["f1_45"]


@pytest.mark.parametrize(("has_bridge_off", "lines"), [(True, ["text", "chance", "codec", "bridge off"]), (False, 3)])
def test_by_kind_every_line_is_of_one_kind(has_bridge_off: bool, lines: list[str] | int) -> None:
    (track,) = tracks_of(results(has_bridge_off=has_bridge_off))
    table = kind_table(track)
    rows = [dict(zip(table.header, row, strict=True)) for row in table.rows]
    assert [row["kind"] for row in rows if row["kind"]] == ["ball", "siren"]
    per_kind = [row[""] for row in rows[: len(rows) // 2]]
    assert per_kind == lines if isinstance(lines, list) else len(per_kind) == lines
    first, chance = rows[:2]
    assert (first["abs ms"], first["F1@80"], first["missed"], first["colour"], first["seen"]) == (
        "0.8", "0.80", "0.80", "0.80", "0.80",
    )  # fmt: skip
    assert (chance["F1@80"], chance["colour"], chance["seen"]) == ("0.40", "0.40", "0.40")
    assert not {"rate", "g cv"} & set(table.header)  # of which nothing was measured
    assert rows[len(rows) // 2]["colour"] == "-"


def test_what_has_no_value_is_a_dash_everywhere() -> None:
    document = results(has_bridge_off=False)
    found = document["tracks"]["text"]["numbers"]["f1_corrected"]
    found |= {"value": math.nan, "interval": [math.nan, math.nan], "chance": None}
    row = cells(document)["f1_corrected"]
    assert [row[name] for name in ("value", "95 %", "chance")] == ["-", "-", "-"]


def test_every_measure_has_a_place_and_pairs_have_their_own_table() -> None:
    document = results(has_bridge_off=False)
    every = tuple(one.name for one in MEASURES if one.of is not None)
    document["tracks"]["text"]["numbers"] |= numbers(0.5, asked=every)["numbers"]
    assert list(cells(document)) == [one.name for one in MEASURES]
    one = {"value": 0.75, "interval": [0.5, 0.9], "chance": 0.5, "codec": 1.0, "floor": 0.08, "num_pairs": 12}
    table = pair_table({"counterfactual": {"metal_decay_s": one}})
    assert table.rows == [("metal_decay_s", "0.750", "0.500 to 0.900", "0.500", "1.000", "0.080", "12")]
